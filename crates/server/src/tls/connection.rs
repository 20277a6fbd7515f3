//! One encrypted connection: what is pumped between its TCP socket and its end of the socket pair.
//!
//! ```text
//!            Open ──────── TCP ends or breaks ───────→ Ended ── all is delivered ──→ Closed
//! inbound:     └────────── nobody takes it any more ──────────────────────────────────↗
//!
//! outbound:  Open ─ the pair ends ─→ Closing ─ all is sent, and the end of it ─→ Lingering ─ TCP ends ─→ (gone)
//!              └── TCP breaks ──→ Broken ─ the pair ends ─→ (gone)
//! ```
//! The event loop closes both directions at once, so the pair's end is the end of both.
//!
//! Nothing is read on one side while what was read before waits for the other, so a connection holds a few records at
//! most, and back-pressure goes from socket to socket. What one side has sent before its end reaches the other side
//! first. At the end the TCP socket is read on for a moment and what comes is dropped: closing it with something unread
//! would be a reset, which may destroy a reply on its way.

use std::io::{self, BufRead, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags};
use rustls::Connection as Session;

use crate::log_warning;

/// What is read at once.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// What is pumped in one direction before other connections have their turn.
const BUDGET_BYTES: usize = 4 * SCRATCH_BYTES;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last bytes of the event loop may take to be sent to a client that does not read.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);
/// How long the other side may take to close after it was told the end.
const LINGER_LIMIT: Duration = Duration::from_secs(1);

pub struct Connection {
    session: Session,
    socket: TcpStream,
    /// The relay's end of the pair.
    pair: OwnedFd,
    /// The two ends in words.
    names: String,
    inbound: Inbound,
    outbound: Outbound,
    /// Decrypted bytes wait for the pair.
    holds_plaintext: bool,
    /// Read from TCP, not decrypted yet: only behind decrypted bytes that wait.
    undecrypted: Vec<u8>,
    /// Nothing can be read from TCP any more.
    socket_ended: bool,
    /// The event loop has closed its end, which may still hold bytes to be read.
    hung_up: bool,
    /// When the state that it is in has taken too long.
    deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inbound {
    Open,
    /// Nothing more comes; what came is still to be delivered.
    Ended,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbound {
    Open,
    /// What is left is to be sent, and the end of it.
    Closing,
    Lingering,
    /// What comes is dropped.
    Broken,
}

/// What is waited for. None: not even to hear of a hang-up, which is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    pub socket: Option<EventFlags>,
    pub pair: Option<EventFlags>,
}

/// Which of the sockets may have something to be read. The others are not asked: it would cost a call of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    pub socket: bool,
    pub pair: bool,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    Over,
}

/// Whether a socket took or gave all that was possible.
enum Flow {
    Runs,
    Waits,
}

impl Connection {
    /// `socket` is non-blocking, and so is `pair`.
    pub fn new(
        session: Session,
        socket: TcpStream,
        pair: OwnedFd,
        names: String,
        now: Instant,
    ) -> Connection {
        let mut session = session;
        // What is written is bounded by what is read at once, and nothing is read before it is sent.
        session.set_buffer_limit(None);
        let deadline = session.is_handshaking().then(|| now + HANDSHAKE_LIMIT);
        Connection {
            session,
            socket,
            pair,
            names,
            inbound: Inbound::Open,
            outbound: Outbound::Open,
            holds_plaintext: false,
            undecrypted: Vec::new(),
            socket_ended: false,
            hung_up: false,
            deadline,
        }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn pair(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Everything was sent.
    pub fn lingers(&self) -> bool {
        self.outbound == Outbound::Lingering
    }

    pub fn gather_packets(&self) {
        // A wish: the packets are small where it cannot be done.
        let _ = self.socket.set_nodelay(false);
    }

    /// Moves what can be moved; what is left is announced again. `scratch` has [`SCRATCH_BYTES`].
    pub fn pump(&mut self, readable: Readable, now: Instant, scratch: &mut [u8]) -> Fate {
        if self.outbound == Outbound::Lingering {
            return self.linger(scratch);
        }
        let was_handshaking = self.session.is_handshaking();
        if let Err(error) = self.pump_inbound(readable.socket, scratch) {
            self.tell_failure(&error.to_string());
            // Who does not speak TLS gets no alert: to it that is a reply.
            let speaks_tls = !was_handshaking || !matches!(error, rustls::Error::InvalidMessage(_));
            if speaks_tls {
                // The alert that tells the other side why; it may be gone.
                let _ = self.flush();
            }
            if was_handshaking {
                return Fate::Over;
            }
            // What came before it counts.
            (self.inbound, self.outbound) = (Inbound::Ended, Outbound::Broken);
            let mut budget = BUDGET_BYTES;
            self.deliver(&mut budget);
        }
        if self.session.is_handshaking() {
            if self.socket_ended {
                self.tell_failure("the connection was closed during the TLS handshake");
                return Fate::Over;
            }
            // What the event loop has written before it closed, such as a refusal, is worth a handshake.
            if self.hung_up && self.pair_is_empty() {
                return Fate::Over;
            }
        } else if was_handshaking {
            self.deadline = self.hung_up.then(|| now + CLOSING_LIMIT);
        }
        self.pump_outbound(readable.pair, now, scratch)
    }

    /// The time of [`Connection::deadline`] has come: it is over.
    pub fn time_is_up(&self) {
        if self.session.is_handshaking() {
            self.tell_failure("the TLS handshake took too long");
        }
    }

    /// The event loop has closed its end of the pair.
    pub fn pair_hung_up(&mut self, now: Instant) {
        self.hung_up = true;
        if !self.session.is_handshaking() && self.deadline.is_none() {
            self.deadline = Some(now + CLOSING_LIMIT);
        }
    }

    pub fn interest(&self) -> Interest {
        let mut socket = EventFlags::empty();
        let mut pair = EventFlags::empty();
        let delivers = self.inbound != Inbound::Closed && self.holds_plaintext;
        let sends = self.session.wants_write() && self.outbound != Outbound::Broken;
        let reads_socket = match self.outbound {
            Outbound::Lingering => true,
            _ => self.inbound == Inbound::Open && !delivers,
        };
        socket.set(EventFlags::IN, reads_socket);
        socket.set(EventFlags::OUT, sends);
        pair.set(EventFlags::OUT, delivers);
        pair.set(EventFlags::IN, self.reads_pair() && !sends);
        let over = matches!(self.outbound, Outbound::Closing | Outbound::Lingering);
        Interest {
            // A hang-up is announced even to those who want nothing, again and again.
            socket: (!socket.is_empty()).then_some(socket),
            pair: (!over && (!self.hung_up || !pair.is_empty())).then_some(pair),
        }
    }

    fn reads_pair(&self) -> bool {
        let open = matches!(self.outbound, Outbound::Open | Outbound::Broken);
        open && !self.session.is_handshaking()
    }

    fn pair_is_empty(&self) -> bool {
        let peeked = net::recv(&self.pair, &mut [0u8; 1][..], RecvFlags::PEEK);
        !matches!(peeked, Ok((1, _)))
    }

    /// From TCP to the pair. The error is one of the protocol.
    fn pump_inbound(&mut self, mut readable: bool, scratch: &mut [u8]) -> Result<(), rustls::Error> {
        let mut budget = BUDGET_BYTES;
        loop {
            if !self.undecrypted.is_empty() {
                let mut bytes = std::mem::take(&mut self.undecrypted);
                let used = self.take_in(&bytes, &mut budget)?;
                if used < bytes.len() {
                    bytes.drain(..used);
                    self.undecrypted = bytes;
                    return Ok(());
                }
            }
            if let Flow::Waits = self.deliver(&mut budget) {
                return Ok(());
            }
            if self.inbound != Inbound::Open || !readable || budget == 0 {
                return Ok(());
            }
            match net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => (self.inbound, self.socket_ended) = (Inbound::Ended, true),
                Ok((count, _)) => {
                    // There is hardly more behind less than there was room for.
                    readable = count == scratch.len();
                    let used = self.take_in(&scratch[..count], &mut budget)?;
                    self.undecrypted = scratch[used..count].to_vec();
                    if used < count {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => {
                    (self.inbound, self.socket_ended) = (Inbound::Ended, true);
                    self.outbound = Outbound::Broken;
                }
            }
        }
    }

    /// Decrypts and delivers; how many of the bytes, until the pair had no room.
    fn take_in(&mut self, bytes: &[u8], budget: &mut usize) -> Result<usize, rustls::Error> {
        let mut used = 0;
        while used < bytes.len() {
            if let Flow::Waits = self.deliver(budget) {
                return Ok(used);
            }
            let mut rest = &bytes[used..];
            let taken = self.session.read_tls(&mut rest);
            used += taken.map_err(|error| rustls::Error::General(error.to_string()))?;
            if self.session.process_new_packets()?.peer_has_closed() {
                if self.inbound == Inbound::Open {
                    self.inbound = Inbound::Ended;
                }
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    /// Gives the pair what is decrypted.
    fn deliver(&mut self, budget: &mut usize) -> Flow {
        loop {
            let mut reader = self.session.reader();
            let chunk = match reader.fill_buf() {
                Ok(chunk) if !chunk.is_empty() => chunk,
                _ => break,
            };
            let length = chunk.len();
            if self.inbound == Inbound::Closed {
                reader.consume(length);
                continue;
            }
            let result = match *budget {
                0 => Err(Errno::AGAIN),
                _ => net::send(&self.pair, chunk, SendFlags::NOSIGNAL),
            };
            match result {
                Ok(count) => {
                    reader.consume(count);
                    *budget = budget.saturating_sub(count);
                }
                Err(Errno::AGAIN) => {
                    self.holds_plaintext = true;
                    return Flow::Waits;
                }
                Err(Errno::INTR) => {}
                // The event loop does not want it any more.
                Err(_) => self.inbound = Inbound::Closed,
            }
        }
        self.holds_plaintext = false;
        if self.inbound == Inbound::Ended {
            // It may have closed its end already.
            let _ = net::shutdown(&self.pair, net::Shutdown::Write);
            self.inbound = Inbound::Closed;
        }
        Flow::Runs
    }

    /// From the pair to TCP.
    fn pump_outbound(&mut self, mut readable: bool, now: Instant, scratch: &mut [u8]) -> Fate {
        let mut budget = BUDGET_BYTES;
        loop {
            if self.outbound != Outbound::Broken {
                let held = self.session.wants_write();
                match self.flush() {
                    Ok(flow) => {
                        // Who still takes bytes is given the time for all of them.
                        if held && self.deadline.is_some() && !self.session.is_handshaking() {
                            self.deadline = Some(now + CLOSING_LIMIT);
                        }
                        if let Flow::Waits = flow {
                            return Fate::Lives;
                        }
                    }
                    Err(_) if self.outbound == Outbound::Closing => return Fate::Over,
                    Err(_) => self.outbound = Outbound::Broken,
                }
            }
            if self.outbound == Outbound::Closing {
                let shut = self.socket.shutdown(Shutdown::Write);
                if self.socket_ended || shut.is_err() {
                    return Fate::Over;
                }
                self.outbound = Outbound::Lingering;
                self.deadline = Some(now + LINGER_LIMIT);
                return self.linger(scratch);
            }
            if self.session.is_handshaking() || !readable || budget == 0 {
                return Fate::Lives;
            }
            match net::recv(&self.pair, &mut *scratch, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return Fate::Lives,
                Err(Errno::INTR) => {}
                Ok((0, _)) | Err(_) => {
                    if self.outbound == Outbound::Broken {
                        return Fate::Over;
                    }
                    self.inbound = Inbound::Closed;
                    self.outbound = Outbound::Closing;
                    self.deadline.get_or_insert(now + CLOSING_LIMIT);
                    self.session.send_close_notify();
                }
                Ok((count, _)) => {
                    readable = count == scratch.len();
                    budget = budget.saturating_sub(count);
                    if self.outbound == Outbound::Open {
                        let written = self.session.writer().write_all(&scratch[..count]);
                        written.expect("without a limit the session takes everything");
                    }
                }
            }
        }
    }

    /// Sends what is encrypted.
    fn flush(&mut self) -> io::Result<Flow> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Sink(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flow::Waits),
                Err(error) => return Err(error),
            }
        }
        Ok(Flow::Runs)
    }

    /// Everything has been sent; what still comes is dropped.
    fn linger(&mut self, scratch: &mut [u8]) -> Fate {
        for _ in 0..BUDGET_BYTES / SCRATCH_BYTES {
            match net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return Fate::Lives,
                Err(Errno::INTR) => {}
                Ok((0, _)) | Err(_) => return Fate::Over,
                Ok(_) => {}
            }
        }
        Fate::Lives
    }

    fn tell_failure(&self, reason: &str) {
        let names = &self.names;
        match self.session {
            Session::Server(_) if self.session.is_handshaking() => {
                log_warning!("Error accepting a client connection: {reason} ({names})");
            }
            _ => log_warning!("Error on a TLS connection: {reason} ({names})"),
        }
    }
}

/// The TCP socket as the session writes to it: many records at once, and no signal if it is closed.
struct Sink<'a>(&'a TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(net::sendmsg(self.0, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
