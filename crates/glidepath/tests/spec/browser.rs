//! What a real browser makes of an end (SSE-1, WS-1, WS-7): Chromium, driven by `browser.mjs`.
//!
//! Runs where `GLIDEPATH_BROWSER` names a folder with playwright-core and axe-core in its `node_modules`; then `node` must be a program, and
//! Chromium at `GLIDEPATH_CHROMIUM`, or `/usr/bin/chromium`. `.ci/run` sees to that.

use std::env;
use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::*;

/// A browser may take its time to start, and to connect again (three seconds unless told otherwise).
const BROWSERS_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    driver: Process,
    answers: usize,
}

impl Browser {
    /// Opens the root of `server`, where events and a WebSocket begin. `None` where there is no browser.
    fn open(scheme: &str, server: &Process) -> Option<Self> {
        Self::drive("browser.mjs", &format!("{scheme}://{}/", server.address()))
    }

    /// Starts this script of ours, which drives the browser, with these words.
    pub(crate) fn drive(script: &str, words: &str) -> Option<Self> {
        let Ok(folder) = env::var("GLIDEPATH_BROWSER") else {
            skipped("GLIDEPATH_BROWSER names no folder with playwright-core and axe-core");
            return None;
        };
        let script = format!("{}/tests/spec/{script}", env!("CARGO_MANIFEST_DIR"));
        let chromium = env::var("GLIDEPATH_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        let mut driver = Start::command(&["node", &script, &folder, &chromium, words]);
        if let Ok(folder) = env::var("GLIDEPATH_SHOTS") {
            driver = driver.set("GLIDEPATH_SHOTS", folder);
        }
        Some(Browser { driver: driver.launch(), answers: 0 })
    }

    /// Waits until it is so, and says what page and browser have seen by then.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str) -> Value {
        writeln!(self.driver.stdin(), "{what}").expect("the driver is running");
        self.answers += 1;
        let answer = self.driver.stdout.wait_for_line(self.answers, BROWSERS_PATIENCE);
        let seen: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        assert_eq!(seen["outcome"], what, "{seen:#}");
        seen
    }
}

/// "the client connects again": from one process to the next on the same port, and nobody sees an error on the way. The
/// WebSocket is told, and can tell.
fn from_one_process_to_the_next(scheme: &str, protocol: &str) {
    let server = Start::target().start();
    let address = server.address();
    let Some(mut browser) = Browser::open(scheme, &server) else { return };
    let seen = browser.until("connected");
    assert_eq!(seen["protocol"], protocol, "{seen:#}");
    server.terminate();
    let exit = server.exit();
    exit.assert_code(0);
    // On a socket of its own, or on a stream.
    assert_eq!(exit.report()["connections"]["upgraded"], u64::from(protocol != "h2"), "{}", exit.stderr);
    let port = if scheme == "https" { "TLS_PORT" } else { "PORT" };
    let next = Start::target().set(port, address.port()).start();
    let seen = browser.until("again");
    assert_eq!(seen["close"], serde_json::json!({ "code": 1001, "wasClean": true }), "{seen:#}");
    assert_eq!(seen["errors"], serde_json::json!(["connecting"]), "it connects again: {seen:#}");
    assert_eq!(seen["complaints"], serde_json::json!([]), "{seen:#}");
    drop(browser);
    next.end();
}

/// The control: where a process is killed, the same browser complains of the events' body and the WebSocket's end.
fn a_cut_is_complained_of(scheme: &str, complaint: &str) {
    let server = Start::target().start();
    let Some(mut browser) = Browser::open(scheme, &server) else { return };
    browser.until("connected");
    server.signal(Signal::KILL);
    let seen = browser.until("ended");
    assert_eq!(seen["close"], serde_json::json!({ "code": 1006, "wasClean": false }), "{seen:#}");
    let complaints = seen["complaints"].to_string();
    assert!(complaints.contains(&format!("/sse: {complaint}")), "{seen:#}");
    assert!(complaints.contains(&format!("error: Failed to load resource: {complaint}")), "{seen:#}");
}

#[test]
fn sse_1_a_browser_goes_on_with_the_next_process() {
    from_one_process_to_the_next("http", "http/1.1");
}

#[test]
fn sse_1_a_browser_complains_of_a_cut() {
    a_cut_is_complained_of("http", "net::ERR_INCOMPLETE_CHUNKED_ENCODING");
}

/// Over TLS a browser speaks HTTP/2, and its WebSocket is a stream of that (RFC 8441).
#[test]
fn ws_7_a_browser_goes_on_with_the_next_process_over_http2() {
    tls::over_tls(|| from_one_process_to_the_next("https", "h2"));
}

#[test]
fn ws_7_a_browser_complains_of_a_cut_over_http2() {
    tls::over_tls(|| a_cut_is_complained_of("https", "net::ERR_CONNECTION_CLOSED"));
}
