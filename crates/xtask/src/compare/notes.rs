//! What was done by hand to confirm a failing verdict: `verdicts.toml` beside a peer's `peer.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use glidepath_check::settings::matches;
use serde::Deserialize;

/// All notes of a peer.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notes {
    #[serde(default)]
    confirmed: Vec<Confirmed>,
}

/// One cause, and the verdicts that it explains.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmed {
    /// With which settings; absent: with all.
    variant: Option<String>,
    /// The cases' ids; `*` stands for anything.
    cases: Vec<String>,
    /// How it was seen.
    pub(super) by: By,
    /// What was seen, and where.
    pub(super) note: String,
}

/// How a verdict was confirmed.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Documentation,
    Source,
    Capture,
    Trace,
}

impl By {
    pub(super) fn word(self) -> &'static str {
        match self {
            By::Documentation => "documentation",
            By::Source => "source",
            By::Capture => "packet capture",
            By::Trace => "system calls",
        }
    }
}

impl Notes {
    /// Those in this folder; none where there is no file.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("verdicts.toml");
        if !path.exists() {
            return Ok(Self::default());
        }
        let notes: Self =
            toml::from_str(&fs::read_to_string(&path)?).with_context(|| format!("in {}", path.display()))?;
        for confirmed in &notes.confirmed {
            let of = || format!("in {}, a note for {:?}", path.display(), confirmed.cases);
            ensure!(!confirmed.cases.is_empty() && !confirmed.note.trim().is_empty(), "{} is empty", of());
            let known = confirmed.variant.as_deref().is_none_or(|variant| ["best", "defaults"].contains(&variant));
            ensure!(known, "{}: a variant is best or defaults", of());
        }
        Ok(notes)
    }

    /// The first that explains this case.
    pub(super) fn of(&self, variant: &str, case: &str) -> Option<&Confirmed> {
        self.confirmed.iter().find(|confirmed| {
            confirmed.is_about(variant) && confirmed.cases.iter().any(|pattern| matches(pattern, case))
        })
    }

    /// Patterns that explain none of these failing cases.
    pub(super) fn stale<'a>(&'a self, variant: &'a str, failing: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let about = self.confirmed.iter().filter(move |confirmed| confirmed.variant.as_deref() == Some(variant));
        about
            .flat_map(|confirmed| &confirmed.cases)
            .filter(|pattern| !failing.iter().any(|case| matches(pattern, case)))
            .map(String::as_str)
    }
}

impl Confirmed {
    fn is_about(&self, variant: &str) -> bool {
        self.variant.as_deref().is_none_or(|own| own == variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        toml::from_str(
            "[[confirmed]]\nvariant = 'best'\ncases = ['idle/a', 'ws/*']\nby = 'source'\nnote = 'one'\n\
             [[confirmed]]\ncases = ['idle/*']\nby = 'trace'\nnote = 'two'\n",
        )
        .expect("they are notes")
    }

    #[test]
    fn the_first_note_that_fits_explains_a_case() {
        let notes = notes();
        let note = |variant, case| notes.of(variant, case).map(|confirmed| confirmed.note.as_str());
        assert_eq!(note("best", "idle/a"), Some("one"));
        assert_eq!(note("defaults", "idle/a"), Some("two"));
        assert_eq!(note("best", "ws/close"), Some("one"));
        assert_eq!(note("defaults", "ws/close"), None);
    }

    #[test]
    fn a_note_for_what_does_not_fail_is_stale() {
        let notes = notes();
        assert_eq!(notes.stale("best", &["idle/a"]).collect::<Vec<_>>(), ["ws/*"]);
        assert!(notes.stale("defaults", &[]).next().is_none());
    }
}
