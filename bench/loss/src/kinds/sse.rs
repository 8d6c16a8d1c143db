//! An event stream is one request. It is answered when it ends between two events and with the end of its body.

use bytes::BytesMut;

use crate::client::{Client, Next};
use crate::judge::Answer;
use crate::wire::{Framing, Wire};

const GET: &[u8] = b"GET /sse HTTP/1.1\r\nhost: loss\r\naccept: text/event-stream\r\n\r\n";

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        // Like a browser it asks again when a stream has ended, on the same connection if that stays.
        while client.goes_on() && watch(client, &mut wire).await == Next::Again {
            client.think(20).await;
        }
    }
}

async fn watch(client: &mut Client<'_>, wire: &mut Wire) -> Next {
    if client.send(wire, GET, 1).await == Next::Gone {
        return Next::Gone;
    }
    let head = match wire.head().await {
        Ok(head) if head.status == 200 && head.framing == Framing::Chunked => head,
        Ok(_) => {
            client.judge(Answer::Wrong, false, wire);
            return Next::Gone;
        }
        Err(answer) => {
            client.judge(answer, false, wire);
            return Next::Gone;
        }
    };
    let mut last = BytesMut::new();
    while client.goes_on() {
        match wire.chunk().await {
            Ok(Some(chunk)) => last = chunk,
            Ok(None) if last.is_empty() || last.ends_with(b"\n\n") => {
                client.judge(Answer::Whole, false, wire);
                client.tally.goodbyes += 1;
                if head.close {
                    client.farewell(wire).await;
                    return Next::Gone;
                }
                return Next::Again;
            }
            Ok(None) => {
                client.judge(Answer::Part(crate::judge::End::Fin), false, wire);
                return Next::Gone;
            }
            Err(end) => {
                client.judge(Answer::Part(end), false, wire);
                return Next::Gone;
            }
        }
    }
    // The client leaves.
    client.judge(Answer::Whole, false, wire);
    Next::Gone
}
