//! What all kinds of clients share: opening, asking, counting, and knowing when it is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::judge::{Answer, End, Outcome, Seen, judge};
use crate::stream::Look;
use crate::tally::Tally;
use crate::wire::{Door, NotOpened, Response, Wire};

/// How long a client waits for the FIN that was announced to it.
const FAREWELL: Duration = Duration::from_secs(5);

/// What every client of a round knows.
pub(crate) struct Round {
    pub(crate) address: SocketAddr,
    /// Where the same is served over TLS, and how one gets in with HTTP/1.1 and with HTTP/2.
    pub(crate) tls: Option<(SocketAddr, TlsConnector, TlsConnector)>,
    /// 0 is the control run.
    pub(crate) number: u32,
    /// The clients shall leave by themselves.
    pub(crate) over: AtomicBool,
    /// Clients that were connected once.
    pub(crate) opened: AtomicUsize,
    pub(crate) signalled: SetOnce<Instant>,
    /// The server stands still, and finds what comes now in its accept queue.
    pub(crate) frozen: SetOnce<()>,
}

pub(crate) struct Client<'a> {
    pub(crate) round: &'a Round,
    pub(crate) rng: Rng,
    /// Looks for FIN before it sends.
    pub(crate) looks: bool,
    /// Comes over TLS.
    pub(crate) tls: bool,
    pub(crate) h2: bool,
    /// Takes little at a time.
    pub(crate) is_narrow: bool,
    pub(crate) tally: Tally,
    pub(crate) bare: Arc<AtomicU64>,
    pub(crate) has_opened: bool,
}

/// Whether the connection can be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Again,
    Gone,
}

impl<'a> Client<'a> {
    pub(crate) fn new(round: &'a Round, rng: Rng, looks: bool, tls: bool) -> Self {
        Client {
            round,
            rng,
            looks,
            tls,
            h2: false,
            is_narrow: false,
            tally: Tally::default(),
            bare: Arc::default(),
            has_opened: false,
        }
    }

    /// Another one of its kind, with a count of its own.
    pub(crate) fn twin(&mut self) -> Self {
        Client { has_opened: true, ..Client::new(self.round, self.rng.fork(), self.looks, self.tls) }
    }

    /// The counts, with what has no outcome as lost.
    pub(crate) fn count(mut self) -> Tally {
        self.tally.lost += self.tally.open();
        self.tally.no_goodbye += self.bare.load(Ordering::Relaxed);
        self.tally
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.round.over.load(Ordering::Relaxed)
    }

    pub(crate) async fn think(&mut self, most: u64) {
        let pause = self.rng.u64(0..=most * 1000);
        if pause > 0 {
            sleep(Duration::from_micros(pause)).await;
        }
    }

    /// Until the signal came and a little longer, but never for long: in a control run it does not come.
    pub(crate) async fn past_the_signal(&mut self, most: u64) {
        let patience = Duration::from_millis(self.rng.u64(0..=700));
        let _came = timeout(patience, self.round.signalled.wait()).await;
        self.think(most).await;
    }

    /// A new connection; none when the client is done, because it was refused.
    pub(crate) async fn open(&mut self) -> Option<Wire> {
        while self.goes_on() {
            let began = Instant::now();
            match Wire::open(&self.door()).await {
                Ok(wire) => {
                    self.connected();
                    return Some(wire);
                }
                Err(NotOpened::Local) => sleep(Duration::from_millis(5)).await,
                Err(NotOpened::Refused) => {
                    self.tally.refused += 1;
                    return None;
                }
                Err(NotOpened::Reset) => {
                    self.tally.reset_at_rest += 1;
                    self.say("a connect was reset");
                    return None;
                }
                Err(NotOpened::Hung) => {
                    self.tally.sent += 1;
                    self.tally.lost += 1;
                    self.say("a connect was neither accepted nor refused");
                    return None;
                }
                Err(NotOpened::AtRest) => self.tally.at_rest += 1,
                // Asked for with the ClientHello, like a request with its head.
                Err(NotOpened::Handshake(answer, since)) => {
                    self.tally.sent += 1;
                    let outcome = self.judge_at(answer, false, began, since);
                    if outcome != Outcome::Answered {
                        let before = began.elapsed().saturating_sub(since);
                        self.say(&format!("that was a handshake, begun {before:?} after its connect"));
                    }
                }
            }
        }
        None
    }

    /// Known once to those who wait for all.
    pub(crate) fn connected(&mut self) {
        if !std::mem::replace(&mut self.has_opened, true) {
            self.round.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn door(&self) -> Door<'_> {
        let (address, tls) = match &self.round.tls {
            Some((address, h1, h2)) if self.tls => (*address, Some(if self.h2 { h2 } else { h1 })),
            _ => (self.round.address, None),
        };
        Door { address, tls, looks: self.looks, is_narrow: self.is_narrow, bare: &self.bare }
    }

    /// One request with its answer.
    pub(crate) async fn ask(&mut self, wire: &mut Wire, request: &[u8], expected: &[u8]) -> Next {
        if self.send(wire, request, 1).await == Next::Gone {
            return Next::Gone;
        }
        let response = wire.response().await;
        self.settle(wire, response, expected).await
    }

    /// Looks, where this client does, and writes `count` requests. When it is `Gone`, all is counted.
    pub(crate) async fn send(&mut self, wire: &mut Wire, requests: &[u8], count: u64) -> Next {
        if self.looks && !self.still_open(wire.look()) {
            return Next::Gone;
        }
        self.tally.sent += count;
        match wire.send(requests).await {
            Ok(()) => Next::Again,
            Err(end) => {
                for _ in 0..count {
                    self.judge(Answer::None(end), false, wire);
                }
                Next::Gone
            }
        }
    }

    /// What it found when it looked, before it had sent anything.
    pub(crate) fn still_open(&mut self, look: Look) -> bool {
        match look {
            Look::Quiet => return true,
            Look::Fin | Look::Bytes => self.tally.at_rest += 1,
            Look::Reset => {
                self.tally.reset_at_rest += 1;
                self.say("a connection at rest was reset");
            }
        }
        false
    }

    /// The one answer that this connection waits for.
    pub(crate) async fn settle(&mut self, wire: &mut Wire, got: Result<Response, Answer>, expected: &[u8]) -> Next {
        let close = matches!(&got, Ok(response) if response.close);
        let answer = Self::answer_of(&got, expected);
        self.judge(answer, false, wire);
        match answer {
            Answer::Whole if close => self.farewell(wire).await,
            Answer::Whole => return Next::Again,
            Answer::None(_) | Answer::Part(_) | Answer::Wrong => {}
        }
        Next::Gone
    }

    pub(crate) fn answer_of(got: &Result<Response, Answer>, expected: &[u8]) -> Answer {
        match got {
            Ok(response) if response.status == 200 && response.body == expected => Answer::Whole,
            Ok(_) => Answer::Wrong,
            Err(answer) => *answer,
        }
    }

    pub(crate) fn judge(&mut self, answer: Answer, told: bool, wire: &Wire) -> Outcome {
        self.judge_at(answer, told, wire.sent_at(), wire.since_sent())
    }

    pub(crate) fn judge_at(&mut self, answer: Answer, told: bool, sent_at: Instant, since_sent: Duration) -> Outcome {
        let outcome = judge(&Seen { answer, told, looked: self.looks, since_sent });
        self.tally.count(outcome);
        if !matches!(outcome, Outcome::Answered | Outcome::Untaken) {
            let sent = self.at(sent_at);
            self.say(&format!("{outcome:?}: sent {sent}, {answer:?} {since_sent:?} later"));
        }
        outcome
    }

    /// The server said that it closes. It must do so with FIN.
    pub(crate) async fn farewell(&mut self, wire: &mut Wire) {
        self.tally.told_close += 1;
        if let Ok(End::Reset) = timeout(FAREWELL, wire.end()).await {
            self.tally.reset_at_rest += 1;
            self.say("reset after an announced close");
        }
    }

    pub(crate) fn say(&mut self, what: &str) {
        let (round, now) = (self.round.number, self.at(Instant::now()));
        self.tally.note(|| format!("end {round}, {now}: {what}"));
    }

    fn at(&self, time: Instant) -> String {
        match self.round.signalled.get() {
            Some(signal) if time >= *signal => format!("{:?} after the signal", time - *signal),
            Some(signal) => format!("{:?} before the signal", *signal - time),
            None => "without a signal".to_owned(),
        }
    }
}
