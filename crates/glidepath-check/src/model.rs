//! A run as data: what `--json` writes, `--baseline` and `compare` read, and the tables and pages show.
//!
//! `schema.json` is the same for other languages; a test holds the two together.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The form of the data. It grows when a reader of the old form would misread the new one.
pub const FORMAT: u32 = 1;

/// All that one run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The form of this data: [`FORMAT`].
    pub format: u32,
    /// The version of `glidepath-check` that wrote it.
    pub version: String,
    /// What was checked, and how it was spoken to.
    pub target: Target,
    /// When the run began, in UTC, as RFC 3339 writes it.
    pub started: String,
    /// How long it took.
    pub took_ms: f64,
    /// What the target was found to offer, before the first case.
    pub found: Vec<Found>,
    /// Every case, in the order of the sections.
    pub cases: Vec<Case>,
    /// The counts.
    pub score: Score,
}

/// What was checked, and how it was spoken to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A name for tables: what `--name` said, or the command's program.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// How it is told to end: a signal's name, or a command.
    pub stop: String,
    /// Whether its clients spoke TLS in every case.
    pub over_tls: bool,
    /// Where each kind of work is found.
    pub paths: BTreeMap<String, String>,
}

/// Something that a server may or may not offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// `slow`, `http2`, `tls` and so on: what cases name in their needs.
    pub name: String,
    /// Whether it is there, as far as could be seen.
    pub there: bool,
    /// What was asked, and what came.
    pub note: String,
}

/// One case and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Stable, such as `idle/quiet-window`.
    pub id: String,
    /// The row of SPEC.md, such as `IDLE-1`: what `explain` takes.
    pub promise: String,
    /// The section's title, such as `HTTP/1 at rest`.
    pub section: String,
    /// What is seen when it passes, as a sentence.
    pub title: String,
    /// The words of the promise that it checks.
    pub quote: String,
    /// How much it weighs.
    pub level: Level,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it was skipped, or why it is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was to come.
    pub expected: String,
    /// What came, and when. Empty when it was skipped.
    pub got: String,
    /// Why it matters to those who use the server.
    pub why: String,
    /// Where it repeats or has many clients: how many of them saw what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many saw each outcome.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Both scripts, with the signal and without.
    pub took_ms: f64,
    /// What happened. None when it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// The same script without the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Timeline>,
}

/// How much a case weighs, in the words of RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Without it clients lose something, or the end does not come.
    Must,
    /// Good manners.
    Should,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What was expected came.
    Pass,
    /// Something else came, and without the signal it would not have.
    Fail,
    /// The control without the signal went wrong as well, or the check itself did: nothing can be said.
    Invalid,
    /// The target does not offer what the case needs.
    Skipped,
}

/// What became of one connection, request or process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A whole response, and no word about the connection.
    Answered,
    /// A whole response that says close, or GOAWAY on HTTP/2, or Close on a WebSocket.
    ToldClose,
    /// The connect was refused, or the request was turned away such that a client may safely try elsewhere.
    Refused,
    /// FIN on a connection that had asked for nothing.
    EndedAtRest,
    /// FIN instead of a response.
    Lost,
    /// RST.
    Reset,
    /// A part of a response, and then the end.
    Truncated,
    /// Nothing, for as long as the case waits.
    Hung,
    /// As it should be, and later than it should.
    Late,
    /// A whole answer that is not the one expected.
    Wrong,
    /// The connection is open and quiet.
    Open,
    /// The process has ended by itself.
    Exited,
    /// The process is running.
    Running,
    /// The port or path can be taken.
    Free,
    /// The port or path is still held.
    Taken,
}

/// How many saw what was expected, of how many, and how many it takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many were tried.
    pub of: u32,
    /// So many saw what was expected.
    pub good: u32,
    /// The share that it takes to pass: 1 is all of them.
    pub bound: f64,
}

/// What happened in one script. All times are milliseconds from the signal; before it they are negative.
/// In a control, they count from where the signal would have been.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// The first event.
    pub from: f64,
    /// The last event.
    pub to: f64,
    /// The signals, the first one at 0. None in a control.
    pub signals: Vec<Mark>,
    /// How the process ended by itself. None when it still ran at the end of the script and was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// One for each connection, in the order in which they were opened.
    pub lanes: Vec<Lane>,
    /// Connections that are not among the lanes: of hundreds that fared alike, a few are kept.
    pub lanes_left_out: u32,
    /// The server's phases, where it tells them: a line of its log with `phase=NAME` begins one.
    pub bands: Vec<Band>,
    /// What the server wrote, its last lines.
    pub log: Vec<Mark>,
}

/// Something at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// When.
    pub at: f64,
    /// What, such as `SIGTERM` or a line.
    pub text: String,
}

/// How the process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// When.
    pub at: f64,
    /// Its exit code, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that killed it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// A phase of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// When it began.
    pub from: f64,
    /// When the next one began, or the process ended.
    pub to: f64,
    /// What the server calls it.
    pub name: String,
}

/// One connection, from its first event to its last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Such as `client 3`.
    pub name: String,
    /// What was spoken: `http/1.1`, `h2`, `websocket`, with `+tls` where it was.
    pub protocol: String,
    /// What became of it, where the script says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// In the order of time.
    pub events: Vec<Event>,
    /// Events that are not among them: of hundreds, the first and the last are kept.
    #[serde(default)] // runs were written before it was there
    pub events_left_out: u32,
}

/// Something that was seen on a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: f64,
    /// What.
    pub kind: EventKind,
    /// In words: `GET /sleep?ms=800`, `200, 5 bytes, close`.
    pub text: String,
    /// The bytes or the frame, with `-v`. What is not text is escaped; of long ones the beginning is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// What was seen on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The kernel has completed the connection.
    Connect,
    /// It was refused.
    Refused,
    /// The TLS handshake is over.
    Handshake,
    /// The client sent something.
    Sent,
    /// The client said that it will send no more.
    HalfClosed,
    /// Something came that is not the end of an answer: a head, a chunk, a frame.
    Received,
    /// A whole response came.
    Answered,
    /// A whole response came, and it says close.
    ToldClose,
    /// GOAWAY on HTTP/2.
    GoAway,
    /// RST_STREAM on HTTP/2.
    StreamReset,
    /// Close on a WebSocket.
    WsClose,
    /// close_notify of TLS.
    CloseNotify,
    /// The server sends no more.
    Fin,
    /// The server knows nothing of this connection any more.
    Rst,
    /// Nothing came for as long as the client waited.
    Timeout,
    /// The client closed the connection.
    Closed,
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Of the cases at this level.
    pub must: Tally,
    /// Of the cases at this level.
    pub should: Tally,
}

/// How many cases had each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Passed.
    pub pass: u32,
    /// Failed.
    pub fail: u32,
    /// Could not be judged.
    pub invalid: u32,
    /// Were not tried.
    pub skipped: u32,
}

impl Score {
    /// The counts of these cases.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let mut score = Score::default();
        for case in cases {
            let tally = match case.level {
                Level::Must => &mut score.must,
                Level::Should => &mut score.should,
            };
            tally.add(case.verdict);
        }
        score
    }

    /// Both levels together.
    pub fn all(self) -> Tally {
        let add = |must, should| must + should;
        Tally {
            pass: add(self.must.pass, self.should.pass),
            fail: add(self.must.fail, self.should.fail),
            invalid: add(self.must.invalid, self.should.invalid),
            skipped: add(self.must.skipped, self.should.skipped),
        }
    }
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Pass => &mut self.pass,
            Verdict::Fail => &mut self.fail,
            Verdict::Invalid => &mut self.invalid,
            Verdict::Skipped => &mut self.skipped,
        } += 1;
    }

    /// Those that were judged.
    pub fn judged(self) -> u32 {
        self.pass + self.fail
    }
}

impl Rate {
    /// Whether enough of them saw what was expected.
    pub fn is_enough(self) -> bool {
        self.of > 0 && f64::from(self.good) >= f64::from(self.of) * self.bound
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Invalid => "invalid",
            Self::Skipped => "skipped",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answered => "answered",
            Self::ToldClose => "told close",
            Self::Refused => "refused",
            Self::EndedAtRest => "ended at rest",
            Self::Lost => "lost",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Hung => "hung",
            Self::Late => "late",
            Self::Wrong => "wrong answer",
            Self::Open => "open",
            Self::Exited => "exited",
            Self::Running => "running",
            Self::Free => "free",
            Self::Taken => "taken",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `UPDATE_SCHEMA` set, the file is written instead.
    #[test]
    fn the_schema_is_that_of_the_types() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Run)).expect("it is JSON") + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &schema).expect("the file can be written");
        }
        let file = std::fs::read_to_string(path).expect("the file is there");
        assert!(file == schema, "schema.json is stale: UPDATE_SCHEMA=1 cargo test -p glidepath-check --lib schema");
    }

    #[test]
    fn runs_of_the_first_version_can_be_read() {
        let lane = r#"{"name": "client 1", "protocol": "h2", "events": []}"#;
        let lane: Lane = serde_json::from_str(lane).expect("it did not say how many events it leaves out");
        assert_eq!(lane.events_left_out, 0);
    }

    #[test]
    fn a_rate_without_trials_is_never_enough() {
        assert!(!Rate { of: 0, good: 0, bound: 0.5 }.is_enough());
        assert!(Rate { of: 4, good: 2, bound: 0.5 }.is_enough());
        assert!(!Rate { of: 4, good: 1, bound: 0.5 }.is_enough());
    }
}
