//! Upgraded and endless: WebSockets and event streams, which never end by themselves.

use std::time::Duration;

use crate::case::{Case, Need, Section};
use crate::clock::{ms, now};
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{PATIENCE, SLOW, Trouble};
use crate::wire::End;
use crate::wire::http1::Missing;
use crate::wire::http2::Http2;
use crate::wire::websocket::{CLOSE, UPGRADE, WebSocket, frame_of};

pub(super) const SECTION: Section = Section { title: "Upgraded and endless", cases: CASES };

const GOODBYE: &str = "a WebSocket gets Close 1001 at the drain, at a frame boundary; its reply is awaited; then FIN";
const EVENTS: &str =
    "`text/event-stream` responses are ended at an event boundary, with a proper end of body, at the drain";

const OVER_HTTP2: &str = "WS-1 to WS-5 hold over HTTP/2 as well";

const CASES: &[Case] = &[
    Case::should("ws/close-frame", "WS-1", GOODBYE)
        .expects("a WebSocket gets a Close frame within 3 s of the signal")
        .since("without it a browser reports 1006, an abnormal end, and libraries treat it as an error (RFC 6455, section 7.1.5)")
        .needs(&[Need::Ws])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut socket = open_and_tried(s)?;
            s.signal()?;
            let (told, _) = socket.told(ms(if s.is_control() { 1000 } else { 3000 }));
            s.saw(told);
            Ok(())
        }),
    Case::should("ws/going-away", "WS-1", GOODBYE)
        .expects("its code is 1001 (going away), or 1012 (service restart)")
        .since("clients reconnect on 1001, and give up on others (RFC 6455, section 7.4.1)")
        .needs(&[Need::Ws])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut socket = open_and_tried(s)?;
            s.signal()?;
            let (told, code) = socket.told(ms(if s.is_control() { 1000 } else { 3000 }));
            s.saw(match code {
                None | Some(1001 | 1012) => told,
                Some(1005) => Seen::new(Wrong, "a Close without a code"),
                Some(code) => Seen::new(Wrong, format!("Close with code {code}")),
            });
            Ok(())
        }),
    Case::must("ws/fin", "WS-1", "its reply is awaited; then FIN")
        .expects("when the client has answered the Close, FIN comes within 2 s")
        .since("the server is the one to end the connection then (RFC 6455, section 7.1.1)")
        .needs(&[Need::Ws])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut socket = open_and_tried(s)?;
            s.signal()?;
            let (told, code) = socket.told(ms(if s.is_control() { 1000 } else { 3000 }));
            let Some(code) = code else {
                if !s.is_control() {
                    return Err(Trouble::Skip("it sends no Close that could be answered".into()));
                }
                s.saw(told);
                return Ok(());
            };
            socket.close(code);
            let end = socket.end(ms(2000));
            let seen = socket.became(Seen::rest(end));
            s.saw(seen);
            Ok(())
        }),
    Case::should("ws/message-first", "WS-1", "at a frame boundary")
        .expects("messages under way around the signal come back whole, up to the Close")
        .since("half a frame breaks the client's parser, and it reports garbage")
        .needs(&[Need::Ws])
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut socket = s.websocket()?;
            socket.say("over and over");
            if socket.message(ms(1000)).is_err() {
                return Err(Trouble::Skip("its WebSocket does not send back what it is sent".into()));
            }
            for turn in 0..40 {
                if turn == 20 {
                    s.signal()?;
                }
                socket.say("over and over");
                match socket.message(ms(1000)) {
                    Ok(frame) if frame.close_code().is_some() => {
                        let seen = socket.became(Seen::new(ToldClose, "every frame whole, and a Close"));
                        s.saw(seen);
                        return Ok(());
                    }
                    Ok(frame) if frame.payload == b"over and over" => {}
                    Ok(frame) => {
                        s.saw(Seen::new(Wrong, format!("a frame of kind {:#x} that is no echo", frame.kind)));
                        return Ok(());
                    }
                    Err(End::Silence) => break,
                    Err(end) => {
                        s.saw(Seen::new(Lost, format!("{end:?} without a Close frame")));
                        return Ok(());
                    }
                }
                s.pause(ms(5));
            }
            let (told, _) = socket.told(ms(if s.is_control() { 300 } else { 3000 }));
            s.saw(if told.outcome == Open && s.is_control() { Seen::new(Answered, "all came back") } else { told });
            Ok(())
        }),
    Case::should("ws/half-frame", "WS-2", "one that does nothing is closed for it")
        .expects("a WebSocket whose client has sent half a frame gets its Close within 3 s, too")
        .since("a handler that waits for the other half hears of nothing else, and the client is slow or gone")
        .needs(&[Need::Ws])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut socket = open_and_tried(s)?;
            socket.begin_to_say("the rest never comes");
            s.signal()?;
            let (told, _) = socket.told(ms(if s.is_control() { 1000 } else { 3000 }));
            s.saw(told);
            Ok(())
        }),
    Case::should("ws/http2-close-frame", "WS-7", OVER_HTTP2)
        .expects("a WebSocket on an HTTP/2 stream gets a Close frame within 3 s of the signal")
        .since("browsers that are offered it open WebSockets so, and see 1006 for a stream that is cut")
        .needs(&[Need::Ws, Need::Http2])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let (mut client, socket) = on_a_stream(s)?;
            s.signal()?;
            let told = told_on(&mut client, socket, ms(if s.is_control() { 1000 } else { 3000 }));
            s.saw(told);
            Ok(())
        }),
    Case::must("ws/http2-others", "WS-7", "the other streams of the connection go on")
        .expects("a request on another stream beside a WebSocket is answered")
        .since("the browser has one connection for the page, its calls and its WebSocket: they fall together")
        .needs(&[Need::Ws, Need::Http2, Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let (mut client, socket) = on_a_stream(s)?;
            let slow = client.get(&s.settings.path(Work::Slow, SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            client.until(PATIENCE, |client| client.is_done(slow) || client.close_code(socket).is_some());
            if let Some(code) = client.close_code(socket) {
                client.data(socket, &frame_of(CLOSE, &code.to_be_bytes()), true);
            }
            client.until(PATIENCE, |client| client.is_done(slow));
            let seen = client.became(client.fate(slow, None));
            s.saw(seen);
            Ok(())
        }),
    Case::must("ws/mute-peer", "WS-3", "a peer that does not answer the Close is cut after 5 s (setting), not at the deadline")
        .expects("a peer that answers no Close does not keep the process past its grace period of 3 s")
        .since("laptops sleep with a hundred tabs open")
        .needs(&[Need::Ws, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _mute = open_and_tried(s)?;
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should("ws/mute-peer-soon", "WS-3", "a peer that does not answer the Close is cut after 5 s (setting), not at the deadline")
        .expects("a peer that answers no Close is cut within 15 s of a grace period of 60 s")
        .since("one sleeping laptop, and every deploy takes the whole grace period")
        .needs(&[Need::Ws, Need::AnyGrace])
        .grace(60.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _mute = open_and_tried(s)?;
            s.signal()?;
            s.saw(s.exits_by(ms(15_000)));
            Ok(())
        }),
    Case::should("ws/late-upgrade", "WS-4", "an upgrade asked for in the drain: 503 with close, or 101 and then 1001")
        .expects("an upgrade asked for in the drain is turned away with an answer, or granted and said goodbye to")
        .since("a client that reconnects at once needs to hear that it is to go elsewhere")
        .needs(&[Need::Ws, Need::Slow])
        .wants(&[ToldClose, Refused])
        .control(&[Open])
        .script(|s| {
            let _busy = s.busy(3000)?;
            let mut client = s.accepted()?;
            client.start_head("GET", &s.path_of(Work::Ws), UPGRADE);
            s.signal()?;
            s.settle();
            client.finish_head();
            let head = client.head(PATIENCE);
            let seen = match &head {
                Ok(head) if head.status == 101 => {
                    WebSocket::of(client).told(ms(if s.is_control() { 700 } else { 3000 })).0
                }
                Ok(head) if head.status == 503 => Seen::new(Refused, "503"),
                Ok(head) => Seen::new(Wrong, format!("status {}", head.status)),
                Err(_) => client.fate(&head),
            };
            s.saw(seen);
            Ok(())
        }),
    Case::must("sse/holds-nothing", "SSE-1", EVENTS)
        .expects("an event stream does not keep the process past its grace period of 3 s")
        .since("it never ends by itself: a drain that waits for it waits for ever")
        .needs(&[Need::Sse, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.client()?;
            client.get(&s.path_of(Work::Sse));
            client.stirs_within(PATIENCE);
            s.signal()?;
            let exit = match s.is_control() {
                true => s.exits_by(ms(1000)),
                // It has to be read, or the server can't write its end.
                false => {
                    let _end = client.wire.end(now() + s.deadline());
                    s.exits_by(s.deadline())
                }
            };
            s.saw(exit);
            Ok(())
        }),
    Case::should("sse/proper-end", "SSE-1", EVENTS)
        .expects("an event stream ends with a proper end of body, and not by a cut")
        .since("a proxy logs a cut as an error of the server's, and some clients throw the last events away")
        .needs(&[Need::Sse, Need::Grace])
        .grace(3.0)
        .wants(&[Answered, ToldClose])
        .control(&[Open])
        .script(|s| {
            let (seen, _) = events(s)?;
            s.saw(seen);
            Ok(())
        }),
    Case::should("sse/event-boundary", "SSE-1", EVENTS)
        .expects("the last event of the stream is whole")
        .since("half an event is dropped by the client, without a word (HTML standard, 9.2.6)")
        .needs(&[Need::Sse, Need::Grace])
        .grace(3.0)
        .wants(&[Answered])
        .control(&[Open])
        .script(|s| {
            let (seen, events) = events(s)?;
            let is_whole = [&b"\n\n"[..], b"\r\n\r\n"].iter().any(|end| events.ends_with(end)) || events.is_empty();
            s.saw(match seen.outcome {
                Open => seen,
                _ if is_whole => Seen::new(Answered, "the last event is whole"),
                _ => Seen::new(Truncated, "the stream ends in the middle of an event"),
            });
            Ok(())
        }),
    Case::should("sse/soon", "SSE-1", EVENTS)
        .expects("an event stream is ended within 3 s of a grace period of 20 s")
        .since("a client of events reconnects by itself, and loses nothing by doing so early")
        .needs(&[Need::Sse, Need::AnyGrace])
        .grace(20.0)
        .wants(&[Answered, ToldClose, Truncated, Reset])
        .control(&[Open])
        .script(|s| {
            let mut client = s.client()?;
            client.get(&s.path_of(Work::Sse));
            let head = client.head(PATIENCE).map_err(no_head)?;
            s.signal()?;
            let (seen, _) = client.flows(&head, s.zero() + ms(if s.is_control() { 1000 } else { 3000 }));
            s.saw(seen);
            Ok(())
        }),
];

fn no_head(missing: Missing) -> Trouble {
    Trouble::Broken(format!("no head before the signal: {missing:?}"))
}

/// How an event stream ends, and what came on it.
fn events(s: &crate::stage::Stage<'_>) -> Result<(Seen, Vec<u8>), Trouble> {
    let mut client = s.client()?;
    client.get(&s.path_of(Work::Sse));
    let head = client.head(PATIENCE).map_err(no_head)?;
    s.pause(ms(350));
    s.signal()?;
    Ok(client.flows(&head, s.zero() + if s.is_control() { ms(1000) } else { s.deadline() }))
}

/// A WebSocket on which a message came back.
pub(super) fn open_and_tried(s: &crate::stage::Stage<'_>) -> Result<WebSocket, Trouble> {
    let mut socket = s.websocket()?;
    socket.say("hello");
    // Whether it echoes is its own affair: it has been upgraded.
    let _echo = socket.frame(ms(500));
    Ok(socket)
}

/// A WebSocket on a stream of an HTTP/2 connection, open.
fn on_a_stream(s: &crate::stage::Stage<'_>) -> Result<(Http2, u32), Trouble> {
    let mut client = s.http2()?;
    if !client.tunnels {
        return Err(Trouble::Skip("it offers no WebSockets over HTTP/2 (RFC 8441)".into()));
    }
    let socket = client.ask_for_websocket(&s.path_of(Work::Ws));
    client.until(PATIENCE, |client| client.streams[&socket].status.is_some());
    match client.streams[&socket].status {
        Some(200) => Ok((client, socket)),
        Some(status) => Err(Trouble::Skip(format!("a WebSocket over HTTP/2 gets {status}"))),
        None => Err(Trouble::Broken("no answer to a WebSocket over HTTP/2 before the signal".into())),
    }
}

/// Whether a Close came on the stream, and what else.
fn told_on(client: &mut Http2, socket: u32, bound: Duration) -> Seen {
    client.until(bound, |client| client.close_code(socket).is_some() || client.is_done(socket));
    let stream = &client.streams[&socket];
    let seen = match (client.close_code(socket), stream.reset, client.over) {
        (Some(code), ..) => Seen::new(ToldClose, format!("Close {code}")),
        (None, Some(error), _) => Seen::new(Reset, format!("RST_STREAM with error {error}, without a Close frame")),
        (None, None, None) if !stream.ended => Seen::new(Open, "no Close frame, and still open"),
        _ => Seen::new(Lost, "the stream ended without a Close frame"),
    };
    client.became(seen)
}
