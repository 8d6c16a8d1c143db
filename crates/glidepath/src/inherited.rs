//! Sockets that were open before this program began: from the process before it, or from a manager such as systemd.
//!
//! Both use the convention of sd_listen_fds(3): `LISTEN_FDS` descriptors from 3 on, named by `LISTEN_FDNAMES`, for the
//! process `LISTEN_PID` and nobody else. A restart adds [`RESTART`], the number of the descriptor behind them, on which old
//! and new process talk, and [`KEPT`], which of them a manager keeps open as well. Without a restart a manager keeps them all.
//! Where PID 1 stays as the guardian of those that come after it, [`GUARD`] is the number of the last descriptor, on which it
//! hears who serves.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::sockopt;

use crate::os;

pub(crate) const PID: &str = "LISTEN_PID";
pub(crate) const FDS: &str = "LISTEN_FDS";
pub(crate) const NAMES: &str = "LISTEN_FDNAMES";
/// Not of systemd's convention: by it a process knows that another one waits for its word.
pub(crate) const RESTART: &str = "GLIDEPATH_RESTART";
/// The places of the listeners that a manager has open, too.
pub(crate) const KEPT: &str = "GLIDEPATH_KEPT";
/// By it a process knows that PID 1 follows who serves.
pub(crate) const GUARD: &str = "GLIDEPATH_GUARD";

/// The first descriptor that is passed.
pub(crate) const FIRST: i32 = 3;

/// More would not fit the limits of most systems; a number that is larger is a mistake.
const MOST: usize = 4096;

/// What systemd calls a socket that nobody has named.
const UNKNOWN: &str = "unknown";

/// The variables, as far as they are set.
#[derive(Debug, Default, Clone)]
pub(crate) struct Variables {
    pub(crate) pid: Option<OsString>,
    pub(crate) fds: Option<OsString>,
    pub(crate) names: Option<OsString>,
    pub(crate) restart: Option<OsString>,
    pub(crate) kept: Option<OsString>,
    pub(crate) guard: Option<OsString>,
}

/// What they say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Of the descriptors from [`FIRST`] on.
    pub(crate) names: Vec<String>,
    /// Behind them is the one to talk on.
    pub(crate) is_restart: bool,
    /// Behind that is the one on which PID 1 listens.
    pub(crate) is_guarded: bool,
    /// The places of those that a manager keeps.
    pub(crate) kept: Vec<usize>,
}

/// A variable whose value can't be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={}: {wrong}", value.escape_debug())]
pub(crate) struct BadVariable {
    name: &'static str,
    value: String,
    wrong: String,
}

impl Variables {
    fn of_this_process() -> Self {
        let [pid, fds, names, restart, kept, guard] = [PID, FDS, NAMES, RESTART, KEPT, GUARD].map(env::var_os);
        Self { pid, fds, names, restart, kept, guard }
    }

    /// What they say to the process `own`; `None` where they say nothing, or are meant for another one.
    pub(crate) fn parse(&self, own: u32) -> Result<Option<Passed>, BadVariable> {
        let (Some(pid), Some(fds)) = (&self.pid, &self.fds) else { return Ok(None) };
        let pid: u32 = number(PID, pid, "not a process id")?;
        if pid != own {
            return Ok(None);
        }
        let count: usize = number(FDS, fds, "not a number of descriptors")?;
        if count > MOST {
            return Err(bad(FDS, fds, format!("more than {MOST} descriptors")));
        }
        let names = match &self.names {
            None => vec![UNKNOWN.to_owned(); count],
            Some(names) => {
                let text = names.to_str().ok_or_else(|| bad(NAMES, names, "not UTF-8"))?;
                // No name at all is what no descriptor has.
                let split: Vec<_> = text.split(':').filter(|_| count > 0).map(str::to_owned).collect();
                if split.len() != count {
                    return Err(bad(NAMES, names, format!("{} names for {FDS}={count}", split.len())));
                }
                split
            }
        };
        let behind = FIRST as usize + count;
        let is_restart = is_there(RESTART, self.restart.as_ref(), behind, &format!("{FDS}={count}"))?;
        // A manager has none to pass.
        let guard = self.guard.as_ref().filter(|_| is_restart);
        let is_guarded = is_there(GUARD, guard, behind + 1, &format!("{RESTART}={behind}"))?;
        let kept = match &self.kept {
            None if is_restart => Vec::new(),
            Some(kept) if is_restart => places(kept, count)?,
            _ => (0..count).collect(),
        };
        Ok(Some(Passed { names, is_restart, is_guarded, kept }))
    }
}

fn bad(name: &'static str, value: &OsString, wrong: impl Into<String>) -> BadVariable {
    BadVariable { name, value: value.to_string_lossy().into_owned(), wrong: wrong.into() }
}

/// Whether the variable is set, which then has to be the number of the descriptor `behind` the others.
fn is_there(name: &'static str, value: Option<&OsString>, behind: usize, others: &str) -> Result<bool, BadVariable> {
    let Some(value) = value else { return Ok(false) };
    let found: usize = number(name, value, "not a descriptor")?;
    if found != behind {
        return Err(bad(name, value, format!("not {behind}, the one behind {others}")));
    }
    Ok(true)
}

fn places(kept: &OsString, count: usize) -> Result<Vec<usize>, BadVariable> {
    let wrong = || format!("not places among {FDS}={count}");
    let text = kept.to_str().ok_or_else(|| bad(KEPT, kept, wrong()))?;
    let places = text.split(' ').filter(|place| !place.is_empty()).map(|place| number(KEPT, &place.into(), ""));
    let places: Result<Vec<usize>, _> = places.collect();
    places.ok().filter(|places| places.iter().all(|place| *place < count)).ok_or_else(|| bad(KEPT, kept, wrong()))
}

/// Digits and nothing else: `parse` alone would take a plus sign.
fn number<T: std::str::FromStr>(name: &'static str, value: &OsString, wrong: &str) -> Result<T, BadVariable> {
    let digits = value.to_str().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| bad(name, value, wrong))
}

/// A socket that waits to be taken.
#[derive(Debug)]
struct Waiting {
    index: usize,
    name: String,
    socket: OwnedFd,
    kept: bool,
}

/// A socket that was open before this process began.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) socket: OwnedFd,
    /// A manager has it open, too, and gives it to whoever comes after this process.
    pub(crate) kept: bool,
}

#[derive(Debug, Default)]
struct Store {
    waiting: Vec<Waiting>,
    taken: Vec<usize>,
    channel: Option<OwnedFd>,
    guard: Option<OwnedFd>,
}

/// Adopts what the environment tells of, once; later calls give the same.
fn store() -> io::Result<&'static Mutex<Store>> {
    static STORE: OnceLock<Result<Mutex<Store>, String>> = OnceLock::new();
    let adopted =
        STORE.get_or_init(|| adopt(&Variables::of_this_process()).map(Mutex::new).map_err(|error| error.to_string()));
    adopted.as_ref().map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong.clone()))
}

fn adopt(variables: &Variables) -> io::Result<Store> {
    let Some(passed) = variables.parse(std::process::id()).map_err(io::Error::other)? else {
        return Ok(Store::default());
    };
    let count = passed.names.len() + usize::from(passed.is_restart) + usize::from(passed.is_guarded);
    let mut adopted = os::adopt(FIRST, count)?;
    let guard = if passed.is_guarded { adopted.pop() } else { None };
    let channel = if passed.is_restart { adopted.pop() } else { None };
    let waiting = adopted.into_iter().zip(passed.names).enumerate();
    let waiting = waiting.map(|(index, (socket, name))| {
        let kept = passed.kept.contains(&index);
        Waiting { index, name, socket, kept }
    });
    let waiting = waiting.collect();
    Ok(Store { waiting, taken: Vec::new(), channel, guard })
}

/// The first socket of this name that is as it `should_be` and was not taken yet.
pub(crate) fn take(name: &str, should_be: impl Fn(BorrowedFd<'_>) -> bool) -> io::Result<Option<Inherited>> {
    use std::os::fd::AsFd;
    let mut store = store()?.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |waiting: &Waiting| waiting.name == name && should_be(waiting.socket.as_fd());
    let Some(at) = store.waiting.iter().position(is_it) else { return Ok(None) };
    let Waiting { index, socket, kept, .. } = store.waiting.remove(at);
    store.taken.push(index);
    drop(store);
    if sockopt::socket_acceptconn(&socket) != Ok(true) {
        let number = FIRST as usize + index;
        let wrong = format!("descriptor {number}, which {NAMES} calls `{name}`, is no socket that listens");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    Ok(Some(Inherited { socket, kept }))
}

/// The descriptor on which the process before this one waits for our word. Only the first caller gets it.
pub(crate) fn channel() -> io::Result<Option<OwnedFd>> {
    Ok(store()?.lock().unwrap_or_else(PoisonError::into_inner).channel.take())
}

/// The descriptor on which PID 1 hears who serves. Only the first caller gets it.
pub(crate) fn guard() -> Option<OwnedFd> {
    store().ok()?.lock().unwrap_or_else(PoisonError::into_inner).guard.take()
}

/// Closes what nobody took; gives their names, and which were taken, by their places in the list.
pub(crate) fn close_rest() -> (Vec<String>, Vec<usize>) {
    let Ok(store) = store() else { return (Vec::new(), Vec::new()) };
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let rest = store.waiting.drain(..).map(|waiting| waiting.name).collect();
    (rest, store.taken.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 4711;

    fn variables(pid: &str, fds: &str, names: Option<&str>, restart: Option<&str>) -> Variables {
        Variables {
            pid: Some(pid.into()),
            fds: Some(fds.into()),
            names: names.map(Into::into),
            restart: restart.map(Into::into),
            kept: None,
            guard: None,
        }
    }

    #[test]
    fn ho_4_names_and_descriptors_are_what_the_variables_say() {
        let passed = |variables: Variables| variables.parse(OWN).expect("good values");
        assert_eq!(passed(Variables::default()), None);
        let two = Passed {
            names: vec!["http".into(), "admin".into()],
            is_restart: false,
            is_guarded: false,
            kept: vec![0, 1],
        };
        assert_eq!(passed(variables("4711", "2", Some("http:admin"), None)), Some(two));
        let unnamed = Passed { names: vec!["unknown".into()], is_restart: false, is_guarded: false, kept: vec![0] };
        assert_eq!(passed(variables("4711", "1", None, None)), Some(unnamed));
        let restart = Passed { names: vec!["http".into()], is_restart: true, is_guarded: false, kept: vec![] };
        assert_eq!(passed(variables("4711", "1", Some("http"), Some("4"))), Some(restart));
        let worker = Passed { names: vec![], is_restart: true, is_guarded: false, kept: vec![] };
        assert_eq!(passed(variables("4711", "0", Some(""), Some("3"))), Some(worker));
        assert_eq!(passed(variables("4712", "1", None, None)), None, "meant for another process");
        let without_pid = Variables { pid: None, ..variables("", "1", None, None) };
        assert_eq!(passed(without_pid), None, "meant for nobody");
    }

    #[test]
    fn ho_4_a_bad_value_is_named_with_what_is_wrong() {
        for (bad, says) in [
            (variables("me", "1", None, None), "LISTEN_PID=me: not a process id"),
            (variables("4711", "", None, None), "LISTEN_FDS=: not a number of descriptors"),
            (variables("4711", "-1", None, None), "LISTEN_FDS=-1: not a number of descriptors"),
            (variables("4711", "+1", None, None), "LISTEN_FDS=+1: not a number of descriptors"),
            (variables("4711", "99999", None, None), "LISTEN_FDS=99999: more than 4096 descriptors"),
            (variables("4711", "2", Some("http"), None), "LISTEN_FDNAMES=http: 1 names for LISTEN_FDS=2"),
            (variables("4711", "1", Some("a\n:b"), None), "LISTEN_FDNAMES=a\\n:b: 2 names for LISTEN_FDS=1"),
            (variables("4711", "1", None, Some("3")), "GLIDEPATH_RESTART=3: not 4, the one behind LISTEN_FDS=1"),
        ] {
            assert_eq!(bad.parse(OWN).expect_err(says).to_string(), says);
        }
    }

    #[test]
    fn ho_7_the_next_process_knows_on_which_descriptor_pid_1_listens() {
        let is_guarded = |guard: &str, restart: Option<&str>| {
            let variables = Variables { guard: Some(guard.into()), ..variables("4711", "1", Some("http"), restart) };
            let passed = variables.parse(OWN).map(|passed| passed.expect("meant for us"));
            passed.map(|passed| passed.is_guarded).map_err(|error| error.to_string())
        };
        assert_eq!(is_guarded("5", Some("4")), Ok(true));
        assert_eq!(
            is_guarded("5", None),
            Ok(false),
            "what a process has that PID 1 started is not what a manager passes"
        );
        let wrong = "GLIDEPATH_GUARD=4: not 5, the one behind GLIDEPATH_RESTART=4";
        assert_eq!(is_guarded("4", Some("4")), Err(wrong.into()));
        assert_eq!(is_guarded("five", Some("4")), Err("GLIDEPATH_GUARD=five: not a descriptor".into()));
    }

    #[test]
    fn ho_6_the_next_process_knows_which_listeners_a_manager_keeps() {
        let kept = |kept: &str, restart: Option<&str>| {
            let variables = Variables { kept: Some(kept.into()), ..variables("4711", "3", Some("a:b:c"), restart) };
            variables.parse(OWN).map(|passed| passed.expect("meant for us").kept).map_err(|error| error.to_string())
        };
        assert_eq!(kept("0 2", Some("6")), Ok(vec![0, 2]));
        assert_eq!(kept("", Some("6")), Ok(vec![]));
        assert_eq!(kept("1", None), Ok(vec![0, 1, 2]), "a manager gives what it keeps, whatever else is said");
        for wrong in ["3", "0,2", "-1", "all"] {
            assert_eq!(kept(wrong, Some("6")), Err(format!("GLIDEPATH_KEPT={wrong}: not places among LISTEN_FDS=3")));
        }
    }
}
