//! How it ends, and what is said of it.

use std::sync::Mutex;

use glidepath::{Outcome, TaskCounts};

use super::*;

#[tokio::test(start_paused = true)]
async fn end_6_serve_returns_only_after_the_drain() {
    let (lifecycle, serving) = served().await;
    seconds_pass(60).await;
    assert!(!serving.has_returned(), "not without being asked");
    let _detached = lifecycle.tasks().spawn("three seconds", takes(secs(3)));
    lifecycle.on_close("one second", takes(secs(1)));
    lifecycle.handle().begin();
    sleep(ms(3_999)).await;
    assert!(!serving.has_returned(), "not before the hook is done");
    assert_eq!(lifecycle.handle().phase(), Phase::Closing);
    sleep(ms(10)).await;
    assert!(serving.has_returned());
    assert_eq!(lifecycle.handle().phase(), Phase::Ended);
}

#[tokio::test(start_paused = true)]
async fn end_3_all_work_finished_is_0() {
    let (lifecycle, serving) = served().await;
    let report = end(&lifecycle, serving).await;
    assert_eq!((report.outcome, report.exit_code(), report.cause.as_str()), (Outcome::Clean, 0, "handle"));
}

#[tokio::test(start_paused = true)]
async fn end_3_a_task_that_the_deadline_cut_is_3() {
    let (lifecycle, serving) = served().await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let report = end(&lifecycle, serving).await;
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Cut, 3));
}

#[tokio::test(start_paused = true)]
async fn end_3_forced_by_the_program_is_3() {
    let (lifecycle, serving) = served().await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    lifecycle.handle().force();
    let report = serving.report().await;
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Forced, 3));
    assert_eq!(cut(&report), ["\"stuck\""]);
    assert_took(&report, secs(0), CUT);
}

#[tokio::test(start_paused = true)]
async fn sig_4_hurrying_moves_one_step_at_a_time() {
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().lame_duck(secs(5)));
    let handle = lifecycle.handle();
    handle.wait_for(Phase::Serving).await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    handle.hurry();
    assert_eq!(handle.phase(), Phase::LameDuck);
    handle.hurry();
    assert_eq!(handle.phase(), Phase::Draining);
    seconds_pass(1).await;
    assert_eq!(lifecycle.handle().snapshot().running.len(), 1, "nothing is cut yet");
    handle.hurry();
    let report = serving.report().await;
    assert_eq!(report.outcome, Outcome::Forced);
    assert_took(&report, secs(1), CUT);
}

#[tokio::test(start_paused = true)]
async fn end_4_the_report_accounts_for_everything() {
    let (lifecycle, serving) = served().await;
    let tasks = lifecycle.tasks();
    let drain = lifecycle.drain();
    let _detached = [
        tasks.spawn("finishes", takes(secs(1))),
        tasks.spawn("hurries", async move { drain.draining().await }),
        tasks.spawn("panics", panics()),
        tasks.spawn("stuck", forever()),
    ];
    lifecycle.on_close("finishes", takes(ms(10)));
    lifecycle.on_close("panics", panics());
    lifecycle.on_close("hangs", forever());
    let report = end(&lifecycle, serving).await;
    let TaskCounts { started, finished, panicked, aborted, .. } = report.tasks;
    assert_eq!((started, finished, panicked, aborted), (4, 2, 1, 1));
    let h = report.hooks;
    assert_eq!((h.registered, h.finished, h.panicked, h.aborted), (3, 1, 1, 1));
    assert_eq!(cut(&report), ["\"stuck\"", "\"hangs\""]);
    assert_eq!(report.panicked, ["task \"panics\"", "hook \"panics\""]);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn end_4_the_report_is_told_exactly_once_and_before_serve_returns() {
    let (lifecycle, serving) = served().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    for _replaced in 0..2 {
        let (told, again) = (Arc::clone(&told), lifecycle.clone());
        lifecycle.on_report(move |report| {
            told.lock().unwrap().push(report.to_json());
            // It may use the lifecycle, and is not told again for it.
            again.on_report(|_| unreachable!("told twice"));
            again.handle().force();
        });
    }
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let report = end(&lifecycle, serving).await;
    assert_eq!(*told.lock().unwrap(), [report.to_json()]);
}

#[tokio::test(start_paused = true)]
async fn end_1_the_deadline_is_kept_whatever_else_wakes_the_driver() {
    let lifecycle = Lifecycle::without_signals();
    // Neither is a multiple of the half second at which connections are swept.
    let serving = Serving::start(lifecycle.run().lame_duck(ms(1_234)).grace(ms(2_345)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let report = end(&lifecycle, serving).await;
    assert_took(&report, ms(1_234 + 2_345), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn end_7_a_grace_period_of_zero_ends_at_once() {
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().grace(Duration::ZERO));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    lifecycle.on_close("no time for it", forever());
    let report = end(&lifecycle, serving).await;
    assert_took(&report, secs(0), AT_ONCE);
    assert_eq!(cut(&report), ["\"stuck\"", "\"no time for it\""]);
}

#[tokio::test(start_paused = true)]
async fn a_grace_period_without_end_waits_as_long_as_it_takes() {
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().grace(Duration::MAX).hooks_within(Duration::MAX).quiet(Duration::MAX));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let report = end(&lifecycle, serving).await;
    assert!(report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn sig_2_a_stop_before_serving_ends_it_as_soon_as_it_serves() {
    let lifecycle = Lifecycle::without_signals();
    lifecycle.handle().begin();
    assert!(lifecycle.drain().is_draining());
    seconds_pass(1).await;
    // Started before serving, ends after: the grace period is the one that is set, from the stop on.
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let report = Serving::start(lifecycle.run().grace(secs(4))).report().await;
    assert_took(&report, secs(4), AT_ONCE);
    assert_eq!(cut(&report), ["\"stuck\""]);
}

#[tokio::test(start_paused = true)]
async fn one_life_serves_once() {
    let (lifecycle, serving) = served().await;
    assert!(lifecycle.run().await.is_err_and(|error| error.is_reused()));
    end(&lifecycle, serving).await;
    assert!(lifecycle.run().await.is_err_and(|error| error.is_reused()));
}
