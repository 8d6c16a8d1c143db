//! Two questions of whoever watches over the process: is it alive, and should it get work?

use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use crate::problem::Problem;

/// Alive to the end. The drain is no illness.
pub async fn live() -> &'static str {
    "alive\n"
}

/// Ready until the signal, so that a balancer turns away while requests are still answered.
pub async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.drain.is_stopping() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this courier is ending; ask another one"));
    }
    Ok("ready\n")
}
