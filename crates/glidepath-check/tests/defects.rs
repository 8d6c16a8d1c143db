//! A server that ends well, but for one defect: exactly the cases fail that are about it, and none is invalid.

mod support;

use std::thread;

use glidepath_check::model::Verdict;
use support::{Check, server, with};

/// One or two cases of each kind, those that take long left out. What is not named beside a defect has to pass.
const CASES: &str = "--only=sig/ends,sig/burst,sig/second-forces,sig/quit-ends,sig/quit-names,lis/refused,lis/never-hangs,lis/queue,lis/port-free,\
idle/long-quiet,idle/rest-holds-nothing,idle/quiet-window,idle/quiet-window-close,idle/in-buffer,idle/silent-soon,idle/silent-fin,\
idle/half-head-first,idle/half-head-later,req/answered,req/says-close,req/fin-soon,req/stream,req/upload,req/pipelined,\
req/half-closed,req/prompt-exit,req/body-is-no-request,req/no-stray-bytes,slow/upload-never-ends,slow/head-size,ws/close-frame,ws/going-away,ws/fin,\
ws/half-frame,sse/proper-end,sse/event-boundary,sse/soon,task/waited,end/slow,end/cut-visibly,end/exit-0,end/exit-when-cut,rdy/not-ready,rdy/alive";

/// Those for a server that speaks HTTP/2, too; it has no TLS.
const HTTP2: &str = "--only=h2/*,idle/quiet-window,req/answered";

/// A server with each of these defects, and the cases that have to fail on it. All are run at once, as a run waits far more
/// than it works; no more than three, as two tests run at once, too. Every one that went otherwise is told of.
#[track_caller]
fn each_fails(expected: &[(&str, &[&str])]) {
    assert!(expected.len() <= 3, "more would be in each other's way");
    let wrong: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = expected.iter().map(|(defect, ids)| scope.spawn(|| otherwise(defect, ids))).collect();
        runs.into_iter().filter_map(|run| run.join().expect("it does not panic")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What differs from exactly these cases failing.
fn otherwise(defect: &str, expected: &[&str]) -> Option<String> {
    let check = Check::of(&[&server()]).defect(defect).flag("--jobs=16");
    let check = if defect.starts_with("h2-") { check.flag(HTTP2).flag("--env=HTTP2=1") } else { check.flag(CASES) };
    let (said, run) = check.data(defect);
    let skipped: &[&str] = match defect {
        // A server that sends no Close can't be seen to end after one,
        _ if expected.contains(&"ws/close-frame") => &["ws/fin"],
        // and how a cut looks, where nothing is cut.
        "no-deadline" => &["end/cut-visibly"],
        _ if defect.starts_with("h2-") => &["h2/alpn"],
        _ => &[],
    };
    let sorted = |mut ids: Vec<_>| {
        ids.sort_unstable();
        ids
    };
    let all_as_expected = [(Verdict::Fail, expected), (Verdict::Invalid, &[]), (Verdict::Skipped, skipped)]
        .into_iter()
        .all(|(verdict, ids)| sorted(with(&run, verdict)) == sorted(ids.to_vec()));
    (!all_as_expected)
        .then(|| format!("{defect}: expected {expected:?} to fail, and {skipped:?} to be skipped\n{}", said.text()))
}

#[test]
fn signals() {
    each_fails(&[
        // The control of all the others.
        ("none", &[]),
        ("burst-forces", &["sig/burst"]),
        ("second-ignored", &["sig/second-forces"]),
    ]);
}

#[test]
fn sigquit_and_exit_codes() {
    each_fails(&[
        ("quit-ignored", &["sig/quit-ends"]),
        ("quit-is-silent", &["sig/quit-names"]),
        ("wrong-code", &["end/exit-0"]),
    ]);
}

#[test]
fn the_deadline() {
    each_fails(&[
        ("no-deadline", &["slow/upload-never-ends", "end/slow", "end/exit-when-cut"]),
        ("zero-when-cut", &["end/exit-when-cut"]),
        ("cut-looks-whole", &["end/cut-visibly"]),
    ]);
}

#[test]
fn what_is_waited_for() {
    each_fails(&[
        // What is in flight is given up at the signal: everything that waits for it fails, and what does not, does not.
        (
            "cancels",
            &[
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
            ],
        ),
        ("task-forgotten", &["task/waited"]),
        ("slow-exit", &["idle/silent-soon", "req/prompt-exit"]),
    ]);
}

#[test]
fn listeners() {
    each_fails(&[
        ("queue-dropped", &["lis/queue"]),
        ("hangs-new", &["lis/refused", "lis/never-hangs", "lis/queue", "lis/port-free"]),
        ("still-accepts", &["lis/refused", "lis/port-free"]),
    ]);
}

#[test]
fn connections_at_rest() {
    each_fails(&[
        ("rest-held", &["idle/long-quiet", "idle/rest-holds-nothing"]),
        ("resets-at-rest", &["idle/long-quiet", "idle/silent-fin"]),
        ("silent-held", &["idle/silent-soon", "idle/silent-fin"]),
    ]);
}

#[test]
fn the_quiet_window() {
    each_fails(&[
        ("no-quiet-window", &["idle/quiet-window", "idle/quiet-window-close"]),
        ("buffer-ignored", &["idle/quiet-window", "idle/quiet-window-close", "idle/in-buffer", "idle/half-head-later"]),
        ("half-head-dropped", &["idle/half-head-first", "idle/half-head-later"]),
    ]);
}

#[test]
fn answers() {
    each_fails(&[
        ("no-close", &["idle/quiet-window-close", "req/says-close", "req/pipelined"]),
        ("stray-bytes", &["req/no-stray-bytes", "req/body-is-no-request"]),
        ("smuggles", &["req/body-is-no-request"]),
    ]);
}

#[test]
fn bodies() {
    each_fails(&[
        ("short-streams", &["req/stream", "end/cut-visibly"]),
        ("cuts-uploads", &["req/upload"]),
        ("half-close-ends", &["req/half-closed"]),
    ]);
}

#[test]
fn heads_and_probes() {
    each_fails(&[("endless-heads", &["slow/head-size"]), ("ready-for-ever", &["rdy/not-ready"])]);
}

#[test]
fn goodbyes_of_websockets() {
    each_fails(&[
        ("ws-cut", &["ws/close-frame", "ws/going-away", "ws/half-frame"]),
        ("ws-wrong-code", &["ws/going-away"]),
    ]);
}

#[test]
fn websockets_and_what_they_wait_for() {
    each_fails(&[("ws-never-ends", &["ws/fin"]), ("ws-waits-for-the-frame", &["ws/half-frame"])]);
}

#[test]
fn event_streams() {
    each_fails(&[("sse-cut", &["sse/proper-end"]), ("sse-half", &["sse/event-boundary"]), ("sse-held", &["sse/soon"])]);
}

#[test]
fn goaways() {
    each_fails(&[
        ("h2-none", &[]),
        (
            "h2-no-goaway",
            &["h2/goaway", "h2/two-goaways", "h2/no-error", "h2/between", "h2/race", "h2/above-last", "h2/idle-told"],
        ),
        ("h2-one-goaway", &["h2/two-goaways"]),
    ]);
}

#[test]
fn what_goaways_say() {
    each_fails(&[
        ("h2-error-code", &["h2/no-error"]),
        ("h2-serves-above-last", &["h2/above-last"]),
        ("h2-late-untold", &["h2/late-preface"]),
    ]);
}

#[test]
fn streams() {
    each_fails(&[
        ("h2-cuts-streams", &["h2/streams-finish", "h2/two-goaways", "h2/fin", "h2/upload"]),
        ("h2-uploads-cut", &["h2/upload"]),
        ("h2-between-lost", &["h2/between"]),
    ]);
}

#[test]
fn ends_of_http2_connections() {
    each_fails(&[
        ("h2-reset", &["h2/fin", "h2/idle-promptly"]),
        ("h2-stays", &["h2/fin", "h2/idle-holds-nothing", "h2/idle-promptly"]),
        (
            "h2-unbounded",
            &[
                "h2/fin",
                "h2/idle-holds-nothing",
                "h2/idle-promptly",
                "h2/no-ping-ack",
                "h2/ignores-goaway",
                "h2/half-preface",
            ],
        ),
    ]);
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
