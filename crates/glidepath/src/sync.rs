//! Locks and flags of what several threads share: the standard library's, or shuttle's in the tests that try out how
//! threads interleave (`--cfg shuttle`, see CONTRIBUTING.md).

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};

/// Locks, also where a thread panicked with the lock held: an account with a gap is better than none.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tries a test in many orders: at random, and with few changes of thread at places that hurt.
#[cfg(all(test, shuttle))]
pub(crate) fn explore(test: impl Fn() + Send + Sync + Copy + 'static) {
    const ORDERS: usize = 1000;
    // Sockets and timers can be made in it. It does not run: nothing is ever reported of them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    shuttle::check_random(test, ORDERS);
    shuttle::check_pct(test, ORDERS, 3);
}
