//! A terminal for a process: its keys, its size, and what a person would see.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use avt::{Line, Terminal};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{PATIENCE, runs};

/// What Ctrl and a letter send.
pub(crate) const CTRL_C: &[u8] = b"\x03";
pub(crate) const CTRL_Q: &[u8] = b"\x11";
pub(crate) const CTRL_S: &[u8] = b"\x13";
pub(crate) const CTRL_Z: &[u8] = b"\x1a";
pub(crate) const CTRL_BACKSLASH: &[u8] = b"\x1c";

/// The side where the person sits. Nothing that was ever on it is forgotten.
pub(crate) struct Screen {
    ours: OwnedFd,
    theirs: Option<OwnedFd>,
    /// What its keys did at first.
    modes: LocalModes,
    shown: Arc<(Mutex<Shown>, Condvar)>,
}

struct Shown {
    terminal: Terminal,
    written: Vec<u8>,
    ended: bool,
}

impl Screen {
    /// `None`: setsid(1) can't give a process a terminal here.
    pub(crate) fn new(width: u16, height: u16) -> Option<Self> {
        if !runs(&["setsid", "--version"]) {
            return None;
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).expect("a terminal of our own");
        unlockpt(&ours).expect("a terminal of our own");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = open(name, flags, Mode::empty()).expect("its other side");
        let terminal = Terminal::with_scrollback(width.into(), height.into(), None).expect("a size");
        let shown = Arc::new((Mutex::new(Shown { terminal, written: Vec::new(), ended: false }), Condvar::new()));
        let modes = tcgetattr(&ours).expect("it has modes").local_modes;
        let screen = Self { ours, theirs: Some(theirs), modes, shown };
        screen.resize(width, height);
        screen.read_on();
        Some(screen)
    }

    fn read_on(&self) {
        let ours = self.ours.try_clone().expect("a descriptor");
        let shown = Arc::clone(&self.shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A character may come in two reads.
            let mut begun = Vec::new();
            loop {
                // EIO: the last process that had it has ended.
                let count = read(&ours, &mut bytes).unwrap_or(0);
                let mut now = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
                now.ended = count == 0;
                now.written.extend(&bytes[..count]);
                begun.extend(&bytes[..count]);
                let whole = match std::str::from_utf8(&begun) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let rest = begun.split_off(whole);
                now.terminal.feed(std::str::from_utf8(&begun).expect("so far it is valid"));
                begun = rest;
                shown.1.notify_all();
                if now.ended {
                    return;
                }
            }
        });
    }

    /// For one process.
    pub(crate) fn lend(&mut self) -> OwnedFd {
        self.theirs.take().expect("one process has it")
    }

    /// As others who have this terminal: a shell, or the program past its log.
    pub(crate) fn others_write(&self, text: &str) {
        let name = ptsname(&self.ours, Vec::new()).expect("it has a name");
        let other = open(name, OFlags::WRONLY | OFlags::NOCTTY, Mode::empty()).expect("its other side");
        write(other, text.as_bytes()).expect("it takes a few bytes");
    }

    pub(crate) fn types(&self, keys: &[u8]) {
        write(self.ours.as_fd(), keys).expect("it takes a few keys");
    }

    pub(crate) fn resize(&self, width: u16, height: u16) {
        // What it shows is laid out anew first, as a terminal does.
        self.lock().terminal.resize(width.into(), height.into());
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).expect("a terminal has a size");
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be seen now, a line for each of the terminal's.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.lock().rows()
    }

    /// The same with its colours, without the empty ones at the end.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<_> = self.lock().terminal.screen().visible_lines().cloned().collect();
        while lines.last().is_some_and(|line| line.text().trim().is_empty()) {
            lines.pop();
        }
        lines
    }

    /// Whether its keys do what they did before the process had it.
    pub(crate) fn has_its_modes(&self) -> bool {
        tcgetattr(&self.ours).expect("it has modes").local_modes == self.modes
    }

    /// All that was ever on it, in the lines that were written.
    pub(crate) fn all_lines(&self) -> Vec<String> {
        let lines = self.lock().terminal.primary_screen().text();
        let mut lines: Vec<_> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Every byte, control sequences too.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.lock().written).into_owned()
    }

    /// Looks at each change until it is so; gives what can be seen then.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let lacks = |shown: &mut Shown| !is_so(&shown.rows().join("\n")) && !shown.ended;
        let waited = self.shown.1.wait_timeout_while(self.lock(), PATIENCE, lacks);
        let (shown, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let rows = shown.rows().join("\n");
        assert!(is_so(&rows), "never seen: {what}; what is seen:\n{rows}");
        rows
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) -> String {
        self.wait_until(words, |rows| rows.contains(words))
    }

    /// Once the last process that had it has ended.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) {
        let waited = self.shown.1.wait_timeout_while(self.lock(), PATIENCE, |shown| !shown.ended);
        assert!(waited.unwrap_or_else(PoisonError::into_inner).0.ended, "somebody still has the terminal");
    }
}

impl Shown {
    fn rows(&self) -> Vec<String> {
        let lines = self.terminal.screen().visible_lines();
        lines.map(|line| line.text().trim_end().to_owned()).collect()
    }
}
