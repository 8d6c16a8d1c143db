//! What handlers and tasks see of the end: a flag and a future.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::sync::atomic::{AtomicBool, Ordering};

/// A view of the drain, cheap to clone.
///
/// Sticky: who asks late is told at once. Nothing is cancelled by it; it is for handlers that would rather hurry,
/// end a stream early or say goodbye themselves.
///
/// ```
/// # async fn handler(drain: glidepath::Drain) {
/// tokio::select! {
///     () = drain.draining() => { /* finish early */ }
///     () = std::future::ready(()) => { /* the long work */ }
/// }
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Drain {
    token: CancellationToken,
    stopping: Arc<AtomicBool>,
}

impl Drain {
    /// True once the service was asked to stop: in the lame duck too, when requests are still served.
    ///
    /// What a readiness probe should answer 503 for.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// True once the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the drain begins; at once if it has begun.
    ///
    /// Cancel safe: holds no place in a queue.
    pub async fn draining(&self) {
        self.token.cancelled().await;
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn begin(&self) {
        self.stop();
        self.token.cancel();
    }
}

/// Streams that end with the drain.
///
/// ```
/// use glidepath::{Drain, UntilDraining};
/// # fn events(drain: Drain) -> impl futures_core::Stream<Item = u32> {
/// futures_util::stream::iter([1, 2, 3]).until_draining(&drain)
/// # }
/// ```
pub trait UntilDraining: Stream + Sized {
    /// The same items, and the end of the stream as soon as the drain begins.
    fn until_draining(self, drain: &Drain) -> Until<Self> {
        Until { stream: self, drain: Box::pin(drain.token.clone().cancelled_owned()), done: false }
    }
}

impl<S: Stream> UntilDraining for S {}

pin_project! {
    /// The stream that [`UntilDraining::until_draining`] makes.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Until<S> {
        #[pin]
        stream: S,
        drain: Pin<Box<WaitForCancellationFutureOwned>>,
        done: bool,
    }
}

impl<S: Stream> Stream for Until<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        *this.done |= !*this.done && this.drain.as_mut().poll(cx).is_ready();
        if *this.done { Poll::Ready(None) } else { this.stream.poll_next(cx) }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.stream.size_hint().1)
    }
}
