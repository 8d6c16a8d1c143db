//! A network of a check's own, in which every packet takes its time, so that what is sent on one side crosses on its way
//! what is sent on the other. On loopback nothing is ever under way.
//!
//! It is a network namespace whose 127.0.0.1 lies behind a TUN device: the kernel gives every packet to this process,
//! which looks at it, keeps it for a while and gives it back. Servers and clients need not know.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{skipped, tls};

/// Loopback addresses are sent over the device, and taken for ours where they come back from it.
const ROUTES: &str = "\
    ip link set lo up; ip link set slow up; \
    ip route add 127.0.0.0/8 dev slow src 127.0.0.1 table 100; \
    ip rule add pref 10 iif lo to 127.0.0.0/8 lookup 100; \
    ip rule add pref 20 lookup local; \
    ip rule del pref 0";
const SETTINGS: [(&str, &str); 3] = [("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")];

/// Runs a check where every packet is `delay` under way. The processes that it starts live in that network too, and so do
/// its threads.
pub(crate) fn over_a_slow_link(delay: Duration, check: impl FnOnce(&Link) + Send) {
    let over_tls = tls::is_for_all();
    // In a thread of its own, which takes the network with it when it ends.
    let checked = thread::scope(|scope| {
        let checker = scope.spawn(|| match Link::new(delay) {
            Ok(link) if over_tls => tls::over_tls(|| check(&link)),
            Ok(link) => check(&link),
            Err(error) => skipped(&format!("no network of its own can be made here: {error}")),
        });
        checker.join()
    });
    checked.unwrap_or_else(|panic| resume_unwind(panic));
}

/// The way between 127.0.0.1 and itself.
pub(crate) struct Link {
    way: Arc<Mutex<Way>>,
    holder: Child,
}

/// What happens to packets, and what was seen of them.
#[derive(Default)]
struct Way {
    delay: Duration,
    lost_to: Option<u16>,
    lost_from: Option<u16>,
    /// Connections that a server has made its side of: its port and the client's.
    established: Vec<(u16, u16)>,
    resets: Vec<(u16, u16)>,
}

impl Link {
    fn new(delay: Duration) -> io::Result<Self> {
        // A namespace lives as long as a process in it: this one, until its input ends.
        let holder = ["--net", "sh", "-c", "echo made; exec cat"];
        let mut holder = Command::new("unshare").args(holder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().expect("it is a pipe")).read_line(&mut said)?;
        let way = Arc::new(Mutex::new(Way { delay, ..Way::default() }));
        let link = Link { way, holder };
        if said != "made\n" {
            return Err(io::Error::other("unshare may not make a network namespace"));
        }
        let network = File::open(format!("/proc/{}/ns/net", link.holder.id()))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        let device = Arc::new(DeviceBuilder::new().name("slow").build_sync()?);
        run(ROUTES)?;
        for (name, value) in SETTINGS {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/slow/{name}"), value)?;
        }
        let (sender, packets) = mpsc::channel();
        let (far, way) = (Arc::clone(&device), Arc::clone(&link.way));
        thread::spawn(move || take_packets(&device, &way, &sender));
        thread::spawn(move || give_packets(&far, &packets));
        Ok(link)
    }

    /// From now on, packets take as long as this.
    pub(crate) fn takes(&self, delay: Duration) {
        self.way().delay = delay;
    }

    /// From now on, nothing arrives at this port.
    pub(crate) fn loses_all_to(&self, port: u16) {
        self.way().lost_to = Some(port);
    }

    /// From now on, nothing arrives that comes from this port.
    pub(crate) fn loses_all_from(&self, port: u16) {
        self.way().lost_from = Some(port);
    }

    /// How many connections this server has reset, of those that were established. A connect that it refuses is none.
    pub(crate) fn resets_by(&self, server: u16) -> usize {
        self.way().resets.iter().filter(|(by, _)| *by == server).count()
    }

    /// Whether this client's connection was reset by its server.
    pub(crate) fn has_reset(&self, client: &TcpStream) -> bool {
        let port = |address: io::Result<SocketAddr>| address.expect("it was connected").port();
        self.way().resets.contains(&(port(client.peer_addr()), port(client.local_addr())))
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().expect("no relay panics")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without the device, whoever reads from it ends.
        let _already_gone = run("ip link delete slow");
        let _ended = self.holder.kill();
        let _status = self.holder.wait();
    }
}

fn run(script: &str) -> io::Result<()> {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn take_packets(device: &SyncDevice, way: &Mutex<Way>, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut packet = [0; 1 << 16];
    while let Ok(length) = device.recv(&mut packet) {
        let packet = &packet[..length];
        let Some(delay) = way.lock().expect("no check panics with it").pass(packet) else { continue };
        let Ok(()) = sender.send((Instant::now() + delay, packet.to_vec())) else { return };
    }
}

/// One after the other, so that none overtakes another.
fn give_packets(device: &SyncDevice, packets: &Receiver<(Instant, Vec<u8>)>) {
    for (due, packet) in packets {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let Ok(_) = device.send(&packet) else { return };
    }
}

impl Way {
    /// How long this packet is under way, if it arrives.
    fn pass(&mut self, packet: &[u8]) -> Option<Duration> {
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        let Segment { from, to, flags } = Segment::read(packet)?;
        if flags & (SYN | ACK) == SYN {
            self.established.retain(|known| *known != (to, from));
        } else if flags & SYN != 0 {
            self.established.push((from, to));
        } else if flags & RST != 0 && self.established.contains(&(from, to)) {
            self.resets.push((from, to));
        }
        let is_lost = self.lost_to == Some(to) || self.lost_from == Some(from);
        (!is_lost).then_some(self.delay)
    }
}

/// What is of interest of a TCP segment (RFC 791, section 3.1, and RFC 9293, section 3.1).
struct Segment {
    from: u16,
    to: u16,
    flags: u8,
}

impl Segment {
    /// `None` where it is no TCP over IPv4.
    fn read(packet: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let first = *packet.first()?;
        if first >> 4 != 4 || *packet.get(9)? != TCP {
            return None;
        }
        let tcp = packet.get(usize::from(first & 0xf) * 4..)?;
        let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        Some(Self { from: port(0)?, to: port(2)?, flags: *tcp.get(13)? })
    }
}

/// The control: packets do take their time, and a reset is seen as one and a refused connect is not.
#[test]
fn packets_take_their_time_and_resets_are_counted() {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    over_a_slow_link(super::ms(100), |link| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let began = Instant::now();
        let mut client = TcpStream::connect(address).expect("it listens");
        assert!((super::ms(200)..super::ms(400)).contains(&began.elapsed()), "{:?}", began.elapsed());
        let (accepted, _) = listener.accept().expect("one waits");
        client.write_all(b"unread").expect("it is connected");
        thread::sleep(super::ms(150));
        drop((accepted, listener));
        client.read(&mut [0]).expect_err("it was reset");
        assert_eq!(link.resets_by(address.port()), 1);
        TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(link.resets_by(address.port()), 1);
    });
}
