//! The data: values in Redis's encodings, databases, expiry and the point-in-time walk over them.
//!
//! One thread owns everything here and nothing here does I/O, reads a clock or picks a random number of its own:
//! `now` and randomness are parameters. The layers are: `structures` knows bytes and memory, this crate knows what
//! a *list* or an *expired key* is, `engine` knows what a *command* is.
//!
//! An [`Entry`] is one allocation that holds key, expiry, access clock and a small value; an [`Object`] is what does
//! not fit there. A [`Db`] maps keys to entries, keeps the index of expiries, and saves the pre-image of whatever a
//! running snapshot has not copied yet before it hands out anything mutable: no caller can forget to.

pub mod access;
pub mod db;
pub mod digest;
pub mod entry;
pub mod expires;
pub mod hash;
pub mod large;
pub mod limits;
pub mod list;
pub mod object;
pub mod reuse;
pub mod set;
pub mod snapshot;
pub mod stream;
pub mod zset;

pub use access::{AccessClock, Lfu, Touch};
pub use db::{Db, Key};
pub use entry::{Edit, Entry, EntryExt, Str, Value};
pub use hash::{FieldExpiry, Hash, HashRef};
pub use limits::EncodingLimits;
pub use list::{End, List, ListRef};
pub use object::{Malformed, Object, Type, WrongType};
pub use set::{Set, SetRef};
pub use stream::{Stream, StreamId};
pub use zset::{ZSet, ZSetRef};
