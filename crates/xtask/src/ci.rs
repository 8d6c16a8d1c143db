//! The steps of CI, one after the other, each with its command and its time.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::builder::PossibleValuesParser;

use crate::tidy;

/// Every step, in the order it runs: what fails fast stands first.
const STEPS: &[Step] = &[
    Step { name: "format", command: "cargo fmt --all --check", env: &[], tool: None },
    // A workspace of its own, which `--all` does not reach.
    Step { name: "peers", command: "cargo fmt --manifest-path peers/rust/Cargo.toml --check", env: &[], tool: None },
    Step { name: "tidy", command: "cargo xtask tidy", env: &[], tool: None },
    // Tests and examples may sleep, spawn and print; what ships may not (clippy.toml). Hence two passes.
    Step { name: "bans", command: "cargo clippy --workspace --lib --bins -- -D warnings", env: &[], tool: None },
    Step {
        name: "clippy",
        command: "cargo clippy --workspace --all-targets -- -D warnings \
                  -A clippy::disallowed_methods -A clippy::disallowed_macros",
        env: &[],
        tool: None,
    },
    Step {
        name: "test",
        command: "cargo nextest run --workspace",
        env: &[],
        tool: Some(Tool { probe: "nextest", install: "cargo install --locked cargo-nextest" }),
    },
    // What threads do at the same instant. Built apart, because the cfg changes every crate.
    Step {
        name: "shuttle",
        command: "cargo test --package glidepath --lib --target-dir target/shuttle interleavings",
        env: &[("RUSTFLAGS", "--cfg shuttle")],
        tool: None,
    },
    Step {
        name: "target",
        command: "cargo build --release --package glidepath --example target",
        env: &[],
        tool: None,
    },
    // The short form of the proof: hundreds of clients, ten ends, nothing lost.
    Step { name: "loss", command: "cargo run --release --quiet --package loss -- --ends 10", env: &[], tool: None },
    // What serving costs over bare hyper, counted; it fails when that has grown.
    Step {
        name: "instructions",
        command: "cargo run --release --quiet --package instructions -- --check",
        env: &[],
        tool: None,
    },
    Step { name: "doctest", command: "cargo test --workspace --doc", env: &[], tool: None },
    Step {
        name: "docs",
        command: "cargo doc --workspace --no-deps --all-features",
        env: &[("RUSTDOCFLAGS", "-D warnings")],
        tool: None,
    },
    Step {
        name: "features",
        command: "cargo hack clippy --package glidepath --each-feature -- -D warnings",
        env: &[],
        tool: Some(Tool { probe: "hack", install: "cargo install --locked cargo-hack" }),
    },
    Step {
        name: "deny",
        command: "cargo deny --workspace check --hide-inclusion-graph bans licenses sources",
        env: &[],
        tool: Some(Tool { probe: "deny", install: "cargo install --locked cargo-deny" }),
    },
];

struct Step {
    name: &'static str,
    /// Split at spaces: no argument here holds one.
    command: &'static str,
    env: &'static [(&'static str, &'static str)],
    tool: Option<Tool>,
}

/// A cargo subcommand that Rust does not bring along.
struct Tool {
    probe: &'static str,
    install: &'static str,
}

/// Which steps, and what to do about missing tools.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The steps to run, by name; all of them when none is named
    #[arg(value_parser = PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    steps: Vec<String>,
    /// Steps to leave out, by name
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    without: Vec<String>,
    /// Name the steps with their commands, and run nothing
    #[arg(long)]
    list: bool,
    /// Leave out the steps whose tool is missing, instead of failing
    #[arg(long, conflicts_with = "install")]
    have: bool,
    /// Install the tools that are missing
    #[arg(long)]
    install: bool,
    /// Go on after a step that failed
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs the steps; true when none failed.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let steps = select(&options.steps, &options.without);
    let mut out = io::stdout().lock();
    if options.list {
        for step in steps {
            writeln!(out, "{:13}{}", step.name, step.line())?;
        }
        return Ok(true);
    }
    let (wanted, mut ran) = (steps.len(), Vec::new());
    for step in steps {
        writeln!(out, "\n==> {}: {}", step.name, step.line())?;
        let (outcome, took) = timed(|| step.run(root, options));
        let outcome = outcome?;
        ran.push((step, outcome, took));
        if outcome == Outcome::Failed && !options.keep_going {
            break;
        }
    }
    summary(&mut out, &ran, wanted)?;
    Ok(ran.iter().all(|(_, outcome, _)| *outcome != Outcome::Failed))
}

fn select(names: &[String], without: &[String]) -> Vec<&'static Step> {
    let named = |names: &[String], step: &Step| names.iter().any(|name| name == step.name);
    let wanted = |step: &&Step| (names.is_empty() || named(names, step)) && !named(without, step);
    STEPS.iter().filter(wanted).collect()
}

fn summary(out: &mut impl Write, ran: &[(&Step, Outcome, Duration)], wanted: usize) -> io::Result<()> {
    writeln!(out, "\n==> what ran")?;
    for (step, outcome, took) in ran {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "left out, its tool is missing",
        };
        writeln!(out, "{:13}{:7.1} s  {word}", step.name, took.as_secs_f64())?;
    }
    if ran.len() < wanted {
        writeln!(out, "{} of {wanted} steps did not run", wanted - ran.len())?;
    }
    Ok(())
}

impl Step {
    /// The command as one could type it.
    fn line(&self) -> String {
        let env: String = self.env.iter().map(|(key, value)| format!("{key}='{value}' ")).collect();
        env + self.command
    }

    fn run(&self, root: &Path, options: &Options) -> anyhow::Result<Outcome> {
        if let Some(tool) = self.tool.as_ref().filter(|tool| !tool.is_here()) {
            if options.have {
                return Ok(Outcome::Skipped);
            }
            if !options.install {
                writeln!(io::stderr(), "cargo {} is missing; install it: {}", tool.probe, tool.install)?;
                return Ok(Outcome::Failed);
            }
            writeln!(io::stderr(), "cargo {} is missing; {}", tool.probe, tool.install)?;
            if !succeeds(root, tool.install, &[])? {
                return Ok(Outcome::Failed);
            }
        }
        // `cargo xtask` would only start this very program again.
        let passed = match self.name {
            "tidy" => tidy::run(root, &tidy::Options::default())?,
            _ => succeeds(root, self.command, self.env)?,
        };
        Ok(if passed { Outcome::Passed } else { Outcome::Failed })
    }
}

impl Tool {
    fn is_here(&self) -> bool {
        let asked =
            Command::new("cargo").args([self.probe, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    }
}

fn succeeds(root: &Path, line: &str, env: &[(&str, &str)]) -> anyhow::Result<bool> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a step has a command")?;
    let status = Command::new(program)
        .args(words)
        .envs(env.iter().copied())
        // Cargo sets these for xtask itself; passed on, they would make every build script run again.
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_PKG_VERSION")
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{program} does not start"))?;
    Ok(status.success())
}

#[expect(clippy::disallowed_methods, reason = "a step takes wall time; nothing here runs on paused time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn what_is_left_out_does_not_run() {
        let names: Vec<_> = select(&[], &["test".to_owned()]).iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len() - 1, "{names:?}");
        assert!(!names.contains(&"test"), "{names:?}");
    }

    #[test]
    fn named_steps_keep_the_order_of_ci() {
        let steps = select(&["test".to_owned(), "format".to_owned()], &[]);
        assert_eq!(steps.iter().map(|step| step.name).collect::<Vec<_>>(), ["format", "test"]);
    }
}
