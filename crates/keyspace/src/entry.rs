//! One key of a database: key, expiry, access clock and value in one allocation.
//!
//! `Entry` is `structures::record::Record<Object>`; this module says what the record's bits mean here. Strings lie in
//! the entry up to [`INLINE_MAX`], and so does every collection that is one listpack or intset, as one of the record's
//! packed forms: a hash of a few fields is one allocation, with its key. Reading gives a borrowed value ([`HashRef`],
//! …); changing goes through [`Edit`], which takes a packed value out and puts it back when it is dropped, into the entry
//! or as an [`Object`] beside it. One that is beside it already is changed where it is. An `Object` may also hold a small
//! collection: it works, and moves into the entry with its next change.
//!
//! The owner's 24 bits of `meta` are the access clock ([`crate::access`]). A string that was changed in place is *marked*:
//! `OBJECT ENCODING` says raw however short it is.
//!
//! A data set that arrives takes over what it has in common with the one that is there: [`crate::reuse`].

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use structures::blob::Blob;
use structures::intset::{Ints, Intset};
use structures::listpack::{Listpack, Pack};
use structures::number;
use structures::record::{Record, ValueMut, ValueRef};
use structures::table::Prepare;

use crate::access::CLOCK_MASK;
use crate::hash::HashRef;
use crate::list::ListRef;
use crate::object::{Object, Type, WrongType};
use crate::set::SetRef;
use crate::zset::ZSetRef;
use crate::{Hash, List, Set, Stream, ZSet};

/// A key with its value.
pub type Entry = Record<Object>;

/// Strings up to this many bytes live in the entry itself; longer ones become a shared [`Object::Str`], so that
/// replies and snapshots take a reference instead of a copy.
pub const INLINE_MAX: usize = 4096;

/// Strings up to this length that were never changed in place are called `embstr`.
const EMBSTR_MAX: usize = 44;

/// What a packed value is: the number of its form.
pub(crate) const LIST: u8 = 0;
pub(crate) const INTSET: u8 = 1;
pub(crate) const SET: u8 = 2;
pub(crate) const HASH: u8 = 3;
pub(crate) const ZSET: u8 = 4;

/// The value of an entry, to be read, wherever it lies.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Str(Str<'a>),
    List(ListRef<'a>),
    Set(SetRef<'a>),
    Hash(HashRef<'a>),
    ZSet(ZSetRef<'a>),
    Stream(&'a Stream),
}

/// A collection that is being changed: out of its entry, where it goes back when this is dropped, or beside it.
#[derive(Debug)]
pub struct Edit<'a, T: Collection> {
    entry: &'a mut Entry,
    /// Taken with the value, if that lay in the entry: what the entry is made of if the value does not fit it again.
    key: &'a [u8],
    expire_at_ms: Option<i64>,
    meta: u32,
    /// What lay in the entry. `None` if the value is an object beside it.
    taken: Option<T>,
}

/// What can be edited: the four types of collections.
pub trait Collection: std::fmt::Debug + Sized {
    fn into_object(self) -> Object;
    fn of(object: &Object) -> Option<&Self>;
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// Whether it is, or may become, one listpack or intset, which belongs into an entry.
    fn is_small(&self) -> bool;
}

/// How an [`Object`] holds a collection.
macro_rules! collection {
    ($type:ident, $value:ident => $is_small:expr) => {
        impl Collection for $type {
            #[inline]
            fn into_object(self) -> Object {
                Object::$type(self)
            }

            #[inline]
            fn of(object: &Object) -> Option<&$type> {
                if let Object::$type(value) = object { Some(value) } else { None }
            }

            #[inline]
            fn of_mut(object: &mut Object) -> Option<&mut $type> {
                if let Object::$type(value) = object { Some(value) } else { None }
            }

            #[inline]
            fn is_small(&self) -> bool {
                let $value = self;
                $is_small
            }
        }
    };
}

collection!(List, list => list.fits_pack());
collection!(Set, set => matches!(set, Set::Intset(_) | Set::Listpack(_)));
collection!(Hash, hash => matches!(hash, Hash::Listpack(_)));
collection!(ZSet, zset => matches!(zset, ZSet::Listpack(_)));

impl<'a, T: Collection> Edit<'a, T> {
    /// Takes the value of `entry`, whose key is `key`, out of it as `unpack` reads it, or finds it beside it. An entry
    /// without such a value is as it was.
    #[inline]
    fn open(
        entry: &'a mut Entry,
        key: &'a [u8],
        unpack: impl FnOnce(u8, Blob) -> T,
        is_form: impl FnOnce(u8) -> bool,
    ) -> Result<Edit<'a, T>, WrongType> {
        debug_assert_eq!(key, entry.key(), "an entry is edited under its own key");
        match entry.packed_form() {
            Some(form) if is_form(form) => {
                let (expire_at_ms, meta) = (entry.expire_at(), entry.meta());
                let taken = Some(unpack(form, entry.take_packed().expect("it has a packed form")));
                Ok(Edit { entry, key, expire_at_ms, meta, taken })
            }
            None if entry.payload().is_some_and(|object| T::of(object).is_some()) => {
                Ok(Edit { entry, key, expire_at_ms: None, meta: 0, taken: None })
            }
            _ => Err(WrongType),
        }
    }

    /// Puts what was taken out back into its entry, or beside it if it has outgrown it.
    fn put_back(&mut self, value: T) {
        let entry = match value.into_object().into_packed() {
            Ok((form, blob)) => match self.entry.put_packed(form, blob) {
                Ok(()) => return,
                Err(blob) => Entry::new_packed(self.key, form, &blob, self.expire_at_ms),
            },
            Err(object) => Entry::new_payload(self.key, object, self.expire_at_ms),
        };
        entry.set_meta(self.meta);
        *self.entry = entry;
    }

    /// Moves a value from beside the entry into it, if it fits.
    #[inline(never)]
    fn move_in(&mut self) {
        match self.entry.take_payload().expect(BESIDE).into_packed() {
            Ok((form, blob)) => self.entry.set_packed(form, &blob),
            Err(object) => self.entry.set_payload(object),
        };
    }
}

impl<T: Collection> Drop for Edit<'_, T> {
    #[inline]
    fn drop(&mut self) {
        match self.taken.take() {
            Some(value) => self.put_back(value),
            None if self.is_small() => self.move_in(),
            None => {}
        }
    }
}

impl<T: Collection> Deref for Edit<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.taken {
            Some(value) => value,
            None => self.entry.payload().and_then(T::of).expect(BESIDE),
        }
    }
}

impl<T: Collection> DerefMut for Edit<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.taken {
            Some(value) => value,
            None => self.entry.payload_mut().and_then(T::of_mut).expect(BESIDE),
        }
    }
}

/// How a list that lies in its entry fills up unless [`List::set_limits`] says otherwise: the default of Redis.
const FILL: i32 = -2;

const BESIDE: &str = "an edited value that was not taken out lies beside the entry";

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
    /// The value, whatever it is.
    fn content(&self) -> Value<'_>;
    fn as_list(&self) -> Result<ListRef<'_>, WrongType>;
    fn as_set(&self) -> Result<SetRef<'_>, WrongType>;
    fn as_hash(&self) -> Result<HashRef<'_>, WrongType>;
    fn as_zset(&self) -> Result<ZSetRef<'_>, WrongType>;
    fn as_stream(&self) -> Result<&Stream, WrongType>;
    /// Takes the list out to be changed; `key` is the entry's.
    fn as_list_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, List>, WrongType>;
    fn as_set_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, Set>, WrongType>;
    fn as_hash_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, Hash>, WrongType>;
    fn as_zset_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, ZSet>, WrongType>;
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
    /// Calls a string `raw` from now on, as if it had been changed in place.
    fn mark_raw(&self);
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

/// Brings what looking up an element of a collection reads towards the cache, one step at a time; false if the value
/// is not one that is looked up by hash: small, or of another type.
#[inline]
pub fn prepare_element(entry: &Entry, hash: u64, step: Prepare) -> bool {
    match entry.value() {
        ValueRef::Payload(Object::Set(set)) => set.prepare(hash, step),
        ValueRef::Payload(Object::Hash(fields)) => fields.prepare(hash, step),
        ValueRef::Payload(Object::ZSet(set)) => set.prepare(hash, step),
        _ => false,
    }
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
    entry.mark();
    entry
}

/// A new entry for any value: within the entry if it is a small collection, else beside it.
pub fn new_object(key: &[u8], object: Object, expire_at_ms: Option<i64>) -> Entry {
    match object.into_packed() {
        Ok((form, blob)) => Entry::new_packed(key, form, &blob, expire_at_ms),
        Err(object) => Entry::new_payload(key, object, expire_at_ms),
    }
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
    #[inline]
    fn type_of(&self) -> Type {
        match self.value() {
            ValueRef::Payload(object) => object.type_of(),
            ValueRef::Packed(LIST, _) => Type::List,
            ValueRef::Packed(INTSET | SET, _) => Type::Set,
            ValueRef::Packed(HASH, _) => Type::Hash,
            ValueRef::Packed(..) => Type::ZSet,
            ValueRef::None | ValueRef::Int(_) | ValueRef::Bytes(_) => Type::String,
        }
    }

    #[inline]
    fn content(&self) -> Value<'_> {
        match self.value() {
            ValueRef::None => Value::Str(Str::Bytes(b"")),
            ValueRef::Int(value) => Value::Str(Str::Int(value)),
            ValueRef::Bytes(bytes) => Value::Str(Str::Bytes(bytes)),
            ValueRef::Packed(LIST, bytes) => Value::List(ListRef::of_pack(Pack::from_bytes(bytes))),
            ValueRef::Packed(INTSET, bytes) => Value::Set(SetRef::Intset(Ints::from_bytes(bytes))),
            ValueRef::Packed(SET, bytes) => Value::Set(SetRef::Listpack(Pack::from_bytes(bytes))),
            ValueRef::Packed(HASH, bytes) => Value::Hash(HashRef::Listpack(Pack::from_bytes(bytes))),
            ValueRef::Packed(_, bytes) => Value::ZSet(ZSetRef::Listpack(Pack::from_bytes(bytes))),
            ValueRef::Payload(Object::Str(bytes)) => Value::Str(Str::Shared(bytes)),
            ValueRef::Payload(Object::List(list)) => Value::List(list.view()),
            ValueRef::Payload(Object::Set(set)) => Value::Set(set.view()),
            ValueRef::Payload(Object::Hash(hash)) => Value::Hash(hash.view()),
            ValueRef::Payload(Object::ZSet(zset)) => Value::ZSet(zset.view()),
            ValueRef::Payload(Object::Stream(stream)) => Value::Stream(stream),
        }
    }

    fn encoding(&self) -> &'static str {
        match self.value() {
            ValueRef::Int(_) => "int",
            ValueRef::Bytes(bytes) if bytes.len() <= EMBSTR_MAX && !self.is_marked() => "embstr",
            ValueRef::Bytes(_) => "raw",
            ValueRef::Payload(object) => object.encoding(),
            ValueRef::Packed(LIST, _) => "quicklist",
            ValueRef::Packed(INTSET, _) => "intset",
            ValueRef::Packed(..) => "listpack",
            ValueRef::None => "embstr",
        }
    }

    fn as_str(&self) -> Result<Str<'_>, WrongType> {
        match self.value() {
            ValueRef::Int(value) => Ok(Str::Int(value)),
            ValueRef::Bytes(bytes) => Ok(Str::Bytes(bytes)),
            ValueRef::Payload(Object::Str(bytes)) => Ok(Str::Shared(bytes)),
            ValueRef::None => Ok(Str::Bytes(b"")),
            ValueRef::Packed(..) | ValueRef::Payload(_) => Err(WrongType),
        }
    }

    #[inline]
    fn as_list(&self) -> Result<ListRef<'_>, WrongType> {
        match self.content() {
            Value::List(value) => Ok(value),
            _ => Err(WrongType),
        }
    }

    #[inline]
    fn as_set(&self) -> Result<SetRef<'_>, WrongType> {
        match self.content() {
            Value::Set(value) => Ok(value),
            _ => Err(WrongType),
        }
    }

    #[inline]
    fn as_hash(&self) -> Result<HashRef<'_>, WrongType> {
        match self.content() {
            Value::Hash(value) => Ok(value),
            _ => Err(WrongType),
        }
    }

    #[inline]
    fn as_zset(&self) -> Result<ZSetRef<'_>, WrongType> {
        match self.content() {
            Value::ZSet(value) => Ok(value),
            _ => Err(WrongType),
        }
    }

    fn as_stream(&self) -> Result<&Stream, WrongType> {
        match self.value() {
            ValueRef::Payload(Object::Stream(stream)) => Ok(stream),
            _ => Err(WrongType),
        }
    }

    #[inline]
    fn as_list_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, List>, WrongType> {
        Edit::open(self, key, |_, blob| List::from_pack(Listpack::from_blob(blob), FILL), |form| form == LIST)
    }

    #[inline]
    fn as_set_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, Set>, WrongType> {
        Edit::open(
            self,
            key,
            |form, blob| match form {
                INTSET => Set::Intset(Intset::from_blob(blob)),
                _ => Set::Listpack(Listpack::from_blob(blob)),
            },
            |form| form == INTSET || form == SET,
        )
    }

    #[inline]
    fn as_hash_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, Hash>, WrongType> {
        Edit::open(self, key, |_, blob| Hash::Listpack(Listpack::from_blob(blob)), |form| form == HASH)
    }

    #[inline]
    fn as_zset_mut<'a>(&'a mut self, key: &'a [u8]) -> Result<Edit<'a, ZSet>, WrongType> {
        Edit::open(self, key, |_, blob| ZSet::Listpack(Listpack::from_blob(blob)), |form| form == ZSET)
    }

    fn as_stream_mut(&mut self) -> Result<&mut Stream, WrongType> {
        match self.value_mut() {
            ValueMut::Payload(Object::Stream(stream)) => Ok(stream),
            _ => Err(WrongType),
        }
    }

    fn store_str(&mut self, text: &[u8]) -> Option<Object> {
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
        self.set_payload(Object::Str(text))
    }

    fn store_raw(&mut self, text: &[u8]) -> Option<Object> {
        if text.len() <= INLINE_MAX {
            let displaced = self.set_bytes(text);
            self.mark();
            return displaced;
        }
        self.set_payload(Object::Str(Arc::new(text.to_vec())))
    }

    fn store_text(&mut self, text: &[u8]) -> Option<Object> {
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

    fn mark_raw(&self) {
        self.mark();
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
        self.mark_raw();
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
        self.meta()
    }

    fn set_clock(&self, clock: u32) {
        self.set_meta(clock & CLOCK_MASK);
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
            ValueRef::Packed(form, bytes) => Entry::new_packed(key, form, bytes, expire),
            ValueRef::Payload(object) => Entry::new_payload(key, object.duplicate(), expire),
        };
        copy.set_meta(self.meta());
        if self.is_marked() {
            copy.mark();
        }
        copy
    }

    fn renamed(mut self, key: &[u8]) -> Entry {
        let Some(object) = self.take_payload() else { return self.duplicate(key) };
        let renamed = Entry::new_payload(key, object, self.expire_at());
        renamed.set_meta(self.meta());
        renamed
    }
}

#[cfg(test)]
mod tests {
    use structures::record::ValueRef;

    use super::*;
    use crate::zset::AddRule;
    use crate::{EncodingLimits, FieldExpiry};

    const KEY: &[u8] = b"a key of 14 by";

    fn is_inside(entry: &Entry) -> bool {
        matches!(entry.value(), ValueRef::Packed(..))
    }

    fn entry_of(object: Object) -> Entry {
        let entry = new_object(KEY, object, Some(77));
        entry.set_clock(5);
        entry
    }

    fn assert_same_but_for_the_value(entry: &Entry) {
        assert_eq!((entry.key(), entry.expire_at(), entry.clock()), (KEY, Some(77), 5));
    }

    #[test]
    fn small_collections_lie_in_the_entry() {
        let limits = EncodingLimits::default();
        let mut list = List::with_limits(&limits);
        let mut hash = Hash::new();
        let mut set = Set::for_member(b"m", &limits);
        let mut zset = ZSet::for_member(b"m", &limits);
        for n in 0..10 {
            let text = format!("member{n:04}");
            list.push_back(text.as_bytes());
            hash.set(format!("{}", 100_000 + n).as_bytes(), text.as_bytes(), FieldExpiry::Clear, &limits);
            set.add(text.as_bytes(), &limits);
            zset.add(text.as_bytes(), f64::from(100_000 + n), AddRule::default(), &limits);
        }
        // 14 bytes of key, 10 × 12 of elements, 10 × 5 of numbers; header and count are 8.
        for (object, bytes) in [
            (Object::List(list), 144),
            (Object::Set(set), 144),
            (Object::Hash(hash), 192),
            (Object::ZSet(zset), 192),
        ] {
            let (kind, encoding) = (object.type_of(), object.encoding());
            let entry = new_object(KEY, object, None);
            assert!(is_inside(&entry));
            assert_eq!((entry.type_of(), entry.encoding()), (kind, encoding));
            assert_eq!((entry.bytes(), entry.total_bytes()), (bytes, bytes), "{kind:?}");
        }
    }

    #[test]
    fn what_outgrows_the_entry_goes_beside_it() {
        let limits = EncodingLimits { hash_entries: 50, ..EncodingLimits::default() };
        let mut entry = entry_of(Object::Hash(Hash::new()));
        for n in 0..200 {
            let name = format!("field{n}");
            let mut hash = entry.as_hash_mut(KEY).unwrap();
            assert!(hash.set(name.as_bytes(), name.as_bytes(), FieldExpiry::Clear, &limits));
            drop(hash);
            assert_eq!(is_inside(&entry), n < 50);
            assert_same_but_for_the_value(&entry);
        }
        let hash = entry.as_hash().unwrap();
        assert!((0..200).all(|n| hash.contains(format!("field{n}").as_bytes(), 0)));
        assert_eq!((entry.encoding(), entry.as_set().err()), ("hashtable", Some(WrongType)));
    }

    #[test]
    fn a_value_that_grows_and_changes_its_encoding_within_one_edit_keeps_the_entry() {
        let limits = EncodingLimits::default();
        let mut entry = entry_of(Object::Set(Set::for_result()));
        let mut set = entry.as_set_mut(KEY).unwrap();
        for n in 0..300 {
            set.add(n.to_string().as_bytes(), &limits);
        }
        drop(set);
        assert_eq!((entry.encoding(), is_inside(&entry)), ("intset", true));
        assert_same_but_for_the_value(&entry);
        let mut set = entry.as_set_mut(KEY).unwrap();
        set.remove(b"7");
        set.add(b"text", &limits);
        drop(set);
        assert_eq!((entry.encoding(), is_inside(&entry)), ("hashtable", false));
        assert_same_but_for_the_value(&entry);
        assert_eq!(entry.as_set().unwrap().len(), 300);
        *entry.as_set_mut(KEY).unwrap() = Set::for_member(b"x", &limits);
        assert!(is_inside(&entry) && entry.as_set().unwrap().is_empty());
        assert_same_but_for_the_value(&entry);
        // From one form inside to another one.
        *entry.as_set_mut(KEY).unwrap() = Set::for_result();
        entry.as_set_mut(KEY).unwrap().add(b"1", &limits);
        entry.as_set_mut(KEY).unwrap().add(b"text", &limits);
        assert_eq!((entry.encoding(), entry.as_set().unwrap().len()), ("listpack", 2));
        assert_same_but_for_the_value(&entry);
    }

    #[test]
    fn a_list_leaves_the_entry_with_its_second_node_and_comes_back() {
        let mut entry = entry_of(Object::List(List::new(-2)));
        let element = [b'e'; 100];
        for n in 0..200 {
            entry.as_list_mut(KEY).unwrap().push_back(&element);
            assert_eq!(is_inside(&entry), n < 79, "{n}");
            assert_eq!(entry.as_list().unwrap().len(), n + 1);
        }
        for left in (1..200).rev() {
            entry.as_list_mut(KEY).unwrap().pop_with(crate::End::Tail, |_| ());
            assert_eq!(is_inside(&entry), left < 40, "{left}");
            assert_eq!((entry.as_list().unwrap().len(), entry.encoding()), (left, "quicklist"));
        }
        assert_same_but_for_the_value(&entry);
    }

    #[test]
    fn a_wrong_type_changes_nothing() {
        let mut entry = entry_of(Object::ZSet(ZSet::with_capacity(4, &EncodingLimits::default())));
        assert!(!is_inside(&entry));
        assert!(entry.as_list_mut(KEY).is_err() && entry.as_hash_mut(KEY).is_err());
        assert_eq!(entry.encoding(), "skiplist");
        assert_same_but_for_the_value(&entry);
        let mut entry = entry_of(Object::Hash(Hash::new()));
        assert!(entry.as_list_mut(KEY).is_err() && entry.as_set_mut(KEY).is_err());
        assert!(entry.as_str().is_err() && entry.as_zset().is_err());
        assert_eq!(entry.type_of(), Type::Hash);
        let mut entry = new_str(KEY, b"text", Some(77));
        assert!(entry.as_list_mut(KEY).is_err());
        assert_eq!(entry.as_str().unwrap().to_vec(), b"text");
    }

    #[test]
    fn copies_and_new_names_keep_what_lies_inside() {
        let mut entry = entry_of(Object::List(List::new(-2)));
        entry.as_list_mut(KEY).unwrap().push_back(b"element");
        let copy = entry.duplicate(b"copy");
        assert_eq!((copy.key(), copy.as_list().unwrap().len(), copy.clock()), (&b"copy"[..], 1, 5));
        let long = [b'k'; 300];
        let mut renamed = entry.renamed(&long);
        renamed.as_list_mut(&long).unwrap().push_back(&[b'e'; 300]);
        assert_eq!((renamed.key(), renamed.as_list().unwrap().len()), (&long[..], 2));
        assert!(is_inside(&renamed));
        assert!(renamed.store_str(b"text").is_none());
        assert_eq!((renamed.as_str().unwrap().to_vec(), renamed.expire_at()), (b"text".to_vec(), Some(77)));
    }
}
