//! The proof that nothing is lost: hundreds of clients of all kinds, a server that is told to end at a random moment,
//! again and again, and a count of what became of every request. README.md says what each column means.

mod client;
mod judge;
mod kinds;
mod load;
mod server;
mod show;
mod tally;
mod wire;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use kinds::Kind;
use load::Plan;
use show::Outcome;

const TARGET: &str = "target/release/examples/target";

/// Ends a server under load, and counts what its clients lose
///
/// Exit code: 0 nothing was lost, 1 something was, or the bench could not run; 2 bad usage.
#[derive(Parser)]
struct Args {
    /// How many times the server is started and ended
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    ends: u32,
    /// How many clients, of all kinds together
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    clients: u32,
    /// Which kinds [default: all]
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Of a hundred clients, so many don't look for FIN before they send; they are counted apart
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=90))]
    blind: u32,
    /// Of a hundred ends, in so many the server is stopped (SIGSTOP) for up to 50 ms before the signal
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=100))]
    freeze: u32,
    /// The same moments and choices again [default: by chance, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Writes all counts to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server, which must heed PORT [default: target/release/examples/target]
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("can't start a runtime").and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(io::stderr(), &format!("loss: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(mut args: Args) -> anyhow::Result<bool> {
    if args.command.is_empty() {
        if !Path::new(TARGET).is_file() {
            bail!("{TARGET} is not there; build it: cargo build --release -p glidepath --example target");
        }
        args.command.push(TARGET.into());
    }
    if args.kinds.is_empty() {
        args.kinds = Kind::value_variants().to_vec();
    }
    args.kinds.sort_unstable();
    args.kinds.dedup();
    // Found out now, and not after minutes.
    if let Some(path) = &args.json {
        std::fs::write(path, "").with_context(|| format!("can't write {}", path.display()))?;
    }
    let plan = Plan {
        kinds: args.kinds,
        clients: args.clients as usize,
        blind: args.blind as usize,
        freeze: args.freeze,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        command: args.command,
    };
    let outcome = all_ends(&plan, args.ends).await?;
    say(io::stdout(), &outcome.table());
    for sentence in outcome.sentences() {
        say(io::stdout(), &sentence);
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&outcome)?;
        std::fs::write(path, json).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(outcome.passed)
}

async fn all_ends(plan: &Plan, ends: u32) -> anyhow::Result<Outcome> {
    let words: Vec<_> = plan.command.iter().map(|word| word.to_string_lossy()).collect();
    let mut outcome =
        Outcome { command: words.join(" "), seed: plan.seed, ends, clients: plan.clients, ..Outcome::default() };
    let progress = Progress::new(ends);
    progress.say(&format!("{}, seed {}: control, without a signal", outcome.command, outcome.seed));
    let (counts, exit) = load::control(plan).await?;
    outcome.add_control(counts);
    outcome.wrong_exits.extend(exit.wrong().map(|wrong| format!("control: {wrong}: {}", exit.said.trim())));
    for number in 1..=ends {
        let (counts, exit) = load::end(plan, number).await?;
        outcome.add(counts);
        outcome.exit_ms.push(u64::try_from(exit.took.as_millis())?);
        outcome.wrong_exits.extend(exit.wrong().map(|wrong| format!("end {number}: {wrong}: {}", exit.said.trim())));
        progress.step(number, &outcome);
    }
    progress.bar.finish_and_clear();
    outcome.judge();
    Ok(outcome)
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    ends: u32,
}

impl Progress {
    fn new(ends: u32) -> Self {
        if !io::stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden(), ends };
        }
        let bar = ProgressBar::new(ends.into());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} end {pos} of {len}, {eta} left: {msg}") {
            bar.set_style(style);
        }
        Progress { bar, ends }
    }

    fn step(&self, number: u32, outcome: &Outcome) {
        let total = outcome.total();
        let so_far = format!("{} sent, {} raced, {} bad", total.sent, total.raced, outcome.bad());
        self.bar.set_position(number.into());
        self.bar.set_message(so_far.clone());
        if self.bar.is_hidden() && (number % 10 == 0 || number == self.ends) {
            say(io::stderr(), &format!("end {number} of {}: {so_far}", self.ends));
        }
    }

    fn say(&self, what: &str) {
        if self.bar.is_hidden() {
            say(io::stderr(), what);
        } else {
            self.bar.println(what);
        }
    }
}

/// Whoever read this may be gone.
fn say(mut to: impl Write, what: &str) {
    let _gone = writeln!(to, "{what}");
}
