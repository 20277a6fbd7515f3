//! Reading entries where they lie, in both directions.
//!
//! ```text
//! while let Some(head) = cursor.next() { for _ in 0..head.fields { let (name, value) = cursor.field(); … } }
//! ```
//!
//! Fields that were not asked for are left out by the next step.

use std::collections::BTreeMap;

use structures::listpack::{Entry, Iter, Pos};

use super::node::{Head, Node, Shared};
use super::{FullNodes, Stream, StreamId};

/// An entry that the cursor has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub id: StreamId,
    /// Number of its fields.
    pub fields: usize,
}

/// Goes through the entries in a range of IDs that are not deleted.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    nodes: FullNodes<'a>,
    tail: Option<&'a Node>,
    node: Option<Inside<'a>>,
    start: StreamId,
    end: StreamId,
    backward: bool,
}

/// Where the cursor is within a node.
#[derive(Debug, Clone)]
struct Inside<'a> {
    node: &'a Node,
    shared: Shared,
    /// Forward: stands before the next name, value, or entry. Backward: before the next name or value.
    items: Iter<'a>,
    /// Names that the entry does not have itself.
    names: Option<Iter<'a>>,
    /// Listpack entries until the next entry of the stream.
    left: usize,
    /// Backward: where the entry that was given last starts.
    last: Pos,
}

impl<'a> Inside<'a> {
    fn new(node: &'a Node, shared: Shared, at: Pos) -> Inside<'a> {
        Inside { node, shared, items: node.pack.iter_from(at), names: None, left: 0, last: at }
    }
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn forward(stream: &'a Stream, start: StreamId, end: StreamId) -> Cursor<'a> {
        Cursor::forward_in(&stream.full, stream.tail.as_ref(), start, end)
    }

    pub(super) fn forward_in(
        full: &'a BTreeMap<StreamId, Node>,
        tail: Option<&'a Node>,
        start: StreamId,
        end: StreamId,
    ) -> Cursor<'a> {
        let in_tail = tail.is_some_and(|tail| tail.key <= start);
        let mut nodes = if in_tail {
            full.range(StreamId::MAX..)
        } else {
            // From the node that may hold `start`, else from the first.
            let first = full.range(..=start).next_back().map_or(StreamId::MIN, |(key, _)| *key);
            full.range(first..)
        };
        let mut tail = tail;
        let node =
            if in_tail { tail.take() } else { nodes.next().map(|(_, node)| node).or_else(|| tail.take()) };
        let node = node.map(|node| {
            let shared = node.shared();
            Inside::new(node, shared, node.seek(&shared, start))
        });
        Cursor { nodes, tail, node, start, end, backward: false }
    }

    pub(super) fn backward(stream: &'a Stream, start: StreamId, end: StreamId) -> Cursor<'a> {
        let mut tail = stream.tail.as_ref().filter(|tail| tail.key <= end);
        let mut nodes = stream.full.range(..=end);
        let node = tail.take().or_else(|| nodes.next_back().map(|(_, node)| node));
        let node = node.map(|node| Inside::new(node, node.shared(), node.pack.end()));
        Cursor { nodes, tail: None, node, start, end, backward: true }
    }

    /// The next entry.
    #[expect(clippy::should_implement_trait, reason = "a `for` loop would borrow what the fields need")]
    #[inline]
    pub fn next(&mut self) -> Option<At> {
        self.next_head().map(|head| At { id: head.id, fields: head.fields })
    }

    /// The next name and value of the entry that [`Cursor::next`] gave; there must be one left.
    #[inline]
    pub fn field(&mut self) -> (Entry<'a>, Entry<'a>) {
        const COUNTED: &str = "an entry has as many fields as it says";
        let inside = self.node.as_mut().expect("the cursor is at an entry");
        let name = match &mut inside.names {
            Some(names) => names.next(),
            None => {
                inside.left -= 1;
                inside.items.next()
            }
        };
        inside.left -= 1;
        (name.expect(COUNTED), inside.items.next().expect(COUNTED))
    }

    /// The key of the node that the entry lies in.
    pub(super) fn node_key(&self) -> StreamId {
        self.node.as_ref().expect("the cursor is at an entry").node.key
    }

    pub(super) fn next_head(&mut self) -> Option<Head> {
        loop {
            let inside = self.node.as_mut()?;
            let at = if self.backward {
                inside.node.entry_before(inside.last)
            } else {
                inside.items.skip_entries(std::mem::take(&mut inside.left));
                Some(inside.items.pos()).filter(|at| *at < inside.node.pack.end())
            };
            let Some(at) = at else {
                self.next_node();
                continue;
            };
            let (head, items) = inside.shared.head(inside.node.pack.iter_from(at));
            inside.items = items;
            inside.left = head.pieces_left();
            inside.last = at;
            if head.deleted {
                continue;
            }
            let (beyond, before) = if self.backward {
                (head.id < self.start, head.id > self.end)
            } else {
                (head.id > self.end, head.id < self.start)
            };
            if beyond {
                self.node = None;
                return None;
            }
            if before {
                continue;
            }
            inside.names = inside.shared.names(inside.node, &head);
            return Some(head);
        }
    }

    fn next_node(&mut self) {
        let node = if self.backward {
            self.nodes.next_back().map(|(_, node)| node)
        } else {
            self.nodes.next().map(|(_, node)| node).or_else(|| self.tail.take())
        };
        self.node = node.map(|node| {
            let shared = node.shared();
            let at = if self.backward { node.pack.end() } else { shared.entries };
            Inside::new(node, shared, at)
        });
    }
}
