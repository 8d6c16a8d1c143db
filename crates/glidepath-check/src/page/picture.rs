//! A timeline as a picture: what is where, worked out here so that the template only writes it down.
//!
//! Across, everything is in percent, so that the picture is as wide as the page without being scaled. A mark that would lie
//! on its neighbour is moved aside by some pixels and keeps a stem to the moment where it belongs.

use std::collections::BTreeSet;
use std::iter;

use super::scale::{Across, EVEN, NARROW, Scale, Tick};
use super::words::{count, moment, plain, short, span};
use crate::model::{Band, Event, EventKind, Lane, Timeline};

/// Of one long connection's events, so many are shown: from the beginning, from the end, and nearest to the signal.
const FIRST: usize = 6;
const LAST: usize = 10;
const NEAREST: usize = 16;

/// Half a mark, in pixels, with the air around it.
const HALF: f64 = 6.0;
/// What each digit of a count takes beside its mark.
const DIGIT: f64 = 7.0;
/// From so many of a kind on, those that would lie on each other are one mark with a count.
const CROWD: usize = 3;

/// From top to bottom, in pixels.
const HEAD: u32 = 20;
const ROW: u32 = 18;
const LANE: u32 = 56;
/// From a lane's top to its line.
const LINE: u32 = 35;
const AXIS: u32 = 36;

/// One timeline, laid out.
pub(super) struct Picture {
    /// What its ids begin with.
    pub(super) id: String,
    /// The same for the lines of its list. They are many: it is short.
    pub(super) key: String,
    pub(super) title: String,
    pub(super) desc: String,
    pub(super) height: u32,
    /// Where the lanes begin and end.
    pub(super) top: u32,
    pub(super) bottom: u32,
    pub(super) zero: Across,
    /// Whether the line at zero is only where the signal would have been.
    pub(super) is_control: bool,
    pub(super) signals: Vec<Flag>,
    /// How the process ended, or that it did not.
    pub(super) end: Option<Flag>,
    pub(super) end_y: u32,
    pub(super) bands: Vec<Phase>,
    pub(super) bands_y: u32,
    pub(super) lanes: Vec<Row>,
    pub(super) lanes_left_out: u32,
    pub(super) ticks: Vec<Tick>,
    pub(super) kinds: BTreeSet<EventKind>,
    pub(super) list: Vec<Entry>,
    /// Events that are neither drawn nor listed.
    pub(super) left_out: usize,
}

/// A line from top to bottom with a word at it.
pub(super) struct Flag {
    pub(super) x: Across,
    pub(super) text: String,
    pub(super) title: String,
    /// Whether the word is on the left of the line.
    pub(super) turned: bool,
    /// From the line to the picture's edge. None where there is no moment to draw a line at.
    pub(super) line: Option<Across>,
}

/// A phase of the server.
pub(super) struct Phase {
    pub(super) x: Across,
    pub(super) width: Across,
    pub(super) name: String,
    pub(super) title: String,
}

/// One connection.
pub(super) struct Row {
    pub(super) y: u32,
    pub(super) name: String,
    pub(super) full_name: String,
    pub(super) outcome: Option<String>,
    pub(super) hurts: bool,
    /// From its first event to its last.
    pub(super) life: Option<(Across, Across)>,
    /// From a request to what became of it.
    pub(super) busy: Vec<(Across, Across)>,
    pub(super) marks: Vec<Spot>,
}

/// One mark.
pub(super) struct Spot {
    pub(super) x: Across,
    /// How far it was moved aside, in pixels.
    pub(super) aside: f64,
    /// Above the line or below.
    pub(super) up: bool,
    pub(super) shape: &'static str,
    /// Of several in one. A single one has the name of its entry.
    pub(super) title: Option<String>,
    /// The entry of the list that tells the rest.
    pub(super) entry: usize,
    /// How many it stands for.
    pub(super) crowd: usize,
}

/// A line of the list.
pub(super) struct Entry {
    pub(super) at: f64,
    pub(super) when: String,
    pub(super) who: String,
    pub(super) shape: &'static str,
    pub(super) what: String,
    pub(super) bytes: Option<String>,
}

/// The scale that shows all of a timeline.
pub(super) fn scale(timeline: &Timeline) -> Scale {
    let lanes = timeline.lanes.iter().flat_map(|lane| &lane.events).map(|event| event.at);
    let signals = timeline.signals.iter().map(|mark| mark.at);
    let exit = timeline.exit.iter().map(|exit| exit.at);
    Scale::over(lanes.chain(signals).chain(exit).chain([timeline.from, timeline.to]))
}

impl Picture {
    /// `nth` is the place of the case, which keeps the ids of two pictures apart.
    pub(super) fn of(case: &str, nth: usize, timeline: &Timeline, scale: Scale, is_control: bool) -> Self {
        let (id, key, title) = match is_control {
            false => (case.to_owned(), format!("e{nth}"), format!("{case}, with the signal")),
            true => (format!("{case}:control"), format!("c{nth}"), format!("{case}, without the signal")),
        };
        let mut list = Vec::new();
        let mut left_out = 0;
        let exit = timeline.exit.as_ref().map(|exit| exit.at);
        let shown: Vec<Shown<'_>> =
            timeline.lanes.iter().map(|lane| Shown::of(lane, exit, &mut list, &mut left_out)).collect();
        // The entries get their places in the list by time; what is at the same moment stays in order, and lines of a log
        // that come together are one entry.
        for mark in &timeline.signals {
            list.push(Entry::of(mark.at, "the check", "signal", &mark.text, None));
        }
        if let Some(exit) = &timeline.exit {
            list.push(Entry::of(exit.at, "the process", "exit", &exit.words(), None));
        }
        for line in &timeline.log {
            list.push(Entry::of(line.at, "the server's log", "log", &line.text, None));
        }
        let mut order: Vec<usize> = (0..list.len()).collect();
        order.sort_by(|&a, &b| list[a].at.total_cmp(&list[b].at));
        let mut places = vec![0; list.len()];
        let mut unsorted: Vec<Option<Entry>> = list.into_iter().map(Some).collect();
        let mut list: Vec<Entry> = Vec::with_capacity(unsorted.len());
        for number in order {
            let Some(entry) = unsorted[number].take() else { continue };
            match list.last_mut().filter(|last| last.continues(&entry)) {
                Some(last) => last.what = format!("{}\n{}", last.what, entry.what),
                None => list.push(entry),
            }
            places[number] = list.len() - 1;
        }

        let signals = signals(timeline, scale);
        let end = (!is_control || timeline.exit.is_some()).then(|| end(timeline, scale));
        let end_y = HEAD;
        let bands_y = end_y + if end.is_some() { ROW } else { 0 };
        let top = bands_y + if timeline.bands.is_empty() { 0 } else { ROW } + 4;
        let lanes: Vec<Row> = shown
            .iter()
            .zip((0u32..).map(|nth| top + nth * LANE))
            .map(|(shown, y)| shown.row(y, scale, &places))
            .collect();
        // Without a lane there is room for a line that says so.
        let bottom = lanes.last().map_or(top + ROW, |lane| lane.y + LANE);
        Self {
            id,
            key,
            title,
            desc: describe(timeline, is_control),
            height: bottom + AXIS,
            top,
            bottom,
            zero: scale.x(0.0),
            is_control,
            signals,
            end,
            end_y,
            bands: timeline.bands.iter().map(|band| Phase::of(band, scale)).collect(),
            bands_y,
            lanes,
            lanes_left_out: timeline.lanes_left_out,
            ticks: scale.ticks(),
            kinds: timeline.lanes.iter().flat_map(|lane| &lane.events).map(|event| event.kind).collect(),
            list,
            left_out,
        }
    }

    pub(super) fn axis(&self) -> String {
        match self.ticks.iter().any(|tick| tick.at.abs() > EVEN) {
            true => format!("time from the signal; logarithmic beyond {EVEN} ms"),
            false => "time from the signal".to_owned(),
        }
    }

    /// Where a lane's line is.
    pub(super) fn line_of(&self, row: &Row) -> u32 {
        row.y + LINE
    }
}

/// Whose events are drawn: with each the number of its entry, before the list is put in order.
struct Shown<'a> {
    lane: &'a Lane,
    /// When the process ended.
    exit: Option<f64>,
    events: Vec<(&'a Event, usize)>,
}

impl<'a> Shown<'a> {
    fn of(lane: &'a Lane, exit: Option<f64>, list: &mut Vec<Entry>, left_out: &mut usize) -> Self {
        *left_out += lane.events_left_out as usize;
        let kept = kept(&lane.events);
        *left_out += lane.events.len() - kept.len();
        let mut events = Vec::with_capacity(kept.len());
        for event in kept {
            events.push((event, list.len()));
            list.push(Entry::of(event.at, &lane.name, event.kind.shape(), &event.words(), event.bytes.as_deref()));
        }
        events.sort_by(|a, b| a.0.at.total_cmp(&b.0.at));
        Self { lane, exit, events }
    }

    fn row(&self, y: u32, scale: Scale, places: &[usize]) -> Row {
        let times: Vec<f64> = self.events.iter().map(|(event, _)| event.at).collect();
        let mut marks: Vec<Spot> =
            [true, false].into_iter().flat_map(|clients| self.spots(clients, scale, places)).collect();
        // Who goes from mark to mark by keyboard goes through time.
        marks.sort_by_key(|spot| spot.entry);
        let label = format!("{} · {}", self.lane.name, self.lane.protocol);
        Row {
            y,
            name: short(&plain(&label), 34).into_owned(),
            full_name: plain(&label).into_owned(),
            outcome: self.lane.outcome.map(|outcome| outcome.to_string()),
            hurts: self.lane.outcome.is_some_and(|outcome| outcome.hurts()),
            life: times.first().zip(times.last()).map(|(&from, &to)| (scale.x(from), width(scale, from, to))),
            busy: self.busy().into_iter().map(|(from, to)| (scale.x(from), width(scale, from, to))).collect(),
            marks,
        }
    }

    /// On HTTP/1, where one request is under way at a time: from what was sent to what settled it.
    fn busy(&self) -> Vec<(f64, f64)> {
        let mut spans = Vec::new();
        if !self.lane.protocol.starts_with("http/1") {
            return spans;
        }
        let mut since = None;
        for (event, _) in &self.events {
            if event.kind == EventKind::Sent {
                since = since.or(Some(event.at));
            } else if event.kind.settles() {
                spans.extend(since.take().map(|since| (since, event.at)));
            }
        }
        spans
    }

    fn spots(&self, clients: bool, scale: Scale, places: &[usize]) -> Vec<Spot> {
        let side: Vec<_> =
            self.events.iter().filter(|(event, _)| event.kind.is_the_clients() == clients).copied().collect();
        let (before, after) = side.split_at(side.partition_point(|(event, _)| event.at < 0.0));
        // Whatever came before the signal stays on that side of its line; and before the exit, where there is room.
        let zero = scale.x(0.0).narrow();
        let (until, gone) = after.split_at(match self.exit {
            Some(exit) => after.partition_point(|(event, _)| event.at <= exit),
            None => after.len(),
        });
        let end = self.exit.map_or(NARROW, |exit| scale.x(exit).narrow());
        let until = crowds(until, scale);
        let needed: f64 = until.iter().map(|crowd| HALF + beside(crowd)).sum();
        let parts = if end - zero >= needed {
            vec![(until, (zero + HALF, end - HALF)), (crowds(gone, scale), (end + HALF, NARROW - HALF))]
        } else {
            vec![(crowds(after, scale), (zero + HALF, NARROW - HALF))]
        };
        iter::once((crowds(before, scale), (HALF, zero - HALF)))
            .chain(parts)
            .flat_map(|(crowds, bounds)| placed(crowds, scale, bounds))
            .map(|(crowd, aside)| {
                let (first, entry) = crowd[0];
                let (last, _) = crowd[crowd.len() - 1];
                let title = (crowd.len() > 1).then(|| {
                    let what = short(&first.words(), 160).into_owned();
                    let (from, to) = (moment(first.at), moment(last.at));
                    format!("{} times from {from} to {to}, {}: {what}", crowd.len(), self.lane.name)
                });
                Spot {
                    x: scale.x(first.at),
                    aside,
                    up: clients,
                    shape: first.kind.shape(),
                    title: title.map(|title| plain(&title).into_owned()),
                    entry: places[entry],
                    crowd: crowd.len(),
                }
            })
            .collect()
    }
}

/// All of them, or those that tell the most.
fn kept(events: &[Event]) -> Vec<&Event> {
    if events.len() <= FIRST + LAST + NEAREST {
        return events.iter().collect();
    }
    let inner = FIRST..events.len() - LAST;
    let mut nearest: Vec<usize> = inner.clone().collect();
    nearest.sort_by(|&a, &b| events[a].at.abs().total_cmp(&events[b].at.abs()));
    nearest.truncate(NEAREST);
    (0..events.len()).filter(|nth| !inner.contains(nth) || nearest.contains(nth)).map(|nth| &events[nth]).collect()
}

type Crowd<'a> = Vec<(&'a Event, usize)>;

/// Those of a kind that follow each other and would lie on each other, together.
fn crowds<'a>(events: &[(&'a Event, usize)], scale: Scale) -> Vec<Crowd<'a>> {
    let near = |a: &Event, b: &Event| a.kind == b.kind && scale.x(b.at).narrow() - scale.x(a.at).narrow() < 2.0 * HALF;
    events
        .chunk_by(|(a, _), (b, _)| near(a, b))
        .flat_map(|chunk| {
            let size = if chunk.len() >= CROWD { chunk.len() } else { 1 };
            chunk.chunks(size).map(<[_]>::to_vec)
        })
        .collect()
}

/// What a mark and its count take on the right of its middle.
fn beside(crowd: &Crowd<'_>) -> f64 {
    match crowd.len() {
        1 => HALF,
        many => HALF + DIGIT * f64::from(many.ilog10() + 2),
    }
}

/// Each with how far it has to be moved aside so that none lies on another and all stay within the bounds.
fn placed<'a>(crowds: Vec<Crowd<'a>>, scale: Scale, (low, high): (f64, f64)) -> Vec<(Crowd<'a>, f64)> {
    let truly: Vec<f64> = crowds.iter().map(|crowd| scale.x(crowd[0].0.at).narrow()).collect();
    let mut places = truly.clone();
    let mut free = low;
    for (place, crowd) in places.iter_mut().zip(&crowds) {
        *place = place.max(free);
        free = *place + beside(crowd) + HALF;
    }
    let mut free = high;
    for (place, crowd) in places.iter_mut().zip(&crowds).rev() {
        *place = place.min(free - beside(crowd) + HALF);
        free = *place - 2.0 * HALF;
    }
    // Too many for the room: they share it evenly, and lie on each other.
    if places.first().is_some_and(|&first| first < low - 0.1) {
        let step = (high - low).max(0.0) / f64::from(u32::try_from(places.len()).unwrap_or(u32::MAX));
        for (place, nth) in places.iter_mut().zip(0u32..) {
            *place = low + step * f64::from(nth);
        }
    }
    crowds.into_iter().zip(places.into_iter().zip(truly).map(|(place, truly)| place - truly)).collect()
}

impl Spot {
    /// From the lane's line.
    pub(super) fn y(&self) -> i32 {
        if self.up { -10 } else { 10 }
    }

    /// Half pixels are exact enough, and short.
    pub(super) fn dx(&self) -> f64 {
        (self.aside * 2.0).round() / 2.0
    }

    /// Where its count is written.
    pub(super) fn after(&self) -> f64 {
        self.dx() + HALF
    }
}

impl Entry {
    fn of(at: f64, who: &str, shape: &'static str, what: &str, bytes: Option<&str>) -> Self {
        Self {
            at,
            when: moment(at),
            who: short(&plain(who), 40).into_owned(),
            shape,
            what: plain(what).into_owned(),
            bytes: bytes.map(|bytes| plain(bytes).into_owned()),
        }
    }

    /// Whether another line of a log came with this one.
    fn continues(&self, other: &Self) -> bool {
        self.shape == "log" && other.shape == "log" && self.when == other.when && self.who == other.who
    }
}

impl Phase {
    fn of(band: &Band, scale: Scale) -> Self {
        let name = plain(&band.name).into_owned();
        Self {
            x: scale.x(band.from),
            width: width(scale, band.from, band.to),
            title: format!("phase {name}, from {} to {}", moment(band.from), moment(band.to)),
            name,
        }
    }
}

/// From a place to the right edge.
fn rest(x: Across) -> Across {
    Across(100.0 - x.0)
}

fn width(scale: Scale, from: f64, to: f64) -> Across {
    Across((scale.x(to).0 - scale.x(from).0).max(0.0))
}

/// Signals whose words would lie on each other share one.
fn signals(timeline: &Timeline, scale: Scale) -> Vec<Flag> {
    let mut flags: Vec<(Flag, usize)> = Vec::new();
    for mark in &timeline.signals {
        let x = scale.x(mark.at);
        let text = short(&plain(&mark.text), 24).into_owned();
        match flags.last_mut().filter(|(flag, _)| x.narrow() - flag.x.narrow() < 70.0) {
            Some((flag, number)) => {
                *number += 1;
                flag.title = format!("{}, {text} at {}", flag.title, moment(mark.at));
                if !flag.text.contains(&text) {
                    flag.text = format!("{}, {text}", flag.text);
                }
            }
            None => {
                let title = format!("{text} at {}", moment(mark.at));
                flags.push((Flag { x, turned: x.0 > 70.0, text, title, line: Some(rest(x)) }, 1));
            }
        }
    }
    for (flag, number) in &mut flags {
        if *number > 1 && !flag.text.contains(',') {
            flag.text = format!("{} ×{number}", flag.text);
        }
    }
    flags.into_iter().map(|(flag, _)| flag).collect()
}

fn end(timeline: &Timeline, scale: Scale) -> Flag {
    match &timeline.exit {
        Some(exit) => {
            let x = scale.x(exit.at);
            let text = format!("{}, {}", exit.words(), moment(exit.at));
            Flag { x, turned: x.0 > 55.0, title: format!("the process ended: {text}"), text, line: Some(rest(x)) }
        }
        None => Flag {
            x: scale.x(timeline.to),
            text: "still ran when the case was over".to_owned(),
            title: format!(
                "the case was over {} after the signal; the process still ran, and was killed",
                span(timeline.to.max(0.0))
            ),
            turned: true,
            line: None,
        },
    }
}

/// The picture in two sentences.
fn describe(timeline: &Timeline, is_control: bool) -> String {
    let lanes = count(timeline.lanes.len(), "connection");
    let zero = if is_control { "where the signal would have been" } else { "the signal" };
    let spent = format!("{lanes}, from {} to {} of {zero}.", moment(timeline.from), moment(timeline.to));
    let outcomes: Vec<_> = timeline
        .lanes
        .iter()
        .filter_map(|lane| lane.outcome.map(|outcome| format!("{}: {outcome}", plain(&lane.name))))
        .collect();
    let outcomes = if outcomes.is_empty() { String::new() } else { format!(" {}.", outcomes.join(", ")) };
    let end = match &timeline.exit {
        Some(exit) => format!(" The process ended with {} at {}.", exit.words(), moment(exit.at)),
        None if is_control => String::new(),
        None => " The process still ran when the case was over.".to_owned(),
    };
    format!("{spent}{outcomes}{end}")
}
