//! Servers that know nothing of glidepath's goodbye, with the WebSocket libraries that are about: a bare tower service, and
//! hyper's upgrade.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::task::{Context, Poll};

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{Request, Response, StatusCode, Version, header};
use fastwebsockets::{Frame, OpCode, Payload};
use futures_util::{FutureExt, SinkExt, StreamExt};
use glidepath::{Body, Drain};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, handshake::derive_accept_key, protocol::Role};
use tower_service::Service;

use crate::Dropped;

pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Axum,
    Tungstenite,
    Fast,
    /// With permessage-deflate (RFC 7692).
    Yawc,
}

impl Library {
    pub(super) const ALL: [Self; 4] = [Self::Axum, Self::Tungstenite, Self::Fast, Self::Yawc];
}

/// What a handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    /// Sends back what comes.
    Echoes,
    /// Neither reads nor writes.
    Sleeps,
    /// Writes without end, and does not read.
    Floods,
    /// Closes with a code of its own at the drain, and reads on to the end.
    SaysGoodbye,
}

/// The code of a handler's own goodbye.
pub(super) const OWN_GOODBYE: u16 = 4000;

/// A server whose every path is a WebSocket.
#[derive(Clone)]
pub(super) struct App {
    pub(super) library: Library,
    pub(super) handler: Handler,
    pub(super) drain: Drain,
    /// True when a handler has come to its end.
    pub(super) ended: Dropped,
}

impl Service<Request<Body>> for App {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().path() == "/hello" {
            return ready(Ok(Response::new("hello".into())));
        }
        let app = self.clone();
        ready(Ok(match self.library {
            Library::Axum => {
                let (mut parts, _) = request.into_parts();
                let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).now_or_never();
                upgrade.expect("it waits for nothing").expect("a WebSocket").on_upgrade(|socket| app.run(socket))
            }
            Library::Tungstenite => {
                let answer = accept(&request);
                spawn(async move {
                    let io = TokioIo::new(hyper::upgrade::on(request).await.expect("the answer got out"));
                    app.run(WebSocketStream::from_raw_socket(io, Role::Server, None).await).await;
                });
                answer
            }
            Library::Fast => {
                let answer = accept(&request);
                spawn(async move {
                    let io = TokioIo::new(hyper::upgrade::on(request).await.expect("the answer got out"));
                    app.run(fastwebsockets::WebSocket::after_handshake(io, fastwebsockets::Role::Server)).await;
                });
                answer
            }
            Library::Yawc => {
                let options = yawc::Options::default().with_low_latency_compression();
                let upgrade = yawc::WebSocket::upgrade_with_options(&mut request, options);
                let (answer, socket) = upgrade.expect("a WebSocket");
                spawn(async move { app.run(socket.await.expect("the answer got out")).await });
                answer.map(axum::body::Body::new)
            }
        }))
    }
}

pub(super) fn spawn(handler: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "as the users of these libraries do")]
    tokio::spawn(handler);
}

/// The answer by which a bare server agrees (RFC 6455, section 4.2.2; RFC 8441, section 5).
pub(super) fn accept<B>(request: &Request<B>) -> Response<axum::body::Body> {
    let mut answer = Response::builder();
    if request.version() == Version::HTTP_2 {
        answer = answer.status(StatusCode::OK);
    } else {
        let key = derive_accept_key(request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes());
        answer = answer.status(StatusCode::SWITCHING_PROTOCOLS).header(header::CONNECTION, "upgrade");
        answer = answer.header(header::UPGRADE, "websocket").header(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    answer.body(axum::body::Body::empty()).expect("valid headers")
}

impl App {
    async fn run(self, mut socket: impl Socket) {
        let _ended = self.ended.guard();
        match self.handler {
            Handler::Echoes => {
                while let Some((kind, payload)) = socket.next().await {
                    if !socket.send(kind, payload).await {
                        return;
                    }
                }
            }
            Handler::Sleeps => pending().await,
            Handler::Floods => while socket.send(BINARY, vec![CLOSE_LIKE; 300]).await {},
            Handler::SaysGoodbye => {
                self.drain.draining().await;
                socket.close(OWN_GOODBYE).await;
                while socket.next().await.is_some() {}
            }
        }
    }
}

/// What would begin a Close frame, were it taken for the head of one.
pub(super) const CLOSE_LIKE: u8 = 0x80 | CLOSE;

/// What the libraries have in common.
trait Socket: Send {
    /// The next message with its opcode; `None` at the end, by a Close or without one.
    fn next(&mut self) -> impl Future<Output = Option<(u8, Vec<u8>)>> + Send;
    /// False when it can't be sent.
    fn send(&mut self, kind: u8, payload: Vec<u8>) -> impl Future<Output = bool> + Send;
    fn close(&mut self, code: u16) -> impl Future<Output = ()> + Send;
}

impl Socket for WebSocket {
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.recv().await?.ok()? {
                Message::Text(text) => return Some((TEXT, text.as_bytes().to_vec())),
                Message::Binary(bytes) => return Some((BINARY, bytes.to_vec())),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, payload: Vec<u8>) -> bool {
        let text = |payload| String::from_utf8(payload).expect("text");
        let message = if kind == TEXT { Message::Text(text(payload).into()) } else { Message::Binary(payload.into()) };
        WebSocket::send(self, message).await.is_ok()
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code, reason: "".into() };
        WebSocket::send(self, Message::Close(Some(frame))).await.expect("the connection is open");
    }
}

impl Socket for WebSocketStream<TokioIo<Upgraded>> {
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match StreamExt::next(self).await?.ok()? {
                tungstenite::Message::Text(text) => return Some((TEXT, text.as_bytes().to_vec())),
                tungstenite::Message::Binary(bytes) => return Some((BINARY, bytes.to_vec())),
                _control => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, payload: Vec<u8>) -> bool {
        let text = |payload| String::from_utf8(payload).expect("text");
        let message = if kind == TEXT {
            tungstenite::Message::text(text(payload))
        } else {
            tungstenite::Message::binary(payload)
        };
        SinkExt::send(self, message).await.is_ok()
    }

    async fn close(&mut self, code: u16) {
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
        WebSocketStream::close(self, Some(frame)).await.expect("the connection is open");
    }
}

impl Socket for fastwebsockets::WebSocket<TokioIo<Upgraded>> {
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let frame = self.read_frame().await.ok()?;
            match frame.opcode {
                OpCode::Text => return Some((TEXT, frame.payload.to_vec())),
                OpCode::Binary => return Some((BINARY, frame.payload.to_vec())),
                OpCode::Close => return None,
                _control => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, payload: Vec<u8>) -> bool {
        let kind = if kind == TEXT { OpCode::Text } else { OpCode::Binary };
        self.write_frame(Frame::new(true, kind, None, Payload::Owned(payload))).await.is_ok()
    }

    async fn close(&mut self, code: u16) {
        self.write_frame(Frame::close(code, b"")).await.expect("the connection is open");
    }
}

impl Socket for yawc::WebSocket<yawc::HttpStream> {
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let frame = StreamExt::next(self).await?;
            match frame.opcode() {
                yawc::OpCode::Text => return Some((TEXT, frame.payload().to_vec())),
                yawc::OpCode::Binary => return Some((BINARY, frame.payload().to_vec())),
                yawc::OpCode::Close => return None,
                _control => {}
            }
        }
    }

    async fn send(&mut self, kind: u8, payload: Vec<u8>) -> bool {
        let frame = if kind == TEXT { yawc::Frame::text(payload) } else { yawc::Frame::binary(payload) };
        SinkExt::send(self, frame).await.is_ok()
    }

    async fn close(&mut self, code: u16) {
        SinkExt::send(self, yawc::Frame::close(code.into(), "")).await.expect("the connection is open");
    }
}
