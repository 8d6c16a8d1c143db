//! What the parts of glidepath cost by themselves. `cargo xtask bench inside` builds this and starts it; README.md says what
//! is measured.

mod table;

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;

#[cfg(inside)]
use glidepath::inside::{Case, EACH, FOLLOWED, GROWING};
use table::{Cell, Table};

/// Without the cfg the library shows nothing of its inside.
#[cfg(not(inside))]
mod nothing {
    pub(crate) type Case = (&'static str, fn(usize) -> Box<dyn FnMut() -> usize>);
    pub(crate) const EACH: &[Case] = &[];
    pub(crate) const GROWING: &[Case] = &[];
    pub(crate) const FOLLOWED: &[Case] = &[];
}
#[cfg(not(inside))]
use nothing::{Case, EACH, FOLLOWED, GROWING};

/// Counts and times the parts of glidepath; `cargo xtask bench inside` starts it
#[derive(Parser)]
struct Args {
    /// Puts the tables between the lines `<!-- bench inside -->` and `<!-- /bench inside -->` of this file
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Does this once, and says how many units it was: what runs under callgrind
    #[arg(long, hide = true, value_name = "NAME", requires = "size")]
    work: Option<String>,
    #[arg(long, hide = true)]
    size: Option<usize>,
}

/// Lives and requests.
const COUNT: usize = 1000;
/// Open connections.
const SIZES: [usize; 3] = [1_000, 10_000, 18_000];
/// Traffic that is followed.
const BYTES: usize = 1 << 20;
/// What one costs among the most may be so much more than among the fewest. A table that doubles has empty places, up to as many
/// as full ones, and the sweep passes them; what grows with the square would be at 18.
const GROWTH: f64 = 1.25;
/// Tries at the time; the shortest counts, because whatever else runs only makes it longer.
const TRIES: u32 = 30;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match (&args.work, args.size) {
        (Some(name), Some(size)) => work(name, size).map(|()| true),
        _ => measure(args.into.as_deref()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _nobody_reads = writeln!(io::stderr(), "inside: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The one function whose instructions are counted, with all that it calls. Its name is what callgrind looks for.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut() -> usize) -> usize {
    black_box(work())
}

fn work(name: &str, size: usize) -> anyhow::Result<()> {
    let mut cases = EACH.iter().chain(GROWING).chain(FOLLOWED);
    let (_, prepare) = cases.find(|(known, _)| *known == name).with_context(|| format!("nothing is called {name}"))?;
    let mut work = prepare(size);
    let units = counted_by_callgrind(&mut *work);
    writeln!(io::stdout(), "{units}")?;
    Ok(())
}

/// What one unit costs.
#[derive(Clone, Copy)]
struct Cost {
    instructions: f64,
    nanos: f64,
}

impl Cost {
    fn of((name, prepare): Case, size: usize) -> anyhow::Result<Self> {
        let (instructions, units) = count(name, size)?;
        let least = (0..TRIES).map(|_| time(prepare, size)).min().unwrap_or_default();
        let each = |all: f64| all / units as f64;
        Ok(Self { instructions: each(instructions as f64), nanos: each(least.as_nanos() as f64) })
    }
}

/// Instructions in user space, and for how many units.
fn count(name: &str, size: usize) -> anyhow::Result<(u64, usize)> {
    let counts = std::env::temp_dir().join(format!("inside-{}.out", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(std::env::current_exe()?)
        .args(["--work", name, "--size", &size.to_string()])
        .output()
        .context("valgrind can't be started; it is a package of that name")?;
    ensure!(output.status.success(), "{name}: {}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let units = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    let text = fs::read_to_string(&counts)?;
    fs::remove_file(&counts)?;
    let Some(total) = text.lines().find_map(|line| line.strip_prefix("totals: ")) else {
        bail!("callgrind wrote no total");
    };
    let total = total.trim().parse()?;
    ensure!(total > 0, "{name}: callgrind did not find the function to count");
    Ok((total, units))
}

#[expect(clippy::disallowed_methods, reason = "it is the time that is asked for, and nothing here pauses it")]
fn time(prepare: fn(usize) -> Box<dyn FnMut() -> usize>, size: usize) -> Duration {
    let mut work = prepare(size);
    let began = Instant::now();
    counted_by_callgrind(&mut *work);
    began.elapsed()
}

/// True when nothing grows faster than the connections.
fn measure(into: Option<&Path>) -> anyhow::Result<bool> {
    ensure!(!EACH.is_empty(), "it is built without `--cfg inside`; start it with: cargo xtask bench inside");
    // Found out now, and not after a minute.
    let place = into.map(|file| Ok::<_, anyhow::Error>((file, around(file)?))).transpose()?;
    let mut each = Table::new(&["one after the other", "instructions", "ns"]);
    for case in EACH {
        let cost = Cost::of(*case, COUNT)?;
        each.row(case.0, &[Cell::Figure(cost.instructions), Cell::Figure(cost.nanos)]);
    }
    let mut followed = Table::new(&["bytes that go by", "instructions a KiB", "ns a KiB", "GB/s"]);
    for case in FOLLOWED {
        let cost = Cost::of(*case, BYTES)?;
        let (instructions, nanos) = (cost.instructions * 1024.0, cost.nanos * 1024.0);
        followed.row(case.0, &[instructions, nanos, 1.0 / cost.nanos].map(Cell::Figure));
    }
    let (growing, grows) = growing()?;
    let text = format!("{}\n\n{each}\n{growing}\n{followed}", circumstances());
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    if let Some((file, (before, after))) = place {
        fs::write(file, format!("{before}{text}{after}")).with_context(|| format!("can't write {}", file.display()))?;
    }
    for name in &grows {
        writeln!(out, "{name}: what each costs grows with the number of connections")?;
    }
    Ok(grows.is_empty())
}

/// The table, and the names of those that grow too fast.
fn growing() -> anyhow::Result<(Table, Vec<&'static str>)> {
    let mut table = Table::new(&[
        "instructions for each of so many connections",
        "1 000",
        "10 000",
        "18 000",
        "growth",
        "ns at 1 000",
        "ns at 18 000",
    ]);
    let mut grows = Vec::new();
    for case in GROWING {
        let costs = SIZES.iter().map(|size| Cost::of(*case, *size)).collect::<anyhow::Result<Vec<_>>>()?;
        let (few, many) = (costs[0], costs[SIZES.len() - 1]);
        let growth = many.instructions / few.instructions;
        if growth > GROWTH {
            grows.push(case.0);
        }
        let mut cells: Vec<_> = costs.iter().map(|cost| Cell::Figure(cost.instructions)).collect();
        cells.extend([Cell::Ratio(growth), Cell::Figure(few.nanos), Cell::Figure(many.nanos)]);
        table.row(case.0, &cells);
    }
    Ok((table, grows))
}

/// Which commit, and on what.
fn circumstances() -> String {
    let git = |words: &[&str]| {
        let told = Command::new("git").args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
    };
    // What is not committed counts only where it is part of what is measured.
    let changed = git(&["status", "--porcelain", "--", "../../crates/glidepath/src", "../../Cargo.lock"]);
    let changed = if changed.is_some_and(|files| !files.is_empty()) { ", changed" } else { "" };
    let commit = git(&["log", "-1", "--format=%h of %cs"]).unwrap_or_else(|| "unknown".to_owned());
    format!("Commit {commit}{changed}; instructions by callgrind, ns the least of {TRIES} tries on one thread.")
}

/// What stands in the file before the tables, and what behind them.
fn around(file: &Path) -> anyhow::Result<(String, String)> {
    let (begin, end) = ("<!-- bench inside -->\n", "<!-- /bench inside -->");
    let text = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let place = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let Some((before, after)) = place else {
        bail!("{} has no lines {} and {end} for the tables", file.display(), begin.trim());
    };
    Ok((before.to_owned() + begin, end.to_owned() + after))
}
