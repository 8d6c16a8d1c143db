//! TLS whose certificate is renewed without a restart: whatever renews it writes the files, and the next handshake shows
//! the new one. Connections that are open keep the one that they began with.
//!
//! ```text
//! CERTIFICATE=chain.pem KEY=key.pem cargo run -p glidepath --example tls_renewal
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, io};

use axum::{Router, routing::get};
use glidepath::{Listener, Report};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> glidepath::Result<Report> {
    let path = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(io::Error::other(format!("{name} is not set")));
    let files = Files::open(path("CERTIFICATE")?, path("KEY")?)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(files));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening with TLS on {}", listener.local_addr()?);
    let app = Router::new().route("/", get(|| async { "hello\n" }));
    glidepath::serve(Listener::tls(listener, Arc::new(config)), app).await
}

/// A certificate chain and its key, in two PEM files.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    written: [SystemTime; 2],
    looked: Instant,
    certified: Arc<CertifiedKey>,
}

impl Files {
    /// How long the files are not looked at again.
    const PAUSE: Duration = Duration::from_secs(1);

    fn open(certificate: PathBuf, key: PathBuf) -> io::Result<Self> {
        let loaded = Loaded {
            written: written(&certificate, &key)?,
            looked: Instant::now(),
            certified: Arc::new(load(&certificate, &key)?),
        };
        Ok(Self { certificate, key, loaded: Mutex::new(loaded) })
    }

    /// Loads them again if they have changed. Half a renewal (a key that is not the certificate's) is an error, and tried
    /// again.
    fn look(&self, loaded: &mut Loaded) -> io::Result<()> {
        loaded.looked = Instant::now();
        let written = written(&self.certificate, &self.key)?;
        if written != loaded.written {
            loaded.certified = Arc::new(load(&self.certificate, &self.key)?);
            loaded.written = written;
        }
        Ok(())
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= Self::PAUSE {
            if let Err(error) = self.look(&mut loaded) {
                eprintln!("the old certificate stays, the new one cannot be used: {error}");
            }
        }
        Some(Arc::clone(&loaded.certified))
    }
}

fn written(certificate: &PathBuf, key: &PathBuf) -> io::Result<[SystemTime; 2]> {
    Ok([fs::metadata(certificate)?.modified()?, fs::metadata(key)?.modified()?])
}

fn load(certificate: &PathBuf, key: &PathBuf) -> io::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(io::Error::other)
}
