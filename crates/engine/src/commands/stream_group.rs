//! Groups of consumers: `XGROUP`.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::stream::group::Group as StreamGroup;
use keyspace::{Object, Stream, StreamId};

use crate::commands::stream_id::{no_group_for_key, parse, parse_strict};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[XGROUP];

/// XGROUP
const XGROUP: Command<Handler> = Command {
    name: "xgroup",
    group: Group::Stream,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        summary: "Makes and changes consumer groups.",
        since: "5.0.0",
        complexity: "Depends on subcommand.",
        ..Docs::NONE
    },
    ..Command::parent(&[CREATE, CREATECONSUMER, DELCONSUMER, DESTROY, HELP, SETID])
};

const ID_ARGUMENTS: [Arg; 2] = [Arg::string("ID"), Arg::pure_token("new_id", "$")];

/// XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]
const CREATE: Command<Handler> = Command {
    name: "create",
    group: Group::Stream,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        summary: "Makes a consumer group.",
        since: "5.0.0",
        complexity: "O(1)",
        history: &[("7.0.0", "Added the `entries_read` named argument.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("groupname"),
            Arg::one_of("id", &ID_ARGUMENTS),
            Arg::pure_token("mkstream", "MKSTREAM").optional(),
            Arg::integer("entries_read").token("ENTRIESREAD").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(create)
};

/// XGROUP CREATECONSUMER key group consumer
const CREATECONSUMER: Command<Handler> = Command {
    name: "createconsumer",
    group: Group::Stream,
    arity: Arity::Exactly(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        summary: "Adds a consumer to a group.",
        since: "6.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::string("groupname"), Arg::string("consumername")],
        ..Docs::NONE
    },
    ..Command::runs(create_consumer)
};

/// XGROUP DELCONSUMER key group consumer
const DELCONSUMER: Command<Handler> = Command {
    name: "delconsumer",
    group: Group::Stream,
    arity: Arity::Exactly(5),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        summary: "Removes a consumer of a group, with what it has pending.",
        since: "5.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::string("groupname"), Arg::string("consumername")],
        ..Docs::NONE
    },
    ..Command::runs(delete_consumer)
};

/// XGROUP DESTROY key group
const DESTROY: Command<Handler> = Command {
    name: "destroy",
    group: Group::Stream,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        summary: "Removes a consumer group.",
        since: "5.0.0",
        complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
        arguments: &[Arg::key("key", 0), Arg::string("groupname")],
        ..Docs::NONE
    },
    ..Command::runs(destroy)
};

/// XGROUP HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Stream,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Stream]),
    docs: &Docs { summary: "Lists the subcommands.", since: "5.0.0", complexity: "O(1)", ..Docs::NONE },
    ..Command::runs(help)
};

/// XGROUP SETID key group id|$ [ENTRIESREAD entries-read]
const SETID: Command<Handler> = Command {
    name: "setid",
    group: Group::Stream,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Sets how far a group has read.",
        since: "5.0.0",
        complexity: "O(1)",
        history: &[("7.0.0", "Added the optional `entries_read` argument.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("groupname"),
            Arg::one_of("id", &ID_ARGUMENTS),
            Arg::integer("entries_read").token("ENTRIESREAD").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(set_id)
};

const NO_KEY: CommandError = CommandError::fixed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
     to create an empty stream automatically.",
);

/// `[MKSTREAM]`, where allowed, and `[ENTRIESREAD n]`: what was read, if it is known.
fn options(ctx: &Ctx<'_>, makes: bool) -> Result<(bool, Option<u64>), CommandError> {
    let (mut mkstream, mut entries_read) = (false, None);
    let mut options = Options::new(ctx.argv, 5);
    while let Some(option) = options.next() {
        if makes && is_token(option, "MKSTREAM") {
            mkstream = true;
        } else if is_token(option, "ENTRIESREAD") && !options.rest().is_empty() {
            let read = options.int()?;
            if read < -1 {
                return Err(CommandError::fixed("ERR value for ENTRIESREAD must be positive or -1"));
            }
            entries_read = u64::try_from(read).ok();
        } else {
            return Err(CommandError::subcommand_syntax(ctx.argv));
        }
    }
    Ok((mkstream, entries_read))
}

fn create(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mkstream, entries_read) = options(ctx, true)?;
    let (key, name, id) = (ctx.key(2), ctx.argv.at(3), ctx.argv.at(4));
    let too_long = ctx.argv.len() > 8;
    let found = ctx.store.write_stream(key).map_err(wrong_type)?;
    if found.is_none() && !mkstream {
        return Err(NO_KEY);
    }
    if too_long {
        return Err(CommandError::subcommand_syntax(ctx.argv));
    }
    let last_id = found.as_ref().map_or(StreamId::MIN, |stream| stream.last_id);
    let last_id = if id == b"$" { last_id } else { parse_strict(id, 0)? };
    let group = StreamGroup::new(last_id, entries_read);
    match found {
        Some(stream) => {
            if !stream.create_group(name, group) {
                return Err(CommandError::fixed("BUSYGROUP Consumer Group name already exists"));
            }
        }
        None => {
            let mut stream = Box::new(Stream::new());
            stream.create_group(name, group);
            ctx.store.add(key, Object::Stream(stream));
            ctx.store.touch_watchers(key.bytes);
        }
    }
    ctx.reply.ok();
    ctx.store.effects.dirty += 1;
    ctx.store.notify(Event::STREAM, "xgroup-create", key.bytes);
    Ok(())
}

/// The group that arguments 2 and 3 name must be there.
fn expect_group(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, name) = (ctx.key(2), ctx.argv.at(3));
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?.ok_or(NO_KEY)?;
    if stream.group(name).is_none() {
        return Err(no_group_for_key(key.bytes, name));
    }
    Ok(())
}

fn set_id(ctx: &mut Ctx<'_>) -> CmdResult {
    let (_, entries_read) = options(ctx, false)?;
    let (key, name, id) = (ctx.key(2), ctx.argv.at(3), ctx.argv.at(4));
    expect_group(ctx)?;
    if !matches!(ctx.argv.len(), 5 | 7) {
        return Err(CommandError::subcommand_syntax(ctx.argv));
    }
    let given = if id == b"$" { None } else { Some(parse(id, 0)?) };
    ctx.store.edit_stream(key, |stream, effects| {
        let last_id = given.unwrap_or(stream.last_id);
        let group = stream.group_mut(name).expect("the group was just found");
        (group.last_id, group.entries_read) = (last_id, entries_read);
        effects.dirty += 1;
    });
    ctx.reply.ok();
    // The group may have something to read again.
    ctx.store.signal_ready(key.bytes);
    ctx.store.notify(Event::STREAM, "xgroup-setid", key.bytes);
    Ok(())
}

fn destroy(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, name) = (ctx.key(2), ctx.argv.at(3));
    let stream = ctx.store.write_stream(key).map_err(wrong_type)?.ok_or(NO_KEY)?;
    let destroyed = stream.destroy_group(name);
    if destroyed {
        ctx.store.effects.dirty += 1;
        ctx.store.signal_ready(key.bytes);
        ctx.store.notify(Event::STREAM, "xgroup-destroy", key.bytes);
    }
    ctx.reply.int(i64::from(destroyed));
    Ok(())
}

fn create_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    expect_group(ctx)?;
    let (key, name, consumer, now_ms) = (ctx.key(2), ctx.argv.at(3), ctx.argv.at(4), ctx.store.now_ms);
    let created = ctx.store.edit_stream(key, |stream, effects| {
        let group = stream.group_mut(name).expect("the group was just found");
        let created = group.create(consumer, now_ms).is_some();
        effects.dirty += u64::from(created);
        created
    });
    if created {
        ctx.store.notify(Event::STREAM, "xgroup-createconsumer", key.bytes);
    }
    ctx.reply.int(i64::from(created));
    Ok(())
}

fn delete_consumer(ctx: &mut Ctx<'_>) -> CmdResult {
    expect_group(ctx)?;
    let (key, name, consumer) = (ctx.key(2), ctx.argv.at(3), ctx.argv.at(4));
    let pending = ctx.store.edit_stream(key, |stream, effects| {
        let group = stream.group_mut(name).expect("the group was just found");
        let pending = group.delete(consumer);
        effects.dirty += u64::from(pending.is_some());
        pending
    });
    if pending.is_some() {
        ctx.store.notify(Event::STREAM, "xgroup-delconsumer", key.bytes);
    }
    ctx.reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    super::write_help(
        ctx,
        &[
            "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <n>]",
            "    Make a group that reads from behind <id>, or behind the last entry.",
            "    MKSTREAM makes an empty stream if there is none; ENTRIESREAD is for replication.",
            "CREATECONSUMER <key> <group> <consumer>",
            "    Add a consumer to the group.",
            "DELCONSUMER <key> <group> <consumer>",
            "    Remove the consumer, with what it has pending.",
            "DESTROY <key> <group>",
            "    Remove the group.",
            "SETID <key> <group> <id|$> [ENTRIESREAD <n>]",
            "    Set how far the group has read.",
        ],
    );
    Ok(())
}
