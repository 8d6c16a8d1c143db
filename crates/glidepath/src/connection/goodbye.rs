//! The part of a connection's life in which the app has the socket, and how the drain ends it. An HTTP/2 stream that the app
//! has taken over ends by the same rules (`tunnel.rs`).

use std::task::Context;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::entry::{End, Entry};
use super::linger::Patience;
use super::registry::Stage;
use super::service::App;
use super::upgraded::Wire;
use super::{Connection, Life, Next};

/// In the drain, how long a WebSocket's handler has for its own goodbye.
const HANDLERS_GOODBYE: Duration = Duration::from_millis(100);

/// In the drain, how long a WebSocket's handler has to read its peer's Close before that is read for it.
const HANDLERS_READING: Duration = Duration::from_millis(500);

/// How far the goodbye to an upgraded connection is.
#[derive(Debug, Default)]
pub(super) struct Goodbye {
    /// When the drain was seen.
    since: Option<Instant>,
}

/// What a poll of the goodbye came to.
pub(super) enum Farewell {
    /// It is over: by the handler, by the closing handshake, or by patience.
    Over,
    /// Ask again, at the latest then.
    Wait(Option<Instant>),
}

impl Goodbye {
    /// The handler is told by its `Drain`, and may say goodbye itself. If it does not, a WebSocket is closed for it; then
    /// the peer's answer is waited for, and not for long. Anything else is left to its handler until the deadline.
    pub(super) fn poll<T>(&mut self, wire: &Wire<T>, entry: &Entry, cx: &mut Context<'_>) -> Farewell
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        wire.register(cx);
        let stage = entry.stage();
        if wire.is_dropped() || (wire.said_goodbye() && wire.heard_goodbye() && stage >= Stage::Drain) {
            return Farewell::Over;
        }
        if stage < Stage::Drain || !wire.is_web_socket() {
            return Farewell::Wait(None);
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now < since + HANDLERS_GOODBYE && stage < Stage::Answer && !wire.said_goodbye() {
            return Farewell::Wait(Some(since + HANDLERS_GOODBYE));
        }
        let said = wire.poll_say_goodbye(entry.registry().close_code(), cx).is_ready();
        // A handler that reads sees the peer's answer itself, and ends by it.
        if said && now >= since + HANDLERS_READING && wire.poll_goodbye(cx).is_ready() {
            return Farewell::Over;
        }
        let limit = since + entry.registry().plan().goodbye;
        let reading = Some(since + HANDLERS_READING).filter(|until| now < *until);
        if now >= limit { Farewell::Over } else { Farewell::Wait(Some(reading.unwrap_or(limit).min(limit))) }
    }
}

impl<A: App> Connection<A> {
    pub(super) fn poll_upgraded(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Upgraded { wire, goodbye } = &mut self.life else { return Next::FOREVER };
        match goodbye.poll(wire, &self.entry, cx) {
            Farewell::Over => self.close_upgraded(),
            Farewell::Wait(until) => Next::Wait(until),
        }
    }

    fn close_upgraded(&mut self) -> Next {
        let Life::Upgraded { wire, .. } = self.take_life() else { return Next::FOREVER };
        match wire.take_back() {
            Some(stream) => self.close_stream(stream, Patience::None, End::Upgraded),
            None => self.finish(End::Upgraded),
        }
    }
}
