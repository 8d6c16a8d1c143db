//! PostgreSQL: several couriers share the work. Runs where a server can be started, or where `COURIER_TEST_POSTGRES` names one
//! as in `postgres://user@host/postgres`; says so where it is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use crate::harness::{Courier, Receiver, draft, post, within};

/// A database of its own on some server. The server, when it is ours, ends with it.
pub struct Database {
    pub url: String,
    _server: Option<Server>,
}

struct Server {
    dir: tempfile::TempDir,
    tools: PathBuf,
    user: Option<&'static str>,
}

impl Database {
    pub async fn create() -> Option<Self> {
        let (admin, server) = match std::env::var("COURIER_TEST_POSTGRES") {
            Ok(url) => (url, None),
            Err(_) => {
                let Some((url, server)) = Server::start() else {
                    println!("SKIPPED: no PostgreSQL server can be started here, and COURIER_TEST_POSTGRES names none");
                    return None;
                };
                (url, Some(server))
            }
        };
        sqlx::any::install_default_drivers();
        let mut connection = within("a connection", AnyConnection::connect(&admin)).await.expect("the server answers");
        let name = format!("courier_{}", uuid::Uuid::now_v7().simple());
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("a database");
        let mut url = url::Url::parse(&admin).expect("a URL");
        url.set_path(&name);
        Some(Self { url: url.into(), _server: server })
    }

    async fn courier(&self, dir: &Path, args: &[&str]) -> Courier {
        Courier::start(dir, &[&["--database", &self.url], args].concat()).await
    }
}

impl Server {
    fn start() -> Option<(String, Self)> {
        let tools = tools()?;
        // PostgreSQL does not run as root; its own account is the usual way out.
        let user = rustix::process::getuid().is_root().then_some("postgres");
        let server = Self { dir: tempfile::tempdir().ok()?, tools, user };
        if let Some(user) = user {
            let owned = Command::new("chown").args([user.as_ref(), server.dir.path().as_os_str()]).status().ok()?;
            owned.success().then_some(())?;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        server.tool("initdb", &["--auth=trust", "--username=test", "--no-sync", "--encoding=UTF8"])?;
        let options = format!("-h 127.0.0.1 -p {port} -k ''");
        let log = server.dir.path().join("log").display().to_string();
        server.tool("pg_ctl", &["--wait", "--log", &log, "--options", &options, "start"])?;
        Some((format!("postgres://test@127.0.0.1:{port}/postgres"), server))
    }

    fn tool(&self, name: &str, args: &[&str]) -> Option<()> {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(self.tools.join(name));
                command
            }
            None => Command::new(self.tools.join(name)),
        };
        command.arg("--pgdata").arg(self.dir.path().join("data")).args(args).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.success().then_some(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tool("pg_ctl", &["--wait", "--mode=immediate", "stop"]);
    }
}

/// Where `initdb` and `pg_ctl` are: on the path, or where Debian keeps them.
fn tools() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    std::env::split_paths(&path).chain(debian).find(|dir| dir.join("initdb").exists() && dir.join("pg_ctl").exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_couriers_share_the_work_and_nothing_comes_twice() {
    let Some(database) = Database::create().await else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let mut first = database.courier(one.path(), &["--concurrency", "1"]).await;
    let mut second = database.courier(two.path(), &["--concurrency", "1"]).await;
    // Accepted by one, held at the gate: the second delivery at the same time can only be the other's.
    for _ in 0..50 {
        first.accept(&receiver.url("gate")).await;
    }
    receiver.until(2).await;
    receiver.open(50);
    receiver.until(50).await;
    first.land().await;
    second.land().await;
    assert_eq!(receiver.most_at_once(), 2);
    assert!(receiver.counts().values().all(|count| *count == 1) && receiver.counts().len() == 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn sig_9_what_a_killed_courier_held_is_taken_over_when_its_claim_lapses() {
    let Some(database) = Database::create().await else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let mut first = database.courier(one.path(), &["--attempt-timeout", "1s"]).await;
    let id = first.accept(&receiver.url("gate")).await;
    receiver.until(1).await;
    first.kill().await;
    receiver.open(2);
    let second = database.courier(two.path(), &["--attempt-timeout", "1s"]).await;
    assert_eq!(second.until_state(&id, "delivered").await["attempts"], 1);
    assert_eq!(receiver.all().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_deadline_cuts_is_free_for_the_others_at_once() {
    let Some(database) = Database::create().await else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let receiver = Receiver::start().await;
    let mut first = database.courier(one.path(), &["--grace", "500ms", "--attempt-timeout", "1h"]).await;
    let id = first.accept(&receiver.url("gate")).await;
    receiver.until(1).await;
    first.signal(Signal::TERM);
    assert_eq!(first.ended().await.code(), Some(3), "{}", first.log());
    receiver.open(2);
    let second = database.courier(two.path(), &["--attempt-timeout", "1h"]).await;
    second.until_state(&id, "delivered").await;
}

/// The same SQL text runs on both databases; this is its other half.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_the_same_on_postgres() {
    let Some(database) = Database::create().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let courier = database.courier(dir.path(), &["--max-attempts", "2"]).await;
    let url = format!("{}/v1/messages", courier.base);
    let send = |body: String| {
        let url = url.clone();
        async move { post(&url, &[("content-type", "application/json"), ("idempotency-key", "k")], body).await }
    };
    let first = send(draft(&receiver.url("ok"))).await;
    assert_eq!((first.status, send(draft(&receiver.url("ok"))).await.status), (202, 200));
    assert_eq!(send(draft(&receiver.url("fail"))).await.status, 422);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(courier.until_state(&id, "delivered").await["payload"], serde_json::json!({ "hello": "world" }));
    let dead = courier.accept(&receiver.url("fail")).await;
    assert_eq!(courier.until_state(&dead, "dead").await["last_error"], "answered 500");
    let listed = courier.get("/v1/messages?state=dead").await.json();
    assert_eq!(listed["messages"].as_array().unwrap().len(), 1);
    let export = courier.get("/v1/export").await;
    assert_eq!(export.text().lines().count(), 2);
    let import = courier.post("/v1/import", "application/x-ndjson", export.text()).await;
    assert_eq!(import.json()["known"], 2);
}
