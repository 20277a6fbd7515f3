//! A node without surroundings, for tests: commands in as text, replies out as text, a clock that stands still.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::action::{Action, ConnId, SpillFile, SpillRequest};
use crate::config::{Config, Protected};
use crate::env::Env;
use crate::node::Node;
use crate::notify::{Event, Raised};
use crate::oom_score::OomScore;
use crate::session::Peer;

/// A clock that is moved by hand and a generator with a fixed seed.
struct TestEnv {
    now_ms: Arc<AtomicI64>,
    gauges: Arc<Gauges>,
    /// What the readings of the monotonic clock have added to it.
    read_us: AtomicU64,
    rng: u64,
    files: Files,
}

/// What a test may set of the machine.
pub struct Gauges {
    pub used_memory: AtomicU64,
    /// Microseconds that each reading of the monotonic clock takes: none, unless the passing of time is tested.
    pub us_per_reading: AtomicU64,
    /// What the kernel was told last, on a base of 1000; `i64::MIN` if nothing is to be adjusted.
    pub oom_score: AtomicI64,
    pub oom_scores_told: AtomicU64,
}

/// The disk: whole files by path. A file that may not be written has no value.
pub type Files = Arc<Mutex<BTreeMap<PathBuf, Option<Vec<u8>>>>>;

impl Env for TestEnv {
    fn unix_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        let step = self.gauges.us_per_reading.load(Ordering::Relaxed);
        self.unix_ms() as u64 * 1000 + self.read_us.fetch_add(step, Ordering::Relaxed)
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn process_id(&self) -> u32 {
        1
    }

    fn sleep(&mut self, micros: u64) {
        self.now_ms.fetch_add((micros / 1000) as i64, Ordering::Relaxed);
    }

    /// The ports below the last are free.
    fn listen(&mut self, _old: &Config, new: &Config) -> Result<(), String> {
        if new.port == u16::MAX { Err("the port is taken".to_owned()) } else { Ok(()) }
    }

    /// No file is there but `good`.
    fn configure_tls(&mut self, config: &Config) -> Result<(), String> {
        match config.tls.cert_file.as_str() {
            _ if !config.tls.is_wanted() => Ok(()),
            "good" => Ok(()),
            other => Err(format!("Failed to load certificate: {other}: No such file or directory")),
        }
    }

    /// The kernel lets nobody go below zero.
    fn adjust_oom_score(&mut self, wanted: Option<OomScore>) -> Result<(), String> {
        let base = |score: &OomScore| if score.relative { 1000 } else { 0 };
        let value = wanted.map_or(i64::MIN, |score| i64::from(score.value + base(&score)));
        if wanted.is_some() && value < 0 {
            return Err("Unable to write oom_score_adj: Permission denied".to_owned());
        }
        self.gauges.oom_score.store(value, Ordering::Relaxed);
        self.gauges.oom_scores_told.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn used_memory(&self) -> u64 {
        self.gauges.used_memory.load(Ordering::Relaxed)
    }

    fn write_file_atomically(
        &mut self,
        _temp: &Path,
        path: &Path,
        produce: &mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
    ) -> io::Result<u64> {
        let mut bytes = Vec::new();
        while produce(&mut bytes)? {}
        let mut files = self.files.lock().expect("no test panics while it holds the disk");
        if files.get(path) == Some(&None) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let length = bytes.len() as u64;
        files.insert(path.to_owned(), Some(bytes));
        Ok(length)
    }

    fn read_file(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let files = Arc::clone(&self.files);
        let files = files.lock().expect("no test panics while it holds the disk");
        let file = files.get(path).and_then(Option::as_ref).ok_or(io::ErrorKind::NotFound)?;
        file.chunks(4096).try_for_each(take)
    }
}

/// What carries out the actions on temporary files.
#[derive(Default)]
pub struct SpillDisk {
    pub files: BTreeMap<SpillFile, Vec<u8>>,
    pub broken: bool,
}

impl SpillDisk {
    /// Does all that there is to do. What the node says in its log.
    pub fn act(&mut self, h: &mut Harness) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let actions = h.node.take_actions();
            let mut spilled = false;
            for action in actions {
                match action {
                    Action::Spill { file, request } => {
                        spilled = true;
                        self.carry_out(&mut h.node, file, request);
                    }
                    Action::Log { message, .. } => said.push(message),
                    _ => {}
                }
            }
            if !spilled {
                return said;
            }
        }
    }

    fn carry_out(&mut self, node: &mut Node, file: SpillFile, request: SpillRequest) {
        let data = self.files.entry(file).or_default();
        match request {
            SpillRequest::Write { number, .. } if self.broken => {
                node.spill_written(file, number, Err("the disk is broken".to_owned()));
            }
            SpillRequest::Write { number, offset, bytes } => {
                data.resize(data.len().max(offset as usize + bytes.len()), 0);
                data[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                node.spill_written(file, number, Ok(()));
            }
            SpillRequest::Read { number, .. } if self.broken => {
                node.spill_read(file, number, Err("the disk is broken".to_owned()));
            }
            SpillRequest::Read { number, offset, length } => {
                node.spill_read(file, number, Ok(data[offset as usize..][..length as usize].to_vec()));
            }
            SpillRequest::Drop => data.clear(),
        }
    }
}

/// A node with one client. Effects are recorded from the start.
pub struct Harness {
    pub node: Node,
    pub conn: ConnId,
    pub files: Files,
    pub gauges: Arc<Gauges>,
    now_ms: Arc<AtomicI64>,
    read_to: u64,
}

impl Harness {
    pub fn new() -> Harness {
        Harness::with_config(Config { enable_debug_command: Protected::Yes, ..Config::default() })
    }

    /// A replica whose stream flows from database 0 at offset 100, and the connection that it flows on.
    pub fn following() -> (Harness, ConnId) {
        let mut h = Harness::new();
        let id = "cccccccccccccccccccccccccccccccccccccccc".parse().expect("an id");
        h.node.follow_restored("10.0.0.1", 6379, Some(log::Position::new(id, 100)), 0);
        let conn = h.node.primary_connected(Peer::default()).expect("it follows");
        for reply in ["+PONG\r\n", "+OK\r\n+OK\r\n+OK\r\n", "+CONTINUE\r\n"] {
            h.raw(conn, reply.as_bytes());
        }
        assert!(!h.node.core.repl.is_link_down());
        (h, conn)
    }

    pub fn with_config(config: Config) -> Harness {
        // Some time in 2023: far from the epoch, so that relative times stay positive.
        let now_ms = Arc::new(AtomicI64::new(1_700_000_000_000));
        let gauges = Arc::new(Gauges {
            used_memory: AtomicU64::new(1 << 20),
            us_per_reading: AtomicU64::new(0),
            oom_score: AtomicI64::new(i64::MIN),
            oom_scores_told: AtomicU64::new(0),
        });
        let env = TestEnv {
            now_ms: Arc::clone(&now_ms),
            gauges: Arc::clone(&gauges),
            read_us: AtomicU64::new(0),
            rng: 1,
            files: Files::default(),
        };
        let files = Arc::clone(&env.files);
        let mut node = Node::new(config, Box::new(env));
        let id = node.core.random_replid();
        node.core.repl.create_backlog(id);
        node.refresh_recording();
        let conn = node.accept(local_peer()).expect("the first client is let in");
        let read_to = node.core.repl.offset();
        Harness { node, conn, files, gauges, now_ms, read_to }
    }

    /// A further client.
    pub fn connect(&mut self) -> ConnId {
        self.node.accept(local_peer()).expect("a test has few clients")
    }

    /// Runs one command, its words separated by blanks; a word in double quotes may hold blanks and escapes.
    /// The reply with its bytes escaped: `+OK\r\n` is shown as `+OK\\r\\n`.
    pub fn run(&mut self, line: &str) -> String {
        self.run_on(self.conn, line)
    }

    pub fn run_on(&mut self, conn: ConnId, line: &str) -> String {
        self.raw(conn, format!("{line}\r\n").as_bytes()).escape_ascii().to_string()
    }

    /// Runs one command; the reply as it is on the wire.
    pub fn run_args(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        resp::encode_command(&mut bytes, args.iter().copied());
        self.raw(self.conn, &bytes)
    }

    /// Gives bytes to a connection; what it would send back.
    pub fn raw(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        let input = self.node.input(conn).expect("the connection is open");
        input.extend_from_slice(bytes);
        self.node.received(conn, bytes.len());
        self.output(conn)
    }

    /// Takes what `conn` has to send.
    pub fn output(&mut self, conn: ConnId) -> Vec<u8> {
        let Some(conn) = self.node.core.conns.get_mut(conn) else { return Vec::new() };
        let bytes = conn.output.to_vec();
        conn.output.clear();
        bytes
    }

    /// Sends what `conn` has to send, at most `limit` bytes of it.
    pub fn send(&mut self, conn: ConnId, limit: usize) -> Vec<u8> {
        let mut slices = Vec::new();
        self.node.outgoing(conn, &mut slices);
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        bytes.truncate(limit);
        self.node.sent(conn, bytes.len());
        bytes
    }

    /// The client speaks RESP3 from here on.
    pub fn resp3(&mut self) -> &mut Harness {
        let conn = self.node.core.conns.get_mut(self.conn).expect("the client is open");
        conn.session.proto = resp::Proto::Resp3;
        self
    }

    pub fn advance_ms(&mut self, millis: i64) {
        self.now_ms.fetch_add(millis, Ordering::Relaxed);
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// The commands that reached the log since the last call, `SELECT` included, words separated by blanks.
    pub fn propagated(&mut self) -> Vec<String> {
        let slices = self.node.core.repl.log.read(self.read_to + 1).expect("the test's log is large enough");
        let bytes: Vec<u8> = slices.flat_map(|slice| slice.to_vec()).collect();
        self.read_to = self.node.core.repl.offset();
        let (mut parser, mut batch) = (resp::Parser::default(), resp::Batch::new());
        let limits = resp::Limits { bulk_len_max: u64::MAX, authenticated: true };
        let progress =
            parser.parse(&bytes, &limits, usize::MAX, &mut batch).expect("the log holds whole commands");
        assert_eq!(progress.consumed, bytes.len());
        let text = |args: resp::Args<'_>| {
            args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
        };
        (0..batch.len()).map(|index| text(batch.args(index, &bytes))).collect()
    }

    /// Runs one command with all keyspace events wanted; the events it raised.
    pub fn events(&mut self, line: &str) -> Vec<Raised> {
        let all = Event::parse(b"KEAmn").expect("these letters are known");
        self.node.store.notifications.collect(all);
        self.run(line);
        self.node.store.notifications.keep = false;
        self.node.store.notifications.take()
    }
}

impl Default for Harness {
    fn default() -> Self {
        Harness::new()
    }
}

pub(crate) fn local_peer() -> Peer {
    Peer { addr: "127.0.0.1:1".into(), laddr: "127.0.0.1:6379".into(), unix_socket: false, local: true }
}
