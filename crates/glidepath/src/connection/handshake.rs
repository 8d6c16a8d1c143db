//! The part of a connection's life before HTTP, where TLS is spoken.
//!
//! ```text
//! Greeting -> Handshake -> Fresh
//! ```
//!
//! A client that says nothing costs no TLS state, and is closed as exactly as one at rest is. One that has begun to
//! speak is served, or ends within its own timeout.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::ServerConfig;

use super::entry::{End, Nudge, State};
use super::linger::Patience;
use super::{App, Connection, Life, Next};
use crate::stream::Stream;
use crate::tls::Handshake;

impl<A: App> Connection<A> {
    /// Waits for the first byte of a handshake, and leaves it where it is.
    pub(super) fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Greeting { stream, .. } = &self.life else { return Next::FOREVER };
        match stream.socket().poll_peek(cx) {
            Poll::Ready(Ok(0)) => self.close(End::Finished),
            Poll::Ready(Ok(_)) => {
                self.start_handshake();
                Next::Again
            }
            Poll::Ready(Err(_)) => self.finish(End::Failed),
            Poll::Pending => {
                let timed_out = self.entry.take_nudge() == Nudge::TimedOut;
                self.wait_at_rest(timed_out)
            }
        }
    }

    fn start_handshake(&mut self) {
        match self.take_life() {
            Life::Greeting { stream: Stream::Plain(socket), tls, app } => {
                self.entry.set_state(State::Handshake);
                self.life = Life::Handshake { handshake: Handshake::new(socket, tls), app };
            }
            other => self.life = other,
        }
    }

    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Handshake { handshake, .. } = &mut self.life else { return Next::FOREVER };
        match handshake.poll(cx) {
            Poll::Ready(Ok(session)) => {
                if let Life::Handshake { app, .. } = self.take_life() {
                    // The quiet window begins here: the client could not ask before.
                    self.entry.set_state(State::Fresh);
                    self.life = Life::Fresh { stream: Stream::Tls(session), app, first: BytesMut::new() };
                }
                Next::Again
            }
            Poll::Ready(Err((error, socket))) => {
                tracing::debug!(target: "glidepath::connection", %error, "a TLS handshake failed");
                // An alert may be on its way, and is not overtaken by a reset.
                self.close_stream(socket.into(), Patience::None, End::Failed)
            }
            Poll::Pending => self.wait_for_handshake(),
        }
    }

    /// The client cannot be told anything yet, not even that it took too long.
    fn wait_for_handshake(&mut self) -> Next {
        let limit = self.entry.registry().plan().handshake_timeout;
        match self.left_to_start(limit) {
            _ if self.entry.take_nudge() == Nudge::TimedOut => self.finish(End::Failed),
            Some(left) if left.is_zero() => self.finish(End::Failed),
            Some(left) => Next::after(left),
            None => Next::FOREVER,
        }
    }
}

/// How a connection begins: with a handshake if there is a configuration for it.
pub(super) fn first_life<A: App>(stream: Stream, tls: Option<Arc<ServerConfig>>, app: A) -> Life<A> {
    match tls {
        Some(tls) => Life::Greeting { stream, tls, app },
        None => Life::Fresh { stream, app, first: BytesMut::new() },
    }
}
