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
    ctx.store.add_entry(to.hash, entry.renamed(to.bytes));
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
        ctx.store.add_entry(key.hash, entry);
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
