//! Values to bytes, in the form that the receiver understands.
//!
//! All functions append to the caller's buffer, which may be taken away between any two calls: the encoder
//! keeps nothing of what it wrote, so a collection of any size is encoded in slices, and [`Crc64`] sums up the
//! chunks as they leave. A file is
//!
//! ```text
//! header (aux | select_db resize_db | function | [key_attributes] value)* eof
//! ```
//!
//! where a value is one call for what is held in one piece (`string`, `set_intset`, `hash_listpack`, …), or a
//! `…_begin` with its count followed by exactly so many `element`, `scored`, `field`, … calls. What is held as
//! a listpack is given as that listpack for every target; older ones get it taken apart.
//!
//! Each value takes the key it stands under, or `None` for a DUMP payload, which has no key.

use crate::crc::Crc64;
use crate::decode::{StrRef, StreamHistory};
use crate::length::{LENGTH_MAX, LZF, canonical_i32, push_decimal, push_int, push_length};
use crate::listpack::{self, BrokenListpack, Entry};
use crate::lzf::Compressor;
use crate::opcode::{ValueType, op};
use crate::stream::{self, EntryId, Parts};
use crate::version::{Dialect, Target};
use crate::ziplist;
use std::fmt;

/// Strings up to this length are never compressed.
const COMPRESS_ABOVE: usize = 20;
/// What compression must save at least.
const COMPRESS_SAVES: usize = 4;
/// The longest decimal form that can fit 32 bits.
const DECIMAL_32_MAX: usize = 11;

/// Why a value cannot be written. Nothing of it has been appended, except by the calls for the parts of a
/// collection, whose earlier parts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The target has no form for hash fields with a TTL.
    NoFieldTtl(Target),
    /// The target has no function libraries.
    NoFunctions(Target),
    /// The target needs a ziplist, and it would be longer than its 32-bit lengths can say.
    ZiplistTooLong,
    /// A listpack that was given is not well formed.
    BrokenListpack,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::NoFieldTtl(target) => {
                write!(f, "RDB version {} cannot hold hash fields with a TTL", target.number())
            }
            EncodeError::NoFunctions(target) => {
                write!(f, "RDB version {} cannot hold functions", target.number())
            }
            EncodeError::ZiplistTooLong => f.write_str("value too long for a ziplist"),
            EncodeError::BrokenListpack => f.write_str("listpack is not well formed"),
        }
    }
}

impl std::error::Error for EncodeError {}

impl From<BrokenListpack> for EncodeError {
    fn from(_: BrokenListpack) -> EncodeError {
        EncodeError::BrokenListpack
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Compress strings where it saves bytes (`rdbcompression`).
    pub compress: bool,
}

impl Default for EncoderOptions {
    fn default() -> EncoderOptions {
        EncoderOptions { compress: true }
    }
}

/// A piece of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'b> {
    /// One element.
    Plain(&'b [u8]),
    /// A listpack of elements.
    Packed(&'b [u8]),
}

/// Writes records for one kind of receiver. Holds working memory that is used again for every string.
pub struct Encoder {
    target: Target,
    options: EncoderOptions,
    compressor: Compressor,
    ziplist: ziplist::Builder,
    /// Decimal forms of integers out of listpacks, and compressed strings before their length is known.
    scratch: Vec<u8>,
}

impl Encoder {
    pub fn new(target: Target, options: EncoderOptions) -> Encoder {
        Encoder {
            target,
            options,
            compressor: Compressor::new(),
            ziplist: ziplist::Builder::new(),
            scratch: Vec::new(),
        }
    }

    pub fn target(&self) -> Target {
        self.target
    }

    // Records of the file.

    pub fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.target.header());
    }

    pub fn aux(&mut self, out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        out.push(op::AUX);
        self.raw_string(out, key);
        self.raw_string(out, value);
    }

    pub fn select_db(&self, out: &mut Vec<u8>, db: u32) {
        out.push(op::SELECTDB);
        push_length(out, u64::from(db));
    }

    /// A hint for the receiver: keys, and keys with a TTL, in the selected database.
    pub fn resize_db(&self, out: &mut Vec<u8>, keys: u64, expires: u64) {
        out.push(op::RESIZEDB);
        push_length(out, keys);
        push_length(out, expires);
    }

    /// A function library's source.
    pub fn function(&mut self, out: &mut Vec<u8>, code: &[u8]) -> Result<(), EncodeError> {
        if !self.target.has_functions() {
            return Err(EncodeError::NoFunctions(self.target));
        }
        out.push(op::FUNCTION2);
        self.raw_string(out, code);
        Ok(())
    }

    /// What is known of the key that follows.
    pub fn key_attributes(
        &self,
        out: &mut Vec<u8>,
        expire_at_ms: Option<i64>,
        idle_s: Option<u64>,
        freq: Option<u8>,
    ) {
        if let Some(at) = expire_at_ms {
            out.push(op::EXPIRETIME_MS);
            out.extend_from_slice(&at.to_le_bytes());
        }
        if let Some(idle) = idle_s {
            out.push(op::IDLE);
            push_length(out, idle);
        }
        if let Some(freq) = freq {
            out.extend_from_slice(&[op::FREQ, freq]);
        }
    }

    /// Ends the file. `crc` has summed up every chunk that left before, while `out` holds only what it has not
    /// seen; `None` says that no checksum was wanted.
    pub fn eof(&self, out: &mut Vec<u8>, crc: Option<Crc64>) {
        out.push(op::EOF);
        let sum = crc.map_or(0, |mut crc| {
            crc.update(out);
            crc.value()
        });
        out.extend_from_slice(&sum.to_le_bytes());
    }

    // Values.

    /// Tag 0.
    #[inline]
    pub fn string(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, value: StrRef<'_>) {
        self.start(out, ValueType::String, key);
        match value {
            StrRef::Bytes(bytes) => self.raw_string(out, bytes),
            StrRef::Int(int) => self.integer(out, int),
        }
    }

    /// Tag 18, or 14 before version 10: then `nodes` calls of [`Encoder::list_node`].
    pub fn list_begin(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, nodes: u64) {
        let value_type =
            if self.target.has_listpacks() { ValueType::ListQuicklist2 } else { ValueType::ListQuicklist };
        self.start(out, value_type, key);
        push_length(out, nodes);
    }

    pub fn list_node(&mut self, out: &mut Vec<u8>, node: Node<'_>) -> Result<(), EncodeError> {
        match node {
            Node::Plain(element) if self.target.has_listpacks() => {
                push_length(out, 1);
                self.raw_string(out, element);
                Ok(())
            }
            Node::Packed(listpack) if self.target.has_listpacks() => {
                push_length(out, 2);
                self.raw_string(out, listpack);
                Ok(())
            }
            Node::Plain(element) => {
                self.ziplist.start();
                self.ziplist.push(Entry::Str(element));
                self.push_ziplist(out)
            }
            Node::Packed(listpack) => {
                self.build_ziplist(listpack)?;
                self.push_ziplist(out)
            }
        }
    }

    /// Tag 11.
    pub fn set_intset(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, intset: &[u8]) {
        self.start(out, ValueType::SetIntset, key);
        self.raw_string(out, intset);
    }

    /// Tag 20, or 2 before version 11.
    pub fn set_listpack(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        listpack: &[u8],
    ) -> Result<(), EncodeError> {
        if self.target.has_set_listpack() {
            self.start(out, ValueType::SetListpack, key);
            self.raw_string(out, listpack);
            return Ok(());
        }
        let count = listpack::count(listpack)?;
        self.set_begin(out, key, count);
        for entry in listpack::entries(listpack) {
            self.entry(out, entry?);
        }
        Ok(())
    }

    /// Tag 2: then `count` calls of [`Encoder::element`].
    pub fn set_begin(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, count: u64) {
        self.start(out, ValueType::Set, key);
        push_length(out, count);
    }

    #[inline]
    pub fn element(&mut self, out: &mut Vec<u8>, element: &[u8]) {
        self.raw_string(out, element);
    }

    /// Tag 17, or 12 before version 10. Entries: member, score, …, by score.
    pub fn zset_listpack(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        listpack: &[u8],
    ) -> Result<(), EncodeError> {
        self.listpack_or_ziplist(out, key, ValueType::ZsetListpack, ValueType::ZsetZiplist, listpack)
    }

    /// Tag 5: then `count` calls of [`Encoder::scored`], the highest score first, as Redis writes them.
    pub fn zset_begin(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, count: u64) {
        self.start(out, ValueType::Zset2, key);
        push_length(out, count);
    }

    #[inline]
    pub fn scored(&mut self, out: &mut Vec<u8>, member: &[u8], score: f64) {
        self.raw_string(out, member);
        out.extend_from_slice(&score.to_le_bytes());
    }

    /// Tag 16, or 13 before version 10. Entries: field, value, ….
    pub fn hash_listpack(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        listpack: &[u8],
    ) -> Result<(), EncodeError> {
        self.listpack_or_ziplist(out, key, ValueType::HashListpack, ValueType::HashZiplist, listpack)
    }

    /// Tag 4: then `count` calls of [`Encoder::field`].
    pub fn hash_begin(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, count: u64) {
        self.start(out, ValueType::Hash, key);
        push_length(out, count);
    }

    #[inline]
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        self.raw_string(out, name);
        self.raw_string(out, value);
    }

    /// Tag 25 of Redis, 22 of Valkey. Entries: field, value, expiry or 0, …, by expiry, those without last.
    /// Where no field has an expiry left it is a plain hash, tag 4, which every target can hold.
    pub fn hash_ttl_listpack(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        listpack: &[u8],
    ) -> Result<(), EncodeError> {
        let mut count = 0;
        let mut least_ms: Option<i64> = None;
        for triple in triples(listpack) {
            let (_, _, expire_at_ms) = triple?;
            least_ms = least_ms.into_iter().chain(expire_at_ms).min();
            count += 1;
        }
        let Some(least_ms) = least_ms else {
            self.hash_begin(out, key, count);
            return triples(listpack).try_for_each(|triple| {
                let (name, value, _) = triple?;
                self.entry(out, name);
                self.entry(out, value);
                Ok(())
            });
        };
        if !self.target.has_field_ttl() {
            return Err(EncodeError::NoFieldTtl(self.target));
        }
        match self.target.dialect() {
            Dialect::Redis => {
                self.start(out, ValueType::HashListpackEx, key);
                out.extend_from_slice(&least_ms.to_le_bytes());
                self.raw_string(out, listpack);
            }
            Dialect::Valkey => {
                self.start(out, ValueType::ValkeyHash2, key);
                push_length(out, count);
                for triple in triples(listpack) {
                    let (name, value, expire_at_ms) = triple?;
                    self.entry(out, name);
                    self.entry(out, value);
                    push_valkey_expiry(out, expire_at_ms);
                }
            }
        }
        Ok(())
    }

    /// Tag 24 of Redis, 22 of Valkey: then `count` fields through the writer that this gives. `least_ms` is the
    /// earliest expiry of all its fields.
    pub fn hash_ttl_begin(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        count: u64,
        least_ms: i64,
    ) -> Result<TtlFields, EncodeError> {
        if !self.target.has_field_ttl() {
            return Err(EncodeError::NoFieldTtl(self.target));
        }
        match self.target.dialect() {
            Dialect::Redis => {
                self.start(out, ValueType::HashMetadata, key);
                out.extend_from_slice(&least_ms.to_le_bytes());
            }
            Dialect::Valkey => self.start(out, ValueType::ValkeyHash2, key),
        }
        push_length(out, count);
        Ok(TtlFields { least_ms })
    }

    /// Tag 21, 19 before version 11, 15 before 10: then `nodes` calls of [`Encoder::stream_node`], one of
    /// [`Encoder::stream_counters`], and group by group what follows there.
    pub fn stream_begin(&mut self, out: &mut Vec<u8>, key: Option<&[u8]>, nodes: u64) {
        self.start(out, ValueType::stream_of(self.target), key);
        push_length(out, nodes);
    }

    pub fn stream_node(&mut self, out: &mut Vec<u8>, id: EntryId, listpack: &[u8]) {
        self.raw_string(out, &stream::raw(id));
        self.raw_string(out, listpack);
    }

    /// Then `groups` times [`Encoder::group`]. Before version 10 the history is left out.
    pub fn stream_counters(
        &mut self,
        out: &mut Vec<u8>,
        length: u64,
        last_id: EntryId,
        history: &StreamHistory,
        groups: u64,
    ) {
        push_length(out, length);
        push_id(out, last_id);
        if self.stream_parts().history {
            push_id(out, history.first_id);
            push_id(out, history.max_deleted_id);
            push_length(out, history.entries_added);
        }
        push_length(out, groups);
    }

    /// Then `pending` times [`Encoder::pending`], and [`Encoder::consumers`]. `entries_read` is -1 if it is not known.
    pub fn group(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        last_id: EntryId,
        entries_read: i64,
        pending: u64,
    ) {
        self.raw_string(out, name);
        push_id(out, last_id);
        if self.stream_parts().history {
            push_length(out, entries_read as u64);
        }
        push_length(out, pending);
    }

    pub fn pending(&mut self, out: &mut Vec<u8>, id: EntryId, delivered_ms: i64, deliveries: u64) {
        out.extend_from_slice(&stream::raw(id));
        out.extend_from_slice(&delivered_ms.to_le_bytes());
        push_length(out, deliveries);
    }

    /// Then `consumers` times [`Encoder::consumer`].
    pub fn consumers(&mut self, out: &mut Vec<u8>, consumers: u64) {
        push_length(out, consumers);
    }

    /// Then `owned` times [`Encoder::owned`]. Before version 11 the active time is left out.
    pub fn consumer(&mut self, out: &mut Vec<u8>, name: &[u8], seen_ms: i64, active_ms: i64, owned: u64) {
        self.raw_string(out, name);
        out.extend_from_slice(&seen_ms.to_le_bytes());
        if self.stream_parts().active_time {
            out.extend_from_slice(&active_ms.to_le_bytes());
        }
        push_length(out, owned);
    }

    pub fn owned(&mut self, out: &mut Vec<u8>, id: EntryId) {
        out.extend_from_slice(&stream::raw(id));
    }

    fn stream_parts(&self) -> Parts {
        Parts::of(ValueType::stream_of(self.target))
    }

    // Their parts.

    #[inline]
    fn start(&mut self, out: &mut Vec<u8>, value_type: ValueType, key: Option<&[u8]>) {
        out.push(value_type.tag());
        if let Some(key) = key {
            self.raw_string(out, key);
        }
    }

    /// A string in its shortest form: packed integer, compressed, or as it is.
    #[inline]
    fn raw_string(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        if bytes.len() <= DECIMAL_32_MAX
            && let Some(int) = canonical_i32(bytes)
        {
            return push_int(out, int);
        }
        if self.options.compress && bytes.len() > COMPRESS_ABOVE && self.compressed(out, bytes) {
            return;
        }
        push_length(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    fn integer(&mut self, out: &mut Vec<u8>, int: i64) {
        match i32::try_from(int) {
            Ok(int) => push_int(out, int),
            Err(_) => {
                self.scratch.clear();
                push_decimal(&mut self.scratch, int);
                push_length(out, self.scratch.len() as u64);
                out.extend_from_slice(&self.scratch);
            }
        }
    }

    fn compressed(&mut self, out: &mut Vec<u8>, bytes: &[u8]) -> bool {
        // Lengths of one to nine bytes stand before the data, so it is made apart.
        let mut packed = std::mem::take(&mut self.scratch);
        packed.clear();
        let smaller = self.compressor.compress(bytes, bytes.len() - COMPRESS_SAVES, &mut packed);
        if smaller {
            out.reserve(1 + 2 * LENGTH_MAX + packed.len());
            out.push(LZF);
            push_length(out, packed.len() as u64);
            push_length(out, bytes.len() as u64);
            out.extend_from_slice(&packed);
        }
        self.scratch = packed;
        smaller
    }

    fn entry(&mut self, out: &mut Vec<u8>, entry: Entry<'_>) {
        match entry {
            Entry::Str(string) => self.raw_string(out, string),
            Entry::Int(int) => self.integer(out, int),
        }
    }

    fn listpack_or_ziplist(
        &mut self,
        out: &mut Vec<u8>,
        key: Option<&[u8]>,
        new: ValueType,
        old: ValueType,
        listpack: &[u8],
    ) -> Result<(), EncodeError> {
        if self.target.has_listpacks() {
            self.start(out, new, key);
            self.raw_string(out, listpack);
            return Ok(());
        }
        self.build_ziplist(listpack)?;
        let undo = out.len();
        self.start(out, old, key);
        self.push_ziplist(out).inspect_err(|_| out.truncate(undo))
    }

    fn build_ziplist(&mut self, listpack: &[u8]) -> Result<(), EncodeError> {
        self.ziplist.start();
        for entry in listpack::entries(listpack) {
            self.ziplist.push(entry?);
        }
        Ok(())
    }

    fn push_ziplist(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut builder = std::mem::take(&mut self.ziplist);
        let pushed = match builder.finish() {
            Some(ziplist) => {
                self.raw_string(out, ziplist);
                Ok(())
            }
            None => Err(EncodeError::ZiplistTooLong),
        };
        self.ziplist = builder;
        pushed
    }
}

/// Writes the fields of the hash that [`Encoder::hash_ttl_begin`] began.
#[derive(Clone, Copy, Debug)]
pub struct TtlFields {
    least_ms: i64,
}

impl TtlFields {
    pub fn field(
        self,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
    ) {
        match encoder.target.dialect() {
            Dialect::Redis => {
                let after_least = expire_at_ms.map(|at| {
                    u64::try_from(at - self.least_ms).expect("no field expires before the least expiry") + 1
                });
                push_length(out, after_least.unwrap_or(0));
                encoder.field(out, name, value);
            }
            Dialect::Valkey => {
                encoder.field(out, name, value);
                push_valkey_expiry(out, expire_at_ms);
            }
        }
    }
}

fn push_valkey_expiry(out: &mut Vec<u8>, expire_at_ms: Option<i64>) {
    out.extend_from_slice(&expire_at_ms.unwrap_or(-1).to_le_bytes());
}

type Triple<'b> = (Entry<'b>, Entry<'b>, Option<i64>);

/// The fields of a listpack with expiries.
fn triples(listpack: &[u8]) -> impl Iterator<Item = Result<Triple<'_>, BrokenListpack>> {
    let mut entries = listpack::entries(listpack);
    std::iter::from_fn(move || {
        let name = entries.next()?;
        let rest = (entries.next(), entries.next());
        Some(name.and_then(|name| match rest {
            (Some(Ok(value)), Some(Ok(Entry::Int(0)))) => Ok((name, value, None)),
            (Some(Ok(value)), Some(Ok(Entry::Int(at)))) => Ok((name, value, Some(at))),
            _ => Err(BrokenListpack),
        }))
    })
}

fn push_id(out: &mut Vec<u8>, id: EntryId) {
    push_length(out, id.0);
    push_length(out, id.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_listpack_without_ttls_is_a_plain_hash_for_every_target() {
        let listpack = listpack::build(&[Entry::Str(b"f"), Entry::Int(1), Entry::Int(0)]);
        for target in Target::ALL {
            let mut out = Vec::new();
            let encoded =
                Encoder::new(target, EncoderOptions::default()).hash_ttl_listpack(&mut out, None, &listpack);
            assert_eq!(encoded, Ok(()));
            assert_eq!(out, b"\x04\x01\x01f\xc0\x01");
        }
    }

    #[test]
    fn a_broken_listpack_leaves_nothing_behind() {
        let good = listpack::build(&[Entry::Str(b"f"), Entry::Int(1), Entry::Int(5)]);
        let broken = &good[..good.len() - 1];
        for target in Target::ALL {
            let mut encoder = Encoder::new(target, EncoderOptions::default());
            let mut out = Vec::new();
            let check = |encoded, when| {
                if when {
                    assert_eq!(encoded, Err(EncodeError::BrokenListpack), "{target:?}");
                }
            };
            // Only who takes it apart can see that it is broken.
            check(encoder.set_listpack(&mut out, None, broken), !target.has_set_listpack());
            check(encoder.zset_listpack(&mut out, None, broken), !target.has_listpacks());
            check(encoder.hash_listpack(&mut out, None, broken), !target.has_listpacks());
            check(encoder.hash_ttl_listpack(&mut out, None, broken), true);
            if !target.has_listpacks() {
                assert!(out.is_empty(), "{target:?}");
            }
        }
    }

    #[test]
    fn strings_take_their_shortest_form() {
        let encode = |compress, bytes: &[u8]| {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(Target::V9, EncoderOptions { compress });
            encoder.string(&mut out, None, StrRef::Bytes(bytes));
            out.split_off(1)
        };
        assert_eq!(encode(true, b"-128"), b"\xc0\x80");
        assert_eq!(encode(true, b"128"), b"\xc1\x80\x00");
        assert_eq!(encode(true, b"-2147483648"), b"\xc2\x00\x00\x00\x80");
        assert_eq!(encode(true, b"2147483648"), b"\x0a2147483648");
        assert_eq!(encode(true, b"007"), b"\x03007");
        assert_eq!(encode(true, &[b'a'; 300])[..4], [0xc3, 8, 0x41, 0x2c]);
        assert_eq!(encode(false, &[b'a'; 300])[..2], [0x41, 0x2c]);
        assert_eq!(encode(true, &[b'a'; 20])[0], 20);
        assert_eq!(encode(true, &[b'a'; 21])[0], 0xc3);
    }
}
