//! What serving with glidepath costs over bare hyper: instructions a request, counted by valgrind.
//!
//! Each server runs under callgrind with few requests and with many; the difference is what the requests cost, without
//! start and end. README.md says what is measured.

mod client;
mod server;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use client::Load;
use server::Kind;

/// Counts the instructions of a request, with glidepath and with bare hyper
#[derive(Parser)]
struct Args {
    /// Which loads [default: all]
    #[arg(value_enum)]
    loads: Vec<Load>,
    /// Fails when glidepath costs 2 % more than it did, against bare hyper in the same run
    #[arg(long)]
    check: bool,
    /// Keeps the counts, for --check
    #[arg(long, conflicts_with_all = ["check", "loads"])]
    keep: bool,
    /// Serves, and says where: what runs under callgrind
    #[arg(long, hide = true, value_enum)]
    serve: Option<Kind>,
}

/// So much more than what is kept is an accident. Ratios are compared: another processor or C library counts differently for
/// both servers.
const TOLERANCE: f64 = 1.02;

/// Instructions in user space, for one request of each load.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Count {
    bare: f64,
    glidepath: f64,
}

impl Count {
    fn ratio(self) -> f64 {
        self.glidepath / self.bare
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.serve {
        Some(kind) => server::serve(kind).map(|()| true),
        None => measure(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _nobody_reads = writeln!(io::stderr(), "instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<bool> {
    let loads = if args.loads.is_empty() { Load::value_variants() } else { &args.loads };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("kept.json");
    let kept: BTreeMap<String, Count> = match args.keep {
        true => BTreeMap::new(),
        false => serde_json::from_str(&std::fs::read_to_string(&file)?).with_context(|| file.display().to_string())?,
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{:28}{:>12}{:>12}{:>8}{:>12}", "instructions", "bare hyper", "glidepath", "ratio", "kept")?;
    let (mut counts, mut worse) = (BTreeMap::new(), Vec::new());
    for load in loads {
        let count = Count { bare: instructions(Kind::Bare, *load)?, glidepath: instructions(Kind::Glidepath, *load)? };
        let before = kept.get(load.name()).map(|kept| kept.ratio());
        let (ratio, kept) = (count.ratio(), before.map_or("none".to_owned(), |kept| format!("{kept:.3}")));
        writeln!(out, "{:28}{:>12.0}{:>12.0}{ratio:>8.3}{kept:>12}", load.name(), count.bare, count.glidepath)?;
        if before.is_none_or(|before| ratio > before * TOLERANCE) {
            worse.push(load.name());
        }
        counts.insert(load.name().to_owned(), count);
    }
    if args.keep {
        std::fs::write(&file, serde_json::to_string_pretty(&counts)? + "\n")?;
        writeln!(out, "kept in {}", file.display())?;
    }
    if args.check && !worse.is_empty() {
        writeln!(out, "more than 2 % above what is kept: {}", worse.join(", "))?;
        writeln!(out, "if that is meant: cargo run --release -p instructions -- --keep")?;
        return Ok(false);
    }
    Ok(true)
}

/// Of one request: what many cost less what few cost.
fn instructions(kind: Kind, load: Load) -> anyhow::Result<f64> {
    let (few, many) = load.rounds();
    let with = |rounds| counted(kind, load, rounds);
    let (less, more) = (with(few)?, with(many)?);
    ensure!(more > less, "{} with {kind:?}: more requests cost less: {less} and {more}", load.name());
    Ok((more - less) as f64 / f64::from((many - few) * load.requests()))
}

fn counted(kind: Kind, load: Load, rounds: u32) -> anyhow::Result<u64> {
    let server = Server::start(kind)?;
    load.put_on(&server, rounds).with_context(|| format!("{} with {kind:?}", load.name()))?;
    server.end()
}

/// How a runtime without work waits.
#[cfg(target_arch = "x86_64")]
const WAITS: &[libc::c_long] = &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
#[cfg(not(target_arch = "x86_64"))]
const WAITS: &[libc::c_long] = &[libc::SYS_epoll_pwait];

/// A server takes longer than this over one step only if it stands still.
const PATIENCE: Duration = Duration::from_secs(30);

/// One under callgrind.
struct Server {
    child: Child,
    address: SocketAddr,
    counts: PathBuf,
}

impl Server {
    fn start(kind: Kind) -> anyhow::Result<Self> {
        let counts = std::env::temp_dir().join(format!("instructions-{}.out", std::process::id()));
        let mut child = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", counts.display()))
            .arg(std::env::current_exe()?)
            .arg("--serve")
            .arg(kind.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("valgrind can't be started; it is a package of that name")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address =
            line.trim().parse().with_context(|| format!("the server said {line:?} instead of its address"))?;
        Ok(Server { child, address, counts })
    }

    /// Takes a step that the server has something to do for, and waits until that is done. What comes while it is still at the
    /// step before costs it less, and how often that is so is chance.
    #[expect(clippy::disallowed_methods, reason = "a real server takes real time, and nothing here pauses it")]
    fn rests_after<T>(&self, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let since = Instant::now();
        let rest = |after: Option<u64>| loop {
            let rests = self.rests()?;
            if rests.is_some() && rests > after {
                return anyhow::Ok(rests);
            }
            ensure!(since.elapsed() < PATIENCE, "the server does not come to rest");
            thread::yield_now();
        };
        let before = rest(None)?;
        let done = step()?;
        rest(before)?;
        Ok(done)
    }

    /// How often the server's one worker has gone to sleep, where it sleeps now because it has no work: proc_pid_syscall(5),
    /// proc_pid_status(5).
    fn rests(&self) -> anyhow::Result<Option<u64>> {
        let read = |file| {
            let file = format!("/proc/{}/{file}", self.child.id());
            std::fs::read_to_string(&file).context(file)
        };
        let (status, syscall) = (read("status")?, read("syscall")?);
        let number = syscall.split(' ').next().and_then(|number| number.parse().ok());
        if !number.is_some_and(|number: libc::c_long| WAITS.contains(&number)) {
            return Ok(None);
        }
        let slept = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Ok(Some(slept.context("the kernel does not count how often a process sleeps")?.trim().parse()?))
    }

    /// It ends when its standard input does, and callgrind writes down what it counted.
    fn end(mut self) -> anyhow::Result<u64> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        let text = std::fs::read_to_string(&self.counts)?;
        std::fs::remove_file(&self.counts)?;
        let Some(total) = text.lines().find_map(|line| line.strip_prefix("totals: ")) else {
            bail!("callgrind wrote no total");
        };
        Ok(total.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_long_ago = self.child.kill();
        let _reaped = self.child.wait();
    }
}
