//! Many connects at once, each with its whole request right behind: they fill the accept queue, most of all while the
//! server stands still before the signal.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::keep_alive::GET;
use crate::client::Client;

const CONNECTS: usize = 16;

pub(super) async fn run(client: &mut Client<'_>) {
    while client.goes_on() {
        let twins: Vec<_> = (0..CONNECTS).map(|_| client.twin()).collect();
        for tally in join_all(twins.into_iter().map(once)).await {
            client.tally.add(tally);
        }
        client.connected();
        // Who was refused is done, as in every kind. All have come when one has.
        if client.tally.refused > 0 {
            return;
        }
        let pause = Duration::from_millis(client.rng.u64(50..=300));
        if client.round.frozen.get().is_none() {
            let _or_frozen = timeout(pause, client.round.frozen.wait()).await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn once(mut client: Client<'_>) -> crate::tally::Tally {
    if let Some(mut wire) = client.open().await {
        client.ask(&mut wire, GET, b"ok").await;
    }
    client.count()
}
