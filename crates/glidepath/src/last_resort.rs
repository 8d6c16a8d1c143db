//! The thread that ends the process when even the signal thread is stuck: in a log that nobody reads, or in a callback of
//! the program. It takes no lock, allocates nothing and writes nothing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::os;
use crate::plan::{LAST_RESORT_MARGIN, OVERSLEPT, PROCESS_MARGIN};

/// When the process is ended at the latest, and with which code. Does nothing until it is set.
#[derive(Debug, Default)]
pub(crate) struct LastResort {
    limit: Arc<Limit>,
    thread: OnceLock<Option<Thread>>,
}

#[derive(Debug, Default)]
struct Limit {
    base: OnceLock<Instant>,
    /// Microseconds since `base`.
    at: AtomicU64,
    code: AtomicU8,
}

impl LastResort {
    /// Sets the limit, or moves it.
    pub(crate) fn set(&self, at: Instant, code: u8) {
        let base = *self.limit.base.get_or_init(Instant::now);
        let micros = u64::try_from(at.saturating_duration_since(base).as_micros()).unwrap_or(u64::MAX);
        self.limit.code.store(code, Ordering::Release);
        self.limit.at.store(micros, Ordering::Release);
        let start = || {
            let limit = Arc::clone(&self.limit);
            let thread = std::thread::Builder::new().name("glidepath-last".into()).spawn(move || limit.wait(base));
            thread.inspect_err(|error| tracing::warn!(%error, "no thread for the last resort")).ok()
        };
        if let Some(thread) = self.thread.get_or_init(|| start().map(|handle| handle.thread().clone())) {
            thread.unpark();
        }
    }
}

impl Limit {
    fn wait(&self, base: Instant) -> ! {
        let mut second_chance = None;
        loop {
            let at = second_chance.unwrap_or(base + Duration::from_micros(self.at.load(Ordering::Acquire)));
            let now = Instant::now();
            if now < at {
                std::thread::park_timeout(at - now);
            } else if now >= at + OVERSLEPT && second_chance.is_none() {
                // The process was stopped past its deadline: those who end it in order get their turn first.
                second_chance = Some(now + PROCESS_MARGIN + LAST_RESORT_MARGIN);
            } else {
                os::exit_now(self.code.load(Ordering::Acquire).into());
            }
        }
    }
}
