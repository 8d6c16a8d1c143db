//! The listener: who comes while the door is being closed.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use crate::case::{Case, Need, Section};
use crate::clock::{ms, now, since};
use crate::model::Outcome::*;
use crate::seen::{Seen, words};
use crate::stage::{PATIENCE, SLOW, Stage, Trouble};
use crate::wire::http1::Client;
use crate::wire::{Address, NotOpened};

pub(super) const SECTION: Section = Section { title: "Listener", cases: CASES };

const CASES: &[Case] = &[
    Case::must("lis/refused", "LIS-1", "after the seal a connect is refused within 100 ms")
        .expects("within a second of the signal, new connections are refused, though a request is still in flight")
        .since("a balancer that is refused tries the next server; one that is accepted and dropped can't")
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let _busy = work(s)?;
            s.signal()?;
            let mut last = s.quick_on_a_new_connection();
            while last.outcome != Refused && s.since_signal() < ms(1000) {
                s.pause(ms(10));
                last = s.quick_on_a_new_connection();
            }
            s.saw(last);
            Ok(())
        }),
    Case::must("lis/never-hangs", "LIS-1", "never accepted and left hanging")
        .expects("no connection made after the signal is left for a second without an answer and without an end")
        .since("a client that hangs waits for its own timeout: 30 s, a minute, for ever")
        .wants(&[Answered, ToldClose, Refused, Reset, Lost])
        .control(&[Answered])
        .script(|s| {
            let _busy = work(s)?;
            s.signal()?;
            for _ in 0..10 {
                let fate = s.quick_within(&s.server.address, ms(1000));
                s.saw(fate);
                s.pause(ms(30));
            }
            Ok(())
        }),
    Case::should("lis/refused-at-once", "LIS-1", "after the seal a connect is refused within 100 ms")
        .expects("once refused, every further connect is refused within 100 ms")
        .since("a connect that times out costs a client seconds, a refused one nothing")
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            let _busy = work(s)?;
            s.signal()?;
            s.settle();
            for _ in 0..10 {
                let asked = now();
                let fate = s.quick_on_a_new_connection();
                let took = since(asked);
                let late = fate.outcome == Refused && took > ms(100);
                s.saw(if late { Seen::new(Late, format!("refused after {}", words(took))) } else { fate });
            }
            Ok(())
        }),
    Case::must("lis/queue", "LIS-2", "every connection that the kernel completed before the seal is served: the accept queue is emptied, also when it is full of whole requests")
        .expects("requests that wait in the accept queue at the signal are answered")
        .since("their clients are connected and have sent all; closing the listener resets each of them")
        .repeats(3, 1.0)
        .wants(&[Answered, ToldClose])
        .control(&[Answered, ToldClose])
        .script(|s| {
            let mut clients = in_the_queue(s, 60)?;
            for client in &mut clients {
                s.ask_quick(client);
            }
            s.signal()?;
            s.server.thaw();
            for client in &mut clients {
                let fate = client.answered(PATIENCE);
                s.saw(fate);
            }
            Ok(())
        }),
    Case::should("lis/queue-silent", "LIS-2", "every connection that the kernel completed before the seal is served")
        .expects("connections that wait in the accept queue, and have sent nothing, end with FIN")
        .since("a client whose connection is reset can't tell whether its request was read")
        .repeats(3, 1.0)
        .wants(&[EndedAtRest])
        .control(&[Open])
        .script(|s| {
            let mut clients = in_the_queue(s, 20)?;
            s.signal()?;
            s.server.thaw();
            s.all_end_by(&mut clients, ms(8000))
        }),
    Case::should("lis/storm", "LIS-3", "under a storm of connecting clients no established connection is reset")
        .expects("of clients that connect for each request, each is answered until it is refused")
        .since("this is every balancer without keep-alive, at every deploy")
        .repeats(3, 1.0)
        .alone()
        .wants(&[Refused])
        .control(&[Answered])
        .script(|s| {
            s.while_at_it(0..12, |s, _| until_refused(s), |s| {
                s.pause(ms(300));
                s.signal()
            })
        }),
    Case::must("lis/flood", "LIS-4", "the seal ends within a bound under an endless flood")
        .expects("under an endless flood of connects the process ends within 5 s")
        .since("a port scan or a retry storm must not keep a server from ending")
        .alone()
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let (stage, over) = (&*s, &AtomicBool::new(false));
            let main = stage.server.main;
            let exit = scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            drop(TcpStream::connect_timeout(&main, ms(200)));
                        }
                    });
                }
                stage.pause(ms(300));
                let exit = stage.signal().map(|()| stage.exits_by(ms(5000)));
                over.store(true, Ordering::Relaxed);
                exit
            })?;
            s.saw(exit);
            Ok(())
        }),
    Case::must("lis/all-sealed", "LIS-5", "all public listeners are sealed before anything is waited for")
        .expects("within a second of the signal its plain and its TLS port both refuse, though a request is in flight")
        .since("a port that is forgotten takes on work that nobody will finish")
        .needs(&[Need::Tls])
        .wants(&[Refused])
        .control(&[Answered, ToldClose])
        .script(|s| {
            let _busy = work(s)?;
            let addresses = [Address::Tcp(s.server.main), s.tls_address()?];
            if s.server.tls == Some(s.server.main) {
                return Err(Trouble::Skip("it has one port only".into()));
            }
            s.signal()?;
            s.pause(ms(1000));
            for address in &addresses {
                s.saw(s.quick_at(address));
            }
            Ok(())
        }),
    Case::should("lis/port-free", "LIS-6", "the port can be bound by a new process as soon as the seal is done")
        .expects("a second after the signal another process can listen on the port, though a request is in flight")
        .since("the next version can't start before the old one has let go of the port")
        .wants(&[Free])
        .control(&[Taken])
        .script(|s| {
            let _busy = work(s)?;
            s.signal()?;
            s.pause(ms(1000));
            s.saw(match TcpListener::bind(s.server.main) {
                Ok(_) => Seen::new(Free, "the port can be bound"),
                Err(error) => Seen::new(Taken, format!("the port can't be bound: {error}")),
            });
            Ok(())
        }),
    Case::should("lis/descriptors", "LIS-8", "out of file descriptors: no spin, a log line, work in flight goes on")
        .expects("out of file descriptors at the signal, it finishes the stream in flight")
        .since("that is when servers are restarted")
        .needs(&[Need::Stream])
        .through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .wants(&[Answered, ToldClose])
        .control(&[Answered])
        .script(|s| {
            let mut client = s.client()?;
            client.knows(s.found.stream_length).get(&s.path_of_stream());
            client.stirs_within(PATIENCE);
            let _crowd: Vec<_> = (0..100).map_while(|_| s.connect().ok()).collect();
            s.signal()?;
            let fate = client.answered(PATIENCE);
            s.saw(fate);
            Ok(())
        }),
    Case::should("lis/descriptors-end", "LIS-8", "the drain is not held")
        .expects("out of file descriptors at the signal, it ends within 8 s")
        .since("that is when servers are restarted")
        .through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .wants(&[Exited])
        .control(&[Running])
        .script(|s| {
            let _crowd: Vec<_> = (0..100).map_while(|_| s.connect().ok()).collect();
            s.pause(ms(300));
            s.signal()?;
            s.saw(s.exits_by(ms(8000)));
            Ok(())
        }),
    Case::should("lis/at-the-seal", "LIS-9", "a connection accepted in the same instant as the seal is tracked")
        .expects("clients that connect in the very moment of the signal are answered or refused")
        .since("whoever is accepted and forgotten is cut in the middle")
        .repeats(6, 1.0)
        .wants(&[Answered, ToldClose, Refused])
        .control(&[Answered, ToldClose])
        .script(|s| {
            s.while_at_it(0..4, |s, _| s.quick_on_a_new_connection(), Stage::signal)
        }),
];

/// Something that the end has to wait for: a slow request, or where there is none, half a head.
pub(super) fn work(s: &Stage<'_>) -> Result<Client, Trouble> {
    if s.found.lacks(Need::Slow).is_none() {
        return s.busy(2 * SLOW);
    }
    let mut client = s.accepted()?;
    client.start_head("GET", &s.path_of(crate::settings::Work::Quick), "");
    Ok(client)
}

/// Connections that the server, which stands still, has not accepted.
pub(super) fn in_the_queue(s: &Stage<'_>, count: usize) -> Result<Vec<Client>, Trouble> {
    if matches!(s.server.address, Address::Tls(_)) {
        return Err(Trouble::Skip("over TLS nothing can be asked of a server that stands still".into()));
    }
    s.server.freeze();
    (0..count).map(|_| s.client()).collect()
}

/// Connects anew for each request, until something else than an answer comes.
fn until_refused(s: &Stage<'_>) -> Seen {
    let bound = if s.is_control() { ms(300) } else { ms(8000) };
    loop {
        let fate = s.quick_on_a_new_connection();
        if !matches!(fate.outcome, Answered | ToldClose) || s.since_signal() > bound {
            return fate;
        }
    }
}

impl Stage<'_> {
    /// What a new client meets.
    pub(super) fn quick_on_a_new_connection(&self) -> Seen {
        self.quick_at(&self.server.address)
    }

    pub(super) fn quick_at(&self, address: &Address) -> Seen {
        self.quick_within(address, PATIENCE)
    }

    fn quick_within(&self, address: &Address, patience: Duration) -> Seen {
        let fate = match self.connect_to(address) {
            Ok(mut client) => self.ask_quick(&mut client).answered(patience),
            Err(NotOpened::Refused) => Seen::new(Refused, "connection refused"),
            Err(NotOpened::Reset) => Seen::new(Reset, "reset while connecting"),
            Err(NotOpened::Hung) => Seen::new(Hung, "the connect hung"),
        };
        match self.is_control() {
            true if fate.outcome == ToldClose => Seen::new(Answered, fate.text),
            _ => fate,
        }
    }
}
