//! The two servers: one router, with a lifecycle around it and without.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::thread;

use axum::Router;
use axum::routing::get;
use clap::ValueEnum;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// hyper, and nothing that could end it
    Bare,
    /// hyper, driven by glidepath with its defaults
    Glidepath,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Glidepath => "glidepath",
        }
    }
}

/// Serves until standard input ends.
pub(crate) fn serve(kind: Kind) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut out = io::stdout();
        writeln!(out, "{}", listener.local_addr()?)?;
        out.flush()?;
        let app = Router::new().route("/", get(|| async { "ok" }));
        match kind {
            Kind::Bare => tokio::select! {
                () = bare(listener, app) => {}
                () = end_of_input() => {}
            },
            Kind::Glidepath => {
                let lifecycle = glidepath::Lifecycle::new()?;
                let handle = lifecycle.handle();
                let served = lifecycle.serve(listener, app);
                let end = async {
                    end_of_input().await;
                    handle.begin();
                };
                let (_report, ()) = tokio::join!(served.into_future(), end);
            }
        }
        Ok(())
    })
}

async fn end_of_input() {
    let (tell, told) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let _ended = io::stdin().read(&mut [0]);
        tell.send(())
    });
    let _told = told.await;
}

/// The least that serves HTTP/1 and HTTP/2 on one port. The first bytes tell which, by a look that takes nothing.
async fn bare(listener: TcpListener, app: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let app = app.clone();
        hyper::rt::Executor::execute(&TokioExecutor::new(), async move {
            let service = service_fn(move |request| {
                let mut app = app.clone();
                async move { Ok::<_, Infallible>(app.call(request).await.unwrap_or_else(|never| match never {})) }
            });
            let _ended = match speaks_http2(&stream).await {
                true => http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await,
                false => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
            };
        });
    }
}

async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == b'P'
}
