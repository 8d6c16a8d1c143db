//! What a case is: a sentence, what its clients are to see with the signal and without it, and a script.

use std::collections::BTreeMap;

use crate::model::{Level, Outcome};
use crate::settings::Variable;
use crate::stage::{Script, Stage};

/// Something that a case needs the server to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Need {
    Slow,
    /// A slow path that can be told how long to take.
    AnySlow,
    Stream,
    AnyStream,
    Big,
    Sse,
    Upload,
    Ws,
    Task,
    Block,
    Panic,
    Http2,
    /// HTTP/2 chosen by ALPN.
    TlsHttp2,
    Tls,
    Unix,
    Admin,
    LameDuck,
    Restart,
    /// A grace period that is known.
    Grace,
    /// A grace period that a case may choose.
    AnyGrace,
}

impl Need {
    pub(crate) const ALL: [(Need, &'static str); 20] = [
        (Need::Slow, "slow"),
        (Need::AnySlow, "slow, as long as asked"),
        (Need::Stream, "stream"),
        (Need::AnyStream, "stream, as long as asked"),
        (Need::Big, "big"),
        (Need::Sse, "sse"),
        (Need::Upload, "upload"),
        (Need::Ws, "ws"),
        (Need::Task, "task"),
        (Need::Block, "block"),
        (Need::Panic, "panic"),
        (Need::Http2, "http2"),
        (Need::TlsHttp2, "http2 over TLS"),
        (Need::Tls, "tls"),
        (Need::Unix, "unix"),
        (Need::Admin, "admin"),
        (Need::LameDuck, "lame duck"),
        (Need::Restart, "restart"),
        (Need::Grace, "grace"),
        (Need::AnyGrace, "grace, as long as asked"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(need, _)| *need == self).map_or("", |(_, name)| name)
    }
}

/// A part of the specification.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) cases: &'static [Case],
}

pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) promise: &'static str,
    pub(crate) level: Level,
    pub(crate) title: &'static str,
    pub(crate) quote: &'static str,
    pub(crate) why: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) wants: &'static [Outcome],
    pub(crate) control: &'static [Outcome],
    /// The share of outcomes that must be among those wanted.
    pub(crate) bound: f64,
    pub(crate) repeat: u32,
    /// Where milliseconds count, nothing runs beside it.
    pub(crate) alone: bool,
    pub(crate) grace: Option<f64>,
    pub(crate) lame_duck: Option<f64>,
    pub(crate) wrapper: &'static [&'static str],
    pub(crate) unread: bool,
    /// The script begins as soon as the process was started.
    pub(crate) unawaited: bool,
    pub(crate) script: fn(&mut Stage<'_>) -> Script,
}

/// What a control may give where the case is about what must not happen with the signal, and says nothing of without.
pub(crate) const ANYTHING: &[Outcome] = &[
    Outcome::Answered,
    Outcome::ToldClose,
    Outcome::Refused,
    Outcome::EndedAtRest,
    Outcome::Lost,
    Outcome::Reset,
    Outcome::Truncated,
    Outcome::Hung,
    Outcome::Late,
    Outcome::Wrong,
    Outcome::Open,
    Outcome::Running,
];

impl Case {
    /// `says` is a part of the promise, word for word.
    pub(crate) const fn must(id: &'static str, promise: &'static str, says: &'static str) -> Self {
        Self::at(Level::Must, id, promise, says)
    }

    pub(crate) const fn should(id: &'static str, promise: &'static str, says: &'static str) -> Self {
        Self::at(Level::Should, id, promise, says)
    }

    const fn at(level: Level, id: &'static str, promise: &'static str, says: &'static str) -> Self {
        Case {
            id,
            promise,
            level,
            title: "",
            quote: says,
            why: "",
            needs: &[],
            wants: &[],
            control: &[],
            bound: 1.0,
            repeat: 1,
            alone: false,
            grace: None,
            lame_duck: None,
            wrapper: &[],
            unread: false,
            unawaited: false,
            script: |_| Ok(()),
        }
    }

    /// What is expected, in words.
    pub(crate) const fn expects(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }

    /// Why it matters to those who use the server.
    pub(crate) const fn since(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    pub(crate) const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// What all are to see, with the signal.
    pub(crate) const fn wants(mut self, outcomes: &'static [Outcome]) -> Self {
        self.wants = outcomes;
        self
    }

    /// What all are to see when the signal is left out.
    pub(crate) const fn control(mut self, outcomes: &'static [Outcome]) -> Self {
        self.control = outcomes;
        self
    }

    /// A race: so often, each time with a new server, and such a share has to be as wanted.
    pub(crate) const fn repeats(mut self, times: u32, share: f64) -> Self {
        self.repeat = times;
        self.bound = share;
        self
    }

    pub(crate) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// With a grace period of so many seconds, where it can be chosen.
    pub(crate) const fn grace(mut self, seconds: f64) -> Self {
        self.grace = Some(seconds);
        self
    }

    pub(crate) const fn lame_duck(mut self, seconds: f64) -> Self {
        self.lame_duck = Some(seconds);
        self
    }

    /// Started through another command, which is given the server's as its last words.
    pub(crate) const fn through(mut self, wrapper: &'static [&'static str]) -> Self {
        self.wrapper = wrapper;
        self
    }

    pub(crate) const fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    pub(crate) const fn unawaited(mut self) -> Self {
        self.unawaited = true;
        self
    }

    pub(crate) const fn script(mut self, script: fn(&mut Stage<'_>) -> Script) -> Self {
        self.script = script;
        self
    }

    /// The variables that it sets, besides those that switch on what it needs.
    pub(crate) fn variables(&self) -> BTreeMap<Variable, String> {
        let mut variables = BTreeMap::new();
        if let Some(lame_duck) = self.lame_duck {
            variables.insert(Variable::LameDuck, lame_duck.to_string());
        }
        if self.needs.contains(&Need::Restart) {
            variables.insert(Variable::Restart, "1".to_owned());
        }
        variables
    }
}
