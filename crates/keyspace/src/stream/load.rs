//! A stream out of a snapshot or a payload, piece by piece, in the order in which snapshots hold it:
//! nodes, counters, then group by group what is pending, and consumer by consumer what of that is theirs.
//!
//! Nothing that the bytes claim is believed: what does not fit together is refused, and no memory is taken for what
//! has not come.

use super::{ConsumerId, Counters, Group, Node, Stream, StreamId};
use crate::object::Malformed;

/// A stream that is being read.
#[derive(Debug, Default)]
pub struct StreamLoad {
    stream: Stream,
    group: Option<(Box<[u8]>, Group)>,
    consumer: Option<ConsumerId>,
}

/// What the version of the snapshot tells of the stream's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Nothing: it is guessed, as Redis does.
    Unknown,
    Known {
        first_id: StreamId,
        max_deleted_id: StreamId,
        entries_added: u64,
    },
}

impl StreamLoad {
    pub fn new() -> StreamLoad {
        StreamLoad::default()
    }

    pub fn node(&mut self, key: StreamId, bytes: Vec<u8>) -> Result<(), Malformed> {
        let node = Node::load(key, bytes)?;
        if self.top().is_some_and(|top| top >= key) {
            return Err(Malformed("Stream nodes overlap"));
        }
        self.stream.length += node.live();
        self.stream.seal_tail();
        self.stream.tail = Some(node);
        Ok(())
    }

    /// Up to where the nodes reach so far, deleted entries too.
    fn top(&self) -> Option<StreamId> {
        let tail = self.stream.tail.as_ref()?;
        Some(tail.last_id().unwrap_or(tail.key).max(tail.key))
    }

    /// All nodes are there.
    pub fn counters(&mut self, length: u64, last_id: StreamId, history: History) -> Result<(), Malformed> {
        if length > 0 && self.stream.tail.is_none() {
            return Err(Malformed("Stream length inconsistent with rax entries"));
        }
        // A length that is not that of the entries does no harm: the entries say it.
        // A last ID below them would let XADD put entries in between.
        self.stream.last_id = self.top().map_or(last_id, |top| top.max(last_id));
        match history {
            History::Known { first_id, max_deleted_id, entries_added } => {
                if self.stream.is_empty() {
                    self.stream.first_id = first_id;
                } else {
                    self.stream.find_first_id();
                }
                self.stream.max_deleted_id = max_deleted_id;
                self.stream.entries_added = entries_added;
            }
            History::Unknown => {
                self.stream.entries_added = self.stream.length;
                self.stream.find_first_id();
            }
        }
        Ok(())
    }

    /// A group follows. Without `entries_read` the snapshot does not tell it.
    pub fn group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<Option<u64>>,
    ) -> Result<(), Malformed> {
        self.end_group()?;
        if self.stream.group(name).is_some() {
            return Err(Malformed("Duplicated consumer group name"));
        }
        let counters: Counters = self.stream.counters();
        let entries_read = entries_read.unwrap_or_else(|| counters.entries_up_to(last_id));
        self.group = Some((name.into(), Group::new(last_id, entries_read)));
        Ok(())
    }

    /// An entry is pending in the group.
    pub fn pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> Result<(), Malformed> {
        let fresh = self.open_group()?.load_pending(id, delivered_ms, deliveries);
        if fresh {
            Ok(())
        } else {
            Err(Malformed("Duplicated global PEL entry loading stream consumer group"))
        }
    }

    /// A consumer of the group follows. Without `active_ms` the snapshot does not tell it.
    pub fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: Option<i64>) -> Result<(), Malformed> {
        let group = self.open_group()?;
        let consumer = group.create(name, seen_ms).ok_or(Malformed("Duplicate stream consumer detected."))?;
        group.consumer_mut(consumer).active_ms = active_ms.unwrap_or(seen_ms);
        self.consumer = Some(consumer);
        Ok(())
    }

    /// What is pending under this ID was delivered to the consumer.
    pub fn owned(&mut self, id: StreamId) -> Result<(), Malformed> {
        let consumer = self.consumer.ok_or(Malformed("Stream entry owned outside of a consumer"))?;
        self.open_group()?.load_owner(id, consumer)
    }

    /// The stream is complete.
    pub fn finish(mut self) -> Result<Stream, Malformed> {
        self.end_group()?;
        Ok(self.stream)
    }

    fn open_group(&mut self) -> Result<&mut Group, Malformed> {
        let group = self.group.as_mut().map(|(_, group)| group);
        group.ok_or(Malformed("Stream consumers outside of a group"))
    }

    fn end_group(&mut self) -> Result<(), Malformed> {
        self.consumer = None;
        if let Some((name, group)) = self.group.take() {
            if !group.is_owned() {
                return Err(Malformed("Stream CG PEL entry without consumer"));
            }
            self.stream.create_group(&name, group);
        }
        Ok(())
    }
}
