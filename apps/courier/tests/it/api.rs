//! What the API answers, and how it says no.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use crate::harness::{Courier, Receiver, draft, post, request};

const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_shown_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &[]).await;
    let body = json!({ "url": receiver.url("ok"), "payload": [1.50, "ü"], "event": "order.paid", "headers": { "x-shop": "7" } });
    let answer = courier.post("/v1/messages", JSON, body.to_string()).await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/v1/messages/{id}"));

    let shown = courier.until_state(&id, "delivered").await;
    assert_eq!(shown["payload"], body["payload"]);
    assert_eq!(shown["headers"], body["headers"]);
    assert_eq!((&shown["attempts"], &shown["last_status"]), (&json!(1), &json!(204)));

    let upper = courier.get(&format!("/v1/messages/{}", id.to_uppercase())).await;
    assert_eq!(upper.status, 200, "ids are found in upper case too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let courier = Courier::start_strict(dir.path(), &["--body-limit", "500"]).await;
    let good = draft("https://example.com/");
    let large = json!({ "url": "https://example.com/", "payload": "x".repeat(500) }).to_string();
    let key = "k".repeat(256);
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, Option<&'a str>);
    let json_type: &[(&str, &str)] = &[("content-type", JSON)];
    let cases: &[Case<'_>] = &[
        ("POST", "/v1/messages", json_type, "{", 400, Some("body")),
        ("POST", "/v1/messages", json_type, "", 400, Some("body")),
        ("POST", "/v1/messages", json_type, "{}", 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"https://example.com/"}"#, 422, Some("payload")),
        ("POST", "/v1/messages", json_type, r#"{"url":1,"payload":1}"#, 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"x","payload":1}"#, 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"gopher://example.com","payload":1}"#, 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"http://127.0.0.1:1/","payload":1}"#, 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"http://[::ffff:10.0.0.1]/","payload":1}"#, 422, Some("url")),
        ("POST", "/v1/messages", json_type, r#"{"url":"http://localhost/","payload":1}"#, 422, Some("url")),
        (
            "POST",
            "/v1/messages",
            json_type,
            r#"{"url":"https://example.com/","payload":1,"evnt":"x"}"#,
            422,
            Some("evnt"),
        ),
        ("POST", "/v1/messages", json_type, &large, 413, None),
        ("POST", "/v1/messages", &[("content-type", "text/plain")], &good, 415, Some("content-type")),
        ("POST", "/v1/messages", &[], &good, 415, Some("content-type")),
        (
            "POST",
            "/v1/messages",
            &[("content-type", JSON), ("idempotency-key", &key)],
            &good,
            400,
            Some("idempotency-key"),
        ),
        ("POST", "/v1/import", json_type, &good, 415, Some("content-type")),
        ("GET", "/v1/messages/%ff", &[], "", 404, Some("id")),
        ("GET", "/v1/messages/no-id", &[], "", 404, Some("id")),
        ("GET", "/v1/messages/01890000-0000-7000-8000-000000000000", &[], "", 404, Some("id")),
        ("GET", "/v1/messages?state=lost", &[], "", 400, Some("state")),
        ("GET", "/v1/messages?limit=0", &[], "", 400, Some("limit")),
        ("GET", "/v1/messages?limit=many", &[], "", 400, Some("limit")),
        ("GET", "/v1/messages?before=x", &[], "", 400, Some("before")),
        ("GET", "/v1/messages?page=2", &[], "", 400, Some("page")),
        ("GET", "/v1/events", &[("last-event-id", "x")], "", 400, Some("last-event-id")),
        ("GET", "/v1/feed", &[], "", 426, None),
        ("GET", "/v2", &[], "", 404, None),
        ("DELETE", "/v1/messages", &[], "", 405, None),
        ("POST", "/v1/export", &[], "", 405, None),
    ];
    for (method, path, headers, body, status, field) in cases {
        let url = format!("{}{path}", courier.base);
        let answer =
            request(method.parse::<Method>().unwrap(), &url, headers, Body::from((*body).to_owned())).await.unwrap();
        let case = format!("{method} {path} {body} -> {answer:?}");
        assert_eq!(answer.status, *status, "{case}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{case}");
        let problem = answer.json();
        assert_eq!(problem["status"], *status, "{case}");
        assert_eq!(problem.get("field").and_then(|field| field.as_str()), *field, "{case}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{case}");
    }
    let listing = courier.get("/v1/messages").await.json();
    assert_eq!(listing["messages"], json!([]), "nothing of this was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_message_of_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let body = draft(&receiver.url("ok"));
    let send = |base: &str, body: String| {
        let url = format!("{base}/v1/messages");
        async move { post(&url, &[("content-type", JSON), ("idempotency-key", "order-7")], body).await }
    };
    // All at once: one of them is first, whichever it is.
    let answers = futures_util::future::join_all((0..8).map(|_| send(&courier.base, body.clone()))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 202]);
    let id = answers[0].json()["id"].clone();
    assert!(answers.iter().all(|answer| answer.json()["id"] == id));

    let other = send(&courier.base, draft(&receiver.url("slow"))).await;
    assert_eq!((other.status, other.json()["field"].as_str()), (422, Some("idempotency-key")));

    courier.until_state(id.as_str().unwrap(), "delivered").await;
    courier.land().await;
    let courier = Courier::start(dir.path(), &[]).await;
    let again = send(&courier.base, body).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &id), "the key outlives the process");
    assert_eq!(receiver.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_message_once_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &["--max-attempts", "1"]).await;
    let mut want = Vec::new();
    for number in 0..7 {
        want.push(courier.accept(&receiver.url(if number == 3 { "fail" } else { "ok" })).await);
    }
    want.reverse();
    let mut got = Vec::new();
    let mut next = Some("/v1/messages?limit=3".to_owned());
    while let Some(path) = next {
        let page = courier.get(&path).await.json();
        got.extend(
            page["messages"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()),
        );
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(got, want);

    courier.until_state(&want[3], "dead").await;
    let dead = courier.get("/v1/messages?state=dead").await.json();
    assert_eq!(dead["messages"].as_array().unwrap().len(), 1);
    assert_eq!(dead["messages"][0]["id"], want[3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_page_lists_the_endpoints_and_health_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let courier = Courier::start(dir.path(), &[]).await;
    let front = courier.get("/").await;
    for path in ["/v1/messages", "/v1/export", "/v1/import", "/v1/events", "/v1/feed", "/livez", "/readyz"] {
        assert!(front.text().contains(path), "{path}");
    }
    assert_eq!((courier.get("/livez").await.status, courier.get("/readyz").await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_say_its_length_is_read_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let courier = Courier::start(dir.path(), &["--body-limit", "500"]).await;
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::convert::Infallible>("x".repeat(100)));
    let url = format!("{}/v1/messages", courier.base);
    let answer = request(Method::POST, &url, &[("content-type", JSON)], Body::from_stream(endless)).await.unwrap();
    assert_eq!(answer.status, 413);
}
