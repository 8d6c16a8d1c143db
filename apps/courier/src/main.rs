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
    log::start(&config)?;

    let listener = greeting::listen(config.listen).await?;
    let store = store::Store::open(&config.database).await?;
    lifecycle.on_close("database", store.clone().close()); // after the requests and the deliveries, which write to it

    deliver::start(&lifecycle, &store, &config)?;
    let app = api::router(&store, lifecycle.drain(), &config);

    greeting::say(&listener, &config);
    // The feed is asked for with GET, by HTTP/1.1.
    let server = lifecycle.serve(listener, app).websockets_over_http2(false);
    Ok(server.lame_duck(config.lame_duck).grace(config.grace).await?)
}
