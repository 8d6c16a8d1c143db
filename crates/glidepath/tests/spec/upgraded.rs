//! SPEC.md, Upgraded and endless.

use crate::support::http2::{Frame, Http2};
use crate::support::websocket::{CLOSE, TEXT, UPGRADE, WebSocket, message};
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

/// Close 1001, as a server sends it.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// An HTTP/2 connection with a WebSocket on stream 1.
fn websocket_over_http2(server: &Process) -> Http2 {
    let mut client = Http2::connect(server.address());
    assert!(client.takes_websockets, "SETTINGS_ENABLE_CONNECT_PROTOCOL is not there");
    client.extended_connect(1, "/ws");
    client.wait_for("200", |frame| matches!(frame, Frame::Headers { stream: 1, status: 200, ends: false }));
    client
}

/// "WS-1 to WS-5 hold for WebSockets over HTTP/2": as `ws_1`, with the end of the stream for FIN.
#[test]
pub(crate) fn ws_7_over_http2_it_gets_close_1001_and_its_reply_is_awaited() {
    let server = Start::target().start();
    let mut client = websocket_over_http2(&server);
    client.data(1, &message(TEXT, b"hello"), false);
    let echo = [&[0x81, 5][..], b"hello"].concat();
    client.wait_for("the echo", |frame| *frame == Frame::Data { stream: 1, bytes: echo.clone(), ends: false });
    assert!(client.stays_open_for(ms(500)), "the control: without a signal it stays open");
    let signal = server.terminate();
    let close = Frame::Data { stream: 1, bytes: GOING_AWAY.to_vec(), ends: false };
    let ping = client.wait_for("the PING", |frame| matches!(frame, Frame::Ping { ack: false, .. }));
    let Frame::Ping { payload, .. } = ping else { unreachable!("it was waited for") };
    client.acknowledge(payload);
    client.wait_for("Close 1001", |frame| *frame == close);
    assert!(signal.elapsed() < ms(250), "Close only {:?} after the signal", signal.elapsed());
    client.wait_at_most(ms(1500));
    let silence = client.try_frame().expect_err("the reply is awaited");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock, "the connection is open");
    client.wait_at_most(PATIENCE);
    client.data(1, &message(CLOSE, &1001_u16.to_be_bytes()), false);
    assert_eq!(client.frame(), Frame::Data { stream: 1, bytes: Vec::new(), ends: true }, "the end of the stream");
    client.data(1, &[], true);
    assert_eq!(client.end(), (Vec::new(), End::Fin));
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["requests"]["answered"], PROBE + 1);
}

/// As `ws_3`: "a peer that does not answer the Close is cut after 5 s (setting), not at the deadline". The other streams of
/// its connection go on.
#[test]
pub(crate) fn ws_7_over_http2_a_peer_that_does_not_answer_the_close_is_cut_after_5_s() {
    let server = Start::target().start();
    let mut client = websocket_over_http2(&server);
    client.get(3, "/sleep?ms=7000");
    client.get(5, "/");
    assert_eq!(client.response(5).0, 200, "stream 3 was opened before it");
    let signal = server.terminate();
    client.wait_for("Close 1001", |frame| *frame == Frame::Data { stream: 1, bytes: GOING_AWAY.to_vec(), ends: false });
    client.wait_for("the end of the stream", |frame| matches!(frame, Frame::Data { stream: 1, ends: true, .. }));
    let took = signal.elapsed();
    assert!((ms(4500)..ms(6500)).contains(&took), "cut {took:?} after the signal");
    assert_eq!(client.response(3), (200, "slept".into()));
    server.exit().assert_code(0);
}

/// As `ws_4`: between the two GOAWAYs, 200 and then 1001.
#[test]
pub(crate) fn ws_7_over_http2_one_that_is_asked_for_between_the_goaways() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=1000");
    client.get(3, "/");
    assert_eq!(client.response(3).0, 200, "stream 1 was opened before it");
    server.terminate();
    let ping = client.wait_for("the PING", |frame| matches!(frame, Frame::Ping { ack: false, .. }));
    let Frame::Ping { payload, .. } = ping else { unreachable!("it was waited for") };
    client.extended_connect(5, "/ws");
    client.acknowledge(payload);
    client.wait_for("200", |frame| matches!(frame, Frame::Headers { stream: 5, status: 200, ends: false }));
    client.wait_for("Close 1001", |frame| *frame == Frame::Data { stream: 5, bytes: GOING_AWAY.to_vec(), ends: false });
    client.data(5, &message(CLOSE, &1001_u16.to_be_bytes()), true);
    client.wait_for("the end of the stream", |frame| matches!(frame, Frame::Data { stream: 5, ends: true, .. }));
    assert_eq!(client.response(1), (200, "slept".into()));
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
