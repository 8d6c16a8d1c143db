//! What the Rust peers share: their settings, the signal, and the contract's paths as an axum router.

use std::convert::Infallible;
use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

/// What the environment says.
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Where to listen with TLS, for those that can.
    pub tls_address: Option<SocketAddr>,
    /// How long an end may take.
    pub grace: Duration,
    /// Whether the server is set up for its end at all, or started as in its first example.
    pub best: bool,
}

impl Settings {
    /// Reads `PORT`, `GRACE` and `SETTINGS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let number = |name: &str, default: u16| match env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text} is not a number that fits")),
            Err(_) => Ok(default),
        };
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            address: address(number("PORT", 8080)?),
            tls_address: Some(number("TLS_PORT", 0)?).filter(|port| *port != 0).map(address),
            grace: Duration::from_secs(number("GRACE", 30)?.into()),
            best: env::var("SETTINGS").is_ok_and(|settings| settings == "best"),
        })
    }
}

/// SIGTERM or SIGINT, as the examples of axum, hyper-util and tonic wait for them.
pub async fn told_to_end() -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// A certificate that no client trusts unless told to, and its key, both as PEM.
pub fn certificate() -> anyhow::Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

/// The contract's paths, but for `/task`: none of these servers knows of tasks.
pub fn router() -> Router {
    router_without_upgrades().route("/ws", any(echo_messages))
}

/// The same without `/ws`, for a server that does not hand a connection over: 101 would be a word that it can't keep.
pub fn router_without_upgrades() -> Router {
    Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/sleep", get(sleep_a_while))
        .route("/block", get(block_a_while))
        .route("/stream", get(stream_chunks))
        .route("/sse", get(events))
        .route("/echo", post(count_body))
        .route("/panic", get(panics))
}

/// The query of `/sleep` and `/block`.
#[derive(Deserialize)]
pub struct For {
    /// So many milliseconds.
    pub ms: u64,
}

impl For {
    /// As a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

/// The query of `/stream`.
#[derive(Deserialize)]
pub struct Chunks {
    /// How many chunks.
    pub chunks: u64,
    /// How many milliseconds before each.
    pub ms: u64,
}

/// The chunks of `/stream`.
pub fn chunks(query: Chunks) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let Chunks { chunks, ms } = query;
    stream::iter(0..chunks).then(move |n| async move {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        Ok(Bytes::from(format!("chunk{n}\n")))
    })
}

async fn sleep_a_while(Query(time): Query<For>) -> &'static str {
    sleep(time.duration()).await;
    "slept"
}

async fn block_a_while(Query(time): Query<For>) -> &'static str {
    std::thread::sleep(time.duration());
    "slept"
}

async fn stream_chunks(Query(query): Query<Chunks>) -> Body {
    Body::from_stream(chunks(query))
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = interval(Duration::from_millis(100));
    Sse::new(stream::unfold(ticks, |mut ticks| async move {
        ticks.tick().await;
        Some((Ok(Event::default().data("x")), ticks))
    }))
}

async fn count_body(body: Body) -> Result<String, StatusCode> {
    let mut data = body.into_data_stream();
    let mut length = 0;
    while let Some(piece) = data.next().await {
        length += piece.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    Ok(length.to_string())
}

async fn echo_messages(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo).into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let echoed = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if echoed.is_err() {
            return;
        }
    }
}

async fn panics() {
    panic!("as asked by GET /panic");
}
