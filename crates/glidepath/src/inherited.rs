//! Sockets that were open before this program began: from the process before it, or from a manager such as systemd.
//!
//! Both use the convention of sd_listen_fds(3): `LISTEN_FDS` descriptors from 3 on, named by `LISTEN_FDNAMES`, for the
//! process `LISTEN_PID` and nobody else. A restart adds [`RESTART`], the number of the descriptor behind them, on which old
//! and new process talk.

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
}

/// What they say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Of the descriptors from [`FIRST`] on.
    pub(crate) names: Vec<String>,
    /// Behind them is the one to talk on.
    pub(crate) is_restart: bool,
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
        Self { pid: env::var_os(PID), fds: env::var_os(FDS), names: env::var_os(NAMES), restart: env::var_os(RESTART) }
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
        let is_restart = match &self.restart {
            None => false,
            Some(restart) => {
                let expected = FIRST as usize + count;
                let found: usize = number(RESTART, restart, "not a descriptor")?;
                if found != expected {
                    return Err(bad(RESTART, restart, format!("not {expected}, the one behind {FDS}={count}")));
                }
                true
            }
        };
        Ok(Some(Passed { names, is_restart }))
    }
}

fn bad(name: &'static str, value: &OsString, wrong: impl Into<String>) -> BadVariable {
    BadVariable { name, value: value.to_string_lossy().into_owned(), wrong: wrong.into() }
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
}

#[derive(Debug, Default)]
struct Store {
    waiting: Vec<Waiting>,
    taken: Vec<usize>,
    channel: Option<OwnedFd>,
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
    let mut adopted = os::adopt(FIRST, passed.names.len() + usize::from(passed.is_restart))?;
    let channel = if passed.is_restart { adopted.pop() } else { None };
    let waiting = adopted.into_iter().zip(passed.names).enumerate();
    let waiting = waiting.map(|(index, (socket, name))| Waiting { index, name, socket }).collect();
    Ok(Store { waiting, taken: Vec::new(), channel })
}

/// The first socket of this name that is as it `should_be` and was not taken yet.
pub(crate) fn take(name: &str, should_be: impl Fn(BorrowedFd<'_>) -> bool) -> io::Result<Option<OwnedFd>> {
    use std::os::fd::AsFd;
    let mut store = store()?.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |waiting: &Waiting| waiting.name == name && should_be(waiting.socket.as_fd());
    let Some(at) = store.waiting.iter().position(is_it) else { return Ok(None) };
    let Waiting { index, socket, .. } = store.waiting.remove(at);
    store.taken.push(index);
    drop(store);
    if sockopt::socket_acceptconn(&socket) != Ok(true) {
        let number = FIRST as usize + index;
        let wrong = format!("descriptor {number}, which {NAMES} calls `{name}`, is no socket that listens");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    Ok(Some(socket))
}

/// The descriptor on which the process before this one waits for our word. Only the first caller gets it.
pub(crate) fn channel() -> io::Result<Option<OwnedFd>> {
    Ok(store()?.lock().unwrap_or_else(PoisonError::into_inner).channel.take())
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
        }
    }

    #[test]
    fn ho_4_names_and_descriptors_are_what_the_variables_say() {
        let passed = |variables: Variables| variables.parse(OWN).expect("good values");
        assert_eq!(passed(Variables::default()), None);
        let two = Passed { names: vec!["http".into(), "admin".into()], is_restart: false };
        assert_eq!(passed(variables("4711", "2", Some("http:admin"), None)), Some(two));
        let unnamed = Passed { names: vec!["unknown".into()], is_restart: false };
        assert_eq!(passed(variables("4711", "1", None, None)), Some(unnamed));
        let restart = Passed { names: vec!["http".into()], is_restart: true };
        assert_eq!(passed(variables("4711", "1", Some("http"), Some("4"))), Some(restart));
        let worker = Passed { names: vec![], is_restart: true };
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
}
