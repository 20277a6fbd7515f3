//! Streams against a list of entries.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn limits(entries: usize, bytes: usize) -> EncodingLimits {
    EncodingLimits { stream_node_entries: entries, stream_node_bytes: bytes, ..EncodingLimits::default() }
}

type Fields = Vec<Vec<u8>>;

fn read(mut cursor: Cursor<'_>, skip_fields: bool) -> Vec<(StreamId, Fields)> {
    let mut out = Vec::new();
    while let Some(at) = cursor.next() {
        let mut fields = Vec::new();
        let wanted = if skip_fields && at.id.seq.is_multiple_of(2) { at.fields / 2 } else { at.fields };
        for _ in 0..wanted {
            let (name, value) = cursor.field();
            fields.push(name.to_vec());
            fields.push(value.to_vec());
        }
        out.push((at.id, fields));
    }
    out
}

fn add(stream: &mut Stream, id: StreamId, fields: &Fields, limits: &EncodingLimits) {
    stream.add(id, fields.iter().map(Vec::as_slice), limits).unwrap();
}

fn fields(names: &[&str]) -> Fields {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn nodes_have_the_bytes_of_redis() {
    // DUMP of `XADD k 1-1 a 1`, `XADD k 1-2 a hello`, `XADD k 3-0 b 200` in redis 7.0.15, the listpack only.
    let mut stream = Stream::new();
    for (id, names) in [((1, 1), ["a", "1"]), ((1, 2), ["a", "hello"]), ((3, 0), ["b", "200"])] {
        add(&mut stream, StreamId::new(id.0, id.1), &fields(&names), &EncodingLimits::default());
    }
    let node = stream.nodes().next().unwrap();
    assert_eq!(
        node.bytes().escape_ascii().to_string(),
        concat!(
            r"<\x00\x00\x00\x16\x00\x03\x01\x00\x01\x01\x01\x81a\x02\x00\x01\x02\x01\x00\x01\x00\x01\x01\x01\x04\x01",
            r"\x02\x01\x00\x01\x01\x01\x85hello\x06\x04\x01",
            r"\x00\x01\x02\x01\xdf\xff\x02\x01\x01\x81b\x02\xc0\xc8\x02\x06\x01\xff"
        )
    );
}

#[test]
fn ids_are_given_as_redis_gives_them() {
    let mut stream = Stream::new();
    assert_eq!(stream.next_id(NewId::Auto, 5), Some(StreamId::new(5, 0)));
    assert_eq!(stream.next_id(NewId::Auto, 0), Some(StreamId::new(0, 1)));
    assert_eq!(stream.next_id(NewId::Ms(0), 9), Some(StreamId::new(0, 1)));
    stream.last_id = StreamId::new(7, u64::MAX);
    assert_eq!(stream.next_id(NewId::Auto, 7), Some(StreamId::new(8, 0)));
    assert_eq!(stream.next_id(NewId::Ms(7), 9), None);
    assert_eq!(stream.next_id(NewId::Ms(6), 9), None);
    assert_eq!(stream.next_id(NewId::Ms(9), 1), Some(StreamId::new(9, 0)));
    assert_eq!(stream.next_id(NewId::Exact(stream.last_id), 1), None);
    stream.last_id = StreamId::MAX;
    assert_eq!(stream.next_id(NewId::Auto, 7), None);
}

#[test]
fn the_counters_tell_how_far_a_group_is() {
    let mut stream = Stream::new();
    let mut group = Group::new(StreamId::MIN, None);
    assert_eq!(stream.counters().lag(&group), Some(0));
    for seq in 1..=5 {
        add(&mut stream, StreamId::new(1, seq), &fields(&["a", "1"]), &EncodingLimits::default());
    }
    assert_eq!(stream.counters().lag(&group), Some(5));
    group.advance(StreamId::new(1, 1), &stream.counters());
    assert_eq!((group.entries_read, stream.counters().lag(&group)), (Some(1), Some(4)));
    stream.delete([StreamId::new(1, 3)], |found| assert!(found));
    assert_eq!(stream.counters().lag(&group), None);
    group.advance(StreamId::new(1, 2), &stream.counters());
    assert_eq!(group.entries_read, None);
    group.advance(StreamId::new(1, 5), &stream.counters());
    assert_eq!((group.entries_read, stream.counters().lag(&group)), (Some(5), Some(0)));
}

/// As redis 8.2.3 reckons. Redis 7.0 counts what is gone as well.
#[test]
fn what_is_trimmed_before_a_group_has_read_it_is_not_ahead_of_it() {
    let mut stream = Stream::new();
    for seq in 1..=5 {
        add(&mut stream, StreamId::new(1, seq), &fields(&["a", "1"]), &EncodingLimits::default());
    }
    let mut group = Group::new(StreamId::MIN, None);
    group.advance(StreamId::new(1, 1), &stream.counters());
    let trim_to = |stream: &mut Stream, length| {
        let trim =
            Trim { keep: Keep::Length(length), approximate: false, limit: 0, references: References::Keep };
        stream.trim(&trim, &mut |_| {})
    };
    assert_eq!(trim_to(&mut stream, 2), 3);
    assert_eq!(stream.counters().lag(&group), Some(2));
    let unknown = Group::new(StreamId::new(1, 2), None);
    assert_eq!(stream.counters().lag(&unknown), Some(2));
    group.advance(StreamId::new(1, 4), &stream.counters());
    assert_eq!((group.entries_read, stream.counters().lag(&group)), (Some(4), Some(1)));
    trim_to(&mut stream, 0);
    assert_eq!(stream.counters().lag(&group), Some(0));
}

#[test]
fn consumers_own_what_was_delivered_to_them() {
    let mut group = Group::new(StreamId::MIN, None);
    let a = group.create(b"a", 1).unwrap();
    let b = group.create(b"b", 1).unwrap();
    assert_eq!(group.create(b"a", 1), None);
    let id = |seq| StreamId::new(1, seq);
    (1..=4).for_each(|seq| group.deliver(id(seq), if seq < 3 { a } else { b }, 10));
    group.deliver(id(3), a, 11);
    assert_eq!((group.consumer(a).pending().len(), group.consumer(b).pending().len()), (3, 1));
    assert!(group.acknowledge(id(1)) && !group.acknowledge(id(1)));
    assert_eq!((group.delete(b"a"), group.delete(b"a")), (Some(2), None));
    assert_eq!(group.pending().keys().collect::<Vec<_>>(), [id(4)]);
    let c = group.create(b"c", 1).unwrap();
    assert_eq!(c, a);
    assert_eq!(group.consumers().map(|consumer| consumer.name().to_vec()).collect::<Vec<_>>(), [b"b", b"c"]);
}

#[test]
fn loads_what_fits_together_only() {
    let mut stream = Stream::new();
    for seq in 1..=3 {
        add(&mut stream, StreamId::new(1, seq), &fields(&["a", "1"]), &EncodingLimits::default());
    }
    let bytes = stream.nodes().next().unwrap().bytes().to_vec();
    let key = StreamId::new(1, 1);
    let load = || {
        let mut load = StreamLoad::new();
        load.node(key, bytes.clone()).unwrap();
        load
    };
    let history = load::History::Unknown;
    assert!(load().node(StreamId::new(1, 3), bytes.clone()).is_err());
    assert!(StreamLoad::new().counters(1, key, history).is_err());
    let mut fine = load();
    fine.counters(9, StreamId::new(1, 3), history).unwrap();
    fine.group(b"g", StreamId::new(1, 2), None).unwrap();
    fine.pending(StreamId::new(1, 1), 5, 1).unwrap();
    assert!(fine.pending(StreamId::new(1, 1), 5, 1).is_err());
    assert!(fine.owned(StreamId::new(1, 1)).is_err());
    fine.consumer(b"c", 7, None).unwrap();
    assert!(fine.consumer(b"c", 7, None).is_err());
    fine.owned(StreamId::new(1, 1)).unwrap();
    assert!(fine.owned(StreamId::new(1, 1)).is_err());
    let loaded = fine.finish().unwrap();
    assert_eq!((loaded.len(), loaded.first_id(), loaded.entries_added), (3, key, 3));
    let mut behind = load();
    behind.counters(3, StreamId::new(1, 2), history).unwrap();
    assert_eq!(behind.finish().unwrap().counters().last_id, StreamId::new(1, 3));
    let mut orphan = load();
    orphan.counters(3, StreamId::new(1, 3), history).unwrap();
    orphan.group(b"g", StreamId::new(1, 2), Some(None)).unwrap();
    orphan.pending(StreamId::new(1, 1), 5, 1).unwrap();
    assert!(orphan.finish().is_err());
    // Whatever one byte is changed to: refused, or readable to both ends.
    for at in 0..bytes.len() {
        for byte in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = byte;
            let mut load = StreamLoad::new();
            if load.node(key, changed).is_ok() && load.counters(3, StreamId::new(1, 3), history).is_ok() {
                let mut stream = load.finish().unwrap();
                let forward = read(stream.iter(), false);
                let mut backward = read(stream.range_rev(StreamId::MIN, StreamId::MAX), false);
                backward.reverse();
                assert_eq!(forward, backward);
                let trim = Trim {
                    keep: Keep::Length(1),
                    approximate: false,
                    limit: 0,
                    references: References::Keep,
                };
                stream.trim(&trim, &mut |_| {});
                add(&mut stream, StreamId::MAX, &fields(&["a", "1"]), &EncodingLimits::default());
            }
        }
    }
}

/// Nodes of the tree by its definition: a node for every key and fork, and for every run of bytes before one.
fn radix_nodes_by_definition(keys: &[[u8; 16]], from: usize) -> usize {
    let (first, last) = (keys[0], keys[keys.len() - 1]);
    let common = first.iter().zip(&last).take_while(|(a, b)| a == b).count();
    if keys.len() == 1 {
        return 1 + usize::from(from < 16);
    }
    let mut count = 1 + usize::from(common > from);
    for branch in keys.chunk_by(|a, b| a[common] == b[common]) {
        count += radix_nodes_by_definition(branch, common + 1);
    }
    count
}

proptest! {
    #[test]
    fn radix_nodes_are_counted(ids in prop::collection::btree_set((0u64..70000, 0u64..600), 1..40)) {
        let mut stream = Stream::new();
        let limits = limits(1, 0);
        for (ms, seq) in &ids {
            add(&mut stream, StreamId::new(*ms, *seq + 1), &fields(&["a", "1"]), &limits);
        }
        let keys: Vec<[u8; 16]> = stream.nodes().map(|node| node.key.to_bytes()).collect();
        prop_assert_eq!(stream.radix_nodes(), radix_nodes_by_definition(&keys, 0));
    }

    #[test]
    fn behaves_as_a_list_of_entries(
        entries in 0usize..5, bytes in prop_oneof![Just(0usize), 20..200usize],
        steps in prop::collection::vec((0u8..8, any::<u16>(), 0u64..4), 1..120))
    {
        let limits = limits(entries, bytes);
        let mut stream = Stream::new();
        let mut model: BTreeMap<StreamId, Fields> = BTreeMap::new();
        for (step, number, small) in steps {
            let some = model.keys().nth(usize::from(number) % model.len().max(1)).copied();
            match step {
                0..=4 => {
                    let id = StreamId::new(stream.last_id.ms + small / 2, u64::from(number));
                    if id <= stream.last_id {
                        prop_assert_eq!(stream.add(id, std::iter::empty(), &limits), Err(AddError::NotAbove));
                        continue;
                    }
                    let mut values = fields(&["temperature", "humidity"]);
                    values[1] = vec![b'v'; usize::from(number % 90)];
                    if small == 3 {
                        values.extend(fields(&["12", &number.to_string()]));
                    }
                    add(&mut stream, id, &values, &limits);
                    model.insert(id, values);
                }
                5 => {
                    let id = some.unwrap_or(StreamId::new(1, 1));
                    let found = model.remove(&id).is_some();
                    prop_assert_eq!(stream.delete([id], |_| {}), u64::from(found));
                }
                6 => {
                    let keep = u64::from(number) % 20;
                    let trim = Trim { keep: Keep::Length(keep), approximate: false, limit: 0, references: References::Keep };
                    let before = model.len();
                    while model.len() as u64 > keep { model.pop_first(); }
                    prop_assert_eq!(stream.trim(&trim, &mut |_| {}), (before - model.len()) as u64);
                }
                _ => {
                    let id = some.unwrap_or(StreamId::MIN);
                    let trim = Trim { keep: Keep::From(id), approximate: small > 1, limit: 0, references: References::Keep };
                    let before = model.len();
                    let deleted = stream.trim(&trim, &mut |_| {});
                    if small > 1 {
                        for _ in 0..deleted { prop_assert!(model.pop_first().unwrap().0 < id); }
                    } else {
                        model = model.split_off(&id);
                        prop_assert_eq!(deleted, (before - model.len()) as u64);
                    }
                }
            }
            prop_assert_eq!(stream.len(), model.len() as u64);
            let first = model.keys().next().copied().unwrap_or(StreamId::MIN);
            prop_assert_eq!(stream.first_id(), first);
            prop_assert_eq!(stream.last_entry_id(), model.keys().next_back().copied().unwrap_or(StreamId::MIN));
            prop_assert!(stream.node_count() > 0 || stream.is_empty());
            let from = StreamId::new(stream.last_id.ms.saturating_sub(small), u64::from(number));
            let to = StreamId::new(from.ms + small, u64::from(number) / 2);
            if from <= to {
                let expected: Vec<_> = model.range(from..=to).map(|(id, f)| (*id, f.clone())).collect();
                prop_assert_eq!(read(stream.range(from, to), false), expected.clone());
                let mut backward = read(stream.range_rev(from, to), false);
                backward.reverse();
                prop_assert_eq!(backward, expected);
            }
        }
        let all: Vec<_> = model.into_iter().collect();
        prop_assert_eq!(read(stream.iter(), false), all.clone());
        let ids = |read: Vec<(StreamId, Fields)>| read.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        prop_assert_eq!(ids(read(stream.iter(), true)), ids(all.clone()));
        prop_assert_eq!(ids(read(stream.range_rev(StreamId::MIN, StreamId::MAX), true)).len(), all.len());
        let copy = stream.duplicate();
        let mut load = StreamLoad::new();
        for node in stream.nodes() {
            load.node(node.key, node.bytes().to_vec()).unwrap();
        }
        let counters = copy.counters();
        let history = load::History::Known {
            first_id: counters.first_id, max_deleted_id: counters.max_deleted_id, entries_added: counters.entries_added,
        };
        load.counters(counters.length, counters.last_id, history).unwrap();
        let loaded = load.finish().unwrap();
        prop_assert_eq!(loaded.counters(), counters);
        prop_assert_eq!(read(loaded.iter(), false), all);
    }
}
