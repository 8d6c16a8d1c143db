//! TLS: an end that can't be forged, and handshakes that are under way.

use crate::case::{Case, Need, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{PATIENCE, QUIET, SLOW, Stage, Trouble};
use crate::wire::http1::Client;

pub(super) const SECTION: Section = Section { title: "TLS", cases: CASES };

const NOTIFY: &str = "close_notify before FIN";
const HANDSHAKE: &str =
    "a handshake under way at the signal completes and is served once, or ends within its own timeout";
const ALL: &str = "every row above holds over TLS";
const TRUNCATION: &str =
    "a bare FIN can be forged by anyone on the way: to the client the answer may be cut (RFC 8446, section 6.1)";

const CASES: &[Case] = &[
    Case::must("tls/notify-at-rest", "TLS-1", NOTIFY)
        .expects("a connection at rest ends with close_notify and then FIN")
        .since(TRUNCATION)
        .needs(&[Need::Tls])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut client = client(s)?;
            let before = s.ask_quick(&mut client).answered(PATIENCE);
            if before.outcome != Answered {
                s.saw(before);
                return Ok(());
            }
            s.pause(QUIET);
            s.signal()?;
            let end = client.ends_by(ms(5000));
            s.saw(notified(&client, end));
            Ok(())
        }),
    Case::must("tls/notify-after-answer", "TLS-1", NOTIFY)
        .expects("behind the answer of a request in flight come close_notify and then FIN")
        .since(TRUNCATION)
        .needs(&[Need::Tls, Need::Slow])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut client = busy(s)?;
            s.signal()?;
            let answer = client.answer(PATIENCE);
            let seen = match answer {
                Ok(_) => {
                    let end = client.wire.end(crate::clock::now() + ms(if s.is_control() { 1000 } else { 3000 }));
                    notified(&client, Seen::rest(end))
                }
                Err(_) => client.fate(&answer),
            };
            s.saw(client.became(seen));
            Ok(())
        }),
    Case::should("tls/handshake-half", "TLS-2", HANDSHAKE)
        .expects("a handshake half done at the signal completes, and its request is answered")
        .since("a handshake takes round trips; on a phone that is half a second")
        .needs(&[Need::Tls])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let (mut client, rest) = half_a_hello(s)?;
            s.signal()?;
            s.settle();
            let shaken =
                client.wire.tls().is_some_and(|tls| tls.send_raw(&rest).and_then(|()| tls.shake_hands()).is_ok());
            let seen = match shaken {
                true => s.ask_quick(&mut client).answered(PATIENCE),
                false => Seen::new(Lost, "the handshake did not complete"),
            };
            s.saw(client.became(seen));
            Ok(())
        }),
    Case::must("tls/handshake-stuck", "TLS-2", HANDSHAKE)
        .expects("a handshake that never completes does not keep the process past its grace period of 3 s")
        .since("one such client, and every end takes until the kill")
        .needs(&[Need::Tls, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _half = half_a_hello(s)?;
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("tls/silent-holds-nothing", "TLS-2", HANDSHAKE)
        .expects("connections on which no handshake began do not keep the process: it ends within 8 s")
        .since("browsers and balancers open connections ahead of need; they are not work")
        .needs(&[Need::Tls])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut silent = (0..3).map(|_| client(s)).collect::<Result<Vec<_>, _>>()?;
            for client in &mut silent {
                client.wire.until_accepted();
            }
            s.signal()?;
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::must("tls/answered", "TLS-3", ALL)
        .expects("a request in flight over TLS is answered")
        .since("this is what a graceful end is for")
        .needs(&[Need::Tls, Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = busy(s)?;
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("tls/stream", "TLS-3", ALL)
        .expects("a streamed answer over TLS is whole at the end")
        .since("a download that looks complete and is not corrupts whatever reads it")
        .needs(&[Need::Tls, Need::Stream])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = client(s)?;
            client.knows(s.found.stream_length).get(&s.path_of_stream());
            client.stirs_within(PATIENCE);
            s.pause(ms(200));
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("tls/upload", "TLS-3", ALL)
        .expects("an upload over TLS whose second half comes after the signal is answered")
        .since("an upload takes long, and is lost as a whole")
        .needs(&[Need::Tls, Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = client(s)?;
            client.ask("POST", &s.path_of(Work::Upload), "content-length: 1000\r\n");
            client.send([b'x'; 400], "400 bytes").until_read();
            s.signal()?;
            s.pause(ms(1000));
            let fate = client.send([b'x'; 600], "600 bytes").answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("tls/refused", "TLS-3", ALL)
        .expects("a second after the signal, connects to the TLS port are refused, though a request is in flight")
        .since("a balancer that is refused tries the next server")
        .needs(&[Need::Tls, Need::Slow])
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let address = s.tls_address()?;
            let mut busy = s.client_to(&address)?;
            s.ask_slow(&mut busy, 2 * SLOW).until_read();
            s.signal()?;
            s.pause(ms(1000));
            s.saw(s.quick_at(&address));
            Ok(())
        }),
];

fn client(s: &Stage<'_>) -> Result<Client, Trouble> {
    s.client_to(&s.tls_address()?)
}

fn busy(s: &Stage<'_>) -> Result<Client, Trouble> {
    let mut client = client(s)?;
    s.ask_slow(&mut client, SLOW).until_read();
    Ok(client)
}

/// A connection on which half a ClientHello was sent and read, and the other half.
fn half_a_hello(s: &Stage<'_>) -> Result<(Client, Vec<u8>), Trouble> {
    let mut client = client(s)?;
    let mut rest = Vec::new();
    if let Some(tls) = client.wire.tls() {
        let hello = tls.records().map_err(|error| Trouble::Broken(error.to_string()))?;
        let (first, second) = hello.split_at(hello.len() / 2);
        tls.send_raw(first).map_err(|error| Trouble::Broken(error.to_string()))?;
        rest = second.to_vec();
    }
    client.wire.until_read();
    Ok((client, rest))
}

fn notified(client: &Client, end: Seen) -> Seen {
    match client.wire.notified() {
        Some(false) if end.outcome == EndedAtRest => client.became(Seen::new(Truncated, "FIN without close_notify")),
        _ => end,
    }
}
