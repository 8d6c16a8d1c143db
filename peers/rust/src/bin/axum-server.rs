//! axum-server, ended by its `Handle` as in its example `graceful_shutdown`.

use axum_server::Handle;
use peers::Settings;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let server = axum_server::bind(settings.address);
    if !settings.best {
        return Ok(server.serve(peers::router().into_make_service()).await?);
    }
    let handle = Handle::new();
    let server = server.handle(handle.clone());
    tokio::spawn(async move {
        peers::told_to_end().await.expect("the signals can be had");
        handle.graceful_shutdown(Some(settings.grace));
    });
    Ok(server.serve(peers::router().into_make_service()).await?)
}
