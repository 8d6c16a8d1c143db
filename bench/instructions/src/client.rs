//! What the servers are asked for: always the same, one after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use http::Request;

use crate::Server;

/// A request of 64 bytes or so, as small clients send them.
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: instructions\r\naccept: */*\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections at a time.
const CONNECTIONS: usize = 4;
/// Streams at a time on each.
const STREAMS: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Load {
    /// Requests on four HTTP/1.1 connections in turn
    Http1,
    /// Requests on four HTTP/2 connections, 25 streams at a time
    Http2,
    /// Connections with one HTTP/1.1 request each
    Connections,
    /// Connections with two: the second wakes a connection at rest
    Woken,
}

impl Load {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Http1 => "http/1.1 request",
            Load::Http2 => "http/2 request",
            Load::Connections => "connection with one request",
            Load::Woken => "connection with two requests",
        }
    }

    /// Few and many: their difference is counted.
    pub(crate) fn rounds(self) -> (u32, u32) {
        match self {
            Load::Http1 => (100, 1100),
            Load::Http2 => (10, 110),
            Load::Connections | Load::Woken => (100, 600),
        }
    }

    /// So many of what the name says, in each round.
    pub(crate) fn requests(self) -> u32 {
        match self {
            Load::Http1 => CONNECTIONS as u32,
            Load::Http2 => (CONNECTIONS * STREAMS) as u32,
            Load::Connections | Load::Woken => 1,
        }
    }

    pub(crate) fn put_on(self, server: &Server, rounds: u32) -> anyhow::Result<()> {
        match self {
            Load::Http1 => http1(server, rounds),
            Load::Http2 => http2(server.address, rounds),
            Load::Connections => (0..rounds).try_for_each(|_| connection(server, 1)),
            Load::Woken => (0..rounds).try_for_each(|_| connection(server, 2)),
        }
    }
}

fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(GET)?;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).context("no answer")?;
    let answer = &buffer[..read];
    ensure!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"\r\n\r\nok"), "a wrong answer: {answer:?}");
    Ok(())
}

fn http1(server: &Server, rounds: u32) -> anyhow::Result<()> {
    let connections: anyhow::Result<Vec<_>> =
        (0..CONNECTIONS).map(|_| server.rests_after(|| connect(server.address))).collect();
    let mut connections = connections?;
    (0..rounds)
        .try_for_each(|_| connections.iter_mut().try_for_each(|connection| server.rests_after(|| ask(connection))))
}

/// One that is accepted before it asks, and done with before the next comes.
fn connection(server: &Server, requests: u32) -> anyhow::Result<()> {
    let mut stream = server.rests_after(|| connect(server.address))?;
    (0..requests).try_for_each(|_| server.rests_after(|| ask(&mut stream)))?;
    server.rests_after(|| {
        drop(stream);
        Ok(())
    })
}

fn http2(server: SocketAddr, rounds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for _ in 0..CONNECTIONS {
            let stream = tokio::net::TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let (mut client, connection) = h2::client::handshake(stream).await?;
            tokio::pin!(connection);
            let asking = async {
                for _ in 0..rounds {
                    let mut answers = Vec::with_capacity(STREAMS);
                    for _ in 0..STREAMS {
                        let request = Request::get("http://localhost/").body(())?;
                        answers.push(client.send_request(request, true)?.0);
                    }
                    for answer in answers {
                        let mut body = answer.await?.into_body();
                        let data: Bytes = body.data().await.context("no body")??;
                        ensure!(data == "ok", "a wrong answer: {data:?}");
                        ensure!(body.data().await.is_none(), "more than the answer");
                    }
                }
                Ok(())
            };
            tokio::select! {
                asked = asking => asked?,
                ended = &mut connection => ended.context("the connection ended before its requests")?,
            }
        }
        Ok(())
    })
}
