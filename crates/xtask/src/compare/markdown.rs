//! `docs/comparison.md`.

use std::fmt::Write;

use glidepath_check::model::{Case, Level, Tally, Verdict};

use super::{GROUPS, Server, picture};

const HEAD: &str = "\
# How servers end, side by side

Each server answers the same paths, is started anew for each case, and is told to end in the middle of it. `glidepath-check` says
what became of its clients. [SPEC.md](../SPEC.md) has the sentence behind each case; `glidepath-check explain CASE` tells its source, and
why it matters.

```sh
cargo xtask peers      # install and build the servers, as far as they can be had on this machine
cargo xtask compare    # check them all, and write this file, its picture and target/compare/index.html
```

![Servers in rows, cases in columns](comparison.svg)

To be fair:
- Those who wrote the sentences wrote glidepath, too. Read the cases, not the scores. A case is a MUST where clients lose something
  or the end does not come, and a SHOULD where it is good manners.
- Each server stands here with the settings that its own documentation names for production and for an end
  ([peers](../peers/README.md) has them, with the words of the documentation). A second row has nothing set.
- A case whose control without the signal goes wrong is *invalid*, and one that needs what a server does not have is *skipped*. Neither
  counts against anyone. What a proxy's backend would have to do is no case for the proxy.
- Each failing verdict of a peer was confirmed once by hand: in its documentation, its source, a trace of its system calls or
  a packet capture. The notes are in `peers/*/verdicts.toml`, and below; a verdict that has none says so. If one is wrong, please say so.
- Each server is told its grace period by `GRACE`. One that has no limit and takes none does not end by it, and that counts: only
  SIGKILL would end it. Where a limit is fixed, its own counts.
- All on one machine, over loopback. Where timing decides, a case repeats and states its bound.
";

/// The whole file.
pub(super) fn write(servers: &[Server]) -> String {
    let mut text = HEAD.to_owned();
    for group in &GROUPS {
        let servers = group.of(servers);
        if !servers.is_empty() {
            let _infallible = write!(text, "\n## {}\n\n{}{}", group.title, group.words, scores(&servers));
        }
    }
    text += "\n## Failures by section\n\nMUST, and behind the plus SHOULD. A dash: nothing could be judged there.\n\n";
    text += &by_section(servers);
    text += "\n## What failed, and how it was confirmed\n";
    for server in servers {
        text += &what_failed(server);
    }
    text
}

fn scores(servers: &[&Server]) -> String {
    let mut text = "| server | ended by | MUST | SHOULD | invalid | skipped | MUST cases that fail |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for server in servers {
        let score = server.score();
        let of = |tally: Tally| format!("{} of {}", tally.pass, tally.judged());
        let failing = server.failing().filter(|case| case.level == Level::Must).map(|case| code(&case.id));
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            server.run.target.name,
            stop(server),
            of(score.must),
            of(score.should),
            score.all().invalid,
            score.all().skipped,
            some(failing.collect()),
        );
    }
    text
}

/// A stop command is a path on this machine: its name says enough.
fn stop(server: &Server) -> String {
    let stop = &server.run.target.stop;
    let last = stop.trim_matches('\'').rsplit('/').next().unwrap_or(stop);
    if stop.contains('/') { code(last) } else { stop.clone() }
}

fn some(ids: Vec<String>) -> String {
    match ids.len() {
        0 => "none".to_owned(),
        1..=12 => ids.join(", "),
        more => format!("{more}, see below"),
    }
}

fn by_section(servers: &[Server]) -> String {
    let sections = picture::sections(servers);
    let titles: Vec<_> = sections.iter().map(|(title, _)| *title).collect();
    let mut text = format!("| server | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for server in servers {
        let cells = titles.iter().map(|title| {
            let cases = server.run.cases.iter().filter(|case| case.section == **title);
            let score = glidepath_check::model::Score::of(cases);
            match (score.all().judged(), score.must.fail, score.should.fail) {
                (0, ..) => "–".to_owned(),
                (_, 0, 0) => "0".to_owned(),
                (_, must, 0) => must.to_string(),
                (_, must, should) => format!("{must} + {should}"),
            }
        });
        let _infallible = writeln!(text, "| {} | {} |", server.run.target.name, cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// How it was confirmed, and what was seen.
type Cause<'a> = (&'static str, &'a str);

fn what_failed(server: &Server) -> String {
    let mut text =
        format!("\n### {}\n\nSettings: {}. Checked {}.\n", server.run.target.name, server.why, server.run.started);
    let mut causes: Vec<(Option<Cause<'_>>, Vec<&Case>)> = Vec::new();
    for case in server.failing() {
        let cause = server.confirmed(case).map(|confirmed| (confirmed.by.word(), confirmed.note.trim()));
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, cases)) => cases.push(case),
            None => causes.push((cause, vec![case])),
        }
    }
    if causes.is_empty() {
        text += "\nNothing failed.\n";
    } else {
        text += "\n";
    }
    for (cause, cases) in causes {
        let cases: Vec<_> = cases.iter().map(|case| format!("{} {}", case.level, code(&case.id))).collect();
        let said = match cause {
            Some((by, note)) => format!("{} ({by})", note.split_whitespace().collect::<Vec<_>>().join(" ")),
            None => "**Not confirmed yet.**".to_owned(),
        };
        let _infallible = writeln!(text, "- {said}\n  {}", cases.join(", "));
    }
    let invalid: Vec<_> = server.run.cases.iter().filter(|case| case.verdict == Verdict::Invalid).collect();
    for case in invalid {
        let _infallible =
            writeln!(text, "- Invalid: {}. {}", code(&case.id), case.reason.as_deref().unwrap_or_default().trim());
    }
    text
}

fn code(id: &str) -> String {
    format!("`{id}`")
}
