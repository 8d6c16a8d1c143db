//! The server under check: started in a process group of its own, signalled by its process id, and never left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, prlimit,
    set_child_subreaper, waitid,
};
use thiserror::Error;

use crate::clock::{ms, now, pause, since, wait_until};
use crate::ports::free_port;
use crate::record::Recorder;
use crate::settings::{Settings, Stop, Tls, Variable, Whom, Work, signal_name};
use crate::wire::http1::{Client, Missing};
use crate::wire::{Address, End, Wire, kernel};

/// Set for the server and so for all that it starts: what left its process group is still found by it.
const MARK: &str = "GLIDEPATH_CHECK_CASE";

/// Why a server did not come up.
#[derive(Debug, Error)]
pub enum StartError {
    /// No such program.
    #[error("there is no command `{0}`: no such file, and nothing by that name in PATH")]
    NotFound(String),
    /// Not allowed.
    #[error("`{0}` may not be started: permission denied; is it a program, and executable?")]
    NotAllowed(String),
    /// Some other trouble.
    #[error("`{0}` can't be started: {1}")]
    CannotStart(String, std::io::Error),
    /// It ended before it answered: how, and what it said last.
    #[error("{0}")]
    Died(String),
    /// Nobody listens: where, after how long, and what it said last.
    #[error("{0}")]
    NeverListened(String),
    /// It accepts connections, and no answer comes: what came instead, and what it said last.
    #[error("{0}")]
    NeverAnswered(String),
    /// Someone else listens there.
    #[error("port {0} is taken already: something listens there before the server was started")]
    PortTaken(u16),
    /// The check was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// How one server is to be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    pub(crate) variables: BTreeMap<Variable, String>,
    /// Another command, which is given the server's as its last words.
    pub(crate) wrapper: Vec<String>,
    /// Nobody reads what it writes.
    pub(crate) unread: bool,
    /// It is known to listen everywhere that it was told to: that is waited for, too.
    pub(crate) everywhere: bool,
}

/// It answers, and may still be about to install its handlers: a signal that comes that early is a case of its own.
const SETTLED: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    child: Child,
    pid: Pid,
    /// Who gets the signals; the server itself, where a wrapper stays its parent.
    target: Pid,
    mark: String,
    pub(crate) address: Address,
    pub(crate) main: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) unix: Option<PathBuf>,
    ended: Arc<(Mutex<Option<Exit>>, Condvar)>,
    lines: Arc<Mutex<Vec<String>>>,
    recorder: Recorder,
    /// What it was started with, for the command that ends it.
    environment: Vec<(String, String)>,
    stop: Stop,
    stop_failed: Arc<Mutex<Option<String>>>,
    to: Whom,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) at: Instant,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

impl Exit {
    /// `with exit code 1`
    pub(crate) fn words(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "in an unknown way".to_owned(),
        }
    }
}

// === All that run ===

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every server, and lets none start from now on: scripts fail and come to their ends.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _gone = kill_process_group(*group, Signal::KILL);
    }
}

/// Whether the check was told to stop.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Makes orphans of servers come to us, so that they are found and ended.
pub fn adopt_orphans() {
    // Where this is not to be had, process groups still do for most.
    let _unknown_here = set_child_subreaper(Some(rustix::process::getpid()));
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start(settings: &Settings, start: &Start, recorder: &Recorder) -> Result<Self, StartError> {
        for _ in 0..2 {
            match Self::start_once(settings, start, recorder) {
                // It is known to come up: someone else may have taken its port in that moment.
                Err(StartError::Died(_)) if start.everywhere && settings.port.is_none() => {}
                started => return started,
            }
        }
        Self::start_once(settings, start, recorder)
    }

    fn start_once(settings: &Settings, start: &Start, recorder: &Recorder) -> Result<Self, StartError> {
        let mut server = Self::launch(settings, start, recorder)?;
        server.wait_until_it_answers(settings)?;
        if start.everywhere {
            wait_until(settings.start, || server.listens_everywhere());
        }
        pause(SETTLED);
        Ok(server)
    }

    /// Starts it and returns at once.
    pub(crate) fn launch(settings: &Settings, start: &Start, recorder: &Recorder) -> Result<Self, StartError> {
        if is_interrupted() {
            return Err(StartError::Interrupted);
        }
        let port = match settings.port {
            Some(port) => port,
            None => free_port(),
        };
        let main = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // The server before may take a moment to let go of it.
        if settings.port.is_some() && !wait_until(ms(2000), || !is_taken(main)) {
            return Err(StartError::PortTaken(port));
        }
        let mut variables = start.variables.clone();
        variables.insert(Variable::Port, port.to_string());
        if settings.tls == Tls::Second {
            variables.entry(Variable::TlsPort).or_insert_with(|| free_port().to_string());
        }
        let at = |variable| {
            let port = variables.get(&variable)?.parse().ok()?;
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let tls = if settings.tls == Tls::Main { Some(main) } else { at(Variable::TlsPort) };
        let address = match (settings.tls, tls) {
            (Tls::Main | Tls::Second, Some(tls)) => Address::Tls(tls),
            _ => Address::Tcp(main),
        };
        let fill = |word: &String| {
            let placeholder = |variable: Variable| match variable {
                Variable::Port => "{port}",
                Variable::TlsPort => "{tls-port}",
                Variable::Unix => "{unix}",
                Variable::AdminPort => "{admin-port}",
                Variable::Grace => "{grace}",
                Variable::LameDuck => "{lame-duck}",
                Variable::Restart => "{restart}",
            };
            variables.iter().fold(word.clone(), |word, (variable, value)| word.replace(placeholder(*variable), value))
        };
        let words: Vec<_> = start.wrapper.iter().cloned().chain(settings.command.iter().map(fill)).collect();
        let mark = next_mark();
        let output = || Stdio::piped();
        let named = variables.iter().map(|(variable, value)| (settings.names[variable].clone(), value.clone()));
        let environment: Vec<_> = settings.env.iter().cloned().chain(named).collect();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(environment.iter().cloned())
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => StartError::NotFound(words[0].clone()),
            ErrorKind::PermissionDenied => StartError::NotAllowed(words[0].clone()),
            _ => StartError::CannotStart(words[0].clone(), error),
        })?;
        let pid = Pid::from_child(&child);
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
        let lines = Arc::new(Mutex::new(Vec::new()));
        if start.unread {
            drop((child.stdout.take(), child.stderr.take()));
        }
        listen_to(child.stdout.take(), &lines, recorder);
        listen_to(child.stderr.take(), &lines, recorder);
        Ok(Server {
            child,
            pid,
            target: pid,
            mark,
            address,
            main,
            tls,
            admin: at(Variable::AdminPort),
            unix: variables.get(&Variable::Unix).map(PathBuf::from),
            ended: watch(pid, recorder),
            lines,
            recorder: recorder.clone(),
            environment,
            stop: settings.signal.clone(),
            stop_failed: Arc::default(),
            to: settings.to,
        })
    }

    fn wait_until_it_answers(&mut self, settings: &Settings) -> Result<(), StartError> {
        let began = now();
        let path = settings.path(Work::Quick, 0, 0);
        // What is asked here is no part of any script.
        let aside = Recorder::new(false);
        let mut what = None;
        loop {
            if let Some(exit) = self.ended() {
                // Its last words may still be on their way.
                pause(ms(30));
                let (name, how, said) = (&settings.command[0], exit.words(), self.last_words());
                return Err(StartError::Died(format!("`{name}` ended {how} before it answered anything{said}")));
            }
            if is_interrupted() {
                return Err(StartError::Interrupted);
            }
            if let Ok(wire) = Wire::open(&self.address, &aside) {
                let mut client = Client::new(wire, &settings.headers_text());
                client.get(&path);
                match client.answer(settings.start.saturating_sub(since(began)).max(ms(50))) {
                    // If it has ended, it was someone else who answered.
                    Ok(_) if self.ended().is_none() => return Ok(()),
                    Ok(_) => {}
                    Err(Missing::Nothing(End::Silence)) => what = Some("nothing came"),
                    Err(Missing::Part(End::Silence)) => what = Some("an answer began and did not end"),
                    Err(Missing::Nothing(_)) => what = Some("it closed the connection without an answer"),
                    Err(Missing::Part(_)) => what = Some("it closed the connection in the middle of the answer"),
                    Err(Missing::Garbled) => what = Some("what came is not HTTP"),
                }
            }
            let waited = settings.start;
            if since(began) > waited {
                let (name, address, said) = (&settings.command[0], self.address_text(), self.last_words());
                return Err(match what {
                    None => StartError::NeverListened(format!(
                        "`{name}` runs, but nothing listens on {address} after {waited:?}; it must heed the variable {}, \
                         or say its port with --port{said}",
                        settings.names[&Variable::Port]
                    )),
                    Some(what) => StartError::NeverAnswered(format!(
                        "`{name}` accepts connections on {address}, but did not answer GET {path} within {waited:?}: \
                         {what}{said}"
                    )),
                });
            }
            pause(ms(10));
        }
    }

    fn listens_everywhere(&self) -> bool {
        let tcp = self.tls.iter().chain(&self.admin);
        tcp.copied().all(|address| kernel::is_listening(address) != Some(false))
            && self.unix.as_ref().is_none_or(|path| path.exists())
    }

    fn address_text(&self) -> String {
        match &self.address {
            Address::Tcp(address) | Address::Tls(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    fn last_words(&self) -> String {
        let lines = self.recorder.log();
        if lines.is_empty() {
            return String::new();
        }
        let last = &lines[lines.len().saturating_sub(5)..];
        format!("; its last words:\n    {}", last.join("\n    "))
    }

    /// For one that runs under a wrapper which stays its parent: signals go to its only child from now on.
    pub(crate) fn signal_the_child(&mut self) -> bool {
        let pid = self.pid.as_raw_nonzero();
        let only_child = || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)
        };
        let found = wait_until(ms(1000), || only_child().is_some());
        self.target = only_child().unwrap_or(self.target);
        found
    }

    /// Tells it to end, as the settings say.
    pub(crate) fn tell_to_end(&self) -> Result<String, String> {
        match &self.stop {
            Stop::Signal(signal) => self.signal(*signal),
            Stop::Command(command) => {
                self.recorder.signal(now(), command);
                let mut child = Command::new("sh")
                    .args(["-c", command])
                    .envs(self.environment.iter().cloned())
                    .env("PID", self.target.as_raw_nonzero().to_string())
                    .env("PORT", self.main.port().to_string())
                    .env(MARK, &self.mark)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(|error| format!("the stop command `{command}` can't be run: {error}"))?;
                // It may last as long as the end itself, and talk to a server that stands still for a while.
                let (command, failed, ended) =
                    (command.clone(), Arc::clone(&self.stop_failed), Arc::clone(&self.ended));
                thread::spawn(move || {
                    let status = child.wait();
                    if ended.0.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                        return;
                    }
                    let failure = match status {
                        Ok(status) if status.success() => return,
                        Ok(status) => format!("the stop command `{command}` failed: {status}"),
                        Err(error) => format!("the stop command `{command}` can't be waited for: {error}"),
                    };
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                });
                Ok(self.stop.words())
            }
        }
    }

    /// What went wrong with the stop command, as far as it is over.
    pub(crate) fn stop_failed(&self) -> Option<String> {
        self.stop_failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<String, String> {
        let name = signal_name(signal);
        self.recorder.signal(now(), &name);
        let sent = match self.to {
            Whom::Process => kill_process(self.target, signal),
            Whom::Group => kill_process_group(self.pid, signal),
        };
        sent.map_err(|error| format!("{name} can't be sent: {error}"))?;
        Ok(name)
    }

    /// Stops all of it where it stands: what clients send now, it finds in one wake.
    pub(crate) fn freeze(&self) {
        let _gone = kill_process_group(self.pid, Signal::STOP);
        let stands = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.target.as_raw_nonzero())).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['T', 't', 'Z']))
        };
        wait_until(ms(1000), stands);
        pause(ms(20));
    }

    pub(crate) fn thaw(&self) {
        let _gone = kill_process_group(self.pid, Signal::CONT);
    }

    /// Who is there of those that it has started, once it has ended itself: in a restart, who goes on for it.
    pub(crate) fn left_behind(&self) -> Vec<Pid> {
        let mut left = left_behind(&self.mark, self.pid);
        left.retain(|pid| *pid != self.pid && !is_dead(*pid));
        left
    }

    pub(crate) fn ended(&self) -> Option<Exit> {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end.
    pub(crate) fn ended_by(&self, until: Instant) -> Option<Exit> {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(now());
        let (ended, _) =
            self.ended.1.wait_timeout_while(ended, left, |exit| exit.is_none()).unwrap_or_else(PoisonError::into_inner);
        *ended
    }

    /// Whether it wrote such a line.
    pub(crate) fn said(&self, words: &str) -> bool {
        self.said_since(0, words)
    }

    /// So many lines it has written so far.
    pub(crate) fn lines(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether such a line came after so many others.
    pub(crate) fn said_since(&self, lines: usize, words: &str) -> bool {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(lines).any(|line| line.contains(words))
    }

    /// The signal that comes would leave a file in the server's folder, where its limits let it.
    pub(crate) fn leaves_no_core(&self) {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        let _gone = prlimit(Some(self.target), Resource::Core, none);
    }
}

impl Drop for Server {
    /// It is reaped here and nowhere else, so that its ids can't be anyone else's yet.
    fn drop(&mut self) {
        let _gone = kill_process_group(self.pid, Signal::KILL);
        let _status = self.child.wait();
        for _ in 0..5 {
            let left = left_behind(&self.mark, self.pid);
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _gone = kill_process(pid, Signal::KILL);
                let _reaped = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            }
        }
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|pid| *pid != self.pid);
        if let Some(path) = &self.unix {
            let _removed_by_itself = fs::remove_file(path);
        }
    }
}

/// Our own children that this server started, in its group or out of it.
fn left_behind(mark: &str, group: Pid) -> Vec<Pid> {
    let us = rustix::process::getpid().as_raw_nonzero().to_string();
    let group = group.as_raw_nonzero().to_string();
    let marked = format!("{MARK}={mark}");
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name: state, parent, group.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(1);
        let is_child = fields.next() == Some(us.as_str());
        let in_group = fields.next() == Some(group.as_str());
        let is_marked = || {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == marked.as_bytes())
        };
        is_child && (in_group || is_marked())
    });
    ours.filter_map(Pid::from_raw).collect()
}

/// Ended, and not reaped yet.
fn is_dead(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']))
}

fn next_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn listen_to(output: Option<impl Read + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>, recorder: &Recorder) {
    let Some(output) = output else { return };
    let (lines, recorder) = (Arc::clone(lines), recorder.clone());
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            recorder.line(now(), &text);
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            // A server that floods its log is not to take our memory.
            if lines.len() < 10_000 {
                lines.push(text);
            }
            line.clear();
        }
    });
}

/// Sees the end as it happens, and leaves the reaping to the owner of the child.
fn watch(pid: Pid, recorder: &Recorder) -> Arc<(Mutex<Option<Exit>>, Condvar)> {
    let ended = Arc::new((Mutex::new(None), Condvar::new()));
    let (tell, recorder) = (Arc::clone(&ended), recorder.clone());
    thread::spawn(move || {
        let status = loop {
            match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(status) => break status,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break None,
            }
        };
        let at = now();
        let code = status.as_ref().and_then(WaitIdStatus::exit_status);
        let signal = status.as_ref().and_then(WaitIdStatus::terminating_signal);
        recorder.exit(at, code, signal);
        *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Exit { at, code, signal });
        tell.1.notify_all();
    });
    ended
}
