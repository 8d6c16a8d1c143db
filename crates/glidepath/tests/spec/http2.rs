//! SPEC.md, HTTP/2.

use std::time::Instant;

use crate::support::http2::{ANY_STREAM, Frame, Http2};
use crate::support::*;

/// "GOAWAY(2^31-1), one round trip (PING), GOAWAY(last id), streams up to it finish, FIN"
#[test]
pub(crate) fn h2_1_two_goaways_a_round_trip_apart_and_streams_finish() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/");
    assert_eq!(client.response(1), (200, "ok".into()), "the control");
    client.get(3, "/sleep?ms=1000");
    client.get(5, "/stream?chunks=5&ms=200");
    client.wait_for("the stream's head", |frame| matches!(frame, Frame::Headers { stream: 5, status: 200, .. }));
    server.terminate();

    let first = client.wait_for("the first GOAWAY", is_goaway);
    assert_eq!(first, Frame::GoAway { last_stream: ANY_STREAM, error: 0 });
    let ping = ping_of(&client.wait_for("the PING", is_ping));
    client.acknowledge(ping);
    let mut sleeper = (0, String::new());
    let mut streamed = String::new();
    let mut last = None;
    let end = loop {
        match client.try_frame() {
            Ok(Frame::Headers { stream: 3, status, .. }) => sleeper.0 = status,
            Ok(Frame::Data { stream: 3, bytes, .. }) => sleeper.1.push_str(&String::from_utf8_lossy(&bytes)),
            Ok(Frame::Data { stream: 5, bytes, .. }) => streamed.push_str(&String::from_utf8_lossy(&bytes)),
            Ok(Frame::GoAway { last_stream, error }) => last = Some((last_stream, error)),
            Ok(Frame::Reset { stream, error }) => panic!("stream {stream} was reset with error {error}"),
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(last, Some((5, 0)), "the last GOAWAY");
    assert_eq!(sleeper, (200, "slept".into()));
    assert_eq!(streamed, "chunk0\nchunk1\nchunk2\nchunk3\nchunk4\n");
    assert_eq!(end, std::io::ErrorKind::UnexpectedEof, "FIN");
    server.exit().assert_code(0);
}

/// "a stream opened between the two is served"
#[test]
pub(crate) fn h2_2_a_stream_opened_between_the_goaways_is_served() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=800");
    client.get(3, "/");
    assert_eq!(client.response(3).0, 200, "the control; stream 1 was opened before it");
    server.terminate();
    client.wait_for("the first GOAWAY", is_goaway);
    let ping = ping_of(&client.wait_for("the PING", is_ping));
    client.get(5, "/");
    client.acknowledge(ping);
    assert_eq!(client.response(5), (200, "ok".into()));
    server.exit().assert_code(0);
}

/// "one above the last id is not processed and the client can tell"
#[test]
pub(crate) fn h2_2_a_stream_above_the_last_id_is_not_processed() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=800");
    client.get(3, "/");
    assert_eq!(client.response(3).0, 200, "the control; stream 1 was opened before it");
    server.terminate();
    client.wait_for("the first GOAWAY", is_goaway);
    let ping = ping_of(&client.wait_for("the PING", is_ping));
    client.acknowledge(ping);
    let last = client.wait_for("the last GOAWAY", is_goaway);
    assert_eq!(last, Frame::GoAway { last_stream: 3, error: 0 });
    client.get(5, "/");
    let (frames, end) = client.end();
    let processed =
        frames.iter().any(|frame| matches!(frame, Frame::Headers { stream: 5, .. } | Frame::Data { stream: 5, .. }));
    assert!(!processed, "stream 5 was answered: {frames:?}");
    assert!(
        frames.iter().any(|frame| matches!(frame, Frame::Headers { stream: 1, status: 200, .. })),
        "stream 1 was not: {frames:?}"
    );
    assert_eq!(end, End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["requests"]["started"], PROBE + 2);
}

/// "an idle connection: GOAWAY, then FIN, promptly"
#[test]
pub(crate) fn h2_3_an_idle_connection_ends_promptly() {
    for has_served in [true, false] {
        let server = Start::target().start();
        let mut client = Http2::connect(server.address());
        if has_served {
            client.get(1, "/");
            assert_eq!(client.response(1).0, 200);
        }
        assert!(client.stays_open_for(ms(1000)), "the control: without a signal it stays open");
        let signal = server.terminate();
        client.wait_for("the first GOAWAY", is_goaway);
        let ping = ping_of(&client.wait_for("the PING", is_ping));
        client.acknowledge(ping);
        let (frames, end) = client.end();
        assert_eq!(end, End::Fin, "after {frames:?}");
        let exit = server.exit();
        exit.assert_code(0);
        assert!(exit.at - signal < ms(350), "exit {:?} after the signal", exit.at - signal);
    }
}

/// "a peer that never acknowledges the PING, one that ignores GOAWAY, one that never sends its preface: bounded"
#[test]
pub(crate) fn h2_4_a_peer_that_never_acknowledges_the_ping_is_bounded() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/");
    assert_eq!(client.response(1).0, 200);
    let signal = server.terminate();
    client.wait_for("the PING", is_ping);
    let exit = server.exit_within(ms(15_000));
    exit.assert_code(0);
    assert!(exit.at - signal < ms(10_000), "exit {:?} after the signal", exit.at - signal);
}

/// The same, "one that ignores GOAWAY": it opens streams as long as it can.
#[test]
pub(crate) fn h2_4_a_peer_that_ignores_goaway_is_bounded() {
    let server = Start::target().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/");
    assert_eq!(client.response(1).0, 200);
    let signal = server.terminate();
    client.wait_at_most(ms(5));
    let mut stream = 3;
    while client.try_get(stream, "/").is_ok() && signal.elapsed() < ms(15_000) {
        stream += 2;
        if let Ok(Frame::Ping { ack: false, payload }) = client.try_frame() {
            let _gone = client.try_acknowledge(payload);
        }
    }
    let exit = server.exit_within(ms(5_000));
    exit.assert_code(0);
    assert!(exit.at - signal < ms(10_000), "exit {:?} after the signal", exit.at - signal);
}

/// The same, "one that never sends its preface", or only half of it.
#[test]
pub(crate) fn h2_4_half_a_preface_is_bounded() {
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.send(&http2::PREFACE[..12]).until_read();
    let started = Instant::now();
    server.terminate();
    let exit = server.exit_within(ms(15_000));
    exit.assert_code(0);
    assert!(exit.at - started < ms(12_000), "exit {:?} after half a preface", exit.at - started);
}

/// "a preface that comes after the signal gets GOAWAY at once"
#[test]
pub(crate) fn h2_5_a_preface_after_the_signal_gets_goaway_at_once() {
    let server = Start::target().start();
    let mut client = Http2::silent(server.address());
    client.until_accepted();
    server.terminate();
    server.wait_for_seal();
    client.preface();
    let sent = Instant::now();
    client.wait_for("GOAWAY", is_goaway);
    assert!(sent.elapsed() < ms(250), "GOAWAY only {:?} after the preface", sent.elapsed());
    server.exit().assert_code(0);
}

fn is_goaway(frame: &Frame) -> bool {
    matches!(frame, Frame::GoAway { .. })
}

fn is_ping(frame: &Frame) -> bool {
    matches!(frame, Frame::Ping { ack: false, .. })
}

fn ping_of(frame: &Frame) -> [u8; 8] {
    let Frame::Ping { payload, .. } = frame else { panic!("not a PING: {frame:?}") };
    *payload
}
