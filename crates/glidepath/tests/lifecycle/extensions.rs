//! What handlers find in their request.

use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use axum::{Extension, Router};
use glidepath::{Drain, DrainLayer, PeerAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// The peer's address, or `none`.
async fn who(request: Request<Body>) -> String {
    request.extensions().get().map_or("none".into(), |PeerAddr(address)| address.to_string())
}

/// The body of the answer to `GET /`, twice on one connection, and the client's own address.
async fn ask(lifecycle: &Lifecycle, app: Router, set: impl FnOnce(Server) -> Server) -> (Vec<String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Serving::start(set(lifecycle.serve(over_tls::listen(listener), app)));
    let socket = TcpStream::connect(address).await.unwrap();
    let own = socket.local_addr().unwrap().to_string();
    let mut client = over_tls::speak(socket).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        client.flush().await.unwrap();
        let mut answer = vec![0; 4096];
        let n = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        answers.push(answer.split_once("\r\n\r\n").expect("a head").1.to_owned());
    }
    drop(client);
    end(lifecycle, serving).await;
    (answers, own)
}

#[tokio::test]
async fn the_peers_address_is_there_when_it_is_asked_for() {
    let app = Router::new().route("/", get(who));
    let (answers, _) = ask(&Lifecycle::without_signals(), app.clone(), |server| server).await;
    assert_eq!(answers, ["none", "none"], "the control: nobody asked");
    let (answers, own) = ask(&Lifecycle::without_signals(), app, Server::peer_addr).await;
    assert_eq!(answers, [own.clone(), own]);
}

#[tokio::test]
pub(crate) async fn req_11_a_handler_finds_the_drain_in_its_request() {
    let lifecycle = Lifecycle::without_signals();
    let handler = |Extension(drain): Extension<Drain>| async move { drain.is_draining().to_string() };
    let app = Router::new().route("/", get(handler)).layer(DrainLayer::new(lifecycle.drain()));
    let (answers, _) = ask(&lifecycle, app, |server| server).await;
    assert_eq!(answers, ["false", "false"]);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn req_11_with_axum_the_drain_and_the_peer_are_extractors() {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;

    async fn handler(drain: Drain, PeerAddr(address): PeerAddr) -> String {
        format!("{} {address}", drain.is_stopping())
    }
    let lifecycle = Lifecycle::without_signals();
    let app = Router::new().route("/", get(handler)).layer(DrainLayer::new(lifecycle.drain()));
    let (answers, own) = ask(&lifecycle, app.clone(), Server::peer_addr).await;
    assert_eq!(answers[0], format!("false {own}"));

    let connect_info = |ConnectInfo(address): ConnectInfo<SocketAddr>| async move { address.to_string() };
    let connect_info = Router::new().route("/", get(connect_info));
    let (answers, own) = ask(&Lifecycle::without_signals(), connect_info.clone(), Server::peer_addr).await;
    assert_eq!(answers, [own.clone(), own], "axum's own");
    let (answers, _) = ask(&Lifecycle::without_signals(), connect_info, |server| server).await;
    assert!(answers[0].contains("ConnectInfo"), "the control: nobody asked: {answers:?}");

    let optional = |peer: Option<PeerAddr>| async move { peer.is_some().to_string() };
    let (answers, _) =
        ask(&Lifecycle::without_signals(), Router::new().route("/", get(optional)), |server| server).await;
    assert_eq!(answers[0], "false");

    // Without what puts them there, the answer says what to add.
    let (answers, _) = ask(&Lifecycle::without_signals(), app, |server| server).await;
    assert!(answers[0].contains("call `.peer_addr()`"), "{answers:?}");
    let app = Router::new().route("/", get(handler));
    let (answers, _) = ask(&Lifecycle::without_signals(), app, Server::peer_addr).await;
    assert!(answers[0].contains("add `.layer(DrainLayer::new("), "{answers:?}");
}
