//! One database: entries, the index of expiries, and the snapshot that may be walking over both.
//!
//! What must stay true:
//! - every entry with an expiry has its row in [`Expires`], and no other row exists: expiries change only through
//!   [`Db::set_expire`], never through the entry itself;
//! - nothing mutable is handed out, inserted or removed before [`Walk::save`] has copied the interval of the table
//!   that it lies in, so a snapshot sees the database as it was when it began.

use structures::hash::hash;
use structures::table::Table;

use crate::entry::{Entry, EntryExt, new_str};
use crate::expires::Expires;
use crate::large::AtOnce;
use crate::object::Object;
use crate::snapshot::{Batch, Walk};

/// A key with its hash, computed once per command.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub hash: u64,
}

impl<'a> Key<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Key { bytes, hash: hash(bytes) }
    }
}

/// What a write does to the expiry of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpireChange {
    Keep,
    Clear,
    At(i64),
}

/// What [`Db::set_str`] wrote over.
#[derive(Debug)]
pub struct Replaced {
    /// The key was there, perhaps expired.
    pub found: bool,
    /// Its expiry, in milliseconds since the epoch.
    pub expire_at: Option<i64>,
    /// The object that it held, for the caller to free where it likes.
    pub displaced: Option<Object>,
}

#[derive(Debug, Default)]
pub struct Db {
    table: Table<Entry>,
    expires: Expires,
    walk: Option<Walk>,
}

/// The contents of a database taken out of it, by `FLUSHDB` or when it is replaced: for lazy freeing, and for a
/// snapshot that has yet to finish with it.
#[derive(Debug)]
pub struct Detached {
    table: Table<Entry>,
    walk: Option<Walk>,
}

impl Db {
    pub const fn new() -> Self {
        Db { table: Table::new(), expires: Expires::new(), walk: None }
    }

    /// Number of keys, expired ones that were not deleted yet included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn expires(&self) -> &Expires {
        &self.expires
    }

    /// Bytes of the tables themselves, entries not included.
    pub fn overhead_bytes(&self) -> usize {
        self.table.bytes() + self.expires.bytes()
    }

    /// Makes room for `keys` keys at once, before a load.
    pub fn reserve(&mut self, keys: usize) {
        self.table.reserve(keys);
    }

    /// Brings the bucket of `hash` towards the cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    /// Brings the entries that `hash` may name towards the cache; after [`Db::prefetch`] had time to arrive.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.table.prefetch_entry(hash);
    }

    /// The entry of `key`, expired or not.
    #[inline]
    pub fn peek(&self, key: Key<'_>) -> Option<&Entry> {
        self.table.get(key.hash, key.bytes)
    }

    /// The entry of `key` to be changed, expired or not. The caller must not touch its expiry.
    #[inline]
    pub fn edit(&mut self, key: Key<'_>) -> Option<&mut Entry> {
        self.save_preimage(key.hash);
        self.table.get_mut(key.hash, key.bytes)
    }

    /// Adds `entry` under its own key, which must be absent.
    pub fn insert(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        self.save_preimage(hash);
        if let Some(walk) = &mut self.walk {
            walk.follow(&entry);
        }
        if let Some(at) = entry.expire_at() {
            self.expires.add(at, hash);
        }
        self.table.insert(hash, entry)
    }

    pub fn remove(&mut self, key: Key<'_>) -> Option<Entry> {
        self.save_preimage(key.hash);
        let entry = self.table.remove(key.hash, key.bytes)?;
        if let Some(at) = entry.expire_at() {
            self.expires.remove(at, key.hash);
        }
        Some(entry)
    }

    /// Sets or clears the expiry; false if there is no such key.
    pub fn set_expire(&mut self, key: Key<'_>, at_ms: Option<i64>) -> bool {
        self.save_preimage(key.hash);
        let Some(entry) = self.table.get_mut(key.hash, key.bytes) else { return false };
        if let Some(old) = entry.expire_at() {
            self.expires.remove(old, key.hash);
        }
        entry.set_expire_at(at_ms);
        if let Some(at) = at_ms {
            self.expires.add(at, key.hash);
        }
        true
    }

    /// `SET`: stores a string whatever the key held. One look-up, and in place when the sizes allow it.
    pub fn set_str(&mut self, key: Key<'_>, text: &[u8], expire: ExpireChange, clock: u32) -> Replaced {
        self.save_preimage(key.hash);
        let Some(entry) = self.table.get_mut(key.hash, key.bytes) else {
            let at = match expire {
                ExpireChange::At(at) => Some(at),
                ExpireChange::Keep | ExpireChange::Clear => None,
            };
            let entry = new_str(key.bytes, text, at);
            entry.set_clock(clock);
            if let Some(at) = at {
                self.expires.add(at, key.hash);
            }
            self.table.insert(key.hash, entry);
            return Replaced { found: false, expire_at: None, displaced: None };
        };
        let displaced = entry.store_str(text);
        entry.set_clock(clock);
        let old = entry.expire_at();
        let new = match expire {
            ExpireChange::Keep => old,
            ExpireChange::Clear => None,
            ExpireChange::At(at) => Some(at),
        };
        if old != new {
            entry.set_expire_at(new);
            if let Some(at) = old {
                self.expires.remove(at, key.hash);
            }
            if let Some(at) = new {
                self.expires.add(at, key.hash);
            }
        }
        Replaced { found: true, expire_at: old, displaced }
    }

    /// The key whose time ran out first, if any is due at `now_ms`.
    pub fn first_due(&mut self, now_ms: i64) -> Option<&Entry> {
        let (at, hash) = self.expires.first_due(now_ms)?;
        let entry = self.table.find_by_hash(hash, |entry| entry.expire_at() == Some(at));
        Some(entry.expect("each row of the expiry index names an entry"))
    }

    /// Visits one bucket of the table per call, as `SCAN` does; 0 starts and ends.
    pub fn scan(&self, cursor: u64, visit: impl FnMut(&Entry)) -> u64 {
        self.table.scan(cursor, visit)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// A random entry, each with the same chance.
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<&Entry> {
        self.table.random(rng)
    }

    /// Empties the database and gives back what it held.
    pub fn detach(&mut self) -> Detached {
        self.expires = Expires::new();
        Detached { table: std::mem::take(&mut self.table), walk: self.walk.take() }
    }

    /// Starts a point-in-time walk; the database is number `index` in the snapshot.
    pub fn begin_walk(&mut self, index: u32, at_once: AtOnce) {
        debug_assert!(self.walk.is_none(), "one snapshot walks a database at a time");
        if !self.table.is_empty() {
            self.walk = Some(Walk::begin(index, &self.table, self.expires.len(), at_once));
        }
    }

    /// Copies about `budget_bytes` more of what the walk has not reached into `out`; true when nothing is left.
    pub fn step_walk(&mut self, budget_bytes: usize, out: &mut Batch) -> bool {
        step(&mut self.table, &mut self.walk, budget_bytes, out)
    }

    /// Pre-images that writes have saved since the last call move to `out`. True if there were any.
    pub fn drain_walk(&mut self, out: &mut Batch) -> bool {
        self.walk.as_mut().is_some_and(|walk| walk.drain(out))
    }

    /// The parts of a value are to follow each other: until it is complete, nothing else may go to the snapshot.
    pub fn is_walk_within_value(&self) -> bool {
        self.walk.as_ref().is_some_and(Walk::is_within_value)
    }

    /// Like [`Db::remove`], for an entry that goes to another database: a snapshot of this one is done with it then.
    pub fn remove_for_another(&mut self, key: Key<'_>) -> Option<Entry> {
        self.save_preimage(key.hash);
        if let Some(walk) = &mut self.walk {
            walk.finish_value(&mut self.table, key.hash, key.bytes);
        }
        self.remove(key)
    }

    /// Bytes of pre-images that wait to be drained.
    pub fn walk_pending_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::pending_bytes)
    }

    pub fn abandon_walk(&mut self) {
        self.walk = None;
    }

    #[inline]
    fn save_preimage(&mut self, hash: u64) {
        if let Some(walk) = &mut self.walk {
            walk.save(&mut self.table, hash);
        }
    }
}

impl Detached {
    /// As [`Db::is_walk_within_value`].
    pub fn is_walk_within_value(&self) -> bool {
        self.walk.as_ref().is_some_and(Walk::is_within_value)
    }

    /// True while a snapshot still has to read from it.
    pub fn is_walked(&self) -> bool {
        self.walk.is_some()
    }

    pub fn step_walk(&mut self, budget_bytes: usize, out: &mut Batch) -> bool {
        step(&mut self.table, &mut self.walk, budget_bytes, out)
    }

    pub fn abandon_walk(&mut self) {
        self.walk = None;
    }

    /// Number of keys that dropping it frees.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

fn step(table: &mut Table<Entry>, walk: &mut Option<Walk>, budget_bytes: usize, out: &mut Batch) -> bool {
    let Some(running) = walk else { return true };
    let done = running.step(table, budget_bytes, out);
    if done {
        *walk = None;
    }
    done
}
