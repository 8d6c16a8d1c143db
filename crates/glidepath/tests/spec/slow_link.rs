//! Where packets take their time, and what the two sides send crosses on its way: rows of several sections of SPEC.md.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::support::http2::{ANY_STREAM, Frame, Http2};
use crate::support::slow_link::{Link, over_a_slow_link};
use crate::support::websocket::WebSocket;
use crate::support::*;

/// Longer than a busy machine needs from the signal to what it brings about.
const ONE_WAY: Duration = ms(300);

/// "after FIN the socket is read and thrown away until the peer acknowledged the FIN (or a bound), so that late bytes do
/// not turn into RST; such bytes are counted in the report as 'raced'"
///
/// The request and the FIN are under way at the same time.
#[test]
pub(crate) fn idle_7_a_request_that_crosses_the_fin_is_thrown_away_and_counted() {
    over_a_slow_link(ms(0), |link| {
        let server = served_from_afar(link, ONE_WAY);
        let mut client = Client::at_rest(server.address());
        sleep(QUIET + ONE_WAY);
        client.get("/");
        let signal = server.terminate();
        assert_eq!(client.end(), End::Fin);
        let exit = server.exit();
        exit.assert_code(0);
        assert!(!link.has_reset(client.socket()));
        let report = exit.report();
        let connections = &report["connections"];
        assert_eq!((&connections["raced"], &connections["at_rest"]), (&1.into(), &1.into()), "{report}");
        assert_eq!(report["requests"]["started"], PROBE + 1, "{report}");
        let took = exit.at - signal;
        assert!(took > 2 * ONE_WAY, "exit {took:?} after the signal: the FIN was not acknowledged yet");
        assert!(took < ms(2500), "exit {took:?} after the signal");
    });
}

/// A server whose clients come from afar, but for the first: its seal does not wait for a round trip of theirs, so that its
/// end shows what its connections wait for.
fn served_from_afar(link: &Link, one_way: Duration) -> Process {
    let server = Start::target().start();
    link.takes(one_way);
    server
}

/// The control: where nothing is under way, what is sent before the signal has arrived, and is answered.
#[test]
pub(crate) fn idle_7_without_a_delay_the_request_is_answered() {
    let server = Start::target().start();
    let mut client = Client::at_rest(server.address());
    sleep(QUIET + ms(200));
    client.get("/");
    server.terminate();
    client.response().assert_is(200, "ok");
    assert_eq!(client.end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["raced"], 0, "{}", exit.stderr);
}

/// "(or a bound)": the FIN is lost, or all its acknowledgements are.
#[test]
pub(crate) fn idle_7_a_peer_that_never_acknowledges_the_fin_is_bounded() {
    for fin_is_lost in [true, false] {
        over_a_slow_link(ms(0), |link| {
            let server = served_from_afar(link, ms(50));
            let _client = Client::at_rest(server.address());
            sleep(QUIET + ms(200));
            let port = server.address().port();
            if fin_is_lost {
                link.loses_all_from(port)
            } else {
                link.loses_all_to(port)
            }
            let signal = server.terminate();
            let exit = server.exit();
            exit.assert_code(0);
            let took = exit.at - signal;
            assert!(took > ms(150), "exit {took:?} after the signal: it did not wait a round trip and a half");
            assert!(took < ms(2500), "exit {took:?} after the signal");
            assert_eq!(exit.report()["connections"]["at_rest"], 1, "{}", exit.stderr);
        });
    }
}

/// "a stream opened between the two is served": it and the first GOAWAY are under way at the same time. And H2-1: GOAWAY
/// with the last id only when a round trip has passed, and then FIN.
#[test]
pub(crate) fn h2_2_a_stream_that_crosses_the_goaway_is_served() {
    over_a_slow_link(ONE_WAY, |link| {
        let server = Start::target().start();
        let mut client = Http2::connect(server.address());
        client.get(1, "/");
        assert_eq!(client.response(1).0, 200);
        client.get(3, "/");
        let signal = server.terminate();
        let goaway = client.wait_for("the first GOAWAY", |frame| matches!(frame, Frame::GoAway { .. }));
        assert_eq!(goaway, Frame::GoAway { last_stream: ANY_STREAM, error: 0 });
        assert!(signal.elapsed() < 2 * ONE_WAY, "stream 3 had arrived before the first GOAWAY left");
        let ping = client.wait_for("the PING", |frame| matches!(frame, Frame::Ping { ack: false, .. }));
        let Frame::Ping { payload, .. } = ping else { unreachable!("it was waited for") };
        client.acknowledge(payload);
        assert_eq!(client.response(3), (200, "ok".into()));
        let (frames, end) = client.end();
        assert_eq!((frames.as_slice(), end), (&[Frame::GoAway { last_stream: 3, error: 0 }][..], End::Fin));
        let address = server.address();
        let exit = server.exit();
        exit.assert_code(0);
        assert!(exit.at - signal < ms(3000), "exit {:?} after the signal", exit.at - signal);
        assert_eq!(link.resets_by(address.port()), 0);
    });
}

/// "no established connection is reset": the client's kernel has the server's SYN-ACK, and what it sends then arrives when
/// nothing new is let in any more.
#[test]
pub(crate) fn lis_3_a_handshake_that_is_under_way_at_the_seal_is_served() {
    over_a_slow_link(ONE_WAY, |link| {
        let server = Start::target().start();
        let address = server.address();
        scope(|scope| {
            let client = scope.spawn(move || fetch(address, "/"));
            // The SYN has arrived, and the answer to it has not.
            sleep(ONE_WAY * 3 / 2);
            server.terminate();
            client.join().expect("it is served").assert_is(200, "ok").assert_says_close();
        });
        server.exit().assert_code(0);
        assert_eq!(link.resets_by(address.port()), 0);
    });
}

/// "RST never": not one packet with it leaves the server in an end with clients of every kind.
#[test]
pub(crate) fn idle_1_no_rst_leaves_in_an_end_under_load() {
    for _ in 0..3 {
        let (resets, exit) = resets_in_an_end_under_load(|server| {
            server.terminate();
        });
        let Some(exit) = exit else { return };
        exit.assert_code(0);
        assert_eq!(resets, 0, "resets of established connections; {}", exit.stderr);
        let report = exit.report();
        let count =
            |of: &str, field: &str| report[of][field].as_u64().unwrap_or_else(|| panic!("no {field}: {report}"));
        assert!(count("requests", "answered") > 300, "no load: {report}");
        assert!(count("connections", "at_rest") >= 10 && count("connections", "upgraded") >= 2, "{report}");
    }
}

/// The control of the one before: a server that is killed resets some.
#[test]
fn idle_1_a_server_that_is_killed_under_load_resets() {
    let (resets, exit) = resets_in_an_end_under_load(|server| {
        server.signal(rustix::process::Signal::KILL);
    });
    assert!(exit.is_none() || resets > 0);
}

/// How many connections were reset by the time when the last client has seen the end of its own.
fn resets_in_an_end_under_load(end: impl FnOnce(&Process) + Send) -> (usize, Option<Exit>) {
    let mut ended = (0, None);
    over_a_slow_link(ms(1), |link| {
        let server = Start::target().set("GRACE", 6).start();
        let address = server.address();
        let under_way = AtomicBool::new(true);
        let exit = scope(|scope| {
            let over = TellsOver(&under_way);
            // Quiet since long, when the signal comes.
            let at_rest: Vec<_> = (0..10).map(|_| Client::at_rest(address)).collect();
            sleep(QUIET);
            for client in at_rest {
                scope.spawn(move || reads_to_the_end(client));
            }
            for kind in KINDS {
                for _ in 0..3 {
                    scope.spawn(move || kind(address));
                }
            }
            sleep(ms(600));
            end(&server);
            let exit = server.exit();
            drop(over);
            exit
        });
        ended = (link.resets_by(address.port()), Some(exit));
    });
    ended
}

/// What the clients do; each reads to the end of its connection before it closes.
const KINDS: [fn(SocketAddr); 9] = [
    asks_again_and_again,
    thinks_between_requests,
    connects_for_each_request,
    is_silent,
    sends_half_a_head,
    uploads_what_nobody_reads,
    reads_a_stream,
    chats_over_a_websocket,
    speaks_http2,
];

fn reads_to_the_end(mut client: Client) {
    while client.read_some(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
}

fn asks_again_and_again(server: SocketAddr) {
    asks_with_pauses_of(server, ms(0));
}

fn thinks_between_requests(server: SocketAddr) {
    asks_with_pauses_of(server, ms(20));
}

fn asks_with_pauses_of(server: SocketAddr, pause: Duration) {
    let mut client = Client::connect(server);
    while client.try_send(http1::request("GET", "/", "")).is_ok() {
        let Ok(answer) = client.try_response() else { break };
        if answer.says_close() {
            break;
        }
        sleep(pause);
    }
    reads_to_the_end(client);
}

fn connects_for_each_request(server: SocketAddr) {
    while let Ok(mut client) = Client::try_connect(server) {
        let _gone = client.try_send(http1::request("GET", "/", "connection: close\r\n"));
        reads_to_the_end(client);
    }
}

fn is_silent(server: SocketAddr) {
    reads_to_the_end(Client::accepted(server));
}

/// And finishes it a second later, in the drain.
fn sends_half_a_head(server: SocketAddr) {
    let mut client = Client::connect(server);
    client.send("GET / HTTP/1.1\r\nhost:");
    sleep(ms(1000));
    let _gone = client.try_send(" test\r\n\r\n");
    reads_to_the_end(client);
}

/// Is answered at once, and sends its body all the same.
fn uploads_what_nobody_reads(server: SocketAddr) {
    while let Ok(mut client) = Client::try_connect(server) {
        let pieces = std::iter::repeat_n([b'x'; 8 << 10], 32);
        let _gone =
            client.try_send(http1::request("POST", "/task?ms=0", &format!("content-length: {}\r\n", 32 * (8 << 10))));
        for piece in pieces {
            if client.try_send(piece).is_err() {
                break;
            }
            sleep(ms(2));
        }
        reads_to_the_end(client);
    }
}

fn reads_a_stream(server: SocketAddr) {
    let mut client = Client::connect(server);
    client.get("/stream?chunks=100&ms=15");
    reads_to_the_end(client);
}

fn chats_over_a_websocket(server: SocketAddr) {
    let mut client = WebSocket::open(server);
    client.send(websocket::TEXT, b"hello");
    while let Ok((kind, payload)) = client.try_frame() {
        if kind == 0x80 | websocket::CLOSE {
            client.send(websocket::CLOSE, &payload);
        }
    }
}

fn speaks_http2(server: SocketAddr) {
    let mut client = Http2::connect(server);
    let mut stream = 1;
    client.get(stream, "/");
    loop {
        match client.try_frame() {
            Ok(Frame::Ping { ack: false, payload }) => drop(client.try_acknowledge(payload)),
            Ok(Frame::GoAway { .. }) => stream = u32::MAX,
            Ok(Frame::Data { ends: true, .. }) if stream != u32::MAX => {
                stream += 2;
                drop(client.try_get(stream, "/"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
