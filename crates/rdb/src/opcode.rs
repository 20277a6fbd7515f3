//! The byte that leads every record of an RDB file: an opcode, or the type tag of a key's value.
//!
//! ```text
//! tag   value                              since   form of the value
//!  0    string                             1       string
//!  1    list                               1       count, strings
//!  2    set                                1       count, strings
//!  3    sorted set                         1       count, (string, double in ASCII)*
//!  4    hash                               1       count, (string, string)*
//!  5    sorted set, ZSET_2                 8       count, (string, double in 8 bytes LE)*
//!  6 7  module value                       8       not read
//!  9    hash                               2       zipmap
//! 10    list                               4       ziplist
//! 11    set                                3       intset
//! 12    sorted set                         4       ziplist: member, score, …
//! 13    hash                               4       ziplist: field, value, …
//! 14    list, QUICKLIST                    7       count, ziplists
//! 15    stream, LISTPACKS                  9       see [`crate::stream`]
//! 19    stream, LISTPACKS_2                10      with the stream's history
//! 21    stream, LISTPACKS_3                11      and with the time when a consumer was active
//! 16    hash                               10      listpack: field, value, …
//! 17    sorted set                         10      listpack: member, score, …
//! 18    list, QUICKLIST_2                  10      count, (1 plain string | 2 listpack)*
//! 20    set                                11      listpack
//!
//! Redis:
//! 22    hash, METADATA of 7.4's release candidates      count, (TTL as length, field, value)*, TTL absolute, 0 none
//! 23    hash, LISTPACK_EX of the release candidates     listpack: field, value, TTL, …
//! 24    hash, METADATA                     12      least TTL in 8 bytes LE, count, (TTL, field, value)*,
//!                                                  TTL relative to the least, plus 1; 0 none
//! 25    hash, LISTPACK_EX                  12      least TTL, listpack: field, value, absolute TTL or 0, …
//! 26    stream of a later version          …       not read
//! Valkey:
//! 22    hash, HASH_2                       80      count, (field, value, TTL in 8 bytes LE)*, -1 none
//! ```

use crate::RdbError;
use crate::version::Dialect;

pub(crate) mod op {
    //! Opcodes count down from 255.
    /// Valkey 9: a slot being imported when the snapshot was made. Clusters only.
    pub const SLOT_IMPORT: u8 = 243;
    /// A slot's number, its keys and its keys with a TTL, as lengths: a sizing hint.
    pub const SLOT_INFO: u8 = 244;
    /// A function library's source, as a string.
    pub const FUNCTION2: u8 = 245;
    /// The form of functions in 7.0's release candidates, which no released server reads.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data of a module outside any key.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the next key was last used, as a length.
    pub const IDLE: u8 = 248;
    /// The next key's LFU counter, one byte.
    pub const FREQ: u8 = 249;
    /// Two strings: something about the file.
    pub const AUX: u8 = 250;
    /// Keys, and keys with a TTL, in the selected database, as lengths: a sizing hint.
    pub const RESIZEDB: u8 = 251;
    /// The next key's expiry: milliseconds since 1970, 8 bytes LE.
    pub const EXPIRETIME_MS: u8 = 252;
    /// The next key's expiry: seconds since 1970, 4 bytes LE.
    pub const EXPIRETIME: u8 = 253;
    /// The database of the keys that follow, as a length.
    pub const SELECTDB: u8 = 254;
    /// The end; 8 bytes of checksum follow since version 5.
    pub const EOF: u8 = 255;
}

pub(crate) mod module_op {
    //! What leads each item of a module's data.
    pub const EOF: u64 = 0;
    pub const SINT: u64 = 1;
    pub const UINT: u64 = 2;
    pub const FLOAT: u64 = 3;
    pub const DOUBLE: u64 = 4;
    pub const STRING: u64 = 5;
}

/// What kind of value a key has, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
}

/// A type tag that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    String,
    List,
    Set,
    Zset,
    Hash,
    Zset2,
    HashZipmap,
    ListZiplist,
    SetIntset,
    ZsetZiplist,
    HashZiplist,
    ListQuicklist,
    StreamListpacks,
    HashListpack,
    ZsetListpack,
    ListQuicklist2,
    StreamListpacks2,
    SetListpack,
    StreamListpacks3,
    HashMetadataPreGa,
    HashListpackExPreGa,
    HashMetadata,
    HashListpackEx,
    ValkeyHash2,
}

impl ValueType {
    pub const ALL: [ValueType; 24] = [
        ValueType::String,
        ValueType::List,
        ValueType::Set,
        ValueType::Zset,
        ValueType::Hash,
        ValueType::Zset2,
        ValueType::HashZipmap,
        ValueType::ListZiplist,
        ValueType::SetIntset,
        ValueType::ZsetZiplist,
        ValueType::HashZiplist,
        ValueType::ListQuicklist,
        ValueType::StreamListpacks,
        ValueType::HashListpack,
        ValueType::ZsetListpack,
        ValueType::ListQuicklist2,
        ValueType::StreamListpacks2,
        ValueType::SetListpack,
        ValueType::StreamListpacks3,
        ValueType::HashMetadataPreGa,
        ValueType::HashListpackExPreGa,
        ValueType::HashMetadata,
        ValueType::HashListpackEx,
        ValueType::ValkeyHash2,
    ];

    /// What `tag`, found at `offset`, means in a file of `dialect`. A tag that is known but not read, and
    /// one that is not known, are different errors.
    pub fn from_tag(tag: u8, dialect: Dialect, offset: u64) -> Result<ValueType, RdbError> {
        let unsupported = |name| Err(RdbError::UnsupportedType { tag, name, offset });
        match (tag, dialect) {
            (0, _) => Ok(ValueType::String),
            (1, _) => Ok(ValueType::List),
            (2, _) => Ok(ValueType::Set),
            (3, _) => Ok(ValueType::Zset),
            (4, _) => Ok(ValueType::Hash),
            (5, _) => Ok(ValueType::Zset2),
            (6 | 7, _) => unsupported("module"),
            (9, _) => Ok(ValueType::HashZipmap),
            (10, _) => Ok(ValueType::ListZiplist),
            (11, _) => Ok(ValueType::SetIntset),
            (12, _) => Ok(ValueType::ZsetZiplist),
            (13, _) => Ok(ValueType::HashZiplist),
            (14, _) => Ok(ValueType::ListQuicklist),
            (15, _) => Ok(ValueType::StreamListpacks),
            (16, _) => Ok(ValueType::HashListpack),
            (17, _) => Ok(ValueType::ZsetListpack),
            (18, _) => Ok(ValueType::ListQuicklist2),
            (19, _) => Ok(ValueType::StreamListpacks2),
            (20, _) => Ok(ValueType::SetListpack),
            (21, _) => Ok(ValueType::StreamListpacks3),
            (22, Dialect::Redis) => Ok(ValueType::HashMetadataPreGa),
            (23, Dialect::Redis) => Ok(ValueType::HashListpackExPreGa),
            (24, Dialect::Redis) => Ok(ValueType::HashMetadata),
            (25, Dialect::Redis) => Ok(ValueType::HashListpackEx),
            (26, Dialect::Redis) => unsupported("stream"),
            (22, Dialect::Valkey) => Ok(ValueType::ValkeyHash2),
            _ => Err(RdbError::UnknownOpcode { tag, offset }),
        }
    }

    pub fn tag(self) -> u8 {
        match self {
            ValueType::String => 0,
            ValueType::List => 1,
            ValueType::Set => 2,
            ValueType::Zset => 3,
            ValueType::Hash => 4,
            ValueType::Zset2 => 5,
            ValueType::HashZipmap => 9,
            ValueType::ListZiplist => 10,
            ValueType::SetIntset => 11,
            ValueType::ZsetZiplist => 12,
            ValueType::HashZiplist => 13,
            ValueType::ListQuicklist => 14,
            ValueType::StreamListpacks => 15,
            ValueType::HashListpack => 16,
            ValueType::ZsetListpack => 17,
            ValueType::ListQuicklist2 => 18,
            ValueType::StreamListpacks2 => 19,
            ValueType::SetListpack => 20,
            ValueType::StreamListpacks3 => 21,
            ValueType::HashMetadataPreGa | ValueType::ValkeyHash2 => 22,
            ValueType::HashListpackExPreGa => 23,
            ValueType::HashMetadata => 24,
            ValueType::HashListpackEx => 25,
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            ValueType::String => Kind::String,
            ValueType::List
            | ValueType::ListZiplist
            | ValueType::ListQuicklist
            | ValueType::ListQuicklist2 => Kind::List,
            ValueType::Set | ValueType::SetIntset | ValueType::SetListpack => Kind::Set,
            ValueType::Zset | ValueType::Zset2 | ValueType::ZsetZiplist | ValueType::ZsetListpack => {
                Kind::SortedSet
            }
            ValueType::Hash
            | ValueType::HashZipmap
            | ValueType::HashZiplist
            | ValueType::HashListpack
            | ValueType::HashMetadataPreGa
            | ValueType::HashListpackExPreGa
            | ValueType::HashMetadata
            | ValueType::HashListpackEx
            | ValueType::ValkeyHash2 => Kind::Hash,
            ValueType::StreamListpacks | ValueType::StreamListpacks2 | ValueType::StreamListpacks3 => {
                Kind::Stream
            }
        }
    }

    /// The name that redis-check-rdb prints for the tag.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::List => "list-linked",
            ValueType::Set => "set-hashtable",
            ValueType::Zset => "zset-v1",
            ValueType::Hash => "hash-hashtable",
            ValueType::Zset2 => "zset-v2",
            ValueType::HashZipmap => "hash-zipmap",
            ValueType::ListZiplist => "list-ziplist",
            ValueType::SetIntset => "set-intset",
            ValueType::ZsetZiplist => "zset-ziplist",
            ValueType::HashZiplist => "hash-ziplist",
            ValueType::ListQuicklist => "quicklist",
            ValueType::StreamListpacks => "stream",
            ValueType::HashListpack => "hash-listpack",
            ValueType::ZsetListpack => "zset-listpack",
            ValueType::ListQuicklist2 => "quicklist-v2",
            ValueType::StreamListpacks2 => "stream-v2",
            ValueType::SetListpack => "set-listpack",
            ValueType::StreamListpacks3 => "stream-v3",
            ValueType::HashMetadataPreGa => "hash-hashtable-md-pre-release",
            ValueType::HashListpackExPreGa => "hash-listpack-md-pre-release",
            ValueType::HashMetadata => "hash-hashtable-md",
            ValueType::HashListpackEx => "hash-listpack-md",
            ValueType::ValkeyHash2 => "hash-v2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_means_its_type_in_its_own_dialect() {
        for value_type in ValueType::ALL {
            let found = [Dialect::Redis, Dialect::Valkey]
                .map(|dialect| ValueType::from_tag(value_type.tag(), dialect, 0) == Ok(value_type));
            let want = match value_type {
                ValueType::ValkeyHash2 => [false, true],
                other => [true, other.tag() < 22],
            };
            assert_eq!(found, want, "{value_type:?}");
        }
    }

    #[test]
    fn unread_and_unknown_tags_are_told_apart() {
        let read = |tag, dialect| ValueType::from_tag(tag, dialect, 7);
        let stream = |tag| Err(RdbError::UnsupportedType { tag, name: "stream", offset: 7 });
        assert_eq!(read(26, Dialect::Redis), stream(26));
        assert_eq!(read(26, Dialect::Valkey), Err(RdbError::UnknownOpcode { tag: 26, offset: 7 }));
        assert_eq!(
            read(7, Dialect::Redis),
            Err(RdbError::UnsupportedType { tag: 7, name: "module", offset: 7 })
        );
        assert_eq!(read(8, Dialect::Redis), Err(RdbError::UnknownOpcode { tag: 8, offset: 7 }));
        assert_eq!(read(24, Dialect::Valkey), Err(RdbError::UnknownOpcode { tag: 24, offset: 7 }));
        assert_eq!(read(242, Dialect::Redis), Err(RdbError::UnknownOpcode { tag: 242, offset: 7 }));
    }
}
