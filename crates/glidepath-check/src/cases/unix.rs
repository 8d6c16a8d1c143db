//! Unix sockets: the same promises, on a socket that is a file.

use crate::case::{Case, Need, Section};
use crate::clock::{ms, wait_until};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::stage::{PATIENCE, QUIET, SLOW};

pub(super) const SECTION: Section = Section { title: "Unix sockets", cases: CASES };

const CASES: &[Case] = &[
    Case::must("unix/answered", "REQ-1", "a request in flight gets its whole response")
        .expects("a request in flight over a unix socket is answered")
        .since("a proxy on the same machine speaks over one, and loses as much")
        .needs(&[Need::Unix, Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client_to(&s.unix_address()?)?;
            s.ask_slow(&mut client, SLOW).until_read();
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must(
        "unix/rest-fin",
        "IDLE-1",
        "a keep-alive connection quiet for longer than the quiet window ends with FIN at once",
    )
    .expects("connections over a unix socket that were long quiet end within 5 s")
    .since("an end that waits for them is a kill after 30 s")
    .needs(&[Need::Unix])
    .wants(&[EndedAtRest])
    .control(&[Open])
    .script(|s| {
        let mut client = s.client_to(&s.unix_address()?)?;
        let before = s.ask_quick(&mut client).answered(PATIENCE);
        if before.outcome != Answered {
            s.saw(before);
            return Ok(());
        }
        s.pause(QUIET);
        s.signal()?;
        let end = client.ends_by(ms(5000));
        s.saw(end);
        Ok(())
    }),
    Case::must("unix/refused", "LIS-1", "after the seal a connect is refused within 100 ms")
        .expects("a second after the signal, connects to the unix socket are refused, though a request is in flight")
        .since("a proxy that is refused tries the next server")
        .needs(&[Need::Unix, Need::Slow])
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let address = s.unix_address()?;
            let mut busy = s.client_to(&address)?;
            s.ask_slow(&mut busy, 2 * SLOW).until_read();
            s.signal()?;
            s.pause(ms(1000));
            s.saw(s.quick_at(&address));
            Ok(())
        }),
    Case::must("unix/queue", "LIS-2", "every connection that the kernel completed before the seal is served")
        .expects("requests that wait in the accept queue of the unix socket at the signal are answered")
        .since("their clients are connected and have sent all")
        .needs(&[Need::Unix])
        .wants(&[Answered, ToldClose])
        .control(&[Answered, ToldClose])
        .script(|s| {
            let address = s.unix_address()?;
            s.server.freeze();
            let mut clients = (0..20).map(|_| s.client_to(&address)).collect::<Result<Vec<_>, _>>()?;
            for client in &mut clients {
                s.ask_quick(client);
            }
            s.signal()?;
            s.server.thaw();
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::should("unix/removed", "LIS-7", "a unix socket's path is removed on a clean end")
        .expects("the unix socket's path is gone when the process has ended")
        .since("the next start finds the address in use, or a proxy connects to nobody")
        .needs(&[Need::Unix])
        .wants(&[Free])
        .control(&[Taken])
        .script(|s| {
            let Some(path) = s.server.unix.clone() else { return Ok(()) };
            s.signal()?;
            let _whether_or_not = s.exits_by(ms(10_000));
            s.saw(match wait_until(ms(100), || !path.exists()) {
                true => Seen::new(Free, "the path is gone"),
                false => Seen::new(Taken, "the path is still there"),
            });
            Ok(())
        }),
];
