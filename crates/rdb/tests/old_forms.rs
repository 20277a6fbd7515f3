//! Forms that are read but not written any more, byte by byte after the table in `opcode`, and records that
//! only some servers write.

mod support;

use rdb::{
    Checksum, DecodeOptions, Decoder, Dialect, Encoder, EncoderOptions, Event, RdbError, Step, Target,
    Version, crc64, dump,
};
use support::{Snapshot, Stored, Value};

/// A file of `version` around `records`, with a checksum if the version has one.
fn file(version: u16, records: &[u8]) -> Vec<u8> {
    let mut file = b"REDIS".to_vec();
    file.extend_from_slice(format!("{version:04}").as_bytes());
    file.extend_from_slice(records);
    file.push(0xff);
    if version >= 5 {
        let sum = crc64(&file);
        file.extend_from_slice(&sum.to_le_bytes());
    }
    file
}

/// Reads it whole and sliced, checks that every cut is noticed, and gives the only key's value.
fn only_value(version: u16, record: &[u8]) -> Result<Stored, RdbError> {
    let file = file(version, record);
    let mut snapshot = Snapshot::read(&file, file.len())?;
    assert_eq!(Snapshot::read(&file, 1).as_ref(), Ok(&snapshot));
    for cut in 0..file.len() {
        assert!(
            matches!(Snapshot::read(&file[..cut], cut.max(1)), Err(RdbError::Truncated { .. })),
            "cut at {cut}"
        );
    }
    let checksum = if version < 5 { Checksum::Absent } else { Checksum::Verified };
    assert_eq!(snapshot.checksum, Some(checksum));
    let (_, stored) = snapshot.keys.pop_first().expect("there is a key");
    assert!(snapshot.keys.is_empty());
    Ok(stored)
}

fn value(version: u16, record: &[u8]) -> Value {
    only_value(version, record).expect("the form is read").value
}

fn list(elements: &[&str]) -> Value {
    Value::List(elements.iter().map(|element| element.as_bytes().to_vec()).collect())
}

fn hash(fields: &[(&str, &str, Option<i64>)]) -> Value {
    let field = |(name, value, at): &(&str, &str, Option<i64>)| {
        (name.as_bytes().to_vec(), (value.as_bytes().to_vec(), *at))
    };
    Value::Hash(fields.iter().map(field).collect())
}

fn zset(members: &[(&str, f64)]) -> Value {
    Value::SortedSet(members.iter().map(|(member, score)| (member.as_bytes().to_vec(), *score)).collect())
}

#[test]
fn expiry_in_seconds_is_given_in_milliseconds() {
    let stored = only_value(1, b"\xfe\x00\xfd\x00\x94\x35\x77\x00\x01k\x01v").expect("read");
    assert_eq!(stored, Stored { value: Value::Str(b"v".to_vec()), expire_at_ms: Some(2_000_000_000_000) });
}

#[test]
fn linked_list_and_set_of_strings_in_every_packing() {
    let record = b"\x01\x01k\x05\x01a\xc0\xfe\xc1\x18\xfc\xc2\x60\x79\xfe\xff\xc3\x05\x0a\x00a\xe0\x00\x00";
    assert_eq!(value(6, record), list(&["a", "-2", "-1000", "-100000", "aaaaaaaaaa"]));
    let set = value(4, b"\x02\x01k\x02\x01a\x01b");
    assert_eq!(set, Value::Set([b"a".to_vec(), b"b".to_vec()].into()));
}

#[test]
fn scores_in_ascii_and_the_special_ones() {
    let record = b"\x03\x01k\x04\x01a\x011\x01b\x0817179e-3\x01c\xfe\x01d\xff";
    let members = [("a", 1.0), ("b", 17.179), ("c", f64::INFINITY), ("d", f64::NEG_INFINITY)];
    assert_eq!(value(1, record), zset(&members));
    let nan = "sorted set with a score that is not a number";
    assert_eq!(only_value(1, b"\x03\x01k\x01\x01a\xfd"), Err(RdbError::Corrupt { what: nan, offset: 16 }));
    assert_eq!(
        only_value(8, b"\x05\x01k\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f"),
        Err(RdbError::Corrupt { what: nan, offset: 23 })
    );
    let what = "score that does not read as a number";
    assert_eq!(only_value(1, b"\x03\x01k\x01\x01a\x021x"), Err(RdbError::Corrupt { what, offset: 18 }));
}

#[test]
fn zipmap_ziplists_and_intset() {
    assert_eq!(value(2, b"\x09\x01k\x08\x01\x01f\x01\x01v_\xff"), hash(&[("f", "v", None)]));
    // 2 and 5, as in the format's description.
    let ziplist = b"\x0f\x0f\0\0\0\x0c\0\0\0\x02\0\0\xf3\x02\xf6\xff";
    let with = |head: &[u8]| [head, ziplist].concat();
    assert_eq!(value(4, &with(b"\x0a\x01k")), list(&["2", "5"]));
    assert_eq!(value(4, &with(b"\x0c\x01k")), zset(&[("2", 5.0)]));
    assert_eq!(value(4, &with(b"\x0d\x01k")), hash(&[("2", "5", None)]));
    assert_eq!(value(7, &[&with(b"\x0e\x01k\x02"), &ziplist[..]].concat()), list(&["2", "5", "2", "5"]));
    let intset = value(3, b"\x0b\x01k\x0a\x02\0\0\0\x01\0\0\0\xfe\xff");
    assert_eq!(intset, Value::Set([b"-2".to_vec()].into()));
}

#[test]
fn field_ttls_of_release_candidates_are_absolute() {
    let record = b"\x16\x01k\x02\x00\x01f\x01v\x80\x77\x35\x94\x00\x01g\x01w";
    assert_eq!(value(12, record), hash(&[("f", "v", None), ("g", "w", Some(2_000_000_000))]));
    let triple = b"\x17\x01k\x10\x10\0\0\0\x03\0\x81f\x02\x81v\x02\xc7\xd0\x02\xff";
    assert_eq!(value(12, triple), hash(&[("f", "v", Some(2000))]));
    let beyond = b"\x16\x01k\x01\x81\x00\x01\x00\x00\x00\x00\x00\x00\x01f\x01v";
    let what = "hash field that expires beyond all time";
    assert_eq!(only_value(12, beyond), Err(RdbError::Corrupt { what, offset: 22 }));
    let relative = b"\x18\x01k\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x01f\x01v";
    assert_eq!(only_value(12, relative), Err(RdbError::Corrupt { what, offset: 22 }));
}

#[test]
fn an_empty_collection_is_given_as_it_is() {
    assert_eq!(value(9, b"\x02\x01k\x00"), Value::Set([].into()));
}

/// Everything that is not a key's value, in one stream, with what each step gives.
#[test]
fn records_around_keys() {
    let records = b"\xfa\x01a\xc0\x05\
        \xf7\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x01\x01\x3f\x02\x07\x03aaaa\x04bbbbbbbb\x05\x02xy\x05\xc0\x01\x00\
        \xf5\x03fun\
        \xfe\x40\xff\
        \xfb\x02\x01\
        \xf4\x05\x02\x01\
        \xf9\x07\xf8\x40\x64\xfc\x01\0\0\0\0\0\0\0\x00\xc0\x07\x00";
    let file = file(12, records);
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut rest = &file[..];
    let mut seen = Vec::new();
    while let Step::Event { event, consumed } = decoder.next(rest).expect("all is well formed") {
        rest = &rest[consumed..];
        seen.push(format!("{event:?}"));
        if matches!(event, Event::Eof { .. }) {
            break;
        }
    }
    assert_eq!(
        seen,
        [
            "Header(Version { dialect: Redis, number: 12 })",
            r#"Aux { key: [97], value: [53] }"#,
            r#"ModuleAux { name: "AQIDBAUGB", when: 1 }"#,
            "Function([102, 117, 110])",
            "SelectDb(255)",
            "ResizeDb { keys: 2, expires: 1 }",
            "SlotInfo { slot: 5, keys: 2, expires: 1 }",
            "Key(Key { key: [55], expire_at_ms: Some(1), idle_s: Some(100), freq: Some(7), value_type: String })",
            "Str(Bytes([]))",
            "Eof { checksum: Verified }",
        ]
    );
    assert_eq!(decoder.offset(), file.len() as u64);
    for piece in [1, 2, 5] {
        assert!(Snapshot::read(&file, piece).is_ok());
    }
}

#[test]
fn what_is_known_but_not_read_is_named() {
    let refused = |version, record: &[u8]| only_value(version, record).expect_err("it is refused");
    let unsupported = |tag, name| RdbError::UnsupportedType { tag, name, offset: 9 };
    assert_eq!(refused(12, b"\x1a\x01k"), unsupported(26, "stream"));
    // Behind the key stands the number of the module.
    let module = b"\x07\x01k\x81\0\0\0\0\0\0\0\0";
    assert_eq!(refused(9, module), unsupported(7, "module"));
    let mut decoder = Decoder::new(DecodeOptions::default());
    let bytes = file(9, module);
    let Ok(Step::Event { consumed, .. }) = decoder.next(&bytes) else { panic!("a header") };
    assert_eq!(decoder.next(&bytes[consumed..]), Err(unsupported(7, "module")));
    let (key, name) = decoder.unread().expect("it knows whose value that was");
    assert_eq!((key, name.expect("of a module").as_str()), (b"k".as_slice(), "AAAAAAAAA"));
    assert_eq!(refused(10, b"\xf6"), unsupported(246, "pre-release function"));
    assert_eq!(refused(12, b"\xf3"), RdbError::UnknownOpcode { tag: 243, offset: 9 });
    assert_eq!(refused(9, b"\x08"), RdbError::UnknownOpcode { tag: 8, offset: 9 });
    assert_eq!(refused(12, b"\x1b"), RdbError::UnknownOpcode { tag: 27, offset: 9 });
    let valkey = Snapshot::read(b"VALKEY080\xf3", 100);
    assert_eq!(valkey, Err(unsupported(243, "slot import")));
    assert_eq!(Snapshot::read(b"VALKEY080\x18", 100), Err(RdbError::UnknownOpcode { tag: 24, offset: 9 }));
}

#[test]
fn headers_and_checksums_that_are_wrong() {
    assert_eq!(Snapshot::read(b"NOTREDIS!!", 100), Err(RdbError::WrongMagic));
    assert_eq!(Snapshot::read(b"REDIS0013\xff", 100), Err(RdbError::UnsupportedVersion(13)));
    let mut bad = file(9, b"");
    let stated = crc64(&bad[..10]);
    bad[10] ^= 1;
    assert_eq!(
        Snapshot::read(&bad, 100),
        Err(RdbError::ChecksumMismatch { stated: stated ^ 1, computed: stated })
    );
    let mut decoder = Decoder::new(DecodeOptions { verify_checksum: false });
    let Ok(Step::Event { consumed, .. }) = decoder.next(&bad) else { panic!("a header") };
    let eof = decoder.next(&bad[consumed..]).expect("not compared");
    assert_eq!(eof, Step::Event { event: Event::Eof { checksum: Checksum::Skipped }, consumed: 9 });
    // The end stays the end.
    assert_eq!(
        decoder.next(b""),
        Ok(Step::Event { event: Event::Eof { checksum: Checksum::Skipped }, consumed: 0 })
    );
}

/// Tag 22 is what the version says it is.
#[test]
fn the_same_tag_in_two_dialects() {
    let mut encoder = Encoder::new(Target::Valkey80, EncoderOptions::default());
    let mut out = Vec::new();
    let fields = encoder.hash_ttl_begin(&mut out, None, 1, 5).expect("Valkey has field TTLs");
    fields.field(&mut encoder, &mut out, b"f", b"v", Some(5));
    assert_eq!(out, b"\x16\x01\x01f\x01v\x05\0\0\0\0\0\0\0");
    dump::seal(&mut out, Target::Valkey80);
    let (decoder, _) = dump::open(&out).expect("sealed just now");
    assert_eq!(decoder.version(), Version { dialect: Dialect::Valkey, number: 80 });
    assert_eq!(value(12, b"\x16\x01k\x01\x05\x01f\x01v"), hash(&[("f", "v", Some(5))]));
}
