//! A module imports only from its own layer's list, and some names stand in one place only.
//!
//! Both lists are tables of ARCHITECTURE.md, so the page can't say one thing and the code another.

use std::collections::BTreeMap;

use super::markdown::{self, Table, items};
use super::tokens::Name;
use super::{Finding, Tree};

const PAGE: &str = "ARCHITECTURE.md";
const LIBRARY: &str = "crates/glidepath/src/";
const LAYERS: &[&str] = &["layer", "modules", "may import"];
const PLACES: &[&str] = &["name", "only in"];

/// `connection` stands for `connection/h1.rs` and all else below it; the crate's root is called `lib`.
type Module = Vec<String>;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 1, "it is missing; it holds the table of layers")];
    };
    let Some(layers) = markdown::tables(page, LAYERS).into_iter().next() else {
        return vec![Finding::new(PAGE, 1, format!("no table has the columns {}", LAYERS.join(", ")))];
    };
    let map = Map::new(tree, &layers);
    let mut findings = map.unlisted_and_gone();
    findings.extend(map.upward_imports(tree));
    for table in markdown::tables(page, PLACES) {
        findings.extend(map.out_of_place(tree, &table));
    }
    findings
}

/// The table of layers laid over the files that are there.
struct Map<'a> {
    entries: Vec<Entry<'a>>,
    /// Every module file, by its path from the root.
    files: BTreeMap<&'a str, Module>,
}

/// One listed module.
struct Entry<'a> {
    module: Module,
    layer: &'a str,
    may_import: Vec<&'a str>,
    line: usize,
}

impl<'a> Map<'a> {
    fn new(tree: &'a Tree, table: &'a Table) -> Self {
        let mut entries = Vec::new();
        for row in &table.rows {
            for module in items(table.cell(row, "modules")) {
                entries.push(Entry {
                    module: module.split('/').map(str::to_owned).collect(),
                    layer: table.cell(row, "layer"),
                    may_import: items(table.cell(row, "may import")).collect(),
                    line: row.line,
                });
            }
        }
        let files = tree.sources.keys().filter_map(|path| Some((path.as_str(), module_of(path)?)));
        Self { entries, files: files.collect() }
    }

    /// The entry that says most about this module.
    fn entry(&self, module: &[String]) -> Option<&Entry<'a>> {
        let covering = self.entries.iter().filter(|entry| module.starts_with(&entry.module));
        covering.max_by_key(|entry| entry.module.len())
    }

    fn unlisted_and_gone(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (path, module) in &self.files {
            if self.entry(module).is_none() {
                let what = format!("no layer lists `{}`; put it into the table of {PAGE}", module.join("/"));
                findings.push(Finding::new(path, 1, what));
            }
        }
        for (at, entry) in self.entries.iter().enumerate() {
            let name = entry.module.join("/");
            if !self.files.values().any(|module| *module == entry.module) {
                findings.push(Finding::new(PAGE, entry.line, format!("`{name}` is listed, but there is no such file")));
            }
            if self.entries[..at].iter().any(|other| other.module == entry.module) {
                findings.push(Finding::new(
                    PAGE,
                    entry.line,
                    format!("`{name}` is listed twice; one layer is its own"),
                ));
            }
        }
        findings
    }

    fn upward_imports(&self, tree: &Tree) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (path, module) in &self.files {
            let Some(from) = self.entry(module) else {
                continue;
            };
            for name in tree.sources[*path].names.iter().filter(|name| !name.in_test) {
                let Some(target) = self.target(module, name) else {
                    continue;
                };
                let Some(to) = self.entry(&target) else {
                    continue;
                };
                if from.module == to.module || from.may_import.contains(&to.layer) {
                    continue;
                }
                let what = if to.module == ["lib"] {
                    format!("`{}` goes through the crate's root; name its module", name.path.join("::"))
                } else {
                    format!(
                        "`{}` is in {}, which {} may not import; hand it in from above, or move it down",
                        name.path.join("::"),
                        to.layer,
                        from.layer
                    )
                };
                findings.push(Finding::new(path, name.line, what));
            }
        }
        findings
    }

    /// The module of the crate that a name written in `module` leads to.
    fn target(&self, module: &[String], name: &Name) -> Option<Module> {
        let here: Module = if module == ["lib"] { Vec::new() } else { module.to_vec() };
        let mut base = [here, name.inside.clone()].concat();
        let mut rest = name.path.as_slice();
        match rest.first()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => return None,
        }
        if rest.first().is_some_and(|word| word == "crate" || word == "self") {
            rest = &rest[1..];
        }
        // A bare `self`, or `pub(crate)`: no import.
        if name.path.len() == 1 {
            return None;
        }
        let full = [base, rest.to_vec()].concat();
        let reached = self.files.values().filter(|module| full.starts_with(module));
        Some(reached.max_by_key(|module| module.len()).cloned().unwrap_or_else(|| vec!["lib".to_owned()]))
    }

    fn out_of_place(&self, tree: &Tree, table: &Table) -> Vec<Finding> {
        let mut findings = Vec::new();
        for row in &table.rows {
            let places: Vec<_> = items(table.cell(row, "only in")).collect();
            for place in &places {
                let known = self.entries.iter().any(|entry| entry.layer == *place || entry.module.join("/") == *place);
                if !known {
                    findings.push(Finding::new(PAGE, row.line, format!("`{place}` is neither a layer nor a module")));
                }
            }
            let patterns: Vec<Vec<_>> = items(table.cell(row, "name")).map(|name| name.split("::").collect()).collect();
            for (path, module) in &self.files {
                if self.entry(module).is_some_and(|entry| {
                    places.contains(&entry.layer) || places.contains(&entry.module.join("/").as_str())
                }) {
                    continue;
                }
                for name in tree.sources[*path].names.iter().filter(|name| !name.in_test) {
                    if patterns.iter().any(|pattern| matches(pattern, &name.path)) {
                        let what = format!(
                            "`{}` may stand in {} only ({PAGE}); ask that module for it",
                            name.path.join("::"),
                            places.join(", ")
                        );
                        findings.push(Finding::new(path, name.line, what));
                    }
                }
            }
        }
        findings
    }
}

/// `crates/glidepath/src/connection/h1.rs` is `connection`, `h1`; files of tests only are no modules.
fn module_of(path: &str) -> Option<Module> {
    let below = path.strip_prefix(LIBRARY)?.strip_suffix(".rs")?;
    let below = below.strip_suffix("/mod").unwrap_or(below);
    let module: Module = below.split('/').map(str::to_owned).collect();
    (!module.iter().any(|part| part == "tests")).then_some(module)
}

/// Whether the pattern's parts follow each other somewhere in the path; a `*` at its end stands for any ending.
fn matches(pattern: &[&str], path: &[String]) -> bool {
    let fits = |(wanted, word): (&&str, &String)| match wanted.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => wanted == word,
    };
    path.windows(pattern.len()).any(|part| pattern.iter().zip(part).all(fits))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, tree};
    use super::*;

    const LAYERED: &str = "\
| layer | modules | may import |
|---|---|---|
| words | phase, report | words |
| edges | signal, listener | words |
| wire | connection | words, edges |
| top | server, lib | words, edges, wire, top |

| name | only in | why |
|---|---|---|
| `SIG*`, `tokio::signal` | signal | the rest knows events |
| `Instant::now`, `.elapsed` | edges, top | the core is told the time |
";

    fn findings(changed: &[(&str, &str)]) -> Vec<String> {
        let mut files: BTreeMap<String, &str> = BTreeMap::from([("ARCHITECTURE.md".to_owned(), LAYERED)]);
        for module in ["phase", "report", "signal", "listener", "connection", "server", "lib"] {
            files.insert(format!("{LIBRARY}{module}.rs"), "");
        }
        for (module, text) in changed {
            files.insert(format!("{LIBRARY}{module}.rs"), text);
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        lines(&check(&tree(&files)))
    }

    #[test]
    fn imports_downward_pass() {
        let server = "use crate::{phase::Phase, listener, connection::h1::H1}; use super::signal;";
        assert_eq!(findings(&[("server", server), ("connection/h1", "use super::rest; use crate::phase;")]), [""; 0]);
    }

    #[test]
    fn an_upward_import_fails() {
        let expected = "crates/glidepath/src/phase.rs:2: `crate::server::Server` is in top, which words may not \
                        import; hand it in from above, or move it down";
        assert_eq!(findings(&[("phase", "\nuse crate::{report::Report, server::Server};")]), [expected]);
    }

    #[test]
    fn an_edge_does_not_import_another() {
        let found = findings(&[("listener", "fn f() { super::signal::wait() }")]);
        assert!(found[0].contains("`super::signal::wait` is in edges, which edges may not import"), "{found:?}");
    }

    #[test]
    fn a_way_through_the_root_is_named() {
        let found = findings(&[("phase", "use crate::Report;")]);
        assert!(found[0].ends_with("`crate::Report` goes through the crate's root; name its module"), "{found:?}");
    }

    #[test]
    fn tests_may_import_what_they_like() {
        assert_eq!(
            findings(&[("phase", "#[cfg(test)] mod tests { use crate::server::Server; use super::*; }")]),
            [""; 0]
        );
    }

    #[test]
    fn a_file_in_no_layer_fails() {
        let expected =
            "crates/glidepath/src/stray.rs:1: no layer lists `stray`; put it into the table of ARCHITECTURE.md";
        assert_eq!(findings(&[("stray", "")]), [expected]);
    }

    #[test]
    fn a_listed_file_that_is_gone_fails() {
        let found = lines(&check(&tree(&[("ARCHITECTURE.md", LAYERED)])));
        assert_eq!(found[0], "ARCHITECTURE.md:3: `phase` is listed, but there is no such file");
    }

    #[test]
    fn a_signal_number_stands_in_its_module_only() {
        assert_eq!(findings(&[("signal", "use tokio::signal::unix; const T: i32 = libc::SIGTERM;")]), [""; 0]);
        let found = findings(&[("server", "fn f() { tokio::signal::ctrl_c(); raise(SIGTERM) }")]);
        assert_eq!(found.len(), 2);
        assert!(found[1].contains("`SIGTERM` may stand in signal only"), "{found:?}");
    }

    #[test]
    fn the_core_does_not_read_the_clock() {
        assert_eq!(findings(&[("phase", "fn step(now: Instant) {}")]), [""; 0]);
        let found = findings(&[("phase", "fn step() { std::time::Instant::now(); began.elapsed() }")]);
        assert!(found[0].contains("`std::time::Instant::now` may stand in edges, top only"), "{found:?}");
        assert!(found[1].contains("`.elapsed`"), "{found:?}");
    }
}
