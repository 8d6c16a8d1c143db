//! Where requests are needed: a real socket, so real time; events instead of sleeps.

use axum::Router;
use axum::routing::get;
use glidepath::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::over_tls::Client;
use super::*;

/// An app whose only handler says that it has started, and waits until it is released.
#[derive(Clone, Default)]
struct Gate {
    started: Arc<Notify>,
    release: Arc<Notify>,
}

impl Gate {
    async fn pass(self) -> &'static str {
        self.started.notify_one();
        self.release.notified().await;
        "done"
    }
}

async fn serve(lifecycle: &Lifecycle, app: Router, grace: Duration) -> (Serving, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Serving::start(lifecycle.serve(over_tls::listen(listener), app).grace(grace));
    let mut client = over_tls::speak(TcpStream::connect(address).await.unwrap()).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    (serving, client)
}

async fn answer(mut client: Client) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn task_1_a_task_that_a_request_starts_in_the_drain_is_waited_for() {
    let lifecycle = Lifecycle::without_signals();
    let (request, task) = (Gate::default(), Gate::default());
    let app = Router::new().route(
        "/",
        get({
            let (request, task, tasks) = (request.clone(), task.clone(), lifecycle.tasks());
            || async move {
                let said = request.pass().await;
                let _detached = tasks.spawn("receipt", task.pass());
                said
            }
        }),
    );
    let (serving, client) = serve(&lifecycle, app, secs(10)).await;
    request.started.notified().await;
    lifecycle.handle().begin();
    request.release.notify_one();
    let answer = answer(client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    task.started.notified().await;
    assert_eq!(lifecycle.handle().phase(), Phase::Draining, "the request is answered, its task is not done");
    assert!(!serving.has_returned());
    task.release.notify_one();
    let report = serving.report().await;
    assert_eq!((report.requests.answered_late, report.tasks.finished), (1, 1));
    assert!(report.is_clean());
    assert_adds_up(&report);
}

/// "handlers can see the drain (`is_draining`, a future); nothing is cancelled before the deadline"
#[tokio::test]
pub(crate) async fn req_11_a_handler_sees_the_drain_and_is_not_cancelled() {
    let lifecycle = Lifecycle::without_signals();
    let gate = Gate::default();
    let app = Router::new().route(
        "/",
        get({
            let (gate, drain) = (gate.clone(), lifecycle.drain());
            || async move {
                let before = drain.is_draining();
                gate.started.notify_one();
                drain.draining().await;
                sleep(ms(1000)).await;
                format!("{before}, then {}", drain.is_draining())
            }
        }),
    );
    let (serving, client) = serve(&lifecycle, app, secs(10)).await;
    gate.started.notified().await;
    lifecycle.handle().begin();
    let answer = answer(client).await;
    assert!(answer.ends_with("false, then true"), "{answer}");
    assert!(serving.report().await.is_clean());
}

#[tokio::test]
async fn end_4_a_request_that_the_deadline_cut_is_named() {
    let lifecycle = Lifecycle::without_signals();
    let gate = Gate::default();
    let app = Router::new().route(
        "/",
        get({
            let gate = gate.clone();
            || gate.pass()
        }),
    );
    let (serving, client) = serve(&lifecycle, app, Duration::ZERO).await;
    gate.started.notified().await;
    let report = end(&lifecycle, serving).await;
    assert!(answer(client).await.starts_with("HTTP/1.1 503"));
    assert_eq!((cut(&report), report.outcome, report.exit_code()), (vec!["GET /".to_owned()], Outcome::Cut, 3));
    assert_eq!((report.requests.started, report.requests.cut), (1, 1));
    assert_adds_up(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_4_a_handler_that_blocks_its_thread_is_cut_and_named_all_the_same() {
    let lifecycle = Lifecycle::without_signals();
    let gate = Gate::default();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let app = Router::new().route(
        "/",
        get({
            let (gate, blocked) = (gate.clone(), Arc::clone(&blocked));
            move || async move {
                gate.started.notify_one();
                let _released = blocked.lock().unwrap().recv();
            }
        }),
    );
    let (serving, _client) = serve(&lifecycle, app, Duration::ZERO).await;
    gate.started.notified().await;
    let report = end(&lifecycle, serving).await;
    drop(release);
    assert_eq!((cut(&report), report.outcome, report.exit_code()), (vec!["GET /".to_owned()], Outcome::Cut, 3));
    assert_eq!((report.connections.cut, report.requests.started), (1, 1));
    assert_adds_up(&report);
}

/// How an app that is no router behaves.
#[derive(Clone, Copy, Debug)]
enum Behaves {
    IsReadyLater,
    IsNeverReady,
    FailsToBeReady,
    PanicsBeforeItIsReady,
    PanicsWhenCalled,
}

#[derive(Clone)]
struct Moody {
    behaves: Behaves,
    /// The one that was last told to wait.
    waits: Arc<std::sync::Mutex<Option<std::task::Waker>>>,
    opened: Arc<AtomicBool>,
}

impl tower_service::Service<axum::http::Request<glidepath::Body>> for Moody {
    type Response = axum::http::Response<String>;
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        match self.behaves {
            Behaves::IsReadyLater | Behaves::IsNeverReady if !self.opened.load(Ordering::Acquire) => {
                *self.waits.lock().unwrap() = Some(cx.waker().clone());
                std::task::Poll::Pending
            }
            Behaves::FailsToBeReady => std::task::Poll::Ready(Err(std::io::Error::other("not today"))),
            Behaves::PanicsBeforeItIsReady => panic!("before it is ready, as this test wants it"),
            _ => std::task::Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: axum::http::Request<glidepath::Body>) -> Self::Future {
        assert!(!matches!(self.behaves, Behaves::PanicsWhenCalled), "when called, as this test wants it");
        std::future::ready(Ok(axum::http::Response::new("ready".into())))
    }
}

/// A service is called when it is ready, and not before (tower's contract); whatever it does instead is answered.
#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for_and_one_that_fails_is_answered_for() {
    for (behaves, status, panicked) in [
        (Behaves::IsReadyLater, 200, 0),
        (Behaves::IsNeverReady, 503, 0),
        (Behaves::FailsToBeReady, 500, 0),
        (Behaves::PanicsBeforeItIsReady, 500, 1),
        (Behaves::PanicsWhenCalled, 500, 1),
    ] {
        let app = Moody { behaves, waits: Arc::default(), opened: Arc::default() };
        let (waits, opened) = (Arc::clone(&app.waits), Arc::clone(&app.opened));
        let lifecycle = Lifecycle::without_signals();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Serving::start(lifecycle.serve(listener, app).grace(ms(500)));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await.unwrap();
        let opening = async {
            if matches!(behaves, Behaves::IsReadyLater | Behaves::IsNeverReady) {
                while waits.lock().unwrap().is_none() {
                    tokio::task::yield_now().await;
                }
            }
            // The runtime has polled all that it can.
            sleep(ms(20)).await;
            match behaves {
                Behaves::IsReadyLater => {
                    opened.store(true, Ordering::Release);
                    let waker = waits.lock().unwrap().take();
                    waker.expect("it was told to wait").wake();
                }
                _ => lifecycle.handle().begin(),
            }
        };
        let mut answer = String::new();
        let read = tokio::time::timeout(secs(10), client.read_to_string(&mut answer));
        let ((), read) = tokio::join!(opening, read);
        read.unwrap_or_else(|_| panic!("{behaves:?}: no answer in ten seconds, only {answer:?}")).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{behaves:?}: {answer}");
        let report = end(&lifecycle, serving).await;
        assert_eq!((report.requests.started, report.requests.panicked), (1, panicked), "{behaves:?}: {report}");
    }
}
