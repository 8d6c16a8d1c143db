//! Ports for the servers under check. Several checks may run on one machine, and none may meet a server of another's.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// One that nobody listens on.
///
/// # Panics
///
/// Where all are taken, by somebody else.
pub(crate) fn free_port() -> u16 {
    Ports::of_this_process().free().expect("not every port of a whole block is taken")
}

/// Ports of one check, which no other check on this machine is given.
struct Ports {
    first: u16,
    next: AtomicU32,
    /// A name in the kernel that goes with the process, and that each network namespace has once (unix(7), "Abstract").
    _lock: Option<UnixListener>,
}

impl Ports {
    /// Below the ports that the kernel gives to clients: one of ours that connects to a closed port there could meet itself.
    const FIRST: u16 = 12_000;
    /// As many as are used in longer than a closed connection keeps its port (TIME-WAIT, a minute).
    const COUNT: u16 = 500;
    const BLOCKS: u16 = 40;

    fn of_this_process() -> &'static Self {
        static PORTS: OnceLock<Ports> = OnceLock::new();
        PORTS.get_or_init(Self::reserve)
    }

    fn reserve() -> Self {
        let start = std::process::id() as u16 % Self::BLOCKS;
        let free = (0..Self::BLOCKS).find_map(|offset| {
            let block = (start + offset) % Self::BLOCKS;
            let name = SocketAddr::from_abstract_name(format!("glidepath-check/ports/{block}")).ok()?;
            Some((block, UnixListener::bind_addr(&name).ok()?))
        });
        // More checks at once than there are blocks: as good as it can be had.
        let (block, lock) = free.map_or((start, None), |(block, lock)| (block, Some(lock)));
        Ports { first: Self::FIRST + block * Self::COUNT, next: AtomicU32::new(0), _lock: lock }
    }

    fn free(&self) -> Option<u16> {
        (0..Self::COUNT).find_map(|_| {
            let offset = self.next.fetch_add(1, Ordering::Relaxed) % u32::from(Self::COUNT);
            let port = self.first + offset as u16;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_checks_share_no_port() {
        let (one, other) = (Ports::reserve(), Ports::reserve());
        let range = |ports: &Ports| ports.first..ports.first + Ports::COUNT;
        for _ in 0..2 * Ports::COUNT {
            let port = one.free().expect("one is free");
            assert!(range(&one).contains(&port) && !range(&other).contains(&port), "{port}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let ports = Ports::reserve();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.free().expect("one is free"))).expect("it is free");
        let taken = taken.local_addr().expect("it is bound").port();
        assert!((0..2 * Ports::COUNT).all(|_| ports.free() != Some(taken)));
    }
}
