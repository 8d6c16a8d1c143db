//! TLS where a process of its own is not needed: unix sockets, and settings.
#![cfg(unix)]

use axum::Router;
use axum::routing::get;
use glidepath::{Listener, Outcome};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::TlsConnector;

use super::over_tls::configs;
use super::*;

fn listen(test: &str) -> (UnixListener, std::path::PathBuf) {
    let path = std::env::temp_dir().join(format!("glidepath-{test}-{}", std::process::id()));
    let _stale = std::fs::remove_file(&path);
    (UnixListener::bind(&path).unwrap(), path)
}

#[tokio::test]
async fn tls_1_over_a_unix_socket() {
    let (server, client) = configs();
    let (listener, path) = listen("tls_1");
    let lifecycle = Lifecycle::without_signals();
    let app = Router::new().route("/", get(|| async { "hello" }));
    let serving = Serving::start(lifecycle.serve(Listener::tls(listener, Arc::new(server)), app));
    let name = ServerName::try_from("localhost").unwrap();
    let socket = UnixStream::connect(&path).await.unwrap();
    let mut client = TlsConnector::from(Arc::new(client)).connect(name, socket).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    client.read_exact(&mut first).await.unwrap();
    lifecycle.handle().begin();
    let mut rest = String::new();
    // An error where no close_notify comes.
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("hello"), "{rest}");
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.at_rest), (Outcome::Clean, 1));
    assert!(!path.exists());
}

#[tokio::test]
async fn tls_2_the_handshake_timeout_can_be_set() {
    let (server, _) = configs();
    let (listener, path) = listen("tls_2");
    let lifecycle = Lifecycle::without_signals();
    let server = lifecycle.serve(Listener::tls(listener, Arc::new(server)), Router::new());
    let serving = Serving::start(server.handshake_timeout(ms(100)));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(&[22, 3, 1]).await.unwrap();
    // Until it is read: the kernel holds nothing of it any more, and the drain finds a handshake under way.
    sleep(ms(50)).await;
    lifecycle.handle().begin();
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0, "FIN");
    let report = serving.report().await;
    assert_eq!((report.outcome, report.connections.failed), (Outcome::Clean, 1));
    assert!(report.took < ms(400), "{:?}", report.took);
}
