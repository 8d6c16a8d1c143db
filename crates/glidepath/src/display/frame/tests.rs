use proptest::prelude::*;

use super::*;

const PLAIN: Look = Look { colours: false, unicode: true };
const USUAL: Size = Size { width: 80, height: 24 };

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn runs(kind: Kind, name: &str, age: u64) -> Running {
    Running::new(kind, name.to_owned(), secs(age))
}

fn hooks(count: usize) -> Vec<String> {
    vec!["database".to_owned(); count]
}

/// A drain in which three things run.
fn scene() -> Scene {
    let running = vec![
        runs(Kind::Request, "POST /v1/import", 3),
        runs(Kind::Request, "GET /v1/export", 72),
        runs(Kind::Task, "\"deliver\" (src/deliver.rs:88)", 12),
    ];
    Scene {
        snapshot: Snapshot {
            pid: 4711,
            phase: Phase::Draining,
            cause: Some("SIGINT"),
            stopped: Some(secs(15)),
            left: Some(secs(15)),
            work_left: Some(secs(10)),
            process_left: Some(secs(15)),
            connections: vec![("in flight", 2), ("idle", 3)],
            running,
            waiting: hooks(1),
        },
        of: secs(30),
        grace: secs(30),
        further: Further::Forces,
        listeners: 0,
        serves: true,
        silent: None,
    }
}

fn with(running: Vec<Running>) -> Scene {
    let scene = scene();
    Scene { snapshot: Snapshot { running, ..scene.snapshot }, ..scene }
}

fn text(scene: &Scene, width: usize, height: usize, look: Look) -> String {
    frame(scene, Size { width, height }, look).join("\n")
}

#[test]
fn tty_1_a_view_says_the_phase_the_time_left_what_runs_and_what_a_further_ctrl_c_does() {
    let wanted = "
draining  ████████████████████░░░░░░░░░░░░░░░░░░░░  15 s of 30 s left
waiting for 2 requests, 1 task; then 1 hook
connections: 2 in flight, 3 idle
1 min 12 s  request  GET /v1/export
      12 s  task     \"deliver\" (src/deliver.rs:88)
       3 s  request  POST /v1/import
Ctrl-C: stop waiting. What runs is cut, hooks are skipped, exit code 130";
    assert_eq!(text(&scene(), 80, 24, PLAIN), wanted);
    assert_eq!(text(&scene(), 200, 50, PLAIN), wanted, "more room is not filled");
}

#[test]
fn tty_1_the_oldest_five_are_named_over_all_kinds_and_the_others_counted() {
    let kinds = [Kind::Request, Kind::Upgraded, Kind::Task, Kind::Hook];
    let running = (0..17).map(|n| runs(kinds[n % 4], &format!("<{n}>"), 100 + 7 * n as u64 % 17)).collect::<Vec<_>>();
    let shown = text(&with(running.clone()), 80, 24, PLAIN);
    let mut by_age = running;
    by_age.sort_by_key(|running| Reverse(running.age));
    let at: Vec<_> = by_age.iter().map(|running| shown.find(&running.name)).collect();
    assert!(at[..5].is_sorted() && at[..5].iter().all(Option::is_some), "{at:?} in\n{shown}");
    assert!(at[5..].iter().all(Option::is_none), "{at:?} in\n{shown}");
    assert!(shown.contains("and 12 more"), "{shown}");
    assert!(shown.contains("waiting for 5 requests, 4 upgraded connections, 4 tasks, 4 hooks"), "{shown}");
}

#[test]
fn tty_1_every_phase_says_what_it_waits_for() {
    let nothing = || {
        let scene = with(Vec::new());
        Scene { snapshot: Snapshot { connections: Vec::new(), waiting: hooks(0), ..scene.snapshot }, ..scene }
    };
    let says = |scene: &Scene, words: &str| {
        let shown = text(scene, 120, 24, PLAIN);
        assert!(shown.contains(words), "no {words:?} in\n{shown}");
    };
    says(&nothing(), "waiting for nothing more");
    says(&Scene { listeners: 1, ..nothing() }, "waiting for the listeners to be closed");
    says(&Scene { serves: false, ..nothing() }, "the program, which has not begun to serve");
    says(&with(Vec::new()), "waiting for 5 connections to be closed; then 1 hook");
    says(&Scene { silent: Some(secs(3)), ..scene() }, "the runtime has not run for 3 s: its threads are blocked");

    let mut lame = scene();
    lame.snapshot.phase = Phase::LameDuck;
    says(&lame, "still accepting, so that balancers turn away; running: 2 requests, 1 task; then drains, 30 s at most");

    let mut closing = with(vec![runs(Kind::Hook, "\"database\"", 4)]);
    closing.snapshot.phase = Phase::Closing;
    closing.snapshot.waiting = hooks(2);
    says(&closing, "waiting for 1 hook; then 2 hooks more");
    says(&closing, "4 s  hook  \"database\"");
}

#[test]
fn tty_2_what_a_further_ctrl_c_does_is_said_for_the_phase() {
    let last = |phase, further, count, width| {
        let mut scene = Scene { further, ..scene() };
        (scene.snapshot.phase, scene.snapshot.waiting) = (phase, hooks(count));
        frame(&scene, Size { width, height: 24 }, PLAIN).pop().unwrap()
    };
    let draining = Phase::Draining;
    assert_eq!(last(draining, Further::Forces, 0, 80), "Ctrl-C: stop waiting. What runs is cut, exit code 130");
    assert_eq!(last(draining, Further::Forces, 1, 40), "Ctrl-C: stop waiting");
    assert_eq!(last(draining, Further::First, 0, 80), "Ctrl-C twice: stop waiting. What runs is cut, exit code 130");
    assert_eq!(last(draining, Further::Nothing, 0, 80), "forced: it ends within half a second");
    assert_eq!(last(Phase::LameDuck, Further::Drains, 0, 80), "Ctrl-C: drain now, without waiting for balancers");
    assert_eq!(last(Phase::LameDuck, Further::First, 0, 80), "Ctrl-C twice: drain now");
    assert_eq!(last(Phase::Closing, Further::Forces, 1, 80), "Ctrl-C: stop waiting for the hooks, exit code 130");
}

#[test]
fn tty_4_a_narrow_or_low_terminal_gets_less() {
    assert_eq!(text(&scene(), 20, 24, PLAIN), "\ndraining: 2 request…");
    assert_eq!(text(&scene(), 80, 5, PLAIN), "\ndraining: 2 requests, 1 task, 15.0 s left");
    assert_eq!(text(&scene(), 80, 2, PLAIN), "draining: 2 requests, 1 task, 15.0 s left");
    let at_40 = "
draining  ██████░░░░░  15 s of 30 s left
waiting for 2 requests, 1 task; then 1 …
connections: 2 in flight, 3 idle
1 min 12 s  request  GET /v1/export
      12 s  task     \"deliver\" (src/del…
       3 s  request  POST /v1/import
Ctrl-C: stop waiting";
    assert_eq!(text(&scene(), 40, 24, PLAIN), at_40);
    let low = "
draining  ████████████████████░░░░░░░░░░░░░░░░░░░░  15 s of 30 s left
waiting for 2 requests, 1 task; then 1 hook
1 min 12 s  request  GET /v1/export
            and 2 more
Ctrl-C: stop waiting. What runs is cut, hooks are skipped, exit code 130";
    assert_eq!(text(&scene(), 80, 7, PLAIN), low);
}

#[test]
fn tty_4_a_long_name_is_cut_at_the_terminals_width_in_columns() {
    let line = |name: &str| frame(&with(vec![runs(Kind::Task, name, 1)]), USUAL, PLAIN)[4].clone();
    let narrow = "n".repeat(200);
    assert_eq!(line(&narrow), format!("   1 s  task  {}…", "n".repeat(80 - 14 - 1)));
    // Two columns each: 32 of them and the mark leave one column empty.
    assert_eq!(line(&"漢".repeat(200)), format!("   1 s  task  {}…", "漢".repeat(32)));
    // An accent of its own has no column, and stays with its letter.
    assert_eq!(line(&"e\u{301}".repeat(200)), format!("   1 s  task  {}…", "e\u{301}".repeat(65)));
    assert_eq!(line("caf\u{e9}"), "   1 s  task  caf\u{e9}");
}

#[test]
fn tty_4_a_name_can_neither_steer_the_terminal_nor_turn_its_text_round() {
    let hostile = with(vec![runs(Kind::Task, "\x1b[2J\r\n\x07\u{9b}1A\u{202e}cod\u{200b}e", 1)]);
    let line = |look| frame(&hostile, USUAL, look)[4].clone();
    let ascii = Look { unicode: false, ..PLAIN };
    let named = r"   1 s  task  \u{1b}[2J\u{d}\u{a}\u{7}\u{9b}1A\u{202e}cod\u{200b}e";
    assert_eq!(line(PLAIN), named);
    assert_eq!(line(ascii), named);
}

#[test]
fn tty_4_a_terminal_without_unicode_gets_ascii() {
    let named = with(vec![runs(Kind::Task, &"漢".repeat(20), 1)]);
    let shown = text(&named, 80, 24, Look { unicode: false, ..PLAIN });
    assert!(shown.is_ascii(), "{shown}");
    assert!(
        shown.contains("##########----------") && shown.contains(r"\u{6f22}\u{6f22}") && shown.contains("..."),
        "{shown}"
    );
}

#[test]
fn tty_1_durations_are_as_exact_as_a_glance() {
    let rounded = |secs| Rounded(Duration::from_secs_f64(secs)).to_string();
    assert_eq!([0.9, 59.9, 60.0, 245.0].map(rounded), ["0 s", "59 s", "1 min 00 s", "4 min 05 s"]);
    assert_eq!([3600.0, 11_220.0, 172_800.0].map(rounded), ["1 h 00 min", "3 h 07 min", "2 days"]);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Request, Kind::Upgraded, Kind::Task, Kind::Hook])
}

fn scenes() -> impl Strategy<Value = Scene> {
    let phases = prop::sample::select(vec![Phase::LameDuck, Phase::Draining, Phase::Closing]);
    let furthers = prop::sample::select(vec![Further::First, Further::Drains, Further::Forces, Further::Nothing]);
    let names = prop_oneof![".{0,80}", "[漢字e\u{301}🙂a]{0,90}"];
    let ages = prop_oneof![0..100_u64, any::<u64>()];
    let running = prop::collection::vec((kinds(), names, ages), 0..9);
    let left = prop::option::of(prop_oneof![0..100_u64, any::<u64>()]);
    let counts = (0..3_usize, 0..4_usize, prop::option::of(0..99_u64), any::<bool>(), 0..4_usize);
    (phases, furthers, running, left, prop_oneof![0..100_u64, any::<u64>()], counts).prop_map(
        |(phase, further, running, left, of, (listeners, count, silent, serves, open))| Scene {
            snapshot: Snapshot {
                phase,
                left: left.map(secs),
                connections: [("in flight", open), ("reading a head", 3)][..open.min(2)].to_vec(),
                running: running.into_iter().map(|(kind, name, age)| runs(kind, &name, age)).collect(),
                waiting: hooks(count),
                ..scene().snapshot
            },
            of: secs(of),
            grace: secs(of),
            further,
            listeners,
            serves,
            silent: silent.map(secs),
        },
    )
}

/// Without what SGR says.
fn colourless(line: &str) -> String {
    let mut pieces = line.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').expect("only SGR").1)
}

proptest! {
    #[test]
    fn tty_4_no_line_is_wider_than_the_terminal_and_none_more_than_it_has(
        scene in scenes(), width in 0..210_usize, height in 1..60_usize, unicode in any::<bool>(),
    ) {
        let size = Size { width, height };
        let plain = frame(&scene, size, Look { colours: false, unicode });
        prop_assert!(plain.len() < height.max(2), "{} lines", plain.len());
        for line in &plain {
            prop_assert!(columns(line) <= width, "{} columns in {line:?}", columns(line));
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            prop_assert!(unicode || line.is_ascii(), "{line:?}");
        }
        let coloured = frame(&scene, size, Look { colours: true, unicode });
        let without: Vec<_> = coloured.iter().map(|line| colourless(line)).collect();
        prop_assert_eq!(without, plain, "colours only colour");
    }
}
