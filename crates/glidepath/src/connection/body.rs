//! A request's body as the app gets it: hyper's, and the connection hears when it was read to its end.
//!
//! Only then does what comes next on the socket begin a request. A connection whose last body was not read is never
//! taken from hyper: the rest of that body would be read as a request (request smuggling).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::entry::Entry;
use super::requests::Key;

/// The body of a request, streamed.
///
/// Reading it is what [`http_body::Body`] offers; axum's extractors and `http-body-util` do the rest.
pub struct Body {
    inner: Incoming,
    /// Told of what comes and of the end; `None` where there is nothing to read, or the end was told.
    entry: Option<Arc<Entry>>,
    key: Key,
    http1: bool,
}

impl Body {
    #[inline]
    pub(super) fn new(inner: Incoming, entry: &Arc<Entry>, key: Key, http1: bool) -> Self {
        // On HTTP/2 hyper takes a lock to tell, and the end of a body is of no interest: no other request follows in it.
        let unread = !http1 || !http_body::Body::is_end_stream(&inner);
        Self { inner, entry: unread.then(|| Arc::clone(entry)), key, http1 }
    }

    fn tell_end(&mut self) {
        if let Some(entry) = self.entry.take_if(|_| self.http1) {
            entry.body_ended();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.tell_end(),
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(entry), Some(data)) = (&self.entry, frame.data_ref()) {
                    entry.received(self.key, data.len());
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // A body of known length is at its end with its last byte; nobody has to ask once more.
        if self.http1 && self.entry.is_some() && http_body::Body::is_end_stream(&self.inner) {
            self.tell_end();
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("inner", &self.inner).finish_non_exhaustive()
    }
}
