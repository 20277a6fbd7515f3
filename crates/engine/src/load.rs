//! A data set that is being loaded: from a file at the start, or from the primary.
//!
//! Bytes come in pieces of any size; between two pieces the node answers its clients, with `-LOADING` if the data set
//! is loaded into the databases that they see. Nothing of a piece is left over for later but the start of an element
//! that is cut: how long clients wait is decided by whoever cuts the pieces
//! (`loading-process-events-interval-bytes`). `key-load-delay`, which tests use to make a load slow, cannot be waited
//! for here: it adds up to [`Node::take_load_delay_us`], the time before the next piece.

use keyspace::{Db, EncodingLimits, Entry, EntryExt, Key};
use log::{Position, ReplId};
use rdb::{DecodeOptions, Decoder, Event, ModuleName, RdbError, Step};
use replication::Level;
use structures::hash::hash;

use crate::action::Action;
use crate::config::Config;
use crate::dispatch;
use crate::following::Following;
use crate::functions::Functions;
use crate::node::Node;
use crate::store::Store;
use crate::value_builder::{Built, ValueBuilder};

/// Keys that are decoded before the first of them is inserted, so that its bucket has time to come into the cache.
const AHEAD: usize = 16;

/// A database is prepared for as many keys as the file says, if that is at most this many: it is a claim.
const RESERVE_MAX: u64 = 1 << 22;

/// The least bytes that a key takes in a file: tag, key, value.
const KEY_BYTES_MIN: u64 = 3;

/// The shortest time that reading from the primary is paused for, in microseconds.
const PAUSE_MIN_US: u64 = 100_000;

/// What every error within a snapshot begins with.
const DAMAGED: &str = "Internal error in RDB reading offset";

/// Messages about keys that were left out, at most.
const SKIP_MESSAGES_MAX: u64 = 10;

/// Where the data goes.
#[derive(Debug)]
pub enum Target {
    /// Into the databases that clients see; they are refused meanwhile.
    Live,
    /// Into databases of its own, while the old ones still serve. What both have in common is stored once.
    Fresh(Vec<Db>),
}

/// For whom the data is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Start,
    /// Replaces the data set of a replica.
    Replica,
    Reload,
}

/// Where in which history the loaded data set stood when it was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    pub position: Position,
    /// The database that the stream had selected there.
    pub stream_db: usize,
}

/// The progress of a load.
pub struct Loading {
    decoder: Decoder,
    /// The start of an element that was cut, and how long it must get before the decoder can go on.
    carry: Vec<u8>,
    wanted: usize,
    state: State,
}

/// Everything of a load but its bytes.
struct State {
    purpose: Purpose,
    target: Target,
    /// Clients are refused meanwhile.
    refuses: bool,
    db: usize,
    builder: ValueBuilder,
    /// The key whose value is being read, and its hash.
    key: Vec<u8>,
    key_hash: u64,
    expire_at_ms: Option<i64>,
    clock: u32,
    /// The value is read and forgotten.
    skips: bool,
    ready: Vec<(u64, Entry)>,
    drops_expired: bool,
    /// Keys that are there already are replaced (`DEBUG RELOAD MERGE`).
    merges: bool,
    /// Keys that were left out because their time had run out: replicas may hold them.
    dropped: Vec<(u32, Box<[u8]>)>,
    ended: bool,
    started_ms: i64,
    total_bytes: Option<u64>,
    used_mem: u64,
    keys_loaded: u64,
    /// Of these, those that are the old data set's.
    keys_reused: u64,
    keys_expired: u64,
    empty_skipped: u64,
    functions: Functions,
    saved_id: Option<ReplId>,
    saved_offset: Option<u64>,
    saved_db: Option<usize>,
    notes: Vec<(Level, String)>,
    /// Keys since the delay was last asked for.
    undelayed: u64,
    /// Reading from the primary was paused for the delay, until then on the monotonic clock.
    paused_until_us: Option<u64>,
}

impl Loading {
    /// The data set of the primary: nothing of it may be left out. `total` is its length if it is known.
    pub fn for_replica(target: Target, total: Option<u64>, now_ms: i64) -> Loading {
        Loading::new(Purpose::Replica, target, total, now_ms, DecodeOptions::default())
    }

    /// The file of an earlier run.
    pub fn at_start(config: &Config, total_bytes: u64, now_ms: i64) -> Loading {
        let options = DecodeOptions { verify_checksum: config.rdbchecksum };
        let mut loading = Loading::new(Purpose::Start, Target::Live, Some(total_bytes), now_ms, options);
        loading.state.drops_expired = config.replicaof.is_none();
        loading
    }

    /// The file that was just saved, or one put in its place.
    pub fn reload(config: &Config, is_replica: bool, merges: bool, now_ms: i64) -> Loading {
        let verify_checksum = config.rdbchecksum && !config.skip_checksum_validation;
        let options = DecodeOptions { verify_checksum };
        let mut loading = Loading::new(Purpose::Reload, Target::Live, None, now_ms, options);
        loading.state.drops_expired = !is_replica;
        loading.state.merges = merges;
        loading
    }

    fn new(
        purpose: Purpose,
        target: Target,
        total_bytes: Option<u64>,
        started_ms: i64,
        options: DecodeOptions,
    ) -> Loading {
        Loading {
            decoder: Decoder::new(options),
            carry: Vec::new(),
            wanted: 0,
            state: State {
                purpose,
                refuses: matches!(target, Target::Live),
                target,
                db: 0,
                builder: ValueBuilder::new(),
                key: Vec::new(),
                key_hash: 0,
                expire_at_ms: None,
                clock: 0,
                skips: false,
                ready: Vec::with_capacity(AHEAD),
                drops_expired: false,
                merges: false,
                dropped: Vec::new(),
                ended: false,
                started_ms,
                total_bytes,
                used_mem: 0,
                keys_loaded: 0,
                keys_reused: 0,
                keys_expired: 0,
                empty_skipped: 0,
                functions: Functions::default(),
                saved_id: None,
                saved_offset: None,
                saved_db: None,
                notes: Vec::new(),
                undelayed: 0,
                paused_until_us: None,
            },
        }
    }

    /// True while clients cannot see the data.
    pub fn refuses_commands(&self) -> bool {
        self.state.refuses
    }

    /// The old data set does not serve although it is there.
    pub fn refuse_commands(&mut self) {
        self.state.refuses = true;
    }

    /// `async_loading`: the old data set serves meanwhile.
    pub fn is_async(&self) -> bool {
        !self.refuses_commands()
    }

    /// Wall clock in milliseconds.
    pub fn started_ms(&self) -> i64 {
        self.state.started_ms
    }

    /// Length of the snapshot in bytes, if it was known at the beginning.
    pub fn total_bytes(&self) -> Option<u64> {
        self.state.total_bytes
    }

    pub fn loaded_bytes(&self) -> u64 {
        self.decoder.offset()
    }

    /// `used_memory` of the server that saved the data set, in bytes, 0 if it did not say.
    pub fn rdb_used_mem(&self) -> u64 {
        self.state.used_mem
    }

    pub fn keys_loaded(&self) -> u64 {
        self.state.keys_loaded
    }

    pub fn keys_expired(&self) -> u64 {
        self.state.keys_expired
    }

    /// Where the data set stood, if it says so.
    pub fn loaded_position(&self) -> Option<Saved> {
        let state = &self.state;
        Some(Saved {
            position: Position::new(state.saved_id?, state.saved_offset?),
            stream_db: state.saved_db?,
        })
    }

    /// Keys that were left out because their time had run out, with their databases.
    pub fn take_dropped(&mut self) -> Vec<(u32, Box<[u8]>)> {
        std::mem::take(&mut self.state.dropped)
    }

    /// The function libraries.
    pub fn take_functions(&mut self) -> Functions {
        std::mem::take(&mut self.state.functions)
    }

    /// What is to be logged.
    pub fn take_notes(&mut self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.state.notes)
    }

    /// Takes the next bytes. An error is the line that Redis logs; after it the load is of no more use.
    pub fn feed(&mut self, store: &mut Store, mut bytes: &[u8]) -> Result<(), String> {
        while !self.carry.is_empty() && !self.state.ended {
            let missing = self.wanted.saturating_sub(self.carry.len());
            if missing > bytes.len() {
                self.carry.extend_from_slice(bytes);
                return Ok(());
            }
            self.carry.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            let mut carry = std::mem::take(&mut self.carry);
            let used = self.decode(store, &carry)?;
            carry.drain(..used);
            self.carry = carry;
        }
        let used = self.decode(store, bytes)?;
        self.carry.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// All bytes have been fed: the snapshot must be complete.
    pub fn finish(&mut self) -> Result<(), String> {
        if !self.state.ended {
            let short = "Short read or OOM loading DB. Unrecoverable error, aborting now.";
            self.state.note(Level::Warning, short.to_owned());
            return Err(message(&self.decoder.truncated()));
        }
        self.state.note_end();
        Ok(())
    }

    /// Decodes what is complete; the number of bytes used.
    fn decode(&mut self, store: &mut Store, bytes: &[u8]) -> Result<usize, String> {
        if self.state.ended {
            return Ok(bytes.len());
        }
        let mut used = 0;
        loop {
            let step = match self.decoder.next(&bytes[used..]) {
                Ok(step) => step,
                Err(RdbError::ChecksumMismatch { stated, computed }) => {
                    let line = format!(
                        "Wrong RDB checksum expected: ({stated:x}) but got ({computed:x}). Aborting now."
                    );
                    self.state.note(Level::Warning, line);
                    return Err(internal(self.decoder.offset(), "RDB CRC error"));
                }
                Err(error @ RdbError::UnsupportedType { tag, name, .. }) => {
                    return Err(match self.decoder.unread() {
                        Some((key, module)) => unread(self.decoder.offset(), key, tag, name, module),
                        None => message(&error),
                    });
                }
                Err(error) => return Err(message(&error)),
            };
            match step {
                Step::Event { event, consumed } => {
                    if let Err(what) = self.state.apply(event, store) {
                        return Err(what.line(self.decoder.offset()));
                    }
                    used += consumed;
                    if self.state.ended {
                        // Redis leaves unread what stands behind the end.
                        return Ok(bytes.len());
                    }
                }
                Step::NeedMore { consumed, at_least } => {
                    self.wanted = at_least;
                    return Ok(used + consumed);
                }
            }
        }
    }
}

/// Why what was decoded cannot be taken in.
enum Refusal {
    /// Logged with the offset.
    Internal(String),
    /// Logged as it is.
    Plain(String),
}

impl Refusal {
    fn line(self, offset: u64) -> String {
        match self {
            Refusal::Internal(what) => internal(offset, &what),
            Refusal::Plain(line) => line,
        }
    }
}

impl State {
    #[inline]
    fn apply(&mut self, event: Event<'_>, store: &mut Store) -> Result<(), Refusal> {
        match event {
            Event::Key(key) => {
                self.key.clear();
                self.key.extend_from_slice(key.key);
                self.key_hash = hash(key.key);
                self.expire_at_ms = key.expire_at_ms;
                self.clock = store.access.restored(key.idle_s, key.freq);
                let expired = key.expire_at_ms.is_some_and(|at| at < self.started_ms);
                self.skips = self.drops_expired && expired;
                if self.skips {
                    self.skip_expired();
                }
                self.builder.begin(key.kind());
                Ok(())
            }
            Event::Eof { checksum } => {
                self.insert_ready(store)?;
                self.ended = true;
                if checksum == rdb::Checksum::Disabled {
                    self.note(
                        Level::Notice,
                        "RDB file was saved with checksum disabled: no check performed.".to_owned(),
                    );
                }
                Ok(())
            }
            Event::Header(_) => Ok(()),
            Event::Aux { key, value } => {
                self.aux(key, value);
                Ok(())
            }
            Event::SelectDb(db) => self.select(db, store),
            Event::ResizeDb { keys, .. } => {
                self.resize(keys, store);
                Ok(())
            }
            Event::SlotInfo { .. } => Ok(()),
            Event::Function(code) => {
                let loaded = self.functions.load(code, self.merges).map(drop);
                loaded
                    .map_err(|error| Refusal::Internal(format!("Failed loading a function library: {error}")))
            }
            Event::ModuleAux { name, .. } => {
                let line = format!("The RDB file contains AUX module data, left out: '{}'", name.as_str());
                self.note(Level::Warning, line);
                Ok(())
            }
            _ if self.skips => Ok(()),
            event => {
                let (db, limits) = store.db_and_limits(self.db);
                let old = match self.target {
                    Target::Fresh(_) if self.builder.is_reusing() => {
                        db.parts_to_reuse(Key { bytes: &self.key, hash: self.key_hash })
                    }
                    _ => None,
                };
                let built = self.builder.take(event, limits, old);
                match built.map_err(|error| Refusal::Internal(error.0.to_owned()))? {
                    None => Ok(()),
                    Some(built) => self.built(built, store),
                }
            }
        }
    }

    #[inline]
    fn built(&mut self, built: Built<'_>, store: &mut Store) -> Result<(), Refusal> {
        if built.is_empty_collection() {
            if self.empty_skipped < SKIP_MESSAGES_MAX {
                let line = format!("rdbLoadObject skipping empty key: {}", self.key.escape_ascii());
                self.note(Level::Notice, line);
            }
            self.empty_skipped += 1;
            return Ok(());
        }
        let entry = built.into_entry(&self.key, self.expire_at_ms);
        entry.set_clock(self.clock);
        let hash = self.key_hash;
        self.database(store).prefetch(hash);
        if let Target::Fresh(_) = self.target {
            store.db_at(self.db).prefetch(hash);
        }
        self.ready.push((hash, entry));
        self.keys_loaded += 1;
        self.undelayed += 1;
        if self.ready.len() == AHEAD { self.insert_ready(store) } else { Ok(()) }
    }

    fn database<'a>(&'a mut self, store: &'a mut Store) -> &'a mut Db {
        match &mut self.target {
            Target::Live => store.db_at_mut(self.db),
            Target::Fresh(dbs) => &mut dbs[self.db],
        }
    }

    fn insert_ready(&mut self, store: &mut Store) -> Result<(), Refusal> {
        let db = match &mut self.target {
            Target::Live => store.db_at_mut(self.db),
            Target::Fresh(dbs) => {
                self.keys_reused += reuse(store.db_at_mut(self.db), &mut self.ready);
                &mut dbs[self.db]
            }
        };
        for (hash, entry) in self.ready.drain(..) {
            let key = Key { bytes: entry.key(), hash };
            if db.peek(key).is_some() {
                if !self.merges {
                    let key = key.bytes.escape_ascii();
                    let what = format!("RDB has duplicated key '{key}' in DB {}", self.db);
                    return Err(Refusal::Internal(what));
                }
                db.remove(key);
            }
            db.insert(hash, entry);
        }
        Ok(())
    }

    fn skip_expired(&mut self) {
        self.keys_expired += 1;
        // Of use only to replicas of the history that the data set continues.
        if self.purpose == Purpose::Reload || self.saved_id.is_some() {
            self.dropped.push((self.db as u32, self.key.as_slice().into()));
        }
    }

    fn select(&mut self, db: u32, store: &mut Store) -> Result<(), Refusal> {
        self.insert_ready(store)?;
        if db as usize >= store.databases() {
            return Err(Refusal::Plain(format!(
                "FATAL: Data file was created with a Redis server configured to handle more than {} databases. \
                 Exiting",
                store.databases()
            )));
        }
        self.db = db as usize;
        Ok(())
    }

    fn resize(&mut self, keys: u64, store: &mut Store) {
        let possible = self.total_bytes.map_or(RESERVE_MAX, |bytes| bytes / KEY_BYTES_MIN);
        let keys = keys.min(possible) as usize;
        self.database(store).reserve(keys);
    }

    fn aux(&mut self, key: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        match key {
            b"repl-id" => self.saved_id = ReplId::parse(value).ok(),
            b"repl-offset" => self.saved_offset = text.parse().ok(),
            b"repl-stream-db" => self.saved_db = text.parse().ok(),
            b"redis-ver" | b"valkey-ver" => {
                self.note(Level::Notice, format!("Loading RDB produced by version {text}"));
            }
            b"ctime" => {
                let age = self.started_ms / 1000 - text.parse().unwrap_or(0);
                self.note(Level::Notice, format!("RDB age {} seconds", age.max(0)));
            }
            b"used-mem" => {
                self.used_mem = text.parse().unwrap_or(0);
                let megabytes = self.used_mem as f64 / (1024.0 * 1024.0);
                self.note(Level::Notice, format!("RDB memory usage when created {megabytes:.2} Mb"));
            }
            b"aof-base" if value == b"1" => self.note(Level::Notice, "RDB is base AOF".to_owned()),
            [b'%', ..] => {
                let key = String::from_utf8_lossy(key);
                self.note(Level::Notice, format!("RDB '{key}': {text}"));
            }
            _ => {}
        }
    }

    fn note_end(&mut self) {
        let (loaded, expired) = (self.keys_loaded, self.keys_expired);
        let mut line = format!("Done loading RDB, keys loaded: {loaded}, keys expired: {expired}");
        if self.empty_skipped > 0 {
            line.push_str(&format!(", empty keys skipped: {}", self.empty_skipped));
        }
        line.push('.');
        self.note(Level::Notice, line);
        if let Target::Fresh(_) = self.target {
            let line = format!("Values of the old data set reused: {} of {loaded}", self.keys_reused);
            self.note(Level::Notice, line);
        }
    }

    fn note(&mut self, level: Level, line: String) {
        self.notes.push((level, line));
    }
}

/// Puts what `old` has already in place of what has arrived; how many of them.
fn reuse(old: &mut Db, ready: &mut [(u64, Entry)]) -> u64 {
    if old.is_empty() {
        return 0;
    }
    for (hash, _) in &*ready {
        old.prefetch_entry(*hash);
    }
    let mut reused = 0;
    for (hash, entry) in ready {
        if let Some(same) = old.reuse(*hash, entry) {
            *entry = same;
            reused += 1;
        }
    }
    reused
}

/// The line that Redis logs for an error of the format.
fn message(error: &RdbError) -> String {
    match error {
        RdbError::Truncated { offset } => internal(*offset, "Unexpected EOF reading RDB file"),
        RdbError::WrongMagic => "Wrong signature trying to load DB from file".to_owned(),
        RdbError::UnsupportedVersion(version) => format!("Can't handle RDB format version {version}"),
        RdbError::UnknownOpcode { tag, offset } => {
            internal(*offset, &format!("Unknown RDB encoding type {tag}"))
        }
        RdbError::UnsupportedType { tag, name, offset } => {
            internal(*offset, &format!("RDB type {tag} ({name}) is not supported"))
        }
        RdbError::Corrupt { what, offset } => internal(*offset, what),
        RdbError::ChecksumMismatch { .. } => error.to_string(),
    }
}

fn unread(offset: u64, key: &[u8], tag: u8, name: &str, module: Option<ModuleName>) -> String {
    let key = key[..key.len().min(100)].escape_ascii();
    let module = module.map_or_else(String::new, |module| format!(" '{}'", module.as_str()));
    internal(offset, &format!("key '{key}' is of RDB type {tag} ({name}{module}), which is not supported"))
}

fn internal(offset: u64, what: &str) -> String {
    format!("{DAMAGED} {offset}, {what}")
}

/// The value of a `DUMP` payload under `key`. The error is the line that is logged when the payload, of which version and
/// checksum were found right, holds no good value.
pub(crate) fn restore(
    decoder: &mut Decoder,
    mut bytes: &[u8],
    key: &[u8],
    expire_at_ms: Option<i64>,
    limits: &EncodingLimits,
) -> Result<Entry, String> {
    let mut builder = ValueBuilder::new();
    let mut entry = None;
    loop {
        let offset = decoder.offset();
        let (event, consumed) = match decoder.next(bytes) {
            Ok(Step::Event { event, consumed }) => (event, consumed),
            Ok(Step::NeedMore { .. }) => return Err(message(&RdbError::Truncated { offset })),
            Err(error) => return Err(message(&error)),
        };
        bytes = &bytes[consumed..];
        match event {
            Event::Key(key) => builder.begin(key.kind()),
            Event::Eof { .. } => return entry.ok_or_else(|| internal(offset, "no value")),
            event => {
                let built = builder.take(event, limits, None).map_err(|error| internal(offset, error.0))?;
                if let Some(built) = built {
                    if built.is_empty_collection() {
                        return Err(internal(offset, "empty collection"));
                    }
                    entry = Some(built.into_entry(key, expire_at_ms));
                }
            }
        }
    }
}

impl Node {
    // ---- what the surroundings report ----

    /// The data set of an earlier run is about to be read; its bytes follow in [`Node::load_bytes`].
    pub fn begin_load_at_start(&mut self, total_bytes: u64) {
        let now_ms = self.core.env.unix_ms();
        self.core.loading = Some(Loading::at_start(&self.core.config, total_bytes, now_ms));
        self.core.refresh_state_gates();
    }

    /// There is no data set of an earlier run: the node begins empty.
    pub fn begin_without_data(&mut self) {
        if let Some((host, port)) = self.core.config.replicaof.clone() {
            self.follow_restored(&host, port, None, 0);
        }
    }

    /// The next bytes of the file that [`Node::begin_load_at_start`] or [`Action::LoadFile`] announced, in pieces of
    /// about `loading-process-events-interval-bytes`. After an error, which is to be handed to
    /// [`Node::load_finished`], no more bytes are taken.
    pub fn load_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(mut loading) = self.core.loading.take() else { return Ok(()) };
        let result = loading.feed(&mut self.store, bytes);
        for (level, line) in loading.take_notes() {
            self.core.log(level, line);
        }
        self.core.loading = Some(loading);
        result
    }

    /// Microseconds to wait before the next piece (`key-load-delay`), during which the node serves its clients. 0
    /// outside of tests.
    pub fn take_load_delay_us(&mut self) -> u64 {
        let per_key = self.core.config.key_load_delay_us;
        let Some(loading) = &mut self.core.loading else { return 0 };
        let keys = std::mem::take(&mut loading.state.undelayed);
        // Below zero it is, as in Redis, the number of keys that share one microsecond.
        match u64::try_from(per_key) {
            Ok(delay) => keys * delay,
            Err(_) => keys / per_key.unsigned_abs(),
        }
    }

    /// The file was read to its end, or could not be: `Err` says why, or is what [`Node::load_bytes`] has said.
    pub fn load_finished(&mut self, result: Result<(), String>) {
        let Some(loading) = &self.core.loading else { return };
        let purpose = loading.state.purpose;
        let result = result.and_then(|()| self.end_loading());
        match (purpose, result) {
            (Purpose::Start, Ok(())) => self.start_with_loaded(),
            (Purpose::Start, Err(reason)) => {
                let loading = self.core.loading.take();
                self.core.warning(&*reason);
                match loading.filter(|_| reason.starts_with(DAMAGED)) {
                    // Redis runs its checker over the file, which reports in this form.
                    Some(loading) => {
                        let (offset, state) = (loading.loaded_bytes(), loading.state);
                        self.core.warning("--- RDB ERROR DETECTED ---");
                        self.core.warning(format!("[offset {offset}] {reason}"));
                        let key = state.key.escape_ascii();
                        self.core.warning(format!("[additional info] Reading key '{key}'"));
                        self.core.warning(format!("[info] {} keys read", state.keys_loaded));
                        self.core.warning("Terminating server after rdb file reading failure.");
                    }
                    None => self.core.warning("Fatal error loading the DB, check server logs. Exiting."),
                }
                self.core.actions.push(Action::Exit { code: 1 });
            }
            (_, result) => self.transfer_loaded(result),
        }
    }

    /// The node goes on from where the data set of the earlier run stood.
    fn start_with_loaded(&mut self) {
        let Some(mut loading) = self.core.loading.take() else { return };
        let seconds = (self.core.env.unix_ms() - loading.started_ms()) as f64 / 1000.0;
        self.core.notice(format!("DB loaded from disk: {seconds:.3} seconds"));
        self.core.refresh_state_gates();
        let saved = loading.loaded_position();
        self.store.functions = loading.take_functions();
        let repl = &mut self.core.repl;
        if let Some((host, port)) = self.core.config.replicaof.clone() {
            if let Some(saved) = saved {
                repl.history.adopt(saved.position.replid);
                repl.log.reset(saved.position.offset);
                repl.restored = Some(saved.position);
            }
            let stream_db = saved.map_or(0, |saved| saved.stream_db.min(self.store.databases() - 1));
            self.follow_restored(&host, port, saved.map(|saved| saved.position), stream_db);
        } else if let Some(saved) = saved {
            // Replicas that stand where the file does may continue: the log begins there.
            repl.history.restore(saved.position);
            repl.log.reset(saved.position.offset);
            repl.log.activate();
            repl.restate_db();
            self.refresh_recording();
            self.begin_turn();
            for (db, key) in loading.take_dropped() {
                self.store.effects.propagate_in(db, &[b"DEL", &key]);
                dispatch::end_unit(&mut self.store, &mut self.core);
            }
        }
    }

    // ---- a data set that arrives from the primary ----

    pub(crate) fn feed_loading(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.load_bytes(bytes)?;
        let delay_us = self.take_load_delay_us();
        if delay_us > 0 {
            let now_us = self.core.env.monotonic_us();
            if let Some(loading) = &mut self.core.loading {
                let from = loading.state.paused_until_us.unwrap_or(now_us).max(now_us);
                let until = from + delay_us;
                loading.state.paused_until_us = Some(until);
                // The timer ends the pause: shorter ones add up first.
                if until - now_us >= PAUSE_MIN_US {
                    self.pause_primary(true);
                }
            }
        }
        Ok(())
    }

    /// Reads on from the primary when the delay for the keys that were loaded is over. Called by the timer.
    pub(crate) fn load_tick(&mut self) {
        let Some(loading) = &mut self.core.loading else { return };
        let now_us = self.core.env.monotonic_us();
        if loading.state.paused_until_us.take_if(|until| now_us >= *until).is_some() {
            self.pause_primary(false);
        }
    }

    fn pause_primary(&mut self, paused: bool) {
        if let Some(conn) = self.core.repl.following.as_ref().and_then(Following::snapshot_conn) {
            self.core.actions.push(if paused {
                Action::PauseReading { conn }
            } else {
                Action::ResumeReading { conn }
            });
        }
    }

    pub(crate) fn end_loading(&mut self) -> Result<(), String> {
        let Some(mut loading) = self.core.loading.take() else { return Ok(()) };
        let result = loading.finish();
        for (level, line) in loading.take_notes() {
            self.core.log(level, line);
        }
        self.core.snapshots.last_load_keys_loaded = loading.keys_loaded();
        self.core.snapshots.last_load_keys_expired = loading.keys_expired();
        self.core.loading = Some(loading);
        result
    }

    /// Forgets what was loaded of a data set that will not be completed.
    pub(crate) fn abandon_loading(&mut self) {
        let Some(loading) = self.core.loading.take() else { return };
        match loading.state.target {
            Target::Live => self.flush_for_load(),
            Target::Fresh(dbs) => self.drop_databases(dbs),
        }
        if loading.state.paused_until_us.is_some() {
            self.pause_primary(false);
        }
        self.core.refresh_state_gates();
    }

    /// What was loaded is the data set from here on. Gives the database that the stream had selected there.
    pub(crate) fn put_loaded_in_place(&mut self) -> usize {
        let Some(loading) = self.core.loading.take() else { return 0 };
        let stream_db = loading.state.saved_db.unwrap_or(0).min(self.store.databases() - 1);
        self.store.functions = loading.state.functions;
        if let Target::Fresh(dbs) = loading.state.target {
            let old = self.store.replace_dbs(dbs);
            self.drop_databases(old);
        }
        if loading.state.paused_until_us.is_some() {
            self.pause_primary(false);
        }
        self.core.refresh_state_gates();
        stream_db
    }

    pub(crate) fn flush_for_load(&mut self) {
        let lazily = self.core.config.replica_lazy_flush;
        self.store.functions.clear();
        for index in 0..self.store.databases() {
            self.store.flush_db(index, lazily);
        }
    }

    /// Frees databases elsewhere; those that a snapshot has not finished with are left to it.
    fn drop_databases(&mut self, dbs: Vec<Db>) {
        for mut db in dbs {
            let contents = db.detach();
            if contents.is_walked() {
                self.store.orphans.push(contents);
            } else {
                self.store.reclaim.database(contents, true);
            }
        }
    }
}

#[cfg(test)]
mod tests;
