//! The servers of ours: one router, with a lifecycle around it and without, and a floor that serves nothing.

use std::convert::Infallible;
use std::env;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use clap::ValueEnum;
use glidepath::{Lifecycle, Listener};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_service::Service;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// An epoll loop that parses nothing, and that nobody has told about signals
    Floor,
    /// hyper's HTTP/1, and nothing that could end it
    BareHttp1,
    /// hyper's HTTP/2, and nothing that could end it
    BareHttp2,
    /// hyper, driven by glidepath with its defaults
    Glidepath,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor",
            Kind::BareHttp1 => "bare-http1",
            Kind::BareHttp2 => "bare-http2",
            Kind::Glidepath => "glidepath",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Floor => "epoll floor",
            Kind::BareHttp1 | Kind::BareHttp2 => "bare hyper",
            Kind::Glidepath => "glidepath",
        }
    }
}

/// Serves on PORT, and on TLS_PORT where that is set, for as long as it is let.
pub(crate) fn serve(kind: Kind) -> anyhow::Result<ExitCode> {
    let port = port("PORT")?.context("PORT is not set")?;
    if kind == Kind::Floor {
        return floor(port).map(|never| match never {});
    }
    // The runtime that `#[tokio::main]` makes, as the peers have it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if kind == Kind::Glidepath {
            return glidepath(port).await;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        bare(kind, listener, router()).await.map(|never| match never {})
    })
}

fn port(name: &str) -> anyhow::Result<Option<u16>> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name}={text} is no port"))
}

#[derive(Deserialize)]
struct For {
    ms: u64,
}

fn router() -> Router {
    Router::new().route("/", get(|| async { "ok" })).route("/sleep", get(sleep))
}

async fn sleep(Query(time): Query<For>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(time.ms)).await;
    "slept"
}

async fn glidepath(port: u16) -> anyhow::Result<ExitCode> {
    let lifecycle = Lifecycle::new()?;
    let listener = Listener::bind("http", (Ipv4Addr::LOCALHOST, port)).await?;
    let mut server = lifecycle.serve(listener, router());
    if let Some(port) = self::port("TLS_PORT")? {
        let listener = Listener::bind("https", (Ipv4Addr::LOCALHOST, port)).await?;
        server = server.and_serve(Listener::tls(listener, tls_config()?), router());
    }
    Ok(ExitCode::from(server.await?.exit_code()))
}

/// With a certificate of its own, which no client trusts unless told to.
fn tls_config() -> anyhow::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(vec![made.cert.into()], key.into())?))
}

/// The least that serves one version of HTTP.
async fn bare(kind: Kind, listener: TcpListener, app: Router) -> anyhow::Result<Infallible> {
    loop {
        let (stream, _) = listener.accept().await?;
        // As glidepath does.
        stream.set_nodelay(true)?;
        let app = app.clone();
        TokioExecutor::new().execute(async move {
            let service = service_fn(move |request| {
                let mut app = app.clone();
                async move { Ok::<_, Infallible>(app.call(request).await.unwrap_or_else(|never| match never {})) }
            });
            let stream = TokioIo::new(stream);
            let _ended = match kind {
                Kind::BareHttp2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
                _ => http1::Builder::new().serve_connection(stream, service).await,
            };
        });
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Of the listener, among the descriptors of connections.
const LISTENER: u64 = u64::MAX;

/// What reading, writing and keeping connections costs whoever does it. It is ended by the signal, and the kernel closes what
/// it has: no server can be faster.
fn floor(port: u16) -> anyhow::Result<Infallible> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<std::net::TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = [0; 4096];
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let data = event.data;
            if data.u64() == LISTENER {
                accept_all(&listener, &epoll, &mut connections)?;
                continue;
            }
            let place = usize::try_from(data.u64())?;
            let Some(connection) = connections.get_mut(place).and_then(Option::as_mut) else { continue };
            let open = matches!(connection.read(&mut buffer), Ok(1..)) && connection.write_all(ANSWER).is_ok();
            if !open {
                connections[place] = None;
            }
        }
    }
}

fn accept_all(
    listener: &std::net::TcpListener,
    epoll: &impl std::os::fd::AsFd,
    connections: &mut Vec<Option<std::net::TcpStream>>,
) -> anyhow::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let place = usize::try_from(stream.as_raw_fd())?;
        epoll::add(epoll, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        if connections.len() <= place {
            connections.resize_with(place + 1, || None);
        }
        connections[place] = Some(stream);
    }
}
