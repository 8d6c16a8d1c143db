//! What a roll of the whole fleet costs in connections that clients have to make anew.
//!
//! Instances end in batches. In its drain an instance closes what clients keep open, at once or spread over a time; each
//! client connects anew, to any instance that accepts, and may have to do so again when that one's turn comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::Serialize;

/// All times in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) instances: u32,
    /// Connections that clients keep open to each instance, before the roll.
    pub(crate) kept: u32,
    /// Instances that end at a time.
    pub(crate) at_once: u32,
    pub(crate) lame_duck: f64,
    /// Over how long the closes of an instance are spread.
    pub(crate) spread: f64,
    /// From an instance's end to its successor's first accept.
    pub(crate) start: f64,
    /// Clients wait up to so long before they connect anew.
    pub(crate) backoff: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Roll {
    pub(crate) plan: Plan,
    pub(crate) seconds: f64,
    pub(crate) reconnects: u64,
    /// For each connection that was kept before.
    pub(crate) reconnects_each: f64,
    /// In the worst second: of the fleet, and of one instance.
    pub(crate) a_second: u64,
    pub(crate) a_second_at_one: u32,
    /// Connections at the fullest instance, over the mean, at its worst.
    pub(crate) fullest: f64,
    /// In each tenth of a second.
    #[serde(skip)]
    pub(crate) tenths: Vec<u32>,
}

/// Ten thousandths of a second, so that events have an order.
type Ticks = u64;
const SECOND: f64 = 10_000.0;

fn ticks(seconds: f64) -> Ticks {
    (seconds * SECOND).round() as Ticks
}

pub(crate) fn roll(plan: Plan, seed: u64) -> Roll {
    let mut fleet = State::new(plan, seed);
    let step = ticks(plan.lame_duck + plan.spread + plan.start);
    let batches = plan.instances.div_ceil(plan.at_once);
    for batch in 0..batches {
        let begin = u64::from(batch) * step;
        let ending = batch * plan.at_once..((batch + 1) * plan.at_once).min(plan.instances);
        fleet.reconnect_until(begin);
        fleet.ending = ending.clone();
        for instance in ending {
            fleet.close_all(instance, begin + ticks(plan.lame_duck));
        }
    }
    fleet.reconnect_until(u64::from(batches) * step);
    fleet.ending = 0..0;
    fleet.reconnect_until(Ticks::MAX);
    fleet.counted(u64::from(batches) * step)
}

struct State {
    plan: Plan,
    random: fastrand::Rng,
    /// Who does not accept: a balancer has turned away from them, or they are gone.
    ending: std::ops::Range<u32>,
    instances: Vec<Instance>,
    /// When somebody connects anew.
    waiting: BinaryHeap<Reverse<Ticks>>,
    tenths: Vec<u32>,
    fullest: u32,
    most_a_second: u32,
}

#[derive(Clone, Default)]
struct Instance {
    connections: u32,
    /// The second of its last connect, and how many came in it.
    second: (u64, u32),
}

impl State {
    fn new(plan: Plan, seed: u64) -> Self {
        State {
            plan,
            random: fastrand::Rng::with_seed(seed),
            ending: 0..0,
            instances: vec![Instance { connections: plan.kept, ..Instance::default() }; plan.instances as usize],
            waiting: BinaryHeap::new(),
            tenths: Vec::new(),
            fullest: plan.kept,
            most_a_second: 0,
        }
    }

    /// Its clients find out one by one, over the time of the spread, and each waits a little before it connects.
    fn close_all(&mut self, instance: u32, from: Ticks) {
        for _ in 0..std::mem::take(&mut self.instances[instance as usize].connections) {
            let closed = self.plan.spread * self.random.f64();
            let connects = from + ticks(closed + self.plan.backoff * self.random.f64());
            self.waiting.push(Reverse(connects));
        }
    }

    fn reconnect_until(&mut self, end: Ticks) {
        while let Some(Reverse(now)) = self.waiting.peek().copied().filter(|Reverse(now)| *now < end) {
            self.waiting.pop();
            let to = self.any_that_accepts();
            let instance = &mut self.instances[to];
            instance.connections += 1;
            let second = now / ticks(1.0);
            instance.second = if instance.second.0 == second { (second, instance.second.1 + 1) } else { (second, 1) };
            self.fullest = self.fullest.max(instance.connections);
            self.most_a_second = self.most_a_second.max(instance.second.1);
            let tenth = (now / ticks(0.1)) as usize;
            if tenth >= self.tenths.len() {
                self.tenths.resize(tenth + 1, 0);
            }
            self.tenths[tenth] += 1;
        }
    }

    fn any_that_accepts(&mut self) -> usize {
        let ending = self.ending.end - self.ending.start;
        let place = self.random.u32(..self.plan.instances - ending);
        (if place < self.ending.start { place } else { place + ending }) as usize
    }

    fn counted(self, ended: Ticks) -> Roll {
        let reconnects: u64 = self.tenths.iter().map(|count| u64::from(*count)).sum();
        let all = u64::from(self.plan.instances) * u64::from(self.plan.kept);
        let second = |tenths: &[u32]| tenths.iter().map(|count| u64::from(*count)).sum::<u64>();
        Roll {
            plan: self.plan,
            seconds: ended as f64 / SECOND,
            reconnects,
            reconnects_each: reconnects as f64 / all as f64,
            a_second: self.tenths.chunks(10).map(second).max().unwrap_or(0),
            a_second_at_one: self.most_a_second,
            fullest: f64::from(self.fullest) / f64::from(self.plan.kept),
            tenths: self.tenths,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan =
        Plan { instances: 500, kept: 200, at_once: 5, lame_duck: 5.0, spread: 0.0, start: 2.0, backoff: 0.1 };

    /// What is open where nobody has ended yet grows by its share of each that ends: e^x after a part x of them, and so a
    /// connection is closed e - 1 times in the mean.
    #[test]
    fn each_connection_is_made_anew_1_72_times_where_clients_choose_at_random() {
        let rolled = roll(PLAN, 1);
        let expected = std::f64::consts::E - 1.0;
        assert!(
            (rolled.reconnects_each / expected - 1.0).abs() < 0.02,
            "{} and not {expected}",
            rolled.reconnects_each
        );
        assert!(rolled.fullest > 2.5, "the last to end holds e times its share: {}", rolled.fullest);
    }

    #[test]
    fn nobody_is_lost_on_the_way() {
        let mut fleet = State::new(PLAN, 1);
        fleet.ending = 0..5;
        (0..5).for_each(|instance| fleet.close_all(instance, 0));
        fleet.reconnect_until(Ticks::MAX);
        assert_eq!(fleet.instances.iter().map(|instance| instance.connections).sum::<u32>(), 500 * 200);
        assert!(
            fleet.instances[..5].iter().all(|instance| instance.connections == 0),
            "somebody went to one that ends"
        );
    }

    #[test]
    fn a_spread_lowers_the_peak_and_not_the_sum() {
        let (at_once, spread) = (roll(PLAN, 1), roll(Plan { spread: 10.0, ..PLAN }, 1));
        assert!(spread.a_second * 5 < at_once.a_second, "{} and {}", spread.a_second, at_once.a_second);
        assert!((spread.reconnects_each / at_once.reconnects_each - 1.0).abs() < 0.02);
    }

    #[test]
    fn one_batch_of_all_but_one_moves_each_once_or_twice() {
        let rolled = roll(Plan { instances: 10, at_once: 9, ..PLAN }, 1);
        assert!((1.0..=2.0).contains(&rolled.reconnects_each), "{}", rolled.reconnects_each);
    }
}
