//! SPEC.md, Restart and hand-over; and what other sections say of a restart.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::http2::{Frame, Http2};
use crate::support::tls::over_tls;
use crate::support::websocket::{CLOSE, TEXT, WebSocket};
use crate::support::*;

pub(crate) fn restartable() -> Start {
    Start::target().set("RESTART", 1).set("GRACE", 8)
}

/// "where restart is on, SIGHUP that was not ignored at start restarts"
#[test]
pub(crate) fn sig_11_sighup_restarts() {
    let server = restartable().start();
    let address = server.address();
    server.signal(Signal::HUP);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    let report = exit.report();
    assert_eq!(report["cause"], "restart");
    assert_eq!(report["successor"], next.pid().as_raw_nonzero().get());
    fetch(address, "/").assert_is(200, "ok");
    next.end().assert_code(0);
    assert!(!sockets::is_listening(address), "nobody is left");
}

/// The control of the one before: who does not hear it goes on, and so does one that nobody sends it to.
#[test]
pub(crate) fn sig_11_sighup_ignored_at_start_restarts_nothing() {
    for ignoring in [true, false] {
        let wrapper: &[&str] = if ignoring { &["env", "--ignore-signal=HUP"] } else { &[] };
        let server = restartable().through(wrapper).start();
        if ignoring {
            server.signal(Signal::HUP);
        }
        sleep(ms(700));
        assert!(server.is_running());
        assert_eq!(server.children(), []);
        fetch(server.address(), "/").assert_is(200, "ok");
        server.end().assert_code(0);
    }
}

/// SIGHUP is no step towards the end, and one that is on its way delays no SIGTERM.
#[test]
pub(crate) fn sig_11_sigterm_right_after_sighup_ends_it() {
    for pause in [0, 1, 2, 3, 5, 8, 13, 21] {
        let server = restartable().start();
        let address = server.address();
        server.signal(Signal::HUP);
        sleep(ms(pause));
        server.terminate();
        let exit = server.exit_or_replaced();
        exit.0.assert_code(0);
        match exit.1 {
            // It had been decided before: the next process is the service, and must be told by itself.
            Some(next) => {
                fetch(address, "/").assert_is(200, "ok");
                next.end().assert_code(0);
            }
            None => assert!(!sockets::is_listening(address), "nobody serves on"),
        }
    }
}

/// "`POST /restart` […] on the admin port start[s] a restart", and the answer says how it went.
#[test]
fn ho_5_a_restart_is_asked_for_on_the_admin_port() {
    let folder = Folder::new("ho-5");
    let program = folder.path.join("target");
    fs::copy(process::built_example("target"), &program).expect("room for a copy");
    let start = Start::command(&[program.to_str().expect("UTF-8")]).set("PORT", 0).set("RESTART", 1).set("GRACE", 8);
    let server = start.set("ADMIN_PORT", 0).set("ADMIN_TOKEN", "secret").start();
    let admin = server.admin();
    let restart = |headers: &str| {
        let mut client = Client::connect(admin);
        let head = format!("POST /restart HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n{headers}\r\n");
        client.send(head.as_bytes());
        let answer = client.response();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    assert_eq!(restart("").0, 401);
    assert_eq!(restart("authorization: Bearer other\r\n").0, 403);
    let aside = folder.path.join("aside");
    fs::rename(&program, &aside).expect("it is there");
    let (status, says) = restart("authorization: Bearer secret\r\n");
    assert!(status == 409 && says.contains("No such file"), "{status} {says}");
    assert!(server.is_running() && server.children().is_empty(), "it goes on, alone");
    fs::rename(&aside, &program).expect("it is there");
    let (status, says) = restart("authorization: Bearer secret\r\n");
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert_eq!((status, says), (200, format!("process {} has taken over", next.pid().as_raw_nonzero())));
    // The next one is asked in the same way.
    assert_eq!(restart("").0, 401);
    let (status, says) = restart("authorization: Bearer secret\r\n");
    assert_eq!(status, 200, "{says}");
    let (exit, next) = next.replaced();
    exit.assert_code(0);
    next.end().assert_code(0);
}

/// "as WS-1, with 1012 when the end is a restart"
#[test]
pub(crate) fn ws_6_in_a_restart_a_websocket_gets_close_1012() {
    let server = restartable().start();
    let mut client = WebSocket::open(server.address());
    client.send(TEXT, b"hello");
    assert_eq!(client.frame(), (0x80 | TEXT, b"hello".to_vec()));
    server.signal(Signal::HUP);
    assert_eq!(client.close_code(), 1012);
    assert!(client.http().stays_silent_for(ms(300)), "the reply was not awaited");
    client.send(CLOSE, &1012_u16.to_be_bytes());
    assert_eq!(client.http().end(), End::Fin);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["upgraded"], 1);
    // With the next process it goes on, and that one's end is no restart.
    let mut client = WebSocket::open(next.address());
    next.terminate();
    assert_eq!(client.close_code(), 1001);
    client.send(CLOSE, &1001_u16.to_be_bytes());
    next.exit().assert_code(0);
}

/// "a unix socket's path is kept when the socket was handed on or inherited"
#[test]
fn lis_10_a_unix_sockets_path_is_kept_when_it_was_handed_on_or_inherited() {
    let folder = Folder::new("lis-10");
    let path = folder.path.join("socket");
    let server = restartable().set("UNIX", path.display()).start();
    let identity = fs::symlink_metadata(&path).map(|data| std::os::unix::fs::MetadataExt::ino(&data)).ok();
    server.signal(Signal::HUP);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    UnixStream::connect(&path).expect("handed on: the next process listens there");
    next.end().assert_code(0);
    let now = fs::symlink_metadata(&path).map(|data| std::os::unix::fs::MetadataExt::ino(&data)).ok();
    assert_eq!(now, identity, "inherited: it is whoever bound it whose path this is");
    // And nobody is kept by it from starting again.
    let again = restartable().set("UNIX", path.display()).start();
    UnixStream::connect(&path).expect("it listens");
    again.end().assert_code(0);
    assert!(!path.exists(), "the control: one that bound it and ends without a restart removes it");
}

/// How many children of this process have ended and were not waited for.
pub(crate) fn zombies_of(pid: Pid) -> usize {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parent = pid.as_raw_nonzero().to_string();
    stats
        .filter(|stat| stat.rsplit(") ").next().is_some_and(|after| after.starts_with(&format!("Z {parent} "))))
        .count()
}

/// After a restart no zombie is left: the old process ends, and whoever adopts the next one has nothing to reap but that.
#[test]
fn ho_3_a_restart_leaves_no_zombie() {
    let server = restartable().start();
    server.signal(Signal::HUP);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert_eq!((zombies_of(next.pid()), next.children().len()), (0, 0));
    next.signal(Signal::HUP);
    let (exit, next) = next.replaced();
    exit.assert_code(0);
    assert_eq!((zombies_of(next.pid()), next.children().len()), (0, 0));
    next.end().assert_code(0);
}

// === HO-1 ===

/// "100 restarts under load […]: refused = reset = lost = 0"; here 10, and as many as the variable RESTARTS says.
#[test]
fn ho_1_restarts_under_load_refuse_reset_and_lose_nothing() {
    let restarts = std::env::var("RESTARTS").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    restarts_under_load(restarts);
}

/// The same over TLS.
#[test]
fn ho_1_restarts_under_load_over_tls_refuse_reset_and_lose_nothing() {
    over_tls(|| restarts_under_load(5));
}

fn restarts_under_load(restarts: u64) {
    let mut server = restartable().start();
    let load = Load::new(server.address());
    let (over, took) = (AtomicBool::new(false), Instant::now());
    let server = scope(|scope| {
        let _tells = TellsOver(&over);
        let clients = [Load::asks_again_and_again, Load::connects_for_each_request, Load::thinks_between_requests];
        for client in clients.into_iter().flat_map(|client| [client; 3]) {
            let (load, over) = (&load, &over);
            scope.spawn(move || client(load, over));
        }
        for restart in 0..restarts {
            let before = load.answers.load(Ordering::Relaxed);
            wait_until("the clients are at it", || load.answers.load(Ordering::Relaxed) > before + 100);
            server.signal(Signal::HUP);
            let (exit, next) = server.replaced();
            exit.assert_code(0);
            let troubles = load.troubles();
            assert_eq!(troubles, "", "after restart {restart}");
            server = next;
        }
        let before = load.answers.load(Ordering::Relaxed);
        wait_until("the clients go on", || load.answers.load(Ordering::Relaxed) > before + 100);
        server
    });
    assert_eq!(load.troubles(), "");
    eprintln!(
        "{restarts} restarts in {:?}: {} answers, {} connections, none refused, reset or lost",
        took.elapsed(),
        load.answers.load(Ordering::Relaxed),
        load.connections.load(Ordering::Relaxed)
    );
    server.end().assert_code(0);
}

/// The control: an end and a new start refuse some. So what is counted above can be seen.
#[test]
fn ho_1_an_end_and_a_new_start_refuse_clients() {
    let mut server = Start::target().on(sockets::free_address().port()).set("GRACE", 8).start();
    let load = Load::new(server.address());
    let over = AtomicBool::new(false);
    let server = scope(|scope| {
        let _tells = TellsOver(&over);
        for _ in 0..3 {
            scope.spawn(|| load.connects_for_each_request(&over));
        }
        for _ in 0..3 {
            let before = load.answers.load(Ordering::Relaxed);
            wait_until("the clients are at it", || load.answers.load(Ordering::Relaxed) > before + 20);
            let port = server.address().port();
            server.end().assert_code(0);
            let before = load.refused.load(Ordering::Relaxed);
            wait_until("somebody is refused", || load.refused.load(Ordering::Relaxed) > before);
            server = Start::target().on(port).set("GRACE", 8).start();
        }
        server
    });
    drop(server);
    assert!(load.troubles().contains("refused"), "{}", load.troubles());
}

/// Clients that never try anything twice, and what they met.
pub(crate) struct Load {
    server: SocketAddr,
    pub(crate) answers: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    first: std::sync::Mutex<String>,
}

impl Load {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let zero = AtomicU64::default;
        Self { server, answers: zero(), connections: zero(), refused: zero(), lost: zero(), first: Default::default() }
    }

    pub(crate) fn troubles(&self) -> String {
        let (refused, lost) = (self.refused.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed));
        let first = self.first.lock().expect("nobody panics").clone();
        if refused + lost == 0 { String::new() } else { format!("{refused} refused, {lost} lost; the first: {first}") }
    }

    fn trouble(&self, count: &AtomicU64, what: &str, error: &std::io::Error) {
        count.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().expect("nobody panics");
        if first.is_empty() {
            *first = format!("{what}: {error}");
        }
    }

    fn connect(&self) -> Option<Client> {
        let connected = Client::try_connect(self.server);
        self.connections.fetch_add(1, Ordering::Relaxed);
        connected.inspect_err(|error| self.trouble(&self.refused, "connect", error)).ok()
    }

    /// One request; whether the connection can be used for another. A connection that was closed at rest before its request
    /// was sent is no loss, and one that is closed under it is.
    fn ask(&self, client: &mut Client) -> bool {
        let answer = client.try_send(http1::request("GET", "/", "")).and_then(|()| client.try_response());
        match answer {
            Ok(answer) => {
                assert_eq!(answer.status, 200);
                self.answers.fetch_add(1, Ordering::Relaxed);
                !answer.says_close()
            }
            Err(error) => {
                self.trouble(&self.lost, "a request", &error);
                false
            }
        }
    }

    pub(crate) fn asks_again_and_again(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let Some(mut client) = self.connect() else { continue };
            while self.ask(&mut client) && !over.load(Ordering::Relaxed) {}
        }
    }

    pub(crate) fn connects_for_each_request(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let Some(mut client) = self.connect() else { continue };
            self.ask(&mut client);
        }
    }

    /// Pauses far shorter than the quiet window, in which nobody may close.
    pub(crate) fn thinks_between_requests(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let Some(mut client) = self.connect() else { continue };
            while self.ask(&mut client) && !over.load(Ordering::Relaxed) {
                sleep(ms(10));
            }
        }
    }
}

/// What is in flight stays with the old process, which tells its clients to close.
#[test]
fn ho_1_what_is_in_flight_is_finished_by_the_old_process() {
    let server = restartable().start();
    let mut slow = Client::connect(server.address());
    slow.get("/sleep?ms=800").until_read();
    let mut stream = Client::connect(server.address());
    stream.get("/stream?chunks=8&ms=100");
    assert_eq!(stream.head().status, 200);
    let mut two = Http2::connect(server.address());
    two.get(1, "/sleep?ms=800");
    two.until_read();
    server.signal(Signal::HUP);
    slow.response().assert_is(200, "slept").assert_says_close();
    let mut chunks = 0;
    while stream.chunk().is_some() {
        chunks += 1;
    }
    assert_eq!(chunks, 8);
    let ping = two.wait_for("the PING", |frame| matches!(frame, Frame::Ping { ack: false, .. }));
    let Frame::Ping { payload, .. } = ping else { unreachable!("it was waited for") };
    two.acknowledge(payload);
    assert_eq!(two.response(1), (200, "slept".into()));
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert_eq!(exit.report()["connections"]["unknown"], 0);
    next.end().assert_code(0);
}

/// "refused = reset = lost = 0" for a listener that the next process does not take, too: the old one seals it itself.
#[test]
fn ho_1_a_listener_that_is_left_behind_is_sealed_and_one_that_is_new_is_served() {
    let mut server = Start::example("restart").set("NEXT", "moved").launch();
    let first = serves_on(&server, "first on ");
    let second = says_address(&server, "second on ");
    let mut in_flight = Client::connect(second);
    in_flight.get("/sleep").until_read();
    server.stdin().write_all(b"restart\n").expect("it reads its input");
    server.stdout.wait_for("replaced by ");
    wait_until("the one that was left behind is closed", || !sockets::is_listening(second));
    in_flight.response().assert_is(200, "slept").assert_says_close();
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert!(exit.stderr.contains("was not taken, and is closed name=\"second\""), "{}", exit.stderr);
    let pid = next.pid().as_raw_nonzero().to_string();
    fetch(first, "/").assert_is(200, &pid);
    fetch(says_address(&next, "moved on "), "/").assert_is(200, &pid);
    next.end().assert_code(0);
}

// === HO-2 ===

/// "a successor that can't start, crashes […]: the old process goes on serving, and says why"
#[test]
fn ho_2_a_successor_that_cannot_start_leaves_the_old_one_serving() {
    type Break = fn(&Path);
    let broken: [(&str, Break, &str); 6] = [
        ("gone", |program| fs::remove_file(program).expect("it is there"), "No such file"),
        ("not executable", |program| replace(program, "", 0o644), "Permission denied"),
        ("no program", |program| replace(program, "neither ELF nor a script", 0o755), "Exec format error"),
        ("ends at once", |program| replace(program, "#!/bin/sh\nexit 3\n", 0o755), "exit status: 3"),
        ("crashes", |program| replace(program, "#!/bin/sh\nkill -SEGV $$\n", 0o755), "signal: 11"),
        ("hangs up", |program| replace(program, "#!/bin/sh\nexec 4>&- && exec sleep 100\n", 0o755), "it hung up"),
    ];
    for (what, break_it, why) in broken {
        let folder = Folder::new("ho-2");
        let program = folder.path.join("target");
        fs::copy(process::built_example("target"), &program).expect("room for a copy");
        let server = Start::command(&[program.to_str().expect("UTF-8")]).set("PORT", 0).set("RESTART", 1).start();
        let mut client = Client::at_rest(server.address());
        break_it(&program);
        server.signal(Signal::HUP);
        let said = server.stderr.wait_for("came to nothing");
        assert!(said.contains(why), "{what}: {said}");
        goes_on_alone(&server);
        client.get("/");
        assert!(!client.response().assert_is(200, "ok").says_close(), "{what}: its clients notice nothing");
        // A good one can follow.
        sleep(BEYOND_DEBOUNCE);
        fs::remove_file(&program).ok();
        fs::copy(process::built_example("target"), &program).expect("room for a copy");
        server.signal(Signal::HUP);
        let (exit, next) = server.replaced();
        exit.assert_code(0);
        next.end().assert_code(0);
    }
}

fn replace(program: &Path, text: &str, mode: u32) {
    // In its place, not over it: what runs can't be written to.
    fs::remove_file(program).expect("it is there");
    fs::write(program, text).expect("room for a file");
    fs::set_permissions(program, fs::Permissions::from_mode(mode)).expect("our file");
}

#[track_caller]
fn goes_on_alone(server: &Process) {
    assert!(server.is_running());
    wait_until("the other one is gone, and reaped", || server.children().is_empty());
    fetch(server.address(), "/").assert_is(200, "ok");
}

/// "[…] or is not ready in time: the old process goes on serving, and says why", to the caller as in the log
#[test]
fn ho_2_one_that_panics_exits_or_hangs_is_told_to_the_caller() {
    for (next, why) in
        [("panics", "exit status: 101"), ("exits", "exit status: 1"), ("hangs", "not ready within 2s, and was killed")]
    {
        let mut server = Start::example("restart").set("NEXT", next).launch();
        let first = serves_on(&server, "first on ");
        let pid = server.pid().as_raw_nonzero().to_string();
        fetch(first, "/").assert_is(200, &pid);
        let asked = Instant::now();
        server.stdin().write_all(b"restart\n").expect("it reads its input");
        let told = server.stdout.wait_for("cannot restart: ");
        assert!(told.contains(why), "{next}: {told}");
        if next == "hangs" {
            assert!(asked.elapsed() > ms(1900), "only {:?} later", asked.elapsed());
        }
        let logged = server.stderr.wait_for("came to nothing");
        assert!(logged.contains(why), "{next}: {logged}");
        assert!(server.is_running());
        assert_eq!(server.children(), [], "{next}: it is reaped");
        fetch(first, "/").assert_is(200, &pid);
        server.end().assert_code(0);
    }
}

/// The successor is killed at any moment: before it takes over, the old one goes on; after that, it has ended as it does.
#[test]
fn ho_2_a_successor_that_is_killed_at_any_moment_leaves_one_that_serves() {
    let mut server = restartable().start();
    let (mut survived, mut too_late) = (0, 0);
    for round in 0_u64..24 {
        let address = server.address();
        server.signal(Signal::HUP);
        let mut next = None;
        wait_until("a new process is there", || {
            next = server.children().first().copied();
            next.is_some() || !server.is_running()
        });
        // From at once to about when it takes over.
        sleep(Duration::from_micros(round * 400));
        let killed = next.is_some_and(|next| kill_process(next, Signal::KILL).is_ok());
        let failed = |log: &str| log.matches("came to nothing").count() > survived;
        let log = server.stderr.wait_until(|log| failed(log) || log.contains("has taken over"));
        if failed(&log) {
            survived += 1;
            assert!(killed, "it failed by itself:\n{log}");
            goes_on_alone(&server);
            sleep(BEYOND_DEBOUNCE);
        } else {
            // It was the service by then, and with it the service is gone.
            too_late += 1;
            let (exit, next) = server.replaced();
            exit.assert_code(0);
            drop(next);
            wait_until("nobody listens", || !sockets::is_listening(address));
            server = restartable().start();
            survived = 0;
        }
    }
    eprintln!("{too_late} of 24 were killed when they had taken over");
    server.end().assert_code(0);
}

/// The old process is killed while the new one gets ready: that one has the sockets, and serves.
#[test]
fn ho_2_when_the_old_process_is_killed_its_successor_serves() {
    let mut server = Start::example("restart").set("NEXT", "slow").launch();
    let first = serves_on(&server, "first on ");
    server.stdin().write_all(b"restart\n").expect("it reads its input");
    server.stdout.wait_until(|text| text.matches("first on ").count() == 2);
    let next = server.children();
    server.signal(Signal::KILL);
    let answer = fetch(first, "/");
    assert_eq!(answer.text(), next[0].as_raw_nonzero().to_string());
    assert_eq!(server.taken_over_by(next[0]).end().status.code(), Some(0));
}

// === HO-3 ===

/// "the old one drains only after the new one said ready; one restart at a time"
#[test]
fn ho_3_the_old_one_serves_until_the_new_one_is_ready_and_nobody_restarts_twice() {
    let mut server = Start::example("restart").set("NEXT", "slow").launch();
    let first = serves_on(&server, "first on ");
    let old = server.pid().as_raw_nonzero().to_string();
    let mut client = Client::connect(first);
    // In flight when the other one takes over, so that the old one drains for a while.
    let mut slow = Client::connect(first);
    slow.get("/sleep").until_read();
    server.stdin().write_all(b"restart\n").expect("it reads its input");
    server.stdout.wait_until(|text| text.matches("first on ").count() == 2);
    server.signal(Signal::HUP);
    server.stderr.wait_for("a restart is under way");
    let is_cold = || !server.stdout.so_far().contains("warm");
    assert!(is_cold(), "this machine is too busy: nothing can be seen of the time in which the new one gets ready");
    let mut served = 0;
    loop {
        let answer = fetch(first, "/");
        client.get("/");
        let another = client.response();
        if !is_cold() {
            break;
        }
        answer.assert_is(200, &old);
        assert!(!another.assert_is(200, &old).says_close(), "it drains too early");
        served += 1;
    }
    assert!(served > 0, "the cache was never cold");
    server.stdout.wait_for("replaced by ");
    let next = server.children()[0];
    kill_process(next, Signal::HUP).expect("it runs");
    server.stderr.wait_for("the process before this one still drains");
    slow.response().assert_is(200, "slept").assert_says_close();
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    // Now it may.
    fetch(first, "/").assert_is(200, &next.pid().as_raw_nonzero().to_string());
    sleep(BEYOND_DEBOUNCE);
    next.signal(Signal::HUP);
    let (exit, third) = next.replaced();
    exit.assert_code(0);
    fetch(first, "/").assert_is(200, &third.pid().as_raw_nonzero().to_string());
    third.end().assert_code(0);
}

/// "only the meant descriptors pass"
#[test]
fn ho_3_only_the_meant_descriptors_pass() {
    let folder = Folder::new("ho-3");
    let path = folder.path.join("socket");
    // One of the process's own surroundings that is open across an exec.
    let start = restartable().set("UNIX", path.display()).set("ADMIN_PORT", 0).set("TLS_PORT", 0);
    let server = start.after("exec 9</dev/zero").start();
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=1500").until_read();
    let before = open_files(server.pid());
    assert!(before.contains("/dev/zero"), "the control: {before:?}");
    server.signal(Signal::HUP);
    server.stderr.wait_for("has taken over");
    let next = server.children()[0];
    let shared: BTreeSet<_> = before.intersection(&open_files(next)).cloned().collect();
    let sockets = shared.iter().filter(|file| file.starts_with("socket:")).count();
    let pipes = shared.iter().filter(|file| file.starts_with("pipe:")).count();
    assert_eq!((sockets, pipes, shared.len()), (4, 3, 7), "four listeners and the standard three: {shared:?}");
    client.response().assert_is(200, "slept");
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    next.end().assert_code(0);
}

// === HO-8 ===

/// "the file that is at its path then […] with the arguments that were set for it"
#[test]
fn ho_8_the_next_process_is_of_the_file_at_its_path_and_has_the_arguments_that_were_set() {
    let folder = Folder::new("ho-8");
    let program = folder.path.join("service");
    let example = process::built_example("restart");
    fs::copy(&example, &program).expect("room for a copy");
    let mut server = Start::command(&[program.to_str().expect("UTF-8")]).launch();
    let first = serves_on(&server, "first on ");
    assert!(!server.stdout.so_far().contains("called with"), "the control: it has none");
    // A new version, which is another program: it says so, and becomes one that serves.
    replace(&program, &format!("#!/bin/sh\necho \"the new version\"; exec {} \"$@\"\n", example.display()), 0o755);
    server.stdin().write_all(b"restart --color red\n").expect("it reads its input");
    server.stdout.wait_for("the new version");
    server.stdout.wait_for("called with --color red");
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    fetch(first, "/").assert_is(200, &next.pid().as_raw_nonzero().to_string());
    // They are its own, and so the one after it has them, too.
    let said = next.stdout.so_far().matches("called with --color red").count();
    sleep(BEYOND_DEBOUNCE);
    next.signal(Signal::HUP);
    next.stdout.wait_until(|text| text.matches("called with --color red").count() > said);
    let (exit, third) = next.replaced();
    exit.assert_code(0);
    third.end().assert_code(0);
}

/// What a process has open, by the names that the kernel gives it; anonymous inodes have none of their own.
pub(crate) fn open_files(pid: Pid) -> BTreeSet<String> {
    let folder = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).expect("it runs");
    let names = folder.flatten().filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()));
    names.filter(|name| !name.starts_with("anon_inode")).collect()
}

/// Where it serves, as soon as it does.
#[track_caller]
pub(crate) fn serves_on(process: &Process, words: &str) -> SocketAddr {
    let address = says_address(process, words);
    assert_eq!(fetch(address, "/").status, 200);
    address
}

#[track_caller]
fn says_address(process: &Process, words: &str) -> SocketAddr {
    let line = process.stdout.wait_for(words);
    line.rsplit(' ').next().and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
}

pub(crate) const BEYOND_DEBOUNCE: Duration = ms(300);
