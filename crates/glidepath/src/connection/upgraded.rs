//! A connection that the app has taken over, or a stream of one (HTTP/2), seen from both ends: the handler reads and writes
//! through it, and a task of ours says goodbye for a handler that does not, and takes it back.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Follower, close_frame};
use crate::stream::Stream;
use crate::sync::{Mutex, MutexGuard, lock};

/// The server is going away (RFC 6455, section 7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;

/// It restarts: connecting again is worth it (the WebSocket close code registry).
pub(crate) const SERVICE_RESTART: u16 = 1012;

/// What was switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    WebSocket,
    /// Nothing is known of its bytes.
    Raw,
}

/// What was upgraded, a socket or a stream, shared by the handler's IO and our task.
pub(crate) struct Wire<T = Stream>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    /// `None`: the task has taken it back.
    stream: Option<T>,
    upgrade: Upgrade,
    inbound: Follower,
    outbound: Follower,
    goodbye: Goodbye,
    /// What our Close says.
    code: u16,
    /// Bytes that the handler wrote behind our Close.
    thrown_away: usize,
    /// The handler has dropped its end.
    dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    task: Option<Waker>,
}

/// Who says goodbye, and how far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// The handler may, in its own time.
    Handlers,
    /// We do, as soon as the frame that is going out has ended.
    Due,
    /// This much of ours is written. What the handler writes from now on is thrown away.
    Ours(usize),
}

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    pub(crate) fn new(stream: T, upgrade: Upgrade) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            stream: Some(stream),
            upgrade,
            inbound: Follower::default(),
            outbound: Follower::default(),
            goodbye: Goodbye::Handlers,
            code: GOING_AWAY,
            thrown_away: 0,
            dropped: false,
            reader: None,
            writer: None,
            task: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        lock(&self.0)
    }

    // ===== the handler's end =====

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.reader = Some(cx.waker().clone());
        // Taken back: the end of the stream.
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Ok(())) };
        let before = buf.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if inner.upgrade == Upgrade::WebSocket {
            inner.inbound.follow(read);
        }
        if read.is_empty() || inner.inbound.saw_close() {
            inner.wake_task();
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.writer = Some(cx.waker().clone());
        if inner.stream.is_none() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.goodbye != Goodbye::Handlers && inner.outbound.is_between() {
            // No further frame may begin.
            ready!(inner.poll_say_goodbye(cx));
            inner.wake_task();
            return inner.throw_away(bufs.iter().map(|buf| buf.len()).sum());
        }
        let Some(stream) = &mut inner.stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        if inner.upgrade == Upgrade::Raw {
            return Pin::new(stream).poll_write_vectored(cx, bufs);
        }
        if inner.goodbye == Goodbye::Due {
            // Only what ends the frame: who never stops in between would never be said goodbye for.
            let buf = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            let rest = inner.outbound.clone().follow_frame(buf);
            let written = ready!(Pin::new(stream).poll_write(cx, &buf[..rest]))?;
            inner.outbound.follow(&buf[..written]);
            inner.wake_task();
            return Poll::Ready(Ok(written));
        }
        let written = ready!(Pin::new(stream).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let n = left.min(buf.len());
            inner.outbound.follow(&buf[..n]);
            left -= n;
        }
        if inner.outbound.saw_close() {
            inner.wake_task();
        }
        Poll::Ready(Ok(written))
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// A handler that has said goodbye may close its direction. One that was said goodbye for does not need to.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        match (inner.goodbye, &mut inner.stream) {
            (Goodbye::Ours(_), _) | (_, None) => Poll::Ready(Ok(())),
            (_, Some(stream)) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// The handler is done with it.
    pub(crate) fn drop_handlers_end(&self) {
        let mut inner = self.lock();
        inner.dropped = true;
        inner.wake_task();
    }

    // ===== the task's end =====

    /// The task wants to know when the handler is done, or the closing handshake gets on.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.lock().task = Some(cx.waker().clone());
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    pub(crate) fn is_web_socket(&self) -> bool {
        self.lock().upgrade == Upgrade::WebSocket
    }

    /// A Close has gone out whole, from the handler or from us.
    pub(crate) fn said_goodbye(&self) -> bool {
        let inner = self.lock();
        inner.goodbye == Goodbye::Ours(close_frame(inner.code).len()) || inner.outbound.saw_close()
    }

    /// The peer's Close has come.
    pub(crate) fn heard_goodbye(&self) -> bool {
        self.lock().inbound.saw_close()
    }

    /// Says goodbye with this code for a handler that does not, as soon as no frame is going out. Ready when it is said,
    /// also by the handler meanwhile.
    pub(crate) fn poll_say_goodbye(&self, code: u16, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.goodbye == Goodbye::Handlers {
            inner.goodbye = Goodbye::Due;
            inner.code = code;
        }
        if inner.outbound.saw_close() {
            return Poll::Ready(());
        }
        if !inner.outbound.is_between() {
            // Its last byte wakes the task.
            return Poll::Pending;
        }
        ready!(inner.poll_say_goodbye(cx));
        // It may have waited for the same socket.
        if let Some(writer) = inner.writer.take() {
            writer.wake();
        }
        Poll::Ready(())
    }

    /// Waits for the peer's Close in place of a handler that does not read. What else comes is thrown away.
    pub(crate) fn poll_goodbye(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut buf = [0; 2048];
        while !inner.inbound.saw_close() {
            let Some(stream) = &mut inner.stream else { return Poll::Ready(()) };
            let mut read = ReadBuf::new(&mut buf);
            match ready!(Pin::new(stream).poll_read(cx, &mut read)) {
                Ok(()) if read.filled().is_empty() => return Poll::Ready(()),
                Ok(()) => inner.inbound.follow(read.filled()),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }

    /// Takes it away from the handler, which reads the end of the stream from now on.
    pub(crate) fn take_back(&self) -> Option<T> {
        let mut inner = self.lock();
        let stream = inner.stream.take();
        let waiting = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        waiting.into_iter().flatten().for_each(Waker::wake);
        stream
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Inner<T> {
    fn wake_task(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// What the handler writes behind our Close nobody would read. Its own goodbye is taken, and nothing more: who goes on
    /// writing waits until the connection is taken back.
    fn throw_away(&mut self, bytes: usize) -> Poll<io::Result<usize>> {
        const A_GOODBYE: usize = 4096;
        if self.thrown_away > A_GOODBYE {
            return Poll::Pending;
        }
        self.thrown_away += bytes;
        Poll::Ready(Ok(bytes))
    }

    /// Writes our Close, between two frames. A socket that fails is not going to say more.
    fn poll_say_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let frame = close_frame(self.code);
        loop {
            let written = match self.goodbye {
                Goodbye::Ours(written) => written,
                Goodbye::Handlers | Goodbye::Due => 0,
            };
            let Some(stream) = self.stream.as_mut().filter(|_| written < frame.len()) else { break };
            let n = ready!(Pin::new(stream).poll_write(cx, &frame[written..])).unwrap_or(frame.len() - written);
            self.goodbye = Goodbye::Ours(written + n);
        }
        // Over TLS it may have been taken and not be with the kernel yet.
        self.stream.as_mut().map_or(Poll::Ready(()), |stream| Pin::new(stream).poll_flush(cx).map(drop))
    }
}
