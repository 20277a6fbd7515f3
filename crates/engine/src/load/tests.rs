//! The loader against real files, cuts, hostile bytes and a keyspace that changes meanwhile.

use std::collections::BTreeMap;

use keyspace::large::AtOnce;
use keyspace::snapshot::{Batch, Body, ListNode, Value};
use keyspace::{Hash, List, Object, Set, ZSet};
use proptest::prelude::*;
use structures::listpack::Listpack;

use super::*;
use crate::action::ConnId;
use crate::config::DisklessLoad;
use crate::persist;
use crate::rdb_writer::{self, RdbWriter};
use crate::snapshot::{Purpose, Sink, Step as Pulled};
use crate::testing::{Harness, local_peer};

const FIXTURES: [&[u8]; 4] = [
    include_bytes!("../../../rdb/tests/data/redis-7.0.15.rdb"),
    include_bytes!("../../../rdb/tests/data/redis-7.0.15-plain.rdb"),
    include_bytes!("../../../rdb/tests/data/redis-8.2.3.rdb"),
    include_bytes!("../../../rdb/tests/data/valkey-9.1.2.rdb"),
];

/// Expiry, encoding, and the elements: in order for lists, sorted otherwise.
type Content = BTreeMap<(usize, Vec<u8>), (Option<i64>, &'static str, Vec<Vec<u8>>)>;

fn texts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let pack = Listpack::from_vec_validated(bytes.to_vec(), true).expect("our own listpacks are well formed");
    pack.iter().map(|entry| entry.to_vec()).collect()
}

fn elements(entry: &Entry) -> Vec<Vec<u8>> {
    let mut batch = Batch::default();
    batch.push_entry(entry);
    let Some(Body::Key { value, .. }) = batch.items().next().map(|item| item.body) else {
        panic!("an entry is a key")
    };
    let joined = |parts: &[&[u8]]| parts.join(&b"\x00="[..]);
    let mut elements = match value {
        Value::Int(value) => vec![value.to_string().into_bytes()],
        Value::Str(text) | Value::Shared(text) => vec![text.to_vec()],
        Value::List(nodes) => {
            let nodes = nodes.nodes().map(|node| match node {
                ListNode::Packed(bytes) => texts(bytes),
                ListNode::Plain(bytes) => vec![bytes.to_vec()],
            });
            return nodes.flatten().collect();
        }
        Value::Intset(bytes) => vec![bytes.to_vec()],
        Value::SetListpack(bytes) => texts(bytes),
        Value::Set(members) => members.members().map(<[u8]>::to_vec).collect(),
        Value::HashListpack(bytes) | Value::ZSetListpack(bytes) => {
            texts(bytes).chunks(2).map(|pair| joined(&[&pair[0], &pair[1]])).collect()
        }
        Value::Hash(pairs) => pairs.pairs().map(|(name, value)| joined(&[name, value])).collect(),
        Value::HashTtl(fields) => fields
            .expiring_pairs()
            .map(|(name, value, at)| joined(&[name, value, format!("{at:?}").as_bytes()]))
            .collect(),
        Value::ZSet(members) => {
            members.scored().map(|(member, score)| joined(&[member, format!("{score}").as_bytes()])).collect()
        }
        Value::Stream { nodes, foot } => {
            let nodes = nodes.stream_nodes().map(|node| format!("{node:?}"));
            return nodes.chain([format!("{foot:?}")]).map(String::into_bytes).collect();
        }
        Value::StreamNodes(_) => panic!("an entry is copied at once"),
    };
    elements.sort();
    elements
}

fn content(store: &Store) -> Content {
    let mut content = Content::new();
    for index in 0..store.databases() {
        let db = store.db_at(index);
        let mut expiries = 0;
        for entry in db.iter() {
            expiries += usize::from(entry.expire_at().is_some());
            let row = (entry.expire_at(), entry.encoding(), elements(entry));
            assert!(content.insert((index, entry.key().to_vec()), row).is_none());
        }
        assert_eq!(db.expires().len(), expiries);
    }
    content
}

fn put(store: &mut Store, db: usize, key: &str, object: Object) {
    store.select(db);
    store.put(Key::new(key.as_bytes()), object);
}

/// Keys of every type in every encoding, in three databases, some with an expiry.
fn fill(h: &mut Harness) {
    let now_ms = h.now_ms();
    let store = &mut h.node.store;
    let limits = store.limits.clone();
    let name = |n: usize| format!("element {n} {}", "x".repeat(n % 90)).into_bytes();
    let string = |store: &mut Store, key: &str, text: &[u8]| {
        store.set_str(Key::new(key.as_bytes()), text, keyspace::db::ExpireChange::Clear);
    };
    string(store, "int", b"-12345678901234");
    string(store, "embstr", b"hello");
    string(store, "raw", &[b'r'; 300]);
    string(store, "empty", b"");
    string(store, "shared", &b"0123456789".repeat(1000));
    string(store, "huge", &(0..3_000_000u32).flat_map(|n| (n ^ n >> 7).to_le_bytes()).collect::<Vec<u8>>());
    for count in [1usize, 3, 100, 600] {
        let mut list = List::new(limits.list_fill);
        let mut set = Set::with_capacity(count, &limits);
        let mut ints = Set::with_capacity(count, &limits);
        let mut hash = Hash::with_capacity(count, &limits);
        let mut zset = ZSet::with_capacity(count, &limits);
        for n in 0..count {
            list.push_back(&name(n));
            list.push_back(n.to_string().as_bytes());
            assert!(set.load_member(&name(n), &limits));
            assert!(ints.load_member((n * 70_000).to_string().as_bytes(), &limits));
            hash.load_field(&name(n), n.to_string().as_bytes(), None, &limits);
            assert!(zset.load_member(&name(n), n as f64 / 3.0 - 20.0, &limits));
        }
        zset.finish_load(&limits);
        put(store, 0, &format!("list:{count}"), Object::List(list));
        put(store, 0, &format!("set:{count}"), Object::Set(set));
        put(store, 5, &format!("intset:{count}"), Object::Set(ints));
        put(store, 5, &format!("hash:{count}"), Object::Hash(hash));
        put(store, 15, &format!("zset:{count}"), Object::ZSet(zset));
    }
    let mut plain = List::new(limits.list_fill);
    plain.push_back(b"before");
    plain.push_back(&[b'p'; 20_000]);
    put(store, 0, "list:plain", Object::List(plain));
    for (db, key, after) in [(0, "embstr", 1), (0, "list:100", 1000), (5, "intset:3", -1)] {
        store.select(db);
        assert!(store.set_expire(Key::new(key.as_bytes()), Some(now_ms + after)));
    }
    store.select(0);
}

fn fill_with_field_ttl(h: &mut Harness) {
    let limits = h.node.store.limits.clone();
    let mut hash = Hash::with_capacity(3, &limits);
    hash.load_field(b"a", b"1", Some(h.now_ms() + 5), &limits);
    hash.load_field(b"b", b"2", None, &limits);
    hash.load_field(b"c", b"3", Some(h.now_ms() + 2), &limits);
    put(&mut h.node.store, 3, "hash:ttl", Object::Hash(hash));
}

/// Pulls the rest of the running snapshot; `budget_bytes` at a time.
fn pull_all(h: &mut Harness, writer: &mut RdbWriter, out: &mut Vec<u8>, budget_bytes: usize) {
    while pull(h, writer, out, budget_bytes) {}
    writer.end(out);
    h.node.snapshot_finished(Ok(out.len() as u64));
}

fn pull(h: &mut Harness, writer: &mut RdbWriter, out: &mut Vec<u8>, budget_bytes: usize) -> bool {
    match h.node.snapshot_batch(budget_bytes) {
        Some(Pulled::Batch(batch)) => {
            writer.batch(&batch, out).expect("the version was chosen for the data");
            true
        }
        Some(Pulled::Walked) | None => false,
    }
}

/// What commands may do to large values while they are copied in parts; the first letter says the type.
fn disturb(h: &mut Harness, random: &mut u64) {
    let mut below = |limit: u64| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % limit
    };
    let (n, m) = (below(400), below(4));
    let command = match below(41) {
        0 => format!("SADD s{m} m{n} new{n}"),
        1 => format!("SREM s{m} m{n}"),
        2 => format!("SPOP s{m} 3"),
        3 => format!("SINTERSTORE s{m} s{} s{}", below(4), below(4)),
        4 => format!("HSET h{m} f{n} changed"),
        5 => format!("HDEL h{m} f{n} f{}", below(400)),
        6 => format!("HINCRBY h{m} new{n} 5"),
        7 => format!("ZADD z{m} {n} m{}", below(400)),
        8 => format!("ZINCRBY z{m} 7 m{n}"),
        9 => format!("ZREMRANGEBYRANK z{m} {n} {}", n + 9),
        10 => format!("ZPOPMIN z{m} 2"),
        11 => format!("ZUNIONSTORE z{m} 2 z{} z{}", below(4), below(4)),
        12 => format!("RPUSH l{m} x{n}"),
        13 => format!("LPUSH l{m} y{n}"),
        14 => format!("LPOP l{m} 7"),
        15 => format!("RPOP l{m}"),
        16 => format!("LSET l{m} {n} set"),
        17 => format!("LREM l{m} 1 e{n}"),
        18 => format!("LTRIM l{m} 3 -4"),
        19 => format!("LMOVE l{m} l{} LEFT RIGHT", below(4)),
        20 => format!("RENAME {0}{m} {0}{1}", ["s", "h", "z", "l", "x"][below(5) as usize], below(6)),
        21 => format!("COPY {0}{m} {0}{1} REPLACE", ["s", "h", "z", "l", "x"][below(5) as usize], below(6)),
        22 => format!("MOVE {}{m} {}", ["s", "h", "z", "l", "x"][below(5) as usize], below(3)),
        23 => {
            format!(
                "{} {}{m}",
                ["DEL", "UNLINK"][below(2) as usize],
                ["s", "h", "z", "l", "x"][below(5) as usize]
            )
        }
        24 => format!("SET {}{m} text", ["s", "h", "z", "l", "x"][below(5) as usize]),
        25 => format!("XADD x{m} * new {n}"),
        26 => format!("XDEL x{m} {}-1 {}-1", n * 10, below(400) * 10),
        27 => format!("XTRIM x{m} MAXLEN ~ {n}"),
        28 => format!("XADD x{m} MAXLEN {n} * trims 1"),
        29 => format!("XREADGROUP GROUP g c COUNT 3 STREAMS x{m} >"),
        30 => format!("XREADGROUP GROUP g c{} COUNT 40 STREAMS x{m} >", below(4)),
        31 => format!("XREADGROUP GROUP g c{} COUNT 9 STREAMS x{m} {n}-0", below(4)),
        32 => format!("XACK x{m} g {0}-1 {1}-1 {2}-1", n * 10, below(300) * 10, below(300) * 10),
        33 => format!("XCLAIM x{m} g c{} 0 {}-1 {}-1 RETRYCOUNT {n}", below(4), n * 10, below(300) * 10),
        34 => format!("XCLAIM x{m} g{} c{} 0 {}-1 FORCE JUSTID", below(2), below(4), n * 10),
        35 => format!("XAUTOCLAIM x{m} g c{} 0 {}-0 COUNT 30", below(4), n * 10),
        36 => format!("XGROUP DELCONSUMER x{m} g c{}", below(4)),
        37 => format!("XGROUP CREATECONSUMER x{m} g c{}", below(4)),
        38 => format!("XGROUP SETID x{m} g {}-1", n * 10),
        39 => match below(3) {
            0 => format!("XGROUP DESTROY x{m} g"),
            1 => format!("XGROUP CREATE x{m} g {n}-0"),
            _ => format!("XGROUP CREATE x{m} g1 $"),
        },
        _ => match below(16) {
            0..=1 => format!("SWAPDB {} {}", below(3), below(3)),
            2 => "FLUSHDB".to_owned(),
            3..=6 => format!("SELECT {}", below(3)),
            _ => format!("EXPIRE {}{m} 100", ["s", "h", "z", "l", "x"][below(5) as usize]),
        },
    };
    h.run(&command);
}

#[test]
fn values_that_are_copied_in_parts_are_of_one_moment() {
    for seed in 1..=120u64 {
        let mut h = Harness::new();
        h.run("CONFIG SET list-max-listpack-size 5 stream-node-max-entries 5");
        for value in 0..4 {
            for n in 0..300 {
                h.run(&format!("SADD s{value} m{n}"));
                h.run(&format!("HSET h{value} f{n} v{n}"));
                h.run(&format!("ZADD z{value} {n}.5 m{n}"));
                h.run(&format!("RPUSH l{value} e{n}"));
                h.run(&format!("XADD x{value} {}-1 f {n}", n * 10));
            }
        }
        for value in 0..4 {
            h.run(&format!("XGROUP CREATE x{value} g 0"));
            h.run(&format!("XGROUP CREATECONSUMER x{value} g idle"));
            for n in 0..28 {
                h.advance_ms(1);
                h.run(&format!("XREADGROUP GROUP g c{} COUNT 10 STREAMS x{value} >", n % 3));
            }
        }
        // Of few nodes, and copied at once: what is pending stays.
        h.run("XTRIM x3 MAXLEN 2");
        h.node.core.snapshots.at_once = AtOnce { elements: 100, bytes: usize::MAX, nodes: 3 };
        let before = content(&h.node.store);
        h.node.begin_snapshot(Purpose::Background);
        let mut plan = h.node.snapshot_plan(Sink::Stream);
        // Versions before do not hold when a consumer was given something.
        plan.target = rdb::Target::V11;
        let (mut writer, mut bytes, mut random) = (RdbWriter::new(&plan), Vec::new(), seed * 0x9e37_79b9);
        writer.begin(&mut bytes);
        loop {
            (0..seed % 7).for_each(|_| disturb(&mut h, &mut random));
            if !pull(&mut h, &mut writer, &mut bytes, 1 + (seed as usize % 5) * 700) {
                break;
            }
        }
        writer.end(&mut bytes);
        let loaded = load(&bytes, 4096).expect("the snapshot is whole");
        assert!(content(&loaded.node.store) == before, "seed {seed}");
    }
}

#[test]
fn the_copy_of_a_value_follows_it_to_another_database() {
    let steps: [&[&str]; 6] = [
        &["MOVE k 2"],
        &["MOVE k 2", "SELECT 2", "RENAME k other", "MOVE other 1"],
        &["MOVE k 1", "SWAPDB 1 2", "SWAPDB 0 1"],
        &["MOVE k 2", "SELECT 2", "FLUSHDB ASYNC"],
        &["MOVE k 1", "FLUSHDB"],
        &["MOVE k 2", "SELECT 2", "MOVE k 0", "SELECT 0", "RENAME k back"],
    ];
    for fill in ["SADD k m{}", "HSET k f{} v", "ZADD k {} m{}", "RPUSH k e{}", "XADD k {}-1 f v"] {
        for steps in steps {
            let mut h = Harness::new();
            h.run("CONFIG SET list-max-listpack-size 5 stream-node-max-entries 5");
            for n in 1..=2000 {
                h.run(&fill.replace("{}", &n.to_string()));
            }
            h.node.core.snapshots.at_once = AtOnce { elements: 100, bytes: usize::MAX, nodes: 3 };
            let before = content(&h.node.store);
            h.node.begin_snapshot(Purpose::Background);
            let mut writer = RdbWriter::new(&h.node.snapshot_plan(Sink::Stream));
            let mut bytes = Vec::new();
            writer.begin(&mut bytes);
            (0..3).for_each(|_| assert!(pull(&mut h, &mut writer, &mut bytes, 100)));
            for step in steps {
                let reply = h.run(step);
                assert!(reply == r":1\r\n" || reply == r"+OK\r\n", "{step}: {reply}");
                // Freeing it copies the rest.
                if !step.starts_with("FLUSH") {
                    let waits = h.node.snapshot_pending_bytes();
                    assert!(waits < 2000, "{fill} {step}: copied on the spot, {waits} bytes");
                }
                assert!(pull(&mut h, &mut writer, &mut bytes, 100));
            }
            pull_all(&mut h, &mut writer, &mut bytes, 300);
            assert!(content(&load(&bytes, 4096).unwrap().node.store) == before, "{fill} {steps:?}");
            assert!(h.node.store.orphans.is_empty());
        }
    }
}

/// Loads `bytes` in pieces, as a replica does: nothing is left out.
fn load(bytes: &[u8], piece: usize) -> Result<Harness, String> {
    let mut h = Harness::new();
    let now_ms = h.now_ms();
    let mut loading = Loading::for_replica(Target::Live, Some(bytes.len() as u64), now_ms);
    for piece in bytes.chunks(piece) {
        loading.feed(&mut h.node.store, piece)?;
    }
    loading.finish()?;
    assert_eq!(loading.keys_loaded(), h.node.store.total_keys() as u64);
    Ok(h)
}

fn saved(h: &mut Harness) -> Vec<u8> {
    assert_eq!(persist::save_now(&mut h.node.store, &mut h.node.core), Ok(()));
    let files = h.files.lock().unwrap();
    files[std::path::Path::new("./dump.rdb")].clone().expect("it was just written")
}

#[test]
fn every_type_and_encoding_survives_a_save_and_a_load() {
    for (field_ttl, header) in [(false, b"REDIS0009"), (true, b"REDIS0012")] {
        let mut h = Harness::new();
        fill(&mut h);
        if field_ttl {
            fill_with_field_ttl(&mut h);
        }
        let file = saved(&mut h);
        assert!(file.starts_with(header));
        let loaded = load(&file, 100_000).unwrap();
        assert_eq!(content(&loaded.node.store), content(&h.node.store));
        assert_eq!(loaded.node.store.has_field_ttl(), field_ttl);
    }
}

#[test]
fn every_version_that_can_hold_the_data_loads_to_the_same() {
    let mut h = Harness::new();
    fill(&mut h);
    let want = content(&h.node.store);
    for target in rdb::Target::ALL {
        for compress in [false, true] {
            h.node.begin_snapshot(Purpose::SyncStream);
            let mut plan = h.node.snapshot_plan(Sink::Stream);
            (plan.target, plan.compress) = (target, compress);
            let mut writer = RdbWriter::new(&plan);
            let mut out = Vec::new();
            writer.begin(&mut out);
            pull_all(&mut h, &mut writer, &mut out, 50_000);
            assert!(content(&load(&out, 1 << 16).unwrap().node.store) == want, "{target:?} {compress}");
        }
    }
}

#[test]
fn a_version_that_cannot_hold_a_value_is_refused_by_its_key() {
    let mut h = Harness::new();
    fill_with_field_ttl(&mut h);
    h.node.begin_snapshot(Purpose::SyncStream);
    let mut plan = h.node.snapshot_plan(Sink::Stream);
    plan.target = rdb::Target::V9;
    let Some(crate::snapshot::Step::Batch(batch)) = h.node.snapshot_batch(1 << 20) else {
        panic!("one key is one batch")
    };
    assert_eq!(
        RdbWriter::new(&plan).batch(&batch, &mut Vec::new()),
        Err("key 'hash:ttl': RDB version 9 cannot hold hash fields with a TTL".to_owned())
    );
}

#[test]
fn fixtures_load_completely_in_pieces_of_any_size() {
    for (file, keys) in FIXTURES.into_iter().zip([23, 23, 25, 25]) {
        let whole = load(file, file.len()).unwrap();
        assert_eq!(whole.node.store.total_keys(), keys);
        let want = content(&whole.node.store);
        for piece in [1, 2, 7, 100, 4096] {
            assert_eq!(content(&load(file, piece).unwrap().node.store), want);
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mut h = Harness::new();
    fill_with_field_ttl(&mut h);
    let own = saved(&mut h);
    for file in FIXTURES.into_iter().chain([own.as_slice()]) {
        for end in 0..file.len() {
            let error = load(&file[..end], 1000).map(|_| ()).unwrap_err();
            assert!(error.starts_with("Internal error in RDB reading offset "), "{error}");
        }
    }
}

#[test]
fn every_changed_byte_is_an_error_or_loads() {
    for file in FIXTURES {
        for at in 9..file.len() - 8 {
            let mut bad = file.to_vec();
            bad[at] ^= 0x41;
            // One of the files was written without a checksum.
            let summed = !file.ends_with(&[0; 8]);
            assert!(!summed || load(&bad, bad.len()).is_err(), "byte {at}");
            // Without the checksum nothing but the checks of the values stands in the way of bad data.
            let mut loading = Loading::reload(
                &Config { rdbchecksum: false, ..Config::default() },
                true,
                true,
                1_700_000_000_000,
            );
            let mut h = Harness::new();
            if loading.feed(&mut h.node.store, &bad).is_ok() && loading.finish().is_ok() {
                content(&h.node.store);
            }
        }
    }
}

#[test]
fn errors_are_named_as_redis_names_them() {
    let error = |bytes: &[u8]| load(bytes, bytes.len().max(1)).map(|_| ()).unwrap_err();
    assert_eq!(error(b"NOTREDIS00"), "Wrong signature trying to load DB from file");
    assert_eq!(error(b"REDIS0099\xff"), "Can't handle RDB format version 99");
    assert_eq!(error(b"REDIS"), "Internal error in RDB reading offset 0, Unexpected EOF reading RDB file");
    assert_eq!(
        error(b"REDIS0009\x00\x01a\x01b\x00\x01a\x01c\xff\0\0\0\0\0\0\0\0"),
        "Internal error in RDB reading offset 28, RDB has duplicated key 'a' in DB 0"
    );
    assert_eq!(
        error(b"REDIS0009\xff\x01\0\0\0\0\0\0\0"),
        "Internal error in RDB reading offset 9, RDB CRC error"
    );
    assert_eq!(
        error(b"REDIS0009\xfe\x10\xff"),
        "FATAL: Data file was created with a Redis server configured to handle more than 16 databases. Exiting"
    );
    assert_eq!(
        error(b"REDIS0009\x02\x01s\x02\x01a\x01a\xff"),
        "Internal error in RDB reading offset 17, Duplicate set members detected"
    );
}

#[test]
fn a_primary_leaves_expired_and_empty_keys_out() {
    // An expired string, an empty set, an empty listpack of a hash, a sorted set and a set.
    let file = b"REDIS0011\xfc\x01\0\0\0\0\0\0\0\x00\x01a\x01b\x02\x01s\x00\
        \x10\x01h\x07\x07\0\0\0\0\0\xff\x11\x01z\x07\x07\0\0\0\0\0\xff\x14\x01t\x07\x07\0\0\0\0\0\xff\
        \x00\x01k\x01v\xff\0\0\0\0\0\0\0\0";
    let mut h = Harness::new();
    h.node.begin_load_at_start(file.len() as u64);
    assert_eq!(h.node.load_bytes(file), Ok(()));
    assert_eq!(h.run("GET k"), r"-LOADING Redis is loading the dataset in memory\r\n");
    h.node.load_finished(Ok(()));
    let keys: Vec<_> = content(&h.node.store).into_keys().collect();
    assert_eq!(keys, [(0, b"k".to_vec())]);
    assert_eq!(h.run("GET k"), r"$1\r\nv\r\n");
    assert_eq!(h.node.core.snapshots.last_load_keys_expired, 1);
    let lines: Vec<String> = h
        .node
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Log { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    let done = "Done loading RDB, keys loaded: 1, keys expired: 1, empty keys skipped: 4.";
    assert!(lines.iter().any(|line| line == done), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "DB loaded from disk: 0.000 seconds");
}

#[test]
fn a_restarted_primary_answers_for_its_history_and_tells_what_expired() {
    let mut h = Harness::new();
    fill(&mut h);
    h.node.store.select(0);
    let position = h.node.core.repl.position();
    let file = saved(&mut h);
    let mut again = Harness::new();
    let fresh = again.node.core.random_replid();
    again.node.core.repl.history.begin(fresh);
    again.advance_ms(100);
    again.node.begin_load_at_start(file.len() as u64);
    assert_eq!(again.node.load_bytes(&file), Ok(()));
    again.node.load_finished(Ok(()));
    let repl = &again.node.core.repl;
    assert_eq!(repl.history.second_id(), position.replid);
    assert_eq!(repl.history.second_offset(), position.offset as i64 + 1);
    assert_eq!(repl.history.id, fresh);
    assert_eq!(repl.log.start(), position.offset + 1);
    let relayed: Vec<u8> = repl.log.read(position.offset + 1).unwrap().flat_map(<[u8]>::to_vec).collect();
    let relayed = String::from_utf8(relayed).unwrap();
    assert!(
        relayed.contains("DEL\r\n$6\r\nembstr") && relayed.contains("DEL\r\n$8\r\nintset:3"),
        "{relayed}"
    );
    assert_eq!(again.node.store.total_keys(), h.node.store.total_keys() - 2);
}

#[test]
fn a_restarted_replica_asks_to_continue_where_its_file_stands() {
    let mut h = Harness::new();
    fill(&mut h);
    let position = h.node.core.repl.position();
    let file = saved(&mut h);
    let config = Config { replicaof: Some(("primary".into(), 6379)), ..Config::default() };
    let mut again = Harness::with_config(config);
    again.node.core.repl.log.deactivate();
    again.advance_ms(100);
    again.node.begin_load_at_start(file.len() as u64);
    assert_eq!(again.node.load_bytes(&file), Ok(()));
    again.node.load_finished(Ok(()));
    assert_eq!(again.node.core.repl.position(), position);
    assert!(again.node.core.is_replica());
    assert_eq!(again.node.store.total_keys(), h.node.store.total_keys(), "a replica keeps expired keys");
    let connects =
        |action: &Action| matches!(action, Action::ConnectPrimary { host, port: 6379 } if host == "primary");
    assert!(again.node.take_actions().iter().any(connects));
}

#[test]
fn a_broken_file_at_the_start_ends_the_process() {
    let mut h = Harness::new();
    h.node.begin_load_at_start(20);
    assert_eq!(h.node.load_bytes(b"REDIS0009\x00\x01k"), Ok(()));
    h.node.load_finished(Ok(()));
    let actions = h.node.take_actions();
    assert!(actions.iter().any(|action| matches!(action, Action::Exit { code: 1 })));
    let said = |text: &str| {
        actions.iter().any(|action| matches!(action, Action::Log { message, .. } if message.contains(text)))
    };
    assert!(said("Short read or OOM loading DB. Unrecoverable error, aborting now."));
    assert!(said("Internal error in RDB reading offset"));
    assert!(said("[additional info] Reading key 'k'"));
    assert!(said("Terminating server after rdb file reading failure."));
}

#[test]
fn the_delay_for_tests_adds_up_by_keys() {
    let file = b"REDIS0009\x00\x01a\x01b\x00\x01b\x01b\x00\x01c\x01b\xff\0\0\0\0\0\0\0\0";
    for (setting, delay_us) in [(0, 0), (500, 1500), (-3, 1)] {
        let mut h = Harness::new();
        h.node.core.config.key_load_delay_us = setting;
        h.node.begin_load_at_start(file.len() as u64);
        h.node.load_bytes(file).unwrap();
        assert_eq!(h.node.take_load_delay_us(), delay_us);
        assert_eq!(h.node.take_load_delay_us(), 0);
    }
}

#[test]
fn fresh_databases_replace_the_old_ones_at_once() {
    let mut primary = Harness::new();
    fill(&mut primary);
    fill_with_field_ttl(&mut primary);
    let file = saved(&mut primary);
    let mut h = Harness::new();
    put(&mut h.node.store, 1, "old", Object::Set(Set::with_capacity(1, &EncodingLimits::default())));
    let fresh = (0..16).map(|_| Db::new()).collect();
    h.node.core.loading = Some(Loading::for_replica(Target::Fresh(fresh), None, h.now_ms()));
    h.run("WATCH embstr");
    h.node.begin_snapshot(Purpose::Background);
    h.node.load_bytes(&file).unwrap();
    assert_eq!((h.node.store.total_keys(), h.node.core.is_loading()), (1, false));
    assert_eq!(h.run("GET embstr"), r"$-1\r\n");
    assert_eq!(h.node.end_loading(), Ok(()));
    h.node.put_loaded_in_place();
    assert_eq!(content(&h.node.store), content(&primary.node.store));
    assert!(h.node.store.has_field_ttl());
    h.run("MULTI");
    assert_eq!(h.run("EXEC"), r"*-1\r\n", "the watched key is another one now");
    // The snapshot that ran meanwhile still sees what was there.
    assert_eq!(h.node.store.orphans.len(), 1);
}

/// The connection to the primary, which has been asked for the stream.
fn linked(h: &mut Harness) -> ConnId {
    let link = h.node.primary_connected(local_peer()).expect("it follows a primary");
    loop {
        let asked = String::from_utf8(h.output(link)).unwrap();
        if asked.contains("PSYNC") {
            break;
        }
        let replies = if asked.contains("PING") { 1 } else { asked.matches("REPLCONF").count() };
        assert!(replies > 0, "{asked}");
        let reply = if asked.contains("PING") { "+PONG\r\n" } else { "+OK\r\n" };
        let input = h.node.input(link).expect("the link is open");
        input.extend_from_slice(reply.repeat(replies).as_bytes());
        h.node.received(link, reply.len() * replies);
    }
    link
}

#[test]
fn the_old_data_serve_during_a_transfer_unless_swapdb_is_told_to_load_another_history() {
    for (mode, same_history, refuses) in [
        (DisklessLoad::Serving, false, false),
        (DisklessLoad::SwapDb, false, true),
        (DisklessLoad::SwapDb, true, false),
    ] {
        let mut h = Harness::new();
        h.node.core.config.repl_diskless_load = mode;
        h.run("SET a old");
        h.run("REPLICAOF 127.0.0.1 1");
        let link = linked(&mut h);
        let history = h.node.core.repl.position().replid.to_string();
        let history = if same_history { history } else { "b".repeat(40) };
        let mark = "m".repeat(40);
        h.raw(link, format!("+FULLRESYNC {history} 9\r\n$EOF:{mark}\r\nREDIS0009").as_bytes());
        assert_eq!(h.node.core.is_loading(), refuses, "{mode:?}");
        let reply = h.run("GET a");
        assert_eq!(reply.starts_with("-LOADING"), refuses, "{mode:?}: {reply}");
        let info = h.run("INFO persistence");
        assert!(info.contains(&format!("async_loading:{}", u8::from(!refuses))), "{info}");
        h.node.closed(link);
        assert!(h.node.core.loading.is_none());
        assert_eq!(h.run("GET a"), r"$3\r\nold\r\n", "{mode:?}");
    }
}

#[test]
fn a_write_that_a_full_synchronisation_has_replaced_is_acknowledged_by_nobody() {
    let mut primary = Harness::new();
    fill(&mut primary);
    let file = saved(&mut primary);
    let mut h = Harness::new();
    h.run("SET a lost");
    h.run("REPLICAOF 127.0.0.1 1");
    let link = linked(&mut h);
    let (history, mark) = ("b".repeat(40), "m".repeat(40));
    h.raw(link, format!("+FULLRESYNC {history} 9\r\n$EOF:{mark}\r\n").as_bytes());
    h.raw(link, &[&file, mark.as_bytes()].concat());
    assert_eq!(h.run("GET a"), r"$-1\r\n");
    h.run("REPLICAOF NO ONE");
    assert_eq!(h.run("WAIT 1 0"), r":0\r\n", "it is not waited for");
    h.run("SET a new");
    assert_eq!(h.run("WAIT 1 0"), "", "this one may be acknowledged some time");
}

#[test]
fn an_abandoned_load_leaves_nothing_behind() {
    for fresh in [false, true] {
        let mut h = Harness::new();
        let target = if fresh { Target::Fresh((0..16).map(|_| Db::new()).collect()) } else { Target::Live };
        h.node.core.loading = Some(Loading::for_replica(target, None, h.now_ms()));
        h.node.load_bytes(&FIXTURES[2][..FIXTURES[2].len() - 9]).unwrap();
        assert!(h.node.end_loading().is_err());
        h.node.abandon_loading();
        assert_eq!(h.node.store.total_keys(), 0);
        assert!(h.node.core.loading.is_none() && !h.node.store.has_field_ttl());
    }
}

#[test]
fn reload_brings_back_what_was_saved() {
    let mut h = Harness::new();
    fill(&mut h);
    let mut want = content(&h.node.store);
    h.propagated();
    let options = persist::ReloadOptions::default();
    persist::reload(&mut h.node.store, &mut h.node.core, options).unwrap();
    assert!(want.remove(&(5, b"intset:3".to_vec())).is_some());
    assert_eq!(content(&h.node.store), want);
    assert_eq!(h.propagated(), ["SELECT 5", "DEL intset:3"]);
    // Into what is there: an error unless it may be merged.
    let onto = persist::ReloadOptions { save: false, flush: false, merge: false };
    let error = persist::reload(&mut h.node.store, &mut h.node.core, onto).unwrap_err();
    assert_eq!(error.to_string(), "ERR Error trying to load the RDB dump, check server logs.");
    let merge = persist::ReloadOptions { merge: true, ..onto };
    persist::reload(&mut h.node.store, &mut h.node.core, merge).unwrap();
    assert_eq!(content(&h.node.store), want);
}

#[test]
fn dump_payloads_hold_every_value() {
    let mut h = Harness::new();
    fill(&mut h);
    fill_with_field_ttl(&mut h);
    let limits = h.node.store.limits.clone();
    for index in 0..h.node.store.databases() {
        for entry in h.node.store.db_at(index).iter() {
            let payload = rdb_writer::dump(entry, true).unwrap();
            let (mut decoder, value) = rdb::dump::open(&payload).unwrap();
            let copy = restore(&mut decoder, value, entry.key(), None, &limits).unwrap();
            assert_eq!((copy.key(), copy.encoding()), (entry.key(), entry.encoding()));
            assert_eq!(elements(&copy), elements(entry));
        }
    }
}

// ---- snapshots beside writes ----

#[derive(Debug, Clone)]
enum Op {
    SetStr { db: usize, key: u8, length: usize },
    AddMember { db: usize, key: u8, member: u16 },
    SetField { db: usize, key: u8, field: u16 },
    Push { db: usize, key: u8 },
    Expire { db: usize, key: u8, after_ms: i64 },
    Delete { db: usize, key: u8 },
    Rename { db: usize, from: u8, to: u8 },
    Move { from: usize, to: usize, key: u8 },
    Flush { db: usize },
    FlushAll,
    Swap { a: usize, b: usize },
    Advance { millis: i64 },
    ExpireDue,
    Pull { budget: usize },
}

const DBS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let db = 0..DBS;
    let key = any::<u8>();
    prop_oneof![
        8 => (db.clone(), key, prop_oneof![0usize..40, 4000usize..5000])
            .prop_map(|(db, key, length)| Op::SetStr { db, key, length }),
        6 => (db.clone(), key, 0u16..300).prop_map(|(db, key, member)| Op::AddMember { db, key, member }),
        6 => (db.clone(), key, 0u16..300).prop_map(|(db, key, field)| Op::SetField { db, key, field }),
        6 => (db.clone(), key).prop_map(|(db, key)| Op::Push { db, key }),
        4 => (db.clone(), key, 0i64..50).prop_map(|(db, key, after_ms)| Op::Expire { db, key, after_ms }),
        6 => (db.clone(), key).prop_map(|(db, key)| Op::Delete { db, key }),
        3 => (db.clone(), key, key).prop_map(|(db, from, to)| Op::Rename { db, from, to }),
        2 => (db.clone(), db.clone(), key).prop_map(|(from, to, key)| Op::Move { from, to, key }),
        1 => db.clone().prop_map(|db| Op::Flush { db }),
        1 => Just(Op::FlushAll),
        1 => (db.clone(), db).prop_map(|(a, b)| Op::Swap { a, b }),
        2 => (1i64..30).prop_map(|millis| Op::Advance { millis }),
        2 => Just(Op::ExpireDue),
        6 => (1usize..3000).prop_map(|budget| Op::Pull { budget }),
    ]
}

/// A value of `T` under `key`, made if the key is free; `None` if it holds something else.
fn edit(
    store: &mut Store,
    db: usize,
    key: u8,
    make: impl FnOnce() -> Object,
    change: impl FnOnce(&mut Entry),
) {
    store.select(db);
    let name = [b'k', key];
    let key = Key::new(&name);
    let object = make();
    match store.write(key) {
        Some(entry) if entry.type_of() != object.type_of() => {}
        Some(entry) => change(entry),
        None => change(store.add(key, object)),
    }
}

fn run(h: &mut Harness, op: &Op) {
    let limits = h.node.store.limits.clone();
    let store = &mut h.node.store;
    match *op {
        Op::SetStr { db, key, length } => {
            store.select(db);
            let text = vec![key; length];
            store.set_str(Key::new(&[b'k', key]), &text, keyspace::db::ExpireChange::Clear);
        }
        Op::AddMember { db, key, member } => {
            let make = || Object::Set(Set::with_capacity(0, &limits));
            edit(store, db, key, make, |entry| {
                let text = if key % 2 == 0 { member.to_string() } else { format!("m{member}") };
                let name = entry.key().to_vec();
                let _ = entry.as_set_mut(&name).unwrap().load_member(text.as_bytes(), &limits);
            });
        }
        Op::SetField { db, key, field } => {
            let make = || Object::Hash(Hash::with_capacity(usize::from(key), &limits));
            edit(store, db, key, make, |entry| {
                let name = entry.key().to_vec();
                let mut hash = entry.as_hash_mut(&name).unwrap();
                hash.load_field(field.to_string().as_bytes(), &[key; 70], None, &limits);
            });
        }
        Op::Push { db, key } => {
            let make = || Object::List(List::new(2));
            edit(store, db, key, make, |entry| {
                let name = entry.key().to_vec();
                entry.as_list_mut(&name).unwrap().push_back(b"x");
            });
        }
        Op::Expire { db, key, after_ms } => {
            store.select(db);
            let at = store.now_ms + after_ms;
            store.set_expire(Key::new(&[b'k', key]), Some(at));
        }
        Op::Delete { db, key } => {
            store.select(db);
            store.delete_quietly(Key::new(&[b'k', key]), false);
        }
        Op::Rename { db, from, to } if from != to => {
            store.select(db);
            if let Some(entry) = store.take(Key::new(&[b'k', from])) {
                let name = [b'k', to];
                let key = Key::new(&name);
                store.delete_quietly(key, false);
                store.add_entry(key.hash, entry.duplicate(&name));
            }
        }
        Op::Move { from, to, key } => {
            let name = [b'k', key];
            let key = Key::new(&name);
            store.select(to);
            if from != to && store.db().peek(key).is_none() {
                store.select(from);
                if let Some(entry) = store.take(key) {
                    store.select(to);
                    store.add_entry(key.hash, entry);
                }
            }
        }
        Op::Rename { .. } => {}
        Op::Flush { db } => {
            store.flush_db(db, false);
        }
        Op::FlushAll => {
            for db in 0..store.databases() {
                store.flush_db(db, false);
            }
        }
        Op::Swap { a, b } => store.swap_dbs(a, b),
        Op::Advance { millis } => {
            h.advance_ms(millis);
            h.node.begin_turn();
        }
        Op::ExpireDue => {
            store.expire_due(5);
        }
        Op::Pull { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_the_data_as_it_was_when_it_began(
        before in proptest::collection::vec(op(), 0..400),
        during in proptest::collection::vec(op(), 0..400),
        budget in 1usize..5000,
    ) {
        let mut h = Harness::new();
        h.node.begin_turn();
        for op in &before {
            run(&mut h, op);
        }
        let want = content(&h.node.store);
        h.node.begin_snapshot(Purpose::Background);
        let mut writer = RdbWriter::new(&h.node.snapshot_plan(Sink::Stream));
        let mut out = Vec::new();
        writer.begin(&mut out);
        for op in &during {
            if let Op::Pull { budget } = op {
                pull(&mut h, &mut writer, &mut out, *budget);
            }
            run(&mut h, op);
        }
        let after = content(&h.node.store);
        pull_all(&mut h, &mut writer, &mut out, budget);
        prop_assert_eq!(content(&load(&out, 777).unwrap().node.store), want);
        prop_assert_eq!(content(&h.node.store), after, "the snapshot itself changes nothing");
        prop_assert!(h.node.store.orphans.is_empty());
    }
}

/// Begins to load beside the data that are there.
fn begin_beside(h: &mut Harness) {
    let fresh = (0..16).map(|_| Db::new()).collect();
    h.node.core.loading = Some(Loading::for_replica(Target::Fresh(fresh), None, h.now_ms()));
}

fn reused(h: &Harness) -> (u64, u64) {
    let state = &h.node.core.loading.as_ref().expect("it loads").state;
    (state.keys_reused, state.keys_loaded)
}

fn twins(store: &Store) -> usize {
    (0..store.databases())
        .map(|index| store.db_at(index).iter().filter(|entry| entry.has_twin()).count())
        .sum()
}

#[test]
fn what_the_old_data_set_has_too_is_not_stored_again() {
    let (mut h, mut primary) = (Harness::new(), Harness::new());
    for h in [&mut h, &mut primary] {
        for n in 0..1000 {
            h.run(&format!("SET key:{n} {}", "v".repeat(n + 1)));
            h.run(&format!("SADD set:{n} {n} x"));
            h.run(&format!("HSET hash {n} {}", "w".repeat(100)));
        }
        fill_with_field_ttl(h);
    }
    primary.run("SET key:1 changed");
    primary.run("SADD set:1 more");
    primary.run("EXPIRE set:2 100");
    primary.run("HSET hash 7 changed");
    primary.run("DEL key:2");
    let file = saved(&mut primary);
    begin_beside(&mut h);
    for piece in file.chunks(100) {
        h.node.load_bytes(piece).unwrap();
    }
    let (reused, loaded) = reused(&h);
    // The two collections that are tables are reused by their parts.
    assert_eq!((loaded, loaded - reused), (2001, 5), "keys and those not reused");
    let Some(Loading { state: State { target: Target::Fresh(fresh), .. }, .. }) = &mut h.node.core.loading
    else {
        panic!("it loads into fresh databases")
    };
    let Some(Object::Hash(hash)) = fresh[0].parts_to_reuse(Key::new(b"hash")) else { panic!("a hash") };
    let Hash::Table(fields) = hash else { panic!("a large one") };
    assert_eq!(fields.iter().filter(|field| !field.has_twin()).count(), 1);
    assert_eq!(h.run("STRLEN key:1"), r":2\r\n", "the old data serve");
    assert_eq!(h.node.end_loading(), Ok(()));
    h.node.put_loaded_in_place();
    assert_eq!(content(&h.node.store), content(&primary.node.store));
    assert_eq!(twins(&h.node.store), 0, "the old data are gone");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Writes, expiry and flushes of the old data while others that are nearly the same are loaded, with a snapshot of the
    /// old under way; and of the new ones afterwards, or of the old ones if the load is given up.
    #[test]
    fn reusing_values_shows_in_neither_data_set(
        before in proptest::collection::vec(op(), 0..400),
        drift in proptest::collection::vec(op(), 0..20),
        during in proptest::collection::vec(op(), 0..200),
        after in proptest::collection::vec(op(), 0..200),
        completes in any::<bool>(),
        drops_at_once in any::<bool>(),
    ) {
        // What never reuses anything: the old data in one that does not load, the new ones in one that had none.
        let (mut h, mut old, mut new) = (Harness::new(), Harness::new(), Harness::new());
        for h in [&mut h, &mut old, &mut new] {
            h.node.begin_turn();
        }
        for op in &before {
            run(&mut h, op);
            run(&mut old, op);
        }
        let file = saved(&mut h);
        for op in &drift {
            run(&mut h, op);
            run(&mut old, op);
        }
        let snapshot = content(&h.node.store);
        h.node.begin_snapshot(Purpose::Background);
        let mut writer = RdbWriter::new(&h.node.snapshot_plan(Sink::Stream));
        let mut out = Vec::new();
        writer.begin(&mut out);
        begin_beside(&mut h);
        let mut rest = &file[..];
        for op in &during {
            if let Op::Pull { budget } = op {
                pull(&mut h, &mut writer, &mut out, *budget);
                let piece = rest.split_off(..rest.len().min(*budget)).expect("within the file");
                h.node.load_bytes(piece).unwrap();
            }
            run(&mut h, op);
            run(&mut old, op);
        }
        h.node.load_bytes(rest).unwrap();
        prop_assert_eq!(content(&h.node.store), content(&old.node.store));
        let other = if completes {
            for op in before.iter().chain(&drift).chain(&during) {
                if let Op::Advance { .. } = op {
                    run(&mut new, op);
                }
            }
            begin_beside(&mut new);
            new.node.load_bytes(&file).unwrap();
            for h in [&mut h, &mut new] {
                prop_assert_eq!(h.node.end_loading(), Ok(()));
                h.node.put_loaded_in_place();
            }
            &mut new
        } else {
            h.node.abandon_loading();
            &mut old
        };
        prop_assert_eq!(content(&h.node.store), content(&other.node.store));
        if drops_at_once {
            pull_all(&mut h, &mut writer, &mut out, 1000);
            prop_assert_eq!(twins(&h.node.store), 0);
        }
        for op in &after {
            run(&mut h, op);
            run(other, op);
        }
        prop_assert_eq!(content(&h.node.store), content(&other.node.store));
        if !drops_at_once {
            pull_all(&mut h, &mut writer, &mut out, 1000);
        }
        prop_assert_eq!(content(&load(&out, 777).unwrap().node.store), snapshot);
        prop_assert!(h.node.store.orphans.is_empty());
        prop_assert_eq!(content(&h.node.store), content(&other.node.store));
    }
}

#[test]
fn function_libraries_are_part_of_the_data_set() {
    let (one, two) = (b"#!lua name=one\nreturn 1".as_slice(), b"#!lua name=two\nreturn 2".as_slice());
    let mut h = Harness::new();
    fill(&mut h);
    for code in [two, one] {
        h.node.store.functions.load(code, false).expect("a library");
    }
    let file = saved(&mut h);
    assert!(file.starts_with(b"REDIS0010"), "older versions have none");
    let mut loaded = Harness::new();
    loaded.node.begin_load_at_start(file.len() as u64);
    assert_eq!(loaded.node.load_bytes(&file), Ok(()));
    loaded.node.load_finished(Ok(()));
    assert_eq!(loaded.node.store.functions, h.node.store.functions);
    // A data set that arrives replaces them.
    let mut replica = Harness::new();
    replica.node.store.functions.load(b"#!lua name=old\nreturn 0", false).expect("a library");
    let fresh = (0..16).map(|_| Db::new()).collect();
    replica.node.core.loading = Some(Loading::for_replica(Target::Fresh(fresh), None, replica.now_ms()));
    replica.node.load_bytes(&file).unwrap();
    assert_eq!(replica.node.store.functions.names().collect::<Vec<_>>(), [b"old".as_slice()]);
    assert_eq!(replica.node.end_loading(), Ok(()));
    replica.node.put_loaded_in_place();
    assert_eq!(replica.node.store.functions, h.node.store.functions);
    assert_eq!(h.run("DEBUG RELOAD"), r"+OK\r\n");
    assert_eq!(h.node.store.functions.len(), 2);
    assert_eq!(h.run("FLUSHALL"), r"+OK\r\n");
    assert_eq!(h.node.store.functions.len(), 2, "they belong to no database");
}
