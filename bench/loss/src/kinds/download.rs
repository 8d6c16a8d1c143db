//! Streamed answers that must come to their end: slow ones of few chunks, and ones too big for the socket's buffers.

use crate::client::{Client, Next};

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        loop {
            let (chunks, ms) = match client.rng.bool() {
                true => (client.rng.u32(5..=40), client.rng.u32(1..=10)),
                false => (client.rng.u32(1_000..=5_000), 0),
            };
            let request = format!("GET /stream?chunks={chunks}&ms={ms} HTTP/1.1\r\nhost: loss\r\n\r\n");
            let expected: String = (0..chunks).map(|n| format!("chunk{n}\n")).collect();
            let next = client.ask(&mut wire, request.as_bytes(), expected.as_bytes()).await;
            if next == Next::Gone || !client.goes_on() {
                break;
            }
            client.think(20).await;
        }
    }
}
