//! What the server at the other end of a link can be sent: some of what a data set or a stream holds is younger than
//! some servers.
//!
//! Valkey tells its version (`REPLCONF version`), Redis 8 that it could take the snapshot on a connection of its own
//! (`capa rdb-channel-repl`), Kindred its name (`capa kindred`). Older servers of Redis tell nothing, and are taken for
//! what `repl-assume-rdb-version` says. From what cannot be sent follows a [`Refusal`](crate::refusal::Refusal): by name,
//! before anything is transferred.

use std::fmt;

/// Something in a data set or in a stream that not every server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Function libraries, streams with all that belongs to them, payloads of RDB version 10.
    Rdb10,
    /// Payloads of RDB version 11 (`RESTORE`).
    Rdb11,
    /// Payloads of RDB version 12.
    Rdb12,
    /// Payloads of Valkey's RDB version 80.
    Rdb80,
    /// Hash fields with an expiry, and the commands that came with them.
    FieldExpiries,
    /// Commands and options of Redis 8.2.
    Redis82,
    /// Commands and options of Valkey 9.
    Valkey9,
}

impl Feature {
    pub const ALL: [Feature; 7] = [
        Feature::Rdb10,
        Feature::Rdb11,
        Feature::Rdb12,
        Feature::Rdb80,
        Feature::FieldExpiries,
        Feature::Redis82,
        Feature::Valkey9,
    ];

    /// The servers that know it, in words.
    pub fn known_to(self) -> &'static str {
        match self {
            Feature::Rdb10 => "Redis 7.0 and any Valkey",
            Feature::Rdb11 => "Redis 7.2 and any Valkey",
            Feature::Rdb12 => "Redis 7.4",
            Feature::Rdb80 | Feature::Valkey9 => "Valkey 9",
            Feature::FieldExpiries => "Redis 7.4 and Valkey 9",
            Feature::Redis82 => "Redis 8.2",
        }
    }
}

/// A set of [`Feature`]s: what a command, or a data set, needs its reader to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    pub const NONE: Needs = Needs(0);

    pub const fn of(feature: Feature) -> Needs {
        Needs(1 << feature as u8)
    }

    pub const fn and(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.0 & Needs::of(*feature).0 != 0)
    }
}

/// Who reads the snapshot and the stream of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Kindred,
    /// By its major version.
    Valkey(u32),
    Redis8,
    /// It tells nothing of itself, and is taken to read RDB up to this version.
    Silent {
        rdb: u16,
    },
    /// It takes the bytes and runs nothing: `redis-cli --rdb`, `redis-cli --replica`.
    Tool,
}

impl Reader {
    pub fn knows(self, feature: Feature) -> bool {
        match (self, feature) {
            (Reader::Kindred | Reader::Tool, _) => true,
            (Reader::Valkey(_), Feature::Rdb10 | Feature::Rdb11) => true,
            (Reader::Valkey(_), Feature::Rdb12 | Feature::Redis82) => false,
            (Reader::Valkey(major), _) => major >= 9,
            (Reader::Redis8, feature) => !matches!(feature, Feature::Rdb80 | Feature::Valkey9),
            (Reader::Silent { rdb }, Feature::Rdb10) => rdb >= 10,
            (Reader::Silent { rdb }, Feature::Rdb11) => rdb >= 11,
            (Reader::Silent { rdb }, Feature::Rdb12 | Feature::FieldExpiries) => rdb >= 12,
            (Reader::Silent { .. }, _) => false,
        }
    }

    /// What it does not know of `needs`.
    pub fn lacks(self, needs: Needs) -> Option<Feature> {
        needs.iter().find(|feature| !self.knows(*feature))
    }

    /// Whether it reads field expiries in Valkey's form rather than in that of Redis.
    pub fn reads_valkey(self) -> bool {
        matches!(self, Reader::Kindred) || matches!(self, Reader::Valkey(major) if major >= 9)
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Kindred => write!(f, "is Kindred"),
            Reader::Valkey(major) => write!(f, "is Valkey {major}"),
            Reader::Redis8 => write!(f, "is Redis 8"),
            Reader::Silent { rdb } => {
                let redis = match rdb {
                    ..10 => "6",
                    10 => "7.0",
                    11 => "7.2",
                    _ => "7.4",
                };
                write!(
                    f,
                    "announces no version and is taken for Redis {redis} (repl-assume-rdb-version {rdb})"
                )
            }
            Reader::Tool => write!(f, "is a tool"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_what() {
        use Feature::*;
        let known = |reader: Reader| -> Vec<Feature> {
            Feature::ALL.into_iter().filter(|feature| reader.knows(*feature)).collect()
        };
        assert_eq!(known(Reader::Kindred), Feature::ALL);
        assert_eq!(known(Reader::Tool), Feature::ALL);
        assert_eq!(known(Reader::Redis8), [Rdb10, Rdb11, Rdb12, FieldExpiries, Redis82]);
        assert_eq!(known(Reader::Valkey(9)), [Rdb10, Rdb11, Rdb80, FieldExpiries, Valkey9]);
        assert_eq!(known(Reader::Valkey(8)), [Rdb10, Rdb11]);
        assert_eq!(known(Reader::Silent { rdb: 9 }), []);
        assert_eq!(known(Reader::Silent { rdb: 10 }), [Rdb10]);
        assert_eq!(known(Reader::Silent { rdb: 12 }), [Rdb10, Rdb11, Rdb12, FieldExpiries]);
    }

    #[test]
    fn needs_are_a_set() {
        let both = Needs::of(Feature::Rdb10).and(Needs::of(Feature::Redis82));
        assert_eq!(both.iter().collect::<Vec<_>>(), [Feature::Rdb10, Feature::Redis82]);
        assert_eq!(Reader::Valkey(9).lacks(both), Some(Feature::Redis82));
        assert_eq!(Reader::Redis8.lacks(both), None);
        assert!(Needs::NONE.is_empty() && Needs::NONE.iter().next().is_none());
    }
}
