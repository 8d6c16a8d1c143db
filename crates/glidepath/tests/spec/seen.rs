//! To be seen: what a service says of itself while it runs. Each test has the clients hold something up, and looks for it.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;
use serde_json::Value;

use super::support::http1::{self, Client};
use super::support::http2::Http2;
use super::support::websocket::{TEXT, WebSocket};
use super::support::{Process, Start, fetch};

/// What the process has dumped, when it has dumped.
fn dump(server: &Process, signal: Signal) -> Value {
    server.signal(signal);
    let said = server.stderr.wait_for("\"pid\"");
    let line = said.lines().find(|line| line.contains("\"pid\"")).expect("it was waited for");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn running<'a>(dump: &'a Value, name: &str) -> &'a Value {
    let mut found = dump["running"].as_array().into_iter().flatten();
    found
        .find(|running| running["name"].as_str().is_some_and(|is| is.contains(name)))
        .unwrap_or_else(|| panic!("no {name}: {dump}"))
}

#[test]
fn see_4_the_dump_is_grouped_and_says_what_is_known_of_each() {
    let server = Start::target().set("GRACE", 20).start();
    let mut upload = Client::connect(server.address());
    upload.send(http1::request("POST", "/echo?token=hush", "content-length: 1000\r\n")).send([b'x'; 300]).until_read();
    let from = upload.socket().local_addr().expect("it is connected");
    let mut download = Client::connect(server.address());
    download.get("/stream?chunks=2&ms=0");
    assert_eq!(download.head().status, 200);
    let mut task = Client::connect(server.address());
    task.send(http1::request("POST", "/task?ms=20000", ""));
    assert_eq!(task.response().status, 202);
    server.terminate();
    server.wait_for_seal();
    server.signal(Signal::QUIT);
    let exit = server.exit();
    exit.assert_code(131);
    let dump = &exit.stderr[exit.stderr.find("glidepath: process").expect("a dump")..];
    let lines: Vec<_> = dump.lines().map(str::trim_start).collect();
    let place = |what: &str| {
        lines.iter().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what:?} in:\n{dump}"))
    };
    assert!(lines[0].contains(", draining, SIGTERM "), "{dump}");
    let left = lines[place("left")];
    assert!(
        left.contains("for requests and tasks")
            && left.contains("with the hooks")
            && left.contains("until the process is ended"),
        "{dump}"
    );
    assert!(place("left") < place("connections") && place("connections") < place("requests"), "{dump}");
    assert!(place("requests") < place("tasks"), "{dump}");
    let request = lines[place("requests") + 1];
    assert!(request.ends_with(&format!("POST /echo  from {from}, 300 B in, 0 B out")), "{dump}");
    let task = lines[place("tasks") + 1];
    assert!(task.contains("\"task\" (") && task.contains("examples/target.rs:"), "{dump}");
    assert!(!dump.contains("hush"), "{dump}");
}

#[test]
fn see_4_a_setting_makes_it_json_and_another_goes_on_after_it() {
    let server = Start::target().set("DUMP_JSON", 1).set("DUMP_ON_USR1", 1).start();
    let mut download = Client::connect(server.address());
    download.get("/stream?chunks=3&ms=200").head();
    // "chunk0\n", and what frames it on the wire is not counted.
    assert_eq!(download.chunk().as_deref(), Some(&b"chunk0\n"[..]));
    let mut streams = Http2::connect(server.address());
    streams.get(1, "/sleep?ms=20000");
    streams.until_read();
    let mut upgraded = WebSocket::open(server.address());
    // Until its handler answers it is a request whose 101 may just be on its way.
    upgraded.send(TEXT, b"hello");
    assert_eq!(upgraded.frame(), (0x80 | TEXT, b"hello".to_vec()));

    let dump = dump(&server, Signal::USR1);
    assert_eq!(dump["phase"], "serving");
    assert_eq!(dump["cause"], Value::Null);
    assert_eq!(dump["process_left_ms"], Value::Null, "nothing bounds a service that serves: {dump}");
    let sent = running(&dump, "GET /stream")["bytes_out"].as_u64();
    assert!(sent.is_some_and(|sent| sent % 7 == 0 && (7..=21).contains(&sent)), "{dump}");
    let asleep = running(&dump, "GET /sleep");
    assert_eq!((&asleep["kind"], &asleep["bytes_in"], &asleep["bytes_out"]), (&"request".into(), &0.into(), &0.into()));
    assert_eq!(running(&dump, "GET /ws")["kind"], "upgraded");
    assert_eq!((&dump["connections"]["upgraded"], &dump["connections"]["http/2"]), (&1.into(), &1.into()), "{dump}");

    fetch(server.address(), "/").assert_is(200, "ok");
    assert_eq!(download.chunk().as_deref(), Some(&b"chunk1\n"[..]), "who was served is served on");
    server.signal(Signal::QUIT);
    server.exit().assert_code(131);
}

/// The control: where no signal was chosen it is the program's, and this one has no use for it.
#[test]
fn see_4_a_signal_that_was_not_chosen_is_the_programs() {
    let server = Start::target().start();
    server.signal(Signal::USR1);
    let exit = server.exit();
    assert!(!exit.stderr.contains("glidepath: process"), "{}", exit.stderr);
    assert_eq!(exit.status.signal(), Some(Signal::USR1.as_raw()), "{}", exit.stderr);
}

/// As with the others: whatever mask the process was started with.
#[test]
fn see_4_the_chosen_signal_is_heard_though_it_was_blocked_at_the_start() {
    const BLOCKED: [&str; 2] = ["env", "--block-signal=USR1"];
    if !super::support::runs(&[&BLOCKED[..], &["true"]].concat()) {
        return super::support::skipped("env cannot block signals here");
    }
    let server = Start::target().through(&BLOCKED).set("DUMP_JSON", 1).set("DUMP_ON_USR1", 1).start();
    assert_eq!(dump(&server, Signal::USR1)["phase"], "serving");
    fetch(server.address(), "/").assert_is(200, "ok");
    server.end().assert_code(0);
}

#[test]
fn see_4_hooks_that_have_not_begun_are_named() {
    let server = Start::example("background").set("GRACE", 8).start();
    for hook in ["/hook?name=database&ms=20", "/hook?name=logs&how=hangs"] {
        let mut client = Client::connect(server.address());
        client.send(http1::request("POST", hook, ""));
        assert_eq!(client.response().status, 201);
    }
    server.terminate();
    server.stdout.wait_for("logs begins");
    server.signal(Signal::QUIT);
    let exit = server.exit();
    let hooks =
        exit.stderr.lines().skip_while(|line| !line.contains("hooks  ")).map(str::trim).take(3).collect::<Vec<_>>();
    assert!(hooks.len() == 3 && hooks[0].ends_with("1, and 1 to come"), "{}", exit.stderr);
    assert!(hooks[1].ends_with("\"logs\"") && hooks[2] == "waits  \"database\"", "{}", exit.stderr);
}
