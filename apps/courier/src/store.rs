//! Where messages are kept: a SQLite file, or a PostgreSQL database that several couriers share.
//!
//! 1. Everything that writes goes through one [`writer`] task, which commits what has gathered in one transaction (group commit).
//! 2. A caller is answered after the commit, never before.
//! 3. A request that is dropped half-way takes no half-done transaction with it: the writer owns them all.
//! 4. The SQL text is the same for both databases; [`Place`] knows the few differences.

mod place;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::AnyPool;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

pub use self::place::Place;
pub use self::writer::{Accepted, Key};
use self::writer::{Op, Writer};
use crate::message::{Message, State};

/// The most operations that wait for a commit; beyond it callers wait for room.
const QUEUE: usize = 1024;
/// The most changes that a slow follower of the feed may lag behind before it is sent to the database.
const FEED: usize = 1024;
/// SQLite does not stop when its caller is gone: the close is bounded, whatever a query does.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the write was not committed")]
    NotCommitted,
}

/// A handle on the store; cloning is cheap.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    ops: mpsc::Sender<Op>,
    changes: broadcast::Sender<Arc<Message>>,
    work: Arc<Notify>,
}

impl Store {
    /// Opens the database, brings its tables up to date, and takes back what a killed predecessor held.
    pub async fn open(place: &Place) -> anyhow::Result<Self> {
        let opened = place.open().await?;
        let (ops, inbox) = mpsc::channel(QUEUE);
        let changes = broadcast::Sender::new(FEED);
        let work = Arc::new(Notify::new());
        let store = Self { pool: opened.pool.clone(), ops, changes: changes.clone(), work: Arc::clone(&work) };
        let last = sqlx::query_scalar("SELECT COALESCE(MAX(changed), 0) FROM messages").fetch_one(&store.pool).await?;
        start(Writer::new(opened, changes, work, last), inbox);
        Ok(store)
    }

    /// Stores a message. With a key, the same request again gets the first one's id.
    pub async fn accept(&self, message: Message, key: Option<Key>) -> Result<Accepted, StoreError> {
        answer(self.submit(message, key).await?).await
    }

    /// Hands a message to the writer and returns before the commit, so that an import can have many under way.
    pub async fn submit(&self, message: Message, key: Option<Key>) -> Result<oneshot::Receiver<Accepted>, StoreError> {
        self.send(|reply| Op::Accept { message, key, reply }).await
    }

    /// Takes up to `limit` due messages for this courier. The claim lapses after `lease`, should the process be killed.
    pub async fn claim(&self, limit: usize, lease: Duration) -> Result<Vec<Message>, StoreError> {
        answer(self.send(|reply| Op::Claim { limit, lease, reply }).await?).await
    }

    /// Records how an attempt left the message. False when the claim had lapsed and another courier holds it.
    pub async fn settle(&self, message: Message) -> Result<bool, StoreError> {
        answer(self.send(|reply| Op::Settle { message, reply }).await?).await
    }

    /// Puts everything that this courier still holds back into the queue.
    pub async fn release(&self) -> Result<u64, StoreError> {
        answer(self.send(|reply| Op::Release { reply }).await?).await
    }

    async fn send<T>(&self, op: impl FnOnce(oneshot::Sender<T>) -> Op) -> Result<oneshot::Receiver<T>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ops.send(op(reply)).await.map_err(|_gone| StoreError::NotCommitted)?;
        Ok(answer)
    }

    /// Waits until something new may be due. What was said while nobody waited counts.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    pub async fn get(&self, id: &str) -> Result<Option<Message>, StoreError> {
        Ok(sqlx::query_as("SELECT * FROM messages WHERE id = $1").bind(id).fetch_optional(&self.pool).await?)
    }

    /// A page of messages without their payloads, newest first, older than `before`.
    pub async fn page(
        &self,
        state: Option<State>,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let query = sqlx::query_as(
            "SELECT id, url, '{}' AS headers, 'null' AS payload, event, state, attempts, created_at, due_at, changed, \
             last_status, last_error FROM messages \
             WHERE id < $1 AND ($2 = '' OR state = $2) ORDER BY id DESC LIMIT $3",
        );
        // 'g' sorts after every id, which are hexadecimal.
        let query = query.bind(before.unwrap_or("g")).bind(state.map_or("", State::as_str)).bind(limit);
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// A page of whole messages, oldest first, younger than `after`.
    pub async fn page_after(&self, after: &str, limit: i64) -> Result<Vec<Message>, StoreError> {
        let query = sqlx::query_as("SELECT * FROM messages WHERE id > $1 ORDER BY id LIMIT $2");
        Ok(query.bind(after).bind(limit).fetch_all(&self.pool).await?)
    }

    /// The messages that changed after `change`, each in its last state, in the order of their changes.
    pub async fn changed_since(&self, change: i64, limit: i64) -> Result<Vec<Message>, StoreError> {
        let query = sqlx::query_as("SELECT * FROM messages WHERE changed > $1 ORDER BY changed LIMIT $2");
        Ok(query.bind(change).bind(limit).fetch_all(&self.pool).await?)
    }

    /// The changes from now on, as they are committed.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Message>> {
        self.changes.subscribe()
    }

    /// The last thing that courier does: what is still claimed goes back, the log is folded in, the file is closed.
    pub async fn close(self) {
        match self.release().await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "interrupted deliveries went back to the queue"),
            Err(error) => tracing::error!(%error, "interrupted deliveries are taken back at the next start"),
        }
        let closed = async {
            let (reply, ended) = oneshot::channel();
            if self.ops.send(Op::Close { reply }).await.is_ok() {
                let _ = ended.await; // an error means that the writer is gone, which is what is wanted
            }
            self.pool.close().await;
        };
        match tokio::time::timeout(CLOSE_WITHIN, closed).await {
            Ok(()) => tracing::info!("the database is closed"),
            Err(_) => tracing::error!("the database did not close in time; it recovers at the next start"),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tracked tasks are waited for before the hooks, and they write through this one; `close` ends it"
)]
fn start(writer: Writer, inbox: mpsc::Receiver<Op>) {
    tokio::spawn(writer.run(inbox));
}

/// Waits for the commit. A writer that failed drops the sender.
pub async fn answer<T>(answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
    answer.await.map_err(|_gone| StoreError::NotCommitted)
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
