//! SPEC.md, To be seen: metrics as a scraper sees them, and the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use prometheus_parse::{Scrape, Value};

use crate::support::*;

const PAGE: &str = include_str!("../../../../docs/observing.md");

/// A scrape, as a real parser understands it.
struct Seen {
    text: String,
    scrape: Scrape,
}

fn scrape(admin: SocketAddr) -> Seen {
    try_scrape(&mut Client::connect(admin)).expect("the admin port answers")
}

fn try_scrape(client: &mut Client) -> std::io::Result<Seen> {
    client.try_send(http1::request("GET", "/metrics", ""))?;
    let response = client.try_response()?;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text().to_owned();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus' text");
    Ok(Seen { text, scrape })
}

impl Seen {
    /// The value of the only one of that name with all of these labels.
    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let values = self.values(name, labels);
        assert_eq!(values.len(), 1, "{name} {labels:?} in:\n{}", self.text);
        values[0]
    }

    #[track_caller]
    fn sum(&self, name: &str) -> f64 {
        let values = self.values(name, &[]);
        assert!(!values.is_empty(), "no {name} in:\n{}", self.text);
        values.iter().sum()
    }

    fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let are = |sample: &&prometheus_parse::Sample| {
            sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
        };
        let number = |sample: &prometheus_parse::Sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) => value,
            ref other => panic!("{name} is {other:?}"),
        };
        self.scrape.samples.iter().filter(are).map(number).collect()
    }

    /// Every connection and every request is in one place.
    #[track_caller]
    fn adds_up(&self) {
        let accepted = self.value("glidepath_connections_accepted_total", &[]);
        let known = self.sum("glidepath_connections") + self.sum("glidepath_connections_ended_total");
        assert_eq!(accepted, known, "connections:\n{}", self.text);
        let started = self.value("glidepath_requests_started_total", &[]);
        let known = self.value("glidepath_requests_in_flight", &[]) + self.sum("glidepath_requests_ended_total");
        assert_eq!(started, known, "requests:\n{}", self.text);
        let started = self.value("glidepath_tasks_started_total", &[]);
        let known = self.value("glidepath_tasks_running", &[]) + self.sum("glidepath_tasks_ended_total");
        assert_eq!(started, known, "tasks:\n{}", self.text);
        assert_eq!(self.sum("glidepath_phase"), 1.0, "one phase:\n{}", self.text);
    }

    /// The phase that it is in.
    fn phase(&self) -> String {
        let on = |sample: &&prometheus_parse::Sample| {
            sample.metric == "glidepath_phase" && matches!(sample.value, Value::Gauge(value) if value == 1.0)
        };
        let phase = self.scrape.samples.iter().find(on).and_then(|sample| sample.labels.get("phase"));
        phase.unwrap_or_default().to_owned()
    }
}

/// "what it says of itself is a scrape": each number is that of the work that a client gave it.
#[test]
pub(crate) fn see_2_a_scrape_counts_what_clients_did() {
    let server = Start::target().set("ADMIN_PORT", 0).start();
    let (address, admin) = (server.address(), server.admin());
    let before = scrape(admin);
    before.adds_up();
    assert_eq!(before.phase(), "serving");
    assert_eq!(before.value("glidepath_ready", &[]), 1.0);

    let _at_rest = Client::at_rest(address);
    let mut slow = Client::connect(address);
    slow.get("/sleep?ms=60000").until_read();
    let task = http1::request("POST", "/task?ms=60000", "content-length: 0\r\n");
    let mut tasks = Client::connect(address);
    tasks.send(task);
    assert_eq!(tasks.response().status, 202);
    fetch(address, "/");
    let abandoned = {
        let mut client = Client::connect(address);
        // Half-closed it would be answered; one that is gone is seen when more is written.
        client.get("/stream?chunks=100000&ms=5");
        client.head();
        client
    };
    wait_until("two requests are in flight", || scrape(admin).value("glidepath_requests_in_flight", &[]) == 2.0);
    drop(abandoned);
    wait_until("one was abandoned", || {
        scrape(admin).value("glidepath_requests_ended_total", &[("outcome", "abandoned")]) == 1.0
    });
    let after = scrape(admin);
    after.adds_up();
    let more = |name: &str, labels: &[(&str, &str)]| after.value(name, labels) - before.value(name, labels);
    assert_eq!(more("glidepath_connections_accepted_total", &[]), 5.0);
    // `at_rest`, `slow`, `tasks`, `fetch` and `abandoned`.
    assert_eq!(more("glidepath_requests_started_total", &[]), 5.0);
    assert_eq!(more("glidepath_requests_in_flight", &[]), 1.0);
    assert_eq!(more("glidepath_connections", &[("state", "in_flight")]), 1.0);
    assert_eq!(more("glidepath_tasks_running", &[]), 1.0);
    assert_eq!(after.value("glidepath_grace_period_seconds", &[]), 30.0);
    assert_eq!(after.sum("glidepath_end_seconds"), 0.0);
    // Scrapes are no work, whoever counts.
    assert_eq!(scrape(admin).sum("glidepath_requests_started_total"), after.sum("glidepath_requests_started_total"));
}

/// "through the drain to the last scrape", under load: the sums hold in each of them, and the last agrees with the report.
#[test]
pub(crate) fn see_2_through_the_drain_the_sums_hold_and_the_last_scrape_is_the_report() {
    let server = Start::target().set("ADMIN_PORT", 0).start();
    let (address, admin) = (server.address(), server.admin());
    let mut scraper = Client::connect(admin);
    let mut slow: Vec<_> = (0..3).map(|_| Client::connect(address)).collect();
    for client in &mut slow {
        client.get("/sleep?ms=700").until_read();
    }
    // It holds the end for a while when all connections are closed.
    let mut task = Client::connect(address);
    task.send(http1::request("POST", "/task?ms=3000", "content-length: 0\r\n"));
    assert_eq!(task.response().status, 202);
    let _at_rest: Vec<_> = (0..5).map(|_| Client::at_rest(address)).collect();
    let load = std::thread::spawn(move || {
        // Ends by itself: with the end nobody answers any more.
        while let Ok(mut client) = Client::try_connect(address) {
            if client.try_send(http1::request("GET", "/", "")).and_then(|()| client.try_response()).is_err() {
                break;
            }
        }
    });
    for _ in 0..5 {
        try_scrape(&mut scraper).expect("it serves").adds_up();
    }
    server.terminate();
    let (mut last, mut phases, mut stage) = (scrape(admin), BTreeSet::new(), 0.0);
    while let Ok(seen) = try_scrape(&mut scraper) {
        seen.adds_up();
        phases.insert(seen.phase());
        let lasted = seen.value("glidepath_end_seconds", &[("stage", "draining")]);
        assert!(lasted >= stage, "a stage that has lasted {stage} s has lasted {lasted} s");
        (last, stage) = (seen, lasted);
        std::thread::sleep(ms(10));
    }
    load.join().expect("the load ends with the server");
    let exit = server.exit();
    exit.assert_code(0);
    let report = exit.report();
    assert!(phases.contains("draining"), "{phases:?}");
    let of = |part: &str, name: &str| report[part][name].as_f64().expect("a number of the report");
    for outcome in ["finished", "at_rest", "upgraded", "failed", "cut"] {
        let told = last.value("glidepath_connections_ended_total", &[("outcome", outcome)]);
        assert_eq!(told, of("connections", outcome), "connections {outcome}, in the last scrape:\n{}", last.text);
    }
    for outcome in ["answered", "abandoned", "cut"] {
        let told = last.value("glidepath_requests_ended_total", &[("outcome", outcome)]);
        assert_eq!(told, of("requests", outcome), "requests {outcome}, in the last scrape:\n{}", last.text);
    }
    assert_eq!(last.sum("glidepath_connections"), 0.0, "{}", last.text);
    assert!(of("connections", "accepted") > 10.0, "hardly any load: {report}");
    let took = report["took_ms"].as_f64().expect("a number") / 1000.0;
    assert!(stage > 0.7 && stage <= took, "draining took {stage} s of {took} s");
}

/// What the page says of the metrics: name to kind, label, and the label's values.
fn table(rows: impl Iterator<Item = (String, String, String)>) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut table = BTreeMap::<_, (String, BTreeSet<String>)>::new();
    for (name, kind, label) in rows {
        let entry = table.entry(name).or_default();
        entry.0 = kind;
        entry.1.insert(label);
    }
    table
}

/// The page and the code say the same: names, kinds, labels and their values.
#[test]
pub(crate) fn see_2_the_page_names_what_is_told_and_nothing_else() {
    let server = Start::target().set("ADMIN_PORT", 0).start();
    let seen = scrape(server.admin());
    let told = table(seen.scrape.samples.iter().map(|sample| {
        let kind = match sample.value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            ref other => panic!("{} is {other:?}", sample.metric),
        };
        let labels: Vec<_> = sample.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
        (sample.metric.clone(), kind.to_owned(), labels.join(","))
    }));
    let said = table(PAGE.lines().filter(|line| line.starts_with("| `glidepath_")).flat_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let (name, kind) = (cells[1].trim_matches('`').to_owned(), cells[2].to_owned());
        let words: Vec<_> = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let labels = match &words[..] {
            [] => vec![String::new()],
            [label] if label == "version" => vec![format!("version={}", env!("CARGO_PKG_VERSION"))],
            [label, values @ ..] => values.iter().map(|value| format!("{label}={value}")).collect(),
        };
        labels.into_iter().map(move |label| (name.clone(), kind.clone(), label))
    }));
    assert_eq!(told, said);
    for name in told.keys() {
        assert!(seen.scrape.docs.contains_key(name), "{name} has no help:\n{}", seen.text);
    }
}

/// promtool's own linter has nothing to say about it, and has about one without a unit.
#[test]
pub(crate) fn see_2_promtool_finds_nothing_to_mend() {
    let server = Start::target().set("ADMIN_PORT", 0).start();
    let text = scrape(server.admin()).text;
    if !runs(&["promtool", "--version"]) {
        return skipped("there is no promtool");
    }
    let lint = |text: &str| {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool starts");
        promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
        let output = promtool.wait_with_output().expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(lint(&text), (true, String::new()), "{text}");
    let (passes, says) = lint(&text.replace("glidepath_end_seconds", "glidepath_end_milliseconds"));
    assert!(!passes && says.contains("glidepath_end_milliseconds"), "{says}");
}

/// "a clean end is four lines at info": of glidepath's own, and nothing louder.
#[test]
pub(crate) fn see_3_a_clean_end_is_four_lines_at_info() {
    let server = Start::target().start();
    let mut at_rest = Client::at_rest(server.address());
    server.terminate();
    assert_eq!(at_rest.end(), End::Fin);
    let exit = server.exit();
    exit.assert_code(0);
    let lines: Vec<_> = exit.stderr.lines().filter(|line| line.contains(" glidepath::")).collect();
    assert!(lines[0].contains("lifecycle phase=serving"), "{}", exit.stderr);
    let expected = [
        "INFO glidepath::lifecycle: lifecycle phase=draining cause=\"SIGTERM\"",
        "INFO glidepath::lifecycle: listeners closed listeners=1 took_ms=",
        "INFO glidepath::lifecycle: lifecycle phase=closing cause=\"SIGTERM\"",
        "INFO glidepath::lifecycle: lifecycle phase=ended cause=\"SIGTERM\" outcome=\"clean\" exit_code=0 took_ms=",
    ];
    assert_eq!(lines.len(), 1 + expected.len(), "{}", exit.stderr);
    for (line, expected) in lines[1..].iter().zip(expected) {
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
pub(crate) fn see_3_a_request_that_is_cut_is_a_warning() {
    let server = Start::target().set("GRACE", 0.5).start();
    let mut client = Client::connect(server.address());
    client.get("/sleep?ms=60000").until_read();
    server.terminate();
    let exit = server.exit();
    exit.assert_code(3);
    let cut: Vec<_> = exit.stderr.lines().filter(|line| line.contains(" WARN glidepath::cut: ")).collect();
    assert_eq!(cut.len(), 1, "{}", exit.stderr);
    assert!(cut[0].contains("cut kind=\"request\" name=\"GET /sleep\" age_ms="), "{}", cut[0]);
}

/// An event as the page or the source has it: target and message, to level and fields.
type Events = BTreeMap<(String, String), (String, BTreeSet<String>)>;

/// The events in the library's source that say their target.
fn events_of_the_source(folder: &Path, events: &mut Events) {
    for entry in std::fs::read_dir(folder).expect("the source is here") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            events_of_the_source(&path, events);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("the source is text");
        for (at, _) in text.match_indices("tracing::") {
            let Some((level, arguments)) = text[at + "tracing::".len()..].split_once("!(") else { continue };
            if !matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "info_span") {
                continue;
            }
            let (mut target, mut message, mut fields) = (None, None, BTreeSet::new());
            for argument in arguments_of(arguments) {
                if let Some(name) = argument.strip_prefix("target: ") {
                    target = Some(name.trim_matches('"').to_owned());
                } else if argument.starts_with('"') {
                    message = Some(argument.trim_matches('"').to_owned());
                } else {
                    let name = argument.split('=').next().unwrap_or_default();
                    fields.insert(name.trim_matches(['%', '?', ' ']).to_owned());
                }
            }
            let Some(target) = target else { continue };
            let message = message.unwrap_or_else(|| panic!("{}: an event of {target} has no message", path.display()));
            let event = events.entry((target, message)).or_default();
            event.0 = level.trim_end_matches("_span").to_owned();
            event.1.extend(fields);
        }
    }
}

/// Split at the commas that are in nothing, to the bracket that closes.
fn arguments_of(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped, mut arguments) = (0, false, false, vec![String::new()]);
    for c in text.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        arguments.last_mut().expect("one at least").push(c);
    }
    arguments.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// The page and the source say the same: targets, levels, messages and fields.
#[test]
pub(crate) fn see_3_the_page_names_every_event_that_says_its_target() {
    let mut told = Events::new();
    events_of_the_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut told);
    let rows = PAGE.lines().filter(|line| line.starts_with("| `glidepath::"));
    let said: Events = rows
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let word = |cell: &str| cell.trim_matches('`').to_owned();
            let fields = cells[4].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            ((word(cells[1]), word(cells[3])), (cells[2].to_owned(), fields))
        })
        .collect();
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(told, said);
}
