//! A service that takes long to start: a signal that comes meanwhile is not lost.
//!
//! The lifecycle is made first, so its signal handlers stand while the service loads what it needs, here until a line
//! comes on standard input. If a signal came by then, `serve` closes the listener again and returns at once.
//!
//! ```text
//! cargo run -p glidepath --example slow_start     # press Ctrl-C, then Enter
//! ```

use std::io;
use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::get;
use glidepath::{Lifecycle, Report};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    let lifecycle = Lifecycle::new()?;
    println!("loading; press Enter when that may be over");
    io::stdin().read_line(&mut String::new())?;

    let app = Router::new().route("/", get(|| async { "hello" }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening on {}", listener.local_addr()?);

    let report = lifecycle.serve(listener, app).await?;
    println!("the end: {} connections, {} requests", report.connections.accepted, report.requests.started);
    Ok(report)
}
