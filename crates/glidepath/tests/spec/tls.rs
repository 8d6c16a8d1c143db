//! SPEC.md, TLS.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::Instant;

use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::http2::{Frame, Http2};
use crate::support::tls::{config_of, over_tls};
use crate::support::websocket::{CLOSE, WebSocket};
use crate::support::*;
use crate::{
    at_rest, background, early_answers, ending, http2, in_flight, listener, readiness, restart, signals, slow_clients,
    slow_link, under_load, upgraded,
};

/// "close_notify before FIN": however a connection comes to its end. `End::Fin` over TLS is one behind a close_notify.
#[test]
fn tls_1_close_notify_comes_before_fin() {
    for version in [&TLS12, &TLS13] {
        let server = Start::target().over_tls().start();
        let connect = || {
            let mut client = Client::connect_with(server.address(), config_of(&[], &[version]));
            client.tls().shake_hands().expect("the server speaks TLS");
            assert_eq!(client.tls().version(), Some(version.version));
            client
        };
        let [mut silent, mut at_rest, mut busy, mut upgraded] = [connect(), connect(), connect(), connect()];
        for client in [&mut at_rest, &mut busy] {
            client.get("/");
            client.response().assert_is(200, "ok");
        }
        upgraded.send(http1::request("GET", "/ws", websocket::UPGRADE));
        assert_eq!(upgraded.head().status, 101);
        // At rest for long enough to have given its HTTP state back.
        sleep(ms(2500));
        busy.get("/sleep?ms=500").until_read();
        server.terminate();
        let mut upgraded = WebSocket::over(upgraded);
        assert_eq!(upgraded.close_code(), 1001);
        upgraded.send(CLOSE, &1001_u16.to_be_bytes());
        busy.response().assert_is(200, "slept").assert_says_close();
        for client in [&mut silent, &mut at_rest, &mut busy, upgraded.http()] {
            assert_eq!(client.end(), End::Fin);
        }
        server.exit().assert_code(0);
    }
}

/// The same while serving, where a client asks for the end of its connection.
#[test]
fn tls_1_close_notify_comes_before_fin_while_serving() {
    let server = Start::target().over_tls().start();
    let mut client = Client::connect(server.address());
    client.send(http1::request("GET", "/", "connection: close\r\n"));
    client.response().assert_is(200, "ok");
    assert_eq!(client.end(), End::Fin);
}

/// The control of the client: a connection that is cut (the process is killed) ends without a close_notify, and it sees that.
#[test]
fn tls_1_a_bare_fin_is_seen_as_one() {
    let server = Start::target().over_tls().start();
    let mut client = Client::at_rest(server.address());
    server.signal(rustix::process::Signal::KILL);
    let error = client.read_some(&mut [0; 16]).expect_err("no close_notify");
    assert!(matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset), "{error}");
}

/// A client's close_notify at rest is the end of its connection, which is answered with ours, at once and once.
#[test]
fn tls_1_a_clients_close_notify_at_rest_ends_its_connection() {
    for rest in [ms(0), ms(2500)] {
        let server = Start::target().over_tls().start();
        let mut client = Client::at_rest(server.address());
        sleep(rest);
        client.tls().notify_close();
        assert_eq!(client.end(), End::Fin);
        let used = server.cpu_time();
        sleep(ms(500));
        assert!(server.cpu_time() - used < ms(100), "it spins");
        let exit = server.end();
        exit.assert_code(0);
        assert_eq!(exit.report()["connections"]["finished"], PROBE + 1, "{}", exit.stderr);
    }
}

/// A record that holds no byte of a request is none: who sends it at rest is still at rest, and served later.
#[test]
fn tls_1_a_record_without_a_request_is_no_request() {
    let server = Start::target().over_tls().start();
    let mut client = Client::at_rest(server.address());
    sleep(ms(2500));
    client.tls().update_keys();
    let used = server.cpu_time();
    assert!(client.stays_silent_for(ms(500)));
    assert!(server.cpu_time() - used < ms(100), "it spins");
    client.get("/");
    client.response().assert_is(200, "ok");
    sleep(ms(2500));
    client.tls().update_keys();
    client.until_read();
    let signal = server.terminate();
    assert_eq!(client.end(), End::Fin);
    server.exit().assert_code(0);
    assert!(signal.elapsed() < ms(250), "taken for a request: {:?}", signal.elapsed());
}

/// Half a record at rest is half a head, and does not hold the end for longer than one.
#[test]
fn tls_1_half_a_record_is_half_a_head() {
    for rest in [ms(0), ms(2500)] {
        let server = Start::target().over_tls().start();
        let mut client = Client::at_rest(server.address());
        sleep(rest);
        let record = client.tls().record_of(http1::request("GET", "/", "").as_bytes());
        let (half, rest) = record.split_at(record.len() / 2);
        client.tls().send_raw(half);
        client.until_read();
        server.terminate();
        server.wait_for_seal();
        sleep(QUIET + ms(500));
        client.tls().send_raw(rest);
        client.response().assert_is(200, "ok").assert_says_close();
        assert_eq!(client.end(), End::Fin);
        server.exit().assert_code(0);
    }
}

/// The same where the other half never comes: a fifth of the grace period stays for hooks, half of the rest for this.
#[test]
fn tls_1_half_a_record_alone_ends_with_408() {
    let server = Start::target().over_tls().set("GRACE", 4).start();
    let mut client = Client::at_rest(server.address());
    let record = client.tls().record_of(http1::request("GET", "/", "").as_bytes());
    client.tls().send_raw(&record[..record.len() / 2]);
    client.until_read();
    let signal = server.terminate();
    assert_eq!(client.response().status, 408);
    assert_eq!(client.end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(3000), "exit {:?} after the signal", exit.at - signal);
}

/// "a handshake under way at the signal completes and is served once"
#[test]
fn tls_2_a_handshake_under_way_completes_and_is_served_once() {
    let server = Start::target().over_tls().start();
    let mut half_hello = Client::before_tls(server.address());
    let mut half_way = Client::before_tls(server.address());
    let hello = half_hello.tls().records();
    half_hello.tls().send_raw(&hello[..hello.len() / 2]);
    let whole = half_way.tls().records();
    half_way.tls().send_raw(&whole);
    half_hello.until_read();
    half_way.until_read();
    server.terminate();
    server.wait_for_seal();
    // Longer than the quiet window, which begins only with the handshake's end.
    sleep(QUIET + ms(300));
    half_hello.tls().send_raw(&hello[hello.len() / 2..]);
    for client in [&mut half_hello, &mut half_way] {
        client.tls().shake_hands().expect("it completes");
        sleep(QUIET / 2);
        client.get("/");
        client.response().assert_is(200, "ok").assert_says_close();
        assert_eq!(client.end(), End::Fin);
    }
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["requests"]["answered_late"], 2, "{}", exit.stderr);
}

/// The control: without the signal it completes, and the connection stays.
#[test]
fn tls_2_without_a_signal_the_connection_stays() {
    let server = Start::target().over_tls().start();
    let mut client = Client::before_tls(server.address());
    let hello = client.tls().records();
    client.tls().send_raw(&hello[..hello.len() / 2]);
    client.until_read();
    sleep(QUIET + ms(300));
    client.tls().send_raw(&hello[hello.len() / 2..]);
    for _ in 0..2 {
        client.get("/");
        assert!(!client.response().assert_is(200, "ok").says_close());
    }
    assert!(client.stays_silent_for(ms(500)));
}

/// A handshake that ends in the drain and after which nothing is asked holds nothing up.
#[test]
fn tls_2_after_the_handshake_the_quiet_window_holds() {
    let server = Start::target().over_tls().start();
    let mut client = Client::before_tls(server.address());
    let hello = client.tls().records();
    client.tls().send_raw(&hello[..hello.len() / 2]);
    client.until_read();
    server.terminate();
    server.wait_for_seal();
    client.tls().send_raw(&hello[hello.len() / 2..]);
    client.tls().shake_hands().expect("it completes");
    let shaken = Instant::now();
    assert_eq!(client.end(), End::Fin);
    let lasted = shaken.elapsed();
    assert!((QUIET - ms(100)..QUIET + ms(250)).contains(&lasted), "FIN {lasted:?} after the handshake");
    server.exit().assert_code(0);
}

/// "or ends within its own timeout": 10 s, and in the drain no more than leaves time for a request.
#[test]
fn tls_2_a_handshake_that_never_completes_is_bounded() {
    for (grace, bound) in [(4, ms(2500)), (60, ms(11_500))] {
        let server = Start::target().over_tls().set("GRACE", grace).start();
        let mut client = Client::before_tls(server.address());
        let hello = client.tls().records();
        client.tls().send_raw(&hello[..hello.len() / 2]);
        client.until_read();
        let signal = server.terminate();
        let exit = server.exit_within(ms(15_000));
        exit.assert_code(0);
        assert!(exit.at - signal < bound, "exit {:?} after the signal, grace {grace} s", exit.at - signal);
        assert_eq!(exit.report()["connections"]["failed"], 1, "{}", exit.stderr);
    }
}

/// The same while serving.
#[test]
fn tls_2_a_handshake_that_never_completes_is_bounded_while_serving() {
    let server = Start::target().over_tls().start();
    let mut client = Client::before_tls(server.address());
    let hello = client.tls().records();
    client.tls().send_raw(&hello[..hello.len() / 2]);
    let started = Instant::now();
    client.wait_at_most(ms(14_000));
    client.read_some(&mut [0; 16]).expect_err("it is closed");
    let lasted = started.elapsed();
    assert!((ms(9_000)..ms(12_000)).contains(&lasted), "it lasted {lasted:?}");
    fetch(server.address(), "/").assert_is(200, "ok");
}

/// LIS-2 over TLS, where a client can't send its request before the server has spoken: the accept queue is all but full of
/// ClientHellos when the signal comes, and all are served.
#[test]
fn tls_2_handshakes_in_the_accept_queue_are_served() {
    let server = serve_a_queue_of_handshakes(|server| {
        server.terminate();
    });
    let exit = server.exit();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["failed"], 0, "{}", exit.stderr);
}

/// The control: without the signal.
#[test]
fn tls_2_without_a_signal_the_queue_is_served() {
    serve_a_queue_of_handshakes(|_| ());
}

fn serve_a_queue_of_handshakes(meanwhile: fn(&Process)) -> Process {
    let server = Start::target().over_tls().start();
    server.freeze();
    let mut clients: Vec<_> = (0..120).map(|_| Client::connect(server.address())).collect();
    for client in &mut clients {
        let hello = client.tls().records();
        client.tls().send_raw(&hello);
    }
    meanwhile(&server);
    server.thaw();
    for client in &mut clients {
        client.tls().shake_hands().expect("it completes");
        client.get("/");
    }
    for client in &mut clients {
        client.response().assert_is(200, "ok");
    }
    server
}

/// IDLE-4 for who has not even begun a handshake: nothing holds the exit, and the FIN comes without a close_notify,
/// because there is no TLS yet that could be closed.
#[test]
fn tls_2_a_connection_without_a_handshake_does_not_hold_the_exit() {
    let server = Start::target().over_tls().start();
    let mut silent: Vec<_> = (0..10).map(|_| Client::before_tls(server.address())).collect();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < QUIET + ms(250), "exit {:?} after the signal", exit.at - signal);
    assert_eq!(exit.report()["connections"]["at_rest"], 10, "{}", exit.stderr);
    for client in &mut silent {
        assert_eq!(std::io::Read::read(&mut client.socket(), &mut [0; 16]).expect("FIN, and no reset"), 0);
    }
}

/// IDLE-3 for handshakes: a ClientHello that came with the signal, on a connection that had long been silent.
#[test]
fn tls_2_a_client_hello_in_the_receive_buffer_is_served() {
    let server = Start::target().over_tls().start();
    let mut clients: Vec<_> = (0..50).map(|_| Client::before_tls(server.address())).collect();
    sleep(QUIET + ms(200));
    server.freeze();
    for client in &mut clients {
        let hello = client.tls().records();
        client.tls().send_raw(&hello);
    }
    server.terminate();
    server.thaw();
    for client in &mut clients {
        client.tls().shake_hands().expect("it completes");
        client.get("/");
        client.response().assert_is(200, "ok");
    }
    server.exit().assert_code(0);
}

/// Handshakes do not stand in each other's way, and what is not TLS fails and is counted.
#[test]
fn tls_2_slow_and_wrong_handshakes_delay_nobody() {
    let server = Start::target().over_tls().start();
    let mut slow: Vec<_> = (0..200).map(|_| Client::before_tls(server.address())).collect();
    for client in &mut slow {
        client.tls().send_raw(&[22, 3, 1]);
    }
    let mut wrong = Client::before_tls(server.address());
    wrong.tls().send_raw(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let asked = Instant::now();
    fetch(server.address(), "/").assert_is(200, "ok");
    assert!(asked.elapsed() < ms(500), "delayed: {:?}", asked.elapsed());
    wrong.read_some(&mut [0; 16]).expect_err("an alert");
    drop(slow);
    let exit = server.end();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["failed"], 201, "{}", exit.stderr);
}

/// A certificate that is renewed is shown to the next client; the connection that is open goes on.
#[test]
fn tls_3_a_renewed_certificate_is_shown_without_a_restart() {
    let folder = std::env::temp_dir().join(format!("glidepath-renewal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a place for files");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&certificate, made.cert.pem()).expect("the folder is ours");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("the folder is ours");
        made.cert.der().to_vec()
    };
    let first = renew();
    let example = Start::example("tls_renewal").set("CERTIFICATE", certificate.display()).set("KEY", key.display());
    let server = example.launch();
    let line = server.stderr.wait_for("listening with TLS on ");
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    let connect = || {
        // Of its own, because a session that is resumed shows no certificate.
        let mut client = Client::connect_with(address, config_of(&[], &[&TLS13]));
        client.get("/");
        client.response().assert_is(200, "hello\n");
        client
    };
    let mut before = connect();
    assert_eq!(before.tls().certificate(), first);
    let second = renew();
    sleep(ms(1100));
    let mut after = connect();
    assert_eq!(after.tls().certificate(), second);
    before.get("/");
    before.response().assert_is(200, "hello\n");
    server.end().assert_code(0);
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// ALPN: a client is offered both, and gets GOAWAY and a close_notify where it chose HTTP/2.
#[test]
fn tls_3_alpn_chooses_the_protocol() {
    let server = Start::target().over_tls().start();
    let mut one = Client::connect_with(server.address(), config_of(&["http/1.1"], &[&TLS13]));
    one.get("/");
    one.response().assert_is(200, "ok");
    assert_eq!(one.tls().alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(one.tls().version(), Some(ProtocolVersion::TLSv1_3));
    let mut two = Http2::silent_with(server.address(), config_of(&["h2", "http/1.1"], &[&TLS13])).exchange_settings();
    assert_eq!(two.tls().alpn(), Some(&b"h2"[..]));
    two.get(1, "/");
    assert_eq!(two.response(1), (200, "ok".into()));
    server.terminate();
    let ping = two.wait_for("the PING", |frame| matches!(frame, Frame::Ping { ack: false, .. }));
    let Frame::Ping { payload, .. } = ping else { unreachable!("it was waited for") };
    two.acknowledge(payload);
    assert_eq!(two.end().1, End::Fin);
    assert_eq!(one.end(), End::Fin);
    server.exit().assert_code(0);
}

/// "every row above holds over TLS": the same checks, with targets and clients that speak it.
macro_rules! over_tls {
    ($($name:ident: $test:path,)*) => {
        $(
            #[test]
            fn $name() {
                over_tls($test);
            }
        )*
    };
}

over_tls! {
    tls_3_sig_1_sigterm_and_sigint_start_the_drain: signals::sig_1_sigterm_and_sigint_start_the_drain,
    tls_3_sig_1_without_a_signal_it_goes_on: signals::sig_1_without_a_signal_it_goes_on,
    tls_3_sig_2_a_signal_as_early_as_can_be_is_not_lost: signals::sig_2_a_signal_as_early_as_can_be_is_not_lost,
    tls_3_sig_3_a_burst_of_signals_is_one_signal: signals::sig_3_a_burst_of_signals_is_one_signal,
    tls_3_sig_4_a_second_signal_forces_the_end: signals::sig_4_a_second_signal_forces_the_end,
    tls_3_sig_4_in_the_lame_duck_the_second_signal_drains_and_the_third_forces: signals::sig_4_in_the_lame_duck_the_second_signal_drains_and_the_third_forces,
    tls_3_sig_5_sigquit_prints_what_is_running_and_ends: signals::sig_5_sigquit_prints_what_is_running_and_ends,
    tls_3_sig_6_sighup_ignored_at_start_stays_ignored: signals::sig_6_sighup_ignored_at_start_stays_ignored,
    tls_3_sig_6_sighup_drains: signals::sig_6_sighup_drains,
    tls_3_sig_7_works_as_pid_1: signals::sig_7_works_as_pid_1,
    tls_3_sig_7_works_with_sigterm_blocked_in_the_inherited_mask: signals::sig_7_works_with_sigterm_blocked_in_the_inherited_mask,
    tls_3_sig_7_works_with_stdout_and_stderr_closed: signals::sig_7_works_with_stdout_and_stderr_closed,
    tls_3_sig_7_works_when_nobody_reads_its_output_any_more: signals::sig_7_works_when_nobody_reads_its_output_any_more,
    tls_3_sig_7_a_second_signal_ends_it_with_every_worker_blocked: signals::sig_7_a_second_signal_ends_it_with_every_worker_blocked,
    tls_3_sig_7_the_deadline_holds_with_every_worker_blocked: signals::sig_7_the_deadline_holds_with_every_worker_blocked,
    tls_3_sig_8_the_deadline_holds_across_a_stop_and_a_continuation: signals::sig_8_the_deadline_holds_across_a_stop_and_a_continuation,
    tls_3_lis_1_after_the_seal_a_connect_is_refused_at_once: listener::lis_1_after_the_seal_a_connect_is_refused_at_once,
    tls_3_lis_3_no_connection_is_reset_under_a_storm: listener::lis_3_no_connection_is_reset_under_a_storm,
    tls_3_lis_9_a_connection_accepted_at_the_seal_is_tracked: listener::lis_9_a_connection_accepted_at_the_seal_is_tracked,
    tls_3_lis_3_a_handshake_that_is_under_way_at_the_seal_is_served: slow_link::lis_3_a_handshake_that_is_under_way_at_the_seal_is_served,
    tls_3_lis_1_without_a_signal_connects_are_served: listener::lis_1_without_a_signal_connects_are_served,
    tls_3_lis_3_without_a_signal_the_storm_loses_nothing: listener::lis_3_without_a_signal_the_storm_loses_nothing,
    tls_3_lis_4_the_seal_ends_under_a_flood: listener::lis_4_the_seal_ends_under_a_flood,
    tls_3_lis_5_all_listeners_are_sealed_at_once: listener::lis_5_all_listeners_are_sealed_at_once,
    tls_3_lis_6_the_port_is_free_as_soon_as_the_seal_is_done: listener::lis_6_the_port_is_free_as_soon_as_the_seal_is_done,
    tls_3_lis_8_out_of_file_descriptors: listener::lis_8_out_of_file_descriptors,
    tls_3_lis_5_public_listeners_are_sealed_at_once_and_the_admin_listener_last: readiness::lis_5_public_listeners_are_sealed_at_once_and_the_admin_listener_last,
    tls_3_idle_1_a_quiet_connection_ends_with_fin_at_once: at_rest::idle_1_a_quiet_connection_ends_with_fin_at_once,
    tls_3_idle_2_a_request_within_the_quiet_window_is_answered: at_rest::idle_2_a_request_within_the_quiet_window_is_answered,
    tls_3_idle_2_after_a_stream_that_the_signal_ended_the_next_request_is_answered: at_rest::idle_2_after_a_stream_that_the_signal_ended_the_next_request_is_answered,
    tls_3_idle_2_after_a_stream_the_next_request_is_answered_while_others_hold_the_end: at_rest::idle_2_after_a_stream_the_next_request_is_answered_while_others_hold_the_end,
    tls_3_idle_2_after_a_stream_a_client_holds_nothing_by_itself: at_rest::idle_2_after_a_stream_a_client_holds_nothing_by_itself,
    tls_3_idle_2_without_a_signal_the_connection_stays: at_rest::idle_2_without_a_signal_the_connection_stays,
    tls_3_idle_3_bytes_in_the_receive_buffer_are_a_request: at_rest::idle_3_bytes_in_the_receive_buffer_are_a_request,
    tls_3_idle_4_a_silent_connection_does_not_hold_the_exit: at_rest::idle_4_a_silent_connection_does_not_hold_the_exit,
    tls_3_idle_4_a_connection_that_has_long_been_silent_holds_nothing: at_rest::idle_4_a_connection_that_has_long_been_silent_holds_nothing,
    tls_3_idle_5_a_half_sent_head_is_answered_when_it_completes: at_rest::idle_5_a_half_sent_head_is_answered_when_it_completes,
    tls_3_idle_5_a_half_sent_head_that_never_completes_ends_with_408: at_rest::idle_5_a_half_sent_head_that_never_completes_ends_with_408,
    tls_3_idle_1_no_rst_leaves_in_an_end_under_load: under_load::idle_1_no_rst_leaves_in_an_end_under_load,
    tls_3_idle_7_a_request_that_crosses_the_fin_is_thrown_away_and_counted: slow_link::idle_7_a_request_that_crosses_the_fin_is_thrown_away_and_counted,
    tls_3_idle_7_without_a_delay_the_request_is_answered: slow_link::idle_7_without_a_delay_the_request_is_answered,
    tls_3_idle_7_a_peer_that_never_acknowledges_the_fin_is_bounded: slow_link::idle_7_a_peer_that_never_acknowledges_the_fin_is_bounded,
    tls_3_idle_6_many_connections_at_rest_end_in_proportion: at_rest::idle_6_many_connections_at_rest_end_in_proportion,
    tls_3_req_1_a_request_in_flight_gets_its_whole_response: in_flight::req_1_a_request_in_flight_gets_its_whole_response,
    tls_3_req_2_what_is_not_yet_answered_says_close: in_flight::req_2_what_is_not_yet_answered_says_close,
    tls_3_req_3_a_streamed_response_goes_on_to_its_end: in_flight::req_3_a_streamed_response_goes_on_to_its_end,
    tls_3_req_3_a_slow_reader_gets_every_byte: in_flight::req_3_a_slow_reader_gets_every_byte,
    tls_3_req_4_an_upload_in_flight_is_read_to_its_end: in_flight::req_4_an_upload_in_flight_is_read_to_its_end,
    tls_3_req_4_a_chunked_upload_with_trailers_is_answered: in_flight::req_4_a_chunked_upload_with_trailers_is_answered,
    tls_3_req_5_expect_100_continue_outstanding_at_the_signal: in_flight::req_5_expect_100_continue_outstanding_at_the_signal,
    tls_3_req_6_pipelined_requests: in_flight::req_6_pipelined_requests,
    tls_3_req_7_a_client_that_half_closed_gets_its_answer: in_flight::req_7_a_client_that_half_closed_gets_its_answer,
    tls_3_req_8_back_to_back_clients_lose_nothing_and_are_told_close: in_flight::req_8_back_to_back_clients_lose_nothing_and_are_told_close,
    tls_3_req_8_without_a_signal_back_to_back_clients_go_on: in_flight::req_8_without_a_signal_back_to_back_clients_go_on,
    tls_3_req_9_the_process_ends_within_5_ms_of_the_last_response: in_flight::req_9_the_process_ends_within_5_ms_of_the_last_response,
    tls_3_req_10_a_panic_in_the_drain_is_a_500_and_holds_nothing: in_flight::req_10_a_panic_in_the_drain_is_a_500_and_holds_nothing,
    tls_3_req_12_an_early_answer_is_readable_while_the_body_still_arrives: early_answers::req_12_an_early_answer_is_readable_while_the_body_still_arrives,
    tls_3_req_12_an_early_answer_is_readable_while_the_body_arrives_slowly: early_answers::req_12_an_early_answer_is_readable_while_the_body_arrives_slowly,
    tls_3_req_12_a_body_that_nobody_read_is_not_the_next_request: early_answers::req_12_a_body_that_nobody_read_is_not_the_next_request,
    tls_3_req_10_a_panic_while_serving_is_a_500: in_flight::req_10_a_panic_while_serving_is_a_500,
    tls_3_slow_1_a_head_sent_a_byte_at_a_time_ends_at_the_head_timeout: slow_clients::slow_1_a_head_sent_a_byte_at_a_time_ends_at_the_head_timeout,
    tls_3_slow_2_hostile_clients_do_not_last_past_the_deadline_and_slow_nobody: slow_clients::slow_2_hostile_clients_do_not_last_past_the_deadline_and_slow_nobody,
    tls_3_h2_1_two_goaways_a_round_trip_apart_and_streams_finish: http2::h2_1_two_goaways_a_round_trip_apart_and_streams_finish,
    tls_3_h2_2_a_stream_opened_between_the_goaways_is_served: http2::h2_2_a_stream_opened_between_the_goaways_is_served,
    tls_3_h2_2_a_stream_above_the_last_id_is_not_processed: http2::h2_2_a_stream_above_the_last_id_is_not_processed,
    tls_3_h2_3_an_idle_connection_ends_promptly: http2::h2_3_an_idle_connection_ends_promptly,
    tls_3_h2_4_a_peer_that_never_acknowledges_the_ping_is_bounded: http2::h2_4_a_peer_that_never_acknowledges_the_ping_is_bounded,
    tls_3_h2_4_half_a_preface_is_bounded: http2::h2_4_half_a_preface_is_bounded,
    tls_3_h2_5_a_preface_after_the_signal_gets_goaway_at_once: http2::h2_5_a_preface_after_the_signal_gets_goaway_at_once,
    tls_3_h2_2_a_stream_that_crosses_the_goaway_is_served: slow_link::h2_2_a_stream_that_crosses_the_goaway_is_served,
    tls_3_h2_4_a_peer_that_ignores_goaway_is_bounded: http2::h2_4_a_peer_that_ignores_goaway_is_bounded,
    tls_3_ws_1_a_websocket_gets_close_1001_and_its_reply_is_awaited: upgraded::ws_1_a_websocket_gets_close_1001_and_its_reply_is_awaited,
    tls_3_ws_3_a_peer_that_does_not_answer_the_close_is_cut_after_5_s: upgraded::ws_3_a_peer_that_does_not_answer_the_close_is_cut_after_5_s,
    tls_3_ws_4_an_upgrade_asked_for_in_the_drain: upgraded::ws_4_an_upgrade_asked_for_in_the_drain,
    tls_3_sig_11_sighup_restarts: restart::sig_11_sighup_restarts,
    tls_3_sig_11_sighup_ignored_at_start_restarts_nothing: restart::sig_11_sighup_ignored_at_start_restarts_nothing,
    tls_3_sig_11_sigterm_right_after_sighup_ends_it: restart::sig_11_sigterm_right_after_sighup_ends_it,
    tls_3_ws_6_in_a_restart_a_websocket_gets_close_1012: restart::ws_6_in_a_restart_a_websocket_gets_close_1012,
    tls_3_ws_7_over_http2_it_gets_close_1001_and_its_reply_is_awaited: upgraded::ws_7_over_http2_it_gets_close_1001_and_its_reply_is_awaited,
    tls_3_ws_7_over_http2_one_that_is_asked_for_between_the_goaways: upgraded::ws_7_over_http2_one_that_is_asked_for_between_the_goaways,
    tls_3_sse_1_an_event_stream_is_ended_properly_at_the_drain: upgraded::sse_1_an_event_stream_is_ended_properly_at_the_drain,
    tls_3_task_1_tracked_tasks_are_waited_for: background::task_1_tracked_tasks_are_waited_for,
    tls_3_task_1_a_task_that_a_request_in_flight_starts_is_waited_for: background::task_1_a_task_that_a_request_in_flight_starts_is_waited_for,
    tls_3_task_1_without_a_task_it_ends_at_once: background::task_1_without_a_task_it_ends_at_once,
    tls_3_task_2_a_task_is_aborted_at_the_deadline_and_named: background::task_2_a_task_is_aborted_at_the_deadline_and_named,
    tls_3_task_4_a_stuck_handler_does_not_keep_the_process: background::task_4_a_stuck_handler_does_not_keep_the_process,
    tls_3_end_1_the_deadline_holds_whatever_runs: ending::end_1_the_deadline_holds_whatever_runs,
    tls_3_end_2_an_unanswered_request_gets_503_at_the_deadline: ending::end_2_an_unanswered_request_gets_503_at_the_deadline,
    tls_3_end_2_a_stream_is_cut_visibly_at_the_deadline: ending::end_2_a_stream_is_cut_visibly_at_the_deadline,
    tls_3_end_2_a_stream_without_a_window_is_cut_visibly_at_the_deadline: ending::end_2_a_stream_without_a_window_is_cut_visibly_at_the_deadline,
    tls_3_end_2_http2_streams_are_ended_visibly_at_the_deadline: ending::end_2_http2_streams_are_ended_visibly_at_the_deadline,
    tls_3_end_4_the_report_accounts_for_every_connection: ending::end_4_the_report_accounts_for_every_connection,
    tls_3_end_2_a_body_that_ends_with_the_connection_is_reset_at_the_deadline: ending::end_2_a_body_that_ends_with_the_connection_is_reset_at_the_deadline,
    tls_3_end_3_exit_codes: ending::end_3_exit_codes,
    tls_3_end_4_the_report_names_what_was_cut: ending::end_4_the_report_names_what_was_cut,
    tls_3_end_7_grace_0_ends_at_once_and_still_says_so: ending::end_7_grace_0_ends_at_once_and_still_says_so,
    tls_3_rdy_1_readiness_is_off_from_the_signal_on_and_liveness_to_the_end: readiness::rdy_1_readiness_is_off_from_the_signal_on_and_liveness_to_the_end,
    tls_3_rdy_1_readiness_is_off_in_the_lame_duck: readiness::rdy_1_readiness_is_off_in_the_lame_duck,
    tls_3_rdy_1_the_admin_port_answers_get_and_head_of_its_paths_only: readiness::rdy_1_the_admin_port_answers_get_and_head_of_its_paths_only,
    tls_3_rdy_2_in_the_lame_duck_all_is_served_and_told_close: readiness::rdy_2_in_the_lame_duck_all_is_served_and_told_close,
    tls_3_rdy_2_a_terminals_ctrl_c_skips_the_lame_duck: readiness::rdy_2_a_terminals_ctrl_c_skips_the_lame_duck,
    tls_3_rdy_2_a_sigint_from_elsewhere_does_not_skip_the_lame_duck: readiness::rdy_2_a_sigint_from_elsewhere_does_not_skip_the_lame_duck,
    tls_3_rdy_3_no_probe_holds_the_end_or_is_in_the_report: readiness::rdy_3_no_probe_holds_the_end_or_is_in_the_report,
    tls_3_rdy_3_the_same_half_sent_head_on_the_public_port_holds_the_end: readiness::rdy_3_the_same_half_sent_head_on_the_public_port_holds_the_end,
}
