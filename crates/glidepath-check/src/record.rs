//! Writes down what happens, with its time; when the script is over, times become milliseconds from the signal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::clock::{ms, now};
use crate::model::{Band, Event, EventKind, Exit, Lane, Mark, Outcome, Timeline};
use crate::seen::{Seen, words};

/// So many lanes are kept of a crowd; those whose outcome is not the common one come first.
const LANES: usize = 10;
/// A crowd larger than this is not even written down.
const CROWD: usize = 400;
/// Of a long conversation, so many events of its beginning and of its end are kept.
const EVENTS: usize = 40;
/// So many of the server's last lines are kept.
const LINES: usize = 60;
/// Of a long write or frame, so many bytes are shown.
const BYTES: usize = 400;

/// Shared by all that takes part in one script.
#[derive(Clone)]
pub(crate) struct Recorder {
    book: Arc<Mutex<Book>>,
    verbose: bool,
    control: bool,
}

struct Book {
    began: Instant,
    zero: Option<Instant>,
    signals: Vec<(Instant, String)>,
    exit: Option<(Instant, Option<i32>, Option<i32>)>,
    lanes: Vec<RawLane>,
    unwritten: u32,
    lines: VecDeque<(Instant, String)>,
    phases: Vec<(Instant, String)>,
}

struct RawLane {
    name: String,
    protocol: String,
    outcome: Option<Outcome>,
    events: Vec<RawEvent>,
}

struct RawEvent {
    at: Instant,
    kind: EventKind,
    text: String,
    bytes: Option<String>,
    /// Bytes that came, for those that are gathered.
    gathered: usize,
}

/// One connection's line in the book. None for the late ones of a crowd.
#[derive(Clone)]
pub(crate) struct Pen {
    recorder: Recorder,
    lane: Option<usize>,
}

impl Recorder {
    pub(crate) fn new(verbose: bool) -> Self {
        Self::of(verbose, false)
    }

    /// Of a script that is played without the signal.
    pub(crate) fn of_control(verbose: bool) -> Self {
        Self::of(verbose, true)
    }

    fn of(verbose: bool, control: bool) -> Self {
        let book = Book {
            began: now(),
            zero: None,
            signals: Vec::new(),
            exit: None,
            lanes: Vec::new(),
            unwritten: 0,
            lines: VecDeque::new(),
            phases: Vec::new(),
        };
        Self { book: Arc::new(Mutex::new(book)), verbose, control }
    }

    pub(crate) fn is_control(&self) -> bool {
        self.control
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn lane(&self, protocol: &str) -> Pen {
        let mut book = self.book();
        let number = book.lanes.len() + book.unwritten as usize + 1;
        let lane = (book.lanes.len() < CROWD).then_some(book.lanes.len());
        match lane {
            None => book.unwritten += 1,
            Some(_) => book.lanes.push(RawLane {
                name: format!("client {number}"),
                protocol: protocol.to_owned(),
                outcome: None,
                events: Vec::new(),
            }),
        }
        Pen { recorder: self.clone(), lane }
    }

    /// The signal, or what stands for it. The first one is the zero of all times.
    pub(crate) fn signal(&self, at: Instant, name: &str) {
        let mut book = self.book();
        book.zero.get_or_insert(at);
        book.signals.push((at, name.to_owned()));
    }

    /// Where the signal would have been.
    pub(crate) fn no_signal(&self, at: Instant) {
        self.book().zero.get_or_insert(at);
    }

    pub(crate) fn zero(&self) -> Option<Instant> {
        self.book().zero
    }

    pub(crate) fn exit(&self, at: Instant, code: Option<i32>, signal: Option<i32>) {
        self.book().exit = Some((at, code, signal));
    }

    pub(crate) fn line(&self, at: Instant, line: &str) {
        let line = plain(line);
        let mut book = self.book();
        if let Some(phase) = phase_of(&line) {
            book.phases.push((at, phase));
        }
        if book.lines.len() == LINES {
            book.lines.pop_front();
        }
        book.lines.push_back((at, line));
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.book().lines.iter().map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn timeline(&self) -> Timeline {
        let book = self.book();
        let zero = book.zero.unwrap_or(book.began);
        let at = |time: Instant| millis(zero, time);
        let mut kept: Vec<usize> = (0..book.lanes.len()).collect();
        if kept.len() > LANES {
            let common = |lane: &RawLane| book.lanes.iter().filter(|other| other.outcome == lane.outcome).count();
            kept.sort_by_key(|lane| common(&book.lanes[*lane]));
            kept.truncate(LANES);
            kept.sort_unstable();
        }
        let left_out = book.lanes.len() - kept.len() + book.unwritten as usize;
        let lanes: Vec<_> = kept.into_iter().map(|lane| book.lanes[lane].show(&at)).collect();
        let signals: Vec<_> = book.signals.iter().map(|(time, text)| mark(at(*time), text)).collect();
        let exit = book.exit.map(|(time, code, signal)| Exit { at: at(time), code, signal });
        let ends = lanes.iter().flat_map(|lane| &lane.events).map(|event| event.at);
        let ends = ends.chain(signals.iter().map(|signal| signal.at)).chain(exit.iter().map(|exit| exit.at));
        let (from, to) = ends.fold((0.0_f64, 0.0_f64), |(from, to), at| (from.min(at), to.max(at)));
        let log = book.lines.iter().map(|(time, text)| mark(at(*time), text)).collect();
        let phase_end = |next: usize| book.phases.get(next).map_or(to, |(time, _)| at(*time).min(to));
        let bands = book.phases.iter().enumerate().map(|(number, (time, name))| Band {
            from: at(*time).max(from),
            to: phase_end(number + 1).max(from),
            name: name.clone(),
        });
        let bands = bands.filter(|band| band.to > band.from).collect();
        Timeline { from, to, signals, exit, lanes, lanes_left_out: left_out as u32, bands, log }
    }
}

impl RawLane {
    fn show(&self, at: &impl Fn(Instant) -> f64) -> Lane {
        let count = self.events.len();
        let kept = |number: usize| number < EVENTS || number + EVENTS >= count;
        let events = self.events.iter().enumerate().filter(|(number, _)| kept(*number)).map(|(_, event)| Event {
            at: at(event.at),
            kind: event.kind,
            text: event.text.clone(),
            bytes: event.bytes.clone(),
        });
        Lane {
            name: self.name.clone(),
            protocol: self.protocol.clone(),
            outcome: self.outcome,
            events: events.collect(),
            events_left_out: count.saturating_sub(2 * EVENTS) as u32,
        }
    }
}

impl Pen {
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn event(&self, kind: EventKind, text: impl Into<String>) {
        self.write(kind, text.into(), None);
    }

    pub(crate) fn event_with(&self, kind: EventKind, text: impl Into<String>, bytes: &[u8]) {
        let bytes = self.recorder.verbose.then(|| escaped(bytes));
        self.write(kind, text.into(), bytes);
    }

    fn write(&self, kind: EventKind, text: String, bytes: Option<String>) {
        let Some(lane) = self.lane else { return };
        let at = now();
        self.recorder.book().lanes[lane].events.push(RawEvent { at, kind, text, bytes, gathered: 0 });
    }

    /// Parts of a body: those that come close together are one event.
    pub(crate) fn came(&self, bytes: usize) {
        let Some(lane) = self.lane else { return };
        let at = now();
        let mut book = self.recorder.book();
        let events = &mut book.lanes[lane].events;
        if let Some(last) = events.last_mut().filter(|last| last.gathered > 0 && at - last.at < ms(60)) {
            last.gathered += bytes;
            last.text = format!("{} bytes", last.gathered);
            return;
        }
        let text = format!("{bytes} bytes");
        events.push(RawEvent { at, kind: EventKind::Received, text, bytes: None, gathered: bytes });
    }

    pub(crate) fn speaks(&self, protocol: &str) {
        let Some(lane) = self.lane else { return };
        protocol.clone_into(&mut self.recorder.book().lanes[lane].protocol);
    }

    /// What became of this connection, and when.
    pub(crate) fn became(&self, seen: Seen) -> Seen {
        self.outcome(seen.outcome);
        match self.recorder.zero() {
            Some(zero) if !seen.text.contains("signal") => {
                let after = words(now().saturating_duration_since(zero));
                Seen::new(seen.outcome, format!("{}, {after} after the signal", seen.text))
            }
            _ => seen,
        }
    }

    fn outcome(&self, outcome: Outcome) {
        let Some(lane) = self.lane else { return };
        self.recorder.book().lanes[lane].outcome = Some(outcome);
    }
}

fn mark(at: f64, text: &str) -> Mark {
    Mark { at, text: text.to_owned() }
}

/// To a hundredth of a millisecond: more is noise.
fn millis(zero: Instant, time: Instant) -> f64 {
    let after = time.saturating_duration_since(zero).as_secs_f64();
    let before = zero.saturating_duration_since(time).as_secs_f64();
    ((after - before) * 100_000.0).round() / 100.0
}

/// Without the colours of a terminal.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.trim_end();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain.chars().take(BYTES).collect()
}

/// `drain` of `lifecycle phase=drain cause="SIGTERM"`; a value may stand in quotes.
fn phase_of(line: &str) -> Option<String> {
    let at = line.find("phase=").filter(|at| *at == 0 || line.as_bytes()[at - 1] == b' ')?;
    let value = &line[at + "phase=".len()..];
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split_whitespace().next(),
    };
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}

fn escaped(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(BYTES).map(|byte| byte.escape_ascii().to_string()).collect();
    if bytes.len() > BYTES {
        text.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_read_from_a_log_line_with_or_without_colours() {
        let line =
            "\u{1b}[2m2026\u{1b}[0m INFO lifecycle \u{1b}[3mphase\u{1b}[0m\u{1b}[2m=\u{1b}[0mdrain cause=\"x\"\n";
        assert_eq!(phase_of(&plain(line)).as_deref(), Some("drain"));
        assert_eq!(phase_of("phase=\"lame duck\" x").as_deref(), Some("lame duck"));
        assert_eq!(phase_of("no_phase=x"), None);
        assert_eq!(phase_of("nothing"), None);
    }

    #[test]
    fn of_a_crowd_those_that_differ_are_kept() {
        let recorder = Recorder::new(false);
        for number in 0..100 {
            let pen = recorder.lane("http/1.1");
            pen.outcome(if number == 77 { Outcome::Reset } else { Outcome::Answered });
        }
        let timeline = recorder.timeline();
        assert_eq!((timeline.lanes.len(), timeline.lanes_left_out), (LANES, 90));
        assert!(timeline.lanes.iter().any(|lane| lane.name == "client 78"));
    }

    #[test]
    fn of_a_long_conversation_both_ends_are_kept() {
        let recorder = Recorder::new(false);
        let pen = recorder.lane("http/1.1");
        for number in 0..1000 {
            pen.event(EventKind::Sent, number.to_string());
        }
        let lane = &recorder.timeline().lanes[0];
        assert_eq!((lane.events.len(), lane.events_left_out), (80, 920));
        assert_eq!((lane.events[0].text.as_str(), lane.events[79].text.as_str()), ("0", "999"));
    }

    #[test]
    fn times_count_from_the_signal() {
        let recorder = Recorder::new(true);
        let pen = recorder.lane("http/1.1");
        pen.event_with(EventKind::Sent, "GET /", b"GET / HTTP/1.1\r\n");
        crate::clock::pause(ms(20));
        recorder.signal(now(), "SIGTERM");
        let timeline = recorder.timeline();
        assert!(timeline.lanes[0].events[0].at <= -20.0, "{timeline:?}");
        assert_eq!(timeline.signals[0].at, 0.0);
        assert_eq!(timeline.lanes[0].events[0].bytes.as_deref(), Some("GET / HTTP/1.1\\r\\n"));
    }
}
