//! One of everything: the types in each of their encodings, at their sizes and at their edges, in several databases.
//!
//! Encodings differ between servers (redis 7.0 has no listpack sets and makes plain list nodes only when told to); the
//! data is chosen so that each server makes all encodings that it has. Scores are halves and whole numbers, which all
//! servers print alike in a digest.

use super::client::{Batch, Client};
use super::random::Random;

/// 2100-01-01, in milliseconds.
pub const FAR_FUTURE_MS: i64 = 4_102_444_800_000;

const MEGABYTE: usize = 1 << 20;

/// Elements of a large collection. Far above all thresholds, so that a table has been resized some times.
const MANY: usize = 10_000;

/// Loads all of it into an empty server, in databases 0, 1, 3, 9 and 15.
pub fn load(client: &mut Client, seed: u64) {
    let mut random = Random::new(seed);
    // Makes redis 7.0 and newer keep elements above this size in nodes of their own; others need not know the verb.
    let _ = client.run("DEBUG QUICKLIST-PACKED-THRESHOLD 4096");
    for database in [0, 1, 15] {
        client.ok(&format!("SELECT {database}"));
        strings(client, &mut random);
        lists(client, &mut random);
        sets(client, &mut random);
        hashes(client, &mut random);
        sorted_sets(client, &mut random);
        streams(client, &mut random);
        expiries(client);
    }
    client.ok("SELECT 3");
    many_keys(client, &mut random);
    client.ok("SELECT 9");
    client.ok("SET lonely key");
}

fn send(client: &mut Client, commands: &[Vec<Vec<u8>>]) {
    for some in commands.chunks(500) {
        let mut batch = Batch::new();
        some.iter().for_each(|argv| batch.push(argv));
        client.batch_ok(&batch);
    }
}

/// `command key element…` in pieces of 100 elements.
fn fill(client: &mut Client, command: &str, key: &[u8], elements: &[Vec<u8>], per_command: usize) {
    let commands: Vec<Vec<Vec<u8>>> = elements
        .chunks(per_command)
        .map(|some| [&[command.as_bytes().to_vec(), key.to_vec()], some].concat())
        .collect();
    send(client, &commands);
}

fn words(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("element:{index}").into_bytes()).collect()
}

/// Numbers, the empty string, all bytes, line ends, a long one: as elements wherever elements go.
fn odd_elements(random: &mut Random) -> Vec<Vec<u8>> {
    let mut elements: Vec<Vec<u8>> =
        ["", "0", "-1", "127", "-128", "32768", "-32769", "8388608", "2147483648", "007", "+1"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    elements.extend([i64::MIN, i64::MAX, 4095, 4096, -4097].map(|number| number.to_string().into_bytes()));
    elements.push(b"18446744073709551615".to_vec());
    elements.push((0..=255).collect());
    elements.push(b"a\r\nb\0c".to_vec());
    elements.push(random.bytes(63));
    elements.push(random.bytes(64));
    elements
}

fn strings(client: &mut Client, random: &mut Random) {
    let mut values = odd_elements(random);
    values.extend([vec![b'e'; 44], vec![b'r'; 45], vec![b'1'; 20], vec![b'1'; 21]]);
    values.extend([vec![b'z'; MEGABYTE], random.bytes(MEGABYTE), vec![b'q'; 16_384], random.bytes(16_383)]);
    let mut commands: Vec<Vec<Vec<u8>>> = values
        .into_iter()
        .enumerate()
        .map(|(index, value)| vec![b"SET".to_vec(), format!("string:{index}").into_bytes(), value])
        .collect();
    let mut keys: Vec<Vec<u8>> =
        vec![Vec::new(), b"line\r\nend".to_vec(), b"nul\0nul".to_vec(), random.bytes(1024)];
    keys.push((0..=255).collect());
    keys.extend([b"12345".to_vec(), "schlüssel".as_bytes().to_vec(), b"{tag}key".to_vec()]);
    commands.extend(keys.into_iter().map(|key| vec![b"SET".to_vec(), key.clone(), key]));
    send(client, &commands);
    let mut batch = Batch::new();
    for command in ["APPEND string:grown abc", "SETRANGE string:grown 100 end", "INCRBY string:counter 7"] {
        batch.push_text(command);
    }
    batch.push_text("INCRBYFLOAT string:float 10.25");
    client.batch_ok(&batch);
}

fn lists(client: &mut Client, random: &mut Random) {
    fill(client, "RPUSH", b"list:small", &odd_elements(random), 100);
    fill(client, "RPUSH", b"list:one", &words(1), 1);
    fill(client, "LPUSH", b"list:nodes", &words(MANY), 100);
    let large: Vec<Vec<u8>> = (0..40).map(|index| random.bytes(1000 + 500 * index)).collect();
    fill(client, "RPUSH", b"list:plain", &large, 1);
    let mixed = [odd_elements(random), large, words(500), vec![random.bytes(MEGABYTE), vec![b'm'; MEGABYTE]]]
        .concat();
    fill(client, "RPUSH", b"list:mixed", &mixed, 10);
    fill(client, "RPUSH", b"list:shrunk", &words(2000), 100);
    client.ok("LTRIM list:shrunk 10 12");
}

fn sets(client: &mut Client, random: &mut Random) {
    let numbers = |count: i64, step: i64| -> Vec<Vec<u8>> {
        (0..count).map(|index| (index * step - 100).to_string().into_bytes()).collect()
    };
    fill(client, "SADD", b"set:int16", &numbers(100, 7), 100);
    fill(client, "SADD", b"set:int32", &numbers(200, 100_003), 100);
    fill(client, "SADD", b"set:int64", &numbers(512, 1_000_000_000_039), 100);
    fill(client, "SADD", b"set:int-over", &numbers(600, 3), 100);
    fill(client, "SADD", b"set:listpack", &words(100), 100);
    fill(client, "SADD", b"set:odd", &odd_elements(random), 100);
    fill(client, "SADD", b"set:table", &words(MANY), 100);
    fill(
        client,
        "SADD",
        b"set:wide",
        &(0..20).map(|index| random.bytes(65 + index * 1000)).collect::<Vec<_>>(),
        5,
    );
    fill(client, "SADD", b"set:shrunk", &words(1000), 100);
    fill(client, "SREM", b"set:shrunk", &words(998), 100);
}

fn hashes(client: &mut Client, random: &mut Random) {
    let pairs = |elements: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        elements
            .into_iter()
            .flat_map(|element| [element.clone(), [&b"value of "[..], &element].concat()])
            .collect()
    };
    fill(client, "HSET", b"hash:listpack", &pairs(words(100)), 100);
    fill(client, "HSET", b"hash:odd", &pairs(odd_elements(random)), 100);
    fill(client, "HSET", b"hash:table", &pairs(words(MANY)), 100);
    fill(
        client,
        "HSET",
        b"hash:wide",
        &[b"field".to_vec(), random.bytes(MEGABYTE), b"empty".to_vec(), vec![]],
        4,
    );
    fill(client, "HSET", b"hash:shrunk", &pairs(words(1000)), 100);
    fill(client, "HDEL", b"hash:shrunk", &words(998), 100);
    client.ok("HINCRBYFLOAT hash:listpack float 0.5");
}

fn sorted_sets(client: &mut Client, random: &mut Random) {
    let scored = |elements: Vec<Vec<u8>>, random: &mut Random| -> Vec<Vec<u8>> {
        let halves =
            |random: &mut Random| format!("{}", random.between(-100_000, 100_000) as f64 / 2.0).into_bytes();
        elements.into_iter().flat_map(|element| [halves(random), element]).collect()
    };
    fill(client, "ZADD", b"zset:listpack", &scored(words(100), random), 100);
    fill(client, "ZADD", b"zset:odd", &scored(odd_elements(random), random), 100);
    fill(client, "ZADD", b"zset:skiplist", &scored(words(MANY), random), 100);
    fill(client, "ZADD", b"zset:wide", &scored(vec![random.bytes(100), random.bytes(20_000)], random), 4);
    let same: Vec<Vec<u8>> = words(300).into_iter().flat_map(|element| [b"1.5".to_vec(), element]).collect();
    fill(client, "ZADD", b"zset:same-scores", &same, 100);
    for key in ["zset:edges", "zset:edges-long"] {
        client.ok(&format!(
            "ZADD {key} inf top -inf bottom 0 zero -0.5 below 9007199254740992 large -1e3 thousand"
        ));
    }
    fill(client, "ZADD", b"zset:edges-long", &scored(words(200), random), 100);
    fill(client, "ZADD", b"zset:shrunk", &scored(words(1000), random), 100);
    fill(client, "ZREM", b"zset:shrunk", &words(998), 100);
}

/// Nodes of one entry and of many, entries of the same fields and of others, tombstones, groups with what is pending.
fn streams(client: &mut Client, random: &mut Random) {
    for (key, entries) in [("stream:one", 1), ("stream:node", 90), ("stream:nodes", MANY)] {
        let commands: Vec<Vec<Vec<u8>>> = (0..entries)
            .map(|index| {
                let size = random.below(80) as usize;
                let id = format!("{}-{}", index / 3 + 1, index % 3 + 1).into_bytes();
                let name = if random.chance(10) { b"other".to_vec() } else { b"field".to_vec() };
                vec![
                    b"XADD".to_vec(),
                    key.into(),
                    id,
                    name,
                    random.bytes(size),
                    b"n".to_vec(),
                    b"17".to_vec(),
                ]
            })
            .collect();
        send(client, &commands);
        client.ok(&format!("XGROUP CREATE {key} readers 0"));
        client.ok(&format!("XGROUP CREATE {key} idle $"));
        client.ok(&format!("XREADGROUP GROUP readers alice COUNT 50 STREAMS {key} >"));
        client.ok(&format!("XGROUP CREATECONSUMER {key} readers bob"));
        client.ok(&format!("XACK {key} readers 2-1 3-2"));
        client.ok(&format!("XDEL {key} 2-2 5-1"));
    }
    let wide: Vec<Vec<u8>> =
        odd_elements(random).into_iter().flat_map(|value| [value.clone(), value]).collect();
    fill(client, "XADD", b"stream:odd", &[vec![b"1-1".to_vec()], wide].concat(), 1000);
    fill(client, "XADD", b"stream:wide", &[b"1-1".to_vec(), b"value".to_vec(), random.bytes(MEGABYTE)], 3);
    client.ok("XTRIM stream:nodes MAXLEN ~ 5000");
    client.ok("XGROUP CREATE stream:empty group 0 MKSTREAM");
    client.ok("XSETID stream:empty 77-7");
}

/// Expiries on some key of each type, and on a type's copies, so that what has none stays, too.
fn expiries(client: &mut Client) {
    let mut batch = Batch::new();
    for (index, key) in [
        "string:1",
        "list:small",
        "list:nodes",
        "set:int16",
        "set:table",
        "hash:listpack",
        "hash:table",
        "zset:listpack",
        "stream:nodes",
    ]
    .iter()
    .chain(&["zset:skiplist", "string:grown", "string:0"])
    .enumerate()
    {
        batch.push_text(&format!("COPY {key} expiring:{key}"));
        batch.push_text(&format!("PEXPIREAT expiring:{key} {}", FAR_FUTURE_MS + index as i64));
    }
    batch.push_text("SET expiring:relative value EX 1000000");
    batch.push_text("SET expiring:at value EXAT 4102444801");
    batch.push_text("SET expiring:none value PX 10000000");
    batch.push_text("PERSIST expiring:none");
    client.batch_ok(&batch);
}

/// What most servers hold most of: short keys with short values.
fn many_keys(client: &mut Client, random: &mut Random) {
    let commands: Vec<Vec<Vec<u8>>> = (0..MANY)
        .map(|index| {
            let size = random.below(120) as usize;
            let mut argv = vec![b"SET".to_vec(), format!("key:{index:07}").into_bytes(), random.bytes(size)];
            if random.chance(30) {
                argv.push(b"PXAT".to_vec());
                argv.push((FAR_FUTURE_MS + random.between(0, 1 << 32)).to_string().into_bytes());
            }
            argv
        })
        .collect();
    send(client, &commands);
}
