//! `DEBUG`: looks into the server and pushes it about, for tests and repair.

use std::ops::RangeInclusive;

use command::{Arity, Command, CommandError, Docs, Flag, Flags, Group, ParseArgs, is_token};
use keyspace::{EntryExt, Key, Set, Value, ZSet, digest};
use structures::number::{parse_f64, parse_i64};

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::params;
use crate::persist::{self, ReloadOptions};
use crate::rdb_writer;

pub const COMMANDS: &[Command<Handler>] = &[DEBUG];

/// A verb, how many arguments the command has with it, and what it does.
type Verb = (&'static str, RangeInclusive<usize>, Handler);

const ANY: usize = usize::MAX;

const VERBS: &[Verb] = &[
    ("assert", 2..=2, crash),
    ("change-repl-id", 2..=2, change_repl_id),
    ("config-rewrite-force-all", 2..=2, config_rewrite_force_all),
    ("digest", 2..=2, digest_all),
    ("digest-value", 2..=ANY, digest_value),
    ("error", 3..=3, error),
    ("help", 2..=2, help),
    ("htstats", 3..=4, htstats),
    ("htstats-key", 3..=4, htstats_key),
    ("listpack", 3..=3, listpack),
    ("log", 3..=3, log),
    ("object", 3..=3, object),
    ("panic", 2..=2, crash),
    ("pause-cron", 3..=3, pause_cron),
    ("populate", 3..=5, populate),
    ("protocol", 3..=3, protocol),
    ("quicklist-packed-threshold", 3..=3, quicklist_packed_threshold),
    ("reload", 2..=ANY, reload),
    ("replicate", 3..=ANY, replicate),
    ("segfault", 2..=2, crash),
    ("set-active-expire", 3..=3, set_active_expire),
    ("set-skip-checksum-validation", 3..=3, set_skip_checksum_validation),
    ("sleep", 3..=3, sleep),
];

const HELP_LINES: &[&str] = &[
    "ASSERT, PANIC, SEGFAULT",
    "    Crash.",
    "CHANGE-REPL-ID",
    "    Begin a new history.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE, with all defaults.",
    "DIGEST",
    "    Tell a fingerprint of the data set.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Tell fingerprints of values.",
    "ERROR <string>",
    "    Answer this error.",
    "HTSTATS <dbid>",
    "    Tell about the tables of a database.",
    "HTSTATS-KEY <key>",
    "    Tell about the table of a value.",
    "LISTPACK <key>",
    "    Tell about the listpack of a value.",
    "LOG <message>",
    "    Write to the log.",
    "OBJECT <key>",
    "    Tell about a value.",
    "PAUSE-CRON <0|1>",
    "    Stop the periodic work.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Make <count> string keys <prefix>:<number>, of <size> bytes.",
    "PROTOCOL <type>",
    "    Answer a value of this type.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Make list elements of this size nodes of their own; 0 is the default.",
    "RELOAD [option ...]",
    "    Save the data set and load it again. Options: MERGE, NOFLUSH, NOSAVE.",
    "REPLICATE <string> [<string> ...]",
    "    Put a command into the replication stream.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Stop or start the deletion of keys that nobody looks at.",
    "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    "    Believe payloads and files whose checksum is wrong.",
    "SLEEP <seconds>",
    "    Do nothing for a while.",
];

/// DEBUG
const DEBUG: Command<Handler> = Command {
    name: "debug",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Protected]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "Depends on subcommand",
        summary: "Looks into the server, for tests and repair.",
        syscmd: true,
        ..Docs::NONE
    },
    ..Command::runs(debug)
};

fn debug(ctx: &mut Ctx<'_>) -> CmdResult {
    let verb = ctx.argv.at(1);
    let row = VERBS.iter().find(|(name, argc, _)| is_token(verb, name) && argc.contains(&ctx.argv.len()));
    let (_, _, run) = row.ok_or_else(|| CommandError::subcommand_syntax(ctx.argv))?;
    run(ctx)
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP_LINES);
    Ok(())
}

/// The surroundings report a panic with a backtrace and end the process.
fn crash(ctx: &mut Ctx<'_>) -> CmdResult {
    panic!("DEBUG {} was asked for", ctx.argv.at(1).escape_ascii());
}

fn change_repl_id(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.warning("Changing replication IDs after receiving DEBUG change-repl-id");
    let id = ctx.core.random_replid();
    ctx.core.repl.history.adopt(id);
    ctx.reply.ok();
    Ok(())
}

fn config_rewrite_force_all(ctx: &mut Ctx<'_>) -> CmdResult {
    let failed = |reason: &str| CommandError::text(format!("ERR CONFIG-REWRITE-FORCE-ALL failed: {reason}"));
    let path = ctx.core.config_file.clone().ok_or_else(|| failed("there is no config file"))?;
    let mut rows = params::rewrite_lines(&mut ctx.core.config);
    rows.iter_mut().flat_map(|row| &mut row.lines).for_each(|line| line.is_default = false);
    ctx.core.env.rewrite_config(&path, &rows).map_err(|reason| failed(&reason))?;
    ctx.reply.ok();
    Ok(())
}

fn digest_all(ctx: &mut Ctx<'_>) -> CmdResult {
    let store = &*ctx.store;
    let digest = digest::of_databases((0..store.databases()).map(|index| store.db_at(index)));
    ctx.reply.simple(&digest.to_string());
    Ok(())
}

fn digest_value(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.array(ctx.argv.len() - 2);
    for key in ctx.argv.tail(2).iter() {
        // Physically: keys whose time has run out are seen too.
        let digest = ctx.store.db().peek(Key::new(key)).map(digest::of_value).unwrap_or_default();
        ctx.reply.simple(&digest.to_string());
    }
    Ok(())
}

fn error(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.error(ctx.argv.at(2));
    Ok(())
}

fn log(ctx: &mut Ctx<'_>) -> CmdResult {
    let message = String::from_utf8_lossy(ctx.argv.at(2)).into_owned();
    ctx.core.warning(format!("DEBUG LOG: {message}"));
    ctx.reply.ok();
    Ok(())
}

fn htstats(ctx: &mut Ctx<'_>) -> CmdResult {
    let index = usize::try_from(ctx.argv.int(2)?).ok().filter(|index| *index < ctx.store.databases());
    let db = ctx.store.db_at(index.ok_or(CommandError::fixed("ERR Out of range database"))?);
    let text = format!(
        "[Dictionary HT]\nHash table 0 stats (main hash table):\n number of elements: {}\n bytes: {}\n[Expires HT]\n \
         number of elements: {}\n bytes: {}\n",
        db.len(),
        db.overhead_bytes() - db.expires().bytes(),
        db.expires().len(),
        db.expires().bytes(),
    );
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn htstats_key(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = ctx.store.peek(Key::new(ctx.argv.at(2))).ok_or(CommandError::NoSuchKey)?;
    let (count, bytes) = match entry.content() {
        Value::Set(Set::Table(table)) => (table.len(), table.bytes()),
        Value::Hash(hash @ keyspace::Hash::Table(_)) => (hash.len(), hash.heap_bytes()),
        Value::ZSet(ZSet::Ordered(set)) => (set.len(), set.bytes()),
        _ => {
            return Err(CommandError::fixed(
                "ERR The value stored at the specified key is not represented using an hash table",
            ));
        }
    };
    let text =
        format!("Hash table 0 stats (main hash table):\n number of elements: {count}\n bytes: {bytes}\n");
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn listpack(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = ctx.store.peek(Key::new(ctx.argv.at(2))).ok_or(CommandError::NoSuchKey)?;
    let pack = match entry.content() {
        Value::Set(Set::Listpack(pack)) => pack,
        Value::Hash(keyspace::Hash::Listpack(pack)) => pack,
        Value::ZSet(ZSet::Listpack(pack)) => pack,
        _ => return Err(CommandError::fixed("ERR Not a listpack encoded object.")),
    };
    ctx.reply.simple(&format!("Listpack of {} bytes, {} entries", pack.wire_len(), pack.len()));
    Ok(())
}

fn object(ctx: &mut Ctx<'_>) -> CmdResult {
    let entry = ctx.store.db().peek(Key::new(ctx.argv.at(2))).ok_or(CommandError::NoSuchKey)?;
    let mut line = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.key().as_ptr(),
        entry.encoding(),
        serialized_bytes(entry),
        entry.clock(),
        ctx.store.access.idle_s(entry.clock()),
    );
    if let Value::List(list) = entry.content() {
        let (nodes, limits) = (list.node_count(), &ctx.store.limits);
        let bytes: usize = list
            .nodes()
            .map(|node| match node {
                keyspace::list::Node::Packed(pack) => pack.wire_len(),
                keyspace::list::Node::Plain(bytes) => bytes.len(),
            })
            .sum();
        line.push_str(&format!(
            " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{bytes}",
            list.len() as f64 / nodes as f64,
            limits.list_fill,
            u8::from(limits.list_compress_depth != 0),
        ));
    }
    ctx.reply.simple(&line);
    Ok(())
}

/// Bytes of the value in a snapshot: a dump has the type before it, and version and
/// checksum after it.
fn serialized_bytes(entry: &keyspace::Entry) -> usize {
    const FRAME: usize = 1 + 2 + 8;
    rdb_writer::dump(entry, true).map_or(0, |payload| payload.len() - FRAME)
}

fn pause_cron(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.cron_paused = ctx.argv.int(2).unwrap_or(0) != 0;
    ctx.reply.ok();
    Ok(())
}

/// Makes keys that are nobody's effect: they are not propagated.
fn populate(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.argv.positive(2)?;
    let prefix = ctx.argv.get(3).unwrap_or(b"key");
    let size = if ctx.argv.len() == 5 { ctx.argv.positive(4)? as usize } else { 0 };
    // A wrong number must not take all memory at once; tables grow as they fill.
    ctx.store.db_mut().reserve((count as usize).min(1 << 24));
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for number in 0..count {
        key.clear();
        key.extend_from_slice(prefix);
        key.push(b':');
        structures::number::push_i64(&mut key, number);
        let name = Key::new(&key);
        if ctx.store.is_alive(name) {
            continue;
        }
        value.clear();
        value.extend_from_slice(b"value:");
        structures::number::push_i64(&mut value, number);
        if size > 0 {
            value.resize(size, 0);
        }
        ctx.store.add_entry(name.hash, keyspace::entry::new_str(&key, &value, None));
        ctx.store.touch_watchers(&key);
    }
    ctx.reply.ok();
    Ok(())
}

fn protocol(ctx: &mut Ctx<'_>) -> CmdResult {
    let reply = &mut ctx.reply;
    match ctx.argv.at(2).to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12345),
        b"double" => reply.double_text(b"3.141"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.bool(number == 1);
            }
        }
        b"attrib" => {
            if reply.attribute(1) {
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if reply.proto() == resp::Proto::Resp2 => {
            return Err(CommandError::fixed("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        b"verbatim" => reply.verbatim(b"txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(CommandError::fixed(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn quicklist_packed_threshold(ctx: &mut Ctx<'_>) -> CmdResult {
    let text = String::from_utf8_lossy(ctx.argv.at(2));
    // 4 GiB are more than an element may have.
    let bytes = params::parse_memory(&text).and_then(|bytes| u32::try_from(bytes).ok());
    let bytes = bytes.ok_or(CommandError::fixed(
        "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
    ))?;
    ctx.core.config.encodings.packed_threshold = bytes;
    ctx.store.limits.packed_threshold = bytes;
    ctx.reply.ok();
    Ok(())
}

fn reload(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut options = ReloadOptions::default();
    for option in ctx.argv.tail(2).iter() {
        if is_token(option, "merge") {
            options.merge = true;
        } else if is_token(option, "noflush") {
            options.flush = false;
        } else if is_token(option, "nosave") {
            options.save = false;
        } else {
            return Err(CommandError::fixed(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            ));
        }
    }
    persist::reload(ctx.store, ctx.core, options)?;
    ctx.reply.ok();
    Ok(())
}

fn replicate(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut bytes = Vec::new();
    resp::encode_command(&mut bytes, ctx.argv.tail(2).iter());
    ctx.core.repl.feed_bare(&bytes);
    ctx.reply.ok();
    Ok(())
}

fn set_active_expire(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.config.active_expire_enabled = parse_i64(ctx.argv.at(2)).unwrap_or(0) != 0;
    ctx.reply.ok();
    Ok(())
}

fn set_skip_checksum_validation(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.config.skip_checksum_validation = parse_i64(ctx.argv.at(2)).unwrap_or(0) != 0;
    ctx.reply.ok();
    Ok(())
}

fn sleep(ctx: &mut Ctx<'_>) -> CmdResult {
    let seconds = parse_f64(ctx.argv.at(2)).unwrap_or(0.0);
    let micros = (seconds * 1e6) as u64;
    if ctx.core.to_close.is_empty() {
        ctx.core.env.sleep(micros);
    } else {
        // Whom the same transaction has ended learns of it before the sleep, not after.
        *ctx.core.sleep_due_us.get_or_insert(0) += micros;
    }
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::config::Config;
    use crate::testing::Harness;

    #[test]
    fn needs_permission() {
        let mut h = Harness::with_config(Config::default());
        assert!(h.run("DEBUG DIGEST").starts_with("-ERR DEBUG command not allowed."));
    }

    #[test]
    fn populate_is_no_effect() {
        let mut h = Harness::new();
        h.propagated();
        assert_eq!(h.run("DEBUG POPULATE 3"), r"+OK\r\n");
        assert_eq!(h.run("DEBUG POPULATE 3 p 10"), r"+OK\r\n");
        assert_eq!(h.run("GET key:2"), r"$7\r\nvalue:2\r\n");
        assert_eq!(h.run("GET p:2"), r"$10\r\nvalue:2\x00\x00\x00\r\n");
        assert_eq!(h.propagated(), [""; 0]);
        assert_eq!(h.run("DEBUG POPULATE -1"), r"-ERR value is out of range, must be positive\r\n");
    }

    #[test]
    fn the_digest_of_nothing() {
        let mut h = Harness::new();
        let zeros = "0".repeat(40);
        assert_eq!(h.run("DEBUG DIGEST"), format!(r"+{zeros}\r\n"));
        assert_eq!(h.run("DEBUG DIGEST-VALUE nope"), format!(r"*1\r\n+{zeros}\r\n"));
    }

    /// What redis 8.2.3 and valkey 9.1.2 answer after these commands.
    #[test]
    fn digests_of_real_servers() {
        let mut h = Harness::new();
        for line in [
            r#"SET s hello"#,
            r#"SET i 12345"#,
            r#"SET raw "a\x00b\xff""#,
            r#"APPEND s " world""#,
            r#"RPUSH l a b 3 -17 c"#,
            r#"SADD intset 1 2 3 -9"#,
            r#"SADD pack a b 7"#,
            r#"HSET h f v 1 2 name value"#,
            r#"ZADD z 1 a 2.5 b -3 c 7 12"#,
            r#"ZADD big 123456789 x 100000000 y 10000000 z2 -123000000000 w"#,
            r#"ZADD fine 0.1 a 3.14159265358979 b 1e20 c 1.5e-7 d inf e -inf f 0 g"#,
            r#"SET gone x PXAT 4000000000000"#,
            r#"SELECT 3"#,
            r#"SET k v"#,
            r#"SADD t a1 a2 a3"#,
            r#"CONFIG SET set-max-intset-entries 1 hash-max-listpack-entries 1 zset-max-listpack-entries 1"#,
            r#"SADD t2 1 2 3 xx"#,
            r#"HSET h2 f v 1 2 name value"#,
            r#"ZADD z2 1 a 2.5 b -3 c 7 12 1e17 q 4611686018427387904 r"#,
        ] {
            assert!(!h.run(line).starts_with('-'), "{line}");
        }
        let digests =
            |text: &str| text.split(' ').map(|digest| format!(r"+{digest}\r\n")).collect::<String>();
        assert_eq!(
            h.run("DEBUG DIGEST-VALUE k t t2 h2 z2"),
            r"*5\r\n".to_owned()
                + &digests(
                    "d79ee9fe5d5ad902d7f6620efc3b07b75ddd742f dcf19d2fcf21efa5cc570a7f4169ad70fb88aa4e \
                     f73d514bbbb7d58dee5f93a97ec33005c99cefae 492d907532313c269d05fbc0452966f47e0d0e05 \
                     7c79615807aa283ea76747fe5ed66d4fa8a8baab"
                )
        );
        assert_eq!(h.run("DEBUG DIGEST"), digests("9752ac12a9d9d9d017fdf915cb89c57a61f76a28"));
        h.run("SELECT 0");
        assert_eq!(
            h.run("DEBUG DIGEST-VALUE s i raw l intset pack h z big fine gone"),
            r"*11\r\n".to_owned()
                + &digests(
                    "19bfad8f2007c7c5d8559839d8798339f62ccc52 e1cf90774e995ae03de66e8109dc5cb9d9c2dc83 \
                     8116e10ae61145685ef845f5b3b34822b09dd5ef 6b65a1b39811d7a5051012de338a6e15fddc4d3e \
                     428872005f1e4cb428318234d0e88f266c31792d 4db2915dc242371e719444ddc8b328e38ac18e1c \
                     492d907532313c269d05fbc0452966f47e0d0e05 eac590f1156b7f2959fb36c4a8c47a52281734e3 \
                     87fbeb996541eda2a250aa9524de30115ad73624 7ef92e0dd00e0af3a3a7423ebc1a3fca71c33d25 \
                     0745672cb1bf060476eedeb8a28f5ffe1ff5a2be"
                )
        );
    }

    #[test]
    fn who_is_killed_by_a_transaction_is_not_kept_waiting_by_its_sleep() {
        let mut h = Harness::new();
        h.connect();
        h.run("MULTI");
        h.run("CLIENT KILL ID 2");
        h.run("DEBUG SLEEP 1");
        let began_ms = h.now_ms();
        assert_eq!(h.run("EXEC"), r"*2\r\n:1\r\n+OK\r\n");
        h.node.before_sleep();
        assert_eq!(h.now_ms(), began_ms);
        let actions = h.node.take_actions();
        let closed = actions.iter().position(|action| matches!(action, Action::Close { .. }));
        let slept = actions.iter().position(|action| matches!(action, Action::Sleep { micros: 1_000_000 }));
        assert!(closed.is_some() && closed < slept, "{actions:?}");
        h.run("DEBUG SLEEP 1");
        assert_eq!(h.now_ms(), began_ms + 1000);
    }

    #[test]
    fn verbs() {
        let mut h = Harness::new();
        assert_eq!(
            h.run("DEBUG nope"),
            r"-ERR unknown subcommand or wrong number of arguments for \'nope\'. Try DEBUG HELP.\r\n"
        );
        assert_eq!(h.run("DEBUG ERROR \"MINE x\""), r"-MINE x\r\n");
        assert_eq!(h.run("DEBUG SLEEP 0.1"), r"+OK\r\n");
        assert_eq!(h.run("DEBUG SET-ACTIVE-EXPIRE 0"), r"+OK\r\n");
        assert!(!h.node.core.config.active_expire_enabled);
        assert_eq!(h.run("DEBUG OBJECT nope"), r"-ERR no such key\r\n");
        h.run("DEBUG POPULATE 1");
        let object = h.run("DEBUG OBJECT key:0");
        assert!(object.contains(" refcount:1 encoding:embstr serializedlength:8 lru:"), "{object}");
        assert!(
            h.run("DEBUG QUICKLIST-PACKED-THRESHOLD 5gb").starts_with("-ERR argument must be a memory value")
        );
        assert_eq!(h.run("DEBUG QUICKLIST-PACKED-THRESHOLD 100b"), r"+OK\r\n");
        assert_eq!(h.run("DEBUG PROTOCOL attrib"), r"$39\r\nSome real reply following the attribute\r\n");
        assert_eq!(h.run("DEBUG PROTOCOL push"), r"-ERR RESP2 is not supported by this command\r\n");
        h.propagated();
        assert_eq!(h.run("DEBUG REPLICATE fake command"), r"+OK\r\n");
        assert_eq!(h.propagated(), ["fake command"]);
        assert_eq!(h.resp3().run("DEBUG PROTOCOL map"), r"%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n");
    }
}
