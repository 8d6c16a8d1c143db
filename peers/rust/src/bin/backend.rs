//! The backend of the proxies: it answers the contract's paths for as long as another process is there.
//!
//! `backend PID FOLDER` starts the real one in a process group of its own, prints the port that it has taken,
//! writes a certificate for the proxy into FOLDER, and is done. When process PID is gone, the real one removes FOLDER and goes too. So a proxy can be ended, or
//! killed together with its process group, and what was behind it neither ends first nor stays behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

const REAL: &str = "GLIDEPATH_BACKEND";

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let pid = args.next().context("usage: backend PID FOLDER")?;
    let folder = args.next().context("usage: backend PID FOLDER")?;
    if env::var_os(REAL).is_some() {
        return serve(&pid, &folder);
    }
    let (certificate, key) = peers::certificate()?;
    fs::write(Path::new(&folder).join("certificate.pem"), &certificate)?;
    fs::write(Path::new(&folder).join("key.pem"), &key)?;
    // HAProxy wants them in one.
    fs::write(Path::new(&folder).join("both.pem"), certificate + &key)?;
    let mut real = Command::new(env::current_exe()?)
        .args([&pid, &folder])
        .env(REAL, "1")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut port = String::new();
    let out = real.stdout.take().context("its output is a pipe")?;
    BufReader::new(out).read_line(&mut port)?;
    anyhow::ensure!(!port.is_empty(), "the backend ended at once");
    Ok(std::io::stdout().write_all(port.as_bytes())?)
}

#[tokio::main]
async fn serve(pid: &str, folder: &str) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid.parse()?).context("no process has this id")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // A process that is gone makes its descriptor readable.
    let gone = spawn_blocking(move || poll(&mut [PollFd::new(&process, PollFlags::IN)], None));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    tokio::select! {
        served = async { axum::serve(listener, peers::router()).await } => served?,
        gone = gone => drop(gone??),
    }
    Ok(fs::remove_dir_all(folder)?)
}
