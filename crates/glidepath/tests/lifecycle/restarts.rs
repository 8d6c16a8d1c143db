//! Restarts that come to nothing before another process is started. Those that do start one are in `tests/spec`.

use super::*;

async fn why_not(lifecycle: &Lifecycle) -> String {
    let error = lifecycle.handle().restart().await.expect_err("it can't be");
    assert!(error.is_restart(), "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn ho_2_a_restart_that_cannot_be_is_refused_with_the_reason() {
    let lifecycle = Lifecycle::without_signals();
    assert!(why_not(&lifecycle).await.contains("not turned on"));
    lifecycle.restart_in_place();
    assert!(why_not(&lifecycle).await.contains("does not serve yet"));

    let nameless = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nameless.local_addr().expect("it is bound").to_string();
    let serving = Serving::start(lifecycle.serve(nameless, axum::Router::new()));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let why = why_not(&lifecycle).await;
    assert!(why.contains(&address) && why.contains("has no name"), "{why}");
    assert_eq!(lifecycle.handle().phase(), Phase::Serving, "it goes on");

    let report = end(&lifecycle, serving).await;
    assert_eq!((report.cause.as_str(), report.successor), ("handle", None));
    assert!(why_not(&lifecycle).await.contains("is ending"));
}

#[tokio::test]
async fn ho_2_a_listener_with_a_name_that_cannot_be_passed_is_named() {
    let lifecycle = Lifecycle::without_signals();
    lifecycle.restart_in_place();
    let listener = glidepath::Listener::bind("http:1", "127.0.0.1:0").await.expect("a free port");
    let serving = Serving::start(lifecycle.serve(listener, axum::Router::new()));
    lifecycle.handle().wait_for(Phase::Serving).await;
    let why = why_not(&lifecycle).await;
    assert!(why.contains("\"http:1\"") && why.contains("colon"), "{why}");
    end(&lifecycle, serving).await;
}
