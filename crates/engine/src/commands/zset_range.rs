//! Sorted sets: ranges of rank, score and name. Every range becomes one of ranks, which is streamed into the reply,
//! counted, stored or removed.

use std::ops::Range;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::{EntryExt, Object, ZSet, ZSetRef};
use structures::listpack::Entry;
use structures::number::parse_f64;

use crate::commands::elements::{Pairs, delete_emptied, reply_entry, store_result};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[
    ZCOUNT,
    ZLEXCOUNT,
    ZRANGE,
    ZRANGEBYLEX,
    ZRANGEBYSCORE,
    ZRANGESTORE,
    ZREMRANGEBYLEX,
    ZREMRANGEBYRANK,
    ZREMRANGEBYSCORE,
    ZREVRANGE,
    ZREVRANGEBYLEX,
    ZREVRANGEBYSCORE,
];

/// What the bounds of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

#[derive(Debug, Clone, Copy)]
struct ScoreBound {
    score: f64,
    exclusive: bool,
}

#[derive(Debug, Clone, Copy)]
enum LexBound<'a> {
    Lowest,
    Highest,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

/// The bounds of a range, both given as arguments.
#[derive(Debug, Clone, Copy)]
enum Bounds<'a> {
    /// Both included; negative ones count from the end.
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound<'a>, LexBound<'a>),
}

/// A range as `ZRANGE` and its kin ask for it.
#[derive(Debug, Clone, Copy)]
struct Query<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    /// Negative: nothing.
    offset: i64,
    /// Negative: all.
    limit: i64,
    with_scores: bool,
}

impl ScoreBound {
    fn parse(arg: &[u8]) -> Result<ScoreBound, CommandError> {
        let (text, exclusive) = match arg {
            [b'(', text @ ..] => (text, true),
            text => (text, false),
        };
        // As `strtod` has it: a NUL ends the text, blanks may lead, nothing at all is 0, and what is too large is infinite.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let score = match text.trim_ascii_start() {
            _ if text.is_empty() => Some(0.0),
            text => parse_f64(text).or_else(|| out_of_range(text)),
        };
        Ok(ScoreBound { score: score.ok_or(CommandError::RangeNotFloat)?, exclusive })
    }
}

/// The value of a decimal that overflows or underflows, which a score may not do but a bound may.
fn out_of_range(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

impl<'a> LexBound<'a> {
    fn parse(arg: &'a [u8]) -> Result<LexBound<'a>, CommandError> {
        match arg {
            b"-" => Ok(LexBound::Lowest),
            b"+" => Ok(LexBound::Highest),
            [b'[', text @ ..] => Ok(LexBound::Inclusive(text)),
            [b'(', text @ ..] => Ok(LexBound::Exclusive(text)),
            _ => Err(CommandError::RangeNotString),
        }
    }

    /// Number of members before the first one that a range with this lower bound holds.
    fn start(self, set: ZSetRef<'_>) -> usize {
        match self {
            LexBound::Lowest => 0,
            LexBound::Highest => set.len(),
            LexBound::Inclusive(text) => set.rank_of_member_bytes(text, false),
            LexBound::Exclusive(text) => set.rank_of_member_bytes(text, true),
        }
    }

    /// Number of members up to the last one that a range with this upper bound holds.
    fn end(self, set: ZSetRef<'_>) -> usize {
        match self {
            LexBound::Lowest => 0,
            LexBound::Highest => set.len(),
            LexBound::Inclusive(text) => set.rank_of_member_bytes(text, true),
            LexBound::Exclusive(text) => set.rank_of_member_bytes(text, false),
        }
    }
}

impl<'a> Bounds<'a> {
    /// Reads the lower and the upper bound.
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Bounds<'a>, CommandError> {
        let int = |arg| command::parse_i64(arg).ok_or(CommandError::NotInteger);
        Ok(match by {
            By::Rank => Bounds::Rank(int(low)?, int(high)?),
            By::Score => Bounds::Score(ScoreBound::parse(low)?, ScoreBound::parse(high)?),
            By::Lex => Bounds::Lex(LexBound::parse(low)?, LexBound::parse(high)?),
        })
    }

    /// The ranks of what lies within; with `reverse`, rank bounds count from the highest.
    fn ranks(&self, set: ZSetRef<'_>, reverse: bool) -> Range<usize> {
        let (start, end) = match *self {
            Bounds::Rank(first, last) => {
                let len = set.len() as i64;
                let from_end = |rank: i64| if rank < 0 { rank.saturating_add(len) } else { rank };
                let (first, last) = (from_end(first).max(0), from_end(last).min(len - 1));
                if first > last {
                    return 0..0;
                }
                let (start, end) = (first as usize, last as usize + 1);
                if reverse { (set.len() - end, set.len() - start) } else { (start, end) }
            }
            Bounds::Score(low, high) => {
                // Without a look at the members where the bounds exclude everything.
                if low.score > high.score || (low.score == high.score && (low.exclusive || high.exclusive)) {
                    return 0..0;
                }
                (set.rank_of_score(low.score, low.exclusive), set.rank_of_score(high.score, !high.exclusive))
            }
            Bounds::Lex(low, high) => (low.start(set), high.end(set)),
        };
        start..end.max(start)
    }
}

impl<'a> Query<'a> {
    /// Reads `min max [option …]` from argument `at` on. `by` and `reverse` are what the command's name says, if it
    /// does; a range to be stored takes no `WITHSCORES`.
    fn parse(
        argv: resp::Args<'a>,
        at: usize,
        by: Option<By>,
        reverse: Option<bool>,
        stored: bool,
    ) -> Result<Query<'a>, CommandError> {
        let (mut asked_by, mut asked_reverse) = (by, reverse);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut options = Options::new(argv, at + 2);
        while let Some(option) = options.next() {
            if !stored && is_token(option, "WITHSCORES") {
                with_scores = true;
            } else if is_token(option, "LIMIT") && options.rest().len() >= 2 {
                offset = options.int()?;
                limit = options.int()?;
            } else if asked_reverse.is_none() && is_token(option, "REV") {
                asked_reverse = Some(true);
            } else if asked_by.is_none() && is_token(option, "BYLEX") {
                asked_by = Some(By::Lex);
            } else if asked_by.is_none() && is_token(option, "BYSCORE") {
                asked_by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let (by, reverse) = (asked_by.unwrap_or(By::Rank), asked_reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (mut low, mut high) = (argv.bytes(at)?, argv.bytes(at + 1)?);
        if reverse && by != By::Rank {
            (low, high) = (high, low);
        }
        Ok(Query { bounds: Bounds::parse(by, low, high)?, reverse, offset, limit, with_scores })
    }

    /// The ranks that are asked for.
    fn ranks(&self, set: ZSetRef<'_>) -> Range<usize> {
        let Range { start, end } = self.bounds.ranks(set, self.reverse);
        if matches!(self.bounds, Bounds::Rank(..)) {
            return start..end;
        }
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let skipped = offset.min(end - start);
        let left = end - start - skipped;
        let taken = usize::try_from(self.limit).map_or(left, |limit| limit.min(left));
        if self.reverse {
            let end = end - skipped;
            end - taken..end
        } else {
            let start = start + skipped;
            start..start + taken
        }
    }
}

/// ZCOUNT key min max
const ZCOUNT: Command<Handler> = Command {
    name: "zcount",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Counts the members whose scores are within bounds.",
        arguments: &[Arg::key("key", 0), Arg::double("min"), Arg::double("max")],
        ..Docs::NONE
    },
    ..Command::runs(zcount)
};

fn zcount(ctx: &mut Ctx<'_>) -> CmdResult {
    count(ctx, By::Score)
}

/// ZLEXCOUNT key min max
const ZLEXCOUNT: Command<Handler> = Command {
    name: "zlexcount",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.8.9",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Counts the members whose names are within bounds, all scores being equal.",
        arguments: &[Arg::key("key", 0), Arg::string("min"), Arg::string("max")],
        ..Docs::NONE
    },
    ..Command::runs(zlexcount)
};

fn zlexcount(ctx: &mut Ctx<'_>) -> CmdResult {
    count(ctx, By::Lex)
}

fn count(ctx: &mut Ctx<'_>, by: By) -> CmdResult {
    let bounds = Bounds::parse(by, ctx.argv.at(2), ctx.argv.at(3))?;
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    ctx.reply.int(set.map_or(0, |set| bounds.ranks(set, false).len()) as i64);
    Ok(())
}

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
const ZRANGE: Command<Handler> = Command {
    name: "zrange",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members within bounds of position, score or name.",
        history: &[("6.2.0", "Knows `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("start"),
            Arg::string("stop"),
            Arg::one_of(
                "sortby",
                &[Arg::pure_token("byscore", "BYSCORE"), Arg::pure_token("bylex", "BYLEX")],
            )
            .since("6.2.0")
            .optional(),
            Arg::pure_token("rev", "REV").since("6.2.0").optional(),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .since("6.2.0")
                .optional(),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrange)
};

fn zrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, None, None)
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
const ZRANGEBYLEX: Command<Handler> = Command {
    name: "zrangebylex",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.8.9",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members whose names are within bounds, all scores being equal.",
        deprecated_since: "6.2.0",
        replaced_by: "`ZRANGE` with the `BYLEX` argument",
        arguments: &[
            Arg::key("key", 0),
            Arg::string("min"),
            Arg::string("max"),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrangebylex)
};

fn zrangebylex(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, Some(By::Lex), Some(false))
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
const ZRANGEBYSCORE: Command<Handler> = Command {
    name: "zrangebyscore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.0.5",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members whose scores are within bounds.",
        deprecated_since: "6.2.0",
        replaced_by: "`ZRANGE` with the `BYSCORE` argument",
        history: &[("2.0.0", "Knows `WITHSCORES`.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::double("min"),
            Arg::double("max"),
            Arg::pure_token("withscores", "WITHSCORES").since("2.0.0").optional(),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrangebyscore)
};

fn zrangebyscore(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, Some(By::Score), Some(false))
}

/// ZREVRANGE key start stop [WITHSCORES]
const ZREVRANGE: Command<Handler> = Command {
    name: "zrevrange",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members within bounds of position, highest score first.",
        deprecated_since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` argument",
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("start"),
            Arg::integer("stop"),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrevrange)
};

fn zrevrange(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, Some(By::Rank), Some(true))
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
const ZREVRANGEBYLEX: Command<Handler> = Command {
    name: "zrevrangebylex",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.8.9",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members whose names are within bounds, last name first, all scores being equal.",
        deprecated_since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYLEX` arguments",
        arguments: &[
            Arg::key("key", 0),
            Arg::string("max"),
            Arg::string("min"),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrevrangebylex)
};

fn zrevrangebylex(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, Some(By::Lex), Some(true))
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
const ZREVRANGEBYSCORE: Command<Handler> = Command {
    name: "zrevrangebyscore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Returns the members whose scores are within bounds, highest score first.",
        deprecated_since: "6.2.0",
        replaced_by: "`ZRANGE` with the `REV` and `BYSCORE` arguments",
        history: &[("2.1.6", "Bounds may be exclusive.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::double("max"),
            Arg::double("min"),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrevrangebyscore)
};

fn zrevrangebyscore(ctx: &mut Ctx<'_>) -> CmdResult {
    range(ctx, Some(By::Score), Some(true))
}

fn range(ctx: &mut Ctx<'_>, by: Option<By>, reverse: Option<bool>) -> CmdResult {
    let query = Query::parse(ctx.argv, 2, by, reverse, false)?;
    let Some(set) = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let ranks = query.ranks(set);
    let reply = &mut ctx.reply;
    if query.with_scores {
        let mut pairs = Pairs::begin(reply, ranks.len(), true);
        set.visit(ranks, query.reverse, |member, score| pairs.reply(reply, member, score));
    } else {
        reply.array(ranks.len());
        set.visit(ranks, query.reverse, |member, _| reply_entry(reply, member));
    }
    Ok(())
}

/// ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
const ZRANGESTORE: Command<Handler> = Command {
    name: "zrangestore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Stores the members within bounds of position, score or name.",
        arguments: &[
            Arg::key("dst", 0),
            Arg::key("src", 1),
            Arg::string("min"),
            Arg::string("max"),
            Arg::one_of(
                "sortby",
                &[Arg::pure_token("byscore", "BYSCORE"), Arg::pure_token("bylex", "BYLEX")],
            )
            .optional(),
            Arg::pure_token("rev", "REV").optional(),
            Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")])
                .token("LIMIT")
                .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrangestore)
};

fn zrangestore(ctx: &mut Ctx<'_>) -> CmdResult {
    let (target, source) = (ctx.key(1), ctx.key(2));
    let query = Query::parse(ctx.argv, 3, None, None, true)?;
    let found = ctx.store.read_zset(source).map_err(wrong_type)?.is_some();
    let entry = if found { ctx.store.db().peek(source) } else { None };
    let result = entry.and_then(|entry| entry.as_zset().ok()).and_then(|set| {
        let ranks = query.ranks(set);
        let (skipped, count) = (ranks.start, ranks.len());
        if count == 0 {
            return None;
        }
        let limits = &ctx.store.limits;
        let object = match set {
            ZSet::Ordered(ordered) => {
                let members = ordered.range(ranks).map(|(member, score)| (Entry::Str(member), score));
                ZSet::from_sorted(&members.collect::<Vec<_>>(), limits)
            }
            ZSet::Listpack(_) => {
                ZSet::from_sorted(&set.iter().skip(skipped).take(count).collect::<Vec<_>>(), limits)
            }
        };
        Some((Object::ZSet(object), count))
    });
    store_result(ctx, target, result, Event::ZSET, "zrangestore");
    Ok(())
}

/// ZREMRANGEBYLEX key min max
const ZREMRANGEBYLEX: Command<Handler> = Command {
    name: "zremrangebylex",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "2.8.9",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Removes the members whose names are within bounds, all scores being equal.",
        arguments: &[Arg::key("key", 0), Arg::string("min"), Arg::string("max")],
        ..Docs::NONE
    },
    ..Command::runs(zremrangebylex)
};

fn zremrangebylex(ctx: &mut Ctx<'_>) -> CmdResult {
    remove_range(ctx, By::Lex, "zremrangebylex")
}

/// ZREMRANGEBYRANK key start stop
const ZREMRANGEBYRANK: Command<Handler> = Command {
    name: "zremrangebyrank",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Removes the members whose positions are within bounds.",
        arguments: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("stop")],
        ..Docs::NONE
    },
    ..Command::runs(zremrangebyrank)
};

fn zremrangebyrank(ctx: &mut Ctx<'_>) -> CmdResult {
    remove_range(ctx, By::Rank, "zremrangebyrank")
}

/// ZREMRANGEBYSCORE key min max
const ZREMRANGEBYSCORE: Command<Handler> = Command {
    name: "zremrangebyscore",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(log(N)+M), N being the members of the sorted set and M those in the range.",
        summary: "Removes the members whose scores are within bounds.",
        arguments: &[Arg::key("key", 0), Arg::double("min"), Arg::double("max")],
        ..Docs::NONE
    },
    ..Command::runs(zremrangebyscore)
};

fn zremrangebyscore(ctx: &mut Ctx<'_>) -> CmdResult {
    remove_range(ctx, By::Score, "zremrangebyscore")
}

fn remove_range(ctx: &mut Ctx<'_>, by: By, event: &'static str) -> CmdResult {
    let key = ctx.key(1);
    let bounds = Bounds::parse(by, ctx.argv.at(2), ctx.argv.at(3))?;
    let Some(mut set) = ctx.store.write_zset(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let ranks = bounds.ranks(set.view(), false);
    let removed = set.remove_ranks(ranks);
    let emptied = set.is_empty();
    drop(set);
    if removed > 0 {
        ctx.store.modified_times(key.bytes, removed);
        ctx.store.notify(Event::ZSET, event, key.bytes);
        if emptied {
            delete_emptied(ctx, key);
        }
    }
    ctx.reply.int(removed as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn a_bound_ends_at_a_nul_as_it_does_for_strtod() {
        let mut h = Harness::new();
        h.run("ZADD z 0 a 1 b 2 c");
        assert_eq!(h.run_args(&[b"ZCOUNT", b"z", b"\0x", b"(2\0"]), b":2\r\n");
        assert_eq!(h.run_args(&[b"ZCOUNT", b"z", b"(", b" 1"]), b":1\r\n");
        for wrong in [&b"x\0"[..], b"\t", b"( "] {
            let reply = h.run_args(&[b"ZCOUNT", b"z", wrong, b"2"]);
            assert_eq!(reply, b"-ERR min or max is not a float\r\n", "{}", wrong.escape_ascii());
        }
    }
}
