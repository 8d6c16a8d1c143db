//! A run, shown: on a terminal, and as JUnit.

pub mod junit;
pub mod terminal;

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use crate::model::{Case, FORMAT, Level, Run, Score, Target, Verdict};

    /// A run with these cases, and nothing else of interest.
    pub(crate) fn run_of(cases: &[(&str, Verdict)]) -> Run {
        let case = |(id, verdict): &(&str, Verdict)| Case {
            id: (*id).to_owned(),
            promise: "IDLE-1".to_owned(),
            section: "HTTP/1 at rest".to_owned(),
            title: "it ends with FIN".to_owned(),
            quote: "ends with FIN".to_owned(),
            level: Level::Must,
            verdict: *verdict,
            reason: (*verdict == Verdict::Skipped).then(|| "needs slow".to_owned()),
            expected: "it ends with FIN".to_owned(),
            got: "RST, 3 ms after the signal".to_owned(),
            why: "a pool throws it away".to_owned(),
            rate: None,
            outcomes: BTreeMap::new(),
            took_ms: 12.0,
            timeline: None,
            control: None,
        };
        let cases: Vec<_> = cases.iter().map(case).collect();
        Run {
            format: FORMAT,
            version: "0".to_owned(),
            target: Target {
                name: "server".to_owned(),
                command: vec!["server".to_owned()],
                stop: "SIGTERM".to_owned(),
                over_tls: false,
                paths: BTreeMap::new(),
            },
            started: "2026-11-22T12:00:00Z".to_owned(),
            took_ms: 1000.0,
            found: Vec::new(),
            score: Score::of(&cases),
            cases,
        }
    }
}
