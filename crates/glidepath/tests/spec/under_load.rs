//! SPEC.md, HTTP/1 at rest: an end with clients of every kind, of which none may meet a reset.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::support::http2::{Frame, Http2};
use crate::support::network::{in_a_network_of_its_own, resets_sent};
use crate::support::websocket::WebSocket;
use crate::support::*;

/// "RST never": not one packet with it leaves the server in an end with clients of every kind.
///
/// Three ends without any, of at most six: a busy machine may hold a client up for longer than the server is patient (a quiet
/// window, and over TLS two round trips), and then its bytes come too late. Without that patience there are some in every end.
#[test]
pub(crate) fn idle_1_no_rst_leaves_in_an_end_under_load() {
    let mut resets = Vec::new();
    while resets.iter().filter(|resets| **resets == 0).count() < 3 {
        assert!(resets.len() < 6, "resets of established connections, in each end: {resets:?}");
        let ended = resets_in_an_end_under_load(|server| {
            server.terminate();
        });
        let Some((sent, exit)) = ended else { return };
        resets.push(sent);
        exit.assert_code(0);
        let report = exit.report();
        let count =
            |of: &str, field: &str| report[of][field].as_u64().unwrap_or_else(|| panic!("no {field}: {report}"));
        assert!(count("requests", "answered_late") > 0 && count("connections", "upgraded") >= 2, "{report}");
    }
}

/// The control of the one before: a server that is killed resets some.
#[test]
fn idle_1_a_server_that_is_killed_under_load_resets() {
    let ended = resets_in_an_end_under_load(|server| {
        server.signal(rustix::process::Signal::KILL);
    });
    assert!(ended.is_none_or(|(resets, _)| resets > 0));
}

/// How many connections were reset by the time when the last client has seen the end of its own, and how the server ended.
fn resets_in_an_end_under_load(end: impl FnOnce(&Process) + Send) -> Option<(u64, Exit)> {
    let mut ended = None;
    in_a_network_of_its_own(|| {
        let server = Start::target().set("GRACE", 6).start();
        let load = Load { server: server.address(), held: AtomicUsize::new(0), answers: AtomicUsize::new(0) };
        // Quiet since long, when the signal comes.
        let at_rest: Vec<_> = (0..10).map(|_| Client::at_rest(load.server)).collect();
        sleep(QUIET);
        // Over TLS the first client, which closed by itself, met the server's close_notify with one.
        let before = resets_sent();
        let load = &load;
        let (refused, exit) = scope(|scope| {
            for client in at_rest {
                scope.spawn(move || reads_to_the_end(client));
            }
            let clients = KINDS.into_iter().flat_map(|kind| [kind; 3]).map(|kind| scope.spawn(move || kind(load)));
            let clients: Vec<_> = clients.collect();
            wait_until("the clients are at it", || {
                load.held.load(Ordering::Relaxed) == HELD && load.answers.load(Ordering::Relaxed) > ENOUGH
            });
            end(&server);
            let exit = server.exit();
            (clients.into_iter().map(|client| client.join().expect("no client panics")).sum::<u64>(), exit)
        });
        // A refused connect is answered with a reset, too.
        ended = Some((resets_sent() - before - refused, exit));
    });
    ended
}

/// The connections of the clients that have only one.
const HELD: usize = 7 * 3;
/// The answers that were had by then.
const ENOUGH: usize = 60;

/// What the clients share.
struct Load {
    server: SocketAddr,
    held: AtomicUsize,
    answers: AtomicUsize,
}

impl Load {
    fn is_held(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the clients do; each reads to the end of its connection before it closes, and says how often it was refused one.
const KINDS: [fn(&Load) -> u64; 9] = [
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

fn reads_to_the_end(mut client: Client) -> u64 {
    while client.read_some(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    0
}

fn asks_again_and_again(load: &Load) -> u64 {
    asks_with_pauses_of(load, ms(0))
}

fn thinks_between_requests(load: &Load) -> u64 {
    asks_with_pauses_of(load, ms(20))
}

fn asks_with_pauses_of(load: &Load, pause: Duration) -> u64 {
    let mut client = Client::connect(load.server);
    load.is_held();
    while client.try_send(http1::request("GET", "/", "")).is_ok() {
        let Ok(answer) = client.try_response() else { break };
        load.answers.fetch_add(1, Ordering::Relaxed);
        if answer.says_close() {
            break;
        }
        sleep(pause);
    }
    reads_to_the_end(client)
}

fn connects_for_each_request(load: &Load) -> u64 {
    asks_on_new_connections(load, &[http1::request("GET", "/", "connection: close\r\n")])
}

/// Is answered before its body was read, and goes on with it behind the server's FIN.
fn uploads_what_nobody_reads(load: &Load) -> u64 {
    const PIECE: usize = 8 << 10;
    const PIECES: usize = 8;
    let head = http1::request("POST", "/task?ms=0", &format!("content-length: {}\r\n", PIECES * PIECE));
    let pieces: Vec<_> = std::iter::once(head).chain((0..PIECES).map(|_| "x".repeat(PIECE))).collect();
    asks_on_new_connections(load, &pieces)
}

/// Until it is refused one. What it asks for goes out in pieces, with pauses between them.
fn asks_on_new_connections(load: &Load, request: &[String]) -> u64 {
    while let Ok(mut client) = Client::try_connect(load.server) {
        for (nth, piece) in request.iter().enumerate() {
            if nth > 0 {
                sleep(ms(2));
            }
            let _gone = client.try_send(piece);
        }
        reads_to_the_end(client);
        load.answers.fetch_add(1, Ordering::Relaxed);
    }
    1
}

fn is_silent(load: &Load) -> u64 {
    let client = Client::accepted(load.server);
    load.is_held();
    reads_to_the_end(client)
}

/// And finishes it a second later, in the drain.
fn sends_half_a_head(load: &Load) -> u64 {
    let mut client = Client::connect(load.server);
    client.send("GET / HTTP/1.1\r\nhost:");
    load.is_held();
    sleep(ms(1000));
    let _gone = client.try_send(" test\r\n\r\n");
    reads_to_the_end(client)
}

fn reads_a_stream(load: &Load) -> u64 {
    let mut client = Client::connect(load.server);
    client.get("/stream?chunks=100&ms=15");
    load.is_held();
    reads_to_the_end(client)
}

fn chats_over_a_websocket(load: &Load) -> u64 {
    let mut client = WebSocket::open(load.server);
    client.send(websocket::TEXT, b"hello");
    load.is_held();
    while let Ok((kind, payload)) = client.try_frame() {
        if kind == 0x80 | websocket::CLOSE {
            client.send(websocket::CLOSE, &payload);
        }
    }
    0
}

/// Opens a stream after the other, until it is told not to.
fn speaks_http2(load: &Load) -> u64 {
    let mut client = Http2::connect(load.server);
    let mut next = Some(1);
    client.get(1, "/");
    load.is_held();
    while let Ok(frame) = client.try_frame() {
        match frame {
            Frame::Ping { ack: false, payload } => drop(client.try_acknowledge(payload)),
            Frame::GoAway { .. } => next = None,
            Frame::Data { ends: true, .. } => {
                next = next.map(|stream| stream + 2);
                drop(next.map(|stream| client.try_get(stream, "/")));
            }
            _ => {}
        }
    }
    0
}
