//! Whether the service may be sent traffic: the program's own say, through latches.

use std::borrow::Cow;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::Notify;

use crate::sync::{Mutex, lock};

/// Holds readiness back until the program is warm. Cheap to clone; all clones are the same.
///
/// A service is ready when every [`Latch`] was released, and until it is asked to stop; the second is for ever.
/// [`Server::admin`](crate::Server::admin) serves it as `/readyz`.
///
/// ```
/// let lifecycle = glidepath::Lifecycle::without_signals();
/// let readiness = lifecycle.readiness();
/// let cache = readiness.latch("cache");
/// assert!(!readiness.is_ready());
/// cache.release();
/// assert!(readiness.is_ready());
/// lifecycle.handle().begin();
/// assert!(!readiness.is_ready());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    stopping: bool,
    held: Slab<Cow<'static, str>>,
    /// Who waits for the last latch.
    changed: Arc<Notify>,
}

/// Holds readiness back until it is released or dropped: an initialization that fails on its way holds back nothing.
#[derive(Debug)]
#[must_use = "dropping it releases it"]
pub struct Latch {
    book: Arc<Mutex<Book>>,
    key: usize,
}

impl Readiness {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self { book: Arc::new(Mutex::new(Book { changed, ..Book::default() })) }
    }

    /// Holds readiness back from now on. `/readyz` says the name of what it waits for.
    ///
    /// Taken before the service serves, it is never ready too early. One that is taken later makes it unready again.
    pub fn latch(&self, name: impl Into<Cow<'static, str>>) -> Latch {
        let key = lock(&self.book).held.insert(name.into());
        Latch { book: Arc::clone(&self.book), key }
    }

    /// True when no latch is held and nobody has asked the service to stop.
    ///
    /// For a readiness probe of the program's own: it need not ask [`Drain`](crate::Drain) as well.
    pub fn is_ready(&self) -> bool {
        let book = lock(&self.book);
        !book.stopping && book.held.is_empty()
    }

    /// The names of what it waits for; `None` once it was asked to stop.
    pub(crate) fn waits_for(&self) -> Option<Vec<Cow<'static, str>>> {
        let book = lock(&self.book);
        (!book.stopping).then(|| book.held.iter().map(|(_, name)| name.clone()).collect())
    }

    pub(crate) fn stop(&self) {
        lock(&self.book).stopping = true;
    }
}

impl Latch {
    /// What it stands for is warm.
    pub fn release(self) {}
}

impl Drop for Latch {
    fn drop(&mut self) {
        let mut book = lock(&self.book);
        book.held.remove(self.key);
        if book.held.is_empty() {
            book.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdy_1_ready_when_every_latch_was_released() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready(), "the control: nothing holds it back");
        let (cache, templates) = (readiness.latch("cache"), readiness.latch("templates"));
        assert_eq!(readiness.waits_for(), Some(vec!["cache".into(), "templates".into()]));
        cache.release();
        assert!(!readiness.is_ready());
        drop(templates);
        assert!(readiness.is_ready());
    }

    #[test]
    fn rdy_1_what_was_asked_to_stop_is_never_ready_again() {
        let readiness = Readiness::default();
        let latch = readiness.latch("cache");
        readiness.clone().stop();
        latch.release();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.waits_for(), None);
    }
}
