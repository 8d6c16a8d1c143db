//! The feeds: what they tell, how a client goes on, and how they end.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::harness::{Courier, Receiver, within};

/// An event stream as it arrives.
struct Events {
    body: Body,
    text: String,
}

impl Events {
    async fn open(courier: &Courier, last: Option<&str>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
        let mut request = Request::get(format!("{}/v1/events", courier.base));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = within("the head", client.request(request.body(Body::empty()).unwrap())).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { body: Body::new(response.into_body()), text: String::new() };
        // The hello: from here on it listens.
        assert!(events.block().await.expect("a hello").contains("retry: 1000"));
        events
    }

    /// The next event as it stands, up to its blank line; none at the end of the body.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = within("an event", self.body.frame()).await?.expect("a whole body, not a broken one");
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// The next change: its id and its data.
    async fn change(&mut self) -> Option<(String, Value)> {
        loop {
            let block = self.block().await?;
            let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(data)) = (line("id: "), line("data: ")) {
                return Some((id.to_owned(), serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happens_and_a_client_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let mut events = Events::open(&courier, None).await;
    let id = courier.accept(&receiver.url("ok")).await;
    let (first, change) = events.change().await.unwrap();
    assert_eq!((&change["id"], &change["state"]), (&Value::from(id.clone()), &Value::from("queued")));
    let (_, change) = events.change().await.unwrap();
    assert_eq!(change["state"], "delivered");
    let missed = courier.accept(&receiver.url("ok")).await;
    courier.until_state(&missed, "delivered").await;
    courier.land().await;

    let courier = Courier::start(dir.path(), &[]).await;
    let mut events = Events::open(&courier, Some(&first)).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(events.change().await.unwrap().1["id"].clone());
    }
    assert_eq!(told, [id, missed], "each in its last state, in the order of the changes");
    let live = courier.accept(&receiver.url("ok")).await;
    assert_eq!(events.change().await.unwrap().1["id"], live, "and then live");
}

#[tokio::test(flavor = "multi_thread")]
async fn sse_1_events_end_between_two_events_at_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let mut quiet = Events::open(&courier, Some("9000000000000000")).await;
    let mut busy = Events::open(&courier, None).await;
    for _ in 0..20 {
        courier.accept(&receiver.url("ok")).await;
    }
    assert!(busy.change().await.is_some());
    let start = Instant::now();
    courier.signal(Signal::TERM);
    while busy.change().await.is_some() {}
    assert_eq!(quiet.change().await, None);
    assert_eq!((busy.text.as_str(), quiet.text.as_str()), ("", ""), "no half event");
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_1_the_feed_says_goodbye_with_1001() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let url = format!("{}/v1/feed", courier.base.replace("http", "ws"));
    let (mut socket, _) = within("a WebSocket", tokio_tungstenite::connect_async(&url)).await.unwrap();
    // The first ping says that the feed is followed.
    assert!(matches!(within("a ping", socket.next()).await, Some(Ok(Message::Ping(_)))));
    let id = courier.accept(&receiver.url("ok")).await;
    for state in ["queued", "delivered"] {
        let text = within("a change", socket.next()).await.unwrap().unwrap().into_text().unwrap();
        let change: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((change["id"].as_str(), change["state"].as_str()), (Some(id.as_str()), Some(state)));
    }
    courier.signal(Signal::TERM);
    let Some(Ok(Message::Close(Some(goodbye)))) = within("the goodbye", socket.next()).await else {
        panic!("no close frame")
    };
    assert_eq!(goodbye.code, CloseCode::Away);
    // The reply that the client's library sends completes it; then the connection ends without an error.
    assert!(within("the end", socket.next()).await.is_none());
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_the_same_origin_may_read_the_feed() {
    let dir = tempfile::tempdir().unwrap();
    let courier = Courier::start(dir.path(), &[]).await;
    for (origin, allowed) in [(courier.base.as_str(), true), ("http://evil.example", false), ("null", false)] {
        let mut request = format!("{}/v1/feed", courier.base.replace("http", "ws")).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        match within("an answer", tokio_tungstenite::connect_async(request)).await {
            Ok(_) => assert!(allowed, "{origin}"),
            Err(tungstenite::Error::Http(answer)) => {
                assert_eq!((allowed, answer.status().as_u16()), (false, 403), "{origin}")
            }
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}
