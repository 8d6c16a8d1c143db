//! How one process hands its listeners on to the next: who does what, and when.
//!
//! Pure, as `phase.rs` is: what happened goes in, what must be done comes out. Both processes run this, each its side of it;
//! one in the middle of a chain of restarts runs both.
//!
//! ```text
//! the old process                    the new one
//! starts it                    ->    adopts the listeners, prepares, accepts nothing
//!                   <- ready         has prepared
//! decides: go ->                     accepts
//!                   <- accepting
//! drains                             is alone when the old one has ended
//! ```
//!
//! Whatever the old one decides against (too late, told to end) it decides before `go`, when the new one has accepted
//! nothing that could be lost. The old one accepts until it hears `accepting`, so that there is no moment without.
//!
//! Invariants, held by the model check in `handover/model.rs`, with a crash of anybody at every step:
//! 1. somebody accepts, unless who did so crashed or was told to end;
//! 2. at most one old process drains, and one successor is there;
//! 3. who is given up without having been told to go has accepted nothing;
//! 4. everybody who asks for a restart is answered, and a process whose predecessor is gone goes on by itself.

use std::fmt;

/// What the two say to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    /// The new one: all is prepared.
    Ready,
    /// The old one: take over.
    Go,
    /// The new one: it accepts.
    Accepting,
}

/// A word as it is said, in a line of text: `ready 0 2`, `go`, `accepting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) word: Word,
    /// With `ready`: which listeners it took, by their places in the list. What it left the old one seals itself.
    pub(crate) took: Option<Vec<usize>>,
}

impl Said {
    /// `None`: not a word.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let word = match words.next()? {
            "ready" => Word::Ready,
            "go" => Word::Go,
            "accepting" => Word::Accepting,
            _ => return None,
        };
        let took: Vec<usize> = words.map(|place| place.parse().ok()).collect::<Option<_>>()?;
        Some(Self { word, took: (word == Word::Ready).then_some(took) })
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.word {
            Word::Ready => "ready",
            Word::Go => "go",
            Word::Accepting => "accepting",
        })?;
        self.took.iter().flatten().try_for_each(|place| write!(f, " {place}"))
    }
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The listeners stand, and no latch is held.
    Prepared,
    /// The process before this one said so.
    PredecessorSaid(Word),
    PredecessorGone,
    /// Somebody wants a restart.
    Ask,
    /// The process after this one said so.
    SuccessorSaid(Word),
    /// It could not be started, has ended or hung up.
    SuccessorGone,
    /// It took too long.
    TimeUp,
    /// What was given up has ended.
    Reaped,
    /// This process is to end.
    Stop,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    /// To the process before this one.
    Say(Word),
    Accept,
    Start,
    /// To the process after this one.
    Tell(Word),
    /// End the successor and say why, to everybody who asked.
    GiveUp(Reason),
    /// Drain: the successor accepts.
    HandOn,
    /// To the one who just asked.
    Refuse(Refusal),
}

/// Why a restart that had begun came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    Gone,
    TimeUp,
    Stopped,
}

/// Why a restart is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    NotServing,
    Busy,
    PredecessorDrains,
    Ending,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotServing => "this process does not serve yet; try again when it does",
            Self::Busy => "a restart is under way",
            Self::PredecessorDrains => "the process before this one still drains; try again when it has ended",
            Self::Ending => "this process is ending",
        })
    }
}

/// Towards the process before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Before {
    /// Not accepting yet.
    Preparing { predecessor: bool },
    /// Said so; the predecessor decides.
    Ready,
    /// The predecessor drains, or there is none.
    Accepting { predecessor: bool },
}

/// Towards the process after this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum After {
    Nobody,
    Starting,
    /// Told to go; both accept.
    Told,
    /// Being ended.
    GivenUp,
    HandedOn,
}

/// One process's side of it, towards both neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Handover {
    before: Before,
    after: After,
    stopped: bool,
}

impl Handover {
    /// Of a process that has been started by another one (`predecessor`), or by anybody else.
    pub(crate) fn new(predecessor: bool) -> Self {
        Self { before: Before::Preparing { predecessor }, after: After::Nobody, stopped: false }
    }

    pub(crate) fn step(&mut self, event: Event) -> Vec<Command> {
        match event {
            Event::Prepared | Event::PredecessorSaid(_) | Event::PredecessorGone => self.towards_predecessor(event),
            Event::Ask => self.ask(),
            Event::SuccessorSaid(_) | Event::SuccessorGone | Event::TimeUp | Event::Reaped => {
                self.towards_successor(event)
            }
            Event::Stop => self.stop(),
        }
    }

    fn towards_predecessor(&mut self, event: Event) -> Vec<Command> {
        let (before, commands) = match (event, self.before) {
            (Event::PredecessorGone, Before::Accepting { .. }) => (Before::Accepting { predecessor: false }, vec![]),
            _ if self.stopped => return Vec::new(),
            (Event::Prepared, Before::Preparing { predecessor: true }) => {
                (Before::Ready, vec![Command::Say(Word::Ready)])
            }
            (Event::Prepared, Before::Preparing { predecessor: false })
            // It had nobody else to hand on to: waiting on would leave the clients alone.
            | (Event::PredecessorGone, Before::Preparing { .. } | Before::Ready) => {
                (Before::Accepting { predecessor: false }, vec![Command::Accept])
            }
            (Event::PredecessorSaid(Word::Go), Before::Ready) => {
                (Before::Accepting { predecessor: true }, vec![Command::Accept, Command::Say(Word::Accepting)])
            }
            _ => return Vec::new(),
        };
        self.before = before;
        commands
    }

    fn ask(&mut self) -> Vec<Command> {
        let refusal = match (self.before, self.after) {
            _ if self.stopped => Refusal::Ending,
            (_, After::HandedOn) => Refusal::Ending,
            (Before::Preparing { .. } | Before::Ready, _) => Refusal::NotServing,
            (_, After::Starting | After::Told | After::GivenUp) => Refusal::Busy,
            (Before::Accepting { predecessor: true }, After::Nobody) => Refusal::PredecessorDrains,
            (Before::Accepting { predecessor: false }, After::Nobody) => {
                self.after = After::Starting;
                return vec![Command::Start];
            }
        };
        vec![Command::Refuse(refusal)]
    }

    fn towards_successor(&mut self, event: Event) -> Vec<Command> {
        let (after, command) = match (event, self.after) {
            (Event::SuccessorSaid(Word::Ready), After::Starting) => (After::Told, Some(Command::Tell(Word::Go))),
            // One that does not know of `go` may say at once that it accepts.
            (Event::SuccessorSaid(Word::Accepting), After::Starting | After::Told) => {
                (After::HandedOn, Some(Command::HandOn))
            }
            (Event::SuccessorGone, After::Starting | After::Told) => {
                (After::GivenUp, Some(Command::GiveUp(Reason::Gone)))
            }
            (Event::TimeUp, After::Starting | After::Told) => (After::GivenUp, Some(Command::GiveUp(Reason::TimeUp))),
            (Event::Reaped, After::GivenUp) => (After::Nobody, None),
            _ => return Vec::new(),
        };
        self.after = after;
        command.into_iter().collect()
    }

    fn stop(&mut self) -> Vec<Command> {
        self.stopped = true;
        let (after, command) = match self.after {
            After::Starting => (After::GivenUp, Command::GiveUp(Reason::Stopped)),
            // It may have accepted already, so it is not ended; what it holds must not be sealed.
            After::Told => (After::HandedOn, Command::HandOn),
            After::Nobody | After::GivenUp | After::HandedOn => return Vec::new(),
        };
        self.after = after;
        vec![command]
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for (line, word, took) in [
            ("ready 0 2", Word::Ready, Some(vec![0, 2])),
            ("ready", Word::Ready, Some(vec![])),
            ("go", Word::Go, None),
            ("accepting", Word::Accepting, None),
        ] {
            let said = Said { word, took };
            assert_eq!(said.to_string(), line);
            assert_eq!(Said::parse(line), Some(said));
        }
        for line in ["", "Ready", "ready x", "ready 1,2", "ready  1", "stop"] {
            assert_eq!(Said::parse(line), None, "{line:?}");
        }
    }
}
