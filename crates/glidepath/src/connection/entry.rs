//! What is known of one open connection. The invariants are at the top of `registry.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tracing::Span;

use super::registry::{Ended, Registry, Stage};
use super::requests::{Count, Key, Request, Requests};
use super::rest::REST_AFTER;
use super::upgraded::{Upgrade, Wire};
use crate::os::coarse_millis;
use crate::plan::Plan;
use crate::report::{Kind, Running};
use crate::stream::Stream;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard, lock};

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// A TLS handshake is under way. Next: `Fresh`.
    Handshake,
    /// Accepted; not a byte has come, or none since the handshake. Next: `Head`.
    Fresh,
    /// Bytes of a head have come, not all. Next: `Flight`.
    Head,
    /// A request is with the app, or its response on the way out. Next: `Flushing`.
    Flight,
    /// The response is complete; its last bytes may not be with the kernel yet. Next: `Idle`.
    Flushing,
    /// Between two requests of a busy connection. Next: `Head`, or `Rest` after a second; of others at once.
    Idle,
    /// As `Idle`, and the HTTP state is given back. Next: `Head`.
    Rest,
    /// Speaks HTTP/2; its requests are in the entry. Ends there.
    Http2,
    /// The app has it (a WebSocket, CONNECT). Ends there.
    Upgraded,
    /// The FIN is sent. Ends there.
    Closing,
}

impl State {
    pub(super) const ALL: [(Self, &str); 10] = [
        (Self::Handshake, "handshake"),
        (Self::Fresh, "new"),
        (Self::Head, "reading a head"),
        (Self::Flight, "in flight"),
        (Self::Flushing, "in flight"),
        (Self::Idle, "idle"),
        (Self::Rest, "at rest"),
        (Self::Http2, "http/2"),
        (Self::Upgraded, "upgraded"),
        (Self::Closing, "closing"),
    ];

    #[inline]
    fn from_u8(byte: u8) -> Self {
        // In the order of the variants, so that nothing is looked up.
        match byte {
            0 => Self::Handshake,
            1 => Self::Fresh,
            2 => Self::Head,
            3 => Self::Flight,
            4 => Self::Flushing,
            5 => Self::Idle,
            6 => Self::Rest,
            7 => Self::Http2,
            8 => Self::Upgraded,
            _ => Self::Closing,
        }
    }
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    AtRest,
    Upgraded,
    Failed,
    Cut,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::AtRest => "at_rest",
            Self::Upgraded => "upgraded",
            Self::Failed => "failed",
            Self::Cut => "cut",
        }
    }
}

/// What the sweep asks of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Nudge {
    Nothing,
    /// Idle for a moment: give the HTTP state back.
    Park,
    /// Too long at rest, or a head that takes too long.
    TimedOut,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Arc<Registry>,
    key: u32,
    /// Unix sockets have none.
    peer: Option<SocketAddr>,
    accepted_late: bool,
    state: AtomicU8,
    nudge: AtomicU8,
    /// When `state` began, in coarse milliseconds.
    since: AtomicU64,
    /// When it was accepted.
    born: u64,
    /// When the last request began; on HTTP/2 when bytes came last.
    asked: AtomicU64,
    /// The last request's body was not read to its end: what comes next on the socket may still be of it.
    body_open: AtomicBool,
    /// The last request was HTTP/1.0: the end of its answer may be told by nothing but the end of the connection.
    ends_with_fin: AtomicBool,
    /// On HTTP/1, of the last request: see [`Request::received`] and [`Request::sent`]. Without a lock, because every request
    /// comes by here.
    received: AtomicU64,
    sent: AtomicU64,
    /// All answers were handed to the kernel while serving, and nobody has counted them: see [`Entry::lock_counted`].
    uncounted: AtomicBool,
    /// An answer may switch protocols.
    may_upgrade: AtomicBool,
    /// It has sent an answer with a large piece.
    large: AtomicBool,
    /// See [`Entry::stay_untold`]. Changes with the registry's `entries` locked, which counts it.
    untold: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The connection's task.
    task: Option<Waker>,
    requests: Requests,
    /// The socket, given back when the last user of the connection has dropped it. Boxed, because it is here for a moment only.
    returned: Option<Box<Stream>>,
    /// Boxed, because most connections never are.
    upgrade: Option<Box<Upgrading>>,
    count: Count,
    /// Not in the requests, which are many. Boxed, because most connections have none.
    spans: Option<Box<Spans>>,
}

/// The spans of requests, by their `nth`.
#[derive(Debug, Default)]
struct Spans(Vec<(u32, Arc<Span>)>);

/// A connection that is upgraded, or about to be.
#[derive(Debug)]
struct Upgrading {
    /// The answer that is on its way out switches to this.
    to: Option<Upgrade>,
    /// The request that asked for it.
    by: Option<String>,
    /// The socket.
    wire: Option<Wire>,
}

// ===== impl Entry =====

impl Entry {
    pub(super) fn new(registry: Arc<Registry>, key: usize, peer: Option<SocketAddr>) -> Self {
        let now = coarse_millis();
        Self {
            key: key as u32,
            peer,
            accepted_late: registry.stage() >= Stage::Drain,
            registry,
            state: AtomicU8::new(State::Fresh as u8),
            nudge: AtomicU8::new(Nudge::Nothing as u8),
            since: AtomicU64::new(now),
            born: now,
            asked: AtomicU64::new(0),
            body_open: AtomicBool::new(false),
            ends_with_fin: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            uncounted: AtomicBool::new(false),
            may_upgrade: AtomicBool::new(false),
            large: AtomicBool::new(false),
            untold: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The peer's address, where requests are to bear it.
    #[inline]
    pub(super) fn shown_peer(&self) -> Option<SocketAddr> {
        if self.registry.shows_peers() { self.peer } else { None }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The most bytes that a head may have.
    pub(crate) fn head_size(&self) -> usize {
        self.registry.head_size()
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        self.registry.stage()
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        State::from_u8(self.state.load(Relaxed))
    }

    pub(crate) fn set_state(&self, state: State) {
        self.since.store(coarse_millis(), Relaxed);
        self.state.store(state as u8, Relaxed);
    }

    /// How long it has been in its state.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(coarse_millis().saturating_sub(self.since.load(Relaxed)))
    }

    #[inline]
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// When its last request began, in coarse milliseconds.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// Its client was not told of the end, but has been served: it may stay for as long as others hold up the end.
    ///
    /// True while they do. Its task is woken when they do no longer.
    pub(crate) fn stay_untold(&self) -> bool {
        if !self.is_untold() {
            self.registry.count_untold(self, true);
        }
        !self.registry.is_only_untold()
    }

    pub(super) fn is_untold(&self) -> bool {
        self.untold.load(Relaxed)
    }

    /// What it was before.
    pub(super) fn set_untold(&self, untold: bool) -> bool {
        self.untold.swap(untold, Relaxed)
    }

    /// The drain took from the client what it had asked for: it will ask again, as if it had asked now.
    pub(super) fn ask_again(&self) {
        self.asked.store(coarse_millis(), Relaxed);
    }

    /// Bytes have come from the client.
    #[inline]
    pub(crate) fn heard(&self) {
        if self.is_untold() {
            self.registry.count_untold(self, false);
        }
        match self.state() {
            State::Fresh | State::Idle | State::Rest => self.set_state(State::Head),
            // A request began when it came.
            State::Http2 => self.asked.store(coarse_millis(), Relaxed),
            _ => {}
        }
    }

    /// All that was written is with the kernel. If that was the end of a response that switches protocols, gives to which.
    #[inline]
    pub(crate) fn flushed(&self) -> Option<Upgrade> {
        if self.state() != State::Flushing {
            return None;
        }
        let upgrade = if self.stage() >= Stage::TurnAway || self.may_upgrade.load(Relaxed) {
            self.count_answered()
        } else {
            // Whoever asks next counts it: the next request takes the lock anyway.
            self.uncounted.store(true, Relaxed);
            None
        };
        self.set_state(State::Idle);
        upgrade
    }

    #[cold]
    fn count_answered(&self) -> Option<Upgrade> {
        let mut inner = self.lock_counted();
        // On HTTP/1 a request begins when the app is done with the one before: here it is done with all.
        let answered = inner.answer_all();
        if self.stage() >= Stage::TurnAway {
            inner.count.answered_late += answered;
        }
        inner.upgrade.as_mut().and_then(|upgrade| upgrade.to.take())
    }

    /// With all answers counted that were handed to the kernel.
    #[inline]
    fn lock_counted(&self) -> MutexGuard<'_, Inner> {
        let mut inner = lock(&self.inner);
        if self.uncounted.load(Relaxed) {
            self.uncounted.store(false, Relaxed);
            inner.answer_all();
        }
        inner
    }

    /// Gives the HTTP state back. It has been quiet since it was idle.
    pub(crate) fn rest(&self) {
        self.state.store(State::Rest as u8, Relaxed);
    }

    /// Whether what comes next on the socket may still be of the last request's body.
    #[inline]
    pub(crate) fn is_body_open(&self) -> bool {
        self.body_open.load(Relaxed)
    }

    /// Whether a FIN would make an answer that was cut look whole (RFC 9112, section 8).
    pub(crate) fn ends_with_fin(&self) -> bool {
        self.ends_with_fin.load(Relaxed)
    }

    pub(crate) fn body_ended(&self) {
        self.body_open.store(false, Relaxed);
        if self.stage() >= Stage::Drain {
            self.wake();
        }
    }

    /// Takes what the sweep asked for.
    #[inline]
    pub(crate) fn take_nudge(&self) -> Nudge {
        if self.nudge.load(Relaxed) == Nudge::Nothing as u8 {
            return Nudge::Nothing;
        }
        match self.nudge.swap(Nudge::Nothing as u8, Relaxed) {
            1 => Nudge::Park,
            2 => Nudge::TimedOut,
            _ => Nudge::Nothing,
        }
    }

    /// Whether the sweep must wake it, and for what.
    pub(super) fn is_due(&self, now: u64, plan: &Plan) -> bool {
        let age = now.saturating_sub(self.since.load(Relaxed));
        let over = |limit: Duration| u128::from(age) >= limit.as_millis();
        let nudge = match self.state() {
            State::Handshake if over(plan.handshake_timeout) => Nudge::TimedOut,
            State::Fresh | State::Head if over(plan.head_timeout) => Nudge::TimedOut,
            State::Rest if over(plan.idle_timeout) => Nudge::TimedOut,
            State::Idle if over(plan.idle_timeout) => Nudge::TimedOut,
            State::Idle if over(REST_AFTER) && !self.is_body_open() => Nudge::Park,
            State::Http2 if over(plan.idle_timeout) && self.in_flight() == 0 => Nudge::TimedOut,
            _ => return false,
        };
        self.nudge.store(nudge as u8, Relaxed);
        true
    }

    /// The task that drives the connection.
    pub(crate) fn register(&self, waker: &Waker) {
        lock(&self.inner).task = Some(waker.clone());
    }

    pub(super) fn wake(&self) {
        let waker = lock(&self.inner).task.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn wake_all(&self) {
        let (task, wakers): (_, Vec<_>) = {
            let inner = lock(&self.inner);
            // Most have no such request, and an empty list takes no memory.
            (inner.task.clone(), inner.requests.iter().filter_map(|request| request.waker.clone()).collect())
        };
        task.into_iter().chain(wakers).for_each(Waker::wake);
    }

    /// The answer that is on its way out switches protocols.
    pub(crate) fn upgrade(&self, key: Key, upgrade: Upgrade) {
        self.may_upgrade.store(true, Relaxed);
        let mut inner = self.lock_counted();
        let by = inner.requests.get_mut(key).map(|request| request.name());
        inner.upgrade = Some(Box::new(Upgrading { to: Some(upgrade), by, wire: None }));
    }

    /// The app takes the stream of a request over.
    pub(super) fn take_over(&self, key: Key) {
        if let Some(request) = lock(&self.inner).requests.get_mut(key) {
            request.upgraded = true;
        }
    }

    pub(crate) fn share(&self, wire: Wire) {
        if let Some(upgrade) = &mut lock(&self.inner).upgrade {
            upgrade.wire = Some(wire);
        }
    }

    pub(crate) fn take_wire(&self) -> Option<Wire> {
        lock(&self.inner).upgrade.as_mut()?.wire.take()
    }

    /// Gives the socket back to the connection's task.
    pub(crate) fn give_back(&self, stream: Stream) {
        lock(&self.inner).returned = Some(Box::new(stream));
        self.wake();
    }

    pub(crate) fn take_back(&self) -> Option<Stream> {
        lock(&self.inner).returned.take().map(|stream| *stream)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.lock_counted().requests.open() as usize
    }

    /// Gives back the memory that only busy connections need.
    pub(crate) fn slim(&self) {
        self.lock_counted().requests.slim();
    }

    /// A request goes to the app.
    #[inline]
    pub(crate) fn begin<B: http_body::Body>(&self, request: &http::Request<B>) -> Key {
        let since = match self.state() {
            // Counted from its first byte, and the clock is not read once more.
            State::Head => self.since(),
            State::Http2 => self.asked(),
            _ => coarse_millis(),
        };
        if self.state() == State::Http2 {
            // An HTTP/2 connection is idle since its last stream; its state does not change.
            self.since.store(since, Relaxed);
        } else {
            self.state.store(State::Flight as u8, Relaxed);
            self.body_open.store(!request.body().is_end_stream(), Relaxed);
            self.ends_with_fin.store(request.version() == http::Version::HTTP_10, Relaxed);
            self.received.store(0, Relaxed);
            self.sent.store(0, Relaxed);
        }
        self.asked.store(since, Relaxed);
        let mut inner = self.lock_counted();
        let nth = inner.count.started as u32;
        inner.count.started += 1;
        inner.requests.begin(request.method(), request.uri(), since, nth)
    }

    pub(super) fn set_span(&self, key: Key, span: Arc<Span>) {
        lock(&self.inner).spans.get_or_insert_default().0.push((key.nth, span));
    }

    pub(super) fn span(&self, key: Key) -> Option<Arc<Span>> {
        let inner = lock(&self.inner);
        let (_, span) = inner.spans.as_ref()?.0.iter().find(|(nth, _)| *nth == key.nth)?;
        Some(Arc::clone(span))
    }

    pub(super) fn take_span(&self, key: Key) -> Option<Arc<Span>> {
        let mut inner = lock(&self.inner);
        let spans = &mut inner.spans.as_mut()?.0;
        let place = spans.iter().position(|(nth, _)| *nth == key.nth)?;
        Some(spans.swap_remove(place).1)
    }

    /// So much of a request's body has come to the app.
    pub(super) fn received(&self, key: Key, bytes: usize) {
        self.count_bytes(key, bytes as u64, &self.received, |request| &mut request.received);
    }

    /// So much of an answer's body has come from the app; `is_last` is the end of it.
    #[inline]
    pub(super) fn sent(&self, key: Key, bytes: usize, is_last: bool) {
        /// What hyper's buffer holds at first: a smaller body is copied behind its head without another allocation.
        const LARGE: usize = 8 * 1024;
        if bytes >= LARGE {
            self.large.store(true, Relaxed);
            self.registry.sends_large();
        }
        // On HTTP/2 the request ends with the last piece, and a lock for it would be taken for nobody to see.
        if self.state() != State::Http2 || !is_last {
            self.count_bytes(key, bytes as u64, &self.sent, |request| &mut request.sent);
        }
    }

    #[inline]
    fn count_bytes(&self, key: Key, bytes: u64, http1: &AtomicU64, http2: fn(&mut Request) -> &mut u64) {
        if self.state() != State::Http2 {
            // One body at a time moves each way, so nobody else writes here.
            http1.store(http1.load(Relaxed) + bytes, Relaxed);
        } else if let Some(request) = lock(&self.inner).requests.get_mut(key) {
            *http2(request) += bytes;
        }
    }

    /// Whether its answers are likely to have large pieces: this one's had, or others' had lately.
    pub(crate) fn sends_large(&self) -> bool {
        self.large.load(Relaxed) || self.registry.has_sent_large_lately()
    }

    /// Whether one of its answers had.
    #[inline]
    pub(crate) fn has_sent_large(&self) -> bool {
        self.large.load(Relaxed)
    }

    /// Whoever polls the request, so that it hears of the deadline.
    pub(crate) fn wait(&self, key: Key, waker: &Waker) {
        if let Some(request) = lock(&self.inner).requests.get_mut(key) {
            request.waker = Some(waker.clone());
        }
    }

    /// The handler of a request panicked.
    pub(crate) fn panicked(&self) {
        lock(&self.inner).count.panicked += 1;
    }

    /// The app is done with a request.
    #[inline]
    pub(crate) fn end(&self, key: Key, outcome: RequestEnd) {
        if outcome == RequestEnd::Answered && self.state() != State::Http2 {
            // It stays until its last byte is with the kernel, and is counted then.
            self.state.store(State::Flushing as u8, Relaxed);
        } else {
            self.count_end(key, outcome);
        }
    }

    fn count_end(&self, key: Key, outcome: RequestEnd) {
        // Invariant 4: `ended` is not taken under `inner`.
        let (cut, is_last) = {
            let mut inner = lock(&self.inner);
            let cut = inner.end(key, outcome, self.stage()).map(|request| self.name(request, coarse_millis()));
            (cut, inner.requests.open() == 0)
        };
        if let Some(cut) = cut {
            self.registry.name_cut(cut);
        }
        if self.state() != State::Http2 {
            self.state.store(State::Flushing as u8, Relaxed);
            return;
        }
        if is_last {
            self.since.store(coarse_millis(), Relaxed);
        }
        if self.stage() >= Stage::Drain {
            self.wake();
        }
    }

    /// Its state, its counts so far, and how many requests are in flight.
    #[cfg(feature = "metrics")]
    pub(super) fn tally(&self) -> (State, crate::report::Requests, usize) {
        let inner = self.lock_counted();
        (self.state(), inner.count.account(), inner.requests.open() as usize)
    }

    /// A request of its own.
    fn name(&self, request: &Request, now: u64) -> Running {
        let http1 = (self.received.load(Relaxed), self.sent.load(Relaxed));
        request.running(now, self.peer, if self.state() == State::Http2 { request.bytes() } else { http1 })
    }

    pub(super) fn running(&self, now: u64) -> Vec<Running> {
        let inner = self.lock_counted();
        let mut running: Vec<_> = inner.requests.iter().map(|request| self.name(request, now)).collect();
        running.extend(inner.upgraded(now, self.since(), self.peer));
        running
    }

    /// Leaves the registry. Only the first call counts.
    pub(crate) fn leave(&self, end: End) {
        self.registry.remove(self, end);
    }

    /// A place among all connections, from 0 to 1: scattered, and the same for the whole life (Knuth's multiplicative hash).
    pub(crate) fn place(&self) -> f64 {
        let scattered = self.key.wrapping_mul(2_654_435_769);
        f64::from(scattered) / f64::from(u32::MAX)
    }

    pub(super) fn key(&self) -> usize {
        self.key as usize
    }

    /// The last words: what the entry adds to the account, and what was cut with it.
    pub(super) fn close(&self, end: End, ended: &mut Ended) {
        let now = coarse_millis();
        let mut inner = self.lock_counted();
        let left = inner.requests.open();
        if end == End::Cut {
            inner.count.cut += left;
            ended.cut.extend(inner.requests.iter().map(|request| self.name(request, now)));
            ended.cut.extend(inner.upgraded(now, self.since(), self.peer));
        } else {
            inner.count.abandoned += u64::from(left);
        }
        inner.requests.clear();
        ended.count(end, self.accepted_late, &inner.count.account());
    }

    /// After it was closed, and with no lock held.
    pub(super) fn tell(&self, end: End) {
        tracing::debug!(
            target: "glidepath::connection",
            outcome = end.name(),
            peer = self.peer.map(tracing::field::display),
            requests = lock(&self.inner).count.started,
            age_ms = coarse_millis().saturating_sub(self.born),
            "connection ended"
        );
    }

    /// A client had pipelined more behind the answer that said close.
    pub(crate) fn left_behind(&self) {
        self.registry.left_behind();
    }

    /// Bytes came from the client after it was closed at rest.
    pub(crate) fn raced(&self) {
        self.registry.raced();
    }
}

impl Inner {
    /// The app's answers are with the kernel.
    #[inline]
    fn answer_all(&mut self) -> u32 {
        let answered = self.requests.open();
        self.requests.clear();
        self.count.answered += u64::from(answered);
        answered
    }

    fn upgraded(&self, now: u64, since: u64, peer: Option<SocketAddr>) -> Option<Running> {
        // Until its answer is with the kernel, it is the request that asked.
        if self.requests.open() > 0 {
            return None;
        }
        let name = self.upgrade.as_ref()?.by.clone()?;
        let age = Duration::from_millis(now.saturating_sub(since));
        Some(Running { peer: peer.map(|peer| peer.to_string()), ..Running::new(Kind::Upgraded, name, age) })
    }

    /// Gives the request if it was cut.
    fn end(&mut self, key: Key, outcome: RequestEnd, stage: Stage) -> Option<&Request> {
        let request = self.requests.end(key)?;
        match outcome {
            RequestEnd::Answered => {
                self.count.answered += 1;
                self.count.answered_late += u32::from(stage >= Stage::TurnAway);
            }
            RequestEnd::Abandoned => self.count.abandoned += 1,
            RequestEnd::Cut => {
                self.count.cut += 1;
                return Some(request);
            }
        }
        None
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    Answered,
    Abandoned,
    Cut,
}
