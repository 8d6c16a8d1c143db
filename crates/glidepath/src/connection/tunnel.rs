//! An HTTP/2 stream that the app takes over: CONNECT, and the WebSockets of RFC 8441. Our `Wire` stands between hyper and
//! the handler, as it does on a socket.
//!
//! hyper gives such a stream to the handler alone, through an `OnUpgrade` that only hyper can make. So the handler gets
//! another one, which hyper makes too: of an HTTP/1.1 connection whose socket is our end of the wire. That connection
//! reads one request out of memory, answers 101 to nobody once the stream is there, and hands its socket over.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::alarm::Alarm;
use super::goodbye::{Farewell, Goodbye};
use super::service::Guard;
use super::upgraded::{Upgrade, Wire};
use crate::sync::{Mutex, lock};

/// When both sides have said Close, how long the peer has for the end of its side of the stream. Then it is told that nobody
/// reads on (RFC 9113, section 8.1), which it may take for an error.
const LINGER: Duration = Duration::from_millis(500);

type Stream = TokioIo<Upgraded>;

/// A stream that the app may take over.
pub(super) struct Tunnel {
    /// What hyper hands over when the answer is out.
    stream: OnUpgrade,
    handover: Handover,
    upgrade: Upgrade,
}

impl Tunnel {
    /// Goes between hyper and the handler of `request`, where that asks for a stream.
    #[inline]
    pub(super) fn dig<B>(request: &mut Request<B>) -> Option<Box<Self>> {
        if request.method() != Method::CONNECT || request.version() != Version::HTTP_2 {
            return None;
        }
        Self::dig_for_connect(request)
    }

    fn dig_for_connect<B>(request: &mut Request<B>) -> Option<Box<Self>> {
        let web_socket = |protocol: &Protocol| protocol.as_str().eq_ignore_ascii_case("websocket");
        let web_socket = request.extensions().get().is_some_and(web_socket);
        let (handover, handlers) = Handover::new()?;
        let stream = request.extensions_mut().insert(handlers)?;
        let upgrade = if web_socket { Upgrade::WebSocket } else { Upgrade::Raw };
        Some(Box::new(Self { stream, handover, upgrade }))
    }

    /// The answer is on its way out. The request lasts as long as the stream.
    pub(super) fn open(self: Box<Self>, guard: Guard) {
        guard.entry.take_over(guard.key);
        #[expect(clippy::disallowed_methods, reason = "the registry knows it by its request")]
        tokio::spawn(self.carry(guard));
    }

    /// Waits for the stream, and sees it to its end.
    async fn carry(self: Box<Self>, guard: Guard) {
        // Where the answer did not get out, the handler's `OnUpgrade` fails as this one does.
        let Ok(stream) = self.stream.await else { return };
        let wire = Wire::new(TokioIo::new(stream), self.upgrade);
        self.handover.complete(wire.clone());
        let (mut goodbye, mut alarm) = (Goodbye::default(), Alarm::default());
        poll_fn(|cx| {
            guard.entry.wait(guard.key, cx.waker());
            loop {
                match goodbye.poll(&wire, &guard.entry, cx) {
                    Farewell::Over => return Poll::Ready(()),
                    Farewell::Wait(until) => ready!(alarm.poll(until, cx)),
                }
            }
        })
        .await;
        // Before the stream ends: with it the connection may, and that counts what is not answered then as abandoned.
        guard.answered();
        let heard = wire.heard_goodbye();
        if let Some(stream) = wire.take_back().filter(|_| heard) {
            let _unanswered = timeout(LINGER, end(stream)).await;
        }
    }
}

/// Ends our side of the stream, and reads to the end of the other.
async fn end(mut stream: Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut late = [0; 512];
    while stream.read(&mut late).await? > 0 {}
    Ok(())
}

/// Makes an `OnUpgrade`, and what it hands over.
struct Handover {
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    wire: Arc<OnceLock<Wire<Stream>>>,
}

impl Handover {
    fn new() -> Option<(Self, OnUpgrade)> {
        let wire = Arc::new(OnceLock::new());
        let made = Arc::new(Mutex::new(None));
        let (agreed, make) = (Arc::clone(&wire), Arc::clone(&made));
        let service = service_fn(move |mut request: Request<Incoming>| {
            *lock(&make) = Some(hyper::upgrade::on(&mut request));
            let agreed = Arc::clone(&agreed);
            poll_fn(move |_| if agreed.get().is_some() { Poll::Ready(switch()) } else { Poll::Pending })
        });
        let io = TokioIo::new(HandlersEnd { request: REQUEST, answer: Vec::new(), wire: Arc::clone(&wire) });
        let mut builder = http1::Builder::new();
        let connection = builder.auto_date_header(false).serve_connection(io, service).with_upgrades();
        let mut this = Self { connection: Box::pin(connection), wire };
        this.poll();
        let on_upgrade = lock(&made).take()?;
        Some((this, on_upgrade))
    }

    /// Nothing that it does waits for anything.
    fn poll(&mut self) {
        let _ = self.connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// The handler gets its end of `wire`.
    fn complete(mut self, wire: Wire<Stream>) {
        if self.wire.set(wire).is_ok() {
            self.poll();
        }
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: tunnel\r\n\r\n";

fn switch() -> Result<Response<String>, Infallible> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    Ok(response)
}

/// The handler's end of the wire; before that, what hyper takes for a socket.
struct HandlersEnd {
    /// What is still to be read of the request.
    request: &'static [u8],
    /// What was answered to it.
    answer: Vec<u8>,
    wire: Arc<OnceLock<Wire<Stream>>>,
}

impl HandlersEnd {
    /// Once the answer is whole.
    fn wire(&self) -> Option<&Wire<Stream>> {
        self.wire.get().filter(|_| self.answer.ends_with(b"\r\n\r\n"))
    }
}

impl AsyncRead for HandlersEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(wire) = self.wire() {
            return wire.poll_read(cx, buf);
        }
        if self.request.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.request.split_at(buf.remaining().min(self.request.len()));
        buf.put_slice(now);
        self.request = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandlersEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(wire) = self.wire() {
            return wire.poll_write(cx, bufs);
        }
        bufs.iter().for_each(|buf| self.answer.extend_from_slice(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().map_or(Poll::Ready(Ok(())), |wire| wire.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().map_or(Poll::Ready(Ok(())), |wire| wire.poll_shutdown(cx))
    }
}

impl Drop for HandlersEnd {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.get() {
            wire.drop_handlers_end();
        }
    }
}
