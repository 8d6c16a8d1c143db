//! Messages with an echo each. The WebSocket itself is one request too: answered when the server says Close before it
//! goes, truncated when it is gone without.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::Client;
use crate::judge::{Answer, End};
use crate::stream::{Look, Stream};
use crate::wire::PATIENCE;

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        if !client.still_open(wire.look()) {
            continue;
        }
        client.tally.sent += 1;
        let asked = Instant::now();
        let url = format!("ws://{}/ws", client.round.address);
        match timeout(PATIENCE, client_async(url, wire.into_stream())).await {
            Ok(Ok((mut socket, _))) => {
                let answer = talk(client, &mut socket).await;
                client.judge_at(answer, false, asked, asked.elapsed());
            }
            Ok(Err(tungstenite::Error::Http(response))) if response.status() == 503 => {
                // In the drain an upgrade may be turned down, with a whole answer.
                client.judge_at(Answer::None(End::Fin), true, asked, asked.elapsed());
                client.tally.told_close += 1;
            }
            Ok(Err(error)) => drop(client.judge_at(Answer::None(end_of(&error)), false, asked, asked.elapsed())),
            Err(_) => drop(client.judge_at(Answer::None(End::Silence), false, asked, asked.elapsed())),
        }
    }
}

/// What became of the WebSocket as a whole.
async fn talk(client: &mut Client<'_>, socket: &mut WebSocketStream<Stream>) -> Answer {
    while client.goes_on() {
        let text = "x".repeat(client.rng.usize(1..=300));
        let asks = !client.looks || socket.get_mut().look() == Look::Quiet;
        let sent_at = Instant::now();
        if asks {
            client.tally.sent += 1;
            if let Err(error) = socket.send(Message::text(text.as_str())).await {
                let end = end_of(&error);
                client.judge_at(Answer::None(end), false, sent_at, sent_at.elapsed());
                return Answer::Part(end);
            }
        }
        match timeout(PATIENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(echo)))) if asks && echo.as_str() == text => {
                client.judge_at(Answer::Whole, false, sent_at, sent_at.elapsed());
            }
            Ok(Some(Ok(Message::Close(frame)))) => {
                if asks {
                    client.judge_at(Answer::None(End::Fin), true, sent_at, sent_at.elapsed());
                }
                let proper = [CloseCode::Normal, CloseCode::Away, CloseCode::Restart];
                if !frame.is_some_and(|frame| proper.contains(&frame.code)) {
                    return Answer::Wrong;
                }
                return goodbye(client, socket).await;
            }
            other => {
                let end = match other {
                    Ok(Some(Err(error))) => end_of(&error),
                    Ok(Some(Ok(_)) | None) => End::Fin,
                    Err(_) => End::Silence,
                };
                if asks {
                    client.judge_at(Answer::None(end), false, sent_at, sent_at.elapsed());
                }
                return Answer::Part(end);
            }
        }
        sleep(Duration::from_millis(client.rng.u64(0..=20))).await;
    }
    // The client leaves, without waiting for the server's reply.
    let _left = socket.close(None).await;
    Answer::Whole
}

/// Close came; tungstenite answers it. FIN must follow.
async fn goodbye(client: &mut Client<'_>, socket: &mut WebSocketStream<Stream>) -> Answer {
    loop {
        match timeout(PATIENCE, socket.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(None | Some(Err(tungstenite::Error::ConnectionClosed))) => break,
            Ok(Some(Err(error))) => return Answer::None(end_of(&error)),
            Err(_) => return Answer::None(End::Silence),
        }
    }
    client.tally.goodbyes += 1;
    Answer::Whole
}

fn end_of(error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Io(error) => End::of(error),
        _ => End::Fin,
    }
}
