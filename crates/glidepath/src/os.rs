//! The operating system in a box: the one file with `unsafe`, and what differs between platforms.
#![expect(unsafe_code, reason = "system calls that no kept crate wraps safely; each has its reason")]

use std::time::Duration;

#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(unix)]
mod unix {
    use std::io;
    use std::mem::MaybeUninit;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Lets the calling thread receive `signals`, whatever mask the process was started with.
    pub(crate) fn unblock(signals: &[i32]) -> io::Result<()> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set before sigaddset and pthread_sigmask read it; the old mask is not
        // asked for, so the third argument may be null.
        let error = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut())
        };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// Signals that came while the handlers were being installed, a bit for each number.
    static EARLY: AtomicU32 = AtomicU32::new(0);

    /// Async-signal-safe: one atomic store (signal-safety(7)).
    extern "C" fn note_early(signal: libc::c_int) {
        EARLY.fetch_or(1_u32.checked_shl(signal.unsigned_abs()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Notes `signals` from now on, where nobody else has a handler for them.
    ///
    /// signal-hook has an instant in which the kernel knows its handler and it does not know what to do: it then calls the
    /// handler that was there before. This is that handler.
    pub(crate) fn note_signals(signals: &[i32]) {
        for &signal in signals {
            let mut old = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: `old` and `new` are zeroed, which is a valid `sigaction` without flags and with an empty mask; the
            // handler is async-signal-safe and has the type that a `sigaction` without SA_SIGINFO calls.
            unsafe {
                let known = libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) == 0;
                let handler = old.assume_init().sa_sigaction;
                if known && (handler == libc::SIG_DFL || handler == libc::SIG_IGN) {
                    let mut new: libc::sigaction = std::mem::zeroed();
                    new.sa_sigaction = note_early as *const () as libc::sighandler_t;
                    new.sa_flags = libc::SA_RESTART;
                    libc::sigaction(signal, &raw const new, std::ptr::null_mut());
                }
            }
        }
    }

    /// Whether `signal` was noted.
    pub(crate) fn was_noted(signal: i32) -> bool {
        EARLY.load(Ordering::Relaxed) & 1_u32.checked_shl(signal.unsigned_abs()).unwrap_or(0) != 0
    }

    /// Whether `signal` is ignored now: `nohup` starts programs so.
    pub(crate) fn is_ignored(signal: i32) -> bool {
        let mut old = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: a null new action only asks; `old` is written if and only if the call returns 0.
        unsafe {
            libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) == 0
                && old.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }
}

/// Ends the process without running anything more of it: destructors and `atexit` may be what hangs (_exit(2)).
pub(crate) fn exit_now(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: _exit takes any code, touches no memory of ours and does not return.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    #[expect(clippy::disallowed_methods, reason = "the forced end")]
    std::process::exit(code)
}

/// What the kernel knows of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpInfo {
    /// The smoothed round-trip time.
    pub(crate) rtt: Duration,
    /// The peer has acknowledged our FIN.
    pub(crate) fin_acknowledged: bool,
}

/// Asks the kernel (tcp(7), `TCP_INFO`).
#[cfg(target_os = "linux")]
pub(crate) fn tcp_info(socket: std::os::fd::BorrowedFd<'_>) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd;

    // Of include/net/tcp_states.h: ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING. In the first and third no FIN
    // was sent, in the others it was and is not acknowledged.
    const UNACKNOWLEDGED: [u8; 5] = [1, 4, 8, 9, 11];

    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes into `info`, which is
    // that long, and every bit pattern of it, zeroes too where the kernel is older, is a valid `tcp_info`.
    let info = unsafe {
        let into = info.as_mut_ptr().cast();
        if libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length) != 0 {
            return None;
        }
        info.assume_init()
    };
    Some(TcpInfo {
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        fin_acknowledged: !UNACKNOWLEDGED.contains(&info.tcpi_state),
    })
}

/// Not known here: callers fall back to a bound.
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn tcp_info(_socket: std::os::fd::BorrowedFd<'_>) -> Option<TcpInfo> {
    None
}

/// Milliseconds of a monotonic clock that is cheap enough to be read for every request; it may lag by some 10 ms.
pub(crate) fn coarse_millis() -> u64 {
    #[cfg(unix)]
    {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable for the call; should it fail, which it cannot for these clocks, it stays zero.
        unsafe { libc::clock_gettime(CLOCK, &raw mut now) };
        now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
    }
    #[cfg(not(unix))]
    {
        use std::sync::OnceLock;

        use tokio::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        Instant::now().duration_since(*START.get_or_init(Instant::now)).as_millis() as u64
    }
}
