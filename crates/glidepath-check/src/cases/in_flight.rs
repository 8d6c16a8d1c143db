//! HTTP/1 in flight: requests that are under way when the signal comes.

use crate::case::{ANYTHING, Case, Need, Section};
use crate::clock::{ms, now, since};
use crate::model::Outcome::*;
use crate::seen::{Seen, words};
use crate::settings::Work;
use crate::stage::{PATIENCE, SLOW, Script, Stage};
use crate::wire::http1::{Client, Missing};
use crate::wire::{End, Look};

pub(super) const SECTION: Section = Section { title: "HTTP/1 in flight", cases: CASES };

const CASES: &[Case] = &[
    Case::must("req/answered", "REQ-1", "a request in flight gets its whole response")
        .expects("requests in flight at the signal are answered")
        .since("this is what a graceful end is for: without it every deploy is an outage for somebody")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut clients: Vec<Client> = (0..10).map(|_| s.busy(SLOW)).collect::<Result<_, _>>()?;
            s.signal()?;
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::must("req/long", "REQ-11", "nothing is cancelled before the deadline")
        .expects("a request that takes 4 s is answered, in a grace period of 10 s")
        .since("reports and uploads take seconds; a grace period that is not granted is none")
        .needs(&[Need::AnySlow, Need::AnyGrace])
        .grace(10.0)
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.busy(4000)?;
            s.signal()?;
            let fate = client.answered(ms(8000));
            s.saw(fate);
            Ok(())
        }),
    Case::should("req/says-close", "REQ-2", "responses whose head is not yet written say `Connection: close`")
        .expects("an answer whose head is written in the drain says close")
        .since("a client that is not told sends its next request on a connection that is about to end (RFC 9112, section 9.6)")
        .needs(&[Need::Slow])
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/fin-after-answer", "REQ-1", "a request in flight gets its whole response")
        .expects("behind the answer of a request in flight comes FIN within 8 s, and not RST")
        .since("RST can destroy an answer that the client has not read yet (RFC 9112, section 9.6)")
        .needs(&[Need::Slow])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| end_behind_the_answer(s, 8000)),
    Case::should("req/fin-soon", "REQ-2", "responses whose head is not yet written say `Connection: close`")
        .expects("behind the answer of a request in flight comes FIN within a second")
        .since("as long as it stays open, the client may send its next request on it")
        .needs(&[Need::Slow])
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| end_behind_the_answer(s, 1000)),
    Case::must("req/stream", "REQ-3", "a streamed response goes on to its end")
        .expects("a streamed answer whose first part has come is whole at the end")
        .since("a download that looks complete and is not corrupts whatever reads it")
        .needs(&[Need::Stream])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.knows(s.found.stream_length).get(&s.path_of_stream());
            client.stirs_within(PATIENCE);
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/slow-reader", "REQ-3", "a slow reader gets every byte")
        .expects("a long answer that is read slowly is whole at the end")
        .since("most of it is still in the server when the signal comes; phones read slowly")
        .needs(&[Need::Big])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.narrow_client()?;
            client.knows(s.found.big_length).get(&s.path_of_big());
            client.stirs_within(PATIENCE);
            s.pause(ms(200));
            s.signal()?;
            s.pause(ms(1500));
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/upload", "REQ-4", "an upload in flight is read to its end and answered")
        .expects("an upload whose second half comes after the signal is answered")
        .since("an upload takes long, and is lost as a whole")
        .needs(&[Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.ask("POST", &s.path_of(Work::Upload), "content-length: 1000\r\n");
            client.send([b'x'; 400], "400 bytes").until_read();
            s.signal()?;
            s.pause(ms(1000));
            let fate = client.send([b'x'; 600], "600 bytes").answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/upload-trickles", "REQ-4", "an upload in flight is read to its end and answered")
        .expects("an upload that trickles on for two seconds after the signal is answered")
        .since("an upload takes long, and is lost as a whole")
        .needs(&[Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.ask("POST", &s.path_of(Work::Upload), "content-length: 2000\r\n");
            client.send([b'x'; 100], "100 bytes").until_read();
            s.signal()?;
            for _ in 0..19 {
                s.pause(ms(100));
                client.send([b'x'; 100], "100 bytes");
            }
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/upload-chunked", "REQ-4", "chunked with trailers too")
        .expects("a chunked upload, with trailers, that goes on after the signal is answered")
        .since("clients that don't know the length beforehand upload like this")
        .needs(&[Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.ask("POST", &s.path_of(Work::Upload), "transfer-encoding: chunked\r\ntrailer: sum\r\n");
            client.send("5\r\nhello\r\n", "a chunk").until_read();
            s.signal()?;
            s.pause(ms(1000));
            client.send("7\r\n, world\r\n", "a chunk").send("0\r\nsum: 12\r\n\r\n", "the last chunk, a trailer");
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/continue-told", "REQ-5", "`Expect: 100-continue` outstanding at the signal: 100 and then the answer")
        .expects("a client that was told 100 Continue before the signal sends its body, and is answered")
        .since("the server asked for the body; to close then is to break its word")
        .needs(&[Need::Upload])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.ask("POST", &s.path_of(Work::Upload), "expect: 100-continue\r\ncontent-length: 5\r\n");
            match client.head(PATIENCE) {
                Ok(head) if head.status == 100 => {}
                _ => return Err(crate::stage::Trouble::Skip("it does not say 100 Continue".into())),
            }
            s.signal()?;
            s.pause(ms(500));
            let fate = client.send("hello", "5 bytes").answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("req/continue-asked", "REQ-5", "100 and then the answer, or a final status; never a hang")
        .expects("a client that asks for 100 Continue just before the signal hears something within 5 s, and is answered or turned away")
        .since("a client waits for the word before it sends anything")
        .needs(&[Need::Upload])
        .repeats(3, 1.0)
        .wants(&[Answered, ToldClose, Refused, Wrong])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.accepted()?;
            s.server.freeze();
            client.ask("POST", &s.path_of(Work::Upload), "expect: 100-continue\r\ncontent-length: 5\r\n");
            s.signal()?;
            s.server.thaw();
            let fate = match client.head(PATIENCE) {
                Ok(head) if head.status == 100 => client.send("hello", "5 bytes").answered(PATIENCE),
                other => client.fate(&other),
            };
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/pipelined", "REQ-6", "pipelined requests: each answered, or the last answer says close")
        .expects("of three requests in a row each is answered, or the last answer says close")
        .since("behind an answer that says close, the client knows that the rest was not done; else it can't know")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            let slow = client.head_of("GET", &s.settings.path(Work::Slow, SLOW, 0), "");
            let quick = client.head_of("GET", &s.path_of(Work::Quick), "");
            client.send([slow, quick.clone(), quick].concat(), "three requests").until_read();
            s.signal()?;
            let fates = (0..3).map(|_| client.answered(PATIENCE));
            let mut up_to_close = Vec::new();
            for fate in fates {
                let is_last = fate.outcome != Answered;
                up_to_close.push(fate);
                if is_last {
                    break;
                }
            }
            up_to_close.into_iter().for_each(|fate| s.saw(fate));
            Ok(())
        }),
    Case::should("req/half-closed", "REQ-7", "a client that half-closed after its request gets its answer")
        .expects("a client that sends FIN behind its request gets its answer")
        .since("simple clients and some proxies end their side at once")
        .needs(&[Need::Slow])
        .wants(&[Answered, ToldClose])
        .control(&[Answered, ToldClose])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            client.half_close();
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/back-to-back", "REQ-8", "back-to-back keep-alive clients: none loses a request, each is told close")
        .expects("clients that ask again as soon as they are answered lose no request")
        .since("that is what every busy proxy in front of a server does; each lost request is a 502")
        .repeats(3, 0.75)
        .wants(&[ToldClose, EndedAtRest])
        .control(&[Answered])
        .script(|s| back_to_back(s, 8)),
    Case::should("req/back-to-back-told", "REQ-8", "back-to-back keep-alive clients: none loses a request, each is told close")
        .expects("clients that ask again as soon as they are answered are each told close with their last answer")
        .since("a client that is told has nothing to guess")
        .repeats(2, 1.0)
        .wants(&[ToldClose])
        .control(&[Answered])
        .script(|s| back_to_back(s, 4)),
    Case::should("req/prompt-exit", "REQ-9", "the process ends within 5 ms of the last piece of work (no polling)")
        .expects("the process ends within a second of its last answer")
        .since("whoever deploys waits for it; a poll adds up over a fleet")
        .needs(&[Need::Slow])
        .alone()
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let answer = client.answer(PATIENCE);
            let seen = match answer {
                Ok(_) => {
                    drop(client);
                    let answered = s.since_signal();
                    s.exits_by(answered + ms(1000))
                }
                Err(_) => client.fate(&answer),
            };
            s.saw(seen);
            Ok(())
        }),
    Case::must("req/panic", "REQ-10", "a handler that panics in the drain: 500, counted, the drain goes on")
        .expects("while another handler panics in the drain, a request in flight is answered")
        .since("one bad request must not take the others with it")
        .needs(&[Need::Slow, Need::Panic])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut busy = s.busy(SLOW)?;
            let mut panics = s.accepted()?;
            panics.start_head("GET", &s.path_of(Work::Panic), "");
            s.signal()?;
            s.settle();
            panics.finish_head();
            let _whatever = panics.answer(PATIENCE);
            let fate = busy.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("req/early-answer", "REQ-12", "an early final answer (413) while the body still arrives is readable to its end")
        .expects("an answer that comes before the body is sent can be read, though the client sends all of the body")
        .since("the client sees a broken pipe where it was to see why its upload is refused (RFC 9112, section 9.6)")
        .needs(&[Need::Task])
        .wants(&[Answered, ToldClose])
        .control(&[Answered, ToldClose])
        .script(|s| {
            const PIECE: usize = 64 << 10;
            let mut client = s.accepted()?;
            let length = format!("content-length: {}\r\n", PIECE * 32);
            client.start_head("POST", &s.settings.path(Work::Task, 0, 0), &length);
            s.signal()?;
            s.settle();
            client.finish_head();
            let sent_all = (0..32).all(|_| client.wire.send(&[b'x'; PIECE], "64 KiB of the body"));
            let mut fate = client.answered(PATIENCE);
            if !sent_all && fate.outcome != Lost {
                fate = Seen::new(Reset, "RST while the body was being sent");
            }
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/body-is-no-request", "REQ-12", "an early final answer (413) while the body still arrives is readable to its end")
        .expects("a body that the handler did not read is never answered as if it were a request")
        .since("whoever writes the body writes the next request: request smuggling (CWE-444)")
        .needs(&[Need::Task])
        .wants(&[EndedAtRest, Reset, Open])
        .control(&[EndedAtRest, Reset, Open])
        .script(|s| {
            for delay in [0, 5, 20] {
                let mut client = s.accepted()?;
                let body = client.head_of("GET", &s.path_of(Work::Quick), "");
                let length = format!("content-length: {}\r\n", body.len());
                client.start_head("POST", &s.settings.path(Work::Task, 0, 0), &length);
                if delay == 0 {
                    s.signal()?;
                    s.settle();
                }
                client.finish_head();
                s.pause(ms(delay));
                client.send(&body, "the body, which looks like a request");
                let _first = client.answer(PATIENCE);
                let second = client.answer(ms(700));
                let seen = match second {
                    Ok(answer) => Seen::new(Wrong, format!("a second answer, {}, to what was a body", answer.words())),
                    Err(Missing::Nothing(end)) => Seen::rest(end),
                    Err(Missing::Part(end)) => Seen::new(Wrong, format!("part of a second answer, and {end:?}")),
                    Err(Missing::Garbled) => Seen::new(Wrong, "bytes behind the answer that are not HTTP"),
                };
                let seen = client.became(seen);
                s.saw(seen);
                if s.server.ended().is_some() || !s.is_control() {
                    break;
                }
            }
            Ok(())
        }),
    Case::must("req/http10", "REQ-1", "a request in flight gets its whole response")
        .expects("an HTTP/1.0 request in flight gets its whole answer, and FIN behind it")
        .since("old proxies and health checks speak it, and FIN is all that ends their answers")
        .needs(&[Need::Stream])
        .wants(&[ToldClose])
        .control(&[ToldClose])
        .script(|s| {
            let mut client = s.client()?;
            let head = client.head_of("GET", &s.path_of_stream(), "").replace("HTTP/1.1", "HTTP/1.0");
            client.knows(s.found.stream_length).send(head, "GET, HTTP/1.0");
            client.stirs_within(PATIENCE);
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::must("req/no-stray-bytes", "REQ-1", "a request in flight gets its whole response")
        .expects("behind the answer of a request in flight nothing comes but the end")
        .since("what follows an answer is read as the next one")
        .needs(&[Need::Slow])
        .wants(&[EndedAtRest, Open])
        .control(ANYTHING)
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let answer = client.answer(PATIENCE);
            let seen = match &answer {
                Err(_) => client.fate(&answer),
                Ok(_) => match client.head(ms(1500)) {
                    Err(Missing::Nothing(end)) => Seen::rest(end),
                    other => Seen::new(Wrong, format!("more bytes behind the answer: {other:?}")),
                },
            };
            s.saw(seen);
            Ok(())
        }),
];

fn end_behind_the_answer(s: &mut Stage<'_>, milliseconds: u64) -> Script {
    let mut client = s.busy(SLOW)?;
    s.signal()?;
    let answer = client.answer(PATIENCE);
    let seen = match answer {
        Ok(_) => ends_within(&mut client, if s.is_control() { 1000 } else { milliseconds }),
        Err(_) => client.fate(&answer),
    };
    s.saw(seen);
    Ok(())
}

/// FIN within so many milliseconds from now.
fn ends_within(client: &mut Client, milliseconds: u64) -> Seen {
    let from = now();
    let end = client.wire.end(from + ms(milliseconds));
    let seen = Seen::rest(end);
    let seen = Seen::new(seen.outcome, format!("{} {} behind the answer", seen.text, words(since(from))));
    client.became(seen)
}

/// Each client asks again as soon as it is answered, from half a second before the signal until something else comes.
fn back_to_back(s: &mut Stage<'_>, clients: usize) -> Script {
    let clients = s.many_at_rest(clients)?;
    s.while_at_it(clients, until_told, |s| {
        s.pause(ms(500));
        s.signal()
    })
}

pub(super) fn until_told(s: &Stage<'_>, mut client: Client) -> Seen {
    let bound = if s.is_control() { ms(500) } else { PATIENCE };
    loop {
        // A client that looks before it sends sees an end that has come, and has lost nothing.
        match client.look() {
            Look::Fin => return client.became(Seen::rest(End::Fin)),
            Look::Reset => return client.became(Seen::rest(End::Reset)),
            Look::Quiet | Look::Bytes => {}
        }
        let fate = s.ask_quick(&mut client).answered(PATIENCE);
        // Some servers allow so many requests on a connection and no more: that is no end.
        let is_limit = fate.outcome == ToldClose && (s.is_control() || !s.is_signalled());
        match fate.outcome {
            Answered => {}
            _ if is_limit => match s.connect() {
                Ok(another) => client = another,
                Err(_) => return fate,
            },
            _ => return fate,
        }
        if s.since_signal() > bound {
            return client.became(Seen::new(Answered, "answered, not told close"));
        }
    }
}
