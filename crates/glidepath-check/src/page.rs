//! A run as one page, and several runs as a matrix: HTML that needs nothing but itself.
//!
//! The pictures are made here and not in the browser, so that a page reads the same without scripts, printed, and in ten
//! years. What the script adds is comfort: tips, arrow keys, filters that are remembered. `picture.rs` works out what is
//! where; the templates write it down.

mod comparison;
mod picture;
mod scale;
mod words;

use askama::Template;

use self::picture::Picture;
use self::words::{plain, slug, span};
use crate::model::{Case, EventKind, Level, Run, Score, Tally, Timeline, Verdict};

pub use self::comparison::comparison;

/// One run as a page: the score, a table by section, and every case with its timelines.
pub fn page(run: &Run) -> askama::Result<String> {
    Page::of(run).render()
}

#[derive(Template)]
#[template(path = "page.html", whitespace = "minimize")]
struct Page<'a> {
    run: &'a Run,
    name: String,
    command: String,
    took: String,
    score: Score,
    sections: Vec<Section<'a>>,
    kinds: Vec<EventKind>,
}

struct Section<'a> {
    title: &'a str,
    anchor: String,
    tally: Tally,
    cases: Vec<Shown<'a>>,
}

struct Shown<'a> {
    case: &'a Case,
    picture: Option<Picture>,
    control: Option<Picture>,
}

impl<'a> Page<'a> {
    fn of(run: &'a Run) -> Self {
        let mut places = 0..;
        let mut shown = |case| Shown::of(places.next().unwrap_or_default(), case);
        Self {
            run,
            name: plain(&run.target.name).into_owned(),
            command: plain(&run.target.command.join(" ")).into_owned(),
            took: span(run.took_ms),
            // Counted again: a page whose figures are not those of its cases would be a lie.
            score: Score::of(&run.cases),
            sections: sections(run.cases.iter())
                .into_iter()
                .map(|(title, cases)| Section {
                    title,
                    anchor: format!("section-{}", slug(title)),
                    tally: Score::of(cases.iter().copied()).all(),
                    cases: cases.into_iter().map(&mut shown).collect(),
                })
                .collect(),
            kinds: EventKind::ALL.to_vec(),
        }
    }

    fn levels(&self) -> [(Level, Tally, &'static str); 2] {
        [
            (Level::Must, self.score.must, "without it clients lose something, or the end does not come"),
            (Level::Should, self.score.should, "good manners"),
        ]
    }

    fn cases_with(&self, verdict: &Verdict) -> Vec<&'a Case> {
        self.run.cases.iter().filter(|case| case.verdict == *verdict).collect()
    }

    fn verdicts(&self) -> Vec<(Verdict, u32)> {
        Verdict::ALL.into_iter().map(|verdict| (verdict, self.score.all().of(&verdict))).collect()
    }
}

/// The cases by section, in the order in which the sections first come.
fn sections<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<(&'a str, Vec<&'a Case>)> {
    let mut sections: Vec<(&str, Vec<&Case>)> = Vec::new();
    for case in cases {
        match sections.iter_mut().find(|(title, _)| *title == case.section) {
            Some((_, cases)) => cases.push(case),
            None => sections.push((&case.section, vec![case])),
        }
    }
    sections
}

impl<'a> Shown<'a> {
    fn of(nth: usize, case: &'a Case) -> Self {
        let own = |timeline: &Option<Timeline>| timeline.as_ref().map(picture::scale);
        let (with, without) = (own(&case.timeline), own(&case.control));
        let both = with.zip(without).and_then(|(with, without)| with.with(without));
        Self {
            case,
            picture: case
                .timeline
                .as_ref()
                .zip(both.or(with))
                .map(|(timeline, scale)| Picture::of(&case.id, nth, timeline, scale, false)),
            control: case
                .control
                .as_ref()
                .zip(both.or(without))
                .map(|(control, scale)| Picture::of(&case.id, nth, control, scale, true)),
        }
    }

    /// Those that its pictures show.
    fn kinds(&self) -> Vec<EventKind> {
        let shown = |kind: &EventKind| self.pictures().any(|picture| picture.kinds.contains(kind));
        EventKind::ALL.into_iter().filter(shown).collect()
    }

    fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.picture.iter().chain(&self.control)
    }

    /// Whether it asks to be read.
    fn is_open(&self) -> bool {
        matches!(self.case.verdict, Verdict::Fail)
    }

    fn outcomes(&self) -> String {
        let outcomes: Vec<_> =
            self.case.outcomes.iter().map(|(outcome, number)| format!("{number} {outcome}")).collect();
        outcomes.join(", ")
    }

    fn rate(&self) -> Option<String> {
        self.case.rate.map(|rate| {
            let bound = if rate.bound >= 1.0 {
                "all of them have to".to_owned()
            } else {
                format!("{:.0} % have to", rate.bound * 100.0)
            };
            format!("{} of {} saw what was expected; {bound}", rate.good, rate.of)
        })
    }

    fn took(&self) -> String {
        span(self.case.took_ms)
    }
}

impl Tally {
    fn of(self, verdict: &Verdict) -> u32 {
        match verdict {
            Verdict::Pass => self.pass,
            Verdict::Fail => self.fail,
            Verdict::Invalid => self.invalid,
            Verdict::Skipped => self.skipped,
        }
    }

    fn total(self) -> u32 {
        self.judged() + self.invalid + self.skipped
    }

    /// What is left to say of it after the first figure.
    fn rest(self) -> String {
        let said = [(self.fail, "fail"), (self.invalid, "invalid"), (self.skipped, "skipped")];
        let said: Vec<_> = said.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        if said.is_empty() { "nothing failed".to_owned() } else { said.join(", ") }
    }
}
