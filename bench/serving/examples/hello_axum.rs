//! The README's example with axum::serve and nothing else: what `cargo xtask bench build` compares it with.
//!
//! Its receipts are lost where the end comes first; that is what is left out.

use std::time::Duration;

use axum::{Router, routing::post};
use tokio::signal::unix::{SignalKind, signal};
use tokio::{net::TcpListener, time::sleep};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let app = Router::new().route("/orders", post(order));
    let listener = TcpListener::bind("127.0.0.1:4000").await?;
    let told = async move {
        term.recv().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(told).await
}

async fn order() -> &'static str {
    tokio::spawn(sleep(Duration::from_secs(2)));
    "ordered\n"
}
