//! The proof that nothing is lost: hundreds of clients of all kinds, a server that is told to end at a random moment,
//! again and again, and a count of what became of every request. README.md says what each column means.

mod client;
mod judge;
mod kinds;
mod load;
mod program;
mod server;
mod show;
mod stream;
mod tally;
mod wire;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use kinds::{Class, Kind};
use load::Plan;
use program::Program;
use show::{Outcome, brief, markdown, side_by_side};

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
    /// Of a hundred clients, so many come over TLS, where the server heeds TLS_PORT
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    tls: u32,
    /// Of a hundred ends, so many begin with a lame duck, where the server heeds LAME_DUCK
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100))]
    lame_duck: u32,
    /// Of a hundred ends, in so many the server is stopped (SIGSTOP) for up to 50 ms before the signal
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=100))]
    freeze: u32,
    /// The same moments and choices again [default: by chance, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Writes all counts to this file, anew after every 50 ends
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes all tables to this file, as Markdown, anew after every 50 ends
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// At the end, puts one table of all servers into this file, between the lines `<!-- loss -->` and `<!-- /loss -->`
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Servers to compare with, under the same load: a peer.toml, its folder, or a folder of such folders
    #[arg(long, value_name = "PATH")]
    compare: Vec<PathBuf>,
    /// Peers run with nothing set about their end, instead of as their documentation advises
    #[arg(long, requires = "compare")]
    defaults: bool,
    /// The server that must lose nothing, which heeds PORT [default: target/release/examples/target]
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
    let mut results = Results { json: args.json, markdown: args.markdown, outcomes: Vec::new() };
    // Found out now, and not after minutes.
    results.save()?;
    let into = args.into.map(Into::checked).transpose()?;
    let mut programs = vec![Program::target(args.command, args.tls > 0)];
    for path in &args.compare {
        programs.extend(program::peers(path, args.defaults)?);
    }
    let plan = Plan {
        kinds: args.kinds,
        clients: args.clients as usize,
        blind: args.blind as usize,
        tls: args.tls as usize,
        freeze: args.freeze,
        lame_duck: args.lame_duck,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
    };
    for (index, program) in programs.iter().enumerate() {
        let is_peer = index > 0;
        let new = Outcome { server: program.name.clone(), seed: plan.seed, ends: args.ends, ..Outcome::default() };
        results.outcomes.push(Outcome { clients: plan.clients, ..new });
        if let Err(error) = all_ends(&plan, program, is_peer, &mut results).await {
            if !is_peer {
                return Err(error);
            }
            // The others can still be compared.
            say(io::stderr(), &format!("loss: {}: {error:#}", program.name));
            results.last().wrong_exits.push(format!("{error:#}"));
        }
        let outcome = results.last();
        outcome.judge();
        say(io::stdout(), &format!("{}\n{}", outcome.server, outcome.table()));
        outcome.sentences().iter().for_each(|sentence| say(io::stdout(), sentence));
        results.save()?;
    }
    if programs.len() > 1 {
        say(io::stdout(), &format!("\n{}", side_by_side(&results.outcomes)));
    }
    if let Some(into) = into {
        into.put(&brief(&results.outcomes, &command_line()))?;
    }
    Ok(results.outcomes[0].passed)
}

fn command_line() -> String {
    let words: Vec<_> = std::env::args().skip(1).collect();
    format!("cargo run --release -p loss -- {}", words.join(" "))
}

/// A file with a place for the table.
struct Into(PathBuf);

impl Into {
    const BEGIN: &str = "<!-- loss -->\n";
    const END: &str = "<!-- /loss -->";

    fn checked(path: PathBuf) -> anyhow::Result<Self> {
        let into = Into(path);
        into.around().map(|_| into)
    }

    /// What stands before the table, and what behind it.
    fn around(&self) -> anyhow::Result<(String, String)> {
        let path = self.0.display();
        let text = std::fs::read_to_string(&self.0).with_context(|| format!("can't read {path}"))?;
        let place =
            text.split_once(Self::BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(Self::END)?.1)));
        let Some((before, after)) = place else {
            bail!("{path} has no lines {} and {} for the table", Self::BEGIN.trim(), Self::END);
        };
        Ok((before.to_owned(), after.to_owned()))
    }

    /// The file may have changed since the start, which is hours ago.
    fn put(&self, table: &str) -> anyhow::Result<()> {
        let (before, after) = self.around()?;
        let text = format!("{before}{}\n{table}\n{}{after}", Self::BEGIN, Self::END);
        std::fs::write(&self.0, text).with_context(|| format!("can't write {}", self.0.display()))
    }
}

/// What came out so far, a server each, and where it is kept.
struct Results {
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    outcomes: Vec<Outcome>,
}

impl Results {
    /// Of the server that runs.
    fn last(&mut self) -> &mut Outcome {
        self.outcomes.last_mut().expect("pushed before its server starts")
    }

    fn save(&self) -> anyhow::Result<()> {
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
        };
        if let Some(path) = &self.json {
            write(path, serde_json::to_string_pretty(&self.outcomes)?)?;
        }
        if let Some(path) = &self.markdown {
            write(path, markdown(&self.outcomes, &command_line()))?;
        }
        Ok(())
    }
}

async fn all_ends(plan: &Plan, program: &Program, is_peer: bool, results: &mut Results) -> anyhow::Result<()> {
    let outcome = results.last();
    for kind in &plan.kinds {
        for tls in [false, true] {
            let class = Class { kind: *kind, tls };
            outcome.left_out.extend(program.lacks(class).map(|lack| (class, lack)));
        }
    }
    let ends = outcome.ends;
    let progress = Progress::new(ends);
    progress.say(&format!("{}, seed {}: control, without a signal", outcome.server, outcome.seed));
    let out: Vec<_> = outcome.left_out.keys().copied().collect();
    let (counts, exit) = load::control(plan, program, &out).await?;
    outcome.add_control(counts);
    if is_peer {
        outcome.leave_out_invalid();
    }
    outcome.wrong_exits.extend(exit.wrong().map(|wrong| format!("control: {wrong}: {}", exit.said.trim())));
    let out: Vec<_> = outcome.left_out.keys().copied().collect();
    for number in 1..=ends {
        let (counts, exit) = load::end(plan, program, &out, number).await?;
        let outcome = results.last();
        for (class, counts) in &counts {
            counts.looking.notes.iter().for_each(|note| progress.say(&format!("{class}: {note}")));
        }
        outcome.add(counts);
        outcome.add_exit(&exit);
        progress.step(number, outcome);
        if number % 50 == 0 {
            results.save()?;
        }
    }
    progress.bar.finish_and_clear();
    Ok(())
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
