//! A snapshot from the engine's side: when it may begin, what it walks, what its end means.
//!
//! At most one snapshot runs at a time, for a file (`BGSAVE`, save points) or for replicas; `SAVE` needs none
//! ([`crate::persist`]). It is point-in-time at a position of the log: nothing is executed between taking the position and beginning the walks.
//! The surroundings pull [`Batch`]es, encode them elsewhere ([`crate::rdb_writer`]) and report the end.

use std::path::PathBuf;
use std::sync::Arc;

use keyspace::AccessClock;
use keyspace::db::Detached;
use keyspace::large::AtOnce;
use keyspace::snapshot::Batch;
use log::Position;
use rdb::Dialect;

use crate::action::Action;
use crate::core::Core;
use crate::node::Node;
use crate::store::Store;

/// How long a save point waits after a snapshot that failed.
const RETRY_DELAY_S: i64 = 5;

/// Where the encoded snapshot goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Written to `temp`, then renamed to `path`.
    File { temp: PathBuf, path: PathBuf },
    /// Handed back in chunks (`Node::snapshot_chunk`) for the replicas that wait for it.
    Stream,
}

/// What the encoder needs to know; crosses to another thread.
#[derive(Debug, Clone)]
pub struct Plan {
    pub sink: Sink,
    pub target: rdb::Target,
    pub compress: bool,
    pub checksum: bool,
    /// `rdb-key-save-delay`: microseconds to wait after each key, for tests that need a slow snapshot.
    pub key_delay_us: i64,
    /// Auxiliary fields in the order they are written.
    pub aux: Vec<(&'static str, String)>,
    /// The sources of the function libraries, which stand before the first key.
    pub functions: Vec<Arc<[u8]>>,
    /// What the access clocks mean, where the eviction policy makes them worth keeping.
    pub access: Option<AccessClock>,
}

/// For whom a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// `BGSAVE` and the save points.
    Background,
    /// A full synchronisation straight to the replicas' sockets.
    SyncStream,
    /// A full synchronisation by way of a file.
    SyncFile,
}

impl Purpose {
    pub fn is_sync(&self) -> bool {
        matches!(self, Purpose::SyncStream | Purpose::SyncFile)
    }
}

#[derive(Debug)]
pub struct Running {
    pub purpose: Purpose,
    pub position: Position,
    pub target: rdb::Target,
    pub started_ms: i64,
    /// All has been walked; the encoder has yet to report the end.
    pub walked: bool,
    /// [`crate::effects::Effects::dirty`] when it began: what the file on disk will hold.
    dirty: u64,
    /// Contents that were flushed out of a database which the walk had not finished.
    orphans: Vec<Detached>,
}

/// What a snapshot holds, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Where Redis and Valkey differ.
    pub dialect: Dialect,
    /// The keys. Without them, the caller abandons the walks.
    pub data: bool,
    /// The function libraries.
    pub functions: bool,
}

impl Form {
    /// Everything, as Redis reads it.
    pub const ALL: Form = Form { dialect: Dialect::Redis, data: true, functions: true };
}

/// Past and present snapshots.
#[derive(Debug, Default)]
pub struct Snapshots {
    pub running: Option<Running>,
    pub last_save_failed: bool,
    pub last_save_unix_s: i64,
    pub last_try_unix_s: i64,
    pub last_duration_s: i64,
    /// `Effects::dirty` as of the last file that is complete.
    pub saved_dirty: u64,
    pub saves: u64,
    /// `rdb_last_load_keys_loaded` and `rdb_last_load_keys_expired`.
    pub last_load_keys_loaded: u64,
    pub last_load_keys_expired: u64,
    /// What a value may have to be copied at once.
    pub at_once: AtOnce,
    /// `BGSAVE SCHEDULE` or `BGSAVE` while a replica is being fed: begins when the running one ends.
    pub scheduled: bool,
}

impl Snapshots {
    /// `rdb_changes_since_last_save`.
    pub fn changes_since_save(&self, dirty: u64) -> u64 {
        dirty.saturating_sub(self.saved_dirty)
    }

    /// True while a snapshot goes to a file: `rdb_bgsave_in_progress` counts those for replicas as well.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// What the surroundings get when they ask for more of a snapshot.
#[derive(Debug)]
pub enum Step {
    /// To be encoded.
    Batch(Batch),
    /// Nothing is left to walk: the encoder ends the snapshot and reports.
    Walked,
}

/// Begins a snapshot as of now. The caller has made sure that none runs.
pub fn begin(store: &mut Store, core: &mut Core, purpose: Purpose, form: Form) {
    assert!(core.snapshots.running.is_none(), "one snapshot runs at a time");
    let sink = match purpose {
        Purpose::SyncStream => Sink::Stream,
        _ => file_sink(core, "temp"),
    };
    let plan = plan(store, core, sink, form);
    for index in 0..store.databases() {
        store.db_at_mut(index).begin_walk(index as u32, core.snapshots.at_once);
    }
    let started_ms = core.env.unix_ms();
    let what = if purpose == Purpose::SyncStream { "RDB transfer" } else { "saving" };
    core.notice(format!("Background {what} started by pid {}", core.env.process_id()));
    core.snapshots.last_try_unix_s = started_ms / 1000;
    core.snapshots.running = Some(Running {
        purpose,
        position: core.repl.position(),
        target: plan.target,
        started_ms,
        walked: false,
        dirty: store.effects.dirty,
        orphans: Vec::new(),
    });
    core.actions.push(Action::BeginSnapshot(Box::new(plan)));
}

/// What an encoder needs for a snapshot of this moment.
pub fn plan(store: &Store, core: &Core, sink: Sink, form: Form) -> Plan {
    let functions: Vec<Arc<[u8]>> = match form.functions {
        true => store.functions.iter().map(|(_, code)| Arc::clone(code)).collect(),
        false => Vec::new(),
    };
    let features = rdb::Features {
        hash_field_ttl: form.data && store.has_field_ttl(),
        streams: form.data && store.has_streams(),
        functions: !functions.is_empty(),
    };
    Plan {
        sink,
        target: rdb::oldest_version_for(features, form.dialect),
        compress: core.config.rdbcompression,
        checksum: core.config.rdbchecksum,
        key_delay_us: core.config.rdb_key_save_delay_us,
        aux: aux(core),
        functions,
        access: core.config.maxmemory_policy.reads_clocks().then_some(store.access),
    }
}

/// The configured file, written by way of a temporary one whose name begins with `prefix`.
pub(crate) fn file_sink(core: &Core, prefix: &str) -> Sink {
    let dir = PathBuf::from(&core.config.dir);
    let temp = dir.join(format!("{prefix}-{}.rdb", core.run_id.get(..12).unwrap_or("kindred")));
    Sink::File { temp, path: dir.join(&core.config.dbfilename) }
}

fn aux(core: &Core) -> Vec<(&'static str, String)> {
    let mut aux = vec![
        ("redis-ver", crate::REDIS_VERSION.to_owned()),
        ("redis-bits", usize::BITS.to_string()),
        ("ctime", (core.env.unix_ms() / 1000).to_string()),
        ("used-mem", core.env.used_memory().to_string()),
    ];
    let position = core.repl.position();
    // A data set that has a history can be continued from after a restart.
    if core.repl.has_history() {
        aux.push(("repl-stream-db", core.repl.stream_db().to_string()));
        aux.push(("repl-id", position.replid.to_string()));
        aux.push(("repl-offset", position.offset.to_string()));
    }
    aux.push(("aof-base", "0".to_owned()));
    aux
}

impl Node {
    /// Begins a snapshot as of now, for any reader. The caller has made sure that none runs.
    pub fn begin_snapshot(&mut self, purpose: Purpose) {
        begin(&mut self.store, &mut self.core, purpose, Form::ALL);
    }

    /// What an encoder needs for a snapshot of this moment.
    pub fn snapshot_plan(&self, sink: Sink) -> Plan {
        plan(&self.store, &self.core, sink, Form::ALL)
    }

    /// Copies about `budget_bytes` more of the running snapshot; `None` when none runs or all is walked.
    pub fn snapshot_batch(&mut self, budget_bytes: usize) -> Option<Step> {
        let running = self.core.snapshots.running.as_mut().filter(|running| !running.walked)?;
        running.orphans.append(&mut self.store.orphans);
        let mut batch = Batch::default();
        let mut left = budget_bytes;
        for index in 0..self.store.databases() {
            left = self.store.db_at_mut(index).copy_guests(left);
        }
        for orphan in &mut running.orphans {
            left = orphan.copy_guests(left);
        }
        // The parts of a value follow each other: whoever has begun one goes on first.
        let within =
            (0..self.store.databases()).find(|index| self.store.db_at(*index).is_walk_within_value());
        if let Some(index) = within
            && !self.store.db_at_mut(index).step_walk(budget_bytes, &mut batch)
        {
            return Some(Step::Batch(batch));
        }
        if let Some(orphan) = running.orphans.iter_mut().find(|orphan| orphan.is_walk_within_value())
            && !orphan.step_walk(budget_bytes, &mut batch)
        {
            return Some(Step::Batch(batch));
        }
        for index in 0..self.store.databases() {
            self.store.db_at_mut(index).drain_walk(&mut batch);
        }
        for index in 0..self.store.databases() {
            let left = budget_bytes.saturating_sub(batch.weight());
            if !self.store.db_at_mut(index).step_walk(left, &mut batch) {
                return Some(Step::Batch(batch));
            }
        }
        while let Some(mut orphan) = running.orphans.pop() {
            let left = budget_bytes.saturating_sub(batch.weight());
            if !orphan.step_walk(left, &mut batch) {
                running.orphans.push(orphan);
                return Some(Step::Batch(batch));
            }
            self.store.reclaim.database(orphan, true);
        }
        if !batch.is_empty() {
            return Some(Step::Batch(batch));
        }
        running.walked = true;
        Some(Step::Walked)
    }

    /// Bytes of pre-images that wait to be pulled: memory that the snapshot holds on the writer's side.
    pub fn snapshot_pending_bytes(&self) -> usize {
        (0..self.store.databases()).map(|index| self.store.db_at(index).walk_pending_bytes()).sum()
    }

    /// The encoder has ended: everything was written, so many bytes, or why not.
    pub fn snapshot_finished(&mut self, result: Result<u64, String>) {
        let Some(running) = self.core.snapshots.running.take() else { return };
        self.abandon_walks();
        let now_ms = self.core.env.unix_ms();
        let snapshots = &mut self.core.snapshots;
        snapshots.last_duration_s = (now_ms - running.started_ms) / 1000;
        match &result {
            Ok(_) if !matches!(running.purpose, Purpose::SyncStream) => {
                snapshots.saved_dirty = running.dirty;
                snapshots.last_save_unix_s = now_ms / 1000;
                snapshots.last_save_failed = false;
                snapshots.saves += 1;
                self.core.notice("DB saved on disk");
                self.core.notice("Background saving terminated with success");
            }
            Ok(_) => self.core.notice("Background RDB transfer terminated with success"),
            Err(error) => {
                if !matches!(running.purpose, Purpose::SyncStream) {
                    snapshots.last_save_failed = true;
                }
                self.core.warning(format!("Write error saving DB on disk: {error}"));
                self.core.warning("Background saving error");
            }
        }
        if running.purpose.is_sync() {
            self.sync_snapshot_finished(&running, result);
        }
        self.core.refresh_state_gates();
    }

    /// Begins what a save point or a scheduled `BGSAVE` has made due. Once a second.
    pub(crate) fn save_points(&mut self) {
        let snapshots = &self.core.snapshots;
        if snapshots.is_running() || self.core.loading.is_some() {
            return;
        }
        if snapshots.scheduled {
            self.core.snapshots.scheduled = false;
            return self.begin_snapshot(Purpose::Background);
        }
        let now_s = self.store.now_ms / 1000;
        let changes = snapshots.changes_since_save(self.store.effects.dirty);
        let may_retry = !snapshots.last_save_failed || now_s - snapshots.last_try_unix_s > RETRY_DELAY_S;
        let since = now_s - snapshots.last_save_unix_s;
        let due = self
            .core
            .config
            .save
            .iter()
            .find(|point| changes >= point.changes && since > point.seconds as i64);
        if let Some(point) = due.filter(|_| may_retry) {
            let message = format!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            self.core.notice(message);
            self.begin_snapshot(Purpose::Background);
        }
    }

    /// Stops the running snapshot: nobody needs it any more.
    pub fn cancel_snapshot(&mut self) {
        if self.core.snapshots.running.take().is_some() {
            self.abandon_walks();
            self.core.actions.push(Action::CancelSnapshot);
        }
    }

    /// What was not walked yet is left out.
    pub(crate) fn abandon_walks(&mut self) {
        for index in 0..self.store.databases() {
            self.store.db_at_mut(index).abandon_walk();
        }
        self.store.orphans.clear();
    }
}
