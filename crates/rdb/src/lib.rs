//! The snapshot codec: RDB files, the RDB stream of a full sync, and DUMP payloads, in every version from
//! Redis 1 to 8 and Valkey 9. Bytes in, events out, and the other way round: no file, socket, clock or
//! keyspace is known here.
//!
//! - [`decode::Decoder`] turns bytes, however they are cut, into [`decode::Event`]s. A collection comes
//!   element by element, so that loading a huge one can be sliced; what a version kept as one blob comes as
//!   that blob. [`ziplist`] and [`zipmap`] walk the old blobs; listpacks and intsets are the consumer's own
//!   structures, so it validates them.
//! - [`encode::Encoder`] writes records into a caller's buffer in the form that a [`version::Target`]
//!   understands. The checksum is a running value ([`crc::Crc64`]), so that chunks leave as they are made.
//! - [`dump`] wraps one value, without its key, for DUMP, RESTORE and MIGRATE.
//!
//! The tags and opcodes and their forms are in the table of [`opcode`], lengths and strings in [`length`].

pub mod crc;
pub mod decode;
pub mod dump;
pub mod encode;
pub mod length;
pub mod listpack;
pub mod lzf;
pub mod opcode;
pub mod stream;
pub mod version;
pub mod ziplist;
pub mod zipmap;

use std::fmt;

pub use crc::{Crc64, crc64};
pub use decode::{
    Checksum, DecodeOptions, Decoder, Event, Form, Key, ModuleName, NodeForm, Step, StrRef, StreamHistory,
};
pub use encode::{EncodeError, Encoder, EncoderOptions, Node, TtlFields};
pub use listpack::Entry;
pub use opcode::{Kind, ValueType};
pub use stream::EntryId;
pub use version::{Dialect, Features, Target, Version, oldest_version_for};

/// Why bytes are not a snapshot that can be read. Offsets count from the first byte given to the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdbError {
    /// The bytes end before the snapshot does. The decoder never says so itself, it asks for more: its
    /// caller knows that there is none.
    Truncated { offset: u64 },
    /// Not an RDB file.
    WrongMagic,
    /// An RDB file, or DUMP payload, of a version that is not read.
    UnsupportedVersion(u16),
    /// A byte that leads no record of any known version.
    UnknownOpcode { tag: u8, offset: u64 },
    /// A record that exists, but is not read here.
    UnsupportedType { tag: u8, name: &'static str, offset: u64 },
    /// The bytes contradict the format.
    Corrupt { what: &'static str, offset: u64 },
    /// All was read, but it is not what was written. `stated` is what the bytes say, `computed` what
    /// they sum up to.
    ChecksumMismatch { stated: u64, computed: u64 },
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdbError::Truncated { offset } => write!(f, "unexpected end of RDB data at offset {offset}"),
            RdbError::WrongMagic => f.write_str("wrong signature: not RDB data"),
            RdbError::UnsupportedVersion(version) => write!(f, "can't handle RDB format version {version}"),
            RdbError::UnknownOpcode { tag, offset } => {
                write!(f, "unknown RDB opcode or type {tag} at offset {offset}")
            }
            RdbError::UnsupportedType { tag, name, offset } => {
                write!(f, "unsupported RDB record {tag} ({name}) at offset {offset}")
            }
            RdbError::Corrupt { what, offset } => write!(f, "{what}, at offset {offset}"),
            RdbError::ChecksumMismatch { stated, computed } => {
                write!(f, "RDB checksum is {stated:016x}, but the data sums up to {computed:016x}")
            }
        }
    }
}

impl std::error::Error for RdbError {}
