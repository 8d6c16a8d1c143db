//! What every check stands on: a process under test, raw clients, and waits that end.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod sockets;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod websocket;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) use http1::{Client, End, fetch};
pub(crate) use process::{Exit, PROBE, Process, Start, runs, skipped};

/// No wait in these checks is longer than this, unless it says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The library's default quiet window.
pub(crate) const QUIET: Duration = Duration::from_millis(500);

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Tells the other clients of a test that it is over, also when it fails meanwhile: a scope waits for all its threads.
pub(crate) struct TellsOver<'a>(pub(crate) &'a AtomicBool);

impl Drop for TellsOver<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks again and again until it is so; panics with `what` when it never is.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        let waited = start.elapsed();
        assert!(waited < PATIENCE, "waited {waited:?}, and still not so: {what}");
        sleep(ms(1));
    }
    start.elapsed()
}

/// A folder of the test's own.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("glidepath-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("room for a folder");
        Self { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.path);
    }
}
