//! The picture of a terminal in the README: what a real one shows of a real end, as SVG.

use std::fmt::Write as _;

use avt::{Cell, Color, Line, Pen};

/// A cell's width and height, and the margin around all.
const CELL: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 14.0;

const STYLE: &str = "\
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#24292f;white-space:pre}\
.b{font-weight:700}.f{fill:#6e7781}.c{fill:#0e7c86}.a{fill:#9a6700}.r{fill:#d8dee4}rect.bg{fill:#f6f8fa;stroke:#d0d7de}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#8b949e}.c{fill:#39c5cf}.a{fill:#d29922}.r{fill:#30363d}\
rect.bg{fill:#0d1117;stroke:#30363d}}";

/// These lines of a terminal. Who can't see it is told `title` and the text.
pub(super) fn draw(lines: &[Line], title: &str) -> String {
    let columns = lines.first().map_or(0, Line::len);
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * CELL.1 + 2.0 * MARGIN;
    let text: Vec<_> = lines.iter().map(|line| escaped(line.text().trim_end())).collect();
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="t d">
<title id="t">{}</title>
<desc id="d">{}</desc>
<style>{STYLE}</style>
<rect class="bg" x="0.5" y="0.5" width="{}" height="{}" rx="6"/>
"#,
        escaped(title),
        text.join("\n"),
        width - 1.0,
        height - 1.0,
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + row as f64 * CELL.1;
        let mut column = 0;
        for run in line.chunks(|a, b| a.pen() != b.pen() || bar(a) != bar(b)) {
            let x = MARGIN + column as f64 * CELL.0;
            column += run.len();
            svg += &piece(&run, x, y);
        }
    }
    svg + "</svg>\n"
}

/// Cells that look alike.
fn piece(run: &[Cell], x: f64, y: f64) -> String {
    let text: String = run.iter().map(Cell::char).collect();
    let [first, ..] = run else { return String::new() };
    let mut out = String::new();
    if let Some(class) = bar(first) {
        let width = run.len() as f64 * CELL.0;
        let _infallible =
            writeln!(out, r#"<rect class="{class}" x="{x:.1}" y="{:.1}" width="{width:.1}" height="12"/>"#, y + 3.0);
    } else if !text.trim().is_empty() {
        let (kept, indent) = (text.trim_end(), text.len() - text.trim_start().len());
        let class = class(first.pen()).map(|class| format!(r#" class="{class}""#)).unwrap_or_default();
        let length = (kept.chars().count() - indent) as f64 * CELL.0;
        let x = x + indent as f64 * CELL.0;
        let _infallible = writeln!(
            out,
            r#"<text{class} x="{x:.1}" y="{:.1}" textLength="{length:.1}" lengthAdjust="spacingAndGlyphs">{}</text>"#,
            y + 13.5,
            escaped(kept.trim_start()),
        );
    }
    out
}

/// The bar is drawn, so that no font leaves gaps in it.
fn bar(cell: &Cell) -> Option<&'static str> {
    match cell.char() {
        '█' => Some("c"),
        '░' => Some("r"),
        _ => None,
    }
}

fn class(pen: &Pen) -> Option<&'static str> {
    match pen.foreground() {
        Some(Color::Indexed(3)) => Some("a b"),
        Some(Color::Indexed(6)) => Some("c"),
        _ if pen.is_bold() => Some("b"),
        _ if pen.is_faint() => Some("f"),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
