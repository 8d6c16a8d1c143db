//! The two ends of a restart in place: the process after this one, and the one before it.
//!
//! What they say goes over a pair of sockets, a line each way for each [`Word`]. The end of the file tells that the other one
//! is gone: neither lets go of its end as long as it lives.

use std::env;
use std::ffi::{CString, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as Pair;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use crate::handover::{Event, Reason, Said, Word};
use crate::inherited;
use crate::os;

/// How long a successor that has hung up may take to end, before it is ended.
const ENDS_BY_ITSELF: Duration = Duration::from_millis(500);

/// The variables of the process itself, which the next one must not take for its own.
const OWN: [&str; 8] = [
    inherited::PID,
    inherited::FDS,
    inherited::NAMES,
    inherited::RESTART,
    inherited::KEPT,
    inherited::GUARD,
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
];

/// A listener that goes on to the next process.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) name: String,
    pub(crate) socket: OwnedFd,
    /// A manager has it open, too.
    pub(crate) kept: bool,
}

/// What is executed again: found when the process begins, because paths, folders and links may be others later.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    folder: Option<PathBuf>,
}

impl Program {
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let running = env::current_exe()?;
        let args: Vec<_> = env::args_os().collect();
        let folder = env::current_dir().ok();
        // By the name it was called by, where that is this program: a link to the newest version leads to the next one.
        let called = args.first().and_then(|name| find(Path::new(name), folder.as_deref()));
        let path = called.filter(|path| is_same_file(path, &running)).unwrap_or(running);
        Ok(Self { path, args, folder })
    }

    /// The same, called by the same name.
    pub(crate) fn with_args(&self, args: &[OsString]) -> Self {
        let args = self.args.iter().take(1).chain(args).cloned().collect();
        Self { path: self.path.clone(), args, folder: self.folder.clone() }
    }
}

/// As a shell does.
fn find(name: &Path, folder: Option<&Path>) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return Some(folder?.join(name));
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|data| (data.dev(), data.ino())).ok();
    identity(a).is_some_and(|a| Some(a) == identity(b))
}

/// One end of the pair, and what has come of a line that is not whole.
#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Channel {
    /// More than any word needs.
    const LONGEST: usize = 64 << 10;

    fn new(pair: Pair) -> io::Result<Self> {
        pair.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(pair)?, unread: Vec::new() })
    }

    /// The next word; `None` at the end, and where what comes is none. Cancel safe.
    async fn heard(&mut self) -> Option<Said> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Said::parse(std::str::from_utf8(&line[..end]).ok()?);
            }
            if self.unread.len() > Self::LONGEST {
                return None;
            }
            self.stream.readable().await.ok()?;
            let mut piece = [0; 512];
            match self.stream.try_read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => self.unread.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return None,
            }
        }
    }

    /// There is always room for the few words that are ever said. To one who is gone nothing needs to be said.
    fn say(&self, said: &Said) {
        // Past the reactor, which may not have heard yet that there is room.
        let flags = rustix::net::SendFlags::empty();
        let _gone = rustix::net::send(&self.stream, format!("{said}\n").as_bytes(), flags);
    }
}

/// The process before this one, which waits for our word, and then drains.
#[derive(Debug)]
pub(crate) struct Predecessor(Channel);

impl Predecessor {
    pub(crate) fn new(channel: OwnedFd) -> io::Result<Self> {
        Channel::new(channel.into()).map(Self)
    }

    pub(crate) async fn event(&mut self) -> Event {
        self.0.heard().await.map_or(Event::PredecessorGone, |said| Event::PredecessorSaid(said.word))
    }

    /// `took`: which of the listeners this process has taken, by their places in the list.
    pub(crate) fn say(&self, word: Word, took: &[usize]) {
        self.0.say(&Said { word, took: (word == Word::Ready).then(|| took.to_vec()) });
    }
}

type Eventually<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The process after this one, from its start to its reaping.
pub(crate) struct Succession {
    state: State,
    until: Instant,
    within: Duration,
    /// Which listeners it took. All, unless it said.
    took: Option<Vec<usize>>,
    why: String,
}

enum State {
    Nobody,
    Starting(Eventually<io::Result<Successor>>),
    There(Successor),
    Ending(Eventually<String>),
}

struct Successor {
    child: Child,
    channel: Channel,
}

impl Drop for Successor {
    /// Nobody waits for it any more. Once the listeners are its own, it goes on.
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Succession {
    pub(crate) fn new() -> Self {
        Self { state: State::Nobody, until: Instant::now(), within: Duration::ZERO, took: None, why: String::new() }
    }

    /// Executes the program again, with these named listeners and, where PID 1 stays, with what that one listens on. It has so
    /// long.
    pub(crate) fn start(
        &mut self,
        program: &Program,
        listeners: Vec<Passed>,
        guard: Option<OwnedFd>,
        within: Duration,
    ) {
        let program = program.clone();
        self.within = within;
        self.until = Instant::now() + within;
        self.took = None;
        self.state = State::Starting(Box::pin(async move {
            // A fork copies the tables of the memory, and the new program is read from the disk.
            #[expect(clippy::disallowed_methods, reason = "short, and awaited")]
            let started = tokio::task::spawn_blocking(move || start(&program, listeners, guard)).await;
            started.map_err(io::Error::other)?
        }));
    }

    /// It can't even be tried.
    pub(crate) fn cannot_start(&mut self, why: impl Into<String>) {
        self.why = why.into();
        self.state = State::Starting(Box::pin(async { Err(ErrorKind::Other.into()) }));
    }

    /// What happens to it. Never, where nobody is there. Cancel safe.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Nobody => return std::future::pending().await,
                State::Starting(starting) => match starting.await {
                    Ok(successor) => self.state = State::There(successor),
                    Err(error) => {
                        if self.why.is_empty() {
                            self.why = format!("it cannot be executed: {error}");
                        }
                        self.state = State::Nobody;
                        return Event::SuccessorGone;
                    }
                },
                State::There(successor) => {
                    let said = tokio::select! {
                        said = successor.channel.heard() => said,
                        () = sleep_until(self.until) => return Event::TimeUp,
                    };
                    let Some(said) = said else { return Event::SuccessorGone };
                    if said.word == Word::Ready {
                        self.took = said.took;
                    }
                    return Event::SuccessorSaid(said.word);
                }
                State::Ending(ending) => {
                    self.why = ending.await;
                    self.state = State::Nobody;
                    return Event::Reaped;
                }
            }
        }
    }

    pub(crate) fn tell(&self, word: Word) {
        if let State::There(successor) = &self.state {
            successor.channel.say(&Said { word, took: None });
        }
    }

    /// Its process id, as long as this process is its parent.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.state {
            State::There(successor) => Some(successor.child.id()),
            State::Nobody | State::Starting(_) | State::Ending(_) => None,
        }
    }

    /// Whether it has taken the listener at this place of the list.
    pub(crate) fn took(&self, place: usize) -> bool {
        self.took.as_ref().is_none_or(|took| took.contains(&place))
    }

    /// Ends it; [`Event::Reaped`] follows, and then [`Succession::why`] is known.
    pub(crate) fn give_up(&mut self, reason: Reason) {
        let before = std::mem::replace(&mut self.state, State::Nobody);
        let why = std::mem::take(&mut self.why);
        let within = self.within;
        self.state = State::Ending(Box::pin(async move {
            let mut successor = match before {
                State::There(successor) => successor,
                State::Starting(starting) => match starting.await {
                    Ok(successor) => successor,
                    Err(_) => return why,
                },
                State::Nobody | State::Ending(_) => return why,
            };
            let waits = if reason == Reason::Gone { ENDS_BY_ITSELF } else { Duration::ZERO };
            #[expect(clippy::disallowed_methods, reason = "short, and awaited")]
            let ended = tokio::task::spawn_blocking(move || successor.end(waits)).await;
            match (reason, ended.ok().flatten()) {
                (Reason::TimeUp, _) => format!("it was not ready within {within:?}, and was killed"),
                (Reason::Stopped, _) => "this process was told to end, and the new one was killed".to_owned(),
                (Reason::Gone, Some(status)) => format!("it ended before it accepted, with {status}"),
                (Reason::Gone, None) => "it hung up before it accepted, and was killed".to_owned(),
            }
        }));
    }

    /// Why it was given up.
    pub(crate) fn why(&mut self) -> String {
        std::mem::take(&mut self.why)
    }

    /// The listeners are its own now: it is not ended with this process.
    pub(crate) fn hand_on(&mut self) -> Option<HandedOn> {
        match std::mem::replace(&mut self.state, State::Nobody) {
            State::There(successor) => Some(HandedOn(std::mem::ManuallyDrop::new(successor))),
            other => {
                self.state = other;
                None
            }
        }
    }
}

/// A successor that goes on by itself. Never dropped, so that this end of the channel stays open: by its end the successor
/// sees that this process is gone.
pub(crate) struct HandedOn(std::mem::ManuallyDrop<Successor>);

impl HandedOn {
    pub(crate) fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// The channel once more, so that another one than its owner can hang it up.
    pub(crate) fn channel(&self) -> io::Result<OwnedFd> {
        self.0.channel.stream.as_fd().try_clone_to_owned()
    }

    /// Ends when it does: how, and it is reaped.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        while self.0.channel.heard().await.is_some() {}
        let until = Instant::now() + ENDS_BY_ITSELF;
        loop {
            match self.0.child.try_wait() {
                Ok(None) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(10)).await,
                ended => return ended.ok().flatten(),
            }
        }
    }
}

impl Successor {
    /// Waits so long for its end, and then ends it; gives how it ended by itself.
    fn end(&mut self, waits: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + waits;
        while Instant::now() < until {
            match self.child.try_wait() {
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, which blocks nobody")]
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                ended => return ended.ok().flatten(),
            }
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        None
    }
}

/// Forks and executes. Whatever becomes of who waits for it, what it gives ends the process when it is dropped.
fn start(program: &Program, listeners: Vec<Passed>, guard: Option<OwnedFd>) -> io::Result<Successor> {
    let (ours, theirs) = Pair::pair()?;
    let channel = Channel::new(ours)?;
    let kept = listeners.iter().enumerate().filter(|(_, listener)| listener.kept).map(|(place, _)| place.to_string());
    let kept = kept.collect::<Vec<_>>().join(" ");
    let (names, mut descriptors): (Vec<_>, Vec<_>) =
        listeners.into_iter().map(|listener| (listener.name, listener.socket)).unzip();
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(io::Error::other(format!("a listener can't be called {name:?}: a colon or a control character")));
    }
    let count = i32::try_from(descriptors.len()).map_err(io::Error::other)?;
    let behind = inherited::FIRST + count;
    let guarded = guard.is_some().then(|| (behind + 1).to_string());
    descriptors.push(theirs.into());
    descriptors.extend(guard);
    let above = behind + 1 + i32::from(guarded.is_some());
    let mut env: Vec<_> = env::vars_os().filter(|(name, _)| !OWN.iter().any(|own| name == own)).collect();
    env.push((inherited::FDS.into(), count.to_string().into()));
    env.push((inherited::NAMES.into(), names.join(":").into()));
    env.push((inherited::RESTART.into(), behind.to_string().into()));
    env.push((inherited::KEPT.into(), kept.into()));
    env.extend(guarded.map(|number| (inherited::GUARD.into(), number.into())));
    let env = env.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(name)
    });
    let image = os::Image {
        path: c_string(program.path.clone().into_os_string())?,
        args: program.args.iter().cloned().map(c_string).collect::<io::Result<_>>()?,
        env: env.collect::<io::Result<_>>()?,
        pid_variable: inherited::PID,
        descriptors: out_of_the_way(&descriptors, above)?,
        first: inherited::FIRST,
    };
    let _held = hold_below(&descriptors, above)?;
    let mut command = Command::new(&program.path);
    if let Some(folder) = program.folder.as_ref().filter(|folder| folder.is_dir()) {
        command.current_dir(folder);
    }
    os::becomes(&mut command, image);
    let child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.path.display())))?;
    Ok(Successor { child, channel })
}

/// What can stand between the colons of `LISTEN_FDNAMES` (sd_listen_fds(3)).
fn is_name(name: &str) -> bool {
    name.len() < 256 && !name.chars().any(|c| c == ':' || c.is_control())
}

fn c_string(string: OsString) -> io::Result<CString> {
    Ok(CString::new(string.into_vec())?)
}

/// Copies with numbers that no copy in the new process gets, so that none replaces another one.
fn out_of_the_way(descriptors: &[OwnedFd], above: i32) -> io::Result<Vec<OwnedFd>> {
    descriptors.iter().map(|fd| Ok(rustix::io::fcntl_dupfd_cloexec(fd, above)?)).collect()
}

/// Takes the numbers that are still free below. Else the pipe by which `Command` hears of a failed execution could get one
/// of them, and be replaced by a listener.
fn hold_below(descriptors: &[OwnedFd], above: i32) -> io::Result<Vec<OwnedFd>> {
    use std::os::fd::AsRawFd;
    let mut held = Vec::new();
    let Some(any) = descriptors.last() else { return Ok(held) };
    loop {
        let one: OwnedFd = rustix::io::fcntl_dupfd_cloexec(any, inherited::FIRST)?;
        if one.as_raw_fd() >= above {
            return Ok(held);
        }
        held.push(one);
    }
}

impl std::fmt::Debug for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Succession").field("pid", &self.pid()).finish_non_exhaustive()
    }
}
