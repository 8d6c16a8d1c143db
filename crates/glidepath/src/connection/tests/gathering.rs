//! How answers go out: small ones in one piece, behind the first large one by writev(2).

use std::future::poll_fn;
use std::task::Poll;

use axum::extract::Path;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::*;
use crate::plan::Plan;

const SMALL: usize = 8 * 1024 - 1;
const LARGE: usize = 8 * 1024;

/// A connection, polled by the test, and its client.
struct Served {
    connection: Connection<axum::Router>,
    client: UnixStream,
}

impl Served {
    fn by(registry: &Arc<Registry>) -> Self {
        let (ours, client) = UnixStream::pair().unwrap();
        let app =
            axum::Router::new().route("/{length}", get(|Path(length): Path<usize>| async move { "x".repeat(length) }));
        let connection = Connection::new(
            Socket::Unix(ours),
            None,
            #[cfg(feature = "tls")]
            None,
            app,
            registry,
        );
        Self { connection, client }
    }

    /// Asks for that many bytes each, in one packet, and reads all answers.
    async fn asks(&mut self, lengths: &[usize]) {
        let asks: String = lengths.iter().map(|length| format!("GET /{length} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
        self.client.write_all(asks.as_bytes()).await.unwrap();
        for length in lengths {
            self.reads(*length).await;
        }
    }

    async fn reads(&mut self, length: usize) {
        let Self { connection, client } = self;
        let mut answer = Vec::new();
        let read = async {
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(client.read_u8().await.unwrap());
            }
            let mut body = vec![0; length];
            client.read_exact(&mut body).await.unwrap();
            body
        };
        let ended = poll_fn(|cx| Pin::new(&mut *connection).poll(cx));
        let body = tokio::select! { body = read => body, () = ended => panic!("the connection has ended") };
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        assert!(body.iter().all(|byte| *byte == b'x'), "it is not the answer's body");
        // The server may not have looked since its last byte went.
        poll_fn(|cx| {
            assert!(Pin::new(&mut *connection).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}

#[tokio::test]
async fn who_has_sent_a_large_piece_gathers_from_then_on() {
    let registry = Registry::new(&Plan::default(), Arc::default());
    let mut served = Served::by(&registry);
    for _ in 0..3 {
        served.asks(&[SMALL]).await;
        assert!(!served.connection.gathers);
    }
    served.asks(&[LARGE]).await;
    assert!(served.connection.gathers);
    served.asks(&[SMALL, LARGE, 10 * LARGE, 1]).await;
    assert!(served.connection.gathers);

    let mut next = Served::by(&registry);
    next.asks(&[1]).await;
    assert!(next.connection.gathers, "a large piece went out just now");
    for _ in 0..120 {
        registry.sweep();
    }
    let mut later = Served::by(&registry);
    later.asks(&[1]).await;
    assert!(!later.connection.gathers, "that was a minute ago");
}

/// One that is busy keeps hyper, and is given another between two requests; one that is new rests behind its first answers.
#[tokio::test]
async fn what_stands_behind_the_first_large_answer_is_served() {
    for behind in [&[1, 1][..], &[LARGE, 1], &[1, LARGE, LARGE]] {
        for before in [&[][..], &[1, 1]] {
            let registry = Registry::new(&Plan::default(), Arc::default());
            let mut served = Served::by(&registry);
            for length in before {
                served.asks(&[*length]).await;
            }
            let lengths: Vec<_> = [LARGE].iter().chain(behind).copied().collect();
            served.asks(&lengths).await;
            let rests = matches!(served.connection.life, Life::Rest { .. });
            assert_eq!((rests, served.connection.gathers), (before.is_empty(), !before.is_empty()));
            served.asks(&[1]).await;
            assert!(served.connection.gathers);
            let (_, requests, _) = registry.account();
            assert_eq!(requests.started, 0, "they are counted when the connection ends");
            drop(served);
            let (_, requests, _) = registry.account();
            let all = (before.len() + lengths.len() + 1) as u64;
            assert_eq!((requests.started, requests.answered), (all, all));
        }
    }
}

/// Half a head, which hyper holds when it is left for its successor.
#[tokio::test]
async fn half_a_head_behind_the_first_large_answer_is_kept() {
    for before in [&[][..], &[1, 1]] {
        let registry = Registry::new(&Plan::default(), Arc::default());
        let mut served = Served::by(&registry);
        for length in before {
            served.asks(&[*length]).await;
        }
        let asks = format!("GET /{LARGE} HTTP/1.1\r\nhost: a\r\n\r\nGET /1 HT");
        served.client.write_all(asks.as_bytes()).await.unwrap();
        served.reads(LARGE).await;
        served.client.write_all(b"TP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        served.reads(1).await;
        served.asks(&[SMALL]).await;
        assert!(served.connection.gathers);
    }
}
