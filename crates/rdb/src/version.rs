//! RDB versions: what a file's first nine bytes, or the two bytes near a DUMP payload's end, say about how
//! the rest is to be read, and which forms a receiver understands.
//!
//! ```text
//! "REDIS" dddd      Redis, and Valkey before 9; dddd in 0001..=0012
//! "VALKEY" ddd      Valkey since 9; ddd is 080
//! ```
//!
//! The two lines forked at 11: Redis took 12 and on, Valkey jumped to 80, and type tags from 22 up mean
//! different things in them. A DUMP payload has the number alone, which is why Valkey jumped.

use crate::RdbError;

/// The newest version that is read and written in each line.
pub const REDIS_VERSION_MAX: u16 = 12;
pub const VALKEY_VERSION: u16 = 80;
/// The checksum at the end came with this version.
const CHECKSUM_SINCE: u16 = 5;

/// Whose meaning the tags from 22 up have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    Redis,
    Valkey,
}

/// A version that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    pub dialect: Dialect,
    pub number: u16,
}

impl Version {
    /// Bytes of a header.
    pub const HEADER_LEN: usize = 9;

    /// Reads a file's first nine bytes. Each magic goes with its own range of numbers only.
    pub fn from_header(header: &[u8; Version::HEADER_LEN]) -> Result<Version, RdbError> {
        let (dialect, digits) = if let Some(digits) = header.strip_prefix(b"REDIS") {
            (Dialect::Redis, digits)
        } else if let Some(digits) = header.strip_prefix(b"VALKEY") {
            (Dialect::Valkey, digits)
        } else {
            return Err(RdbError::WrongMagic);
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RdbError::WrongMagic);
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        let known = match dialect {
            Dialect::Redis => (1..=REDIS_VERSION_MAX).contains(&number),
            Dialect::Valkey => number == VALKEY_VERSION,
        };
        if known { Ok(Version { dialect, number }) } else { Err(RdbError::UnsupportedVersion(number)) }
    }

    /// Reads the number in a DUMP payload.
    pub fn from_dump(number: u16) -> Result<Version, RdbError> {
        match number {
            0..=REDIS_VERSION_MAX => Ok(Version { dialect: Dialect::Redis, number }),
            VALKEY_VERSION => Ok(Version { dialect: Dialect::Valkey, number }),
            _ => Err(RdbError::UnsupportedVersion(number)),
        }
    }

    pub fn has_checksum(self) -> bool {
        self.number >= CHECKSUM_SINCE
    }
}

/// A version to write: what the receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Redis 5 and 6: ziplists.
    V9,
    /// Redis 7.0: listpacks, functions.
    V10,
    /// Redis 7.2, Valkey 7.2 and 8: sets as listpacks.
    V11,
    /// Redis 7.4 and 8: hash fields with a TTL.
    V12,
    /// Valkey 9: hash fields with a TTL, in its own form.
    Valkey80,
}

impl Target {
    pub const ALL: [Target; 5] = [Target::V9, Target::V10, Target::V11, Target::V12, Target::Valkey80];

    pub fn number(self) -> u16 {
        match self {
            Target::V9 => 9,
            Target::V10 => 10,
            Target::V11 => 11,
            Target::V12 => REDIS_VERSION_MAX,
            Target::Valkey80 => VALKEY_VERSION,
        }
    }

    pub fn dialect(self) -> Dialect {
        if self == Target::Valkey80 { Dialect::Valkey } else { Dialect::Redis }
    }

    pub fn version(self) -> Version {
        Version { dialect: self.dialect(), number: self.number() }
    }

    /// Lists, hashes and sorted sets as listpacks (else as ziplists), and function libraries.
    pub fn has_listpacks(self) -> bool {
        self != Target::V9
    }

    pub fn has_functions(self) -> bool {
        self.has_listpacks()
    }

    pub fn has_set_listpack(self) -> bool {
        !matches!(self, Target::V9 | Target::V10)
    }

    pub fn has_field_ttl(self) -> bool {
        matches!(self, Target::V12 | Target::Valkey80)
    }

    pub fn header(self) -> [u8; Version::HEADER_LEN] {
        match self {
            Target::V9 => *b"REDIS0009",
            Target::V10 => *b"REDIS0010",
            Target::V11 => *b"REDIS0011",
            Target::V12 => *b"REDIS0012",
            Target::Valkey80 => *b"VALKEY080",
        }
    }
}

/// What a data set, or one value, holds that not every version can express.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// At least one hash field has a TTL.
    pub hash_field_ttl: bool,
    /// At least one function library.
    pub functions: bool,
    /// At least one stream: version 9 does not hold what it has behind it.
    pub streams: bool,
}

/// The oldest version that holds `features`. From field TTLs on the two lines differ, so the receiver's
/// `dialect` decides.
pub fn oldest_version_for(features: Features, dialect: Dialect) -> Target {
    match (features.hash_field_ttl, dialect) {
        (true, Dialect::Redis) => Target::V12,
        (true, Dialect::Valkey) => Target::Valkey80,
        (false, _) if features.functions || features.streams => Target::V10,
        (false, _) => Target::V9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_magic_goes_with_its_own_numbers() {
        let read = |header: &[u8; 9]| Version::from_header(header);
        assert_eq!(read(b"REDIS0001"), Ok(Version { dialect: Dialect::Redis, number: 1 }));
        assert_eq!(read(b"REDIS0012"), Ok(Version { dialect: Dialect::Redis, number: 12 }));
        assert_eq!(read(b"VALKEY080"), Ok(Version { dialect: Dialect::Valkey, number: 80 }));
        assert_eq!(read(b"REDIS0000"), Err(RdbError::UnsupportedVersion(0)));
        assert_eq!(read(b"REDIS0013"), Err(RdbError::UnsupportedVersion(13)));
        assert_eq!(read(b"REDIS0080"), Err(RdbError::UnsupportedVersion(80)));
        assert_eq!(read(b"VALKEY011"), Err(RdbError::UnsupportedVersion(11)));
        assert_eq!(read(b"VALKEY081"), Err(RdbError::UnsupportedVersion(81)));
        assert_eq!(read(b"REDIS00x1"), Err(RdbError::WrongMagic));
        assert_eq!(read(b"REDIX0011"), Err(RdbError::WrongMagic));
    }

    #[test]
    fn a_dump_number_in_the_gap_is_foreign() {
        assert_eq!(Version::from_dump(13), Err(RdbError::UnsupportedVersion(13)));
        assert_eq!(Version::from_dump(79), Err(RdbError::UnsupportedVersion(79)));
        assert_eq!(Version::from_dump(81), Err(RdbError::UnsupportedVersion(81)));
        for target in Target::ALL {
            assert_eq!(Version::from_dump(target.number()), Ok(target.version()));
            assert_eq!(Version::from_header(&target.header()), Ok(target.version()));
        }
    }

    #[test]
    fn the_oldest_version_is_chosen_by_what_there_is() {
        let oldest = |hash_field_ttl, functions, dialect| {
            oldest_version_for(Features { hash_field_ttl, functions, streams: false }, dialect)
        };
        assert_eq!(oldest(false, false, Dialect::Valkey), Target::V9);
        assert_eq!(oldest(false, true, Dialect::Redis), Target::V10);
        let streams = Features { streams: true, ..Features::default() };
        assert_eq!(oldest_version_for(streams, Dialect::Valkey), Target::V10);
        assert_eq!(oldest(true, false, Dialect::Redis), Target::V12);
        assert_eq!(oldest(true, true, Dialect::Valkey), Target::Valkey80);
    }
}
