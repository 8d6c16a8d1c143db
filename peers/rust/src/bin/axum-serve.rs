//! axum, served and ended as its example `graceful-shutdown` does.

use anyhow::Context;
use axum::http::StatusCode;
use peers::Settings;
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let listener = TcpListener::bind(settings.address).await.context("binding PORT")?;
    if !settings.best {
        return Ok(axum::serve(listener, peers::router()).await?);
    }
    // The example's way to bound the end: no request may take longer than that.
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, settings.grace);
    let app = peers::router().layer(timeout);
    let told = async { peers::told_to_end().await.expect("the signals can be had") };
    Ok(axum::serve(listener, app).with_graceful_shutdown(told).await?)
}
