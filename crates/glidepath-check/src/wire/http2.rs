//! HTTP/2 frame by frame: a client that does only what a script tells it to, so that it can also be rude.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{End, Wire, websocket};
use crate::clock::{ms, now};
use crate::model::{EventKind, Outcome};
use crate::seen::Seen;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The last stream of a GOAWAY that only announces: 'take whatever comes meanwhile'.
pub(crate) const ANY_STREAM: u32 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const REFUSED_STREAM: u32 = 7;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL, and 1.
const CONNECT_PROTOCOL: [u8; 6] = [0, 8, 0, 0, 0, 1];

/// What has come of one stream so far.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) status: Option<u16>,
    pub(crate) bytes: usize,
    /// The first of them.
    begin: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) reset: Option<u32>,
}

/// So much is kept of what comes on a stream: some frames of a WebSocket.
const KEPT: usize = 1024;

pub(crate) struct Http2 {
    wire: Wire,
    decoder: loona_hpack::Decoder<'static>,
    /// A header block that goes on in the next frame.
    block: Vec<u8>,
    authority: String,
    headers: Vec<(String, String)>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// The last stream and the error of each GOAWAY.
    pub(crate) goaways: Vec<(u32, u32)>,
    /// PINGs that were not answered.
    pub(crate) pings: Vec<[u8; 8]>,
    pub(crate) settled: bool,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL came: a stream can become a WebSocket (RFC 8441, section 3).
    pub(crate) tunnels: bool,
    /// PINGs are answered as they come, as all clients do.
    pub(crate) polite: bool,
    pub(crate) over: Option<End>,
    opened: u32,
}

impl Http2 {
    pub(crate) fn new(wire: Wire, authority: &str, headers: Vec<(String, String)>) -> Self {
        wire.pen.speaks(if wire.notified().is_some() { "h2+tls" } else { "h2" });
        Http2 {
            wire,
            decoder: loona_hpack::Decoder::new(),
            block: Vec::new(),
            authority: authority.to_owned(),
            headers,
            streams: BTreeMap::new(),
            goaways: Vec::new(),
            pings: Vec::new(),
            settled: false,
            tunnels: false,
            polite: true,
            over: None,
            opened: 0,
        }
    }

    /// The preface, our settings, and room for everything that may come.
    pub(crate) fn preface(&mut self) {
        let mut bytes = PREFACE.to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE as large as can be.
        bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(ANY_STREAM - 65_535).to_be_bytes()));
        self.wire.send(&bytes, "preface, SETTINGS");
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Opens the next stream with a request, and says which it is. With `more`, a body follows.
    pub(crate) fn ask(&mut self, method: &str, path: &str, more: bool) -> u32 {
        self.open(&[(":method", method), (":path", path)], &[], more)
    }

    /// Asks for a WebSocket on the next stream (RFC 8441, section 4).
    pub(crate) fn ask_for_websocket(&mut self, path: &str) -> u32 {
        let pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":path", path)];
        self.open(&pseudo, &[("sec-websocket-version", "13")], true)
    }

    fn open(&mut self, pseudo: &[(&str, &str)], fields: &[(&str, &str)], more: bool) -> u32 {
        let id = self.opened * 2 + 1;
        self.opened += 1;
        let scheme = if self.wire.notified().is_some() { "https" } else { "http" };
        let mut block = Vec::new();
        let all = pseudo.iter().copied().chain([(":scheme", scheme), (":authority", &*self.authority)]);
        let own = self.headers.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in all.chain(fields.iter().copied()).chain(own) {
            literal(&mut block, name, value);
        }
        let what: Vec<_> = pseudo.iter().map(|(_, value)| *value).collect();
        let flags = if more { END_HEADERS } else { END_HEADERS | END_STREAM };
        self.streams.insert(id, Stream::default());
        self.wire.send(&frame(HEADERS, flags, id, &block), &format!("{} on stream {id}", what.join(" ")));
        id
    }

    pub(crate) fn get(&mut self, path: &str) -> u32 {
        self.ask("GET", path, false)
    }

    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        let flags = if ends { END_STREAM } else { 0 };
        let what = format!("DATA of {} bytes on stream {stream}", bytes.len());
        self.wire.send(&frame(DATA, flags, stream, bytes), &what);
    }

    pub(crate) fn acknowledge(&mut self) {
        for ping in std::mem::take(&mut self.pings) {
            self.wire.send(&frame(PING, ACK, 0, &ping), "PING ack");
        }
    }

    /// Reads frames until it is so. False when the connection ends or the time is over before.
    pub(crate) fn until(&mut self, bound: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = now() + bound;
        loop {
            if is_so(self) {
                return true;
            }
            if self.over.is_some() || !self.step(end) {
                return is_so(self);
            }
        }
    }

    /// Reads to the end of the connection.
    pub(crate) fn end(&mut self, bound: Duration) -> End {
        self.until(bound, |_| false);
        self.over.unwrap_or(End::Silence)
    }

    /// Reads one frame. False when none came in time.
    fn step(&mut self, until: Instant) -> bool {
        match self.frame(until) {
            Ok(()) => true,
            Err(End::Silence) => false,
            Err(end) => {
                self.over = Some(end);
                false
            }
        }
    }

    fn frame(&mut self, until: Instant) -> Result<(), End> {
        while self.wire.held.len() < 9 {
            self.wire.fill(until)?;
        }
        let held = &self.wire.held;
        let length = u32::from_be_bytes([0, held[0], held[1], held[2]]) as usize;
        while self.wire.held.len() < 9 + length {
            self.wire.fill(until)?;
        }
        let bytes: Vec<_> = self.wire.held.drain(..9 + length).collect();
        let (kind, flags) = (bytes[3], bytes[4]);
        let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
        self.take(kind, flags, stream, &bytes[9..]);
        Ok(())
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let pen = self.wire.pen.clone();
        match kind {
            DATA => {
                let stream = self.streams.entry(id).or_default();
                let data = unpadded(flags, payload);
                stream.bytes += data.len();
                let room = KEPT - stream.begin.len();
                stream.begin.extend(&data[..data.len().min(room)]);
                pen.came(payload.len());
            }
            HEADERS | CONTINUATION => {
                let mut part = payload;
                if kind == HEADERS {
                    part = unpadded(flags, payload);
                    part = if flags & PRIORITY != 0 { part.get(5..).unwrap_or_default() } else { part };
                }
                self.block.extend(part);
                if flags & END_HEADERS != 0 {
                    let block = std::mem::take(&mut self.block);
                    let status = self.status(&block);
                    let stream = self.streams.entry(id).or_default();
                    stream.status = stream.status.or(status);
                    let words = status.map_or("trailers".to_owned(), |status| format!("head {status}"));
                    pen.event_with(EventKind::Received, format!("{words} on stream {id}"), payload);
                }
            }
            RST_STREAM => {
                let error = number(payload, 0);
                self.streams.entry(id).or_default().reset = Some(error);
                pen.event(EventKind::StreamReset, format!("RST_STREAM on stream {id}, error {error}"));
            }
            SETTINGS if flags & ACK == 0 => {
                self.settled = true;
                self.tunnels |= payload.chunks_exact(6).any(|setting| setting == CONNECT_PROTOCOL);
                pen.event(EventKind::Received, "SETTINGS");
                self.wire.send(&frame(SETTINGS, ACK, 0, &[]), "SETTINGS ack");
            }
            PING if flags & ACK == 0 => {
                pen.event(EventKind::Received, "PING");
                self.pings.extend(payload.first_chunk::<8>());
                if self.polite {
                    self.acknowledge();
                }
            }
            GOAWAY => {
                let (last, error) = (number(payload, 0) & ANY_STREAM, number(payload, 4));
                self.goaways.push((last, error));
                let last = if last == ANY_STREAM { "any stream".to_owned() } else { format!("last stream {last}") };
                pen.event_with(EventKind::GoAway, format!("GOAWAY, {last}, error {error}"), payload);
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let stream = self.streams.entry(id).or_default();
            stream.ended = true;
            let words = format!("stream {id}: {}, {} bytes", stream.status.unwrap_or(0), stream.bytes);
            pen.event(EventKind::Answered, words);
        }
    }

    fn status(&mut self, block: &[u8]) -> Option<u16> {
        let headers = self.decoder.decode(block).ok()?;
        let (_, status) = headers.iter().find(|(name, _)| &name[..] == b":status")?;
        std::str::from_utf8(status).ok()?.parse().ok()
    }

    pub(crate) fn told(&self) -> bool {
        !self.goaways.is_empty()
    }

    /// The code of the Close that came on a stream that is a WebSocket.
    pub(crate) fn close_code(&self, id: u32) -> Option<u16> {
        websocket::close_code(&self.streams.get(&id)?.begin)
    }

    pub(crate) fn is_done(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.ended || stream.reset.is_some())
    }

    /// What became of a stream, once nothing more will come of it. `length` is that of the body, where it is known.
    pub(crate) fn fate(&self, id: u32, length: Option<usize>) -> Seen {
        let nothing = Stream::default();
        let stream = self.streams.get(&id).unwrap_or(&nothing);
        let turned_away = self.goaways.iter().any(|(last, _)| id > *last);
        let told = if self.told() { Outcome::ToldClose } else { Outcome::Answered };
        match (stream, self.over) {
            (Stream { reset: Some(REFUSED_STREAM), status: None, .. }, _) => {
                Seen::new(Outcome::Refused, "stream refused")
            }
            (Stream { status: Some(503), ended: true, .. }, _) => Seen::new(Outcome::Refused, "503"),
            (Stream { status: Some(200..300), ended: true, bytes, .. }, _) => match length {
                Some(length) if length != *bytes => {
                    Seen::new(Outcome::Truncated, format!("a stream that looks whole, with {bytes} of {length} bytes"))
                }
                _ => Seen::new(told, "stream answered"),
            },
            (Stream { status: Some(status), ended: true, .. }, _) => {
                Seen::new(Outcome::Wrong, format!("status {status}"))
            }
            (Stream { status: None, reset: None, .. }, _) if turned_away => {
                Seen::new(Outcome::Refused, "above the last stream of GOAWAY, not answered")
            }
            (Stream { reset: Some(error), status, .. }, _) => {
                let outcome = if status.is_some() { Outcome::Truncated } else { Outcome::Reset };
                Seen::new(outcome, format!("RST_STREAM with error {error}"))
            }
            (Stream { status: Some(_), .. }, Some(_)) => {
                Seen::new(Outcome::Truncated, "the connection ended in the middle of the stream")
            }
            (_, Some(End::Reset)) => Seen::new(Outcome::Reset, "RST, and no answer on the stream"),
            (_, Some(_)) => Seen::new(Outcome::Lost, "FIN, and no answer on a stream that GOAWAY did not turn away"),
            (_, None) => Seen::new(Outcome::Hung, "no answer on the stream"),
        }
    }

    pub(crate) fn became(&self, seen: Seen) -> Seen {
        self.wire.pen.became(seen)
    }

    /// Whether GOAWAY came, within `bound` of the signal.
    pub(crate) fn told_by(&mut self, bound: Duration) -> Seen {
        let recorder = self.wire.pen.recorder();
        let watched = if recorder.is_control() { bound.min(ms(1000)) } else { bound + ms(2000) };
        let until = recorder.zero().unwrap_or_else(now) + watched;
        self.until(until.saturating_duration_since(now()), Self::told);
        let seen = match (self.told(), self.over) {
            (true, _) => Seen::new(Outcome::ToldClose, "GOAWAY").by(self.wire.pen.recorder(), bound),
            (false, Some(End::Reset)) => Seen::new(Outcome::Reset, "RST without GOAWAY"),
            (false, Some(_)) => Seen::new(Outcome::EndedAtRest, "FIN without GOAWAY"),
            (false, None) => Seen::new(Outcome::Open, "no GOAWAY, and still open"),
        };
        self.became(seen)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field without indexing and without Huffman: what any decoder takes (RFC 7541, section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // loona's encoder shares its integers, of seven bits here.
        let _vector_takes_all = loona_hpack::encoder::encode_integer_into(text.len(), 7, 0, block);
        block.extend(text.as_bytes());
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> &[u8] {
    match payload {
        [padding, rest @ ..] if flags & PADDED != 0 => &rest[..rest.len().saturating_sub(usize::from(*padding))],
        _ => payload,
    }
}

fn number(payload: &[u8], at: usize) -> u32 {
    payload.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_written_as_any_decoder_takes_it() {
        let mut block = Vec::new();
        let long = "x".repeat(300);
        literal(&mut block, ":path", &long);
        let decoded = loona_hpack::Decoder::new().decode(&block).expect("it is HPACK");
        assert_eq!(decoded, [(b":path".to_vec(), long.into_bytes())]);
    }

    #[test]
    fn padding_is_no_data() {
        assert_eq!(unpadded(PADDED, &[2, b'a', b'b', 0, 0]), b"ab");
        assert_eq!(unpadded(0, b"ab"), b"ab");
    }
}
