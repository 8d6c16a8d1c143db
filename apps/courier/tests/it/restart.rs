//! courier replaced in place: nobody is refused, what was accepted is delivered once, and the next process finds the listeners.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Courier, Receiver, draft, get, post, request, within};

/// The process that `log` says has taken over, as the `nth` one. The tests' own process adopts it when its parent has ended.
async fn successor(log: impl Fn() -> String, nth: usize) -> Pid {
    within("a process takes over", async {
        loop {
            let log = log();
            let mut lines =
                log.lines().filter_map(|line| Some(line.split_once("INFO another process has taken over pid=")?.1));
            if let Some(pid) = lines.nth(nth).and_then(|pid| Pid::from_raw(pid.parse().ok()?)) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Ends a process that is not our child.
async fn end(pid: Pid) {
    kill_process(pid, Signal::TERM).expect("it runs");
    within("its end", async {
        while is_running(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// One that nobody has reaped yet has ended, too.
fn is_running(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|after| after.chars().next()).is_some_and(|state| state != 'Z')
}

/// Ends it when the test fails on its way.
struct Ends(Option<Pid>);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(pid) = self.0.filter(|pid| is_running(*pid)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// With SQLite, whose file has one courier at a time but for a restart.
#[tokio::test(flavor = "multi_thread")]
async fn ho_1_restarts_in_place_refuse_nobody_and_deliver_each_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let mut courier = Courier::start(dir.path(), &["--restart-in-place"]).await;
    let (over, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
    let url = format!("{}/v1/messages", courier.base);
    let mut last = Ends(None);
    let posts = async {
        while !over.load(Ordering::Relaxed) {
            // Each on a connection of its own, and nothing is tried twice.
            let headers = [("content-type", "application/json")];
            let answer = request(Method::POST, &url, &headers, Body::from(draft(&receiver.url("slow")))).await;
            assert_eq!(answer.expect("nobody is refused or cut").status, 202);
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let restarts = async {
        for nth in 0..3 {
            let before = accepted.load(Ordering::Relaxed);
            within("the client is at it", async {
                while accepted.load(Ordering::Relaxed) < before + 20 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            match last.0 {
                None => courier.signal(Signal::HUP),
                Some(pid) => kill_process(pid, Signal::HUP).unwrap(),
            }
            let before = last.0.replace(successor(|| courier.log(), nth).await);
            match before {
                None => assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log()),
                Some(pid) => {
                    within("the one before ends", async {
                        while is_running(pid) {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    })
                    .await
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(posts, restarts);
    let accepted = accepted.load(Ordering::Relaxed);
    receiver.until(accepted).await;
    // The control of the lock: after a restart a second courier on the file is refused as before.
    let second = Courier::command(dir.path(), &["--listen", "127.0.0.1:0"]).output();
    let second = within("the second one's end", second).await.unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("another courier uses"), "{second:?}");
    end(last.0.unwrap()).await;
    let counts = receiver.counts();
    assert_eq!(counts.len(), accepted);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(!courier.log().contains("ERROR"), "{}", courier.log());
}

/// Where it is not set, SIGHUP is an end: a terminal that is closed sends it.
#[tokio::test(flavor = "multi_thread")]
async fn sig_6_sighup_ends_courier_where_no_restart_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut courier = Courier::start(dir.path(), &[]).await;
    courier.signal(Signal::HUP);
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
    assert!(!courier.log().contains("has taken over"), "{}", courier.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn ho_5_with_a_token_courier_restarts_and_ends_by_its_admin_port() {
    let dir = tempfile::tempdir().unwrap();
    let admin = free_address();
    let args = ["--restart-in-place", "--admin", &admin, "--admin-token", "secret"];
    let mut courier = Courier::start(dir.path(), &args).await;
    assert_eq!(get(&format!("http://{admin}/readyz")).await.status, 200);
    let (restart, drain) = (format!("http://{admin}/restart"), format!("http://{admin}/drain"));
    for (headers, status) in [(&[][..], 401), (&[("authorization", "Bearer other")], 403)] {
        assert_eq!(post(&restart, headers, String::new()).await.status, status);
        assert_eq!(post(&drain, headers, String::new()).await.status, status);
    }
    let known = [("authorization", "Bearer secret")];
    let answer = post(&restart, &known, String::new()).await;
    let says = answer.text().to_owned();
    let pid =
        says.strip_prefix("process ").and_then(|says| says.split(' ').next()?.parse().ok()).and_then(Pid::from_raw);
    let last = Ends(pid);
    assert_eq!((answer.status, pid.is_some()), (200, true), "{says}");
    assert_eq!(courier.ended().await.code(), Some(0), "{}", courier.log());
    assert_eq!(courier.get("/livez").await.status, 200);
    assert_eq!(post(&drain, &known, String::new()).await.status, 202);
    within("its end", async {
        while is_running(pid.unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(last);
}

/// Nobody else is given it as long as this process runs: a socket that had it alone keeps it, and shares it with a server.
pub(crate) fn free_address() -> String {
    let keeps = tokio::net::TcpSocket::new_v4().expect("a socket");
    keeps.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    keeps.set_reuseaddr(true).expect("a socket can share its address");
    let address = keeps.local_addr().expect("it is bound");
    std::mem::forget(keeps);
    address.to_string()
}

/// "listeners […] are adopted": a port and a path that systemd has opened, both by the name `http`.
#[tokio::test(flavor = "multi_thread")]
async fn ho_4_courier_serves_on_the_sockets_of_systemd() {
    let there = std::process::Command::new("systemd-socket-activate").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("SKIP_NOTHING").is_none(), "skipped: there is no systemd-socket-activate");
        println!("SKIPPED: there is no systemd-socket-activate");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let path = dir.path().join("courier.sock");
    let log = dir.path().join("log");
    let file = || std::fs::File::options().create(true).append(true).open(&log).unwrap();
    let mut courier = tokio::process::Command::new("systemd-socket-activate")
        .args(["-l", &address, "-l", &path.display().to_string(), "--fdname=http:http"])
        .args([env!("CARGO_BIN_EXE_courier"), "--restart-in-place"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(file())
        .stderr(file())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let says = || std::fs::read_to_string(&log).unwrap_or_default();
    within("the tool listens", async {
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let asks = async || {
        assert_eq!(get(&format!("http://{address}/livez")).await.status, 200, "{}", says());
        assert!(ask_on(&path).await.starts_with("HTTP/1.1 200"), "{}", says());
    };
    asks().await;
    let pid = Pid::from_raw(courier.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let next = Ends(Some(successor(says, 0).await));
    assert_eq!(within("the end", courier.wait()).await.unwrap().code(), Some(0), "{}", says());
    asks().await;
    end(next.0.unwrap()).await;
    assert!(path.exists(), "the path is not courier's");
}

async fn ask_on(path: &Path) -> String {
    let mut stream = tokio::net::UnixStream::connect(path).await.expect("somebody listens");
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: courier\r\nconnection: close\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer
}
