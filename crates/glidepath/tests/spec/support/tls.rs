//! TLS as a client speaks it over a blocking socket, so that a close_notify and a bare FIN can be told apart.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme, SupportedProtocolVersion,
};

/// Where servers speak TLS, in which network: whoever connects there does so, too.
static ADDRESSES: Mutex<Vec<(u64, SocketAddr)>> = Mutex::new(Vec::new());

thread_local! {
    static ALL: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test whose targets all speak TLS, and whose clients therefore do.
pub(crate) fn over_tls(test: impl FnOnce()) {
    ALL.set(true);
    test();
    ALL.set(false);
}

pub(super) fn is_for_all() -> bool {
    ALL.get()
}

pub(super) fn is_spoken_on(address: SocketAddr, tls: bool) {
    let there = (this_network(), address);
    let mut addresses = ADDRESSES.lock().expect("no test panics here");
    addresses.retain(|known| *known != there);
    addresses.extend(tls.then_some(there));
}

/// The network of this thread: two of them may have the same address.
fn this_network() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |network| network.ino())
}

/// The bytes of one connection to a server.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(crate) struct Tls {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Wire {
    /// TLS where the server speaks it. The handshake is the first thing that is sent; here nothing is.
    pub(super) fn over(socket: TcpStream) -> io::Result<Self> {
        let peer = socket.peer_addr()?;
        let tls = ADDRESSES.lock().expect("no test panics here").contains(&(this_network(), peer));
        Ok(if tls { Self::Tls(Box::new(Tls::over(socket, config()))) } else { Self::Plain(socket) })
    }

    pub(super) fn with(socket: TcpStream, config: Arc<ClientConfig>) -> Self {
        Self::Tls(Box::new(Tls::over(socket, config)))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    #[track_caller]
    pub(crate) fn tls(&mut self) -> &mut Tls {
        match self {
            Self::Plain(_) => panic!("no TLS is spoken here"),
            Self::Tls(tls) => tls,
        }
    }
}

impl Tls {
    fn over(socket: TcpStream, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a host's name");
        let connection = ClientConnection::new(config, name).expect("the configuration is whole");
        Self { connection, socket }
    }

    /// Completes the handshake.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// The records that go out next, not sent: the ClientHello at first, later what `Write` has made of its bytes.
    pub(crate) fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).expect("a vector takes everything");
        }
        records
    }

    /// The record of these bytes, not sent.
    pub(crate) fn record_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.connection.writer().write_all(bytes).expect("room for a short message");
        self.records()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the connection is open");
    }

    /// Asks for new keys: a record that holds no byte of a request (RFC 8446, section 4.6.3).
    #[track_caller]
    pub(crate) fn update_keys(&mut self) {
        self.connection.refresh_traffic_keys().expect("TLS 1.3");
        let records = self.records();
        self.send_raw(&records);
    }

    #[track_caller]
    pub(crate) fn notify_close(&mut self) {
        self.connection.send_close_notify();
        let records = self.records();
        self.send_raw(&records);
    }

    /// What the server has shown of itself.
    #[track_caller]
    pub(crate) fn certificate(&self) -> &[u8] {
        self.connection.peer_certificates().expect("the handshake is over")[0].as_ref()
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = rustls::Stream::new(&mut self.connection, &mut self.socket).read(buf);
        match read {
            Ok(0) if !buf.is_empty() => match self.socket.read(&mut [0; 1])? {
                0 => Ok(0),
                _ => Err(io::Error::new(ErrorKind::InvalidData, "something behind the close_notify")),
            },
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(io::Error::new(ErrorKind::ConnectionAborted, "FIN without a close_notify"))
            }
            read => read,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(tls) => rustls::Stream::new(&mut tls.connection, &mut tls.socket).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => rustls::Stream::new(&mut tls.connection, &mut tls.socket).flush(),
        }
    }
}

/// No protocol is asked for, and any version is spoken.
fn config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| config_of(&[], rustls::ALL_VERSIONS)))
}

pub(crate) fn config_of(alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let trust = Arc::new(Anyone(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.expect("ring speaks them").dangerous().with_custom_certificate_verifier(trust);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Trusts whoever holds the key of the certificate that it shows: targets make their own.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
