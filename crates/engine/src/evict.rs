//! Keeping memory within `maxmemory`: which keys go, when, and for how long that may hold commands up.
//!
//! Before each command, and once per turn while there is more to do, [`perform`] deletes keys until memory is within the
//! limit again. Each deletion is a unit of its own in the log. What the log and a running snapshot hold is not counted:
//! evicting makes both grow, so it would never end.
//!
//! By `volatile-ttl` the key that expires first goes: the index of expiries knows it. By the LRU and LFU policies
//! candidates are sampled at random and the best of all samples so far are kept in a pool. A candidate that was used
//! since it was sampled is no longer one.

use keyspace::{EntryExt, Key};

use crate::core::Core;
use crate::dispatch;
use crate::store::Store;

/// `maxmemory-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    #[default]
    NoEviction,
}

impl Policy {
    pub const ALL: [Policy; 8] = [
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
        Policy::AllKeysLru,
        Policy::AllKeysLfu,
        Policy::AllKeysRandom,
        Policy::NoEviction,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Policy::VolatileLru => "volatile-lru",
            Policy::VolatileLfu => "volatile-lfu",
            Policy::VolatileRandom => "volatile-random",
            Policy::VolatileTtl => "volatile-ttl",
            Policy::AllKeysLru => "allkeys-lru",
            Policy::AllKeysLfu => "allkeys-lfu",
            Policy::AllKeysRandom => "allkeys-random",
            Policy::NoEviction => "noeviction",
        }
    }

    /// Access clocks count uses instead of telling the time.
    pub fn counts_uses(self) -> bool {
        matches!(self, Policy::VolatileLfu | Policy::AllKeysLfu)
    }

    /// The time of the last use decides.
    pub fn reads_times(self) -> bool {
        matches!(self, Policy::VolatileLru | Policy::AllKeysLru)
    }

    /// Keys are chosen by their access clocks.
    pub fn reads_clocks(self) -> bool {
        self.counts_uses() || self.reads_times()
    }

    fn takes_all_keys(self) -> bool {
        matches!(self, Policy::AllKeysLru | Policy::AllKeysLfu | Policy::AllKeysRandom)
    }
}

/// How an attempt to get within the limit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Memory is within the limit, or nothing may be evicted here and now.
    Within,
    /// Time was up; the next turn goes on.
    Running,
    /// Memory is above the limit and there is nothing to evict.
    Failed,
}

/// Keys that are kept in mind for being evicted.
const POOL_SIZE: usize = 16;

/// How many keys are evicted between two looks at the clock.
const KEYS_BETWEEN_LOOKS: usize = 16;

#[derive(Debug)]
struct Candidate {
    /// The larger, the sooner it goes.
    spare: u32,
    db: usize,
    key: Vec<u8>,
}

/// What eviction remembers between cycles, and its times for `INFO`.
#[derive(Debug, Default)]
pub struct Eviction {
    /// In ascending order of [`Candidate::spare`].
    pool: Vec<Candidate>,
    /// Where a random policy goes on.
    next_db: usize,
    /// The limit was lowered or a cycle ran out of time: the end of the turn goes on.
    pub(crate) due: bool,
    /// Monotonic clock at which memory went above the limit and stayed there.
    exceeded_since_us: Option<u64>,
    exceeded_total_us: u64,
}

/// How long memory was above the limit without a way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    pub total_us: u64,
    pub current_us: u64,
}

impl Eviction {
    pub fn exceeded(&self, now_us: u64) -> Exceeded {
        let current_us = self.exceeded_since_us.map_or(0, |since| now_us - since);
        Exceeded { total_us: self.exceeded_total_us + current_us, current_us }
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset_stats(&mut self) {
        self.exceeded_since_us = None;
        self.exceeded_total_us = 0;
    }

    fn note(&mut self, outcome: Outcome, now_us: u64) {
        match (outcome, self.exceeded_since_us) {
            (Outcome::Within, Some(since)) => {
                self.exceeded_total_us += now_us - since;
                self.exceeded_since_us = None;
            }
            (Outcome::Running | Outcome::Failed, None) => self.exceeded_since_us = Some(now_us),
            _ => {}
        }
    }

    /// Database and key of the next to go; `None` if there is none that the policy allows.
    fn choose(&mut self, store: &mut Store, policy: Policy, samples: usize) -> Option<(usize, Vec<u8>)> {
        match policy {
            Policy::NoEviction => None,
            Policy::VolatileTtl => first_to_expire(store),
            Policy::AllKeysRandom | Policy::VolatileRandom => self.choose_at_random(store, policy),
            Policy::VolatileLru | Policy::VolatileLfu | Policy::AllKeysLru | Policy::AllKeysLfu => {
                while self.sample(store, policy, samples) {
                    while let Some(candidate) = self.pool.pop() {
                        if candidate.still_is_one(store, policy) {
                            return Some((candidate.db, candidate.key));
                        }
                    }
                }
                None
            }
        }
    }

    /// The databases take turns.
    fn choose_at_random(&mut self, store: &mut Store, policy: Policy) -> Option<(usize, Vec<u8>)> {
        let mut random = store.fork_rng();
        for _ in 0..store.databases() {
            self.next_db = (self.next_db + 1) % store.databases();
            let index = self.next_db;
            let db = store.db_at_mut(index);
            let mut chosen = None;
            if policy.takes_all_keys() {
                chosen = db.random(&mut random).map(|entry| entry.key().to_vec());
            } else {
                db.sample_volatile(1, &mut random, |entry| chosen = Some(entry.key().to_vec()));
            }
            if let Some(key) = chosen {
                return Some((index, key));
            }
        }
        None
    }

    /// Offers samples of each database to the pool; false if there is nothing to sample.
    fn sample(&mut self, store: &mut Store, policy: Policy, samples: usize) -> bool {
        let access = store.access;
        let mut random = store.fork_rng();
        let mut any = false;
        for index in 0..store.databases() {
            let db = store.db_at_mut(index);
            let mut offer = |entry: &keyspace::Entry| {
                any = true;
                self.offer(access.spare(entry.clock()), index, entry.key());
            };
            if policy.takes_all_keys() {
                if !db.is_empty() {
                    db.sample(samples, &mut random, &mut offer);
                }
            } else {
                db.sample_volatile(samples, &mut random, &mut offer);
            }
        }
        any
    }

    /// Takes a key into the pool if it is better than the worst there or there is room.
    fn offer(&mut self, spare: u32, db: usize, key: &[u8]) {
        let full = self.pool.len() == POOL_SIZE;
        if full && spare <= self.pool[0].spare {
            return;
        }
        if self.pool.iter().any(|known| known.db == db && known.key == key) {
            return;
        }
        let mut candidate = if full { self.pool.remove(0) } else { Candidate { spare, db, key: Vec::new() } };
        candidate.key.clear();
        candidate.key.extend_from_slice(key);
        (candidate.spare, candidate.db) = (spare, db);
        let at = self.pool.partition_point(|known| known.spare < spare);
        self.pool.insert(at, candidate);
    }
}

impl Candidate {
    /// The key is there, the policy may take it, and it was not used since it was sampled.
    fn still_is_one(&self, store: &Store, policy: Policy) -> bool {
        let entry = store.db_at(self.db).peek(Key::new(&self.key));
        entry.is_some_and(|entry| {
            (policy.takes_all_keys() || entry.expire_at().is_some())
                && store.access.spare(entry.clock()) >= self.spare
        })
    }
}

fn first_to_expire(store: &mut Store) -> Option<(usize, Vec<u8>)> {
    let mut first: Option<(i64, usize, Vec<u8>)> = None;
    for index in 0..store.databases() {
        let Some(entry) = store.db_at_mut(index).first_to_expire() else { continue };
        let at = entry.expire_at().expect("a row of the expiry index names an entry with an expiry");
        if first.as_ref().is_none_or(|(best, ..)| at < *best) {
            first = Some((at, index, entry.key().to_vec()));
        }
    }
    first.map(|(_, index, key)| (index, key))
}

/// Bytes that do not count against `maxmemory`: of the log what replicas have yet to read, of snapshots what waits to be
/// encoded or sent.
pub fn not_counted_bytes(store: &Store, core: &Core) -> u64 {
    let log = core.repl.log.memory(!core.repl.replicas.is_empty()).not_counted_for_evict;
    let mut bytes = log + core.repl.payload.memory_bytes();
    if core.snapshots.is_running() {
        bytes += (0..store.databases()).map(|index| store.db_at(index).walk_pending_bytes()).sum::<usize>();
    }
    bytes as u64
}

/// Bytes above the limit.
fn excess_bytes(store: &Store, core: &Core) -> u64 {
    let limit = core.config.maxmemory.max(0) as u64;
    let used = core.env.used_memory();
    // Most of the time memory is within the limit with everything counted.
    if used <= limit {
        return 0;
    }
    used.saturating_sub(not_counted_bytes(store, core)).saturating_sub(limit)
}

/// Evicts until memory is within the limit or the time for it is over. Must not be called within a unit.
pub fn perform(store: &mut Store, core: &mut Core) -> Outcome {
    let left_alone =
        core.loading.is_some() || core.holds_writes() || (core.is_replica() && core.config.replica_ignore_maxmemory);
    if core.config.maxmemory == 0 || left_alone {
        return Outcome::Within;
    }
    let outcome = match excess_bytes(store, core) {
        0 => Outcome::Within,
        excess => evict_bytes(store, core, excess),
    };
    core.eviction.due = outcome == Outcome::Running;
    if outcome != Outcome::Within || core.eviction.exceeded_since_us.is_some() {
        let now_us = core.env.monotonic_us();
        core.eviction.note(outcome, now_us);
    }
    outcome
}

fn evict_bytes(store: &mut Store, core: &mut Core, excess: u64) -> Outcome {
    let policy = core.config.maxmemory_policy;
    if policy == Policy::NoEviction {
        return Outcome::Failed;
    }
    let samples = core.config.maxmemory_samples.max(1) as usize;
    let start_us = core.env.monotonic_us();
    let limit_us = time_limit_us(core.config.maxmemory_eviction_tenacity);
    let selected = store.selected();
    let (mut freed, mut keys, mut outcome) = (0i64, 0usize, Outcome::Within);
    while freed < excess as i64 {
        let Some((db, name)) = core.eviction.choose(store, policy, samples) else {
            outcome = wait_for_freeing(store, core, start_us, limit_us);
            break;
        };
        store.select(db);
        let before = core.env.used_memory();
        store.evict(Key::new(&name));
        // While a snapshot runs, its copy of the key may take what the key took.
        freed += before as i64 - core.env.used_memory() as i64;
        store.effects.begin_command(db as u32);
        store.note_evicted(&name);
        dispatch::end_unit(store, core);
        keys += 1;
        if keys.is_multiple_of(KEYS_BETWEEN_LOOKS) {
            if store.lazy.eviction && excess_bytes(store, core) == 0 {
                break;
            }
            if core.env.monotonic_us() - start_us > limit_us {
                outcome = Outcome::Running;
                break;
            }
        }
    }
    store.select(selected);
    // The command that waits did not take this time.
    core.start_lap();
    outcome
}

/// Nothing is left to evict, but what was evicted may be on its way.
fn wait_for_freeing(store: &mut Store, core: &mut Core, start_us: u64, limit_us: u64) -> Outcome {
    while store.reclaim.pending() > 0 && core.env.monotonic_us() - start_us < limit_us {
        if excess_bytes(store, core) == 0 {
            return Outcome::Within;
        }
        core.env.sleep(limit_us.min(1000));
    }
    Outcome::Failed
}

/// How long one cycle may take, in microseconds: nothing at 0, half a millisecond at 10, then 15 % more with each step
/// up to two minutes at 99, and without limit at 100. Redis's scale.
fn time_limit_us(tenacity: i64) -> u64 {
    match tenacity {
        ..=10 => 50 * tenacity.max(0) as u64,
        11..=99 => (500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

/// `CONFIG SET maxmemory`: the end of the turn evicts.
pub fn limit_changed(store: &Store, core: &mut Core) {
    core.eviction.due = core.config.maxmemory > 0;
    let used = core.env.used_memory().saturating_sub(not_counted_bytes(store, core));
    if core.config.maxmemory > 0 && (core.config.maxmemory as u64) < used {
        core.warning(format!(
            "WARNING: the new maxmemory value set via CONFIG SET ({}) is smaller than the current memory usage ({used}). \
             This will result in key eviction and/or the inability to accept new write commands depending on the \
             maxmemory-policy.",
            core.config.maxmemory
        ));
    }
}
