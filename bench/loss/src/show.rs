//! The result: a table, the sentences below it, and JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::kinds::Class;
use crate::load::{ByClass, Counts};
use crate::server::Exit;
use crate::tally::Tally;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) server: String,
    pub(crate) seed: u64,
    pub(crate) ends: u32,
    /// So many of them so far.
    pub(crate) done: u32,
    pub(crate) clients: usize,
    pub(crate) kinds: BTreeMap<Class, Counts>,
    pub(crate) control: BTreeMap<Class, Counts>,
    /// Classes whose control run lost something: their counts say nothing about the end.
    pub(crate) invalid: Vec<Class>,
    /// Classes that the server can't serve, and why.
    pub(crate) left_out: BTreeMap<Class, String>,
    /// From the signal, or from the end of the lame duck, to the exit.
    pub(crate) exit_ms: Vec<u64>,
    /// So many began with a lame duck.
    pub(crate) lame_ducks: u32,
    pub(crate) wrong_exits: Vec<String>,
    pub(crate) passed: bool,
}

impl Outcome {
    pub(crate) fn add(&mut self, counts: ByClass) {
        for (class, counts) in counts {
            let sum = self.kinds.entry(class).or_default();
            sum.looking.add(counts.looking);
            sum.blind.add(counts.blind);
        }
    }

    pub(crate) fn add_exit(&mut self, exit: &Exit) {
        let took = exit.took.saturating_sub(exit.lame_duck);
        self.exit_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.lame_ducks += u32::from(!exit.lame_duck.is_zero());
        let wrong = exit.wrong().map(|wrong| format!("end {}: {wrong}: {}", self.done + 1, exit.said.trim()));
        self.wrong_exits.extend(wrong);
        self.done += 1;
    }

    pub(crate) fn add_control(&mut self, counts: ByClass) {
        // A server that ends connections by itself, without a signal, is not what is measured here.
        let bad = |counts: &Counts| counts.looking.bad() + counts.looking.raced + counts.looking.refused > 0;
        self.invalid = counts.iter().filter(|(_, counts)| bad(counts)).map(|(class, _)| *class).collect();
        self.control = counts;
    }

    /// A server to compare with: what it can't serve in peace is not held against its end.
    pub(crate) fn leave_out_invalid(&mut self) {
        for class in std::mem::take(&mut self.invalid) {
            let tally = &self.control[&class].looking;
            let lost = tally.bad() + tally.raced + tally.refused;
            self.left_out.insert(class, format!("lost {lost} of {} without a signal", tally.sent));
        }
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
            && self.done == self.ends
            && total.sent > 0;
    }

    pub(crate) fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        for (class, counts) in &self.kinds {
            rows.push(row(class, &counts.looking, &counts.blind));
        }
        rows.push(row(&"all", &self.total(), &self.blind()));
        aligned(&rows)
    }

    fn blind(&self) -> Tally {
        let mut blind = Tally::default();
        self.kinds.values().for_each(|counts| blind.add(counts.blind.clone()));
        blind
    }

    /// In one line what was left out: by reason, with its classes where the reason doesn't tell them.
    fn what_was_left_out(&self) -> String {
        let mut reasons = BTreeMap::<&str, Vec<String>>::new();
        for (class, reason) in &self.left_out {
            reasons.entry(reason).or_default().push(class.to_string());
        }
        let said = reasons.iter().map(|(reason, classes)| match reason.starts_with("no ") {
            true => (*reason).to_owned(),
            false => format!("{}: {reason}", classes.join(", ")),
        });
        let said: Vec<_> = said.collect();
        if said.is_empty() { "nothing".to_owned() } else { said.join("; ") }
    }

    /// The same where there is little room: of what went wrong in peace, how many kinds.
    fn left_out_in_short(&self) -> String {
        let (lacks, wrong): (Vec<_>, Vec<_>) = self.left_out.values().partition(|reason| reason.starts_with("no "));
        let mut said: Vec<String> = lacks.into_iter().cloned().collect();
        said.sort();
        said.dedup();
        if !wrong.is_empty() {
            said.push(format!("{} kinds that go wrong without a signal, too", wrong.len()));
        }
        if said.is_empty() { "nothing".to_owned() } else { said.join("; ") }
    }

    /// What the numbers mean, a sentence a line.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let total = self.total();
        let mut said = Vec::new();
        for (class, counts) in &self.kinds {
            said.extend(counts.looking.notes.iter().map(|note| format!("{class}: {note}")));
        }
        for class in &self.invalid {
            let counts = &self.control[class].looking;
            said.push(format!(
                "invalid: {class} lost {} of {} without any signal{}",
                counts.bad() + counts.raced + counts.refused,
                counts.sent,
                counts.notes.first().map(|note| format!(", such as: {note}")).unwrap_or_default(),
            ));
        }
        if !self.left_out.is_empty() {
            said.push(format!("left out: {}", self.what_was_left_out()));
        }
        said.extend(self.wrong_exits.iter().take(5).cloned());
        if let Some((median, most)) = self.exit_times() {
            let (median, most) = (Duration::from_millis(median), Duration::from_millis(most));
            said.push(format!(
                "exit: {} of {} as they should; {median:?} after the signal in the median, {most:?} at most",
                self.exit_ms.len() - self.wrong_exits.len().min(self.exit_ms.len()),
                self.exit_ms.len()
            ));
        }
        if self.lame_ducks > 0 {
            said.push(format!(
                "lame duck: {} of the ends; their exits are counted from where it was over",
                self.lame_ducks
            ));
        }
        if total.no_goodbye > 0 {
            said.push(format!("no goodbye: {} connections over TLS ended without close_notify", total.no_goodbye));
        }
        said.push(match total.raced {
            _ if total.sent < 100_000 => {
                format!("raced: {} of {} requests, too few to hold against 1 in 100 000", total.raced, total.sent)
            }
            0 => format!("raced: none of {} requests", total.sent),
            raced => format!("raced: {raced} of {} requests, 1 in {}", total.sent, total.sent / raced),
        });
        said.push(if self.passed {
            format!("nothing lost in {} ends", self.done)
        } else {
            format!("FAILED: {} lost, {} reset, {} truncated", total.lost, total.resets(), total.truncated)
        });
        said
    }

    /// The median, and the most.
    fn exit_times(&self) -> Option<(u64, u64)> {
        let mut exits = self.exit_ms.clone();
        exits.sort_unstable();
        Some((*exits.get(exits.len() / 2)?, *exits.last()?))
    }
}

/// A row for each server.
pub(crate) fn side_by_side(outcomes: &[Outcome]) -> String {
    let mut rows = vec![SIDE_BY_SIDE.map(str::to_owned).to_vec()];
    for outcome in outcomes {
        let (total, blind) = (outcome.total(), outcome.blind());
        let (median, most) = outcome.exit_times().unwrap_or_default();
        rows.push(vec![
            outcome.server.clone(),
            outcome.done.to_string(),
            format!("{} of {}", total.hurt, total.clients),
            total.sent.to_string(),
            total.answered.to_string(),
            total.untaken.to_string(),
            total.raced.to_string(),
            total.lost.to_string(),
            total.resets().to_string(),
            total.truncated.to_string(),
            total.goodbyes.to_string(),
            total.no_goodbye.to_string(),
            format!("{}/{}", blind.bad(), blind.sent),
            format!("{median} / {most}"),
            outcome.wrong_exits.len().to_string(),
            outcome.what_was_left_out(),
        ]);
    }
    aligned(&rows)
}

const SIDE_BY_SIDE: [&str; 16] = [
    "server",
    "ends",
    "clients hurt",
    "sent",
    "answered",
    "untaken",
    "raced",
    "lost",
    "reset",
    "truncated",
    "goodbyes",
    "no goodbye",
    "blind: bad/sent",
    "exit ms, median / most",
    "wrong exits",
    "left out",
];

/// What matters most of each server, for a page that has other things to say, too.
pub(crate) fn brief(outcomes: &[Outcome], command: &str) -> String {
    let head = [
        "server",
        "clients hurt",
        "requests",
        "raced",
        "lost",
        "reset",
        "truncated",
        "exit ms, median / most",
        "left out",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for outcome in outcomes {
        let total = outcome.total();
        let exits = outcome.exit_times().map(|(median, most)| format!("{median} / {most}"));
        rows.push(vec![
            outcome.server.clone(),
            format!("{} of {}", total.hurt, total.clients),
            total.sent.to_string(),
            total.raced.to_string(),
            total.lost.to_string(),
            total.resets().to_string(),
            total.truncated.to_string(),
            exits.unwrap_or_else(|| "none".to_owned()),
            outcome.left_out_in_short(),
        ]);
    }
    let ends = outcomes.iter().map(|outcome| outcome.done).min().unwrap_or_default();
    format!("`{command}`\n\n{}\n{ends} ends each; of the clients that look for FIN before they send.\n", aligned(&rows))
}

/// Everything as Markdown: the servers side by side, then each by kinds.
pub(crate) fn markdown(outcomes: &[Outcome], command: &str) -> String {
    let mut text = format!("`{command}`\n");
    if outcomes.len() > 1 {
        text += &format!("\n{}", side_by_side(outcomes));
    }
    for outcome in outcomes {
        text += &format!("\n## {}\n\nSeed {}, {} clients.\n\n", outcome.server, outcome.seed, outcome.clients);
        text += &outcome.table();
        text += "\n";
        outcome.sentences().iter().for_each(|sentence| text += &format!("- {}\n", sentence.replace('\n', " ")));
    }
    text
}

/// A table in Markdown that can be read as it is.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(n, (cell, w))| if n == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut table = line(&rows[0]);
    let dashes =
        widths.iter().enumerate().map(|(n, w)| if n == 0 { "-".repeat(w + 2) } else { "-".repeat(w + 1) + ":" });
    table += &format!("|{}|\n", dashes.collect::<Vec<_>>().join("|"));
    rows[1..].iter().for_each(|row| table += &line(row));
    table
}

const HEAD: [&str; 15] = [
    "kind",
    "clients",
    "sent",
    "answered",
    "untaken",
    "told close",
    "at rest",
    "refused",
    "goodbyes",
    "no goodbye",
    "raced",
    "lost",
    "reset",
    "truncated",
    "blind: bad/sent",
];

fn row(name: &dyn fmt::Display, tally: &Tally, blind: &Tally) -> Vec<String> {
    vec![
        name.to_string(),
        tally.clients.to_string(),
        tally.sent.to_string(),
        tally.answered.to_string(),
        tally.untaken.to_string(),
        tally.told_close.to_string(),
        tally.at_rest.to_string(),
        tally.refused.to_string(),
        tally.goodbyes.to_string(),
        tally.no_goodbye.to_string(),
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
    use crate::kinds::Kind;

    const FRESH: Class = Class { kind: Kind::Fresh, tls: false };

    fn outcome(tally: Tally) -> Outcome {
        let mut outcome = Outcome { ends: 1, done: 1, ..Outcome::default() };
        outcome.add(ByClass::from([(FRESH, Counts { looking: tally, blind: Tally::default() })]));
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
        outcome.add_control(ByClass::from([(FRESH, lossy)]));
        outcome.judge();
        assert_eq!((outcome.passed, outcome.invalid.len()), (false, 1));
    }

    #[test]
    fn what_blind_clients_lose_is_shown_and_fails_nothing() {
        let mut outcome = Outcome::default();
        let blind = Tally { sent: 7, lost: 3, ..Tally::default() };
        let looking = Tally { sent: 1, answered: 1, ..Tally::default() };
        outcome.add(ByClass::from([(FRESH, Counts { looking, blind })]));
        outcome.judge();
        assert!(outcome.passed && outcome.table().contains("3/7"), "{}", outcome.table());
    }

    #[test]
    fn a_run_that_was_not_finished_does_not_pass() {
        let mut outcome = outcome(Tally { sent: 10, answered: 10, ..Tally::default() });
        outcome.ends = 2;
        outcome.judge();
        assert!(!outcome.passed);
    }

    #[test]
    fn servers_stand_side_by_side_with_what_each_lacks() {
        let mut lossy = outcome(Tally { sent: 9, answered: 7, lost: 2, ..Tally::default() });
        lossy.server = "other".into();
        lossy.left_out.insert(Class { kind: Kind::Fresh, tls: true }, "no TLS".into());
        lossy.left_out.insert(Class { kind: Kind::Sse, tls: true }, "no TLS".into());
        lossy.left_out.insert(Class { kind: Kind::Sse, tls: false }, "no /sse".into());
        let table = side_by_side(&[outcome(Tally { sent: 5, answered: 5, ..Tally::default() }), lossy]);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(rows.len(), 4, "{table}");
        let at = |row: usize, column: &str| rows[row][rows[0].iter().position(|c| *c == column).expect(column)];
        assert_eq!((at(2, "lost"), at(2, "sent"), at(2, "left out")), ("0", "5", "nothing"));
        assert_eq!((at(3, "server"), at(3, "lost"), at(3, "left out")), ("other", "2", "no /sse; no TLS"));
    }

    #[test]
    fn the_brief_table_has_a_row_for_each_server() {
        let lossy = Outcome { server: "other".into(), ..outcome(Tally { sent: 9, lost: 2, ..Tally::default() }) };
        let text = brief(&[outcome(Tally::default()), lossy], "loss --ends 1");
        let row: Vec<_> =
            text.lines().find(|line| line.contains("other")).expect("a row").split('|').map(str::trim).collect();
        assert_eq!((row[3], row[5]), ("9", "2"), "{text}");
        assert!(text.starts_with("`loss --ends 1`\n"), "{text}");
    }

    #[test]
    fn what_a_peer_loses_in_peace_is_left_out_and_said() {
        let mut outcome = Outcome::default();
        let lossy = Counts { looking: Tally { lost: 1, sent: 3, ..Tally::default() }, ..Counts::default() };
        outcome.add_control(ByClass::from([(FRESH, lossy)]));
        outcome.leave_out_invalid();
        assert_eq!((outcome.invalid.len(), outcome.left_out.len()), (0, 1));
        assert_eq!(outcome.what_was_left_out(), "fresh: lost 1 of 3 without a signal");
    }
}
