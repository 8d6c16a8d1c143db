//! What the view looks like: from what is so at one moment to lines of text, for a terminal of any size. Pure.
//!
//! ```text
//!
//! draining  ████████████████████░░░░░░░░░░░░░░░  17 s of 30 s left
//! waiting for 2 requests, 1 task; then 1 hook
//! connections: 2 in flight, 3 idle
//!    52 s  request  GET /v1/export
//!    12 s  task     "deliver" (src/deliver.rs:88)
//!     3 s  request  POST /v1/import
//! Ctrl-C: stop waiting. What runs is cut, hooks are skipped, exit code 130
//! ```
//!
//! The first line is empty: the cursor rests there, and what others write to the terminal lands on it.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use super::{counted, counts, line};
use crate::phase::{Further, Phase};
use crate::report::{Kind, Running, Snapshot};

/// How many of what is running are named.
const NAMED: usize = 5;
/// Narrower terminals get a single line.
const NARROW: usize = 30;
/// So do those with fewer lines.
const LOW: usize = 6;
/// The bar's length, at most and at least.
const BAR: (usize, usize) = (40, 8);

/// What is so at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) snapshot: Snapshot,
    /// How long the time is of which `snapshot.left` is left.
    pub(crate) of: Duration,
    /// How long the drain that follows may take, in a lame duck.
    pub(crate) grace: Duration,
    pub(crate) further: Further,
    /// Listeners that are not closed yet.
    pub(crate) listeners: usize,
    /// `serve` is being polled, or was.
    pub(crate) serves: bool,
    /// How long the runtime has not been seen to run.
    pub(crate) silent: Option<Duration>,
}

/// What the terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) colours: bool,
    /// It shows more than ASCII.
    pub(crate) unicode: bool,
}

/// Columns and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The view: no line is wider than the terminal has columns, and there are fewer of them than it has lines.
pub(crate) fn frame(scene: &Scene, size: Size, look: Look) -> Vec<String> {
    if size.width < NARROW || size.height < LOW {
        let mut single = Line::default();
        single.add(Style::Plain, line(&scene.snapshot));
        let mut lines = vec![single.render(size.width, look)];
        if size.height > 2 {
            lines.insert(0, String::new());
        }
        return lines;
    }
    let mut lines = vec![Line::default(), head(scene, size.width, look), what(scene)];
    // One line stays for what is above.
    let mut room = size.height - 1 - lines.len() - 1;
    for more in [trouble(scene), connections(scene)].into_iter().flatten() {
        // At least one thing that runs is named.
        if room > 2 {
            lines.push(more);
            room -= 1;
        }
    }
    lines.extend(table(&scene.snapshot.running, room, look));
    lines.push(further(scene, size.width));
    lines.iter().map(|line| line.render(size.width, look)).collect()
}

fn head(scene: &Scene, width: usize, look: Look) -> Line {
    let mut head = Line::default();
    head.add(Style::Strong, scene.snapshot.phase.to_string());
    let Some(left) = scene.snapshot.left else { return head };
    let left = left.min(scene.of);
    let words = format!("{} of {} left", Rounded(left), Rounded(scene.of));
    let room = width.saturating_sub(head.width() + words.len() + 4).min(BAR.0);
    if room >= BAR.1 {
        let part = if scene.of.is_zero() { 0.0 } else { left.as_secs_f64() / scene.of.as_secs_f64() };
        let full = (part * room as f64).ceil() as usize;
        let (fill, rest) = if look.unicode { ("█", "░") } else { ("#", "-") };
        head.add(Style::Plain, "  ");
        head.add(Style::Bar, fill.repeat(full));
        head.add(Style::Faint, rest.repeat(room - full));
    }
    head.add(Style::Plain, format!("  {words}"));
    head
}

/// What it is waiting for, in a sentence.
fn what(scene: &Scene) -> Line {
    let mut line = Line::default();
    let running = counts(&scene.snapshot);
    let list = running.join(", ");
    let text = match scene.snapshot.phase {
        _ if !scene.serves => "waiting for the program, which has not begun to serve".to_owned(),
        Phase::LameDuck => {
            let runs = if running.is_empty() { "nothing" } else { &list };
            format!(
                "still accepting, so that balancers turn away; running: {runs}; then drains, {} at most",
                Rounded(scene.grace)
            )
        }
        Phase::Closing => match scene.snapshot.waiting.len() {
            _ if running.is_empty() => "all work has ended".to_owned(),
            0 => format!("waiting for {list}"),
            more => format!("waiting for {list}; then {} more", counted(more, "hook")),
        },
        _ => {
            let waiting = match scene.snapshot.connections.iter().map(|(_, count)| count).sum() {
                _ if !running.is_empty() => list,
                0 if scene.listeners > 0 => "the listeners to be closed".to_owned(),
                0 => "nothing more".to_owned(),
                open => format!("{} to be closed", counted(open, "connection")),
            };
            let hooks = scene.snapshot.waiting.len();
            let then = if hooks > 0 { format!("; then {}", counted(hooks, "hook")) } else { String::new() };
            format!("waiting for {waiting}{then}")
        }
    };
    line.add(Style::Plain, text);
    line
}

/// What must not be overlooked.
fn trouble(scene: &Scene) -> Option<Line> {
    let silent = scene.silent.filter(|_| scene.serves)?;
    let mut line = Line::default();
    line.add(Style::Alarm, format!("the runtime has not run for {}: its threads are blocked", Rounded(silent)));
    Some(line)
}

fn connections(scene: &Scene) -> Option<Line> {
    let states: Vec<_> = scene.snapshot.connections.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if states.is_empty() {
        return None;
    }
    let mut line = Line::default();
    line.add(Style::Faint, format!("connections: {}", states.join(", ")));
    Some(line)
}

/// The oldest of all kinds, the oldest first, and how many more there are.
fn table(running: &[Running], room: usize, look: Look) -> Vec<Line> {
    let mut oldest: Vec<_> = running.iter().collect();
    oldest.sort_by_key(|running| Reverse(running.age));
    let named = if oldest.len() <= NAMED.min(room) { oldest.len() } else { NAMED.min(room.saturating_sub(1)) };
    let more = oldest.split_off(named).len();
    let ages: Vec<_> = oldest.iter().map(|running| Rounded(running.age).to_string()).collect();
    let widest = ages.iter().map(String::len).max().unwrap_or(0).max(6);
    let kinds = oldest.iter().map(|running| word(running.kind).len()).max().unwrap_or(0);
    let mut lines: Vec<_> = oldest
        .iter()
        .zip(ages)
        .map(|(running, age)| {
            let mut line = Line::default();
            line.add(Style::Strong, format!("{age:>widest$}"));
            line.add(Style::Faint, format!("  {:<kinds$}", word(running.kind)));
            line.add(Style::Plain, format!("  {}", details(running, look)));
            line
        })
        .collect();
    if more > 0 {
        let mut line = Line::default();
        line.add(Style::Faint, format!("{:>widest$}  and {more} more", ""));
        lines.push(line);
    }
    lines
}

/// Its name, who asked, and what has come and gone of its bodies.
fn details(running: &Running, look: Look) -> String {
    let mut text = harmless(&running.name, look);
    if let Some(peer) = &running.peer {
        let _infallible = write!(text, "  from {peer}");
    }
    for (bytes, way) in [(running.received, "in"), (running.sent, "out")] {
        if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
            let _infallible = write!(text, ", {bytes} B {way}");
        }
    }
    text
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Upgraded => "upgraded",
        Kind::Task => "task",
        Kind::Hook => "hook",
    }
}

/// What one more Ctrl-C does, as long as there is room for.
fn further(scene: &Scene, width: usize) -> Line {
    let closing = scene.snapshot.phase >= Phase::Closing;
    let hooks = if !scene.snapshot.waiting.is_empty() { ", hooks are skipped" } else { "" };
    let forces = match closing {
        true => "stop waiting for the hooks, exit code 130".to_owned(),
        false => format!("stop waiting. What runs is cut{hooks}, exit code 130"),
    };
    // Of a program that began its end itself, the first signal is no further one.
    let (keys, does, short) = match scene.further {
        Further::First if scene.snapshot.phase == Phase::LameDuck => ("Ctrl-C twice", "drain now".into(), "drain now"),
        Further::First => ("Ctrl-C twice", forces, "stop waiting"),
        Further::Drains => ("Ctrl-C", "drain now, without waiting for balancers".into(), "drain now"),
        Further::Forces => ("Ctrl-C", forces, "stop waiting"),
        Further::Nothing => ("forced", "it ends within half a second".into(), "it ends"),
    };
    let fits = keys.len() + 2 + does.len() <= width;
    let mut line = Line::default();
    line.add(Style::Strong, keys);
    line.add(Style::Plain, format!(": {}", if fits { &does } else { short }));
    line
}

/// A duration without more figures than a glance takes: `17 s`, `4 min 05 s`, `3 h 07 min`, `12 days`.
struct Rounded(Duration);

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
            seconds @ 3600..172_800 => write!(f, "{} h {:02} min", seconds / 3600, seconds / 60 % 60),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// How a piece of a line looks. Never the only thing that says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Strong,
    Faint,
    Bar,
    Alarm,
}

impl Style {
    /// SGR (ECMA-48), in the sixteen colours that are the user's own.
    fn begins(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Bar => "\x1b[36m",
            Self::Alarm => "\x1b[1;33m",
        }
    }
}

#[derive(Debug, Default)]
struct Line(Vec<(Style, String)>);

impl Line {
    fn add(&mut self, style: Style, text: impl Into<String>) {
        self.0.push((style, text.into()));
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| columns(text)).sum()
    }

    /// Cut where the terminal ends, with a mark that says so.
    fn render(&self, width: usize, look: Look) -> String {
        let mark = if look.unicode { &"…"[..width.min(1) * 3] } else { &"..."[..width.min(3)] };
        let mut room = if self.width() <= width { width } else { width.saturating_sub(columns(mark)) };
        let mut out = String::new();
        for (style, text) in &self.0 {
            let kept = fitting(text, room);
            room -= columns(kept);
            let begins = if look.colours && !kept.is_empty() { style.begins() } else { "" };
            let ends = if begins.is_empty() { "" } else { "\x1b[0m" };
            let _infallible = write!(out, "{begins}{kept}{ends}");
            if kept.len() < text.len() {
                return out + mark;
            }
        }
        out
    }
}

/// As much of the text as there is room for. What has no width stays with what it belongs to.
fn fitting(text: &str, room: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > room
    });
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// A name that came from outside: nothing of it moves the cursor, changes a colour, or turns what follows round.
fn harmless(name: &str, look: Look) -> String {
    name.chars().fold(String::new(), |mut text, c| {
        if c.is_control() || turns_or_hides(c) || !(look.unicode || c.is_ascii()) {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
        text
    })
}

/// Format characters: directions, joiners, and what has no width and no look.
fn turns_or_hides(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
