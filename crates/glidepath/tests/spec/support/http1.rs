//! An HTTP/1.1 client that can stop anywhere: it sends what it is told, and reads exactly what is there.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::tls::{Tls, Wire};
use super::{PATIENCE, sockets};

pub(crate) struct Client {
    pub(super) stream: BufReader<Wire>,
}

/// How the server ended a connection, after everything that it sent was read.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum End {
    Fin,
    Reset,
}

#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub(crate) fn says_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the target answers in text")
    }

    #[track_caller]
    pub(crate) fn assert_is(&self, status: u16, body: &str) -> &Self {
        assert_eq!((self.status, self.text()), (status, body));
        self
    }

    #[track_caller]
    pub(crate) fn assert_says_close(&self) -> &Self {
        assert!(self.says_close(), "no `Connection: close` in {:?}", self.headers);
        self
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn fetch(server: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(server);
    client.get(path);
    client.response()
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(server: SocketAddr) -> Self {
        Self::try_connect(server).unwrap_or_else(|error| panic!("can't connect: {error}"))
    }

    pub(crate) fn try_connect(server: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&server, PATIENCE)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(Wire::over(stream)?) })
    }

    /// A connection that the server has accepted, after the handshake if it speaks TLS.
    #[track_caller]
    pub(crate) fn accepted(server: SocketAddr) -> Self {
        let mut client = Self::before_tls(server);
        if let Wire::Tls(tls) = client.stream.get_mut() {
            tls.shake_hands().expect("the server speaks TLS");
        }
        client
    }

    /// A connection that the server has accepted, and that has said nothing.
    #[track_caller]
    pub(crate) fn before_tls(server: SocketAddr) -> Self {
        let client = Self::connect(server);
        sockets::wait_for_accept(client.socket());
        client
    }

    /// A keep-alive connection that has had one answer and is at rest now.
    #[track_caller]
    pub(crate) fn at_rest(server: SocketAddr) -> Self {
        let mut client = Self::connect(server);
        client.get("/");
        client.response().assert_is(200, "ok");
        client
    }

    /// As `connect`, with TLS of this configuration.
    #[track_caller]
    pub(crate) fn connect_with(server: SocketAddr, config: Arc<rustls::ClientConfig>) -> Self {
        let mut client = Self::connect(server);
        let socket = client.socket().try_clone().expect("room for a descriptor");
        client.stream = BufReader::new(Wire::with(socket, config));
        client
    }

    #[track_caller]
    pub(crate) fn tls(&mut self) -> &mut Tls {
        self.stream.get_mut().tls()
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref().socket()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).unwrap_or_else(|error| panic!("can't send: {error}"));
        self
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> &mut Self {
        self.send(request("GET", path, ""))
    }

    /// A request whose head is complete but for its last line end: `finish_head` sends that.
    #[track_caller]
    pub(crate) fn start_head(&mut self, method: &str, path: &str, headers: &str) -> &mut Self {
        let head = request(method, path, headers);
        self.send(&head[..head.len() - 2]).until_read()
    }

    #[track_caller]
    pub(crate) fn finish_head(&mut self) -> &mut Self {
        self.send("\r\n")
    }

    /// Returns once the server has read all that was sent: the request is in flight.
    #[track_caller]
    pub(crate) fn until_read(&mut self) -> &mut Self {
        sockets::wait_for_read(self.socket());
        self
    }

    pub(crate) fn half_close(&mut self) {
        self.socket().shutdown(Shutdown::Write).expect("it is connected");
    }

    pub(crate) fn wait_at_most(&self, bound: Duration) {
        self.socket().set_read_timeout(Some(bound)).expect("a bound above zero");
    }

    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|error| panic!("no whole response: {error}"))
    }

    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let mut response = self.try_head()?;
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.try_chunk()? {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().map_err(io::Error::other)?];
            self.stream.read_exact(&mut response.body)?;
        }
        Ok(response)
    }

    /// The response's head; its body is left to be read.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        self.try_head().unwrap_or_else(|error| panic!("no response head: {error}"))
    }

    pub(crate) fn try_head(&mut self) -> io::Result<Response> {
        let status = self.line()?;
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let mut response =
            Response { status: code.ok_or_else(|| wrong("status line", &status))?, ..Response::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(response);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("header", &line))?;
            response.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next chunk of a chunked body, or `None` at its proper end.
    #[track_caller]
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().unwrap_or_else(|error| panic!("no next chunk: {error}"))
    }

    pub(crate) fn try_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| wrong("chunk size", &size))?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        let line = self.line()?;
        if !line.is_empty() {
            return Err(wrong("end of a chunk", &line));
        }
        Ok((size > 0).then_some(chunk))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None if line.is_empty() => Err(io::Error::new(ErrorKind::UnexpectedEof, "FIN")),
            None => Err(wrong("line", &line)),
        }
    }

    /// The end of the connection, which must come without another byte.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        match self.stream.fill_buf() {
            Ok([]) => End::Fin,
            Ok(bytes) => panic!("bytes where the end was to be: {:?}", String::from_utf8_lossy(bytes)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("no end of the connection: {error}"),
        }
    }

    /// The next bytes, at most `buffer` of them; none at FIN.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    /// Whether the connection is open and silent for as long as this.
    pub(crate) fn stays_silent_for(&mut self, time: Duration) -> bool {
        self.wait_at_most(time);
        let silent = matches!(
            self.stream.fill_buf().map_err(|error| error.kind()),
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)
        );
        self.wait_at_most(PATIENCE);
        silent
    }
}

/// A request's head, with these headers (each with its line end) besides the host.
pub(crate) fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n")
}

fn wrong(what: &str, found: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a {what}: {found:?}"))
}
