//! Brings an HTTP service down gently: nothing is lost, it ends on time, and it says what happened.
//!
//! - [`serve`] serves a tower service (an axum `Router` is one) until SIGTERM or Ctrl-C, and brings it down.
//! - [`Lifecycle`] is made first where handlers need it: tracked [`Tasks`], closing hooks, a [`Drain`] that tells of the
//!   end, and a [`Handle`] that asks for it.
//! - [`Server`] has the settings, each with its default.
//! - [`Report`] is what awaiting the server gives: an account of all connections, requests, tasks and hooks, and the
//!   exit code of `main`.
//!
//! The order of an end: lame duck, listeners sealed, requests and connections, tasks, hooks, report. One grace period
//! bounds it. [`guide`] answers what people ask; `testing` ends a service inside a test. What is promised, each with the tests that hold it, is in the repository's `SPEC.md`.
//!
//! Linux is first. On other platforms a listener is closed without the filter that holds new connections off, and what
//! the kernel does not tell (round-trip times, acknowledged FINs) is replaced by bounds.

mod admin;
mod connection;
mod display;
mod drain;
mod driver;
mod error;
mod extension;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(unix)]
mod guard;
pub mod guide;
mod handover;
mod hooks;
#[cfg(unix)]
mod inherited;
#[cfg(any(test, inside))]
#[doc(hidden)]
pub mod inside;
mod last_resort;
mod lifecycle;
mod listener;
mod os;
mod phase;
mod plan;
mod readiness;
mod report;
#[cfg(unix)]
mod restart;
mod server;
mod signal;
mod socket;
mod stream;
mod sync;
#[cfg(unix)]
mod systemd;
mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;

pub use connection::{App, Body, PeerAddr};
pub use display::{Stderr, stderr};
pub use drain::{Drain, Until, UntilDraining};
pub use error::{Error, Result};
#[cfg(feature = "axum")]
pub use extension::MissingExtension;
pub use extension::{DrainLayer, WithDrain};
pub use lifecycle::{Handle, Lifecycle};
pub use listener::Listener;
pub use phase::Phase;
pub use readiness::{Latch, Readiness};
pub use report::{
    Connections, EXIT_CLEAN, EXIT_CUT, EXIT_FAILED, EXIT_SIGNAL_BASE, Hooks, Kind, Outcome, Report, Requests, Running,
    Snapshot, Tasks as TaskCounts,
};
pub use server::{Server, serve};
pub use signal::DumpSignal;
pub use tasks::{Task, Tasks};
