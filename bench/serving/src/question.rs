//! What was asked, and what was measured: the form in which it is kept.

use serde::{Deserialize, Serialize};

use crate::spread::{Judgement, Ratio, Spread, paired};

/// One part: a table of several groups.
#[derive(Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) part: String,
    pub(crate) title: String,
    /// How it is measured, in sentences.
    pub(crate) how: String,
    /// What was typed.
    pub(crate) command: String,
    /// Of which commit the library was, and on what machine.
    pub(crate) of: String,
    pub(crate) groups: Vec<Group>,
}

/// Servers that may be compared with each other.
#[derive(Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) unit: String,
    /// The row that the others are held against.
    pub(crate) baseline: Option<String>,
    pub(crate) wanted: Option<Wanted>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: bool,
    /// A figure each round.
    pub(crate) samples: Vec<f64>,
    /// Why there are no more of them.
    pub(crate) failed: Option<String>,
}

/// A bound for our row.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wanted {
    AtMost(f64),
    /// So many times that row.
    Times(f64, String),
    /// So much more than that row.
    Above(f64, String),
}

impl Group {
    pub(crate) fn new(title: impl Into<String>, unit: &str, baseline: Option<&str>) -> Self {
        let baseline = baseline.map(str::to_owned);
        Group { title: title.into(), unit: unit.to_owned(), baseline, wanted: None, rows: Vec::new() }
    }

    fn samples(&self, name: &str) -> &[f64] {
        self.rows.iter().find(|row| row.name == name && row.failed.is_none()).map_or(&[], |row| &row.samples)
    }

    /// None for the baseline itself, and where there is none.
    pub(crate) fn ratio(&self, row: &Row) -> Option<Ratio> {
        let baseline = self.baseline.as_ref().filter(|baseline| **baseline != row.name && row.failed.is_none())?;
        Some(Ratio::of(&row.samples, self.samples(baseline)))
    }

    /// Of a row of ours with a bound.
    pub(crate) fn judgement(&self, row: &Row) -> Option<Judgement> {
        let wanted = self.wanted.as_ref().filter(|_| row.ours && row.failed.is_none())?;
        let (figures, at_most) = match wanted {
            Wanted::AtMost(bound) => (row.samples.clone(), *bound),
            Wanted::Times(bound, of) => (paired(&row.samples, self.samples(of), |own, other| own / other), *bound),
            Wanted::Above(bound, of) => (paired(&row.samples, self.samples(of), |own, other| own - other), *bound),
        };
        let judgement = Judgement::of(&figures, at_most);
        let alike = matches!(wanted, Wanted::Times(times, of) if *times >= 1.0
            && Ratio::of(&row.samples, self.samples(of)) == Ratio::NoDifference);
        // Where no difference is seen, none is too large.
        Some(if alike && judgement == Judgement::Missed { Judgement::WithinTheSpread } else { judgement })
    }

    /// The bound in words.
    pub(crate) fn bound(&self) -> Option<String> {
        Some(match self.wanted.as_ref()? {
            Wanted::AtMost(bound) => format!("at most {} {}", figure(*bound), self.unit).trim_end().to_owned(),
            Wanted::Times(bound, of) => format!("at most {bound:.2} x {of}"),
            Wanted::Above(bound, of) => format!("at most {of} + {}", figure(*bound)),
        })
    }
}

impl Row {
    pub(crate) fn new(name: &str, ours: bool) -> Self {
        Row { name: name.to_owned(), ours, samples: Vec::new(), failed: None }
    }

    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(&self.samples)
    }
}

/// Three figures that say something, and thousands apart.
pub(crate) fn figure(number: f64) -> String {
    let size = number.abs();
    if size < 9.995 {
        return format!("{number:.2}");
    }
    if size < 99.95 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &digits[..]), |digits| ("-", digits));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    sign.to_owned() + &grouped
}

#[cfg(test)]
pub(crate) use tests::group as example;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn group() -> Group {
        let mut group = Group::new("GET /", "us", Some("bare hyper"));
        group.wanted = Some(Wanted::Times(1.05, "bare hyper".to_owned()));
        for (name, ours, samples) in [
            ("bare hyper", false, [5.0, 5.1, 4.9, 5.0, 5.0]),
            ("glidepath", true, [5.0, 5.2, 4.8, 5.1, 5.0]),
            ("other", false, [7.5, 7.6, 7.4, 7.5, 7.5]),
        ] {
            group.rows.push(Row { samples: samples.to_vec(), ..Row::new(name, ours) });
        }
        group
    }

    #[test]
    fn figures_are_short_and_grouped() {
        let figures = [0.0, 5.804, 9.996, 57.25, 99.96, 999.6, 12_345.6, 1_234_567.0, -1_500.0].map(figure);
        assert_eq!(figures, ["0.00", "5.80", "10.0", "57.2", "100", "1 000", "12 346", "1 234 567", "-1 500"]);
    }

    #[test]
    fn the_baseline_has_no_ratio_and_a_small_difference_none_either() {
        let group = group();
        assert_eq!(group.ratio(&group.rows[0]), None);
        assert_eq!(group.ratio(&group.rows[1]), Some(Ratio::NoDifference));
        assert!(matches!(group.ratio(&group.rows[2]), Some(Ratio::Seen(spread)) if spread.median > 1.4));
    }

    #[test]
    fn a_row_that_failed_is_compared_with_nothing() {
        let mut group = group();
        group.rows[0].failed = Some("it ended".to_owned());
        assert_eq!(group.ratio(&group.rows[2]), Some(Ratio::TooFewRounds));
        group.rows[1].failed = Some("it ended".to_owned());
        assert_eq!((group.ratio(&group.rows[1]), group.judgement(&group.rows[1])), (None, None));
    }

    #[test]
    fn each_kind_of_bound_is_judged_by_its_own_figure() {
        let mut group = group();
        let ours = |group: &Group| group.judgement(&group.rows[1]);
        assert_eq!((ours(&group), group.judgement(&group.rows[2])), (Some(Judgement::Kept), None));
        assert_eq!(group.bound().as_deref(), Some("at most 1.05 x bare hyper"));
        // A little more in each round, and far more in one: no difference is seen, and none can be too large.
        group.rows[1].samples = vec![5.4, 5.5, 9.0];
        group.wanted = Some(Wanted::Times(1.05, "bare hyper".to_owned()));
        assert_eq!(
            (group.ratio(&group.rows[1]), ours(&group)),
            (Some(Ratio::NoDifference), Some(Judgement::WithinTheSpread))
        );
        group.rows[1].samples = vec![5.0, 5.2, 4.8, 5.1, 5.0];
        group.wanted = Some(Wanted::Times(0.5, "other".to_owned()));
        assert_eq!(ours(&group), Some(Judgement::Missed));
        group.wanted = Some(Wanted::AtMost(5.0));
        assert_eq!(ours(&group), Some(Judgement::WithinTheSpread));
        assert_eq!(group.bound().as_deref(), Some("at most 5.00 us"));
        group.wanted = Some(Wanted::Above(-2.0, "other".to_owned()));
        assert_eq!(ours(&group), Some(Judgement::Kept));
        group.wanted = Some(Wanted::Above(-3.0, "other".to_owned()));
        assert_eq!(ours(&group), Some(Judgement::Missed));
        group.wanted = Some(Wanted::Times(1.0, "nobody".to_owned()));
        assert_eq!(ours(&group), Some(Judgement::TooFewRounds));
    }
}
