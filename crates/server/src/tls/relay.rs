//! The thread that ends TLS: it pumps all encrypted connections ([`super::connection`]), each in turn for a bounded number
//! of bytes, so that none holds up the others.
//!
//! It waits for sockets with epoll, level-triggered: what a turn leaves is announced again. Orders come by a channel and
//! a descriptor that wakes it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustls::Connection as Session;

use super::PlainEnd;
use super::connection::{Connection, Fate, Interest, Readable, SCRATCH_BYTES};
use crate::log_warning;

/// How long the end of the process is put off for bytes that clients and replicas have not taken.
const END_LIMIT: Duration = Duration::from_secs(1);
/// And for those that have taken everything and do not close.
const END_LINGER_LIMIT: Duration = Duration::from_millis(100);

/// How often it is looked at meanwhile.
const END_PERIOD_MS: i64 = 20;

const WAKE: u64 = u64::MAX;
/// In the token of a connection's events: beside its number, which of its two sockets.
const PAIR: u64 = 1;

/// The others' end.
pub struct Relay {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
    next: u64,
    thread: JoinHandle<()>,
}

enum Order {
    Take { number: u64, connection: Box<Connection> },
    GatherPackets { number: u64 },
    End,
}

impl Relay {
    pub fn start() -> io::Result<Relay> {
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let (orders, receiver) = channel();
        let turns = Turns {
            epoll,
            wake: Arc::clone(&wake),
            orders: receiver,
            connections: HashMap::new(),
            deadlines: BTreeSet::new(),
            scratch: vec![0; SCRATCH_BYTES],
            ends_at: None,
        };
        let thread = std::thread::Builder::new().name("tls".into()).spawn(move || turns.run())?;
        Ok(Relay { orders, wake, next: 0, thread })
    }

    /// Takes a connection over; the end that its bytes come out of and go into, non-blocking. `names` is for the log.
    pub fn take(&mut self, socket: TcpStream, session: Session, names: String) -> io::Result<PlainEnd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (ours, fd) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let number = self.next;
        self.next += 1;
        let connection = Box::new(Connection::new(session, socket, ours, names, Instant::now()));
        self.order(Order::Take { number, connection });
        Ok(PlainEnd { fd, number })
    }

    /// Lets the kernel gather small packets of this connection.
    pub fn gather_packets(&self, number: u64) {
        self.order(Order::GatherPackets { number });
    }

    /// Sends what was written to connections that are closed now, as far as the other sides take it soon, and ends.
    pub fn end(self) {
        self.order(Order::End);
        let _ = self.thread.join();
    }

    /// A thread that has ended has closed all its connections, which says it all.
    fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// The thread's end.
struct Turns {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    orders: Receiver<Order>,
    connections: HashMap<u64, Relayed>,
    deadlines: BTreeSet<(Instant, u64)>,
    scratch: Vec<u8>,
    /// Set when the process ends.
    ends_at: Option<Instant>,
}

struct Relayed {
    connection: Box<Connection>,
    /// What the kernel was told.
    interest: Interest,
    deadline: Option<Instant>,
}

impl Turns {
    fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("epoll_wait: {error}"),
            }
            let now = Instant::now();
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
                        if !self.take_orders(now) {
                            return;
                        }
                    }
                    token => {
                        let (flags, of_pair) = (event.flags, token & PAIR != 0);
                        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                        let comes = gone || flags.contains(EventFlags::IN);
                        let readable = Readable { socket: comes && !of_pair, pair: comes && of_pair };
                        self.pump(token >> 1, readable, gone && of_pair, now);
                    }
                }
            }
            self.end_late_ones(now);
            if self.ends_at.is_some_and(|at| self.connections.is_empty() || at <= now) {
                return;
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        let at = first.into_iter().chain(self.ends_at).min()?;
        // epoll counts in milliseconds: rounded up, so that it is late enough when it wakes.
        let millis = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000) as i64;
        let millis = if self.ends_at.is_some() { millis.min(END_PERIOD_MS) } else { millis };
        Some(Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 })
    }

    /// False if nobody is left to give orders.
    fn take_orders(&mut self, now: Instant) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Take { number, connection }) => {
                    let interest = Interest { socket: None, pair: None };
                    self.connections.insert(number, Relayed { connection, interest, deadline: None });
                    // Bytes may have come already.
                    self.pump(number, Readable { socket: true, pair: true }, false, now);
                }
                Ok(Order::GatherPackets { number }) => {
                    if let Some(relayed) = self.connections.get(&number) {
                        relayed.connection.gather_packets();
                    }
                }
                Ok(Order::End) => self.ends_at = Some(now + END_LIMIT),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return self.ends_at.is_some(),
            }
        }
    }

    fn pump(&mut self, number: u64, readable: Readable, pair_hung_up: bool, now: Instant) {
        let Some(relayed) = self.connections.get_mut(&number) else { return };
        if pair_hung_up {
            relayed.connection.pair_hung_up(now);
        }
        let fate = relayed.connection.pump(readable, now, &mut self.scratch);
        if fate == Fate::Over {
            return self.remove(number);
        }
        if let Err(error) = relayed.announce(&self.epoll, number) {
            log_warning!("Error registering the events of a TLS connection: {error}");
            return self.remove(number);
        }
        let deadline = relayed.connection.deadline();
        if deadline != relayed.deadline {
            let before = std::mem::replace(&mut relayed.deadline, deadline);
            before.map(|at| self.deadlines.remove(&(at, number)));
            deadline.map(|at| self.deadlines.insert((at, number)));
        }
    }

    fn end_late_ones(&mut self, now: Instant) {
        while let Some((at, number)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            match self.connections.get(&number) {
                Some(relayed) => {
                    relayed.connection.time_is_up();
                    self.remove(number);
                }
                None => drop(self.deadlines.remove(&(at, number))),
            }
        }
        if let Some(end) = self.ends_at
            && now + END_LIMIT >= end + END_LINGER_LIMIT
        {
            self.connections.retain(|_, relayed| !relayed.connection.lingers());
        }
    }

    fn remove(&mut self, number: u64) {
        // Its sockets leave the set when they are closed.
        if let Some(Relayed { deadline: Some(at), .. }) = self.connections.remove(&number) {
            self.deadlines.remove(&(at, number));
        }
    }
}

impl Relayed {
    /// Tells the kernel what is waited for, where that has changed.
    fn announce(&mut self, epoll: &OwnedFd, number: u64) -> rustix::io::Result<()> {
        let wanted = self.connection.interest();
        let before = std::mem::replace(&mut self.interest, wanted);
        let token = number << 1;
        change(epoll, self.connection.socket(), token, before.socket, wanted.socket)?;
        change(epoll, self.connection.pair(), token | PAIR, before.pair, wanted.pair)
    }
}

fn change(
    epoll: &OwnedFd,
    fd: BorrowedFd<'_>,
    token: u64,
    before: Option<EventFlags>,
    wanted: Option<EventFlags>,
) -> rustix::io::Result<()> {
    let data = EventData::new_u64(token);
    match (before, wanted) {
        (before, wanted) if before == wanted => Ok(()),
        (None, Some(flags)) => epoll::add(epoll, fd, data, flags),
        (Some(_), Some(flags)) => epoll::modify(epoll, fd, data, flags),
        (_, None) => epoll::delete(epoll, fd),
    }
}
