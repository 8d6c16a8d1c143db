//! Signals: heard from the moment a lifecycle is made, on a thread of their own.
//!
//! The thread is what makes an end possible when every worker of the runtime is blocked: it hears, steps the core, and
//! ends the process when nobody else does. Raw signals do not leave this file; what leaves is a [`Heard`].

use std::time::Duration;

use crate::phase::Cause;

/// Signals of one burst: a terminal, `cargo run` and a shell may each send one (SIG-3).
const DEBOUNCE: Duration = Duration::from_millis(250);

/// What the thread heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// One step towards the end.
    Stop(Cause),
    /// Restart in place, where that is on (SIGHUP).
    Restart,
    /// Say what is running, and end (SIGQUIT).
    DumpAndEnd,
    /// Say what is running, and go on.
    Dump(DumpSignal),
    /// Stand still until told to go on (SIGTSTP, a terminal's Ctrl-Z), where somebody has asked to hear it.
    Suspend,
    /// The time is up, or somebody woke the thread.
    Nothing,
}

/// A signal that the program may choose for a dump after which it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DumpSignal {
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

/// Exit code of a process that was told to dump: 128 and the number of SIGQUIT.
pub(crate) const EXIT_DUMP: i32 = 131;

/// That signal, where it can't end the process at once.
pub(crate) const DUMP_AND_END: Cause = Cause::Signal(3);

/// The name of what asked for the end, for logs and the report.
pub(crate) fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::Signal(signal) | Cause::Terminal(signal) => imp::signal_name(signal),
        Cause::Handle => "handle",
        Cause::Restart => "restart",
    }
}

/// The number of the signal that asked, if one did.
pub(crate) fn number(cause: Cause) -> Option<u8> {
    match cause {
        Cause::Signal(signal) | Cause::Terminal(signal) => u8::try_from(signal).ok(),
        Cause::Handle | Cause::Restart => None,
    }
}

#[cfg(unix)]
pub(crate) use imp::number_of;
pub(crate) use imp::{Signals, Waker};

#[cfg(unix)]
mod imp {
    use std::io::{self, ErrorKind, IsTerminal, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::time::Duration;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::backend::{Handle, SignalDelivery};
    use signal_hook::iterator::exfiltrator::SignalOnly;
    use tokio::time::Instant;

    use super::{Cause, DEBOUNCE, DumpSignal, Heard};
    use crate::os;

    /// The handlers; they stand from `install` to the end of the process.
    #[derive(Debug)]
    pub(crate) struct Signals {
        delivery: SignalDelivery<UnixStream, SignalOnly>,
        all: Vec<i32>,
        last_stop: Option<Instant>,
        last_restart: Option<Instant>,
        /// More than one can be pending; they are told one by one.
        heard: Vec<Heard>,
        /// Added since this thread has looked; zero is none.
        added: Arc<AtomicI32>,
    }

    /// Wakes the thread that waits for signals.
    #[derive(Debug)]
    pub(crate) struct Waker {
        pipe: UnixStream,
        handle: Handle,
        added: Arc<AtomicI32>,
    }

    impl Waker {
        pub(crate) fn wake(&self) {
            // Full means that it is about to wake anyway.
            let _ = (&self.pipe).write(&[0]);
        }

        /// From now on this one is heard, too.
        pub(crate) fn dump_on(&self, signal: DumpSignal) -> io::Result<()> {
            let signal = raw(signal);
            self.handle.add_signal(signal)?;
            self.added.store(signal, Ordering::Release);
            self.wake();
            Ok(())
        }
    }

    impl Signals {
        pub(crate) fn install() -> io::Result<(Self, Waker)> {
            let mut all = vec![SIGINT, SIGTERM, SIGQUIT];
            // What `nohup` ignores stays ignored.
            if !os::is_ignored(SIGHUP) {
                all.push(SIGHUP);
            }
            let (read, write) = UnixStream::pair()?;
            let waker = write.try_clone()?;
            waker.set_nonblocking(true)?;
            os::note_signals(&all);
            let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, &all)?;
            let added = Arc::new(AtomicI32::new(0));
            let waker = Waker { pipe: waker, handle: delivery.handle(), added: Arc::clone(&added) };
            let mut signals = Self { delivery, all, last_stop: None, last_restart: None, heard: Vec::new(), added };
            // One that came meanwhile may come by both ways; the debounce makes them one.
            let early: Vec<i32> = signals.all.iter().copied().filter(|signal| os::was_noted(*signal)).collect();
            // That a restart is wanted is not known as early as this.
            signals.hear(early, false);
            Ok((signals, waker))
        }

        /// To be called on the thread that waits: whatever mask the process inherited, this one hears.
        pub(crate) fn unblock(&self) -> io::Result<()> {
            os::unblock(&self.all)
        }

        /// Hears SIGTSTP from now on, unless it is ignored.
        pub(crate) fn hear_suspend(&mut self) {
            if self.all.contains(&SIGTSTP) || os::is_ignored(SIGTSTP) {
                return;
            }
            self.all.push(SIGTSTP);
            if self.delivery.handle().add_signal(SIGTSTP).is_ok() {
                let _ = os::unblock(&[SIGTSTP]);
            }
        }

        /// Blocks until something is heard, or for `limit`. `restarts`: whether SIGHUP asks for a restart.
        pub(crate) fn wait(&mut self, limit: Option<Duration>, restarts: impl Fn() -> bool) -> Heard {
            if self.heard.is_empty() {
                self.listen(limit, restarts);
            }
            self.heard.pop().unwrap_or(Heard::Nothing)
        }

        fn listen(&mut self, limit: Option<Duration>, restarts: impl Fn() -> bool) {
            // Zero would mean for ever.
            let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
            let _ = self.delivery.get_read().set_read_timeout(limit);
            let mut wait = |pipe: &mut UnixStream| match pipe.read(&mut [0; 64]) {
                Ok(n) => Ok(n > 0),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    Ok(true)
                }
                Err(error) => Err(error),
            };
            let Ok(Some(pending)) = self.delivery.poll_pending(&mut wait) else { return };
            let signals = pending.collect();
            let added = self.added.swap(0, Ordering::Acquire);
            if added != 0 {
                // As with the others: the process may have been started with it blocked.
                let _ = os::unblock(&[added]);
            }
            self.hear(signals, restarts());
        }

        fn hear(&mut self, signals: Vec<i32>, restarts: bool) {
            for signal in signals {
                let (last, heard) = match signal {
                    SIGQUIT | SIGUSR1 | SIGUSR2 => {
                        self.heard.push(match signal {
                            SIGUSR1 => Heard::Dump(DumpSignal::User1),
                            SIGUSR2 => Heard::Dump(DumpSignal::User2),
                            _ => Heard::DumpAndEnd,
                        });
                        continue;
                    }
                    SIGTSTP => {
                        self.heard.push(Heard::Suspend);
                        continue;
                    }
                    // Each kind has a debounce of its own: a stop that follows a restart is no part of it.
                    SIGHUP if restarts => (&mut self.last_restart, Heard::Restart),
                    stop => (&mut self.last_stop, Heard::Stop(cause(stop))),
                };
                let now = Instant::now();
                if last.is_none_or(|last| now.saturating_duration_since(last) >= DEBOUNCE) {
                    *last = Some(now);
                    self.heard.push(heard);
                }
            }
        }
    }

    /// Ctrl-C of a terminal is a person who waits; no balancer has to be turned away first.
    fn cause(signal: i32) -> Cause {
        if signal == SIGINT && io::stdin().is_terminal() { Cause::Terminal(signal) } else { Cause::Signal(signal) }
    }

    /// The signal, for another process that is to hear it, too.
    pub(crate) fn number_of(heard: Heard) -> Option<i32> {
        match heard {
            Heard::Stop(Cause::Signal(signal) | Cause::Terminal(signal)) => Some(signal),
            Heard::Restart => Some(SIGHUP),
            Heard::DumpAndEnd => Some(SIGQUIT),
            Heard::Dump(signal) => Some(raw(signal)),
            Heard::Stop(Cause::Handle | Cause::Restart) | Heard::Suspend | Heard::Nothing => None,
        }
    }

    fn raw(signal: DumpSignal) -> i32 {
        match signal {
            DumpSignal::User1 => SIGUSR1,
            DumpSignal::User2 => SIGUSR2,
        }
    }

    pub(super) fn signal_name(signal: i32) -> &'static str {
        signal_hook::low_level::signal_name(signal).unwrap_or("signal")
    }
}

/// Ctrl-C, Ctrl-Break, close and shutdown of a console.
#[cfg(windows)]
mod imp {
    use std::io;
    use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
    use std::time::Duration;

    use tokio::signal::windows;

    use super::{Cause, DumpSignal, Heard};

    const CTRL_C: i32 = 2;
    const CTRL_BREAK: i32 = 21;
    const TERMINATE: i32 = 15;

    #[derive(Debug)]
    pub(crate) struct Signals(Receiver<Heard>);

    #[derive(Debug)]
    pub(crate) struct Waker(SyncSender<Heard>);

    impl Waker {
        pub(crate) fn wake(&self) {
            if let Err(TrySendError::Disconnected(_)) = self.0.try_send(Heard::Nothing) {
                tracing::debug!("the signal thread is gone");
            }
        }

        pub(crate) fn dump_on(&self, _signal: DumpSignal) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl Signals {
        pub(crate) fn install() -> io::Result<(Self, Waker)> {
            let (send, receive) = sync_channel(16);
            let waker = Waker(send.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (mut c, mut brk, mut close, mut shutdown) = {
                let _in = runtime.enter();
                (windows::ctrl_c()?, windows::ctrl_break()?, windows::ctrl_close()?, windows::ctrl_shutdown()?)
            };
            std::thread::Builder::new().name("glidepath-console".into()).spawn(move || {
                runtime.block_on(async move {
                    loop {
                        let cause = tokio::select! {
                            _ = c.recv() => Cause::Terminal(CTRL_C),
                            _ = brk.recv() => Cause::Terminal(CTRL_BREAK),
                            _ = close.recv() => Cause::Signal(TERMINATE),
                            _ = shutdown.recv() => Cause::Signal(TERMINATE),
                        };
                        if send.send(Heard::Stop(cause)).is_err() {
                            return;
                        }
                    }
                });
            })?;
            Ok((Self(receive), waker))
        }

        pub(crate) fn unblock(&self) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn hear_suspend(&mut self) {}

        pub(crate) fn wait(&mut self, limit: Option<Duration>, _restarts: impl Fn() -> bool) -> Heard {
            match limit {
                Some(limit) => self.0.recv_timeout(limit).unwrap_or(Heard::Nothing),
                None => self.0.recv().unwrap_or(Heard::Nothing),
            }
        }
    }

    pub(super) fn signal_name(signal: i32) -> &'static str {
        match signal {
            CTRL_C => "Ctrl-C",
            CTRL_BREAK => "Ctrl-Break",
            _ => "close",
        }
    }
}
