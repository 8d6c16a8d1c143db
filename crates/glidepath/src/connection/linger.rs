//! How a socket is closed so that the last answer arrives and late bytes do not turn into a reset (RFC 9112, 9.6).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::entry::Entry;
use super::registry::Stage;
use crate::socket::Way;
use crate::stream::Stream;

/// The most that a peer which goes on sending is read from.
const LINGER: Duration = Duration::from_secs(2);

/// How long a peer must have been silent, after our FIN has arrived, before the socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Nothing more is expected of it.
    None,
    /// It had a body to send and may not have sent all of it: while serving for long, in the drain for a quiet window, and
    /// at the deadline for a turnaround.
    Sending,
}

/// Two round trips and some scheduling: what a FIN needs to arrive and what was on its way needs to come.
pub(crate) fn turnaround(stream: &Stream) -> Duration {
    stream.socket().way().turnaround()
}

impl Way {
    fn turnaround(self) -> Duration {
        2 * self.rtt.unwrap_or_default().min(Duration::from_millis(500)) + Duration::from_millis(2)
    }
}

/// Sends the FIN, over TLS behind a close_notify. `None` if that is all: the peer has it, and has sent nothing. Else what is
/// still to be done.
pub(crate) fn shut(mut stream: Stream, patience: Patience) -> Option<Shut> {
    let shut = stream.shut();
    let way = stream.socket().way();
    let arrived = shut && way.fin_acknowledged;
    if arrived && patience == Patience::None && !stream.is_tls() && stream.unread() == 0 {
        return None;
    }
    Some(Shut { stream, patience, begun: Instant::now(), turnaround: way.turnaround(), shut, arrived })
}

/// A stream whose FIN is sent, or about to be.
pub(crate) struct Shut {
    stream: Stream,
    patience: Patience,
    begun: Instant,
    turnaround: Duration,
    /// The FIN is sent.
    shut: bool,
    /// The peer has it, or has had the time to get it.
    arrived: bool,
}

impl Shut {
    /// Reads on and throws away until the peer has acknowledged the FIN or closes too, and closes.
    ///
    /// Gives the number of bytes that were thrown away.
    pub(crate) async fn close(mut self, entry: Arc<Entry>) -> u64 {
        let (begun, turnaround) = (self.begun, self.turnaround);
        let (mut heard, mut thrown_away) = (begun, 0);
        loop {
            match self.stream.throw_away() {
                Ok(0) => return thrown_away,
                Ok(n) => {
                    thrown_away += n as u64;
                    heard = Instant::now();
                    if heard < begun + LINGER {
                        continue;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_reset) => return thrown_away,
            }
            let now = Instant::now();
            let stage = entry.stage();
            let draining = stage >= Stage::Drain;
            let patience = match self.patience {
                // Over TLS the peer's close_notify: on a socket that is closed already it would be answered with a reset.
                Patience::None if self.stream.is_tls() => turnaround,
                Patience::None => Duration::ZERO,
                Patience::Sending if stage >= Stage::Answer => turnaround,
                Patience::Sending if draining => turnaround.max(entry.registry().plan().quiet),
                Patience::Sending => LINGER,
            };
            self.shut = self.shut || self.stream.shut();
            let socket = self.stream.socket();
            if now >= begun + LINGER || (self.arrived && now >= heard + patience && socket.unread() == 0) {
                return thrown_away;
            }
            let look_again = match (self.shut, self.arrived) {
                (false, _) => begun + LINGER,
                (true, false) => begun + turnaround,
                (true, true) => heard + patience,
            };
            tokio::select! {
                _ = socket.readable() => {}
                _ = socket.writable(), if !self.shut => {}
                _ = socket.sending_side_changed(), if self.shut && !self.arrived => {}
                () = sleep_until(look_again.min(begun + LINGER)) => {}
                // Its task is woken when the stage changes.
                () = poll_fn(|_| if entry.stage() >= Stage::Drain { Poll::Ready(()) } else { Poll::Pending }), if !draining => {}
            }
            let has_arrived = || Instant::now() >= begun + turnaround || self.stream.socket().way().fin_acknowledged;
            self.arrived = self.arrived || (self.shut && has_arrived());
        }
    }
}
