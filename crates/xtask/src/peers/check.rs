//! Whether a peer works: it starts, answers every path that it claims, and ends when it is told to.
//!
//! This checks the set-up, not the server: how well it ends is for glidepath-check to say.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::install;
use super::peer::{Peer, Stop, Variant};

/// Set for each server, so that one that does not end is found out soon.
const GRACE: Duration = Duration::from_secs(5);
/// How long a start may take, an answer, and an end beyond GRACE.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what a server has started may outlive it.
const STRAGGLERS: Duration = Duration::from_secs(2);
const CLIENT_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// "hello" as a masked text frame; the mask is all zeros.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";
const HELLO_BACK: &[u8] = b"\x81\x05hello";

/// Prints a row for each variant of each peer that is built; true when all is well.
pub(super) fn run(out: &mut impl Write, peers: &[&Peer]) -> anyhow::Result<bool> {
    writeln!(out, "{:12}{:10}{:12}{:14}{:10}end", "peer", "variant", "version", "answers", "in flight")?;
    let (mut all_well, mut checked) = (true, 0);
    for peer in peers {
        if !install::is_there(peer) {
            writeln!(out, "{:12}not built", peer.name)?;
            continue;
        }
        for (name, variant) in peer.variants() {
            write!(out, "{:12}{name:10}", peer.name)?;
            let well = check(out, peer, name, variant).or_else(|wrong| {
                writeln!(out, "{wrong:#}")?;
                anyhow::Ok(false)
            })?;
            all_well &= well;
            checked += 1;
        }
    }
    if checked == 0 {
        writeln!(out, "nothing was checked: `cargo xtask peers` builds them")?;
    }
    Ok(all_well && checked > 0)
}

fn check(out: &mut impl Write, peer: &Peer, name: &str, variant: &Variant) -> anyhow::Result<bool> {
    write!(out, "{:12}", peer.version()?)?;
    out.flush()?;
    let mut server = Server::start(peer, variant)?;
    let mut wrong = Vec::new();
    for path in &peer.paths {
        if let Err(why) = ask(path, server.port) {
            wrong.push(format!("{path}: {why:#}"));
        }
    }
    let mut asked = peer.paths.len();
    if peer.h2 {
        asked += 1;
        wrong.extend(speaks_h2(server.port).err().map(|why| format!("h2: {why:#}")));
    }
    if let Some(port) = server.tls_port {
        asked += 1;
        wrong.extend(speaks_tls(port).err().map(|why| format!("TLS: {why:#}")));
    }
    write!(out, "{:14}", format!("{}/{asked}", asked - wrong.len()))?;

    let mut in_flight = send("GET /sleep?ms=500 HTTP/1.1\r\nHost: localhost\r\n\r\n", server.port)?;
    pause(Duration::from_millis(200));
    let told = Watch::start();
    server.stop(peer, variant)?;
    let answered = read_until(&mut in_flight, b"slept").is_ok();
    drop(in_flight);
    let status = server.wait(GRACE + PATIENCE)?;
    let took = told.elapsed().as_secs_f64();
    write!(out, "{:10}", if answered { "answered" } else { "cut" })?;
    let Some(status) = status else {
        wrong.push(format!("still there {took:.1} s after the signal"));
        writeln!(out, "killed; {}", wrong.join("; "))?;
        return Ok(false);
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    if !variant.exit.contains(&code) {
        wrong.push(format!("{:?} was promised", variant.exit));
    }
    if name == "best" && !answered {
        wrong.push("its best settings are to answer what is in flight".to_owned());
    }
    if server.left_something() {
        wrong.push("it left a process behind".to_owned());
    }
    writeln!(out, " {code:3} {took:5.1} s  {}", wrong.join("; "))?;
    Ok(wrong.is_empty())
}

/// A server in a process group of its own, which never outlives this.
struct Server {
    child: Child,
    port: u16,
    tls_port: Option<u16>,
}

impl Server {
    fn start(peer: &Peer, variant: &Variant) -> anyhow::Result<Self> {
        let (port, tls_port) = (free_port()?, if peer.tls { Some(free_port()?) } else { None });
        let mut command = peer.start(variant)?;
        command.env("PORT", port.to_string()).env("GRACE", GRACE.as_secs().to_string()).process_group(0);
        if let Some(port) = tls_port {
            command.env("TLS_PORT", port.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("it does not start")?;
        let mut server = Self { child, port, tls_port };
        let began = Watch::start();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended at its start, with {status}");
            }
            ensure!(began.elapsed() < PATIENCE, "it does not listen on PORT {PATIENCE:?} after its start");
            pause(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn stop(&self, peer: &Peer, variant: &Variant) -> anyhow::Result<()> {
        match &variant.stop {
            Stop::Signal(signal) => ensure!(kill(signal, &self.child.id().to_string()), "SIG{signal} can't be sent"),
            Stop::Command(words) => {
                let mut command = peer.places.command(words, &Default::default())?;
                command.env("PORT", self.port.to_string()).env("PID", self.child.id().to_string());
                // The end may take as long as the command: it is not waited for.
                command.env("GRACE", GRACE.as_secs().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
                command.spawn().context("the stop command does not start")?;
            }
        }
        Ok(())
    }

    /// None when it is still there after that time.
    fn wait(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let began = Watch::start();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || began.elapsed() > within {
                return Ok(status);
            }
            pause(Duration::from_millis(10));
        }
    }

    /// Whether processes of its group are there well after its end. Helpers that end by themselves when it
    /// is gone are no harm, nor is one that only waits for its parent to ask how it ended.
    fn left_something(&self) -> bool {
        let group = self.child.id().to_string();
        let alive = |stat: String| {
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            fields.first() != Some(&"Z") && fields.get(2) == Some(&group.as_str())
        };
        let began = Watch::start();
        loop {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let mut stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
            if !stats.any(alive) {
                return false;
            }
            if began.elapsed() > STRAGGLERS {
                return true;
            }
            pause(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill("KILL", &format!("-{}", self.child.id()));
        let _reaped = self.child.wait();
    }
}

/// By the shell's own `kill`, which needs no crate and no unsafe code.
fn kill(signal: &str, whom: &str) -> bool {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$1\" -- \"$2\"", "kill", signal, whom])
        .stderr(Stdio::null())
        .status();
    sent.is_ok_and(|status| status.success())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// How long something takes, on the wall: no time is paused here.
struct Watch(std::time::Instant);

#[expect(clippy::disallowed_methods, reason = "real servers take real time")]
impl Watch {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime here, and nothing else to do meanwhile")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks one path of the contract, and looks at the answer.
fn ask(path: &str, port: u16) -> anyhow::Result<()> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let body = "x".repeat(12_345);
    match path {
        "/" => answers(&get("/"), "200", &["ok"], port),
        "/sleep" | "/block" => answers(&get(&format!("{path}?ms=10")), "200", &["slept"], port),
        "/stream" => answers(&get("/stream?chunks=3&ms=10"), "200", &["chunk0\n", "chunk1\n", "chunk2\n"], port),
        "/echo" => {
            let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 12345\r\n\r\n";
            answers(&(head.to_owned() + &body), "200", &["12345"], port)
        }
        "/task" => {
            let head = "POST /task?ms=10 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            answers(head, "202", &[], port)
        }
        "/sse" => {
            let mut stream = send(&get("/sse"), port)?;
            read_until(&mut stream, b"data: x\n\n")?;
            read_until(&mut stream, b"data: x\n\n")
        }
        "/ws" => {
            let head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            let mut stream = send(head, port)?;
            read_until(&mut stream, b"\r\n\r\n")?;
            stream.write_all(HELLO)?;
            read_until(&mut stream, HELLO_BACK)
        }
        // Whatever the answer: the server is still there.
        "/panic" => {
            let _any = answers(&get("/panic"), "500", &[], port);
            answers(&get("/"), "200", &["ok"], port).context("after the panic")
        }
        _ => bail!("no path of the contract"),
    }
}

fn answers(request: &str, status: &str, words: &[&str], port: u16) -> anyhow::Result<()> {
    let mut answer = String::new();
    send(request, port)?.read_to_string(&mut answer)?;
    let first = answer.lines().next().unwrap_or("nothing");
    ensure!(first.split(' ').nth(1) == Some(status), "{first}, and not {status}");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    for word in words {
        ensure!(body.contains(word), "no {word:?} in its body");
    }
    Ok(())
}

fn send(request: &str, port: u16) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

fn read_until(stream: &mut TcpStream, wanted: &[u8]) -> anyhow::Result<()> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(wanted) {
        let had = stream.read(&mut byte)?;
        ensure!(had == 1, "closed after {:?}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
    Ok(())
}

/// A server that knows HTTP/2 with prior knowledge begins with a SETTINGS frame.
fn speaks_h2(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(CLIENT_PREFACE)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    ensure!(head[3] == 4 && head[5..] == [0; 4], "it begins with {head:?}");
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

/// By curl: there is no TLS in here.
fn speaks_tls(port: u16) -> anyhow::Result<()> {
    let url = format!("https://127.0.0.1:{port}/");
    let told = Command::new("curl").args(["-sk", "--max-time", "10", &url]).output().context("curl is missing")?;
    ensure!(told.stdout == b"ok", "curl ended with {}", told.status);
    Ok(())
}
