//! The program: flags in, verdicts out.

mod cli;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Parser;
use clap::error::ErrorKind;
use glidepath_check::account::Account;
use glidepath_check::compare::{changes, is_worse};
use glidepath_check::model::{FORMAT, Run};
use glidepath_check::page::page;
use glidepath_check::suite::{self, Progress, RunError};
use glidepath_check::{StartError, Unfit, adopt_orphans, exit_code, explain, interrupt, show};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use cli::{Check, Cli, Task};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _gone = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked_for { exit_code::OK } else { exit_code::USAGE });
        }
    };
    let code = match cli.task {
        Some(Task::List) => told(explain::list(width(), anstream::stdout())),
        Some(Task::Explain { id }) => match explain::explain(&id, width()) {
            Some(text) => told(write!(anstream::stdout(), "{text}")),
            None => refused(
                exit_code::USAGE,
                &format!("{id} is neither a promise nor a case; `glidepath-check list` names them"),
            ),
        },
        Some(Task::Compare { before, after }) => compare(&before, &after),
        Some(Task::Report { file }) => account(&file),
        None => check(&cli.check),
    };
    ExitCode::from(code)
}

fn check(flags: &Check) -> u8 {
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return refused(exit_code::USAGE, &format!("{error:#}")),
    };
    // Before anything is started: what could not be read afterwards would cost a whole run.
    let baseline = match flags.baseline.as_deref().map(read).transpose() {
        Ok(baseline) => baseline,
        Err(error) => return refused(exit_code::FILE, &error),
    };
    adopt_orphans();
    end_on_signals();
    let bar = Bar::new();
    let run = suite::run(&settings, &|progress| bar.show(progress));
    bar.over();
    let run = match run {
        Ok(run) => run,
        Err(error) => return refused(code_of(&error), &error.to_string()),
    };
    if let Err(error) = show::terminal::write(&run, flags.verbose, width(), anstream::stdout()) {
        return refused(exit_code::FILE, &format!("standard output: {error}"));
    }
    if let Err(error) = write_files(flags, &run) {
        return refused(exit_code::FILE, &error);
    }
    match baseline {
        Some(baseline) => against(&baseline, &run),
        None => verdict(&run, flags.strict),
    }
}

fn verdict(run: &Run, strict: bool) -> u8 {
    let (must, should, all) = (run.score.must, run.score.should, run.score.all());
    if must.fail > 0 || (strict && should.fail > 0) {
        exit_code::FAILED
    } else if all.invalid > 0 {
        exit_code::INVALID
    } else {
        exit_code::OK
    }
}

fn write_files(flags: &Check, run: &Run) -> Result<(), String> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| format!("{} can't be written: {error}", path.display()))
    };
    if let Some(path) = &flags.json {
        let json = serde_json::to_string_pretty(run).map_err(|error| error.to_string())?;
        write(path, json + "\n")?;
    }
    if let Some(path) = &flags.junit {
        write(path, show::junit::xml(run, flags.strict).map_err(|error| error.to_string())?)?;
    }
    if let Some(path) = &flags.html {
        write(path, page(run).map_err(|error| error.to_string())?)?;
    }
    Ok(())
}

fn compare(before: &Path, after: &Path) -> u8 {
    match (read(before), read(after)) {
        (Ok(before), Ok(after)) => {
            let code = against(&before, &after);
            let scores = [&before, &after].map(show::terminal::score).join("\n");
            told(writeln!(anstream::stdout(), "{scores}")).max(code)
        }
        (Err(error), _) | (_, Err(error)) => refused(exit_code::FILE, &error),
    }
}

fn account(file: &Path) -> u8 {
    let text = match file.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        _ => fs::read_to_string(file),
    };
    let account = match text {
        Ok(text) => Account::find(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match account {
        Ok(account) => told(write!(anstream::stdout(), "{}", account.explain(width()))),
        Err(error) => refused(exit_code::FILE, &format!("{}: {error}", file.display())),
    }
}

fn against(before: &Run, after: &Run) -> u8 {
    let changes = changes(before, after);
    let _nobody_reads = show::terminal::write_changes(&changes, anstream::stdout());
    if is_worse(&changes) { exit_code::WORSE } else { exit_code::OK }
}

fn read(path: &Path) -> Result<Run, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let run: Run = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not a run that --json wrote: {error}", path.display()))?;
    match run.format {
        FORMAT => Ok(run),
        other => Err(format!("{} has the form {other}, and this version reads {FORMAT}", path.display())),
    }
}

fn code_of(error: &RunError) -> u8 {
    match error {
        RunError::Unfit(Unfit::WrongAnswer { .. }) => exit_code::WRONG_ANSWER,
        RunError::Unfit(Unfit::Start(start)) => match start {
            StartError::NotFound(_) => exit_code::NO_COMMAND,
            StartError::NotAllowed(_) => exit_code::NOT_ALLOWED,
            StartError::CannotStart(..) => exit_code::CANNOT_START,
            StartError::Died(_) => exit_code::DIED,
            StartError::NeverListened(_) => exit_code::NEVER_LISTENED,
            StartError::NeverAnswered(_) => exit_code::NEVER_ANSWERED,
            StartError::PortTaken(_) => exit_code::PORT_TAKEN,
            StartError::Interrupted => exit_code::INTERRUPTED,
        },
        RunError::NotOffered(_) => exit_code::NOT_OFFERED,
        RunError::NoSuchCase(_) => exit_code::USAGE,
        RunError::Interrupted => exit_code::INTERRUPTED,
    }
}

fn told(written: io::Result<()>) -> u8 {
    if written.is_ok() { exit_code::OK } else { exit_code::FILE }
}

fn refused(code: u8, why: &str) -> u8 {
    let _nobody_reads = writeln!(anstream::stderr(), "glidepath-check: {why}");
    code
}

fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
    columns.or(terminal.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)).unwrap_or(80)
}

/// Nothing is left running, also when the check itself is ended.
///
/// What is caught here is at its default in the servers, also where this process was started with it ignored, as scripts
/// do in the background (execve(2)).
fn end_on_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]) else { return };
    thread::spawn(move || {
        for _ in &mut signals {
            interrupt();
        }
    });
}

/// How far it is, where somebody looks.
struct Bar {
    bar: ProgressBar,
    playing: Mutex<Vec<String>>,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_message("looking at the server");
        Bar { bar, playing: Mutex::new(Vec::new()) }
    }

    fn show(&self, progress: Progress<'_>) {
        let mut playing = self.playing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match progress {
            Progress::Looking => self.bar.enable_steady_tick(std::time::Duration::from_millis(100)),
            Progress::Begins(count) => {
                self.bar.set_length(count as u64);
                if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}") {
                    self.bar.set_style(style);
                }
            }
            Progress::Playing(id) => playing.push(id.to_owned()),
            Progress::Judged(case) => {
                playing.retain(|id| *id != case.id);
                self.bar.inc(1);
            }
        }
        if !playing.is_empty() {
            self.bar.set_message(playing.join(" "));
        }
    }

    fn over(&self) {
        self.bar.finish_and_clear();
    }
}
