//! Quicklist: a long list as a sequence of listpacks.
//!
//! A list value that outgrows one listpack becomes nodes of bounded size, so that a push or pop at either end touches
//! one small block of memory, and a snapshot copies or pins whole nodes. An element too large for a listpack is a node
//! by itself ("plain"). How full a node gets is the operator's choice (`list-max-listpack-size`): a size class from
//! 4 KiB to 64 KiB, or a number of elements.
//!
//! Redis links the nodes; here they stand in a `VecDeque`. A node is 24 bytes, its number of elements included, so
//! finding an index adds up numbers that lie side by side instead of chasing one pointer per node, and a node inserted
//! in the middle moves 24 bytes for each node on the shorter side, much less than the node's own bytes for any list that
//! fits a machine. Pushes and pops at the ends stay amortised O(1).
//!
//! Splits and merges on insertion are those of Redis. After deletions Redis leaves small nodes as they are; here
//! neighbours that together fill no more than half a node are joined (half, so that the next push does not split them
//! again). The layout is not visible to clients: replies, digests and what a peer loads depend on the elements only.
//!
//! Nodes are never compressed; `list-compress-depth` would add a kind of [`NodeRef`].

use std::collections::{VecDeque, vec_deque};
use std::iter::Rev;
use std::mem;

use crate::copying::Slot;
use crate::listpack::{self, Entry, Listpack, OwnedEntry, Pack};

mod copy;

/// Nodes limited by their number of elements stay below this many bytes nevertheless.
const SIZE_SAFETY_LIMIT: usize = 8192;

/// Size limits in bytes that the fills -1 to -5 stand for.
const SIZE_CLASSES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

/// More than a listpack adds to a small element: encoding byte, backlen and such.
const ENTRY_OVERHEAD: usize = 8;

/// A change joins nodes at most this far from those that it is about.
const JOINED_MAX: usize = 3;

/// A list of byte strings in nodes of bounded size.
#[derive(Clone, Debug)]
pub struct Quicklist {
    nodes: VecDeque<Node>,
    len: usize,
    limits: Limits,
    copy: Slot<copy::ListCopy>,
}

/// A node as a snapshot writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRef<'a> {
    Packed(&'a Pack),
    /// One element.
    Plain(&'a [u8]),
}

/// Elements from an index towards the end.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    node: NodeIter<'a, listpack::Iter<'a>>,
    rest: vec_deque::Iter<'a, Node>,
}

/// Elements from an index towards the start.
#[derive(Clone, Debug)]
pub struct RevIter<'a> {
    node: NodeIter<'a, listpack::RevIter<'a>>,
    rest: Rev<vec_deque::Iter<'a, Node>>,
}

impl Quicklist {
    /// An empty list. `fill`, as in `list-max-listpack-size`: 1 and up, at most that many elements a node; -1 to -5,
    /// nodes of 4, 8, 16, 32 or 64 KiB. Values outside are taken as the nearest one.
    pub fn new(fill: i32) -> Quicklist {
        Quicklist::with_limits(Limits::new(fill))
    }

    pub fn with_limits(limits: Limits) -> Quicklist {
        Quicklist { nodes: VecDeque::new(), len: 0, limits, copy: Default::default() }
    }

    /// Makes elements of at least this many bytes plain nodes; 0, the default, leaves it to the fill. What is in the
    /// list stays as it is. For `DEBUG QUICKLIST-PACKED-THRESHOLD`.
    pub fn set_packed_threshold(&mut self, bytes: u32) {
        self.limits.packed_threshold = bytes;
    }

    /// Whether the list is one packed node that fills no more than half of what one may: then
    /// [`Quicklist::into_listpack`] may well be what its owner wants.
    pub fn is_small(&self) -> bool {
        match (self.nodes.len(), self.nodes.front()) {
            (1, Some(Node::Packed { count, list })) => self.limits.allow_half(list.wire_len(), *count),
            _ => false,
        }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push_front(&mut self, value: &[u8]) {
        let change = self.before_end_changes(true);
        self.len += 1;
        match self.nodes.front_mut() {
            Some(Node::Packed { count, list }) if self.limits.allow_insert(list, *count, value) => {
                list.push_front(value);
                *count += 1;
            }
            _ => self.push_node_front(value),
        }
        self.after_change(change);
    }

    pub fn push_back(&mut self, value: &[u8]) {
        let change = self.before_end_changes(false);
        self.len += 1;
        match self.nodes.back_mut() {
            Some(Node::Packed { count, list }) if self.limits.allow_insert(list, *count, value) => {
                list.push_back(value);
                *count += 1;
            }
            _ => self.nodes.push_back(self.limits.node(value)),
        }
        self.after_change(change);
    }

    #[inline(never)]
    fn push_node_front(&mut self, value: &[u8]) {
        // Nothing more is pushed in front of what was the first node.
        if let Some(Node::Packed { list, .. }) = self.nodes.front_mut() {
            list.trim_room();
        }
        self.nodes.push_front(self.limits.node(value));
    }

    /// Takes the first element out and passes it to `take`, without a copy of its own.
    pub fn pop_front_with<R>(&mut self, take: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        let change = self.before_end_changes(true);
        let node = self.nodes.front_mut()?;
        self.len -= 1;
        let taken = match node {
            Node::Packed { count, list } if *count > 1 => {
                let taken = take(list.at(list.first().expect(COUNTED)));
                list.delete_first();
                *count -= 1;
                Some(taken)
            }
            _ => self.nodes.pop_front().map(|node| take(node.first())),
        };
        self.after_change(change);
        taken
    }

    /// Takes the last element out and passes it to `take`, without a copy of its own.
    pub fn pop_back_with<R>(&mut self, take: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        let change = self.before_end_changes(false);
        let node = self.nodes.back_mut()?;
        self.len -= 1;
        let taken = match node {
            Node::Packed { count, list } if *count > 1 => {
                let taken = take(list.at(list.last().expect(COUNTED)));
                list.delete_last();
                *count -= 1;
                Some(taken)
            }
            _ => self.nodes.pop_back().map(|node| take(node.first())),
        };
        self.after_change(change);
        taken
    }

    pub fn pop_front(&mut self) -> Option<OwnedEntry> {
        self.pop_front_with(|entry| entry.to_owned())
    }

    pub fn pop_back(&mut self) -> Option<OwnedEntry> {
        self.pop_back_with(|entry| entry.to_owned())
    }

    /// The element at an index; negative ones count from the end, -1 being the last element.
    pub fn index(&self, index: i64) -> Option<Entry<'_>> {
        let (at, offset) = self.locate(self.absolute(index)?);
        Some(match &self.nodes[at] {
            Node::Packed { list, .. } => list.at(list.seek(offset as i64).expect(COUNTED)),
            Node::Plain(bytes) => Entry::Str(bytes),
        })
    }

    /// Replaces the element at an index, counted as in [`Quicklist::index`]; false if there is none.
    pub fn set(&mut self, index: i64, value: &[u8]) -> bool {
        let Some(index) = self.absolute(index) else { return false };
        let (at, offset) = self.locate(index);
        let change = self.before_changes_around(at, at);
        self.set_at(at, offset, value);
        self.after_change(change);
        true
    }

    fn set_at(&mut self, at: usize, offset: usize, value: &[u8]) {
        let large = self.limits.is_large(value);
        match &mut self.nodes[at] {
            Node::Packed { count, list } if !large => {
                let pos = list.seek(offset as i64).expect(COUNTED);
                let bytes = list.wire_len();
                let bytes_after = bytes - list.entry_bytes_at(pos) + listpack::entry_bytes(value);
                if *count == 1 || bytes_after <= bytes || self.limits.allow(bytes_after, *count) {
                    list.replace(pos, value);
                    return;
                }
            }
            Node::Plain(bytes) if large => {
                *bytes = value.into();
                return;
            }
            _ => {}
        }
        let between = self.cut(at, offset, 1);
        self.nodes.insert(between, self.limits.node(value));
        self.merge_around(between);
    }

    /// Inserts before the element at an index, counted as in [`Quicklist::index`]; false if there is none.
    pub fn insert_before(&mut self, index: i64, value: &[u8]) -> bool {
        let Some(index) = self.absolute(index) else { return false };
        let (at, offset) = self.locate(index);
        self.insert(at, offset, value);
        true
    }

    /// Inserts after the element at an index, counted as in [`Quicklist::index`]; false if there is none.
    pub fn insert_after(&mut self, index: i64, value: &[u8]) -> bool {
        let Some(index) = self.absolute(index) else { return false };
        let (at, offset) = self.locate(index);
        self.insert(at, offset + 1, value);
        true
    }

    /// The index of the first element equal to `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        let mut before = 0;
        for node in &self.nodes {
            let found = match node {
                Node::Packed { list, .. } => list.position(value),
                Node::Plain(bytes) => (**bytes == *value).then_some(0),
            };
            if let Some(offset) = found {
                return Some(before + offset);
            }
            before += node.count();
        }
        None
    }

    /// Removes up to `count` elements from an index on, counted as in [`Quicklist::index`]; returns how many. A negative
    /// index before the first element is out of range.
    pub fn remove_range(&mut self, start: i64, count: usize) -> usize {
        let Some(start) = self.absolute(start) else { return 0 };
        let count = count.min(self.len - start);
        let (mut at, offset) = self.locate(start);
        let last = if count == 0 { at } else { self.locate(start + count - 1).0 };
        let change = self.before_changes_around(at, last);
        let mut left = count;
        if offset > 0 {
            let node = &mut self.nodes[at];
            let removed = left.min(node.count() - offset);
            node.delete_range(offset, removed);
            left -= removed;
            at += 1;
        }
        let whole = at;
        while left > 0 && self.nodes[at].count() <= left {
            left -= self.nodes[at].count();
            at += 1;
        }
        self.nodes.drain(whole..at);
        if left > 0 {
            self.nodes[whole].delete_range(0, left);
        }
        self.len -= count;
        // The nodes beside the gap and their outer neighbours, right to left, so that indexes stay valid.
        if count > 0 {
            for left in (whole.saturating_sub(2)..=whole).rev() {
                self.merge_small(left);
            }
        }
        self.after_change(change);
        count
    }

    /// Removes elements equal to `value`: the first `count` of them, the last -`count` of them if it is negative, all if
    /// it is 0. Returns how many.
    pub fn remove_equal(&mut self, value: &[u8], count: i64) -> usize {
        let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
        // It may touch all nodes, and looks at as many.
        let change = self.before_changes_around(0, self.nodes.len());
        let mut left = limit;
        if count >= 0 {
            for node in &mut self.nodes {
                if left == 0 {
                    break;
                }
                left -= node.delete_equal(value, 0, left);
            }
        } else {
            for node in self.nodes.iter_mut().rev() {
                if left == 0 {
                    break;
                }
                let skip = node.count_equal(value).saturating_sub(left);
                left -= node.delete_equal(value, skip, left);
            }
        }
        let removed = limit - left;
        if removed > 0 {
            self.len -= removed;
            self.tidy();
        }
        self.after_change(change);
        removed
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { node: NodeIter::Plain(None), rest: self.nodes.iter() }
    }

    /// Elements from `index` on; none if it is past the end.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        if index >= self.len {
            return Iter { node: NodeIter::Plain(None), rest: vec_deque::Iter::default() };
        }
        let (at, offset) = self.locate(index);
        let node = match &self.nodes[at] {
            Node::Packed { list, .. } => {
                NodeIter::Packed(list.iter_from(list.seek(offset as i64).expect(COUNTED)))
            }
            Node::Plain(bytes) => NodeIter::Plain(Some(bytes)),
        };
        Iter { node, rest: self.nodes.range(at + 1..) }
    }

    /// Elements from the last to the first.
    pub fn iter_rev(&self) -> RevIter<'_> {
        RevIter { node: NodeIter::Plain(None), rest: self.nodes.iter().rev() }
    }

    /// Elements from `index` towards the start; none if it is past the end.
    pub fn iter_rev_from(&self, index: usize) -> RevIter<'_> {
        if index >= self.len {
            return RevIter { node: NodeIter::Plain(None), rest: vec_deque::Iter::default().rev() };
        }
        let (at, offset) = self.locate(index);
        let node = match &self.nodes[at] {
            Node::Packed { list, .. } => {
                NodeIter::Packed(list.iter_rev_from(list.seek(offset as i64).expect(COUNTED)))
            }
            Node::Plain(bytes) => NodeIter::Plain(Some(bytes)),
        };
        RevIter { node, rest: self.nodes.range(..at).rev() }
    }

    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeRef<'_>> + Clone {
        self.nodes.iter().map(Node::as_ref)
    }

    /// A node by its place, for a walk in slices.
    pub fn node(&self, at: usize) -> Option<NodeRef<'_>> {
        self.nodes.get(at).map(Node::as_ref)
    }

    /// Appends a loaded node as it is, whatever its size; an empty one is left out.
    pub fn push_node_packed(&mut self, list: Listpack) {
        let count = list.len();
        if count > 0 {
            self.len += count;
            let count = u32::try_from(count).expect("a listpack has fewer than 2^32 bytes");
            self.nodes.push_back(Node::Packed { count, list });
        }
    }

    /// Appends a loaded node of one element as it is.
    pub fn push_node_plain(&mut self, value: Box<[u8]>) {
        self.len += 1;
        self.nodes.push_back(Node::Plain(value));
    }

    /// The list as one listpack, if it has no more than one node and that is packed; itself otherwise.
    pub fn into_listpack(mut self) -> Result<Listpack, Quicklist> {
        // A copy that is being taken needs the node while it is here.
        self.copy_more(usize::MAX);
        match (self.nodes.len(), self.nodes.pop_back()) {
            (1, Some(Node::Packed { list, .. })) => Ok(list),
            (_, None) => Ok(Listpack::new()),
            (_, Some(node)) => {
                self.nodes.push_back(node);
                Err(self)
            }
        }
    }

    /// Memory in bytes, of listpacks as the arena gives it. O(nodes).
    pub fn bytes(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(Node::bytes).sum();
        mem::size_of::<Quicklist>() + self.nodes.capacity() * mem::size_of::<Node>() + nodes
    }

    fn absolute(&self, index: i64) -> Option<usize> {
        let index = if index < 0 {
            self.len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
        } else {
            usize::try_from(index).ok()?
        };
        (index < self.len).then_some(index)
    }

    /// The node that holds an index, which is in range, and the element's offset in it.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index < self.len / 2 {
            let mut before = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < before + node.count() {
                    return (at, index - before);
                }
                before += node.count();
            }
        } else {
            let mut before = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                before -= node.count();
                if index >= before {
                    return (at, index - before);
                }
            }
        }
        unreachable!("{COUNTED}")
    }

    /// Inserts at an offset in a node, from 0 to its number of elements.
    fn insert(&mut self, at: usize, offset: usize, value: &[u8]) {
        let change = self.before_changes_around(at, at);
        self.insert_at(at, offset, value);
        self.after_change(change);
    }

    /// Before a change of the nodes from `first` to `last` and what joining small nodes may reach from there.
    #[inline]
    fn before_changes_around(&mut self, first: usize, last: usize) -> Option<copy::Change> {
        self.copy_order()?;
        self.before_change(first.saturating_sub(JOINED_MAX)..=last.saturating_add(JOINED_MAX))
    }

    fn insert_at(&mut self, at: usize, offset: usize, value: &[u8]) {
        self.len += 1;
        let limits = self.limits;
        let node = &mut self.nodes[at];
        if node.try_insert(offset, value, limits) {
            return;
        }
        let (at_head, at_tail) = (offset == 0, offset == node.count());
        if at_tail {
            let next_takes = self.nodes.get_mut(at + 1).is_some_and(|next| next.try_insert(0, value, limits));
            if !next_takes {
                self.nodes.insert(at + 1, limits.node(value));
            }
        } else if at_head {
            let previous = at.checked_sub(1).and_then(|at| self.nodes.get_mut(at));
            if !previous.is_some_and(|previous| previous.try_insert(previous.count(), value, limits)) {
                self.nodes.insert(at, limits.node(value));
            }
        } else {
            let between = self.cut(at, offset, 0);
            self.nodes.insert(between, limits.node(value));
            self.merge_around(between);
        }
    }

    /// Parts a node at an offset, dropping `dropped` elements there, and returns the place between the parts. `len` is
    /// left to the caller.
    fn cut(&mut self, at: usize, offset: usize, dropped: usize) -> usize {
        let Node::Packed { count, list } = &mut self.nodes[at] else {
            self.nodes.remove(at);
            return at;
        };
        let tail_count = *count - (offset + dropped) as u32;
        if tail_count > 0 {
            let tail = list.split_off(offset + dropped);
            list.delete_range(offset as i64, dropped);
            *count = offset as u32;
            self.nodes.insert(at + 1, Node::Packed { count: tail_count, list: tail });
        } else {
            list.delete_range(offset as i64, dropped);
            *count = offset as u32;
        }
        if offset == 0 {
            self.nodes.remove(at);
            return at;
        }
        at + 1
    }

    /// Merges, where the limits allow it, the two nodes on either side of `center`, then `center` with both sides.
    fn merge_around(&mut self, mut center: usize) {
        if center >= 2 && self.merge(center - 2, Limits::allow) {
            center -= 1;
        }
        self.merge(center + 1, Limits::allow);
        if center >= 1 && self.merge(center - 1, Limits::allow) {
            center -= 1;
        }
        self.merge(center, Limits::allow);
    }

    fn merge_small(&mut self, left: usize) {
        self.merge(left, Limits::allow_half);
    }

    /// Merges a node with the next if `allow` accepts the sum of bytes and elements.
    fn merge(&mut self, left: usize, allow: fn(Limits, usize, u32) -> bool) -> bool {
        let (Some(a), Some(b)) = (self.nodes.get(left), self.nodes.get(left + 1)) else { return false };
        if !self.limits.allow_merge(a, b, allow) {
            return false;
        }
        let right = self.nodes.remove(left + 1).expect("the node after `left` exists");
        self.nodes[left].append(right);
        true
    }

    /// Drops empty nodes and joins small neighbours, in one pass.
    fn tidy(&mut self) {
        let mut tidy: VecDeque<Node> = VecDeque::with_capacity(self.nodes.len());
        for node in mem::take(&mut self.nodes) {
            if node.count() == 0 {
                continue;
            }
            match tidy.back_mut() {
                Some(last) if self.limits.allow_merge(last, &node, Limits::allow_half) => last.append(node),
                _ => tidy.push_back(node),
            }
        }
        self.nodes = tidy;
    }
}

impl<'a> IntoIterator for &'a Quicklist {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> Iter<'a> {
    /// The elements of a list that is one listpack.
    pub fn of_pack(entries: listpack::Iter<'a>) -> Iter<'a> {
        Iter { node: NodeIter::Packed(entries), rest: vec_deque::Iter::default() }
    }
}

impl<'a> Iter<'a> {
    /// Visits the first `count` elements of what is left, or all if there are fewer.
    #[inline]
    pub fn visit(mut self, mut count: usize, mut visit: impl FnMut(Entry<'a>)) {
        // Visited in one place, so that it is worth being inlined there.
        while count > 0 {
            match self.node.next() {
                Some(entry) => {
                    visit(entry);
                    count -= 1;
                }
                None => match self.rest.next() {
                    Some(node) => self.node = NodeIter::of(node),
                    None => return,
                },
            }
        }
    }
}

impl<'a> RevIter<'a> {
    /// The elements of a list that is one listpack, towards the start.
    pub fn of_pack(entries: listpack::RevIter<'a>) -> RevIter<'a> {
        RevIter { node: NodeIter::Packed(entries), rest: vec_deque::Iter::default().rev() }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.node.next() {
                return Some(entry);
            }
            self.node = NodeIter::of(self.rest.next()?);
        }
    }
}

impl<'a> Iterator for RevIter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.node.next() {
                return Some(entry);
            }
            self.node = match self.rest.next()? {
                Node::Packed { list, .. } => NodeIter::Packed(list.iter_rev()),
                Node::Plain(bytes) => NodeIter::Plain(Some(bytes)),
            };
        }
    }
}

/// What breaks when a node's count is not its listpack's.
const COUNTED: &str = "a quicklist counts its elements";

#[derive(Clone, Debug)]
enum Node {
    Packed { count: u32, list: Listpack },
    Plain(Box<[u8]>),
}

// The module's story promises it.
const _: () = assert!(mem::size_of::<Node>() == 24);

impl Node {
    #[inline]
    fn count(&self) -> usize {
        match self {
            Node::Packed { count, .. } => *count as usize,
            Node::Plain(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Node::Packed { list, .. } => list.block_bytes(),
            Node::Plain(bytes) => bytes.len(),
        }
    }

    fn as_ref(&self) -> NodeRef<'_> {
        match self {
            Node::Packed { list, .. } => NodeRef::Packed(list),
            Node::Plain(bytes) => NodeRef::Plain(bytes),
        }
    }

    fn first(&self) -> Entry<'_> {
        match self {
            Node::Packed { list, .. } => list.at(list.first().expect(COUNTED)),
            Node::Plain(bytes) => Entry::Str(bytes),
        }
    }

    fn try_insert(&mut self, offset: usize, value: &[u8], limits: Limits) -> bool {
        let Node::Packed { count, list } = self else { return false };
        if !limits.allow_insert(list, *count, value) {
            return false;
        }
        match list.seek(offset as i64) {
            Some(pos) => {
                list.insert_before(pos, value);
            }
            None => list.push_back(value),
        }
        *count += 1;
        true
    }

    /// The range is not the whole node.
    fn delete_range(&mut self, offset: usize, deleted: usize) {
        if let Node::Packed { count, list } = self {
            list.delete_range(offset as i64, deleted);
            *count -= deleted as u32;
        }
    }

    fn count_equal(&self, value: &[u8]) -> usize {
        match self {
            Node::Packed { list, .. } => list.count_equal(value),
            Node::Plain(bytes) => usize::from(**bytes == *value),
        }
    }

    /// As [`Listpack::delete_equal`]; leaves an empty packed node if nothing else is left.
    fn delete_equal(&mut self, value: &[u8], skip: usize, limit: usize) -> usize {
        match self {
            Node::Packed { count, list } => {
                let deleted = list.delete_equal(value, skip, limit);
                *count -= deleted as u32;
                deleted
            }
            Node::Plain(bytes) if skip == 0 && limit > 0 && **bytes == *value => {
                *self = Node::Packed { count: 0, list: Listpack::new() };
                1
            }
            Node::Plain(_) => 0,
        }
    }

    fn append(&mut self, other: Node) {
        if let (Node::Packed { count, list }, Node::Packed { count: more, list: other }) = (self, other) {
            list.append(&other);
            *count += more;
        }
    }
}

/// How full nodes get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    fill: i16,
    /// 0: not set.
    packed_threshold: u32,
}

impl Limits {
    /// See [`Quicklist::new`].
    pub fn new(fill: i32) -> Limits {
        let fill = fill.clamp(-(SIZE_CLASSES.len() as i32), i32::from(i16::MAX)) as i16;
        Limits { fill, packed_threshold: 0 }
    }

    /// See [`Quicklist::set_packed_threshold`].
    pub fn set_packed_threshold(&mut self, bytes: u32) {
        self.packed_threshold = bytes;
    }

    /// Whether a list that is one listpack stays one with another element in it.
    #[inline]
    pub fn takes_one_more(self, list: &Pack, value: &[u8]) -> bool {
        self.allow_insert(list, u32::try_from(list.len()).unwrap_or(u32::MAX), value)
    }

    /// Whether a list that is one listpack stays one with another element in place of the one at `pos`.
    pub fn takes_instead(self, list: &Pack, pos: listpack::Pos, value: &[u8]) -> bool {
        if self.is_large(value) {
            return false;
        }
        let bytes = list.wire_len();
        let after = bytes - list.entry_bytes_at(pos) + listpack::entry_bytes(value);
        after <= bytes || self.allow(after, list.len() as u32)
    }

    /// The node that holds one new element.
    fn node(self, value: &[u8]) -> Node {
        if self.is_large(value) {
            return Node::Plain(value.into());
        }
        let mut list = Listpack::new();
        list.push_back(value);
        Node::Packed { count: 1, list }
    }

    #[inline]
    fn size_limit(self) -> Option<usize> {
        (self.fill < 0).then(|| SIZE_CLASSES[usize::from(self.fill.unsigned_abs()) - 1])
    }

    /// Whether an element becomes a plain node.
    #[inline]
    fn is_large(self, value: &[u8]) -> bool {
        match self.packed_threshold {
            0 => value.len() > self.size_limit().unwrap_or(SIZE_SAFETY_LIMIT),
            threshold => value.len() >= threshold as usize,
        }
    }

    /// Whether a node may have this many bytes and elements.
    #[inline]
    fn allow(self, bytes: usize, count: u32) -> bool {
        match self.size_limit() {
            Some(limit) => bytes <= limit,
            None => bytes <= SIZE_SAFETY_LIMIT && count <= u32::from(self.fill.unsigned_abs().max(1)),
        }
    }

    fn allow_half(self, bytes: usize, count: u32) -> bool {
        self.allow(bytes * 2, count.saturating_mul(2))
    }

    #[inline]
    fn allow_insert(self, list: &Pack, count: u32, value: &[u8]) -> bool {
        !self.is_large(value)
            && self.allow(list.wire_len() + value.len() + ENTRY_OVERHEAD, count.saturating_add(1))
    }

    fn allow_merge(self, a: &Node, b: &Node, allow: fn(Limits, usize, u32) -> bool) -> bool {
        match (a, b) {
            (Node::Packed { count: x, list: a }, Node::Packed { count: y, list: b }) => {
                allow(self, a.wire_len() + b.wire_len() - EMPTY_LISTPACK, x.saturating_add(*y))
            }
            _ => false,
        }
    }
}

/// Header and end mark, which a merged listpack has once.
const EMPTY_LISTPACK: usize = 7;

#[derive(Clone, Debug)]
enum NodeIter<'a, I> {
    Packed(I),
    Plain(Option<&'a [u8]>),
}

impl<'a> NodeIter<'a, listpack::Iter<'a>> {
    #[inline]
    fn of(node: &'a Node) -> Self {
        match node {
            Node::Packed { list, .. } => NodeIter::Packed(list.iter()),
            Node::Plain(bytes) => NodeIter::Plain(Some(bytes)),
        }
    }
}

impl<'a, I: Iterator<Item = Entry<'a>>> Iterator for NodeIter<'a, I> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        match self {
            NodeIter::Packed(entries) => entries.next(),
            NodeIter::Plain(bytes) => bytes.take().map(Entry::Str),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, fewer};

    fn of(fill: i32, values: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Quicklist {
        let mut list = Quicklist::new(fill);
        for value in values {
            list.push_back(value.as_ref());
        }
        list
    }

    /// Elements of each node; `[]` for a plain one.
    fn shape(list: &Quicklist) -> Vec<Vec<Vec<u8>>> {
        list.nodes()
            .map(|node| match node {
                NodeRef::Packed(list) => list.iter().map(|entry| entry.to_vec()).collect(),
                NodeRef::Plain(_) => Vec::new(),
            })
            .collect()
    }

    fn counts(list: &Quicklist) -> Vec<usize> {
        list.nodes.iter().map(Node::count).collect()
    }

    #[test]
    #[cfg(not(miri))]
    fn a_listpack_takes_no_element_beyond_32_bits() {
        // Memory that is never touched.
        let huge = vec![0; (4 << 30) + 1];
        let mut list = Listpack::new();
        list.push_back(b"a");
        let limits = Limits::new(-2);
        assert!(!limits.takes_one_more(&list, &huge));
        assert!(!limits.takes_instead(&list, list.first().expect("an element"), &huge));
    }

    #[test]
    fn nodes_fill_up_to_their_number_of_elements() {
        assert_eq!(counts(&of(3, ["1", "2", "3", "4", "5", "6", "7"])), [3, 3, 1]);
        assert_eq!(counts(&of(0, ["1", "2"])), [1, 1]);
        let mut list = of(3, ["1", "2", "3"]);
        list.push_front(b"0");
        assert_eq!(counts(&list), [1, 3]);
    }

    #[test]
    fn nodes_fill_up_to_their_size_class() {
        for (fill, limit) in [(-1, 4096), (-2, 8192), (-3, 16384), (-4, 32768), (-5, 65536), (-9, 65536)] {
            let list = of(fill, (0..fewer(2000, 700)).map(|_| [b'x'; 100]));
            let first = list.nodes[0].bytes();
            assert!(first <= limit && first + 108 + 103 > limit, "{fill}: {first}");
        }
        // Limited by number, a node stays below 8 KiB all the same.
        let list = of(1000, (0..200).map(|_| [b'x'; 100]));
        assert!(list.nodes.iter().all(|node| node.bytes() <= 8192));
        assert_eq!(list.nodes.len(), 3);
    }

    #[test]
    fn large_elements_are_plain_nodes() {
        let mut list = of(-1, ["a", "b"]);
        let big = vec![b'B'; 4097];
        assert!(list.insert_after(0, &big));
        assert_eq!(shape(&list), [vec![b"a".to_vec()], vec![], vec![b"b".to_vec()]]);
        assert_eq!(list.node(1), Some(NodeRef::Plain(&big)));
        assert!(list.index(1).unwrap().eq_bytes(&big));
        // A small value takes the node's place and joins its neighbours.
        assert!(list.set(1, b"small"));
        assert_eq!(shape(&list), [[b"a".to_vec(), b"small".to_vec(), b"b".to_vec()]]);
        assert!(list.set(-1, &big));
        assert_eq!(counts(&list), [2, 1]);
        assert_eq!(list.pop_back(), Some(OwnedEntry::Str(big.into())));
    }

    #[test]
    fn the_packed_threshold_overrides_the_fill() {
        let mut list = Quicklist::new(-2);
        list.set_packed_threshold(5);
        list.push_back(b"1234");
        list.push_back(b"12345");
        assert_eq!(list.node(1), Some(NodeRef::Plain(b"12345")));
        list.set_packed_threshold(1 << 30);
        list.push_back(&[b'x'; 9000]);
        assert!(matches!(list.node(2), Some(NodeRef::Packed(_))));
    }

    #[test]
    fn inserting_splits_full_nodes_and_merges_what_fits() {
        let mut list = of(4, ["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert!(list.insert_before(2, b"x"));
        assert_eq!(counts(&list), [3, 2, 4]);
        assert!(list.insert_after(2, b"y"));
        assert_eq!(counts(&list), [4, 2, 4]);
        // At a full node's end, the next node takes the value.
        assert!(list.insert_after(3, b"z"));
        assert_eq!(counts(&list), [4, 3, 4]);
        assert!(!list.insert_after(11, b"no") && !list.insert_before(-12, b"no"));
    }

    #[test]
    fn deleting_joins_small_neighbours() {
        let mut list = of(8, (0..64).map(|value| value.to_string()));
        assert_eq!(list.remove_range(2, 60), 60);
        assert_eq!(shape(&list), [["0", "1", "62", "63"].map(|text| text.as_bytes().to_vec())]);
        let mut list = of(4, ["a", "b", "b", "b", "b", "b", "b", "c"]);
        assert_eq!(list.remove_equal(b"b", 0), 6);
        assert_eq!(counts(&list), [2]);
    }

    #[test]
    fn what_lies_unused_in_front_of_the_first_node_counts() {
        let [front, back] = [true, false].map(|front| {
            let mut list = Quicklist::new(-2);
            for _ in 0..500 {
                if front { list.push_front(b"0123456789") } else { list.push_back(b"0123456789") }
            }
            list.bytes()
        });
        assert!((back + 100..back + back / 7).contains(&front), "{front} and {back} bytes");
    }

    #[test]
    fn loaded_nodes_are_kept_as_they_are() {
        let mut packed = Listpack::new();
        packed.append_many((0..10).map(|_| &b"v"[..]));
        let mut list = Quicklist::new(2);
        list.push_node_packed(packed.clone());
        list.push_node_packed(Listpack::new());
        assert_eq!(list.clone().into_listpack().unwrap(), packed);
        list.push_node_plain(b"p"[..].into());
        assert_eq!((list.len(), counts(&list)), (11, vec![10, 1]));
        assert!(list.bytes() > packed.block_bytes());
        assert_eq!(list.into_listpack().unwrap_err().len(), 11);
        assert_eq!(Quicklist::new(1).into_listpack().unwrap(), Listpack::new());
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => (0u8..6).prop_map(|value| value.to_string().into_bytes()),
            3 => (0usize..12).prop_map(|len| vec![b'm'; len]),
            2 => (800usize..1600).prop_map(|len| vec![b'l'; len]),
            1 => (4090usize..4100).prop_map(|len| vec![b'h'; len]),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        PushFront(Vec<u8>),
        PushBack(Vec<u8>),
        PopFront,
        PopBack,
        Set(i64, Vec<u8>),
        InsertBefore(i64, Vec<u8>),
        InsertAfter(i64, Vec<u8>),
        RemoveRange(i64, usize),
        RemoveEqual(Vec<u8>, i64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let index = || -30i64..30;
        prop_oneof![
            4 => value().prop_map(Op::PushFront),
            4 => value().prop_map(Op::PushBack),
            1 => Just(Op::PopFront),
            1 => Just(Op::PopBack),
            3 => (index(), value()).prop_map(|(at, value)| Op::Set(at, value)),
            3 => (index(), value()).prop_map(|(at, value)| Op::InsertBefore(at, value)),
            3 => (index(), value()).prop_map(|(at, value)| Op::InsertAfter(at, value)),
            1 => (index(), 0usize..8).prop_map(|(at, count)| Op::RemoveRange(at, count)),
            1 => (value(), -3i64..4).prop_map(|(value, count)| Op::RemoveEqual(value, count)),
        ]
    }

    fn model_index(model: &[Vec<u8>], index: i64) -> Option<usize> {
        let index = if index < 0 { model.len() as i64 + index } else { index };
        usize::try_from(index).ok().filter(|&index| index < model.len())
    }

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn behaves_as_a_vector(
            fill in prop::sample::select(vec![-2, -1, 0, 1, 2, 3, 5, 100]),
            threshold in prop::sample::select(vec![0, 0, 5, 1 << 30]),
            ops in prop::collection::vec(op(), 0..fewer(80, 12)),
        ) {
            let mut list = Quicklist::new(fill);
            list.set_packed_threshold(threshold);
            let mut model: Vec<Vec<u8>> = Vec::new();
            for op in ops {
                match op {
                    Op::PushFront(value) => {
                        list.push_front(&value);
                        model.insert(0, value);
                    }
                    Op::PushBack(value) => {
                        list.push_back(&value);
                        model.push(value);
                    }
                    Op::PopFront => {
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(list.pop_front().map(|entry| entry.as_entry().to_vec()), expected);
                    }
                    Op::PopBack => {
                        prop_assert_eq!(list.pop_back().map(|entry| entry.as_entry().to_vec()), model.pop());
                    }
                    Op::Set(index, value) => {
                        let at = model_index(&model, index);
                        prop_assert_eq!(list.set(index, &value), at.is_some());
                        if let Some(at) = at {
                            model[at] = value;
                        }
                    }
                    Op::InsertBefore(index, value) => {
                        let at = model_index(&model, index);
                        prop_assert_eq!(list.insert_before(index, &value), at.is_some());
                        if let Some(at) = at {
                            model.insert(at, value);
                        }
                    }
                    Op::InsertAfter(index, value) => {
                        let at = model_index(&model, index);
                        prop_assert_eq!(list.insert_after(index, &value), at.is_some());
                        if let Some(at) = at {
                            model.insert(at + 1, value);
                        }
                    }
                    Op::RemoveRange(index, count) => {
                        let removed = model_index(&model, index)
                            .map_or(0, |at| model.drain(at..(at + count).min(model.len())).count());
                        prop_assert_eq!(list.remove_range(index, count), removed);
                    }
                    Op::RemoveEqual(value, count) => {
                        let all = model.iter().filter(|element| **element == value).count();
                        let wanted = if count == 0 { all } else { all.min(count.unsigned_abs() as usize) };
                        let leave = if count < 0 { all - wanted } else { 0 };
                        let mut seen = 0;
                        model.retain(|element| {
                            let equal = *element == value;
                            seen += usize::from(equal);
                            !(equal && seen > leave && seen <= leave + wanted)
                        });
                        prop_assert_eq!(list.remove_equal(&value, count), wanted);
                    }
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert!(list.iter().map(|entry| entry.to_vec()).eq(model.iter().cloned()));
                for node in &list.nodes {
                    match node {
                        Node::Packed { count, list: packed } => {
                            prop_assert_eq!(*count as usize, packed.len());
                            prop_assert!(*count > 0);
                            prop_assert!(*count == 1 || list.limits.allow(packed.wire_len(), *count));
                            prop_assert!(packed.iter().all(|entry| !list.limits.is_large(&entry.to_vec())));
                        }
                        Node::Plain(bytes) => prop_assert!(list.limits.is_large(bytes)),
                    }
                }
            }
            prop_assert!(list.iter_rev().map(|entry| entry.to_vec()).eq(model.iter().rev().cloned()));
            for (index, value) in model.iter().enumerate() {
                prop_assert!(list.index(index as i64).unwrap().eq_bytes(value));
                prop_assert!(list.index(index as i64 - model.len() as i64).unwrap().eq_bytes(value));
                prop_assert_eq!(list.position(value), model.iter().position(|element| element == value));
                prop_assert!(list.iter_from(index).map(|entry| entry.to_vec()).eq(model[index..].iter().cloned()));
                let mut visited = Vec::new();
                list.iter_from(index).visit(index + 1, |entry| visited.push(entry.to_vec()));
                let end = (index * 2 + 1).min(model.len());
                prop_assert!(visited == model[index..end]);
                prop_assert!(list.iter_rev_from(index).map(|entry| entry.to_vec()).eq(model[..=index].iter().rev().cloned()));
            }
            prop_assert_eq!(list.index(model.len() as i64), None);
            prop_assert_eq!(list.index(i64::MIN), None);
            prop_assert_eq!(list.iter_from(model.len()).count() + list.iter_rev_from(model.len()).count(), 0);
            prop_assert_eq!(list.position(b"absent"), None);
        }
    }
}
