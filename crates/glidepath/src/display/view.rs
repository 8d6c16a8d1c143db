//! The thread that looks and draws, from the beginning of an end to its report.

use std::env;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, park_timeout};
use std::time::Duration;

use tokio::time::Instant;

use super::frame::{Look, Scene, frame};
use super::screen;

/// How often it looks. What looks the same is not drawn again.
const TICK: Duration = Duration::from_millis(100);
/// An end that takes no longer shows nothing.
const FIRST: Duration = Duration::from_millis(150);
/// Of the time, looking takes one part of so many: there may be very much to look at.
const SHARE: u32 = 10;

/// The view of one lifecycle.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Its number on the screen, and what that can do, once it has it.
    claimed: OnceLock<Option<(usize, Look)>>,
    begun: OnceLock<()>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    over: AtomicBool,
    seen: AtomicBool,
}

impl View {
    /// An end has begun: takes the terminal, if there is one that suits. If it was a key that began it, what the log says from
    /// now on begins on a line of its own, behind the `^C` that the terminal has shown.
    pub(crate) fn claim(&self, by_a_key: bool) {
        self.claimed.get_or_init(|| look().and_then(|look| Some((screen::claim(by_a_key)?, look))));
    }

    /// Shows what `scene` gives, until the end.
    pub(crate) fn begin(&self, mut scene: impl FnMut() -> Scene + Send + 'static) {
        let Some((number, look)) = self.claimed.get().copied().flatten() else { return };
        if self.state.over.load(Ordering::Acquire) || self.begun.set(()).is_err() {
            return;
        }
        let state = Arc::clone(&self.state);
        let show = move || {
            park_timeout(FIRST);
            while !state.over.load(Ordering::Acquire) {
                let began = Instant::now();
                let scene = scene();
                let seen = screen::draw(number, |size| frame(&scene, size, look));
                state.seen.store(seen, Ordering::Release);
                park_timeout(TICK.max(SHARE * (Instant::now() - began)));
            }
        };
        if let Err(error) = Builder::new().name("glidepath-view".into()).spawn(show) {
            tracing::warn!(%error, "no thread for the view");
        }
    }

    /// Whether somebody can see it.
    pub(crate) fn is_seen(&self) -> bool {
        self.state.seen.load(Ordering::Acquire)
    }

    /// Takes it away, lets `stop` stop the process, and gives it back.
    pub(crate) fn hidden_while(&self, stop: impl FnOnce()) {
        let number = self.claimed.get().copied().flatten().map(|(number, _)| number);
        number.inspect(|number| screen::hide(*number, true));
        stop();
        number.inspect(|number| screen::hide(*number, false));
    }

    /// Whether the terminal is this one's to draw on.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.get().is_some_and(Option::is_some)
    }

    /// Takes it away for good. Waits for a terminal that takes nothing, but not long.
    pub(crate) fn end(&self) {
        self.state.over.store(true, Ordering::Release);
        self.state.seen.store(false, Ordering::Release);
        if let Some((number, _)) = self.claimed.get().copied().flatten() {
            screen::take_away(number);
        }
    }
}

/// What standard error can do, if it is a terminal that can be drawn on and somebody looks at it.
pub(super) fn look() -> Option<Look> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    let in_ci = variable("CI").is_some_and(|ci| ci != "false");
    if cfg!(not(unix)) || dumb || in_ci || !stderr().is_terminal() {
        return None;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default().to_lowercase();
    Some(Look { colours: variable("NO_COLOR").is_none(), unicode: locale.contains("utf-8") || locale.contains("utf8") })
}
