//! What CI runs, and the checks that keep the tree honest.
//!
//! `cargo xtask ci` runs every step, `cargo xtask tidy` only the checks of the tree itself.

mod bench;
mod cargo;
mod ci;
mod compare;
mod peers;
mod picture;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What CI runs, and the checks that keep the tree honest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what serving and ending cost, beside other servers
    Bench(bench::Options),
    /// Run what CI runs: every step, or those named
    Ci(ci::Options),
    /// Check all servers with glidepath-check, and write docs/comparison.md
    Compare(compare::Options),
    /// Install, list or check the servers to compare with
    Peers(peers::Options),
    /// Draw docs/terminal.svg: what a terminal shows of a real end
    Picture,
    /// Check layers, spec ids, the README's example and the other house rules
    Tidy(tidy::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let root = root();
    let passed = match Cli::parse().command {
        Command::Bench(options) => bench::run(root, &options)?,
        Command::Ci(options) => ci::run(root, &options)?,
        Command::Compare(options) => compare::run(root, &options)?,
        Command::Peers(options) => peers::run(root, &options)?,
        Command::Picture => picture::run(root)?,
        Command::Tidy(options) => tidy::run(root, &options)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The workspace's root, wherever inside it the command was typed.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("xtask lies two folders below the root")
}
