//! A server as a process of its own: started with settings, signalled by its pid, ended within a bound, and never left behind.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, set_child_subreaper, waitid, waitpid,
};

use super::terminal::Screen;
use super::{PATIENCE, fetch, sockets, tls, wait_until};

/// The connection and the request with which `Start::start` sees that a process serves.
pub(crate) const PROBE: u64 = 1;

/// How a process is to be started.
pub(crate) struct Start {
    program: PathBuf,
    wrapper: Vec<String>,
    settings: Vec<(&'static str, String)>,
    unread: bool,
    listener: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Start {
    /// The check target, on a port of its own choice.
    pub(crate) fn target() -> Self {
        let target = Self::example("target");
        if tls::is_for_all() { target.over_tls() } else { target }
    }

    /// Its address is the one where it speaks TLS, and clients that connect there do so, too.
    pub(crate) fn over_tls(self) -> Self {
        self.set("TLS_PORT", 0)
    }

    pub(crate) fn example(name: &str) -> Self {
        Start {
            program: built_example(name),
            wrapper: Vec::new(),
            settings: vec![("PORT", "0".into())],
            unread: false,
            listener: None,
            terminal: None,
        }
    }

    /// Another program, with its words.
    pub(crate) fn command(words: &[&str]) -> Self {
        let (last, first) = words.split_last().expect("a program");
        let wrapper = first.iter().map(ToString::to_string).collect();
        Start { program: last.into(), wrapper, settings: Vec::new(), unread: false, listener: None, terminal: None }
    }

    pub(crate) fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_string()));
        self
    }

    /// On this port, and not on one of its own choice.
    pub(crate) fn on(self, port: u16) -> Self {
        let speaks_tls = self.speaks_tls();
        self.set(if speaks_tls { "TLS_PORT" } else { "PORT" }, port)
    }

    fn speaks_tls(&self) -> bool {
        self.settings.iter().any(|(name, _)| *name == "TLS_PORT")
    }

    /// Starts it through another command, such as `env --ignore-signal=HUP`, which is given the program as its last word.
    pub(crate) fn through(mut self, command: &[&str]) -> Self {
        self.wrapper.extend(command.iter().map(ToString::to_string));
        self
    }

    /// As PID 1 of a process namespace of its own, as in a container. `None`: no such can be made here.
    pub(crate) fn in_namespace(self) -> Option<Self> {
        const NEW_NAMESPACE: [&str; 5] = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"];
        if !runs(&[&NEW_NAMESPACE[..], &["true"]].concat()) {
            skipped("unshare may not make a process namespace here");
            return None;
        }
        Some(self.through(&NEW_NAMESPACE))
    }

    /// Starts it through the shell, which first does `preparation` and then becomes the program.
    pub(crate) fn after(self, preparation: &str) -> Self {
        let script = format!("{preparation}; exec \"$@\"");
        self.through(&["sh", "-c", &script, "sh"])
    }

    /// Starts it as systemd does, with a copy of this listener under this name. It has no input then.
    pub(crate) fn inherits(mut self, name: &str, listener: &OwnedFd) -> Self {
        self.listener = Some(listener.try_clone().expect("a descriptor"));
        self.after(&format!("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}"))
    }

    /// On this terminal, which is its input and its standard error, and whose keys send it signals.
    pub(crate) fn on_terminal(mut self, screen: &mut Screen) -> Self {
        self.terminal = Some(screen.lend());
        self.wrapper.splice(0..0, ["setsid", "--ctty"].map(ToString::to_string));
        self.set("TERM", "xterm-256color").set("LANG", "C.UTF-8")
    }

    /// The program, and what it is set to, for a shell that starts it.
    pub(crate) fn in_words(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!("{name}={value} "));
        settings.collect::<String>() + &self.program.display().to_string()
    }

    /// Nobody reads its outputs: whatever it writes there fails.
    pub(crate) fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Starts it and waits until it serves: it has answered one request, which its report counts too (`PROBE`).
    pub(crate) fn start(self) -> Process {
        let mut process = self.launch();
        let mut address = process.says_address("listening on ");
        if process.speaks_tls {
            address = process.says_address("listening with TLS on ");
        }
        process.serves_on(address);
        process
    }

    /// Starts it and returns at once.
    #[expect(clippy::zombie_processes, reason = "`Process` waits for it, by its id")]
    pub(crate) fn launch(self) -> Process {
        // What a process of ours leaves behind comes to us, and not to init: the next one, after a restart.
        set_child_subreaper(Some(getpid())).expect("a process may adopt orphans");
        let speaks_tls = self.speaks_tls();
        let mut words: Vec<OsString> = self.wrapper.iter().map(OsString::from).collect();
        words.push(self.program.into());
        let (stdin, stderr) = match (self.terminal, self.listener) {
            (Some(terminal), _) => (terminal.try_clone().expect("a descriptor").into(), terminal.into()),
            (None, Some(listener)) => (listener.into(), Stdio::piped()),
            (None, None) => (Stdio::piped(), Stdio::piped()),
        };
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .envs(self.settings)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {words:?}: {error}"));
        if self.unread {
            drop((child.stdout.take(), child.stderr.take()));
        }
        // From here on it is known by its id, and reaped by that.
        let started = Pid::from_child(&child);
        Process {
            pid: started,
            started_pid: started,
            reaped: false,
            stdin: child.stdin.take(),
            stdout: Captured::from(child.stdout.take()),
            stderr: Captured::from(child.stderr.take()),
            ended: watch_end(started),
            speaks_tls,
            address: None,
            started: Instant::now(),
            reports: 0,
        }
    }
}

/// Cargo builds the examples with the tests, beside them.
pub(crate) fn built_example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().find(|folder| folder.join("examples").is_dir());
    let program = profile.expect("the examples are built beside the tests").join("examples").join(name);
    assert!(program.is_file(), "{} is not there: `cargo build --examples` makes it", program.display());
    program
}

/// A running process. Dropping it kills it; a test that fails meanwhile says what the process had said.
pub(crate) struct Process {
    /// Who gets the signals.
    pid: Pid,
    /// Our child.
    started_pid: Pid,
    reaped: bool,
    stdin: Option<ChildStdin>,
    speaks_tls: bool,
    address: Option<SocketAddr>,
    started: Instant,
    /// How many processes before it have told their end on the same output.
    reports: usize,
    ended: Receiver<Instant>,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
}

/// How a process ended, and what it had said by then.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) at: Instant,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}; its standard error:\n{}", self.status, self.stderr);
        self
    }

    /// The report, where more is printed after it.
    #[track_caller]
    pub(crate) fn report_among_lines(&self) -> serde_json::Value {
        let line = self.stdout.lines().find(|line| line.starts_with('{'));
        as_the_schema_says(line.unwrap_or_else(|| panic!("no report: {:?}", self.stdout)))
    }

    /// The report: the last line of standard output.
    #[track_caller]
    pub(crate) fn report(&self) -> serde_json::Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        as_the_schema_says(last)
    }
}

/// A report; whatever the end was, it is of the form that `report.schema.json` tells.
#[track_caller]
fn as_the_schema_says(line: &str) -> serde_json::Value {
    let report = serde_json::from_str(line).unwrap_or_else(|error| panic!("no report, {error}: {line:?}"));
    let schema = serde_json::from_str(include_str!("../../../report.schema.json")).expect("it is JSON");
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let wrong: Vec<_> = schema.iter_errors(&report).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}: {line}");
    report
}

impl Process {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("the address is known once it listens")
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// For one whose output can't say where it listens. Waits until it serves.
    pub(crate) fn listens_on(&mut self, address: SocketAddr) {
        wait_until("it listens", || sockets::is_listening(address));
        self.serves_on(address);
    }

    fn serves_on(&mut self, address: SocketAddr) {
        tls::is_spoken_on(address, self.speaks_tls);
        fetch(address, "/");
        self.address = Some(address);
    }

    /// Where its probes are answered, which is always in cleartext.
    pub(crate) fn admin(&self) -> SocketAddr {
        let address = self.says_address("admin on ");
        tls::is_spoken_on(address, false);
        address
    }

    #[track_caller]
    fn says_address(&self, words: &str) -> SocketAddr {
        let line = self.stderr.wait_for(words);
        let address = line.rsplit(' ').next().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().expect("its input is a pipe")
    }

    /// For one that was started as PID 1 and runs: signals go to it, and not to who has made the namespace.
    #[track_caller]
    pub(crate) fn signals_go_to_pid_1(&mut self) {
        let [inner] = self.children()[..] else { panic!("{:?}", self.children()) };
        self.signals_go_to(inner);
    }

    /// For one that runs under a wrapper which stays its parent.
    pub(crate) fn signals_go_to(&mut self, pid: Pid) {
        self.pid = pid;
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) -> Instant {
        let now = Instant::now();
        kill_process(self.pid, signal).unwrap_or_else(|error| panic!("can't send {signal:?}: {error}"));
        now
    }

    #[track_caller]
    pub(crate) fn terminate(&self) -> Instant {
        self.signal(Signal::TERM)
    }

    /// Stops it as SIGSTOP does, and returns once it stands still: what clients send now, it finds in one wake.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        wait_until("it is stopped", || matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_))));
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until no listener is left on its address, and says how long that took.
    #[track_caller]
    pub(crate) fn wait_for_seal(&self) -> Duration {
        let address = self.address();
        wait_until("its listener is closed", || !sockets::is_listening(address))
    }

    pub(crate) fn is_running(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::Pid(self.started_pid), options), Ok(None))
    }

    /// Ends it by SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn end(self) -> Exit {
        self.terminate();
        self.exit_within(PATIENCE)
    }

    #[track_caller]
    pub(crate) fn exit(self) -> Exit {
        self.exit_within(PATIENCE)
    }

    #[track_caller]
    pub(crate) fn exit_within(mut self, bound: Duration) -> Exit {
        let (status, at) = self.ended_within(bound);
        Exit { status, at, stdout: self.stdout.to_end(), stderr: self.stderr.to_end() }
    }

    #[track_caller]
    fn ended_within(&mut self, bound: Duration) -> (ExitStatus, Instant) {
        let Ok(at) = self.ended.recv_timeout(bound) else {
            panic!("still running {bound:?} later");
        };
        (self.reap().expect("our child"), at)
    }

    /// `None`: it was a child of another process, which has reaped it.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.reaped = true;
        let (_, status) = waitpid(Some(self.started_pid), WaitOptions::empty()).ok()??;
        Some(ExitStatus::from_raw(status.as_raw()))
    }

    /// Waits for its end in a restart: how it ended, with what both had said by then, and the process that took over.
    #[track_caller]
    pub(crate) fn replaced(self) -> (Exit, Process) {
        let (exit, next) = self.exit_or_replaced();
        let next = next.unwrap_or_else(|| panic!("nobody has taken over:\n{}", exit.stderr));
        (exit, next)
    }

    /// The same, where it may also have ended as others do.
    #[track_caller]
    pub(crate) fn exit_or_replaced(mut self) -> (Exit, Option<Process>) {
        let (status, at) = self.ended_within(PATIENCE);
        // Its last words are read once they are there; the end of its output is not, because the next one has it, too.
        let reports = |text: &str| text.lines().filter(|line| line.starts_with('{')).count();
        let text = self.stdout.wait_until(|text| reports(text) > self.reports);
        let line = text.lines().filter(|line| line.starts_with('{')).nth(self.reports).unwrap_or_default();
        let report: serde_json::Value = serde_json::from_str(line).expect("a report is JSON");
        let next = report["successor"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let exit = Exit { status, at, stdout: text, stderr: self.stderr.so_far() };
        let next = next.map(|next| self.next(next));
        (exit, next)
    }

    /// Once it has ended: the process that goes on for it, which is our child now.
    fn next(&mut self, pid: Pid) -> Process {
        Process {
            pid,
            started_pid: pid,
            reaped: false,
            stdin: self.stdin.take(),
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            ended: watch_end(pid),
            speaks_tls: self.speaks_tls,
            address: self.address,
            started: Instant::now(),
            reports: self.reports + 1,
        }
    }

    /// Waits for its end, and gives the child of it that goes on.
    #[track_caller]
    pub(crate) fn taken_over_by(mut self, pid: Pid) -> Process {
        self.ended_within(PATIENCE);
        self.next(pid)
    }

    /// One that took over, and that the test did not come to: since its parent has ended it is our child.
    fn end_the_next(&self) {
        let reports = self.stdout.so_far();
        let last = reports.lines().filter(|line| line.starts_with('{')).nth(self.reports);
        let report = last.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok()).unwrap_or_default();
        let next = report["successor"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if let Some(next) = next.filter(|next| waitid(WaitId::Pid(*next), options).is_ok()) {
            let _ended = kill_process(next, Signal::KILL);
            let _reaped = waitpid(Some(next), WaitOptions::empty());
        }
    }

    /// The processes that it has started and that run.
    pub(crate) fn children(&self) -> Vec<Pid> {
        children_of(self.started_pid)
    }

    /// CPU time used so far, in user and kernel mode. Linux only.
    pub(crate) fn cpu_time(&self) -> Duration {
        let pid = self.pid.as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is running");
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("a small number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is reaped only here or in `ended_within`, so that the pid can't be another process's yet.
        if !self.reaped {
            let left = self.children();
            let _ended = kill_process(self.started_pid, Signal::KILL);
            self.reap();
            // Ours now: a successor that was on its way. Whom a wrapper started dies with its parent or is not ours to see.
            for child in left {
                let _ended = kill_process(child, Signal::KILL);
                let _reaped = waitpid(Some(child), WaitOptions::empty());
            }
            self.end_the_next();
        }
        if thread::panicking() {
            eprintln!("--- the process, {:?} after its start", self.started.elapsed());
            eprintln!(
                "--- its standard error:\n{}--- its standard output:\n{}---",
                self.stderr.so_far(),
                self.stdout.so_far()
            );
        }
    }
}

/// Those that have ended and were not waited for, too.
pub(crate) fn children_of(pid: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let ids = children.flat_map(|ids| ids.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<i32>>());
    ids.filter_map(Pid::from_raw).collect()
}

/// Sees the end as it happens, and leaves the reaping to the owner of the child.
fn watch_end(pid: Pid) -> Receiver<Instant> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|error| error == Errno::INTR)
        {}
        let _nobody_waits = sender.send(Instant::now());
    });
    receiver
}

/// What a process wrote so far on one of its outputs.
#[derive(Clone)]
pub(crate) struct Captured {
    text: Arc<(Mutex<Text>, Condvar)>,
}

#[derive(Default)]
struct Text {
    lines: String,
    ended: bool,
}

impl Captured {
    fn from(output: Option<impl Read + Send + 'static>) -> Self {
        let nobody_reads = Text { ended: output.is_none(), ..Text::default() };
        let text = Arc::new((Mutex::new(nobody_reads), Condvar::new()));
        let Some(output) = output else { return Captured { text } };
        let written = Arc::clone(&text);
        let mut output = BufReader::new(output);
        thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                let read = output.read_until(b'\n', &mut line).unwrap_or(0);
                let mut text = written.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.ended = read == 0;
                text.lines.push_str(&String::from_utf8_lossy(&line));
                written.1.notify_all();
                if text.ended {
                    return;
                }
            }
        });
        Captured { text }
    }

    /// Also where a test has failed with it in its hand: what was said by then is to be told.
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn so_far(&self) -> String {
        self.lock().lines.clone()
    }

    /// The whole of it, once the process has ended; what a grandchild might still write is not waited for.
    fn to_end(&self) -> String {
        let text = self.lock();
        let (text, _) = self
            .text
            .1
            .wait_timeout_while(text, Duration::from_secs(2), |text| !text.ended)
            .unwrap_or_else(PoisonError::into_inner);
        text.lines.clone()
    }

    /// The line of this number, counted from one, as soon as it is whole.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, number: usize, bound: Duration) -> String {
        let text = self.lock();
        let lacks = |text: &mut Text| text.lines.lines().count() < number && !text.ended;
        let (text, _) = self.text.1.wait_timeout_while(text, bound, lacks).unwrap_or_else(PoisonError::into_inner);
        let line = text.lines.lines().nth(number - 1);
        line.unwrap_or_else(|| panic!("no line {number} within {bound:?}:\n{}", text.lines)).to_owned()
    }

    /// All of it, as soon as it is as it should be.
    #[track_caller]
    pub(crate) fn wait_until(&self, is_so: impl Fn(&str) -> bool) -> String {
        let text = self.lock();
        let lacks = |text: &mut Text| !is_so(&text.lines) && !text.ended;
        let (text, _) = self.text.1.wait_timeout_while(text, PATIENCE, lacks).unwrap_or_else(PoisonError::into_inner);
        assert!(is_so(&text.lines), "this never came to be what was waited for:\n{}", text.lines);
        text.lines.clone()
    }

    /// The first line that contains `words`, as soon as it is there.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let text = self.lock();
        let (text, _) = self
            .text
            .1
            .wait_timeout_while(text, PATIENCE, |text| !text.lines.contains(words) && !text.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let line = text.lines.lines().find(|line| line.contains(words));
        line.unwrap_or_else(|| panic!("no line with {words:?} in:\n{}", text.lines)).to_owned()
    }
}

/// Says on the test's output that a check could not be made here, and why. Where nothing may be skipped, that is a failure.
pub(crate) fn skipped(why: &str) {
    assert!(env::var_os("SKIP_NOTHING").is_none(), "skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Whether this command can be run here, and succeeds.
pub(crate) fn runs(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|output| output.status.success())
}
