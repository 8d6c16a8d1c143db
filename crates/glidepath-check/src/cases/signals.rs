//! Signals: what begins an end, and what a further one does.

use rustix::process::Signal;

use crate::case::{Case, Need, Section};
use crate::clock::{ms, now, wait_until};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{PATIENCE, SLOW, Script, Stage, Trouble};
use crate::wire::kernel;

pub(super) const SECTION: Section = Section { title: "Signals", cases: CASES };

const CASES: &[Case] = &[
    Case::must("sig/ends", "SIG-1", "SIGINT and SIGTERM start the drain")
        .expects("with nothing going on, the process ends within 10 s of the signal")
        .since("what does not heed its signal is killed, with all that is in it")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            s.signal()?;
            s.saw(s.exits_by(ms(10_000)));
            Ok(())
        }),
    Case::must("sig/interrupt-ends", "SIG-1", "SIGINT and SIGTERM start the drain")
        .expects("SIGINT, too, ends it within 10 s")
        .since("it is what Ctrl-C sends")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            s.signal_by(Signal::INT)?;
            s.saw(s.exits_by(ms(10_000)));
            Ok(())
        }),
    Case::should("sig/interrupt-drains", "SIG-1", "SIGINT and SIGTERM start the drain")
        .expects("at SIGINT, too, a request in flight is answered")
        .since("process managers and test rigs end servers by SIGINT")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            by_sigterm(s)?;
            let mut client = s.busy(SLOW)?;
            s.signal_by(Signal::INT)?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("sig/early", "SIG-2", "a signal from then on is never lost")
        .expects("a signal sent as soon as it listens ends it within 10 s")
        .since("a deploy that is taken back at once meets a server that has just come up")
        .repeats(5, 1.0)
        .unawaited()
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let main = s.server.main;
            if !wait_until(s.settings.start, || kernel::is_listening(main) == Some(true)) {
                return Err(Trouble::Skip("the kernel does not say when it listens".into()));
            }
            s.signal()?;
            s.saw(s.exits_by(ms(10_000)));
            Ok(())
        }),
    Case::should("sig/burst", "SIG-3", "a burst of signals within the debounce (250 ms) is one signal")
        .expects("three signals within 100 ms are one: a request in flight is answered")
        .since("a terminal, a package manager and a shell may each send one for one Ctrl-C")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let signal = s.its_signal()?;
            let mut client = s.busy(SLOW)?;
            s.signal_by(signal)?;
            for _ in 0..2 {
                s.pause(ms(40));
                s.signal_by(signal)?;
            }
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should(
        "sig/second-forces",
        "SIG-4",
        "each further signal moves one step on: lame duck -> drain -> forced end",
    )
    .expects("a second signal, a second after the first, ends it within 2 s whatever runs")
    .since("whoever asks again wants it to end now, and else reaches for SIGKILL")
    .needs(&[Need::AnySlow])
    .wants(&[Exited])
    .control(&[Running])
    .script(|s| {
        let signal = s.its_signal()?;
        let _stuck = s.busy(60_000)?;
        s.signal_by(signal)?;
        s.pause(ms(1000));
        s.signal_by(signal)?;
        s.saw(s.exits_by(ms(3000)));
        Ok(())
    }),
    Case::should("sig/forced-is-told", "SIG-4", "Forced: exit within 1 s, code 128+n")
        .expects("an end that a second signal forced does not exit with 0")
        .since("0 says that all work was finished, and whoever watches believes it")
        .needs(&[Need::AnySlow])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let signal = s.its_signal()?;
            let _stuck = s.busy(60_000)?;
            s.signal_by(signal)?;
            s.pause(ms(1000));
            s.signal_by(signal)?;
            let exit = s.exits_by(ms(3000));
            s.saw(not_0(s, exit));
            Ok(())
        }),
    Case::should("sig/nohup", "SIG-6", "SIGHUP ignored at start (nohup) stays ignored")
        .expects("started with SIGHUP ignored, it serves on after SIGHUP")
        .since("nohup is how people keep a server running after they log out")
        .through(&["env", "--ignore-signal=HUP"])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            s.signal_by(Signal::HUP)?;
            s.pause(ms(500));
            s.saw(s.quick_on_a_new_connection());
            Ok(())
        }),
    Case::should("sig/blocked", "SIG-7", "with SIGTERM blocked in the inherited mask")
        .expects("started with SIGTERM blocked, SIGTERM ends it within 10 s all the same")
        .since("a parent that blocks signals hands that on, and then nothing ends its children but SIGKILL")
        .through(&["env", "--block-signal=TERM"])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            by_sigterm(s)?;
            s.signal()?;
            s.saw(s.exits_by(ms(10_000)));
            Ok(())
        }),
    Case::should("sig/quit-ends", "SIG-5", "then end with 131, at once")
        .expects(
            "SIGQUIT ends it within a second, although a request is in flight; skipped where it begins a graceful end",
        )
        .since("it is what Ctrl-\\ sends: what one tries on a process that hangs, before SIGKILL")
        .needs(&[Need::AnySlow])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let (exit, _) = quit(s)?;
            s.saw(exit);
            Ok(())
        }),
    Case::should("sig/quit-names", "SIG-5", "print what is running (every request with method, path and age")
        .expects("at SIGQUIT it writes the path of the request in flight to its output")
        .since("of a process that hangs, one wants to know first what it hangs in")
        .needs(&[Need::AnySlow])
        .wants(&[Answered])
        .control(&[Open])
        .script(|s| {
            let (_, names) = quit(s)?;
            s.saw(names);
            Ok(())
        }),
    Case::must("sig/pid-1", "SIG-7", "works as PID 1")
        .expects("as PID 1 of a container, it ends within 10 s of the signal")
        .since(
            "PID 1 has no default actions: what is not handled is ignored, and the container is killed after its time",
        )
        .through(&["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            if !s.server.signal_the_child() {
                return Err(Trouble::Skip("the process inside the namespace was not found".into()));
            }
            s.signal()?;
            s.saw(s.exits_by(ms(10_000)));
            Ok(())
        }),
    Case::should("sig/unread", "SIG-7", "with stdout or stderr closed (no death by SIGPIPE)")
        .expects("with nobody reading its output any more, a request in flight is answered")
        .since("log collectors are often ended before the servers")
        .needs(&[Need::Slow])
        .unread()
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("sig/stop-continue", "SIG-8", "SIGSTOP and SIGCONT in the drain: one drain")
        .expects("stopped and continued in the drain, it answers the request in flight")
        .since("laptops sleep, and debuggers and freezers stop processes")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            s.pause(ms(200));
            s.server.freeze();
            s.pause(ms(300));
            s.server.thaw();
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("sig/stop-deadline", "SIG-8", "the deadline holds on the monotonic clock")
        .expects("stopped for a second in the drain, it ends by its grace period of 3 s all the same")
        .since("whoever kills it afterwards has a clock that does not stop")
        .needs(&[Need::Grace, Need::AnySlow])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _stuck = s.busy(s.beyond_grace())?;
            s.signal()?;
            s.pause(ms(300));
            s.server.freeze();
            s.pause(ms(1000));
            s.server.thaw();
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
];

/// Where it was said that another signal ends it, SIGTERM and SIGINT may mean what they like.
fn by_sigterm(s: &Stage<'_>) -> Script {
    match s.its_signal()? {
        Signal::TERM => Ok(()),
        _ => Err(Trouble::Skip("its graceful end is begun by another signal, as told".into())),
    }
}

/// SIGQUIT with a request in flight: how it ended, and whether it named the request before that was over.
fn quit(s: &Stage<'_>) -> Result<(Seen, Seen), Trouble> {
    if s.its_signal()? == Signal::QUIT {
        return Err(Trouble::Skip("its graceful end is begun by SIGQUIT, as told".into()));
    }
    let path = s.settings.path(Work::Slow, 0, 0);
    let path = path.split('?').next().unwrap_or_default();
    if path.len() < 2 {
        return Err(Trouble::Skip("the path of its slow work is too short to be known again in its output".into()));
    }
    let mut client = s.busy(4000)?;
    // A log line of the request's beginning may still be on its way.
    s.pause(ms(150));
    let before = s.server.lines();
    s.server.leaves_no_core();
    s.signal_by(Signal::QUIT)?;
    let exit = s.exits_by(ms(1000));
    let is_named = wait_until(ms(200), || s.server.said_since(before, path));
    if exit.outcome != Exited && !s.is_control() && is_an_answer(&client.answered(PATIENCE)) {
        // What nginx means by it, and others after it.
        if s.server.ended_by(now() + ms(2000)).is_some() {
            return Err(Trouble::Skip("SIGQUIT begins a graceful end here".into()));
        }
    }
    let names = match is_named {
        true => Seen::new(Answered, format!("{path} is named")),
        false => Seen::new(Open, format!("nothing that it wrote names {path}")),
    };
    Ok((exit, names))
}

fn is_an_answer(seen: &Seen) -> bool {
    matches!(seen.outcome, Answered | ToldClose)
}

/// An exit code of 0 is not what was wanted.
fn not_0(s: &Stage<'_>, exit: Seen) -> Seen {
    match s.server.ended() {
        Some(ended) if ended.code == Some(0) => Seen::new(Wrong, exit.text),
        _ => exit,
    }
}
