//! An order is answered at once; its receipt is sent in the background, and the end waits for it.

use std::time::Duration;

use axum::{Router, extract::State, routing::post};
use glidepath::{Lifecycle, Report, Tasks};
use tokio::{net::TcpListener, time::sleep};

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    let lifecycle = Lifecycle::new()?; // from here on no signal is lost
    lifecycle.on_close("database", async { /* what must close last */ });

    let app = Router::new().route("/orders", post(order)).with_state(lifecycle.tasks());
    let listener = TcpListener::bind("127.0.0.1:4000").await?;
    lifecycle.serve(listener, app).grace(Duration::from_secs(20)).await
}

async fn order(State(tasks): State<Tasks>) -> &'static str {
    tasks.spawn("send receipt", sleep(Duration::from_secs(2)));
    "ordered\n"
}
