//! Time to place. Most is decided in the first moments after the signal, and an end may come half a minute later: so the
//! axis is even within [`EVEN`] of the signal and logarithmic beyond, and says so.

use std::fmt;

/// Within so many milliseconds of the signal the axis is (nearly) even.
pub(super) const EVEN: f64 = 100.0;

/// So much is shown on both sides of the signal, however little happened.
const LEAST: f64 = 2.0;

/// The width that marks are kept apart for, in pixels: a phone's. Where there is more, they only get further apart.
pub(super) const NARROW: f64 = 340.0;
/// The width at which there is room for more ticks.
const WIDE: f64 = 900.0;
/// The room that a tick's label takes.
const LABEL: f64 = 46.0;

/// The plot's edges, in percent of the picture: marks are as wide as they are at both ends.
const LEFT: f64 = 3.5;
const RIGHT: f64 = 96.5;

/// Where ticks may be, on both sides of the signal; the first ones are taken first.
const TICKS: [f64; 20] = [
    1_000.0, 100.0, 10_000.0, 30_000.0, 10.0, 500.0, 5_000.0, 60_000.0, 200.0, 2_000.0, 50.0, 20.0, 5.0, 20_000.0,
    300_000.0, 120_000.0, 3_000.0, 2.0, 1.0, 600_000.0,
];

/// A place across, in percent of the picture's width.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Across(pub(super) f64);

impl fmt::Display for Across {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0)
    }
}

impl Across {
    /// In pixels, where the picture is at its narrowest.
    pub(super) fn narrow(self) -> f64 {
        self.0 * NARROW / 100.0
    }
}

/// From times to places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
}

/// A labelled line.
#[derive(Debug)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) x: Across,
    /// There is room for it only where the picture is wide.
    pub(super) only_wide: bool,
}

impl Tick {
    /// No more than there is room for.
    pub(super) fn label(&self) -> String {
        let sign = if self.at < 0.0 { "−" } else { "" };
        match self.at.abs() {
            0.0 => "0".to_owned(),
            ms if ms < 1_000.0 => format!("{sign}{ms} ms"),
            ms if ms < 60_000.0 => format!("{sign}{} s", ms / 1_000.0),
            ms => format!("{sign}{} min", ms / 60_000.0),
        }
    }
}

impl Scale {
    /// One that shows all of these times, and the signal.
    pub(super) fn over(times: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (-LEAST, LEAST);
        for time in times.into_iter().filter(|time| time.is_finite()) {
            low = low.min(time);
            high = high.max(time);
        }
        Self { low: stretched(low), high: stretched(high) }
    }

    /// The one for both of two scripts, so that they can be laid beside each other. None where that would leave this
    /// one less than half of its width.
    pub(super) fn with(self, other: Self) -> Option<Self> {
        let both = Self { low: self.low.min(other.low), high: self.high.max(other.high) };
        (2.0 * (self.high - self.low) >= both.high - both.low).then_some(both)
    }

    /// Where a time is.
    pub(super) fn x(&self, at: f64) -> Across {
        let at = if at.is_finite() { stretched(at).clamp(self.low, self.high) } else { self.low };
        Across(LEFT + (RIGHT - LEFT) * (at - self.low) / (self.high - self.low))
    }

    /// The signal's, and as many others as there is room for.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let mut ticks = vec![Tick { at: 0.0, x: self.x(0.0), only_wide: false }];
        for (width, only_wide) in [(NARROW, false), (WIDE, true)] {
            for at in TICKS.iter().flat_map(|&at| [at, -at]) {
                let x = self.x(at);
                let inside = (self.low..=self.high).contains(&stretched(at));
                let apart = |tick: &Tick| (tick.x.0 - x.0).abs() * width / 100.0 >= LABEL;
                if inside && ticks.iter().all(apart) {
                    ticks.push(Tick { at, x, only_wide });
                }
            }
        }
        ticks.sort_by(|a, b| a.at.total_cmp(&b.at));
        ticks
    }
}

fn stretched(at: f64) -> f64 {
    (at / EVEN).asinh()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_is_further_right_and_all_of_it_is_in_the_picture() {
        let scale = Scale::over([-2_000.0, 30_000.0]);
        let times = [-2_000.0, -100.0, -1.0, 0.0, 1.0, 100.0, 1_000.0, 30_000.0];
        let places: Vec<_> = times.iter().map(|&at| scale.x(at)).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        assert!(places.iter().all(|x| (LEFT..=RIGHT).contains(&x.0)), "{places:?}");
    }

    #[test]
    fn the_first_second_has_room_beside_half_a_minute() {
        let scale = Scale::over([0.0, 30_000.0]);
        let share = (scale.x(1_000.0).0 - scale.x(0.0).0) / (scale.x(30_000.0).0 - scale.x(0.0).0);
        assert!((0.3..0.7).contains(&share), "the first of 30 s takes {share} of the room");
    }

    #[test]
    fn ticks_do_not_touch_on_a_phone() {
        for high in [1.0, 80.0, 900.0, 5_000.0, 31_000.0, 700_000.0] {
            let ticks = Scale::over([-700.0, high]).ticks();
            let narrow: Vec<_> = ticks.iter().filter(|tick| !tick.only_wide).map(|tick| tick.x.narrow()).collect();
            assert!(narrow.len() > 1, "to {high} ms there is only the signal's");
            assert!(narrow.is_sorted_by(|a, b| b - a >= LABEL - 0.001), "to {high} ms: {narrow:?}");
        }
    }

    #[test]
    fn a_time_that_is_none_has_a_place_too() {
        let scale = Scale::over([f64::NAN, f64::INFINITY]);
        assert!(scale.x(f64::NAN).0.is_finite() && scale.x(f64::INFINITY).0.is_finite());
        assert!(scale.x(0.0).0.is_finite());
    }
}
