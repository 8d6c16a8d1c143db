//! The one place that judges.

use std::collections::BTreeMap;

use crate::case::Case;
use crate::model::{Outcome, Rate, Verdict};
use crate::seen::Seen;
use crate::stage::Trouble;

/// What a script gave.
pub(crate) type Played = Result<Vec<Seen>, Trouble>;

pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<String>,
    pub(crate) got: String,
    pub(crate) rate: Option<Rate>,
    pub(crate) outcomes: BTreeMap<Outcome, u32>,
}

/// The control goes first: where it is not as it should be, the same script with the signal says nothing.
pub(crate) fn judge(case: &Case, played: &Played, control: &Played) -> Judgement {
    let nothing = |verdict, reason: String| Judgement {
        verdict,
        reason: Some(reason),
        got: String::new(),
        rate: None,
        outcomes: BTreeMap::new(),
    };
    let (seen, without) = match (played, control) {
        (Err(Trouble::Skip(why)), _) | (_, Err(Trouble::Skip(why))) => return nothing(Verdict::Skipped, why.clone()),
        (_, Err(Trouble::Broken(why))) => return nothing(Verdict::Invalid, format!("without the signal: {why}")),
        (Err(Trouble::Broken(why)), _) => return nothing(Verdict::Invalid, why.clone()),
        (Ok(seen), Ok(without)) => (seen, without),
    };
    let rate = rate(seen, case.wants, case.bound);
    let outcomes = count(seen);
    // A server that closes behind each answer says so without the signal, too.
    let takes_both = [case.wants, case.control].iter().all(|outcomes| outcomes.contains(&Outcome::Answered))
        && case.wants.contains(&Outcome::ToldClose);
    let is_stated = |outcome| case.control.contains(&outcome) || (takes_both && outcome == Outcome::ToldClose);
    let as_stated = without.iter().all(|seen| is_stated(seen.outcome)) && !without.is_empty();
    let (verdict, reason) = if !as_stated {
        let wanted: Vec<_> = case.control.iter().map(ToString::to_string).collect();
        let got = words(without, case.control);
        (Verdict::Invalid, Some(format!("without the signal too it is not {}: {got}", wanted.join(" or "))))
    } else if rate.is_enough() {
        (Verdict::Pass, None)
    } else {
        (Verdict::Fail, None)
    };
    Judgement { verdict, reason, got: words(seen, case.wants), rate: (rate.of > 1).then_some(rate), outcomes }
}

fn rate(seen: &[Seen], wants: &[Outcome], bound: f64) -> Rate {
    let good = seen.iter().filter(|seen| wants.contains(&seen.outcome)).count();
    Rate { of: seen.len() as u32, good: good as u32, bound }
}

fn count(seen: &[Seen]) -> BTreeMap<Outcome, u32> {
    let mut outcomes = BTreeMap::new();
    for one in seen {
        *outcomes.entry(one.outcome).or_default() += 1;
    }
    outcomes
}

/// What differs from what was wanted comes first; of each outcome, the first one's words.
fn words(seen: &[Seen], wants: &[Outcome]) -> String {
    let mut kinds: Vec<_> = count(seen).into_iter().collect();
    kinds.sort_by_key(|(outcome, count)| (wants.contains(outcome), std::cmp::Reverse(*count)));
    let kinds = kinds.into_iter().map(|(outcome, count)| {
        let text = seen.iter().find(|one| one.outcome == outcome).map_or("", |one| &one.text);
        if seen.len() == 1 { text.to_owned() } else { format!("{count} of {}: {text}", seen.len()) }
    });
    kinds.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case =
        Case::must("a/b", "A-1", "").wants(&[Outcome::ToldClose]).control(&[Outcome::Answered]).repeats(1, 0.75);

    fn saw(outcomes: &[Outcome]) -> Played {
        Ok(outcomes.iter().map(|outcome| Seen::new(*outcome, outcome.to_string())).collect())
    }

    fn verdict(played: &[Outcome], control: &[Outcome]) -> Verdict {
        judge(&CASE, &saw(played), &saw(control)).verdict
    }

    #[test]
    fn a_server_that_closes_behind_each_answer_is_judged_where_that_makes_no_difference() {
        const EITHER: Case = CASE.wants(&[Outcome::Answered, Outcome::ToldClose]);
        let control = saw(&[Outcome::ToldClose]);
        assert_eq!(judge(&EITHER, &saw(&[Outcome::ToldClose]), &control).verdict, Verdict::Pass);
        assert_eq!(judge(&EITHER, &saw(&[Outcome::Lost]), &control).verdict, Verdict::Fail);
        assert_eq!(judge(&CASE, &saw(&[Outcome::ToldClose]), &control).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_control_that_goes_wrong_makes_it_invalid_whatever_the_signal_gave() {
        use Outcome::*;
        assert_eq!(verdict(&[ToldClose], &[Answered]), Verdict::Pass);
        assert_eq!(verdict(&[Reset], &[Answered]), Verdict::Fail);
        assert_eq!(verdict(&[ToldClose], &[Reset]), Verdict::Invalid);
        assert_eq!(verdict(&[Reset], &[Reset]), Verdict::Invalid);
        assert_eq!(verdict(&[ToldClose], &[]), Verdict::Invalid);
        let broken = Err(Trouble::Broken("no connection".into()));
        assert_eq!(judge(&CASE, &broken, &saw(&[Answered])).verdict, Verdict::Invalid);
        assert_eq!(judge(&CASE, &saw(&[Reset]), &broken).verdict, Verdict::Invalid);
    }

    #[test]
    fn a_script_that_saw_nothing_has_not_passed() {
        assert_eq!(verdict(&[], &[Outcome::Answered]), Verdict::Fail);
    }

    #[test]
    fn a_rate_decides_on_its_bound() {
        use Outcome::*;
        assert_eq!(verdict(&[ToldClose, ToldClose, ToldClose, Reset], &[Answered]), Verdict::Pass);
        assert_eq!(verdict(&[ToldClose, ToldClose, Reset, Reset], &[Answered]), Verdict::Fail);
        let judgement = judge(&CASE, &saw(&[ToldClose, Reset, ToldClose, Reset]), &saw(&[Answered]));
        assert_eq!(judgement.got, "2 of 4: reset; 2 of 4: told close");
        assert_eq!(judgement.rate, Some(Rate { of: 4, good: 2, bound: 0.75 }));
    }
}
