//! SPEC.md, Terminal.

mod picture;

use std::net::SocketAddr;
use std::thread::sleep;

use rustix::process::Signal;

use crate::support::terminal::{CTRL_BACKSLASH, CTRL_C, CTRL_Q, CTRL_S, CTRL_Z, Screen};
use crate::support::*;

const CANNOT_LEND: &str = "setsid can't lend a terminal here";

/// Longer than the debounce of 250 ms.
const BEYOND_DEBOUNCE: std::time::Duration = ms(400);

/// The target on this terminal, once it serves.
fn on(screen: &mut Screen, start: Start) -> Process {
    let address = sockets::free_address();
    let mut server = start.on(address.port()).on_terminal(screen).launch();
    server.listens_on(address);
    server
}

/// A request that is with the app.
fn held(address: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(address);
    client.get(path).until_read();
    client
}

/// One more Ctrl-C, which is no part of the first.
fn forces(screen: &Screen) {
    sleep(BEYOND_DEBOUNCE);
    screen.types(CTRL_C);
}

fn starts_task(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send(http1::request("POST", "/task?ms=20000", ""));
    assert_eq!(client.response().status, 202);
}

/// Nothing of the view is left anywhere, and the report stands below all else.
#[track_caller]
fn assert_only_the_report_is_left(screen: &Screen, outcome: &str) {
    screen.wait_for_end();
    let lines = screen.all_lines();
    let all = lines.join("\n");
    for words in ["█", "░", " left", "waiting for", "Ctrl-C"] {
        assert!(!all.contains(words), "{words:?} is left of the view:\n{all}");
    }
    assert_the_report_is_last(&lines, outcome);
    assert!(screen.has_its_modes(), "its keys do something else than before");
}

#[track_caller]
fn assert_the_report_is_last(lines: &[String], outcome: &str) {
    let all = lines.join("\n");
    let report =
        lines.iter().rposition(|line| line.starts_with("glidepath: ")).unwrap_or_else(|| panic!("no report:\n{all}"));
    assert!(lines[report].contains(outcome), "not {outcome:?}:\n{all}");
    // The end of a lifecycle may be logged while another thread tells it already.
    let rest: Vec<_> = lines[report + 1..].iter().filter(|line| !line.contains(" lifecycle ")).collect();
    assert!(rest.len() >= 2 && rest.iter().all(|line| line.starts_with("  ")), "not the report alone:\n{all}");
}

/// "says at once what holds the process" and "gone before the report is printed"
#[test]
fn tty_1_on_a_terminal_an_end_shows_what_holds_it() {
    for (width, height) in [(80, 24), (200, 50)] {
        let Some(mut screen) = Screen::new(width, height) else { return skipped(CANNOT_LEND) };
        let server = on(&mut screen, Start::target());
        let _held: Vec<_> = (0..6).map(|_| held(server.address(), "/sleep?ms=20000")).collect();
        // Requests are timed by a clock that ticks every few milliseconds: the task is to be younger by more than that.
        sleep(ms(20));
        starts_task(server.address());
        screen.types(CTRL_C);
        let seen = screen.wait_for("Ctrl-C: stop waiting. What runs is cut, exit code 130");
        assert!(seen.contains("draining  ████") && seen.contains(" s of 30 s left"), "{seen}");
        assert!(seen.contains("waiting for 6 requests, 1 task\n"), "{seen}");
        assert_eq!(seen.matches("request  GET /sleep  from 127.0.0.1:").count(), 5, "the oldest are named:\n{seen}");
        assert!(seen.contains("and 2 more"), "{seen}");
        screen.wait_until("time goes on, in the same place", |seen| {
            seen.contains(" 28 s of 30 s left") && seen.matches(" left").count() == 1
        });
        assert!(server.is_running());
        forces(&screen);
        server.exit().assert_code(130);
        assert_only_the_report_is_left(&screen, "forced");
    }
}

/// The control: an end that takes no time shows nothing but the report.
#[test]
fn tty_1_an_end_that_nothing_holds_shows_no_view() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target());
    // What has long been at rest ends at once.
    sleep(QUIET + ms(300));
    screen.types(CTRL_C);
    server.exit().assert_code(0);
    assert_only_the_report_is_left(&screen, "all work finished");
    assert!(!screen.written().contains('█'), "{}", screen.written());
}

/// "in a lame duck it ends that"
#[test]
fn tty_2_in_the_lame_duck_a_ctrl_c_begins_the_drain() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target().set("LAME_DUCK", 20));
    let _held = held(server.address(), "/sleep?ms=20000");
    server.terminate();
    let seen = screen.wait_for("Ctrl-C: drain now");
    assert!(seen.contains("lame duck  █") && seen.contains("still accepting") && seen.contains("1 request"), "{seen}");
    sleep(BEYOND_DEBOUNCE);
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    server.wait_for_seal();
    forces(&screen);
    server.exit().assert_code(130);
    assert_only_the_report_is_left(&screen, "forced");
}

/// "a log that is written by `glidepath::stderr` stands above it, every line whole and in its order"
#[test]
fn tty_3_log_lines_come_above_the_view_unbroken() {
    const LINES: usize = 120;
    for (width, height) in [(80, 24), (200, 50), (50, 12)] {
        let Some(mut screen) = Screen::new(width, height) else { return skipped(CANNOT_LEND) };
        let server = on(&mut screen, Start::target());
        let mut logs = held(server.address(), &format!("/log?lines={LINES}&ms=20"));
        screen.types(CTRL_C);
        screen.wait_for("/log");
        logs.response().assert_is(200, "logged");
        server.exit().assert_code(0);
        assert_only_the_report_is_left(&screen, "all work finished");

        let lines = screen.all_lines();
        let logged: Vec<_> = lines.iter().filter_map(|line| line.split_once("target: ")).collect();
        let wanted: Vec<_> = (0..LINES).map(|n| format!("line {n} of {LINES}")).collect();
        assert!(logged.iter().map(|(_, text)| *text).eq(&wanted), "{}", lines.join("\n"));
        let other = |line: &&String| !line.contains("target: ") && !line.contains(" INFO glidepath::");
        let others: Vec<_> = lines.iter().filter(other).collect();
        let report = others.iter().position(|line| line.starts_with("glidepath: ")).expect("a report");
        assert_eq!(others[1..report], ["^C"], "behind the address there is nothing else:\n{}", lines.join("\n"));
    }
}

/// "a whole line that is written past it stays, too"
#[test]
fn tty_3_what_is_written_past_the_log_stays() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target());
    let _held = held(server.address(), "/sleep?ms=20000");
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    for n in 0..3 {
        screen.others_write(&format!("line {n} of somebody else\r\n"));
        // The view is drawn anew below it.
        screen.wait_until("the view, below a line of its own", |seen| {
            let line = seen.find(&format!("line {n} of somebody else\n\ndraining"));
            line.is_some() && seen.matches("draining  ").count() == 1
        });
    }
    forces(&screen);
    server.exit().assert_code(130);
    assert_only_the_report_is_left(&screen, "forced");
    let lines = screen.all_lines();
    assert_eq!(lines.iter().filter(|line| line.ends_with(" of somebody else")).count(), 3, "{}", lines.join("\n"));
}

/// "where there is no terminal, and where `TERM` is `dumb` or `CI` is set, log lines, and no control sequence"
#[test]
fn tty_4_what_is_no_terminal_to_draw_on_gets_log_lines() {
    let piped = Start::target().set("TERM", "xterm-256color").start();
    let held_by_pipe = held(piped.address(), "/sleep?ms=20000");
    piped.terminate();
    let mut on_terminals = Vec::new();
    for (name, value) in [("TERM", "dumb"), ("CI", "true")] {
        let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
        let address = sockets::free_address();
        let start = Start::target().on(address.port()).on_terminal(&mut screen).set(name, value).set("NO_COLOR", 1);
        let mut server = start.launch();
        server.listens_on(address);
        let held = held(address, "/sleep?ms=20000");
        screen.types(CTRL_C);
        on_terminals.push((screen, server, held));
    }
    for (screen, server, _held) in on_terminals {
        screen.wait_for("draining: 1 request, ");
        forces(&screen);
        server.exit().assert_code(130);
        screen.wait_for_end();
        assert!(!screen.written().contains('\x1b'), "{:?}", screen.written());
    }
    let log = piped.stderr.wait_until(|log| log.contains("draining: 1 request, "));
    drop(held_by_pipe);
    piped.terminate();
    piped.exit().assert_code(143);
    assert!(!log.contains("\x1b[?7l") && !log.contains("\x1b[J"), "{log:?}");
}

/// "names are cut at the terminal's columns": before the last one, where some terminals would erase it again.
#[test]
fn tty_4_a_name_that_is_longer_than_the_terminal_is_wide_is_cut() {
    let Some(mut screen) = Screen::new(60, 24) else { return skipped(CANNOT_LEND) };
    let address = sockets::free_address();
    let server = Start::example("background").on(address.port()).on_terminal(&mut screen).launch();
    wait_until("it listens", || sockets::is_listening(address));
    // Two columns wide, and in front an escape sequence and what makes it even.
    let name = format!("%1B%5B2Jx{}", "%E6%BC%A2".repeat(40));
    let mut client = Client::connect(address);
    client.send(http1::request("POST", &format!("/task?how=hangs&name={name}"), ""));
    assert_eq!(client.response().status, 202);
    screen.types(CTRL_C);
    let seen = screen.wait_for("Ctrl-C: stop waiting");
    let row = seen.lines().find(|row| row.contains("  task  ")).expect("it is named");
    assert!(row.ends_with("漢…") && row.contains(r#""\u{1b}[2Jx漢"#), "{seen}");
    let wide = row.matches('漢').count();
    assert_eq!(row.chars().count() + wide, 58, "{wide} of two columns:\n{seen}");
    forces(&screen);
    server.exit().assert_code(130);
    screen.wait_for_end();
    assert!(screen.has_its_modes(), "its keys do something else than before");
}

/// "without colours where `NO_COLOR` is set": the view is there, and says the same.
#[test]
fn tty_4_no_color_takes_only_the_colours() {
    let mut seen = Vec::new();
    for no_color in ["", "1"] {
        let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
        let server = on(&mut screen, Start::target().set("NO_COLOR", no_color));
        let _held = held(server.address(), "/sleep?ms=20000");
        screen.types(CTRL_C);
        screen.wait_for("Ctrl-C: stop waiting. What runs is cut");
        forces(&screen);
        server.exit().assert_code(130);
        assert_only_the_report_is_left(&screen, "forced");
        seen.push(screen.written().contains("\x1b[1mdraining\x1b[0m"));
    }
    assert_eq!(seen, [true, false]);
}

/// "a pipe gets no control sequence" with the report, and a terminal its outcome in a colour.
#[test]
fn tty_4_the_report_is_coloured_on_a_terminal_only() {
    const WORDS: &str = "all work finished";
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let address = sockets::free_address();
    let start = || Start::example("held").on(address.port()).set("TERM", "xterm-256color");
    let server = start().on_terminal(&mut screen).launch();
    wait_until("it listens", || sockets::is_listening(address));
    screen.types(CTRL_C);
    server.exit().assert_code(0);
    assert_only_the_report_is_left(&screen, WORDS);
    assert!(screen.written().contains(&format!("\x1b[1;32m{WORDS}\x1b[0m (SIGINT")), "{:?}", screen.written());

    let piped = start().launch();
    wait_until("it listens", || sockets::is_listening(address));
    let exit = piped.end();
    assert!(
        exit.stderr.contains(&format!("glidepath: {WORDS} (SIGTERM")) && !exit.stderr.contains('\x1b'),
        "{}",
        exit.stderr
    );
}

/// "never wider or higher than the terminal", also when that has become smaller.
#[test]
fn tty_4_a_terminal_that_becomes_smaller_has_the_view_once() {
    let Some(mut screen) = Screen::new(100, 30) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target());
    let _held: Vec<_> = (0..6).map(|_| held(server.address(), "/sleep?ms=20000")).collect();
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    for (width, height) in [(60, 20), (40, 10), (24, 8), (90, 25)] {
        screen.resize(width, height);
        screen.wait_until("the view, once", |seen| {
            let narrow = width < 30;
            let wanted = if narrow { "\ndraining: 6 requests" } else { "Ctrl-C: stop waiting" };
            seen.contains(wanted) && seen.matches("\ndraining").count() == 1
        });
    }
    forces(&screen);
    server.exit().assert_code(130);
    screen.wait_for_end();
    assert!(screen.rows().iter().any(|line| line.starts_with("glidepath: forced")), "{:?}", screen.rows());
}

/// "with every worker of the runtime blocked it is there, says so, and is gone before the report"
#[test]
fn tty_5_a_blocked_runtime_is_shown_and_named() {
    for (further, code, outcome) in [(true, 130, "forced"), (false, 3, "cut by the deadline")] {
        let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
        let server = on(&mut screen, Start::target().set("WORKERS", 1).set("GRACE", 4));
        let _blocks = held(server.address(), "/block?ms=20000");
        screen.types(CTRL_C);
        let seen = screen.wait_for("its threads are blocked");
        assert!(seen.contains("the runtime has not run for") && seen.contains("request  GET /block"), "{seen}");
        if further {
            forces(&screen);
        }
        server.exit().assert_code(code);
        assert_only_the_report_is_left(&screen, outcome);
    }
}

/// "SIGQUIT's dump"
#[test]
fn tty_5_the_view_is_gone_before_the_dump() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target());
    let _held = held(server.address(), "/sleep?ms=20000");
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    screen.types(CTRL_BACKSLASH);
    server.exit().assert_code(131);
    screen.wait_for_end();
    let all = screen.all_lines().join("\n");
    assert!(!all.contains('█') && !all.contains("Ctrl-C"), "{all}");
    assert!(
        all.contains("\nglidepath: process ") && all.contains(", draining, SIGINT") && all.contains("GET /sleep  from"),
        "{all}"
    );
}

/// "after a stop and a continuation it is drawn below what a shell wrote meanwhile"
#[test]
fn tty_5_after_a_stop_and_a_continuation_it_goes_on_below() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target());
    let _held = held(server.address(), "/sleep?ms=20000");
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    server.freeze();
    screen.others_write("\r\n[1]+  Stopped\r\n$ fg\r\n");
    server.thaw();
    screen.wait_until("the view, below", |seen| {
        let (shell, view) = (seen.find("$ fg"), seen.find("draining  "));
        shell.is_some() && shell < view && seen.matches("draining  ").count() == 1
    });
    sleep(BEYOND_DEBOUNCE);
    server.signal(Signal::INT);
    server.exit().assert_code(130);
    screen.wait_for_end();
    assert_the_report_is_last(&screen.all_lines(), "forced");
}

/// "a process that is still there when all work has ended says so"
#[test]
fn tty_6_what_is_still_there_after_its_report_says_why() {
    for holds in [true, false] {
        let address = sockets::free_address();
        let server = Start::example("held").on(address.port()).launch();
        wait_until("it listens", || sockets::is_listening(address));
        let mut client = Client::connect(address);
        client.send(http1::request(if holds { "POST" } else { "GET" }, "/backup", "content-length: 0\r\n"));
        client.response();
        drop(client);
        server.terminate();
        if holds {
            let told = server.stderr.wait_for("all work has ended and the process has not");
            assert!(told.contains("blocking call") && told.contains("it is ended in 2"), "{told}");
            server.signal(Signal::QUIT);
            server.exit().assert_code(131);
        } else {
            let exit = server.exit();
            assert!(!exit.assert_code(0).stderr.contains("process has not"), "{}", exit.stderr);
        }
    }
}

/// "the terminal takes nothing": Ctrl-S, which holds up whoever writes. Ctrl-Q lets them go on.
#[test]
fn tty_5_a_terminal_that_takes_nothing_holds_up_no_end() {
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let server = on(&mut screen, Start::target().set("GRACE", 2));
    let _held = held(server.address(), "/log?lines=1000&ms=20");
    let asked = server.terminate();
    screen.wait_for("Ctrl-C: stop waiting");
    screen.types(CTRL_S);
    let exit = server.exit();
    exit.assert_code(3);
    assert!(exit.at - asked < ms(2500 + 500), "{:?} after the signal", exit.at - asked);
    screen.types(CTRL_Q);
}

/// "after a stop" by Ctrl-Z nothing of it is in the shell's way.
#[test]
fn tty_5_a_shell_that_stops_it_with_ctrl_z_has_the_terminal_for_itself() {
    const SHELL: [&str; 3] = ["bash", "--norc", "-i"];
    if !runs(&["bash", "-c", "true"]) {
        return skipped("there is no shell with job control here");
    }
    let Some(mut screen) = Screen::new(100, 24) else { return skipped(CANNOT_LEND) };
    let address = sockets::free_address();
    let shell = Start::command(&SHELL).set("PS1", "shell> ").on_terminal(&mut screen).launch();
    screen.wait_for("shell>");
    let target = Start::target().on(address.port()).in_words();
    screen.types(format!("{target} >/dev/null\n").as_bytes());
    wait_until("it listens", || sockets::is_listening(address));
    let _held = held(address, "/sleep?ms=20000");
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting");
    for stops in 1..3 {
        screen.types(CTRL_Z);
        let seen = screen.wait_until("the shell, with nothing behind it", |seen| seen.trim_end().ends_with("shell>"));
        assert_eq!(seen.matches("Stopped").count(), stops, "{seen}");
        assert!(!seen.contains("draining  ") && !seen.contains("waiting for"), "{seen}");
        if stops == 2 {
            // In the background it goes on, and leaves the terminal to the shell.
            screen.types(b"bg\n");
            sleep(ms(1500));
            screen.types(b"jobs\n");
            shell.stdout.wait_for("Running");
            let seen = screen.rows().join("\n");
            assert!(seen.contains("shell> bg") && !seen.contains("draining  "), "{seen}");
        }
        screen.types(b"fg\n");
        screen.wait_until("the view, below", |seen| {
            let (shell, view) = (seen.rfind("shell> fg"), seen.find("draining  "));
            shell.is_some() && shell < view && seen.contains("Ctrl-C: stop waiting")
        });
    }
    forces(&screen);
    let seen = screen.wait_until("the shell again", |seen| seen.trim_end().ends_with("shell>"));
    assert!(seen.contains("glidepath: forced") && !seen.contains("waiting for"), "{seen}");
    screen.types(b"exit 7\n");
    shell.exit().assert_code(7);
}

/// The README's picture is of a real end: written where `GLIDEPATH_PICTURE` says, which `cargo xtask picture` does.
#[test]
fn tty_1_the_picture_in_the_readme_is_what_a_terminal_shows() {
    let file = std::env::var_os("GLIDEPATH_PICTURE").filter(|file| !file.is_empty());
    let Some(mut screen) = Screen::new(80, 24) else { return skipped(CANNOT_LEND) };
    let address = sockets::free_address();
    // For the picture it takes its time.
    let (pause, receipt, left) = if file.is_some() { (ms(2600), 9000, "22 s") } else { (ms(10), 500, "29 s") };
    let start = Start::example("held").set("RECEIPT_MS", receipt).on(address.port());
    let server = start.on_terminal(&mut screen).launch();
    wait_until("it listens", || sockets::is_listening(address));
    let mut import = Client::connect(address);
    import.send(http1::request("POST", "/import", "content-length: 1000000\r\n")).send([b'x'; 48_000]).until_read();
    sleep(pause);
    let mut clients: Vec<_> = ["/reports/2026.csv", "/search", "/search"]
        .map(|path| {
            let mut client = Client::connect(address);
            client.get(path).until_read();
            sleep(pause);
            client
        })
        .into();
    for _ in 0..4 {
        let mut client = Client::connect(address);
        client.send(http1::request("POST", "/orders", "content-length: 0\r\n"));
        assert_eq!(client.response().status, 200);
        sleep(pause / 3);
        clients.push(client);
    }
    screen.types(CTRL_C);
    screen.wait_for("Ctrl-C: stop waiting. What runs is cut, hooks are skipped, exit code 130");
    // With a line of the log above.
    let left = format!("{left} of 30 s left");
    let seen = screen.wait_until("a receipt, and the time", |seen| {
        seen.contains("receipt sent\n\ndraining") && seen.contains(&left)
    });
    for words in [" POST /import  from 127.0.0.1:", ", 48000 B in", "GET /reports/2026.csv", "; then 1 hook"] {
        assert!(seen.contains(words), "no {words:?}:\n{seen}");
    }
    let svg =
        picture::draw(&screen.lines(), "A terminal after Ctrl-C: what still runs, since when, and how long it may");
    for words in ["draining", "waiting for", "GET /search", "Ctrl-C", "receipt sent"] {
        assert!(
            svg.contains(&format!(">{words}")) || svg.contains(&format!(" {words}")),
            "no {words:?} in the picture"
        );
    }
    if let Some(file) = file {
        std::fs::write(file, svg).expect("a place for the picture");
    }
    forces(&screen);
    server.exit().assert_code(130);
    assert_only_the_report_is_left(&screen, "forced");
}
