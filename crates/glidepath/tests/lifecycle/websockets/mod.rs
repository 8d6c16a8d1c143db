//! Upgraded connections: WebSockets of several libraries, and what nobody knows.

mod client;
mod libraries;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::get;
use fastwebsockets::{OpCode, Payload, Role};
use glidepath::{Drain, Kind, Listener, Outcome};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use self::client::{Client, Frame, Over, ask};
use self::libraries::{App, BINARY, CLOSE_LIKE, Handler, Library, OWN_GOODBYE, TEXT, accept, spawn};
use super::*;

/// A server, and what its clients speak to it.
struct Served {
    lifecycle: Lifecycle,
    serving: Serving,
    address: SocketAddr,
    ended: Dropped,
}

async fn serve(library: Library, handler: Handler, over: &Over) -> Served {
    let ended = Dropped::default();
    let app = |drain| App { library, handler, drain, ended: ended.clone() };
    Served { ended: ended.clone(), ..serve_app(app, over, |server| server).await }
}

async fn serve_app<A: glidepath::App>(
    app: impl FnOnce(Drain) -> A,
    over: &Over,
    set: impl FnOnce(Server) -> Server,
) -> Served {
    let lifecycle = Lifecycle::without_signals();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener: Listener = match over {
        Over::Http1 | Over::Http2 => listener.into(),
        Over::Tls(server, _) => Listener::tls(listener, Arc::clone(server)),
    };
    let serving = Serving::start(set(lifecycle.serve(listener, app(lifecycle.drain()))));
    lifecycle.handle().wait_for(Phase::Serving).await;
    Served { lifecycle, serving, address, ended: Dropped::default() }
}

/// Gives every upgraded connection to `handler` as it is.
fn bare<F>(handler: impl Fn(TokioIo<Upgraded>) -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = ()> + Send + 'static,
{
    let upgrade = move |request: Request| async move {
        let answer = accept(&request);
        spawn(
            async move { handler(TokioIo::new(hyper::upgrade::on(request).await.expect("the answer got out"))).await },
        );
        answer
    };
    Router::new().route("/hello", get(|| async { "hello" })).fallback(upgrade)
}

impl Served {
    /// Waits for the report, which has `clients` WebSockets that were said goodbye to, and for the handler.
    async fn all_said_goodbye(self, over: &Over, case: &str) {
        let report = self.serving.report().await;
        assert_eq!(report.outcome, Outcome::Clean, "{case}: {report}");
        match over {
            Over::Http2 => {
                assert_eq!((report.requests.answered, report.connections.finished), (2, 1), "{case}: {report}")
            }
            Over::Http1 | Over::Tls(..) => assert_eq!(report.connections.upgraded, 1, "{case}: {report}"),
        }
        assert_adds_up(&report);
    }

    /// The handler is not left behind.
    async fn handler_ends(&self, case: &str) {
        let begun = Instant::now();
        while !self.ended.is_true() {
            assert!(begun.elapsed() < secs(5), "{case}: its handler is still there");
            sleep(ms(5)).await;
        }
    }
}

/// A text that compresses well, in each of the three forms of a length.
const TEXTS: [usize; 3] = [100, 300, 70_000];

/// "one that does nothing is closed for it, with any WebSocket library behind hyper's upgrade": after traffic in both
/// directions, compressed where the library does that. The control is the silence before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_2_with_any_library_a_handler_that_does_nothing_is_said_goodbye_for() {
    for (over, library) in each_library() {
        let case = format!("{library:?} over {}", over.name());
        let served = serve(library, Handler::Echoes, &over).await;
        let mut client = Client::open(served.address, &over).await;
        assert_eq!(client.deflates, library == Library::Yawc, "{case}");
        for size in TEXTS {
            let text = vec![b'x'; size];
            client.send(0x80 | TEXT, &text).await;
            let echo = client.next().await.expect("an echo");
            assert_eq!(echo.is_compressed(), client.deflates, "{case}");
            assert!(echo.is_compressed() || echo == Frame { first: 0x80 | TEXT, payload: text }, "{case}");
        }
        assert!(client.is_silent_for(ms(250)).await, "{case}: the control");
        let begun = Instant::now();
        served.lifecycle.handle().begin();
        let close = client.next().await.expect("a Close");
        assert_eq!(close.close_code(), 1001, "{case}");
        assert!(begun.elapsed() < ms(500), "{case}: told only after {:?}", begun.elapsed());
        assert!(client.is_silent_for(ms(250)).await, "{case}: the answer is not awaited");
        client.answer(&close).await;
        assert_eq!(client.next().await, None, "{case}: nothing behind the Close");
        served.handler_ends(&case).await;
        served.all_said_goodbye(&over, &case).await;
    }
}

/// The same for a handler that does not even read: the peer's answer is read for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_2_with_any_library_a_handler_that_sleeps_is_said_goodbye_for() {
    for (over, library) in each_library() {
        let case = format!("{library:?} over {}", over.name());
        let served = serve(library, Handler::Sleeps, &over).await;
        let mut client = Client::open(served.address, &over).await;
        assert!(client.is_silent_for(ms(100)).await, "{case}: the control");
        served.lifecycle.handle().begin();
        let close = client.next().await.expect("a Close");
        assert_eq!(close.close_code(), 1001, "{case}");
        client.answer(&close).await;
        let begun = Instant::now();
        assert_eq!(client.next().await, None, "{case}: nothing behind the Close");
        assert!(begun.elapsed() < ms(1500), "{case}: the answer was read after {:?}", begun.elapsed());
        served.all_said_goodbye(&over, &case).await;
    }
}

/// The same for a handler that writes without end: whole frames, then the Close, then nothing. The handler is told by an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_2_with_any_library_a_flood_ends_with_a_close() {
    for (over, library) in each_library() {
        let case = format!("{library:?} over {}", over.name());
        let served = serve(library, Handler::Floods, &over).await;
        let mut client = Client::open(served.address, &over).await;
        for _ in 0..1000 {
            assert_flood(&client.next().await.expect("the control: it goes on"), client.deflates, &case);
        }
        served.lifecycle.handle().begin();
        let (flood, close) = client.up_to_close().await;
        flood.iter().for_each(|frame| assert_flood(frame, client.deflates, &case));
        assert_eq!(close.close_code(), 1001, "{case}");
        client.answer(&close).await;
        assert_eq!(client.next().await, None, "{case}: nothing behind the Close");
        served.handler_ends(&case).await;
        served.all_said_goodbye(&over, &case).await;
    }
}

#[track_caller]
fn assert_flood(frame: &Frame, deflates: bool, case: &str) {
    assert_eq!((frame.first & !0x40, frame.is_compressed()), (0x80 | BINARY, deflates), "{case}");
    assert!(deflates || frame.payload == [CLOSE_LIKE; 300], "{case}: {frame:?}");
}

/// "a handler can say goodbye itself first": one Close comes, the handler's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_2_with_any_library_a_handler_says_goodbye_itself() {
    for (over, library) in each_library() {
        let case = format!("{library:?} over {}", over.name());
        let served = serve(library, Handler::SaysGoodbye, &over).await;
        let mut client = Client::open(served.address, &over).await;
        assert!(client.is_silent_for(ms(100)).await, "{case}: the control");
        served.lifecycle.handle().begin();
        let close = client.next().await.expect("a Close");
        assert_eq!(close.close_code(), OWN_GOODBYE, "{case}");
        assert!(client.is_silent_for(ms(1000)).await, "{case}: one goodbye is enough");
        client.answer(&close).await;
        assert_eq!(client.next().await, None, "{case}: nothing behind the Close");
        served.handler_ends(&case).await;
        served.all_said_goodbye(&over, &case).await;
    }
}

fn each_library() -> impl Iterator<Item = (Over, Library)> {
    Over::all().into_iter().flat_map(|over| Library::ALL.map(|library| (over.clone(), library)))
}

/// "at a frame boundary": where a message has been sent in part, that is between two of its fragments (RFC 6455, section
/// 5.4), also behind a control frame. Its last fragment, which comes too late, is not sent.
#[tokio::test]
async fn ws_1_the_close_comes_between_the_fragments_of_a_message() {
    for over in Over::all() {
        let more = Arc::new(Notify::new());
        let handler = {
            let more = Arc::clone(&more);
            move |io| fragments(io, Arc::clone(&more))
        };
        let served = serve_app(|_| bare(handler), &over, |server| server).await;
        let mut client = Client::open(served.address, &over).await;
        for (first, payload) in [(TEXT, "one "), (0x80 | 0x9, "ping"), (0, "message")] {
            assert_eq!(client.next().await, Some(Frame { first, payload: payload.into() }), "{}", over.name());
        }
        served.lifecycle.handle().begin();
        let close = client.next().await.expect("a Close");
        assert_eq!(close.close_code(), 1001, "{}", over.name());
        more.notify_one();
        assert!(client.is_silent_for(ms(200)).await, "{}: something behind the Close", over.name());
        client.answer(&close).await;
        assert_eq!(client.next().await, None, "{}", over.name());
        served.all_said_goodbye(&over, over.name()).await;
    }
}

async fn fragments(io: TokioIo<Upgraded>, more: Arc<Notify>) {
    let mut socket = fastwebsockets::WebSocket::after_handshake(io, Role::Server);
    let frame =
        |fin, kind, text: &'static str| fastwebsockets::Frame::new(fin, kind, None, Payload::Borrowed(text.as_bytes()));
    for (fin, kind, text) in
        [(false, OpCode::Text, "one "), (true, OpCode::Ping, "ping"), (false, OpCode::Continuation, "message")]
    {
        socket.write_frame(frame(fin, kind, text)).await.unwrap();
    }
    more.notified().await;
    socket.write_frame(frame(true, OpCode::Continuation, ", and its end")).await.expect("it is thrown away");
    while socket.read_frame().await.is_ok() {}
}

/// The Close finds its place also when no write of the handler ends with a frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_2_a_handler_whose_writes_never_end_with_a_frame_is_said_goodbye_for() {
    for over in Over::all() {
        let served = serve_app(|_| bare(askew), &over, |server| server).await;
        let mut client = Client::open(served.address, &over).await;
        for _ in 0..1000 {
            client.next().await.expect("the control: it goes on");
        }
        served.lifecycle.handle().begin();
        let (flood, close) = client.up_to_close().await;
        assert_eq!(close.close_code(), 1001, "{}", over.name());
        let frame = Frame { first: 0x80 | BINARY, payload: vec![CLOSE_LIKE; 8] };
        assert!(flood.iter().all(|other| *other == frame), "{}: the frames are whole", over.name());
        client.answer(&close).await;
        assert_eq!(client.next().await, None, "{}", over.name());
        served.all_said_goodbye(&over, over.name()).await;
    }
}

async fn askew(mut io: TokioIo<Upgraded>) {
    let mut frame = [CLOSE_LIKE; 10];
    (frame[0], frame[1]) = (0x80 | BINARY, 8);
    let (begin, end) = frame.split_at(5);
    let shifted = [end, begin].concat();
    let mut written = io.write_all(begin).await;
    while written.is_ok() {
        written = io.write_all(&shifted).await;
    }
}

/// "(setting)", also where it is shorter than the handler's time to read.
#[tokio::test]
async fn ws_3_the_peers_time_to_answer_can_be_set() {
    for over in Over::all() {
        for (set, expected) in [(ms(200), ms(150)..ms(450)), (ms(1000), ms(950)..ms(1500))] {
            let app =
                |drain| App { library: Library::Axum, handler: Handler::Echoes, drain, ended: Dropped::default() };
            let served = serve_app(app, &over, |server| server.goodbye_within(set)).await;
            let mut client = Client::open(served.address, &over).await;
            let begun = Instant::now();
            served.lifecycle.handle().begin();
            assert_eq!(client.next().await.expect("a Close").close_code(), 1001);
            assert_eq!(client.next().await, None);
            assert!(expected.contains(&begun.elapsed()), "{}: {set:?} took {:?}", over.name(), begun.elapsed());
            served.all_said_goodbye(&over, over.name()).await;
        }
    }
}

/// "a peer that does not answer the Close is cut": also one that reads nothing, so that there is no room for the Close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ws_3_a_peer_that_reads_nothing_is_cut_too() {
    for over in Over::all() {
        let ended = Dropped::default();
        let app = |drain| App { library: Library::Axum, handler: Handler::Floods, drain, ended: ended.clone() };
        let served = serve_app(app, &over, |server| server.goodbye_within(ms(500))).await;
        let served = Served { ended: ended.clone(), ..served };
        let client = Client::open(served.address, &over).await;
        // Until the buffers on the way are full.
        sleep(ms(1000)).await;
        served.lifecycle.handle().begin();
        served.handler_ends(over.name()).await;
        let report = served.serving.report().await;
        assert_eq!(report.outcome, Outcome::Clean, "{}: {report}", over.name());
        // Longer than the setting: then the FIN, or the GOAWAY, is waited for.
        assert!((ms(450)..ms(4000)).contains(&report.took), "{}: {report}", over.name());
        assert_adds_up(&report);
        drop(client);
    }
}

/// "grace 0 ends at once and still says […] 1001"
#[tokio::test]
async fn end_7_at_grace_0_a_websocket_is_still_told_1001() {
    for over in Over::all() {
        let app = |drain| App { library: Library::Axum, handler: Handler::Echoes, drain, ended: Dropped::default() };
        let served = serve_app(app, &over, |server| server.grace(ms(0))).await;
        let mut client = Client::open(served.address, &over).await;
        assert!(client.is_silent_for(ms(100)).await, "{}: the control", over.name());
        served.lifecycle.handle().begin();
        let close = client.next().await.expect("a Close");
        assert_eq!(close.close_code(), 1001, "{}", over.name());
        let report = served.serving.report().await;
        assert!(report.took < ms(500), "{}: {report}", over.name());
    }
}

/// What is known of CONNECT over HTTP/2, with and without a protocol.
const TUNNELS: [Option<&str>; 2] = [None, Some("connect-udp")];

/// "other CONNECT streams are told, waited for": each to the end that its handler makes, however long that takes.
#[tokio::test]
async fn ws_7_a_tunnel_over_http2_is_told_and_waited_for() {
    for protocol in TUNNELS {
        let app = |drain: Drain| {
            bare(move |mut io| {
                let drain = drain.clone();
                async move {
                    io.write_all(b"hello").await.unwrap();
                    drain.draining().await;
                    sleep(ms(1500)).await;
                    io.write_all(b"bye").await.unwrap();
                }
            })
        };
        let served = serve_app(app, &Over::Http2, |server| server).await;
        let mut tunnel = tunnel(&served, protocol).await;
        let mut hello = [0; 5];
        tunnel.read_exact(&mut hello).await.unwrap();
        assert!(timeout(ms(200), tunnel.read_u8()).await.is_err(), "{protocol:?}: the control");
        served.lifecycle.handle().begin();
        let mut rest = String::new();
        timeout(secs(10), tunnel.read_to_string(&mut rest)).await.expect("an end").expect("an orderly one");
        assert_eq!(rest, "bye", "{protocol:?}");
        let report = served.serving.report().await;
        assert_eq!((report.outcome, report.requests.answered), (Outcome::Clean, 2), "{report}");
        assert!(report.took >= ms(1500), "{report}");
    }
}

/// "cut at the deadline and named in the report", and seen by the peer to be cut.
#[tokio::test]
async fn ws_7_a_tunnel_over_http2_that_stays_is_cut_at_the_deadline_and_named() {
    for protocol in TUNNELS {
        let app = |_| {
            bare(|mut io| async move {
                io.write_all(b"hello").await.unwrap();
                // Until it is cut.
                let _ = io.read_u8().await;
            })
        };
        let served = serve_app(app, &Over::Http2, |server| server.grace(ms(500))).await;
        let mut tunnel = tunnel(&served, protocol).await;
        let mut hello = [0; 5];
        tunnel.read_exact(&mut hello).await.unwrap();
        let running = served.lifecycle.handle().snapshot().running;
        assert!(running.iter().any(|running| running.kind == Kind::Upgraded), "{running:?}");
        let begun = Instant::now();
        served.lifecycle.handle().begin();
        let end = timeout(secs(10), tunnel.read_u8()).await.expect("an end");
        assert!((ms(500)..ms(1000)).contains(&begun.elapsed()), "{protocol:?}: cut after {:?}", begun.elapsed());
        let end = end.expect_err("cut");
        assert_ne!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{protocol:?}: it looks whole");
        let report = served.serving.report().await;
        assert_eq!((report.outcome, report.connections.cut), (Outcome::Cut, 1), "{report}");
        assert!(
            report.cut.iter().any(|cut| cut.kind == Kind::Upgraded && cut.name.starts_with("CONNECT ")),
            "{:?}",
            cut(&report)
        );
        assert_adds_up(&report);
    }
}

async fn tunnel(served: &Served, protocol: Option<&'static str>) -> TokioIo<Upgraded> {
    let answer = ask(TcpStream::connect(served.address).await.unwrap(), protocol).await.expect("it is taken");
    assert_eq!(answer.status(), StatusCode::OK);
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}

/// A handler that holds on to the upgrade of a request which was refused is told that there is none.
#[tokio::test]
async fn ws_7_there_is_no_upgrade_where_the_answer_refuses_it() {
    for (status, upgraded) in [(StatusCode::FORBIDDEN, false), (StatusCode::OK, true)] {
        let (told, outcome) = oneshot::channel();
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        let refuse = move |request: Request| async move {
            spawn(async move {
                let upgrade = hyper::upgrade::on(request).await;
                told.lock().unwrap().take().unwrap().send(upgrade.is_ok()).unwrap();
            });
            status
        };
        let app = Router::new().route("/hello", get(|| async { "hello" })).fallback(refuse);
        let served = serve_app(|_| app, &Over::Http2, |server| server).await;
        let socket = TcpStream::connect(served.address).await.unwrap();
        let answer = ask(socket, Some("websocket")).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(timeout(secs(5), outcome).await.expect("it is told").unwrap(), upgraded, "{status}");
        served.lifecycle.handle().begin();
        assert_eq!(served.serving.report().await.outcome, Outcome::Clean);
    }
}

/// Where it is set, HTTP/2 clients are not told of WebSockets; the control is that they are.
#[tokio::test]
async fn ws_7_whether_clients_are_told_of_websockets_can_be_set() {
    for tell in [true, false] {
        let served = serve_app(|_| bare(askew), &Over::Http2, |server| server.websockets_over_http2(tell)).await;
        let answer = ask(TcpStream::connect(served.address).await.unwrap(), Some("websocket")).await;
        assert_eq!(answer.is_ok(), tell, "{answer:?}");
        drop(answer);
        served.lifecycle.handle().begin();
        served.serving.report().await;
    }
}
