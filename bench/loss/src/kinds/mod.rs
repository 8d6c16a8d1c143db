//! The kinds of clients, one file each.

mod burst;
mod download;
mod expect;
mod fresh;
mod half_head;
mod http2;
mod keep_alive;
mod pipelined;
mod slow_reader;
mod sse;
mod upload;
mod websocket;

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::client::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A connection for each request
    Fresh,
    /// Keep-alive, the next request as soon as the answer is there
    BackToBack,
    /// Keep-alive, 0 to 20 ms between an answer and the next request
    Thinking,
    /// Keep-alive, up to 1.2 s of silence: around the time at which a server gives up a connection at rest
    Resting,
    /// 2 to 8 requests in one write
    Pipelined,
    /// A head in two parts, the second after the signal
    HalfHead,
    /// 16 connects at once with a request each, most of all while the server is stopped
    Burst,
    /// HTTP/2 with prior knowledge or by ALPN, 1 to 4 streams at a time
    Http2,
    /// POST in pieces, with a length or chunked
    Upload,
    /// POST that waits for 100 Continue, and then for the signal
    Expect,
    /// Streamed answers, slow ones and big ones
    Download,
    /// A streamed answer beyond the buffers, not read before the signal
    SlowReader,
    /// Messages with an echo each
    Websocket,
    /// An event stream, for ever
    Sse,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its share of the clients.
    pub(crate) fn weight(self) -> usize {
        match self {
            Kind::Thinking => 5,
            Kind::Fresh | Kind::BackToBack | Kind::Resting => 3,
            Kind::Pipelined | Kind::Http2 | Kind::Upload | Kind::Download => 2,
            Kind::HalfHead | Kind::Burst | Kind::Expect | Kind::SlowReader | Kind::Websocket | Kind::Sse => 1,
        }
    }

    /// What the server must answer for it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Kind::Upload | Kind::Expect => "/echo",
            Kind::Download | Kind::SlowReader => "/stream",
            Kind::Websocket => "/ws",
            Kind::Sse => "/sse",
            Kind::Fresh
            | Kind::BackToBack
            | Kind::Thinking
            | Kind::Resting
            | Kind::Pipelined
            | Kind::HalfHead
            | Kind::Burst
            | Kind::Http2 => "/",
        }
    }

    /// Runs until the server ended it or the round is over.
    pub(crate) async fn run(self, client: &mut Client<'_>) {
        match self {
            Kind::Fresh => fresh::run(client).await,
            Kind::BackToBack => keep_alive::run(client, 0).await,
            Kind::Thinking => keep_alive::run(client, 20).await,
            Kind::Resting => keep_alive::run(client, 1200).await,
            Kind::Pipelined => pipelined::run(client).await,
            Kind::HalfHead => half_head::run(client).await,
            Kind::Burst => burst::run(client).await,
            Kind::Http2 => http2::run(client).await,
            Kind::Upload => upload::run(client).await,
            Kind::Expect => expect::run(client).await,
            Kind::Download => download::run(client).await,
            Kind::SlowReader => slow_reader::run(client).await,
            Kind::Websocket => websocket::run(client).await,
            Kind::Sse => sse::run(client).await,
        }
    }
}

/// Clients of one kind, over TLS or not: they are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) kind: Kind,
    pub(crate) tls: bool,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.name(), if self.tls { " TLS" } else { "" })
    }
}

/// As text: it is a key in JSON.
impl Serialize for Class {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;

    use fastrand::Rng;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::SetOnce;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::client::Round;
    use crate::tally::Tally;

    /// What one client, after the signal, counts at a server that takes one connection, says this when something has
    /// come on it, reads on until nothing comes for a while, and ends with FIN.
    async fn count(kind: Kind, words: &[&str]) -> Tally {
        heard(kind, words).await.1
    }

    /// The same, with how many bytes came before each word and after the last.
    async fn heard(kind: Kind, words: &[&str]) -> (Vec<usize>, Tally) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let round = Round {
            address: listener.local_addr().expect("it is bound"),
            tls: None,
            number: 1,
            over: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            signalled: SetOnce::new_with(Some(Instant::now())),
            frozen: SetOnce::new(),
        };
        let serve = async {
            let (stream, _) = listener.accept().await.expect("a client comes");
            drop(listener);
            say(stream, words).await
        };
        let client = async {
            let mut client = Client::new(&round, Rng::with_seed(1), true, false);
            kind.run(&mut client).await;
            client.count()
        };
        let (heard, tally) = tokio::join!(serve, timeout(Duration::from_secs(8), client));
        let tally = tally.expect("a client whose server is gone leaves");
        assert_eq!((tally.sent, tally.refused), (1, 1), "{tally:?}");
        (heard, tally)
    }

    async fn say(mut stream: TcpStream, words: &[&str]) -> Vec<usize> {
        let (mut bytes, mut heard) = ([0; 8192], Vec::new());
        for word in words {
            heard.push(stream.read(&mut bytes).await.expect("something comes"));
            stream.write_all(word.as_bytes()).await.expect("it reads");
        }
        heard.push(0);
        while let Ok(Ok(more @ 1..)) = timeout(Duration::from_millis(500), stream.read(&mut bytes)).await {
            *heard.last_mut().expect("it was pushed") += more;
        }
        heard
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

    #[tokio::test]
    async fn half_a_head_is_answered_when_it_is_whole_or_lost() {
        // The first half meets nothing, the second the answer.
        let (heard, tally) = heard(Kind::HalfHead, &["", OK]).await;
        assert_eq!((tally.answered, tally.told_close, tally.bad()), (1, 1, 0));
        let [first, second, 0] = heard[..] else { panic!("two halves, not {heard:?}") };
        assert!(first > 0 && first + second == keep_alive::GET.len(), "{heard:?}");
        assert_eq!(count(Kind::HalfHead, &["", ""]).await.bad(), 1);
    }

    #[tokio::test]
    async fn a_body_that_waits_for_100_is_answered_or_turned_down_in_words_or_lost() {
        let done = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\n4000";
        assert_eq!(count(Kind::Expect, &["HTTP/1.1 100 Continue\r\n\r\n", done]).await.answered, 1);
        let no = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(count(Kind::Expect, &[no]).await.untaken, 1);
        assert_eq!(count(Kind::Expect, &[""]).await.lost, 1);
        assert_eq!(count(Kind::Expect, &["HTTP/1.1 100 Continue\r\n\r\n", ""]).await.lost, 1);
    }

    #[tokio::test]
    async fn a_slow_reader_misses_the_end_of_its_answer() {
        let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nchunk0\n\r\n";
        assert_eq!(count(Kind::SlowReader, &[cut]).await.truncated, 1);
        let short = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\nchunk0\n";
        assert_eq!(count(Kind::SlowReader, &[short]).await.lost, 1, "an end that came too early is a wrong answer");
    }
}
