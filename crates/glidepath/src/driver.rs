//! Performs what the core decides. It has two hands: this file's [`Shared::dispatch`] does at once, on whichever thread an
//! event came in, what needs no waiting; [`drive`], inside the serve future, does the rest.
//!
//! A third one holds the rope: [`stand_by`] runs on the signal thread and ends the process when the runtime does not.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::admin::Admin;
use crate::connection::{Registry, Stage};
use crate::display::{self, Log, Scene, View};
use crate::drain::Drain;
use crate::error::{Error, Result};
use crate::handover::{self, Handover};
use crate::hooks::Hooks;
use crate::last_resort::{LastResort, Vigil};
use crate::listener::Acceptor;
use crate::os;
use crate::phase::{Cause, Command, Core, Ending, Event, Left, Moment, Phase};
use crate::plan::{LAST_RESORT_MARGIN, PROCESS_MARGIN, Plan};
use crate::readiness::Readiness;
use crate::report::{self, EXIT_CLEAN, EXIT_CUT, EXIT_FAILED, EXIT_SIGNAL_BASE, Outcome, Report, Snapshot};
use crate::signal::{self, DumpSignal, Heard, Signals, Waker};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};
use crate::tasks::Tasks;

mod gate;
#[cfg(unix)]
mod hand_on;
#[cfg(not(unix))]
#[path = "driver/no_hand_on.rs"]
mod hand_on;
mod held_by;
#[cfg(feature = "metrics")]
mod metrics;
mod told;

use gate::Gate;
use hand_on::{HandOn, Restart};
use held_by::{Lingers, Pulse};

/// How often connections are looked at that may be idle or too slow.
const SWEEP: Duration = Duration::from_millis(500);
/// In sweeps: how often the metrics are told how it stands, for recorders that push. Whoever scrapes is told at once.
const PUBLISH_EVERY: u32 = 20;
/// Of the time, giving memory back takes one part of so many: it may hold up whoever allocates.
const TRIM_SHARE: u32 = 1000;

type OnReport = Box<dyn FnOnce(&Report) + Send>;

/// What all handles of one lifecycle share.
pub(crate) struct Shared {
    born: Instant,
    inner: Mutex<Inner>,
    /// Something is for [`drive`] to look at.
    changed: Arc<Notify>,
    phase: watch::Sender<Phase>,
    listeners: AtomicUsize,
    pub(crate) serves: AtomicBool,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: Tasks,
    pub(crate) hooks: Hooks,
    pub(crate) drain: Drain,
    pub(crate) readiness: Readiness,
    pub(crate) restart: Restart,
    on_report: Mutex<Option<OnReport>>,
    report: Mutex<Option<Report>>,
    thread: Option<Waker>,
    dumps_json: AtomicBool,
    /// Said by the signal thread.
    sweep_due: AtomicBool,
    view: View,
    /// The runtime that serves.
    runtime: OnceLock<Handle>,
    last_resort: LastResort,
    /// Whoever tells the metrics has it.
    #[cfg(feature = "metrics")]
    publishes: Mutex<()>,
}

struct Inner {
    core: Core,
    /// For [`drive`].
    commands: VecDeque<Command>,
    stopped: Option<Moment>,
    /// When each phase began, by its number.
    began: [Option<Moment>; Phase::COUNT],
    handover: Handover,
    /// For [`drive`], too, which does these first.
    handover_commands: VecDeque<handover::Command>,
    /// Who waits for the restart that is under way.
    callers: Vec<oneshot::Sender<Result<u32>>>,
}

impl Shared {
    pub(crate) fn new(thread: Option<Waker>) -> Arc<Self> {
        let plan = Plan::default();
        let changed = Arc::new(Notify::new());
        let restart = Restart::new();
        let inner = Inner {
            core: Core::new(plan),
            commands: VecDeque::new(),
            stopped: None,
            began: [None; Phase::COUNT],
            handover: Handover::new(restart.has_predecessor()),
            handover_commands: VecDeque::new(),
            callers: Vec::new(),
        };
        Arc::new(Self {
            born: Instant::now(),
            registry: Registry::new(&plan, Arc::clone(&changed)),
            tasks: Tasks::new(Arc::clone(&changed)),
            inner: Mutex::new(inner),
            readiness: Readiness::new(Arc::clone(&changed)),
            changed,
            phase: watch::Sender::new(Phase::Armed),
            listeners: AtomicUsize::new(0),
            serves: AtomicBool::new(false),
            hooks: Hooks::default(),
            drain: Drain::default(),
            restart,
            on_report: Mutex::default(),
            report: Mutex::default(),
            thread,
            dumps_json: AtomicBool::new(false),
            sweep_due: AtomicBool::new(false),
            view: View::default(),
            runtime: OnceLock::new(),
            last_resort: LastResort::default(),
            #[cfg(feature = "metrics")]
            publishes: Mutex::default(),
        })
    }

    pub(crate) fn set_plan(&self, plan: Plan) {
        let plan = plan.bounded();
        self.registry.set_plan(&plan);
        lock(&self.inner).core.set_plan(plan);
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn on_report(&self, tell: OnReport) {
        *lock(&self.on_report) = Some(tell);
    }

    pub(crate) fn now(&self) -> Moment {
        self.born.elapsed()
    }

    fn left(&self) -> Left {
        Left {
            listeners: self.listeners.load(Ordering::Acquire),
            connections: self.registry.open(),
            tasks: self.tasks.running(),
            hooks: self.hooks.left(),
        }
    }

    /// Takes an event through the core, and does what can be done without waiting.
    pub(crate) fn dispatch(&self, event: Event) {
        let mut inner = lock(&self.inner);
        let now = self.now();
        let (before, limit_before) = (inner.core.phase(), inner.core.process_ends_at());
        let mut never_began = Vec::new();
        for command in inner.core.step(event, self.left(), now) {
            match command {
                Command::TurnAway => {
                    inner.stopped = Some(now);
                    let commands = inner.handover.step(handover::Event::Stop);
                    inner.handover_commands.extend(commands);
                    self.drain.stop();
                    self.readiness.stop();
                    self.registry.set_stage(Stage::TurnAway);
                }
                Command::Drain => {
                    self.drain.begin();
                    self.registry.set_stage(Stage::Drain);
                }
                Command::Answer => {
                    self.registry.set_stage(Stage::Answer);
                    self.tasks.abort();
                }
                Command::Cut => self.registry.set_stage(Stage::Cut),
                Command::AbortHooks => {
                    never_began = self.hooks.abort();
                    inner.commands.push_back(command);
                }
                Command::Seal | Command::RunHooks { .. } | Command::Finish => inner.commands.push_back(command),
            }
        }
        let (phase, cause) = (inner.core.phase(), inner.core.cause());
        let limit = inner.core.process_ends_at();
        let phases = passed(before, phase);
        phases.clone().for_each(|phase| inner.began[phase as usize] = Some(now));
        let to_do = !inner.commands.is_empty() || !inner.handover_commands.is_empty() || limit != limit_before;
        // With a guardian all that it guards would end.
        let ends_alone = self.thread.is_some() && !self.restart.guards();
        if let Some(limit) = limit.filter(|_| ends_alone && limit != limit_before) {
            let code = exit_code(inner.core.ending()).unwrap_or(EXIT_CUT);
            self.last_resort.set(self.born + limit + LAST_RESORT_MARGIN, code);
        }
        drop(inner);
        drop(never_began);
        if phase != before {
            self.show(phase);
            // Where there is no thread for signals, no Ctrl-C comes here.
            if phase >= Phase::LameDuck && self.thread.is_some() {
                self.view.claim(matches!(cause, Some(Cause::Terminal(_))));
            }
            let cause = cause.map(signal::name);
            // The last is told with the report.
            for phase in phases.filter(|phase| *phase != Phase::Ended) {
                tracing::info!(target: "glidepath::lifecycle", %phase, cause, "lifecycle");
            }
        }
        if phase != before || to_do {
            self.changed.notify_one();
            if let Some(thread) = &self.thread {
                thread.wake();
            }
        }
        if phase != before {
            self.publish();
        }
    }

    /// Tells the metrics how it stands.
    #[cfg(not(feature = "metrics"))]
    fn publish(&self) {}

    /// Two threads may come here in the wrong order: an earlier phase is not shown again.
    fn show(&self, phase: Phase) {
        self.phase.send_if_modified(|shown| {
            let later = phase > *shown;
            *shown = phase.max(*shown);
            later
        });
    }

    fn next_command(&self) -> Option<Command> {
        lock(&self.inner).commands.pop_front()
    }

    fn at(&self, moment: Option<Moment>) -> Option<Instant> {
        moment.map(|moment| self.born + moment)
    }

    fn looks_again_at(&self) -> Option<Instant> {
        self.at(lock(&self.inner).core.wakes_at())
    }

    /// When this process is ended, if it ends alone.
    fn own_part_ends_at(&self) -> Option<Instant> {
        self.at(lock(&self.inner).core.process_ends_at())
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let inner = lock(&self.inner);
        let (phase, cause, stopped) = (inner.core.phase(), inner.core.cause(), inner.stopped);
        let ends = [inner.core.deadline(), inner.core.work_ends_at(), inner.core.process_ends_at()];
        drop(inner);
        let mut running = self.registry.list();
        running.extend(self.tasks.list());
        running.extend(self.hooks.list());
        let now = self.now();
        let [left, work_left, process_left] = ends.map(|at| at.map(|at| at.saturating_sub(now)));
        Snapshot {
            pid: std::process::id(),
            phase,
            cause: cause.map(signal::name),
            stopped: stopped.map(|stopped| now.saturating_sub(stopped)),
            left,
            work_left,
            process_left,
            connections: self.registry.by_state(),
            running,
            waiting: self.hooks.waiting(),
        }
    }

    /// Writes on standard error what is running.
    fn dump(&self) {
        let snapshot = self.snapshot();
        let dump =
            if self.dumps_json.load(Ordering::Relaxed) { snapshot.to_json() + "\n" } else { snapshot.to_string() };
        let _ = std::io::Write::write_all(&mut display::stderr(), dump.as_bytes());
    }

    /// Dumps are JSON from now on.
    pub(crate) fn dump_json(&self) {
        self.dumps_json.store(true, Ordering::Relaxed);
    }

    /// Dumps, and goes on, when this signal comes. Without signals there is none.
    pub(crate) fn dump_on(&self, signal: DumpSignal) -> std::io::Result<()> {
        self.thread.as_ref().map_or(Ok(()), |thread| thread.dump_on(signal))
    }

    /// What a person at the terminal is to see.
    fn scene(&self, pulse: &mut Pulse) -> Scene {
        let inner = lock(&self.inner);
        let (of, further, grace) = (inner.core.time_given(), inner.core.further(), inner.core.plan().grace);
        drop(inner);
        Scene {
            snapshot: self.snapshot(),
            of,
            grace,
            further,
            listeners: self.listeners.load(Ordering::Acquire),
            serves: self.serves.load(Ordering::Acquire),
            silent: self.runtime.get().and_then(|runtime| pulse.missed_for(runtime)),
        }
    }

    /// Writes the report and tells it, once; later calls give the same.
    fn finish(&self, held_by: Option<&str>) -> Report {
        let mut kept = lock(&self.report);
        if let Some(report) = &*kept {
            return report.clone();
        }
        // What is still there was not waited for: it is named, so that the account is whole.
        self.registry.abandon();
        self.tasks.abort();
        let never_began = self.hooks.abort();
        let report = self.account(held_by);
        *kept = Some(report.clone());
        drop(kept);
        drop(never_began);
        self.publish();
        told::tell(&report);
        // Taken out first: it may use the lifecycle.
        let tell = lock(&self.on_report).take();
        match tell {
            // Its panic is the program's, and no reason to lose the report and the exit code.
            Some(tell) => drop(catch_unwind(AssertUnwindSafe(|| tell(&report)))),
            // It is long until `main` returns it.
            None if self.restart.guards() => display::print_once(&report),
            None => {}
        }
        report
    }

    fn account(&self, held_by: Option<&str>) -> Report {
        let inner = lock(&self.inner);
        let now = self.now();
        let (ending, failed, cause) = (inner.core.ending(), inner.core.has_failed(), inner.core.cause());
        let took = now - inner.stopped.unwrap_or(now);
        let grace = inner.core.plan().grace;
        drop(inner);
        let (connections, requests, mut cut) = self.registry.account();
        let (tasks, aborted, mut panicked) = self.tasks.account();
        cut.extend(aborted);
        let (hooks, aborted, hooks_panicked) = self.hooks.account();
        cut.extend(aborted);
        panicked.extend(hooks_panicked);
        let (outcome, exit_code) = match ending {
            Ending::Forced(_) => (Outcome::Forced, exit_code(ending).unwrap_or(EXIT_CUT)),
            Ending::Ran if failed => (Outcome::Failed, EXIT_FAILED),
            Ending::Ran if cut.is_empty() && connections.cut == 0 && held_by.is_none() => (Outcome::Clean, EXIT_CLEAN),
            Ending::Ran => (Outcome::Cut, EXIT_CUT),
        };
        Report {
            version: 1,
            outcome,
            exit_code,
            cause: cause.map_or("a listener failed", signal::name).to_owned(),
            successor: self.restart.successor(),
            took,
            grace,
            connections,
            requests,
            tasks,
            hooks,
            cut,
            panicked,
            held_by: held_by.map(str::to_owned),
            printed: report::Printed::default(),
        }
    }
}

/// The phases from `before`, which is none of them, to `now`: one step may go through several. The end can't pass a lame duck
/// by without waiting in it.
fn passed(before: Phase, now: Phase) -> impl Iterator<Item = Phase> + Clone {
    let between = [Phase::Draining, Phase::Closing].into_iter().filter(move |phase| before < *phase && *phase < now);
    between.chain((before != now).then_some(now))
}

/// The exit code of a forced end.
fn exit_code(ending: Ending) -> Option<u8> {
    let Ending::Forced(by) = ending else { return None };
    Some(signal::number(by).map_or(EXIT_CUT, |number| EXIT_SIGNAL_BASE.saturating_add(number)))
}

/// Takes one service from its first accept to its report.
pub(crate) async fn drive(shared: &Arc<Shared>, mut acceptors: Vec<Acceptor>, mut admin: Admin) -> Result<Report> {
    shared.listeners.store(acceptors.len(), Ordering::Release);
    let _known = shared.runtime.set(Handle::current());
    let mut hooks: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    let mut failed = None;
    let mut log = Log::default();
    let mut sweeps = 0_u32;
    let mut sealing = None;
    let mut sweep = shared.thread.is_none().then(|| {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep
    });
    let mut hand_on = HandOn::new(shared);
    let gate = Gate::new();
    shared.dispatch(Event::Serve);
    loop {
        hand_on.perform(shared, &mut acceptors, &mut admin);
        hand_on.tell_of_the_end(shared);
        while let Some(command) = shared.next_command() {
            match command {
                Command::Seal => {
                    sealing = Some((Instant::now(), acceptors.len())).filter(|(_, listeners)| *listeners > 0);
                    hand_on.let_go(shared, &mut acceptors, &mut admin);
                    acceptors.iter_mut().for_each(Acceptor::seal);
                }
                Command::RunHooks { until } => {
                    hooks = Some(Box::pin(shared.hooks.clone().run(shared.born + until)));
                }
                Command::AbortHooks => hooks = None,
                Command::Finish => {
                    shared.view.end();
                    hand_on.finish(shared);
                    let mut report = shared.finish(None);
                    #[cfg(feature = "admin")]
                    admin.tell(&report);
                    admin.close().await;
                    if shared.stay(&mut report).await {
                        return Ok(report);
                    }
                    return match failed {
                        Some(error) => Err(Error::listener(error)),
                        None => Ok(report),
                    };
                }
                // Done by `dispatch`.
                Command::TurnAway | Command::Drain | Command::Answer | Command::Cut => {}
            }
        }
        let (accepts, looks_again_at) = (hand_on.accepts(), shared.looks_again_at());
        tokio::select! {
            biased;
            sealed = Acceptor::any_sealed(&mut acceptors), if accepts => {
                shared.listeners.store(acceptors.len(), Ordering::Release);
                if let Err(error) = sealed {
                    failed = Some(error);
                    shared.dispatch(Event::Fail);
                }
            }
            // In a fixed order: a random one takes a random number for each turn.
            () = gate.pass(async { tokio::select! {
                biased;
                () = shared.changed.notified() => {}
                () = until(looks_again_at), if looks_again_at.is_some() => {}
                () = hand_on.event(shared) => {}
                error = admin.serve(), if accepts => {
                    failed = Some(error);
                    shared.dispatch(Event::Fail);
                }
                () = ended(&mut hooks), if hooks.is_some() => hooks = None,
                () = tick(&mut sweep), if sweep.is_some() => shared.sweep_due.store(true, Ordering::Relaxed),
                () = log.due(), if shared.phase() >= Phase::LameDuck => {
                    if !shared.view.is_seen() {
                        log.tell(&shared.snapshot());
                    }
                }
            } }) => {}
        }
        if shared.sweep_due.swap(false, Ordering::Relaxed) {
            shared.registry.sweep();
            admin.sweep();
            sweeps = sweeps.wrapping_add(1);
            if sweeps % PUBLISH_EVERY == 0 {
                shared.publish();
            }
        }
        if let Some((began, listeners)) = sealing.take_if(|_| acceptors.is_empty()) {
            let took_ms = began.elapsed().as_millis() as u64;
            tracing::info!(target: "glidepath::lifecycle", listeners, took_ms, "listeners closed");
        }
        shared.dispatch(Event::Look);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

async fn ended(hooks: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match hooks {
        Some(hooks) => hooks.await,
        None => std::future::pending().await,
    }
}

/// The signal thread: hears, and ends the process when nobody else does. Never returns.
///
/// It is the clock of the sweep, too: a timer in the runtime would make every one of its waits read the time.
pub(crate) fn stand_by(shared: &Arc<Shared>, mut signals: Signals) -> ! {
    if let Err(error) = signals.unblock() {
        tracing::warn!(%error, "cannot unblock signals; those that the process was started with blocked are not heard");
    }
    let mut vigil = Vigil::new(PROCESS_MARGIN);
    let mut sweep_at = Instant::now();
    let mut trims_at = sweep_at;
    let mut lingers = Lingers::default();
    loop {
        let now = Instant::now();
        if !shared.restart.guards() {
            lingers.look(shared, now);
        }
        let looks_at = match shared.process_ends_at() {
            Some(at) => match vigil.look(at, now) {
                None if shared.restart.guards() => {
                    end_own_part(shared);
                    continue;
                }
                None => end_process(shared),
                looks_at => looks_at,
            },
            None => {
                vigil = Vigil::new(PROCESS_MARGIN);
                None
            }
        };
        let sweeps = (Phase::Serving..Phase::Ended).contains(&shared.phase()) && !shared.restart.only_guards();
        let wakes_at = looks_at.into_iter().chain(sweeps.then_some(sweep_at)).chain(lingers.says_at()).min();
        let limit = wakes_at.map(|at| at.saturating_duration_since(now));
        let heard = signals.wait(limit, || shared.restart.is_on());
        // As it is now: by what they hear all of them may end.
        let (guards, only_guards) = (shared.restart.guards(), shared.restart.only_guards());
        // First: whoever takes over in this moment hears it from there.
        shared.restart.pass_on(heard);
        match heard {
            Heard::Restart if guards => {}
            Heard::Restart => {
                if let Err(error) = shared.ask_for_restart() {
                    tracing::warn!(target: "glidepath::restart", %error, "restart refused");
                }
            }
            Heard::Stop(cause) => shared.dispatch(Event::Step(cause)),
            Heard::Dump(_) | Heard::DumpAndEnd if only_guards => {}
            Heard::Dump(_) => shared.dump(),
            Heard::DumpAndEnd if guards => {
                shared.view.end();
                shared.dump();
                shared.dispatch(Event::Force(signal::DUMP_AND_END));
            }
            Heard::DumpAndEnd => {
                shared.view.end();
                shared.dump();
                shared.restart.end_successor();
                os::exit_now(signal::EXIT_DUMP);
            }
            Heard::Suspend => shared.view.hidden_while(os::suspend),
            Heard::Nothing => {}
        }
        if shared.phase() >= Phase::LameDuck {
            if shared.view.is_claimed() {
                signals.hear_suspend();
            }
            let (seen, mut pulse) = (Arc::clone(shared), Pulse::default());
            shared.view.begin(move || seen.scene(&mut pulse));
        }
        let now = Instant::now();
        if sweeps && now >= sweep_at {
            sweep_at = now + SWEEP;
            // What the sweep before this one has sent to rest. Here it holds up no worker of the runtime.
            if shared.phase() == Phase::Serving && now >= trims_at && shared.registry.has_holes() {
                os::fill_holes();
                trims_at = now + TRIM_SHARE * (Instant::now() - now);
            }
            shared.sweep_due.store(true, Ordering::Relaxed);
            shared.changed.notify_one();
        }
    }
}

/// The forced end. The runtime was given its time: something blocks it, or `main` does not return.
fn end_process(shared: &Shared) -> ! {
    let report = report_by_force(shared);
    shared.restart.end_successor();
    let code = match shared.restart.exit_code(report.exit_code) {
        EXIT_CLEAN => report.exit_code,
        code => code,
    };
    os::exit_now(code.into())
}

/// The same for a guardian, which stays.
fn end_own_part(shared: &Shared) {
    report_by_force(shared);
    shared.restart.told();
}

/// Writes the report of a process that does not come to its end by itself.
fn report_by_force(shared: &Shared) -> Report {
    shared.view.end();
    let written = lock(&shared.report).clone();
    let report = match written {
        Some(mut report) => {
            // All work was accounted for in time, but the process is still here.
            if report.outcome == Outcome::Clean {
                report.exit_code = EXIT_CUT;
                report.outcome = Outcome::Cut;
            }
            report.held_by = Some("a blocked thread, or `main`, after all work had ended".into());
            report
        }
        None => shared.finish(Some("a runtime whose threads are all blocked, or `main`, which does not poll `serve`")),
    };
    display::print_once(&report);
    report
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

/// The handle's ways to ask for an end.
impl Shared {
    pub(crate) fn begin(&self) {
        self.dispatch(Event::Begin(Cause::Handle));
    }

    pub(crate) fn hurry(&self) {
        self.dispatch(Event::Step(Cause::Handle));
    }

    pub(crate) fn force(&self) {
        self.dispatch(Event::Force(Cause::Handle));
    }
}

#[cfg(test)]
mod tests;
