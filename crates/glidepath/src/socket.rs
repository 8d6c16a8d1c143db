//! A connected socket of any kind, and what can be asked of it that the reactor does not know.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(target_os = "linux")]
use tokio::task::coop::poll_proceed;

use crate::os::TcpInfo;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The same expression for each kind of socket.
macro_rules! each {
    ($self:expr, $socket:ident => $do:expr) => {
        match $self {
            Socket::Tcp($socket) => $do,
            #[cfg(unix)]
            Socket::Unix($socket) => $do,
        }
    };
}

impl Socket {
    /// How many bytes the kernel holds for us (ioctl FIONREAD): more than zero is a request on its way.
    ///
    /// Asks the kernel, not the reactor, which may not have heard of them yet.
    pub(crate) fn unread(&self) -> u64 {
        #[cfg(unix)]
        return each!(self, socket => rustix::io::ioctl_fionread(socket).unwrap_or(0));
        #[cfg(not(unix))]
        0
    }

    /// Waits until something is there, without taking it; zero is the peer's FIN.
    #[cfg(feature = "tls")]
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(each!(self, socket => socket.poll_read_ready(cx)))?;
            match self.try_peek(&mut [0]) {
                // Not ready after all; the reactor knows now.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return Poll::Ready(peeked),
            }
        }
    }

    /// Reads what is there, without waiting.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, socket => socket.try_read(buf))
    }

    /// Writes what fits, without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.try_write(bytes))
    }

    /// Looks at what is there without taking it (recv(2), `MSG_PEEK`); zero is the peer's FIN.
    pub(crate) fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        {
            let flags = rustix::net::RecvFlags::PEEK;
            each!(self, socket => socket.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(socket, &mut *buf, flags).map(|(n, _)| n)?)
            }))
        }
        #[cfg(not(unix))]
        match self {
            Self::Tcp(socket) => socket.try_io(Interest::READABLE, || socket2::SockRef::from(socket).peek(uninit(buf))),
        }
    }

    /// Waits for the next event on the sending side: the kernel gives one when the peer has acknowledged our FIN.
    pub(crate) async fn sending_side_changed(&self) -> io::Result<()> {
        each!(self, socket => {
            // What the reactor remembers is older than the FIN: forget it, so that only a new event counts.
            let _ = socket.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            socket.ready(Interest::WRITABLE).await.map(drop)
        })
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        each!(self, socket => socket.writable().await)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        each!(self, socket => socket.readable().await)
    }

    /// As `poll_write`, for whoever sees to it that a peer who is always ready does not keep a worker for itself: it does not count
    /// against the task's budget (`tokio::task::coop`).
    ///
    /// The reactor is asked once whether the socket takes more, and waited for only if not. The system call is made directly: the
    /// C library's is a place where a thread can be cancelled, and pays for that (pthreads(7)).
    #[cfg(target_os = "linux")]
    #[inline]
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut part = None;
            let sent = each!(self, socket => socket.try_io(Interest::WRITABLE, || {
                let sent = rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)?;
                if 0 < sent && sent < bytes.len() {
                    // It is full, and the reactor has to know that.
                    part = Some(sent);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(sent)
            }));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && part.is_none() => {}
                sent => return Poll::Ready(part.map_or(sent, Ok)),
            }
            ready!(each!(self, socket => socket.poll_write_ready(cx)))?;
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    fn tcp_info(&self) -> Option<TcpInfo> {
        match self {
            #[cfg(unix)]
            Self::Tcp(socket) => crate::os::tcp_info(std::os::fd::AsFd::as_fd(socket)),
            #[cfg(not(unix))]
            Self::Tcp(_) => None,
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// From now on closing it resets the connection: the peer sees that something was cut (tcp(7), `SO_LINGER`).
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tcp(socket) = self {
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// The smoothed round-trip time, where the kernel tells it.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.way().rtt
    }

    /// What the kernel knows of the way to the peer. A unix socket has none in between.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Tcp(_) => {
                let info = self.tcp_info();
                Way { rtt: info.map(|info| info.rtt), fin_acknowledged: info.is_some_and(|info| info.fin_acknowledged) }
            }
            #[cfg(unix)]
            Self::Unix(_) => Way { rtt: None, fin_acknowledged: true },
        }
    }
}

/// The way to a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The smoothed round-trip time, where it is known.
    pub(crate) rtt: Option<Duration>,
    /// The peer's kernel has all that was sent, with the FIN.
    pub(crate) fin_acknowledged: bool,
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    #[cfg(target_os = "linux")]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        let sent = self.poll_send(cx, buf);
        if sent.is_ready() {
            budget.made_progress();
        }
        sent
    }

    #[cfg(not(target_os = "linux"))]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, socket => socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}
