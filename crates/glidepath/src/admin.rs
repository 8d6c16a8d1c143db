//! The admin port: liveness and readiness, on listeners of its own that are closed last. Where a token is set, the end and
//! a restart can be asked for there, too.
//!
//! Its connections have a registry of their own. So no probe is work, or in the report, and the stage that tells all others
//! to leave reaches these only when everything else is over.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service;

use crate::connection::{Body, Registry, Stage};
use crate::driver::Shared;
use crate::listener::{Acceptor, Listener};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::readiness::Readiness;
use crate::server::accept;

/// How long probes that are just connecting may hold up an end whose work is done. Near ones need 3 ms.
const SEALED_WITHIN: Duration = Duration::from_millis(20);

/// How long, after that, those that are connected may.
const GOODBYE: Duration = Duration::from_millis(2);

/// The admin listeners and their connections.
pub(crate) struct Admin {
    acceptors: Vec<Acceptor>,
    registry: Arc<Registry>,
    changed: Arc<Notify>,
    /// Set after a listener was added, or before.
    token: Token,
    #[cfg(feature = "metrics")]
    render: Render,
}

/// Gives the metrics in Prometheus' text format.
#[cfg(feature = "metrics")]
type Render = Arc<OnceLock<Box<dyn Fn() -> String + Send + Sync>>>;

/// What those who may ask for an end or a restart know. Nobody may, unless it is set.
type Token = Arc<OnceLock<String>>;

impl Admin {
    pub(crate) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        Self {
            acceptors: Vec::new(),
            registry: Registry::new(&Plan::default(), Arc::clone(&changed)),
            changed,
            token: Token::default(),
            #[cfg(feature = "metrics")]
            render: Render::default(),
        }
    }

    pub(crate) fn add(&mut self, listener: Listener, shared: &Arc<Shared>) {
        let control = Control { token: Arc::clone(&self.token), shared: Arc::clone(shared) };
        let probes = Probes { readiness: shared.readiness.clone(), phase: shared.phases() };
        let port = Port {
            probes,
            control,
            #[cfg(feature = "metrics")]
            render: Arc::clone(&self.render),
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
        let at_once = Plan { quiet: Duration::ZERO, spread: Duration::ZERO, ..*plan };
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
        let closed = async {
            while self.registry.open() > 0 {
                self.changed.notified().await;
            }
        };
        let _ = timeout(GOODBYE, closed).await;
        self.registry.set_stage(Stage::Cut);
    }
}

/// What the admin port serves.
#[derive(Clone)]
struct Port {
    probes: Probes,
    control: Control,
    #[cfg(feature = "metrics")]
    render: Render,
}

impl Service<Request<Body>> for Port {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, path) = (request.method(), request.uri().path());
        #[cfg(feature = "metrics")]
        if let Some(render) = self.render.get().filter(|_| path == "/metrics") {
            let answer = scraped(method, &self.control.shared, render);
            return Box::pin(async { Ok(answer) });
        }
        let Some(action) = Action::of(path).filter(|_| self.control.is_on()) else {
            let answer = self.probes.answer(method, path);
            return Box::pin(async { Ok(answer) });
        };
        let refused = self.control.refuses(method, request.headers());
        let control = self.control.clone();
        Box::pin(async move {
            Ok(match refused {
                Some(refused) => refused,
                None => control.perform(action).await,
            })
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

/// Told how it stands right before it is rendered, so that a scrape is never late.
#[cfg(feature = "metrics")]
fn scraped(method: &Method, shared: &Shared, render: impl Fn() -> String) -> Response<String> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD", "GET or HEAD");
    }
    shared.publish();
    let mut response = plain(StatusCode::OK, render());
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Restart,
    Drain,
}

impl Action {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/restart" => Some(Self::Restart),
            "/drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// What is done for those who know the token.
#[derive(Clone)]
struct Control {
    token: Token,
    shared: Arc<Shared>,
}

impl Control {
    fn is_on(&self) -> bool {
        self.token.get().is_some()
    }

    /// Why this request does nothing, if it is so.
    fn refuses(&self, method: &Method, headers: &HeaderMap) -> Option<Response<String>> {
        if method != Method::POST {
            return Some(not_allowed("POST", "POST"));
        }
        // A browser says whose page it is that asks, and this port has no pages: it is somebody else's (CSRF, DNS rebinding).
        if headers.contains_key(ORIGIN) {
            return Some(plain(StatusCode::FORBIDDEN, "not from a web page"));
        }
        let Some(given) = headers.get(AUTHORIZATION) else {
            let mut response = plain(StatusCode::UNAUTHORIZED, "this needs a token");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(response);
        };
        let is_known = self.token.get().is_some_and(|token| is_bearer(given.as_bytes(), token.as_bytes()));
        (!is_known).then(|| plain(StatusCode::FORBIDDEN, "not with this token"))
    }

    async fn perform(self, action: Action) -> Response<String> {
        tracing::info!(?action, "asked for on the admin port");
        match action {
            Action::Drain => {
                self.shared.begin();
                plain(StatusCode::ACCEPTED, "draining")
            }
            Action::Restart => match self.shared.restart().await {
                Ok(pid) => plain(StatusCode::OK, format!("process {pid} has taken over")),
                // It goes on as it was, and may be asked again.
                Err(error) => plain(StatusCode::CONFLICT, error.to_string()),
            },
        }
    }
}

/// Whether a header gives this token (RFC 6750). It takes as long for a wrong one, wherever the first wrong byte is.
fn is_bearer(given: &[u8], token: &[u8]) -> bool {
    let Some((scheme, given)) = given.split_at_checked("Bearer ".len()) else { return false };
    let differs = given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == token.len() && differs == 0
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

    #[test]
    fn ho_5_a_token_is_known_whole_or_not_at_all() {
        for known in ["Bearer secret", "bearer secret"] {
            assert!(is_bearer(known.as_bytes(), b"secret"), "{known}");
        }
        for not in
            ["", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer  secret", "Basic secret"]
        {
            assert!(!is_bearer(not.as_bytes(), b"secret"), "{not}");
        }
    }
}
