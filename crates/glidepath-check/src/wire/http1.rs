//! An HTTP/1.1 client that can stop anywhere: it sends what it is told, and reads exactly what is there.

use std::time::{Duration, Instant};

use super::{End, Look, Wire};
use crate::clock::{ms, now};
use crate::model::{EventKind, Outcome};
use crate::seen::Seen;

/// No answer takes longer, as a whole.
const WHOLE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) wire: Wire,
    /// Headers that the user wants in every request, each with its line end, `host` among them.
    headers: String,
    /// So long is the body that is to come, where that is known.
    length: Option<usize>,
    is_head: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) close: bool,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Missing {
    Nothing(End),
    Part(End),
    /// Not HTTP.
    Garbled,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `200, 5 bytes, close`
    pub(crate) fn words(&self) -> String {
        let close = if self.close { ", close" } else { "" };
        format!("{}, {} bytes{close}", self.status, self.body.len())
    }

    fn framing(&self, version: u8, is_head: bool) -> Framing {
        if is_head || matches!(self.status, 100..200 | 204 | 304) {
            return Framing::Length(0);
        }
        let coding = self.header("transfer-encoding").unwrap_or_default();
        if coding.to_ascii_lowercase().ends_with("chunked") && version == 1 {
            return Framing::Chunked;
        }
        let length = self.header("content-length").and_then(|length| length.trim().parse().ok());
        length.map_or(Framing::UntilEnd, Framing::Length)
    }
}

impl Client {
    pub(crate) fn new(wire: Wire, headers: &str) -> Self {
        Client { wire, headers: headers.to_owned(), length: None, is_head: false }
    }

    pub(crate) fn head_of(&self, method: &str, path: &str, headers: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\n{}{headers}\r\n", self.headers)
    }

    /// The body of the next answers has this length.
    pub(crate) fn knows(&mut self, length: Option<usize>) -> &mut Self {
        self.length = length;
        self
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>, what: &str) -> &mut Self {
        self.wire.send(bytes.as_ref(), what);
        self
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str) -> &mut Self {
        let head = self.head_of(method, path, headers);
        self.send(head, &format!("{method} {path}"))
    }

    pub(crate) fn get(&mut self, path: &str) -> &mut Self {
        self.ask("GET", path, "")
    }

    /// A request whose head lacks its last line end, read by the server so far: `finish_head` sends the rest.
    pub(crate) fn start_head(&mut self, method: &str, path: &str, headers: &str) -> &mut Self {
        let head = self.head_of(method, path, headers);
        self.send(&head[..head.len() - 2], &format!("{method} {path}, not its last line end"));
        self.until_read()
    }

    pub(crate) fn finish_head(&mut self) -> &mut Self {
        self.send("\r\n", "the head's last line end")
    }

    pub(crate) fn until_read(&mut self) -> &mut Self {
        self.wire.until_read();
        self
    }

    pub(crate) fn half_close(&mut self) -> &mut Self {
        self.wire.half_close();
        self
    }

    pub(crate) fn look(&self) -> Look {
        self.wire.look()
    }

    /// Whether anything, the end too, comes within this time.
    pub(crate) fn stirs_within(&mut self, time: Duration) -> bool {
        crate::clock::wait_until(time, || self.wire.look() != Look::Quiet)
    }

    /// The next head. What comes before a final answer counts too: `100 Continue`.
    pub(crate) fn head(&mut self, patience: Duration) -> Result<Answer, Missing> {
        self.head_and_version(patience).map(|(answer, _)| answer)
    }

    fn head_and_version(&mut self, patience: Duration) -> Result<(Answer, u8), Missing> {
        let until = now() + patience;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut headers);
            match parsed.parse(&self.wire.held) {
                Ok(httparse::Status::Complete(length)) => {
                    let version = parsed.version.unwrap_or(1);
                    let answer = Answer::of(&parsed, version);
                    let bytes: Vec<_> = self.wire.held.drain(..length).collect();
                    self.wire.pen.event_with(EventKind::Received, format!("head {}", answer.status), &bytes);
                    return Ok((answer, version));
                }
                Ok(httparse::Status::Partial) => {}
                Err(_) => {
                    let bytes = std::mem::take(&mut self.wire.held);
                    self.wire.pen.event_with(EventKind::Received, "not HTTP", &bytes);
                    return Err(Missing::Garbled);
                }
            }
            let began = !self.wire.held.is_empty();
            self.wire.fill(until).map_err(|end| self.missing(began, end))?;
        }
    }

    fn missing(&mut self, began: bool, end: End) -> Missing {
        if end == End::Silence {
            self.wire.pen.event(EventKind::Timeout, "waited long enough");
        }
        if began { Missing::Part(end) } else { Missing::Nothing(end) }
    }

    /// The next final answer, whole. `patience` is for each piece of it.
    pub(crate) fn answer(&mut self, patience: Duration) -> Result<Answer, Missing> {
        let (mut answer, version) = loop {
            let (head, version) = self.head_and_version(patience)?;
            if !(100..200).contains(&head.status) || head.status == 101 {
                break (head, version);
            }
        };
        let body = match answer.framing(version, self.is_head) {
            Framing::Length(length) => self.body_of(length, patience),
            Framing::Chunked => self.chunked(patience),
            Framing::UntilEnd => self.until_end(patience),
        };
        answer.body = body.map_err(|end| self.missing(true, end))?;
        let kind = if answer.close { EventKind::ToldClose } else { EventKind::Answered };
        self.wire.pen.event(kind, answer.words());
        Ok(answer)
    }

    fn body_of(&mut self, length: usize, patience: Duration) -> Result<Vec<u8>, End> {
        while self.wire.held.len() < length {
            self.more(patience)?;
        }
        Ok(self.wire.held.drain(..length).collect())
    }

    fn until_end(&mut self, patience: Duration) -> Result<Vec<u8>, End> {
        loop {
            match self.more(patience) {
                Ok(()) => {}
                Err(End::Fin) => return Ok(std::mem::take(&mut self.wire.held)),
                Err(end) => return Err(end),
            }
        }
    }

    fn chunked(&mut self, patience: Duration) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        let end = now() + WHOLE;
        while let Some(chunk) = self.chunk(patience)? {
            body.extend(chunk);
            if now() > end {
                return Err(End::Silence);
            }
        }
        Ok(body)
    }

    /// The next chunk of a chunked body, or none at its proper end.
    pub(crate) fn chunk(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, End> {
        let (start, size) = loop {
            match httparse::parse_chunk_size(&self.wire.held) {
                Ok(httparse::Status::Complete((start, size))) => break (start, size as usize),
                Ok(httparse::Status::Partial) => self.more(patience)?,
                // To a client, a size that is none ends the body in its middle.
                Err(_) => return Err(End::Reset),
            }
        };
        if size > 0 {
            while self.wire.held.len() < start + size + 2 {
                self.more(patience)?;
            }
            let chunk = self.wire.held[start..start + size].to_vec();
            self.wire.held.drain(..start + size + 2);
            return Ok(Some(chunk));
        }
        // Trailers, and the empty line.
        self.wire.held.drain(..start);
        loop {
            while let Some(line) = self.wire.held.windows(2).position(|two| two == b"\r\n") {
                self.wire.held.drain(..line + 2);
                if line == 0 {
                    return Ok(None);
                }
            }
            self.more(patience)?;
        }
    }

    fn more(&mut self, patience: Duration) -> Result<(), End> {
        let read = self.wire.fill(now() + patience)?;
        self.wire.pen.came(read);
        Ok(())
    }

    /// What became of the request that was sent.
    pub(crate) fn answered(&mut self, patience: Duration) -> Seen {
        let answer = self.answer(patience);
        self.fate(&answer)
    }

    pub(crate) fn fate(&self, answer: &Result<Answer, Missing>) -> Seen {
        let seen = match answer {
            Ok(answer) => self.fate_of(answer),
            Err(Missing::Nothing(End::Fin)) => Seen::new(Outcome::Lost, "FIN instead of an answer"),
            Err(Missing::Nothing(End::Reset)) => Seen::new(Outcome::Reset, "RST instead of an answer"),
            Err(Missing::Part(End::Fin)) => Seen::new(Outcome::Truncated, "FIN in the middle of the answer"),
            Err(Missing::Part(End::Reset)) => Seen::new(Outcome::Truncated, "RST in the middle of the answer"),
            Err(Missing::Nothing(End::Silence)) => Seen::new(Outcome::Hung, "no answer"),
            Err(Missing::Part(End::Silence)) => Seen::new(Outcome::Hung, "a part of the answer, and no more"),
            Err(Missing::Garbled) => Seen::new(Outcome::Wrong, "bytes that are not HTTP"),
        };
        self.became(seen)
    }

    fn fate_of(&self, answer: &Answer) -> Seen {
        if answer.status == 503 {
            return Seen::new(Outcome::Refused, "503");
        }
        if !answer.is_good() {
            return Seen::new(Outcome::Wrong, format!("status {}", answer.status));
        }
        match self.length {
            Some(length) if length != answer.body.len() => {
                let text = format!("an answer that looks whole, with {} of {length} bytes", answer.body.len());
                Seen::new(Outcome::Truncated, text)
            }
            _ if answer.close => Seen::new(Outcome::ToldClose, "answered, told close"),
            _ => Seen::new(Outcome::Answered, "answered, not told close"),
        }
    }

    /// The outcome is this connection's.
    pub(crate) fn became(&self, seen: Seen) -> Seen {
        self.wire.pen.became(seen)
    }

    /// How a body of this head goes on and ends, and what came of it. Open when it has not ended by then.
    pub(crate) fn flows(&mut self, head: &Answer, until: Instant) -> (Seen, Vec<u8>) {
        let framing = head.framing(1, false);
        let mut body = Vec::new();
        let left = |until: Instant| until.saturating_duration_since(now());
        let end = loop {
            let more = match framing {
                Framing::Chunked => self.chunk(left(until)),
                Framing::Length(length) if body.len() >= length => Ok(None),
                Framing::Length(_) | Framing::UntilEnd => match self.more(left(until)) {
                    Ok(()) => Ok(Some(std::mem::take(&mut self.wire.held))),
                    Err(End::Fin) if matches!(framing, Framing::UntilEnd) => Ok(None),
                    Err(end) => Err(end),
                },
            };
            match more {
                Ok(Some(_)) if left(until).is_zero() => break Err(End::Silence),
                Ok(Some(part)) => body.extend(part),
                Ok(None) => break Ok(()),
                Err(end) => break Err(end),
            }
        };
        let seen = match end {
            Ok(()) => Seen::new(Outcome::Answered, format!("it looks whole, with {} bytes", body.len())),
            Err(End::Silence) => Seen::new(Outcome::Open, "it goes on"),
            Err(end) => Seen::new(Outcome::Truncated, format!("{end:?} in the middle of the body, visibly")),
        };
        (self.became(seen), body)
    }

    /// How the connection ends, on which nothing is asked: within `bound` of the signal, or late, or not.
    pub(crate) fn ends_by(&mut self, bound: Duration) -> Seen {
        let recorder = self.wire.pen.recorder();
        // Without the signal, there is nothing to come.
        let watched = if recorder.is_control() { bound.min(ms(1000)) } else { bound + ms(2000) };
        let end = self.wire.end(recorder.zero().unwrap_or_else(now) + watched);
        let seen = Seen::rest(end).by(self.wire.pen.recorder(), bound);
        self.became(seen)
    }
}

impl Answer {
    fn of(parsed: &httparse::Response<'_, '_>, version: u8) -> Self {
        let headers: Vec<(String, String)> = parsed
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned()))
            .collect();
        let says = |word: &str| {
            headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("connection")
                    && value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
            })
        };
        let close = says("close") || (version == 0 && !says("keep-alive"));
        Answer { status: parsed.code.unwrap_or(0), close, headers, body: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::super::Address;
    use super::*;
    use crate::record::Recorder;

    /// What the client makes of these bytes and the FIN after them.
    fn fate_of(bytes: &'static [u8]) -> Outcome {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = Address::Tcp(listener.local_addr().expect("it is bound"));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client comes");
            stream.write_all(bytes).expect("it reads");
        });
        let wire = Wire::open(&address, &Recorder::new(false)).expect("it listens");
        let seen = Client::new(wire, "").answered(ms(2000));
        server.join().expect("it does not panic");
        seen.outcome
    }

    #[test]
    fn what_comes_is_told_apart() {
        assert_eq!(fate_of(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Outcome::Answered);
        let told = b"HTTP/1.1 200 OK\r\nConnection: Close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(fate_of(told), Outcome::ToldClose);
        assert_eq!(fate_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), Outcome::Answered);
        assert_eq!(fate_of(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), Outcome::Refused);
        assert_eq!(fate_of(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"), Outcome::Wrong);
        assert_eq!(fate_of(b""), Outcome::Lost);
        assert_eq!(fate_of(b"HTTP/1."), Outcome::Truncated);
        assert_eq!(fate_of(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"), Outcome::Truncated);
        assert_eq!(fate_of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"), Outcome::Truncated);
        assert_eq!(fate_of(b"SSH-2.0-OpenSSH\r\n\r\n"), Outcome::Wrong);
        let trailers = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nsum: 1\r\n\r\n";
        assert_eq!(fate_of(trailers), Outcome::Answered);
    }
}
