//! What must hold in every state that can be reached, and what must be reachable.

use stateright::{Model, Property};

use super::Life;
use super::world::{Listener, World};
use crate::phase::{Ending, Phase};
use crate::plan::{COUNT_MARGIN, CUT_MARGIN};

// Named so that the closures' types are known.
fn always(name: &'static str, condition: fn(&Life, &World) -> bool) -> Property<Life> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: fn(&Life, &World) -> bool) -> Property<Life> {
    Property::sometimes(name, condition)
}

pub(super) fn all() -> Vec<Property<Life>> {
    vec![
        always("phases only go forward", |_, world| !world.went_back),
        always("hooks begin when no work is left, or it was cut", |_, world| !world.hooks_overtook),
        always("what ends by force was answered first", |_, world| {
            (world.cut == 0 && world.aborted == 0) || world.answered
        }),
        always("a cut comes after an answer, and both after the drain", |_, world| {
            (!world.cut_off || world.answered)
                && (!world.answered || world.drained)
                && (!world.drained || world.turned_away)
        }),
        always("nothing is lost silently", |_, world| !world.returned || is_accounted_for(world)),
        always("whoever returns has sealed, or said that it could not wait", |_, world| {
            !world.returned || world.listener == Listener::Sealed || world.cut_off
        }),
        always("no connection comes once hooks run, unless all is cut", |_, world| {
            world.hooks_done == 0 || !world.accepts() || world.cut_off
        }),
        always("in time", |life, world| {
            let limit = life.plan.grace + CUT_MARGIN + COUNT_MARGIN;
            world.drained_at.is_none_or(|at| world.now <= at + limit)
        }),
        always("a forced end is in time", |_, world| {
            world.forced_at.is_none_or(|at| world.now <= at + CUT_MARGIN + COUNT_MARGIN)
        }),
        always("the process is never ended by force while the driver is on time", |_, world| {
            world.returned || world.core.process_ends_at().is_none_or(|at| world.now < at)
        }),
        always("one signal never forces, unless serving had failed", |_, world| {
            world.steps > 1 || world.failed || world.forced_at.is_none()
        }),
        always("three signals force, unless it has ended or failed before", |_, world| {
            world.steps < 3 || world.forced_at.is_some() || world.is_ended()
        }),
        always("whoever was stopped goes on until it returns", |life, world| {
            world.returned || !life.next_states(world).is_empty()
        }),
        Property::<Life>::eventually("it returns", |_, world| world.returned),
        sometimes("a clean end", |_, world| world.is_clean() && world.finished > 0 && world.done > 0),
        sometimes("an end that the deadline cut", |_, world| {
            world.returned && world.core.ending() == Ending::Ran && world.cut > 0 && world.aborted > 0
        }),
        sometimes("an end with a connection that not even the cut ended", |_, world| {
            world.returned && world.ignored_the_cut
        }),
        sometimes("a forced end", |_, world| world.returned && matches!(world.core.ending(), Ending::Forced(_))),
        sometimes("a failed end", |_, world| world.returned && world.core.ending() == Ending::Failed),
        sometimes("a stop before there is a server", |_, world| {
            world.core.phase() == Phase::Draining && world.listener == Listener::NotThere
        }),
        sometimes("all hooks run after a cut", |life, world| {
            world.returned && world.cut > 0 && world.hooks_done == life.hooks
        }),
        sometimes("hooks that are aborted", |_, world| world.returned && world.hooks_aborted > 0),
        sometimes("a client that came while sealing and was served", |_, world| {
            world.listener == Listener::Sealing && world.in_flight > 0
        }),
    ]
}

/// END-4, in the words of the model.
fn is_accounted_for(world: &World) -> bool {
    let hooks = !world.hook_runs && world.hooks_waiting == 0;
    let connections = world.accepted == world.finished + world.cut && (!world.ignored_the_cut || world.cut_off);
    connections && world.started == world.done + world.aborted && hooks
}
