//! The core: which phase a service is in, and what must be done when something happens.
//!
//! Pure: no clock, no I/O, no async. Time is an argument, what is left to do is an argument, and what should happen
//! comes back as [`Command`]s for the driver. So the whole order of an end can be tested with made-up time.
//!
//! ```text
//! Armed -> Serving -> LameDuck -> Draining -> Cutting -> Closing -> Ended
//! ```
//!
//! Invariants, held by the property tests in `phase/tests.rs` and by the model check in `phase/model.rs`:
//! 1. phases only go forward;
//! 2. no command is given twice;
//! 3. once stopped, every run reaches `Ended`, at the latest at the deadline plus its margin;
//! 4. hooks run after the tasks, tasks are waited for after the connections, nothing before the listeners are sealed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::plan::{COUNT_MARGIN, CUT_MARGIN, FORCE_MARGIN, PROCESS_MARGIN, Plan};

/// Where a service is in its life. Ordered: a later phase is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Signal handlers stand; nothing is served yet. Next: `Serving`, or `Draining` if a stop comes first.
    Armed,
    /// Connections are accepted. Next: `LameDuck` or `Draining`.
    Serving,
    /// Asked to stop, still accepting: balancers see that readiness is off. Next: `Draining`.
    LameDuck,
    /// Nothing new is accepted; requests and then tasks are waited for. Next: `Closing`.
    Draining,
    /// The closing hooks run. Next: `Ended`.
    Closing,
    /// Nothing is left; the report is written.
    Ended,
}

impl Phase {
    pub(crate) const COUNT: usize = Self::Ended as usize + 1;
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Armed => "armed",
            Self::Serving => "serving",
            Self::LameDuck => "lame duck",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Ended => "ended",
        })
    }
}

/// A moment, as time since the lifecycle was made.
pub(crate) type Moment = Duration;

/// What asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// A signal of the operating system, by its number.
    Signal(i32),
    /// A terminal's Ctrl-C, by its signal number: there is no balancer to wait for.
    Terminal(i32),
    /// The program itself, through its handle.
    Handle,
    /// Another process has taken over: nobody has to be turned away, because nobody is refused.
    Restart,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The listeners stand and the server runs; it has set its plan. Once.
    Serve,
    /// Begin the end; nothing if it has begun.
    Begin(Cause),
    /// One step on: begin, end the lame duck, or force (SIG-4).
    Step(Cause),
    /// End now.
    Force(Cause),
    /// Serving failed.
    Fail,
    /// Time has passed, or what is left has changed.
    Look,
}

/// What is left to do. The driver counts it anew for every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Left {
    pub(crate) listeners: usize,
    pub(crate) connections: usize,
    pub(crate) tasks: usize,
    pub(crate) hooks: usize,
}

impl Left {
    fn work(self) -> usize {
        self.listeners + self.connections + self.tasks
    }
}

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    /// Readiness off; responses say close.
    TurnAway,
    /// Close the listeners, losing nobody.
    Seal,
    /// Tell connections, tasks and handlers that the drain has begun.
    Drain,
    /// The deadline: final answers to requests, tasks aborted.
    Answer,
    /// What is still connected is cut.
    Cut,
    /// Run the hooks until the given moment.
    RunHooks { until: Moment },
    /// Stop waiting for hooks.
    AbortHooks,
    /// Write the report and return.
    Finish,
}

/// How it came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    /// By itself, or by the deadline: what was cut says which.
    Ran,
    /// Somebody asked twice.
    Forced(Cause),
}

/// What the next signal does, for whoever looks at a terminal and thinks of pressing Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Further {
    /// It begins the end, or it is the first one in an end that the program began and is no further wish: the next one counts.
    First,
    /// It ends the lame duck.
    Drains,
    /// It forces the end.
    Forces,
    /// The end is forced already, or there.
    Nothing,
}

/// The deadlines of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    /// When the drain began.
    pub(crate) began: Moment,
    /// When work in flight must have finished; what has not gets its final answer.
    pub(crate) work_by: Moment,
    /// What hooks keep after that, even when the work was cut.
    pub(crate) kept: Duration,
}

impl Ends {
    fn plan(plan: &Plan, left: Left, began: Moment) -> Self {
        let kept = if left.hooks == 0 { Duration::ZERO } else { plan.hook_slice() };
        Self { began, work_by: began + (plan.grace - kept), kept }
    }

    /// When the hooks must have finished.
    fn hooks_by(self) -> Moment {
        self.work_by + self.kept
    }

    /// Ends the work now, and keeps nothing for hooks.
    fn hurried(self, now: Moment) -> Self {
        Self { began: self.began, work_by: self.work_by.min(now), kept: Duration::ZERO }
    }

    /// Until when hooks may run that begin now. What a cut took is given back: it must not come out of their slice.
    fn hooks_until(self, now: Moment) -> Moment {
        let by = self.hooks_by();
        (now + self.kept).clamp(by, by + CUT_MARGIN + COUNT_MARGIN)
    }
}

/// The state behind [`Phase`]; every variant holds only what that state may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Armed,
    Serving,
    LameDuck {
        until: Moment,
    },
    Draining {
        ends: Ends,
    },
    /// Past the deadline, or forced: final answers are leaving.
    Cutting {
        ends: Ends,
        until: Moment,
        ending: Ending,
    },
    /// As before, and the sockets are cut; waiting for them to be counted.
    Counting {
        ends: Ends,
        until: Moment,
        ending: Ending,
    },
    Closing {
        until: Moment,
        ending: Ending,
    },
    Ended {
        ending: Ending,
    },
}

/// The core: a state, the plan, and who asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Core {
    plan: Plan,
    state: State,
    cause: Option<Cause>,
    /// When a process that is still there is ended by force.
    process_ends_at: Option<Moment>,
    /// `serve` was called, which brings the plan. A stop that comes before waits for it: what it closes is only now being
    /// opened.
    served: bool,
    /// A listener failed. What is in flight keeps its time; the exit code will say it.
    failed: bool,
    /// A signal was heard: the next is a further one.
    signalled: bool,
}

impl Core {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::Armed,
            cause: None,
            process_ends_at: None,
            served: false,
            failed: false,
            signalled: false,
        }
    }

    /// Changes the plan: before [`Event::Serve`], from which on it holds. A drain that began earlier is planned anew then.
    pub(crate) fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How it comes to its end, as far as is known.
    pub(crate) fn ending(&self) -> Ending {
        match self.state {
            State::Cutting { ending, .. }
            | State::Counting { ending, .. }
            | State::Closing { ending, .. }
            | State::Ended { ending } => ending,
            State::Armed | State::Serving | State::LameDuck { .. } | State::Draining { .. } => Ending::Ran,
        }
    }

    /// Whether serving failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The deadline that is running.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Draining { ends } => Some(ends.hooks_by()),
            _ => self.wakes_at(),
        }
    }

    /// How long the time is of which [`Core::deadline`] is the end.
    pub(crate) fn time_given(&self) -> Duration {
        if let State::LameDuck { .. } = self.state { self.plan.lame_duck } else { self.plan.grace }
    }

    /// What one more signal does now.
    pub(crate) fn further(&self) -> Further {
        match self.state {
            State::Ended { .. } => Further::Nothing,
            _ if !self.signalled => Further::First,
            State::Armed | State::Serving => Further::First,
            State::LameDuck { .. } => Further::Drains,
            State::Draining { .. } | State::Cutting { .. } | State::Counting { .. } | State::Closing { .. } => {
                if self.ending() == Ending::Ran { Further::Forces } else { Further::Nothing }
            }
        }
    }

    /// In the drain, when requests and tasks are cut; hooks have their time after that.
    pub(crate) fn work_ends_at(&self) -> Option<Moment> {
        match self.state {
            State::Draining { ends } => Some(ends.work_by),
            _ => None,
        }
    }

    /// When a process that is still there is ended by force.
    pub(crate) fn process_ends_at(&self) -> Option<Moment> {
        self.process_ends_at
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cause
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Armed => Phase::Armed,
            State::Serving => Phase::Serving,
            State::LameDuck { .. } => Phase::LameDuck,
            State::Draining { .. } | State::Cutting { .. } | State::Counting { .. } => Phase::Draining,
            State::Closing { .. } => Phase::Closing,
            State::Ended { .. } => Phase::Ended,
        }
    }

    /// When the core wants to look again, whatever happens until then.
    pub(crate) fn wakes_at(&self) -> Option<Moment> {
        match self.state {
            // Nobody is there to look.
            _ if !self.served => None,
            State::LameDuck { until }
            | State::Cutting { until, .. }
            | State::Counting { until, .. }
            | State::Closing { until, .. } => Some(until),
            State::Draining { ends } => Some(ends.work_by),
            State::Armed | State::Serving | State::Ended { .. } => None,
        }
    }

    /// Takes what happened, what is left and the time; gives what must be done, in order.
    pub(crate) fn step(&mut self, event: Event, left: Left, now: Moment) -> Vec<Command> {
        let mut commands = Vec::new();
        self.take(event, left, now, &mut commands);
        // A step may make the next one due at once: a grace period of zero, or nothing left to wait for.
        while self.served && self.advance(left, now, &mut commands) {}
        commands
    }

    fn take(&mut self, event: Event, left: Left, now: Moment, commands: &mut Vec<Command>) {
        let signal = matches!(event, Event::Step(Cause::Signal(_) | Cause::Terminal(_)));
        let first_signal = signal && !self.signalled;
        self.signalled |= signal;
        match (event, self.state) {
            (_, State::Ended { .. }) | (Event::Look, _) => {}
            (Event::Serve, state) => {
                match state {
                    State::Armed => self.state = State::Serving,
                    State::Draining { ends } if !self.served => self.run_down(left, ends.began),
                    _ => {}
                }
                self.served = true;
            }
            (Event::Begin(cause) | Event::Step(cause), State::Armed | State::Serving) => {
                self.cause = Some(cause);
                commands.push(Command::TurnAway);
                let waits = self.state == State::Serving
                    && !self.plan.lame_duck.is_zero()
                    && !matches!(cause, Cause::Terminal(_) | Cause::Restart);
                if waits {
                    self.state = State::LameDuck { until: now + self.plan.lame_duck };
                } else {
                    self.drain(left, now, commands);
                }
            }
            (Event::Begin(_), _) => {}
            // The program began the end, and a manager's signal follows: it is no second wish to end.
            (Event::Step(_), _) if first_signal => {}
            (Event::Step(_), State::LameDuck { .. }) => self.drain(left, now, commands),
            (Event::Step(cause) | Event::Force(cause), _) => self.force(cause, now, commands),
            (Event::Fail, state) => {
                self.failed = true;
                match state {
                    State::Armed | State::Serving => {
                        commands.push(Command::TurnAway);
                        self.drain(left, now, commands);
                    }
                    State::LameDuck { .. } => self.drain(left, now, commands),
                    _ => {}
                }
            }
        }
    }

    fn drain(&mut self, left: Left, now: Moment, commands: &mut Vec<Command>) {
        commands.extend([Command::Seal, Command::Drain]);
        self.run_down(left, now);
    }

    fn run_down(&mut self, left: Left, began: Moment) {
        self.state = State::Draining { ends: Ends::plan(&self.plan, left, began) };
        self.process_ends_at = Some(began + self.plan.grace + PROCESS_MARGIN);
    }

    /// Ends now; hooks are not waited for.
    fn force(&mut self, cause: Cause, now: Moment, commands: &mut Vec<Command>) {
        // Who forced the end is named by the exit code, whoever asks after that.
        if let Ending::Forced(_) = self.ending() {
            return;
        }
        self.cause.get_or_insert(cause);
        let ending = Ending::Forced(cause);
        let ends_at = now + FORCE_MARGIN;
        self.process_ends_at = Some(self.process_ends_at.map_or(ends_at, |at| at.min(ends_at)));
        let at_once = Ends { began: now, work_by: now, kept: Duration::ZERO };
        let ends = match self.state {
            State::Draining { ends } => ends.hurried(now),
            // The last part of a cut is short enough to be left as it is.
            State::Cutting { ends, until, .. } => {
                self.state = State::Cutting { ends: ends.hurried(now), until, ending };
                return;
            }
            State::Counting { ends, until, .. } => {
                self.state = State::Counting { ends: ends.hurried(now), until, ending };
                return;
            }
            State::Closing { .. } => {
                commands.extend([Command::AbortHooks, Command::Finish]);
                self.state = State::Ended { ending };
                return;
            }
            State::LameDuck { .. } => {
                commands.extend([Command::Seal, Command::Drain]);
                at_once
            }
            State::Armed | State::Serving | State::Ended { .. } => {
                commands.extend([Command::TurnAway, Command::Seal, Command::Drain]);
                at_once
            }
        };
        commands.push(Command::Answer);
        self.state = State::Cutting { ends, until: now + CUT_MARGIN, ending };
    }

    fn advance(&mut self, left: Left, now: Moment, commands: &mut Vec<Command>) -> bool {
        match self.state {
            State::LameDuck { until } if now >= until => self.drain(left, now, commands),
            State::Draining { ends } if left.work() == 0 => {
                self.close(ends, Ending::Ran, left, now, commands);
            }
            State::Draining { ends } if now >= ends.work_by => {
                commands.push(Command::Answer);
                self.state = State::Cutting { ends, until: now + CUT_MARGIN, ending: Ending::Ran };
            }
            State::Cutting { ends, ending, .. } if left.work() == 0 => {
                self.close(ends, ending, left, now, commands);
            }
            State::Cutting { ends, until, ending } if now >= until => {
                commands.push(Command::Cut);
                self.state = State::Counting { ends, until: now + COUNT_MARGIN, ending };
            }
            State::Counting { ends, until, ending } if left.work() == 0 || now >= until => {
                self.close(ends, ending, left, now, commands);
            }
            // Tasks that a hook started are waited for too.
            State::Closing { ending, .. } if left.hooks == 0 && left.tasks == 0 => {
                commands.push(Command::Finish);
                self.state = State::Ended { ending };
            }
            State::Closing { until, ending } if now >= until => {
                commands.extend([Command::AbortHooks, Command::Finish]);
                self.state = State::Ended { ending };
            }
            _ => return false,
        }
        true
    }

    fn close(&mut self, ends: Ends, ending: Ending, left: Left, now: Moment, commands: &mut Vec<Command>) {
        let until = ends.hooks_until(now);
        if left.hooks > 0 && now < until {
            commands.push(Command::RunHooks { until });
        }
        self.state = State::Closing { until, ending };
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
