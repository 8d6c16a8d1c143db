//! Installs and builds one peer, into `target/peers/` and nowhere else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::peer::Peer;
use crate::cargo::cargo;

/// What was installed, kept beside it: when it is the same the next time, nothing is to be done.
const STAMP: &str = ".installed";
/// So many lines of what a failed command said last.
const LAST_WORDS: usize = 4;

/// True when it was installed and its folder has not changed since.
pub(crate) fn is_there(peer: &Peer) -> bool {
    let built = |bin: &String| peer.places.out.join("rust/release").join(bin).exists();
    fs::read_to_string(peer.home().join(STAMP)).is_ok_and(|stamp| wanted(peer).is_ok_and(|wanted| wanted == stamp))
        && peer.install.cargo.iter().all(built)
}

/// Does what is to be done, and tells it in a word.
pub(crate) fn install(peer: &Peer) -> anyhow::Result<&'static str> {
    for program in &peer.install.needs {
        let found = Command::new("which").arg(program).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            bail!("{program} is not on this machine");
        }
    }
    let (wanted, was_there) = (wanted(peer)?, is_there(peer));
    if !was_there {
        let home = peer.home();
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("emptying {}", home.display()))?;
        }
        fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        download(peer)?;
    }
    build(peer)?;
    fs::write(peer.home().join(STAMP), wanted)?;
    Ok(if was_there { "was there" } else { "installed" })
}

/// All that decides what is downloaded.
fn wanted(peer: &Peer) -> anyhow::Result<String> {
    let mut wanted = peer.install.debian.join(" ");
    let files = [("requirements.txt", peer.install.python), ("package-lock.json", peer.install.npm)];
    for (file, is_used) in files {
        if is_used {
            let path = peer.places.peer.join(file);
            wanted += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        }
    }
    Ok(wanted)
}

fn download(peer: &Peer) -> anyhow::Result<()> {
    let home = peer.home();
    if peer.install.python {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        let requirements = peer.places.peer.join("requirements.txt");
        run(Command::new(home.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(requirements))?;
    }
    if peer.install.npm {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(peer.places.peer.join(file), home.join(file)).with_context(|| format!("copying {file}"))?;
        }
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&home))?;
    }
    if !peer.install.debian.is_empty() {
        unpack(&peer.install.debian, &home)?;
    }
    Ok(())
}

/// Unpacked and not installed: nothing is changed on the machine, and no service is started.
fn unpack(packages: &[String], home: &Path) -> anyhow::Result<()> {
    let download = || run(Command::new("apt-get").args(["download", "--quiet"]).args(packages).current_dir(home));
    if download().is_err() {
        // A new machine has no lists of packages yet.
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        download()?;
    }
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(home))?;
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn build(peer: &Peer) -> anyhow::Result<()> {
    if !peer.install.cargo.is_empty() {
        let mut cargo = cargo();
        cargo.args(["build", "--locked", "--release", "--quiet", "--jobs", "2", "--manifest-path"]);
        cargo.arg(peer.places.peers.join("rust/Cargo.toml")).arg("--target-dir").arg(peer.places.out.join("rust"));
        for bin in &peer.install.cargo {
            cargo.arg("--bin").arg(bin);
        }
        run(&mut cargo)?;
    }
    if !peer.install.build.is_empty() {
        run(&mut peer.places.command(&peer.install.build, &peer.install.env)?)?;
    }
    Ok(())
}

/// Its output is shown only when it fails.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let told = command.stdin(Stdio::null()).output().with_context(|| format!("{name} does not start"))?;
    if told.status.success() {
        return Ok(());
    }
    let text = [told.stdout, told.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    bail!("{name} ended with {}: {}", told.status, lines[lines.len().saturating_sub(LAST_WORDS)..].join(" | "))
}
