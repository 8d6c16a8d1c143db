//! One connection, byte by byte: the look for FIN, the write right after it, HTTP/1 answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::judge::{Answer, End};
use crate::stream::{Look, Stream};

/// Longer than any answer takes. Whoever waited this long has been forgotten.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    stream: Stream,
    /// Came, and not used yet.
    held: BytesMut,
    /// Waited before each read, by a client that reads slowly.
    pub(crate) pace: Duration,
    sent_at: Instant,
    /// FIN was there as soon as the write was done.
    crossed: bool,
}

/// Where to, and how.
pub(crate) struct Door<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<&'a TlsConnector>,
    /// Looks for FIN before the ClientHello.
    pub(crate) looks: bool,
    /// Takes little at a time: a small receive buffer, and segments as small as Ethernet's, which keep the server's send
    /// buffer small too.
    pub(crate) is_narrow: bool,
    /// Counts the connections over TLS that ended without close_notify.
    pub(crate) bare: &'a Arc<AtomicU64>,
}

pub(crate) enum NotOpened {
    Refused,
    Reset,
    /// Neither established nor refused: a SYN that nobody answers.
    Hung,
    /// FIN was there before anything was sent: a busy client comes late to its own connection.
    AtRest,
    /// Established, and the TLS handshake came to nothing so long after it began.
    Handshake(Answer, Duration),
    /// Our own trouble, such as no free port.
    Local,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) close: bool,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) close: bool,
    pub(crate) framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

impl Wire {
    pub(crate) async fn open(door: &Door<'_>) -> Result<Self, NotOpened> {
        let tcp = match timeout(PATIENCE, connect(door)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                return Err(match error.kind() {
                    io::ErrorKind::ConnectionRefused => NotOpened::Refused,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => NotOpened::Reset,
                    io::ErrorKind::TimedOut => NotOpened::Hung,
                    _ => NotOpened::Local,
                });
            }
            Err(_) => return Err(NotOpened::Hung),
        };
        Wire::begin(tcp, door).await
    }

    /// On a connection that is established.
    async fn begin(tcp: TcpStream, door: &Door<'_>) -> Result<Self, NotOpened> {
        let _as_it_is = tcp.set_nodelay(true);
        let mut tcp = Stream::Clear(tcp);
        if door.tls.is_some() && door.looks && tcp.look() == Look::Fin {
            return Err(NotOpened::AtRest);
        }
        let begun = Instant::now();
        let stream = match door.tls {
            None => tcp,
            Some(tls) => match timeout(PATIENCE, tcp.with_tls(tls, door.bare)).await {
                Ok(Ok(stream)) => stream,
                // rustls's word for an alert, or for bytes that are no TLS.
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(NotOpened::Handshake(Answer::Wrong, begun.elapsed()));
                }
                Ok(Err(error)) => return Err(NotOpened::Handshake(Answer::None(End::of(&error)), begun.elapsed())),
                Err(_) => return Err(NotOpened::Handshake(Answer::None(End::Silence), begun.elapsed())),
            },
        };
        Ok(Wire { stream, held: BytesMut::new(), pace: Duration::ZERO, sent_at: Instant::now(), crossed: false })
    }

    pub(crate) fn look(&mut self) -> Look {
        if self.held.is_empty() { self.stream.look() } else { Look::Bytes }
    }

    /// Writes at once, without a chance for anything to come between the look and the write.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.sent_at = Instant::now();
                return Err(End::of(&error));
            }
        };
        self.sent_at = Instant::now();
        self.crossed = self.stream.look() == Look::Fin;
        self.send_more(&bytes[written..]).await
    }

    /// The rest of a request.
    pub(crate) async fn send_more(&mut self, bytes: &[u8]) -> Result<(), End> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(PATIENCE, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::of(&error)),
            Err(_) => Err(End::Silence),
        }
    }

    pub(crate) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    pub(crate) fn since_sent(&self) -> Duration {
        if self.crossed { Duration::ZERO } else { self.sent_at.elapsed() }
    }

    /// The stream itself, for clients that bring their own protocol. Only before anything was read.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Reads to the end of the connection, and throws away what comes.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            self.held.clear();
            match self.fill().await {
                Ok(()) => {}
                Err(End::Fin) => return self.stream.bottom().await,
                Err(end) => return end,
            }
        }
    }

    /// The next answer. `Err` says how much of it came.
    pub(crate) async fn response(&mut self) -> Result<Response, Answer> {
        let head = self.head().await?;
        self.body(head).await
    }

    pub(crate) async fn body(&mut self, head: Head) -> Result<Response, Answer> {
        let mut body = Vec::new();
        match head.framing {
            Framing::Length(length) => {
                while self.held.len() < length {
                    self.fill().await.map_err(Answer::Part)?;
                }
                body.extend_from_slice(&self.held.split_to(length));
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk().await.map_err(Answer::Part)? {
                    body.extend_from_slice(&chunk);
                }
            }
        }
        Ok(Response { status: head.status, close: head.close, body })
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Answer> {
        loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                let head = parse(&self.held[..end]).ok_or(Answer::Wrong)?;
                self.held.advance(end + 4);
                return Ok(head);
            }
            let nothing = self.held.is_empty();
            self.fill().await.map_err(|end| if nothing { Answer::None(end) } else { Answer::Part(end) })?;
        }
    }

    /// The next chunk of a chunked body, or none at its proper end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<BytesMut>, End> {
        let line = loop {
            match find(&self.held, b"\r\n") {
                Some(end) => break end,
                None => self.fill().await?,
            }
        };
        let digits = std::str::from_utf8(&self.held[..line]).unwrap_or_default();
        // A size that is none ends the body in the middle, as far as a client can tell.
        let size = usize::from_str_radix(digits.trim(), 16).map_err(|_| End::Reset)?;
        while self.held.len() < line + 2 + size + 2 {
            self.fill().await?;
        }
        self.held.advance(line + 2);
        let chunk = self.held.split_to(size);
        self.held.advance(2);
        Ok((size > 0).then_some(chunk))
    }

    async fn fill(&mut self) -> Result<(), End> {
        if !self.pace.is_zero() {
            sleep(self.pace).await;
        }
        self.held.reserve(16 * 1024);
        match timeout(PATIENCE, self.stream.read_buf(&mut self.held)).await {
            Ok(Ok(0)) => Err(End::Fin),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::of(&error)),
            Err(_) => Err(End::Silence),
        }
    }
}

async fn connect(door: &Door<'_>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if door.is_narrow {
        socket.set_recv_buffer_size(4096)?;
        SockRef::from(&socket).set_tcp_mss(1460)?;
    }
    socket.connect(door.address).await
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut parsed = Head { status, close: false, framing: Framing::Length(0) };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.framing = Framing::Length(value.parse().ok()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            parsed.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            parsed.close = value.eq_ignore_ascii_case("close");
        }
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What the client makes of these bytes and the FIN after them.
    async fn response_to(bytes: &'static [u8]) -> Result<Response, Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client comes");
            stream.write_all(bytes).await.expect("it reads");
        };
        let ask = async {
            let door = Door { address, tls: None, looks: true, is_narrow: false, bare: &Arc::default() };
            let Ok(mut wire) = Wire::open(&door).await else { panic!("it listens") };
            wire.response().await
        };
        tokio::join!(serve, ask).1
    }

    #[tokio::test]
    async fn a_whole_answer_is_read_with_its_word_about_the_connection() {
        let response = response_to(b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(response, Ok(Response { status: 200, close: true, body: b"ok".to_vec() }));
        let response = response_to(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
        assert_eq!(response, Ok(Response { status: 200, close: false, body: b"ok".to_vec() }));
    }

    #[tokio::test]
    async fn a_connection_that_ended_before_its_handshake_had_nothing_to_lose() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tls = crate::stream::connector(b"http/1.1").expect("a connector");
        let serve = async {
            drop(listener.accept().await.expect("a client comes"));
            drop(listener.accept().await.expect("another one comes"));
        };
        let come = async {
            // Late to its own connection: the server's turn comes between the connect and the look.
            let door = Door { address, tls: Some(&tls), looks: true, is_narrow: false, bare: &Arc::default() };
            let tcp = connect(&door).await.expect("it listens");
            tcp.readable().await.expect("FIN comes");
            let looking = Wire::begin(tcp, &door).await;
            let door = Door { looks: false, ..door };
            let tcp = connect(&door).await.expect("it listens");
            tcp.readable().await.expect("FIN comes");
            (looking, Wire::begin(tcp, &door).await)
        };
        let (_, (looking, blind)) = tokio::join!(serve, come);
        assert!(matches!(looking, Err(NotOpened::AtRest)));
        assert!(matches!(blind, Err(NotOpened::Handshake(Answer::None(_), _))));
    }

    #[tokio::test]
    async fn nothing_and_a_part_are_told_apart() {
        assert_eq!(response_to(b"").await, Err(Answer::None(End::Fin)));
        assert_eq!(response_to(b"HTT").await, Err(Answer::Part(End::Fin)));
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok";
        assert_eq!(response_to(cut).await, Err(Answer::Part(End::Fin)));
    }

    #[tokio::test]
    async fn a_chunked_body_without_its_last_chunk_is_a_part() {
        let cut = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(response_to(cut).await, Err(Answer::Part(End::Fin)));
    }
}
