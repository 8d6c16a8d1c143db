//! What things are called on the pages, and how times are written.

use std::borrow::Cow;

use crate::model::{Event, EventKind, Exit, Outcome, Verdict};

impl Verdict {
    /// In the order in which they ask for attention.
    pub(super) const ALL: [Verdict; 4] = [Verdict::Fail, Verdict::Invalid, Verdict::Skipped, Verdict::Pass];

    /// In classes, in ids, and to those who listen.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Invalid => "invalid",
            Verdict::Skipped => "skipped",
        }
    }
}

impl Outcome {
    /// Whether a client would call it a loss, whatever the case expects.
    pub(super) fn hurts(self) -> bool {
        matches!(
            self,
            Outcome::Lost
                | Outcome::Reset
                | Outcome::Truncated
                | Outcome::Hung
                | Outcome::Late
                | Outcome::Wrong
                | Outcome::Taken
        )
    }
}

impl EventKind {
    /// In the order of the legend: the client's, and then what comes to it.
    pub(super) const ALL: [EventKind; 16] = [
        EventKind::Connect,
        EventKind::Handshake,
        EventKind::Sent,
        EventKind::HalfClosed,
        EventKind::Closed,
        EventKind::Received,
        EventKind::Answered,
        EventKind::ToldClose,
        EventKind::GoAway,
        EventKind::StreamReset,
        EventKind::WsClose,
        EventKind::CloseNotify,
        EventKind::Fin,
        EventKind::Rst,
        EventKind::Refused,
        EventKind::Timeout,
    ];

    /// Names the shape and the colour.
    pub(super) fn shape(self) -> &'static str {
        match self {
            EventKind::Connect => "connect",
            EventKind::Refused => "refused",
            EventKind::Handshake => "handshake",
            EventKind::Sent => "sent",
            EventKind::HalfClosed => "half",
            EventKind::Received => "received",
            EventKind::Answered => "answered",
            EventKind::ToldClose => "told",
            EventKind::GoAway => "goaway",
            EventKind::StreamReset => "stream",
            EventKind::WsClose => "wsclose",
            EventKind::CloseNotify => "notify",
            EventKind::Fin => "fin",
            EventKind::Rst => "rst",
            EventKind::Timeout => "timeout",
            EventKind::Closed => "closed",
        }
    }

    /// For the legend and the list.
    pub(super) fn name(self) -> &'static str {
        match self {
            EventKind::Connect => "connected",
            EventKind::Refused => "connect refused",
            EventKind::Handshake => "TLS handshake done",
            EventKind::Sent => "sent",
            EventKind::HalfClosed => "client sends no more",
            EventKind::Received => "received a part",
            EventKind::Answered => "whole answer",
            EventKind::ToldClose => "answer that says close",
            EventKind::GoAway => "GOAWAY",
            EventKind::StreamReset => "RST_STREAM",
            EventKind::WsClose => "WebSocket Close",
            EventKind::CloseNotify => "TLS close_notify",
            EventKind::Fin => "FIN",
            EventKind::Rst => "RST",
            EventKind::Timeout => "waited in vain",
            EventKind::Closed => "closed by the client",
        }
    }

    /// What the client does is above its line; what comes to it is below.
    pub(super) fn is_the_clients(self) -> bool {
        matches!(
            self,
            EventKind::Connect | EventKind::Handshake | EventKind::Sent | EventKind::HalfClosed | EventKind::Closed
        )
    }

    /// Whether a request that was under way is so no longer.
    pub(super) fn settles(self) -> bool {
        match self {
            EventKind::Answered
            | EventKind::ToldClose
            | EventKind::GoAway
            | EventKind::StreamReset
            | EventKind::WsClose
            | EventKind::CloseNotify
            | EventKind::Fin
            | EventKind::Rst
            | EventKind::Timeout
            | EventKind::Closed
            | EventKind::Refused => true,
            EventKind::Connect
            | EventKind::Handshake
            | EventKind::Sent
            | EventKind::HalfClosed
            | EventKind::Received => false,
        }
    }
}

impl Event {
    /// The name of its kind and the words of the check, without saying the same twice.
    pub(super) fn words(&self) -> Cow<'_, str> {
        let name = self.kind.name();
        let text = plain(&self.text);
        if text.is_empty() || text.eq_ignore_ascii_case(name) { name.into() } else { format!("{name}: {text}").into() }
    }
}

impl Exit {
    /// How it ended, in two words.
    pub(super) fn words(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }
}

/// A time from the signal: `−420 ms`, `+3.1 ms`, `+1.02 s`.
pub(super) fn moment(at: f64) -> String {
    let sign = if at < 0.0 { "−" } else { "+" };
    format!("{sign}{}", span(at.abs()))
}

/// A length of time: `0.4 ms`, `420 ms`, `1.02 s`, `5 min 3 s`.
pub(super) fn span(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 99_950.0 => {
            let seconds = format!("{:.2}", ms / 1_000.0);
            format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
        }
        ms => format!("{:.0} min {:.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0 / 1_000.0).floor()),
    }
}

/// Control characters as pictures of themselves: a server's log may be coloured for a terminal.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let picture = |c: char| match c {
        '\n' | '\t' => c,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        // These would turn the text around them.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    if text.chars().any(|c| picture(c) != c) { text.chars().map(picture).collect() } else { text.into() }
}

/// The beginning of a long text.
pub(super) fn short(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()).into(),
        None => text.into(),
    }
}

/// `1 connection`, `3 connections`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// What may be in an id and in an address: letters, digits and dashes.
pub(super) fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_the_digits_that_matter() {
        let written = [0.0, -0.44, 3.17, 420.4, 999.6, -1_020.0, 30_000.0, 303_000.0].map(moment);
        assert_eq!(
            written,
            ["+0.0 ms", "−0.4 ms", "+3.2 ms", "+420 ms", "+1 s", "−1.02 s", "+30 s", "+5 min 3 s"].map(str::to_owned)
        );
    }

    #[test]
    fn a_terminals_colours_and_text_that_turns_round_are_shown_and_not_obeyed() {
        assert_eq!(plain("\u{1b}[32mINFO\u{202e}"), "␛[32mINFO\u{fffd}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(short("äöü", 2), "äö…");
        assert_eq!(short("äöü", 3), "äöü");
    }

    #[test]
    fn a_words_case_is_not_said_twice() {
        let event = |text: &str| Event { at: 0.0, kind: EventKind::Fin, text: text.to_owned(), bytes: None };
        assert_eq!(event("FIN").words(), "FIN");
        assert_eq!(event("after 5 bytes").words(), "FIN: after 5 bytes");
    }
}
