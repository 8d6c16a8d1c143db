//! What is around the core, as far as it matters: `driver.rs` and what it drives.

use std::collections::VecDeque;

use super::{Action, Event, Life, TERM};
use crate::phase::{Command, Core, Ending, Left, Moment, Phase};
use crate::plan::Plan;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Listener {
    /// The server has not come.
    NotThere,
    Open,
    /// Its queue is being emptied.
    Sealing,
    Sealed,
}

/// What a request or a task leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Task {
    None,
    Starts,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Moment,

    // What may still come.
    pub(super) signals: u8,
    pub(super) clients: u8,
    pub(super) requests: u8,
    pub(super) tasks: u8,
    pub(super) dawdled: bool,

    pub(super) listener: Listener,
    pub(super) accepted: u8,
    /// Connections that are fresh or idle, that have a request, that have ended.
    pub(super) resting: u8,
    pub(super) in_flight: u8,
    pub(super) finished: u8,
    pub(super) cut: u8,
    pub(super) started: u8,
    pub(super) running: u8,
    pub(super) done: u8,
    pub(super) aborted: u8,
    pub(super) hooks_waiting: u8,
    pub(super) hook_runs: bool,
    pub(super) hooks_done: u8,
    pub(super) hooks_aborted: u8,

    // What `dispatch` told everybody.
    pub(super) turned_away: bool,
    pub(super) drained: bool,
    pub(super) answered: bool,
    pub(super) cut_off: bool,

    // The driver.
    pub(super) queue: VecDeque<Command>,
    /// The `Notify` that wakes it.
    changed: bool,
    /// The deadline that it read before it fell asleep.
    sleeps_until: Option<Moment>,
    pub(super) returned: bool,

    // What happened, for the properties.
    pub(super) steps: u8,
    pub(super) failed: bool,
    /// A connection whose thread is blocked.
    pub(super) ignored_the_cut: bool,
    pub(super) went_back: bool,
    pub(super) drained_at: Option<Moment>,
    pub(super) forced_at: Option<Moment>,
    /// Work that was there when the first hook began, and nobody had cut it.
    pub(super) hooks_overtook: bool,
}

impl World {
    pub(super) fn new(life: &Life) -> Self {
        Self {
            // As in `Shared::new`: the server brings its plan with it.
            core: Core::new(Plan::default()),
            now: Moment::from_secs(100),
            signals: life.signals,
            clients: life.clients,
            requests: life.requests,
            tasks: life.tasks,
            dawdled: false,
            listener: Listener::NotThere,
            accepted: 0,
            resting: 0,
            in_flight: 0,
            finished: 0,
            cut: 0,
            started: 0,
            running: 0,
            done: 0,
            aborted: 0,
            hooks_waiting: life.hooks,
            hook_runs: false,
            hooks_done: 0,
            hooks_aborted: 0,
            turned_away: false,
            drained: false,
            answered: false,
            cut_off: false,
            queue: VecDeque::new(),
            changed: false,
            sleeps_until: None,
            returned: false,
            steps: 0,
            failed: false,
            ignored_the_cut: false,
            went_back: false,
            drained_at: None,
            forced_at: None,
            hooks_overtook: false,
        }
    }

    pub(super) fn left(&self) -> Left {
        Left {
            listeners: usize::from(self.accepts()),
            connections: self.open(),
            tasks: self.running.into(),
            hooks: usize::from(self.hooks_waiting) + usize::from(self.hook_runs),
        }
    }

    pub(super) fn open(&self) -> usize {
        usize::from(self.resting + self.in_flight)
    }

    pub(super) fn accepts(&self) -> bool {
        matches!(self.listener, Listener::Open | Listener::Sealing)
    }

    /// In its `select!`.
    pub(super) fn driver_waits(&self) -> bool {
        self.listener != Listener::NotThere && self.queue.is_empty()
    }

    pub(super) fn driver_is_due(&self) -> bool {
        self.changed || self.sleeps_until.is_some_and(|at| at <= self.now)
    }

    pub(super) fn time_may_pass(&self) -> bool {
        !self.driver_is_due() && self.sleeps_until.is_some()
    }

    pub(super) fn happens(&mut self, life: &Life, action: Action) {
        match action {
            Action::ServerComes => {
                self.listener = Listener::Open;
                self.core.set_plan(life.plan);
                self.dispatch(Event::Serve);
            }
            Action::Signal => {
                self.signals -= 1;
                self.steps += 1;
                self.dispatch(Event::Step(TERM));
            }
            Action::ClientConnects => {
                self.clients -= 1;
                self.accepted += 1;
                self.resting += 1;
            }
            Action::RequestStarts => {
                self.requests -= 1;
                self.resting -= 1;
                self.in_flight += 1;
            }
            Action::RequestEnds(task) => {
                // A task is in the book before its request leaves the registry.
                self.start(task);
                self.in_flight -= 1;
                if self.turned_away {
                    self.connection_ends(|world| world.finished += 1);
                } else {
                    self.resting += 1;
                }
            }
            Action::RestingCloses => {
                self.resting -= 1;
                self.connection_ends(|world| world.finished += 1);
            }
            Action::RequestIsCut => {
                self.in_flight -= 1;
                self.connection_ends(|world| world.cut += 1);
            }
            Action::RestingIsCut => {
                self.resting -= 1;
                self.connection_ends(|world| world.cut += 1);
            }
            Action::TaskEnds(task) => {
                self.start(task);
                self.running -= 1;
                self.done += 1;
                self.changed = true;
            }
            Action::HookEnds => {
                self.hooks_done += 1;
                self.hook_runs = false;
                if !self.next_hook() {
                    self.dispatch(Event::Look);
                }
            }
            Action::ListenerIsSealed => {
                self.listener = Listener::Sealed;
                self.dispatch(Event::Look);
            }
            Action::ListenerFails => {
                self.listener = Listener::Sealed;
                self.failed = true;
                self.dispatch(Event::Fail);
                self.dispatch(Event::Look);
            }
            Action::DriverPerforms => self.perform(),
            Action::DriverLooks => {
                self.changed = false;
                self.dispatch(Event::Look);
            }
            Action::TimePasses => self.now = self.sleeps_until.unwrap_or(self.now),
            Action::HalfTheTimePasses => {
                self.dawdled = true;
                self.now += (self.sleeps_until.unwrap_or(self.now) - self.now) / 2;
            }
        }
        if action.is_the_drivers() && self.driver_waits() {
            self.sleeps_until = self.core.wakes_at();
        }
    }

    fn connection_ends(&mut self, count: fn(&mut Self)) {
        count(self);
        // While serving the driver is not told.
        self.changed |= self.turned_away && self.open() == 0;
    }

    fn start(&mut self, task: Task) {
        if task == Task::Starts {
            self.tasks -= 1;
            self.started += 1;
            if self.answered {
                self.aborted += 1;
            } else {
                self.running += 1;
            }
        }
    }

    fn next_hook(&mut self) -> bool {
        let any = self.hooks_waiting > 0;
        if any {
            self.hooks_waiting -= 1;
            self.hook_runs = true;
        }
        any
    }

    /// `Shared::dispatch`.
    fn dispatch(&mut self, event: Event) {
        let (before, limit_before) = (self.core.phase(), self.core.process_ends_at());
        for command in self.core.step(event, self.left(), self.now) {
            match command {
                Command::TurnAway => self.turned_away = true,
                Command::Drain => {
                    self.drained = true;
                    self.drained_at = Some(self.now);
                }
                Command::Answer => {
                    self.answered = true;
                    self.aborted += std::mem::take(&mut self.running);
                    self.changed = true;
                }
                Command::Cut => self.cut_off = true,
                Command::AbortHooks => {
                    self.hooks_aborted += std::mem::take(&mut self.hooks_waiting);
                    self.hooks_aborted += u8::from(std::mem::take(&mut self.hook_runs));
                    self.queue.push_back(command);
                }
                Command::Seal | Command::RunHooks { .. } | Command::Finish => self.queue.push_back(command),
            }
        }
        let phase = self.core.phase();
        self.went_back |= phase < before;
        self.changed |= phase != before || !self.queue.is_empty() || self.core.process_ends_at() != limit_before;
        if matches!(self.core.ending(), Ending::Forced(_)) {
            self.forced_at.get_or_insert(self.now);
        }
    }

    /// The driver's own hand.
    fn perform(&mut self) {
        match self.queue.pop_front() {
            Some(Command::Seal) if self.listener == Listener::Open => self.listener = Listener::Sealing,
            Some(Command::RunHooks { .. }) => {
                self.hooks_overtook |= self.left().work() > 0 && !self.cut_off;
                self.next_hook();
            }
            Some(Command::Finish) => {
                self.ignored_the_cut = self.open() > 0;
                self.cut += std::mem::take(&mut self.resting) + std::mem::take(&mut self.in_flight);
                self.returned = true;
            }
            _ => {}
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.core.phase() == Phase::Ended
    }

    pub(super) fn is_clean(&self) -> bool {
        self.returned && self.core.ending() == Ending::Ran && self.cut + self.aborted + self.hooks_aborted == 0
    }
}
