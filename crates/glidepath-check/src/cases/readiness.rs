//! Readiness: how balancers hear of the end before clients do.

use crate::case::{Case, Need, Section};
use crate::clock::{ms, wait_until};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::stage::{PATIENCE, SLOW, Stage, Trouble};
use crate::wire::Address;

pub(super) const SECTION: Section = Section { title: "Readiness", cases: CASES };

const PROBES: &str =
    "readiness answers 503 from the signal on, liveness 200 to the end, on a port that outlives the public ones";
const LAME_DUCK: &str = "in the lame duck new connections and requests are served, responses say close";

const CASES: &[Case] = &[
    Case::must("rdy/not-ready", "RDY-1", PROBES)
        .expects("within a second of the signal, readiness answers 503, while a request is in flight")
        .since("a balancer that still hears 200 sends new clients to a closed door")
        .needs(&[Need::Admin, Need::Slow])
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let admin = s.admin_address()?;
            let _busy = s.busy(3 * SLOW)?;
            s.signal()?;
            let bound = ms(if s.is_control() { 300 } else { 1000 });
            wait_until(bound, || probe(s, &admin, "/readyz").outcome == Refused);
            s.saw(probe(s, &admin, "/readyz"));
            Ok(())
        }),
    Case::must("rdy/alive", "RDY-1", PROBES)
        .expects("in the drain, liveness answers 200, while a request is in flight")
        .since("Kubernetes kills and restarts what is not alive, in the middle of its drain")
        .needs(&[Need::Admin, Need::Slow])
        .wants(&[Answered])
        .control(&[Answered])
        .script(|s| {
            let admin = s.admin_address()?;
            let _busy = s.busy(2 * SLOW)?;
            s.signal()?;
            s.pause(ms(1000));
            s.saw(probe(s, &admin, "/livez"));
            Ok(())
        }),
    Case::must("rdy/probes-hold-nothing", "RDY-3", "probes never count as work in flight")
        .expects("with probes' connections open, it ends within 8 s")
        .since("a prober that keeps its connection would keep the server")
        .needs(&[Need::Admin])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let admin = s.admin_address()?;
            let mut at_rest = s.client_to(&admin)?;
            at_rest.get("/livez");
            let _answer = at_rest.answer(PATIENCE);
            let mut half = s.client_to(&admin)?;
            half.start_head("GET", "/readyz", "");
            s.signal()?;
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::must("rdy/lame-duck-serves", "RDY-2", LAME_DUCK)
        .expects("half a second into a lame duck of 2 s, a new connection is served")
        .since("balancers need seconds to turn away; until then clients still come")
        .needs(&[Need::LameDuck])
        .lame_duck(2.0)
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            s.signal()?;
            s.pause(ms(500));
            s.saw(s.quick_on_a_new_connection());
            Ok(())
        }),
    Case::should("rdy/lame-duck-close", "RDY-2", LAME_DUCK)
        .expects("answers in the lame duck say close, on connections old and new")
        .since("a client that is told comes back through the balancer, which knows better")
        .needs(&[Need::LameDuck])
        .lame_duck(2.0)
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut old = s.at_rest()?;
            s.signal()?;
            s.pause(ms(500));
            let fate = s.ask_quick(&mut old).answered(PATIENCE);
            s.saw(fate);
            s.saw(s.quick_on_a_new_connection());
            Ok(())
        }),
    Case::must("rdy/lame-duck-ends", "RDY-2", "in the lame duck new connections and requests are served")
        .expects("after a lame duck of 1 s, the process ends within 5 s")
        .since("it is a delay and not a stay")
        .needs(&[Need::LameDuck])
        .lame_duck(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            s.signal()?;
            s.saw(s.exits_by(ms(6000)));
            Ok(())
        }),
    Case::should("rdy/lame-duck-not-ready", "RDY-1", "readiness answers 503 from the signal on")
        .expects("in a lame duck of 2 s, readiness answers 503 though clients are served")
        .since("that is what the lame duck is for: balancers have to hear of it")
        .needs(&[Need::LameDuck, Need::Admin])
        .lame_duck(2.0)
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let admin = s.admin_address()?;
            s.signal()?;
            s.pause(ms(500));
            s.saw(probe(s, &admin, "/readyz"));
            Ok(())
        }),
];

fn probe(s: &Stage<'_>, admin: &Address, path: &str) -> Seen {
    match s.client_to(admin) {
        Ok(mut client) => {
            let fate = client.get(path).answered(ms(2000));
            // A probe's connection may be closed after each answer.
            if fate.outcome == ToldClose { Seen::new(Answered, fate.text) } else { fate }
        }
        Err(Trouble::Skip(why) | Trouble::Broken(why)) => Seen::new(Lost, why),
    }
}
