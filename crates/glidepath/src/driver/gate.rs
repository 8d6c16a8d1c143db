//! A part of a task that is polled only when it was itself woken. The driver accepts connections, and waits for ten other things
//! that hardly ever happen: without this, each connection that comes has all of them polled.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

pub(super) struct Gate {
    woken: AtomicBool,
    /// The task that the part belongs to.
    task: Mutex<Waker>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) })
    }

    /// Waits for `part`, which is polled at first and whenever it was woken. Cancel safe if `part` is. One at a time.
    pub(super) async fn pass<T>(self: &Arc<Self>, part: impl Future<Output = T>) -> T {
        let mut part = pin!(part);
        let waker = Waker::from(Arc::clone(self));
        self.woken.store(true, Ordering::Release);
        std::future::poll_fn(|cx| {
            // Before it is asked whether it was woken, so that no wake-up goes to a task of before.
            lock(&self.task).clone_from(cx.waker());
            if !self.woken.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            part.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let task = lock(&self.task).clone();
        task.wake();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_is_not_woken_is_not_polled() {
        let (gate, wakes) = (Gate::new(), Notify::new());
        let mut polled = 0;
        let part = async {
            let mut notified = pin!(wakes.notified());
            poll_fn(|cx| {
                polled += 1;
                notified.as_mut().poll(cx)
            })
            .await;
        };
        let mut turns = 0;
        tokio::select! {
            biased;
            () = gate.pass(part) => {}
            () = poll_fn(|cx| {
                turns += 1;
                if turns == 10 {
                    wakes.notify_one();
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }) => {}
        }
        assert_eq!((turns, polled), (10, 2));
    }
}
