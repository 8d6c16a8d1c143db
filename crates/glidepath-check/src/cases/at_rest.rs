//! HTTP/1 at rest: connections on which nothing is asked when the signal comes.

use crate::case::{ANYTHING, Case, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::stage::{MARGIN, PATIENCE, QUIET};
use crate::wire::Look;
use crate::wire::http1::Client;

pub(super) const SECTION: Section = Section { title: "HTTP/1 at rest", cases: CASES };

const CASES: &[Case] = &[
    Case::must("idle/long-quiet", "IDLE-1", "a keep-alive connection quiet for longer than the quiet window ends with FIN at once; RST never")
        .expects("connections that were long quiet end with FIN, within 5 s")
        .since("a pool throws away a connection that ended with FIN; one that ended with RST is an error in somebody's log")
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut clients = s.many_at_rest(5)?;
            s.pause(QUIET);
            s.signal()?;
            s.all_end_by(&mut clients, ms(5000))
        }),
    Case::should("idle/long-quiet-at-once", "IDLE-1", "a keep-alive connection quiet for longer than the quiet window ends with FIN at once")
        .expects("connections that were long quiet end within 500 ms of the signal")
        .since("every moment that it stays open, a client may send a request on it")
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut clients = s.many_at_rest(5)?;
            s.pause(QUIET);
            s.signal()?;
            s.all_end_by(&mut clients, ms(500))
        }),
    Case::must("idle/rest-holds-nothing", "IDLE-1", "a keep-alive connection quiet for longer than the quiet window ends with FIN at once")
        .expects("the process ends within 8 s, with keep-alive connections open and quiet")
        .since("pools and balancers keep connections open for minutes; an end that waits for them is a kill after 30 s")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _clients = s.many_at_rest(5)?;
            s.pause(QUIET);
            s.signal()?;
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::should("idle/quiet-window", "IDLE-2", "a request that comes on a connection still within its quiet window is answered")
        .expects("a request sent right behind the signal, on a connection just used, is answered")
        .since("the client could not know; a POST that is lost here can't be sent again")
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut clients = s.just_used(10)?;
            s.signal()?;
            s.settle_briefly();
            for client in &mut clients {
                s.ask_quick(client);
            }
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::should("idle/quiet-window-close", "IDLE-2", "is answered, with `Connection: close`")
        .expects("the answers to such late requests say close")
        .since("a client that is not told sends its next request on a connection that is about to end")
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut clients = s.just_used(5)?;
            s.signal()?;
            s.settle_briefly();
            for client in &mut clients {
                s.ask_quick(client);
            }
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::must("idle/in-buffer", "IDLE-3", "bytes already in the socket's receive buffer count as a request: answered, never closed under")
        .expects("requests that reached the server before the signal are answered, on connections at rest")
        .since("the request was there first; nobody told the client, and its connection is closed under it")
        .repeats(3, 1.0)
    .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut clients = s.many_at_rest(40)?;
            s.pause(QUIET);
            s.server.freeze();
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
    Case::must("idle/in-buffer-first", "IDLE-3", "bytes already in the socket's receive buffer count as a request: answered, never closed under")
        .expects("requests that reached the server before the signal are answered, first on their connections")
        .since("a new client's very first request is lost")
        .repeats(3, 1.0)
    .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut clients: Vec<Client> = (0..40).map(|_| s.accepted()).collect::<Result<_, _>>()?;
            s.pause(ms(300));
            s.server.freeze();
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
    Case::must("idle/silent-holds-nothing", "IDLE-4", "a connection that never sent a byte does not hold the exit")
        .expects("the process ends within 8 s, with connections open that never sent a byte")
        .since("browsers and balancers open connections ahead of need; they are not work")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _clients: Vec<Client> = (0..5).map(|_| s.accepted()).collect::<Result<_, _>>()?;
            s.signal()?;
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::should("idle/silent-soon", "IDLE-4", "a connection that never sent a byte does not hold the exit (<= quiet window)")
        .expects("with such connections, the process ends within 2 s")
        .since("a deploy waits for it")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _clients: Vec<Client> = (0..5).map(|_| s.accepted()).collect::<Result<_, _>>()?;
            s.signal()?;
            s.saw(s.exits_by(ms(2000)));
            Ok(())
        }),
    Case::should("idle/silent-fin", "IDLE-4", "a connection that never sent a byte does not hold the exit")
        .expects("a connection that never sent a byte ends with FIN and not with RST")
        .since("a client that finds FIN opens another one; RST it has to report")
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut clients: Vec<Client> = (0..5).map(|_| s.accepted()).collect::<Result<_, _>>()?;
            s.signal()?;
            s.all_end_by(&mut clients, ms(8000))
        }),
    Case::should("idle/half-head-first", "IDLE-5", "a request head half sent at the signal, first on its connection or later, is answered if it completes within the head timeout")
        .expects("a head half sent at the signal, first on its connection, is answered, or turned away with 503, when it completes a second later")
        .since("the server has read a part of the request; the client can't take it back")
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.accepted()?;
            client.start_head("GET", &s.path_of(crate::settings::Work::Quick), "");
            s.signal()?;
            s.pause(ms(1000));
            let fate = client.finish_head().answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("idle/half-head-later", "IDLE-5", "a request head half sent at the signal, first on its connection or later, is answered if it completes within the head timeout")
        .expects("a head half sent at the signal, on a connection used before, is answered, or turned away with 503, when it completes a second later")
        .since("the server has read a part of the request; the client can't take it back")
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.at_rest()?;
            client.start_head("GET", &s.path_of(crate::settings::Work::Quick), "");
            s.signal()?;
            s.pause(ms(1000));
            let fate = client.finish_head().answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("idle/one-byte", "IDLE-5", "a request head half sent at the signal, first on its connection or later, is answered if it completes within the head timeout")
        .expects("a request of which one byte had come at the signal is answered, or turned away with 503, when the rest comes")
        .since("a packet boundary may fall anywhere, and clients on phones see it often")
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.at_rest()?;
            let head = client.head_of("GET", &s.path_of(crate::settings::Work::Quick), "");
            client.send(&head[..1], "one byte of a head").until_read();
            s.signal()?;
            s.pause(ms(500));
            let fate = client.send(&head[1..], "the rest of it").answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("idle/half-head-bounded", "IDLE-5", "never the whole grace period")
        .expects("a head that never completes does not keep the process past its grace period of 3 s")
        .since("one stalled client would keep the process until it is killed, with all that others still do in it")
        .needs(&[crate::case::Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut first = s.accepted()?;
            let mut later = s.at_rest()?;
            for client in [&mut first, &mut later] {
                client.start_head("GET", &s.path_of(crate::settings::Work::Quick), "");
            }
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should("idle/half-head-ends", "IDLE-5", "if not, 408 and close, never the whole grace period")
        .expects("a head that never completes ends by its own timeout: the process ends within 20 s of a grace period of 60 s")
        .since("without a timeout for heads, each stalled client costs a whole grace period")
        .needs(&[crate::case::Need::AnyGrace])
        .grace(60.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.accepted()?;
            client.start_head("GET", &s.path_of(crate::settings::Work::Quick), "");
            s.signal()?;
            s.saw(s.exits_by(ms(20_000)));
            Ok(())
        }),
    Case::must("idle/crowd", "IDLE-6", "connections at rest end in bounded CPU, in time linear in their number")
        .expects("300 connections at rest all end with FIN, within 5 s")
        .since("a balancer keeps hundreds of them, and all are closed in one moment")
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut clients = s.many_at_rest(300)?;
            s.pause(QUIET);
            s.signal()?;
            if s.is_control() {
                s.pause(ms(1000));
                clients.iter().for_each(|client| s.saw(at_rest_still(client)));
                return Ok(());
            }
            s.all_end_by(&mut clients, ms(5000))
        }),
    Case::must("idle/ends-0-connections", "IDLE-1", "ends with FIN at once; RST never")
        .expects("a connection that was told close with its answer ends with FIN, once the client has read all of it")
        .since("a server that closes too early resets, and the reset may overtake the answer (RFC 9112, section 9.6)")
        .wants(&[EndedAtRest])
        .control(ANYTHING)
        .script(|s| {
            let mut client = s.client()?;
            let close = "connection: close\r\n";
            client.ask("GET", &s.path_of(crate::settings::Work::Quick), close);
            client.until_read();
            s.signal()?;
            let fate = client.answer(PATIENCE);
            if fate.is_err() {
                let fate = client.fate(&fate);
                s.saw(fate);
                return Ok(());
            }
            let end = client.ends_by(MARGIN * 3);
            s.saw(end);
            Ok(())
        }),
];

fn at_rest_still(client: &Client) -> Seen {
    match client.look() {
        Look::Quiet => Seen::new(Open, "still open"),
        Look::Bytes => Seen::new(Wrong, "bytes that nobody asked for"),
        Look::Fin => Seen::new(EndedAtRest, "FIN"),
        Look::Reset => Seen::new(Reset, "RST"),
    }
}
