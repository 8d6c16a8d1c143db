//! The part of a connection's life in which the app has the socket, and how the drain ends it.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::End;
use super::linger::Patience;
use super::registry::Stage;
use super::service::App;
use super::{Connection, Life, Next};

/// In the drain, how long a WebSocket's handler has for its own goodbye.
const HANDLERS_GOODBYE: Duration = Duration::from_millis(100);

/// In the drain, how long a WebSocket's handler has to read its peer's Close before that is read for it.
const HANDLERS_READING: Duration = Duration::from_millis(500);

impl<A: App> Connection<A> {
    /// The handler is told by its `Drain`, and may say goodbye itself. If it does not, a WebSocket is closed for it; then
    /// the peer's answer is waited for, and not for long. Anything else is left to its handler until the deadline.
    pub(super) fn poll_upgraded(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Upgraded { wire, since } = &mut self.life else { return Next::FOREVER };
        wire.register(cx);
        let stage = self.entry.stage();
        let over = wire.is_dropped() || (wire.said_goodbye() && wire.heard_goodbye() && stage >= Stage::Drain);
        if over {
            return self.close_upgraded();
        }
        if stage < Stage::Drain || !wire.is_web_socket() {
            return Next::FOREVER;
        }
        let now = Instant::now();
        let since = *since.get_or_insert(now);
        if now < since + HANDLERS_GOODBYE && stage < Stage::Answer && !wire.said_goodbye() {
            return Next::Wait(Some(since + HANDLERS_GOODBYE));
        }
        let said = wire.poll_say_goodbye(cx).is_ready();
        // A handler that reads sees the peer's answer itself, and ends by it.
        if said && now >= since + HANDLERS_READING && wire.poll_goodbye(cx).is_ready() {
            return self.close_upgraded();
        }
        let next = if now < since + HANDLERS_READING { HANDLERS_READING } else { self.entry.registry().plan().goodbye };
        if now >= since + next { self.close_upgraded() } else { Next::Wait(Some(since + next)) }
    }

    fn close_upgraded(&mut self) -> Next {
        let Life::Upgraded { wire, .. } = self.take_life() else { return Next::FOREVER };
        match wire.take_back() {
            Some(stream) => self.close_stream(stream, Patience::None, End::Upgraded),
            None => self.finish(End::Upgraded),
        }
    }
}
