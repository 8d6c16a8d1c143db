//! One peer, as its `peer.toml` describes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// The paths of the contract.
const PATHS: &[&str] = &["/", "/sleep", "/block", "/stream", "/sse", "/echo", "/task", "/ws", "/panic"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) title: String,
    language: String,
    docs: String,
    version: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) h2: bool,
    pub(crate) tls: bool,
    #[serde(rename = "backend")]
    _backend: bool,
    pub(crate) install: Install,
    pub(crate) best: Variant,
    pub(crate) defaults: Option<Variant>,
    #[serde(skip)]
    pub(crate) places: Places,
}

/// What `{peer}`, `{peers}` and `{out}` stand for.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) peer: PathBuf,
    pub(crate) peers: PathBuf,
    pub(crate) out: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Install {
    pub(crate) needs: Vec<String>,
    pub(crate) npm: bool,
    pub(crate) python: bool,
    pub(crate) debian: Vec<String>,
    pub(crate) cargo: Vec<String>,
    pub(crate) build: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    pub(crate) run: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stop: Stop,
    #[serde(default = "exits_with_0")]
    pub(crate) exit: Vec<i32>,
    /// Its grace period, where it does not heed `GRACE` and has one of its own.
    pub(crate) grace: Option<f64>,
    pub(crate) why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(crate) enum Stop {
    Signal(String),
    Command(Vec<String>),
}

fn exits_with_0() -> Vec<i32> {
    vec![0]
}

impl Peer {
    /// All of them, by name.
    pub(crate) fn all(root: &Path) -> anyhow::Result<Vec<Self>> {
        let folder = root.join("peers");
        let mut peers = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path().join("peer.toml");
            if path.exists() {
                peers.push(Self::read(root, &path).with_context(|| format!("in {}", path.display()))?);
            }
        }
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(peers)
    }

    fn read(root: &Path, path: &Path) -> anyhow::Result<Self> {
        let folder = path.parent().context("a file is in a folder")?;
        let mut peer: Self = toml::from_str(&fs::read_to_string(path)?)?;
        peer.places =
            Places { peer: folder.to_owned(), peers: root.join("peers"), out: root.join("target").join("peers") };
        peer.validate()?;
        Ok(peer)
    }

    /// What the types don't say.
    fn validate(&self) -> anyhow::Result<()> {
        let folder = self.places.peer.file_name().unwrap_or_default().to_string_lossy();
        ensure!(self.name == folder, "name is {}, and the folder is {folder}", self.name);
        for path in &self.paths {
            ensure!(PATHS.contains(&path.as_str()), "{path} is no path of the contract");
        }
        for text in [&self.title, &self.language, &self.docs] {
            ensure!(!text.is_empty(), "title, language and docs may not be empty");
        }
        for (name, variant) in self.variants() {
            ensure!(!variant.run.is_empty(), "{name}.run is empty");
            ensure!(!variant.why.is_empty(), "{name}.why is empty");
        }
        Ok(())
    }

    /// With their names, `best` first.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (&'static str, &Variant)> {
        let defaults = self.defaults.as_ref().map(|variant| ("defaults", variant));
        [("best", &self.best)].into_iter().chain(defaults)
    }

    /// What its own version command says, cut down to the number.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let mut command = self.places.command(&self.version, &self.best.env)?;
        let told =
            command.stdin(Stdio::null()).output().with_context(|| format!("asking {} for its version", self.name))?;
        let text = [told.stdout, told.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        first_version(&text).map(str::to_owned).with_context(|| format!("{} tells no version: {text}", self.name))
    }

    pub(crate) fn start(&self, variant: &Variant) -> anyhow::Result<Command> {
        self.places.command(&variant.run, &variant.env)
    }

    /// Its own folder for what is installed.
    pub(crate) fn home(&self) -> PathBuf {
        self.places.out.join(&self.name)
    }
}

impl Places {
    pub(crate) fn command(&self, words: &[String], env: &BTreeMap<String, String>) -> anyhow::Result<Command> {
        let (program, args) = words.split_first().context("a command is empty")?;
        let mut command = Command::new(self.fill(program));
        command.args(args.iter().map(|arg| self.fill(arg)));
        command.envs(env.iter().map(|(key, value)| (key, self.fill(value))));
        Ok(command)
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        let (peer, peers, out) =
            (self.peer.to_string_lossy(), self.peers.to_string_lossy(), self.out.to_string_lossy());
        text.replace("{peer}", &peer).replace("{peers}", &peers).replace("{out}", &out)
    }
}

/// The first word part of the form 1.2 or 1.2.3.
fn first_version(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|part| part.trim_matches('.'))
        .find(|part| part.contains('.') && part.split('.').all(|number| !number.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_servers_say() {
        assert_eq!(first_version("go version go1.27.3 linux/amd64"), Some("1.27.3"));
        assert_eq!(first_version("envoy  version: 3ad1f0a7/1.40.0/Clean/RELEASE/BoringSSL"), Some("1.40.0"));
        assert_eq!(first_version("registry+index#axum@0.8.9"), Some("0.8.9"));
        assert_eq!(first_version("nginx version: nginx/1.22.1."), Some("1.22.1"));
        assert_eq!(first_version("v20 and ... 7"), None);
    }

    #[test]
    fn every_folder_of_peers_is_one() {
        let peers = Peer::all(crate::root()).expect("every peer.toml can be read");
        assert!(!peers.is_empty());
        for peer in peers {
            assert!(peer.places.peer.join("README.md").exists(), "{} has no README.md", peer.name);
        }
    }
}
