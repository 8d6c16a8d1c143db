//! The result: a table, the sentences below it, and JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::kinds::Kind;
use crate::load::{ByKind, Counts};
use crate::tally::Tally;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) command: String,
    pub(crate) seed: u64,
    pub(crate) ends: u32,
    pub(crate) clients: usize,
    pub(crate) kinds: BTreeMap<Kind, Counts>,
    pub(crate) control: BTreeMap<Kind, Counts>,
    /// Kinds whose control run lost something: their counts say nothing about the end.
    pub(crate) invalid: Vec<Kind>,
    /// From the signal to the exit.
    pub(crate) exit_ms: Vec<u64>,
    pub(crate) wrong_exits: Vec<String>,
    pub(crate) passed: bool,
}

impl Outcome {
    pub(crate) fn add(&mut self, counts: ByKind) {
        for (kind, counts) in counts {
            let sum = self.kinds.entry(kind).or_default();
            sum.looking.add(counts.looking);
            sum.blind.add(counts.blind);
        }
    }

    pub(crate) fn add_control(&mut self, counts: ByKind) {
        // A server that ends connections by itself, without a signal, is not what is measured here.
        let bad = |counts: &Counts| counts.looking.bad() + counts.looking.raced + counts.looking.refused > 0;
        self.invalid = counts.iter().filter(|(_, counts)| bad(counts)).map(|(kind, _)| *kind).collect();
        self.control = counts;
    }

    /// All clients that look, of all kinds.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.kinds.values().for_each(|counts| total.add(counts.looking.clone()));
        total
    }

    pub(crate) fn bad(&self) -> u64 {
        self.total().bad()
    }

    pub(crate) fn judge(&mut self) {
        let total = self.total();
        self.passed = total.bad() == 0
            && !total.races_too_often()
            && self.invalid.is_empty()
            && self.wrong_exits.is_empty()
            && total.sent > 0;
    }

    pub(crate) fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned)];
        for (kind, counts) in &self.kinds {
            rows.push(row(&kind.name(), &counts.looking, &counts.blind));
        }
        let mut blind = Tally::default();
        self.kinds.values().for_each(|counts| blind.add(counts.blind.clone()));
        rows.push(row("all", &self.total(), &blind));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let line = |row: &[String; HEAD.len()]| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(n, (cell, w))| if n == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let mut table = line(&rows[0]);
        table += &format!("|-{}|\n", widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().join("-|-"));
        rows[1..].iter().for_each(|row| table += &line(row));
        table
    }

    /// What the numbers mean, a sentence a line.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let total = self.total();
        let mut said = Vec::new();
        for (kind, counts) in &self.kinds {
            said.extend(counts.looking.notes.iter().map(|note| format!("{}: {note}", kind.name())));
        }
        for kind in &self.invalid {
            let counts = &self.control[kind].looking;
            said.push(format!(
                "invalid: {} lost {} of {} without any signal{}",
                kind.name(),
                counts.bad() + counts.raced + counts.refused,
                counts.sent,
                counts.notes.first().map(|note| format!(", such as: {note}")).unwrap_or_default(),
            ));
        }
        said.extend(self.wrong_exits.iter().take(5).cloned());
        let mut exits = self.exit_ms.clone();
        exits.sort_unstable();
        if let (Some(most), Some(median)) = (exits.last(), exits.get(exits.len() / 2)) {
            let well = exits.len() - self.wrong_exits.len().min(exits.len());
            let (median, most) = (Duration::from_millis(*median), Duration::from_millis(*most));
            said.push(format!(
                "exit: {well} of {} with code 0; {median:?} after the signal in the median, {most:?} at most",
                exits.len()
            ));
        }
        said.push(match total.raced {
            _ if total.sent < 100_000 => {
                format!("raced: {} of {} requests, too few to hold against 1 in 100 000", total.raced, total.sent)
            }
            0 => format!("raced: none of {} requests", total.sent),
            raced => format!("raced: {raced} of {} requests, 1 in {}", total.sent, total.sent / raced),
        });
        said.push(if self.passed {
            format!("nothing lost in {} ends", self.ends)
        } else {
            format!("FAILED: {} lost, {} reset, {} truncated", total.lost, total.resets(), total.truncated)
        });
        said
    }
}

const HEAD: [&str; 14] = [
    "kind",
    "clients",
    "sent",
    "answered",
    "untaken",
    "told close",
    "at rest",
    "refused",
    "goodbyes",
    "raced",
    "lost",
    "reset",
    "truncated",
    "blind: bad/sent",
];

fn row(name: &str, tally: &Tally, blind: &Tally) -> [String; HEAD.len()] {
    [
        name.to_owned(),
        tally.clients.to_string(),
        tally.sent.to_string(),
        tally.answered.to_string(),
        tally.untaken.to_string(),
        tally.told_close.to_string(),
        tally.at_rest.to_string(),
        tally.refused.to_string(),
        tally.goodbyes.to_string(),
        tally.raced.to_string(),
        tally.lost.to_string(),
        tally.resets().to_string(),
        tally.truncated.to_string(),
        format!("{}/{}", blind.bad(), blind.sent),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(tally: Tally) -> Outcome {
        let mut outcome = Outcome { ends: 1, ..Outcome::default() };
        outcome.add(ByKind::from([(Kind::Fresh, Counts { looking: tally, blind: Tally::default() })]));
        outcome.judge();
        outcome
    }

    #[test]
    fn an_end_without_a_loss_passes() {
        assert!(outcome(Tally { sent: 10, answered: 10, ..Tally::default() }).passed);
    }

    #[test]
    fn each_kind_of_loss_fails() {
        for tally in [
            Tally { lost: 1, ..Tally::default() },
            Tally { reset: 1, ..Tally::default() },
            Tally { reset_at_rest: 1, ..Tally::default() },
            Tally { truncated: 1, ..Tally::default() },
            Tally { raced: 1, ..Tally::default() },
        ] {
            assert!(!outcome(Tally { sent: 100_000, ..tally }).passed);
        }
    }

    #[test]
    fn nothing_sent_proves_nothing() {
        assert!(!outcome(Tally::default()).passed);
    }

    #[test]
    fn a_loss_in_the_control_or_a_wrong_exit_fails() {
        let mut outcome = outcome(Tally { sent: 1, answered: 1, ..Tally::default() });
        outcome.wrong_exits.push("ended with 1".into());
        outcome.judge();
        assert!(!outcome.passed);
        outcome.wrong_exits.clear();
        let lossy = Counts { looking: Tally { lost: 1, sent: 1, ..Tally::default() }, ..Counts::default() };
        outcome.add_control(ByKind::from([(Kind::Fresh, lossy)]));
        outcome.judge();
        assert_eq!((outcome.passed, outcome.invalid.len()), (false, 1));
    }

    #[test]
    fn what_blind_clients_lose_is_shown_and_fails_nothing() {
        let mut outcome = Outcome::default();
        let blind = Tally { sent: 7, lost: 3, ..Tally::default() };
        let looking = Tally { sent: 1, answered: 1, ..Tally::default() };
        outcome.add(ByKind::from([(Kind::Fresh, Counts { looking, blind })]));
        outcome.judge();
        assert!(outcome.passed && outcome.table().contains("3/7"), "{}", outcome.table());
    }
}
