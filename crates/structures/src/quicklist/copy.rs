//! Copying a list in parts, node by node, while it changes; see [`crate::copying`].
//!
//! What was not copied yet is one run of nodes, untouched since the copy began, between a front and a back zone. Going
//! on copies from the front of the run. A change copies, from the nearer end of the run, up to the nodes that it is
//! about to touch, so that it happens in one of the zones: the node at the end for a push or a pop, and for a change in
//! the middle no more than the way there that the change itself takes. What was copied from the back waits until the
//! run is used up, since elements must arrive in order.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::{Node, NodeRef, Quicklist};
use crate::copying::{self, Copying, Order};

/// Appends a node to the bytes of a copy.
type Write = Box<dyn Fn(NodeRef<'_>, &mut Vec<u8>) + Send>;

/// A copy of a list that is being taken.
pub(super) struct ListCopy {
    /// Nodes before the run that was not copied.
    front: usize,
    /// Nodes behind it.
    back: usize,
    /// Copied from the back: the last node first.
    behind: Vec<Vec<u8>>,
    order: Order,
    write: Write,
}

/// Where a change happens, and how many nodes there were before it.
#[must_use]
pub(super) struct Change {
    in_front: bool,
    nodes: usize,
}

impl Quicklist {
    /// Orders a copy of the nodes as they are now, written by `write` from the first to the last; an earlier order
    /// becomes void.
    pub fn begin_copy(&mut self, write: impl Fn(NodeRef<'_>, &mut Vec<u8>) + Send + 'static) -> Copying {
        let (order, copying) = copying::order();
        let write: Write = Box::new(write);
        self.copy.0 = Some(Box::new(ListCopy { front: 0, back: 0, behind: Vec::new(), order, write }));
        copying
    }

    /// Copies about `budget_bytes` more.
    pub fn copy_more(&mut self, budget_bytes: usize) {
        let Some(mut copy) = self.copy.0.take_if(|copy| !copy.order.is_void()) else { return };
        let end = copy.order.parts().bytes.len().saturating_add(budget_bytes);
        while copy.front + copy.back < self.nodes.len() {
            if copy.order.parts().bytes.len() >= end {
                self.copy.0 = Some(copy);
                return;
            }
            copy.next(&self.nodes);
        }
        copy.finish();
    }

    /// The copy that is being taken, unless nobody waits for it.
    pub fn copy_order(&self) -> Option<&Order> {
        self.copy.0.as_ref().map(|copy| &copy.order).filter(|order| !order.is_void())
    }

    /// Before a change at the first or the last node, whichever `front` says; nodes may be added or go there.
    #[inline]
    pub(super) fn before_end_changes(&mut self, front: bool) -> Option<Change> {
        self.copy.0.as_ref()?;
        let end = if front { 0 } else { self.nodes.len().saturating_sub(1) };
        self.before_change(end..=end)
    }

    /// Before a change of these nodes that may split, join, add or remove nodes among them.
    #[cold]
    #[inline(never)]
    pub(super) fn before_change(&mut self, touched: RangeInclusive<usize>) -> Option<Change> {
        let mut copy = self.copy.0.take().filter(|copy| !copy.order.is_void())?;
        let change = copy.reach(&self.nodes, *touched.start(), *touched.end());
        if copy.front + copy.back == self.nodes.len() {
            copy.finish();
            return None;
        }
        self.copy.0 = Some(copy);
        Some(change)
    }

    /// After the change that [`Quicklist::before_change`] was told of.
    #[inline]
    pub(super) fn after_change(&mut self, change: Option<Change>) {
        let (Some(change), Some(copy)) = (change, self.copy.0.as_mut()) else { return };
        let zone = if change.in_front { &mut copy.front } else { &mut copy.back };
        *zone = (*zone + self.nodes.len()) - change.nodes;
    }
}

/// What is left is copied before the list is gone.
impl Drop for Quicklist {
    fn drop(&mut self) {
        self.copy_more(usize::MAX);
    }
}

impl ListCopy {
    /// Makes the nodes from `first` to `last` lie in one zone.
    fn reach(&mut self, nodes: &VecDeque<Node>, first: usize, last: usize) -> Change {
        let len = nodes.len();
        let from_front = (last + 1).min(len).saturating_sub(self.front);
        let from_back = (len - self.back).saturating_sub(first);
        let in_front = from_front <= from_back;
        if in_front {
            (0..from_front).for_each(|_| self.next(nodes));
        } else {
            (0..from_back).for_each(|_| self.next_from_back(nodes));
        }
        Change { in_front, nodes: len }
    }

    /// Copies the first node of the run; nothing is done when none is left.
    fn next(&mut self, nodes: &VecDeque<Node>) {
        if self.front + self.back < nodes.len() {
            let mut parts = self.order.parts();
            (self.write)(nodes[self.front].as_ref(), &mut parts.bytes);
            parts.items += 1;
            self.front += 1;
        }
    }

    fn next_from_back(&mut self, nodes: &VecDeque<Node>) {
        if self.front + self.back < nodes.len() {
            self.back += 1;
            let mut bytes = Vec::new();
            (self.write)(nodes[nodes.len() - self.back].as_ref(), &mut bytes);
            self.behind.push(bytes);
        }
    }

    /// The run is used up.
    fn finish(self) {
        let mut parts = self.order.parts();
        parts.items += self.behind.len() as u64;
        self.behind.iter().rev().for_each(|node| parts.bytes.extend_from_slice(node));
        parts.complete = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, fewer};

    /// Elements separated by commas, nodes by nothing: what a copy must give is the text of the list as it was.
    fn write(node: NodeRef<'_>, out: &mut Vec<u8>) {
        match node {
            NodeRef::Packed(list) => list.iter().for_each(|entry| push(entry, out)),
            NodeRef::Plain(bytes) => push(crate::listpack::Entry::Str(bytes), out),
        }
    }

    fn push(entry: crate::listpack::Entry<'_>, out: &mut Vec<u8>) {
        match entry {
            crate::listpack::Entry::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            crate::listpack::Entry::Str(bytes) => out.extend_from_slice(bytes),
        }
        out.push(b',');
    }

    fn text(list: &Quicklist) -> Vec<u8> {
        let mut out = Vec::new();
        list.iter().for_each(|entry| push(entry, &mut out));
        out
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(bool, u8),
        Pop(bool),
        Set(u8, u16),
        Insert(u8, bool),
        Remove(u8, u8),
        RemoveEqual(u8, i8),
        More(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<bool>(), any::<u8>()).prop_map(|(front, value)| Step::Push(front, value)),
            3 => any::<bool>().prop_map(Step::Pop),
            2 => (any::<u8>(), 1..600u16).prop_map(|(at, len)| Step::Set(at, len)),
            2 => (any::<u8>(), any::<bool>()).prop_map(|(at, after)| Step::Insert(at, after)),
            1 => (any::<u8>(), 0..20u8).prop_map(|(at, count)| Step::Remove(at, count)),
            1 => (any::<u8>(), -3..3i8).prop_map(|(value, count)| Step::RemoveEqual(value, count)),
            2 => any::<u8>().prop_map(Step::More),
        ]
    }

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn a_copy_is_of_the_moment_when_it_began(
            fill in prop_oneof![Just(1), Just(3), Just(8)],
            before in 0..fewer(120, 30),
            steps in proptest::collection::vec(step(), 0..fewer(80, 20)),
            dropped in any::<bool>(),
        ) {
            let mut list = Quicklist::new(fill);
            list.set_packed_threshold(300);
            (0..before).for_each(|value| list.push_back((value % 40).to_string().as_bytes()));
            let (expected, nodes) = (text(&list), list.nodes().len());
            let copying = list.begin_copy(write);
            let (mut copied, mut items) = (Vec::new(), 0);
            for step in steps {
                let at = |at: u8| i64::from(at) % (list.len().max(1) as i64);
                match step {
                    Step::Push(true, value) => list.push_front(&[b'a' + value % 26]),
                    Step::Push(false, value) => list.push_back(&[b'a' + value % 26]),
                    Step::Pop(true) => drop(list.pop_front()),
                    Step::Pop(false) => drop(list.pop_back()),
                    Step::Set(index, len) => {
                        list.set(at(index), &vec![b'x'; len.into()]);
                    }
                    Step::Insert(index, true) => {
                        list.insert_after(at(index), b"new");
                    }
                    Step::Insert(index, false) => {
                        list.insert_before(at(index), b"new");
                    }
                    Step::Remove(index, count) => {
                        list.remove_range(at(index), count.into());
                    }
                    Step::RemoveEqual(value, count) => {
                        list.remove_equal((value % 40).to_string().as_bytes(), count.into());
                    }
                    Step::More(budget) => {
                        list.copy_more(budget.into());
                        let parts = copying.take();
                        copied.extend(parts.bytes);
                        items += parts.items;
                    }
                }
            }
            if dropped {
                drop(list);
            } else {
                list.copy_more(usize::MAX);
            }
            let parts = copying.take();
            copied.extend(parts.bytes);
            prop_assert!(parts.complete);
            prop_assert_eq!(copied, expected);
            prop_assert_eq!(items + parts.items, nodes as u64);
        }
    }

    #[test]
    fn an_order_that_nobody_waits_for_costs_nothing_more() {
        let mut list = Quicklist::new(2);
        (0..100).for_each(|value: i32| list.push_back(value.to_string().as_bytes()));
        drop(list.begin_copy(write));
        assert!(list.copy_order().is_none());
        list.push_back(b"x");
        assert!(list.copy.0.is_none(), "the change has noticed it");
    }
}
