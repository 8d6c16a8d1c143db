//! Nothing that was acknowledged is ever lost: courier is ended again and again at random moments under load.
//!
//! `COURIER_KILLS` says how often; a few times by default, 200 in CI.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use tokio::sync::watch;

use crate::harness::{Courier, Receiver, Session, draft, within};

const CLIENTS: usize = 16;

fn kills() -> usize {
    std::env::var("COURIER_KILLS").map_or(10, |text| text.parse().expect("COURIER_KILLS is a number"))
}

/// Clients that send without pause to whichever courier there is, and note what was acknowledged.
struct Load {
    courier: watch::Sender<Option<String>>,
    acknowledged: watch::Sender<Vec<String>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(receiver: &Receiver) -> Self {
        let courier = watch::Sender::new(None);
        let acknowledged = watch::Sender::new(Vec::new());
        let clients = (0..CLIENTS)
            .map(|_| tokio::spawn(client(courier.subscribe(), acknowledged.clone(), draft(&receiver.url("slow")))))
            .collect();
        Self { courier, acknowledged, clients }
    }

    fn send_to(&self, courier: Option<&Courier>) {
        self.courier.send_replace(courier.map(|courier| courier.base.clone()));
    }

    /// A random moment: some time, or right after some acknowledgement, when a promise that was given too early would show.
    async fn some_moment(&self) {
        let mut acknowledged = self.acknowledged.subscribe();
        let enough = acknowledged.borrow().len() + fastrand::usize(1..40);
        tokio::select! {
            _ = acknowledged.wait_for(|ids| ids.len() >= enough) => {}
            () = tokio::time::sleep(Duration::from_millis(fastrand::u64(0..250))) => {}
        }
    }

    /// Stops the clients and tells what was acknowledged.
    async fn stop(self) -> Vec<String> {
        drop(self.courier);
        for client in self.clients {
            within("a client ends", client).await.expect("no panic");
        }
        self.acknowledged.borrow().clone()
    }
}

async fn client(mut courier: watch::Receiver<Option<String>>, acknowledged: watch::Sender<Vec<String>>, draft: String) {
    let session = Session::new();
    while let Ok(base) = courier.wait_for(Option::is_some).await.map(|base| base.clone().unwrap()) {
        let url = format!("{base}/v1/messages");
        let answer =
            session.request(Method::POST, &url, &[("content-type", "application/json")], Body::from(draft.clone()));
        match within("an answer or an error", answer).await {
            Ok(answer) if answer.status == 202 => {
                let id = answer.json()["id"].as_str().unwrap().to_owned();
                acknowledged.send_modify(|ids| ids.push(id));
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await, // killed, or not there yet
        }
    }
}

/// Waits until courier has nothing left to do.
async fn settled(courier: &Courier) {
    within("the queue is empty", async {
        for state in ["queued", "delivering"] {
            while courier.get(&format!("/v1/messages?limit=1&state={state}")).await.json()["messages"]
                != serde_json::json!([])
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await;
}

async fn start(dir: &Path) -> Courier {
    Courier::start(dir, &["--log", "warn"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sig_9_what_was_acknowledged_survives_sigkill_and_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let load = Load::start(&receiver);
    for round in 0..kills() {
        if round % 8 == 7 {
            // Killed while it starts, when it takes back what was under way.
            let mut early = Courier::command(dir.path(), &["--listen", "127.0.0.1:0"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
            early.kill().await.unwrap();
        }
        let mut courier = start(dir.path()).await;
        load.send_to(Some(&courier));
        load.some_moment().await;
        courier.kill().await;
        load.send_to(None);
    }
    let acknowledged = load.stop().await;
    let before = receiver.counts();
    let open = acknowledged.iter().filter(|id| !before.contains_key(*id)).count();

    let mut courier = start(dir.path()).await;
    settled(&courier).await;
    courier.land().await;
    let counts = receiver.counts();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !counts.contains_key(*id)).collect();
    let twice = counts.values().filter(|count| **count > 1).count();
    println!(
        "{} kills, {} acknowledged, {open} open at the last start, {twice} delivered more than once",
        kills(),
        acknowledged.len()
    );
    assert_eq!(lost, [""; 0], "acknowledged and never delivered");
    assert!(acknowledged.len() >= kills(), "the control: there was load, {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sig_9_sigterm_loses_nothing_and_delivers_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let load = Load::start(&receiver);
    let mut under_way = 0;
    for _ in 0..kills() {
        let mut courier = start(dir.path()).await;
        load.send_to(Some(&courier));
        load.some_moment().await;
        let begun = receiver.all().len();
        courier.land().await;
        under_way += usize::from(receiver.all().len() > begun);
        load.send_to(None);
    }
    let acknowledged = load.stop().await;
    let mut courier = start(dir.path()).await;
    settled(&courier).await;
    courier.land().await;
    let counts = receiver.counts();
    println!("{} ends, {} acknowledged, {} delivered", kills(), acknowledged.len(), counts.len());
    let lost: Vec<_> = acknowledged.iter().filter(|id| !counts.contains_key(*id)).collect();
    assert_eq!(lost, [""; 0], "acknowledged and never delivered");
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "delivered more than once: {twice:?}");
    assert!(
        acknowledged.len() >= kills() && under_way > 0,
        "the control: there was load, {} and {under_way}",
        acknowledged.len()
    );
}
