//! The program as a user starts it, and what it said.
#![expect(dead_code, reason = "not every test file uses all of it")]

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use glidepath_check::model::{Run, Verdict};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// The server with a defect, which cargo builds beside the tests.
pub(crate) fn server() -> String {
    example("broken")
}

fn example(name: &str) -> String {
    built_example(name).unwrap_or_else(|| panic!("{name} is not there: `cargo build --examples` makes it"))
}

/// An example of this workspace, where it has been built.
pub(crate) fn built_example(name: &str) -> Option<String> {
    built_program(&format!("examples/{name}"))
}

/// What cargo has built beside the tests, by its path there.
pub(crate) fn built_program(path: &str) -> Option<String> {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().find(|folder| folder.join("examples").is_dir())?;
    let program = profile.join(path);
    program.is_file().then(|| program.display().to_string())
}

/// A file of a test's own, removed with it.
pub(crate) struct Scrap(PathBuf);

impl Scrap {
    pub(crate) fn new(name: &str, text: &str, mode: u32) -> Self {
        let path = std::env::temp_dir().join(format!("glidepath-check-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("a temporary file");
        file.write_all(text.as_bytes()).expect("room for it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        Scrap(path)
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// One start of the program.
pub(crate) struct Check {
    flags: Vec<String>,
    command: Vec<String>,
}

pub(crate) struct Running(Child);

/// How it ended, and what it said.
pub(crate) struct Said(Output);

impl Check {
    pub(crate) fn of(command: &[&str]) -> Self {
        Check { flags: Vec::new(), command: command.iter().map(ToString::to_string).collect() }
    }

    /// Such as `list`.
    pub(crate) fn task(words: &[&str]) -> Self {
        Check { flags: words.iter().map(ToString::to_string).collect(), command: Vec::new() }
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    pub(crate) fn defect(self, defect: &str) -> Self {
        self.flag(&format!("--env=DEFECT={defect}"))
    }

    pub(crate) fn start(self) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glidepath-check"));
        command.args(&self.flags);
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
        command.env("COLUMNS", "80").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("it was built"))
    }

    pub(crate) fn run(self) -> Said {
        self.start().wait()
    }

    /// Runs it, and reads the run that it wrote.
    pub(crate) fn data(self, name: &str) -> (Said, Run) {
        let file = std::env::temp_dir().join(format!("glidepath-check-{}-{name}.json", std::process::id()));
        let said = self.flag(&format!("--json={}", file.display())).run();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}", said.text()));
        fs::remove_file(&file).expect("it is there");
        (said, serde_json::from_str(&text).expect("it is a run"))
    }
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process id")
    }

    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("it runs");
    }

    pub(crate) fn wait(self) -> Said {
        Said(self.0.wait_with_output().expect("it ends"))
    }
}

impl Said {
    pub(crate) fn text(&self) -> String {
        let [out, err] = [&self.0.stdout, &self.0.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        out + &err
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.text().contains(words), "no {words:?} in:\n{}", self.text());
        self
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, code: u8, words: &str) -> &Self {
        assert_eq!(self.0.status.code(), Some(i32::from(code)), "{}", self.text());
        self.says(words)
    }

    #[track_caller]
    pub(crate) fn passes(&self) -> &Self {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.text());
        self
    }
}

/// The ids of the cases with this verdict.
pub(crate) fn with(run: &Run, verdict: Verdict) -> Vec<&str> {
    run.cases.iter().filter(|case| case.verdict == verdict).map(|case| case.id.as_str()).collect()
}

#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited long enough, and still not so: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Processes whose parent this one is, or a child of it.
pub(crate) fn descendants_of(pid: i32) -> Vec<i32> {
    let children = |pid: i32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<i32>>()).collect()
    };
    let mut found: Vec<i32> = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let more: Vec<i32> = children(*pid);
        found.extend(more);
        next += 1;
    }
    found
}

/// A zombie is not.
pub(crate) fn is_running(pid: i32) -> bool {
    let stat: PathBuf = format!("/proc/{pid}/stat").into();
    let stat = fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

/// Nobody else is given it as long as this process runs: a socket that had it alone keeps it, and shares it with a server.
pub(crate) fn free_port() -> u16 {
    let keeps = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    keeps.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    keeps.set_reuse_address(true).expect("a socket can share its address");
    let address = keeps.local_addr().expect("it is bound");
    std::mem::forget(keeps);
    address.as_socket().expect("an address of IPv4").port()
}
