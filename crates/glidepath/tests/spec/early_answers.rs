//! SPEC.md, HTTP/1 in flight: an answer that comes before its request's body.

use std::thread::sleep;

use crate::support::*;

/// "an early final answer (413) while the body still arrives is readable to its end"
///
/// `POST /task` answers without reading the body. Had the server closed with the body unread, its kernel would have
/// sent RST, which on some systems destroys the answer; here it shows as a failed write.
#[test]
pub(crate) fn req_12_an_early_answer_is_readable_while_the_body_still_arrives() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 128;
    for in_the_drain in [false, true] {
        let server = Start::target().start();
        let mut client = Client::connect(server.address());
        client.start_head("POST", "/task?ms=0", &format!("content-length: {}\r\n", PIECE * PIECES));
        if in_the_drain {
            server.terminate();
            server.wait_for_seal();
        }
        client.finish_head();
        for piece in 0..PIECES {
            let written = client.try_send([b'x'; PIECE]);
            written.unwrap_or_else(|error| panic!("piece {piece}: {error}; in the drain: {in_the_drain}"));
        }
        assert_eq!(client.response().status, 202);
        assert_eq!(client.end(), End::Fin);
        if !in_the_drain {
            server.terminate();
        }
        server.exit().assert_code(0);
    }
}

/// The same for a client that takes its time: it is in the middle of its request, and is not reset between two pieces.
#[test]
pub(crate) fn req_12_an_early_answer_is_readable_while_the_body_arrives_slowly() {
    const PIECES: usize = 8;
    let server = Start::target().start();
    let mut client = Client::connect(server.address());
    client.start_head("POST", "/task?ms=0", &format!("content-length: {PIECES}\r\n"));
    server.terminate();
    server.wait_for_seal();
    client.finish_head();
    for piece in 0..PIECES {
        sleep(ms(60));
        let written = client.try_send("x");
        written.unwrap_or_else(|error| panic!("piece {piece}: {error}"));
    }
    assert_eq!(client.response().status, 202);
    assert_eq!(client.end(), End::Fin);
    drop(client);
    server.exit().assert_code(0);
}

/// The other side of the same: what was sent as a body is never read as a request, neither while serving nor in the drain.
#[test]
pub(crate) fn req_12_a_body_that_nobody_read_is_not_the_next_request() {
    let body = http1::request("GET", "/sleep?ms=1", "");
    for in_the_drain in [false, true] {
        for pause in [ms(0), ms(1), ms(5), ms(20)] {
            let server = Start::target().start();
            let mut client = Client::connect(server.address());
            client.start_head("POST", "/task?ms=0", &format!("content-length: {}\r\n", body.len()));
            if in_the_drain {
                server.terminate();
                server.wait_for_seal();
            }
            client.finish_head();
            sleep(pause);
            let _closed = client.try_send(&body);
            assert_eq!(client.response().status, 202);
            if !in_the_drain {
                server.terminate();
            }
            assert_eq!(client.end(), End::Fin, "in the drain: {in_the_drain}, {pause:?} after the head");
            server.exit().assert_code(0);
        }
    }
}
