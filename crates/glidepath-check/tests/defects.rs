//! A server that ends well, but for one defect: exactly the cases fail that are about it, and none is invalid.

mod support;

use glidepath_check::model::Verdict;
use support::{Check, server, with};

/// One or two cases of each kind, those that take long left out. What is not named beside a defect has to pass.
const CASES: &str = "--only=sig/ends,sig/burst,sig/second-forces,lis/refused,lis/never-hangs,lis/queue,lis/port-free,\
idle/long-quiet,idle/rest-holds-nothing,idle/quiet-window,idle/quiet-window-close,idle/in-buffer,idle/silent-soon,idle/silent-fin,\
idle/half-head-first,idle/half-head-later,req/answered,req/says-close,req/fin-soon,req/stream,req/upload,req/pipelined,\
req/half-closed,req/prompt-exit,req/body-is-no-request,req/no-stray-bytes,slow/upload-never-ends,ws/close-frame,ws/going-away,ws/fin,\
sse/proper-end,sse/event-boundary,sse/soon,task/waited,end/slow,end/cut-visibly,end/exit-0,end/exit-when-cut,rdy/not-ready,rdy/alive";

#[track_caller]
fn with_this_defect_fail(defect: &str, expected: &[&str]) {
    let (said, run) = Check::of(&[&server()]).defect(defect).flag(CASES).flag("--jobs=16").data(defect);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let mut failed = with(&run, Verdict::Fail);
    failed.sort_unstable();
    assert_eq!(failed, expected, "{}", said.text());
    assert_eq!(with(&run, Verdict::Invalid), [""; 0], "{}", said.text());
    // A server that sends no Close can't be seen to end after one.
    let skipped: &[&str] = if expected.contains(&"ws/close-frame") { &["ws/fin"] } else { &[] };
    assert_eq!(with(&run, Verdict::Skipped), skipped, "{}", said.text());
}

/// The control of all the others.
#[test]
fn none() {
    with_this_defect_fail("none", &[]);
}

#[test]
fn a_burst_of_signals_forces_the_end() {
    with_this_defect_fail("burst-forces", &["sig/burst"]);
}

#[test]
fn a_second_signal_is_ignored() {
    with_this_defect_fail("second-ignored", &["sig/second-forces"]);
}

#[test]
fn there_is_no_deadline() {
    let expected = ["slow/upload-never-ends", "end/slow", "end/cut-visibly", "end/exit-when-cut"];
    with_this_defect_fail("no-deadline", &expected);
}

#[test]
fn a_cut_end_says_0() {
    with_this_defect_fail("zero-when-cut", &["end/exit-when-cut"]);
}

#[test]
fn a_clean_end_does_not_say_0() {
    with_this_defect_fail("wrong-code", &["end/exit-0"]);
}

#[test]
fn the_process_dawdles_when_all_is_done() {
    with_this_defect_fail("slow-exit", &["idle/silent-soon", "req/prompt-exit"]);
}

#[test]
fn the_accept_queue_is_dropped() {
    with_this_defect_fail("queue-dropped", &["lis/queue"]);
}

#[test]
fn new_connections_hang() {
    with_this_defect_fail("hangs-new", &["lis/refused", "lis/never-hangs", "lis/queue", "lis/port-free"]);
}

#[test]
fn new_connections_are_served_in_the_drain() {
    with_this_defect_fail("still-accepts", &["lis/refused", "lis/port-free"]);
}

#[test]
fn connections_at_rest_hold_the_end() {
    with_this_defect_fail("rest-held", &["idle/long-quiet", "idle/rest-holds-nothing"]);
}

#[test]
fn connections_at_rest_are_reset() {
    with_this_defect_fail("resets-at-rest", &["idle/long-quiet", "idle/silent-fin"]);
}

#[test]
fn silent_connections_hold_the_end() {
    with_this_defect_fail("silent-held", &["idle/silent-soon", "idle/silent-fin"]);
}

#[test]
fn connections_are_closed_under_a_request_that_is_on_its_way() {
    with_this_defect_fail("no-quiet-window", &["idle/quiet-window", "idle/quiet-window-close"]);
}

#[test]
fn what_comes_on_a_connection_at_rest_is_thrown_away() {
    let expected = ["idle/quiet-window", "idle/quiet-window-close", "idle/in-buffer", "idle/half-head-later"];
    with_this_defect_fail("buffer-ignored", &expected);
}

#[test]
fn half_heads_are_thrown_away() {
    with_this_defect_fail("half-head-dropped", &["idle/half-head-first", "idle/half-head-later"]);
}

#[test]
fn no_answer_says_close() {
    with_this_defect_fail("no-close", &["idle/quiet-window-close", "req/says-close", "req/pipelined"]);
}

#[test]
fn streams_end_early_and_look_whole() {
    with_this_defect_fail("short-streams", &["req/stream", "end/cut-visibly"]);
}

#[test]
fn a_stream_that_is_cut_looks_whole() {
    with_this_defect_fail("cut-looks-whole", &["end/cut-visibly"]);
}

#[test]
fn uploads_are_cut() {
    with_this_defect_fail("cuts-uploads", &["req/upload"]);
}

#[test]
fn a_client_that_half_closed_gets_nothing() {
    with_this_defect_fail("half-close-ends", &["req/half-closed"]);
}

#[test]
fn bytes_follow_an_answer() {
    with_this_defect_fail("stray-bytes", &["req/no-stray-bytes", "req/body-is-no-request"]);
}

#[test]
fn a_body_is_taken_for_a_request() {
    with_this_defect_fail("smuggles", &["req/body-is-no-request"]);
}

#[test]
fn a_websocket_is_cut() {
    with_this_defect_fail("ws-cut", &["ws/close-frame", "ws/going-away"]);
}

#[test]
fn a_websocket_is_closed_for_another_reason() {
    with_this_defect_fail("ws-wrong-code", &["ws/going-away"]);
}

#[test]
fn a_websocket_stays_after_its_goodbye() {
    with_this_defect_fail("ws-never-ends", &["ws/fin"]);
}

#[test]
fn an_event_stream_is_cut() {
    with_this_defect_fail("sse-cut", &["sse/proper-end"]);
}

#[test]
fn an_event_is_cut() {
    with_this_defect_fail("sse-half", &["sse/event-boundary"]);
}

#[test]
fn an_event_stream_is_waited_for() {
    with_this_defect_fail("sse-held", &["sse/soon"]);
}

#[test]
fn tasks_are_forgotten() {
    with_this_defect_fail("task-forgotten", &["task/waited"]);
}

#[test]
fn readiness_does_not_hear_of_the_end() {
    with_this_defect_fail("ready-for-ever", &["rdy/not-ready"]);
}

/// What is in flight is given up at the signal: everything that waits for it fails, and what does not, does not.
#[test]
fn requests_are_given_up() {
    let expected = [
        "sig/burst",
        "req/answered",
        "req/says-close",
        "req/fin-soon",
        "req/pipelined",
        "req/half-closed",
        "req/prompt-exit",
        "req/no-stray-bytes",
        "end/exit-when-cut",
        "rdy/alive",
    ];
    with_this_defect_fail("cancels", &expected);
}

#[test]
fn the_signal_ends_it_at_once() {
    let (said, run) =
        Check::of(&[&server()]).defect("exits-at-once").flag(CASES).flag("--jobs=16").data("exits-at-once");
    let failed = with(&run, Verdict::Fail);
    for id in
        ["req/answered", "req/stream", "req/upload", "task/waited", "ws/close-frame", "sse/proper-end", "lis/queue"]
    {
        assert!(failed.contains(&id), "{id}: {}", said.text());
    }
    for id in ["sig/ends", "lis/refused", "lis/port-free", "idle/rest-holds-nothing", "end/slow"] {
        assert!(!failed.contains(&id), "{id}: {}", said.text());
    }
}

#[test]
fn the_signal_is_ignored() {
    let only = "--only=sig/ends,req/answered,req/says-close,lis/refused";
    let (said, run) = Check::of(&[&server()]).defect("ignores-signal").flag(only).data("ignores-signal");
    assert_eq!(with(&run, Verdict::Fail), ["sig/ends", "lis/refused", "req/says-close"], "{}", said.text());
}
