//! Medians, how far the rounds lie apart, and whether a difference is one.

/// The rounds of one figure, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
    pub(crate) greatest: f64,
}

/// With fewer, a quartile is hardly more than a guess between two rounds, and all of them count.
const FOR_QUARTILES: usize = 5;
/// With fewer, nothing says how much chance there is in it.
const FOR_A_RATIO: usize = 3;

impl Spread {
    /// None of nothing.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let (lower, upper) = match sorted.len() >= FOR_QUARTILES {
            true => (quantile(&sorted, 0.25), quantile(&sorted, 0.75)),
            false => (least, greatest),
        };
        Some(Self { least, lower, median: quantile(&sorted, 0.5), upper, greatest })
    }

    pub(crate) fn width(self) -> f64 {
        self.upper - self.lower
    }
}

/// Between the two samples beside it, in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// One server against another, round by round: what slows the machine for a while slows both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ratio {
    /// It lies further from 1 than the rounds from each other.
    Seen(Spread),
    NoDifference,
    TooFewRounds,
}

impl Ratio {
    pub(crate) fn of(samples: &[f64], baseline: &[f64]) -> Self {
        let ratios = paired(samples, baseline, |sample, base| sample / base);
        match Spread::of(&ratios) {
            Some(spread) if ratios.len() >= FOR_A_RATIO => {
                let difference = (spread.median - 1.0).abs();
                // No spread and no difference is no difference either.
                if spread.width() >= difference { Ratio::NoDifference } else { Ratio::Seen(spread) }
            }
            _ => Ratio::TooFewRounds,
        }
    }
}

/// Both of one round, as one figure.
pub(crate) fn paired(samples: &[f64], baseline: &[f64], figure: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    samples.iter().zip(baseline).map(|(sample, base)| figure(*sample, *base)).filter(|n| n.is_finite()).collect()
}

/// What is said of a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Judgement {
    Kept,
    Missed,
    /// Some rounds on either side of it.
    WithinTheSpread,
    TooFewRounds,
}

impl Judgement {
    pub(crate) fn of(figures: &[f64], at_most: f64) -> Self {
        match Spread::of(figures) {
            Some(_) if figures.len() < FOR_A_RATIO => Judgement::TooFewRounds,
            Some(spread) if spread.upper <= at_most => Judgement::Kept,
            Some(spread) if spread.lower > at_most => Judgement::Missed,
            Some(_) => Judgement::WithinTheSpread,
            None => Judgement::TooFewRounds,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Judgement::Kept => "kept",
            Judgement::Missed => "missed",
            Judgement::WithinTheSpread => "within the spread",
            Judgement::TooFewRounds => "too few rounds",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(Spread::of(&[]), None);
        let median = |samples: &[f64]| Spread::of(samples).expect("there are some").median;
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), 5.5);
    }

    #[test]
    fn quartiles_are_taken_from_five_rounds_on_and_the_whole_range_below() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 100.0]).expect("there are some");
        assert_eq!((spread.least, spread.lower, spread.median), (1.0, 2.0, 4.0));
        assert_eq!((spread.upper, spread.greatest, spread.width()), (5.0, 100.0, 3.0));
        let four = Spread::of(&[5.0, 1.0, 4.0, 2.0]).expect("there are some");
        assert_eq!((four.lower, four.upper), (1.0, 5.0));
        let between = Spread::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("there are some");
        assert_eq!((between.lower, between.median, between.upper), (2.25, 3.5, 4.75));
    }

    #[test]
    fn a_ratio_is_refused_where_the_rounds_lie_further_apart_than_the_servers() {
        let base = [10.0; 5];
        let Ratio::Seen(seen) = Ratio::of(&[12.0, 12.1, 12.2, 11.9, 12.0], &base) else { panic!("a fifth more") };
        assert!((seen.median - 1.2).abs() < 1e-9, "{seen:?}");
        // A median of 1.05, but the quartiles are a tenth apart.
        assert_eq!(Ratio::of(&[9.0, 10.0, 10.5, 11.0, 12.0], &base), Ratio::NoDifference);
        // One wild round does not hide it.
        assert!(matches!(Ratio::of(&[12.0, 12.1, 12.2, 30.0, 12.0], &base), Ratio::Seen(_)));
        assert_eq!(Ratio::of(&base, &base), Ratio::NoDifference);
    }

    #[test]
    fn below_five_rounds_one_wild_round_is_enough_to_refuse() {
        assert!(matches!(Ratio::of(&[12.0, 12.1, 12.2], &[10.0; 3]), Ratio::Seen(_)));
        assert_eq!(Ratio::of(&[12.0, 12.1, 30.0], &[10.0; 3]), Ratio::NoDifference);
        assert_eq!(Ratio::of(&[12.0, 12.1], &[10.0; 2]), Ratio::TooFewRounds);
        assert_eq!(Ratio::of(&[], &[]), Ratio::TooFewRounds);
    }

    #[test]
    fn a_round_is_held_against_its_own_round() {
        // The machine was slow for both in the second and the fourth.
        let Ratio::Seen(seen) = Ratio::of(&[11.0, 22.0, 11.0, 33.0, 11.0], &[10.0, 20.0, 10.0, 30.0, 10.0]) else {
            panic!("a tenth more in each round")
        };
        assert!((seen.median - 1.1).abs() < 1e-9 && seen.width() < 1e-9, "{seen:?}");
        // A round in which the baseline is nothing says nothing.
        assert_eq!(paired(&[1.0, 2.0], &[0.0, 1.0], |sample, base| sample / base), [2.0]);
    }

    #[test]
    fn a_bound_is_kept_or_missed_only_when_most_rounds_say_so() {
        let five = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(Judgement::of(&five, 4.0), Judgement::Kept);
        assert_eq!(Judgement::of(&five, 3.0), Judgement::WithinTheSpread);
        assert_eq!(Judgement::of(&five, 1.9), Judgement::Missed);
        assert_eq!(Judgement::of(&[1.0, 1.0], 4.0), Judgement::TooFewRounds);
        assert_eq!(Judgement::of(&[], 4.0), Judgement::TooFewRounds);
    }
}
