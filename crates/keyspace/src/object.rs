//! Values that do not fit inside an entry, and the five types as clients see them.

use std::sync::Arc;

use structures::blob::Blob;

use crate::entry::{HASH, INTSET, LIST, SET, ZSET};
use crate::{Hash, List, Set, Stream, ZSet};

/// A value outside of its entry. Small strings and integers never become one: they live inside the entry, as do small
/// collections once [`crate::entry::new_object`] or the end of a change has put them there.
#[derive(Debug)]
pub enum Object {
    /// A string above [`crate::entry::INLINE_MAX`] bytes, shared with replies and snapshots that still read it.
    /// Written through `Arc::make_mut`: a reader on another thread keeps the old bytes.
    Str(Arc<Vec<u8>>),
    List(List),
    Set(Set),
    Hash(Hash),
    ZSet(ZSet),
    Stream(Box<Stream>),
}

/// What `TYPE` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    String,
    List,
    Set,
    ZSet,
    Hash,
    Stream,
}

impl Type {
    pub const ALL: [Type; 6] = [Type::String, Type::List, Type::Set, Type::ZSet, Type::Hash, Type::Stream];

    /// The name as `TYPE` and `SCAN … TYPE` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Type::String => "string",
            Type::List => "list",
            Type::Set => "set",
            Type::ZSet => "zset",
            Type::Hash => "hash",
            Type::Stream => "stream",
        }
    }
}

/// The key holds a value of another type than the command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongType;

impl std::fmt::Display for WrongType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
    }
}

impl std::error::Error for WrongType {}

/// Bytes from outside that are not a value, and why: the payload that carried them must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl Object {
    /// The form and the bytes that an entry can hold itself, if the value is one listpack or intset.
    #[inline]
    pub(crate) fn into_packed(self) -> Result<(u8, Blob), Object> {
        match self {
            Object::List(list) => match list.into_pack() {
                Ok(pack) => Ok((LIST, pack.into_blob())),
                Err(list) => Err(Object::List(list)),
            },
            Object::Set(Set::Intset(set)) => Ok((INTSET, set.into_blob())),
            Object::Set(Set::Listpack(pack)) => Ok((SET, pack.into_blob())),
            Object::Hash(Hash::Listpack(pack)) => Ok((HASH, pack.into_blob())),
            Object::ZSet(ZSet::Listpack(pack)) => Ok((ZSET, pack.into_blob())),
            other => Err(other),
        }
    }

    pub fn type_of(&self) -> Type {
        match self {
            Object::Str(_) => Type::String,
            Object::List(_) => Type::List,
            Object::Set(_) => Type::Set,
            Object::Hash(_) => Type::Hash,
            Object::ZSet(_) => Type::ZSet,
            Object::Stream(_) => Type::Stream,
        }
    }

    /// The encoding's name as `OBJECT ENCODING` spells it.
    pub fn encoding(&self) -> &'static str {
        match self {
            Object::Str(_) => "raw",
            Object::List(list) => list.encoding(),
            Object::Set(set) => set.encoding(),
            Object::Hash(hash) => hash.encoding(),
            Object::ZSet(zset) => zset.encoding(),
            Object::Stream(stream) => stream.encoding(),
        }
    }

    /// An estimate of the heap bytes the value holds beyond its entry.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Object::Str(text) => text.capacity() + size_of::<Vec<u8>>() + 16,
            Object::List(list) => list.heap_bytes(),
            Object::Set(set) => set.heap_bytes(),
            Object::Hash(hash) => hash.heap_bytes(),
            Object::ZSet(zset) => zset.heap_bytes(),
            Object::Stream(stream) => size_of::<Stream>() + stream.heap_bytes(),
        }
    }

    /// How much work freeing is, in allocations: what decides whether another thread frees it (lazy free).
    pub fn free_effort(&self) -> usize {
        match self {
            Object::Str(_) => 1,
            Object::List(list) => list.node_count(),
            Object::Set(set) => set.free_effort(),
            Object::Hash(hash) => hash.free_effort(),
            Object::ZSet(zset) => zset.free_effort(),
            Object::Stream(stream) => stream.free_effort(),
        }
    }

    /// A deep copy, as `COPY` makes it.
    pub fn duplicate(&self) -> Object {
        match self {
            // Strings are copied on write, so sharing is a copy.
            Object::Str(text) => Object::Str(Arc::clone(text)),
            Object::List(list) => Object::List(list.duplicate()),
            Object::Set(set) => Object::Set(set.duplicate()),
            Object::Hash(hash) => Object::Hash(hash.duplicate()),
            Object::ZSet(zset) => Object::ZSet(zset.duplicate()),
            Object::Stream(stream) => Object::Stream(Box::new(stream.duplicate())),
        }
    }
}
