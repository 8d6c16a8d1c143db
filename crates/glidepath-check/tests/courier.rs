//! The reference API passes all cases that its paths allow, by the settings that are kept beside it.

mod support;

use glidepath_check::model::Verdict;
use support::{Check, built_program, with};

#[test]
fn courier_passes_every_case_that_its_paths_allow() {
    let Some(courier) = built_program("courier") else {
        assert!(std::env::var_os("SKIP_NOTHING").is_none(), "courier is not built");
        eprintln!("skipped: courier is not built; `cargo test --workspace` builds it");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/../../apps/courier/check.toml");
    let (said, run) = Check::task(&["--config", settings])
        .flag(&format!("--env=COURIER={courier}"))
        .flag(&format!("--env=FOLDER={}", folder.path().display()))
        .flag("--jobs=16")
        .flag("--must-offer=upload,sse,ws,http2,lame duck")
        .data("courier");
    assert_eq!(with(&run, Verdict::Fail), [""; 0], "{}", said.text());
    assert_eq!(with(&run, Verdict::Invalid), [""; 0], "{}", said.text());
    // It can't pass by leaving out: a path that is lost takes cases with it.
    assert!(run.score.all().pass >= 70, "{}", said.text());
    said.says("skipped").says("needs slow");
}
