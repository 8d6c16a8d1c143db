//! One server that runs: started on ports of its own, looked at from outside, ended by its own process id, and never left
//! behind.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

use crate::clock::{now, pause, since};
use crate::program::{Launch, Stop};

/// How long a server may take until it accepts.
const START: Duration = Duration::from_secs(10);
/// The grace period that all are told, in seconds, and how long an end may take.
const GRACE: &str = "10";
const END: Duration = Duration::from_secs(20);
/// Below the ports that the kernel gives to clients.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

pub(crate) struct Server<'a> {
    launch: &'a Launch,
    child: Child,
    /// Readable when the process is gone.
    process: OwnedFd,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
}

impl<'a> Server<'a> {
    pub(crate) fn start(launch: &'a Launch, tls: bool) -> anyhow::Result<Self> {
        let words = launch.command.first().context("its command is empty")?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (address, tls) = (at(free_port()?), if tls { Some(at(free_port()?)) } else { None });
        // By way of this program, so that it is gone when this program is, however that went.
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--hold", "--"]).args(&launch.command).envs(&launch.env);
        command.env("PORT", address.port().to_string()).env("GRACE", GRACE).process_group(0);
        if let Some(tls) = tls {
            command.env("TLS_PORT", tls.port().to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{words} does not start"))?;
        let process = pidfd_open(pid_of(&child)?, PidfdFlags::empty())?;
        let mut server = Server { launch, child, process, address, tls };
        for address in [Some(address), tls].into_iter().flatten() {
            server.accepts(address)?;
        }
        Ok(server)
    }

    fn accepts(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let began = now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at its start, with {status}");
            }
            ensure!(since(began) < START, "it does not listen on {address}, {START:?} after its start");
            pause(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What the processor has spent on the process and all that it has started, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let ticks: u64 = self.tree().iter().map(|stat| stat.ticks).sum();
        ensure!(ticks > 0 || self.is_there()?, "it has ended");
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// The memory of the same processes, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let of = |stat: &Stat| {
            let status = fs::read_to_string(format!("/proc/{}/status", stat.pid)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let kilobytes: u64 = self.tree().iter().filter_map(of).sum();
        ensure!(kilobytes > 0, "it has ended");
        Ok(kilobytes * 1024)
    }

    fn tree(&self) -> Vec<Stat> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let stats = processes.filter_map(|process| Stat::read(&fs::read_to_string(process.path().join("stat")).ok()?));
        below(self.child.id(), stats.collect())
    }

    fn is_there(&self) -> anyhow::Result<bool> {
        let gone = &mut [PollFd::new(&self.process, PollFlags::IN)];
        Ok(poll(gone, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0)
    }

    /// Tells it to end, and says when.
    pub(crate) fn stop(&self) -> anyhow::Result<Instant> {
        let told = now();
        match &self.launch.stop {
            Stop::Signal(name) => pidfd_send_signal(&self.process, signal(name)?)?,
            Stop::Command(words) => {
                let mut command = Command::new(words.first().context("its stop command is empty")?);
                command.args(&words[1..]).envs(&self.launch.env).env("PID", self.child.id().to_string());
                command.env("PORT", self.address.port().to_string()).env("GRACE", GRACE).process_group(0);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().context("its stop command does not start")?;
            }
        }
        Ok(told)
    }

    /// The moment at which it is gone; it must be by a good end.
    pub(crate) fn gone(&mut self) -> anyhow::Result<Instant> {
        let gone = &mut [PollFd::new(&self.process, PollFlags::IN)];
        let end = Timespec { tv_sec: END.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(gone, Some(&end))?;
        let then = now();
        ensure!(ready > 0, "it is still there {END:?} after it was told to end");
        let status = self.child.wait()?;
        let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1);
        ensure!(self.launch.exit.contains(&code), "it ended with {status}, not with {:?}", self.launch.exit);
        Ok(then)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // Nobody else gets this number before it is waited for; what it has started may outlive it.
        if let Ok(pid) = pid_of(&self.child) {
            let _gone_already = kill_process_group(pid, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

fn pid_of(child: &Child) -> anyhow::Result<Pid> {
    Pid::from_raw(child.id().try_into()?).context("a process has an id")
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

/// Becomes that command, which is then killed when the thread that has started this process is gone.
pub(crate) fn hold(command: &[String]) -> anyhow::Result<std::convert::Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, args) = command.split_first().context("nothing to start")?;
    Err(Command::new(program).args(args).exec()).with_context(|| format!("can't start {program}"))
}

/// A port of its own for each start: nothing that is left over from the last one is met again.
fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101);
    for _ in 0..200 {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + offset % (PORTS.end - PORTS.start))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("none of 200 ports in {PORTS:?} is free")
}

/// What proc_pid_stat(5) says of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// utime and stime.
    ticks: u64,
}

impl Stat {
    fn read(line: &str) -> Option<Self> {
        let pid = line.split(' ').next()?.parse().ok()?;
        // The name stands in parentheses, and may hold some.
        let fields: Vec<_> = line.rsplit_once(") ")?.1.split(' ').collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, ticks: number(11)? + number(12)? })
    }
}

/// That process and those below it.
fn below(root: u32, stats: Vec<Stat>) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    let mut found: Vec<_> = stats.iter().copied().filter(|stat| stat.pid == root).collect();
    for stat in stats {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next].pid).into_iter().flatten());
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line = "4711 (a) b (c)) S 12 4711 1 0 -1 4194304 9 9 9 9 250 50 7 7 20 0 3 0 99 1 1 1";
        assert_eq!(Stat::read(line), Some(Stat { pid: 4711, parent: 12, ticks: 300 }));
        assert_eq!(Stat::read("4711 (a) S 12"), None);
    }

    #[test]
    fn a_tree_is_a_process_and_all_that_it_has_started() {
        let stat = |pid, parent| Stat { pid, parent, ticks: 1 };
        let stats = vec![stat(1, 0), stat(7, 5), stat(5, 1), stat(6, 5), stat(8, 7), stat(9, 1)];
        let mut pids: Vec<_> = below(5, stats).iter().map(|stat| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [5, 6, 7, 8]);
    }

    #[test]
    fn this_process_is_read_as_the_kernel_writes_it() {
        let line = fs::read_to_string("/proc/self/stat").expect("it is Linux");
        assert_eq!(Stat::read(&line).map(|stat| stat.pid), Some(std::process::id()));
    }
}
