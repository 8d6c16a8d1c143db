//! Who asks, for handlers that want to know.

use std::net::SocketAddr;

/// The address of the connection's other end, in the extensions of every request where
/// [`Server::peer_addr`](crate::Server::peer_addr) asks for it. Behind a proxy that is the proxy's.
///
/// With the feature `axum` it is an extractor. axum's own `ConnectInfo` can be filled from it:
///
/// ```
/// # fn app(router: axum::Router) -> axum::Router {
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::map_request;
/// use glidepath::PeerAddr;
///
/// async fn connect_info(mut request: Request) -> Request {
///     if let Some(&PeerAddr(address)) = request.extensions().get() {
///         request.extensions_mut().insert(ConnectInfo(address));
///     }
///     request
/// }
/// router.layer(map_request(connect_info))
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);
