//! What the service manager is told, and how often (sd_notify(3)).
//!
//! A few lines of text in a datagram. `sd-notify`, the crate for it, knows no abstract sockets and may block.

use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::os;

/// How often the figures of a drain are told.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What the manager allows beyond what we say we need.
const MARGIN: Duration = Duration::from_secs(1);

/// The service manager, if there is one that listens.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddrUnix)>,
    /// Ticks as often as it must hear that we live.
    watchdog: Option<Interval>,
    status: Option<Interval>,
    /// It has been told of the end, and must not hear of anything else.
    stopping: bool,
    /// Another process speaks for the service now.
    silent: bool,
}

/// What it is time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Watchdog,
    Status,
}

impl Manager {
    /// As the environment says. Needs a runtime.
    pub(crate) fn of_environment() -> Self {
        let socket = env::var("NOTIFY_SOCKET").ok().and_then(|name| {
            open(&name).inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET={name}: systemd hears nothing")).ok()
        });
        let watchdog = watchdog(env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok(), std::process::id());
        let watchdog = watchdog.filter(|_| socket.is_some()).map(|every| {
            // Twice as often as it has to be (sd_watchdog_enabled(3)).
            let mut tick = interval((every / 2).max(Duration::from_millis(1)));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        Self { socket, watchdog, status: None, stopping: false, silent: false }
    }

    fn tell(&self, lines: &[&str]) {
        if let Some(Err(error)) = self.send(lines, None) {
            tracing::debug!(%error, "systemd did not take a message");
        }
    }

    /// `None`: there is nobody to tell.
    fn send(&self, lines: &[&str], with: Option<&OwnedFd>) -> Option<io::Result<()>> {
        let (socket, address) = self.socket.as_ref().filter(|_| !self.silent)?;
        let with = with.map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !with.as_slice().is_empty() {
            control.push(SendAncillaryMessage::ScmRights(with.as_slice()));
        }
        let text = lines.join("\n");
        let sent = sendmsg_addr(socket, address, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty());
        Some(sent.map(drop).map_err(io::Error::from))
    }

    /// Gives it a listener to keep for the next process. Whether it has it, as far as can be known: one whose unit has no
    /// `FileDescriptorStoreMax=` drops it without a word.
    pub(crate) fn store(&self, name: &str, listener: &OwnedFd) -> bool {
        match self.send(&["FDSTORE=1", &format!("FDNAME={name}")], Some(listener)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(%error, "systemd did not take the listener `{name}` to keep");
                false
            }
            None => false,
        }
    }

    /// It need not keep those by this name any more.
    pub(crate) fn forget(&self, name: &str) {
        self.tell(&["FDSTOREREMOVE=1", &format!("FDNAME={name}")]);
    }

    /// The listeners stand, and what comes is accepted.
    pub(crate) fn ready(&self) {
        if !self.stopping {
            self.tell(&["READY=1", "STATUS=serving"]);
        }
    }

    /// A successor is being started.
    pub(crate) fn reloading(&self, within: Duration) {
        let now = format!("MONOTONIC_USEC={}", os::monotonic_micros());
        self.tell(&["RELOADING=1", &now, &extend(within), "STATUS=restarting: the next process is getting ready"]);
    }

    /// It did not get ready.
    pub(crate) fn goes_on(&self, why: &str) {
        if !self.stopping {
            let status = format!("STATUS=serving; the restart failed: {}", why.replace('\n', " "));
            self.tell(&["READY=1", &status]);
        }
    }

    /// It did, and speaks for the service from now on.
    pub(crate) fn handed_on(&mut self, pid: u32) {
        self.tell(&[&format!("MAINPID={pid}"), "READY=1", "STATUS=serving"]);
        self.silent = true;
    }

    /// The end has begun, and takes so long at the most.
    pub(crate) fn stopping(&mut self, at_most: Duration, status: &str) {
        if std::mem::replace(&mut self.stopping, true) || self.silent || self.socket.is_none() {
            return;
        }
        self.tell(&["STOPPING=1", &extend(at_most), &format!("STATUS={status}")]);
        let mut tick = interval(STATUS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        self.status = Some(tick);
    }

    /// Ends when it is time to tell something. Cancel safe.
    pub(crate) async fn due(&mut self) -> Due {
        tokio::select! {
            biased;
            () = tick(&mut self.watchdog) => Due::Watchdog,
            () = tick(&mut self.status) => Due::Status,
        }
    }

    pub(crate) fn is_alive(&self) {
        self.tell(&["WATCHDOG=1"]);
    }

    pub(crate) fn status(&self, status: &str) {
        self.tell(&[&format!("STATUS={status}")]);
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// The manager waits so long, even if its own limit is shorter; where that is longer, it stays.
fn extend(time: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", time.saturating_add(MARGIN).as_micros())
}

fn open(name: &str) -> io::Result<(UnixDatagram, SocketAddrUnix)> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the service.
    socket.set_nonblocking(true)?;
    Ok((socket, address(name)?))
}

/// A path, or behind an `@` a name in the abstract namespace (unix(7)).
fn address(name: &str) -> io::Result<SocketAddrUnix> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = name.strip_prefix('@') {
        return Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?);
    }
    if !name.starts_with('/') {
        return Err(io::Error::other("neither a path nor an abstract name"));
    }
    Ok(SocketAddrUnix::new(name)?)
}

/// What `WATCHDOG_USEC` says, where it is meant for the process `own`.
fn watchdog(usec: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let usec = usec.filter(|_| meant)?.parse().ok()?;
    Some(Duration::from_micros(usec)).filter(|every| !every.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ho_4_the_watchdog_is_asked_for_in_microseconds_and_of_this_process() {
        let asked = |usec: &str, pid: Option<&str>| watchdog(Some(usec.into()), pid.map(Into::into), 4711);
        assert_eq!(asked("20000", None), Some(Duration::from_millis(20)));
        assert_eq!(asked("20000", Some("4711")), Some(Duration::from_millis(20)));
        assert_eq!(asked("20000", Some("4712")), None);
        assert_eq!(asked("0", None), None);
        assert_eq!(asked("soon", None), None);
        assert_eq!(watchdog(None, None, 4711), None);
    }
}
