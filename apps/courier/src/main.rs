//! courier stores webhooks before it answers, delivers them with retries, and loses none: not when it ends, not when it is killed.
//! This file is the story; each module is one chapter of it.

mod api;
mod client;
mod config;
mod deliver;
mod draft;
mod failure;
mod feed;
mod greeting;
mod lines;
mod log;
mod message;
mod problem;
mod retry;
mod signature;
mod store;
mod target;

use glidepath::{Lifecycle, Report};

#[tokio::main]
async fn main() -> Result<Report, failure::Failure> {
    let lifecycle = Lifecycle::new()?; // from here on, a signal is the beginning of an orderly end
    let config = config::Config::load()?;
    if config.restart_in_place {
        lifecycle.restart_in_place(); // from here on, a SIGHUP is not
    }
    log::start(&config)?;

    let listeners = greeting::listen(&config).await?;
    let admin = greeting::listen_admin(&config).await?;
    let store = store::Store::open(&config.database).await?;
    lifecycle.on_close("database", store.clone().close()); // after the requests and the deliveries, which write to it

    deliver::start(&lifecycle, &store, &config)?;
    let app = api::router(&store, lifecycle.drain(), &config);

    greeting::say(&listeners, &config);
    // The feed is asked for with GET, by HTTP/1.1.
    let mut server = lifecycle.run().websockets_over_http2(false).request_spans(true);
    server = server.lame_duck(config.lame_duck).grace(config.grace);
    for listener in listeners {
        server = server.and_serve(listener, app.clone());
    }
    if let Some(admin) = admin {
        server = server.admin(admin).admin_metrics(log::metrics()?);
    }
    if config.admin_page {
        server = server.admin_page();
    }
    if let Some(token) = config.admin_token {
        server = server.admin_token(token);
    }
    if config.keep_listeners {
        server = server.keep_listeners();
    }
    Ok(server.await?)
}
