//! The requests of one connection that are with the app.
//!
//! A place that a request has left keeps what it holds for the next one: every request comes by here, and nothing is
//! allocated, moved or dropped for it. Bodies may outlive their requests, so a [`Key`] says which of the connection's
//! requests it means, and not only where that is.

use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use http::{Method, Uri};

use crate::report::{self, Kind, Running};

/// The room of a longer path is not kept for the next one.
const LONG_PATH: usize = 256;
/// No place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Requests {
    places: Vec<Place>,
    /// The place that was left last.
    free: u32,
    open: u32,
}

impl Default for Requests {
    fn default() -> Self {
        Self { places: Vec::new(), free: NONE, open: 0 }
    }
}

#[derive(Debug)]
struct Place {
    request: Request,
    is_open: bool,
    /// The place that was left before this one.
    free: u32,
}

/// A request with the app.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    /// Without the query, which may hold secrets.
    path: String,
    since: u64,
    /// Which of the connection's requests it is.
    nth: u32,
    /// The app has taken its stream over (HTTP/2).
    pub(super) upgraded: bool,
    /// Wakes whoever polls it, where that is not the connection's task (HTTP/2).
    pub(super) waker: Option<Waker>,
    /// Bytes of its body, on HTTP/2.
    pub(super) received: u64,
    /// Of its answer's, given to hyper.
    pub(super) sent: u64,
}

/// One request of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    place: u32,
    pub(super) nth: u32,
}

/// The counts of one connection's requests, as [`report::Requests`] has them. Small: every connection at rest has one.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) started: u64,
    pub(super) answered: u64,
    pub(super) abandoned: u64,
    pub(super) answered_late: u32,
    pub(super) cut: u32,
    pub(super) panicked: u32,
}

impl Count {
    pub(super) fn account(&self) -> report::Requests {
        report::Requests {
            started: self.started,
            answered: self.answered,
            answered_late: self.answered_late.into(),
            abandoned: self.abandoned,
            cut: self.cut.into(),
            panicked: self.panicked.into(),
        }
    }
}

impl Requests {
    /// `since` is when it began, in coarse milliseconds.
    #[inline]
    pub(super) fn begin(&mut self, method: &Method, uri: &Uri, since: u64, nth: u32) -> Key {
        if self.free == NONE {
            self.add_place();
        }
        let place = self.free;
        if let Some(Place { request, is_open, free }) = self.places.get_mut(place as usize) {
            self.free = *free;
            self.open += 1;
            *is_open = true;
            if request.method != *method {
                request.method = method.clone();
            }
            request.path.clear();
            if request.path.capacity() > LONG_PATH {
                request.path = String::new();
            }
            request.path.push_str(uri.path());
            request.since = since;
            request.nth = nth;
            request.upgraded = false;
            request.received = 0;
            request.sent = 0;
        }
        Key { place, nth }
    }

    #[cold]
    fn add_place(&mut self) {
        let request = Request {
            method: Method::GET,
            path: String::new(),
            since: 0,
            nth: 0,
            upgraded: false,
            waker: None,
            received: 0,
            sent: 0,
        };
        self.free = self.places.len() as u32;
        self.places.push(Place { request, is_open: false, free: NONE });
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Request> {
        let place = self.places.get_mut(key.place as usize)?;
        (place.is_open && place.request.nth == key.nth).then_some(&mut place.request)
    }

    /// The request leaves. What it was can be read until the next one begins.
    #[inline]
    pub(super) fn end(&mut self, key: Key) -> Option<&Request> {
        let place = self.places.get_mut(key.place as usize)?;
        if !place.is_open || place.request.nth != key.nth {
            return None;
        }
        self.open -= 1;
        place.leave(&mut self.free, key.place);
        Some(&place.request)
    }

    /// All leave.
    #[inline]
    pub(super) fn clear(&mut self) {
        if self.open == 0 {
            return;
        }
        self.open = 0;
        for (number, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.is_open) {
            place.leave(&mut self.free, number as u32);
        }
    }

    #[inline]
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.places.iter().filter(|place| place.is_open).map(|place| &place.request)
    }

    /// Keeps no room, if there is no request.
    pub(super) fn slim(&mut self) {
        if self.open == 0 {
            *self = Self::default();
        }
    }
}

impl Place {
    #[inline]
    fn leave(&mut self, free: &mut u32, number: u32) {
        self.is_open = false;
        self.free = std::mem::replace(free, number);
        self.request.waker = None;
    }
}

impl Request {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// So many of its body have come, and so many of its answer's have gone, on HTTP/2.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// `bytes`: so many of its body have come, and so many of its answer's have gone.
    pub(super) fn running(&self, now: u64, peer: Option<SocketAddr>, bytes: (u64, u64)) -> Running {
        let kind = if self.upgraded { Kind::Upgraded } else { Kind::Request };
        let bytes = Some(bytes).filter(|_| !self.upgraded);
        Running {
            peer: peer.map(|peer| peer.to_string()),
            received: bytes.map(|(received, _)| received),
            sent: bytes.map(|(_, sent)| sent),
            ..Running::new(kind, self.name(), Duration::from_millis(now.saturating_sub(self.since)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(requests: &mut Requests, path: &'static str, nth: u32) -> Key {
        requests.begin(&Method::GET, &Uri::from_static(path), u64::from(nth), nth)
    }

    fn names(requests: &Requests) -> Vec<String> {
        requests.iter().map(Request::name).collect()
    }

    #[test]
    fn a_place_is_used_again_and_its_last_request_is_known_no_more() {
        let mut requests = Requests::default();
        let first = begin(&mut requests, "/first?secret=1", 0);
        let other = begin(&mut requests, "/other", 1);
        assert_eq!(names(&requests), ["GET /first", "GET /other"]);
        requests.get_mut(first).unwrap().upgraded = true;
        requests.get_mut(first).unwrap().sent = 7;
        assert_eq!(requests.end(first).map(Request::name).as_deref(), Some("GET /first"));
        assert!(requests.end(first).is_none(), "it has left");
        let next = begin(&mut requests, "/next", 2);
        assert_eq!(next.place, first.place);
        assert!(requests.get_mut(first).is_none() && requests.end(first).is_none(), "its place is another's");
        let request = requests.get_mut(next).unwrap();
        assert_eq!((request.upgraded, request.bytes(), request.since), (false, (0, 0), 2));
        assert_eq!(names(&requests), ["GET /next", "GET /other"]);
        requests.slim();
        assert_eq!(requests.open(), 2, "what is open stays");
        requests.clear();
        assert!(requests.get_mut(next).is_none() && requests.get_mut(other).is_none());
        assert_eq!((requests.open(), names(&requests).len(), requests.places.len()), (0, 0, 2));
        begin(&mut requests, "/a", 3);
        begin(&mut requests, "/b", 4);
        begin(&mut requests, "/c", 5);
        assert_eq!((requests.open(), requests.places.len()), (3, 3), "two were free");
        requests.clear();
        requests.slim();
        assert_eq!(requests.places.capacity(), 0);
    }

    #[test]
    fn who_has_left_holds_no_waker_and_the_next_one_no_room_for_a_long_path() {
        let mut requests = Requests::default();
        let long = format!("/{}", "x".repeat(4 * LONG_PATH));
        let key = requests.begin(&Method::POST, &long.parse().unwrap(), 0, 0);
        requests.get_mut(key).unwrap().waker = Some(Waker::noop().clone());
        let ended = requests.end(key).unwrap();
        assert_eq!((ended.name(), ended.waker.is_none()), (format!("POST {long}"), true));
        let key = begin(&mut requests, "/short", 1);
        let request = requests.get_mut(key).unwrap();
        assert_eq!(request.name(), "GET /short");
        assert!(request.path.capacity() <= LONG_PATH);
    }
}
