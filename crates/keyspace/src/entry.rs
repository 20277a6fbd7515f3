//! One key of a database: key, expiry, access clock and value in one allocation.
//!
//! `Entry` is `structures::record::Record<Object>`; this module says what the record's bits mean here. The owner's
//! 32-bit `meta` holds, from the lowest bit:
//!
//! ```text
//! bits 0..24   access clock, see [`crate::access`]
//! bit  24      RAW: the string was changed in place, so `OBJECT ENCODING` says raw however short it is
//! ```

use std::sync::Arc;

use structures::number;
use structures::record::{Record, ValueMut, ValueRef};

use crate::access::CLOCK_MASK;
use crate::object::{Object, Type, WrongType};
use crate::{Hash, List, Set, Stream, ZSet};

/// A key with its value.
pub type Entry = Record<Object>;

/// Strings up to this many bytes live in the entry itself; longer ones become a shared [`Object::Str`], so that
/// replies and snapshots take a reference instead of a copy.
pub const INLINE_MAX: usize = 4096;

/// Strings up to this length that were never changed in place are called `embstr`.
const EMBSTR_MAX: usize = 44;

const RAW: u32 = 1 << 24;

/// A string value as it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Str<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Shared(&'a Arc<Vec<u8>>),
}

impl<'a> Str<'a> {
    /// Length of the text in bytes.
    pub fn len(self) -> usize {
        match self {
            Str::Int(value) => number::i64_len(value),
            Str::Bytes(bytes) => bytes.len(),
            Str::Shared(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The text; integers are written into `scratch`.
    pub fn text<'s>(self, scratch: &'s mut number::IntText) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Str::Int(value) => scratch.format(value),
            Str::Bytes(bytes) => bytes,
            Str::Shared(bytes) => bytes,
        }
    }

    /// Appends the text to `out`.
    pub fn push_to(self, out: &mut Vec<u8>) {
        match self {
            Str::Int(value) => number::push_i64(out, value),
            Str::Bytes(bytes) => out.extend_from_slice(bytes),
            Str::Shared(bytes) => out.extend_from_slice(bytes),
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.push_to(&mut out);
        out
    }

    /// The integer value, if the text is a canonical 64-bit integer.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Str::Int(value) => Some(value),
            Str::Bytes(bytes) => number::parse_i64(bytes),
            Str::Shared(bytes) => number::parse_i64(bytes),
        }
    }
}

/// What the keyspace adds to a record.
pub trait EntryExt {
    fn type_of(&self) -> Type;
    fn encoding(&self) -> &'static str;
    fn as_str(&self) -> Result<Str<'_>, WrongType>;
    fn as_list(&self) -> Result<&List, WrongType>;
    fn as_set(&self) -> Result<&Set, WrongType>;
    fn as_hash(&self) -> Result<&Hash, WrongType>;
    fn as_zset(&self) -> Result<&ZSet, WrongType>;
    fn as_stream(&self) -> Result<&Stream, WrongType>;
    fn as_list_mut(&mut self) -> Result<&mut List, WrongType>;
    fn as_set_mut(&mut self) -> Result<&mut Set, WrongType>;
    fn as_hash_mut(&mut self) -> Result<&mut Hash, WrongType>;
    fn as_zset_mut(&mut self) -> Result<&mut ZSet, WrongType>;
    fn as_stream_mut(&mut self) -> Result<&mut Stream, WrongType>;
    /// Replaces the value by a string: stored as an integer if the text is a canonical one (`SET`'s rule).
    /// Gives back a displaced object so that the caller may free it elsewhere.
    fn store_str(&mut self, text: &[u8]) -> Option<Object>;
    /// Replaces the value by an already shared long string without copying it.
    fn store_shared(&mut self, text: Arc<Vec<u8>>) -> Option<Object>;
    /// Replaces the value by text that was changed in place: encoding `raw`, never an integer.
    fn store_raw(&mut self, text: &[u8]) -> Option<Object>;
    /// Replaces the value by text that stays text even if it spells an integer, as `INCRBYFLOAT` leaves it.
    fn store_text(&mut self, text: &[u8]) -> Option<Object>;
    /// Like [`EntryExt::store_raw`], for text that is at hand as a vector: a long one is not copied.
    fn store_raw_vec(&mut self, text: Vec<u8>) -> Option<Object>;
    /// Runs `change` on the bytes where they lie and leaves the encoding `raw`. A string that is shorter than
    /// `length_min` is filled up with zeros before; none becomes shorter.
    fn edit_bytes<R>(
        &mut self,
        length_min: usize,
        change: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WrongType>;
    /// Runs `change` on the text in place and leaves the encoding `raw`; the entry must hold a string.
    fn edit_str(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), WrongType>;
    fn is_expired(&self, now_ms: i64) -> bool;
    /// The 24-bit access clock.
    fn clock(&self) -> u32;
    fn set_clock(&self, clock: u32);
    /// Bytes of the entry and of what it points to.
    fn total_bytes(&self) -> usize;
    /// A deep copy under another name, with the same expiry and clock.
    fn duplicate(&self, key: &[u8]) -> Entry;
    /// The entry under another name, with the same expiry and clock. A value outside of the entry is moved.
    fn renamed(self, key: &[u8]) -> Entry;
}

/// A new entry for a string value under `SET`'s rules.
pub fn new_str(key: &[u8], text: &[u8], expire_at_ms: Option<i64>) -> Entry {
    if text.len() <= 20
        && let Some(value) = number::parse_i64(text)
    {
        return Entry::new_int(key, value, expire_at_ms);
    }
    if text.len() <= INLINE_MAX {
        return Entry::new_bytes(key, text, expire_at_ms);
    }
    Entry::new_payload(key, Object::Str(Arc::new(text.to_vec())), expire_at_ms)
}

/// A new entry for a string that counts as changed in place: `raw` and never an integer.
pub fn new_raw_str(key: &[u8], text: &[u8], expire_at_ms: Option<i64>) -> Entry {
    if text.len() > INLINE_MAX {
        return Entry::new_payload(key, Object::Str(Arc::new(text.to_vec())), expire_at_ms);
    }
    let entry = Entry::new_bytes(key, text, expire_at_ms);
    entry.set_meta(entry.meta() | RAW);
    entry
}

/// Like [`new_raw_str`], for text that is at hand as a vector: a long one is not copied.
pub fn new_raw_vec(key: &[u8], text: Vec<u8>, expire_at_ms: Option<i64>) -> Entry {
    if text.len() > INLINE_MAX {
        return Entry::new_payload(key, Object::Str(Arc::new(text)), expire_at_ms);
    }
    new_raw_str(key, &text, expire_at_ms)
}

/// A new entry for a string of `length` zero bytes that are to be changed in place.
pub fn new_zeros(key: &[u8], length: usize) -> Entry {
    const ZEROS: &[u8; INLINE_MAX] = &[0; INLINE_MAX];
    match ZEROS.get(..length) {
        Some(zeros) => new_raw_str(key, zeros, None),
        None => new_raw_vec(key, vec![0; length], None),
    }
}

/// A buffer that grows gets as much again in reserve, but at most this: like Redis, so that writing at the end of a big
/// string bit by bit neither copies it each time nor doubles it.
const RESERVE_MAX: usize = 1 << 20;

impl EntryExt for Entry {
    fn type_of(&self) -> Type {
        match self.value() {
            ValueRef::Payload(object) => object.type_of(),
            _ => Type::String,
        }
    }

    fn encoding(&self) -> &'static str {
        match self.value() {
            ValueRef::Int(_) => "int",
            ValueRef::Bytes(bytes) if bytes.len() <= EMBSTR_MAX && self.meta() & RAW == 0 => "embstr",
            ValueRef::Bytes(_) => "raw",
            ValueRef::Payload(object) => object.encoding(),
            ValueRef::None => "embstr",
        }
    }

    fn as_str(&self) -> Result<Str<'_>, WrongType> {
        match self.value() {
            ValueRef::Int(value) => Ok(Str::Int(value)),
            ValueRef::Bytes(bytes) => Ok(Str::Bytes(bytes)),
            ValueRef::Payload(Object::Str(bytes)) => Ok(Str::Shared(bytes)),
            ValueRef::None => Ok(Str::Bytes(b"")),
            ValueRef::Payload(_) => Err(WrongType),
        }
    }

    fn as_list(&self) -> Result<&List, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::List(list)) => Ok(list),
            _ => Err(WrongType),
        }
    }

    fn as_set(&self) -> Result<&Set, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::Set(set)) => Ok(set),
            _ => Err(WrongType),
        }
    }

    fn as_hash(&self) -> Result<&Hash, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::Hash(hash)) => Ok(hash),
            _ => Err(WrongType),
        }
    }

    fn as_zset(&self) -> Result<&ZSet, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::ZSet(zset)) => Ok(zset),
            _ => Err(WrongType),
        }
    }

    fn as_stream(&self) -> Result<&Stream, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::Stream(stream)) => Ok(stream),
            _ => Err(WrongType),
        }
    }

    fn as_list_mut(&mut self) -> Result<&mut List, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::List(list)) => Ok(list),
            _ => Err(WrongType),
        }
    }

    fn as_set_mut(&mut self) -> Result<&mut Set, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::Set(set)) => Ok(set),
            _ => Err(WrongType),
        }
    }

    fn as_hash_mut(&mut self) -> Result<&mut Hash, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::Hash(hash)) => Ok(hash),
            _ => Err(WrongType),
        }
    }

    fn as_zset_mut(&mut self) -> Result<&mut ZSet, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::ZSet(zset)) => Ok(zset),
            _ => Err(WrongType),
        }
    }

    fn as_stream_mut(&mut self) -> Result<&mut Stream, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::Stream(stream)) => Ok(stream),
            _ => Err(WrongType),
        }
    }

    fn store_str(&mut self, text: &[u8]) -> Option<Object> {
        self.set_meta(self.meta() & !RAW);
        if text.len() <= 20
            && let Some(value) = number::parse_i64(text)
        {
            return self.set_int(value);
        }
        if text.len() <= INLINE_MAX {
            return self.set_bytes(text);
        }
        // A buffer of about the right size that nobody else reads is written over.
        if let ValueMut::Payload(Object::Str(shared)) = self.value_mut()
            && let Some(buffer) = Arc::get_mut(shared)
            && (buffer.capacity() / 2..=buffer.capacity()).contains(&text.len())
        {
            buffer.clear();
            buffer.extend_from_slice(text);
            return None;
        }
        self.set_payload(Object::Str(Arc::new(text.to_vec())))
    }

    fn store_shared(&mut self, text: Arc<Vec<u8>>) -> Option<Object> {
        self.set_meta(self.meta() & !RAW);
        self.set_payload(Object::Str(text))
    }

    fn store_raw(&mut self, text: &[u8]) -> Option<Object> {
        self.set_meta(self.meta() | RAW);
        if text.len() <= INLINE_MAX {
            return self.set_bytes(text);
        }
        self.set_payload(Object::Str(Arc::new(text.to_vec())))
    }

    fn store_text(&mut self, text: &[u8]) -> Option<Object> {
        self.set_meta(self.meta() & !RAW);
        if text.len() <= INLINE_MAX {
            return self.set_bytes(text);
        }
        self.set_payload(Object::Str(Arc::new(text.to_vec())))
    }

    fn store_raw_vec(&mut self, text: Vec<u8>) -> Option<Object> {
        if text.len() <= INLINE_MAX {
            return self.store_raw(&text);
        }
        self.set_payload(Object::Str(Arc::new(text)))
    }

    fn edit_bytes<R>(
        &mut self,
        length_min: usize,
        change: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, WrongType> {
        let mut scratch = number::IntText::new();
        let text = self.as_str()?;
        let (length, is_int) = (text.len(), matches!(text, Str::Int(_)));
        let shared = matches!(text, Str::Shared(_));
        if !shared && length_min > INLINE_MAX {
            let mut grown = vec![0; length_min];
            grown[..length].copy_from_slice(text.text(&mut scratch));
            self.set_payload(Object::Str(Arc::new(grown)));
        } else if !shared && (is_int || length < length_min) {
            let mut grown = [0; INLINE_MAX];
            grown[..length].copy_from_slice(text.text(&mut scratch));
            self.set_bytes(&grown[..length.max(length_min)]);
        }
        self.set_meta(self.meta() | RAW);
        match self.value_mut() {
            ValueMut::Payload(Object::Str(shared)) => {
                // A reply or a snapshot may still read the old bytes: then this copies, else it works in place.
                let bytes = Arc::make_mut(shared);
                if length_min > bytes.capacity() {
                    bytes.reserve_exact(length_min - bytes.len() + length_min.min(RESERVE_MAX));
                }
                if length_min > bytes.len() {
                    bytes.resize(length_min, 0);
                }
                Ok(change(bytes))
            }
            ValueMut::Bytes(bytes) => Ok(change(bytes)),
            _ => Ok(change(&mut [])),
        }
    }

    fn edit_str(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), WrongType> {
        if let ValueMut::Payload(object) = self.value_mut() {
            let Object::Str(shared) = object else { return Err(WrongType) };
            // A reply or a snapshot may still read the old bytes: then this copies, else it works in place.
            let text = Arc::make_mut(shared);
            change(text);
            return Ok(());
        }
        let mut text = self.as_str()?.to_vec();
        change(&mut text);
        if text.len() > INLINE_MAX {
            self.set_payload(Object::Str(Arc::new(text)));
        } else {
            self.store_raw(&text);
        }
        Ok(())
    }

    fn is_expired(&self, now_ms: i64) -> bool {
        self.expire_at().is_some_and(|at| now_ms > at)
    }

    fn clock(&self) -> u32 {
        self.meta() & CLOCK_MASK
    }

    fn set_clock(&self, clock: u32) {
        self.set_meta((self.meta() & !CLOCK_MASK) | (clock & CLOCK_MASK));
    }

    fn total_bytes(&self) -> usize {
        let heap = match self.value() {
            ValueRef::Payload(object) => object.heap_bytes(),
            _ => 0,
        };
        self.bytes() + heap
    }

    fn duplicate(&self, key: &[u8]) -> Entry {
        let expire = self.expire_at();
        let copy = match self.value() {
            ValueRef::None => Entry::new_bytes(key, b"", expire),
            ValueRef::Int(value) => Entry::new_int(key, value, expire),
            ValueRef::Bytes(bytes) => Entry::new_bytes(key, bytes, expire),
            ValueRef::Payload(object) => Entry::new_payload(key, object.duplicate(), expire),
        };
        copy.set_meta(self.meta());
        copy
    }

    fn renamed(mut self, key: &[u8]) -> Entry {
        let Some(object) = self.take_payload() else { return self.duplicate(key) };
        let renamed = Entry::new_payload(key, object, self.expire_at());
        renamed.set_meta(self.meta());
        renamed
    }
}
