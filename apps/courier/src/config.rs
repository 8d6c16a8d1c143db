//! Settings: a flag wins over the environment, that over the file, that over the default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, ValueEnum};
use jiff::SignedDuration;
use serde::Deserialize;

use crate::retry::Plan;
use crate::signature::Signer;
use crate::store::Place;
use crate::target::Targets;

/// A webhook courier: stores messages before it answers, delivers them by HTTP POST, retries.
///
/// Ctrl-C or SIGTERM ends it gently: requests and deliveries under way are finished inside the grace period,
/// and the database is closed last. Durations are written as 500ms, 30s, 5m, 1h.
#[derive(Parser)]
#[command(name = "courier", version, after_help = AFTER_HELP)]
struct Cli {
    /// File with settings in TOML: the long flags with '_' for '-', as in: max_attempts = 5
    #[arg(long, value_name = "FILE", env = "COURIER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

const AFTER_HELP: &str = "Flags win over the environment, the environment over the file.

Try it:
  courier --allow-private-targets
  curl -i localhost:4000/v1/messages \\
    --json '{\"url\": \"http://localhost:9000/hook\", \"payload\": \"hello\"}'";

/// All settings, as they may stand on the command line, in the environment and in the file.
#[derive(Args, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Where to listen [default: what a process manager hands over by the name http, or else 127.0.0.1:4000]
    #[arg(long, value_name = "ADDRESS", env = "COURIER_LISTEN")]
    listen: Option<SocketAddr>,
    /// A file for SQLite, or postgres://user@host/name to share the work with other couriers [default: courier.db]
    #[arg(long, value_name = "FILE OR URL", env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
    /// Signs deliveries (Standard Webhooks): whsec_… or any text. Better given in the environment than as a flag
    #[arg(long, env = "COURIER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Lets targets be loopback and private addresses. Only for tests and closed networks
    #[arg(long, env = "COURIER_ALLOW_PRIVATE_TARGETS", num_args = 0..=1, default_missing_value = "true")]
    allow_private_targets: Option<bool>,
    /// Deliveries at the same time [default: 64]
    #[arg(long, value_name = "N", env = "COURIER_CONCURRENCY")]
    concurrency: Option<u16>,
    /// Attempts before a message is dead [default: 10]
    #[arg(long, value_name = "N", env = "COURIER_MAX_ATTEMPTS")]
    max_attempts: Option<u32>,
    /// The most that one attempt may take [default: 15s]
    #[arg(long, value_name = "DURATION", env = "COURIER_ATTEMPT_TIMEOUT")]
    attempt_timeout: Option<SignedDuration>,
    /// Wait before the second attempt; doubles from then on, with jitter [default: 1s]
    #[arg(long, value_name = "DURATION", env = "COURIER_RETRY_FIRST")]
    retry_first: Option<SignedDuration>,
    /// The longest wait between two attempts [default: 1h]
    #[arg(long, value_name = "DURATION", env = "COURIER_RETRY_MAX")]
    retry_max: Option<SignedDuration>,
    /// The largest message in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "COURIER_BODY_LIMIT")]
    body_limit: Option<u32>,
    /// The most that the end may take [default: 30s]
    #[arg(long, value_name = "DURATION", env = "COURIER_GRACE")]
    grace: Option<SignedDuration>,
    /// How long to go on accepting after the signal, so that balancers can turn away [default: 0s]
    #[arg(long, value_name = "DURATION", env = "COURIER_LAME_DUCK")]
    lame_duck: Option<SignedDuration>,
    /// Where /livez, /readyz and /metrics are answered for whoever watches over it, to the very end [default: nowhere]
    #[arg(long, value_name = "ADDRESS", env = "COURIER_ADMIN")]
    admin: Option<SocketAddr>,
    /// Lets whoever knows it POST to /drain and /restart there. Better given in the environment than as a flag
    #[arg(long, value_name = "TOKEN", env = "COURIER_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// Shows there, to a browser on this machine, what runs and how it ends. Where no token is set, the log says one
    #[arg(long, env = "COURIER_ADMIN_PAGE", num_args = 0..=1, default_missing_value = "true")]
    admin_page: Option<bool>,
    /// SIGHUP starts the program's file again, which takes over without a refused client. Otherwise SIGHUP ends it
    #[arg(long, env = "COURIER_RESTART_IN_PLACE", num_args = 0..=1, default_missing_value = "true")]
    restart_in_place: Option<bool>,
    /// Gives the listeners to systemd to keep from one start to the next; needs FileDescriptorStoreMax=
    #[arg(long, env = "COURIER_KEEP_LISTENERS", num_args = 0..=1, default_missing_value = "true")]
    keep_listeners: Option<bool>,
    /// What to log, as in: warn,courier=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "COURIER_LOG")]
    log: Option<String>,
    /// How to log [default: text]
    #[arg(long, value_name = "FORMAT", env = "COURIER_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Where to listen when nobody says.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

/// The settings that hold.
pub struct Config {
    /// `None`: what was handed over, or else [`DEFAULT_LISTEN`].
    pub listen: Option<SocketAddr>,
    pub database: Place,
    pub signer: Option<Signer>,
    pub targets: Targets,
    pub concurrency: u16,
    pub attempt_timeout: Duration,
    pub retries: Plan,
    pub body_limit: usize,
    pub grace: Duration,
    pub lame_duck: Duration,
    pub admin: Option<SocketAddr>,
    pub admin_token: Option<String>,
    pub admin_page: bool,
    pub restart_in_place: bool,
    pub keep_listeners: bool,
    pub log: String,
    pub log_format: LogFormat,
}

impl Config {
    /// Reads all three sources. Asked for help or the version, it prints them and ends the process.
    pub fn load() -> anyhow::Result<Self> {
        let Cli { config, options } = Cli::parse();
        match config {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| anyhow!("cannot read {}: {error}", path.display()))?;
                let file = read_file(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
                options.or(file).resolve()
            }
            None => options.resolve(),
        }
    }
}

/// The whole of what toml says has many lines; the message and the line number are enough.
fn read_file(text: &str) -> anyhow::Result<Options> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        anyhow!("line {line}: {}", error.message())
    })
}

impl Options {
    /// Field by field: what is missing here comes from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            database: self.database.or(other.database),
            secret: self.secret.or(other.secret),
            allow_private_targets: self.allow_private_targets.or(other.allow_private_targets),
            concurrency: self.concurrency.or(other.concurrency),
            max_attempts: self.max_attempts.or(other.max_attempts),
            attempt_timeout: self.attempt_timeout.or(other.attempt_timeout),
            retry_first: self.retry_first.or(other.retry_first),
            retry_max: self.retry_max.or(other.retry_max),
            body_limit: self.body_limit.or(other.body_limit),
            grace: self.grace.or(other.grace),
            lame_duck: self.lame_duck.or(other.lame_duck),
            admin: self.admin.or(other.admin),
            admin_token: self.admin_token.or(other.admin_token),
            admin_page: self.admin_page.or(other.admin_page),
            restart_in_place: self.restart_in_place.or(other.restart_in_place),
            keep_listeners: self.keep_listeners.or(other.keep_listeners),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
        }
    }

    fn resolve(self) -> anyhow::Result<Config> {
        let signer = self.secret.filter(|secret| !secret.is_empty()).map(|secret| Signer::new(&secret)).transpose();
        Ok(Config {
            listen: self.listen,
            database: Place::parse(self.database.as_deref().unwrap_or("courier.db"))?,
            signer: signer.context("secret: what follows whsec_ must be base64")?,
            targets: if self.allow_private_targets == Some(true) { Targets::Any } else { Targets::Public },
            concurrency: at_least_one("concurrency", self.concurrency.unwrap_or(64))?,
            attempt_timeout: positive("attempt_timeout", self.attempt_timeout, 15)?,
            retries: Plan {
                max_attempts: at_least_one("max_attempts", self.max_attempts.unwrap_or(10))?,
                first_delay: positive("retry_first", self.retry_first, 1)?,
                max_delay: positive("retry_max", self.retry_max, 3600)?,
            },
            body_limit: at_least_one("body_limit", self.body_limit.unwrap_or(1 << 20))? as usize,
            grace: duration("grace", self.grace, 30)?,
            lame_duck: duration("lame_duck", self.lame_duck, 0)?,
            admin: self.admin,
            admin_token: self.admin_token.filter(|token| !token.is_empty()),
            admin_page: self.admin_page == Some(true),
            restart_in_place: self.restart_in_place == Some(true),
            keep_listeners: self.keep_listeners == Some(true),
            log: self.log.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
        })
    }
}

fn duration(name: &str, given: Option<SignedDuration>, default_secs: i64) -> anyhow::Result<Duration> {
    let given = given.unwrap_or(SignedDuration::from_secs(default_secs));
    Duration::try_from(given).map_err(|_negative| anyhow!("{name}: {given:#} is negative; write for example 30s"))
}

fn positive(name: &str, given: Option<SignedDuration>, default_secs: i64) -> anyhow::Result<Duration> {
    let duration = duration(name, given, default_secs)?;
    if duration.is_zero() { Err(anyhow!("{name}: must be longer than 0s")) } else { Ok(duration) }
}

fn at_least_one<T: PartialEq + Default>(name: &str, value: T) -> anyhow::Result<T> {
    if value == T::default() { Err(anyhow!("{name}: must be at least 1")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flags = Options { concurrency: Some(2), ..Options::default() };
        let file = read_file("concurrency = 3\ngrace = \"5s\"\nallow_private_targets = true").unwrap();
        let config = flags.or(file).resolve().unwrap();
        assert_eq!(config.concurrency, 2);
        assert_eq!(config.grace, Duration::from_secs(5));
        assert_eq!(config.targets, Targets::Any);
        assert_eq!(config.listen, None);
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_with_its_line() {
        let error = read_file("grace = \"5s\"\n\ngrase = 3").err().unwrap().to_string();
        assert!(error.starts_with("line 3: unknown field `grase`"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_by_name() {
        for (text, name) in [
            ("concurrency = 0", "concurrency"),
            ("attempt_timeout = \"0s\"", "attempt_timeout"),
            ("grace = \"-1s\"", "grace"),
            ("secret = \"whsec_%\"", "secret"),
        ] {
            let error = read_file(text).unwrap().resolve().err().expect(text).to_string();
            assert!(error.starts_with(name), "{text}: {error}");
        }
    }
}
