//! Key specs: where the keys of a command stand among its arguments, as data.
//!
//! A spec first finds the argument where keys begin, at a fixed index or after a keyword, and then says how many
//! there are: a range, or a number given by an argument. Source of the model: the "Command key specifications" page
//! of the Redis documentation.

use resp::Args;
use smallvec::SmallVec;

use crate::bits::{Flag, Flags, Key, KeyFlags};
use crate::number::parse_i64;
use crate::parse::is_token;

/// Where some keys of a command stand, and what it does to them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: BeginSearch,
    pub find: FindKeys,
    pub flags: KeyFlags,
    /// Text for COMMAND INFO; empty for none.
    pub notes: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// Keys begin at this argument; the command's name is 0.
    Index(u16),
    /// Keys begin after this keyword, searched from argument `start_from` on, or backwards from that many before
    /// the end when negative.
    Keyword { keyword: &'static str, start_from: i16 },
    /// Nothing that a spec could say: [`Command::get_keys`](crate::Command::get_keys) knows.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// The last key is `last` after the first, or, when negative, counted from the end, -1 being the last argument.
    /// With a `limit` of n above 1, only the first n-th of what follows is keys. Every `step`-th argument is one.
    Range {
        last: i16,
        step: u16,
        limit: u16,
    },
    /// The argument `count_at` after the beginning holds the number of keys, the first of which is `first` after
    /// the beginning.
    Count {
        count_at: u16,
        first: u16,
        step: u16,
    },
    Unknown,
}

impl KeySpec {
    /// One key at argument `index`.
    pub const fn at(index: u16, flags: &[Key]) -> KeySpec {
        KeySpec::range(index, 0, 1, flags)
    }

    /// Keys from argument `first` on, every `step`-th; for `last` see [`FindKeys::Range`].
    pub const fn range(first: u16, last: i16, step: u16, flags: &[Key]) -> KeySpec {
        KeySpec {
            begin: BeginSearch::Index(first),
            find: FindKeys::Range { last, step, limit: 0 },
            flags: KeyFlags::of(flags),
            notes: "",
        }
    }

    /// Argument `index` holds the number of keys that follow it.
    pub const fn count_at(index: u16, flags: &[Key]) -> KeySpec {
        KeySpec {
            begin: BeginSearch::Index(index),
            find: FindKeys::Count { count_at: 0, first: 1, step: 1 },
            flags: KeyFlags::of(flags),
            notes: "",
        }
    }

    /// Keys after a keyword; one key unless `find` is replaced.
    pub const fn after(keyword: &'static str, start_from: i16, flags: &[Key]) -> KeySpec {
        KeySpec {
            begin: BeginSearch::Keyword { keyword, start_from },
            find: FindKeys::Range { last: 0, step: 1, limit: 0 },
            flags: KeyFlags::of(flags),
            notes: "",
        }
    }

    /// A spec that only tells that there are keys.
    pub const fn unknown(flags: &[Key]) -> KeySpec {
        KeySpec {
            begin: BeginSearch::Unknown,
            find: FindKeys::Unknown,
            flags: KeyFlags::of(flags),
            notes: "",
        }
    }

    pub const fn find(mut self, find: FindKeys) -> KeySpec {
        self.find = find;
        self
    }

    pub const fn notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = notes;
        self
    }

    /// Appends the keys that this spec finds; false when the arguments do not fit it.
    fn extract(&self, args: Args<'_>, keys: &mut Keys) -> bool {
        let argc = args.len() as i64;
        let begin = match self.begin {
            BeginSearch::Index(index) => i64::from(index),
            BeginSearch::Keyword { keyword, start_from } => match keyword_at(args, keyword, start_from) {
                Some(at) => at as i64 + 1,
                None => return true, // the keyword is optional
            },
            BeginSearch::Unknown => return false,
        };
        let (first, last, step) = match self.find {
            FindKeys::Range { last, step, .. } if last >= 0 => (begin, begin + i64::from(last), step),
            FindKeys::Range { last, step, limit: 0 } => (begin, argc + i64::from(last), step),
            FindKeys::Range { last, step, limit } => {
                (begin, begin + (argc - begin) / i64::from(limit) + i64::from(last), step)
            }
            FindKeys::Count { count_at, first, step } => {
                let count =
                    usize::try_from(begin).ok().and_then(|begin| args.get(begin + usize::from(count_at)));
                let Some(count) = count.and_then(parse_i64).filter(|count| *count >= 0) else { return false };
                let first = begin + i64::from(first);
                (first, first.saturating_add((count - 1).saturating_mul(i64::from(step.max(1)))), step)
            }
            FindKeys::Unknown => return false,
        };
        if first < 1 || last < first || last >= argc {
            return false;
        }
        let indices = (first..=last).step_by(usize::from(step.max(1)));
        keys.extend(indices.map(|index| KeyRef { index: index as u32, flags: self.flags }));
        !self.flags.has(Key::Incomplete)
    }
}

/// Index of the keyword among the arguments. Backwards, the search ends before argument 1, as in Redis.
fn keyword_at(args: Args<'_>, keyword: &str, start_from: i16) -> Option<usize> {
    let is_keyword = |index: &usize| args.get(*index).is_some_and(|arg| is_token(arg, keyword));
    if start_from > 0 {
        // Nothing can follow the last argument.
        (usize::from(start_from.unsigned_abs())..args.len().saturating_sub(1)).find(is_keyword)
    } else {
        let start = args.len().checked_sub(usize::from(start_from.unsigned_abs()))?;
        (2..=start.min(args.len().saturating_sub(1))).rev().find(is_keyword)
    }
}

/// A key among the arguments of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    pub index: u32,
    pub flags: KeyFlags,
}

/// Keys of one command; no allocation for the usual few.
pub type Keys = SmallVec<[KeyRef; 8]>;

/// All keys that the specs find, those that are not keys left out; `None` when the arguments do not fit, or a spec
/// is incomplete.
pub(crate) fn extract(specs: &[KeySpec], args: Args<'_>) -> Option<Keys> {
    let mut keys = Keys::new();
    let real = specs.iter().filter(|spec| !spec.flags.has(Key::NotKey));
    real.into_iter().all(|spec| spec.extract(args, &mut keys)).then_some(keys)
}

/// First key, last key and step as clients of old read them in COMMAND INFO; all 0 when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyRange {
    pub first: i64,
    /// Negative when counted from the end.
    pub last: i64,
    pub step: i64,
}

/// The legacy range that the specs amount to, and whether it misses keys (`movablekeys`).
pub(crate) fn legacy_range(specs: &[KeySpec]) -> (LegacyRange, Flags) {
    let absolute =
        |first: u16, last: i16| if last < 0 { i64::from(last) } else { i64::from(first) + i64::from(last) };
    let movable = |movable: bool| if movable { Flags::of(&[Flag::Movablekeys]) } else { Flags::NONE };
    if let [
        KeySpec { begin: BeginSearch::Index(first), find: FindKeys::Range { last, step, .. }, flags, .. },
    ] = specs
    {
        let range =
            LegacyRange { first: i64::from(*first), last: absolute(*first, *last), step: i64::from(*step) };
        return (range, movable(flags.has(Key::Incomplete)));
    }
    // Several specs: those that are plain ranges and follow each other make one.
    let mut range: Option<LegacyRange> = None;
    let mut misses = false;
    for spec in specs {
        let (BeginSearch::Index(first), FindKeys::Range { last, step: 1, .. }) = (spec.begin, spec.find)
        else {
            misses = true;
            continue;
        };
        let last = absolute(first, last);
        let first = i64::from(first);
        range = match range {
            None => Some(LegacyRange { first, last, step: 1 }),
            Some(range) if range.last != first - 1 => {
                misses = true;
                continue;
            }
            // From the end is later than any index.
            Some(range) => Some(LegacyRange {
                first: range.first.min(first),
                last: if last < 0 || range.last < 0 { last.min(range.last) } else { last.max(range.last) },
                step: 1,
            }),
        };
        misses |= spec.flags.has(Key::Incomplete);
    }
    (range.unwrap_or_default(), movable(misses || range.is_none() && !specs.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use resp::ArgsBuf;

    const RO: &[Key] = &[Key::Ro, Key::Access];
    const STREAMS: KeySpec =
        KeySpec::after("STREAMS", 1, RO).find(FindKeys::Range { last: -1, step: 1, limit: 2 });
    const MIGRATE: [KeySpec; 2] = [
        KeySpec::at(3, &[Key::Rw, Key::Incomplete]),
        KeySpec::after("KEYS", -2, &[Key::Rw, Key::Incomplete]).find(FindKeys::Range {
            last: -1,
            step: 1,
            limit: 0,
        }),
    ];

    fn indices(specs: &[KeySpec], line: &str) -> Option<Vec<u32>> {
        let args: ArgsBuf = line.split(' ').collect();
        extract(specs, args.as_args()).map(|keys| keys.iter().map(|key| key.index).collect())
    }

    #[test]
    fn ranges() {
        assert_eq!(indices(&[], "ping"), Some(vec![]));
        assert_eq!(indices(&[KeySpec::at(1, RO)], "get k"), Some(vec![1]));
        assert_eq!(indices(&[KeySpec::at(1, RO)], "get"), None);
        assert_eq!(indices(&[KeySpec::range(1, -1, 1, RO)], "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(indices(&[KeySpec::range(1, -1, 2, RO)], "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(indices(&[KeySpec::range(1, -2, 1, RO)], "blpop a b 0"), Some(vec![1, 2]));
        assert_eq!(indices(&[KeySpec::range(1, -2, 1, RO)], "blpop 0"), None);
        assert_eq!(indices(&[KeySpec::at(1, RO), KeySpec::at(2, RO)], "rename a b"), Some(vec![1, 2]));
        assert_eq!(indices(&[KeySpec::at(1, &[Key::NotKey])], "publish ch m"), Some(vec![]));
    }

    #[test]
    fn counts() {
        let zunionstore = [KeySpec::at(1, &[Key::Ow]), KeySpec::count_at(2, RO)];
        assert_eq!(indices(&zunionstore, "zunionstore d 2 a b weights 1 2"), Some(vec![1, 3, 4]));
        for line in [
            "zunionstore d x a",
            "zunionstore d 0 a",
            "zunionstore d 3 a b",
            "zunionstore d -1 a",
            "zunionstore d",
        ] {
            assert_eq!(indices(&zunionstore, line), None, "{line}");
        }
        assert_eq!(indices(&[KeySpec::count_at(2, RO)], "eval s 9223372036854775807 k"), None);
        let msetex = KeySpec::count_at(1, RO).find(FindKeys::Count { count_at: 0, first: 1, step: 2 });
        assert_eq!(indices(&[msetex], "msetex 2 a 1 b 2 nx"), Some(vec![2, 4]));
        assert_eq!(indices(&[msetex], "msetex 9223372036854775807 a 1"), None);
    }

    #[test]
    fn keywords() {
        assert_eq!(indices(&[STREAMS], "xread count 1 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(indices(&[STREAMS], "xread streams a 0"), Some(vec![2]));
        assert_eq!(indices(&[STREAMS], "xread count 1"), Some(vec![]));
        assert_eq!(indices(&[STREAMS], "xread count streams"), Some(vec![]));
        let backwards =
            [KeySpec::after("KEYS", -2, RO).find(FindKeys::Range { last: -1, step: 1, limit: 0 })];
        assert_eq!(indices(&backwards, "migrate h p  0 5 KEYS a b"), Some(vec![7, 8]));
        assert_eq!(indices(&backwards, "migrate KEYS a"), Some(vec![]));
        assert_eq!(indices(&MIGRATE, "migrate h p k 0 5"), None);
        assert_eq!(indices(&[KeySpec::unknown(RO)], "sort k"), None);
    }

    #[test]
    fn flags_come_with_the_keys() {
        let args: ArgsBuf = ["get", "k"].into_iter().collect();
        let keys = extract(&[KeySpec::at(1, RO)], args.as_args()).unwrap();
        assert_eq!(keys[0], KeyRef { index: 1, flags: KeyFlags::of(RO) });
        assert!(!keys.spilled());
    }

    #[test]
    fn legacy_ranges() {
        let check = |specs: &[KeySpec], first, last, step, movable| {
            let (range, flags) = legacy_range(specs);
            assert_eq!(
                (range, flags.has(Flag::Movablekeys)),
                (LegacyRange { first, last, step }, movable),
                "{specs:?}"
            );
        };
        check(&[], 0, 0, 0, false); // PING
        check(&[KeySpec::at(1, RO)], 1, 1, 1, false); // GET
        check(&[KeySpec::range(1, -1, 2, RO)], 1, -1, 2, false); // MSET
        check(&[KeySpec::range(1, -2, 1, RO)], 1, -2, 1, false); // BLPOP
        check(&[KeySpec::at(1, RO), KeySpec::at(2, RO)], 1, 2, 1, false); // RENAME
        check(&[KeySpec::at(1, RO), KeySpec::range(2, -1, 1, RO)], 1, -1, 1, false); // SDIFFSTORE
        check(&[KeySpec::at(1, RO), KeySpec::count_at(2, RO)], 1, 1, 1, true); // ZUNIONSTORE
        check(&[KeySpec::at(1, RO), KeySpec::unknown(RO), KeySpec::unknown(RO)], 1, 1, 1, true); // SORT
        check(&[KeySpec::count_at(2, RO)], 0, 0, 0, true); // EVAL
        check(&[STREAMS], 0, 0, 0, true); // XREAD
        check(&MIGRATE, 3, 3, 1, true);
        check(&[KeySpec::at(2, RO), KeySpec::at(4, RO)], 2, 2, 1, true);
        check(&[KeySpec::at(1, &[Key::Incomplete])], 1, 1, 1, true);
    }

    proptest! {
        #[test]
        fn keys_are_always_arguments(
            words in prop::collection::vec("streams|keys|[0-3]|-1|[a-c]", 0..9),
            first in 0u16..4, last in -3i16..4, step in 0u16..3, limit in 0u16..3, from in -4i16..4, kind in 0..4,
        ) {
            let args: ArgsBuf = words.iter().collect();
            let find = FindKeys::Range { last, step, limit };
            let count = FindKeys::Count { count_at: step, first, step: limit };
            let spec = match kind {
                0 => KeySpec::at(first, RO).find(find),
                1 => KeySpec::at(first, RO).find(count),
                2 => KeySpec::after("KEYS", from, RO).find(find),
                _ => KeySpec::after("STREAMS", from, RO).find(count),
            };
            for key in extract(&[spec], args.as_args()).unwrap_or_default() {
                prop_assert!((1..words.len()).contains(&(key.index as usize)));
            }
        }
    }
}
