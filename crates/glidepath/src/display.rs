//! How an end shows itself while it goes on: a view that is redrawn in place on a terminal, log lines elsewhere.
//!
//! `frame` says what the view looks like, and is pure. `screen` is the one place that writes it. `view` is the thread that
//! looks and draws: one of its own, so that a runtime whose workers are all blocked is seen, too, and so that nothing but it
//! waits for a terminal that does not take what is written.

mod frame;
mod screen;
mod view;

use std::io::Write as _;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::report::{Kind, Outcome, Report, Seconds, Snapshot};

pub(crate) use frame::Scene;
pub use screen::{Stderr, stderr};
pub(crate) use view::View;

/// How often a log hears of the end.
const EVERY: Duration = Duration::from_secs(5);

/// The log lines.
#[derive(Debug, Default)]
pub(crate) struct Log {
    tick: Option<Interval>,
}

impl Log {
    /// Ends when it is time for a line: every five seconds from the first call on.
    pub(crate) async fn due(&mut self) {
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick.reset();
            tick
        });
        tick.tick().await;
    }

    pub(crate) fn tell(&self, snapshot: &Snapshot) {
        tracing::info!(phase = %snapshot.phase, "{}", line(snapshot));
    }
}

/// `draining: 2 requests, 1 task, 17 s left`
pub(crate) fn line(snapshot: &Snapshot) -> String {
    let mut parts = counts(snapshot);
    if parts.is_empty() {
        let open: usize = snapshot.connections.iter().map(|(_, count)| count).sum();
        parts.push(counted(open, "connection") + " closing");
    }
    if let Some(left) = snapshot.left {
        parts.push(format!("{} left", Seconds(left)));
    }
    format!("{}: {}", snapshot.phase, parts.join(", "))
}

/// What is running, by kind: `2 requests`, `1 task`.
fn counts(snapshot: &Snapshot) -> Vec<String> {
    let kinds = [
        (Kind::Request, "request"),
        (Kind::Upgraded, "upgraded connection"),
        (Kind::Task, "task"),
        (Kind::Hook, "hook"),
    ];
    let counts =
        kinds.map(|(kind, name)| (snapshot.running.iter().filter(|running| running.kind == kind).count(), name));
    counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| counted(count, name)).collect()
}

fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

impl Termination for Report {
    /// Prints the report on standard error, unless it was printed already, and gives its exit code.
    fn report(self) -> ExitCode {
        print_once(&self);
        ExitCode::from(self.exit_code)
    }
}

/// Writes the report on standard error, once. A closed standard error is no reason to panic.
pub(crate) fn print_once(report: &Report) {
    if report.printed.claim() {
        let text = report.to_string();
        let text = if view::look().is_some_and(|look| look.colours) { coloured(&text, report.outcome) } else { text };
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The outcome in a colour of its own; the words say the same.
fn coloured(text: &str, outcome: Outcome) -> String {
    let colour = match outcome {
        Outcome::Clean => "\x1b[1;32m",
        Outcome::Cut | Outcome::Forced => "\x1b[1;33m",
        Outcome::Failed => "\x1b[1;31m",
    };
    let parts = text.split_once(": ").and_then(|(head, rest)| Some((head, rest.split_once(" (")?)));
    match parts {
        Some((head, (how, rest))) => format!("{head}: {colour}{how}\x1b[0m ({rest}"),
        None => text.to_owned(),
    }
}
