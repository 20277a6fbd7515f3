//! Sets: intersection, union and difference.
//!
//! What is asked for is streamed into the reply, without a set in between, as long as the sets are few. Look-ups into
//! tables go in batches whose places are prefetched first.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::{EncodingLimits, EntryExt, Key as DbKey, Object, Set, SetRef};
use resp::Args;
use structures::hash::hash;
use structures::listpack::Entry;

use crate::commands::elements::{counted_keys, reply_entry, store_result};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] =
    &[SDIFF, SDIFFSTORE, SINTER, SINTERCARD, SINTERSTORE, SUNION, SUNIONSTORE];

/// Members that are looked up together.
const BATCH: usize = 16;

/// With more sets than this, merging them first is cheaper than asking each of them about every member.
const ASKED_ONE_BY_ONE: usize = 4;

/// A set that is up to this many times larger is compared with as a whole; members are looked up in one that is larger
/// still.
const COMPARED_WHOLE: usize = 8;

/// SDIFF key [key ...]
const SDIFF: Command<Handler> = Command {
    name: "sdiff",
    group: Group::Set,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members of all sets together.",
        summary: "Returns the members of the first set that are in none of the others.",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sdiff)
};

fn sdiff(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(1))?;
    let (mark, mut count) = (ctx.reply.begin_deferred(), 0);
    subtract(&sets(ctx.store, &keys), &ctx.store.limits, |member| {
        reply_entry(&mut ctx.reply, member);
        count += 1;
    });
    ctx.reply.end_set(mark, count);
    Ok(())
}

/// SDIFFSTORE destination key [key ...]
const SDIFFSTORE: Command<Handler> = Command {
    name: "sdiffstore",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::range(2, -1, 1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members of all sets together.",
        summary: "Stores the members of the first set that are in none of the others.",
        arguments: &[Arg::key("destination", 0), Arg::key("key", 1).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sdiffstore)
};

fn sdiffstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(2))?;
    let (mut result, limits) = (Set::for_result(), &ctx.store.limits);
    subtract(&sets(ctx.store, &keys), limits, |member| {
        result.add_entry(member, limits);
    });
    store_set(ctx, result, "sdiffstore")
}

/// SINTER key [key ...]
const SINTER: Command<Handler> = Command {
    name: "sinter",
    group: Group::Set,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N*M), N being the members of the smallest set and M the number of sets.",
        summary: "Returns the members that all sets have in common.",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sinter)
};

fn sinter(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(1))?;
    let (mark, mut count) = (ctx.reply.begin_deferred(), 0);
    intersect(&sets(ctx.store, &keys), |member| {
        reply_entry(&mut ctx.reply, member);
        count += 1;
        true
    });
    ctx.reply.end_set(mark, count);
    Ok(())
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
const SINTERCARD: Command<Handler> = Command {
    name: "sintercard",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::count_at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N*M), N being the members of the smallest set and M the number of sets.",
        summary: "Counts the members that all sets have in common.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(sintercard)
};

fn sintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let (keys, numkeys) = counted_keys(ctx.argv, 1)?;
    if keys.len() < numkeys {
        return Err(CommandError::fixed("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    let mut options = Options::new(ctx.argv, 2 + numkeys);
    while let Some(option) = options.next() {
        if !is_token(option, "LIMIT") || options.rest().is_empty() {
            return Err(CommandError::Syntax);
        }
        limit = options.int_within_or(0..=i64::MAX, CommandError::fixed("ERR LIMIT can't be negative"))?;
    }
    let keys = look_up(ctx.store, keys)?;
    let mut count = 0;
    intersect(&sets(ctx.store, &keys), |_| {
        count += 1;
        count != limit
    });
    ctx.reply.int(count);
    Ok(())
}

/// SINTERSTORE destination key [key ...]
const SINTERSTORE: Command<Handler> = Command {
    name: "sinterstore",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update]), KeySpec::range(2, -1, 1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N*M), N being the members of the smallest set and M the number of sets.",
        summary: "Stores the members that all sets have in common.",
        arguments: &[Arg::key("destination", 0), Arg::key("key", 1).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sinterstore)
};

fn sinterstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(2))?;
    let (mut result, limits) = (Set::for_result(), &ctx.store.limits);
    intersect(&sets(ctx.store, &keys), |member| {
        result.add_entry(member, limits);
        true
    });
    store_set(ctx, result, "sinterstore")
}

/// SUNION key [key ...]
const SUNION: Command<Handler> = Command {
    name: "sunion",
    group: Group::Set,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members of all sets together.",
        summary: "Returns the members that are in any of the sets.",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sunion)
};

fn sunion(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(1))?;
    let sets: Vec<SetRef<'_>> = sets(ctx.store, &keys).into_iter().flatten().collect();
    if sets.len() > ASKED_ONE_BY_ONE {
        let union = unite(&sets, &ctx.store.limits);
        ctx.reply.set(union.len());
        union.iter().for_each(|member| reply_entry(&mut ctx.reply, member));
        return Ok(());
    }
    let (mark, mut count) = (ctx.reply.begin_deferred(), 0);
    for (index, set) in sets.iter().enumerate() {
        select(*set, &sets[..index], false, |member| {
            reply_entry(&mut ctx.reply, member);
            count += 1;
            true
        });
    }
    ctx.reply.end_set(mark, count);
    Ok(())
}

/// SUNIONSTORE destination key [key ...]
const SUNIONSTORE: Command<Handler> = Command {
    name: "sunionstore",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::range(2, -1, 1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), N being the members of all sets together.",
        summary: "Stores the members that are in any of the sets.",
        arguments: &[Arg::key("destination", 0), Arg::key("key", 1).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(sunionstore)
};

fn sunionstore(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = look_up(ctx.store, ctx.argv.tail(2))?;
    let sets: Vec<SetRef<'_>> = sets(ctx.store, &keys).into_iter().flatten().collect();
    let result = unite(&sets, &ctx.store.limits);
    store_set(ctx, result, "sunionstore")
}

/// The keys that exist, in order. All are looked up, so that one of the wrong type is an error wherever it stands.
fn look_up<'k>(store: &mut Store, keys: Args<'k>) -> Result<Vec<Option<DbKey<'k>>>, CommandError> {
    let found = |key| {
        let key = DbKey::new(key);
        Ok(store.read_set(key).map_err(wrong_type)?.map(|_| key))
    };
    keys.iter().map(found).collect()
}

/// The sets that [`look_up`] found.
fn sets<'s>(store: &'s Store, keys: &[Option<DbKey<'_>>]) -> Vec<Option<SetRef<'s>>> {
    let set = |key| store.db().peek(key).and_then(|entry| entry.as_set().ok());
    keys.iter().map(|key| key.and_then(set)).collect()
}

fn store_set(ctx: &mut Ctx<'_>, result: Set, event: &'static str) -> CmdResult {
    let members = result.len();
    let result = (members > 0).then(|| (Object::Set(result), members));
    store_result(ctx, ctx.key(1), result, Event::SET, event);
    Ok(())
}

/// Gives the members that all sets have to `found` until it returns false.
fn intersect(sets: &[Option<SetRef<'_>>], found: impl FnMut(Entry<'_>) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<SetRef<'_>>>>() else { return };
    sets.sort_by_key(|set| set.len());
    select(sets[0], &sets[1..], true, found);
}

/// Gives the members of the first set that no other has to `found`.
fn subtract(sets: &[Option<SetRef<'_>>], limits: &EncodingLimits, mut found: impl FnMut(Entry<'_>)) {
    let Some(first) = sets[0] else { return };
    let mut others: Vec<SetRef<'_>> = sets[1..].iter().copied().flatten().collect();
    if others.iter().any(|other| other.is_same(first)) {
        return;
    }
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    let others_len: usize = others.iter().map(|set| set.len()).sum();
    let merged;
    if others.len() > ASKED_ONE_BY_ONE && others_len < first.len() * others.len() / 2 {
        merged = unite(&others, limits);
        others = vec![merged.view()];
    }
    select(first, &others, false, |member| {
        found(member);
        true
    });
}

fn unite(sets: &[SetRef<'_>], limits: &EncodingLimits) -> Set {
    let Some((largest, set)) = sets.iter().enumerate().max_by_key(|(_, set)| set.len()) else {
        return Set::for_result();
    };
    let all_ints = sets.iter().all(|set| matches!(set, Set::Intset(_)));
    let empty = if all_ints { Set::for_result() } else { Set::with_capacity(set.len(), limits) };
    // The members of one set differ, so none of them needs to be looked for.
    let (mut union, copied) = match (&empty, set) {
        (Set::Table(_), Set::Table(_)) => (set.duplicate(), Some(largest)),
        _ => (empty, None),
    };
    let mut united: Vec<SetRef<'_>> = copied.map(|index| sets[index]).into_iter().collect();
    for (_, set) in sets.iter().enumerate().filter(|(index, _)| Some(*index) != copied) {
        if sets.len() > ASKED_ONE_BY_ONE {
            set.iter().for_each(|member| {
                union.add_entry(member, limits);
            });
        } else {
            select(*set, &united, false, |member| {
                union.add_absent(member, limits);
                true
            });
        }
        united.push(*set);
    }
    union
}

/// Gives the members of `set` that every one of `others` has, or that none of them has, to `found`, until it returns
/// false.
fn select(set: SetRef<'_>, others: &[SetRef<'_>], wanted: bool, mut found: impl FnMut(Entry<'_>) -> bool) {
    let Set::Table(table) = set else {
        for member in set.iter() {
            let selected = others.iter().all(|other| other.contains_entry(member) == wanted);
            if selected && !found(member) {
                return;
            }
        }
        return;
    };
    if let [Set::Table(other)] = others
        && other.len() <= table.len().saturating_mul(COMPARED_WHOLE)
    {
        table.select(other, wanted, |member| found(Entry::Str(member.key())));
        return;
    }
    let mut members = table.iter();
    let mut batch: [(&[u8], u64); BATCH] = [(b"", 0); BATCH];
    loop {
        let mut records = [None; BATCH];
        let mut count = 0;
        for (place, member) in records.iter_mut().zip(members.by_ref()) {
            member.prefetch();
            *place = Some(member);
            count += 1;
        }
        for (place, member) in batch.iter_mut().zip(records.into_iter().flatten()) {
            *place = (member.key(), hash(member.key()));
        }
        let full = count == BATCH;
        for other in others {
            other.prefetch(batch[..count].iter().map(|(_, hash)| *hash));
            let mut kept = 0;
            for index in 0..count {
                let (member, hash) = batch[index];
                if other.contains_hashed(hash, member) == wanted {
                    batch[kept] = batch[index];
                    kept += 1;
                }
            }
            count = kept;
        }
        for (member, _) in &batch[..count] {
            if !found(Entry::Str(member)) {
                return;
            }
        }
        if !full {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::testing::Harness;

    fn members(reply: &str) -> BTreeSet<String> {
        let texts = reply.split(r"\r\n").skip(2).step_by(2).filter(|text| !text.is_empty());
        let (mut seen, mut count) = (BTreeSet::new(), 0);
        for text in texts {
            seen.insert(text.to_owned());
            count += 1;
        }
        assert_eq!(seen.len(), count, "no member comes twice");
        assert!(reply.starts_with(&format!("*{count}")));
        seen
    }

    /// Sets of all sizes and encodings, some of which hold texts, against the operations of a model.
    #[test]
    fn operations_agree_with_a_model() {
        let mut state = 11u64;
        let mut rng = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for round in 0..60 {
            let mut h = Harness::new();
            h.node.store.limits.set_intset_entries = 64;
            h.node.store.limits.set_listpack_entries = if round % 2 == 0 { 0 } else { 40 };
            let count = 1 + rng() as usize % 8;
            let mut sets = vec![BTreeSet::new(); count];
            for (index, set) in sets.iter_mut().enumerate() {
                let (size, ints) = ([0, 3, 30, 100, 300][rng() as usize % 5], rng() % 2 == 0);
                for _ in 0..size {
                    let value = rng() % 200;
                    let member = if ints || value % 2 == 0 { value.to_string() } else { format!("m{value}") };
                    h.run(&format!("SADD s{index} {member}"));
                    set.insert(member);
                }
            }
            let keys: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
            let keys = keys.join(" ");
            let (first, others) = sets.split_first().expect("there is one");
            let union = sets.iter().flatten().cloned().collect::<BTreeSet<_>>();
            let inter = others.iter().fold(first.clone(), |all, set| &all & set);
            let diff = others.iter().fold(first.clone(), |all, set| &all - set);
            for (name, expected) in [("UNION", union), ("INTER", inter), ("DIFF", diff)] {
                assert_eq!(members(&h.run(&format!("S{name} {keys}"))), expected, "{name} {keys}");
                let stored = h.run(&format!("S{name}STORE d {keys}"));
                assert_eq!(stored, format!(r":{}\r\n", expected.len()));
                assert_eq!(members(&h.run("SMEMBERS d")), expected);
                if name == "INTER" {
                    assert_eq!(h.run(&format!("SINTERCARD {count} {keys}")), stored);
                    let limited = h.run(&format!("SINTERCARD {count} {keys} LIMIT 2"));
                    assert_eq!(limited, format!(r":{}\r\n", expected.len().min(2)));
                }
            }
        }
    }

    #[test]
    fn a_target_may_be_a_source_and_loses_its_type() {
        let mut h = Harness::new();
        h.run("SADD a 1 2 x");
        h.run("SADD b 2 x y");
        h.run("ZADD z 1 m");
        assert_eq!(h.run("SINTERSTORE a a b"), r":2\r\n");
        assert_eq!(h.run("SUNIONSTORE z a b"), r":3\r\n");
        assert_eq!(h.run("SDIFFSTORE b b a"), r":1\r\n");
        assert_eq!(h.run("SMEMBERS b"), r"*1\r\n$1\r\ny\r\n");
    }
}
