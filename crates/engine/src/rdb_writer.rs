//! From the batches of a snapshot to the bytes of an RDB file, without I/O: it runs on another thread in the server
//! and inline for `SAVE` and in the simulator.
//!
//! ```text
//! begin → batch* → end        each appends to the caller's buffer, which may be taken away between any two calls
//! ```

use std::sync::Arc;

use keyspace::snapshot::{Batch, Body, Elements, ListNode, Shape, Value};
use keyspace::stream::{Foot, StreamId};
use keyspace::{AccessClock, Entry};
use rdb::{Crc64, EncodeError, Encoder, EncoderOptions, EntryId, Node, StrRef, StreamHistory, TtlFields};

use crate::snapshot::Plan;

/// The encoder of one snapshot. Knows which database the file has selected, and the checksum of what was handed out.
pub struct RdbWriter {
    encoder: Encoder,
    /// Absent when no checksum is wanted (`rdbchecksum no`).
    crc: Option<Crc64>,
    aux: Vec<(&'static str, String)>,
    functions: Vec<Arc<[u8]>>,
    selected: Option<u32>,
    access: Option<AccessClock>,
    /// The value whose elements come in parts, and how many are to come.
    in_parts: Option<(Begun, u64)>,
}

/// A value in parts whose beginning was written.
enum Begun {
    Plain,
    HashTtl(TtlFields),
}

impl RdbWriter {
    pub fn new(plan: &Plan) -> RdbWriter {
        RdbWriter {
            encoder: Encoder::new(plan.target, EncoderOptions { compress: plan.compress }),
            crc: plan.checksum.then(Crc64::new),
            aux: plan.aux.clone(),
            functions: plan.functions.clone(),
            selected: None,
            access: plan.access,
            in_parts: None,
        }
    }

    /// Appends what stands before the first key: the header, the auxiliary fields and the function libraries.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let from = out.len();
        self.encoder.header(out);
        for (key, value) in std::mem::take(&mut self.aux) {
            self.encoder.aux(out, key.as_bytes(), value.as_bytes());
        }
        for code in std::mem::take(&mut self.functions) {
            self.encoder.function(out, &code).expect("the version was chosen for what there is");
        }
        self.sum_up(&out[from..]);
    }

    /// Opens a database and says how much it holds.
    pub fn database(&mut self, index: u32, keys: u64, expires: u64, out: &mut Vec<u8>) {
        let from = out.len();
        self.open(index, keys, expires, out);
        self.sum_up(&out[from..]);
    }

    /// Appends the keys of `batch`. After an error, which names a value that the version cannot hold, the snapshot
    /// is of no use.
    pub fn batch(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), String> {
        let from = out.len();
        for item in batch.items() {
            match item.body {
                _ if self.in_parts.is_some() && !matches!(item.body, Body::Part(_) | Body::Foot(_)) => {
                    return Err("a value has fewer elements than it began with".into());
                }
                Body::Sizes { db, keys, expires } => self.open(db, keys, expires, out),
                Body::Select { db } => self.select(db, out),
                Body::Key { key, expire_at_ms, clock, value } => {
                    self.attributes(expire_at_ms, clock, out);
                    push_value(&mut self.encoder, Some(key), &value, out)
                        .map_err(|error| at_key(key, error))?;
                }
                Body::Begin { key, expire_at_ms, clock, shape, count } => {
                    self.attributes(expire_at_ms, clock, out);
                    let begun = begin_value(&mut self.encoder, Some(key), shape, count, out);
                    let items = if shape == Shape::Stream { count + 1 } else { count };
                    self.in_parts = Some((begun.map_err(|error| at_key(key, error))?, items));
                }
                Body::Part(elements) => {
                    let (begun, _) = self.in_parts.as_ref().ok_or("elements of no value")?;
                    let count = push_elements(&mut self.encoder, begun, &elements, out)
                        .map_err(|error| error.to_string())?;
                    self.written(count)?;
                }
                Body::Foot(foot) => {
                    push_foot(&mut self.encoder, foot, out);
                    self.written(1)?;
                }
            }
        }
        self.sum_up(&out[from..]);
        Ok(())
    }

    /// So many items more of the value in parts were written.
    fn written(&mut self, items: u64) -> Result<(), &'static str> {
        let (begun, left) = self.in_parts.take().ok_or("elements of no value")?;
        let left = left.checked_sub(items).ok_or("a value has more elements than it began with")?;
        self.in_parts = (left > 0).then_some((begun, left));
        Ok(())
    }

    /// Appends the end of the file: nothing may follow.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        assert!(self.in_parts.is_none(), "a walk ends when each value is complete");
        let mut end = Vec::new();
        self.encoder.eof(&mut end, self.crc.take());
        out.extend_from_slice(&end);
    }

    /// What is known of a key besides its value, as far as it is to be kept.
    fn attributes(&self, expire_at_ms: Option<i64>, clock: u32, out: &mut Vec<u8>) {
        let (idle_s, frequency) = match &self.access {
            None => (None, None),
            Some(access) if access.lfu.is_some() => (None, Some(access.frequency(clock))),
            Some(access) => (Some(u64::from(access.idle_s(clock))), None),
        };
        self.encoder.key_attributes(out, expire_at_ms, idle_s, frequency);
    }

    fn open(&mut self, index: u32, keys: u64, expires: u64, out: &mut Vec<u8>) {
        self.select(index, out);
        self.encoder.resize_db(out, keys, expires);
    }

    /// Batches state their database anew; the file only where it changes.
    fn select(&mut self, index: u32, out: &mut Vec<u8>) {
        if self.selected != Some(index) {
            self.selected = Some(index);
            self.encoder.select_db(out, index);
        }
    }

    fn sum_up(&mut self, bytes: &[u8]) {
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
    }
}

/// The `DUMP` payload of one value, in the oldest version that holds it.
pub fn dump(entry: &Entry, compress: bool) -> Result<Vec<u8>, EncodeError> {
    let mut batch = Batch::default();
    batch.push_entry(entry);
    let item = batch.items().next().expect("one entry is one item");
    let Body::Key { value, .. } = item.body else { unreachable!("an entry is pushed as a key") };
    let features = rdb::Features {
        hash_field_ttl: matches!(value, Value::HashTtl(_)),
        streams: matches!(value, Value::Stream { .. }),
        ..rdb::Features::default()
    };
    let target = rdb::oldest_version_for(features, rdb::Dialect::Redis);
    let mut out = Vec::new();
    push_value(&mut Encoder::new(target, EncoderOptions { compress }), None, &value, &mut out)?;
    rdb::dump::seal(&mut out, target);
    Ok(out)
}

fn at_key(key: &[u8], error: EncodeError) -> String {
    format!("key '{}': {error}", key.escape_ascii())
}

fn begin_value(
    encoder: &mut Encoder,
    key: Option<&[u8]>,
    shape: Shape,
    count: u64,
    out: &mut Vec<u8>,
) -> Result<Begun, EncodeError> {
    match shape {
        Shape::List => encoder.list_begin(out, key, count),
        Shape::Set => encoder.set_begin(out, key, count),
        Shape::Hash => encoder.hash_begin(out, key, count),
        Shape::HashTtl { soonest_ms } => {
            return encoder.hash_ttl_begin(out, key, count, soonest_ms).map(Begun::HashTtl);
        }
        Shape::ZSet => encoder.zset_begin(out, key, count),
        Shape::Stream => encoder.stream_begin(out, key, count),
    }
    Ok(Begun::Plain)
}

/// Writes some elements of a value that was begun; their number.
fn push_elements(
    encoder: &mut Encoder,
    begun: &Begun,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<u64, EncodeError> {
    let elements = match value {
        Value::List(nodes) => {
            for node in nodes.nodes() {
                let node = match node {
                    ListNode::Packed(bytes) => Node::Packed(bytes),
                    ListNode::Plain(bytes) => Node::Plain(bytes),
                };
                encoder.list_node(out, node)?;
            }
            nodes
        }
        Value::Set(members) => {
            members.members().for_each(|member| encoder.element(out, member));
            members
        }
        Value::Hash(fields) => {
            fields.pairs().for_each(|(name, value)| encoder.field(out, name, value));
            fields
        }
        Value::HashTtl(fields) => {
            let Begun::HashTtl(writer) = begun else { unreachable!("the value began as its elements go on") };
            for (name, value, at) in fields.expiring_pairs() {
                writer.field(encoder, out, name, value, at);
            }
            fields
        }
        Value::ZSet(members) => {
            members.scored().for_each(|(member, score)| encoder.scored(out, member, score));
            members
        }
        Value::StreamNodes(nodes) => {
            push_stream_nodes(encoder, nodes, out);
            nodes
        }
        _ => unreachable!("what has elements is written one by one"),
    };
    Ok(elements.count as u64)
}

fn push_value(
    encoder: &mut Encoder,
    key: Option<&[u8]>,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let (shape, elements) = match value {
        Value::Int(int) => {
            encoder.string(out, key, StrRef::Int(*int));
            return Ok(());
        }
        Value::Str(text) | Value::Shared(text) => {
            encoder.string(out, key, StrRef::Bytes(text));
            return Ok(());
        }
        Value::Intset(bytes) => {
            encoder.set_intset(out, key, bytes);
            return Ok(());
        }
        Value::SetListpack(bytes) => return encoder.set_listpack(out, key, bytes),
        Value::HashListpack(bytes) => return encoder.hash_listpack(out, key, bytes),
        Value::ZSetListpack(bytes) => return encoder.zset_listpack(out, key, bytes),
        Value::List(nodes) => (Shape::List, nodes),
        Value::Set(members) => (Shape::Set, members),
        Value::Hash(fields) => (Shape::Hash, fields),
        Value::HashTtl(fields) => {
            let soonest = fields.expiring_pairs().filter_map(|(_, _, at)| at).min();
            let soonest_ms = soonest.expect("such a hash has a field with an expiry");
            (Shape::HashTtl { soonest_ms }, fields)
        }
        Value::ZSet(members) => (Shape::ZSet, members),
        Value::Stream { nodes, foot } => {
            encoder.stream_begin(out, key, nodes.count as u64);
            push_stream_nodes(encoder, nodes, out);
            push_foot(encoder, foot, out);
            return Ok(());
        }
        Value::StreamNodes(_) => unreachable!("a key that is copied at once has its value whole"),
    };
    let begun = begin_value(encoder, key, shape, elements.count as u64, out)?;
    push_elements(encoder, &begun, value, out).map(drop)
}

fn push_stream_nodes(encoder: &mut Encoder, nodes: &Elements<'_>, out: &mut Vec<u8>) {
    nodes.stream_nodes().for_each(|(key, bytes)| encoder.stream_node(out, entry_id(key), bytes));
}

/// Counters and groups: the end of a stream.
fn push_foot(encoder: &mut Encoder, foot: &Foot, out: &mut Vec<u8>) {
    let counters = &foot.counters;
    let history = StreamHistory {
        first_id: entry_id(counters.first_id),
        max_deleted_id: entry_id(counters.max_deleted_id),
        entries_added: counters.entries_added,
    };
    let groups = foot.groups().len() as u64;
    encoder.stream_counters(out, counters.length, entry_id(counters.last_id), &history, groups);
    for (name, group) in foot.groups() {
        let entries_read = group.entries_read.map_or(-1, |read| read as i64);
        encoder.group(out, name, entry_id(group.last_id), entries_read, group.pending().len() as u64);
        for (id, pending) in group.pending().iter() {
            encoder.pending(out, entry_id(id), pending.delivered_ms, pending.deliveries);
        }
        encoder.consumers(out, group.consumers().len() as u64);
        for consumer in group.consumers() {
            let owned = consumer.pending();
            encoder.consumer(out, consumer.name(), consumer.seen_ms, consumer.active_ms, owned.len() as u64);
            owned.keys().for_each(|id| encoder.owned(out, entry_id(id)));
        }
    }
}

fn entry_id(id: StreamId) -> EntryId {
    (id.ms, id.seq)
}
