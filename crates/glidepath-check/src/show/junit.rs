//! JUnit's form of XML, which CI systems read.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::model::{Case, Level, Run, Verdict};

/// The run as JUnit: a suite for each section. A SHOULD that is not kept counts as skipped, as it does not fail the run,
/// unless that is asked for.
pub fn xml(run: &Run, strict: bool) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new(format!("glidepath-check {}", run.target.name));
    report.set_time(std::time::Duration::from_secs_f64(run.took_ms / 1000.0));
    let mut sections: Vec<&str> = Vec::new();
    for case in &run.cases {
        if !sections.contains(&case.section.as_str()) {
            sections.push(&case.section);
        }
    }
    for section in sections {
        let mut suite = TestSuite::new(section);
        suite.add_test_cases(run.cases.iter().filter(|case| case.section == section).map(|case| one(case, strict)));
        report.add_test_suite(suite);
    }
    let skipped: usize = report.test_suites.iter().map(|suite| suite.skipped).sum();
    // The schema that Jenkins checks against lets each suite say this, and not all of them together.
    Ok(report.to_string()?.replacen(&format!(" skipped=\"{skipped}\""), "", 1))
}

fn one(case: &Case, strict: bool) -> TestCase {
    let reason = case.reason.clone().unwrap_or_default();
    let status = match (case.verdict, case.level) {
        (Verdict::Pass, _) => TestCaseStatus::success(),
        (Verdict::Fail, level) if level == Level::Must || strict => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("got: {}", case.got));
            status.set_type(level.to_string());
            status.set_description(format!("expected: {}\ngot: {}\nwhy: {}", case.expected, case.got, case.why));
            status
        }
        (Verdict::Fail, _) => skipped(format!("SHOULD, and is not kept: {}", case.got)),
        (Verdict::Invalid, _) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(reason);
            status.set_type("invalid");
            status
        }
        (Verdict::Skipped, _) => skipped(reason),
    };
    let mut test = TestCase::new(case.id.as_str(), status);
    test.set_classname(case.promise.as_str());
    test.set_time(std::time::Duration::from_secs_f64(case.took_ms / 1000.0));
    test
}

fn skipped(why: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::tests::run_of;

    #[test]
    fn each_verdict_has_its_form() {
        let run = run_of(&[
            ("idle/a", Verdict::Pass),
            ("idle/b", Verdict::Fail),
            ("idle/c", Verdict::Invalid),
            ("idle/d", Verdict::Skipped),
        ]);
        let xml = xml(&run, false).expect("it can be written");
        assert!(
            xml.contains(r#"<testsuites name="glidepath-check server" tests="4" failures="1" errors="1""#),
            "{xml}"
        );
        assert!(
            xml.contains(r#"<testsuite name="HTTP/1 at rest" tests="4" skipped="1" errors="1" failures="1""#),
            "{xml}"
        );
        assert!(xml.contains(r#"<failure message="got: RST, 3 ms after the signal" type="MUST">"#), "{xml}");
        assert!(xml.contains(r#"<skipped message="needs slow"/>"#), "{xml}");
        assert!(xml.contains("<error"), "{xml}");
    }
}
