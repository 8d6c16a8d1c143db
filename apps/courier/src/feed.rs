//! What happens, as it happens: one endless stream of changes, which the SSE and the WebSocket edge send on.

use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;

use crate::message::Message;
use crate::store::Store;

const PAGE: i64 = 256;

/// The changes after `after`, or from now on.
///
/// A follower that comes back, or one too slow for the live channel, is caught up from the database. It then gets each
/// message in its last state and may miss the ones between. Where couriers share a database, the live part tells of this one.
pub fn follow(store: Store, after: Option<i64>) -> impl Stream<Item = Arc<Message>> {
    async_stream::stream! {
        // Subscribed before the database is read: what is committed meanwhile comes twice, and is known by its number.
        let mut live = store.changes();
        let mut last = after.unwrap_or(0);
        let mut behind = after.is_some();
        loop {
            while behind {
                let page = match store.changed_since(last, PAGE).await {
                    Ok(page) => page,
                    // The client comes back with the last number that it has seen.
                    Err(error) => return tracing::error!(%error, "a feed ends: the database failed"),
                };
                behind = page.len() as i64 == PAGE;
                for message in page {
                    last = message.changed;
                    yield Arc::new(message);
                }
            }
            match live.recv().await {
                Ok(message) if message.changed > last => {
                    last = message.changed;
                    yield message;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => behind = true,
                Err(RecvError::Closed) => break,
            }
        }
    }
}
