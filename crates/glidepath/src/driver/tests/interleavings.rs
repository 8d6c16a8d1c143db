//! Who asks for the end, who drives it and who ends, at the same instant, in thousands of orders (see
//! `connection/tests/interleavings.rs`). Nothing here has to wait for a time: a wake-up that is lost is a deadlock.

use shuttle::future::{block_on, spawn};
use shuttle::thread;

use super::*;
use crate::connection::End;
use crate::sync::explore;

/// As [`drive`], without what needs a reactor: sockets and timers.
async fn drives(shared: Arc<Shared>) -> Report {
    shared.listeners.store(1, Ordering::Release);
    shared.dispatch(Event::Serve);
    loop {
        while let Some(command) = shared.next_command() {
            match command {
                Command::Seal => {
                    shared.listeners.store(0, Ordering::Release);
                    shared.dispatch(Event::Look);
                }
                Command::Finish => return shared.finish(None),
                Command::AbortHooks | Command::RunHooks { .. } => unreachable!("there is no hook"),
                Command::TurnAway | Command::Drain | Command::Answer | Command::Cut => {}
            }
        }
        shared.changed.notified().await;
        shared.dispatch(Event::Look);
    }
}

#[test]
fn who_asks_as_serving_begins_is_heard() {
    explore(|| {
        let shared = Shared::new(None);
        let driving = spawn(drives(Arc::clone(&shared)));
        let asking = [Event::Begin(Cause::Handle), Event::Begin(TERM)].map(|event| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.dispatch(event))
        });
        let report = block_on(driving).unwrap();
        assert_eq!(report.outcome, Outcome::Clean);
        asking.into_iter().for_each(|asking| asking.join().unwrap());
        assert_eq!(shared.phase(), Phase::Ended);
    });
}

#[test]
fn who_is_told_of_the_drain_sees_the_stop() {
    explore(|| {
        let drain = Drain::default();
        let seen = drain.clone();
        let handling = spawn(async move {
            seen.draining().await;
            assert!(seen.is_stopping() && seen.is_draining());
        });
        drain.begin();
        block_on(handling).unwrap();
    });
}

#[test]
fn who_waits_for_the_drain_is_told() {
    explore(|| {
        let shared = Shared::new(None);
        let driving = spawn(drives(Arc::clone(&shared)));
        let drain = shared.drain.clone();
        let handling = spawn(async move { drain.draining().await });
        let mut phases = shared.phases();
        let watching = spawn(async move { phases.wait_for(|phase| *phase >= Phase::Draining).await.is_ok() });
        shared.begin();
        block_on(async {
            handling.await.unwrap();
            assert!(watching.await.unwrap());
            driving.await.unwrap();
        });
    });
}

#[test]
fn the_last_that_leaves_as_the_drain_begins_ends_it() {
    explore(|| {
        let shared = Shared::new(None);
        let entry = shared.registry.enter(None);
        let driving = spawn(drives(Arc::clone(&shared)));
        let leaving = thread::spawn(move || entry.leave(End::Finished));
        shared.begin();
        let report = block_on(driving).unwrap();
        assert_eq!((report.connections.accepted, report.connections.finished), (1, 1), "{report}");
        leaving.join().unwrap();
    });
}

#[test]
fn a_report_that_two_write_is_one() {
    explore(|| {
        let shared = Shared::new(None);
        shared.begin();
        let told = Arc::new(AtomicUsize::new(0));
        let tell = Arc::clone(&told);
        shared.on_report(Box::new(move |_| {
            tell.fetch_add(1, Ordering::Relaxed);
        }));
        let entry = shared.registry.enter(None);
        let leaving = thread::spawn(move || entry.leave(End::Finished));
        // The signal thread, when the process has not ended in time.
        let standing_by = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.finish(None))
        };
        let ours = shared.finish(None);
        let theirs = standing_by.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(ours.to_json(), theirs.to_json());
        assert_eq!((ours.connections.accepted, ours.connections.unknown), (1, 0), "{ours}");
        assert_eq!(told.load(Ordering::Relaxed), 1);
    });
}
