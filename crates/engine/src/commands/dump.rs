//! Values as bytes: `DUMP` and `RESTORE`.

use std::collections::BTreeMap;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::{Entry, EntryExt, HashRef};
use rdb::DecodeOptions;
use replication::{Feature, Needs};

use crate::bridge;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::load;
use crate::notify::Event;
use crate::rdb_writer;
use crate::store::Expiry;

pub const COMMANDS: &[Command<Handler>] = &[DUMP, RESTORE];

/// DUMP key
const DUMP: Command<Handler> = Command {
    name: "dump",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "2.6.0",
        complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis \
                     objects composing the value and M their average size. For small string values the time \
                     complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
        summary: "Returns the value of a key as bytes that RESTORE understands.",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(dump)
};

/// RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
const RESTORE: Command<Handler> = Command {
    name: "restore",
    group: Group::Generic,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Keyspace, Category::Dangerous]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update])],
    docs: &Docs {
        since: "2.6.0",
        complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is \
                     the number of Redis objects composing the value and M their average size. For small string \
                     values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for \
                     sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is \
                     O(log(N)).",
        summary: "Creates a key from the bytes that DUMP gave.",
        history: &[
            ("3.0.0", "Added the `REPLACE` modifier."),
            ("5.0.0", "Added the `ABSTTL` modifier."),
            ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("ttl"),
            Arg::string("serialized-value"),
            Arg::pure_token("replace", "REPLACE").since("3.0.0").optional(),
            Arg::pure_token("absttl", "ABSTTL").since("5.0.0").optional(),
            Arg::integer("seconds").token("IDLETIME").since("5.0.0").optional(),
            Arg::integer("frequency").token("FREQ").since("5.0.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(restore)
};

fn dump(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(entry) = ctx.store.read(ctx.key(1)) else {
        ctx.reply.null();
        return Ok(());
    };
    let payload = rdb_writer::dump(entry, ctx.core.config.rdbcompression)
        .map_err(|error| CommandError::text(format!("ERR {error}")))?;
    ctx.reply.bulk(&payload);
    Ok(())
}

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    /// The TTL is a point in time.
    absolute: bool,
    idle_s: Option<i64>,
    freq: Option<i64>,
}

impl RestoreOptions {
    fn parse(mut options: Options<'_>) -> Result<RestoreOptions, CommandError> {
        let mut parsed = RestoreOptions::default();
        while let Some(option) = options.next() {
            let has_value = !options.rest().is_empty();
            if is_token(option, "REPLACE") {
                parsed.replace = true;
            } else if is_token(option, "ABSTTL") {
                parsed.absolute = true;
            } else if is_token(option, "IDLETIME") && has_value && parsed.freq.is_none() {
                let idle_s = options.int()?;
                if idle_s < 0 {
                    return Err(CommandError::fixed("ERR Invalid IDLETIME value, must be >= 0"));
                }
                parsed.idle_s = Some(idle_s);
            } else if is_token(option, "FREQ") && has_value && parsed.idle_s.is_none() {
                let freq = options.int()?;
                if !(0..=255).contains(&freq) {
                    return Err(CommandError::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
                parsed.freq = Some(freq);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(parsed)
    }
}

fn restore(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = RestoreOptions::parse(Options::new(ctx.argv, 4))?;
    let key = ctx.key(1);
    // That it is looked up counts as an access, as in Redis.
    if !options.replace && ctx.store.write(key).is_some() {
        return Err(CommandError::BusyKey);
    }
    let ttl = ctx.argv.int(2)?;
    if ttl < 0 {
        return Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0"));
    }
    let now_ms = ctx.store.now_ms;
    let expire_at_ms = match (ttl, options.absolute) {
        (0, _) => None,
        (at, true) => Some(at),
        // Beyond the end of time lies the past, as in Redis: nothing is created.
        (ttl, false) => Some(ttl.wrapping_add(now_ms)),
    };
    let verify_checksum = !ctx.core.config.skip_checksum_validation;
    let (mut decoder, value) = rdb::dump::open_with(ctx.argv.at(3), DecodeOptions { verify_checksum })
        .map_err(|_| CommandError::fixed("ERR DUMP payload version or checksum are wrong"))?;
    let restored = load::restore(&mut decoder, value, key.bytes, expire_at_ms, &ctx.store.limits);
    let entry = match restored {
        Ok(entry) => entry,
        Err(why) => {
            ctx.core.verbose(why);
            return Err(CommandError::fixed("ERR Bad data format"));
        }
    };

    let lazily = ctx.store.lazy.server_del;
    // Not alive means not there, except on a replica, where a key may be hidden.
    let deleted = ctx.store.delete_quietly(key, lazily);
    if expire_at_ms.is_some_and(|at| at <= now_ms) && ctx.store.expiry == Expiry::Delete {
        if deleted {
            ctx.store.effects.propagate_as(&[b"DEL", key.bytes]);
            ctx.store.modified(key.bytes);
            ctx.store.notify(Event::GENERIC, "del", key.bytes);
        }
        ctx.reply.ok();
        return Ok(());
    }
    let (idle_s, freq) = (options.idle_s.map(i64::unsigned_abs), options.freq.map(|freq| freq as u8));
    let clock = ctx.store.access.restored(idle_s, freq);
    if ctx.store.effects.recording {
        propagate(ctx, &entry, expire_at_ms, options.absolute);
    }
    ctx.store.add_entry(key.hash, entry).set_clock(clock);
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::GENERIC, "restore", key.bytes);
    ctx.reply.ok();
    Ok(())
}

/// Tells replicas of a restored value in a form that all of them read: a server refuses the payload of one that is newer
/// or of another make.
fn propagate(ctx: &mut Ctx<'_>, entry: &Entry, expire_at_ms: Option<i64>, absolute: bool) {
    let mut at_text = itoa::Buffer::new();
    if let Some(hash) = entry.as_hash().ok().filter(HashRef::has_ttl) {
        return propagate_fields(ctx, entry.key(), hash, expire_at_ms);
    }
    let mut args: Vec<&[u8]> = ctx.argv.iter().collect();
    if let Some(at) = expire_at_ms.filter(|_| !absolute) {
        args[2] = at_text.format(at).as_bytes();
        args.push(b"ABSTTL");
    }
    let is_old = bridge::payload_needs(args[3]).iter().all(|feature| feature == Feature::Rdb10);
    let written = if is_old { None } else { rdb_writer::dump(entry, ctx.core.config.rdbcompression).ok() };
    if let Some(payload) = &written {
        args[3] = payload;
    }
    let payload = args[3];
    ctx.store.effects.propagate_as(&args);
    if bridge::payload_needs(payload) != Needs::NONE {
        ctx.store.effects.need(Feature::Rdb10, &args);
    }
}

/// No payload with expiries of fields is read by both Redis and Valkey.
fn propagate_fields(ctx: &mut Ctx<'_>, key: &[u8], hash: HashRef<'_>, expire_at_ms: Option<i64>) {
    ctx.store.effects.propagate_as(&[b"DEL", key]);
    let mut fields: Vec<Vec<u8>> = Vec::with_capacity(hash.len() * 2);
    let mut by_time: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in hash.iter(i64::MIN) {
        let name = name.to_vec();
        if let Some(at) = hash.expire_at(&name) {
            by_time.entry(at).or_default().push(name.clone());
        }
        fields.extend([name, value.to_vec()]);
    }
    let mut args: Vec<&[u8]> = vec![b"HSET", key];
    args.extend(fields.iter().map(Vec::as_slice));
    ctx.store.effects.propagate_as(&args);
    if let Some(at) = expire_at_ms {
        ctx.store.effects.propagate(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
    }
    for (at, names) in &by_time {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        super::hash_ttl::propagate_expiry(ctx.store, key, *at, &[], &names);
    }
}

#[cfg(test)]
mod tests {
    use replication::Level;

    use crate::action::Action;
    use crate::testing::Harness;

    /// DUMP of `SET k 10` in redis 7.0.15.
    const TEN: &[u8] = b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb";

    fn restore(h: &mut Harness, key: &str, ttl: &str, payload: &[u8], options: &[&str]) -> String {
        let mut args = vec![b"RESTORE", key.as_bytes(), ttl.as_bytes(), payload];
        args.extend(options.iter().map(|option| option.as_bytes()));
        h.run_args(&args).escape_ascii().to_string()
    }

    #[test]
    fn a_payload_of_redis_is_restored_and_ours_is_the_same_but_for_the_version() {
        let mut h = Harness::new();
        assert_eq!(h.run("DUMP k"), r"$-1\r\n");
        assert_eq!(restore(&mut h, "k", "0", TEN, &[]), r"+OK\r\n");
        assert_eq!(h.run("GET k"), r"$2\r\n10\r\n");
        let ours = h.run_args(&[b"DUMP", b"k"]);
        assert!(ours.starts_with(b"$13\r\n\x00\xc0\n\t\x00"), "{}", ours.escape_ascii());
        assert_eq!(restore(&mut h, "copy", "0", &ours[5..18], &[]), r"+OK\r\n");
    }

    #[test]
    fn errors_in_the_order_of_redis() {
        let mut h = Harness::new();
        restore(&mut h, "k", "0", TEN, &[]);
        h.propagated();
        let mut bad = TEN.to_vec();
        bad[1] ^= 1;
        for (key, ttl, payload, options, error) in [
            ("k", "x", TEN, &["NOSUCH"][..], "ERR syntax error"),
            ("k", "x", TEN, &["IDLETIME"], "ERR syntax error"),
            ("k", "x", TEN, &["IDLETIME", "1", "FREQ", "1"], "ERR syntax error"),
            ("k", "x", TEN, &["IDLETIME", "a"], "ERR value is not an integer or out of range"),
            ("k", "x", TEN, &["IDLETIME", "-1"], "ERR Invalid IDLETIME value, must be >= 0"),
            ("k", "x", TEN, &["FREQ", "256"], "ERR Invalid FREQ value, must be >= 0 and <= 255"),
            ("k", "x", TEN, &[], "BUSYKEY Target key name already exists."),
            ("l", "x", TEN, &[], "ERR value is not an integer or out of range"),
            ("l", "-1", TEN, &[], "ERR Invalid TTL value, must be >= 0"),
            ("l", "0", &bad, &[], "ERR DUMP payload version or checksum are wrong"),
            ("l", "0", b"", &[], "ERR DUMP payload version or checksum are wrong"),
        ] {
            assert_eq!(restore(&mut h, key, ttl, payload, options), format!("-{error}\\r\\n"));
        }
        for value in [
            b"\x00\x05abc".as_slice(),
            b"\x02\x00",
            b"\x02\x02\x01a\x01a",
            b"\x0f",
            b"\x10\x07\0\0\0\0\0\xff",
        ] {
            let mut payload = value.to_vec();
            rdb::dump::seal(&mut payload, rdb::Target::V10);
            assert_eq!(restore(&mut h, "l", "0", &payload, &[]), r"-ERR Bad data format\r\n", "{value:?}");
        }
        assert_eq!(h.propagated(), Vec::<String>::new());
    }

    /// What upstream's tests of corrupt payloads look for in the log.
    #[test]
    fn a_broken_payload_leaves_a_line_in_the_log() {
        let mut h = Harness::new();
        let footer = b"\x09\0and not a checksum"[..10].to_vec();
        let run = |h: &mut Harness, value: &[u8]| {
            h.node.take_actions();
            let answer = restore(h, "k", "0", &[value, &footer].concat(), &[]);
            let logged = h.node.take_actions().into_iter().find_map(|action| match action {
                Action::Log { level: Level::Verbose, message } => Some(message),
                _ => None,
            });
            (answer, logged)
        };
        let (answer, logged) = run(&mut h, b"\x00\x01a");
        assert_eq!(answer, r"-ERR DUMP payload version or checksum are wrong\r\n");
        assert_eq!(logged, None);
        assert_eq!(h.run("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1"), r"+OK\r\n");
        for (value, why) in [
            (&b"\x00\x05abc"[..], "offset 1, Unexpected EOF reading RDB file"),
            (b"\x02\x00", "empty collection"),
            (b"\x02\x02\x01a\x01a", "Duplicate set members detected"),
            (b"\x09\x02\0\xff", "Zipmap integrity check failed."),
            (b"\x0b\x03abc", "Intset integrity check failed."),
            (b"\x0c\x03abc", "Zset ziplist integrity check failed."),
            (b"\x0d\x03abc", "Hash ziplist integrity check failed."),
            (b"\x0e\x01\x03abc", "Ziplist integrity check failed."),
            (b"\x0a\x03abc", "List ziplist integrity check failed."),
            (b"\x10\x03abc", "Hash listpack integrity check failed."),
            (b"\x11\x03abc", "Zset listpack integrity check failed."),
            (b"\x12\x01\x02\x03abc", "Listpack integrity check failed."),
            (b"\x14\x03abc", "Set listpack integrity check failed."),
            (b"\x0f\x01\x10aaaabbbbccccdddd\x03abc", "Stream listpack integrity check failed."),
        ] {
            let (answer, logged) = run(&mut h, value);
            assert_eq!(answer, r"-ERR Bad data format\r\n");
            let logged = logged.expect("it is logged");
            assert!(logged.starts_with("Internal error in RDB reading offset "), "{logged}");
            assert!(logged.ends_with(why), "{logged}, not {why}");
        }
        assert_eq!(run(&mut h, b"\x00\x01a"), (r"+OK\r\n".to_owned(), None));
        assert_eq!(h.run("DEBUG SET-SKIP-CHECKSUM-VALIDATION 0"), r"+OK\r\n");
        assert!(run(&mut h, b"\x00\x01a").0.contains("BUSYKEY"));
        assert!(restore(&mut h, "l", "0", &[&b"\x00\x01a"[..], &footer].concat(), &[]).contains("checksum"));
    }

    #[test]
    fn time_to_live_is_propagated_as_a_point_in_time() {
        let mut h = Harness::new();
        let payload = TEN.escape_ascii().to_string();
        restore(&mut h, "a", "0", TEN, &[]);
        restore(&mut h, "b", "1500", TEN, &["REPLACE"]);
        restore(&mut h, "c", "1700000000001", TEN, &["ABSTTL"]);
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0".to_owned(),
                format!("RESTORE a 0 {payload}"),
                format!("RESTORE b 1700000001500 {payload} REPLACE ABSTTL"),
                format!("RESTORE c 1700000000001 {payload} ABSTTL"),
            ]
        );
        h.advance_ms(2);
        assert_eq!(h.run("GET c"), r"$-1\r\n");
        assert_eq!(h.run("GET b"), r"$2\r\n10\r\n");
        h.propagated();
        // What is over already is not created, and replaces what was there by nothing.
        assert_eq!(restore(&mut h, "d", "1", TEN, &["ABSTTL"]), r"+OK\r\n");
        assert_eq!(h.propagated(), Vec::<String>::new());
        assert_eq!(restore(&mut h, "a", "1", TEN, &["ABSTTL", "REPLACE"]), r"+OK\r\n");
        assert_eq!(h.propagated(), ["DEL a"]);
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        // So is what would be over after the end of time.
        assert_eq!(restore(&mut h, "e", "9223372036854775807", TEN, &[]), r"+OK\r\n");
        assert_eq!(h.run("EXISTS e"), r":0\r\n");
    }

    /// Payloads of `SADD k x` and of `HSET k a 1` with an expiry of the field, in redis 8.2.3 and valkey 9.1.2: replicas of
    /// other servers refuse them by their version.
    #[test]
    fn what_is_propagated_is_read_by_any_server() {
        let mut h = Harness::new();
        let seal = |value: &[u8], target| {
            let mut payload = value.to_vec();
            rdb::dump::seal(&mut payload, target);
            payload
        };
        for target in [rdb::Target::V11, rdb::Target::V12, rdb::Target::Valkey80] {
            let payload = seal(b"\x02\x01\x01x", target);
            assert_eq!(restore(&mut h, "k", "1500", &payload, &["REPLACE"]), r"+OK\r\n");
            let told = h.propagated().pop().expect("it was told");
            let ours = seal(b"\x02\x01\x01x", rdb::Target::V9).escape_ascii().to_string();
            assert_eq!(told, format!("RESTORE k 1700000001500 {ours} REPLACE ABSTTL"));
        }
        assert_eq!(h.run("HSET h b 2 a 1"), r":2\r\n");
        assert_eq!(h.run("HPEXPIREAT h 1700000005000 FIELDS 1 a"), r"*1\r\n:1\r\n");
        let reply = h.run_args(&[b"DUMP", b"h"]);
        let at = reply.iter().position(|byte| *byte == b'\n').expect("a bulk string") + 1;
        h.propagated();
        assert_eq!(restore(&mut h, "h", "9000", &reply[at..reply.len() - 2], &["REPLACE"]), r"+OK\r\n");
        let mut told = h.propagated();
        told[2] = told[2].replace("HSET h b 2 a 1", "HSET h a 1 b 2");
        assert_eq!(
            told,
            [
                "MULTI",
                "DEL h",
                "HSET h a 1 b 2",
                "PEXPIREAT h 1700000009000",
                "HPEXPIREAT h 1700000005000 FIELDS 1 a",
                "EXEC"
            ]
        );
    }

    #[test]
    fn idle_time_is_taken_on() {
        use keyspace::{EntryExt, Key};
        let mut h = Harness::new();
        restore(&mut h, "k", "0", TEN, &["IDLETIME", "1000"]);
        let entry = h.node.store.db_at(0).peek(Key::new(b"k")).unwrap();
        assert_eq!(h.node.store.access.idle_s(entry.clock()), 1000);
    }
}
