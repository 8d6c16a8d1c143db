//! The questions, and how each is measured.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::build;
use crate::client;
use crate::clock::pause;
use crate::process::Server;
use crate::program::Program;
use crate::question::{Group, Question, Row, Wanted};
use crate::servers::Kind;
use crate::witness;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// CPU time of a GET on 64 keep-alive connections
    Http1,
    /// CPU time of a GET on 10 HTTP/2 connections with 100 streams each
    Http2,
    /// CPU time of a connection that is opened, used once and closed
    Connections,
    /// Memory of a keep-alive connection at rest, plain and over TLS
    Rest,
    /// CPU time of a request on a connection that was at rest, and of going to rest again
    Wake,
    /// SIGTERM to exit with connections at rest
    Exit,
    /// The last answer to exit
    Last,
    /// Crates, build time and size of the README's example; only when it is named
    Build,
}

/// The server that all of ours are held against over TLS: of the Rust peers, it alone speaks it by itself.
const TLS_BASELINE: &str = "axum-server";
/// The server that is nearest to ours.
const NEAREST: &str = "axum-serve";
/// Longer than any quiet window, and than the second after which a connection may give its memory back.
const REST: Duration = Duration::from_secs(3);
/// Connections at rest.
const SIZES: &[usize] = &[1_000, 10_000, 18_000];
const QUICK_SIZES: &[usize] = &[1_000];
/// Open files beside those.
const OTHER_FILES: usize = 200;

/// How thorough it is to be.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    pub(crate) rounds: Option<u32>,
}

/// A question, and what is to be done for it in each round.
pub(crate) struct Plan {
    pub(crate) question: Question,
    pub(crate) rounds: u32,
    pub(crate) jobs: Vec<Job>,
}

/// One server once: a figure for its row in each of the groups.
pub(crate) struct Job {
    pub(crate) name: String,
    /// Which row of which group.
    pub(crate) rows: Vec<(usize, usize)>,
    pub(crate) measure: Measure,
}

type Measure = Box<dyn Fn() -> anyhow::Result<Vec<f64>>>;

impl Part {
    /// Those that run when none is named.
    pub(crate) fn by_default() -> Vec<Part> {
        Part::value_variants().iter().copied().filter(|part| *part != Part::Build).collect()
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn plan(self, peers: &[Program], effort: Effort) -> anyhow::Result<Plan> {
        let ours = |kinds: &[Kind]| kinds.iter().map(|kind| Program::ours(*kind)).collect::<anyhow::Result<Vec<_>>>();
        let all = |kinds: &[Kind]| anyhow::Ok([ours(kinds)?, peers.to_vec()].concat());
        let seconds = if effort.quick { 1 } else { 3 };
        let mut plan = match self {
            Part::Http1 => http1(all(&[Kind::BareHttp1, Kind::Glidepath])?, seconds),
            Part::Http2 => http2(all(&[Kind::BareHttp2, Kind::Glidepath])?, seconds),
            Part::Connections => {
                connections(all(&[Kind::BareHttp1, Kind::Glidepath])?, if effort.quick { 5_000 } else { 100_000 })
            }
            Part::Rest => rest(all(&[Kind::Floor, Kind::BareHttp1, Kind::Glidepath])?, effort.quick),
            Part::Wake => wake(all(&[Kind::BareHttp1, Kind::Glidepath])?, effort.quick),
            Part::Exit => exit(all(&[Kind::Floor, Kind::Glidepath])?, effort.quick),
            Part::Last => last(all(&[Kind::Glidepath])?),
            Part::Build => build::plan(),
        }?;
        plan.question.part = self.name();
        plan.rounds = effort.rounds.unwrap_or(if effort.quick { 3 } else { plan.rounds });
        Ok(plan)
    }
}

impl Plan {
    pub(crate) fn new(title: &str, how: &str, rounds: u32) -> Self {
        let (title, how) = (title.to_owned(), how.to_owned());
        let (part, command, of) = Default::default();
        Plan { question: Question { part, title, how, command, of, groups: Vec::new() }, rounds, jobs: Vec::new() }
    }

    /// One more group, with a row and a job for each.
    fn add(&mut self, mut group: Group, programs: &[Program], measure: impl Fn(&Program) -> Measure) {
        for program in programs {
            let place = (self.question.groups.len(), group.rows.len());
            group.rows.push(Row::new(&program.title, program.ours));
            self.jobs.push(Job { name: program.title.clone(), rows: vec![place], measure: measure(program) });
        }
        self.question.groups.push(group);
    }
}

/// A job that owns its program.
fn job(program: &Program, measure: impl Fn(&Program) -> anyhow::Result<f64> + 'static) -> Measure {
    let program = program.clone();
    Box::new(move || Ok(vec![measure(&program)?]))
}

/// Microseconds of the processor for each of what `load` counts: with so much of it to warm up, and so much that is measured.
fn cpu<T>(
    program: &Program,
    (warm, measured): (T, T),
    load: impl Fn(SocketAddr, T) -> anyhow::Result<u64>,
) -> anyhow::Result<f64> {
    let server = Server::start(&program.serving, false)?;
    load(server.address, warm)?;
    // What it has to do after the last one belongs to it.
    let after = Duration::from_millis(100);
    pause(after);
    let before = server.cpu()?;
    let count = load(server.address, measured)?;
    pause(after);
    let spent = server.cpu()?.saturating_sub(before);
    ensure!(count > 0 && !spent.is_zero(), "{count} took {spent:?}");
    Ok(spent.as_secs_f64() * 1e6 / count as f64)
}

fn http1(programs: Vec<Program>, seconds: u32) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "CPU time of a request on HTTP/1.1",
        "GET / behind the same axum router (Actix, Go and Node have their own), 64 keep-alive connections, one thread of wrk on \
         the same processors. Counted is what the kernel books on the server's processes.",
        7,
    );
    let bare = Kind::BareHttp1.title();
    let mut group = Group::new("GET / on 64 connections", "us", Some(bare));
    group.wanted = Some(Wanted::Times(1.0, bare.to_owned()));
    plan.add(group, &programs, |program| job(program, move |program| cpu(program, (1, seconds), witness::http1)));
    Ok(plan)
}

fn http2(programs: Vec<Program>, seconds: u32) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "CPU time of a request on HTTP/2",
        "GET / behind the same router, 10 connections with 100 streams each, one thread of h2load on the same processors, \
         cleartext with prior knowledge.",
        7,
    );
    let bare = Kind::BareHttp2.title();
    let mut group = Group::new("GET / on 10 x 100 streams", "us", Some(bare));
    group.wanted = Some(Wanted::Times(1.01, bare.to_owned()));
    let programs: Vec<_> = programs.into_iter().filter(|program| program.h2).collect();
    plan.add(group, &programs, |program| job(program, move |program| cpu(program, (1, seconds), witness::http2)));
    Ok(plan)
}

fn connections(programs: Vec<Program>, count: usize) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "CPU time of a connection",
        "Opened, asked once for /, and closed by the client, 16 at a time. The kernel's work to accept and close it is in it, \
         as far as it is booked on the server.",
        5,
    );
    let bare = Kind::BareHttp1.title();
    let mut group = Group::new("connect, GET /, close", "us", Some(bare));
    group.wanted = Some(Wanted::Times(1.05, bare.to_owned()));
    plan.add(group, &programs, |program| {
        job(program, move |program| {
            cpu(program, (count / 10, count), |to, count| client::churn(to, count).map(|()| count as u64))
        })
    });
    Ok(plan)
}

fn rest(programs: Vec<Program>, quick: bool) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "Memory of a connection at rest",
        "Keep-alive connections are opened one after the other (over TLS 16 at a time), asked once, and left alone for 3 s. What the server's resident \
         memory (VmRSS) has grown by, divided by their number; what the kernel keeps for a socket is not in it. A new server \
         each time.",
        3,
    );
    for tls in [false, true] {
        for count in sizes(if quick { QUICK_SIZES } else { SIZES })? {
            let of: Vec<_> = programs.iter().filter(|program| !tls || program.tls).cloned().collect();
            let baseline = match tls {
                false => Some(Kind::BareHttp1.title()),
                true => of.iter().find(|program| program.name == TLS_BASELINE).map(|program| program.title.as_str()),
            };
            let title = format!("{}{} connections", thousands(count), if tls { " TLS" } else { "" });
            let mut group = Group::new(title, "B", baseline);
            group.wanted = match tls {
                false => Some(Wanted::AtMost(2048.0)),
                true => baseline.map(|baseline| Wanted::Times(0.5, baseline.to_owned())),
            };
            plan.add(group, &of, |program| job(program, move |program| growth(program, count, tls)));
        }
    }
    Ok(plan)
}

/// Those for which this process may have enough open files.
fn sizes(sizes: &[usize]) -> anyhow::Result<Vec<usize>> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let fits = |size: &&usize| (**size + OTHER_FILES) as u64 <= limit;
    let fitting: Vec<_> = sizes.iter().filter(fits).copied().collect();
    ensure!(!fitting.is_empty(), "{} connections need more open files than {limit}: see `ulimit -Hn`", sizes[0]);
    Ok(fitting)
}

fn growth(program: &Program, count: usize, tls: bool) -> anyhow::Result<f64> {
    let server = Server::start(&program.serving, tls)?;
    let to = if tls { server.tls.context("it has no TLS")? } else { server.address };
    // What it makes once, for the first of all, is no connection's.
    client::drop_all(client::open(to, 10, tls)?);
    pause(Duration::from_millis(200));
    let before = server.resident()?;
    let connections = client::open(to, count, tls)?;
    pause(REST);
    let after = server.resident()?;
    let open = client::still_open(&connections)?;
    client::drop_all(connections);
    ensure!(open == count, "it has closed {} of {count} connections at rest", count - open);
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

fn wake(programs: Vec<Program>, quick: bool) -> anyhow::Result<Plan> {
    /// The kernel books by ticks of 10 ms; of so many requests that is little for each.
    const TURNS: usize = 4;
    let count = *sizes(if quick { &[5_000] } else { &[10_000] })?.first().expect("one fits");
    let mut plan = Plan::new(
        "CPU time of a request after a rest",
        "Keep-alive connections that have been at rest for 3 s are asked once, one after the other, and left alone again, four \
         times. Counted is what the server spends while they are asked, and on all of it with the rest behind: who gives \
         memory back there pays for that, too.",
        5,
    );
    let bare = Kind::BareHttp1.title();
    for title in ["the request", "the request, and going to rest again"] {
        let mut group = Group::new(format!("{} connections: {title}", thousands(count)), "us", Some(bare));
        group.wanted = Some(Wanted::Above(2.0, bare.to_owned()));
        group.rows = programs.iter().map(|program| Row::new(&program.title, program.ours)).collect();
        plan.question.groups.push(group);
    }
    plan.jobs.extend(programs.into_iter().enumerate().map(|(row, program)| Job {
        name: program.title.clone(),
        rows: vec![(0, row), (1, row)],
        measure: Box::new(move || woken(&program, count, TURNS)),
    }));
    Ok(plan)
}

/// Microseconds of the processor for each request, without the rest behind it and with it.
fn woken(program: &Program, count: usize, turns: usize) -> anyhow::Result<Vec<f64>> {
    let server = Server::start(&program.serving, false)?;
    let mut connections = client::open(server.address, count, false)?;
    pause(REST);
    let (mut asked, mut all) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..turns {
        let before = server.cpu()?;
        for connection in &mut connections {
            let after = client::ask(connection, "/").context("after a rest")?;
            ensure!(after == client::After::Stays, "it keeps no connection");
        }
        asked += server.cpu()?.saturating_sub(before);
        pause(REST);
        all += server.cpu()?.saturating_sub(before);
    }
    client::drop_all(connections);
    Ok([asked, all].map(|spent| spent.as_secs_f64() * 1e6 / (count * turns) as f64).to_vec())
}

fn exit(programs: Vec<Program>, quick: bool) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "Signal to exit with connections at rest",
        "Each was asked once, and has been quiet for 3 s, longer than the quiet window. Peers have the settings that their \
         documentation names for an end. The floor is an epoll loop that the signal kills: the kernel closes its connections.",
        5,
    );
    let floor = Kind::Floor.title();
    for count in sizes(if quick { QUICK_SIZES } else { SIZES })? {
        let mut group = Group::new(format!("{} connections", thousands(count)), "ms", Some(floor));
        group.wanted = Some(Wanted::Times(1.5, floor.to_owned()));
        plan.add(group, &programs, |program| job(program, move |program| time_to_exit(program, count)));
    }
    Ok(plan)
}

fn time_to_exit(program: &Program, count: usize) -> anyhow::Result<f64> {
    let mut server = Server::start(&program.ending, false)?;
    let connections = client::open(server.address, count, false)?;
    pause(REST);
    let told = server.stop()?;
    let took = server.gone()?.duration_since(told);
    client::drop_all(connections);
    Ok(took.as_secs_f64() * 1e3)
}

fn last(programs: Vec<Program>) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(
        "Last answer to exit",
        "One request is in flight at the signal, and nothing else is open. From the moment at which its client has the whole \
         answer to the moment at which the process is gone. A client that is told to close does so at once.",
        9,
    );
    let nearest = programs.iter().find(|program| program.name == NEAREST).map(|program| program.title.clone());
    let mut group = Group::new("GET /sleep?ms=300 at the signal", "ms", nearest.as_deref());
    group.wanted = Some(Wanted::AtMost(2.0));
    plan.add(group, &programs, |program| job(program, last_answer));
    Ok(plan)
}

fn last_answer(program: &Program) -> anyhow::Result<f64> {
    let mut server = Server::start(&program.ending, false)?;
    let connection = client::connect(server.address)?;
    thread::scope(|scope| {
        let client = scope.spawn(|| client::ask_and_leave(connection, "/sleep?ms=300"));
        pause(Duration::from_millis(100));
        server.stop()?;
        let gone = server.gone();
        let answered = client.join().expect("it does not panic").context("the request in flight")?;
        Ok(gone?.saturating_duration_since(answered).as_secs_f64() * 1e3)
    })
}

fn thousands(count: usize) -> String {
    crate::question::figure(count as f64)
}
