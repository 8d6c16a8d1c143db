//! How messages reach their receivers, and what happens when they do not.

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::json;

use crate::harness::{Courier, Receiver};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_what_it_is_and_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut command = Courier::command(dir.path(), &["--allow-private-targets"]);
    command.env("COURIER_SECRET", "a secret");
    let courier = Courier::spawn(command, dir.path()).await;
    let payload = r#"{"amount": 1.50, "big": 123456789012345678901234567890}"#;
    let body = format!(
        r#"{{"url":"{}","event":"order.paid","headers":{{"authorization":"Bearer x"}},"payload":{payload}}}"#,
        receiver.url("ok")
    );
    let id = courier.post("/v1/messages", "application/json", body).await.json()["id"].as_str().unwrap().to_owned();

    let delivery = receiver.until(1).await.remove(0);
    assert_eq!(delivery.body, payload, "byte for byte");
    for (name, value) in [
        ("content-type", "application/json"),
        ("webhook-id", &id),
        ("webhook-attempt", "1"),
        ("webhook-event", "order.paid"),
        ("authorization", "Bearer x"),
    ] {
        assert_eq!(delivery.header(name), value, "{name}");
    }
    // Verified with the function that receivers use, not by signing again.
    let signed = format!("{id}.{}.{payload}", delivery.header("webhook-timestamp"));
    let signature = BASE64.decode(delivery.header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret");
    hmac::verify(&key, signed.as_bytes(), &signature).expect("the signature holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_is_tried_again_and_then_dead() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &["--max-attempts", "3"]).await;
    let id = courier.accept(&receiver.url("fail")).await;
    let dead = courier.until_state(&id, "dead").await;
    assert_eq!(
        (&dead["attempts"], &dead["last_status"], &dead["last_error"]),
        (&json!(3), &json!(500), &json!("answered 500"))
    );
    let attempts: Vec<String> =
        receiver.all().iter().map(|delivery| delivery.header("webhook-attempt").to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_succeed_is_dead_at_once_and_a_redirect_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &["--max-attempts", "2", "--attempt-timeout", "200ms"]).await;
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    for (url, attempts, error) in [
        (receiver.url("gone"), 1, "answered 410"),
        (receiver.url("away"), 2, "answered 302; redirects are not followed"),
        (receiver.url("hang"), 2, "no answer within 200ms"),
        (format!("http://{nobody}/"), 2, "Connection refused (os error 111)"),
    ] {
        let id = courier.accept(&url).await;
        let dead = courier.until_state(&id, "dead").await;
        assert_eq!((&dead["attempts"], &dead["last_error"]), (&json!(attempts), &json!(error)), "{url}");
    }
    assert_eq!(receiver.all().len(), 1 + 2 + 2, "nothing came to where the redirect pointed");
}

/// What was stored while private targets were allowed is judged again when it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_target_is_refused_at_the_delivery_too() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let slow = courier.accept(&receiver.url("fail")).await;
    let by_name = courier.accept(&receiver.url("fail").replace("127.0.0.1", "localhost")).await;
    receiver.until(2).await;
    courier.land().await;
    let before = receiver.all().len();

    let courier = Courier::start_strict(dir.path(), &[]).await;
    for id in [slow, by_name] {
        let dead = courier.until_state(&id, "dead").await;
        assert!(dead["last_error"].as_str().unwrap().contains("--allow-private-targets"), "{dead}");
    }
    assert_eq!(receiver.all().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_at_the_same_time_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = Courier::start(dir.path(), &["--concurrency", "3"]).await;
    for _ in 0..12 {
        courier.accept(&receiver.url("gate")).await;
    }
    receiver.until(3).await;
    receiver.open(12);
    receiver.until(12).await;
    assert_eq!(receiver.most_at_once(), 3);
}

/// TLS works with the one crypto provider there is, and a certificate that nobody vouches for is refused.
#[tokio::test(flavor = "multi_thread")]
async fn https_targets_are_reached_and_their_certificates_checked() {
    let dir = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("root.pem"), cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/hook", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let app = Router::new().route("/hook", post(async || "thanks"));
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(socket).await else { continue };
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            tokio::spawn(
                hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .serve_connection(hyper_util::rt::TokioIo::new(tls), service)
                    .into_owned(),
            );
        }
    });
    let args = ["--allow-private-targets", "--max-attempts", "1"];
    let mut command = Courier::command(dir.path(), &args);
    command.env("SSL_CERT_FILE", dir.path().join("root.pem"));
    let mut courier = Courier::spawn(command, dir.path()).await;
    let id = courier.accept(&url).await;
    courier.until_state(&id, "delivered").await;
    courier.land().await;

    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("root.pem"), stranger.cert.pem()).unwrap();
    let mut command = Courier::command(dir.path(), &args);
    command.env("SSL_CERT_FILE", dir.path().join("root.pem"));
    let courier = Courier::spawn(command, dir.path()).await;
    let id = courier.accept(&url).await;
    let dead = courier.until_state(&id, "dead").await;
    assert!(dead["last_error"].as_str().unwrap().contains("certificate"), "{dead}");
}
