//! A connection between two requests: nothing of HTTP is held ready, and only the socket waits.
//!
//! hyper is let go right behind the first answer, and behind one that came after a rest. Who asks again sooner is busy, and
//! keeps hyper until it has been idle for [`REST_AFTER`].

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::entry::{End, Nudge};
use super::linger::turnaround;
use super::{App, Connection, Life, Next, Stage, is_blank};
use crate::os::coarse_millis;
use crate::stream::Stream;

/// How long a busy connection is idle before it gives its HTTP state back.
pub(super) const REST_AFTER: Duration = Duration::from_secs(1);

impl<A: App> Connection<A> {
    /// Waits for a request, with nothing of HTTP held ready.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Next {
        let Life::Rest { stream, .. } = &mut self.life else { return Next::FOREVER };
        let mut first = BytesMut::new();
        match stream.poll_first(&mut first, cx) {
            Poll::Ready(Ok(0)) => self.close(End::Finished),
            Poll::Ready(Ok(_)) if is_blank(&first) => Next::Again,
            Poll::Ready(Ok(_)) => self.begin_head(first.freeze()),
            Poll::Ready(Err(_)) => self.finish(End::Failed),
            Poll::Pending if stream.is_inside_record() => self.begin_head(Bytes::new()),
            Poll::Pending => {
                let timed_out = self.entry.take_nudge() == Nudge::TimedOut;
                self.wait_at_rest(timed_out)
            }
        }
    }

    /// The next request comes on a connection at rest. If that was long, the one after it is likely to let it rest, too.
    fn begin_head(&mut self, first: Bytes) -> Next {
        self.naps = self.entry.age() >= REST_AFTER;
        self.entry.heard();
        if let Life::Rest { stream, app } = self.take_life() {
            self.start_http1(stream, first, app);
        }
        Next::Again
    }

    /// Nothing is asked. In the drain it is closed when it has been quiet for long enough; while serving, when it is
    /// `timed_out`.
    pub(super) fn wait_at_rest(&mut self, timed_out: bool) -> Next {
        let stage = self.entry.stage();
        if stage < Stage::Drain && !timed_out {
            return Next::FOREVER;
        }
        let left = if timed_out || stage >= Stage::Answer { Duration::ZERO } else { self.quiet_left() };
        if left > Duration::ZERO {
            return Next::after(left);
        }
        if let Some(stream) = self.stream() {
            // Bytes are a request, though the reactor may not have said so yet. It will.
            if stream.unread() > 0 {
                return Next::FOREVER;
            }
        }
        // Right behind the look: a request that comes between it and the FIN is raced.
        self.close(End::AtRest)
    }

    /// How much of the quiet window is left, and of the wait for its turn where closes are spread.
    pub(super) fn quiet_left(&mut self) -> Duration {
        let (plan, drain_began) = (self.entry.registry().plan(), self.entry.registry().drain_began());
        let now = coarse_millis();
        let since = self.entry.since();
        let ago = |moment: u64| Duration::from_millis(now.saturating_sub(moment));
        if since < drain_began || self.entry.asked() == 0 {
            let turn = plan.spread.mul_f64(self.entry.place());
            return plan.quiet.saturating_sub(ago(since)).max(turn.saturating_sub(ago(drain_began)));
        }
        // A response whose head left before the drain and whose end in it: its client was not told. While others hold up the
        // end it has its quiet window. When it is all that the process waits for, it gets the time to hear of the end and
        // to react, and no more (REQ-9).
        if matches!(self.life, Life::Rest { .. }) && self.entry.stay_untold() {
            return plan.quiet.saturating_sub(ago(since));
        }
        let reaction = self.stream().map_or(Duration::ZERO, |stream| turnaround(stream));
        plan.quiet.saturating_sub(ago(self.entry.asked())).max(reaction.saturating_sub(ago(since)))
    }

    /// Takes the socket back from hyper, which is between two requests, and what came of the next head behind the last request.
    /// `None` if it has none, as after an upgrade.
    pub(super) fn take_idle(&mut self) -> Option<(Stream, A, Bytes)> {
        let Life::Http1(connection) = self.take_life() else { return None };
        let parts = connection.into_parts()?;
        let first = if is_blank(&parts.read_buf) { Bytes::new() } else { parts.read_buf };
        Some((parts.io.into_inner().into_stream()?, parts.service.into_app(), first))
    }

    /// Only the socket is kept. In the drain too: so it is known exactly whether a request has come.
    pub(super) fn park(&mut self) -> Next {
        let Some((stream, app, first)) = self.take_idle() else { return self.finish(End::Failed) };
        self.entry.slim();
        self.life = Life::Rest { stream, app };
        self.entry.rest();
        if first.is_empty() { Next::Again } else { self.begin_head(first) }
    }
}
