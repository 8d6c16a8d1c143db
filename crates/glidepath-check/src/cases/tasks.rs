//! Background work: what a request began and did not wait for.

use crate::case::{Case, Need, Section};
use crate::clock::{ms, wait_until};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{PATIENCE, Script, Stage, TASK_DONE, Trouble};

pub(super) const SECTION: Section = Section { title: "Background work and teardown", cases: CASES };

const WAITED: &str = "tracked tasks are waited for after the requests, also those that in-flight requests start";

const CASES: &[Case] = &[
    Case::must("task/waited", "TASK-1", WAITED)
        .expects("a task that was begun before the signal is done when the process ends")
        .since("the client was told 202: accepted. A mail that is not sent is lost without a trace")
        .needs(&[Need::Task])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            begin(s, 1500)?;
            s.signal()?;
            let exit = s.exits_by(ms(6000));
            s.saw(done(s, exit));
            Ok(())
        }),
    Case::should("task/late", "TASK-1", WAITED)
        .expects("a task that a request in flight begins after the signal is done when the process ends")
        .since("the request was accepted, and so was its task")
        .needs(&[Need::Task])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.accepted()?;
            client.start_head("POST", &s.settings.path(Work::Task, 800, 0), "content-length: 0\r\n");
            s.signal()?;
            s.settle();
            let fate = client.finish_head().answered(PATIENCE);
            if !matches!(fate.outcome, Answered | ToldClose) {
                s.saw(fate);
                return Ok(());
            }
            drop(client);
            let exit = s.exits_by(ms(6000));
            s.saw(done(s, exit));
            Ok(())
        }),
    Case::must("task/bounded", "TASK-2", "at the deadline it is aborted")
        .expects("a task that takes far longer does not keep the process past its grace period of 2 s")
        .since("the process is killed then, and what the task holds with it")
        .needs(&[Need::Task, Need::Grace])
        .grace(2.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            begin(s, s.beyond_grace())?;
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must(
        "task/stuck-thread",
        "TASK-4",
        "a blocking task or a stuck thread does not keep the process past the deadline",
    )
    .expects("a thread that is blocked for far longer does not keep the process past its grace period of 2 s")
    .since("a stuck call to a database or a disk is the usual reason why servers don't end")
    .needs(&[Need::Block, Need::Grace])
    .grace(2.0)
    .wants(&[Exited])
    .control(&[Running])
    .script(|s| {
        let mut client = s.client()?;
        client.get(&s.settings.path(Work::Block, s.beyond_grace(), 0)).until_read();
        s.signal()?;
        s.saw(s.exits_by(s.deadline()));
        Ok(())
    }),
];

fn begin(s: &Stage<'_>, milliseconds: u64) -> Script {
    let mut client = s.client()?;
    let answer =
        client.ask("POST", &s.settings.path(Work::Task, milliseconds, 0), "content-length: 0\r\n").answer(PATIENCE);
    match answer {
        Ok(answer) if answer.is_good() => Ok(()),
        other => Err(Trouble::Broken(format!("no task was begun before the signal: {other:?}"))),
    }
}

/// What it wrote last may still be on its way.
fn done(s: &Stage<'_>, exit: Seen) -> Seen {
    match exit.outcome {
        Exited if !wait_until(ms(500), || s.server.said(TASK_DONE)) => {
            Seen::new(Lost, format!("{}; the task was not done", exit.text))
        }
        _ => exit,
    }
}
