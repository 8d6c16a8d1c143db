//! What the public face cannot ask for: ends that only a signal or a broken listener brings.

use super::*;
use crate::lifecycle::Lifecycle;

#[cfg(shuttle)]
mod interleavings;

const TERM: Cause = Cause::Signal(15);

/// A life with a task that never ends, to which something happens.
async fn ends_with(events: &[Event]) -> Report {
    let lifecycle = Lifecycle::without_signals();
    let _detached = lifecycle.tasks().spawn("stuck", std::future::pending::<()>());
    let shared = Arc::clone(&lifecycle.shared);
    let driving = async { drive(&shared, Vec::new(), Admin::new()).await.expect("no listener, no error") };
    let happening = async {
        lifecycle.handle().wait_for(Phase::Serving).await;
        events.iter().for_each(|event| shared.dispatch(*event));
    };
    tokio::join!(driving, happening).0
}

#[tokio::test(start_paused = true)]
async fn end_3_forced_by_a_signal_is_128_and_its_number() {
    let report = ends_with(&[Event::Step(TERM), Event::Step(Cause::Terminal(2))]).await;
    assert_eq!((report.outcome, report.exit_code), (Outcome::Forced, 130));
    let report = ends_with(&[Event::Force(TERM)]).await;
    assert_eq!((report.outcome, report.exit_code), (Outcome::Forced, 143));
}

#[tokio::test(start_paused = true)]
async fn end_3_serving_that_failed_is_1() {
    let report = ends_with(&[Event::Fail]).await;
    assert_eq!((report.outcome, report.exit_code), (Outcome::Failed, 1));
}

#[tokio::test(start_paused = true)]
async fn the_report_says_who_asked_first() {
    let cause = ends_with(&[Event::Begin(Cause::Handle), Event::Force(TERM)]).await.cause;
    assert_eq!(cause, "handle");
}

#[test]
fn an_earlier_phase_is_never_shown_again() {
    let shared = Shared::new(None);
    shared.show(Phase::Ended);
    shared.show(Phase::Draining);
    assert_eq!(shared.phase(), Phase::Ended);
}
