//! What happened: the report of an end, and the picture of a moment before it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::phase::Phase;

/// Exit code when all work finished.
pub const EXIT_CLEAN: u8 = 0;
/// Exit code when serving failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code when the deadline cut something, or when a handle forced the end.
pub const EXIT_CUT: u8 = 3;
/// Added to the number of the signal that forced the end, as shells do.
pub const EXIT_SIGNAL_BASE: u8 = 128;

/// So many of what was cut are named for people.
const CUT_SHOWN: usize = 100;

/// How a service came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Outcome {
    /// All work finished.
    Clean,
    /// The deadline cut something; [`Report::cut`] names it.
    Cut,
    /// A further signal, or the handle, ended it at once.
    Forced,
    /// Serving failed.
    Failed,
}

/// The account of a whole life, written at its end.
///
/// `Display` is a short table for people, [`Report::to_json`] one line for machines; `report.schema.json`, beside this crate's
/// manifest, is its JSON Schema, and `glidepath-check report FILE` says in words what it means. Returned from `main` it prints
/// itself on standard error and becomes the exit code.
///
/// The connections add up: `accepted = finished + at_rest + upgraded + failed + cut + unknown`, and `unknown` is zero.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// How it came to its end.
    pub outcome: Outcome,
    /// What the process should exit with.
    pub exit_code: u8,
    /// What asked for the end: a signal's name, `handle`, or `restart` where another process has taken over.
    pub cause: String,
    /// The id of the process that has taken over, after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor: Option<u32>,
    /// From the signal to the report.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub took: Duration,
    /// The grace period that was set.
    #[serde(rename = "grace_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub grace: Duration,
    /// What became of the connections.
    pub connections: Connections,
    /// What became of the requests.
    pub requests: Requests,
    /// What became of the tracked tasks.
    pub tasks: Tasks,
    /// What became of the closing hooks.
    pub hooks: Hooks,
    /// What did not finish, oldest first.
    pub cut: Vec<Running>,
    /// Tasks and hooks that panicked, by name.
    pub panicked: Vec<String>,
    /// Set when the process had to be ended from outside the runtime; says what held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    #[serde(skip)]
    pub(crate) printed: Printed,
}

/// What became of the connections. Every accepted one is in exactly one of the other fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Connections {
    /// Taken from the listeners in the whole life.
    pub accepted: u64,
    /// Of those, taken after the stop, while the listeners were being sealed.
    pub accepted_late: u64,
    /// Ended by the client between requests, or after an answer that said close.
    pub finished: u64,
    /// Closed by the server while nothing was asked.
    pub at_rest: u64,
    /// Upgraded (a WebSocket, CONNECT), and then closed. An upgraded stream of HTTP/2 is a request.
    pub upgraded: u64,
    /// Broken by the client or the network, timed out, not HTTP, or without a whole TLS handshake.
    pub failed: u64,
    /// Cut by the deadline or a forced end.
    pub cut: u64,
    /// Not accounted for. Always zero.
    pub unknown: u64,
    /// Closed at rest while bytes of the client were on their way: what HTTP/1.1 cannot prevent.
    pub raced: u64,
    /// Had more requests pipelined behind the answer that said close. Their client knows that they were not looked at
    /// (RFC 9112, section 9.3.2).
    pub pipelined: u64,
}

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Requests {
    /// Heads handed to the app.
    pub started: u64,
    /// Whole responses handed to the kernel (HTTP/1) or to the connection (HTTP/2).
    pub answered: u64,
    /// Of those, after the stop.
    pub answered_late: u64,
    /// Left by their client, or broken off by the app's own body.
    pub abandoned: u64,
    /// Cut by the deadline or a forced end.
    pub cut: u64,
    /// Handlers that panicked. They were answered 500 where the head was not sent.
    pub panicked: u64,
}

impl Requests {
    pub(crate) fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.answered += other.answered;
        self.answered_late += other.answered_late;
        self.abandoned += other.abandoned;
        self.cut += other.cut;
        self.panicked += other.panicked;
    }
}

/// What became of the tracked tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Tasks {
    /// Spawned in the whole life.
    pub started: u64,
    /// Ended by themselves, or aborted by the program.
    pub finished: u64,
    /// Panicked.
    pub panicked: u64,
    /// Aborted at the deadline.
    pub aborted: u64,
}

/// What became of the closing hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Hooks {
    /// Registered.
    pub registered: u64,
    /// Ran to their end.
    pub finished: u64,
    /// Panicked.
    pub panicked: u64,
    /// Stopped by their share of the time, or never begun.
    pub aborted: u64,
}

/// Something that is running, or was when it was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Running {
    /// Of what kind it is.
    pub kind: Kind,
    /// `GET /path` for a request (no query string), else its name.
    pub name: String,
    /// Since when.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub age: Duration,
    /// The address of a connection's other end; none on unix sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Bytes of a request's body that have come to the app.
    #[serde(rename = "bytes_in", skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Bytes of its answer's body that have come from the app. The client may have fewer.
    #[serde(rename = "bytes_out", skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
}

impl Running {
    pub(crate) fn new(kind: Kind, name: String, age: Duration) -> Self {
        Self { kind, name, age, peer: None, received: None, sent: None }
    }
}

/// Of what kind something running is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Kind {
    /// A request in flight.
    Request,
    /// An upgraded connection, or an upgraded stream of one (HTTP/2).
    Upgraded,
    /// A tracked task.
    Task,
    /// A closing hook.
    Hook,
}

/// What is running at one moment: the content of SIGQUIT's dump.
///
/// `Display` is for people, [`Snapshot::to_json`] one line for machines.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The process.
    pub pid: u32,
    /// The phase.
    pub phase: Phase,
    /// What asked for the end, once somebody has: as in [`Report::cause`].
    pub cause: Option<&'static str>,
    /// How long ago that was.
    #[serde(rename = "stopped_ms", serialize_with = "optional_millis")]
    pub stopped: Option<Duration>,
    /// What is left of this phase at the most: in the drain of the grace period, hooks included.
    #[serde(rename = "left_ms", serialize_with = "optional_millis")]
    pub left: Option<Duration>,
    /// In the drain, what requests and tasks have left of that; the rest is kept for the hooks.
    #[serde(rename = "work_left_ms", serialize_with = "optional_millis")]
    pub work_left: Option<Duration>,
    /// When the process is ended whatever runs.
    #[serde(rename = "process_left_ms", serialize_with = "optional_millis")]
    pub process_left: Option<Duration>,
    /// Open connections by state.
    #[serde(serialize_with = "as_map")]
    pub connections: Vec<(&'static str, usize)>,
    /// Requests, upgraded connections, tasks and hooks, oldest first in each kind.
    pub running: Vec<Running>,
    /// Hooks that have not begun, in the order in which they will.
    pub waiting: Vec<String>,
}

/// Whether the report was printed, shared by all its copies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Printed(Arc<AtomicBool>);

impl Printed {
    /// True for the first caller only.
    pub(crate) fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1000.0)
}

fn optional_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn as_map<S: Serializer>(counts: &[(&'static str, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().copied())
}

impl Snapshot {
    /// The snapshot as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Those of one kind, oldest first.
    fn of(&self, kind: Kind) -> Vec<&Running> {
        let mut running: Vec<_> = self.running.iter().filter(|running| running.kind == kind).collect();
        running.sort_by_key(|running| std::cmp::Reverse(running.age));
        running
    }
}

impl Report {
    /// The exit code, as a number: 0 clean, 3 cut, 128 + n forced by signal n, 1 failed. Of PID 1, after a
    /// [restart in place](crate::Server::restart_in_place), that of the process that served last.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// True when all work finished.
    pub fn is_clean(&self) -> bool {
        self.outcome == Outcome::Clean
    }

    /// The report as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.outcome {
            Outcome::Clean => "all work finished",
            Outcome::Cut => "cut by the deadline",
            Outcome::Forced => "forced",
            Outcome::Failed => "serving failed",
        };
        let (took, grace) = (Seconds(self.took), Seconds(self.grace));
        writeln!(f, "glidepath: {how} ({}, {took} of {grace}, exit code {})", self.cause, self.exit_code)?;
        if let Some(successor) = self.successor {
            writeln!(f, "  {:<12} process {successor} has taken over", "successor")?;
        }
        let c = &self.connections;
        let parts = [
            (c.finished, "finished"),
            (c.at_rest, "closed at rest"),
            (c.upgraded, "upgraded"),
            (c.failed, "failed"),
            (c.cut, "cut"),
            (c.unknown, "unknown"),
        ];
        line(f, "connections", c.accepted, "accepted", &parts)?;
        let r = &self.requests;
        let parts = [
            (r.answered_late, "of them after the stop"),
            (r.abandoned, "abandoned by their client"),
            (r.panicked, "panicked"),
            (r.cut, "cut"),
        ];
        line(f, "requests", r.answered, "answered", &parts)?;
        let t = &self.tasks;
        if t.started > 0 {
            line(f, "tasks", t.finished, "finished", &[(t.panicked, "panicked"), (t.aborted, "aborted")])?;
        }
        let h = &self.hooks;
        if h.registered > 0 {
            line(f, "hooks", h.finished, "finished", &[(h.panicked, "panicked"), (h.aborted, "aborted")])?;
        }
        for name in &self.panicked {
            writeln!(f, "  {:<12} {name}", "panicked")?;
        }
        for running in self.cut.iter().take(CUT_SHOWN) {
            writeln!(f, "  {:<12} {running}", "cut")?;
        }
        if self.cut.len() > CUT_SHOWN {
            writeln!(f, "  {:<12} and {} more; the JSON names all", "cut", self.cut.len() - CUT_SHOWN)?;
        }
        if let Some(held_by) = &self.held_by {
            writeln!(f, "  {:<12} {held_by}", "held by")?;
        }
        Ok(())
    }
}

/// One line of the table: what there was, and in brackets what is not zero of the rest.
fn line(f: &mut fmt::Formatter<'_>, head: &str, count: u64, what: &str, parts: &[(u64, &str)]) -> fmt::Result {
    write!(f, "  {head:<12} {count} {what}")?;
    let shown = parts.iter().filter(|(count, _)| *count > 0);
    for (i, (count, what)) in shown.enumerate() {
        write!(f, "{} {count} {what}", if i == 0 { ":" } else { "," })?;
    }
    writeln!(f)
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Request => "request",
            Kind::Upgraded => "upgraded",
            Kind::Task => "task",
            Kind::Hook => "hook",
        };
        write!(f, "{kind} {}, after {}", Printable(&self.name), Seconds(self.age))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "glidepath: process {}, {}", self.pid, self.phase)?;
        if let (Some(cause), Some(stopped)) = (self.cause, self.stopped) {
            write!(f, ", {cause} {} ago", Seconds(stopped))?;
        }
        writeln!(f)?;
        let deadlines = [
            (self.work_left, "for requests and tasks"),
            (self.left, if self.work_left.is_some() { "with the hooks" } else { "for this phase" }),
            (self.process_left, "until the process is ended"),
        ];
        let deadlines: Vec<_> =
            deadlines.iter().filter_map(|(left, what)| Some(format!("{} {what}", Seconds((*left)?)))).collect();
        if !deadlines.is_empty() {
            writeln!(f, "  {:<12} {}", "left", deadlines.join(", "))?;
        }
        let open: usize = self.connections.iter().map(|(_, count)| count).sum();
        let states: Vec<_> = self.connections.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        writeln!(f, "  {:<12} {open} open{states}", "connections")?;
        for (kind, head) in
            [(Kind::Request, "requests"), (Kind::Upgraded, "upgraded"), (Kind::Task, "tasks"), (Kind::Hook, "hooks")]
        {
            let running = self.of(kind);
            let waiting = if kind == Kind::Hook { &self.waiting[..] } else { &[] };
            if running.is_empty() && waiting.is_empty() {
                continue;
            }
            match waiting.len() {
                0 => writeln!(f, "  {head:<12} {}", running.len())?,
                wait => writeln!(f, "  {head:<12} {}, and {wait} to come", running.len())?,
            }
            for running in running {
                writeln!(f, "    {:>8}  {}", Seconds(running.age).to_string(), Details(running))?;
            }
            for name in waiting {
                writeln!(f, "    {:>8}  \"{}\"", "waits", Printable(name))?;
            }
        }
        if self.running.is_empty() {
            writeln!(f, "  nothing is running")?;
        }
        Ok(())
    }
}

/// Something that is running: its name, and what else is known of it.
struct Details<'a>(&'a Running);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Running { name, peer, received, sent, .. } = self.0;
        write!(f, "{}", Printable(name))?;
        if let Some(peer) = peer {
            write!(f, "  from {peer}")?;
        }
        if let (Some(received), Some(sent)) = (received, sent) {
            write!(f, ", {received} B in, {sent} B out")?;
        }
        Ok(())
    }
}

/// A duration for people: `12 ms`, `1.24 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 {
            write!(f, "{} ms", self.0.as_millis())
        } else if seconds < 10.0 {
            write!(f, "{seconds:.2} s")
        } else {
            write!(f, "{seconds:.1} s")
        }
    }
}

/// A name that came from outside: control characters cannot reach a terminal.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_debug()) } else { write!(f, "{c}") })
    }
}

#[cfg(test)]
mod tests;
