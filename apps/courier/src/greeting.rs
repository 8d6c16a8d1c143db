//! The first thing that a person meets: where it listens, or why it can't.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use glidepath::Listener;

use crate::config::{Config, DEFAULT_LISTEN};
use crate::target::Targets;

/// What was handed over by the name `http`, where no address is set; or binds one, which may have been handed over, too.
pub async fn listen(config: &Config) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    if config.listen.is_none() {
        while let Some(listener) = inherited("http")? {
            listeners.push(listener);
        }
    }
    if listeners.is_empty() {
        listeners.push(bind("http", config.listen.unwrap_or(DEFAULT_LISTEN), "--listen").await?);
    }
    Ok(listeners)
}

/// The port for probes, if there is to be one.
pub async fn listen_admin(config: &Config) -> anyhow::Result<Option<Listener>> {
    match config.admin {
        Some(address) => Ok(Some(bind("admin", address, "--admin").await?)),
        None => inherited("admin"),
    }
}

fn inherited(name: &str) -> anyhow::Result<Option<Listener>> {
    #[cfg(unix)]
    return Listener::inherited(name).with_context(|| format!("cannot take over the listener `{name}`"));
    #[cfg(not(unix))]
    Ok(None)
}

/// Binds, or says in one line what to do about it.
async fn bind(name: &str, address: SocketAddr, flag: &str) -> anyhow::Result<Listener> {
    Listener::bind(name, address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; end it, or choose another address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address; choose one it has",
            _ => "choose another address",
        };
        anyhow!("cannot listen on {address} ({error}): {advice} with {flag}")
    })
}

/// Says on standard output where everything is and what to type next.
pub fn say(listeners: &[Listener], config: &Config) {
    use io::Write;
    let address = listeners.iter().find_map(|listener| listener.local_addr().ok());
    let place = address.map_or("a socket that was handed over".to_owned(), |address| format!("http://{address}"));
    let example = match config.targets {
        Targets::Public => "https://example.com/hook",
        Targets::Any => "http://localhost:9000/hook",
    };
    let mut text = format!("courier listens on {place} and keeps its messages in {}\n", config.database);
    if address.is_some() {
        text += &format!(
            "try: curl -i {place}/v1/messages --json '{{\"url\": \"{example}\", \"payload\": {{\"hello\": \"world\"}}}}'\n"
        );
    }
    text += "end: Ctrl-C, and again to stop waiting\n";
    // A closed standard output is no reason to end.
    let _ = io::stdout().write_all(text.as_bytes());
}
