//! Who asks, for handlers that want to know.

use std::net::SocketAddr;

use http::Extensions;

/// The address of the connection's other end, in the extensions of every request where
/// [`Server::peer_addr`](crate::Server::peer_addr) asks for it. Behind a proxy that is the proxy's.
///
/// With the feature `axum` it is an extractor, and axum's own `ConnectInfo<SocketAddr>` is there beside it: handlers and
/// layers that were written for axum's `into_make_service_with_connect_info` go on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

impl PeerAddr {
    pub(super) fn put_into(self, extensions: &mut Extensions) {
        extensions.insert(self);
        #[cfg(feature = "axum")]
        extensions.insert(axum::extract::ConnectInfo(self.0));
    }
}
