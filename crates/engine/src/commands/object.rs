//! How values are kept: `OBJECT`.

use command::{Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec};
use keyspace::{EntryExt, Str};

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};

pub const COMMANDS: &[Command<Handler>] = &[OBJECT];

/// OBJECT
const OBJECT: Command<Handler> = Command {
    name: "object",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        summary: "Tells how a value is kept.",
        since: "2.2.3",
        complexity: "Depends on the subcommand",
        ..Docs::NONE
    },
    ..Command::parent(&[OBJECT_ENCODING, OBJECT_FREQ, OBJECT_HELP, OBJECT_IDLETIME, OBJECT_REFCOUNT])
};

/// OBJECT ENCODING key
const OBJECT_ENCODING: Command<Handler> = Command {
    name: "encoding",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns how a value lies in memory.",
        since: "2.2.3",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(object_encoding)
};

/// OBJECT FREQ key
const OBJECT_FREQ: Command<Handler> = Command {
    name: "freq",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns how often a key is used, on a logarithmic scale.",
        since: "4.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(object_freq)
};

/// OBJECT HELP
const OBJECT_HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Keyspace]),
    docs: &Docs { summary: "Lists the subcommands.", since: "6.2.0", complexity: "O(1)", ..Docs::NONE },
    ..Command::runs(object_help)
};

/// OBJECT IDLETIME key
const OBJECT_IDLETIME: Command<Handler> = Command {
    name: "idletime",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns the seconds since a key was last used.",
        since: "2.2.3",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(object_idletime)
};

/// OBJECT REFCOUNT key
const OBJECT_REFCOUNT: Command<Handler> = Command {
    name: "refcount",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns how many references there are to a value.",
        since: "2.2.3",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(object_refcount)
};

/// Integers below this are one shared object in Redis, which says so by this reference count.
const SHARED_INTEGERS: i64 = 10_000;
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

const HELP: &[&str] = &[
    "ENCODING <key>",
    "    How the value of <key> lies in memory.",
    "FREQ <key>",
    "    How often <key> is used, on a logarithmic scale. Needs an LFU maxmemory policy.",
    "IDLETIME <key>",
    "    Seconds since <key> was last used. Needs a maxmemory policy other than LFU.",
    "REFCOUNT <key>",
    "    References to the value of <key>.",
];

fn object_encoding(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.store.peek(ctx.key(2)) {
        None => ctx.reply.null(),
        Some(entry) => ctx.reply.bulk(entry.encoding().as_bytes()),
    }
    Ok(())
}

fn object_refcount(ctx: &mut Ctx<'_>) -> CmdResult {
    // Redis gives each key an integer of its own where it keeps the key's clock in it.
    let config = &ctx.core.config;
    let shares = config.maxmemory == 0 || !config.maxmemory_policy.reads_clocks();
    match ctx.store.peek(ctx.key(2)) {
        None => ctx.reply.null(),
        Some(entry) => {
            let shared = shares
                && matches!(entry.as_str(), Ok(Str::Int(value)) if (0..SHARED_INTEGERS).contains(&value));
            ctx.reply.int(if shared { SHARED_REFCOUNT } else { 1 });
        }
    }
    Ok(())
}

fn object_idletime(ctx: &mut Ctx<'_>) -> CmdResult {
    let access = ctx.store.access;
    match ctx.store.peek(ctx.key(2)) {
        None => ctx.reply.null(),
        Some(entry) if access.lfu.is_none() => ctx.reply.int(i64::from(access.idle_s(entry.clock()))),
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

fn object_freq(ctx: &mut Ctx<'_>) -> CmdResult {
    let access = ctx.store.access;
    match ctx.store.peek(ctx.key(2)) {
        None => ctx.reply.null(),
        Some(entry) if access.lfu.is_some() => ctx.reply.int(i64::from(access.frequency(entry.clock()))),
        Some(_) => return Err(NOT_COUNTED),
    }
    Ok(())
}

const NOT_COUNTED: CommandError = CommandError::fixed(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.",
);

fn object_help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn how_strings_are_kept() {
        let mut h = Harness::new();
        h.run("MSET int 12 emb abc");
        h.run(&format!("SET raw {}", "x".repeat(45)));
        h.run(&format!("SET max {}", "x".repeat(44)));
        h.run(&format!("SET big {}", "x".repeat(5000)));
        for (line, reply) in [
            ("OBJECT ENCODING int", r"$3\r\nint\r\n"),
            ("OBJECT ENCODING emb", r"$6\r\nembstr\r\n"),
            ("OBJECT ENCODING max", r"$6\r\nembstr\r\n"),
            ("OBJECT ENCODING raw", r"$3\r\nraw\r\n"),
            ("OBJECT ENCODING big", r"$3\r\nraw\r\n"),
            ("OBJECT ENCODING nosuch", r"$-1\r\n"),
            ("OBJECT REFCOUNT int", r":2147483647\r\n"),
            ("OBJECT REFCOUNT emb", r":1\r\n"),
            ("OBJECT FREQ nosuch", r"$-1\r\n"),
            ("OBJECT ENCODING", r"-ERR wrong number of arguments for \'object|encoding\' command\r\n"),
            ("OBJECT NOSUCH int", r"-ERR unknown subcommand \'NOSUCH\'. Try OBJECT HELP.\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert!(h.run("OBJECT FREQ int").starts_with("-ERR An LFU maxmemory policy is not selected"));
        assert!(h.run("OBJECT HELP").starts_with(r"*11\r\n+OBJECT <subcommand>"));
    }

    #[test]
    fn frequencies_are_counted_under_lfu_and_survive_a_reload() {
        let mut h = Harness::new();
        h.run("CONFIG SET maxmemory-policy allkeys-lfu lfu-log-factor 0");
        h.run("SET a 1");
        assert_eq!(h.run("OBJECT FREQ a"), r":5\r\n");
        (0..20).for_each(|_| assert_eq!(h.run("GET a"), r"$1\r\n1\r\n"));
        assert_eq!(h.run("OBJECT FREQ a"), r":25\r\n");
        // Another value, and another name, is as often asked for.
        h.run("SET a 2");
        h.run("RENAME a b");
        assert_eq!(h.run("OBJECT FREQ b"), r":27\r\n");
        assert!(h.run("OBJECT IDLETIME b").starts_with("-ERR An LFU maxmemory policy is selected"));
        let payload = h.run_args(&[b"DUMP", b"b"]);
        let start = payload.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let payload = &payload[start..payload.len() - 2];
        h.run_args(&[b"RESTORE", b"c", b"0", payload, b"FREQ", b"100"]);
        assert_eq!(h.run("DEBUG RELOAD"), r"+OK\r\n");
        // DUMP was one more use of it.
        assert_eq!(h.run("OBJECT FREQ b"), r":28\r\n");
        assert_eq!(h.run("OBJECT FREQ c"), r":100\r\n");
        h.advance_ms(10 * 60_000);
        assert_eq!(h.run("OBJECT FREQ c"), r":90\r\n");
    }

    #[test]
    fn idle_times_survive_a_reload_where_they_decide() {
        for (policy, idle) in [("volatile-lru", r":100\r\n"), ("noeviction", r":0\r\n")] {
            let mut h = Harness::new();
            h.run(&format!("CONFIG SET maxmemory-policy {policy}"));
            h.run("SET a 1");
            h.advance_ms(100_000);
            assert_eq!(h.run("DEBUG RELOAD"), r"+OK\r\n");
            assert_eq!(h.run("OBJECT IDLETIME a"), idle, "{policy}");
        }
    }

    #[test]
    fn who_does_not_touch_leaves_the_idle_time() {
        let mut h = Harness::new();
        h.run("SET a 1");
        h.run("RPUSH l 1");
        h.run("CLIENT NO-TOUCH on");
        h.advance_ms(5000);
        h.run("GET a");
        h.run("RPUSH l 2");
        assert_eq!(
            (h.run("OBJECT IDLETIME a"), h.run("OBJECT IDLETIME l")),
            (":5\\r\\n".into(), ":5\\r\\n".into())
        );
        h.run("TOUCH a");
        assert_eq!(h.run("OBJECT IDLETIME a"), r":0\r\n");
        let other = h.connect();
        h.run_on(other, "LLEN l");
        assert_eq!(h.run("OBJECT IDLETIME l"), r":0\r\n");
    }

    #[test]
    fn only_use_resets_the_idle_time() {
        let mut h = Harness::new();
        h.run("SET a 1");
        h.advance_ms(7000);
        for looks in ["TTL a", "TYPE a", "EXISTS a", "OBJECT ENCODING a", "OBJECT IDLETIME a"] {
            h.run(looks);
        }
        assert_eq!(h.run("OBJECT IDLETIME a"), r":7\r\n");
        for uses in ["GET a", "TOUCH a", "MGET a", "INCR a", "SET a 1"] {
            h.advance_ms(3000);
            h.run(uses);
            assert_eq!(h.run("OBJECT IDLETIME a"), r":0\r\n", "{uses}");
        }
        // The clock has 24 bits: half a year.
        h.advance_ms((1 << 24) * 1000 + 5000);
        assert_eq!(h.run("OBJECT IDLETIME a"), r":5\r\n");
    }
}
