//! Work beside the requests: tracked tasks and closing hooks, each of a kind that is asked for, to see how it ends.
//!
//! ```text
//! PORT=8080 GRACE=4 cargo run -p glidepath --example background
//! curl -X POST 'localhost:8080/task?name=mail&ms=3000'    # a task that ends by itself
//! curl -X POST 'localhost:8080/task?name=poll&how=hurries' # one that ends when the drain begins
//! curl -X POST 'localhost:8080/hook?name=database&ms=100'  # a hook: hooks run last, the last one registered first
//! ```
//!
//! `how` is one of `ends` (after `ms`), `hurries`, `hangs`, `panics` (after `ms`), `blocks` (its thread, for `ms`).

use std::env;
use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use glidepath::{Drain, Lifecycle, Report};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    let lifecycle = Lifecycle::new()?;
    lifecycle.on_report(|report| println!("{}", report.to_json()));

    let app = Router::new()
        .route("/task", post(start_task))
        .route("/hook", post(register_hook))
        .route("/draining", get(wait_for_the_drain))
        .route("/is-draining", get(look_at_the_drain))
        .with_state(lifecycle.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number("PORT").unwrap_or(8080))).await?;
    eprintln!("listening on {}", listener.local_addr()?);

    let grace = Duration::from_secs(number("GRACE").unwrap_or(30).into());
    let report = lifecycle.serve(listener, app).grace(grace).await?;
    println!("serve returned");
    Ok(report)
}

#[derive(Deserialize)]
struct Work {
    name: String,
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    how: How,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Ends,
    Hurries,
    Hangs,
    Panics,
    Blocks,
}

impl Work {
    async fn run(self, drain: Drain) {
        println!("{} begins", self.name);
        let time = Duration::from_millis(self.ms);
        match self.how {
            How::Ends => sleep(time).await,
            How::Hurries => drain.draining().await,
            How::Hangs => pending().await,
            How::Blocks => std::thread::sleep(time),
            How::Panics => {
                sleep(time).await;
                panic!("{} panics, as asked", self.name);
            }
        }
        println!("{} ends", self.name);
    }
}

async fn start_task(State(lifecycle): State<Lifecycle>, Query(work): Query<Work>) -> StatusCode {
    let name = work.name.clone();
    let drain = lifecycle.drain();
    let _detached = if matches!(work.how, How::Blocks) {
        let time = Duration::from_millis(work.ms);
        lifecycle.tasks().spawn_blocking(name, move || std::thread::sleep(time))
    } else {
        lifecycle.tasks().spawn(name, work.run(drain))
    };
    StatusCode::ACCEPTED
}

async fn register_hook(State(lifecycle): State<Lifecycle>, Query(work): Query<Work>) -> StatusCode {
    let name = work.name.clone();
    let drain = lifecycle.drain();
    lifecycle.on_close(name, work.run(drain));
    StatusCode::CREATED
}

/// Ends when the drain begins: what a long poll should do.
async fn wait_for_the_drain(State(lifecycle): State<Lifecycle>) -> &'static str {
    lifecycle.drain().draining().await;
    "draining"
}

async fn look_at_the_drain(State(lifecycle): State<Lifecycle>) -> String {
    lifecycle.drain().is_draining().to_string()
}

fn number(name: &str) -> Option<u16> {
    env::var(name).ok()?.parse().ok()
}
