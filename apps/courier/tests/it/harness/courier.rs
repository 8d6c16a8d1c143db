//! One courier process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Answer, draft, get, post, within};

pub struct Courier {
    child: Child,
    /// As in `http://127.0.0.1:12345`.
    pub base: String,
    log: PathBuf,
}

impl Courier {
    /// A command in a directory of its own, with nothing from the environment of the tests.
    pub fn command(dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_courier"));
        command.current_dir(dir).args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts one that may deliver to the receivers here, and waits until it says where it listens.
    pub async fn start(dir: &Path, args: &[&str]) -> Self {
        let mut all = vec!["--allow-private-targets", "--retry-first", "20ms"];
        all.extend(args);
        Self::start_strict(dir, &all).await
    }

    /// The same without the leave to deliver to private addresses.
    pub async fn start_strict(dir: &Path, args: &[&str]) -> Self {
        Self::spawn(Self::command(dir, args), dir).await
    }

    pub async fn spawn(mut command: Command, dir: &Path) -> Self {
        let log = dir.join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child =
            command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(file).spawn().expect("courier");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = within("the greeting", lines.next_line()).await.expect("readable");
        let base = first.as_deref().and_then(|line| line.split_whitespace().find(|word| word.starts_with("http://")));
        let Some(base) = base else {
            panic!("courier did not start: {}", std::fs::read_to_string(&log).unwrap_or_default())
        };
        Self { base: base.to_owned(), child, log }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        kill_process(pid, signal).expect("a signal to a child");
    }

    pub async fn ended(&mut self) -> ExitStatus {
        within("the end of courier", self.child.wait()).await.expect("a status")
    }

    /// SIGTERM, and the end with code 0.
    pub async fn land(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// SIGKILL, and the end.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> Answer {
        get(&format!("{}{path}", self.base)).await
    }

    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<String>) -> Answer {
        post(&format!("{}{path}", self.base), &[("content-type", content_type)], body.into()).await
    }

    /// Stores a message for `url` and returns its id.
    pub async fn accept(&self, url: &str) -> String {
        let answer = self.post("/v1/messages", "application/json", draft(url)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a message is in a state, and returns it.
    pub async fn until_state(&self, id: &str, state: &str) -> serde_json::Value {
        within(&format!("{id} is {state}"), async {
            loop {
                let message = self.get(&format!("/v1/messages/{id}")).await.json();
                if message["state"] == state {
                    return message;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}
