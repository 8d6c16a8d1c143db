//! What no Rust file may hold, and what no crate may lean on.

use super::{Finding, Tree};

/// The only file with unsafe code: it boxes the operating system.
const UNSAFE_HOME: &str = "crates/glidepath/src/os.rs";
/// Past this a file has more than one subject.
const LONG: usize = 600;
/// Left-over work belongs into an issue. Split, or this file would find itself.
const LEFT_OVER: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
const LEFT_OVER_MACROS: &[&str] = &["todo!", "unimplemented!"];
/// (a crate's folder, the crate it may not lean on, why)
const APART: &[(&str, &str, &str)] =
    &[("crates/glidepath-check", "glidepath", "it judges any server, and a judge must not share the code it judges")];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in &tree.sources {
        for name in &source.names {
            let Some(last) = name.path.last() else {
                continue;
            };
            if last == "unsafe" && path != UNSAFE_HOME {
                findings.push(Finding::new(path, name.line, format!("unsafe code belongs into {UNSAFE_HOME}")));
            }
            if path.contains("src/") && LEFT_OVER_MACROS.contains(&last.as_str()) {
                findings.push(Finding::new(
                    path,
                    name.line,
                    format!("`{last}` ships a panic; write it, or leave it out"),
                ));
            }
        }
        for line in &source.bare_allows {
            let what = "an allow without a reason; give `reason = \"…\"`, or better `#[expect(…, reason = \"…\")]`";
            findings.push(Finding::new(path, *line, what));
        }
    }
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with(".rs")) {
        findings.extend(left_over(path, text));
        let lines = text.lines().count();
        if lines > LONG {
            findings.push(Finding::hint(
                path,
                1,
                format!("{lines} lines; past {LONG} a file has more than one subject"),
            ));
        }
    }
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        match text.parse::<toml::Table>() {
            Ok(manifest) => findings.extend(manifest_wrongs(path, &manifest)),
            Err(_) => findings.push(Finding::new(path, 1, "this is not TOML; mend it first")),
        }
    }
    findings
}

fn left_over(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|_| path.contains("src/")) {
        let Some((_, comment)) = line.split_once("//") else {
            continue;
        };
        if let Some(word) = LEFT_OVER.iter().find(|word| comment.contains(**word)) {
            findings.push(Finding::new(path, at + 1, format!("a {word}; do it, or put it into an issue")));
        }
    }
    findings
}

fn manifest_wrongs(path: &str, manifest: &toml::Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if manifest.contains_key("package") && inherits != Some(true) {
        findings.push(Finding::new(path, 1, "it goes its own way with lints; add `[lints]` with `workspace = true`"));
    }
    for (folder, other, why) in APART {
        if path.strip_suffix("/Cargo.toml") == Some(folder) && leans_on(manifest, other) {
            findings.push(Finding::new(path, 1, format!("it depends on {other}; {why}")));
        }
    }
    findings
}

/// Whether any table of dependencies names it, those of a target and renamed ones too.
fn leans_on(manifest: &toml::Table, wanted: &str) -> bool {
    manifest.iter().any(|(key, value)| {
        let Some(table) = value.as_table() else {
            return false;
        };
        if key.ends_with("dependencies") {
            let renamed = |value: &toml::Value| value.get("package").and_then(toml::Value::as_str) == Some(wanted);
            table.iter().any(|(name, value)| name == wanted || renamed(value))
        } else {
            leans_on(table, wanted)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, tree};
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        lines(&check(&tree(&[(path, text)])))
    }

    #[test]
    fn unsafe_stands_in_one_file_only() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(findings(UNSAFE_HOME, text), [""; 0]);
        let expected = "crates/x/tests/t.rs:1: unsafe code belongs into crates/glidepath/src/os.rs";
        assert_eq!(findings("crates/x/tests/t.rs", text), [expected]);
        assert_eq!(findings("crates/x/src/lib.rs", "// unsafe\nconst A: &str = \"unsafe\";"), [""; 0]);
    }

    #[test]
    fn left_over_work_fails_in_src() {
        let text = format!("fn f() {{}} // {}: later\nfn g() {{ todo!() }}", LEFT_OVER[0]);
        let found = findings("crates/x/src/lib.rs", &text);
        assert!(found[0].contains(":2: `todo!` ships a panic"), "{found:?}");
        assert!(found[1].contains(":1: a "), "{found:?}");
        assert_eq!(findings("crates/x/tests/t.rs", &text), [""; 0]);
    }

    #[test]
    fn a_bare_allow_fails() {
        let found = findings("crates/x/src/lib.rs", "#![allow(dead_code)]");
        assert!(found[0].starts_with("crates/x/src/lib.rs:1: an allow without a reason"), "{found:?}");
        assert_eq!(findings("crates/x/src/lib.rs", "#![expect(dead_code, reason = \"why\")]"), [""; 0]);
    }

    #[test]
    fn a_long_file_is_a_hint_only() {
        let found = check(&tree(&[("crates/x/src/lib.rs", &"\n".repeat(601))]));
        assert!(found.len() == 1 && !found[0].fails);
    }

    #[test]
    fn a_crate_takes_the_lints_of_the_workspace() {
        let path = "crates/x/Cargo.toml";
        assert_eq!(findings(path, "[package]\nname = \"x\"\n[lints]\nworkspace = true\n"), [""; 0]);
        assert!(findings(path, "[package]\nname = \"x\"\n")[0].contains("goes its own way with lints"));
        assert_eq!(findings("Cargo.toml", "[workspace]\n"), [""; 0]);
    }

    #[test]
    fn the_check_stands_apart_from_the_library() {
        let path = "crates/glidepath-check/Cargo.toml";
        assert_eq!(findings(path, "[dependencies]\nhttparse = \"1\"\n"), [""; 0]);
        for text in [
            "[dependencies]\nglidepath = { path = \"../glidepath\" }\n",
            "[dev-dependencies.glidepath]\nworkspace = true\n",
            "[target.'cfg(unix)'.build-dependencies]\ng = { package = \"glidepath\", version = \"0.1\" }\n",
        ] {
            assert!(findings(path, text)[0].contains("it depends on glidepath"), "{text}");
        }
    }
}
