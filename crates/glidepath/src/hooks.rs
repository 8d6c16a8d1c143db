//! What runs last: closing databases, flushing logs.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::report::{self, Kind, Running};
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The closing hooks, in the order of their registration.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    waiting: Vec<(Cow<'static, str>, Work)>,
    running: Option<(Cow<'static, str>, Instant)>,
    count: report::Hooks,
    aborted: Vec<Running>,
    panicked: Vec<String>,
}

impl Hooks {
    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(crate) fn add(&self, name: Cow<'static, str>, work: impl Future<Output = ()> + Send + 'static) {
        let mut book = self.book();
        book.count.registered += 1;
        book.waiting.push((name, Box::pin(work)));
    }

    /// How many have not ended yet.
    pub(crate) fn left(&self) -> usize {
        let book = self.book();
        book.waiting.len() + usize::from(book.running.is_some())
    }

    /// Runs all, the last registered first. Each may use an equal share of the time that is left, so that one that
    /// hangs does not take the time of the next: databases, registered first, close last.
    pub(crate) async fn run(self, until: Instant) {
        while let Some((share, name, work)) = self.next(until) {
            // A task of its own: a hook that panics or blocks its thread is the driver's business, not its fate.
            // Aborted where nobody waits for it any more.
            let mut task = JoinSet::new();
            task.spawn(work);
            let ended = timeout_at(share, task.join_next()).await;
            let mut book = self.book();
            if book.running.is_none() {
                // Aborted and counted meanwhile, with all that would follow.
                return;
            }
            match ended {
                Ok(Some(Ok(()))) => book.count.finished += 1,
                Ok(Some(Err(error))) if error.is_panic() => {
                    book.count.panicked += 1;
                    book.panicked.push(format!("hook \"{name}\""));
                }
                Ok(Some(Err(_)) | None) | Err(_) => book.abort_running(),
            }
            book.running = None;
        }
    }

    fn next(&self, until: Instant) -> Option<(Instant, Cow<'static, str>, Work)> {
        let mut book = self.book();
        let (name, work) = book.waiting.pop()?;
        let now = Instant::now();
        let sharers = u32::try_from(book.waiting.len() + 1).unwrap_or(u32::MAX);
        let share = now + until.saturating_duration_since(now) / sharers;
        book.running = Some((name.clone(), now));
        Some((share, name, work))
    }

    /// Names what is running and what never began.
    ///
    /// Gives the latter back: dropping it runs code of the program, which may use the lifecycle, so no lock may be held.
    #[must_use = "drop it when no lock is held"]
    pub(crate) fn abort(&self) -> Vec<Work> {
        let mut book = self.book();
        book.abort_running();
        let mut never_began = Vec::new();
        while let Some((name, work)) = book.waiting.pop() {
            never_began.push(work);
            book.running = Some((name, Instant::now()));
            book.abort_running();
        }
        never_began
    }

    pub(crate) fn list(&self) -> Vec<Running> {
        self.book().running().into_iter().collect()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn counts(&self) -> report::Hooks {
        self.book().count
    }

    /// Those that have not begun, in the order in which they will.
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.book().waiting.iter().rev().map(|(name, _)| name.clone().into_owned()).collect()
    }

    /// The counts, what was aborted, and who panicked.
    pub(crate) fn account(&self) -> (report::Hooks, Vec<Running>, Vec<String>) {
        let book = self.book();
        (book.count, book.aborted.clone(), book.panicked.clone())
    }
}

impl Book {
    fn running(&self) -> Option<Running> {
        let (name, since) = self.running.as_ref()?;
        Some(Running::new(Kind::Hook, format!("\"{name}\""), since.elapsed()))
    }

    fn abort_running(&mut self) {
        if let Some(running) = self.running() {
            self.running = None;
            self.count.aborted += 1;
            self.aborted.push(running);
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("left", &self.left()).finish()
    }
}
