//! The kinds of clients, one file each.

mod download;
mod fresh;
mod http2;
mod keep_alive;
mod pipelined;
mod sse;
mod upload;
mod websocket;

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
    /// HTTP/2 with prior knowledge, 1 to 4 streams at a time
    Http2,
    /// POST in pieces, with a length or chunked
    Upload,
    /// Streamed answers, slow ones and big ones
    Download,
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
            Kind::Websocket | Kind::Sse => 1,
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
            Kind::Http2 => http2::run(client).await,
            Kind::Upload => upload::run(client).await,
            Kind::Download => download::run(client).await,
            Kind::Websocket => websocket::run(client).await,
            Kind::Sse => sse::run(client).await,
        }
    }
}
