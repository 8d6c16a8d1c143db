//! SPEC.md, Readiness.

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
