//! The socket as hyper and upgraded handlers hold it.
//!
//! The guard is inside the IO: wherever the IO goes, into hyper's `Upgraded` too, the entry is told what passes through
//! it, and when the last user drops it the socket comes back to the connection's task, which closes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::entry::{Entry, Stage, State};
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) struct Io {
    /// `None` only while it is being dropped.
    stream: Option<Stream>,
    /// Bytes that were read before hyper was there.
    prefix: Bytes,
    entry: Arc<Entry>,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl Io {
    pub(crate) fn new(stream: Stream, prefix: Bytes, entry: Arc<Entry>) -> Self {
        Self { stream: Some(stream), prefix, entry }
    }

    /// The bare socket; its entry is no longer told.
    pub(crate) fn into_stream(mut self) -> Option<Stream> {
        self.stream.take()
    }

    /// While it is upgraded nobody else polls it: the end must reach whoever waits here.
    fn check(&self, side: usize, cx: &Context<'_>) -> io::Result<()> {
        if self.entry.state() == State::Upgraded {
            self.entry.register_user(side, cx.waker());
            if self.entry.stage() >= Stage::Cut {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut at the end of the grace period"));
            }
        }
        Ok(())
    }

    fn pinned(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(READ, cx)?;
        if !self.prefix.is_empty() {
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..n]);
            self.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.pinned()?.poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.entry.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(WRITE, cx)?;
        self.pinned()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(WRITE, cx)?;
        self.pinned()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pinned()?.poll_flush(cx))?;
        // hyper flushes the IO only when its own buffer is empty: the response is wholly with the kernel.
        self.entry.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_shutdown(cx)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.entry.give_back(stream);
        }
    }
}
