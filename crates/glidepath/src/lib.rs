//! Brings an HTTP service down gently: nothing is lost, it ends on time, and it says what happened.

mod admin;
mod connection;
mod display;
mod drain;
mod driver;
mod error;
mod extension;
mod hooks;
mod last_resort;
mod lifecycle;
mod listener;
mod os;
mod phase;
mod plan;
mod readiness;
mod report;
mod server;
mod signal;
mod stream;
mod tasks;

pub use connection::{App, Body, PeerAddr};
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
pub use tasks::{Task, Tasks};
