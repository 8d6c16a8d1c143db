//! The counts. Every request that was sent has exactly one outcome.

use serde::Serialize;

use crate::judge::Outcome;

/// Enough to see what went wrong; more would only fill the screen.
const NOTES: usize = 5;

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) clients: u64,
    /// Of these, so many that something bad happened to.
    pub(crate) hurt: u64,
    // Requests. A WebSocket's upgrade and an event stream are one each, answered when they end properly.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) untaken: u64,
    pub(crate) raced: u64,
    pub(crate) lost: u64,
    pub(crate) reset: u64,
    pub(crate) truncated: u64,
    // Connections, by how the server ended them.
    pub(crate) told_close: u64,
    pub(crate) at_rest: u64,
    pub(crate) refused: u64,
    /// WebSockets that ended with Close, event streams that ended with the end of their body.
    pub(crate) goodbyes: u64,
    /// Over TLS: FIN without close_notify before it. Whatever it cut off is counted above.
    pub(crate) no_goodbye: u64,
    /// RST on a connection that had no request open.
    pub(crate) reset_at_rest: u64,
    /// The first bad ones, in words.
    pub(crate) notes: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.answered += 1,
            Outcome::Untaken => self.untaken += 1,
            Outcome::Raced => self.raced += 1,
            Outcome::Lost => self.lost += 1,
            Outcome::Reset => self.reset += 1,
            Outcome::Truncated => self.truncated += 1,
        }
    }

    pub(crate) fn note(&mut self, note: impl FnOnce() -> String) {
        if self.notes.len() < NOTES {
            self.notes.push(note());
        }
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.clients += other.clients;
        self.hurt += other.hurt;
        self.sent += other.sent;
        self.answered += other.answered;
        self.untaken += other.untaken;
        self.raced += other.raced;
        self.lost += other.lost;
        self.reset += other.reset;
        self.truncated += other.truncated;
        self.told_close += other.told_close;
        self.at_rest += other.at_rest;
        self.refused += other.refused;
        self.goodbyes += other.goodbyes;
        self.no_goodbye += other.no_goodbye;
        self.reset_at_rest += other.reset_at_rest;
        self.notes.extend(other.notes);
        self.notes.truncate(NOTES);
    }

    /// Sent, and without an outcome.
    pub(crate) fn open(&self) -> u64 {
        let settled = self.answered + self.untaken + self.raced + self.lost + self.reset + self.truncated;
        self.sent.saturating_sub(settled)
    }

    pub(crate) fn resets(&self) -> u64 {
        self.reset + self.reset_at_rest
    }

    /// What nothing excuses.
    pub(crate) fn bad(&self) -> u64 {
        self.lost + self.resets() + self.truncated
    }

    /// At most 1 in 100 000, where that many were sent; nobody can tell from fewer.
    pub(crate) fn races_too_often(&self) -> bool {
        self.sent >= 100_000 && self.raced * 100_000 >= self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_outcome_counts_as_bad_and_no_other_does() {
        for (outcome, bad) in [
            (Outcome::Answered, 0),
            (Outcome::Untaken, 0),
            (Outcome::Raced, 0),
            (Outcome::Lost, 1),
            (Outcome::Reset, 1),
            (Outcome::Truncated, 1),
        ] {
            let mut tally = Tally { sent: 1, ..Tally::default() };
            tally.count(outcome);
            assert_eq!((tally.bad(), tally.open()), (bad, 0), "{outcome:?}");
        }
        assert_eq!(Tally { reset_at_rest: 1, ..Tally::default() }.bad(), 1);
    }

    #[test]
    fn a_request_without_an_outcome_is_open() {
        let mut tally = Tally { sent: 3, ..Tally::default() };
        tally.count(Outcome::Answered);
        assert_eq!(tally.open(), 2);
    }

    #[test]
    fn one_race_in_a_hundred_thousand_is_too_often() {
        let races = |raced, sent| Tally { raced, sent, ..Tally::default() }.races_too_often();
        assert!(races(1, 100_000));
        assert!(!races(1, 100_001));
        assert!(!races(0, 100_000));
        assert!(!races(9, 99_999), "too few to tell");
    }

    #[test]
    fn adding_keeps_every_count() {
        let one = || Tally { clients: 1, sent: 2, answered: 1, lost: 1, refused: 1, ..Tally::default() };
        let mut sum = one();
        sum.add(one());
        assert_eq!((sum.clients, sum.sent, sum.answered, sum.lost, sum.refused), (2, 4, 2, 2, 2));
    }
}
