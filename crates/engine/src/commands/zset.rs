//! Sorted sets: members one by one. Ranges are in [`super::zset_range`], what combines several sorted sets in
//! [`super::zset_ops`], what pops or picks at random in [`super::zset_pop`].

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
    is_token,
};
use keyspace::zset::{AddRule, Addition};
use keyspace::{Object, ZSet};
use structures::number::parse_f64;

use crate::commands::elements::{ScoreText, delete_emptied, reply_empty_scan, reply_scan, reply_score};
use crate::commands::scan::{Over, ScanOptions};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] =
    &[ZADD, ZCARD, ZINCRBY, ZMSCORE, ZRANK, ZREM, ZREVRANK, ZSCORE, ZSCAN];

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]
const ZADD: Command<Handler> = Command {
    name: "zadd",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(log(N)) per member, N being the members of the sorted set.",
        summary: "Adds members with scores to a sorted set, or gives them other scores.",
        history: &[
            ("2.4.0", "Takes several members."),
            ("3.0.2", "Knows `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "Knows `GT` and `LT`."),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::one_of("condition", &[Arg::pure_token("nx", "NX"), Arg::pure_token("xx", "XX")])
                .since("3.0.2")
                .optional(),
            Arg::one_of("comparison", &[Arg::pure_token("gt", "GT"), Arg::pure_token("lt", "LT")])
                .since("6.2.0")
                .optional(),
            Arg::pure_token("change", "CH").since("3.0.2").optional(),
            Arg::pure_token("increment", "INCR").since("3.0.2").optional(),
            Arg::block("score_member", &[Arg::double("score"), Arg::string("member")]).multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zadd)
};

fn zadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mut rule, mut count_changed, mut at) = (AddRule::default(), false, 2);
    while let Some(option) = ctx.argv.get(at) {
        if is_token(option, "NX") {
            rule.only_new = true;
        } else if is_token(option, "XX") {
            rule.only_existing = true;
        } else if is_token(option, "CH") {
            count_changed = true;
        } else if is_token(option, "INCR") {
            rule.increment = true;
        } else if is_token(option, "GT") {
            rule.only_greater = true;
        } else if is_token(option, "LT") {
            rule.only_less = true;
        } else {
            break;
        }
        at += 1;
    }
    add(ctx, at, rule, count_changed)
}

/// ZINCRBY key increment member
const ZINCRBY: Command<Handler> = Command {
    name: "zincrby",
    group: Group::SortedSet,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Adds to the score of a member, which is created if it does not exist.",
        arguments: &[Arg::key("key", 0), Arg::integer("increment"), Arg::string("member")],
        ..Docs::NONE
    },
    ..Command::runs(zincrby)
};

fn zincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    // Redis reads ZADD's options here too, and then misses the score.
    if ["NX", "XX", "GT", "LT", "CH", "INCR"].iter().any(|option| is_token(&ctx.argv[2], option)) {
        return Err(CommandError::Syntax);
    }
    add(ctx, 2, AddRule { increment: true, ..AddRule::default() }, false)
}

/// Adds pairs of score and member from argument `at` on. With an increment the reply is the score.
fn add(ctx: &mut Ctx<'_>, at: usize, rule: AddRule, count_changed: bool) -> CmdResult {
    let pairs = ctx.argv.tail(at);
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    if rule.only_new && rule.only_existing {
        return Err(CommandError::fixed("ERR XX and NX options at the same time are not compatible"));
    }
    if usize::from(rule.only_new) + usize::from(rule.only_greater) + usize::from(rule.only_less) > 1 {
        return Err(CommandError::fixed("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if rule.increment && pairs.len() > 2 {
        return Err(CommandError::fixed("ERR INCR option supports a single increment-element pair"));
    }
    // All scores are read before anything is changed; the first ones are kept, the others read again.
    let mut kept = [0.0; 16];
    for index in 0..pairs.len() / 2 {
        let score = parse_f64(pairs.at(2 * index)).ok_or(CommandError::NotFloat)?;
        if let Some(place) = kept.get_mut(index) {
            *place = score;
        }
    }
    let pair = |index: usize| {
        let score = kept.get(index).copied();
        let score = score.unwrap_or_else(|| parse_f64(pairs.at(2 * index)).expect("it was read before"));
        (pairs.at(2 * index + 1), score)
    };
    let added = add_members(ctx, (0..pairs.len() / 2).map(pair), rule)?;
    match added.last {
        _ if !rule.increment => ctx.reply.int(added.counted(count_changed)),
        Addition::Updated(score) | Addition::Same(score) => reply_score(&mut ctx.reply, score),
        Addition::Added => reply_score(&mut ctx.reply, kept[0]),
        Addition::Skipped | Addition::NotANumber => ctx.reply.null(),
    }
    Ok(())
}

/// What [`add_members`] did.
pub struct Added {
    new: usize,
    updated: usize,
    /// Of the last member.
    last: Addition,
}

impl Added {
    /// The number that the client gets: of new members, or also of changed ones.
    pub fn counted(&self, changed: bool) -> i64 {
        (if changed { self.new + self.updated } else { self.new }) as i64
    }

    pub fn changed_nothing(&self) -> bool {
        self.new + self.updated == 0
    }
}

/// Adds at least one member with its score to the sorted set of argument 1, and tells the effects.
pub fn add_members<'a>(
    ctx: &mut Ctx<'a>,
    members: impl Iterator<Item = (&'a [u8], f64)> + Clone,
    rule: AddRule,
) -> Result<Added, CommandError> {
    let key = ctx.key(1);
    let limits = ctx.store.limits.clone();
    let mut added = Added { new: 0, updated: 0, last: Addition::Skipped };
    let mut fill = |set: &mut ZSet| {
        for (member, score) in members.clone() {
            added.last = set.add(member, score, rule, &limits);
            match added.last {
                Addition::Added => added.new += 1,
                Addition::Updated(_) => added.updated += 1,
                Addition::Same(_) | Addition::Skipped | Addition::NotANumber => {}
            }
        }
    };
    if let Some(mut set) = ctx.store.write_zset(key).map_err(wrong_type)? {
        fill(&mut set);
    } else if !rule.only_existing {
        let first = members.clone().next().map_or(&b""[..], |(member, _)| member);
        let mut set = ZSet::for_member(first, &limits);
        fill(&mut set);
        ctx.store.add(key, Object::ZSet(set));
    }
    if added.last == Addition::NotANumber {
        return Err(CommandError::NanScore);
    }
    if !added.changed_nothing() {
        ctx.store.modified_times(key.bytes, added.new + added.updated);
        let event = if rule.increment { "zincr" } else { "zadd" };
        ctx.store.notify(Event::ZSET, event, key.bytes);
    }
    Ok(added)
}

/// ZCARD key
const ZCARD: Command<Handler> = Command {
    name: "zcard",
    group: Group::SortedSet,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Counts the members of a sorted set.",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(zcard)
};

fn zcard(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?.map_or(0, |set| set.len());
    ctx.reply.int(count as i64);
    Ok(())
}

/// ZMSCORE key member [member ...]
const ZMSCORE: Command<Handler> = Command {
    name: "zmscore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N), N being the members asked for.",
        summary: "Returns the scores of several members.",
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(zmscore)
};

fn zmscore(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    let members = ctx.argv.tail(2);
    ctx.reply.array(members.len());
    let mut text = ScoreText::default();
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => text.reply(&mut ctx.reply, score),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// ZRANK key member [WITHSCORE]
const ZRANK: Command<Handler> = Command {
    name: "zrank",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Returns the position of a member, counted from the lowest score.",
        history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("member"),
            Arg::pure_token("withscore", "WITHSCORE").since("7.2.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrank)
};

fn zrank(ctx: &mut Ctx<'_>) -> CmdResult {
    rank(ctx, false)
}

/// ZREVRANK key member [WITHSCORE]
const ZREVRANK: Command<Handler> = Command {
    name: "zrevrank",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(log(N)), N being the members of the sorted set.",
        summary: "Returns the position of a member, counted from the highest score.",
        history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("member"),
            Arg::pure_token("withscore", "WITHSCORE").since("7.2.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrevrank)
};

fn zrevrank(ctx: &mut Ctx<'_>) -> CmdResult {
    rank(ctx, true)
}

fn rank(ctx: &mut Ctx<'_>, reverse: bool) -> CmdResult {
    if ctx.argv.len() > 4 {
        let name = if reverse { "zrevrank" } else { "zrank" };
        return Err(CommandError::WrongArity(name.into()));
    }
    let with_score = match ctx.argv.get(3) {
        None => false,
        Some(option) if is_token(option, "WITHSCORE") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    let member = &ctx.argv[2];
    let Some((set, rank)) = set.and_then(|set| Some((set, set.rank(member)?))) else {
        match with_score {
            true => ctx.reply.null_array(),
            false => ctx.reply.null(),
        }
        return Ok(());
    };
    let rank = if reverse { set.len() - 1 - rank } else { rank };
    if with_score {
        ctx.reply.array(2);
    }
    ctx.reply.int(rank as i64);
    if with_score {
        reply_score(&mut ctx.reply, set.score(member).expect("a member with a rank has a score"));
    }
    Ok(())
}

/// ZREM key member [member ...]
const ZREM: Command<Handler> = Command {
    name: "zrem",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(M*log(N)), N being the members of the sorted set and M those to remove.",
        summary: "Removes members from a sorted set; an emptied set is deleted.",
        history: &[("2.4.0", "Takes several members.")],
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(zrem)
};

fn zrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let Some(mut set) = ctx.store.write_zset(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let removed = ctx.argv.tail(2).iter().filter(|member| set.remove(member).is_some()).count();
    let emptied = set.is_empty();
    drop(set);
    if removed > 0 {
        ctx.store.notify(Event::ZSET, "zrem", key.bytes);
        if emptied {
            delete_emptied(ctx, key);
        }
        ctx.store.modified_times(key.bytes, removed);
    }
    ctx.reply.int(removed as i64);
    Ok(())
}

/// ZSCORE key member
const ZSCORE: Command<Handler> = Command {
    name: "zscore",
    group: Group::SortedSet,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Returns the score of a member.",
        arguments: &[Arg::key("key", 0), Arg::string("member")],
        ..Docs::NONE
    },
    ..Command::runs(zscore)
};

fn zscore(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?.and_then(|set| set.score(&ctx.argv[2])) {
        Some(score) => reply_score(&mut ctx.reply, score),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]
const ZSCAN: Command<Handler> = Command {
    name: "zscan",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1) per call, O(N) for all calls together.",
        summary: "Goes through the members and scores of a sorted set in steps.",
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::pure_token("noscores", "NOSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zscan)
};

fn zscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.argv.cursor(2)?;
    let Some(set) = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)? else {
        reply_empty_scan(&mut ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(ctx.argv, 3, Over::SortedSet)?;
    reply_scan(&mut ctx.reply, cursor, &options, |cursor, visit| {
        set.scan(cursor, |member, score| visit(member, (!options.names_only).then_some(score)))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn a_scan_may_leave_the_scores_out() {
        let mut h = Harness::new();
        h.run("ZADD z 1 a 2 b");
        assert_eq!(h.run("ZSCAN z 0 noscores"), r"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(h.run("ZSCAN z 0 NOVALUES"), "-ERR syntax error\\r\\n");
    }

    #[test]
    fn an_increment_that_reads_as_an_option_is_a_syntax_error() {
        let mut h = Harness::new();
        assert_eq!(h.run("ZINCRBY z nx a"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("ZINCRBY z x a"), r"-ERR value is not a valid float\r\n");
    }

    #[test]
    fn a_rank_may_come_with_its_score() {
        let mut h = Harness::new();
        h.run("ZADD z 1 a 2.5 b");
        for (line, reply) in [
            ("ZRANK z b", r":1\r\n"),
            ("ZRANK z b withscore", r"*2\r\n:1\r\n$3\r\n2.5\r\n"),
            ("ZREVRANK z b WITHSCORE", r"*2\r\n:0\r\n$3\r\n2.5\r\n"),
            ("ZRANK z x", r"$-1\r\n"),
            ("ZRANK z x WITHSCORE", r"*-1\r\n"),
            ("ZRANK none x WITHSCORE", r"*-1\r\n"),
            ("ZRANK z b SCORE", r"-ERR syntax error\r\n"),
            ("ZREVRANK z b WITHSCORE 1", r"-ERR wrong number of arguments for 'zrevrank' command\r\n"),
        ] {
            assert_eq!(h.run(line).replace("\\'", "'"), reply, "{line}");
        }
        assert_eq!(h.resp3().run("ZRANK z b WITHSCORE"), r"*2\r\n:1\r\n,2.5\r\n");
        assert_eq!(h.run("ZRANK z x WITHSCORE"), r"_\r\n");
    }
}
