//! A question as a picture: a bar for each median, with how far the rounds lie apart.

use std::fmt::Write;

use crate::question::{Group, Question, Row, Wanted, figure};
use crate::show;
use crate::spread::Spread;

const ROW: usize = 22;
const BAR: usize = 12;
const NAMES: usize = 235;
const LENGTH: f64 = 300.0;
const WIDTH: usize = 820;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#222}.h{font-weight:600}.t{font-size:15px}.q{fill:#5a5a5a}\
.o{fill:#2b6cb0}.b{fill:#b9c0c8}.r{stroke:#222;fill:none}.w{stroke:#c3273b;stroke-width:2;stroke-dasharray:3 2}rect.bg{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.q{fill:#a0a0a0}.o{fill:#63a4e8}.b{fill:#4a525b}.r{stroke:#eee}.w{stroke:#ff7a8a}\
rect.bg{fill:#111}}";

/// The picture, as SVG.
pub(crate) fn draw(question: &Question) -> String {
    let mut body = format!(r#"<text class="h t" x="8" y="22">{}</text>"#, escaped(&question.title));
    let mut y = 34;
    let mut bounds = false;
    for group in &question.groups {
        let unit = if group.unit.is_empty() { String::new() } else { format!(", {}", group.unit) };
        let title = escaped(&(group.title.clone() + &unit));
        y += ROW;
        let _infallible = write!(body, r#"<text class="h" x="8" y="{}">{title}</text>"#, y - 7);
        let pixels = LENGTH / longest(question, group);
        for row in &group.rows {
            body += &bar(group, row, y, pixels);
            bounds |= row.ours && group.wanted.is_some();
            y += ROW;
        }
    }
    let mut key = "Bar: the median. Line: the quartiles, below five rounds the least and the greatest.".to_owned();
    if bounds {
        key += " Dashed: wanted of glidepath.";
    }
    let height = y + 28;
    let _infallible = write!(body, r#"<text class="q" x="8" y="{}">{key}</text>"#, y + 16);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="{part}-t {part}-d"><title id="{part}-t">{}</title><desc id="{part}-d">{}</desc><style>{STYLE}</style><rect class="bg" width="{WIDTH}" height="{height}"/>{body}</svg>
"#,
        escaped(&question.title),
        escaped(&in_words(question)),
        part = question.part,
    )
}

/// Of all groups of the same unit: their bars may be compared.
fn longest(question: &Question, group: &Group) -> f64 {
    let alike = question.groups.iter().filter(|other| other.unit == group.unit);
    let bars = alike.clone().flat_map(|group| &group.rows).filter_map(Row::spread).map(|spread| spread.upper);
    let bounds = alike.filter_map(bound);
    bars.chain(bounds).fold(f64::MIN_POSITIVE, f64::max)
}

/// Where our row is to end.
fn bound(group: &Group) -> Option<f64> {
    let median = |name: &String| group.rows.iter().find(|row| row.name == *name)?.spread().map(|spread| spread.median);
    match group.wanted.as_ref()? {
        Wanted::AtMost(bound) => Some(*bound),
        Wanted::Times(times, of) => Some(times * median(of)?),
        Wanted::Above(more, of) => Some(more + median(of)?),
    }
}

fn bar(group: &Group, row: &Row, y: usize, pixels: f64) -> String {
    let class = if row.ours { "o" } else { "b" };
    let name = if row.ours { " class=\"h\"" } else { "" };
    let mut text = format!(r#"<text{name} x="8" y="{}">{}</text>"#, y + 11, escaped(&row.name));
    let x = |figure: f64| NAMES as f64 + figure * pixels;
    let Some(Spread { lower, median, upper, .. }) = row.spread().filter(|_| row.failed.is_none()) else {
        let _infallible = write!(text, r#"<text class="q" x="{NAMES}" y="{}">not measured</text>"#, y + 11);
        return text;
    };
    let (top, middle, bottom) = (y + 3, y + BAR / 2, y + BAR - 3);
    let _infallible = write!(
        text,
        r#"<rect class="{class}" x="{NAMES}" y="{y}" width="{:.1}" height="{BAR}"/><path class="r" d="M{:.1} {middle}H{:.1}M{1:.1} {top}V{bottom}M{2:.1} {top}V{bottom}"/>"#,
        median * pixels,
        x(lower),
        x(upper),
    );
    let mut end = upper;
    if let Some(bound) = bound(group).filter(|_| row.ours) {
        let at = x(bound);
        let _infallible = write!(text, r#"<path class="w" d="M{at:.1} {}V{}"/>"#, y - 3, y + BAR + 3);
        end = end.max(bound);
    }
    let ratio = show::ratio(group, row);
    let ratio = if ratio.starts_with(|c: char| c.is_ascii_digit()) { format!("x {ratio}") } else { ratio };
    let _infallible = write!(
        text,
        r#"<text x="{:.1}" y="{}">{} <tspan class="q">{}</tspan></text>"#,
        x(end) + 8.0,
        y + 11,
        figure(median),
        escaped(&ratio)
    );
    text
}

/// For those who don't see it.
fn in_words(question: &Question) -> String {
    let mut words = Vec::new();
    for group in &question.groups {
        for row in &group.rows {
            let Some(spread) = row.spread() else { continue };
            let ratio = show::ratio(group, row);
            let ratio = if ratio.is_empty() { ratio } else { format!(" ({ratio})") };
            let figure = format!("{} {}", figure(spread.median), group.unit);
            words.push(format!("{}, {}: {}{ratio}", group.title, row.name, figure.trim_end()));
        }
    }
    words.join("; ")
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_says_in_words_what_it_shows() {
        let picture = draw(&show::example());
        assert!(picture.contains("<title id=\"http1-t\">CPU time of a request</title>"), "{picture}");
        let words = "GET /, bare hyper: 5.00 us (baseline); GET /, glidepath: 5.00 us (no difference seen); \
                     GET /, other: 7.50 us (1.500)";
        assert!(picture.contains(&format!("<desc id=\"http1-d\">{words}</desc>")), "{picture}");
    }

    #[test]
    fn the_longest_bar_fills_its_room_and_the_others_are_in_proportion() {
        let question = show::example();
        let pixels = LENGTH / longest(&question, &question.groups[0]);
        assert!((pixels - 40.0).abs() < 1e-9, "the upper quartile of 7.5 is the longest: {pixels}");
        let picture = draw(&question);
        for width in ["width=\"200.0\"", "width=\"300.0\""] {
            assert!(picture.contains(width), "{width}: {picture}");
        }
        // 1.05 times bare hyper.
        let bound = NAMES + 5 * 42;
        assert!(picture.contains(&format!("<path class=\"w\" d=\"M{bound}.0 ")), "{picture}");
        assert_eq!(picture.matches("class=\"w\"").count(), 1);
    }

    #[test]
    fn names_are_no_markup() {
        let mut question = show::example();
        question.groups[0].rows[2].name = "<a&b>".to_owned();
        let picture = draw(&question);
        assert!(picture.contains("&lt;a&amp;b&gt;") && !picture.contains("<a&b>"), "{picture}");
    }

    #[test]
    fn a_server_that_was_not_measured_has_no_bar() {
        let mut question = show::example();
        question.groups[0].rows[2].samples.clear();
        let picture = draw(&question);
        assert!(picture.contains("not measured"), "{picture}");
        assert_eq!(picture.matches("class=\"b\"").count(), 1, "{picture}");
    }
}
