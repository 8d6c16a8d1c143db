//! Every kept promise of SPEC.md has a check, and every check bears the id of a promise.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{self, items};
use super::{Finding, Tree};

const PAGE: &str = "SPEC.md";
const COLUMNS: &[&str] = &["id", "must", "kept", "check"];

struct Promise {
    line: usize,
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
    findings.extend(checks_without_a_test(tree, &promises));
    findings.extend(tests_without_a_promise(tree, &promises));
    findings
}

fn promises(page: &str) -> (BTreeMap<String, Promise>, Vec<Finding>) {
    let (mut promises, mut findings) = (BTreeMap::new(), Vec::new());
    for table in markdown::tables(page, COLUMNS) {
        for row in &table.rows {
            let (id, kept) = (table.cell(row, "id"), table.cell(row, "kept"));
            let checks: BTreeSet<_> = items(table.cell(row, "check")).map(str::to_owned).collect();
            let mut wrong = |what: String| findings.push(Finding::new(PAGE, row.line, what));
            if area(id).is_none() {
                wrong(format!("`{id}` is no id; write it like SIG-1"));
            }
            if !["yes", "not yet"].contains(&kept) {
                wrong(format!("{id} is kept `{kept}`; say `yes` or `not yet`, and split a promise that is half kept"));
            }
            if kept == "yes" && checks.is_empty() {
                wrong(format!("{id} is kept, but no check says so; name its test, or say `not yet`"));
            }
            if promises.insert(id.to_owned(), Promise { line: row.line, checks }).is_some() {
                wrong(format!("{id} stands twice"));
            }
        }
    }
    (promises, findings)
}

fn checks_without_a_test(tree: &Tree, promises: &BTreeMap<String, Promise>) -> Vec<Finding> {
    let tests: BTreeSet<_> = tests(tree).map(|(_, name, _)| name).collect();
    let mut findings = Vec::new();
    for (id, promise) in promises {
        for check in promise.checks.iter().filter(|check| !tests.contains(check.as_str())) {
            let what = format!("{id} names the check `{check}`, but no test function is called that");
            findings.push(Finding::new(PAGE, promise.line, what));
        }
    }
    findings
}

fn tests_without_a_promise(tree: &Tree, promises: &BTreeMap<String, Promise>) -> Vec<Finding> {
    let areas: BTreeSet<_> = promises.keys().filter_map(|id| area(id)).collect();
    let mut findings = Vec::new();
    for (path, name, line) in tests(tree) {
        let Some(id) = id_of(name).filter(|id| area(id).is_some_and(|area| areas.contains(area))) else {
            continue;
        };
        match promises.get(&id) {
            None => {
                findings.push(Finding::new(path, line, format!("`{name}` checks {id}, which {PAGE} does not have")))
            }
            Some(promise) if !promise.checks.contains(name) => {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("`{name}` is missing from the checks of {id} in {PAGE}"),
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

fn tests(tree: &Tree) -> impl Iterator<Item = (&str, &str, usize)> {
    let of_file = |(path, source)| {
        let source: &super::Source = source;
        let path: &String = path;
        source.tests.iter().map(|(name, line)| (path.as_str(), name.as_str(), *line))
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
            ["crates/x/tests/signals.rs:1: `sig_1_drains` is missing from the checks of SIG-1 in SPEC.md"]
        );
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
