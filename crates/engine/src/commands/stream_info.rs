//! What a stream, its groups and their consumers look like: `XINFO`.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::stream::group::Group as StreamGroup;
use keyspace::{Stream, StreamId};
use resp::Reply;

use crate::commands::stream_id::{no_group_for_key, reply_id, reply_next, reply_range};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};

pub const COMMANDS: &[Command<Handler>] = &[XINFO];

/// XINFO
const XINFO: Command<Handler> = Command {
    name: "xinfo",
    group: Group::Stream,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        summary: "Tells about streams and groups.",
        since: "5.0.0",
        complexity: "Depends on subcommand.",
        ..Docs::NONE
    },
    ..Command::parent(&[CONSUMERS, GROUPS, HELP, STREAM])
};

/// XINFO CONSUMERS key group
const CONSUMERS: Command<Handler> = Command {
    name: "consumers",
    group: Group::Stream,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Lists the consumers of a group.",
        since: "5.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::string("groupname")],
        ..Docs::NONE
    },
    ..Command::runs(consumers)
};

/// XINFO GROUPS key
const GROUPS: Command<Handler> = Command {
    name: "groups",
    group: Group::Stream,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Lists the groups of a stream.",
        since: "5.0.0",
        complexity: "O(1)",
        history: &[("7.0.0", "Added the `entries-read` and `lag` fields")],
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(groups)
};

/// XINFO HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Stream,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Stream]),
    docs: &Docs { summary: "Lists the subcommands.", since: "5.0.0", complexity: "O(1)", ..Docs::NONE },
    ..Command::runs(help)
};

/// XINFO STREAM key [FULL [COUNT count]]
const STREAM: Command<Handler> = Command {
    name: "stream",
    group: Group::Stream,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Tells about a stream.",
        since: "5.0.0",
        complexity: "O(1)",
        history: &[
            ("6.0.0", "Added the `FULL` modifier."),
            (
                "7.0.0",
                "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and \
                 `lag` fields",
            ),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::block("full", &[Arg::integer("count").token("COUNT").optional()]).token("FULL").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(stream)
};

fn stream(ctx: &mut Ctx<'_>) -> CmdResult {
    let argv = ctx.argv;
    let stream = ctx.store.read_stream(ctx.key(2)).map_err(wrong_type)?.ok_or(CommandError::NoSuchKey)?;
    if argv.len() == 3 {
        reply_stream(&mut ctx.reply, stream);
        return Ok(());
    }
    let well_formed = argv.is(3, "FULL") && (argv.len() == 4 || (argv.len() == 6 && argv.is(4, "COUNT")));
    if !well_formed {
        return Err(CommandError::subcommand_syntax(argv));
    }
    let limit = match argv.get(5).map(|_| argv.int(5)).transpose()? {
        Some(0) => usize::MAX,
        count => count.and_then(|count| usize::try_from(count).ok()).unwrap_or(10),
    };
    reply_full(&mut ctx.reply, stream, limit);
    Ok(())
}

fn reply_head(reply: &mut Reply<'_>, stream: &Stream) {
    for (name, value) in [
        ("length", stream.len()),
        ("radix-tree-keys", stream.node_count() as u64),
        ("radix-tree-nodes", stream.radix_nodes() as u64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id);
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.int(stream.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
}

fn reply_stream(reply: &mut Reply<'_>, stream: &Stream) {
    reply.map(10);
    reply_head(reply, stream);
    reply.bulk(b"groups");
    reply.int(stream.groups().len() as i64);
    reply.bulk(b"first-entry");
    if reply_next(reply, &mut stream.iter()).is_none() {
        reply.null();
    }
    reply.bulk(b"last-entry");
    if reply_next(reply, &mut stream.range_rev(StreamId::MIN, StreamId::MAX)).is_none() {
        reply.null();
    }
}

fn reply_full(reply: &mut Reply<'_>, stream: &Stream, limit: usize) {
    reply.map(9);
    reply_head(reply, stream);
    reply.bulk(b"entries");
    reply_range(reply, stream, StreamId::MIN, StreamId::MAX, limit, false);
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply_progress(reply, stream, group);
        reply.bulk(b"pel-count");
        reply.int(group.pending().len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(limit));
        for (id, pending) in group.pending().iter().take(limit) {
            reply.array(4);
            reply_id(reply, id);
            reply.bulk(group.consumer(pending.owner).name());
            reply.int(pending.delivered_ms);
            reply.int(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        for consumer in group.consumers() {
            reply.map(4);
            reply.bulk(b"name");
            reply.bulk(consumer.name());
            reply.bulk(b"seen-time");
            reply.int(consumer.seen_ms);
            reply.bulk(b"pel-count");
            reply.int(consumer.pending().len() as i64);
            reply.bulk(b"pending");
            reply.array(consumer.pending().len().min(limit));
            for id in consumer.pending().keys().take(limit) {
                let pending = group.pending().get(id).expect("what a consumer has pending, its group has");
                reply.array(3);
                reply_id(reply, id);
                reply.int(pending.delivered_ms);
                reply.int(pending.deliveries as i64);
            }
        }
    }
}

/// How far a group has come.
fn reply_progress(reply: &mut Reply<'_>, stream: &Stream, group: &StreamGroup) {
    let int_or_null = |reply: &mut Reply<'_>, value: Option<i64>| match value {
        Some(value) => reply.int(value),
        None => reply.null(),
    };
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    int_or_null(reply, group.entries_read.map(|read| read as i64));
    reply.bulk(b"lag");
    int_or_null(reply, stream.counters().lag(group));
}

fn groups(ctx: &mut Ctx<'_>) -> CmdResult {
    let stream = ctx.store.read_stream(ctx.key(2)).map_err(wrong_type)?.ok_or(CommandError::NoSuchKey)?;
    let reply = &mut ctx.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.int(group.consumers().len() as i64);
        reply.bulk(b"pending");
        reply.int(group.pending().len() as i64);
        reply_progress(reply, stream, group);
    }
    Ok(())
}

fn consumers(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, name, now_ms) = (ctx.key(2), ctx.argv.at(3), ctx.store.now_ms);
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?.ok_or(CommandError::NoSuchKey)?;
    let group = stream.group(name).ok_or_else(|| no_group_for_key(key.bytes, name))?;
    let reply = &mut ctx.reply;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.int(consumer.pending().len() as i64);
        reply.bulk(b"idle");
        reply.int(now_ms.wrapping_sub(consumer.seen_ms).max(0));
    }
    Ok(())
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    super::write_help(
        ctx,
        &[
            "CONSUMERS <key> <group>",
            "    List the consumers of the group.",
            "GROUPS <key>",
            "    List the groups of the stream.",
            "STREAM <key> [FULL [COUNT <count>]]",
            "    Tell about the stream; FULL with entries, groups and what is pending.",
        ],
    );
    Ok(())
}
