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
