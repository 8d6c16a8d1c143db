//! The admin port: liveness and readiness, on listeners of its own that are closed last.
//!
//! Its connections have a registry of their own. So no probe is work, or in the report, and the stage that tells all others
//! to leave reaches these only when everything else is over.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::timeout;
use tower_service::Service;

use crate::connection::{Body, Registry, Stage};
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
}

impl Admin {
    pub(crate) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        Self { acceptors: Vec::new(), registry: Registry::new(&Plan::default(), Arc::clone(&changed)), changed }
    }

    pub(crate) fn add(&mut self, listener: Listener, probes: Probes) {
        self.acceptors.push(accept(listener, probes, &self.registry));
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
#[derive(Debug, Clone)]
pub(crate) struct Probes {
    pub(crate) readiness: Readiness,
    pub(crate) phase: tokio::sync::watch::Receiver<Phase>,
}

impl Probes {
    fn answer(&self, method: &Method, path: &str) -> Response<String> {
        let (status, says) = match path {
            "/livez" | "/readyz" if !matches!(*method, Method::GET | Method::HEAD) => {
                (StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD".to_owned())
            }
            "/livez" => (StatusCode::OK, "ok".to_owned()),
            "/readyz" => self.readyz(),
            _ => (StatusCode::NOT_FOUND, "/livez or /readyz".to_owned()),
        };
        let mut response = Response::new(says);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
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

impl Service<Request<Body>> for Probes {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
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
}
