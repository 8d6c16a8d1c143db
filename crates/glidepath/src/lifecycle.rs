//! The handles of one service's life.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use crate::connection::App;
use crate::drain::Drain;
use crate::driver::{self, Shared};
use crate::error::Result;
use crate::listener::Listener;
use crate::phase::Phase;
use crate::readiness::Readiness;
use crate::report::{Report, Snapshot};
use crate::server::Server;
use crate::signal::{DumpSignal, Signals};
use crate::tasks::Tasks;

/// One service's life: made first, before anything is bound, so that no signal is missed.
///
/// Cheap to clone; all clones are the same life. A life has one server, which may have several listeners.
///
/// ```no_run
/// # async fn main_() -> glidepath::Result<()> {
/// use glidepath::Lifecycle;
///
/// let lifecycle = Lifecycle::new().expect("signal handlers");
/// lifecycle.on_close("database", async { /* pool.close().await */ });
/// let _detached = lifecycle.tasks().spawn("warm the cache", async {});
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await.expect("port 4000");
/// let report = lifecycle.serve(listener, axum::Router::new()).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Lifecycle {
    pub(crate) shared: Arc<Shared>,
}

impl Lifecycle {
    /// Installs the signal handlers at once, and a thread that hears them. Needs no runtime.
    ///
    /// From now on SIGINT and SIGTERM (and SIGHUP, unless it was ignored or restart in place is on) begin the end, one more signal hurries it, the
    /// next forces it, and SIGQUIT prints what is running and ends the process with 131. The process is ended by force
    /// if it is still there half a second after the grace period.
    ///
    /// # Errors
    /// When handlers, the pipe between them and the thread, or the thread cannot be made.
    pub fn new() -> io::Result<Self> {
        let (signals, waker) = Signals::install()?;
        let shared = Shared::new(Some(waker));
        let standing_by = Arc::clone(&shared);
        std::thread::Builder::new().name("glidepath".into()).spawn(move || driver::stand_by(&standing_by, signals))?;
        Ok(Self { shared })
    }

    /// A life that hears no signals and never ends the process: for tests, and for a server inside something larger.
    ///
    /// Its end is asked for through [`Lifecycle::handle`].
    pub fn without_signals() -> Self {
        Self { shared: Shared::new(None) }
    }

    /// Makes SIGQUIT's dump, and that of [`dump_on`](Self::dump_on), one line of JSON: [`Snapshot::to_json`].
    pub fn dump_json(&self) {
        self.shared.dump_json();
    }

    /// Lets `signal` dump what is running, as SIGQUIT does, but go on. Unless this is called, SIGUSR1 and SIGUSR2 are the
    /// program's.
    ///
    /// # Errors
    /// When the handler cannot be installed. On Windows there is no such signal.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// use glidepath::{DumpSignal, Lifecycle};
    ///
    /// let lifecycle = Lifecycle::new()?;
    /// lifecycle.dump_on(DumpSignal::User1)?; // kill -USR1 PID
    /// # Ok(()) }
    /// ```
    pub fn dump_on(&self, signal: DumpSignal) -> io::Result<()> {
        self.shared.dump_on(signal)
    }

    /// Turns on restart in place from now on; see [`Server::restart_in_place`].
    ///
    /// Right after [`Lifecycle::new`] it makes sure that a SIGHUP during a slow start is taken for an early wish to restart,
    /// which is refused, and does not end the process.
    pub fn restart_in_place(&self) {
        self.shared.restart.turn_on();
    }

    /// Serves `app` on a bound listener until the end; see [`serve`](crate::serve).
    pub fn serve<A: App>(&self, listener: impl Into<Listener>, app: A) -> Server {
        self.run().and_serve(listener, app)
    }

    /// A life without listeners, for programs that only have background work: waits for the end, the tasks and the hooks.
    pub fn run(&self) -> Server {
        Server::new(Ok(self.clone()))
    }

    /// What handlers and tasks see of the end.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }

    /// Whether the service may be sent traffic, and what it waits for until then.
    ///
    /// ```no_run
    /// # async fn main_() -> glidepath::Result<()> {
    /// # async fn read_the_catalogue() {}
    /// let lifecycle = glidepath::Lifecycle::new().expect("signal handlers");
    /// let catalogue = lifecycle.readiness().latch("catalogue");
    /// let _detached = lifecycle.tasks().spawn("read the catalogue", async move {
    ///     read_the_catalogue().await;
    ///     catalogue.release();
    /// });
    /// # let (public, admin) = (tokio::net::TcpListener::bind("").await?, tokio::net::TcpListener::bind("").await?);
    /// let report = lifecycle.serve(public, axum::Router::new()).admin(admin).await?;
    /// # Ok(()) }
    /// ```
    pub fn readiness(&self) -> Readiness {
        self.shared.readiness.clone()
    }

    /// Background work that the end waits for.
    pub fn tasks(&self) -> Tasks {
        self.shared.tasks.clone()
    }

    /// For asking for the end, and watching it.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Runs `work` when requests and tasks are done: the last registered first, one after the other, each within its
    /// share of a slice of the grace period that is kept for them even when the drain was cut.
    ///
    /// Register the database first: it closes last.
    pub fn on_close(&self, name: impl Into<Cow<'static, str>>, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.hooks.add(name.into(), work);
    }

    /// Calls `tell` with the report, exactly once, before `serve` returns it; or on the signal thread, when that has to
    /// end the process. One callback; a later one replaces an earlier.
    pub fn on_report(&self, tell: impl FnOnce(&Report) + Send + 'static) {
        self.shared.on_report(Box::new(tell));
    }
}

/// Asks for the end from inside the program, and watches it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Begins the end, as SIGTERM does. Nothing if it has begun.
    pub fn begin(&self) {
        self.shared.begin();
    }

    /// One step on, as one more signal: begins the end, ends the lame duck, or forces the end.
    pub fn hurry(&self) {
        self.shared.hurry();
    }

    /// Ends now: requests are answered 503, tasks aborted, connections cut. The report's exit code is 3.
    pub fn force(&self) {
        self.shared.force();
    }

    /// Replaces this process by a new one that takes over the listeners, as SIGHUP does where
    /// [`Server::restart_in_place`] is set. Gives the new process's id when it accepts; this one drains then, and as PID 1
    /// it stays after that.
    ///
    /// Dropping the future does not take the wish back.
    ///
    /// # Errors
    ///
    /// Why it came to nothing. This process goes on serving, and it can be tried again.
    pub async fn restart(&self) -> Result<u32> {
        self.shared.restart().await
    }

    /// The arguments of the next process, without the program's name: from now on, and for every restart. This process's own,
    /// unless set.
    ///
    /// ```no_run
    /// # async fn main_(handle: glidepath::Handle) -> glidepath::Result<()> {
    /// handle.restart_args(["--config", "/etc/orders/new.toml"]);
    /// let pid = handle.restart().await?;
    /// # Ok(()) }
    /// ```
    pub fn restart_args(&self, args: impl IntoIterator<Item = impl Into<OsString>>) {
        self.shared.restart.set_args(args.into_iter().map(Into::into).collect());
    }

    /// Where the service is in its life.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// Ends when `phase` is reached or passed; at once if it is. Cancel safe.
    pub async fn wait_for(&self, phase: Phase) {
        let mut phases = self.shared.phases();
        // The sender lives as long as this handle does.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// What is running now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }
}
