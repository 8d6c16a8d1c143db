//! What the log is told of an end when it is over. `docs/observing.md` has the table of all events.

use crate::phase::Phase;
use crate::report::{Kind, Outcome, Report};

/// More than this are counted, and not named: a log is not to hold up an end, nor to be flooded by one.
const NAMED: usize = 100;

/// Each thing that was cut, and then the last of the four lines of a clean end.
pub(super) fn tell(report: &Report) {
    for running in report.cut.iter().take(NAMED) {
        let kind = match running.kind {
            Kind::Request => "request",
            Kind::Upgraded => "upgraded",
            Kind::Task => "task",
            Kind::Hook => "hook",
        };
        let age_ms = running.age.as_millis() as u64;
        tracing::warn!(target: "glidepath::cut", kind, name = running.name, age_ms, "cut");
    }
    if report.cut.len() > NAMED {
        tracing::warn!(target: "glidepath::cut", count = report.cut.len() - NAMED, "more were cut");
    }
    let outcome = match report.outcome {
        Outcome::Clean => "clean",
        Outcome::Cut => "cut",
        Outcome::Forced => "forced",
        Outcome::Failed => "failed",
    };
    tracing::info!(
        target: "glidepath::lifecycle",
        phase = %Phase::Ended,
        cause = report.cause,
        outcome,
        exit_code = report.exit_code,
        took_ms = report.took.as_millis() as u64,
        held_by = report.held_by,
        "lifecycle"
    );
}
