//! Looks for what holds a process and shows in no count: a runtime that does not run, a `main` that does not return.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Shared;
use crate::phase::Phase;
use crate::report::Seconds;
use crate::sync::atomic::{AtomicBool, Ordering};

/// When the runtime has not run a task for so long, a person is told.
const SILENT: Duration = Duration::from_secs(1);

/// So long after the end of all work a process that is still there says why.
const LINGERS: Duration = Duration::from_secs(1);

/// Looks whether the runtime runs tasks: it is given one, and another when that has run.
#[derive(Default)]
pub(super) struct Pulse {
    awaited: Option<(Instant, Arc<AtomicBool>)>,
}

impl Pulse {
    /// For how long it has not, if that is worth a word.
    pub(super) fn missed_for(&mut self, runtime: &Handle) -> Option<Duration> {
        let now = Instant::now();
        match &self.awaited {
            Some((since, beat)) if !beat.load(Ordering::Relaxed) => {
                Some(now - *since).filter(|missed| *missed >= SILENT)
            }
            _ => {
                let beat = Arc::new(AtomicBool::new(false));
                self.awaited = Some((now, Arc::clone(&beat)));
                #[expect(clippy::disallowed_methods, reason = "it is nothing that an end would wait for")]
                runtime.spawn(async move { beat.store(true, Ordering::Relaxed) });
                None
            }
        }
    }
}

/// A process that is still there after its end: nobody would see why.
#[derive(Debug, Default)]
pub(super) struct Lingers {
    since: Option<Instant>,
    said: bool,
}

impl Lingers {
    pub(super) fn says_at(&self) -> Option<Instant> {
        self.since.filter(|_| !self.said).map(|since| since + LINGERS)
    }

    pub(super) fn look(&mut self, shared: &Shared, now: Instant) {
        if shared.phase() == Phase::Ended {
            self.since.get_or_insert(now);
        }
        if self.says_at().is_none_or(|at| now < at) {
            return;
        }
        self.said = true;
        let left = shared.process_ends_at().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        tracing::warn!(
            "all work has ended and the process has not: `main` has not returned, or the runtime waits for a blocking call; \
             it is ended in {}, by SIGQUIT at once",
            Seconds(left)
        );
    }
}
