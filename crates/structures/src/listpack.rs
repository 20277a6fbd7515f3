//! Listpack: a list of small strings and integers in one block of bytes.
//!
//! Small hashes, sorted sets, sets, list nodes and stream nodes are listpacks in memory, and the same bytes go into RDB
//! files and onto the wire, so the layout here is byte for byte that of Redis. The format is specified at
//! <https://github.com/antirez/listpack/blob/master/listpack.md>.
//!
//! ```text
//! listpack  total bytes: u32 LE | entries: u16 LE, 65535 = unknown, count them | entry … | 0xFF
//! entry     encoding and data | backlen: size of encoding and data, 1 to 5 bytes, read backwards
//!
//! encoding  0xxxxxxx                            integer 0..=127
//!           10xxxxxx data                       string of up to 63 bytes
//!           110xxxxx xxxxxxxx                   13-bit signed integer, high bits first
//!           1110xxxx xxxxxxxx data              string of up to 4095 bytes, high bits first
//!           0xF0 u32 LE data                    longer string
//!           0xF1 / F2 / F3 / F4                 16 / 24 / 32 / 64-bit signed integer, LE
//! backlen   7 bits a byte, high bits first; every byte but the first has bit 7 set
//! ```
//!
//! A string that is the canonical text of an `i64` is stored as that integer.
//!
//! In memory the total and the end mark are left out, since who holds the bytes knows how many there are: five bytes
//! of a small collection. [`Pack`] is such bytes wherever they lie, as `str` is text; a [`Listpack`] owns them, in a
//! [`Blob`] that is 16 bytes in a value or list node and grows by the exact amount. Who appends several values at once
//! uses [`Listpack::append_many`], which grows once. Growing within a large block is the global allocator's doing:
//! appending a 32-byte value to a list node of up to 8 KiB took 34 ns with glibc, 53 ns with jemalloc and 160 ns with
//! mimalloc, which moves the block where the others extend it.
//!
//! Bytes from outside enter through [`Listpack::from_vec_validated`] only. Everything else relies on well-formed
//! entries and panics, rather than reads on, when it meets one that is not: after a shallow validation a corrupt
//! payload can stop the server, never make it read out of bounds.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;

mod growing;

pub use growing::{Appender, GrowingListpack};

use crate::blob::Blob;
use crate::number::{i64_len, parse_i64, push_i64};

/// A listpack grows no further than this many bytes; callers ask [`Listpack::would_exceed`] and convert the value.
pub const SAFETY_LIMIT: usize = 1 << 30;

/// In memory: the count alone.
const HEADER: usize = 2;
/// What the wire form has more: the total before the count, and the end mark.
const TOTAL: usize = 4;
const WIRE_HEADER: usize = TOTAL + HEADER;
const WIRE_MORE: usize = TOTAL + 1;
const COUNT_UNKNOWN: u16 = u16::MAX;
const END: u8 = 0xFF;

/// Longest encoding byte with its length or integer bytes.
const HEAD_MAX: usize = 9;

/// What a broken listpack would break; see the module's story on validation.
const WELL_FORMED: &str = "a listpack's entries are well formed";

/// A list of strings and integers, as bytes that somebody holds: the wire form without total and end mark.
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct Pack {
    bytes: [u8],
}

/// A [`Pack`] that can be changed, in one exact allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    bytes: Blob,
}

/// Where an entry starts. It stays valid until the listpack changes; after a change only the position that the
/// changing call returned is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

/// An entry as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Int(i64),
    Str(&'a [u8]),
}

/// An entry taken out of its listpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedEntry {
    Int(i64),
    Str(Box<[u8]>),
}

/// Why bytes are not a listpack. The payload that carried them must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than header and end mark.
    Truncated,
    /// The header's total is not the number of bytes.
    Size,
    /// The last byte is not the end mark, or an end mark comes earlier.
    End,
    /// An unknown encoding, an entry that reaches past the end, or a backlen that contradicts its entry.
    Entry,
    /// The header's count is not the number of entries.
    Count,
}

/// Entries from a position towards the end.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Entries from before a position towards the start.
#[derive(Clone, Debug)]
pub struct RevIter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Pack {
    /// The pack that these bytes are: those of another pack, [`Pack::as_bytes`].
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> &Pack {
        // SAFETY: a pack is a slice of bytes and nothing else (`repr(transparent)`).
        unsafe { &*(std::ptr::from_ref(bytes) as *const Pack) }
    }

    /// The bytes in memory, which are not those of the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The size of what [`Pack::push_wire`] appends.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.bytes.len() + WIRE_MORE
    }

    /// Appends the whole listpack as RDB files and the wire carry it.
    pub fn push_wire(&self, out: &mut Vec<u8>) {
        out.reserve(self.wire_len());
        out.extend_from_slice(&(self.wire_len() as u32).to_le_bytes());
        out.extend_from_slice(&self.bytes);
        out.push(END);
    }

    /// The whole listpack as RDB files and the wire carry it.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.push_wire(&mut out);
        out
    }

    /// Number of entries: O(1) up to 65,534 entries, else a walk.
    #[inline]
    pub fn len(&self) -> usize {
        match self.header_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Whether `extra` bytes more would pass [`SAFETY_LIMIT`].
    #[inline]
    pub fn would_exceed(&self, extra: usize) -> bool {
        self.wire_len().saturating_add(extra) > SAFETY_LIMIT
    }

    #[inline]
    pub fn first(&self) -> Option<Pos> {
        self.pos_at(HEADER)
    }

    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.prev(self.end_pos())
    }

    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.pos_at(self.after(pos))
    }

    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        (pos.at() > HEADER).then(|| Pos(before(&self.bytes, pos.at()) as u32))
    }

    /// The entry at a position.
    #[inline]
    pub fn at(&self, pos: Pos) -> Entry<'_> {
        decode(&self.bytes[pos.at()..])
    }

    /// The position of an entry by index; negative indexes count from the end, -1 being the last entry.
    pub fn seek(&self, index: i64) -> Option<Pos> {
        let (mut forward, mut steps) =
            if index < 0 { (false, index.unsigned_abs() - 1) } else { (true, index as u64) };
        let count = self.header_count();
        if count != COUNT_UNKNOWN {
            let count = u64::from(count);
            if steps >= count {
                return None;
            }
            if steps > count / 2 {
                forward = !forward;
                steps = count - 1 - steps;
            }
        }
        let mut pos = if forward { self.first()? } else { self.last()? };
        for _ in 0..steps {
            pos = if forward { self.next(pos)? } else { self.prev(pos)? };
        }
        Some(pos)
    }

    /// The first entry equal to `value` at `start` or later, looking at one entry and leaving out the next `skip`:
    /// with `skip` 1 and `start` at the first field, it looks at a hash's fields only.
    pub fn find(&self, start: Pos, value: &[u8], skip: usize) -> Option<Pos> {
        let bytes = &self.bytes;
        let mut wanted = Wanted::new(value);
        let mut at = start.at();
        while at < bytes.len() {
            let entry = &bytes[at..];
            if wanted.is(decode(entry)) {
                return Some(Pos(at as u32));
            }
            at += stored_len(entry);
            for _ in 0..skip {
                if at >= bytes.len() {
                    return None;
                }
                at += stored_len(&bytes[at..]);
            }
        }
        None
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: &self.bytes, at: HEADER }
    }

    /// Entries from `pos` on, `pos` included.
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter { bytes: &self.bytes, at: pos.at() }
    }

    /// No entries.
    pub fn iter_at_end(&self) -> Iter<'_> {
        Iter { bytes: &self.bytes, at: self.bytes.len() }
    }

    /// A copy of its own.
    pub fn to_listpack(&self) -> Listpack {
        Listpack { bytes: Blob::from(&self.bytes) }
    }

    /// Entries from the last to the first.
    pub fn iter_rev(&self) -> RevIter<'_> {
        RevIter { bytes: &self.bytes, at: self.bytes.len() }
    }

    /// Entries from `pos` towards the start, `pos` included.
    pub fn iter_rev_from(&self, pos: Pos) -> RevIter<'_> {
        RevIter { bytes: &self.bytes, at: self.after(pos) }
    }

    /// Bytes that the entry at `pos` takes.
    #[inline]
    pub fn entry_bytes_at(&self, pos: Pos) -> usize {
        stored_len(&self.bytes[pos.at()..])
    }

    /// The index of the first entry equal to `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        let mut wanted = Wanted::new(value);
        self.iter().position(|entry| wanted.is(entry))
    }

    /// How many entries equal `value`.
    pub fn count_equal(&self, value: &[u8]) -> usize {
        let mut wanted = Wanted::new(value);
        self.iter().filter(|&entry| wanted.is(entry)).count()
    }

    fn header_count(&self) -> u16 {
        u16::from_le_bytes([self.bytes[0], self.bytes[1]])
    }

    fn end_pos(&self) -> Pos {
        Pos(self.bytes.len() as u32)
    }

    #[inline]
    fn pos_at(&self, at: usize) -> Option<Pos> {
        (at < self.bytes.len()).then_some(Pos(at as u32))
    }

    #[inline]
    fn after(&self, pos: Pos) -> usize {
        pos.at() + stored_len(&self.bytes[pos.at()..])
    }
}

impl Listpack {
    pub fn new() -> Listpack {
        Listpack { bytes: Blob::from(&[0; HEADER][..]) }
    }

    /// Takes bytes from outside. `deep` checks every entry and the count; otherwise only header, end mark and the
    /// first entry are checked, and later calls panic on what is corrupt.
    pub fn from_wire(bytes: &[u8], deep: bool) -> Result<Listpack, Malformed> {
        validate(bytes, deep)?;
        Ok(Listpack { bytes: Blob::from(&bytes[TOTAL..bytes.len() - 1]) })
    }

    /// [`Listpack::from_wire`] for bytes in a buffer of their own.
    pub fn from_vec_validated(bytes: Vec<u8>, deep: bool) -> Result<Listpack, Malformed> {
        Listpack::from_wire(&bytes, deep)
    }

    /// The listpack whose [`Listpack::into_blob`] this is.
    pub fn from_blob(bytes: Blob) -> Listpack {
        Listpack { bytes }
    }

    /// The bytes in memory.
    pub fn into_blob(self) -> Blob {
        self.bytes
    }

    /// The memory that it takes: also what lies unused in front of it, see [`Blob::block_bytes`].
    pub fn block_bytes(&self) -> usize {
        self.bytes.block_bytes()
    }

    #[inline]
    pub fn push_back(&mut self, value: &[u8]) {
        self.splice(self.bytes.len(), 0, 0, &Encoded::text(value));
    }

    #[inline]
    pub fn push_back_i64(&mut self, value: i64) {
        self.splice(self.bytes.len(), 0, 0, &Encoded::int(value));
    }

    /// Moves little of a long listpack: see [`Blob::resize_gap_in_front`].
    #[inline]
    pub fn push_front(&mut self, value: &[u8]) {
        let encoded = Encoded::text(value);
        let len = encoded.stored_len();
        self.bytes.resize_gap_in_front(HEADER, 0, len);
        encoded.write(&mut self.bytes[HEADER..HEADER + len]);
        self.update_header(0, 1);
    }

    /// Deletes the first entry, if there is one. As [`Listpack::push_front`].
    #[inline]
    pub fn delete_first(&mut self) {
        if !self.is_empty() {
            self.bytes.resize_gap_in_front(HEADER, stored_len(&self.bytes[HEADER..]), 0);
            self.update_header(1, 0);
        }
    }

    /// Deletes the last entry, if there is one.
    #[inline]
    pub fn delete_last(&mut self) {
        if let Some(pos) = self.last() {
            self.bytes.resize_gap(pos.at(), self.bytes.len() - pos.at(), 0);
            self.update_header(1, 0);
        }
    }

    /// Gives back what pushing and deleting in front has left unused.
    #[inline]
    pub fn trim_room(&mut self) {
        self.bytes.trim_room();
    }

    /// Appends all values, growing once.
    pub fn append_many<'v, I>(&mut self, values: I)
    where
        I: IntoIterator<Item = &'v [u8]>,
        I::IntoIter: Clone,
    {
        let values = values.into_iter();
        let added = values.clone().map(entry_bytes).sum();
        let mut at = self.bytes.len();
        let mut count = 0;
        self.resize_gap(at, 0, added);
        for value in values {
            let encoded = Encoded::text(value);
            encoded.write(&mut self.bytes[at..at + encoded.stored_len()]);
            at += encoded.stored_len();
            count += 1;
        }
        self.update_header(0, count);
    }

    /// Inserts before the entry at `pos` and returns where the new entry is.
    pub fn insert_before(&mut self, pos: Pos, value: &[u8]) -> Pos {
        self.splice(pos.at(), 0, 0, &Encoded::text(value));
        pos
    }

    /// Inserts after the entry at `pos` and returns where the new entry is.
    pub fn insert_after(&mut self, pos: Pos, value: &[u8]) -> Pos {
        let at = self.after(pos);
        self.splice(at, 0, 0, &Encoded::text(value));
        Pos(at as u32)
    }

    /// Replaces the entry at `pos`; the new entry is there too.
    pub fn replace(&mut self, pos: Pos, value: &[u8]) {
        let replaced = stored_len(&self.bytes[pos.at()..]);
        self.splice(pos.at(), replaced, 1, &Encoded::text(value));
    }

    /// As [`Listpack::replace`], with an integer.
    pub fn replace_i64(&mut self, pos: Pos, value: i64) {
        let replaced = stored_len(&self.bytes[pos.at()..]);
        self.splice(pos.at(), replaced, 1, &Encoded::int(value));
    }

    /// Deletes up to `count` entries from `pos` on and returns where the entry after them is now.
    pub fn delete(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let start = pos.at();
        let (mut end, mut deleted) = (start, 0);
        while deleted < count && end < self.bytes.len() {
            end += stored_len(&self.bytes[end..]);
            deleted += 1;
        }
        self.resize_gap(start, end - start, 0);
        self.update_header(deleted, 0);
        self.pos_at(start)
    }

    /// Deletes up to `count` entries from an index on, counted as [`Listpack::seek`] does; returns how many.
    pub fn delete_range(&mut self, index: i64, count: usize) -> usize {
        let Some(pos) = self.seek(index) else { return 0 };
        let before = self.len();
        let start = if index < 0 { before - index.unsigned_abs() as usize } else { index as usize };
        if before - start <= count {
            // To the end: the entries need no walk.
            let (at, end) = (pos.at(), self.bytes.len());
            self.resize_gap(at, end - at, 0);
            self.set_header_count(start);
            before - start
        } else {
            self.delete(pos, count);
            count
        }
    }

    /// Deletes entries equal to `value` in one pass: leaves the first `skip` of them, then deletes up to `limit`.
    /// Returns how many it deleted.
    pub fn delete_equal(&mut self, value: &[u8], mut skip: usize, limit: usize) -> usize {
        let mut wanted = Wanted::new(value);
        let mut deleted = 0;
        let mut read = HEADER;
        let mut write = HEADER;
        while deleted < limit && read < self.bytes.len() {
            let entry = &self.bytes[read..];
            let len = stored_len(entry);
            if wanted.is(decode(entry)) && {
                let leave = skip > 0;
                skip -= usize::from(leave);
                !leave
            } {
                deleted += 1;
            } else {
                self.bytes.copy_within(read..read + len, write);
                write += len;
            }
            read += len;
        }
        if deleted > 0 {
            self.resize_gap(write, read - write, 0);
            self.update_header(deleted, 0);
        }
        deleted
    }

    /// Appends the entries of `other`.
    pub fn append(&mut self, other: &Pack) {
        let count = self.len() + other.len();
        let entries = &other.bytes[HEADER..];
        let at = self.bytes.len();
        self.resize_gap(at, 0, entries.len());
        self.bytes[at..at + entries.len()].copy_from_slice(entries);
        self.set_header_count(count);
    }

    /// Cuts the entries from `index` on off and returns them.
    pub fn split_off(&mut self, index: usize) -> Listpack {
        let Some(pos) = self.seek(index as i64) else { return Listpack::new() };
        let count = self.len();
        let mut tail = Listpack::new();
        let entries = &self.bytes[pos.at()..];
        tail.bytes.resize_gap(HEADER, 0, entries.len());
        tail.bytes[HEADER..].copy_from_slice(entries);
        tail.set_header_count(count - index);
        self.resize_gap(pos.at(), self.bytes.len() - pos.at(), 0);
        self.set_header_count(index);
        tail
    }

    #[inline]
    fn set_header_count(&mut self, count: usize) {
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    /// An unknown count stays unknown, as in Redis.
    #[inline]
    fn update_header(&mut self, removed: usize, added: usize) {
        let count = self.header_count();
        if count != COUNT_UNKNOWN {
            self.set_header_count(usize::from(count) - removed + added);
        }
    }

    #[inline]
    fn splice(&mut self, at: usize, removed_len: usize, removed: usize, encoded: &Encoded<'_>) {
        let added_len = encoded.stored_len();
        self.resize_gap(at, removed_len, added_len);
        encoded.write(&mut self.bytes[at..at + added_len]);
        self.update_header(removed, 1);
    }

    /// Gives `removed` bytes at `at` the size `added`. What the gap holds afterwards is for the caller to write.
    #[inline]
    fn resize_gap(&mut self, at: usize, removed: usize, added: usize) {
        if removed != added {
            self.bytes.resize_gap(at, removed, added);
        }
    }
}

impl Deref for Listpack {
    type Target = Pack;

    #[inline(always)]
    fn deref(&self) -> &Pack {
        Pack::from_bytes(&self.bytes)
    }
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<'a> IntoIterator for &'a Pack {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Pos {
    #[inline]
    fn at(self) -> usize {
        self.0 as usize
    }
}

impl Entry<'_> {
    /// Appends the entry's text.
    #[inline]
    pub fn push_to(&self, out: &mut Vec<u8>) {
        match *self {
            Entry::Int(value) => push_i64(out, value),
            Entry::Str(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Whether the entry's text is `value`.
    #[inline]
    pub fn eq_bytes(&self, value: &[u8]) -> bool {
        match *self {
            Entry::Int(int) => parse_i64(value) == Some(int),
            Entry::Str(bytes) => bytes == value,
        }
    }

    /// Length of the entry's text in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match *self {
            Entry::Int(value) => i64_len(value),
            Entry::Str(bytes) => bytes.len(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer that the entry's text stands for, if it is canonical.
    #[inline]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Entry::Int(value) => Some(value),
            Entry::Str(bytes) => parse_i64(bytes),
        }
    }

    pub fn to_owned(&self) -> OwnedEntry {
        match *self {
            Entry::Int(value) => OwnedEntry::Int(value),
            Entry::Str(bytes) => OwnedEntry::Str(bytes.into()),
        }
    }

    /// The entry's text in a buffer of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.push_to(&mut out);
        out
    }
}

impl OwnedEntry {
    pub fn as_entry(&self) -> Entry<'_> {
        match self {
            OwnedEntry::Int(value) => Entry::Int(*value),
            OwnedEntry::Str(bytes) => Entry::Str(bytes),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "listpack is shorter than its header",
            Malformed::Size => "listpack header states another size",
            Malformed::End => "listpack has no end mark, or an early one",
            Malformed::Entry => "listpack has a malformed entry",
            Malformed::Count => "listpack header states another number of entries",
        })
    }
}

impl std::error::Error for Malformed {}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = &self.bytes[self.at..];
        // Most entries are short strings, whose length is found once for both.
        if let Some(&byte @ 0x80..=0xBF) = entry.first() {
            let len = usize::from(byte & 0x3F);
            self.at += 2 + len;
            return Some(Entry::Str(&entry[1..1 + len]));
        }
        if entry.is_empty() {
            return None;
        }
        self.at += stored_len(entry);
        Some(decode(entry))
    }
}

impl<'a> Iterator for RevIter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if self.at == HEADER {
            return None;
        }
        self.at = before(self.bytes, self.at);
        Some(decode(&self.bytes[self.at..]))
    }
}

/// Bytes that `value` takes as an entry of a listpack.
#[inline]
pub fn entry_bytes(value: &[u8]) -> usize {
    Encoded::text(value).stored_len()
}

/// A value to look for: its integer is worked out when the first integer entry is met.
struct Wanted<'a> {
    text: &'a [u8],
    int: Option<Option<i64>>,
}

impl<'a> Wanted<'a> {
    fn new(text: &'a [u8]) -> Wanted<'a> {
        Wanted { text, int: None }
    }

    #[inline]
    fn is(&mut self, entry: Entry<'_>) -> bool {
        match entry {
            Entry::Str(bytes) => bytes == self.text,
            Entry::Int(int) => *self.int.get_or_insert_with(|| parse_i64(self.text)) == Some(int),
        }
    }
}

/// An entry ready to be written: encoding byte with length or integer, then a string's bytes.
struct Encoded<'a> {
    head: [u8; HEAD_MAX],
    head_len: usize,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    #[inline]
    fn text(text: &'a [u8]) -> Encoded<'a> {
        match parse_i64(text) {
            Some(value) => Encoded::int(value),
            None => Encoded::string(text),
        }
    }

    #[inline]
    fn string(body: &'a [u8]) -> Encoded<'a> {
        let mut head = [0; HEAD_MAX];
        let len = body.len();
        let head_len = match len {
            0..64 => {
                head[0] = 0x80 | len as u8;
                1
            }
            64..4096 => {
                head[0] = 0xE0 | (len >> 8) as u8;
                head[1] = len as u8;
                2
            }
            _ => {
                let len = u32::try_from(len).expect("callers keep listpacks below the safety limit");
                head[0] = 0xF0;
                head[1..5].copy_from_slice(&len.to_le_bytes());
                5
            }
        };
        Encoded { head, head_len, body }
    }

    #[inline]
    fn int(value: i64) -> Encoded<'static> {
        let mut head = [0; HEAD_MAX];
        let bytes = value.to_le_bytes();
        let mut wide = |mark, len: usize| {
            head[0] = mark;
            head[1..=len].copy_from_slice(&bytes[..len]);
            1 + len
        };
        let head_len = match value {
            0..=127 => {
                head[0] = bytes[0];
                1
            }
            -4096..=4095 => {
                head[0] = 0xC0 | (bytes[1] & 0x1F);
                head[1] = bytes[0];
                2
            }
            -0x8000..=0x7FFF => wide(0xF1, 2),
            -0x80_0000..=0x7F_FFFF => wide(0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => wide(0xF3, 4),
            _ => wide(0xF4, 8),
        };
        Encoded { head, head_len, body: &[] }
    }

    /// Bytes with the backlen.
    #[inline]
    fn stored_len(&self) -> usize {
        let len = self.head_len + self.body.len();
        len + backlen_len(len)
    }

    /// Fills `out`, which is `stored_len` bytes long.
    #[inline]
    fn write(&self, out: &mut [u8]) {
        let (head, out) = out.split_at_mut(self.head_len);
        match head {
            // Nearly always: one store instead of a call.
            [only] => *only = self.head[0],
            head => head.copy_from_slice(&self.head[..self.head_len]),
        }
        let (body, backlen) = out.split_at_mut(self.body.len());
        body.copy_from_slice(self.body);
        let mut rest = self.head_len + self.body.len();
        for byte in backlen.iter_mut().rev() {
            *byte = (rest & 0x7F) as u8 | 0x80;
            rest >>= 7;
        }
        backlen[0] &= 0x7F;
    }
}

/// Bytes of the backlen of an entry of `len` bytes. From two bytes on, Redis leaves the highest value of each size out
/// (16383 takes three bytes), and the bytes must be the same.
#[inline]
fn backlen_len(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..16383 => 2,
        16383..2097151 => 3,
        2097151..268435455 => 4,
        _ => 5,
    }
}

/// Size of the encoding and data of the entry that starts here; `None` for an encoding that is unknown or cut off.
#[inline]
fn encoded_len(entry: &[u8]) -> Option<usize> {
    Some(match *entry.first()? {
        0x00..=0x7F => 1,
        byte @ 0x80..=0xBF => 1 + usize::from(byte & 0x3F),
        0xC0..=0xDF => 2,
        byte @ 0xE0..=0xEF => 2 + (usize::from(byte & 0x0F) << 8 | usize::from(*entry.get(1)?)),
        0xF0 => 5 + u32::from_le_bytes(*entry.get(1..)?.first_chunk()?) as usize,
        0xF1 => 3,
        0xF2 => 4,
        0xF3 => 5,
        0xF4 => 9,
        0xF5..=0xFF => return None,
    })
}

/// Bytes from the start of this entry to the next.
#[inline]
fn stored_len(entry: &[u8]) -> usize {
    // The two usual encodings first: their backlen is one byte.
    match entry[0] {
        0x00..=0x7F => 2,
        byte @ 0x80..=0xBF => 2 + usize::from(byte & 0x3F),
        _ => {
            let len = encoded_len(entry).expect(WELL_FORMED);
            len + backlen_len(len)
        }
    }
}

/// Where the entry that ends at `end` starts; there must be one.
#[inline]
fn before(bytes: &[u8], end: usize) -> usize {
    let len = backlen(&bytes[HEADER..end]).expect(WELL_FORMED);
    let start = end.checked_sub(len + backlen_len(len)).expect(WELL_FORMED);
    assert!(start >= HEADER, "{WELL_FORMED}");
    start
}

/// The backlen at the end of these bytes.
#[inline]
fn backlen(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (index, &byte) in bytes.iter().rev().take(5).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

#[inline]
fn decode(entry: &[u8]) -> Entry<'_> {
    let int = |len: usize| {
        let mut bytes = [0; 8];
        bytes[8 - len..].copy_from_slice(&entry[1..=len]);
        Entry::Int(i64::from_le_bytes(bytes) >> (64 - 8 * len))
    };
    let string = |head: usize| {
        let end = encoded_len(entry).expect(WELL_FORMED);
        Entry::Str(&entry[head..end])
    };
    match entry[0] {
        byte @ 0x00..=0x7F => Entry::Int(i64::from(byte)),
        byte @ 0x80..=0xBF => Entry::Str(&entry[1..1 + usize::from(byte & 0x3F)]),
        byte @ 0xC0..=0xDF => {
            let high = i64::from(byte & 0x1F) << 59 >> 51; // sign extended, in place
            Entry::Int(high | i64::from(entry[1]))
        }
        0xE0..=0xEF => string(2),
        0xF0 => string(5),
        0xF1 => int(2),
        0xF2 => int(3),
        0xF3 => int(4),
        0xF4 => int(8),
        0xF5..=0xFF => panic!("{WELL_FORMED}"),
    }
}

fn validate(bytes: &[u8], deep: bool) -> Result<(), Malformed> {
    if bytes.len() < WIRE_HEADER + 1 {
        return Err(Malformed::Truncated);
    }
    let total = bytes.first_chunk().map(|chunk| u32::from_le_bytes(*chunk));
    if total.map(|total| total as usize) != Some(bytes.len()) {
        return Err(Malformed::Size);
    }
    let end = bytes.len() - 1;
    if bytes[end] != END {
        return Err(Malformed::End);
    }
    let (mut at, mut count) = (WIRE_HEADER, 0);
    while at < end && (deep || count == 0) {
        if bytes[at] == END {
            return Err(Malformed::End);
        }
        let len = encoded_len(&bytes[at..end]).ok_or(Malformed::Entry)?;
        let next = at + len + backlen_len(len);
        if next > end || backlen(&bytes[WIRE_HEADER..next]) != Some(len) {
            return Err(Malformed::Entry);
        }
        at = next;
        count += 1;
    }
    let stated = u16::from_le_bytes([bytes[4], bytes[5]]);
    if deep && stated != COUNT_UNKNOWN && usize::from(stated) != count {
        return Err(Malformed::Count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, fewer};

    fn texts(list: &Listpack) -> Vec<Vec<u8>> {
        list.iter().map(|entry| entry.to_vec()).collect()
    }

    /// The listpack's bytes between header and end mark.
    fn body(values: &[&[u8]]) -> Vec<u8> {
        let mut list = Listpack::new();
        list.append_many(values.iter().copied());
        list.to_wire()[WIRE_HEADER..list.to_wire().len() - 1].to_vec()
    }

    fn checked(list: &Listpack) {
        validate(&list.to_wire(), true).unwrap();
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        assert_eq!(Listpack::new().to_wire(), [7, 0, 0, 0, 0, 0, 0xFF]);
        let mut list = Listpack::new();
        list.push_back(b"hello");
        list.push_back(b"1024");
        list.push_front(b"7");
        assert_eq!(list.to_wire(), b"\x13\0\0\0\x03\0\x07\x01\x85hello\x06\xC4\x00\x02\xFF");
        for (value, expected) in [
            ("0", &[0x00, 1][..]),
            ("127", &[0x7F, 1]),
            ("128", &[0xC0, 0x80, 2]),
            ("-1", &[0xDF, 0xFF, 2]),
            ("4095", &[0xCF, 0xFF, 2]),
            ("-4096", &[0xD0, 0x00, 2]),
            ("4096", &[0xF1, 0x00, 0x10, 3]),
            ("-4097", &[0xF1, 0xFF, 0xEF, 3]),
            ("32767", &[0xF1, 0xFF, 0x7F, 3]),
            ("-32768", &[0xF1, 0x00, 0x80, 3]),
            ("32768", &[0xF2, 0x00, 0x80, 0x00, 4]),
            ("-8388608", &[0xF2, 0x00, 0x00, 0x80, 4]),
            ("8388608", &[0xF3, 0x00, 0x00, 0x80, 0x00, 5]),
            ("-2147483648", &[0xF3, 0, 0, 0, 0x80, 5]),
            ("2147483648", &[0xF4, 0, 0, 0, 0x80, 0, 0, 0, 0, 9]),
            ("-9223372036854775808", &[0xF4, 0, 0, 0, 0, 0, 0, 0, 0x80, 9]),
            ("", &[0x80, 1]),
            ("a", &[0x81, b'a', 2]),
            ("-0", &[0x82, b'-', b'0', 3]),
            ("01", &[0x82, b'0', b'1', 3]),
        ] {
            assert_eq!(body(&[value.as_bytes()]), expected, "{value:?}");
        }
    }

    #[test]
    fn string_and_backlen_sizes_change_where_redis_changes_them() {
        for (len, head, backlen) in [
            (63, &[0xBF][..], &[64][..]),
            (64, &[0xE0, 64], &[66]),
            (125, &[0xE0, 125], &[127]),
            (126, &[0xE0, 126], &[1, 0x80]),
            (4095, &[0xEF, 0xFF], &[0x20, 0x81]),
            (4096, &[0xF0, 0x00, 0x10, 0, 0], &[0x20, 0x85]),
            (16377, &[0xF0, 0xF9, 0x3F, 0, 0], &[0x7F, 0xFE]),
            (16378, &[0xF0, 0xFA, 0x3F, 0, 0], &[0, 0xFF, 0xFF]),
            (2097145, &[0xF0, 0xF9, 0xFF, 0x1F, 0], &[0x7F, 0xFF, 0xFE]),
            (2097146, &[0xF0, 0xFA, 0xFF, 0x1F, 0], &[0, 0xFF, 0xFF, 0xFF]),
        ] {
            let value = vec![b'x'; len];
            let body = body(&[&value]);
            assert_eq!(&body[..head.len()], head, "{len}");
            assert_eq!(&body[head.len() + len..], backlen, "{len}");
            let mut list = Listpack::new();
            list.push_back(b"before");
            list.push_back(&value);
            list.push_back(b"after");
            checked(&list);
            assert_eq!(list.iter_rev().map(|entry| entry.len()).collect::<Vec<_>>(), [5, len, 6]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "65,536 elements, which it is about, take minutes")]
    fn counts_past_16_bits_become_unknown_and_are_walked() {
        let mut list = Listpack::new();
        list.append_many((0..65_534).map(|_| &b"1"[..]));
        assert_eq!((list.header_count(), list.len()), (65_534, 65_534));
        list.push_back(b"2");
        list.push_back(b"3");
        assert_eq!((list.header_count(), list.len()), (COUNT_UNKNOWN, 65_536));
        checked(&list);
        assert_eq!(list.at(list.seek(65_535).unwrap()), Entry::Int(3));
        assert_eq!(list.at(list.seek(-1).unwrap()), Entry::Int(3));
        assert_eq!(list.seek(65_536), None);
        assert_eq!(list.seek(-65_537), None);
        let tail = list.split_off(65_530);
        assert_eq!((list.header_count(), tail.header_count()), (65_530, 6));
        list.append(&tail);
        assert_eq!(list.len(), 65_536);
        assert_eq!(list.delete_range(10, 65_000), 65_000);
        assert_eq!(list.len(), 536);
    }

    #[test]
    fn validation_refuses_each_kind_of_damage() {
        let list = {
            let mut list = Listpack::new();
            list.append_many([&b"field"[..], b"300", b"x"]);
            list
        };
        let good = list.to_wire().to_vec();
        let damaged = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Listpack::from_vec_validated(bytes, true)
        };
        assert_eq!(damaged(&|_| ()), Ok(list.clone()));
        assert_eq!(damaged(&|bytes| bytes.truncate(6)), Err(Malformed::Truncated));
        assert_eq!(damaged(&|bytes| bytes[0] += 1), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| bytes[3] = 1), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| *bytes.last_mut().unwrap() = 0), Err(Malformed::End));
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER + 7] = END), Err(Malformed::End));
        assert_eq!(damaged(&|bytes| bytes[4] = 2), Err(Malformed::Count));
        assert_eq!(
            damaged(&|bytes| bytes[4..6].fill(0xFF)),
            Ok({
                let mut list = list.clone();
                list.bytes[..HEADER].fill(0xFF);
                list
            })
        );
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER] = 0xF5), Err(Malformed::Entry));
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER] = 0x84), Err(Malformed::Entry));
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER + 6] = 5), Err(Malformed::Entry));
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER] = 0xBF), Err(Malformed::Entry));
        assert_eq!(damaged(&|bytes| bytes[WIRE_HEADER..WIRE_HEADER + 5].fill(0xF0)), Err(Malformed::Entry));
    }

    #[test]
    fn find_can_look_at_fields_only() {
        let mut list = Listpack::new();
        list.append_many([&b"a"[..], b"b", b"5", b"a", b"b", b"7"]);
        let first = list.first().unwrap();
        assert_eq!(list.find(first, b"b", 0), list.seek(1));
        assert_eq!(list.find(first, b"b", 1), list.seek(4));
        assert_eq!(list.find(first, b"5", 1), list.seek(2));
        assert_eq!(list.find(list.seek(3).unwrap(), b"a", 0), list.seek(3));
        assert_eq!(list.find(first, b"7", 1), None);
        assert_eq!(list.find(first, b"05", 0), None);
    }

    #[test]
    fn the_safety_limit_is_one_gibibyte() {
        let list = Listpack::new();
        assert!(!list.would_exceed(SAFETY_LIMIT - 7));
        assert!(list.would_exceed(SAFETY_LIMIT - 6));
        assert!(list.would_exceed(usize::MAX));
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
            4 => (-5000i64..5000).prop_map(|value| value.to_string().into_bytes()),
            4 => prop::collection::vec(b'a'..b'd', 0..3),
            1 => prop::collection::vec(any::<u8>(), 0..300),
            1 => (4000usize..4200).prop_map(|len| vec![b'z'; len]),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        PushFront(Vec<u8>),
        PushBack(Vec<u8>),
        PushBackInt(i64),
        AppendMany(Vec<Vec<u8>>),
        InsertBefore(usize, Vec<u8>),
        InsertAfter(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        ReplaceInt(usize, i64),
        Delete(usize, usize),
        DeleteRange(i64, usize),
        DeleteEqual(Vec<u8>, usize, usize),
        SplitAndSwap(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let at = 0usize..20;
        prop_oneof![
            value().prop_map(Op::PushFront),
            value().prop_map(Op::PushBack),
            any::<i64>().prop_map(Op::PushBackInt),
            prop::collection::vec(value(), 0..6).prop_map(Op::AppendMany),
            (at.clone(), value()).prop_map(|(at, value)| Op::InsertBefore(at, value)),
            (at.clone(), value()).prop_map(|(at, value)| Op::InsertAfter(at, value)),
            (at.clone(), value()).prop_map(|(at, value)| Op::Replace(at, value)),
            (at.clone(), any::<i64>()).prop_map(|(at, value)| Op::ReplaceInt(at, value)),
            (at.clone(), 0usize..4).prop_map(|(at, count)| Op::Delete(at, count)),
            (-20i64..20, 0usize..6).prop_map(|(at, count)| Op::DeleteRange(at, count)),
            (value(), 0usize..3, 0usize..4)
                .prop_map(|(value, skip, limit)| Op::DeleteEqual(value, skip, limit)),
            at.prop_map(Op::SplitAndSwap),
        ]
    }

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn behaves_as_a_vector_of_strings(ops in prop::collection::vec(op(), 1..fewer(60, 12))) {
            let mut list = Listpack::new();
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
                    Op::PushBackInt(value) => {
                        list.push_back_i64(value);
                        model.push(value.to_string().into_bytes());
                    }
                    Op::AppendMany(values) => {
                        let before = list.to_wire().len();
                        list.append_many(values.iter().map(|value| &value[..]));
                        let added: usize = values.iter().map(|value| entry_bytes(value)).sum();
                        prop_assert_eq!(list.to_wire().len(), before + added);
                        model.extend(values);
                    }
                    Op::InsertBefore(at, value) => if let Some(pos) = list.seek(at as i64) {
                        let new = list.insert_before(pos, &value);
                        prop_assert!(list.at(new).eq_bytes(&value));
                        model.insert(at, value);
                    }
                    Op::InsertAfter(at, value) => if let Some(pos) = list.seek(at as i64) {
                        let new = list.insert_after(pos, &value);
                        prop_assert!(list.at(new).eq_bytes(&value));
                        model.insert(at + 1, value);
                    }
                    Op::Replace(at, value) => if let Some(pos) = list.seek(at as i64) {
                        list.replace(pos, &value);
                        model[at] = value;
                    }
                    Op::ReplaceInt(at, value) => if let Some(pos) = list.seek(at as i64) {
                        list.replace_i64(pos, value);
                        model[at] = value.to_string().into_bytes();
                    }
                    Op::Delete(at, count) => if let Some(pos) = list.seek(at as i64) {
                        let next = list.delete(pos, count);
                        model.drain(at..(at + count).min(model.len()));
                        prop_assert_eq!(next.map(|pos| list.at(pos).to_vec()), model.get(at).cloned());
                    }
                    Op::DeleteRange(index, count) => {
                        let start = if index < 0 { model.len() as i64 + index } else { index };
                        let start = usize::try_from(start).unwrap_or(usize::MAX);
                        let expected = if start < model.len() {
                            model.drain(start..(start + count).min(model.len())).count()
                        } else {
                            0
                        };
                        prop_assert_eq!(list.delete_range(index, count), expected);
                    }
                    Op::DeleteEqual(value, skip, limit) => {
                        prop_assert_eq!(list.count_equal(&value), model.iter().filter(|entry| **entry == value).count());
                        let before = model.len();
                        let mut seen = 0;
                        model.retain(|entry| {
                            let equal = *entry == value;
                            seen += usize::from(equal);
                            !(equal && seen > skip && seen <= skip + limit)
                        });
                        prop_assert_eq!(list.delete_equal(&value, skip, limit), before - model.len());
                    }
                    Op::SplitAndSwap(at) => {
                        let mut tail = list.split_off(at);
                        checked(&tail);
                        tail.append(&list);
                        list = tail;
                        let tail = model.split_off(at.min(model.len()));
                        model.splice(0..0, tail);
                    }
                }
                checked(&list);
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(&texts(&list), &model);
            }
            let reversed: Vec<_> = list.iter_rev().map(|entry| entry.to_vec()).collect();
            prop_assert_eq!(reversed, model.iter().rev().cloned().collect::<Vec<_>>());
            for (index, value) in model.iter().enumerate() {
                let pos = list.seek(index as i64).unwrap();
                prop_assert_eq!(list.seek(index as i64 - model.len() as i64), Some(pos));
                prop_assert!(list.at(pos).eq_bytes(value));
                prop_assert_eq!(list.at(pos).len(), value.len());
                prop_assert_eq!(list.iter_from(pos).count(), model.len() - index);
                prop_assert_eq!(list.iter_rev_from(pos).count(), index + 1);
                let found = list.find(list.first().unwrap(), value, 0).unwrap();
                prop_assert!(found <= pos && list.at(found).eq_bytes(value));
                prop_assert_eq!(list.position(value), model.iter().position(|entry| entry == value));
                prop_assert_eq!(list.entry_bytes_at(pos), entry_bytes(value));
            }
            prop_assert_eq!(list.seek(model.len() as i64), None);
            prop_assert_eq!(list.seek(-(model.len() as i64) - 1), None);
        }

        /// Whatever passes the deep validation can be walked both ways without a panic.
        #[test]
        fn hostile_bytes_never_read_out_of_bounds(
            values in prop::collection::vec(value(), 0..8),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in 0usize..3,
        ) {
            let mut list = Listpack::new();
            list.append_many(values.iter().map(|value| &value[..]));
            let mut bytes = list.to_wire().to_vec();
            bytes.truncate(bytes.len() - cut);
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = validate(&bytes, false);
            if let Ok(list) = Listpack::from_vec_validated(bytes, true) {
                let forward = texts(&list);
                let mut backward: Vec<_> = list.iter_rev().map(|entry| entry.to_vec()).collect();
                backward.reverse();
                prop_assert_eq!(forward, backward);
            }
        }

        #[test]
        fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = validate(&bytes, true);
            if bytes.len() > WIRE_HEADER {
                let total = bytes.len() as u32;
                bytes[..4].copy_from_slice(&total.to_le_bytes());
                bytes[4..WIRE_HEADER].fill(0xFF);
                *bytes.last_mut().unwrap() = END;
                if let Ok(list) = Listpack::from_vec_validated(bytes, true) {
                    prop_assert_eq!(list.iter().count(), list.iter_rev().count());
                }
            }
        }
    }
}
