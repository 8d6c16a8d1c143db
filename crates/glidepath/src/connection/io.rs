//! The socket as hyper and upgraded handlers hold it.
//!
//! The guard is inside the IO: wherever the IO goes, into hyper's `Upgraded` too, the connection's task is told what
//! passes through it, and when the last user drops it the socket comes back to the task, which closes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::entry::Entry;
use super::is_blank;
use super::upgraded::{Upgrade, Wire};
use crate::stream::{Stream, or_end};

#[derive(Debug)]
pub(crate) struct Io {
    socket: Socket,
    /// Bytes that were read before hyper was there.
    prefix: Bytes,
    /// The peer's stream was read to its end.
    ended: bool,
    entry: Arc<Entry>,
}

#[derive(Debug)]
enum Socket {
    Own(Stream),
    /// Since the answer that switched protocols.
    Shared(Wire),
    /// It was taken out.
    Gone,
}

impl Io {
    pub(crate) fn new(stream: Stream, prefix: Bytes, entry: Arc<Entry>) -> Self {
        entry.registry().hyper_takes();
        Self { socket: Socket::Own(stream), prefix, ended: false, entry }
    }

    /// The bare socket; `None` if it is shared with a handler.
    pub(crate) fn into_stream(mut self) -> Option<Stream> {
        match std::mem::replace(&mut self.socket, Socket::Gone) {
            Socket::Own(stream) => Some(stream),
            Socket::Shared(_) | Socket::Gone => None,
        }
    }

    /// Whether the peer's stream was read to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The answer that switches protocols is out: from now on the handler and the connection's task share the socket.
    fn share(&mut self, upgrade: Upgrade) {
        self.socket = match std::mem::replace(&mut self.socket, Socket::Gone) {
            Socket::Own(stream) => {
                let wire = Wire::new(stream, upgrade);
                self.entry.share(wire.clone());
                Socket::Shared(wire)
            }
            other => other,
        };
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Io {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix[..n]);
            this.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        match &mut this.socket {
            Socket::Own(stream) => {
                let before = buf.filled().len();
                match Pin::new(stream).poll_read(cx, buf) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(error) => return Poll::Ready(or_end(error)),
                    Poll::Pending => return Poll::Pending,
                }
                match &buf.filled()[before..] {
                    [] => this.ended = buf.remaining() > 0,
                    read if is_blank(read) => {}
                    _ => this.entry.heard(),
                }
                Poll::Ready(Ok(()))
            }
            Socket::Shared(wire) => wire.poll_read(cx, buf),
            Socket::Gone => gone(),
        }
    }
}

impl AsyncWrite for Io {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            // hyper yields by itself when it has gone round often enough.
            Socket::Own(stream) => stream.poll_send(cx, buf),
            Socket::Shared(wire) => wire.poll_write(cx, &[io::IoSlice::new(buf)]),
            Socket::Gone => gone(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().socket {
            Socket::Own(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Shared(wire) => wire.poll_write(cx, bufs),
            Socket::Gone => gone(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Own(stream) => stream.is_write_vectored(),
            Socket::Shared(_) => true,
            Socket::Gone => false,
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.socket {
            Socket::Own(stream) => {
                if stream.is_tls() {
                    ready!(Pin::new(stream).poll_flush(cx))?;
                }
                // hyper flushes the IO only when its own buffer is empty: the response is wholly with the kernel.
                if let Some(upgrade) = this.entry.flushed() {
                    this.share(upgrade);
                }
                Poll::Ready(Ok(()))
            }
            Socket::Shared(wire) => wire.poll_flush(cx),
            Socket::Gone => gone(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            // The connection's task sends the FIN when hyper is done, and knows what may still come.
            Socket::Own(_) => Poll::Ready(Ok(())),
            Socket::Shared(wire) => wire.poll_shutdown(cx),
            Socket::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.entry.registry().hyper_gives_back();
        match std::mem::replace(&mut self.socket, Socket::Gone) {
            Socket::Own(stream) => self.entry.give_back(stream),
            Socket::Shared(wire) => wire.drop_handlers_end(),
            Socket::Gone => {}
        }
    }
}
