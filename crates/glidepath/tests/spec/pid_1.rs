//! SPEC.md, Restart and hand-over: HO-7, and what HO-2 says of PID 1.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};

use rustix::process::{Pid, Signal, kill_process};

use crate::restart::{BEYOND_DEBOUNCE, Load, open_files, restartable, serves_on, zombies_of};
use crate::signals::proc_status;
use crate::support::process::children_of;
use crate::support::*;

/// What PID 1 says of each process for which it stays.
const STAYS: &str = "this process is PID 1, and stays as long as that one serves";

/// What it says when it is there for nothing else.
const SLEEPS: &str = "this process has nothing left to do, and sleeps until they have ended";

/// The service as PID 1; `None` where that can't be.
fn start(start: Start) -> Option<Process> {
    let mut server = start.in_namespace()?.start();
    server.signals_go_to_pid_1();
    Some(server)
}

/// Restarts it, and waits until only PID 1 and the new process are there: this one, for the `count`th time.
#[track_caller]
fn restart(server: &Process, count: usize) -> Pid {
    server.signal(Signal::HUP);
    followed(server, count)
}

/// As soon as the `count`th process after PID 1 is the only one.
#[track_caller]
fn followed(server: &Process, count: usize) -> Pid {
    let log = server.stderr.wait_until(|log| log.matches(STAYS).count() == count);
    let line = log.lines().rfind(|line| line.contains(STAYS)).unwrap_or_default();
    let known = line.rsplit("pid=").next().unwrap_or_default();
    let is_it = |pid: Pid| proc_status(pid, "NSpid:").is_some_and(|pids| pids.split_whitespace().last() == Some(known));
    wait_until("the one before is gone, and reaped", || matches!(children_of(server.pid())[..], [only] if is_it(only)));
    server.stderr.wait_for(SLEEPS);
    children_of(server.pid())[0]
}

/// "the successor takes the listeners […], and PID 1 […] stays": "refused = reset = lost = 0" as elsewhere (HO-1).
#[test]
fn ho_7_as_pid_1_it_stays_for_the_process_that_takes_over() {
    let Some(server) = start(restartable()) else { return };
    let load = Load::new(server.address());
    let over = AtomicBool::new(false);
    scope(|scope| {
        let _tells = TellsOver(&over);
        let clients = [Load::asks_again_and_again, Load::connects_for_each_request, Load::thinks_between_requests];
        for client in clients.into_iter().flat_map(|client| [client; 2]) {
            let (load, over) = (&load, &over);
            scope.spawn(move || client(load, over));
        }
        for count in [1, 2] {
            goes_on(&load);
            restart(&server, count);
            sleep(BEYOND_DEBOUNCE);
        }
        goes_on(&load);
    });
    assert_eq!(load.troubles(), "");
    assert!(server.is_running());
    server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    let reports: Vec<serde_json::Value> =
        exit.stdout.lines().map(|line| serde_json::from_str(line).expect("only reports are told there")).collect();
    let causes: Vec<_> = reports.iter().map(|report| report["cause"].as_str().unwrap_or_default()).collect();
    assert_eq!(causes, ["restart", "restart", "SIGTERM"], "each has told its own");
    assert!(exit.stderr.contains("the process that served has ended, and this one ends"), "{}", exit.stderr);
}

#[track_caller]
fn goes_on(load: &Load) {
    let before = load.answers.load(Ordering::Relaxed);
    wait_until("the clients are at it", || load.answers.load(Ordering::Relaxed) > before + 100);
}

/// "no deadline ends it, and it costs nothing"
#[test]
fn ho_7_no_deadline_ends_a_guardian_and_it_sleeps() {
    let Some(server) = start(restartable().set("GRACE", 1)) else { return };
    restart(&server, 1);
    // Longer than the grace period and what follows it, and than a process may linger without a word.
    sleep(ms(1800));
    let before = switches(server.pid());
    sleep(ms(1200));
    let woke = switches(server.pid()) - before;
    assert!(woke <= 1, "it woke {woke} times");
    assert!(server.is_running());
    fetch(server.address(), "/").assert_is(200, "ok");
    server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(!exit.stderr.contains("the process has not"), "{}", exit.stderr);
}

/// How often all threads of a process have gone to sleep, or were made to.
fn switches(pid: Pid) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("it runs");
    let status = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
    let counts = status.map(|status| {
        let lines = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
        lines.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum::<u64>()
    });
    counts.sum()
}

/// "with the same exit code", in a chain of them; "no zombie is left".
#[test]
fn ho_7_three_restarts_in_a_row_leave_no_zombie_and_the_last_exit_code() {
    let Some(server) = start(restartable().set("GRACE", 1)) else { return };
    for count in 1..=3 {
        restart(&server, count);
        fetch(server.address(), "/").assert_is(200, "ok");
        sleep(BEYOND_DEBOUNCE);
    }
    let mut cut = Client::connect(server.address());
    cut.get("/sleep?ms=9000").until_read();
    server.terminate();
    assert_eq!(cut.response().status, 503);
    server.exit().assert_code(3);
}

/// "128+n if a signal killed it", and it says so.
#[test]
fn ho_7_when_the_one_that_serves_is_killed_pid_1_ends_with_137() {
    for restarts in [1, 2] {
        let Some(server) = start(restartable()) else { return };
        let mut next = restart(&server, 1);
        if restarts == 2 {
            sleep(BEYOND_DEBOUNCE);
            next = restart(&server, 2);
        }
        kill_process(next, Signal::KILL).expect("it runs");
        let exit = server.exit();
        exit.assert_code(137);
        assert!(exit.stderr.contains("was killed by a signal, nobody came after it"), "{}", exit.stderr);
    }
}

/// "when they have ended": whoever drains finishes what it has, and waits for nobody's end that is PID 1's to see.
#[test]
fn ho_7_when_the_one_that_serves_is_killed_what_others_have_is_finished() {
    for between in [0, 1] {
        let Some(server) = start(restartable()) else { return };
        let mut drains = server.pid();
        for count in 1..=between {
            drains = restart(&server, count);
        }
        sleep(BEYOND_DEBOUNCE);
        let mut old = Client::connect(server.address());
        old.get("/sleep?ms=1500").until_read();
        server.signal(Signal::HUP);
        server.stderr.wait_until(|log| log.matches(STAYS).count() == between + 1);
        kill_process(children_of(drains)[0], Signal::KILL).expect("it runs");
        old.response().assert_is(200, "slept");
        server.exit().assert_code(137);
    }
}

/// "while PID 1 still drains, a signal goes to the one that serves", and each has its grace period.
#[test]
fn ho_7_sigterm_while_pid_1_drains_ends_both_and_loses_nothing() {
    for [old_ms, new_ms] in [[1500, 300], [700, 1500]] {
        let Some(server) = start(restartable()) else { return };
        let mut old = Client::connect(server.address());
        old.get(&format!("/sleep?ms={old_ms}")).until_read();
        server.signal(Signal::HUP);
        server.stderr.wait_for(STAYS);
        let mut new = Client::connect(server.address());
        new.get(&format!("/sleep?ms={new_ms}")).until_read();
        server.terminate();
        server.stderr.wait_for("cause=\"SIGTERM\"");
        old.response().assert_is(200, "slept").assert_says_close();
        new.response().assert_is(200, "slept").assert_says_close();
        server.exit().assert_code(0);
    }
}

/// "for all that drain, too (SIG-4)": PID 1, or one between it and the one that serves.
#[test]
fn ho_7_a_further_signal_forces_all_that_drain() {
    for between in [0, 1] {
        let Some(server) = start(restartable()) else { return };
        for count in 1..=between {
            restart(&server, count);
        }
        sleep(BEYOND_DEBOUNCE);
        let mut old = Client::connect(server.address());
        old.get("/sleep?ms=9000").until_read();
        server.signal(Signal::HUP);
        server.stderr.wait_until(|log| log.matches(STAYS).count() == between + 1);
        let mut new = Client::connect(server.address());
        new.get("/sleep?ms=9000").until_read();
        server.terminate();
        server.stderr.wait_for("cause=\"SIGTERM\"");
        sleep(BEYOND_DEBOUNCE);
        assert!(server.is_running(), "the first is no further one");
        let forced = server.terminate();
        assert_eq!((old.response().status, new.response().status), (503, 503));
        let exit = server.exit();
        exit.assert_code(143);
        assert!(exit.at - forced < ms(1000), "{:?}", exit.at - forced);
    }
}

/// What PID 1 cut itself counts, though the other one has ended in order.
#[test]
fn ho_7_what_pid_1_cuts_after_the_signal_shows_in_the_exit_code() {
    let Some(server) = start(restartable().set("GRACE", 1)) else { return };
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=9000").until_read();
    server.signal(Signal::HUP);
    server.stderr.wait_for(STAYS);
    server.terminate();
    assert_eq!(client.response().status, 503);
    server.exit().assert_code(3);
}

/// "a signal that is to end the service is never lost", whoever serves in that moment.
#[test]
fn ho_7_sigterm_right_after_sighup_ends_all() {
    for restarts in [0, 1] {
        for pause in [0, 1, 2, 3, 5, 8, 13, 21] {
            let Some(server) = start(restartable()) else { return };
            let address = server.address();
            for count in 1..=restarts {
                restart(&server, count);
                sleep(BEYOND_DEBOUNCE);
            }
            server.signal(Signal::HUP);
            sleep(ms(pause));
            server.terminate();
            server.exit().assert_code(0);
            assert!(!sockets::is_listening(address), "nobody serves on");
        }
    }
}

/// "PID 1 follows": also one that came to serve because the one before it was killed, which could not say so.
#[test]
fn ho_7_it_follows_one_whose_predecessor_was_killed() {
    let start = Start::example("restart").set("NEXT", "slow");
    let Some(start) = start.in_namespace() else { return };
    let mut server = start.launch();
    let first = serves_on(&server, "first on ");
    server.signals_go_to_pid_1();
    server.signal(Signal::HUP);
    server.stderr.wait_for(STAYS);
    server.stderr.wait_for(SLEEPS);
    let middle = children_of(server.pid())[0];
    server.signal(Signal::HUP);
    server.stdout.wait_until(|text| text.matches("first on ").count() == 3);
    kill_process(middle, Signal::KILL).expect("it runs");
    server.stderr.wait_until(|log| log.matches(STAYS).count() == 2);
    wait_until("the one before is reaped", || children_of(server.pid()).len() == 1);
    assert_eq!(fetch(first, "/").status, 200);
    server.terminate();
    server.exit().assert_code(0);
}

/// A signal that comes when nobody serves is for the one that does next.
#[test]
fn ho_7_a_signal_between_two_of_them_is_heard_by_the_next() {
    let start = Start::example("restart").set("NEXT", "slow");
    let Some(start) = start.in_namespace() else { return };
    let mut server = start.launch();
    serves_on(&server, "first on ");
    server.signals_go_to_pid_1();
    server.signal(Signal::HUP);
    server.stderr.wait_for(STAYS);
    server.stderr.wait_for(SLEEPS);
    let middle = children_of(server.pid())[0];
    server.signal(Signal::HUP);
    // The next one stands still before it can say anything.
    server.stdout.wait_until(|text| text.matches("first on ").count() == 3);
    let next = children_of(middle)[0];
    kill_process(next, Signal::STOP).expect("it runs");
    kill_process(middle, Signal::KILL).expect("it runs");
    wait_until("the one before is reaped", || children_of(server.pid()) == [next]);
    server.terminate();
    assert!(server.is_running());
    kill_process(next, Signal::CONT).expect("it stands still");
    server.exit().assert_code(0);
}

/// "it hands on every signal": dumps are the serving one's.
#[test]
fn ho_7_a_dump_is_of_the_one_that_serves() {
    let Some(server) = start(restartable().set("DUMP_ON_USR1", 1)) else { return };
    restart(&server, 1);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=9000").until_read();
    server.signal(Signal::USR1);
    server.stderr.wait_until(|log| log.matches("glidepath: process ").count() == 1 && log.contains("1 open"));
    assert!(server.is_running());
    server.signal(Signal::QUIT);
    let exit = server.exit();
    exit.assert_code(131);
    assert_eq!(exit.stderr.matches("glidepath: process ").count(), 2, "PID 1 has nothing to say: {}", exit.stderr);
}

/// While PID 1 drains, it says what runs in it, too; nobody is waited for.
#[test]
fn ho_7_sigquit_while_pid_1_drains_dumps_and_ends_both() {
    let Some(server) = start(restartable()) else { return };
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=9000").until_read();
    server.signal(Signal::HUP);
    server.stderr.wait_for(STAYS);
    let told = server.signal(Signal::QUIT);
    let exit = server.exit();
    exit.assert_code(131);
    assert_eq!(exit.stderr.matches("glidepath: process ").count(), 2, "{}", exit.stderr);
    assert!(exit.at - told < ms(1000), "{:?}", exit.at - told);
}

/// A PID 1 that is stuck takes nobody with it.
#[test]
fn ho_7_a_pid_1_whose_runtime_is_blocked_ends_its_part_and_stays() {
    let Some(server) = start(restartable().set("GRACE", 1).set("WORKERS", 0)) else { return };
    let mut blocked = Client::accepted(server.address());
    server.signal(Signal::HUP);
    server.stderr.wait_for(STAYS);
    // Within the quiet window; on the only thread that there is.
    blocked.get("/block?ms=60000");
    server.stderr.wait_for(SLEEPS);
    sleep(ms(700));
    assert!(server.is_running());
    fetch(server.address(), "/").assert_is(200, "ok");
    // Nor does it keep the next one from being restarted.
    restart(&server, 2);
    server.terminate();
    let exit = server.exit();
    assert!(exit.stdout.contains("\"held_by\""), "the control: {}", exit.stdout);
    exit.assert_code(3);
}

/// HO-3, "only the meant descriptors pass": those of every restart, and what PID 1 listens on.
#[test]
fn ho_7_only_the_meant_descriptors_pass() {
    let Some(server) = start(restartable()) else { return };
    let counts = |old: Pid, new: Pid| {
        let (old, new) = (open_files(old), open_files(new));
        let shared: Vec<_> = old.intersection(&new).collect();
        let of = |kind: &str| shared.iter().filter(|file| file.starts_with(kind)).count();
        (of("socket:"), of("pipe:"), shared.len())
    };
    let next = restart(&server, 1);
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=1500").until_read();
    sleep(BEYOND_DEBOUNCE);
    server.signal(Signal::HUP);
    server.stderr.wait_until(|log| log.matches("listeners closed").count() == 2);
    let last = children_of(next)[0];
    assert_eq!(counts(next, last), (1, 3, 4), "what PID 1 listens on, and the standard three");
    assert_eq!(counts(server.pid(), last), (0, 3, 3), "PID 1 has kept nothing");
    client.response().assert_is(200, "slept");
    followed(&server, 2);
    server.terminate();
    server.exit().assert_code(0);
}

// === HO-2 ===

/// "the old process goes on serving, and says why": also as PID 1. It leaves no zombie, and waits for no child that it did not
/// start.
#[test]
fn ho_2_as_pid_1_it_goes_on_when_a_successor_fails_and_says_why() {
    for (next, why) in [
        ("panics", "exit status: 101"),
        ("exits", "exit status: 1"),
        ("hangs", "not ready within 2s, and was killed"),
        ("slow", "signal: 9"),
    ] {
        // The shell becomes the program, which so has a child that it knows nothing of: one that it must not reap.
        let Some(start) = Start::example("restart").set("NEXT", next).in_namespace() else { return };
        let mut server = start.after("sleep 0.1 & true").launch();
        let first = serves_on(&server, "first on ");
        server.signals_go_to_pid_1();
        wait_until("the child that is not its own has ended", || zombies_of(server.pid()) == 1);
        server.stdin().write_all(b"restart\n").expect("it reads its input");
        if next == "slow" {
            server.stdout.wait_until(|text| text.matches("first on ").count() == 2);
            let next = *children_of(server.pid()).last().expect("it runs");
            kill_process(next, Signal::KILL).expect("it gets ready");
        }
        let told = server.stdout.wait_for("cannot restart: ");
        assert!(told.contains(why), "{next}: {told}");
        assert!(server.stderr.wait_for("came to nothing").contains(why));
        assert_eq!(children_of(server.pid()).len(), 1, "{next}: it has left a child, or reaped what is not its own");
        fetch(first, "/").assert_is(200, "1");
        server.terminate();
        server.exit().assert_code(0);
    }
}
