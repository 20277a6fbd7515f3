//! Hostile bytes: what a client, a DUMP payload, a snapshot file and a packed value may hold when somebody means harm.
//!
//! Each target is a function of some bytes that returns if all is well and panics if not. `cargo xtask fuzz` lets libFuzzer
//! look for bytes that make one panic, run long or take much memory; those that it found lie in `regressions/` and are run by
//! this crate's tests. Time and memory are watched by libFuzzer, so a target only says what must hold.

use engine::Config;
use engine::config::Protected;
use engine::testing::Harness;
use rdb::dump::FOOTER_LEN;
use structures::intset::Intset;
use structures::listpack::Listpack;

/// A function of some bytes, by the name of its program and of its directory of inputs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[("resp", resp), ("restore", restore), ("rdb", rdb), ("packed", packed)];

fn node() -> Harness {
    let config = Config {
        enable_debug_command: Protected::Yes,
        // A request may ask for that much and no more.
        proto_max_bulk_len: 1 << 20,
        rdbchecksum: false,
        ..Config::default()
    };
    Harness::with_config(config)
}

/// Bytes of clients, into the parser and what follows it. The first byte says how the rest is cut into reads.
///
/// What comes back must be whole replies, and other clients must be answered as before.
pub fn resp(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    if asks_for_what_may_take_long(bytes) {
        return;
    }
    let config = Config { proto_max_bulk_len: 1 << 20, ..Config::default() };
    let mut h = Harness::with_config(config);
    let other = h.connect();
    let piece = match cut {
        0 => bytes.len().max(1),
        cut => usize::from(*cut),
    };
    let conn = h.conn;
    for piece in bytes.chunks(piece) {
        // A protocol error has closed the connection, or the client has asked for it.
        if h.node.input(conn).is_none() {
            break;
        }
        h.raw(conn, piece);
    }
    let answer = h.run_on(other, "PING");
    // Refused only if the bytes have made a password, a pause or a load of it.
    assert!(!answer.is_empty() || asks_for_pause(bytes), "no answer to PING");
}

/// Some commands do what they are told, a billion times: Redis does so too.
fn asks_for_what_may_take_long(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    let has = |word: &[u8]| lower.windows(word.len()).any(|window| window == word);
    let digits = bytes.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    has(b"rand") && digits >= 5
}

fn asks_for_pause(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    [&b"pause"[..], b"kill", b"shutdown", b"failover", b"maxclients"]
        .iter()
        .any(|word| lower.windows(word.len()).any(|window| window == *word))
}

/// A payload of RESTORE without its footer, which is made to fit: version 11 and a good checksum. The first byte chooses
/// the version.
///
/// What loads must be of use like any other value, and must be the same after another DUMP and RESTORE.
pub fn restore(data: &[u8]) {
    let Some((version, value)) = data.split_first() else { return };
    let mut payload = value.to_vec();
    let version = if version & 0x80 == 0 { u16::from(version % 13) } else { 80 };
    payload.extend_from_slice(&version.to_le_bytes());
    payload.extend_from_slice(&rdb::crc::crc64(&payload).to_le_bytes());
    let mut h = node();
    if h.run_args(&[b"RESTORE", b"k", b"0", &payload]) == b"+OK\r\n" {
        use_value(&mut h, b"k");
    }
}

/// A snapshot file as it may lie there when the server starts.
pub fn rdb(data: &[u8]) {
    let mut h = node();
    h.node.begin_load_at_start(data.len() as u64);
    let result = data.chunks(1000).try_for_each(|piece| h.node.load_bytes(piece));
    h.node.load_finished(result);
    if h.node.core.is_loading() {
        return;
    }
    let keys = bulks(&h.run_args(&[b"KEYS", b"*"]));
    for key in keys.iter().take(8) {
        use_value(&mut h, key);
    }
}

/// A packed value by itself, as a listpack, an intset, a ziplist or a zipmap: the first byte chooses.
pub fn packed(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 5 {
        0 => listpack(bytes),
        1 => intset(bytes),
        2 => {
            if let Ok(count) = rdb::ziplist::validate(bytes) {
                assert_eq!(rdb::ziplist::entries(bytes).filter(Result::is_ok).count(), count);
            }
            rdb::ziplist::entries(bytes).take_while(Result::is_ok).for_each(drop);
        }
        3 => {
            let _ = rdb::zipmap::validate(bytes);
            rdb::zipmap::fields(bytes).take_while(Result::is_ok).for_each(drop);
        }
        _ => {
            let _ = rdb::listpack::count(bytes);
            rdb::listpack::entries(bytes).take_while(Result::is_ok).for_each(drop);
        }
    }
}

/// What was validated may be read and changed in every way.
fn listpack(bytes: &[u8]) {
    let Ok(pack) = Listpack::from_vec_validated(bytes.to_vec(), true) else { return };
    let forward: Vec<Vec<u8>> = pack.iter().map(|entry| entry.to_vec()).collect();
    let mut backward: Vec<Vec<u8>> = pack.iter_rev().map(|entry| entry.to_vec()).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    assert_eq!(forward.len(), pack.len());
    let still_valid = |pack: &Listpack, len: usize| {
        let again = Listpack::from_vec_validated(pack.to_wire(), true).expect("a change keeps it valid");
        assert_eq!(again.len(), len);
    };
    let mut changed = pack.clone();
    changed.push_back(b"behind");
    changed.push_front(b"1234567");
    still_valid(&changed, forward.len() + 2);
    let middle = changed.seek((changed.len() / 2) as i64).expect("the index is below the length");
    changed.replace(middle, &[b'x'; 300]);
    still_valid(&changed, forward.len() + 2);
    let end = changed.split_off(1);
    assert_eq!(changed.len() + end.len(), forward.len() + 2);
    still_valid(&end, forward.len() + 1);
    let mut emptied = pack;
    emptied.delete_range(0, forward.len());
    still_valid(&emptied, 0);
}

fn intset(bytes: &[u8]) {
    let Ok(mut set) = Intset::from_vec_validated(bytes.to_vec()) else { return };
    let members: Vec<i64> = set.iter().collect();
    assert!(members.is_sorted_by(|a, b| a < b), "members are in order and distinct");
    for member in members.iter().take(4) {
        assert!(set.contains(*member) && set.remove(*member) && set.add(*member));
    }
    set.add(i64::MAX);
    set.add(0);
    let again = Intset::from_vec_validated(set.bytes().to_vec()).expect("a change keeps it valid");
    assert!(again.iter().eq(set.iter()));
}

/// Reads and changes a value by each command of its type that walks over it.
fn use_value(h: &mut Harness, key: &[u8]) {
    // An expiry is no part of a payload, and it is of the digest.
    h.run_args(&[b"PERSIST", key]);
    let digest = |h: &mut Harness, key: &[u8]| h.run_args(&[b"DEBUG", b"DIGEST-VALUE", key]);
    let before = digest(h, key);
    let dumped = h.run_args(&[b"DUMP", key]);
    if let Some(payload) = bulks(&dumped).first() {
        assert!(payload.len() > FOOTER_LEN);
        let restored = h.run_args(&[b"RESTORE", b"again", b"0", payload, b"REPLACE"]);
        assert_eq!(restored, b"+OK\r\n", "{}", payload.escape_ascii());
        assert_eq!(digest(h, b"again"), before, "{}", payload.escape_ascii());
    }
    let kind = h.run_args(&[b"TYPE", key]);
    let commands: &[&[&str]] = match kind.as_slice() {
        b"+string\r\n" => &[
            &["STRLEN", "K"],
            &["GETRANGE", "K", "0", "-1"],
            &["APPEND", "K", "x"],
            &["SETRANGE", "K", "2", "y"],
            &["GETBIT", "K", "100"],
            &["BITCOUNT", "K"],
            &["PFCOUNT", "K"],
            &["PFADD", "K", "e"],
            &["PFMERGE", "K", "again"],
            &["INCR", "K"],
        ],
        b"+list\r\n" => &[
            &["LRANGE", "K", "0", "-1"],
            &["LPOS", "K", "a"],
            &["LINSERT", "K", "BEFORE", "a", "b"],
            &["LSET", "K", "0", "x"],
            &["RPUSH", "K", "1"],
            &["LPUSH", "K", "2"],
            &["LREM", "K", "0", "1"],
            &["LINDEX", "K", "-2"],
            &["LMOVE", "K", "K", "LEFT", "RIGHT"],
            &["LTRIM", "K", "1", "-2"],
            &["RPOP", "K"],
            &["LPOP", "K", "3"],
        ],
        b"+set\r\n" => &[
            &["SMEMBERS", "K"],
            &["SCARD", "K"],
            &["SISMEMBER", "K", "a"],
            &["SRANDMEMBER", "K", "-5"],
            &["SSCAN", "K", "0"],
            &["SUNIONSTORE", "again", "K", "again"],
            &["SADD", "K", "5", "text"],
            &["SREM", "K", "5"],
            &["SPOP", "K", "2"],
        ],
        b"+zset\r\n" => &[
            &["ZRANGE", "K", "0", "-1", "WITHSCORES"],
            &["ZREVRANGE", "K", "0", "-1"],
            &["ZRANGEBYSCORE", "K", "-inf", "+inf"],
            &["ZRANGEBYLEX", "K", "-", "+"],
            &["ZRANK", "K", "a"],
            &["ZCOUNT", "K", "0", "5"],
            &["ZSCAN", "K", "0"],
            &["ZUNIONSTORE", "again", "2", "K", "again"],
            &["ZADD", "K", "1.5", "x"],
            &["ZINCRBY", "K", "1", "a"],
            &["GEODIST", "K", "a", "b"],
            &["ZREM", "K", "a"],
            &["ZPOPMIN", "K", "2"],
            &["ZPOPMAX", "K"],
            &["ZRANDMEMBER", "K", "-3", "WITHSCORES"],
            &["ZREMRANGEBYRANK", "K", "0", "1"],
        ],
        b"+hash\r\n" => &[
            &["HGETALL", "K"],
            &["HKEYS", "K"],
            &["HGET", "K", "a"],
            &["HSTRLEN", "K", "a"],
            &["HSCAN", "K", "0"],
            &["HRANDFIELD", "K", "-4", "WITHVALUES"],
            &["HTTL", "K", "FIELDS", "1", "a"],
            &["HSET", "K", "a", "1", "new", "2"],
            &["HINCRBY", "K", "a", "3"],
            &["HDEL", "K", "a"],
            &["HEXPIRE", "K", "100", "FIELDS", "1", "new"],
        ],
        b"+stream\r\n" => &[
            &["XLEN", "K"],
            &["XRANGE", "K", "-", "+"],
            &["XREVRANGE", "K", "+", "-"],
            &["XINFO", "STREAM", "K", "FULL"],
            &["XINFO", "GROUPS", "K"],
            &["XREADGROUP", "GROUP", "g", "c", "COUNT", "3", "STREAMS", "K", ">"],
            &["XPENDING", "K", "g", "-", "+", "10"],
            &["XAUTOCLAIM", "K", "g", "c", "0", "0"],
            &["XADD", "K", "*", "f", "v"],
            &["XDEL", "K", "1-1"],
            &["XTRIM", "K", "MAXLEN", "2"],
        ],
        other => panic!("no type that TYPE could name: {}", other.escape_ascii()),
    };
    h.run_args(&[b"OBJECT", b"ENCODING", key]);
    for command in commands {
        let args: Vec<&[u8]> =
            command.iter().map(|arg| if *arg == "K" { key } else { arg.as_bytes() }).collect();
        h.run_args(&args);
    }
    h.run_args(&[b"COPY", key, b"copy", b"REPLACE"]);
    let (of_copy, of_key) = (digest(h, b"copy"), digest(h, key));
    // The last command may have emptied it.
    if h.run_args(&[b"EXISTS", key]) == b":1\r\n" {
        assert_eq!(of_copy, of_key);
    }
}

/// The bulk strings of a flat reply.
fn bulks(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = reply;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, behind) = (&rest[..end], &rest[end + 2..]);
        rest = behind;
        if let Some(len) = line.strip_prefix(b"$")
            && let Some(len) = std::str::from_utf8(len).ok().and_then(|len| len.parse::<usize>().ok())
        {
            found.push(rest[..len].to_vec());
            rest = &rest[len + 2..];
        }
    }
    found
}
