//! The flags, the file of settings beside a server, and how both become settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use glidepath_check::exit_code;
use glidepath_check::settings::{Grace, SIGNALS, Settings, Stop, Tls, Variable, Whom, Work};
use serde::Deserialize;

/// Puts any HTTP server through its end, and says what became of its clients.
///
/// The command is started for each case, with PORT set to a free port, and is told to end by SIGTERM. It answers some
/// or all of: GET / (at once), /sleep?ms=N, /stream?chunks=N&ms=M, /sse, /ws, /block?ms=N, /panic, POST /echo, POST
/// /task?ms=N; what it lacks is found out, and cases that need it are skipped and said to be.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = after_help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    #[command(flatten)]
    pub(crate) check: Check,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Name all cases
    List,
    /// Tell of a promise or a case: its sentence, its source, what users see when it fails, how servers solve it
    Explain {
        /// Such as IDLE-2, or idle/quiet-window
        id: String,
    },
    /// Say in words what glidepath's report of an end means, and what to do about it
    Report {
        /// A file with the report in it: alone, or as a line of a log. `-` is standard input
        file: PathBuf,
    },
    /// What differs between two runs that --json wrote
    Compare {
        /// The earlier run
        before: PathBuf,
        /// The later run
        after: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The server's command and its arguments; {port}, {tls-port}, {unix}, {admin-port} and {grace} are filled in
    #[arg(last = true)]
    command: Vec<String>,
    /// Settings from a file; flags go before them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A name for the server, in tables
    #[arg(long)]
    name: Option<String>,

    /// The signal that begins its end: TERM, INT, QUIT, HUP, USR1 or USR2 [default: TERM]
    #[arg(long, help_heading = "How it is started and ended")]
    signal: Option<String>,
    /// A command that begins its end instead; run by sh with PID, PORT and the server's own variables set
    #[arg(long, value_name = "COMMAND", conflicts_with = "signal", help_heading = "How it is started and ended")]
    stop: Option<String>,
    /// Who gets the signal [default: process]
    #[arg(long, value_enum, help_heading = "How it is started and ended")]
    to: Option<To>,
    /// It listens here whatever PORT says; cases go one by one then
    #[arg(long, help_heading = "How it is started and ended")]
    port: Option<u16>,
    /// How long it may take until it answers, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "How it is started and ended")]
    start_timeout: Option<f64>,
    /// Its grace period: `variable` (it heeds GRACE), seconds, or `none` (it has none) [default: variable]
    #[arg(long, help_heading = "How it is started and ended")]
    grace: Option<String>,
    /// A variable for its environment
    #[arg(long, value_name = "NAME=VALUE", help_heading = "How it is started and ended")]
    env: Vec<String>,
    /// What it calls a variable that it is given: port, tls-port, unix, admin-port, grace, lame-duck or restart
    #[arg(long, value_name = "port=HTTP_PORT", value_delimiter = ',', help_heading = "How it is started and ended")]
    variables: Vec<String>,

    /// Where a kind of work is: quick, slow, stream, big, sse, upload, ws, task, block or panic; {ms} and {chunks} are filled in
    #[arg(long, value_name = "slow=/api/slow", value_delimiter = ',', help_heading = "How it is spoken to")]
    paths: Vec<String>,
    /// A header for every request
    #[arg(long, short = 'H', value_name = "NAME: VALUE", help_heading = "How it is spoken to")]
    header: Vec<String>,
    /// Speak TLS in all cases: on its main port, or on the second one that TLS_PORT names
    #[arg(long, value_enum, help_heading = "How it is spoken to")]
    tls: Option<TlsPort>,

    /// Only cases whose id fits, such as 'idle/*'
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = "Which cases, and what for")]
    only: Vec<String>,
    /// No case whose id fits
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = "Which cases, and what for")]
    skip: Vec<String>,
    /// What it must offer (as the run's list of findings names it), or the run ends at once
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Which cases, and what for")]
    must_offer: Vec<String>,
    /// So many cases at a time [default: 8]
    #[arg(long, help_heading = "Which cases, and what for")]
    jobs: Option<usize>,
    /// A SHOULD that fails makes the run fail, too
    #[arg(long, help_heading = "Which cases, and what for")]
    pub(crate) strict: bool,
    /// Fail only on what is worse than in this run, which --json wrote
    #[arg(long, value_name = "FILE", help_heading = "Which cases, and what for")]
    pub(crate) baseline: Option<PathBuf>,

    /// Write the run as JSON (schema.json describes it)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Write the run as JUnit
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) junit: Option<PathBuf>,
    /// Write the run as one page with a picture for each case
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Show every event, with bytes and frames, of the cases that did not pass
    #[arg(long, short, help_heading = "Output")]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum To {
    Process,
    Group,
}

#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TlsPort {
    Main,
    Second,
}

fn after_help() -> String {
    let codes = exit_code::ALL.iter().map(|(code, what)| format!("\n  {code:>3}  {what}"));
    format!("Exit codes:{}", codes.collect::<String>())
}

/// What the file may say. Its names are those of the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    command: Vec<String>,
    name: Option<String>,
    signal: Option<String>,
    stop: Option<String>,
    to: Option<To>,
    port: Option<u16>,
    start_timeout: Option<f64>,
    grace: Option<FileGrace>,
    tls: Option<TlsPort>,
    only: Vec<String>,
    skip: Vec<String>,
    must_offer: Vec<String>,
    jobs: Option<usize>,
    env: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    paths: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileGrace {
    Seconds(f64),
    Word(String),
}

impl Check {
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let file = self.config.as_deref().map_or_else(|| Ok(File::default()), read)?;
        let command = if self.command.is_empty() { file.command } else { self.command.clone() };
        if command.is_empty() {
            bail!("what is to be checked? Say its command behind two dashes: glidepath-check -- ./server --flag");
        }
        let mut settings = Settings::for_command(command);
        if let Some(name) = self.name.clone().or(file.name) {
            settings.name = name;
        }
        let file_grace = file.grace.map(|grace| match grace {
            FileGrace::Seconds(seconds) => seconds.to_string(),
            FileGrace::Word(word) => word,
        });
        match (self.stop.clone().or(file.stop), self.signal.clone().or(file.signal)) {
            (_, Some(name)) if self.stop.is_none() => settings.signal = Stop::Signal(signal(&name)?),
            (Some(command), _) => settings.signal = Stop::Command(command),
            _ => {}
        }
        match self.to.or(file.to) {
            Some(To::Group) => settings.to = Whom::Group,
            Some(To::Process) | None => {}
        }
        settings.port = self.port.or(file.port);
        settings.tls = match self.tls.or(file.tls) {
            None => Tls::No,
            Some(TlsPort::Main) => Tls::Main,
            Some(TlsPort::Second) => Tls::Second,
        };
        if let Some(seconds) = self.start_timeout.or(file.start_timeout) {
            settings.start = Duration::try_from_secs_f64(seconds).context("start-timeout")?;
        }
        if let Some(text) = self.grace.clone().or(file_grace) {
            settings.grace = grace(&text)?;
        }
        let pairs = |flags: &[String], file: BTreeMap<String, String>| -> anyhow::Result<Vec<(String, String)>> {
            let flags: anyhow::Result<Vec<_>> = flags.iter().map(|flag| pair(flag, '=')).collect();
            Ok(file.into_iter().chain(flags?).collect())
        };
        settings.env = pairs(&self.env, file.env)?;
        for (name, value) in pairs(&self.variables, file.variables)? {
            settings.names.insert(variable(&name)?, value);
        }
        for (name, path) in pairs(&self.paths, file.paths)? {
            if !path.starts_with('/') {
                bail!("the path of {name} begins with a slash, and {path:?} does not");
            }
            settings.paths.insert(work(&name)?, path);
        }
        let headers: anyhow::Result<Vec<_>> = self.header.iter().map(|header| pair(header, ':')).collect();
        for (name, value) in file.headers.into_iter().chain(headers?) {
            settings.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            settings.headers.push((name, value.trim().to_owned()));
        }
        settings.only = if self.only.is_empty() { file.only } else { self.only.clone() };
        settings.skip = if self.skip.is_empty() { file.skip } else { self.skip.clone() };
        settings.must_offer = if self.must_offer.is_empty() { file.must_offer } else { self.must_offer.clone() };
        if let Some(jobs) = self.jobs.or(file.jobs) {
            settings.jobs = jobs.max(1);
        }
        settings.verbose = self.verbose;
        Ok(settings)
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not as it should be", path.display()))
}

fn pair(text: &str, between: char) -> anyhow::Result<(String, String)> {
    let (name, value) = text.split_once(between).with_context(|| format!("{text:?} has no {between:?}"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

fn signal(name: &str) -> anyhow::Result<rustix::process::Signal> {
    let short = name.to_ascii_uppercase();
    let short = short.strip_prefix("SIG").unwrap_or(&short);
    let known = SIGNALS.iter().find(|(known, _)| *known == short);
    let names = SIGNALS.map(|(name, _)| name).join(", ");
    Ok(known.with_context(|| format!("{name} is not among the signals that begin an end: {names}"))?.1)
}

fn grace(text: &str) -> anyhow::Result<Grace> {
    Ok(match text {
        "variable" => Grace::Variable,
        "none" => Grace::None,
        seconds => {
            let seconds: f64 =
                seconds.parse().ok().filter(|seconds: &f64| *seconds >= 0.0 && *seconds < 3600.0).with_context(
                    || format!("the grace period is `variable`, `none` or a number of seconds, and not {text:?}"),
                )?;
            Grace::Fixed(seconds)
        }
    })
}

fn variable(name: &str) -> anyhow::Result<Variable> {
    Ok(match name {
        "port" => Variable::Port,
        "tls-port" => Variable::TlsPort,
        "unix" => Variable::Unix,
        "admin-port" => Variable::AdminPort,
        "grace" => Variable::Grace,
        "lame-duck" => Variable::LameDuck,
        "restart" => Variable::Restart,
        _ => bail!("{name:?} is not one of port, tls-port, unix, admin-port, grace, lame-duck and restart"),
    })
}

fn work(name: &str) -> anyhow::Result<Work> {
    let known = Work::ALL.iter().find(|(_, known, _)| *known == name);
    let names = Work::ALL.map(|(_, name, _)| name).join(", ");
    Ok(known.with_context(|| format!("{name:?} is not a kind of work: {names}"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> anyhow::Result<Settings> {
        let words = ["glidepath-check"].iter().chain(arguments);
        Cli::try_parse_from(words)?.check.settings()
    }

    #[test]
    fn the_issues_own_example_is_understood() {
        let line =
            "--signal QUIT --port 8080 --paths slow=/api/slow,upload=/api/import --only idle/* -- nginx -c nginx.conf";
        let settings = settings(&line.split(' ').collect::<Vec<_>>()).expect("it is");
        assert_eq!(settings.command, ["nginx", "-c", "nginx.conf"]);
        assert_eq!(settings.signal, Stop::Signal(rustix::process::Signal::QUIT));
        assert_eq!(settings.port, Some(8080));
        assert_eq!(settings.paths[&Work::Upload], "/api/import");
        assert_eq!(settings.paths[&Work::Quick], "/");
        assert!(settings.wants("idle/crowd") && !settings.wants("req/answered"));
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = std::env::temp_dir().join(format!("glidepath-check-{}.toml", std::process::id()));
        let text =
            "command = ['a']\nsignal = 'QUIT'\ngrace = 5\nport = 1\n[paths]\nslow = '/s'\n[headers]\nhost = 'h'\n";
        std::fs::write(&file, text).expect("a temporary file");
        let path = file.display().to_string();
        let settings = settings(&["--config", &path, "--port", "2", "--signal", "sigint"]).expect("it is understood");
        std::fs::remove_file(&file).expect("it is there");
        assert_eq!(settings.command, ["a"]);
        assert_eq!((settings.port, settings.grace), (Some(2), Grace::Fixed(5.0)));
        assert_eq!(settings.signal, Stop::Signal(rustix::process::Signal::INT));
        assert_eq!(settings.paths[&Work::Slow], "/s");
        assert_eq!(settings.headers, [("host".to_owned(), "h".to_owned())]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, named) in [
            ("--signal KILL -- a", "KILL"),
            ("--paths fast=/ -- a", "fast"),
            ("--paths slow=x -- a", "slash"),
            ("--grace soon -- a", "soon"),
            ("--variables gate=X -- a", "gate"),
            ("--header nothing -- a", "nothing"),
            ("", "two dashes"),
        ] {
            let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
            let error = settings(&words).expect_err(line);
            assert!(format!("{error:#}").contains(named), "{line}: {error:#}");
        }
    }
}
