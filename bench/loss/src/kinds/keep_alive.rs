//! One request after the other on one connection, until the server ends it; then on a new one, until that is refused.

use crate::client::{Client, Next};

pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: loss\r\n\r\n";

/// `think` is the most milliseconds between an answer and the next request.
pub(super) async fn run(client: &mut Client<'_>, think: u64) {
    while let Some(mut wire) = client.open().await {
        while client.goes_on() && client.ask(&mut wire, GET, b"ok").await == Next::Again {
            client.think(think).await;
        }
    }
}
