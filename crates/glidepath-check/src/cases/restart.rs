//! Restart and hand-over: a new process takes over, and no client notices. Only where RESTART is heeded.

use std::thread::scope;

use rustix::process::Signal;

use crate::case::{Case, Need, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::stage::{PATIENCE, SLOW, Stage};

pub(super) const SECTION: Section = Section { title: "Restart and hand-over", cases: CASES };

const NOTHING_LOST: &str = "refused = reset = lost = 0";

const CASES: &[Case] = &[
    Case::must("ho/none-refused", "HO-1", NOTHING_LOST)
        .expects("clients that connect anew for each request, over a restart, are all answered")
        .since("a restart that refuses clients is an outage, however short")
        .needs(&[Need::Restart])
        .alone()
        .wants(&[Answered])
        .control(&[Answered])
        .script(|s| {
            let stage = &*s;
            let (fates, signal) = scope(|scope| {
                let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| for_a_while(stage))).collect();
                stage.pause(ms(300));
                let signal = stage.signal_by(Signal::HUP);
                (clients.into_iter().filter_map(|client| client.join().ok()).collect::<Vec<_>>(), signal)
            });
            signal?;
            fates.into_iter().for_each(|fate| s.saw(fate));
            Ok(())
        }),
    Case::must("ho/in-flight", "HO-1", NOTHING_LOST)
        .expects("a request in flight at the restart is answered by the old process")
        .since("nobody else can answer it")
        .needs(&[Need::Restart, Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.busy(2 * SLOW)?;
            s.signal_by(Signal::HUP)?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("ho/takes-over", "HO-3", "the old one drains only after the new one said ready")
        .expects("after SIGHUP the old process ends within 10 s, and a new one answers")
        .since("a restart that leaves the old process, or no process, is none")
        .needs(&[Need::Restart])
        .wants(&[Answered])
        .control(&[Running])
        .script(|s| {
            s.signal_by(Signal::HUP)?;
            let exit = s.exits_by(ms(10_000));
            let seen = match exit.outcome {
                Exited => {
                    let fate = s.quick_on_a_new_connection();
                    if fate.outcome == ToldClose { Seen::new(Answered, fate.text) } else { fate }
                }
                _ => exit,
            };
            s.saw(seen);
            Ok(())
        }),
];

fn for_a_while(s: &Stage<'_>) -> Seen {
    let bound = ms(if s.is_control() { 300 } else { 4000 });
    loop {
        let fate = s.quick_on_a_new_connection();
        let fate = if fate.outcome == ToldClose { Seen::new(Answered, fate.text) } else { fate };
        if fate.outcome != Answered || s.since_signal() > bound {
            return fate;
        }
    }
}
