//! The same on this machine: a real HAProxy in front of two real servers, one of which is ended over and over.
//!
//! Only where the simulation and a small set-up overlap: one balancer, its checks, and who is refused.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::turning::{Balancer, Fleet, turning};

/// As short as HAProxy's checks can be for a quick run, and still long against what a check takes.
const CHECKS: Balancer = Balancer { interval: 0.4, fall: 3, delay: (0.0, 0.0), refusals: None };
const LAME_DUCKS: [f64; 5] = [0.0, 0.4, 0.8, 1.2, 1.4];
/// New connections a second to each of the two servers.
const CONNECTS: f64 = 50.0;
const PATIENCE: Duration = Duration::from_secs(10);

/// For one lame duck.
pub(crate) struct Measured {
    pub(crate) lame_duck: f64,
    /// Refused connections at each end: least, in the mean, and most.
    pub(crate) refused: (u32, f64, u32),
    /// What the simulation says, in the mean.
    pub(crate) simulated: f64,
    pub(crate) asked: usize,
}

/// Ends a server `rounds` times for each lame duck; `tell` hears how far it is.
pub(crate) fn measure(
    haproxy: &Path,
    server: &Path,
    rounds: u32,
    seed: u64,
    mut tell: impl FnMut(&Measured),
) -> anyhow::Result<()> {
    ensure!(
        server.is_file(),
        "{} is not there: `cargo build --release -p glidepath --example target`",
        server.display()
    );
    for (place, lame_duck) in LAME_DUCKS.into_iter().enumerate() {
        let mut bench = Bench::start(haproxy, server, lame_duck)?;
        let mut random = fastrand::Rng::with_seed(seed + place as u64);
        let (mut refused, mut asked) = (Vec::new(), 0);
        for _ in 0..rounds {
            let (bad, all) = bench.round(&mut random)?;
            refused.push(bad);
            asked += all;
        }
        let fleet = Fleet { instances: 10_000, balancers: 1, connects: CONNECTS };
        let mean = f64::from(refused.iter().sum::<u32>()) / f64::from(rounds);
        let (least, most) = (refused.iter().min().copied(), refused.iter().max().copied());
        tell(&Measured {
            lame_duck,
            refused: (least.unwrap_or(0), mean, most.unwrap_or(0)),
            simulated: turning(fleet, CHECKS, lame_duck, seed).refused,
            asked,
        });
    }
    Ok(())
}

struct Bench {
    server: PathBuf,
    lame_duck: f64,
    ended: Member,
    _stays: Member,
    _haproxy: Process,
    balancer: SocketAddr,
    folder: PathBuf,
}

impl Bench {
    fn start(haproxy: &Path, server: &Path, lame_duck: f64) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("glidepath-fleet-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (ended, stays) = (Member::start(server, lame_duck, None)?, Member::start(server, lame_duck, None)?);
        let balancer = free_port()?;
        let checks = format!("check inter {}ms fall {} rise 1", CHECKS.interval * 1000.0, CHECKS.fall);
        let settings = format!(
            "global\n    maxconn 4096\n\
             defaults\n    mode http\n    retries 0\n    option httpclose\n    http-reuse never\n    timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n    timeout check 1s\n\
             listen all\n    bind {balancer}\n    balance roundrobin\n    option httpchk GET /readyz\n    default-server {checks}\n\
             \x20   server one {} port {}\n    server two {} port {}\n",
            ended.address, ended.admin, stays.address, stays.admin
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, settings)?;
        let mut command = Command::new(haproxy);
        command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let haproxy = Process::start(&mut command)
            .with_context(|| format!("{}; it is a package of that name", haproxy.display()))?;
        until("HAProxy answers", || asks(balancer).is_ok())?;
        Ok(Bench { server: server.to_owned(), lame_duck, ended, _stays: stays, _haproxy: haproxy, balancer, folder })
    }

    /// Ends one server under load and starts it again. Counts who was refused, and who asked.
    fn round(&mut self, random: &mut fastrand::Rng) -> anyhow::Result<(u32, usize)> {
        // Twice that, because the two take turns.
        let every = Duration::from_secs_f64(1.0 / (2.0 * CONNECTS));
        let (over, answers) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let (balancer, ended) = (self.balancer, &self.ended);
        let wait = Duration::from_secs_f64(0.5 + CHECKS.interval * random.f64());
        let watched = Duration::from_secs_f64(CHECKS.slowest().max(self.lame_duck) + 2.0 * CHECKS.interval);
        std::thread::scope(|scope| {
            for client in 0..8 {
                let (over, answers) = (&over, &answers);
                scope.spawn(move || {
                    let mut next = now() + every * client;
                    while !over.load(Ordering::Relaxed) {
                        sleep(next.saturating_duration_since(now()));
                        next += every * 8;
                        let answer = asks(balancer);
                        answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(answer);
                    }
                });
            }
            sleep(wait);
            ended.process.signal(Signal::TERM);
            sleep(watched);
            over.store(true, Ordering::Relaxed);
        });
        let answers = answers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut refused = 0;
        for answer in &answers {
            match answer {
                Ok(200) => {}
                // HAProxy's own, for a server that it could not connect to.
                Ok(503) => refused += 1,
                other => anyhow::bail!("neither an answer nor a refusal: {other:?}"),
            }
        }
        self.ended.again(&self.server, self.lame_duck)?;
        // Both take their turns again: HAProxy says so by sending to the one that is new.
        sleep(Duration::from_secs_f64(2.0 * CHECKS.interval));
        Ok((refused, answers.len()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.folder);
    }
}

struct Member {
    process: Process,
    address: SocketAddr,
    admin: u16,
}

impl Member {
    fn start(server: &Path, lame_duck: f64, at: Option<(SocketAddr, u16)>) -> anyhow::Result<Self> {
        let (address, admin) = match at {
            Some(at) => at,
            None => (free_port()?, free_port()?.port()),
        };
        let mut command = Command::new(server);
        command.env("PORT", address.port().to_string()).env("ADMIN_PORT", admin.to_string());
        command
            .env("LAME_DUCK", lame_duck.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::start(&mut command).with_context(|| server.display().to_string())?;
        until("the server answers", || asks(address).is_ok())?;
        Ok(Member { process, address, admin })
    }

    /// On the same ports, when the one before is gone.
    fn again(&mut self, server: &Path, lame_duck: f64) -> anyhow::Result<()> {
        self.process.child.wait()?;
        *self = Member::start(server, lame_duck, Some((self.address, self.admin)))?;
        Ok(())
    }
}

/// Ended with what holds it.
struct Process {
    child: Child,
}

impl Process {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        Ok(Process { child: command.spawn()? })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ended_already = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A new connection and one request: the status of its answer.
fn asks(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: fleet\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("no status in {:?}", String::from_utf8_lossy(&answer))))
}

/// Free a moment ago. Nothing else here takes ports.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = now() + PATIENCE;
    while !is_so() {
        ensure!(now() < end, "waited for {PATIENCE:?} until {what}");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "real servers take real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime here")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
