//! Several requests in one write. An answer that says close excuses those behind it; nothing else does.

use std::time::Duration;

use super::keep_alive::GET;
use crate::client::{Client, Next};
use crate::judge::{Answer, CROSSING, End};
use crate::wire::Wire;

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        while client.goes_on() {
            let count = client.rng.u64(2..=8);
            let requests = GET.repeat(usize::try_from(count).unwrap_or(2));
            if client.send(&mut wire, &requests, count).await == Next::Gone || !answers(client, &mut wire, count).await
            {
                break;
            }
            client.think(5).await;
        }
    }
}

/// True when all were answered and the connection stays.
async fn answers(client: &mut Client<'_>, wire: &mut Wire, count: u64) -> bool {
    for answered in 0..count {
        let got = wire.response().await;
        let close = matches!(&got, Ok(response) if response.close);
        let answer = Client::answer_of(&got, b"ok");
        // What came after an answer did not cross a FIN on the wire: the write was one.
        let sent_at = wire.sent_at();
        let least = if answered == 0 { Duration::ZERO } else { CROSSING * 2 };
        let since = wire.since_sent().max(least);
        client.judge_at(answer, false, sent_at, since);
        let rest = count - answered - 1;
        match answer {
            Answer::Whole if close => {
                for _ in 0..rest {
                    client.judge(Answer::None(End::Fin), true, wire);
                }
                client.farewell(wire).await;
                return false;
            }
            Answer::Whole => {}
            Answer::None(end) | Answer::Part(end) => {
                for _ in 0..rest {
                    client.judge_at(Answer::None(end), false, sent_at, since);
                }
                return false;
            }
            Answer::Wrong => {
                client.tally.lost += rest;
                return false;
            }
        }
    }
    true
}
