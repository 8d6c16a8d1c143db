//! The settings of an end: how long each part of it may take.

use std::fmt;
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

/// How long a forced end waits for the runtime to come down by itself. SIG-4 promises one second.
pub(crate) const FORCE_MARGIN: Duration = Duration::from_millis(500);

/// What an end may take beyond its grace period: END-1's half second.
const END_MARGIN: Duration = Duration::from_millis(500);

/// As good as for ever. `Duration::MAX` is how people say that, and no moment can be added to it.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// All durations of a service's life. The defaults are those of SPEC.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// What whoever ends the process gives it before SIGKILL, where it is stated.
    pub(crate) budget: Option<Duration>,
    /// In the drain, over how long the closes of connections at rest are spread.
    pub(crate) spread: Duration,
    /// The longest pause between two tries to accept when the system has no descriptors or memory left.
    pub(crate) accept_backoff: Duration,
    /// Event streams go on until the deadline, and are not ended when the drain begins.
    pub(crate) events_to_deadline: bool,
    /// How long the next process may take until it accepts, in a restart.
    pub(crate) ready_within: Duration,
    /// HTTP/2 clients are told that they may open WebSockets (RFC 8441).
    pub(crate) connect_protocol: bool,
    /// What many connections at rest have freed goes back to the system.
    pub(crate) give_back_memory: bool,
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
            budget: None,
            spread: Duration::ZERO,
            accept_backoff: Duration::from_secs(1),
            events_to_deadline: false,
            ready_within: Duration::from_secs(30),
            connect_protocol: true,
            give_back_memory: true,
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
            ready_within: self.ready_within.min(FOR_EVER),
            ..self
        }
    }

    /// The most that an end may take, lame duck and all.
    pub(crate) fn longest_end(&self) -> Duration {
        self.lame_duck.saturating_add(self.grace).saturating_add(END_MARGIN)
    }

    /// In the drain, the most that a half-sent head or a handshake may still take: half of the time for work, so that one
    /// that completes then still has time for its answer.
    pub(crate) fn start_in_drain(&self) -> Duration {
        (self.grace - self.hook_slice()) / 2
    }

    /// The slice of the grace period that hooks keep even when the drain was cut (HOOK-1).
    pub(crate) fn hook_slice(&self) -> Duration {
        let default = Duration::from_secs(5).min(self.grace / 4);
        self.hooks.unwrap_or(default).min(self.grace)
    }
}

/// An end that does not fit its budget, and what to change (END-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverBudget {
    lame_duck: Duration,
    grace: Duration,
    budget: Duration,
    needs: Duration,
}

impl Plan {
    /// Whether a whole end, lame duck and all, takes longer than the budget allows. Hooks are inside the grace period.
    pub(crate) fn over_budget(&self) -> Option<OverBudget> {
        let needs = self.longest_end();
        let over = OverBudget { lame_duck: self.lame_duck, grace: self.grace, budget: self.budget?, needs };
        (over.needs > over.budget).then_some(over)
    }
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lame_duck, grace, budget, needs } = *self;
        write!(
            f,
            "an end may be killed in its middle: lame duck {lame_duck:?}, grace {grace:?} with the hooks in it, and "
        )?;
        write!(f, "{END_MARGIN:?} to finish make {needs:?}, and the budget is {budget:?}; ")?;
        match budget.checked_sub(lame_duck.saturating_add(END_MARGIN)) {
            Some(fits) if !fits.is_zero() => write!(f, "set grace to at most {fits:?}, or ")?,
            _ => write!(f, "shorten the lame duck, which alone leaves nothing for the drain, or ")?,
        }
        write!(
            f,
            "raise the budget (Kubernetes terminationGracePeriodSeconds, Docker stop timeout, systemd TimeoutStopSec)"
        )?;
        write!(f, " to at least {needs:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(lame_duck: u64, grace: u64, budget: u64) -> Plan {
        let secs = Duration::from_secs;
        Plan { lame_duck: secs(lame_duck), grace: secs(grace), budget: Some(secs(budget)), ..Plan::default() }
    }

    #[test]
    fn end_5_what_fits_the_budget_is_not_spoken_of() {
        assert_eq!(Plan::default().over_budget(), None, "no budget is stated");
        assert_eq!(plan(5, 24, 30).over_budget(), None);
        assert_eq!(plan(0, 0, 1).over_budget(), None);
        let exactly = Plan { grace: Duration::from_millis(29_500), ..plan(0, 0, 30) };
        assert_eq!(exactly.over_budget(), None);
    }

    #[test]
    fn end_5_what_does_not_fit_is_told_with_what_to_change() {
        assert!(plan(0, 30, 30).over_budget().is_some(), "the answers at the deadline need their time, too");
        let told = plan(5, 30, 30).over_budget().expect("it does not fit").to_string();
        for part in ["lame duck 5s", "grace 30s", "make 35.5s", "at most 24.5s", "at least 35.5s"] {
            assert!(told.contains(part), "no {part:?} in: {told}");
        }
    }

    #[test]
    fn end_5_a_lame_duck_that_takes_it_all_is_named() {
        for lame_duck in [10, 60] {
            let told = plan(lame_duck, 1, 10).over_budget().expect("it does not fit").to_string();
            assert!(told.contains("shorten the lame duck"), "{told}");
        }
    }

    #[test]
    fn end_5_hooks_are_inside_the_grace_period() {
        let long_hooks = Plan { hooks: Some(Duration::from_secs(20)), ..plan(0, 25, 30) };
        assert_eq!(long_hooks.over_budget(), None);
    }

    #[test]
    fn end_5_for_ever_fits_nothing_and_overflows_nothing() {
        let for_ever = Plan { lame_duck: Duration::MAX, grace: Duration::MAX, ..plan(0, 0, 30) };
        assert!(for_ever.over_budget().expect("it does not fit").to_string().contains("shorten the lame duck"));
    }
}
