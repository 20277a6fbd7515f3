//! Large values: copied by a snapshot in parts, so that none is a pause.
//!
//! The parts of a set, hash or sorted set are intervals of its table, those of a list or a stream its nodes; `structures::copying`
//! says how they stay those of one moment while commands change the value.

use std::sync::Arc;

use structures::copying::{Copying, Order};
use structures::record::Record;

use crate::object::Object;
use crate::snapshot::{self, write_bytes, write_field, write_node, write_scored, write_stream_node};
use crate::stream::Foot;
use crate::{Hash, Set, ZSet};

/// What a value may have to be copied at once: copying as much takes the writer some ten microseconds.
#[derive(Debug, Clone, Copy)]
pub struct AtOnce {
    /// Elements of a set, hash or sorted set.
    pub elements: usize,
    /// Bytes of a hash, as a few of its fields tell.
    pub bytes: usize,
    /// Nodes of a list or a stream.
    pub nodes: usize,
}

impl Default for AtOnce {
    fn default() -> AtOnce {
        AtOnce { elements: 2048, bytes: 256 * 1024, nodes: 32 }
    }
}

/// Fields that tell how much memory a hash takes.
const SAMPLES: usize = 8;

/// A copy that has begun.
pub struct LargeCopy {
    /// What the elements are, as a batch names it.
    pub tag: u8,
    /// Elements, or nodes.
    pub count: u64,
    /// For fields with expiries: no field's time runs out earlier.
    pub soonest_ms: Option<i64>,
    /// For streams: what follows the nodes.
    pub foot: Option<Arc<Foot>>,
    pub copying: Copying,
}

impl Object {
    /// True for a value that is to be copied in parts.
    pub fn is_large(&self, at_once: AtOnce) -> bool {
        match self {
            Object::List(list) => list.node_count() > at_once.nodes,
            Object::Set(Set::Table(table)) => table.len() > at_once.elements,
            Object::Hash(Hash::Table(fields)) => {
                let sampled: usize = fields.iter().take(SAMPLES).map(Record::bytes).sum();
                fields.len() > at_once.elements || sampled / SAMPLES * fields.len() > at_once.bytes
            }
            Object::ZSet(ZSet::Ordered(set)) => set.len() > at_once.elements,
            Object::Stream(stream) => stream.node_count() > at_once.nodes,
            _ => false,
        }
    }

    /// Begins a copy in parts of a value that [`Object::is_large`].
    pub fn begin_copy(&mut self) -> LargeCopy {
        match self {
            Object::List(list) => {
                let count = list.node_count() as u64;
                let copying = list.quick().begin_copy(|node, out| write_node(node.into(), out));
                LargeCopy { tag: snapshot::LIST, count, soonest_ms: None, foot: None, copying }
            }
            Object::Set(Set::Table(table)) => {
                let count = table.len() as u64;
                let copying = table.begin_copy(|member, out| write_bytes(member.key(), out));
                LargeCopy { tag: snapshot::SET, count, soonest_ms: None, foot: None, copying }
            }
            Object::Hash(Hash::Table(fields)) => {
                let soonest_ms = fields.has_ttl().then(|| fields.soonest_ms());
                let (count, with_expiry) = (fields.len() as u64, soonest_ms.is_some());
                let copying = fields.begin_copy(move |field, out| write_field(field, with_expiry, out));
                let tag = if with_expiry { snapshot::HASH_TTL } else { snapshot::HASH };
                LargeCopy { tag, count, soonest_ms, foot: None, copying }
            }
            Object::ZSet(ZSet::Ordered(set)) => {
                let count = set.len() as u64;
                LargeCopy {
                    tag: snapshot::ZSET,
                    count,
                    soonest_ms: None,
                    foot: None,
                    copying: set.begin_copy(write_scored),
                }
            }
            Object::Stream(stream) => {
                let count = stream.node_count() as u64;
                let foot = Some(Arc::new(stream.foot()));
                let copying = stream.begin_copy(write_stream_node);
                LargeCopy { tag: snapshot::STREAM, count, soonest_ms: None, foot, copying }
            }
            _ => unreachable!("only collections of many elements are large"),
        }
    }

    /// Copies about `budget_bytes` more, if a copy is being taken.
    pub fn copy_more(&mut self, budget_bytes: usize) {
        match self {
            Object::List(list) if list.as_quick().is_some() => list.quick().copy_more(budget_bytes),
            Object::Set(Set::Table(table)) => table.copy_more(budget_bytes),
            Object::Hash(Hash::Table(fields)) => fields.copy_more(budget_bytes),
            Object::ZSet(ZSet::Ordered(set)) => set.copy_more(budget_bytes),
            Object::Stream(stream) => stream.copy_more(budget_bytes),
            _ => {}
        }
    }

    /// The copy that is being taken, unless nobody waits for it.
    pub fn copy_order(&self) -> Option<&Order> {
        match self {
            Object::List(list) => list.as_quick()?.copy_order(),
            Object::Set(Set::Table(table)) => table.copy_order(),
            Object::Hash(Hash::Table(fields)) => fields.copy_order(),
            Object::ZSet(ZSet::Ordered(set)) => set.copy_order(),
            Object::Stream(stream) => stream.copy_order(),
            _ => None,
        }
    }

    /// True if this is the value that `copying` is being taken of.
    pub fn is_copied_by(&self, copying: &Copying) -> bool {
        self.copy_order().is_some_and(|order| order.is_of(copying))
    }
}
