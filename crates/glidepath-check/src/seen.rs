//! What a script has seen: one outcome each for a client, a request or the process, and the words for it.

use std::time::Duration;

use crate::clock::now;
use crate::model::Outcome;
use crate::record::Recorder;
use crate::wire::End;

/// One outcome, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        Seen { outcome, text: text.into() }
    }

    /// The end of a connection on which nothing had been asked.
    pub(crate) fn rest(end: End) -> Self {
        match end {
            End::Fin => Self::new(Outcome::EndedAtRest, "FIN"),
            End::Reset => Self::new(Outcome::Reset, "RST"),
            End::Silence => Self::new(Outcome::Open, "still open"),
        }
    }

    /// What was to come within the bound after the signal came at this time.
    pub(crate) fn by(self, recorder: &Recorder, bound: Duration) -> Self {
        let after = recorder.zero().map(|zero| now().saturating_duration_since(zero)).unwrap_or_default();
        if after <= bound || matches!(self.outcome, Outcome::Open | Outcome::Hung | Outcome::Running) {
            return self;
        }
        Self::new(Outcome::Late, format!("{} only {} after the signal", self.text, words(after)))
    }
}

/// `80 ms`, `2.3 s`.
pub(crate) fn words(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
