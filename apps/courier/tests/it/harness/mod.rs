//! What the tests stand on: a courier process, a receiver that records, a client, and bounds on every wait.

mod courier;
mod http;
mod receiver;

use std::future::Future;
use std::time::Duration;

pub use self::courier::Courier;
pub use self::http::{Answer, Session, get, post, request};
pub use self::receiver::Receiver;

/// The most that anything in these tests may take. Reached only when something is broken.
pub const BOUND: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {BOUND:?}"),
    }
}

/// A message for `url`, as JSON.
pub fn draft(url: &str) -> String {
    serde_json::json!({ "url": url, "payload": { "hello": "world" } }).to_string()
}
