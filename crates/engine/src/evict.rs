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

/// What encoding and writing a snapshot work with, about: batches and chunks on their way, the compressor's table.
const SNAPSHOT_WORK_BYTES: usize = 512 << 10;

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
        bytes += SNAPSHOT_WORK_BYTES;
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
    let left_alone = core.loading.is_some()
        || core.holds_writes()
        || (core.is_replica() && core.config.replica_ignore_maxmemory);
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
    if core.latency.is_on() {
        let micros = core.env.monotonic_us() - start_us;
        core.latency.note("eviction-cycle", micros, store.now_ms);
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use keyspace::Object;
    use keyspace::db::Detached;

    use super::*;
    use crate::notify::Event;
    use crate::store::Reclaim;
    use crate::testing::{Gauges, Harness};

    /// Bytes that each value is taken to hold.
    const VALUE_BYTES: u64 = 1000;
    const BASE_BYTES: u64 = 1 << 20;

    /// The allocator of the tests: a value that is freed gives its bytes back, if it is not kept waiting.
    struct Heap {
        gauges: Arc<Gauges>,
        /// Values that were handed to another thread, which does nothing until it is asked.
        waiting: Arc<AtomicU64>,
    }

    impl Reclaim for Heap {
        fn object(&mut self, _object: Object, lazily: bool) {
            if lazily {
                self.waiting.fetch_add(1, Ordering::Relaxed);
            } else {
                self.gauges.used_memory.fetch_sub(VALUE_BYTES, Ordering::Relaxed);
            }
        }

        fn database(&mut self, _contents: Detached, _lazily: bool) {}

        fn pending(&self) -> u64 {
            self.waiting.load(Ordering::Relaxed)
        }
    }

    fn harness(policy: &str) -> (Harness, Arc<AtomicU64>) {
        let mut h = Harness::new();
        // The heap hears of objects only: no list lies in its entry.
        h.node.core.config.encodings.packed_threshold = 1;
        h.node.store.limits.packed_threshold = 1;
        let waiting = Arc::new(AtomicU64::new(0));
        h.node.store.reclaim =
            Box::new(Heap { gauges: Arc::clone(&h.gauges), waiting: Arc::clone(&waiting) });
        assert_eq!(h.run(&format!("CONFIG SET maxmemory-policy {policy}")), r"+OK\r\n");
        (h, waiting)
    }

    /// Adds a list, which is the kind of value that the heap knows of, and lets memory grow by it.
    fn add(h: &mut Harness, key: &str) {
        assert_eq!(h.run(&format!("RPUSH {key} x")), r":1\r\n", "{key}");
        h.gauges.used_memory.fetch_add(VALUE_BYTES, Ordering::Relaxed);
    }

    /// Sets the limit so that `values` of them fit, without evicting yet.
    fn limit_to(h: &mut Harness, values: u64) {
        let limit = BASE_BYTES + values * VALUE_BYTES;
        assert_eq!(h.run(&format!("CONFIG SET maxmemory {limit}")), r"+OK\r\n");
    }

    fn keys(h: &mut Harness) -> usize {
        h.node.store.total_keys()
    }

    #[test]
    fn without_a_policy_what_may_grow_is_refused() {
        let (mut h, _) = harness("noeviction");
        add(&mut h, "a");
        limit_to(&mut h, 0);
        const OOM: &str = r"-OOM command not allowed when used memory > \'maxmemory\'.\r\n";
        for (line, reply) in [
            ("SET b 1", OOM),
            ("LRANGE a 0 -1", r"*1\r\n$1\r\nx\r\n"),
            ("DEL nosuch", r":0\r\n"),
            // What is queued takes memory until it runs.
            ("MULTI", r"+OK\r\n"),
            ("PING", OOM),
            ("DISCARD", r"+OK\r\n"),
            ("INFO nosuch", r"$0\r\n\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        h.run("CONFIG SET maxmemory 0");
        h.run("MULTI");
        h.run("SET b 1");
        let other = h.connect();
        h.run_on(other, &format!("CONFIG SET maxmemory {BASE_BYTES}"));
        assert_eq!(
            h.run("EXEC"),
            r"-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \'maxmemory\'.\r\n"
        );
        assert_eq!((keys(&mut h), h.node.store.stats.evicted_keys), (1, 0));
        h.advance_ms(1500);
        let info = h.run("INFO stats");
        assert!(info.contains(r"\r\ncurrent_eviction_exceeded_time:1500\r\n"), "{info}");
        assert_eq!(h.run("DEL a"), r":1\r\n");
        h.advance_ms(1000);
        let info = h.run("INFO stats");
        assert!(info.contains(r"\r\ntotal_eviction_exceeded_time:2500\r\n"), "{info}");
        assert!(info.contains(r"\r\ncurrent_eviction_exceeded_time:0\r\n"), "{info}");
        assert_eq!(h.run("SET b 1"), r"+OK\r\n");
        h.run("CONFIG RESETSTAT");
        assert!(h.run("INFO stats").contains(r"\r\ntotal_eviction_exceeded_time:0\r\n"));
    }

    #[test]
    fn a_lower_limit_evicts_at_the_end_of_the_turn_and_propagates_deletions() {
        let (mut h, _) = harness("allkeys-lru");
        for key in ["a", "b", "c"] {
            add(&mut h, key);
        }
        h.propagated();
        limit_to(&mut h, 1);
        assert_eq!(keys(&mut h), 3);
        assert!(h.node.is_busy());
        h.node.before_sleep();
        assert!(!h.node.is_busy());
        assert_eq!((keys(&mut h), h.node.store.stats.evicted_keys), (1, 2));
        let propagated = h.propagated();
        assert_eq!(propagated.len(), 2, "each deletion is a unit of its own: {propagated:?}");
        assert!(propagated.iter().all(|command| command.starts_with("DEL ")), "{propagated:?}");
    }

    #[test]
    fn lazy_eviction_propagates_unlink_and_waits_for_the_memory() {
        let (mut h, waiting) = harness("allkeys-random");
        h.run("CONFIG SET lazyfree-lazy-eviction yes");
        add(&mut h, "a");
        h.propagated();
        limit_to(&mut h, 0);
        // The other thread does not get on: nothing is left to evict, and the time to wait for it is over.
        h.gauges.us_per_reading.store(200, Ordering::Relaxed);
        assert!(h.run("SET b 1").starts_with("-OOM"));
        assert_eq!(h.propagated(), ["UNLINK a"]);
        h.gauges.used_memory.fetch_sub(VALUE_BYTES, Ordering::Relaxed);
        waiting.store(0, Ordering::Relaxed);
        assert_eq!(h.run("SET b 1"), r"+OK\r\n");
    }

    #[test]
    fn eviction_is_an_event_and_breaks_a_watch() {
        let (mut h, _) = harness("allkeys-lru");
        add(&mut h, "a");
        let other = h.connect();
        h.run_on(other, "WATCH a");
        h.run(&format!("CONFIG SET maxmemory {BASE_BYTES}"));
        let events = h.events("PING");
        assert_eq!(events.len(), 1);
        assert_eq!(
            (events[0].class, events[0].name, &*events[0].key),
            (Event::EVICTED, "evicted", &b"a"[..])
        );
        h.run("CONFIG SET maxmemory 0");
        h.run_on(other, "MULTI");
        assert_eq!(h.run_on(other, "EXEC"), r"*-1\r\n");
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let (mut h, _) = harness("allkeys-lru");
        for n in 0..100 {
            add(&mut h, &format!("k{n}"));
            h.advance_ms(1000);
        }
        // The first half is used again.
        for n in 0..50 {
            h.run(&format!("LLEN k{n}"));
        }
        h.run("CONFIG SET maxmemory-samples 50");
        limit_to(&mut h, 60);
        h.node.before_sleep();
        let kept = (0..50).filter(|n| h.run(&format!("EXISTS k{n}")) == r":1\r\n").count();
        assert_eq!((keys(&mut h), kept), (60, 50));
    }

    #[test]
    fn the_least_frequently_used_go_first() {
        let (mut h, _) = harness("allkeys-lfu");
        for n in 0..40 {
            add(&mut h, &format!("k{n}"));
        }
        for n in 0..10 {
            (0..100).for_each(|_| assert_eq!(h.run(&format!("LLEN k{n}")), r":1\r\n"));
        }
        h.run("CONFIG SET maxmemory-samples 40");
        limit_to(&mut h, 15);
        h.node.before_sleep();
        let kept = (0..10).filter(|n| h.run(&format!("EXISTS k{n}")) == r":1\r\n").count();
        assert_eq!((keys(&mut h), kept), (15, 10));
    }

    #[test]
    fn volatile_policies_take_only_what_expires() {
        for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
            // Few among many, and many among few: they are found in two ways.
            for (volatile, others) in [(3, 200), (40, 10)] {
                let (mut h, _) = harness(policy);
                for n in 0..others {
                    add(&mut h, &format!("k{n}"));
                }
                h.run("SELECT 5");
                for n in 0..volatile {
                    add(&mut h, &format!("v{n}"));
                    h.run(&format!("EXPIRE v{n} {}", 1000 - n));
                }
                h.run("SELECT 0");
                limit_to(&mut h, others + 1);
                h.node.before_sleep();
                assert_eq!(
                    (keys(&mut h), h.node.store.db_at(0).len()),
                    (others as usize + 1, others as usize)
                );
                if policy == "volatile-ttl" {
                    assert!(
                        h.node.store.db_at(5).peek(Key::new(b"v0")).is_some(),
                        "the last to expire stays"
                    );
                }
                // Nothing volatile is left for this.
                limit_to(&mut h, others - 1);
                assert!(h.run("SET x 1").starts_with("-OOM"), "{policy}");
                assert_eq!(keys(&mut h), others as usize);
            }
        }
    }

    #[test]
    fn random_policies_take_from_each_database() {
        let (mut h, _) = harness("allkeys-random");
        for db in [0, 1, 9] {
            h.run(&format!("SELECT {db}"));
            (0..30).for_each(|n| add(&mut h, &format!("k{n}")));
        }
        limit_to(&mut h, 60);
        h.node.before_sleep();
        for db in [0, 1, 9] {
            assert_eq!(h.node.store.db_at(db).len(), 20);
        }
    }

    #[test]
    fn a_cycle_ends_when_its_time_is_over_and_goes_on_in_the_next_turn() {
        let (mut h, _) = harness("allkeys-lru");
        (0..200).for_each(|n| add(&mut h, &format!("k{n}")));
        h.gauges.us_per_reading.store(501, Ordering::Relaxed);
        limit_to(&mut h, 100);
        // Writes are let through meanwhile.
        assert_eq!(h.run("SET k 1"), r"+OK\r\n");
        assert_eq!(h.node.store.stats.evicted_keys, 16);
        assert!(h.node.is_busy());
        let mut turns = 0;
        while h.node.is_busy() {
            h.node.before_sleep();
            turns += 1;
        }
        assert!(
            (100..=101).contains(&h.node.store.stats.evicted_keys),
            "{}",
            h.node.store.stats.evicted_keys
        );
        assert_eq!(turns, 6);
        assert_eq!([0, 1, 10, 11, 30].map(time_limit_us), [0, 50, 500, 575, 8183]);
        assert!((110_000_000..130_000_000).contains(&time_limit_us(99)), "{}", time_limit_us(99));
        assert_eq!(time_limit_us(100), u64::MAX);
    }

    #[test]
    fn a_candidate_that_was_used_since_is_none() {
        let (mut h, _) = harness("allkeys-lru");
        for key in ["a", "b"] {
            add(&mut h, key);
            h.advance_ms(10_000);
        }
        let mut eviction = Eviction::default();
        h.node.begin_turn();
        eviction.offer(20, 0, b"a");
        eviction.offer(10, 0, b"b");
        eviction.offer(30, 0, b"gone");
        h.run("LLEN a");
        let chosen = eviction.choose(&mut h.node.store, Policy::AllKeysLru, 5);
        assert_eq!(chosen, Some((0, b"b".to_vec())));
    }

    #[test]
    fn the_pool_keeps_the_best() {
        let mut eviction = Eviction::default();
        for n in 0..100u32 {
            eviction.offer(n * 37 % 100, 0, &n.to_le_bytes());
            eviction.offer(n * 37 % 100, 0, &n.to_le_bytes());
        }
        let spares: Vec<u32> = eviction.pool.iter().map(|candidate| candidate.spare).collect();
        assert_eq!(spares, (84..100).collect::<Vec<u32>>());
    }

    #[test]
    fn the_log_does_not_count() {
        let (mut h, _) = harness("allkeys-lru");
        add(&mut h, "a");
        limit_to(&mut h, 1);
        // A megabyte of effects that a replica has yet to read.
        h.node.core.config.repl_backlog_size = 16 << 10;
        h.node.core.apply_config();
        for _ in 0..10 {
            h.run_args(&[b"SET", b"s", &[b'v'; 100_000]]);
        }
        let log = not_counted_bytes(&h.node.store, &h.node.core);
        assert!(log > 900_000, "{log}");
        h.gauges.used_memory.fetch_add(log, Ordering::Relaxed);
        assert_eq!(h.run("EXISTS a"), r":1\r\n");
        h.gauges.used_memory.fetch_add(100, Ordering::Relaxed);
        h.run("PING");
        assert!(h.node.store.stats.evicted_keys > 0, "what exceeds the limit without the log does");
    }

    #[test]
    fn a_replica_leaves_it_to_its_primary() {
        let (mut h, _) = harness("allkeys-lru");
        add(&mut h, "a");
        h.run("REPLICAOF 127.0.0.1 1");
        limit_to(&mut h, 0);
        h.node.before_sleep();
        h.node.tick();
        assert_eq!(h.run("EXISTS a"), r":1\r\n");
        h.run("CONFIG SET replica-ignore-maxmemory no");
        h.node.tick();
        assert_eq!(keys(&mut h), 0);
    }
}
