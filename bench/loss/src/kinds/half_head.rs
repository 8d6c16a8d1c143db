//! A head whose last bytes come after the signal. Its first byte is a request: the server owes the answer.

use super::keep_alive::GET;
use crate::client::{Client, Next};
use crate::wire::Wire;

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        while client.goes_on() && ask(client, &mut wire).await == Next::Again {
            client.think(20).await;
        }
    }
}

async fn ask(client: &mut Client<'_>, wire: &mut Wire) -> Next {
    let cut = client.rng.usize(1..GET.len());
    if client.send(wire, &GET[..cut], 1).await == Next::Gone {
        return Next::Gone;
    }
    client.past_the_signal(300).await;
    // No look in between. A server that gave up may have said so: that is read in any case.
    let _its_answer_tells = wire.send_more(&GET[cut..]).await;
    let response = wire.response().await;
    client.settle(wire, response, b"ok").await
}
