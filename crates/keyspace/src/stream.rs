//! Streams: entries in the order of their IDs, and groups of consumers that read them.
//!
//! Entries lie in listpacks ([`node`]) that are keyed by the ID of their first entry, in an ordered map. The last node,
//! which grows, is kept beside the map: appending looks for nothing, and neither does reading what is new. It alone has
//! room to grow; a node that is full is cut to size and joins the map.
//!
//! What must stay true: keys of nodes ascend, the tail's is the highest, and there is a tail whenever there is a node;
//! `length` is the sum of the nodes' live entries.

mod copy;
pub mod cursor;
pub mod group;
pub mod id;
pub mod load;
pub mod node;

use std::collections::BTreeMap;
use std::collections::btree_map;

pub use cursor::Cursor;
pub use group::{Consumer, ConsumerId, Group, Pending};
pub use id::StreamId;
pub use load::StreamLoad;
pub use node::Node;

use structures::copying::Slot;

use crate::limits::EncodingLimits;
use node::NODE_BYTES_MAX;

#[derive(Debug, Clone, Default)]
pub struct Stream {
    full: BTreeMap<StreamId, Node>,
    tail: Option<Node>,
    length: u64,
    /// The last ID that was given to an entry; new ones are higher.
    pub last_id: StreamId,
    /// The first entry's ID, 0-0 if there is none.
    first_id: StreamId,
    /// The highest ID that was deleted, apart from trimming.
    pub max_deleted_id: StreamId,
    /// Entries that were ever added.
    pub entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
    copy: Slot<copy::StreamCopy>,
}

/// Which ID an entry is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewId {
    /// The time, or what follows the last ID.
    Auto,
    /// This time, and the first free number in it.
    Ms(u64),
    Exact(StreamId),
}

/// Why an entry cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddError {
    /// The ID is not above the last one.
    NotAbove,
    /// Names and values together are longer than a node may be.
    TooLarge,
}

/// What trimming leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// At most so many entries.
    Length(u64),
    /// Entries from this ID on.
    From(StreamId),
}

/// What becomes of the references that groups have to entries that are to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum References {
    /// They stay: what is pending stays pending.
    #[default]
    Keep,
    /// They are deleted with the entry.
    Delete,
    /// Only entries without any are deleted: delivered to every group and acknowledged.
    Respect,
}

/// How to trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    pub keep: Keep,
    /// Delete whole nodes only.
    pub approximate: bool,
    /// Delete no more than this; 0 for no limit.
    pub limit: u64,
    pub references: References,
}

impl Stream {
    pub fn new() -> Stream {
        Stream::default()
    }

    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> u64 {
        self.length
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The ID that [`Stream::add`] would give; `None` if there is no higher one.
    #[inline]
    pub fn next_id(&self, id: NewId, now_ms: i64) -> Option<StreamId> {
        let auto = |ms: u64| match ms.cmp(&self.last_id.ms) {
            std::cmp::Ordering::Greater => Some(StreamId::new(ms, 0)),
            std::cmp::Ordering::Equal => Some(StreamId::new(ms, self.last_id.seq.checked_add(1)?)),
            std::cmp::Ordering::Less => None,
        };
        match id {
            NewId::Auto => {
                let now = u64::try_from(now_ms).unwrap_or(0);
                if now > self.last_id.ms { Some(StreamId::new(now, 0)) } else { self.last_id.next() }
            }
            NewId::Ms(ms) => auto(ms),
            NewId::Exact(id) => (id > self.last_id).then_some(id),
        }
    }

    /// Appends an entry: names and values in turn. `id` comes from [`Stream::next_id`].
    pub fn add<'v>(
        &mut self,
        id: StreamId,
        values: impl ExactSizeIterator<Item = &'v [u8]> + Clone,
        limits: &EncodingLimits,
    ) -> Result<(), AddError> {
        if id <= self.last_id {
            return Err(AddError::NotAbove);
        }
        let bytes: usize = values.clone().map(<[u8]>::len).sum();
        if bytes > NODE_BYTES_MAX {
            return Err(AddError::TooLarge);
        }
        let bytes_max = match limits.stream_node_bytes {
            1..=NODE_BYTES_MAX => limits.stream_node_bytes,
            _ => NODE_BYTES_MAX,
        };
        let fits = self.tail.as_ref().is_some_and(|tail| {
            tail.bytes().len() + bytes < bytes_max
                && (limits.stream_node_entries == 0
                    || tail.live() + tail.deleted() < limits.stream_node_entries as u64)
        });
        if !fits {
            self.seal_tail();
            self.tail = Some(Node::new(id, values.clone().step_by(2)));
        }
        let key = self.tail.as_ref().map_or(id, Node::key);
        self.before_change(key);
        let tail = self.tail.as_mut().expect("a tail was just made if there was none");
        tail.append(id, values, bytes);
        self.length += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.length == 1 {
            self.first_id = id;
        }
        Ok(())
    }

    /// Goes through entries that are not deleted, from `start` to `end`, both included.
    #[inline]
    pub fn range(&self, start: StreamId, end: StreamId) -> Cursor<'_> {
        Cursor::forward(self, start, end)
    }

    /// As [`Stream::range`], from `end` down to `start`.
    pub fn range_rev(&self, start: StreamId, end: StreamId) -> Cursor<'_> {
        Cursor::backward(self, start, end)
    }

    pub fn iter(&self) -> Cursor<'_> {
        self.range(StreamId::MIN, StreamId::MAX)
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.range(id, id).next().is_some()
    }

    /// The last entry's ID; 0-0 if there is none.
    #[inline]
    pub fn last_entry_id(&self) -> StreamId {
        self.range_rev(StreamId::MIN, StreamId::MAX).next().map_or(StreamId::MIN, |head| head.id)
    }

    /// The ID of the first entry, also of one that is only marked as deleted; the highest of all if there is no node.
    pub fn edge_id(&self) -> StreamId {
        let mut nodes = self.nodes();
        nodes
            .find_map(|node| {
                let shared = node.shared();
                (shared.entries < node.pack.end())
                    .then(|| shared.head(node.pack.iter_from(shared.entries)).0.id)
            })
            .unwrap_or(StreamId::MAX)
    }

    /// The nodes in order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.full.values().chain(&self.tail)
    }

    pub fn node_count(&self) -> usize {
        self.full.len() + usize::from(self.tail.is_some())
    }

    /// Deletes entries; how many there were. Tells of each ID whether it was there.
    pub fn delete(&mut self, ids: impl IntoIterator<Item = StreamId>, mut seen: impl FnMut(bool)) -> u64 {
        let (mut deleted, mut first) = (0, false);
        for id in ids {
            let found = self.delete_one(id);
            if found {
                first |= id == self.first_id;
                self.max_deleted_id = self.max_deleted_id.max(id);
                deleted += 1;
            }
            seen(found);
        }
        if self.length == 0 {
            self.first_id = StreamId::MIN;
        } else if first {
            self.find_first_id();
        }
        deleted
    }

    /// As [`Stream::delete`] of one entry, with regard to what groups have of it. `removed` is told of references.
    pub fn delete_with(
        &mut self,
        id: StreamId,
        references: References,
        removed: &mut dyn FnMut(Removed<'_>),
    ) -> Deletion {
        match references {
            References::Respect if self.is_referenced(id) => return Deletion::Referenced,
            References::Delete => self.forget_references(id, removed),
            _ => {}
        }
        if self.delete([id], |_| {}) == 1 { Deletion::Done } else { Deletion::Absent }
    }

    /// Whether a group has not read the entry yet, or has it pending.
    pub fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| group.needs(id))
    }

    /// Deletes from the front; how many entries. Where references matter, `removed` is told of each entry and of each
    /// reference that goes.
    pub fn trim(&mut self, trim: &Trim, removed: &mut dyn FnMut(Removed<'_>)) -> u64 {
        let mut deleted = 0;
        let mut from = StreamId::MIN;
        while let Some(key) = self.node_from(from) {
            if matches!(trim.keep, Keep::Length(length) if self.length <= length) {
                break;
            }
            let node = self.node(key).expect("the key is that of a node");
            let live = node.live();
            if trim.limit > 0 && deleted + live > trim.limit {
                break;
            }
            let whole = match trim.keep {
                Keep::Length(length) => self.length - live >= length,
                Keep::From(id) => node.last_id().is_none_or(|last| last < id),
            };
            if whole && trim.references == References::Keep {
                self.remove_node(key);
                self.length -= live;
                deleted += live;
                continue;
            }
            if trim.approximate {
                break;
            }
            deleted += self.trim_node(key, trim, removed);
            if !whole {
                break;
            }
            let Some(next) = key.next() else { break };
            from = next;
        }
        if self.length == 0 {
            self.first_id = StreamId::MIN;
        } else if deleted > 0 {
            self.find_first_id();
        }
        deleted
    }

    /// Trims within one node.
    fn trim_node(&mut self, key: StreamId, trim: &Trim, removed: &mut dyn FnMut(Removed<'_>)) -> u64 {
        let node = self.node(key).expect("the key is that of a node");
        let shared = node.shared();
        let mut at = shared.entries;
        let mut deleted = 0;
        loop {
            let node = self.node(key).expect("the key is that of a node");
            if at >= node.pack.end() {
                break;
            }
            let (head, mut items) = shared.head(node.pack.iter_from(at));
            items.skip_entries(head.pieces_left());
            at = items.pos();
            let enough = match trim.keep {
                Keep::Length(length) => self.length <= length,
                Keep::From(id) => head.id >= id,
            };
            if enough {
                break;
            }
            if head.deleted || (trim.references == References::Respect && self.is_referenced(head.id)) {
                continue;
            }
            if trim.references == References::Delete {
                self.forget_references(head.id, removed);
            }
            if trim.references != References::Keep {
                removed(Removed::Entry(head.id));
            }
            self.node_mut(key).mark_deleted(&head);
            self.length -= 1;
            deleted += 1;
        }
        let node = self.node_mut(key);
        let (live, dead) = (node.live() - deleted, node.deleted() + deleted);
        // Redis leaves a node that `MINID` has emptied, and removes it where references are looked at.
        if live == 0 && deleted > 0 && trim.references != References::Keep {
            self.remove_node(key);
        } else if deleted > 0 {
            node.set_counts(live, dead);
        }
        deleted
    }

    // ---- groups ----

    /// The groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// The group, beside the entries that it reads.
    pub fn split_group(&mut self, name: &[u8]) -> Option<(Entries<'_>, &mut Group)> {
        let Stream { full, tail, length, last_id, first_id, max_deleted_id, entries_added, groups, copy: _ } =
            self;
        let group = groups.get_mut(name)?;
        let counters = Counters {
            length: *length,
            last_id: *last_id,
            first_id: *first_id,
            max_deleted_id: *max_deleted_id,
            entries_added: *entries_added,
        };
        Some((Entries { full, tail: tail.as_ref(), counters }, group))
    }

    /// Adds a group; false if there is one of this name.
    pub fn create_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), group);
        true
    }

    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        self.groups.remove(name).is_some()
    }

    /// What follows the nodes, as it is now.
    pub fn foot(&self) -> Foot {
        Foot { counters: self.counters(), groups: self.groups.clone() }
    }

    pub fn counters(&self) -> Counters {
        Counters {
            length: self.length,
            last_id: self.last_id,
            first_id: self.first_id,
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
        }
    }

    // ---- accounting ----

    pub fn heap_bytes(&self) -> usize {
        let nodes: usize = self.nodes().map(|node| node.pack.capacity()).sum();
        let map = self.full.len() * size_of::<(StreamId, Node)>() * 3 / 2;
        let groups: usize = self
            .groups
            .iter()
            .map(|(name, group)| name.len() + size_of::<Group>() + group.heap_bytes())
            .sum();
        nodes + map + groups
    }

    /// How much work freeing is, in allocations.
    pub fn free_effort(&self) -> usize {
        let pending = self.groups.values().next().map_or(0, |group| 1 + group.pending().len());
        self.node_count() + self.groups.len() * pending
    }

    pub fn duplicate(&self) -> Stream {
        self.clone()
    }

    /// How many nodes a radix tree of the nodes' keys has, which `XINFO STREAM` of Redis tells: leaves, forks, and
    /// before each the run of bytes that leads to it.
    pub fn radix_nodes(&self) -> usize {
        let mut keys = self.nodes().map(|node| node.key.to_bytes());
        let Some(mut last) = keys.next() else { return 1 };
        let after = |fork: Option<usize>| fork.map_or(0, |at| at + 1);
        let leaf = |fork: Option<usize>| 1 + usize::from(after(fork) < StreamId::BYTES);
        let inner = |fork: usize, above: Option<usize>| 1 + usize::from(fork > after(above));
        // Forks on the way to the last key, by the byte that they are at.
        let mut forks: Vec<usize> = Vec::new();
        let (mut count, mut before) = (0, None);
        for key in keys {
            let at = key.iter().zip(&last).take_while(|(a, b)| a == b).count();
            count += leaf(before.max(Some(at)));
            while let Some(fork) = forks.pop_if(|fork| *fork > at) {
                count += inner(fork, forks.last().copied().max(Some(at)));
            }
            if forks.last() != Some(&at) {
                forks.push(at);
            }
            (before, last) = (Some(at), key);
        }
        count += leaf(before);
        while let Some(fork) = forks.pop() {
            count += inner(fork, forks.last().copied());
        }
        count
    }

    // ---- nodes ----

    fn seal_tail(&mut self) {
        if let Some(mut tail) = self.tail.take() {
            tail.pack.shrink_to_fit();
            self.full.insert(tail.key, tail);
        }
    }

    fn node(&self, key: StreamId) -> Option<&Node> {
        match &self.tail {
            Some(tail) if tail.key == key => Some(tail),
            _ => self.full.get(&key),
        }
    }

    fn node_mut(&mut self, key: StreamId) -> &mut Node {
        self.before_change(key);
        match &mut self.tail {
            Some(tail) if tail.key == key => tail,
            _ => self.full.get_mut(&key).expect("the key is that of a node"),
        }
    }

    /// The key of the first node from `key` on.
    fn node_from(&self, key: StreamId) -> Option<StreamId> {
        let full = self.full.range(key..).next().map(|(key, _)| *key);
        full.or_else(|| self.tail.as_ref().map(|tail| tail.key).filter(|tail| *tail >= key))
    }

    /// The key of the last node before `key`.
    fn node_before(&self, key: StreamId) -> Option<StreamId> {
        let tail = self.tail.as_ref().map(|tail| tail.key).filter(|tail| *tail < key);
        tail.or_else(|| self.full.range(..key).next_back().map(|(key, _)| *key))
    }

    fn remove_node(&mut self, key: StreamId) {
        self.before_change(key);
        if self.tail.as_ref().is_some_and(|tail| tail.key == key) {
            self.tail = self.full.pop_last().map(|(_, node)| node);
        } else {
            self.full.remove(&key);
        }
    }

    fn delete_one(&mut self, id: StreamId) -> bool {
        let mut cursor = self.range(id, id);
        let Some(head) = cursor.next_head() else { return false };
        let key = cursor.node_key();
        if !self.node_mut(key).delete(&head) {
            self.remove_node(key);
        }
        self.length -= 1;
        true
    }

    /// No group has the entry pending any more.
    fn forget_references(&mut self, id: StreamId, removed: &mut dyn FnMut(Removed<'_>)) {
        for (name, group) in &mut self.groups {
            if group.acknowledge(id) {
                removed(Removed::Reference { group: name, id });
            }
        }
    }

    fn find_first_id(&mut self) {
        self.first_id = self.iter().next().map_or(StreamId::MAX, |head| head.id);
    }
}

/// Counters and groups of one moment; what is pending is shared with the stream that goes on changing.
#[derive(Debug)]
pub struct Foot {
    pub counters: Counters,
    groups: BTreeMap<Box<[u8]>, Group>,
}

impl Foot {
    /// Bytes of what is pending.
    pub fn pending_bytes(&self) -> usize {
        let pending: usize = self.groups.values().map(|group| group.pending().len()).sum();
        pending * size_of::<(StreamId, Pending)>()
    }

    /// The groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }
}

/// What went besides what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed<'a> {
    Entry(StreamId),
    /// The entry is no longer pending in the group.
    Reference {
        group: &'a [u8],
        id: StreamId,
    },
}

/// What became of an entry that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    Done,
    Absent,
    /// It stays, if it was there: a group refers to the ID.
    Referenced,
}

/// The numbers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub length: u64,
    pub last_id: StreamId,
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

impl Counters {
    /// Whether an entry of at least `start` was deleted, apart from trimming.
    pub fn has_tombstones_from(&self, start: StreamId) -> bool {
        self.length > 0 && !self.max_deleted_id.is_zero() && start <= self.max_deleted_id
    }

    /// How many entries were ever added up to `id`, if the numbers tell.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.length == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        match id.cmp(&self.last_id) {
            std::cmp::Ordering::Equal => return Some(self.entries_added),
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Less => {}
        }
        let before_first = self.entries_added.wrapping_sub(self.length);
        if self.max_deleted_id.is_zero() || self.max_deleted_id < self.first_id {
            match id.cmp(&self.first_id) {
                std::cmp::Ordering::Less => return Some(before_first),
                std::cmp::Ordering::Equal => return Some(before_first.wrapping_add(1)),
                std::cmp::Ordering::Greater => {}
            }
        }
        None
    }

    /// How many entries `group` has yet to read, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 || self.length == 0 {
            return Some(0);
        }
        // All that is there is ahead of the group, without a gap that was not trimmed away.
        if group.last_id < self.first_id && self.max_deleted_id < self.first_id {
            return Some(self.length as i64);
        }
        let known = group.entries_read.filter(|_| !self.has_tombstones_from(group.last_id));
        let read = known.or_else(|| self.entries_up_to(group.last_id))?;
        Some(self.entries_added.wrapping_sub(read) as i64)
    }
}

/// The entries of a stream whose group is borrowed.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    full: &'a BTreeMap<StreamId, Node>,
    tail: Option<&'a Node>,
    pub counters: Counters,
}

impl<'a> Entries<'a> {
    pub fn range(&self, start: StreamId, end: StreamId) -> Cursor<'a> {
        Cursor::forward_in(self.full, self.tail, start, end)
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.range(id, id).next().is_some()
    }
}

impl Group {
    /// The group has read up to `id`, which lies beyond what it had read.
    pub fn advance(&mut self, id: StreamId, counters: &Counters) {
        // What was trimmed or deleted behind the group's back is not known to have been read.
        let is_exact = self.last_id >= counters.first_id && !counters.has_tombstones_from(self.last_id);
        if let Some(read) = self.entries_read.filter(|_| is_exact) {
            self.entries_read = Some(read.wrapping_add(1));
        } else if counters.entries_added > 0 {
            self.entries_read = counters.entries_up_to(id);
        }
        self.last_id = id;
    }
}

type FullNodes<'a> = btree_map::Range<'a, StreamId, Node>;

#[cfg(test)]
mod tests;
