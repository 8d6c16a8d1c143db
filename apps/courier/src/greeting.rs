//! The first thing that a person meets: where it listens, or why it can't.

use std::io;
use std::net::SocketAddr;

use anyhow::anyhow;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::target::Targets;

/// Binds, or says in one line what to do about it.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there; end it, or choose another address with --listen"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher one with --listen",
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address; choose one it has with --listen"
            }
            _ => "choose another address with --listen",
        };
        anyhow!("cannot listen on {address} ({error}): {advice}")
    })
}

/// Says on standard output where everything is and what to type next.
pub fn say(listener: &TcpListener, config: &Config) {
    use io::Write;
    let address = listener.local_addr().unwrap_or(config.listen);
    let example = match config.targets {
        Targets::Public => "https://example.com/hook",
        Targets::Any => "http://localhost:9000/hook",
    };
    let text = format!(
        "courier listens on http://{address} and keeps its messages in {}\n\
         try: curl -i http://{address}/v1/messages --json '{{\"url\": \"{example}\", \"payload\": {{\"hello\": \"world\"}}}}'\n\
         end: Ctrl-C, and again to stop waiting\n",
        config.database
    );
    // A closed standard output is no reason to end.
    let _ = io::stdout().write_all(text.as_bytes());
}
