//! Copying a stream in parts, node by node, while it changes; see [`structures::copying`].
//!
//! As with a list, what was not copied yet is one run of nodes; here its ends are keys, since nodes are never moved. A
//! change copies, from the end of the run that is nearer by time, up to the node that it is about to touch: entries are
//! added at one end and trimmed at the other. Counters and groups are no part of it: [`Stream::foot`].

use structures::copying::{self, Copying, Order};

use super::{Node, Stream, StreamId};

/// A copy of a stream that is being taken.
pub(super) struct StreamCopy {
    /// No node of the run has a lower key.
    next: StreamId,
    /// All nodes of the run have lower keys.
    end: StreamId,
    /// Copied from the back: the last node first.
    behind: Vec<Vec<u8>>,
    order: Order,
    write: fn(&Node, &mut Vec<u8>),
}

impl Stream {
    /// Orders a copy of the nodes as they are now, written by `write`; an earlier order becomes void.
    pub fn begin_copy(&mut self, write: fn(&Node, &mut Vec<u8>)) -> Copying {
        let (order, copying) = copying::order();
        let end = self.nodes().next_back().and_then(|last| last.key().next()).unwrap_or(StreamId::MAX);
        let copy = StreamCopy { next: StreamId::MIN, end, behind: Vec::new(), order, write };
        self.copy.0 = Some(Box::new(copy));
        copying
    }

    /// Copies about `budget_bytes` more.
    pub fn copy_more(&mut self, budget_bytes: usize) {
        let Some(mut copy) = self.copy.0.take_if(|copy| !copy.order.is_void()) else { return };
        let end = copy.order.parts().bytes.len().saturating_add(budget_bytes);
        while let Some(key) = copy.first(self) {
            if copy.order.parts().bytes.len() >= end {
                self.copy.0 = Some(copy);
                return;
            }
            copy.copy_first(self, key);
        }
        copy.finish();
    }

    /// The copy that is being taken, unless nobody waits for it.
    pub fn copy_order(&self) -> Option<&Order> {
        self.copy.0.as_ref().map(|copy| &copy.order).filter(|order| !order.is_void())
    }

    /// Before the node with this key changes or goes.
    #[inline]
    pub(super) fn before_change(&mut self, key: StreamId) {
        if self.copy.0.is_some() {
            self.copy_up_to(key);
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_up_to(&mut self, key: StreamId) {
        let Some(mut copy) = self.copy.0.take().filter(|copy| !copy.order.is_void()) else { return };
        if copy.next <= key && key < copy.end {
            let (first, last) = (copy.first(self), copy.last(self));
            let (first, last) = (first.expect("the node itself"), last.expect("the node itself"));
            if key.ms - first.ms < last.ms - key.ms {
                while let Some(first) = copy.first(self).filter(|first| *first <= key) {
                    copy.copy_first(self, first);
                }
            } else {
                while let Some(last) = copy.last(self).filter(|last| *last >= key) {
                    copy.copy_last(self, last);
                }
            }
        }
        self.copy.0 = Some(copy);
    }
}

/// What is left is copied before the stream is gone.
impl Drop for Stream {
    fn drop(&mut self) {
        self.copy_more(usize::MAX);
    }
}

impl StreamCopy {
    fn first(&self, stream: &Stream) -> Option<StreamId> {
        stream.node_from(self.next).filter(|key| *key < self.end)
    }

    fn last(&self, stream: &Stream) -> Option<StreamId> {
        stream.node_before(self.end).filter(|key| *key >= self.next)
    }

    fn copy_first(&mut self, stream: &Stream, key: StreamId) {
        let mut parts = self.order.parts();
        (self.write)(stream.node(key).expect("the key is that of a node"), &mut parts.bytes);
        parts.items += 1;
        // The run ends below the highest ID.
        self.next = key.next().unwrap_or(self.end);
    }

    fn copy_last(&mut self, stream: &Stream, key: StreamId) {
        let mut bytes = Vec::new();
        (self.write)(stream.node(key).expect("the key is that of a node"), &mut bytes);
        self.behind.push(bytes);
        self.end = key;
    }

    /// The run is used up.
    fn finish(self) {
        let mut parts = self.order.parts();
        parts.items += self.behind.len() as u64;
        self.behind.iter().rev().for_each(|node| parts.bytes.extend_from_slice(node));
        parts.complete = true;
    }
}
