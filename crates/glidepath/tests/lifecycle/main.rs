//! One life from beginning to end, on paused time: seconds pass in no time, and exactly.

mod connections;
mod drain;
mod ends;
mod extensions;
mod hooks;
mod metrics;
mod over_tls;
mod probes;
mod requests;
#[cfg(unix)]
mod restarts;
mod tasks;
mod tls;
mod traces;
mod websockets;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use glidepath::{Lifecycle, Phase, Report, Result, Server};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// REQ-9: an end comes within this of the last piece of work.
const AT_ONCE: Duration = Duration::from_millis(5);

/// What a cut may take: final answers, cuts, and counting them.
const CUT: Duration = Duration::from_millis(225);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A life of ten seconds' grace that is being served.
async fn served() -> (Lifecycle, Serving) {
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().grace(secs(10)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    (lifecycle, serving)
}

/// A serve future that runs beside the test.
struct Serving(JoinHandle<Result<Report>>);

impl Serving {
    fn start(server: Server) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the life itself, which no life tracks")]
        let task = tokio::spawn(server.into_future());
        Self(task)
    }

    fn has_returned(&self) -> bool {
        self.0.is_finished()
    }

    async fn report(self) -> Report {
        self.0.await.expect("serve does not panic").expect("serve does not fail")
    }
}

/// Begins the end, and waits for it.
async fn end(lifecycle: &Lifecycle, serving: Serving) -> Report {
    lifecycle.handle().begin();
    serving.report().await
}

/// True from when its guard is dropped, with the future that holds it.
#[derive(Clone, Default)]
struct Dropped(Arc<AtomicBool>);

struct Guard(Dropped);

impl Dropped {
    fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn is_true(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// As `sleep`, but from when it is first polled.
async fn takes(time: Duration) {
    sleep(time).await;
}

async fn forever() {
    pending::<()>().await;
}

async fn panics() {
    panic!("meant to panic");
}

/// The names of what was cut, as the report prints them, without the place of a task.
fn cut(report: &Report) -> Vec<String> {
    let short = |name: &str| name.split(" (").next().unwrap_or_default().to_owned();
    report.cut.iter().map(|running| short(&running.name)).collect()
}

#[track_caller]
fn assert_took(report: &Report, at_least: Duration, and: Duration) {
    let took = report.took;
    assert!((at_least..=at_least + and).contains(&took), "took {took:?}, not {at_least:?}");
}

/// END-4: everything that began is in exactly one of the other counts.
#[track_caller]
fn assert_adds_up(report: &Report) {
    let c = &report.connections;
    assert_eq!(c.accepted, c.finished + c.at_rest + c.upgraded + c.failed + c.cut, "{report}");
    assert_eq!(c.unknown, 0, "{report}");
    let t = &report.tasks;
    assert_eq!(t.started, t.finished + t.panicked + t.aborted, "{report}");
    let h = &report.hooks;
    assert_eq!(h.registered, h.finished + h.panicked + h.aborted, "{report}");
    assert_eq!(t.panicked + h.panicked, report.panicked.len() as u64, "{report}");
    let r = &report.requests;
    assert!(r.started >= r.answered + r.abandoned + r.cut, "{report}");
}

async fn seconds_pass(seconds: u64) {
    sleep(secs(seconds)).await;
}
