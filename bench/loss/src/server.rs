//! The server under load: started on ports of ours, told to end, and never left behind.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::program::{Program, Stop};

/// How long a server may take until it accepts, and until it has ended.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(35);
/// So much of what it said last is kept.
const SAID: usize = 4096;
const PORTS: u32 = 12_000;

pub(crate) struct Server<'a> {
    program: &'a Program,
    child: Child,
    /// The command that ends it.
    stopper: Option<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    lame_duck: Duration,
    said: JoinSet<String>,
}

pub(crate) struct Exit {
    status: Option<ExitStatus>,
    good: Vec<i32>,
    pub(crate) lame_duck: Duration,
    /// Signal to exit.
    pub(crate) took: Duration,
    pub(crate) said: String,
}

impl Exit {
    /// None when all is well.
    pub(crate) fn wrong(&self) -> Option<String> {
        match self.status {
            None => Some(format!("still running {:?} after the signal; it was killed", self.took)),
            Some(status) if !self.good.contains(&code(status)) => {
                Some(format!("ended with {status}, not with {:?}", self.good))
            }
            // Then nothing was seen of an end with one.
            Some(_) if self.took < self.lame_duck => Some(format!(
                "ended {:?} after the signal, with LAME_DUCK={:?}",
                self.took,
                self.lame_duck.as_secs_f64()
            )),
            Some(_) => None,
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1)
}

impl<'a> Server<'a> {
    /// `turn` makes the port differ from one server to the next: nothing left over from the last one is met again.
    pub(crate) async fn start(program: &'a Program, turn: u32, lame_duck: Duration) -> anyhow::Result<Self> {
        let port = free_port(turn)?;
        let name = program.command.first().context("there is no command")?.to_string_lossy();
        let mut command = Command::new(&program.command[0]);
        command.args(&program.command[1..]).envs(&program.env).env("PORT", port.to_string());
        let tls = if program.tls { Some(free_port(turn.wrapping_add(PORTS / 2))?) } else { None };
        if let Some(port) = tls {
            command.env("TLS_PORT", port.to_string());
        }
        if !lame_duck.is_zero() {
            command.env("LAME_DUCK", lame_duck.as_secs_f64().to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("can't start {name}"))?;
        let mut said = JoinSet::new();
        if let Some(stderr) = child.stderr.take() {
            said.spawn(last_words(BufReader::new(stderr)));
        }
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, tls) = (at(port), tls.map(at));
        let mut server = Server { program, child, stopper: None, address, tls, lame_duck, said };
        server.accepts(address, "PORT").await?;
        if let Some(tls) = tls {
            server.accepts(tls, "TLS_PORT (or be run with --tls 0)").await?;
        }
        Ok(server)
    }

    async fn accepts(&mut self, address: SocketAddr, heeds: &str) -> anyhow::Result<()> {
        let name = &self.program.name;
        let start = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended at once with {status}: {}", self.last_words().await.trim());
            }
            if start.elapsed() > START {
                bail!("{name} does not listen on {address}, {START:?} after its start; it must heed {heeds}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops it where it stands, or lets it go on.
    pub(crate) fn freeze(&self, freeze: bool) -> anyhow::Result<()> {
        self.signal(if freeze { Signal::STOP } else { Signal::CONT })
    }

    pub(crate) fn terminate(&mut self) -> anyhow::Result<Instant> {
        match &self.program.stop {
            Stop::Signal(signal) => self.signal(*signal)?,
            Stop::Command(words) => {
                let mut command = Command::new(words.first().context("stop.command is empty")?);
                command.args(&words[1..]).envs(&self.program.env).env("PORT", self.address.port().to_string());
                command.env("PID", self.child.id().context("the server ended before it was told to")?.to_string());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
                let name = words[0].to_string_lossy();
                self.stopper = Some(command.spawn().with_context(|| format!("can't start {name}"))?);
            }
        }
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
        if let Some(mut stopper) = self.stopper.take() {
            let _or_killed_when_dropped = timeout(Duration::from_secs(5), stopper.wait()).await;
        }
        let said = self.last_words().await;
        Ok(Exit { status, good: self.program.good.clone(), lame_duck: self.lame_duck, took, said })
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
        let port = u16::try_from(20_000 + first.wrapping_add(offset) % PORTS)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("none of 200 ports between 20000 and 32000 is free")
}
