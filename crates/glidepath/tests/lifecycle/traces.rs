//! What a log is told, as JSON has it.

use std::io;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::{any, get};
use futures_util::stream;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::format::FmtSpan;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Everything that this thread logs, and where each span closes.
    fn begin() -> (Self, DefaultGuard) {
        let log = Self::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(move || written.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn of(&self, target: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        lines.filter(|line| line["target"] == target).collect()
    }

    /// The lines of a target that say this.
    fn that_say(&self, target: &str, message: &str) -> Vec<Value> {
        self.of(target).into_iter().filter(|line| line["fields"]["message"] == message).collect()
    }
}

async fn fetch(address: std::net::SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("{request}\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// "each cut is a warning with its name and age, and of more than 100 the rest is counted"
#[tokio::test(start_paused = true)]
async fn see_3_what_is_cut_is_named_and_more_than_a_hundred_are_counted() {
    for (tasks, more) in [(3, None), (103, Some(3))] {
        let (log, _guard) = Log::begin();
        let (lifecycle, serving) = served().await;
        for _ in 0..tasks {
            let _cut = lifecycle.tasks().spawn("hangs", forever());
        }
        sleep(secs(7)).await;
        lifecycle.handle().force();
        serving.report().await;
        let cut = log.that_say("glidepath::cut", "cut");
        assert_eq!(cut.len(), tasks.min(100));
        for line in &cut {
            assert_eq!((&line["level"], &line["fields"]["kind"]), (&"WARN".into(), &"task".into()), "{line}");
            let name = line["fields"]["name"].as_str().unwrap_or_default();
            assert!(name.starts_with("\"hangs\""), "{line}");
            let age = line["fields"]["age_ms"].as_u64().unwrap_or_default();
            assert!((7000..8000).contains(&age), "{line}");
        }
        let rest = log.that_say("glidepath::cut", "more were cut");
        assert_eq!(rest.first().and_then(|line| line["fields"]["count"].as_u64()), more);
        let last = log.that_say("glidepath::lifecycle", "lifecycle").pop().expect("an end");
        assert_eq!(
            (&last["fields"]["phase"], &last["fields"]["outcome"]),
            (&"ended".into(), &"forced".into()),
            "{last}"
        );
    }
}

/// Each phase has its line, those too that a step passes through.
#[tokio::test(start_paused = true)]
async fn see_3_each_phase_has_its_line() {
    for (lame_duck, hook, expected) in [
        (secs(0), false, &["serving", "draining", "closing", "ended"][..]),
        (secs(2), true, &["serving", "lame duck", "draining", "closing", "ended"]),
    ] {
        let (log, _guard) = Log::begin();
        let lifecycle = Lifecycle::without_signals();
        let serving = Serving::start(lifecycle.run().lame_duck(lame_duck).grace(secs(10)));
        lifecycle.handle().wait_for(Phase::Serving).await;
        if hook {
            lifecycle.on_close("hook", takes(secs(1)));
        }
        let report = end(&lifecycle, serving).await;
        let lines = log.that_say("glidepath::lifecycle", "lifecycle");
        let phases: Vec<_> = lines.iter().map(|line| line["fields"]["phase"].as_str().unwrap_or_default()).collect();
        assert_eq!(phases, expected);
        let last = &lines[lines.len() - 1]["fields"];
        assert_eq!((&last["outcome"], &last["cause"]), (&"clean".into(), &"handle".into()), "{last}");
        assert_eq!(last["took_ms"].as_u64(), u64::try_from(report.took.as_millis()).ok(), "{last}");
    }
}

const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn app() -> Router {
    let body = || async {
        tracing::info!(target: "app", "in the handler");
        let pieces = stream::iter([1, 2]).map(|_| {
            tracing::info!(target: "app", "in the body");
            Ok::<_, io::Error>(Bytes::from_static(b"piece"))
        });
        Body::from_stream(pieces)
    };
    Router::new()
        .route("/body", any(body))
        .route("/teapot", get(async || StatusCode::IM_A_TEAPOT))
        .route("/panic", get(panics))
}

use futures_util::StreamExt as _;

/// What requests to the app above log, with the setting and without.
async fn logged(spans: Option<bool>) -> (Log, std::net::SocketAddr) {
    let (log, _guard) = Log::begin();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lifecycle = Lifecycle::without_signals();
    let mut server = lifecycle.serve(listener, app());
    if let Some(on) = spans {
        server = server.request_spans(on);
    }
    let serving = Serving::start(server);
    lifecycle.handle().wait_for(Phase::Serving).await;
    fetch(address, &format!("GET /body?secret=1 HTTP/1.1\r\n{PARENT}")).await;
    fetch(address, &format!("GET /teapot HTTP/1.1\r\n{}", PARENT.to_uppercase())).await;
    fetch(address, "BREW /body HTTP/1.1").await;
    fetch(address, "GET /panic HTTP/1.1").await;
    end(&lifecycle, serving).await;
    (log, address)
}

/// "what handlers and their bodies log is inside of it", and its fields have OpenTelemetry's names.
#[tokio::test]
async fn see_3_a_request_is_a_span_with_its_traceparent_and_its_status() {
    let (log, _) = logged(Some(true)).await;
    let inside = log.of("app");
    assert_eq!(inside.len(), 6, "{inside:?}");
    for line in &inside[..3] {
        let span = &line["span"];
        assert_eq!((&span["name"], &span["http.request.method"]), (&"request".into(), &"GET".into()), "{line}");
        assert_eq!((&span["url.path"], &span["network.protocol.version"]), (&"/body".into(), &"1.1".into()), "{line}");
        assert_eq!(span["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{line}");
        assert_eq!((&span["parent_id"], &span["trace_flags"]), (&"00f067aa0ba902b7".into(), &"01".into()), "{line}");
        assert_eq!(span["network.peer.address"], "127.0.0.1", "{line}");
        assert!(!line.to_string().contains("secret"), "a query is told: {line}");
    }
    let closed = log.that_say("glidepath::request", "close");
    let with = |path: &str, method: &str| {
        let mut found = closed
            .iter()
            .filter(|line| line["span"]["url.path"] == path && line["span"]["http.request.method"] == method);
        let line = found.next().unwrap_or_else(|| panic!("no span of {method} {path}: {closed:?}"));
        assert!(found.next().is_none(), "two spans of {method} {path}: {closed:?}");
        line["span"].clone()
    };
    assert_eq!(closed.len(), 4, "{closed:?}");
    assert_eq!(with("/body", "GET")["http.response.status_code"], 200);
    let teapot = with("/teapot", "GET");
    assert_eq!(teapot["http.response.status_code"], 418);
    assert!(teapot.get("trace_id").is_none(), "a malformed header is believed: {teapot}");
    assert_eq!(with("/body", "_OTHER")["http.request.method_original"], "BREW");
    assert_eq!(with("/panic", "GET")["http.response.status_code"], 500);
    let panicked = log.that_say("glidepath::request", "the app panicked; answering 500");
    assert_eq!(panicked.len(), 1);
    assert_eq!(panicked[0]["span"]["url.path"], "/panic", "{panicked:?}");
}

#[tokio::test]
async fn see_3_without_the_setting_there_are_no_spans() {
    for spans in [None, Some(false)] {
        let (log, _) = logged(spans).await;
        let inside = log.of("app");
        assert_eq!(inside.len(), 6);
        assert!(inside.iter().all(|line| line.get("span").is_none()), "{inside:?}");
        assert_eq!(log.that_say("glidepath::request", "close"), [Value::Null; 0]);
    }
}

/// "each connection's end, with how, whose, how many requests and how old"
#[tokio::test]
async fn see_3_each_connection_says_how_it_ended() {
    let (log, _) = logged(None).await;
    let ended = log.that_say("glidepath::connection", "connection ended");
    assert_eq!(ended.len(), 4);
    for line in &ended {
        let fields = &line["fields"];
        assert_eq!((&line["level"], &fields["outcome"]), (&"DEBUG".into(), &"finished".into()), "{line}");
        assert_eq!(fields["requests"], 1, "{line}");
        assert!(fields["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
        assert!(fields["age_ms"].as_u64().is_some_and(|age| age < 10_000), "{line}");
    }
}
