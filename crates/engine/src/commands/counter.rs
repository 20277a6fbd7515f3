//! Strings that are numbers: 64-bit integers and decimal floats.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::entry::INLINE_MAX;
use keyspace::{Entry, EntryExt, Object, Str};
use structures::number::LongDouble;

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[DECR, DECRBY, INCR, INCRBY, INCRBYFLOAT];

/// DECR key
const DECR: Command<Handler> = Command {
    name: "decr",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Takes one from an integer.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(decr)
};

/// DECRBY key decrement
const DECRBY: Command<Handler> = Command {
    name: "decrby",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Takes a number from an integer.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("decrement")],
        ..Docs::NONE
    },
    ..Command::runs(decrby)
};

/// INCR key
const INCR: Command<Handler> = Command {
    name: "incr",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Adds one to an integer.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(incr)
};

/// INCRBY key increment
const INCRBY: Command<Handler> = Command {
    name: "incrby",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Adds a number to an integer.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("increment")],
        ..Docs::NONE
    },
    ..Command::runs(incrby)
};

/// INCRBYFLOAT key increment
const INCRBYFLOAT: Command<Handler> = Command {
    name: "incrbyfloat",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Adds a number to a decimal float.",
        since: "2.6.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::double("increment")],
        ..Docs::NONE
    },
    ..Command::runs(incrbyfloat)
};

fn incr(ctx: &mut Ctx<'_>) -> CmdResult {
    add(ctx, 1)
}

fn decr(ctx: &mut Ctx<'_>) -> CmdResult {
    add(ctx, -1)
}

fn incrby(ctx: &mut Ctx<'_>) -> CmdResult {
    add(ctx, ctx.argv.int(2)?)
}

fn decrby(ctx: &mut Ctx<'_>) -> CmdResult {
    let amount = ctx.argv.int(2)?.checked_neg();
    add(ctx, amount.ok_or(CommandError::fixed("ERR decrement would overflow"))?)
}

/// Adds to the integer of argument 1, in place; a key that does not exist counts from 0.
fn add(ctx: &mut Ctx<'_>, amount: i64) -> CmdResult {
    let key = ctx.key(1);
    let sum = match ctx.store.write(key) {
        Some(entry) => {
            let value = entry.as_str().map_err(wrong_type)?.as_i64().ok_or(CommandError::NotInteger)?;
            let sum = value.checked_add(amount).ok_or(CommandError::Overflow)?;
            entry.set_int(sum);
            sum
        }
        None => {
            ctx.store.add_entry(key.hash, Entry::new_int(key.bytes, amount, None));
            amount
        }
    };
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::STRING, "incrby", key.bytes);
    ctx.reply.int(sum);
    Ok(())
}

fn incrbyfloat(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let value = match ctx.store.write(key) {
        None => Some(LongDouble::ZERO),
        Some(entry) => match entry.as_str().map_err(wrong_type)? {
            Str::Int(value) => Some(LongDouble::from_i64(value)),
            Str::Bytes(text) => LongDouble::parse(text),
            Str::Shared(text) => LongDouble::parse(text),
        },
    };
    let (Some(value), Some(amount)) = (value, LongDouble::parse(ctx.argv.at(2))) else {
        return Err(CommandError::NotFloat);
    };
    let sum = value + amount;
    if sum.is_nan() || sum.is_infinite() {
        return Err(CommandError::NanOrInfinity);
    }
    let mut text = Vec::with_capacity(32);
    sum.push_to(&mut text);
    // The text stays text, even where it spells an integer.
    if let Some(entry) = ctx.store.db_mut().edit(key) {
        entry.store_text(&text);
    } else {
        let entry = if text.len() > INLINE_MAX {
            Entry::new_payload(key.bytes, Object::Str(std::sync::Arc::new(text.clone())), None)
        } else {
            Entry::new_bytes(key.bytes, &text, None)
        };
        ctx.store.add_entry(key.hash, entry);
    }
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::STRING, "incrbyfloat", key.bytes);
    // Others need not agree on how floats are added and printed.
    ctx.store.effects.propagate_as(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    ctx.reply.bulk(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn integers() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("INCR a", r":1\r\n"),
            ("INCRBY a 17179869184", r":17179869185\r\n"),
            ("DECRBY a 17179869186", r":-1\r\n"),
            ("DECR a", r":-2\r\n"),
            ("INCRBY a 9223372036854775807", r":9223372036854775805\r\n"),
            ("INCRBY a 3", r"-ERR increment or decrement would overflow\r\n"),
            ("DECRBY a -9223372036854775808", r"-ERR decrement would overflow\r\n"),
            ("INCRBY a 1.5", r"-ERR value is not an integer or out of range\r\n"),
            ("SET a \" 11\"", r"+OK\r\n"),
            ("INCR a", r"-ERR value is not an integer or out of range\r\n"),
            ("SET a \"\"", r"+OK\r\n"),
            ("DECR a", r"-ERR value is not an integer or out of range\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
    }

    #[test]
    fn floats_propagate_as_their_sum_and_stay_text() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("INCRBYFLOAT a 0.25", r"$4\r\n0.25\r\n"),
            ("INCRBYFLOAT a 0.75", r"$1\r\n1\r\n"),
            ("OBJECT ENCODING a", r"$6\r\nembstr\r\n"),
            ("INCR a", r":2\r\n"),
            ("OBJECT ENCODING a", r"$3\r\nint\r\n"),
            ("INCRBYFLOAT a 5.0e3", r"$4\r\n5002\r\n"),
            ("INCRBYFLOAT a inf", r"-ERR increment would produce NaN or Infinity\r\n"),
            ("INCRBYFLOAT a x", r"-ERR value is not a valid float\r\n"),
            ("SET b \" 11\"", r"+OK\r\n"),
            ("INCRBYFLOAT b 1", r"-ERR value is not a valid float\r\n"),
            ("SET c 3", r"+OK\r\n"),
            ("INCRBYFLOAT c 1.1", r"$3\r\n4.1\r\n"),
            ("INCRBYFLOAT c -1.1", r"$1\r\n3\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "SET a 0.25 KEEPTTL",
                "SET a 1 KEEPTTL",
                "INCR a",
                "SET a 5002 KEEPTTL",
                "SET b  11",
                "SET c 3",
                "SET c 4.1 KEEPTTL",
                "SET c 3 KEEPTTL"
            ]
        );
        h.run("EXPIRE c 100");
        h.run("INCRBYFLOAT c 1");
        assert_eq!(h.run("TTL c"), r":100\r\n");
    }
}
