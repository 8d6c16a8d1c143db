//! What a client saw of one request, and what that is called. Pure: no sockets, no clock.

use std::io;
use std::time::Duration;

/// The most time between a request's write and the FIN that crossed it. On loopback our bytes are in the server's
/// receive buffer when the write returns; this much is left for a server between its last look into that buffer and its
/// FIN: where clients take all of the processor's time it may have to wait there for its turn, a slice of 3 ms or two. A FIN
/// that is read later was sent by a server that had the request. Races are bounded in number, so this excuses no habit.
pub(crate) const CROSSING: Duration = Duration::from_millis(10);

/// How a connection stopped giving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
    /// It stayed open, and nothing came for as long as the client waits.
    Silence,
}

impl End {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => End::Fin,
            io::ErrorKind::TimedOut => End::Silence,
            _ => End::Reset,
        }
    }
}

/// How much of the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Part(End),
    None(End),
    Whole,
    /// Whole, and not what this path answers.
    Wrong,
}

/// One request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) answer: Answer,
    /// The server had said that it takes no more here: an earlier answer's `Connection: close`, GOAWAY, a Close frame.
    pub(crate) told: bool,
    /// The client looked for FIN right before it wrote, and there was none.
    pub(crate) looked: bool,
    /// From the end of the write to the end of the connection.
    pub(crate) since_sent: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// Sent on a connection whose close was announced, and not answered: the client knows, and may send it again.
    Untaken,
    /// FIN and the request crossed on the wire.
    Raced,
    Lost,
    Reset,
    Truncated,
}

pub(crate) fn judge(seen: &Seen) -> Outcome {
    match seen.answer {
        Answer::Whole => Outcome::Answered,
        Answer::Part(_) => Outcome::Truncated,
        // RST may take from the client what it had not read yet. Nothing excuses it.
        Answer::None(End::Reset) => Outcome::Reset,
        Answer::None(_) if seen.told => Outcome::Untaken,
        Answer::None(End::Fin) if seen.looked && seen.since_sent <= CROSSING => Outcome::Raced,
        Answer::None(_) | Answer::Wrong => Outcome::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(500);
    const LATE: Duration = Duration::from_micros(10_001);

    fn outcome(answer: Answer, told: bool, looked: bool, since_sent: Duration) -> Outcome {
        judge(&Seen { answer, told, looked, since_sent })
    }

    #[test]
    fn a_whole_answer_is_an_answer_whatever_came_after() {
        assert_eq!(outcome(Answer::Whole, true, false, LATE), Outcome::Answered);
    }

    #[test]
    fn a_wrong_answer_is_no_answer() {
        assert_eq!(outcome(Answer::Wrong, false, true, SOON), Outcome::Lost);
        assert_eq!(outcome(Answer::Wrong, true, true, SOON), Outcome::Lost);
    }

    #[test]
    fn fin_right_after_the_write_crossed_it() {
        assert_eq!(outcome(Answer::None(End::Fin), false, true, SOON), Outcome::Raced);
        assert_eq!(outcome(Answer::None(End::Fin), false, true, CROSSING), Outcome::Raced);
    }

    #[test]
    fn fin_later_than_that_is_a_loss() {
        assert_eq!(outcome(Answer::None(End::Fin), false, true, LATE), Outcome::Lost);
    }

    #[test]
    fn who_did_not_look_did_not_race() {
        assert_eq!(outcome(Answer::None(End::Fin), false, false, SOON), Outcome::Lost);
    }

    #[test]
    fn what_follows_an_announced_close_was_not_taken() {
        assert_eq!(outcome(Answer::None(End::Fin), true, true, LATE), Outcome::Untaken);
    }

    #[test]
    fn a_reset_is_excused_by_nothing() {
        assert_eq!(outcome(Answer::None(End::Reset), false, true, SOON), Outcome::Reset);
        assert_eq!(outcome(Answer::None(End::Reset), true, true, SOON), Outcome::Reset);
    }

    #[test]
    fn an_answer_that_began_and_did_not_end_is_truncated_however_it_ended() {
        for end in [End::Fin, End::Reset, End::Silence] {
            assert_eq!(outcome(Answer::Part(end), true, true, SOON), Outcome::Truncated);
        }
    }

    #[test]
    fn silence_is_a_loss() {
        assert_eq!(outcome(Answer::None(End::Silence), false, true, SOON), Outcome::Lost);
    }
}
