//! CPU time of the server per command, command by command: the everyday ones pipelined, and those over big collections.
//!
//! A case is a command and the commands that fill the server before. Both are written with `__rand_int__`, which is a random
//! number in the load ([`super::saturate`]) and a running one in what fills: what exists and what is asked for are the same
//! names.

use std::borrow::Cow;

use anyhow::Result;

use super::saturate::saturate;
use super::server::{Kind, Server};
use super::table::{Better, Table};
use super::{Options, SERVER_CORE, traffic};
use crate::client;

struct Case {
    name: &'static str,
    pipeline: u32,
    /// The range of `__rand_int__`.
    range: u64,
    requests: u64,
    fill: &'static [Fill],
    command: &'static str,
}

/// `count` commands. `__rand_int__` is the number of the command in 12 digits; `__spread__`
/// is a permutation of these numbers without an order; `__lon__` and `__lat__` are a place within 2° of 13° E 52° N.
struct Fill {
    count: u64,
    command: &'static str,
}

const fn fill(count: u64, command: &'static str) -> Fill {
    Fill { count, command }
}

/// An everyday command, pipelined by 16 over 100 k names.
const fn everyday(name: &'static str, fill: &'static [Fill], command: &'static str) -> Case {
    Case { name, pipeline: 16, range: NAMES, requests: 1_000_000, fill, command }
}

/// A command whose own work outweighs that of the request.
const fn heavy(
    name: &'static str,
    pipeline: u32,
    requests: u64,
    fill: &'static [Fill],
    command: &'static str,
) -> Case {
    Case { name, pipeline, range: NAMES, requests, fill, command }
}

/// As many names as [`NAMES`], but the collections are to be taken apart: more is in them than any run takes out.
const fn taking(name: &'static str, fill: &'static [Fill], command: &'static str) -> Case {
    Case { name, pipeline: 16, range: NAMES, requests: 500_000, fill, command }
}

const NAMES: u64 = 100_000;
const STRINGS: &[Fill] = &[fill(NAMES, "SET key:__rand_int__ xxx")];
const COUNTERS: &[Fill] = &[fill(NAMES, "SET key:__rand_int__ 100")];
const HASH: &[Fill] = &[fill(NAMES, "HSET hash field:__rand_int__ 100")];
const SMALL_HASHES: &[Fill] = &[fill(NAMES, "HSET key:__rand_int__ name xxx visits 100 city yyy")];
const SET: &[Fill] = &[fill(NAMES, "SADD set element:__rand_int__")];
const ZSET: &[Fill] = &[fill(NAMES, "ZADD zset __spread__ element:__rand_int__")];
const BIG_ZSET: &[Fill] = &[fill(1_000_000, "ZADD zset __spread__ element:__rand_int__")];
const LIST: &[Fill] = &[fill(1000, "RPUSH list xxx")];
const LONG_LIST: &[Fill] = &[fill(500_000, "RPUSH list xxx")];
const BIG_SET: &[Fill] = &[fill(500_000, "SADD set element:__rand_int__")];
const PLACES: &[Fill] = &[fill(NAMES, "GEOADD places __lon__ __lat__ place:__rand_int__")];
const STREAM: &[Fill] =
    &[fill(1, "XGROUP CREATE stream group 0 MKSTREAM"), fill(510_000, "XADD stream * field xxx")];
const PENDING: &[Fill] = &[
    fill(1, "XGROUP CREATE stream group 0 MKSTREAM"),
    fill(NAMES, "XADD stream 1-__rand_int__ field xxx"),
    fill(1, "XREADGROUP GROUP group consumer COUNT 1000000 STREAMS stream >"),
];
const BITMAP: &[Fill] = &[fill(1, "SETBIT bits 8388607 1")];
const THREE_LOGLOGS: &[Fill] = &[
    fill(20_000, "PFADD a element:__rand_int__"),
    fill(20_000, "PFADD b element:__spread__"),
    fill(20_000, "PFADD c other:__rand_int__"),
];
const TWO_SETS: &[Fill] = &[
    fill(NAMES, "SADD a element:__rand_int__"),
    fill(NAMES, "SADD b __rand_int__"),
    fill(NAMES / 2, "SADD b element:__rand_int__"),
];
const TWO_ZSETS: &[Fill] = &[
    fill(NAMES, "ZADD a __spread__ element:__rand_int__"),
    fill(NAMES / 2, "ZADD b __spread__ element:__rand_int__"),
    fill(NAMES / 2, "ZADD b __spread__ other:__rand_int__"),
];

const CASES: &[Case] = &[
    // What a command costs that does nothing: the rest of an everyday command's figure is its own.
    everyday("PING", &[], "PING"),
    everyday("GET", STRINGS, "GET key:__rand_int__"),
    everyday("GET of absent keys", &[], "GET key:__rand_int__"),
    everyday("SET", STRINGS, "SET key:__rand_int__ xxx"),
    everyday("SET with EX", STRINGS, "SET key:__rand_int__ xxx EX 1000"),
    everyday("SETEX", STRINGS, "SETEX key:__rand_int__ 1000 xxx"),
    everyday("GETSET", STRINGS, "GETSET key:__rand_int__ yyy"),
    everyday("INCR", COUNTERS, "INCR key:__rand_int__"),
    everyday("INCRBYFLOAT", COUNTERS, "INCRBYFLOAT key:__rand_int__ 0.5"),
    everyday("APPEND", &[], "APPEND key:__rand_int__ xxx"),
    everyday("STRLEN", STRINGS, "STRLEN key:__rand_int__"),
    everyday("GETRANGE", STRINGS, "GETRANGE key:__rand_int__ 0 1"),
    everyday("MGET of 10", STRINGS, MGET),
    everyday("MSET of 10", STRINGS, MSET),
    everyday("EXISTS", STRINGS, "EXISTS key:__rand_int__"),
    everyday("TYPE", STRINGS, "TYPE key:__rand_int__"),
    everyday("TTL", STRINGS, "TTL key:__rand_int__"),
    everyday("EXPIRE", STRINGS, "EXPIRE key:__rand_int__ 1000"),
    taking("DEL", &[fill(NAMES, "SET key:__rand_int__ xxx")], "DEL key:__rand_int__"),
    // Not at a random place: no server takes an offset with leading zeros.
    everyday("SETBIT", BITMAP, "SETBIT bits 7654321 1"),
    everyday("GETBIT", BITMAP, "GETBIT bits 7654321"),
    everyday("PFADD", &[], "PFADD loglog element:__rand_int__"),
    everyday("PFCOUNT of one", THREE_LOGLOGS, "PFCOUNT a"),
    everyday("PFCOUNT of absent keys", &[], "PFCOUNT key:__rand_int__"),
    everyday("LPUSH", &[], "LPUSH list xxx"),
    everyday("RPUSH", &[], "RPUSH list xxx"),
    everyday("RPUSH to 100 k lists", &[], "RPUSH key:__rand_int__ xxx"),
    taking("LPOP", LONG_LIST, "LPOP list"),
    taking("RPOP", LONG_LIST, "RPOP list"),
    everyday("LLEN", LIST, "LLEN list"),
    everyday("LINDEX", LIST, "LINDEX list 500"),
    everyday("LRANGE 10", LIST, "LRANGE list 0 9"),
    everyday("SADD", &[], "SADD set element:__rand_int__"),
    everyday("SADD of integers", &[], "SADD key:000000000001 __rand_int__"),
    everyday("SADD to 100 k sets", &[], "SADD key:__rand_int__ __rand_int__"),
    everyday("SISMEMBER", SET, "SISMEMBER set element:__rand_int__"),
    everyday("SREM", SET, "SREM set element:__rand_int__"),
    taking("SPOP", BIG_SET, "SPOP set"),
    everyday("SRANDMEMBER", SET, "SRANDMEMBER set"),
    everyday("HSET", HASH, "HSET hash field:__rand_int__ xxx"),
    everyday("HGET", HASH, "HGET hash field:__rand_int__"),
    everyday("HINCRBY", HASH, "HINCRBY hash field:__rand_int__ 1"),
    everyday("HDEL", HASH, "HDEL hash field:__rand_int__"),
    everyday("HGET from 100 k small hashes", SMALL_HASHES, "HGET key:__rand_int__ visits"),
    everyday("HSET to 100 k small hashes", SMALL_HASHES, "HSET key:__rand_int__ visits 200"),
    everyday("HINCRBY in 100 k small hashes", SMALL_HASHES, "HINCRBY key:__rand_int__ visits 1"),
    everyday("HGETALL of 100 k small hashes", SMALL_HASHES, "HGETALL key:__rand_int__"),
    everyday("ZADD", &[], "ZADD zset __rand_int__ element:__rand_int__"),
    everyday("ZINCRBY", ZSET, "ZINCRBY zset 1 element:__rand_int__"),
    everyday("ZSCORE", ZSET, "ZSCORE zset element:__rand_int__"),
    everyday("ZRANK", ZSET, "ZRANK zset element:__rand_int__"),
    everyday("ZREM", ZSET, "ZREM zset element:__rand_int__"),
    taking("ZPOPMIN", &[fill(500_000, "ZADD zset __spread__ element:__rand_int__")], "ZPOPMIN zset"),
    everyday("ZRANGE 10", ZSET, "ZRANGE zset 0 9"),
    everyday("ZRANGEBYSCORE 10", ZSET, "ZRANGEBYSCORE zset __rand_int__ +inf LIMIT 0 10"),
    everyday("GEOADD", PLACES, "GEOADD places 13.4 52.5 place:__rand_int__"),
    everyday("PUBLISH", &[], "PUBLISH channel xxx"),
    everyday("XADD", &[], "XADD stream * field xxx"),
    taking("XREADGROUP of one", STREAM, "XREADGROUP GROUP group consumer COUNT 1 STREAMS stream >"),
    heavy("XACK", 16, 100_000, PENDING, "XACK stream group 1-__rand_int__"),
    Case {
        name: "ZADD into 1 M members",
        pipeline: 16,
        range: 1_000_000,
        requests: 1_000_000,
        fill: BIG_ZSET,
        command: "ZADD zset __rand_int__ element:__rand_int__",
    },
    Case {
        name: "ZINCRBY into 1 M members",
        pipeline: 16,
        range: 1_000_000,
        requests: 1_000_000,
        fill: BIG_ZSET,
        command: "ZINCRBY zset 1000 element:__rand_int__",
    },
    heavy("LRANGE 100", 16, 100_000, LIST, "LRANGE list 0 99"),
    heavy("LRANGE 600", 16, 40_000, LIST, "LRANGE list 0 599"),
    heavy("SMEMBERS 1 k", 16, 20_000, &[fill(1000, "SADD set element:__rand_int__")], "SMEMBERS set"),
    heavy("HGETALL 1 k", 16, 20_000, &[fill(1000, "HSET hash field:__rand_int__ xxx")], "HGETALL hash"),
    heavy(
        "ZRANGE 1 k",
        16,
        20_000,
        &[fill(1000, "ZADD zset __spread__ element:__rand_int__")],
        "ZRANGE zset 0 -1",
    ),
    heavy(
        "ZRANGE 1 k WITHSCORES",
        16,
        20_000,
        &[fill(1000, "ZADD zset __spread__ element:__rand_int__")],
        "ZRANGE zset 0 -1 WITHSCORES",
    ),
    heavy("SINTER of 2 × 100 k", 1, 100, TWO_SETS, "SINTER a b"),
    heavy("SINTERCARD of 2 × 100 k", 1, 200, TWO_SETS, "SINTERCARD 2 a b"),
    heavy("SUNIONSTORE of 2 × 100 k", 1, 60, TWO_SETS, "SUNIONSTORE c a b"),
    heavy("ZUNIONSTORE of 2 × 100 k", 1, 40, TWO_ZSETS, "ZUNIONSTORE c 2 a b"),
    heavy("ZINTERSTORE of 2 × 100 k", 1, 80, TWO_ZSETS, "ZINTERSTORE c 2 a b"),
    heavy("SORT 100 k", 1, 50, &[fill(NAMES, "RPUSH list __spread__")], "SORT list LIMIT 0 10"),
    heavy("SORT 100 k ALPHA", 1, 50, &[fill(NAMES, "RPUSH list x__spread__")], "SORT list ALPHA LIMIT 0 10"),
    heavy(
        "GEOSEARCH, some 100 of 100 k",
        16,
        20_000,
        PLACES,
        "GEOSEARCH places FROMLONLAT 13 52 BYRADIUS 9 km",
    ),
    heavy(
        "GEOSEARCH, 10 nearest",
        16,
        20_000,
        PLACES,
        "GEOSEARCH places FROMLONLAT 13 52 BYRADIUS 9 km ASC COUNT 10 WITHDIST",
    ),
    heavy("BITCOUNT 1 MB", 16, 50_000, BITMAP, "BITCOUNT bits"),
    heavy("BITPOS 1 MB", 16, 50_000, BITMAP, "BITPOS bits 1"),
    heavy(
        "BITOP AND of 2 × 1 MB",
        1,
        5000,
        &[fill(1, "SETBIT a 8388607 1"), fill(1, "SETBIT b 8388607 1")],
        "BITOP AND c a b",
    ),
    heavy("PFMERGE of 3 dense", 16, 100_000, THREE_LOGLOGS, "PFMERGE d a b c"),
    heavy("PFCOUNT of 3 dense", 16, 100_000, THREE_LOGLOGS, "PFCOUNT a b c"),
    heavy("SCAN 100 of 100 k", 16, 100_000, STRINGS, "SCAN 0 COUNT 100"),
];

const MGET: &str = "MGET key:__rand_int__ key:__rand_int__ key:__rand_int__ key:__rand_int__ key:__rand_int__ \
     key:__rand_int__ key:__rand_int__ key:__rand_int__ key:__rand_int__ key:__rand_int__";
const MSET: &str = "MSET key:__rand_int__ x key:__rand_int__ x key:__rand_int__ x key:__rand_int__ x \
     key:__rand_int__ x key:__rand_int__ x key:__rand_int__ x key:__rand_int__ x key:__rand_int__ x \
     key:__rand_int__ x";

/// Each measurement gets a fresh server; the servers take turns within a case. A server that does not know the command has
/// no figure.
pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let title = "Commands: CPU time of the server per command, µs; pipelined by 16 except over 2 × 100 k";
    let mut cpu = Table::new(title, Better::Less, 2, kinds);
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        for _ in 0..options.runs() {
            for (column, kind) in kinds.iter().enumerate() {
                match measure(case, kind, options.scaled(case.requests)) {
                    Ok(cpu_us) => cpu.add(case.name, column, cpu_us),
                    Err(error) => eprintln!("{}: {}: {error:#}", case.name, kind.title),
                }
            }
        }
        eprintln!("measured: {}", case.name);
    }
    Ok(vec![cpu])
}

fn measure(case: &Case, kind: &Kind, requests: u64) -> Result<f64> {
    let server = Server::start(kind, Some(SERVER_CORE), &[])?;
    let mut random = traffic::Random::new(4);
    for fill in case.fill {
        let template: Vec<&str> = fill.command.split(' ').collect();
        traffic::pipelined(server.port, fill.count, |n, out| {
            let args: Vec<Cow<str>> =
                template.iter().map(|arg| filled(arg, n, fill.count, &mut random)).collect();
            client::encode(out, &args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        })?;
    }
    let command: Vec<&str> = case.command.split(' ').collect();
    let before = server.cpu_ns()?;
    saturate(server.port, case.pipeline, case.range, requests, &command)?;
    Ok((server.cpu_ns()? - before) as f64 / 1000.0 / requests as f64)
}

fn filled<'a>(arg: &'a str, n: u64, count: u64, random: &mut traffic::Random) -> Cow<'a, str> {
    if !arg.contains("__") {
        return Cow::Borrowed(arg);
    }
    let mut degrees = |middle: u64| format!("{middle}.{:06}", random.below(2_000_000) / 2);
    Cow::Owned(match arg {
        "__lon__" => degrees(12 + n % 2),
        "__lat__" => degrees(51 + n / 2 % 2),
        _ => arg
            .replace("__rand_int__", &format!("{n:012}"))
            .replace("__spread__", &format!("{:012}", spread(n, count))),
    })
}

/// A permutation of `0..count`, for a count that the prime does not divide.
fn spread(n: u64, count: u64) -> u64 {
    const PRIME: u64 = 2_654_435_761;
    n * PRIME % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_a_permutation_without_order() {
        for count in [1, 1000, NAMES] {
            let mut numbers: Vec<u64> = (0..count).map(|n| spread(n, count)).collect();
            assert!(count == 1 || !numbers.is_sorted());
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count));
        }
    }

    #[test]
    fn what_fills_has_the_names_that_are_asked_for() {
        let mut random = traffic::Random::new(1);
        assert_eq!(filled("key:__rand_int__", 42, 100, &mut random), "key:000000000042");
        assert_eq!(filled("xxx", 42, 100, &mut random), "xxx");
        let lat: f64 = filled("__lat__", 2, 100, &mut random).parse().unwrap();
        assert!((52.0..53.0).contains(&lat), "{lat}");
    }

    #[test]
    fn no_case_is_named_twice() {
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}
