//! Deadline and exit: when it ends whatever runs, how those who are cut see it, and what the exit code says.

use std::time::Duration;

use crate::case::{Case, Need, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{MARGIN, PATIENCE, SLOW, Stage, Trouble};
use crate::wire::http1::{Answer, Client};

pub(super) const SECTION: Section = Section { title: "Deadline, exit and report", cases: CASES };

const IN_TIME: &str = "the process ends within the grace period + 0.5 s, whatever runs";
const KILLED: &str = "what ends later is killed by Kubernetes, Docker and systemd, without a word to anyone";
const VISIBLY: &str = "one that is streaming is cut so that the client can see it was";
/// How long a control is watched that would be cut after 1 s: whatever else ends it then is seen each time, and not in a race.
const BEYOND: Duration = ms(1700);
const CODE: &str = "exit code: 0 when all work finished, 3 when the deadline cut something";
const GRACE_0: &str = "grace 0 ends at once and still says GOAWAY, close and 1001";
const LONG_STREAM: (u64, u64) = (10_000, 50);

const CASES: &[Case] = &[
    Case::must("end/slow", "END-1", IN_TIME)
        .expects("with a request that takes far longer, it ends by its grace period of 1 s")
        .since(KILLED)
        .needs(&[Need::Grace, Need::AnySlow])
        .grace(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _client = s.busy(s.beyond_grace())?;
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("end/stream", "END-1", IN_TIME)
        .expects("with a stream that goes on for far longer, it ends by its grace period of 1 s")
        .since(KILLED)
        .needs(&[Need::Grace, Need::AnyStream])
        .grace(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let (mut client, head) = long_stream(s, "HTTP/1.1")?;
            s.signal()?;
            let _read = client.flows(&head, s.zero() + if s.is_control() { ms(300) } else { s.deadline() });
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("end/http2", "END-1", IN_TIME)
        .expects("with an HTTP/2 stream that takes far longer, it ends by its grace period of 1 s")
        .since(KILLED)
        .needs(&[Need::Grace, Need::AnySlow, Need::Http2])
        .grace(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.http2()?;
            client.get(&s.settings.path(Work::Slow, s.beyond_grace(), 0));
            client.wire().until_read();
            s.signal()?;
            let _end = client.end(if s.is_control() { ms(300) } else { s.deadline() });
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("end/everything", "END-1", IN_TIME)
        .expects("with one of everything that it offers under way, it ends by its grace period of 1 s")
        .since(KILLED)
        .needs(&[Need::Grace])
        .grace(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let offers = |need| s.found.lacks(need).is_none();
            let mut clients = vec![s.accepted()?, s.at_rest()?];
            let mut half = s.accepted()?;
            half.start_head("GET", &s.path_of(Work::Quick), "");
            clients.push(half);
            if offers(Need::Slow) {
                clients.push(s.busy(s.beyond_grace())?);
            }
            if offers(Need::Sse) {
                let mut client = s.client()?;
                client.get(&s.path_of(Work::Sse)).until_read();
                clients.push(client);
            }
            if offers(Need::Upload) {
                let mut client = s.client()?;
                client.ask("POST", &s.path_of(Work::Upload), "content-length: 1000\r\n").until_read();
                clients.push(client);
            }
            let _websocket = if offers(Need::Ws) { Some(s.websocket()?) } else { None };
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should(
        "end/503",
        "END-2",
        "at the deadline a request whose head is not written gets 503, `Connection: close` and `Retry-After`",
    )
    .expects("a request that the deadline of 1 s cuts before its answer began gets 503")
    .since("a proxy may send it elsewhere; after a bare FIN it must guess")
    .needs(&[Need::Grace, Need::AnySlow])
    .grace(1.0)
    .wants(&[Refused])
    .control(&[Hung])
    .script(|s| {
        let mut client = s.busy(s.beyond_grace())?;
        s.signal()?;
        let fate = client.answered(if s.is_control() { BEYOND } else { s.deadline() + MARGIN });
        s.saw(fate);
        Ok(())
    }),
    Case::should("end/retry-after", "END-2", "gets 503, `Connection: close` and `Retry-After`")
        .expects("that 503 says close, and Retry-After")
        .since("clients that know when to come back don't come back at once (RFC 9110, section 10.2.3)")
        .needs(&[Need::Grace, Need::AnySlow])
        .grace(1.0)
        .wants(&[ToldClose])
        .control(&[Hung])
        .script(|s| {
            let mut client = s.busy(s.beyond_grace())?;
            s.signal()?;
            let answer = client.answer(if s.is_control() { BEYOND } else { s.deadline() + MARGIN });
            let seen = match &answer {
                Ok(Answer { status: 503, close, .. }) => {
                    let retry = answer.as_ref().is_ok_and(|answer| answer.header("retry-after").is_some());
                    match (close, retry) {
                        (true, true) => Seen::new(ToldClose, "503 with close and Retry-After"),
                        (false, _) => Seen::new(Answered, "503 without `Connection: close`"),
                        (true, false) => Seen::new(Wrong, "503 without Retry-After"),
                    }
                }
                _ => client.fate(&answer),
            };
            s.saw(client.became(seen));
            Ok(())
        }),
    Case::must("end/cut-visibly", "END-2", VISIBLY)
        .expects("a stream that the deadline of 1 s cuts does not look whole")
        .since("a download that looks complete and is not corrupts whatever reads it (RFC 9112, section 8)")
        .needs(&[Need::Grace, Need::AnyStream])
        .grace(1.0)
        .wants(&[Truncated, Reset])
        .control(&[Open])
        .script(|s| {
            let (mut client, head) = long_stream(s, "HTTP/1.1")?;
            s.signal()?;
            let bound = if s.is_control() { BEYOND } else { s.deadline() + MARGIN };
            let (seen, _) = client.flows(&head, s.zero() + bound);
            s.saw(seen);
            Ok(())
        }),
    Case::should("end/cut-visibly-http10", "END-2", VISIBLY)
        .expects("over HTTP/1.0, whose answers end with the connection, a stream that is cut ends with RST")
        .since("FIN is the proper end there: nothing else shows the cut")
        .needs(&[Need::Grace, Need::AnyStream])
        .grace(1.0)
        .wants(&[Truncated, Reset])
        .control(&[Open])
        .script(|s| {
            let (mut client, head) = long_stream(s, "HTTP/1.0")?;
            s.signal()?;
            let bound = if s.is_control() { BEYOND } else { s.deadline() + MARGIN };
            let (seen, _) = client.flows(&head, s.zero() + bound);
            s.saw(seen);
            Ok(())
        }),
    Case::must("end/cut-visibly-http2", "END-2", VISIBLY)
        .expects("over HTTP/2, a stream that the deadline of 1 s cuts has no END_STREAM")
        .since("END_STREAM says that all has come (RFC 9113, section 8.1)")
        .needs(&[Need::Grace, Need::AnyStream, Need::Http2])
        .grace(1.0)
        .wants(&[Truncated, Reset])
        .control(&[Hung])
        .script(|s| {
            let mut client = s.http2()?;
            let id = client.get(&s.settings.path(Work::Stream, LONG_STREAM.1, LONG_STREAM.0));
            client.until(PATIENCE, |client| client.streams[&id].bytes > 0);
            s.signal()?;
            client.until(if s.is_control() { BEYOND } else { s.deadline() + MARGIN }, |client| client.is_done(id));
            let fate = client.became(client.fate(id, None));
            s.saw(fate);
            Ok(())
        }),
    Case::should("end/exit-0", "END-3", CODE)
        .expects("when all work was finished, the exit code is 0")
        .since("Docker, Kubernetes and CI take everything else for a failure")
        .needs(&[Need::Slow])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let _answer = client.answer(PATIENCE);
            drop(client);
            let exit = s.exits_by(ms(10_000));
            s.saw(match s.server.ended() {
                Some(ended) if ended.code != Some(0) => Seen::new(Wrong, exit.text),
                _ => exit,
            });
            Ok(())
        }),
    Case::should("end/exit-when-cut", "END-3", CODE)
        .expects("when the deadline of 1 s cut a request, the exit code is not 0")
        .since("nobody looks into an end that says it went well")
        .needs(&[Need::Grace, Need::AnySlow])
        .grace(1.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _client = s.busy(s.beyond_grace())?;
            s.signal()?;
            let exit = s.exits_by(s.deadline());
            s.saw(match s.server.ended() {
                Some(ended) if ended.code == Some(0) => Seen::new(Wrong, exit.text),
                _ => exit,
            });
            Ok(())
        }),
    Case::should("end/grace-0", "END-7", GRACE_0)
        .expects("with a grace period of 0 and a request in flight, it ends within a second")
        .since("tests and development want the end now")
        .needs(&[Need::AnyGrace, Need::AnySlow])
        .grace(0.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _client = s.busy(20_000)?;
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should("end/grace-0-goaway", "END-7", GRACE_0)
        .expects("with a grace period of 0, an HTTP/2 connection still gets GOAWAY")
        .since("it costs one packet, and the client knows where it stands")
        .needs(&[Need::AnyGrace, Need::Http2])
        .grace(0.0)
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut client = s.http2()?;
            s.signal()?;
            let told = client.told_by(ms(1000));
            s.saw(told);
            Ok(())
        }),
    Case::should("end/grace-0-close", "END-7", GRACE_0)
        .expects("with a grace period of 0, a WebSocket still gets a Close")
        .since("it costs one packet, and the client knows where it stands")
        .needs(&[Need::AnyGrace, Need::Ws])
        .grace(0.0)
        .wants(&[ToldClose])
        .control(&[Open])
        .script(|s| {
            let mut socket = s.websocket()?;
            s.signal()?;
            let (told, _) = socket.told(ms(1000));
            s.saw(told);
            Ok(())
        }),
];

/// A stream that outlasts any grace period, of which something has come.
fn long_stream(s: &Stage<'_>, version: &str) -> Result<(Client, Answer), Trouble> {
    let mut client = s.client()?;
    let path = s.settings.path(Work::Stream, LONG_STREAM.1, LONG_STREAM.0);
    let head = client.head_of("GET", &path, "").replace("HTTP/1.1", version);
    client.send(head, &format!("GET {path}, {version}"));
    let head = client.head(PATIENCE).map_err(|missing| Trouble::Broken(format!("no head: {missing:?}")))?;
    client.stirs_within(ms(1000));
    Ok((client, head))
}
