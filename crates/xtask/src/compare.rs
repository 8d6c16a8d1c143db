//! All servers under `glidepath-check`, side by side: `docs/comparison.md`, its picture, and a page.
//!
//! Each server is checked with the settings that its documentation names, and once more with nothing set. The runs are kept
//! in `target/compare/`, so that one server can be checked again without the others.

mod markdown;
mod notes;
mod picture;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use glidepath_check::model::{Case, FORMAT, Run, Score, Verdict};
use glidepath_check::page;

use self::notes::{Confirmed, Notes};
use crate::cargo::cargo;
use crate::peers::{Peer, Stop, Variant, is_there, select};

/// Which servers, and where from.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The peers to check again, by name, and `glidepath` for ours; all that are built when none is named
    names: Vec<String>,
    /// Check nothing again, and write what the kept runs say
    #[arg(long, conflicts_with = "names")]
    kept: bool,
}

const OURS: &str = "glidepath";

/// The settings in the order in which they are told of, each with its title and a word on them.
const GROUPS: [Group; 2] = [
    Group { variant: "best", title: "As their documentation advises", words: "" },
    Group {
        variant: "defaults",
        title: "With nothing set",
        words: "Only where this differs. Most of these end at once at the signal.\n\n",
    },
];

struct Group {
    variant: &'static str,
    title: &'static str,
    words: &'static str,
}

impl Group {
    fn of<'a>(&self, servers: &'a [Server]) -> Vec<&'a Server> {
        servers.iter().filter(|server| server.variant == self.variant).collect()
    }
}

/// One server with one set of settings: a row of every table.
struct Server {
    /// Its file's name, without an ending.
    slug: String,
    /// In which group it stands.
    variant: &'static str,
    /// What is set, in the peer's own words.
    why: String,
    notes: Notes,
    run: Run,
}

impl Server {
    fn score(&self) -> Score {
        Score::of(&self.run.cases)
    }

    fn failing(&self) -> impl Iterator<Item = &Case> {
        self.run.cases.iter().filter(|case| case.verdict == Verdict::Fail)
    }

    /// The note that confirms this verdict.
    fn confirmed(&self, case: &Case) -> Option<&Confirmed> {
        self.notes.of(self.variant, &case.id)
    }
}

/// Checks, and writes what came; true when every failing verdict of a peer has a note that confirms it.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let all = Peer::all(root)?;
    let kept = root.join("target").join("compare");
    fs::create_dir_all(&kept)?;
    if !options.kept {
        let ours = options.names.is_empty() || options.names.iter().any(|name| name == OURS);
        let names: Vec<_> = options.names.iter().filter(|name| *name != OURS).cloned().collect();
        let again = match names.is_empty() && !options.names.is_empty() {
            true => Vec::new(),
            false => select(&all, &names)?,
        };
        check(&mut out, root, &kept, ours, &again)?;
    }
    let servers = servers(&kept, &all)?;
    ensure!(!servers.is_empty(), "no run is kept in {}: `cargo xtask compare` makes them", kept.display());
    let docs = root.join("docs");
    fs::create_dir_all(&docs)?;
    write_out(&mut out, &docs.join("comparison.md"), &markdown::write(&servers))?;
    write_out(&mut out, &docs.join("comparison.svg"), &picture::draw(&servers))?;
    let runs: Vec<_> = servers.iter().map(|server| server.run.clone()).collect();
    write_out(&mut out, &kept.join("index.html"), &page::comparison(&runs)?)?;
    sum_up(&mut out, &servers)
}

fn write_out(out: &mut impl Write, path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    writeln!(out, "{} ({} KB)", path.display(), text.len() / 1000)?;
    Ok(())
}

fn sum_up(out: &mut impl Write, servers: &[Server]) -> anyhow::Result<bool> {
    let mut open = 0;
    for server in servers {
        let unconfirmed: Vec<_> =
            server.failing().filter(|case| server.confirmed(case).is_none()).map(|case| case.id.as_str()).collect();
        if !unconfirmed.is_empty() {
            writeln!(out, "{}: not confirmed: {}", server.slug, unconfirmed.join(" "))?;
        }
        let ids: Vec<_> = server.failing().map(|case| case.id.as_str()).collect();
        for pattern in server.notes.stale(server.variant, &ids) {
            writeln!(out, "{}: a note confirms what does not fail: {pattern}", server.slug)?;
        }
        open += unconfirmed.len();
    }
    writeln!(out, "{} servers; {open} failing verdicts are not confirmed", servers.len())?;
    Ok(open == 0)
}

// --- running ------------------------------------------------------------------------------------

fn check(out: &mut impl Write, root: &Path, kept: &Path, ours: bool, peers: &[&Peer]) -> anyhow::Result<()> {
    let build = [
        "build",
        "--release",
        "--package",
        "glidepath-check",
        "--package",
        "glidepath",
        "--bins",
        "--example",
        "target",
    ];
    ensure!(cargo().args(build).current_dir(root).status()?.success(), "glidepath-check and the target can't be built");
    let release = root.join("target").join("release");
    let mut todo = Vec::new();
    if ours {
        let mut check = Check::new(&release, OURS.to_owned(), OURS.to_owned());
        check.behind.push(release.join("examples").join("target").display().to_string());
        todo.push(check);
    }
    for peer in peers {
        if !is_there(peer) {
            writeln!(out, "{}: not built, and left out; `cargo xtask peers {}` builds it", peer.name, peer.name)?;
            continue;
        }
        for (variant, settings) in peer.variants() {
            todo.push(Check::of(&release, peer, variant, settings)?);
        }
    }
    ensure!(!todo.is_empty(), "none of them is built: `cargo xtask peers` does it");
    let count = todo.len();
    for (place, check) in todo.into_iter().enumerate() {
        write!(out, "[{:>2}/{count}] {:24}", place + 1, check.slug)?;
        out.flush()?;
        check.play(out, kept)?;
    }
    Ok(())
}

/// One run of `glidepath-check`.
struct Check {
    slug: String,
    command: Command,
    /// What stands behind the two dashes.
    behind: Vec<String>,
}

impl Check {
    fn new(release: &Path, slug: String, name: String) -> Self {
        let mut command = Command::new(release.join("glidepath-check"));
        command.arg("--name").arg(name);
        Check { slug, command, behind: Vec::new() }
    }

    fn of(release: &Path, peer: &Peer, variant: &'static str, settings: &Variant) -> anyhow::Result<Self> {
        let version = peer.version()?;
        let name = match variant {
            "best" => format!("{} {version}", peer.title),
            other => format!("{} {version}, {other}", peer.title),
        };
        let mut check = Check::new(release, slug(peer, variant), name);
        let fill = |word: &String| peer.places.fill(word);
        for (key, value) in &settings.env {
            check.command.arg("--env").arg(format!("{key}={}", fill(value)));
        }
        match &settings.stop {
            Stop::Signal(name) => check.command.arg("--signal").arg(name),
            Stop::Command(words) => check.command.arg("--stop").arg(quoted(words.iter().map(fill))),
        };
        if let Some(seconds) = settings.grace {
            check.command.arg("--grace").arg(seconds.to_string());
        }
        check.behind.extend(settings.run.iter().map(fill));
        Ok(check)
    }

    /// Its JSON, its page and what it printed are kept; the progress is shown as it goes.
    fn play(mut self, out: &mut impl Write, kept: &Path) -> anyhow::Result<()> {
        let file = |ending: &str| kept.join(format!("{}.{ending}", self.slug));
        self.command
            .arg("--json")
            .arg(file("json"))
            .arg("--html")
            .arg(file("html"))
            .arg("--")
            .args(&self.behind)
            .stdin(Stdio::null())
            .stdout(File::create(file("txt"))?);
        let status = self.command.status().context("starting glidepath-check")?;
        let printed = fs::read_to_string(file("txt"))?;
        match status.code() {
            // Verdicts, whatever they are.
            Some(0 | 1 | 3) => writeln!(out, "{}", printed.lines().last().unwrap_or_default())?,
            Some(130) => bail!("interrupted; the runs so far are kept"),
            _ => writeln!(out, "could not be checked: {status}")?,
        }
        Ok(())
    }
}

/// For `sh -c`.
fn quoted(words: impl Iterator<Item = String>) -> String {
    let quoted: Vec<_> = words.map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    quoted.join(" ")
}

// --- what is kept -------------------------------------------------------------------------------

fn slug(peer: &Peer, variant: &str) -> String {
    if variant == "best" { peer.name.clone() } else { format!("{}-{variant}", peer.name) }
}

/// Those with a kept run: with their best settings first, and there by what they pass.
fn servers(kept: &Path, peers: &[Peer]) -> anyhow::Result<Vec<Server>> {
    let mut servers = Vec::new();
    if let Some(run) = read(kept, OURS)? {
        let why = "the check target of this repository: the library's defaults".to_owned();
        servers.push(Server { slug: OURS.to_owned(), variant: "best", why, notes: Notes::default(), run });
    }
    for peer in peers {
        let notes = Notes::read(&peer.places.peer)?;
        for (variant, settings) in peer.variants() {
            let slug = slug(peer, variant);
            if let Some(run) = read(kept, &slug)? {
                servers.push(Server { slug, variant, why: settings.why.clone(), notes: notes.clone(), run });
            }
        }
    }
    servers.sort_by_key(|server| {
        let score = server.score();
        (server.variant, score.must.fail, score.should.fail, server.slug.clone())
    });
    Ok(servers)
}

fn read(kept: &Path, slug: &str) -> anyhow::Result<Option<Run>> {
    let path: PathBuf = kept.join(format!("{slug}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let run: Run = serde_json::from_str(&fs::read_to_string(&path)?)
        .with_context(|| format!("{} is not of this version: delete it", path.display()))?;
    ensure!(run.format == FORMAT, "{} has another form: delete it", path.display());
    Ok(Some(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_the_shell_is_one_whatever_is_in_it() {
        let words = ["/a b/stop.sh", "it's", "$PID"].map(str::to_owned);
        assert_eq!(quoted(words.into_iter()), r"'/a b/stop.sh' 'it'\''s' '$PID'");
    }
}
