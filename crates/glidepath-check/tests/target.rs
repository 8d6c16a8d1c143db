//! The library's own target passes every case, and two runs agree. The check knows it as a program only.

mod support;

use glidepath_check::model::{Run, Verdict};
use support::{Check, built_example, with};

#[test]
fn the_librarys_target_passes_every_case_twice_in_a_row() {
    let Some(target) = built_example("target") else {
        eprintln!("skipped: the target is not built; `cargo test --workspace` builds it");
        return;
    };
    // As it comes, and with more beside each other: what is judged is not to depend on that.
    let runs: Vec<Run> = ["--jobs=8", "--jobs=16"]
        .into_iter()
        .map(|jobs| {
            let (said, run) = Check::of(&[&target]).flag(jobs).data(&format!("target{jobs}"));
            assert_eq!(with(&run, Verdict::Fail), [""; 0], "{}", said.text());
            assert_eq!(with(&run, Verdict::Invalid), [""; 0], "{}", said.text());
            assert!(run.score.all().pass > 100, "{}", said.text());
            assert!(run.took_ms < 180_000.0, "a well-behaved server takes {} ms", run.took_ms);
            run
        })
        .collect();
    let verdicts = |run: &Run| run.cases.iter().map(|case| (case.id.clone(), case.verdict)).collect::<Vec<_>>();
    assert_eq!(verdicts(&runs[0]), verdicts(&runs[1]));
}
