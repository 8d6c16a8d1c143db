//! axum-server, ended by its `Handle` as in its example `graceful_shutdown`.

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use peers::Settings;
use rustls::crypto::ring;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let plain = {
        let server = axum_server::bind(settings.address).handle(handle(&settings));
        server.serve(peers::router().into_make_service())
    };
    let Some(address) = settings.tls_address else {
        return Ok(plain.await?);
    };
    let (certificate, key) = peers::certificate()?;
    ring::default_provider().install_default().expect("nobody has chosen another");
    let config = RustlsConfig::from_pem(certificate.into(), key.into()).await?;
    let server = axum_server::bind_rustls(address, config).handle(handle(&settings));
    tokio::try_join!(plain, server.serve(peers::router().into_make_service()))?;
    Ok(())
}

/// One that ends its server at the signal. With the defaults nobody listens for it: it ends the process as it ends any.
fn handle(settings: &Settings) -> Handle<std::net::SocketAddr> {
    let handle = Handle::new();
    if settings.best {
        let (handle, grace) = (handle.clone(), settings.grace);
        tokio::spawn(async move {
            peers::told_to_end().await.expect("the signals can be had");
            handle.graceful_shutdown(Some(grace));
        });
    }
    handle
}
