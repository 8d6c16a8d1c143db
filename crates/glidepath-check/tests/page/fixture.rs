//! A run that has everything that a page must be able to show: all verdicts, ends after 1 ms and after 30 s, crowds, empty
//! lanes, and words that a page must not obey.

use std::collections::BTreeMap;

use glidepath_check::model::{
    Band, Case, Event, EventKind, Exit, FORMAT, Found, Lane, Level, Mark, Outcome, Rate, Run, Score, Target, Timeline,
    Verdict,
};

use EventKind::*;

/// What would run, or break out of its place, if it were not escaped.
pub const HOSTILE: &str =
    r#"</title></script><script>alert(1)</script><img src=x onerror=alert(2)> " ' & &amp; --> {{ 7 }}"#;

pub fn run() -> Run {
    let cases = cases();
    Run {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        target: Target {
            name: "nginx".to_owned(),
            command: ["nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off; error_log stderr notice;"]
                .map(str::to_owned)
                .to_vec(),
            stop: "SIGQUIT".to_owned(),
            over_tls: false,
            paths: BTreeMap::from([("slow", "/sleep?ms=800"), ("upload", "/upload"), ("stream", "/stream")])
                .into_iter()
                .map(|(work, path)| (work.to_owned(), path.to_owned()))
                .collect(),
        },
        started: "2026-11-22T16:21:37Z".to_owned(),
        took_ms: 143_210.5,
        found: vec![
            found("http1", true, "GET / answered 200"),
            found("http2", true, "the preface with prior knowledge was answered with SETTINGS"),
            found("websocket", false, "GET /ws answered 404 instead of 101"),
            found("tls", false, "no --tls"),
        ],
        score: Score::of(&cases),
        cases,
    }
}

/// As many cases as a whole run has, each with its own id.
pub fn big(number: usize) -> Run {
    let mut run = run();
    let few = run.cases.clone();
    run.cases = (0..number)
        .map(|nth| {
            let mut case = few[nth % few.len()].clone();
            case.id = format!("{}-{nth}", case.id);
            case
        })
        .collect();
    run.score = Score::of(&run.cases);
    run
}

fn found(name: &str, there: bool, note: &str) -> Found {
    Found { name: name.to_owned(), there, note: note.to_owned() }
}

fn cases() -> Vec<Case> {
    vec![
        sealed(),
        storm(),
        burst(),
        quiet_window(),
        received_bytes(),
        half_sent_head(),
        whole_response(),
        slow_reader(),
        upload_without_control(),
        goaway(),
        websocket(),
        close_notify(),
        hostile(),
        nobody(),
    ]
}

fn case(id: &str, promise: &str, section: &str, level: Level, verdict: Verdict, words: [&str; 5]) -> Case {
    let [title, quote, expected, got, why] = words.map(str::to_owned);
    Case {
        id: id.to_owned(),
        promise: promise.to_owned(),
        section: section.to_owned(),
        title,
        quote,
        level,
        verdict,
        reason: None,
        expected,
        got,
        why,
        rate: None,
        outcomes: BTreeMap::new(),
        took_ms: 1_840.0,
        timeline: None,
        control: None,
    }
}

fn event(at: f64, kind: EventKind, text: &str) -> Event {
    Event { at, kind, text: text.to_owned(), bytes: None }
}

fn with_bytes(at: f64, kind: EventKind, text: &str, bytes: &str) -> Event {
    Event { bytes: Some(bytes.to_owned()), ..event(at, kind, text) }
}

fn lane(name: &str, protocol: &str, outcome: Outcome, events: Vec<Event>) -> Lane {
    Lane { name: name.to_owned(), protocol: protocol.to_owned(), outcome: Some(outcome), events, events_left_out: 0 }
}

fn mark(at: f64, text: &str) -> Mark {
    Mark { at, text: text.to_owned() }
}

/// A timeline with its bounds, and the signal if it is no control.
fn timeline(signals: &[(f64, &str)], exit: Option<(f64, i32)>, lanes: Vec<Lane>) -> Timeline {
    let times: Vec<f64> = lanes
        .iter()
        .flat_map(|lane| &lane.events)
        .map(|event| event.at)
        .chain(exit.map(|(at, _)| at))
        .chain(signals.iter().map(|(at, _)| *at))
        .collect();
    Timeline {
        from: times.iter().copied().fold(0.0, f64::min),
        to: times.iter().copied().fold(0.0, f64::max),
        signals: signals.iter().map(|(at, text)| mark(*at, text)).collect(),
        exit: exit.map(|(at, code)| Exit { at, code: Some(code), signal: None }),
        lanes,
        ..Timeline::default()
    }
}

fn sealed() -> Case {
    let mut case = case(
        "listener/refused-after-the-seal",
        "LIS-1",
        "Listener",
        Level::Must,
        Verdict::Pass,
        [
            "A connect after the seal is refused at once",
            "after the seal a connect is refused within 100 ms; never accepted and left hanging, never reset",
            "connection refused within 100 ms of the attempt",
            "refused after 0.3 ms, 52 ms after the signal",
            "A client that is refused goes to another server at once. One that is left hanging waits for its own timeout.",
        ],
    );
    case.outcomes = BTreeMap::from([(Outcome::Refused, 1), (Outcome::Answered, 1)]);
    case.timeline = Some(timeline(
        &[(0.0, "SIGQUIT")],
        Some((61.0, 0)),
        vec![
            lane(
                "client 1",
                "http/1.1",
                Outcome::Answered,
                vec![
                    event(-12.0, Connect, "connected"),
                    event(-11.8, Sent, "GET /sleep?ms=60"),
                    event(49.0, ToldClose, "200, 5 bytes, close"),
                    event(49.4, Fin, "FIN"),
                ],
            ),
            lane("client 2", "http/1.1", Outcome::Refused, vec![event(52.0, Refused, "ECONNREFUSED")]),
        ],
    ));
    case.control = Some(timeline(
        &[],
        None,
        vec![lane(
            "client 1",
            "http/1.1",
            Outcome::Answered,
            vec![
                event(-11.0, Connect, "connected"),
                event(-10.8, Sent, "GET /sleep?ms=60"),
                event(49.6, Answered, "200, 5 bytes"),
                event(60.0, Closed, "closed"),
            ],
        )],
    ));
    case
}

fn storm() -> Case {
    let mut case = case(
        "listener/storm",
        "LIS-3",
        "Listener",
        Level::Must,
        Verdict::Fail,
        [
            "Under a storm of connecting clients no established connection is reset",
            "under a storm of connecting clients no established connection is reset",
            "every connection that the kernel completed is answered, or ends with FIN",
            "199 of 400 were reset, the first one 1.2 ms after the signal",
            "A request on such a connection is lost, and the client may not safely send it again.",
        ],
    );
    case.rate = Some(Rate { of: 400, good: 201, bound: 1.0 });
    case.outcomes = BTreeMap::from([(Outcome::Answered, 201), (Outcome::Reset, 199)]);
    let lanes = (0..12)
        .map(|nth| {
            let at = -6.0 + f64::from(nth);
            let mut events = vec![event(at, Connect, "connected"), event(at + 0.1, Sent, "GET /sleep?ms=0, 42 bytes")];
            let lost = nth % 2 == 1 || at > 0.0;
            if lost {
                events.push(event(at.max(0.0) + 1.2, Rst, "ECONNRESET, 0 bytes came"));
            } else {
                events.push(event(at + 0.6, ToldClose, "200, 5 bytes, close"));
                events.push(event(at + 0.7, Fin, "FIN"));
            }
            let outcome = if lost { Outcome::Reset } else { Outcome::Answered };
            lane(&format!("client {}", nth * 33 + 1), "http/1.1", outcome, events)
        })
        .collect();
    let mut seen = timeline(&[(0.0, "SIGQUIT")], Some((9.0, 0)), lanes);
    seen.lanes_left_out = 388;
    case.timeline = Some(seen);
    case.control = Some(Timeline { lanes_left_out: 399, ..quiet_control() });
    case
}

fn burst() -> Case {
    let mut case = case(
        "signals/burst",
        "SIG-3",
        "Signals",
        Level::Should,
        Verdict::Pass,
        [
            "A burst of signals is one signal",
            "a burst of signals within the debounce (250 ms) is one signal",
            "the request in flight is answered after five signals within 80 ms",
            "answered 402 ms after the first signal",
            "A terminal, a shell and a package manager may each send one for a single Ctrl-C.",
        ],
    );
    let signals =
        [(0.0, "SIGINT"), (20.0, "SIGINT"), (40.0, "SIGINT"), (60.0, "SIGINT"), (80.0, "SIGINT"), (2_000.0, "SIGTERM")];
    let mut seen = timeline(
        &signals,
        Some((2_001.0, 143)),
        vec![lane(
            "client 1",
            "http/1.1",
            Outcome::ToldClose,
            vec![
                event(-100.0, Connect, "connected"),
                event(-99.8, Sent, "GET /sleep?ms=500"),
                event(402.0, ToldClose, "200, 5 bytes, close"),
                event(402.2, Fin, "FIN"),
            ],
        )],
    );
    seen.bands = bands(&[("lame-duck", 1.0, 251.0), ("draining", 251.0, 404.0), ("hooks", 404.0, 2_001.0)]);
    seen.log = vec![mark(1.0, "INFO phase=lame-duck"), mark(251.2, "INFO phase=draining in_flight=1")];
    case.timeline = Some(seen);
    case.control = Some(quiet_control());
    case
}

fn bands(bands: &[(&str, f64, f64)]) -> Vec<Band> {
    bands.iter().map(|&(name, from, to)| Band { from, to, name: name.to_owned() }).collect()
}

fn quiet_control() -> Timeline {
    timeline(
        &[],
        None,
        vec![lane(
            "client 1",
            "http/1.1",
            Outcome::Open,
            vec![
                event(-620.0, Connect, "connected"),
                event(-619.8, Sent, "GET /"),
                event(-619.1, Answered, "200, 2 bytes"),
                event(120.0, Sent, "GET /"),
                event(120.9, Answered, "200, 2 bytes"),
                event(1_500.0, Closed, "closed"),
            ],
        )],
    )
}

fn quiet_window() -> Case {
    let mut case = case(
        "idle/quiet-window",
        "IDLE-2",
        "HTTP/1 at rest",
        Level::Must,
        Verdict::Fail,
        [
            "A request on a connection that was just used is answered, and told close",
            "a request that comes on a connection still within its quiet window is answered, with `Connection: close`",
            "200 with Connection: close, for a request sent 120 ms after the signal",
            "FIN 0.8 ms after the signal; the request sent at +120 ms was answered by RST",
            "Keep-alive clients send their next request at any moment. One that meets a closed connection is lost, and a POST may not be repeated.",
        ],
    );
    case.outcomes = BTreeMap::from([(Outcome::Lost, 1), (Outcome::Reset, 1)]);
    case.timeline = Some(timeline(
        &[(0.0, "SIGQUIT")],
        Some((3.4, 0)),
        vec![
            lane(
                "client 1",
                "http/1.1",
                Outcome::Reset,
                vec![
                    event(-620.0, Connect, "connected"),
                    with_bytes(-619.8, Sent, "GET /", "GET / HTTP/1.1\r\nHost: 127.0.0.1:4000\r\n\r\n"),
                    with_bytes(
                        -619.1,
                        Answered,
                        "200, 2 bytes",
                        "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nok",
                    ),
                    event(0.8, Fin, "FIN"),
                    event(120.0, Sent, "GET /"),
                    event(120.1, Rst, "ECONNRESET"),
                ],
            ),
            lane(
                "client 2",
                "http/1.1",
                Outcome::Lost,
                vec![
                    event(-300.0, Connect, "connected"),
                    event(-0.3, Sent, "GET /"),
                    event(0.9, Fin, "FIN, 0 bytes came"),
                ],
            ),
        ],
    ));
    case.control = Some(quiet_control());
    case
}

fn received_bytes() -> Case {
    let mut case = case(
        "idle/received-bytes",
        "IDLE-3",
        "HTTP/1 at rest",
        Level::Must,
        Verdict::Pass,
        [
            "Bytes in the receive buffer count as a request",
            "bytes already in the socket's receive buffer count as a request: answered, never closed under",
            "all 120 answered",
            "120 of 120 answered, the last one 7.1 ms after the signal",
            "They were sent before anybody could know of the end.",
        ],
    );
    case.rate = Some(Rate { of: 120, good: 120, bound: 1.0 });
    case.timeline = Some(timeline(
        &[(0.0, "SIGQUIT")],
        Some((510.0, 0)),
        vec![lane(
            "client 1",
            "http/1.1",
            Outcome::ToldClose,
            vec![
                event(-40.0, Connect, "connected"),
                event(-0.2, Sent, "GET /"),
                event(0.9, Received, "HTTP/1.1 200 OK"),
                event(0.95, ToldClose, "200, 2 bytes, close"),
                event(1.0, Fin, "FIN"),
                event(1.1, Closed, "closed"),
            ],
        )],
    ));
    case.control = Some(quiet_control());
    case
}

fn half_sent_head() -> Case {
    let mut case = case(
        "idle/half-sent-head-never-completes",
        "IDLE-5",
        "HTTP/1 at rest",
        Level::Should,
        Verdict::Fail,
        [
            "A head that is never completed ends with 408, not with the grace period",
            "a request head half sent at the signal […] if not, 408 and close, never the whole grace period",
            "408 and FIN within 10 s of the signal",
            "nothing for 30 s; the process still ran and was killed",
            "One client with a bad network holds every deployment for the whole grace period.",
        ],
    );
    case.outcomes = BTreeMap::from([(Outcome::Hung, 1), (Outcome::Running, 1)]);
    case.took_ms = 61_200.0;
    case.timeline = Some(timeline(
        &[(0.0, "SIGQUIT")],
        None,
        vec![
            lane(
                "client 1",
                "http/1.1",
                Outcome::Hung,
                vec![
                    event(-200.0, Connect, "connected"),
                    event(-199.0, Sent, "GET / HTTP/1.1, a half of the head, 20 of 41 bytes"),
                    event(30_000.0, Timeout, "nothing for 30 s"),
                ],
            ),
            Lane {
                name: "client 2".to_owned(),
                protocol: "http/1.1".to_owned(),
                outcome: None,
                events: Vec::new(),
                events_left_out: 0,
            },
        ],
    ));
    case.control = Some(timeline(
        &[],
        None,
        vec![lane(
            "client 1",
            "http/1.1",
            Outcome::ToldClose,
            vec![
                event(-200.0, Connect, "connected"),
                event(-199.0, Sent, "GET / HTTP/1.1, a half of the head"),
                event(9_800.0, ToldClose, "408, close"),
                event(9_800.2, Fin, "FIN"),
            ],
        )],
    ));
    case
}

fn whole_response() -> Case {
    let mut case = case(
        "flight/whole-response",
        "REQ-1",
        "HTTP/1 in flight",
        Level::Must,
        Verdict::Pass,
        [
            "A request in flight gets its whole response",
            "a request in flight gets its whole response",
            "200 and 5 bytes, at the time that the work takes",
            "200, 5 bytes, close, 701 ms after the signal",
            "It is what an end is gentle for.",
        ],
    );
    let mut seen = timeline(
        &[(0.0, "SIGTERM")],
        Some((1_240.0, 0)),
        (1..=3)
            .map(|nth| {
                let at = -100.0 * f64::from(nth);
                lane(
                    &format!("client {nth}"),
                    "http/1.1",
                    Outcome::ToldClose,
                    vec![
                        event(at, Connect, "connected"),
                        event(at + 0.3, Sent, "GET /sleep?ms=800"),
                        event(at + 800.9, ToldClose, "200, 5 bytes, close"),
                        event(at + 801.2, Fin, "FIN"),
                    ],
                )
            })
            .collect(),
    );
    seen.bands = bands(&[
        ("lame-duck", 0.4, 100.0),
        ("sealing", 100.0, 112.0),
        ("draining", 112.0, 703.0),
        ("hooks", 703.0, 1_240.0),
    ]);
    seen.log = vec![
        mark(0.4, "\u{1b}[32m INFO\u{1b}[0m phase=lame-duck grace=30s"),
        mark(100.0, "INFO phase=sealing"),
        mark(112.0, "INFO phase=draining connections=3"),
        mark(703.0, "INFO phase=hooks"),
    ];
    case.timeline = Some(seen);
    case.control = Some(quiet_control());
    case
}

fn slow_reader() -> Case {
    let mut case = case(
        "flight/slow-reader",
        "REQ-3",
        "HTTP/1 in flight",
        Level::Must,
        Verdict::Pass,
        [
            "A streamed response goes on to its end; a slow reader gets every byte",
            "a streamed response goes on to its end; a slow reader gets every byte",
            "8 MiB",
            "8 MiB, the last of them 6.1 s after the signal",
            "A download that ends short looks whole to many clients.",
        ],
    );
    let mut events = vec![event(-350.0, Connect, "connected"), event(-349.0, Sent, "GET /stream")];
    events.extend((0..140).map(|nth| event(-340.0 + f64::from(nth) * 46.0, Received, &format!("{} KiB", nth * 60))));
    events.push(event(6_101.0, Answered, "200, 8388608 bytes"));
    events.push(event(6_101.4, Fin, "FIN"));
    case.timeline = Some(timeline(
        &[(0.0, "SIGTERM")],
        Some((6_104.0, 0)),
        vec![lane("reader", "http/1.1", Outcome::Answered, events)],
    ));
    case.control = Some(quiet_control());
    case
}

fn upload_without_control() -> Case {
    let mut case = case(
        "flight/upload",
        "REQ-4",
        "HTTP/1 in flight",
        Level::Must,
        Verdict::Invalid,
        [
            "An upload in flight is read to its end and answered",
            "an upload in flight is read to its end and answered, chunked with trailers too",
            "200 that tells the number of bytes",
            "413 at −180 ms",
            "A half import has to be found and repeated by hand.",
        ],
    );
    case.reason = Some("without the signal it was answered 413 as well: /upload takes no 1 MiB".to_owned());
    let script = |signals: &[(f64, &str)], exit| {
        timeline(
            signals,
            exit,
            vec![lane(
                "client 1",
                "http/1.1",
                Outcome::Wrong,
                vec![
                    event(-200.0, Connect, "connected"),
                    event(-199.0, Sent, "POST /upload, 4096 of 1048576 bytes"),
                    event(-180.0, ToldClose, "413, 170 bytes, close"),
                    event(-179.9, Fin, "FIN"),
                    event(-170.0, Rst, "ECONNRESET"),
                ],
            )],
        )
    };
    case.timeline = Some(script(&[(0.0, "SIGTERM")], Some((12.0, 0))));
    case.control = Some(script(&[], None));
    case
}

fn goaway() -> Case {
    let mut case = case(
        "h2/goaway",
        "H2-1",
        "HTTP/2",
        Level::Must,
        Verdict::Pass,
        [
            "GOAWAY with 2^31-1 first, and then one with the last stream's id",
            "two GOAWAYs: the first with the greatest id, the second with the last that is served",
            "GOAWAY 2147483647, GOAWAY 5, and every stream up to 5 answered",
            "GOAWAY 2147483647 at +0.6 ms, GOAWAY 5 at +2.1 ms, three streams answered",
            "With one GOAWAY alone, streams that cross it on the wire are lost.",
        ],
    );
    case.timeline = Some(timeline(
        &[(0.0, "SIGTERM")],
        Some((512.0, 0)),
        vec![lane(
            "client 1",
            "h2+tls",
            Outcome::ToldClose,
            vec![
                event(-80.0, Connect, "connected"),
                event(-71.0, Handshake, "TLS 1.3, h2"),
                with_bytes(-70.8, Sent, "preface, SETTINGS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
                event(-70.0, Received, "SETTINGS"),
                event(-69.5, Sent, "HEADERS stream 1, GET /sleep?ms=500"),
                event(-69.4, Sent, "HEADERS stream 3, GET /sleep?ms=500"),
                event(0.6, GoAway, "GOAWAY last stream 2147483647, NO_ERROR"),
                event(1.1, Sent, "HEADERS stream 5, GET /"),
                event(2.1, GoAway, "GOAWAY last stream 5, NO_ERROR"),
                event(2.4, Answered, "stream 5: 200"),
                event(3.0, Sent, "HEADERS stream 7, GET /"),
                event(3.2, StreamReset, "RST_STREAM stream 7, REFUSED_STREAM"),
                event(431.0, Answered, "stream 1: 200"),
                event(431.2, Answered, "stream 3: 200"),
                event(431.5, CloseNotify, "close_notify"),
                event(431.6, Fin, "FIN"),
            ],
        )],
    ));
    case.control = Some(quiet_control());
    case
}

fn websocket() -> Case {
    let mut case = case(
        "upgraded/close-1001",
        "WS-1",
        "WebSocket and event streams",
        Level::Should,
        Verdict::Skipped,
        [
            "A WebSocket is told 1001 before it ends",
            "an upgraded connection is told goodbye in its own protocol",
            "Close 1001 within the quiet window",
            "",
            "Without a Close the browser reports 1006, and many clients reconnect to the same server.",
        ],
    );
    case.reason = Some("needs `websocket`, and GET /ws answered 404 instead of 101".to_owned());
    case.took_ms = 0.0;
    case
}

fn close_notify() -> Case {
    let mut case = case(
        "tls/close-notify",
        "TLS-1",
        "TLS",
        Level::Should,
        Verdict::Pass,
        [
            "close_notify comes before FIN",
            "every TLS connection ends with close_notify and then FIN",
            "close_notify, then FIN",
            "close_notify at +501 ms, FIN at +501 ms",
            "Without it a truncated response can't be told from a whole one.",
        ],
    );
    case.timeline = Some(timeline(
        &[(0.0, "SIGTERM")],
        Some((700.0, 0)),
        vec![
            lane(
                "client 1",
                "http/1.1+tls",
                Outcome::EndedAtRest,
                vec![
                    event(-900.0, Connect, "connected"),
                    event(-890.0, Handshake, "TLS 1.3"),
                    event(501.0, CloseNotify, "close_notify"),
                    event(501.1, Fin, "FIN"),
                ],
            ),
            lane(
                "socket",
                "websocket+tls",
                Outcome::ToldClose,
                vec![
                    event(-890.0, Connect, "connected"),
                    event(-880.0, Handshake, "TLS 1.3"),
                    event(-879.0, Sent, "GET /ws, upgrade"),
                    event(-878.0, Received, "101"),
                    event(0.7, WsClose, "Close 1001"),
                    event(0.8, HalfClosed, "Close 1001 back, no more"),
                    event(1.0, Fin, "FIN"),
                ],
            ),
        ],
    ));
    case.control = Some(quiet_control());
    case
}

fn hostile() -> Case {
    let mut case = case(
        "app/long-words",
        "APP-1",
        "What an application sees",
        Level::Should,
        Verdict::Fail,
        [HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE],
    );
    case.reason = Some(HOSTILE.to_owned());
    let long = "x".repeat(4_000);
    let mut seen = timeline(
        &[(0.0, HOSTILE), (1_500.0, "SIGTERM")],
        Some((1_503.0, 1)),
        vec![
            lane(
                HOSTILE,
                HOSTILE,
                Outcome::Truncated,
                vec![
                    with_bytes(-5_000.0, Connect, HOSTILE, HOSTILE),
                    with_bytes(-10.0, Sent, &long, &long),
                    event(900.0, Rst, HOSTILE),
                ],
            ),
            Lane {
                name: String::new(),
                protocol: String::new(),
                outcome: None,
                events: Vec::new(),
                events_left_out: 0,
            },
        ],
    );
    seen.bands = bands(&[(HOSTILE, 0.0, 1_503.0)]);
    seen.log = vec![mark(10.0, HOSTILE), mark(11.0, "\u{1b}[31mERROR\u{202e} backwards\u{0}")];
    case.timeline = Some(seen);
    case
}

/// Only the process: no connection at all.
fn nobody() -> Case {
    let mut case = case(
        "app/exit-code",
        "APP-2",
        "What an application sees",
        Level::Must,
        Verdict::Pass,
        [
            "With nothing to do the process ends at once, with 0",
            "the exit code tells how it ended",
            "exit 0 within 1 s",
            "exit 0 after 2.2 ms",
            "Supervisors restart or raise an alarm by the exit code.",
        ],
    );
    case.timeline = Some(timeline(&[(0.0, "SIGTERM")], Some((2.2, 0)), Vec::new()));
    case.control = Some(timeline(&[], None, Vec::new()));
    case
}
