//! A model check: chains of processes that run the real core, with crashes, stops and delays at every step.
//!
//! Around each core stand models of what the driver does with its commands and of the channel to its successor: what was
//! said before a crash is still heard, and only then the end. Every action uses something up, so no run is endless.

use std::collections::VecDeque;

use stateright::{Checker, Model, Property};

use super::{After, Before, Command, Event, Handover, Word};

/// What may happen, and how often.
struct Chain {
    asks: u8,
    crashes: u8,
    stops: u8,
    /// A successor may be too slow.
    slow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    core: Handover,
    /// Its place in the list.
    parent: Option<usize>,
    child: Option<usize>,
    from_parent: VecDeque<Word>,
    to_parent: VecDeque<Word>,
    alive: bool,
    accepts: bool,
    has_accepted: bool,
    told: bool,
    /// Callers that wait for an answer.
    asked: u8,
}

impl Process {
    fn new(parent: Option<usize>) -> Self {
        Self {
            core: Handover::new(parent.is_some()),
            parent,
            child: None,
            from_parent: VecDeque::new(),
            to_parent: VecDeque::new(),
            alive: true,
            accepts: false,
            has_accepted: false,
            told: false,
            asked: 0,
        }
    }

    fn has_handed_on(&self) -> bool {
        self.core.after == After::HandedOn
    }

    fn is_prepared(&self) -> bool {
        !matches!(self.core.before, Before::Preparing { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    processes: Vec<Process>,
    asks: u8,
    crashes: u8,
    stops: u8,
    handovers: u8,
    given_up: u8,
    /// Somebody who accepted crashed or was told to end.
    harmed: bool,
    killed_unasked: bool,
    refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Prepares(usize),
    HearsParent(usize),
    HearsChild(usize),
    SeesParentGone(usize),
    SeesChildGone(usize),
    Asked(usize),
    TimeUp(usize),
    /// Its child, which it has given up, is ended.
    Kills(usize),
    Stopped(usize),
    /// Has handed on or been told to end, and is done with its work.
    Ends(usize),
    Crashes(usize),
}

impl Model for Chain {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            processes: vec![Process::new(None)],
            asks: self.asks,
            crashes: self.crashes,
            stops: self.stops,
            handovers: 0,
            given_up: 0,
            harmed: false,
            killed_unasked: false,
            refused: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, process) in world.processes.iter().enumerate().filter(|(_, process)| process.alive) {
            let mut may = |condition, action| {
                if condition {
                    actions.push(action);
                }
            };
            let parent = process.parent.map(|parent| &world.processes[parent]);
            let child = process.child.map(|child| &world.processes[child]);
            let after = process.core.after;
            may(!process.is_prepared() && !process.core.stopped, Action::Prepares(i));
            may(!process.from_parent.is_empty(), Action::HearsParent(i));
            may(
                process.from_parent.is_empty() && parent.is_some_and(|parent| !parent.alive),
                Action::SeesParentGone(i),
            );
            may(child.is_some_and(|child| !child.to_parent.is_empty()), Action::HearsChild(i));
            let child_gone = child.is_some_and(|child| child.to_parent.is_empty() && !child.alive);
            may(child_gone && after != After::GivenUp, Action::SeesChildGone(i));
            may(self.slow && matches!(after, After::Starting | After::Told), Action::TimeUp(i));
            may(after == After::GivenUp, Action::Kills(i));
            may(world.asks > 0, Action::Asked(i));
            may(world.stops > 0 && !process.core.stopped, Action::Stopped(i));
            let leaves = process.core.stopped || process.has_handed_on();
            may(leaves && after != After::GivenUp, Action::Ends(i));
            may(world.crashes > 0, Action::Crashes(i));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.happens(action);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("somebody accepts, unless who did so crashed or was told to end", |_, world| {
                world.harmed || world.alive().any(|process| process.accepts) || !world.processes[0].has_accepted
            }),
            Property::<Self>::always("at most one drains for another", |_, world| {
                world.alive().filter(|process| process.has_handed_on()).count() <= 1
            }),
            Property::<Self>::always("at most two are there", |_, world| world.alive().count() <= 2),
            Property::<Self>::always("who is given up untold has accepted nothing", |_, world| !world.killed_unasked),
            Property::<Self>::always("whoever can't go on is settled", |chain, world| {
                world.is_settled() || !chain.next_states(world).is_empty()
            }),
            Property::<Self>::sometimes("two restarts, one after the other", |_, world| {
                world.handovers == 2 && world.alive().count() == 1 && world.is_settled()
            }),
            Property::<Self>::sometimes("one is given up, and the next takes over", |_, world| {
                world.given_up == 1 && world.handovers == 1 && world.is_settled()
            }),
            Property::<Self>::sometimes("a successor goes on where the old one crashed untimely", |_, world| {
                !world.processes[0].alive && world.handovers == 0 && world.alive().any(|process| process.accepts)
            }),
            Property::<Self>::sometimes("two accept at once", |_, world| {
                world.alive().filter(|process| process.accepts).count() == 2
            }),
            Property::<Self>::sometimes("one that asks is refused", |_, world| world.refused),
        ]
    }
}

impl World {
    fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.alive)
    }

    /// Who is there accepts, and nobody waits for anything.
    fn is_settled(&self) -> bool {
        self.alive().all(|process| process.accepts && process.asked == 0 && process.core.after == After::Nobody)
    }

    fn happens(&mut self, action: Action) {
        match action {
            Action::Prepares(i) => self.step(i, Event::Prepared),
            Action::HearsParent(i) => {
                if let Some(word) = self.processes[i].from_parent.pop_front() {
                    self.step(i, Event::PredecessorSaid(word));
                }
            }
            Action::HearsChild(i) => {
                let child = self.processes[i].child;
                if let Some(word) = child.and_then(|child| self.processes[child].to_parent.pop_front()) {
                    self.step(i, Event::SuccessorSaid(word));
                }
            }
            Action::SeesParentGone(i) => {
                self.processes[i].parent = None;
                self.step(i, Event::PredecessorGone);
            }
            Action::SeesChildGone(i) => {
                self.step(i, Event::SuccessorGone);
                if self.processes[i].core.after != After::GivenUp {
                    self.processes[i].child = None;
                }
            }
            Action::Asked(i) => {
                self.asks -= 1;
                self.processes[i].asked += 1;
                self.step(i, Event::Ask);
            }
            Action::TimeUp(i) => self.step(i, Event::TimeUp),
            Action::Kills(i) => {
                if let Some(child) = self.processes[i].child.take() {
                    let child = &mut self.processes[child];
                    self.killed_unasked |= child.alive && child.has_accepted && !child.told;
                    child.dies();
                }
                self.given_up += 1;
                // Told, now that it has ended.
                self.processes[i].asked = 0;
                self.step(i, Event::Reaped);
            }
            Action::Stopped(i) => {
                self.stops -= 1;
                self.harmed |= self.processes[i].accepts;
                self.processes[i].accepts = false;
                self.step(i, Event::Stop);
            }
            Action::Ends(i) => self.processes[i].dies(),
            Action::Crashes(i) => {
                self.crashes -= 1;
                self.harmed |= self.processes[i].accepts;
                self.processes[i].dies();
            }
        }
    }

    fn step(&mut self, i: usize, event: Event) {
        for command in self.processes[i].core.step(event) {
            let next = self.processes.len();
            let process = &mut self.processes[i];
            match command {
                Command::Say(word) => process.to_parent.push_back(word),
                Command::Accept => {
                    process.accepts = true;
                    process.has_accepted = true;
                }
                Command::Start => {
                    process.child = Some(next);
                    self.processes.push(Process::new(Some(i)));
                }
                Command::Tell(word) => {
                    if let Some(child) = process.child {
                        self.processes[child].told = true;
                        self.processes[child].from_parent.push_back(word);
                    }
                }
                // `Action::Kills` does it.
                Command::GiveUp(_) => {}
                Command::HandOn => {
                    process.accepts = false;
                    process.asked = 0;
                    self.handovers += 1;
                }
                Command::Refuse(_) => {
                    process.asked -= 1;
                    self.refused = true;
                }
            }
        }
    }
}

impl Process {
    fn dies(&mut self) {
        self.alive = false;
        self.accepts = false;
        self.asked = 0;
        self.from_parent.clear();
    }
}

fn check(chain: Chain) -> usize {
    let checker = chain.checker().spawn_dfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

#[test]
fn ho_2_no_crash_at_any_step_leaves_nobody_who_accepts() {
    let states = check(Chain { asks: 3, crashes: 2, stops: 1, slow: true });
    #[expect(clippy::disallowed_macros, reason = "for people who run it with --nocapture")]
    {
        println!("{states} states");
    }
}
