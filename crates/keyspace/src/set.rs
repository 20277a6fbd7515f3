//! Sets: an intset while all members are integers, a listpack while small, else a hash table.
//!
//! The encoding follows Redis 7.2's rule: it depends on what was added, one member at a time, and never goes back to a
//! smaller one. With `set-max-listpack-entries 0` there is no listpack form, which is Redis 7.0's rule.

use std::convert::Infallible;
use std::ops::Deref;

use structures::hash::hash;
use structures::intset::{self, Ints, Intset};
use structures::listpack::{self, Entry, Listpack, Pack};
use structures::number::{IntText, i64_len, parse_i64};
use structures::record::Record;
use structures::table::{self, Prepare, Table};

use crate::limits::EncodingLimits;
use crate::object::Malformed;

/// A member of a large set: a record that is a key and nothing else.
pub type Member = Record<Infallible>;

/// A set value, owned; or borrowed as [`SetRef`]. Never empty while it is in a database.
#[derive(Debug, Clone, Copy)]
pub enum Set<I = Intset, P = Listpack, T = Box<Table<Member>>> {
    Intset(I),
    Listpack(P),
    Table(T),
}

/// A set to be read, wherever it lies.
pub type SetRef<'a> = Set<&'a Ints, &'a Pack, &'a Table<Member>>;

/// Members in the order they lie in: ascending in an intset, of insertion in a listpack, of hashes in a table.
pub enum Iter<'a> {
    Intset(intset::Iter<'a>),
    Listpack(listpack::Iter<'a>),
    Table(table::Iter<'a, Member>),
}

/// A member that was taken out of its set.
#[derive(Debug)]
pub enum Popped {
    Int(i64),
    Text(Box<[u8]>),
    /// From a table, without copying it.
    Member(Member),
}

impl Popped {
    /// The member's text; integers are written into `scratch`.
    pub fn text<'s>(&'s self, scratch: &'s mut IntText) -> &'s [u8] {
        match self {
            Popped::Int(value) => scratch.format(*value),
            Popped::Text(text) => text,
            Popped::Member(member) => member.key(),
        }
    }
}

impl<I, P, T> Set<I, P, T>
where
    I: Deref<Target = Ints>,
    P: Deref<Target = Pack>,
    T: Deref<Target = Table<Member>>,
{
    pub fn len(&self) -> usize {
        match self {
            Set::Intset(set) => set.len(),
            Set::Listpack(pack) => pack.len(),
            Set::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Set::Intset(set) => set.is_empty(),
            Set::Listpack(pack) => pack.is_empty(),
            Set::Table(table) => table.is_empty(),
        }
    }

    pub fn encoding(&self) -> &'static str {
        match self {
            Set::Intset(_) => "intset",
            Set::Listpack(_) => "listpack",
            Set::Table(_) => "hashtable",
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Set::Intset(set) => set.bytes().len(),
            Set::Listpack(pack) => pack.as_bytes().len(),
            Set::Table(table) => table.bytes() + table.iter().map(Record::bytes).sum::<usize>(),
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            Set::Table(table) => table.len(),
            _ => 1,
        }
    }

    pub fn duplicate(&self) -> Set {
        match self {
            Set::Intset(set) => Set::Intset(set.to_intset()),
            Set::Listpack(pack) => Set::Listpack(pack.to_listpack()),
            Set::Table(table) => {
                let mut copy = Table::new();
                copy.reserve(table.len());
                for member in table.iter() {
                    copy.insert(hash(member.key()), Member::new_key(member.key(), None));
                }
                Set::Table(Box::new(copy))
            }
        }
    }

    pub fn iter(&self) -> Iter<'_> {
        match self {
            Set::Intset(set) => Iter::Intset(set.iter()),
            Set::Listpack(pack) => Iter::Listpack(pack.iter()),
            Set::Table(table) => Iter::Table(table.iter()),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Intset(set) => parse_i64(member).is_some_and(|value| set.contains(value)),
            Set::Listpack(pack) => find(pack, member).is_some(),
            Set::Table(table) => table.get(hash(member), member).is_some(),
        }
    }

    /// As [`Set::contains`], for a member of another set: integers are not spelled out for an intset.
    pub fn contains_entry(&self, entry: Entry<'_>) -> bool {
        match (self, entry) {
            (Set::Intset(set), Entry::Int(value)) => set.contains(value),
            (_, entry) => self.contains(text_of(entry, &mut IntText::new())),
        }
    }

    /// As [`Set::contains`], given the member's hash.
    #[inline]
    pub fn contains_hashed(&self, hash: u64, member: &[u8]) -> bool {
        match self {
            Set::Table(table) => table.get(hash, member).is_some(),
            _ => self.contains(member),
        }
    }

    /// First and second step of looking up several members whose hashes are known: brings the place of each towards
    /// the cache.
    pub fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        if let Set::Table(table) = self {
            hashes.clone().for_each(|hash| table.prefetch(hash));
            hashes.for_each(|hash| table.prefetch_entry(hash));
        }
    }

    /// A random member, each with the same chance; `None` if there is none.
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<Entry<'_>> {
        match self {
            Set::Intset(set) => set.at(below(rng(), set.len())).map(Entry::Int),
            Set::Listpack(pack) => pack.seek(below(rng(), pack.len()) as i64).map(|pos| pack.at(pos)),
            Set::Table(table) => table.random(rng).map(|member| Entry::Str(member.key())),
        }
    }

    /// Visits some members and returns the next cursor, as `SSCAN` does: a small set in one go.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Entry<'_>)) -> u64 {
        match self {
            Set::Table(table) => table.scan(cursor, |member| visit(Entry::Str(member.key()))),
            small => {
                small.iter().for_each(visit);
                0
            }
        }
    }
}

impl<'a> SetRef<'a> {
    /// As [`Set::iter`], for as long as the members lie where they do.
    pub fn members(self) -> Iter<'a> {
        match self {
            Set::Intset(set) => Iter::Intset(set.iter()),
            Set::Listpack(pack) => Iter::Listpack(pack.iter()),
            Set::Table(table) => Iter::Table(table.iter()),
        }
    }

    /// Whether both are one and the same set.
    pub fn is_same(self, other: SetRef<'_>) -> bool {
        match (self, other) {
            (Set::Intset(a), Set::Intset(b)) => std::ptr::eq(a, b),
            (Set::Listpack(a), Set::Listpack(b)) => std::ptr::eq(a, b),
            (Set::Table(a), Set::Table(b)) => std::ptr::eq(a, b),
            _ => false,
        }
    }
}

impl Set {
    pub fn view(&self) -> SetRef<'_> {
        match self {
            Set::Intset(set) => Set::Intset(set),
            Set::Listpack(pack) => Set::Listpack(pack),
            Set::Table(table) => Set::Table(table),
        }
    }

    /// An empty set in the encoding that a first member such as `member` asks for.
    pub fn for_member(member: &[u8], limits: &EncodingLimits) -> Set {
        if limits.set_intset_entries > 0 && parse_i64(member).is_some() {
            Set::Intset(Intset::new())
        } else if limits.set_listpack_entries > 0 {
            Set::Listpack(Listpack::new())
        } else {
            Set::Table(Box::default())
        }
    }

    /// An empty set to be filled with what other sets hold: an intset until a member is none.
    pub fn for_result() -> Set {
        Set::Intset(Intset::new())
    }

    /// An empty set to be filled with this many members by [`Set::load_member`].
    pub fn with_capacity(members: usize, limits: &EncodingLimits) -> Set {
        if members > limits.set_intset_entries.max(limits.set_listpack_entries) {
            let mut table = Table::new();
            table.reserve(members);
            Set::Table(Box::new(table))
        } else if members <= limits.set_intset_entries {
            Set::Intset(Intset::new())
        } else {
            Set::Listpack(Listpack::new())
        }
    }

    /// Adds a member that is read from a snapshot; false if it was there, which makes the snapshot malformed.
    #[must_use = "a duplicate makes the payload malformed"]
    pub fn load_member(&mut self, member: &[u8], limits: &EncodingLimits) -> bool {
        self.add(member, limits)
    }

    /// Adds a loaded member of a table as the twin of `old`'s; false if that was not possible and nothing was done.
    pub(crate) fn reuse_member(&mut self, member: &[u8], old: &mut Set) -> bool {
        let (Set::Table(table), Set::Table(old)) = (self, old) else { return false };
        let h = hash(member);
        if table.get(h, member).is_some() {
            return false;
        }
        let Some(twin) = old.get_to_twin(h, member).and_then(Record::twin) else { return false };
        table.insert(h, twin);
        true
    }

    /// Makes members of a table that a table `old` has, too, twins of those.
    pub(crate) fn reuse_members(&mut self, old: &mut Set) {
        let (Set::Table(table), Set::Table(old)) = (self, old) else { return };
        table.visit_interval_mut(0, 0, |member| {
            if let Some(twin) = old.get_to_twin(hash(member.key()), member.key()).and_then(Record::twin) {
                *member = twin;
            }
        });
    }

    /// Takes the bytes of an intset from outside, converted if the limits do not allow so large a one.
    pub fn load_intset(bytes: Vec<u8>, limits: &EncodingLimits) -> Result<Set, Malformed> {
        let ints =
            Intset::from_vec_validated(bytes).map_err(|_| Malformed("Intset integrity check failed."))?;
        if ints.len() <= limits.set_intset_entries {
            return Ok(Set::Intset(ints));
        }
        let mut set = Set::Intset(ints);
        set.convert(limits);
        Ok(set)
    }

    /// Takes the bytes of a listpack of members from outside: all of it is checked, and members may not repeat.
    /// None is fine too: whoever loads it leaves the key out.
    pub fn load_listpack(bytes: Vec<u8>, limits: &EncodingLimits) -> Result<Set, Malformed> {
        let pack = Listpack::from_vec_validated(bytes, true)
            .map_err(|_| Malformed("Set listpack integrity check failed."))?;
        let (members, longest) = (pack.len(), pack.iter().map(entry_len).max().unwrap_or(0));
        let mut scratch = IntText::new();
        let mut table = Table::new();
        table.reserve(members);
        for entry in pack.iter() {
            if !add_to_table(&mut table, text_of(entry, &mut scratch)) {
                return Err(Malformed("Set listpack with dup elements"));
            }
        }
        if members <= limits.set_listpack_entries && longest <= limits.set_listpack_value {
            return Ok(Set::Listpack(pack));
        }
        if members <= limits.set_intset_entries && pack.iter().all(|entry| matches!(entry, Entry::Int(_))) {
            let mut ints = Intset::new();
            for entry in pack.iter() {
                if let Entry::Int(value) = entry {
                    ints.add(value);
                }
            }
            return Ok(Set::Intset(ints));
        }
        Ok(Set::Table(Box::new(table)))
    }

    /// A step of [`Table::prepare`] for the member with this hash; false if there is no table.
    #[inline]
    pub(crate) fn prepare(&self, hash: u64, step: Prepare) -> bool {
        let Set::Table(table) = self else { return false };
        table.prepare(hash, step);
        true
    }

    /// Adds a member; false if it was there. The encoding grows as the limits demand.
    pub fn add(&mut self, member: &[u8], limits: &EncodingLimits) -> bool {
        match self {
            Set::Table(table) => add_to_table(table, member),
            Set::Listpack(pack) => {
                if find(pack, member).is_some() {
                    return false;
                }
                let fits = pack.len() < limits.set_listpack_entries
                    && member.len() <= limits.set_listpack_value
                    && !pack.would_exceed(member.len());
                if fits {
                    pack.push_back(member);
                    return true;
                }
                self.table_of_room(1).insert(hash(member), Member::new_key(member, None));
                true
            }
            Set::Intset(_) => match parse_i64(member) {
                Some(value) => self.add_int(value, limits),
                None => {
                    self.leave_intset(member, limits);
                    true
                }
            },
        }
    }

    /// As [`Set::add`], for a member that is known to be an integer.
    pub fn add_int(&mut self, value: i64, limits: &EncodingLimits) -> bool {
        let Set::Intset(ints) = self else {
            return self.add(IntText::new().format(value), limits);
        };
        let added = ints.add(value);
        if added && ints.len() > limits.set_intset_entries {
            self.convert(limits);
        }
        added
    }

    /// As [`Set::add`], for a member of another set.
    pub fn add_entry(&mut self, entry: Entry<'_>, limits: &EncodingLimits) -> bool {
        match entry {
            Entry::Int(value) => self.add_int(value, limits),
            Entry::Str(text) => self.add(text, limits),
        }
    }

    /// As [`Set::add_entry`], for a member that is known not to be there: nothing is looked up in a table.
    pub fn add_absent(&mut self, entry: Entry<'_>, limits: &EncodingLimits) {
        match self {
            Set::Table(table) => {
                let mut scratch = IntText::new();
                let text = text_of(entry, &mut scratch);
                table.insert(hash(text), Member::new_key(text, None));
            }
            _ => {
                let is_new = self.add_entry(entry, limits);
                debug_assert!(is_new, "the member is absent");
            }
        }
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Intset(set) => parse_i64(member).is_some_and(|value| set.remove(value)),
            Set::Listpack(pack) => match find(pack, member) {
                Some(pos) => {
                    pack.delete(pos, 1);
                    true
                }
                None => false,
            },
            Set::Table(table) => table.remove(hash(member), member).is_some(),
        }
    }

    /// Takes a random member out.
    pub fn pop_random(&mut self, rng: &mut dyn FnMut() -> u64) -> Option<Popped> {
        match self {
            Set::Intset(set) => {
                let value = set.at(below(rng(), set.len()))?;
                set.remove(value);
                Some(Popped::Int(value))
            }
            Set::Listpack(pack) => {
                let pos = pack.seek(below(rng(), pack.len()) as i64)?;
                let popped = match pack.at(pos) {
                    Entry::Int(value) => Popped::Int(value),
                    Entry::Str(text) => Popped::Text(text.into()),
                };
                pack.delete(pos, 1);
                Some(popped)
            }
            Set::Table(table) => {
                let member = table.random(rng)?;
                let (hash, place) = (hash(member.key()), member.key().as_ptr());
                // The place of the bytes names the record, so they need not be compared.
                let member = table.remove_by_hash(hash, |other| other.key().as_ptr() == place);
                Some(Popped::Member(member.expect("the member that was found is in the table")))
            }
        }
    }

    /// An intset that gets a member which is no integer.
    fn leave_intset(&mut self, member: &[u8], limits: &EncodingLimits) {
        let Set::Intset(ints) = &*self else { unreachable!("called for an intset") };
        let longest = [ints.min(), ints.max()].into_iter().flatten().map(i64_len).max().unwrap_or(0);
        let small = ints.len() < limits.set_listpack_entries
            && member.len().max(longest) <= limits.set_listpack_value;
        if small {
            let mut pack = Listpack::new();
            ints.iter().for_each(|value| pack.push_back_i64(value));
            pack.push_back(member);
            *self = Set::Listpack(pack);
        } else {
            self.table_of_room(1).insert(hash(member), Member::new_key(member, None));
        }
    }

    /// An intset that has become too large.
    fn convert(&mut self, limits: &EncodingLimits) {
        let Set::Intset(ints) = &*self else { unreachable!("called for an intset") };
        // Only without intsets at all can a listpack hold what an intset may not.
        if limits.set_intset_entries == 0 && ints.len() <= limits.set_listpack_entries {
            let mut pack = Listpack::new();
            ints.iter().for_each(|value| pack.push_back_i64(value));
            *self = Set::Listpack(pack);
        } else {
            self.table_of_room(0);
        }
    }

    /// Turns the set into a table with room for `more` members.
    fn table_of_room(&mut self, more: usize) -> &mut Table<Member> {
        if !matches!(self, Set::Table(_)) {
            let mut table = Table::new();
            table.reserve(self.len() + more);
            let mut scratch = IntText::new();
            for entry in self.iter() {
                let text = text_of(entry, &mut scratch);
                table.insert(hash(text), Member::new_key(text, None));
            }
            *self = Set::Table(Box::new(table));
        }
        let Set::Table(table) = self else { unreachable!("it is one now") };
        table
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        match self {
            Iter::Intset(ints) => ints.next().map(Entry::Int),
            Iter::Listpack(entries) => entries.next(),
            Iter::Table(members) => members.next().map(|member| Entry::Str(member.key())),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Iter::Intset(ints) => ints.size_hint(),
            Iter::Listpack(entries) => entries.size_hint(),
            Iter::Table(members) => members.size_hint(),
        }
    }

    /// What the set is made of is looked at once.
    #[inline]
    fn fold<B, F: FnMut(B, Entry<'a>) -> B>(self, init: B, visit: F) -> B {
        match self {
            Iter::Intset(ints) => ints.map(Entry::Int).fold(init, visit),
            Iter::Listpack(entries) => entries.fold(init, visit),
            Iter::Table(members) => members.map(|member| Entry::Str(member.key())).fold(init, visit),
        }
    }
}

impl<'a, I, P, T> IntoIterator for &'a Set<I, P, T>
where
    I: Deref<Target = Ints>,
    P: Deref<Target = Pack>,
    T: Deref<Target = Table<Member>>,
{
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The text of an element; integers are written into `scratch`.
pub fn text_of<'s>(entry: Entry<'s>, scratch: &'s mut IntText) -> &'s [u8] {
    match entry {
        Entry::Int(value) => scratch.format(value),
        Entry::Str(text) => text,
    }
}

pub(crate) fn entry_len(entry: Entry<'_>) -> usize {
    match entry {
        Entry::Int(value) => i64_len(value),
        Entry::Str(text) => text.len(),
    }
}

/// A number below `bound` (0 if that is 0) of 64 random bits.
pub(crate) fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

fn find(pack: &Pack, member: &[u8]) -> Option<listpack::Pos> {
    pack.find(pack.first()?, member, 0)
}

fn add_to_table(table: &mut Table<Member>, member: &[u8]) -> bool {
    let h = hash(member);
    if table.get(h, member).is_some() {
        return false;
    }
    table.insert(h, Member::new_key(member, None));
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn limits(intset: usize, listpack: usize) -> EncodingLimits {
        EncodingLimits {
            set_intset_entries: intset,
            set_listpack_entries: listpack,
            set_listpack_value: 8,
            ..EncodingLimits::default()
        }
    }

    fn filled(members: &[&str], limits: &EncodingLimits) -> Set {
        let mut set = Set::for_member(members[0].as_bytes(), limits);
        for member in members {
            assert!(set.add(member.as_bytes(), limits));
        }
        set
    }

    fn texts(set: &Set) -> BTreeSet<Vec<u8>> {
        set.iter().map(|entry| text_of(entry, &mut IntText::new()).to_vec()).collect()
    }

    #[test]
    fn encodings_follow_what_was_added() {
        let usual = limits(3, 4);
        for (members, encoding) in [
            (&["1", "2", "3"][..], "intset"),
            (&["1", "2", "3", "4"], "hashtable"),
            (&["1", "2", "a"], "listpack"),
            (&["1", "2", "3", "a"], "listpack"),
            (&["a", "1", "2", "3", "4"], "hashtable"),
            (&["a", "long long long"], "hashtable"),
            (&["1", "long long long"], "hashtable"),
            (&["123456789", "a"], "hashtable"),
            (&["01"], "listpack"),
        ] {
            let set = filled(members, &usual);
            assert_eq!(set.encoding(), encoding, "{members:?}");
            assert_eq!(texts(&set), members.iter().map(|m| m.as_bytes().to_vec()).collect(), "{members:?}");
        }
        // As in Redis 7.0.
        assert_eq!(filled(&["a"], &limits(3, 0)).encoding(), "hashtable");
        assert_eq!(filled(&["1", "a"], &limits(3, 0)).encoding(), "hashtable");
        assert_eq!(filled(&["1"], &limits(0, 0)).encoding(), "hashtable");
        assert_eq!(filled(&["1"], &limits(0, 4)).encoding(), "listpack");
    }

    #[test]
    fn every_encoding_behaves_like_a_set() {
        let mut state = 7u64;
        let mut rng = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 31)
        };
        for limits in [limits(512, 0), limits(0, 64), limits(16, 16), limits(0, 0)] {
            let (mut set, mut model) = (Set::for_result(), BTreeSet::new());
            for step in 0..4000 {
                let value = rng() % 100;
                let member = if step % 500 > 250 && value % 3 == 0 {
                    format!("m{value}")
                } else {
                    (value as i64 - 50).to_string()
                };
                let text = member.clone().into_bytes();
                assert_eq!(set.contains(&text), model.contains(&text));
                match rng() % 5 {
                    0 | 1 => assert_eq!(set.add(&text, &limits), model.insert(text)),
                    2 => assert_eq!(set.remove(&text), model.remove(&text)),
                    3 => {
                        let popped = set.pop_random(&mut rng);
                        assert_eq!(popped.is_none(), model.is_empty());
                        if let Some(popped) = popped {
                            assert!(model.remove(popped.text(&mut IntText::new())));
                        }
                    }
                    _ => {
                        assert_eq!(set.random(&mut rng).is_none(), model.is_empty());
                    }
                }
                assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            }
            assert_eq!(texts(&set), model);
        }
    }

    #[test]
    fn loading_checks_and_converts() {
        let mut pack = Listpack::new();
        ["1", "2", "a"].iter().for_each(|member| pack.push_back(member.as_bytes()));
        let bytes = pack.to_wire();
        let load = |bytes: &[u8], limits: EncodingLimits| {
            Set::load_listpack(bytes.to_vec(), &limits).map(|set| set.encoding())
        };
        assert_eq!(load(&bytes, limits(3, 3)), Ok("listpack"));
        assert_eq!(load(&bytes, limits(3, 2)), Ok("hashtable"));
        assert!(load(&bytes[..bytes.len() - 1], limits(3, 3)).is_err());
        pack.push_back(b"2");
        assert!(load(&pack.to_wire(), limits(3, 9)).is_err(), "a duplicate");
        assert_eq!(load(&Listpack::new().to_wire(), limits(3, 9)), Ok("listpack"), "of nothing");

        let mut ints = Intset::new();
        (0..4).for_each(|value| assert!(ints.add(value)));
        let load = |limits: EncodingLimits| {
            Set::load_intset(ints.bytes().to_vec(), &limits).map(|set| set.encoding())
        };
        assert_eq!(load(limits(4, 0)), Ok("intset"));
        assert_eq!(load(limits(3, 9)), Ok("hashtable"));
        assert!(Set::load_intset(vec![2, 0, 0], &limits(3, 9)).is_err());

        let limits = limits(3, 4);
        let mut set = Set::with_capacity(2, &limits);
        assert!(set.load_member(b"1", &limits) && set.load_member(b"x", &limits));
        assert!(!set.load_member(b"1", &limits));
        assert_eq!(set.encoding(), "listpack");
        assert_eq!(Set::with_capacity(9, &limits).encoding(), "hashtable");
    }
}
