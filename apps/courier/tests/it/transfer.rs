//! Export and import.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Courier, Receiver, draft, request, within};

const NDJSON: &str = "application/x-ndjson";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported_and_is_the_same() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let courier = Courier::start(here.path(), &["--max-attempts", "1"]).await;
    for number in 0..100 {
        courier.accept(&receiver.url(if number % 10 == 0 { "fail" } else { "ok" })).await;
    }
    within("all are settled", async {
        while courier
            .get("/v1/export")
            .await
            .text()
            .lines()
            .any(|line| line.contains("\"queued\"") || line.contains("\"delivering\""))
        {}
    })
    .await;
    let export = courier.get("/v1/export").await;
    assert_eq!((export.header("content-type"), export.text().lines().count()), (NDJSON, 100));
    let come = receiver.all().len();

    let other = Courier::start(there.path(), &[]).await;
    let first = other.post("/v1/import", NDJSON, export.text()).await;
    assert_eq!(first.json(), json!({ "lines": 100, "accepted": 100, "known": 0, "failed": 0, "errors": [] }));
    assert_eq!(other.get("/v1/export").await.text(), export.text(), "byte for byte");
    let again = other.post("/v1/import", NDJSON, export.text()).await;
    assert_eq!(again.json(), json!({ "lines": 100, "accepted": 0, "known": 100, "failed": 0, "errors": [] }));
    assert_eq!(receiver.all().len(), come, "what was delivered or dead is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_lines_are_named_by_number_and_do_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &["--body-limit", "400"]).await;
    let good = draft(&receiver.url("ok"));
    let long = format!(r#"{{"url":"https://example.com/","payload":"{}"}}"#, "x".repeat(400));
    let lines = [good.as_str(), "", "{", "{\"payload\":1}", &long, "{\"url\":\"http://[bad/\",\"payload\":1}", &good]
        .join("\n");
    let answer = courier.post("/v1/import", NDJSON, lines).await;
    assert_eq!(answer.status, 200);
    let summary = answer.json();
    assert_eq!((&summary["lines"], &summary["accepted"], &summary["failed"]), (&json!(6), &json!(2), &json!(4)));
    let named: Vec<(u64, &str)> = summary["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["field"].as_str().unwrap()))
        .collect();
    assert_eq!(named, [(3, "body"), (4, "url"), (5, "line"), (6, "url")]);
    receiver.until(2).await;
}

/// An import that is under way at the signal is read to its end and answered, and what it counts is stored.
#[tokio::test(flavor = "multi_thread")]
async fn req_4_an_import_under_way_at_the_signal_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let line = Bytes::from(draft(&receiver.url("ok")) + "\n");
    let (lines, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = Body::from_stream(stream::unfold(body, async |mut body| {
        body.recv().await.map(|line| (Ok::<_, Infallible>(line), body))
    }));
    let url = format!("{}/v1/import", courier.base);
    let answer = tokio::spawn(async move { request(Method::POST, &url, &[("content-type", NDJSON)], body).await });
    // A whole group, so that it is committed and delivered: the proof that the import is under way.
    for _ in 0..64 {
        lines.send(line.clone()).await.unwrap();
    }
    receiver.until(1).await;
    courier.signal(Signal::TERM);
    within("courier refuses connections", async {
        while tokio::net::TcpStream::connect(courier.base.trim_start_matches("http://")).await.is_ok() {}
    })
    .await;
    for _ in 0..10 {
        lines.send(line.clone()).await.unwrap();
    }
    drop(lines);
    let answer = within("the answer", answer).await.unwrap().expect("an answer in the drain");
    assert_eq!(answer.json()["accepted"], 74);
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
    let courier = Courier::start(dir.path(), &[]).await;
    assert_eq!(courier.get("/v1/export").await.text().lines().count(), 74);
}
