//! Where a script plays: a running server, clients, and the signal, which in a control is left out.

use std::panic::resume_unwind;
use std::thread::scope;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::clock::{ms, now, pause, since, wait_until};
use crate::found::Findings;
use crate::model::Outcome;
use crate::record::Recorder;
use crate::seen::{Seen, words};
use crate::server::Server;
use crate::settings::{Settings, Stop, Work};
use crate::wire::http1::Client;
use crate::wire::http2::Http2;
use crate::wire::websocket::{UPGRADE, WebSocket};
use crate::wire::{Address, NotOpened, Wire, kernel};

/// No answer takes longer, unless the script says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// What the deadline may be missed by: half a second, and as much again for a busy machine.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);
/// Longer than any server keeps a connection for a request that may just be on its way.
pub(crate) const QUIET: Duration = Duration::from_millis(1200);
/// How long a slow request takes, unless the script says so.
pub(crate) const SLOW: u64 = 1000;
/// A stream of so many chunks, so many milliseconds apart.
pub(crate) const STREAM: (u64, u64) = (10, 100);
/// A long answer: megabytes in so many chunks.
pub(crate) const BIG: u64 = 500_000;
/// What a task writes when it is done.
pub(crate) const TASK_DONE: &str = "task done";

/// Why a script could not be played to its end.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// What it needs can't be had here.
    Skip(String),
    /// Nothing can be said of the server.
    Broken(String),
}

pub(crate) type Script = Result<(), Trouble>;

pub(crate) struct Stage<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) found: &'a Findings,
    pub(crate) server: Server,
    recorder: Recorder,
    grace: Option<f64>,
    seen: Vec<Seen>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        found: &'a Findings,
        server: Server,
        recorder: &Recorder,
        grace: Option<f64>,
    ) -> Self {
        Stage { settings, found, server, recorder: recorder.clone(), grace, seen: Vec::new() }
    }

    /// All outcomes. Of a server whose stop command failed there are none: nobody told it to end.
    pub(crate) fn into_seen(self) -> Result<Vec<Seen>, Trouble> {
        match self.server.stop_failed() {
            Some(failed) => Err(Trouble::Broken(failed)),
            None => Ok(self.seen),
        }
    }

    /// One more outcome.
    pub(crate) fn saw(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    /// One more outcome of something that the deadline was to cut. Where it did not, how a cut looks can't be told.
    pub(crate) fn saw_cut(&mut self, seen: Seen) -> Script {
        if !self.is_control() && matches!(seen.outcome, Outcome::Open | Outcome::Hung) {
            return Err(Trouble::Skip("the deadline cuts nothing, which end/stream is about".into()));
        }
        self.saw(seen);
        Ok(())
    }

    /// What becomes of clients that are at it side by side while something `happens`, such as the signal. Each is given away, so
    /// that its connection is closed as soon as it is done (RFC 9112, section 9.6): a server may wait for that.
    pub(crate) fn while_at_it<C: Send>(
        &mut self,
        clients: impl IntoIterator<Item = C>,
        live: impl Fn(&Self, C) -> Seen + Sync,
        happens: impl FnOnce(&Self) -> Script,
    ) -> Script {
        let (stage, live) = (&*self, &live);
        let (fates, happened) = scope(|scope| {
            let clients: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || live(stage, client))).collect();
            let happened = happens(stage);
            let fates = clients.into_iter().map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (fates.collect::<Vec<_>>(), happened)
        });
        happened?;
        self.seen.extend(fates);
        Ok(())
    }

    /// How each of these connections ends, on which nothing is asked. All are watched at once: none is late because another was
    /// waited for.
    pub(crate) fn all_end_by(&mut self, clients: &mut [Client], bound: Duration) -> Script {
        self.while_at_it(clients, |_, client| client.ends_by(bound), |_| Ok(()))
    }

    pub(crate) fn is_control(&self) -> bool {
        self.recorder.is_control()
    }

    /// The grace period of this case.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs_f64(self.grace.unwrap_or(30.0))
    }

    /// Far longer than the grace period, in milliseconds.
    pub(crate) fn beyond_grace(&self) -> u64 {
        self.grace().as_millis() as u64 + 20_000
    }

    // === Clients ===

    /// A connection, before the signal.
    pub(crate) fn client(&self) -> Result<Client, Trouble> {
        self.connect().map_err(no_connection)
    }

    /// A connection, or why there is none.
    pub(crate) fn connect(&self) -> Result<Client, NotOpened> {
        self.connect_to(&self.server.address)
    }

    pub(crate) fn connect_to(&self, address: &Address) -> Result<Client, NotOpened> {
        Ok(Client::new(Wire::open(address, &self.recorder)?, &self.settings.headers_text()))
    }

    pub(crate) fn client_to(&self, address: &Address) -> Result<Client, Trouble> {
        self.connect_to(address).map_err(no_connection)
    }

    /// One that reads little at a time.
    pub(crate) fn narrow_client(&self) -> Result<Client, Trouble> {
        let wire = Wire::open_with(&self.server.address, &self.recorder, &[], Some(32 << 10));
        Ok(Client::new(wire.map_err(no_connection)?, &self.settings.headers_text()))
    }

    /// A connection that the server has accepted, and that has said nothing.
    pub(crate) fn accepted(&self) -> Result<Client, Trouble> {
        let mut client = self.client()?;
        if let Some(tls) = client.wire.tls() {
            tls.shake_hands().map_err(|error| Trouble::Broken(format!("no TLS handshake: {error}")))?;
        }
        client.wire.until_accepted();
        Ok(client)
    }

    /// A keep-alive connection that has had one answer and is at rest now.
    pub(crate) fn at_rest(&self) -> Result<Client, Trouble> {
        let mut client = self.client()?;
        let answer = self.ask_quick(&mut client).answer(PATIENCE);
        match answer {
            Ok(answer) if answer.close => Err(Trouble::Skip("it closes every connection after one answer".into())),
            Ok(_) => Ok(client),
            Err(missing) => Err(Trouble::Broken(format!("no answer before the signal: {missing:?}"))),
        }
    }

    pub(crate) fn many_at_rest(&self, count: usize) -> Result<Vec<Client>, Trouble> {
        (0..count).map(|_| self.at_rest()).collect()
    }

    /// Connections at rest that were used this very moment.
    pub(crate) fn just_used(&self, count: usize) -> Result<Vec<Client>, Trouble> {
        let mut clients = self.many_at_rest(count)?;
        let asked = now();
        for client in &mut clients {
            self.ask_quick(client);
        }
        for client in &mut clients {
            let fate = client.answered(PATIENCE);
            if fate.outcome != Outcome::Answered {
                return Err(Trouble::Broken(format!("before the signal: {}", fate.text)));
            }
        }
        match since(asked) {
            took if took < ms(200) => Ok(clients),
            took => Err(Trouble::Broken(format!("this machine is too busy: {count} requests took {}", words(took)))),
        }
    }

    pub(crate) fn ask_quick<'c>(&self, client: &'c mut Client) -> &'c mut Client {
        client.knows(self.found.quick_length).get(&self.settings.path(Work::Quick, 0, 0))
    }

    /// A request that takes this long.
    pub(crate) fn ask_slow<'c>(&self, client: &'c mut Client, milliseconds: u64) -> &'c mut Client {
        client.knows(None).get(&self.settings.path(Work::Slow, milliseconds, 0))
    }

    /// A request that the server has read and not answered.
    pub(crate) fn busy(&self, milliseconds: u64) -> Result<Client, Trouble> {
        let mut client = self.client()?;
        self.ask_slow(&mut client, milliseconds).until_read();
        Ok(client)
    }

    pub(crate) fn path_of_stream(&self) -> String {
        self.settings.path(Work::Stream, STREAM.1, STREAM.0)
    }

    pub(crate) fn path_of(&self, work: Work) -> String {
        self.settings.path(work, 0, 0)
    }

    pub(crate) fn path_of_big(&self) -> String {
        self.settings.path(Work::Big, 0, BIG)
    }

    /// HTTP/2, settings exchanged, over what the server speaks it on.
    pub(crate) fn http2(&self) -> Result<Http2, Trouble> {
        let mut client = self.silent_http2()?;
        client.preface();
        if client.until(PATIENCE, |client| client.settled) {
            return Ok(client);
        }
        Err(Trouble::Broken("no SETTINGS before the signal".into()))
    }

    /// A connection for HTTP/2, on which nothing has been said.
    pub(crate) fn silent_http2(&self) -> Result<Http2, Trouble> {
        let address = match self.found.http2_over_tls {
            true => self.server.tls.map(Address::Tls),
            false => None,
        };
        self.http2_to(&address.unwrap_or_else(|| self.server.address.clone()))
    }

    pub(crate) fn http2_to(&self, address: &Address) -> Result<Http2, Trouble> {
        http2_to(address, &self.recorder, self.settings).map_err(Trouble::Broken)
    }

    /// A WebSocket, open.
    pub(crate) fn websocket(&self) -> Result<WebSocket, Trouble> {
        let mut client = self.client()?;
        client.ask("GET", &self.path_of(Work::Ws), UPGRADE);
        match client.head(PATIENCE) {
            Ok(head) if head.status == 101 => Ok(WebSocket::of(client)),
            other => Err(Trouble::Broken(format!("no upgrade before the signal: {other:?}"))),
        }
    }

    pub(crate) fn tls_address(&self) -> Result<Address, Trouble> {
        self.server.tls.map(Address::Tls).ok_or_else(|| Trouble::Skip("no TLS".into()))
    }

    pub(crate) fn unix_address(&self) -> Result<Address, Trouble> {
        self.server.unix.clone().map(Address::Unix).ok_or_else(|| Trouble::Skip("no unix socket".into()))
    }

    pub(crate) fn admin_address(&self) -> Result<Address, Trouble> {
        self.server.admin.map(Address::Tcp).ok_or_else(|| Trouble::Skip("no admin port".into()))
    }

    // === The signal ===

    /// The signal; in a control, the moment where it would have been.
    pub(crate) fn signal(&self) -> Script {
        if self.is_control() {
            self.recorder.no_signal(now());
            return Ok(());
        }
        self.told(self.server.tell_to_end())
    }

    /// A certain signal, whatever else ends this server.
    pub(crate) fn signal_by(&self, signal: Signal) -> Script {
        if self.is_control() {
            self.recorder.no_signal(now());
            return Ok(());
        }
        self.told(self.server.signal(signal))
    }

    fn told(&self, told: Result<String, String>) -> Script {
        // It may have ended before a further signal reached it.
        match told {
            Err(error) if self.server.ended().is_none() => Err(Trouble::Broken(error)),
            _ => Ok(()),
        }
    }

    /// The signal that `signal` sends.
    pub(crate) fn its_signal(&self) -> Result<Signal, Trouble> {
        match &self.settings.signal {
            Stop::Signal(signal) => Ok(*signal),
            Stop::Command(_) => Err(Trouble::Skip("it is ended by a command and not by a signal".into())),
        }
    }

    /// Returns when the listener is closed, or half a second later where it is not.
    pub(crate) fn settle(&self) {
        let main = self.server.main;
        if self.is_control() {
            return pause(ms(100));
        }
        wait_until(ms(500), || kernel::is_listening(main) == Some(false));
    }

    /// Not longer than any quiet window, and long enough for a server that closes at once to have done so.
    pub(crate) fn settle_briefly(&self) {
        let main = self.server.main;
        if !self.is_control() {
            wait_until(ms(200), || kernel::is_listening(main) == Some(false));
        }
        pause(ms(60));
    }

    pub(crate) fn is_signalled(&self) -> bool {
        self.recorder.zero().is_some()
    }

    pub(crate) fn pause(&self, time: Duration) {
        pause(time);
    }

    pub(crate) fn zero(&self) -> Instant {
        self.recorder.zero().unwrap_or_else(now)
    }

    pub(crate) fn since_signal(&self) -> Duration {
        since(self.zero())
    }

    // === The process ===

    /// Whether the process has ended, so long after the signal at the latest. A control is not watched for long: without a
    /// signal there is nothing to come.
    pub(crate) fn exits_by(&self, bound: Duration) -> Seen {
        let until = self.zero() + if self.is_control() { bound.min(ms(1000)) } else { bound + ms(2000) };
        match self.server.ended_by(until) {
            None => {
                Seen::new(Outcome::Running, format!("still running {} after the signal", words(self.since_signal())))
            }
            Some(exit) => {
                let after = exit.at.saturating_duration_since(self.zero());
                let outcome = if after <= bound { Outcome::Exited } else { Outcome::Late };
                Seen::new(outcome, format!("ended {} after the signal, {}", words(after), exit.words()))
            }
        }
    }

    /// The grace period and the margin.
    pub(crate) fn deadline(&self) -> Duration {
        self.grace() + MARGIN
    }
}

pub(crate) fn http2_to(address: &Address, recorder: &Recorder, settings: &Settings) -> Result<Http2, String> {
    let mut wire =
        Wire::open_with(address, recorder, &["h2"], None).map_err(|why| format!("no connection: {why:?}"))?;
    if let Some(tls) = wire.tls() {
        tls.shake_hands().map_err(|error| format!("no TLS handshake: {error}"))?;
        if tls.alpn() != Some(b"h2") {
            return Err("ALPN did not choose h2".into());
        }
    }
    let headers = settings.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    Ok(Http2::new(wire, settings.host(), headers))
}

fn no_connection(why: NotOpened) -> Trouble {
    Trouble::Broken(format!("no connection before the signal: {why:?}"))
}
