//! Taking entries out of streams: by age, by number, and one by one.
//!
//! `KEEPREF`, `DELREF` and `ACKED` came with Redis 8.2. Replicas of other makes do not know them, nor `XDELEX` and
//! `XACKDEL`: what they do is told to replicas as `XDEL`, `XTRIM` and `XACK`.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
    is_token,
};
use keyspace::stream::{Deletion, Keep, NewId, References, Removed, Trim};
use keyspace::{EncodingLimits, Stream, StreamId};
use resp::{Args, ArgsBuf};
use smallvec::SmallVec;

use crate::commands::stream_id::{parse_new, parse_strict};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::effects::Effects;
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[XACKDEL, XDEL, XDELEX, XTRIM];

pub(super) const TRIM_ARGUMENTS: [Arg; 4] = [
    Arg::one_of(
        "strategy",
        &[Arg::pure_token("maxlen", "MAXLEN"), Arg::pure_token("minid", "MINID").since("6.2.0")],
    ),
    Arg::one_of("operator", &[Arg::pure_token("equal", "="), Arg::pure_token("approximately", "~")])
        .optional(),
    Arg::string("threshold"),
    Arg::integer("count").token("LIMIT").since("6.2.0").optional(),
];

pub(super) const REFERENCE_ARGUMENTS: [Arg; 3] = [
    Arg::pure_token("keepref", "KEEPREF"),
    Arg::pure_token("delref", "DELREF"),
    Arg::pure_token("acked", "ACKED"),
];

const IDS_ARGUMENTS: [Arg; 2] = [Arg::integer("numids"), Arg::string("id").multiple()];

/// The options of `XADD` and `XTRIM`.
pub struct TrimArgs {
    /// Of `XADD`.
    pub id: Option<NewId>,
    /// Of `XADD`: do nothing if there is no stream.
    pub no_create: bool,
    /// Index of the ID, or the number of arguments.
    pub end: usize,
    keep: Option<Keep>,
    /// Index of the threshold.
    threshold_at: usize,
    approximate: bool,
    limit: u64,
    references: Option<References>,
    /// Index of the word that says what becomes of references.
    references_at: usize,
    obeys: bool,
}

/// What trimming did, as far as it must be told to others.
#[derive(Default)]
pub struct Trimmed {
    pub entries: u64,
    /// The threshold with which an exact trim does the same.
    threshold: Option<Keep>,
    /// `XACK` of references that were deleted: group and ID.
    acknowledged: Vec<(Box<[u8]>, StreamId)>,
    /// Entries that were picked out by `ACKED`.
    picked: Vec<StreamId>,
}

impl TrimArgs {
    /// Parses from argument 2 on. What comes from the primary (`obeys`) is done without a limit: it states what is left.
    pub fn parse(
        argv: Args<'_>,
        obeys: bool,
        limits: &EncodingLimits,
        adds: bool,
    ) -> Result<TrimArgs, CommandError> {
        let mut args = TrimArgs {
            id: None,
            no_create: false,
            end: argv.len(),
            keep: None,
            threshold_at: 0,
            approximate: false,
            limit: 0,
            references: None,
            references_at: 0,
            obeys,
        };
        let (mut limit, mut at) = (None, 2);
        while at < argv.len() {
            let (option, more) = (argv.at(at), argv.len() - 1 - at);
            if adds && option == b"*" {
                args.id = Some(NewId::Auto);
                args.end = at;
                break;
            } else if (is_token(option, "MAXLEN") || is_token(option, "MINID")) && more > 0 {
                at = args.threshold(argv, at, is_token(option, "MAXLEN"))?;
            } else if is_token(option, "LIMIT") && more > 0 {
                at += 1;
                let value = argv.int(at)?;
                let error = CommandError::fixed("ERR The LIMIT argument must be >= 0.");
                limit = Some(u64::try_from(value).map_err(|_| error)?);
            } else if adds && is_token(option, "NOMKSTREAM") {
                args.no_create = true;
            } else if let Some(references) = reference_word(option).filter(|_| args.references.is_none()) {
                args.references = Some(references);
                args.references_at = at;
            } else if adds {
                args.id = Some(parse_new(option)?);
                args.end = at;
                break;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        args.settle_limit(limit, limits, adds)?;
        Ok(args)
    }

    /// Reads `MAXLEN` or `MINID` at index `at`; the index of its last argument.
    fn threshold(&mut self, argv: Args<'_>, at: usize, by_length: bool) -> Result<usize, CommandError> {
        if self.keep.is_some() {
            return Err(CommandError::fixed(
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ));
        }
        let mut at = at + 1;
        let operator = argv.get(at).filter(|_| at + 1 < argv.len());
        self.approximate = operator == Some(b"~");
        if self.approximate || operator == Some(b"=") {
            at += 1;
        }
        self.keep = Some(if by_length {
            let length = argv.int(at)?;
            let error = CommandError::fixed("ERR The MAXLEN argument must be >= 0.");
            Keep::Length(u64::try_from(length).map_err(|_| error)?)
        } else {
            Keep::From(parse_strict(argv.at(at), 0)?)
        });
        self.threshold_at = at;
        Ok(at)
    }

    fn settle_limit(
        &mut self,
        limit: Option<u64>,
        limits: &EncodingLimits,
        adds: bool,
    ) -> Result<(), CommandError> {
        if limit.is_some_and(|limit| limit > 0) && self.keep.is_none() {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ));
        }
        if !adds && self.keep.is_none() {
            return Err(CommandError::fixed(
                "ERR syntax error, XTRIM must be called with a trimming strategy",
            ));
        }
        self.limit = match limit {
            _ if self.obeys => 0,
            Some(_) if !self.approximate => {
                return Err(CommandError::fixed(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            Some(limit) => limit,
            None if !self.approximate => 0,
            None => match (limits.stream_node_entries as u64).saturating_mul(100) {
                0 => 10_000,
                limit => limit.min(1_000_000),
            },
        };
        Ok(())
    }

    /// Trims as the options say.
    pub fn trim(&self, stream: &mut Stream) -> Trimmed {
        let Some(keep) = self.keep else { return Trimmed::default() };
        let references = self.references.unwrap_or_default();
        let trim = Trim { keep, approximate: self.approximate, limit: self.limit, references };
        let mut trimmed = Trimmed::default();
        let (acknowledged, picked) = (&mut trimmed.acknowledged, &mut trimmed.picked);
        trimmed.entries = stream.trim(&trim, &mut |removed| match removed {
            Removed::Reference { group, id } => acknowledged.push((group.into(), id)),
            Removed::Entry(id) if references == References::Respect => picked.push(id),
            Removed::Entry(_) => {}
        });
        if let Some(last) = trimmed.picked.last().filter(|_| !self.obeys) {
            // To others these are deletions: what one knows of gaps must be the same everywhere.
            stream.max_deleted_id = stream.max_deleted_id.max(*last);
        }
        if self.approximate {
            trimmed.threshold = Some(match keep {
                Keep::Length(_) => Keep::Length(stream.len()),
                Keep::From(_) => Keep::From(stream.edge_id()),
            });
        }
        trimmed
    }

    /// Whether the command as received does not do the same everywhere.
    pub fn needs_rewrite(&self) -> bool {
        self.approximate || self.references.is_some()
    }

    /// Propagates the command with what it came to, `id` being that of the new entry.
    pub fn propagate(&self, argv: Args<'_>, id: Option<StreamId>, trimmed: &Trimmed, effects: &mut Effects) {
        let text = id.map(StreamId::text);
        let mut digits = itoa::Buffer::new();
        let edge;
        let threshold: Option<&[u8]> = match trimmed.threshold {
            None => None,
            Some(Keep::Length(length)) => Some(digits.format(length).as_bytes()),
            Some(Keep::From(id)) => {
                edge = id.text();
                Some(&edge)
            }
        };
        // What `ACKED` has picked out cannot be said by a threshold.
        let leave_trim = self.references == Some(References::Respect) && self.keep.is_some();
        let mut args: SmallVec<[&[u8]; 16]> = SmallVec::new();
        let mut at = 0;
        while let Some(arg) = argv.get(at) {
            let in_options = (2..self.end).contains(&at);
            if in_options && leave_trim {
                // Of the options nothing but `NOMKSTREAM` is left, and that has done its work.
            } else if in_options && self.references.is_some() && at == self.references_at {
            } else if threshold.is_some() && at == self.threshold_at {
                args.extend(threshold);
            } else if threshold.is_some() && at + 1 == self.threshold_at {
                args.push(b"=");
            } else if at == self.end
                && let Some(text) = &text
            {
                args.push(text);
            } else {
                args.push(arg);
            }
            at += 1;
        }
        effects.propagate_nothing();
        if id.is_some() || !leave_trim {
            effects.propagate(&args);
        }
        let key = argv.at(1);
        propagate_deleted(effects, key, &trimmed.picked);
        propagate_acknowledged(effects, key, &trimmed.acknowledged);
    }
}

fn reference_word(word: &[u8]) -> Option<References> {
    if is_token(word, "KEEPREF") {
        Some(References::Keep)
    } else if is_token(word, "DELREF") {
        Some(References::Delete)
    } else if is_token(word, "ACKED") {
        Some(References::Respect)
    } else {
        None
    }
}

/// Tells of deleted entries as `XDEL`.
fn propagate_deleted(effects: &mut Effects, key: &[u8], ids: &[StreamId]) {
    if ids.is_empty() || !effects.recording {
        return;
    }
    let mut args: ArgsBuf = [b"XDEL", key].iter().collect();
    ids.iter().for_each(|id| args.push(&id.text()));
    let args: Vec<&[u8]> = args.as_args().iter().collect();
    effects.propagate_as(&args);
}

/// Tells of deleted references as `XACK`.
fn propagate_acknowledged(effects: &mut Effects, key: &[u8], references: &[(Box<[u8]>, StreamId)]) {
    for (group, id) in references {
        effects.propagate_as(&[b"XACK", key, group, &id.text()]);
    }
}

/// XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count] [KEEPREF|DELREF|ACKED]
const XTRIM: Command<Handler> = Command {
    name: "xtrim",
    group: Group::Stream,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(N), with N being the number of evicted entries. Constant times are very small however, since \
                     entries are organized in macro nodes containing multiple entries that can be released with a \
                     single deallocation.",
        summary: "Deletes the oldest entries of a stream.",
        history: &[
            ("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option."),
            ("8.2.0", "Added the `KEEPREF`, `DELREF` and `ACKED` options."),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::block("trim", &TRIM_ARGUMENTS),
            Arg::one_of("condition", &REFERENCE_ARGUMENTS).since("8.2.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xtrim)
};

fn xtrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = TrimArgs::parse(ctx.argv, ctx.session.is_primary(), &ctx.store.limits, false)?;
    let key = ctx.key(1);
    let Some(stream) = ctx.store.write_stream(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let trimmed = args.trim(stream);
    if trimmed.entries > 0 {
        ctx.store.notify(Event::STREAM, "xtrim", key.bytes);
        if args.needs_rewrite() {
            args.propagate(ctx.argv, None, &trimmed, &mut ctx.store.effects);
        }
        ctx.store.modified_times(key.bytes, trimmed.entries as usize);
    }
    ctx.reply.int(trimmed.entries as i64);
    Ok(())
}

/// XDEL key id [id ...]
const XDEL: Command<Handler> = Command {
    name: "xdel",
    group: Group::Stream,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: "Deletes entries of a stream by their IDs.",
        arguments: &[Arg::key("key", 0), Arg::string("ID").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(xdel)
};

fn xdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let ids = ctx.argv.tail(2);
    // Without a stream, the IDs are not looked at.
    if ctx.store.read_stream(key).map_err(wrong_type)?.is_none() {
        ctx.reply.int(0);
        return Ok(());
    }
    let ids = parse_ids(ids)?;
    let deleted = ctx.store.edit_stream(key, |stream, _| stream.delete(ids.iter().copied(), |_| {}));
    if deleted > 0 {
        ctx.store.modified_times(key.bytes, deleted as usize);
        ctx.store.notify(Event::STREAM, "xdel", key.bytes);
    }
    ctx.reply.int(deleted as i64);
    Ok(())
}

/// IDs, all of which must be good.
pub(super) fn parse_ids(ids: Args<'_>) -> Result<SmallVec<[StreamId; 8]>, CommandError> {
    ids.iter().map(|id| parse_strict(id, 0)).collect()
}

/// XDELEX key [KEEPREF|DELREF|ACKED] IDS numids id [id ...]
const XDELEX: Command<Handler> = Command {
    name: "xdelex",
    group: Group::Stream,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "8.2.0",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: "Deletes entries of a stream with regard to the groups that refer to them.",
        arguments: &[
            Arg::key("key", 0),
            Arg::one_of("condition", &REFERENCE_ARGUMENTS).optional(),
            Arg::block("ids", &IDS_ARGUMENTS).token("IDS"),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xdelex)
};

/// What `XDELEX` and `XACKDEL` reply of an ID.
const REPLY_ABSENT: i64 = -1;
const REPLY_DONE: i64 = 1;
const REPLY_REFERENCED: i64 = 2;

fn xdelex(ctx: &mut Ctx<'_>) -> CmdResult {
    let (references, ids) = parse_reference_ids(ctx.argv, 2)?;
    let key = ctx.key(1);
    if ctx.store.read_stream(key).map_err(wrong_type)?.is_none() {
        reply_absent(ctx, ids.len());
        return Ok(());
    }
    let ids = parse_ids(ids)?;
    ctx.reply.array(ids.len());
    let reply = &mut ctx.reply;
    let (mut deleted, mut forgotten) = (Vec::new(), Vec::new());
    ctx.store.edit_stream(key, |stream, _| {
        for id in &ids {
            let mut forget = |removed: Removed<'_>| {
                if let Removed::Reference { group, id } = removed {
                    forgotten.push((Box::from(group), id));
                }
            };
            reply.int(match stream.delete_with(*id, references, &mut forget) {
                Deletion::Done => {
                    deleted.push(*id);
                    REPLY_DONE
                }
                Deletion::Absent => REPLY_ABSENT,
                Deletion::Referenced => REPLY_REFERENCED,
            });
        }
    });
    tell_deleted(ctx, &deleted, &forgotten, 0);
    Ok(())
}

/// XACKDEL key group [KEEPREF|DELREF|ACKED] IDS numids id [id ...]
const XACKDEL: Command<Handler> = Command {
    name: "xackdel",
    group: Group::Stream,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update, Key::Delete])],
    docs: &Docs {
        since: "8.2.0",
        complexity: "O(1) for each message ID processed.",
        summary: "Acknowledges entries for a group and deletes them with regard to the other groups.",
        arguments: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::one_of("condition", &REFERENCE_ARGUMENTS).optional(),
            Arg::block("ids", &IDS_ARGUMENTS).token("IDS"),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xackdel)
};

fn xackdel(ctx: &mut Ctx<'_>) -> CmdResult {
    let (references, ids) = parse_reference_ids(ctx.argv, 3)?;
    let (key, group) = (ctx.key(1), ctx.argv.at(2));
    let found = ctx.store.read_stream(key).map_err(wrong_type)?;
    if found.and_then(|stream| stream.group(group)).is_none() {
        reply_absent(ctx, ids.len());
        return Ok(());
    }
    let ids = parse_ids(ids)?;
    ctx.reply.array(ids.len());
    let reply = &mut ctx.reply;
    let (mut deleted, mut forgotten) = (Vec::new(), Vec::new());
    let acknowledged = ctx.store.edit_stream(key, |stream, _| {
        let mut acknowledged = 0;
        for id in &ids {
            if !stream.group_mut(group).expect("the group was just found").acknowledge(*id) {
                reply.int(REPLY_ABSENT);
                continue;
            }
            acknowledged += 1;
            forgotten.push((Box::from(group), *id));
            let mut forget = |removed: Removed<'_>| {
                if let Removed::Reference { group, id } = removed {
                    forgotten.push((Box::from(group), id));
                }
            };
            reply.int(match stream.delete_with(*id, references, &mut forget) {
                Deletion::Done => {
                    deleted.push(*id);
                    REPLY_DONE
                }
                Deletion::Absent => REPLY_DONE,
                Deletion::Referenced => REPLY_REFERENCED,
            });
        }
        acknowledged
    });
    tell_deleted(ctx, &deleted, &forgotten, acknowledged);
    Ok(())
}

/// Counts and tells what `XDELEX` or `XACKDEL` did, of which `acknowledged` references were asked for.
fn tell_deleted(
    ctx: &mut Ctx<'_>,
    deleted: &[StreamId],
    forgotten: &[(Box<[u8]>, StreamId)],
    acknowledged: usize,
) {
    let key = ctx.argv.at(1);
    let effects = &mut ctx.store.effects;
    propagate_acknowledged(effects, key, forgotten);
    propagate_deleted(effects, key, deleted);
    effects.dirty += acknowledged as u64;
    if deleted.is_empty() {
        effects.dirty += u64::from(forgotten.len() > acknowledged);
    } else {
        ctx.store.modified_times(key, deleted.len());
        ctx.store.notify(Event::STREAM, "xdel", key);
    }
}

/// `[KEEPREF|DELREF|ACKED]` and `IDS numids id …`, in any order, from argument `at` on.
fn parse_reference_ids(argv: Args<'_>, at: usize) -> Result<(References, Args<'_>), CommandError> {
    let (mut references, mut ids, mut at) = (None, None, at);
    while let Some(option) = argv.get(at) {
        at += 1;
        if let Some(word) = reference_word(option).filter(|_| references.is_none()) {
            references = Some(word);
        } else if is_token(option, "IDS") && at < argv.len() {
            let error = CommandError::fixed("ERR Number of IDs must be a positive integer");
            let count = argv.int_within_or(at, 1..=i64::from(i32::MAX), error)? as usize;
            let listed = argv.tail(at + 1).head(count);
            if listed.len() != count {
                return Err(CommandError::fixed(
                    "ERR The `numids` parameter must match the number of arguments",
                ));
            }
            at += 1 + count;
            ids = Some(listed);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((references.unwrap_or_default(), ids.ok_or(CommandError::Syntax)?))
}

fn reply_absent(ctx: &mut Ctx<'_>, count: usize) {
    ctx.reply.array(count);
    (0..count).for_each(|_| ctx.reply.int(REPLY_ABSENT));
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn trimming_is_told_as_it_came_out() {
        let mut h = Harness::new();
        h.run("CONFIG SET stream-node-max-entries 2");
        h.run("XADD s 1-1 a 1");
        assert_eq!(h.propagated(), ["SELECT 0", "XADD s 1-1 a 1"]);
        h.run("XADD s * a 1");
        h.run("XADD s 1700000000000-* a 1");
        h.run("XADD s MAXLEN ~ 2 LIMIT 5 * a 1");
        h.run("xadd s minid ~ 1700000000000-1 * a 1");
        h.run("XADD s MAXLEN = 1 1700000000009 a 1");
        assert_eq!(
            h.propagated(),
            [
                "XADD s 1700000000000-0 a 1",
                "XADD s 1700000000000-1 a 1",
                "XADD s MAXLEN = 2 LIMIT 5 1700000000000-2 a 1",
                "xadd s minid = 1700000000000-1 1700000000000-3 a 1",
                "XADD s MAXLEN = 1 1700000000009 a 1",
            ]
        );
        h.run("XTRIM s MAXLEN ~ 1");
        assert_eq!(h.propagated(), Vec::<String>::new());
        (0..5).for_each(|_| drop(h.run("XADD s * a 1")));
        h.propagated();
        assert_eq!(h.run("XTRIM s MAXLEN ~ 1"), r":5\r\n");
        assert_eq!(h.propagated(), ["XTRIM s MAXLEN = 1"]);
    }

    #[test]
    fn what_8_2_brought_is_told_in_words_of_7_0() {
        let mut h = Harness::new();
        for seq in 1..=8 {
            h.run(&format!("XADD s 0-{seq} a 1"));
        }
        for line in ["XGROUP CREATE s g 0", "XGROUP CREATE s h 0", "XREADGROUP GROUP g c COUNT 6 STREAMS s >"]
        {
            h.run(line);
        }
        h.run("XREADGROUP GROUP h c COUNT 6 STREAMS s >");
        h.run("XACK s g 0-2");
        h.run("XACK s h 0-2");
        h.propagated();
        // Of the first six only one is acknowledged by both.
        assert_eq!(h.run("XTRIM s MAXLEN = 1 ACKED"), r":1\r\n");
        assert_eq!(h.propagated(), ["XDEL s 0-2"]);
        assert_eq!(h.run("XTRIM s MINID 0-3 DELREF"), r":1\r\n");
        assert_eq!(h.propagated(), ["MULTI", "XTRIM s MINID 0-3", "XACK s g 0-1", "XACK s h 0-1", "EXEC"]);
        assert_eq!(h.run("XDELEX s ACKED IDS 2 0-3 0-9"), r"*2\r\n:2\r\n:2\r\n");
        assert_eq!(h.run("XACKDEL s g ACKED IDS 2 0-3 0-8"), r"*2\r\n:2\r\n:-1\r\n");
        assert_eq!(h.propagated(), ["XACK s g 0-3"]);
        assert_eq!(h.run("XACKDEL s h ACKED IDS 1 0-3"), r"*1\r\n:1\r\n");
        assert_eq!(h.propagated(), ["MULTI", "XACK s h 0-3", "XDEL s 0-3", "EXEC"]);
        assert_eq!(h.run("XDELEX s DELREF IDS 2 0-4 0-4"), r"*2\r\n:1\r\n:-1\r\n");
        assert_eq!(h.propagated(), ["MULTI", "XACK s g 0-4", "XACK s h 0-4", "XDEL s 0-4", "EXEC"]);
        assert_eq!(h.run("XADD s MAXLEN 3 DELREF 1-* a 1"), r"$3\r\n1-0\r\n");
        assert_eq!(
            h.propagated(),
            [
                "MULTI",
                "XADD s MAXLEN 3 1-0 a 1",
                "XACK s g 0-5",
                "XACK s h 0-5",
                "XACK s g 0-6",
                "XACK s h 0-6",
                "EXEC"
            ]
        );
        assert_eq!(h.run("XPENDING s g"), r"*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
        for line in ["XDELEX s IDS 2 0-1", "XDELEX s KEEPREF 0-1 0-2", "XDELEX s KEEPREF ACKED IDS 1 1"] {
            assert!(h.run(line).starts_with("-ERR"), "{line}");
        }
    }
}
