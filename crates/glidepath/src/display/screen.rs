//! The one place that writes to the terminal.
//!
//! Between two writes the cursor rests on the empty line above the view. So what others write (a program's plain standard
//! error, the `^C` that a terminal shows) lands there and not behind the view's last line, and the next redraw begins where
//! they have left the cursor. A redraw is one write.
//!
//! The end never waits for the lock: [`take_away`] gives up after a moment.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::park_timeout;
use std::time::Duration;

use super::frame::Size;

/// Whoever holds the lock writes to a terminal. That it takes longer means that it does not take what is written.
const PATIENCE: Duration = Duration::from_millis(50);

/// The number of the view that the terminal belongs to, or zero.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// A key was pressed which the terminal may have shown, and nothing was written since.
static KEY: AtomicBool = AtomicBool::new(false);

static SCREEN: Mutex<Screen> = Mutex::new(Screen { ours: false, hidden: false, flushed: false, frame: Vec::new() });

struct Screen {
    /// Something of the view may be below the cursor.
    ours: bool,
    /// Not to be drawn now.
    hidden: bool,
    /// Before it was drawn, a key that sends a signal took away what the terminal had not shown yet.
    flushed: bool,
    /// What draws the view, and leaves the cursor above it.
    frame: Vec<u8>,
}

/// Takes the terminal for a view. `None`: another has it.
pub(super) fn claim(by_a_key: bool) -> Option<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let free = OWNER.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if free {
        KEY.store(by_a_key, Ordering::Release);
    }
    free.then_some(number)
}

/// Draws the view, in the place of the one before. Whether it can be seen.
pub(super) fn draw(number: usize, lines: impl FnOnce(Size) -> Vec<String>) -> bool {
    let Some(size) = size() else {
        // Another program has the terminal now, and may have written anything.
        screen().ours = false;
        return false;
    };
    // In the last column the cursor stays on what it wrote, and what is erased behind it would be that.
    let frame = drawing(&lines(Size { width: size.width - 1, ..size }));
    let mut screen = screen();
    if OWNER.load(Ordering::Acquire) != number || screen.hidden {
        return false;
    }
    if screen.ours && screen.frame == frame {
        return true;
    }
    let mut bytes = if screen.ours { Vec::new() } else { screen.own_line(shows_keys).to_vec() };
    bytes.extend(&frame);
    screen.frame = frame;
    io::stderr().write_all(&bytes).is_ok()
}

/// Takes the view away, and leaves the cursor where it was.
pub(super) fn take_away(number: usize) {
    if OWNER.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    if let Some(mut screen) = lock_soon() {
        screen.erase();
    }
}

/// Takes the view away, or gives it back, for as long as the process stands still.
pub(super) fn hide(number: usize, hidden: bool) {
    if let Some(mut screen) = lock_soon().filter(|_| OWNER.load(Ordering::Acquire) == number) {
        screen.hidden = hidden;
        screen.erase();
    }
}

/// The standard library's lock, also under shuttle: a static outlives its executions.
fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_soon() -> Option<MutexGuard<'static, Screen>> {
    const STEP: Duration = Duration::from_millis(1);
    for _ in 0..PATIENCE.as_millis() {
        match SCREEN.try_lock() {
            Ok(screen) => return Some(screen),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => park_timeout(STEP),
        }
    }
    None
}

impl Screen {
    /// To the beginning of a line that nothing stands on.
    fn own_line(&mut self, shows_keys: impl FnOnce() -> bool) -> &'static [u8] {
        if !std::mem::replace(&mut self.ours, true) {
            self.flushed = flushes_at_keys(false);
        }
        if KEY.swap(false, Ordering::AcqRel) && shows_keys() { b"\r\n\x1b[J" } else { b"\r\x1b[J" }
    }

    fn erase(&mut self) {
        self.frame.clear();
        if std::mem::take(&mut self.ours) && size().is_some() {
            if self.flushed {
                flushes_at_keys(true);
            }
            let _ = io::stderr().write_all(b"\r\x1b[J");
        }
    }

    /// Writes whole lines above the view.
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if OWNER.load(Ordering::Acquire) == 0 {
            // Should it not have been possible to take it away.
            self.erase();
            return io::stderr().write_all(lines);
        }
        if self.hidden || size().is_none() {
            return io::stderr().write_all(lines);
        }
        let mut bytes = self.own_line(shows_keys).to_vec();
        bytes.extend(lines);
        bytes.extend(&self.frame);
        io::stderr().write_all(&bytes)
    }
}

/// What draws the lines from where the cursor is, and goes back there. No line wraps: the terminal may have become
/// narrower since it was asked.
fn drawing(lines: &[String]) -> Vec<u8> {
    let mut bytes = b"\r\x1b[?7l".to_vec();
    bytes.extend(lines.join("\x1b[K\r\n").as_bytes());
    bytes.extend(b"\x1b[J\r\x1b[?7h");
    if lines.len() > 1 {
        bytes.extend(format!("\x1b[{}A", lines.len() - 1).as_bytes());
    }
    bytes
}

/// How large the terminal is now. `None`: it is not ours to write to, because this program runs in the background of a
/// shell, or there is none.
#[cfg(unix)]
fn size() -> Option<Size> {
    use rustix::termios::{tcgetpgrp, tcgetwinsize};

    let terminal = io::stderr();
    // An error: it is no terminal that controls us, and so has no background.
    if tcgetpgrp(&terminal).is_ok_and(|foreground| foreground != rustix::process::getpgrp()) {
        return None;
    }
    let size = tcgetwinsize(&terminal).ok()?;
    // A serial line does not know.
    let known = |figure: u16, usual| if figure == 0 { usual } else { usize::from(figure) };
    Some(Size { width: known(size.ws_col, 80), height: known(size.ws_row, 24) })
}

/// Whether it shows `^C` for that key.
#[cfg(unix)]
fn shows_keys() -> bool {
    use rustix::termios::{LocalModes, tcgetattr};

    tcgetattr(io::stderr()).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ECHO | LocalModes::ECHOCTL))
}

/// Sets whether Ctrl-C discards what was written and is not shown yet: half a redraw would be left. Gives what was before.
#[cfg(unix)]
fn flushes_at_keys(flushes: bool) -> bool {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

    let terminal = io::stderr();
    let Ok(mut modes) = tcgetattr(&terminal) else { return false };
    let before = !modes.local_modes.contains(LocalModes::NOFLSH);
    modes.local_modes.set(LocalModes::NOFLSH, !flushes);
    let _unchanged = tcsetattr(terminal, OptionalActions::Now, &modes);
    before
}

#[cfg(not(unix))]
fn shows_keys() -> bool {
    false
}

#[cfg(not(unix))]
fn flushes_at_keys(_flushes: bool) -> bool {
    false
}

#[cfg(not(unix))]
fn size() -> Option<Size> {
    None
}

/// Standard error, for a log that is to stand above what the library shows at an end, unbroken.
///
/// What is written comes out in whole lines, each by one write; what is left without an end when it is dropped or flushed,
/// then. Made by [`stderr`].
#[derive(Debug, Default)]
pub struct Stderr {
    /// A line that has no end yet.
    begun: Vec<u8>,
}

/// Standard error, in the place of [`std::io::stderr`], for the program's log.
///
/// On a terminal an end shows what is still running in lines that are redrawn in place. A log that is written by this
/// comes above them, line by line. At any other time, and where there is no terminal, it is plain standard error.
///
/// ```no_run
/// tracing_subscriber::fmt().with_writer(glidepath::stderr).init();
/// ```
///
/// What is written past it (`eprintln!`, a panic's message) stays whole, too, if it ends with a line end: it comes above what is shown, which is
/// drawn anew below it within a second. Of several such lines in one moment, all but the first may have a rest of what was
/// shown behind them, to the right. A line that has no end yet is overwritten.
pub fn stderr() -> Stderr {
    Stderr::default()
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            let (lines, rest) = bytes.split_at(end + 1);
            if self.begun.is_empty() {
                screen().put(lines)?;
            } else {
                self.begun.extend(lines);
                screen().put(&std::mem::take(&mut self.begun))?;
            }
            self.begun.extend(rest);
        } else {
            self.begun.extend(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.begun);
        if OWNER.load(Ordering::Acquire) != 0 {
            line.push(b'\n');
        }
        screen().put(&line)
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _gone = self.flush();
    }
}

#[cfg(test)]
mod tests;
