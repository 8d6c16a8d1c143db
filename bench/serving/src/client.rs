//! The load of ours: connections that are opened, asked once, and kept or closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use socket2::{Domain, Socket, Type};

use crate::clock::now;

const PATIENCE: Duration = Duration::from_secs(10);
/// So many open and close connections at a time.
const AT_A_TIME: usize = 16;

/// The addresses and ports that clients have, one after the other: five million before one comes again. Asked for a port, the
/// kernel looks through all that are still waiting after their close, and takes its time while the server wants the processor.
const HOSTS: std::ops::Range<u32> = 2..252;
const PORTS: std::ops::Range<u32> = 33_000..53_000;

pub(crate) fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    let from = bind(&socket)?;
    socket.connect_timeout(&to.into(), PATIENCE).with_context(|| format!("connecting from {from}"))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Gives it the next address that nobody else has: another program on this machine may use some.
fn bind(socket: &Socket) -> anyhow::Result<SocketAddr> {
    const TRIES: u32 = 1000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..TRIES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = HOSTS.start + number / PORTS.len() as u32 % HOSTS.len() as u32;
        let port = PORTS.start + number % PORTS.len() as u32;
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host.try_into()?), port.try_into()?));
        match socket.bind(&from.into()) {
            Ok(()) => return Ok(from),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("the client's address {from}")),
        }
    }
    bail!("{TRIES} addresses for clients are taken, one after the other")
}

/// What the answer said of its connection.
#[derive(Debug, PartialEq)]
pub(crate) enum After {
    Stays,
    Closes,
}

/// Sends a request, and reads the whole answer.
pub(crate) fn ask(stream: &mut (impl Read + Write), path: &str) -> anyhow::Result<After> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: serving\r\naccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).context("no answer")?;
        ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
        if let Some(after) = whole(&answer)? {
            return Ok(after);
        }
    }
}

/// None when more must come.
fn whole(answer: &[u8]) -> anyhow::Result<Option<After>> {
    let text = std::str::from_utf8(answer)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    ensure!(head.split(' ').nth(1) == Some("200"), "{}", head.lines().next().unwrap_or_default());
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let complete = match (field("content-length"), field("transfer-encoding")) {
        (Some(length), None) => body.len() == length.parse::<usize>()?,
        (None, Some("chunked")) => body.ends_with("0\r\n\r\n"),
        _ => bail!("an answer without a length"),
    };
    let after = if field("connection") == Some("close") { After::Closes } else { After::Stays };
    Ok(complete.then_some(after))
}

/// Opens so many, and asks each once: one after the other, and over TLS some at a time, since there are servers that let a
/// client wait 40 ms in each handshake (Nagle's algorithm).
pub(crate) fn open(to: SocketAddr, count: usize, tls: bool) -> anyhow::Result<Vec<TcpStream>> {
    let config = Arc::new(tls_config()?);
    let one = |place: usize| {
        let mut stream = connect(to)?;
        let after = if tls { ask_by_tls(&mut stream, &config) } else { ask(&mut stream, "/") };
        ensure!(after.with_context(|| format!("connection {place}"))? == After::Stays, "it keeps no connection");
        Ok(stream)
    };
    each(count, if tls { AT_A_TIME } else { 1 }, one)
}

/// Those that the server has not closed.
pub(crate) fn still_open(connections: &[TcpStream]) -> anyhow::Result<usize> {
    let mut open = 0;
    for connection in connections {
        connection.set_nonblocking(true)?;
        let peeked = connection.peek(&mut [0]);
        open += usize::from(peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    Ok(open)
}

/// Closed so that no port stays taken.
pub(crate) fn drop_all(connections: Vec<TcpStream>) {
    for connection in connections {
        let _or_it_takes_a_minute = Socket::from(connection).set_linger(Some(Duration::ZERO));
    }
}

/// Opens so many, some at a time, asks each once, and closes it.
pub(crate) fn churn(to: SocketAddr, count: usize) -> anyhow::Result<()> {
    let one = |place| ask(&mut connect(to)?, "/").map(drop).with_context(|| format!("connection {place}"));
    each(count, AT_A_TIME, one).map(drop)
}

/// Does it so many times, with so many threads.
fn each<T: Send>(
    count: usize,
    threads: usize,
    one: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let one = &one;
    let all_of = |first: usize| move || (first..count).step_by(threads).map(one).collect::<anyhow::Result<Vec<_>>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(all_of(first))).collect();
        let mut done = Vec::with_capacity(count);
        for thread in threads {
            done.extend(thread.join().expect("it does not panic")?);
        }
        Ok(done)
    })
}

/// Asks for that path, says when the answer was there, and leaves as a client does: at once when it was told to, and else
/// when the server closes.
pub(crate) fn ask_and_leave(mut stream: TcpStream, path: &str) -> anyhow::Result<Instant> {
    let after = ask(&mut stream, path)?;
    let answered = now();
    if after == After::Stays {
        let _closed = stream.read(&mut [0]);
    }
    Ok(answered)
}

// --- TLS ----------------------------------------------------------------------------------------

/// The session is dropped, and the socket stays: what the client keeps is not what is measured.
fn ask_by_tls(stream: &mut TcpStream, config: &Arc<ClientConfig>) -> anyhow::Result<After> {
    let mut session = ClientConnection::new(config.clone(), ServerName::try_from("localhost")?)?;
    ask(&mut rustls::Stream::new(&mut session, stream), "/")
}

/// Every handshake is a full one.
fn tls_config() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The servers sign their own.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let after = |text: &str| whole(text.as_bytes()).expect("it can be read");
        assert_eq!(after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), None);
        assert_eq!(after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), None);
        assert_eq!(after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Some(After::Stays));
        let closes = "HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(after(closes), Some(After::Closes));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(after(chunked), None);
        assert_eq!(after(&format!("{chunked}0\r\n\r\n")), Some(After::Stays));
        assert!(whole(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
