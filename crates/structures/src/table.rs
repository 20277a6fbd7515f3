//! The hash table of databases, sets and hashes: linear hashing over cache-line buckets.
//!
//! A bucket is one 64-byte line: seven one-byte tags and a byte of flags, then seven entries. A lookup compares all
//! tags at once and follows only entries whose tag matches, so a hit costs one line of the table and one of the entry,
//! a miss mostly one line in all. A bucket that overflows uses its last slot as a pointer to a further node.
//!
//! The table grows by splitting one bucket per insertion and shrinks by merging one bucket per removal (W. Litwin,
//! "Linear Hashing", VLDB 1980). There is no second table, no rehash phase and no pause that grows with the size.
//! With `2^level <= buckets < 2^(level+1)`, buckets below `buckets - 2^level` and from `2^level` up are addressed by
//! `level + 1` low bits of the hash, the others by `level`:
//!
//! ```text
//! level 2, 6 buckets:   0   1   2   3   4   5      0 and 1 have been split into 0,4 and 1,5; 2 is next
//!        low bits:     000 001  10  11 100 101
//! ```
//!
//! When to split is decided by memory, not by load: a bucket is split when the table takes less than [`GROW_BELOW`]
//! bytes per entry. In linear hashing the buckets not yet split carry twice the load of the others, so a fixed load
//! costs a varying number of bytes; this way bytes per entry stay level and the load follows.
//!
//! Buckets lie in segments that never move and are never copied (beyond the first 64 buckets): sixteen per doubling,
//! so that at most a sixteenth is unused, but never above 2 MiB, so that allocating or freeing one is no pause either.
//! The directory of segments is so small that it stays in the first-level cache.
//!
//! Everything that must survive growth is expressed in low bits of the hash: the cursor of [`Table::scan`] and the
//! intervals of [`Table::visit_interval`].
//!
//! One thread owns a table. It may move to another thread to be freed there.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};

use crate::hash::hash;
use crate::record::{Record, prefetch_line};

mod copy;
mod select;

/// What a table can hold: something as big as a pointer that knows its key. The key of an entry does not change while
/// it is in a table.
pub trait Keyed {
    fn key(&self) -> &[u8];
}

impl<P> Keyed for Record<P> {
    #[inline]
    fn key(&self) -> &[u8] {
        Record::key(self)
    }
}

/// The steps of bringing what a look-up reads towards the cache: [`Table::prefetch`] and [`Table::prefetch_entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    Bucket,
    Entry,
}

/// A hash table whose entries carry their keys. Hashes passed in are [`hash`] of the key.
pub struct Table<E: Keyed> {
    /// Buckets 0..FIRST (fewer while the table is small).
    first: *mut Node<E>,
    /// The segments of buckets FIRST and up.
    rest: Vec<*mut Node<E>>,
    len: usize,
    buckets: u32,
    /// Memory of overflow nodes, in units of a half node.
    overflow_halves: u32,
    /// The copy that is being taken; see [`crate::copying`].
    copy: Option<Box<copy::Copy<E>>>,
    owns: PhantomData<E>,
}

// SAFETY: a table is the only owner of its nodes and entries, and has no state tied to a thread.
unsafe impl<E: Keyed + Send> Send for Table<E> {}

/// Entries of a full node. The word is little endian in meaning, not in memory: tag `i` is `word >> 8 * i`.
const SLOTS: usize = 7;
/// Entries of a half node: an overflow node of 32 bytes, replaced by a full one when it overflows in turn.
const HALF_SLOTS: usize = 3;
const NODE_BYTES: usize = 64;
const HALF_BYTES: usize = 32;

/// The last slot is the pointer to the next node of the chain.
const CHAINED: u64 = 1 << 56;
/// The node has only HALF_SLOTS slots. Only the last node of a chain does.
const HALF: u64 = 2 << 56;
const TAG_HIGH_BITS: u64 = 0x0080_8080_8080_8080;
const FLAG_BYTE: u64 = 0xff00_0000_0000_0000;

/// A bucket is split when the table (buckets and overflow nodes) takes fewer bytes per entry than this, in quarters of
/// a byte. With 13¼, what is allocated stays below 14½ bytes per entry from 1,000 entries on.
const GROW_BELOW: u64 = 53;
/// A bucket is merged when it takes more, in quarters.
const SHRINK_ABOVE: u64 = 4 * 26;
/// Load that `reserve` and bulk loading aim at, in tenths of an entry per bucket.
const RESERVE_LOAD: u64 = 52;

/// How many buckets ahead a walk asks for entries: some ten entries.
const WALK_AHEAD: u32 = 2;

/// Buckets in the first segment, which doubles in quarter steps until it has them.
const FIRST: u32 = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 6;
/// A doubling is divided into this many segments …
const SEGMENTS_PER_DOUBLING_BITS: u32 = 4;
/// … unless they would be larger than 2 MiB.
const SEGMENT_BITS_MAX: u32 = 15;

/// For each level (position of the highest bit of a bucket's number): the size of its segments in bits, and what to
/// add to `bucket >> bits` to get the index in `rest`.
const SEGMENTS: [(u8, i32); 32] = {
    let mut segments = [(0u8, 0i32); 32];
    let mut level = FIRST_BITS;
    let mut before = 0i64;
    while level < 32 {
        let natural = level - SEGMENTS_PER_DOUBLING_BITS;
        let bits = if natural > SEGMENT_BITS_MAX { SEGMENT_BITS_MAX } else { natural };
        let at_level = 1i64 << (level - bits);
        // The first bucket of this level is 1 << level, so `bucket >> bits` starts at `at_level`.
        segments[level as usize] = (bits as u8, (before - at_level) as i32);
        before += at_level;
        level += 1;
    }
    segments
};

#[repr(C, align(32))]
struct Node<E> {
    word: u64,
    slots: [Slot<E>; SLOTS],
}

/// An entry if the slot's tag is not zero, the next node in the last slot of a chained node, else uninitialised.
#[repr(C)]
union Slot<E> {
    entry: ManuallyDrop<E>,
    next: *mut Node<E>,
    vacant: (),
}

#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    let tag = (hash >> 56) as u8;
    tag + u8::from(tag == 0)
}

/// Slots whose tag equals `tag` (not zero), as bits 7, 15, …; exact.
#[inline(always)]
fn matches(word: u64, tag: u8) -> u64 {
    zero_bytes(word ^ (u64::from(tag) * 0x0101_0101_0101_0101))
}

#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW7) + LOW7) | word | LOW7) & TAG_HIGH_BITS
}

/// Slots that hold an entry.
#[inline(always)]
fn occupied(word: u64) -> u64 {
    zero_bytes(word) ^ TAG_HIGH_BITS
}

/// Slots that an entry may be put into.
#[inline(always)]
fn vacant(word: u64) -> u64 {
    let usable = match word & (CHAINED | HALF) {
        0 => TAG_HIGH_BITS,
        CHAINED => TAG_HIGH_BITS >> 8,
        _ => TAG_HIGH_BITS >> (8 * (SLOTS - HALF_SLOTS)),
    };
    zero_bytes(word) & usable
}

#[inline(always)]
fn slot_of(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// The bits of a set of slots, one at a time.
fn slots_in(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (bits != 0).then(|| {
            let slot = slot_of(bits);
            bits &= bits - 1;
            slot
        })
    })
}

impl<E> Node<E> {
    /// # Safety
    /// `node` is a live node of a table.
    #[inline(always)]
    unsafe fn next(node: *mut Node<E>) -> *mut Node<E> {
        // SAFETY: CHAINED says that the last slot is the next node.
        unsafe { if (*node).word & CHAINED == 0 { ptr::null_mut() } else { (*node).slots[SLOTS - 1].next } }
    }

    /// # Safety
    /// `node` is live and `slot` one of its slots.
    #[inline(always)]
    unsafe fn slot(node: *mut Node<E>, slot: usize) -> *mut E {
        // SAFETY: stays within the node: a half node is only asked for its first slots.
        unsafe { (&raw mut (*node).slots).cast::<E>().add(slot) }
    }

    /// # Safety
    /// The slot is vacant and may hold an entry.
    unsafe fn put(node: *mut Node<E>, slot: usize, tag: u8, entry: E) -> *mut E {
        // SAFETY: the caller's.
        unsafe {
            let place = Node::slot(node, slot);
            place.write(entry);
            (*node).word |= u64::from(tag) << (8 * slot);
            place
        }
    }

    /// # Safety
    /// The slot holds an entry.
    unsafe fn take(node: *mut Node<E>, slot: usize) -> (u8, E) {
        // SAFETY: the caller's; the tag is cleared, so the entry is not read again.
        unsafe {
            let tag = ((*node).word >> (8 * slot)) as u8;
            (*node).word &= !(0xff << (8 * slot));
            (tag, Node::slot(node, slot).read())
        }
    }
}

impl<E: Keyed> Table<E> {
    const LAYOUT_HOLDS: () = {
        assert!(size_of::<E>() == size_of::<usize>() && size_of::<Option<E>>() == size_of::<usize>());
        assert!(size_of::<Node<E>>() == NODE_BYTES && align_of::<Node<E>>() == HALF_BYTES);
    };

    /// An empty table, which allocates nothing.
    pub const fn new() -> Table<E> {
        const { Self::LAYOUT_HOLDS };
        Table {
            first: ptr::null_mut(),
            rest: Vec::new(),
            len: 0,
            buckets: 0,
            overflow_halves: 0,
            copy: None,
            owns: PhantomData,
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of the table itself: segments, overflow nodes and directory, without what entries point to.
    pub fn bytes(&self) -> usize {
        let capacity = if self.buckets <= FIRST {
            first_capacity(self.buckets) as usize
        } else {
            (self.buckets as usize).next_multiple_of(1 << SEGMENTS[(self.buckets - 1).ilog2() as usize].0)
        };
        capacity * NODE_BYTES
            + self.overflow_halves as usize * HALF_BYTES
            + self.rest.capacity() * size_of::<*mut Node<E>>()
    }

    /// The largest `l` with `2^l` buckets or fewer; 0 for an empty table. A good number of bits for
    /// [`Table::visit_interval`].
    #[inline]
    pub fn level(&self) -> u32 {
        self.buckets.max(1).ilog2()
    }

    // Not inlined: within a caller's loop the walk was compiled so that lookups did not overlap (2.5 times slower).
    #[inline(never)]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&E> {
        // SAFETY: `find` gives the place of a live entry, and `&self` keeps it.
        self.find(hash, |entry| entry.key() == key).map(|found| unsafe { &*found.place })
    }

    /// The entry to be changed. Its key must stay: an entry with another key would not be found again.
    #[inline(never)]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut E> {
        self.before_change(hash);
        // SAFETY: as in `get`; `&mut self` makes it the only reference.
        self.find(hash, |entry| entry.key() == key).map(|found| unsafe { &mut *found.place })
    }

    /// As [`Table::get_mut`], for what leaves the entry as a copy would write it, such as
    /// [`Record::twin`](crate::record::Record::twin): no part of it is copied before.
    pub fn get_to_twin(&mut self, hash: u64, key: &[u8]) -> Option<&mut E> {
        // SAFETY: as in `get_mut`.
        self.find(hash, |entry| entry.key() == key).map(|found| unsafe { &mut *found.place })
    }

    /// The first entry with this tag that `pred` accepts; `pred` is also asked about entries of other hashes.
    pub fn find_by_hash(&mut self, hash: u64, mut pred: impl FnMut(&E) -> bool) -> Option<&mut E> {
        self.before_change(hash);
        // SAFETY: as in `get_mut`.
        self.find(hash, &mut pred).map(|found| unsafe { &mut *found.place })
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, hash: u64, entry: E) -> &mut E {
        debug_assert_eq!(hash, crate::hash::hash(entry.key()), "the hash is that of the entry's key");
        debug_assert!(self.get(hash, entry.key()).is_none(), "the key is absent");
        self.before_change(hash);
        if self.buckets == 0 {
            self.add_bucket();
        }
        self.grow_for(self.len as u64 + 1);
        self.len += 1;
        // SAFETY: `bucket` gives a live bucket; `place` gives the place where the entry lies now.
        unsafe { &mut *self.place(self.bucket(self.index(hash)), tag_of(hash), entry) }
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<E> {
        self.remove_by_hash(hash, |entry| entry.key() == key)
    }

    /// Removes what [`Table::find_by_hash`] would find.
    pub fn remove_by_hash(&mut self, hash: u64, pred: impl FnMut(&E) -> bool) -> Option<E> {
        self.before_change(hash);
        let Found { node, place } = self.find(hash, pred)?;
        let bucket = self.bucket(self.index(hash));
        // SAFETY: `place` is an occupied slot of `node`, which is in the chain of `bucket`.
        let entry = unsafe {
            let slot = place.offset_from(Node::slot(node, 0)) as usize;
            let (_, entry) = Node::take(node, slot);
            self.close_gap(bucket, node);
            entry
        };
        self.len -= 1;
        if self.len == 0 {
            self.clear();
        } else if self.buckets > 1 && self.len as u64 * SHRINK_ABOVE < self.used_quarters() {
            self.merge_last();
        }
        Some(entry)
    }

    /// Asks for the bucket's line; first step of a batch.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if self.buckets != 0 {
            prefetch_line(self.bucket(self.index(hash)).cast());
        }
    }

    /// Asks for the first two lines of the entries whose tag matches (or for the overflow node when none does);
    /// second step of a batch, when [`Table::prefetch`] has had its effect.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if self.buckets == 0 {
            return;
        }
        let node = self.bucket(self.index(hash));
        // SAFETY: a live bucket; the slots of matching tags hold entries, which are as big as a pointer.
        unsafe {
            let mut bits = matches((*node).word, tag_of(hash));
            if bits == 0 && (*node).word & CHAINED != 0 {
                prefetch_line(Node::next(node).cast());
            }
            while bits != 0 {
                let entry = Node::slot(node, slot_of(bits)).cast::<*const u8>().read();
                prefetch_line(entry);
                prefetch_line(entry.wrapping_add(NODE_BYTES));
                bits &= bits - 1;
            }
        }
    }

    /// Asks for the first lines of the entries of a bucket, if there is one of this number. A walk over all buckets finds
    /// the buckets themselves in order, but each entry somewhere else.
    #[inline]
    fn prefetch_entries_of(&self, bucket: u32) {
        if bucket >= self.buckets {
            return;
        }
        let node = self.bucket(bucket);
        // SAFETY: a live bucket; occupied slots hold entries, which are as big as a pointer.
        unsafe {
            let mut bits = occupied((*node).word);
            while bits != 0 {
                prefetch_line(Node::slot(node, slot_of(bits)).cast::<*const u8>().read());
                bits &= bits - 1;
            }
            if (*node).word & CHAINED != 0 {
                prefetch_line(Node::next(node).cast());
            }
        }
    }

    /// One of the two steps, for those who take them through layers.
    #[inline]
    pub fn prepare(&self, hash: u64, step: Prepare) {
        match step {
            Prepare::Bucket => self.prefetch(hash),
            Prepare::Entry => self.prefetch_entry(hash),
        }
    }

    /// Visits one bucket (and the one split off it) and returns the next cursor; starts and ends with 0.
    ///
    /// As SCAN promises: an entry that is present from the first call to the last is visited at least once, whatever
    /// is inserted and removed between calls. The cursor counts in the low bits of the hash, the highest of them
    /// first (P. Noordhuis's algorithm in Redis), so that the order of visits does not depend on how many count.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&E)) -> u64 {
        if self.buckets == 0 {
            return 0;
        }
        let low = (1u64 << self.level()) - 1;
        let bucket = (cursor & low) as u32;
        self.visit_bucket(bucket, &mut visit);
        let split_off = u64::from(bucket) + low + 1;
        if split_off < u64::from(self.buckets) {
            self.visit_bucket(split_off as u32, &mut visit);
        }
        (cursor | !low).reverse_bits().wrapping_add(1).reverse_bits()
    }

    /// Visits every entry whose hash has `index` in its low `bits` bits, whatever the number of buckets is now. The
    /// intervals of all indices below `2^bits` visit every entry exactly once.
    pub fn visit_interval(&self, bits: u32, index: u64, mut visit: impl FnMut(&E)) {
        // SAFETY: places of live entries, which `&self` keeps.
        self.places_in_interval(bits, index, |place| visit(unsafe { &*place }));
    }

    /// Like [`Table::visit_interval`]. The keys of the entries must stay.
    pub fn visit_interval_mut(&mut self, bits: u32, index: u64, mut visit: impl FnMut(&mut E)) {
        debug_assert!(self.copy.is_none(), "changes behind the back of a copy");
        // SAFETY: places of live entries, each given once; `&mut self` makes the reference the only one.
        self.places_in_interval(bits, index, |place| visit(unsafe { &mut *place }));
    }

    pub fn iter(&self) -> Iter<'_, E> {
        Iter { table: self, walk: Walk::new(), left: self.len }
    }

    /// Takes all entries out; what is not taken is dropped with the iterator.
    pub fn drain(&mut self) -> IntoIter<E> {
        mem::take(self).into_iter()
    }

    /// An entry, each with the same probability; `rng` gives uniform 64-bit numbers.
    ///
    /// A place is drawn among `DEPTH` per bucket until it is taken. Entries of a chain that is longer (with the loads
    /// that occur, fewer than one in ten thousand) share the chances of the last place.
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<&E> {
        const DEPTH: u64 = 24;
        if self.len == 0 {
            return None;
        }
        let depth = if self.buckets == 1 { self.len as u64 } else { DEPTH };
        loop {
            let drawn = rng();
            let bucket = ((drawn >> 32) * u64::from(self.buckets)) >> 32;
            let mut place = ((drawn & 0xffff_ffff) * depth) >> 32;
            if place == depth - 1 {
                let (mut count, bucket) = (0u64, bucket as u32);
                self.visit_bucket(bucket, &mut |_: &E| count += 1);
                if count < depth {
                    continue;
                }
                let beyond = count - (depth - 1);
                place += ((u128::from(rng()) * u128::from(beyond)) >> 64) as u64;
            }
            let mut node = self.bucket(bucket as u32);
            while !node.is_null() {
                // SAFETY: a live node of this table; occupied slots hold entries.
                unsafe {
                    let taken = occupied((*node).word);
                    let count = u64::from(taken.count_ones());
                    if place < count {
                        let slot = slots_in(taken).nth(place as usize).expect("fewer than there are");
                        return Some(&*Node::slot(node, slot));
                    }
                    place -= count;
                    node = Node::next(node);
                }
            }
        }
    }

    /// Drops all entries and all memory.
    pub fn clear(&mut self) {
        drop(mem::take(self));
    }

    /// Builds an empty table with buckets for `entries` at once, so that filling it splits nothing. Without effect on a
    /// table that holds something: growing it costs no more than having grown it before.
    pub fn reserve(&mut self, entries: usize) {
        if !self.is_empty() {
            return;
        }
        let wanted = (entries as u64 * 10).div_ceil(RESERVE_LOAD).min(u64::from(u32::MAX / 2)) as u32;
        if wanted > FIRST {
            let segments = segment_of(wanted - 1).0 + 1;
            self.rest.reserve_exact(segments);
        }
        if self.buckets == 0 && wanted > 0 {
            self.buckets = wanted.min(FIRST);
            self.first = allocate(segment_layout(first_capacity(self.buckets) as usize));
            for bucket in 0..self.buckets {
                // SAFETY: the segment has room for this bucket; its slots are vacant, hence need no value.
                unsafe { (&raw mut (*self.bucket(bucket)).word).write(0) };
            }
        }
        while self.buckets < wanted {
            self.add_bucket();
        }
    }

    #[inline(always)]
    fn index(&self, hash: u64) -> u32 {
        debug_assert!(self.buckets != 0);
        let mask = u32::MAX >> self.buckets.leading_zeros();
        let wide = hash as u32 & mask;
        // A branch would be mispredicted for as many keys as there are buckets not yet split.
        std::hint::select_unpredictable(wide < self.buckets, wide, wide & (mask >> 1))
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> *mut Node<E> {
        debug_assert!(bucket < self.buckets);
        // SAFETY: the segments cover all buckets below `self.buckets` (`add_bucket`).
        unsafe {
            if bucket < FIRST {
                self.first.add(bucket as usize)
            } else {
                let (segment, offset) = segment_of(bucket);
                self.rest.get_unchecked(segment).add(offset)
            }
        }
    }

    #[inline]
    fn find(&self, hash: u64, mut pred: impl FnMut(&E) -> bool) -> Option<Found<E>> {
        if self.buckets == 0 {
            return None;
        }
        let mut node = self.bucket(self.index(hash));
        let tag = tag_of(hash);
        loop {
            // SAFETY: a live node of this table; slots with a tag hold entries.
            unsafe {
                let word = (*node).word;
                let mut bits = matches(word, tag);
                while bits != 0 {
                    let place = Node::slot(node, slot_of(bits));
                    if pred(&*place) {
                        return Some(Found { node, place });
                    }
                    bits &= bits - 1;
                }
                if word & CHAINED == 0 {
                    return None;
                }
                node = (*node).slots[SLOTS - 1].next;
            }
        }
    }

    /// The places of the entries of an interval.
    fn places_in_interval(&self, bits: u32, index: u64, mut visit: impl FnMut(*mut E)) {
        let low = if bits >= 64 { u64::MAX } else { (1u64 << bits) - 1 };
        debug_assert!(index <= low, "an interval's index has as many bits as the interval");
        if self.buckets == 0 {
            return;
        }
        let level = self.level();
        if bits <= level {
            // Every bucket is addressed by `level` bits or more, so each lies within one interval.
            let mut bucket = index;
            while bucket < u64::from(self.buckets) {
                self.places_in_bucket(bucket as u32, &mut visit);
                bucket += low + 1;
            }
        } else {
            let bucket = self.index(index);
            let of_next_level = bucket >= 1 << level || bucket < self.buckets - (1 << level);
            if bits == level + 1 && of_next_level {
                self.places_in_bucket(bucket, &mut visit);
            } else {
                self.places_in_bucket(bucket, &mut |place: *mut E| {
                    // SAFETY: the place of a live entry, which nobody changes meanwhile.
                    if hash(unsafe { (*place).key() }) & low == index {
                        visit(place);
                    }
                });
            }
        }
    }

    fn visit_bucket(&self, bucket: u32, visit: &mut impl FnMut(&E)) {
        // SAFETY: places of live entries, which `&self` keeps.
        self.places_in_bucket(bucket, &mut |place| visit(unsafe { &*place }));
    }

    fn places_in_bucket(&self, bucket: u32, visit: &mut impl FnMut(*mut E)) {
        let mut node = self.bucket(bucket);
        while !node.is_null() {
            // SAFETY: a live node of this table; occupied slots hold entries.
            unsafe {
                for slot in slots_in(occupied((*node).word)) {
                    visit(Node::slot(node, slot));
                }
                node = Node::next(node);
            }
        }
    }

    /// Puts an entry into the chain of a bucket, which gets longer if it must.
    ///
    /// # Safety
    /// `bucket` is a live bucket of this table.
    unsafe fn place(&mut self, bucket: *mut Node<E>, tag: u8, entry: E) -> *mut E {
        let mut parent: *mut Node<E> = ptr::null_mut();
        let mut node = bucket;
        // SAFETY: every node of a live chain is live; a slot that `vacant` names may hold an entry.
        unsafe {
            loop {
                let word = (*node).word;
                let free = vacant(word);
                if free != 0 {
                    return Node::put(node, slot_of(free), tag, entry);
                }
                if word & CHAINED != 0 {
                    (parent, node) = (node, (*node).slots[SLOTS - 1].next);
                    continue;
                }
                if word & HALF != 0 {
                    // A half node has a parent: only overflow nodes are halves.
                    let full = self.new_overflow(false);
                    for slot in 0..HALF_SLOTS {
                        let (tag, entry) = Node::take(node, slot);
                        Node::put(full, slot, tag, entry);
                    }
                    (*parent).slots[SLOTS - 1].next = full;
                    self.free_overflow(node);
                    return Node::put(full, HALF_SLOTS, tag, entry);
                }
                let half = self.new_overflow(true);
                let (last_tag, last) = Node::take(node, SLOTS - 1);
                (*node).slots[SLOTS - 1].next = half;
                (*node).word |= CHAINED;
                Node::put(half, 0, last_tag, last);
                return Node::put(half, 1, tag, entry);
            }
        }
    }

    /// After an entry was taken out of `gap`: moves an entry of the last node there, and frees the last node when its
    /// parent can hold what is left of it.
    ///
    /// # Safety
    /// `bucket` is live and `gap`, in its chain, is the only node before the last one with a vacant slot.
    unsafe fn close_gap(&mut self, bucket: *mut Node<E>, gap: *mut Node<E>) {
        // SAFETY: all nodes are of one live chain.
        unsafe {
            let (mut parent, mut last): (*mut Node<E>, *mut Node<E>) = (ptr::null_mut(), bucket);
            loop {
                let next = Node::next(last);
                if next.is_null() {
                    break;
                }
                (parent, last) = (last, next);
            }
            if parent.is_null() {
                return;
            }
            if gap != last {
                // The last node of a chain has two entries or more: with one, its parent would hold it.
                let (tag, entry) = Node::take(last, slot_of(occupied((*last).word)));
                Node::put(gap, slot_of(vacant((*gap).word)), tag, entry);
            }
            let left = occupied((*last).word);
            if left & (left - 1) == 0 {
                let (tag, entry) = Node::take(last, slot_of(left));
                (*parent).word &= !CHAINED;
                Node::put(parent, SLOTS - 1, tag, entry);
                self.free_overflow(last);
            }
        }
    }

    /// Memory in use by buckets and overflow nodes, in quarters of bytes, to be compared with entries × GROW_BELOW.
    #[inline]
    fn used_quarters(&self) -> u64 {
        4 * (u64::from(self.buckets) * NODE_BYTES as u64
            + u64::from(self.overflow_halves) * HALF_BYTES as u64)
    }

    /// Splits a bucket if `len` entries ask for it; asks for the lines of the next one shortly before its turn.
    #[inline]
    fn grow_for(&mut self, len: u64) {
        let used = self.used_quarters();
        if len * GROW_BELOW > used {
            if self.buckets > 1 || len > SLOTS as u64 {
                self.split_next();
            }
        } else if (len + 1) * GROW_BELOW > used {
            self.prefetch_entries_of(self.next_to_split());
        }
    }

    fn next_to_split(&self) -> u32 {
        self.buckets - (1 << self.level())
    }

    #[inline(never)]
    fn split_next(&mut self) {
        let old_bucket = self.next_to_split();
        let moves_if = 1u64 << self.level();
        if self.buckets == u32::MAX {
            return;
        }
        self.add_bucket();
        // `add_bucket` may have moved the first segment, so addresses are taken now.
        let (old, new) = (self.bucket(old_bucket), self.bucket(self.buckets - 1));
        // SAFETY: both buckets are live. The overflow nodes are cut off first, emptied and freed one by one.
        unsafe {
            let mut overflow = self.cut_off(old);
            for slot in slots_in(occupied((*old).word)) {
                if hash((*Node::slot(old, slot)).key()) & moves_if != 0 {
                    let (tag, entry) = Node::take(old, slot);
                    self.place(new, tag, entry);
                }
            }
            while !overflow.is_null() {
                let next = self.cut_off(overflow);
                for slot in slots_in(occupied((*overflow).word)) {
                    let (tag, entry) = Node::take(overflow, slot);
                    let moves = hash(entry.key()) & moves_if != 0;
                    self.place(if moves { new } else { old }, tag, entry);
                }
                self.free_overflow(overflow);
                overflow = next;
            }
        }
        prefetch_line(self.bucket(self.next_to_split()).cast());
    }

    /// Puts the entries of the last bucket back into the one that it was split off.
    #[inline(never)]
    fn merge_last(&mut self) {
        let last = self.buckets - 1;
        let into = last - (1 << last.ilog2());
        let (mut node, into) = (self.bucket(last), self.bucket(into));
        // SAFETY: both buckets are live; entries are taken out before their node goes.
        unsafe {
            let mut is_bucket = true;
            while !node.is_null() {
                let next = self.cut_off(node);
                for slot in slots_in(occupied((*node).word)) {
                    let (tag, entry) = Node::take(node, slot);
                    self.place(into, tag, entry);
                }
                if !is_bucket {
                    self.free_overflow(node);
                }
                (node, is_bucket) = (next, false);
            }
        }
        self.remove_empty_bucket();
    }

    /// Ends the chain at `node` and returns what came after it, which is the caller's to empty and free.
    ///
    /// # Safety
    /// `node` is a live node of this table.
    unsafe fn cut_off(&mut self, node: *mut Node<E>) -> *mut Node<E> {
        // SAFETY: the caller's. The last slot's tag is zero while it is a pointer, so it is vacant afterwards.
        unsafe {
            let next = Node::next(node);
            (*node).word &= !CHAINED;
            next
        }
    }

    /// Adds an empty bucket at the end, with a segment if it is the first of one.
    fn add_bucket(&mut self) {
        let bucket = self.buckets;
        if bucket < FIRST {
            self.resize_first(bucket + 1);
        } else {
            let (segment, offset) = segment_of(bucket);
            if segment == self.rest.len() {
                debug_assert_eq!(offset, 0);
                if segment == self.rest.capacity() {
                    self.rest.reserve_exact(1 << SEGMENTS_PER_DOUBLING_BITS);
                }
                self.rest.push(allocate(segment_layout(1 << segment_bits(segment as u32))));
            }
        }
        self.buckets += 1;
        // SAFETY: the segment has room for this bucket; its slots are vacant, hence need no value.
        unsafe { (&raw mut (*self.bucket(bucket)).word).write(0) };
    }

    fn remove_empty_bucket(&mut self) {
        if self.buckets <= FIRST {
            self.resize_first(self.buckets - 1);
            self.buckets -= 1;
        } else {
            self.buckets -= 1;
            let (segment, offset) = segment_of(self.buckets);
            if offset == 0 {
                debug_assert_eq!(segment + 1, self.rest.len());
                let nodes = self.rest.pop().expect("the last bucket has a segment");
                // SAFETY: the segment was allocated with this layout and its only bucket in use is gone.
                unsafe { dealloc(nodes.cast(), segment_layout(1 << segment_bits(segment as u32))) };
                if self.rest.capacity() > self.rest.len() + 3 * (1 << SEGMENTS_PER_DOUBLING_BITS)
                    || segment == 0
                {
                    self.rest.shrink_to_fit();
                }
            }
        }
    }

    /// Gives the first segment, which has room for `self.buckets`, the room that `buckets` (one or more) need.
    fn resize_first(&mut self, buckets: u32) {
        let (old, new) = (first_capacity(self.buckets), first_capacity(buckets));
        if old == new {
            return;
        }
        let moved = allocate::<E>(segment_layout(new as usize));
        if !self.first.is_null() {
            // SAFETY: the smaller of both counts of buckets is within both segments; nodes are moved bitwise and the
            // old places are freed without being dropped.
            unsafe {
                ptr::copy_nonoverlapping(self.first, moved, self.buckets.min(buckets) as usize);
                dealloc(self.first.cast(), segment_layout(old as usize));
            }
        }
        self.first = moved;
    }

    fn new_overflow(&mut self, half: bool) -> *mut Node<E> {
        let layout = overflow_layout(half);
        self.overflow_halves += (layout.size() / HALF_BYTES) as u32;
        let node = allocate::<E>(layout);
        // SAFETY: the word lies within a half node as well.
        unsafe { (&raw mut (*node).word).write(if half { HALF } else { 0 }) };
        node
    }

    /// # Safety
    /// `node` is an overflow node of this table that no chain leads to any more and that holds no entry.
    unsafe fn free_overflow(&mut self, node: *mut Node<E>) {
        // SAFETY: the flag says with which layout the node was allocated.
        unsafe {
            debug_assert_eq!((*node).word & !FLAG_BYTE, 0);
            let layout = overflow_layout((*node).word & HALF != 0);
            self.overflow_halves -= (layout.size() / HALF_BYTES) as u32;
            dealloc(node.cast(), layout);
        }
    }
}

struct Found<E> {
    node: *mut Node<E>,
    place: *mut E,
}

/// Buckets that the first segment has room for when `buckets` are in use: quarter steps of a doubling, as allocators'
/// size classes are.
fn first_capacity(buckets: u32) -> u32 {
    let buckets = buckets.min(FIRST);
    if buckets <= 4 { buckets } else { buckets.next_multiple_of(1 << ((buckets - 1).ilog2() - 2)) }
}

/// Index in `rest` and place within the segment of a bucket from FIRST up.
#[inline(always)]
fn segment_of(bucket: u32) -> (usize, usize) {
    debug_assert!(bucket >= FIRST);
    let (bits, add) = SEGMENTS[bucket.ilog2() as usize];
    let segment = (bucket >> bits) as i32 + add;
    (segment as usize, (bucket & ((1 << bits) - 1)) as usize)
}

/// Size of a segment of `rest`, as a power of two.
fn segment_bits(index: u32) -> u32 {
    let doubling = index >> SEGMENTS_PER_DOUBLING_BITS;
    (FIRST_BITS - SEGMENTS_PER_DOUBLING_BITS + doubling).min(SEGMENT_BITS_MAX)
}

fn segment_layout(nodes: usize) -> Layout {
    Layout::from_size_align(nodes * NODE_BYTES, NODE_BYTES).expect("a segment is at most 2 MiB")
}

fn overflow_layout(half: bool) -> Layout {
    let size = if half { HALF_BYTES } else { NODE_BYTES };
    Layout::from_size_align(size, size).expect("a node is a power of two")
}

fn allocate<E>(layout: Layout) -> *mut Node<E> {
    // SAFETY: no layout here has size zero.
    let nodes = unsafe { alloc(layout) };
    NonNull::new(nodes.cast()).unwrap_or_else(|| handle_alloc_error(layout)).as_ptr()
}

impl<E: Keyed> Default for Table<E> {
    fn default() -> Self {
        Table::new()
    }
}

impl<E: Keyed> Drop for Table<E> {
    fn drop(&mut self) {
        self.copy_more(usize::MAX);
        // SAFETY: as `IntoIter` takes entries; afterwards the segments go with the layouts they were allocated with.
        unsafe {
            for bucket in 0..self.buckets {
                self.prefetch_entries_of(bucket.saturating_add(WALK_AHEAD));
                let mut node = self.bucket(bucket);
                let mut is_bucket = true;
                while !node.is_null() {
                    let next = self.cut_off(node);
                    for slot in slots_in(occupied((*node).word)) {
                        drop(Node::take(node, slot));
                    }
                    if !is_bucket {
                        self.free_overflow(node);
                    }
                    (node, is_bucket) = (next, false);
                }
            }
            if !self.first.is_null() {
                dealloc(self.first.cast(), segment_layout(first_capacity(self.buckets) as usize));
            }
            for (index, nodes) in self.rest.iter().enumerate() {
                dealloc(nodes.cast(), segment_layout(1 << segment_bits(index as u32)));
            }
        }
    }
}

impl<E: Keyed + fmt::Debug> fmt::Debug for Table<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Where a walk over all buckets stands.
struct Walk<E> {
    next_bucket: u32,
    node: *mut Node<E>,
    bits: u64,
}

impl<E: Keyed> Walk<E> {
    fn new() -> Walk<E> {
        Walk { next_bucket: 0, node: ptr::null_mut(), bits: 0 }
    }

    fn step(&mut self, table: &Table<E>) -> Option<(*mut Node<E>, usize)> {
        while self.bits == 0 {
            // SAFETY: `node` is null or a live node of the table, which is borrowed or owned by the iterator.
            unsafe {
                let next = if self.node.is_null() { ptr::null_mut() } else { Node::next(self.node) };
                self.node = if !next.is_null() {
                    next
                } else if self.next_bucket < table.buckets {
                    table.prefetch_entries_of(self.next_bucket.saturating_add(WALK_AHEAD));
                    self.next_bucket += 1;
                    table.bucket(self.next_bucket - 1)
                } else {
                    return None;
                };
                self.bits = occupied((*self.node).word);
            }
        }
        let slot = slot_of(self.bits);
        self.bits &= self.bits - 1;
        Some((self.node, slot))
    }
}

/// All entries, in the order of buckets.
pub struct Iter<'a, E: Keyed> {
    table: &'a Table<E>,
    walk: Walk<E>,
    left: usize,
}

impl<'a, E: Keyed> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        let (node, slot) = self.walk.step(self.table)?;
        self.left -= 1;
        // SAFETY: `step` names an occupied slot of a table that is borrowed for `'a`.
        Some(unsafe { &*Node::slot(node, slot) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<E: Keyed> ExactSizeIterator for Iter<'_, E> {}

impl<'a, E: Keyed> IntoIterator for &'a Table<E> {
    type Item = &'a E;
    type IntoIter = Iter<'a, E>;

    fn into_iter(self) -> Iter<'a, E> {
        self.iter()
    }
}

/// All entries by value; memory is freed with the iterator.
pub struct IntoIter<E: Keyed> {
    table: Table<E>,
    walk: Walk<E>,
}

impl<E: Keyed> Iterator for IntoIter<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        let (node, slot) = self.walk.step(&self.table)?;
        self.table.len -= 1;
        // SAFETY: `step` names an occupied slot; its tag is cleared, so that dropping the table passes it by.
        Some(unsafe { Node::take(node, slot).1 })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.table.len, Some(self.table.len))
    }
}

impl<E: Keyed> ExactSizeIterator for IntoIter<E> {}

impl<E: Keyed> IntoIterator for Table<E> {
    type Item = E;
    type IntoIter = IntoIter<E>;

    fn into_iter(mut self) -> IntoIter<E> {
        self.copy_more(usize::MAX);
        IntoIter { table: self, walk: Walk::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::rc::Rc;

    use proptest::prelude::*;

    use crate::testing::{cases, fewer, random_numbers};

    type Numbers = Table<Record<()>>;

    fn key(n: u64) -> Vec<u8> {
        format!("key:{n}").into_bytes()
    }

    fn add(table: &mut Numbers, n: u64) {
        let key = key(n);
        table.insert(hash(&key), Record::new_int(&key, n as i64, None));
    }

    fn delete(table: &mut Numbers, n: u64) -> bool {
        let key = key(n);
        table.remove(hash(&key), &key).is_some()
    }

    fn number(record: &Record<()>) -> u64 {
        let crate::record::ValueRef::Int(n) = record.value() else { panic!("not a number") };
        assert_eq!(record.key(), key(n as u64));
        n as u64
    }

    fn holds(table: &Numbers, n: u64) -> bool {
        let key = key(n);
        table.get(hash(&key), &key).is_some_and(|record| number(record) == n)
    }

    /// Every entry lies in the bucket that its hash names, chains are as short as their entries allow, and the counts
    /// of entries and of overflow memory are right.
    fn assert_sound<E: Keyed>(table: &Table<E>) {
        let (mut len, mut halves) = (0, 0);
        for bucket in 0..table.buckets {
            let mut node = table.bucket(bucket);
            let mut is_bucket = true;
            while !node.is_null() {
                // SAFETY: live nodes of a table at rest.
                unsafe {
                    let word = (*node).word;
                    let next = Node::next(node);
                    for slot in slots_in(occupied(word)) {
                        let h = hash((*Node::slot(node, slot)).key());
                        assert_eq!(table.index(h), bucket);
                        assert_eq!((word >> (8 * slot)) as u8, tag_of(h));
                        len += 1;
                    }
                    if !next.is_null() {
                        assert_eq!(
                            occupied(word).count_ones(),
                            6,
                            "a node is full before a further one is chained"
                        );
                    }
                    if !is_bucket {
                        halves += if word & HALF != 0 { 1 } else { 2 };
                        assert!(
                            !next.is_null() || occupied(word).count_ones() >= 2,
                            "a lone entry fits its parent"
                        );
                    }
                    (node, is_bucket) = (next, false);
                }
            }
        }
        assert_eq!((len, halves), (table.len, table.overflow_halves));
        let capacity: usize = first_capacity(table.buckets) as usize
            + (0..table.rest.len() as u32).map(|i| 1usize << segment_bits(i)).sum::<usize>();
        assert!(capacity >= table.buckets as usize);
        assert_eq!(table.bytes(), capacity * 64 + halves as usize * 32 + table.rest.capacity() * 8);
    }

    #[test]
    fn tags_match_exactly() {
        let word = 0xff07_0800_0701_0807u64;
        assert_eq!(slots_in(matches(word, 7)).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(slots_in(matches(word, 8)).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(slots_in(occupied(word)).collect::<Vec<_>>(), [0, 1, 2, 3, 5, 6]);
        assert_eq!(slots_in(vacant(CHAINED | 0x0100)).collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
        assert_eq!(slots_in(vacant(HALF | 0x0100)).collect::<Vec<_>>(), [0, 2]);
        assert!((0..=255u64).all(|high| tag_of(high << 56) != 0));
    }

    #[test]
    fn segments_follow_each_other_without_gaps() {
        let (mut bucket, mut index) = (u64::from(FIRST), 0usize);
        while bucket < 1 << 24 {
            let size = 1u64 << segment_bits(index as u32);
            assert_eq!(segment_of(bucket as u32), (index, 0));
            assert_eq!(segment_of((bucket + size - 1) as u32), (index, size as usize - 1));
            assert!(size * NODE_BYTES as u64 <= 2 << 20 && size * 16 <= bucket.max(64));
            (bucket, index) = (bucket + size, index + 1);
        }
        assert_eq!(segment_of(u32::MAX).1, (1 << SEGMENT_BITS_MAX) - 1);
    }

    #[test]
    fn an_empty_table_allocates_nothing() {
        let mut table = Numbers::new();
        assert_eq!((table.bytes(), table.level(), table.len()), (0, 0, 0));
        assert!(!holds(&table, 1) && !delete(&mut table, 1));
        assert_eq!(table.scan(0, |_| panic!("nothing there")), 0);
        table.visit_interval(3, 5, |_| panic!("nothing there"));
        assert!(table.random(&mut || 0).is_none() && table.iter().next().is_none());
        table.prefetch(1);
        table.prefetch_entry(1);
        add(&mut table, 1);
        assert_eq!(table.bytes(), 64);
        assert!(delete(&mut table, 1));
        assert_eq!(table.bytes(), 0, "the last removal gives all memory back");
    }

    #[cfg(not(miri))]
    /// Lines of the table read by looking up every entry once.
    fn lines_read(table: &Numbers) -> usize {
        let mut lines = 0;
        for bucket in 0..table.buckets {
            let (mut node, mut depth) = (table.bucket(bucket), 1);
            while !node.is_null() {
                // SAFETY: live nodes of a table at rest.
                unsafe {
                    lines += depth * occupied((*node).word).count_ones() as usize;
                    node = Node::next(node);
                }
                depth += 1;
            }
        }
        lines
    }

    #[test]
    #[cfg(not(miri))]
    fn lookups_read_little_more_than_one_line() {
        let mut table = Numbers::new();
        let (mut sum, mut worst, mut count) = (0.0, 0f64, 0);
        for n in 0..64_000 {
            add(&mut table, n);
            // Two doublings, in even steps of a sixteenth.
            if n >= 16_000 && n % 1000 == 0 {
                let lines = lines_read(&table) as f64 / table.len() as f64;
                (sum, worst, count) = (sum + lines, worst.max(lines), count + 1);
            }
        }
        let mean = sum / f64::from(count);
        eprintln!("lines per hit: {mean:.3} on average, {worst:.3} at worst");
        assert!(mean <= 1.17 && worst <= 1.25, "lines per hit: {mean} on average, {worst} at worst");
    }

    #[test]
    fn bytes_per_entry_stay_level_while_growing_and_bounded_while_shrinking() {
        let count = fewer(60_000, 250) as u64;
        let mut table = Numbers::new();
        for n in 0..count {
            add(&mut table, n);
            if n >= 1000 && n % 64 == 0 {
                let per_entry = table.bytes() as f64 / table.len() as f64;
                assert!(per_entry <= 14.5, "{per_entry} bytes per entry at {n}");
            }
        }
        assert_sound(&table);
        for n in 0..count {
            assert!(delete(&mut table, n));
            if count - n >= 1000 && n % 64 == 0 {
                let per_entry = table.bytes() as f64 / table.len() as f64;
                assert!(per_entry <= 29.0, "{per_entry} bytes per entry with {} left", table.len());
            }
            if n % 4096 == 0 {
                assert_sound(&table);
            }
        }
        assert_eq!(table.bytes(), 0);
    }

    #[test]
    fn reserving_builds_the_table_at_once() {
        for entries in [1usize, 7, 8, 100, fewer(333, 120), fewer(1000, 150), fewer(50_000, 200)] {
            let mut table = Numbers::new();
            table.reserve(entries);
            let buckets = table.buckets;
            for n in 0..entries as u64 {
                add(&mut table, n);
            }
            assert!(
                u64::from(table.buckets - buckets) <= 1 + u64::from(buckets) / 20,
                "{entries}: {buckets} -> {}",
                table.buckets
            );
            assert_sound(&table);
        }
    }

    #[test]
    fn prefetching_changes_nothing() {
        let mut table = Numbers::new();
        for n in 0..200 {
            add(&mut table, n);
            let h = hash(&key(n / 2));
            table.prefetch(h);
            table.prefetch_entry(h);
        }
        assert!((0..200).all(|n| holds(&table, n)));
    }

    struct Counted(Box<(Vec<u8>, Rc<()>)>);

    impl Keyed for Counted {
        fn key(&self) -> &[u8] {
            &self.0.0
        }
    }

    #[test]
    fn every_entry_is_dropped_once() {
        let alive = Rc::new(());
        let count = fewer(3000, 80) as u64;
        let fill = || {
            let mut table = Table::new();
            for n in 0..count {
                table.insert(hash(&key(n)), Counted(Box::new((key(n), alive.clone()))));
            }
            table
        };
        let alive_now = || Rc::strong_count(&alive) as u64 - 1;
        let mut table = fill();
        for n in 0..count / 2 {
            drop(table.remove(hash(&key(n)), &key(n)).expect("present"));
        }
        assert_eq!(alive_now(), count - count / 2);
        drop(table);
        assert_eq!(alive_now(), 0);
        let mut table = fill();
        table.clear();
        assert_eq!((alive_now(), table.bytes()), (0, 0));
        let mut table = fill();
        let mut drained = table.drain();
        assert_eq!((drained.len() as u64, table.len()), (count, 0));
        assert_eq!(drained.by_ref().take(count as usize / 3).count() as u64, count / 3);
        assert_eq!(alive_now(), count - count / 3);
        drop(drained);
        assert_eq!(alive_now(), 0);
        assert_eq!(fill().into_iter().count() as u64, count);
        assert_eq!(alive_now(), 0);
    }

    #[test]
    fn a_table_is_freed_on_another_thread() {
        let mut table = Numbers::new();
        (0..100).for_each(|n| add(&mut table, n));
        assert_eq!(std::thread::spawn(move || table.into_iter().count()).join().expect("no panic"), 100);
    }

    #[test]
    fn random_entries_are_fair() {
        // A low number of draws per entry, but enough to see a bias by the length of chains.
        let (entries, draws) = (fewer(700, 20) as u64, fewer(350_000, 200) as u64);
        let mut table = Numbers::new();
        (0..entries).for_each(|n| add(&mut table, n));
        let mut rng = random_numbers(1);
        let mut seen = vec![0f64; entries as usize];
        for _ in 0..draws {
            seen[number(table.random(&mut rng).expect("not empty")) as usize] += 1.0;
        }
        if !cfg!(miri) {
            let mean = draws as f64 / entries as f64;
            let chi: f64 = seen.iter().map(|n| (n - mean) * (n - mean) / mean).sum();
            let freedom = entries as f64 - 1.0;
            assert!(
                chi < freedom + 6.0 * (2.0 * freedom).sqrt(),
                "chi² {chi} with {freedom} degrees of freedom"
            );
        }
    }

    #[test]
    fn long_chains_are_drawn_from_whole() {
        // Entries forced into one bucket by choosing their keys: more than `random` counts on, of which each is rare.
        let (count, mask) = (fewer(40, 25), fewer(63, 15) as u64);
        let mut table = Numbers::new();
        let chosen: Vec<u64> = (0u64..).filter(|&n| hash(&key(n)) & mask == 0).take(count).collect();
        chosen.iter().for_each(|&n| add(&mut table, n));
        assert_sound(&table);
        let mut rng = random_numbers(3);
        let seen: HashSet<u64> =
            (0..fewer(20_000, 500)).map(|_| number(table.random(&mut rng).expect("not empty"))).collect();
        assert_eq!(seen.len(), count);
        for &n in &chosen {
            assert!(delete(&mut table, n));
            assert_sound(&table);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u64, u64),
        Delete(u64, u64),
        Visit(usize),
    }

    /// Runs of insertions and removals that grow and shrink the table by a factor, with visits between.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let keys = fewer(2000, 60) as u64;
        let run = move || (0..keys, 1..keys / 3);
        let step = prop_oneof![
            run().prop_map(|(from, count)| Step::Add(from, count)),
            run().prop_map(|(from, count)| Step::Delete(from, count)),
            (1..40usize).prop_map(Step::Visit),
        ];
        prop::collection::vec(step, 1..fewer(40, 6))
    }

    fn apply(table: &mut Numbers, model: &mut HashMap<u64, bool>, step: &Step) {
        match *step {
            Step::Add(from, count) => {
                for n in from..from + count {
                    if !holds(table, n) {
                        add(table, n);
                        // Not present from the start of the walk on.
                        model.insert(n, false);
                    }
                }
            }
            Step::Delete(from, count) => {
                for n in from..from + count {
                    assert_eq!(delete(table, n), model.remove(&n).is_some());
                }
            }
            Step::Visit(_) => {}
        }
    }

    proptest! {
        #![proptest_config(cases(150, 3))]

        #[test]
        fn behaves_as_a_map(steps in steps()) {
            let (mut table, mut model) = (Numbers::new(), HashMap::new());
            for step in &steps {
                apply(&mut table, &mut model, step);
                assert_sound(&table);
                prop_assert_eq!(table.len(), model.len());
            }
            for &n in model.keys() {
                let key = key(n);
                let h = hash(&key);
                prop_assert!(holds(&table, n));
                prop_assert_eq!(table.get_mut(h, &key).map(|r| number(r)), Some(n));
                prop_assert_eq!(table.find_by_hash(h, |r| r.key() == key).map(|r| number(r)), Some(n));
            }
            let listed: Vec<u64> = table.iter().map(number).collect();
            prop_assert_eq!(listed.len(), model.len());
            prop_assert!(listed.iter().all(|n| model.contains_key(n)));
        }

        #[test]
        fn scan_returns_what_was_there_throughout(before in steps(), during in steps()) {
            let (mut table, mut model) = (Numbers::new(), HashMap::new());
            before.iter().for_each(|step| apply(&mut table, &mut model, step));
            model.values_mut().for_each(|throughout| *throughout = true);
            let (mut cursor, mut seen, mut ended) = (0, HashSet::new(), false);
            for step in during.iter().chain(&[Step::Visit(usize::MAX)]) {
                if let Step::Visit(times) = *step {
                    for _ in 0..times {
                        if ended {
                            break;
                        }
                        cursor = table.scan(cursor, |record| { seen.insert(number(record)); });
                        ended = cursor == 0;
                    }
                } else if !ended {
                    apply(&mut table, &mut model, step);
                }
            }
            prop_assert!(ended);
            for (n, throughout) in model {
                prop_assert!(!throughout || seen.contains(&n), "{n} was there from start to end");
            }
        }

        #[test]
        fn intervals_show_every_entry_once_as_it_was(before in steps(), during in steps(), more_bits in 0..3u32) {
            // A snapshot in miniature: the walk takes the intervals in order; a write to an interval not yet walked
            // first saves that interval. What is saved and walked together is the table as it was at the start.
            let (mut table, mut model) = (Numbers::new(), HashMap::new());
            before.iter().for_each(|step| apply(&mut table, &mut model, step));
            let mut expected: Vec<u64> = model.keys().copied().collect();
            expected.sort_unstable();
            let bits = table.level() + more_bits;
            let mut visited = vec![false; 1 << bits];
            let mut snapshot: Vec<u64> = Vec::new();
            let save = |table: &Numbers, visited: &mut Vec<bool>, snapshot: &mut Vec<u64>, index: usize| {
                if !mem::replace(&mut visited[index], true) {
                    table.visit_interval(bits, index as u64, |record| {
                        let n = number(record);
                        assert_eq!(hash(&key(n)) & ((1 << bits) - 1), index as u64);
                        snapshot.push(n);
                    });
                }
            };
            let mut next = 0;
            for step in &during {
                match *step {
                    Step::Add(from, count) | Step::Delete(from, count) => {
                        for n in from..from + count {
                            let index = (hash(&key(n)) & ((1 << bits) - 1)) as usize;
                            save(&table, &mut visited, &mut snapshot, index);
                            let one = if matches!(step, Step::Add(..)) { Step::Add(n, 1) } else { Step::Delete(n, 1) };
                            apply(&mut table, &mut model, &one);
                        }
                    }
                    Step::Visit(times) => {
                        let end = (next + times).min(1 << bits);
                        (next..end).for_each(|index| save(&table, &mut visited, &mut snapshot, index));
                        next = next.max(end);
                    }
                }
            }
            for index in next..1 << bits {
                save(&table, &mut visited, &mut snapshot, index);
            }
            snapshot.sort_unstable();
            prop_assert_eq!(snapshot, expected);
        }
    }
}
