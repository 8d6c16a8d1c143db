//! What a server offers, found out before the first case: a case that needs what is not there is skipped, and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::scope;

use rustix::process::Signal;

use crate::case::Need;
use crate::clock::{ms, now, pause, since, wait_until};
use crate::model;
use crate::ports::free_port;
use crate::record::Recorder;
use crate::server::{Server, Start, StartError};
use crate::settings::{Grace, Settings, Stop, Tls, Variable, Work};
use crate::stage::{BIG, PATIENCE, STREAM, TASK_DONE, http2_to};
use crate::wire::http1::Client;
use crate::wire::websocket::UPGRADE;
use crate::wire::{Address, Wire};

/// An answer shorter than this all fits into the buffers between server and client: no reader can be slow with it.
const BIG_ENOUGH: usize = 1 << 20;

/// What is there, and what its answers look like.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    offers: BTreeMap<Need, Offer>,
    pub(crate) quick_length: Option<usize>,
    pub(crate) stream_length: Option<usize>,
    pub(crate) big_length: Option<usize>,
    pub(crate) http2_over_tls: bool,
}

#[derive(Clone, Debug, Default)]
struct Offer {
    there: bool,
    note: String,
}

/// Why the check can't begin.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It does not come up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It answers something else.
    #[error(
        "GET {path} was to be answered with a whole 2xx response at once, and {what}; say another path with --paths quick=/…"
    )]
    WrongAnswer {
        /// What was asked.
        path: String,
        /// What came.
        what: String,
    },
}

/// What was seen, or why it is not there.
type Probe = Result<String, String>;

/// A probe that starts a server of its own.
type Look = fn(&Settings) -> Probe;

impl Findings {
    /// None when it is there, else why not.
    pub(crate) fn lacks(&self, need: Need) -> Option<String> {
        match self.offers.get(&need) {
            Some(Offer { there: true, .. }) => None,
            Some(Offer { note, .. }) => Some(format!("needs {}: {note}", need.name())),
            None => Some(format!("needs {}", need.name())),
        }
    }

    pub(crate) fn for_people(&self) -> Vec<model::Found> {
        let found = self.offers.iter();
        found
            .map(|(need, offer)| model::Found {
                name: need.name().to_owned(),
                there: offer.there,
                note: offer.note.clone(),
            })
            .collect()
    }

    fn note(&mut self, need: Need, probe: Probe) {
        let offer = match probe {
            Ok(note) => Offer { there: true, note },
            Err(note) => Offer { there: false, note },
        };
        self.offers.insert(need, offer);
    }

    /// Starts the server, a few times, and looks.
    pub(crate) fn look(settings: &Settings) -> Result<Self, Unfit> {
        let mut findings = Findings::default();
        let server = Server::start(settings, &Start::default(), &Recorder::new(false))?;
        findings.quick_length = Ask { settings, server: &server }.quick()?;
        scope(|scope| {
            // Where ports are free to choose, other servers are asked at the same time.
            let others = settings.port.is_none().then(|| scope.spawn(|| look_at_others(settings)));
            findings.look_at(Ask { settings, server: &server });
            drop(server);
            let others = match others {
                Some(thread) => thread.join().unwrap_or_default(),
                None => look_at_others(settings),
            };
            for (need, probe) in others {
                findings.note(need, probe);
            }
        });
        findings.conclude(settings);
        Ok(findings)
    }

    /// All that one server tells.
    fn look_at(&mut self, ask: Ask<'_>) {
        let Ask { settings, server } = ask;
        scope(|scope| {
            let slow = scope.spawn(|| ask.takes(Work::Slow));
            let stream = scope.spawn(|| ask.stream());
            let sse = scope.spawn(|| ask.events());
            let upload = scope.spawn(|| ask.upload());
            let ws = scope.spawn(|| ask.websocket());
            let task = scope.spawn(|| ask.task());
            let http2 = scope.spawn(|| ask.http2(&server.address));
            let (stream, length) = split(joined(stream));
            self.stream_length = length;
            self.note(Need::Stream, stream);
            self.note(Need::Slow, joined(slow));
            self.note(Need::Sse, joined(sse));
            self.note(Need::Upload, joined(upload));
            self.note(Need::Ws, joined(ws));
            self.note(Need::Task, joined(task));
            self.note(Need::Http2, joined(http2));
        });
        // These take the whole server's time, or may harm it.
        let (big, length) = split(ask.big());
        self.big_length = length;
        self.note(Need::Big, big);
        self.note(Need::Block, ask.takes(Work::Block));
        self.note(Need::Panic, ask.panics());
        for (any, need, work) in
            [(Need::AnySlow, Need::Slow, Work::Slow), (Need::AnyStream, Need::Stream, Work::Stream)]
        {
            let probe = match self.lacks(need) {
                Some(why) => Err(why),
                None if settings.can_wait(work) => Ok("its path takes {ms}".to_owned()),
                None => Err("its path does not take {ms}".to_owned()),
            };
            self.note(any, probe);
        }
        if settings.tls == Tls::Main {
            self.note(Need::Tls, Ok("all of it speaks TLS".to_owned()));
            self.note(Need::TlsHttp2, ask.http2(&server.address));
        }
    }

    /// What follows from all that was seen, and from what was told.
    fn conclude(&mut self, settings: &Settings) {
        if self.lacks(Need::Http2).is_some() && self.lacks(Need::TlsHttp2).is_none() {
            self.http2_over_tls = true;
            self.note(Need::Http2, Ok("chosen by ALPN".to_owned()));
        }
        let (known, any) = match settings.grace {
            Grace::Variable => {
                let name = &settings.names[&Variable::Grace];
                (Ok(format!("as {name} says")), Ok(format!("as {name} says")))
            }
            Grace::Fixed(seconds) => (Ok(format!("{seconds} s, as told")), Err(format!("it is always {seconds} s"))),
            Grace::None => {
                let none = || Err("it has none, as told".to_owned());
                (none(), none())
            }
        };
        self.note(Need::Grace, known);
        self.note(Need::AnyGrace, any);
    }
}

/// Each of these is a server of its own.
fn look_at_others(settings: &Settings) -> Vec<(Need, Probe)> {
    let probes: [(Need, Look); 6] = [
        (Need::Tls, has_tls),
        (Need::TlsHttp2, has_tls_http2),
        (Need::Unix, has_unix),
        (Need::Admin, has_admin),
        (Need::LameDuck, has_lame_duck),
        (Need::Restart, has_restart),
    ];
    let is_known = |need: Need| settings.tls == Tls::Main && matches!(need, Need::Tls | Need::TlsHttp2);
    let wanted = probes.into_iter().filter(|(need, _)| !is_known(*need));
    if settings.port.is_some() {
        return wanted.map(|(need, probe)| (need, probe(settings))).collect();
    }
    scope(|scope| {
        let probes: Vec<_> = wanted.map(|(need, probe)| (need, scope.spawn(move || probe(settings)))).collect();
        probes.into_iter().map(|(need, probe)| (need, joined(probe))).collect()
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T, String>>) -> Result<T, String> {
    thread.join().unwrap_or_else(|_| Err("the probe itself failed".to_owned()))
}

fn split(probe: Result<(String, usize), String>) -> (Probe, Option<usize>) {
    match probe {
        Ok((note, length)) => (Ok(note), Some(length)),
        Err(why) => (Err(why), None),
    }
}

/// Questions to a running server.
#[derive(Clone, Copy)]
struct Ask<'a> {
    settings: &'a Settings,
    server: &'a Server,
}

impl Ask<'_> {
    fn client(&self) -> Result<Client, String> {
        client(&self.server.address, self.settings)
    }

    fn path(&self, work: Work, milliseconds: u64, chunks: u64) -> String {
        self.settings.path(work, milliseconds, chunks)
    }

    /// The length of its answer, where it is always the same.
    fn quick(&self) -> Result<Option<usize>, Unfit> {
        let path = self.path(Work::Quick, 0, 0);
        let mut lengths = [0, 0];
        for length in &mut lengths {
            let wrong = |what: String| Unfit::WrongAnswer { path: path.clone(), what };
            let mut client = self.client().map_err(wrong)?;
            let answer = client.get(&path).answer(PATIENCE);
            let answer = answer.map_err(|missing| wrong(format!("no whole answer came: {missing:?}")))?;
            if !answer.is_good() {
                return Err(wrong(format!("its status was {}", answer.status)));
            }
            *length = answer.body.len();
        }
        Ok((lengths[0] == lengths[1]).then_some(lengths[0]))
    }

    fn takes(&self, work: Work) -> Probe {
        let path = self.path(work, 300, 0);
        let mut client = self.client()?;
        let asked = now();
        let answer = client.get(&path).answer(ms(20_000));
        let took = since(asked);
        let answer = answer.map_err(|missing| format!("GET {path}: no whole answer, {missing:?}"))?;
        if !answer.is_good() {
            return Err(format!("GET {path}: status {}", answer.status));
        }
        if took < ms(250) {
            return Err(format!("GET {path}: answered at once; it was to take its time"));
        }
        Ok(format!("GET {path}: 2xx after {} ms", took.as_millis()))
    }

    fn stream(&self) -> Result<(String, usize), String> {
        let path = self.path(Work::Stream, STREAM.1, STREAM.0);
        let mut client = self.client()?;
        client.get(&path);
        let head = client.head(PATIENCE).map_err(|missing| format!("GET {path}: no head, {missing:?}"))?;
        if !head.is_good() {
            return Err(format!("GET {path}: status {}", head.status));
        }
        let began = now();
        // The head again, so that the body is read by it.
        let mut client = self.client()?;
        client.get(&path);
        let answer = client.answer(PATIENCE).map_err(|missing| format!("GET {path}: no whole answer, {missing:?}"))?;
        if since(began) < ms(500) {
            return Err(format!("GET {path}: came all at once; it was to come piece by piece"));
        }
        Ok((format!("GET {path}: {} bytes, piece by piece", answer.body.len()), answer.body.len()))
    }

    fn big(&self) -> Result<(String, usize), String> {
        let path = self.path(Work::Big, 0, BIG);
        let mut client = self.client()?;
        let answer = client.get(&path).answer(ms(10_000));
        let answer = answer.map_err(|missing| format!("GET {path}: no whole answer, {missing:?}"))?;
        if !answer.is_good() {
            return Err(format!("GET {path}: status {}", answer.status));
        }
        let length = answer.body.len();
        if length < BIG_ENOUGH {
            return Err(format!("GET {path}: {length} bytes, and a megabyte is the least"));
        }
        Ok((format!("GET {path}: {length} bytes"), length))
    }

    fn events(&self) -> Probe {
        let path = self.path(Work::Sse, 0, 0);
        let mut client = self.client()?;
        client.get(&path);
        let head = client.head(PATIENCE).map_err(|missing| format!("GET {path}: no head, {missing:?}"))?;
        let kind = head.header("content-type").unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(format!("GET {path}: status {}, {kind:?} and not text/event-stream", head.status));
        }
        if !client.stirs_within(ms(2000)) {
            return Err(format!("GET {path}: no event within 2 s"));
        }
        Ok(format!("GET {path}: events come"))
    }

    /// It must not answer before it has the body.
    fn upload(&self) -> Probe {
        let path = self.path(Work::Upload, 0, 0);
        let mut client = self.client()?;
        client.ask("POST", &path, "content-length: 1000\r\n").send([b'x'; 400], "400 bytes");
        if client.stirs_within(ms(250)) {
            let status = client.head(ms(100)).map(|head| head.status);
            return Err(format!("POST {path}: answered before the body was there: {status:?}"));
        }
        let answer = client.send([b'x'; 600], "600 bytes").answer(PATIENCE);
        let answer = answer.map_err(|missing| format!("POST {path}: no whole answer, {missing:?}"))?;
        if !answer.is_good() {
            return Err(format!("POST {path}: status {}", answer.status));
        }
        Ok(format!("POST {path}: {} when the body is there", answer.status))
    }

    fn websocket(&self) -> Probe {
        let path = self.path(Work::Ws, 0, 0);
        let mut client = self.client()?;
        client.ask("GET", &path, UPGRADE);
        match client.head(PATIENCE) {
            Ok(head) if head.status == 101 => Ok(format!("GET {path}: upgraded")),
            Ok(head) => Err(format!("GET {path}: status {} and not 101", head.status)),
            Err(missing) => Err(format!("GET {path}: no answer, {missing:?}")),
        }
    }

    fn task(&self) -> Probe {
        let path = self.path(Work::Task, 300, 0);
        let mut client = self.client()?;
        let answer = client.ask("POST", &path, "content-length: 0\r\n").answer(PATIENCE);
        let answer = answer.map_err(|missing| format!("POST {path}: no whole answer, {missing:?}"))?;
        if !answer.is_good() {
            return Err(format!("POST {path}: status {}", answer.status));
        }
        if !wait_until(ms(2000), || self.server.said(TASK_DONE)) {
            return Err(format!("POST {path}: 2xx, but nobody wrote {TASK_DONE:?}"));
        }
        Ok(format!("POST {path}: 2xx at once, {TASK_DONE:?} later"))
    }

    fn panics(&self) -> Probe {
        let path = self.path(Work::Panic, 0, 0);
        let answer = self.client()?.get(&path).answer(PATIENCE);
        let answer = answer.map_err(|missing| format!("GET {path}: no whole answer, {missing:?}"))?;
        if answer.status != 500 {
            return Err(format!("GET {path}: status {} and not 500", answer.status));
        }
        self.quick().map(|_| format!("GET {path}: 500")).map_err(|error| format!("after a panic: {error}"))
    }

    fn http2(&self, address: &Address) -> Probe {
        let mut client = http2_to(address, &Recorder::new(false), self.settings)?;
        client.preface();
        if !client.until(ms(1500), |client| client.settled) {
            return Err("no SETTINGS came after the preface".to_owned());
        }
        let id = client.get(&self.path(Work::Quick, 0, 0));
        client.until(ms(1500), |client| client.is_done(id));
        let seen = client.fate(id, None);
        match seen.outcome {
            model::Outcome::Answered | model::Outcome::ToldClose => Ok("prior knowledge or ALPN: answered".to_owned()),
            _ => Err(format!("SETTINGS came, but a request: {}", seen.text)),
        }
    }
}

fn client(address: &Address, settings: &Settings) -> Result<Client, String> {
    let wire = Wire::open(address, &Recorder::new(false)).map_err(|why| format!("no connection: {why:?}"))?;
    Ok(Client::new(wire, &settings.headers_text()))
}

/// Asks for this path until a 2xx comes, for a second and a half.
fn answers(address: &Address, path: &str, settings: &Settings) -> Probe {
    let began = now();
    loop {
        let answer = client(address, settings).map(|mut client| client.get(path).answer(ms(1000)));
        let what = match answer {
            Ok(Ok(answer)) if answer.is_good() => return Ok(format!("GET {path}: {}", answer.status)),
            Ok(Ok(answer)) => format!("GET {path}: {}", answer.status),
            Ok(Err(missing)) => format!("GET {path}: {missing:?}"),
            Err(why) => why,
        };
        if since(began) > ms(1500) {
            return Err(what);
        }
        pause(ms(50));
    }
}

fn start_with(settings: &Settings, variable: Variable, value: &str) -> Result<Server, String> {
    let start = Start { variables: BTreeMap::from([(variable, value.to_owned())]), ..Start::default() };
    let name = &settings.names[&variable];
    Server::start(settings, &start, &Recorder::new(false)).map_err(|error| {
        let error = error.to_string();
        format!("with {name} set, {}", error.lines().next().unwrap_or_default().trim_end_matches("; its last words:"))
    })
}

fn has_tls(settings: &Settings) -> Probe {
    let port = free_port().to_string();
    let server = start_with(settings, Variable::TlsPort, &port)?;
    let address = server.tls.map(Address::Tls).ok_or("no address")?;
    let name = &settings.names[&Variable::TlsPort];
    answers(&address, &settings.path(Work::Quick, 0, 0), settings)
        .map_err(|why| format!("with {name} set, no TLS is spoken there: {why}"))
}

fn has_tls_http2(settings: &Settings) -> Probe {
    let port = free_port().to_string();
    let server = start_with(settings, Variable::TlsPort, &port)?;
    let address = server.tls.map(Address::Tls).ok_or("no address")?;
    answers(&address, &settings.path(Work::Quick, 0, 0), settings)?;
    Ask { settings, server: &server }.http2(&address)
}

fn has_unix(settings: &Settings) -> Probe {
    let path = socket_path();
    let _server = start_with(settings, Variable::Unix, &path.display().to_string())?;
    let name = &settings.names[&Variable::Unix];
    answers(&Address::Unix(path), &settings.path(Work::Quick, 0, 0), settings)
        .map_err(|why| format!("with {name} set, nobody answers there: {why}"))
}

pub(crate) fn socket_path() -> PathBuf {
    std::env::temp_dir().join(format!("glidepath-check-{}-{}.sock", std::process::id(), free_port()))
}

fn has_admin(settings: &Settings) -> Probe {
    let port = free_port().to_string();
    let server = start_with(settings, Variable::AdminPort, &port)?;
    let address = server.admin.map(Address::Tcp).ok_or("no address")?;
    let name = &settings.names[&Variable::AdminPort];
    for path in ["/livez", "/readyz"] {
        answers(&address, path, settings).map_err(|why| format!("with {name} set: {why}"))?;
    }
    Ok("/livez and /readyz: 200".to_owned())
}

fn has_lame_duck(settings: &Settings) -> Probe {
    let server = start_with(settings, Variable::LameDuck, "3")?;
    server.tell_to_end()?;
    pause(ms(700));
    let name = &settings.names[&Variable::LameDuck];
    let answer = client(&server.address, settings)
        .map(|mut client| client.get(&settings.path(Work::Quick, 0, 0)).answer(ms(1000)));
    match answer {
        Ok(Ok(answer)) if answer.is_good() => Ok(format!("with {name}=3 it serves after the signal")),
        _ => Err(format!("with {name}=3 it does not serve 700 ms after the signal")),
    }
}

/// After SIGHUP the old process goes, and its port is answered all the same.
fn has_restart(settings: &Settings) -> Probe {
    if !matches!(settings.signal, Stop::Signal(_)) {
        return Err("it is ended by a command and not by a signal".to_owned());
    }
    let server = start_with(settings, Variable::Restart, "1")?;
    server.signal(Signal::HUP)?;
    if server.ended_by(now() + ms(5000)).is_none() {
        return Err("after SIGHUP the same process goes on".to_owned());
    }
    answers(&server.address, &settings.path(Work::Quick, 0, 0), settings)
        .map(|_| "after SIGHUP a new process answers".to_owned())
        .map_err(|_| "SIGHUP ends it, and no new process answers".to_owned())
}
