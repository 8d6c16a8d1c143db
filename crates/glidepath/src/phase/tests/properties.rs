//! What holds whatever happens, in whatever order, with whatever plan.

use proptest::prelude::*;

use super::*;

/// Long enough after the deadline for everything that the core waits for then.
const AFTER_THE_DEADLINE: Duration = CUT_MARGIN.saturating_add(COUNT_MARGIN);

/// Looks that an end takes by itself; more would be a core that goes round in circles.
const AT_MOST: usize = 10;

fn plans() -> impl Strategy<Value = Plan> {
    // Small numbers, so that deadlines, slices and steps of time often fall on one another.
    let short = || prop_oneof![Just(0), 0..400_u64, Just(1_000)].prop_map(ms);
    (short(), short(), prop::option::of(short())).prop_map(|(lame_duck, grace, hooks)| Plan {
        lame_duck,
        grace,
        hooks,
        ..Plan::default()
    })
}

fn causes() -> impl Strategy<Value = Cause> {
    prop_oneof![(1..16).prop_map(Cause::Signal), Just(CTRL_C), Just(Cause::Handle)]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Look),
        2 => Just(Event::Serve),
        2 => causes().prop_map(Event::Begin),
        2 => causes().prop_map(Event::Step),
        1 => causes().prop_map(Event::Force),
        1 => Just(Event::Fail),
    ]
}

fn lefts() -> impl Strategy<Value = Left> {
    let some = || prop_oneof![2 => Just(0_usize), 1 => 1..3_usize];
    (some(), some(), some(), some()).prop_map(|(listeners, connections, tasks, hooks)| Left {
        listeners,
        connections,
        tasks,
        hooks,
    })
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![2 => Just(0), 2 => 1..100_u64, 1 => Just(75), 1 => Just(150), 1 => 100..1_500_u64].prop_map(ms)
}

/// One thing that happens, what is left then, and how long after the one before.
type Happening = (Event, Left, Duration);

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec((events(), lefts(), times()), 0..24)
}

/// A core, and everything that it was asked and said.
struct Story {
    core: Core,
    now: Moment,
    left: Left,
    given: Vec<Command>,
    drained: Option<Moment>,
    forced: Option<Moment>,
    ended: Option<Moment>,
    /// When hooks began, and until when they may run.
    hooks_ran: Option<(Moment, Moment)>,
    /// What was left when the hooks' turn came.
    closed: Option<Left>,
}

impl Story {
    fn of(plan: Plan) -> Self {
        Self {
            core: Core::new(plan),
            now: ms(5),
            left: NOTHING,
            given: Vec::new(),
            drained: None,
            forced: None,
            ended: None,
            hooks_ran: None,
            closed: None,
        }
    }

    fn happens(&mut self, (event, left, time): Happening) -> Vec<Command> {
        self.now += time;
        self.left = left;
        let commands = self.core.step(event, left, self.now);
        self.given.extend(&commands);
        if commands.contains(&Drain) {
            self.drained = Some(self.now);
        }
        if matches!(self.core.ending(), Ending::Forced(_)) {
            self.forced.get_or_insert(self.now);
        }
        if let Some(until) =
            commands.iter().find_map(|command| if let RunHooks { until } = command { Some(*until) } else { None })
        {
            self.hooks_ran = Some((self.now, until));
        }
        if self.core.phase() >= Phase::Closing {
            self.closed.get_or_insert(left);
        }
        if commands.contains(&Finish) {
            self.ended = Some(self.now);
        }
        commands
    }

    /// As `happens`, by a driver that looks whenever the core wants to, until then.
    fn happens_on_time(&mut self, (event, left, time): Happening) {
        let then = self.now + time;
        for _ in 0..AT_MOST {
            let Some(at) = self.core.wakes_at().filter(|at| *at <= then) else { break };
            self.happens((Event::Look, left, at.saturating_sub(self.now)));
        }
        self.happens((event, left, then - self.now));
    }

    fn all(&mut self, happenings: Vec<Happening>) {
        happenings.into_iter().for_each(|happening| drop(self.happens(happening)));
    }

    /// Nobody does anything any more; a driver looks whenever the core wants to.
    fn time_passes(&mut self) {
        for _ in 0..AT_MOST {
            let Some(at) = self.core.wakes_at() else { return };
            let time = at.saturating_sub(self.now);
            self.happens((Event::Look, self.left, time));
        }
        panic!("it never ends: {:?}", self.core);
    }

    fn was_given(&self, command: Command) -> bool {
        self.given.contains(&command)
    }
}

/// The one order in which commands may come.
fn place(command: Command) -> usize {
    match command {
        TurnAway => 0,
        Seal => 1,
        Drain => 2,
        Answer => 3,
        Cut => 4,
        RunHooks { .. } => 5,
        AbortHooks => 6,
        Finish => 7,
    }
}

proptest! {
    #[test]
    fn phases_only_go_forward(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        let mut before = story.core.phase();
        for happening in happenings {
            story.happens(happening);
            prop_assert!(story.core.phase() >= before, "{before} and then {}", story.core.phase());
            before = story.core.phase();
        }
    }

    #[test]
    fn no_command_comes_twice_and_each_in_its_place(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        story.all(happenings);
        story.time_passes();
        let places: Vec<_> = story.given.iter().copied().map(place).collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "{:?}", story.given);
    }

    #[test]
    fn whoever_is_stopped_and_served_ends_in_time(plan in plans(), happenings in happenings()) {
        let grace = plan.grace;
        let mut story = Story::of(plan);
        story.happens((Event::Serve, NOTHING, Duration::ZERO));
        happenings.into_iter().for_each(|happening| story.happens_on_time(happening));
        story.time_passes();
        prop_assert_eq!(story.ended.is_some(), story.drained.is_some());
        if let (Some(drained), Some(ended)) = (story.drained, story.ended) {
            prop_assert_eq!(story.core.phase(), Phase::Ended);
            prop_assert!(ended <= drained + grace + AFTER_THE_DEADLINE);
        }
    }

    #[test]
    fn a_driver_that_is_on_time_is_never_ended_by_force(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        story.happens((Event::Serve, NOTHING, Duration::ZERO));
        happenings.into_iter().for_each(|happening| story.happens_on_time(happening));
        story.time_passes();
        prop_assert!(story.ended.is_none() || story.ended < story.core.process_ends_at());
    }

    #[test]
    fn sig_4_whoever_is_forced_ends_within_the_margin(plan in plans(), happenings in happenings(), hooks in 0..2_usize) {
        let mut story = Story::of(plan);
        story.happens((Event::Serve, NOTHING, Duration::ZERO));
        happenings.into_iter().for_each(|happening| story.happens_on_time(happening));
        story.happens((Event::Force(TERM), Left { hooks, ..CONNECTION }, Duration::ZERO));
        story.time_passes();
        let (ended, forced) = (story.ended.unwrap(), story.forced);
        prop_assert!(forced.is_none_or(|forced| ended <= forced + AFTER_THE_DEADLINE));
    }

    #[test]
    fn nothing_is_forgotten(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        story.all(happenings);
        story.time_passes();
        prop_assume!(story.core.phase() == Phase::Ended);
        for command in [TurnAway, Seal, Drain, Finish] {
            prop_assert!(story.was_given(command), "{command:?}");
        }
        prop_assert!(story.core.cause().is_some() || story.core.has_failed());
        prop_assert!(story.core.process_ends_at().is_some());
    }

    #[test]
    fn the_hooks_turn_comes_only_when_work_is_done_or_cut(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        story.all(happenings);
        story.time_passes();
        prop_assert!(story.closed.is_none_or(|left| left.work() == 0 || story.was_given(Cut)));
    }

    #[test]
    fn hooks_run_or_are_aborted(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        for happening in happenings {
            let hooks = happening.1.hooks;
            if story.happens(happening).contains(&Finish) && hooks > 0 {
                prop_assert!(story.was_given(AbortHooks));
            }
        }
        prop_assert!(story.hooks_ran.is_none() || story.closed.is_some_and(|left| left.hooks > 0));
    }

    #[test]
    fn hook_1_hooks_keep_their_slice_however_the_work_ends(
        plan in plans(), work in lefts(), hooks in 1..4_usize, ends_after in prop::option::of(times()),
    ) {
        let (grace, slice) = (plan.grace, plan.hook_slice());
        let mut story = Story::of(Plan { lame_duck: Duration::ZERO, ..plan });
        let left = Left { hooks, ..work };
        story.all(vec![(Event::Serve, left, ms(1)), (Event::Begin(TERM), left, ms(1))]);
        let began = story.now;
        match ends_after {
            Some(time) => story.happens_on_time((Event::Look, Left { hooks, ..NOTHING }, time)),
            None => story.time_passes(),
        }
        match story.hooks_ran {
            Some((at, until)) => {
                prop_assert!(until - at >= slice);
                prop_assert!(until <= began + grace + AFTER_THE_DEADLINE);
            }
            None => prop_assert!(slice.is_zero()),
        }
    }

    #[test]
    fn sig_4_the_ladder_moves_one_step_for_each_step(plan in plans(), first in causes(), next in causes()) {
        let ladder = plan.lame_duck.is_zero() || matches!(first, Cause::Terminal(_));
        let mut run = Run { left: CONNECTION, ..Run::serving(Plan { grace: ms(1_000), ..plan }) };
        run.on(Event::Step(first));
        if first == Cause::Handle && next != Cause::Handle {
            prop_assert_eq!(run.on(Event::Step(next)), [], "the first signal is no further one");
        }
        if !ladder {
            prop_assert_eq!(run.phase(), Phase::LameDuck);
            run.on(Event::Step(next));
        }
        prop_assert_eq!((run.phase(), run.core.ending()), (Phase::Draining, Ending::Ran));
        run.on(Event::Step(next));
        prop_assert_eq!((run.phase(), run.core.ending()), (Phase::Draining, Ending::Forced(next)));
        prop_assert_eq!(run.core.cause(), Some(first));
    }

    #[test]
    fn tty_2_what_a_further_ctrl_c_is_said_to_do_is_what_it_does(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        for happening in happenings {
            let left = happening.1;
            story.happens(happening);
            // As the driver does: it looks, and only then a person reads what would be.
            story.happens((Event::Look, left, Duration::ZERO));
            let before = &story.core;
            let mut after = before.clone();
            let commands = after.step(Event::Step(CTRL_C), left, story.now);
            let nothing = (before.phase(), before.ending(), vec![]);
            match before.further() {
                Further::First if before.phase() < Phase::LameDuck => prop_assert!(after.phase() >= Phase::LameDuck),
                Further::First => {
                    prop_assert_eq!((after.phase(), after.ending(), commands), nothing);
                    prop_assert_ne!(after.further(), Further::First, "the one after it counts");
                }
                Further::Drains => {
                    prop_assert_eq!(before.phase(), Phase::LameDuck);
                    prop_assert!(after.phase() >= Phase::Draining && after.ending() == Ending::Ran);
                }
                Further::Forces => {
                    prop_assert_eq!((before.ending(), after.ending()), (Ending::Ran, Ending::Forced(CTRL_C)));
                }
                Further::Nothing => prop_assert_eq!((after.phase(), after.ending(), commands), nothing),
            }
        }
    }

    #[test]
    fn beginning_twice_is_beginning_once_wherever_it_is(plan in plans(), happenings in happenings(), cause in causes()) {
        let mut story = Story::of(plan);
        story.all(happenings);
        let left = story.left;
        story.happens((Event::Begin(cause), left, Duration::ZERO));
        let before = story.core.clone();
        prop_assert_eq!(story.happens((Event::Begin(Cause::Handle), left, Duration::ZERO)), []);
        prop_assert_eq!(story.core, before);
    }

    #[test]
    fn the_end_of_the_process_is_set_with_the_drain_and_never_moves_later(plan in plans(), happenings in happenings()) {
        let mut story = Story::of(plan);
        // From here on the plan stands.
        story.happens((Event::Serve, NOTHING, Duration::ZERO));
        for happening in happenings {
            let before = story.core.process_ends_at();
            story.happens(happening);
            let after = story.core.process_ends_at();
            prop_assert_eq!(after.is_some(), story.core.phase() >= Phase::Draining);
            prop_assert!(before.is_none() || after <= before);
        }
    }

    #[test]
    fn end_7_a_grace_period_of_zero_never_waits(plan in plans(), cause in causes(), left in lefts()) {
        let mut story = Story::of(Plan { lame_duck: Duration::ZERO, grace: Duration::ZERO, ..plan });
        story.all(vec![(Event::Serve, left, ms(1)), (Event::Begin(cause), left, ms(1))]);
        prop_assert_eq!(story.was_given(Answer), left.work() > 0);
    }
}
