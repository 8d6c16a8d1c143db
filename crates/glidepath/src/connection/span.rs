//! The span of a request, with OpenTelemetry's names where it has one (semantic conventions for HTTP spans).

use http::{Method, Request, Version};
use tracing::Span;
use tracing::field::{Empty, display};

use super::entry::Entry;
use super::traceparent;

/// The field that is known when the answer is.
pub(super) const STATUS: &str = "http.response.status_code";

/// `None` where nobody is interested. Boxed, so that a request without one carries no more than a pointer.
#[cold]
pub(super) fn of<B>(request: &Request<B>, entry: &Entry) -> Option<Box<Span>> {
    let method = known(request.method());
    let span = tracing::info_span!(
        target: "glidepath::request",
        "request",
        http.request.method = method.unwrap_or("_OTHER"),
        http.request.method_original = Empty,
        url.path = request.uri().path(),
        network.protocol.version = version(request.version()),
        network.peer.address = Empty,
        network.peer.port = Empty,
        trace_id = Empty,
        parent_id = Empty,
        trace_flags = Empty,
        http.response.status_code = Empty,
    );
    if span.is_disabled() {
        return None;
    }
    if method.is_none() {
        span.record("http.request.method_original", request.method().as_str());
    }
    if let Some(peer) = entry.peer() {
        span.record("network.peer.address", display(peer.ip()));
        span.record("network.peer.port", peer.port());
    }
    if let Some(parent) = traceparent::of(request.headers()) {
        span.record("trace_id", parent.trace_id);
        span.record("parent_id", parent.parent_id);
        span.record("trace_flags", parent.flags);
    }
    Some(Box::new(span))
}

/// The name of a method that is one of RFC 9110 or PATCH: any other could be anything.
fn known(method: &Method) -> Option<&str> {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    KNOWN.contains(method).then(|| method.as_str())
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
