//! Hashes.
//!
//! Fields may have an expiry (see `keyspace::hash` and [`super::hash_ttl`]). Reads hide a field whose time has run out; on
//! a primary a write to such a field first removes it and propagates `HDEL`, so that a replica, which applies the stream
//! without regard to time, sees the same hash as its primary did.

use std::collections::HashSet;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::hash::{is_alive, value_of};
use keyspace::{Edit, EncodingLimits, FieldExpiry, Hash, HashRef, Object};
use resp::{Proto, Reply};
use structures::listpack::Entry;
use structures::number::{IntText, LongDouble, parse_i64};

use crate::commands::hash_ttl::propagate_expiry;
use crate::commands::scan::{Over, ScanOptions, begin_whole, reply_table};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::store::{Expiry, Store};

pub const COMMANDS: &[Command<Handler>] = &[
    HDEL,
    HEXISTS,
    HGET,
    HGETALL,
    HINCRBY,
    HINCRBYFLOAT,
    HKEYS,
    HLEN,
    HMGET,
    HMSET,
    HRANDFIELD,
    HSCAN,
    HSET,
    HSETNX,
    HSTRLEN,
    HVALS,
];

const READ: Command<Handler> = Command {
    group: Group::Hash,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Hash]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    ..Command::runs(hget)
};
const WRITE: Command<Handler> = Command {
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    ..READ
};
const READ_ALL: Command<Handler> =
    Command { flags: Flags::of(&[Flag::Readonly]), tips: &["nondeterministic_output_order"], ..READ };

const KEY: Arg = Arg::key("key", 0);
const FIELD: Arg = Arg::string("field");
const PAIRS: &[Arg] = &[KEY, Arg::block("field_value", &[FIELD, Arg::string("value")]).multiple()];

/// HSET key field value [field value …]
const HSET: Command<Handler> = Command {
    name: "hset",
    arity: Arity::AtLeast(4),
    handler: Some(hset),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1) for each field, so O(N) for N fields",
        summary: "Gives fields of a hash their values.",
        history: &[("4.0.0", "Takes several fields with their values.")],
        arguments: PAIRS,
        ..Docs::NONE
    },
    ..WRITE
};

/// HMSET key field value [field value …]
const HMSET: Command<Handler> = Command {
    name: "hmset",
    arity: Arity::AtLeast(4),
    handler: Some(hmset),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of fields to set",
        summary: "Gives several fields of a hash their values.",
        deprecated_since: "4.0.0",
        replaced_by: "`HSET` with several fields and values",
        arguments: PAIRS,
        ..Docs::NONE
    },
    ..WRITE
};

/// HSETNX key field value
const HSETNX: Command<Handler> = Command {
    name: "hsetnx",
    arity: Arity::Exactly(4),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    handler: Some(hsetnx),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Gives a field of a hash a value unless it has one.",
        arguments: &[KEY, FIELD, Arg::string("value")],
        ..Docs::NONE
    },
    ..WRITE
};

/// HGET key field
const HGET: Command<Handler> = Command {
    name: "hget",
    arity: Arity::Exactly(3),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Returns the value of a field of a hash.",
        arguments: &[KEY, FIELD],
        ..Docs::NONE
    },
    ..READ
};

/// HMGET key field [field …]
const HMGET: Command<Handler> = Command {
    name: "hmget",
    arity: Arity::AtLeast(3),
    handler: Some(hmget),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of fields asked for",
        summary: "Returns the values of several fields of a hash.",
        arguments: &[KEY, FIELD.multiple()],
        ..Docs::NONE
    },
    ..READ
};

/// HGETALL key
const HGETALL: Command<Handler> = Command {
    name: "hgetall",
    handler: Some(hgetall),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the size of the hash",
        summary: "Returns all fields of a hash with their values.",
        arguments: &[KEY],
        ..Docs::NONE
    },
    ..READ_ALL
};

/// HKEYS key
const HKEYS: Command<Handler> = Command {
    name: "hkeys",
    handler: Some(hkeys),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the size of the hash",
        summary: "Returns all fields of a hash.",
        arguments: &[KEY],
        ..Docs::NONE
    },
    ..READ_ALL
};

/// HVALS key
const HVALS: Command<Handler> = Command {
    name: "hvals",
    handler: Some(hvals),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the size of the hash",
        summary: "Returns the values of all fields of a hash.",
        arguments: &[KEY],
        ..Docs::NONE
    },
    ..READ_ALL
};

/// HLEN key
const HLEN: Command<Handler> = Command {
    name: "hlen",
    keys: &[KeySpec::at(1, &[Key::Ro])],
    handler: Some(hlen),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Returns the number of fields of a hash.",
        arguments: &[KEY],
        ..Docs::NONE
    },
    ..READ
};

/// HSTRLEN key field
const HSTRLEN: Command<Handler> = Command {
    name: "hstrlen",
    arity: Arity::Exactly(3),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    handler: Some(hstrlen),
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(1)",
        summary: "Returns the length of the value of a field of a hash.",
        arguments: &[KEY, FIELD],
        ..Docs::NONE
    },
    ..READ
};

/// HEXISTS key field
const HEXISTS: Command<Handler> = Command {
    name: "hexists",
    arity: Arity::Exactly(3),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    handler: Some(hexists),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Tells whether a hash has a field.",
        arguments: &[KEY, FIELD],
        ..Docs::NONE
    },
    ..READ
};

/// HDEL key field [field …]
const HDEL: Command<Handler> = Command {
    name: "hdel",
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    handler: Some(hdel),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of fields to remove",
        summary: "Removes fields from a hash, and the hash with its last field.",
        history: &[("2.4.0", "Takes several fields.")],
        arguments: &[KEY, FIELD.multiple()],
        ..Docs::NONE
    },
    ..WRITE
};

/// HINCRBY key field increment
const HINCRBY: Command<Handler> = Command {
    name: "hincrby",
    arity: Arity::Exactly(4),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    handler: Some(hincrby),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Adds to the integer that a field of a hash holds, 0 if there is none.",
        arguments: &[KEY, FIELD, Arg::integer("increment")],
        ..Docs::NONE
    },
    ..WRITE
};

/// HINCRBYFLOAT key field increment
const HINCRBYFLOAT: Command<Handler> = Command {
    name: "hincrbyfloat",
    arity: Arity::Exactly(4),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    handler: Some(hincrbyfloat),
    docs: &Docs {
        since: "2.6.0",
        complexity: "O(1)",
        summary: "Adds to the floating-point number that a field of a hash holds, 0 if there is none.",
        arguments: &[KEY, FIELD, Arg::double("increment")],
        ..Docs::NONE
    },
    ..WRITE
};

/// HRANDFIELD key [count [WITHVALUES]]
const HRANDFIELD: Command<Handler> = Command {
    name: "hrandfield",
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    tips: &["nondeterministic_output"],
    handler: Some(hrandfield),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N), when N is the number of fields returned",
        summary: "Returns random fields of a hash.",
        arguments: &[
            KEY,
            Arg::block(
                "options",
                &[Arg::integer("count"), Arg::pure_token("withvalues", "WITHVALUES").optional()],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..READ
};

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
const HSCAN: Command<Handler> = Command {
    name: "hscan",
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    tips: &["nondeterministic_output"],
    handler: Some(hscan),
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1) for every call, O(N) for a whole iteration over N fields",
        summary: "Iterates over the fields of a hash with their values.",
        arguments: &[
            KEY,
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::pure_token("novalues", "NOVALUES").since("7.4.0").optional(),
        ],
        ..Docs::NONE
    },
    ..READ
};

// ---- reads ----

fn hget(ctx: &mut Ctx<'_>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    match ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)? {
        None => ctx.reply.null(),
        Some(hash) => write_or_null(&mut ctx.reply, hash.get(ctx.argv.at(2), now_ms)),
    }
    Ok(())
}

fn hmget(ctx: &mut Ctx<'_>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    let names = ctx.argv.tail(2);
    ctx.reply.array(names.len());
    for name in names.iter() {
        write_or_null(&mut ctx.reply, hash.as_ref().and_then(|hash| hash.get(name, now_ms)));
    }
    Ok(())
}

fn hgetall(ctx: &mut Ctx<'_>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let Some(hash) = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.map(0);
        return Ok(());
    };
    ctx.reply.map(hash.live_len(now_ms));
    for (name, value) in hash.iter(now_ms) {
        write(&mut ctx.reply, name);
        write(&mut ctx.reply, value);
    }
    Ok(())
}

fn hkeys(ctx: &mut Ctx<'_>) -> CmdResult {
    one_of_each(ctx, |name, _| name)
}

fn hvals(ctx: &mut Ctx<'_>) -> CmdResult {
    one_of_each(ctx, |_, value| value)
}

fn one_of_each(ctx: &mut Ctx<'_>, choose: impl for<'e> Fn(Entry<'e>, Entry<'e>) -> Entry<'e>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let Some(hash) = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    ctx.reply.array(hash.live_len(now_ms));
    for (name, value) in hash.iter(now_ms) {
        write(&mut ctx.reply, choose(name, value));
    }
    Ok(())
}

/// Counts fields whose time has run out as long as they are there, as Redis 8 does.
fn hlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    ctx.reply.int(hash.map_or(0, |hash| hash.len()) as i64);
    Ok(())
}

fn hstrlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    let value = hash.as_ref().and_then(|hash| hash.get(ctx.argv.at(2), now_ms));
    ctx.reply.int(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

fn hexists(ctx: &mut Ctx<'_>) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    ctx.reply.int(i64::from(hash.is_some_and(|hash| hash.contains(ctx.argv.at(2), now_ms))));
    Ok(())
}

fn hscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.argv.cursor(2)?;
    let now_ms = field_time(ctx.store);
    // As in Redis, options of a scan over nothing are not looked at.
    let Some(hash) = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.array(2);
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(ctx.argv, 3, Over::Hash)?;
    let emit = |reply: &mut Reply<'_>, name: &[u8], value: Entry<'_>| {
        if !options.admits(name) {
            return 0;
        }
        reply.bulk(name);
        if options.names_only {
            return 1;
        }
        write(reply, value);
        2
    };
    match hash {
        hash if hash.is_small() => {
            begin_whole(&mut ctx.reply);
            let mark = ctx.reply.begin_deferred();
            let mut written = 0;
            for (name, value) in hash.iter(now_ms) {
                let mut scratch = IntText::new();
                let name = match name {
                    Entry::Str(text) => text,
                    Entry::Int(value) => scratch.format(value),
                };
                written += emit(&mut ctx.reply, name, value);
            }
            ctx.reply.end_array(mark, written);
        }
        Hash::Listpack(_) => unreachable!("a listpack is small"),
        Hash::Table(fields) => reply_table(
            &mut ctx.reply,
            cursor,
            options.count,
            |cursor, visit| fields.scan(cursor, visit),
            |reply, field| {
                if is_alive(field, now_ms) { emit(reply, field.key(), value_of(field)) } else { 0 }
            },
        ),
    }
    Ok(())
}

fn hrandfield(ctx: &mut Ctx<'_>) -> CmdResult {
    let argc = ctx.argv.len();
    let mut count = None;
    let mut with_values = false;
    if argc > 2 {
        let given = ctx.argv.int_within(2, -i64::MAX..=i64::MAX)?;
        if argc > 4 || (argc == 4 && !ctx.argv.is(3, "WITHVALUES")) {
            return Err(CommandError::Syntax);
        }
        with_values = argc == 4;
        if with_values && given.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(CommandError::fixed("ERR value is out of range"));
        }
        count = Some(given);
    }
    let mut rng = ctx.store.fork_rng();
    let now_ms = field_time(ctx.store);
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    let reply = &mut ctx.reply;
    let live = hash.map(|hash| (hash, hash.live_len(now_ms))).filter(|(_, live)| *live > 0);
    match (live, count) {
        (None, None) => reply.null(),
        (None, Some(_)) | (Some(_), Some(0)) => reply.array(0),
        (Some((hash, live)), None) => {
            draw(hash, 1, live, now_ms, &mut rng, &mut |name, _| {
                write(reply, name);
                false
            });
        }
        (Some((hash, live)), Some(count)) => {
            let unique = count > 0;
            let asked = count.unsigned_abs() as usize;
            let size = if unique { asked.min(live) } else { asked };
            let flat = with_values && reply.proto() == Proto::Resp2;
            reply.array(if flat { size * 2 } else { size });
            let limit = ctx.core.reply_limit(ctx.session);
            let mut each = |name: Entry<'_>, value: Entry<'_>| {
                if with_values && !flat {
                    reply.array(2);
                }
                write(reply, name);
                if with_values {
                    write(reply, value);
                }
                reply.pending_bytes() < limit
            };
            if !unique || asked == 1 {
                draw(hash, size, live, now_ms, &mut rng, &mut each);
            } else if size == live {
                hash.iter(now_ms).for_each(|(name, value)| {
                    each(name, value);
                });
            } else {
                draw_unique(hash, size, live, now_ms, &mut rng, &mut |name, value| {
                    each(name, value);
                });
            }
        }
    }
    Ok(())
}

/// Draws `times` fields, each with the same chance every time, or fewer when `each` does not want another.
fn draw(
    hash: HashRef<'_>,
    times: usize,
    live: usize,
    now_ms: i64,
    rng: &mut dyn FnMut() -> u64,
    each: &mut dyn FnMut(Entry<'_>, Entry<'_>) -> bool,
) {
    let all_live = live == hash.len();
    if all_live && (times == 1 || matches!(hash, Hash::Table(_))) {
        for _ in 0..times {
            let (name, value) = hash.random(rng).expect("the hash has fields");
            if !each(name, value) {
                break;
            }
        }
        return;
    }
    // Going to the n-th field of a listpack is a walk: one for all of them.
    let pairs: Vec<_> = hash.iter(now_ms).collect();
    for _ in 0..times {
        let (name, value) = pairs[below(pairs.len(), rng)];
        if !each(name, value) {
            break;
        }
    }
}

/// Draws `size` different fields out of more; every choice has the same chance.
fn draw_unique(
    hash: HashRef<'_>,
    size: usize,
    live: usize,
    now_ms: i64,
    rng: &mut dyn FnMut() -> u64,
    each: &mut dyn FnMut(Entry<'_>, Entry<'_>),
) {
    let few = live / size >= 3 && live == hash.len();
    if few && matches!(hash, Hash::Table(_)) {
        let mut drawn: HashSet<Vec<u8>> = HashSet::with_capacity(size);
        while drawn.len() < size {
            let (name, value) = hash.random(rng).expect("the hash has fields");
            if drawn.insert(name.to_vec()) {
                each(name, value);
            }
        }
        return;
    }
    // Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S): one pass, nothing kept.
    let (mut needed, mut left) = (size, live);
    for (name, value) in hash.iter(now_ms) {
        if below(left, rng) < needed {
            needed -= 1;
            each(name, value);
        }
        left -= 1;
    }
}

/// A number from 0 to `bound` - 1, all with the same chance.
fn below(bound: usize, rng: &mut dyn FnMut() -> u64) -> usize {
    ((u128::from(rng()) * bound as u128) >> 64) as usize
}

// ---- writes ----

fn hset(ctx: &mut Ctx<'_>) -> CmdResult {
    let created = set_pairs(ctx)?;
    ctx.reply.int(created as i64);
    Ok(())
}

fn hmset(ctx: &mut Ctx<'_>) -> CmdResult {
    set_pairs(ctx)?;
    ctx.reply.ok();
    Ok(())
}

/// Sets the pairs from argument 2 on; the number of fields that are new.
fn set_pairs(ctx: &mut Ctx<'_>) -> Result<usize, CommandError> {
    if ctx.argv.len() % 2 == 1 {
        return Err(ctx.command.wrong_arity());
    }
    let (key, argv) = (ctx.key(1), ctx.argv);
    let pairs = (argv.len() - 2) / 2;
    let limits = ctx.store.limits.clone();
    let set_all = |hash: &mut Hash| {
        let pair = |at: usize| (argv.at(2 * at + 2), argv.at(2 * at + 3));
        (0..pairs)
            .map(pair)
            .filter(|(name, value)| hash.set(name, value, FieldExpiry::Clear, &limits))
            .count()
    };
    let names = argv.tail(2).iter().step_by(2);
    let created = if let Some(mut hash) = live_hash(ctx.store, key, names)? {
        set_all(&mut hash)
    } else {
        let mut hash = Hash::with_capacity(pairs, &limits);
        let created = set_all(&mut hash);
        ctx.store.add(key, Object::Hash(hash));
        created
    };
    ctx.store.settle_cleared_fields(key);
    ctx.store.modified_times(key.bytes, pairs);
    ctx.store.notify(Event::HASH, "hset", key.bytes);
    Ok(created)
}

fn hsetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let (name, value) = (ctx.argv.at(2), ctx.argv.at(3));
    let limits = ctx.store.limits.clone();
    if let Some(mut hash) = live_hash(ctx.store, key, std::iter::once(name))? {
        if hash.contains(name, i64::MIN) {
            ctx.reply.int(0);
            return Ok(());
        }
        hash.set(name, value, FieldExpiry::Clear, &limits);
    } else {
        add_hash(ctx.store, key, name, value, &limits);
    }
    ctx.reply.int(1);
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::HASH, "hset", key.bytes);
    Ok(())
}

fn hdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(mut hash) = live_hash(ctx.store, key, ctx.argv.tail(2).iter())? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let mut deleted = 0;
    for name in ctx.argv.tail(2).iter() {
        deleted += usize::from(hash.remove(name));
    }
    let emptied = hash.is_empty();
    drop(hash);
    if deleted > 0 {
        ctx.store.settle_cleared_fields(key);
        ctx.store.modified_times(key.bytes, deleted);
        ctx.store.notify(Event::HASH, "hdel", key.bytes);
        if emptied {
            ctx.store.delete_if_empty(key);
        }
    }
    ctx.reply.int(deleted as i64);
    Ok(())
}

fn hincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let increment = ctx.argv.int(3)?;
    let (key, name) = (ctx.key(1), ctx.argv.at(2));
    let limits = ctx.store.limits.clone();
    let hash = live_hash(ctx.store, key, std::iter::once(name))?;
    let old = match hash.as_ref().and_then(|hash| hash.get(name, i64::MIN)) {
        None => 0,
        Some(Entry::Int(value)) => value,
        Some(Entry::Str(text)) => {
            parse_i64(text).ok_or(CommandError::fixed("ERR hash value is not an integer"))?
        }
    };
    let value = old.checked_add(increment).ok_or(CommandError::Overflow)?;
    let mut text = IntText::new();
    let text = text.format(value);
    if hash.map(|mut hash| hash.set(name, text, FieldExpiry::Keep, &limits)).is_none() {
        add_hash(ctx.store, key, name, text, &limits);
    }
    ctx.reply.int(value);
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::HASH, "hincrby", key.bytes);
    Ok(())
}

fn hincrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let increment = LongDouble::parse(ctx.argv.at(3)).ok_or(CommandError::NotFloat)?;
    if increment.is_infinite() || increment.is_nan() {
        return Err(CommandError::fixed("ERR value is NaN or Infinity"));
    }
    let (key, name) = (ctx.key(1), ctx.argv.at(2));
    let limits = ctx.store.limits.clone();
    let hash = live_hash(ctx.store, key, std::iter::once(name))?;
    let old = match hash.as_ref().and_then(|hash| hash.get(name, i64::MIN)) {
        None => LongDouble::ZERO,
        Some(Entry::Int(value)) => LongDouble::from_i64(value),
        Some(Entry::Str(text)) => {
            LongDouble::parse(text).ok_or(CommandError::fixed("ERR hash value is not a float"))?
        }
    };
    let value = old + increment;
    if value.is_nan() || value.is_infinite() {
        return Err(CommandError::NanOrInfinity);
    }
    let mut text = Vec::with_capacity(32);
    value.push_to(&mut text);
    let kept_ms = hash.map(|mut hash| {
        let kept_ms = if hash.has_ttl() { hash.expire_at(name) } else { None };
        hash.set(name, &text, FieldExpiry::Keep, &limits);
        kept_ms
    });
    if kept_ms.is_none() {
        add_hash(ctx.store, key, name, &text, &limits);
    }
    ctx.reply.bulk(&text);
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::HASH, "hincrbyfloat", key.bytes);
    // The sum replicates, so that no other rounding can differ. HSET ends the field's expiry: it is set again.
    ctx.store.effects.propagate_as(&[b"HSET", key.bytes, name, &text]);
    if let Some(at) = kept_ms.flatten() {
        propagate_expiry(ctx.store, key.bytes, at, &[], &[name]);
    }
    Ok(())
}

/// The time that fields are compared with: none has run out while a primary's stream is applied.
#[inline]
pub(super) fn field_time(store: &Store) -> i64 {
    match store.expiry {
        Expiry::Ignore => i64::MIN,
        Expiry::Delete | Expiry::Hide => store.now_ms,
    }
}

/// The hash of `key` to be changed, after those of its fields `names` whose time has run out were removed, with that as
/// an effect. The rest of what is due is left to the cycle, so that a write costs no more than what it names.
#[inline]
pub(super) fn live_hash<'s, 'n>(
    store: &'s mut Store,
    key: keyspace::Key<'s>,
    names: impl Iterator<Item = &'n [u8]>,
) -> Result<Option<Edit<'s, Hash>>, CommandError> {
    // Asked in two steps, for a borrow that is returned on one path only would last on the other one too.
    if store.db().hashes_with_ttl() > 0 && store.expiry != Expiry::Ignore {
        remove_expired(store, key, names)?;
    }
    store.write_hash(key).map_err(wrong_type)
}

#[cold]
fn remove_expired<'n>(
    store: &mut Store,
    key: keyspace::Key<'_>,
    names: impl Iterator<Item = &'n [u8]>,
) -> Result<(), CommandError> {
    let now_ms = store.now_ms;
    let Some(mut hash) = store.write_hash(key).map_err(wrong_type)? else { return Ok(()) };
    if !hash.has_expired(now_ms) {
        return Ok(());
    }
    let mut is_over = |name: &&[u8]| hash.expire_at(name).is_some_and(|at| at < now_ms) && hash.remove(name);
    let gone: Vec<&[u8]> = names.filter(&mut is_over).collect();
    drop(hash);
    if !gone.is_empty() {
        store.fields_expired(key, &gone);
    }
    Ok(())
}

/// A new hash of one field.
fn add_hash(store: &mut Store, key: keyspace::Key<'_>, name: &[u8], value: &[u8], limits: &EncodingLimits) {
    let mut hash = Hash::with_capacity(1, limits);
    hash.set(name, value, FieldExpiry::Clear, limits);
    store.add(key, Object::Hash(hash));
}

// ---- replies ----

#[inline]
fn write(reply: &mut Reply<'_>, entry: Entry<'_>) {
    match entry {
        Entry::Str(text) => reply.bulk(text),
        Entry::Int(value) => reply.bulk_int(value),
    }
}

#[inline]
pub(super) fn write_or_null(reply: &mut Reply<'_>, entry: Option<Entry<'_>>) {
    match entry {
        Some(entry) => write(reply, entry),
        None => reply.null(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use keyspace::{EntryExt, Hash, Key, Object};

    use crate::testing::Harness;

    fn replies(h: &mut Harness, lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| h.run(line).replace(r"\r\n", " ").trim_end().to_owned()).collect()
    }

    fn check(h: &mut Harness, cases: &[(&str, &str)]) {
        for (line, reply) in cases {
            assert_eq!(h.run(line).replace(r"\r\n", " ").trim_end(), *reply, "{line}");
        }
    }

    fn events(h: &mut Harness, line: &str) -> Vec<String> {
        let raised = h.events(line);
        raised.iter().map(|event| format!("{} {}", event.name, event.key.escape_ascii())).collect()
    }

    /// The texts of the bulks in a reply.
    fn bulks(reply: &str) -> Vec<String> {
        let lines: Vec<&str> = reply.split(r"\r\n").collect();
        let heads = lines.iter().enumerate().filter(|(_, line)| line.starts_with('$') && **line != "$-1");
        heads.map(|(at, _)| lines[at + 1].to_owned()).collect()
    }

    fn encoding(h: &mut Harness, key: &str) -> &'static str {
        h.node.store.peek(Key::new(key.as_bytes())).expect("the key exists").encoding()
    }

    #[test]
    fn sets_and_gets_in_both_encodings() {
        for (filler, name) in [("f", "listpack"), (&"f".repeat(65)[..], "hashtable")] {
            let mut h = Harness::new();
            h.run(&format!("HSET h {filler} 0"));
            assert_eq!(encoding(&mut h, "h"), name);
            check(
                &mut h,
                &[
                    ("HSET h a 1 b 2", ":2"),
                    ("HSET h a 3 c 4 c 5", ":1"),
                    ("HGET h a", "$1 3"),
                    ("HGET h none", "$-1"),
                    ("HGET none a", "$-1"),
                    ("HMGET h a none c", "*3 $1 3 $-1 $1 5"),
                    ("HMGET none a b", "*2 $-1 $-1"),
                    ("HSETNX h a 9", ":0"),
                    ("HSETNX h d 9", ":1"),
                    ("HMSET h e 123456789012 f6 x", "+OK"),
                    ("HGET h e", "$12 123456789012"),
                    ("HSTRLEN h e", ":12"),
                    ("HSTRLEN h none", ":0"),
                    ("HSTRLEN none a", ":0"),
                    ("HEXISTS h a", ":1"),
                    ("HEXISTS h none", ":0"),
                    ("HLEN h", ":7"),
                    ("HLEN none", ":0"),
                    ("HDEL h none", ":0"),
                    ("HDEL none a", ":0"),
                    ("HDEL h a none b a", ":2"),
                    ("HSET h a", r"-ERR wrong number of arguments for \'hset\' command"),
                    ("HSET h a 1 b", r"-ERR wrong number of arguments for \'hset\' command"),
                    ("HMSET h a 1 b", r"-ERR wrong number of arguments for \'hmset\' command"),
                ],
            );
            let all: BTreeMap<String, String> = {
                let reply = bulks(&h.run("HGETALL h"));
                reply.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            };
            let keys: Vec<String> = all.keys().cloned().collect();
            let mut values: Vec<String> = all.values().cloned().collect();
            values.sort();
            assert_eq!(keys[..4], ["c", "d", "e", if filler < "f6" { filler } else { "f6" }]);
            assert_eq!(keys.len(), 5);
            let sorted = |reply: String| {
                let mut texts = bulks(&reply);
                texts.sort();
                texts
            };
            assert_eq!(sorted(h.run("HKEYS h")), keys);
            assert_eq!(sorted(h.run("HVALS h")), values);
            assert!(h.resp3().run("HGETALL h").starts_with(r"%5\r\n"));
            assert_eq!(
                replies(&mut h, &["HGETALL none", "HKEYS none", "HVALS none", "HGET none f"]),
                ["%0", "*0", "*0", "_"]
            );
            assert_eq!(encoding(&mut h, "h"), name);
        }
    }

    #[test]
    fn effects() {
        let mut h = Harness::new();
        assert_eq!(events(&mut h, "HSET h a 1 b 2 a 3"), ["new h", "hset h"]);
        assert_eq!(h.node.store.effects.dirty, 3);
        assert_eq!(events(&mut h, "HSETNX h a 1"), [""; 0]);
        assert_eq!(events(&mut h, "HSETNX h c 1"), ["hset h"]);
        assert_eq!(events(&mut h, "HINCRBY h c 2"), ["hincrby h"]);
        assert_eq!(events(&mut h, "HINCRBYFLOAT h c 0.5"), ["hincrbyfloat h"]);
        assert_eq!(events(&mut h, "HDEL h none"), [""; 0]);
        assert_eq!(events(&mut h, "HDEL h a b none"), ["hdel h"]);
        assert_eq!(h.node.store.effects.dirty, 8);
        assert_eq!(events(&mut h, "HDEL h c"), ["hdel h", "del h"]);
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "HSET h a 1 b 2 a 3",
                "HSETNX h c 1",
                "HINCRBY h c 2",
                "HSET h c 3.5",
                "HDEL h a b none",
                "HDEL h c"
            ]
        );
        assert_eq!(h.run("HLEN h"), r":0\r\n");
    }

    #[test]
    fn increments_in_both_encodings() {
        for filler in ["f", &"f".repeat(65)] {
            let mut h = Harness::new();
            h.run(&format!("HSET h {filler} 0 text x space \" 11\" nul \"1\\x002\""));
            check(
                &mut h,
                &[
                    ("HINCRBY h n 2", ":2"),
                    ("HINCRBY h n -5", ":-3"),
                    ("HSET h big 17179869184", ":1"),
                    ("HINCRBY h big 17179869184", ":34359738368"),
                    ("HINCRBY h big 9223372036854775807", "-ERR increment or decrement would overflow"),
                    ("HINCRBY h n -9223372036854775807", "-ERR increment or decrement would overflow"),
                    ("HINCRBY h text 1", "-ERR hash value is not an integer"),
                    ("HINCRBY h space 1", "-ERR hash value is not an integer"),
                    ("HINCRBY h n x", "-ERR value is not an integer or out of range"),
                    ("HINCRBYFLOAT h float 1.23", "$4 1.23"),
                    ("HINCRBYFLOAT h float 0.77", "$1 2"),
                    ("HINCRBYFLOAT h float -0.1", "$3 1.9"),
                    ("HINCRBYFLOAT h big 1.5", "$13 34359738369.5"),
                    ("HINCRBYFLOAT h text 1", "-ERR hash value is not a float"),
                    ("HINCRBYFLOAT h space 1", "-ERR hash value is not a float"),
                    ("HINCRBYFLOAT h nul 1", "-ERR hash value is not a float"),
                    ("HINCRBYFLOAT h n x", "-ERR value is not a valid float"),
                    ("HINCRBYFLOAT h n +inf", "-ERR value is NaN or Infinity"),
                    ("HINCRBYFLOAT none n +inf", "-ERR value is NaN or Infinity"),
                    ("HLEN none", ":0"),
                    ("HINCRBY new n 7", ":7"),
                    ("HINCRBYFLOAT newer n 2.5", "$3 2.5"),
                    ("HGET h n", "$2 -3"),
                ],
            );
        }
    }

    #[test]
    fn encodings_follow_the_limits() {
        let mut h = Harness::new();
        h.node.store.limits.hash_value = 8;
        h.node.store.limits.hash_entries = 3;
        check(
            &mut h,
            &[
                ("HSET small tmp 0", ":1"),
                ("HSET big tmp 0", ":1"),
                ("HINCRBYFLOAT small tmp 0.000005", "$8 0.000005"),
                ("HINCRBYFLOAT big tmp 0.0000005", "$9 0.0000005"),
                ("HINCRBYFLOAT field8 abcdefgh 1", "$1 1"),
                ("HINCRBYFLOAT field9 abcdefghi 1", "$1 1"),
                ("HSET three a 1 b 2 c 3", ":3"),
                ("HSET four a 1 b 2 c 3 d 4", ":4"),
                ("HSET twice a 1 b 2", ":2"),
                ("HSET twice c 1 d 2", ":2"),
            ],
        );
        let names = ["small", "big", "field8", "field9", "three", "four", "twice"];
        assert_eq!(
            names.map(|key| encoding(&mut h, key)),
            ["listpack", "hashtable", "listpack", "hashtable", "listpack", "hashtable", "hashtable"]
        );
    }

    #[test]
    fn hrandfield_in_both_encodings_and_protocols() {
        for filler in ["z", &"z".repeat(65)] {
            let mut h = Harness::new();
            let fields = ["a", "b", "c", "d", "e", "6", "7", "8", "9", filler];
            for (value, field) in fields.iter().enumerate() {
                h.run(&format!("HSET h {field} v{value}"));
            }
            check(
                &mut h,
                &[
                    ("HRANDFIELD none", "$-1"),
                    ("HRANDFIELD none 5", "*0"),
                    ("HRANDFIELD h 0", "*0"),
                    ("HRANDFIELD h 0 WITHVALUES", "*0"),
                    ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
                    (
                        "HRANDFIELD h -9223372036854775808",
                        "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                    ),
                    ("HRANDFIELD h -9223372036854770000 WITHVALUES", "-ERR value is out of range"),
                    ("HRANDFIELD h 1 VALUES", "-ERR syntax error"),
                    ("HRANDFIELD h 1 WITHVALUES x", "-ERR syntax error"),
                ],
            );
            // The number of fields in the reply, and whether they are all different.
            for (count, length, distinct) in [
                (-20i64, 20, false),
                (-1001, 1001, false),
                (1, 1, true),
                (2, 2, true),
                (8, 8, true),
                (10, 10, true),
                (20, 10, true),
            ] {
                let names = bulks(&h.run(&format!("HRANDFIELD h {count}")));
                assert_eq!(names.len(), length, "{count}");
                assert!(names.iter().all(|name| fields.contains(&name.as_str())));
                let pairs = bulks(&h.run(&format!("HRANDFIELD h {count} withvalues")));
                assert_eq!(pairs.len(), length * 2, "{count}");
                for pair in pairs.chunks(2) {
                    let value = fields.iter().position(|field| *field == pair[0]).unwrap();
                    assert_eq!(pair[1], format!("v{value}"));
                }
                if distinct {
                    let different: BTreeSet<_> = names.iter().collect();
                    assert_eq!(different.len(), length, "{count}");
                }
            }
            // Each field with the same chance, whichever way it is drawn.
            for count in [-1000i64, 1, 2, 3, 8] {
                let mut times = BTreeMap::new();
                let mut drawn = 0;
                while drawn < 8000 {
                    for name in bulks(&h.run(&format!("HRANDFIELD h {count}"))) {
                        *times.entry(name).or_insert(0) += 1;
                        drawn += 1;
                    }
                }
                assert_eq!(times.len(), 10, "{count}");
                let expected = drawn as f64 / 10.0;
                let chi_square: f64 =
                    times.values().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
                assert!(chi_square < 40.0, "{count}: {times:?}");
            }
            h.resp3();
            assert!(h.run("HRANDFIELD h 3 WITHVALUES").starts_with(r"*3\r\n*2\r\n$"));
            assert!(h.run("HRANDFIELD h -1 WITHVALUES").starts_with(r"*1\r\n*2\r\n$"));
            assert!(h.run("HRANDFIELD h 3").starts_with(r"*3\r\n$"));
            assert_eq!(replies(&mut h, &["HRANDFIELD none", "HRANDFIELD none 1"]), ["_", "*0"]);
        }
    }

    #[test]
    fn hscan_over_both_encodings() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("HSCAN none 0 BAD", "*2 $1 0 *0"),
                ("HSET h a 1 bb 2 7 8", ":3"),
                ("HSCAN h x", "-ERR invalid cursor"),
                ("HSCAN h 0", "*2 $1 0 *6 $1 a $1 1 $2 bb $1 2 $1 7 $1 8"),
                ("HSCAN h 5 COUNT 1", "*2 $1 0 *6 $1 a $1 1 $2 bb $1 2 $1 7 $1 8"),
                ("HSCAN h 0 MATCH b*", "*2 $1 0 *2 $2 bb $1 2"),
                ("HSCAN h 0 MATCH 7", "*2 $1 0 *2 $1 7 $1 8"),
                ("HSCAN h 0 MATCH none", "*2 $1 0 *0"),
                ("HSCAN h 0 NOVALUES MATCH *", "*2 $1 0 *3 $1 a $2 bb $1 7"),
                ("HSCAN h 0 NOSCORES", "-ERR syntax error"),
                ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
                ("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range"),
                ("HSCAN h 0 COUNT", "-ERR syntax error"),
                ("HSCAN h 0 BAD", "-ERR syntax error"),
                ("HSCAN h 0 TYPE hash", "-ERR syntax error"),
            ],
        );
        for index in 0..600 {
            h.run(&format!("HSET t f{index} v{index}"));
        }
        for (options, expected) in [("", 600), ("COUNT 100", 600), ("MATCH f1*", 111), ("MATCH *", 600)] {
            let (mut cursor, mut fields, mut calls) = ("0".to_owned(), BTreeMap::new(), 0);
            loop {
                let mut texts = bulks(&h.run(&format!("HSCAN t {cursor} {options}"))).into_iter();
                cursor = texts.next().unwrap();
                while let Some(name) = texts.next() {
                    fields.insert(name, texts.next().unwrap());
                }
                calls += 1;
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(fields.len(), expected, "{options}");
            assert!(fields.iter().all(|(name, value)| name[1..] == value[1..]));
            assert!(calls > 4, "{options}: {calls}");
        }
    }

    #[test]
    fn other_types_are_refused() {
        let mut h = Harness::new();
        h.run("RPUSH l a");
        h.propagated();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for line in [
            "HSET l a 1",
            "HMSET l a 1",
            "HSETNX l a 1",
            "HGET l a",
            "HMGET l a b",
            "HGETALL l",
            "HKEYS l",
            "HVALS l",
            "HLEN l",
            "HSTRLEN l a",
            "HEXISTS l a",
            "HDEL l a",
            "HINCRBY l a 1",
            "HINCRBYFLOAT l a 1",
            "HRANDFIELD l",
            "HRANDFIELD l 1",
            "HSCAN l 0",
        ] {
            assert_eq!(replies(&mut h, &[line]), [wrong], "{line}");
        }
        assert_eq!(h.propagated(), [""; 0]);
    }

    /// A hash `h` as a snapshot of a newer peer would bring it: `a` for ever, `b` for a second, `c` for two.
    fn with_expiring_fields() -> Harness {
        let mut h = Harness::new();
        h.run("HSET other a 1");
        h.propagated();
        let now = h.now_ms();
        let store = &mut h.node.store;
        let mut hash = Hash::with_capacity(3, &store.limits);
        for (name, value, expire) in
            [("a", "1", None), ("b", "2", Some(now + 1000)), ("c", "3", Some(now + 2000))]
        {
            assert!(hash.load_field(name.as_bytes(), value.as_bytes(), expire, &store.limits));
        }
        store.add(Key::new(b"h"), Object::Hash(hash));
        h
    }

    #[test]
    fn reads_hide_fields_whose_time_has_run_out() {
        let mut h = with_expiring_fields();
        h.advance_ms(1001);
        check(
            &mut h,
            &[
                ("HGET h b", "$-1"),
                ("HEXISTS h b", ":0"),
                ("HSTRLEN h b", ":0"),
                ("HLEN h", ":3"),
                ("HMGET h b c", "*2 $-1 $1 3"),
            ],
        );
        for line in ["HGETALL h", "HSCAN h 0 COUNT 100", "HRANDFIELD h 10 WITHVALUES"] {
            let texts = bulks(&h.run(line));
            let skipped = usize::from(line.starts_with("HSCAN"));
            assert_eq!(texts.len() - skipped, 4, "{line}");
            assert!(!texts.contains(&"b".to_owned()), "{line}");
        }
        for _ in 0..50 {
            assert!(["a", "c"].contains(&&*bulks(&h.run("HRANDFIELD h"))[0]));
            assert_eq!(bulks(&h.run("HRANDFIELD h -3")).iter().filter(|name| *name == "b").count(), 0);
        }
        assert_eq!(h.propagated(), [""; 0]);
    }

    #[test]
    fn writes_remove_fields_whose_time_has_run_out_and_say_so() {
        let mut h = with_expiring_fields();
        h.advance_ms(1001);
        assert_eq!(events(&mut h, "HINCRBY h b 5"), ["hexpired h", "hincrby h"]);
        assert_eq!(h.run("HGET h b"), r"$1\r\n5\r\n");
        assert_eq!(h.propagated(), ["MULTI", "HDEL h b", "HINCRBY h b 5", "EXEC"]);
        // A new value clears the expiry, an increment keeps it.
        check(&mut h, &[("HINCRBY h c 1", ":4"), ("HINCRBYFLOAT h c 1", "$1 5")]);
        assert_eq!(
            h.propagated(),
            ["HINCRBY h c 1", "MULTI", "HSET h c 5", "HPEXPIREAT h 1700000002000 FIELDS 1 c", "EXEC"]
        );
        let mut again = with_expiring_fields();
        check(&mut again, &[("HSET h c 9 b 8", ":0")]);
        again.advance_ms(5000);
        check(&mut again, &[("HMGET h a b c", "*3 $1 1 $1 8 $1 9")]);
        h.advance_ms(5000);
        check(&mut h, &[("HDEL h c", ":0"), ("HLEN h", ":2")]);
        assert_eq!(h.propagated(), ["HDEL h c"]);
    }

    #[test]
    fn a_hash_whose_fields_are_all_gone_is_gone() {
        let mut h = with_expiring_fields();
        h.run("HDEL h a");
        h.propagated();
        h.advance_ms(2001);
        assert_eq!(replies(&mut h, &["HGETALL h", "HRANDFIELD h", "HRANDFIELD h 2"]), ["*0", "$-1", "*0"]);
        // A write removes what it names, the cycle the rest.
        assert_eq!(events(&mut h, "HSETNX h b 1"), ["hexpired h", "hset h"]);
        assert_eq!(h.propagated(), ["MULTI", "HDEL h b", "HSETNX h b 1", "EXEC"]);
        assert_eq!(replies(&mut h, &["HGETALL h", "HLEN h"]), ["*2 $1 b $1 1", ":2"]);
        assert_eq!(events(&mut h, "HDEL h b c"), ["hexpired h", "hdel h", "del h"]);
        assert_eq!(replies(&mut h, &["EXISTS h"]), [":0"]);
    }
}
