//! What is known of every open connection, in one place.
//!
//! Invariants:
//! 1. An [`Entry`] is in the registry from before its connection's task is spawned until that task is done.
//! 2. It leaves with exactly one [`End`], so the connections of the report always add up.
//! 3. In serving, a connection touches only its own entry and reads the stage; nothing that is shared is written.
//! 4. Locks are taken in this order: the registry's `entries`, its `ended`, an entry's `inner`; and never twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use http::{Method, Uri};
use slab::Slab;
use tokio::sync::Notify;

use super::upgraded::{Upgrade, Wire};
use crate::os::coarse_millis;
use crate::plan::Plan;
use crate::report::{self, Kind, Running};
use crate::stream::Stream;

/// What the lifecycle asks of all connections. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    Serve,
    /// Responses say close.
    TurnAway,
    /// Close what is at rest, wait for the rest.
    Drain,
    /// The deadline: final answers now.
    Answer,
    /// Sockets are cut.
    Cut,
}

impl Stage {
    fn from_u8(byte: u8) -> Self {
        match byte {
            0 => Self::Serve,
            1 => Self::TurnAway,
            2 => Self::Drain,
            3 => Self::Answer,
            _ => Self::Cut,
        }
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Accepted; not a byte has come. Next: `Head`.
    Fresh,
    /// Bytes of a head have come, not all. Next: `Flight`.
    Head,
    /// A request is with the app, or its response on the way out. Next: `Flushing`.
    Flight,
    /// The response is complete; its last bytes may not be with the kernel yet. Next: `Idle`.
    Flushing,
    /// Between two requests. Next: `Head`, or `Rest` after a moment.
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
    const ALL: [(Self, &str); 9] = [
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

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn from_u8(byte: u8) -> Self {
        Self::ALL[usize::from(byte)].0
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
    key: usize,
    pub(crate) peer: Option<SocketAddr>,
    accepted_late: bool,
    state: AtomicU8,
    nudge: AtomicU8,
    /// When `state` began, in coarse milliseconds.
    since: AtomicU64,
    /// When the last request began.
    asked: AtomicU64,
    /// The last request came with a body.
    bodied: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The connection's task.
    task: Option<Waker>,
    requests: Slab<Request>,
    /// The socket, given back when the last user of the connection has dropped it.
    returned: Option<Stream>,
    /// The answer that is on its way out switches to this.
    upgrade: Option<Upgrade>,
    /// The socket of an upgraded connection.
    wire: Option<Wire>,
    count: report::Requests,
}

/// A request with the app.
#[derive(Debug)]
struct Request {
    method: Method,
    uri: Uri,
    since: u64,
    /// The app is done with it; on HTTP/1 it stays until its last byte is with the kernel.
    done: bool,
    /// Wakes whoever polls it, where that is not the connection's task (HTTP/2).
    waker: Option<Waker>,
}

impl Request {
    fn running(&self, now: u64) -> Running {
        let name = format!("{} {}", self.method, self.uri.path());
        Running { kind: Kind::Request, name, age: Duration::from_millis(now.saturating_sub(self.since)) }
    }
}

/// All open connections, and the counts of those that have ended.
#[derive(Debug)]
pub(crate) struct Registry {
    stage: AtomicU8,
    entries: Mutex<Slab<Arc<Entry>>>,
    ended: Mutex<Ended>,
    times: Mutex<Times>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Ended {
    connections: report::Connections,
    requests: report::Requests,
    cut: Vec<Running>,
}

/// What connections need of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) quiet: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// In the drain, how long a WebSocket's peer may take to answer the Close.
    pub(crate) goodbye: Duration,
    /// In the drain, the most that a half-sent head may still take.
    pub(crate) head_in_drain: Duration,
    /// When the drain began, in coarse milliseconds.
    pub(crate) drain_began: u64,
}

impl From<&Plan> for Times {
    fn from(plan: &Plan) -> Self {
        Self {
            quiet: plan.quiet,
            head_timeout: plan.head_timeout,
            idle_timeout: plan.idle_timeout,
            goodbye: plan.goodbye,
            // Half of the time for work: a head that completes then still leaves time for its answer.
            head_in_drain: plan.head_timeout.min((plan.grace - plan.hook_slice()) / 2),
            drain_began: 0,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ===== impl Registry =====

impl Registry {
    pub(crate) fn new(plan: &Plan, changed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(Stage::Serve as u8),
            entries: Mutex::default(),
            ended: Mutex::default(),
            times: Mutex::new(plan.into()),
            changed,
        })
    }

    pub(crate) fn set_plan(&self, plan: &Plan) {
        *lock(&self.times) = plan.into();
    }

    pub(crate) fn times(&self) -> Times {
        *lock(&self.times)
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Relaxed))
    }

    /// Tells all connections, in one pass. Going back is not possible and is ignored.
    pub(crate) fn set_stage(&self, stage: Stage) {
        if stage == Stage::Drain {
            lock(&self.times).drain_began = coarse_millis();
        }
        if self.stage.fetch_max(stage as u8, Relaxed) >= stage as u8 {
            return;
        }
        // Who enters after this sees the stage at its first poll; who entered before is woken.
        let entries: Vec<_> = lock(&self.entries).iter().map(|(_, entry)| Arc::clone(entry)).collect();
        entries.iter().for_each(|entry| entry.wake_all());
    }

    pub(crate) fn enter(self: &Arc<Self>, peer: Option<SocketAddr>) -> Arc<Entry> {
        let mut entries = lock(&self.entries);
        let vacant = entries.vacant_entry();
        let entry = Arc::new(Entry {
            registry: Arc::clone(self),
            key: vacant.key(),
            peer,
            accepted_late: self.stage() >= Stage::Drain,
            state: AtomicU8::new(State::Fresh as u8),
            nudge: AtomicU8::new(Nudge::Nothing as u8),
            since: AtomicU64::new(coarse_millis()),
            asked: AtomicU64::new(0),
            bodied: AtomicBool::new(false),
            inner: Mutex::default(),
        });
        vacant.insert(Arc::clone(&entry));
        entry
    }

    pub(crate) fn open(&self) -> usize {
        lock(&self.entries).len()
    }

    /// Looks at every connection: parks who is idle, times out who is too slow.
    ///
    /// In short pieces, so that nobody waits for the lock.
    pub(crate) fn sweep(&self) {
        const PIECE: usize = 256;
        let (now, times) = (coarse_millis(), self.times());
        let mut from = 0;
        loop {
            let piece: Vec<_> = {
                let entries = lock(&self.entries);
                let end = (from + PIECE).min(entries.capacity());
                if from >= end {
                    return;
                }
                (from..end).filter_map(|key| entries.get(key).filter(|e| e.is_due(now, &times)).cloned()).collect()
            };
            piece.iter().for_each(|entry| entry.wake());
            from += PIECE;
        }
    }

    /// The counts so far. Whatever is still open is unknown: at the end there is nothing of it.
    pub(crate) fn account(&self) -> (report::Connections, report::Requests, Vec<Running>) {
        let open = self.open() as u64;
        let ended = lock(&self.ended);
        let mut connections = ended.connections;
        connections.accepted += open;
        connections.unknown = open;
        (connections, ended.requests, ended.cut.clone())
    }

    /// Counts everything that is still open as cut. The last resort, when the runtime does not come to do it.
    pub(crate) fn abandon(&self) {
        let entries: Vec<_> = lock(&self.entries).iter().map(|(_, entry)| Arc::clone(entry)).collect();
        entries.iter().for_each(|entry| entry.leave(End::Cut));
    }

    pub(crate) fn by_state(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for (_, entry) in lock(&self.entries).iter() {
            let name = entry.state().name();
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
        counts
    }

    pub(crate) fn list(&self) -> Vec<Running> {
        let now = coarse_millis();
        let entries = lock(&self.entries);
        let mut running: Vec<_> = entries.iter().flat_map(|(_, entry)| entry.running(now)).collect();
        running.sort_by_key(|running| std::cmp::Reverse(running.age));
        running
    }
}

// ===== impl Entry =====

impl Entry {
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn stage(&self) -> Stage {
        self.registry.stage()
    }

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

    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// When its last request began, in coarse milliseconds.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// Bytes have come from the client.
    pub(crate) fn heard(&self) {
        if matches!(self.state(), State::Fresh | State::Idle | State::Rest) {
            self.set_state(State::Head);
        }
    }

    /// All that was written is with the kernel. True if that was the end of a response.
    pub(crate) fn flushed(&self) -> bool {
        if self.state() != State::Flushing {
            return false;
        }
        let late = self.stage() >= Stage::TurnAway;
        let mut inner = lock(&self.inner);
        let Inner { requests, count, .. } = &mut *inner;
        requests.retain(|_, request| {
            count.answered += u64::from(request.done);
            count.answered_late += u64::from(request.done && late);
            !request.done
        });
        drop(inner);
        self.set_state(State::Idle);
        true
    }

    /// Gives the HTTP state back. It has been quiet since it was idle.
    pub(crate) fn rest(&self) {
        self.state.store(State::Rest as u8, Relaxed);
    }

    /// Whether its last request came with a body, which may not have come whole.
    pub(crate) fn had_body(&self) -> bool {
        self.bodied.load(Relaxed)
    }

    /// Takes what the sweep asked for.
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

    fn is_due(&self, now: u64, times: &Times) -> bool {
        /// How long a connection is idle before it gives its HTTP state back.
        const MOMENT: u64 = 1000;
        let age = now.saturating_sub(self.since.load(Relaxed));
        let over = |limit: Duration| u128::from(age) >= limit.as_millis();
        let nudge = match self.state() {
            State::Fresh | State::Head if over(times.head_timeout) => Nudge::TimedOut,
            State::Rest if over(times.idle_timeout) => Nudge::TimedOut,
            State::Idle if age >= MOMENT => Nudge::Park,
            State::Http2 if over(times.idle_timeout) && self.in_flight() == 0 => Nudge::TimedOut,
            _ => return false,
        };
        self.nudge.store(nudge as u8, Relaxed);
        true
    }

    /// The task that drives the connection.
    pub(crate) fn register(&self, waker: &Waker) {
        lock(&self.inner).task = Some(waker.clone());
    }

    fn wake(&self) {
        let waker = lock(&self.inner).task.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake_all(&self) {
        let wakers: Vec<_> = {
            let inner = lock(&self.inner);
            let mut wakers: Vec<_> = inner.task.iter().cloned().collect();
            wakers.extend(inner.requests.iter().filter_map(|(_, request)| request.waker.clone()));
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The answer that is on its way out switches protocols.
    pub(crate) fn upgrade(&self, upgrade: Upgrade) {
        lock(&self.inner).upgrade = Some(upgrade);
    }

    pub(crate) fn take_upgrade(&self) -> Option<Upgrade> {
        lock(&self.inner).upgrade.take()
    }

    pub(crate) fn share(&self, wire: Wire) {
        lock(&self.inner).wire = Some(wire);
    }

    pub(crate) fn take_wire(&self) -> Option<Wire> {
        lock(&self.inner).wire.take()
    }

    /// Gives the socket back to the connection's task.
    pub(crate) fn give_back(&self, stream: Stream) {
        lock(&self.inner).returned = Some(stream);
        self.wake();
    }

    pub(crate) fn take_back(&self) -> Option<Stream> {
        lock(&self.inner).returned.take()
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.inner).requests.len()
    }

    /// Gives back the memory that only busy connections need.
    pub(crate) fn slim(&self) {
        let mut inner = lock(&self.inner);
        if inner.requests.is_empty() {
            inner.requests = Slab::new();
        }
    }

    /// A request goes to the app.
    pub(crate) fn begin(&self, method: &Method, uri: &Uri, bodied: bool) -> usize {
        let since = match self.state() {
            // Counted from its first byte, and the clock is read once a request less.
            State::Head => self.since(),
            _ => coarse_millis(),
        };
        if self.state() == State::Http2 {
            // An HTTP/2 connection is idle since its last stream; its state does not change.
            self.since.store(since, Relaxed);
        } else {
            self.state.store(State::Flight as u8, Relaxed);
            self.bodied.store(bodied, Relaxed);
        }
        self.asked.store(since, Relaxed);
        let request = Request { method: method.clone(), uri: uri.clone(), since, done: false, waker: None };
        let mut inner = lock(&self.inner);
        inner.count.started += 1;
        inner.requests.insert(request)
    }

    /// Whoever polls the request, so that it hears of the deadline.
    pub(crate) fn wait(&self, key: usize, waker: &Waker) {
        if let Some(request) = lock(&self.inner).requests.get_mut(key) {
            request.waker = Some(waker.clone());
        }
    }

    /// The handler of a request panicked.
    pub(crate) fn panicked(&self) {
        lock(&self.inner).count.panicked += 1;
    }

    /// The app is done with a request.
    pub(crate) fn end(&self, key: usize, outcome: RequestEnd) {
        let http1 = self.state() != State::Http2;
        // Invariant 4: `ended` is not taken under `inner`.
        let cut = lock(&self.inner).end(key, outcome, http1, self.stage());
        if let Some(cut) = cut {
            lock(&self.registry.ended).cut.push(cut.running(coarse_millis()));
        }
        if http1 {
            self.state.store(State::Flushing as u8, Relaxed);
        } else {
            self.since.store(coarse_millis(), Relaxed);
            if self.stage() >= Stage::Drain {
                self.wake();
            }
        }
    }

    fn running(&self, now: u64) -> Vec<Running> {
        let inner = lock(&self.inner);
        let mut running: Vec<_> = inner.requests.iter().map(|(_, request)| request.running(now)).collect();
        if self.state() == State::Upgraded {
            running.push(self.upgraded(now));
        }
        running
    }

    fn upgraded(&self, now: u64) -> Running {
        let name = self.peer.map_or_else(|| "connection".to_owned(), |peer| format!("connection from {peer}"));
        Running { kind: Kind::Upgraded, name, age: Duration::from_millis(now.saturating_sub(self.since())) }
    }

    /// Leaves the registry. Only the first call counts.
    pub(crate) fn leave(&self, end: End) {
        let mut entries = lock(&self.registry.entries);
        if !entries.get(self.key).is_some_and(|entry| std::ptr::eq(&raw const **entry, self)) {
            return;
        }
        let removed = entries.remove(self.key);
        let last = entries.is_empty();
        let now = coarse_millis();
        let mut ended = lock(&self.registry.ended);
        let mut inner = lock(&self.inner);
        let (requests, cut) = (std::mem::take(&mut inner.requests), end == End::Cut);
        for (_, request) in &requests {
            if cut {
                inner.count.cut += 1;
                ended.cut.push(request.running(now));
            } else {
                inner.count.abandoned += 1;
            }
        }
        if cut && self.state() == State::Upgraded {
            ended.cut.push(self.upgraded(now));
        }
        ended.count(end, self.accepted_late, &inner.count);
        drop(inner);
        drop(ended);
        drop(entries);
        drop((removed, requests));
        if last {
            self.registry.changed.notify_one();
        }
    }

    /// A client had pipelined more behind the answer that said close.
    pub(crate) fn left_behind(&self) {
        lock(&self.registry.ended).connections.pipelined += 1;
    }

    /// Bytes came from the client after it was closed at rest.
    pub(crate) fn raced(&self) {
        lock(&self.registry.ended).connections.raced += 1;
    }
}

impl Inner {
    /// Gives the request if it was cut.
    fn end(&mut self, key: usize, outcome: RequestEnd, http1: bool, stage: Stage) -> Option<Request> {
        if outcome == RequestEnd::Answered && http1 {
            // Counted when it is flushed.
            if let Some(request) = self.requests.get_mut(key) {
                request.done = true;
            }
            return None;
        }
        let request = self.requests.try_remove(key)?;
        match outcome {
            RequestEnd::Answered => {
                self.count.answered += 1;
                self.count.answered_late += u64::from(stage >= Stage::TurnAway);
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

impl Ended {
    fn count(&mut self, end: End, late: bool, requests: &report::Requests) {
        let c = &mut self.connections;
        c.accepted += 1;
        c.accepted_late += u64::from(late);
        match end {
            End::Finished => c.finished += 1,
            End::AtRest => c.at_rest += 1,
            End::Upgraded => c.upgraded += 1,
            End::Failed => c.failed += 1,
            End::Cut => c.cut += 1,
        }
        let r = &mut self.requests;
        r.started += requests.started;
        r.answered += requests.answered;
        r.answered_late += requests.answered_late;
        r.abandoned += requests.abandoned;
        r.cut += requests.cut;
        r.panicked += requests.panicked;
    }
}
