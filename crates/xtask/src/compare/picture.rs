//! All verdicts in one picture: servers in rows, cases in columns.

use std::fmt::Write;

use glidepath_check::model::{Level, Verdict};

use super::{GROUPS, Server};

const CELL: usize = 7;
const ROW: usize = 18;
const GAP: usize = 8;
const NAMES: usize = 290;
const HEAD: usize = 150;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#222}.h{font-weight:600}\
.p{fill:#8fc9a5}.m{fill:#c3273b}.s{fill:#e8a33d}.i{fill:#8a8a8a}.n{fill:#e4e4e4}rect.bg{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.p{fill:#2f7d50}.m{fill:#ff5a6e}.s{fill:#d99a33}.i{fill:#777}.n{fill:#333}\
rect.bg{fill:#111}}";

/// What a cell looks like, in the order of the key.
const KINDS: [(&str, &str); 5] = [
    ("p", "passed"),
    ("m", "failed a MUST"),
    ("s", "failed a SHOULD"),
    ("i", "invalid: the control went wrong"),
    ("n", "skipped: not offered"),
];

/// The cases by section, in the order in which they first come.
pub(super) fn sections(servers: &[Server]) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for case in servers.iter().flat_map(|server| &server.run.cases) {
        let place = match sections.iter().position(|(title, _)| *title == case.section) {
            Some(place) => place,
            None => {
                sections.push((&case.section, Vec::new()));
                sections.len() - 1
            }
        };
        let cases = &mut sections[place].1;
        if !cases.contains(&case.id.as_str()) {
            cases.push(&case.id);
        }
    }
    sections
}

/// The picture, as SVG.
pub(super) fn draw(servers: &[Server]) -> String {
    let sections = sections(servers);
    let cases: usize = sections.iter().map(|(_, cases)| cases.len()).sum();
    let width = NAMES + cases * CELL + sections.len() * GAP + 60;
    let mut body = String::new();
    let mut y = HEAD;
    let mut x = NAMES;
    for (title, cases) in &sections {
        let middle = x + cases.len() * CELL / 2;
        let _infallible = write!(
            body,
            r#"<text transform="translate({middle} {}) rotate(-45)">{}</text>"#,
            HEAD - 10,
            escaped(title)
        );
        x += cases.len() * CELL + GAP;
    }
    for group in &GROUPS {
        let servers = group.of(servers);
        if servers.is_empty() {
            continue;
        }
        let _infallible = write!(body, r#"<text class="h" x="8" y="{}">{}</text>"#, y + 12, group.title);
        y += ROW;
        for server in servers {
            body += &row(server, &sections, y);
            y += ROW;
        }
        y += ROW / 2;
    }
    let mut x = 8;
    for (class, words) in KINDS {
        let _infallible = write!(
            body,
            r#"<path class="{class}" d="M{x} {y}h12v12h-12z"/><text x="{}" y="{}">{words}</text>"#,
            x + 18,
            y + 11
        );
        x += 30 + words.len() * 7;
    }
    let height = y + 24;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="t d"><title id="t">How servers end</title><desc id="d">{}</desc><style>{STYLE}</style><rect class="bg" width="{width}" height="{height}"/>{body}</svg>
"#,
        escaped(&in_words(servers))
    )
}

fn row(server: &Server, sections: &[(&str, Vec<&str>)], y: usize) -> String {
    let mut text = format!(r#"<text x="8" y="{}">{}</text>"#, y + 12, escaped(&server.run.target.name));
    for (class, _) in KINDS {
        let mut path = String::new();
        let mut x = NAMES;
        for (_, cases) in sections {
            for id in cases {
                let case = server.run.cases.iter().find(|case| case.id == *id);
                let is = match case.map(|case| (case.verdict, case.level)) {
                    Some((Verdict::Pass, _)) => "p",
                    Some((Verdict::Fail, Level::Must)) => "m",
                    Some((Verdict::Fail, Level::Should)) => "s",
                    Some((Verdict::Invalid, _)) => "i",
                    Some((Verdict::Skipped, _)) | None => "n",
                };
                if is == class {
                    let _infallible = write!(path, "M{x} {y}h{}v{}h-{0}z", CELL - 1, ROW - 4);
                }
                x += CELL;
            }
            x += GAP;
        }
        if !path.is_empty() {
            let _infallible = write!(text, r#"<path class="{class}" d="{path}"/>"#);
        }
    }
    text
}

/// For those who don't see it.
fn in_words(servers: &[Server]) -> String {
    let rows: Vec<_> = servers
        .iter()
        .map(|server| {
            let score = server.score();
            let (must, should) = (score.must, score.should);
            format!(
                "{}: {} of {} MUST, {} of {} SHOULD",
                server.run.target.name,
                must.pass,
                must.judged(),
                should.pass,
                should.judged()
            )
        })
        .collect();
    rows.join("; ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
