//! How the drain shows itself while it goes on: a line that updates on a terminal, log lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::report::{Kind, Seconds, Snapshot};

#[derive(Debug)]
pub(crate) struct Display {
    terminal: bool,
    tick: Option<Interval>,
    shown: bool,
}

impl Display {
    pub(crate) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { terminal: stderr().is_terminal() && !dumb, tick: None, shown: false }
    }

    /// Ends when it is time to show something. The first time at once on a terminal, after five seconds in a log.
    pub(crate) async fn due(&mut self) {
        let terminal = self.terminal;
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval(Duration::from_millis(if terminal { 100 } else { 5000 }));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            if !terminal {
                tick.reset();
            }
            tick
        });
        tick.tick().await;
    }

    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let line = line(snapshot);
        if self.terminal {
            self.shown = true;
            // Back to the first column, and the rest of the line away (ECMA-48: EL).
            let _ = write!(stderr(), "\r{line} (Ctrl-C again to stop waiting)\x1b[K");
        } else {
            tracing::info!(phase = %snapshot.phase, "{line}");
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// `draining: 2 requests, 1 task, 17 s left`
pub(crate) fn line(snapshot: &Snapshot) -> String {
    let count = |kind| snapshot.running.iter().filter(|running| running.kind == kind).count();
    let kinds = [
        (count(Kind::Request), "request"),
        (count(Kind::Upgraded), "upgraded connection"),
        (count(Kind::Task), "task"),
        (count(Kind::Hook), "hook"),
    ];
    let mut parts: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() {
        let open: usize = snapshot.connections.iter().map(|(_, count)| count).sum();
        parts.push(format!("{open} connections closing"));
    }
    if let Some(left) = snapshot.left {
        parts.push(format!("{} left", Seconds(left)));
    }
    format!("{}: {}", snapshot.phase, parts.join(", "))
}
