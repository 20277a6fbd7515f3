//! Lists: commands that wait for an element. How they wait is told in `key_waits`.

use command::{Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec};
use keyspace::End;

use crate::commands::list::{ENDS, MultiPop, move_one, parse_end, pop_one, pop_some};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::key_waits::{Awaited, Timeout, keys_before_timeout};

pub const COMMANDS: &[Command<Handler>] = &[BLMOVE, BLMPOP, BLPOP, BRPOP, BRPOPLPUSH];

const POP: Command<Handler> = Command {
    group: Group::List,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Noscript, Flag::Blocking]),
    acl: Acl::of(&[Category::List]),
    keys: &[KeySpec::range(1, -2, 1, &[Key::Rw, Key::Access, Key::Delete])],
    ..Command::runs(blpop)
};
const MOVE: Command<Handler> = Command {
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Noscript, Flag::Blocking]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete]), KeySpec::at(2, &[Key::Rw, Key::Insert])],
    ..POP
};

const KEYS: Arg = Arg::key("key", 0).multiple();
const TIMEOUT: Arg = Arg::double("timeout");
const FLOAT_SINCE_6: &[(&str, &str)] = &[("6.0.0", "The timeout may have a fraction.")];

/// BLPOP key [key …] timeout
const BLPOP: Command<Handler> = Command {
    name: "blpop",
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of keys",
        summary: "Takes the first element off the first list that has one, or waits for it.",
        history: FLOAT_SINCE_6,
        arguments: &[KEYS, TIMEOUT],
        ..Docs::NONE
    },
    ..POP
};

/// BRPOP key [key …] timeout
const BRPOP: Command<Handler> = Command {
    name: "brpop",
    handler: Some(brpop),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of keys",
        summary: "Takes the last element off the first list that has one, or waits for it.",
        history: FLOAT_SINCE_6,
        arguments: &[KEYS, TIMEOUT],
        ..Docs::NONE
    },
    ..POP
};

/// BLMPOP timeout numkeys key [key …] LEFT|RIGHT [COUNT count]
const BLMPOP: Command<Handler> = Command {
    name: "blmpop",
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Blocking]),
    keys: &[KeySpec::count_at(2, &[Key::Rw, Key::Access, Key::Delete])],
    handler: Some(blmpop),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N+M), when N is the number of keys and M that of elements returned",
        summary: "Takes elements off the first list that has some, or waits for them.",
        arguments: &[
            TIMEOUT,
            Arg::integer("numkeys"),
            KEYS,
            Arg::one_of("where", ENDS),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..POP
};

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout
const BLMOVE: Command<Handler> = Command {
    name: "blmove",
    arity: Arity::Exactly(6),
    handler: Some(blmove),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Moves an element from an end of a list to an end of another and returns it, or waits for it.",
        arguments: &[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::one_of("wherefrom", ENDS),
            Arg::one_of("whereto", ENDS),
            TIMEOUT,
        ],
        ..Docs::NONE
    },
    ..MOVE
};

/// BRPOPLPUSH source destination timeout
const BRPOPLPUSH: Command<Handler> = Command {
    name: "brpoplpush",
    arity: Arity::Exactly(4),
    handler: Some(brpoplpush),
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(1)",
        summary: "Moves the last element of a list before the first of another and returns it, or waits for it.",
        history: FLOAT_SINCE_6,
        deprecated_since: "6.2.0",
        replaced_by: "`BLMOVE` with `RIGHT` and `LEFT`",
        arguments: &[Arg::key("source", 0), Arg::key("destination", 1), TIMEOUT],
        ..Docs::NONE
    },
    ..MOVE
};

fn blpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, End::Head)
}

fn brpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, End::Tail)
}

fn pop_or_wait(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let (keys, timeout) = keys_before_timeout(ctx.argv);
    let timeout = Timeout::seconds(timeout, ctx.store.now_ms)?;
    if !pop_one(ctx, keys, end)? && !ctx.await_keys(Awaited::List, timeout, keys.iter(), None) {
        ctx.reply.null_array();
    }
    Ok(())
}

fn blmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    // As in Redis, the timeout is looked at last.
    let wanted = MultiPop::parse(ctx.argv, 2)?;
    let timeout = Timeout::seconds(ctx.argv.at(1), ctx.store.now_ms)?;
    if !pop_some(ctx, &wanted)? && !ctx.await_keys(Awaited::List, timeout, wanted.keys.iter(), None) {
        ctx.reply.null_array();
    }
    Ok(())
}

fn blmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let from = parse_end(ctx.argv.at(3))?;
    let to = parse_end(ctx.argv.at(4))?;
    let timeout = Timeout::seconds(ctx.argv.at(5), ctx.store.now_ms)?;
    if move_or_wait(ctx, from, to, timeout)? {
        // As in Redis: the words as they came, or its own if the command has waited.
        let own = |end| if end == End::Head { b"left".as_slice() } else { b"right" };
        let (from, to) = match ctx.runs_again() {
            true => (own(from), own(to)),
            false => (ctx.argv.at(3), ctx.argv.at(4)),
        };
        ctx.store.effects.propagate_as(&[b"LMOVE", ctx.argv.at(1), ctx.argv.at(2), from, to]);
    }
    Ok(())
}

fn brpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    let timeout = Timeout::seconds(ctx.argv.at(3), ctx.store.now_ms)?;
    if move_or_wait(ctx, End::Tail, End::Head, timeout)? {
        ctx.store.effects.propagate_as(&[b"RPOPLPUSH", ctx.argv.at(1), ctx.argv.at(2)]);
    }
    Ok(())
}

/// True if an element was moved.
fn move_or_wait(ctx: &mut Ctx<'_>, from: End, to: End, timeout: Timeout) -> Result<bool, CommandError> {
    let moved = move_one(ctx, from, to)?;
    let source = [ctx.argv.at(1)];
    if !moved && !ctx.await_keys(Awaited::List, timeout, source.into_iter(), None) {
        ctx.reply.null();
    }
    Ok(moved)
}
