//! The one place that asks the clock and sleeps. Other processes are judged here, in wall time: nothing can be paused.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "other processes are measured, and their time can't be paused")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "every script has a thread of its own, and no runtime")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// How long some task or other has waited for a processor so far, since the machine is up. None where the kernel does not tell.
pub(crate) fn waited_for_processors() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = text.lines().next()?.strip_prefix("some ")?.split(' ').find_map(|part| part.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// Looks again and again until it is so. False when it was not, in all that time.
pub(crate) fn wait_until(bound: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = now() + bound;
    loop {
        if is_so() {
            return true;
        }
        if now() >= end {
            return false;
        }
        pause(ms(2));
    }
}
