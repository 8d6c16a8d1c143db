//! A WebSocket client that answers only what a check tells it to.

use std::io::{self, Read};
use std::net::SocketAddr;

use super::Client;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;

/// What an upgrade asks for. The key is any sixteen bytes; the server's answer to it is not checked here.
pub(crate) const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n\
                                  sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";

/// One whole message of a client. The mask is zero, which leaves the bytes as they are.
pub(crate) fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short message");
    let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

pub(crate) struct WebSocket {
    http: Client,
}

impl WebSocket {
    #[track_caller]
    pub(crate) fn open(server: SocketAddr) -> Self {
        let mut http = Client::connect(server);
        http.send(super::http1::request("GET", "/ws", UPGRADE));
        assert_eq!(http.head().status, 101);
        WebSocket { http }
    }

    pub(crate) fn over(http: Client) -> Self {
        WebSocket { http }
    }

    pub(crate) fn http(&mut self) -> &mut Client {
        &mut self.http
    }

    /// Sends one whole message.
    #[track_caller]
    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        self.http.send(message(kind, payload));
    }

    /// The next frame: its first byte, which holds kind and end, and its payload.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        self.try_frame().unwrap_or_else(|error| panic!("no next WebSocket frame: {error}"))
    }

    pub(crate) fn try_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.http.stream.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1] & 0x7f)];
        self.http.stream.read_exact(&mut payload)?;
        Ok((head[0], payload))
    }

    /// The code of a Close frame, which must be the next frame.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> u16 {
        let (kind, payload) = self.frame();
        assert_eq!(kind, 0x80 | CLOSE, "not a Close frame, but {kind:#x} with {payload:?}");
        u16::from_be_bytes(payload[..2].try_into().expect("a code of two bytes"))
    }
}
