//! SORT: the elements of a list, a set or a sorted set in order, by themselves or by what other keys say, replied or
//! stored.
//!
//! Every element gets its weight once, before anything is compared: a number, or a text in one buffer. Where other
//! keys are looked up the elements are copied first, into one buffer too, since a look-up may delete what has expired.

use std::cmp::Ordering;
use std::ops::Range;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeyFlags, KeyRef,
    KeySpec, Keys, ParseArgs, is_token,
};
use keyspace::set::text_of;
use keyspace::{EncodingLimits, EntryExt, Key as DbKey, List, Object, Type, ZSet};
use resp::{Args, Reply};
use smallvec::SmallVec;
use structures::listpack::Entry;
use structures::number::{IntText, parse_f64, parse_i64};
use structures::partial_sort::partial_sort;

use crate::commands::elements::reply_entry;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::notify::Event;
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] = &[SORT, SORT_RO];

const COMPLEXITY: &str =
    "O(N+M*log(M)), N being the elements of the key and M those returned; O(N) where nothing is sorted.";
const BY: Arg = Arg::pattern("pattern").token("BY").optional();
const LIMIT: Arg =
    Arg::block("offset_count", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional();
const GET: Arg = Arg::pattern("pattern").token("GET").optional().multiple_token();
const ORDER: Arg =
    Arg::one_of("order", &[Arg::pure_token("asc", "ASC"), Arg::pure_token("desc", "DESC")]).optional();
const ALPHA: Arg = Arg::pure_token("sorting", "ALPHA").optional();
const PATTERN_KEYS: KeySpec = KeySpec::unknown(&[Key::Ro, Key::Access]).notes(
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort",
);

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]
const SORT: Command<Handler> = Command {
    name: "sort",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Set, Category::SortedSet, Category::List, Category::Dangerous]),
    keys: &[
        KeySpec::at(1, &[Key::Ro, Key::Access]),
        PATTERN_KEYS,
        KeySpec::unknown(&[Key::Ow, Key::Update]).notes(
            "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
        ),
    ],
    get_keys: Some(sort_keys),
    docs: &Docs {
        since: "1.0.0",
        complexity: COMPLEXITY,
        summary: "Returns or stores the elements of a list, a set or a sorted set in order.",
        arguments: &[
            Arg::key("key", 0),
            BY,
            LIMIT,
            GET,
            ORDER,
            ALPHA,
            Arg::key("destination", 2).token("STORE").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| sort(ctx, true))
};

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]
const SORT_RO: Command<Handler> = Command {
    name: "sort_ro",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set, Category::SortedSet, Category::List, Category::Dangerous]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access]), PATTERN_KEYS],
    get_keys: Some(|_| Some(std::iter::once(key_ref(1, &[Key::Ro, Key::Access])).collect())),
    docs: &Docs {
        since: "7.0.0",
        complexity: COMPLEXITY,
        summary: "Returns the elements of a list, a set or a sorted set in order.",
        arguments: &[Arg::key("key", 0), BY, LIMIT, GET, ORDER, ALPHA],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| sort(ctx, false))
};

const fn key_ref(index: u32, flags: &[Key]) -> KeyRef {
    KeyRef { index, flags: KeyFlags::of(flags) }
}

/// The key that is sorted, and the last one that a `STORE` names. What is no option at all is skipped.
fn sort_keys(args: Args<'_>) -> Option<Keys> {
    let mut destination = None;
    let mut at = 2;
    while let Some(option) = args.get(at) {
        if is_token(option, "LIMIT") {
            at += 2;
        } else if is_token(option, "GET") || is_token(option, "BY") {
            at += 1;
        } else if is_token(option, "STORE") && at + 1 < args.len() {
            destination = Some(key_ref(at as u32 + 1, &[Key::Ow, Key::Update]));
        }
        at += 1;
    }
    Some(std::iter::once(key_ref(1, &[Key::Ro, Key::Access])).chain(destination).collect())
}

/// What `BY` and `GET` name: another key for each element, or a field of a hash there, or the element.
#[derive(Clone, Copy)]
enum Pattern<'k> {
    /// `#`
    Element,
    /// The element stands between these two, and the field is looked up in the hash there.
    Key { prefix: &'k [u8], suffix: &'k [u8], field: Option<&'k [u8]> },
    /// Without a star there is nothing to find.
    Nothing,
}

impl<'k> Pattern<'k> {
    fn parse(text: &'k [u8]) -> Pattern<'k> {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = star_of(text) else { return Pattern::Nothing };
        let (prefix, rest) = (&text[..star], &text[star + 1..]);
        match rest.windows(2).position(|pair| pair == b"->") {
            Some(arrow) if arrow + 2 < rest.len() => {
                Pattern::Key { prefix, suffix: &rest[..arrow], field: Some(&rest[arrow + 2..]) }
            }
            _ => Pattern::Key { prefix, suffix: rest, field: None },
        }
    }

    fn names_keys(self) -> bool {
        matches!(self, Pattern::Key { .. })
    }

    /// Gives the value for `element` to `take`, or `None` if there is none. The store is needed where
    /// [`Pattern::names_keys`]; `name` is memory for the key's name.
    fn look_up<R>(
        self,
        store: Option<&mut Store>,
        element: Entry<'_>,
        name: &mut Vec<u8>,
        take: impl FnOnce(Option<Entry<'_>>) -> R,
    ) -> R {
        let (prefix, suffix, field) = match self {
            Pattern::Element => return take(Some(element)),
            Pattern::Nothing => return take(None),
            Pattern::Key { prefix, suffix, field } => (prefix, suffix, field),
        };
        name.clear();
        name.extend_from_slice(prefix);
        element.push_to(name);
        name.extend_from_slice(suffix);
        let store = store.expect("keys are looked up with a store");
        let now_ms = store.now_ms;
        let Some(found) = store.read(DbKey::new(name)) else { return take(None) };
        match field {
            Some(field) => match found.as_hash() {
                Ok(hash) => take(hash.get(field, now_ms)),
                Err(_) => take(None),
            },
            None => match found.as_str() {
                Ok(text) => take(Some(Entry::Str(text.text(&mut IntText::new())))),
                Err(_) => take(None),
            },
        }
    }
}

fn star_of(pattern: &[u8]) -> Option<usize> {
    pattern.iter().position(|byte| *byte == b'*')
}

/// The arguments.
struct Sort<'k> {
    by: Option<Pattern<'k>>,
    /// `BY` something without a star: elements come as they lie.
    unsorted: bool,
    get: SmallVec<[Pattern<'k>; 4]>,
    offset: i64,
    /// Negative for all.
    count: i64,
    descending: bool,
    alpha: bool,
    destination: Option<&'k [u8]>,
}

impl<'k> Sort<'k> {
    fn parse(argv: Args<'k>, may_store: bool) -> Result<Sort<'k>, CommandError> {
        let mut sort = Sort {
            by: None,
            unsorted: false,
            get: SmallVec::new(),
            offset: 0,
            count: -1,
            descending: false,
            alpha: false,
            destination: None,
        };
        let mut at = 2;
        while let Some(option) = argv.get(at) {
            let values = argv.len() - at - 1;
            if is_token(option, "ASC") {
                sort.descending = false;
            } else if is_token(option, "DESC") {
                sort.descending = true;
            } else if is_token(option, "ALPHA") {
                sort.alpha = true;
            } else if values >= 2 && is_token(option, "LIMIT") {
                (sort.offset, sort.count) = (argv.int(at + 1)?, argv.int(at + 2)?);
                at += 2;
            } else if may_store && values >= 1 && is_token(option, "STORE") {
                sort.destination = Some(argv.at(at + 1));
                at += 1;
            } else if values >= 1 && is_token(option, "BY") {
                let pattern = argv.at(at + 1);
                // Once a pattern was without a star nothing is sorted, whatever follows.
                sort.unsorted |= star_of(pattern).is_none();
                sort.by = Some(Pattern::parse(pattern));
                at += 1;
            } else if values >= 1 && is_token(option, "GET") {
                sort.get.push(Pattern::parse(argv.at(at + 1)));
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(sort)
    }

    /// Which of `len` elements are asked for, in the order of the result.
    fn range(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset.max(0)).unwrap_or(usize::MAX).min(len);
        let count = usize::try_from(self.count).unwrap_or(len).min(len);
        start..start.saturating_add(count).min(len)
    }

    /// Whether elements are compared at all.
    fn sorts(&self) -> bool {
        !self.unsorted
    }

    fn looks_up_keys(&self) -> bool {
        let by = self.by.filter(|_| self.sorts());
        by.into_iter().chain(self.get.iter().copied()).any(Pattern::names_keys)
    }
}

/// An element by its place in the list of all, with what decides most comparisons.
#[derive(Debug, Clone, Copy)]
struct Item {
    /// Of a number its order, of a text its first eight bytes.
    rank: u64,
    index: u32,
}

/// Texts of weights in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    spans: Vec<Option<Range<usize>>>,
}

impl Texts {
    fn push(&mut self, text: Option<Entry<'_>>) {
        let start = self.bytes.len();
        let span = text.map(|text| {
            text.push_to(&mut self.bytes);
            start..self.bytes.len()
        });
        self.spans.push(span);
    }

    /// What is absent comes before everything else.
    fn at(&self, index: usize) -> Option<&[u8]> {
        self.spans[index].clone().map(|span| &self.bytes[span])
    }
}

fn sort(ctx: &mut Ctx<'_>, may_store: bool) -> CmdResult {
    let mut options = Sort::parse(ctx.argv, may_store)?;
    let key = ctx.key(1);
    match ctx.store.read(key).map(|entry| entry.type_of()) {
        None | Some(Type::List | Type::ZSet) => {}
        Some(Type::Set) => {
            // The order of a set is its own affair: what is stored has to be the same everywhere.
            if options.unsorted && options.destination.is_some() {
                (options.unsorted, options.alpha, options.by) = (false, true, None);
            }
        }
        Some(_) => return Err(CommandError::WrongType),
    }
    let elements = Elements::of(ctx.store, key, &options);
    // Without keys to look up and texts to compare the elements are read where they lie.
    let copies_elements = options.looks_up_keys() || (options.alpha && options.sorts());
    if !copies_elements {
        let ordered = options.arrange(elements.list, elements.range, None)?;
        let stored = options.finish(&ordered, None, &mut ctx.reply, &ctx.store.limits);
        return store_result(ctx, &options, stored);
    }
    let mut texts = Texts::default();
    elements.list.iter().for_each(|element| texts.push(Some(*element)));
    let range = elements.range;
    let copies = (0..texts.spans.len()).map(|index| Entry::Str(texts.at(index).expect("each has a text")));
    let copies: Vec<Entry<'_>> = copies.collect();
    let ordered = options.arrange(copies, range, Some(ctx.store))?;
    let limits = ctx.store.limits.clone();
    let stored = options.finish(&ordered, Some(ctx.store), &mut ctx.reply, &limits);
    store_result(ctx, &options, stored)
}

/// The elements of the key, and which of them are asked for once they are in order.
struct Elements<'s> {
    list: Vec<Entry<'s>>,
    range: Range<usize>,
}

impl<'s> Elements<'s> {
    /// All elements if they are to be sorted, else those asked for.
    fn of(store: &'s Store, key: DbKey<'_>, options: &Sort<'_>) -> Elements<'s> {
        let Some(entry) = store.db().peek(key) else { return Elements { list: Vec::new(), range: 0..0 } };
        let pick = |len: usize| {
            let range = options.range(len);
            match (options.sorts(), options.descending) {
                (true, _) => 0..len,
                (false, false) => range,
                (false, true) => len - range.end..len - range.start,
            }
        };
        let (len, mut list, has_order) = match entry.type_of() {
            Type::List => {
                let list = entry.as_list().expect("its type is known");
                let range = pick(list.len());
                let count = range.len();
                (list.len(), list.elements_from(range.start).take(count).collect::<Vec<_>>(), true)
            }
            Type::ZSet => {
                let set = entry.as_zset().expect("its type is known");
                let range = pick(set.len());
                let list = match set {
                    ZSet::Listpack(_) => {
                        set.members().skip(range.start).take(range.len()).map(|(member, _)| member).collect()
                    }
                    ZSet::Ordered(set) => set.range(range).map(|(member, _)| Entry::Str(member)).collect(),
                };
                (set.len(), list, true)
            }
            _ => {
                let set = entry.as_set().expect("SORT takes no other type");
                let range = if options.sorts() { 0..set.len() } else { options.range(set.len()) };
                (set.len(), set.members().skip(range.start).take(range.len()).collect(), false)
            }
        };
        if options.sorts() {
            return Elements { list, range: options.range(len) };
        }
        if options.descending && has_order {
            list.reverse();
        }
        Elements { range: 0..list.len(), list }
    }
}

impl Sort<'_> {
    /// The elements of `range` in order.
    fn arrange<'e>(
        &self,
        elements: Vec<Entry<'e>>,
        range: Range<usize>,
        store: Option<&mut Store>,
    ) -> Result<Vec<Entry<'e>>, CommandError> {
        if self.unsorted {
            return Ok(elements);
        }
        let (ranks, weights) = self.weigh(&elements, store)?;
        let mut items: Vec<Item> =
            ranks.into_iter().zip(0..).map(|(rank, index)| Item { rank, index }).collect();
        let order = |a: &Item, b: &Item| {
            let ascending = a.rank.cmp(&b.rank).then_with(|| {
                let (a, b) = (a.index as usize, b.index as usize);
                match &weights {
                    Some(weights) => weights.at(a).cmp(&weights.at(b)),
                    None => compare_text(elements[a], elements[b]),
                }
            });
            if self.descending { ascending.reverse() } else { ascending }
        };
        let partly = range != (0..items.len());
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if weights.is_some() {
            // Elements of equal weight come in the order that clients of Redis see.
            if partly {
                partial_sort(&mut items, range.clone(), order);
            } else {
                items.sort_by(order);
            }
        } else {
            // What compares equal is equal: every way to sort gives the same.
            if range.end < items.len() {
                items.select_nth_unstable_by(range.end - 1, order);
            }
            let head = &mut items[..range.end];
            if range.start > 0 {
                head.select_nth_unstable_by(range.start, order);
            }
            head[range.start..].sort_unstable_by(order);
        }
        Ok(items[range].iter().map(|item| elements[item.index as usize]).collect())
    }

    /// A rank for each element, and the texts that decide between equal ones, if that is not the elements themselves.
    fn weigh(
        &self,
        elements: &[Entry<'_>],
        mut store: Option<&mut Store>,
    ) -> Result<(Vec<u64>, Option<Texts>), CommandError> {
        assert!(u32::try_from(elements.len()).is_ok(), "a collection has fewer than 2^32 elements");
        let mut name = Vec::new();
        let mut ranks = Vec::with_capacity(elements.len());
        let by = self.by.unwrap_or(Pattern::Element);
        if !self.alpha {
            let mut all_numbers = true;
            for &element in elements {
                let weight = by.look_up(store.as_deref_mut(), element, &mut name, |value| match value {
                    Some(value) => number(value),
                    None => Some(0.0),
                });
                all_numbers &= weight.is_some();
                ranks.push(rank_of_number(weight.unwrap_or_default()));
            }
            let error = CommandError::fixed("ERR One or more scores can't be converted into double");
            return if all_numbers { Ok((ranks, None)) } else { Err(error) };
        }
        if self.by.is_none() {
            ranks.extend(elements.iter().map(|element| rank_of_text(text_of(*element, &mut IntText::new()))));
            return Ok((ranks, None));
        }
        let mut weights = Texts::default();
        for (index, &element) in elements.iter().enumerate() {
            by.look_up(store.as_deref_mut(), element, &mut name, |value| weights.push(value));
            ranks.push(weights.at(index).map_or(0, rank_of_text));
        }
        Ok((ranks, Some(weights)))
    }

    /// Replies what is asked of each element, or makes a list of it to be stored.
    fn finish(
        &self,
        elements: &[Entry<'_>],
        mut store: Option<&mut Store>,
        reply: &mut Reply<'_>,
        limits: &EncodingLimits,
    ) -> Option<List> {
        let mut list = List::with_limits(limits);
        let (mut name, mut scratch) = (Vec::new(), IntText::new());
        if self.destination.is_none() {
            reply.array(elements.len() * self.get.len().max(1));
        }
        let mut take = |value: Option<Entry<'_>>| match (self.destination, value) {
            (Some(_), value) => list.push_back(text_of(value.unwrap_or(Entry::Str(b"")), &mut scratch)),
            (None, Some(value)) => reply_entry(reply, value),
            (None, None) => reply.null(),
        };
        for &element in elements {
            if self.get.is_empty() {
                take(Some(element));
            }
            for pattern in &self.get {
                pattern.look_up(store.as_deref_mut(), element, &mut name, &mut take);
            }
        }
        self.destination.map(|_| list)
    }
}

/// The list takes the place of whatever the destination holds; an empty one deletes it.
fn store_result(ctx: &mut Ctx<'_>, options: &Sort<'_>, list: Option<List>) -> CmdResult {
    let (Some(destination), Some(list)) = (options.destination, list) else { return Ok(()) };
    let len = list.len();
    if len > 0 {
        ctx.store.put(DbKey::new(destination), Object::List(list));
        ctx.store.modified_times(destination, len);
        ctx.store.notify(Event::LIST, "sortstore", destination);
    } else if ctx.store.delete_quietly(DbKey::new(destination), false) {
        ctx.store.modified(destination);
        ctx.store.notify(Event::GENERIC, "del", destination);
    }
    ctx.reply.int(len as i64);
    Ok(())
}

/// Reads a weight as `strtod` does: blanks may come first, nothing at all is 0, and a NUL ends the text.
fn number(value: Entry<'_>) -> Option<f64> {
    let text = match value {
        Entry::Int(value) => return Some(value as f64),
        Entry::Str(text) => text,
    };
    if let Some(value) = parse_i64(text) {
        return Some(value as f64);
    }
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    parse_f64(&text[blanks..]).filter(|value| !value.is_subnormal())
}

/// An integer that orders as the number does, which is none but a number; both zeros are one.
fn rank_of_number(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn rank_of_text(text: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = text.len().min(8);
    head[..len].copy_from_slice(&text[..len]);
    u64::from_be_bytes(head)
}

fn compare_text(a: Entry<'_>, b: Entry<'_>) -> Ordering {
    match (a, b) {
        (Entry::Int(a), Entry::Int(b)) if a == b => Ordering::Equal,
        _ => text_of(a, &mut IntText::new()).cmp(text_of(b, &mut IntText::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry;
    use crate::testing::Harness;
    use resp::ArgsBuf;

    fn bulks(values: &[&str]) -> String {
        let body: String = values.iter().map(|value| format!(r"${}\r\n{value}\r\n", value.len())).collect();
        format!(r"*{}\r\n{body}", values.len())
    }

    fn ten() -> Harness {
        let mut h = Harness::new();
        h.run("RPUSH l 3 10 1 2.5 -7");
        h.run("SADD s b a c");
        h.run("ZADD z 3 a 1 b 2 c");
        h.run("MSET w_3 c w_10 a w_1 b w_2.5 b");
        h.run("HSET h_3 f x g y");
        h.propagated();
        h
    }

    #[test]
    fn numbers_and_texts() {
        let mut h = ten();
        assert_eq!(h.run("SORT l"), bulks(&["-7", "1", "2.5", "3", "10"]));
        assert_eq!(h.run("sort_ro l DESC LIMIT 1 2"), bulks(&["3", "2.5"]));
        assert_eq!(h.run("SORT l ALPHA"), bulks(&["-7", "1", "10", "2.5", "3"]));
        assert_eq!(h.run("SORT s ALPHA DESC"), bulks(&["c", "b", "a"]));
        assert_eq!(h.run("SORT z ALPHA LIMIT 0 -1"), bulks(&["a", "b", "c"]));
        assert_eq!(h.run("SORT none LIMIT 3 4"), bulks(&[]));
        assert_eq!(h.run("SORT l LIMIT 9 9"), bulks(&[]));
        assert_eq!(h.run("SORT l LIMIT -3 1"), bulks(&["-7"]));
        assert_eq!(h.run("SORT s"), r"-ERR One or more scores can\'t be converted into double\r\n");
    }

    #[test]
    fn weights_and_values_of_other_keys() {
        let mut h = ten();
        assert_eq!(h.run("SORT l BY w_* ALPHA"), bulks(&["-7", "10", "1", "2.5", "3"]));
        assert_eq!(h.run("SORT l BY w_* ALPHA DESC LIMIT 0 2"), bulks(&["3", "1"]));
        assert_eq!(
            h.run("SORT l GET # GET w_* GET h_*->g GET h_*-> GET nothing LIMIT 3 2"),
            r"*10\r\n$1\r\n3\r\n$1\r\nc\r\n$1\r\ny\r\n$-1\r\n$-1\r\n$2\r\n10\r\n$1\r\na\r\n$-1\r\n$-1\r\n$-1\r\n"
        );
        h.run("MSET n_1 10 n_3 5");
        assert_eq!(h.run("SORT l BY n_*"), bulks(&["-7", "10", "2.5", "3", "1"]));
    }

    #[test]
    fn nothing_is_sorted_without_a_star() {
        let mut h = ten();
        assert_eq!(h.run("SORT l BY x LIMIT 1 2"), bulks(&["10", "1"]));
        assert_eq!(h.run("SORT l BY x DESC LIMIT 1 2"), bulks(&["2.5", "1"]));
        assert_eq!(h.run("SORT z BY x DESC"), bulks(&["a", "c", "b"]));
        assert_eq!(h.run("SORT z BY x LIMIT 1 1 GET #"), bulks(&["c"]));
        // Not even if a star follows.
        assert_eq!(h.run("SORT l BY x BY w_* LIMIT 0 1"), bulks(&["3"]));
        assert_eq!(h.run("SORT s BY x STORE d"), r":3\r\n");
        assert_eq!(h.run("LRANGE d 0 -1"), bulks(&["a", "b", "c"]));
    }

    #[test]
    fn results_are_stored_as_lists() {
        let mut h = ten();
        let names =
            |h: &mut Harness, line: &str| h.events(line).iter().map(|event| event.name).collect::<Vec<_>>();
        assert_eq!(h.run("SORT l GET w_* STORE d"), r":5\r\n");
        assert_eq!(h.run("LRANGE d 0 -1"), bulks(&["", "b", "b", "c", "a"]));
        assert_eq!(names(&mut h, "SORT l STORE d"), ["sortstore"]);
        assert_eq!(names(&mut h, "SORT none STORE d"), ["keymiss", "del"]);
        assert_eq!(h.run("SORT none STORE d"), r":0\r\n");
        assert_eq!(h.propagated(), ["SORT l GET w_* STORE d", "SORT l STORE d", "SORT none STORE d"]);
        assert_eq!(h.run("SORT l STORE l"), r":5\r\n");
        assert_eq!(h.run("LINDEX l 0"), r"$2\r\n-7\r\n");
    }

    #[test]
    fn weights_are_read_as_c_reads_them() {
        for (text, want) in [
            ("10", Some(10.0)),
            ("", Some(0.0)),
            (" \t-1.5", Some(-1.5)),
            ("0x10", Some(16.0)),
            ("inf", Some(f64::INFINITY)),
            ("3\0junk", Some(3.0)),
            (" ", None),
            ("1 ", None),
            ("nan", None),
            ("1e999", None),
            ("4e-320", None),
        ] {
            assert_eq!(number(Entry::Str(text.as_bytes())), want, "{text:?}");
        }
        let ranks = [f64::NEG_INFINITY, -2.0, -1e-300, 0.0, 1e-300, 3.0, f64::INFINITY].map(rank_of_number);
        assert!(ranks.is_sorted_by(|a, b| a < b));
        assert_eq!(rank_of_number(-0.0), rank_of_number(0.0));
    }

    #[test]
    fn errors() {
        let mut h = ten();
        h.run("SET str x");
        for (line, error) in [
            ("SORT str", "WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT l LIMIT 1", "ERR syntax error"),
            ("SORT l LIMIT x 1", "ERR value is not an integer or out of range"),
            ("SORT l BY", "ERR syntax error"),
            ("SORT_RO l STORE d", "ERR syntax error"),
            ("SORT str UP", "ERR syntax error"),
        ] {
            assert_eq!(h.run(line), format!(r"-{error}\r\n"), "{line}");
        }
    }

    #[test]
    fn the_last_destination_counts() {
        let keys = |line: &str| {
            let args: ArgsBuf = line.split(' ').collect();
            let entry = registry().lookup(b"sort").unwrap();
            entry.keys(args.as_args()).unwrap().iter().map(|key| key.index).collect::<Vec<_>>()
        };
        assert_eq!(keys("sort k"), [1]);
        assert_eq!(keys("sort k store a get store store b limit store store"), [1, 7]);
    }
}
