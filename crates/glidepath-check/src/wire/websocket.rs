//! A WebSocket client that answers only what a script tells it to.

use std::time::Duration;

use super::http1::Client;
use super::{End, Wire};
use crate::clock::now;
use crate::model::{EventKind, Outcome};
use crate::seen::Seen;

/// What an upgrade asks for. The key is any sixteen bytes.
pub(crate) const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\n\
                                  sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";

const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

pub(crate) struct WebSocket {
    wire: Wire,
}

/// A frame from the server.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close; 1005 stands for none (RFC 6455, section 7.4.1).
    pub(crate) fn close_code(&self) -> Option<u16> {
        (self.kind == CLOSE).then(|| self.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]])))
    }
}

/// The mask is zero, which leaves the bytes as they are.
pub(crate) fn frame_of(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
    frame.extend(&payload[..usize::from(length)]);
    frame
}

/// The code of the first Close among these frames of a server, small as all are here.
pub(crate) fn close_code(mut frames: &[u8]) -> Option<u16> {
    while let [head, length @ ..=125, rest @ ..] = frames {
        let payload = rest.get(..usize::from(*length))?;
        let frame = Frame { kind: head & 0x0f, payload: payload.to_vec() };
        if let Some(code) = frame.close_code() {
            return Some(code);
        }
        frames = &rest[payload.len()..];
    }
    None
}

impl WebSocket {
    /// Of a connection whose upgrade was granted.
    pub(crate) fn of(client: Client) -> Self {
        client.wire.pen.speaks(if client.wire.notified().is_some() { "websocket+tls" } else { "websocket" });
        WebSocket { wire: client.wire }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes(), &format!("text {text:?}"));
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.send(CLOSE, &code.to_be_bytes(), &format!("Close {code}"));
    }

    /// Half a frame, read by the server so far.
    pub(crate) fn begin_to_say(&mut self, text: &str) {
        let frame = frame_of(TEXT, text.as_bytes());
        self.wire.send(&frame[..frame.len() / 2], &format!("half of text {text:?}"));
        self.wire.until_read();
    }

    fn send(&mut self, kind: u8, payload: &[u8], what: &str) {
        self.wire.send(&frame_of(kind, payload), what);
    }

    pub(crate) fn frame(&mut self, patience: Duration) -> Result<Frame, End> {
        let until = now() + patience;
        let head = self.wire.take(2, until)?;
        let length = match head[1] & 0x7f {
            126 => self.wire.take(2, until)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            127 => self.wire.take(8, until)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            length => usize::from(length),
        };
        let payload = self.wire.take(length.min(1 << 20), until)?;
        let frame = Frame { kind: head[0] & 0x0f, payload };
        match frame.close_code() {
            Some(code) => self.wire.pen.event(EventKind::WsClose, format!("Close {code}")),
            None => self.wire.pen.event_with(EventKind::Received, format!("frame {:#x}", frame.kind), &frame.payload),
        }
        Ok(frame)
    }

    /// The next frame that is no Ping and no Pong.
    pub(crate) fn message(&mut self, patience: Duration) -> Result<Frame, End> {
        loop {
            let frame = self.frame(patience)?;
            if !matches!(frame.kind, PING | PONG) {
                return Ok(frame);
            }
        }
    }

    /// The code of the next Close; other frames before it are passed over.
    pub(crate) fn close_code(&mut self, patience: Duration) -> Result<u16, End> {
        loop {
            if let Some(code) = self.frame(patience)?.close_code() {
                return Ok(code);
            }
        }
    }

    pub(crate) fn end(&mut self, patience: Duration) -> End {
        self.wire.end(now() + patience)
    }

    pub(crate) fn became(&self, seen: Seen) -> Seen {
        self.wire.pen.became(seen)
    }

    /// Whether a Close came, and what else.
    pub(crate) fn told(&mut self, patience: Duration) -> (Seen, Option<u16>) {
        let code = self.close_code(patience);
        let seen = match code {
            Ok(code) => Seen::new(Outcome::ToldClose, format!("Close {code}")),
            Err(End::Fin) => Seen::new(Outcome::Lost, "FIN without a Close frame"),
            Err(End::Reset) => Seen::new(Outcome::Reset, "RST without a Close frame"),
            Err(End::Silence) => Seen::new(Outcome::Open, "no Close frame, and still open"),
        };
        (self.became(seen), code.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_behind_other_frames_and_only_when_it_is_whole() {
        let frames = [0x81, 2, b'h', b'i', 0x89, 0, 0x88, 2, 0x03, 0xe9];
        assert_eq!(close_code(&frames), Some(1001));
        assert_eq!(close_code(&frames[..9]), None);
        assert_eq!(close_code(&frames[..6]), None);
        assert_eq!(close_code(&[0x88, 0]), Some(1005), "no code");
    }
}
