//! How a socket is closed so that the last answer arrives and late bytes do not turn into a reset (RFC 9112, 9.6).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::entry::Entry;
use super::registry::Stage;
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
    2 * stream.socket().rtt().unwrap_or_default().min(Duration::from_millis(500)) + Duration::from_millis(2)
}

/// Whether the peer has our FIN already, and has sent nothing: then there is nothing to wait for. Most who are near have.
pub(crate) fn is_over(stream: &Stream) -> bool {
    !stream.is_tls() && stream.socket().fin_acknowledged() && stream.unread() == 0
}

/// Reads on and throws away until the peer has acknowledged the FIN or closes too, and closes. Sends the FIN, if it was not `shut` before.
///
/// Gives the number of bytes that were thrown away.
pub(crate) async fn close(mut stream: Stream, mut shut: bool, patience: Patience, entry: Arc<Entry>) -> u64 {
    let begun = Instant::now();
    let turnaround = turnaround(&stream);
    let (mut heard, mut thrown_away) = (begun, 0);
    loop {
        match stream.throw_away() {
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
        let patience = match patience {
            // Over TLS the peer's close_notify: on a socket that is closed already it would be answered with a reset.
            Patience::None if stream.is_tls() => turnaround,
            Patience::None => Duration::ZERO,
            Patience::Sending if stage >= Stage::Answer => turnaround,
            Patience::Sending if draining => turnaround.max(entry.registry().plan().quiet),
            Patience::Sending => LINGER,
        };
        shut = shut || stream.shut();
        let socket = stream.socket();
        let arrived = shut && (socket.fin_acknowledged() || now >= begun + turnaround);
        if now >= begun + LINGER || (arrived && now >= heard + patience && socket.unread() == 0) {
            return thrown_away;
        }
        let look_again = match (shut, arrived) {
            (false, _) => begun + LINGER,
            (true, false) => begun + turnaround,
            (true, true) => heard + patience,
        };
        tokio::select! {
            _ = socket.readable() => {}
            _ = socket.writable(), if !shut => {}
            _ = socket.sending_side_changed(), if shut && !arrived => {}
            () = sleep_until(look_again.min(begun + LINGER)) => {}
            // Its task is woken when the stage changes.
            () = poll_fn(|_| if entry.stage() >= Stage::Drain { Poll::Ready(()) } else { Poll::Pending }), if !draining => {}
        }
    }
}
