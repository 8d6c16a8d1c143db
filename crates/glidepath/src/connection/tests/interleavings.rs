//! What happens at the same instant, in thousands of orders: shuttle runs one thread at a time, and chooses anew at each
//! lock, flag and wake-up which. Who is never woken is a deadlock, and found.
//!
//! The locks and flags of `crate::sync` are shuttle's here, and connections are the real ones, on sockets without a peer.
//! tokio's own parts (`Notify`, the reactor) are used as they are: each call of theirs is one step. Weak memory orders are
//! not tried.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::Bytes;
use http_body::Frame;
use shuttle::future::{block_on, spawn};
use shuttle::thread;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::super::service::{Guard, TrackedBody};
use super::super::upgraded::Upgrade;
use super::super::*;
use crate::plan::Plan;
use crate::report;
use crate::sync::explore;

/// A registry whose drain waits for nobody who is at rest, and what it tells of changes.
fn registry() -> (Arc<Registry>, Arc<Notify>) {
    let changed = Arc::new(Notify::new());
    let plan = Plan { quiet: Duration::ZERO, ..Plan::default() };
    (Registry::new(&plan, Arc::clone(&changed)), changed)
}

/// A socket and its peer's, which stays open.
fn sockets() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Socket::Unix(ours), theirs)
}

fn connection(registry: &Arc<Registry>, socket: Socket) -> Connection<axum::Router> {
    Connection::new(
        socket,
        None,
        #[cfg(feature = "tls")]
        None,
        axum::Router::new(),
        registry,
    )
}

/// Waits as the driver does: looks, and sleeps until something has changed.
fn wait_until_empty(registry: &Registry, changed: &Notify) {
    block_on(async {
        while registry.open() > 0 {
            changed.notified().await;
        }
    });
}

/// The connections, when all have ended.
#[track_caller]
fn ended(registry: &Registry) -> report::Connections {
    let connections = registry.account().0;
    let report::Connections { accepted, finished, at_rest, upgraded, failed, cut, unknown, .. } = connections;
    assert_eq!(accepted, finished + at_rest + upgraded + failed + cut, "{connections:?}");
    assert_eq!(unknown, 0, "{connections:?}");
    connections
}

/// A connection that speaks HTTP/2, as `poll_http2` sees it: told to leave, it goes when its last stream is done.
async fn speaks_http2(entry: Arc<Entry>) {
    let mut registered = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut registered, true) {
            entry.register(cx.waker());
        }
        if entry.stage() >= Stage::Drain && entry.in_flight() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    entry.leave(End::Finished);
}

/// An entry whose state says HTTP/2, with a request that the app has.
fn entry_with_request(registry: &Arc<Registry>) -> (Arc<Entry>, Guard) {
    let entry = registry.enter(None);
    entry.set_state(State::Http2);
    let guard = Guard::new(&entry, entry.begin(&http::Request::new(String::new())), false);
    (entry, guard)
}

/// A body of which nothing ever comes.
struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// What a body ends with: none is its proper end.
async fn end_of<B: http_body::Body<Data = Bytes, Error: Into<service::BoxError>>>(
    body: TrackedBody<B>,
) -> Option<String> {
    let mut body = pin!(body);
    loop {
        match poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(error.to_string()),
            None => return None,
        }
    }
}

/// At rest with a client that was not told, as `quiet_left` sees it: stays while others hold up the end, and asks again
/// when it is woken.
async fn waits_untold(entry: Arc<Entry>) {
    let mut registered = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut registered, true) {
            entry.register(cx.waker());
        }
        if entry.stay_untold() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    entry.leave(End::AtRest);
}

#[test]
fn untold_clients_are_let_go_when_the_last_of_the_others_leaves() {
    explore(|| {
        let (registry, changed) = registry();
        registry.set_stage(Stage::Drain);
        let (first, second, other) = (registry.enter(None), registry.enter(None), registry.enter(None));
        let untold = [spawn(waits_untold(first)), spawn(waits_untold(second))];
        let leaving = thread::spawn(move || other.leave(End::Finished));
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).at_rest, 2);
        leaving.join().unwrap();
        for task in untold {
            block_on(task).unwrap();
        }
    });
}

#[test]
fn an_untold_client_that_asks_again_holds_the_others_no_less() {
    explore(|| {
        let (registry, changed) = registry();
        registry.set_stage(Stage::Drain);
        let (waits, asks) = (registry.enter(None), registry.enter(None));
        asks.set_state(State::Rest);
        let waits = spawn(waits_untold(waits));
        let asking = thread::spawn(move || {
            asks.stay_untold();
            asks.heard();
            asks.leave(End::Finished);
        });
        wait_until_empty(&registry, &changed);
        asking.join().unwrap();
        block_on(waits).unwrap();
        assert_eq!(ended(&registry).at_rest, 1);
    });
}

#[test]
fn who_leaves_last_as_the_drain_begins_is_not_waited_for() {
    explore(|| {
        let (registry, changed) = registry();
        let entry = registry.enter(None);
        let leaving = thread::spawn(move || entry.leave(End::Finished));
        registry.set_stage(Stage::Drain);
        // While serving nobody is told of it, so either it is seen here or it is told.
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).finished, 1);
        leaving.join().unwrap();
    });
}

#[test]
fn who_comes_as_the_drain_begins_is_told() {
    explore(|| {
        let (registry, changed) = registry();
        let (first, _peer) = sockets();
        let first = spawn(connection(&registry, first));
        let accepting = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                let (second, peer) = sockets();
                (spawn(connection(&registry, second)), peer)
            })
        };
        registry.set_stage(Stage::Drain);
        let (second, _peer) = accepting.join().unwrap();
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).at_rest, 2);
        block_on(async { (first.await.unwrap(), second.await.unwrap()) });
    });
}

#[test]
fn who_comes_as_the_drain_begins_is_cut_if_not_told_before() {
    explore(|| {
        let (registry, changed) = registry();
        let (socket, _peer) = sockets();
        // Without a stage in between, and with a quiet window that nobody waits for.
        registry.set_plan(&Plan { quiet: Duration::from_secs(60), ..Plan::default() });
        let serving = spawn(connection(&registry, socket));
        registry.set_stage(Stage::Cut);
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).accepted, 1);
        block_on(serving).unwrap();
    });
}

#[test]
fn the_account_adds_up_at_every_instant() {
    explore(|| {
        let (registry, changed) = registry();
        registry.set_stage(Stage::Drain);
        let leaving = [End::Finished, End::Failed].map(|end| {
            let entry = registry.enter(None);
            thread::spawn(move || entry.leave(end))
        });
        let connections = registry.account().0;
        assert_eq!(connections.accepted, 2, "{connections:?}");
        wait_until_empty(&registry, &changed);
        let connections = ended(&registry);
        assert_eq!((connections.finished, connections.failed), (1, 1));
        leaving.into_iter().for_each(|leaving| leaving.join().unwrap());
    });
}

#[test]
fn an_answer_that_is_handed_to_the_kernel_as_somebody_looks_is_counted_once() {
    explore(|| {
        let (registry, _) = registry();
        let entry = registry.enter(None);
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                entry.heard();
                Guard::new(&entry, entry.begin(&http::Request::new(String::new())), false).answered();
                assert!(entry.flushed().is_none());
            }
            assert_eq!(entry.in_flight(), 0);
            drop(Guard::new(&entry, entry.begin(&http::Request::new(String::new())), false));
            entry.leave(End::Failed);
        });
        assert!(registry.list().len() <= 1, "one at a time is in flight");
        registry.set_stage(Stage::TurnAway);
        assert!(registry.list().len() <= 1);
        serving.join().unwrap();
        let (connections, requests, _) = registry.account();
        assert_eq!((connections.accepted, connections.failed), (1, 1), "{connections:?}");
        assert_eq!((requests.started, requests.answered, requests.abandoned), (3, 2, 1), "{requests:?}");
        assert!(requests.answered_late <= 2, "{requests:?}");
    });
}

#[test]
fn who_leaves_as_all_are_abandoned_is_counted_once() {
    explore(|| {
        let (registry, _) = registry();
        let (entry, guard) = entry_with_request(&registry);
        let leaving = thread::spawn(move || {
            drop(guard);
            entry.leave(End::Finished);
        });
        registry.abandon();
        leaving.join().unwrap();
        let (connections, requests, _) = registry.account();
        assert_eq!((connections.accepted, connections.finished + connections.cut), (1, 1), "{connections:?}");
        assert_eq!((requests.started, requests.abandoned + requests.cut), (1, 1), "{requests:?}");
    });
}

#[test]
fn a_place_that_is_used_again_is_not_freed_by_who_had_it_before() {
    explore(|| {
        let (registry, _) = registry();
        let first = registry.enter(None);
        let leaving = thread::spawn(move || {
            first.leave(End::Finished);
            first.leave(End::Failed);
        });
        let second = registry.enter(None);
        leaving.join().unwrap();
        assert_eq!(registry.open(), 1);
        second.leave(End::Finished);
        assert_eq!(ended(&registry).finished, 2);
    });
}

#[test]
fn a_request_that_ends_as_the_drain_begins_lets_its_connection_go() {
    explore(|| {
        let (registry, changed) = registry();
        let (entry, guard) = entry_with_request(&registry);
        let serving = spawn(speaks_http2(entry));
        let answering = thread::spawn(move || drop(guard));
        registry.set_stage(Stage::Drain);
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).finished, 1);
        assert_eq!(registry.account().1.abandoned, 1);
        answering.join().unwrap();
        block_on(serving).unwrap();
    });
}

#[test]
fn a_request_that_begins_to_wait_at_the_deadline_is_told() {
    explore(|| {
        let (registry, changed) = registry();
        let (entry, guard) = entry_with_request(&registry);
        let serving = spawn(speaks_http2(entry));
        // On HTTP/2 a stream has a task of its own.
        let stream = spawn(end_of(TrackedBody::new(Some(Silent), Some(guard), false, None, false)));
        registry.set_stage(Stage::Answer);
        assert_eq!(block_on(stream).unwrap().as_deref(), Some("cut at the end of the grace period"));
        wait_until_empty(&registry, &changed);
        let (_, requests, cut) = registry.account();
        assert_eq!((requests.started, requests.cut, cut.len()), (1, 1, 1), "{requests:?} {cut:?}");
        block_on(serving).unwrap();
    });
}

#[test]
fn an_event_stream_that_begins_to_wait_as_the_drain_begins_is_ended() {
    explore(|| {
        let (registry, changed) = registry();
        let (entry, guard) = entry_with_request(&registry);
        let serving = spawn(speaks_http2(entry));
        let stream = spawn(end_of(TrackedBody::new(Some(Silent), Some(guard), false, Some(Stage::Drain), false)));
        registry.set_stage(Stage::Drain);
        assert_eq!(block_on(stream).unwrap(), None);
        wait_until_empty(&registry, &changed);
        assert_eq!(registry.account().1.answered, 1);
        block_on(serving).unwrap();
    });
}

#[test]
fn a_handler_that_lets_go_as_the_drain_begins_is_not_waited_for() {
    explore(|| {
        let (registry, changed) = registry();
        let (socket, _peer) = sockets();
        let wire = Wire::new(socket.into(), Upgrade::Raw);
        let life: Life<axum::Router> = Life::Upgraded { wire: wire.clone(), goodbye: Goodbye::default() };
        let serving = spawn(Connection::begin(life, registry.enter(None)));
        let handling = thread::spawn(move || wire.drop_handlers_end());
        registry.set_stage(Stage::Drain);
        wait_until_empty(&registry, &changed);
        assert_eq!(ended(&registry).upgraded, 1);
        handling.join().unwrap();
        block_on(serving).unwrap();
    });
}
