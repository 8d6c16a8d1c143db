//! A server as a process of its own: started with settings, signalled by its pid, ended within a bound, and never left behind.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{PATIENCE, fetch, sockets, tls, wait_until};

/// The connection and the request with which `Start::start` sees that a process serves.
pub(crate) const PROBE: u64 = 1;

/// How a process is to be started.
pub(crate) struct Start {
    program: PathBuf,
    wrapper: Vec<String>,
    settings: Vec<(&'static str, String)>,
    unread: bool,
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
        Start { program: built_example(name), wrapper: Vec::new(), settings: vec![("PORT", "0".into())], unread: false }
    }

    /// Another program, with its words.
    pub(crate) fn command(words: &[&str]) -> Self {
        let (last, first) = words.split_last().expect("a program");
        let wrapper = first.iter().map(ToString::to_string).collect();
        Start { program: last.into(), wrapper, settings: Vec::new(), unread: false }
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

    /// Starts it through the shell, which first does `preparation` and then becomes the program.
    pub(crate) fn after(self, preparation: &str) -> Self {
        let script = format!("{preparation}; exec \"$@\"");
        self.through(&["sh", "-c", &script, "sh"])
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
    pub(crate) fn launch(self) -> Process {
        let speaks_tls = self.speaks_tls();
        let mut words: Vec<OsString> = self.wrapper.iter().map(OsString::from).collect();
        words.push(self.program.into());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .envs(self.settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {words:?}: {error}"));
        if self.unread {
            drop((child.stdout.take(), child.stderr.take()));
        }
        Process {
            pid: Pid::from_child(&child),
            stdout: Captured::from(child.stdout.take()),
            stderr: Captured::from(child.stderr.take()),
            ended: watch_end(Pid::from_child(&child)),
            child,
            speaks_tls,
            address: None,
            started: Instant::now(),
        }
    }
}

/// Cargo builds the examples with the tests, beside them.
fn built_example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().find(|folder| folder.join("examples").is_dir());
    let program = profile.expect("the examples are built beside the tests").join("examples").join(name);
    assert!(program.is_file(), "{} is not there: `cargo build --examples` makes it", program.display());
    program
}

/// A running process. Dropping it kills it; a test that fails meanwhile says what the process had said.
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    speaks_tls: bool,
    address: Option<SocketAddr>,
    started: Instant,
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
        serde_json::from_str(line.unwrap_or_else(|| panic!("no report: {:?}", self.stdout))).expect("a report is JSON")
    }

    /// The report: the last line of standard output.
    #[track_caller]
    pub(crate) fn report(&self) -> serde_json::Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("no report, {error}: {:?}", self.stdout))
    }
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
        self.child.stdin.as_mut().expect("its input is a pipe")
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
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
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
        let Ok(at) = self.ended.recv_timeout(bound) else {
            panic!("still running {bound:?} later");
        };
        let status = self.child.wait().expect("it has ended");
        Exit { status, at, stdout: self.stdout.to_end(), stderr: self.stderr.to_end() }
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
        // It is reaped only here or in `exit_within`, so that the pid can't be another process's yet.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ended = self.child.kill();
            let _status = self.child.wait();
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
                let mut text = written.0.lock().expect("no reader panics");
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

    pub(crate) fn so_far(&self) -> String {
        self.text.0.lock().expect("no reader panics").lines.clone()
    }

    /// The whole of it, once the process has ended; what a grandchild might still write is not waited for.
    fn to_end(&self) -> String {
        let text = self.text.0.lock().expect("no reader panics");
        let (text, _) =
            self.text.1.wait_timeout_while(text, Duration::from_secs(2), |text| !text.ended).expect("no reader panics");
        text.lines.clone()
    }

    /// The line of this number, counted from one, as soon as it is whole.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, number: usize, bound: Duration) -> String {
        let text = self.text.0.lock().expect("no reader panics");
        let lacks = |text: &mut Text| text.lines.lines().count() < number && !text.ended;
        let (text, _) = self.text.1.wait_timeout_while(text, bound, lacks).expect("no reader panics");
        let line = text.lines.lines().nth(number - 1);
        line.unwrap_or_else(|| panic!("no line {number} within {bound:?}:\n{}", text.lines)).to_owned()
    }

    /// The first line that contains `words`, as soon as it is there.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let text = self.text.0.lock().expect("no reader panics");
        let (text, _) = self
            .text
            .1
            .wait_timeout_while(text, PATIENCE, |text| !text.lines.contains(words) && !text.ended)
            .expect("no reader panics");
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
