//! How a server is started, spoken to and ended: what the flags and the file beside the server say.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;

/// Everything that a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A name for tables.
    pub name: String,
    /// The command; `{port}` and the like are filled in.
    pub command: Vec<String>,
    /// The signal that begins the end.
    pub signal: Stop,
    /// Where the signal goes.
    pub to: Whom,
    /// A port that the server can't be told to change. One server at a time, then.
    pub port: Option<u16>,
    /// Which of its ports speaks TLS in all cases.
    pub tls: Tls,
    /// What variables of the environment are called.
    pub names: BTreeMap<Variable, String>,
    /// Other variables for the server.
    pub env: Vec<(String, String)>,
    /// Its grace period.
    pub grace: Grace,
    /// Where each kind of work is.
    pub paths: BTreeMap<Work, String>,
    /// Sent with every request, `host` among them.
    pub headers: Vec<(String, String)>,
    /// How long a server may take until it answers.
    pub start: Duration,
    /// Patterns of case ids; none means all.
    pub only: Vec<String>,
    /// Patterns of case ids that are left out.
    pub skip: Vec<String>,
    /// What the server must offer, or the run ends before its cases.
    pub must_offer: Vec<String>,
    /// So many cases at a time.
    pub jobs: usize,
    /// Bytes and frames are kept.
    pub verbose: bool,
}

/// How a server is told to end.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// By a signal.
    Signal(Signal),
    /// By a command, run by `sh -c` with `PID`, `PORT` and the server's own variables set; the end begins when it is started.
    Command(String),
}

/// Who gets the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process that was started: what Kubernetes, Docker and systemd do first.
    Process,
    /// Its whole process group: what a terminal does.
    Group,
}

/// Where TLS is spoken in every case, and not only in those about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nowhere.
    No,
    /// On the port of `PORT`, which speaks nothing else.
    Main,
    /// On the port of `TLS_PORT`.
    Second,
}

/// How long a drain may last, as far as the check can say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grace {
    /// As long as the variable says.
    Variable,
    /// So long, and it can't be told otherwise.
    Fixed(f64),
    /// It has no such limit: cases that need one are skipped.
    None,
}

/// A variable of the environment that a case may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// Where to listen.
    Port,
    /// Where to listen with TLS, besides.
    TlsPort,
    /// The path of a unix socket, besides.
    Unix,
    /// The port of probes.
    AdminPort,
    /// The grace period, in seconds.
    Grace,
    /// The lame duck, in seconds.
    LameDuck,
    /// Restart in place is on.
    Restart,
}

impl Variable {
    /// All of them, with the names that they have unless told otherwise.
    pub const ALL: [(Variable, &'static str); 7] = [
        (Variable::Port, "PORT"),
        (Variable::TlsPort, "TLS_PORT"),
        (Variable::Unix, "UNIX"),
        (Variable::AdminPort, "ADMIN_PORT"),
        (Variable::Grace, "GRACE"),
        (Variable::LameDuck, "LAME_DUCK"),
        (Variable::Restart, "RESTART"),
    ];
}

/// A kind of work that a server may have a path for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Answers at once.
    Quick,
    /// Answers after a while, `{ms}`.
    Slow,
    /// Answers piece by piece: `{chunks}` of them, `{ms}` apart.
    Stream,
    /// Answers with megabytes.
    Big,
    /// Sends events for ever.
    Sse,
    /// Reads a body, and answers then.
    Upload,
    /// Upgrades to WebSocket.
    Ws,
    /// Starts work that outlives its answer, which comes at once; `{ms}`.
    Task,
    /// Blocks a thread for `{ms}`.
    Block,
    /// Panics, throws, or what the language calls it.
    Panic,
}

impl Work {
    /// All of them, with their names and the paths where they are looked for.
    pub const ALL: [(Work, &'static str, &'static str); 10] = [
        (Work::Quick, "quick", "/"),
        (Work::Slow, "slow", "/sleep?ms={ms}"),
        (Work::Stream, "stream", "/stream?chunks={chunks}&ms={ms}"),
        (Work::Big, "big", "/stream?chunks={chunks}&ms=0"),
        (Work::Sse, "sse", "/sse"),
        (Work::Upload, "upload", "/echo"),
        (Work::Ws, "ws", "/ws"),
        (Work::Task, "task", "/task?ms={ms}"),
        (Work::Block, "block", "/block?ms={ms}"),
        (Work::Panic, "panic", "/panic"),
    ];

    /// What flags call it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(work, _, _)| *work == self).map_or("", |(_, name, _)| name)
    }
}

/// The signals that may begin an end.
pub const SIGNALS: [(&str, Signal); 6] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

/// `SIGTERM`
pub(crate) fn signal_name(signal: Signal) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == signal);
    known.map_or_else(|| format!("signal {}", signal.as_raw()), |(name, _)| format!("SIG{name}"))
}

impl Stop {
    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::Signal(signal) => signal_name(*signal),
            Self::Command(command) => command.clone(),
        }
    }
}

impl Settings {
    /// All defaults, for this command.
    pub fn for_command(command: Vec<String>) -> Self {
        let program = command.first().map(|program| program.rsplit('/').next().unwrap_or(program).to_owned());
        Settings {
            name: program.unwrap_or_default(),
            command,
            signal: Stop::Signal(Signal::TERM),
            to: Whom::Process,
            port: None,
            tls: Tls::No,
            names: Variable::ALL.iter().map(|(variable, name)| (*variable, (*name).to_owned())).collect(),
            env: Vec::new(),
            grace: Grace::Variable,
            paths: Work::ALL.iter().map(|(work, _, path)| (*work, (*path).to_owned())).collect(),
            headers: vec![("host".to_owned(), "localhost".to_owned())],
            start: Duration::from_secs(10),
            only: Vec::new(),
            skip: Vec::new(),
            must_offer: Vec::new(),
            jobs: 8,
            verbose: false,
        }
    }

    pub(crate) fn path(&self, work: Work, milliseconds: u64, chunks: u64) -> String {
        let path = self.paths.get(&work).map_or("/", String::as_str);
        path.replace("{ms}", &milliseconds.to_string()).replace("{chunks}", &chunks.to_string())
    }

    /// Whether it can be told how long to take.
    pub(crate) fn can_wait(&self, work: Work) -> bool {
        self.paths.get(&work).is_some_and(|path| path.contains("{ms}"))
    }

    /// All headers but the host's are the same in HTTP/2.
    pub(crate) fn headers_text(&self) -> String {
        self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    }

    pub(crate) fn host(&self) -> &str {
        let host = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        host.map_or("localhost", |(_, host)| host)
    }

    /// Whether this case is wanted.
    pub fn wants(&self, id: &str) -> bool {
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, id));
        (self.only.is_empty() || fits(&self.only)) && !fits(&self.skip)
    }
}

/// Whether a pattern of case ids fits: `idle/*` fits `idle/long-quiet`; `*` stands for anything.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|tail| (0..=tail.len()).any(|at| tail.is_char_boundary(at) && matches(rest, &tail[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("idle/*", "idle/long-quiet"));
        assert!(matches("*quiet*", "idle/long-quiet"));
        assert!(matches("idle/long-quiet", "idle/long-quiet"));
        assert!(!matches("idle/", "idle/long-quiet"));
        assert!(!matches("*/quiet", "idle/long-quiet"));
    }
}
