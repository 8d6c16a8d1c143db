//! What is started and ended: the program on the command line, or a peer whose folder says how.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde::Deserialize;

use crate::kinds::{Class, Kind};

pub(crate) struct Program {
    /// In tables.
    pub(crate) name: String,
    pub(crate) command: Vec<OsString>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stop: Stop,
    /// Exit codes of a good end; a death by signal N is 128+N.
    pub(crate) good: Vec<i32>,
    pub(crate) tls: bool,
    pub(crate) lame_duck: bool,
    /// What it has; all where it is not said.
    has: Option<Has>,
}

struct Has {
    paths: Vec<String>,
    h2: bool,
}

pub(crate) enum Stop {
    Signal(Signal),
    Command(Vec<OsString>),
}

impl Program {
    /// Answers all that the target contract says.
    pub(crate) fn target(command: Vec<OsString>, tls: bool) -> Self {
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        Program {
            name: words.join(" "),
            command,
            env: BTreeMap::new(),
            stop: Stop::Signal(Signal::TERM),
            good: vec![0],
            tls,
            lame_duck: true,
            has: None,
        }
    }

    /// Why clients of this class can't be served, where that is known before they come.
    pub(crate) fn lacks(&self, class: Class) -> Option<String> {
        if class.tls && !self.tls {
            return Some("no TLS".to_owned());
        }
        let has = self.has.as_ref()?;
        if !has.paths.iter().any(|path| path == class.kind.path()) {
            return Some(format!("no {}", class.kind.path()));
        }
        (class.kind == Kind::Http2 && !has.h2).then(|| "no h2".to_owned())
    }
}

// === peers/README.md describes the file ===

#[derive(Deserialize)]
struct Peer {
    name: String,
    title: Option<String>,
    version: Option<Vec<String>>,
    paths: Vec<String>,
    #[serde(default)]
    h2: bool,
    #[serde(default)]
    tls: bool,
    best: Option<Variant>,
    defaults: Option<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    run: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stop: PeerStop,
    #[serde(default = "zero")]
    exit: Vec<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PeerStop {
    Signal(String),
    Command(Vec<String>),
}

/// The peers of a `peer.toml`, of its folder, or of a folder of such folders; as their documentation advises, or as they
/// are with nothing set.
pub(crate) fn peers(path: &Path, by_default: bool) -> anyhow::Result<Vec<Program>> {
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else if path.join("peer.toml").is_file() {
        files.push(path.join("peer.toml"));
    } else {
        for entry in path.read_dir().with_context(|| format!("can't read {}", path.display()))? {
            let file = entry?.path().join("peer.toml");
            files.extend(file.is_file().then_some(file));
        }
        files.sort();
    }
    if files.is_empty() {
        bail!("{}: there is no peer.toml", path.display());
    }
    files.iter().map(|file| peer(file, by_default).with_context(|| file.display().to_string())).collect()
}

fn peer(file: &Path, by_default: bool) -> anyhow::Result<Program> {
    let file = file.canonicalize()?;
    let peer: Peer = toml::from_str(&std::fs::read_to_string(&file)?)?;
    let places = Places::of(&file)?;
    let variant = if by_default { peer.defaults.or(peer.best) } else { peer.best.or(peer.defaults) };
    let variant = variant.context("has neither [best] nor [defaults]")?;
    let title = peer.title.unwrap_or(peer.name);
    let env = variant.env.iter().map(|(name, value)| (name.clone(), places.fill(value))).collect();
    // One that isn't built says so when it is started, and better.
    let version = peer.version.and_then(|command| version(&places.all(&command), &env));
    Ok(Program {
        name: version.map_or_else(|| title.clone(), |version| format!("{title} {version}")),
        command: places.all(&variant.run),
        env,
        stop: match variant.stop {
            PeerStop::Command(command) => Stop::Command(places.all(&command)),
            PeerStop::Signal(name) => Stop::Signal(signal(&name)?),
        },
        good: variant.exit,
        tls: peer.tls,
        lame_duck: false,
        has: Some(Has { paths: peer.paths, h2: peer.h2 }),
    })
}

fn signal(name: &str) -> anyhow::Result<Signal> {
    Ok(match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        other => bail!("no server is ended by the signal {other:?}"),
    })
}

/// What it prints first of the form 1.2 or 1.2.3.
fn version(command: &[OsString], env: &BTreeMap<String, String>) -> Option<String> {
    let said = Command::new(command.first()?).args(&command[1..]).envs(env).output().ok()?;
    if !said.status.success() {
        return None;
    }
    // Some tell it on standard error.
    first_version(&String::from_utf8_lossy(&[said.stdout, said.stderr].concat()))
}

fn first_version(text: &str) -> Option<String> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit() && c != '.').map(|part| part.trim_matches('.'));
    parts.find(|part| part.contains('.')).map(str::to_owned)
}

struct Places {
    peer: PathBuf,
    peers: PathBuf,
    out: PathBuf,
}

impl Places {
    fn of(file: &Path) -> anyhow::Result<Self> {
        let mut up = file.ancestors().skip(1);
        let mut folder = || up.next().map(Path::to_owned).context("lies too high");
        let (peer, peers, tree) = (folder()?, folder()?, folder()?);
        Ok(Places { peer, peers, out: tree.join("target/peers") })
    }

    fn fill(&self, text: &str) -> String {
        let places = [("{peer}", &self.peer), ("{peers}", &self.peers), ("{out}", &self.out)];
        places.iter().fold(text.to_owned(), |text, (name, path)| text.replace(name, &path.to_string_lossy()))
    }

    fn all(&self, words: &[String]) -> Vec<OsString> {
        words.iter().map(|word| self.fill(word).into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = r#"
        name = "small"
        title = "Small"
        paths = ["/", "/sse"]
        tls = true
        [best]
        run = ["{out}/small", "{peer}/it.conf"]
        env = { HOME = "{peers}" }
        stop = { signal = "QUIT" }
        exit = [0, 143]
        [defaults]
        run = ["small"]
        stop = { command = ["{peer}/stop.sh"] }
    "#;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("loss-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("peers/small")).expect("a folder");
        std::fs::write(folder.join("peers/small/peer.toml"), PEER).expect("a file");
        folder.canonicalize().expect("it is there")
    }

    #[test]
    fn a_peer_is_run_as_its_folder_says() {
        let tree = folder("best");
        let found = peers(&tree.join("peers"), false).expect("it reads");
        std::fs::remove_dir_all(&tree).expect("it is ours");
        let [small] = &found[..] else { panic!("one peer, not {}", found.len()) };
        assert_eq!(small.name, "Small");
        let tree = tree.display();
        let command = [format!("{tree}/target/peers/small"), format!("{tree}/peers/small/it.conf")];
        assert_eq!(small.command, command.map(OsString::from));
        assert_eq!(small.env["HOME"], format!("{tree}/peers"));
        assert!(matches!(small.stop, Stop::Signal(Signal::QUIT)));
        assert_eq!(small.good, [0, 143]);
    }

    #[test]
    fn a_peer_with_nothing_set_is_its_other_variant() {
        let tree = folder("defaults");
        let found = peers(&tree.join("peers/small"), true).expect("it reads");
        std::fs::remove_dir_all(&tree).expect("it is ours");
        assert_eq!((&found[0].command[..], &found[0].good[..]), (&["small".into()][..], &[0][..]));
        assert!(
            matches!(&found[0].stop, Stop::Command(words) if words[0].to_string_lossy().ends_with("small/stop.sh"))
        );
    }

    #[test]
    fn a_version_is_found_in_what_is_printed_around_it() {
        assert_eq!(first_version("go version go1.27.3 linux/amd64").as_deref(), Some("1.27.3"));
        assert_eq!(first_version("registry+https://a.b/c-index#axum@0.8.9\n").as_deref(), Some("0.8.9"));
        assert_eq!(first_version("no such program, 2 errors."), None);
    }

    #[test]
    fn what_a_peer_lacks_is_said_by_class() {
        let tree = folder("lacks");
        let found = peers(&tree.join("peers/small/peer.toml"), false).expect("it reads");
        std::fs::remove_dir_all(&tree).expect("it is ours");
        let lacks = |kind, tls| found[0].lacks(Class { kind, tls });
        assert_eq!(lacks(Kind::Fresh, true), None);
        assert_eq!(lacks(Kind::Sse, false), None);
        assert_eq!(lacks(Kind::Http2, true).as_deref(), Some("no h2"));
        assert_eq!(lacks(Kind::Upload, false).as_deref(), Some("no /echo"));
        let target = Program::target(vec!["target".into()], false);
        assert_eq!(target.lacks(Class { kind: Kind::Fresh, tls: true }).as_deref(), Some("no TLS"));
        assert_eq!(target.lacks(Class { kind: Kind::Http2, tls: false }), None);
    }
}
