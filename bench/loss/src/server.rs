//! The server under load: started on a port of ours, told to end by SIGTERM, and never left behind.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take until it accepts, and until it has ended.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(35);
/// So much of what it said last is kept.
const SAID: usize = 4096;

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    said: JoinSet<String>,
}

pub(crate) struct Exit {
    pub(crate) status: Option<ExitStatus>,
    /// Signal to exit.
    pub(crate) took: Duration,
    pub(crate) said: String,
}

impl Exit {
    /// None when all is well.
    pub(crate) fn wrong(&self) -> Option<String> {
        match self.status {
            None => Some(format!("still running {:?} after the signal; it was killed", self.took)),
            Some(status) if status.code() != Some(0) => Some(format!("ended with {status}, not with 0")),
            Some(_) => None,
        }
    }
}

impl Server {
    /// `turn` makes the port differ from one server to the next: nothing left over from the last one is met again.
    pub(crate) async fn start(command: &[OsString], turn: u32) -> anyhow::Result<Self> {
        let port = free_port(turn)?;
        let name = command[0].to_string_lossy();
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let mut said = JoinSet::new();
        if let Some(stderr) = child.stderr.take() {
            said.spawn(last_words(BufReader::new(stderr)));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Server { child, address, said };
        let start = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended at once with {status}: {}", server.last_words().await.trim());
            }
            if start.elapsed() > START {
                bail!("{name} does not listen on {address}, {START:?} after its start; it must heed PORT");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(server)
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn freeze(&self, freeze: bool) -> anyhow::Result<()> {
        self.signal(if freeze { Signal::STOP } else { Signal::CONT })
    }

    pub(crate) fn terminate(&self) -> anyhow::Result<Instant> {
        self.signal(Signal::TERM)?;
        Ok(Instant::now())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.context("the server ended before it was told to")?;
        kill_process(pid, signal).with_context(|| format!("can't send {signal:?}"))
    }

    pub(crate) async fn exit(mut self, signalled: Instant) -> anyhow::Result<Exit> {
        let ended = timeout(END, self.child.wait()).await;
        let took = signalled.elapsed();
        let status = match ended {
            Ok(status) => Some(status?),
            Err(_) => {
                self.child.kill().await?;
                None
            }
        };
        Ok(Exit { status, took, said: self.last_words().await })
    }

    async fn last_words(&mut self) -> String {
        // A grandchild may hold the pipe open.
        let said = timeout(Duration::from_secs(1), self.said.join_next()).await;
        said.ok().flatten().and_then(Result::ok).unwrap_or_default()
    }
}

async fn last_words(mut pipe: impl AsyncReadExt + Unpin) -> String {
    let mut said = Vec::new();
    while pipe.read_buf(&mut said).await.is_ok_and(|read| read > 0) {
        let surplus = said.len().saturating_sub(SAID);
        said.drain(..surplus);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Below the ports that the kernel gives to clients: one of ours that connects to a closed port there could meet itself.
fn free_port(turn: u32) -> anyhow::Result<u16> {
    let first = std::process::id().wrapping_mul(101).wrapping_add(turn);
    for offset in 0..200 {
        let port = u16::try_from(20_000 + first.wrapping_add(offset) % 12_000)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("none of 200 ports between 20000 and 32000 is free")
}
