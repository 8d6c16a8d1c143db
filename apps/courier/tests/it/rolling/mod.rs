//! Three couriers behind a real balancer, replaced one after another under mixed load: no client sees a failure, and every
//! message that was accepted is delivered once.
//!
//! The short form runs with the other tests, where HAProxy and PostgreSQL are there. The long one is
//!
//! ```text
//! cargo test --release -p courier --test it rolling::long -- --ignored --nocapture
//! ```
//!
//! which rolls ROUNDS (20) times behind each of BALANCERS (`haproxy nginx`, and `envoy` where ENVOY names its program), prints
//! a table, and writes a picture for each to the folder PICTURES (target/rolling).

mod balancer;
mod fleet;
mod load;
mod picture;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::balancer::{Balancer, Kind};
use self::fleet::{Fleet, Way};
use self::load::{Counts, Load, Receiver};
use crate::postgres::Database;

/// What one run gave.
struct Outcome {
    kind: Kind,
    rounds: usize,
    counts: Counts,
    samples: Vec<load::Sample>,
    /// From when to when a courier was being replaced, and how.
    replaced: Vec<(Way, Duration, Duration)>,
    delivered: usize,
    twice: usize,
}

/// How long a balancer may take to see that a courier is back: two of its checks, and some.
const SEEN: Duration = Duration::from_millis(700);

async fn roll(kind: Kind, rounds: usize, ways: &[Way]) -> Option<Outcome> {
    let database = Database::create().await?;
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut fleet = Fleet::start(folder.path(), &database.url).await;
    let balancer = Balancer::start(kind, folder.path(), &fleet).await;
    let load = Load::start(&balancer, &receiver);
    let mut replaced = Vec::new();
    load.is_at_it().await;
    for round in 0..rounds {
        for way in ways {
            for place in 0..fleet::SIZE {
                let from = load.began.elapsed();
                fleet.replace(place, *way).await;
                replaced.push((*way, from, load.began.elapsed()));
                // The next one may go when the balancer has seen that this one is back.
                sleep(SEEN).await;
                load.is_at_it().await;
            }
        }
        println!("{kind}: round {} of {rounds}, {}", round + 1, load.counts());
    }
    let (counts, samples) = load.stop().await;
    let until = Instant::now() + crate::harness::BOUND;
    // What a killed courier had claimed comes when the claim lapses; that is SIG-9's, and not waited for here.
    let all_come = !ways.contains(&Way::Kill);
    while all_come && receiver.messages() < counts.accepted && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    fleet.end().await;
    balancer.end().await;
    let (delivered, twice) = (receiver.messages(), receiver.twice());
    Some(Outcome { kind, rounds, counts, samples, replaced, delivered, twice })
}

impl Outcome {
    #[track_caller]
    fn assert_nothing_was_lost(&self) {
        let Counts { accepted, .. } = self.counts;
        assert_eq!(self.counts.failures, [""; 0], "what clients saw behind {}", self.kind);
        assert_eq!((self.delivered, self.twice), (accepted, 0), "delivered, and twice, of {accepted} accepted");
    }
}

/// "0 failed requests seen by the clients, every accepted message delivered once", by an end and a new start and in place.
#[tokio::test(flavor = "multi_thread")]
async fn two_rounds_behind_haproxy_fail_no_request() {
    if !Kind::HaProxy.is_there() {
        assert!(std::env::var_os("SKIP_NOTHING").is_none(), "skipped: there is no haproxy");
        println!("SKIPPED: there is no haproxy");
        return;
    }
    let Some(outcome) = roll(Kind::HaProxy, 2, &[Way::StopStart, Way::InPlace]).await else { return };
    outcome.assert_nothing_was_lost();
}

/// The control: what is counted can be seen. A courier that is killed takes requests with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_behind_haproxy_fails_requests() {
    if !Kind::HaProxy.is_there() {
        println!("SKIPPED: there is no haproxy");
        return;
    }
    let Some(outcome) = roll(Kind::HaProxy, 1, &[Way::Kill]).await else { return };
    println!("{}: {:#?}", outcome.counts, outcome.counts.failures);
    assert_ne!(outcome.counts.failed, 0, "{}", outcome.counts);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes for each balancer, and prints a table"]
async fn long() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let names = std::env::var("BALANCERS").unwrap_or("haproxy nginx envoy".into());
    let pictures = std::env::var("PICTURES").unwrap_or(format!("{}/../../target/rolling", env!("CARGO_MANIFEST_DIR")));
    std::fs::create_dir_all(&pictures).unwrap();
    let mut outcomes = Vec::new();
    for name in names.split_whitespace() {
        let kind = Kind::by_name(name).unwrap_or_else(|| panic!("no balancer is called {name}"));
        if !kind.is_there() {
            println!("SKIPPED: {name} is not there");
            continue;
        }
        let outcome = roll(kind, rounds, &[Way::StopStart, Way::InPlace]).await.expect("PostgreSQL");
        let path = format!("{pictures}/{name}.svg");
        std::fs::write(&path, picture::draw(&outcome)).unwrap();
        println!("{path} is written");
        outcomes.push(outcome);
    }
    println!("{}", picture::table(&outcomes));
    outcomes.iter().for_each(Outcome::assert_nothing_was_lost);
}
