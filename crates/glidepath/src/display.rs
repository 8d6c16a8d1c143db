//! How an end shows itself while it goes on: a view that is redrawn in place on a terminal, log lines elsewhere.
//!
//! `frame` says what the view looks like, and is pure. `screen` is the one place that writes it. `view` is the thread that
//! looks and draws: one of its own, so that a runtime whose workers are all blocked is seen, too, and so that nothing but it
//! waits for a terminal that does not take what is written.

mod frame;
mod screen;
mod view;

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::report::{Kind, Seconds, Snapshot};

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
