//! SPEC.md, H2-6: gRPC with tonic's client and server, in cleartext and over TLS with ALPN. What a caller sees is a `Status`.

mod service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use glidepath::{Lifecycle, Listener, Phase, Report};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use service::{Client, Clockwork};

const PATIENCE: Duration = Duration::from_secs(10);

/// "gRPC calls over it too": a call in flight is finished, and one that comes when all is over is told UNAVAILABLE.
#[tokio::test]
async fn h2_6_a_unary_call_in_flight_is_finished() {
    for tls in [false, true] {
        let mut served = Served::start(tls, Duration::from_secs(10)).await;
        assert_eq!(served.client.sleep(0).await.unwrap(), "slept", "the control: without an end");
        let call = served.spawn(|mut client| async move { client.sleep(600).await });
        served.is_running(1).await;
        served.lifecycle.handle().begin();
        assert_eq!(call.await.unwrap().unwrap(), "slept");
        let (report, mut client) = served.report().await;
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.requests.answered, report.requests.answered_late), (2, 1), "{report}");
        let refused = client.sleep(0).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
}

#[tokio::test]
async fn h2_6_a_streaming_call_goes_on_to_its_end() {
    for tls in [false, true] {
        let mut served = Served::start(tls, Duration::from_secs(10)).await;
        let mut numbers = served.client.count(30).await.unwrap();
        let mut heard = vec![numbers.message().await.unwrap().expect("the first")];
        served.lifecycle.handle().begin();
        while let Some(number) = numbers.message().await.unwrap() {
            heard.push(number);
        }
        assert_eq!(heard, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
        let (report, _) = served.report().await;
        assert!(report.is_clean(), "{report}");
    }
}

/// "at the deadline a gRPC call gets trailers UNAVAILABLE where its head was not sent"
#[tokio::test]
async fn h2_6_a_call_without_an_answer_is_unavailable_at_the_deadline() {
    for tls in [false, true] {
        let served = Served::start(tls, Duration::from_millis(500)).await;
        let call = served.spawn(|mut client| async move { client.sleep(20_000).await });
        served.is_running(1).await;
        let begun = Instant::now();
        served.lifecycle.handle().begin();
        let status = call.await.unwrap().unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
        assert!((300..1000).contains(&begun.elapsed().as_millis()), "after {:?}", begun.elapsed());
        let (report, _) = served.report().await;
        assert_eq!((report.exit_code(), report.requests.cut), (3, 1), "{report}");
    }
}

/// And where its head was sent, too: a stream that the deadline cuts does not look whole.
#[tokio::test]
async fn h2_6_a_stream_that_the_deadline_cuts_is_unavailable() {
    for tls in [false, true] {
        let mut served = Served::start(tls, Duration::from_millis(500)).await;
        let mut numbers = served.client.count(1000).await.unwrap();
        numbers.message().await.unwrap().expect("the first");
        served.lifecycle.handle().begin();
        let mut heard = 1;
        let status = loop {
            match numbers.message().await {
                Ok(Some(_)) => heard += 1,
                Ok(None) => panic!("it looks whole after {heard} of 1000 messages"),
                Err(status) => break status,
            }
        };
        assert!(heard > 5, "only {heard} messages until {status:?}");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
        let (report, _) = served.report().await;
        assert_eq!((report.exit_code(), report.requests.cut), (3, 1), "{report}");
    }
}

/// "a stream opened between the two [GOAWAYs] is served" (H2-2), by a client that does not know yet that one was sent.
#[tokio::test]
async fn h2_6_a_call_opened_between_the_goaways_is_served() {
    for tls in [false, true] {
        let mut served = Served::start(tls, Duration::from_secs(10)).await;
        assert_eq!(served.client.sleep(0).await.unwrap(), "slept");
        served.hold.send_replace(true);
        served.lifecycle.handle().begin();
        served.lifecycle.handle().wait_for(Phase::Draining).await;
        served.something_is_held().await;
        let call = served.spawn(|mut client| async move { client.sleep(200).await });
        served.is_running(1).await;
        served.hold.send_replace(false);
        assert_eq!(call.await.unwrap().unwrap(), "slept");
        let (report, _) = served.report().await;
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.requests.answered, 2, "{report}");
    }
}

/// A server that is being served, and a client that has connected to it, once.
struct Served {
    lifecycle: Lifecycle,
    serving: JoinHandle<glidepath::Result<Report>>,
    client: Client,
    /// Whether what the server says is kept from the client.
    hold: watch::Sender<bool>,
    held: watch::Receiver<usize>,
}

impl Served {
    async fn start(tls: bool, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hold, is_held) = watch::channel(false);
        let (holds, held) = watch::channel(0);
        let between = stand_between(address, is_held, holds).await;
        let (listener, endpoint) = if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let trust =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(made.cert.pem())).domain_name("localhost");
            let endpoint = Endpoint::from_shared(format!("https://{between}")).unwrap().tls_config(trust).unwrap();
            (Listener::tls(listener, server_config(made)), endpoint)
        } else {
            (listener.into(), Endpoint::from_shared(format!("http://{between}")).unwrap())
        };
        let lifecycle = Lifecycle::without_signals();
        let server = lifecycle.serve(listener, Routes::new(Clockwork)).grace(grace);
        #[expect(clippy::disallowed_methods, reason = "the life itself, which no life tracks")]
        let serving = tokio::spawn(server.into_future());
        lifecycle.handle().wait_for(Phase::Serving).await;
        let channel: Channel = endpoint.connect().await.unwrap();
        Self { lifecycle, serving, client: Client::over(channel), hold, held }
    }

    fn spawn<T: Send + 'static, F>(&self, call: impl FnOnce(Client) -> F) -> JoinHandle<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let bounded = timeout(PATIENCE, call(self.client.clone()));
        #[expect(clippy::disallowed_methods, reason = "a client's own work")]
        tokio::spawn(async { bounded.await.expect("a call ends") })
    }

    /// Returns when this many calls are with the app.
    async fn is_running(&self, calls: usize) {
        let is_so = async {
            while self.lifecycle.handle().snapshot().running.len() != calls {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, is_so).await.expect("the call arrives");
    }

    /// Returns when the server has said something that the client does not know yet.
    async fn something_is_held(&mut self) {
        timeout(PATIENCE, self.held.wait_for(|bytes| *bytes > 0)).await.expect("the server speaks").unwrap();
    }

    /// The report, once it has ended; the client knows the address of a server that is gone.
    async fn report(self) -> (Report, Client) {
        let report = timeout(PATIENCE, self.serving).await.expect("it ends").unwrap().unwrap();
        (report, self.client)
    }
}

/// Passes one connection's bytes on, and keeps those of the server while it is told to. Then nobody listens there any more.
async fn stand_between(
    server: SocketAddr,
    mut is_held: watch::Receiver<bool>,
    held: watch::Sender<usize>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the network is nobody's task")]
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        drop(listener);
        let server = TcpStream::connect(server).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let there = async {
            let _gone = tokio::io::copy(&mut from_client, &mut to_server).await;
            let _gone = to_server.shutdown().await;
        };
        let back = async {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                held.send_modify(|held| *held += if *is_held.borrow() { read } else { 0 });
                is_held.wait_for(|is_held| !is_held).await.unwrap();
                if to_client.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
            let _gone = to_client.shutdown().await;
        };
        tokio::join!(there, back);
    });
    address
}

fn server_config(made: rcgen::CertifiedKey<rcgen::KeyPair>) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.into()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
