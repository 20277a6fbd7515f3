//! Hashes: a listpack of field, value, field, value … while small, else a hash table.
//!
//! A field may have an expiry of its own. Only the table holds it, in the field's record, beside an index of all
//! expiries of the hash in the order of time. A field whose time has run out is hidden from reads (they are given
//! `now_ms`) and stays until [`Hash::remove`] or [`Hash::take_due`]; [`Hash::len`] counts it as long as it is there, as
//! `HLEN` of Redis 8 does. The database keeps an index of its own, of the hashes that have such fields
//! ([`crate::Db::settle_fields`]): so finding what is due costs nothing but what is due.
//!
//! In the table a value that is the text of an integer is kept as 8 bytes if its text has more than 8: the record is
//! then never larger, and short numbers, by far the most, are copied to the reply without being printed.

use std::ops::Deref;

use structures::copying::{Copying, Order};
use structures::hash::hash;
use structures::listpack::{self, Entry, Listpack, Pack, Pos};
use structures::number::parse_i64;
use structures::record::{Record, ValueRef};
use structures::table::{self, Prepare, Table};

use crate::expires::Expires;
use crate::limits::EncodingLimits;
use crate::object::Malformed;

/// A field of a large hash with its value in the same allocation; only a value of 4 GiB and more would need another.
pub type Field = Record<Vec<u8>>;

/// A hash value, owned; or borrowed as [`HashRef`]. Never empty while it is in a database.
#[derive(Debug, Clone, Copy)]
pub enum Hash<P = Listpack, F = Box<Fields>> {
    Listpack(P),
    Table(F),
}

/// A hash to be read, wherever it lies.
pub type HashRef<'a> = Hash<&'a Pack, &'a Fields>;

/// The fields of a large hash.
#[derive(Debug)]
pub struct Fields {
    table: Table<Field>,
    /// A row for each field that has an expiry.
    expiries: Expires,
    /// The row that the database's index has for this hash; only the database writes it.
    pub(crate) noted_ms: Option<i64>,
    /// The hash would be a listpack if none of its fields had ever had an expiry.
    small: bool,
}

/// What writing a value does to the expiry of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldExpiry {
    /// `HSET`: a new value lives for ever.
    Clear,
    /// `HINCRBY`: the field stays what it was.
    Keep,
    /// `HSETEX`: the field lives until then, in milliseconds since the epoch.
    At(i64),
}

/// Fields and values in the order they lie in; see [`Hash::iter`].
pub enum Iter<'a> {
    Listpack(listpack::Iter<'a>),
    Table { fields: table::Iter<'a, Field>, now_ms: i64 },
}

/// Text of this length or longer may be kept as an integer in a table.
const INT_TEXT_MIN: usize = 9;
const INT_TEXT_MAX: usize = 20;

/// More than a listpack adds to a field and its value: heads and backlens.
const PAIR_OVERHEAD: usize = 32;

const PAIRED: &str = "a hash's listpack has a value after each field";

impl<P: Deref<Target = Pack>, F: Deref<Target = Fields>> Hash<P, F> {
    /// Number of fields, those whose time has run out included.
    pub fn len(&self) -> usize {
        match self {
            Hash::Listpack(pack) => pack.len() / 2,
            Hash::Table(fields) => fields.table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Hash::Listpack(pack) => pack.is_empty(),
            Hash::Table(fields) => fields.table.is_empty(),
        }
    }

    /// Number of fields that reads see at `now_ms`. Costs what is due.
    pub fn live_len(&self, now_ms: i64) -> usize {
        match self {
            Hash::Listpack(_) => self.len(),
            Hash::Table(fields) => fields.table.len() - fields.expiries.due_len(now_ms),
        }
    }

    /// The name that Redis 8 has for it. A small hash with field expiries is a table here, but what clients mean by the
    /// name, that it is small, is so.
    pub fn encoding(&self) -> &'static str {
        match self {
            Hash::Listpack(_) => "listpack",
            Hash::Table(fields) if fields.small => "listpackex",
            Hash::Table(_) => "hashtable",
        }
    }

    /// Within the limits of a listpack: `HSCAN` gives all of it at once.
    pub fn is_small(&self) -> bool {
        match self {
            Hash::Listpack(_) => true,
            Hash::Table(fields) => fields.small,
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Hash::Listpack(pack) => pack.as_bytes().len(),
            Hash::Table(fields) => {
                let records = fields.iter().map(Record::bytes).sum::<usize>();
                size_of::<Fields>() + fields.table.bytes() + fields.expiries.bytes() + records
            }
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            Hash::Listpack(_) => 1,
            Hash::Table(fields) => fields.len(),
        }
    }

    /// True if a field has an expiry.
    pub fn has_ttl(&self) -> bool {
        matches!(self, Hash::Table(fields) if fields.has_ttl())
    }

    /// True if a field's time has run out.
    #[inline]
    pub fn has_expired(&self, now_ms: i64) -> bool {
        matches!(self, Hash::Table(fields) if fields.expiries.first_due(now_ms).is_some())
    }

    /// A step of [`Table::prepare`] for the field with this hash; false if there is no table.
    #[inline]
    pub(crate) fn prepare(&self, hash: u64, step: Prepare) -> bool {
        let Hash::Table(fields) = self else { return false };
        fields.table.prepare(hash, step);
        true
    }

    /// The value of a field that is alive at `now_ms`.
    #[inline]
    pub fn get(&self, name: &[u8], now_ms: i64) -> Option<Entry<'_>> {
        match self {
            Hash::Listpack(pack) => {
                let field = find(pack, name)?;
                Some(pack.at(pack.next(field).expect(PAIRED)))
            }
            Hash::Table(fields) => {
                let field = fields.table.get(hash(name), name)?;
                is_alive(field, now_ms).then(|| value_of(field))
            }
        }
    }

    #[inline]
    pub fn contains(&self, name: &[u8], now_ms: i64) -> bool {
        match self {
            Hash::Listpack(pack) => find(pack, name).is_some(),
            Hash::Table(fields) => {
                fields.table.get(hash(name), name).is_some_and(|field| is_alive(field, now_ms))
            }
        }
    }

    /// When the time of a field runs out, in milliseconds since the epoch, if it has an expiry.
    pub fn expire_at(&self, name: &[u8]) -> Option<i64> {
        match self {
            Hash::Listpack(_) => None,
            Hash::Table(fields) => fields.table.get(hash(name), name)?.expire_at(),
        }
    }

    /// Fields that are alive at `now_ms`, with their values; `i64::MIN` gives all.
    pub fn iter(&self, now_ms: i64) -> Iter<'_> {
        match self {
            Hash::Listpack(pack) => Iter::Listpack(pack.iter()),
            Hash::Table(fields) => Iter::Table { fields: fields.table.iter(), now_ms },
        }
    }

    /// A field with its value, each with the same chance; of a table one whose time has run out may come.
    pub fn random(&self, rng: &mut dyn FnMut() -> u64) -> Option<(Entry<'_>, Entry<'_>)> {
        match self {
            Hash::Listpack(pack) => {
                let pairs = pack.len() as u64 / 2;
                let drawn = ((u128::from(rng()) * u128::from(pairs)) >> 64) as i64;
                let field = pack.seek(drawn * 2)?;
                Some((pack.at(field), pack.at(pack.next(field).expect(PAIRED))))
            }
            Hash::Table(fields) => {
                fields.table.random(rng).map(|field| (Entry::Str(field.key()), value_of(field)))
            }
        }
    }

    pub fn duplicate(&self) -> Hash {
        match self {
            Hash::Listpack(pack) => Hash::Listpack(pack.to_listpack()),
            Hash::Table(fields) => {
                let mut copy = Fields::with_capacity(fields.len());
                for field in fields.iter() {
                    copy.table.insert(hash(field.key()), duplicate_field(field));
                }
                (copy.expiries, copy.small) = (fields.expiries.clone(), fields.small);
                Hash::Table(Box::new(copy))
            }
        }
    }
}

impl Hash {
    pub fn view(&self) -> HashRef<'_> {
        match self {
            Hash::Listpack(pack) => Hash::Listpack(pack),
            Hash::Table(fields) => Hash::Table(fields),
        }
    }

    /// An empty hash.
    pub fn new() -> Hash {
        Hash::Listpack(Listpack::new())
    }

    /// An empty hash that is about to get `fields` fields.
    pub fn with_capacity(fields: usize, limits: &EncodingLimits) -> Hash {
        if fields <= limits.hash_entries {
            return Hash::new();
        }
        Hash::Table(Box::new(Fields::with_capacity(fields)))
    }

    /// Gives a field a value; true if there was no such field. Leaves the listpack for good when the limits say so.
    #[inline]
    pub fn set(&mut self, name: &[u8], value: &[u8], expiry: FieldExpiry, limits: &EncodingLimits) -> bool {
        if let Hash::Listpack(pack) = self {
            if !matches!(expiry, FieldExpiry::At(_)) && fits(pack, name, value, limits) {
                let found = find(pack, name);
                match found {
                    Some(field) => {
                        let at = pack.next(field).expect(PAIRED);
                        pack.replace(at, value);
                    }
                    None => pack.append_many([name, value]),
                }
                if pack.len() / 2 > limits.hash_entries {
                    self.table(0);
                }
                return found.is_none();
            }
            let small = fits(pack, name, value, limits);
            self.table(1).small = small;
        }
        self.table(0).set(name, value, expiry, limits)
    }

    /// Sets or clears the expiry of a field; false if there is no such field.
    pub fn set_expire(&mut self, name: &[u8], at_ms: Option<i64>) -> bool {
        if let Hash::Listpack(pack) = self {
            if find(pack, name).is_none() {
                return false;
            }
            if at_ms.is_none() {
                return true;
            }
            self.table(0).small = true;
        }
        self.table(0).set_expire(name, at_ms)
    }

    /// When the next field's time runs out, in milliseconds since the epoch.
    pub fn soonest_ms(&self) -> Option<i64> {
        match self {
            Hash::Listpack(_) => None,
            Hash::Table(fields) => fields.expiries.first().map(|(at, _)| at),
        }
    }

    /// Removes a field, whether its time has run out or not; true if it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        match self {
            Hash::Listpack(pack) => {
                let Some(field) = find(pack, name) else { return false };
                pack.delete(field, 2);
                true
            }
            Hash::Table(fields) => {
                let Some(removed) = fields.table.remove(hash(name), name) else { return false };
                if let Some(at) = removed.expire_at() {
                    fields.expiries.remove(at, hash(name));
                }
                true
            }
        }
    }

    /// Removes fields whose time has run out, the earliest first and at most `most`, and gives their names. The hash may
    /// be empty afterwards.
    pub fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<Box<[u8]>> {
        let Hash::Table(fields) = self else { return Vec::new() };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        while names.len() < most
            && let Some((at, row)) = fields.expiries.first_due(now_ms)
        {
            let field = fields.table.find_by_hash(row, |field| field.expire_at() == Some(at));
            let name: Box<[u8]> = field.expect("each row of the index names a field").key().into();
            fields.table.remove(hash(&name), &name);
            fields.expiries.remove(at, hash(&name));
            names.push(name);
        }
        names
    }

    /// Takes a loaded listpack: field, value, field, value …, each field once. Above the limit of entries it becomes a
    /// table; values of any length stay, as in Redis.
    pub fn load_listpack(bytes: Vec<u8>, limits: &EncodingLimits) -> Result<Hash, Malformed> {
        const BROKEN: Malformed = Malformed("Hash listpack integrity check failed.");
        let pack = Listpack::from_vec_validated(bytes, true).map_err(|_| BROKEN)?;
        let entries = pack.len();
        if entries % 2 != 0 {
            return Err(BROKEN);
        }
        let distinct = if entries / 2 > SMALL { distinct_by_hash(&pack) } else { distinct_by_pairs(&pack) };
        if !distinct {
            return Err(Malformed("Hash listpack with dup elements"));
        }
        let mut hash = Hash::Listpack(pack);
        if entries / 2 > limits.hash_entries {
            hash.table(0);
        }
        Ok(hash)
    }

    /// Adds a loaded field; false if it is there already.
    pub fn load_field(
        &mut self,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
        limits: &EncodingLimits,
    ) -> bool {
        if let Hash::Listpack(pack) = self {
            let room = pack.len() / 2 < limits.hash_entries && fits(pack, name, value, limits);
            if room && expire_at_ms.is_some() {
                self.table(1).small = true;
            } else if room {
                let absent = find(pack, name).is_none();
                if absent {
                    pack.append_many([name, value]);
                }
                return absent;
            }
        }
        self.table(1).load(name, value, expire_at_ms, limits)
    }

    /// Adds a loaded field of a table as the twin of `old`'s; false if that was not possible and nothing was done.
    pub(crate) fn reuse_field(
        &mut self,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
        limits: &EncodingLimits,
        old: &mut Hash,
    ) -> bool {
        let (Hash::Table(fields), Hash::Table(old)) = (self, old) else { return false };
        let hash = hash(name);
        if fields.table.get(hash, name).is_some() {
            return false;
        }
        let Some(field) = old.table.get_to_twin(hash, name) else { return false };
        let same_value = match value_of(field) {
            Entry::Str(text) => text == value,
            Entry::Int(number) => as_int(value) == Some(number),
        };
        if !same_value || field.expire_at() != expire_at_ms {
            return false;
        }
        let Some(twin) = field.twin() else { return false };
        fields.insert(hash, twin, limits);
        true
    }

    /// Makes fields of a table that a table `old` has, too, with the same value and expiry, twins of those.
    pub(crate) fn reuse_fields(&mut self, old: &mut Hash) {
        let (Hash::Table(fields), Hash::Table(old)) = (self, old) else { return };
        fields.table.visit_interval_mut(0, 0, |field| {
            let Some(same) = old.table.get_to_twin(hash(field.key()), field.key()) else { return };
            if value_of(same) == value_of(field)
                && same.expire_at() == field.expire_at()
                && let Some(twin) = same.twin()
            {
                *field = twin;
            }
        });
    }

    /// The table, made from the listpack with room for `more` fields if there is none yet.
    fn table(&mut self, more: usize) -> &mut Fields {
        if let Hash::Listpack(pack) = self {
            let mut fields = Fields::with_capacity(pack.len() / 2 + more);
            let (mut name, mut value) = (Vec::new(), Vec::new());
            let mut entries = pack.iter();
            while let Some(entry) = entries.next() {
                name.clear();
                value.clear();
                entry.push_to(&mut name);
                entries.next().expect(PAIRED).push_to(&mut value);
                fields.table.insert(hash(&name), new_field(&name, &value, None));
            }
            *self = Hash::Table(Box::new(fields));
        }
        match self {
            Hash::Table(fields) => fields,
            Hash::Listpack(_) => unreachable!("the listpack was just converted"),
        }
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

impl Fields {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// True if one of the fields has an expiry.
    pub fn has_ttl(&self) -> bool {
        !self.expiries.is_empty()
    }

    /// No field's time runs out earlier.
    pub fn soonest_ms(&self) -> i64 {
        self.expiries.first().map_or(i64::MAX, |(at, _)| at)
    }

    /// As [`Table::begin_copy`].
    pub fn begin_copy(&mut self, write: impl Fn(&Field, &mut Vec<u8>) + Send + 'static) -> Copying {
        self.table.begin_copy(write)
    }

    /// As [`Table::copy_more`].
    pub fn copy_more(&mut self, budget_bytes: usize) {
        self.table.copy_more(budget_bytes);
    }

    /// As [`Table::copy_order`].
    pub fn copy_order(&self) -> Option<&Order> {
        self.table.copy_order()
    }

    /// The records of all fields, also of those whose time has run out.
    pub fn iter(&self) -> table::Iter<'_, Field> {
        self.table.iter()
    }

    /// Visits one bucket per call, as `HSCAN` does, also fields whose time has run out; 0 starts and ends.
    pub fn scan(&self, cursor: u64, visit: impl FnMut(&Field)) -> u64 {
        self.table.scan(cursor, visit)
    }

    fn with_capacity(fields: usize) -> Fields {
        let mut table = Table::new();
        table.reserve(fields);
        Fields { table, expiries: Expires::new(), noted_ms: None, small: false }
    }

    fn set(&mut self, name: &[u8], value: &[u8], expiry: FieldExpiry, limits: &EncodingLimits) -> bool {
        let hash = hash(name);
        let Some(field) = self.table.get_mut(hash, name) else {
            let at_ms = if let FieldExpiry::At(at) = expiry { Some(at) } else { None };
            self.insert(hash, new_field(name, value, at_ms), limits);
            return true;
        };
        store(field, value);
        self.small &= value.len() <= limits.hash_value;
        match expiry {
            FieldExpiry::Keep => {}
            FieldExpiry::Clear if self.expiries.is_empty() => {}
            FieldExpiry::Clear => {
                self.set_expire(name, None);
            }
            FieldExpiry::At(at) => {
                self.set_expire(name, Some(at));
            }
        }
        false
    }

    fn set_expire(&mut self, name: &[u8], at_ms: Option<i64>) -> bool {
        let hash = hash(name);
        let Some(field) = self.table.get_mut(hash, name) else { return false };
        let before = field.expire_at();
        if before != at_ms {
            field.set_expire_at(at_ms);
            if let Some(at) = before {
                self.expiries.remove(at, hash);
            }
            if let Some(at) = at_ms {
                self.expiries.add(at, hash);
            }
        }
        true
    }

    fn load(
        &mut self,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
        limits: &EncodingLimits,
    ) -> bool {
        let hash = hash(name);
        if self.table.get(hash, name).is_some() {
            return false;
        }
        self.insert(hash, new_field(name, value, expire_at_ms), limits);
        true
    }

    /// Adds a field that is absent.
    fn insert(&mut self, hash: u64, field: Field, limits: &EncodingLimits) {
        if let Some(at) = field.expire_at() {
            self.expiries.add(at, hash);
        }
        self.small &= self.table.len() < limits.hash_entries
            && field.key().len() <= limits.hash_value
            && value_of(&field).len() <= limits.hash_value;
        self.table.insert(hash, field);
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Entry<'a>, Entry<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Entry<'a>, Entry<'a>)> {
        match self {
            Iter::Listpack(entries) => {
                let name = entries.next()?;
                Some((name, entries.next().expect(PAIRED)))
            }
            Iter::Table { fields, now_ms } => {
                let field = fields.find(|field| is_alive(field, *now_ms))?;
                Some((Entry::Str(field.key()), value_of(field)))
            }
        }
    }
}

/// The value of a field as an entry.
#[inline]
pub fn value_of(field: &Field) -> Entry<'_> {
    match field.value() {
        ValueRef::Int(value) => Entry::Int(value),
        ValueRef::Bytes(bytes) => Entry::Str(bytes),
        ValueRef::Payload(bytes) => Entry::Str(bytes),
        ValueRef::Packed(..) => unreachable!("a field holds a string"),
        ValueRef::None => Entry::Str(b""),
    }
}

/// Whether reads at `now_ms` see a field.
#[inline]
pub fn is_alive(field: &Field, now_ms: i64) -> bool {
    field.expire_at().is_none_or(|at| at >= now_ms)
}

#[inline]
fn find(pack: &Pack, name: &[u8]) -> Option<Pos> {
    pack.find(pack.first()?, name, 1)
}

/// Whether field and value may enter a listpack, its number of entries apart.
#[inline]
fn fits(pack: &Listpack, name: &[u8], value: &[u8], limits: &EncodingLimits) -> bool {
    name.len() <= limits.hash_value
        && value.len() <= limits.hash_value
        && !pack.would_exceed(name.len() + value.len() + PAIR_OVERHEAD)
}

fn as_int(value: &[u8]) -> Option<i64> {
    if (INT_TEXT_MIN..=INT_TEXT_MAX).contains(&value.len()) { parse_i64(value) } else { None }
}

fn new_field(name: &[u8], value: &[u8], expire_at_ms: Option<i64>) -> Field {
    if let Some(int) = as_int(value) {
        return Field::new_int(name, int, expire_at_ms);
    }
    if u32::try_from(value.len()).is_ok() {
        return Field::new_bytes(name, value, expire_at_ms);
    }
    Field::new_payload(name, value.to_vec(), expire_at_ms)
}

fn store(field: &mut Field, value: &[u8]) {
    let displaced = if let Some(int) = as_int(value) {
        field.set_int(int)
    } else if u32::try_from(value.len()).is_ok() {
        field.set_bytes(value)
    } else {
        field.set_payload(value.to_vec())
    };
    drop(displaced);
}

fn duplicate_field(field: &Field) -> Field {
    match field.value() {
        ValueRef::None => Field::new_key(field.key(), field.expire_at()),
        ValueRef::Int(value) => Field::new_int(field.key(), value, field.expire_at()),
        ValueRef::Bytes(bytes) => Field::new_bytes(field.key(), bytes, field.expire_at()),
        ValueRef::Packed(..) => unreachable!("a field holds a string"),
        ValueRef::Payload(bytes) => Field::new_payload(field.key(), bytes.clone(), field.expire_at()),
    }
}

/// Up to this many fields, comparing all pairs is faster than hashing.
const SMALL: usize = 16;

fn distinct_by_pairs(pack: &Pack) -> bool {
    let names: [Option<Entry<'_>>; SMALL] = {
        let mut names = pack.iter().step_by(2);
        std::array::from_fn(|_| names.next())
    };
    let mut names = names.iter().flatten();
    while let Some(name) = names.next() {
        if names.clone().any(|other| other == name) {
            return false;
        }
    }
    true
}

fn distinct_by_hash(pack: &Pack) -> bool {
    let mut text = Vec::new();
    let mut names: Vec<(u64, Entry<'_>)> = pack
        .iter()
        .step_by(2)
        .map(|name| {
            text.clear();
            name.push_to(&mut text);
            (hash(&text), name)
        })
        .collect();
    names.sort_unstable_by_key(|(hash, _)| *hash);
    // Different names with the same 64 bits of hash lie side by side; three of them do not occur.
    names.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 != pair[1].1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: EncodingLimits = EncodingLimits {
        hash_entries: 4,
        hash_value: 10,
        set_intset_entries: 1,
        set_listpack_entries: 1,
        set_listpack_value: 1,
        zset_entries: 1,
        zset_value: 1,
        list_fill: -2,
        list_compress_depth: 0,
        packed_threshold: 0,
        stream_node_bytes: 4096,
        stream_node_entries: 100,
    };

    fn texts(hash: &Hash, now_ms: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        hash.iter(now_ms).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    fn set(hash: &mut Hash, name: &str, value: &str) -> bool {
        hash.set(name.as_bytes(), value.as_bytes(), FieldExpiry::Clear, &LIMITS)
    }

    #[test]
    fn leaves_the_listpack_by_entries_and_by_length_and_never_returns() {
        let mut hash = Hash::new();
        for name in ["a", "b", "c", "d"] {
            assert!(set(&mut hash, name, "1"));
        }
        assert!(!set(&mut hash, "a", "0123456789"));
        assert_eq!(hash.encoding(), "listpack");
        assert!(set(&mut hash, "e", "5"));
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 5));
        for name in ["b", "c", "d", "e"] {
            assert!(hash.remove(name.as_bytes()));
        }
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));
        assert_eq!(hash.get(b"a", 0), Some(Entry::Str(b"0123456789")));

        for (name, value) in [("a", "0123456789x"), ("0123456789x", "a")] {
            let mut hash = Hash::new();
            set(&mut hash, "f", "v");
            assert!(set(&mut hash, name, value));
            assert_eq!((hash.encoding(), hash.len()), ("hashtable", 2));
        }
    }

    #[test]
    fn numbers_read_back_as_they_were_written() {
        let values = ["7", "-1", "12345678", "123456789", "-12345678", "9223372036854775807", "0123456789"];
        let mut hash = Hash::with_capacity(100, &LIMITS);
        for value in values {
            set(&mut hash, value, value);
            set(&mut hash, "same", value);
            assert_eq!(hash.get(b"same", 0).map(|entry| entry.to_vec()), Some(value.as_bytes().to_vec()));
        }
        for value in values {
            assert_eq!(hash.get(value.as_bytes(), 0).unwrap().to_vec(), value.as_bytes());
        }
        assert_eq!(hash.get(b"123456789", 0), Some(Entry::Int(123_456_789)));
        assert_eq!(hash.get(b"12345678", 0), Some(Entry::Str(b"12345678")));
    }

    #[test]
    fn fields_whose_time_has_run_out_are_hidden_and_taken() {
        let mut hash = Hash::new();
        assert!(hash.load_field(b"a", b"1", None, &LIMITS));
        assert!(hash.load_field(b"b", b"2", Some(1000), &LIMITS));
        assert!(hash.load_field(b"c", b"3", Some(2000), &LIMITS));
        assert!(!hash.load_field(b"c", b"3", None, &LIMITS));
        assert_eq!((hash.encoding(), hash.has_ttl(), hash.len()), ("listpackex", true, 3));
        // A field is there up to and including its last millisecond.
        assert!(hash.contains(b"b", 1000) && !hash.has_expired(1000));
        assert!(!hash.contains(b"b", 1001) && hash.has_expired(1001));
        assert_eq!((hash.len(), hash.live_len(1001)), (3, 2));
        assert_eq!(texts(&hash, 1001).len(), 2);
        assert_eq!(texts(&hash, i64::MIN).len(), 3);
        let copy = hash.duplicate();
        assert_eq!((copy.expire_at(b"b"), copy.expire_at(b"c")), (Some(1000), Some(2000)));
        assert_eq!(hash.take_due(1001, 9), [Box::from(*b"b")]);
        assert_eq!(hash.take_due(1001, 9), Vec::<Box<[u8]>>::new());
        assert_eq!((hash.len(), hash.has_ttl(), hash.has_expired(1500)), (2, true, false));
        assert!(!hash.set(b"c", b"4", FieldExpiry::Keep, &LIMITS));
        assert_eq!(hash.expire_at(b"c"), Some(2000));
        assert!(!hash.set(b"c", b"5", FieldExpiry::Clear, &LIMITS));
        assert_eq!((hash.expire_at(b"c"), hash.has_ttl(), hash.has_expired(i64::MAX)), (None, false, false));
        assert!(copy.has_ttl() && copy.live_len(5000) == 1);
    }

    #[test]
    fn loads_listpacks_and_refuses_broken_ones() {
        let pack = |values: &[&str]| {
            let mut pack = Listpack::new();
            pack.append_many(values.iter().map(|value| value.as_bytes()));
            pack.to_wire()
        };
        let hash = Hash::load_listpack(pack(&["a", "1", "2", "b"]), &LIMITS).unwrap();
        assert_eq!((hash.encoding(), hash.len()), ("listpack", 2));
        let many: Vec<String> = (0..100).map(|value| value.to_string()).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        let hash = Hash::load_listpack(pack(&many), &LIMITS).unwrap();
        assert_eq!((hash.encoding(), hash.len()), ("hashtable", 50));
        assert_eq!(hash.get(b"98", 0), Some(Entry::Str(b"99")));
        many[40] = "0";
        for (values, why) in [
            (&["a", "1", "b"][..], "Hash listpack integrity check failed."),
            (&["a", "1", "a", "1"], "Hash listpack with dup elements"),
            (&many, "Hash listpack with dup elements"),
        ] {
            assert_eq!(Hash::load_listpack(pack(values), &LIMITS).err(), Some(Malformed(why)));
        }
        let mut cut = pack(&["a", "1"]);
        cut.truncate(8);
        assert!(Hash::load_listpack(cut, &LIMITS).is_err());
    }

    #[test]
    fn capacity_decides_the_first_encoding() {
        assert_eq!(Hash::with_capacity(4, &LIMITS).encoding(), "listpack");
        assert_eq!(Hash::with_capacity(5, &LIMITS).encoding(), "hashtable");
    }

    #[test]
    fn random_fields_come_with_equal_chances() {
        let mut state = 88_172_645_463_325_252u64;
        let mut rng = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for capacity in [4, 100] {
            let mut hash = Hash::with_capacity(capacity, &LIMITS);
            for name in ["a", "b", "c", "d"] {
                set(&mut hash, name, "1");
            }
            let mut counts = BTreeMap::new();
            for _ in 0..4000 {
                *counts.entry(hash.random(&mut rng).unwrap().0.to_vec()).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), 4);
            assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0u8..3, 0u8..12, "[0-9]{0,12}"), 0..80)) {
            let mut hash = Hash::new();
            let mut model = BTreeMap::new();
            for (step, name, value) in steps {
                let name = format!("{name}");
                if step < 2 {
                    let new = model.insert(name.clone().into_bytes(), value.clone().into_bytes()).is_none();
                    prop_assert_eq!(set(&mut hash, &name, &value), new);
                } else {
                    let had = model.remove(name.as_bytes()).is_some();
                    prop_assert_eq!(hash.remove(name.as_bytes()), had);
                }
                prop_assert_eq!(hash.len(), model.len());
            }
            prop_assert_eq!(texts(&hash, 0), model);
        }
    }
}
