//! SPEC.md, Upgraded and endless.

use crate::support::websocket::{CLOSE, TEXT, UPGRADE, WebSocket};
use crate::support::*;

/// "a WebSocket gets Close 1001 […] at the drain, at a frame boundary; its reply is awaited; then FIN"
#[test]
pub(crate) fn ws_1_a_websocket_gets_close_1001_and_its_reply_is_awaited() {
    let server = Start::target().start();
    let mut client = WebSocket::open(server.address());
    client.send(TEXT, b"hello");
    assert_eq!(client.frame(), (0x80 | TEXT, b"hello".to_vec()));
    assert!(client.http().stays_silent_for(ms(500)), "the control: without a signal it stays open");
    let signal = server.terminate();
    assert_eq!(client.close_code(), 1001);
    assert!(signal.elapsed() < ms(250), "Close only {:?} after the signal", signal.elapsed());
    assert!(client.http().stays_silent_for(ms(500)), "the reply was not awaited");
    client.send(CLOSE, &1001_u16.to_be_bytes());
    assert_eq!(client.http().end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["upgraded"], 1);
}

/// "a peer that does not answer the Close is cut after 5 s (setting), not at the deadline"
#[test]
pub(crate) fn ws_3_a_peer_that_does_not_answer_the_close_is_cut_after_5_s() {
    let server = Start::target().start();
    let mut client = WebSocket::open(server.address());
    let signal = server.terminate();
    assert_eq!(client.close_code(), 1001);
    let exit = server.exit();
    let took = exit.at - signal;
    assert!((ms(4500)..ms(6500)).contains(&took), "exit {took:?} after the signal");
}

/// "an upgrade asked for in the drain: 503 with close, or 101 and then 1001"
#[test]
pub(crate) fn ws_4_an_upgrade_asked_for_in_the_drain() {
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.start_head("GET", "/ws", UPGRADE);
    server.terminate();
    server.wait_for_seal();
    client.finish_head();
    let answer = client.head();
    match answer.status {
        101 => {
            let mut client = WebSocket::over(client);
            assert_eq!(client.close_code(), 1001);
            client.send(CLOSE, &1001_u16.to_be_bytes());
            assert_eq!(client.http().end(), End::Fin);
        }
        503 => {
            answer.assert_says_close();
        }
        other => panic!("neither 101 nor 503: {other}"),
    }
    server.exit().assert_code(0);
}

/// "`text/event-stream` responses are ended at an event boundary, with a proper end of body, at the drain"
#[test]
pub(crate) fn sse_1_an_event_stream_is_ended_properly_at_the_drain() {
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.get("/sse");
    assert_eq!(client.head().header("content-type"), Some("text/event-stream"));
    let mut events = Vec::new();
    while events.len() < 5 * b"data: x\n\n".len() {
        events.extend(client.chunk().expect("the control: without a signal it does not end"));
    }
    let signal = server.terminate();
    while let Some(chunk) = client.chunk() {
        events.extend(chunk);
        assert!(signal.elapsed() < ms(1000), "still going on {:?} after the signal", signal.elapsed());
    }
    assert_eq!(String::from_utf8_lossy(&events).replace("data: x\n\n", ""), "", "not ended at an event boundary");
    assert_eq!(client.end(), End::Fin);
    server.exit().assert_code(0);
}
