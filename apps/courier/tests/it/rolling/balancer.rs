//! A balancer as a process, with its settings of `deploy/balancers`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::fleet::{Fleet, stable_port};
use crate::harness::{request, within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    HaProxy,
    Nginx,
    Envoy,
}

impl Kind {
    const ALL: [Self; 3] = [Self::HaProxy, Self::Nginx, Self::Envoy];

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name)
    }

    fn program(self) -> PathBuf {
        match self {
            Self::HaProxy => find("haproxy"),
            Self::Nginx => find("nginx"),
            Self::Envoy => std::env::var_os("ENVOY").map_or_else(|| find("envoy"), PathBuf::from),
        }
    }

    pub fn is_there(self) -> bool {
        self.program().is_file()
    }

    fn settings(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
            Self::Envoy => "envoy.yaml",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        })
    }
}

/// On the path, or where Debian keeps what only root starts.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap_or_default()
}

pub struct Balancer {
    child: Child,
    /// As in `127.0.0.1:12345`.
    pub address: String,
    /// The same, for HTTP/2 with prior knowledge.
    pub h2_address: String,
    log: PathBuf,
}

impl Balancer {
    pub async fn start(kind: Kind, folder: &Path, fleet: &Fleet) -> Self {
        let (port, h2_port) = (stable_port(), stable_port());
        let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/balancers").join(kind.settings());
        let mut text = std::fs::read_to_string(settings).expect("its settings");
        let mut fill = |word: &str, value: &str| text = text.replace(&format!("@{word}@"), value);
        fill("PORT", &port.to_string());
        fill("H2_PORT", &h2_port.to_string());
        fill("FOLDER", &folder.display().to_string());
        // Its worker would else be somebody who can't write to the folder.
        fill("USER", if rustix::process::getuid().is_root() { "user root;" } else { "" });
        for (member, name) in fleet.members.iter().zip(["ONE", "TWO", "THREE"]) {
            fill(name, &member.port.to_string());
            fill(&format!("{name}_ADMIN"), &member.admin.to_string());
        }
        let filled = folder.join(kind.settings());
        std::fs::write(&filled, text).expect("room for its settings");
        let mut command = Command::new(kind.program());
        match kind {
            Kind::HaProxy => command.args(["-db", "-f"]).arg(&filled),
            Kind::Nginx => command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(&filled),
            Kind::Envoy => command.args(["--use-dynamic-base-id", "-l", "warning", "-c"]).arg(&filled),
        };
        let log = folder.join("balancer.log");
        let file = || std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).kill_on_drop(true).spawn().expect("it");
        let address = format!("127.0.0.1:{port}");
        let h2_address = if kind == Kind::Nginx { format!("127.0.0.1:{h2_port}") } else { address.clone() };
        let balancer = Self { child, address, h2_address, log };
        let url = format!("http://{}/livez", balancer.address);
        within(&format!("{kind} passes requests on: {}", balancer.said()), async {
            // Three in a row: it has seen all of them.
            let mut in_a_row = 0;
            while in_a_row < 6 {
                let answer = request(axum::http::Method::GET, &url, &[], axum::body::Body::empty()).await;
                in_a_row = if answer.is_ok_and(|answer| answer.status == 200) { in_a_row + 1 } else { 0 };
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        balancer
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn end(mut self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        kill_process(pid, Signal::TERM).expect("it runs");
        within("its end", self.child.wait()).await.expect("a status");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the balancer:\n{}", self.said());
        }
    }
}
