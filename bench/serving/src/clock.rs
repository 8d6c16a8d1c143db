//! Time on the wall: real servers take real time, and nothing here runs on a runtime whose time is paused.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "real servers take real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn since(then: Instant) -> Duration {
    now().duration_since(then)
}

#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do, and no runtime's worker is blocked")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
