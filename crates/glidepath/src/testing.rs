//! Ends your service inside a test, and gives the report.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::connection::App;
use crate::error::{Error, Result};
use crate::lifecycle::{Handle, Lifecycle};
use crate::report::Report;
use crate::server::Server;

/// A test that waits for more than this has found something.
const GRACE: Duration = Duration::from_secs(5);

/// A service that runs inside a test, on a port of its own, and hears no signals: tests beside it have theirs.
///
/// Dropped, it is forced to its end, and whatever it still does is cut.
///
/// ```
/// use axum::{Router, routing::get};
/// use glidepath::testing::Service;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
/// let slow = get(move || async move {
///     begun.send(()).await.unwrap();
///     tokio::time::sleep(std::time::Duration::from_millis(50)).await;
///     "done"
/// });
/// let service = Service::start(|_lifecycle| Router::new().route("/slow", slow)).await?;
///
/// let mut client = tokio::net::TcpStream::connect(service.address()).await?;
/// client.write_all(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n").await?;
/// has_begun.recv().await; // an event, and not a sleep
/// let report = service.end().await?;
///
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.ends_with("done"), "{answer}");
/// assert!(report.is_clean(), "{report}");
/// assert_eq!(report.requests.answered_late, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    handle: Handle,
    served: JoinHandle<Result<Report>>,
}

impl Service {
    /// Serves what `app` makes, with the defaults but for a grace period of 5 s.
    ///
    /// `app` gets the lifecycle, for the [`Tasks`](crate::Tasks), the [`Drain`](crate::Drain) and the closing hooks.
    ///
    /// # Errors
    /// When no port can be had.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start<A: App>(app: impl FnOnce(&Lifecycle) -> A) -> io::Result<Self> {
        Self::start_with(app, |server| server).await
    }

    /// As [`Service::start`], with settings of your own.
    ///
    /// # Errors
    /// When no port can be had.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start_with<A: App>(
        app: impl FnOnce(&Lifecycle) -> A,
        settings: impl FnOnce(Server) -> Server,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let lifecycle = Lifecycle::without_signals();
        let app = app(&lifecycle);
        let server = settings(lifecycle.serve(listener, app).grace(GRACE));
        #[expect(clippy::disallowed_methods, reason = "it is waited for in `end`, and forced where it is not")]
        let served = tokio::spawn(server.into_future());
        Ok(Self { address, handle: lifecycle.handle(), served })
    }

    /// Where it listens: a port of 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For what a test wants to see on the way: the phase, and what is running.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends it as SIGTERM would, and waits for that: at most as long as lame duck and grace period say.
    ///
    /// # Errors
    /// When serving failed.
    ///
    /// # Panics
    /// When a closing hook or a setting made the server itself panic.
    pub async fn end(mut self) -> Result<Report> {
        self.handle.begin();
        match (&mut self.served).await {
            Ok(report) => report,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::from(io::Error::other(error))),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.served.is_finished() {
            self.handle.force();
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;
    use crate::phase::Phase;

    async fn service() -> Service {
        Service::start(|lifecycle| {
            let _detached = lifecycle.tasks().spawn("for ever", std::future::pending::<()>());
            Router::new()
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn one_that_is_dropped_is_forced_to_its_end() {
        let service = service().await;
        let handle = service.handle().clone();
        tokio::task::yield_now().await;
        assert_eq!(handle.phase(), Phase::Serving, "it ends by nobody's wish");
        drop(service);
        tokio::time::timeout(Duration::from_secs(10), handle.wait_for(Phase::Ended)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_after_5_s_and_named() {
        let report = service().await.end().await.unwrap();
        let [cut] = &report.cut[..] else { panic!("one task was running: {report}") };
        assert!(cut.name.contains("for ever"), "{report}");
        assert!(report.took >= GRACE && report.took < 2 * GRACE, "{report}");
    }
}
