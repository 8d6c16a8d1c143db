//! The core by itself, with made-up time.

mod properties;

use super::Command::{AbortHooks, Answer, Cut, Drain, Finish, RunHooks, Seal, TurnAway};
use super::*;

const NOTHING: Left = Left { listeners: 0, connections: 0, tasks: 0, hooks: 0 };
const LISTENER: Left = Left { listeners: 1, ..NOTHING };
const CONNECTION: Left = Left { connections: 1, ..NOTHING };
const TASK: Left = Left { tasks: 1, ..NOTHING };
const HOOK: Left = Left { hooks: 1, ..NOTHING };

const TERM: Cause = Cause::Signal(15);
const CTRL_C: Cause = Cause::Terminal(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ten seconds, of which hooks keep two; no lame duck.
fn plan() -> Plan {
    Plan { grace: ms(10_000), hooks: Some(ms(2_000)), ..Plan::default() }
}

/// A core with a clock.
struct Run {
    core: Core,
    left: Left,
    now: Moment,
}

impl Run {
    fn armed(plan: Plan) -> Self {
        // Not zero: nothing may take the birth of the lifecycle for the beginning of its end.
        Self { core: Core::new(plan), left: NOTHING, now: ms(60_000) }
    }

    fn serving(plan: Plan) -> Self {
        let mut run = Self::armed(plan);
        assert_eq!(run.on(Event::Serve), []);
        run
    }

    /// Serving, with so much to do.
    fn busy(left: Left) -> Self {
        Self { left, ..Self::serving(plan()) }
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        self.core.step(event, self.left, self.now)
    }

    /// What is left changes, and the driver looks.
    fn leaves(&mut self, left: Left) -> Vec<Command> {
        self.left = left;
        self.on(Event::Look)
    }

    /// Time passes, and the driver looks once at the end of it.
    fn after(&mut self, time: Duration) -> Vec<Command> {
        self.now += time;
        self.on(Event::Look)
    }

    fn phase(&self) -> Phase {
        self.core.phase()
    }
}

// ===== The order of an end =====

#[test]
fn a_stop_with_nothing_to_do_ends_at_once() {
    let mut run = Run::serving(plan());
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain, Finish]);
    assert_eq!((run.phase(), run.core.ending()), (Phase::Ended, Ending::Ran));
}

#[test]
fn the_drain_waits_for_listeners_connections_and_tasks_and_then_for_hooks() {
    let mut run = Run::busy(Left { listeners: 1, connections: 1, tasks: 1, hooks: 1 });
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain]);
    assert_eq!(run.leaves(Left { listeners: 0, ..run.left }), []);
    assert_eq!(run.leaves(Left { connections: 0, ..run.left }), []);
    assert_eq!(run.phase(), Phase::Draining);
    assert_eq!(run.leaves(HOOK), [RunHooks { until: run.now + ms(10_000) }]);
    assert_eq!(run.phase(), Phase::Closing);
    assert_eq!(run.leaves(NOTHING), [Finish]);
    assert_eq!(run.phase(), Phase::Ended);
}

#[test]
fn any_one_piece_of_work_holds_the_drain() {
    for left in [LISTENER, CONNECTION, TASK] {
        let mut run = Run::busy(left);
        assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain], "{left:?}");
        assert_eq!(run.after(ms(9_999)), [], "{left:?}");
        assert_eq!(run.leaves(NOTHING), [Finish], "{left:?}");
    }
}

#[test]
fn the_deadline_answers_then_cuts_then_counts() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Begin(TERM));
    assert_eq!(run.after(ms(9_999)), []);
    assert_eq!(run.after(ms(1)), [Answer]);
    assert_eq!(run.after(CUT_MARGIN), [Cut]);
    assert_eq!(run.phase(), Phase::Draining);
    assert_eq!(run.leaves(NOTHING), [Finish]);
    assert_eq!(run.core.ending(), Ending::Ran);
}

#[test]
fn what_does_not_even_go_when_it_is_cut_holds_nothing_up() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Begin(TERM));
    assert_eq!(run.after(ms(10_000)), [Answer]);
    assert_eq!(run.after(CUT_MARGIN), [Cut]);
    assert_eq!(run.after(COUNT_MARGIN), [Finish]);
    assert!(run.now < run.core.process_ends_at().unwrap(), "the process is not ended by force for that");
}

#[test]
fn work_that_ends_with_its_final_answer_is_not_cut() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Begin(TERM));
    assert_eq!(run.after(ms(10_000)), [Answer]);
    assert_eq!(run.leaves(NOTHING), [Finish]);
}

#[test]
fn the_core_says_when_it_wants_to_look_again() {
    let mut run = Run::busy(Left { hooks: 1, ..CONNECTION });
    assert_eq!(run.core.wakes_at(), None);
    run.on(Event::Begin(TERM));
    assert_eq!(run.core.wakes_at(), Some(run.now + ms(8_000)));
    assert_eq!(run.core.deadline(), Some(run.now + ms(10_000)), "people are told the whole grace period");
    run.after(ms(8_000));
    assert_eq!(run.core.wakes_at(), Some(run.now + CUT_MARGIN));
    run.after(CUT_MARGIN);
    assert_eq!(run.core.wakes_at(), Some(run.now + COUNT_MARGIN));
    run.leaves(HOOK);
    assert_eq!(run.core.wakes_at(), Some(run.now + ms(2_000)));
    run.leaves(NOTHING);
    assert_eq!(run.core.wakes_at(), None);
}

// ===== What asks for the end =====

#[test]
fn beginning_twice_is_beginning_once() {
    let mut run = Run::busy(CONNECTION);
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain]);
    let before = run.core.clone();
    assert_eq!(run.on(Event::Begin(Cause::Handle)), []);
    assert_eq!(run.core, before);
}

#[test]
fn beginning_again_does_not_end_the_lame_duck() {
    let mut run = Run::serving(Plan { lame_duck: ms(500), ..plan() });
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway]);
    assert_eq!(run.on(Event::Begin(TERM)), []);
    assert_eq!(run.phase(), Phase::LameDuck);
    assert_eq!(run.after(ms(499)), []);
    assert_eq!(run.after(ms(1)), [Seal, Drain, Finish]);
}

#[test]
fn sig_4_every_further_signal_is_one_step() {
    let mut run = Run { left: CONNECTION, ..Run::serving(Plan { lame_duck: ms(500), ..plan() }) };
    assert_eq!(run.on(Event::Step(TERM)), [TurnAway]);
    assert_eq!(run.phase(), Phase::LameDuck);
    assert_eq!(run.on(Event::Step(TERM)), [Seal, Drain]);
    assert_eq!((run.phase(), run.core.ending()), (Phase::Draining, Ending::Ran));
    assert_eq!(run.on(Event::Step(CTRL_C)), [Answer]);
    assert_eq!(run.core.ending(), Ending::Forced(CTRL_C));
    assert_eq!(run.on(Event::Step(TERM)), []);
    assert_eq!(run.after(CUT_MARGIN), [Cut]);
    assert_eq!(run.after(COUNT_MARGIN), [Finish]);
    assert_eq!(run.core.ending(), Ending::Forced(CTRL_C), "whoever forced it, not who asked again");
    assert_eq!(run.core.cause(), Some(TERM), "who asked first is the cause");
}

#[test]
fn sig_4_a_forced_end_waits_for_no_hook() {
    let forced_from = |moves: fn(&mut Run)| {
        let mut run = Run::busy(Left { hooks: 1, ..CONNECTION });
        run.on(Event::Begin(TERM));
        moves(&mut run);
        let mut given = run.on(Event::Force(Cause::Handle));
        let forced_at = run.now;
        for _ in 0..3 {
            run.now = run.core.wakes_at().unwrap_or(run.now);
            given.extend(run.on(Event::Look));
        }
        assert!(run.now < forced_at + FORCE_MARGIN, "the process is not ended by force for that");
        assert_eq!(run.core.ending(), Ending::Forced(Cause::Handle));
        given
    };
    assert_eq!(forced_from(|_| {}), [Answer, Cut, AbortHooks, Finish]);
    let while_answering = |run: &mut Run| assert_eq!(run.after(ms(8_000)), [Answer]);
    assert_eq!(forced_from(while_answering), [Cut, AbortHooks, Finish]);
    let while_counting = |run: &mut Run| {
        run.after(ms(8_000));
        assert_eq!(run.after(CUT_MARGIN), [Cut]);
    };
    assert_eq!(forced_from(while_counting), [AbortHooks, Finish]);
    let while_hooks_run = |run: &mut Run| assert!(matches!(run.leaves(HOOK)[..], [RunHooks { .. }]));
    assert_eq!(forced_from(while_hooks_run), [AbortHooks, Finish]);
}

#[test]
fn rdy_2_a_terminal_skips_the_lame_duck() {
    let mut run = Run::busy(CONNECTION);
    run.core.set_plan(Plan { lame_duck: ms(500), ..plan() });
    assert_eq!(run.on(Event::Step(CTRL_C)), [TurnAway, Seal, Drain]);
}

#[test]
fn end_7_a_grace_period_of_zero_answers_at_once() {
    let mut run = Run { left: CONNECTION, ..Run::serving(Plan { grace: Duration::ZERO, ..plan() }) };
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain, Answer]);
}

#[test]
fn a_force_without_a_beginning_tells_everybody_all_the_same() {
    let mut run = Run::busy(CONNECTION);
    assert_eq!(run.on(Event::Force(Cause::Handle)), [TurnAway, Seal, Drain, Answer]);
    assert_eq!(run.core.cause(), Some(Cause::Handle));
}

// ===== A stop before there is a server =====

#[test]
fn sig_2_a_stop_before_serving_waits_for_the_server_and_its_plan() {
    let mut run = Run::armed(Plan::default());
    assert_eq!(run.on(Event::Step(TERM)), [TurnAway, Seal, Drain]);
    assert_eq!(run.core.process_ends_at(), Some(run.now + Plan::default().grace + PROCESS_MARGIN));
    let stopped = run.now;
    assert_eq!(run.after(ms(1_000)), []);
    run.core.set_plan(plan());
    run.left = Left { hooks: 1, ..TASK };
    assert_eq!(run.on(Event::Serve), []);
    assert_eq!(run.core.process_ends_at(), Some(stopped + ms(10_000) + PROCESS_MARGIN));
    assert_eq!(run.core.wakes_at(), Some(stopped + ms(8_000)), "a hook registered meanwhile keeps its slice");
}

#[test]
fn a_running_deadline_does_not_move() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Begin(TERM));
    let deadline = run.core.wakes_at();
    run.core.set_plan(Plan::default());
    run.on(Event::Serve);
    assert_eq!(run.core.wakes_at(), deadline);
}

// ===== Hooks =====

#[test]
fn hook_1_hooks_have_what_the_drain_left() {
    let mut run = Run::busy(Left { hooks: 1, ..TASK });
    run.on(Event::Begin(TERM));
    let ends = run.now + ms(10_000);
    run.after(ms(3_000));
    assert_eq!(run.leaves(HOOK), [RunHooks { until: ends }]);
    assert_eq!(run.after(ms(6_999)), []);
    assert_eq!(run.after(ms(1)), [AbortHooks, Finish]);
}

#[test]
fn hook_1_hooks_keep_their_whole_slice_when_the_drain_was_cut() {
    let mut run = Run::busy(Left { hooks: 1, ..CONNECTION });
    run.on(Event::Begin(TERM));
    assert_eq!(run.after(ms(8_000)), [Answer]);
    assert_eq!(run.after(CUT_MARGIN), [Cut]);
    run.now += COUNT_MARGIN;
    assert_eq!(run.on(Event::Look), [RunHooks { until: run.now + ms(2_000) }]);
    assert!(run.now + ms(2_000) < run.core.process_ends_at().unwrap());
}

#[test]
fn end_1_hooks_have_no_time_left_when_the_driver_was_held_up_past_the_margin() {
    let mut run = Run::busy(Left { hooks: 1, ..CONNECTION });
    run.on(Event::Begin(TERM));
    assert_eq!(run.after(ms(20_000)), [Answer]);
    assert_eq!(run.leaves(HOOK), [AbortHooks, Finish]);
}

#[test]
fn without_hooks_the_drain_has_the_whole_grace_period() {
    let mut run = Run::busy(TASK);
    run.on(Event::Begin(TERM));
    assert_eq!(run.core.wakes_at(), Some(run.now + ms(10_000)));
}

#[test]
fn task_1_a_task_that_a_hook_starts_is_waited_for() {
    let mut run = Run::busy(HOOK);
    run.on(Event::Begin(TERM));
    assert_eq!(run.leaves(TASK), []);
    assert_eq!(run.leaves(NOTHING), [Finish]);
}

// ===== Failures =====

#[test]
fn a_failed_server_still_closes_its_databases() {
    let mut run = Run::busy(Left { hooks: 1, ..CONNECTION });
    assert_eq!(run.on(Event::Fail), [TurnAway, Seal, Drain, Answer]);
    run.now += ms(20);
    assert_eq!(run.leaves(HOOK), [RunHooks { until: run.now + ms(2_000) }]);
    assert_eq!(run.on(Event::Fail), [], "another listener fails");
    assert_eq!(run.leaves(NOTHING), [Finish]);
    assert_eq!(run.core.ending(), Ending::Failed);
}

#[test]
fn a_failure_gives_nobody_more_time() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Begin(TERM));
    let ends = run.now + ms(10_000);
    run.after(ms(9_000));
    // Registered in the drain: nothing was kept for it.
    run.left = Left { hooks: 1, ..CONNECTION };
    assert_eq!(run.on(Event::Fail), [Answer]);
    assert_eq!(run.leaves(HOOK), [RunHooks { until: ends }]);
}

#[test]
fn a_failure_while_hooks_run_takes_nothing_from_them() {
    let mut run = Run::busy(HOOK);
    let ends = run.now + ms(10_000);
    assert_eq!(run.on(Event::Begin(TERM)), [TurnAway, Seal, Drain, RunHooks { until: ends }]);
    assert_eq!(run.on(Event::Fail), []);
    assert_eq!(run.core.process_ends_at(), Some(ends + PROCESS_MARGIN));
    assert_eq!(run.leaves(NOTHING), [Finish]);
    assert_eq!(run.core.ending(), Ending::Failed);
}

#[test]
fn a_failure_does_not_hide_that_the_end_was_forced() {
    let mut run = Run::busy(CONNECTION);
    run.on(Event::Force(TERM));
    run.on(Event::Fail);
    assert_eq!(run.core.ending(), Ending::Forced(TERM));
}

#[test]
fn nothing_happens_after_the_end() {
    let mut run = Run::serving(plan());
    run.on(Event::Begin(TERM));
    for event in [Event::Serve, Event::Begin(TERM), Event::Step(TERM), Event::Force(TERM), Event::Fail, Event::Look] {
        assert_eq!(run.on(event), [], "{event:?}");
    }
    assert_eq!(run.core.ending(), Ending::Ran);
}
