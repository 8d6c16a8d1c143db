//! SPEC.md, Readiness.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::support::*;

/// "in the lame duck new connections and requests are served, responses say close"
#[test]
pub(crate) fn rdy_2_in_the_lame_duck_all_is_served_and_told_close() {
    let server = Start::target().set("LAME_DUCK", 1.5).start();
    let address = server.address();
    let mut at_rest = Client::at_rest(address);
    assert!(!fetch(address, "/").says_close(), "the control: before the signal nobody is told close");
    let signal = server.terminate();
    wait_until("answers say close", || fetch(address, "/").says_close());
    assert!(signal.elapsed() < ms(500), "answers say close only {:?} after the signal", signal.elapsed());
    at_rest.get("/");
    at_rest.response().assert_is(200, "ok").assert_says_close();
    std::thread::sleep(ms(900).saturating_sub(signal.elapsed()));
    fetch(address, "/").assert_is(200, "ok").assert_says_close();
    server.wait_for_seal();
    let lasted = signal.elapsed();
    assert!(lasted > ms(1400), "the lame duck lasted only {lasted:?}");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(2500), "exit {:?} after the signal", exit.at - signal);
}

/// "a terminal's Ctrl-C skips it": script(1) lends the terminal.
#[test]
pub(crate) fn rdy_2_a_terminals_ctrl_c_skips_the_lame_duck() {
    const ON_A_TERMINAL: [&str; 4] = ["sh", "-c", "exec script -qec \"exec $1\" /dev/null", "sh"];
    if !runs(&[&ON_A_TERMINAL[..], &["sh -c 'test -t 2'"]].concat()) {
        return skipped("script can't lend a terminal here");
    }
    let address = sockets::free_address();
    let mut server = Start::target().on(address.port()).set("LAME_DUCK", 20).through(&ON_A_TERMINAL).launch();
    server.listens_on(address);
    let pressed = std::time::Instant::now();
    server.stdin().write_all(b"\x03").expect("it reads its terminal");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - pressed < ms(1500), "exit {:?} after Ctrl-C", exit.at - pressed);
    assert!(exit.stdout.contains("SIGINT"), "{}", exit.stdout);
}

/// The control: the same signal from elsewhere does not skip it.
#[test]
pub(crate) fn rdy_2_a_sigint_from_elsewhere_does_not_skip_the_lame_duck() {
    let server = Start::target().set("LAME_DUCK", 1).start();
    let signal = server.signal(rustix::process::Signal::INT);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal > ms(900), "exit {:?} after the signal", exit.at - signal);
}

/// A target with an admin port, and that port's address.
fn with_admin(start: Start) -> (Process, SocketAddr) {
    let server = start.set("ADMIN_PORT", 0).start();
    let admin = server.admin();
    (server, admin)
}

/// "readiness answers 503 from the signal on, liveness 200 to the end, on a port that outlives the public ones"
#[test]
pub(crate) fn rdy_1_readiness_is_off_from_the_signal_on_and_liveness_to_the_end() {
    let (server, admin) = with_admin(Start::target());
    fetch(admin, "/readyz").assert_is(200, "serving");
    fetch(admin, "/livez").assert_is(200, "ok");
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=1000").until_read();
    let mut prober = Client::connect(admin);
    let signal = server.terminate();
    wait_until("readiness is off", || fetch(admin, "/readyz").status == 503);
    assert!(signal.elapsed() < ms(300), "readiness was on for {:?}", signal.elapsed());
    server.wait_for_seal();
    for _ in 0..3 {
        fetch(admin, "/readyz").assert_is(503, "draining");
        // A prober that keeps its connection is not told close either.
        prober.get("/livez");
        let response = prober.response();
        assert!(!response.assert_is(200, "ok").says_close());
    }
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);
    assert_eq!(prober.end(), End::Fin);
}

#[test]
pub(crate) fn rdy_1_readiness_is_off_in_the_lame_duck() {
    let (server, admin) = with_admin(Start::target().set("LAME_DUCK", 1));
    let signal = server.terminate();
    wait_until("readiness is off", || fetch(admin, "/readyz").status == 503);
    assert!(signal.elapsed() < ms(300), "readiness was on for {:?}", signal.elapsed());
    fetch(admin, "/readyz").assert_is(503, "lame duck");
    fetch(server.address(), "/").assert_is(200, "ok");
    fetch(admin, "/livez").assert_is(200, "ok");
    server.exit().assert_code(0);
}

#[test]
pub(crate) fn rdy_1_the_admin_port_answers_get_and_head_of_its_paths_only() {
    let (server, admin) = with_admin(Start::target());
    let ask = |method: &str, path: &str| {
        let mut client = Client::connect(admin);
        client.send(http1::request(method, path, ""));
        client.head()
    };
    for path in ["/livez", "/readyz", "/metrics"] {
        for method in ["GET", "HEAD"] {
            let response = ask(method, path);
            assert_eq!((response.status, response.header("cache-control")), (200, Some("no-store")), "{method} {path}");
        }
        let response = ask("POST", path);
        assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")));
    }
    for path in ["/", "/metrics/", "/livez/", "/sleep?ms=1"] {
        assert_eq!(ask("GET", path).status, 404, "{path}");
    }
    assert_eq!(fetch(server.address(), "/livez").status, 404, "the public port has no probes");
    // A head's answer has no body: the next answer comes right behind it.
    let mut client = Client::connect(admin);
    client.send(http1::request("HEAD", "/livez", ""));
    assert_eq!(client.head().header("content-length"), Some("2"));
    client.get("/readyz");
    client.response().assert_is(200, "serving");
    server.end().assert_code(0);
}

/// "probes never count as work in flight": neither do their connections, in whatever state, and the report has none.
#[test]
pub(crate) fn rdy_3_no_probe_holds_the_end_or_is_in_the_report() {
    let control = Start::target().start();
    let signal = control.terminate();
    let without = control.exit().at - signal;

    let (server, admin) = with_admin(Start::target());
    let mut at_rest = Client::connect(admin);
    at_rest.get("/livez");
    at_rest.response().assert_is(200, "ok");
    let silent = Client::accepted(admin);
    let mut half = Client::connect(admin);
    half.start_head("GET", "/readyz", "");
    let mut uploads = Client::connect(admin);
    uploads.send(http1::request("POST", "/livez", "content-length: 100000\r\n")).until_read();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    let with = exit.at - signal;
    assert!(with < without + ms(100), "{with:?} with probes, {without:?} without");
    let report = exit.report();
    assert_eq!(report["connections"]["accepted"], PROBE, "{report}");
    assert_eq!(report["requests"]["started"], PROBE, "{report}");
    assert_eq!(at_rest.end(), End::Fin);
    drop((silent, uploads));
}

/// The control of the one before: what is work on the public port does hold the end.
#[test]
pub(crate) fn rdy_3_the_same_half_sent_head_on_the_public_port_holds_the_end() {
    let (server, _) = with_admin(Start::target());
    let mut half = Client::connect(server.address());
    half.start_head("GET", "/", "");
    server.terminate();
    server.wait_for_seal();
    std::thread::sleep(ms(300));
    assert!(server.is_running());
    half.finish_head().response().assert_is(200, "ok");
    server.exit().assert_code(0);
}

/// "all public listeners are sealed before anything is waited for; the admin listener is closed last"
#[test]
pub(crate) fn lis_5_public_listeners_are_sealed_at_once_and_the_admin_listener_last() {
    let path = std::env::temp_dir().join(format!("glidepath-lis-5-{}", std::process::id()));
    let (server, admin) = with_admin(Start::target().set("UNIX", path.display()));
    let unix = || std::os::unix::net::UnixStream::connect(&path);
    unix().expect("the control: it listens");
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=1000").until_read();
    let signal = server.terminate();
    server.wait_for_seal();
    wait_until("the unix socket is closed", || unix().is_err());
    assert!(signal.elapsed() < ms(300), "sealed {:?} after the signal", signal.elapsed());
    assert!(sockets::is_listening(admin) && server.is_running());
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);
    assert!(!sockets::is_listening(admin));
}
