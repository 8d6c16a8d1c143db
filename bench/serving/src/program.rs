//! The servers: ours, which this very program serves when it is started as one, and the peers, as xtask describes them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::servers::Kind;

/// One server to measure.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// By which it is named on the command line.
    pub(crate) name: String,
    /// With its version, as tables show it.
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) ours: bool,
    pub(crate) h2: bool,
    pub(crate) tls: bool,
    /// With nothing set about its end, which costs it least: so it runs where the cost of serving is measured.
    pub(crate) serving: Launch,
    /// As its documentation advises for an end: so it runs where that is measured.
    pub(crate) ending: Launch,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Launch {
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stop: Stop,
    /// The exit codes that mean a good end.
    pub(crate) exit: Vec<i32>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stop {
    Signal(String),
    Command(Vec<String>),
}

impl Program {
    pub(crate) fn ours(kind: Kind) -> anyhow::Result<Self> {
        let itself: OsString = std::env::current_exe()?.into();
        let itself = itself.into_string().ok().context("the path to this program is not Unicode")?;
        let exit = if kind == Kind::Glidepath { vec![0] } else { vec![143] };
        let launch = Launch {
            command: vec![itself, "--serve".to_owned(), kind.name().to_owned()],
            env: BTreeMap::new(),
            stop: Stop::Signal("TERM".to_owned()),
            exit,
        };
        Ok(Program {
            name: kind.name().to_owned(),
            title: kind.title().to_owned(),
            ours: kind == Kind::Glidepath,
            h2: matches!(kind, Kind::BareHttp2 | Kind::Glidepath),
            tls: kind == Kind::Glidepath,
            serving: launch.clone(),
            ending: launch,
        })
    }

    /// Those in the file that xtask has written.
    pub(crate) fn peers(file: &Path) -> anyhow::Result<Vec<Self>> {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))
    }
}
