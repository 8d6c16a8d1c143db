//! A few streams at a time on one connection. A stream above GOAWAY's last id was not taken, and the client knows.

use futures_util::future::join_all;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::judge::{Answer, End};
use crate::wire::PATIENCE;

type Sender = SendRequest<&'static [u8]>;

pub(super) async fn run(client: &mut Client<'_>) {
    client.h2 = true;
    while let Some(wire) = client.open().await {
        let Ok(Ok((sender, connection))) = timeout(PATIENCE, Builder::new().handshake(wire.into_stream())).await else {
            // Nothing was asked yet.
            client.tally.at_rest += 1;
            continue;
        };
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        converse(client, sender).await;
        let end = timeout(PATIENCE, driver.join_next()).await;
        if let Ok(Some(Ok(Err(error)))) = end {
            if end_of(&error) == Some(End::Reset) {
                client.tally.reset_at_rest += 1;
                client.say("an HTTP/2 connection was reset");
            }
        }
    }
}

async fn converse(client: &mut Client<'_>, mut sender: Sender) {
    while client.goes_on() {
        let sent_at = Instant::now();
        let mut streams = Vec::new();
        for _ in 0..client.rng.u32(1..=4) {
            sender = match sender.ready().await {
                Ok(sender) => sender,
                Err(error) => {
                    settle(client, streams, sent_at).await;
                    return ended(client, &error);
                }
            };
            let request = Request::get("http://loss/").body(()).expect("it is a request");
            // Refused here, nothing was written.
            if let Ok((response, _)) = sender.send_request(request, true) {
                client.tally.sent += 1;
                streams.push(response);
            }
        }
        settle(client, streams, sent_at).await;
        client.think(5).await;
    }
}

async fn settle(client: &mut Client<'_>, streams: Vec<ResponseFuture>, sent_at: Instant) {
    for got in join_all(streams.into_iter().map(|stream| timeout(PATIENCE, body(stream)))).await {
        let (answer, told) = got.unwrap_or((Answer::None(End::Silence), false));
        // With GOAWAY a server can tell what it took: no stream is excused as raced.
        let since = sent_at.elapsed().max(crate::judge::CROSSING * 2);
        client.judge_at(answer, told, sent_at, since);
    }
}

/// How much of the answer came, and whether the server said that it took no such stream.
async fn body(stream: ResponseFuture) -> (Answer, bool) {
    let response = match stream.await {
        Ok(response) => response,
        Err(error) => {
            let untaken =
                error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
            return (Answer::None(end_of(&error).unwrap_or(End::Fin)), untaken);
        }
    };
    let ok = response.status() == 200;
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(error) => return (Answer::Part(end_of(&error).unwrap_or(End::Fin)), false),
        }
    }
    (if ok && bytes == b"ok" { Answer::Whole } else { Answer::Wrong }, false)
}

/// Found before anything was sent.
fn ended(client: &mut Client<'_>, error: &h2::Error) {
    if error.is_go_away() {
        client.tally.told_close += 1;
    } else {
        // A reset is counted where the connection is seen to end.
        client.tally.at_rest += 1;
    }
}

fn end_of(error: &h2::Error) -> Option<End> {
    error.get_io().map(|error| match error.kind() {
        // So h2 calls the FIN that came while streams were open.
        std::io::ErrorKind::BrokenPipe => End::Fin,
        _ => End::of(error),
    })
}
