//! Puts any HTTP server through its end, and says what became of its clients.
//!
//! The program is `glidepath-check`; this library is what it is made of, so that tests and the pages that show
//! a run can use the same data.

pub mod account;
mod case;
mod cases;
mod clock;
pub mod compare;
pub mod exit_code;
pub mod explain;
mod found;
mod judge;
pub mod model;
pub mod page;
mod ports;
mod promises;
mod record;
mod seen;
mod server;
pub mod settings;
pub mod show;
mod stage;
pub mod suite;
mod wire;

pub use found::Unfit;
pub use server::{StartError, adopt_orphans, interrupt, is_interrupted};
