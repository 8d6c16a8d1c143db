//! The HTTP face: who answers what.

mod body;
mod health;
mod live;
mod messages;
mod transfer;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;
use glidepath::Drain;

use crate::config::Config;
use crate::problem::Problem;
use crate::store::Store;
use crate::target::Targets;

/// What handlers share.
#[derive(Clone)]
struct App {
    store: Store,
    drain: Drain,
    targets: Targets,
    body_limit: usize,
}

const WELCOME: &str = "\
courier takes webhooks, stores them before it answers, and delivers them with retries.

POST /v1/messages        {\"url\": …, \"payload\": …} and if you like \"event\", \"headers\"; Idempotency-Key is heeded
GET  /v1/messages        ?state=queued|delivering|delivered|dead &limit= &before=
GET  /v1/messages/{id}   one message and how it fares
GET  /v1/export          all messages, one JSON document a line
POST /v1/import          the same, back in
GET  /v1/events          what happens, as server-sent events; Last-Event-ID is heeded
GET  /v1/feed            what happens, over a WebSocket; ?after= a change
GET  /livez, /readyz     for whoever watches over it
";

pub fn router(store: &Store, drain: Drain, config: &Config) -> Router {
    let app = App { store: store.clone(), drain, targets: config.targets, body_limit: config.body_limit };
    Router::new()
        .route("/", get(async || WELCOME))
        .route("/v1/messages", get(messages::list).post(messages::accept))
        .route("/v1/messages/{id}", get(messages::show))
        .route("/v1/export", get(transfer::export))
        .route("/v1/import", axum::routing::post(transfer::import))
        .route("/v1/events", get(live::events))
        .route("/v1/feed", get(live::feed))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::disable()) // each reader has a limit of its own, an import one per line
        .with_state(app)
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}; GET / lists what there is", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer {method}; the header \"allow\" says what it does", uri.path()),
    )
}
