//! The way out: one POST to a receiver, over a client that judges every address before it connects.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use rustls::RootCertStore;
use tower_service::Service;

use crate::message::Message;
use crate::retry::Outcome;
use crate::signature::Signer;
use crate::target::{Refusal, Targets};

/// What is read of an answer so that its connection can be used again. The rest is not wanted.
const ANSWER_LIMIT: usize = 64 * 1024;
const IDLE: Duration = Duration::from_secs(20);

/// Delivers messages. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Client {
    http: Hyper<HttpsConnector<HttpConnector<Resolver>>, Body>,
    targets: Targets,
    signer: Option<Signer>,
    timeout: Duration,
}

impl Client {
    pub fn new(targets: Targets, signer: Option<Signer>, timeout: Duration) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(targets));
        tcp.enforce_http(false); // https comes through here too, TLS is laid on top
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let http =
            Hyper::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(https);
        Ok(Self { http, targets, signer, timeout })
    }

    /// Makes attempt number `attempt`. Redirects are not followed: they could lead inside.
    pub async fn attempt(&self, message: &Message, attempt: u32) -> Outcome {
        // Once more, for literal addresses do not pass the resolver, and the policy may have changed since the message came.
        if let Err(refusal) = self.targets.check(&message.url) {
            return Outcome::Refused(format!("the target {refusal}"));
        }
        let request = match self.request(message, attempt) {
            Ok(request) => request,
            Err(error) => return Outcome::Refused(format!("cannot be sent: {error}")),
        };
        match tokio::time::timeout(self.timeout, self.send(request)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failed(format!("no answer within {:?}", self.timeout)),
        }
    }

    fn request(&self, message: &Message, attempt: u32) -> anyhow::Result<Request<Body>> {
        let timestamp = Timestamp::now().as_second();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&message.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("courier/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-attempt", attempt);
        if let Some(event) = &message.event {
            request = request.header("webhook-event", event);
        }
        if let Some(signer) = &self.signer {
            request = request.header("webhook-signature", signer.sign(&message.id, timestamp, &message.payload));
        }
        let mut request = request.body(Body::from(message.payload.clone()))?;
        let own: HashMap<String, String> = serde_json::from_str(&message.headers)?;
        request.headers_mut().extend(HeaderMap::try_from(&own)?);
        Ok(request)
    }

    async fn send(&self, request: Request<Body>) -> Outcome {
        let response = match self.http.request(request).await {
            Ok(response) => response,
            Err(error) => return failure(&error),
        };
        let (head, body) = response.into_parts();
        // The head is the verdict. The body is read only to keep the connection; what goes wrong with it changes nothing.
        let _ = axum::body::to_bytes(Body::new(body), ANSWER_LIMIT).await;
        Outcome::Answered { status: head.status.as_u16(), retry_after: retry_after(head.status, &head.headers) }
    }
}

/// Only whole seconds are understood; a date would need the receiver's clock to be right.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Tells an address that is not allowed from a network that does not work, and says the innermost cause.
fn failure(error: &(dyn StdError + 'static)) -> Outcome {
    let mut cause = error;
    loop {
        if let Some(refusal) = refusal_in(cause) {
            return Outcome::Refused(format!("the target {refusal}"));
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return Outcome::Failed(cause.to_string()),
        }
    }
}

/// An `io::Error` hides what it holds from `source`.
fn refusal_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refusal> {
    error.downcast_ref::<Refusal>().or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Refusal>())
}

/// The system's roots. None at all is no reason not to start: http still works, and https says what is wrong.
fn tls() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        tracing::warn!("no root certificates found; https targets will fail until SSL_CERT_FILE names some");
    }
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Resolves names and refuses one of whose addresses is not allowed. It is asked for every new connection, and the
/// connection goes to the very addresses it judged: a name that answers differently a moment later gains nothing.
#[derive(Clone)]
struct Resolver(Targets);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let targets = self.0;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                targets.check_address(name.as_str(), address.ip()).map_err(io::Error::other)?;
            }
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_to_an_inner_address_is_refused_at_the_connection() {
        let lookup = |targets| Resolver(targets).call("localhost".parse().unwrap());
        let error = lookup(Targets::Public).await.expect_err("localhost is not public");
        assert!(refusal_in(&error).is_some(), "{error}");
        assert!(lookup(Targets::Any).await.is_ok());
    }

    #[tokio::test]
    async fn a_refusal_is_found_through_the_layers_of_the_client() {
        let client = Client::new(Targets::Public, None, Duration::from_secs(5)).unwrap();
        for scheme in ["http", "https"] {
            let request = Request::post(format!("{scheme}://localhost:9/")).body(Body::empty()).unwrap();
            let outcome = client.send(request).await;
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }

    #[test]
    fn retry_after_counts_where_it_means_something() {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, "7".parse().unwrap())]);
        assert_eq!(retry_after(StatusCode::SERVICE_UNAVAILABLE, &headers), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(StatusCode::INTERNAL_SERVER_ERROR, &headers), None);
    }
}
