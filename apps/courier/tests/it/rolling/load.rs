//! Clients of every kind that never try anything twice, and what they met.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::routing::post;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::balancer::Balancer;
use crate::harness::{BOUND, draft, within};

/// No answer takes longer; a client that waits for more has seen a failure.
const PATIENCE: Duration = Duration::from_secs(15);
/// So many different failures are told.
const TOLD: usize = 8;

type Failure = Box<dyn Error + Send + Sync>;

/// A POST: when it was begun, and how long its answer took.
pub struct Sample {
    pub at: Duration,
    pub took: Duration,
}

#[derive(Clone, Default)]
pub struct Counts {
    pub requests: usize,
    pub accepted: usize,
    /// Event streams and WebSockets that were ended as they should be.
    pub goodbyes: usize,
    pub failed: usize,
    /// The first of them.
    pub failures: Vec<String>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, accepted, goodbyes, failed, .. } = self;
        write!(f, "{requests} requests, {accepted} messages accepted, {goodbyes} streams ended well, {failed} failed")
    }
}

#[derive(Default)]
struct Book {
    counts: Counts,
    samples: Vec<Sample>,
}

/// What all clients share.
struct Shared {
    address: String,
    h2_address: String,
    receiver: String,
    began: Instant,
    over: AtomicBool,
    book: Mutex<Book>,
}

pub struct Load {
    pub began: Instant,
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(balancer: &Balancer, receiver: &Receiver) -> Self {
        let began = Instant::now();
        let shared = Arc::new(Shared {
            address: balancer.address.clone(),
            h2_address: balancer.h2_address.clone(),
            receiver: receiver.url.clone(),
            began,
            over: AtomicBool::new(false),
            book: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        let one = || Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        let two = || Client::builder(TokioExecutor::new()).retry_canceled_requests(false).http2_only(true).build_http();
        for _ in 0..3 {
            clients.spawn(Arc::clone(&shared).posts(one(), shared.address.clone()));
            clients.spawn(Arc::clone(&shared).connects_for_each());
        }
        // Two streams at a time on one connection.
        let both: Client<HttpConnector, Body> = two();
        for _ in 0..2 {
            clients.spawn(Arc::clone(&shared).posts(both.clone(), shared.h2_address.clone()));
            clients.spawn(Arc::clone(&shared).follows_events());
            clients.spawn(Arc::clone(&shared).follows_the_feed());
            clients.spawn(Arc::clone(&shared).uploads());
        }
        Self { began, shared, clients }
    }

    /// Returns when all kinds of clients have surely gone on: so many more answers.
    pub async fn is_at_it(&self) {
        let before = self.shared.counts().requests;
        within("the clients are at it", async {
            while self.shared.counts().requests < before + 100 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    pub async fn stop(mut self) -> (Counts, Vec<Sample>) {
        self.shared.over.store(true, Ordering::Relaxed);
        let all = async { while self.clients.join_next().await.is_some_and(|ended| ended.map_or(true, |()| true)) {} };
        timeout(BOUND, all).await.expect("all clients come to their end");
        let mut book = self.shared.book.lock().expect("nobody panics");
        (book.counts.clone(), std::mem::take(&mut book.samples))
    }
}

impl Shared {
    fn counts(&self) -> Counts {
        self.book.lock().expect("nobody panics").counts.clone()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn note(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.book.lock().expect("nobody panics").counts);
    }

    fn failed(&self, what: &str, failure: &str) {
        let (at, failure) = (self.began.elapsed(), failure.split_whitespace().collect::<Vec<_>>().join(" "));
        let told = format!("{what}: {failure}");
        self.note(|counts| {
            counts.failed += 1;
            // The first of each kind is enough.
            if counts.failures.len() < TOLD && !counts.failures.iter().any(|known| known.ends_with(&told)) {
                counts.failures.push(format!("{at:.1?} {told}"));
            }
        });
    }

    /// One POST of a message.
    async fn posts_one(&self, client: &Client<HttpConnector, Body>, address: &str, what: &str) {
        let at = self.began.elapsed();
        let asked = timeout(PATIENCE, accepts(client, address, &self.receiver)).await;
        let took = self.began.elapsed() - at;
        match asked.map_err(Failure::from).and_then(|answer| answer) {
            Ok(()) => {
                let mut book = self.book.lock().expect("nobody panics");
                book.counts.requests += 1;
                book.counts.accepted += 1;
                book.samples.push(Sample { at, took });
            }
            Err(failure) => self.failed(what, &chain(&*failure)),
        }
    }

    /// On connections that are kept.
    async fn posts(self: Arc<Self>, client: Client<HttpConnector, Body>, address: String) {
        while self.goes_on() {
            self.posts_one(&client, &address, "a message on a kept connection").await;
            sleep(Duration::from_millis(fastrand::u64(5..25))).await;
        }
    }

    async fn connects_for_each(self: Arc<Self>) {
        while self.goes_on() {
            let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
            self.posts_one(&client, &self.address, "a message on a connection of its own").await;
            sleep(Duration::from_millis(fastrand::u64(5..25))).await;
        }
    }

    /// An import whose lines take their time: a courier may begin to end in its middle.
    async fn uploads(self: Arc<Self>) {
        const LINES: usize = 20;
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        while self.goes_on() {
            let line = Bytes::from(draft(&self.receiver) + "\n");
            let lines = stream::iter(0..LINES).then(move |_| {
                let line = line.clone();
                async move {
                    sleep(Duration::from_millis(30)).await;
                    Ok::<_, Infallible>(line)
                }
            });
            let request = Request::post(format!("http://{}/v1/import", self.address))
                .header("content-type", "application/x-ndjson")
                .body(Body::from_stream(lines));
            let imports = async {
                let (head, body) = client.request(request?).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                let summary: serde_json::Value = serde_json::from_slice(&body)?;
                match (head.status, summary["accepted"].as_u64()) {
                    (StatusCode::OK, Some(accepted)) if accepted == LINES as u64 => Ok(()),
                    _ => Err(Failure::from(format!("{}: {}", head.status, String::from_utf8_lossy(&body)))),
                }
            };
            match timeout(PATIENCE, imports).await.map_err(Failure::from).and_then(|answer| answer) {
                Ok(()) => self.note(|counts| {
                    counts.requests += 1;
                    counts.accepted += LINES;
                }),
                Err(failure) => self.failed("an upload", &chain(&*failure)),
            }
        }
    }

    /// Server-sent events: each stream has to end with its proper end, and is opened again.
    async fn follows_events(self: Arc<Self>) {
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http::<Body>();
        while self.goes_on() {
            let follows = async {
                let url = format!("http://{}/v1/events", self.address);
                let response = client.request(Request::get(url).body(Body::empty())?).await?;
                if response.status() != StatusCode::OK {
                    return Err(Failure::from(response.status().to_string()));
                }
                self.note(|counts| counts.requests += 1);
                let mut body = response.into_body();
                let mut last = Bytes::new();
                while self.goes_on() {
                    // Nothing came: look whether it is over.
                    let Ok(next) = timeout(Duration::from_millis(100), body.frame()).await else { continue };
                    let Some(frame) = next else {
                        let whole = last.is_empty() || last.ends_with(b"\n\n");
                        return if whole { Ok(true) } else { Err("cut in an event".into()) };
                    };
                    if let Ok(data) = frame?.into_data() {
                        last = data;
                    }
                }
                Ok(false)
            };
            match follows.await {
                Ok(ended) => self.note(|counts| counts.goodbyes += usize::from(ended)),
                Err(failure) => self.failed("events", &chain(&*failure)),
            }
        }
    }

    /// A WebSocket has to end with a Close, and is opened again.
    async fn follows_the_feed(self: Arc<Self>) {
        while self.goes_on() {
            let follows = async {
                let url = format!("ws://{}/v1/feed", self.address);
                let (mut socket, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(url)).await??;
                self.note(|counts| counts.requests += 1);
                while self.goes_on() {
                    match timeout(Duration::from_millis(100), socket.next()).await {
                        Err(_)
                        | Ok(Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_)))) => {
                        }
                        Ok(Some(Ok(Message::Close(Some(close))))) if matches!(close.code.into(), 1001 | 1012) => {
                            // The reply goes out with the next read, and the end of the stream follows.
                            while let Ok(Some(Ok(_))) = timeout(PATIENCE, socket.next()).await {}
                            return Ok(true);
                        }
                        Ok(other) => return Err(Failure::from(format!("{other:?}"))),
                    }
                }
                Ok(false)
            };
            match follows.await {
                Ok(ended) => self.note(|counts| counts.goodbyes += usize::from(ended)),
                Err(failure) => self.failed("the feed", &chain(&*failure)),
            }
        }
    }
}

async fn accepts(client: &Client<HttpConnector, Body>, address: &str, receiver: &str) -> Result<(), Failure> {
    let request = Request::builder().method(Method::POST).uri(format!("http://{address}/v1/messages"));
    let request = request.header("content-type", "application/json").body(Body::from(draft(receiver)))?;
    let (head, body) = client.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    if head.status == StatusCode::ACCEPTED {
        return Ok(());
    }
    Err(format!("{}: {}", head.status, String::from_utf8_lossy(&body)).into())
}

fn chain(failure: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Who gets the messages: it counts how often each one came.
pub struct Receiver {
    pub url: String,
    came: Arc<Mutex<HashMap<String, usize>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let came: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let book = Arc::clone(&came);
        let app = Router::new().route(
            "/",
            post(async move |headers: HeaderMap, _: Bytes| {
                let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
                *book.lock().expect("nobody panics").entry(id).or_default() += 1;
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { url, came, server }
    }

    pub fn messages(&self) -> usize {
        self.came.lock().expect("nobody panics").len()
    }

    /// How many came more than once.
    pub fn twice(&self) -> usize {
        self.came.lock().expect("nobody panics").values().filter(|count| **count > 1).count()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}
