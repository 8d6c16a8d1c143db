//! What others see of courier: its metrics as Prometheus reads them, and its log as JSON.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use prometheus_parse::{Scrape, Value};

use crate::harness::{Courier, Receiver, draft, get, post, request, within};
use crate::restart::free_address;

/// The sum of all samples of that name.
#[track_caller]
fn sum(text: &str, name: &str) -> f64 {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus' text");
    let values: Vec<_> = scrape
        .samples
        .iter()
        .filter(|sample| sample.metric == name)
        .map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) => value,
            ref other => panic!("{name} is {other:?}"),
        })
        .collect();
    assert!(!values.is_empty(), "no {name} in:\n{text}");
    values.iter().sum()
}

/// "accepted = ended + open", and the same for requests and tasks.
#[track_caller]
fn adds_up(text: &str) {
    for (all, ended, open) in [
        ("glidepath_connections_accepted_total", "glidepath_connections_ended_total", "glidepath_connections"),
        ("glidepath_requests_started_total", "glidepath_requests_ended_total", "glidepath_requests_in_flight"),
        ("glidepath_tasks_started_total", "glidepath_tasks_ended_total", "glidepath_tasks_running"),
    ] {
        let (all_of_them, known) = (sum(text, all), sum(text, ended) + sum(text, open));
        assert!((all_of_them - known).abs() < 0.5, "{all} is {all_of_them}, and {known} are known:\n{text}");
    }
}

/// With messages on their way, feeds open and a drain that takes its time: every scrape adds up, to the last.
#[tokio::test(flavor = "multi_thread")]
async fn see_2_couriers_scrapes_add_up_to_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let admin = free_address();
    let metrics = format!("http://{admin}/metrics");
    let mut courier = Courier::start(dir.path(), &["--admin", &admin, "--lame-duck", "500ms"]).await;
    let answer = get(&metrics).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let before = sum(answer.text(), "glidepath_requests_started_total");
    let load = async {
        for _ in 0..10 {
            for _ in 0..10 {
                courier.accept(&receiver.url("ok")).await;
            }
            assert_eq!(courier.get("/v1/messages").await.status, 200);
        }
    };
    let scrapes = async {
        for _ in 0..20 {
            adds_up(get(&metrics).await.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the load and the scrapes", async { tokio::join!(load, scrapes) }).await;
    let text = get(&metrics).await.text().to_owned();
    assert_eq!(sum(&text, "glidepath_requests_started_total") - before, 110.0, "{text}");
    let scrapes = tokio::spawn(async move {
        let mut count = 0;
        while let Ok(answer) = request(Method::GET, &metrics, &[], Body::empty()).await {
            adds_up(answer.text());
            count += usize::from(answer.text().contains("glidepath_phase{phase=\"lame_duck\"} 1"));
        }
        count
    });
    courier.land().await;
    let in_lame_duck = within("the last scrape", scrapes).await.expect("each adds up");
    assert!(in_lame_duck > 3, "{in_lame_duck} scrapes in half a second of lame duck");
}

/// Each line is JSON; what a handler logs is in its request's span, with the trace that the client is part of.
#[tokio::test(flavor = "multi_thread")]
async fn see_3_courier_logs_json_with_the_requests_span() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--log-format", "json", "--log", "info,glidepath=debug"];
    let mut courier = Courier::start(dir.path(), &args).await;
    let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let import = format!("{}/v1/import?secret=1", courier.base);
    let line = draft("http://127.0.0.1:1/hook") + "\n";
    let answer = post(&import, &[("content-type", "application/x-ndjson"), trace], line).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    courier.land().await;
    let log = courier.log();
    let (json, report) = log.split_once("\nglidepath: ").expect("the report stands after the log");
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(report.starts_with("all work finished"), "{report}");
    let that_say = |message: &str| lines.iter().filter(|line| line["fields"]["message"] == message).collect::<Vec<_>>();
    let done = that_say("import done");
    assert_eq!(done.len(), 1, "{log}");
    let span = &done[0]["span"];
    assert_eq!((&span["name"], &span["http.request.method"]), (&"request".into(), &"POST".into()), "{span}");
    assert_eq!(
        (&span["url.path"], &span["trace_id"]),
        (&"/v1/import".into(), &"4bf92f3577b34da6a3ce929d0e0e4736".into())
    );
    assert!(!log.contains("secret=1"), "a query is logged: {log}");
    let phases: Vec<_> = that_say("lifecycle").iter().filter_map(|line| line["fields"]["phase"].as_str()).collect();
    assert_eq!(phases, ["serving", "draining", "closing", "ended"]);
    let ended = that_say("connection ended");
    assert!(!ended.is_empty() && ended.iter().all(|line| line["fields"]["peer"].is_string()), "{log}");
}
