//! A round: all clients at once against one server, until it has ended or, in a control run, until they leave.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, Round};
use crate::kinds::Kind;
use crate::server::{Exit, Server};
use crate::tally::Tally;

/// The load runs so many milliseconds before the signal, counted from when all clients were connected.
const BEFORE: std::ops::Range<u64> = 0..600;
/// The most that this is waited for.
const CONNECTED: Duration = Duration::from_secs(5);
/// The load of a control run.
const CONTROL: Duration = Duration::from_millis(600);
/// A client that is still at it this long after its round was over hangs.
const AFTER: Duration = Duration::from_secs(20);

/// The counts of one kind: of the clients that look for FIN before they send, and of those that don't.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) looking: Tally,
    pub(crate) blind: Tally,
}

pub(crate) type ByKind = BTreeMap<Kind, Counts>;

pub(crate) struct Plan {
    pub(crate) command: Vec<OsString>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) clients: usize,
    /// Of a hundred clients, so many don't look.
    pub(crate) blind: usize,
    /// Of a hundred ends, so many find the server stopped.
    pub(crate) freeze: u32,
    pub(crate) seed: u64,
}

/// All kinds at once; the server is ended at a random moment.
pub(crate) async fn end(plan: &Plan, number: u32) -> anyhow::Result<(ByKind, Exit)> {
    let server = Server::start(&plan.command, number).await?;
    let mut rng = Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(number.into()));
    let before = Duration::from_micros(rng.u64(BEFORE.start * 1000..BEFORE.end * 1000));
    let round = new_round(&server, number);
    let clients = start_clients(plan, &plan.kinds, &round, &mut rng);
    connected(&round, clients.len()).await;
    sleep(before).await;
    // Stopped for a while, it finds the signal and what clients sent meanwhile in one wake.
    let freeze = rng.u32(0..100) < plan.freeze;
    if freeze {
        server.freeze(true)?;
        sleep(Duration::from_micros(rng.u64(1_000..50_000))).await;
    }
    let signalled = server.terminate()?;
    if freeze {
        server.freeze(false)?;
    }
    let _once = round.signalled.set(signalled);
    let exit = server.exit(signalled).await?;
    Ok((collect(clients).await, exit))
}

/// The same clients of each kind, one kind after the other, against a server that stays: nothing may be lost.
pub(crate) async fn control(plan: &Plan) -> anyhow::Result<(ByKind, Exit)> {
    let server = Server::start(&plan.command, 0).await?;
    let mut rng = Rng::with_seed(plan.seed);
    let mut counts = ByKind::new();
    for kind in &plan.kinds {
        let round = new_round(&server, 0);
        let clients = start_clients(plan, &[*kind], &round, &mut rng);
        sleep(CONTROL).await;
        round.over.store(true, Ordering::Relaxed);
        counts.extend(collect(clients).await);
    }
    let signalled = server.terminate()?;
    Ok((counts, server.exit(signalled).await?))
}

/// Busy clients keep those that come later waiting, and a client that never came proves nothing.
async fn connected(round: &Round, clients: usize) {
    let start = Instant::now();
    while round.opened.load(Ordering::Relaxed) < clients && start.elapsed() < CONNECTED {
        sleep(Duration::from_millis(1)).await;
    }
}

fn new_round(server: &Server, number: u32) -> Arc<Round> {
    Arc::new(Round {
        address: server.address,
        number,
        over: AtomicBool::new(false),
        opened: AtomicUsize::new(0),
        signalled: OnceLock::new(),
    })
}

type Clients = JoinSet<(Kind, bool, Tally)>;

/// `kinds` says which of the plan's clients come now.
fn start_clients(plan: &Plan, kinds: &[Kind], round: &Arc<Round>, rng: &mut Rng) -> Clients {
    let mut clients = JoinSet::new();
    for (kind, count) in shares(&plan.kinds, plan.clients).into_iter().filter(|(kind, _)| kinds.contains(kind)) {
        for index in 0..count {
            // Spread over the kind's clients, so that a small share is not zero of every kind.
            let looks = (index * plan.blind) / 100 == ((index + 1) * plan.blind) / 100;
            let (round, rng) = (Arc::clone(round), rng.fork());
            clients.spawn(async move { (kind, looks, one(kind, looks, &round, rng).await) });
        }
    }
    clients
}

async fn one(kind: Kind, looks: bool, round: &Round, rng: Rng) -> Tally {
    let mut client = Client { round, rng, looks, tally: Tally { clients: 1, ..Tally::default() }, has_opened: false };
    let patience = CONNECTED + Duration::from_millis(BEFORE.end) + AFTER;
    if timeout(patience, kind.run(&mut client)).await.is_err() {
        client.say("still at it when the round was long over");
    }
    // What it was in the middle of has no outcome.
    client.tally.lost += client.tally.open();
    client.tally
}

async fn collect(mut clients: Clients) -> ByKind {
    let mut counts = ByKind::new();
    while let Some(ended) = clients.join_next().await {
        // A client that panics is a defect of the bench and must not pass for one that lost nothing.
        let (kind, looks, tally) = ended.expect("no client panics");
        let of_kind = counts.entry(kind).or_default();
        if looks { &mut of_kind.looking } else { &mut of_kind.blind }.add(tally);
    }
    counts
}

/// Every kind has at least one client.
fn shares(kinds: &[Kind], clients: usize) -> Vec<(Kind, usize)> {
    let all: usize = kinds.iter().map(|kind| kind.weight()).sum();
    kinds.iter().map(|kind| (*kind, (clients * kind.weight() / all).max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gets_its_share_and_never_none() {
        assert_eq!(shares(&[Kind::Thinking, Kind::Sse], 60), [(Kind::Thinking, 50), (Kind::Sse, 10)]);
        assert_eq!(shares(&[Kind::Thinking, Kind::Sse], 2), [(Kind::Thinking, 1), (Kind::Sse, 1)]);
    }
}
