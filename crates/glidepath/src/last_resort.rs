//! The thread that ends the process when even the signal thread is stuck: in a log that nobody reads, or in a callback of
//! the program. It takes no lock, allocates nothing and writes nothing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::os;
use crate::plan::{LAST_RESORT_MARGIN, PROCESS_MARGIN};

/// How often who is about to end the process looks whether it runs.
const LOOK: Duration = Duration::from_millis(50);

/// In place of a time.
const NEVER: u64 = u64::MAX;

/// Looks that show that it did.
const ENOUGH: u32 = 2;

/// Whether the process was running before the moment at which it is to be ended.
///
/// One that was stopped (SIGSTOP), frozen or asleep until then is given the time anew, once: those who end it in order get
/// their turn first (SIG-8). How late a thread wakes does not tell: on a busy machine all of them do.
#[derive(Debug)]
pub(crate) struct Vigil {
    /// The time that they have.
    within: Duration,
    looks: u32,
    looked: Option<Instant>,
    anew: Option<Instant>,
}

impl Vigil {
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, looks: 0, looked: None, anew: None }
    }

    /// When to look again; `None` when the process is to be ended, which was to be `at`.
    pub(crate) fn look(&mut self, at: Instant, now: Instant) -> Option<Instant> {
        let at = self.anew.unwrap_or(at);
        let left = at.saturating_duration_since(now);
        if left > self.within {
            return Some(now + (left - self.within));
        }
        if !left.is_zero() {
            // Others may wake it in between.
            if self.looked.is_none_or(|looked| now >= looked + LOOK / 2) {
                self.looked = Some(now);
                self.looks += 1;
            }
            return Some(now + left.min(LOOK));
        }
        if self.looks >= ENOUGH || self.anew.is_some() {
            return None;
        }
        self.anew = Some(now + self.within);
        self.anew
    }
}

/// When the process is ended at the latest, and with which code. Does nothing until it is set.
#[derive(Debug, Default)]
pub(crate) struct LastResort {
    limit: Arc<Limit>,
    thread: OnceLock<Option<Thread>>,
}

#[derive(Debug, Default)]
struct Limit {
    base: OnceLock<Instant>,
    /// Microseconds since `base`; [`NEVER`] while there is no limit.
    at: AtomicU64,
    code: AtomicU8,
}

impl LastResort {
    /// Sets the limit, or moves it.
    pub(crate) fn set(&self, at: Instant, code: u8) {
        let base = *self.limit.base.get_or_init(Instant::now);
        let micros = u64::try_from(at.saturating_duration_since(base).as_micros()).unwrap_or(NEVER);
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

    /// Takes the limit away, until another one is set.
    #[cfg(unix)]
    pub(crate) fn clear(&self) {
        self.limit.at.store(NEVER, Ordering::Release);
    }
}

impl Limit {
    fn wait(&self, base: Instant) -> ! {
        let mut vigil = Vigil::new(PROCESS_MARGIN + LAST_RESORT_MARGIN);
        loop {
            let now = Instant::now();
            let at = self.at.load(Ordering::Acquire);
            if at == NEVER {
                vigil = Vigil::new(PROCESS_MARGIN + LAST_RESORT_MARGIN);
                std::thread::park();
                continue;
            }
            match vigil.look(base + Duration::from_micros(at), now) {
                Some(at) => std::thread::park_timeout(at.saturating_duration_since(now)),
                None => os::exit_now(self.code.load(Ordering::Acquire).into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(350);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Looks as asked until `stopped`, from then on not before `continued`, and each time as `late`. When it ends the process.
    fn ends(at: Duration, stopped: Duration, continued: Duration, late: Duration) -> Duration {
        let start = Instant::now();
        let mut vigil = Vigil::new(WITHIN);
        let mut now = start;
        while let Some(next) = vigil.look(start + at, now) {
            assert!(next > now, "it does not spin");
            now = next + late;
            if (stopped..continued).contains(&(now - start)) {
                now = start + continued;
            }
        }
        now - start
    }

    #[test]
    fn sig_8_a_process_that_was_not_running_has_its_time_anew() {
        let never = Duration::ZERO;
        assert_eq!(ends(ms(2350), never, never, never), ms(2350), "the control");
        for continued in [2300, 2349, 2350, 2351, 5000] {
            assert_eq!(
                ends(ms(2350), ms(1000), ms(continued), never),
                ms(continued).max(ms(2350)) + WITHIN,
                "{continued}"
            );
        }
        assert_eq!(ends(ms(2350), ms(1000), ms(2200), never), ms(2350), "it had time after that");
        assert_eq!(ends(ms(2350), ms(2200), ms(5000), never), ms(5000), "it had time before that");
    }

    #[test]
    fn end_1_who_wakes_late_on_a_busy_machine_ends_the_process_all_the_same() {
        for late in [10, 60, 100] {
            let ended = ends(ms(1350), Duration::ZERO, Duration::ZERO, ms(late));
            assert!((ms(1350)..=ms(1350 + late)).contains(&ended), "{late} ms late: {ended:?}");
        }
    }

    #[test]
    fn looks_that_others_cause_do_not_count() {
        let start = Instant::now();
        let mut vigil = Vigil::new(WITHIN);
        for _ in 0..10 {
            assert_eq!(vigil.look(start + ms(300), start), Some(start + LOOK));
        }
        assert_eq!(vigil.look(start + ms(300), start + ms(300)), Some(start + ms(650)));
    }
}
