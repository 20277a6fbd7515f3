//! What is encoded for any target is decoded to the same, through every form that the target has.

mod support;

use proptest::prelude::*;
use rdb::{Checksum, Crc64, EncodeError, Encoder, EncoderOptions, Node, RdbError, StrRef, Target, dump};
use rdb::{Event, Step};
use std::collections::{BTreeMap, BTreeSet};
use support::{Bytes, Snapshot, Stored, Value, intset, listpack};

/// A value and whether it is held in small form.
#[derive(Clone, Debug)]
struct Held {
    value: Value,
    small: bool,
    attributes: (Option<i64>, Option<u64>, Option<u8>),
}

/// Strings of each way to be stored: any bytes, integers, compressible, long.
fn string() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..70),
        2 => any::<i64>().prop_map(|int| int.to_string().into_bytes()),
        2 => (-40_000i64..40_000).prop_map(|int| int.to_string().into_bytes()),
        1 => "[ab]{21,200}".prop_map(String::into_bytes),
        1 => (16_000..17_000usize).prop_map(|len| b"0123456789".iter().copied().cycle().take(len).collect()),
    ]
}

fn expiry() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(1..(1i64 << 47))
}

fn value() -> impl Strategy<Value = Value> {
    let score = prop_oneof![any::<i32>().prop_map(f64::from), any::<f64>(), Just(f64::NEG_INFINITY)];
    let score = score.prop_filter("a score is a number", |score| !score.is_nan());
    prop_oneof![
        string().prop_map(Value::Str),
        prop::collection::vec(string(), 0..12).prop_map(Value::List),
        prop::collection::btree_set(string(), 0..12).prop_map(Value::Set),
        prop::collection::btree_set(any::<i64>(), 0..12)
            .prop_map(|ints| Value::Set(ints.iter().map(|int| int.to_string().into_bytes()).collect())),
        prop::collection::btree_map(string(), score, 0..12).prop_map(Value::SortedSet),
        prop::collection::btree_map(string(), (string(), Just(None)), 0..12).prop_map(Value::Hash),
        prop::collection::btree_map(string(), (string(), expiry()), 0..12).prop_map(Value::Hash),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    let attributes = (prop::option::of(any::<i64>()), prop::option::of(any::<u64>()), any::<Option<u8>>());
    (value(), any::<bool>(), attributes).prop_map(|(value, small, attributes)| Held {
        value,
        small,
        attributes,
    })
}

/// Encodes a value as a store would that holds it in that form.
fn encode(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    key: Option<&[u8]>,
    held: &Held,
) -> Result<(), EncodeError> {
    let count = |count: usize| count as u64;
    match (&held.value, held.small) {
        (Value::Stream(_), _) => unreachable!("streams have a test of their own"),
        (Value::Str(bytes), small) => {
            match std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
                Some(int) if small && i64::to_string(&int).as_bytes() == bytes => {
                    encoder.string(out, key, StrRef::Int(int));
                }
                _ => encoder.string(out, key, StrRef::Bytes(bytes)),
            }
        }
        (Value::List(list), true) => {
            encoder.list_begin(out, key, 1);
            encoder.list_node(out, Node::Packed(&listpack(list.iter().map(Vec::as_slice))))?;
        }
        (Value::List(list), false) => {
            // Long elements stand alone, as in a quicklist.
            encoder.list_begin(out, key, count(list.len()));
            for element in list {
                let packed = listpack([element.as_slice()]);
                let plain = element.len() > 100;
                encoder.list_node(out, if plain { Node::Plain(element) } else { Node::Packed(&packed) })?;
            }
        }
        (Value::Set(set), true) => {
            let ints: Option<BTreeSet<i64>> =
                set.iter().map(|member| std::str::from_utf8(member).ok()?.parse().ok()).collect();
            match ints.filter(|ints| ints.iter().all(|int| set.contains(int.to_string().as_bytes()))) {
                Some(ints) if ints.len() == set.len() => encoder.set_intset(out, key, &intset(&ints)),
                _ => encoder.set_listpack(out, key, &listpack(set.iter().map(Vec::as_slice)))?,
            }
        }
        (Value::Set(set), false) => {
            encoder.set_begin(out, key, count(set.len()));
            set.iter().for_each(|member| encoder.element(out, member));
        }
        (Value::SortedSet(zset), true) => {
            let flat: Vec<Bytes> =
                zset.iter().flat_map(|(member, score)| [member.clone(), format!("{score}").into()]).collect();
            encoder.zset_listpack(out, key, &listpack(flat.iter().map(Vec::as_slice)))?;
        }
        (Value::SortedSet(zset), false) => {
            encoder.zset_begin(out, key, count(zset.len()));
            zset.iter().rev().for_each(|(member, score)| encoder.scored(out, member, *score));
        }
        (Value::Hash(hash), small) => {
            let least = hash.values().filter_map(|(_, at)| *at).min();
            let flat = hash.iter().flat_map(|(name, (value, at))| {
                let at = least.map(|_| at.unwrap_or(0).to_string().into_bytes());
                [Some(name.clone()), Some(value.clone()), at].into_iter().flatten()
            });
            let flat: Vec<Bytes> = flat.collect();
            let packed = listpack(flat.iter().map(Vec::as_slice));
            match (least, small) {
                (None, true) => encoder.hash_listpack(out, key, &packed)?,
                (Some(_), true) => encoder.hash_ttl_listpack(out, key, &packed)?,
                (None, false) => {
                    encoder.hash_begin(out, key, count(hash.len()));
                    hash.iter().for_each(|(name, (value, _))| encoder.field(out, name, value));
                }
                (Some(least), false) => {
                    let fields = encoder.hash_ttl_begin(out, key, count(hash.len()), least)?;
                    for (name, (value, at)) in hash {
                        fields.field(encoder, out, name, value, *at);
                    }
                }
            }
        }
    }
    Ok(())
}

fn has_ttl(value: &Value) -> bool {
    matches!(value, Value::Hash(hash) if hash.values().any(|(_, at)| at.is_some()))
}

fn target() -> impl Strategy<Value = Target> {
    prop::sample::select(Target::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_comes_back(
        target in target(), compress: bool, checksum: bool, piece in 1..400usize, chunk_bytes in 1..2000usize,
        dbs in prop::collection::btree_map(0..20u32, prop::collection::btree_map(string(), held(), 0..6), 0..3),
        function in prop::option::of(string()),
    ) {
        let mut encoder = Encoder::new(target, EncoderOptions { compress });
        let (mut file, mut chunk, mut crc) = (Vec::new(), Vec::new(), Crc64::new());
        let mut want = BTreeMap::new();
        encoder.header(&mut chunk);
        encoder.aux(&mut chunk, b"redis-ver", b"7.2.4");
        if let Some(code) = &function {
            prop_assert_eq!(encoder.function(&mut chunk, code).is_ok(), target.has_functions());
        }
        for (db, keys) in &dbs {
            encoder.select_db(&mut chunk, *db);
            encoder.resize_db(&mut chunk, keys.len() as u64, 0);
            for (key, held) in keys {
                let (expire_at_ms, idle, freq) = held.attributes;
                let undo = chunk.len();
                encoder.key_attributes(&mut chunk, expire_at_ms, idle, freq);
                match encode(&mut encoder, &mut chunk, Some(key), held) {
                    Ok(()) => {
                        want.insert((*db, key.clone()), Stored { value: held.value.clone(), expire_at_ms });
                    }
                    Err(error) => {
                        prop_assert_eq!(error, EncodeError::NoFieldTtl(target));
                        prop_assert!(has_ttl(&held.value) && !target.has_field_ttl());
                        chunk.truncate(undo);
                    }
                }
                if chunk.len() > chunk_bytes {
                    crc.update(&chunk);
                    file.append(&mut chunk);
                }
            }
        }
        encoder.eof(&mut chunk, checksum.then_some(crc));
        file.append(&mut chunk);

        let snapshot = Snapshot::read(&file, piece).expect("what was encoded is decoded");
        prop_assert_eq!(&snapshot.keys, &want);
        prop_assert_eq!(snapshot.checksum, Some(if checksum { Checksum::Verified } else { Checksum::Disabled }));
        let functions: Vec<Bytes> = function.filter(|_| target.has_functions()).into_iter().collect();
        prop_assert_eq!(&snapshot.functions, &functions);
        prop_assert_eq!(snapshot.aux.get(&b"redis-ver"[..]).map(Vec::as_slice), Some(&b"7.2.4"[..]));
        let newest_tag = match target {
            Target::V9 => 14,
            Target::V10 => 18,
            Target::V11 => 20,
            Target::V12 => 25,
            Target::Valkey80 => 22,
        };
        prop_assert!(snapshot.types.iter().all(|tag| *tag <= newest_tag), "{:?}", snapshot.types);

        // Whatever is missing at the end is asked for.
        for cut in [0, file.len() / 3, file.len() / 2, file.len() - 1] {
            let truncated = matches!(Snapshot::read(&file[..cut], piece), Err(RdbError::Truncated { .. }));
            prop_assert!(truncated, "cut at {}", cut);
        }
    }

    #[test]
    fn a_dumped_value_comes_back(target in target(), compress: bool, held in held(), flip: prop::sample::Index) {
        let mut encoder = Encoder::new(target, EncoderOptions { compress });
        let mut payload = Vec::new();
        if encode(&mut encoder, &mut payload, None, &held).is_err() {
            return Ok(());
        }
        dump::seal(&mut payload, target);
        let restored = restore(&payload).expect("what was dumped is restored");
        prop_assert_eq!(restored, held.value);

        let at = flip.index(payload.len());
        payload[at] ^= 0x10;
        prop_assert!(restore(&payload).is_err());
    }
}

fn restore(payload: &[u8]) -> Result<Value, RdbError> {
    let (mut decoder, mut bytes) = dump::open(payload)?;
    let mut snapshot = Snapshot::default();
    loop {
        match decoder.next(bytes)? {
            Step::Event { event: Event::Eof { .. }, .. } => {
                let (_, stored) = snapshot.keys.pop_first().expect("one value was dumped");
                return Ok(stored.value);
            }
            Step::Event { event, consumed } => {
                snapshot.apply(event);
                bytes = &bytes[consumed..];
            }
            Step::NeedMore { .. } => return Err(decoder.truncated()),
        }
    }
}

/// Each form of each value for each target, so that no tag depends on what proptest happens to draw.
#[test]
fn every_form_has_its_tag() {
    let pairs = [("f", 1), ("g", 2)];
    let hash = |at| {
        let field = |(name, at): &(&str, Option<i64>)| (name.as_bytes().to_vec(), (b"v".to_vec(), *at));
        Value::Hash([("f", at), ("g", None)].iter().map(field).collect())
    };
    let values = [
        Value::Str(b"s".to_vec()),
        Value::List(vec![b"a".to_vec(), vec![b'b'; 200]]),
        Value::Set(pairs.iter().map(|(_, int)| int.to_string().into_bytes()).collect()),
        Value::Set(pairs.iter().map(|(name, _)| name.as_bytes().to_vec()).collect()),
        Value::SortedSet(
            pairs.iter().map(|(name, score)| (name.as_bytes().to_vec(), f64::from(*score))).collect(),
        ),
        hash(None),
        hash(Some(4_102_444_800_000)),
    ];
    // By value, the small form's tag and the table's; nothing where the target has none.
    let tags = |target: Target| {
        let [list, set, zset, hash] = match target {
            Target::V9 => [14, 2, 12, 13],
            Target::V10 => [18, 2, 17, 16],
            Target::V11 | Target::V12 | Target::Valkey80 => [18, 20, 17, 16],
        };
        let ttl = match target {
            Target::V12 => Some([25, 24]),
            Target::Valkey80 => Some([22, 22]),
            _ => None,
        };
        let plain = [[0, 0], [list, list], [11, 2], [set, 2], [zset, 5], [hash, 4]];
        plain.map(Some).into_iter().chain([ttl])
    };
    for target in Target::ALL {
        let tags = tags(target);
        for (value, tags) in values.iter().zip(tags) {
            for (n, small) in [true, false].into_iter().enumerate() {
                let held = Held { value: value.clone(), small, attributes: (None, None, None) };
                let mut encoder = Encoder::new(target, EncoderOptions::default());
                let mut payload = Vec::new();
                let encoded = encode(&mut encoder, &mut payload, None, &held);
                let Some(tags) = tags else {
                    assert_eq!(encoded, Err(EncodeError::NoFieldTtl(target)));
                    assert!(payload.is_empty());
                    continue;
                };
                assert_eq!(payload[0], tags[n], "{target:?} {value:?} {small}");
                dump::seal(&mut payload, target);
                assert_eq!(restore(&payload).as_ref(), Ok(value));
            }
        }
    }
}

/// DUMP of `HSET h f v g w`, `HPEXPIREAT h 4102444800000 FIELDS 1 f`: in valkey 9.1.2, and in redis 8.2.3 small
/// and, with a third field, as a table.
#[test]
fn real_payloads_of_hashes_with_field_ttls() {
    let valkey = b"\x16\x02\x01f\x01v\x00\xd8\xc3,\xbb\x03\x00\x00\x01g\x01w\xff\xff\xff\xff\xff\xff\xff\xffP\x00\xe6\n/u\xe1\xb4ZY";
    let small = b"\x19\x00\xd8\xc3,\xbb\x03\x00\x00\x1f\x1f\x00\x00\x00\x06\x00\x81f\x02\x81v\x02\xf4\x00\xd8\xc3,\xbb\x03\x00\x00\t\x81g\x02\x81w\x02\x00\x01\xff\x0c\x00\x846\xd9\x88\x88\x06\xec\x99";
    let table = b"\x18\x00\xd8\xc3,\xbb\x03\x00\x00\x03\x00\x01i\x01v\x01\x01f\x01v\x00\x01g\x01w\x0c\x00K(-\xca\xa9\xe4\xb5j";
    let field = |name: &str, value: &str, at| (name.as_bytes().to_vec(), (value.as_bytes().to_vec(), at));
    let (f, g) = (field("f", "v", Some(4_102_444_800_000)), field("g", "w", None));
    let two = Value::Hash([f.clone(), g.clone()].into());
    assert_eq!(restore(valkey).as_ref(), Ok(&two));
    assert_eq!(restore(small).as_ref(), Ok(&two));
    assert_eq!(restore(table), Ok(Value::Hash([f, g, field("i", "v", None)].into())));

    // The listpack in the small one, encoded for both.
    let listpack = &small[10..10 + 0x1f];
    for (target, want) in [(Target::V12, &small[..]), (Target::Valkey80, &valkey[..])] {
        let mut encoder = Encoder::new(target, EncoderOptions::default());
        let mut payload = Vec::new();
        encoder.hash_ttl_listpack(&mut payload, None, listpack).expect("both have field TTLs");
        dump::seal(&mut payload, target);
        assert_eq!(payload, want);
    }
}
