//! Sorted sets: intersection, union and difference, of plain sets too, whose members count as having score 1.
//!
//! The result is a list of borrowed members, sorted once, from which the reply or the stored value is written.

use std::collections::HashSet;
use std::collections::hash_map::{Entry as Slot, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::zset::compare;
use keyspace::{EntryExt, Key as DbKey, Object, SetRef, ZSet, ZSetRef};
use structures::hash::hash;
use structures::listpack::Entry;
use structures::number::{IntText, parse_f64, parse_i64};

use crate::commands::elements::{Pairs, store_result};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::notify::Event;
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] =
    &[ZDIFF, ZDIFFSTORE, ZINTER, ZINTERCARD, ZINTERSTORE, ZUNION, ZUNIONSTORE];

/// With more sets than this, collecting what they hold is cheaper than asking each of them about every member.
const ASKED_ONE_BY_ONE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What the command's name says about its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Reply,
    Store,
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

/// A parsed command: its sources in the order given, with their weights.
struct Combine<'k> {
    sources: Vec<(Option<DbKey<'k>>, f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    /// 0 for none.
    limit: usize,
}

/// A set or a sorted set to be combined.
#[derive(Clone, Copy)]
enum Source<'s> {
    Set(SetRef<'s>),
    ZSet(ZSetRef<'s>),
}

/// A member, spelled alike whatever the encoding it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name<'s> {
    Int(i64),
    Text(&'s [u8]),
}

/// Takes the hash that a [`Name`] brings.
#[derive(Default)]
struct Passed(u64);

type NameHash = BuildHasherDefault<Passed>;
type Members<'s> = Vec<(Entry<'s>, f64)>;

impl Aggregate {
    fn apply(self, total: &mut f64, value: f64) {
        match self {
            // Infinity and its opposite make nothing.
            Aggregate::Sum => *total = number_or_zero(*total + value),
            Aggregate::Min if value < *total => *total = value,
            Aggregate::Max if value > *total => *total = value,
            Aggregate::Min | Aggregate::Max => {}
        }
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

impl<'s> Source<'s> {
    fn len(self) -> usize {
        match self {
            Source::Set(set) => set.len(),
            Source::ZSet(set) => set.len(),
        }
    }

    fn is(self, other: Source<'_>) -> bool {
        match (self, other) {
            (Source::Set(a), Source::Set(b)) => a.is_same(b),
            (Source::ZSet(a), Source::ZSet(b)) => a.is_same(b),
            _ => false,
        }
    }

    /// Gives members and scores to `visit` until it returns false.
    fn visit(self, mut visit: impl FnMut(Entry<'s>, f64) -> bool) {
        match self {
            Source::Set(set) => {
                set.members().all(|member| visit(member, 1.0));
            }
            Source::ZSet(set) => {
                set.members().all(|(member, score)| visit(member, score));
            }
        }
    }

    fn score(self, member: Entry<'_>) -> Option<f64> {
        match (self, member) {
            (Source::Set(set), member) => set.contains_entry(member).then_some(1.0),
            (Source::ZSet(set), Entry::Str(text)) => set.score(text),
            (Source::ZSet(set), Entry::Int(value)) => set.score(IntText::new().format(value)),
        }
    }
}

impl<'s> Name<'s> {
    fn of(entry: Entry<'s>) -> Name<'s> {
        match entry {
            Entry::Int(value) => Name::Int(value),
            Entry::Str(text) => parse_i64(text).map_or(Name::Text(text), Name::Int),
        }
    }
}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(match self {
            Name::Int(value) => hash(&value.to_le_bytes()),
            Name::Text(text) => hash(text),
        });
    }
}

impl Hasher for Passed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a name brings its hash in one word");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<'k> Combine<'k> {
    /// Reads `numkeys key … [option …]` from argument `at` on. The keys are looked up before the options are read, so
    /// that the errors come in the order that clients know.
    fn parse(ctx: &mut Ctx<'k>, at: usize, operation: Operation, form: Form) -> Result<Self, CommandError> {
        let argv = ctx.argv;
        let numkeys = argv.int(at)?;
        if numkeys < 1 {
            let name = &ctx.command.full_name;
            return Err(CommandError::text(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let keys = argv.tail(at + 1);
        let numkeys = usize::try_from(numkeys).unwrap_or(usize::MAX);
        if numkeys > keys.len() {
            return Err(CommandError::Syntax);
        }
        let mut sources = Vec::with_capacity(numkeys);
        for key in keys.head(numkeys).iter().map(DbKey::new) {
            let found = match ctx.store.read(key) {
                None => None,
                Some(entry) if entry.as_set().is_ok() || entry.as_zset().is_ok() => Some(key),
                Some(_) => return Err(CommandError::WrongType),
            };
            sources.push((found, 1.0));
        }
        let mut parsed = Combine { sources, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let scored = operation != Operation::Diff && form != Form::Count;
        let mut options = Options::new(argv, at + 1 + numkeys);
        while let Some(option) = options.next() {
            let values = options.rest().len();
            if scored && values >= numkeys && is_token(option, "WEIGHTS") {
                for (_, weight) in &mut parsed.sources {
                    let error = CommandError::fixed("ERR weight value is not a float");
                    *weight = parse_f64(options.value()?).ok_or(error)?;
                }
            } else if scored && values >= 1 && is_token(option, "AGGREGATE") {
                parsed.aggregate = match options.value()? {
                    word if is_token(word, "SUM") => Aggregate::Sum,
                    word if is_token(word, "MIN") => Aggregate::Min,
                    word if is_token(word, "MAX") => Aggregate::Max,
                    _ => return Err(CommandError::Syntax),
                };
            } else if form == Form::Reply && is_token(option, "WITHSCORES") {
                parsed.with_scores = true;
            } else if form == Form::Count && values >= 1 && is_token(option, "LIMIT") {
                let error = CommandError::fixed("ERR LIMIT can't be negative");
                parsed.limit = options.int_within_or(0..=i64::MAX, error)? as usize;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(parsed)
    }

    /// The sources with their weights; `None` stands for an empty one.
    fn sources<'s>(&self, store: &'s Store) -> Vec<(Option<Source<'s>>, f64)> {
        let source = |key| {
            let entry = store.db().peek(key)?;
            entry.as_zset().map(Source::ZSet).or_else(|_| entry.as_set().map(Source::Set)).ok()
        };
        self.sources.iter().map(|(key, weight)| (key.and_then(source), *weight)).collect()
    }

    /// The members of the result in order.
    fn run<'s>(&self, store: &'s Store, operation: Operation) -> Members<'s> {
        let mut sources = self.sources(store);
        if operation != Operation::Diff {
            // The smallest first: it decides how much there is to look up, and sums are made in this order.
            sources.sort_by_key(|(source, _)| source.map_or(0, Source::len));
        }
        let mut members = match operation {
            Operation::Union => unite(&sources, self.aggregate),
            Operation::Inter => {
                let mut members = Vec::new();
                intersect(&sources, self.aggregate, |member, score| {
                    members.push((member, score));
                    true
                });
                members
            }
            Operation::Diff => subtract(&sources),
        };
        members.sort_unstable_by(|a, b| compare(*a, *b));
        members
    }
}

/// ZDIFF numkeys key [key ...] [WITHSCORES]
const ZDIFF: Command<Handler> = Command {
    name: "zdiff",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::count_at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(L+(N-K)*log(N)), L being the members of all sets, N those of the first and K those of the result.",
        summary: "Returns the members of the first sorted set that are in none of the others.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zdiff)
};

fn zdiff(ctx: &mut Ctx<'_>) -> CmdResult {
    reply_combined(ctx, Operation::Diff)
}

/// ZDIFFSTORE destination numkeys key [key ...]
const ZDIFFSTORE: Command<Handler> = Command {
    name: "zdiffstore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::count_at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(L+(N-K)*log(N)), L being the members of all sets, N those of the first and K those of the result.",
        summary: "Stores the members of the first sorted set that are in none of the others.",
        arguments: &[Arg::key("destination", 0), Arg::integer("numkeys"), Arg::key("key", 1).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(zdiffstore)
};

fn zdiffstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_combined(ctx, Operation::Diff, "zdiffstore")
}

/// ZINTER numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
const ZINTER: Command<Handler> = Command {
    name: "zinter",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::count_at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N*K)+O(M*log(M)), N being the members of the smallest set, K the sets and M the members of the result.",
        summary: "Returns the members that all sorted sets have in common, their scores combined.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[
                    Arg::pure_token("sum", "SUM"),
                    Arg::pure_token("min", "MIN"),
                    Arg::pure_token("max", "MAX"),
                ],
            )
            .token("AGGREGATE")
            .optional(),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zinter)
};

fn zinter(ctx: &mut Ctx<'_>) -> CmdResult {
    reply_combined(ctx, Operation::Inter)
}

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]
const ZINTERCARD: Command<Handler> = Command {
    name: "zintercard",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::count_at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N*K), N being the members of the smallest set and K the sets.",
        summary: "Counts the members that all sorted sets have in common.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zintercard)
};

fn zintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let combine = Combine::parse(ctx, 1, Operation::Inter, Form::Count)?;
    let mut sources = combine.sources(ctx.store);
    sources.sort_by_key(|(source, _)| source.map_or(0, Source::len));
    let mut count = 0;
    intersect(&sources, Aggregate::Sum, |_, _| {
        count += 1;
        count != combine.limit
    });
    ctx.reply.int(count as i64);
    Ok(())
}

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE <SUM | MIN | MAX>]
const ZINTERSTORE: Command<Handler> = Command {
    name: "zinterstore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::count_at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N*K)+O(M*log(M)), N being the members of the smallest set, K the sets and M the members of the result.",
        summary: "Stores the members that all sorted sets have in common, their scores combined.",
        arguments: &[
            Arg::key("destination", 0),
            Arg::integer("numkeys"),
            Arg::key("key", 1).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[
                    Arg::pure_token("sum", "SUM"),
                    Arg::pure_token("min", "MIN"),
                    Arg::pure_token("max", "MAX"),
                ],
            )
            .token("AGGREGATE")
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zinterstore)
};

fn zinterstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_combined(ctx, Operation::Inter, "zinterstore")
}

/// ZUNION numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
const ZUNION: Command<Handler> = Command {
    name: "zunion",
    group: Group::SortedSet,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::count_at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N)+O(M*log(M)), N being the members of all sets together and M those of the result.",
        summary: "Returns the members that are in any of the sorted sets, their scores combined.",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::key("key", 0).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[
                    Arg::pure_token("sum", "SUM"),
                    Arg::pure_token("min", "MIN"),
                    Arg::pure_token("max", "MAX"),
                ],
            )
            .token("AGGREGATE")
            .optional(),
            Arg::pure_token("withscores", "WITHSCORES").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zunion)
};

fn zunion(ctx: &mut Ctx<'_>) -> CmdResult {
    reply_combined(ctx, Operation::Union)
}

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [WEIGHTS weight ...]] [AGGREGATE <SUM | MIN | MAX>]
const ZUNIONSTORE: Command<Handler> = Command {
    name: "zunionstore",
    group: Group::SortedSet,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::SortedSet]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::count_at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N)+O(M*log(M)), N being the members of all sets together and M those of the result.",
        summary: "Stores the members that are in any of the sorted sets, their scores combined.",
        arguments: &[
            Arg::key("destination", 0),
            Arg::integer("numkeys"),
            Arg::key("key", 1).multiple(),
            Arg::integer("weight").token("WEIGHTS").optional().multiple(),
            Arg::one_of(
                "aggregate",
                &[
                    Arg::pure_token("sum", "SUM"),
                    Arg::pure_token("min", "MIN"),
                    Arg::pure_token("max", "MAX"),
                ],
            )
            .token("AGGREGATE")
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(zunionstore)
};

fn zunionstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_combined(ctx, Operation::Union, "zunionstore")
}

fn reply_combined(ctx: &mut Ctx<'_>, operation: Operation) -> CmdResult {
    let combine = Combine::parse(ctx, 1, operation, Form::Reply)?;
    let members = combine.run(ctx.store, operation);
    let mut pairs = Pairs::begin(&mut ctx.reply, members.len(), combine.with_scores);
    for (member, score) in members {
        pairs.reply(&mut ctx.reply, member, score);
    }
    Ok(())
}

fn store_combined(ctx: &mut Ctx<'_>, operation: Operation, event: &'static str) -> CmdResult {
    let combine = Combine::parse(ctx, 2, operation, Form::Store)?;
    let members = combine.run(ctx.store, operation);
    let result = (!members.is_empty()).then(|| {
        let set = ZSet::from_sorted(&members, &ctx.store.limits);
        (Object::ZSet(set), members.len())
    });
    store_result(ctx, ctx.key(1), result, Event::ZSET, event);
    Ok(())
}

/// Gives the members that all sources have, the smallest of which is first, to `found` until it returns false.
fn intersect<'s>(
    sources: &[(Option<Source<'s>>, f64)],
    aggregate: Aggregate,
    mut found: impl FnMut(Entry<'s>, f64) -> bool,
) {
    let (Some(first), weight) = sources[0] else { return };
    first.visit(|member, own| {
        let mut total = number_or_zero(weight * own);
        for (source, weight) in &sources[1..] {
            let Some(source) = source else { return false };
            let score = if source.is(first) { Some(own) } else { source.score(member) };
            let Some(score) = score else { return true };
            aggregate.apply(&mut total, score * weight);
        }
        found(member, total)
    });
}

fn unite<'s>(sources: &[(Option<Source<'s>>, f64)], aggregate: Aggregate) -> Members<'s> {
    let largest = sources.iter().filter_map(|(source, _)| *source).map(Source::len).max().unwrap_or(0);
    let mut places: HashMap<Name<'s>, usize, NameHash> =
        HashMap::with_capacity_and_hasher(largest, NameHash::default());
    let mut members: Members<'s> = Vec::with_capacity(largest);
    for (source, weight) in sources {
        let Some(source) = source else { continue };
        source.visit(|member, score| {
            let score = number_or_zero(weight * score);
            match places.entry(Name::of(member)) {
                Slot::Occupied(place) => aggregate.apply(&mut members[*place.get()].1, score),
                Slot::Vacant(place) => {
                    place.insert(members.len());
                    members.push((member, score));
                }
            }
            true
        });
    }
    members
}

/// The members of the first source that no other has.
fn subtract<'s>(sources: &[(Option<Source<'s>>, f64)]) -> Members<'s> {
    let Some(first) = sources[0].0 else { return Vec::new() };
    let others: Vec<Source<'s>> = sources[1..].iter().filter_map(|(source, _)| *source).collect();
    let mut members = Vec::new();
    if others.iter().any(|other| other.is(first)) {
        return members;
    }
    let others_len: usize = others.iter().map(|other| other.len()).sum();
    if others.len() > ASKED_ONE_BY_ONE && others_len < first.len() * others.len() / 2 {
        let mut names: HashSet<Name<'s>, NameHash> = HashSet::default();
        for other in &others {
            other.visit(|member, _| {
                names.insert(Name::of(member));
                true
            });
        }
        first.visit(|member, score| {
            if !names.contains(&Name::of(member)) {
                members.push((member, score));
            }
            true
        });
    } else {
        first.visit(|member, score| {
            if others.iter().all(|other| other.score(member).is_none()) {
                members.push((member, score));
            }
            true
        });
    }
    members
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::testing::Harness;

    #[test]
    fn operations_agree_with_a_model() {
        let mut state = 5u64;
        let mut rng = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for round in 0..60 {
            let mut h = Harness::new();
            h.node.store.limits.zset_entries = [0, 20, 128][round % 3];
            let count = 1 + rng() as usize % 8;
            let mut sets = vec![BTreeMap::new(); count];
            for (index, set) in sets.iter_mut().enumerate() {
                let (size, plain) = ([0, 3, 30, 200][rng() as usize % 4], rng() % 3 == 0);
                for _ in 0..size {
                    let value = rng() % 200;
                    let member = if value % 2 == 0 { value.to_string() } else { format!("m{value}") };
                    let score = if plain { 1 } else { rng() as i64 % 10 - 5 };
                    let (verb, given) =
                        if plain { ("SADD", String::new()) } else { ("ZADD", score.to_string()) };
                    h.run(&format!("{verb} s{index} {given} {member}"));
                    set.insert(member, score);
                }
            }
            let keys: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
            let keys = format!("{count} {}", keys.join(" "));
            let sum = |member: &String| sets.iter().filter_map(|set| set.get(member)).sum::<i64>();
            let (first, others) = sets.split_first().expect("there is one");
            let union: BTreeMap<_, _> = sets.iter().flat_map(|set| set.keys()).map(|m| (m, sum(m))).collect();
            let mut inter = union.clone();
            inter.retain(|member, _| sets.iter().all(|set| set.contains_key(*member)));
            let mut diff: BTreeMap<_, _> = first.iter().map(|(member, score)| (member, *score)).collect();
            diff.retain(|member, _| !others.iter().any(|set| set.contains_key(*member)));
            for (name, expected) in [("UNION", union), ("INTER", inter), ("DIFF", diff)] {
                let mut sorted: Vec<_> = expected.into_iter().collect();
                sorted.sort_by_key(|(member, score)| (*score, *member));
                let flat: Vec<String> = sorted
                    .iter()
                    .flat_map(|(member, score)| [member.to_string(), score.to_string()])
                    .map(|text| format!(r"${}\r\n{text}\r\n", text.len()))
                    .collect();
                let expected = format!(r"*{}\r\n{}", flat.len(), flat.concat());
                assert_eq!(h.run(&format!("Z{name} {keys} WITHSCORES")), expected, "{name} {keys}");
                let stored = h.run(&format!("Z{name}STORE d {keys}"));
                assert_eq!(stored, format!(r":{}\r\n", sorted.len()));
                assert_eq!(h.run("ZRANGE d 0 -1 WITHSCORES"), expected);
                if name == "INTER" {
                    assert_eq!(h.run(&format!("ZINTERCARD {keys}")), stored);
                }
            }
        }
    }
}
