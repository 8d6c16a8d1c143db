//! What the page shows, as events: a snapshot each second and at each change of phase, and the report as the last.
//!
//! Made for whoever watches, once for all of them. Bounded, whatever runs: so many watchers, so many of each kind, so long a name.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::body::Said;
use super::plain;
use crate::driver::Shared;
use crate::phase::Phase;
use crate::report::{Kind, Report, Running, Snapshot};
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Mutex, lock};

/// How often a watcher gets a snapshot.
const EVERY: Duration = Duration::from_secs(1);
/// How old one may be that was made for another watcher.
const FRESH: Duration = Duration::from_millis(250);
/// How soon a browser asks again when the events have ended, in milliseconds.
const RETRY: u32 = 500;

const MOST_WATCHERS: usize = 32;
/// How many of each kind are sent.
const MOST_OF_A_KIND: usize = 100;
/// How many are named that were cut.
const MOST_CUT: usize = 200;
/// How many characters of a name: paths come from clients.
const LONGEST_NAME: usize = 200;

/// What all watchers share.
pub(super) struct Feed {
    shared: Arc<Shared>,
    program: String,
    watchers: AtomicUsize,
    /// A watcher has gone.
    gone: Notify,
    latest: Mutex<Option<Latest>>,
    /// The last event, once there is one.
    last: watch::Sender<Option<Bytes>>,
}

struct Latest {
    made: Instant,
    phase: Phase,
    event: Bytes,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        // Only the file's name: words that follow it may be secrets.
        let program = std::env::args_os().next().map(std::path::PathBuf::from);
        let program = program.as_deref().and_then(std::path::Path::file_name).unwrap_or_default();
        Arc::new(Self {
            shared,
            program: program.to_string_lossy().into_owned(),
            watchers: AtomicUsize::new(0),
            gone: Notify::new(),
            latest: Mutex::default(),
            last: watch::Sender::new(None),
        })
    }

    /// Events from now on.
    pub(super) fn watch(self: &Arc<Self>) -> Response<Said> {
        let Some(seat) = Seat::take(self) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{MOST_WATCHERS} watch already")).map(Said::from);
        };
        let watcher = Watcher {
            phases: self.shared.phases(),
            last: self.last.subscribe(),
            ticks: ticks(),
            begun: false,
            over: false,
            seat,
        };
        let mut response = Response::new(Said::Events(Events::new(watcher)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Tells the watchers how it has ended. Nothing comes after this.
    pub(super) fn tell(&self, report: &Report) {
        let last = LastFrame {
            pid: std::process::id(),
            program: &self.program,
            more_cut: report.cut.len().saturating_sub(MOST_CUT),
            report: shortened(report),
        };
        self.last.send_replace(Some(event("report", &last)));
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.load(Relaxed)
    }

    /// Ends when nobody watches any more.
    pub(super) async fn empty(&self) {
        while self.watchers() > 0 {
            self.gone.notified().await;
        }
    }

    /// The snapshot's event: made now, or a moment ago for another watcher.
    fn latest(&self) -> Bytes {
        let mut latest = lock(&self.latest);
        let (now, phase) = (Instant::now(), self.shared.phase());
        if let Some(latest) = latest.as_ref().filter(|latest| latest.phase == phase && now < latest.made + FRESH) {
            return latest.event.clone();
        }
        let snapshot = self.shared.snapshot();
        let made = Latest { made: now, phase: snapshot.phase, event: event("snapshot", &self.frame(snapshot)) };
        latest.insert(made).event.clone()
    }

    fn frame(&self, mut snapshot: Snapshot) -> Frame<'_> {
        let plan = self.shared.registry.plan();
        let running = Counts::keep_the_oldest(&mut snapshot.running);
        snapshot.waiting.truncate(MOST_OF_A_KIND);
        snapshot.waiting.iter_mut().for_each(shorten);
        let restart = &self.shared.restart;
        Frame {
            program: &self.program,
            up_ms: self.shared.now().as_millis(),
            grace_ms: plan.grace.as_millis(),
            lame_duck_ms: plan.lame_duck.as_millis(),
            not_ready: self.shared.readiness.waits_for().unwrap_or_default().into_iter().map(Into::into).collect(),
            can_restart: restart.is_on(),
            predecessor: restart.predecessor(),
            successor: restart.successor(),
            counts: running,
            snapshot,
        }
    }
}

/// A snapshot as the page gets it.
#[derive(Serialize)]
struct Frame<'a> {
    program: &'a str,
    up_ms: u128,
    grace_ms: u128,
    lame_duck_ms: u128,
    /// The latches that are held.
    not_ready: Vec<String>,
    can_restart: bool,
    predecessor: Option<u32>,
    successor: Option<u32>,
    counts: Counts,
    #[serde(flatten)]
    snapshot: Snapshot,
}

#[derive(Serialize)]
struct LastFrame<'a> {
    pid: u32,
    program: &'a str,
    more_cut: usize,
    report: Report,
}

/// How many there are of each kind, sent or not.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    request: usize,
    upgraded: usize,
    task: usize,
    hook: usize,
}

impl Counts {
    /// Counts all, and keeps the oldest of each kind, the oldest of all first.
    fn keep_the_oldest(running: &mut Vec<Running>) -> Self {
        let mut counts = Self::default();
        running.sort_by_key(|running| std::cmp::Reverse(running.age));
        running.retain_mut(|running| {
            let count = match running.kind {
                Kind::Request => &mut counts.request,
                Kind::Upgraded => &mut counts.upgraded,
                Kind::Task => &mut counts.task,
                Kind::Hook => &mut counts.hook,
            };
            *count += 1;
            shorten(&mut running.name);
            *count <= MOST_OF_A_KIND
        });
        counts
    }
}

/// The report with no more names than a page can show.
fn shortened(report: &Report) -> Report {
    let mut cut: Vec<_> = report.cut.iter().take(MOST_CUT).cloned().collect();
    cut.iter_mut().for_each(|running| shorten(&mut running.name));
    let mut panicked: Vec<_> = report.panicked.iter().take(MOST_CUT).cloned().collect();
    panicked.iter_mut().for_each(shorten);
    Report {
        version: report.version,
        outcome: report.outcome,
        exit_code: report.exit_code,
        cause: report.cause.clone(),
        successor: report.successor,
        took: report.took,
        grace: report.grace,
        connections: report.connections,
        requests: report.requests,
        tasks: report.tasks,
        hooks: report.hooks,
        cut,
        panicked,
        held_by: report.held_by.clone(),
        printed: report.printed.clone(),
    }
}

fn shorten(name: &mut String) {
    if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
        name.truncate(end);
        name.push('…');
    }
}

/// JSON has no line ends in it, so it is one line of data.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn ticks() -> Interval {
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// One of the places for watchers.
struct Seat(Arc<Feed>);

impl Seat {
    fn take(feed: &Arc<Feed>) -> Option<Self> {
        let more = |watchers| (watchers < MOST_WATCHERS).then_some(watchers + 1);
        feed.watchers.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self(Arc::clone(feed)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Relaxed);
        self.0.gone.notify_one();
    }
}

struct Watcher {
    seat: Seat,
    phases: watch::Receiver<Phase>,
    last: watch::Receiver<Option<Bytes>>,
    ticks: Interval,
    begun: bool,
    over: bool,
}

impl Watcher {
    /// The next event, when it is time; `None` behind the last.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            self.phases.mark_unchanged();
            let first = self.seat.0.latest();
            return Some([format!("retry: {RETRY}\n").as_bytes(), &first].concat().into());
        }
        tokio::select! {
            biased;
            last = self.last.wait_for(Option::is_some) => {
                self.over = true;
                last.ok().and_then(|last| last.clone())
            }
            Ok(()) = self.phases.changed() => Some(self.seat.0.latest()),
            _ = self.ticks.tick() => Some(self.seat.0.latest()),
        }
    }
}

type Next = Pin<Box<dyn Future<Output = (Option<Bytes>, Watcher)> + Send>>;

/// The events of one watcher.
pub(super) struct Events(Next);

impl Events {
    fn new(watcher: Watcher) -> Self {
        Self(Self::next(watcher))
    }

    fn next(mut watcher: Watcher) -> Next {
        Box::pin(async move { (watcher.next().await, watcher) })
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (bytes, watcher) = std::task::ready!(self.0.as_mut().poll(cx));
        self.0 = Self::next(watcher);
        Poll::Ready(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(kind: Kind, name: &str, seconds: u64) -> Running {
        Running::new(kind, name.to_owned(), Duration::from_secs(seconds))
    }

    #[test]
    fn see_5_all_are_counted_and_the_oldest_of_each_kind_are_sent() {
        let mut all: Vec<_> = (0..1000).map(|age| running(Kind::Request, "GET /", age)).collect();
        all.extend([running(Kind::Task, "young task", 1), running(Kind::Hook, "hook", 500)]);
        let counts = Counts::keep_the_oldest(&mut all);
        assert_eq!(counts, Counts { request: 1000, upgraded: 0, task: 1, hook: 1 });
        assert_eq!(all.len(), MOST_OF_A_KIND + 2);
        assert_eq!(all[0].age, Duration::from_secs(999));
        assert!(all.is_sorted_by_key(|running| std::cmp::Reverse(running.age)));
        assert_eq!(all.last().map(|running| &*running.name), Some("young task"));
    }

    #[test]
    fn see_5_a_long_name_is_cut_between_two_characters() {
        let mut all = vec![running(Kind::Request, &"ä".repeat(60_000), 1)];
        Counts::keep_the_oldest(&mut all);
        assert_eq!(all[0].name.chars().count(), LONGEST_NAME + 1);
        assert!(all[0].name.ends_with("ä…"));
    }

    #[test]
    fn see_5_an_event_is_one_line_whatever_its_names_are() {
        let event = event("snapshot", &running(Kind::Task, "a\n\nevent: report\r\n", 1));
        let event = String::from_utf8(event.to_vec()).unwrap();
        assert_eq!(event.lines().count(), 3, "{event:?}");
        assert!(event.starts_with("event: snapshot\ndata: {") && event.ends_with("}\n\n"), "{event:?}");
    }
}
