//! Sorted sets: members from either end, and random ones.

use std::collections::HashSet;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::{Key as DbKey, ZSet};
use resp::{Args, Proto};
use structures::listpack::Entry;
use structures::number::IntText;

use crate::commands::elements::{Pairs, Sampling, counted_keys, delete_emptied, reply_entry, sampling_pays};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[ZMPOP, ZPOPMAX, ZPOPMIN, ZRANDMEMBER];

/// An end of a sorted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Min,
    Max,
}

impl Side {
    fn event(self) -> &'static str {
        match self {
            Side::Min => "zpopmin",
            Side::Max => "zpopmax",
        }
    }

    fn command(self) -> &'static [u8] {
        match self {
            Side::Min => b"ZPOPMIN",
            Side::Max => b"ZPOPMAX",
        }
    }
}

pub(super) const SIDES: &[Arg] = &[Arg::pure_token("min", "MIN"), Arg::pure_token("max", "MAX")];

/// How popped members are replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Flat,
    Nested,
    /// The key, then pairs.
    WithKey,
    /// The key, the member and its score in one array: of one member.
    FlatWithKey,
}

/// ZPOPMAX key [count]
const ZPOPMAX: Command<Handler> = Command {
    name: "zpopmax",
    group: Group::SortedSet,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(M*log(N)), N being the members of the sorted set and M those popped.",
        summary: "Removes and returns the members with the highest scores.",
        arguments: &[Arg::key("key", 0), Arg::integer("count").optional()],
        ..Docs::NONE
    },
    ..Command::runs(zpopmax)
};

fn zpopmax(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_one_key(ctx, Side::Max)
}

/// ZPOPMIN key [count]
const ZPOPMIN: Command<Handler> = Command {
    name: "zpopmin",
    group: Group::SortedSet,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(M*log(N)), N being the members of the sorted set and M those popped.",
        summary: "Removes and returns the members with the lowest scores.",
        arguments: &[Arg::key("key", 0), Arg::integer("count").optional()],
        ..Docs::NONE
    },
    ..Command::runs(zpopmin)
};

fn zpopmin(ctx: &mut Ctx<'_>) -> CmdResult {
    pop_one_key(ctx, Side::Min)
}

fn pop_one_key(ctx: &mut Ctx<'_>, side: Side) -> CmdResult {
    let (count, form) = match ctx.argv.len() {
        2 => (1, Form::Flat),
        3 if ctx.reply.proto() == Proto::Resp3 => (ctx.argv.positive(2)?, Form::Nested),
        3 => (ctx.argv.positive(2)?, Form::Flat),
        _ => return Err(CommandError::Syntax),
    };
    let key = ctx.key(1);
    if ctx.store.write_zset(key).map_err(wrong_type)?.is_none() || count == 0 {
        ctx.reply.array(0);
        return Ok(());
    }
    pop(ctx, key, side, count as usize, form)?;
    Ok(())
}

/// ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]
const ZMPOP: Command<Handler> = Command {
    name: "zmpop",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::count_at(1, &[Key::Rw, Key::Access, Key::Delete])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(K)+O(M*log(N)), K being the keys, N the members of the sorted set and M those popped.",
        summary: "Removes and returns members with the lowest or highest scores from the first sorted set that has any.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::one_of("where", SIDES),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zmpop)
};

fn zmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let wanted = MultiPop::parse(ctx.argv, 1)?;
    if !pop_some(ctx, &wanted)? {
        ctx.reply.null_array();
    }
    Ok(())
}

/// The arguments of `ZMPOP` and `BZMPOP`.
pub(super) struct MultiPop<'a> {
    pub keys: Args<'a>,
    side: Side,
    count: usize,
}

impl<'a> MultiPop<'a> {
    /// Argument `at` is the number of keys.
    pub(super) fn parse(argv: Args<'a>, at: usize) -> Result<MultiPop<'a>, CommandError> {
        let (keys, numkeys) = counted_keys(argv, at)?;
        let mut options = Options::new(argv, numkeys.saturating_add(at + 1));
        let side = match options.value()? {
            word if is_token(word, "MIN") => Side::Min,
            word if is_token(word, "MAX") => Side::Max,
            _ => return Err(CommandError::Syntax),
        };
        let mut count = None;
        while let Some(option) = options.next() {
            if count.is_some() || !is_token(option, "COUNT") || options.rest().is_empty() {
                return Err(CommandError::Syntax);
            }
            let error = CommandError::fixed("ERR count should be greater than 0");
            count = Some(options.int_within_or(1..=i64::MAX, error)? as usize);
        }
        Ok(MultiPop { keys, side, count: count.unwrap_or(1) })
    }
}

/// Pops members of the first sorted set that has some, replies with them, and propagates that as one pop; false if
/// there is none.
pub(super) fn pop_some(ctx: &mut Ctx<'_>, wanted: &MultiPop<'_>) -> Result<bool, CommandError> {
    let Some(key) = first_present(ctx, wanted.keys)? else { return Ok(false) };
    let popped = pop(ctx, key, wanted.side, wanted.count, Form::WithKey)?;
    let mut scratch = IntText::new();
    ctx.store.effects.propagate_as(&[wanted.side.command(), key.bytes, scratch.format(popped as i64)]);
    Ok(true)
}

/// Pops one member of the first of `keys` that has some, replies with both and its score, and propagates that as one
/// pop; false if there is none.
pub(super) fn pop_one(ctx: &mut Ctx<'_>, keys: Args<'_>, side: Side) -> Result<bool, CommandError> {
    let Some(key) = first_present(ctx, keys)? else { return Ok(false) };
    pop(ctx, key, side, 1, Form::FlatWithKey)?;
    ctx.store.effects.propagate_as(&[side.command(), key.bytes]);
    Ok(true)
}

/// The first of `keys` that exists: a sorted set, or an error.
fn first_present<'a>(ctx: &mut Ctx<'_>, keys: Args<'a>) -> Result<Option<DbKey<'a>>, CommandError> {
    for key in keys.iter().map(DbKey::new) {
        if ctx.considers(key.bytes) && ctx.store.write_zset(key).map_err(wrong_type)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Pops up to `count` members, 1 or more, of a sorted set that exists; how many they were.
fn pop(
    ctx: &mut Ctx<'_>,
    key: DbKey<'_>,
    side: Side,
    count: usize,
    form: Form,
) -> Result<usize, CommandError> {
    let mut set = ctx.store.write_zset(key).map_err(wrong_type)?.expect("the caller has seen it");
    let len = set.len();
    let count = count.min(len);
    let reply = &mut ctx.reply;
    let mut pairs = match form {
        Form::Flat => Pairs::begin_flat(reply, count),
        Form::Nested => Pairs::begin_nested(reply, count),
        Form::WithKey => {
            reply.array(2);
            reply.bulk(key.bytes);
            Pairs::begin_nested(reply, count)
        }
        Form::FlatWithKey => Pairs::begin_flat_after(reply, key.bytes),
    };
    let ranks = match side {
        Side::Min => 0..count,
        Side::Max => len - count..len,
    };
    set.visit(ranks.clone(), side == Side::Max, |member, score| pairs.reply(reply, member, score));
    set.remove_ranks(ranks);
    drop(set);
    ctx.store.notify(Event::ZSET, side.event(), key.bytes);
    ctx.store.modified_times(key.bytes, count);
    if count == len {
        delete_emptied(ctx, key);
    }
    Ok(count)
}

/// ZRANDMEMBER key [count [WITHSCORES]]
const ZRANDMEMBER: Command<Handler> = Command {
    name: "zrandmember",
    group: Group::SortedSet,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N), N being the members returned.",
        summary: "Returns one or several random members of a sorted set.",
        arguments: &[
            Arg::key("key", 0),
            Arg::block(
                "options",
                &[Arg::integer("count"), Arg::pure_token("withscores", "WITHSCORES").optional()],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zrandmember)
};

fn zrandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.argv.len() > 2 {
        return zrandmember_count(ctx);
    }
    let mut rng = ctx.store.fork_rng();
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    match set.as_ref().and_then(|set| set.random(&mut rng)) {
        None => ctx.reply.null(),
        Some((member, _)) => reply_entry(&mut ctx.reply, member),
    }
    Ok(())
}

fn zrandmember_count(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.argv.int_within(2, -i64::MAX..=i64::MAX)?;
    let with_scores = match ctx.argv.len() {
        3 => false,
        4 if ctx.argv.is(3, "WITHSCORES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    let mut rng = ctx.store.fork_rng();
    let Some(set) = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let (wanted, size) = (count.unsigned_abs() as usize, set.len());
    let reply = &mut ctx.reply;
    if count < 0 || wanted == 1 {
        let limit = ctx.core.reply_limit(ctx.session);
        let mut pairs = Pairs::begin(reply, wanted, with_scores);
        for _ in 0..wanted {
            if reply.pending_bytes() >= limit {
                break;
            }
            let (member, score) = set.random(&mut rng).expect("a sorted set in a database is not empty");
            pairs.reply(reply, member, score);
        }
        return Ok(());
    }
    let wanted = wanted.min(size);
    let mut pairs = Pairs::begin(reply, wanted, with_scores);
    match set {
        ZSet::Ordered(_) if !sampling_pays(wanted, size) => {
            let mut places = HashSet::with_capacity(wanted);
            while places.len() < wanted {
                let (member, score) = set.random(&mut rng).expect("a sorted set in a database is not empty");
                let Entry::Str(text) = member else { unreachable!("an ordered set holds texts") };
                // Members differ in where they lie.
                if places.insert(text.as_ptr()) {
                    pairs.reply(reply, member, score);
                }
            }
        }
        _ => {
            let mut sampling = Sampling::new(wanted, size, &mut rng);
            for (member, score) in &set {
                if sampling.takes_next() {
                    pairs.reply(reply, member, score);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::testing::Harness;

    /// Node with a sorted set `t` of 40 members (the large form) and one `l` (a listpack).
    fn harness() -> Harness {
        let mut h = Harness::new();
        (0..40).for_each(|index| drop(h.run(&format!("ZADD l {index} m{index}"))));
        h.node.store.limits.zset_entries = 0;
        (0..40).for_each(|index| drop(h.run(&format!("ZADD t {index} m{index}"))));
        h.propagated();
        h
    }

    fn bulks(reply: &str) -> Vec<String> {
        reply.split(r"\r\n").skip(2).step_by(2).filter(|text| !text.is_empty()).map(Into::into).collect()
    }

    #[test]
    fn picked_members_differ_and_bring_their_scores() {
        let mut h = harness();
        for key in ["t", "l"] {
            for (count, expected) in [(1, 1), (2, 2), (13, 13), (14, 14), (39, 39), (40, 40), (99, 40)] {
                let picked = bulks(&h.run(&format!("ZRANDMEMBER {key} {count}")));
                let scored = bulks(&h.run(&format!("ZRANDMEMBER {key} {count} WITHSCORES")));
                assert_eq!(picked.len(), expected);
                assert_eq!(picked.iter().collect::<std::collections::BTreeSet<_>>().len(), expected);
                let pairs: BTreeMap<_, _> = scored.chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
                assert_eq!(pairs.len(), expected);
                assert!(pairs.iter().all(|(member, score)| **member == format!("m{score}")));
            }
            assert_eq!(bulks(&h.run(&format!("ZRANDMEMBER {key} -100"))).len(), 100);
        }
    }

    #[test]
    fn every_member_is_picked_alike() {
        let mut h = harness();
        for key in ["t", "l"] {
            for count in [-40, 4, 20] {
                let (mut seen, mut drawn) = (BTreeMap::<String, f64>::new(), 0.0);
                while drawn < 8000.0 {
                    for member in bulks(&h.run(&format!("ZRANDMEMBER {key} {count}"))) {
                        *seen.entry(member).or_default() += 1.0;
                        drawn += 1.0;
                    }
                }
                let mean = drawn / 40.0;
                let chi_square: f64 = seen.values().map(|count| (count - mean).powi(2) / mean).sum();
                assert_eq!(seen.len(), 40);
                assert!(chi_square < 110.0, "{key} {count}: {chi_square}");
            }
        }
    }

    #[test]
    fn zmpop_is_propagated_as_what_it_popped() {
        let mut h = Harness::new();
        h.run("ZADD a 1 one 2 two 3 three");
        h.propagated();
        h.run("ZMPOP 2 none a MIN");
        h.run("ZMPOP 2 none a MAX COUNT 10");
        h.run("ZMPOP 2 none a MAX COUNT 10");
        assert_eq!(h.propagated(), ["ZPOPMIN a 1", "ZPOPMAX a 2"]);
    }
}
