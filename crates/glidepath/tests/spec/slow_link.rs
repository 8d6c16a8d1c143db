//! Where packets take their time, and what the two sides send crosses on its way: rows of several sections of SPEC.md.

use std::thread::{scope, sleep};
use std::time::Duration;

use crate::support::http2::{ANY_STREAM, Frame, Http2};
use crate::support::network::{Link, over_a_slow_link};
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

/// Whom the seal waits for (as the control shows, clients from afar make it last) does not hold up the deadline.
#[test]
fn end_1_the_deadline_holds_while_the_listener_is_being_sealed() {
    over_a_slow_link(ONE_WAY, |_| {
        for (grace, expected) in [("10", ms(900)..ms(1500)), ("0.3", ms(250)..ms(800))] {
            let server = Start::target().set("GRACE", grace).start();
            let signal = server.terminate();
            let exit = server.exit();
            exit.assert_code(0);
            let took = exit.at - signal;
            assert!(expected.contains(&took), "exit {took:?} after the signal, of a grace period of {grace} s");
        }
    });
}
