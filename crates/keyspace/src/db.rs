//! One database: entries, the index of expiries, and the snapshot that may be walking over both.
//!
//! What must stay true:
//! - every entry with an expiry has its row in [`Expires`], and no other row exists: expiries change only through
//!   [`Db::set_expire`], never through the entry itself;
//! - a hash with field expiries has a row of the earliest of them in a second index. Who changes them through
//!   [`Db::edit`] calls [`Db::settle_fields`] afterwards;
//! - nothing mutable is handed out, inserted or removed before [`Walk::save`] has copied the interval of the table
//!   that it lies in, so a snapshot sees the database as it was when it began.

use structures::hash::hash;
use structures::record::ValueRef;
use structures::table::Table;

use crate::Hash;
use crate::access::Touch;
use crate::entry::{Entry, EntryExt, new_str};
use crate::expires::Expires;
use crate::large::AtOnce;
use crate::object::Object;
use crate::reuse;
use crate::snapshot::{Batch, Guests, Walk};

/// Buckets that a sample looks at before it gives up on finding enough.
const SAMPLED_BUCKETS_MAX: usize = 16;

/// Where at least one key in so many has an expiry, those that have one are found by looking at random keys; where they
/// are fewer, in the index of expiries.
const VOLATILE_DENSE: usize = 16;

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
    /// It held a collection, within the entry or beside it.
    pub was_collection: bool,
    /// The object that it held, for the caller to free where it likes.
    pub displaced: Option<Object>,
}

#[derive(Debug, Default)]
pub struct Db {
    table: Table<Entry>,
    expires: Expires,
    /// A row for each hash that has fields with an expiry: the time of the first.
    field_expires: Expires,
    /// How many of the values are streams.
    streams: usize,
    walk: Option<Walk>,
    guests: Guests,
}

/// The contents of a database taken out of it, by `FLUSHDB` or when it is replaced: for lazy freeing, and for a
/// snapshot that has yet to finish with it.
#[derive(Debug)]
pub struct Detached {
    table: Table<Entry>,
    walk: Option<Walk>,
    guests: Guests,
}

impl Db {
    pub const fn new() -> Self {
        Db {
            table: Table::new(),
            expires: Expires::new(),
            field_expires: Expires::new(),
            streams: 0,
            walk: None,
            guests: Guests::new(),
        }
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

    /// Number of hashes that have a field with an expiry.
    #[inline]
    pub fn hashes_with_ttl(&self) -> usize {
        self.field_expires.len()
    }

    /// Number of streams.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Bytes of the tables themselves, entries not included.
    pub fn overhead_bytes(&self) -> usize {
        self.table.bytes() + self.expires.bytes() + self.field_expires.bytes()
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

    /// The entry of `key` to be changed, expired or not. The caller must not touch its expiry, and settles those of its
    /// fields.
    #[inline]
    pub fn edit(&mut self, key: Key<'_>) -> Option<&mut Entry> {
        self.save_preimage(key.hash);
        self.table.get_mut(key.hash, key.bytes)
    }

    /// In place of `arrived`, for another database, what shares memory with the entry of the same name here, if the two
    /// are equal ([`crate::reuse`]). Nothing changes here that a snapshot or a client could see.
    pub fn reuse(&mut self, hash: u64, arrived: &Entry) -> Option<Entry> {
        reuse::entry(self.table.get_to_twin(hash, arrived.key())?, arrived)
    }

    /// The collection beside the entry of `key`, for twins of its parts to be made, and nothing else.
    pub fn parts_to_reuse(&mut self, key: Key<'_>) -> Option<&mut Object> {
        self.table.get_to_twin(key.hash, key.bytes)?.payload_mut()
    }

    /// Adds `entry` under its own key, which must be absent.
    pub fn insert(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        self.save_preimage(hash);
        if let ValueRef::Payload(object) = entry.value()
            && object.copy_order().is_some()
        {
            self.follow_copy(&entry);
        }
        if let Some(at) = entry.expire_at() {
            self.expires.add(at, hash);
        }
        let entry = self.table.insert(hash, entry);
        self.streams += usize::from(matches!(entry.value(), ValueRef::Payload(Object::Stream(_))));
        settle(&mut self.field_expires, entry, hash);
        entry
    }

    /// A value that a snapshot copies in parts has come under a new name, perhaps from another database.
    #[cold]
    fn follow_copy(&mut self, entry: &Entry) {
        if !self.walk.as_mut().is_some_and(|walk| walk.follow(entry)) {
            self.guests.add(entry);
        }
    }

    pub fn remove(&mut self, key: Key<'_>) -> Option<Entry> {
        self.save_preimage(key.hash);
        let mut entry = self.table.remove(key.hash, key.bytes)?;
        if let Some(at) = entry.expire_at() {
            self.expires.remove(at, key.hash);
        }
        if let Some(object) = entry.payload_mut() {
            forget(&mut self.field_expires, &mut self.streams, object, key.hash);
        }
        Some(entry)
    }

    /// The expiries of fields of the hash `key` may have changed: puts its row where it belongs.
    pub fn settle_fields(&mut self, key: Key<'_>) {
        if let Some(entry) = self.table.get_mut(key.hash, key.bytes) {
            settle(&mut self.field_expires, entry, key.hash);
        }
    }

    /// The hash whose next field is due first, if any is due at `now_ms`.
    pub fn first_due_fields(&mut self, now_ms: i64) -> Option<&Entry> {
        let (at, hash) = self.field_expires.first_due(now_ms)?;
        let entry = self.table.find_by_hash(hash, |entry| noted_ms(entry) == Some(at));
        Some(entry.expect("each row of the index of field expiries names a hash"))
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
    /// A new key gets the clock `fresh`, one that was there is used by `touch`.
    pub fn set_str(
        &mut self,
        key: Key<'_>,
        text: &[u8],
        expire: ExpireChange,
        fresh: u32,
        touch: Touch,
    ) -> Replaced {
        self.save_preimage(key.hash);
        let Some(entry) = self.table.get_mut(key.hash, key.bytes) else {
            let at = match expire {
                ExpireChange::At(at) => Some(at),
                ExpireChange::Keep | ExpireChange::Clear => None,
            };
            let entry = new_str(key.bytes, text, at);
            entry.set_clock(fresh);
            if let Some(at) = at {
                self.expires.add(at, key.hash);
            }
            self.table.insert(key.hash, entry);
            return Replaced { found: false, expire_at: None, was_collection: false, displaced: None };
        };
        let was_packed = entry.packed_form().is_some();
        let mut displaced = entry.store_str(text);
        if let Some(object) = &mut displaced {
            forget(&mut self.field_expires, &mut self.streams, object, key.hash);
        }
        entry.set_clock(touch.apply(entry.clock()));
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
        let was_collection = was_packed || displaced.as_ref().is_some_and(|o| !matches!(o, Object::Str(_)));
        Replaced { found: true, expire_at: old, was_collection, displaced }
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

    /// Visits a random part of the database with at least `least` entries, if it has so many: whole buckets, so that
    /// each entry has the same chance.
    pub fn sample(&self, least: usize, rng: &mut dyn FnMut() -> u64, mut visit: impl FnMut(&Entry)) {
        let (mut cursor, mut seen) = (rng(), 0);
        for _ in 0..SAMPLED_BUCKETS_MAX.max(least) {
            cursor = self.table.scan(cursor, |entry| {
                seen += 1;
                visit(entry);
            });
            if seen >= least.min(self.table.len()) {
                return;
            }
        }
        // A table that was emptied has buckets without entries.
        if seen == 0
            && let Some(entry) = self.table.random(rng)
        {
            visit(entry);
        }
    }

    /// Like [`Db::sample`] among the entries that have an expiry.
    pub fn sample_volatile(
        &mut self,
        least: usize,
        rng: &mut dyn FnMut() -> u64,
        mut visit: impl FnMut(&Entry),
    ) {
        let least = least.min(self.expires.len());
        let mut seen = 0;
        if self.expires.len() >= self.table.len() / VOLATILE_DENSE {
            let mut cursor = rng();
            for _ in 0..least * VOLATILE_DENSE {
                cursor = self.table.scan(cursor, |entry| {
                    if entry.expire_at().is_some() {
                        seen += 1;
                        visit(entry);
                    }
                });
                if seen >= least {
                    return;
                }
            }
        }
        while seen < least {
            let Some((at, hash)) = self.expires.draw(rng) else { return };
            let entry = self.table.find_by_hash(hash, |entry| entry.expire_at() == Some(at));
            visit(entry.expect("each row of the expiry index names an entry"));
            seen += 1;
        }
    }

    /// The entry whose time runs out first.
    pub fn first_to_expire(&mut self) -> Option<&Entry> {
        let (at, hash) = self.expires.first()?;
        let entry = self.table.find_by_hash(hash, |entry| entry.expire_at() == Some(at));
        Some(entry.expect("each row of the expiry index names an entry"))
    }

    /// Empties the database and gives back what it held.
    pub fn detach(&mut self) -> Detached {
        self.expires = Expires::new();
        self.field_expires = Expires::new();
        self.streams = 0;
        Detached {
            table: std::mem::take(&mut self.table),
            walk: self.walk.take(),
            guests: std::mem::take(&mut self.guests),
        }
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

    /// Copies about `budget_bytes` more of values that the walk of another database waits for; what is left of the budget.
    pub fn copy_guests(&mut self, budget_bytes: usize) -> usize {
        self.guests.copy_more(&mut self.table, budget_bytes)
    }

    /// Bytes of pre-images that wait to be drained.
    pub fn walk_pending_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::pending_bytes)
    }

    pub fn abandon_walk(&mut self) {
        self.walk = None;
        self.guests = Guests::new();
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
        self.walk.is_some() || !self.guests.is_empty()
    }

    /// As [`Db::copy_guests`].
    pub fn copy_guests(&mut self, budget_bytes: usize) -> usize {
        self.guests.copy_more(&mut self.table, budget_bytes)
    }

    pub fn step_walk(&mut self, budget_bytes: usize, out: &mut Batch) -> bool {
        step(&mut self.table, &mut self.walk, budget_bytes, out)
    }

    pub fn abandon_walk(&mut self) {
        self.walk = None;
        self.guests = Guests::new();
    }

    /// Number of keys that dropping it frees.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

/// The row that a hash has in the index of field expiries.
fn noted_ms(entry: &Entry) -> Option<i64> {
    match entry.value() {
        ValueRef::Payload(Object::Hash(Hash::Table(fields))) => fields.noted_ms,
        _ => None,
    }
}

/// Makes the row of a hash in the index of field expiries that of its first field to go.
#[inline]
fn settle(index: &mut Expires, entry: &mut Entry, hash: u64) {
    let Some(Object::Hash(value)) = entry.payload_mut() else { return };
    let soonest_ms = value.soonest_ms();
    let Hash::Table(fields) = value else { return };
    let before = std::mem::replace(&mut fields.noted_ms, soonest_ms);
    if before != soonest_ms {
        if let Some(at) = before {
            index.remove(at, hash);
        }
        if let Some(at) = soonest_ms {
            index.add(at, hash);
        }
    }
}

/// An object leaves the database: takes its row out of the index of field expiries, and it off the count of streams.
#[inline]
fn forget(index: &mut Expires, streams: &mut usize, object: &mut Object, hash: u64) {
    match object {
        Object::Stream(_) => *streams -= 1,
        Object::Hash(Hash::Table(fields)) => {
            if let Some(at) = fields.noted_ms.take() {
                index.remove(at, hash);
            }
        }
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncodingLimits;

    /// A hash of the fields `names`, one letter each, that go at 1000, 2000, …
    fn hash_of(names: &str) -> Object {
        let mut hash = Hash::new();
        for (at, name) in (1..).zip(names.chars()) {
            hash.load_field(name.to_string().as_bytes(), b"v", Some(at * 1000), &EncodingLimits::default());
        }
        Object::Hash(hash)
    }

    fn add(db: &mut Db, key: &str, names: &str) {
        let entry = Entry::new_payload(key.as_bytes(), hash_of(names), None);
        db.insert(hash(key.as_bytes()), entry);
    }

    fn edit(db: &mut Db, key: &str, change: impl FnOnce(&mut Hash)) {
        let key = Key::new(key.as_bytes());
        change(&mut db.edit(key).unwrap().as_hash_mut(key.bytes).unwrap());
        db.settle_fields(key);
    }

    #[test]
    fn hashes_come_due_by_their_first_field_and_leave_the_index_with_their_last() {
        let mut db = Db::new();
        add(&mut db, "a", "abc");
        add(&mut db, "b", "x");
        edit(&mut db, "b", |hash| assert!(hash.set_expire(b"x", Some(1500))));
        assert_eq!((db.hashes_with_ttl(), db.first_due_fields(1000).is_none()), (2, true));
        assert_eq!(db.first_due_fields(1001).unwrap().key(), b"a");
        edit(&mut db, "a", |hash| assert_eq!(hash.take_due(1001, 10).len(), 1));
        assert!(db.first_due_fields(1500).is_none());
        assert_eq!(db.first_due_fields(9000).unwrap().key(), b"b");
        edit(&mut db, "b", |hash| assert!(hash.set_expire(b"x", None)));
        assert_eq!((db.hashes_with_ttl(), db.first_due_fields(9000).unwrap().key()), (1, &b"a"[..]));
        edit(&mut db, "a", |hash| assert_eq!(hash.take_due(9000, 1), [Box::from(*b"b")]));
        edit(&mut db, "a", |hash| assert!(hash.remove(b"c")));
        assert_eq!((db.hashes_with_ttl(), db.first_due_fields(i64::MAX).is_none()), (0, true));
    }

    #[test]
    fn streams_are_counted_while_they_are_there() {
        let mut db = Db::new();
        for key in ["removed", "overwritten", "renamed", "flushed"] {
            let stream = Object::Stream(Box::default());
            db.insert(hash(key.as_bytes()), Entry::new_payload(key.as_bytes(), stream, None));
        }
        add(&mut db, "hash", "a");
        assert_eq!(db.streams(), 4);
        db.remove(Key::new(b"removed"));
        db.remove(Key::new(b"hash"));
        db.set_str(Key::new(b"overwritten"), b"text", ExpireChange::Clear, 0, Touch::Lru(0));
        assert_eq!(db.streams(), 2);
        let entry = db.remove(Key::new(b"renamed")).unwrap();
        db.insert(hash(b"name"), entry.renamed(b"name"));
        assert_eq!(db.streams(), 2);
        drop(db.detach());
        assert_eq!(db.streams(), 0);
    }

    #[test]
    fn whatever_takes_a_hash_away_takes_its_row() {
        let mut db = Db::new();
        for key in ["removed", "overwritten", "renamed"] {
            add(&mut db, key, "ab");
        }
        db.remove(Key::new(b"removed"));
        db.set_str(Key::new(b"overwritten"), b"text", ExpireChange::Clear, 0, Touch::Lru(0));
        assert_eq!(db.hashes_with_ttl(), 1);
        let entry = db.remove(Key::new(b"renamed")).unwrap();
        let copy = entry.duplicate(b"copy");
        db.insert(hash(b"name"), entry.renamed(b"name"));
        db.insert(hash(b"copy"), copy);
        assert_eq!((db.hashes_with_ttl(), db.first_due_fields(1001).is_some()), (2, true));
        drop(db.detach());
        assert_eq!((db.hashes_with_ttl(), db.first_due_fields(i64::MAX).is_none()), (0, true));
    }
}
