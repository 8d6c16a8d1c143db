//! The admin port: liveness and readiness, on listeners of its own that are closed last. Where a token is set, the end and
//! a restart can be asked for there, too; and with the feature `admin` there is a page that shows what runs.
//!
//! Its connections have a registry of their own. So no probe is work, or in the report, and the stage that tells all others
//! to leave reaches these only when everything else is over.

mod body;
mod control;
#[cfg(feature = "admin")]
mod feed;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "admin")]
mod page;

use std::convert::Infallible;
use std::io;
#[cfg(feature = "admin")]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service;

use self::body::Said;
use self::control::{Action, Control, Token};
#[cfg(feature = "metrics")]
use self::metrics::{Render, Scrapes};
#[cfg(feature = "admin")]
use self::{
    feed::Feed,
    page::{Doors, Page, Way},
};
use crate::connection::{Body, Registry, Stage};
use crate::driver::Shared;
use crate::listener::{Acceptor, Listener};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::readiness::Readiness;
#[cfg(feature = "admin")]
use crate::report::Report;
use crate::server::accept;
#[cfg(feature = "admin")]
use crate::sync::{Mutex, lock};

/// How long probes that are just connecting may hold up an end whose work is done. Near ones need 3 ms.
const SEALED_WITHIN: Duration = Duration::from_millis(20);

/// How long, after that, those that are connected may.
const GOODBYE: Duration = Duration::from_millis(2);

/// How long, before that, whoever watches the page and does not take the last event. A browser on the machine needs 1 ms.
#[cfg(feature = "admin")]
const LAST_EVENT: Duration = Duration::from_millis(50);

/// The admin listeners and their connections.
pub(crate) struct Admin {
    acceptors: Vec<Acceptor>,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    /// Set after a listener was added, or before.
    token: Token,
    #[cfg(feature = "admin")]
    doors: Arc<Mutex<Doors>>,
    #[cfg(feature = "admin")]
    feed: Option<Arc<Feed>>,
    /// Where the page is.
    #[cfg(feature = "admin")]
    places: Vec<String>,
    #[cfg(feature = "metrics")]
    render: Render,
}

impl Admin {
    pub(crate) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        Self {
            acceptors: Vec::new(),
            registry: Registry::new(&Plan::default(), Arc::clone(&changed)),
            changed,
            token: Token::default(),
            #[cfg(feature = "admin")]
            doors: Arc::default(),
            #[cfg(feature = "admin")]
            feed: None,
            #[cfg(feature = "admin")]
            places: Vec::new(),
            #[cfg(feature = "metrics")]
            render: Render::default(),
        }
    }

    pub(crate) fn add(&mut self, listener: Listener, shared: &Arc<Shared>) {
        let control = Control::new(Arc::clone(&self.token), Arc::clone(shared));
        let probes = Probes { readiness: shared.readiness.clone(), phase: shared.phases() };
        #[cfg(feature = "admin")]
        let page = self.page_of(&listener, shared);
        let port = Port {
            probes,
            control,
            #[cfg(feature = "admin")]
            page,
            #[cfg(feature = "metrics")]
            scrapes: Scrapes::new(Arc::clone(&self.render), Arc::clone(shared)),
        };
        self.acceptors.push(accept(listener, port, &self.registry));
    }

    pub(crate) fn set_token(&self, token: String) {
        if token.is_empty() {
            tracing::warn!("the token of the admin port is empty; nobody can ask there for an end or a restart");
        } else if self.token.set(token).is_err() {
            tracing::warn!("the admin port has a token already; the first one holds");
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn set_metrics(&self, render: Box<dyn Fn() -> String + Send + Sync>) {
        if self.render.set(render).is_err() {
            tracing::warn!("the admin port has metrics already; the first ones hold");
        }
    }

    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        // In its own short end nobody waits for the next probe of a connection at rest.
        // Event streams are the page's, which ends them itself, behind the report.
        let at_once = Plan { quiet: Duration::ZERO, spread: Duration::ZERO, events_to_deadline: true, ..*plan };
        self.registry.set_plan(&at_once.bounded());
        self.acceptors.iter_mut().for_each(|acceptor| acceptor.set_backoff(plan.accept_backoff));
    }

    /// Serves until a listener fails.
    pub(crate) async fn serve(&mut self) -> io::Error {
        loop {
            if let Err(error) = Acceptor::any_sealed(&mut self.acceptors).await {
                return error;
            }
        }
    }

    pub(crate) fn acceptors(&self) -> &[Acceptor] {
        &self.acceptors
    }

    pub(crate) fn acceptors_mut(&mut self) -> &mut [Acceptor] {
        &mut self.acceptors
    }

    /// Another process answers the probes: who is connected here is to connect anew.
    pub(crate) fn turn_away(&self) {
        self.registry.set_stage(Stage::Drain);
    }

    pub(crate) fn sweep(&self) {
        self.registry.sweep();
    }

    /// Answers the probes that have come, and closes; nobody is waited for beyond [`SEALED_WITHIN`] and [`GOODBYE`].
    pub(crate) async fn close(mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::seal);
        self.registry.set_stage(Stage::Drain);
        let sealed = async {
            while !self.acceptors.is_empty() {
                // One that failed is closed, too.
                let _ = Acceptor::any_sealed(&mut self.acceptors).await;
            }
        };
        let _ = timeout(SEALED_WITHIN, sealed).await;
        #[cfg(feature = "admin")]
        if let Some(feed) = &self.feed {
            let _ = timeout(LAST_EVENT, feed.empty()).await;
        }
        let closed = async {
            while self.registry.open() > 0 {
                self.changed.notified().await;
            }
        };
        let _ = timeout(GOODBYE, closed).await;
        self.registry.set_stage(Stage::Cut);
    }
}

/// The page.
#[cfg(feature = "admin")]
impl Admin {
    fn page_of(&mut self, listener: &Listener, shared: &Arc<Shared>) -> Page {
        let address = listener.local_addr().ok();
        let way = Way { over_ip: address.is_some(), over_tls: listener.is_tls() };
        if let Some(mut address) = address {
            if address.ip().is_unspecified() {
                let is_v4 = address.is_ipv4();
                address.set_ip(if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
            }
            self.places.push(format!("http{}://{address}/", if way.over_tls { "s" } else { "" }));
        }
        let feed = self.feed.get_or_insert_with(|| Feed::new(Arc::clone(shared)));
        Page { doors: Arc::clone(&self.doors), feed: Arc::clone(feed), way }
    }

    pub(crate) fn open_page(&self) {
        lock(&self.doors).is_open = true;
        self.registry.show_peers();
    }

    pub(crate) fn open_page_to_all(&self) {
        lock(&self.doors).from_anywhere = true;
    }

    pub(crate) fn add_page_host(&self, name: String) {
        lock(&self.doors).hosts.push(name);
    }

    /// Says in the log where the page is. Its buttons need a token: where none is set, it is one that only the log knows.
    pub(crate) fn announce_page(&self) {
        if !lock(&self.doors).is_open {
            return;
        }
        if self.acceptors.is_empty() {
            tracing::warn!("the admin page has no port; see `Server::admin`");
            return;
        }
        let places = if self.places.is_empty() { "on a unix socket".to_owned() } else { self.places.join(" ") };
        if self.token.get().is_some() {
            tracing::info!("admin page: {places}");
            return;
        }
        match page::random() {
            Ok(token) => {
                tracing::info!("admin page: {places} (token {token})");
                self.set_token(token);
            }
            Err(error) => tracing::warn!("admin page: {places} (without its buttons: {error})"),
        }
    }

    /// The last that watchers hear.
    pub(crate) fn tell(&self, report: &Report) {
        if let Some(feed) = &self.feed {
            feed.tell(report);
        }
    }
}

/// What the admin port serves.
#[derive(Clone)]
struct Port {
    probes: Probes,
    control: Control,
    #[cfg(feature = "admin")]
    page: Page,
    #[cfg(feature = "metrics")]
    scrapes: Scrapes,
}

impl Service<Request<Body>> for Port {
    type Response = Response<Said>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Said>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        #[cfg(feature = "admin")]
        if let Some(answer) = self.page.answer(&request) {
            return Box::pin(async { Ok(answer) });
        }
        let (method, path) = (request.method(), request.uri().path());
        #[cfg(feature = "metrics")]
        if let Some(answer) = self.scrapes.answer(method, path) {
            return Box::pin(async { Ok(answer.map(Said::from)) });
        }
        let Some(action) = Action::of(path).filter(|_| self.control.is_on()) else {
            let answer = self.probes.answer(method, path);
            return Box::pin(async { Ok(answer.map(Said::from)) });
        };
        #[cfg(feature = "admin")]
        let from_own_page = self.page.sent(&request);
        #[cfg(not(feature = "admin"))]
        let from_own_page = false;
        let refused = self.control.refuses(method, request.headers(), from_own_page);
        let control = self.control.clone();
        Box::pin(async move {
            let answer = match refused {
                Some(refused) => refused,
                None => control.perform(action).await,
            };
            Ok(answer.map(Said::from))
        })
    }
}

fn plain(status: StatusCode, says: impl Into<String>) -> Response<String> {
    let mut response = Response::new(says.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn not_allowed(allowed: &'static str, says: &str) -> Response<String> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, says);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Who asks whether the service is well.
#[derive(Debug, Clone)]
struct Probes {
    readiness: Readiness,
    phase: tokio::sync::watch::Receiver<Phase>,
}

impl Probes {
    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        match path {
            "/livez" | "/readyz" if !matches!(*method, Method::GET | Method::HEAD) => {
                not_allowed("GET, HEAD", "GET or HEAD")
            }
            "/livez" => plain(StatusCode::OK, "ok"),
            "/readyz" => {
                let (status, says) = self.readyz();
                plain(status, says)
            }
            _ => plain(StatusCode::NOT_FOUND, "/livez or /readyz"),
        }
    }

    /// The status, and the phase in words.
    fn readyz(&self) -> (StatusCode, String) {
        let phase = *self.phase.borrow();
        match self.readiness.waits_for() {
            Some(names) if names.is_empty() => (StatusCode::OK, phase.to_string()),
            Some(names) => (StatusCode::SERVICE_UNAVAILABLE, format!("{phase}, not ready: {}", names.join(", "))),
            // Readiness is off a moment before the next phase is shown.
            None if phase <= Phase::Serving => (StatusCode::SERVICE_UNAVAILABLE, "stopping".to_owned()),
            None => (StatusCode::SERVICE_UNAVAILABLE, phase.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(phase: Phase) -> Probes {
        Probes { readiness: Readiness::default(), phase: tokio::sync::watch::channel(phase).1 }
    }

    fn get(probes: &Probes, path: &str) -> (u16, String) {
        let response = probes.answer(&Method::GET, path);
        (response.status().as_u16(), response.into_body())
    }

    #[test]
    fn rdy_1_readyz_says_the_phase_and_what_it_waits_for() {
        let serving = probes(Phase::Serving);
        assert_eq!(get(&serving, "/readyz"), (200, "serving".into()));
        let cache = serving.readiness.latch("cache");
        let templates = serving.readiness.latch("templates");
        assert_eq!(get(&serving, "/readyz"), (503, "serving, not ready: cache, templates".into()));
        assert_eq!(get(&serving, "/livez"), (200, "ok".into()));
        cache.release();
        templates.release();
        assert_eq!(get(&serving, "/readyz"), (200, "serving".into()));
        serving.readiness.stop();
        assert_eq!(get(&serving, "/readyz"), (503, "stopping".into()));
        assert_eq!(get(&serving, "/livez"), (200, "ok".into()));
    }

    #[test]
    fn rdy_1_readyz_is_503_in_every_phase_of_the_end() {
        for phase in [Phase::LameDuck, Phase::Draining, Phase::Closing, Phase::Ended] {
            let ending = probes(phase);
            ending.readiness.stop();
            assert_eq!(get(&ending, "/readyz"), (503, phase.to_string()));
            assert_eq!(get(&ending, "/livez"), (200, "ok".into()));
        }
    }

    /// The control first: without a watcher nobody is waited for.
    #[cfg(all(feature = "admin", not(shuttle)))]
    #[tokio::test(start_paused = true)]
    async fn see_9_a_watcher_that_takes_nothing_is_waited_for_by_a_bound() {
        for watched in [false, true] {
            let mut admin = Admin::new();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            admin.add(listener.into(), &Shared::new(None));
            let stuck = watched.then(|| admin.feed.as_ref().map(|feed| feed.watch()));
            let begun = tokio::time::Instant::now();
            admin.close().await;
            let took = begun.elapsed();
            assert_eq!(took >= LAST_EVENT, watched, "{took:?}");
            assert!(took < SEALED_WITHIN + LAST_EVENT + GOODBYE + Duration::from_millis(3), "{took:?}");
            drop(stuck);
        }
    }
}
