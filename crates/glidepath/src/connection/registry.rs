//! All open connections, in one place.
//!
//! Invariants, of this file and of `entry.rs`:
//! 1. An [`Entry`] is in the registry from before its connection's task is spawned until that task is done.
//! 2. It leaves with exactly one [`End`], so the connections of the report always add up.
//! 3. In serving, a request touches only its connection's entry and reads the stage. What is shared is locked when a
//!    connection comes or goes, and once for an event stream.
//! 4. Locks are taken in this order: the registry's `entries`, its `ended`, an entry's `inner`; and never twice.

use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::Notify;

use super::entry::{End, Entry, State};
use super::upgraded::{GOING_AWAY, SERVICE_RESTART};
use crate::os::coarse_millis;
use crate::plan::Plan;
use crate::report::{self, Running};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard, lock};

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

/// All open connections, and the counts of those that have ended.
#[derive(Debug)]
pub(crate) struct Registry {
    stage: AtomicU8,
    entries: Mutex<Slab<Arc<Entry>>>,
    ended: Mutex<Ended>,
    plan: Mutex<Plan>,
    /// Of the plan: every connection that speaks HTTP/1 asks.
    head_size: AtomicUsize,
    /// When the drain began, in coarse milliseconds; zero before.
    drain_began: AtomicU64,
    /// Another process serves on: WebSockets are told so.
    restarts: AtomicBool,
    /// Requests are each in a span of their own.
    request_spans: AtomicBool,
    /// Requests bear their peer's address.
    shows_peers: AtomicBool,
    /// How many of `entries`, with which it is locked, are at rest with an untold client: see [`Entry::stay_untold`].
    untold: AtomicUsize,
    /// All of them are.
    only_untold: AtomicBool,
    /// How many connections hyper has, with its buffers; and for [`Registry::has_holes`] the same at the sweep before, and the
    /// most there were.
    with_hyper: AtomicUsize,
    with_hyper_before: AtomicUsize,
    most_with_hyper: AtomicUsize,
    /// For how many sweeps it will have been lately that a large piece of an answer was sent.
    large_lately: AtomicU8,
    changed: Arc<Notify>,
}

/// What became of those that have left.
#[derive(Debug, Default)]
pub(super) struct Ended {
    connections: report::Connections,
    requests: report::Requests,
    pub(super) cut: Vec<Running>,
}

/// All counts at one moment.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: report::Connections,
    pub(crate) requests: report::Requests,
    pub(crate) in_flight: usize,
    /// Every state there is.
    pub(crate) by_state: Vec<(&'static str, usize)>,
}

// ===== impl Registry =====

impl Registry {
    pub(crate) fn new(plan: &Plan, changed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(Stage::Serve as u8),
            entries: Mutex::default(),
            ended: Mutex::default(),
            plan: Mutex::new(*plan),
            head_size: AtomicUsize::new(plan.head_size),
            drain_began: AtomicU64::new(0),
            restarts: AtomicBool::new(false),
            request_spans: AtomicBool::new(false),
            shows_peers: AtomicBool::new(false),
            untold: AtomicUsize::new(0),
            only_untold: AtomicBool::new(false),
            with_hyper: AtomicUsize::new(0),
            with_hyper_before: AtomicUsize::new(0),
            most_with_hyper: AtomicUsize::new(0),
            large_lately: AtomicU8::new(0),
            changed,
        })
    }

    pub(crate) fn set_plan(&self, plan: &Plan) {
        *lock(&self.plan) = *plan;
        self.head_size.store(plan.head_size, Relaxed);
    }

    pub(crate) fn set_request_spans(&self, on: bool) {
        self.request_spans.store(on, Relaxed);
    }

    pub(super) fn has_request_spans(&self) -> bool {
        self.request_spans.load(Relaxed)
    }

    /// Before the drain: its WebSockets are told that it is a restart.
    pub(crate) fn restarts(&self) {
        self.restarts.store(true, Relaxed);
    }

    /// What a WebSocket's Close says in the drain.
    pub(crate) fn close_code(&self) -> u16 {
        if self.restarts.load(Relaxed) { SERVICE_RESTART } else { GOING_AWAY }
    }

    /// From now on requests bear their peer's address.
    pub(crate) fn show_peers(&self) {
        self.shows_peers.store(true, Relaxed);
    }

    #[inline]
    pub(super) fn shows_peers(&self) -> bool {
        self.shows_peers.load(Relaxed)
    }

    pub(crate) fn plan(&self) -> Plan {
        *lock(&self.plan)
    }

    /// The most bytes that a head may have.
    pub(super) fn head_size(&self) -> usize {
        self.head_size.load(Relaxed)
    }

    /// When the drain began, in coarse milliseconds; zero before.
    pub(crate) fn drain_began(&self) -> u64 {
        self.drain_began.load(Relaxed)
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Relaxed))
    }

    /// Tells all connections, in one pass. Going back is not possible and is ignored.
    pub(crate) fn set_stage(&self, stage: Stage) {
        if stage == Stage::Drain {
            self.drain_began.store(coarse_millis(), Relaxed);
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
        let entry = Arc::new(Entry::new(Arc::clone(self), vacant.key(), peer));
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
        // Who sends a large piece meanwhile may be forgotten a sweep early.
        self.large_lately.store(self.large_lately.load(Relaxed).saturating_sub(1), Relaxed);
        let (now, plan) = (coarse_millis(), self.plan());
        let mut from = 0;
        loop {
            let piece: Vec<_> = {
                let entries = lock(&self.entries);
                let end = (from + PIECE).min(entries.capacity());
                if from >= end {
                    return;
                }
                (from..end).filter_map(|key| entries.get(key).filter(|e| e.is_due(now, &plan)).cloned()).collect()
            };
            piece.iter().for_each(|entry| entry.wake());
            from += PIECE;
        }
    }

    /// Takes an entry out, with its last words. Nothing if it is out already.
    pub(super) fn remove(&self, entry: &Entry, end: End) {
        let mut entries = lock(&self.entries);
        if !entries.get(entry.key()).is_some_and(|known| std::ptr::eq(&raw const **known, entry)) {
            return;
        }
        let removed = entries.remove(entry.key());
        // While serving nobody waits for it. Read with `entries` locked: who sets a stage locks them after that, and then sees
        // that this one is out.
        let last = entries.is_empty() && self.stage() > Stage::Serve;
        removed.close(end, &mut lock(&self.ended));
        if removed.is_untold() {
            self.untold.fetch_sub(1, Relaxed);
        }
        self.hurry_untold(entries);
        if last {
            self.changed.notify_one();
        }
        removed.tell(end);
    }

    pub(super) fn count_untold(&self, entry: &Entry, untold: bool) {
        let entries = lock(&self.entries);
        if entry.set_untold(untold) != untold {
            if untold {
                self.untold.fetch_add(1, Relaxed);
            } else {
                self.untold.fetch_sub(1, Relaxed);
            }
            self.hurry_untold(entries);
        }
    }

    /// Whether only untold clients hold up the end.
    pub(super) fn is_only_untold(&self) -> bool {
        self.only_untold.load(Relaxed)
    }

    /// Wakes those with untold clients, once, when only they are left.
    fn hurry_untold(&self, entries: MutexGuard<'_, Slab<Arc<Entry>>>) {
        let untold = self.untold.load(Relaxed);
        if untold == 0 {
            return;
        }
        let only = untold == entries.len();
        if self.only_untold.swap(only, Relaxed) || !only {
            return;
        }
        let entries: Vec<_> = entries.iter().map(|(_, entry)| Arc::clone(entry)).collect();
        entries.iter().for_each(|entry| entry.wake());
    }

    /// hyper gets a connection.
    pub(super) fn hyper_takes(&self) {
        self.with_hyper.fetch_add(1, Relaxed);
    }

    /// hyper has given one back.
    pub(super) fn hyper_gives_back(&self) {
        self.with_hyper.fetch_sub(1, Relaxed);
    }

    /// Whether hyper has given many connections back, and just now gives few: its memory is free, but in holes between what
    /// connections at rest keep. Asked at each sweep; true once.
    pub(crate) fn has_holes(&self) -> bool {
        const MANY: usize = 256;
        let now = self.with_hyper.load(Relaxed);
        let before = self.with_hyper_before.swap(now, Relaxed);
        let holes = self.most_with_hyper.fetch_max(now, Relaxed).saturating_sub(now);
        let has_holes = holes >= MANY && before.saturating_sub(now) <= holes / 16 && self.plan().give_back_memory;
        if has_holes {
            self.most_with_hyper.store(now, Relaxed);
        }
        has_holes
    }

    /// A large piece of an answer goes out.
    pub(super) fn sends_large(&self) {
        /// A minute, for two in a second.
        const SWEEPS: u8 = 120;
        if self.large_lately.load(Relaxed) != SWEEPS {
            self.large_lately.store(SWEEPS, Relaxed);
        }
    }

    /// Whether one went out in the last minute.
    pub(super) fn has_sent_large_lately(&self) -> bool {
        self.large_lately.load(Relaxed) > 0
    }

    pub(super) fn name_cut(&self, running: Running) {
        lock(&self.ended).cut.push(running);
    }

    /// A client had pipelined more behind the answer that said close.
    pub(super) fn left_behind(&self) {
        lock(&self.ended).connections.pipelined += 1;
    }

    /// Bytes came from a client after it was closed at rest.
    pub(super) fn raced(&self) {
        lock(&self.ended).connections.raced += 1;
    }

    /// The counts so far. Whatever is still open is unknown: at the end there is nothing of it.
    pub(crate) fn account(&self) -> (report::Connections, report::Requests, Vec<Running>) {
        // Both at once: who leaves in between would be in both, or in none.
        let (entries, ended) = (lock(&self.entries), lock(&self.ended));
        let open = entries.len() as u64;
        let mut connections = ended.connections;
        connections.accepted += open;
        connections.unknown = open;
        (connections, ended.requests, ended.cut.clone())
    }

    /// Counts everything that is still open as cut: what not even the cut ended, because its thread is blocked.
    pub(crate) fn abandon(&self) {
        let entries: Vec<_> = lock(&self.entries).iter().map(|(_, entry)| Arc::clone(entry)).collect();
        entries.iter().for_each(|entry| entry.leave(End::Cut));
    }

    /// How many connections are in each state that some are in.
    pub(crate) fn by_state(&self) -> Vec<(&'static str, usize)> {
        let mut counts = [0; State::ALL.len()];
        lock(&self.entries).iter().for_each(|(_, entry)| counts[entry.state() as usize] += 1);
        by_name(counts).into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// All counts, of what is open and of what has ended, as they are at one moment.
    #[cfg(feature = "metrics")]
    pub(crate) fn tally(&self) -> Tally {
        // Both at once, as in `account`. Of 10 000 connections it takes 0.6 ms, without optimization.
        let (entries, ended) = (lock(&self.entries), lock(&self.ended));
        let mut tally = Tally { connections: ended.connections, requests: ended.requests, ..Tally::default() };
        let mut by_state = [0; State::ALL.len()];
        tally.connections.accepted += entries.len() as u64;
        for (_, entry) in entries.iter() {
            let (state, requests, in_flight) = entry.tally();
            by_state[state as usize] += 1;
            tally.requests.add(&requests);
            tally.in_flight += in_flight;
        }
        drop((entries, ended));
        tally.by_state = by_name(by_state);
        tally
    }

    pub(crate) fn list(&self) -> Vec<Running> {
        let now = coarse_millis();
        let entries = lock(&self.entries);
        let mut running: Vec<_> = entries.iter().flat_map(|(_, entry)| entry.running(now)).collect();
        running.sort_by_key(|running| std::cmp::Reverse(running.age));
        running
    }
}

/// Two states may have one name.
fn by_name(counts: [usize; State::ALL.len()]) -> Vec<(&'static str, usize)> {
    let mut named: Vec<(&'static str, usize)> = Vec::new();
    for ((_, name), count) in State::ALL.into_iter().zip(counts) {
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => named.push((name, count)),
        }
    }
    named
}

impl Ended {
    pub(super) fn count(&mut self, end: End, late: bool, requests: &report::Requests) {
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
        self.requests.add(requests);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    /// An entry that is longer does not fit between its connection's task and tokio's registration of the socket, which are
    /// both placed at multiples of 128: 8 B more cost 170 of each connection at rest.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_entry_fits_the_gap_that_the_allocator_leaves() {
        assert!(size_of::<Entry>() <= 216, "{} B", size_of::<Entry>());
    }

    #[test]
    fn holes_are_seen_once_and_when_it_has_become_quiet() {
        let registry = Registry::new(&Plan::default(), Arc::default());
        let to_hyper = |count| (0..count).for_each(|_| registry.hyper_takes());
        let from_hyper = |count| (0..count).for_each(|_| registry.hyper_gives_back());
        to_hyper(1000);
        assert!(!registry.has_holes(), "nobody rests");
        from_hyper(200);
        assert!(!registry.has_holes(), "many are going to rest");
        assert!(!registry.has_holes(), "too few have");
        from_hyper(700);
        assert!(!registry.has_holes(), "many are going to rest");
        from_hyper(1);
        assert!(registry.has_holes());
        assert!(!registry.has_holes(), "that was said");
        // Some come, some go, and what one has freed is the next one's.
        for _ in 0..1000 {
            to_hyper(1);
            assert!(!registry.has_holes());
            from_hyper(1);
            assert!(!registry.has_holes());
        }
        to_hyper(400);
        assert!(!registry.has_holes(), "more than before");
        from_hyper(499);
        assert!(!registry.has_holes(), "many are going to rest");
        registry.set_plan(&Plan { give_back_memory: false, ..Plan::default() });
        assert!(!registry.has_holes(), "nobody wants to know");
        registry.set_plan(&Plan::default());
        assert!(registry.has_holes());
    }
}
