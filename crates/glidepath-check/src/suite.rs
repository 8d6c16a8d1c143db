//! Plays the cases: each with the signal and without, on servers of their own, several at a time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::Duration;

use thiserror::Error;

use crate::case::{Case, Need};
use crate::cases::SECTIONS;
use crate::clock::{now, since, waited_for_processors};
use crate::found::{Findings, Unfit, socket_path};
use crate::judge::{Judgement, Played, judge};
use crate::model::{self, Score, Timeline, Verdict};
use crate::ports::free_port;
use crate::record::Recorder;
use crate::server::{Server, Start, is_interrupted};
use crate::settings::{Grace, Settings, Tls, Variable, Work};
use crate::stage::{Stage, Trouble};

/// Why there are no verdicts.
#[derive(Debug, Error)]
pub enum RunError {
    /// The server is none that can be checked.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It lacks what it was said to have.
    #[error("the server does not offer what --must-offer asks for: {0}")]
    NotOffered(String),
    /// A pattern without a case.
    #[error("no case has an id that fits {0}; `glidepath-check list` names them all")]
    NoSuchCase(String),
    /// Ctrl-C.
    #[error("interrupted; every server that was started is ended")]
    Interrupted,
}

/// What there is to tell while it runs.
pub enum Progress<'a> {
    /// The server is looked at.
    Looking,
    /// So many cases will be played.
    Begins(usize),
    /// This one is being played.
    Playing(&'a str),
    /// This one is judged.
    Judged(&'a model::Case),
}

/// All of it.
pub fn run(settings: &Settings, tell: &(dyn Fn(Progress<'_>) + Sync)) -> Result<model::Run, RunError> {
    let began = now();
    let started = jiff::Timestamp::now();
    let wanted = wanted(settings)?;
    tell(Progress::Looking);
    let found = Findings::look(settings)
        .map_err(|unfit| if is_interrupted() { RunError::Interrupted } else { unfit.into() })?;
    must_offer(settings, &found)?;
    tell(Progress::Begins(wanted.len()));
    let mut cases = play_all(settings, &found, &wanted, tell);
    if is_interrupted() {
        return Err(RunError::Interrupted);
    }
    cases.sort_by_key(|(place, _)| *place);
    let cases: Vec<_> = cases.into_iter().map(|(_, case)| case).collect();
    Ok(model::Run {
        format: model::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: target(settings),
        started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        took_ms: since(began).as_secs_f64() * 1000.0,
        found: found.for_people(),
        score: Score::of(&cases),
        cases,
    })
}

fn target(settings: &Settings) -> model::Target {
    let path = |work: Work| settings.paths.get(&work).cloned().unwrap_or_default();
    model::Target {
        name: settings.name.clone(),
        command: settings.command.clone(),
        stop: settings.signal.words(),
        over_tls: settings.tls != Tls::No,
        paths: Work::ALL.iter().map(|(work, name, _)| ((*name).to_owned(), path(*work))).collect(),
    }
}

fn wanted(settings: &Settings) -> Result<Vec<(&'static str, &'static Case)>, RunError> {
    for pattern in settings.only.iter().chain(&settings.skip) {
        let fits = |case: &&Case| crate::settings::matches(pattern, case.id);
        if !SECTIONS.iter().flat_map(|section| section.cases).any(|case| fits(&case)) {
            return Err(RunError::NoSuchCase(pattern.clone()));
        }
    }
    let all = SECTIONS.iter().flat_map(|section| section.cases.iter().map(|case| (section.title, case)));
    Ok(all.filter(|(_, case)| settings.wants(case.id)).collect())
}

fn must_offer(settings: &Settings, found: &Findings) -> Result<(), RunError> {
    let lacking =
        settings.must_offer.iter().filter_map(|name| match Need::ALL.iter().find(|(_, known)| known == name) {
            Some((need, _)) => found.lacks(*need),
            None => Some(format!("{name}, which is not a thing that is looked for")),
        });
    let lacking: Vec<_> = lacking.collect();
    if lacking.is_empty() { Ok(()) } else { Err(RunError::NotOffered(lacking.join("; "))) }
}

type Place = usize;

fn play_all(
    settings: &Settings,
    found: &Findings,
    wanted: &[(&'static str, &'static Case)],
    tell: &(dyn Fn(Progress<'_>) + Sync),
) -> Vec<(Place, model::Case)> {
    let judged = Mutex::new(Vec::new());
    let play_one = |place: Place| {
        let (section, case) = wanted[place];
        tell(Progress::Playing(case.id));
        let case = play(settings, found, section, case);
        tell(Progress::Judged(&case));
        judged.lock().unwrap_or_else(PoisonError::into_inner).push((place, case));
    };
    // Where timing is critical, nothing else is to run; so those come last, one by one.
    let (alone, together): (Vec<Place>, Vec<Place>) = (0..wanted.len()).partition(|place| wanted[*place].1.alone);
    let queue = Mutex::new(VecDeque::from(together));
    let jobs = if settings.port.is_some() { 1 } else { settings.jobs.max(1) };
    scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(place) = next(&queue) {
                    play_one(place);
                }
            });
        }
    });
    alone.into_iter().take_while(|_| !is_interrupted()).for_each(play_one);
    judged.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn next(queue: &Mutex<VecDeque<Place>>) -> Option<Place> {
    if is_interrupted() {
        return None;
    }
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// One case: the script with the signal, as often as it repeats, and without.
fn play(settings: &Settings, found: &Findings, section: &str, case: &Case) -> model::Case {
    let began = now();
    let mut timeline = None;
    let mut control_timeline = None;
    let judgement = match cannot(settings, found, case) {
        Some(why) => Judgement {
            verdict: Verdict::Skipped,
            reason: Some(why),
            got: String::new(),
            rate: None,
            outcomes: Default::default(),
        },
        None => {
            let (control, drawn) = act_again(settings, found, case, true);
            control_timeline = Some(drawn);
            let mut seen = Ok(Vec::new());
            for _ in 0..case.repeat {
                let (played, drawn) = act_again(settings, found, case, false);
                // Of several, the one that shows what went wrong.
                let is_bad =
                    played.as_ref().map_or(true, |seen| seen.iter().any(|seen| !case.wants.contains(&seen.outcome)));
                if timeline.is_none() || is_bad {
                    timeline = Some(drawn);
                }
                seen = added(seen, played);
                if seen.is_err() {
                    break;
                }
            }
            judge(case, &seen, &control)
        }
    };
    let is_skipped = judgement.verdict == Verdict::Skipped;
    model::Case {
        id: case.id.to_owned(),
        promise: case.promise.to_owned(),
        section: section.to_owned(),
        title: case.title.to_owned(),
        quote: case.quote.to_owned(),
        level: case.level,
        verdict: judgement.verdict,
        reason: judgement.reason,
        expected: expected(case, judgement.rate),
        got: judgement.got,
        why: case.why.to_owned(),
        rate: judgement.rate,
        outcomes: judgement.outcomes,
        took_ms: since(began).as_secs_f64() * 1000.0,
        timeline: timeline.filter(|_| !is_skipped),
        control: control_timeline.filter(|_| !is_skipped),
    }
}

fn expected(case: &Case, rate: Option<model::Rate>) -> String {
    match rate {
        Some(rate) if rate.bound < 1.0 => {
            format!("{} (at least {:.0} % of {})", case.title, rate.bound * 100.0, rate.of)
        }
        Some(rate) => format!("{} (all of {})", case.title, rate.of),
        None => case.title.to_owned(),
    }
}

fn added(all: Played, more: Played) -> Played {
    let mut all = all?;
    all.extend(more?);
    Ok(all)
}

/// Why a case can't be played on this server.
fn cannot(settings: &Settings, found: &Findings, case: &Case) -> Option<String> {
    if let Some(why) = case.needs.iter().find_map(|need| found.lacks(*need)) {
        return Some(why);
    }
    if let Some(why) = case.lame_duck.and_then(|_| found.lacks(Need::LameDuck)) {
        return Some(why);
    }
    if case.grace.is_some() && settings.grace == Grace::None {
        return Some("needs a grace period, and there is none, as told".to_owned());
    }
    let (program, arguments) = case.wrapper.split_first()?;
    let mut trial = Command::new(program);
    trial.args(arguments).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let works = trial.status().is_ok_and(|status| status.success());
    (!works).then(|| format!("`{}` can't be used here", case.wrapper.join(" ")))
}

/// A script that could not be played, as the machine was too busy or a port was taken, has said nothing: it gets two more turns.
/// So does one that was not as wanted while nearly all the time somebody waited for a processor: bounds are for a machine that
/// has one to give. What is wrong with a server is so in its last turn, too.
fn act_again(settings: &Settings, found: &Findings, case: &Case, control: bool) -> (Played, Timeline) {
    let wanted = if control { case.control } else { case.wants };
    for _ in 0..2 {
        let (began, waited) = (now(), waited_for_processors());
        let (played, timeline) = act(settings, found, case, control);
        let again = match &played {
            Err(Trouble::Broken(_)) => true,
            Err(Trouble::Skip(_)) => false,
            Ok(seen) => seen.iter().any(|seen| !wanted.contains(&seen.outcome)) && was_starved(since(began), waited),
        };
        if !again || is_interrupted() {
            return (played, timeline);
        }
    }
    act(settings, found, case, control)
}

/// Whether somebody waited for a processor in nine tenths of this time.
fn was_starved(took: Duration, waited_before: Option<Duration>) -> bool {
    let waited = waited_for_processors().zip(waited_before).map(|(after, before)| after.saturating_sub(before));
    waited.is_some_and(|waited| waited > took.mul_f64(0.9))
}

/// The script once, on a server of its own.
fn act(settings: &Settings, found: &Findings, case: &Case, control: bool) -> (Played, Timeline) {
    let recorder = if control { Recorder::of_control(settings.verbose) } else { Recorder::new(settings.verbose) };
    let mut variables = case.variables();
    let grace = match (settings.grace, case.grace) {
        (Grace::Variable, Some(seconds)) => {
            variables.insert(Variable::Grace, seconds.to_string());
            Some(seconds)
        }
        (Grace::Fixed(seconds), _) => Some(seconds),
        (Grace::Variable | Grace::None, _) => None,
    };
    let wants_tls = case.needs.iter().any(|need| match need {
        Need::Tls | Need::TlsHttp2 => true,
        Need::Http2 => found.http2_over_tls,
        _ => false,
    });
    if wants_tls && settings.tls != Tls::Main {
        variables.insert(Variable::TlsPort, free_port().to_string());
    }
    if case.needs.contains(&Need::Unix) {
        variables.insert(Variable::Unix, socket_path().display().to_string());
    }
    if case.needs.contains(&Need::Admin) {
        variables.insert(Variable::AdminPort, free_port().to_string());
    }
    let wrapper = case.wrapper.iter().map(|word| (*word).to_owned()).collect();
    let start = Start { variables, wrapper, unread: case.unread, everywhere: true };
    let started = match case.unawaited {
        true => Server::launch(settings, &start, &recorder),
        false => Server::start(settings, &start, &recorder),
    };
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            let why = format!("it did not start: {error}");
            let trouble = if case.wrapper.is_empty() { Trouble::Broken(why) } else { Trouble::Skip(why) };
            return (Err(trouble), recorder.timeline());
        }
    };
    let mut stage = Stage::new(settings, found, server, &recorder, grace);
    let script = catch_unwind(AssertUnwindSafe(|| (case.script)(&mut stage)));
    let timeline = recorder.timeline();
    let played = match script {
        Ok(Ok(())) => stage.into_seen(),
        Ok(Err(trouble)) => Err(trouble),
        Err(_) => Err(Trouble::Broken("the check itself failed: its script panicked".to_owned())),
    };
    (played, timeline)
}
