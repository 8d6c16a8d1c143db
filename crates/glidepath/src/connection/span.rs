//! The span of a request, with OpenTelemetry's names where it has one (semantic conventions for HTTP spans).
//!
//! It is kept in its connection's entry: a future or a body that had room for it would be moved and dropped at
//! a greater cost by all those who want no spans. They pay a look at a flag; all that is here is out of their way.

use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request, StatusCode, Version};
use tracing::field::{Empty, display};

use super::entry::Entry;
use super::requests::Key;
use super::traceparent;

/// Whether somebody is interested.
#[cold]
pub(super) fn begin<B>(request: &Request<B>, entry: &Entry, key: Key) -> bool {
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
        return false;
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
    entry.set_span(key, Arc::new(span));
    true
}

/// What runs as long as this lives is inside.
pub(super) struct Entered<'a>(Option<(&'a Entry, Key)>);

impl<'a> Entered<'a> {
    #[inline]
    pub(super) fn while_in(span: Option<(&'a Entry, Key)>) -> Self {
        if let Some((entry, key)) = span {
            enter(entry, key);
        }
        Self(span)
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((entry, key)) = self.0 {
            exit(entry, key);
        }
    }
}

#[cold]
fn enter(entry: &Entry, key: Key) {
    if let Some(span) = entry.span(key) {
        span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
    }
}

#[cold]
fn exit(entry: &Entry, key: Key) {
    if let Some(span) = entry.span(key) {
        span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
    }
}

/// Runs what is of the request.
#[cold]
pub(super) fn in_scope<T>(entry: &Entry, key: Key, run: impl FnOnce() -> T) -> T {
    match entry.span(key) {
        Some(span) => span.in_scope(run),
        None => run(),
    }
}

/// The same, which may come to the answer.
#[cold]
pub(super) fn answers<T, E>(
    entry: &Entry,
    key: Key,
    poll: impl FnOnce() -> Poll<Result<T, E>>,
    status: impl FnOnce(&T) -> StatusCode,
) -> Poll<Result<T, E>> {
    let Some(span) = entry.span(key) else { return poll() };
    let polled = span.in_scope(poll);
    if let Poll::Ready(Ok(answer)) = &polled {
        span.record("http.response.status_code", status(answer).as_u16());
    }
    polled
}

#[cold]
pub(super) fn end(entry: &Entry, key: Key) {
    // Dropped with no lock held: that calls the subscriber.
    drop(entry.take_span(key));
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
