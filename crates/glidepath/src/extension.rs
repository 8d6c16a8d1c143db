//! The drain as handlers find it in their request. Opt-in, because an extension allocates. And axum's extractors.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::drain::Drain;

/// Puts a [`Drain`] into the extensions of every request, for handlers that have no other way to it.
///
/// Costs an allocation or two a request; a `Drain` in the app's state costs none.
///
/// ```
/// # fn app(lifecycle: &glidepath::Lifecycle) -> axum::Router {
/// use axum::{Extension, Router, routing::get};
/// use glidepath::{Drain, DrainLayer};
///
/// async fn handler(Extension(drain): Extension<Drain>) -> &'static str {
///     if drain.is_draining() { "briefly" } else { "at length" }
/// }
/// Router::new().route("/", get(handler)).layer(DrainLayer::new(lifecycle.drain()))
/// # }
/// ```
///
/// With the feature `axum` a `Drain` is an extractor by itself: `async fn handler(drain: Drain)`.
#[derive(Debug, Clone)]
pub struct DrainLayer {
    drain: Drain,
}

impl DrainLayer {
    /// Hands out this view of the drain.
    pub fn new(drain: Drain) -> Self {
        Self { drain }
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = WithDrain<S>;

    fn layer(&self, inner: S) -> WithDrain<S> {
        WithDrain { inner, drain: self.drain.clone() }
    }
}

/// The service that [`DrainLayer`] makes.
#[derive(Debug, Clone)]
pub struct WithDrain<S> {
    inner: S,
    drain: Drain,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithDrain<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.drain.clone());
        self.inner.call(request)
    }
}

#[cfg(feature = "axum")]
mod extract {
    use std::convert::Infallible;

    use axum::extract::{FromRequestParts, OptionalFromRequestParts};
    use axum::response::{IntoResponse, Response};
    use http::StatusCode;
    use http::request::Parts;

    use super::Drain;
    use crate::connection::PeerAddr;

    /// A handler asks for what nothing puts into its requests: a mistake of the program, answered 500.
    ///
    /// Its text says what is missing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    #[error("{0}")]
    pub struct MissingExtension(&'static str);

    impl IntoResponse for MissingExtension {
        fn into_response(self) -> Response {
            tracing::error!("{self}");
            (StatusCode::INTERNAL_SERVER_ERROR, self.0).into_response()
        }
    }

    fn extension<T: Clone + Send + Sync + 'static>(parts: &Parts, else_: &'static str) -> Result<T, MissingExtension> {
        parts.extensions.get().cloned().ok_or(MissingExtension(else_))
    }

    /// The service's [`Drain`], which a [`DrainLayer`](crate::DrainLayer) must have put there.
    ///
    /// ```
    /// # fn app(lifecycle: &glidepath::Lifecycle) -> axum::Router {
    /// use axum::{Router, routing::get};
    /// use glidepath::{Drain, DrainLayer};
    ///
    /// async fn handler(drain: Drain) -> &'static str {
    ///     if drain.is_draining() { "briefly" } else { "at length" }
    /// }
    /// Router::new().route("/", get(handler)).layer(DrainLayer::new(lifecycle.drain()))
    /// # }
    /// ```
    impl<S: Sync> FromRequestParts<S> for Drain {
        type Rejection = MissingExtension;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingExtension> {
            extension(
                parts,
                "no `Drain` in this request: add `.layer(DrainLayer::new(lifecycle.drain()))` to its router",
            )
        }
    }

    /// The peer's address, which [`Server::peer_addr`](crate::Server::peer_addr) must have asked for. Connections of unix
    /// sockets have none: `Option<PeerAddr>` is an extractor, too.
    impl<S: Sync> FromRequestParts<S> for PeerAddr {
        type Rejection = MissingExtension;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingExtension> {
            extension(parts, "no `PeerAddr` in this request: call `.peer_addr()` on the server; unix sockets have none")
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for PeerAddr {
        type Rejection = Infallible;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
            Ok(parts.extensions.get().copied())
        }
    }
}

#[cfg(feature = "axum")]
pub use extract::MissingExtension;
