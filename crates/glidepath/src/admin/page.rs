//! The admin page: who may see it, and what its paths answer. What it shows is in `feed.rs`.
//!
//! It has no session and no cookie. What it shows goes to whoever is near (or to everyone, by setting), and what its buttons do
//! needs the token, in a header that a page of somebody else's cannot send without a question (CORS) that is never answered yes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};

use super::body::Said;
use super::feed::Feed;
use super::{not_allowed, plain};
use crate::connection::PeerAddr;
use crate::sync::{Mutex, lock};

/// Where `{…}` stands, [`Page::html`] puts style, script and nonce.
const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who may see the page. Nobody, unless it is turned on.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) is_open: bool,
    /// And not only from this machine.
    pub(super) from_anywhere: bool,
    /// Names by which the page is reached, besides addresses and `localhost`.
    pub(super) hosts: Vec<String>,
}

/// How a listener is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) over_ip: bool,
    pub(super) over_tls: bool,
}

/// The page of one listener.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) doors: Arc<Mutex<Doors>>,
    pub(super) feed: Arc<Feed>,
    pub(super) way: Way,
}

impl Page {
    pub(super) fn is_on(&self) -> bool {
        lock(&self.doors).is_open
    }

    /// The answer, where the page has this path.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Said>> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/events") || !self.is_on() {
            return None;
        }
        let mut response = match (self.refuses(request), path, request.method()) {
            (Some(refused), ..) => refused.map(Said::from),
            (None, "/", &Method::GET | &Method::HEAD) => html().map(Said::from),
            (None, "/", _) => not_allowed("GET, HEAD", "GET or HEAD").map(Said::from),
            (None, _, &Method::GET) => self.feed.watch(),
            (None, ..) => not_allowed("GET", "GET").map(Said::from),
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        Some(response)
    }

    /// Whether a request to act comes from this very page, as the browser says. One that names no page comes from none.
    pub(super) fn sent<B>(&self, request: &Request<B>) -> bool {
        self.is_on() && self.refuses(request).is_none()
    }

    fn refuses<B>(&self, request: &Request<B>) -> Option<Response<String>> {
        let refuse = |says: &str| Some(plain(StatusCode::FORBIDDEN, says));
        let doors = lock(&self.doors);
        let peer = request.extensions().get::<PeerAddr>().map(|PeerAddr(address)| *address);
        if !doors.let_in(peer, self.way.over_ip) {
            return refuse(
                "the page is for whoever is on this machine; `Server::admin_page_from_anywhere` opens it to others",
            );
        }
        // Somebody else's name that leads here by their DNS would make their page one of this origin (DNS rebinding).
        let Some(host) = host(request).filter(|host| doors.know(host)) else {
            return refuse(
                "the page is reached by an IP address or as `localhost`; `Server::admin_page_host` allows another name",
            );
        };
        drop(doors);
        if !is_same_origin(request.uri().path(), request.headers(), &host, self.way.over_tls) {
            return refuse("not from another web page");
        }
        None
    }
}

impl Doors {
    /// A unix socket is on this machine; a peer over IP that is not known is not.
    fn let_in(&self, peer: Option<SocketAddr>, over_ip: bool) -> bool {
        let is_near = match peer {
            Some(peer) => peer.ip().to_canonical().is_loopback(),
            None => !over_ip,
        };
        is_near || self.from_anywhere
    }

    fn know(&self, host: &Authority) -> bool {
        let name = host.host();
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        literal.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// By what name the client has come, and by which port. `None` where it does not say so in one way only.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let mut named = request.headers().get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok()?,
        // HTTP/2 has it in the URI.
        (None, _) => request.uri().authority()?.clone(),
        (Some(_), Some(_)) => return None,
    };
    (!host.as_str().contains('@')).then_some(host)
}

/// Whether no page of another origin has sent this, as far as the browser tells. The page itself may be come to from anywhere.
fn is_same_origin(path: &str, headers: &HeaderMap, host: &Authority, over_tls: bool) -> bool {
    let scheme = if over_tls { "https" } else { "http" };
    let own = format!("{scheme}://{host}");
    let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    let is_near = |site: &HeaderValue| path == "/" || matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.get_all(ORIGIN).iter().all(is_own) && headers.get_all(SEC_FETCH_SITE).iter().all(is_near)
}

/// The page. Its style and script are what a nonce of this answer names, and nothing is loaded from elsewhere.
fn html() -> Response<String> {
    let nonce = match random() {
        Ok(nonce) => nonce,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("no random numbers: {error}")),
    };
    let text = HTML.replace("{style}", STYLE).replace("{script}", SCRIPT).replace("{nonce}", &nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = Response::new(text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// 128 random bits, as 32 letters and digits.
pub(super) fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::driver::Shared;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/events");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn see_6_who_is_near_may_see_it_and_others_by_setting() {
        let (near, anywhere) = (Doors::default(), Doors { from_anywhere: true, ..Doors::default() });
        let peer = |text: &str| Some(text.parse().unwrap());
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(near.let_in(peer(loopback), true), "{loopback}");
        }
        for other in ["192.0.2.1:1", "10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1", "0.0.0.0:1"] {
            assert!(!near.let_in(peer(other), true), "{other}");
            assert!(anywhere.let_in(peer(other), true), "{other}");
        }
        assert!(near.let_in(None, false), "a unix socket");
        assert!(!near.let_in(None, true), "a peer that is gone");
    }

    #[test]
    fn see_6_the_page_is_reached_by_an_address_or_a_name_that_was_set() {
        let doors = Doors { hosts: vec!["admin.example".into()], ..Doors::default() };
        let knows = |host_: &str| host(&request(&[("host", host_)])).is_some_and(|host| doors.know(&host));
        for known in [
            "127.0.0.1",
            "127.0.0.1:4001",
            "192.0.2.1",
            "[::1]",
            "[::1]:4001",
            "localhost:4001",
            "LocalHost",
            "Admin.Example:80",
        ] {
            assert!(knows(known), "{known}");
        }
        for unknown in
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1", "[::1", "1"]
        {
            assert!(!knows(unknown), "{unknown}");
        }
        assert!(host(&request(&[])).is_none(), "no host");
        assert!(host(&request(&[("host", "127.0.0.1"), ("host", "127.0.0.1")])).is_none(), "two of them");
    }

    #[tokio::test]
    async fn see_6_others_are_told_which_setting_lets_them_in() {
        let doors = Arc::new(Mutex::new(Doors { is_open: true, ..Doors::default() }));
        let feed = Feed::new(Shared::new(None));
        let page = Page { doors: Arc::clone(&doors), feed, way: Way { over_ip: true, over_tls: false } };
        let ask = |peer: &str, headers: &[(&str, &str)]| {
            let mut request = request(headers);
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(PeerAddr(peer));
            (page.answer(&request).map(|answer| answer.status().as_u16()), page.sent(&request))
        };
        let by_address = [("host", "192.0.2.9:4001")];
        assert_eq!(ask("127.0.0.1:1", &by_address), (Some(200), true));
        assert_eq!(ask("192.0.2.1:1", &by_address), (Some(403), false));
        let refused = page.refuses(&request(&by_address)).expect("nobody is known to be near");
        assert!(refused.body().contains("Server::admin_page_from_anywhere"), "{}", refused.body());
        lock(&doors).from_anywhere = true;
        assert_eq!(ask("192.0.2.1:1", &by_address), (Some(200), true));
        let by_name = [("host", "admin.example"), ("origin", "http://admin.example")];
        assert_eq!(ask("192.0.2.1:1", &by_name), (Some(403), false));
        lock(&doors).hosts.push("admin.example".into());
        assert_eq!(ask("192.0.2.1:1", &by_name), (Some(200), true));
        lock(&doors).is_open = false;
        assert_eq!(ask("127.0.0.1:1", &by_address), (None, false));
    }

    #[test]
    fn see_7_only_the_page_itself_may_ask() {
        let own = Authority::from_static("127.0.0.1:4001");
        let passes =
            |path: &str, headers: &[(&str, &str)], tls| is_same_origin(path, request(headers).headers(), &own, tls);
        assert!(passes("/drain", &[], false), "no browser");
        assert!(passes("/drain", &[("origin", "http://127.0.0.1:4001"), ("sec-fetch-site", "same-origin")], false));
        assert!(passes("/drain", &[("origin", "https://127.0.0.1:4001")], true));
        for origin in [
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:4002",
            "https://127.0.0.1:4001",
            "http://evil.example",
            "http://localhost:4001",
        ] {
            assert!(!passes("/drain", &[("origin", origin)], false), "{origin}");
        }
        let both = [("origin", "http://127.0.0.1:4001"), ("origin", "http://evil.example")];
        assert!(!passes("/drain", &both, false), "two origins");
        for (site, of_events) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            assert_eq!(passes("/events", &[("sec-fetch-site", site)], false), of_events, "{site}");
            assert!(passes("/", &[("sec-fetch-site", site)], false), "a link leads there: {site}");
        }
    }

    #[test]
    fn see_6_nothing_runs_in_the_page_that_is_not_its_own() {
        let response = html();
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        assert!(nonce.len() == 32 && policy.starts_with("default-src 'none';"), "{policy}");
        let page = response.body();
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "the style and the script");
        assert!(!page.contains("{nonce}") && !page.contains("{style}") && !page.contains("{script}"));
        assert!(!page.contains("://") && !page.contains("innerHTML"), "it loads nothing, and writes no markup");
        assert_ne!(html().headers()[CONTENT_SECURITY_POLICY], *policy, "a nonce is of one answer");
    }
}
