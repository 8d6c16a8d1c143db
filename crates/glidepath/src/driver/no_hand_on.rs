//! Where a process can't hand its listeners on: a restart in place is refused, and everything else is as if there were none.

use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use crate::admin::Admin;
use crate::error::{Error, Result};
use crate::listener::Acceptor;
use crate::report::Report;
use crate::signal::Heard;

pub(crate) struct Restart;

#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) refused: u64,
}

impl Restart {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn has_predecessor(&self) -> bool {
        false
    }

    pub(crate) fn turn_on(&self) {
        tracing::warn!("no restart in place on this platform");
    }

    pub(crate) fn set_args(&self, _args: Vec<std::ffi::OsString>) {}

    pub(crate) fn keep_listeners(&self) {}

    pub(crate) fn is_on(&self) -> bool {
        false
    }

    #[cfg(feature = "admin")]
    pub(crate) fn predecessor(&self) -> Option<u32> {
        None
    }

    pub(crate) fn successor(&self) -> Option<u32> {
        None
    }

    #[cfg(feature = "metrics")]
    pub(super) fn counts(&self) -> Counts {
        Counts::default()
    }

    pub(super) fn end_successor(&self) {}

    pub(super) fn guards(&self) -> bool {
        false
    }

    pub(super) fn only_guards(&self) -> bool {
        false
    }

    pub(super) fn exit_code(&self, own: u8) -> u8 {
        own
    }

    pub(super) fn pass_on(&self, _heard: Heard) {}

    pub(super) fn told(&self) {}
}

impl Shared {
    pub(super) fn ask_for_restart(&self) -> Result<u32> {
        Err(Error::restart("a process can't be replaced in place on this platform"))
    }

    pub(crate) async fn restart(&self) -> Result<u32> {
        self.ask_for_restart()
    }

    pub(super) fn process_ends_at(&self) -> Option<Instant> {
        self.own_part_ends_at()
    }

    pub(super) async fn stay(&self, _report: &mut Report) -> bool {
        false
    }
}

pub(super) struct HandOn;

impl HandOn {
    pub(super) fn new(_shared: &Arc<Shared>) -> Self {
        Self
    }

    pub(super) fn accepts(&self) -> bool {
        true
    }

    pub(super) fn perform(&mut self, _shared: &Arc<Shared>, _acceptors: &mut [Acceptor], _admin: &mut Admin) {}

    pub(super) fn let_go(&mut self, _shared: &Arc<Shared>, _acceptors: &mut [Acceptor], _admin: &mut Admin) {}

    pub(super) fn tell_of_the_end(&mut self, _shared: &Shared) {}

    pub(super) async fn event(&mut self, _shared: &Shared) {
        std::future::pending().await
    }

    pub(super) fn finish(&mut self, _shared: &Shared) {}
}
