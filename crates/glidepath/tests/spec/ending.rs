//! SPEC.md, Deadline, exit and report.

use crate::support::websocket::WebSocket;
use crate::support::*;

/// "the process ends within the grace period + 0.5 s, whatever runs"
#[test]
pub(crate) fn end_1_the_deadline_holds_whatever_runs() {
    let server = Start::target().set("GRACE", 1).set("WORKERS", 3).start();
    let address = server.address();
    let _silent = Client::accepted(address);
    let _websocket = WebSocket::open(address);
    let mut clients: Vec<_> = (0..7).map(|_| Client::connect(address)).collect();
    clients[0].get("/sleep?ms=20000").until_read();
    clients[1].get("/stream?chunks=1000&ms=50").until_read();
    clients[2].get("/sse").until_read();
    clients[3].send(http1::request("POST", "/echo", "content-length: 1000\r\n")).send("never all of it").until_read();
    clients[4].start_head("GET", "/", "");
    clients[5].send(http1::request("POST", "/task?ms=20000", ""));
    assert_eq!(clients[5].response().status, 202);
    let mut h2 = http2::Http2::connect(address);
    h2.get(1, "/sleep?ms=20000");
    // The last, as tokio may leave its other connections unread while one worker is blocked.
    clients[6].get("/block?ms=20000").until_read();
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    let took = exit.at - signal;
    assert!(took < ms(1500), "exit {took:?} after the signal");
    assert!(took > ms(900), "exit {took:?} after the signal: it did not wait");
}

/// "at the deadline a request whose head is not written gets 503, `Connection: close` and `Retry-After`"
#[test]
pub(crate) fn end_2_an_unanswered_request_gets_503_at_the_deadline() {
    let server = Start::target().set("GRACE", 1).start();
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=20000").until_read();
    server.terminate();
    let answer = client.response();
    assert_eq!(answer.status, 503);
    answer.assert_says_close();
    assert!(answer.header("retry-after").is_some(), "no Retry-After in {:?}", answer.headers);
    assert_eq!(client.end(), End::Fin);
    server.exit().assert_code(3);
}

/// "one that is streaming is cut so that the client can see it was": the chunked body has no end.
#[test]
pub(crate) fn end_2_a_stream_is_cut_visibly_at_the_deadline() {
    let server = Start::target().set("GRACE", 1).start();
    let mut client = Client::connect(server.address());
    client.get("/stream?chunks=1000&ms=50");
    assert_eq!(client.head().status, 200);
    server.terminate();
    let mut chunks = 0;
    let end = loop {
        match client.try_chunk() {
            Ok(Some(_)) => chunks += 1,
            Ok(None) => panic!("a proper end after {chunks} of 1000 chunks: the client can't see that it was cut"),
            Err(error) => break error,
        }
    };
    assert!(chunks > 5, "only {chunks} chunks until {end}");
    server.exit().assert_code(3);
}

/// The same on HTTP/1.0, whose body ends with the connection: FIN would make it look whole, so it is a reset, and over TLS
/// there is no close_notify. The control is a stream that ends by itself.
#[test]
pub(crate) fn end_2_a_body_that_ends_with_the_connection_is_reset_at_the_deadline() {
    for (chunks, whole) in [(1000, false), (10, true)] {
        let server = Start::target().set("GRACE", 1).start();
        let mut client = Client::connect(server.address());
        client.send(format!("GET /stream?chunks={chunks}&ms=50 HTTP/1.0\r\n\r\n"));
        let mut buffer = [0; 1024];
        let mut read = client.read_some(&mut buffer).expect("the head");
        server.terminate();
        let end = loop {
            match client.read_some(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(more) => read += more,
                Err(error) => break Err(error),
            }
        };
        assert_eq!(end.is_ok(), whole, "{chunks} chunks: {end:?} after {read} bytes");
        server.exit().assert_code(if whole { 0 } else { 3 });
    }
}

/// The same on HTTP/2: a 503, and a reset.
#[test]
pub(crate) fn end_2_http2_streams_are_ended_visibly_at_the_deadline() {
    use http2::Frame;
    let server = Start::target().set("GRACE", 1).start();
    let mut client = http2::Http2::connect(server.address());
    client.get(1, "/sleep?ms=20000");
    client.get(3, "/stream?chunks=1000&ms=50");
    client.wait_for("the stream's head", |frame| matches!(frame, Frame::Headers { stream: 3, .. }));
    server.terminate();
    let mut frames = Vec::new();
    while let Ok(frame) = client.try_frame() {
        if let Frame::Ping { ack: false, payload } = frame {
            client.acknowledge(payload);
        }
        frames.push(frame);
    }
    let was_answered = frames.iter().any(|frame| matches!(frame, Frame::Headers { stream: 1, status: 503, .. }));
    let looks_whole = frames.iter().any(|frame| matches!(frame, Frame::Data { stream: 3, ends: true, .. }));
    frames.retain(|frame| !matches!(frame, Frame::Data { .. }));
    assert!(was_answered, "no 503 on stream 1: {frames:?}");
    assert!(!looks_whole, "stream 3 looks whole: {frames:?}");
    server.exit().assert_code(3);
}

/// The same for a stream that its client leaves no window: nothing more can be said on it, and the connection ends. Over
/// TLS behind a close_notify. The control has a window, and gets all of it.
#[test]
pub(crate) fn end_2_a_stream_without_a_window_is_cut_visibly_at_the_deadline() {
    use http2::Frame;
    for has_window in [false, true] {
        let server = Start::target().set("GRACE", 1).start();
        let mut client = http2::Http2::connect(server.address());
        if !has_window {
            client.take_nothing();
        }
        client.get(1, "/stream?chunks=3&ms=10");
        client.wait_for("the stream's head", |frame| matches!(frame, Frame::Headers { stream: 1, .. }));
        server.terminate();
        let (frames, end) = client.end();
        let is_whole = frames.iter().any(|frame| matches!(frame, Frame::Data { stream: 1, ends: true, .. }));
        assert_eq!((is_whole, end), (has_window, End::Fin), "{frames:?}");
        server.exit().assert_code(if has_window { 0 } else { 3 });
    }
}

/// "exit code: 0 when all work finished, 3 when the deadline cut something, 128+n when forced by a signal, 1 when
/// serving failed"
#[test]
pub(crate) fn end_3_exit_codes() {
    let clean = Start::target().start();
    fetch(clean.address(), "/").assert_is(200, "ok");
    let exit = clean.end();
    exit.assert_code(0);
    assert_eq!((&exit.report()["outcome"], &exit.report()["exit_code"]), (&"clean".into(), &0.into()));

    let cut = Start::target().set("GRACE", 0.3).start();
    let mut client = Client::connect(cut.address());
    client.get("/sleep?ms=20000").until_read();
    let exit = cut.end();
    exit.assert_code(3);
    assert_eq!((&exit.report()["outcome"], &exit.report()["exit_code"]), (&"cut".into(), &3.into()));

    let serves = Start::target().start();
    let fails = Start::target().on(serves.address().port()).launch();
    let exit = fails.exit();
    exit.assert_code(1);
    assert!(exit.stderr.contains("in use"), "{}", exit.stderr);
}

/// The target is an example of a tidy command line: what it can't read, it says.
#[test]
fn end_3_a_setting_that_does_not_parse_is_named() {
    for (name, value) in [("PORT", "eighty"), ("GRACE", "-1"), ("LAME_DUCK", "soon"), ("WORKERS", "1.5")] {
        let exit = Start::target().set(name, value).launch().exit();
        exit.assert_code(2);
        assert!(exit.stderr.contains(name) && exit.stderr.contains(value), "{}", exit.stderr);
    }
}

/// "the report accounts for everything: accepted = finished + closed at rest + upgraded closed + cut, and zero unknown"
#[test]
pub(crate) fn end_4_the_report_accounts_for_every_connection() {
    let server = Start::target().set("GRACE", 2).start();
    let address = server.address();
    for _ in 0..3 {
        drop(Client::at_rest(address));
    }
    let mut at_rest: Vec<_> = (0..4).map(|_| Client::at_rest(address)).collect();
    let _silent: Vec<_> = (0..2).map(|_| Client::accepted(address)).collect();
    assert!(at_rest[0].stays_silent_for(QUIET + ms(300)));
    let mut in_flight = Client::connect(address);
    in_flight.get("/sleep?ms=1000").until_read();
    let mut websocket = WebSocket::open(address);
    let mut cut = Client::connect(address);
    cut.get("/sleep?ms=20000&token=hush").until_read();
    server.terminate();
    if let Ok((kind, payload)) = websocket.try_frame() {
        assert_eq!(kind, 0x88);
        websocket.send(websocket::CLOSE, &payload);
    }
    in_flight.response().assert_is(200, "slept");
    let exit = server.exit();
    exit.assert_code(3);

    let report = exit.report();
    let connections =
        |field: &str| report["connections"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {report}"));
    assert_eq!(connections("accepted"), PROBE + 12, "{report}");
    assert_eq!(connections("at_rest"), 6, "{report}");
    assert_eq!(connections("upgraded"), 1, "{report}");
    // The one whose request was cut had a last answer, so it may count among the finished.
    assert_eq!(connections("finished") + connections("cut"), PROBE + 5, "{report}");
    assert_eq!((connections("failed"), connections("unknown")), (0, 0), "{report}");
    let requests = |field: &str| report["requests"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {report}"));
    assert_eq!((requests("started"), requests("cut")), (PROBE + 10, 1), "{report}");
}

/// "it names what was cut (method, path, age; task name, age)"
#[test]
pub(crate) fn end_4_the_report_names_what_was_cut() {
    let server = Start::target().set("GRACE", 0.5).start();
    let mut request = Client::connect(server.address());
    request.get("/sleep?ms=20000&token=hush").until_read();
    let mut task = Client::connect(server.address());
    task.send(http1::request("POST", "/task?ms=20000", ""));
    assert_eq!(task.response().status, 202);
    let exit = server.end();
    exit.assert_code(3);
    let report = exit.report();
    let cut = report["cut"].as_array().cloned().unwrap_or_default();
    let find = |kind: &str| {
        cut.iter().find(|running| running["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {report}"))
    };
    assert_eq!(find("request")["name"], "GET /sleep");
    assert!(find("request")["age_ms"].as_f64() >= Some(500.0), "{report}");
    assert!(find("task")["name"].to_string().contains("task"), "{report}");
    assert!(find("task")["age_ms"].as_f64() >= Some(500.0), "{report}");
    assert!(exit.stderr.contains("GET /sleep"), "{}", exit.stderr);
    assert!(!exit.stderr.contains("hush") && !exit.stdout.contains("hush"), "a query string is printed");
}

/// "the serve call returns only after the drain; nothing in the library calls exit by itself"
#[test]
fn end_6_serve_returns_only_after_the_drain() {
    for (grace, code) in [(30, 0), (1, 3)] {
        let server = Start::example("background").set("GRACE", grace).start();
        for path in ["/hook?name=database&ms=100", "/task?name=mail&ms=2000"] {
            let mut client = Client::connect(server.address());
            client.send(http1::request("POST", path, ""));
            assert!(matches!(client.response().status, 201 | 202));
        }
        server.stdout.wait_for("mail begins");
        assert!(!server.stdout.so_far().contains("serve returned"), "the control: before the signal it serves");
        let exit = server.end();
        exit.assert_code(code);
        let lines: Vec<_> = exit.stdout.lines().collect();
        let position = |words: &str| lines.iter().position(|line| line.starts_with(words));
        assert_eq!(position("serve returned"), Some(lines.len() - 1), "{lines:?}");
        assert!(position("database ends") < position("{"), "{lines:?}");
        assert_eq!(position("mail ends").is_some(), code == 0, "{lines:?}");
    }
}

/// "grace 0 ends at once and still says GOAWAY, close and 1001"
#[test]
pub(crate) fn end_7_grace_0_ends_at_once_and_still_says_so() {
    use http2::Frame;
    let server = Start::target().set("GRACE", 0).start();
    let address = server.address();
    let mut http1 = Client::connect(address);
    http1.get("/sleep?ms=20000").until_read();
    let mut h2 = http2::Http2::connect(address);
    let mut websocket = WebSocket::open(address);
    let signal = server.terminate();
    http1.response().assert_says_close();
    h2.wait_for("GOAWAY", |frame| matches!(frame, Frame::GoAway { .. }));
    assert_eq!(websocket.close_code(), 1001);
    let exit = server.exit();
    exit.assert_code(3);
    assert!(exit.at - signal < ms(500), "exit {:?} after the signal", exit.at - signal);
}

/// "a stated budget": stated by the environment, where the program has none.
#[test]
fn end_5_a_budget_that_the_environment_states_is_warned_of_at_the_start() {
    for (budget, says) in [
        ("45", None),
        ("12.25", Some("the budget is 12.25s; set grace to at most 9.75s")),
        ("soon", Some("GLIDEPATH_BUDGET=soon: not a number of seconds, and not heeded")),
        ("-1", Some("GLIDEPATH_BUDGET=-1: not a number of seconds, and not heeded")),
    ] {
        let server = Start::target().set("GRACE", 30).set("LAME_DUCK", 2).set("GLIDEPATH_BUDGET", budget).start();
        match says {
            Some(says) => assert!(server.stderr.wait_for(says).contains("WARN"), "{budget}"),
            // It serves, and so would have said it.
            None => assert!(!server.stderr.so_far().contains("WARN"), "{}", server.stderr.so_far()),
        }
        drop(server);
    }
}
