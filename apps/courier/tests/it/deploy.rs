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

/// Runs promtool in `deploy/grafana`: whether it passes, and what it says.
fn promtool(args: &[&str]) -> (bool, String) {
    let output = Command::new("promtool").args(args).current_dir(deploy().join("grafana")).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Each alert is well formed, and there is a test of it that fires.
#[test]
fn the_alert_rules_are_well_formed_and_fire_when_they_are_to() {
    let (rules, tests) = (read("grafana/alerts.yaml"), read("grafana/alerts.test.yaml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for alert in alerts {
        let fires = tests.contains(&format!("alertname: {alert}")) || tests.contains(&format!("alertname=\"{alert}\""));
        assert!(fires, "no test of {alert}");
    }
    if !is_there("promtool") {
        return skipped("there is no promtool");
    }
    let (well, said) = promtool(&["check", "rules", "alerts.yaml"]);
    assert!(well, "{said}");
    let (well, said) = promtool(&["test", "rules", "alerts.test.yaml"]);
    assert!(well, "{said}");
    // The same tests, where a rule is another.
    let folder = tempfile::tempdir().unwrap();
    for (rule, other) in
        [("> 0.8 *", "> 0.9 *"), ("outcome=\"failed\"", "outcome=\"refused\""), ("for: 10m", "for: 9m")]
    {
        assert!(rules.contains(rule), "{rule}");
        std::fs::write(folder.path().join("alerts.yaml"), rules.replace(rule, other)).unwrap();
        std::fs::write(folder.path().join("alerts.test.yaml"), &tests).unwrap();
        let (well, _) = promtool(&["test", "rules", folder.path().join("alerts.test.yaml").to_str().unwrap()]);
        assert!(!well, "the tests do not see {other}");
    }
}

/// All PromQL in the dashboard and in the alerts.
fn expressions() -> Vec<String> {
    fn find(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(|expr| Some(expr.as_str()?.to_owned())));
                fields.values().for_each(|value| find(value, found));
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| find(value, found)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&read("grafana/dashboard.json")).expect("the dashboard is JSON");
    let mut found = Vec::new();
    find(&dashboard, &mut found);
    found
}

/// Every metric that the dashboard and the alerts ask for is in the table of docs/observing.md, with that label; and every one
/// of the table is asked for.
#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let page = read("../docs/observing.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `glidepath_"))
        .map(|line| line.split('|').flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect())
        .collect();
    let asked = [expressions(), vec![read("grafana/alerts.yaml")]].concat().join("\n");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut seen = Vec::new();
    for (at, _) in asked.match_indices("glidepath_") {
        let name: String = asked[at..].chars().take_while(|c| is_name(*c)).collect();
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let labels =
            asked[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        for label in labels.split(", ").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once(['=', '!']).unwrap_or_default();
            let known = ["job", "instance"].contains(&label) || row.get(1) == Some(&label);
            assert!(known, "{name} has no label {label}");
            if !["job", "instance"].contains(&label) {
                let values = value.trim_matches(|c: char| !is_name(c)).split('|');
                values.for_each(|value| assert!(row[2..].contains(&value), "{name} has no {label}={value}"));
            }
        }
        seen.push(name);
    }
    for row in &rows {
        assert!(seen.iter().any(|name| name == row[0]), "nothing asks for {}", row[0]);
    }
}

/// promtool reads every expression of the dashboard, as a rule.
#[test]
fn the_dashboards_expressions_are_promql() {
    if !is_there("promtool") {
        return skipped("there is no promtool");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    let check = |expressions: &[String]| {
        let rules: String = expressions
            .iter()
            .enumerate()
            .map(|(at, expr)| {
                let expr = expr.replace("$__rate_interval", "1m");
                format!("      - record: expression_{at}\n        expr: {}\n", serde_json::to_string(&expr).unwrap())
            })
            .collect();
        std::fs::write(&file, format!("groups:\n  - name: dashboard\n    rules:\n{rules}")).unwrap();
        promtool(&["check", "rules", file.to_str().unwrap()])
    };
    let expressions = expressions();
    assert!(expressions.len() > 10, "{expressions:?}");
    let (well, said) = check(&expressions);
    assert!(well, "{said}");
    let broken: Vec<_> = expressions.iter().map(|expr| expr.replacen('(', "((", 1)).collect();
    assert!(!check(&broken).0, "promtool takes anything");
}
