//! Three couriers on ports that stay the same, each of which can be replaced.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::sleep;

use crate::harness::{Courier, get, post, within};

pub const SIZE: usize = 3;

/// How a courier is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// SIGTERM, its end, and a new one.
    StopStart,
    /// By the admin port: the new one takes over.
    InPlace,
    /// SIGKILL and a new one, for the control.
    Kill,
}

pub struct Fleet {
    pub members: Vec<Member>,
}

pub struct Member {
    pub port: u16,
    pub admin: u16,
    folder: PathBuf,
    database: String,
    child: Option<Child>,
    /// The one that serves, which need not be our child.
    pid: Option<Pid>,
}

const TOKEN: &str = "rolling";

/// Below the ephemeral ports, from which somebody else's connection could have one while its courier is being replaced.
pub fn stable_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test processes begin elsewhere.
    let base = 10_000 + (std::process::id() % 400) as u16 * 50;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 50;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Fleet {
    pub async fn start(folder: &Path, database: &str) -> Self {
        let mut members = Vec::new();
        for place in 0..SIZE {
            let folder = folder.join(place.to_string());
            std::fs::create_dir(&folder).expect("room for a folder");
            let (port, admin) = (stable_port(), stable_port());
            let mut member = Member { port, admin, folder, database: database.into(), child: None, pid: None };
            member.start().await;
            members.push(member);
        }
        Self { members }
    }

    pub async fn replace(&mut self, place: usize, way: Way) {
        let member = &mut self.members[place];
        match way {
            Way::StopStart | Way::Kill => {
                member.stop(if way == Way::Kill { Signal::KILL } else { Signal::TERM }).await;
                member.start().await;
            }
            Way::InPlace => member.restart().await,
        }
    }

    pub async fn end(mut self) {
        for member in &mut self.members {
            member.stop(Signal::TERM).await;
        }
    }
}

impl Member {
    async fn start(&mut self) {
        let (listen, admin) = (format!("127.0.0.1:{}", self.port), format!("127.0.0.1:{}", self.admin));
        let mut command = Courier::command(&self.folder, &["--listen", &listen, "--admin", &admin]);
        command.args(["--admin-token", TOKEN, "--database", &self.database, "--allow-private-targets"]);
        // The balancers check five times a second.
        command.args(["--restart-in-place", "--lame-duck", "1500ms", "--grace", "20s", "--retry-first", "50ms"]);
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log file");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("courier");
        self.pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        self.child = Some(child);
        let address = format!("127.0.0.1:{}", self.admin);
        within("it listens", async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let url = format!("http://{address}/readyz");
        within("it is ready", async { while get(&url).await.status != 200 {} }).await;
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Also where a part of it is a panic's.
    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    async fn stop(&mut self, signal: Signal) {
        let pid = self.pid.take().expect("it runs");
        kill_process(pid, signal).expect("it runs");
        self.is_over(pid).await;
    }

    async fn restart(&mut self) {
        let url = format!("http://127.0.0.1:{}/restart", self.admin);
        let authorization = format!("Bearer {TOKEN}");
        let answer = post(&url, &[("authorization", &authorization)], String::new()).await;
        let says = answer.text();
        let next = says.strip_prefix("process ").and_then(|says| says.split(' ').next()?.parse().ok());
        let next = next.and_then(Pid::from_raw).unwrap_or_else(|| panic!("{says}\n{}", self.said()));
        let before = self.pid.replace(next).expect("it runs");
        self.is_over(before).await;
    }

    /// Waits until it has ended, and looks at how where it is our child.
    async fn is_over(&mut self, pid: Pid) {
        let id = Some(pid.as_raw_nonzero().get().unsigned_abs());
        match self.child.take_if(|child| child.id() == id) {
            Some(mut child) => {
                let status = within("its end", child.wait()).await.expect("a status");
                assert!(status.code().is_none_or(|code| code == 0), "{status}\n{}", self.said());
            }
            None => {
                let bound = within("its end", async {
                    while is_running(pid) {
                        sleep(Duration::from_millis(5)).await;
                    }
                });
                bound.await;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the courier on {}:\n{}", self.port, self.said());
        }
        // It was taken where it has ended.
        if let Some(pid) = self.pid.filter(|pid| is_running(*pid)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// One that nobody has reaped yet has ended, too.
pub fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|after| after.chars().next()).is_some_and(|state| state != 'Z')
}
