//! The large form of sorted sets: members by name and members by rank.
//!
//! A [`Table`] owns the members as records whose number is the bits of the score. A B+-tree with subtree counts orders
//! them by (score, member bytes): its leaves hold (score, address of the member's record), so a range is read
//! sequentially and only equal scores need a look at the members. Every child also carries the first entry of its
//! subtree, which is kept exact: nothing in the tree outlives the record that it points to.
//!
//! Where redis spends a skiplist node with 1.33 pointers and spans on average, a string and a table entry on every
//! member (about 100 bytes for short ones), this takes a record, 14 bytes of table and 16 bytes of leaf at its fill.
//!
//! Elements that arrive in order, ascending or descending, fill leaves completely, so loading needs no separate path.
//!
//! One thread owns a set. It may move to another thread to be freed there. Scores are never NaN.
#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::ops;
use std::ptr::NonNull;

use crate::copying::{Copying, Order};
use crate::hash::hash;
use crate::record::{Record, ValueMut, ValueRef, prefetch_line};
use crate::table::{Prepare, Table};

/// What [`OrderedSet::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Insertion {
    Inserted,
    Updated { old: f64 },
    Unchanged,
}

/// A set of members ordered by (score, bytes).
#[derive(Default)]
pub struct OrderedSet {
    members: Table<Record<()>>,
    /// An empty leaf when there are no members.
    root: Node,
    record_bytes: usize,
}

// SAFETY: the addresses in the tree are those of records that the set itself owns; what a record shares with a twin on
// another thread is sound by the rules of twins.
unsafe impl Send for OrderedSet {}

const LEAF_MAX: usize = 64;
const CHILDREN_MAX: usize = 32;

/// A place in the order. Invariant of every entry of a tree: `member` is the block of a record of the set's table, and
/// that record is not reshaped while the entry exists. One with a twin is not even changed: it would move to another
/// block.
#[derive(Clone, Copy)]
struct Entry {
    score: f64,
    member: NonNull<u8>,
}

enum Node {
    Leaf(Vec<Entry>),
    Inner(Vec<Child>),
}

struct Child {
    count: usize,
    /// The first entry below.
    first: Entry,
    node: Node,
}

/// A member to be found, with its score.
#[derive(Clone, Copy)]
struct Key<'a> {
    score: f64,
    member: &'a [u8],
}

impl Key<'_> {
    /// Whether the entry comes before this key. -0.0 and 0.0 are the same score.
    #[inline]
    fn is_after(&self, entry: &Entry) -> bool {
        match entry.score.partial_cmp(&self.score) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) => entry.member() < self.member,
            _ => false,
        }
    }

    #[inline]
    fn is_before(&self, entry: &Entry) -> bool {
        match entry.score.partial_cmp(&self.score) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => entry.member() > self.member,
            _ => false,
        }
    }
}

impl Entry {
    #[inline]
    fn member<'a>(&self) -> &'a [u8] {
        // SAFETY: the invariant of entries. The lifetime is bounded by callers: entries do not leave this module, and
        // what does is bounded by a borrow of the set.
        unsafe { Record::<()>::key_of(self.member) }
    }
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Vec::new())
    }
}

impl OrderedSet {
    pub const fn new() -> OrderedSet {
        OrderedSet { members: Table::new(), root: Node::Leaf(Vec::new()), record_bytes: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Memory of records, table and tree. Walks the tree's nodes.
    pub fn bytes(&self) -> usize {
        self.record_bytes + self.members.bytes() + self.root.bytes()
    }

    /// Prepares the table of an empty set for this many members.
    pub fn reserve(&mut self, members: usize) {
        self.members.reserve(members);
    }

    /// Adds a member or gives it another score.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Insertion {
        self.upsert(member, |_| Some(score))
    }

    /// Asks `choose` for the score that a member is to have, given the one it has, if it is there: one look-up for
    /// what depends on the old score. `None` changes nothing.
    pub fn upsert(&mut self, member: &[u8], choose: impl FnOnce(Option<f64>) -> Option<f64>) -> Insertion {
        let h = hash(member);
        let Some(record) = self.members.get_mut(h, member) else {
            let Some(score) = choose(None) else { return Insertion::Unchanged };
            debug_assert!(!score.is_nan(), "a score is a number");
            let record: Record<()> = Record::new_int(member, score.to_bits() as i64, None);
            let entry = Entry { score, member: record.block() };
            self.record_bytes += record.bytes();
            self.members.insert(h, record);
            self.root.insert_root(Key { score, member }, entry);
            return Insertion::Inserted;
        };
        let old = score_of(record);
        let Some(score) = choose(Some(old)).filter(|score| *score != old) else {
            return Insertion::Unchanged;
        };
        debug_assert!(!score.is_nan(), "a score is a number");
        if record.has_twin() {
            self.root.remove_root(Key { score: old, member });
            set_score(record, score);
            let entry = Entry { score, member: record.block() };
            self.root.insert_root(Key { score, member }, entry);
            return Insertion::Updated { old };
        }
        let entry = Entry { score, member: record.block() };
        set_score(record, score);
        if !self.root.rescore(Key { score: old, member }, Key { score, member }) {
            self.root.remove_root(Key { score: old, member });
            self.root.insert_root(Key { score, member }, entry);
        }
        Insertion::Updated { old }
    }

    /// Adds a member that `old` has with this score as the [twin](Record::twin) of that one's record. False if it has not,
    /// or its record has a twin, or the member is here already: then nothing was done.
    pub fn insert_twin(&mut self, old: &mut OrderedSet, member: &[u8], score: f64) -> bool {
        let h = hash(member);
        if self.members.get(h, member).is_some() {
            return false;
        }
        let Some(record) = old.members.get_to_twin(h, member) else { return false };
        if score_of(record).to_bits() != score.to_bits() {
            return false;
        }
        let Some(record) = record.twin() else { return false };
        let entry = Entry { score, member: record.block() };
        self.record_bytes += record.bytes();
        self.members.insert(h, record);
        self.root.insert_root(Key { score, member }, entry);
        true
    }

    /// Removes a member and returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let record = self.members.remove(hash(member), member)?;
        let score = score_of(&record);
        // The record lives until the end, so the tree still points to a live one while it is searched.
        self.root.remove_root(Key { score, member });
        self.record_bytes -= record.bytes();
        Some(score)
    }

    /// A step of [`Table::prepare`] for the member with this hash.
    #[inline]
    pub fn prepare(&self, hash: u64, step: Prepare) {
        self.members.prepare(hash, step);
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.members.get(hash(member), member).map(score_of)
    }

    /// Number of members before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let key = Key { score: self.score(member)?, member };
        Some(self.root.count_while(|entry| key.is_after(entry)))
    }

    pub fn at_rank(&self, rank: usize) -> Option<(&[u8], f64)> {
        if rank >= self.len() {
            return None;
        }
        let (leaf, at) = self.root.leaf_at(rank);
        Some((leaf[at].member(), leaf[at].score))
    }

    /// Number of members with a score below this one, or also equal to it.
    pub fn rank_of_score(&self, score: f64, after_equal: bool) -> usize {
        self.root.count_while(|entry| if after_equal { entry.score <= score } else { entry.score < score })
    }

    /// Number of members whose bytes are less than these, or also equal to them, where all scores are equal.
    pub fn rank_of_member_bytes(&self, bytes: &[u8], after_equal: bool) -> usize {
        self.root
            .count_while(|entry| if after_equal { entry.member() <= bytes } else { entry.member() < bytes })
    }

    /// Members of these ranks (cut to what exists) with their scores, in order; `.rev()` for the other order.
    pub fn range(&self, ranks: ops::Range<usize>) -> Range<'_> {
        let end = ranks.end.min(self.len());
        Range { root: &self.root, start: ranks.start.min(end), end, front: &[], back: &[] }
    }

    pub fn iter(&self) -> Range<'_> {
        self.range(0..self.len())
    }

    /// Removes the members of these ranks, showing each to `removed` first, in order.
    pub fn remove_rank_range(&mut self, start: usize, end: usize, mut removed: impl FnMut(&[u8], f64)) {
        for _ in start..end.min(self.len()) {
            let (record, score) = self.remove_at(start).expect("ranks below the length exist");
            removed(record.key(), score);
        }
    }

    /// Takes the first member out: its record, whose key is the member, and the score.
    pub fn pop_first(&mut self) -> Option<(Record<()>, f64)> {
        self.remove_at(0)
    }

    pub fn pop_last(&mut self) -> Option<(Record<()>, f64)> {
        self.remove_at(self.len().checked_sub(1)?)
    }

    /// As [`Table::random`].
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<(&[u8], f64)> {
        self.members.random(rng).map(|record| (record.key(), score_of(record)))
    }

    /// As [`Table::scan`].
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        self.members.scan(cursor, |record| visit(record.key(), score_of(record)))
    }

    /// As [`Table::begin_copy`], of members and scores.
    pub fn begin_copy(&mut self, write: impl Fn(&[u8], f64, &mut Vec<u8>) + Send + 'static) -> Copying {
        self.members.begin_copy(move |record, out| write(record.key(), score_of(record), out))
    }

    /// As [`Table::copy_more`].
    pub fn copy_more(&mut self, budget_bytes: usize) {
        self.members.copy_more(budget_bytes);
    }

    /// As [`Table::copy_order`].
    pub fn copy_order(&self) -> Option<&Order> {
        self.members.copy_order()
    }

    fn remove_at(&mut self, rank: usize) -> Option<(Record<()>, f64)> {
        if rank >= self.len() {
            return None;
        }
        let (leaf, at) = self.root.leaf_at(rank);
        let Entry { score, member } = leaf[at];
        // Who takes one out of an end mostly takes the next ones out too.
        if let Some(ahead) = leaf.get(if at == 0 { AHEAD } else { at.saturating_sub(AHEAD) }) {
            prefetch_line(ahead.member.as_ptr());
        }
        let h = hash(leaf[at].member());
        let record = self.members.remove_by_hash(h, |record| record.block() == member)?;
        self.root.remove_root(Key { score, member: record.key() });
        self.record_bytes -= record.bytes();
        Some((record, score))
    }
}

fn score_of(record: &Record<()>) -> f64 {
    let ValueRef::Int(bits) = record.value() else { unreachable!("members hold their score") };
    f64::from_bits(bits as u64)
}

/// The block stays the same unless the record has a twin.
fn set_score(record: &mut Record<()>, score: f64) {
    let ValueMut::Int(bits) = record.value_mut() else { unreachable!("members hold their score") };
    *bits = score.to_bits() as i64;
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.capacity() * size_of::<Entry>(),
            Node::Inner(children) => {
                children.capacity() * size_of::<Child>()
                    + children.iter().map(|child| child.node.bytes()).sum::<usize>()
            }
        }
    }

    fn first(&self) -> Entry {
        match self {
            Node::Leaf(entries) => entries[0],
            Node::Inner(children) => children[0].first,
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    /// Entries for which `before` holds, which are the first ones.
    fn count_while(&self, before: impl Fn(&Entry) -> bool) -> usize {
        let (mut node, mut count) = (self, 0);
        loop {
            match node {
                Node::Leaf(entries) => return count + entries.partition_point(&before),
                Node::Inner(children) => {
                    let at = child_for(children, &before);
                    count += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// The leaf with the entry of this rank, which exists, and its place there.
    fn leaf_at(&self, mut rank: usize) -> (&[Entry], usize) {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(entries) => return (entries, rank),
                Node::Inner(children) => {
                    let mut at = 0;
                    while rank >= children[at].count {
                        rank -= children[at].count;
                        at += 1;
                    }
                    node = &children[at].node;
                }
            }
        }
    }

    fn insert_root(&mut self, key: Key<'_>, entry: Entry) {
        if let Some(right) = self.insert(key, entry, Edges { first: true, last: true }) {
            let left = Child::new(std::mem::take(self));
            let mut children = Vec::with_capacity(CHILDREN_MAX);
            children.extend([left, right]);
            *self = Node::Inner(children);
        }
    }

    /// Inserts below this node; returns what does not fit any more, as the node after this one.
    fn insert(&mut self, key: Key<'_>, entry: Entry, edges: Edges) -> Option<Child> {
        match self {
            Node::Leaf(entries) => {
                let at = entries.partition_point(|other| key.is_after(other));
                if entries.len() < LEAF_MAX {
                    entries.insert(at, entry);
                    return None;
                }
                // At an edge of the whole order more of the same is likely: leave a full leaf behind.
                let mut right = Vec::with_capacity(LEAF_MAX);
                if edges.last && at == LEAF_MAX {
                    right.push(entry);
                } else if edges.first && at == 0 {
                    right.push(entry);
                    std::mem::swap(entries, &mut right);
                } else {
                    right.extend(entries.drain(LEAF_MAX / 2..));
                    if at <= LEAF_MAX / 2 {
                        entries.insert(at, entry);
                    } else {
                        right.insert(at - LEAF_MAX / 2, entry);
                    }
                }
                Some(Child::new(Node::Leaf(right)))
            }
            Node::Inner(children) => {
                let mut at = child_for(children, |other| key.is_after(other));
                let below = |at: usize, count: usize| Edges {
                    first: edges.first && at == 0,
                    last: edges.last && at + 1 == count,
                };
                let on_edge = {
                    let below = below(at, children.len());
                    below.first || below.last
                };
                if !on_edge && share_with_neighbour(children, at) {
                    at = child_for(children, |other| key.is_after(other));
                }
                let below = below(at, children.len());
                let right = children[at].node.insert(key, entry, below);
                match right {
                    None => {
                        children[at].count += 1;
                        children[at].first = children[at].node.first();
                        return None;
                    }
                    Some(right) => {
                        children[at].refresh();
                        children.insert(at + 1, right);
                    }
                }
                if children.len() < CHILDREN_MAX {
                    return None;
                }
                let keep = if below.last {
                    CHILDREN_MAX - 1
                } else if below.first {
                    1
                } else {
                    CHILDREN_MAX / 2
                };
                let mut right = Vec::with_capacity(CHILDREN_MAX);
                right.extend(children.drain(keep..));
                Some(Child::new(Node::Inner(right)))
            }
        }
    }

    /// Gives the entry another score if it keeps its place within its leaf by that.
    fn rescore(&mut self, old: Key<'_>, new: Key<'_>) -> bool {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|other| old.is_after(other));
                    debug_assert_eq!(entries[at].member(), old.member);
                    // The first entry of a leaf is known to the nodes above, the last one's neighbour is not known here.
                    let stays = at > 0
                        && at + 1 < entries.len()
                        && new.is_after(&entries[at - 1])
                        && !new.is_after(&entries[at + 1]);
                    if stays {
                        entries[at].score = new.score;
                    }
                    return stays;
                }
                Node::Inner(children) => {
                    let at = child_for(children, |other| !old.is_before(other));
                    node = &mut children[at].node;
                }
            }
        }
    }

    fn remove_root(&mut self, key: Key<'_>) {
        self.remove(key);
        while let Node::Inner(children) = self {
            if children.len() > 1 {
                break;
            }
            *self = children.pop().map_or_else(Node::default, |child| child.node);
        }
        if let Node::Leaf(entries) = self
            && entries.is_empty()
        {
            *self = Node::default();
        }
    }

    /// Removes the entry with this key, which exists.
    fn remove(&mut self, key: Key<'_>) {
        match self {
            Node::Leaf(entries) => {
                let at = entries.partition_point(|other| key.is_after(other));
                assert!(entries[at].member() == key.member, "every member of the table is in the tree");
                entries.remove(at);
            }
            Node::Inner(children) => {
                let at = child_for(children, |other| !key.is_before(other));
                children[at].node.remove(key);
                children[at].count -= 1;
                if children[at].count == 0 {
                    children.remove(at);
                    return;
                }
                children[at].first = children[at].node.first();
                if children[at].node.len() < children[at].node.capacity_max() / 4 {
                    merge_with_neighbour(children, at);
                }
            }
        }
    }

    fn capacity_max(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF_MAX,
            Node::Inner(_) => CHILDREN_MAX,
        }
    }
}

/// Whether a node is the first or the last of its level.
#[derive(Clone, Copy)]
struct Edges {
    first: bool,
    last: bool,
}

impl Child {
    fn new(node: Node) -> Child {
        Child { count: node.count(), first: node.first(), node }
    }

    fn refresh(&mut self) {
        self.count = self.node.count();
        self.first = self.node.first();
    }
}

/// The last child whose first entry `before` holds for, or the first child.
#[inline]
fn child_for(children: &[Child], before: impl Fn(&Entry) -> bool) -> usize {
    children[1..].partition_point(|child| before(&child.first))
}

/// If the leaf `at` is full, gives a part of it to a neighbour that has room. Leaves are fuller by that than by
/// splitting alone.
fn share_with_neighbour(children: &mut [Child], at: usize) -> bool {
    const ROOM: usize = LEAF_MAX / 8;
    let has_room =
        |child: &Child| matches!(&child.node, Node::Leaf(entries) if entries.len() + ROOM <= LEAF_MAX);
    if !matches!(&children[at].node, Node::Leaf(entries) if entries.len() == LEAF_MAX) {
        return false;
    }
    let left = if at > 0 && has_room(&children[at - 1]) {
        at - 1
    } else if at + 1 < children.len() && has_room(&children[at + 1]) {
        at
    } else {
        return false;
    };
    let [a, b] = &mut children[left..left + 2] else { unreachable!("two neighbours") };
    let (Node::Leaf(left), Node::Leaf(right)) = (&mut a.node, &mut b.node) else {
        unreachable!("leaves share a level")
    };
    let half = (left.len() + right.len()) / 2;
    if left.len() > half {
        right.splice(0..0, left.drain(half..));
    } else {
        let missing = half - left.len();
        left.extend(right.drain(..missing));
    }
    a.refresh();
    b.refresh();
    true
}

/// Joins a node that has become small with a neighbour if the two fit one node with some room.
fn merge_with_neighbour(children: &mut Vec<Child>, at: usize) {
    let fits = |left: usize, children: &[Child]| {
        let (a, b) = (&children[left].node, &children[left + 1].node);
        a.len() + b.len() <= a.capacity_max() * 3 / 4
    };
    let left = if at > 0 && fits(at - 1, children) {
        at - 1
    } else if at + 1 < children.len() && fits(at, children) {
        at
    } else {
        return;
    };
    let right = children.remove(left + 1);
    let into = &mut children[left];
    match (&mut into.node, right.node) {
        (Node::Leaf(entries), Node::Leaf(more)) => entries.extend(more),
        (Node::Inner(nodes), Node::Inner(more)) => nodes.extend(more),
        _ => unreachable!("neighbours are of one level"),
    }
    into.count += right.count;
}

/// Members of a range of ranks with their scores.
pub struct Range<'a> {
    root: &'a Node,
    start: usize,
    end: usize,
    /// What follows `start` in its leaf, and what precedes `end` in its; empty when not looked up yet.
    front: &'a [Entry],
    back: &'a [Entry],
}

/// How many entries ahead the members' lines are asked for.
const AHEAD: usize = 8;

impl<'a> Range<'a> {
    /// Takes the entries from `start` to the end of their leaf, or to `end`; there is one.
    #[inline]
    fn take_front(&mut self) -> &'a [Entry] {
        let mut leaf = std::mem::take(&mut self.front);
        if leaf.is_empty() {
            let (entries, at) = self.root.leaf_at(self.start);
            leaf = &entries[at..];
        }
        let leaf = &leaf[..leaf.len().min(self.end - self.start)];
        self.start += leaf.len();
        leaf
    }

    /// Takes the entries before `end` from the start of their leaf, or from `start`; there is one.
    #[inline]
    fn take_back(&mut self) -> &'a [Entry] {
        let mut leaf = std::mem::take(&mut self.back);
        if leaf.is_empty() {
            let (entries, at) = self.root.leaf_at(self.end - 1);
            leaf = &entries[..=at];
        }
        let leaf = &leaf[leaf.len() - leaf.len().min(self.end - self.start)..];
        self.end -= leaf.len();
        leaf
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], f64);

    fn next(&mut self) -> Option<(&'a [u8], f64)> {
        if self.start == self.end {
            return None;
        }
        if self.front.is_empty() {
            let (leaf, at) = self.root.leaf_at(self.start);
            self.front = &leaf[at..];
        }
        let (entry, rest) = self.front.split_first()?;
        if let Some(ahead) = rest.get(AHEAD) {
            prefetch_line(ahead.member.as_ptr());
        }
        self.front = rest;
        self.start += 1;
        Some((entry.member(), entry.score))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.start, Some(self.end - self.start))
    }

    /// Leaf by leaf: within one there is nothing to look after but the entries.
    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut visit: F) -> B {
        let mut result = init;
        while self.start < self.end {
            let leaf = self.take_front();
            leaf.iter().take(AHEAD).for_each(|entry| prefetch_line(entry.member.as_ptr()));
            for (at, entry) in leaf.iter().enumerate() {
                if let Some(ahead) = leaf.get(at + AHEAD) {
                    prefetch_line(ahead.member.as_ptr());
                }
                result = visit(result, (entry.member(), entry.score));
            }
        }
        result
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.start == self.end {
            return None;
        }
        if self.back.is_empty() {
            let (leaf, at) = self.root.leaf_at(self.end - 1);
            self.back = &leaf[..=at];
        }
        let (entry, rest) = self.back.split_last()?;
        if let Some(ahead) = rest.len().checked_sub(AHEAD) {
            prefetch_line(rest[ahead].member.as_ptr());
        }
        self.back = rest;
        self.end -= 1;
        Some((entry.member(), entry.score))
    }

    #[inline]
    fn rfold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, mut visit: F) -> B {
        let mut result = init;
        while self.start < self.end {
            let leaf = self.take_back();
            leaf.iter().rev().take(AHEAD).for_each(|entry| prefetch_line(entry.member.as_ptr()));
            for (at, entry) in leaf.iter().enumerate().rev() {
                if let Some(ahead) = at.checked_sub(AHEAD) {
                    prefetch_line(leaf[ahead].member.as_ptr());
                }
                result = visit(result, (entry.member(), entry.score));
            }
        }
        result
    }
}

impl ExactSizeIterator for Range<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use crate::testing::{cases, fewer};

    /// Orders as the set does, for the model.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Score(f64);

    impl Eq for Score {}
    impl PartialOrd for Score {
        fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Score {
        fn cmp(&self, other: &Score) -> Ordering {
            self.0.partial_cmp(&other.0).expect("no NaN")
        }
    }

    #[derive(Default, Clone)]
    struct Model {
        scores: HashMap<Vec<u8>, f64>,
        order: BTreeSet<(Score, Vec<u8>)>,
    }

    impl Model {
        fn insert(&mut self, member: &[u8], score: f64) -> Insertion {
            match self.scores.get(member).copied() {
                Some(old) if old == score => return Insertion::Unchanged,
                Some(old) => {
                    self.order.remove(&(Score(old), member.to_vec()));
                }
                None => {}
            }
            self.order.insert((Score(score), member.to_vec()));
            self.scores
                .insert(member.to_vec(), score)
                .map_or(Insertion::Inserted, |old| Insertion::Updated { old })
        }

        fn remove(&mut self, member: &[u8]) -> Option<f64> {
            let score = self.scores.remove(member)?;
            assert!(self.order.remove(&(Score(score), member.to_vec())));
            Some(score)
        }
    }

    /// Counts, first entries, order and sizes of all nodes.
    fn assert_sound(set: &OrderedSet) {
        fn walk(node: &Node, is_root: bool, entries: &mut Vec<Entry>) -> usize {
            assert!(is_root || node.len() > 0);
            assert!(node.len() <= node.capacity_max());
            match node {
                Node::Leaf(leaf) => {
                    entries.extend(leaf);
                    assert!(leaf.capacity() <= LEAF_MAX);
                    0
                }
                Node::Inner(children) => {
                    assert!(!is_root || children.len() > 1);
                    let depths: Vec<usize> = children
                        .iter()
                        .map(|child| {
                            let before = entries.len();
                            let depth = walk(&child.node, false, entries);
                            assert_eq!(child.count, entries.len() - before);
                            assert_eq!(child.first.member, entries[before].member);
                            assert_eq!(child.first.score, entries[before].score);
                            depth
                        })
                        .collect();
                    assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
                    depths[0] + 1
                }
            }
        }
        let mut entries = Vec::new();
        walk(&set.root, true, &mut entries);
        assert_eq!(entries.len(), set.len());
        assert!(entries.windows(2).all(|e| Key { score: e[1].score, member: e[1].member() }.is_after(&e[0])));
        assert!(entries.iter().all(|e| set.score(e.member()) == Some(e.score)));
    }

    fn listed(range: impl Iterator<Item = (impl AsRef<[u8]>, f64)>) -> Vec<(Vec<u8>, f64)> {
        range.map(|(member, score)| (member.as_ref().to_vec(), score)).collect()
    }

    #[test]
    fn an_empty_set() {
        let mut set = OrderedSet::new();
        assert_eq!((set.bytes(), set.len(), set.iter().count()), (0, 0, 0));
        assert!(set.pop_first().is_none() && set.pop_last().is_none() && set.at_rank(0).is_none());
        assert_eq!((set.rank(b"a"), set.rank_of_score(1.0, true), set.remove(b"a")), (None, 0, None));
        set.insert(b"a", 1.0);
        assert_eq!(set.remove(b"a"), Some(1.0));
        assert_eq!(set.bytes(), 0);
    }

    #[test]
    fn zeroes_are_equal_and_infinities_are_ends() {
        let mut set = OrderedSet::new();
        for (member, score) in
            [("b", 0.0), ("a", -0.0), ("z", f64::NEG_INFINITY), ("y", f64::INFINITY), ("c", -0.0)]
        {
            assert_eq!(set.insert(member.as_bytes(), score), Insertion::Inserted);
        }
        assert_eq!(set.insert(b"a", 0.0), Insertion::Unchanged);
        let order: Vec<&[u8]> = set.iter().map(|(member, _)| member).collect();
        assert_eq!(order, [b"z", b"a", b"b", b"c", b"y"]);
        assert_eq!((set.rank_of_score(-0.0, false), set.rank_of_score(0.0, true)), (1, 4));
    }

    #[test]
    fn elements_in_order_fill_their_leaves() {
        let count = fewer(10_000, 120) as u32;
        for descending in [false, true] {
            let mut set = OrderedSet::new();
            for n in 0..count {
                let n = if descending { count - n } else { n };
                set.insert(format!("m{n:06}").as_bytes(), f64::from(n));
            }
            assert_sound(&set);
            let per_entry = set.root.bytes() as f64 / f64::from(count);
            assert!(cfg!(miri) || per_entry < 17.5, "{per_entry} bytes of tree per entry");
        }
    }

    #[test]
    fn a_range_of_ranks_is_removed_in_order() {
        let mut set = OrderedSet::new();
        let count = fewer(5000, 100) as u32;
        (0..count).for_each(|n| {
            set.insert(format!("{n:05}").as_bytes(), f64::from(n / 7));
        });
        let (start, end) = (count as usize / 10, count as usize - 20);
        let expected = listed(set.range(start..end));
        let mut removed = Vec::new();
        set.remove_rank_range(start, end, |member, score| removed.push((member.to_vec(), score)));
        assert_eq!(removed, expected);
        assert_eq!(set.len(), start + 20);
        assert_sound(&set);
    }

    #[test]
    fn a_set_is_freed_on_another_thread() {
        let mut set = OrderedSet::new();
        (0..200u32).for_each(|n| {
            set.insert(&n.to_be_bytes(), f64::from(n % 3));
        });
        assert_eq!(std::thread::spawn(move || set.iter().count()).join().expect("no panic"), 200);
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Members from..from+count by `stride`, all with scores around one.
        Insert {
            from: u16,
            count: u16,
            stride: u16,
            score: f64,
            slope: f64,
        },
        Remove {
            from: u16,
            count: u16,
        },
        PopFirst(u8),
        PopLast(u8),
        RemoveRanks(u16, u16),
        /// The set goes on as another one of the same members, the first being kept beside it.
        Twin,
        /// The two change places.
        Swap,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let members = fewer(1500, 60) as u16;
        let slope = prop_oneof![Just(0.0), Just(1.0), Just(-1.0), Just(0.001)];
        let step = prop_oneof![
            4 => (0..members, 1..members / 2, 1..40u16, -20..20i8, slope).prop_map(|(from, count, stride, score, slope)| {
                Step::Insert { from, count, stride, score: f64::from(score) / 2.0, slope }
            }),
            3 => (0..members, 1..members).prop_map(|(from, count)| Step::Remove { from, count }),
            1 => any::<u8>().prop_map(Step::PopFirst),
            1 => any::<u8>().prop_map(Step::PopLast),
            1 => (0..members, 0..members).prop_map(|(a, b)| Step::RemoveRanks(a, b)),
            2 => Just(Step::Twin),
            1 => Just(Step::Swap),
        ];
        prop::collection::vec(step, 1..fewer(30, 6))
    }

    fn name(n: u16) -> Vec<u8> {
        format!("member:{}", n.wrapping_mul(40_503)).into_bytes()
    }

    proptest! {
        #![proptest_config(cases(150, 3))]

        #[test]
        fn behaves_as_a_map_and_an_order(steps in steps(), probe in any::<(u16, i8)>()) {
            let (mut set, mut model) = (OrderedSet::new(), Model::default());
            let (mut second, mut second_model) = (OrderedSet::new(), Model::default());
            for step in steps {
                match step {
                    Step::Twin => {
                        let mut twin = OrderedSet::new();
                        for (member, score) in listed(set.iter()).into_iter().rev() {
                            prop_assert!(!twin.insert_twin(&mut set, &member, score + 1.0));
                            if !twin.insert_twin(&mut set, &member, score) {
                                twin.insert(&member, score);
                            }
                            prop_assert!(!twin.insert_twin(&mut set, &member, score));
                        }
                        second = std::mem::replace(&mut set, twin);
                        second_model = model.clone();
                    }
                    Step::Swap => {
                        std::mem::swap(&mut set, &mut second);
                        std::mem::swap(&mut model, &mut second_model);
                    }
                    Step::Insert { from, count, stride, score, slope } => {
                        for i in 0..count {
                            let (member, score) = (name(from.wrapping_add(i.wrapping_mul(stride)) % 3000), score + slope * f64::from(i));
                            prop_assert_eq!(set.insert(&member, score), model.insert(&member, score));
                        }
                    }
                    Step::Remove { from, count } => {
                        for n in from..from + count {
                            prop_assert_eq!(set.remove(&name(n)), model.remove(&name(n)));
                        }
                    }
                    Step::PopFirst(times) => {
                        for _ in 0..times {
                            let expected = model.order.first().cloned();
                            let popped = set.pop_first().map(|(record, score)| (Score(score), record.key().to_vec()));
                            prop_assert_eq!(&popped, &expected);
                            popped.map(|(_, member)| model.remove(&member));
                        }
                    }
                    Step::PopLast(times) => {
                        for _ in 0..times {
                            let expected = model.order.last().cloned();
                            let popped = set.pop_last().map(|(record, score)| (Score(score), record.key().to_vec()));
                            prop_assert_eq!(&popped, &expected);
                            popped.map(|(_, member)| model.remove(&member));
                        }
                    }
                    Step::RemoveRanks(start, end) => {
                        let doomed: Vec<_> = model.order.iter().take(usize::from(end)).skip(usize::from(start)).cloned().collect();
                        let mut removed = Vec::new();
                        set.remove_rank_range(start.into(), end.into(), |member, score| removed.push((Score(score), member.to_vec())));
                        prop_assert_eq!(&removed, &doomed);
                        for (_, member) in doomed {
                            model.remove(&member);
                        }
                    }
                }
                assert_sound(&set);
                assert_sound(&second);
                prop_assert!(listed(second.iter()).iter().map(|(member, score)| (Score(*score), member.clone())).eq(second_model.order.iter().cloned()));
            }
            let expected: Vec<(Vec<u8>, f64)> = model.order.iter().map(|(score, member)| (member.clone(), score.0)).collect();
            prop_assert_eq!(listed(set.iter()), expected.clone());
            let (start, end) = (expected.len() / 3, expected.len() - expected.len() / 4);
            let backwards: Vec<_> = expected[start..end].iter().rev().cloned().collect();
            prop_assert_eq!(listed(set.range(start..end).rev()), backwards);
            // From both ends until they meet.
            let (mut both, mut range) = (Vec::new(), set.range(start..end));
            while let Some(front) = range.next() {
                both.push(front.0.to_vec());
                both.extend(range.next_back().map(|back| back.0.to_vec()));
            }
            both.sort();
            let mut members: Vec<_> = expected[start..end].iter().map(|(member, _)| member.clone()).collect();
            members.sort();
            prop_assert_eq!(both, members);
            for (rank, (member, score)) in expected.iter().enumerate() {
                prop_assert_eq!(set.rank(member), Some(rank));
                prop_assert_eq!(set.at_rank(rank), Some((&member[..], *score)));
            }
            let score = f64::from(probe.1) / 2.0;
            prop_assert_eq!(set.rank_of_score(score, false), expected.iter().filter(|(_, s)| *s < score).count());
            prop_assert_eq!(set.rank_of_score(score, true), expected.iter().filter(|(_, s)| *s <= score).count());
            let (mut lexical, mut names) = (OrderedSet::new(), BTreeSet::new());
            for (member, _) in &expected {
                lexical.insert(member, 1.0);
                names.insert(member.clone());
            }
            let bound = name(probe.0 % 3000);
            prop_assert_eq!(lexical.rank_of_member_bytes(&bound, false), names.range(..bound.clone()).count());
            prop_assert_eq!(lexical.rank_of_member_bytes(&bound, true), names.range(..=bound).count());
            let (mut cursor, mut scanned) = (0, Vec::new());
            loop {
                cursor = set.scan(cursor, |member, score| scanned.push((Score(score), member.to_vec())));
                if cursor == 0 {
                    break;
                }
            }
            scanned.sort();
            prop_assert!(scanned.iter().eq(model.order.iter()));
        }
    }
}
