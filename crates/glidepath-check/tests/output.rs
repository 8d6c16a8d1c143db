//! What a run leaves: text of 80 columns, JSON as its schema says, JUnit, and a baseline for the next one.

mod support;

use glidepath_check::exit_code;
use glidepath_check::model::Verdict;
use support::{Check, Scrap, server, with};

const FEW: &str = "--only=sig/ends,idle/quiet-window*,tls/answered";

#[test]
fn a_run_is_shown_in_80_columns_and_ends_with_one_line_of_score() {
    let said = Check::of(&[&server()]).defect("no-close").flag(FEW).run();
    let text = said.text();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    said.passes().says("FAIL SHOULD idle/quiet-window-close (IDLE-2)").says("skipped 1 case: needs tls");
    let last = text.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("broken: 1 of 1 MUST, 1 of 2 SHOULD, 1 skipped; "), "{last}");
}

#[test]
fn with_v_the_bytes_of_what_failed_are_shown() {
    let said = Check::of(&[&server()]).defect("no-close").flag("--only=idle/quiet-window-close").flag("-v").run();
    said.says("with the signal").says("without it").says("SIGTERM").says("GET / HTTP/1.1\\r\\nhost: localhost");
}

#[test]
fn a_should_that_fails_is_a_failure_where_that_is_asked_for() {
    let check = || Check::of(&[&server()]).defect("no-close").flag("--only=idle/quiet-window-close");
    check().run().passes();
    check().flag("--strict").run().fails_with(exit_code::FAILED, "0 of 1 SHOULD");
}

#[test]
fn json_is_as_the_schema_says() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../schema.json")).expect("it is JSON");
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let (_, run) = Check::of(&[&server()]).defect("no-close").flag(FEW).flag("-v").data("schema");
    let mut run = serde_json::to_value(&run).expect("it is JSON");
    let wrong: Vec<_> = schema.iter_errors(&run).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let lane =
        run["cases"].as_array().and_then(|cases| cases.iter().find(|case| case["timeline"]["lanes"][0].is_object()));
    let events = &lane.expect("a case with a lane")["timeline"]["lanes"][0]["events"];
    assert!(events.as_array().is_some_and(|events| events.len() >= 4), "{events}");
    run["cases"][0]["verdict"] = "perhaps".into();
    assert!(!schema.is_valid(&run), "the schema takes anything");
}

#[test]
fn see_10_a_report_is_explained() {
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/../glidepath/report.example.json");
    let said = Check::task(&["report", report]).run();
    said.passes().says("SIGTERM: the deadline cut something").says("GET /export");
}

#[test]
fn junit_has_a_suite_for_each_section() {
    let file = Scrap::new("junit.xml", "", 0o644);
    let flag = format!("--junit={}", file.path());
    Check::of(&[&server()]).defect("cancels").flag("--only=sig/ends,req/answered,tls/answered").flag(&flag).run();
    let xml = std::fs::read_to_string(file.path()).expect("it was written");
    let report = quick_junit::Report::deserialize_from_str(&xml).expect("it is JUnit");
    assert_eq!((report.tests, report.failures, report.errors), (3, 1, 0), "{xml}");
    let names: Vec<_> = report.test_suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(names, ["Signals", "HTTP/1 in flight", "TLS"]);
}

#[test]
fn a_baseline_fails_only_on_what_got_worse() {
    let few = "--only=sig/ends,req/answered";
    let [good, bad] = ["good", "bad"].map(|name| Scrap::new(&format!("{name}.json"), "", 0o644));
    let json = |file: &Scrap| format!("--json={}", file.path());
    let baseline = |file: &Scrap| format!("--baseline={}", file.path());
    Check::of(&[&server()]).flag(few).flag(&json(&good)).run().passes();
    let broken = || Check::of(&[&server()]).defect("cancels").flag(few);
    broken().flag(&json(&bad)).run().fails_with(exit_code::FAILED, "FAIL MUST req/answered");
    broken().flag(&baseline(&good)).run().fails_with(exit_code::WORSE, "worse   MUST req/answered: pass -> FAIL");
    broken().flag(&baseline(&bad)).run().passes();

    let compare = |before: &Scrap, after: &Scrap| Check::task(&["compare", &before.path(), &after.path()]).run();
    compare(&good, &bad).fails_with(exit_code::WORSE, "1 of 2 MUST");
    compare(&bad, &good).passes().says("better  MUST req/answered: FAIL -> pass");
    compare(&good, &good).passes();
}

#[test]
fn list_and_explain_tell_of_cases() {
    let list = Check::task(&["list"]).run();
    list.passes().says("idle/quiet-window SHOULD IDLE-2");
    for line in list.text().lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    Check::task(&["explain", "IDLE-2"]).run().passes().says("RFC 9112").says("idle/quiet-window-close");
    Check::task(&["explain", "IDLE-99"]).run().fails_with(exit_code::USAGE, "IDLE-99");
}

/// A case whose control goes wrong says nothing of the server's end: it is invalid, and never failed.
#[test]
fn what_goes_wrong_without_the_signal_too_is_invalid() {
    let (said, run) = Check::of(&[&server()])
        .defect("short-keep-alive")
        .flag("--only=sig/ends,idle/long-quiet,idle/quiet-window")
        .data("invalid");
    assert_eq!(with(&run, Verdict::Invalid), ["idle/long-quiet"], "{}", said.text());
    assert_eq!(with(&run, Verdict::Fail), [""; 0], "{}", said.text());
    said.fails_with(exit_code::INVALID, "without the signal too it is not open");
}

#[test]
fn a_command_that_ends_a_server_may_last_as_long_as_the_end() {
    // In one case GRACE is 2. In the other the server stands still when it is told, so that the command can't be waited for.
    let stop = "test \"${GRACE:-2}\" = 2 && kill -TERM $PID; while kill -0 $PID; do sleep 0.05; done";
    let check = |stop: &str, only: &str| Check::of(&[&server()]).flag("--stop").flag(stop).flag(only).run();
    check(stop, "--only=idle/in-buffer,slow/upload-never-ends").passes().says("2 of 2 MUST");
    check("exit 7", "--only=sig/ends")
        .fails_with(exit_code::INVALID, "the stop command `exit 7` failed: exit status: 7");
}
