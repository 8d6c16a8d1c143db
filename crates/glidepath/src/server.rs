//! The server's builder, and what awaiting it does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::connection::{App, Connection, Registry};
use crate::driver::drive;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::listener::{Acceptor, Listener};
use crate::plan::Plan;
use crate::report::Report;
use crate::sync::atomic::Ordering;

/// A server that has not started. Await it: it serves until the end, and gives the [`Report`].
///
/// Dropping the future while it serves drops the listeners; open connections go on without anybody who waits for them.
#[must_use = "a server does nothing unless awaited"]
pub struct Server {
    lifecycle: io::Result<Lifecycle>,
    acceptors: Vec<Acceptor>,
    admin: Admin,
    plan: Plan,
}

/// Serves `app` on a bound listener, with handlers for signals and everything else on by default.
///
/// `app` is any tower service of [`http::Request`], such as axum's `Router`. `listener` is tokio's TCP or unix listener.
/// HTTP/1.1 and HTTP/2 with prior knowledge are served on the same port. The signal handlers stand when this returns;
/// if they could not be installed, awaiting gives that error.
///
/// ```no_run
/// # async fn main_() -> glidepath::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await.expect("port 4000");
/// let report = glidepath::serve(listener, axum::Router::new()).await?;
/// eprint!("{report}");
/// # Ok(()) }
/// ```
pub fn serve<A: App>(listener: impl Into<Listener>, app: A) -> Server {
    Server::new(Lifecycle::new()).and_serve(listener, app)
}

/// Accepts connections, each with a task of its own that the registry knows.
pub(crate) fn accept<A: App>(listener: Listener, app: A, registry: &Arc<Registry>) -> Acceptor {
    let registry = Arc::clone(registry);
    #[cfg(feature = "tls")]
    let tls = listener.tls_config();
    Acceptor::new(listener, move |socket, peer| {
        #[cfg(not(feature = "tls"))]
        let connection = Connection::new(socket, peer, app.clone(), &registry);
        #[cfg(feature = "tls")]
        let connection = Connection::new(socket, peer, tls.clone(), app.clone(), &registry);
        #[expect(clippy::disallowed_methods, reason = "the registry tracks connections")]
        tokio::spawn(connection);
    })
}

impl Server {
    pub(crate) fn new(lifecycle: io::Result<Lifecycle>) -> Self {
        Self { lifecycle, acceptors: Vec::new(), admin: Admin::new(), plan: Plan::default() }
    }

    /// Serves on one more listener, the same app or another. All are sealed before anything is waited for.
    pub fn and_serve<A: App>(mut self, listener: impl Into<Listener>, app: A) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            self.acceptors.push(accept(listener.into(), app, &lifecycle.shared.registry));
        }
        self
    }

    /// Answers probes on a listener of its own, which outlives all others: it is closed last, after the hooks.
    ///
    /// - `/livez`: 200 to the end, the drain included.
    /// - `/readyz`: 200 while the service serves, 503 from the signal on, and before that while a
    ///   [latch](Lifecycle::readiness) is held. The body says the phase.
    ///
    /// Probes are not work: nobody waits for them or for their connections (an end whose work is done is held up by a few
    /// milliseconds), and neither is in the counts of the [`Report`] or of a [`Snapshot`](crate::Snapshot). Bind it where only your
    /// orchestrator comes: it asks nobody who they are.
    ///
    /// ```no_run
    /// # async fn main_() -> std::io::Result<()> {
    /// use tokio::net::TcpListener;
    ///
    /// let public = TcpListener::bind("0.0.0.0:4000").await?;
    /// let admin = TcpListener::bind("0.0.0.0:4001").await?;
    /// let server = glidepath::serve(public, axum::Router::new()).admin(admin);
    /// # drop(server); Ok(()) }
    /// ```
    pub fn admin(mut self, listener: impl Into<Listener>) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            self.admin.add(listener.into(), &lifecycle.shared);
        }
        self
    }

    /// Lets whoever knows `token` ask for an end or a restart on the [admin port](Server::admin). Off, unless set; an empty
    /// token is none.
    ///
    /// - `POST /drain` begins the end, as SIGTERM does: 202.
    /// - `POST /restart` restarts in place, as [`Handle::restart`](crate::Handle::restart) does: 200 when the next process has
    ///   taken over, 409 with the reason when this one goes on.
    ///
    /// The token is given as `Authorization: Bearer …`. Without one the answer is 401, with a wrong one 403, and nothing is
    /// begun. A request with an `Origin` comes from a web page, and is refused with 403.
    ///
    /// It goes over the wire as it is: bind the port to the loopback address or a closed network.
    ///
    /// ```no_run
    /// # async fn main_(public: glidepath::Listener, admin: glidepath::Listener) -> glidepath::Result<()> {
    /// let server = glidepath::serve(public, axum::Router::new()).admin(admin).restart_in_place();
    /// let report = match std::env::var("ADMIN_TOKEN") {
    ///     Ok(token) => server.admin_token(token).await?,
    ///     Err(_) => server.await?,
    /// };
    /// # Ok(()) }
    /// ```
    pub fn admin_token(self, token: impl Into<String>) -> Self {
        self.admin.set_token(token.into());
        self
    }

    /// Turns on the page of the [admin port](Server::admin), at `/`: what runs and since when, connections by state, the phases
    /// and the time that is left, live; and at the end how it ended. Off, unless set. Feature `admin`.
    ///
    /// - It is shown to whoever is on this machine: a peer at a loopback address, or on a unix socket. Others get 403;
    ///   [`admin_page_from_anywhere`](Server::admin_page_from_anywhere) lets them in.
    /// - It is reached by an IP address or as `localhost`, and by the names of [`admin_page_host`](Server::admin_page_host).
    /// - Its buttons do what `POST /drain` and `POST /restart` do, and need the [token](Server::admin_token). If none is set, a random
    ///   one is made, and the log says it beside the page's address.
    /// - It shows methods and paths, the names of tasks and hooks, and the addresses of peers; no query strings and no headers.
    /// - Who watches is no work and holds up no end. At most 32 watch at a time; while nobody does, it costs nothing.
    ///
    /// ```no_run
    /// # async fn main_(public: glidepath::Listener) -> glidepath::Result<()> {
    /// let admin = tokio::net::TcpListener::bind("127.0.0.1:4001").await.expect("port 4001");
    /// let report = glidepath::serve(public, axum::Router::new()).admin(admin).admin_page().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "admin")]
    pub fn admin_page(self) -> Self {
        self.admin.open_page();
        self
    }

    /// Shows the [page](Server::admin_page), where it is on, to whoever reaches the port, and not only to this machine. It asks nobody
    /// who they are: let only those reach it who may know what runs.
    #[cfg(feature = "admin")]
    pub fn admin_page_from_anywhere(self) -> Self {
        self.admin.open_page_to_all();
        self
    }

    /// A name, without a port, by which browsers reach the [page](Server::admin_page), besides IP addresses and `localhost`. Other
    /// names are refused: somebody may have made them lead here, to read the page by way of your browser (DNS rebinding).
    #[cfg(feature = "admin")]
    pub fn admin_page_host(self, name: impl Into<String>) -> Self {
        self.admin.add_page_host(name.into());
        self
    }

    /// Answers `/metrics` on the [admin port](Server::admin) with what `render` gives: Prometheus' text format, by whichever
    /// recorder of the crate `metrics` the program has installed. The metrics are those of `docs/observing.md`, and the
    /// program's own beside them.
    ///
    /// They are of one life: a process that has several with a recorder tells the last one's.
    ///
    /// ```no_run
    /// # async fn main_(public: glidepath::Listener, admin: glidepath::Listener) -> glidepath::Result<()> {
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// let prometheus = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    /// let server = glidepath::serve(public, axum::Router::new()).admin(admin);
    /// let report = server.admin_metrics(move || prometheus.render()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The last scrape that the port answers, right before the report, has the whole account. A recorder that pushes is
    /// told every ten seconds, at each phase, and before [`Lifecycle::on_report`] is called.
    #[cfg(feature = "metrics")]
    pub fn admin_metrics(self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.admin.set_metrics(Box::new(render));
        self
    }

    /// Puts the peer's address into the extensions of every request, as [`PeerAddr`](crate::PeerAddr). Off, because an
    /// extension costs an allocation or two a request.
    ///
    /// ```no_run
    /// # async fn main_(listener: tokio::net::TcpListener) -> glidepath::Result<()> {
    /// use axum::{Extension, Router, routing::get};
    /// use glidepath::PeerAddr;
    ///
    /// async fn who(Extension(PeerAddr(address)): Extension<PeerAddr>) -> String {
    ///     format!("you come from {address}")
    /// }
    /// let app = Router::new().route("/who", get(who));
    /// let report = glidepath::serve(listener, app).peer_addr().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// With the feature `axum` its `ConnectInfo<SocketAddr>` is there, too.
    pub fn peer_addr(self) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            lifecycle.shared.registry.show_peers();
        }
        self
    }

    /// Puts each request into a `tracing` span `request` (target `glidepath::request`, level INFO), from its head to the last
    /// byte of its answer. What handlers and their bodies log is inside. Off, because it costs some allocations a request.
    ///
    /// Its fields are those that OpenTelemetry has for a server's span: `http.request.method`, `url.path` (no query),
    /// `network.protocol.version`, `network.peer.address` and `.port`, and `http.response.status_code` when it is known. A
    /// well-formed `traceparent` (W3C Trace Context) adds `trace_id`, `parent_id` and `trace_flags`, as its client says them.
    ///
    /// ```no_run
    /// # async fn main_(listener: tokio::net::TcpListener) -> glidepath::Result<()> {
    /// tracing_subscriber::fmt().init();
    /// let report = glidepath::serve(listener, axum::Router::new()).request_spans(true).await?;
    /// # Ok(()) }
    /// ```
    pub fn request_spans(self, on: bool) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            lifecycle.shared.registry.set_request_spans(on);
        }
        self
    }

    /// Turns on restart in place: SIGHUP, unless it was ignored at the start, and [`Handle::restart`](crate::Handle::restart)
    /// start the program's file again, and the listeners go on to the new process. Off, unless set. Unix only.
    ///
    /// - The file is executed as this process was: by the same path, in the same folder, and with the same arguments, unless
    ///   [`Handle::restart_args`](crate::Handle::restart_args) gives others. A new version at that path, or a link there that leads to it, is what runs then. The environment is this process's, with
    ///   the listeners in `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` (sd_listen_fds(3)). No other descriptor is passed.
    /// - Every listener needs a name: make it with [`Listener::bind`], in both processes.
    /// - When the new process serves and none of its [latches](Lifecycle::readiness) is held, it takes over. Only then this
    ///   one drains, as after a signal, but without a lame duck: nobody is refused, because the socket stays open.
    ///   WebSockets are closed with 1012 and not 1001. The [`Report`] names the successor.
    /// - If the new process can't be executed, ends, or takes longer than [`ready_within`](Server::ready_within), it is ended,
    ///   this one goes on serving, and says why in its log. The new one has accepted nothing by then.
    /// - One at a time: none begins while another is under way, or while the process before this one still drains.
    ///
    /// The new process is a child of this one, and then of whoever adopts orphans.
    ///
    /// With PID 1 a container ends. So a process that is PID 1 drains, runs its hooks and tells its report, and then it stays, asleep,
    /// as the guardian of the new one. It hands on every signal that it hears, follows further restarts, and ends when the last
    /// of these processes has: only then this future resolves, and the [`Report`] has that one's exit code (128 + n if signal
    /// n killed it). What the program runs beside, and the end does not know of, goes on until then: let [`Tasks`](crate::Tasks)
    /// track it. This takes Linux 5.4 or later, and a lifecycle that hears signals; else the restart is refused.
    ///
    /// Any program can be the next one. One that is not built on glidepath finds in `GLIDEPATH_RESTART` the descriptor of a
    /// socket, and writes `accepting` and a line end to it as soon as it accepts. A descriptor that it finds in `GLIDEPATH_GUARD` it
    /// closes, or keeps from the programs that it starts.
    ///
    /// To turn it on before the server is made, see [`Lifecycle::restart_in_place`].
    pub fn restart_in_place(self) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            lifecycle.restart_in_place();
        }
        self
    }

    /// Gives the listeners to systemd to keep, so that nobody is refused between an end and the next start, as in
    /// `systemctl restart` or after a crash: who connects meanwhile waits in the kernel's queue. Off, unless set. Nothing where
    /// no `NOTIFY_SOCKET` is.
    ///
    /// - The unit needs `FileDescriptorStoreMax=` of at least the number of listeners, and `NotifyAccess=all`. systemd
    ///   drops what it has no room for and says nothing to us.
    /// - Each listener needs a name, and is found by it at the next start: [`Listener::bind`] and [`Listener::inherited`] do so.
    /// - At the end such a listener is not sealed: what waits is taken, and who comes later is the next process's. The same
    ///   holds for a socket that systemd has opened (a `.socket` unit).
    /// - Where no process comes next (`systemctl stop`), systemd closes what it keeps, and who is in the queue by then is reset.
    pub fn keep_listeners(self) -> Self {
        if let Ok(lifecycle) = &self.lifecycle {
            lifecycle.shared.restart.keep_listeners();
        }
        self
    }

    /// In a restart, how long the next process may take until it accepts. 30 s.
    pub fn ready_within(mut self, time: Duration) -> Self {
        self.plan.ready_within = time;
        self
    }

    /// Warns at the start, in the log, when lame duck and grace (which has the hooks in it) do not fit the time that whoever
    /// ends the process gives it before SIGKILL. No budget unless stated.
    ///
    /// | manager | its setting | default |
    /// |---|---|---|
    /// | Kubernetes | `terminationGracePeriodSeconds`, less what a `preStop` hook takes | 30 s |
    /// | Docker, Compose | `docker stop --timeout`, `stop_grace_period` | 10 s |
    /// | systemd | `TimeoutStopSec` | 90 s |
    ///
    /// What has to fit is half a second longer than lame duck and grace together: answers at the deadline, and the report.
    ///
    /// Where the program states none, the environment may: `GLIDEPATH_BUDGET`, in seconds, as in `45` or `7.5`. A manifest
    /// that sets it beside the manager's own setting keeps the two together, because no manager tells its processes.
    ///
    /// ```
    /// # fn main_(lifecycle: glidepath::Lifecycle) -> glidepath::Server {
    /// use std::time::Duration;
    /// let secs = Duration::from_secs;
    /// lifecycle.run().lame_duck(secs(5)).grace(secs(24)).budget(secs(30))
    /// # }
    /// ```
    pub fn budget(mut self, time: Duration) -> Self {
        self.plan.budget = Some(time);
        self
    }

    /// The most that drain and hooks together may take. 30 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.plan.grace = time;
        self
    }

    /// After the signal, how long connections are still accepted, so that balancers can turn away. 0 s. A Ctrl-C on a
    /// terminal skips it.
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.plan.lame_duck = time;
        self
    }

    /// How long a keep-alive connection must have been silent before the drain closes it. 500 ms.
    pub fn quiet(mut self, time: Duration) -> Self {
        self.plan.quiet = time;
        self
    }

    /// The part of the grace period that is kept for hooks, if there are any. 5 s, at most a quarter of the grace period.
    pub fn hooks_within(mut self, time: Duration) -> Self {
        self.plan.hooks = Some(time);
        self
    }

    /// From the first byte of a TLS handshake to its end; then the connection is closed. 10 s.
    ///
    /// In the drain it is no longer than half of the time for work, so that a request can still follow.
    #[cfg(feature = "tls")]
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.plan.handshake_timeout = time;
        self
    }

    /// From a request head's first byte to its last, and from a connection to its first byte; then 408, or FIN where
    /// nothing came. 10 s.
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.plan.head_timeout = time;
        self
    }

    /// The most bytes that a request's head may have; a longer one is answered 431. 64 KiB.
    pub fn head_size(mut self, bytes: usize) -> Self {
        self.plan.head_size = bytes;
        self
    }

    /// The longest pause between two tries to accept when the system has no descriptors or memory left. The first is 10 ms,
    /// and each is twice the one before. 1 s.
    pub fn accept_backoff(mut self, time: Duration) -> Self {
        self.plan.accept_backoff = time;
        self
    }

    /// How long a keep-alive connection may be at rest before it is closed. 75 s.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.plan.idle_timeout = time;
        self
    }

    /// In the drain, over how long the closes of connections at rest are spread, so that their clients do not all connect
    /// to the next server in one instant. 0 s: each is closed as soon as it has been quiet.
    pub fn spread(mut self, time: Duration) -> Self {
        self.plan.spread = time;
        self
    }

    /// Whether event streams (`text/event-stream`) go on until the deadline. By default they are ended when the drain
    /// begins, between two events and with a proper end of body, and the client connects again.
    pub fn event_streams_to_deadline(mut self, go_on: bool) -> Self {
        self.plan.events_to_deadline = go_on;
        self
    }

    /// In the drain, how long a WebSocket's peer may take to answer the Close before its connection is closed. 5 s.
    pub fn goodbye_within(mut self, time: Duration) -> Self {
        self.plan.goodbye = time;
        self
    }

    /// Whether memory that many connections at rest have freed goes back to the system. Yes, unless set.
    ///
    /// Some seconds after 256 busy connections or more have become idle the C library is asked for that (malloc_trim(3)), on Linux
    /// with glibc. It takes about a microsecond for each hole in the whole program's heap, and who allocates meanwhile may wait; so it is
    /// done for a thousandth of the time at most. Say no where the heap is large and full of holes, and such a pause would hurt.
    pub fn give_back_memory(mut self, yes: bool) -> Self {
        self.plan.give_back_memory = yes;
        self
    }

    /// Whether HTTP/2 clients are told that they may open WebSockets on a stream (RFC 8441). Yes, unless set.
    ///
    /// A browser that is told so asks with `CONNECT` and not with `GET`: route WebSockets with axum's `any`, or say no here,
    /// and it opens an HTTP/1.1 connection for each.
    pub fn websockets_over_http2(mut self, tell: bool) -> Self {
        self.plan.connect_protocol = tell;
        self
    }
}

impl IntoFuture for Server {
    type Output = Result<Report>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Report>> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let lifecycle = self.lifecycle.map_err(Error::signals)?;
            if lifecycle.shared.serves.swap(true, Ordering::AcqRel) {
                return Err(Error::reused());
            }
            if self.plan.budget.is_none() {
                self.plan.budget = stated_budget();
            }
            if let Some(over) = self.plan.over_budget() {
                tracing::warn!("{over}");
            }
            #[cfg(feature = "admin")]
            self.admin.announce_page();
            self.admin.set_plan(&self.plan);
            for acceptor in &mut self.acceptors {
                acceptor.set_backoff(self.plan.accept_backoff);
            }
            lifecycle.shared.set_plan(self.plan);
            drive(&lifecycle.shared, self.acceptors, self.admin).await
        })
    }
}

/// What whoever starts this process says that its end may take.
const BUDGET: &str = "GLIDEPATH_BUDGET";

fn stated_budget() -> Option<Duration> {
    let text = std::env::var(BUDGET).ok()?;
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if seconds.is_none() {
        tracing::warn!("{BUDGET}={}: not a number of seconds, and not heeded", text.escape_debug());
    }
    seconds
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("plan", &self.plan).finish_non_exhaustive()
    }
}
