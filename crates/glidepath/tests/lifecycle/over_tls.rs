//! SPEC.md, TLS-3: "every row above holds over TLS". Checks with real sockets that can be run over it, and are.

use std::cell::RefCell;

use glidepath::Listener;
use rustls::crypto::ring;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

thread_local! {
    /// What the two sides speak with, where this thread's check runs over TLS.
    static CONFIGS: RefCell<Option<(Arc<ServerConfig>, Arc<ClientConfig>)>> = const { RefCell::new(None) };
}

/// A server, and a client that trusts it.
pub(super) fn configs() -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (
        server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.into()], key.into()).unwrap(),
        client.unwrap().with_root_certificates(roots).with_no_client_auth(),
    )
}

/// The bytes of one connection, over TLS or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

pub(super) type Client = Box<dyn Wire>;

/// The server's side.
pub(super) fn listen(listener: TcpListener) -> Listener {
    CONFIGS.with_borrow(|configs| match configs {
        Some((server, _)) => Listener::tls(listener, Arc::clone(server)),
        None => listener.into(),
    })
}

/// The client's.
pub(super) async fn speak(socket: TcpStream) -> Client {
    let config = CONFIGS.with_borrow(|configs| configs.as_ref().map(|(_, client)| Arc::clone(client)));
    let Some(config) = config else { return Box::new(socket) };
    let name = ServerName::try_from("localhost").unwrap();
    Box::new(TlsConnector::from(config).connect(name, socket).await.unwrap())
}

fn over_tls(test: fn()) {
    let (server, client) = configs();
    CONFIGS.set(Some((Arc::new(server), Arc::new(client))));
    test();
    CONFIGS.set(None);
}

macro_rules! over_tls {
    ($($name:ident: $test:path,)*) => {
        $(
            #[test]
            fn $name() {
                over_tls($test);
            }
        )*
    };
}

over_tls! {
    tls_3_idle_6_spread_spaces_the_closes_over_its_window: connections::idle_6_spread_spaces_the_closes_over_its_window,
    tls_3_idle_8_what_comes_after_a_long_rest_is_answered: connections::idle_8_what_comes_after_a_long_rest_is_answered,
    tls_3_idle_8_an_upgrade_after_a_long_rest_is_served: connections::idle_8_an_upgrade_after_a_long_rest_is_served,
    tls_3_idle_8_what_crosses_the_signal_after_a_long_rest_is_answered: connections::idle_8_what_crosses_the_signal_after_a_long_rest_is_answered,
    tls_3_req_11_a_handler_finds_the_drain_in_its_request: extensions::req_11_a_handler_finds_the_drain_in_its_request,
    tls_3_req_11_a_handler_sees_the_drain_and_is_not_cancelled: requests::req_11_a_handler_sees_the_drain_and_is_not_cancelled,
    tls_3_slow_3_a_head_that_is_too_large_is_answered_431: connections::slow_3_a_head_that_is_too_large_is_answered_431,
    tls_3_slow_3_a_connection_at_rest_ends_at_its_idle_timeout: connections::slow_3_a_connection_at_rest_ends_at_its_idle_timeout,
    tls_3_ws_2_a_handler_says_goodbye_itself_first: connections::ws_2_a_handler_says_goodbye_itself_first,
    tls_3_ws_2_the_close_is_put_behind_a_frame_that_is_half_written: connections::ws_2_the_close_is_put_behind_a_frame_that_is_half_written,
    tls_3_ws_5_an_upgraded_connection_is_told_and_waited_for: connections::ws_5_an_upgraded_connection_is_told_and_waited_for,
    tls_3_ws_5_an_upgraded_connection_that_stays_is_cut_at_the_deadline_and_named: connections::ws_5_an_upgraded_connection_that_stays_is_cut_at_the_deadline_and_named,
    tls_3_sse_1_event_streams_go_on_to_the_deadline_where_that_is_set: connections::sse_1_event_streams_go_on_to_the_deadline_where_that_is_set,
}
