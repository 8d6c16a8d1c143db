//! The one task that writes. It takes what has gathered, commits it in one transaction, and then answers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{AnyConnection, Connection};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use uuid::Uuid;

use super::place::Opened;
use crate::message::Message;

/// The most operations in one transaction.
const BATCH: usize = 256;

/// An `Idempotency-Key` and what the request that brought it looked like.
#[derive(Clone, Debug)]
pub struct Key {
    pub key: String,
    pub fingerprint: String,
}

/// What became of a message that was to be stored.
#[derive(Debug)]
pub enum Accepted {
    New(Message),
    /// This id, or this key with the same request, was stored before.
    Known {
        id: String,
    },
    /// The key was used before, with another request.
    KeyTaken {
        id: String,
    },
}

pub enum Op {
    Accept { message: Message, key: Option<Key>, reply: oneshot::Sender<Accepted> },
    Claim { limit: usize, lease: Duration, reply: oneshot::Sender<Vec<Message>> },
    Settle { message: Message, reply: oneshot::Sender<bool> },
    Release { reply: oneshot::Sender<u64> },
    Close { reply: oneshot::Sender<()> },
}

/// What is done once the transaction is committed: answer, and tell the feeds.
type AfterCommit = Box<dyn FnOnce(&Writer) + Send>;

pub struct Writer {
    opened: Opened,
    changes: broadcast::Sender<Arc<Message>>,
    work: Arc<Notify>,
    owner: String,
    last_change: i64,
}

impl Writer {
    pub fn new(opened: Opened, changes: broadcast::Sender<Arc<Message>>, work: Arc<Notify>, last_change: i64) -> Self {
        Self { opened, changes, work, owner: Uuid::now_v7().to_string(), last_change }
    }

    /// Runs until it is told to close.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Op>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            let closing = match batch.iter().position(|op| matches!(op, Op::Close { .. })) {
                Some(at) => batch.drain(at..).next(), // what comes after a close has come too late
                None => None,
            };
            if let Err(error) = self.commit(&mut batch).await {
                tracing::error!(%error, "a transaction failed; its callers are told");
            }
            batch.clear();
            if let Some(Op::Close { reply }) = closing {
                self.checkpoint().await;
                let _ = reply.send(()); // whoever asked may have stopped waiting
                // The lock must outlast the pool's last connection.
                self.opened.pool.close().await;
                return;
            }
        }
    }

    /// All or nothing. After an error nothing was written, and every caller finds its answer's sender dropped.
    async fn commit(&mut self, batch: &mut Vec<Op>) -> Result<(), sqlx::Error> {
        if batch.is_empty() {
            return Ok(());
        }
        // Two couriers that insert the same keys in different order would wait for each other.
        batch.sort_by(|a, b| key_of(a).cmp(&key_of(b)));
        let mut connection = self.opened.pool.acquire().await?;
        let mut transaction = connection.begin_with(self.opened.begin).await?;
        let mut done = Vec::with_capacity(batch.len());
        for op in batch.drain(..) {
            done.push(self.apply(op, &mut transaction).await?);
        }
        transaction.commit().await?;
        for after_commit in done {
            after_commit(self);
        }
        Ok(())
    }

    async fn apply(&mut self, op: Op, to: &mut AnyConnection) -> Result<AfterCommit, sqlx::Error> {
        Ok(match op {
            Op::Accept { message, key, reply } => {
                let accepted = self.accept(message, key, to).await?;
                Box::new(move |writer| {
                    if let Accepted::New(message) = &accepted {
                        writer.work.notify_one();
                        writer.tell(message);
                    }
                    let _ = reply.send(accepted); // a client that is gone needs no answer
                })
            }
            Op::Claim { limit, lease, reply } => {
                let claimed = self.claim(limit, lease, to).await?;
                Box::new(move |_| _ = reply.send(claimed))
            }
            Op::Settle { mut message, reply } => {
                let held = self.settle(&mut message, to).await?;
                Box::new(move |writer| {
                    if held {
                        writer.tell(&message);
                    }
                    let _ = reply.send(held);
                })
            }
            Op::Release { reply } => {
                let count = self.release(to).await?;
                Box::new(move |_| _ = reply.send(count))
            }
            Op::Close { .. } => Box::new(|_| ()), // taken out by `run`
        })
    }

    async fn accept(
        &mut self,
        mut message: Message,
        key: Option<Key>,
        to: &mut AnyConnection,
    ) -> Result<Accepted, sqlx::Error> {
        message.changed = self.next_change();
        let insert = sqlx::query(
            "INSERT INTO messages (id, url, payload, event, headers, state, attempts, created_at, due_at, changed, \
             last_status, last_error, idempotency_key, fingerprint) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
        );
        let insert = insert
            .bind(message.id.clone())
            .bind(message.url.clone())
            .bind(message.payload.clone())
            .bind(message.event.clone())
            .bind(message.headers.clone())
            .bind(message.state.as_str())
            .bind(message.attempts)
            .bind(message.created_at)
            .bind(message.due_at)
            .bind(message.changed)
            .bind(message.last_status)
            .bind(message.last_error.clone())
            .bind(key.as_ref().map(|key| key.key.clone()))
            .bind(key.as_ref().map(|key| key.fingerprint.clone()));
        if insert.execute(&mut *to).await?.rows_affected() == 1 {
            return Ok(Accepted::New(message));
        }
        let Some(Key { key, fingerprint }) = key else { return Ok(Accepted::Known { id: message.id }) };
        let known = sqlx::query_as("SELECT id, fingerprint FROM messages WHERE idempotency_key = $1");
        let (id, first): (String, String) = known.bind(key).fetch_one(to).await?;
        Ok(if first == fingerprint { Accepted::Known { id } } else { Accepted::KeyTaken { id } })
    }

    async fn claim(
        &mut self,
        limit: usize,
        lease: Duration,
        to: &mut AnyConnection,
    ) -> Result<Vec<Message>, sqlx::Error> {
        let now = super::now();
        let lapses = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claim = sqlx::query_as(self.opened.claim).bind(lapses).bind(self.owner.clone()).bind(now).bind(limit);
        claim.fetch_all(to).await
    }

    async fn settle(&mut self, message: &mut Message, to: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        message.changed = self.next_change();
        let settle = sqlx::query(
            "UPDATE messages SET state = $1, attempts = $2, due_at = $3, changed = $4, last_status = $5, last_error = $6, \
             owner = NULL WHERE id = $7 AND owner = $8",
        );
        let settle = settle
            .bind(message.state.as_str())
            .bind(message.attempts)
            .bind(message.due_at)
            .bind(message.changed)
            .bind(message.last_status)
            .bind(message.last_error.clone())
            .bind(message.id.clone())
            .bind(self.owner.clone());
        Ok(settle.execute(to).await?.rows_affected() == 1)
    }

    async fn release(&mut self, to: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let release = sqlx::query(
            "UPDATE messages SET state = 'queued', due_at = $1, owner = NULL WHERE state = 'delivering' AND owner = $2",
        );
        Ok(release.bind(super::now()).bind(self.owner.clone()).execute(to).await?.rows_affected())
    }

    /// Strictly growing, and across restarts too: microseconds, or one more than the last.
    fn next_change(&mut self) -> i64 {
        self.last_change = Timestamp::now().as_microsecond().max(self.last_change + 1);
        self.last_change
    }

    fn tell(&self, message: &Message) {
        if self.changes.receiver_count() > 0 {
            // The payload stays out: followers see summaries, and a thousand of these may wait in the channel.
            let summary = Message { payload: String::new(), headers: String::new(), ..message.clone() };
            let _ = self.changes.send(Arc::new(summary)); // the last follower may just have left
        }
    }

    async fn checkpoint(&self) {
        let Some(statement) = self.opened.checkpoint else { return };
        if let Err(error) = sqlx::raw_sql(statement).execute(&self.opened.pool).await {
            tracing::warn!(%error, "the write-ahead log could not be folded in; the next start does it");
        }
    }
}

fn key_of(op: &Op) -> Option<&str> {
    match op {
        Op::Accept { key: Some(key), .. } => Some(&key.key),
        _ => None,
    }
}
