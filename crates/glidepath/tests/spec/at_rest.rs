//! SPEC.md, HTTP/1 at rest.

use std::thread::sleep;
use std::time::Instant;

use crate::support::*;

/// "a keep-alive connection quiet for longer than the quiet window ends with FIN at once; RST never"
#[test]
pub(crate) fn idle_1_a_quiet_connection_ends_with_fin_at_once() {
    let server = Start::target().start();
    let mut clients: Vec<_> = (0..10).map(|_| Client::at_rest(server.address())).collect();
    // The time is the subject here: the quiet window has to pass, and the connections stay open through it.
    assert!(clients[0].stays_silent_for(QUIET + ms(500)), "the control: without a signal it stays open");
    let signal = server.terminate();
    for client in &mut clients {
        assert_eq!(client.end(), End::Fin);
        assert!(signal.elapsed() < ms(250), "FIN only {:?} after the signal", signal.elapsed());
    }
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(350), "exit {:?} after the signal", exit.at - signal);
}

/// "a request that comes on a connection still within its quiet window is answered, with `Connection: close`"
#[test]
pub(crate) fn idle_2_a_request_within_the_quiet_window_is_answered() {
    let server = Start::target().start();
    let mut clients: Vec<_> = (0..20).map(|_| Client::at_rest(server.address())).collect();
    server.terminate();
    server.wait_for_seal();
    for client in &mut clients {
        client.get("/");
    }
    for client in &mut clients {
        client.response().assert_is(200, "ok").assert_says_close();
        assert_eq!(client.end(), End::Fin);
    }
    server.exit().assert_code(0);
}

/// The same where the signal ended a stream: its head could not say close, and its client asks again, as browsers do.
#[test]
pub(crate) fn idle_2_after_a_stream_that_the_signal_ended_the_next_request_is_answered() {
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.get("/sse");
    client.head();
    // The stream was asked for longer ago than the quiet window.
    let asked = Instant::now();
    while asked.elapsed() < QUIET + ms(100) {
        client.chunk().expect("the control: without a signal it does not end");
    }
    let signal = server.terminate();
    while client.chunk().is_some() {}
    assert!(client.stays_silent_for(ms(100)), "closed {:?} after the signal", signal.elapsed());
    client.get("/");
    client.response().assert_is(200, "ok").assert_says_close();
    assert_eq!(client.end(), End::Fin);
    server.exit().assert_code(0);
}

/// The same after a stream that the drain waited for: its head left too early to say close.
#[test]
pub(crate) fn idle_2_after_a_stream_the_next_request_is_answered_while_others_hold_the_end() {
    let server = Start::target().start();
    let mut busy = Client::connect(server.address());
    busy.get("/sleep?ms=2500").until_read();
    let mut client = untold(&server);
    assert!(client.stays_silent_for(ms(200)), "closed under a client that was not told");
    client.get("/");
    client.response().assert_is(200, "ok").assert_says_close();
    assert_eq!(client.end(), End::Fin);
    busy.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// Its other side: by itself such a client holds nothing up.
#[test]
pub(crate) fn idle_2_after_a_stream_a_client_holds_nothing_by_itself() {
    let server = Start::target().start();
    let mut client = untold(&server);
    let ended = Instant::now();
    assert_eq!(client.end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    let gap = exit.at.saturating_duration_since(ended);
    assert!(gap < QUIET / 2, "{gap:?} from the stream's end to the exit");
}

/// A client whose stream was asked for longer ago than the quiet window, and ended after the signal.
fn untold(server: &Process) -> Client {
    let mut client = Client::connect(server.address());
    client.get("/stream?chunks=10&ms=100");
    client.head();
    for _ in 0..7 {
        client.chunk().expect("the control: without a signal it does not end");
    }
    server.terminate();
    while client.chunk().is_some() {}
    client
}

/// The control: without the signal, the answer does not say close, and the connection stays.
#[test]
pub(crate) fn idle_2_without_a_signal_the_connection_stays() {
    let server = Start::target().start();
    let mut client = Client::at_rest(server.address());
    client.get("/");
    assert!(!client.response().says_close());
    assert!(client.stays_silent_for(ms(1000)));
}

/// "bytes already in the socket's receive buffer count as a request: answered, never closed under"
///
/// The process stands still while request and signal come, and finds both in one wake. The connections have long been
/// quiet, so that they would be closed at once. Which of the two it looks at first is its own affair, and so is whether
/// the answer says close.
#[test]
pub(crate) fn idle_3_bytes_in_the_receive_buffer_are_a_request() {
    for kind in ["at rest", "fresh", "at rest for longer"] {
        let server = Start::target().start();
        let mut clients: Vec<_> =
            (0..100)
                .map(|_| {
                    if kind == "fresh" { Client::accepted(server.address()) } else { Client::at_rest(server.address()) }
                })
                .collect();
        sleep(if kind == "at rest for longer" { ms(2500) } else { QUIET + ms(200) });
        server.freeze();
        for client in &mut clients {
            client.get("/");
        }
        server.terminate();
        server.thaw();
        let answers: Vec<_> = clients.iter_mut().map(Client::try_response).collect();
        let answered = answers.iter().flatten().filter(|answer| answer.status == 200).count();
        let failed = answers.iter().find_map(|answer| answer.as_ref().err());
        assert_eq!(answered, 100, "answered of 100 {kind}; the first that was not: {failed:?}");
        server.exit().assert_code(0);
    }
}

/// "a connection that never sent a byte does not hold the exit (<= quiet window)"
#[test]
pub(crate) fn idle_4_a_silent_connection_does_not_hold_the_exit() {
    let server = Start::target().start();
    let mut silent: Vec<_> = (0..10).map(|_| Client::accepted(server.address())).collect();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < QUIET + ms(250), "exit {:?} after the signal", exit.at - signal);
    assert!(silent.iter_mut().all(|client| client.end() == End::Fin));
}

/// The same for one that has been silent for longer than the window: nothing is left to wait for.
#[test]
pub(crate) fn idle_4_a_connection_that_has_long_been_silent_holds_nothing() {
    let server = Start::target().start();
    let mut silent = Client::accepted(server.address());
    assert!(silent.stays_silent_for(QUIET + ms(500)), "the control: without a signal it stays open");
    let signal = server.terminate();
    assert_eq!(silent.end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(250), "exit {:?} after the signal", exit.at - signal);
}

/// "a request head half sent at the signal, first on its connection or later, is answered if it completes within the
/// head timeout"
#[test]
pub(crate) fn idle_5_a_half_sent_head_is_answered_when_it_completes() {
    let server = Start::target().start();
    let mut first = Client::connect(server.address());
    let mut later = Client::at_rest(server.address());
    let mut one_byte = Client::connect(server.address());
    first.start_head("GET", "/", "");
    later.start_head("GET", "/", "");
    one_byte.send("G").until_read();
    server.terminate();
    server.wait_for_seal();
    // Longer than the quiet window: it is not that what lets them live.
    sleep(QUIET + ms(500));
    first.finish_head();
    later.finish_head();
    one_byte.send("ET / HTTP/1.1\r\nhost: test\r\n\r\n");
    for client in [&mut first, &mut later, &mut one_byte] {
        client.response().assert_is(200, "ok").assert_says_close();
        assert_eq!(client.end(), End::Fin);
    }
    server.exit().assert_code(0);
}

/// "if not, 408 and close, never the whole grace period": the head timeout is 10 s.
#[test]
pub(crate) fn idle_5_a_half_sent_head_that_never_completes_ends_with_408() {
    let server = Start::target().start();
    let mut first = Client::connect(server.address());
    let mut later = Client::at_rest(server.address());
    first.start_head("GET", "/", "");
    later.start_head("GET", "/", "");
    let started = Instant::now();
    server.terminate();
    for client in [&mut first, &mut later] {
        client.wait_at_most(ms(14_000));
        let answer = client.response();
        assert_eq!(answer.status, 408);
        answer.assert_says_close();
        assert_eq!(client.end(), End::Fin);
    }
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - started < ms(12_000), "exit {:?} after the half heads", exit.at - started);
}

/// "10 000 connections at rest end in bounded CPU, in time linear in their number": 2 000 of them, to be kind to other
/// tests; and 500, for the proportion.
#[test]
pub(crate) fn idle_6_many_connections_at_rest_end_in_proportion() {
    let Some(many) = room_for_connections(2000) else {
        return skipped("not enough file descriptors");
    };
    let [few_took, many_took] = [many / 4, many].map(|count| {
        let server = Start::target().start();
        let mut clients: Vec<_> = (0..count).map(|_| Client::at_rest(server.address())).collect();
        sleep(QUIET + ms(1500));
        let signal = server.terminate();
        for client in &mut clients {
            assert_eq!(client.end(), End::Fin);
        }
        let exit = server.exit();
        exit.assert_code(0);
        assert_eq!(exit.report()["connections"]["at_rest"], count, "{}", exit.stderr);
        exit.at - signal
    });
    assert!(many_took < ms(1500), "{many} connections took {many_took:?}");
    assert!(many_took < few_took * 10 + ms(100), "{many_took:?} for four times what took {few_took:?}");
}

/// "at most 2 KB of memory": as the kernel counts it, for 2 000 of them. Where the C library is not glibc, what they have freed
/// may be kept for later.
#[test]
#[cfg(target_env = "gnu")]
fn idle_8_connections_at_rest_cost_little_memory() {
    let Some((server, count, before)) = with_memory_before_connections() else {
        return skipped("not enough file descriptors");
    };
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(server.address())).collect();
    // All at once, so that all of them need memory at the same time.
    for client in &mut clients {
        client.get("/");
    }
    for client in &mut clients {
        client.response().assert_is(200, "ok");
    }
    let each = || resident(&server).saturating_sub(before) / count;
    wait_until("they hold 2 KB each", || each() <= 2048);
    let ask = |client: &mut Client| {
        client.get("/");
        client.response().assert_is(200, "ok");
    };
    // Who comes back after a rest needs memory for as long as the answer takes,
    sleep(ms(1500));
    clients.iter_mut().for_each(ask);
    let after_a_rest = each();
    assert!(after_a_rest <= 2048, "{after_a_rest} B each, right after all have come back one by one");
    // and who then asks again at once is busy and keeps it until the next rest.
    for client in &mut clients {
        ask(client);
        ask(client);
    }
    wait_until("they hold 2 KB each again", || each() <= 2048);
    server.terminate();
    server.exit().assert_code(0);
}

/// "who has asked only once": each of many, one after the other, and none waited for.
#[test]
#[cfg(target_env = "gnu")]
fn idle_8_connections_that_asked_once_cost_little_memory() {
    let Some((server, count, before)) = with_memory_before_connections() else {
        return skipped("not enough file descriptors");
    };
    let clients: Vec<_> = (0..count).map(|_| Client::at_rest(server.address())).collect();
    let each = resident(&server).saturating_sub(before) / clients.len();
    assert!(each <= 2048, "{each} B each, right after all have asked");
    server.terminate();
    server.exit().assert_code(0);
}

/// A server for so many connections, and its memory before the first of them.
#[cfg(target_env = "gnu")]
fn with_memory_before_connections() -> Option<(Process, usize, usize)> {
    let count = room_for_connections(2000)?;
    let server = Start::target().start();
    drop(Client::at_rest(server.address()));
    let before = resident(&server);
    Some((server, count, before))
}

/// The memory that the kernel counts for a server, in bytes.
#[cfg(target_env = "gnu")]
fn resident(server: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn room_for_connections(count: usize) -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok()?;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    (allowed > count as u64 + 200).then_some(count)
}
