//! What the kernel knows of one socket on this machine, asked by sock_diag(7): whether the server has accepted a
//! connection, and whether it has read what was sent. Where the kernel does not say, the answer is none.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

const LISTENING: u8 = 10;

/// The parts of `struct inet_diag_msg` that are of use here.
struct Known {
    state: u8,
    unread: u32,
    /// Zero while it waits in the accept queue: no descriptor is its yet.
    inode: u32,
}

pub(crate) fn is_listening(address: SocketAddr) -> Option<bool> {
    let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into();
    let known = look_up(address, nobody)?;
    Some(known.is_some_and(|socket| socket.state == LISTENING))
}

/// Whether the server has taken this client's connection from its queue.
pub(crate) fn is_accepted(client: &TcpStream) -> Option<bool> {
    Some(server_side(client)?.is_some_and(|socket| socket.inode != 0))
}

/// Whether the server has read all that came on this client's connection.
pub(crate) fn is_read(client: &TcpStream) -> Option<bool> {
    Some(server_side(client)?.is_some_and(|socket| socket.inode != 0 && socket.unread == 0))
}

/// A server behind another network namespace is not seen: the outer none.
fn server_side(client: &TcpStream) -> Option<Option<Known>> {
    let known = look_up(client.peer_addr().ok()?, client.local_addr().ok()?)?;
    Some(known.filter(|socket| socket.state != LISTENING))
}

fn look_up(local: SocketAddr, peer: SocketAddr) -> Option<Option<Known>> {
    let protocol = Some(netlink::SOCK_DIAG);
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).ok()?;
    let mut kernel = File::from(kernel);
    kernel.write_all(&question(local, peer)?).ok()?;
    let mut answer = [0; 1024];
    let length = kernel.read(&mut answer).ok()?;
    Some(read(&answer[..length]))
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn question(local: SocketAddr, peer: SocketAddr) -> Option<Vec<u8>> {
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
        let SocketAddr::V4(address) = address else { return None };
        bytes.extend(address.ip().octets());
        bytes.extend([0; 12]);
    }
    bytes.extend([0; 4]);
    bytes.extend(ANY_COOKIE);
    Some(bytes)
}

/// `struct nlmsghdr`, then `struct inet_diag_msg`; an error, which means no such socket, has another type.
fn read(answer: &[u8]) -> Option<Known> {
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let is_socket = answer.get(4..6)? == 20_u16.to_ne_bytes();
    is_socket.then_some(Known { state: *answer.get(17)?, unread: number(72)?, inode: number(84)? })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_tells_of_a_connections_other_side() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        if is_listening(address).is_none() {
            return;
        }
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(b"hello").expect("it is connected");
        assert_eq!((is_accepted(&client), is_read(&client)), (Some(false), Some(false)));
        let (mut accepted, _) = listener.accept().expect("one waits");
        assert_eq!((is_accepted(&client), is_read(&client)), (Some(true), Some(false)));
        accepted.read_exact(&mut [0; 5]).expect("five bytes came");
        assert_eq!(is_read(&client), Some(true));
        assert_eq!(is_listening(address), Some(true));
        drop(listener);
        assert_eq!(is_listening(address), Some(false));
    }
}
