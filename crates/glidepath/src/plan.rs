//! The settings of an end: how long each part of it may take.

use std::time::Duration;

/// After the deadline, what is left to write final answers (503, GOAWAY, Close) before sockets are cut.
pub(crate) const CUT_MARGIN: Duration = Duration::from_millis(150);

/// After the cut, what is left for the cut connections to be counted.
pub(crate) const COUNT_MARGIN: Duration = Duration::from_millis(75);

/// How long after the deadline the process itself is ended if it is still there.
///
/// Later than [`CUT_MARGIN`] and [`COUNT_MARGIN`] together, so that an end that goes as planned never meets it; earlier than the half second
/// that END-1 promises.
pub(crate) const PROCESS_MARGIN: Duration = Duration::from_millis(350);

/// How long after that even the thread that ends the process is not waited for. Still within END-1's half second.
pub(crate) const LAST_RESORT_MARGIN: Duration = Duration::from_millis(100);

/// Who wakes this much too late was not running: the process was stopped (SIGSTOP), or the machine slept.
pub(crate) const OVERSLEPT: Duration = Duration::from_millis(50);

/// How long a forced end waits for the runtime to come down by itself. SIG-4 promises one second.
pub(crate) const FORCE_MARGIN: Duration = Duration::from_millis(500);

/// As good as for ever. `Duration::MAX` is how people say that, and no moment can be added to it.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// All durations of a service's life. The defaults are those of SPEC.md.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// After the signal, how long the service still accepts so that balancers can turn away.
    pub(crate) lame_duck: Duration,
    /// The most that drain and hooks together may take.
    pub(crate) grace: Duration,
    /// The part of `grace` that is kept for hooks; `None`: worked out from `grace`.
    pub(crate) hooks: Option<Duration>,
    /// How long a connection must have been silent before it is closed in the drain.
    pub(crate) quiet: Duration,
    /// From the first byte of a TLS handshake to its end.
    pub(crate) handshake_timeout: Duration,
    /// From a head's first byte to its last.
    pub(crate) head_timeout: Duration,
    /// The most bytes that a head may have.
    pub(crate) head_size: usize,
    /// How long a connection may be at rest while serving.
    pub(crate) idle_timeout: Duration,
    /// In the drain, how long a WebSocket's peer may take to answer the Close.
    pub(crate) goodbye: Duration,
    /// In the drain, over how long the closes of connections at rest are spread.
    pub(crate) spread: Duration,
    /// The longest pause between two tries to accept when the system has no descriptors or memory left.
    pub(crate) accept_backoff: Duration,
    /// Event streams go on until the deadline, and are not ended when the drain begins.
    pub(crate) events_to_deadline: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            lame_duck: Duration::ZERO,
            grace: Duration::from_secs(30),
            hooks: None,
            quiet: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            head_size: 64 << 10,
            idle_timeout: Duration::from_secs(75),
            goodbye: Duration::from_secs(5),
            spread: Duration::ZERO,
            accept_backoff: Duration::from_secs(1),
            events_to_deadline: false,
        }
    }
}

impl Plan {
    /// The same, with nothing so long that adding it to a moment overflows.
    pub(crate) fn bounded(self) -> Self {
        Self {
            lame_duck: self.lame_duck.min(FOR_EVER),
            grace: self.grace.min(FOR_EVER),
            hooks: self.hooks.map(|hooks| hooks.min(FOR_EVER)),
            quiet: self.quiet.min(FOR_EVER),
            handshake_timeout: self.handshake_timeout.min(FOR_EVER),
            head_timeout: self.head_timeout.min(FOR_EVER),
            idle_timeout: self.idle_timeout.min(FOR_EVER),
            goodbye: self.goodbye.min(FOR_EVER),
            spread: self.spread.min(FOR_EVER),
            ..self
        }
    }

    /// The slice of the grace period that hooks keep even when the drain was cut (HOOK-1).
    pub(crate) fn hook_slice(&self) -> Duration {
        let default = Duration::from_secs(5).min(self.grace / 4);
        self.hooks.unwrap_or(default).min(self.grace)
    }
}
