//! `report`: what glidepath's own report of an end says, in words, and what to do about it.
//!
//! Its form is known by its schema alone, `report.schema.json` of that crate: what it lacks is zero, and what is new is passed over.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Deserialize;

use crate::show::terminal::wrapped;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// The form that is read.
const FORMAT: u32 = 1;

/// So many of those that were cut are named.
const NAMED: usize = 20;

/// One report.
#[derive(Debug, Deserialize)]
pub struct Account {
    version: u32,
    outcome: String,
    exit_code: u8,
    #[serde(default)]
    cause: String,
    successor: Option<u32>,
    took_ms: f64,
    grace_ms: f64,
    connections: Connections,
    requests: Requests,
    #[serde(default)]
    tasks: Work,
    #[serde(default)]
    hooks: Work,
    #[serde(default)]
    cut: Vec<Cut>,
    #[serde(default)]
    panicked: Vec<String>,
    held_by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Connections {
    accepted: u64,
    accepted_late: u64,
    finished: u64,
    at_rest: u64,
    upgraded: u64,
    failed: u64,
    cut: u64,
    unknown: u64,
    raced: u64,
    pipelined: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Requests {
    started: u64,
    answered: u64,
    answered_late: u64,
    abandoned: u64,
    cut: u64,
    panicked: u64,
}

/// Tasks or hooks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Work {
    started: u64,
    registered: u64,
    finished: u64,
    panicked: u64,
    aborted: u64,
}

#[derive(Debug, Deserialize)]
struct Cut {
    kind: String,
    name: String,
    age_ms: f64,
    peer: Option<String>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
}

/// Why a text could not be read as a report.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    /// Nothing in it looks like one.
    #[error(
        "no report is in it. glidepath writes one as a line of JSON where the program asks for it: \
         `lifecycle.on_report(|report| eprintln!(\"{{}}\", report.to_json()))`"
    )]
    None,
    /// It is of another version.
    #[error("the report has the form {0}, and this version reads {FORMAT}")]
    Version(u32),
    /// Something that looks like one is broken.
    #[error("the report is not whole: {0}")]
    Broken(serde_json::Error),
}

impl Account {
    /// The report in a text: all of it, or else the last line that is one, as in a log. What stands before the brace is passed over.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn find(text: &str) -> Result<Self, NoAccount> {
        let whole = std::iter::once(text.trim());
        let lines = text.lines().rev();
        let looks_so = |text: &&str| text.contains("\"exit_code\"") && text.contains("\"connections\"");
        let mut wrong = NoAccount::None;
        for candidate in whole.chain(lines).filter(looks_so) {
            let from = candidate.find('{').unwrap_or_default();
            let mut values = serde_json::Deserializer::from_str(&candidate[from..]).into_iter::<Self>();
            match values.next() {
                Some(Ok(account)) if account.version == FORMAT => return Ok(account),
                Some(Ok(account)) => return Err(NoAccount::Version(account.version)),
                Some(Err(error)) => wrong = NoAccount::Broken(error),
                None => {}
            }
        }
        Err(wrong)
    }

    /// It in words, in lines of at most `width` columns, where names allow it.
    pub fn explain(&self, width: usize) -> String {
        let width = width.clamp(40, 100);
        let mut text = String::new();
        for line in wrapped(&self.in_a_sentence(), width) {
            let _strings_take_all = writeln!(text, "{BOLD}{line}{BOLD:#}");
        }
        self.tell_counts(&mut text);
        self.tell_cut(&mut text);
        text.push('\n');
        for advice in self.advice() {
            for (i, line) in wrapped(&advice, width - 2).into_iter().enumerate() {
                let _strings_take_all = writeln!(text, "{} {line}", if i == 0 { '-' } else { ' ' });
            }
        }
        text
    }

    fn in_a_sentence(&self) -> String {
        let how = match self.outcome.as_str() {
            "clean" => "all work finished",
            "cut" => "the deadline cut something",
            "forced" => "it was forced",
            "failed" => "serving failed",
            other => other,
        };
        let (took, grace) = (seconds(self.took_ms), seconds(self.grace_ms));
        let next = self.successor.map_or_else(String::new, |pid| format!(" Process {pid} has taken over."));
        format!("{}: {how}, after {took} of {grace}. Exit code {}.{next}", self.cause, self.exit_code)
    }

    fn tell_counts(&self, text: &mut String) {
        let c = &self.connections;
        let parts = [
            (c.finished, "ended by their client, or after an answer that said close"),
            (c.at_rest, "closed while they were at rest"),
            (c.upgraded, "upgraded (WebSockets, CONNECT), and closed"),
            (c.failed, "broken by client or network, timed out, or not HTTP"),
            (c.cut, "cut"),
            (c.unknown, "unknown"),
            (c.accepted_late, "of all these: accepted after the stop, while listeners were sealed"),
        ];
        table(text, &format!("{} accepted", count(c.accepted, "connection")), &parts);
        let r = &self.requests;
        let parts = [
            (r.answered, "answered whole"),
            (r.answered_late, "of those: after the stop"),
            (r.abandoned, "left by their client, or broken off by the app"),
            (r.cut, "cut"),
            (r.panicked, "of all these: their handler panicked"),
        ];
        table(text, &count(r.started, "request"), &parts);
        for (work, all, name) in
            [(&self.tasks, self.tasks.started, "task"), (&self.hooks, self.hooks.registered, "hook")]
        {
            let parts = [(work.finished, "finished"), (work.panicked, "panicked"), (work.aborted, "aborted")];
            if all > 0 {
                table(text, &count(all, name), &parts);
            }
        }
    }

    fn tell_cut(&self, text: &mut String) {
        if self.cut.is_empty() {
            return;
        }
        let _strings_take_all = writeln!(text, "\n{BOLD}cut, oldest first{BOLD:#}");
        for cut in self.oldest(|_| true).into_iter().take(NAMED) {
            let _strings_take_all = writeln!(text, "{:>9}  {} {}", seconds(cut.age_ms), cut.kind, printable(&cut.name));
            let mut more = Vec::new();
            more.extend(cut.peer.as_ref().map(|peer| format!("from {}", printable(peer))));
            more.extend(cut.bytes_in.map(|bytes| format!("{} in", size(bytes))));
            more.extend(cut.bytes_out.map(|bytes| format!("{} out", size(bytes))));
            if !more.is_empty() {
                let _strings_take_all = writeln!(text, "           {DIM}{}{DIM:#}", more.join(", "));
            }
        }
        if let Some(more) = self.cut.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let _strings_take_all = writeln!(text, "           and {more} more");
        }
    }

    fn oldest(&self, which: impl Fn(&Cut) -> bool) -> Vec<&Cut> {
        let mut cut: Vec<_> = self.cut.iter().filter(|cut| which(cut)).collect();
        cut.sort_by(|a, b| b.age_ms.total_cmp(&a.age_ms));
        cut
    }

    /// What to look at, and what to change.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let (c, r) = (&self.connections, &self.requests);
        if let Some(held_by) = &self.held_by {
            advice.push(format!(
                "The process was ended from outside its runtime, held by {held_by}. Look for code that blocks a thread in \
                 a handler or a task: put it into `spawn_blocking`, with a bound of its own. SIGQUIT prints what runs."
            ));
        }
        match self.outcome.as_str() {
            "failed" => advice.push("A listener failed, and the log says why. What was in flight was brought down as after a signal.".into()),
            "forced" => advice.push(format!(
                "Somebody asked a second time, {} after the first: Ctrl-C twice, a manager's second signal, or the program's \
                 own `force`. Below is what did not wait for its end.",
                seconds(self.took_ms)
            )),
            _ => {}
        }
        self.advise_on_cut(&mut advice);
        let slow = self.outcome == "clean" && self.grace_ms > 0.0 && self.took_ms >= 0.8 * self.grace_ms;
        if slow {
            advice.push("It was close: more than four fifths of the grace period were used.".into());
        }
        let panics = r.panicked + self.tasks.panicked + self.hooks.panicked;
        if panics > 0 {
            let named =
                if self.panicked.is_empty() { String::new() } else { format!(": {}", self.panicked.join(", ")) };
            advice.push(format!("{} panicked{named}. The log has the place.", count(panics, "handler, task or hook")));
        }
        if c.raced > 0 {
            advice.push(format!(
                "{} closed at rest while bytes of the client were on their way, which HTTP/1.1 cannot rule out. Their clients \
                 may ask again. A longer `quiet` makes it rarer; it must exceed a round trip.",
                count(c.raced, "connection was|connections were")
            ));
        }
        if c.pipelined > 0 {
            advice.push(format!(
                "{} more requests pipelined behind the answer that said close. Their client knows that they were not looked at.",
                count(c.pipelined, "connection had|connections had")
            ));
        }
        let sum = c.finished + c.at_rest + c.upgraded + c.failed + c.cut + c.unknown;
        if c.unknown > 0 || sum != c.accepted {
            advice.push(format!(
                "{} accepted, {sum} accounted for, {} of them as unknown: that is a defect of glidepath. Please report it.",
                c.accepted, c.unknown
            ));
        }
        if advice.is_empty() {
            advice.push("Nothing was lost, and nothing needs to be done.".into());
        }
        advice
    }

    fn advise_on_cut(&self, advice: &mut Vec<String>) {
        let by_time = self.outcome == "cut";
        let kinds = ["request", "upgraded", "task", "hook"];
        let [requests, upgraded, tasks, hooks] = kinds.map(|kind| self.oldest(|cut| cut.kind == kind));
        if let (Some(oldest), true) = (requests.first(), by_time) {
            let doing = match (oldest.bytes_in, oldest.bytes_out) {
                (_, Some(1..)) => "It was sending its answer: is the client slow, or the answer without an end?",
                (Some(1..), _) => "Some of its body had come: was the client still sending, or the handler at work?",
                _ => "Not a byte of its answer had left the handler: what does it wait for?",
            };
            advice.push(format!(
                "{} longer than the grace period of {} allowed; the oldest, {}, had run for {}. {doing} Raise `grace` above what \
                 the slowest honest request takes, or let the handler watch `Drain` and end early.",
                count(requests.len() as u64, "request ran|requests ran"),
                seconds(self.grace_ms),
                printable(&oldest.name),
                seconds(oldest.age_ms)
            ));
        }
        if !upgraded.is_empty() && by_time {
            advice.push(format!(
                "{} cut: its handler did not end, or its peer did not answer the Close. Let the handler watch `Drain`.",
                count(upgraded.len() as u64, "upgraded connection was|upgraded connections were")
            ));
        }
        if let (Some(oldest), true) = (tasks.first(), by_time) {
            advice.push(format!(
                "{} aborted; the oldest, {}, had run for {}. A task that can wait for the next process should end when \
                 `Drain` says so, and leave its work where that one finds it.",
                count(tasks.len() as u64, "task was|tasks were"),
                printable(&oldest.name),
                seconds(oldest.age_ms)
            ));
        }
        if let (Some(first), true) = (hooks.first(), by_time) {
            advice.push(format!(
                "{} not finish, {} among them. `hooks_within` is their share of the grace period; what hangs in one takes \
                 it from the others.",
                count(hooks.len() as u64, "hook did|hooks did"),
                printable(&first.name)
            ));
        }
        let named = requests.len() + upgraded.len();
        if self.connections.cut > 0 && named == 0 && by_time {
            advice.push(format!(
                "{} cut with no request in flight: clients that did not take what was sent, or did not close.",
                count(self.connections.cut, "connection was|connections were")
            ));
        }
    }
}

fn table(text: &mut String, head: &str, parts: &[(u64, &str)]) {
    let _strings_take_all = writeln!(text, "\n{BOLD}{head}{BOLD:#}");
    for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
        let _strings_take_all = writeln!(text, "{count:>9}  {what}");
    }
}

/// `1 task`, `2 tasks`; or by `one|many`: `1 task was`, `2 tasks were`.
fn count(count: u64, words: &str) -> String {
    match (count, words.split_once('|')) {
        (1, Some((words, _))) | (_, Some((_, words))) => format!("{count} {words}"),
        (1, None) => format!("1 {words}"),
        (_, None) => format!("{count} {words}s"),
    }
}

fn seconds(ms: f64) -> String {
    match ms {
        _ if ms < 1000.0 => format!("{ms:.0} ms"),
        _ if ms < 10_000.0 => format!("{:.2} s", ms / 1000.0),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Names came from outside: no control character reaches a terminal.
fn printable(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one that the library's documentation shows.
    const EXAMPLE: &str = include_str!("../../glidepath/report.example.json");

    /// However its lines were broken.
    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn changed(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut report = serde_json::from_str(EXAMPLE).expect("it is JSON");
        change(&mut report);
        plain(&Account::find(&report.to_string()).expect("it is a report").explain(80))
    }

    #[test]
    fn what_was_cut_is_named_with_what_to_do() {
        let told = changed(|_| {});
        for says in [
            "SIGTERM: the deadline cut something, after 10.0 s of 10.0 s. Exit code 3.",
            "1204 connections accepted",
            "     24.1 s  request GET /export",
            "from 10.0.0.7:60854, 0 B in, 1048 kB out",
            "is the client slow",
            "1 task was aborted",
        ] {
            assert!(words(&told).contains(&words(says)), "{says:?} is not in\n{told}");
        }
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    }

    #[test]
    fn a_clean_one_needs_nothing() {
        let told = changed(|report| {
            report["outcome"] = "clean".into();
            report["cut"] = serde_json::json!([]);
            report["took_ms"] = 640.into();
        });
        assert!(told.ends_with("- Nothing was lost, and nothing needs to be done.\n"), "{told}");
        assert!(!told.contains("oldest first"), "{told}");
    }

    #[test]
    fn what_does_not_add_up_is_said() {
        let told = changed(|report| report["connections"]["finished"] = 1.into());
        assert!(words(&told).contains("that is a defect of glidepath"), "{told}");
    }

    #[test]
    fn it_is_found_in_a_log() {
        let line = serde_json::from_str::<serde_json::Value>(EXAMPLE).expect("it is JSON").to_string();
        let log = format!("12:00 listening\n12:01 report={line} (end)\n12:02 {{\"bye\":1}}\n");
        assert_eq!(Account::find(&log).expect("it is there").exit_code, 3);
        assert!(matches!(Account::find("12:00 listening\n"), Err(NoAccount::None)));
        let half = &line[..line.len() - 9];
        assert!(matches!(Account::find(half), Err(NoAccount::Broken(_))));
        let later = line.replace("\"version\":1", "\"version\":7");
        assert!(matches!(Account::find(&later), Err(NoAccount::Version(7))));
    }

    #[test]
    fn names_are_no_commands_for_a_terminal() {
        assert!(changed(|report| report["cut"][0]["name"] = "GET /\u{1b}[2J".into()).contains("GET /\\u{1b}[2J"));
    }
}
