//! The databases as commands see them: logical look-ups that know about time, and the effects of changing things.
//!
//! A look-up of a key whose time has run out finds nothing. On a primary it also deletes the key and propagates that,
//! on a replica the key stays until the primary says so. Every change goes through here so that it is counted,
//! watched, notified and propagated; handlers borrow the store apart from their reply and arguments.

use keyspace::db::{Detached, ExpireChange};
use keyspace::entry::new_object;
use keyspace::{
    AccessClock, Db, Edit, EncodingLimits, Entry, EntryExt, Hash, HashRef, Key, List, ListRef, Object, Set,
    SetRef, Str, Stream, Touch, Type, Value, WrongType, ZSet, ZSetRef,
};

use crate::effects::Effects;
use crate::functions::Functions;
use crate::key_waits::KeyWaits;
use crate::notify::{Event, Notifications};
use crate::own_expiries::OwnExpiries;
use crate::watch::{Presence, WatchTable};

/// How this node treats keys whose time has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// A primary: they are deleted, and the deletion is propagated.
    #[default]
    Delete,
    /// A replica: they are hidden from clients, and stay until the primary deletes them.
    Hide,
    /// The stream of the primary is being applied: every key is as alive as the primary says.
    Ignore,
}

/// Counters of look-ups, as `INFO stats` names them.
#[derive(Debug, Default, Clone)]
pub struct LookupStats {
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    /// Fields of hashes: `expired_subkeys`.
    pub expired_fields: u64,
    pub evicted_keys: u64,
}

/// What happens to the memory of a displaced value.
pub trait Reclaim {
    /// Takes an object to be dropped; `lazily` asks for another thread if it is worth it.
    fn object(&mut self, object: Object, lazily: bool);
    /// Takes the contents of a whole database.
    fn database(&mut self, contents: Detached, lazily: bool);
    /// Objects that wait to be freed elsewhere, a database counted by its keys: `lazyfree_pending_objects`.
    fn pending(&self) -> u64 {
        0
    }
    /// Objects that were freed elsewhere: `lazyfreed_objects`.
    fn freed(&self) -> u64 {
        0
    }
    /// `CONFIG RESETSTAT`: counts freed objects from 0.
    fn reset_freed(&mut self) {}
}

/// Drops everything at once, on the thread that asks.
#[derive(Debug, Default)]
pub struct DropNow;

impl Reclaim for DropNow {
    fn object(&mut self, _object: Object, _lazily: bool) {}
    fn database(&mut self, _contents: Detached, _lazily: bool) {}
}

/// `lazyfree-*`: where freeing may happen on another thread.
#[derive(Debug, Clone, Default)]
pub struct LazyFree {
    pub expire: bool,
    pub server_del: bool,
    pub user_del: bool,
    pub user_flush: bool,
    pub eviction: bool,
}

pub struct Store {
    dbs: Vec<Db>,
    selected: usize,
    /// Wall clock of the running unit in milliseconds: taken once, so that a unit sees one time.
    pub now_ms: i64,
    /// How accesses are counted, and the time of the running unit for it.
    pub access: AccessClock,
    /// The session that runs leaves access clocks alone: `CLIENT NO-TOUCH`.
    pub no_touch: bool,
    pub expiry: Expiry,
    pub limits: EncodingLimits,
    pub lazy: LazyFree,
    pub effects: Effects,
    pub watched: WatchTable,
    pub key_waits: KeyWaits,
    pub notifications: Notifications,
    pub stats: LookupStats,
    pub reclaim: Box<dyn Reclaim + Send>,
    /// Contents that were flushed while a snapshot had yet to read them: it takes them over.
    pub orphans: Vec<Detached>,
    /// What this node has to delete although it is a replica.
    pub own_expiries: OwnExpiries,
    /// Function libraries: of the data set, but of none of its databases.
    pub functions: Functions,
    rng: u64,
}

impl Store {
    pub fn new(databases: usize, seed: u64) -> Store {
        Store {
            dbs: (0..databases).map(|_| Db::new()).collect(),
            selected: 0,
            now_ms: 0,
            access: AccessClock::default(),
            no_touch: false,
            expiry: Expiry::default(),
            limits: EncodingLimits::default(),
            lazy: LazyFree::default(),
            effects: Effects::default(),
            watched: WatchTable::default(),
            key_waits: KeyWaits::default(),
            notifications: Notifications::default(),
            stats: LookupStats::default(),
            reclaim: Box::new(DropNow),
            orphans: Vec::new(),
            own_expiries: OwnExpiries::default(),
            functions: Functions::default(),
            rng: seed | 1,
        }
    }

    // ---- databases ----

    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    pub fn selected(&self) -> usize {
        self.selected
    }

    /// Look-ups and changes go to database `index`, which exists.
    #[inline]
    pub fn select(&mut self, index: usize) {
        debug_assert!(index < self.dbs.len());
        self.selected = index;
    }

    /// The selected database, physically: expired keys are visible, nothing is counted or propagated.
    #[inline]
    pub fn db(&self) -> &Db {
        &self.dbs[self.selected]
    }

    /// The selected database, physically. Changes made through it are nobody's effects: for loading and expiry.
    #[inline]
    pub fn db_mut(&mut self) -> &mut Db {
        &mut self.dbs[self.selected]
    }

    pub fn db_at(&self, index: usize) -> &Db {
        &self.dbs[index]
    }

    pub fn db_at_mut(&mut self, index: usize) -> &mut Db {
        &mut self.dbs[index]
    }

    /// A database, and the limits that its values keep.
    #[inline]
    pub fn db_and_limits(&mut self, index: usize) -> (&mut Db, &EncodingLimits) {
        (&mut self.dbs[index], &self.limits)
    }

    /// Exchanges the contents of two databases and signals the watchers of keys that differ in existence.
    pub fn swap_dbs(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (low, high) = (a.min(b), a.max(b));
        let (head, tail) = self.dbs.split_at_mut(high);
        std::mem::swap(&mut head[low], &mut tail[0]);
        for db in [a, b] {
            let other = if db == a { b } else { a };
            let (here, there) = (&self.dbs[db], &self.dbs[other]);
            let now_ms = self.now_ms;
            self.watched
                .touch_db(db as u32, |key| (presence(there, key, now_ms), presence(here, key, now_ms)));
            self.key_waits.signal_replaced(db as u32, |key| here.peek(Key::new(key)).is_some());
        }
    }

    /// Replaces all databases, as a replica does when a complete data set has arrived, and signals the watchers of
    /// keys that are in the old one or the new one.
    pub fn replace_dbs(&mut self, dbs: Vec<Db>) -> Vec<Db> {
        debug_assert_eq!(dbs.len(), self.dbs.len());
        self.own_expiries.clear();
        for (index, (old, new)) in self.dbs.iter().zip(&dbs).enumerate() {
            let now_ms = self.now_ms;
            self.watched
                .touch_db(index as u32, |key| (presence(old, key, now_ms), presence(new, key, now_ms)));
            self.key_waits.signal_replaced(index as u32, |key| new.peek(Key::new(key)).is_some());
        }
        std::mem::replace(&mut self.dbs, dbs)
    }

    /// Empties database `index`; returns the number of keys it had.
    pub fn flush_db(&mut self, index: usize, lazily: bool) -> usize {
        self.own_expiries.clear_db(index as u32);
        let db = &mut self.dbs[index];
        let keys = db.len();
        let now_ms = self.now_ms;
        self.watched.touch_db(index as u32, |key| (presence(db, key, now_ms), Presence::Absent));
        self.key_waits.signal_replaced(index as u32, |_| false);
        let contents = db.detach();
        if contents.is_walked() {
            self.orphans.push(contents);
        } else {
            self.reclaim.database(contents, lazily);
        }
        keys
    }

    /// Keys in all databases.
    pub fn total_keys(&self) -> usize {
        self.dbs.iter().map(Db::len).sum()
    }

    /// True if there is a stream: snapshots need a version that holds all of it.
    pub fn has_streams(&self) -> bool {
        self.dbs.iter().any(|db| db.streams() > 0)
    }

    /// True if a field of a hash has an expiry: snapshots need a version that can hold it.
    pub fn has_field_ttl(&self) -> bool {
        self.dbs.iter().any(|db| db.hashes_with_ttl() > 0)
    }

    /// A random number from the store's own generator (xorshift64*), seeded once by the owner.
    #[inline]
    pub fn random(&mut self) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A closure over [`Store::random`]'s generator for functions that take one beside a borrow of the data.
    pub fn fork_rng(&mut self) -> impl FnMut() -> u64 + use<> {
        let mut state = self.random() | 1;
        move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    // ---- look-ups ----

    /// A use of a key by the session that runs.
    #[inline]
    fn touch(&mut self) -> Touch {
        if self.no_touch {
            return Touch::No;
        }
        let access = self.access;
        access.touch(|| self.random())
    }

    /// The entry of `key` for reading: alive, counted as hit or miss, its access clock touched.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<&Entry> {
        let touch = self.touch();
        let entry = self.read_untouched(key)?;
        entry.set_clock(touch.apply(entry.clock()));
        Some(entry)
    }

    /// Like [`Store::read`] but leaves the access clock alone (`TTL`, `TYPE`, `EXISTS`).
    #[inline]
    pub fn read_untouched(&mut self, key: Key<'_>) -> Option<&Entry> {
        // The look-up that must be able to delete is paid only where keys can expire.
        let alive = self.db().expires().is_empty() || self.is_alive(key);
        let found = if alive { self.dbs[self.selected].peek(key) } else { None };
        if found.is_some() {
            self.stats.keyspace_hits += 1;
        } else {
            self.stats.keyspace_misses += 1;
            if self.notifications.wants(Event::KEY_MISS) {
                self.notifications.raise(Event::KEY_MISS, "keymiss", self.selected as u32, key.bytes);
            }
        }
        found
    }

    /// Like [`Store::read`] but leaves counters and the access clock alone (`OBJECT`, `TTL`, `DEBUG`).
    pub fn peek(&mut self, key: Key<'_>) -> Option<&Entry> {
        if !self.is_alive(key) {
            return None;
        }
        self.dbs[self.selected].peek(key)
    }

    /// The entry of `key` to be changed, alive. The caller must not touch its expiry. After `None` there is no entry
    /// of this name, not even an expired one: a replica that takes writes deletes it as well.
    #[inline(always)]
    pub fn write(&mut self, key: Key<'_>) -> Option<&mut Entry> {
        if !self.db().expires().is_empty() && !self.is_alive(key) {
            if self.expiry == Expiry::Hide && self.db().peek(key).is_some() {
                self.expire_now(key);
            }
            return None;
        }
        let touch = self.touch();
        let entry = self.dbs[self.selected].edit(key)?;
        entry.set_clock(touch.apply(entry.clock()));
        Some(entry)
    }

    /// True if the key exists and its time has not run out; deletes it if it has and this node may.
    #[inline(never)]
    pub fn is_alive(&mut self, key: Key<'_>) -> bool {
        let Some(entry) = self.dbs[self.selected].peek(key) else { return false };
        if !entry.is_expired(self.now_ms) {
            return true;
        }
        match self.expiry {
            Expiry::Ignore => true,
            Expiry::Hide => false,
            Expiry::Delete => {
                self.expire_now(key);
                false
            }
        }
    }

    pub fn read_str(&mut self, key: Key<'_>) -> Result<Option<Str<'_>>, WrongType> {
        self.read(key).map(EntryExt::as_str).transpose()
    }

    pub fn read_list(&mut self, key: Key<'_>) -> Result<Option<ListRef<'_>>, WrongType> {
        self.read(key).map(EntryExt::as_list).transpose()
    }

    pub fn read_set(&mut self, key: Key<'_>) -> Result<Option<SetRef<'_>>, WrongType> {
        self.read(key).map(EntryExt::as_set).transpose()
    }

    pub fn read_hash(&mut self, key: Key<'_>) -> Result<Option<HashRef<'_>>, WrongType> {
        self.read(key).map(EntryExt::as_hash).transpose()
    }

    pub fn read_zset(&mut self, key: Key<'_>) -> Result<Option<ZSetRef<'_>>, WrongType> {
        self.read(key).map(EntryExt::as_zset).transpose()
    }

    pub fn read_stream(&mut self, key: Key<'_>) -> Result<Option<&Stream>, WrongType> {
        self.read(key).map(EntryExt::as_stream).transpose()
    }

    #[inline]
    pub fn write_list<'a>(&'a mut self, key: Key<'a>) -> Result<Option<Edit<'a, List>>, WrongType> {
        let (fill, threshold) = (self.limits.list_fill, self.limits.packed_threshold);
        let Some(entry) = self.write(key) else { return Ok(None) };
        let mut list = entry.as_list_mut(key.bytes)?;
        list.set_limits(fill, threshold);
        Ok(Some(list))
    }

    pub fn write_set<'a>(&'a mut self, key: Key<'a>) -> Result<Option<Edit<'a, Set>>, WrongType> {
        self.write(key).map(|entry| entry.as_set_mut(key.bytes)).transpose()
    }

    pub fn write_hash<'a>(&'a mut self, key: Key<'a>) -> Result<Option<Edit<'a, Hash>>, WrongType> {
        self.write(key).map(|entry| entry.as_hash_mut(key.bytes)).transpose()
    }

    pub fn write_zset<'a>(&'a mut self, key: Key<'a>) -> Result<Option<Edit<'a, ZSet>>, WrongType> {
        self.write(key).map(|entry| entry.as_zset_mut(key.bytes)).transpose()
    }

    #[inline]
    pub fn write_stream(&mut self, key: Key<'_>) -> Result<Option<&mut Stream>, WrongType> {
        self.write(key).map(EntryExt::as_stream_mut).transpose()
    }

    /// Changes the stream at `key`, which was just found, and the effects beside it.
    pub fn edit_stream<R>(&mut self, key: Key<'_>, change: impl FnOnce(&mut Stream, &mut Effects) -> R) -> R {
        const FOUND: &str = "the stream was just found";
        let touch = self.touch();
        let entry = self.dbs[self.selected].edit(key).expect(FOUND);
        entry.set_clock(touch.apply(entry.clock()));
        change(entry.as_stream_mut().expect(FOUND), &mut self.effects)
    }

    // ---- changes ----

    /// Adds a value under a key that must not exist (not even expired: look it up first).
    pub fn add(&mut self, key: Key<'_>, object: Object) -> &mut Entry {
        self.add_entry(key.hash, new_object(key.bytes, object, None))
    }

    /// Adds a ready entry under its own key, which must not exist.
    pub fn add_entry(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        self.notify(Event::NEW, "new", entry.key());
        self.place(hash, entry)
    }

    /// Inserts an entry whose key was there a moment ago, or has been announced.
    fn place(&mut self, hash: u64, entry: Entry) -> &mut Entry {
        entry.set_clock(self.access.fresh());
        if self.expiry == Expiry::Hide {
            let key = Key { bytes: entry.key(), hash };
            self.dbs[self.selected].remove(key);
            if let Some(at) = entry.expire_at() {
                self.own_expiries.note(self.selected as u32, entry.key(), at);
            }
        }
        if !self.key_waits.is_empty() && !matches!(entry.type_of(), Type::String | Type::Set | Type::Hash) {
            self.key_waits.signal(self.selected as u32, entry.key());
        }
        self.dbs[self.selected].insert(hash, entry)
    }

    /// Stores `object` under `key` whatever it held, without an expiry. A key that was alive is not a new one.
    pub fn put(&mut self, key: Key<'_>, object: Object) {
        let is_new = !self.is_alive(key);
        let mut clock = self.access.fresh();
        if let Some(entry) = self.take(key) {
            // Another value is as often asked for as the one before it.
            if self.access.lfu.is_some() {
                clock = self.touch().apply(entry.clock());
            }
            self.free_entry(entry, self.lazy.server_del);
        }
        let entry = new_object(key.bytes, object, None);
        let entry = if is_new { self.add_entry(key.hash, entry) } else { self.place(key.hash, entry) };
        entry.set_clock(clock);
    }

    /// Stores a string under `key` whatever it held. One look-up; two if an expiry is to be kept.
    #[inline]
    pub fn set_str(&mut self, key: Key<'_>, text: &[u8], expire: ExpireChange) {
        if expire == ExpireChange::Keep {
            // What has expired is no expiry to keep.
            self.write(key);
        }
        let fresh = self.access.fresh();
        // Without counts a new value is a new start, whoever sets it.
        let touch = if self.access.lfu.is_some() { self.touch() } else { Touch::Lru(fresh) };
        let replaced = self.dbs[self.selected].set_str(key, text, expire, fresh, touch);
        if replaced.was_collection {
            self.key_waits.signal_gone(self.selected as u32, key.bytes);
        }
        if let Some(object) = replaced.displaced {
            self.reclaim.object(object, self.lazy.server_del);
        }
        let expired = replaced.expire_at.is_some_and(|at| self.now_ms > at) && self.expiry != Expiry::Ignore;
        if expired {
            self.note_expired(key.bytes);
        }
        if expired || !replaced.found {
            self.notify(Event::NEW, "new", key.bytes);
        }
        if let (Expiry::Hide, ExpireChange::At(at)) = (self.expiry, expire) {
            self.own_expiries.note(self.selected as u32, key.bytes, at);
        }
    }

    /// Deletes a key as `DEL` does; true if it was alive. The effects of the deletion are the caller's to tell.
    pub fn delete(&mut self, key: Key<'_>, lazily: bool) -> bool {
        let Some(entry) = self.take(key) else { return false };
        let expired = self.expiry == Expiry::Delete && entry.is_expired(self.now_ms);
        self.free_entry(entry, lazily);
        if expired {
            self.note_expired(key.bytes);
        }
        !expired
    }

    /// Deletes a key, alive or not, without any effect but its absence; true if it was there.
    pub fn delete_quietly(&mut self, key: Key<'_>, lazily: bool) -> bool {
        match self.dbs[self.selected].remove(key) {
            Some(entry) => {
                self.key_waits.signal_gone(self.selected as u32, key.bytes);
                self.free_entry(entry, lazily);
                true
            }
            None => false,
        }
    }

    /// Removes and returns the entry of `key`, alive or not.
    pub fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        self.key_waits.signal_gone(self.selected as u32, key.bytes);
        self.dbs[self.selected].remove(key)
    }

    /// Says that a value that was there already has got what somebody may wait for. New keys say so by themselves.
    #[inline]
    pub fn signal_ready(&mut self, key: &[u8]) {
        if !self.key_waits.is_empty() {
            self.key_waits.signal(self.selected as u32, key);
        }
    }

    /// Sets or clears the expiry of a key; false if there is none.
    pub fn set_expire(&mut self, key: Key<'_>, at_ms: Option<i64>) -> bool {
        if let (Expiry::Hide, Some(at)) = (self.expiry, at_ms) {
            self.own_expiries.note(self.selected as u32, key.bytes, at);
        }
        self.dbs[self.selected].set_expire(key, at_ms)
    }

    /// Says that `key` of the selected database was changed: counts it and signals its watchers.
    #[inline]
    pub fn modified(&mut self, key: &[u8]) {
        self.effects.dirty += 1;
        self.touch_watchers(key);
    }

    /// Signals the watchers of `key` of the selected database, without counting a change.
    #[inline]
    pub fn touch_watchers(&mut self, key: &[u8]) {
        if !self.watched.is_empty() {
            self.touch_some_watchers(key);
        }
    }

    #[inline(never)]
    fn touch_some_watchers(&mut self, key: &[u8]) {
        let exists = self.db().peek(Key::new(key)).is_some();
        self.watched.touch(self.selected as u32, key, exists);
    }

    /// Like [`Store::modified`], for a command that counts `changes` changes to one key.
    #[inline]
    pub fn modified_times(&mut self, key: &[u8], changes: usize) {
        self.modified(key);
        self.effects.dirty += changes as u64;
        self.effects.dirty -= 1;
    }

    /// Raises a keyspace event for `key` of the selected database.
    #[inline]
    pub fn notify(&mut self, class: Event, name: &'static str, key: &[u8]) {
        if self.notifications.wants(class) {
            self.notifications.raise(class, name, self.selected as u32, key);
        }
    }

    /// Deletes the key if a change has left it an empty collection. The event is `del`, as Redis raises it.
    pub fn delete_if_empty(&mut self, key: Key<'_>) -> bool {
        let empty = match self.dbs[self.selected].peek(key) {
            Some(entry) => is_empty_collection(entry),
            None => false,
        };
        if empty {
            self.delete_quietly(key, false);
            self.notify(Event::GENERIC, "del", key.bytes);
        }
        empty
    }

    /// Deletes keys whose time has run out until `budget` keys are gone; the number deleted. For the periodic cycle:
    /// each deletion is an effect of its own that the caller ends as a unit.
    pub fn expire_due(&mut self, budget: usize) -> usize {
        let mut deleted = 0;
        for index in 0..self.dbs.len() {
            while deleted < budget {
                let Some(entry) = self.dbs[index].first_due(self.now_ms) else { break };
                let key = entry.key().to_vec();
                self.select(index);
                self.effects.db = index as u32;
                self.expire_now(Key::new(&key));
                deleted += 1;
            }
        }
        deleted
    }

    /// Deletes fields whose time has run out from one hash, at most `budget`; the work done in fields, 0 when no hash has
    /// any. For the periodic cycle, as [`Store::expire_due`].
    pub fn expire_due_fields(&mut self, budget: usize) -> usize {
        for index in 0..self.dbs.len() {
            let Some(entry) = self.dbs[index].first_due_fields(self.now_ms) else { continue };
            let name = entry.key().to_vec();
            let key = Key::new(&name);
            self.select(index);
            self.effects.db = index as u32;
            let now_ms = self.now_ms;
            let fields = self.dbs[index]
                .edit(key)
                .and_then(|entry| entry.as_hash_mut(key.bytes).ok())
                .map(|mut hash| hash.take_due(now_ms, budget))
                .expect("the index of field expiries names hashes");
            let fields: Vec<&[u8]> = fields.iter().map(|field| &**field).collect();
            self.fields_expired(key, &fields);
            return fields.len().max(1);
        }
        0
    }

    /// Fields of the hash `key` were removed because their time has run out: counts, propagates and notifies that. The
    /// deletion goes out as `HDEL`, which servers without field expiries know as well.
    pub fn fields_expired(&mut self, key: Key<'_>, fields: &[&[u8]]) {
        self.settle_fields(key);
        self.stats.expired_fields += fields.len() as u64;
        let mut command: Vec<&[u8]> = vec![b"HDEL", key.bytes];
        command.extend(fields);
        self.effects.propagate_in(self.selected as u32, &command);
        self.notify(Event::HASH, "hexpired", key.bytes);
        self.delete_if_empty(key);
        self.touch_watchers(key.bytes);
    }

    /// To be called when the expiries of fields of the hash `key` may have changed.
    #[inline]
    pub fn settle_fields(&mut self, key: Key<'_>) {
        self.dbs[self.selected].settle_fields(key);
    }

    /// Like [`Store::settle_fields`], after a write that gives no field an expiry but may take some off.
    #[inline]
    pub fn settle_cleared_fields(&mut self, key: Key<'_>) {
        if self.db().hashes_with_ttl() > 0 {
            self.settle_fields(key);
        }
    }

    /// Like [`Store::expire_due`] on a replica: deletes the keys that its own clients gave an expiry.
    pub fn expire_own(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some((db, key)) = self.own_expiries.take_due(self.now_ms) else { break };
            self.select(db as usize);
            let key = Key::new(&key);
            if self.db().peek(key).is_some_and(|entry| entry.is_expired(self.now_ms)) {
                self.expire_now(key);
            }
        }
    }

    /// Deletes one expired key and propagates that.
    fn expire_now(&mut self, key: Key<'_>) {
        self.delete_quietly(key, self.lazy.expire);
        self.note_expired(key.bytes);
    }

    /// An expired key is gone: counts, propagates and notifies that.
    fn note_expired(&mut self, key: &[u8]) {
        self.stats.expired_keys += 1;
        let verb = self.expiry_verb();
        self.effects.propagate_in(self.selected as u32, &[verb, key]);
        self.notify(Event::EXPIRED, "expired", key);
        self.touch_watchers(key);
    }

    /// Deletes a key of the selected database to make room; what it was is for [`Store::note_evicted`] to tell.
    pub fn evict(&mut self, key: Key<'_>) {
        self.delete_quietly(key, self.lazy.eviction);
    }

    /// An evicted key is gone: counts, propagates and notifies that.
    pub fn note_evicted(&mut self, key: &[u8]) {
        self.stats.evicted_keys += 1;
        let verb: &[u8] = if self.lazy.eviction { b"UNLINK" } else { b"DEL" };
        self.effects.propagate_in(self.selected as u32, &[verb, key]);
        self.notify(Event::EVICTED, "evicted", key);
        self.touch_watchers(key);
    }

    /// The command that tells others of an expired key.
    pub fn expiry_verb(&self) -> &'static [u8] {
        if self.lazy.expire { b"UNLINK" } else { b"DEL" }
    }

    fn free_entry(&mut self, mut entry: Entry, lazily: bool) {
        if let Some(object) = entry.take_payload() {
            self.reclaim.object(object, lazily);
        }
    }
}

fn is_empty_collection(entry: &Entry) -> bool {
    match entry.content() {
        Value::Str(_) | Value::Stream(_) => false,
        Value::List(list) => list.is_empty(),
        Value::Set(set) => set.is_empty(),
        Value::Hash(hash) => hash.is_empty(),
        Value::ZSet(zset) => zset.is_empty(),
    }
}

/// What `key` is in `db`, for its watchers.
fn presence(db: &Db, key: &[u8], now_ms: i64) -> Presence {
    match db.peek(Key::new(key)) {
        None => Presence::Absent,
        Some(entry) if entry.is_expired(now_ms) => Presence::Stale,
        Some(_) => Presence::Alive,
    }
}
