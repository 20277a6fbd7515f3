//! Streams as a list of entries: appending, ranges, lengths. What trims and deletes is in [`super::stream_trim`], what
//! waits for entries in [`super::stream_read`], groups are in [`super::stream_group`] and [`super::stream_claim`].

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::stream::{AddError, NewId};
use keyspace::{Object, Stream, StreamId};

use crate::commands::stream_id::{parse_end, parse_start, parse_strict, reply_id, reply_range};
use crate::commands::stream_trim::{REFERENCE_ARGUMENTS, TRIM_ARGUMENTS, TrimArgs};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[XADD, XLEN, XRANGE, XREVRANGE, XSETID];

/// XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|ms-*|id field value
/// [field value ...]
const XADD: Command<Handler> = Command {
    name: "xadd",
    group: Group::Stream,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])
        .notes("UPDATE instead of INSERT because of the optional trimming feature")],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        summary: "Appends an entry to a stream, which is created if it does not exist.",
        history: &[
            ("6.2.0", "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option."),
            ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
            ("8.2.0", "Added the `KEEPREF`, `DELREF` and `ACKED` options."),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::pure_token("nomkstream", "NOMKSTREAM").since("6.2.0").optional(),
            Arg::one_of("condition", &REFERENCE_ARGUMENTS).since("8.2.0").optional(),
            Arg::block("trim", &TRIM_ARGUMENTS).optional(),
            Arg::one_of("id_or_auto", &[Arg::pure_token("auto_id", "*"), Arg::string("ID")]),
            Arg::block("field_value", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xadd)
};

fn xadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = TrimArgs::parse(ctx.argv, ctx.session.is_primary(), &ctx.store.limits, true)?;
    let values = ctx.argv.tail(args.end + 1);
    if values.is_empty() || !values.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("xadd".into()));
    }
    let new_id = args.id.expect("the options end at an ID or at the end");
    if new_id == NewId::Exact(StreamId::MIN) {
        return Err(CommandError::fixed("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let key = ctx.key(1);
    let (now_ms, limits) = (ctx.store.now_ms, ctx.store.limits.clone());
    let add = |stream: &mut Stream| {
        if stream.last_id == StreamId::MAX {
            return Err(CommandError::fixed(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = stream.next_id(new_id, now_ms).ok_or(NOT_ABOVE)?;
        stream.add(id, values.iter(), &limits).map_err(|error| match error {
            AddError::NotAbove => NOT_ABOVE,
            AddError::TooLarge => CommandError::fixed("ERR Elements are too large to be stored"),
        })?;
        Ok(id)
    };
    let (id, trimmed) = match ctx.store.write_stream(key).map_err(wrong_type)? {
        Some(stream) => (add(stream)?, args.trim(stream)),
        None if args.no_create => {
            ctx.reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Box::new(Stream::new());
            let id = add(&mut stream)?;
            let trimmed = args.trim(&mut stream);
            ctx.store.add(key, Object::Stream(stream));
            (id, trimmed)
        }
    };
    reply_id(&mut ctx.reply, id);
    ctx.store.modified(key.bytes);
    ctx.store.signal_ready(key.bytes);
    ctx.store.notify(Event::STREAM, "xadd", key.bytes);
    if trimmed.entries > 0 {
        ctx.store.notify(Event::STREAM, "xtrim", key.bytes);
    }
    let is_exact = matches!(new_id, NewId::Exact(_)) && !args.needs_rewrite();
    if ctx.store.effects.recording && !is_exact {
        args.propagate(ctx.argv, Some(id), &trimmed, &mut ctx.store.effects);
    }
    Ok(())
}

const NOT_ABOVE: CommandError =
    CommandError::fixed("ERR The ID specified in XADD is equal or smaller than the target stream top item");

/// XLEN key
const XLEN: Command<Handler> = Command {
    name: "xlen",
    group: Group::Stream,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1)",
        summary: "Counts the entries of a stream.",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(xlen)
};

fn xlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.store.read_stream(ctx.key(1)).map_err(wrong_type)?.map_or(0, Stream::len);
    ctx.reply.int(count as i64);
    Ok(())
}

/// XRANGE key start end [COUNT count]
const XRANGE: Command<Handler> = Command {
    name: "xrange",
    group: Group::Stream,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking \
                     for the first 10 elements with COUNT), you can consider it O(1).",
        summary: "Returns the entries of a stream between two IDs.",
        history: &[("6.2.0", "Added exclusive ranges.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("start"),
            Arg::string("end"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xrange)
};

fn xrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, false)
}

/// XREVRANGE key end start [COUNT count]
const XREVRANGE: Command<Handler> = Command {
    name: "xrevrange",
    group: Group::Stream,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the \
                     first 10 elements with COUNT), you can consider it O(1).",
        summary: "Returns the entries of a stream between two IDs, the last one first.",
        history: &[("6.2.0", "Added exclusive ranges.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("end"),
            Arg::string("start"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xrevrange)
};

fn xrevrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, true)
}

fn range(ctx: &mut Ctx<'_>, backward: bool) -> CmdResult {
    let (start_at, end_at) = if backward { (3, 2) } else { (2, 3) };
    let (start, end) = (parse_start(ctx.argv.at(start_at))?, parse_end(ctx.argv.at(end_at))?);
    let mut limit = usize::MAX;
    let mut options = Options::new(ctx.argv, 4);
    while let Some(option) = options.next() {
        if !is_token(option, "COUNT") || options.rest().is_empty() {
            return Err(CommandError::Syntax);
        }
        limit = usize::try_from(options.int()?).unwrap_or(0);
    }
    match ctx.store.read_stream(ctx.key(1)).map_err(wrong_type)? {
        None => ctx.reply.array(0),
        Some(_) if limit == 0 => ctx.reply.null_array(),
        Some(stream) => reply_range(&mut ctx.reply, stream, start, end, limit, backward),
    }
    Ok(())
}

/// XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]
const XSETID: Command<Handler> = Command {
    name: "xsetid",
    group: Group::Stream,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1)",
        summary: "Sets the last ID of a stream, and its counters. For replication.",
        history: &[("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("last-id"),
            Arg::integer("entries_added").token("ENTRIESADDED").since("7.0.0").optional(),
            Arg::string("max_deleted_entry_id").token("MAXDELETEDID").since("7.0.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xsetid)
};

fn xsetid(ctx: &mut Ctx<'_>) -> CmdResult {
    let id = parse_strict(ctx.argv.at(2), 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::MIN);
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        let has_value = !options.rest().is_empty();
        if is_token(option, "ENTRIESADDED") && has_value {
            let added = options.int()?;
            let error = CommandError::fixed("ERR entries_added must be positive");
            entries_added = Some(u64::try_from(added).map_err(|_| error)?);
        } else if is_token(option, "MAXDELETEDID") && has_value {
            max_deleted_id = parse_strict(options.value()?, 0)?;
            if id < max_deleted_id {
                return Err(CommandError::fixed(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let key = ctx.key(1);
    let stream = ctx.store.write_stream(key).map_err(wrong_type)?.ok_or(CommandError::NoSuchKey)?;
    if !stream.is_empty() {
        if id < stream.last_entry_id() {
            return Err(CommandError::fixed(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if entries_added.is_some_and(|added| stream.len() > added) {
            return Err(CommandError::fixed(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    stream.last_id = id;
    if let Some(added) = entries_added {
        stream.entries_added = added;
    }
    if !max_deleted_id.is_zero() {
        stream.max_deleted_id = max_deleted_id;
    }
    ctx.reply.ok();
    ctx.store.effects.dirty += 1;
    ctx.store.notify(Event::STREAM, "xsetid", key.bytes);
    Ok(())
}
