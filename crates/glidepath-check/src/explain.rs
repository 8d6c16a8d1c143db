//! `list` and `explain`: what is checked, and what to make of it.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;

use crate::case::Case;
use crate::cases::SECTIONS;
use crate::promises::{PROMISES, Promise};
use crate::show::terminal::wrapped;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// Every case by section.
pub fn list(width: usize, mut to: impl Write) -> io::Result<()> {
    let width = width.clamp(40, 100);
    for section in SECTIONS {
        writeln!(to, "{BOLD}{}{BOLD:#}", section.title)?;
        for case in section.cases {
            writeln!(to, "  {BOLD}{}{BOLD:#} {DIM}{} {}{DIM:#}", case.id, case.level, case.promise)?;
            for line in wrapped(case.title, width - 6) {
                writeln!(to, "      {line}")?;
            }
        }
    }
    let cases = SECTIONS.iter().map(|section| section.cases.len()).sum::<usize>();
    writeln!(to, "{cases} cases; `glidepath-check explain ID` tells of one")
}

/// A promise with its cases, or a case with its promise.
pub fn explain(id: &str, width: usize) -> Option<String> {
    let width = width.clamp(40, 100);
    let all = || SECTIONS.iter().flat_map(|section| section.cases);
    let case = all().find(|case| case.id == id);
    let promise = case.map_or_else(|| id.to_ascii_uppercase(), |case| case.promise.to_owned());
    let promise = PROMISES.iter().find(|known| known.id == promise)?;
    let mut text = String::new();
    if let Some(case) = case {
        tell_case(&mut text, case, width);
    }
    tell_promise(&mut text, promise, width);
    let cases = all().filter(|known| known.promise == promise.id);
    paragraph(&mut text, "cases", &cases.map(|case| case.id).collect::<Vec<_>>().join(" "), width);
    Some(text)
}

fn tell_case(text: &mut String, case: &Case, width: usize) {
    let _strings_take_all = writeln!(text, "{BOLD}{}{BOLD:#} ({})", case.id, case.level);
    paragraph(text, "expected", case.title, width);
    paragraph(text, "why it matters", case.why, width);
    let outcomes = |outcomes: &[crate::model::Outcome]| {
        let words: Vec<_> = outcomes.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    paragraph(text, "passes with", &outcomes(case.wants), width);
    paragraph(text, "without the signal", &outcomes(case.control), width);
    if case.bound < 1.0 {
        paragraph(text, "bound", &format!("at least {:.0} % of them", case.bound * 100.0), width);
    }
    if !case.needs.is_empty() {
        let needs: Vec<_> = case.needs.iter().map(|need| need.name()).collect();
        paragraph(text, "needs", &needs.join(", "), width);
    }
    text.push('\n');
}

fn tell_promise(text: &mut String, promise: &Promise, width: usize) {
    let _strings_take_all = writeln!(text, "{BOLD}{}{BOLD:#}", promise.id);
    paragraph(text, "the sentence", promise.says, width);
    paragraph(text, "its source", promise.source, width);
    paragraph(text, "what users see when it fails", promise.seen, width);
    paragraph(text, "how it is solved", promise.solved, width);
}

fn paragraph(text: &mut String, title: &str, words: &str, width: usize) {
    let _strings_take_all = writeln!(text, "  {DIM}{title}{DIM:#}");
    for line in wrapped(words, width - 4) {
        let _strings_take_all = writeln!(text, "    {line}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cases() -> impl Iterator<Item = &'static Case> {
        SECTIONS.iter().flat_map(|section| section.cases)
    }

    /// The row of SPEC.md, without what it says of tests.
    fn row(id: &str) -> String {
        let page = include_str!("../../../SPEC.md");
        let start = format!("| {id} | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&start));
        row.and_then(|row| row.split(" | ").next()).unwrap_or_else(|| panic!("SPEC.md has no {id}")).to_owned()
    }

    #[test]
    fn every_case_quotes_its_promise_word_for_word() {
        for case in cases() {
            let row = row(case.promise);
            assert!(row.contains(case.quote), "{}: {:?} is not in {row:?}", case.id, case.quote);
        }
    }

    #[test]
    fn every_promise_that_is_checked_is_explained_as_the_specification_says_it() {
        let checked: BTreeSet<_> = cases().map(|case| case.promise).collect();
        let explained: BTreeSet<_> = PROMISES.iter().map(|promise| promise.id).collect();
        assert_eq!(checked, explained);
        for promise in PROMISES {
            assert_eq!(promise.says, row(promise.id), "{}: put SPEC.md's sentence into promises.rs", promise.id);
            for words in [promise.source, promise.seen, promise.solved] {
                assert!(words.len() > 10, "{}: {words:?}", promise.id);
            }
        }
    }

    #[test]
    fn ids_are_unique_and_everything_is_said() {
        let ids: BTreeSet<_> = cases().map(|case| case.id).collect();
        assert_eq!(ids.len(), cases().count());
        assert!(ids.len() >= 70);
        for case in cases() {
            assert!(!case.wants.is_empty() && !case.control.is_empty(), "{}", case.id);
            assert!(!case.title.is_empty() && !case.why.is_empty(), "{}", case.id);
        }
    }

    #[test]
    fn both_kinds_of_ids_are_explained_and_others_are_not() {
        let promise = explain("idle-2", 80).expect("a promise");
        assert!(promise.contains("idle/quiet-window"), "{promise}");
        let case = explain("idle/quiet-window", 80).expect("a case");
        assert!(case.contains("IDLE-2") && case.contains("its source"), "{case}");
        assert_eq!(explain("IDLE-99", 80), None);
    }
}
