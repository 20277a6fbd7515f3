//! The loop of the single writer: sockets, timers and other threads in, the engine in the middle, sockets out.
//!
//! A turn:
//! ```text
//! wait → (readable: read, run commands | writable: send | accept | reports of threads | signals)*
//!      → tick when it is due → a slice of the running snapshot, a slice of the running load
//!      → before_sleep → send what is to be sent → carry out the engine's actions
//! ```
//! Nothing here blocks: what might (names, files, fsync) is done by other threads, which report back through
//! [`crate::report`]. Actions are carried out right after the engine asked for them, because the slot of a connection
//! that it has closed may be given to the next one that is accepted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::node::Refusal;
use engine::snapshot::{Plan, Step};
use engine::{Action, ConnId, Node, SpillFile, process_title};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use structures::arena;

use crate::accept::{Accepted, Listeners, Refused};
use crate::affinity;
use crate::connect::Target;
use crate::crash;
use crate::daemon::{self, ShutdownSignal, Signals};
use crate::files::{LoadReader, PayloadFiles, SpillThread, TransferFile};
use crate::listener::strerror;
use crate::logger::{self, LOG, Level};
use crate::migrate::Migrator;
use crate::process_title::ProcessTitle;
use crate::report::{Inbox, Link, Report, Reporter};
use crate::snapshot_thread::Snapshotter;
use crate::tls::Tls;
use crate::watchdog::Watchdog;
use crate::{connect, log_notice, log_warning};

/// Connections accepted per turn and listener.
const ACCEPTS_MAX: usize = 1000;
/// The kernel takes at most 1024 slices in one write; beyond this many, another write costs little.
const SLICES_MAX: usize = 64;
/// What is copied of a snapshot in one turn: about 25 µs of the writer's time.
const SNAPSHOT_SLICE_BYTES: usize = 32 * 1024;
/// Bytes of a streamed snapshot that wait for the disk before it is walked on: slow replicas do not hold it up.
const SPILL_WAITING_MAX: usize = 2 << 20;
/// How long a turn loads at most, so that clients are answered meanwhile.
const LOAD_SLICE: Duration = Duration::from_millis(2);
/// Bytes of an arriving snapshot that wait for the disk before the primary's connection is left unread.
const TRANSFER_WAITING_MAX: usize = 64 << 20;

/// How old what a crash report tells of the server is at most: writing it takes tens of microseconds.
const INFO_PERIOD_US: u64 = 5_000_000;

/// Blocks freed on another thread that a turn puts back: at most some 0.1 ms of work.
const COLLECTED_PER_TURN: usize = 2048;

const SIGNALS: u64 = 1 << 32;
const INBOX: u64 = 2 << 32;
const LISTENER: u64 = 3 << 32;

/// A connection's socket and what is waited for on it.
struct Socket {
    fd: OwnedFd,
    interest: epoll::EventFlags,
    /// The engine wants it left unread.
    paused: bool,
    /// By which the relay of TLS knows it; none if it is plain.
    relayed: Option<u64>,
}

/// A file that is being loaded.
struct Load {
    reader: LoadReader,
    pieces: VecDeque<io::Result<Vec<u8>>>,
    /// The data set of the start: the server is ready when it is there.
    at_start: bool,
    /// Not before then on the monotonic clock goes it on (`key-load-delay`).
    not_before_us: u64,
}

/// What the loop is made of; see [`crate::serve`] for how it comes about.
pub struct Parts {
    pub node: Node,
    pub listeners: Listeners,
    pub tls: Tls,
    pub signals: Signals,
    pub reporter: Reporter,
    pub inbox: Inbox,
    pub title: Title,
}

/// What the process is to be called.
pub struct Title {
    /// The name that it was started by.
    pub program: String,
    /// None where the title stays.
    pub place: Option<ProcessTitle>,
}

pub struct EventLoop {
    pub node: Node,
    epoll: OwnedFd,
    /// By the engine's number of the connection.
    sockets: Vec<Option<Socket>>,
    listeners: Listeners,
    tls: Tls,
    signals: Signals,
    reporter: Reporter,
    inbox: Inbox,
    /// The number of the last attempt to connect to a primary.
    attempt: u64,
    /// The attempts that are under way, for the stream and for a snapshot beside it; others are of no interest.
    connecting: Option<u64>,
    connecting_channel: Option<u64>,
    /// The connection that a snapshot comes on, while it is left unread because the disk is behind.
    held_for_disk: Option<ConnId>,
    snapshot_from: Option<ConnId>,
    snapshot: Option<Snapshotter>,
    snapshots: u64,
    /// The file of the snapshot whose end is being told: what has its name may be another one already.
    ended_file: Option<Arc<File>>,
    cancelled: Option<JoinHandle<()>>,
    transfer: TransferFile,
    payloads: PayloadFiles,
    snapshot_spill: SpillThread,
    log_spill: SpillThread,
    migrator: Migrator,
    load: Option<Load>,
    loads: u64,
    /// When this turn's events had been handled: what is left of the turn may make a tick late by as much.
    turn_us: u64,
    next_tick_us: u64,
    /// Blocks that the freeing thread has freed wait to be put back into this thread's arena.
    more_to_collect: bool,
    next_info_us: u64,
    to_send: Vec<ConnId>,
    slices: Vec<IoSlice<'static>>,
    /// The thread of the signals takes the end of the process for awaited.
    shutting_down: bool,
    title: Title,
    watchdog: Watchdog,
    /// Set when the process is to end.
    exit: Option<i32>,
}

impl EventLoop {
    pub fn new(parts: Parts) -> io::Result<EventLoop> {
        let Parts { node, listeners, tls, signals, reporter, inbox, title } = parts;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&epoll, &signals, epoll::EventData::new_u64(SIGNALS), readable)?;
        epoll::add(&epoll, &inbox, epoll::EventData::new_u64(INBOX), readable)?;
        register_listeners(&epoll, &listeners)?;
        let next_tick_us = node.core.env.monotonic_us();
        let mut event_loop = EventLoop {
            node,
            epoll,
            sockets: Vec::new(),
            listeners,
            tls,
            signals,
            transfer: TransferFile::start(reporter.clone())?,
            payloads: PayloadFiles::start(reporter.clone())?,
            snapshot_spill: SpillThread::start(SpillFile::Snapshot, reporter.clone())?,
            log_spill: SpillThread::start(SpillFile::Log, reporter.clone())?,
            migrator: Migrator::new(reporter.clone()),
            reporter,
            inbox,
            attempt: 0,
            connecting: None,
            connecting_channel: None,
            held_for_disk: None,
            snapshot_from: None,
            snapshot: None,
            snapshots: 0,
            ended_file: None,
            cancelled: None,
            load: None,
            loads: 0,
            turn_us: next_tick_us,
            next_tick_us,
            more_to_collect: false,
            next_info_us: 0,
            to_send: Vec::new(),
            slices: Vec::new(),
            shutting_down: false,
            title,
            watchdog: Watchdog::new(),
            exit: None,
        };
        for name in ["proc-title-template", "watchdog-period", "crash-log-enabled"] {
            event_loop.config_changed(name);
        }
        Ok(event_loop)
    }

    /// Runs until the process is to end; its exit code.
    pub fn run(&mut self) -> i32 {
        let mut events = Vec::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            events.clear();
            self.watchdog.turn_ends();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("epoll_wait: {error}"),
            }
            self.watchdog.turn_begins();
            self.node.core.turn_had_events = !events.is_empty();
            for event in &events {
                self.event(event.data.u64(), event.flags);
            }
            self.tick_if_due();
            self.pull_snapshot();
            self.load_some();
            self.end_turn();
            self.more_to_collect = arena::collect(COLLECTED_PER_TURN);
            self.tell_signals();
            if let Some(code) = self.exit {
                return code;
            }
        }
    }

    /// How long to wait: not at all while there is work that no event announces.
    fn timeout(&self) -> Timespec {
        let others = [self.load_due_us(), self.node.next_heartbeat_us(), self.node.next_transfer_us()];
        let due = others.into_iter().flatten().fold(self.next_tick_us, u64::min);
        let busy = self.can_pull() || self.node.is_busy() || self.more_to_collect;
        let mut micros = if busy { 0 } else { due.saturating_sub(self.turn_us) };
        if let Some(at_ms) = self.node.store.key_waits.next_deadline_ms() {
            let millis = at_ms.saturating_sub(self.node.core.env.unix_ms()).saturating_add(1);
            micros = micros.min(millis.max(0) as u64 * 1000);
        }
        // epoll counts in milliseconds: rounded up, so that the tick is due when it wakes.
        let millis = micros.div_ceil(1000);
        Timespec { tv_sec: (millis / 1000) as i64, tv_nsec: (millis % 1000 * 1_000_000) as i64 }
    }

    fn event(&mut self, token: u64, flags: epoll::EventFlags) {
        let index = token as u32 as usize;
        match token & !0xffff_ffff {
            0 => {
                if flags.contains(epoll::EventFlags::OUT) {
                    self.send(index);
                }
                if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                    self.read(index);
                }
            }
            SIGNALS => self.signalled(),
            INBOX => self.take_reports(),
            _ => self.accept(index),
        }
    }

    fn tick_if_due(&mut self) {
        let now = self.node.core.env.monotonic_us();
        self.turn_us = now;
        if now < self.next_tick_us {
            return;
        }
        let period = 1_000_000 / self.node.core.config.hz.clamp(1, 500) as u64;
        // A late tick is not made up for.
        self.next_tick_us = now.max(self.next_tick_us + period / 2) + period;
        self.node.tick();
        self.carry_out();
        if now >= self.next_info_us {
            self.next_info_us = now + INFO_PERIOD_US;
            crash::remember(engine::info::text(&self.node.store, &mut self.node.core, &[b"everything"]));
        }
    }

    fn end_turn(&mut self) {
        // Sending may end connections, and ending them may make others due.
        for _ in 0..4 {
            self.node.before_sleep();
            self.carry_out();
            let mut ids = std::mem::take(&mut self.to_send);
            self.node.take_to_send(&mut ids);
            for &id in &ids {
                let waits = self.sockets.get(id).is_some_and(|socket| {
                    socket.as_ref().is_some_and(|socket| socket.interest.contains(epoll::EventFlags::OUT))
                });
                if !waits {
                    self.send(id);
                }
            }
            self.to_send = ids;
            self.carry_out();
            if self.node.core.to_close.is_empty() && self.node.core.resume.is_empty() {
                break;
            }
        }
    }

    // ---- connections ----

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS_MAX {
            let keepalive = self.node.core.config.tcp_keepalive_s.max(0) as u64;
            let Some(accepted) = self.listeners.sockets().get(index).map(|l| l.accept(keepalive)) else {
                return;
            };
            match accepted {
                Ok(Some(accepted)) => self.accepted(accepted),
                Ok(None) => return,
                Err(Refused::Broken) => {}
                Err(Refused::Failed(error)) => {
                    log_warning!("Accepting client connection: {error}");
                    return;
                }
            }
        }
    }

    fn accepted(&mut self, accepted: Accepted) {
        let Accepted { fd, peer, tls } = accepted;
        let names = if tls { format!("addr={} laddr={}", peer.addr, peer.laddr) } else { String::new() };
        match self.node.accept(peer) {
            Ok(id) if tls => match self.tls.accept(fd.into(), &names) {
                Ok(plain) => self.register(id, plain.fd, Some(plain.number)),
                Err(error) => {
                    log_warning!("Error accepting a client connection: {} ({names})", strerror(&error));
                    self.node.closed(id);
                }
            },
            Ok(id) => self.register(id, fd, None),
            // A server that is full does not even begin to shake hands.
            Err(Refusal::Full) if tls => {}
            // Best effort: a client that does not take it learns from the end of the connection.
            Err(refusal) if tls => {
                let plain = self.tls.accept(fd.into(), &names);
                let _ = plain.map(|plain| net::send(&plain.fd, refusal.text(), SendFlags::NOSIGNAL));
            }
            Err(refusal) => drop(net::send(&fd, refusal.text(), SendFlags::NOSIGNAL)),
        }
        self.carry_out();
    }

    fn register(&mut self, id: ConnId, fd: OwnedFd, relayed: Option<u64>) {
        let interest = epoll::EventFlags::IN;
        if let Err(error) = epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(id as u64), interest) {
            log_warning!("Error registering fd event for the new client connection: {error}");
            return self.node.closed(id);
        }
        if self.sockets.len() <= id {
            self.sockets.resize_with(id + 1, || None);
        }
        debug_assert!(self.sockets[id].is_none(), "the engine gives a slot away only when it is free");
        self.sockets[id] = Some(Socket { fd, interest, paused: false, relayed });
    }

    fn read(&mut self, id: ConnId) {
        let Some(socket) = self.sockets.get(id).and_then(Option::as_ref) else { return };
        if socket.paused {
            return;
        }
        let Some(input) = self.node.input(id) else { return };
        // recv and send reach the socket by a shorter way than read and write.
        match net::recv(&socket.fd, rustix::buffer::spare_capacity(input), RecvFlags::empty()) {
            Ok((0, _)) => return self.lost(id),
            Ok((count, _)) => self.node.received(id, count),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.lost(id),
        }
        self.carry_out();
    }

    /// Sends once what the connection has to send; the number of bytes that the socket took.
    fn send(&mut self, id: ConnId) -> usize {
        let Some(socket) = self.sockets.get(id).and_then(Option::as_ref) else { return 0 };
        let mut slices: Vec<IoSlice<'_>> = std::mem::take(&mut self.slices);
        self.node.outgoing(id, &mut slices);
        let more = slices.len() > SLICES_MAX;
        slices.truncate(SLICES_MAX);
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let result = match &slices[..] {
            [] => Ok(0),
            [slice] => net::send(&socket.fd, slice, SendFlags::NOSIGNAL),
            slices => rustix::io::writev(&socket.fd, slices),
        };
        slices.clear();
        // An empty vector in another lifetime: the same memory.
        self.slices = slices.into_iter().map(|_| IoSlice::new(&[])).collect();
        match result {
            Ok(sent) => {
                if sent > 0 {
                    self.node.sent(id, sent);
                }
                // A write of this size may not have been all that there is.
                let waits = more || sent < offered || offered >= 512 * 1024;
                if waits {
                    // Until it can be written to again, which may be never.
                    self.node.stalled(id);
                } else if offered == 0 {
                    self.node.sent_all(id);
                }
                self.wait_to_send(id, waits);
                return sent;
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.node.stalled(id);
                self.wait_to_send(id, true);
            }
            Err(_) => self.lost(id),
        }
        0
    }

    fn wait_to_send(&mut self, id: ConnId, waits: bool) {
        self.change_interest(id, epoll::EventFlags::OUT, waits);
    }

    fn change_interest(&mut self, id: ConnId, flag: epoll::EventFlags, wanted: bool) {
        let Some(socket) = self.sockets.get_mut(id).and_then(Option::as_mut) else { return };
        if socket.interest.contains(flag) == wanted {
            return;
        }
        let before = socket.interest;
        socket.interest.set(flag, wanted);
        let data = epoll::EventData::new_u64(id as u64);
        // Without any interest it leaves the set: a hang-up is announced even to those who want nothing.
        let result = if socket.interest.is_empty() {
            epoll::delete(&self.epoll, &socket.fd)
        } else if before.is_empty() {
            epoll::add(&self.epoll, &socket.fd, data, socket.interest)
        } else {
            epoll::modify(&self.epoll, &socket.fd, data, socket.interest)
        };
        if let Err(error) = result {
            log_warning!("Error changing the events of a connection: {error}");
            self.lost(id);
        }
    }

    fn set_paused(&mut self, id: ConnId, paused: bool) {
        if let Some(socket) = self.sockets.get_mut(id).and_then(Option::as_mut) {
            socket.paused = paused;
            let held = self.held_for_disk == Some(id);
            self.change_interest(id, epoll::EventFlags::IN, !paused && !held);
        }
    }

    /// Not every connection is one of TCP.
    fn gather_packets(&self, id: ConnId) {
        let Some(socket) = self.sockets.get(id).and_then(Option::as_ref) else { return };
        if let Some(number) = socket.relayed {
            self.tls.gather_packets(number);
        } else {
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket.fd, false);
        }
    }

    /// The other end is gone.
    fn lost(&mut self, id: ConnId) {
        self.drop_socket(id);
        self.node.closed(id);
        self.carry_out();
    }

    fn drop_socket(&mut self, id: ConnId) {
        if self.snapshot_from == Some(id) {
            (self.snapshot_from, self.held_for_disk) = (None, None);
        }
        if let Some(socket) = self.sockets.get_mut(id) {
            *socket = None;
        }
    }

    // ---- actions ----

    /// Does what the engine has asked for, and what follows from that.
    fn carry_out(&mut self) {
        loop {
            let actions = self.node.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Log { level, message } => self.log(level, &message),
            Action::ConnectPrimary { host, port } => self.connecting = Some(self.connect_primary(host, port)),
            Action::AbandonConnect => self.connecting = None,
            Action::ConnectChannel { host, port } => {
                self.connecting_channel = Some(self.connect_primary(host, port));
            }
            Action::AbandonChannel => self.connecting_channel = None,
            Action::PauseReading { conn } => self.set_paused(conn, true),
            Action::ResumeReading { conn } => self.set_paused(conn, false),
            Action::GatherPackets { conn } => self.gather_packets(conn),
            Action::Close { conn } => self.drop_socket(conn),
            Action::Sleep { micros } => std::thread::sleep(Duration::from_micros(micros)),
            Action::BeginSnapshot(plan) => self.begin_snapshot(*plan),
            Action::CancelSnapshot => self.cancel_snapshot(),
            Action::OpenTransferFile { path } => self.transfer.open(path),
            Action::AppendTransferFile { bytes } => {
                self.transfer.append(bytes);
                self.hold_for_disk();
            }
            Action::FinishTransferFile { from, to } => self.transfer.finish(from, to),
            Action::AbandonTransferFile => self.transfer.abandon(),
            Action::OpenPayload { conn } => {
                let file = self.ended_file.as_ref().expect("a snapshot that goes to a file has just ended");
                self.payloads.open(conn, Arc::clone(file));
            }
            Action::ReadPayload { conn, offset, length } => self.payloads.read(conn, offset, length),
            Action::ClosePayload { conn } => self.payloads.close(conn),
            Action::Spill { file, request } => {
                let thread = match file {
                    SpillFile::Snapshot => &self.snapshot_spill,
                    SpillFile::Log => &self.log_spill,
                };
                thread.carry_out(request, Path::new(&self.node.core.config.dir));
            }
            Action::LoadFile { path } => self.begin_load(&path),
            Action::Migrate(request) => self.migrator.begin(*request),
            Action::Exit { code } => self.exit = Some(code),
            Action::ConfigChanged { name } => self.config_changed(name),
        }
    }

    fn log(&self, level: engine::action::Level, message: &str) {
        let role = if self.node.core.is_replica() { logger::Role::Replica } else { logger::Role::Primary };
        LOG.set_role(role);
        let level = match level {
            engine::action::Level::Debug => Level::Debug,
            engine::action::Level::Verbose => Level::Verbose,
            engine::action::Level::Notice => Level::Notice,
            engine::action::Level::Warning => Level::Warning,
        };
        LOG.write(level, format_args!("{message}"));
    }

    /// Gives the number of the attempt.
    fn connect_primary(&mut self, host: String, port: u16) -> u64 {
        self.attempt += 1;
        let config = &self.node.core.config;
        let target = Target {
            host,
            port,
            source: config.bind_source_addr.clone(),
            timeout: Duration::from_secs(config.repl_timeout_s.max(1) as u64),
            keepalive_s: config.tcp_keepalive_s.max(0) as u64,
            tls: config.tls.replication.then(|| self.tls.clone()),
        };
        connect::connect(self.attempt, target, self.reporter.clone());
        self.attempt
    }

    fn config_changed(&mut self, name: &str) {
        let config = &self.node.core.config;
        match name {
            "loglevel" => LOG.set_level(Level::ALL[config.loglevel.min(Level::ALL.len() - 1)]),
            // The environment has changed the sockets.
            "port" | "tls-port" | "bind" => {
                if let Err(error) = register_listeners(&self.epoll, &self.listeners) {
                    log_warning!("Error registering a listening socket: {error}");
                }
                self.show_title();
            }
            "proc-title-template" => self.show_title(),
            "crash-log-enabled" | "use-exit-on-panic" => {
                crash::configure(config.crash_log_enabled, config.use_exit_on_panic);
            }
            "watchdog-period" => {
                if let Err(error) = self.watchdog.set_period(config.watchdog_period_ms.max(0) as u64) {
                    log_warning!("Can't start the watchdog: {}", strerror(&error));
                }
                self.node.core.under_way = self.watchdog.command();
            }
            _ => {}
        }
    }

    fn show_title(&self) {
        let core = &self.node.core;
        let Some(place) = &self.title.place else { return };
        let template = &core.config.proc_title_template;
        let title =
            process_title::expand(&core.config, template, &self.title.program, core.config_file.as_deref());
        // Whether the template is right was seen when it was set; where it cannot be shown, the title stays.
        if let Some(title) = title {
            let _ = place.set(&title);
        }
    }

    // ---- other threads ----

    fn take_reports(&mut self) {
        self.inbox.quiet();
        while let Some(report) = self.inbox.take() {
            self.report(report);
            self.carry_out();
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Connected { attempt, result } => {
                if self.connecting.take_if(|wanted| *wanted == attempt).is_some() {
                    self.primary_answered(result, false);
                } else if self.connecting_channel.take_if(|wanted| *wanted == attempt).is_some() {
                    self.primary_answered(result, true);
                }
            }
            Report::SnapshotChunk { snapshot, bytes } => {
                if self.snapshot.as_ref().is_some_and(|running| running.is_current(snapshot)) {
                    self.node.snapshot_chunk(bytes);
                }
            }
            Report::SnapshotEnded { snapshot, result, file } => {
                if self.snapshot.as_ref().is_some_and(|running| running.is_current(snapshot)) {
                    self.snapshot = None;
                    self.ended_file = file.map(Arc::new);
                    self.node.snapshot_finished(result);
                    self.carry_out();
                    self.ended_file = None;
                }
            }
            Report::Migrated { outcome, kept } => {
                self.node.core.migrations.cached_sockets = kept;
                self.node.migrated(&outcome);
            }
            Report::MigrateConnections { kept } => self.node.core.migrations.cached_sockets = kept,
            // The end of the turn pulls.
            Report::SnapshotHungry => {}
            Report::TransferWritten { bytes } => {
                self.transfer.waiting_bytes -= bytes;
                self.release_for_disk();
            }
            Report::TransferFinished { transfer, result } => {
                if self.transfer.is_current(transfer) {
                    self.node.transfer_file_finished(result);
                }
            }
            Report::PayloadRead { conn, opening, result } => {
                if self.payloads.is_current(conn, opening) {
                    self.node.payload_read(conn, result);
                }
            }
            Report::SpillWritten { file, number, result } => self.node.spill_written(file, number, result),
            Report::SpillRead { file, number, result } => self.node.spill_read(file, number, result),
            Report::LoadPiece { load: number, result } => {
                if let Some(load) = self.load.as_mut().filter(|load| load.reader.is_current(number)) {
                    load.pieces.push_back(result);
                }
            }
        }
    }

    fn primary_answered(&mut self, result: Result<Link, String>, as_channel: bool) {
        match result {
            Ok(Link { fd, peer, relayed }) => {
                let id = match as_channel {
                    true => self.node.channel_connected(peer),
                    false => self.node.primary_connected(peer),
                };
                if let Some(id) = id {
                    self.register(id, fd, relayed);
                    // The later one of two.
                    self.snapshot_from = Some(id);
                }
            }
            Err(reason) if as_channel => self.node.channel_connect_failed(&reason),
            Err(reason) => self.node.primary_connect_failed(&reason),
        }
    }

    fn hold_for_disk(&mut self) {
        if self.transfer.waiting_bytes > TRANSFER_WAITING_MAX
            && self.held_for_disk.is_none()
            && let Some(id) = self.snapshot_from
        {
            self.held_for_disk = Some(id);
            self.change_interest(id, epoll::EventFlags::IN, false);
        }
    }

    fn release_for_disk(&mut self) {
        if self.transfer.waiting_bytes < TRANSFER_WAITING_MAX / 2
            && let Some(id) = self.held_for_disk.take()
        {
            let paused = self.sockets.get(id).and_then(Option::as_ref).is_some_and(|socket| socket.paused);
            self.change_interest(id, epoll::EventFlags::IN, !paused);
        }
    }

    // ---- snapshots ----

    fn begin_snapshot(&mut self, plan: Plan) {
        self.snapshots += 1;
        let previous = self.cancelled.take();
        match affinity::bound_to(&self.node.core.config.bgsave_cpulist, || {
            Snapshotter::start(plan, self.snapshots, previous, self.reporter.clone())
        }) {
            Ok(snapshotter) => self.snapshot = Some(snapshotter),
            Err(error) => self.node.snapshot_finished(Err(strerror(&error))),
        }
    }

    fn cancel_snapshot(&mut self) {
        if let Some(snapshotter) = self.snapshot.take() {
            let thread = snapshotter.cancel();
            if self.node.core.shutdown.is_some() {
                // What is saved at the end must not be replaced by what this thread was about to put in place.
                let _ = thread.join();
            } else {
                self.cancelled = Some(thread);
            }
        }
    }

    /// True if the running snapshot is to be walked on right now.
    fn can_pull(&self) -> bool {
        let walking = self.node.core.snapshots.running.as_ref().is_some_and(|running| !running.walked);
        walking
            && self.node.core.repl.payload.writing_bytes() < SPILL_WAITING_MAX
            && self.snapshot.as_ref().is_some_and(Snapshotter::has_room)
    }

    fn pull_snapshot(&mut self) {
        if !self.can_pull() {
            return;
        }
        let step = self.node.snapshot_batch(SNAPSHOT_SLICE_BYTES);
        let snapshotter = self.snapshot.as_ref().expect("it has room");
        match step {
            Some(Step::Batch(batch)) => snapshotter.feed(batch),
            Some(Step::Walked) => snapshotter.walked(),
            None => {}
        }
    }

    // ---- loading ----

    /// Loads the data set of an earlier run, if there is one. The server is ready at once, or when that is done.
    pub fn load_at_start(&mut self, path: &Path) -> io::Result<()> {
        match self.open_load(path, true) {
            Ok(size) => {
                self.node.begin_load_at_start(size);
                self.signals.set_loading(true);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.node.begin_without_data();
                self.ready();
            }
            Err(error) => return Err(error),
        }
        self.carry_out();
        Ok(())
    }

    fn begin_load(&mut self, path: &Path) {
        if let Err(error) = self.open_load(path, false) {
            self.node.load_finished(Err(strerror(&error)));
        }
    }

    /// The size of the file.
    fn open_load(&mut self, path: &Path, at_start: bool) -> io::Result<u64> {
        self.loads += 1;
        let reader = LoadReader::start(path, self.loads, self.reporter.clone())?;
        let size = reader.size;
        self.load = Some(Load { reader, pieces: VecDeque::new(), at_start, not_before_us: 0 });
        Ok(size)
    }

    /// When the load can go on: none if it waits for its file.
    fn load_due_us(&self) -> Option<u64> {
        self.load.as_ref().filter(|load| !load.pieces.is_empty()).map(|load| load.not_before_us)
    }

    fn load_some(&mut self) {
        if self.load.is_none() {
            return;
        }
        let start = Instant::now();
        while let Some(due) = self.load_due_us()
            && due <= self.node.core.env.monotonic_us()
            && start.elapsed() < LOAD_SLICE
        {
            // The node may have given the load up.
            if self.node.core.loading.is_none() {
                self.load = None;
                return;
            }
            let load = self.load.as_mut().expect("it is due");
            let result = match load.pieces.pop_front().expect("it has a piece") {
                Ok(bytes) if bytes.is_empty() => return self.end_load(Ok(())),
                Ok(bytes) => self.node.load_bytes(&bytes),
                Err(error) => Err(strerror(&error)),
            };
            if result.is_err() {
                return self.end_load(result);
            }
            let delay_us = self.node.take_load_delay_us();
            let load = self.load.as_mut().expect("loading bytes begins no other load");
            if delay_us > 0 {
                load.not_before_us = self.node.core.env.monotonic_us() + delay_us;
            }
            load.reader.consumed();
            self.carry_out();
        }
    }

    fn end_load(&mut self, result: Result<(), String>) {
        let Some(load) = self.load.take() else { return };
        self.node.load_finished(result);
        self.carry_out();
        if load.at_start && self.exit.is_none() {
            self.signals.set_loading(false);
            self.ready();
        }
    }

    /// The server serves from here on.
    fn ready(&self) {
        self.tell_supervisor("STATUS=Ready to accept connections\nREADY=1\n");
        let config = &self.node.core.config;
        if config.main_port() != 0 {
            log_notice!("Ready to accept connections");
        }
        if !config.unixsocket.is_empty() {
            log_notice!("The server is now ready to accept connections at {}", config.unixsocket);
        }
    }

    /// `supervised systemd`; `auto` means it where systemd asks to be told.
    fn tell_supervisor(&self, state: &str) {
        let wanted = self.node.core.config.kept.get("supervised").map_or("no", String::as_str);
        if !matches!(wanted, "systemd" | "auto") {
            return;
        }
        match daemon::notify_systemd(state) {
            Ok(false) if wanted == "systemd" => {
                log_warning!("systemd supervision requested or auto-detected, but NOTIFY_SOCKET not found");
            }
            Ok(_) => {}
            Err(error) => log_warning!("Can't tell systemd: {}", strerror(&error)),
        }
    }

    // ---- the end ----

    fn signalled(&mut self) {
        let config = &self.node.core.config;
        let wanted = match self.signals.take() {
            None => return,
            Some(ShutdownSignal::Interrupt) => config.shutdown_on_sigint,
            Some(ShutdownSignal::Terminate) => config.shutdown_on_sigterm,
        };
        // The thread of the signals knows; it has to be told if this comes to nothing.
        self.shutting_down = true;
        self.tell_supervisor("STOPPING=1\n");
        self.node.shut_down(wanted);
        self.carry_out();
    }

    /// Tells the thread of the signals whether the end of the process is awaited: then a SIGINT ends it at once.
    fn tell_signals(&mut self) {
        let shutting_down = self.node.core.shutdown.is_some();
        if std::mem::replace(&mut self.shutting_down, shutting_down) != shutting_down {
            self.signals.set_shutting_down(shutting_down);
            if shutting_down {
                self.tell_supervisor("STOPPING=1\n");
            }
        }
    }

    /// Sends replicas what they have not got yet, as far as their sockets take it, and ends what other threads do to
    /// files. Memory is not freed: the system is faster at that.
    pub fn wind_up(mut self) {
        for id in self.node.core.repl.replicas.clone() {
            while self.sockets.get(id).is_some_and(Option::is_some) && self.send(id) > 0 {}
        }
        if let Some(snapshotter) = self.snapshot.take() {
            let _ = snapshotter.cancel().join();
        }
        if let Some(cancelled) = self.cancelled.take() {
            let _ = cancelled.join();
        }
        // Removes the path of a unix socket.
        self.listeners.sockets().clear();
        self.sockets.clear();
        self.tls.end();
        let EventLoop { transfer, node, .. } = self;
        transfer.end();
        std::mem::forget(node);
    }
}

/// Lets `epoll` wait for connections. The sockets that it waits for already may have other numbers now.
fn register_listeners(epoll: &OwnedFd, listeners: &Listeners) -> io::Result<()> {
    for (index, listener) in listeners.sockets().iter().enumerate() {
        let data = epoll::EventData::new_u64(LISTENER | index as u64);
        match epoll::add(epoll, listener, data, epoll::EventFlags::IN) {
            Err(Errno::EXIST) => epoll::modify(epoll, listener, data, epoll::EventFlags::IN)?,
            added => added?,
        }
    }
    Ok(())
}
