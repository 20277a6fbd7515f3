//! Sorted sets: a listpack of member, score, member, score … in order while small, else an ordered set.
//!
//! Members are ordered by score, and by their bytes where scores are equal; ranks count from the lowest. In a listpack
//! a score is an integer entry if it is one of at most 62 bits, else its shortest text, as Redis writes it.

use std::cmp::Ordering;
use std::ops::{Deref, Range};

use structures::listpack::{self, Entry, Listpack, Pack, Pos};
use structures::number::{self, IntText};
use structures::ordered_set::{self, OrderedSet};
use structures::table::Prepare;

use crate::limits::EncodingLimits;
use crate::object::Malformed;
use crate::set::{below, entry_len, text_of};

/// A sorted set value, owned; or borrowed as [`ZSetRef`]. Never empty while it is in a database.
#[derive(Clone, Copy)]
pub enum ZSet<P = Listpack, O = Box<OrderedSet>> {
    Listpack(P),
    Ordered(O),
}

/// A sorted set to be read, wherever it lies.
pub type ZSetRef<'a> = ZSet<&'a Pack, &'a OrderedSet>;

/// When [`ZSet::add`] changes something, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddRule {
    /// Members that exist stay as they are (`NX`).
    pub only_new: bool,
    /// No member is created (`XX`).
    pub only_existing: bool,
    /// A score only grows (`GT`).
    pub only_greater: bool,
    /// A score only shrinks (`LT`).
    pub only_less: bool,
    /// The given score is added to the one that there is (`INCR`).
    pub increment: bool,
}

/// What [`ZSet::add`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Addition {
    Added,
    /// The member has this other score now.
    Updated(f64),
    /// The member had this score already.
    Same(f64),
    /// The rule forbade a change.
    Skipped,
    /// Infinity and its opposite were to be added. Nothing was changed.
    NotANumber,
}

/// Members with their scores, lowest first.
pub enum Iter<'a> {
    Listpack(listpack::Iter<'a>),
    Ordered(ordered_set::Range<'a>),
}

impl<P: Deref<Target = Pack>, O: Deref<Target = OrderedSet>> std::fmt::Debug for ZSet<P, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZSet({}, {} members)", self.encoding(), self.len())
    }
}

impl AddRule {
    /// The score that a member is to have, given the one it has; `Err` says why nothing is to be stored.
    fn choose(self, old: Option<f64>, given: f64) -> Result<f64, Addition> {
        let Some(old) = old else {
            return if self.only_existing { Err(Addition::Skipped) } else { Ok(given) };
        };
        if self.only_new {
            return Err(Addition::Skipped);
        }
        let new = if self.increment { old + given } else { given };
        if new.is_nan() {
            return Err(Addition::NotANumber);
        }
        if (self.only_less && new >= old) || (self.only_greater && new <= old) {
            return Err(Addition::Skipped);
        }
        if new == old { Err(Addition::Same(new)) } else { Ok(new) }
    }
}

impl<P: Deref<Target = Pack>, O: Deref<Target = OrderedSet>> ZSet<P, O> {
    pub fn len(&self) -> usize {
        match self {
            ZSet::Listpack(pack) => pack.len() / 2,
            ZSet::Ordered(set) => set.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            ZSet::Listpack(pack) => pack.is_empty(),
            ZSet::Ordered(set) => set.is_empty(),
        }
    }

    /// The large form is called `skiplist` whatever it is built of: clients know that name.
    pub fn encoding(&self) -> &'static str {
        match self {
            ZSet::Listpack(_) => "listpack",
            ZSet::Ordered(_) => "skiplist",
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            ZSet::Listpack(pack) => pack.as_bytes().len(),
            ZSet::Ordered(set) => set.bytes(),
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            ZSet::Listpack(_) => 1,
            ZSet::Ordered(set) => set.len(),
        }
    }

    pub fn duplicate(&self) -> ZSet {
        match self {
            ZSet::Listpack(pack) => ZSet::Listpack(pack.to_listpack()),
            ZSet::Ordered(set) => {
                let mut copy = OrderedSet::new();
                copy.reserve(set.len());
                for (member, score) in set.iter() {
                    copy.insert(member, score);
                }
                ZSet::Ordered(Box::new(copy))
            }
        }
    }

    pub fn iter(&self) -> Iter<'_> {
        match self {
            ZSet::Listpack(pack) => Iter::Listpack(pack.iter()),
            ZSet::Ordered(set) => Iter::Ordered(set.iter()),
        }
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            ZSet::Listpack(pack) => find(pack, member).map(|(_, score)| score),
            ZSet::Ordered(set) => set.score(member),
        }
    }

    /// Number of members before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match self {
            ZSet::Listpack(pack) => {
                let mut scratch = IntText::new();
                pack.iter().step_by(2).position(|entry| text_of(entry, &mut scratch) == member)
            }
            ZSet::Ordered(set) => set.rank(member),
        }
    }

    /// Number of members with a score below this one, or also equal to it.
    pub fn rank_of_score(&self, score: f64, after_equal: bool) -> usize {
        match self {
            ZSet::Listpack(_) => self
                .iter()
                .take_while(|(_, other)| if after_equal { *other <= score } else { *other < score })
                .count(),
            ZSet::Ordered(set) => set.rank_of_score(score, after_equal),
        }
    }

    /// Number of members whose bytes are less than these, or also equal to them, where all scores are equal.
    pub fn rank_of_member_bytes(&self, bytes: &[u8], after_equal: bool) -> usize {
        let mut scratch = IntText::new();
        match self {
            ZSet::Listpack(pack) => pack
                .iter()
                .step_by(2)
                .take_while(|entry| match text_of(*entry, &mut scratch).cmp(bytes) {
                    Ordering::Less => true,
                    Ordering::Equal => after_equal,
                    Ordering::Greater => false,
                })
                .count(),
            ZSet::Ordered(set) => set.rank_of_member_bytes(bytes, after_equal),
        }
    }

    /// Visits the members of these ranks (cut to what exists) in order, or in the other order.
    pub fn visit(&self, ranks: Range<usize>, reverse: bool, mut visit: impl FnMut(Entry<'_>, f64)) {
        match self {
            ZSet::Listpack(pack) => {
                let end = ranks.end.min(self.len());
                let count = end.saturating_sub(ranks.start);
                let first = if reverse { 2 * end as i64 - 1 } else { 2 * ranks.start as i64 };
                let Some(pos) = (if count > 0 { pack.seek(first) } else { None }) else { return };
                if reverse {
                    let mut entries = pack.iter_rev_from(pos).take(2 * count);
                    while let (Some(score), Some(member)) = (entries.next(), entries.next()) {
                        visit(member, score_of(score));
                    }
                } else {
                    let mut entries = pack.iter_from(pos).take(2 * count);
                    while let (Some(member), Some(score)) = (entries.next(), entries.next()) {
                        visit(member, score_of(score));
                    }
                }
            }
            ZSet::Ordered(set) if reverse => {
                set.range(ranks).rev().for_each(|(member, score)| visit(Entry::Str(member), score));
            }
            ZSet::Ordered(set) => {
                set.range(ranks).for_each(|(member, score)| visit(Entry::Str(member), score));
            }
        }
    }

    /// A random member with its score, each with the same chance; `None` if there is none.
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<(Entry<'_>, f64)> {
        match self {
            ZSet::Listpack(pack) => {
                let pos = pack.seek(2 * below(rng(), self.len()) as i64)?;
                Some((pack.at(pos), score_of(pack.at(pack.next(pos)?))))
            }
            ZSet::Ordered(set) => set.random(rng).map(|(member, score)| (Entry::Str(member), score)),
        }
    }

    /// Visits some members and returns the next cursor, as `ZSCAN` does: a small set in one go.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Entry<'_>, f64)) -> u64 {
        match self {
            ZSet::Ordered(set) => set.scan(cursor, |member, score| visit(Entry::Str(member), score)),
            ZSet::Listpack(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
        }
    }
}

impl<'a> ZSetRef<'a> {
    /// As [`ZSet::iter`], for as long as the members lie where they do.
    pub fn members(self) -> Iter<'a> {
        match self {
            ZSet::Listpack(pack) => Iter::Listpack(pack.iter()),
            ZSet::Ordered(set) => Iter::Ordered(set.iter()),
        }
    }

    /// Whether both are one and the same set.
    pub fn is_same(self, other: ZSetRef<'_>) -> bool {
        match (self, other) {
            (ZSet::Listpack(a), ZSet::Listpack(b)) => std::ptr::eq(a, b),
            (ZSet::Ordered(a), ZSet::Ordered(b)) => std::ptr::eq(a, b),
            _ => false,
        }
    }
}

impl ZSet {
    pub fn view(&self) -> ZSetRef<'_> {
        match self {
            ZSet::Listpack(pack) => ZSet::Listpack(pack),
            ZSet::Ordered(set) => ZSet::Ordered(set),
        }
    }

    /// An empty sorted set in the encoding that a first member such as `member` asks for.
    pub fn for_member(member: &[u8], limits: &EncodingLimits) -> ZSet {
        if limits.zset_entries > 0 && member.len() <= limits.zset_value {
            ZSet::Listpack(Listpack::new())
        } else {
            ZSet::Ordered(Box::default())
        }
    }

    /// An empty sorted set to be filled with this many members by [`ZSet::load_member`], then to be given to
    /// [`ZSet::finish_load`].
    pub fn with_capacity(members: usize, _limits: &EncodingLimits) -> ZSet {
        let mut set = OrderedSet::new();
        set.reserve(members);
        ZSet::Ordered(Box::new(set))
    }

    /// Adds a member that is read from a snapshot, fastest in descending order of scores; false if it was there,
    /// which makes the snapshot malformed. The score is a number.
    #[must_use = "a duplicate makes the payload malformed"]
    pub fn load_member(&mut self, member: &[u8], score: f64, limits: &EncodingLimits) -> bool {
        match self {
            ZSet::Ordered(set) => {
                let mut is_new = false;
                set.upsert(member, |old| {
                    is_new = old.is_none();
                    is_new.then_some(score)
                });
                is_new
            }
            ZSet::Listpack(_) => self.add(member, score, AddRule::default(), limits) == Addition::Added,
        }
    }

    /// Adds a loaded member of a large set as the twin of `old`'s; false if that was not possible and nothing was done.
    pub(crate) fn reuse_member(&mut self, member: &[u8], score: f64, old: &mut ZSet) -> bool {
        let (ZSet::Ordered(set), ZSet::Ordered(old)) = (self, old) else { return false };
        set.insert_twin(old, member, score)
    }

    /// All members are loaded: a small set becomes a listpack.
    pub fn finish_load(&mut self, limits: &EncodingLimits) {
        let ZSet::Ordered(set) = self else { return };
        let small = set.len() <= limits.zset_entries
            && set.iter().all(|(member, _)| member.len() <= limits.zset_value);
        if small {
            *self = ZSet::Listpack(packed(set.iter().map(|(member, score)| (Entry::Str(member), score))));
        }
    }

    /// Takes the bytes of a listpack of members and scores from outside: all of it is checked, and members may not
    /// repeat. Pairs that are not in order are sorted. None is fine too: whoever loads it leaves the key out.
    pub fn load_listpack(bytes: Vec<u8>, limits: &EncodingLimits) -> Result<ZSet, Malformed> {
        const BROKEN: Malformed = Malformed("Zset listpack integrity check failed.");
        let pack = Listpack::from_vec_validated(bytes, true).map_err(|_| BROKEN)?;
        let entries = pack.len();
        if !entries.is_multiple_of(2) {
            return Err(BROKEN);
        }
        let mut loaded = ZSet::with_capacity(entries / 2, limits);
        let mut scratch = IntText::new();
        let mut rest = pack.iter();
        let mut last: Option<(Entry<'_>, f64)> = None;
        let mut ordered = true;
        while let (Some(member), Some(score)) = (rest.next(), rest.next()) {
            let score = lookup_score(score).ok_or(BROKEN)?;
            if !loaded.load_member(text_of(member, &mut scratch), score, limits) {
                return Err(Malformed("Zset listpack with dup elements"));
            }
            ordered &= last.is_none_or(|last| compare(last, (member, score)) == Ordering::Less);
            last = Some((member, score));
        }
        let longest = pack.iter().step_by(2).map(entry_len).max().unwrap_or(0);
        if ordered && entries / 2 <= limits.zset_entries && longest <= limits.zset_value {
            return Ok(ZSet::Listpack(pack));
        }
        loaded.finish_load(limits);
        Ok(loaded)
    }

    /// A sorted set of these members, which are in order and differ.
    pub fn from_sorted(members: &[(Entry<'_>, f64)], limits: &EncodingLimits) -> ZSet {
        let small = members.len() <= limits.zset_entries
            && members.iter().all(|(member, _)| entry_len(*member) <= limits.zset_value);
        if small {
            return ZSet::Listpack(packed(members.iter().copied()));
        }
        let mut set = OrderedSet::new();
        set.reserve(members.len());
        let mut scratch = IntText::new();
        for (member, score) in members {
            set.insert(text_of(*member, &mut scratch), *score);
        }
        ZSet::Ordered(Box::new(set))
    }

    /// Adds a member or changes its score, as far as the rule allows. The given score is a number.
    pub fn add(&mut self, member: &[u8], score: f64, rule: AddRule, limits: &EncodingLimits) -> Addition {
        if let ZSet::Listpack(pack) = self {
            let found = find(pack, member);
            let new = match rule.choose(found.map(|(_, old)| old), score) {
                Ok(new) => new,
                Err(nothing) => return nothing,
            };
            if let Some((pos, _)) = found {
                if stays(pack, pos, member, new) {
                    let at = pack.next(pos).expect("a score follows its member");
                    write_score(new, |text| pack.replace(at, text));
                } else {
                    pack.delete(pos, 2);
                    insert_sorted(pack, member, new);
                }
                return Addition::Updated(new);
            }
            let fits = pack.len() / 2 < limits.zset_entries
                && member.len() <= limits.zset_value
                && !pack.would_exceed(member.len());
            if fits {
                insert_sorted(pack, member, new);
                return Addition::Added;
            }
            self.convert();
        }
        let ZSet::Ordered(set) = self else { unreachable!("it is no listpack now") };
        let mut outcome = Addition::Added;
        set.upsert(member, |old| match rule.choose(old, score) {
            Ok(new) => {
                if old.is_some() {
                    outcome = Addition::Updated(new);
                }
                Some(new)
            }
            Err(nothing) => {
                outcome = nothing;
                None
            }
        });
        outcome
    }

    /// Removes a member and returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self {
            ZSet::Listpack(pack) => {
                let (pos, score) = find(pack, member)?;
                pack.delete(pos, 2);
                Some(score)
            }
            ZSet::Ordered(set) => set.remove(member),
        }
    }

    /// A step of `Table::prepare` for the member with this hash; false if there is no table.
    #[inline]
    pub(crate) fn prepare(&self, hash: u64, step: Prepare) -> bool {
        let ZSet::Ordered(set) = self else { return false };
        set.prepare(hash, step);
        true
    }

    /// Removes the members of these ranks, cut to what exists; how many they were.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) -> usize {
        let end = ranks.end.min(self.len());
        let count = end.saturating_sub(ranks.start);
        match self {
            _ if count == 0 => {}
            ZSet::Listpack(pack) => {
                pack.delete_range(2 * ranks.start as i64, 2 * count);
            }
            ZSet::Ordered(set) => set.remove_rank_range(ranks.start, end, |_, _| {}),
        }
        count
    }

    /// Turns a listpack into an ordered set.
    fn convert(&mut self) {
        let mut set = OrderedSet::new();
        set.reserve(self.len() + 1);
        let mut scratch = IntText::new();
        for (member, score) in self.iter() {
            set.insert(text_of(member, &mut scratch), score);
        }
        *self = ZSet::Ordered(Box::new(set));
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Entry<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Entry<'a>, f64)> {
        match self {
            Iter::Listpack(entries) => Some((entries.next()?, score_of(entries.next()?))),
            Iter::Ordered(members) => members.next().map(|(member, score)| (Entry::Str(member), score)),
        }
    }
}

impl<'a, P: Deref<Target = Pack>, O: Deref<Target = OrderedSet>> IntoIterator for &'a ZSet<P, O> {
    type Item = (Entry<'a>, f64);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The order of a sorted set. Scores are numbers; -0 and 0 are the same.
pub fn compare(a: (Entry<'_>, f64), b: (Entry<'_>, f64)) -> Ordering {
    a.1.partial_cmp(&b.1)
        .expect("a score is a number")
        .then_with(|| text_of(a.0, &mut IntText::new()).cmp(text_of(b.0, &mut IntText::new())))
}

fn packed<'a>(members: impl Iterator<Item = (Entry<'a>, f64)>) -> Listpack {
    let mut pack = Listpack::new();
    let mut scratch = IntText::new();
    for (member, score) in members {
        write_score(score, |text| pack.append_many([text_of(member, &mut scratch), text]));
    }
    pack
}

fn find(pack: &Pack, member: &[u8]) -> Option<(Pos, f64)> {
    let pos = pack.find(pack.first()?, member, 1)?;
    let score = pack.next(pos).expect("a score follows its member");
    Some((pos, score_of(pack.at(score))))
}

/// Whether the member at `pos` keeps its place with another score.
fn stays(pack: &Pack, pos: Pos, member: &[u8], score: f64) -> bool {
    let before = pack.prev(pos).and_then(|score| pack.prev(score));
    let after = pack.next(pos).and_then(|score| pack.next(score));
    let pair =
        |pos: Pos| (pack.at(pos), score_of(pack.at(pack.next(pos).expect("a score follows its member"))));
    let new = (Entry::Str(member), score);
    before.is_none_or(|pos| compare(pair(pos), new) == Ordering::Less)
        && after.is_none_or(|pos| compare(new, pair(pos)) == Ordering::Less)
}

/// Inserts a member that is not there at its place.
fn insert_sorted(pack: &mut Listpack, member: &[u8], score: f64) {
    let mut at = pack.first();
    while let Some(pos) = at {
        let score_at = pack.next(pos).expect("a score follows its member");
        if compare((pack.at(pos), score_of(pack.at(score_at))), (Entry::Str(member), score))
            == Ordering::Greater
        {
            break;
        }
        at = pack.next(score_at);
    }
    write_score(score, |text| match at {
        None => pack.append_many([member, text]),
        Some(pos) => {
            let pos = pack.insert_before(pos, member);
            pack.insert_after(pos, text);
        }
    });
}

/// Gives the text of a score as it lies in a listpack, which stores integers as such.
fn write_score(score: f64, write: impl FnOnce(&[u8])) {
    // As in Redis: -0 becomes 0, and integers beyond this are text.
    if score.abs() < (i64::MAX / 2) as f64 && score as i64 as f64 == score {
        return write(IntText::new().format(score as i64));
    }
    let mut text = Vec::with_capacity(32);
    number::push_f64(&mut text, score);
    write(&text);
}

fn lookup_score(entry: Entry<'_>) -> Option<f64> {
    match entry {
        Entry::Int(value) => Some(value as f64),
        Entry::Str(text) => number::parse_f64(text),
    }
}

fn score_of(entry: Entry<'_>) -> f64 {
    lookup_score(entry).expect("every second entry is a score that was checked or written here")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn limits(entries: usize) -> EncodingLimits {
        EncodingLimits { zset_entries: entries, zset_value: 10, ..EncodingLimits::default() }
    }

    fn pairs(set: &ZSet) -> Vec<(Vec<u8>, f64)> {
        set.iter().map(|(member, score)| (text_of(member, &mut IntText::new()).to_vec(), score)).collect()
    }

    #[test]
    fn both_encodings_behave_like_a_sorted_map() {
        let mut state = 3u64;
        let mut rng = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let rules = [
            AddRule::default(),
            AddRule { increment: true, ..AddRule::default() },
            AddRule { only_new: true, ..AddRule::default() },
            AddRule { only_existing: true, only_less: true, ..AddRule::default() },
            AddRule { only_greater: true, ..AddRule::default() },
        ];
        for limits in [limits(0), limits(20), limits(64)] {
            let mut model: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
            let mut set = ZSet::for_member(b"1", &limits);
            for _ in 0..3000 {
                let value = rng() % 40;
                let member =
                    if value % 2 == 0 { format!("m{value}") } else { value.to_string() }.into_bytes();
                let score = (rng() % 16) as f64 / 4.0 - 2.0;
                if rng() % 3 == 0 {
                    assert_eq!(set.remove(&member), model.remove(&member));
                } else {
                    let rule = rules[rng() as usize % rules.len()];
                    let old = model.get(&member).copied();
                    let expected = match rule.choose(old, score) {
                        Ok(new) => {
                            model.insert(member.clone(), new);
                            if old.is_some() { Addition::Updated(new) } else { Addition::Added }
                        }
                        Err(nothing) => nothing,
                    };
                    assert_eq!(set.add(&member, score, rule, &limits), expected);
                }
                let mut sorted: Vec<_> =
                    model.iter().map(|(member, score)| (member.clone(), *score)).collect();
                sorted.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
                assert_eq!(pairs(&set), sorted);
                let at = |score: f64| sorted.iter().filter(|(_, other)| *other < score).count();
                assert_eq!(set.rank_of_score(score, false), at(score));
                assert_eq!(
                    set.rank_of_score(score, true),
                    sorted.iter().filter(|(_, s)| *s <= score).count()
                );
                assert_eq!(set.rank(&member), sorted.iter().position(|(other, _)| *other == member));
                assert_eq!(set.score(&member), model.get(&member).copied());
                let (start, end) = ((rng() % 30) as usize, (rng() % 50) as usize);
                let cut = sorted.get(start..end.min(sorted.len())).unwrap_or_default();
                let mut seen = Vec::new();
                set.visit(start..end, true, |member, score| {
                    seen.insert(0, (text_of(member, &mut IntText::new()).to_vec(), score));
                });
                assert_eq!(seen, cut);
                seen.clear();
                set.visit(start..end, false, |member, score| {
                    seen.push((text_of(member, &mut IntText::new()).to_vec(), score));
                });
                assert_eq!(seen, cut);
                if rng() % 64 == 0 {
                    let removed = cut.to_vec();
                    assert_eq!(set.remove_ranks(start..end), removed.len());
                    model.retain(|member, _| !removed.iter().any(|(gone, _)| gone == member));
                }
            }
        }
    }

    #[test]
    fn encodings_and_scores() {
        let limits = limits(2);
        let mut set = ZSet::for_member(b"a", &limits);
        let rule = AddRule::default();
        assert_eq!(set.add(b"a", -0.0, rule, &limits), Addition::Added);
        assert_eq!(set.add(b"7", f64::INFINITY, rule, &limits), Addition::Added);
        assert_eq!(set.encoding(), "listpack");
        let ZSet::Listpack(pack) = &set else { unreachable!() };
        let entries: Vec<_> = pack.iter().collect();
        assert_eq!(entries, [Entry::Str(b"a"), Entry::Int(0), Entry::Int(7), Entry::Str(b"inf")]);
        let increment = AddRule { increment: true, ..rule };
        assert_eq!(set.add(b"7", f64::NEG_INFINITY, increment, &limits), Addition::NotANumber);
        assert_eq!(set.add(b"a", 1e300, rule, &limits), Addition::Updated(1e300));
        assert_eq!(pairs(&set), [(b"a".to_vec(), 1e300), (b"7".to_vec(), f64::INFINITY)]);
        assert_eq!(set.add(b"c", 0.1, rule, &limits), Addition::Added);
        assert_eq!(set.encoding(), "skiplist");
        assert_eq!(ZSet::for_member(b"longer than ten", &limits).encoding(), "skiplist");
        assert_eq!(ZSet::for_member(b"a", &super::tests::limits(0)).encoding(), "skiplist");
    }

    #[test]
    fn loading_checks_sorts_and_converts() {
        let mut pack = Listpack::new();
        for text in ["a", "1", "b", "2.5", "c", "inf"] {
            pack.push_back(text.as_bytes());
        }
        let load = |pack: &Listpack, entries| {
            ZSet::load_listpack(pack.to_wire(), &limits(entries)).map(|set| (set.encoding(), pairs(&set)))
        };
        let members = vec![(b"a".to_vec(), 1.0), (b"b".to_vec(), 2.5), (b"c".to_vec(), f64::INFINITY)];
        assert_eq!(load(&pack, 3), Ok(("listpack", members.clone())));
        assert_eq!(load(&pack, 2), Ok(("skiplist", members)));
        let broken = |more: &[&str]| {
            let mut pack = pack.clone();
            more.iter().for_each(|text| pack.push_back(text.as_bytes()));
            load(&pack, 9)
        };
        assert!(broken(&["d"]).is_err() && broken(&["a", "9"]).is_err());
        assert!(broken(&["d", "x"]).is_err() && broken(&["d", "nan"]).is_err());
        assert_eq!(load(&Listpack::new(), 3), Ok(("listpack", vec![])));
        let sorted = broken(&["d", "0"]).unwrap();
        assert_eq!((sorted.0, &sorted.1[0]), ("listpack", &(b"d".to_vec(), 0.0)));

        let limits = limits(2);
        let mut set = ZSet::with_capacity(2, &limits);
        assert!(set.load_member(b"b", 2.0, &limits) && set.load_member(b"a", 1.0, &limits));
        assert!(!set.load_member(b"a", 3.0, &limits));
        set.finish_load(&limits);
        assert_eq!((set.encoding(), pairs(&set).len()), ("listpack", 2));
    }
}
