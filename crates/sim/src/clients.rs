//! What clients send: random commands, of those that the registry has.

use std::sync::OnceLock;

use crate::random::Random;

/// Weight, and a command whose words in braces are filled in: a key of a type, a value, a number, ….
const COMMANDS: &[(u32, &str)] = &[
    (30, "SET {k} {v}"),
    (6, "SET {k} {v} PX {ms}"),
    (3, "SET {k} {v} KEEPTTL"),
    (3, "SET {k} {v} NX GET"),
    (3, "SETEX {k} {s} {v}"),
    (3, "PSETEX {k} {ms} {v}"),
    (2, "SETNX {k} {v}"),
    (2, "GETSET {k} {v}"),
    (3, "GETDEL {k}"),
    (3, "GETEX {k} PX {ms}"),
    (2, "GETEX {k} PERSIST"),
    (6, "APPEND {k} {w}"),
    (3, "SETRANGE {k} {n} {w}"),
    (8, "INCR {i}"),
    (4, "DECRBY {i} {n}"),
    (4, "INCRBYFLOAT {i} {f}"),
    (4, "MSET {k} {v} {k} {v}"),
    (2, "MSETNX {k} {v} {k} {v}"),
    (6, "GET {k}"),
    (2, "STRLEN {k}"),
    (6, "DEL {any} {any}"),
    (3, "UNLINK {any}"),
    (4, "EXPIRE {any} {s}"),
    (4, "PEXPIRE {any} {ms}"),
    (1, "PEXPIRE {any} -1"),
    (1, "PEXPIREAT {any} 1"),
    (3, "PERSIST {any}"),
    (3, "RENAME {any} {any}"),
    (2, "RENAMENX {any} {any}"),
    (3, "COPY {any} {any} REPLACE"),
    (2, "COPY {any} {any} DB {db}"),
    (3, "MOVE {any} {db}"),
    (3, "EXISTS {any}"),
    (2, "TTL {any}"),
    (1, "RANDOMKEY"),
    (2, "DBSIZE"),
    (6, "SELECT {db}"),
    (1, "SWAPDB 0 1"),
    (1, "FLUSHDB"),
    (1, "FLUSHALL"),
    (6, "LPUSH {l} {w} {w}"),
    (6, "RPUSH {l} {w} {v}"),
    (3, "LPOP {l}"),
    (3, "RPOP {l} 2"),
    (2, "LSET {l} 0 {w}"),
    (2, "LREM {l} 0 {w}"),
    (2, "LTRIM {l} 0 5"),
    (2, "LINSERT {l} BEFORE {w} {w}"),
    (2, "LMOVE {l} {l} LEFT RIGHT"),
    (2, "RPOPLPUSH {l} {l}"),
    (2, "LMPOP 2 {l} {l} LEFT COUNT 2"),
    (6, "SADD {e} {w} {n} {w}"),
    (3, "SADD {e} {n} {n}"),
    (3, "SREM {e} {w} {n}"),
    (4, "SPOP {e}"),
    (2, "SPOP {e} 3"),
    (2, "SMOVE {e} {e} {w}"),
    (2, "SUNIONSTORE {e} {e} {e}"),
    (2, "SINTERSTORE {e} {e} {e}"),
    (2, "SDIFFSTORE {e} {e} {e}"),
    (6, "HSET {h} {w} {v} {w} {w}"),
    (3, "HDEL {h} {w}"),
    (3, "HINCRBY {h} n {n}"),
    (3, "HINCRBYFLOAT {h} n {f}"),
    (2, "HSETNX {h} {w} {w}"),
    (6, "ZADD {z} {f} {w} {n} {w}"),
    (2, "ZADD {z} GT CH {f} {w}"),
    (3, "ZADD {z} INCR {f} {w}"),
    (3, "ZINCRBY {z} {f} {w}"),
    (3, "ZREM {z} {w}"),
    (3, "ZPOPMIN {z}"),
    (2, "ZPOPMAX {z} 2"),
    (2, "ZREMRANGEBYRANK {z} 0 1"),
    (2, "ZREMRANGEBYSCORE {z} 0 3"),
    (2, "ZUNIONSTORE {z} 2 {z} {z}"),
    (2, "ZRANGESTORE {z} {z} 0 3"),
    (2, "ZMPOP 2 {z} {z} MIN"),
    (2, "SORT {l} ALPHA STORE {l}"),
    (3, "SETBIT {k} {n} 1"),
    (2, "BITFIELD {i} INCRBY u4 {n} 3"),
    (2, "PFADD {k} {w} {v}"),
    (2, "GEOADD {z} 13.{n} 52.{n} {w}"),
    (3, "HPEXPIRE {h} {ms} FIELDS 2 {w} n"),
    (2, "HEXPIRE {h} {s} NX FIELDS 1 {w}"),
    (1, "HPERSIST {h} FIELDS 1 {w}"),
    (2, "HSETEX {h} PX {ms} FIELDS 1 {w} {v}"),
    (2, "HGETEX {h} PX {ms} FIELDS 1 {w}"),
    (2, "HGETDEL {h} FIELDS 1 {w}"),
    (6, "XADD {x} * {w} {v}"),
    (3, "XADD {x} MAXLEN ~ 4 * {w} {v}"),
    (2, "XTRIM {x} MAXLEN {n}"),
    (1, "DEBUG SLEEP 0"),
];

/// Two counters that are only ever changed together, in a transaction: nobody must see one without the other.
pub const TWINS: [&str; 2] = ["twin:a", "twin:b"];

/// A share of commands by kind: seeds differ in what they do.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    /// Percent of the values that are long.
    pub long_values: u64,
    /// Percent of the pipelines that are a transaction.
    pub transactions: u64,
    /// Percent of the pipelines that end in `WAIT`.
    pub waits: u64,
}

/// The templates of commands that exist, repeated by weight.
fn known() -> &'static [&'static str] {
    static KNOWN: OnceLock<Vec<&'static str>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let exists = |text: &str| has(text.split(' ').next().expect("a template begins with a name"));
        COMMANDS
            .iter()
            .filter(|(_, text)| exists(text))
            .flat_map(|(weight, text)| std::iter::repeat_n(*text, *weight as usize))
            .collect()
    })
}

/// Whether this version has a command.
pub fn has(name: &str) -> bool {
    engine::commands::registry().lookup(name.as_bytes()).is_some()
}

/// Some commands in a row. The last word says whether the last of them is a `WAIT`.
pub fn pipeline(random: &mut Random, taste: &Taste, out: &mut Vec<u8>) -> (usize, bool) {
    let mut count = random.between(1, 6) as usize;
    let transaction = random.percent(taste.transactions) && has("multi");
    if transaction {
        push(out, &["MULTI"]);
    }
    for _ in 0..count {
        command(random, taste, out);
    }
    if transaction && random.percent(40) {
        TWINS.iter().for_each(|twin| push(out, &["INCR", twin]));
        count += TWINS.len();
    }
    if transaction {
        push(out, &[if random.once_in(12) { "DISCARD" } else { "EXEC" }]);
        count += 2;
    }
    let waits = random.percent(taste.waits) && has("wait");
    if waits {
        let (replicas, timeout) = (random.between(1, 3).to_string(), random.between(1, 1500).to_string());
        push(out, &["WAIT", &replicas, &timeout]);
        count += 1;
    }
    (count, waits)
}

pub fn push(out: &mut Vec<u8>, words: &[&str]) {
    resp::encode_command(out, words.iter().map(|word| word.as_bytes()));
}

fn command(random: &mut Random, taste: &Taste, out: &mut Vec<u8>) {
    let template = *random.pick(known());
    let words: Vec<Vec<u8>> = template.split(' ').map(|word| fill(random, taste, word)).collect();
    resp::encode_command(out, words.iter().map(Vec::as_slice));
}

fn fill(random: &mut Random, taste: &Taste, word: &str) -> Vec<u8> {
    const TYPES: [&str; 7] = ["k", "i", "l", "e", "h", "z", "x"];
    let Some(kind) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) else {
        return word.as_bytes().to_vec();
    };
    match kind {
        "any" => format!("{}{}", random.pick(&TYPES), random.below(6)),
        // Now and then a key of another type.
        "k" | "i" | "l" | "e" | "h" | "z" | "x" if random.once_in(40) => {
            format!("{}{}", random.pick(&TYPES), random.below(6))
        }
        "k" => format!("k{}", random.below(10)),
        "i" | "l" | "e" | "h" | "z" | "x" => format!("{kind}{}", random.below(6)),
        "v" if random.percent(taste.long_values) => {
            let letter = char::from(b'a' + random.below(26) as u8);
            let count = random.between(200, 2500) as usize;
            std::iter::repeat_n(letter, count).collect()
        }
        "v" => format!("v{}", random.below(100_000)),
        "w" => format!("m{}", random.below(12)),
        "n" => random.below(50).to_string(),
        "f" => format!("{}.{}", random.below(20), random.below(100)),
        "s" => random.between(1, 5).to_string(),
        "ms" => random.between(1, 4000).to_string(),
        "db" => random.below(2).to_string(),
        _ => unreachable!("no template has this word"),
    }
    .into_bytes()
}
