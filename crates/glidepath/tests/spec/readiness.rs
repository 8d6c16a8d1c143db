//! SPEC.md, Readiness.

use std::io::Write as _;

use crate::support::*;

/// "in the lame duck new connections and requests are served, responses say close"
#[test]
fn rdy_2_in_the_lame_duck_all_is_served_and_told_close() {
    let server = Start::target().set("LAME_DUCK", 1.5).start();
    let address = server.address();
    let mut at_rest = Client::at_rest(address);
    assert!(!fetch(address, "/").says_close(), "the control: before the signal nobody is told close");
    let signal = server.terminate();
    wait_until("answers say close", || fetch(address, "/").says_close());
    assert!(signal.elapsed() < ms(500), "answers say close only {:?} after the signal", signal.elapsed());
    at_rest.get("/");
    at_rest.response().assert_is(200, "ok").assert_says_close();
    std::thread::sleep(ms(900).saturating_sub(signal.elapsed()));
    fetch(address, "/").assert_is(200, "ok").assert_says_close();
    server.wait_for_seal();
    let lasted = signal.elapsed();
    assert!(lasted > ms(1400), "the lame duck lasted only {lasted:?}");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal < ms(2500), "exit {:?} after the signal", exit.at - signal);
}

/// "a terminal's Ctrl-C skips it": script(1) lends the terminal.
#[test]
fn rdy_2_a_terminals_ctrl_c_skips_the_lame_duck() {
    const ON_A_TERMINAL: [&str; 4] = ["sh", "-c", "exec script -qec \"exec $1\" /dev/null", "sh"];
    if !runs(&[&ON_A_TERMINAL[..], &["sh -c 'test -t 2'"]].concat()) {
        return skipped("script can't lend a terminal here");
    }
    let address = sockets::free_address();
    let mut server = Start::target().set("PORT", address.port()).set("LAME_DUCK", 20).through(&ON_A_TERMINAL).launch();
    server.listens_on(address);
    let pressed = std::time::Instant::now();
    server.stdin().write_all(b"\x03").expect("it reads its terminal");
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - pressed < ms(1500), "exit {:?} after Ctrl-C", exit.at - pressed);
    assert!(exit.stdout.contains("SIGINT"), "{}", exit.stdout);
}

/// The control: the same signal from elsewhere does not skip it.
#[test]
fn rdy_2_a_sigint_from_elsewhere_does_not_skip_the_lame_duck() {
    let server = Start::target().set("LAME_DUCK", 1).start();
    let signal = server.signal(rustix::process::Signal::INT);
    let exit = server.exit();
    exit.assert_code(0);
    assert!(exit.at - signal > ms(900), "exit {:?} after the signal", exit.at - signal);
}
