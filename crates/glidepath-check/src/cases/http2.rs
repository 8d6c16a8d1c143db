//! HTTP/2: an end that both sides agree on (RFC 9113, section 6.8).

use crate::case::{Case, Need, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{MARGIN, PATIENCE, QUIET, SLOW};
use crate::wire::End;
use crate::wire::http2::{ANY_STREAM, Http2, PREFACE};

pub(super) const SECTION: Section = Section { title: "HTTP/2", cases: CASES };

const TWO: &str = "GOAWAY(2^31-1), one round trip (PING), GOAWAY(last id), streams up to it finish, FIN";
const RUDE: &str =
    "a peer that never acknowledges the PING, one that ignores GOAWAY, one that never sends its preface: bounded";
const KILLED: &str = "one such peer, and every end takes until the kill";

const CASES: &[Case] = &[
    Case::must("h2/streams-finish", "H2-1", "streams up to it finish")
        .expects("streams in flight at the signal are answered, each whole")
        .since("one connection carries hundreds of requests: cut it, and all of them are lost at once")
        .needs(&[Need::Http2, Need::Slow, Need::Stream])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2()?;
            let slow = client.get(&s.settings.path(Work::Slow, SLOW, 0));
            let stream = client.get(&s.path_of_stream());
            client.until(PATIENCE, |client| client.streams[&stream].bytes > 0);
            s.signal()?;
            client.until(PATIENCE, |client| client.is_done(slow) && client.is_done(stream));
            for (id, length) in [(slow, None), (stream, s.found.stream_length)] {
                let fate = client.became(client.fate(id, length));
                s.saw(fate);
            }
            Ok(())
        }),
    Case::must("h2/goaway", "H2-1", TWO)
        .expects("a connection with a stream in flight gets GOAWAY within a second of the signal")
        .since("a client that is not told opens its next stream on a connection that is about to end")
        .needs(&[Need::Http2, Need::Slow])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            client.get(&s.settings.path(Work::Slow, 2 * SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            let told = client.told_by(ms(1000));
            s.saw(told);
            Ok(())
        }),
    Case::should("h2/two-goaways", "H2-1", TWO)
        .expects("the first GOAWAY turns nobody away (last stream 2^31-1), a later one names the last stream")
        .since("with one GOAWAY only, streams that cross it on the way are lost or refused (RFC 9113, section 6.8)")
        .needs(&[Need::Http2, Need::Slow])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            let slow = client.get(&s.settings.path(Work::Slow, 2 * SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            client.until(if s.is_control() { ms(1000) } else { PATIENCE }, |client| client.goaways.len() > 1);
            let seen = match client.goaways[..] {
                [] if client.over.is_some() => Seen::new(Lost, "the connection ended without GOAWAY"),
                [] => Seen::new(Open, "no GOAWAY"),
                [(ANY_STREAM, _), (last, _), ..] if last == slow => Seen::new(ToldClose, "two of them, as wanted"),
                [(ANY_STREAM, _)] => Seen::new(Wrong, "the first only: which streams were done is never said"),
                [(first, _), ..] => Seen::new(Wrong, format!("the first GOAWAY already names stream {first}")),
            };
            let seen = client.became(seen);
            s.saw(seen);
            Ok(())
        }),
    Case::must("h2/no-error", "H2-1", TWO)
        .expects("GOAWAY says NO_ERROR")
        .since("another code is an error to the client's library, and makes it retry or alarm")
        .needs(&[Need::Http2])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            s.signal()?;
            let told = client.told_by(ms(5000));
            s.saw(match client.goaways.iter().find(|(_, error)| *error != 0) {
                Some((_, error)) => Seen::new(Wrong, format!("GOAWAY with error {error}")),
                None => told,
            });
            Ok(())
        }),
    Case::must("h2/fin", "H2-1", TWO)
        .expects("behind the last stream's answer comes FIN within 3 s, and not RST")
        .since("RST can destroy an answer that the client has not read yet")
        .needs(&[Need::Http2, Need::Slow])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            let slow = client.get(&s.settings.path(Work::Slow, SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            client.until(PATIENCE, |client| client.is_done(slow));
            let fate = client.fate(slow, None);
            let end = client.end(if s.is_control() { ms(1000) } else { ms(3000) });
            let seen = if matches!(fate.outcome, Answered | ToldClose) { Seen::rest(end) } else { fate };
            let seen = client.became(seen);
            s.saw(seen);
            Ok(())
        }),
    Case::must("h2/upload", "REQ-4", "an upload in flight is read to its end and answered")
        .expects("an upload on a stream whose second half comes after the signal is answered")
        .since("an upload takes long, and is lost as a whole")
        .needs(&[Need::Http2, Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2()?;
            let id = client.ask("POST", &s.path_of(Work::Upload), true);
            client.data(id, &[b'x'; 400], false);
            client.wire().until_read();
            s.signal()?;
            client.until(ms(1000), |_| false);
            client.data(id, &[b'x'; 600], true);
            client.until(PATIENCE, |client| client.is_done(id));
            let fate = client.became(client.fate(id, None));
            s.saw(fate);
            Ok(())
        }),
    Case::must("h2/between", "H2-2", "a stream opened between the two is served")
        .expects("a stream that the client opens as it hears of the end is answered, or GOAWAY says that it was not done")
        .since("a client may send again what was surely not done; what may have been done it can't")
        .needs(&[Need::Http2, Need::Slow])
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2()?;
            client.polite = false;
            let slow = client.get(&s.settings.path(Work::Slow, SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            client.until(ms(if s.is_control() { 100 } else { 1500 }), Http2::told);
            let late = client.get(&s.path_of(Work::Quick));
            client.acknowledge();
            client.polite = true;
            client.until(PATIENCE, |client| client.is_done(late) && client.is_done(slow));
            client.until(ms(1000), |client| client.is_done(late));
            let fate = client.became(client.fate(late, s.found.quick_length));
            s.saw(fate);
            Ok(())
        }),
    Case::must("h2/race", "H2-2", "one above the last id is not processed and the client can tell")
        .expects("of streams opened one behind the other over the signal, each is answered, or GOAWAY says that it was not done")
        .since("that is every busy gRPC client at every deploy")
        .needs(&[Need::Http2])
        .repeats(3, 1.0)
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2()?;
            let path = s.path_of(Work::Quick);
            let mut opened = Vec::new();
            for turn in 0..60 {
                if turn == 20 {
                    s.signal()?;
                }
                // A client that has heard of the end opens no more.
                if client.told() || client.over.is_some() {
                    break;
                }
                opened.push(client.get(&path));
                client.until(ms(2), |_| false);
            }
            client.until(PATIENCE, |client| opened.iter().all(|id| client.is_done(*id)));
            for id in opened.iter().rev().take(40) {
                let fate = client.fate(*id, s.found.quick_length);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::should("h2/above-last", "H2-2", "one above the last id is not processed and the client can tell")
        .expects("a stream opened after the last GOAWAY is not answered")
        .since("the client has been told that it will not be done, and does it elsewhere: done twice")
        .needs(&[Need::Http2, Need::Slow])
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2()?;
            let slow = client.get(&s.settings.path(Work::Slow, 2 * SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            let has_last = |client: &Http2| client.goaways.last().is_some_and(|(last, _)| *last != ANY_STREAM);
            let told = client.until(ms(if s.is_control() { 100 } else { 1500 }), has_last);
            if !told && !s.is_control() {
                s.saw(Seen::new(Wrong, "no GOAWAY that names the last stream came"));
                return Ok(());
            }
            let late = client.get(&s.path_of(Work::Quick));
            client.until(PATIENCE, |client| client.is_done(late) || client.is_done(slow));
            let fate = client.became(client.fate(late, None));
            s.saw(fate);
            Ok(())
        }),
    Case::must("h2/idle-told", "H2-3", "an idle connection: GOAWAY, then FIN, promptly")
        .expects("an idle connection gets GOAWAY within 5 s of the signal")
        .since("without it the client can't know whether its last streams were done (RFC 9113, section 6.8)")
        .needs(&[Need::Http2])
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            s.pause(QUIET);
            s.signal()?;
            let told = client.told_by(ms(5000));
            s.saw(told);
            Ok(())
        }),
    Case::must("h2/idle-holds-nothing", "H2-3", "an idle connection: GOAWAY, then FIN, promptly")
        .expects("with an idle connection open, the process ends within 8 s")
        .since("every gRPC client keeps one open for ever")
        .needs(&[Need::Http2])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.http2()?;
            s.pause(QUIET);
            s.signal()?;
            let _end = client.end(if s.is_control() { ms(500) } else { ms(8000) });
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::should("h2/idle-promptly", "H2-3", "an idle connection: GOAWAY, then FIN, promptly")
        .expects("an idle connection ends with FIN within 2 s of the signal")
        .since("a deploy waits for it")
        .needs(&[Need::Http2])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            s.pause(QUIET);
            s.signal()?;
            let end = client.end(if s.is_control() { ms(1000) } else { ms(4000) });
            let seen = Seen::rest(end).by(client.wire().pen().recorder(), ms(2000));
            let seen = client.became(seen);
            s.saw(seen);
            Ok(())
        }),
    Case::must("h2/no-ping-ack", "H2-4", RUDE)
        .expects("a peer that answers no PING does not keep the process past its grace period of 3 s")
        .since(KILLED)
        .needs(&[Need::Http2, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.http2()?;
            client.polite = false;
            let id = client.get(&s.path_of(Work::Quick));
            client.until(PATIENCE, |client| client.is_done(id));
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("h2/ignores-goaway", "H2-4", RUDE)
        .expects("a peer that opens streams on and on does not keep the process past its grace period of 3 s")
        .since(KILLED)
        .needs(&[Need::Http2, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.http2()?;
            s.signal()?;
            let bound = if s.is_control() { ms(500) } else { s.deadline() };
            while client.over.is_none() && s.since_signal() < bound {
                client.get(&s.path_of(Work::Quick));
                client.until(ms(10), |_| false);
            }
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("h2/half-preface", "H2-4", RUDE)
        .expects("a peer that sent half its preface does not keep the process past its grace period of 3 s")
        .since(KILLED)
        .needs(&[Need::Http2, Need::Grace])
        .grace(3.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.silent_http2()?;
            client.wire().send(&PREFACE[..12], "half a preface");
            client.wire().until_read();
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should("h2/late-preface", "H2-5", "a preface that comes after the signal gets GOAWAY at once")
        .expects("a preface that comes after the signal is answered by GOAWAY or the end, within 2 s")
        .since("a client that gets nothing waits, and its first requests with it")
        .needs(&[Need::Http2])
        .wants(&[ToldClose, EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut client = s.silent_http2()?;
            client.wire().until_accepted();
            s.signal()?;
            s.settle();
            client.preface();
            client.until(if s.is_control() { ms(500) } else { ms(2000) }, Http2::told);
            let seen = match (client.told(), client.over) {
                (true, _) => Seen::new(ToldClose, "GOAWAY"),
                (false, Some(End::Fin)) => Seen::new(EndedAtRest, "FIN"),
                (false, Some(_)) => Seen::new(Reset, "RST"),
                (false, None) => Seen::new(Open, "no GOAWAY and no end"),
            };
            let seen = client.became(seen);
            s.saw(seen);
            Ok(())
        }),
    Case::must("h2/alpn", "H2-6", "cleartext prior knowledge and TLS ALPN behave alike")
        .expects("over TLS, where ALPN chose h2, a stream in flight is answered and GOAWAY comes")
        .since("browsers speak HTTP/2 over TLS only")
        .needs(&[Need::TlsHttp2, Need::Slow])
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.http2_to(&s.tls_address()?)?;
            client.preface();
            client.until(PATIENCE, |client| client.settled);
            let slow = client.get(&s.settings.path(Work::Slow, SLOW, 0));
            client.wire().until_read();
            s.signal()?;
            client.until(SLOW_AND_MARGIN, |client| client.is_done(slow));
            let fate = client.became(client.fate(slow, None));
            s.saw(fate);
            Ok(())
        }),
];

const SLOW_AND_MARGIN: std::time::Duration = ms(SLOW + 2000 + MARGIN.as_millis() as u64);
