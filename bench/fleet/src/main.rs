//! What rolling a fleet costs, by simulation: how long the lame duck must be, and how many connections are made anew.
//!
//! Time is simulated: 10 000 instances take a second. `docs/fleet.md` says what it is good for.

mod picture;
mod roll;
mod turning;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use serde::Serialize;

use roll::{Plan, Roll, roll};
use turning::{Balancer, Fleet, Turning, turning};

/// Simulates the roll of a fleet: how long the lame duck must be, and how many connections are made anew
///
/// All times are in seconds. Without flags of a balancer, four common kinds are compared.
#[derive(Parser)]
struct Args {
    /// Instances of the fleet
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    instances: u32,
    /// Balancers in front, each with checks of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    balancers: u32,
    /// New connections a second, from each balancer to each instance
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    connects: f64,
    /// Of your balancer: between two checks
    #[arg(long, requires = "fall", value_parser = positive)]
    interval: Option<f64>,
    /// Of your balancer: failed checks in a row until it turns away
    #[arg(long, requires = "interval", value_parser = clap::value_parser!(u32).range(1..=100))]
    fall: Option<u32>,
    /// Of your balancer: what it takes at most until all that route for it have heard
    #[arg(long, requires = "interval", default_value_t = 0.0, value_parser = not_negative)]
    delay: f64,
    /// Of your balancer: refused connections until it turns away by itself
    #[arg(long, requires = "interval", value_parser = clap::value_parser!(u32).range(1..))]
    refusals: Option<u32>,
    /// Lame ducks to compare
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0], value_parser = not_negative)]
    lame_ducks: Vec<f64>,
    /// The lame duck of the roll [default: as long as your balancer needs, or 6]
    #[arg(long, value_parser = not_negative)]
    lame_duck: Option<f64>,
    /// Connections that clients keep open to each instance
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kept: u32,
    /// Instances that end at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// From an instance's end to its successor's first accept
    #[arg(long, default_value_t = 5.0, value_parser = not_negative)]
    start: f64,
    /// Clients wait up to so long before they connect anew
    #[arg(long, default_value_t = 0.1, value_parser = not_negative)]
    backoff: f64,
    /// Spreads to compare
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 5.0, 20.0], value_parser = not_negative)]
    spreads: Vec<f64>,
    /// The same fleet again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the tables between the lines `<!-- fleet -->` and `<!-- /fleet -->` of this file, and the pictures beside it
    #[arg(long)]
    into: Option<PathBuf>,
    /// Writes all figures
    #[arg(long)]
    json: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        number if number > 0.0 => Ok(number),
        _ => Err("it has to be more than 0".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "it has to be a number of seconds, such as 0.5".to_owned())?;
    if (0.0..=86_400.0).contains(&number) { Ok(number) } else { Err("it has to be between 0 and a day".to_owned()) }
}

/// One line of the first picture.
#[derive(Serialize)]
struct Turned {
    name: String,
    balancer: Balancer,
    by_lame_duck: Vec<Turning>,
}

#[derive(Serialize)]
struct Figures {
    seed: u64,
    fleet: Fleet,
    turned: Vec<Turned>,
    rolls: Vec<Roll>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads = writeln!(io::stderr(), "fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.at_once < args.instances,
        "--at-once {} leaves nobody to serve: it has to be less than --instances {}",
        args.at_once,
        args.instances
    );
    let figures = simulate(args);
    let text = format!("{}\n{}", lame_ducks(&figures), reconnects(&figures));
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    if let Some(path) = &args.into {
        put_into(path, &text)?;
        let beside = |name: &str| path.with_file_name(name);
        picture::turned(&beside("fleet-lame-duck.svg"), &figures.turned)?;
        picture::rolls(&beside("fleet-reconnects.svg"), &figures.rolls)?;
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)? + "\n")
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn simulate(args: &Args) -> Figures {
    let fleet = Fleet { instances: args.instances, balancers: args.balancers, connects: args.connects };
    let yours = args.interval.is_some();
    let turned = kinds(args).into_iter().map(|(name, balancer)| {
        let by = |lame_duck: &f64| turning(fleet, balancer, *lame_duck, args.seed);
        Turned { name, balancer, by_lame_duck: args.lame_ducks.iter().map(by).collect() }
    });
    let turned: Vec<_> = turned.collect();
    let plan = |spread: &f64| Plan {
        instances: args.instances,
        kept: args.kept,
        at_once: args.at_once,
        lame_duck: args.lame_duck.unwrap_or(if yours { turned[0].balancer.slowest() } else { 6.0 }),
        spread: *spread,
        start: args.start,
        backoff: args.backoff,
    };
    let rolls = args.spreads.iter().map(|spread| roll(plan(spread), args.seed)).collect();
    Figures { seed: args.seed, fleet, turned, rolls }
}

/// The one that was asked for; else some that stand for many.
fn kinds(args: &Args) -> Vec<(String, Balancer)> {
    if let (Some(interval), Some(fall)) = (args.interval, args.fall) {
        let name = format!("yours: every {interval} s, {fall} in a row, up to {} s more", args.delay);
        return vec![(name, Balancer { interval, fall, delay: (0.0, args.delay), refusals: args.refusals })];
    }
    let kind =
        |name: &str, interval, fall, delay| (name.to_owned(), Balancer { interval, fall, delay, refusals: None });
    vec![
        kind("checks every 2 s, 3 in a row (HAProxy's defaults)", 2.0, 3, (0.0, 0.0)),
        kind("checks every 1 s, 1 is enough", 1.0, 1, (0.0, 0.0)),
        kind("no checks, told within 5 s (endpoints of a cluster)", 0.0, 0, (0.1, 5.0)),
        kind("checks every 5 s, 2 in a row, told within 3 s", 5.0, 2, (0.1, 3.0)),
    ]
}

// --- words --------------------------------------------------------------------------------------

fn lame_ducks(figures: &Figures) -> String {
    let Fleet { instances, balancers, connects } = figures.fleet;
    let mut text = format!(
        "Connections refused, for each of {instances} instances that end; {balancers} balancers with {connects} new connections a second each:\n\n\
         | balancers | must be | {} |\n|---|---:|{}\n",
        figures.turned[0]
            .by_lame_duck
            .iter()
            .map(|turned| format!("{} s", turned.lame_duck))
            .collect::<Vec<_>>()
            .join(" | "),
        "---:|".repeat(figures.turned[0].by_lame_duck.len()),
    );
    for turned in &figures.turned {
        let cells: Vec<_> = turned.by_lame_duck.iter().map(|turning| figure(turning.refused)).collect();
        let _infallible =
            writeln!(text, "| {} | {} s | {} |", turned.name, figure(turned.balancer.slowest()), cells.join(" | "));
    }
    text
}

fn reconnects(figures: &Figures) -> String {
    let Some(first) = figures.rolls.first() else { return String::new() };
    let Plan { instances, kept, at_once, lame_duck, start, .. } = first.plan;
    let mut text = format!(
        "A roll of {instances} instances with {kept} kept connections each, {at_once} at a time; lame duck {lame_duck} s, a start takes {start} s:\n\n\
         | spread | the roll takes | reconnects | for each kept | most a second, fleet | most a second, one instance | fullest instance |\n\
         |---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for roll in &figures.rolls {
        let _infallible = writeln!(
            text,
            "| {} s | {:.0} min | {} | {:.2} | {} | {} | {:.1} x |",
            roll.plan.spread,
            roll.seconds / 60.0,
            roll.reconnects,
            roll.reconnects_each,
            roll.a_second,
            roll.a_second_at_one,
            roll.fullest
        );
    }
    text
}

/// Three digits are enough.
fn figure(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        small if small < 0.01 => "< 0.01".to_owned(),
        small if small < 10.0 => format!("{small:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        large => format!("{large:.0}"),
    }
}

fn put_into(path: &Path, text: &str) -> anyhow::Result<()> {
    let (begin, end) = ("<!-- fleet -->\n", "<!-- /fleet -->");
    let file = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let places = file.find(begin).map(|at| at + begin.len()).zip(file.find(end)).filter(|(from, to)| from <= to);
    let (from, to) =
        places.with_context(|| format!("{} has no lines <!-- fleet --> and <!-- /fleet -->", path.display()))?;
    std::fs::write(path, format!("{}\n{text}\n{}", &file[..from], &file[to..]))
        .with_context(|| path.display().to_string())
}
