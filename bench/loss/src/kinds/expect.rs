//! `Expect: 100-continue`: the body waits for the server's word, and then for the signal.

use crate::client::{Client, Next};
use crate::judge::{Answer, End};
use crate::wire::Wire;

const BODY: &[u8] = &[b'x'; 4000];
const HEAD: &[u8] = b"POST /echo HTTP/1.1\r\nhost: loss\r\nexpect: 100-continue\r\ncontent-length: 4000\r\n\r\n";

pub(super) async fn run(client: &mut Client<'_>) {
    while let Some(mut wire) = client.open().await {
        while client.goes_on() && ask(client, &mut wire).await == Next::Again {
            client.think(20).await;
        }
    }
}

async fn ask(client: &mut Client<'_>, wire: &mut Wire) -> Next {
    if client.send(wire, HEAD, 1).await == Next::Gone {
        return Next::Gone;
    }
    let head = match wire.head().await {
        Ok(head) => head,
        Err(answer) => {
            client.judge(answer, false, wire);
            return Next::Gone;
        }
    };
    if head.status == 100 {
        client.past_the_signal(300).await;
        let _its_answer_tells = wire.send_more(BODY).await;
        let response = wire.response().await;
        return client.settle(wire, response, b"4000").await;
    }
    // A last word instead: the body was not asked for, and the client knows.
    match wire.body(head).await {
        Ok(response) if response.close && matches!(response.status, 417 | 503) => {
            client.judge(Answer::None(End::Fin), true, wire);
            client.farewell(wire).await;
        }
        Ok(_) => drop(client.judge(Answer::Wrong, false, wire)),
        Err(answer) => drop(client.judge(answer, false, wire)),
    }
    Next::Gone
}
