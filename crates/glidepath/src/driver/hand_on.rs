//! Performs what `handover.rs` decides: towards the process before this one, towards the one after it, and towards the
//! service manager, who is to know which of them is the service.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Shared;
use crate::admin::Admin;
use crate::display;
use crate::error::{Error, Result};
use crate::guard::{Guardian, Line, Over, Stage};
use crate::handover::{Command, Event, Refusal, Word};
use crate::inherited;
use crate::listener::Acceptor;
use crate::os;
use crate::phase::{self, Cause, Phase};
use crate::plan::{LAST_RESORT_MARGIN, PROCESS_MARGIN};
use crate::report::Report;
use crate::restart::{HandedOn, Passed, Predecessor, Program, Succession};
use crate::signal::{self, Heard};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::systemd::{Due, Manager};

/// What all handles share of it.
pub(crate) struct Restart {
    on: AtomicBool,
    /// The manager is to keep the listeners.
    keeps: AtomicBool,
    program: std::io::Result<Program>,
    /// Its arguments in a restart, where they are not this process's.
    args: Mutex<Option<Vec<OsString>>>,
    /// The channel to the process before this one, until it is used.
    predecessor: Mutex<Option<OwnedFd>>,
    has_predecessor: bool,
    /// What PID 1 listens on, until it is used.
    line: Mutex<Option<Line>>,
    /// Of PID 1 only.
    guardian: Option<Arc<Guardian>>,
    /// The same channel, to see whether that process is gone.
    predecessors_end: Option<OwnedFd>,
    /// Who started this process: later it may be somebody who adopts orphans.
    #[cfg(feature = "admin")]
    parent: u32,
    /// The child that is not on its own yet, or zero.
    unfinished: AtomicU32,
    /// The process that has taken over, or zero.
    successor: AtomicU32,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// How many restarts were asked for, by what became of them.
#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) refused: u64,
}

impl Restart {
    pub(super) fn new() -> Self {
        let predecessor = inherited::channel().unwrap_or_else(|error| {
            tracing::warn!("what this process was to inherit: {error}");
            None
        });
        Self {
            on: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            program: Program::of_this_process(),
            args: Mutex::default(),
            has_predecessor: predecessor.is_some(),
            line: Mutex::new(inherited::guard().map(Line::new)),
            guardian: Guardian::of_this_process(),
            predecessors_end: predecessor.as_ref().and_then(|channel| channel.try_clone().ok()),
            #[cfg(feature = "admin")]
            parent: std::os::unix::process::parent_id(),
            predecessor: Mutex::new(predecessor),
            unfinished: AtomicU32::new(0),
            successor: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn has_predecessor(&self) -> bool {
        self.has_predecessor
    }

    pub(crate) fn turn_on(&self) {
        self.on.store(true, Ordering::Release);
    }

    /// From now on a restart executes the program with these, and not with this process's own.
    pub(crate) fn set_args(&self, args: Vec<OsString>) {
        *lock(&self.args) = Some(args);
    }

    fn program(&self) -> std::io::Result<Program> {
        let program = self.program.as_ref().map_err(|error| std::io::Error::new(error.kind(), error.to_string()))?;
        Ok(match &*lock(&self.args) {
            Some(args) => program.with_args(args),
            None => program.clone(),
        })
    }

    pub(crate) fn keep_listeners(&self) {
        self.keeps.store(true, Ordering::Release);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Whether the process before this one has ended: its kernel knows that before our reactor tells of it.
    fn is_predecessor_gone(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = self.predecessors_end.as_ref().map(|channel| recv(channel, &mut [0_u8; 1][..], flags));
        matches!(peeked, Some(Ok((0, _)) | Err(Errno::CONNRESET)))
    }

    /// The process that this one is to replace or has replaced.
    #[cfg(feature = "admin")]
    pub(crate) fn predecessor(&self) -> Option<u32> {
        self.has_predecessor.then_some(self.parent)
    }

    pub(crate) fn successor(&self) -> Option<u32> {
        Some(self.successor.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// What became of the restarts that were asked for.
    #[cfg(feature = "metrics")]
    pub(super) fn counts(&self) -> Counts {
        Counts {
            succeeded: self.successor().is_some().into(),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn stage(&self) -> Stage {
        self.guardian.as_ref().map_or(Stage::Alone, |guardian| guardian.stage())
    }

    /// Whether the container ends with this process, and another one serves in it.
    pub(super) fn guards(&self) -> bool {
        matches!(self.stage(), Stage::Guards { .. })
    }

    /// Whether this process is there for nothing else.
    pub(super) fn only_guards(&self) -> bool {
        self.stage() == Stage::Guards { told: true }
    }

    /// With what this process ends, whose own part has ended with the code `own`.
    pub(super) fn exit_code(&self, own: u8) -> u8 {
        self.guardian.as_ref().map_or(own, |guardian| guardian.exit_code(own))
    }

    /// Lets those hear it that came after this process.
    pub(super) fn pass_on(&self, heard: Heard) {
        let Some((guardian, number)) = self.guardian.as_ref().zip(signal::number_of(heard)) else { return };
        match heard {
            Heard::Stop(_) => guardian.stop(number),
            Heard::Restart => guardian.tell_who_serves(number),
            Heard::Dump(_) | Heard::DumpAndEnd => guardian.tell_all(number),
            Heard::Suspend | Heard::Nothing => {}
        }
    }

    /// This process's own part is over.
    pub(super) fn told(&self) {
        if let Some(guardian) = &self.guardian {
            guardian.told();
        }
    }

    /// The process ends by force, and with it one that has not taken over: left alone, it would.
    pub(super) fn end_successor(&self) {
        let pid = self.unfinished.load(Ordering::Acquire);
        if pid != 0 {
            os::kill(pid);
        }
    }
}

impl Shared {
    /// Asks, and says at once if it is refused.
    pub(super) fn ask_for_restart(&self) -> Result<oneshot::Receiver<Result<u32>>> {
        let asked = self.try_ask_for_restart();
        if asked.is_err() {
            self.restart.refused.fetch_add(1, Ordering::Relaxed);
        }
        asked
    }

    fn try_ask_for_restart(&self) -> Result<oneshot::Receiver<Result<u32>>> {
        if !self.restart.is_on() {
            return Err(Error::restart("it is not turned on; see `Server::restart_in_place`"));
        }
        if self.restart.guardian.is_some() && self.thread.is_none() {
            return Err(Error::restart(
                "this process is PID 1, and hears no signals that the new one would have to hear",
            ));
        }
        let mut inner = lock(&self.inner);
        let mut commands = inner.handover.step(Event::Ask);
        if commands == [Command::Refuse(Refusal::PredecessorDrains)] && self.restart.is_predecessor_gone() {
            commands = inner.handover.step(Event::PredecessorGone);
            commands.extend(inner.handover.step(Event::Ask));
        }
        if let [Command::Refuse(refusal)] = commands[..] {
            return Err(Error::restart(refusal.to_string()));
        }
        inner.handover_commands.extend(commands);
        let (answer, answered) = oneshot::channel();
        inner.callers.push(answer);
        drop(inner);
        self.changed.notify_one();
        Ok(answered)
    }

    pub(crate) async fn restart(&self) -> Result<u32> {
        let answered = self.ask_for_restart()?;
        answered.await.unwrap_or_else(|_| Err(Error::restart("serving ended meanwhile")))
    }

    /// From now on the container has to stay for another process.
    fn guard(&self, guardian: &Guardian, handed_on: &HandedOn) {
        let channel = handed_on.channel().inspect_err(|error| {
            tracing::warn!(target: "glidepath::restart", %error, "the next process will refuse to be restarted");
        });
        // Whoever sets a limit holds this, and sees then whether there may be one.
        let inner = lock(&self.inner);
        guardian.begin(channel.ok());
        self.last_resort.clear();
        drop(inner);
    }

    /// When this process is ended, whatever it does. A guardian stays.
    pub(super) fn process_ends_at(&self) -> Option<Instant> {
        match self.restart.stage() {
            Stage::Alone | Stage::Guards { told: false } => self.own_part_ends_at(),
            Stage::Guards { told: true } => None,
            Stage::Over(over) => Some(self.ends_after(over)),
        }
    }

    /// When nobody is left to stay for. `main` has what is left of the grace period, as without a restart.
    fn ends_after(&self, over: Over) -> Instant {
        let grace = lock(&self.inner).core.plan().grace;
        let since_then = over.stopped.unwrap_or(over.at) + grace;
        let at = since_then.max(over.at) + PROCESS_MARGIN;
        self.own_part_ends_at().map_or(at, |own| own.max(at))
    }

    /// The container need not stay any more.
    fn ends_with(&self, over: Over) {
        let Some(thread) = &self.thread else { return };
        self.last_resort.set(self.ends_after(over) + LAST_RESORT_MARGIN, over.code);
        thread.wake();
    }

    /// PID 1 stays as long as somebody is there who has taken over, and ends as that one does. Whether it did.
    pub(super) async fn stay(&self, report: &mut Report) -> bool {
        let Some(guardian) = self.restart.guardian.as_ref().filter(|guardian| guardian.stage() != Stage::Alone) else {
            return false;
        };
        guardian.told();
        // Nobody is served here any more whom that could hold up.
        os::fill_holes();
        guardian.over().await;
        report.exit_code = guardian.exit_code(report.exit_code);
        true
    }

    fn hand_over(&self, event: Event) {
        let mut inner = lock(&self.inner);
        let commands = inner.handover.step(event);
        inner.handover_commands.extend(commands);
    }

    fn next_handover_command(&self) -> Option<Command> {
        lock(&self.inner).handover_commands.pop_front()
    }

    fn answer_callers(&self, mut answer: impl FnMut() -> Result<u32>) {
        let callers = std::mem::take(&mut lock(&self.inner).callers);
        callers.into_iter().for_each(|caller| {
            let _nobody_waits = caller.send(answer());
        });
    }
}

/// What [`drive`](super::drive) has of it.
pub(super) struct HandOn {
    predecessor: Option<Predecessor>,
    succession: Succession,
    handed_on: Option<HandedOn>,
    manager: Manager,
    /// What PID 1 listens on; its own only from a restart's beginning to its end.
    line: Option<Line>,
    /// The names of what was inherited and not taken.
    left: Vec<String>,
    prepared: bool,
    accepts: bool,
    /// The process that had taken over is, or it is PID 1 that looks after it.
    gone: bool,
}

impl HandOn {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let channel = lock(&shared.restart.predecessor).take();
        let predecessor = channel.and_then(|channel| {
            Predecessor::new(channel).inspect_err(|error| tracing::warn!(%error, "the process before this one")).ok()
        });
        let mut this = Self {
            predecessor,
            succession: Succession::new(),
            handed_on: None,
            manager: Manager::of_environment(),
            line: lock(&shared.restart.line).take(),
            left: Vec::new(),
            prepared: false,
            accepts: false,
            gone: false,
        };
        if this.predecessor.is_none() {
            // Where there was one, it can't be heard, and so is as good as gone.
            shared.hand_over(if shared.restart.has_predecessor { Event::PredecessorGone } else { Event::Prepared });
            this.prepared = true;
            this.close_rest();
        }
        this
    }

    /// Whether this process may accept, or seal what it did.
    pub(super) fn accepts(&self) -> bool {
        self.accepts
    }

    fn close_rest(&mut self) -> Vec<usize> {
        let (rest, taken) = inherited::close_rest();
        for name in &rest {
            tracing::info!(target: "glidepath::restart", name, "an inherited listener was not taken, and is closed");
        }
        self.left.extend(rest);
        taken
    }

    pub(super) fn perform(&mut self, shared: &Arc<Shared>, acceptors: &mut [Acceptor], admin: &mut Admin) {
        if !self.prepared && shared.readiness.is_ready() {
            self.prepared = true;
            shared.hand_over(Event::Prepared);
        }
        while let Some(command) = shared.next_handover_command() {
            match command {
                Command::Say(word) => {
                    let took = if word == Word::Ready { self.close_rest() } else { Vec::new() };
                    if let Some(predecessor) = &self.predecessor {
                        predecessor.say(word, &took);
                    }
                }
                Command::Accept => {
                    self.close_rest();
                    acceptors.iter().chain(admin.acceptors()).for_each(Acceptor::take_over);
                    self.accepts = true;
                    self.say_for_itself();
                    self.give_to_the_manager(shared, acceptors.iter_mut().chain(admin.acceptors_mut()));
                    self.manager.ready();
                    if shared.restart.is_on() {
                        warn_of_the_nameless(acceptors.iter().chain(admin.acceptors()));
                    }
                }
                Command::Start => self.start(shared, acceptors, admin),
                Command::Tell(word) => {
                    shared.restart.unfinished.store(self.succession.pid().unwrap_or(0), Ordering::Release);
                    self.succession.tell(word);
                }
                Command::GiveUp(reason) => self.succession.give_up(reason),
                Command::HandOn => self.hand_on(shared),
                // Said to the one who asked, in `ask_for_restart`.
                Command::Refuse(_) => {}
            }
        }
    }

    /// PID 1 hears from the process before this one who serves, unless that one is gone.
    fn say_for_itself(&self) {
        if let Some(line) = self.line.as_ref().filter(|_| self.predecessor.is_none() && self.handed_on.is_none()) {
            line.say_serves(std::process::id());
        }
    }

    /// What PID 1 listens on, for the next process.
    fn line(&mut self, shared: &Arc<Shared>) -> std::io::Result<Option<OwnedFd>> {
        if let Some(guardian) = &shared.restart.guardian {
            let this = Arc::clone(shared);
            self.line = Some(guardian.prepare(move |over| this.ends_with(over))?);
        }
        self.line.as_ref().map(Line::to_pass_on).transpose()
    }

    /// What it is to keep for the next process, and what nobody takes any more.
    fn give_to_the_manager<'a>(&mut self, shared: &Shared, acceptors: impl Iterator<Item = &'a mut Acceptor>) {
        let left = std::mem::take(&mut self.left);
        left.iter().for_each(|name| self.manager.forget(name));
        if !shared.restart.keeps.load(Ordering::Acquire) {
            return;
        }
        for acceptor in acceptors {
            match acceptor.hand_on() {
                // What it keeps already it would else give to the next process twice.
                Ok((name, _)) if acceptor.is_kept() && !left.contains(&name) => {}
                Ok((name, listener)) => {
                    let stored = self.manager.store(&name, &listener);
                    acceptor.set_kept(stored || acceptor.is_kept());
                }
                Err(error) => tracing::warn!("no manager can keep this: {error}"),
            }
        }
    }

    fn start(&mut self, shared: &Arc<Shared>, acceptors: &[Acceptor], admin: &Admin) {
        let within = shared.registry.plan().ready_within;
        tracing::info!(target: "glidepath::restart", within_ms = within.as_millis() as u64, "restarting");
        self.manager.reloading(within);
        let listeners = acceptors.iter().chain(admin.acceptors()).map(|acceptor| {
            let (name, socket) = acceptor.hand_on()?;
            Ok(Passed { name, socket, kept: acceptor.is_kept() })
        });
        match (shared.restart.program(), listeners.collect::<std::io::Result<Vec<_>>>(), self.line(shared)) {
            (Ok(program), Ok(listeners), Ok(guard)) => self.succession.start(&program, listeners, guard, within),
            (Err(error), ..) => self.succession.cannot_start(format!("the program is not known: {error}")),
            (_, Err(error), _) => self.succession.cannot_start(error.to_string()),
            (.., Err(error)) => {
                self.succession
                    .cannot_start(format!("this process is PID 1, and could not follow the new one: {error}"));
            }
        }
    }

    fn hand_on(&mut self, shared: &Shared) {
        let Some(handed_on) = self.succession.hand_on() else { return };
        let pid = handed_on.pid();
        if let Some(guardian) = &shared.restart.guardian {
            shared.guard(guardian, &handed_on);
        }
        if let Some(line) = &self.line {
            line.say_serves(pid);
            self.gone = true;
        }
        // Its own would keep it from seeing that nobody else has one.
        self.line.take_if(|_| shared.restart.guardian.is_some());
        shared.restart.unfinished.store(0, Ordering::Release);
        shared.restart.successor.store(pid, Ordering::Release);
        self.handed_on = Some(handed_on);
        self.manager.handed_on(pid);
        tracing::info!(target: "glidepath::restart", pid, "another process has taken over");
        shared.answer_callers(|| Ok(pid));
        shared.registry.restarts();
        shared.dispatch(phase::Event::Begin(Cause::Restart));
    }

    /// Before the listeners are sealed: lets go of those that are another process's.
    pub(super) fn let_go(&mut self, shared: &Arc<Shared>, acceptors: &mut [Acceptor], admin: &mut Admin) {
        // What was decided together with the seal stands before it.
        self.perform(shared, acceptors, admin);
        if self.handed_on.is_some() {
            // In the order in which they were handed on.
            for (place, acceptor) in acceptors.iter_mut().chain(admin.acceptors_mut()).enumerate() {
                if self.succession.took(place) {
                    acceptor.release();
                }
                // Nobody comes after this process for what the next one left.
                acceptor.set_kept(false);
            }
            admin.turn_away();
        } else if !self.accepts {
            let all = acceptors.iter_mut().chain(admin.acceptors_mut());
            all.filter(|acceptor| acceptor.is_inherited()).for_each(Acceptor::release);
            // What is sealed has to be polled.
            self.accepts = true;
        }
    }

    /// Tells the manager of the end, once it has begun.
    pub(super) fn tell_of_the_end(&mut self, shared: &Shared) {
        if shared.phase() < Phase::LameDuck {
            return;
        }
        let at_most = shared.registry.plan().longest_end();
        self.manager.stopping(at_most, &display::line(&shared.snapshot()));
    }

    /// What happens around it, and is dealt with. Cancel safe.
    pub(super) async fn event(&mut self, shared: &Shared) {
        let predecessor = async {
            match &mut self.predecessor {
                Some(predecessor) => predecessor.event().await,
                None => std::future::pending().await,
            }
        };
        let successor_ended = async {
            match &mut self.handed_on {
                Some(successor) if !self.gone => (successor.pid(), successor.ended().await),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (pid, status) = successor_ended => {
                let how = status.map_or("it hung up".to_owned(), |status| status.to_string());
                tracing::error!(target: "glidepath::restart", pid, %how, "the process that had taken over is gone");
                self.gone = true;
            }
            event = predecessor => {
                if event == Event::PredecessorGone {
                    self.predecessor = None;
                    if self.accepts {
                        self.say_for_itself();
                    }
                }
                shared.hand_over(event);
            }
            event = self.succession.event() => {
                shared.restart.unfinished.store(self.succession.pid().unwrap_or(0), Ordering::Release);
                shared.hand_over(event);
                if event == Event::Reaped {
                    self.line.take_if(|_| shared.restart.guardian.is_some());
                    let why = self.succession.why();
                    shared.restart.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(target: "glidepath::restart", %why, "the restart came to nothing, and this process goes on");
                    self.manager.goes_on(&why);
                    shared.answer_callers(|| Err(Error::restart(why.clone())));
                }
            }
            due = self.manager.due() => match due {
                Due::Watchdog => self.manager.is_alive(),
                Due::Status => self.manager.status(&display::line(&shared.snapshot())),
            }
        }
    }

    /// Nobody who asked is left without an answer.
    pub(super) fn finish(&mut self, shared: &Shared) {
        shared.answer_callers(|| Err(Error::restart("this process has ended")));
    }
}

fn warn_of_the_nameless<'a>(acceptors: impl Iterator<Item = &'a Acceptor>) {
    for error in acceptors.filter_map(|acceptor| acceptor.hand_on().err()) {
        tracing::warn!("no restart will be possible: {error}");
    }
}
