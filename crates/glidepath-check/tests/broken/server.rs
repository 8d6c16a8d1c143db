//! A server of plain threads that ends well, but for the one defect that DEFECT names. It shows that exactly the cases fail
//! that should. Cleartext HTTP/1, and HTTP/2 where HTTP2 is set; everything else is skipped.

mod http2;

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

static DRAINING: AtomicBool = AtomicBool::new(false);
static CUT: AtomicBool = AtomicBool::new(false);
static SEALED: AtomicBool = AtomicBool::new(false);
static OPEN: AtomicU32 = AtomicU32::new(0);
static TASKS: AtomicU32 = AtomicU32::new(0);
/// The paths of the requests that are under way.
static UNDER_WAY: Mutex<Vec<String>> = Mutex::new(Vec::new());

const QUIET: Duration = Duration::from_millis(800);
const HEAD: Duration = Duration::from_secs(8);
const LONGEST_HEAD: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(5);

/// Whether it is this that is broken.
fn broken(what: &str) -> bool {
    static DEFECT: OnceLock<String> = OnceLock::new();
    DEFECT.get_or_init(|| env::var("DEFECT").unwrap_or_default()) == what
}

fn seconds(name: &str, default: f64) -> Duration {
    let seconds = env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    Duration::from_secs_f64(seconds)
}

fn draining() -> bool {
    DRAINING.load(SeqCst)
}

fn main() {
    if broken("dies") {
        eprintln!("no configuration");
        std::process::exit(7);
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT]).expect("handlers");
    let port: u16 = env::var("PORT").ok().and_then(|port| port.parse().ok()).expect("PORT");
    if broken("never-listens") {
        sleep(Duration::from_secs(600));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    if let Ok(port) = env::var("ADMIN_PORT") {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().expect("a port"))).expect("the port is free");
        spawn(move || admin.incoming().flatten().for_each(|stream| drop(spawn(move || probe(stream)))));
    }
    spawn(move || accept(listener));
    signals.forever().find(|signal| *signal != SIGQUIT || quit()).expect("a signal comes");
    if broken("ignores-signal") {
        sleep(Duration::from_secs(600));
    }
    if broken("exits-at-once") {
        std::process::exit(0);
    }
    let began = Instant::now();
    DRAINING.store(true, SeqCst);
    spawn(move || {
        for again in signals.forever().filter(|signal| *signal != SIGQUIT || quit()) {
            let in_burst = began.elapsed() < Duration::from_millis(300) && !broken("burst-forces");
            if !in_burst && !broken("second-ignored") {
                std::process::exit(128 + again);
            }
        }
    });
    std::process::exit(drain(began));
}

/// Says what is under way, and ends: nothing comes back from here, unless that is broken.
fn quit() -> bool {
    if !broken("quit-is-silent") {
        for path in &*UNDER_WAY.lock().expect("nobody panics with it") {
            println!("under way: {path}");
        }
    }
    if !broken("quit-ignored") {
        std::process::exit(131);
    }
    false
}

/// Waits for the end of all work, or for the deadline.
fn drain(began: Instant) -> i32 {
    let grace = seconds("GRACE", 30.0);
    let waits = |count: &AtomicU32| count.load(SeqCst) > 0;
    loop {
        let busy = !SEALED.load(SeqCst) || waits(&OPEN) || (waits(&TASKS) && !broken("task-forgotten"));
        if !busy {
            break;
        }
        if began.elapsed() >= grace && !broken("no-deadline") && !broken("h2-unbounded") {
            CUT.store(true, SeqCst);
            sleep(Duration::from_millis(200));
            return if broken("zero-when-cut") { 0 } else { 3 };
        }
        sleep(Duration::from_millis(2));
    }
    if broken("slow-exit") {
        sleep(Duration::from_millis(2500));
    }
    if broken("wrong-code") { 7 } else { 0 }
}

fn accept(listener: TcpListener) {
    // It waits for connections in the kernel, and looks up for the signal: sixty of these servers may run at once.
    socket2::SockRef::from(&listener).set_read_timeout(Some(TICK)).expect("it is a socket");
    loop {
        let is_last = draining();
        if is_last && broken("queue-dropped") {
            break;
        }
        if is_last && broken("hangs-new") {
            SEALED.store(true, SeqCst);
            sleep(Duration::from_secs(600));
        }
        match listener.accept() {
            Ok((stream, _)) => serve(stream),
            // Seen empty after the signal: now it may be closed.
            Err(error) if error.kind() == ErrorKind::WouldBlock && is_last => {
                if !broken("still-accepts") {
                    break;
                }
                SEALED.store(true, SeqCst);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => sleep(TICK),
        }
    }
    drop(listener);
    SEALED.store(true, SeqCst);
}

fn serve(stream: TcpStream) {
    OPEN.fetch_add(1, SeqCst);
    spawn(move || {
        let mut connection = Connection { stream, held: Vec::new(), served: false, since: Instant::now() };
        connection.stream.set_nonblocking(false).expect("it is a socket");
        connection.stream.set_nodelay(true).expect("it is a socket");
        connection.stream.set_read_timeout(Some(TICK)).expect("it is a socket");
        connection.live();
        drop(connection);
        OPEN.fetch_sub(1, SeqCst);
    });
}

struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
    served: bool,
    since: Instant,
}

/// Why a connection is over.
struct Over;

struct Request {
    method: String,
    path: String,
    query: String,
    http10: bool,
    close: bool,
    length: Option<usize>,
    chunked: bool,
    expects: bool,
    upgrade: bool,
}

impl Request {
    fn of(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let method = first.next().unwrap_or_default().to_owned();
        let target = first.next().unwrap_or_default();
        let http10 = first.next() == Some("HTTP/1.0");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| {
            lower
                .split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .find(|(known, _)| *known == name)
                .map(|(_, v)| v.trim())
        };
        Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            http10,
            close: http10 || header("connection").is_some_and(|value| value.contains("close")),
            length: header("content-length").and_then(|length| length.parse().ok()),
            chunked: header("transfer-encoding") == Some("chunked"),
            expects: header("expect") == Some("100-continue"),
            upgrade: header("upgrade") == Some("websocket"),
        }
    }

    fn number(&self, name: &str) -> u64 {
        let values = self.query.split('&').filter_map(|pair| pair.split_once('='));
        values.filter(|(known, _)| *known == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
    }
}

impl Connection {
    fn live(&mut self) {
        if env::var_os("HTTP2").is_some() {
            match http2::is_spoken(self).and_then(|is| if is { http2::live(self).map(|()| true) } else { Ok(false) }) {
                Ok(true) => return self.close(),
                Ok(false) => {}
                Err(Over) => return,
            }
        }
        loop {
            match self.request() {
                Ok(request) => match self.work(&request) {
                    Ok(true) => {}
                    Ok(false) => return self.close(),
                    Err(Over) => return,
                },
                Err(Over) => return,
            }
            self.served = true;
            self.since = Instant::now();
        }
    }

    /// The next request, or the end.
    fn request(&mut self) -> Result<Request, Over> {
        loop {
            // One read has brought no more than this since the last look.
            let seen = self.held.len().saturating_sub(4096 + 3);
            if let Some(end) = self.held[seen..].windows(4).position(|four| four == b"\r\n\r\n") {
                let end = seen + end;
                let head: Vec<_> = self.held.drain(..end + 4).collect();
                return Ok(Request::of(&String::from_utf8_lossy(&head[..end])));
            }
            if self.held.len() > LONGEST_HEAD && !broken("endless-heads") {
                self.write("HTTP/1.1 431 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
                self.close();
                return Err(Over);
            }
            let began = !self.held.is_empty();
            match self.fill() {
                Ok(0) => {
                    self.close();
                    return Err(Over);
                }
                Ok(_) if broken("buffer-ignored") && self.served && !began => {
                    sleep(Duration::from_millis(50));
                    if draining() {
                        return Err(Over);
                    }
                }
                Ok(_) => {}
                Err(ErrorKind::WouldBlock) => self.wait(began)?,
                Err(_) => return Err(Over),
            }
        }
    }

    /// Nothing has come for a moment.
    fn wait(&mut self, began: bool) -> Result<(), Over> {
        let quiet = self.since.elapsed();
        if broken("short-keep-alive") && !began && self.served && quiet > Duration::from_millis(900) {
            self.close();
            return Err(Over);
        }
        if !draining() {
            return Ok(());
        }
        let over = match (began, self.served) {
            (true, _) => quiet > HEAD || broken("half-head-dropped"),
            (false, true) if broken("rest-held") => false,
            (false, false) if broken("silent-held") => false,
            (false, _) => quiet > QUIET || broken("no-quiet-window"),
        };
        if !over && !CUT.load(SeqCst) {
            return Ok(());
        }
        // Bytes may have come since the last read.
        if matches!(self.stream.peek(&mut [0]), Ok(1..)) {
            return Ok(());
        }
        if broken("resets-at-rest") {
            socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("it is a socket");
            return Err(Over);
        }
        self.close();
        Err(Over)
    }

    fn fill(&mut self) -> Result<usize, ErrorKind> {
        let mut buffer = [0; 4096];
        let read = loop {
            match self.stream.read(&mut buffer) {
                // What was stopped and continued has not waited: bytes may have come meanwhile (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(read) => {
                if self.held.is_empty() && read > 0 {
                    self.since = Instant::now();
                }
                self.held.extend(&buffer[..read]);
                Ok(read)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                Err(ErrorKind::WouldBlock)
            }
            Err(error) => Err(error.kind()),
        }
    }

    /// FIN, and then the client's, so that no RST destroys what it has not read.
    fn close(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
        let bound = Instant::now() + Duration::from_millis(500);
        let mut buffer = [0; 4096];
        while Instant::now() < bound {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                _ => {}
            }
        }
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Over> {
        self.stream.write_all(bytes.as_ref()).map_err(|_| Over)
    }

    /// Answers whole, and says whether the connection goes on.
    fn reply(&mut self, request: &Request, status: &str, body: &str) -> Result<bool, Over> {
        // Asked once, before the answer is on its way: whoever reads it may send the signal then.
        let draining = draining();
        let close = request.close || (draining && !broken("no-close"));
        let connection = if close { "connection: close\r\n" } else { "" };
        let length = body.len();
        self.write(format!("HTTP/1.1 {status}\r\n{connection}content-length: {length}\r\n\r\n{body}"))?;
        if broken("stray-bytes") && draining {
            self.write("HTTP/1.1 200 OK\r\n\r\n")?;
        }
        // What was not told close stays open: the client may be asking again already.
        let ends = close || (broken("no-close") && draining);
        Ok(!ends)
    }

    fn cut(&mut self) -> Result<bool, Over> {
        self.write("HTTP/1.1 503 No\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")?;
        Ok(false)
    }

    fn work(&mut self, request: &Request) -> Result<bool, Over> {
        let under_way = || UNDER_WAY.lock().expect("nobody panics with it");
        under_way().push(request.path.clone());
        let answered = self.answer(request);
        let mut paths = under_way();
        let place = paths.iter().position(|path| *path == request.path).expect("it is in there");
        paths.swap_remove(place);
        answered
    }

    fn answer(&mut self, request: &Request) -> Result<bool, Over> {
        if broken("never-answers") {
            sleep(Duration::from_secs(600));
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") if broken("no-root") => self.reply(request, "404 No", ""),
            ("GET", "/") => self.reply(request, "200 OK", "ok"),
            ("GET", "/sleep" | "/block") => self.sleeps(request),
            ("GET", "/panic") => self.reply(request, "500 Oops", ""),
            ("GET", "/stream") => self.streams(request),
            ("GET", "/sse") => self.events(request),
            ("POST", "/echo") => self.uploads(request),
            ("POST", "/task") => self.task(request),
            ("GET", "/ws") if request.upgrade => self.websocket(),
            _ => self.reply(request, "404 No", ""),
        }
    }

    fn sleeps(&mut self, request: &Request) -> Result<bool, Over> {
        let end = Instant::now() + Duration::from_millis(request.number("ms"));
        while Instant::now() < end {
            if draining() && broken("cancels") {
                return Err(Over);
            }
            if broken("half-close-ends") && draining() && matches!(self.stream.peek(&mut [0]), Ok(0)) {
                return Err(Over);
            }
            if CUT.load(SeqCst) {
                return self.cut();
            }
            sleep(Duration::from_millis(2));
        }
        self.reply(request, "200 OK", "slept")
    }

    fn streams(&mut self, request: &Request) -> Result<bool, Over> {
        let close = request.close || draining();
        let (coding, connection) = match request.http10 {
            true => ("", "connection: close\r\n"),
            false => ("transfer-encoding: chunked\r\n", if close { "connection: close\r\n" } else { "" }),
        };
        self.write(format!("HTTP/1.1 200 OK\r\n{coding}{connection}\r\n"))?;
        let (chunks, pause) = (request.number("chunks"), Duration::from_millis(request.number("ms")));
        let mut batch = String::new();
        for number in 0..chunks {
            sleep(pause);
            if draining() && broken("short-streams") && number > 2 {
                break;
            }
            if CUT.load(SeqCst) {
                if broken("cut-looks-whole") {
                    break;
                }
                return Err(Over);
            }
            let chunk = format!("chunk{number}\n");
            match request.http10 {
                true => batch.push_str(&chunk),
                false => batch.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len())),
            }
            if !pause.is_zero() || batch.len() > 16_000 {
                self.write(&batch)?;
                batch.clear();
            }
        }
        self.write(&batch)?;
        if !request.http10 {
            self.write("0\r\n\r\n")?;
        }
        Ok(!close && !draining())
    }

    fn events(&mut self, _request: &Request) -> Result<bool, Over> {
        self.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {
                if draining() && broken("sse-cut") {
                    return Err(Over);
                }
                if draining() && broken("sse-half") {
                    self.write("7\r\ndata: x\r\n0\r\n\r\n")?;
                    return Ok(false);
                }
                if draining() && !broken("sse-held") || CUT.load(SeqCst) {
                    self.write("0\r\n\r\n")?;
                    return Ok(false);
                }
                sleep(TICK);
            }
            self.write("9\r\ndata: x\n\n\r\n")?;
        }
    }

    fn uploads(&mut self, request: &Request) -> Result<bool, Over> {
        if request.expects {
            self.write("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut length = 0;
        if request.chunked {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|_| Over)?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                self.take(size + 2)?;
                length += size;
            }
        } else {
            length = request.length.unwrap_or(0);
            self.take(length)?;
        }
        self.reply(request, "200 OK", &length.to_string())
    }

    fn line(&mut self) -> Result<String, Over> {
        loop {
            if let Some(end) = self.held.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<_> = self.held.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more()?;
        }
    }

    fn take(&mut self, mut count: usize) -> Result<(), Over> {
        loop {
            let now = count.min(self.held.len());
            self.held.drain(..now);
            count -= now;
            if count == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), Over> {
        match self.fill() {
            Ok(0) => Err(Over),
            Ok(_) => Ok(()),
            Err(ErrorKind::WouldBlock) if CUT.load(SeqCst) || (draining() && broken("cuts-uploads")) => Err(Over),
            Err(ErrorKind::WouldBlock) => Ok(()),
            Err(_) => Err(Over),
        }
    }

    /// The body is not read by it. What has come of it is thrown away, and the connection ends, unless that is broken.
    fn task(&mut self, request: &Request) -> Result<bool, Over> {
        let time = Duration::from_millis(request.number("ms"));
        TASKS.fetch_add(1, SeqCst);
        spawn(move || {
            sleep(time);
            println!("task done");
            TASKS.fetch_sub(1, SeqCst);
        });
        let goes_on = self.reply(request, "202 Accepted", "")?;
        if request.length.unwrap_or(0) == 0 {
            return Ok(goes_on);
        }
        if broken("smuggles") && draining() {
            return Ok(true);
        }
        self.held.clear();
        Ok(false)
    }

    fn websocket(&mut self) -> Result<bool, Over> {
        self.write("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")?;
        let mut told = None;
        loop {
            let waits = broken("ws-waits-for-the-frame") && !self.held.is_empty();
            if draining() && told.is_none() && !waits {
                if broken("ws-cut") {
                    return Err(Over);
                }
                let code = if broken("ws-wrong-code") { 1000_u16 } else { 1001 };
                self.write([&[0x88, 2][..], &code.to_be_bytes()].concat())?;
                told = Some(Instant::now());
            }
            if told.is_some_and(|told| told.elapsed() > Duration::from_secs(2)) || CUT.load(SeqCst) {
                return Ok(false);
            }
            while self.held.len() >= 6 && self.held.len() >= 6 + usize::from(self.held[1] & 0x7f) {
                let length = usize::from(self.held[1] & 0x7f);
                let frame: Vec<_> = self.held.drain(..6 + length).collect();
                if frame[0] & 0x0f == 8 {
                    if broken("ws-never-ends") {
                        sleep(Duration::from_secs(600));
                    }
                    return Ok(false);
                }
                if told.is_none() {
                    self.write([&[frame[0], length as u8][..], &frame[6..]].concat())?;
                }
            }
            match self.fill() {
                Ok(0) => return Ok(false),
                Ok(_) | Err(ErrorKind::WouldBlock) => {}
                Err(_) => return Err(Over),
            }
        }
    }
}

fn probe(mut stream: TcpStream) {
    let mut held = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        held.extend(&buffer[..read]);
        if held.windows(4).any(|four| four == b"\r\n\r\n") {
            let is_ready = !draining() || broken("ready-for-ever");
            let status = if held.starts_with(b"GET /livez") || is_ready { "200 OK" } else { "503 No" };
            let written = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes());
            if written.is_err() {
                return;
            }
            held.clear();
        }
    }
}
