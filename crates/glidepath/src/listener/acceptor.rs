//! Accepts connections, and empties and closes a listener so that nobody who got through is lost.
//!
//! `close` on a listener resets what waits in its queue. So, on Linux (SPEC.md, LIS-2 to LIS-4):
//! 1. a filter on the listener drops new SYNs, which their senders will repeat and then find the port closed;
//! 2. the queue is emptied until it stays empty for a round trip: handshakes under way complete;
//! 3. the listener is closed.
//!
//! Elsewhere the first step is missing, and who connects in the instant of the close can be reset.
//!
//! A listener that a manager keeps open (SPEC.md, HO-6) is another matter: its queue goes on to the next process. A filter
//! would hold off that one's clients, too. So only what waits is taken, and it is closed.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use super::{Listener, Listening};
use crate::socket::Socket;

/// The longest that a seal may take where clients are near: LIS-1 promises a refusal within 100 ms.
const SEAL_LIMIT: Duration = Duration::from_millis(80);
/// The same where they are far away, and a refusal needs its time to get there, too.
const FAR_SEAL_LIMIT: Duration = Duration::from_secs(1);
/// The most that is accepted while sealing where new connections cannot be held off.
const SEAL_ACCEPTS: usize = 10_000;
/// The first pause when the system has nothing left to accept with.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// How many connections are accepted before others get their turn.
const BATCH: usize = 64;

/// So many at most are taken when the time is up: a queue is not longer, unless somebody has raised the system's limit
/// (listen(2), `somaxconn`).
const FULL_QUEUE: usize = 4096;

/// Accepts connections and hands them to `spawn`, until it is sealed.
pub(crate) struct Acceptor {
    state: State,
    name: Option<String>,
    inherited: bool,
    kept: bool,
    spawn: Box<dyn FnMut(Socket, Option<SocketAddr>) + Send>,
    /// The slowest handshake seen of late: what a client that is just connecting may need.
    round_trip: Duration,
    accepted: usize,
    longest_backoff: Duration,
}

enum State {
    Accepting { socket: Listening, pause: Option<Pin<Box<Sleep>>>, backoff: Duration },
    Sealing { queue: Queue, until: Instant, quiet_by: Instant, look: Pin<Box<Sleep>>, taken: usize, left: usize },
    Sealed,
}

/// The listener without the reactor, which may not have heard of what the kernel has.
enum Queue {
    Tcp(std::net::TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

impl Queue {
    fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Tcp(TcpStream::from_std(stream)?), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Socket::Unix(UnixStream::from_std(stream)?), None))
            }
        }
    }
}

impl Acceptor {
    pub(crate) fn new(listener: Listener, spawn: impl FnMut(Socket, Option<SocketAddr>) + Send + 'static) -> Self {
        let state = State::Accepting { socket: listener.socket, pause: None, backoff: Duration::ZERO };
        Self {
            state,
            name: listener.name,
            inherited: listener.inherited,
            kept: listener.kept,
            spawn: Box::new(spawn),
            round_trip: Duration::ZERO,
            accepted: 0,
            longest_backoff: Duration::from_secs(1),
        }
    }

    /// The longest pause when the system has nothing left to accept with.
    pub(crate) fn set_backoff(&mut self, longest: Duration) {
        self.longest_backoff = longest;
    }

    /// Whether it was open before this process began.
    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Whether a manager has it open, too, and gives it to whoever comes after this process.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    pub(crate) fn set_kept(&mut self, kept: bool) {
        self.kept = kept;
    }

    /// Its name and a copy of its descriptor, for the next process; or why it can't be handed on.
    #[cfg(unix)]
    pub(crate) fn hand_on(&self) -> io::Result<(String, OwnedFd)> {
        let State::Accepting { socket, .. } = &self.state else {
            return Err(io::Error::other("a listener is closed already"));
        };
        let (socket, place) = match socket {
            Listening::Tcp(listener) => (listener.as_fd(), listener.local_addr().map(|address| address.to_string())),
            Listening::Unix(listener, _) => (listener.as_fd(), listener.local_addr().map(|path| format!("{path:?}"))),
        };
        let Some(name) = &self.name else {
            let place = place.unwrap_or_else(|error| error.to_string());
            return Err(io::Error::other(format!(
                "the listener on {place} has no name by which the next process could find it; \
                 make it with `Listener::bind`, or give it one with `Listener::named`"
            )));
        };
        Ok((name.clone(), socket.try_clone_to_owned()?))
    }

    /// Lets go of it: another process accepts from the same socket, so nothing is refused and nobody in the queue is lost.
    pub(crate) fn release(&mut self) {
        self.state = State::Sealed;
    }

    /// From now on this process accepts from it. A process before it that was to end may have begun to seal it.
    pub(crate) fn take_over(&self) {
        #[cfg(target_os = "linux")]
        if let State::Accepting { socket: Listening::Tcp(listener), .. } = &self.state {
            if self.inherited {
                let _none = socket2::SockRef::from(listener).detach_filter();
            }
        }
    }

    /// Begins to seal; `poll` goes on with it.
    pub(crate) fn seal(&mut self) {
        let State::Accepting { socket, .. } = std::mem::replace(&mut self.state, State::Sealed) else { return };
        let kept = self.kept;
        let queue = match socket {
            Listening::Tcp(listener) => {
                if !kept {
                    refuse_syn(&listener);
                }
                listener.into_std().map(Queue::Tcp)
            }
            #[cfg(unix)]
            Listening::Unix(listener, path) => {
                // Without the path nobody new finds it.
                if let Some(path) = path.filter(|_| !kept) {
                    path.remove();
                }
                listener.into_std().map(Queue::Unix)
            }
        };
        let Ok(queue) = queue else { return };
        let now = Instant::now();
        // Who comes to one that is kept as soon as it is empty is the next process's.
        let settle = if kept { Duration::ZERO } else { self.settle() };
        let look = Box::pin(sleep(Duration::from_millis(1)));
        let until = now + settle.max(SEAL_LIMIT);
        self.state = State::Sealing { queue, until, quiet_by: now + settle, look, taken: 0, left: FULL_QUEUE };
    }

    /// How long the queue must stay empty.
    fn settle(&self) -> Duration {
        (2 * self.round_trip + Duration::from_millis(2)).min(FAR_SEAL_LIMIT)
    }

    /// Ready when it is sealed, or with the error that makes it impossible to go on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Accepting { .. } => self.poll_accept(cx),
            State::Sealing { .. } => self.poll_seal(cx),
            State::Sealed => Poll::Ready(Ok(())),
        }
    }

    /// Ready when one more of them is sealed, or has failed: it is out of the list then.
    pub(crate) async fn any_sealed(acceptors: &mut Vec<Self>) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            for i in 0..acceptors.len() {
                if let Poll::Ready(sealed) = acceptors[i].poll(cx) {
                    acceptors.swap_remove(i);
                    return Poll::Ready(sealed);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn take(&mut self, (socket, peer): (Socket, Option<SocketAddr>)) {
        // Now and then is enough, and old slow ones are forgotten.
        if self.accepted % 16 == 0 {
            let seen = socket.rtt().unwrap_or_default();
            self.round_trip = seen.max(self.round_trip * 7 / 8).min(FAR_SEAL_LIMIT);
        }
        self.accepted = self.accepted.wrapping_add(1);
        (self.spawn)(socket, peer);
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..BATCH {
            let State::Accepting { socket, pause, backoff } = &mut self.state else { return Poll::Ready(Ok(())) };
            if let Some(sleeping) = pause {
                ready!(sleeping.as_mut().poll(cx));
                *pause = None;
            }
            let accepted = match socket {
                Listening::Tcp(listener) => {
                    ready!(listener.poll_accept(cx)).map(|(stream, peer)| (Socket::Tcp(stream), Some(peer)))
                }
                #[cfg(unix)]
                Listening::Unix(listener, _) => {
                    ready!(listener.poll_accept(cx)).map(|(stream, _)| (Socket::Unix(stream), None))
                }
            };
            match accepted {
                Ok(accepted) => {
                    *backoff = Duration::ZERO;
                    self.take(accepted);
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Client => {}
                    Trouble::Exhausted => {
                        // A line for the first only.
                        if backoff.is_zero() {
                            tracing::warn!(target: "glidepath::listener", %error, "cannot accept connections for now; trying again");
                        }
                        *backoff = (*backoff * 2).max(FIRST_BACKOFF).min(self.longest_backoff);
                        *pause = Some(Box::pin(sleep(*backoff)));
                    }
                    Trouble::Fatal => return Poll::Ready(Err(error)),
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_seal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let settle = if self.kept { Duration::ZERO } else { self.settle() };
            let State::Sealing { queue, until, quiet_by, look, taken, left } = &mut self.state else {
                return Poll::Ready(Ok(()));
            };
            let now = Instant::now();
            let in_time = now < *until;
            match queue.accept() {
                // What is in the queue when the time is up is served, too: this process may have had no processor for as long.
                Ok(accepted) if *taken < SEAL_ACCEPTS && (in_time || *left > 0) => {
                    *taken += 1;
                    *left -= usize::from(!in_time);
                    *quiet_by = now + settle;
                    self.take(accepted);
                }
                Err(error) if Trouble::of(&error) == Trouble::Client && in_time => {}
                Err(error) if Trouble::of(&error) != Trouble::Fatal && now < (*quiet_by).min(*until) => {
                    ready!(look.as_mut().poll(cx));
                    look.as_mut().reset(now + Duration::from_millis(1));
                }
                // The last one of a flood is still served; an error here is of a listener that is closed anyway.
                last => {
                    self.state = State::Sealed;
                    if let Ok(accepted) = last {
                        self.take(accepted);
                    }
                }
            }
        }
    }
}

/// What an error of accept(2) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// That client is gone; the next may not be.
    Client,
    /// Of descriptors or memory, or nobody waits: later again.
    Exhausted,
    /// The listener is of no use.
    Fatal,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected, Unsupported};
        match error.kind() {
            ConnectionAborted | ConnectionReset | Interrupted => Self::Client,
            InvalidInput | NotConnected | Unsupported => Self::Fatal,
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM of a firewall, network errors of the new socket: accept(2).
            _ => Self::Exhausted,
        }
    }
}

/// Drops SYNs that are not answers, so that nobody new gets into the queue. Accepted sockets inherit the filter and
/// live on with it: they never see a bare SYN.
#[cfg(target_os = "linux")]
fn refuse_syn(listener: &TcpListener) {
    const FLAGS: u32 = 13;
    const SYN_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    // Classic BPF, whose data begins at the TCP header (Linux, Documentation/networking/filter.rst).
    let op = |code, jt, jf, k| socket2::SockFilter::new(code, jt, jf, k);
    let filter = [
        op(0x30, 0, 0, FLAGS),    // ldb [13]
        op(0x54, 0, 0, SYN_ACK),  // and #0x12
        op(0x15, 0, 1, SYN),      // jeq #2, drop, keep
        op(0x06, 0, 0, 0),        // drop: ret 0
        op(0x06, 0, 0, u32::MAX), // keep: ret -1
    ];
    if let Err(error) = socket2::SockRef::from(listener).attach_filter(&filter) {
        tracing::debug!(%error, "no filter on the listener; sealing without");
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_syn(_listener: &TcpListener) {}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// "the accept queue is emptied", also by a process that had no processor for longer than the seal may take.
    #[tokio::test(start_paused = true)]
    async fn lis_2_what_waits_when_the_time_is_up_is_served() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let mut acceptor = Acceptor::new(Listener::from(listener), move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let _clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        acceptor.seal();
        tokio::time::advance(2 * FAR_SEAL_LIMIT).await;
        poll_fn(|cx| acceptor.poll(cx)).await.expect("it is sealed");
        assert_eq!(served.load(Ordering::Relaxed), 10);
        assert!(TcpStream::connect(address).is_err(), "it is not closed");
    }
}
