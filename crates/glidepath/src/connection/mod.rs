//! One connection's life, from accept to close. The task here owns the socket all that time.
//!
//! ```text
//! Fresh -> Http1 <-> Rest -> Closing
//!   |        `----> Upgraded -> Closing
//!   `----> Http2 -------------> Closing
//! ```
//! With TLS, `handshake.rs` comes before `Fresh`. An HTTP/2 stream that the app takes over has a life of its own, in `tunnel.rs`.
//!
//! hyper speaks HTTP; everything about ends is decided here, because hyper cannot know what the kernel still holds:
//! - `graceful_shutdown` on an idle HTTP/1 connection closes under a request that has arrived and was not read yet. It is
//!   never called; the response says close instead, and who is at rest is taken back from hyper and closed here.
//! - hyper has no limit for a preface, a GOAWAY's round trip or a peer that stays: the timers are here.

mod alarm;
mod body;
pub(crate) mod detect;
mod entry;
pub(crate) mod events;
pub(crate) mod frames;
mod goodbye;
#[cfg(feature = "tls")]
mod handshake;
mod io;
mod linger;
mod peer;
mod registry;
mod requests;
mod rest;
pub(crate) mod service;
mod span;
pub(crate) mod traceparent;
mod tunnel;
mod upgraded;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

pub use self::body::Body;
pub(crate) use self::entry::End;
pub use self::peer::PeerAddr;
pub(crate) use self::registry::{Registry, Stage};
pub use self::service::App;

use self::alarm::Alarm;
use self::detect::{Protocol, detect};
use self::entry::{Entry, Nudge, State};
use self::goodbye::Goodbye;
use self::io::Io;
use self::linger::Patience;
use self::service::Tracked;
use self::upgraded::Wire;
use crate::os::coarse_millis;
use crate::socket::Socket;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::Handshake;

/// In the drain, how long an HTTP/2 peer with no stream open may take to answer our PING and leave.
const GOAWAY_LIMIT: Duration = Duration::from_secs(1);

type Http1<A> = http1::UpgradeableConnection<TokioIo<Io>, Tracked<A>>;
type Http2<A> = http2::Connection<TokioIo<Io>, Tracked<A>, TokioExecutor>;

/// The task of one connection.
pub(crate) struct Connection<A: App> {
    entry: Arc<Entry>,
    life: Life<A>,
    alarm: Alarm,
    registered: bool,
    /// hyper was asked to close its HTTP/1 connection.
    asked_to_close: bool,
    /// hyper hands an answer's pieces to the kernel as they are, by writev(2), and copies none behind its head.
    gathers: bool,
    /// Nothing says yet that the next request follows soon: hyper is let go right behind the answer, and not after a second.
    naps: bool,
}

/// Each variant holds only what that part of the life may use. Small at rest: what is large is boxed.
enum Life<A: App> {
    /// TLS is to be spoken; not a byte has come.
    #[cfg(feature = "tls")]
    Greeting {
        stream: Stream,
        tls: Arc<rustls::ServerConfig>,
        app: A,
    },
    #[cfg(feature = "tls")]
    Handshake {
        handshake: Handshake,
        app: A,
    },
    /// Nothing is known yet but the first bytes.
    Fresh {
        stream: Stream,
        app: A,
        first: BytesMut,
    },
    Http1(Box<Http1<A>>),
    Http2 {
        connection: Box<Http2<A>>,
        leaving_since: Option<Instant>,
    },
    /// Only the socket.
    Rest {
        stream: Stream,
        app: A,
    },
    /// The app has the socket, too.
    Upgraded {
        wire: Wire,
        goodbye: Goodbye,
    },
    /// The FIN is sent or about to be.
    Closing {
        closed: Pin<Box<dyn Future<Output = u64> + Send>>,
        end: End,
    },
    Done,
}

/// What a poll of one part of the life came to.
enum Next {
    /// Look again: the part has changed.
    Again,
    /// Wait, at the latest until then.
    Wait(Option<Instant>),
}

impl Next {
    const FOREVER: Self = Self::Wait(None);

    fn after(time: Duration) -> Self {
        Self::Wait(Some(Instant::now() + time))
    }
}

impl<A: App> Connection<A> {
    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(socket: Socket, peer: Option<SocketAddr>, app: A, registry: &Arc<Registry>) -> Self {
        let entry = registry.enter(peer);
        Self::begin(Life::Fresh { stream: socket.into(), app, first: BytesMut::new() }, entry)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        tls: Option<Arc<rustls::ServerConfig>>,
        app: A,
        registry: &Arc<Registry>,
    ) -> Self {
        let entry = registry.enter(peer);
        Self::begin(handshake::first_life(socket.into(), tls, app), entry)
    }

    fn begin(life: Life<A>, entry: Arc<Entry>) -> Self {
        Self {
            entry,
            life,
            alarm: Alarm::default(),
            registered: false,
            asked_to_close: false,
            gathers: false,
            naps: true,
        }
    }

    fn poll_life(&mut self, cx: &mut Context<'_>) -> Next {
        match self.life {
            #[cfg(feature = "tls")]
            Life::Greeting { .. } => self.poll_greeting(cx),
            #[cfg(feature = "tls")]
            Life::Handshake { .. } => self.poll_handshake(cx),
            Life::Fresh { .. } => self.poll_fresh(cx),
            Life::Http1(_) => self.poll_http1(cx),
            Life::Http2 { .. } => self.poll_http2(cx),
            Life::Rest { .. } => self.poll_rest(cx),
            Life::Upgraded { .. } => self.poll_upgraded(cx),
            Life::Closing { .. } => self.poll_closing(cx),
            Life::Done => Next::FOREVER,
        }
    }

    fn take_life(&mut self) -> Life<A> {
        std::mem::replace(&mut self.life, Life::Done)
    }

    /// Waits for the bytes that tell the protocol. Nobody else has the socket: it can be closed at any time.
    fn poll_fresh(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Fresh { stream, first, .. } = &mut self.life else { return Next::FOREVER };
        let protocol = loop {
            match stream.poll_first(first, cx) {
                Poll::Ready(Ok(1..)) => {
                    if is_blank(first) {
                        self.entry.set_state(State::Idle);
                    } else {
                        self.entry.heard();
                    }
                    match detect(first) {
                        Protocol::Undecided => {}
                        decided => break decided,
                    }
                }
                // Cut short inside a preface: there is nothing to answer.
                Poll::Ready(Ok(0)) => return self.close(End::Finished),
                Poll::Ready(Err(_)) => return self.finish(End::Failed),
                Poll::Pending => {
                    if stream.is_inside_record() {
                        self.entry.heard();
                    }
                    return self.wait_fresh();
                }
            }
        };
        if let Life::Fresh { stream, app, first } = self.take_life() {
            let first = first.freeze();
            if protocol == Protocol::Http2 {
                self.start_http2(stream, first, app)
            } else {
                self.start_http1(stream, first, app)
            }
        }
        Next::Again
    }

    fn wait_fresh(&mut self) -> Next {
        let timed_out = self.entry.take_nudge() == Nudge::TimedOut;
        if self.entry.state() == State::Head {
            return if timed_out { self.time_out() } else { self.wait_for_head() };
        }
        self.wait_at_rest(timed_out)
    }

    fn start_http1(&mut self, stream: Stream, first: Bytes, app: A) {
        let io = TokioIo::new(Io::new(stream, first, Arc::clone(&self.entry)));
        let service = Tracked::new(app, Arc::clone(&self.entry));
        self.gathers = self.entry.sends_large();
        let mut builder = http1::Builder::new();
        builder.half_close(true).max_header_size(self.entry.head_size()).writev(self.gathers);
        let connection = builder.serve_connection(io, service).with_upgrades();
        self.life = Life::Http1(Box::new(connection));
    }

    fn start_http2(&mut self, stream: Stream, first: Bytes, app: A) {
        self.entry.set_state(State::Http2);
        self.entry.heard();
        let io = TokioIo::new(Io::new(stream, first, Arc::clone(&self.entry)));
        let service = Tracked::new(app, Arc::clone(&self.entry));
        let head_size = u32::try_from(self.entry.head_size()).unwrap_or(u32::MAX);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_header_list_size(head_size);
        if self.entry.registry().plan().connect_protocol {
            builder.enable_connect_protocol();
        }
        let connection = builder.serve_connection(io, service);
        self.life = Life::Http2 { connection: Box::new(connection), leaving_since: None };
    }

    fn poll_http1(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Http1(connection) = &mut self.life else { return Next::FOREVER };
        if let Poll::Ready(ended) = Pin::new(&mut **connection).poll(cx) {
            return self.after_http1(ended.is_ok());
        }
        let nudge = self.entry.take_nudge();
        match self.entry.state() {
            State::Idle if self.entry.is_body_open() => self.wait_for_body(nudge == Nudge::TimedOut),
            State::Idle if self.naps || nudge != Nudge::Nothing || self.entry.stage() >= Stage::Drain => self.park(),
            State::Idle if self.entry.has_sent_large() && !self.gathers => self.gather(),
            State::Head if nudge == Nudge::TimedOut => self.time_out(),
            State::Head => self.wait_for_head(),
            _ => Next::FOREVER,
        }
    }

    /// The answer is out, and the request's body was not read to its end: hyper reads on or closes. In the drain, and when
    /// it has been idle for too long, it is asked to close when it has got there.
    fn wait_for_body(&mut self, timed_out: bool) -> Next {
        if self.entry.stage() < Stage::Drain && !timed_out {
            return Next::FOREVER;
        }
        let left = if timed_out { Duration::ZERO } else { self.quiet_left() };
        if left > Duration::ZERO {
            return Next::after(left);
        }
        let Life::Http1(connection) = &mut self.life else { return Next::FOREVER };
        if std::mem::replace(&mut self.asked_to_close, true) {
            return Next::FOREVER;
        }
        Pin::new(&mut **connection).graceful_shutdown();
        Next::Again
    }

    /// hyper is done, or has handed the socket to the app.
    fn after_http1(&mut self, well: bool) -> Next {
        if let Some(wire) = self.entry.take_wire() {
            self.entry.set_state(State::Upgraded);
            self.life = Life::Upgraded { wire, goodbye: Goodbye::default() };
            return Next::Again;
        }
        let Life::Http1(connection) = self.take_life() else { return Next::FOREVER };
        let mut ended = false;
        let stream = connection.into_parts().and_then(|parts| {
            // What is left of a body is no request.
            if !is_blank(&parts.read_buf) && !self.entry.is_body_open() {
                self.entry.left_behind();
            }
            let io = parts.io.into_inner();
            ended = io.has_ended();
            io.into_stream()
        });
        self.after_http(stream, well, ended)
    }

    /// hyper is done with the socket; the peer's stream has `ended`, as far as is known.
    fn after_http(&mut self, stream: Option<Stream>, well: bool, ended: bool) -> Next {
        let Some(stream) = stream else { return self.finish(End::Failed) };
        let stage = self.entry.stage();
        let end = match (well, stage) {
            (true, _) => End::Finished,
            (false, Stage::Answer | Stage::Cut) => End::Cut,
            (false, _) => End::Failed,
        };
        if end == End::Cut && self.entry.ends_with_fin() {
            stream.socket().reset_on_close();
            return self.finish(end);
        }
        if ended && !stream.is_tls() {
            // As in `close_stream`, without asking.
            return self.finish(end);
        }
        let sending = self.entry.is_body_open() || stream.unread() > 0;
        let patience = if sending { Patience::Sending } else { Patience::None };
        self.close_stream(stream, patience, end)
    }

    fn poll_http2(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Http2 { connection, leaving_since } = &mut self.life else { return Next::FOREVER };
        let timed_out = self.entry.take_nudge() == Nudge::TimedOut;
        loop {
            // Polled before it is told to leave: what has arrived is heard first.
            if let Poll::Ready(ended) = Pin::new(&mut **connection).poll(cx) {
                return self.after_http2(ended.is_ok());
            }
            if leaving_since.is_some() || !(timed_out || self.entry.stage() >= Stage::Drain) {
                break;
            }
            // GOAWAY(2^31-1), PING, and on its answer GOAWAY(last id): RFC 9113, section 6.8.
            Pin::new(&mut **connection).graceful_shutdown();
            *leaving_since = Some(Instant::now());
        }
        let Some(since) = *leaving_since else { return Next::FOREVER };
        if self.entry.in_flight() > 0 {
            return Next::FOREVER;
        }
        // No stream is open: what is waited for is only the peer's word.
        let last = Instant::now() - self.entry.age();
        let until = since.max(last) + GOAWAY_LIMIT;
        if Instant::now() < until {
            return Next::Wait(Some(until));
        }
        self.after_http2(true)
    }

    /// hyper's connection is dropped, and that gives the socket back.
    fn after_http2(&mut self, well: bool) -> Next {
        self.life = Life::Done;
        let stream = self.entry.take_back();
        self.after_http(stream, well, false)
    }

    /// The stream, where nobody else has it.
    fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.life {
            Life::Fresh { stream, .. } | Life::Rest { stream, .. } => Some(stream),
            #[cfg(feature = "tls")]
            Life::Greeting { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// An answer had a large piece, and hyper copied it. The next ones are likely to be like it.
    fn gather(&mut self) -> Next {
        let Some((stream, app, first)) = self.take_idle() else { return self.finish(End::Failed) };
        if !first.is_empty() {
            self.entry.heard();
        }
        self.start_http1(stream, first, app);
        Next::Again
    }

    /// Part of a head has come.
    fn wait_for_head(&mut self) -> Next {
        let limit = self.entry.registry().plan().head_timeout;
        match self.left_to_start(limit) {
            Some(left) if left.is_zero() => self.time_out(),
            Some(left) => Next::after(left),
            None => Next::FOREVER,
        }
    }

    /// In the drain, what is left to a head or a handshake that has begun: it gets a limit of its own there, so that it
    /// cannot use up the grace period.
    fn left_to_start(&self, limit: Duration) -> Option<Duration> {
        let stage = self.entry.stage();
        if stage < Stage::Drain {
            return None;
        }
        if stage >= Stage::Answer {
            return Some(Duration::ZERO);
        }
        let registry = self.entry.registry();
        let began = registry.drain_began().max(self.entry.since());
        let in_drain = limit.min(registry.plan().start_in_drain());
        let in_drain = in_drain.saturating_sub(Duration::from_millis(coarse_millis().saturating_sub(began)));
        Some(in_drain.min(limit.saturating_sub(self.entry.age())))
    }

    /// 408 and close (RFC 9110, section 15.5.9).
    fn time_out(&mut self) -> Next {
        const ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let stream = match self.take_life() {
            Life::Http1(connection) => connection.into_parts().and_then(|parts| parts.io.into_inner().into_stream()),
            Life::Fresh { stream, .. } => Some(stream),
            _ => None,
        };
        let Some(mut stream) = stream else { return self.finish(End::Failed) };
        // Nothing else was written that could be in the way; a socket that is full all the same has a peer that
        // does not read.
        let _ = stream.try_write(ANSWER);
        self.close_stream(stream, Patience::Sending, End::Failed)
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Closing { closed, end } = &mut self.life else { return Next::FOREVER };
        let Poll::Ready(thrown_away) = closed.as_mut().poll(cx) else { return Next::FOREVER };
        let end = *end;
        if end == End::AtRest && thrown_away > 0 {
            self.entry.raced();
        }
        self.finish(end)
    }

    fn close(&mut self, end: End) -> Next {
        match self.take_life() {
            Life::Fresh { stream, .. } | Life::Rest { stream, .. } => self.close_stream(stream, Patience::None, end),
            #[cfg(feature = "tls")]
            Life::Greeting { stream, .. } => self.close_stream(stream, Patience::None, end),
            _ => self.finish(end),
        }
    }

    fn close_stream(&mut self, stream: Stream, patience: Patience, end: End) -> Next {
        if stream.is_at_end() {
            // Nothing can come any more that would turn the close into a reset: the kernel sends the rest and the FIN.
            return self.finish(end);
        }
        let Some(shut) = linger::shut(stream, patience) else { return self.finish(end) };
        self.entry.set_state(State::Closing);
        self.life = Life::Closing { closed: Box::pin(shut.close(Arc::clone(&self.entry))), end };
        Next::Again
    }

    fn finish(&mut self, end: End) -> Next {
        self.life = Life::Done;
        self.entry.leave(end);
        Next::FOREVER
    }

    /// The socket goes, with whatever is in its way. Over TLS with a close_notify, where there is room for one.
    fn cut(&mut self) {
        let end = self.cut_end();
        let shared = match &self.life {
            Life::Upgraded { wire, .. } => wire.take_back(),
            _ => None,
        };
        // hyper is dropped, and that gives the socket back.
        self.life = Life::Done;
        if let Some(mut stream) = shared.or_else(|| self.entry.take_back()) {
            if end == End::Cut && self.entry.ends_with_fin() {
                stream.socket().reset_on_close();
            } else {
                stream.shut();
            }
        }
        self.finish(end);
    }

    /// What it is when the sockets are cut: a connection without work has lost nothing.
    fn cut_end(&self) -> End {
        match &self.life {
            #[cfg(feature = "tls")]
            Life::Greeting { .. } | Life::Handshake { .. } => End::AtRest,
            Life::Fresh { .. } | Life::Rest { .. } => End::AtRest,
            Life::Closing { end, .. } => *end,
            Life::Http1(_) | Life::Http2 { .. } if self.entry.in_flight() == 0 => End::AtRest,
            Life::Http1(_) | Life::Http2 { .. } | Life::Upgraded { .. } | Life::Done => End::Cut,
        }
    }
}

// The app is only moved and called; what must not move, hyper's connection, is boxed.
impl<A: App> Unpin for Connection<A> {}

impl<A: App> Future for Connection<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.registered {
            // A task keeps its waker for life. Before the stage is read, so that no change is missed.
            this.registered = true;
            this.entry.register(cx.waker());
        }
        loop {
            if this.entry.stage() >= Stage::Cut && !matches!(this.life, Life::Done) {
                this.cut();
            }
            let until = match this.poll_life(cx) {
                _ if matches!(this.life, Life::Done) => return Poll::Ready(()),
                Next::Again => continue,
                Next::Wait(until) => until,
            };
            ready!(this.alarm.poll(until, cx));
        }
    }
}

impl<A: App> Drop for Connection<A> {
    /// The runtime went away: it is still accounted for.
    fn drop(&mut self) {
        if !matches!(self.life, Life::Done) {
            self.entry.leave(self.cut_end());
        }
    }
}

/// Empty lines before a request line are none (RFC 9112, section 2.2).
#[inline]
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    #[cfg(all(unix, not(shuttle)))]
    mod gathering;
    #[cfg(shuttle)]
    mod interleavings;
}
