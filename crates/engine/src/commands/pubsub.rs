//! The commands of publish and subscribe. What they do is in [`crate::pubsub`].

use command::{Arg, ArgKind, Arity, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec};

use super::write_help;
use crate::action::ConnId;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::pubsub::{self, Kind};

pub const COMMANDS: &[Command<Handler>] =
    &[PSUBSCRIBE, PUBLISH, PUBSUB, PUNSUBSCRIBE, SPUBLISH, SSUBSCRIBE, SUBSCRIBE, SUNSUBSCRIBE, UNSUBSCRIBE];

const SUBSCRIBER_FLAGS: Flags = Flags::of(&[Flag::Pubsub, Flag::Noscript, Flag::Loading, Flag::Stale]);
const PUBLISHER_FLAGS: Flags =
    Flags::of(&[Flag::Pubsub, Flag::Loading, Flag::Stale, Flag::Fast, Flag::MayReplicate]);
const PUBSUB_FLAGS: Flags = Flags::of(&[Flag::Pubsub, Flag::Loading, Flag::Stale]);

/// SUBSCRIBE channel [channel …]
const SUBSCRIBE: Command<Handler> = Command {
    name: "subscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: SUBSCRIBER_FLAGS,
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        summary: "Begins to listen to channels.",
        arguments: &[Arg { multiple: true, ..Arg::string("channel") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| subscribe(ctx, Kind::Channel))
};

/// UNSUBSCRIBE [channel …]
const UNSUBSCRIBE: Command<Handler> = Command {
    name: "unsubscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(1),
    flags: SUBSCRIBER_FLAGS,
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N) where N is the number of clients already subscribed to a channel.",
        summary: "Ends listening to channels, or to all of them.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("channel") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| unsubscribe(ctx, Kind::Channel))
};

/// PSUBSCRIBE pattern [pattern …]
const PSUBSCRIBE: Command<Handler> = Command {
    name: "psubscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: SUBSCRIBER_FLAGS,
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
        summary: "Begins to listen to all channels whose names match.",
        arguments: &[Arg {
            multiple: true,
            ..Arg::new("pattern", ArgKind::Block(&[Arg::pattern("pattern")]))
        }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| subscribe(ctx, Kind::Pattern))
};

/// PUNSUBSCRIBE [pattern …]
const PUNSUBSCRIBE: Command<Handler> = Command {
    name: "punsubscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(1),
    flags: SUBSCRIBER_FLAGS,
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N+M) where N is the number of patterns the client is already subscribed and M is the number of \
                     total patterns subscribed in the system (by any client).",
        summary: "Ends listening to channels by patterns, or by all of them.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::pattern("pattern") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| unsubscribe(ctx, Kind::Pattern))
};

/// SSUBSCRIBE shardchannel [shardchannel …]
const SSUBSCRIBE: Command<Handler> = Command {
    name: "ssubscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: SUBSCRIBER_FLAGS,
    keys: &[KeySpec::range(1, -1, 1, &[Key::NotKey])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of shard channels to subscribe to.",
        summary: "Begins to listen to shard channels.",
        arguments: &[Arg { multiple: true, ..Arg::string("shardchannel") }],
        ..Docs::NONE
    },
    ..Command::runs(subscribe_to_shards)
};

/// SUNSUBSCRIBE [shardchannel …]
const SUNSUBSCRIBE: Command<Handler> = Command {
    name: "sunsubscribe",
    group: Group::Pubsub,
    arity: Arity::AtLeast(1),
    flags: SUBSCRIBER_FLAGS,
    keys: &[KeySpec::range(1, -1, 1, &[Key::NotKey])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of clients already subscribed to a shard channel.",
        summary: "Ends listening to shard channels, or to all of them.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("shardchannel") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| unsubscribe(ctx, Kind::Shard))
};

/// PUBLISH channel message
const PUBLISH: Command<Handler> = Command {
    name: "publish",
    group: Group::Pubsub,
    arity: Arity::Exactly(3),
    flags: PUBLISHER_FLAGS,
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total \
                     number of subscribed patterns (by any client).",
        summary: "Sends a message to all who listen to a channel.",
        arguments: &[Arg::string("channel"), Arg::string("message")],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| publish(ctx, Kind::Channel))
};

/// SPUBLISH shardchannel message
const SPUBLISH: Command<Handler> = Command {
    name: "spublish",
    group: Group::Pubsub,
    arity: Arity::Exactly(3),
    flags: PUBLISHER_FLAGS,
    keys: &[KeySpec::at(1, &[Key::NotKey])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        summary: "Sends a message to all who listen to a shard channel.",
        arguments: &[Arg::string("shardchannel"), Arg::string("message")],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| publish(ctx, Kind::Shard))
};

/// PUBSUB
const PUBSUB: Command<Handler> = Command {
    name: "pubsub",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        since: "2.8.0",
        complexity: "Depends on subcommand.",
        summary: "Tells who listens to what.",
        ..Docs::NONE
    },
    ..Command::parent(&[CHANNELS, HELP, NUMPAT, NUMSUB, SHARDCHANNELS, SHARDNUMSUB])
};

/// PUBSUB CHANNELS [pattern]
const CHANNELS: Command<Handler> = Command {
    name: "channels",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: PUBSUB_FLAGS,
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching \
                     (relatively short channels and patterns)",
        summary: "Lists the channels that anybody listens to.",
        arguments: &[Arg { optional: true, ..Arg::pattern("pattern") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| channels(ctx, Kind::Channel))
};

/// PUBSUB HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Pubsub,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    docs: &Docs { since: "6.2.0", complexity: "O(1)", summary: "Lists the subcommands.", ..Docs::NONE },
    ..Command::runs(help)
};

/// PUBSUB NUMPAT
const NUMPAT: Command<Handler> = Command {
    name: "numpat",
    group: Group::Pubsub,
    arity: Arity::Exactly(2),
    flags: PUBSUB_FLAGS,
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1)",
        summary: "Counts the patterns that anybody listens by.",
        ..Docs::NONE
    },
    ..Command::runs(numpat)
};

/// PUBSUB NUMSUB [channel …]
const NUMSUB: Command<Handler> = Command {
    name: "numsub",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: PUBSUB_FLAGS,
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        summary: "Counts who listens to channels.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("channel") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| numsub(ctx, Kind::Channel))
};

/// PUBSUB SHARDCHANNELS [pattern]
const SHARDCHANNELS: Command<Handler> = Command {
    name: "shardchannels",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: PUBSUB_FLAGS,
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern matching \
                     (relatively short shard channels).",
        summary: "Lists the shard channels that anybody listens to.",
        arguments: &[Arg { optional: true, ..Arg::pattern("pattern") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| channels(ctx, Kind::Shard))
};

/// PUBSUB SHARDNUMSUB [shardchannel …]
const SHARDNUMSUB: Command<Handler> = Command {
    name: "shardnumsub",
    group: Group::Pubsub,
    arity: Arity::AtLeast(2),
    flags: PUBSUB_FLAGS,
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        summary: "Counts who listens to shard channels.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("shardchannel") }],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| numsub(ctx, Kind::Shard))
};

const HELP_LINES: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
];

/// The connection of the session, if it may listen: a primary sends commands and reads no replies.
fn listener(ctx: &Ctx<'_>) -> Option<ConnId> {
    ctx.core.running.filter(|_| !ctx.session.is_primary())
}

fn confirm(ctx: &mut Ctx<'_>, id: ConnId, word: &str, about: (Kind, Option<&[u8]>)) {
    pubsub::confirm(ctx.core, ctx.session, id, &mut ctx.reply, word, about);
}

fn subscribe(ctx: &mut Ctx<'_>, kind: Kind) -> CmdResult {
    let Some(id) = listener(ctx) else { return Ok(()) };
    for name in ctx.argv.tail(1).iter() {
        pubsub::subscribe(ctx.store, ctx.core, ctx.session, id, kind, name);
        confirm(ctx, id, kind.joined(), (kind, Some(name)));
    }
    Ok(())
}

/// The other two are let through in a transaction, as they always were.
fn subscribe_to_shards(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.core.in_exec {
        return Err(CommandError::fixed("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe(ctx, Kind::Shard)
}

fn unsubscribe(ctx: &mut Ctx<'_>, kind: Kind) -> CmdResult {
    let Some(id) = listener(ctx) else { return Ok(()) };
    let end = |ctx: &mut Ctx<'_>, name: &[u8]| {
        pubsub::unsubscribe(ctx.store, ctx.core, ctx.session, id, kind, name);
        confirm(ctx, id, kind.left(), (kind, Some(name)));
    };
    if ctx.argv.len() > 1 {
        ctx.argv.tail(1).iter().for_each(|name| end(ctx, name));
        return Ok(());
    }
    let names = ctx.session.pubsub.as_ref().map_or_else(Vec::new, |subscriptions| subscriptions.names(kind));
    names.iter().for_each(|name| end(ctx, name));
    if names.is_empty() {
        confirm(ctx, id, kind.left(), (kind, None));
    }
    Ok(())
}

/// Replicas publish it to those who listen there.
fn publish(ctx: &mut Ctx<'_>, kind: Kind) -> CmdResult {
    let sent = pubsub::publish(ctx.core, kind, ctx.argv.at(1), ctx.argv.at(2));
    ctx.store.effects.propagate_anyway();
    ctx.reply.int(sent as i64);
    Ok(())
}

fn channels(ctx: &mut Ctx<'_>, kind: Kind) -> CmdResult {
    if ctx.argv.len() > 3 {
        return Err(CommandError::subcommand_syntax(ctx.argv));
    }
    let mark = ctx.reply.begin_deferred();
    let mut count = 0;
    for channel in ctx.core.pubsub.channels(kind, ctx.argv.get(2)) {
        ctx.reply.bulk(channel);
        count += 1;
    }
    ctx.reply.end_array(mark, count);
    Ok(())
}

fn numpat(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.core.pubsub.len(Kind::Pattern) as i64);
    Ok(())
}

fn numsub(ctx: &mut Ctx<'_>, kind: Kind) -> CmdResult {
    let names = ctx.argv.tail(2);
    ctx.reply.array(names.len() * 2);
    for name in names.iter() {
        ctx.reply.bulk(name);
        ctx.reply.int(ctx.core.pubsub.listeners(kind, name) as i64);
    }
    Ok(())
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP_LINES);
    Ok(())
}
