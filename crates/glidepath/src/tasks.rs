//! Background work that the end waits for.

use std::borrow::Cow;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use slab::Slab;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::Instant;

use crate::report::{self, Kind, Running};
use crate::sync::{Mutex, MutexGuard, lock};

/// Spawns tasks that the drain waits for, after the requests, and that are aborted and named at the deadline.
///
/// Cheap to clone. A task that panics holds nothing up: it is counted and named in the report.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Book {
    running: Slab<Entry>,
    count: report::Tasks,
    /// Set at the deadline: what is spawned from then on is aborted at once.
    closed: bool,
    aborted: Vec<Running>,
    panicked: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    /// Slab keys are used again; ids are not.
    id: u64,
    name: Cow<'static, str>,
    place: &'static Location<'static>,
    since: Instant,
    abort: Option<AbortHandle>,
}

impl Entry {
    fn running(&self, now: Instant) -> Running {
        let name = format!("\"{}\" ({}:{})", self.name, self.place.file(), self.place.line());
        Running::new(Kind::Task, name, now.saturating_duration_since(self.since))
    }
}

/// A task spawned by [`Tasks`]. Dropping it detaches; the drain waits all the same.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    /// Aborts the task at its next await. A blocking task that has begun cannot be aborted.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Strikes a task off when its future is dropped, whichever way it ended.
struct Struck {
    shared: Arc<Shared>,
    key: usize,
    id: u64,
}

impl Drop for Struck {
    fn drop(&mut self) {
        let mut book = self.shared.book();
        if book.entry(self.key, self.id).is_none() {
            return;
        }
        let entry = book.running.remove(self.key);
        if std::thread::panicking() {
            book.count.panicked += 1;
            book.panicked.push(format!("task \"{}\"", entry.name));
        } else {
            book.count.finished += 1;
        }
        drop(book);
        self.shared.changed.notify_one();
    }
}

impl Book {
    fn entry(&mut self, key: usize, id: u64) -> Option<&mut Entry> {
        self.running.get_mut(key).filter(|entry| entry.id == id)
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl Tasks {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self { shared: Arc::new(Shared { book: Mutex::default(), changed }) }
    }

    /// Spawns `future` on the current tokio runtime, tracked under `name`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let struck = self.enter(name.into(), Location::caller());
        let (key, id) = (struck.key, struck.id);
        #[expect(clippy::disallowed_methods, reason = "this is the tracked helper")]
        let handle = tokio::spawn(async move {
            let _struck = struck;
            future.await
        });
        self.attach(key, id, &handle);
        Task(handle)
    }

    /// Runs `work` on tokio's blocking threads, tracked under `name`.
    ///
    /// It cannot be aborted: at the deadline it is named in the report, and does not keep the process.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[track_caller]
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Task<T> {
        let struck = self.enter(name.into(), Location::caller());
        let (key, id) = (struck.key, struck.id);
        #[expect(clippy::disallowed_methods, reason = "this is the tracked helper")]
        let handle = tokio::task::spawn_blocking(move || {
            let _struck = struck;
            work()
        });
        self.attach(key, id, &handle);
        Task(handle)
    }

    fn enter(&self, name: Cow<'static, str>, place: &'static Location<'static>) -> Struck {
        let mut book = self.shared.book();
        let id = book.count.started;
        book.count.started += 1;
        let entry = Entry { id, name, place, since: Instant::now(), abort: None };
        let key = if book.closed {
            let running = entry.running(entry.since);
            book.count.aborted += 1;
            book.aborted.push(running);
            usize::MAX
        } else {
            book.running.insert(entry)
        };
        Struck { shared: Arc::clone(&self.shared), key, id }
    }

    /// The task may be done before this runs; then there is nothing to attach to.
    fn attach<T>(&self, key: usize, id: u64, handle: &JoinHandle<T>) {
        let mut book = self.shared.book();
        if book.closed {
            drop(book);
            handle.abort();
        } else if let Some(entry) = book.entry(key, id) {
            entry.abort = Some(handle.abort_handle());
        }
    }

    /// How many are running.
    pub(crate) fn running(&self) -> usize {
        self.shared.book().running.len()
    }

    /// The deadline: all are aborted, named and struck off, those too that cannot be aborted.
    pub(crate) fn abort(&self) {
        let now = Instant::now();
        let mut book = self.shared.book();
        book.closed = true;
        let running: Vec<_> = book.running.drain().collect();
        book.count.aborted += running.len() as u64;
        book.aborted.extend(running.iter().map(|entry| entry.running(now)));
        drop(book);
        running.iter().filter_map(|entry| entry.abort.as_ref()).for_each(AbortHandle::abort);
        self.shared.changed.notify_one();
    }

    pub(crate) fn list(&self) -> Vec<Running> {
        let now = Instant::now();
        self.shared.book().running.iter().map(|(_, entry)| entry.running(now)).collect()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn counts(&self) -> report::Tasks {
        self.shared.book().count
    }

    /// The counts, what was aborted, and who panicked.
    pub(crate) fn account(&self) -> (report::Tasks, Vec<Running>, Vec<String>) {
        let book = self.shared.book();
        (book.count, book.aborted.clone(), book.panicked.clone())
    }
}
