//! A WebSocket client that reads frame by frame and answers only what a test tells it to, over whatever a server speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::libraries::{CLOSE, spawn};
use crate::{over_tls, secs};

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a WebSocket runs over.
#[derive(Clone)]
pub(super) enum Over {
    Http1,
    Http2,
    Tls(Arc<ServerConfig>, Arc<ClientConfig>),
}

impl Over {
    pub(super) fn all() -> [Self; 3] {
        let (server, client) = over_tls::configs();
        [Self::Http1, Self::Http2, Self::Tls(Arc::new(server), Arc::new(client))]
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tls(..) => "TLS",
        }
    }
}

pub(super) struct Client {
    io: Box<dyn Io>,
    /// The server said that it compresses.
    pub(super) deflates: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// FIN, the reserved bits, and the opcode.
    pub(super) first: u8,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn is_close(&self) -> bool {
        self.first & 0x0f == CLOSE
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.first & 0x40 != 0
    }

    #[track_caller]
    pub(super) fn close_code(&self) -> u16 {
        assert_eq!(self.first, 0x80 | CLOSE, "no Close frame, but {self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

const HEAD: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    sec-websocket-extensions: permessage-deflate\r\n\r\n";

impl Client {
    pub(super) async fn open(server: SocketAddr, over: &Over) -> Self {
        let socket = TcpStream::connect(server).await.unwrap();
        match over {
            Over::Http1 => Self::upgrade(Box::new(socket)).await,
            Over::Http2 => Self::connect(socket).await,
            Over::Tls(_, config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let tls = TlsConnector::from(Arc::clone(config)).connect(name, socket).await.unwrap();
                Self::upgrade(Box::new(tls)).await
            }
        }
    }

    async fn upgrade(mut io: Box<dyn Io>) -> Self {
        io.write_all(HEAD.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(secs(10), io.read_u8()).await.expect("a head within ten seconds").unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self { io, deflates: head.to_ascii_lowercase().contains("permessage-deflate") }
    }

    /// RFC 8441.
    async fn connect(socket: TcpStream) -> Self {
        let answer = ask(socket, Some("websocket")).await.expect("WebSockets are taken");
        assert_eq!(answer.status(), StatusCode::OK);
        let deflates = answer.headers().contains_key("sec-websocket-extensions");
        Self { io: Box::new(TokioIo::new(hyper::upgrade::on(answer).await.unwrap())), deflates }
    }

    /// Sends one whole frame, masked as a client's are.
    pub(super) async fn send(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first];
        match payload.len() {
            0..126 => frame.push(0x80 | payload.len() as u8),
            126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((payload.len() as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        timeout(secs(10), self.io.write_all(&frame)).await.expect("it is read within ten seconds").unwrap();
        self.io.flush().await.unwrap();
    }

    /// Says Close as the answer to one.
    pub(super) async fn answer(&mut self, close: &Frame) {
        self.send(0x80 | CLOSE, &close.payload).await;
    }

    /// The next frame; `None` at the end. An end inside a frame, and a masked one, fail the test.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        timeout(secs(10), self.read_frame()).await.expect("a frame, or the end, within ten seconds")
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut first = [0];
        if self.io.read(&mut first).await.expect("no reset") == 0 {
            return None;
        }
        let length = match self.io.read_u8().await.expect("a whole head") {
            126 => u64::from(self.io.read_u16().await.expect("a whole head")),
            127 => self.io.read_u64().await.expect("a whole head"),
            length @ 0..126 => u64::from(length),
            masked => panic!("a server's frame does not begin with {first:?}, {masked:#x}"),
        };
        assert!(length <= 1 << 20, "not the length of a frame: {length}");
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await.expect("a whole frame");
        Some(Frame { first: first[0], payload })
    }

    /// True if for as long as this nothing comes.
    pub(super) async fn is_silent_for(&mut self, time: std::time::Duration) -> bool {
        timeout(time, self.io.read_u8()).await.is_err()
    }

    /// Reads to the next Close, and gives it with what came before.
    pub(super) async fn up_to_close(&mut self) -> (Vec<Frame>, Frame) {
        let mut before = Vec::new();
        loop {
            match self.next().await.expect("a Close before the end") {
                close if close.is_close() => return (before, close),
                frame => before.push(frame),
            }
        }
    }
}

/// Asks for a stream over HTTP/2, of this protocol or of none that is known. A request goes before, so that the server's
/// settings have come.
pub(super) async fn ask(socket: TcpStream, protocol: Option<&'static str>) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    spawn(async {
        // The server ends it.
        let _ = connection.await;
    });
    let hello = Request::get("http://test/hello").body(Body::empty()).unwrap();
    assert_eq!(sender.send_request(hello).await?.status(), StatusCode::OK);
    let request = Request::connect(if protocol.is_some() { "http://test/" } else { "test:80" });
    let mut request = request
        .header("sec-websocket-version", "13")
        .header("sec-websocket-extensions", "permessage-deflate")
        .body(Body::empty())
        .unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    timeout(secs(10), sender.send_request(request)).await.expect("an answer within ten seconds")
}
