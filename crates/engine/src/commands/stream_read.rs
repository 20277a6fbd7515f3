//! Reading what is new in several streams, alone (`XREAD`) or for a group (`XREADGROUP`).
//!
//! `XREADGROUP` writes: replicas are told of each entry that was delivered by an `XCLAIM` that says all of it, or, with
//! `NOACK`, of how far the group has come.
//!
//! With `BLOCK`, a client that finds nothing waits in the lines of its keys (see [`crate::key_waits`]) and its command
//! runs again for the one that got an entry. `$` is made the ID that it stands for before that. A consumer waits for a
//! group, too: it is told when the group, or the stream, has gone.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, FindKeys, Flag, Flags, Group, Key, KeySpec,
    Options, is_token,
};
use keyspace::stream::Pending;
use keyspace::{Stream, StreamId};
use resp::{Args, ArgsBuf, Proto, Reply};

use crate::commands::stream_claim::propagate_claim;
use crate::commands::stream_id::{no_group, parse_strict, reply_entries, reply_id, reply_next};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::effects::Effects;
use crate::key_waits::{Awaited, Timeout};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[XREAD, XREADGROUP];

const STREAMS_ARGUMENTS: [Arg; 2] = [Arg::key("key", 0).multiple(), Arg::string("ID").multiple()];

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]
const XREAD: Command<Handler> = Command {
    name: "xread",
    group: Group::Stream,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly, Flag::Blocking]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::after("STREAMS", 1, &[Key::Ro, Key::Access]).find(STREAM_KEYS)],
    docs: &Docs {
        since: "5.0.0",
        complexity: "For each stream mentioned: O(N) with N being the number of elements being returned, it means \
                     that XREAD-ing with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay \
                     O(M) time in order to serve the M clients blocked on the stream getting new data.",
        summary: "Returns entries of streams after the given IDs, and waits for some if there are none.",
        history: &[("7.4.0", "Takes `+` for the last entry.")],
        arguments: &[
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            Arg::block("streams", &STREAMS_ARGUMENTS).token("STREAMS"),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xread)
};

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]
const XREADGROUP: Command<Handler> = Command {
    name: "xreadgroup",
    group: Group::Stream,
    arity: Arity::AtLeast(7),
    flags: Flags::of(&[Flag::Write, Flag::Blocking]),
    acl: Acl::of(&[Category::Stream]),
    keys: &[KeySpec::after("STREAMS", 4, &[Key::Ro, Key::Access]).find(STREAM_KEYS)],
    docs: &Docs {
        since: "5.0.0",
        complexity: "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant \
                     (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other \
                     side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked \
                     on the stream getting new data.",
        summary: "Returns entries of streams that were not delivered to a group yet, or again what a consumer has \
                  pending.",
        arguments: &[
            Arg::block("group_consumer", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
            Arg::integer("count").token("COUNT").optional(),
            Arg::integer("milliseconds").token("BLOCK").optional(),
            Arg::pure_token("noack", "NOACK").optional(),
            Arg::block("streams", &STREAMS_ARGUMENTS).token("STREAMS"),
        ],
        ..Docs::NONE
    },
    ..Command::runs(xreadgroup)
};

/// The first half of what follows `STREAMS`.
const STREAM_KEYS: FindKeys = FindKeys::Range { last: -1, step: 1, limit: 2 };

/// The arguments of both commands.
struct ReadArgs<'a> {
    limit: usize,
    /// How long to wait.
    block: Option<Timeout>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    keys: Args<'a>,
    ids: Args<'a>,
}

/// What a stream is read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Entries behind this ID; of a group, what the consumer has pending behind it.
    Id(StreamId),
    /// What the group has not been given.
    New,
}

impl<'a> ReadArgs<'a> {
    fn parse(argv: Args<'a>, for_group: bool, now_ms: i64) -> Result<ReadArgs<'a>, CommandError> {
        let mut args = ReadArgs {
            limit: usize::MAX,
            block: None,
            group: None,
            no_ack: false,
            keys: argv.tail(argv.len()),
            ids: argv.tail(argv.len()),
        };
        let only_group = |option: &str| {
            CommandError::text(format!(
                "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
            ))
        };
        let mut options = Options::new(argv, 1);
        while let Some(option) = options.next() {
            let more = options.rest().len();
            if is_token(option, "BLOCK") && more > 0 {
                args.block = Some(Timeout::millis(options.value()?, now_ms)?);
            } else if is_token(option, "COUNT") && more > 0 {
                let count = usize::try_from(options.int()?).unwrap_or(0);
                args.limit = if count == 0 { usize::MAX } else { count };
            } else if is_token(option, "STREAMS") && more > 0 {
                let streams = options.rest();
                if !streams.len().is_multiple_of(2) {
                    return Err(CommandError::fixed(
                        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
                    ));
                }
                args.keys = streams.head(streams.len() / 2);
                args.ids = streams.tail(streams.len() / 2);
                break;
            } else if is_token(option, "GROUP") && more >= 2 {
                if !for_group {
                    return Err(only_group("GROUP"));
                }
                args.group = Some((options.value()?, options.value()?));
            } else if is_token(option, "NOACK") {
                if !for_group {
                    return Err(only_group("NOACK"));
                }
                args.no_ack = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if args.keys.is_empty() {
            return Err(CommandError::Syntax);
        }
        if for_group && args.group.is_none() {
            return Err(CommandError::fixed("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(args)
    }

    /// How many entries of a stream are given: after a wait it is not all that a low ID would give.
    fn limit_of(&self, ctx: &Ctx<'_>) -> usize {
        if self.limit == usize::MAX && ctx.runs_again() { WAITED_LIMIT } else { self.limit }
    }
}

/// Entries of a stream that are given after a wait, if no `COUNT` says otherwise.
const WAITED_LIMIT: usize = 1000;

fn xread(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ReadArgs::parse(ctx.argv, false, ctx.store.now_ms)?;
    let mut after = Vec::with_capacity(args.ids.len());
    for (key, id) in args.keys.iter().zip(args.ids.iter()) {
        let stream = ctx.store.read_stream(keyspace::Key::new(key)).map_err(wrong_type)?;
        after.push(match id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.last_id),
            // The last entry there is.
            b"+" => match stream.map(|stream| (stream.last_entry_id().previous(), stream.last_id)) {
                Some((Some(before), _)) => before,
                Some((None, last_id)) => last_id,
                None => StreamId::MIN,
            },
            b">" => {
                return Err(CommandError::fixed(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                     option.",
                ));
            }
            id => parse_strict(id, 0)?,
        });
    }
    let limit = args.limit_of(ctx);
    let mark = ctx.reply.begin_deferred();
    let mut served = 0;
    for (key, after) in args.keys.iter().zip(&after) {
        if !ctx.considers(key) {
            continue;
        }
        let entry = ctx.store.peek(keyspace::Key::new(key));
        let stream = entry.and_then(|entry| keyspace::EntryExt::as_stream(entry).ok());
        let Some(stream) = stream.filter(|stream| has_after(stream, *after)) else { continue };
        served += 1;
        begin_stream(&mut ctx.reply, key);
        let start = after.next().expect("there is an entry behind it");
        reply_entries(&mut ctx.reply, stream.range(start, StreamId::MAX), limit);
    }
    if served > 0 {
        end_streams(&mut ctx.reply, mark, served);
    } else if !wait(ctx, &args, Awaited::Stream, |argv| with_ids(argv, &after)) {
        ctx.reply.null_array();
    }
    Ok(())
}

/// The command with the IDs that its last arguments stand for.
fn with_ids(argv: Args<'_>, ids: &[StreamId]) -> ArgsBuf {
    let mut resolved: ArgsBuf = argv.head(argv.len() - ids.len()).into();
    ids.iter().for_each(|id| resolved.push(&id.text()));
    resolved
}

/// Waits for the streams, if it was asked for; false if it was not, or cannot be.
fn wait<'a>(
    ctx: &mut Ctx<'a>,
    args: &ReadArgs<'_>,
    awaited: Awaited,
    again: impl FnOnce(Args<'a>) -> ArgsBuf,
) -> bool {
    let Some(timeout) = args.block else { return false };
    let argv = (!ctx.runs_again()).then(|| again(ctx.argv));
    ctx.await_keys(awaited, timeout, args.keys.iter(), argv)
}

/// Whether the stream has an entry behind `after`.
fn has_after(stream: &Stream, after: StreamId) -> bool {
    !stream.is_empty() && after < stream.last_id && stream.last_entry_id() > after
}

fn begin_stream(reply: &mut Reply<'_>, key: &[u8]) {
    if reply.proto() == Proto::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

fn end_streams(reply: &mut Reply<'_>, mark: resp::Mark, served: usize) {
    match reply.proto() {
        Proto::Resp2 => reply.end_array(mark, served),
        Proto::Resp3 => reply.end_map(mark, served),
    }
}

fn xreadgroup(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ReadArgs::parse(ctx.argv, true, ctx.store.now_ms)?;
    let (group, consumer) = args.group.expect("it was required");
    let mut after = Vec::with_capacity(args.ids.len());
    for (key, id) in args.keys.iter().zip(args.ids.iter()) {
        if ctx.runs_again() {
            // It waits for new entries only.
            after.push(After::New);
            if ctx.considers(key) {
                expect_awaited(ctx, key, group)?;
            }
            continue;
        }
        let stream = ctx.store.read_stream(keyspace::Key::new(key)).map_err(wrong_type)?;
        if stream.and_then(|stream| stream.group(group)).is_none() {
            return Err(no_group(key, group, " in XREADGROUP with GROUP option"));
        }
        after.push(match id {
            b"$" => {
                return Err(CommandError::fixed(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                     consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just \
                     return an empty result set.",
                ));
            }
            b"+" => {
                return Err(CommandError::fixed(
                    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                     consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just \
                     return an empty result set.",
                ));
            }
            b">" => After::New,
            id => After::Id(parse_strict(id, 0)?),
        });
    }
    let mark = ctx.reply.begin_deferred();
    let mut served = 0;
    ctx.store.effects.propagate_nothing();
    let limit = args.limit_of(ctx);
    for (key, after) in args.keys.iter().zip(&after) {
        if !ctx.considers(key) {
            continue;
        }
        let delivery =
            Delivery { key, group, consumer, limit, no_ack: args.no_ack, now_ms: ctx.store.now_ms };
        let entry = ctx.store.peek(keyspace::Key::new(key));
        let Some(stream) = entry.and_then(|entry| keyspace::EntryExt::as_stream(entry).ok()) else {
            continue;
        };
        let Some(read) = stream.group(group) else { continue };
        if *after == After::New && !has_after(stream, read.last_id) {
            continue;
        }
        served += 1;
        begin_stream(&mut ctx.reply, key);
        let reply = &mut ctx.reply;
        let created = ctx.store.edit_stream(keyspace::Key::new(key), |stream, effects| match after {
            After::New => delivery.deliver(stream, reply, effects),
            After::Id(id) => delivery.repeat(stream, *id, reply, effects),
        });
        if created {
            ctx.store.notify(Event::STREAM, "xgroup-createconsumer", key);
        }
        ctx.store.effects.dirty += 1 + u64::from(created);
    }
    if served > 0 {
        end_streams(&mut ctx.reply, mark, served);
    } else if !wait(ctx, &args, Awaited::Group, ArgsBuf::from) {
        ctx.reply.null_array();
    }
    Ok(())
}

/// What the client waits for must still be there.
fn expect_awaited(ctx: &mut Ctx<'_>, key: &[u8], group: &[u8]) -> CmdResult {
    let entry = ctx.store.peek(keyspace::Key::new(key));
    let stream = entry.and_then(|entry| keyspace::EntryExt::as_stream(entry).ok());
    let stream = stream.ok_or(CommandError::fixed("UNBLOCKED the stream key no longer exists"))?;
    if stream.group(group).is_none() {
        return Err(CommandError::fixed(
            "NOGROUP the consumer group this client was blocked on no longer exists",
        ));
    }
    Ok(())
}

/// What a consumer asks of one stream.
struct Delivery<'a> {
    key: &'a [u8],
    group: &'a [u8],
    consumer: &'a [u8],
    limit: usize,
    no_ack: bool,
    now_ms: i64,
}

impl Delivery<'_> {
    /// Gives the consumer what the group has not been given; true if the consumer is new.
    fn deliver(&self, stream: &mut Stream, reply: &mut Reply<'_>, effects: &mut Effects) -> bool {
        let (entries, group) = stream.split_group(self.group).expect("the group was just found");
        let created = group.create(self.consumer, self.now_ms);
        let consumer = created.or_else(|| group.find(self.consumer)).expect("it is there or was made");
        group.consumer_mut(consumer).seen_ms = self.now_ms;
        group.consumer_mut(consumer).active_ms = self.now_ms;
        if created.is_some() && self.no_ack {
            self.propagate_consumer(effects);
        }
        let start = group.last_id.next().expect("there is an entry behind it");
        let mut cursor = entries.range(start, StreamId::MAX);
        let mark = reply.begin_deferred();
        let mut count = 0;
        while count < self.limit
            && let Some(id) = reply_next(reply, &mut cursor)
        {
            count += 1;
            group.advance(id, &entries.counters);
            if !self.no_ack {
                group.deliver(id, consumer, self.now_ms);
                let pending = Pending { delivered_ms: self.now_ms, deliveries: 1, owner: consumer };
                propagate_claim(effects, self.key, self.group, self.consumer, &id.text(), &pending, id);
            }
        }
        reply.end_array(mark, count);
        if self.no_ack && count > 0 {
            propagate_group_id(effects, self.key, self.group, group);
        }
        created.is_some()
    }

    /// Gives the consumer again what it has pending behind `after`.
    fn repeat(
        &self,
        stream: &mut Stream,
        after: StreamId,
        reply: &mut Reply<'_>,
        effects: &mut Effects,
    ) -> bool {
        let (entries, group) = stream.split_group(self.group).expect("the group was just found");
        let created = group.create(self.consumer, self.now_ms);
        let consumer = created.or_else(|| group.find(self.consumer)).expect("it is there or was made");
        group.consumer_mut(consumer).seen_ms = self.now_ms;
        if created.is_some() {
            // Nothing else would tell replicas of it.
            self.propagate_consumer(effects);
        }
        let mark = reply.begin_deferred();
        let mut count = 0;
        // The last ID is followed by the first, as in Redis.
        let mut from = Some(after.next().unwrap_or(StreamId::MIN));
        while count < self.limit
            && let Some(start) = from
            && let Some(id) = group.consumer(consumer).next_pending(start)
        {
            count += 1;
            from = id.next();
            if reply_next(reply, &mut entries.range(id, id)).is_some() {
                let pending = group.pending_mut(id).expect("what a consumer has pending, its group has");
                pending.delivered_ms = self.now_ms;
                pending.deliveries = pending.deliveries.wrapping_add(1);
            } else {
                reply.array(2);
                reply_id(reply, id);
                reply.null_array();
            }
        }
        reply.end_array(mark, count);
        created.is_some()
    }

    fn propagate_consumer(&self, effects: &mut Effects) {
        effects.propagate(&[b"XGROUP", b"CREATECONSUMER", self.key, self.group, self.consumer]);
    }
}

/// Tells how far a group has come, where no `XCLAIM` does.
pub(super) fn propagate_group_id(
    effects: &mut Effects,
    key: &[u8],
    name: &[u8],
    group: &keyspace::stream::Group,
) {
    let mut digits = itoa::Buffer::new();
    let read = digits.format(group.entries_read.map_or(-1, |read| read as i64)).as_bytes();
    effects.propagate(&[b"XGROUP", b"SETID", key, name, &group.last_id.text(), b"ENTRIESREAD", read]);
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    fn with_stream() -> Harness {
        let mut h = Harness::new();
        for line in ["XADD s 1-1 a 1", "XADD s 1-2 b 2", "XADD s 2-0 a 3", "XGROUP CREATE s g 0"] {
            h.run(line);
        }
        h.propagated();
        h
    }

    const E1: &str = r"*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n";
    const E2: &str = r"*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n";
    const E3: &str = r"*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\na\r\n$1\r\n3\r\n";

    fn of_s(entries: &[&str]) -> String {
        format!(r"*1\r\n*2\r\n$1\r\ns\r\n*{}\r\n{}", entries.len(), entries.concat())
    }

    #[test]
    fn what_is_new_is_read_from_each_id() {
        let mut h = with_stream();
        assert_eq!(h.run("XREAD COUNT 2 STREAMS s 0"), of_s(&[E1, E2]));
        assert_eq!(h.run("XREAD STREAMS s 1-2"), of_s(&[E3]));
        assert_eq!(h.run("XREAD STREAMS s +"), of_s(&[E3]));
        assert_eq!(h.run("XREAD STREAMS s $"), r"*-1\r\n");
        assert_eq!(h.run("XREAD STREAMS none s + 2-0"), r"*-1\r\n");
        assert!(h.run("XREAD STREAMS s >").starts_with("-ERR The > ID can be specified only"));
        assert!(h.run("XREADGROUP GROUP g c STREAMS s $").starts_with("-ERR The $ ID is meaningless"));
        assert!(
            h.run("XREADGROUP GROUP no c STREAMS s >")
                .starts_with("-NOGROUP No such key \\'s\\' or consumer")
        );
        h.resp3();
        assert_eq!(h.run("XREAD STREAMS s 1-2"), format!(r"%1\r\n$1\r\ns\r\n*1\r\n{E3}"));
    }

    #[test]
    fn replicas_are_told_what_a_group_was_given() {
        let mut h = with_stream();
        assert_eq!(h.run("XREADGROUP GROUP g c COUNT 2 STREAMS s >"), of_s(&[E1, E2]));
        let claim = |id, last| {
            format!("XCLAIM s g c 0 {id} TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID {last}")
        };
        assert_eq!(
            h.propagated(),
            ["MULTI".to_owned(), claim("1-1", "1-1"), claim("1-2", "1-2"), "EXEC".to_owned()]
        );
        assert_eq!(h.run("XREADGROUP GROUP g new NOACK STREAMS s >"), of_s(&[E3]));
        assert_eq!(
            h.propagated(),
            ["MULTI", "XGROUP CREATECONSUMER s g new", "XGROUP SETID s g 2-0 ENTRIESREAD 3", "EXEC"]
        );
        // History is not told, but that there is a consumer is.
        h.run("XDEL s 1-2");
        h.propagated();
        assert_eq!(h.run("XREADGROUP GROUP g c STREAMS s 0"), of_s(&[E1, r"*2\r\n$3\r\n1-2\r\n*-1\r\n"]));
        assert_eq!(h.propagated(), Vec::<String>::new());
        assert_eq!(h.run("XREADGROUP GROUP g late STREAMS s 0"), of_s(&[]));
        assert_eq!(h.propagated(), ["XGROUP CREATECONSUMER s g late"]);
        assert_eq!(h.run("XREADGROUP GROUP g c STREAMS s >"), r"*-1\r\n");
        assert_eq!(h.propagated(), Vec::<String>::new());
    }

    #[test]
    fn a_reader_waits_for_what_comes_after_its_id() {
        let mut h = with_stream();
        let writer = h.connect();
        assert_eq!(h.run("XREAD BLOCK 0 STREAMS s t $ 0"), "");
        h.run_on(writer, "XADD s 3-0 a 4");
        let conn = h.conn;
        let e4 = r"*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\na\r\n$1\r\n4\r\n";
        assert_eq!(h.output(conn).escape_ascii().to_string(), of_s(&[e4]));
        // A list is not a stream; a stream that is made then is.
        assert_eq!(h.run("XREAD BLOCK 0 STREAMS t 0"), "");
        h.run_on(writer, "RPUSH t a");
        assert_eq!(h.output(conn), b"");
        h.run_on(writer, "DEL t");
        h.run_on(writer, "XADD t 1-0 a 1");
        assert!(!h.output(conn).is_empty());
        assert_eq!(h.run("MULTI"), r"+OK\r\n");
        h.run("XREAD BLOCK 0 STREAMS s $");
        assert_eq!(h.run("EXEC"), r"*1\r\n*-1\r\n");
        assert!(h.run("XREAD BLOCK -1 STREAMS s $").starts_with("-ERR timeout is negative"));
    }

    #[test]
    fn consumers_wait_in_line_and_learn_that_their_group_has_gone() {
        let mut h = with_stream();
        let (writer, second, first) = (h.connect(), h.connect(), h.conn);
        h.run("XGROUP SETID s g $");
        for (conn, name) in [(first, "a"), (second, "b")] {
            assert_eq!(h.run_on(conn, &format!("XREADGROUP GROUP g {name} BLOCK 0 STREAMS s >")), "");
        }
        h.propagated();
        h.run_on(writer, "XADD s 3-0 a 4");
        assert!(!h.output(first).is_empty() && h.output(second).is_empty());
        assert_eq!(
            h.propagated(),
            ["XADD s 3-0 a 4", "XCLAIM s g a 0 3-0 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 3-0"]
        );
        h.run_on(writer, "XGROUP SETID s g 2-0");
        assert!(!h.output(second).is_empty());
        for (way, error) in [
            ("XGROUP DESTROY s g", "-NOGROUP the consumer group this client was blocked on no longer exists"),
            ("DEL s", "-UNBLOCKED the stream key no longer exists"),
            ("SET s 1", "-UNBLOCKED the stream key no longer exists"),
            ("FLUSHALL", "-UNBLOCKED the stream key no longer exists"),
        ] {
            h.run_on(writer, "DEL s");
            h.run_on(writer, "XGROUP CREATE s g $ MKSTREAM");
            assert_eq!(h.run("XREADGROUP GROUP g a BLOCK 0 STREAMS s >"), "");
            h.run_on(writer, way);
            assert_eq!(h.output(first).escape_ascii().to_string(), format!(r"{error}\r\n"), "{way}");
        }
    }
}
