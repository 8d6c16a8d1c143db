//! PID 1 after a restart in place. With it the container ends, so it stays until those that came after it have ended, and what
//! it hears they hear.
//!
//! Who serves is said on a pair of sockets: PID 1 listens, and each process after it has the other end and passes it on.
//! Known is who came to serve. That somebody else is there, who may, shows in that the other end is open.
//!
//! Invariants:
//! 1. nobody is reaped but who came to serve, each by a descriptor of its own: the program's own children are the program's;
//! 2. a signal that is to end the service is heard by whoever serves then or comes to serve after it;
//! 3. the thread wakes when something happens, and by no clock, but where something has gone wrong.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::os;
use crate::report::{EXIT_CLEAN, EXIT_FAILED, EXIT_SIGNAL_BASE};

/// When all are gone that served, and somebody is there who has not said a word: how long it may take to.
const UNHEARD: Duration = Duration::from_secs(30);

/// Out of descriptors, how soon it is tried again to get one.
const AGAIN: Duration = Duration::from_secs(1);

/// Far more than a word needs.
const LONGEST: usize = 256;

/// The end of the pair that everybody after PID 1 has.
#[derive(Debug)]
pub(crate) struct Line(UnixStream);

impl Line {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Says that this process serves from now on.
    pub(crate) fn say_serves(&self, pid: u32) {
        // In one piece, because others may speak at the same time. If PID 1 were gone, so would be everybody.
        let _heard = (&self.0).write_all(format!("serves {pid}\n").as_bytes());
    }

    /// For the next process.
    pub(crate) fn to_pass_on(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody has taken over.
    Alone,
    /// Another process serves. `told`: this one's own end is over, and it stays for that one only.
    Guards { told: bool },
    /// Nobody is left.
    Over(Over),
}

/// How it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) at: Instant,
    /// When the first signal was heard that was to end the service.
    pub(crate) stopped: Option<Instant>,
    /// Of the last one that came to serve.
    pub(crate) code: u8,
}

/// PID 1's side of it.
#[derive(Debug)]
pub(crate) struct Guardian {
    stage: watch::Sender<Stage>,
    known: Mutex<Known>,
}

/// Who is known.
#[derive(Debug, Default)]
struct Known {
    /// Who came to serve and was not reaped, in that order.
    wards: Vec<Ward>,
    /// Who came last, and how it ended, once it has.
    last: Option<(u32, Option<os::Ended>)>,
    /// The last signal that was to end the service, and when the first one came.
    stop: Option<(i32, Instant)>,
    /// This process's own end is over.
    told: bool,
    /// It was not, when such a signal came: what became of it counts.
    in_one: bool,
    /// To the process that has taken over from this one: it sees by its end that this one no longer drains.
    successor: Option<OwnedFd>,
}

#[derive(Debug, Clone)]
struct Ward {
    pid: u32,
    /// None for want of a free descriptor.
    process: Option<Arc<os::Process>>,
    /// It is its parent's to reap, and then ours.
    ended: bool,
}

impl Guardian {
    /// If this process needs to be one.
    pub(crate) fn of_this_process() -> Option<Arc<Self>> {
        (std::process::id() == 1).then(Self::new)
    }

    fn new() -> Arc<Self> {
        Arc::new(Self { stage: watch::Sender::new(Stage::Alone), known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets ready for a successor, which is to have the line. When nobody is left any more `tell` is called, and once more when
    /// that shows; where all ends of the line are dropped and nobody came to serve, nothing was to be guarded.
    pub(crate) fn prepare(self: &Arc<Self>, tell: impl Fn(Over) + Send + 'static) -> io::Result<Line> {
        // Found out before it is too late.
        os::Process::open(std::process::id())?;
        let (ours, theirs) = UnixStream::pair()?;
        let this = Arc::clone(self);
        std::thread::Builder::new().name("glidepath-guard".into()).spawn(move || {
            this.watch(Words::new(ours));
            let (last, stop) = {
                let known = this.known();
                (known.last, known.stop)
            };
            let Some((pid, how)) = last else { return };
            let stopped = stop.map(|(_, at)| at);
            let over = Over { at: Instant::now(), stopped, code: exit_code(how) };
            // First, because a log that nobody reads holds this thread up.
            tell(over);
            tell_how_it_ended(pid, how);
            this.stage.send_replace(Stage::Over(over));
            tell(over);
        })?;
        Ok(Line(theirs))
    }

    /// Somebody takes over. `channel` is hung up when this process has ended its own part.
    pub(crate) fn begin(&self, channel: Option<OwnedFd>) {
        self.known().successor = channel;
        self.stage.send_replace(Stage::Guards { told: false });
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// This process's own end is over, and its report written.
    pub(crate) fn told(&self) {
        let goes_on = self.stage.send_if_modified(|stage| {
            let guards = *stage == Stage::Guards { told: false };
            if guards {
                *stage = Stage::Guards { told: true };
            }
            guards
        });
        let channel = {
            let mut known = self.known();
            known.told = true;
            known.successor.take()
        };
        if let Some(channel) = channel {
            let _gone = rustix::net::shutdown(&channel, rustix::net::Shutdown::Both);
        }
        if goes_on {
            tracing::info!(target: "glidepath::restart", "this process has nothing left to do, and sleeps until they have ended");
        }
    }

    /// Ends when nobody is left.
    pub(crate) async fn over(&self) {
        // The sender lives as long as this does.
        let _ = self.stage.subscribe().wait_for(|stage| matches!(stage, Stage::Over(_))).await;
    }

    /// With what this process ends, whose own part has ended with the code `own`: as the last one that served. Where that one
    /// left all in order, and both were ended by the same signals, it is this one's part that counts.
    pub(crate) fn exit_code(&self, own: u8) -> u8 {
        match self.stage() {
            Stage::Over(Over { code: EXIT_CLEAN, .. }) if self.known().in_one => own,
            Stage::Over(Over { code, .. }) => code,
            Stage::Alone | Stage::Guards { .. } => own,
        }
    }

    /// A signal that is to end the service. Those that drain hear it, too: one more of it hurries them.
    pub(crate) fn stop(&self, signal: i32) {
        let mut known = self.known();
        let first = known.stop.map_or_else(Instant::now, |(_, at)| at);
        known.stop = Some((signal, first));
        known.in_one |= !known.told;
        known.wards.iter().for_each(|ward| ward.signal(signal));
    }

    /// A signal for all that are there.
    pub(crate) fn tell_all(&self, signal: i32) {
        self.known().wards.iter().for_each(|ward| ward.signal(signal));
    }

    /// A signal for the one that serves.
    pub(crate) fn tell_who_serves(&self, signal: i32) {
        if let Some(ward) = self.known().wards.last() {
            ward.signal(signal);
        }
    }

    /// To the end of all of them.
    fn watch(&self, mut words: Words) {
        loop {
            let (wards, served) = {
                let mut known = self.known();
                known.wards.iter_mut().for_each(Ward::open);
                (known.wards.clone(), known.last.is_some())
            };
            let limit = match &wards[..] {
                [] if !words.open => return,
                [] if served => Some(UNHEARD),
                wards if wards.iter().any(Ward::is_unwatched) => {
                    tracing::warn!(target: "glidepath::restart", "cannot watch the process that serves; trying again");
                    Some(AGAIN)
                }
                _ => None,
            };
            let running = wards.iter().filter(|ward| !ward.ended).filter_map(|ward| ward.process.as_deref());
            let mut ready: Vec<_> = running.map(|process| PollFd::new(process, PollFlags::IN)).collect();
            if words.open {
                ready.push(PollFd::new(&words.from, PollFlags::IN));
            }
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            let nothing = poll(&mut ready, limit.as_ref()) == Ok(0);
            let said = words.open && ready.last().is_some_and(|words| !words.revents().is_empty());
            if nothing && wards.is_empty() {
                tracing::warn!(target: "glidepath::restart", "somebody came after the process that served, and says nothing");
                return;
            }
            // Before anybody is reaped: the last word of one that has ended is about the next.
            let pids = if said { words.heard() } else { Vec::new() };
            for pid in pids.into_iter().filter(|pid| self.known().comes_to_serve(*pid)) {
                tracing::info!(target: "glidepath::restart", pid, "this process is PID 1, and stays as long as that one serves");
            }
            self.known().reap();
        }
    }
}

impl Known {
    /// Whether that is news.
    fn comes_to_serve(&mut self, pid: u32) -> bool {
        // The one before it says so, and it does itself when that one is gone.
        if self.wards.iter().any(|ward| ward.pid == pid) {
            return false;
        }
        let mut ward = Ward { pid, process: None, ended: false };
        ward.open();
        if let Some((signal, _)) = self.stop {
            ward.signal(signal);
        }
        self.wards.push(ward);
        self.last = Some((pid, None));
        true
    }

    fn reap(&mut self) {
        let Self { wards, last, .. } = self;
        // One that has ended may have left us another one that has.
        loop {
            let before = wards.len();
            wards.retain_mut(|ward| match ward.reap() {
                Ok(None) => true,
                Ok(ended) => {
                    last.iter_mut().filter(|(pid, _)| *pid == ward.pid).for_each(|(_, how)| *how = ended);
                    false
                }
                // It has another parent, as long as that is there.
                Err(_) => {
                    ward.ended = ward.has_ended();
                    true
                }
            });
            if wards.len() == before {
                break;
            }
        }
        if wards.iter().all(|ward| ward.ended) {
            // Somebody else has reaped them.
            wards.clear();
        }
    }
}

/// As a shell says it.
fn exit_code(how: Option<os::Ended>) -> u8 {
    match how {
        Some(os::Ended::With(code)) => code,
        Some(os::Ended::BySignal(signal)) => EXIT_SIGNAL_BASE.saturating_add(signal),
        None => EXIT_FAILED,
    }
}

fn tell_how_it_ended(pid: u32, how: Option<os::Ended>) {
    match how {
        Some(os::Ended::With(code)) => {
            tracing::info!(target: "glidepath::restart", pid, code, "the process that served has ended, and this one ends");
        }
        Some(os::Ended::BySignal(signal)) => {
            tracing::error!(target: "glidepath::restart", pid, signal, "the process that served was killed by a signal, nobody came after it, and this one ends");
        }
        None => {
            tracing::error!(target: "glidepath::restart", pid, "the process that served has ended, how is not known, and this one ends");
        }
    }
}

impl Ward {
    fn open(&mut self) {
        if !self.is_unwatched() {
            return;
        }
        match os::Process::open(self.pid) {
            Ok(process) => self.process = Some(Arc::new(process)),
            // Somebody else has reaped it.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => self.ended = true,
            Err(_) => {}
        }
    }

    fn is_unwatched(&self) -> bool {
        self.process.is_none() && !self.ended
    }

    fn signal(&self, number: i32) {
        if let Some(process) = &self.process {
            process.signal(number);
        }
    }

    fn reap(&self) -> io::Result<Option<os::Ended>> {
        self.process.as_ref().map_or(Ok(None), |process| process.reap())
    }

    fn has_ended(&self) -> bool {
        let Some(process) = &self.process else { return self.ended };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&**process, PollFlags::IN)], Some(&now)) == Ok(1)
    }
}

/// What is said on the line, in lines of text.
#[derive(Debug)]
struct Words {
    from: UnixStream,
    unread: Vec<u8>,
    /// Somebody has the other end.
    open: bool,
}

impl Words {
    fn new(from: UnixStream) -> Self {
        Self { from, unread: Vec::new(), open: true }
    }

    /// Who serves, by what has come. To be called when something has.
    fn heard(&mut self) -> Vec<u32> {
        let mut piece = [0; LONGEST];
        match self.from.read(&mut piece) {
            Ok(0) => self.open = false,
            Ok(read) => self.unread.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.open = false,
        }
        let mut pids = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            pids.extend(parse(&line[..end]));
        }
        if self.unread.len() > LONGEST {
            self.open = false;
        }
        pids
    }
}

/// `None`: not a word. A later version may have others.
fn parse(line: &[u8]) -> Option<u32> {
    let pid = std::str::from_utf8(line).ok()?.strip_prefix("serves ")?;
    pid.parse().ok().filter(|pid| *pid > 1)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::mpsc;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().expect("a shell")
    }

    /// Follows one for which others may come; gives it with its line, and what tells the code with which it is over.
    fn guardian() -> (Arc<Guardian>, Line, mpsc::Receiver<u8>) {
        let guardian = Guardian::new();
        let (tell, told) = mpsc::channel();
        let line = guardian.prepare(move |over| tell.send(over.code).unwrap_or_default()).expect("a thread");
        guardian.begin(None);
        (guardian, line, told)
    }

    #[test]
    fn ho_7_a_child_that_the_program_has_started_is_left_to_it() {
        let (_guardian, line, over) = guardian();
        let mut own = shell("exit 7");
        let mut next = shell("exit 5");
        line.say_serves(next.id());
        drop(line);
        assert_eq!(over.recv_timeout(WITHIN), Ok(5));
        assert!(next.wait().is_err(), "the control: that one is reaped");
        assert_eq!(own.wait().expect("it is there for its parent").code(), Some(7));
    }

    #[test]
    fn ho_7_the_exit_code_is_that_of_the_last_one_that_came_to_serve() {
        let (guardian, line, over) = guardian();
        let first = shell("exec sleep 100");
        let last = shell("kill -KILL $$");
        line.say_serves(first.id());
        line.say_serves(last.id());
        // The one before says so, and it does itself.
        line.say_serves(last.id());
        drop(line);
        assert!(over.recv_timeout(Duration::from_millis(300)).is_err(), "the first is still there");
        guardian.tell_all(15);
        assert_eq!(over.recv_timeout(WITHIN), Ok(137));
        drop((first, last));
    }

    #[test]
    fn ho_7_whoever_comes_to_serve_after_a_signal_hears_it() {
        let (guardian, line, over) = guardian();
        guardian.stop(15);
        let next = shell("exec sleep 100");
        line.say_serves(next.id());
        drop(line);
        assert_eq!(over.recv_timeout(WITHIN), Ok(128 + 15));
        drop(next);
    }

    #[test]
    fn ho_7_where_nobody_came_to_serve_nothing_is_over() {
        let guardian = Guardian::new();
        for again in [false, true] {
            let (tell, told) = mpsc::channel();
            let line = guardian.prepare(move |over| tell.send(over).unwrap_or_default()).expect("a thread");
            let another = line.to_pass_on().expect("a descriptor");
            drop((line, another));
            assert_eq!(told.recv_timeout(WITHIN), Err(mpsc::RecvTimeoutError::Disconnected), "{again}");
            assert_eq!(guardian.stage(), Stage::Alone, "it can be tried again");
        }
    }

    #[test]
    fn ho_7_what_this_process_cut_itself_counts_if_both_ended_together() {
        for (drains, own, others, code) in [(true, 3, 0, 3), (true, 3, 143, 143), (false, 3, 0, 0), (false, 0, 1, 1)] {
            let (guardian, line, over) = guardian();
            if !drains {
                guardian.told();
            }
            let next = shell(&format!("exit {others}"));
            guardian.stop(0);
            line.say_serves(next.id());
            drop(line);
            assert_eq!(over.recv_timeout(WITHIN), Ok(others));
            assert_eq!(over.recv_timeout(WITHIN), Ok(others), "once more, when it shows");
            assert_eq!(guardian.exit_code(own), code);
            drop(next);
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        assert_eq!(parse(b"serves 17"), Some(17));
        for line in
            [&b""[..], b"serves", b"serves ", b"serves 1", b"serves 0", b"serves -1", b"serves 7 8", b"leaves 7"]
        {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
