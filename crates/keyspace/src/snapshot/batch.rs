//! What a snapshot has copied: flat bytes, so that copying an entry is appending, and another thread can encode them.
//!
//! Items lie one after another, each a tag byte; integers little-endian; `bytes` is a u32 length and the bytes.
//! ```text
//! SIZES   u32 db, u64 keys, u64 expires        what the database held when the walk began
//! SELECT  u32 db                               the keys that follow belong to it
//! KEY     u8 value tag, u8 has expiry, u32 access clock, [i64 expiry ms], bytes key, value
//! BEGIN   as KEY, but u64 elements instead of the value, and with HASH_TTL i64 a bound of the expiries
//! PART    u8 value tag, u32 elements, u64 length, elements      of the value that was begun last
//! FOOT    u32 reference                        counters and groups of the stream that was begun last, which it ends
//! ```
//! Long strings and the groups of streams are not copied: the batch holds references to them, of which an item has one at
//! most, its last four bytes.

use std::sync::Arc;

use structures::copying::Parts;
use structures::listpack::Pack;
use structures::record::ValueRef;

use crate::entry::{Entry, EntryExt, Str, Value as Content};
use crate::large::LargeCopy;
use crate::stream::Foot;
use crate::{Hash, Set, StreamId, ZSet};

/// Entries copied out of the keyspace: what crosses from the writer to the thread that encodes a snapshot.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    shared: Vec<Shared>,
    shared_bytes: usize,
    selected: Option<u32>,
}

/// What is referred to.
#[derive(Debug)]
enum Shared {
    Text(Arc<Vec<u8>>),
    Foot(Arc<Foot>),
}

const SIZES: u8 = 0;
const SELECT: u8 = 1;
const KEY: u8 = 2;
const BEGIN: u8 = 3;
const PART: u8 = 4;
const FOOT: u8 = 5;

const INT: u8 = 0;
const STR: u8 = 1;
const SHARED: u8 = 2;
pub(crate) const LIST: u8 = 3;
const INTSET: u8 = 4;
const SET_LISTPACK: u8 = 5;
pub(crate) const SET: u8 = 6;
const HASH_LISTPACK: u8 = 7;
pub(crate) const HASH: u8 = 8;
const ZSET_LISTPACK: u8 = 9;
pub(crate) const ZSET: u8 = 10;
/// A hash that has a field with an expiry: an i64 follows each value.
pub(crate) const HASH_TTL: u8 = 11;

/// Elements are nodes; a whole stream has a reference to its foot behind them.
pub(crate) const STREAM: u8 = 12;

/// The expiry of a field that has none.
const NO_EXPIRY: i64 = i64::MIN;

const PACKED_NODE: u8 = 0;
const PLAIN_NODE: u8 = 1;

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes the batch keeps alive, shared strings included.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        self.shared_bytes = 0;
        self.selected = None;
    }

    /// The items in the order they were pushed.
    pub fn items(&self) -> Items<'_> {
        Items { batch: self, rest: &self.bytes }
    }

    /// Copies one entry; the right database must be selected.
    pub fn push_entry(&mut self, entry: &Entry) {
        let tag_at = self.push_head(KEY, entry);
        self.bytes[tag_at] = self.push_value(entry);
    }

    /// What comes before the value; where the value's tag is to be put.
    fn push_head(&mut self, item: u8, entry: &Entry) -> usize {
        self.bytes.reserve(entry.bytes() + 24);
        self.bytes.push(item);
        let tag_at = self.bytes.len();
        self.bytes.push(0);
        let expire = entry.expire_at();
        self.bytes.push(u8::from(expire.is_some()));
        self.bytes.extend_from_slice(&entry.clock().to_le_bytes());
        if let Some(at) = expire {
            self.bytes.extend_from_slice(&at.to_le_bytes());
        }
        self.push_bytes(entry.key());
        tag_at
    }

    /// The item that begins a value in parts, for [`Batch::push_begun`].
    pub(super) fn begin(entry: &Entry, copy: &LargeCopy) -> Vec<u8> {
        let mut begin = Batch::default();
        let tag_at = begin.push_head(BEGIN, entry);
        begin.bytes[tag_at] = copy.tag;
        begin.push_u64(copy.count);
        if let Some(soonest) = copy.soonest_ms {
            begin.push_u64(soonest as u64);
        }
        begin.bytes
    }

    pub(super) fn push_begun(&mut self, item: &mut Vec<u8>) {
        self.bytes.append(item);
    }

    pub(super) fn push_part(&mut self, tag: u8, parts: &Parts) {
        if parts.items > 0 {
            self.bytes.extend_from_slice(&[PART, tag]);
            self.push_u32(u32::try_from(parts.items).expect("a part has fewer than 2^32 elements"));
            self.bytes.extend_from_slice(&(parts.bytes.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(&parts.bytes);
        }
    }

    fn push_value(&mut self, entry: &Entry) -> u8 {
        match entry.content() {
            Content::Str(Str::Int(value)) => {
                self.bytes.extend_from_slice(&value.to_le_bytes());
                INT
            }
            Content::Str(Str::Bytes(bytes)) => {
                self.push_bytes(bytes);
                STR
            }
            Content::Str(Str::Shared(text)) => {
                self.push_shared(Shared::Text(Arc::clone(text)), text.len());
                SHARED
            }
            Content::List(list) => {
                self.push_u32(list.node_count() as u32);
                list.nodes().for_each(|node| write_node(node, &mut self.bytes));
                LIST
            }
            Content::Set(Set::Intset(set)) => {
                self.push_bytes(set.bytes());
                INTSET
            }
            Content::Set(Set::Listpack(pack)) => {
                self.push_pack(pack);
                SET_LISTPACK
            }
            Content::Set(Set::Table(table)) => {
                self.push_u32(table.len() as u32);
                table.iter().for_each(|member| write_bytes(member.key(), &mut self.bytes));
                SET
            }
            Content::Hash(Hash::Listpack(pack)) => {
                self.push_pack(pack);
                HASH_LISTPACK
            }
            Content::Hash(Hash::Table(fields)) => {
                self.push_u32(fields.len() as u32);
                let has_ttl = fields.has_ttl();
                fields.iter().for_each(|field| write_field(field, has_ttl, &mut self.bytes));
                if has_ttl { HASH_TTL } else { HASH }
            }
            Content::ZSet(ZSet::Listpack(pack)) => {
                self.push_pack(pack);
                ZSET_LISTPACK
            }
            Content::ZSet(ZSet::Ordered(set)) => {
                self.push_u32(set.len() as u32);
                // Highest first, as Redis writes it, so that a skip list can be rebuilt by inserting at its head.
                for (member, score) in set.range(0..set.len()).rev() {
                    write_scored(member, score, &mut self.bytes);
                }
                ZSET
            }
            Content::Stream(stream) => {
                self.push_u32(stream.node_count() as u32);
                stream.nodes().for_each(|node| write_stream_node(node, &mut self.bytes));
                self.push_foot_reference(Arc::new(stream.foot()));
                STREAM
            }
        }
    }

    /// Ends the stream that was begun last.
    pub(super) fn push_foot(&mut self, foot: Arc<Foot>) {
        self.bytes.push(FOOT);
        self.push_foot_reference(foot);
    }

    fn push_foot_reference(&mut self, foot: Arc<Foot>) {
        let bytes = foot.pending_bytes();
        self.push_shared(Shared::Foot(foot), bytes);
    }

    fn push_shared(&mut self, shared: Shared, bytes: usize) {
        self.push_u32(self.shared.len() as u32);
        self.shared_bytes += bytes;
        self.shared.push(shared);
    }

    fn push_u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn push_pack(&mut self, pack: &Pack) {
        write_pack(pack, &mut self.bytes);
    }

    pub(super) fn push_db_sizes(&mut self, index: u32, keys: u64, expires: u64) {
        self.bytes.push(SIZES);
        self.push_u32(index);
        self.bytes.extend_from_slice(&keys.to_le_bytes());
        self.bytes.extend_from_slice(&expires.to_le_bytes());
        self.selected = Some(index);
    }

    pub(super) fn select(&mut self, index: u32) {
        if self.selected != Some(index) {
            self.selected = Some(index);
            self.bytes.push(SELECT);
            self.push_u32(index);
        }
    }

    pub(super) fn append(&mut self, other: &mut Batch) {
        if self.bytes.is_empty() && self.shared.is_empty() {
            std::mem::swap(self, other);
            other.clear();
            return;
        }
        // References are relative to their own batch, and to renumber them means to parse.
        if other.shared.is_empty() {
            self.bytes.extend_from_slice(&other.bytes);
        } else {
            let base = self.shared.len() as u32;
            for item in other.items() {
                self.push_item(&item, base);
            }
            self.shared.append(&mut other.shared);
            self.shared_bytes += other.shared_bytes;
        }
        self.selected = other.selected;
        other.clear();
    }

    fn push_item(&mut self, item: &Item<'_>, shared_base: u32) {
        self.bytes.extend_from_slice(item.raw);
        if let Body::Foot(_) | Body::Key { value: Value::Shared(_) | Value::Stream { .. }, .. } = item.body {
            let reference = self.bytes.last_chunk_mut().expect("such an item ends with a reference");
            *reference = (u32::from_le_bytes(*reference) + shared_base).to_le_bytes();
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        write_bytes(bytes, &mut self.bytes);
    }

    fn push_u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
}

// ---- elements, as batches and the parts of large values hold them ----

/// Stands for a length that 32 bits do not hold; 64 that do come next.
const LONG: u32 = u32::MAX;

pub(crate) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    match u32::try_from(length) {
        Ok(length) if length < LONG => out.extend_from_slice(&length.to_le_bytes()),
        _ => {
            out.extend_from_slice(&LONG.to_le_bytes());
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
    }
}

pub(crate) fn write_node(node: crate::list::Node<'_>, out: &mut Vec<u8>) {
    match node {
        crate::list::Node::Packed(pack) => {
            out.push(PACKED_NODE);
            write_pack(pack, out);
        }
        crate::list::Node::Plain(bytes) => {
            out.push(PLAIN_NODE);
            write_bytes(bytes, out);
        }
    }
}

/// A listpack as the wire has it.
fn write_pack(pack: &Pack, out: &mut Vec<u8>) {
    let length = u32::try_from(pack.wire_len()).expect("a listpack is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    pack.push_wire(out);
}

pub(crate) fn write_field(field: &crate::hash::Field, with_expiry: bool, out: &mut Vec<u8>) {
    write_bytes(field.key(), out);
    match field.value() {
        ValueRef::Int(value) => write_bytes(structures::number::IntText::new().format(value), out),
        ValueRef::Bytes(bytes) => write_bytes(bytes, out),
        ValueRef::None => write_bytes(b"", out),
        ValueRef::Packed(..) => unreachable!("a field holds a string"),
        ValueRef::Payload(value) => write_bytes(value, out),
    }
    if with_expiry {
        out.extend_from_slice(&field.expire_at().unwrap_or(NO_EXPIRY).to_le_bytes());
    }
}

pub(crate) fn write_stream_node(node: &crate::stream::Node, out: &mut Vec<u8>) {
    out.extend_from_slice(&node.key().to_bytes());
    write_bytes(node.bytes(), out);
}

pub(crate) fn write_scored(member: &[u8], score: f64, out: &mut Vec<u8>) {
    write_bytes(member, out);
    out.extend_from_slice(&score.to_le_bytes());
}

/// One item of a batch and its own bytes.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    raw: &'a [u8],
    pub body: Body<'a>,
}

#[derive(Debug, Clone)]
pub enum Body<'a> {
    /// What the database held when the walk began; keys of it follow, here or in later batches.
    Sizes {
        db: u32,
        keys: u64,
        expires: u64,
    },
    Select {
        db: u32,
    },
    Key {
        key: &'a [u8],
        expire_at_ms: Option<i64>,
        clock: u32,
        value: Value<'a>,
    },
    /// A value begins whose elements come in parts, here and in later batches, with nothing in between.
    Begin {
        key: &'a [u8],
        expire_at_ms: Option<i64>,
        clock: u32,
        shape: Shape,
        /// Elements of all parts; nodes of a list or a stream.
        count: u64,
    },
    /// Some elements of the value that was begun last.
    Part(Value<'a>),
    /// The stream that was begun last is complete.
    Foot(&'a Foot),
}

/// What the elements of a value in parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    List,
    Set,
    Hash,
    /// No field's time runs out earlier.
    HashTtl {
        soonest_ms: i64,
    },
    ZSet,
    /// The nodes of a stream, and one item more for what follows them.
    Stream,
}

/// A value as it was copied.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Int(i64),
    Str(&'a [u8]),
    Shared(&'a [u8]),
    List(Elements<'a>),
    Intset(&'a [u8]),
    SetListpack(&'a [u8]),
    Set(Elements<'a>),
    HashListpack(&'a [u8]),
    Hash(Elements<'a>),
    /// Fields whose time has run out included.
    HashTtl(Elements<'a>),
    ZSetListpack(&'a [u8]),
    ZSet(Elements<'a>),
    Stream {
        nodes: Elements<'a>,
        foot: &'a Foot,
    },
    /// A part of a stream.
    StreamNodes(Elements<'a>),
}

/// The elements of a collection; read them with the method of their kind.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    pub count: usize,
    rest: Reader<'a>,
}

/// A node of a copied list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListNode<'a> {
    Packed(&'a [u8]),
    Plain(&'a [u8]),
}

impl<'a> Elements<'a> {
    pub fn nodes(&self) -> impl Iterator<Item = ListNode<'a>> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| match rest.u8() {
            PACKED_NODE => ListNode::Packed(rest.bytes()),
            _ => ListNode::Plain(rest.bytes()),
        })
    }

    /// Key and bytes of the nodes of a stream.
    pub fn stream_nodes(&self) -> impl Iterator<Item = (StreamId, &'a [u8])> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| (rest.id(), rest.bytes()))
    }

    pub fn members(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| rest.bytes())
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| (rest.bytes(), rest.bytes()))
    }

    /// Field, value, and the expiry of the field in milliseconds since the epoch.
    pub fn expiring_pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], Option<i64>)> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| {
            let (name, value) = (rest.bytes(), rest.bytes());
            let expire = i64::from_le_bytes(rest.array());
            (name, value, (expire != NO_EXPIRY).then_some(expire))
        })
    }

    pub fn scored(&self) -> impl Iterator<Item = (&'a [u8], f64)> {
        let mut rest = self.rest.clone();
        (0..self.count).map(move |_| (rest.bytes(), f64::from_le_bytes(rest.array())))
    }
}

/// Iterator over the items of a batch.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    batch: &'a Batch,
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let start = self.rest;
        if start.is_empty() {
            return None;
        }
        let mut reader = Reader { rest: start };
        let body = match reader.u8() {
            SIZES => Body::Sizes { db: reader.u32(), keys: reader.u64(), expires: reader.u64() },
            SELECT => Body::Select { db: reader.u32() },
            PART => {
                let tag = reader.u8();
                let count = reader.u32() as usize;
                let length = reader.u64() as usize;
                let elements = Elements { count, rest: Reader { rest: reader.take(length) } };
                Body::Part(elements_of(tag, elements))
            }
            FOOT => Body::Foot(self.foot(&mut reader)),
            item => self.key(item == BEGIN, &mut reader),
        };
        self.rest = reader.rest;
        Some(Item { raw: &start[..start.len() - reader.rest.len()], body })
    }
}

impl<'a> Items<'a> {
    fn key(&self, begins: bool, reader: &mut Reader<'a>) -> Body<'a> {
        let tag = reader.u8();
        let has_expiry = reader.u8() != 0;
        let clock = reader.u32();
        let expire_at_ms = has_expiry.then(|| i64::from_le_bytes(reader.array()));
        let key = reader.bytes();
        if begins {
            let count = reader.u64();
            let shape = match tag {
                LIST => Shape::List,
                SET => Shape::Set,
                HASH => Shape::Hash,
                HASH_TTL => Shape::HashTtl { soonest_ms: i64::from_le_bytes(reader.array()) },
                STREAM => Shape::Stream,
                _ => Shape::ZSet,
            };
            return Body::Begin { key, expire_at_ms, clock, shape, count };
        }
        let value = match tag {
            INT => Value::Int(i64::from_le_bytes(reader.array())),
            STR => Value::Str(reader.bytes()),
            SHARED => {
                let Shared::Text(text) = self.shared(reader) else { unreachable!("a string is a text") };
                Value::Shared(text)
            }
            INTSET => Value::Intset(reader.bytes()),
            SET_LISTPACK => Value::SetListpack(reader.bytes()),
            HASH_LISTPACK => Value::HashListpack(reader.bytes()),
            ZSET_LISTPACK => Value::ZSetListpack(reader.bytes()),
            STREAM => {
                let nodes = reader.elements(tag);
                Value::Stream { nodes, foot: self.foot(reader) }
            }
            tag => elements_of(tag, reader.elements(tag)),
        };
        Body::Key { key, expire_at_ms, clock, value }
    }

    fn shared(&self, reader: &mut Reader<'a>) -> &'a Shared {
        &self.batch.shared[reader.u32() as usize]
    }

    fn foot(&self, reader: &mut Reader<'a>) -> &'a Foot {
        let Shared::Foot(foot) = self.shared(reader) else { unreachable!("a stream ends with a foot") };
        foot
    }
}

/// Reads back what the batch wrote; the bytes never come from outside.
#[derive(Debug, Clone)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("take gives as many bytes as asked for")
    }

    fn id(&mut self) -> StreamId {
        StreamId::from_bytes(self.array())
    }

    fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.length();
        self.take(length)
    }

    fn length(&mut self) -> usize {
        match self.u32() {
            LONG => self.u64() as usize,
            length => length as usize,
        }
    }

    /// Elements of a value with this tag, their number first.
    fn elements(&mut self, tag: u8) -> Elements<'a> {
        let count = self.u32() as usize;
        let rest = self.clone();
        for _ in 0..count {
            match tag {
                LIST => drop(self.u8()),
                STREAM => drop(self.id()),
                _ => {}
            }
            self.bytes();
            match tag {
                HASH => drop(self.bytes()),
                HASH_TTL => {
                    self.bytes();
                    self.u64();
                }
                ZSET => drop(self.u64()),
                _ => {}
            }
        }
        Elements { count, rest }
    }
}

fn elements_of(tag: u8, elements: Elements<'_>) -> Value<'_> {
    match tag {
        LIST => Value::List(elements),
        SET => Value::Set(elements),
        HASH => Value::Hash(elements),
        HASH_TTL => Value::HashTtl(elements),
        ZSET => Value::ZSet(elements),
        STREAM => Value::StreamNodes(elements),
        other => unreachable!("a batch holds only what was pushed, not tag {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EncodingLimits;

    fn value_of(batch: &Batch) -> Value<'_> {
        match batch.items().next().expect("one entry was pushed").body {
            Body::Key { value, .. } => value,
            other => panic!("a key was pushed, not {other:?}"),
        }
    }

    #[test]
    fn a_length_beyond_32_bits_takes_64() {
        let length = (1 << 32) + 7;
        let mut out = Vec::new();
        write_length(length, &mut out);
        assert_eq!(Reader { rest: &out }.length(), length);
    }

    #[test]
    fn a_hash_is_copied_with_the_expiries_of_its_fields_if_there_are_any() {
        let limits = EncodingLimits::default();
        let mut hash = Hash::with_capacity(1000, &limits);
        hash.load_field(b"for ever", b"123456789", None, &limits);
        let mut batch = Batch::default();
        batch.push_entry(&Entry::new_payload(b"h", crate::Object::Hash(hash.duplicate()), None));
        let Value::Hash(pairs) = value_of(&batch) else { panic!("no field has an expiry") };
        assert_eq!(pairs.pairs().collect::<Vec<_>>(), [(&b"for ever"[..], &b"123456789"[..])]);

        hash.load_field(b"expiring", b"", Some(5), &limits);
        batch.clear();
        batch.push_entry(&Entry::new_payload(b"h", crate::Object::Hash(hash), None));
        batch.push_entry(&Entry::new_int(b"next", 1, None));
        let Value::HashTtl(pairs) = value_of(&batch) else { panic!("a field has an expiry") };
        let mut fields: Vec<_> = pairs.expiring_pairs().collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [(&b"expiring"[..], &b""[..], Some(5)), (&b"for ever"[..], &b"123456789"[..], None)]
        );
        assert!(matches!(batch.items().nth(1).unwrap().body, Body::Key { value: Value::Int(1), .. }));
    }
}
