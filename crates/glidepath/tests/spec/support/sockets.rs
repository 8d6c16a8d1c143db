//! What the kernel knows of one socket on this machine, asked by sock_diag(7). It lets a check see that the server has
//! accepted a connection or has read a request, where it would otherwise have to sleep and hope.
//!
//! `/proc/net/tcp` says the same, but of every socket at once, those in TIME_WAIT too: after a storm that is slow.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, netlink, socket_with};

use super::wait_until;

const LISTENING: u8 = 10;

/// The parts of `struct inet_diag_msg` that are of use here.
struct Socket {
    state: u8,
    unread: u32,
    /// Zero while it waits in the accept queue: no descriptor is its yet.
    inode: u32,
}

pub(crate) fn is_listening(address: SocketAddr) -> bool {
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into();
    look_up(address, nobody).is_some_and(|socket| socket.state == LISTENING)
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
    look_up(client.peer_addr().ok()?, client.local_addr().ok()?)
}

fn look_up(local: SocketAddr, peer: SocketAddr) -> Option<Socket> {
    let (family, protocol) = (AddressFamily::NETLINK, netlink::SOCK_DIAG);
    let kernel = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .expect("the kernel tells of its sockets");
    let mut kernel = File::from(kernel);
    kernel.write_all(&question(local, peer)).expect("the kernel takes a question");
    let mut answer = [0; 1024];
    let length = kernel.read(&mut answer).expect("the kernel answers");
    read(&answer[..length])
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const AF_INET: u8 = 2;
    const IPPROTO_TCP: u8 = 6;
    const ANY_COOKIE: [u8; 8] = [0xff; 8];

    let mut bytes = LENGTH.to_ne_bytes().to_vec();
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
        bytes.extend(address.ip().octets());
        bytes.extend([0; 12]);
    }
    bytes.extend([0; 4]);
    bytes.extend(ANY_COOKIE);
    bytes
}

/// `struct nlmsghdr`, then `struct inet_diag_msg`; an error, which means no such socket, has another type.
fn read(answer: &[u8]) -> Option<Socket> {
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let is_socket = answer.get(4..6)? == 20_u16.to_ne_bytes();
    is_socket.then_some(Socket { state: *answer.get(17)?, unread: number(72)?, inode: number(84)? })
}

/// An address that nobody else is given as long as this process runs, and that one server may listen on: a socket of ours
/// keeps it, which had it alone and lets go only of those who set `SO_REUSEADDR`.
pub(crate) fn free_address() -> SocketAddr {
    let keeps = stream_socket();
    bind(&keeps, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    set_socket_reuseaddr(&keeps, true).expect("a socket can share its address");
    let address = getsockname(&keeps).expect("it is bound");
    std::mem::forget(keeps);
    address.try_into().expect("an address of IPv4")
}

/// Not for the processes that tests start.
fn stream_socket() -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket")
}

#[test]
fn the_kernel_tells_of_a_connections_other_side() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"hello").expect("it is connected");
    let waits = server_side(&client).expect("it is in the accept queue");
    assert_eq!((waits.inode, waits.unread), (0, 5));

    let (mut accepted, _) = listener.accept().expect("one waits");
    let accepted_side = server_side(&client).expect("it is accepted");
    assert_ne!(accepted_side.inode, 0);
    assert_eq!(accepted_side.unread, 5);
    accepted.read_exact(&mut [0; 5]).expect("five bytes came");
    assert_eq!(server_side(&client).expect("it is open").unread, 0);

    assert!(is_listening(address));
    drop(listener);
    assert!(!is_listening(address));
    assert!(server_side(&client).is_some(), "the connection outlives the listener");
}

/// Tests run beside each other, in one process and in several.
#[test]
fn a_free_address_is_given_once_and_one_server_may_listen_there() {
    let address = free_address();
    assert_ne!(address, free_address());
    let other = stream_socket();
    assert!(bind(&other, &address).is_err(), "another that wants it alone");
    for _ in 0..2 {
        let server = TcpListener::bind(address).expect("a server may, and the next one");
        assert!(TcpListener::bind(address).is_err(), "but not two of them");
        TcpStream::connect(address).expect("it listens");
        drop(server);
        assert!(!is_listening(address));
    }
}
