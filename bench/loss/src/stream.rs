//! The bytes below HTTP, over TLS or not, and the look for an end that takes no answer and waits for nothing.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::judge::End;

pub(crate) enum Stream {
    Clear(TcpStream),
    Tls(Box<Tls>),
}

pub(crate) struct Tls {
    stream: TlsStream<TcpStream>,
    /// Counts the connections that ended with FIN and without close_notify.
    bare: Arc<AtomicU64>,
    is_counted: bool,
}

/// What is there to be read, without reading it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Quiet,
    Bytes,
    /// FIN, or close_notify.
    Fin,
    Reset,
}

impl Stream {
    /// The handshake on a clear stream.
    pub(crate) async fn with_tls(self, tls: &TlsConnector, bare: &Arc<AtomicU64>) -> io::Result<Self> {
        let Stream::Clear(tcp) = self else { return Err(io::Error::other("TLS within TLS")) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = tls.connect(name, tcp).await?;
        Ok(Stream::Tls(Box::new(Tls { stream, bare: Arc::clone(bare), is_counted: false })))
    }

    /// Asks the kernel: what the runtime knows may be older.
    pub(crate) fn look(&mut self) -> Look {
        match self {
            Stream::Clear(tcp) => peek(tcp),
            Stream::Tls(tls) => tls.look(),
        }
    }

    /// Writes what goes at once. What is taken and did not go yet goes with the next flush.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(tcp) => tcp.try_write(bytes),
            Stream::Tls(tls) => {
                let (tcp, session) = tls.stream.get_mut();
                let taken = session.writer().write(bytes)?;
                while session.wants_write() {
                    match session.write_tls(&mut AtOnce(tcp)) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(taken)
            }
        }
    }

    /// After the end of what it carried: how the TCP connection ended.
    pub(crate) async fn bottom(&mut self) -> End {
        let Stream::Tls(tls) = self else { return End::Fin };
        let mut bytes = [0; 1024];
        loop {
            match tls.stream.get_mut().0.read(&mut bytes).await {
                Ok(0) => return End::Fin,
                Ok(_) => {}
                Err(error) => return End::of(&error),
            }
        }
    }
}

impl Tls {
    fn look(&mut self) -> Look {
        let mut bytes = [0; 4096];
        loop {
            let (tcp, session) = self.stream.get_mut();
            let count = match recv(&*tcp, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((count, _)) => count,
                Err(Errno::AGAIN) if session.process_new_packets().is_ok_and(|state| state.peer_has_closed()) => {
                    return Look::Fin;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Look::Quiet,
                Err(_) => return Look::Reset,
            };
            if count == 0 {
                if !session.process_new_packets().is_ok_and(|state| state.peer_has_closed()) {
                    self.count_bare();
                }
                return Look::Fin;
            }
            // Taken into the session, where the next read finds it. Not every record is an answer: tickets follow the
            // handshake, and close_notify is the end.
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                if session.read_tls(&mut rest).is_err() {
                    return Look::Reset;
                }
                match session.process_new_packets() {
                    Ok(state) if state.plaintext_bytes_to_read() > 0 && rest.is_empty() => return Look::Bytes,
                    Ok(_) => {}
                    Err(_) => return Look::Reset,
                }
            }
        }
    }

    fn count_bare(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.bare.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn peek(tcp: &TcpStream) -> Look {
    let mut byte = [0; 1];
    match recv(tcp, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Look::Fin,
        Ok(_) => Look::Bytes,
        Err(Errno::AGAIN | Errno::INTR) => Look::Quiet,
        Err(_) => Look::Reset,
    }
}

struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => match Pin::new(&mut tls.stream).poll_read(cx, buf) {
                // FIN without close_notify: counted, and an end like any other. What it cut off is judged above.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    tls.count_bare();
                    Poll::Ready(Ok(()))
                }
                other => other,
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

// === TLS to a server whose certificate was made at its start ===

/// With these protocols in ALPN.
pub(crate) fn connector(protocol: &[u8]) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // The next server has other keys.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate, so long as the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;
    use tokio_rustls::{TlsAcceptor, server};

    use super::*;

    fn acceptor() -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.into()], key.into())
            .expect("they fit");
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server and its client after the handshake, with the count of bare ends. The server's tickets have arrived.
    async fn pair() -> (server::TlsStream<TcpStream>, Stream, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let tcp = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (tls, bare) = (connector(b"http/1.1").expect("a connector"), Arc::default());
        let serve = async { acceptor().accept(listener.accept().await.expect("a client comes").0).await };
        let (server, client) = tokio::join!(serve, Stream::Clear(tcp).with_tls(&tls, &bare));
        let mut client = client.expect("a handshake");
        arrived(&mut client).await;
        (server.expect("a handshake"), client, bare)
    }

    /// Until bytes or FIN are there.
    async fn arrived(client: &mut Stream) {
        let Stream::Tls(tls) = client else { panic!("this is about TLS") };
        let peeked = timeout(Duration::from_secs(5), tls.stream.get_ref().0.peek(&mut [0])).await;
        peeked.expect("something comes").expect("and no reset");
    }

    #[tokio::test]
    async fn the_tickets_after_the_handshake_are_no_answer() {
        let (_server, mut client, _) = pair().await;
        assert_eq!(client.look(), Look::Quiet);
    }

    #[tokio::test]
    async fn an_answer_that_was_seen_can_still_be_read() {
        let (mut server, mut client, _) = pair().await;
        assert_eq!(client.look(), Look::Quiet);
        server.write_all(b"ok").await.expect("it is open");
        arrived(&mut client).await;
        assert_eq!(client.look(), Look::Bytes);
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.expect("it was not thrown away");
        assert_eq!(&answer, b"ok");
    }

    #[tokio::test]
    async fn close_notify_is_an_end_before_fin_comes() {
        let (mut server, mut client, bare) = pair().await;
        assert_eq!(client.look(), Look::Quiet);
        server.get_mut().1.send_close_notify();
        server.flush().await.expect("it is open");
        arrived(&mut client).await;
        assert_eq!(client.look(), Look::Fin);
        // The FIN that follows was announced.
        server.get_mut().0.shutdown().await.expect("it is open");
        arrived(&mut client).await;
        assert_eq!((client.look(), client.read(&mut [0]).await.expect("an end")), (Look::Fin, 0));
        assert_eq!(bare.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn fin_without_close_notify_is_an_end_and_is_counted_once() {
        let (mut server, mut client, bare) = pair().await;
        assert_eq!(client.look(), Look::Quiet);
        server.get_mut().0.shutdown().await.expect("it is open");
        arrived(&mut client).await;
        assert_eq!((client.look(), client.read(&mut [0]).await.expect("an end")), (Look::Fin, 0));
        assert_eq!(bare.load(Ordering::Relaxed), 1);
    }
}
