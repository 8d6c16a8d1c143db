//! SPEC.md, Slow and hostile clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Instant;

use crate::support::*;

/// "a head sent a byte at a time ends at the head timeout, in serving and in the drain": 10 s by default.
#[test]
pub(crate) fn slow_1_a_head_sent_a_byte_at_a_time_ends_at_the_head_timeout() {
    let server = Start::target().start();
    let address = server.address();
    scope(|scope| {
        let serving = scope.spawn(|| drip_a_head(address));
        let drained = Start::target().start();
        let in_the_drain = scope.spawn({
            let address = drained.address();
            move || drip_a_head(address)
        });
        sleep(ms(500));
        drained.terminate();
        for (where_, client) in [("in serving", serving), ("in the drain", in_the_drain)] {
            let lasted = client.join().expect("no client panics");
            assert!((ms(9_000)..ms(12_000)).contains(&lasted), "{where_} it lasted {lasted:?}");
        }
        drained.exit().assert_code(0);
    });
    fetch(address, "/").assert_is(200, "ok");
}

/// Sends a byte of an endless head every 100 ms, and says how long the server bore it.
fn drip_a_head(address: std::net::SocketAddr) -> std::time::Duration {
    let mut client = Client::connect(address);
    client.wait_at_most(ms(100));
    let start = Instant::now();
    let mut head = b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x'));
    while start.elapsed() < ms(20_000) && client.try_send([*head.next().expect("endless")]).is_ok() {
        match client.read_some(&mut [0; 1024]) {
            Ok(_) => break,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    start.elapsed()
}

/// "a client that never reads, one that never ends its upload, one that reconnects in a loop, one that pipelines
/// without end: none lasts past the deadline, and none slows the others"
#[test]
pub(crate) fn slow_2_hostile_clients_do_not_last_past_the_deadline_and_slow_nobody() {
    let server = Start::target().set("GRACE", 2).start();
    let address = server.address();
    let mut never_reads = Client::connect(address);
    never_reads.get("/stream?chunks=100000000&ms=0");
    let mut never_ends = Client::connect(address);
    never_ends.send(http1::request("POST", "/echo", "transfer-encoding: chunked\r\n")).until_read();
    let mut pipelines = Client::connect(address);
    let mut good = Client::connect(address);
    let over = AtomicBool::new(false);
    scope(|scope| {
        let storm = TellsOver(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && never_ends.try_send("1\r\nx\r\n").is_ok() {
                sleep(ms(20));
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(std::net::TcpStream::connect_timeout(&address, ms(200)));
            }
        });
        scope.spawn(|| {
            let mut goes_on = true;
            while goes_on && !over.load(Ordering::Relaxed) {
                goes_on = pipelines.try_send(http1::request("GET", "/", "")).is_ok();
            }
        });
        sleep(ms(500));
        good.get("/sleep?ms=1000").until_read();
        let asked = Instant::now();
        let signal = server.terminate();
        good.response().assert_is(200, "slept");
        let slept = asked.elapsed();
        let exit = server.exit();
        drop(storm);
        assert!(slept < ms(1600), "the good client was slowed: {slept:?} for 1 s");
        exit.assert_code(3);
        assert!(exit.at - signal < ms(2500), "exit {:?} after the signal", exit.at - signal);
    });
}
