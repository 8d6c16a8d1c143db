//! Slow and hostile clients: none lasts past the deadline, and none slows the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use crate::case::{ANYTHING, Case, Need, Section};
use crate::clock::ms;
use crate::model::Outcome::*;
use crate::seen::Seen;
use crate::settings::Work;
use crate::stage::{PATIENCE, SLOW};
use crate::wire::http1::Missing;
use crate::wire::{End, Look};

pub(super) const SECTION: Section = Section { title: "Slow and hostile clients", cases: CASES };

const NONE_LASTS: &str = "none lasts past the deadline";
const KILLED: &str = "one such client, and every end takes until the kill";

const CASES: &[Case] = &[
    Case::must(
        "slow/head-trickles",
        "SLOW-1",
        "a head sent a byte at a time ends at the head timeout, in serving and in the drain",
    )
    .expects("a head that comes a byte at a time does not keep the process past its grace period of 3 s")
    .since("it is the oldest attack on HTTP servers, and costs nothing")
    .needs(&[Need::Grace])
    .grace(3.0)
    .wants(&[Exited])
    .control(&[Running])
    .script(|s| {
        let mut client = s.accepted()?;
        let head = client.head_of("GET", &s.path_of(Work::Quick), &format!("x: {}\r\n", "y".repeat(2000)));
        client.send(&head[..20], "the beginning of a head").until_read();
        let (stage, over) = (&*s, &AtomicBool::new(false));
        let exit = scope(|scope| {
            scope.spawn(move || {
                for byte in head.as_bytes()[20..].chunks(1) {
                    if over.load(Ordering::Relaxed) || !client.wire.send(byte, "one byte more") {
                        return;
                    }
                    stage.pause(ms(50));
                }
            });
            let exit = stage.signal().map(|()| stage.exits_by(stage.deadline()));
            over.store(true, Ordering::Relaxed);
            exit
        })?;
        s.saw(exit);
        Ok(())
    }),
    Case::must("slow/never-reads", "SLOW-2", NONE_LASTS)
        .expects("a client that never reads its long answer does not keep the process past its grace period of 2 s")
        .since(KILLED)
        .needs(&[Need::Grace, Need::Big])
        .grace(2.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.narrow_client()?;
            client.get(&s.path_of_big());
            client.stirs_within(PATIENCE);
            s.pause(ms(300));
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::should("slow/head-size", "SLOW-3", "limits on by default: head timeout, head size")
        .expects("while it serves, of a head without end no more than 8 MiB are taken: 4xx comes, or the connection ends")
        .since("without a limit a single client fills the server's memory, and the end is an OOM kill")
        .wants(&[Refused, EndedAtRest, Reset])
        // Its server is told to end only afterwards: what has no limit has none in the control either.
        .control(ANYTHING)
        .script(|s| {
            let mut client = s.accepted()?;
            client.start_head("GET", &s.path_of(Work::Quick), "");
            let line = format!("x: {}\r\n", "y".repeat(8184)).repeat(8);
            let mut sent = 0;
            while sent < 128 && client.look() == Look::Quiet && client.wire.send(line.as_bytes(), "64 KiB more of a head") {
                sent += 1;
            }
            let head = client.head(ms(2000));
            s.signal()?;
            s.saw(match &head {
                Ok(head) if (400..500).contains(&head.status) => Seen::new(Refused, format!("status {}", head.status)),
                Ok(head) => Seen::new(Wrong, format!("status {}", head.status)),
                Err(Missing::Nothing(End::Fin)) => Seen::new(EndedAtRest, format!("FIN after {} KiB", sent * 64)),
                Err(Missing::Nothing(End::Silence)) => Seen::new(Open, format!("{} KiB are taken, and no word", sent * 64)),
                Err(_) => client.fate(&head),
            });
            Ok(())
        }),
    Case::must("slow/upload-never-ends", "SLOW-2", NONE_LASTS)
        .expects("an upload that stops half way does not keep the process past its grace period of 2 s")
        .since(KILLED)
        .needs(&[Need::Grace, Need::Upload])
        .grace(2.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.client()?;
            client.ask("POST", &s.path_of(Work::Upload), "content-length: 1000\r\n");
            client.send([b'x'; 400], "400 bytes").until_read();
            s.signal()?;
            s.saw(s.exits_by(s.deadline()));
            Ok(())
        }),
    Case::must("slow/reconnects", "SLOW-2", NONE_LASTS)
        .expects("a client that connects again and again with a request does not keep the process: it ends within 5 s")
        .since("retries without back-off look just like this")
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let (stage, over) = (&*s, &AtomicBool::new(false));
            let exit = scope(|scope| {
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let _whatever = stage.quick_on_a_new_connection();
                        stage.pause(ms(1));
                    }
                });
                stage.pause(ms(200));
                let exit = stage.signal().map(|()| stage.exits_by(ms(5000)));
                over.store(true, Ordering::Relaxed);
                exit
            })?;
            s.saw(exit);
            Ok(())
        }),
    Case::must("slow/pipelines-on", "SLOW-2", NONE_LASTS)
        .expects("a client that pipelines without end does not keep the process past its grace period of 2 s")
        .since(KILLED)
        .needs(&[Need::Grace])
        .grace(2.0)
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let mut client = s.accepted()?;
            let request = client.head_of("GET", &s.path_of(Work::Quick), "");
            let (stage, over) = (&*s, &AtomicBool::new(false));
            let exit = scope(|scope| {
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) && client.wire.send(request.as_bytes(), "one more request") {
                        let _so_that_it_goes_on = client.answer(ms(100));
                        stage.pause(ms(5));
                    }
                });
                stage.pause(ms(200));
                let exit = stage.signal().map(|()| stage.exits_by(stage.deadline()));
                over.store(true, Ordering::Relaxed);
                exit
            })?;
            s.saw(exit);
            Ok(())
        }),
    Case::must("slow/others-unharmed", "SLOW-2", "none slows the others")
        .expects("beside clients that stall, a request of one second is answered within three")
        .since("in every crowd there is one that stalls")
        .needs(&[Need::Slow, Need::Upload, Need::Big])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut never_reads = s.narrow_client()?;
            never_reads.get(&s.path_of_big());
            never_reads.stirs_within(PATIENCE);
            let mut uploads = s.client()?;
            uploads.ask("POST", &s.path_of(Work::Upload), "content-length: 1000\r\n").until_read();
            let mut stalls = s.accepted()?;
            stalls.start_head("GET", &s.path_of(Work::Quick), "");
            let mut client = s.busy(SLOW)?;
            s.signal()?;
            let fate = client.answered(PATIENCE).by(client.wire.pen().recorder(), ms(3000));
            s.saw(fate);
            Ok(())
        }),
];
