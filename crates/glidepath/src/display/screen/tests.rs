use avt::Terminal;

use super::*;

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn terminal(width: usize, height: usize) -> Terminal {
    Terminal::new(width, height).unwrap()
}

fn writes(terminal: &mut Terminal, bytes: &[u8]) {
    terminal.feed(std::str::from_utf8(bytes).unwrap());
}

fn at(terminal: &Terminal) -> (usize, usize) {
    (terminal.cursor().row, terminal.cursor().col)
}

fn rows(terminal: &Terminal) -> Vec<String> {
    let mut rows: Vec<_> = terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    rows
}

#[test]
fn tty_1_a_redraw_leaves_the_cursor_above_and_nothing_of_the_one_before() {
    let mut terminal = terminal(20, 8);
    writes(&mut terminal, b"log\r\n");
    writes(&mut terminal, &drawing(&lines(&["", "a long first line", "second", "third"])));
    assert_eq!(rows(&terminal), ["log", "", "a long first line", "second", "third"]);
    assert_eq!(at(&terminal), (1, 0));
    writes(&mut terminal, &drawing(&lines(&["", "short", "2"])));
    assert_eq!(rows(&terminal), ["log", "", "short", "2"]);
    writes(&mut terminal, &drawing(&lines(&["one"])));
    assert_eq!(rows(&terminal), ["log", "one"]);
    assert_eq!(at(&terminal), (1, 0));
}

#[test]
fn tty_1_at_the_end_of_the_screen_it_scrolls_once() {
    let mut terminal = terminal(20, 4);
    writes(&mut terminal, b"1\r\n2\r\n3\r\n4\r\n");
    for _ in 0..3 {
        writes(&mut terminal, &drawing(&lines(&["", "view", "more"])));
        assert_eq!(rows(&terminal), ["4", "", "view", "more"]);
    }
}

#[test]
fn tty_4_in_a_terminal_that_became_narrower_no_line_wraps() {
    let mut terminal = terminal(10, 6);
    writes(&mut terminal, &drawing(&lines(&["", "0123456789abcdef", "second"])));
    assert_eq!(rows(&terminal)[2..], ["second"]);
    writes(&mut terminal, b"\r\n\n\nit wraps again");
    assert_eq!(rows(&terminal)[3..], ["it wraps a", "gain"]);
}

#[test]
fn tty_3_what_others_write_stays_and_the_view_is_drawn_below() {
    let mut terminal = terminal(20, 8);
    let view = drawing(&lines(&["", "view", "more"]));
    writes(&mut terminal, &view);
    writes(&mut terminal, b"another's line\r\n");
    assert_eq!(rows(&terminal), ["another's line", "view", "more"]);
    writes(&mut terminal, &view);
    assert_eq!(rows(&terminal), ["another's line", "", "view", "more"]);
    // What a terminal shows of a key has no line end, and is not kept.
    writes(&mut terminal, b"^C");
    writes(&mut terminal, &view);
    assert_eq!(rows(&terminal), ["another's line", "", "view", "more"]);
}

#[test]
fn tty_1_it_begins_on_a_line_of_its_own_behind_the_key_that_the_terminal_shows() {
    for (before, key, shown, row) in [("^C", true, true, 1), ("", true, false, 0), ("log\r\n", false, true, 1)] {
        let mut terminal = terminal(20, 8);
        writes(&mut terminal, before.as_bytes());
        KEY.store(key, Ordering::Relaxed);
        let mut screen = Screen { ours: false, hidden: false, flushed: false, frame: Vec::new() };
        writes(&mut terminal, screen.own_line(|| shown));
        assert_eq!(at(&terminal), (row, 0), "behind {before:?}");
        assert_eq!(rows(&terminal).first().map_or("", String::as_str), before.trim_end());
        writes(&mut terminal, screen.own_line(|| shown));
        assert_eq!(at(&terminal), (row, 0), "once is enough");
    }
}
