//! What an answer of the admin port is made of: a text, or with the feature `admin` events without an end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// An answer's body.
pub(super) enum Said {
    Text(String),
    #[cfg(feature = "admin")]
    Events(super::feed::Events),
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        #[cfg(not(feature = "admin"))]
        let _ = cx;
        let bytes = match self.get_mut() {
            Self::Text(text) if text.is_empty() => None,
            Self::Text(text) => Some(Bytes::from(std::mem::take(text))),
            #[cfg(feature = "admin")]
            Self::Events(events) => std::task::ready!(events.poll_next(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            #[cfg(feature = "admin")]
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            #[cfg(feature = "admin")]
            Self::Events(_) => SizeHint::default(),
        }
    }
}
