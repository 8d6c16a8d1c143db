//! SPEC.md, Restart and hand-over: what a service and systemd say to each other. A socket plays the manager.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::Instant;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::support::*;

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let name = format!("glidepath-{test}-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("a free name");
        Self { socket, name: format!("@{name}") }
    }

    fn on_a_path(folder: &Folder) -> Self {
        let path = folder.path.join("notify");
        Self { socket: UnixDatagram::bind(&path).expect("a free path"), name: path.display().to_string() }
    }

    /// The next message, as its lines.
    #[track_caller]
    fn hears(&self) -> Vec<String> {
        self.hears_within(PATIENCE).expect("a message")
    }

    fn hears_within(&self, bound: std::time::Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(bound)).expect("a bound above zero");
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).ok()?;
        let text = std::str::from_utf8(&message[..length]).expect("UTF-8");
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The next message, with the descriptors that came with it.
    #[track_caller]
    fn is_given(&self) -> (Vec<String>, Vec<OwnedFd>) {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a bound above zero");
        let mut message = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut message)];
        let received = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        let text = std::str::from_utf8(&message[..received.bytes]).expect("UTF-8");
        (text.lines().map(str::to_owned).collect(), fds)
    }

    /// The next message that is about something else than life.
    #[track_caller]
    fn hears_news(&self) -> Vec<String> {
        loop {
            let message = self.hears();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }
}

/// The number of `name=…` in a message.
#[track_caller]
fn number(message: &[String], name: &str) -> u64 {
    let found = message.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in {message:?}"))
}

/// "READY=1, STOPPING=1, […] STATUS= with live figures, EXTEND_TIMEOUT_USEC […] are sent", in this order.
#[test]
fn ho_4_the_manager_hears_of_the_start_and_of_the_end_with_live_figures() {
    let folder = Folder::new("ho-4");
    for manager in [Manager::new("ho-4"), Manager::on_a_path(&folder)] {
        let server = Start::target().set("NOTIFY_SOCKET", &manager.name).set("GRACE", 8).set("LAME_DUCK", 1).start();
        assert_eq!(manager.hears(), ["READY=1", "STATUS=serving"]);
        let mut client = Client::connect(server.address());
        client.get("/sleep?ms=6000").until_read();
        let mut websocket = websocket::WebSocket::open(server.address());
        assert_eq!(manager.hears_within(ms(300)), None, "the control: without a signal there is nothing to say");
        let signal = server.terminate();
        let stopping = manager.hears();
        assert_eq!(stopping[0], "STOPPING=1");
        // Lame duck, grace, half a second for the last answers, and a margin.
        assert_eq!(number(&stopping, "EXTEND_TIMEOUT_USEC"), 10_500_000);
        assert!(stopping[2].starts_with("STATUS=lame duck: 1 request, 1 upgraded connection"), "{stopping:?}");
        let in_the_drain = loop {
            let status = manager.hears();
            if status[0].starts_with("STATUS=draining: 1 request, 1 upgraded connection, ") {
                break status;
            }
            assert!(status[0].starts_with("STATUS=lame duck"), "{status:?}");
        };
        assert!(in_the_drain[0].ends_with(" s left"), "{in_the_drain:?}");
        assert_eq!(websocket.close_code(), 1001);
        websocket.send(websocket::CLOSE, &1001_u16.to_be_bytes());
        let later = loop {
            let status = manager.hears();
            if !status[0].contains("upgraded") {
                break status;
            }
        };
        assert!(later[0].starts_with("STATUS=draining: 1 request, "), "the figures live: {later:?}");
        assert!(signal.elapsed() < ms(6000), "too late to be told in the drain");
        client.response().assert_is(200, "slept");
        server.exit().assert_code(0);
        assert!(manager.hears_within(ms(100)).is_none_or(|last| last[0].starts_with("STATUS=")));
    }
}

/// "WATCHDOG=1 [is] sent", also in the drain, and not where it is meant for another process.
#[test]
fn ho_4_the_watchdog_is_fed_while_serving_and_in_the_drain() {
    let manager = Manager::new("ho-4-watchdog");
    const LIMIT: std::time::Duration = ms(2000);
    let start = || Start::target().set("NOTIFY_SOCKET", &manager.name).set("WATCHDOG_USEC", LIMIT.as_micros());
    let server = start().start();
    let fed = |count: usize| {
        let mut last = Instant::now();
        let mut left = count;
        while left > 0 {
            if manager.hears() == ["WATCHDOG=1"] {
                assert!(last.elapsed() < LIMIT, "{:?} without a word", last.elapsed());
                last = Instant::now();
                left -= 1;
            }
        }
    };
    fed(3);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=4500").until_read();
    server.terminate();
    while manager.hears()[0] != "STOPPING=1" {}
    fed(3);
    client.response().assert_is(200, "slept");
    server.exit().assert_code(0);

    while manager.hears_within(ms(50)).is_some() {}
    let server = start().set("WATCHDOG_PID", 1).start();
    assert_eq!(manager.hears(), ["READY=1", "STATUS=serving"]);
    assert_eq!(manager.hears_within(ms(1500)), None);
    server.end().assert_code(0);
}

/// "RELOADING=1 with MONOTONIC_USEC, MAINPID", and no STOPPING=1, which would be the unit's end.
#[test]
fn ho_4_in_a_restart_the_manager_hears_of_the_new_main_process() {
    let manager = Manager::new("ho-4-restart");
    let server = Start::target().set("NOTIFY_SOCKET", &manager.name).set("RESTART", 1).set("WATCHDOG_USEC", 400_000);
    let server = server.start();
    assert_eq!(manager.hears_news(), ["READY=1", "STATUS=serving"]);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=1500").until_read();
    let before = monotonic_micros();
    server.signal(Signal::HUP);
    let reloading = manager.hears_news();
    assert_eq!(reloading[0], "RELOADING=1");
    let told = number(&reloading, "MONOTONIC_USEC");
    assert!((before..=monotonic_micros()).contains(&told), "{told} is not between {before} and now");
    // The new one says so, and the old one gives the service away.
    assert_eq!(manager.hears_news(), ["READY=1", "STATUS=serving"]);
    let away = manager.hears_news();
    let main = number(&away, "MAINPID");
    assert_eq!(away[1..], ["READY=1", "STATUS=serving"]);
    // While the old one drains, the new one feeds the watchdog, and the old one says nothing more.
    for _ in 0..4 {
        assert_eq!(manager.hears(), ["WATCHDOG=1"]);
    }
    assert_eq!(client.response().assert_is(200, "slept").status, 200);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    assert_eq!(main, u64::from(next.pid().as_raw_nonzero().get().unsigned_abs()));
    next.terminate();
    assert_eq!(manager.hears_news()[0], "STOPPING=1");
    next.exit().assert_code(0);
}

/// A restart that comes to nothing ends the reload, with the reason.
#[test]
fn ho_4_a_restart_that_fails_leaves_the_manager_with_the_old_process() {
    let manager = Manager::new("ho-4-failed");
    let folder = Folder::new("ho-4-failed");
    let program = folder.path.join("target");
    std::fs::copy(process::built_example("target"), &program).expect("room for a copy");
    let start = Start::command(&[program.to_str().expect("UTF-8")]).set("PORT", 0).set("RESTART", 1);
    let server = start.set("NOTIFY_SOCKET", &manager.name).start();
    assert_eq!(manager.hears(), ["READY=1", "STATUS=serving"]);
    std::fs::remove_file(&program).expect("it is there");
    server.signal(Signal::HUP);
    assert_eq!(manager.hears()[0], "RELOADING=1");
    let failed = manager.hears();
    assert_eq!(failed[0], "READY=1");
    assert!(
        failed[1].starts_with("STATUS=serving; the restart failed: ") && failed[1].contains("No such file"),
        "{failed:?}"
    );
    server.end().assert_code(0);
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}

// === Socket activation ===

/// "listeners from LISTEN_FDS/LISTEN_PID/LISTEN_FDNAMES are adopted", from systemd's own tool; and a restart hands them on.
#[test]
fn ho_4_a_socket_of_systemd_is_adopted_by_its_name() {
    let address = sockets::free_address();
    let folder = Folder::new("ho-4-activation");
    let path = folder.path.join("socket");
    let Some(mut server) = activated(address, &path, "http:unix") else { return };
    server.listens_on(address);
    fetch(address, "/").assert_is(200, "ok");
    UnixStream::connect(&path).expect("both are adopted");
    server.signal(Signal::HUP);
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    fetch(address, "/").assert_is(200, "ok");
    next.end().assert_code(0);
    assert!(path.exists(), "LIS-10: it is systemd's path");
}

/// The control: sockets by other names are not taken, and the addresses are in use.
#[test]
fn ho_4_a_socket_by_another_name_is_not_taken() {
    let address = sockets::free_address();
    let folder = Folder::new("ho-4-names");
    let Some(server) = activated(address, &folder.path.join("socket"), "web:local") else { return };
    wait_until("it listens", || sockets::is_listening(address));
    // The first connection starts it.
    let _connected = TcpStream::connect(address);
    let exit = server.exit();
    exit.assert_code(1);
    assert!(exit.stderr.contains("in use"), "{}", exit.stderr);
}

/// A target that systemd's own tool starts at the first connection.
fn activated(address: SocketAddr, path: &std::path::Path, names: &str) -> Option<Process> {
    if !runs(&["systemd-socket-activate", "--version"]) {
        skipped("there is no systemd-socket-activate");
        return None;
    }
    let (address_text, path) = (address.to_string(), path.display().to_string());
    let port = format!("--setenv=PORT={}", address.port());
    let (unix, names) = (format!("--setenv=UNIX={path}"), format!("--fdname={names}"));
    let tool =
        ["systemd-socket-activate", "-l", &address_text, "-l", &path, &names, &port, &unix, "--setenv=RESTART=1"];
    let target = process::built_example("target");
    let words: Vec<&str> = tool.into_iter().chain([target.to_str().expect("UTF-8")]).collect();
    Some(Start::command(&words).launch())
}

/// "are adopted": and a value that can't be meant is named.
#[test]
fn ho_4_a_bad_value_is_named_and_nothing_is_served() {
    for (variables, says) in [
        ("LISTEN_PID=$$ LISTEN_FDS=many", "LISTEN_FDS=many: not a number of descriptors"),
        ("LISTEN_PID=me LISTEN_FDS=1", "LISTEN_PID=me: not a process id"),
        ("LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http", "LISTEN_FDNAMES=http: 1 names for LISTEN_FDS=2"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "descriptor 3 was not inherited"),
    ] {
        let exit = Start::target().after(&format!("export {variables}; exec 3<&-")).launch().exit();
        exit.assert_code(1);
        assert!(exit.stderr.contains(says), "{variables}: {}", exit.stderr);
    }
    // Meant for another process: not ours to judge.
    Start::target().after("export LISTEN_PID=1 LISTEN_FDS=9").start().end().assert_code(0);
}

// === The store of descriptors ===

/// "the listeners are given to systemd's store of descriptors (FDSTORE=1, by their names) before READY=1": what comes is the
/// socket that listens.
#[test]
fn ho_6_the_manager_is_given_the_listeners_by_their_names_before_it_hears_of_the_start() {
    let manager = Manager::new("ho-6");
    let folder = Folder::new("ho-6");
    let path = folder.path.join("socket");
    let start = Start::target().set("NOTIFY_SOCKET", &manager.name).set("UNIX", path.display()).set("ADMIN_PORT", 0);
    let server = start.set("KEEP", 1).start();
    for (name, address) in [("http", Some(server.address())), ("unix", None), ("admin", Some(server.admin()))] {
        let (message, fds) = manager.is_given();
        assert_eq!(message, ["FDSTORE=1", &format!("FDNAME={name}")]);
        let [fd] = &fds[..] else { panic!("{} descriptors for {name}", fds.len()) };
        assert_eq!(sockopt::socket_acceptconn(fd), Ok(true), "{name} listens");
        let bound = rustix::net::getsockname(fd).expect("a socket");
        match address {
            Some(address) => assert_eq!(SocketAddr::try_from(bound), Ok(address)),
            None => assert_eq!(bound.address_family(), rustix::net::AddressFamily::UNIX),
        }
    }
    assert_eq!(manager.is_given().0, ["READY=1", "STATUS=serving"]);
    server.end().assert_code(0);
    assert!(path.exists(), "the next process finds the path's socket in the store");

    // The control: unless it is set, nothing is given.
    let manager = Manager::new("ho-6-off");
    let server = Start::target().set("NOTIFY_SOCKET", &manager.name).start();
    let (message, fds) = manager.is_given();
    assert_eq!((&message[0][..], fds.len()), ("READY=1", 0));
    server.end().assert_code(0);
}

/// "who connects from then on waits there for the next process": no client that connects again and again is refused or reset
/// from one start to the next, and the control, without the store, refuses some.
#[test]
fn ho_6_nobody_is_refused_between_an_end_and_the_next_start() {
    for keeps in [true, false] {
        let manager = Manager::new("ho-6-next");
        let address = sockets::free_address();
        let start = || {
            let start = Start::target().set("NOTIFY_SOCKET", &manager.name).set("PORT", address.port()).set("GRACE", 8);
            if keeps { start.set("KEEP", 1) } else { start }
        };
        let mut server = start().start();
        let store = manager.is_given().1;
        assert_eq!(store.len(), usize::from(keeps));
        let (over, refused, answers) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let server = scope(|scope| {
            let _tells = TellsOver(&over);
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        match Client::try_connect(address) {
                            Ok(mut client) => {
                                client.get("/").response().assert_is(200, "ok");
                                answers.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => {
                                assert!(!keeps, "{error}");
                                refused.fetch_add(1, Ordering::Relaxed);
                                sleep(ms(1));
                            }
                        }
                    }
                });
            }
            for _ in 0..5 {
                let before = answers.load(Ordering::Relaxed);
                wait_until("the clients are at it", || answers.load(Ordering::Relaxed) > before + 50);
                server.end().assert_code(0);
                // Nobody serves. With the store, those who come wait.
                let before = refused.load(Ordering::Relaxed);
                if keeps {
                    sleep(ms(200));
                } else {
                    wait_until("somebody is refused", || refused.load(Ordering::Relaxed) > before);
                }
                server = if keeps { start().inherits("http", &store[0]).start() } else { start().start() };
            }
            server
        });
        server.end().assert_code(0);
    }
}

/// "at the end such a listener is neither sealed nor filtered: what is in its queue is taken". The same for a socket that systemd has
/// opened, and for one that a restart has handed on; where the next process does not take one, it is sealed.
#[test]
fn ho_6_a_listener_that_a_manager_keeps_is_open_after_the_end() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    let socket = OwnedFd::from(socket);
    for restarts in [0, 2] {
        let start = Start::target().set("RESTART", 1).set("GRACE", 8).set("PORT", address.port());
        let mut server = start.inherits("http", &socket).start();
        for _ in 0..restarts {
            server.signal(Signal::HUP);
            let (exit, next) = server.replaced();
            exit.assert_code(0);
            server = next;
        }
        server.freeze();
        let mut waiting: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
        waiting.iter_mut().for_each(|client| {
            client.get("/");
        });
        server.terminate();
        server.thaw();
        for client in &mut waiting {
            client.response().assert_is(200, "ok");
        }
        server.exit().assert_code(0);
        // With the filter of a seal this connect would time out.
        let mut next = Client::connect(address);
        next.get("/");
        let again = Start::target().set("PORT", address.port()).inherits("http", &socket).start();
        next.response().assert_is(200, "ok");
        again.end().assert_code(0);
    }
}

/// What nobody takes any more is forgotten, so that no queue grows that nobody empties.
#[test]
fn ho_6_what_is_not_taken_any_more_is_taken_out_of_the_store() {
    let manager = Manager::new("ho-6-left");
    let old = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let address = sockets::free_address();
    let start = Start::target().set("NOTIFY_SOCKET", &manager.name).set("KEEP", 1).set("PORT", address.port());
    let server = start.inherits("http", &old).start();
    assert_eq!(server.address(), address);
    assert_eq!(manager.is_given().0, ["FDSTOREREMOVE=1", "FDNAME=http"]);
    let (message, fds) = manager.is_given();
    assert_eq!((&message[0][..], fds.len()), ("FDSTORE=1", 1));
    assert_eq!(manager.is_given().0[0], "READY=1");
    server.end().assert_code(0);

    // The control: what is taken is there already, and stays.
    let start = Start::target().set("NOTIFY_SOCKET", &manager.name).set("KEEP", 1).set("PORT", address.port());
    let server = start.inherits("http", &fds[0]).start();
    let first = loop {
        let message = manager.hears();
        if message[0] != "STOPPING=1" && !message[0].starts_with("STATUS=") {
            break message;
        }
    };
    assert_eq!(first[0], "READY=1", "nothing is given a second time or taken out");
    server.end().assert_code(0);
}
