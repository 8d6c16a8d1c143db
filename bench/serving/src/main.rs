//! What serving and ending cost, side by side. `cargo xtask bench` builds all that it needs and starts it; README.md says
//! what is measured.

mod build;
mod client;
mod clock;
mod kept;
mod page;
mod parts;
mod picture;
mod process;
mod program;
mod question;
mod servers;
mod show;
mod spread;
mod witness;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use kept::{Into, Kept};
use parts::{Effort, Part, Plan};
use program::Program;
use question::Question;
use servers::Kind;

/// Measures servers side by side; `cargo xtask bench` starts it
#[derive(Parser)]
struct Args {
    /// What to measure [default: all but build]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The servers to compare with, as xtask describes them
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// So many rounds [default: 3 to 9, by part]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// A glance: three short rounds, and fewer connections
    #[arg(long)]
    quick: bool,
    /// Where what is measured is kept
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
    /// Measures nothing, and writes what is kept
    #[arg(long)]
    kept: bool,
    /// Puts each table between the lines `<!-- bench PART -->` and `<!-- /bench PART -->` of this file, and its picture beside it
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// What was typed, as the tables tell it
    #[arg(long, hide = true, value_name = "TEXT")]
    typed: Option<String>,
    /// Serves on PORT: a server of ours
    #[arg(long, hide = true, value_enum)]
    serve: Option<Kind>,
    /// Becomes the command behind the two dashes
    #[arg(long, hide = true)]
    hold: bool,
    #[arg(last = true, hide = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.serve {
        _ if args.hold => process::hold(&args.command).map(|never| match never {}),
        Some(kind) => servers::serve(kind),
        None => run(&args).map(|well| if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    };
    done.unwrap_or_else(|error| {
        say(io::stderr(), &format!("serving: {error:#}"));
        ExitCode::FAILURE
    })
}

/// True when none of ours failed.
fn run(args: &Args) -> anyhow::Result<bool> {
    let kept = Kept::new(&args.out)?;
    let into = args.into.clone().map(Into);
    let mut wanted = args.parts.clone();
    if wanted.is_empty() {
        wanted = if args.kept { kept.parts() } else { Part::by_default() };
    }
    if let Some(into) = &into {
        // Found out now, and not after minutes.
        wanted.iter().try_for_each(|part| into.around(&part.name()).map(drop))?;
    }
    let mut well = true;
    if !args.kept {
        let peers = args.peers.as_deref().map(Program::peers).transpose()?.unwrap_or_default();
        let all_files = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: all_files, maximum: all_files })?;
        let effort = Effort { quick: args.quick, rounds: args.rounds };
        // All of them first: what is missing for the last is said before the first.
        let plans = wanted.iter().map(|part| part.plan(&peers, effort)).collect::<anyhow::Result<Vec<_>>>()?;
        for mut plan in plans {
            plan.question.of = circumstances(plan.rounds)?;
            plan.question.command = typed(args, &plan.question.part);
            measure(&mut plan);
            well &=
                plan.question.groups.iter().flat_map(|group| &group.rows).all(|row| !row.ours || row.failed.is_none());
            kept.keep(&plan.question)?;
            say(io::stdout(), &show::table(&plan.question));
        }
    }
    let questions = kept.all()?;
    ensure!(!questions.is_empty(), "nothing is kept in {}", args.out.display());
    let page = kept.page(&questions)?;
    let asked = |question: &&Question| wanted.iter().any(|part| part.name() == question.part);
    for question in questions.iter().filter(asked) {
        if args.kept {
            say(io::stdout(), &show::table(question));
        }
        if let Some(into) = &into {
            into.put(question)?;
        }
    }
    say(io::stdout(), &format!("{}", page.display()));
    Ok(well)
}

/// All rounds, one server after the other in each; one that fails is left out from there on.
fn measure(plan: &mut Plan) {
    let question = &mut plan.question;
    let progress = Progress::new(&question.part, plan.rounds as usize * plan.jobs.len());
    for round in 1..=plan.rounds {
        for job in &plan.jobs {
            let failed = job.rows.iter().any(|(group, row)| question.groups[*group].rows[*row].failed.is_some());
            progress.step(&format!("round {round} of {}: {}", plan.rounds, job.name));
            if failed {
                continue;
            }
            match (job.measure)() {
                Ok(figures) => {
                    for ((group, row), figure) in job.rows.iter().zip(figures) {
                        question.groups[*group].rows[*row].samples.push(figure);
                    }
                }
                Err(error) => {
                    progress.say(&format!("{}: {error:#}", job.name));
                    for (group, row) in &job.rows {
                        question.groups[*group].rows[*row].failed = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    progress.bar.finish_and_clear();
}

/// As it is typed for this part alone.
fn typed(args: &Args, part: &str) -> String {
    args.typed.as_ref().map_or_else(|| format!("serving {part}"), |typed| typed.replace("{part}", part))
}

/// Which commit, how many rounds, and on what.
fn circumstances(rounds: u32) -> anyhow::Result<String> {
    let git = |words: &[&str]| {
        let told = Command::new("git").args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
    };
    // What is not committed counts only where it is part of what is measured.
    let changed = git(&["status", "--porcelain", "--", "../../crates/glidepath/src", "../../Cargo.lock"]);
    let changed = if changed.is_some_and(|files| !files.is_empty()) { ", changed" } else { "" };
    let commit = git(&["log", "-1", "--format=%h of %cs"]).unwrap_or_else(|| "unknown".to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("it is not Linux")?;
    let kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    let cores = std::thread::available_parallelism()?;
    Ok(format!("Commit {commit}{changed}; {rounds} rounds; {cores} processors, Linux {kernel}, loopback"))
}

/// A bar on a terminal, a line for each step elsewhere.
struct Progress {
    bar: ProgressBar,
    steps: usize,
}

impl Progress {
    fn new(part: &str, steps: usize) -> Self {
        if !io::stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden(), steps };
        }
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix:12}{bar:30} {eta} left: {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(part.to_owned());
        Progress { bar, steps }
    }

    /// Says what begins.
    fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
        if self.bar.is_hidden() {
            say(io::stderr(), &format!("[{}/{}] {what}", self.bar.position(), self.steps));
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
