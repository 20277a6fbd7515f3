//! RDB files of real servers (`data/README.md`) read completely, to exactly what the servers were told.

mod support;

use rdb::{Checksum, RdbError};
use std::collections::{BTreeMap, BTreeSet};
use support::{Snapshot, Stored, Value};

const REDIS_7: &[u8] = include_bytes!("data/redis-7.0.15.rdb");
const REDIS_7_PLAIN: &[u8] = include_bytes!("data/redis-7.0.15-plain.rdb");
const REDIS_8: &[u8] = include_bytes!("data/redis-8.2.3.rdb");
const VALKEY_9: &[u8] = include_bytes!("data/valkey-9.1.2.rdb");
const ALL: [&[u8]; 4] = [REDIS_7, REDIS_7_PLAIN, REDIS_8, VALKEY_9];

/// 2100-01-01.
const FAR: i64 = 4_102_444_800_000;

/// What `make.py` stores.
fn expected(ttl: bool) -> BTreeMap<(u32, Vec<u8>), Stored> {
    let long = "v".repeat(80);
    let string = |value: &str| Value::Str(value.into());
    let list = |elements: &[&str]| Value::List(elements.iter().map(|e| e.as_bytes().to_vec()).collect());
    let set = |members: &[&str]| Value::Set(members.iter().map(|e| e.as_bytes().to_vec()).collect());
    let zset = |members: &[(&str, f64)]| {
        Value::SortedSet(members.iter().map(|(member, score)| (member.as_bytes().to_vec(), *score)).collect())
    };
    let hash = |fields: &[(&str, &str, Option<i64>)]| {
        let field = |(name, value, at): &(&str, &str, Option<i64>)| {
            (name.as_bytes().to_vec(), (value.as_bytes().to_vec(), *at))
        };
        Value::Hash(fields.iter().map(field).collect())
    };
    let mut keys = BTreeMap::new();
    let mut put = |db, key: &str, expire_at_ms, value| {
        keys.insert((db, key.as_bytes().to_vec()), Stored { value, expire_at_ms });
    };
    put(0, "raw", Some(FAR), string("hello world"));
    put(0, "empty", None, string(""));
    put(0, "int8", None, string("-5"));
    put(0, "int16", None, string("1000"));
    put(0, "int32", None, string("-100000"));
    put(0, "int64", None, string("1234567890123"));
    put(0, "zeros", None, string("007"));
    put(0, "lzf", None, string(&"a".repeat(300)));
    put(0, "bytes", None, Value::Str((0..=255).collect()));
    put(0, "12345", None, string("by number"));
    put(0, &"k".repeat(100), None, string("by a compressed key"));
    put(0, "list:packed", Some(FAR + 1), list(&["1", "-1", "abc", "70000", "1099511627776"]));
    let many: Vec<Vec<u8>> = (0..600).map(|n| format!("element {n}").into_bytes()).collect();
    put(0, "list:nodes", None, Value::List(many));
    put(0, "list:plain", None, list(&[&"x".repeat(5000), "after"]));
    put(0, "set:intset", None, set(&["-1", "2", "70000", "1099511627776"]));
    put(0, "set:small", None, set(&["a", "b", "3"]));
    put(0, "set:table", Some(FAR + 2), set(&["a", "4", &long]));
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    put(0, "zset:small", Some(FAR + 3), zset(&[("a", 1.0), ("b", 2.5), ("c", low), ("d", high)]));
    put(0, "zset:table", None, zset(&[("a", 0.1), ("b", low), (&long, 1e100)]));
    put(0, "hash:small", None, hash(&[("f", "v", None), ("n", "17", None)]));
    put(0, "hash:table", Some(FAR + 4), hash(&[("f", &long, None), ("n", "17", None)]));
    if ttl {
        let small = [("f", "v", None), ("g", "w", Some(FAR + 5)), ("h", "x", Some(FAR + 4))];
        put(0, "ttl:small", None, hash(&small));
        let table = [("f", &*long, Some(FAR + 7)), ("g", "w", Some(FAR + 6)), ("h", "x", None)];
        put(0, "ttl:table", None, hash(&table));
    }
    put(3, "raw", None, string("in database 3"));
    put(15, "raw", Some(FAR), string("in database 15"));
    keys
}

fn read(file: &[u8]) -> Snapshot {
    Snapshot::read(file, file.len()).expect("a real file is read")
}

#[test]
fn everything_in_the_files_is_what_was_stored() {
    struct Case {
        file: &'static [u8],
        ttl: bool,
        functions: bool,
        checksum: Checksum,
        types: &'static [u8],
    }
    let seven = &[0, 2, 4, 5, 11, 16, 17, 18];
    let eight = &[0, 2, 4, 5, 11, 16, 17, 18, 20, 24, 25];
    let nine = &[0, 2, 4, 5, 11, 16, 17, 18, 20, 22];
    let (verified, disabled) = (Checksum::Verified, Checksum::Disabled);
    for case in [
        Case { file: REDIS_7, ttl: false, functions: true, checksum: verified, types: seven },
        Case { file: REDIS_7_PLAIN, ttl: false, functions: false, checksum: disabled, types: seven },
        Case { file: REDIS_8, ttl: true, functions: true, checksum: verified, types: eight },
        Case { file: VALKEY_9, ttl: true, functions: true, checksum: verified, types: nine },
    ] {
        let Case { file, ttl, functions, checksum, types } = case;
        let snapshot = read(file);
        let want = expected(ttl);
        for (key, stored) in &want {
            assert_eq!(snapshot.keys.get(key), Some(stored), "{}", key.1.escape_ascii());
        }
        assert_eq!(snapshot.keys.len(), want.len());
        assert_eq!(snapshot.checksum, Some(checksum));
        assert_eq!(snapshot.types, types.iter().copied().collect::<BTreeSet<u8>>());
        assert_eq!(snapshot.functions.len(), usize::from(functions));
        assert_eq!(snapshot.aux.get(&b"redis-bits"[..]).map(Vec::as_slice), Some(&b"64"[..]));
    }
    assert!(read(REDIS_7_PLAIN).freq);
    assert!(read(VALKEY_9).idle);
}

#[test]
fn any_slicing_gives_the_same() {
    for file in ALL {
        let whole = read(file);
        for piece in [1, 2, 3, 7, 61, 1000] {
            assert_eq!(Snapshot::read(file, piece).as_ref(), Ok(&whole), "pieces of {piece}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_truncated_and_nothing_else() {
    for file in ALL {
        for cut in 0..file.len() {
            match Snapshot::read(&file[..cut], cut.max(1)) {
                Err(RdbError::Truncated { offset }) => assert!(offset <= cut as u64),
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_never_goes_unnoticed() {
    for file in [REDIS_7, REDIS_8, VALKEY_9] {
        for at in 0..file.len() {
            let mut bad = file.to_vec();
            bad[at] ^= 1 << (at % 8);
            assert!(Snapshot::read(&bad, bad.len()).is_err(), "byte {at}");
        }
    }
}
