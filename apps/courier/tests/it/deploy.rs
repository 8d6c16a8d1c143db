//! What `deploy/` says is well formed, and its numbers fit each other.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Courier;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Says that it was, or fails where nothing may be skipped.
fn skipped(why: &str) {
    assert!(std::env::var_os("SKIP_NOTHING").is_none(), "skipped: {why}");
    println!("SKIPPED: {why}");
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The number of seconds behind `name`.
#[track_caller]
fn seconds(text: &str, name: &str) -> f64 {
    let at = text.find(name).unwrap_or_else(|| panic!("no {name}"));
    let number: String = text[at + name.len()..]
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit())
        .collect();
    number.parse().unwrap_or_else(|_| panic!("no number behind {name}"))
}

/// `systemd-analyze verify` has nothing to say about the units, and has about one with a mistake.
#[test]
fn the_units_of_systemd_are_well_formed() {
    if !is_there("systemd-analyze") {
        return skipped("there is no systemd-analyze");
    }
    let folder = tempfile::tempdir().unwrap();
    let verify = |change: &dyn Fn(String) -> String| {
        let units = ["courier.service", "courier.socket"].map(|name| {
            let path = folder.path().join(name);
            // The program must be there for it.
            let text =
                read(&format!("systemd/{name}")).replace("/usr/local/bin/courier", env!("CARGO_BIN_EXE_courier"));
            std::fs::write(&path, change(text)).unwrap();
            path
        });
        let options = ["--man=no", "--recursive-errors=yes", "verify"];
        let output = Command::new("systemd-analyze").args(options).args(units).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said.lines().filter(|line| line.contains("courier.")).collect::<String>())
    };
    assert_eq!(verify(&|text| text), (true, String::new()));
    let (_, said) = verify(&|text| text.replace("KillMode=mixed", "KillMode=gently"));
    assert!(said.contains("kill mode"), "the control: {said:?}");
}

/// END-5: an end fits the time that each manager gives, and courier is told of that time.
#[test]
fn end_5_lame_duck_and_grace_fit_what_each_manager_gives() {
    let files = [
        ("systemd/courier.service", seconds(&read("systemd/courier.service"), "\nTimeoutStopSec=")),
        ("kubernetes/courier.yaml", seconds(&read("kubernetes/courier.yaml"), "terminationGracePeriodSeconds")),
        // What `docker stop` gives by default.
        ("docker/Dockerfile", 10.0),
    ];
    for (file, given) in files {
        // What stands in comments are other cases.
        let text: String = read(file).lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let lame_duck = if text.contains("COURIER_LAME_DUCK") { seconds(&text, "COURIER_LAME_DUCK") } else { 0.0 };
        let [grace, budget] = ["COURIER_GRACE", "GLIDEPATH_BUDGET"].map(|name| seconds(&text, name));
        assert!(lame_duck + grace + 0.5 <= given, "{file}: {lame_duck} + {grace} + 0.5 > {given}");
        assert!((budget - given).abs() < f64::EPSILON, "{file} tells courier {budget}, and gives {given}");
    }
}

/// Every setting that the files name is one that courier has, by its own help.
#[tokio::test]
async fn the_settings_that_deploy_names_are_courier_s() {
    let folder = tempfile::tempdir().unwrap();
    let help = Courier::command(folder.path(), &["--help"]).output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut names = 0;
    for file in ["systemd/courier.service", "docker/Dockerfile", "kubernetes/courier.yaml"] {
        let text = read(file);
        for name in
            text.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|name| name.starts_with("COURIER_"))
        {
            let is_one = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {name}{end}")));
            assert!(is_one, "{file}: {name} is no setting");
            names += 1;
        }
    }
    assert!(names > 10, "{names} names");
}
