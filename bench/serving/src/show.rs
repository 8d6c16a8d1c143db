//! What was measured, as a table for the terminal and as Markdown.

use std::fmt::Write;

use crate::question::{Group, Question, Row, figure};
use crate::spread::Ratio;

/// A line of either table: who, the median, the spread, the ratio, and what is said of the bound.
fn cells(group: &Group, row: &Row) -> [String; 5] {
    if let Some(why) = &row.failed {
        return [row.name.clone(), "failed".to_owned(), String::new(), why.replace(['\n', '|'], " "), String::new()];
    }
    let Some(spread) = row.spread() else {
        return [row.name.clone(), "not measured".to_owned(), String::new(), String::new(), String::new()];
    };
    let between = format!("{} .. {}", figure(spread.lower), figure(spread.upper));
    let judged = group.judgement(row).zip(group.bound());
    let judged = judged.map(|(judgement, bound)| format!("{}: {bound}", judgement.words())).unwrap_or_default();
    [row.name.clone(), figure(spread.median), between, ratio(group, row), judged]
}

/// In words where there is none.
pub(crate) fn ratio(group: &Group, row: &Row) -> String {
    match group.ratio(row) {
        Some(Ratio::Seen(ratio)) if ratio.median >= 100.0 => figure(ratio.median),
        Some(Ratio::Seen(ratio)) => format!("{:.3}", ratio.median),
        Some(Ratio::NoDifference) => "no difference seen".to_owned(),
        Some(Ratio::TooFewRounds) => "too few rounds".to_owned(),
        None if group.baseline.as_ref() == Some(&row.name) => "baseline".to_owned(),
        None => String::new(),
    }
}

fn head(group: &Group) -> [String; 5] {
    let unit = if group.unit.is_empty() { String::new() } else { format!(", {}", group.unit) };
    let against = group.baseline.as_ref().map_or(String::new(), |baseline| format!("against {baseline}"));
    let rounds = group.rows.iter().map(|row| row.samples.len()).max().unwrap_or_default();
    let spread = if rounds < 5 { "least .. greatest" } else { "quartiles" };
    [format!("{}{unit}", group.title), "median".to_owned(), spread.to_owned(), against, "wanted".to_owned()]
}

pub(crate) fn table(question: &Question) -> String {
    let mut text = format!("{}: {}\n", question.part, question.title);
    for group in &question.groups {
        let lines: Vec<_> = [head(group)].into_iter().chain(group.rows.iter().map(|row| cells(group, row))).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        text.push('\n');
        for line in &lines {
            let [name, median, spread, ratio, wanted] = line;
            let written = format!(
                "  {name:0$}  {median:>1$}  {spread:>2$}  {ratio:3$}  {wanted}",
                width(0),
                width(1),
                width(2),
                width(3)
            );
            let _infallible = writeln!(text, "{}", written.trim_end());
        }
    }
    text
}

/// With a picture of that address, where there is one.
pub(crate) fn markdown(question: &Question, picture: Option<&str>) -> String {
    let mut text = format!("{}\n\n```sh\n{}\n```\n\n{}.\n", question.how, question.command, question.of);
    if let Some(picture) = picture {
        let _infallible = write!(text, "\n![{}]({picture})\n", question.title);
    }
    for group in &question.groups {
        let lines = [head(group)].into_iter().chain(group.rows.iter().map(|row| {
            let mut cells = cells(group, row);
            if row.ours {
                cells[0] = format!("**{}**", cells[0]);
            }
            cells
        }));
        let mut lines = lines.map(|cells| format!("| {} |\n", cells.join(" | ")));
        text.push('\n');
        text += &lines.next().unwrap_or_default();
        text += "|---|---:|---:|---|---|\n";
        text.extend(lines);
    }
    text
}

#[cfg(test)]
pub(crate) use tests::question as example;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question;

    pub(crate) fn question() -> Question {
        let text = |text: &str| text.to_owned();
        Question {
            part: text("http1"),
            title: text("CPU time of a request"),
            how: text("By wrk."),
            command: text("cargo xtask bench http1"),
            of: text("Commit abc"),
            groups: vec![question::example()],
        }
    }

    #[test]
    fn a_table_names_medians_spreads_and_ratios_and_refuses_those_that_are_chance() {
        let lines: Vec<_> = table(&question()).lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "http1: CPU time of a request");
        assert_eq!(lines[2], "  GET /, us   median     quartiles  against bare hyper  wanted");
        assert_eq!(lines[3], "  bare hyper    5.00  5.00 .. 5.00  baseline");
        assert_eq!(lines[4], "  glidepath     5.00  5.00 .. 5.10  no difference seen  kept: at most 1.05 x bare hyper");
        assert_eq!(lines[5], "  other         7.50  7.50 .. 7.50  1.500");
    }

    #[test]
    fn a_server_that_failed_says_why_and_bends_no_table() {
        let mut question = question();
        question.groups[0].rows[2].failed = Some("it ended | at once\nwith 1".to_owned());
        assert!(
            table(&question).ends_with("failed                it ended   at once with 1\n"),
            "{}",
            table(&question)
        );
        let markdown = markdown(&question, None);
        assert!(markdown.ends_with("| other | failed |  | it ended   at once with 1 |  |\n"), "{markdown}");
    }

    #[test]
    fn markdown_says_how_it_was_made() {
        let text = markdown(&question(), Some("http1.svg"));
        assert!(text.starts_with("By wrk.\n\n```sh\ncargo xtask bench http1\n```\n\nCommit abc.\n"), "{text}");
        assert!(text.contains("\n![CPU time of a request](http1.svg)\n"), "{text}");
        let ours = "| **glidepath** | 5.00 | 5.00 .. 5.10 | no difference seen | kept: at most 1.05 x bare hyper |\n";
        assert!(text.contains(ours), "{text}");
    }
}
