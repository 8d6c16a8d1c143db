//! What `bench/inside` measures of what is private here. Not part of the API: it is there for that bench (which compiles
//! with `--cfg inside`), and for the tests, which see that all of it does what it says.
//!
//! Each case prepares so much, and gives the work that is measured. Called once, it says how many units it came to: lives,
//! requests, entries, bytes. What it leaves behind is dropped with it, after the measuring.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::connection::service::Tracked;
use crate::connection::{Body, End, Registry, Stage, events, frames};
use crate::phase::{Cause, Core, Event, Left, Phase};
use crate::plan::Plan;

/// What is measured; gives how many units that was.
pub type Work = Box<dyn FnMut() -> usize>;

/// A name, and how it is prepared: of such a size.
pub type Case = (&'static str, fn(usize) -> Work);

/// So many of one thing after the other.
pub const EACH: &[Case] = &[
    ("phase core: an end that comes by itself", end_by_itself),
    ("phase core: an end at its deadline", end_at_the_deadline),
    ("phase core: a forced end", end_by_force),
    ("a request on HTTP/1.1, from its first byte to its last", requests),
];

/// Over so many open connections: what each of them costs may not grow with their number.
pub const GROWING: &[Case] = &[
    ("sweep, nobody is due", sweep_that_wakes_nobody),
    ("sweep, nine of ten are due", sweep_that_wakes_nine_of_ten),
    ("`set_stage(Drain)`", drain),
    ("`by_state`", by_state),
    ("all stay untold, and leave", untold),
    ("one comes and goes, beside so many", enter_and_leave),
];

/// Over so many bytes.
pub const FOLLOWED: &[Case] = &[
    ("WebSocket, frames of 20 to 120 B, a read each", small_frames),
    ("WebSocket, frames of 64 KiB, reads of 8 KiB", large_frames),
    ("WebSocket, both, cut anywhere", frames_cut_anywhere),
    ("event stream, events of 100 B, a write each", small_events),
    ("event stream, events of 16 KiB, writes of 8 KiB", large_events),
    ("event stream, both, cut anywhere", events_cut_anywhere),
];

// ===== the phase core =====

const TOLD_TO_END: Event = Event::Step(Cause::Signal(15));
const BUSY: Left = Left { listeners: 1, connections: 100, tasks: 1, hooks: 2 };

/// What is told to the core in one life: an event, what is left, and milliseconds.
type Told = Vec<(Event, Left, u64)>;

fn lives(count: usize, told: Told) -> Work {
    let plan = Plan { lame_duck: Duration::from_secs(5), ..Plan::default() };
    Box::new(move || {
        for _ in 0..count {
            let mut core = Core::new(black_box(plan));
            for (event, left, at) in &told {
                black_box(core.step(*event, *left, Duration::from_millis(*at)));
            }
            assert_eq!(core.phase(), Phase::Ended);
        }
        count
    })
}

fn end_by_itself(count: usize) -> Work {
    let mut told = vec![(Event::Serve, BUSY, 0), (TOLD_TO_END, BUSY, 1000), (Event::Look, BUSY, 6000)];
    let fewer = (1..=10).map(|tenth| Left { listeners: 0, connections: 100 - 10 * tenth, ..BUSY });
    told.extend(fewer.zip(1..).map(|(left, nth)| (Event::Look, left, 6000 + 100 * nth)));
    told.extend(
        [(2, 7100), (1, 7200), (0, 7300)].map(|(hooks, at)| (Event::Look, Left { hooks, ..Left::default() }, at)),
    );
    lives(count, told)
}

fn end_at_the_deadline(count: usize) -> Work {
    let looks = [6000, 31_000, 31_150, 31_225, 40_000].map(|at| (Event::Look, BUSY, at));
    lives(count, [vec![(Event::Serve, BUSY, 0), (TOLD_TO_END, BUSY, 1000)], looks.to_vec()].concat())
}

fn end_by_force(count: usize) -> Work {
    let signals = [1000, 1100, 1200].map(|at| (TOLD_TO_END, BUSY, at));
    let looks = [1350, 1425].map(|at| (Event::Look, BUSY, at));
    lives(count, [vec![(Event::Serve, BUSY, 0)], signals.to_vec(), looks.to_vec()].concat())
}

// ===== the registry =====

/// The tasks of all connections: to wake one is to count it, and what the runtime does then is not in what is measured.
#[derive(Default)]
struct Tasks(AtomicUsize);

impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Open connections.
struct Open {
    registry: Arc<Registry>,
    tasks: Arc<Tasks>,
}

impl Open {
    /// Of ten, seven are at rest, and one each is new, is reading a head, and has a request in flight.
    fn new(plan: &Plan, count: usize) -> Self {
        let open = Self { registry: Registry::new(plan, Arc::default()), tasks: Arc::default() };
        let waker = Waker::from(Arc::clone(&open.tasks));
        for nth in 0..count {
            let entry = open.registry.enter(Some(peer(nth)));
            entry.register(&waker);
            match nth % 10 {
                0 => {}
                1 => entry.heard(),
                2 => {
                    entry.heard();
                    entry.begin(&Request::new(String::new()));
                }
                _ => entry.rest(),
            }
        }
        open
    }

    fn woken(&self) -> usize {
        self.tasks.0.load(Relaxed)
    }
}

impl Drop for Open {
    /// The registry and its entries hold each other.
    fn drop(&mut self) {
        self.registry.abandon();
    }
}

fn peer(nth: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], nth as u16))
}

fn sweep_that_wakes_nobody(count: usize) -> Work {
    let open = Open::new(&Plan::default(), count);
    Box::new(move || {
        open.registry.sweep();
        assert_eq!(open.woken(), 0);
        count
    })
}

fn sweep_that_wakes_nine_of_ten(count: usize) -> Work {
    // Everything takes too long at once, but a request in flight.
    let plan = Plan { head_timeout: Duration::ZERO, idle_timeout: Duration::ZERO, ..Plan::default() };
    let open = Open::new(&plan, count);
    Box::new(move || {
        open.registry.sweep();
        assert_eq!(open.woken(), count / 10 * 9);
        count
    })
}

fn drain(count: usize) -> Work {
    let open = Open::new(&Plan::default(), count);
    Box::new(move || {
        open.registry.set_stage(Stage::Drain);
        assert_eq!(open.woken(), count);
        count
    })
}

fn by_state(count: usize) -> Work {
    let open = Open::new(&Plan::default(), count);
    Box::new(move || {
        let states = black_box(open.registry.by_state());
        assert_eq!(states.len(), 4);
        count
    })
}

/// In the drain: the last of them to come to rest wakes all.
fn untold(count: usize) -> Work {
    let open = Open::new(&Plan::default(), 0);
    let waker = Waker::from(Arc::clone(&open.tasks));
    let mut entries: Vec<_> = (0..count).map(|nth| open.registry.enter(Some(peer(nth)))).collect();
    entries.iter().for_each(|entry| entry.register(&waker));
    open.registry.set_stage(Stage::Drain);
    let before = open.woken();
    Box::new(move || {
        let _are_told_later = entries.iter().filter(|entry| entry.stay_untold()).count();
        entries.drain(..).for_each(|entry| entry.leave(End::AtRest));
        assert_eq!((open.registry.open(), open.woken() - before), (0, count));
        count
    })
}

fn enter_and_leave(beside: usize) -> Work {
    const COUNT: usize = 1000;
    let open = Open::new(&Plan::default(), beside);
    let waker = Waker::from(Arc::clone(&open.tasks));
    Box::new(move || {
        for nth in 0..COUNT {
            let entry = open.registry.enter(Some(peer(nth)));
            entry.register(&waker);
            entry.leave(End::Finished);
        }
        assert_eq!(open.registry.open(), beside);
        COUNT
    })
}

/// An app that has its answer ready.
#[derive(Clone)]
struct Answers;

impl tower_service::Service<Request<Body>> for Answers {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new("ok".to_owned())))
    }
}

/// Of one connection, as hyper asks for them: begun, answered, ended, and then their last byte is with the kernel.
fn requests(count: usize) -> Work {
    let open = Open::new(&Plan::default(), 0);
    let entry = open.registry.enter(Some(peer(0)));
    entry.register(&Waker::from(Arc::clone(&open.tasks)));
    let service = Tracked::new(Answers, Arc::clone(&entry));
    let mut requests = incoming(count);
    Box::new(move || {
        let mut context = Context::from_waker(Waker::noop());
        for request in requests.drain(..) {
            entry.heard();
            let call = pin!(service.call(request));
            let Poll::Ready(Ok(answer)) = call.poll(&mut context) else { panic!("its answer is ready") };
            let mut body = answer.into_body();
            assert!(Pin::new(&mut body).poll_frame(&mut context).is_ready());
            drop(body);
            entry.flushed();
        }
        assert_eq!(entry.in_flight(), 0);
        count
    })
}

/// Only hyper makes bodies of its own: it reads these requests from a pipe.
fn incoming(count: usize) -> Vec<Request<Incoming>> {
    const GET: &[u8] = b"GET /orders/7 HTTP/1.1\r\nhost: localhost\r\nuser-agent: inside\r\naccept: */*\r\n\r\n";
    let (mut client, server) = tokio::io::duplex(count * 200);
    let (taken, requests) = std::sync::mpsc::channel();
    let service = service_fn(move |request| {
        let answer = taken.send(request).map(|()| Response::new(String::new()));
        ready(answer)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O can be made");
    runtime.block_on(async {
        client.write_all(&GET.repeat(count)).await.expect("it fits");
        client.shutdown().await.expect("the pipe is there");
        let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        connection.await.expect("these are requests");
    });
    requests.iter().collect()
}

// ===== the followers =====

/// Numbers that look like chance, and are the same in each run (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn within(&mut self, from: usize, to: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) as usize % (to - from)
    }
}

/// Bytes, and how they are cut into pieces.
#[derive(Default)]
struct Traffic {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Traffic {
    /// Pieces of the same size, but for the last: the rest of a message.
    fn add(&mut self, message: &[u8], piece: usize) {
        for piece in message.chunks(piece) {
            self.bytes.extend(piece);
            self.ends.push(self.bytes.len());
        }
    }

    /// As packets of Ethernet might bring it, merged or torn.
    fn cut_anywhere(mut self) -> Self {
        let (mut chance, mut end) = (Chance(1), 0);
        self.ends.clear();
        while end < self.bytes.len() {
            end = self.bytes.len().min(end + chance.within(1, 1460));
            self.ends.push(end);
        }
        self
    }

    fn followed_by<F: Default + 'static>(self, follow: fn(&mut F, &[u8]), is_between: fn(&F) -> bool) -> Work {
        Box::new(move || {
            let (mut follower, mut begin) = (F::default(), 0);
            for end in &self.ends {
                follow(&mut follower, &self.bytes[begin..*end]);
                begin = *end;
            }
            assert!(is_between(&follower));
            self.bytes.len()
        })
    }

    fn followed_as_frames(self) -> Work {
        self.followed_by(|follower: &mut frames::Follower, piece| follower.follow(piece), frames::Follower::is_between)
    }

    fn followed_as_events(self) -> Work {
        self.followed_by(|follower: &mut events::Follower, piece| follower.follow(piece), events::Follower::is_between)
    }
}

/// A text frame of a client (RFC 6455, section 5.2): masked.
fn frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload {
        0..126 => frame.push(0x80 | payload as u8),
        126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((payload as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload as u64).to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.resize(frame.len() + payload, b'x');
    frame
}

/// Data in lines of 1 KiB, as pretty JSON might be.
fn event(data: usize) -> String {
    let lines = std::iter::repeat_n("x".repeat(data.min(1024)), data.div_ceil(1024));
    let lines: String = lines.map(|line| format!("data: {line}\n")).collect();
    format!("id: 12345\nevent: price\n{lines}\n")
}

fn small_frames(bytes: usize) -> Work {
    let (mut traffic, mut chance) = (Traffic::default(), Chance(1));
    while traffic.bytes.len() < bytes {
        traffic.add(&frame(chance.within(20, 121)), usize::MAX);
    }
    traffic.followed_as_frames()
}

fn large_frames(bytes: usize) -> Work {
    let mut traffic = Traffic::default();
    while traffic.bytes.len() < bytes {
        traffic.add(&frame(64 << 10), 8 << 10);
    }
    traffic.followed_as_frames()
}

fn frames_cut_anywhere(bytes: usize) -> Work {
    let (mut traffic, mut chance) = (Traffic::default(), Chance(1));
    while traffic.bytes.len() < bytes {
        // As many bytes in small ones as in large ones.
        let small = chance.within(0, 900) > 0;
        traffic.add(&frame(if small { chance.within(20, 121) } else { 64 << 10 }), usize::MAX);
    }
    traffic.cut_anywhere().followed_as_frames()
}

fn small_events(bytes: usize) -> Work {
    let mut traffic = Traffic::default();
    while traffic.bytes.len() < bytes {
        traffic.add(event(70).as_bytes(), usize::MAX);
    }
    traffic.followed_as_events()
}

fn large_events(bytes: usize) -> Work {
    let mut traffic = Traffic::default();
    while traffic.bytes.len() < bytes {
        traffic.add(event(16 << 10).as_bytes(), 8 << 10);
    }
    traffic.followed_as_events()
}

fn events_cut_anywhere(bytes: usize) -> Work {
    let (mut traffic, mut chance) = (Traffic::default(), Chance(1));
    while traffic.bytes.len() < bytes {
        let small = chance.within(0, 160) > 0;
        traffic.add(event(if small { 70 } else { 16 << 10 }).as_bytes(), usize::MAX);
    }
    traffic.cut_anywhere().followed_as_events()
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_measured_does_what_it_says() {
        for (name, prepare) in EACH.iter().chain(GROWING) {
            let mut work = prepare(100);
            assert!(work() >= 100, "{name}");
        }
        for (name, prepare) in FOLLOWED {
            let mut work = prepare(100_000);
            assert!(work() >= 100_000, "{name}");
        }
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<_> = [EACH, GROWING, FOLLOWED].concat().iter().map(|(name, _)| *name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
