//! Restart and hand-over: a new process takes over, and no client notices. Only where RESTART is heeded.

use rustix::process::{Pid, Signal, kill_process};

use super::in_flight::until_told;
use super::listener::in_the_queue;
use super::upgraded::open_and_tried;
use crate::case::{Case, Need, Section};
use crate::clock::{ms, wait_until};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::stage::{PATIENCE, SLOW, Script, Stage, Trouble};
use crate::wire::kernel::is_listening;

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
        .script(|s| s.while_at_it(0..4, |s, _| for_a_while(s), restart)),
    Case::must("ho/back-to-back", "HO-1", NOTHING_LOST)
        .expects("keep-alive clients that ask again as soon as they are answered lose no request over a restart")
        .since("that is what every busy proxy in front of a server does; each lost request is a 502")
        .needs(&[Need::Restart])
        .repeats(3, 1.0)
        .wants(&[ToldClose, EndedAtRest])
        .control(&[Answered])
        .script(|s| {
            let clients = s.many_at_rest(8)?;
            s.while_at_it(clients, until_told, restart)
        }),
    Case::must("ho/queue", "HO-1", NOTHING_LOST)
        .expects("requests that wait in the accept queue at the restart are answered, by the one or the other")
        .since("a listener that is bound anew beside the old one loses its queue; one that is handed on does not")
        .needs(&[Need::Restart])
        .wants(&[Answered, ToldClose])
        .control(&[Answered, ToldClose])
        .script(|s| {
            let mut clients = in_the_queue(s, 60)?;
            for client in &mut clients {
                s.ask_quick(client);
            }
            s.signal_by(Signal::HUP)?;
            s.server.thaw();
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::must("ho/again", "HO-1", "100 restarts under load")
        .expects("the new process can be restarted as the old one was, while clients connect anew for each request")
        .since("a service is restarted more than once in its life")
        .needs(&[Need::Restart])
        .alone()
        .wants(&[Answered])
        .control(&[Answered])
        .script(|s| s.while_at_it(0..2, |s, _| for_a_while(s), twice)),
    Case::should("ho/websocket", "WS-6", "as WS-1, with 1012 when the end is a restart")
        .expects("a WebSocket gets Close 1012 (service restart)")
        .since("its client learns that connecting again at once is worth it")
        .needs(&[Need::Restart, Need::Ws])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut socket = open_and_tried(s)?;
            s.signal_by(Signal::HUP)?;
            let (told, code) = socket.told(ms(if s.is_control() { 1000 } else { 5000 }));
            s.saw(match code {
                None | Some(1012) => told,
                Some(code) => Seen::new(Wrong, format!("Close with code {code}")),
            });
            Ok(())
        }),
    Case::must("ho/unix-path", "LIS-10", "a unix socket's path is kept when the socket was handed on")
        .expects("when the old process has ended, the unix socket's path still leads to one that answers")
        .since("whoever removes it takes it away from the next process")
        .needs(&[Need::Restart, Need::Unix])
        .wants(&[Answered])
        .control(&[Answered])
        .script(|s| {
            let address = s.unix_address()?;
            s.signal_by(Signal::HUP)?;
            if !s.is_control() {
                let exit = s.exits_by(ms(10_000));
                if exit.outcome != Exited {
                    s.saw(exit);
                    return Ok(());
                }
            }
            let fate = s.quick_at(&address);
            s.saw(if fate.outcome == ToldClose { Seen::new(Answered, fate.text) } else { fate });
            Ok(())
        }),
    Case::must("ho/one-left", "HO-3", "one restart at a time")
        .expects("after a restart there is one process, and after its end none, and nobody listens")
        .since("each one that is left behind holds the port, and serves an old version for ever")
        .needs(&[Need::Restart])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            // Two wishes at once are one restart.
            s.signal_by(Signal::HUP)?;
            if !s.is_control() {
                s.server.signal(Signal::HUP).ok();
            }
            let exit = s.exits_by(ms(10_000));
            if exit.outcome != Exited {
                s.saw(exit);
                return Ok(());
            }
            let next = the_next(s)?;
            let main = s.server.main;
            let ended = kill_process(next, Signal::TERM).is_ok()
                && wait_until(s.deadline(), || s.server.left_behind().is_empty());
            s.saw(match (ended, is_listening(main)) {
                (true, Some(false) | None) => Seen::new(Exited, "the next process has ended, and nobody listens"),
                (true, Some(true)) => Seen::new(Wrong, "the next process has ended, and somebody still listens"),
                (false, _) => Seen::new(Running, "the next process did not end by SIGTERM"),
            });
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

/// The one process that is there for the old one, which has ended.
fn the_next(s: &Stage<'_>) -> Result<Pid, Trouble> {
    match s.server.left_behind()[..] {
        [next] => Ok(next),
        ref all => Err(Trouble::Broken(format!("after the restart {} processes are there", all.len()))),
    }
}

/// When the clients are at it.
fn restart(s: &Stage<'_>) -> Script {
    s.pause(ms(300));
    s.signal_by(Signal::HUP)
}

/// Restarts the server, and then the one that took over.
fn twice(s: &Stage<'_>) -> Script {
    restart(s)?;
    if s.is_control() {
        return Ok(());
    }
    if s.exits_by(ms(5000)).outcome != Exited {
        return Err(Trouble::Broken("the old process did not end".into()));
    }
    let next = the_next(s)?;
    // Beyond what takes several signals for one.
    s.pause(ms(500));
    kill_process(next, Signal::HUP).map_err(|error| Trouble::Broken(error.to_string()))?;
    match wait_until(ms(5000), || s.server.left_behind().iter().any(|pid| *pid != next)) {
        true => Ok(()),
        false => Err(Trouble::Broken("the new process did not restart".into())),
    }
}

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
