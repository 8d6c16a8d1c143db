//! TLS on a socket (RFC 8446), by rustls. The caller's configuration brings the cryptography.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{FallibleAccept, TlsAcceptor};

use crate::socket::Socket;

/// A handshake under way.
pub(crate) struct Handshake(Box<FallibleAccept<Followed>>);

impl Handshake {
    pub(crate) fn new(socket: Socket, config: Arc<ServerConfig>) -> Self {
        let followed = Followed { socket, records: Records::default() };
        Self(Box::new(TlsAcceptor::from(config).accept(followed).into_fallible()))
    }

    /// Ready once our last flight is with the kernel. If it fails, its alert is sent, and the socket comes back.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Session>, (io::Error, Socket)>> {
        let ended = ready!(Pin::new(&mut *self.0).poll(cx));
        Poll::Ready(match ended {
            Ok(tls) => Ok(Box::new(Session(tls))),
            Err((error, followed)) => Err((error, followed.socket)),
        })
    }
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Session(TlsStream<Followed>);

impl Session {
    pub(crate) fn socket(&self) -> &Socket {
        &self.0.get_ref().0.socket
    }

    pub(crate) fn is_inside_record(&self) -> bool {
        self.0.get_ref().0.records.is_inside()
    }

    /// Bytes in the kernel; one more for what is decrypted and not read (rustls wants no more records then), and for half
    /// a record.
    pub(crate) fn unread(&self) -> u64 {
        let decrypted = !self.0.get_ref().1.wants_read();
        self.socket().unread() + u64::from(decrypted) + u64::from(self.is_inside_record())
    }
}

impl AsyncRead for Session {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Session {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    /// close_notify, then the FIN.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// The socket under rustls, which takes bytes out of the kernel and does not say whether they are whole records.
#[derive(Debug)]
struct Followed {
    socket: Socket,
    records: Records,
}

impl AsyncRead for Followed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        this.records.follow(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Followed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Follows records (RFC 8446, section 5.1) without looking at their content: where one ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    /// The header of the record that is going by, as far as it has come: type, version, length.
    header: [u8; 5],
    header_len: usize,
    /// What is still to come of its fragment.
    fragment: usize,
}

impl Records {
    /// True if part of a record has gone by, and not all.
    pub(crate) fn is_inside(&self) -> bool {
        self.header_len > 0 || self.fragment > 0
    }

    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.fragment > 0 {
                let n = self.fragment.min(bytes.len());
                self.fragment -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.header[self.header_len] = *first;
            self.header_len += 1;
            bytes = rest;
            if self.header_len == self.header.len() {
                let [_, _, _, high, low] = self.header;
                self.fragment = usize::from(u16::from_be_bytes([high, low]));
                self.header_len = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_end_where_they_end_however_they_are_cut(
            lengths in prop::collection::vec(0u16..17000, 1..6),
            cut in 1usize..5000,
        ) {
            let mut records = Records::default();
            for length in lengths {
                // A fragment that looks like headers.
                let mut record = vec![23, 3, 3];
                record.extend(length.to_be_bytes());
                record.extend(std::iter::repeat_n(23, usize::from(length)));
                let (last, rest) = record.split_last().unwrap();
                for piece in rest.chunks(cut) {
                    records.follow(piece);
                    prop_assert!(records.is_inside());
                }
                records.follow(&[*last]);
                prop_assert!(!records.is_inside());
            }
        }
    }
}
