//! Keys of any type: existence, type, deletion, names.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key as KeyUse, KeySpec,
    Options, is_token,
};
use keyspace::{EntryExt, Key};
use structures::glob;

use crate::commands::databases::db_index;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::notify::Event;
use crate::store::Expiry;

pub const COMMANDS: &[Command<Handler>] =
    &[COPY, DEL, EXISTS, KEYS, MOVE, RANDOMKEY, RENAME, RENAMENX, TOUCH, TYPE, UNLINK];

/// COPY source destination [DB destination-db] [REPLACE]
const COPY: Command<Handler> = Command {
    name: "copy",
    group: Group::Generic,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[KeyUse::Ro, KeyUse::Access]), KeySpec::at(2, &[KeyUse::Ow, KeyUse::Update])],
    docs: &Docs {
        summary: "Copies the value of a key to another key.",
        since: "6.2.0",
        complexity: "O(N), N being the number of elements; O(1) for strings",
        arguments: &[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::integer("destination-db").token("DB").optional(),
            Arg::pure_token("replace", "REPLACE").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(copy)
};

/// DEL key [key …]
const DEL: Command<Handler> = Command {
    name: "del",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::range(1, -1, 1, &[KeyUse::Rm, KeyUse::Delete])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    docs: &Docs {
        summary: "Deletes keys.",
        since: "1.0.0",
        complexity: "O(N), N being the number of keys plus the number of elements in the collections among them",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(del)
};

/// EXISTS key [key …]
const EXISTS: Command<Handler> = Command {
    name: "exists",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::range(1, -1, 1, &[KeyUse::Ro])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    docs: &Docs {
        summary: "Counts how many of the keys exist.",
        since: "1.0.0",
        complexity: "O(N), N being the number of keys",
        history: &[("3.0.3", "Several keys.")],
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(exists)
};

/// KEYS pattern
const KEYS: Command<Handler> = Command {
    name: "keys",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Keyspace, Category::Dangerous]),
    tips: &["request_policy:all_shards", "nondeterministic_output_order"],
    docs: &Docs {
        summary: "Returns the names of all keys that match a pattern.",
        since: "1.0.0",
        complexity: "O(N), N being the number of keys in the database",
        arguments: &[Arg::pattern("pattern")],
        ..Docs::NONE
    },
    ..Command::runs(keys)
};

/// MOVE key db
const MOVE: Command<Handler> = Command {
    name: "move",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[KeyUse::Rw, KeyUse::Access, KeyUse::Update])],
    docs: &Docs {
        summary: "Moves a key to another database.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("db")],
        ..Docs::NONE
    },
    ..Command::runs(move_key)
};

/// RANDOMKEY
const RANDOMKEY: Command<Handler> = Command {
    name: "randomkey",
    group: Group::Generic,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Readonly, Flag::TouchesArbitraryKeys]),
    acl: Acl::of(&[Category::Keyspace]),
    tips: &["request_policy:all_shards", "nondeterministic_output"],
    docs: &Docs {
        summary: "Returns the name of a key picked at random.",
        since: "1.0.0",
        complexity: "O(1)",
        ..Docs::NONE
    },
    ..Command::runs(randomkey)
};

/// RENAME key newkey
const RENAME: Command<Handler> = Command {
    name: "rename",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[
        KeySpec::at(1, &[KeyUse::Rw, KeyUse::Access, KeyUse::Delete]),
        KeySpec::at(2, &[KeyUse::Ow, KeyUse::Update]),
    ],
    docs: &Docs {
        summary: "Gives a key another name, replacing what had that name.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::key("newkey", 1)],
        ..Docs::NONE
    },
    ..Command::runs(rename)
};

/// RENAMENX key newkey
const RENAMENX: Command<Handler> = Command {
    name: "renamenx",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[
        KeySpec::at(1, &[KeyUse::Rw, KeyUse::Access, KeyUse::Delete]),
        KeySpec::at(2, &[KeyUse::Ow, KeyUse::Insert]),
    ],
    docs: &Docs {
        summary: "Gives a key another name that nothing has yet.",
        since: "1.0.0",
        complexity: "O(1)",
        history: &[("3.2.0", "No error when both names are the same.")],
        arguments: &[Arg::key("key", 0), Arg::key("newkey", 1)],
        ..Docs::NONE
    },
    ..Command::runs(renamenx)
};

/// TOUCH key [key …]
const TOUCH: Command<Handler> = Command {
    name: "touch",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::range(1, -1, 1, &[KeyUse::Ro])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    docs: &Docs {
        summary: "Counts how many of the keys exist and marks them as used now.",
        since: "3.2.1",
        complexity: "O(N), N being the number of keys",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(touch)
};

/// TYPE key
const TYPE: Command<Handler> = Command {
    name: "type",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[KeyUse::Ro])],
    docs: &Docs {
        summary: "Returns the type of the value that a key holds.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(type_of)
};

/// UNLINK key [key …]
const UNLINK: Command<Handler> = Command {
    name: "unlink",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::range(1, -1, 1, &[KeyUse::Rm, KeyUse::Delete])],
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    docs: &Docs {
        summary: "Deletes keys and frees their memory in the background.",
        since: "4.0.0",
        complexity: "O(1) for every key; freeing happens on another thread",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(unlink)
};

fn del(ctx: &mut Ctx<'_>) -> CmdResult {
    let lazily = ctx.store.lazy.user_del;
    delete_keys(ctx, lazily)
}

fn unlink(ctx: &mut Ctx<'_>) -> CmdResult {
    delete_keys(ctx, true)
}

fn delete_keys(ctx: &mut Ctx<'_>, lazily: bool) -> CmdResult {
    let mut deleted = 0;
    for index in 1..ctx.argv.len() {
        let key = ctx.key(index);
        if ctx.store.delete(key, lazily) {
            ctx.store.modified(key.bytes);
            ctx.store.notify(Event::GENERIC, "del", key.bytes);
            deleted += 1;
        }
    }
    ctx.reply.int(deleted);
    Ok(())
}

fn exists(ctx: &mut Ctx<'_>) -> CmdResult {
    let found =
        (1..ctx.argv.len()).filter(|index| ctx.store.read_untouched(ctx.key(*index)).is_some()).count();
    ctx.reply.int(found as i64);
    Ok(())
}

fn touch(ctx: &mut Ctx<'_>) -> CmdResult {
    let found = (1..ctx.argv.len()).filter(|index| ctx.store.read(ctx.key(*index)).is_some()).count();
    ctx.reply.int(found as i64);
    Ok(())
}

fn type_of(ctx: &mut Ctx<'_>) -> CmdResult {
    let name = ctx.store.read_untouched(ctx.key(1)).map_or("none", |entry| entry.type_of().name());
    ctx.reply.simple(name);
    Ok(())
}

fn keys(ctx: &mut Ctx<'_>) -> CmdResult {
    let pattern = ctx.argv.at(1);
    let now_ms = ctx.store.now_ms;
    let mark = ctx.reply.begin_deferred();
    let mut count = 0;
    for entry in ctx.store.db().iter() {
        // Expired keys are left out and left alone.
        if (pattern == b"*" || glob::matches(pattern, entry.key())) && !entry.is_expired(now_ms) {
            ctx.reply.bulk(entry.key());
            count += 1;
        }
    }
    ctx.reply.end_array(mark, count);
    Ok(())
}

/// How often a replica draws again when it finds expired keys and has no others.
const DRAWS_MAX: u32 = 100;

fn randomkey(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut draws = 0;
    loop {
        let mut rng = ctx.store.fork_rng();
        let now_ms = ctx.store.now_ms;
        let db = ctx.store.db();
        let Some(entry) = db.random(&mut rng) else {
            ctx.reply.null();
            return Ok(());
        };
        draws += 1;
        // Where keys expire only when the primary says so, all may have expired: then an expired one is named.
        let hopeless =
            ctx.store.expiry != Expiry::Delete && db.expires().len() == db.len() && draws == DRAWS_MAX;
        if !entry.is_expired(now_ms) || ctx.store.expiry == Expiry::Ignore || hopeless {
            ctx.reply.bulk(entry.key());
            return Ok(());
        }
        let key = entry.key().to_vec();
        ctx.store.is_alive(Key::new(&key));
    }
}

fn rename(ctx: &mut Ctx<'_>) -> CmdResult {
    if rename_key(ctx, true)?.is_some() {
        ctx.reply.ok();
    }
    Ok(())
}

fn renamenx(ctx: &mut Ctx<'_>) -> CmdResult {
    let renamed = rename_key(ctx, false)?;
    ctx.reply.int(i64::from(renamed == Some(Renamed::Moved)));
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renamed {
    Moved,
    /// Both names are the same: nothing was done.
    Same,
}

/// Renames the key; `None` if the new name is taken and must not be replaced.
fn rename_key(ctx: &mut Ctx<'_>, replaces: bool) -> Result<Option<Renamed>, CommandError> {
    let (from, to) = (ctx.key(1), ctx.key(2));
    if ctx.store.write(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    if from.bytes == to.bytes {
        return Ok(Some(Renamed::Same));
    }
    if ctx.store.write(to).is_some() {
        if !replaces {
            return Ok(None);
        }
        ctx.store.delete_quietly(to, ctx.store.lazy.server_del);
    }
    let entry = ctx.store.take(from).expect("the key was found above");
    // The value is the same one: it was used when it was.
    let clock = entry.clock();
    ctx.store.add_entry(to.hash, entry.renamed(to.bytes)).set_clock(clock);
    ctx.store.modified(from.bytes);
    ctx.store.touch_watchers(to.bytes);
    ctx.store.notify(Event::GENERIC, "rename_from", from.bytes);
    ctx.store.notify(Event::GENERIC, "rename_to", to.bytes);
    Ok(Some(Renamed::Moved))
}

fn move_key(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, source) = (ctx.key(1), ctx.store.selected());
    let target = db_index(ctx.argv.at(2), ctx.store.databases())?;
    if source == target {
        return Err(CommandError::SameObject);
    }
    let moves = ctx.store.write(key).is_some() && {
        ctx.store.select(target);
        ctx.store.write(key).is_none()
    };
    if moves {
        ctx.store.select(source);
        let entry = ctx.store.take(key).expect("the key was found above");
        ctx.store.modified(key.bytes);
        ctx.store.select(target);
        let clock = entry.clock();
        ctx.store.add_entry(key.hash, entry).set_clock(clock);
        ctx.store.touch_watchers(key.bytes);
        ctx.store.select(source);
        ctx.store.notify(Event::GENERIC, "move_from", key.bytes);
        ctx.store.select(target);
        ctx.store.notify(Event::GENERIC, "move_to", key.bytes);
    }
    ctx.store.select(source);
    ctx.reply.int(i64::from(moves));
    Ok(())
}

fn copy(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to, source) = (ctx.key(1), ctx.key(2), ctx.store.selected());
    let (mut target, mut replaces) = (source, false);
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        if is_token(option, "REPLACE") {
            replaces = true;
        } else if is_token(option, "DB") {
            target = db_index(options.value()?, ctx.store.databases())?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if source == target && from.bytes == to.bytes {
        return Err(CommandError::SameObject);
    }
    let exists = ctx.store.read(from).is_some();
    ctx.store.select(target);
    let copies = exists && (ctx.store.write(to).is_none() || replaces);
    if copies {
        let entry = ctx.store.db_at(source).peek(from).expect("the key was found above").duplicate(to.bytes);
        ctx.store.delete_quietly(to, ctx.store.lazy.server_del);
        ctx.store.add_entry(to.hash, entry);
        ctx.store.modified(to.bytes);
        ctx.store.notify(Event::GENERIC, "copy_to", to.bytes);
    }
    ctx.store.select(source);
    ctx.reply.int(i64::from(copies));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyspace::{Key, List, Object};

    use crate::store::Expiry;
    use crate::testing::Harness;

    fn events(h: &mut Harness, line: &str) -> Vec<String> {
        let text = |key: &[u8]| key.escape_ascii().to_string();
        h.events(line)
            .iter()
            .map(|event| format!("{} {} {}", event.db, event.name, text(&event.key)))
            .collect()
    }

    /// A list under `key`, without the commands of lists.
    fn put_list(h: &mut Harness, key: &[u8], elements: usize) {
        let mut list = List::new(-2);
        (0..elements).for_each(|_| list.push_back(b"element"));
        h.node.store.put(Key::new(key), Object::List(list));
    }

    #[test]
    fn existence_and_type() {
        let mut h = Harness::new();
        h.run("MSET a 1 b 2");
        put_list(&mut h, b"l", 3);
        for (line, reply) in [
            ("EXISTS a a nosuch l", r":3\r\n"),
            ("TOUCH a nosuch", r":1\r\n"),
            ("TYPE a", r"+string\r\n"),
            ("TYPE l", r"+list\r\n"),
            ("TYPE nosuch", r"+none\r\n"),
            ("DEL a a nosuch", r":1\r\n"),
            ("UNLINK l b", r":2\r\n"),
            ("DBSIZE", r":0\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(h.propagated(), ["SELECT 0", "MSET a 1 b 2", "DEL a a nosuch", "UNLINK l b"]);
    }

    #[test]
    fn commands_on_strings_refuse_other_types_and_change_nothing() {
        let mut h = Harness::new();
        put_list(&mut h, b"l", 3);
        for line in [
            "GET l",
            "GETSET l x",
            "GETDEL l",
            "GETEX l EX 10",
            "SET l x GET",
            "APPEND l x",
            "STRLEN l",
            "SETRANGE l 0 x",
            "GETRANGE l 0 1",
            "INCR l",
            "INCRBYFLOAT l x",
        ] {
            let reply = h.run(line);
            assert_eq!(
                reply, r"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
                "{line}"
            );
        }
        assert_eq!(h.run("MGET l"), r"*1\r\n$-1\r\n");
        assert_eq!(h.run("TYPE l"), r"+list\r\n");
        assert!(h.propagated().is_empty());
        assert_eq!(h.run("SET l x"), r"+OK\r\n", "but SET replaces anything");
    }

    #[test]
    fn what_has_expired_is_not_deleted_by_the_client() {
        let mut h = Harness::new();
        h.run("SET a x PX 1");
        h.propagated();
        h.advance_ms(2);
        assert_eq!(events(&mut h, "DEL a"), ["0 expired a"]);
        assert_eq!(h.propagated(), ["DEL a"]);
        h.run("SET a x PX 1");
        h.advance_ms(2);
        assert_eq!(h.run("DEL a"), r":0\r\n");
        // A replica that takes writes cannot know what its primary holds.
        h.run("SET a x PX 1");
        h.advance_ms(2);
        h.node.store.expiry = Expiry::Hide;
        assert_eq!(h.run("DEL a"), r":1\r\n");
    }

    #[test]
    fn renaming_keeps_value_and_expiry() {
        let mut h = Harness::new();
        h.run("SET a 1 EX 100");
        h.run("SET b 2 EX 5");
        put_list(&mut h, b"l", 1000);
        h.propagated();
        assert_eq!(h.run("RENAME nosuch nosuch"), r"-ERR no such key\r\n");
        assert_eq!(h.run("RENAMENX nosuch a"), r"-ERR no such key\r\n");
        assert_eq!(h.run("RENAME a a"), r"+OK\r\n");
        assert_eq!(h.run("RENAMENX a a"), r":0\r\n");
        assert_eq!(h.run("RENAMENX a b"), r":0\r\n");
        assert!(h.propagated().is_empty());
        assert_eq!(events(&mut h, "RENAME a b"), ["0 new b", "0 rename_from a", "0 rename_to b"]);
        assert_eq!((h.run("GET b"), h.run("TTL b")), (r"$1\r\n1\r\n".into(), r":100\r\n".into()));
        assert_eq!(h.run("RENAMENX l m"), r":1\r\n");
        assert_eq!((h.run("TYPE m"), h.run("EXISTS l")), (r"+list\r\n".into(), r":0\r\n".into()));
        assert_eq!(h.run("RENAME m b"), r"+OK\r\n");
        assert_eq!(h.run("TTL b"), r":-1\r\n", "the expiry goes with what was replaced");
        assert_eq!(h.node.store.db().expires().len(), 0);
        assert_eq!(h.propagated(), ["RENAME a b", "RENAMENX l m", "RENAME m b"]);
    }

    #[test]
    fn moving_and_copying_between_databases() {
        let mut h = Harness::new();
        h.run("SET a 1 EX 100");
        for (line, reply) in [
            ("MOVE a 0", r"-ERR source and destination objects are the same\r\n"),
            ("MOVE a 16", r"-ERR DB index is out of range\r\n"),
            ("MOVE a x", r"-ERR value is not an integer or out of range\r\n"),
            ("MOVE nosuch 1", r":0\r\n"),
            ("COPY a a", r"-ERR source and destination objects are the same\r\n"),
            ("COPY a b DB 16", r"-ERR DB index is out of range\r\n"),
            ("COPY a b DB", r"-ERR syntax error\r\n"),
            ("COPY a b NOSUCH", r"-ERR syntax error\r\n"),
            ("COPY nosuch b", r":0\r\n"),
            ("COPY a b", r":1\r\n"),
            ("COPY a b", r":0\r\n"),
            ("TTL b", r":100\r\n"),
            ("COPY a a DB 1", r":1\r\n"),
            ("MOVE a 1", r":0\r\n"),
            ("SELECT 1", r"+OK\r\n"),
            ("TTL a", r":100\r\n"),
            ("SET a 2", r"+OK\r\n"),
            ("SELECT 0", r"+OK\r\n"),
            ("COPY a a DB 1 REPLACE", r":1\r\n"),
            ("DBSIZE", r":2\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        h.propagated();
        assert_eq!(events(&mut h, "MOVE a 2"), ["2 new a", "0 move_from a", "2 move_to a"]);
        assert_eq!(events(&mut h, "COPY b c DB 3"), ["3 new c", "3 copy_to c"]);
        assert_eq!(h.propagated(), ["MOVE a 2", "COPY b c DB 3"]);
        assert_eq!(h.run("EXISTS a"), r":0\r\n");
        h.run("SELECT 2");
        assert_eq!((h.run("GET a"), h.run("TTL a")), (r"$1\r\n1\r\n".into(), r":100\r\n".into()));
    }

    #[test]
    fn a_copy_is_independent() {
        let mut h = Harness::new();
        put_list(&mut h, b"l", 500);
        assert_eq!(h.run("COPY l m"), r":1\r\n");
        h.run("DEL l");
        let copy = h.node.store.write_list(Key::new(b"m")).unwrap().unwrap();
        assert_eq!(copy.len(), 500);
    }

    #[test]
    fn watchers_of_both_names_lose() {
        for (watched, line) in
            [("b", "RENAME a b"), ("a", "RENAME a b"), ("b", "COPY a b"), ("a", "MOVE a 1")]
        {
            let mut h = Harness::new();
            let other = h.connect();
            h.run("SET a 1");
            h.run(&format!("WATCH {watched}"));
            h.run("MULTI");
            h.run_on(other, line);
            assert_eq!(h.run("EXEC"), r"*-1\r\n", "{line}");
        }
    }

    #[test]
    fn keys_and_randomkey_do_not_name_what_has_expired() {
        let mut h = Harness::new();
        assert_eq!(h.run("RANDOMKEY"), r"$-1\r\n");
        h.run("MSET key_x 1 key_y 2 foo_a 3");
        h.run("SET key_z 1 PX 1");
        h.advance_ms(2);
        assert_eq!(h.run("KEYS foo*"), r"*1\r\n$5\r\nfoo_a\r\n");
        assert_eq!(h.run("KEYS key_[z]"), r"*0\r\n");
        assert!(h.run("KEYS *").starts_with("*3"));
        assert_eq!(h.run("DBSIZE"), r":4\r\n");
        let drawn: BTreeSet<String> = (0..100).map(|_| h.run("RANDOMKEY")).collect();
        assert_eq!(drawn.len(), 3, "{drawn:?}");
        assert_eq!(h.run("DBSIZE"), r":3\r\n", "a primary deletes what it draws");

        h.node.store.expiry = Expiry::Hide;
        h.run("FLUSHALL");
        h.run("SET key_z 1 PX 1");
        h.advance_ms(2);
        assert_eq!(h.run("RANDOMKEY"), r"$5\r\nkey_z\r\n", "rather than searching for ever");
    }
}
