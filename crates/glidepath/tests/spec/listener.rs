//! SPEC.md, Listener.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, scope, sleep};
use std::time::Instant;

use crate::support::*;

/// "after the seal a connect is refused within 100 ms; never accepted and left hanging, never reset"
///
/// A connection that is still made between the signal and the seal has to be served.
#[test]
pub(crate) fn lis_1_after_the_seal_a_connect_is_refused_at_once() {
    let server = Start::target().start();
    let address = server.address();
    let mut busy = Client::connect(address);
    busy.get("/sleep?ms=1500").until_read();
    let signal = server.terminate();
    loop {
        let Err(error) = connects_and_is_served(address) else { continue };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}, {:?} after the signal", signal.elapsed());
        break;
    }
    assert!(signal.elapsed() < ms(1400), "sealed only {:?} after the signal", signal.elapsed());
    for _ in 0..20 {
        let start = Instant::now();
        let error = TcpStream::connect_timeout(&address, PATIENCE).expect_err("the listener is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        assert!(start.elapsed() < ms(100), "refused only after {:?}", start.elapsed());
    }
    busy.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// The control: without the signal, every connect is accepted and served.
#[test]
pub(crate) fn lis_1_without_a_signal_connects_are_served() {
    let server = Start::target().start();
    for _ in 0..20 {
        connects_and_is_served(server.address()).expect("it serves");
    }
}

/// An error is that of the connect; a connection that was made and is not served fails the test.
fn connects_and_is_served(address: SocketAddr) -> std::io::Result<()> {
    let mut client = Client::try_connect(address)?;
    client.get("/");
    client.response().assert_is(200, "ok");
    Ok(())
}

/// "every connection that the kernel completed before the seal is served: the accept queue is emptied, also when it is
/// full of whole requests"
///
/// The process stands still while the clients connect and send and the signal comes: it finds all in one wake. 120 of
/// them all but fill the queue, which tokio's `TcpListener::bind` makes for 128.
#[test]
fn lis_2_the_accept_queue_is_emptied() {
    for round in 0..3 {
        let server = Start::target().start();
        server.freeze();
        let mut clients: Vec<_> = (0..120).map(|_| Client::connect(server.address())).collect();
        for client in &mut clients {
            client.get("/");
        }
        server.terminate();
        server.thaw();
        let answered = clients.iter_mut().filter_map(|client| client.try_response().ok());
        assert_eq!(answered.filter(|answer| answer.status == 200).count(), 120, "answered of 120, round {round}");
        server.exit().assert_code(0);
    }
}

/// The control: without the signal, a process that stood still answers them all.
#[test]
fn lis_2_without_a_signal_the_queue_is_served() {
    let server = Start::target().start();
    server.freeze();
    let mut clients: Vec<_> = (0..120).map(|_| Client::connect(server.address())).collect();
    for client in &mut clients {
        client.get("/");
    }
    server.thaw();
    for client in &mut clients {
        client.response().assert_is(200, "ok");
    }
}

/// "under a storm of connecting clients no established connection is reset"
///
/// And LIS-9: "a connection accepted in the same instant as the seal is tracked": it is answered, or ends with FIN.
#[test]
pub(crate) fn lis_3_no_connection_is_reset_under_a_storm() {
    let mut lost = 0;
    let mut answered = 0;
    for _ in 0..5 {
        let server = Start::target().start();
        let storm = Storm::against(server.address(), 20, ms(300), || {
            server.terminate();
        });
        server.exit().assert_code(0);
        lost += storm.lost;
        answered += storm.answered;
    }
    assert!(answered > 100, "no storm: only {answered} answers");
    assert_eq!(lost, 0, "established connections that got no answer, besides {answered} that got one");
}

/// The control: without the signal, the storm loses nothing.
#[test]
pub(crate) fn lis_3_without_a_signal_the_storm_loses_nothing() {
    let server = Start::target().start();
    let storm = Storm::against(server.address(), 20, ms(300), || ());
    assert_eq!(storm.lost, 0, "besides {} answers", storm.answered);
}

/// What became of the requests of clients that connect for each of them, over and over.
#[derive(Default)]
struct Storm {
    answered: u32,
    lost: u32,
}

impl Storm {
    /// Runs `strike` after `calm`, and goes on for as long again.
    fn against(address: SocketAddr, clients: usize, calm: std::time::Duration, strike: impl FnOnce()) -> Storm {
        let over = AtomicBool::new(false);
        scope(|scope| {
            let storm = TellsOver(&over);
            let client = || {
                let mut storm = Storm::default();
                let mut goes_on = true;
                while goes_on && !over.load(Ordering::Relaxed) {
                    goes_on = storm.one_more(address).is_ok();
                }
                storm
            };
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            sleep(calm);
            strike();
            sleep(calm);
            drop(storm);
            clients.into_iter().map(|client| client.join().expect("no client panics")).fold(
                Storm::default(),
                |sum, one| Storm { answered: sum.answered + one.answered, lost: sum.lost + one.lost },
            )
        })
    }

    /// An error when the server refuses, which ends this client.
    fn one_more(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let mut client = Client::try_connect(address)?;
        let answer = client.try_send(http1::request("GET", "/", "")).and_then(|()| client.try_response());
        match answer {
            Ok(_) => self.answered += 1,
            Err(_) => self.lost += 1,
        }
        Ok(())
    }
}

/// "the seal ends within a bound under an endless flood"
#[test]
pub(crate) fn lis_4_the_seal_ends_under_a_flood() {
    let server = Start::target().start();
    let address = server.address();
    let over = AtomicBool::new(false);
    scope(|scope| {
        let flood = TellsOver(&over);
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop(TcpStream::connect_timeout(&address, ms(200)));
                }
            });
        }
        sleep(ms(300));
        let signal = server.terminate();
        let exit = server.exit_within(ms(5000));
        drop(flood);
        exit.assert_code(0);
        assert!(exit.at - signal < ms(2500), "{:?} after the signal", exit.at - signal);
    });
}

/// "all public listeners are sealed before anything is waited for"
#[test]
pub(crate) fn lis_5_all_listeners_are_sealed_at_once() {
    let path = socket_path("lis_5");
    let server = Start::target().set("UNIX", path.display()).start();
    let mut busy = Client::connect(server.address());
    busy.get("/sleep?ms=1500").until_read();
    UnixStream::connect(&path).expect("it listens on the unix socket too");
    let signal = server.terminate();
    server.wait_for_seal();
    wait_until("the unix socket is closed", || UnixStream::connect(&path).is_err());
    assert!(signal.elapsed() < ms(1400), "sealed only {:?} after the signal", signal.elapsed());
    busy.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// "the port can be bound by a new process as soon as the seal is done"
#[test]
pub(crate) fn lis_6_the_port_is_free_as_soon_as_the_seal_is_done() {
    let server = Start::target().start();
    let address = server.address();
    TcpListener::bind(address).expect_err("the control: it is taken while the server listens");
    let mut busy = Client::connect(address);
    busy.get("/sleep?ms=3000").until_read();
    server.terminate();
    server.wait_for_seal();

    let successor = Start::target().on(address.port()).start();
    fetch(successor.address(), "/").assert_is(200, "ok");
    assert!(server.is_running(), "the old process still has its request");
    busy.response().assert_is(200, "slept");
    server.exit().assert_code(0);
    successor.end().assert_code(0);
}

/// "a unix socket's path is removed on a clean end"
#[test]
fn lis_7_a_unix_sockets_path_is_removed() {
    let path = socket_path("lis_7");
    let server = Start::target().set("UNIX", path.display()).start();
    assert!(path.exists(), "the control: it is there while the server listens");
    server.end().assert_code(0);
    assert!(!path.exists(), "{} is still there", path.display());
}

fn socket_path(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("glidepath-{test}-{}.sock", std::process::id()));
    let _not_there = std::fs::remove_file(&path);
    path
}

/// "out of file descriptors: no spin, a log line, work in flight goes on, the drain is not held"
#[test]
pub(crate) fn lis_8_out_of_file_descriptors() {
    let server = Start::target().after("ulimit -n 40").start();
    let address = server.address();
    let mut streaming = Client::connect(address);
    streaming.get("/stream?chunks=30&ms=100");
    assert_eq!(streaming.head().status, 200);
    let crowd: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    server.stderr.wait_for("open files");

    let before = server.cpu_time();
    sleep(ms(1000));
    let spent = server.cpu_time() - before;
    assert!(spent < ms(250), "it spins: {spent:?} of CPU time in a second of waiting");
    let lines = server.stderr.so_far().lines().count();
    assert!(lines < 30, "a flood of {lines} log lines");

    let signal = server.terminate();
    let mut chunks = 0;
    while streaming.chunk().is_some() {
        chunks += 1;
    }
    assert_eq!(chunks, 30);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(5000), "{:?} after the signal, of a grace period of 30 s", exit.at - signal);
    drop(crowd);
}

/// "a connection accepted in the same instant as the seal is tracked": many ends, each with requests arriving in it.
#[test]
pub(crate) fn lis_9_a_connection_accepted_at_the_seal_is_tracked() {
    for _ in 0..15 {
        let server = Start::target().start();
        let address = server.address();
        let late: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(move || {
                    Client::try_connect(address).ok().map(|mut client| {
                        (client.try_send(http1::request("GET", "/sleep?ms=200", "")), client.try_response())
                    })
                })
            })
            .collect();
        server.terminate();
        for client in late {
            let answer = client.join().expect("no client panics");
            let Some((sent, answer)) = answer else { continue };
            let answer = answer
                .unwrap_or_else(|error| panic!("accepted and not answered: {error}; its request was sent: {sent:?}"));
            answer.assert_is(200, "slept");
        }
        let exit = server.exit();
        exit.assert_code(0);
        assert_eq!(exit.report()["connections"]["unknown"], 0);
    }
}
