//! Two runs side by side: what got worse, what got better.

use std::collections::BTreeMap;

use crate::model::{Case, Run, Verdict};

/// A case whose verdict is not what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// As it was. None: it is new.
    pub before: Option<&'a Case>,
    /// As it is. None: it is gone.
    pub after: Option<&'a Case>,
    /// Which way.
    pub way: Way,
}

/// Which way a verdict went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It passed, and does no more, for whatever reason.
    Worse,
    /// It did not pass, and does now.
    Better,
    /// It did not pass before, and does not now, but otherwise.
    Other,
    /// It is in one run only.
    New,
}

/// What differs, the worst first. A case that one run did not play, because of `--only`, is no change for the worse.
pub fn changes<'a>(before: &'a Run, after: &'a Run) -> Vec<Change<'a>> {
    let old: BTreeMap<_, _> = before.cases.iter().map(|case| (case.id.as_str(), case)).collect();
    let new: BTreeMap<_, _> = after.cases.iter().map(|case| (case.id.as_str(), case)).collect();
    let mut changes = Vec::new();
    for case in &after.cases {
        let before = old.get(case.id.as_str()).copied();
        let way = match before.map(|before| before.verdict) {
            Some(verdict) if verdict == case.verdict => continue,
            Some(Verdict::Pass) => Way::Worse,
            Some(_) if case.verdict == Verdict::Pass => Way::Better,
            Some(_) => Way::Other,
            None => Way::New,
        };
        changes.push(Change { before, after: Some(case), way });
    }
    let gone = before.cases.iter().filter(|case| !new.contains_key(case.id.as_str()));
    changes.extend(gone.map(|case| Change { before: Some(case), after: None, way: Way::New }));
    changes.sort_by_key(|change| change.way);
    changes
}

/// Whether any case passed before and does not now.
pub fn is_worse(changes: &[Change<'_>]) -> bool {
    changes.iter().any(|change| change.way == Way::Worse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::tests::run_of;

    #[test]
    fn only_what_passed_can_get_worse() {
        let before =
            run_of(&[("a", Verdict::Pass), ("b", Verdict::Fail), ("c", Verdict::Pass), ("d", Verdict::Skipped)]);
        let after = run_of(&[("a", Verdict::Fail), ("b", Verdict::Pass), ("c", Verdict::Pass), ("d", Verdict::Fail)]);
        let changes = changes(&before, &after);
        let ways: Vec<_> =
            changes.iter().map(|change| (change.after.map(|case| case.id.as_str()), change.way)).collect();
        assert_eq!(ways, [(Some("a"), Way::Worse), (Some("b"), Way::Better), (Some("d"), Way::Other)]);
        assert!(is_worse(&changes));
    }

    #[test]
    fn what_is_skipped_now_has_got_worse_and_what_was_not_asked_for_has_not() {
        let before = run_of(&[("a", Verdict::Pass), ("b", Verdict::Pass)]);
        assert!(is_worse(&changes(&before, &run_of(&[("a", Verdict::Skipped)]))));
        assert!(!is_worse(&changes(&before, &run_of(&[("b", Verdict::Pass)]))));
        assert!(!is_worse(&changes(&before, &run_of(&[("c", Verdict::Fail)]))));
    }
}
