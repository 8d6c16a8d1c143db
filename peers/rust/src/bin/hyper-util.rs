//! hyper-util's `GracefulShutdown` over its `auto` connections, as in its example `server_graceful`.

use std::pin::pin;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use peers::Settings;
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    let listener = TcpListener::bind(settings.address).await.context("binding PORT")?;
    let server = Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(peers::router());
    let graceful = GracefulShutdown::new();
    let mut told = pin!(async {
        match settings.best {
            true => peers::told_to_end().await,
            // Nobody listens for the signal: it ends the process as it ends any.
            false => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        eprintln!("accept: {error}");
                        sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service.clone());
                let connection = graceful.watch(connection.into_owned());
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        eprintln!("connection: {error}");
                    }
                });
            }
            told = &mut told => {
                told?;
                drop(listener);
                break;
            }
        }
    }
    tokio::select! {
        () = graceful.shutdown() => Ok(()),
        () = sleep(settings.grace) => anyhow::bail!("{:?} were not enough for all connections", settings.grace),
    }
}
