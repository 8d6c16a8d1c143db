//! A model check: the real core, with everything around it that can happen in any order.
//!
//! Around the core stand models of the driver (what it does at once, what it queues, when it wakes), of one listener,
//! and of a few connections, tasks and hooks, which are alike and so are only counted. Time jumps to where the driver
//! wakes. Every action uses something up, so no run is endless: "eventually" is "no run stops before".

mod properties;
mod world;

use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::{Cause, Event};
use crate::plan::Plan;
use world::{Listener, Task, World};

const TERM: Cause = Cause::Signal(15);

/// What may happen, and how often.
struct Life {
    plan: Plan,
    signals: u8,
    clients: u8,
    requests: u8,
    tasks: u8,
    hooks: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The serve future is polled for the first time.
    ServerComes,
    Signal,
    ClientConnects,
    RequestStarts,
    /// And starts a task or does not.
    RequestEnds(Task),
    /// A connection without a request closes: the client did, or the drain.
    RestingCloses,
    /// The deadline's answer is sent, or the connection cut.
    RequestIsCut,
    RestingIsCut,
    /// And starts another or does not.
    TaskEnds(Task),
    HookEnds,
    ListenerIsSealed,
    ListenerFails,
    DriverPerforms,
    DriverLooks,
    /// To when the driver wakes.
    TimePasses,
    /// Half of that, so that things happen in between.
    HalfTheTimePasses,
}

impl Model for Life {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.returned {
            return;
        }
        let mut may = |condition, action| {
            if condition {
                actions.push(action);
            }
        };
        let driver_waits = world.driver_waits();
        may(world.listener == Listener::NotThere, Action::ServerComes);
        may(world.signals > 0, Action::Signal);
        may(world.accepts() && world.clients > 0, Action::ClientConnects);
        may(world.resting > 0 && world.requests > 0, Action::RequestStarts);
        may(world.in_flight > 0, Action::RequestEnds(Task::None));
        may(world.in_flight > 0 && world.tasks > 0, Action::RequestEnds(Task::Starts));
        may(world.resting > 0, Action::RestingCloses);
        may(world.in_flight > 0 && world.answered, Action::RequestIsCut);
        may(world.resting > 0 && world.cut_off, Action::RestingIsCut);
        may(world.running > 0, Action::TaskEnds(Task::None));
        may(world.running > 0 && world.tasks > 0, Action::TaskEnds(Task::Starts));
        may(driver_waits && world.hook_runs, Action::HookEnds);
        may(driver_waits && world.listener == Listener::Sealing, Action::ListenerIsSealed);
        may(driver_waits && world.listener == Listener::Open, Action::ListenerFails);
        may(!world.queue.is_empty() && world.listener != Listener::NotThere, Action::DriverPerforms);
        may(driver_waits && world.driver_is_due(), Action::DriverLooks);
        may(driver_waits && world.time_may_pass(), Action::TimePasses);
        may(driver_waits && world.time_may_pass() && !world.dawdled, Action::HalfTheTimePasses);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.happens(self, action);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn check(life: Life) -> usize {
    let checker = life.checker().spawn_dfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

#[test]
fn nothing_that_can_happen_in_one_life_breaks_its_promises() {
    let ms = Duration::from_millis;
    let plan = Plan { grace: ms(1_000), hooks: Some(ms(300)), ..Plan::default() };
    let at_once = check(Life { plan, signals: 3, clients: 2, requests: 2, tasks: 2, hooks: 1 });
    let plan = Plan { lame_duck: ms(100), ..plan };
    let after_a_lame_duck = check(Life { plan, signals: 3, clients: 1, requests: 1, tasks: 2, hooks: 2 });
    #[expect(clippy::disallowed_macros, reason = "for people who run it with --nocapture")]
    {
        println!("{at_once} states without a lame duck, {after_a_lame_duck} with one");
    }
}

impl Action {
    /// Whether the driver itself does it, and so goes round its loop.
    fn is_the_drivers(self) -> bool {
        matches!(
            self,
            Self::ServerComes
                | Self::HookEnds
                | Self::ListenerIsSealed
                | Self::ListenerFails
                | Self::DriverPerforms
                | Self::DriverLooks
        )
    }
}
