//! A shop whose end can be held up, to see what a terminal shows of it.
//!
//! ```text
//! cargo run -p glidepath --example held
//! curl localhost:4000/reports/2026.csv                     # a row every now and then, for some minutes
//! curl localhost:4000/search                               # waits for a neighbour that never answers
//! curl -X POST localhost:4000/orders                       # answered at once; its receipt takes its time
//! curl -X POST localhost:4000/backup                      # a blocking call that nobody tracks: seen after the report
//! curl -T big.csv --limit-rate 10k localhost:4000/import   # an upload that is slow
//! ```
//!
//! Then press Ctrl-C where it runs.

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{any, get, post};
use axum::{Router, http::StatusCode};
use futures_util::{StreamExt, stream};
use glidepath::{Lifecycle, Report, Tasks};
use tokio::net::TcpListener;
use tokio::time::sleep;

const ROWS: usize = 1000;

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    // Its lines come above what an end shows.
    tracing_subscriber::fmt().with_writer(glidepath::stderr).without_time().with_target(false).with_ansi(false).init();
    let lifecycle = Lifecycle::new()?;
    lifecycle.on_close("database", async { tracing::info!("the database is closed") });

    let app = Router::new()
        .route("/reports/2026.csv", get(report))
        .route("/search", get(pending::<StatusCode>))
        .route("/orders", post(order))
        .route("/backup", post(backup))
        .route("/import", any(import))
        .with_state(lifecycle.tasks());
    let port = number("PORT").unwrap_or(4000);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    tracing::info!("serving on {}", listener.local_addr()?);
    lifecycle.serve(listener, app).await
}

async fn report() -> Body {
    Body::from_stream(stream::iter(0..ROWS).then(|row| async move {
        sleep(Duration::from_millis(250)).await;
        Ok::<_, Infallible>(Bytes::from(format!("{row},a row of the report\n")))
    }))
}

async fn order(State(tasks): State<Tasks>) -> &'static str {
    tasks.spawn("send receipt", async {
        sleep(Duration::from_millis(number("RECEIPT_MS").unwrap_or(8000).into())).await;
        tracing::info!("receipt sent");
    });
    "ordered\n"
}

async fn backup() -> &'static str {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(60)));
    "begun\n"
}

async fn import(body: Body) -> Result<String, StatusCode> {
    let mut pieces = body.into_data_stream();
    let mut length = 0;
    while let Some(piece) = pieces.next().await {
        length += piece.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    Ok(format!("{length} bytes read\n"))
}

fn number(name: &str) -> Option<u16> {
    env::var(name).ok()?.parse().ok()
}
