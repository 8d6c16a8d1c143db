//! A run as a table row, and as a picture: how long answers took, and when couriers were being replaced.

use std::fmt::Write;
use std::time::Duration;

use super::fleet::Way;
use super::{Outcome, load::Sample};

/// The value below which so much of `sorted` is, in milliseconds.
fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
}

fn sorted<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<Duration> {
    let mut took: Vec<_> = samples.map(|sample| sample.took).collect();
    took.sort_unstable();
    took
}

/// Answers of requests that began while a courier was being replaced in this way; `None`: while none was.
fn during(outcome: &Outcome, way: Option<Way>) -> Vec<Duration> {
    let is_during = |sample: &&Sample| {
        let mut now = outcome.replaced.iter().filter(|(_, from, to)| (*from..*to).contains(&sample.at));
        now.next().map(|(way, ..)| *way) == way
    };
    sorted(outcome.samples.iter().filter(is_during))
}

pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| balancer | rounds | couriers replaced | requests | failed | accepted | delivered | twice | streams ended well \
         | p50 / p99 at rest | during stop and start | during restart in place |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let Outcome { kind, rounds, counts, replaced, delivered, twice, .. } = outcome;
        let [rest, stop, place] = [None, Some(Way::StopStart), Some(Way::InPlace)].map(|way| {
            let took = during(outcome, way);
            format!("{:.1} / {:.1} ms of {}", quantile(&took, 0.5), quantile(&took, 0.99), took.len())
        });
        let _ = writeln!(
            text,
            "| {kind} | {rounds} | {} | {} | {} | {} | {delivered} | {twice} | {} | {rest} | {stop} | {place} |",
            replaced.len(),
            counts.requests,
            counts.failed,
            counts.accepted,
            counts.goodbyes,
        );
    }
    text
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;

/// p50 and p99 over time, with the replacements marked.
pub fn draw(outcome: &Outcome) -> String {
    let end = outcome.samples.iter().map(|sample| sample.at).max().unwrap_or_default().as_secs_f64().max(1.0);
    // As many columns as can be told apart.
    let column = (end / 250.0).max(0.25);
    let mut columns: Vec<Vec<Duration>> = vec![Vec::new(); (end / column) as usize + 1];
    for sample in &outcome.samples {
        columns[(sample.at.as_secs_f64() / column) as usize].push(sample.took);
    }
    columns.iter_mut().for_each(|column| column.sort_unstable());
    let slowest = columns.iter().map(|column| quantile(column, 0.99)).filter(|ms| ms.is_finite()).fold(1.0, f64::max);
    // Logarithmic: 1 ms at the bottom.
    let top = 10_f64.powf(slowest.log10().ceil()).max(10.0);
    let x = |seconds: f64| LEFT + seconds / end * WIDTH;
    let y = |ms: f64| TOP + HEIGHT - (ms.max(1.0).log10() / top.log10()) * HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Three couriers behind {}: {} replaced, {} requests, {} failed</text>\n",
        LEFT + WIDTH + 20.0,
        TOP + HEIGHT + 60.0,
        outcome.kind,
        outcome.replaced.len(),
        outcome.counts.requests,
        outcome.counts.failed,
    );
    for (way, from, to) in &outcome.replaced {
        let colour = if *way == Way::InPlace { "#cfe8cf" } else { "#f3dcc0" };
        let (from, to) = (x(from.as_secs_f64()), x(to.as_secs_f64()));
        let width = (to - from).max(1.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{colour}\"/>"
        );
    }
    let mut line = 1.0;
    while line <= top {
        let at = y(line);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#bbb\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{line} ms</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            at + 4.0
        );
        line *= 10.0;
    }
    for (part, colour) in [(0.5, "#1f5fa8"), (0.99, "#b03030")] {
        let points = columns.iter().enumerate().filter(|(_, took)| !took.is_empty());
        let points: Vec<_> = points
            .map(|(i, took)| {
                format!("{:.1},{:.1}", x((i as f64 + 0.5) * column).min(LEFT + WIDTH), y(quantile(took, part)))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
    }
    let below = TOP + HEIGHT + 20.0;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{below}\">0 s</text><text x=\"{}\" y=\"{below}\" text-anchor=\"end\">{end:.0} s</text>",
        LEFT + WIDTH
    );
    let below = below + 24.0;
    for (i, (colour, words)) in [
        ("#1f5fa8", "p50 of a POST"),
        ("#b03030", "p99 of a POST"),
        ("#f3dcc0", "a courier is stopped and started"),
        ("#cfe8cf", "a courier is restarted in place"),
    ]
    .into_iter()
    .enumerate()
    {
        let at = LEFT + i as f64 * 240.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"{}\" width=\"14\" height=\"14\" fill=\"{colour}\"/><text x=\"{}\" y=\"{below}\">{words}</text>",
            below - 12.0,
            at + 20.0
        );
    }
    svg + "</svg>\n"
}
