//! One connection, byte by byte. Nothing is hidden that is to be judged: FIN, RST and silence are told apart.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod kernel;
mod tls;
pub(crate) mod websocket;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use crate::clock::{ms, now, pause, wait_until};
use crate::model::EventKind;
use crate::record::{Pen, Recorder};
use tls::Tls;

/// The longest that one write may take: the server reads, or its buffers have room.
const WRITE: Duration = Duration::from_secs(5);
/// How long a kernel that does not tell is given instead.
const UNTOLD: Duration = Duration::from_millis(150);
/// Between the read and the handler there may be a queue or two. What is lost in there is a race, which other cases are about.
const TO_SEE_IT: Duration = Duration::from_millis(10);

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Unix(PathBuf),
}

/// How a server ended its side of a connection, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
    /// Nothing came for as long as was waited.
    Silence,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    Refused,
    Reset,
    Hung,
}

/// What is there to be read, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Quiet,
    Bytes,
    Fin,
    Reset,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

enum Stream {
    Plain(Socket),
    Tls(Box<Tls>),
}

/// A connection, what came on it and is not used yet, and its line in the book.
pub(crate) struct Wire {
    stream: Stream,
    held: Vec<u8>,
    pen: Pen,
    over: Option<End>,
}

impl Wire {
    pub(crate) fn open(address: &Address, recorder: &Recorder) -> Result<Self, NotOpened> {
        Self::open_with(address, recorder, &[], None)
    }

    /// `window` is the size of the receive buffer: a small one leaves most of a long answer in the server.
    pub(crate) fn open_with(
        address: &Address,
        recorder: &Recorder,
        alpn: &[&str],
        window: Option<usize>,
    ) -> Result<Self, NotOpened> {
        let pen = recorder.lane(match address {
            Address::Tcp(_) | Address::Unix(_) => "http/1.1",
            Address::Tls(_) => "http/1.1+tls",
        });
        let socket = match address {
            Address::Tcp(address) | Address::Tls(address) => connect(*address, window).map(Socket::Tcp),
            Address::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        };
        let socket = socket.map_err(|error| {
            let why = NotOpened::of(&error);
            pen.event(if why == NotOpened::Refused { EventKind::Refused } else { EventKind::Rst }, error.to_string());
            why
        })?;
        pen.event(EventKind::Connect, "connected");
        socket.patience(WRITE);
        let stream = match address {
            Address::Tls(_) => Stream::Tls(Box::new(Tls::over(socket, alpn).map_err(|error| NotOpened::of(&error))?)),
            Address::Tcp(_) | Address::Unix(_) => Stream::Plain(socket),
        };
        Ok(Wire { stream, held: Vec::new(), pen, over: None })
    }

    pub(crate) fn pen(&self) -> &Pen {
        &self.pen
    }

    pub(crate) fn tls(&mut self) -> Option<&mut Tls> {
        match &mut self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(tls),
        }
    }

    /// Whether the server said goodbye in TLS. None where no TLS is spoken.
    pub(crate) fn notified(&self) -> Option<bool> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(tls.notified()),
        }
    }

    fn socket(&self) -> &Socket {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.socket(),
        }
    }

    /// A write that fails is not the last word: what the server had sent before may still be read, so reading tells.
    pub(crate) fn send(&mut self, bytes: &[u8], what: &str) -> bool {
        self.pen.event_with(EventKind::Sent, what, bytes);
        let written = match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(tls) => write_all(tls, bytes),
        };
        written.is_ok()
    }

    pub(crate) fn half_close(&mut self) -> bool {
        self.pen.event(EventKind::HalfClosed, "client sends no more");
        self.socket().shut(Shutdown::Write).is_ok()
    }

    /// Reads some more. Whatever ends the connection is written down once.
    pub(crate) fn fill(&mut self, until: Instant) -> Result<usize, End> {
        if let Some(end) = self.over {
            return Err(end);
        }
        let left = until.saturating_duration_since(now());
        if left.is_zero() && self.look() == Look::Quiet {
            return Err(End::Silence);
        }
        self.socket().patience(left.max(ms(1)));
        let mut buffer = [0; 16 << 10];
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut buffer),
            Stream::Tls(tls) => tls.read(&mut buffer),
        };
        self.socket().patience(WRITE);
        match read {
            Ok(0) => Err(self.ended(End::Fin)),
            Ok(read) => {
                self.held.extend(&buffer[..read]);
                Ok(read)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(End::Silence),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(self.ended(End::Reset)),
        }
    }

    fn ended(&mut self, end: End) -> End {
        if self.notified() == Some(true) {
            self.pen.event(EventKind::CloseNotify, "close_notify");
        }
        match end {
            End::Fin => self.pen.event(EventKind::Fin, "FIN"),
            End::Reset => self.pen.event(EventKind::Rst, "RST"),
            End::Silence => {}
        }
        self.over = Some(end);
        end
    }

    /// Exactly so many bytes.
    pub(crate) fn take(&mut self, count: usize, until: Instant) -> Result<Vec<u8>, End> {
        while self.held.len() < count {
            self.fill(until)?;
        }
        Ok(self.held.drain(..count).collect())
    }

    /// Reads to the end of the connection, and throws away what comes.
    pub(crate) fn end(&mut self, until: Instant) -> End {
        loop {
            match self.fill(until) {
                Ok(read) => self.pen.came(read),
                Err(end) => return end,
            }
        }
    }

    /// Asks the kernel, takes nothing and waits for nothing.
    pub(crate) fn look(&self) -> Look {
        if !self.held.is_empty() {
            return Look::Bytes;
        }
        let mut byte = [0; 1];
        match recv(self.socket(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Look::Fin,
            Ok(_) => Look::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Look::Quiet,
            Err(_) => Look::Reset,
        }
    }

    /// Returns once the server has read all that was sent, and had a moment to see that it is a request, which may be another
    /// thread's task: the request is in flight.
    pub(crate) fn until_read(&mut self) -> &mut Self {
        self.until(kernel::is_read);
        pause(TO_SEE_IT);
        self
    }

    pub(crate) fn until_accepted(&mut self) -> &mut Self {
        self.until(kernel::is_accepted);
        self
    }

    fn until(&self, is_so: fn(&TcpStream) -> Option<bool>) {
        let Socket::Tcp(socket) = self.socket() else { return pause(UNTOLD) };
        if is_so(socket).is_none() {
            return pause(UNTOLD);
        }
        // A server may have its reasons never to read; then the script goes on.
        wait_until(ms(2000), || is_so(socket).unwrap_or(true));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.over.is_none() {
            self.pen.event(EventKind::Closed, "closed by the client");
        }
    }
}

fn connect(address: SocketAddr, window: Option<usize>) -> io::Result<TcpStream> {
    let stream = match window {
        None => TcpStream::connect_timeout(&address, Duration::from_secs(3))?,
        Some(size) => {
            // No server that is started meanwhile is to hold it open.
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, size)?;
            rustix::net::connect(&socket, &address)?;
            TcpStream::from(socket)
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn write_all(tls: &mut Tls, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tls.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

impl NotOpened {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Hung,
            _ => Self::Reset,
        }
    }
}

impl Socket {
    fn patience(&self, time: Duration) {
        // A socket whose timeouts can't be set is gone, and reading says so.
        let _gone = match self {
            Self::Tcp(socket) => {
                socket.set_read_timeout(Some(time)).and_then(|()| socket.set_write_timeout(Some(WRITE)))
            }
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(time)).and_then(|()| socket.set_write_timeout(Some(WRITE)))
            }
        };
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}
