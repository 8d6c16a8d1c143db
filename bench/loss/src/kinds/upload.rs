//! Bodies that take a while to send, by turns with a length and chunked.

use std::time::Duration;

use tokio::time::sleep;

use crate::client::{Client, Next};
use crate::judge::End;
use crate::wire::Wire;

const PIECE: usize = 8 * 1024;

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        while client.goes_on() && upload(client, &mut wire).await == Next::Again {
            client.think(20).await;
        }
    }
}

async fn upload(client: &mut Client<'_>, wire: &mut Wire) -> Next {
    let pieces = client.rng.usize(1..=20);
    let pause = Duration::from_millis(client.rng.u64(0..=10));
    let chunked = client.rng.bool();
    let length = pieces * PIECE;
    let framing = if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {length}") };
    let head = format!("POST /echo HTTP/1.1\r\nhost: loss\r\n{framing}\r\n\r\n");
    if client.send(wire, head.as_bytes(), 1).await == Next::Gone {
        return Next::Gone;
    }
    // A server that stops reading may have answered: what it said is read in any case.
    let _its_answer_tells = body(wire, pieces, chunked, pause).await;
    let response = wire.response().await;
    client.settle(wire, response, length.to_string().as_bytes()).await
}

async fn body(wire: &mut Wire, pieces: usize, chunked: bool, pause: Duration) -> Result<(), End> {
    let piece = [b'x'; PIECE];
    let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &piece, b"\r\n"].concat();
    for _ in 0..pieces {
        wire.send_more(if chunked { &chunk } else { &piece }).await?;
        sleep(pause).await;
    }
    if chunked { wire.send_more(b"0\r\n\r\n").await } else { Ok(()) }
}
