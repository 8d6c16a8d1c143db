//! SPEC.md, Background work and teardown.

use std::time::Duration;

use crate::support::*;

#[track_caller]
fn post(server: &Process, path: &str) {
    let mut client = Client::connect(server.address());
    client.send(http1::request("POST", path, ""));
    let status = client.response().status;
    assert!(matches!(status, 201 | 202), "POST {path}: {status}");
}

/// "tracked tasks are waited for after the requests"
#[test]
pub(crate) fn task_1_tracked_tasks_are_waited_for() {
    let server = Start::target().start();
    post(&server, "/task?ms=1000");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.stdout.contains("task done"), "{}", exit.stdout);
    assert!(exit.at - signal < ms(1400), "exit {:?} after the signal", exit.at - signal);
}

/// "also those that in-flight requests start"
#[test]
pub(crate) fn task_1_a_task_that_a_request_in_flight_starts_is_waited_for() {
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.start_head("POST", "/task?ms=500", "");
    server.terminate();
    server.wait_for_seal();
    assert_eq!(client.finish_head().response().status, 202);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.stdout.contains("task done"), "{}", exit.stdout);
}

/// The control: a task that is not there holds nothing.
#[test]
pub(crate) fn task_1_without_a_task_it_ends_at_once() {
    let server = Start::target().start();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(!exit.stdout.contains("task done"));
    assert!(exit.at - signal < ms(250), "exit {:?} after the signal", exit.at - signal);
}

/// "a task sees the drain and may hurry"
#[test]
fn task_2_a_task_that_sees_the_drain_may_hurry() {
    let server = Start::example("background").start();
    post(&server, "/task?name=poll&how=hurries");
    server.stdout.wait_for("poll begins");
    std::thread::sleep(ms(500));
    assert!(!server.stdout.so_far().contains("poll ends"), "the control: without a signal it goes on");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.stdout.contains("poll ends"), "{}", exit.stdout);
    assert!(exit.at - signal < ms(250) + QUIET, "exit {:?} after the signal", exit.at - signal);
}

/// "at the deadline it is aborted and named in the report"
#[test]
pub(crate) fn task_2_a_task_is_aborted_at_the_deadline_and_named() {
    let server = Start::target().set("GRACE", 1).start();
    post(&server, "/task?ms=20000");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert!(!exit.stdout.contains("task done"));
    assert_between(exit.at - signal, ms(900), ms(1500));
    let report = exit.report();
    assert_eq!(report["tasks"]["aborted"], 1);
    assert_eq!(names_of_cut(&report, "task").len(), 1, "{report}");
    assert!(names_of_cut(&report, "task")[0].contains("task"), "{report}");
    assert!(report["cut"][0]["age_ms"].as_f64() > Some(900.0), "{report}");
}

/// "a task or a hook that panics holds nothing up; it is counted and named"
#[test]
fn task_3_panics_hold_nothing_up_and_are_named() {
    let server = Start::example("background").start();
    post(&server, "/task?name=clumsy&ms=300&how=panics");
    post(&server, "/hook?name=database");
    post(&server, "/hook?name=fragile&how=panics");
    let signal = server.terminate();
    let exit = server.exit();
    assert!(exit.at - signal < ms(350) + QUIET, "exit {:?} after the signal", exit.at - signal);
    assert!(exit.stdout.contains("database ends"), "the other hook did not run: {}", exit.stdout);
    let report = exit.report_among_lines();
    assert_eq!((&report["tasks"]["panicked"], &report["hooks"]["panicked"]), (&1.into(), &1.into()), "{report}");
    let panicked = report["panicked"].to_string();
    assert!(panicked.contains("clumsy") && panicked.contains("fragile"), "{panicked}");
    assert!(exit.stderr.contains("clumsy") && exit.stderr.contains("fragile"), "{}", exit.stderr);
}

/// "a blocking task or a stuck thread does not keep the process past the deadline"
#[test]
fn task_4_a_blocking_task_does_not_keep_the_process() {
    let server = Start::example("background").set("GRACE", 1).start();
    post(&server, "/task?name=stuck&ms=20000&how=blocks");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert_between(exit.at - signal, ms(900), ms(1500));
    let report = exit.report_among_lines();
    assert!(names_of_cut(&report, "task").iter().any(|name| name.contains("stuck")), "{report}");
}

/// The same for a handler that blocks its thread, with threads to spare.
#[test]
pub(crate) fn task_4_a_stuck_handler_does_not_keep_the_process() {
    let server = Start::target().set("GRACE", 1).set("WORKERS", 2).start();
    let mut client = Client::connect(server.address());
    client.get("/block?ms=20000").until_read();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert_between(exit.at - signal, ms(900), ms(1500));
}

/// The control: a blocking task that ends in time is waited for.
#[test]
fn task_4_a_blocking_task_that_ends_in_time_is_waited_for() {
    let server = Start::example("background").start();
    post(&server, "/task?name=brief&ms=1000&how=blocks");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    assert_between(exit.at - signal, ms(800), ms(1500));
}

/// "hooks run after the tasks, last registered first, each awaited"
#[test]
fn hook_1_hooks_run_after_the_tasks_the_last_one_first() {
    let server = Start::example("background").start();
    post(&server, "/hook?name=database&ms=100");
    post(&server, "/hook?name=cache&ms=200");
    post(&server, "/task?name=mail&ms=500");
    server.stdout.wait_for("mail begins");
    assert!(!server.stdout.so_far().contains("cache begins"), "the control: no hook runs before the end");
    let exit = server.end();
    exit.assert_code(0);
    let order: Vec<_> =
        exit.stdout.lines().filter(|line| line.ends_with(" begins") || line.ends_with(" ends")).collect();
    assert_eq!(order, ["mail begins", "mail ends", "cache begins", "cache ends", "database begins", "database ends"]);
    assert_eq!(exit.report_among_lines()["hooks"]["finished"], 2);
}

/// "within their own slice of the grace period that is kept for them even when the drain was cut": a quarter of it.
#[test]
fn hook_1_hooks_have_their_slice_when_the_drain_was_cut() {
    let server = Start::example("background").set("GRACE", 4).start();
    post(&server, "/hook?name=database&ms=400");
    post(&server, "/task?name=endless&how=hangs");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert!(exit.stdout.contains("database ends"), "{}", exit.stdout);
    assert_between(exit.at - signal, ms(3000), ms(4500));
    assert_eq!(exit.report_among_lines()["hooks"]["finished"], 1);
}

/// A hook that never ends is stopped at the end of the slice, and named.
#[test]
fn hook_1_a_hook_that_hangs_is_stopped_and_named() {
    let server = Start::example("background").set("GRACE", 2).start();
    post(&server, "/hook?name=database&how=hangs");
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    assert!(exit.at - signal < ms(2500), "exit {:?} after the signal", exit.at - signal);
    let report = exit.report_among_lines();
    assert!(names_of_cut(&report, "hook").iter().any(|name| name.contains("database")), "{report}");
}

#[track_caller]
fn assert_between(took: Duration, at_least: Duration, at_most: Duration) {
    assert!((at_least..=at_most).contains(&took), "took {took:?}, not {at_least:?} to {at_most:?}");
}

fn names_of_cut(report: &serde_json::Value, kind: &str) -> Vec<String> {
    let cut = report["cut"].as_array().cloned().unwrap_or_default();
    cut.iter().filter(|running| running["kind"] == kind).map(|running| running["name"].to_string()).collect()
}
