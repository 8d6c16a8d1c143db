//! The check target: one small server with every kind of work that an end must treat.
//!
//! It uses the library with its defaults, as a service would. Its settings come from the environment
//! and its paths are those of the check contract:
//!
//! ```text
//! PORT=8080 GRACE=5 cargo run -p glidepath --example target
//! curl 'localhost:8080/sleep?ms=3000'     # then send SIGTERM or press Ctrl-C, and watch
//! ```

use std::convert::Infallible;
use std::env;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::{Stream, StreamExt, stream};
use glidepath::{DumpSignal, Lifecycle, Listener, Report, Tasks};
use metrics_exporter_prometheus::PrometheusBuilder;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use tokio::runtime::{self, Runtime};
use tokio::time::{interval, sleep};

fn main() -> ExitCode {
    // Whoever reads our log may be gone; unless told, this subscriber panics then.
    tracing_subscriber::fmt().with_writer(glidepath::stderr).with_ansi(false).log_internal_errors(false).init();
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(wrong) => {
            say(io::stderr(), format_args!("target: {wrong}"));
            return ExitCode::from(2);
        }
    };
    match run(settings) {
        Ok(report) => ExitCode::from(report.exit_code()),
        Err(error) => {
            say(io::stderr(), format_args!("target: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<Report, Box<dyn std::error::Error>> {
    let lifecycle = Lifecycle::new()?;
    lifecycle.on_report(|report| {
        // In one piece: standard error has no buffer.
        let table = report.to_string();
        say(io::stderr(), format_args!("{table}"));
        say(io::stdout(), format_args!("{}", report.to_json()));
    });
    if settings.dump_json {
        lifecycle.dump_json();
    }
    if settings.dump_on_usr1 {
        lifecycle.dump_on(DumpSignal::User1)?;
    }
    let runtime = settings.runtime()?;
    Ok(runtime.block_on(serve(settings, lifecycle))?)
}

async fn serve(settings: Settings, lifecycle: Lifecycle) -> glidepath::Result<Report> {
    let app = app(lifecycle.tasks());
    // By their names the next process finds them, in a restart.
    let public = Listener::bind("http", (Ipv4Addr::LOCALHOST, settings.port)).await?;
    let address = public.local_addr()?;

    let mut server = lifecycle.serve(public, app.clone()).grace(settings.grace).lame_duck(settings.lame_duck);
    if let Some(port) = settings.tls_port {
        let listener = Listener::bind("https", (Ipv4Addr::LOCALHOST, port)).await?;
        say(io::stderr(), format_args!("listening with TLS on {}", listener.local_addr()?));
        server = server.and_serve(Listener::tls(listener, tls_config()?), app.clone());
    }
    if let Some(path) = settings.unix {
        server = server.and_serve(Listener::bind_unix("unix", path)?, app);
    }
    if let Some(port) = settings.admin_port {
        let admin = Listener::bind("admin", (Ipv4Addr::LOCALHOST, port)).await?;
        say(io::stderr(), format_args!("admin on {}", admin.local_addr()?));
        let prometheus = PrometheusBuilder::new().install_recorder().map_err(io::Error::other)?;
        server = server.admin(admin).admin_metrics(move || prometheus.render());
        if settings.admin_page {
            server = server.admin_page();
        }
    }
    if let Some(token) = settings.admin_token {
        server = server.admin_token(token);
    }
    if settings.keep {
        server = server.keep_listeners();
    }
    if settings.restart {
        server = server.restart_in_place();
    }
    say(io::stderr(), format_args!("listening on {address}"));
    server.await
}

/// With a certificate of its own, which no client trusts unless told to.
fn tls_config() -> io::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.into()], key.into()).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

// === The settings ===

struct Settings {
    port: u16,
    grace: Duration,
    lame_duck: Duration,
    tls_port: Option<u16>,
    admin_port: Option<u16>,
    unix: Option<PathBuf>,
    restart: bool,
    admin_token: Option<String>,
    admin_page: bool,
    keep: bool,
    dump_json: bool,
    dump_on_usr1: bool,
    workers: Option<usize>,
}

impl Settings {
    fn from_env() -> Result<Self, String> {
        Ok(Settings {
            port: number("PORT")?.unwrap_or(8080),
            grace: seconds("GRACE")?.unwrap_or(Duration::from_secs(30)),
            lame_duck: seconds("LAME_DUCK")?.unwrap_or_default(),
            tls_port: number("TLS_PORT")?,
            admin_port: number("ADMIN_PORT")?,
            unix: env::var_os("UNIX").map(PathBuf::from),
            restart: env::var_os("RESTART").is_some(),
            admin_token: env::var("ADMIN_TOKEN").ok(),
            admin_page: env::var_os("ADMIN_PAGE").is_some(),
            keep: env::var_os("KEEP").is_some(),
            dump_json: env::var_os("DUMP_JSON").is_some(),
            dump_on_usr1: env::var_os("DUMP_ON_USR1").is_some(),
            workers: number("WORKERS")?,
        })
    }

    fn runtime(&self) -> io::Result<Runtime> {
        let mut builder = match self.workers {
            // Everything on the main thread, the server, too.
            Some(0) => runtime::Builder::new_current_thread(),
            _ => runtime::Builder::new_multi_thread(),
        };
        if let Some(workers) = self.workers.filter(|workers| *workers > 0) {
            builder.worker_threads(workers);
        }
        builder.enable_all().build()
    }
}

fn number<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    let number = text.parse().map_err(|_| format!("{name}={text}: not a number that fits"))?;
    Ok(Some(number))
}

fn seconds(name: &str) -> Result<Option<Duration>, String> {
    let Some(seconds) = number(name)? else { return Ok(None) };
    let duration = Duration::try_from_secs_f64(seconds);
    duration.map(Some).map_err(|wrong| format!("{name}={seconds}: {wrong}"))
}

// === The paths ===

fn app(tasks: Tasks) -> Router {
    Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/sleep", get(sleep_a_while))
        .route("/block", get(block_a_while))
        .route("/stream", get(stream_chunks))
        .route("/sse", get(events))
        .route("/log", get(log_lines))
        .route("/echo", post(count_body))
        .route("/task", post(start_task))
        .route("/ws", any(echo_messages))
        .route("/panic", get(panics))
        .with_state(tasks)
}

#[derive(Deserialize)]
struct For {
    ms: u64,
}

impl For {
    fn duration(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

async fn sleep_a_while(Query(time): Query<For>) -> &'static str {
    sleep(time.duration()).await;
    "slept"
}

async fn block_a_while(Query(time): Query<For>) -> &'static str {
    std::thread::sleep(time.duration());
    "slept"
}

#[derive(Deserialize)]
struct Chunks {
    chunks: u64,
    ms: u64,
}

async fn stream_chunks(Query(Chunks { chunks, ms }): Query<Chunks>) -> Body {
    Body::from_stream(stream::iter(0..chunks).then(move |n| async move {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        Ok::<_, Infallible>(Bytes::from(format!("chunk{n}\n")))
    }))
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = interval(Duration::from_millis(100));
    Sse::new(stream::unfold(ticks, |mut ticks| async move {
        ticks.tick().await;
        Some((Ok(Event::default().data("x")), ticks))
    }))
}

#[derive(Deserialize)]
struct Lines {
    lines: u64,
    ms: u64,
}

/// A line in the log every so often.
async fn log_lines(Query(Lines { lines, ms }): Query<Lines>) -> &'static str {
    for n in 0..lines {
        sleep(Duration::from_millis(ms)).await;
        tracing::info!("line {n} of {lines}");
    }
    "logged"
}

async fn count_body(body: Body) -> Result<String, StatusCode> {
    let mut data = body.into_data_stream();
    let mut length = 0;
    while let Some(piece) = data.next().await {
        length += piece.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    Ok(length.to_string())
}

async fn start_task(State(tasks): State<Tasks>, Query(time): Query<For>) -> StatusCode {
    let _detached = tasks.spawn("task", async move {
        sleep(time.duration()).await;
        say(io::stdout(), format_args!("task done"));
    });
    StatusCode::ACCEPTED
}

async fn echo_messages(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo).into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let echoed = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        };
        if echoed.is_err() {
            return;
        }
    }
}

async fn panics() {
    panic!("as asked by GET /panic");
}

/// Writes a line, if somebody is there to read it. `println!` would panic if not, and that must not end a service.
fn say(mut to: impl Write, line: std::fmt::Arguments<'_>) {
    let _gone = writeln!(to, "{line}");
}
