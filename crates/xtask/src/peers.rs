//! The servers to compare with: what there is, installing it, and whether it works.
//!
//! A peer is a folder of `peers/` with a `peer.toml`; `peers/README.md` says what stands in it. All that is
//! installed or built goes into `target/peers/`.

mod check;
mod install;
mod peer;

use std::io::{self, Write};
use std::path::Path;

pub(crate) use install::{install, is_there};
pub(crate) use peer::{Peer, Stop, Variant};

/// Which peers, and what to do with them.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The peers, by name; all of them when none is named
    names: Vec<String>,
    /// Say what there is and which of it is built, and do nothing
    #[arg(long, conflicts_with = "check")]
    list: bool,
    /// Start each that is built, ask every path that it claims, end it, and print a table
    #[arg(long)]
    check: bool,
}

/// Installs, lists or checks; true when nothing that was asked for is missing or wrong.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let all = Peer::all(root)?;
    let peers = select(&all, &options.names)?;
    let mut out = io::stdout().lock();
    if options.list {
        return list(&mut out, &peers);
    }
    if options.check {
        return check::run(&mut out, &peers);
    }
    let mut missing = Vec::new();
    for peer in &peers {
        write!(out, "{:12}", peer.name)?;
        out.flush()?;
        match install::install(peer).and_then(|done| Ok((peer.version()?, done))) {
            Ok((version, done)) => writeln!(out, "{version:16}{done}")?,
            Err(why) => {
                writeln!(out, "could not be had: {why:#}")?;
                missing.push(&peer.name);
            }
        }
    }
    writeln!(out, "{} of {} peers are there", peers.len() - missing.len(), peers.len())?;
    Ok(missing.is_empty())
}

/// Those with these names; all of them when there is none.
pub(crate) fn select<'a>(peers: &'a [Peer], names: &[String]) -> anyhow::Result<Vec<&'a Peer>> {
    if let Some(unknown) = names.iter().find(|name| !peers.iter().any(|peer| peer.name == **name)) {
        let known: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        anyhow::bail!("there is no peer {unknown}; there are {}", known.join(", "));
    }
    Ok(peers.iter().filter(|peer| names.is_empty() || names.contains(&peer.name)).collect())
}

fn list(out: &mut impl Write, peers: &[&Peer]) -> anyhow::Result<bool> {
    for peer in peers {
        let version = if install::is_there(peer) { peer.version() } else { Ok("not built".to_owned()) };
        let version = version.unwrap_or_else(|_| "not told".to_owned());
        let h2 = if peer.h2 { "h1 h2" } else { "h1" };
        let tls = if peer.tls { "tls" } else { "" };
        writeln!(out, "{:12}{version:16}{h2:7}{tls:5}{}", peer.name, peer.paths.join(" "))?;
    }
    Ok(true)
}
