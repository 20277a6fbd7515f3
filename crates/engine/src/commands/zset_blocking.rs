//! Sorted sets: commands that wait for a member. How they wait is told in `key_waits`.

use command::{Acl, Arg, Arity, Category, Command, Docs, Flag, Flags, Group, Key, KeySpec};

use crate::commands::zset_pop::{MultiPop, SIDES, Side, pop_one, pop_some};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::key_waits::{Awaited, Timeout, keys_before_timeout};

pub const COMMANDS: &[Command<Handler>] = &[BZMPOP, BZPOPMAX, BZPOPMIN];

const POP: Command<Handler> = Command {
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Noscript, Flag::Blocking, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::range(1, -2, 1, &[Key::Rw, Key::Access, Key::Delete])],
    ..Command::runs(bzpopmin)
};

const KEYS: Arg = Arg::key("key", 0).multiple();
const TIMEOUT: Arg = Arg::double("timeout");
const FLOAT_SINCE_6: &[(&str, &str)] = &[("6.0.0", "The timeout may have a fraction.")];

/// BZPOPMIN key [key …] timeout
const BZPOPMIN: Command<Handler> = Command {
    name: "bzpopmin",
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Removes and returns the member with the lowest score of the first sorted set that has any, or waits for it.",
        history: FLOAT_SINCE_6,
        arguments: &[KEYS, TIMEOUT],
        ..Docs::NONE
    },
    ..POP
};

/// BZPOPMAX key [key …] timeout
const BZPOPMAX: Command<Handler> = Command {
    name: "bzpopmax",
    handler: Some(bzpopmax),
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Removes and returns the member with the highest score of the first sorted set that has any, or waits for it.",
        history: FLOAT_SINCE_6,
        arguments: &[KEYS, TIMEOUT],
        ..Docs::NONE
    },
    ..POP
};

/// BZMPOP timeout numkeys key [key …] MIN|MAX [COUNT count]
const BZMPOP: Command<Handler> = Command {
    name: "bzmpop",
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Blocking]),
    keys: &[KeySpec::count_at(2, &[Key::Rw, Key::Access, Key::Delete])],
    handler: Some(bzmpop),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(K)+O(M*log(N)), K being the keys, N the members of the sorted set and M those popped.",
        summary: "Removes and returns members of the first sorted set that has any, or waits for them.",
        arguments: &[
            TIMEOUT,
            Arg::integer("numkeys"),
            KEYS,
            Arg::one_of("where", SIDES),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..POP
};

fn bzpopmin(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, Side::Min)
}

fn bzpopmax(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_or_wait(ctx, Side::Max)
}

fn pop_or_wait(ctx: &mut Ctx<'_>, side: Side) -> CmdResult {
    let (keys, timeout) = keys_before_timeout(ctx.argv);
    let timeout = Timeout::seconds(timeout, ctx.store.now_ms)?;
    if !pop_one(ctx, keys, side)? && !ctx.await_keys(Awaited::ZSet, timeout, keys.iter(), None) {
        ctx.reply.null_array();
    }
    Ok(())
}

fn bzmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    // As in Redis, the timeout is looked at last.
    let wanted = MultiPop::parse(ctx.argv, 2)?;
    let timeout = Timeout::seconds(ctx.argv.at(1), ctx.store.now_ms)?;
    if !pop_some(ctx, &wanted)? && !ctx.await_keys(Awaited::ZSet, timeout, wanted.keys.iter(), None) {
        ctx.reply.null_array();
    }
    Ok(())
}
