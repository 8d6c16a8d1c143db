//! What can go wrong before or while serving.

use std::{fmt, io};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Serving failed.
///
/// Opaque; ask it with the `is_…` methods. Its `Debug` is its message, so that a `main` that returns it prints a sentence.
#[derive(thiserror::Error)]
#[error("{kind}: {source}")]
pub struct Error {
    kind: Kind,
    source: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Signals,
    Listener,
    Reused,
    Restart,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "cannot start",
            Self::Signals => "cannot install the signal handlers",
            Self::Listener => "cannot accept connections",
            Self::Reused => "cannot serve",
            Self::Restart => "cannot restart",
        })
    }
}

impl Error {
    pub(crate) fn signals(source: io::Error) -> Self {
        Self { kind: Kind::Signals, source }
    }

    pub(crate) fn listener(source: io::Error) -> Self {
        Self { kind: Kind::Listener, source }
    }

    pub(crate) fn reused() -> Self {
        let source = io::Error::other("this lifecycle has served already; one lifecycle is one service's life");
        Self { kind: Kind::Reused, source }
    }

    pub(crate) fn restart(why: impl Into<String>) -> Self {
        Self { kind: Kind::Restart, source: io::Error::other(why.into()) }
    }

    /// What `main` did before serving failed with an I/O error, such as binding a port.
    pub fn is_start(&self) -> bool {
        self.kind == Kind::Start
    }

    /// The signal handlers could not be installed.
    pub fn is_signals(&self) -> bool {
        self.kind == Kind::Signals
    }

    /// A listener failed in a way that waiting does not cure.
    pub fn is_listener(&self) -> bool {
        self.kind == Kind::Listener
    }

    /// A restart came to nothing, or could not be begun. The process that was to be replaced goes on.
    pub fn is_restart(&self) -> bool {
        self.kind == Kind::Restart
    }

    /// The lifecycle was used for a second server.
    pub fn is_reused(&self) -> bool {
        self.kind == Kind::Reused
    }
}

/// So that `?` works on `bind` in a `main` that returns this crate's [`Result`].
impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self { kind: Kind::Start, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
