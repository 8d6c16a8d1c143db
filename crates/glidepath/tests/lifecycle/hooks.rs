//! What runs last.

use std::sync::Mutex;

use glidepath::{Kind, Outcome};

use super::*;

/// Hooks write here what they do.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A hook's work that takes so long.
    fn work(&self, name: &'static str, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        let diary = self.clone();
        async move {
            diary.write(&format!("{name} begins"));
            sleep(time).await;
            diary.write(&format!("{name} ends"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hook_1_hooks_run_after_the_tasks_last_registered_first_one_after_the_other() {
    let (lifecycle, serving) = served().await;
    let diary = Diary::default();
    for name in ["database", "queue", "cache"] {
        lifecycle.on_close(name, diary.work(name, secs(1)));
    }
    let _detached = lifecycle.tasks().spawn("task", diary.work("task", secs(1)));
    let report = end(&lifecycle, serving).await;
    let order = ["task", "cache", "queue", "database"].map(|name| [format!("{name} begins"), format!("{name} ends")]);
    assert_eq!(diary.read(), order.as_flattened());
    assert_eq!(report.hooks.finished, 3);
    assert_took(&report, secs(4), AT_ONCE);
    assert!(report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn hook_1_one_that_hangs_does_not_take_the_time_of_the_next() {
    let (lifecycle, serving) = served().await;
    let diary = Diary::default();
    lifecycle.on_close("database", diary.work("database", ms(4_900)));
    lifecycle.on_close("hangs", forever());
    let report = end(&lifecycle, serving).await;
    assert_eq!(diary.read(), ["database begins", "database ends"]);
    assert_took(&report, secs(5) + ms(4_900), AT_ONCE);
    assert_eq!((report.cut[0].kind, cut(&report)), (Kind::Hook, vec!["\"hangs\"".to_owned()]));
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Cut, 3));
}

#[tokio::test(start_paused = true)]
async fn hook_1_their_slice_is_kept_when_the_drain_was_cut() {
    let lifecycle = Lifecycle::without_signals();
    let diary = Diary::default();
    lifecycle.on_close("database", diary.work("database", ms(1_990)));
    lifecycle.on_close("hangs", forever());
    let serving = Serving::start(lifecycle.run().grace(secs(10)).hooks_within(secs(4)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let _detached = lifecycle.tasks().spawn("stuck", forever());
    let report = end(&lifecycle, serving).await;
    assert_eq!(diary.read(), ["database begins", "database ends"]);
    assert_took(&report, secs(6) + secs(2) + ms(1_990), AT_ONCE);
    assert_eq!(cut(&report), ["\"stuck\"", "\"hangs\""]);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn hook_1_all_of_them_hanging_end_with_the_grace_period() {
    let (lifecycle, serving) = served().await;
    let dropped = [Dropped::default(), Dropped::default(), Dropped::default()];
    for dropped in &dropped {
        let guard = dropped.guard();
        lifecycle.on_close("hangs", async move {
            let _guard = guard;
            forever().await;
        });
    }
    let report = end(&lifecycle, serving).await;
    tokio::task::yield_now().await;
    assert_eq!(report.hooks.aborted, 3);
    assert_took(&report, secs(10), AT_ONCE);
    assert!(dropped.iter().all(Dropped::is_true), "aborted, not only forgotten");
}

#[tokio::test(start_paused = true)]
async fn task_3_a_hook_that_panics_holds_nothing_up_and_is_named() {
    let (lifecycle, serving) = served().await;
    let diary = Diary::default();
    lifecycle.on_close("database", diary.work("database", secs(1)));
    lifecycle.on_close("cache", panics());
    let report = end(&lifecycle, serving).await;
    assert_eq!(diary.read(), ["database begins", "database ends"]);
    assert_eq!(report.panicked, ["hook \"cache\""]);
    assert_eq!((report.hooks.panicked, report.hooks.finished), (1, 1));
    assert_took(&report, secs(1), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn hook_1_one_that_was_registered_after_an_early_stop_runs() {
    let lifecycle = Lifecycle::without_signals();
    lifecycle.handle().begin();
    // The stop came while the database was being opened.
    let diary = Diary::default();
    lifecycle.on_close("database", diary.work("database", secs(1)));
    let report = Serving::start(lifecycle.run().grace(secs(10))).report().await;
    assert_eq!(diary.read(), ["database begins", "database ends"]);
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn hook_1_a_hook_may_register_another() {
    let (lifecycle, serving) = served().await;
    let (diary, again) = (Diary::default(), lifecycle.clone());
    let work = diary.work("second", secs(1));
    lifecycle.on_close("first", async move { again.on_close("second", work) });
    let report = end(&lifecycle, serving).await;
    assert_eq!(diary.read(), ["second begins", "second ends"]);
    assert_eq!(report.hooks.finished, 2);
}

#[tokio::test(start_paused = true)]
async fn end_4_a_hook_that_forces_the_end_is_counted_once() {
    // What is looked at first is chosen at random.
    for _ in 0..32 {
        let (lifecycle, serving) = served().await;
        let handle = lifecycle.handle();
        lifecycle.on_close("never begins", forever());
        lifecycle.on_close("has enough", async move { handle.force() });
        let report = end(&lifecycle, serving).await;
        assert_adds_up(&report);
        assert_eq!(report.outcome, Outcome::Forced);
    }
}

#[tokio::test(start_paused = true)]
async fn sig_4_a_forced_end_aborts_the_hook_that_runs() {
    let (lifecycle, serving) = served().await;
    let dropped = Dropped::default();
    let guard = dropped.guard();
    lifecycle.on_close("never begins", forever());
    lifecycle.on_close("hangs", async move {
        let _guard = guard;
        forever().await;
    });
    lifecycle.handle().begin();
    lifecycle.handle().wait_for(Phase::Closing).await;
    seconds_pass(1).await;
    lifecycle.handle().hurry();
    let report = serving.report().await;
    tokio::task::yield_now().await;
    assert!(dropped.is_true(), "aborted, not only forgotten");
    assert_eq!(cut(&report), ["\"hangs\"", "\"never begins\""]);
    assert_took(&report, secs(1), AT_ONCE);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_never_begins_may_use_the_lifecycle_when_it_is_dropped() {
    struct Asks(Lifecycle);
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = self.0.handle().snapshot();
            self.0.on_close("too late", async {});
        }
    }
    let (lifecycle, serving) = served().await;
    let asks = Asks(lifecycle.clone());
    lifecycle.on_close("never begins", async move { drop(asks) });
    lifecycle.handle().force();
    let report = serving.report().await;
    assert_eq!(cut(&report), ["\"never begins\"", "\"too late\""]);
    assert_adds_up(&report);
}
