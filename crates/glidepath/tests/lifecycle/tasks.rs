//! Background work.

use super::*;
use glidepath::{Kind, Outcome};

#[tokio::test(start_paused = true)]
async fn task_1_tasks_are_waited_for() {
    let (lifecycle, serving) = served().await;
    let _detached = lifecycle.tasks().spawn("three seconds", takes(secs(3)));
    let report = end(&lifecycle, serving).await;
    assert_eq!((report.tasks.started, report.tasks.finished), (1, 1));
    assert_took(&report, secs(3), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn task_1_a_task_that_a_task_starts_in_the_drain_is_waited_for() {
    let (lifecycle, serving) = served().await;
    let (drain, tasks) = (lifecycle.drain(), lifecycle.tasks());
    let _detached = lifecycle.tasks().spawn("first", async move {
        drain.draining().await;
        let _detached = tasks.spawn("second", takes(secs(2)));
    });
    let report = end(&lifecycle, serving).await;
    assert_eq!((report.tasks.started, report.tasks.finished), (2, 2));
    assert_took(&report, secs(2), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn task_1_a_task_that_a_hook_starts_is_waited_for() {
    let (lifecycle, serving) = served().await;
    let tasks = lifecycle.tasks();
    lifecycle.on_close("flush", async move {
        let _detached = tasks.spawn("send", takes(secs(1)));
    });
    let report = end(&lifecycle, serving).await;
    assert_eq!((report.tasks.finished, report.hooks.finished), (1, 1), "{report}");
    assert_took(&report, secs(1), AT_ONCE);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn end_4_a_task_that_a_hook_leaves_behind_is_aborted_and_named() {
    let (lifecycle, serving) = served().await;
    let tasks = lifecycle.tasks();
    lifecycle.on_close("forgets it", async move {
        let _detached = tasks.spawn("left behind", forever());
    });
    let report = end(&lifecycle, serving).await;
    assert_eq!((cut(&report), report.tasks.aborted), (vec!["\"left behind\"".to_owned()], 1));
    assert_took(&report, secs(10), AT_ONCE);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn task_2_a_task_sees_the_drain_and_may_hurry() {
    let (lifecycle, serving) = served().await;
    let drain = lifecycle.drain();
    let _detached = lifecycle.tasks().spawn("endless", async move { drain.draining().await });
    let report = end(&lifecycle, serving).await;
    assert!(report.is_clean());
    assert_took(&report, secs(0), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn task_2_at_the_deadline_a_task_is_aborted_and_named() {
    let (lifecycle, serving) = served().await;
    let dropped = Dropped::default();
    let guard = dropped.guard();
    let _detached = lifecycle.tasks().spawn("stuck", async move {
        let _guard = guard;
        forever().await;
    });
    seconds_pass(5).await;
    let report = end(&lifecycle, serving).await;
    assert_took(&report, secs(10), AT_ONCE);
    assert_eq!((report.tasks.aborted, report.outcome, report.exit_code()), (1, Outcome::Cut, 3));
    let stuck = &report.cut[0];
    assert_eq!(stuck.kind, Kind::Task);
    assert!(stuck.name.starts_with("\"stuck\" (") && stuck.name.contains("tasks.rs:"), "{}", stuck.name);
    assert!((secs(15)..=secs(15) + AT_ONCE).contains(&stuck.age), "{:?}", stuck.age);
    assert!(dropped.is_true(), "aborted, not only forgotten");
}

#[tokio::test(start_paused = true)]
async fn task_2_a_task_that_comes_after_the_deadline_is_aborted_at_once() {
    let (lifecycle, serving) = served().await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let (tasks, dropped) = (lifecycle.tasks(), Dropped::default());
    let guard = dropped.guard();
    lifecycle.on_close("too late", async move {
        let late = tasks.spawn("late", async move {
            let _guard = guard;
            forever().await;
        });
        assert!(late.await.expect_err("it never ends by itself").is_cancelled());
    });
    let report = end(&lifecycle, serving).await;
    assert_eq!(cut(&report), ["\"stuck\"", "\"late\""]);
    assert_eq!(report.hooks.finished, 1, "{report}");
    assert!(dropped.is_true());
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn task_2_a_task_that_the_program_aborts_is_not_the_deadlines() {
    let (lifecycle, serving) = served().await;
    let task = lifecycle.tasks().spawn("not wanted any more", forever());
    task.abort();
    assert!(task.await.expect_err("it was aborted").is_cancelled());
    let report = end(&lifecycle, serving).await;
    assert!(report.is_clean());
    assert_eq!((report.tasks.finished, report.tasks.aborted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn task_3_a_task_that_panics_holds_nothing_up_and_is_named() {
    let (lifecycle, serving) = served().await;
    let before = lifecycle.tasks().spawn("before", panics());
    assert!(before.await.expect_err("it panics").is_panic());
    let drain = lifecycle.drain();
    let _detached = lifecycle.tasks().spawn("in the drain", async move {
        drain.draining().await;
        panics().await;
    });
    let report = end(&lifecycle, serving).await;
    assert_eq!(report.panicked, ["task \"before\"", "task \"in the drain\""]);
    assert_eq!((report.tasks.panicked, report.tasks.finished), (2, 0));
    assert_took(&report, secs(0), AT_ONCE);
    assert!(report.is_clean(), "nothing was cut");
}
