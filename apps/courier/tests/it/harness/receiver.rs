//! A receiver of webhooks that records what comes. What it answers depends on the path.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::within;

#[derive(Clone, Debug)]
pub struct Delivery {
    pub headers: HeaderMap,
    pub body: String,
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

#[derive(Clone)]
struct Records {
    deliveries: watch::Sender<Vec<Delivery>>,
    gate: Arc<Semaphore>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

pub struct Receiver {
    /// As in `http://127.0.0.1:12345`.
    pub base: String,
    records: Records,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let records = Records {
            deliveries: watch::Sender::new(Vec::new()),
            gate: Arc::new(Semaphore::new(0)),
            at_once: Arc::default(),
            most_at_once: Arc::default(),
        };
        let app = Self::app(records.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        Self { base, records, server }
    }

    fn app(records: Records) -> Router {
        Router::new().route("/{what}", post(receive)).with_state(records)
    }

    /// `ok`, `gate` (held until `open`), `slow` (some milliseconds), `fail` (500), `gone` (410), `away` (a redirect), `hang`.
    pub fn url(&self, what: &str) -> String {
        format!("{}/{what}", self.base)
    }

    /// Lets so many of the deliveries at `gate` go on.
    pub fn open(&self, count: usize) {
        self.records.gate.add_permits(count);
    }

    pub fn all(&self) -> Vec<Delivery> {
        self.records.deliveries.borrow().clone()
    }

    /// How often each message came.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for delivery in self.records.deliveries.borrow().iter() {
            *counts.entry(delivery.id().to_owned()).or_default() += 1;
        }
        counts
    }

    pub fn most_at_once(&self) -> usize {
        self.records.most_at_once.load(Ordering::SeqCst)
    }

    /// Waits until so many deliveries have begun.
    pub async fn until(&self, count: usize) -> Vec<Delivery> {
        let mut deliveries = self.records.deliveries.subscribe();
        let come = within(&format!("{count} deliveries"), deliveries.wait_for(|come| come.len() >= count)).await;
        come.expect("the receiver lives").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(records): State<Records>,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let now = records.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    records.most_at_once.fetch_max(now, Ordering::SeqCst);
    records.deliveries.send_modify(|deliveries| deliveries.push(Delivery { headers, body }));
    let answer = match what.as_str() {
        "ok" => StatusCode::NO_CONTENT.into_response(),
        "gate" => {
            records.gate.acquire().await.expect("never closed").forget();
            StatusCode::OK.into_response()
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
            StatusCode::OK.into_response()
        }
        "fail" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "gone" => StatusCode::GONE.into_response(),
        "away" => (StatusCode::FOUND, [("location", "/ok")]).into_response(),
        _ => std::future::pending().await,
    };
    records.at_once.fetch_sub(1, Ordering::SeqCst);
    answer
}
