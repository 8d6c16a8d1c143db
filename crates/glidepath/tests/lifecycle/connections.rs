//! Connections over real sockets and in real time, where a setting or a handler of its own is needed.

use axum::body::Bytes;
use axum::extract::Request;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::any, routing::get};
use futures_util::StreamExt;
use glidepath::{Drain, Kind, Lifecycle, Outcome, Phase, Server};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::over_tls::{self, Client};
use super::{Serving, assert_adds_up, cut, ms, secs};

/// A server on a port of its own, and its address.
async fn serve(
    lifecycle: &Lifecycle,
    app: Router,
    set: impl FnOnce(Server) -> Server,
) -> (Serving, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Serving::start(set(lifecycle.serve(over_tls::listen(listener), app)));
    lifecycle.handle().wait_for(Phase::Serving).await;
    (serving, address)
}

async fn ask(address: std::net::SocketAddr, head: &str) -> Client {
    let mut client = over_tls::speak(TcpStream::connect(address).await.unwrap()).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: test\r\n{head}\r\n").as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    client
}

/// Asks over HTTP/2, and gives what the answer will be.
async fn ask_http2(address: std::net::SocketAddr, content_type: &str) -> h2::client::ResponseFuture {
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the client's own end")]
    tokio::spawn(connection);
    let request = axum::http::Request::post(format!("http://{address}/"));
    let request = request.header(header::CONTENT_TYPE, content_type).body(()).unwrap();
    client.ready().await.unwrap().send_request(request, true).unwrap().0
}

/// Reads until `end` has come, or the stream has ended.
async fn read_to(client: &mut Client, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    timeout(secs(10), async { while !read.ends_with(end) && client.read_buf(&mut read).await.unwrap() > 0 {} })
        .await
        .unwrap_or_else(|_| {
            let last = &read[read.len().saturating_sub(200)..];
            panic!("only {} bytes came in ten seconds, the last: {}", read.len(), String::from_utf8_lossy(last))
        });
    read
}

/// Reads the head of an answer and not a byte more.
async fn read_head(client: &mut Client) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(secs(10), client.read_u8()).await.expect("a head within ten seconds").unwrap());
    }
}

async fn ok() -> &'static str {
    "ok"
}

/// "`spread` spaces the closes with jitter over a window where it is set"; the control is the same without it.
#[tokio::test]
pub(crate) async fn idle_6_spread_spaces_the_closes_over_its_window() {
    const CLIENTS: usize = 40;
    for (spread, expected) in [(ms(0), ms(0)..ms(200)), (ms(1000), ms(600)..ms(1100))] {
        let lifecycle = Lifecycle::without_signals();
        let app = Router::new().route("/", get(ok));
        let (serving, address) = serve(&lifecycle, app, |server| server.quiet(ms(0)).spread(spread)).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = ask(address, "").await;
            read_to(&mut client, b"ok").await;
            clients.push(client);
        }
        let begun = Instant::now();
        lifecycle.handle().begin();
        let closes = clients.into_iter().map(|mut client| async move {
            assert_eq!(read_to(&mut client, b"no such thing").await, b"", "at rest");
            begun.elapsed()
        });
        let times = futures_util::future::join_all(closes).await;
        let last = times.iter().max().unwrap();
        assert!(expected.contains(last), "the last close of {spread:?} came after {last:?}: {times:?}");
        let early = times.iter().filter(|time| **time < spread / 2).count();
        assert!(spread.is_zero() || (5..CLIENTS - 5).contains(&early), "not spread evenly: {times:?}");
        assert_eq!(serving.report().await.connections.at_rest, CLIENTS as u64);
    }
}

/// "(setting: at once, or with the deadline)"
#[tokio::test]
pub(crate) async fn sse_1_event_streams_go_on_to_the_deadline_where_that_is_set() {
    for (to_deadline, expected) in [(false, ms(0)..ms(500)), (true, ms(1000)..ms(1500))] {
        let lifecycle = Lifecycle::without_signals();
        let app = Router::new().route("/", get(events));
        let set = |server: Server| server.grace(ms(1000)).event_streams_to_deadline(to_deadline);
        let (serving, address) = serve(&lifecycle, app, set).await;
        let mut client = ask(address, "").await;
        read_to(&mut client, b"data: x\n\n\r\n").await;
        let begun = Instant::now();
        lifecycle.handle().begin();
        let rest = read_to(&mut client, b"0\r\n\r\n").await;
        assert!(rest.ends_with(b"0\r\n\r\n"), "no proper end: {}", String::from_utf8_lossy(&rest));
        assert!(expected.contains(&begun.elapsed()), "{to_deadline}: ended after {:?}", begun.elapsed());
        let report = serving.report().await;
        assert_eq!(report.outcome, Outcome::Clean, "{report}");
    }
}

/// "ended at an event boundary": one that is not at the end of what was written at once. The control is an event without
/// the empty line that ends it: that is waited for, and cut.
#[tokio::test]
async fn sse_1_an_event_that_is_written_in_pieces_ends_with_its_last() {
    for (pieces, outcome) in [(["data: x\n", "\n"], Outcome::Clean), (["data: x\n", "id: 1\n"], Outcome::Cut)] {
        let lifecycle = Lifecycle::without_signals();
        let events = move || {
            let pieces = pieces.map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
            futures_util::stream::iter(pieces).chain(futures_util::stream::pending())
        };
        let answer = move || async move {
            ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(events())).into_response()
        };
        let app = Router::new().route("/", get(answer));
        let (serving, address) = serve(&lifecycle, app, |server| server.grace(ms(1000))).await;
        let mut client = ask(address, "").await;
        read_to(&mut client, format!("{}\r\n", pieces[1]).as_bytes()).await;
        lifecycle.handle().begin();
        let rest = read_to(&mut client, b"0\r\n\r\n").await;
        assert_eq!(rest.ends_with(b"0\r\n\r\n"), outcome == Outcome::Clean, "{}", String::from_utf8_lossy(&rest));
        assert_eq!(serving.report().await.outcome, outcome, "{pieces:?}");
    }
}

/// "at the drain": also one that begins to wait in the very instant in which the drain begins, when nobody is there yet to be
/// woken. On HTTP/2 it is polled by a task of its own.
#[tokio::test]
async fn sse_1_events_that_begin_to_wait_as_the_drain_begins_are_ended() {
    let lifecycle = Lifecycle::without_signals();
    let handle = lifecycle.handle();
    let events = move || {
        let handle = handle.clone();
        let events = futures_util::stream::poll_fn(move |_| {
            handle.begin();
            std::task::Poll::<Option<std::io::Result<Bytes>>>::Pending
        });
        ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(events))
    };
    let app = Router::new().route("/", any(async move || events().into_response()));
    let (serving, address) = serve(&lifecycle, app, |server| server.grace(secs(6))).await;
    let mut body = ask_http2(address, "text/plain").await.await.unwrap().into_body();
    let ended = async {
        while let Some(data) = body.data().await {
            assert_eq!(data.expect("a proper end"), "");
        }
    };
    timeout(secs(3), ended).await.expect("it ends at the drain, and not at the deadline");
    assert_eq!(serving.report().await.outcome, Outcome::Clean);
}

/// Two events; the drain begins between them.
struct TwoEvents {
    left: Vec<&'static str>,
    tells_length: bool,
    handle: glidepath::Handle,
}

impl http_body::Body for TwoEvents {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.handle.begin();
        std::task::Poll::Ready(
            self.left.pop().map(|event| Ok(http_body::Frame::data(Bytes::from_static(event.as_bytes())))),
        )
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let left = self.left.iter().map(|event| event.len() as u64).sum();
        if self.tells_length { http_body::SizeHint::with_exact(left) } else { http_body::SizeHint::default() }
    }
}

/// "with a proper end of body": where the length was told there is none before the last byte. The control is the same without
/// a length, which ends behind the event that it has sent.
#[tokio::test]
async fn sse_1_events_whose_length_was_told_are_sent_to_the_last_byte() {
    for tells_length in [true, false] {
        let lifecycle = Lifecycle::without_signals();
        let handle = lifecycle.handle();
        let answer = move || async move {
            let events = TwoEvents { left: vec!["data: y\n\n", "data: x\n\n"], tells_length, handle };
            ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::new(events)).into_response()
        };
        let app = Router::new().route("/", get(answer));
        let (serving, address) = serve(&lifecycle, app, |server| server).await;
        let answer = read_to(&mut ask(address, "").await, b"the end of the stream").await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("data: x\n\n"), "{answer}");
        assert_eq!(
            (answer.contains("content-length: 18"), answer.contains("data: y\n\n")),
            (tells_length, tells_length),
            "{answer}"
        );
        assert_eq!(serving.report().await.outcome, Outcome::Clean, "{answer}");
    }
}

async fn events() -> Response {
    let events = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(ms(20)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"data: x\n\n")), ()))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(events)).into_response()
}

const UPGRADE_RAW: &str = "connection: upgrade\r\nupgrade: raw\r\n";
const UPGRADE_WS: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// An upgrade to a protocol that nobody here knows: it greets, and says `bye` at the drain if it `listens`.
fn raw(drain: Drain, listens: bool) -> Router {
    Router::new().route(
        "/",
        get(move |request: Request| async move {
            #[expect(clippy::disallowed_methods, reason = "hyper hands the connection over only after the answer")]
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                io.write_all(b"hello").await.unwrap();
                drain.draining().await;
                if listens {
                    io.write_all(b"bye").await.unwrap();
                } else {
                    // Until it is cut.
                    let _ = io.read_u8().await;
                }
            });
            (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "raw")])
        }),
    )
}

/// "any other upgraded or CONNECT connection is told, waited for, cut at the deadline, and named in the report"
#[tokio::test]
pub(crate) async fn ws_5_an_upgraded_connection_is_told_and_waited_for() {
    let lifecycle = Lifecycle::without_signals();
    let (serving, address) = serve(&lifecycle, raw(lifecycle.drain(), true), |server| server).await;
    let mut client = ask(address, UPGRADE_RAW).await;
    read_to(&mut client, b"hello").await;
    lifecycle.handle().begin();
    assert_eq!(read_to(&mut client, b"bye").await, b"bye");
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.upgraded), (Outcome::Clean, 1), "{report}");
}

#[tokio::test]
pub(crate) async fn ws_5_an_upgraded_connection_that_stays_is_cut_at_the_deadline_and_named() {
    let lifecycle = Lifecycle::without_signals();
    let (serving, address) = serve(&lifecycle, raw(lifecycle.drain(), false), |server| server.grace(ms(500))).await;
    let mut client = ask(address, UPGRADE_RAW).await;
    read_to(&mut client, b"hello").await;
    let begun = Instant::now();
    lifecycle.handle().begin();
    let end = timeout(secs(10), client.read_u8()).await.expect("an end within ten seconds").unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{end}");
    assert!((ms(500)..ms(1000)).contains(&begun.elapsed()), "cut after {:?}", begun.elapsed());
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.cut), (Outcome::Cut, 1), "{report}");
    assert!(report.cut.iter().any(|cut| cut.kind == Kind::Upgraded && cut.name == "GET /"), "{:?}", cut(&report));
    assert_adds_up(&report);
}

/// "a handler can say goodbye itself first; one that does nothing is closed for it": one Close comes, the handler's.
#[tokio::test]
pub(crate) async fn ws_2_a_handler_says_goodbye_itself_first() {
    let lifecycle = Lifecycle::without_signals();
    let drain = lifecycle.drain();
    let upgrade = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            drain.draining().await;
            let goodbye = CloseFrame { code: 4000, reason: "see you".into() };
            socket.send(Message::Close(Some(goodbye))).await.unwrap();
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        })
    };
    let (serving, address) = serve(&lifecycle, Router::new().route("/", get(upgrade)), |server| server).await;
    let mut client = ask(address, UPGRADE_WS).await;
    read_head(&mut client).await;
    lifecycle.handle().begin();
    let close = read_to(&mut client, b"see you").await;
    assert_eq!(close, [&[0x88, 9, 0x0f, 0xa0][..], b"see you"].concat());
    // Longer than it would take us to say it.
    assert!(timeout(ms(500), client.read_u8()).await.is_err(), "one goodbye is enough");
    client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa0]).await.unwrap();
    assert_eq!(read_to(&mut client, b"no such thing").await, b"", "and nothing after it but FIN");
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.upgraded), (Outcome::Clean, 1), "{report}");
}

/// The Close is put between two frames, also when the handler is in the middle of writing one.
#[tokio::test]
pub(crate) async fn ws_2_the_close_is_put_behind_a_frame_that_is_half_written() {
    const LARGE: usize = 8 << 20;
    let lifecycle = Lifecycle::without_signals();
    let upgrade = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            let _ = socket.send(Message::Binary(vec![0x88; LARGE].into())).await;
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        })
    };
    let (serving, address) = serve(&lifecycle, Router::new().route("/", get(upgrade)), |server| server).await;
    let mut client = ask(address, UPGRADE_WS).await;
    read_head(&mut client).await;
    // The socket is full, in the middle of the frame.
    tokio::time::sleep(ms(200)).await;
    lifecycle.handle().begin();
    tokio::time::sleep(ms(300)).await;
    let frame = read_to(&mut client, &[0x88, 0x02, 0x03, 0xe9]).await;
    assert_eq!(frame.len(), 10 + LARGE + 4, "the whole frame, and then the Close");
    assert!(frame.ends_with(&[0x88, 0x02, 0x03, 0xe9]), "the Close comes last");
    assert!(frame[10..10 + LARGE].iter().all(|byte| *byte == 0x88), "and nothing inside the frame");
    client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await.unwrap();
    assert_eq!(serving.report().await.outcome, Outcome::Clean);
}

/// "at the deadline a gRPC call gets trailers UNAVAILABLE where its head was not sent"; the control is a call that is not gRPC.
#[tokio::test]
async fn h2_6_a_grpc_call_that_the_deadline_cuts_is_unavailable() {
    for (kind, status, grpc_status) in [("application/grpc+proto", 200, Some("14")), ("text/plain", 503, None)] {
        let lifecycle = Lifecycle::without_signals();
        let app = Router::new().route("/", any(std::future::pending::<&str>));
        let (serving, address) = serve(&lifecycle, app, |server| server.grace(ms(300))).await;
        let answer = ask_http2(address, kind).await;
        while lifecycle.handle().snapshot().running.is_empty() {
            tokio::task::yield_now().await;
        }
        lifecycle.handle().begin();
        let answer = timeout(secs(5), answer).await.expect("an answer at the deadline").unwrap();
        assert_eq!(answer.status(), status, "{kind}");
        let said = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        assert_eq!(said, grpc_status, "{kind}");
        assert_eq!(serving.report().await.requests.cut, 1);
    }
}

/// "limits on by default: […] head size […]; each a setting"
#[tokio::test]
pub(crate) async fn slow_3_a_head_that_is_too_large_is_answered_431() {
    for (set, size, expected) in [(None, 60 << 10, "200"), (None, 70 << 10, "431"), (Some(2 << 10), 3 << 10, "431")] {
        let lifecycle = Lifecycle::without_signals();
        let app = Router::new().route("/", get(ok));
        let limit = |server: Server| if let Some(bytes) = set { server.head_size(bytes) } else { server };
        let (serving, address) = serve(&lifecycle, app, limit).await;
        let mut client = ask(address, &format!("x-large: {}\r\n", "x".repeat(size))).await;
        let end: &[u8] = if expected == "200" { b"ok" } else { b"\r\n\r\n" };
        let answer = read_to(&mut client, end).await;
        assert!(
            answer.starts_with(format!("HTTP/1.1 {expected}").as_bytes()),
            "{size}: {}",
            String::from_utf8_lossy(&answer)
        );
        lifecycle.handle().begin();
        drop(client);
        serving.report().await;
    }
}

#[tokio::test]
pub(crate) async fn slow_3_a_connection_at_rest_ends_at_its_idle_timeout() {
    let lifecycle = Lifecycle::without_signals();
    let app = Router::new().route("/", get(ok));
    let (serving, address) = serve(&lifecycle, app, |server| server.idle_timeout(ms(1500))).await;
    let mut client = ask(address, "").await;
    read_to(&mut client, b"ok").await;
    let begun = Instant::now();
    assert_eq!(read_to(&mut client, b"no such thing").await, b"");
    assert!((ms(1400)..ms(3500)).contains(&begun.elapsed()), "closed after {:?}", begun.elapsed());
    lifecycle.handle().begin();
    serving.report().await;
}

/// Waits until so many connections are at rest, with hyper's state given back.
async fn rest(lifecycle: &Lifecycle, count: usize) {
    let at_rest = || lifecycle.handle().snapshot().connections.contains(&("at rest", count));
    let all_rest = async {
        while !at_rest() {
            sleep(ms(20)).await;
        }
    };
    let rested = timeout(secs(10), all_rest).await;
    assert!(rested.is_ok(), "not {count} at rest: {:?}", lifecycle.handle().snapshot().connections);
}

/// A client whose connection is at rest, with hyper's state given back.
async fn client_at_rest(lifecycle: &Lifecycle, address: std::net::SocketAddr) -> Client {
    let mut client = ask(address, "").await;
    read_to(&mut client, b"ok").await;
    rest(lifecycle, 1).await;
    client
}

/// "what comes then is served as before": however it comes, and a second time.
#[tokio::test]
pub(crate) async fn idle_8_what_comes_after_a_long_rest_is_answered() {
    const HEAD: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    let lifecycle = Lifecycle::without_signals();
    let app = Router::new().route("/", get(ok).post(|body: String| async move { format!("{body}ok") }));
    let (serving, address) = serve(&lifecycle, app, |server| server).await;
    let mut client = client_at_rest(&lifecycle, address).await;
    let body = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n";
    let pipelined = HEAD.repeat(2);
    // Each with a pause between its pieces, longer than that before a rest, and the answers that it brings.
    let kinds: [(&str, &[&str], usize); 6] = [
        ("whole", &[HEAD], 1),
        ("half a head", &[&HEAD[..20], &HEAD[20..]], 1),
        ("one byte", &["G", &HEAD[1..]], 1),
        ("an empty line", &["\r\n", HEAD], 1),
        ("a body later", &[body, "it"], 1),
        ("pipelined", &[&pipelined], 2),
    ];
    for (kind, pieces, answers) in kinds {
        for (i, piece) in pieces.iter().enumerate() {
            if i > 0 {
                sleep(ms(1800)).await;
            }
            client.write_all(piece.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
        }
        let mut read = String::new();
        while read.matches("HTTP/1.1 200").count() < answers || !read.ends_with("ok") {
            let more = read_to(&mut client, b"ok").await;
            assert!(!more.is_empty(), "{kind}: closed after {read:?}");
            read += &String::from_utf8(more).unwrap();
        }
        assert_eq!(read.matches("HTTP/1.1 200").count(), answers, "{kind}: {read}");
        rest(&lifecycle, 1).await;
    }
    lifecycle.handle().begin();
    let report = serving.report().await;
    assert_eq!((report.requests.answered, report.connections.at_rest), (8, 1), "{report}");
    assert_adds_up(&report);
}

/// An empty line before a request line is none (RFC 9112, section 2.2), and begins no head that could come too late.
#[tokio::test]
async fn idle_8_an_empty_line_at_rest_begins_no_head() {
    let lifecycle = Lifecycle::without_signals();
    let app = Router::new().route("/", get(ok));
    let (serving, address) = serve(&lifecycle, app, |server| server.head_timeout(ms(200))).await;
    let mut client = client_at_rest(&lifecycle, address).await;
    client.write_all(b"\r\n").await.unwrap();
    client.flush().await.unwrap();
    // Three looks of the sweep.
    sleep(ms(1600)).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    let answer = String::from_utf8(read_to(&mut client, b"ok").await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    lifecycle.handle().begin();
    assert_eq!(serving.report().await.requests.answered, 2);
}

/// The same for a connection's end: FIN and reset are seen, and counted as what they are.
#[tokio::test]
async fn idle_8_a_client_that_goes_in_a_long_rest_is_seen() {
    for (reset, expected) in [(false, (1, 0)), (true, (0, 1))] {
        let lifecycle = Lifecycle::without_signals();
        let (serving, address) = serve(&lifecycle, Router::new().route("/", get(ok)), |server| server).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        timeout(secs(10), async {
            while !answer.ends_with(b"ok") && client.read_buf(&mut answer).await.unwrap() > 0 {}
        })
        .await
        .expect("an answer");
        rest(&lifecycle, 1).await;
        if reset {
            socket2::SockRef::from(&client).set_linger(Some(secs(0))).unwrap();
        }
        drop(client);
        let gone = async {
            while !lifecycle.handle().snapshot().connections.is_empty() {
                sleep(ms(10)).await;
            }
        };
        timeout(secs(10), gone).await.expect("its end is seen while serving");
        lifecycle.handle().begin();
        let connections = serving.report().await.connections;
        assert_eq!((connections.finished, connections.failed), expected, "reset: {reset}");
    }
}

/// The same for an upgrade, and for a signal right behind it.
#[tokio::test]
pub(crate) async fn idle_8_an_upgrade_after_a_long_rest_is_served() {
    let lifecycle = Lifecycle::without_signals();
    let app = raw(lifecycle.drain(), true).route("/ok", get(ok));
    let (serving, address) = serve(&lifecycle, app, |server| server).await;
    let mut client = over_tls::speak(TcpStream::connect(address).await.unwrap()).await;
    client.write_all(b"GET /ok HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    read_to(&mut client, b"ok").await;
    rest(&lifecycle, 1).await;
    client.write_all(format!("GET / HTTP/1.1\r\nhost: test\r\n{UPGRADE_RAW}\r\n").as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    read_to(&mut client, b"hello").await;
    lifecycle.handle().begin();
    assert_eq!(read_to(&mut client, b"no such thing").await, b"bye");
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.upgraded), (Outcome::Clean, 1), "{report}");
}

/// The same in the drain: a head that is half sent after a long rest is answered, and one that a request follows in the
/// same instant as the signal is too.
#[tokio::test]
pub(crate) async fn idle_8_what_crosses_the_signal_after_a_long_rest_is_answered() {
    for half in [false, true] {
        let lifecycle = Lifecycle::without_signals();
        let (serving, address) = serve(&lifecycle, Router::new().route("/", get(ok)), |server| server).await;
        let mut client = client_at_rest(&lifecycle, address).await;
        let head = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";
        let (first, last) = head.split_at(if half { 10 } else { head.len() });
        client.write_all(first).await.unwrap();
        client.flush().await.unwrap();
        lifecycle.handle().begin();
        // Longer than the quiet window.
        sleep(ms(700)).await;
        if half {
            client.write_all(last).await.unwrap();
            client.flush().await.unwrap();
        }
        let answer = String::from_utf8(read_to(&mut client, b"no such thing").await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "half: {half}: {answer:?}");
        assert_adds_up(&serving.report().await);
    }
}
