//! What the kernel knows of the sockets on this machine: `/proc/net/tcp`. It lets a check see that the server has
//! accepted a connection or has read a request, where it would otherwise have to sleep and hope.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use super::wait_until;

const LISTENING: &str = "0A";

struct Socket {
    local: SocketAddr,
    peer: SocketAddr,
    state: String,
    unread: u64,
    /// Zero while it waits in the accept queue: no descriptor is its yet.
    inode: u64,
}

pub(crate) fn is_listening(address: SocketAddr) -> bool {
    all().iter().any(|socket| socket.local == address && socket.state == LISTENING)
}

/// Returns once the server has accepted this client's connection.
#[track_caller]
pub(crate) fn wait_for_accept(client: &TcpStream) {
    wait_until("the connection is accepted", || server_side(client).is_some_and(|socket| socket.inode != 0));
}

/// Returns once the server has accepted this client's connection and has read all that came on it.
#[track_caller]
pub(crate) fn wait_for_read(client: &TcpStream) {
    let is_read = |socket: Socket| socket.inode != 0 && socket.unread == 0;
    wait_until("the request is read", || server_side(client).is_some_and(is_read));
}

fn server_side(client: &TcpStream) -> Option<Socket> {
    let (local, peer) = (client.peer_addr().ok()?, client.local_addr().ok()?);
    all().into_iter().find(|socket| socket.local == local && socket.peer == peer)
}

impl Socket {
    /// One line: number, local, peer, state, unsent:unread, timer, retransmits, owner, timeout, inode, …
    fn read(line: &str) -> Option<Socket> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_unsent, unread) = words.get(4)?.split_once(':')?;
        Some(Socket {
            local: address(words.get(1)?)?,
            peer: address(words.get(2)?)?,
            state: (*words.get(3)?).to_owned(),
            unread: u64::from_str_radix(unread, 16).ok()?,
            inode: words.get(9)?.parse().ok()?,
        })
    }
}

fn all() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has /proc/net/tcp");
    table.lines().skip(1).filter_map(Socket::read).collect()
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address as the machine keeps it in memory, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some(SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?).into())
}

/// An address that nobody listens on. Below the range that the kernel gives to clients, so that none takes it meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("a small number");
    let free = (first..32_000).find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    free.and_then(|listener| listener.local_addr().ok()).expect("a free port below 32000")
}
