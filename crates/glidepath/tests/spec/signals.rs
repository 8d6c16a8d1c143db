//! SPEC.md, Signals.

use std::io::Write as _;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::support::*;

/// "SIGINT and SIGTERM start the drain"
#[test]
pub(crate) fn sig_1_sigterm_and_sigint_start_the_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Start::target().start();
        fetch(server.address(), "/").assert_is(200, "ok");
        server.signal(signal);
        server.exit().assert_code(0);
    }
}

/// The control: without a signal, it stays.
#[test]
pub(crate) fn sig_1_without_a_signal_it_goes_on() {
    let server = Start::target().start();
    fetch(server.address(), "/").assert_is(200, "ok");
    sleep(ms(1000));
    fetch(server.address(), "/").assert_is(200, "ok");
    assert!(server.is_running());
}

/// "handlers stand from the moment the lifecycle is created […]; a signal from then on is never lost"
///
/// The signal is sent as soon as the kernel says that the process catches it: somewhere between the lifecycle's making
/// and the first accept.
#[test]
pub(crate) fn sig_2_a_signal_as_early_as_can_be_is_not_lost() {
    for _ in 0..20 {
        let server = Start::target().launch();
        wait_until("it catches SIGTERM", || catches_sigterm(server.pid()));
        server.terminate();
        server.exit().assert_code(0);
    }
}

/// "one that comes before serving means that nothing is served and the process ends 0"
#[test]
fn sig_2_a_signal_before_serving_means_that_nothing_is_served() {
    let mut server = Start::example("slow_start").launch();
    server.stdout.wait_for("loading");
    server.terminate();
    server.stdin().write_all(b"loaded\n").expect("it reads its input");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.stdout.contains("the end: 0 connections"), "{}", exit.stdout);
}

/// The control: without the signal, the slow start serves.
#[test]
fn sig_2_without_a_signal_the_slow_start_serves() {
    let mut server = Start::example("slow_start").launch();
    server.stdout.wait_for("loading");
    server.stdin().write_all(b"loaded\n").expect("it reads its input");
    let line = server.stdout.wait_for("listening on ");
    let address: SocketAddr = line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address");
    fetch(address, "/").assert_is(200, "hello");
    let exit = server.end();
    exit.assert_code(0);
    assert!(exit.stdout.contains("the end: 1 connections"), "{}", exit.stdout);
}

/// "a burst of signals within the debounce (250 ms) is one signal"
///
/// A burst that this machine stretched beyond the debounce proves nothing, and is tried again.
#[test]
pub(crate) fn sig_3_a_burst_of_signals_is_one_signal() {
    for _ in 0..5 {
        let server = Start::target().start();
        let mut client = Client::connect(server.address());
        client.get("/sleep?ms=800").until_read();
        let first = server.terminate();
        sleep(ms(40));
        server.signal(Signal::INT);
        sleep(ms(40));
        let last = server.terminate();
        if last - first < ms(150) {
            client.response().assert_is(200, "slept");
            server.exit().assert_code(0);
            return;
        }
    }
    panic!("never three signals within 150 ms: this machine is too busy");
}

/// "each further signal moves one step on: […] drain -> forced end. Forced: exit within 1 s, code 128+n, report says forced"
#[test]
pub(crate) fn sig_4_a_second_signal_forces_the_end() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = Start::target().start();
        let mut client = Client::connect(server.address());
        client.get("/sleep?ms=20000").until_read();
        server.signal(signal);
        server.wait_for_seal();
        sleep(BEYOND_DEBOUNCE);
        assert!(server.is_running(), "the first signal waits for the request");
        let forced = server.signal(signal);
        let exit = server.exit();
        exit.assert_code(code);
        assert!(exit.at - forced < ms(1000), "{:?} after the second signal", exit.at - forced);
        assert_eq!(exit.report()["outcome"], "forced");
        assert!(exit.stderr.contains("forced"), "{}", exit.stderr);
    }
}

/// "lame duck -> drain -> forced end"
#[test]
pub(crate) fn sig_4_in_the_lame_duck_the_second_signal_drains_and_the_third_forces() {
    let server = Start::target().set("LAME_DUCK", 20).start();
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=20000").until_read();
    server.terminate();
    sleep(BEYOND_DEBOUNCE);
    fetch(server.address(), "/").assert_is(200, "ok");
    server.terminate();
    server.wait_for_seal();
    sleep(BEYOND_DEBOUNCE);
    assert!(server.is_running(), "the drain waits for the request");
    let forced = server.terminate();
    let exit = server.exit();
    exit.assert_code(143);
    assert!(exit.at - forced < ms(1000), "{:?} after the third signal", exit.at - forced);
}

/// "SIGQUIT: print what is running (every request with method, path and age; every connection by state; every task by
/// name and age), then end with 131, at once. Query strings and headers are not printed"
#[test]
pub(crate) fn sig_5_sigquit_prints_what_is_running_and_ends() {
    let server = Start::target().start();
    let mut slow = Client::connect(server.address());
    slow.send(http1::request("GET", "/sleep?ms=20000&token=hush", "authorization: whisper\r\n")).until_read();
    let mut task = Client::connect(server.address());
    task.send(http1::request("POST", "/task?ms=20000", ""));
    assert_eq!(task.response().status, 202);
    let _at_rest = Client::at_rest(server.address());
    let asked = server.signal(Signal::QUIT);
    let exit = server.exit();
    exit.assert_code(131);
    assert!(exit.at - asked < ms(1000), "{:?} after SIGQUIT", exit.at - asked);

    let line = |words: &str| {
        exit.stderr
            .lines()
            .find(|line| line.contains(words))
            .unwrap_or_else(|| panic!("no {words:?} in:\n{}", exit.stderr))
    };
    assert!(line("GET /sleep").contains(" ms"), "no age: {}", line("GET /sleep"));
    assert!(line("\"task\"").contains(" ms"), "no age: {}", line("\"task\""));
    assert!(line("connections").chars().any(|c| c.is_ascii_digit()), "no count: {}", line("connections"));
    for secret in ["token", "hush", "20000", "authorization", "whisper"] {
        assert!(!exit.stderr.contains(secret), "{secret:?} is printed:\n{}", exit.stderr);
        assert!(!exit.stdout.contains(secret), "{secret:?} is printed:\n{}", exit.stdout);
    }
}

/// "SIGHUP ignored at start (nohup) stays ignored"
#[test]
pub(crate) fn sig_6_sighup_ignored_at_start_stays_ignored() {
    let server = Start::target().after("trap '' HUP").start();
    server.signal(Signal::HUP);
    sleep(ms(500));
    fetch(server.address(), "/").assert_is(200, "ok");
    server.end().assert_code(0);
}

/// "else it […] drains where [restart] is not [on]"
#[test]
pub(crate) fn sig_6_sighup_drains() {
    // The tests themselves may run under nohup.
    const HEARD: [&str; 2] = ["env", "--default-signal=HUP"];
    if !runs(&[&HEARD[..], &["true"]].concat()) {
        return skipped("env cannot set how a signal is taken here");
    }
    let server = Start::target().through(&HEARD).start();
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=500").until_read();
    server.signal(Signal::HUP);
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// "works as PID 1"
#[test]
pub(crate) fn sig_7_works_as_pid_1() {
    const NEW_NAMESPACE: [&str; 5] = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"];
    if !runs(&[&NEW_NAMESPACE[..], &["true"]].concat()) {
        return skipped("unshare may not make a process namespace here");
    }
    let mut server = Start::target().through(&NEW_NAMESPACE).start();
    let inner = only_child(server.pid());
    assert_eq!(pid_in_its_namespace(inner), "1");
    server.signals_go_to(inner);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=500").until_read();
    server.terminate();
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// "with SIGTERM blocked in the inherited mask"
#[test]
pub(crate) fn sig_7_works_with_sigterm_blocked_in_the_inherited_mask() {
    const BLOCKED: [&str; 3] = ["env", "--block-signal=TERM", "--block-signal=INT"];
    if !runs(&[&BLOCKED[..], &["sh", "-c", "kill -TERM $$; kill -INT $$; true"]].concat()) {
        return skipped("env can't block signals here");
    }
    for signal in [Signal::TERM, Signal::INT] {
        let server = Start::target().through(&BLOCKED).start();
        fetch(server.address(), "/").assert_is(200, "ok");
        server.signal(signal);
        server.exit().assert_code(0);
    }
}

/// "with stdout or stderr closed"
#[test]
pub(crate) fn sig_7_works_with_stdout_and_stderr_closed() {
    for closed in ["exec >&-", "exec 2>&-", "exec >&- 2>&-"] {
        let address = sockets::free_address();
        let mut server = Start::target().on(address.port()).after(closed).launch();
        server.listens_on(address);
        drain_with_work_of_every_kind(server);
    }
}

/// "(no death by SIGPIPE)": whoever read its output is gone.
#[test]
pub(crate) fn sig_7_works_when_nobody_reads_its_output_any_more() {
    let address = sockets::free_address();
    let mut server = Start::target().on(address.port()).unread().launch();
    server.listens_on(address);
    drain_with_work_of_every_kind(server);
}

fn drain_with_work_of_every_kind(server: Process) {
    let mut task = Client::connect(server.address());
    task.send(http1::request("POST", "/task?ms=300", ""));
    assert_eq!(task.response().status, 202);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=500").until_read();
    server.terminate();
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);
}

/// "with every runtime worker blocked by user code"
#[test]
pub(crate) fn sig_7_a_second_signal_ends_it_with_every_worker_blocked() {
    let server = Start::target().set("WORKERS", 1).start();
    let _blocking = block_the_only_worker(&server);
    server.terminate();
    sleep(BEYOND_DEBOUNCE);
    let forced = server.terminate();
    let exit = server.exit();
    exit.assert_code(143);
    assert!(exit.at - forced < ms(1000), "{:?} after the second signal", exit.at - forced);
    assert_eq!(exit.report()["outcome"], "forced");
}

/// The same, and the deadline of the first signal holds.
#[test]
pub(crate) fn sig_7_the_deadline_holds_with_every_worker_blocked() {
    let server = Start::target().set("WORKERS", 1).set("GRACE", 1).start();
    let _blocking = block_the_only_worker(&server);
    let asked = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert!(exit.at - asked < ms(1500), "{:?} after the signal", exit.at - asked);
    assert_eq!(exit.report()["outcome"], "cut");
}

/// That it is blocked shows: another client gets no answer.
fn block_the_only_worker(server: &Process) -> [Client; 2] {
    let mut other = Client::at_rest(server.address());
    let mut blocking = Client::connect(server.address());
    blocking.get("/block?ms=20000").until_read();
    other.get("/");
    assert!(other.stays_silent_for(ms(300)), "the worker is not blocked");
    [blocking, other]
}

/// "SIGSTOP and SIGCONT in the drain: one drain, the deadline holds on the monotonic clock"
#[test]
pub(crate) fn sig_8_the_deadline_holds_across_a_stop_and_a_continuation() {
    for stopped in [ms(500), ms(2500)] {
        let server = Start::target().set("GRACE", 2).start();
        let mut client = Client::connect(server.address());
        client.get("/sleep?ms=20000").until_read();
        let asked = server.terminate();
        server.wait_for_seal();
        server.freeze();
        sleep(stopped);
        server.thaw();
        let deadline = (asked + ms(2000)).max(Instant::now());
        let exit = server.exit();
        exit.assert_code(3);
        assert!(exit.at >= asked + ms(1900), "only {:?} after the signal", exit.at - asked);
        assert!(exit.at < deadline + ms(500), "{:?} after the signal", exit.at - asked);
        assert_eq!(exit.stdout.lines().count(), 1, "one drain has one report: {}", exit.stdout);
    }
}

/// Longer than the debounce of 250 ms.
const BEYOND_DEBOUNCE: std::time::Duration = ms(400);

fn catches_sigterm(pid: Pid) -> bool {
    let caught = proc_status(pid, "SigCgt:").unwrap_or_default();
    let caught = u64::from_str_radix(&caught, 16).unwrap_or(0);
    caught >> (Signal::TERM.as_raw() - 1) & 1 == 1
}

fn pid_in_its_namespace(pid: Pid) -> String {
    let pids = proc_status(pid, "NSpid:").expect("it is running");
    pids.rsplit(char::is_whitespace).next().unwrap_or_default().to_owned()
}

pub(crate) fn proc_status(pid: Pid, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(field))?.trim().to_owned())
}

fn only_child(pid: Pid) -> Pid {
    let pid = pid.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it is running");
    children.trim().parse().ok().and_then(Pid::from_raw).expect("it has one child")
}

/// "a step of the wall clock changes nothing": there is none in what ships.
#[test]
fn sig_8_no_module_asks_for_the_wall_clock() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut modules = 0;
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            modules += 1;
            let source = std::fs::read_to_string(&file).unwrap();
            for clock in ["SystemTime", "CLOCK_REALTIME", "gettimeofday"] {
                assert!(!source.contains(clock), "{} asks for {clock}", file.display());
            }
        }
    }
    assert!(modules > 20, "only {modules} modules were found");
}
