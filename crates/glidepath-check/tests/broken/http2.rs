//! The same over HTTP/2, by prior knowledge (RFC 9113), where HTTP2 is set. Small bodies only: it keeps no windows.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use loona_hpack::Decoder;

use super::{CUT, Connection, Over, QUIET, Request, TICK, broken, draining};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ANY_STREAM: u32 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Whether this connection speaks it, once enough has come to tell.
pub(crate) fn is_spoken(connection: &mut Connection) -> Result<bool, Over> {
    while connection.held.len() < 3 {
        match connection.fill() {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(ErrorKind::WouldBlock) => connection.wait(!connection.held.is_empty())?,
            Err(_) => return Err(Over),
        }
    }
    Ok(connection.held.starts_with(b"PRI"))
}

/// What the threads of the streams write to.
#[derive(Clone)]
struct Out {
    stream: Arc<Mutex<TcpStream>>,
    active: Arc<AtomicU32>,
}

impl Out {
    fn frame(&self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("small bodies only").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat();
        // Whoever is gone has no use for it.
        let _gone = self.stream.lock().expect("nobody panics with it").write_all(&frame);
    }

    fn go_away(&self, last: u32) {
        let error: u32 = if broken("h2-error-code") { 2 } else { 0 };
        self.frame(GOAWAY, 0, 0, &[last.to_be_bytes(), error.to_be_bytes()].concat());
    }

    fn head(&self, id: u32) {
        // The static table's 8 is `:status: 200` (RFC 7541, appendix A).
        self.frame(HEADERS, END_HEADERS, id, &[0x88]);
    }

    fn answer(&self, id: u32, body: &str) {
        self.head(id);
        self.frame(DATA, END, id, body.as_bytes());
    }
}

struct Http2<'a> {
    connection: &'a mut Connection,
    out: Out,
    decoder: Decoder<'static>,
    uploads: HashMap<u32, usize>,
    /// The highest stream that was opened, and that will be answered.
    last: u32,
    told: Option<Instant>,
    acknowledged: bool,
    over_above: Option<u32>,
}

pub(crate) fn live(connection: &mut Connection) -> Result<(), Over> {
    let began = Instant::now();
    while connection.held.len() < PREFACE.len() {
        match connection.fill() {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(ErrorKind::WouldBlock) => {
                let over = draining() && began.elapsed() > QUIET || CUT.load(SeqCst);
                if over && !broken("h2-unbounded") {
                    return Ok(());
                }
            }
            Err(_) => return Err(Over),
        }
    }
    connection.held.drain(..PREFACE.len());
    let stream = connection.stream.try_clone().map_err(|_| Over)?;
    let out = Out { stream: Arc::new(Mutex::new(stream)), active: Arc::default() };
    out.frame(SETTINGS, 0, 0, &[]);
    let (uploads, told, late) = (HashMap::new(), None, draining());
    let mut http2 = Http2 {
        connection,
        out,
        decoder: Decoder::new(),
        uploads,
        last: 0,
        told,
        acknowledged: false,
        over_above: None,
    };
    let ended = http2.serve(late && broken("h2-late-untold"));
    if broken("h2-reset") && draining() {
        socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).expect("it is a socket");
        return Err(Over);
    }
    ended
}

impl Http2<'_> {
    fn serve(&mut self, untold: bool) -> Result<(), Over> {
        loop {
            while let Some((kind, flags, id, payload)) = self.next() {
                self.take(kind, flags, id, &payload);
            }
            if draining() && !untold && self.leave() {
                return Ok(());
            }
            if CUT.load(SeqCst) && !broken("h2-unbounded") {
                return Err(Over);
            }
            match self.connection.fill() {
                Ok(0) => return Ok(()),
                Ok(_) | Err(ErrorKind::WouldBlock) => {}
                Err(_) => return Err(Over),
            }
        }
    }

    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let held = &mut self.connection.held;
        let length = usize::from(*held.first()?) << 16 | usize::from(*held.get(1)?) << 8 | usize::from(*held.get(2)?);
        if held.len() < 9 + length {
            return None;
        }
        let frame: Vec<_> = held.drain(..9 + length).collect();
        let id = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) & ANY_STREAM;
        Some((frame[3], frame[4], id, frame[9..].to_vec()))
    }

    /// One step of the end. Whether it is over.
    fn leave(&mut self) -> bool {
        if broken("h2-cuts-streams") {
            self.out.go_away(self.last);
            return true;
        }
        let idle = self.out.active.load(SeqCst) == 0 && self.uploads.is_empty();
        if broken("h2-no-goaway") {
            // Long enough that a busy client has sent something meanwhile.
            sleep(Duration::from_millis(if idle { 30 } else { 0 }));
            return idle;
        }
        let Some(told) = self.told else {
            self.told = Some(Instant::now());
            if !broken("h2-one-goaway") {
                self.out.go_away(ANY_STREAM);
                self.out.frame(PING, 0, 0, b"leaving.");
                return false;
            }
            self.acknowledged = true;
            return false;
        };
        if self.over_above.is_none() {
            let given_up = told.elapsed() > Duration::from_secs(1) && !broken("h2-unbounded");
            if self.acknowledged || given_up {
                self.over_above = Some(self.last);
                self.out.go_away(self.last);
            }
            return false;
        }
        idle && !broken("h2-stays") && !broken("h2-unbounded")
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        match kind {
            SETTINGS if flags & ACK == 0 => self.out.frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => self.out.frame(PING, ACK, 0, payload),
            PING => self.acknowledged = true,
            HEADERS => self.opened(id, flags & END != 0, payload),
            DATA => {
                let Some(length) = self.uploads.get_mut(&id) else { return };
                *length += payload.len();
                if broken("h2-uploads-cut") && draining() {
                    self.uploads.remove(&id);
                    self.out.frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
                } else if flags & END != 0 {
                    let length = self.uploads.remove(&id).unwrap_or_default();
                    self.out.answer(id, &length.to_string());
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, id: u32, whole: bool, block: &[u8]) {
        // Decoded whatever becomes of it: the table is the connection's.
        let Ok(headers) = self.decoder.decode(block) else { return };
        if self.over_above.is_some_and(|last| id > last) && !broken("h2-serves-above-last") {
            return;
        }
        self.last = self.last.max(id);
        // Those that crossed the GOAWAY of an idle connection are not meant: whether there are any is chance.
        if broken("h2-between-lost") && self.told.is_some() && self.out.active.load(SeqCst) > 0 {
            return;
        }
        let pseudo = |name: &[u8]| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let request = Request::of(&format!("{} {} HTTP/1.1\r\n", pseudo(b":method"), pseudo(b":path")));
        match request.path.as_str() {
            "/" => self.out.answer(id, "ok"),
            "/sleep" => self.apart(move |out| {
                sleep(Duration::from_millis(request.number("ms")));
                out.answer(id, "slept");
            }),
            "/stream" => self.apart(move |out| {
                out.head(id);
                for number in 0..request.number("chunks") {
                    sleep(Duration::from_millis(request.number("ms")).max(TICK));
                    out.frame(DATA, 0, id, format!("chunk{number}\n").as_bytes());
                }
                out.frame(DATA, END, id, &[]);
            }),
            "/echo" if !whole => {
                self.uploads.insert(id, 0);
            }
            _ => self.out.frame(RST_STREAM, 0, id, &7_u32.to_be_bytes()),
        }
    }

    fn apart(&self, work: impl FnOnce(&Out) + Send + 'static) {
        let out = self.out.clone();
        out.active.fetch_add(1, SeqCst);
        spawn(move || {
            work(&out);
            out.active.fetch_sub(1, SeqCst);
        });
    }
}
