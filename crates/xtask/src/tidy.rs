//! The house rules that no compiler holds, checked on the text of the tree.
//!
//! The rules themselves are data: the layers and the names that may stand in one place only are the
//! tables of ARCHITECTURE.md, the promises are the tables of SPEC.md. Here is only how they are read.

mod layers;
mod markdown;
mod readme;
mod sources;
mod spec;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use tokens::Source;

/// Folders in which nothing is ours.
const FOREIGN: &[&str] = &["target", ".git", "node_modules"];

/// The tree in memory, so that the checks can be tested on trees that never were on a disk.
#[derive(Default)]
pub(crate) struct Tree {
    /// Text by path from the root, with `/` on every system.
    texts: BTreeMap<String, String>,
    /// Every Rust file, scanned once.
    sources: BTreeMap<String, Source>,
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    fails: bool,
}

/// What to do besides looking.
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// First write every test into the row of SPEC.md whose id it bears
    #[arg(long)]
    fill: bool,
}

/// Prints what is wrong; true when nothing is that must not be.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<bool> {
    let mut texts = BTreeMap::new();
    read(root, root, &mut texts)?;
    let (mut tree, mut findings) = Tree::new(texts);
    if let Some(page) = options.fill.then(|| spec::fill(&tree)).flatten() {
        fs::write(root.join(spec::PAGE), &page).with_context(|| format!("writing {}", spec::PAGE))?;
        tree.texts.insert(spec::PAGE.to_owned(), page);
    }
    for check in [layers::check, spec::check, readme::check, sources::check] {
        findings.extend(check(&tree));
    }
    let mut out = io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    let failures = findings.iter().filter(|finding| finding.fails).count();
    writeln!(out, "tidy: {failures} to mend, {} to think about", findings.len() - failures)?;
    Ok(failures == 0)
}

fn read(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if !FOREIGN.contains(&&*name) {
                read(root, &path, texts)?;
            }
        } else if name == "Cargo.toml" || name.ends_with(".rs") || name.ends_with(".md") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let below = path.strip_prefix(root).expect("it was found below the root");
            texts.insert(below.to_string_lossy().replace('\\', "/"), text);
        }
    }
    Ok(())
}

impl Tree {
    fn new(texts: BTreeMap<String, String>) -> (Self, Vec<Finding>) {
        let (mut sources, mut findings) = (BTreeMap::new(), Vec::new());
        for (path, text) in texts.iter().filter(|(path, _)| path.ends_with(".rs")) {
            match tokens::scan(text) {
                Ok(source) => drop(sources.insert(path.clone(), source)),
                Err(line) => findings.push(Finding::new(path, line, "this is not Rust; mend it first")),
            }
        }
        (Self { texts, sources }, findings)
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), fails: true }
    }

    /// Something to think about: printed, but no failure.
    fn hint(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { fails: false, ..Self::new(path, line, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.fails { "" } else { "hint: " };
        write!(f, "{}:{}: {word}{}", self.path, self.line, self.what)
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// A tree of these files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let texts = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let (tree, findings) = Tree::new(texts.collect());
        assert_eq!(findings, [], "a test's files are Rust");
        tree
    }

    /// The findings as printed, for comparing.
    pub(crate) fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }
}
