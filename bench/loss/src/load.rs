//! A round: all clients at once against one server, until it has ended or, in a control run, until they leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;
use tokio::sync::SetOnce;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, Round};
use crate::kinds::{Class, Kind};
use crate::program::Program;
use crate::server::{Exit, Server};
use crate::stream::connector;
use crate::tally::Tally;

/// The load runs so many milliseconds before the signal, counted from when all clients were connected.
const BEFORE: std::ops::Range<u64> = 0..600;
/// The most that this is waited for.
const CONNECTED: Duration = Duration::from_secs(5);
/// The load of a control run.
const CONTROL: Duration = Duration::from_millis(600);
/// How long a lame duck is, in milliseconds.
const LAME_DUCK: std::ops::Range<u64> = 100..500;
/// Of each kind at least so many in a control run: over TLS and not, more than one of them looking.
const LEAST: usize = 4;
/// A client that is still at it this long after its round was over hangs.
const AFTER: Duration = Duration::from_secs(20);

/// The counts of one class: of the clients that look for FIN before they send, and of those that don't.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) looking: Tally,
    pub(crate) blind: Tally,
}

pub(crate) type ByClass = BTreeMap<Class, Counts>;

pub(crate) struct Plan {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) clients: usize,
    /// Of a hundred clients, so many don't look.
    pub(crate) blind: usize,
    /// Of a hundred clients, so many come over TLS.
    pub(crate) tls: usize,
    /// Of a hundred ends, so many find the server stopped.
    pub(crate) freeze: u32,
    /// Of a hundred ends, so many begin with a lame duck.
    pub(crate) lame_duck: u32,
    pub(crate) seed: u64,
}

/// All kinds at once; the server is ended at a random moment.
pub(crate) async fn end(plan: &Plan, program: &Program, out: &[Class], number: u32) -> anyhow::Result<(ByClass, Exit)> {
    let mut rng = Rng::with_seed(plan.seed.wrapping_mul(1_000_003).wrapping_add(number.into()));
    let before = Duration::from_micros(rng.u64(BEFORE.start * 1000..BEFORE.end * 1000));
    let freeze = (rng.u32(0..100) < plan.freeze).then(|| Duration::from_micros(rng.u64(1_000..50_000)));
    let lame_duck = Duration::from_millis(rng.u64(LAME_DUCK));
    let is_lame = rng.u32(0..100) < plan.lame_duck && program.lame_duck;
    let mut server = Server::start(program, number, if is_lame { lame_duck } else { Duration::ZERO }).await?;
    let round = new_round(&server, number)?;
    let clients = start_clients(&round, guests(plan, &plan.kinds, number, 1, out, &mut rng));
    connected(&round, clients.len()).await;
    sleep(before).await;
    // Stopped for a while, it finds the signal and what clients sent meanwhile in one wake.
    if let Some(freeze) = freeze {
        server.freeze(true)?;
        let _once = round.frozen.set(());
        sleep(freeze).await;
    }
    let signalled = server.terminate()?;
    if freeze.is_some() {
        server.freeze(false)?;
    }
    let _once = round.signalled.set(signalled);
    let exit = server.exit(signalled).await?;
    Ok((collect(clients).await, exit))
}

/// The same clients of each kind, one kind after the other, against a server that stays: nothing may be lost.
pub(crate) async fn control(plan: &Plan, program: &Program, out: &[Class]) -> anyhow::Result<(ByClass, Exit)> {
    let mut rng = Rng::with_seed(plan.seed);
    let mut server = Server::start(program, 0, Duration::ZERO).await?;
    let mut counts = ByClass::new();
    for kind in &plan.kinds {
        let round = new_round(&server, 0)?;
        let clients = start_clients(&round, guests(plan, &[*kind], 0, LEAST, out, &mut rng));
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

fn new_round(server: &Server<'_>, number: u32) -> anyhow::Result<Arc<Round>> {
    let tls = match server.tls {
        Some(address) => Some((address, connector(b"http/1.1")?, connector(b"h2")?)),
        None => None,
    };
    Ok(Arc::new(Round {
        address: server.address,
        tls,
        number,
        over: AtomicBool::new(false),
        opened: AtomicUsize::new(0),
        signalled: SetOnce::new(),
        frozen: SetOnce::new(),
    }))
}

type Clients = JoinSet<(Class, bool, Tally)>;

/// A client that is to come: its class, whether it looks, and its own chance.
type Guest = (Class, bool, Rng);

/// Each client of these kinds, but for those that the server can't serve. They have no part in the others' chance: servers
/// that lack different things meet the same clients otherwise.
fn guests(plan: &Plan, kinds: &[Kind], turn: u32, least: usize, out: &[Class], rng: &mut Rng) -> Vec<Guest> {
    // Spread over the kind's clients, so that a small share is not zero of every kind.
    let falls = |index: usize, share: usize| (index * share) / 100 != ((index + 1) * share) / 100;
    let mut guests = Vec::new();
    for (kind, count) in shares(&plan.kinds, plan.clients).into_iter().filter(|(kind, _)| kinds.contains(kind)) {
        for index in 0..count.max(least) {
            // A kind with one client comes over TLS in one end, and without it in the next.
            let tls = falls(index + turn as usize, plan.tls);
            guests.push((Class { kind, tls }, !falls(index, plan.blind), rng.fork()));
        }
    }
    guests.retain(|(class, ..)| !out.contains(class));
    guests
}

fn start_clients(round: &Arc<Round>, guests: Vec<Guest>) -> Clients {
    let mut clients = JoinSet::new();
    for (class, looks, rng) in guests {
        let round = Arc::clone(round);
        clients.spawn(async move { (class, looks, one(class, looks, &round, rng).await) });
    }
    clients
}

async fn one(class: Class, looks: bool, round: &Round, rng: Rng) -> Tally {
    let mut client = Client::new(round, rng, looks, class.tls);
    client.tally.clients = 1;
    let patience = CONNECTED + Duration::from_millis(BEFORE.end + LAME_DUCK.end) + AFTER;
    if timeout(patience, class.kind.run(&mut client)).await.is_err() {
        client.say("still at it when the round was long over");
        // What it was in the middle of is lost, also where it had not counted that yet.
        client.tally.sent += u64::from(client.tally.open() == 0);
    }
    let mut tally = client.count();
    tally.hurt = u64::from(tally.bad() > 0);
    tally
}

async fn collect(mut clients: Clients) -> ByClass {
    let mut counts = ByClass::new();
    while let Some(ended) = clients.join_next().await {
        // A client that panics is a defect of the bench and must not pass for one that lost nothing.
        let (class, looks, tally) = ended.expect("no client panics");
        let of_class = counts.entry(class).or_default();
        if looks { &mut of_class.looking } else { &mut of_class.blind }.add(tally);
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

    fn plan() -> Plan {
        let kinds = vec![Kind::Thinking, Kind::Sse];
        Plan { kinds, clients: 60, blind: 20, tls: 50, freeze: 0, lame_duck: 0, seed: 1 }
    }

    #[test]
    fn half_come_over_tls_and_each_half_has_blind_ones() {
        let clients = guests(&plan(), &[Kind::Thinking], 1, 1, &[], &mut Rng::with_seed(1));
        let count = |tls, looks| clients.iter().filter(|(class, l, _)| class.tls == tls && *l == looks).count();
        assert_eq!((count(true, true), count(false, true), count(true, false), count(false, false)), (20, 20, 5, 5));
    }

    #[test]
    fn what_the_server_lacks_does_not_come() {
        let out = [Class { kind: Kind::Sse, tls: true }];
        let sse = |out: &[Class]| guests(&plan(), &[Kind::Sse], 1, 1, out, &mut Rng::with_seed(1));
        let (all, some) = (sse(&[]), sse(&out));
        assert_eq!((all.len(), some.len(), some.iter().any(|(class, ..)| class.tls)), (10, 5, false));
        let clear: Vec<_> = all.into_iter().filter(|(class, ..)| !class.tls).map(|(.., rng)| rng).collect();
        assert_eq!(some.into_iter().map(|(.., rng)| rng).collect::<Vec<_>>(), clear, "the others have the same chance");
    }

    #[test]
    fn a_control_run_has_clients_over_tls_and_not_of_the_smallest_kind() {
        let plan = Plan { clients: 2, ..plan() };
        let clients = guests(&plan, &[Kind::Sse], 0, LEAST, &[], &mut Rng::with_seed(1));
        let looking = |tls| clients.iter().filter(|(class, looks, _)| class.tls == tls && *looks).count();
        assert_eq!((looking(true), looking(false)), (2, 2));
    }
}
