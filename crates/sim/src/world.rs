//! Four servers, some clients, and everything that goes wrong between them.
//!
//! Time goes in steps of a few milliseconds. In each, timers run, whatever has arrived is handed over in pieces, a
//! client may send something, and something may break. After anything that a node was told it is given its turn, its
//! actions are carried out, and [`Truth`] looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use engine::action::{Action, ConnId};
use engine::config::Config;
use engine::env::Env;
use engine::rdb_writer::RdbWriter;
use engine::session::Role;
use engine::snapshot::{Sink, Step};
use engine::{Node, Peer};
use keyspace::large::AtOnce;
use log::Position;

use crate::clients::Taste;
use crate::disk::Disk;
use crate::makes::Make;
use crate::mutation::Mutation;
use crate::net::{Connection, End};
use crate::random::Random;
use crate::settings::{self, PORT};
use crate::spill::{Ailment, SpillDisk};
use crate::trace;
use crate::truth::{Seen, Truth};

mod conversations;
mod misfortune;

/// Bytes of a streamed snapshot that a primary holds in memory.
const SPILL_BEYOND_BYTES: usize = 2 * 1024;
const SERVERS: usize = 4;
const CLIENTS: usize = 4;
/// The wall clock when the world begins.
const EPOCH_MS: i64 = 1_700_000_000_000;
const TICK_MS: u64 = 100;
/// Time in which everything must have come together again once nothing breaks any more.
const HEAL_MS: u64 = 90_000;

/// What happened in a run: a simulator that exercises nothing must be visible.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub commands: u64,
    pub full_syncs: u64,
    pub partial_syncs: u64,
    pub failed_partial_syncs: u64,
    /// Replicas that were told by name what they could not read.
    pub unreadable: u64,
    /// Replicas that were dropped since too much waited for them.
    pub too_slow: u64,
    pub cuts: u64,
    pub isolations: u64,
    pub crashes: u64,
    pub restores: u64,
    pub promotions: u64,
    pub retargets: u64,
    pub failovers: u64,
    pub handed_over: u64,
    pub saves: u64,
    pub waits: u64,
    pub acknowledged: u64,
    /// Disks that were lost, and how often a replica has kept its data from a primary without.
    pub losses: u64,
    pub guarded: u64,
    pub channels: u64,
    /// Full synchronisations that had to wait for their turn.
    pub queued: u64,
    /// Steps in which a snapshot was held back by the rate.
    pub paced: u64,
    pub stream_bytes: u64,
    /// Blocks of the log that went to a disk and that came back, and what a disk did not do.
    pub log_blocks: u64,
    pub log_blocks_read: u64,
    pub spill_errors: u64,
    /// The mutation has struck.
    pub struck: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        for ((_, sum), (_, one)) in self.rows().into_iter().zip({
            let mut other = *other;
            other.rows().map(|(name, value)| (name, *value))
        }) {
            *sum += one;
        }
    }

    pub fn rows(&mut self) -> [(&'static str, &mut u64); 27] {
        [
            ("commands", &mut self.commands),
            ("full syncs", &mut self.full_syncs),
            ("partial syncs", &mut self.partial_syncs),
            ("partial syncs refused", &mut self.failed_partial_syncs),
            ("replicas refused by name", &mut self.unreadable),
            ("replicas dropped as too slow", &mut self.too_slow),
            ("cuts", &mut self.cuts),
            ("isolations", &mut self.isolations),
            ("crashes", &mut self.crashes),
            ("restarts from a file", &mut self.restores),
            ("promotions", &mut self.promotions),
            ("retargets", &mut self.retargets),
            ("failovers asked for", &mut self.failovers),
            ("failovers done", &mut self.handed_over),
            ("snapshots saved", &mut self.saves),
            ("WAIT answered", &mut self.waits),
            ("replicas counted by WAIT", &mut self.acknowledged),
            ("disks lost", &mut self.losses),
            ("primaries without data refused", &mut self.guarded),
            ("snapshots beside the stream begun", &mut self.channels),
            ("full syncs in the queue", &mut self.queued),
            ("steps held back by the rate", &mut self.paced),
            ("bytes of stream", &mut self.stream_bytes),
            ("blocks of the log on disk", &mut self.log_blocks),
            ("blocks of the log read", &mut self.log_blocks_read),
            ("errors of temporary files", &mut self.spill_errors),
            ("strikes of the mutation", &mut self.struck),
        ]
    }
}

struct SimEnv {
    now_ms: Arc<AtomicI64>,
    disk: Arc<Mutex<Disk>>,
    skew_ms: i64,
    random: Random,
}

impl Env for SimEnv {
    fn unix_ms(&self) -> i64 {
        EPOCH_MS + self.now_ms.load(Ordering::Relaxed) + self.skew_ms
    }

    fn monotonic_us(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed) as u64 * 1000
    }

    fn random(&mut self) -> u64 {
        self.random.bits()
    }

    fn process_id(&self) -> u32 {
        1
    }

    fn used_memory(&self) -> u64 {
        1 << 20
    }

    fn write_file_atomically(
        &mut self,
        temp: &Path,
        path: &Path,
        produce: &mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
    ) -> io::Result<u64> {
        let mut bytes = Vec::new();
        while produce(&mut bytes)? {}
        let mut disk = lock(&self.disk);
        disk.create(temp);
        disk.append(temp, &bytes);
        disk.written_by_command = true;
        Ok(disk.publish(temp, path, false))
    }

    fn read_file(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let data = lock(&self.disk).open(path).ok_or(io::ErrorKind::NotFound)?;
        data.chunks(4096).try_for_each(take)
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("one thread plays a world")
}

/// A machine: its disk outlives the processes that run on it.
struct Server {
    make: Make,
    disk: Arc<Mutex<Disk>>,
    /// What is wrong with it when temporary files are written and read.
    ailment: Ailment,
    config: Config,
    skew_ms: i64,
    process: Option<Process>,
    /// When the process is started again.
    restart_at: u64,
    /// Cut off from the other servers until then; clients still reach it.
    isolated_until: u64,
    /// The primary that whoever looks after the servers wants it to follow.
    follows: Option<usize>,
    /// The data set that the last complete file holds, and what it was when that snapshot began.
    saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Saved {
    keys: usize,
    digest: u64,
}

struct Process {
    node: Node,
    /// Connection ids of the node to those of the world.
    links: BTreeMap<ConnId, usize>,
    to_send: BTreeSet<ConnId>,
    paused: BTreeSet<ConnId>,
    next_tick: u64,
    seen: Seen,
    encoding: Option<Encoding>,
    transfer: Option<PathBuf>,
    payloads: BTreeMap<ConnId, Arc<Vec<u8>>>,
    /// The file of the last snapshot, whatever has its name now.
    ended_file: Option<Arc<Vec<u8>>>,
    spills: SpillDisk,
    load: Option<Load>,
    /// For the stream, and for a snapshot beside it.
    connect: [Option<Connect>; 2],
    /// Counters at the last look: what a process counted is added up before it ends.
    synced: [u64; 5],
    lost_key: bool,
    danger: Danger,
    /// Full synchronisations under way at the last look.
    synchronised: usize,
}

/// Whether a primary that has lost its data may take a replica's.
#[derive(Default)]
struct Danger {
    /// The process has had a key since it was started.
    had_keys: bool,
    /// Keys at the last look.
    keys: usize,
    /// The replica has followed its primary since it was told to.
    followed: bool,
    /// What it holds while it leaves its primary alone.
    holds: Option<Saved>,
}

/// A snapshot on its way out.
struct Encoding {
    writer: RdbWriter,
    sink: Sink,
    bytes: u64,
    began: Saved,
    walked: bool,
}

/// A file that is being read into a node.
struct Load {
    data: Arc<Vec<u8>>,
    at: usize,
    /// What an earlier process has left, not what a primary has sent.
    at_start: bool,
}

#[derive(Clone, Copy)]
struct Connect {
    target: usize,
    due: u64,
}

#[derive(Default)]
struct Client {
    connection: Option<usize>,
    server: usize,
    replies: Vec<u8>,
    pending: usize,
    /// The last reply that is pending is that of a `WAIT`.
    waits: bool,
    /// Where the session's last write ended.
    written: Option<Position>,
}

/// A `FAILOVER` whose end was not seen yet.
struct Handover {
    from: usize,
    /// The process that was asked.
    process: usize,
    forced: bool,
    /// Where it stood when it asked its heir to take over, and which process that was.
    asked: Option<(Position, usize, Option<usize>)>,
}

pub struct World {
    random: Random,
    now: u64,
    clock: Arc<AtomicI64>,
    servers: Vec<Server>,
    connections: Vec<Option<Connection>>,
    clients: Vec<Client>,
    /// Processes started so far.
    boots: usize,
    taste: Taste,
    truth: Truth,
    /// Who is meant to be the primary.
    primary: usize,
    handover: Option<Handover>,
    /// Percent of the steps in which a client sends.
    activity: u64,
    /// Percent of the usual rate of faults.
    trouble: u64,
    /// What a connection between servers holds: with little, replicas are slow.
    window_bytes: usize,
    mutation: Option<Mutation>,
    counts: Counts,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> World {
        let mut random = Random::new(seed);
        let clock = Arc::new(AtomicI64::new(0));
        let makes = Make::of_seed(seed, SERVERS);
        let servers =
            makes.iter().enumerate().map(|(index, make)| server(index, *make, &mut random)).collect();
        let taste = Taste {
            long_values: *random.pick(&[0, 5, 25, 80]),
            transactions: *random.pick(&[5, 20, 50]),
            waits: *random.pick(&[3, 10, 30]),
        };
        World {
            now: 0,
            clock,
            servers,
            connections: Vec::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            boots: 0,
            taste,
            truth: Truth::default(),
            primary: 0,
            handover: None,
            activity: *random.pick(&[10, 40, 80]),
            trouble: *random.pick(&[30, 100, 200]),
            window_bytes: *random.pick(&[8 * 1024, 8 * 1024, 600]),
            mutation,
            counts: Counts::default(),
            random,
        }
    }

    /// Faults, then none, and all must be equal. Panics when an invariant is broken.
    pub fn play(&mut self, counts: &mut Counts) {
        struct Report<'a>(&'a mut World, &'a mut Counts);
        impl Drop for Report<'_> {
            fn drop(&mut self) {
                (0..SERVERS).for_each(|n| self.0.count_syncs(n));
                *self.1 = self.0.counts;
            }
        }
        let report = Report(self, counts);
        let world = &mut *report.0;
        (0..SERVERS).for_each(|n| world.boot(n));
        let end = world.random.between(5_000, 25_000);
        while world.now < end {
            world.step();
            world.misfortune();
            if world.random.percent(world.activity) {
                let client = world.random.index(CLIENTS);
                world.client_sends(client);
            }
        }
        world.heal();
    }

    /// Time goes on, and what is due happens.
    fn step(&mut self) {
        self.now += self.random.between(1, 12);
        self.clock.store(self.now as i64, Ordering::Relaxed);
        for n in 0..SERVERS {
            match &self.servers[n].process {
                None if self.servers[n].restart_at <= self.now => self.boot(n),
                None => {}
                Some(_) => self.work(n),
            }
        }
        for connection in 0..self.connections.len() {
            self.carry(connection, 0);
            self.carry(connection, 1);
        }
        self.watch_handover();
    }

    // ---- servers ----

    /// Starts the process of a server from what its disk holds.
    fn boot(&mut self, n: usize) {
        let server = &mut self.servers[n];
        let mut config = server.config.clone();
        config.replicaof = server.follows.map(|to| (host(to), PORT));
        let env = SimEnv {
            now_ms: Arc::clone(&self.clock),
            disk: Arc::clone(&server.disk),
            skew_ms: server.skew_ms,
            random: Random::new(self.random.bits()),
        };
        let path = PathBuf::from(&config.dir).join(&config.dbfilename);
        let file = lock(&server.disk).open(&path);
        trace(|| format!("{:6} server {n} starts, follows {:?}", self.now, server.follows));
        let mut node = Node::new(config, Box::new(env));
        // Little, so that snapshots often do not fit.
        node.core.repl.payload.memory_max = SPILL_BEYOND_BYTES;
        node.core.repl.log.hold_in_memory(1, SPILL_BEYOND_BYTES as u64);
        // Nothing but what is tiny is copied at once, so that writes come between the parts of values.
        node.core.snapshots.at_once = AtOnce { elements: 1, bytes: 64, nodes: 1 };
        self.boots += 1;
        server.process = Some(Process {
            node,
            links: BTreeMap::new(),
            to_send: BTreeSet::new(),
            paused: BTreeSet::new(),
            next_tick: self.now,
            seen: Seen::new(self.boots),
            encoding: None,
            transfer: None,
            payloads: BTreeMap::new(),
            ended_file: None,
            spills: SpillDisk::default(),
            load: None,
            connect: [None; 2],
            synced: [0; 5],
            lost_key: false,
            danger: Danger::default(),
            synchronised: 0,
        });
        self.restore(n, file);
        self.turn(n);
    }

    /// Begins to load the file that the server was left with.
    fn restore(&mut self, n: usize, file: Option<Arc<Vec<u8>>>) {
        let server = &mut self.servers[n];
        let process = server.process.as_mut().expect("just started");
        match file {
            Some(data) => {
                process.node.begin_load_at_start(data.len() as u64);
                process.load = Some(Load { data, at: 0, at_start: true });
                self.counts.restores += 1;
            }
            None => {
                let saved = server.saved;
                assert!(
                    saved.is_none(),
                    "server {n} has lost the file that was reported as saved: {saved:?}"
                );
                process.node.begin_without_data();
            }
        }
    }

    /// What a server has after its start is what it had when it saved that, but for keys that ran out meanwhile.
    fn check_restored(&mut self, n: usize) {
        let server = &self.servers[n];
        let process = server.process.as_ref().expect("it has just loaded");
        let found = saved(&process.node);
        if let Some(expected) = server.saved
            && !lock(&server.disk).written_by_command
            && (process.node.core.is_replica() || found.keys == expected.keys)
        {
            assert!(found == expected, "server {n} restarts with {found:?}, it had saved {expected:?}");
        }
    }

    /// What a process does of its own accord: timers, files, snapshots, connecting.
    fn work(&mut self, n: usize) {
        let now = self.now;
        let process = self.servers[n].process.as_mut().expect("it runs");
        let mut acted = process.next_tick <= now;
        if acted {
            process.next_tick = now + TICK_MS;
            process.node.tick();
            // At once, as the event loop does: a snapshot begins with the data that there is now.
            process.node.take_actions().into_iter().for_each(|action| self.act(n, action));
        }
        let Some(process) = self.servers[n].process.as_mut() else { return };
        acted |= process.node.is_busy()
            | process.spills.answer(&mut process.node, now, self.mutation, &mut self.counts);
        acted |= self.encode(n);
        acted |= self.load(n);
        acted |= self.connect(n, 0) | self.connect(n, 1);
        let process = self.servers[n].process.as_ref().expect("it runs");
        if acted || !process.to_send.is_empty() {
            self.turn(n);
        }
    }

    /// Ends a turn of the loop: sends, and carries the actions out, until there are none.
    fn turn(&mut self, n: usize) {
        let mut to_send = Vec::new();
        loop {
            let Some(process) = self.servers[n].process.as_mut() else { return };
            // Half of the turns hold back what they have written.
            process.node.core.turn_had_events = self.random.percent(50);
            process.node.before_sleep();
            process.node.take_to_send(&mut to_send);
            process.to_send.extend(&to_send);
            self.note_writes(n);
            self.flush(n);
            let process = self.servers[n].process.as_mut().expect("sending does not end it");
            let actions = process.node.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.act(n, action);
            }
        }
        self.look(n);
    }

    fn look(&mut self, n: usize) {
        let Some(process) = &mut self.servers[n].process else { return };
        if self.mutation == Some(Mutation::LoseKey) {
            self.counts.struck += u64::from(lose_key(process, &mut self.random));
        }
        if self.mutation == Some(Mutation::ServeHalfLoaded)
            && process.node.core.is_replica()
            && process.node.core.is_loading()
            && self.random.once_in(4)
        {
            // The rest of it is ignored, and what there is passes as the whole.
            process.node.core.loading = None;
            self.counts.struck += 1;
        }
        self.truth.look(n, &process.node, &mut process.seen);
        self.look_at_places(n);
        self.look_at_danger(n);
    }

    /// No more are synchronised in full than may be; where the limit was lowered, none is added.
    fn look_at_places(&mut self, n: usize) {
        let process = self.servers[n].process.as_mut().expect("just looked at");
        let core = &process.node.core;
        let under_way = core.replica_links().filter(|link| link.is_transferring()).count();
        let max = core.config.repl_full_sync_max as usize;
        assert!(
            max == 0 || under_way <= max.max(process.synchronised),
            "server {n} synchronises {under_way} replicas in full, before {}, and may {max}",
            process.synchronised
        );
        process.synchronised = under_way;
        self.counts.paced += u64::from(process.node.next_transfer_us().is_some());
    }

    /// What is kept from a primary without data stays as it is.
    fn look_at_danger(&mut self, n: usize) {
        let process = self.servers[n].process.as_mut().expect("just looked at");
        let (repl, danger) = (&process.node.core.repl, &mut process.danger);
        if process.node.core.loading.is_none() {
            danger.keys = process.node.store.total_keys();
            danger.had_keys |= danger.keys > 0;
        }
        danger.followed |= repl.following.as_ref().is_some_and(|following| following.link.is_up());
        let guarded = repl.following.as_ref().is_some_and(|following| following.link.guarded().is_some());
        if !guarded {
            danger.holds = None;
            return;
        }
        let now = saved(&process.node);
        match danger.holds {
            None => {
                danger.holds = Some(now);
                self.counts.guarded += 1;
            }
            Some(held) => assert!(
                held == now || self.mutation.is_some(),
                "server {n} held {held:?} from its primary, and holds {now:?}"
            ),
        }
    }

    /// A full synchronisation has come to its end: not with nothing from a primary that never had anything, unless it was
    /// asked for.
    fn check_not_wiped(&mut self, n: usize) {
        let server = &self.servers[n];
        let process = server.process.as_ref().expect("it has just acted");
        let Some(following) = &process.node.core.repl.following else { return };
        let primary = (0..SERVERS).find(|other| host(*other) == following.host);
        let Some(primary) = primary.and_then(|primary| self.servers[primary].process.as_ref()) else {
            return;
        };
        let (danger, keys) = (&process.danger, process.node.store.total_keys());
        let guards = server.config.replica_guard_empty_primary;
        let was_wiped = guards && danger.followed && danger.keys > 0 && keys == 0;
        assert!(
            !was_wiped || primary.danger.had_keys || primary.node.core.is_replica(),
            "server {n} had {} keys, and its primary came back without any",
            danger.keys
        );
    }

    fn act(&mut self, n: usize, action: Action) {
        let (now, lying) = (self.now, self.mutation == Some(Mutation::LoseFile));
        let server = &mut self.servers[n];
        let Some(process) = server.process.as_mut() else { return };
        match action {
            Action::Log { message, .. } => {
                trace(|| format!("{now:6} server {n}: {message}"));
                self.counts.queued += u64::from(message.contains("has to wait for its full sync"));
                if message.ends_with("Finished with success") {
                    process.seen.adopted = true;
                    self.check_not_wiped(n);
                    self.after_full_sync(n);
                } else if message.starts_with("Setting secondary replication ID") {
                    self.after_shift(n);
                }
            }
            Action::ConnectPrimary { ref host, port } | Action::ConnectChannel { ref host, port } => {
                assert_eq!(port, PORT);
                let target = host.rsplit('.').next().and_then(|last| last.parse::<usize>().ok());
                let due = now + self.random.between(1, 50);
                let which = usize::from(matches!(action, Action::ConnectChannel { .. }));
                process.connect[which] = Some(Connect { target: target.expect("a name of ours") - 1, due });
                self.counts.channels += which as u64;
            }
            Action::AbandonConnect => process.connect[0] = None,
            Action::AbandonChannel => process.connect[1] = None,
            Action::GatherPackets { .. } => {}
            Action::PauseReading { conn } => {
                process.paused.insert(conn);
            }
            Action::ResumeReading { conn } => {
                process.paused.remove(&conn);
            }
            Action::Close { conn } => self.close(n, conn),
            Action::Sleep { micros } => {
                assert_eq!(micros, 0, "clients of the simulator ask for no time of sleep")
            }
            Action::BeginSnapshot(plan) => {
                let mut writer = RdbWriter::new(&plan);
                let mut bytes = Vec::new();
                writer.begin(&mut bytes);
                if let Sink::File { temp, .. } = &plan.sink {
                    lock(&server.disk).create(temp);
                    lock(&server.disk).append(temp, &bytes);
                }
                let length = bytes.len() as u64;
                if plan.sink == Sink::Stream {
                    process.node.snapshot_chunk(bytes);
                }
                let began = saved(&process.node);
                process.encoding =
                    Some(Encoding { writer, sink: plan.sink, bytes: length, began, walked: false });
            }
            Action::CancelSnapshot => {
                if let Some(Encoding { sink: Sink::File { temp, .. }, .. }) = process.encoding.take() {
                    lock(&server.disk).remove(&temp);
                }
            }
            Action::OpenTransferFile { path } => {
                lock(&server.disk).create(&path);
                process.transfer = Some(path);
            }
            Action::AppendTransferFile { bytes } => {
                let path = process.transfer.as_ref().expect("a file is open");
                lock(&server.disk).append(path, &bytes);
            }
            Action::FinishTransferFile { from, to } => {
                process.transfer = None;
                lock(&server.disk).publish(&from, &to, lying);
                self.counts.struck += u64::from(lying);
                // What is in it is only known once it is loaded.
                server.saved = None;
                process.node.transfer_file_finished(Ok(to));
            }
            Action::AbandonTransferFile => {
                let path = process.transfer.take().expect("a file is open");
                lock(&server.disk).remove(&path);
            }
            Action::OpenPayload { conn } => {
                let data = process.ended_file.clone().expect("a snapshot was just written");
                process.payloads.insert(conn, data);
            }
            Action::ReadPayload { conn, offset, length } => {
                let data = &process.payloads[&conn];
                let bytes = data[offset as usize..(offset + length) as usize].to_vec();
                process.node.payload_read(conn, Ok(bytes));
            }
            Action::ClosePayload { conn } => {
                process.payloads.remove(&conn);
            }
            Action::Spill { file, request } => {
                process.spills.carry_out(file, request, server.ailment, now, &mut self.random);
            }
            Action::LoadFile { path } => {
                let data = lock(&server.disk).open(&path).expect("the file was just written");
                process.load = Some(Load { data, at: 0, at_start: false });
            }
            // Nobody moves keys here, and nobody would take them.
            Action::Migrate(_) => {
                let failure = Some(engine::migrate::Failure::Connect);
                process.node.migrated(&engine::migrate::Outcome { restored: Vec::new(), failure });
            }
            Action::Exit { code } => panic!("server {n} ends itself with {code}"),
            Action::ConfigChanged { .. } => {}
        }
    }

    /// Pulls a little of the running snapshot and encodes it.
    fn encode(&mut self, n: usize) -> bool {
        let lying = self.mutation == Some(Mutation::LoseFile);
        let server = &mut self.servers[n];
        let process = server.process.as_mut().expect("it runs");
        let Some(encoding) = &mut process.encoding else { return false };
        // The encoder waits for nobody, but is slow itself at times.
        if self.random.once_in(3) {
            return false;
        }
        let mut bytes = Vec::new();
        let mut failure = None;
        if !encoding.walked {
            match process.node.snapshot_batch(self.random.between(1, 2_000) as usize) {
                Some(Step::Batch(batch)) => failure = encoding.writer.batch(&batch, &mut bytes).err(),
                Some(Step::Walked) => encoding.walked = true,
                None => unreachable!("a snapshot that is walked or over is not asked"),
            }
        }
        if encoding.walked {
            encoding.writer.end(&mut bytes);
        }
        encoding.bytes += bytes.len() as u64;
        match &encoding.sink {
            Sink::File { temp, .. } => lock(&server.disk).append(temp, &bytes),
            Sink::Stream => process.node.snapshot_chunk(bytes),
        }
        if !encoding.walked && failure.is_none() {
            return true;
        }
        let encoding = process.encoding.take().expect("just seen");
        if let Sink::File { temp, path } = &encoding.sink {
            if failure.is_none() {
                lock(&server.disk).publish(temp, path, lying);
                process.ended_file = lock(&server.disk).open(path);
                self.counts.struck += u64::from(lying);
                self.counts.saves += 1;
                server.saved = Some(encoding.began);
                lock(&server.disk).written_by_command = false;
            } else {
                lock(&server.disk).remove(temp);
            }
        }
        process.node.snapshot_finished(failure.map_or(Ok(encoding.bytes), Err));
        true
    }

    /// Hands some more of a file to the node that loads it.
    fn load(&mut self, n: usize) -> bool {
        let process = self.servers[n].process.as_mut().expect("it runs");
        let Some(load) = &mut process.load else { return false };
        let count = (load.data.len() - load.at).min(self.random.between(1, 20_000) as usize);
        let bytes = &load.data[load.at..load.at + count];
        load.at += count;
        let result = process.node.load_bytes(bytes);
        if result.is_err() || load.at == load.data.len() {
            let at_start = load.at_start;
            process.load = None;
            process.node.load_finished(result);
            if at_start {
                self.check_restored(n);
            }
        }
        true
    }

    /// Answers an attempt to connect to the primary.
    fn connect(&mut self, n: usize, which: usize) -> bool {
        let isolated = |world: &World, n: usize| world.servers[n].isolated_until > world.now;
        let process = self.servers[n].process.as_ref().expect("it runs");
        let Some(Connect { target, due }) = process.connect[which] else { return false };
        // Packets into nowhere: the node has to lose patience.
        if due > self.now || isolated(self, n) || isolated(self, target) {
            return false;
        }
        self.servers[n].process.as_mut().expect("it runs").connect[which] = None;
        let from = Peer {
            addr: format!("{}:{}", host(n), 40_000 + self.connections.len()),
            laddr: format!("{}:{PORT}", host(target)),
            unix_socket: false,
            local: false,
        };
        let to = Peer { addr: format!("{}:{PORT}", host(target)), ..Peer::default() };
        let accepted = self.servers[target].process.as_mut().map(|process| process.node.accept(from));
        let process = self.servers[n].process.as_mut().expect("it runs");
        let Some(Ok(far)) = accepted else {
            match which {
                0 => process.node.primary_connect_failed("Connection refused"),
                _ => process.node.channel_connect_failed("Connection refused"),
            }
            return true;
        };
        let near = match which {
            0 => process.node.primary_connected(to),
            _ => process.node.channel_connected(to),
        };
        let Some(near) = near else {
            self.servers[target].process.as_mut().expect("it has accepted").node.closed(far);
            return true;
        };
        let ends = [End::Server { server: n, conn: near }, End::Server { server: target, conn: far }];
        self.open(Connection::new(ends[0], ends[1]));
        true
    }

    // ---- the network ----

    fn open(&mut self, connection: Connection) -> usize {
        let slot = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        for end in connection.ends {
            if let End::Server { server, conn } = end {
                let process = self.servers[server].process.as_mut().expect("an end is at a process");
                process.links.insert(conn, slot);
                process.paused.remove(&conn);
            }
        }
        self.connections[slot] = Some(connection);
        slot
    }

    /// The node has closed a connection and forgotten it.
    fn close(&mut self, n: usize, conn: ConnId) {
        let process = self.servers[n].process.as_mut().expect("it acts");
        process.to_send.remove(&conn);
        let Some(slot) = process.links.remove(&conn) else { return };
        let at = self.now + self.random.between(0, 20);
        self.leave(slot, |connection| connection.side_of(n, conn), at);
    }

    fn leave(&mut self, slot: usize, side: impl FnOnce(&Connection) -> Option<usize>, at: u64) {
        let Some(connection) = &mut self.connections[slot] else { return };
        let Some(side) = side(connection) else { return };
        connection.leave(side, at);
        if connection.ends == [End::Gone, End::Gone] {
            self.connections[slot] = None;
        }
    }

    /// Moves what a node has to send into the network, as much as that takes.
    fn flush(&mut self, n: usize) {
        let Some(process) = self.servers[n].process.as_mut() else { return };
        let waiting: Vec<ConnId> = process.to_send.iter().copied().collect();
        for conn in waiting {
            self.flush_one(n, conn);
        }
    }

    fn flush_one(&mut self, n: usize, conn: ConnId) {
        loop {
            let process = self.servers[n].process.as_mut().expect("it sends");
            let Some(slot) = process.links.get(&conn).copied() else {
                process.to_send.remove(&conn);
                return;
            };
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            let pending = process.node.outgoing(conn, &mut slices);
            if pending == 0 {
                process.node.sent_all(conn);
                process.to_send.remove(&conn);
                return;
            }
            let connection = self.connections[slot].as_mut().expect("a linked connection is open");
            let side = connection.side_of(n, conn).expect("a link leads to an end");
            let to_client = matches!(connection.ends[1 - side], End::Client(_));
            let pipe = &mut connection.pipes[1 - side];
            let window = if to_client { usize::MAX } else { self.window_bytes.saturating_sub(pipe.bytes()) };
            if window == 0 {
                process.node.stalled(conn);
                return;
            }
            let most = if to_client || self.random.percent(70) {
                pending.min(window)
            } else {
                1 + self.random.index(pending.min(window))
            };
            let mut bytes = Vec::with_capacity(most);
            for slice in slices {
                let count = slice.len().min(most - bytes.len());
                bytes.extend_from_slice(&slice[..count]);
            }
            process.node.sent(conn, most);
            match connection.ends[1 - side] {
                End::Client(client) => {
                    self.clients[client].replies.extend_from_slice(&bytes);
                    self.client_reads(client);
                }
                End::Server { server: other, .. } => {
                    self.counts.stream_bytes += most as u64;
                    // A replica has opened the connection.
                    if side == 0 {
                        Make::put_in_words(self.servers[n].make, self.servers[other].make, &mut bytes);
                    }
                    let due = self.now + self.random.between(0, 30);
                    if let Some(bytes) = self.mutate_bytes(n, conn, bytes) {
                        let connection = self.connections[slot].as_mut().expect("still open");
                        connection.pipes[1 - side].push(due, bytes);
                    }
                }
                End::Gone => {}
            }
        }
    }

    /// Hands over what has arrived at one end of a connection.
    fn carry(&mut self, slot: usize, side: usize) {
        let now = self.now;
        let Some(connection) = &self.connections[slot] else { return };
        if let Some(servers) = connection.servers()
            && servers.iter().any(|server| self.servers[*server].isolated_until > now)
        {
            return;
        }
        let End::Server { server: n, conn } = connection.ends[side] else { return };
        let process = self.servers[n].process.as_mut().expect("an end is at a process");
        if process.paused.contains(&conn) {
            return;
        }
        let connection = self.connections[slot].as_mut().expect("just seen");
        let pipe = &mut connection.pipes[side];
        if pipe.is_due(now) {
            let most = if self.random.percent(60) { 4096 } else { self.random.between(1, 300) };
            let bytes = pipe.take(now, most as usize);
            let client = connection.ends.iter().find_map(|end| match end {
                End::Client(client) => Some(*client),
                _ => None,
            });
            if let Some(input) = process.node.input(conn) {
                input.extend_from_slice(&bytes);
                process.node.received(conn, bytes.len());
            }
            if let Some(client) = client {
                self.note_write(n, conn, client);
            }
            self.turn(n);
        } else if pipe.is_over(now) {
            process.links.remove(&conn);
            process.to_send.remove(&conn);
            process.node.closed(conn);
            self.leave(slot, |_| Some(side), now);
            self.turn(n);
        }
    }

    // ---- the end ----

    /// Nothing breaks any more: everything must come together.
    fn heal(&mut self) {
        trace(|| format!("{:6} all is well from here", self.now));
        self.mutation = None;
        self.handover = None;
        for n in 0..SERVERS {
            let server = &mut self.servers[n];
            server.isolated_until = 0;
            server.ailment = Ailment::default();
            server.restart_at = server.restart_at.min(self.now);
        }
        let primary = self.primary;
        for n in 0..SERVERS {
            self.servers[n].follows = match (n + SERVERS - primary) % SERVERS {
                0 => None,
                // One stands behind another replica.
                1 => Some((primary + 2) % SERVERS),
                _ => Some(primary),
            };
        }
        let began = self.now;
        let mut insist_at = self.now;
        while self.now < began + HEAL_MS {
            self.step();
            if insist_at <= self.now {
                self.insist();
                insist_at = self.now + 500;
            }
            if self.now < began + 1_000 {
                let client = self.random.index(CLIENTS);
                self.client_sends(client);
            } else if self.have_converged() {
                trace(|| format!("{:6} all are equal", self.now));
                return;
            }
        }
        panic!("the servers do not come together: {}", self.standing());
    }

    /// Gives servers that do not follow whom they are meant to their orders again: a node that loads refuses them.
    fn insist(&mut self) {
        for n in 0..SERVERS {
            let failing_over = |process: &Process| process.node.core.repl.failover.is_active();
            if self.servers[n].process.as_ref().is_some_and(failing_over) {
                self.order(n, &["FAILOVER", "ABORT"]);
            }
            let server = &self.servers[n];
            let Some(process) = &server.process else { continue };
            let meant = server.follows.map(|to| (host(to), PORT));
            // Whoever keeps its data from a primary without is told to follow all the same.
            let following = process.node.core.repl.following.as_ref();
            let guarded = following.is_some_and(|following| following.link.guarded().is_some());
            if process.node.core.config.replicaof != meant || guarded {
                let process = self.servers[n].process.as_mut().expect("just seen");
                process.danger.followed = false;
                match meant {
                    Some((to, port)) => self.order(n, &["REPLICAOF", &to, &port.to_string()]),
                    None => self.order(n, &["REPLICAOF", "NO", "ONE"]),
                }
            }
        }
    }

    fn have_converged(&self) -> bool {
        let node = |n: usize| self.servers[n].process.as_ref().map(|process| &process.node);
        let Some(primary) = node(self.primary) else { return false };
        let at = primary.core.repl.position();
        let equal = (0..SERVERS).all(|n| {
            node(n).is_some_and(|node| {
                let repl = &node.core.repl;
                let up = n == self.primary || !repl.is_link_down();
                up && node.core.loading.is_none() && repl.position() == at
            })
        });
        if equal {
            let expected = saved(primary);
            for n in 0..SERVERS {
                let found = saved(node(n).expect("seen above"));
                assert!(found == expected, "server {n} holds {found:?} at {at}, its primary {expected:?}");
            }
        }
        equal
    }

    fn standing(&self) -> String {
        let lines = (0..SERVERS).map(|n| match &self.servers[n].process {
            None => format!("\n  server {n} is down"),
            Some(process) => {
                let repl = &process.node.core.repl;
                let link = repl.following.as_ref().map(|following| following.link.role_state());
                let follows = self.servers[n].follows;
                format!("\n  server {n} at {} follows {follows:?}: {link:?}", repl.position())
            }
        });
        lines.collect()
    }

    fn count_syncs(&mut self, n: usize) {
        if let Some(process) = &mut self.servers[n].process {
            let core = &process.node.core;
            let stats = &core.stats;
            let now = [
                stats.sync_full,
                stats.sync_partial_ok,
                stats.sync_partial_err,
                core.repl.refusals.total(),
                stats.client_output_buffer_limit_disconnections,
            ];
            let counts = &mut self.counts;
            let sums = [
                &mut counts.full_syncs,
                &mut counts.partial_syncs,
                &mut counts.failed_partial_syncs,
                &mut counts.unreadable,
                &mut counts.too_slow,
            ];
            for ((sum, now), before) in sums.into_iter().zip(now).zip(process.synced) {
                *sum += now - before;
            }
            process.synced = now;
        }
    }

    // ---- mutations ----

    /// What becomes of bytes between two servers; usually what they are.
    fn mutate_bytes(&mut self, n: usize, conn: ConnId, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Some(mutation) = self.mutation else { return Some(bytes) };
        let process = self.servers[n].process.as_ref().expect("it sends");
        let role = process.node.core.conns.get(conn).map(|conn| &conn.session.role);
        let streams = matches!(role, Some(Role::Replica(replica)) if replica.link.is_online() && replica.payload_at.is_none());
        let to_primary = matches!(role, Some(Role::Primary));
        let struck = match mutation {
            Mutation::DropByte if streams && self.random.once_in(20) => {
                bytes.remove(self.random.index(bytes.len()));
                true
            }
            Mutation::ChangeByte if streams && self.random.once_in(20) => {
                let at = self.random.index(bytes.len());
                let small = bytes[at].is_ascii_lowercase() && bytes[at] != b'z';
                bytes[at] += u8::from(small);
                small
            }
            Mutation::AckTooFar if to_primary => {
                change_number(&mut bytes, b"\r\n$3\r\nACK\r\n", |offset| offset + 400)
            }
            Mutation::StalePosition if to_primary => {
                change_number(&mut bytes, b"PSYNC\r\n$40\r\n", |offset| offset.saturating_sub(30))
            }
            _ => false,
        };
        self.counts.struck += u64::from(struck);
        (!bytes.is_empty()).then_some(bytes)
    }

    fn after_full_sync(&mut self, n: usize) {
        let process = self.servers[n].process.as_mut().expect("it has just acted");
        if self.mutation == Some(Mutation::ForgetSelect) {
            process.node.store.swap_dbs(0, 1);
            self.counts.struck += 1;
        }
    }

    fn after_shift(&mut self, n: usize) {
        let process = self.servers[n].process.as_mut().expect("it has just acted");
        if self.mutation == Some(Mutation::WrongSecondId)
            && let Some(second) = &mut process.node.core.repl.history.second
        {
            second.valid_until += 2_000;
            self.counts.struck += 1;
        }
    }
}

fn host(n: usize) -> String {
    format!("10.0.0.{}", n + 1)
}

fn saved(node: &Node) -> Saved {
    Saved { keys: node.store.total_keys(), digest: crate::digest::of(&node.store) }
}

/// A machine with settings of its own.
fn server(index: usize, make: Make, random: &mut Random) -> Server {
    let mut config = settings::random(index, random);
    make.settle(&mut config);
    Server {
        make,
        disk: Arc::default(),
        ailment: Ailment::random(random),
        config,
        skew_ms: random.between(0, 6_000) as i64 - 3_000,
        process: None,
        restart_at: 0,
        isolated_until: 0,
        follows: match index {
            0 => None,
            // One stands behind another replica.
            3 => Some(1),
            _ => Some(0),
        },
        saved: None,
    }
}

/// Takes a key away from a replica, once per process.
fn lose_key(process: &mut Process, random: &mut Random) -> bool {
    let up = process.node.core.is_replica() && !process.node.core.repl.is_link_down();
    if process.lost_key || !up || !random.once_in(50) {
        return false;
    }
    let db = random.index(process.node.store.databases());
    let key = process.node.store.db_at(db).iter().next().map(|entry| entry.key().to_vec());
    if let Some(key) = key {
        process.node.store.db_at_mut(db).remove(keyspace::Key::new(&key));
        process.lost_key = true;
    }
    process.lost_key
}

/// Replaces the number that stands in a bulk string after `mark` by one with as many digits.
fn change_number(bytes: &mut [u8], mark: &[u8], change: impl Fn(u64) -> u64) -> bool {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let Some(at) = find(bytes, mark) else { return false };
    let mut rest = at + mark.len();
    // Past the id if there is one, and past the length of the number.
    while let Some(line) = find(&bytes[rest..], b"\r\n") {
        let text = &bytes[rest..rest + line];
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            let changed = format!("{:0width$}", change(number), width = line);
            if changed.len() == line && !changed.starts_with('0') {
                bytes[rest..rest + line].copy_from_slice(changed.as_bytes());
                return changed.as_bytes() != number.to_string().as_bytes();
            }
            return false;
        }
        rest += line + 2;
    }
    false
}
