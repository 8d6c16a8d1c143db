//! The two answers as pictures.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::Turned;
use crate::roll::Roll;

const SIZE: (u32, u32) = (860, 380);
/// Told apart without colours as well, by their order in the key.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(120, 94, 160)];
/// So much of a roll shows how its waves come.
const SHOWN: usize = 1200;

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Refused connections by lame duck.
pub(crate) fn turned(path: &Path, turned: &[Turned]) -> anyhow::Result<()> {
    let lines = turned.iter().map(|turned| Line {
        name: turned.name.clone(),
        points: turned.by_lame_duck.iter().map(|one| (one.lame_duck, one.refused)).collect(),
    });
    draw(
        path,
        "Connections refused by an instance that ends",
        "lame duck, seconds",
        "refused, in the mean",
        &lines.collect::<Vec<_>>(),
    )
}

/// Reconnects in the first minutes.
pub(crate) fn rolls(path: &Path, rolls: &[Roll]) -> anyhow::Result<()> {
    let lines = rolls.iter().map(|roll| Line {
        name: format!("spread over {} s", roll.plan.spread),
        // Seconds, not tenths: a line for each would be a comb.
        points: roll.tenths[..roll.tenths.len().min(SHOWN)]
            .chunks(10)
            .enumerate()
            .map(|(second, tenths)| (second as f64, tenths.iter().map(|count| f64::from(*count)).sum()))
            .collect(),
    });
    draw(
        path,
        "Connections made anew, in the first two minutes of a roll",
        "seconds",
        "a second, whole fleet",
        &lines.collect::<Vec<_>>(),
    )
}

fn draw(path: &Path, title: &str, x: &str, y: &str, lines: &[Line]) -> anyhow::Result<()> {
    let most =
        |of: fn(&(f64, f64)) -> f64| lines.iter().flat_map(|line| line.points.iter().map(of)).fold(1.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let wrong = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    root.fill(&WHITE).map_err(|error| wrong(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1) * 1.35)
        .map_err(|error| wrong(&error))?;
    let whole = |number: &f64| format!("{number:.0}");
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(|error| wrong(&error))?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))
            .map_err(|error| wrong(&error))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| wrong(&error))?;
    root.present().map_err(|error| wrong(&error))
}
