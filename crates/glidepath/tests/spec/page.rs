//! SPEC.md, To be seen: the admin page, asked as a browser asks, and in a real one.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use crate::browser::Browser;
use crate::support::*;

const TOKEN: &str = "sesame";

/// A target with the page, and where that is.
fn with_page(start: Start) -> (Process, SocketAddr) {
    let server = start.set("ADMIN_PORT", 0).set("ADMIN_PAGE", 1).start();
    let admin = server.admin();
    (server, admin)
}

/// One request at the admin port, with its own host unless the headers have another.
fn asked(admin: SocketAddr, method: &str, path: &str, headers: &str) -> Client {
    let host = if headers.contains("host: ") { String::new() } else { format!("host: {admin}\r\n") };
    let mut client = Client::connect(admin);
    client.send(format!("{method} {path} HTTP/1.1\r\n{host}{headers}content-length: 0\r\n\r\n"));
    client
}

fn ask(admin: SocketAddr, method: &str, path: &str, headers: &str) -> http1::Response {
    asked(admin, method, path, headers).response()
}

/// The head alone: what follows may have no end.
fn events_head(admin: SocketAddr, headers: &str) -> http1::Response {
    asked(admin, "GET", "/events", headers).head()
}

/// Somebody who watches: the events, as they come.
struct Watcher {
    client: Client,
    text: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
}

impl Watcher {
    fn open(admin: SocketAddr) -> Self {
        let mut client = asked(admin, "GET", "/events", "");
        let head = client.head();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self { client, text: String::new() }
    }

    /// `None` at the proper end of the body.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let (name, data) = (field("event: ").to_owned(), serde_json::from_str(field("data: ")));
                let event = Event { name, data: data.expect("an event is JSON") };
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = self.client.chunk()?;
            self.text += std::str::from_utf8(&chunk).expect("events are text");
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        let mut last = None;
        while let Some(event) = self.next() {
            if is_so(&event.data) {
                return event.data;
            }
            assert!(start.elapsed() < PATIENCE, "not so: {what}; the last: {:#}", event.data);
            last = Some(event);
        }
        panic!("the events are over, and it was not so: {what}; the last: {last:#?}");
    }
}

/// An upload that ends when it is told to.
fn held(server: &Process) -> Client {
    let mut client = Client::connect(server.address());
    client
        .send(http1::request("POST", "/echo?secret=hunter2", "content-length: 1\r\nx-secret: hunter2\r\n"))
        .until_read();
    client
}

#[test]
fn see_5_what_runs_comes_and_goes_within_a_second_or_two() {
    let (server, admin) = with_page(Start::target());
    let mut watcher = Watcher::open(admin);
    let before = watcher.until("nothing runs", |seen| seen["counts"]["request"] == 0);
    assert_eq!((&before["phase"], &before["pid"]), (&"serving".into(), &server.pid().as_raw_nonzero().get().into()));
    let mut client = held(&server);
    let seen = watcher.until("a request runs", |seen| seen["counts"]["request"] == 1);
    assert_eq!(seen["running"][0]["name"], "POST /echo", "{seen:#}");
    assert_eq!(seen["connections"]["in flight"], 1, "{seen:#}");
    assert!(!seen.to_string().contains("hunter2"), "{seen:#}");
    client.send("x").response().assert_is(200, "1");
    watcher.until("it has gone", |seen| seen["counts"]["request"] == 0);
    server.end().assert_code(0);
}

#[test]
fn see_5_a_change_of_phase_is_told_at_once_with_the_time_that_is_left() {
    let (server, admin) = with_page(Start::target().set("LAME_DUCK", 0.3).set("GRACE", 20));
    let mut client = held(&server);
    let mut watcher = Watcher::open(admin);
    watcher.next();
    let signal = server.terminate();
    let seen = watcher.until("lame duck", |seen| seen["phase"] == "lame_duck");
    assert!(signal.elapsed() < ms(250), "told {:?} after the signal", signal.elapsed());
    assert!(seen["left_ms"].as_f64().is_some_and(|left| left <= 300.0), "{seen:#}");
    let seen = watcher.until("draining", |seen| seen["phase"] == "draining");
    assert!(signal.elapsed() < ms(800), "told {:?} after the signal", signal.elapsed());
    assert_eq!((&seen["cause"], &seen["grace_ms"]), (&"SIGTERM".into(), &20_000.into()), "{seen:#}");
    assert!(seen["left_ms"].as_f64().is_some_and(|left| (19_000.0..=20_000.0).contains(&left)), "{seen:#}");
    client.send("x").response().assert_is(200, "1");
    server.exit().assert_code(0);
}

#[test]
fn see_6_the_page_is_off_unless_set() {
    let server = Start::target().set("ADMIN_PORT", 0).start();
    let admin = server.admin();
    for path in ["/", "/events", "/drain"] {
        assert_eq!(asked(admin, "GET", path, "").head().status, 404, "{path}");
    }
    assert!(!server.end().stderr.contains("admin page"));
}

#[test]
fn see_6_by_which_name_and_from_which_page_it_is_asked_for() {
    let (server, admin) = with_page(Start::target());
    let page = ask(admin, "GET", "/", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(ask(admin, "GET", "/", "host: localhost:1\r\n").status, 200);
    for headers in ["host: evil.example\r\n", "origin: http://evil.example\r\n", "origin: null\r\n"] {
        for refused in [ask(admin, "GET", "/", headers), events_head(admin, headers)] {
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None), "{headers}");
        }
    }
    let says = ask(admin, "GET", "/", "host: evil.example\r\n");
    assert!(says.text().contains("Server::admin_page_host"), "{}", says.text());
    assert_eq!(events_head(admin, "sec-fetch-site: cross-site\r\n").status, 403);
    assert_eq!(ask(admin, "POST", "/", "").header("allow"), Some("GET, HEAD"));
    assert_eq!(ask(admin, "POST", "/events", "").header("allow"), Some("GET"));
    // A probe comes by whatever name it likes.
    ask(admin, "GET", "/livez", "host: evil.example\r\n").assert_is(200, "ok");
    server.end().assert_code(0);
}

#[test]
fn see_7_the_buttons_need_the_token_and_the_page_itself() {
    let (server, admin) = with_page(Start::target().set("ADMIN_TOKEN", TOKEN));
    let own = format!("origin: http://{admin}\r\n");
    let knows = format!("authorization: Bearer {TOKEN}\r\n");
    for (headers, status) in [
        (own.clone(), 401),
        (format!("{own}authorization: Bearer wrong\r\n"), 403),
        (format!("{own}cookie: token={TOKEN}\r\n"), 401),
        (format!("origin: http://evil.example\r\n{knows}"), 403),
        (format!("origin: null\r\n{knows}"), 403),
        (format!("host: evil.example\r\norigin: http://evil.example\r\n{knows}"), 403),
        (format!("{own}sec-fetch-site: cross-site\r\n{knows}"), 403),
    ] {
        assert_eq!(ask(admin, "POST", "/drain", &headers).status, status, "{headers}");
    }
    // What a browser asks before it sends the header for somebody else's page.
    let asks = "origin: http://evil.example\r\naccess-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n";
    let answer = ask(admin, "OPTIONS", "/drain", asks);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    ask(admin, "GET", "/readyz", "").assert_is(200, "serving");
    ask(admin, "POST", "/drain", &format!("{own}sec-fetch-site: same-origin\r\n{knows}")).assert_is(202, "draining");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.stderr.contains(&format!("admin page: http://{admin}/")), "{}", exit.stderr);
    assert!(!exit.stderr.contains(TOKEN), "a token that was set is not logged");
}

#[test]
fn see_7_without_a_token_set_the_log_has_one() {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let (server, admin) = with_page(Start::target());
        let line = server.stderr.wait_for("admin page: ");
        let token = line.split("(token ").nth(1).and_then(|rest| rest.strip_suffix(')')).expect("a token");
        assert!(line.contains(&format!("http://{admin}/")) && token.len() == 32, "{line}");
        assert_eq!(ask(admin, "POST", "/drain", "").status, 401);
        let knows = format!("authorization: Bearer {token}\r\n");
        ask(admin, "POST", "/drain", &knows).assert_is(202, "draining");
        server.exit().assert_code(0);
        tokens.push(token.to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn see_8_the_last_event_is_the_report() {
    for (grace, releases, code) in [(20.0, true, 0), (0.3, false, 3)] {
        let (server, admin) = with_page(Start::target().set("GRACE", grace));
        let mut client = held(&server);
        let mut watchers: Vec<_> = (0..3).map(|_| Watcher::open(admin)).collect();
        watchers.iter_mut().for_each(|watcher| assert!(watcher.next().is_some()));
        server.terminate();
        if releases {
            client.send("x").response().assert_is(200, "1");
        }
        let exit = server.exit();
        exit.assert_code(code);
        for mut watcher in watchers {
            let mut events: Vec<_> = std::iter::from_fn(|| watcher.next()).collect();
            let last = events.pop().expect("a last event");
            assert_eq!(last.name, "report");
            assert_eq!(last.data["report"], exit.report());
            assert!(events.iter().all(|event| event.name == "snapshot"));
            assert_eq!(watcher.client.end(), End::Fin);
        }
        let cut = &exit.report()["cut"];
        assert_eq!(cut.as_array().map(Vec::len), Some(usize::from(!releases)), "{cut}");
    }
}

/// Who watched the old process sees it to its end, and then the new one.
#[test]
fn see_8_in_a_restart_the_old_one_is_seen_to_its_end() {
    let (server, admin) = with_page(Start::target().set("RESTART", 1).set("ADMIN_TOKEN", TOKEN));
    let old = server.pid().as_raw_nonzero().get();
    let mut client = held(&server);
    let mut watcher = Watcher::open(admin);
    watcher.until("it can be restarted", |seen| seen["can_restart"] == true);
    let answer = ask(admin, "POST", "/restart", &format!("authorization: Bearer {TOKEN}\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = watcher.until("it drains", |seen| seen["phase"] == "draining");
    assert_eq!((&seen["pid"], &seen["running"][0]["name"]), (&old.into(), &"POST /echo".into()), "{seen:#}");
    let successor = seen["successor"].clone();
    let mut next_watcher = Watcher::open(admin);
    let next = next_watcher.next().expect("the new one has events").data;
    assert_eq!((&next["pid"], &next["predecessor"]), (&successor, &old.into()), "{next:#}");
    client.send("x").response().assert_is(200, "1");
    let last = watcher.until("its report", |seen| seen["report"].is_object());
    assert_eq!((&last["report"]["cause"], &last["report"]["successor"]), (&"restart".into(), &successor));
    let (exit, next) = server.replaced();
    exit.assert_code(0);
    next.end();
}

/// "holds up no end": as long as without.
#[test]
fn see_9_who_watches_holds_up_no_end() {
    let control = Start::target().start();
    let signal = control.terminate();
    let without = control.exit().at - signal;
    let (server, admin) = with_page(Start::target());
    let mut watchers: Vec<_> = (0..8).map(|_| Watcher::open(admin)).collect();
    watchers.iter_mut().for_each(|watcher| assert!(watcher.next().is_some()));
    let signal = server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    let with = exit.at - signal;
    assert!(with < without + ms(100), "{with:?} with watchers, {without:?} without");
    assert_eq!(exit.report()["connections"]["accepted"], PROBE, "{}", exit.report());
}

/// The control: what is under way on the public port does.
#[test]
fn see_9_an_answer_that_goes_on_on_the_public_port_holds_the_end() {
    let (server, _) = with_page(Start::target());
    let mut client = held(&server);
    server.terminate();
    server.wait_for_seal();
    std::thread::sleep(ms(300));
    assert!(server.is_running());
    client.send("x").response().assert_is(200, "1");
    server.exit().assert_code(0);
}

#[test]
fn see_9_so_many_watch_and_no_more() {
    let (server, admin) = with_page(Start::target());
    let mut watchers: Vec<_> = (0..32).map(|_| Watcher::open(admin)).collect();
    assert_eq!(events_head(admin, "").status, 503);
    ask(admin, "GET", "/events", "").assert_is(503, "32 watch already");
    assert_eq!(ask(admin, "GET", "/", "").status, 200);
    watchers.pop();
    wait_until("its place is free", || events_head(admin, "").status == 200);
    server.end().assert_code(0);
}

fn in_a_browser(admin: SocketAddr) -> Option<Browser> {
    Browser::drive("page.mjs", &format!("http://{admin}/"))
}

/// Two sizes, light and dark: it loads, updates, drains by the keyboard alone, says how it ended, and comes back.
#[test]
fn see_11_in_a_browser_a_drain_is_asked_for_seen_and_survived() {
    let (server, admin) = with_page(Start::target().set("ADMIN_TOKEN", TOKEN));
    let port = server.address().port();
    let Some(mut browser) = in_a_browser(admin) else { return };
    browser.until("serving");
    browser.until("audit");
    let mut client = held(&server);
    let seen = browser.until("held");
    assert!(seen["seen"]["first"].as_str().is_some_and(|row| row.contains("request POST /echo")), "{seen:#}");
    browser.until("audit");
    client.send("x").response().assert_is(200, "1");
    browser.until("serving");

    let mut client = held(&server);
    browser.until("held");
    browser.until("press drain wrong refused: not with this token");
    browser.until("held");
    let seen = browser.until(&format!("press drain {TOKEN} Draining"));
    // The wrong token was answered 403.
    assert_eq!(seen["complaints"].as_array().map(Vec::len), Some(0), "{seen:#}");
    let seen = browser.until("draining");
    assert_eq!(seen["seen"]["phase"], "draining", "{seen:#}");
    browser.until("audit");
    client.send("x").response().assert_is(200, "1");
    server.exit().assert_code(0);
    let seen = browser.until("ended");
    assert_eq!(seen["seen"]["headline"], "Ended: all work finished", "{seen:#}");
    assert!(seen["seen"]["why"].as_str().is_some_and(|why| why.contains("Exit code 0")), "{seen:#}");
    browser.until("audit");

    let next = Start::target().on(port).set("ADMIN_PORT", admin.port()).set("ADMIN_PAGE", 1).start();
    let seen = browser.until("back");
    let pid = next.pid().as_raw_nonzero().to_string();
    assert!(seen["seen"]["process"].as_str().is_some_and(|process| process.contains(&pid)), "{seen:#}");
    assert_eq!(seen["seen"]["folded"], serde_json::json!([true]), "{seen:#}");
    browser.until("audit");

    // The control: one that is killed tells nothing, and the page does not say that it ended well.
    next.signal(Signal::KILL);
    browser.until("lost");
    browser.until("audit");
    next.exit();
    let last = Start::target().on(port).set("ADMIN_PORT", admin.port()).set("ADMIN_PAGE", 1).start();
    let seen = browser.until("again");
    let killed = seen["seen"]["processes"][1].as_str().unwrap_or_default();
    assert!(killed.contains(&pid) && killed.contains("without a report"), "{seen:#}");
    drop(browser);
    last.end();
}

/// The same with a restart in place; and what the deadline cuts is named.
#[test]
fn see_11_in_a_browser_a_restart_is_asked_for_and_what_was_cut_is_named() {
    let (server, admin) = with_page(Start::target().set("ADMIN_TOKEN", TOKEN).set("RESTART", 1).set("GRACE", 3));
    let Some(mut browser) = in_a_browser(admin) else { return };
    browser.until("serving");
    let _client = held(&server);
    browser.until("held");
    browser.until(&format!("press restart {TOKEN} Draining (restart)"));
    browser.until("draining");
    let (exit, next) = server.replaced();
    exit.assert_code(3);
    let seen = browser.until("back");
    let lives = &seen["seen"]["processes"];
    let successor = next.pid().as_raw_nonzero().to_string();
    assert!(lives[0].as_str().is_some_and(|life| life.contains(&successor)), "{seen:#}");
    let life = lives[1].as_str().unwrap_or_default();
    for words in ["cut by the deadline, exit code 3", "POST /echo", "has taken over"] {
        assert!(life.contains(words), "{words}: {seen:#}");
    }
    browser.until("audit");
    drop(browser);
    next.end();
}
