//! The operating system in a box: the one file with `unsafe`, and what differs between platforms.
#![expect(unsafe_code, reason = "system calls that no kept crate wraps safely; each has its reason")]

use std::time::Duration;

#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(unix)]
mod unix {
    use std::ffi::{CString, c_char};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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

    /// Stops the process as SIGTSTP does where nobody hears it, and returns when it goes on: at once where no shell is there to
    /// let it. To be called on a thread that does not block that signal.
    pub(crate) fn suspend() {
        let mut ours = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: `default` is zeroed, which is a valid `sigaction` with the default action, no flags and an empty mask; `ours`
        // is written if the first call returns 0, and only then read. raise takes any signal.
        unsafe {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            if libc::sigaction(libc::SIGTSTP, &raw const default, ours.as_mut_ptr()) == 0 {
                libc::raise(libc::SIGTSTP);
                libc::sigaction(libc::SIGTSTP, ours.as_ptr(), std::ptr::null_mut());
            }
        }
    }

    /// Takes over the descriptors that another process has left open for this one, as the environment says, and keeps them
    /// from the programs that this one starts. Once in the life of a process: then they have an owner.
    pub(crate) fn adopt(first: RawFd, count: usize) -> io::Result<Vec<OwnedFd>> {
        static ADOPTED: AtomicBool = AtomicBool::new(false);
        if count > 0 && ADOPTED.swap(true, Ordering::Relaxed) {
            return Err(io::Error::other("the inherited descriptors have an owner already"));
        }
        let numbers = first..first.saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
        // First all, so that none is owned when one is missing.
        for fd in numbers.clone() {
            // SAFETY: F_GETFD takes any number, and gives -1 where that is not an open descriptor.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            // What came through exec does not have the flag, and what this program has opened since does.
            if flags == -1 || flags & libc::FD_CLOEXEC != 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} was not inherited")));
            }
        }
        for fd in numbers.clone() {
            // SAFETY: it is open; FD_CLOEXEC is the only flag that there is.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        // SAFETY: they are open; by the convention of sd_listen_fds(3) they were opened for this process to own, and the
        // check of `ADOPTED` makes sure that they get this one owner only.
        Ok(numbers.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
    }

    /// What a new process becomes.
    pub(crate) struct Image {
        pub(crate) path: CString,
        pub(crate) args: Vec<CString>,
        pub(crate) env: Vec<CString>,
        /// A variable that is to hold the new process's own id.
        pub(crate) pid_variable: &'static str,
        /// What it finds open from `first` on, in this order. Each has a number above all of those.
        pub(crate) descriptors: Vec<OwnedFd>,
        pub(crate) first: RawFd,
    }

    /// The same, as execve(2) wants it.
    struct Exec {
        image: Image,
        /// `NAME=` and room for an id and the end.
        pid: Vec<u8>,
        argv: Vec<*const c_char>,
        /// The last but one is left for `pid`.
        envp: Vec<*const c_char>,
    }

    // SAFETY: the pointers are to the heap blocks of `image`'s strings, which live as long as they do, are changed by
    // nobody, and may be read on any thread.
    unsafe impl Send for Exec {}
    // SAFETY: as above; only `&mut self` changes anything.
    unsafe impl Sync for Exec {}

    impl Exec {
        fn new(image: Image) -> Self {
            let null = std::ptr::null();
            let argv = image.args.iter().map(|arg| arg.as_ptr()).chain([null]).collect();
            let envp = image.env.iter().map(|variable| variable.as_ptr()).chain([null, null]).collect();
            let pid = [image.pid_variable.as_bytes(), b"=", &[0; 12]].concat();
            Self { image, pid, argv, envp }
        }

        /// Between fork and exec. Everything is there already: nothing is allocated, locked or freed, and the calls are
        /// async-signal-safe (signal-safety(7)). Returns only if it failed.
        fn run(&mut self) -> io::Error {
            for (fd, to) in self.image.descriptors.iter().zip(self.image.first..) {
                // SAFETY: dup2 takes any two numbers. The copy is not closed by exec. What it replaces is nothing that this
                // process, which is about to become another, still uses.
                if unsafe { libc::dup2(fd.as_raw_fd(), to) } == -1 {
                    return io::Error::last_os_error();
                }
            }
            // What this process was itself given without our knowledge goes no further. An older kernel can't do it at once.
            #[cfg(target_os = "linux")]
            // SAFETY: close_range with this flag closes nothing now, takes any two numbers, and touches no memory.
            let _too_old = unsafe {
                let above = self.image.first as usize + self.image.descriptors.len();
                libc::syscall(
                    libc::SYS_close_range,
                    above as libc::c_uint,
                    libc::c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                )
            };
            // SAFETY: it takes nothing, and can't fail.
            let pid = unsafe { libc::getpid() }.unsigned_abs();
            let digits = &mut self.pid[self.image.pid_variable.len() + 1..];
            let count = pid.checked_ilog10().map_or(1, |log| log as usize + 1);
            for (i, digit) in digits[..count].iter_mut().enumerate() {
                *digit = b'0' + (pid / 10_u32.pow((count - 1 - i) as u32) % 10) as u8;
            }
            let last = self.envp.len() - 2;
            self.envp[last] = self.pid.as_ptr().cast();
            // SAFETY: a path, and two lists of strings that end with null; all of them end with NUL and are owned by `self`.
            unsafe { libc::execve(self.image.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            io::Error::last_os_error()
        }
    }

    /// Lets `command`, when it is spawned, become `image`: its own program, arguments and environment do not count.
    ///
    /// No kept crate does this. The id of the new process is known only after the fork, and std's `Command` fixes the
    /// environment before it.
    pub(crate) fn becomes(command: &mut Command, image: Image) {
        let mut exec = Exec::new(image);
        // SAFETY: `Exec::run` does only what may be done between fork and exec.
        unsafe { command.pre_exec(move || Err(exec.run())) };
    }

    /// Ends a child that was not waited for yet, so that its id can't be another process's.
    pub(crate) fn kill(child: u32) {
        let Ok(pid) = libc::pid_t::try_from(child) else { return };
        // SAFETY: kill takes any two numbers.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    /// How a process ended.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no process is watched there"))]
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Ended {
        /// With this exit code.
        With(u8),
        /// By the signal of this number.
        BySignal(u8),
    }

    /// A process by a descriptor of its own: unlike its id, that never becomes another process's.
    #[cfg(target_os = "linux")]
    #[derive(Debug)]
    pub(crate) struct Process(OwnedFd);

    #[cfg(target_os = "linux")]
    impl Process {
        /// The process that has this id now, whether it has ended or not, as long as nobody has reaped it.
        pub(crate) fn open(pid: u32) -> io::Result<Self> {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
            Ok(Self(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?))
        }

        /// One that has ended hears nothing.
        pub(crate) fn signal(&self, number: i32) {
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                let _ended = rustix::process::pidfd_send_signal(&self.0, signal);
            }
        }

        /// Reaps it, if it has ended. An error where it is no child of this process.
        pub(crate) fn reap(&self) -> io::Result<Option<Ended>> {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            let status = waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
            let low = |number: i32| (number & 0xff) as u8;
            Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::With(low(code)),
                (None, signal) => Ended::BySignal(low(signal.unwrap_or_default())),
            }))
        }
    }

    #[cfg(target_os = "linux")]
    impl AsFd for Process {
        /// Readable when it has ended.
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    /// Other systems have no such descriptors.
    #[cfg(not(target_os = "linux"))]
    #[derive(Debug)]
    pub(crate) enum Process {}

    #[cfg(not(target_os = "linux"))]
    impl Process {
        pub(crate) fn open(_pid: u32) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn signal(&self, _number: i32) {
            match *self {}
        }

        pub(crate) fn reap(&self) -> io::Result<Option<Ended>> {
            match *self {}
        }
    }

    #[cfg(not(target_os = "linux"))]
    impl AsFd for Process {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match *self {}
        }
    }

    /// Microseconds of the clock that `CLOCK_MONOTONIC` names, which managers compare with their own.
    pub(crate) fn monotonic_micros() -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is writable for the call; should it fail, which it cannot for this clock, it stays zero.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
    }
}

/// Gives the memory of holes between allocations back to the system (malloc_trim(3)). Takes a microsecond or so for each hole,
/// and who allocates meanwhile may wait.
pub(crate) fn fill_holes() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes any number, and touches only what nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// No shell stops a process here.
#[cfg(not(unix))]
pub(crate) fn suspend() {}

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
