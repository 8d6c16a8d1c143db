//! What HTTP is spoken over: a socket, or TLS on one.
//!
//! Everything here works without waiting, so that whoever closes or says goodbye in the place of others can use it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;
#[cfg(feature = "tls")]
use crate::tls::Session;

/// A connection to a peer.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    /// After the handshake. Boxed: connections without TLS stay small.
    #[cfg(feature = "tls")]
    Tls(Box<Session>),
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

/// The same expression for each kind of stream.
macro_rules! each {
    ($self:expr, $stream:ident => $do:expr) => {
        match $self {
            Stream::Plain($stream) => $do,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $do,
        }
    };
}

impl Stream {
    /// What is underneath; its bytes may be encrypted.
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(session) => session.socket(),
        }
    }

    /// A peer that hears of the end by TLS answers with a close_notify of its own.
    pub(crate) fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// More than zero is a request on its way: bytes that the kernel holds for us, and over TLS what is decrypted and
    /// not read, or half a record. What a record in the kernel holds is not known; it is taken for a request.
    pub(crate) fn unread(&self) -> u64 {
        each!(self, stream => stream.unread())
    }

    /// Part of a TLS record has come: a request whose first byte cannot be told yet.
    pub(crate) fn is_inside_record(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(session) => session.is_inside_record(),
        }
    }

    /// Reads what is there, and holds no buffer while nothing is; zero at the end of the stream.
    ///
    /// Records of TLS must be read to know whether they hold a byte of a request: alerts and tickets do not.
    pub(crate) fn poll_first(&mut self, first: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buf = [const { MaybeUninit::uninit() }; 4096];
        let mut read = ReadBuf::uninit(&mut buf);
        Pin::new(self).poll_read(cx, &mut read).map(|end| {
            or_end(end)?;
            match first.is_empty() {
                true => *first = BytesMut::from(read.filled()),
                false => first.extend_from_slice(read.filled()),
            }
            Ok(read.filled().len())
        })
    }

    /// The peer has sent its FIN, and everything before that was read. Of TLS it is not asked: a record may be under way.
    pub(crate) fn is_at_end(&self) -> bool {
        match self {
            Self::Plain(socket) => matches!(socket.try_peek(&mut [0]), Ok(0)),
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }

    /// Reads what is there, without waiting, and gives its length only.
    pub(crate) fn throw_away(&mut self) -> io::Result<usize> {
        // Not the caller's: it may have many streams that it waits for.
        self.try_read(&mut [0; 4096])
    }

    /// Reads what is there, without waiting.
    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buf),
            #[cfg(feature = "tls")]
            Self::Tls(session) => {
                let mut read = ReadBuf::new(buf);
                or_end(now(|cx| Pin::new(session).poll_read(cx, &mut read)))?;
                Ok(read.filled().len())
            }
        }
    }

    /// Writes what fits, without waiting.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(session) => {
                let written = now(|cx| Pin::new(&mut *session).poll_write(cx, bytes))?;
                // What the socket does not take goes out before the next write, or before the close.
                let _ = now(|cx| Pin::new(session).poll_flush(cx));
                Ok(written)
            }
        }
    }

    /// As `poll_write`, for whoever sees to it that a peer who is always ready does not keep a worker for itself.
    #[inline]
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_send(cx, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(session) => Pin::new(session).poll_write(cx, bytes),
        }
    }

    /// Sends the FIN, over TLS behind a close_notify (RFC 8446, section 6.1); what was written before still goes out.
    ///
    /// False if the socket is too full for that: then again when it is writable.
    pub(crate) fn shut(&mut self) -> bool {
        let shut = now(|cx| Pin::new(self).poll_shutdown(cx));
        !shut.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Does it now or not at all: nobody is woken for it later.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A peer that sends its FIN without a close_notify has ended its stream all the same. HTTP's messages say themselves
/// whether they are whole (RFC 9112, section 9.8).
pub(crate) fn or_end(read: io::Result<()>) -> io::Result<()> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read,
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
