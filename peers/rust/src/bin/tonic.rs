//! tonic's server with an axum router for its routes, ended by `serve_with_shutdown`.

use peers::Settings;
use tonic::service::Routes;
use tonic::transport::Server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let server = Server::builder().accept_http1(true).add_routes(Routes::from(peers::router_without_upgrades()));
    if !settings.best {
        return Ok(server.serve(settings.address).await?);
    }
    let told = async { peers::told_to_end().await.expect("the signals can be had") };
    Ok(server.serve_with_shutdown(settings.address, told).await?)
}
