//! How courier ends: what is under way is finished, what is cut goes back, and the file is closed.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AnyConnection, Connection};

use crate::harness::{Courier, Receiver, get, within};

fn leftovers(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| name.ends_with("-wal") || name.ends_with("-shm")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_is_gone_after_a_clean_end_and_the_messages_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &[]).await;
    let id = courier.accept(&receiver.url("ok")).await;
    courier.until_state(&id, "delivered").await;
    assert!(!leftovers(dir.path()).is_empty(), "the control: while it runs there is a log");
    courier.land().await;
    assert_eq!(leftovers(dir.path()), [""; 0]);
    let courier = Courier::start(dir.path(), &[]).await;
    assert_eq!(courier.until_state(&id, "delivered").await["attempts"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_under_way_at_the_signal_is_waited_for_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &["--concurrency", "2"]).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(courier.accept(&receiver.url("gate")).await);
    }
    receiver.until(2).await;
    courier.signal(Signal::TERM);
    within("courier refuses connections", async {
        while tokio::net::TcpStream::connect(courier.base.trim_start_matches("http://")).await.is_ok() {}
    })
    .await;
    assert_eq!(receiver.all().len(), 2, "nothing new is begun in the drain");
    receiver.open(2);
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
    assert_eq!(receiver.all().len(), 2);

    receiver.open(3);
    let courier = Courier::start(dir.path(), &["--concurrency", "2"]).await;
    for id in &ids {
        assert_eq!(courier.until_state(id, "delivered").await["attempts"], 1);
    }
    assert_eq!(receiver.counts().values().copied().collect::<Vec<_>>(), [1; 5], "each came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_deadline_cuts_goes_back_to_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &["--grace", "500ms"]).await;
    let id = courier.accept(&receiver.url("gate")).await;
    receiver.until(1).await;
    courier.signal(Signal::TERM);
    assert_eq!(courier.ended().await.code(), Some(3), "{}", courier.log());
    assert!(courier.log().contains(&format!("deliver {id}")), "the report names it: {}", courier.log());
    assert!(courier.log().contains("went back to the queue"), "{}", courier.log());
    assert_eq!(leftovers(dir.path()), [""; 0], "the database was closed all the same");

    receiver.open(2);
    let courier = Courier::start(dir.path(), &[]).await;
    assert_eq!(courier.until_state(&id, "delivered").await["attempts"], 1, "an interrupted attempt does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_turns_with_the_signal_and_liveness_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut courier = Courier::start(dir.path(), &["--lame-duck", "20s"]).await;
    assert_eq!(courier.get("/readyz").await.status, 200);
    courier.signal(Signal::TERM);
    within("readiness turns", async { while get(&format!("{}/readyz", courier.base)).await.status != 503 {} }).await;
    assert_eq!(courier.get("/livez").await.status, 200);
    // A second signal, when the first is surely not the same one any more, skips the rest of the lame duck.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    courier.signal(Signal::TERM);
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
}

/// The start is held up by a lock on the database, so that the signal surely comes before anything is served.
#[tokio::test(flavor = "multi_thread")]
async fn sig_2_a_signal_during_the_start_ends_it_with_0_and_the_database_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    Courier::start(dir.path(), &[]).await.land().await;
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", dir.path().join("courier.db").display());
    let mut other = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();

    std::fs::remove_file(dir.path().join("courier.db.lock")).unwrap();
    let mut courier = Courier::command(dir.path(), &["--listen", "127.0.0.1:0"]).spawn().unwrap();
    within("courier is at its database", async { while !dir.path().join("courier.db.lock").exists() {} }).await;
    let pid = courier.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let status = within("the end", courier.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(leftovers(dir.path()), [""; 0]);
}
