//! A TCP proxy between a replica and its primary that breaks the link: after a random number of bytes, in the handshake
//! or in the stream, with a FIN or an RST, and before that with stalls and with bytes that come one by one.
//!
//! It passes everything through until [`Proxy::storm`]; [`Proxy::calm`] makes it pass everything again, also on the
//! connections that it has. One thread serves one connection and owns both of its sockets, so that a cut closes both
//! at once. It reads along the primary's first bytes to count how the link was resumed: what the servers say of
//! themselves (`sync_partial_ok`) is held against it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::random::Random;

/// How often a connection looks whether it is to change, and the listener whether to end.
const TICK: Duration = Duration::from_millis(10);

/// The handshake's replies are some 120 bytes.
const GREETINGS_BYTES: u64 = 160;
/// The same with the reply to INFO, which Kindred asks for when it comes back; the reply to PSYNC lies within.
const HANDSHAKE_BYTES: u64 = 8_000;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    ended: AtomicBool,
    /// A connection takes a new fate when it changes.
    season: AtomicU64,
    random: Mutex<Option<Random>>,
    cuts: AtomicUsize,
    continued: AtomicUsize,
    full: AtomicUsize,
}

/// What becomes of a connection during a storm.
#[derive(Debug, Default)]
struct Fate {
    /// Bytes from the primary until the cut.
    cut_after: Option<u64>,
    /// What is counted until the cut and the pause begins behind the reply to PSYNC.
    in_stream: bool,
    reset: bool,
    /// Bytes from the primary until a pause.
    stall_after: Option<u64>,
    stall: Duration,
    /// This many bytes, in either direction, are sent one by one.
    single_bytes: u64,
}

impl Fate {
    fn random(random: &mut Random) -> Fate {
        let (in_stream, cut_after) = match random.below(100) {
            0..8 => (false, random.below(GREETINGS_BYTES)),
            8..15 => (false, random.below(HANDSHAKE_BYTES)),
            15..60 => (true, random.below(4_000)),
            _ => (true, random.below(60_000)),
        };
        Fate {
            cut_after: Some(cut_after),
            in_stream,
            reset: random.chance(50),
            stall_after: random.chance(25).then(|| random.below(cut_after + 1)),
            stall: Duration::from_millis(random.below(150)),
            single_bytes: if random.chance(25) { random.below(400) } else { 0 },
        }
    }
}

impl Proxy {
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the proxy finds a port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let shared = Arc::new(Shared::default());
        shared.target.store(target, Ordering::SeqCst);
        let state = Arc::clone(&shared);
        let listener = thread::spawn(move || {
            let mut connections = Vec::new();
            while !state.ended.load(Ordering::SeqCst) {
                wait_readable(&mut [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)])
                    .expect("a listener can be waited for");
                if let Ok((replica, _)) = listener.accept() {
                    let state = Arc::clone(&state);
                    connections.push(thread::spawn(move || serve(replica, &state)));
                }
                for ended in connections.extract_if(.., |connection| connection.is_finished()) {
                    ended.join().expect("a connection of the proxy does not panic");
                }
            }
            for connection in connections {
                connection.join().expect("a connection of the proxy does not panic");
            }
        });
        Proxy { port, shared, listener: Some(listener) }
    }

    /// From now on every connection is cut at a moment of its own, that of now included.
    pub fn storm(&self, seed: u64) {
        *self.shared.random.lock().expect("no connection panics with it") = Some(Random::new(seed));
        self.shared.season.fetch_add(1, Ordering::SeqCst);
    }

    pub fn calm(&self) {
        *self.shared.random.lock().expect("no connection panics with it") = None;
        self.shared.season.fetch_add(1, Ordering::SeqCst);
    }

    /// From now on the server on that port is behind the proxy; connections to the one before are closed.
    pub fn turn_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        self.shared.season.fetch_add(1, Ordering::SeqCst);
    }

    /// Connections that were cut by the storm.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// `+CONTINUE` replies that went through.
    pub fn continued(&self) -> usize {
        self.shared.continued.load(Ordering::SeqCst)
    }

    /// `+FULLRESYNC` replies that went through.
    pub fn full_syncs(&self) -> usize {
        self.shared.full.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Passes bytes until a side closes, an error, or the cut. Errors end the connection and nothing else: the servers on
/// both sides are free to close.
fn serve(replica: TcpStream, shared: &Shared) {
    let target = shared.target.load(Ordering::SeqCst);
    let Ok(primary) = TcpStream::connect(("127.0.0.1", target)) else { return };
    if let Ok(End::Reset) = pass(&replica, &primary, target, shared) {
        // An RST goes out when a socket is closed, not shut down, with no time to linger.
        for stream in [&replica, &primary] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// How the two sockets, which `serve` closes by dropping them, are to end.
enum End {
    Close,
    Reset,
}

fn pass(mut replica: &TcpStream, mut primary: &TcpStream, target: u16, shared: &Shared) -> io::Result<End> {
    for stream in [replica, primary] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    }
    let mut season = u64::MAX;
    let mut fate = Fate::default();
    let mut head = Some(Vec::new());
    let mut buffer = vec![0; 1 << 16];
    while !shared.ended.load(Ordering::SeqCst) {
        let now = shared.season.load(Ordering::SeqCst);
        if now != season {
            season = now;
            if shared.target.load(Ordering::SeqCst) != target {
                return Ok(End::Close);
            }
            let mut random = shared.random.lock().expect("no connection panics with it");
            fate = random.as_mut().map(Fate::random).unwrap_or_default();
        }
        let mut watched = [
            PollFd::from_borrowed_fd(primary.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(replica.as_fd(), PollFlags::IN),
        ];
        wait_readable(&mut watched)?;
        let [from_primary, from_replica] = watched.map(|fd| !fd.revents().is_empty());
        if from_replica {
            let len = replica.read(&mut buffer)?;
            if len == 0 {
                return Ok(End::Close);
            }
            send(primary, &buffer[..len], &mut fate.single_bytes)?;
        }
        if !from_primary {
            continue;
        }
        let mut room = buffer.len();
        let counts = head.is_none() || !fate.in_stream;
        if counts {
            for end in [fate.cut_after, fate.stall_after].into_iter().flatten() {
                room = room.min(end as usize);
            }
            if fate.stall_after == Some(0) {
                fate.stall_after = None;
                thread::sleep(fate.stall);
                continue;
            }
            if fate.cut_after == Some(0) {
                shared.cuts.fetch_add(1, Ordering::SeqCst);
                return Ok(if fate.reset { End::Reset } else { End::Close });
            }
        }
        let len = primary.read(&mut buffer[..room])?;
        if len == 0 {
            return Ok(End::Close);
        }
        let bytes = &buffer[..len];
        if let Some(head) = &mut head {
            head.extend_from_slice(&bytes[..len.min(HANDSHAKE_BYTES as usize)]);
        }
        send(replica, bytes, &mut fate.single_bytes)?;
        note_psync_reply(&mut head, shared);
        if counts {
            for end in [&mut fate.cut_after, &mut fate.stall_after].into_iter().flatten() {
                *end -= len as u64;
            }
        }
    }
    Ok(End::Close)
}

/// Returns after a tick at the latest.
fn wait_readable(watched: &mut [PollFd<'_>]) -> io::Result<()> {
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    poll(watched, Some(&tick))?;
    Ok(())
}

fn send(mut to: &TcpStream, bytes: &[u8], single_bytes: &mut u64) -> io::Result<()> {
    let split = bytes.len().min(*single_bytes as usize);
    for byte in &bytes[..split] {
        to.write_all(&[*byte])?;
    }
    *single_bytes -= split as u64;
    to.write_all(&bytes[split..])
}

/// Counts the reply to PSYNC once its line has gone through whole.
fn note_psync_reply(head: &mut Option<Vec<u8>>, shared: &Shared) {
    let Some(bytes) = head else { return };
    let text = String::from_utf8_lossy(bytes);
    let counter = |line: &str| match line {
        _ if line.starts_with("+CONTINUE") => Some(&shared.continued),
        _ if line.starts_with("+FULLRESYNC") => Some(&shared.full),
        _ => None,
    };
    let found = text.split_inclusive("\r\n").filter(|line| line.ends_with("\r\n")).find_map(counter);
    if let Some(counter) = found {
        counter.fetch_add(1, Ordering::SeqCst);
    }
    if found.is_some() || bytes.len() > HANDSHAKE_BYTES as usize {
        *head = None;
    }
}
