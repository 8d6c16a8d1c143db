//! Listening sockets: bound here, or handed over by a process manager or the process before.

mod acceptor;

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, ToSocketAddrs};

#[cfg(unix)]
use crate::inherited::{self, Inherited};

pub(crate) use acceptor::Acceptor;

/// A listening socket that a server can take: made `From` tokio's TCP or unix listener, or with a name by [`Listener::bind`].
///
/// With the feature `tls`, `Listener::tls` makes one that speaks TLS.
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    name: Option<String>,
    /// It was open before this process began: its path is not ours to remove.
    inherited: bool,
    /// A manager has it open, too.
    kept: bool,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Option<OwnPath>),
}

impl Listener {
    fn plain(socket: Listening) -> Self {
        Self {
            socket,
            name: None,
            inherited: false,
            kept: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// A TCP listener with a name: the one that the process before this one has handed on by that name, if it is bound to
    /// `address` (to any port, where that is 0), and else a new one.
    ///
    /// A service whose listeners are made so can be restarted in place; see
    /// [`Server::restart_in_place`](crate::Server::restart_in_place). Where the configuration has moved it to another
    /// address, the old listener is left behind, and nobody who is in its queue is lost.
    ///
    /// ```no_run
    /// # async fn main_(app: axum::Router) -> glidepath::Result<()> {
    /// let listener = glidepath::Listener::bind("http", "0.0.0.0:4000").await?;
    /// let report = glidepath::serve(listener, app).restart_in_place().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As tokio's `TcpListener::bind`; and where what was handed on is not what it is said to be.
    pub async fn bind(name: &str, address: impl ToSocketAddrs) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
        #[cfg(unix)]
        {
            let is_bound_there = |socket: BorrowedFd<'_>| {
                let bound = rustix::net::getsockname(socket).ok().and_then(|bound| SocketAddr::try_from(bound).ok());
                let is_it = |wanted: &SocketAddr, bound: SocketAddr| {
                    wanted.ip() == bound.ip() && (wanted.port() == 0 || wanted.port() == bound.port())
                };
                bound.is_some_and(|bound| addresses.iter().any(|wanted| is_it(wanted, bound)))
            };
            if let Some(socket) = inherited::take(name, is_bound_there)? {
                return Self::adopt(name, socket);
            }
        }
        Ok(Self::from(TcpListener::bind(&addresses[..]).await?).named(name))
    }

    /// A unix listener with a name: the one that the process before this one has handed on by that name, if it is bound to
    /// `path`, and else a new one. A socket at that path that nobody listens on any more is removed before.
    ///
    /// # Errors
    ///
    /// As tokio's `UnixListener::bind`; and where what was handed on is not what it is said to be.
    #[cfg(unix)]
    pub fn bind_unix(name: &str, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let is_bound_there = |socket: BorrowedFd<'_>| {
            let bound = rustix::net::getsockname(socket).ok();
            let bound = bound.and_then(|bound| rustix::net::SocketAddrUnix::try_from(bound).ok());
            let bound = bound.as_ref().and_then(|bound| bound.path_bytes());
            bound == Some(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
        };
        if let Some(socket) = inherited::take(name, is_bound_there)? {
            return Self::adopt(name, socket);
        }
        let bound = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        Ok(Self::from(bound?).named(name))
    }

    /// The listener that was handed to this process by this name, wherever it is bound: by systemd (socket activation, with
    /// the name that `FileDescriptorName=` gives it) or by the process before this one. Each can be had once.
    ///
    /// ```no_run
    /// # async fn main_(app: axum::Router) -> glidepath::Result<()> {
    /// use glidepath::Listener;
    ///
    /// let listener = match Listener::inherited("http")? {
    ///     Some(listener) => listener,
    ///     None => Listener::bind("http", "0.0.0.0:4000").await?,
    /// };
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Where `LISTEN_PID`, `LISTEN_FDS` or `LISTEN_FDNAMES` can't be meant as they are, or the descriptor does not listen.
    #[cfg(unix)]
    pub fn inherited(name: &str) -> io::Result<Option<Self>> {
        inherited::take(name, |_| true)?.map(|socket| Self::adopt(name, socket)).transpose()
    }

    #[cfg(unix)]
    fn adopt(name: &str, inherited: Inherited) -> io::Result<Self> {
        let Inherited { socket, kept } = inherited;
        let is_unix = rustix::net::getsockname(&socket)?.address_family() == rustix::net::AddressFamily::UNIX;
        let listener = if is_unix {
            let socket = std::os::unix::net::UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            Self::plain(Listening::Unix(UnixListener::from_std(socket)?, None))
        } else {
            let socket = std::net::TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            Self::from(TcpListener::from_std(socket)?)
        };
        Ok(Self { inherited: true, kept, ..listener.named(name) })
    }

    /// The name by which the next process finds it, in a restart. No colon may be in it.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Where a TCP listener is bound.
    ///
    /// # Errors
    ///
    /// Where it is no TCP listener, and as `getsockname` does.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Listening::Tcp(listener) => listener.local_addr(),
            #[cfg(unix)]
            Listening::Unix(..) => Err(io::Error::new(io::ErrorKind::Unsupported, "a unix socket has no port")),
        }
    }

    /// Speaks TLS on what `listener` accepts, as `config` says.
    ///
    /// The handshake happens on the connection's own task: a slow one delays nobody else, and
    /// [`Server::handshake_timeout`](crate::Server::handshake_timeout) bounds it. HTTP/2 is spoken with clients that begin
    /// it; they do if `config.alpn_protocols` offers `h2`. Every connection is closed with a close_notify before its FIN
    /// (RFC 8446, section 6.1), so that clients can tell an end from an attack; only one that the deadline cuts is not,
    /// because it was cut.
    ///
    /// Early data (0-RTT) is not taken, whatever `config` says: who repeats it makes the app act twice (RFC 8470).
    ///
    /// glidepath turns on no provider of cryptography: the one that `config` was built with does all of it. A `listener`
    /// that speaks TLS already gets the new `config` instead of its own. A handshake that fails is counted in
    /// [`Connections::failed`](crate::Connections::failed) and is no error of the server.
    ///
    /// ```no_run
    /// # async fn main_(config: rustls::ServerConfig, app: axum::Router) -> glidepath::Result<()> {
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:4443").await?;
    /// glidepath::serve(glidepath::Listener::tls(listener, config.into()), app).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(listener: impl Into<Self>, config: Arc<rustls::ServerConfig>) -> Self {
        Self { tls: Some(without_early_data(config)), ..listener.into() }
    }

    /// Whether it speaks TLS.
    #[cfg(feature = "admin")]
    pub(crate) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// The configuration of TLS, if it is to be spoken.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_config(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.clone()
    }
}

#[cfg(feature = "tls")]
fn without_early_data(mut config: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if config.max_early_data_size > 0 {
        Arc::make_mut(&mut config).max_early_data_size = 0;
    }
    config
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        // Accepted sockets inherit it: answers are not held back to be joined with later ones (tcp(7)).
        let _ = socket2::SockRef::from(&listener).set_tcp_nodelay(true);
        Self::plain(Listening::Tcp(listener))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
        Self::plain(Listening::Unix(listener, path.and_then(OwnPath::of)))
    }
}

/// Whether there is a socket that nobody listens on.
#[cfg(unix)]
fn is_stale(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    std::os::unix::net::UnixStream::connect(path).is_err_and(refused)
}

/// A unix socket's path, as long as it is still the one that this listener was bound to.
#[cfg(unix)]
#[derive(Debug)]
struct OwnPath {
    path: PathBuf,
    file: (u64, u64),
}

#[cfg(unix)]
impl OwnPath {
    fn of(path: PathBuf) -> Option<Self> {
        Some(Self { file: Self::identity(&path)?, path })
    }

    fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let data = std::fs::symlink_metadata(path).ok()?;
        Some((data.dev(), data.ino()))
    }

    fn remove(&self) {
        // A successor may have bound the same path meanwhile.
        if Self::identity(&self.path) == Some(self.file) {
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket's path");
            }
        }
    }
}
