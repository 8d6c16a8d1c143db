//! A connection for each request: what meets the closing of the listener.

use super::keep_alive::GET;
use crate::client::Client;

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        client.ask(&mut wire, GET, b"ok").await;
        drop(wire);
        client.think(10).await;
    }
}
