//! What a person reads at the end: what went wrong and why it matters, a table by section, one line of score.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::compare::{Change, Way};
use crate::model::{Case, EventKind, Run, Tally, Timeline, Verdict};

/// Wider lines are hard to read, also where there is room.
const WIDEST: usize = 100;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Fail => AnsiColor::Red,
        Verdict::Invalid => AnsiColor::Magenta,
        Verdict::Skipped => AnsiColor::Yellow,
    };
    Style::new().bold().fg_color(Some(colour.into()))
}

/// All that is said at the end of a run.
pub fn write(run: &Run, verbose: bool, width: usize, mut to: impl Write) -> io::Result<()> {
    let width = width.clamp(40, WIDEST);
    for case in run.cases.iter().filter(|case| matches!(case.verdict, Verdict::Fail | Verdict::Invalid)) {
        write_case(case, width, &mut to)?;
        if verbose {
            for (name, timeline) in [("with the signal", &case.timeline), ("without it", &case.control)] {
                if let Some(timeline) = timeline {
                    writeln!(to, "  {DIM}{name}{DIM:#}")?;
                    write_timeline(timeline, &mut to)?;
                }
            }
        }
        writeln!(to)?;
    }
    write_skipped(run, width, &mut to)?;
    writeln!(to, "{}", table(run))?;
    writeln!(to, "{}", score(run))
}

/// A verdict that explains: what was expected, what came and when, and why it matters.
fn write_case(case: &Case, width: usize, to: &mut impl Write) -> io::Result<()> {
    let style = style(case.verdict);
    writeln!(to, "{style}{}{style:#} {} {BOLD}{}{BOLD:#} ({})", case.verdict, case.level, case.id, case.promise)?;
    let got = match &case.reason {
        Some(reason) => reason.clone(),
        None => format!("{}. Why it matters: {}", case.got, case.why),
    };
    for (word, text) in [("expected", &case.expected), ("got     ", &got)] {
        for (number, line) in wrapped(text, width - 11).iter().enumerate() {
            let word = if number == 0 { word } else { "        " };
            writeln!(to, "  {DIM}{word}{DIM:#} {line}")?;
        }
    }
    Ok(())
}

/// Grouped by what they lack.
fn write_skipped(run: &Run, width: usize, to: &mut impl Write) -> io::Result<()> {
    let skipped = run.cases.iter().filter(|case| case.verdict == Verdict::Skipped);
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for case in skipped {
        let reason = case.reason.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, ids)) => ids.push(&case.id),
            None => reasons.push((reason, vec![&case.id])),
        }
    }
    let style = style(Verdict::Skipped);
    for (reason, ids) in &reasons {
        writeln!(to, "{style}skipped{style:#} {} cases: {}", ids.len(), wrapped(reason, width - 2).join("\n  "))?;
        for line in wrapped(&ids.join(" "), width - 2) {
            writeln!(to, "  {DIM}{line}{DIM:#}")?;
        }
    }
    if !reasons.is_empty() {
        writeln!(to)?;
    }
    Ok(())
}

/// Every event, by its time.
pub fn write_timeline(timeline: &Timeline, to: &mut impl Write) -> io::Result<()> {
    let mut lines: Vec<(f64, String)> = Vec::new();
    for lane in &timeline.lanes {
        for event in &lane.events {
            let text =
                if event.kind == EventKind::Sent { format!("> {}", event.text) } else { format!("< {}", event.text) };
            let bytes = event.bytes.as_ref().map(|bytes| format!("  {DIM}{bytes}{DIM:#}")).unwrap_or_default();
            lines.push((event.at, format!("{:9} {text}{bytes}", lane.name)));
        }
    }
    lines.extend(timeline.signals.iter().map(|signal| (signal.at, format!("{BOLD}{}{BOLD:#}", signal.text))));
    lines.extend(timeline.log.iter().map(|line| (line.at, format!("server    {DIM}{}{DIM:#}", line.text))));
    if let Some(exit) = &timeline.exit {
        let how = match (exit.code, exit.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        lines.push((exit.at, format!("{BOLD}{how}{BOLD:#}")));
    }
    lines.sort_by(|one, other| one.0.total_cmp(&other.0));
    for (at, line) in lines {
        writeln!(to, "  {at:>10.1} ms  {line}")?;
    }
    if timeline.lanes_left_out > 0 {
        writeln!(to, "  and {} more connections", timeline.lanes_left_out)?;
    }
    Ok(())
}

fn table(run: &Run) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["section", "pass", "FAIL", "invalid", "skipped", "MUST", "SHOULD"]);
    let mut sections: Vec<&str> = Vec::new();
    for case in &run.cases {
        if !sections.contains(&case.section.as_str()) {
            sections.push(&case.section);
        }
    }
    for section in sections {
        let cases = || run.cases.iter().filter(|case| case.section == section);
        table.add_row(row(section, crate::model::Score::of(cases())));
    }
    table.add_row(row("all", run.score));
    for column in 1..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(name: &str, score: crate::model::Score) -> Vec<Cell> {
    let all = score.all();
    let number = |number: u32| if number == 0 { "·".to_owned() } else { number.to_string() };
    let share =
        |tally: Tally| if tally.judged() == 0 { "·".to_owned() } else { format!("{}/{}", tally.pass, tally.judged()) };
    [name.to_owned(), number(all.pass), number(all.fail), number(all.invalid), number(all.skipped)]
        .into_iter()
        .chain([share(score.must), share(score.should)])
        .map(Cell::new)
        .collect()
}

/// One line.
pub fn score(run: &Run) -> String {
    let (must, should, all) = (run.score.must, run.score.should, run.score.all());
    let mut line = format!(
        "{BOLD}{}{BOLD:#}: {} of {} MUST, {} of {} SHOULD",
        run.target.name,
        must.pass,
        must.judged(),
        should.pass,
        should.judged()
    );
    for (count, word) in [(all.invalid, "invalid"), (all.skipped, "skipped")] {
        if count > 0 {
            let _strings_take_all = write!(line, ", {count} {word}");
        }
    }
    let _strings_take_all = write!(line, "; {:.0} s", run.took_ms / 1000.0);
    line
}

/// What differs between two runs.
pub fn write_changes(changes: &[Change<'_>], mut to: impl Write) -> io::Result<()> {
    let verdict = |case: Option<&Case>| case.map_or_else(|| "not there".to_owned(), |case| case.verdict.to_string());
    for change in changes {
        let Some(case) = change.after.or(change.before) else { continue };
        let (word, style) = match change.way {
            Way::Worse => ("worse", style(Verdict::Fail)),
            Way::Better => ("better", style(Verdict::Pass)),
            Way::Other | Way::New => ("differs", style(Verdict::Skipped)),
        };
        let (before, after) = (verdict(change.before), verdict(change.after));
        writeln!(to, "{style}{word:7}{style:#} {} {}: {before} -> {after}", case.level, case.id)?;
        if let (Way::Worse, Some(after)) = (change.way, change.after) {
            writeln!(to, "        {}", after.reason.as_deref().unwrap_or(&after.got))?;
        }
    }
    Ok(())
}

/// Broken between words, so that no line is wider than this where a word allows it.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::tests::run_of;

    #[test]
    fn all_fits_into_80_columns_and_ends_with_the_score() {
        let run = run_of(&[
            ("idle/a-case-with-a-rather-long-name", Verdict::Fail),
            ("idle/b", Verdict::Pass),
            ("idle/c", Verdict::Skipped),
        ]);
        let mut text = Vec::new();
        write(&run, false, 80, &mut text).expect("vectors take all");
        let text = anstream::adapter::strip_str(&String::from_utf8(text).expect("text")).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(text.trim_end().ends_with("server: 1 of 2 MUST, 0 of 0 SHOULD, 1 skipped; 1 s"), "{text}");
        assert!(text.contains("expected it ends with FIN"), "{text}");
        assert!(text.contains("Why it matters: a pool"), "{text}");
    }

    #[test]
    fn words_are_wrapped_and_never_lost() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinary", 5), ["extraordinary"]);
    }
}
