//! What was delivered to a group and not acknowledged: `XACK`, `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.
//!
//! A claim is told to replicas entry by entry, as an `XCLAIM` that leaves nothing open: owner, time, count, and how far
//! the group has read. One for an entry that is no longer in the stream makes the replica forget that it was pending.

use std::ops::Bound;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::StreamId;
use keyspace::stream::group::Group as StreamGroup;
use keyspace::stream::{ConsumerId, Entries, Pending};
use resp::{Output, Reply};
use smallvec::SmallVec;

use crate::commands::stream_id::{no_group, parse_end, parse_start, parse_strict, reply_id, reply_next};
use crate::commands::stream_read::propagate_group_id;
use crate::commands::stream_trim::parse_ids;
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::effects::Effects;
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[XACK, XAUTOCLAIM, XCLAIM, XPENDING];

/// XACK key group id [id ...]
const XACK: Command<Handler> = Command {
    name: "xack",
    group: Group::Stream,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1) for each message ID processed.",
        summary: "Acknowledges entries: they are no longer pending in the group.",
        arguments: &[Arg::key("key", 0), Arg::string("group"), Arg::string("ID").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(xack)
};

fn xack(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, name) = (ctx.key(1), ctx.argv.at(2));
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?;
    if stream.and_then(|stream| stream.group(name)).is_none() {
        ctx.reply.int(0);
        return Ok(());
    }
    let ids = parse_ids(ctx.argv.tail(3))?;
    let acknowledged = ctx.store.edit_stream(key, |stream, effects| {
        let group = stream.group_mut(name).expect("the group was just found");
        let acknowledged = ids.iter().filter(|id| group.acknowledge(**id)).count();
        effects.dirty += acknowledged as u64;
        acknowledged
    });
    ctx.reply.int(acknowledged as i64);
    Ok(())
}

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]]
const XPENDING: Command<Handler> = Command {
    name: "xpending",
    group: Group::Stream,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(N) with N being the number of elements returned, so asking for a small fixed number of entries \
                     per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE \
                     filter. When the command returns just the summary and the list of consumers is small, it runs in \
                     O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
        summary: "Tells what a group was given and has not acknowledged.",
        history: &[("6.2.0", "Added the `IDLE` option and exclusive range intervals.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::block(
                "filters",
                &[
                    Arg::integer("min-idle-time").token("IDLE").since("6.2.0").optional(),
                    Arg::string("start"),
                    Arg::string("end"),
                    Arg::integer("count"),
                    Arg::string("consumer").optional(),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xpending)
};

/// Which pending entries are asked for.
struct PendingRange<'a> {
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> PendingRange<'a> {
    fn parse(argv: resp::Args<'a>) -> Result<Option<PendingRange<'a>>, CommandError> {
        if argv.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&argv.len()) {
            return Err(CommandError::Syntax);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if argv.is(3, "IDLE") {
            min_idle_ms = argv.int(4)?;
            if argv.len() < 8 {
                return Err(CommandError::Syntax);
            }
            at = 5;
        }
        let count = usize::try_from(argv.int(at + 2)?).unwrap_or(0);
        let (start, end) = (parse_start(argv.at(at))?, parse_end(argv.at(at + 1))?);
        Ok(Some(PendingRange { min_idle_ms, start, end, count, consumer: argv.get(at + 3) }))
    }
}

fn xpending(ctx: &mut Ctx<'_>) -> CmdResult {
    let range = PendingRange::parse(ctx.argv)?;
    let (key, name, now_ms) = (ctx.key(1), ctx.argv.at(2), ctx.store.now_ms);
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?;
    let group = stream.and_then(|stream| stream.group(name)).ok_or_else(|| no_group(key.bytes, name, ""))?;
    match range {
        None => reply_pending_summary(&mut ctx.reply, group),
        Some(range) => reply_pending(&mut ctx.reply, group, &range, now_ms),
    }
    Ok(())
}

fn reply_pending_summary(reply: &mut Reply<'_>, group: &StreamGroup) {
    reply.array(4);
    reply.int(group.pending().len() as i64);
    let (Some(first), Some(last)) = (group.pending().first_key(), group.pending().last_key()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let owners = || group.consumers().filter(|consumer| !consumer.pending().is_empty());
    reply.array(owners().count());
    for consumer in owners() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending().len() as i64);
    }
}

fn reply_pending(reply: &mut Reply<'_>, group: &StreamGroup, range: &PendingRange<'_>, now_ms: i64) {
    let owner = match range.consumer.map(|name| group.find(name)) {
        Some(None) => return reply.array(0),
        Some(owner) => owner,
        None => None,
    };
    let mark = reply.begin_deferred();
    let mut count = 0;
    let mut give = |id: StreamId, pending: &Pending| {
        let idle_ms = now_ms.wrapping_sub(pending.delivered_ms);
        if count == range.count || (range.min_idle_ms != 0 && idle_ms < range.min_idle_ms) {
            return count < range.count;
        }
        count += 1;
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.consumer(pending.owner).name());
        reply.int(idle_ms.max(0));
        reply.int(pending.deliveries as i64);
        count < range.count
    };
    let bounds = (Bound::Included(range.start), Bound::Included(range.end));
    if range.start <= range.end && range.count > 0 {
        match owner {
            None => drop(group.pending().range(bounds).all(|(id, pending)| give(id, pending))),
            Some(owner) => {
                let ids = &mut group.consumer(owner).pending().range(bounds);
                ids.all(|(id, ())| {
                    give(id, group.pending().get(id).expect("what a consumer has pending, its group has"))
                });
            }
        }
    }
    reply.end_array(mark, count);
}

/// XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count]
/// [FORCE] [JUSTID] [LASTID id]
const XCLAIM: Command<Handler> = Command {
    name: "xclaim",
    group: Group::Stream,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
        summary: "Makes a consumer the owner of entries that were delivered to another.",
        arguments: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("ID").multiple(),
            Arg::integer("ms").token("IDLE").optional(),
            Arg::unix_time("unix-time-milliseconds").token("TIME").optional(),
            Arg::integer("count").token("RETRYCOUNT").optional(),
            Arg::pure_token("force", "FORCE").optional(),
            Arg::pure_token("justid", "JUSTID").optional(),
            Arg::string("id").token("LASTID").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xclaim)
};

/// Who claims, and how.
struct Claim<'a> {
    key: &'a [u8],
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle_ms: i64,
    just_id: bool,
    now_ms: i64,
    /// When the entry is to have been delivered.
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
}

struct ClaimOptions {
    last_id: StreamId,
    delivered_ms: Option<i64>,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
}

impl ClaimOptions {
    fn parse(mut options: Options<'_>, now_ms: i64) -> Result<ClaimOptions, CommandError> {
        let mut parsed = ClaimOptions {
            last_id: StreamId::MIN,
            delivered_ms: None,
            deliveries: None,
            force: false,
            just_id: false,
        };
        let invalid =
            |what: &str| CommandError::text(format!("ERR Invalid {what} option argument for XCLAIM"));
        while let Some(option) = options.next() {
            let has_value = !options.rest().is_empty();
            if is_token(option, "FORCE") {
                parsed.force = true;
            } else if is_token(option, "JUSTID") {
                parsed.just_id = true;
            } else if is_token(option, "IDLE") && has_value {
                let idle = options.int().map_err(|_| invalid("IDLE"))?;
                parsed.delivered_ms = Some(now_ms.wrapping_sub(idle));
            } else if is_token(option, "TIME") && has_value {
                parsed.delivered_ms = Some(options.int().map_err(|_| invalid("TIME"))?);
            } else if is_token(option, "RETRYCOUNT") && has_value {
                let count = options.int().map_err(|_| invalid("RETRYCOUNT"))?;
                parsed.deliveries = u64::try_from(count).ok();
            } else if is_token(option, "LASTID") && has_value {
                parsed.last_id = parse_strict(options.value()?, 0)?;
            } else {
                return Err(CommandError::quoting("ERR Unrecognized XCLAIM option '{}'", &[option]));
            }
        }
        Ok(parsed)
    }
}

fn xclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (argv, key, now_ms) = (ctx.argv, ctx.key(1), ctx.store.now_ms);
    let name = argv.at(2);
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?;
    if stream.and_then(|stream| stream.group(name)).is_none() {
        return Err(no_group(key.bytes, name, ""));
    }
    let invalid = CommandError::fixed("ERR Invalid min-idle-time argument for XCLAIM");
    let min_idle_ms = argv.int(4).map_err(|_| invalid)?.max(0);
    let ids: SmallVec<[StreamId; 8]> = argv.tail(5).iter().map_while(|id| parse_strict(id, 0).ok()).collect();
    let options = ClaimOptions::parse(Options::new(argv, 5 + ids.len()), now_ms)?;
    let sane = |delivered_ms: &i64| (0..=now_ms).contains(delivered_ms);
    let claim = Claim {
        key: key.bytes,
        group: name,
        consumer: argv.at(3),
        min_idle_ms,
        just_id: options.just_id,
        now_ms,
        delivered_ms: options.delivered_ms.filter(sane).unwrap_or(now_ms),
        deliveries: options.deliveries,
        force: options.force,
    };
    ctx.store.effects.propagate_nothing();
    let mark = ctx.reply.begin_deferred();
    let reply = &mut ctx.reply;
    let (count, created) = ctx.store.edit_stream(key, |stream, effects| {
        let (entries, group) = stream.split_group(name).expect("the group was just found");
        let mut tells_last_id = options.last_id > group.last_id;
        if tells_last_id {
            group.last_id = options.last_id;
        }
        let (mut consumer, mut created, mut count) = (None, false, 0);
        for (id, text) in ids.iter().zip(argv.tail(5).iter()) {
            match claim.one(*id, text, &entries, group, &mut consumer, effects, reply) {
                Outcome::Left => continue,
                Outcome::Cleared => {}
                Outcome::Claimed { made } => {
                    created |= made;
                    count += 1;
                }
            }
            tells_last_id = false;
        }
        if tells_last_id {
            propagate_group_id(effects, key.bytes, name, group);
            effects.dirty += 1;
        }
        effects.dirty += u64::from(created);
        (count, created)
    });
    ctx.reply.end_array(mark, count);
    if created {
        ctx.store.notify(Event::STREAM, "xgroup-createconsumer", key.bytes);
    }
    Ok(())
}

/// What became of an entry that was to be claimed.
enum Outcome {
    /// It is not pending, or not for long enough.
    Left,
    /// It is no longer in the stream, nor pending.
    Cleared,
    /// `made`: the consumer was made for it.
    Claimed { made: bool },
}

impl Claim<'_> {
    /// Claims an entry and replies it. `text` is its ID as it is to be propagated.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one stream, and the three places it is told to"
    )]
    fn one(
        &self,
        id: StreamId,
        text: &[u8],
        entries: &Entries<'_>,
        group: &mut StreamGroup,
        consumer: &mut Option<ConsumerId>,
        effects: &mut Effects,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let before = group.pending().get(id).copied();
        let mut cursor = entries.range(id, id);
        // The cursor is used for the reply, if the entry is there.
        if cursor.clone().next().is_none() {
            let Some(before) = before else { return Outcome::Left };
            let owner = group.consumer(before.owner).name();
            propagate_claim(effects, self.key, self.group, owner, text, &before, group.last_id);
            effects.dirty += 1;
            group.acknowledge(id);
            return Outcome::Cleared;
        }
        match before {
            None if !self.force => return Outcome::Left,
            Some(before) if self.min_idle_ms > 0 && self.now_ms - before.delivered_ms < self.min_idle_ms => {
                return Outcome::Left;
            }
            _ => {}
        }
        let (owner, made) = self.consumer(group, consumer);
        let deliveries = before.map_or(1, |before| before.deliveries);
        let counted = if self.just_id { deliveries } else { deliveries.wrapping_add(1) };
        let pending = Pending {
            delivered_ms: self.delivered_ms,
            deliveries: self.deliveries.unwrap_or(counted),
            owner,
        };
        group.assign(id, pending);
        if self.just_id {
            reply_id(reply, id);
        } else {
            reply_next(reply, &mut cursor);
        }
        propagate_claim(effects, self.key, self.group, self.consumer, text, &pending, group.last_id);
        effects.dirty += 1;
        Outcome::Claimed { made }
    }

    /// The consumer, which is made if it is not there; then the flag is set.
    fn consumer(&self, group: &mut StreamGroup, known: &mut Option<ConsumerId>) -> (ConsumerId, bool) {
        if let Some(known) = known {
            return (*known, false);
        }
        let created = group.create(self.consumer, self.now_ms);
        let consumer = created.or_else(|| group.find(self.consumer)).expect("it is there or was made");
        group.consumer_mut(consumer).seen_ms = self.now_ms;
        group.consumer_mut(consumer).active_ms = self.now_ms;
        *known = Some(consumer);
        (consumer, created.is_some())
    }
}

/// Tells that `id` is pending as given: idempotent, and complete.
pub(super) fn propagate_claim(
    effects: &mut Effects,
    key: &[u8],
    group: &[u8],
    owner: &[u8],
    id: &[u8],
    pending: &Pending,
    last_id: StreamId,
) {
    if !effects.recording {
        return;
    }
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    effects.propagate(&[
        b"XCLAIM",
        key,
        group,
        owner,
        b"0",
        id,
        b"TIME",
        time.format(pending.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(pending.deliveries as i64).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &last_id.text(),
    ]);
}

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]
const XAUTOCLAIM: Command<Handler> = Command {
    name: "xautoclaim",
    group: Group::Stream,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1) if COUNT is small.",
        summary: "Makes a consumer the owner of entries that others have left pending for long.",
        history: &[(
            "7.0.0",
            "Added an element to the reply array, containing deleted entries the command cleared from the PEL",
        )],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::string("consumer"),
            Arg::string("min-idle-time"),
            Arg::string("start"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::pure_token("justid", "JUSTID").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xautoclaim)
};

/// Entries looked at for each that may be claimed.
const ATTEMPTS: u64 = 10;
/// `COUNT` of Redis is bounded by what it may allocate for.
const COUNT_MAX: i64 = i64::MAX / 16;

fn xautoclaim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (argv, key, name) = (ctx.argv, ctx.key(1), ctx.argv.at(2));
    let invalid = CommandError::fixed("ERR Invalid min-idle-time argument for XAUTOCLAIM");
    let min_idle_ms = argv.int(4).map_err(|_| invalid)?.max(0);
    let start = parse_start(argv.at(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut options = Options::new(argv, 6);
    while let Some(option) = options.next() {
        if is_token(option, "COUNT") && !options.rest().is_empty() {
            let error = CommandError::fixed("ERR COUNT must be > 0");
            count = options.int_within_or(1..=COUNT_MAX, error)? as u64;
        } else if is_token(option, "JUSTID") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let stream = ctx.store.read_stream(key).map_err(wrong_type)?;
    if stream.and_then(|stream| stream.group(name)).is_none() {
        return Err(no_group(key.bytes, name, ""));
    }
    let now_ms = ctx.store.now_ms;
    let claim = Claim {
        key: key.bytes,
        group: name,
        consumer: argv.at(3),
        min_idle_ms,
        just_id,
        now_ms,
        delivered_ms: now_ms,
        deliveries: None,
        force: false,
    };
    ctx.store.effects.propagate_nothing();
    // The cursor comes first, and is known last.
    let mark = ctx.reply.begin_deferred();
    let reply = &mut ctx.reply;
    let mut cleared = Vec::new();
    let (next, claimed, created) = ctx.store.edit_stream(key, |stream, effects| {
        let (entries, group) = stream.split_group(name).expect("the group was just found");
        let (mut consumer, mut created, mut claimed) = (None, false, 0);
        let mut attempts = count.saturating_mul(ATTEMPTS);
        let mut from = Some(start);
        let following = |group: &StreamGroup, from: Option<StreamId>| {
            from.and_then(|from| group.pending().range(from..).next().map(|(id, _)| id))
        };
        while attempts > 0 && claimed + (cleared.len() as u64) < count {
            attempts -= 1;
            let Some(id) = following(group, from) else {
                from = None;
                break;
            };
            from = id.next();
            match claim.one(id, &id.text(), &entries, group, &mut consumer, effects, reply) {
                Outcome::Left => {}
                Outcome::Cleared => cleared.push(id),
                Outcome::Claimed { made } => {
                    created |= made;
                    claimed += 1;
                }
            }
        }
        effects.dirty += u64::from(created);
        (following(group, from).unwrap_or(StreamId::MIN), claimed, created)
    });
    let mut head = Output::new();
    let mut head_reply = Reply::new(&mut head, ctx.reply.proto());
    head_reply.array(3);
    reply_id(&mut head_reply, next);
    head_reply.array(claimed as usize);
    ctx.reply.end_with(mark, &head.to_vec());
    ctx.reply.array(cleared.len());
    cleared.iter().for_each(|id| reply_id(&mut ctx.reply, *id));
    if created {
        ctx.store.notify(Event::STREAM, "xgroup-createconsumer", key.bytes);
    }
    Ok(())
}
