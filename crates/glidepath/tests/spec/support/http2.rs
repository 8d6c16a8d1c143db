//! HTTP/2 frame by frame, with prior knowledge: a client that does only what a check tells it to, so that it can also
//! be rude. No Huffman, no dynamic table: requests are written as literals, and of a response only its status is read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::tls::{Tls, Wire};
use super::{End, PATIENCE, sockets};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The last stream id of the first GOAWAY: 'I am going, and take whatever comes meanwhile'.
pub(crate) const ANY_STREAM: u32 = (1 << 31) - 1;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Frame {
    Data { stream: u32, bytes: Vec<u8>, ends: bool },
    Headers { stream: u32, status: u16, ends: bool },
    Reset { stream: u32, error: u32 },
    Settings { ack: bool },
    Ping { ack: bool, payload: [u8; 8] },
    GoAway { last_stream: u32, error: u32 },
    Other { kind: u8 },
}

pub(crate) struct Http2 {
    stream: Wire,
    /// The server has said that WebSockets may be opened (RFC 8441, section 3).
    pub(crate) takes_websockets: bool,
}

impl Http2 {
    /// Connects and says nothing.
    #[track_caller]
    pub(crate) fn silent(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, PATIENCE).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound above zero");
        stream.set_nodelay(true).expect("it is connected");
        Http2 { stream: Wire::over(stream).expect("it is connected"), takes_websockets: false }
    }

    /// Connects with TLS of this configuration, and says nothing in it.
    #[track_caller]
    pub(crate) fn silent_with(server: SocketAddr, config: Arc<rustls::ClientConfig>) -> Self {
        let plain = Self::silent(server);
        let socket = plain.stream.socket().try_clone().expect("room for a descriptor");
        let mut stream = Wire::with(socket, config);
        stream.tls().shake_hands().expect("the server speaks TLS");
        Http2 { stream, takes_websockets: false }
    }

    pub(crate) fn tls(&mut self) -> &mut Tls {
        self.stream.tls()
    }

    /// Returns once the server has accepted the connection.
    #[track_caller]
    pub(crate) fn until_accepted(&self) {
        sockets::wait_for_accept(self.stream.socket());
    }

    /// Returns once the server has read all that was sent.
    #[track_caller]
    pub(crate) fn until_read(&self) {
        sockets::wait_for_read(self.stream.socket());
    }

    /// Connects and exchanges settings.
    #[track_caller]
    pub(crate) fn connect(server: SocketAddr) -> Self {
        Self::silent(server).exchange_settings()
    }

    #[track_caller]
    pub(crate) fn exchange_settings(self) -> Self {
        let mut client = self;
        client.preface();
        client.wait_for("the server's settings", |frame| *frame == Frame::Settings { ack: false });
        client.write(4, ACK, 0, &[]);
        client.wait_for("its acknowledgement of ours", |frame| *frame == Frame::Settings { ack: true });
        client
    }

    #[track_caller]
    pub(crate) fn preface(&mut self) {
        self.stream.write_all(PREFACE).expect("the connection is open");
        self.write(4, 0, 0, &[]);
    }

    /// From now on no stream has a window: SETTINGS_INITIAL_WINDOW_SIZE is 0 (RFC 9113, section 6.9.2).
    #[track_caller]
    pub(crate) fn take_nothing(&mut self) {
        self.write(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
        self.wait_for("its acknowledgement of our settings", |frame| *frame == Frame::Settings { ack: true });
    }

    /// A whole GET request.
    #[track_caller]
    pub(crate) fn get(&mut self, stream: u32, path: &str) {
        self.try_get(stream, path).unwrap_or_else(|error| panic!("can't send: {error}"));
    }

    pub(crate) fn try_get(&mut self, stream: u32, path: &str) -> io::Result<()> {
        let length = u8::try_from(path.len()).expect("a short path");
        // Indexed `:method: GET` and `:scheme: http`; literal `:path` and `:authority` by their index.
        let mut block = vec![0x82, 0x86, 0x04, length];
        block.extend(path.as_bytes());
        block.extend([0x01, 4]);
        block.extend(b"test");
        self.try_write(1, END_STREAM | END_HEADERS, stream, &block)
    }

    /// Asks for a WebSocket on a stream (RFC 8441, section 4).
    #[track_caller]
    pub(crate) fn extended_connect(&mut self, stream: u32, path: &str) {
        // Literals, the names known to the static table by index.
        let mut block = vec![0x02];
        text(&mut block, "CONNECT");
        block.push(0);
        text(&mut block, ":protocol");
        text(&mut block, "websocket");
        block.extend([0x86, 0x04]);
        text(&mut block, path);
        block.push(0x01);
        text(&mut block, "test");
        block.push(0);
        text(&mut block, "sec-websocket-version");
        text(&mut block, "13");
        self.write(1, END_HEADERS, stream, &block);
    }

    #[track_caller]
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        self.write(0, if ends { END_STREAM } else { 0 }, stream, bytes);
    }

    #[track_caller]
    pub(crate) fn acknowledge(&mut self, ping: [u8; 8]) {
        self.write(6, ACK, 0, &ping);
    }

    pub(crate) fn try_acknowledge(&mut self, ping: [u8; 8]) -> io::Result<()> {
        self.try_write(6, ACK, 0, &ping)
    }

    #[track_caller]
    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_write(kind, flags, stream, payload).unwrap_or_else(|error| panic!("can't send: {error}"));
    }

    fn try_write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame)
    }

    pub(crate) fn wait_at_most(&self, bound: Duration) {
        self.stream.socket().set_read_timeout(Some(bound)).expect("a bound above zero");
    }

    /// Whether for as long as this nothing comes that speaks of an end.
    pub(crate) fn stays_open_for(&mut self, time: Duration) -> bool {
        self.wait_at_most(time);
        let end = loop {
            match self.try_frame() {
                Ok(Frame::GoAway { .. }) => break ErrorKind::UnexpectedEof,
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        self.wait_at_most(PATIENCE);
        matches!(end, ErrorKind::WouldBlock | ErrorKind::TimedOut)
    }

    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        self.try_frame().unwrap_or_else(|error| panic!("no next frame: {error}"))
    }

    pub(crate) fn try_frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [_, _, _, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(id);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        let ends = flags & END_STREAM != 0;
        Ok(match kind {
            0 => Frame::Data { stream, bytes: payload, ends },
            1 => Frame::Headers { stream, status: status(&payload), ends },
            3 => Frame::Reset { stream, error: number(&payload)? },
            4 => {
                self.takes_websockets |= payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]);
                Frame::Settings { ack: flags & ACK != 0 }
            }
            6 => Frame::Ping { ack: flags & ACK != 0, payload: payload.try_into().map_err(|_| short())? },
            7 => Frame::GoAway { last_stream: number(&payload)?, error: number(payload.get(4..).unwrap_or_default())? },
            kind => Frame::Other { kind },
        })
    }

    /// Reads on until this frame has come, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let mut before = Vec::new();
        loop {
            match self.try_frame() {
                Ok(frame) if is_it(&frame) => return frame,
                Ok(frame) => before.push(frame),
                Err(error) => panic!("{what} did not come, {error}; before that came {before:?}"),
            }
        }
    }

    /// Reads a stream's whole response: its status and its body.
    #[track_caller]
    pub(crate) fn response(&mut self, id: u32) -> (u16, String) {
        let mut answer = (0, String::new());
        loop {
            let over = match self.frame() {
                Frame::Headers { stream, status, ends } if stream == id => {
                    answer.0 = status;
                    ends
                }
                Frame::Data { stream, bytes, ends } if stream == id => {
                    answer.1.push_str(&String::from_utf8_lossy(&bytes));
                    ends
                }
                Frame::Reset { stream, error } if stream == id => panic!("stream {id} was reset with error {error}"),
                _ => false,
            };
            if over {
                return answer;
            }
        }
    }

    /// The frames that still come, and how the connection ends then.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (Vec<Frame>, End) {
        let mut frames = Vec::new();
        loop {
            match self.try_frame() {
                Ok(frame) => frames.push(frame),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return (frames, End::Fin),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (frames, End::Reset),
                Err(error) => panic!("no end of the connection, {error}; before that came {frames:?}"),
            }
        }
    }
}

/// A short string without Huffman's code.
fn text(block: &mut Vec<u8>, text: &str) {
    block.push(u8::try_from(text.len()).expect("a short text"));
    block.extend(text.as_bytes());
}

fn number(payload: &[u8]) -> io::Result<u32> {
    let bytes = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(short)?;
    Ok(u32::from_be_bytes(bytes) & ANY_STREAM)
}

fn short() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a frame that is too short")
}

/// `:status` comes first in a response's block: by its index in the static table, or as a literal under index 8. Zero: none.
fn status(block: &[u8]) -> u16 {
    const BY_INDEX: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        [index @ 0x88..=0x8e, ..] => BY_INDEX[usize::from(index - 0x88)],
        [0x48 | 0x08 | 0x18, length, ref rest @ ..] => {
            let coded = length & 0x80 != 0;
            let text = rest.get(..usize::from(length & 0x7f)).unwrap_or_default();
            if coded {
                huffman_digits(text)
            } else {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
            }
        }
        _ => 0,
    }
}

/// Three digits in HPACK's Huffman code: 0 to 2 have five bits, 3 to 9 have six and begin with 011.
fn huffman_digits(text: &[u8]) -> u16 {
    let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut take = |count: usize| bits.by_ref().take(count).fold(0, |number, bit| number << 1 | bit);
    (0..3).fold(0, |number, _| {
        let first = take(5);
        let digit = if first < 3 { first } else { (first << 1 | take(1)) - 0b01_1001 + 3 };
        number * 10 + digit
    })
}

#[test]
fn the_status_is_read_in_every_form() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x8e, 0x40]), 500);
    assert_eq!(status(&[0x48, 3, b'5', b'0', b'3']), 503);
    // 503: 011011 00000 011001, padded with ones.
    assert_eq!(status(&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111]), 503);
}
