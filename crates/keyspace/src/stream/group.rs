//! Consumer groups: how far a group has read, what was delivered and not acknowledged, and to whom.
//!
//! What is pending is in the group's list with its owner, and its ID once more in the owner's own list. Consumers are
//! known by a number within their group, so that a pending entry is small and its owner can be changed.
//!
//! To copy a group counts references, one for each consumer and for each hundred or so pending entries: snapshots do it
//! in between two commands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use structures::cow_map::CowMap;

use super::StreamId;
use crate::object::Malformed;

/// A consumer's number in its group. Numbers of deleted consumers are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// When it was delivered last, in milliseconds since the epoch.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
    pub owner: ConsumerId,
}

#[derive(Debug, Clone)]
pub struct Consumer {
    name: Arc<[u8]>,
    /// When it asked last, in milliseconds since the epoch.
    pub seen_ms: i64,
    /// When it was given something last; -1 for never. Redis knows this since 7.2; here it is kept for snapshots.
    pub active_ms: i64,
    pending: CowMap<StreamId, ()>,
}

#[derive(Clone)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries of the stream the group has read, if that is known.
    pub entries_read: Option<u64>,
    pending: CowMap<StreamId, Pending>,
    consumers: Vec<Option<Arc<Consumer>>>,
    /// Numbers of deleted consumers.
    free: Vec<ConsumerId>,
    by_name: BTreeMap<Arc<[u8]>, ConsumerId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn pending(&self) -> &CowMap<StreamId, ()> {
        &self.pending
    }

    /// The first that it has pending from `start` on.
    pub fn next_pending(&self, start: StreamId) -> Option<StreamId> {
        self.pending.range(start..).next().map(|(id, ())| id)
    }
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            pending: CowMap::new(),
            consumers: Vec::new(),
            free: Vec::new(),
            by_name: BTreeMap::new(),
        }
    }

    pub fn pending(&self) -> &CowMap<StreamId, Pending> {
        &self.pending
    }

    /// Changes an entry that is pending. Its owner is changed by [`Group::assign`].
    pub fn pending_mut(&mut self, id: StreamId) -> Option<&mut Pending> {
        self.pending.get_mut(id)
    }

    /// The consumers by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.by_name.values().map(|id| self.consumer(*id))
    }

    pub fn find(&self, name: &[u8]) -> Option<ConsumerId> {
        self.by_name.get(name).copied()
    }

    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.consumers[id.0 as usize].as_ref().expect("the number is that of a consumer")
    }

    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        let consumer = self.consumers[id.0 as usize].as_mut().expect("the number is that of a consumer");
        Arc::make_mut(consumer)
    }

    /// Adds a consumer; `None` if there is one of this name.
    pub fn create(&mut self, name: &[u8], now_ms: i64) -> Option<ConsumerId> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let name: Arc<[u8]> = name.into();
        let pending = CowMap::new();
        let consumer = Consumer { name: Arc::clone(&name), seen_ms: now_ms, active_ms: -1, pending };
        let id = self.free.pop().unwrap_or_else(|| {
            self.consumers.push(None);
            let index = u32::try_from(self.consumers.len() - 1).ok().filter(|index| *index != NOBODY.0);
            ConsumerId(index.expect("a group has fewer than 2^32 - 1 consumers"))
        });
        self.consumers[id.0 as usize] = Some(Arc::new(consumer));
        self.by_name.insert(name, id);
        Some(id)
    }

    /// Removes a consumer with all that it has pending; how much that was.
    pub fn delete(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.by_name.remove(name)?;
        let consumer = self.consumers[id.0 as usize].take().expect("the number is that of a consumer");
        self.free.push(id);
        for id in consumer.pending.keys() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// The entry was delivered to `owner` for the first time, as far as the group knows.
    pub fn deliver(&mut self, id: StreamId, owner: ConsumerId, now_ms: i64) {
        self.assign(id, Pending { delivered_ms: now_ms, deliveries: 1, owner });
    }

    /// Makes the entry pending as given, whoever had it.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        let before = self.pending.insert(id, pending).map(|before| before.owner);
        if before != Some(pending.owner) {
            if let Some(before) = before {
                self.consumer_mut(before).pending.remove(id);
            }
            self.consumer_mut(pending.owner).pending.insert(id, ());
        }
    }

    /// The entry is no longer pending; true if it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else { return false };
        self.consumer_mut(pending.owner).pending.remove(id);
        true
    }

    /// Whether `entry` was not delivered yet, or is pending.
    pub(super) fn needs(&self, entry: StreamId) -> bool {
        entry > self.last_id || self.pending.contains_key(entry)
    }

    /// Loading: the entry is pending, with an owner that [`Group::load_owner`] tells.
    pub(super) fn load_pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> bool {
        let pending = Pending { delivered_ms, deliveries, owner: NOBODY };
        self.pending.insert(id, pending).is_none()
    }

    /// Loading: what is pending under this ID, and has no owner yet, gets one.
    pub(super) fn load_owner(&mut self, id: StreamId, owner: ConsumerId) -> Result<(), Malformed> {
        let pending = self.pending.get_mut(id);
        let pending = pending.ok_or(Malformed("Consumer entry not found in group global PEL"))?;
        if pending.owner != NOBODY {
            return Err(Malformed("Stream consumer PEL entry already has a consumer assigned"));
        }
        pending.owner = owner;
        self.consumer_mut(owner).pending.insert(id, ());
        Ok(())
    }

    /// Loading: whether all that is pending has an owner.
    pub(super) fn is_owned(&self) -> bool {
        self.pending.iter().all(|(_, pending)| pending.owner != NOBODY)
    }

    /// An estimate of heap bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let consumers: usize = self
            .consumers()
            .map(|consumer| size_of::<Consumer>() + consumer.name.len() + consumer.pending.heap_bytes())
            .sum();
        self.pending.heap_bytes() + self.consumers.capacity() * size_of::<Option<Arc<Consumer>>>() + consumers
    }
}

/// Shows what snapshots hold: no numbers of consumers.
impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.pending.iter().map(|(id, pending)| (id, pending.delivered_ms, pending.deliveries));
        f.debug_struct("Group")
            .field("last_id", &self.last_id)
            .field("entries_read", &self.entries_read)
            .field("pending", &pending.collect::<Vec<_>>())
            .field("consumers", &self.consumers().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The owner of what is being loaded.
const NOBODY: ConsumerId = ConsumerId(u32::MAX);
