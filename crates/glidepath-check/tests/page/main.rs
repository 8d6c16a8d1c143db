//! The pages, by their structure. They are also written to the target folder, to be looked at.

mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use glidepath_check::model::{Run, Verdict};
use glidepath_check::page::{comparison, page};

use self::fixture::HOSTILE;

fn written(name: &str, html: String) -> String {
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), &html).expect("the target folder can be written to");
    html
}

fn one() -> String {
    written("page.html", page(&fixture::run()).expect("a page"))
}

/// The same cases on four servers with verdicts of their own; the last one lacks a case, and two have one name.
fn several() -> Vec<Run> {
    let server = |name: &str, nth: usize| {
        let mut run = fixture::run();
        run.target.name = name.to_owned();
        for (at, case) in run.cases.iter_mut().enumerate() {
            if (at + nth) % 3 == 0 && case.verdict == Verdict::Pass {
                case.verdict = Verdict::Fail;
                case.got = format!("something else on {name}");
            }
        }
        run
    };
    let mut runs = vec![server("nginx", 0), server("Go net/http", 1), server("Node", 2), server("Node", 3)];
    runs.push(server(HOSTILE, 4));
    runs[4].cases.pop();
    runs
}

fn matrix() -> String {
    written("comparison.html", comparison(&several()).expect("a page"))
}

/// What stands in `name="…"` and in `name=…`, everywhere outside of the script.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let html = html.split("<script>").next().expect("what is before the script");
    let values = html.split(&format!(" {name}=")).skip(1).collect::<Vec<_>>().into_iter();
    let value = |rest: &'a str| match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([' ', '>']).next(),
    };
    values.filter_map(value).collect()
}

/// The lines of a picture's list.
fn rows(html: &str, key: &str) -> usize {
    let ids = attributes(html, "id").into_iter().filter_map(|id| id.strip_prefix(key)?.strip_prefix('-'));
    ids.filter(|rest| rest.parse::<usize>().is_ok()).count()
}

fn number(html: &str, what: &str) -> usize {
    html.matches(what).count()
}

#[test]
fn a_page_loads_nothing() {
    for html in [one(), matrix()] {
        for outside in ["http://", "https://", "@import", "url(", "<link rel=\"stylesheet", "src=\"", "<iframe", "<img"]
        {
            assert!(!html.contains(outside), "{outside:?} at {:?}", html.find(outside));
        }
        // What the browser would refuse, even if a value slipped through.
        assert!(html.contains("default-src 'none'"));
        let addresses = attributes(&html, "href");
        assert!(addresses.len() > 50);
        for address in addresses {
            assert!(address.starts_with('#') || address == "data:,", "{address}");
        }
    }
}

#[test]
fn every_link_leads_somewhere_and_no_id_is_there_twice() {
    for html in [one(), matrix()] {
        let ids = attributes(&html, "id");
        let known: BTreeSet<&str> = ids.iter().copied().collect();
        let mut twice = ids.clone();
        twice.sort_unstable();
        twice.dedup();
        assert_eq!(twice.len(), ids.len(), "an id is there twice");
        for address in attributes(&html, "href").into_iter().filter_map(|address| address.strip_prefix('#')) {
            assert!(known.contains(address), "{address} leads nowhere");
        }
        for name in attributes(&html, "aria-labelledby").into_iter().chain(attributes(&html, "aria-describedby")) {
            assert!(known.contains(name), "{name} names nothing");
        }
    }
}

#[test]
fn every_case_that_ran_has_its_pictures_with_a_title_and_a_description() {
    let html = one();
    for (nth, case) in fixture::run().cases.into_iter().enumerate() {
        assert!(html.contains(&format!("<div class=\"body\" id=\"{}\">", case.id)), "no link leads to {}", case.id);
        for (timeline, id, key) in [
            (&case.timeline, case.id.clone(), format!("e{nth}")),
            (&case.control, format!("{}:control", case.id), format!("c{nth}")),
        ] {
            let named = html.contains(&format!("aria-labelledby=\"{id}:title\" aria-describedby=\"{id}:desc\""));
            assert_eq!(named, timeline.is_some(), "{id}");
            for part in [format!("<title id=\"{id}:title\">"), format!("<desc id=\"{id}:desc\">")] {
                assert_eq!(html.contains(&part), timeline.is_some(), "{part}");
            }
            // One line of the list for every event, unless it is too long a connection.
            let Some(timeline) = timeline.as_ref().filter(|it| it.lanes.iter().all(|lane| lane.events.len() < 30))
            else {
                continue;
            };
            let events: usize = timeline.lanes.iter().map(|lane| lane.events.len()).sum();
            let others = timeline.signals.len() + usize::from(timeline.exit.is_some());
            // Lines of a log that came together share one.
            let logs = usize::from(!timeline.log.is_empty())..=timeline.log.len();
            let rows = rows(&html, &key) - events - others;
            assert!(logs.contains(&rows), "{id}: {rows} of {logs:?} lines for the log");
        }
    }
}

#[test]
fn what_a_server_says_is_shown_and_not_obeyed() {
    for (html, scripts) in [(one(), 1), (matrix(), 1)] {
        assert_eq!(number(&html, "<script"), scripts, "a script that is not ours");
        assert!(!html.contains("<img"), "a tag from a text");
        assert!(html.contains("&#60;script&#62;alert(1)"), "the text itself is there");
        assert!(
            !html.contains('\u{1b}') && !html.contains('\u{202e}') && !html.contains('\u{0}'),
            "a control character"
        );
    }
}

#[test]
fn failing_cases_are_open_and_no_other() {
    let html = one();
    let run = fixture::run();
    let failing = run.cases.iter().filter(|case| case.verdict == Verdict::Fail).count();
    assert_eq!(number(&html, "<details class=\"case fail\" open>"), failing);
    assert_eq!(number(&html, "<details class=\"case "), run.cases.len());
    assert_eq!(number(&html, "open>"), failing + 1, "and the control of the one that is invalid");
}

#[test]
fn the_figures_are_those_of_the_cases() {
    let mut run = fixture::run();
    run.score.must.pass = 99;
    let html = page(&run).expect("a page");
    assert!(html.contains("<b>6</b> of 8"), "6 of 8 MUST passed, whatever the run's own score says");
}

#[test]
fn a_long_connection_is_cut_in_its_middle_and_the_page_says_so() {
    let html = one();
    assert!(html.contains("112 events from the middle of long connections are left out."));
    assert_eq!(rows(&html, "e7"), 32 + 2, "what is kept, and signal and exit");
}

#[test]
fn a_whole_run_stays_small() {
    let html = written("big.html", page(&fixture::big(100)).expect("a page"));
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
}

#[test]
fn a_run_without_cases_and_a_comparison_of_nothing_are_pages_too() {
    let mut run = fixture::run();
    run.cases.clear();
    run.found.clear();
    assert!(page(&run).expect("a page").ends_with("</html>"));
    assert!(comparison(&[]).expect("a page").ends_with("</html>"));
}

#[test]
fn a_matrix_has_a_cell_for_each_server_and_case_that_says_its_verdict_in_words() {
    let html = matrix();
    let runs = several();
    let cells: usize = runs.iter().map(|run| run.cases.len()).sum();
    assert_eq!(
        number(&html, "<td class=\"pass\"><a ")
            + number(&html, "<td class=\"fail\"><a ")
            + number(&html, "<td class=\"invalid\"><a ")
            + number(&html, "<td class=\"skipped\"><a "),
        cells
    );
    assert_eq!(number(&html, "<span class=\"vh\">not run</span>"), 1);
    assert!(html.contains("id=\"idle/quiet-window@node\"") && html.contains("id=\"idle/quiet-window@node-again\""));
    assert!(html.contains("something else on Go net/http"));
}
