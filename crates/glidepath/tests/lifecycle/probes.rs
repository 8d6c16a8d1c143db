//! The admin port and readiness, where a test must hold an end still: real sockets, events instead of sleeps.

use axum::Router;
use glidepath::Handle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

struct Port(std::net::SocketAddr);

impl Port {
    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, Self(address))
    }

    async fn get(&self, path: &str) -> String {
        let mut client = TcpStream::connect(self.0).await.unwrap();
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A POST with these header lines.
    async fn post(&self, path: &str, headers: &str) -> String {
        let mut client = TcpStream::connect(self.0).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[track_caller]
    fn assert_closed(&self) {
        let refused = std::net::TcpStream::connect(self.0).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[track_caller]
fn assert_is(answer: &str, status: u16, body: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(&format!("\r\n\r\n{body}")),
        "{answer}"
    );
}

/// "the admin listener is closed last": after the hooks, while the public one is long closed.
#[tokio::test]
async fn lis_5_the_admin_port_outlives_the_hooks() {
    let lifecycle = Lifecycle::without_signals();
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, released) = (begun.clone(), release.clone());
    lifecycle.on_close("database", async move {
        begins.notify_one();
        released.notified().await;
    });
    let ((public, public_port), (admin, admin_port)) = (Port::bind().await, Port::bind().await);
    let serving = Serving::start(lifecycle.serve(public, Router::new()).admin(admin).grace(secs(10)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    assert_is(&admin_port.get("/readyz").await, 200, "serving");

    lifecycle.handle().begin();
    begun.notified().await;
    public_port.assert_closed();
    assert_is(&admin_port.get("/livez").await, 200, "ok");
    assert_is(&admin_port.get("/readyz").await, 503, "closing");
    let mut at_rest = TcpStream::connect(admin_port.0).await.unwrap();
    at_rest.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert!(at_rest.read(&mut [0; 1024]).await.unwrap() > 0);

    release.notify_one();
    let done = Instant::now();
    let report = serving.report().await;
    assert!(done.elapsed() < ms(50), "probes held the end for {:?}", done.elapsed());
    admin_port.assert_closed();
    assert_eq!(at_rest.read(&mut [0]).await.unwrap(), 0, "FIN, and no reset");
    assert_eq!((report.connections.accepted, report.requests.started), (0, 0), "probes are not work: {report}");
    assert!(report.is_clean());
}

/// A snapshot is of work.
#[tokio::test]
async fn rdy_3_an_open_probe_is_in_no_snapshot() {
    let lifecycle = Lifecycle::without_signals();
    let (admin, port) = Port::bind().await;
    let serving = Serving::start(lifecycle.run().admin(admin));
    assert_is(&port.get("/readyz").await, 200, "serving");
    let _open = TcpStream::connect(port.0).await.unwrap();
    assert_is(&port.get("/livez").await, 200, "ok");
    let snapshot = lifecycle.handle().snapshot();
    assert!(snapshot.connections.is_empty() && snapshot.running.is_empty(), "{snapshot}");
    assert!(end(&lifecycle, serving).await.is_clean());
}

#[tokio::test]
async fn rdy_1_not_ready_before_the_last_latch_is_released() {
    let lifecycle = Lifecycle::without_signals();
    let cache = lifecycle.readiness().latch("cache");
    let (admin, port) = Port::bind().await;
    let serving = Serving::start(lifecycle.run().admin(admin));
    assert_is(&port.get("/readyz").await, 503, "serving, not ready: cache");
    assert_is(&port.get("/livez").await, 200, "ok");
    cache.release();
    assert_is(&port.get("/readyz").await, 200, "serving");
    end(&lifecycle, serving).await;
    assert!(!lifecycle.readiness().is_ready());
}

/// An end that is forced does not wait for probes either.
#[tokio::test]
async fn rdy_3_a_forced_end_waits_for_no_probe() {
    let lifecycle = Lifecycle::without_signals();
    let (admin, port) = Port::bind().await;
    let serving = Serving::start(lifecycle.run().admin(admin));
    let mut half = TcpStream::connect(port.0).await.unwrap();
    half.write_all(b"GET /livez HTT").await.unwrap();
    assert_is(&port.get("/livez").await, 200, "ok");
    let forced = Instant::now();
    Handle::force(&lifecycle.handle());
    serving.report().await;
    assert!(forced.elapsed() < CUT, "{:?}", forced.elapsed());
}

/// Lines of the log, for the thread of the test.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// "warn at start"
#[tokio::test]
async fn end_5_a_budget_that_does_not_fit_is_warned_of_at_the_start() {
    for (budget, warns) in [(secs(60), false), (secs(30), true)] {
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let lifecycle = Lifecycle::without_signals();
        lifecycle.handle().begin();
        let report = lifecycle.run().lame_duck(secs(5)).grace(secs(30)).budget(budget).await.unwrap();
        assert!(report.is_clean());
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.contains("WARN") && log.contains("at most 24.5s"), warns, "{log}");
    }
}

/// "without a token 401, with a wrong one or with an `Origin` 403, and nothing starts"; with it the end begins.
#[tokio::test]
async fn ho_5_only_who_has_the_token_begins_the_end_on_the_admin_port() {
    let lifecycle = Lifecycle::without_signals();
    lifecycle.restart_in_place();
    let (admin, port) = Port::bind().await;
    // In any order: the port may be added before the token, and after it.
    let serving = Serving::start(lifecycle.run().admin(admin).admin_token("secret"));
    lifecycle.handle().wait_for(Phase::Serving).await;
    const KNOWS: &str = "authorization: Bearer secret\r\n";
    for path in ["/drain", "/restart"] {
        for (headers, status, says) in [
            ("", 401, "this needs a token"),
            ("authorization: Bearer wrong!\r\n", 403, "not with this token"),
            ("authorization: Basic secret\r\n", 403, "not with this token"),
            (&format!("origin: http://127.0.0.1\r\n{KNOWS}"), 403, "not from a web page"),
            (&format!("origin: null\r\n{KNOWS}"), 403, "not from a web page"),
        ] {
            let answer = port.post(path, headers).await;
            assert_is(&answer, status, says);
            assert_eq!(answer.contains("www-authenticate: Bearer\r\n"), status == 401, "{answer}");
        }
        let answer = port.get(path).await;
        assert_is(&answer, 405, "POST");
        assert!(answer.contains("allow: POST\r\n"), "{answer}");
    }
    assert_eq!(lifecycle.handle().phase(), Phase::Serving, "nothing was begun");
    assert_is(&port.get("/readyz").await, 200, "serving");

    assert_is(&port.post("/drain", KNOWS).await, 202, "draining");
    let report = serving.report().await;
    assert_eq!(report.cause, "handle");
}

/// "off unless set": also where the token is empty, as an environment variable may be that nobody filled.
#[tokio::test]
async fn ho_5_without_a_token_set_nobody_begins_anything_on_the_admin_port() {
    for token in [None, Some("")] {
        let lifecycle = Lifecycle::without_signals();
        let (admin, port) = Port::bind().await;
        let server = lifecycle.run().admin(admin);
        let serving = Serving::start(match token {
            Some(token) => server.admin_token(token),
            None => server,
        });
        lifecycle.handle().wait_for(Phase::Serving).await;
        for path in ["/drain", "/restart"] {
            for headers in ["", "authorization: Bearer \r\n", "authorization: Bearer secret\r\n"] {
                assert_is(&port.post(path, headers).await, 404, "/livez or /readyz");
            }
        }
        assert_eq!(lifecycle.handle().phase(), Phase::Serving);
        end(&lifecycle, serving).await;
    }
}

/// Unless a renderer is set there is no such page, and a POST is none where it is.
#[tokio::test]
async fn see_2_metrics_are_answered_where_they_are_set_and_to_get_only() {
    for is_set in [false, true] {
        let lifecycle = Lifecycle::without_signals();
        let (admin, port) = Port::bind().await;
        let mut server = lifecycle.run().admin(admin);
        if is_set {
            server = server.admin_metrics(|| "up 1\n".to_owned());
        }
        let serving = Serving::start(server);
        lifecycle.handle().wait_for(Phase::Serving).await;
        let answer = port.get("/metrics").await;
        if is_set {
            assert_is(&answer, 200, "up 1\n");
            assert!(port.post("/metrics", "").await.starts_with("HTTP/1.1 405 "));
        } else {
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
        end(&lifecycle, serving).await;
    }
}
