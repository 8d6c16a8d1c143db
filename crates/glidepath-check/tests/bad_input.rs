//! What can't be checked is said in a sentence, with an exit code of its own, and nothing is left running.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use glidepath_check::exit_code;
use support::{Check, Scrap, descendants_of, free_port, server};

#[test]
fn a_command_that_does_not_exist() {
    Check::of(&["no-such-server-anywhere"]).run().fails_with(exit_code::NO_COMMAND, "no-such-server-anywhere");
}

#[test]
fn a_command_that_may_not_be_started() {
    let file = Scrap::new("not-executable", "#!/bin/sh\n", 0o644);
    Check::of(&[&file.path()]).run().fails_with(exit_code::NOT_ALLOWED, "permission denied");
}

#[test]
fn a_report_that_is_none() {
    let file = Scrap::new("no-report.log", "listening on 127.0.0.1:8080\n", 0o644);
    Check::task(&["report", &file.path()]).run().fails_with(exit_code::FILE, "no report is in it");
    Check::task(&["report", "/nowhere/report.json"])
        .run()
        .fails_with(exit_code::FILE, "/nowhere/report.json: No such file");
}

#[test]
fn a_server_that_dies() {
    let said = Check::of(&[&server()]).defect("dies").run();
    said.fails_with(exit_code::DIED, "with exit code 7").says("no configuration");
}

#[test]
fn a_server_that_never_listens() {
    let said = Check::of(&[&server()]).defect("never-listens").flag("--start-timeout=1").run();
    said.fails_with(exit_code::NEVER_LISTENED, "nothing listens");
}

#[test]
fn a_server_that_never_answers() {
    let said = Check::of(&[&server()]).defect("never-answers").flag("--start-timeout=1").run();
    said.fails_with(exit_code::NEVER_ANSWERED, "did not answer GET /");
}

#[test]
fn a_server_that_answers_something_else() {
    let said = Check::of(&[&server()]).defect("no-root").run();
    said.fails_with(exit_code::WRONG_ANSWER, "its status was 404").says("--paths quick=");
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let said = Check::of(&[&server()]).flag(&format!("--port={port}")).run();
    said.fails_with(exit_code::PORT_TAKEN, &port.to_string());
}

#[test]
fn what_it_must_offer_and_does_not() {
    let said = Check::of(&[&server()]).flag("--must-offer=tls").run();
    said.fails_with(exit_code::NOT_OFFERED, "tls");
}

#[test]
fn a_pattern_without_a_case_and_flags_that_are_none() {
    Check::of(&[&server()]).flag("--only=idle/nothing").run().fails_with(exit_code::USAGE, "idle/nothing");
    Check::of(&[&server()]).flag("--no-such-flag").run().fails_with(exit_code::USAGE, "--no-such-flag");
    Check::of(&[]).run().fails_with(exit_code::USAGE, "what is to be checked");
}

#[test]
fn a_baseline_that_is_none_is_seen_before_anything_is_started() {
    let file = Scrap::new("baseline", "{}", 0o644);
    let started = Instant::now();
    let said = Check::of(&[&server()]).flag(&format!("--baseline={}", file.path())).run();
    said.fails_with(exit_code::FILE, "is not a run that --json wrote");
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// A server on a port of its own choice: cases go one by one.
#[test]
fn a_server_with_a_fixed_port_is_checked() {
    let port = free_port().to_string();
    let said = Check::of(&["sh", "-c", &format!("PORT={port} exec {}", server())])
        .flag(&format!("--port={port}"))
        .flag("--only=sig/ends,idle/long-quiet")
        .run();
    said.passes().says("2 of 2 MUST");
}

/// Ctrl-C, in the middle of it: the servers that run are ended, and none is started.
#[test]
fn an_interrupted_check_leaves_nothing_running() {
    let check = Check::of(&[&server()]).start();
    let pid = check.pid();
    support::wait_until("servers run", || descendants_of(pid).len() >= 3);
    let servers = descendants_of(pid);
    check.interrupt();
    let said = check.wait();
    said.fails_with(exit_code::INTERRUPTED, "interrupted");
    support::wait_until("its servers are gone", || servers.iter().all(|pid| !support::is_running(*pid)));
}

/// What a server starts and leaves behind is ended, too, also where it has left the process group.
#[test]
fn nothing_of_the_server_is_left_running() {
    let file = Scrap::new("pids", "", 0o644);
    let script = format!("setsid sleep 300 & echo $! >> {}; exec {}", file.path(), server());
    Check::of(&["sh", "-c", &script]).flag("--only=sig/ends").run().passes();
    let pids = std::fs::read_to_string(file.path()).expect("it was written");
    let pids: Vec<i32> = pids.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(pids.len() > 5, "several servers were started: {pids:?}");
    support::wait_until("what it left is gone", || pids.iter().all(|pid| !support::is_running(*pid)));
}
