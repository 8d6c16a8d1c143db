//! What follows an attempt. Pure: the outcome and the dice come in, the decision goes out.

use std::time::Duration;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered; with what it said of when to come again.
    Answered { status: u16, retry_after: Option<Duration> },
    /// No answer: no connection, broken off, too late.
    Failed(String),
    /// The target is not allowed, now or ever.
    Refused(String),
}

/// What happens to the message next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Delivered,
    RetryIn(Duration),
    Dead,
}

/// How often and how patiently a message is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub max_attempts: u32,
    pub first_delay: Duration,
    pub max_delay: Duration,
}

impl Plan {
    /// Decides after attempt number `attempt` (the first is 1). `dice` is in `0.0..1.0`.
    pub fn after(&self, attempt: u32, outcome: &Outcome, dice: f64) -> Next {
        match outcome {
            Outcome::Answered { status: 200..=299, .. } => Next::Delivered,
            // 410 Gone is the receiver's way to say "never again".
            Outcome::Answered { status: 410, .. } | Outcome::Refused(_) => Next::Dead,
            _ if attempt >= self.max_attempts => Next::Dead,
            Outcome::Answered { retry_after: Some(asked), .. } => {
                Next::RetryIn(self.delay(attempt, dice).max((*asked).min(self.max_delay)))
            }
            _ => Next::RetryIn(self.delay(attempt, dice)),
        }
    }

    /// Doubles from attempt to attempt. Half of it is jitter, so that messages that failed together do not come back together.
    fn delay(&self, attempt: u32, dice: f64) -> Duration {
        let doubled = self.first_delay.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.max_delay).mul_f64(0.5 + dice / 2.0)
    }
}

impl Outcome {
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What to tell about it when it was no success.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Answered { status: 200..=299, .. } => None,
            Self::Answered { status: status @ 300..=399, .. } => {
                Some(format!("answered {status}; redirects are not followed"))
            }
            Self::Answered { status, .. } => Some(format!("answered {status}")),
            Self::Failed(why) | Self::Refused(why) => Some(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { max_attempts: 4, first_delay: Duration::from_secs(1), max_delay: Duration::from_secs(3) };

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, retry_after: None }
    }

    #[test]
    fn only_2xx_delivers() {
        for status in [200, 202, 204, 299] {
            assert_eq!(PLAN.after(1, &answered(status), 0.0), Next::Delivered);
        }
        for status in [301, 400, 404, 429, 500, 503] {
            assert!(matches!(PLAN.after(1, &answered(status), 0.0), Next::RetryIn(_)), "{status}");
        }
    }

    #[test]
    fn the_last_attempt_may_still_deliver_and_otherwise_ends_it() {
        assert_eq!(PLAN.after(4, &answered(200), 0.0), Next::Delivered);
        assert_eq!(PLAN.after(4, &answered(500), 0.0), Next::Dead);
        assert_eq!(PLAN.after(9, &Outcome::Failed("x".into()), 0.0), Next::Dead);
    }

    #[test]
    fn gone_and_refused_end_it_at_once() {
        assert_eq!(PLAN.after(1, &answered(410), 0.0), Next::Dead);
        assert_eq!(PLAN.after(1, &Outcome::Refused("x".into()), 0.0), Next::Dead);
    }

    #[test]
    fn delays_double_up_to_the_limit_and_lie_between_half_and_whole() {
        for (attempt, whole) in [(1, 1000), (2, 2000), (3, 3000), (200, 3000)] {
            let delay = |dice| PLAN.delay(attempt, dice).as_millis();
            assert_eq!(delay(0.0), whole / 2);
            assert_eq!(delay(1.0), whole);
        }
    }

    #[test]
    fn a_receiver_may_ask_for_more_patience_but_not_without_end() {
        let asks = |secs| Outcome::Answered { status: 503, retry_after: Some(Duration::from_secs(secs)) };
        assert_eq!(PLAN.after(1, &asks(2), 0.0), Next::RetryIn(Duration::from_secs(2)));
        assert_eq!(PLAN.after(1, &asks(3600), 0.0), Next::RetryIn(PLAN.max_delay));
        assert_eq!(PLAN.after(1, &asks(0), 1.0), Next::RetryIn(Duration::from_secs(1)));
    }
}
