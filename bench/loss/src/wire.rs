//! One connection, byte by byte. TLS comes in here, and nowhere else: `open` makes the stream, `look` peeks at its TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::judge::{Answer, End};

/// Longer than any answer takes. Whoever waited this long has been forgotten.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    stream: TcpStream,
    /// Came, and not used yet.
    held: Vec<u8>,
    sent_at: Instant,
    /// FIN was there as soon as the write was done.
    crossed: bool,
}

pub(crate) enum NotOpened {
    Refused,
    Reset,
    /// Neither established nor refused: a SYN that nobody answers.
    Hung,
    /// Our own trouble, such as no free port.
    Local,
}

/// What is there to be read, without reading it.
#[derive(PartialEq, Eq)]
pub(crate) enum Look {
    Quiet,
    Bytes,
    Fin,
    Reset,
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
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, NotOpened> {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _as_it_is = stream.set_nodelay(true);
                Ok(Wire { stream, held: Vec::new(), sent_at: Instant::now(), crossed: false })
            }
            Ok(Err(error)) => Err(match error.kind() {
                io::ErrorKind::ConnectionRefused => NotOpened::Refused,
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => NotOpened::Reset,
                io::ErrorKind::TimedOut => NotOpened::Hung,
                _ => NotOpened::Local,
            }),
            Err(_) => Err(NotOpened::Hung),
        }
    }

    /// Asks the kernel: what the runtime knows may be older.
    pub(crate) fn look(&self) -> Look {
        if self.held.is_empty() { look(&self.stream) } else { Look::Bytes }
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
        self.crossed = look(&self.stream) == Look::Fin;
        self.send_more(&bytes[written..]).await
    }

    /// The rest of a request.
    pub(crate) async fn send_more(&mut self, bytes: &[u8]) -> Result<(), End> {
        match timeout(PATIENCE, self.stream.write_all(bytes)).await {
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
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Reads to the end of the connection, and throws away what comes.
    pub(crate) async fn end(&mut self) -> End {
        loop {
            self.held.clear();
            if let Err(end) = self.fill().await {
                return end;
            }
        }
    }

    /// The next answer. `Err` says how much of it came.
    pub(crate) async fn response(&mut self) -> Result<Response, Answer> {
        let head = self.head().await?;
        let mut body = Vec::new();
        match head.framing {
            Framing::Length(length) => {
                while self.held.len() < length {
                    self.fill().await.map_err(Answer::Part)?;
                }
                body.extend(self.held.drain(..length));
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk().await.map_err(Answer::Part)? {
                    body.extend(chunk);
                }
            }
        }
        Ok(Response { status: head.status, close: head.close, body })
    }

    pub(crate) async fn head(&mut self) -> Result<Head, Answer> {
        loop {
            if let Some(end) = find(&self.held, b"\r\n\r\n") {
                let head = parse(&self.held[..end]).ok_or(Answer::Wrong)?;
                self.held.drain(..end + 4);
                return Ok(head);
            }
            let nothing = self.held.is_empty();
            self.fill().await.map_err(|end| if nothing { Answer::None(end) } else { Answer::Part(end) })?;
        }
    }

    /// The next chunk of a chunked body, or none at its proper end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, End> {
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
        let chunk = self.held[line + 2..line + 2 + size].to_vec();
        self.held.drain(..line + 2 + size + 2);
        Ok((size > 0).then_some(chunk))
    }

    async fn fill(&mut self) -> Result<(), End> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.held)).await {
            Ok(Ok(0)) => Err(End::Fin),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::of(&error)),
            Err(_) => Err(End::Silence),
        }
    }
}

pub(crate) fn look(stream: &TcpStream) -> Look {
    let mut byte = [0; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Look::Fin,
        Ok(_) => Look::Bytes,
        Err(Errno::AGAIN | Errno::INTR) => Look::Quiet,
        Err(_) => Look::Reset,
    }
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
            let Ok(mut wire) = Wire::open(address).await else { panic!("it listens") };
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
