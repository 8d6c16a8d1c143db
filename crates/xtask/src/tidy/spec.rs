//! Every kept promise of SPEC.md has a check, and every check bears the id of a promise.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{self, items};
use super::tokens::Test;
use super::{Finding, Tree};

pub(crate) const PAGE: &str = "SPEC.md";
const COLUMNS: &[&str] = &["id", "must", "kept", "check"];

struct Promise {
    line: usize,
    kept: bool,
    checks: BTreeSet<String>,
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 1, "it is missing; it holds every promise with its check")];
    };
    let (promises, mut findings) = promises(page);
    if promises.is_empty() {
        findings.push(Finding::new(PAGE, 1, format!("no table has the columns {}", COLUMNS.join(", "))));
    }
    findings.extend(checks_that_check_nothing(tree, &promises));
    findings.extend(tests_without_a_promise(tree, &promises));
    findings
}

/// The page with every test written into the row whose id it bears. What is kept, people say.
pub(crate) fn fill(tree: &Tree) -> Option<String> {
    let page = tree.text(PAGE)?;
    let mut lines: Vec<_> = page.lines().map(str::to_owned).collect();
    for table in markdown::tables(page, COLUMNS) {
        for row in &table.rows {
            let mut checks: Vec<_> = items(table.cell(row, "check")).collect();
            let bearing = tests(tree).filter(|(_, test)| id_of(&test.name).as_deref() == Some(table.cell(row, "id")));
            for (_, test) in bearing {
                if !checks.contains(&test.name.as_str()) {
                    checks.push(&test.name);
                }
            }
            let line = &mut lines[row.line - 1];
            let mut cells: Vec<_> = line.split('|').map(str::to_owned).collect();
            if let (Some(at), false) = (table.at("check"), checks.is_empty()) {
                cells[at + 1] = format!(" `{}` ", checks.join("`, `"));
                *line = cells.join("|");
            }
        }
    }
    Some(lines.join("\n") + "\n")
}

fn promises(page: &str) -> (BTreeMap<String, Promise>, Vec<Finding>) {
    let (mut promises, mut findings) = (BTreeMap::new(), Vec::new());
    for table in markdown::tables(page, COLUMNS) {
        for row in &table.rows {
            let (id, kept, line) = (table.cell(row, "id"), table.cell(row, "kept"), row.line);
            let checks: BTreeSet<_> = items(table.cell(row, "check")).map(str::to_owned).collect();
            let mut wrong = |what: String| findings.push(Finding::new(PAGE, line, what));
            if area(id).is_none() {
                wrong(format!("`{id}` is no id; write it like SIG-1"));
            }
            if !["yes", "not yet"].contains(&kept) {
                wrong(format!("{id} is kept `{kept}`; say `yes` or `not yet`, and split a promise that is half kept"));
            }
            let kept = kept == "yes";
            if kept && checks.is_empty() {
                wrong(format!("{id} is kept, but no check says so; name its test, or say `not yet`"));
            }
            if promises.insert(id.to_owned(), Promise { line, kept, checks }).is_some() {
                wrong(format!("{id} stands twice"));
            }
        }
    }
    (promises, findings)
}

fn checks_that_check_nothing(tree: &Tree, promises: &BTreeMap<String, Promise>) -> Vec<Finding> {
    let tests: BTreeMap<_, _> = tests(tree).map(|(_, test)| (test.name.as_str(), test)).collect();
    let mut findings = Vec::new();
    for (id, promise) in promises {
        for check in &promise.checks {
            let what = match tests.get(check.as_str()) {
                None => format!("{id} names the check `{check}`, but no test function is called that"),
                Some(test) if promise.kept && test.ignored => {
                    format!("{id} is kept, but its check `{check}` is ignored; let it run, or say `not yet`")
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(PAGE, promise.line, what));
        }
    }
    findings
}

fn tests_without_a_promise(tree: &Tree, promises: &BTreeMap<String, Promise>) -> Vec<Finding> {
    let areas: BTreeSet<_> = promises.keys().filter_map(|id| area(id)).collect();
    let mut findings = Vec::new();
    for (path, test) in tests(tree) {
        let Some(id) = id_of(&test.name).filter(|id| area(id).is_some_and(|area| areas.contains(area))) else {
            continue;
        };
        let name = &test.name;
        let what = match promises.get(&id) {
            None => format!("`{name}` checks {id}, which {PAGE} does not have"),
            Some(promise) if !promise.checks.contains(name) => {
                format!("`{name}` is missing from the checks of {id}; `cargo xtask tidy --fill` writes it into {PAGE}")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(path, test.line, what));
    }
    findings
}

fn tests(tree: &Tree) -> impl Iterator<Item = (&str, &Test)> {
    let of_file = |(path, source)| {
        let (path, source): (&String, &super::Source) = (path, source);
        source.tests.iter().map(|test| (path.as_str(), test))
    };
    tree.sources.iter().flat_map(of_file)
}

/// `SIG` of `SIG-1`.
fn area(id: &str) -> Option<&str> {
    let (area, number) = id.split_once('-')?;
    let capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let fits = area.starts_with(|c: char| c.is_ascii_uppercase())
        && area.chars().all(capital)
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit());
    fits.then_some(area)
}

/// `SIG-1` for `sig_1_interrupt_begins_the_drain`.
fn id_of(test: &str) -> Option<String> {
    let mut parts = test.split('_');
    let id = format!("{}-{}", parts.next()?.to_ascii_uppercase(), parts.next()?);
    area(&id)?;
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, tree};
    use super::*;

    fn findings(row: &str, tests: &str) -> Vec<String> {
        let page = format!("| id | must | kept | check |\n|---|---|---|---|\n{row}\n| SIG-2 | stand | not yet | |\n");
        lines(&check(&tree(&[("SPEC.md", &page), ("crates/x/tests/signals.rs", tests)])))
    }

    #[test]
    fn a_kept_promise_with_its_test_passes() {
        let found = findings(
            "| SIG-1 | drain | yes | `sig_1_drains`, `sig_1_once` |",
            "#[test] fn sig_1_drains() {} #[test] fn sig_1_once() {}",
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_kept_promise_without_a_check_fails() {
        let found = findings("| SIG-1 | drain | yes | |", "");
        assert_eq!(found, ["SPEC.md:3: SIG-1 is kept, but no check says so; name its test, or say `not yet`"]);
    }

    #[test]
    fn a_check_that_is_no_test_fails() {
        let found = findings("| SIG-1 | drain | yes | sig_1_drains |", "fn sig_1_drains() {}");
        assert_eq!(found, ["SPEC.md:3: SIG-1 names the check `sig_1_drains`, but no test function is called that"]);
    }

    #[test]
    fn a_test_of_no_promise_fails() {
        let found = findings("| SIG-1 | drain | not yet | |", "#[test]\nfn sig_9_survives() {}");
        assert_eq!(found, ["crates/x/tests/signals.rs:2: `sig_9_survives` checks SIG-9, which SPEC.md does not have"]);
    }

    #[test]
    fn a_test_that_its_promise_does_not_list_fails() {
        let found = findings("| SIG-1 | drain | not yet | |", "#[tokio::test] async fn sig_1_drains() {}");
        assert_eq!(
            found,
            [
                "crates/x/tests/signals.rs:1: `sig_1_drains` is missing from the checks of SIG-1; `cargo xtask tidy --fill` writes it into SPEC.md"
            ]
        );
    }

    #[test]
    fn a_kept_promise_whose_check_is_ignored_fails() {
        let found = findings("| SIG-1 | drain | yes | sig_1_drains |", "#[test] #[ignore] fn sig_1_drains() {}");
        assert!(found[0].contains("SIG-1 is kept, but its check `sig_1_drains` is ignored"), "{found:?}");
    }

    #[test]
    fn filling_adds_tests_and_touches_nothing_else() {
        let head = "# Spec\n\n| id | must | kept | check | fails |\n|---|---|---|---|---|\n";
        let page =
            format!("{head}| SIG-1 | drain `so` | yes | `whole` | Go |\n| SIG-2 | stand | not yet | | |\n\nend\n");
        let filled = format!(
            "{head}| SIG-1 | drain `so` | yes | `whole`, `sig_1_drains` | Go |\n| SIG-2 | stand | not yet | | |\n\nend\n"
        );
        let test = "#[test] fn sig_1_drains() {} #[test] fn other() {}";
        assert_eq!(fill(&tree(&[("SPEC.md", &page), ("crates/x/tests/t.rs", test)])), Some(filled));
    }

    #[test]
    fn other_names_with_numbers_are_left_alone() {
        assert_eq!(
            findings("| SIG-1 | drain | not yet | |", "#[test] fn take_2_of_3() {} #[test] fn sig_nals() {}"),
            [""; 0]
        );
    }

    #[test]
    fn half_kept_and_twice_said_fail() {
        let found = findings("| SIG-2 | drain | partly | |", "");
        assert!(found[0].contains("SIG-2 is kept `partly`") && found[1].contains("SIG-2 stands twice"), "{found:?}");
    }
}
