//! TLS as a client speaks it over a blocking socket, record by record, so that a close_notify and a bare FIN can be told apart.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::Socket;

pub(crate) struct Tls {
    connection: ClientConnection,
    socket: Socket,
    notified: bool,
}

impl Tls {
    /// Nothing is sent yet.
    pub(super) fn over(socket: Socket, alpn: &[&str]) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(config(alpn)?, name).map_err(io::Error::other)?;
        Ok(Self { connection, socket, notified: false })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Completes the handshake.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// The records that go out next, not sent: the ClientHello at first.
    pub(crate) fn records(&mut self) -> io::Result<Vec<u8>> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records)?;
        }
        Ok(records)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Whether the server has sent a close_notify.
    pub(crate) fn notified(&self) -> bool {
        self.notified
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.notified {
            // FIN comes after it, and nothing else may.
            return match self.socket.read(&mut [0; 1])? {
                0 => Ok(0),
                _ => Err(io::Error::new(ErrorKind::InvalidData, "something behind the close_notify")),
            };
        }
        match rustls::Stream::new(&mut self.connection, &mut self.socket).read(buffer) {
            Ok(0) if !buffer.is_empty() => {
                self.notified = true;
                self.read(buffer)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).write(bytes)
    }
}

fn config(alpn: &[&str]) -> io::Result<Arc<ClientConfig>> {
    static PLAIN: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let (true, Some(config)) = (alpn.is_empty(), PLAIN.get()) {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(ring::default_provider());
    let trust = Arc::new(Anyone(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(trust);
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    if alpn.is_empty() {
        return Ok(Arc::clone(PLAIN.get_or_init(|| config)));
    }
    Ok(config)
}

/// Trusts whoever holds the key of the certificate that it shows: it is the end that is checked here, and not identity.
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
