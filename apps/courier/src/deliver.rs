//! Takes due messages and delivers them, a bounded number at a time, until the drain.
//!
//! 1. A message is claimed in the database before it is sent, and settled after: a kill in between means that it is sent again.
//! 2. From the drain on nothing is claimed. What is claimed is sent, in tracked tasks: the end waits for them, and nothing is sent twice.
//! 3. What the deadline cuts is still claimed; the database's closing hook puts it back into the queue.

use std::sync::Arc;
use std::time::Duration;

use glidepath::{Drain, Lifecycle, Tasks};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Client;
use crate::config::Config;
use crate::message::{Message, State};
use crate::retry::{Next, Outcome, Plan};
use crate::store::Store;

/// How often to look for retries that fell due, and for messages that other couriers accepted.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How much longer a claim holds than an attempt can take. Covers a slow commit and clocks that differ between couriers.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Starts the background work. It ends by itself when the drain begins.
pub fn start(lifecycle: &Lifecycle, store: &Store, config: &Config) -> anyhow::Result<()> {
    let dispatcher = Dispatcher {
        courier: Courier {
            store: store.clone(),
            client: Client::new(config.targets, config.signer.clone(), config.attempt_timeout)?,
            retries: config.retries,
        },
        room: Arc::new(Semaphore::new(config.concurrency.into())),
        lease: config.attempt_timeout + LEASE_MARGIN,
        drain: lifecycle.drain(),
        tasks: lifecycle.tasks(),
    };
    lifecycle.tasks().spawn("dispatch", dispatcher.run());
    Ok(())
}

/// Hands messages to deliveries. It alone takes permits, so room that it has seen stays free for it.
struct Dispatcher {
    courier: Courier,
    room: Arc<Semaphore>,
    lease: Duration,
    drain: Drain,
    tasks: Tasks,
}

impl Dispatcher {
    async fn run(self) {
        while let Some(permit) = self.room_before_drain().await {
            // Not cancelled by the drain: a claim that is under way may be committed, and must then be carried out.
            match self.courier.store.claim(1 + self.room.available_permits(), self.lease).await {
                Ok(messages) if messages.is_empty() => self.wait_for_work().await,
                Ok(messages) => self.send_out(messages, permit),
                Err(error) => {
                    tracing::error!(%error, "no messages could be claimed; trying again");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    async fn room_before_drain(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.drain.draining() => None,
            permit = Arc::clone(&self.room).acquire_owned() => permit.ok(),
        }
    }

    async fn wait_for_work(&self) {
        tokio::select! {
            () = self.drain.draining() => {}
            () = self.courier.store.work() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }

    fn send_out(&self, messages: Vec<Message>, first: OwnedSemaphorePermit) {
        let mut first = Some(first);
        for message in messages {
            let permit = first.take().or_else(|| Arc::clone(&self.room).try_acquire_owned().ok());
            let courier = self.courier.clone();
            self.tasks.spawn(format!("deliver {}", message.id), async move {
                courier.deliver(message).await;
                drop(permit);
            });
        }
    }
}

/// What every delivery needs.
#[derive(Clone)]
struct Courier {
    store: Store,
    client: Client,
    retries: Plan,
}

impl Courier {
    async fn deliver(&self, mut message: Message) {
        let attempt = u32::try_from(message.attempts + 1).unwrap_or(u32::MAX);
        let outcome = self.client.attempt(&message, attempt).await;
        let next = self.retries.after(attempt, &outcome, fastrand::f64());
        tell(&message.id, attempt, &outcome, &next);
        record(&mut message, attempt, &outcome, &next, Timestamp::now().as_millisecond());
        let id = message.id.clone();
        match self.store.settle(message).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(id, "the claim had lapsed; another courier has this message now"),
            Err(error) => {
                tracing::error!(id, %error, "the attempt was not recorded; it is made again when the claim lapses")
            }
        }
    }
}

/// Writes into the message how it goes on.
fn record(message: &mut Message, attempt: u32, outcome: &Outcome, next: &Next, now: i64) {
    let (state, due_at) = match next {
        Next::Delivered => (State::Delivered, now),
        Next::Dead => (State::Dead, now),
        Next::RetryIn(delay) => {
            (State::Queued, now.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
        }
    };
    message.state = state;
    message.attempts = attempt.into();
    message.due_at = due_at;
    message.last_status = outcome.status().map(i64::from);
    message.last_error = outcome.complaint();
}

fn tell(id: &str, attempt: u32, outcome: &Outcome, next: &Next) {
    let complaint = outcome.complaint().unwrap_or_default();
    match next {
        Next::Delivered => tracing::debug!(id, attempt, "delivered"),
        Next::RetryIn(delay) => tracing::info!(id, attempt, complaint, ?delay, "not delivered; trying again"),
        Next::Dead => tracing::warn!(id, attempt, complaint, "not delivered; giving up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Draft;
    use crate::target::Targets;

    #[test]
    fn what_an_attempt_leaves_behind() {
        let draft: Draft = serde_json::from_str(r#"{"url":"https://example.com/","payload":1}"#).unwrap();
        let fresh = draft.check(Targets::Public).unwrap();
        let answered = |status| Outcome::Answered { status, retry_after: None };
        for (outcome, next, state, due_at, status, error) in [
            (answered(204), Next::Delivered, State::Delivered, 1000, Some(204), None),
            (
                answered(500),
                Next::RetryIn(Duration::from_secs(2)),
                State::Queued,
                3000,
                Some(500),
                Some("answered 500"),
            ),
            (Outcome::Failed("no route".into()), Next::Dead, State::Dead, 1000, None, Some("no route")),
        ] {
            let mut message = fresh.clone();
            record(&mut message, 3, &outcome, &next, 1000);
            assert_eq!((message.state, message.attempts, message.due_at), (state, 3, due_at));
            assert_eq!((message.last_status, message.last_error.as_deref()), (status, error));
        }
    }
}
