//! The point-in-time walk over a database, without a fork.
//!
//! The table is cut into *intervals*: the keys whose hash ends in the same `bits` low bits, with `bits` read once
//! when the walk begins. Linear hashing keeps such a set together through any growth and shrinking, so an interval
//! names the same keys for ever, and one bit per interval says whether it has been copied. The walk copies interval
//! after interval in short slices; a write first copies the interval that it is about to change, unless that was
//! done. Either way each interval is copied exactly once, before its first change: what comes out is the database
//! as it was at the beginning, in some order. Keys that are born later fall into an interval that is already copied
//! by then, so they stay out.
//!
//! The cost is a bit per bucket, and for the first write to an interval a copy of its five or so entries. Copies go
//! to a [`Batch`]: flat bytes that another thread encodes as RDB. A large collection would be a pause of its own: it is
//! copied in parts by the same method one level below ([`crate::large`]).

mod batch;

use std::collections::VecDeque;
use std::sync::Arc;

use structures::copying::{Copying, Intervals, Order};
use structures::hash::hash;
use structures::record::{ValueMut, ValueRef};
use structures::table::Table;

pub use batch::{Batch, Body, Elements, Item, Items, ListNode, Shape, Value};
pub(crate) use batch::{HASH, HASH_TTL, LIST, SET, STREAM, ZSET};
pub(crate) use batch::{write_bytes, write_field, write_node, write_scored, write_stream_node};

use crate::entry::Entry;
use crate::large::AtOnce;
use crate::stream::Foot;

/// The progress of a snapshot over one database.
#[derive(Debug)]
pub struct Walk {
    intervals: Intervals,
    /// Pre-images that writes have saved, and at first the line that opens the database.
    pending: Batch,
    /// Values that are copied in parts, one after another, since the parts of a value must follow each other.
    large: VecDeque<Large>,
    at_once: AtOnce,
    index: u32,
}

/// A value that is copied in parts.
#[derive(Debug)]
struct Large {
    /// What it is called now: it may have been renamed.
    key: Box<[u8]>,
    /// The item that begins it, until that was handed on.
    begin: Vec<u8>,
    tag: u8,
    /// What ends it, if it is a stream.
    foot: Option<Arc<Foot>>,
    copying: Copying,
}

impl Walk {
    /// Starts a walk over `table`, which is database `index`.
    pub fn begin(index: u32, table: &Table<Entry>, expires: usize, at_once: AtOnce) -> Walk {
        let mut pending = Batch::default();
        pending.push_db_sizes(index, table.len() as u64, expires as u64);
        Walk { intervals: Intervals::new(table.level()), pending, large: VecDeque::new(), at_once, index }
    }

    /// Copies the interval of `hash` if it was not yet: call before the first change in it.
    #[inline]
    pub fn save(&mut self, table: &mut Table<Entry>, hash: u64) {
        let interval = self.intervals.of(hash);
        if self.intervals.reach(interval) {
            self.pending.select(self.index);
            let Walk { intervals, pending, large, at_once, .. } = self;
            table.visit_interval_mut(intervals.bits(), interval, |entry| {
                copy_entry(entry, *at_once, pending, large);
            });
        }
    }

    /// The value of an entry that has come under a new name is being copied in parts: if it is for this walk, it is
    /// looked for there from now on.
    pub fn follow(&mut self, entry: &Entry) -> bool {
        let ValueRef::Payload(object) = entry.value() else { return false };
        let Some(large) = self.large.iter_mut().find(|large| object.is_copied_by(&large.copying)) else {
            return false;
        };
        large.key = entry.key().into();
        true
    }

    /// Copies further intervals until `budget_bytes` more are in `out`; true when all are done.
    pub fn step(&mut self, table: &mut Table<Entry>, budget_bytes: usize, out: &mut Batch) -> bool {
        let end = out.weight() + budget_bytes;
        loop {
            self.drain(out);
            if !self.large.is_empty() {
                if !self.step_large(table, end, out) {
                    return false;
                }
                continue;
            }
            if out.weight() >= end {
                return false;
            }
            let Some(interval) = self.intervals.reach_next() else { return true };
            out.select(self.index);
            let (large, at_once) = (&mut self.large, self.at_once);
            table.visit_interval_mut(self.intervals.bits(), interval, |entry| {
                copy_entry(entry, at_once, out, large);
            });
        }
    }

    /// Copies more of the value that is being copied in parts; true when that is complete.
    fn step_large(&mut self, table: &mut Table<Entry>, end: usize, out: &mut Batch) -> bool {
        let Some(large) = self.large.front_mut() else { return true };
        if !large.begin.is_empty() {
            out.select(self.index);
            out.push_begun(&mut large.begin);
        }
        let budget = end.saturating_sub(out.weight()).max(1);
        if let Some(entry) = table.get_mut(hash(&large.key), &large.key)
            && let ValueMut::Payload(object) = entry.value_mut()
            && object.is_copied_by(&large.copying)
        {
            object.copy_more(budget);
        }
        // Where it is not found, it was deleted, and is completed by whoever frees it; or it is in another database,
        // which copies it (`Guests`).
        let parts = large.copying.take();
        out.push_part(large.tag, &parts);
        if parts.complete
            && let Some(large) = self.large.pop_front()
            && let Some(foot) = large.foot
        {
            out.push_foot(foot);
        }
        parts.complete
    }

    /// Moves the saved pre-images to `out`, unless the parts of a value are to follow.
    pub fn drain(&mut self, out: &mut Batch) -> bool {
        if self.pending.is_empty() || self.is_within_value() {
            return false;
        }
        out.append(&mut self.pending);
        true
    }

    /// The beginning of a value has been handed on, and not its end: nothing else may be.
    pub fn is_within_value(&self) -> bool {
        self.large.front().is_some_and(|large| large.begin.is_empty())
    }

    pub fn pending_bytes(&self) -> usize {
        let large: usize = self.large.iter().map(|large| large.copying.pending_bytes()).sum();
        self.pending.weight() + large
    }
}

/// Names of values that the walk of another database copies: they were moved here. Their parts go to that walk, but
/// only the database that they are in finds them.
#[derive(Debug, Default)]
pub struct Guests {
    keys: Vec<Box<[u8]>>,
}

impl Guests {
    pub const fn new() -> Guests {
        Guests { keys: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of `entry`, which is being copied, has come here, or has a new name here.
    pub fn add(&mut self, entry: &Entry) {
        self.keys.push(entry.key().into());
    }

    /// Copies about `budget_bytes` more of those whose parts have been taken; what is left of the budget.
    pub fn copy_more(&mut self, table: &mut Table<Entry>, budget_bytes: usize) -> usize {
        let mut left = budget_bytes;
        // A key whose value is not being copied any more is forgotten: it is complete, or has gone.
        self.keys.retain(|key| {
            let Some(entry) = table.get_mut(hash(key), key) else { return false };
            let ValueMut::Payload(object) = entry.value_mut() else { return false };
            let Some(before) = object.copy_order().map(Order::pending_bytes) else { return false };
            if before < budget_bytes && left > 0 {
                object.copy_more(left);
                let now = object.copy_order().map_or(0, Order::pending_bytes);
                left = left.saturating_sub(now.saturating_sub(before).max(1));
            }
            true
        });
        left
    }
}

/// Copies an entry, or begins to if it is large.
fn copy_entry(entry: &mut Entry, at_once: AtOnce, out: &mut Batch, large: &mut VecDeque<Large>) {
    if !matches!(entry.value(), ValueRef::Payload(object) if object.is_large(at_once)) {
        return out.push_entry(entry);
    }
    let ValueMut::Payload(object) = entry.value_mut() else {
        unreachable!("a large value is outside of its entry")
    };
    let copy = object.begin_copy();
    let begin = Batch::begin(entry, &copy);
    large.push_back(Large {
        key: entry.key().into(),
        begin,
        tag: copy.tag,
        foot: copy.foot,
        copying: copy.copying,
    });
}
