//! An answer bigger than the buffers of both sockets, to a client that reads nothing until after the signal, and then
//! little at a time.

use std::time::Duration;

use crate::client::{Client, Next};

/// 240 to 320 KB with the framing. The sockets of such a connection were seen to hold 145 KB.
const CHUNKS: std::ops::RangeInclusive<u32> = 15_000..=20_000;

pub(super) async fn run(client: &mut Client<'_>) {
    client.is_narrow = true;
    while let Some(mut wire) = client.open().await {
        wire.pace = Duration::from_millis(1);
        while client.goes_on() {
            let chunks = client.rng.u32(CHUNKS);
            let request = format!("GET /stream?chunks={chunks}&ms=0 HTTP/1.1\r\nhost: loss\r\n\r\n");
            let expected: String = (0..chunks).map(|n| format!("chunk{n}\n")).collect();
            if client.send(&mut wire, request.as_bytes(), 1).await == Next::Gone {
                break;
            }
            client.past_the_signal(300).await;
            let response = wire.response().await;
            if client.settle(&mut wire, response, expected.as_bytes()).await == Next::Gone {
                break;
            }
        }
    }
}
