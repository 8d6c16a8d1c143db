//! What serving and ending cost: `bench/serving` measures it side by side, `bench/inside` the parts by themselves. This builds
//! all that they need.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::cargo::{cargo, forget_this_package};
use crate::peers::{Peer, Stop, Variant, install, is_there, select};

/// The Rust servers that are nearest to ours: what needs more than cargo is asked for by name.
const NEAREST: [&str; 4] = ["actix", "axum-serve", "axum-server", "hyper-util"];

/// What to measure, and against whom.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// http1, http2, connections, rest, wake, exit, last, build, inside; all but the last two when none is named
    parts: Vec<String>,
    /// The peers to compare with, by name, with commas between them [default: the Rust servers nearest to ours]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// So many rounds, instead of 3 to 9 by part
    #[arg(long)]
    rounds: Option<u32>,
    /// A glance: three short rounds, and fewer connections
    #[arg(long)]
    quick: bool,
    /// Measure nothing again, and write what is kept in target/bench
    #[arg(long, conflicts_with_all = ["rounds", "quick", "peers"])]
    kept: bool,
    /// Put the tables and pictures into this file, docs/performance.md
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

/// Builds and measures; true when our server failed nowhere, and none of its parts grows faster than the connections.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let (inside, parts): (Vec<_>, Vec<_>) = options.parts.iter().partition(|part| *part == "inside");
    let mut well = true;
    if !inside.is_empty() {
        well &= measure_inside(root, options)?;
    }
    if inside.is_empty() || !parts.is_empty() {
        well &= measure_side_by_side(root, options, &parts)?;
    }
    Ok(well)
}

/// Into a folder of its own, because the cfg that shows the inside changes every crate.
fn measure_inside(root: &Path, options: &Options) -> anyhow::Result<bool> {
    ensure!(!options.kept, "what inside counts is not kept; it takes some seconds");
    let target = root.join("target").join("inside");
    let built = cargo()
        .args(["build", "--release", "--package", "inside", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "--cfg inside")
        .current_dir(root)
        .status()?;
    ensure!(built.success(), "bench/inside can't be built");
    let mut command = Command::new(target.join("release").join("inside"));
    if let Some(file) = &options.into {
        command.arg("--into").arg(file);
    }
    Ok(command.status().context("bench/inside does not start")?.success())
}

fn measure_side_by_side(root: &Path, options: &Options, parts: &[&String]) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let kept = root.join("target").join("bench");
    fs::create_dir_all(&kept)?;
    let built = cargo().args(["build", "--release", "--package", "serving"]).current_dir(root).status()?;
    ensure!(built.success(), "bench/serving can't be built");
    let mut command = Command::new(root.join("target").join("release").join("serving"));
    forget_this_package(&mut command);
    command.args(parts).arg("--out").arg(&kept);
    if let Some(file) = &options.into {
        command.arg("--into").arg(file);
    }
    if options.kept {
        command.arg("--kept");
    } else {
        let file = kept.join("peers.json");
        fs::write(&file, serde_json::to_string_pretty(&peers(&mut out, root, &options.peers)?)?)?;
        command.arg("--peers").arg(file).arg("--typed").arg(options.typed());
        command.args(options.quick.then_some("--quick"));
        if let Some(rounds) = options.rounds {
            command.arg("--rounds").arg(rounds.to_string());
        }
    }
    out.flush()?;
    Ok(command.status().context("bench/serving does not start")?.success())
}

impl Options {
    /// The command for one of its parts alone.
    fn typed(&self) -> String {
        let mut typed = "cargo xtask bench {part}".to_owned();
        if !self.peers.is_empty() {
            typed += &format!(" --peers {}", self.peers.join(","));
        }
        if let Some(rounds) = self.rounds {
            typed += &format!(" --rounds {rounds}");
        }
        if self.quick {
            typed += " --quick";
        }
        typed
    }
}

/// As bench/serving reads them; one that can't be had is said so, and the others go on.
fn peers(out: &mut impl Write, root: &Path, names: &[String]) -> anyhow::Result<Vec<Value>> {
    let nearest = NEAREST.map(str::to_owned);
    let names = if names.is_empty() { &nearest[..] } else { names };
    let (all, mut described) = (Peer::all(root)?, Vec::new());
    for peer in select(&all, names)? {
        if !is_there(peer) {
            writeln!(out, "building {}", peer.name)?;
            if let Err(why) = install(peer) {
                writeln!(out, "{} could not be had, and is left out: {why:#}", peer.name)?;
                continue;
            }
        }
        described.push(describe(peer)?);
    }
    Ok(described)
}

fn describe(peer: &Peer) -> anyhow::Result<Value> {
    // With nothing set about its end a server costs least.
    let serving = peer.variants().last().map_or(&peer.best, |(_, variant)| variant);
    Ok(json!({
        "name": peer.name,
        "title": format!("{} {}", peer.title, peer.version()?),
        "h2": peer.h2,
        "tls": peer.tls,
        "serving": launch(peer, serving),
        "ending": launch(peer, &peer.best),
    }))
}

fn launch(peer: &Peer, variant: &Variant) -> Value {
    let fill = |words: &[String]| words.iter().map(|word| peer.places.fill(word)).collect::<Vec<_>>();
    let env: Vec<_> = variant.env.iter().map(|(key, value)| (key.clone(), peer.places.fill(value).into())).collect();
    json!({
        "command": fill(&variant.run),
        "env": Value::Object(env.into_iter().collect()),
        "stop": match &variant.stop {
            Stop::Signal(name) => json!({ "signal": name }),
            Stop::Command(words) => json!({ "command": fill(words) }),
        },
        "exit": variant.exit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_serves_with_nothing_set_and_ends_as_it_is_advised() {
        let root = crate::root();
        let peers = Peer::all(root).expect("every peer.toml can be read");
        let of = |name: &str| peers.iter().find(|peer| peer.name == name).expect("there is such a peer");
        for name in NEAREST {
            of(name);
        }
        let peer = of("axum-serve");
        let defaults = peer.defaults.as_ref().expect("it has some");
        let (serving, ending) = (launch(peer, defaults), launch(peer, &peer.best));
        let program = root.join("target/peers/rust/release/axum-serve").display().to_string();
        assert_eq!((&serving["command"], &ending["command"]), (&json!([program]), &json!([program])));
        assert_eq!((&serving["env"], &ending["env"]), (&json!({}), &json!({ "SETTINGS": "best" })));
        assert_eq!((&ending["stop"], &ending["exit"]), (&json!({ "signal": "TERM" }), &json!([0])));
    }
}
