//! What a recorder is told when nobody scrapes.

use std::sync::Mutex;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use prometheus_parse::{Scrape, Value};

use super::*;

fn recorder() -> &'static PrometheusRecorder {
    // A local recorder is lent to the thread; a test's thread is short, and its recorder small.
    Box::leak(Box::new(PrometheusBuilder::new().build_recorder()))
}

/// The only value of that name and, where there is one, that label's value.
#[track_caller]
fn value(text: &str, name: &str, label: &str) -> f64 {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus' text");
    let is_it = |sample: &&prometheus_parse::Sample| {
        sample.metric == name && (label.is_empty() || sample.labels.values().any(|value| value == label))
    };
    let values: Vec<_> = scrape.samples.iter().filter(is_it).collect();
    assert_eq!(values.len(), 1, "{name} {label} in:\n{text}");
    match values[0].value {
        Value::Counter(value) | Value::Gauge(value) => value,
        ref other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn see_2_before_the_report_a_recorder_has_the_whole_account() {
    let recorder = recorder();
    let _told = ::metrics::set_default_local_recorder(recorder);
    let lifecycle = Lifecycle::without_signals();
    let serving = Serving::start(lifecycle.run().lame_duck(secs(2)).grace(secs(10)).hooks_within(secs(4)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let _cut = lifecycle.tasks().spawn("hangs", forever());
    let _done = lifecycle.tasks().spawn("is done", takes(secs(1)));
    let _panics = lifecycle.tasks().spawn("panics", panics());
    lifecycle.on_close("database", takes(secs(3)));
    let last = Arc::new(Mutex::new(String::new()));
    let (text, handle) = (Arc::clone(&last), recorder.handle());
    lifecycle.on_report(move |_| *text.lock().unwrap() = handle.render());
    let report = end(&lifecycle, serving).await;
    let text = last.lock().unwrap().clone();
    for (outcome, count) in [("finished", 1), ("panicked", 1), ("aborted", 1)] {
        assert_eq!(value(&text, "glidepath_tasks_ended_total", outcome), f64::from(count), "{outcome}");
    }
    assert_eq!(report.tasks.started, 3);
    assert_eq!(value(&text, "glidepath_tasks_running", ""), 0.0);
    assert_eq!(value(&text, "glidepath_hooks_ended_total", "finished"), 1.0);
    assert_eq!(value(&text, "glidepath_hooks_left", ""), 0.0);
    assert_eq!(value(&text, "glidepath_phase", "ended"), 1.0);
    assert_eq!(value(&text, "glidepath_phase", "serving"), 0.0);
    assert_eq!(value(&text, "glidepath_grace_period_seconds", ""), 10.0);
    let stages = [("lame_duck", 2.0), ("draining", 6.0), ("closing", 3.0)];
    for (stage, lasted) in stages {
        let told = value(&text, "glidepath_end_seconds", stage);
        assert!((lasted..lasted + CUT.as_secs_f64()).contains(&told), "{stage}: {told} s");
    }
    let told: f64 = stages.iter().map(|(stage, _)| value(&text, "glidepath_end_seconds", stage)).sum();
    assert!((told - report.took.as_secs_f64()).abs() < 0.001, "{told} s, and the report says {:?}", report.took);
}

#[tokio::test(start_paused = true)]
async fn see_2_a_recorder_that_pushes_is_told_every_ten_seconds() {
    let recorder = recorder();
    let _told = ::metrics::set_default_local_recorder(recorder);
    let (lifecycle, serving) = served().await;
    let running = || value(&recorder.handle().render(), "glidepath_tasks_running", "");
    let _task = lifecycle.tasks().spawn("task", takes(secs(60)));
    sleep(secs(5)).await;
    assert_eq!(running(), 0.0, "the control: nobody has asked, and no phase has begun");
    sleep(secs(6)).await;
    assert_eq!(running(), 1.0);
    lifecycle.handle().force();
    let report = serving.report().await;
    assert_eq!(report.tasks.aborted, 1);
}
