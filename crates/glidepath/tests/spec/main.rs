//! The behaviours of SPEC.md against real processes: a file is a section, a test's name begins with the id that it keeps.
//!
//! The clients speak over raw sockets and know nothing of the library. They ask the kernel what the server has
//! accepted and read, where they would otherwise have to sleep and hope: so these checks are for Linux.
#![cfg(target_os = "linux")]

mod at_rest;
mod background;
mod browser;
mod early_answers;
mod ending;
mod http2;
mod in_flight;
mod listener;
mod observing;
mod page;
mod pid_1;
mod readiness;
mod restart;
mod seen;
mod signals;
mod slow_clients;
mod slow_link;
mod support;
mod systemd;
mod terminal;
mod tls;
mod under_load;
mod upgraded;
