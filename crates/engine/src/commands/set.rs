//! Sets: members one by one. What combines several sets is in [`super::set_ops`], what picks at random or goes through
//! a set in [`super::set_random`].

use command::{Acl, Arg, Arity, Category, Command, Docs, Flag, Flags, Group, Key, KeySpec};
use keyspace::{Object, Set};

use crate::commands::elements::{delete_emptied, reply_entry};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[SADD, SCARD, SISMEMBER, SMEMBERS, SMISMEMBER, SMOVE, SREM];

/// SADD key member [member ...]
const SADD: Command<Handler> = Command {
    name: "sadd",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1) per member.",
        summary: "Adds members to a set, which is created if it does not exist.",
        history: &[("2.4.0", "Takes several members.")],
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sadd)
};

fn sadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let limits = ctx.store.limits.clone();
    let members = ctx.argv.tail(2);
    let added = if let Some(mut set) = ctx.store.write_set(key).map_err(wrong_type)? {
        members.iter().filter(|member| set.add(member, &limits)).count()
    } else {
        let mut set = Set::for_member(members.at(0), &limits);
        let added = members.iter().filter(|member| set.add(member, &limits)).count();
        ctx.store.add(key, Object::Set(set));
        added
    };
    if added > 0 {
        ctx.store.modified_times(key.bytes, added);
        ctx.store.notify(Event::SET, "sadd", key.bytes);
    }
    ctx.reply.int(added as i64);
    Ok(())
}

/// SCARD key
const SCARD: Command<Handler> = Command {
    name: "scard",
    group: Group::Set,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Counts the members of a set.",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(scard)
};

fn scard(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)?.map_or(0, |set| set.len());
    ctx.reply.int(count as i64);
    Ok(())
}

/// SISMEMBER key member
const SISMEMBER: Command<Handler> = Command {
    name: "sismember",
    group: Group::Set,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Tells whether a value is a member of a set.",
        arguments: &[Arg::key("key", 0), Arg::string("member")],
        ..Docs::NONE
    },
    ..Command::runs(sismember)
};

fn sismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)?;
    ctx.reply.int(i64::from(set.is_some_and(|set| set.contains(&ctx.argv[2]))));
    Ok(())
}

/// SMEMBERS key
const SMEMBERS: Command<Handler> = Command {
    name: "smembers",
    group: Group::Set,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members of the set.",
        summary: "Returns all members of a set.",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(smembers)
};

fn smembers(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.store.read_set(ctx.key(1)).map_err(wrong_type)? {
        None => ctx.reply.set(0),
        Some(set) => {
            ctx.reply.set(set.len());
            set.iter().for_each(|member| reply_entry(&mut ctx.reply, member));
        }
    }
    Ok(())
}

/// SMISMEMBER key member [member ...]
const SMISMEMBER: Command<Handler> = Command {
    name: "smismember",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N), N being the values asked for.",
        summary: "Tells for each of several values whether it is a member of a set.",
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(smismember)
};

fn smismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)?;
    let members = ctx.argv.tail(2);
    ctx.reply.array(members.len());
    for member in members.iter() {
        ctx.reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

/// SMOVE source destination member
const SMOVE: Command<Handler> = Command {
    name: "smove",
    group: Group::Set,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete]), KeySpec::at(2, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Takes a member out of one set and puts it into another.",
        arguments: &[Arg::key("source", 0), Arg::key("destination", 1), Arg::string("member")],
        ..Docs::NONE
    },
    ..Command::runs(smove)
};

fn smove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (source, target, member) = (ctx.key(1), ctx.key(2), ctx.argv.at(3));
    let limits = ctx.store.limits.clone();
    let Some(set) = ctx.store.write_set(source).map_err(wrong_type)? else {
        // The target's time may have run out all the same.
        ctx.store.is_alive(target);
        ctx.reply.int(0);
        return Ok(());
    };
    if source.bytes == target.bytes {
        let is_member = set.contains(member);
        ctx.reply.int(i64::from(is_member));
        return Ok(());
    }
    drop(set);
    let target_exists = ctx.store.write_set(target).map_err(wrong_type)?.is_some();
    let mut set = ctx.store.write_set(source).map_err(wrong_type)?.expect("it was there a moment ago");
    if !set.remove(member) {
        ctx.reply.int(0);
        return Ok(());
    }
    let emptied = set.is_empty();
    drop(set);
    ctx.store.notify(Event::SET, "srem", source.bytes);
    if emptied {
        delete_emptied(ctx, source);
    }
    ctx.store.modified(source.bytes);
    let added = if target_exists {
        let mut set = ctx.store.write_set(target).map_err(wrong_type)?.expect("it was there a moment ago");
        set.add(member, &limits)
    } else {
        let mut set = Set::for_member(member, &limits);
        set.add(member, &limits);
        ctx.store.add(target, Object::Set(set));
        true
    };
    if added {
        ctx.store.modified(target.bytes);
        ctx.store.notify(Event::SET, "sadd", target.bytes);
    }
    ctx.reply.int(1);
    Ok(())
}

/// SREM key member [member ...]
const SREM: Command<Handler> = Command {
    name: "srem",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members to remove.",
        summary: "Removes members from a set; an emptied set is deleted.",
        history: &[("2.4.0", "Takes several members.")],
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(srem)
};

fn srem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(mut set) = ctx.store.write_set(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let removed = ctx.argv.tail(2).iter().filter(|member| set.remove(member)).count();
    let emptied = set.is_empty();
    drop(set);
    if removed > 0 {
        ctx.store.modified_times(key.bytes, removed);
        ctx.store.notify(Event::SET, "srem", key.bytes);
        if emptied {
            delete_emptied(ctx, key);
        }
    }
    ctx.reply.int(removed as i64);
    Ok(())
}
