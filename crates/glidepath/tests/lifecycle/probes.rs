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
