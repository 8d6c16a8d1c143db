//! How long balancers go on sending to an instance that ends, and who is refused meanwhile.
//!
//! The instance is told to end at 0. Its readiness fails from then on; it accepts until its lame duck is over, and then
//! refuses. Each balancer asks for its readiness by its own clock, and turns away after so many failures in a row.

use serde::Serialize;

/// Of one kind: all times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Balancer {
    /// Between two checks of an instance.
    pub(crate) interval: f64,
    /// Failed checks in a row until it is turned away from. None: it hears of the end by other ways than checks.
    pub(crate) fall: u32,
    /// What it takes at least, and at most, until all that route for it have heard.
    pub(crate) delay: (f64, f64),
    /// Refused connections until it turns away by itself.
    pub(crate) refusals: Option<u32>,
}

impl Balancer {
    /// When the last of them has turned away, whatever their clocks say: the lame duck that refuses nobody.
    pub(crate) fn slowest(&self) -> f64 {
        self.interval * f64::from(self.fall) + self.delay.1
    }

    fn turns_away(&self, random: &mut fastrand::Rng) -> f64 {
        let (least, most) = self.delay;
        let checked = match self.fall {
            0 => 0.0,
            fall => self.interval * (random.f64() + f64::from(fall - 1)),
        };
        checked + least + (most - least) * random.f64()
    }
}

/// How often, and how many of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Fleet {
    /// Instances that are ended.
    pub(crate) instances: u32,
    pub(crate) balancers: u32,
    /// New connections a second from each balancer to each instance. What is pooled is told of the end, and not refused.
    pub(crate) connects: f64,
}

/// What became of those who connected.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Turning {
    pub(crate) lame_duck: f64,
    /// Connections refused, at each instance in the mean.
    pub(crate) refused: f64,
    /// At the instance with most.
    pub(crate) refused_most: u32,
    /// Of all instances, those that refused nobody.
    pub(crate) refused_nobody: f64,
    /// When the last balancer had turned away from the instance where that took longest.
    pub(crate) last_turned: f64,
}

pub(crate) fn turning(fleet: Fleet, balancer: Balancer, lame_duck: f64, seed: u64) -> Turning {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut all, mut most, mut nobody, mut last) = (0, 0, 0, 0_f64);
    for _ in 0..fleet.instances {
        let mut refused = 0;
        for _ in 0..fleet.balancers {
            let turns = balancer.turns_away(&mut random);
            let (few, when) = refusals(fleet, balancer, lame_duck, turns, &mut random);
            refused += few;
            last = last.max(when);
        }
        all += u64::from(refused);
        most = most.max(refused);
        nobody += u32::from(refused == 0);
    }
    Turning {
        lame_duck,
        refused: all as f64 / f64::from(fleet.instances),
        refused_most: most,
        refused_nobody: f64::from(nobody) / f64::from(fleet.instances),
        last_turned: last,
    }
}

/// By one instance of one balancer, which would turn away at `turns`; and when it did.
fn refusals(fleet: Fleet, balancer: Balancer, from: f64, turns: f64, random: &mut fastrand::Rng) -> (u32, f64) {
    let (mut refused, mut now) = (0, from);
    loop {
        // Arrivals are independent of each other: the time between two is exponential.
        now += -(1.0 - random.f64()).ln() / fleet.connects;
        if now >= turns {
            return (refused, turns);
        }
        refused += 1;
        if balancer.refusals == Some(refused) {
            return (refused, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Fleet = Fleet { instances: 2000, balancers: 4, connects: 10.0 };
    const CHECKS: Balancer = Balancer { interval: 2.0, fall: 3, delay: (0.5, 1.5), refusals: None };

    #[test]
    fn a_lame_duck_as_long_as_the_slowest_balancer_refuses_nobody() {
        let turned = turning(FLEET, CHECKS, CHECKS.slowest(), 1);
        assert_eq!((turned.refused, turned.refused_most, turned.refused_nobody), (0.0, 0, 1.0));
        assert!(turned.last_turned <= CHECKS.slowest(), "{turned:?}");
    }

    #[test]
    fn a_shorter_one_refuses_some() {
        let turned = turning(FLEET, CHECKS, CHECKS.slowest() - 0.5, 1);
        assert!(turned.refused_most > 0 && turned.refused_nobody < 1.0, "{turned:?}");
    }

    /// A check comes half an interval after the end in the mean, two more follow, and the news takes a second.
    #[test]
    fn without_a_lame_duck_each_balancer_is_refused_as_long_as_it_takes_in_the_mean() {
        let turned = turning(FLEET, CHECKS, 0.0, 1);
        let expected = 4.0 * 10.0 * (1.0 + 2.0 * 2.0 + 1.0);
        assert!((turned.refused / expected - 1.0).abs() < 0.02, "{} and not {expected}", turned.refused);
    }

    #[test]
    fn who_turns_away_by_itself_is_refused_so_often_and_no_more() {
        let turned = turning(FLEET, Balancer { refusals: Some(1), ..CHECKS }, 0.0, 1);
        assert_eq!(turned.refused_most, 4, "{turned:?}");
    }
}
