//! Sets: an intset while all members are integers, a listpack while small, else a hash table.

use std::convert::Infallible;

use structures::hash::hash;
use structures::intset::Intset;
use structures::listpack::Listpack;
use structures::record::Record;
use structures::table::Table;

/// A member of a large set: a record that is a key and nothing else.
pub type Member = Record<Infallible>;

/// A set value. Never empty while it is in a database.
#[derive(Debug)]
pub enum Set {
    Intset(Intset),
    Listpack(Listpack),
    Table(Box<Table<Member>>),
}

impl Set {
    pub fn len(&self) -> usize {
        match self {
            Set::Intset(set) => set.len(),
            Set::Listpack(pack) => pack.len(),
            Set::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
            Set::Listpack(pack) => pack.bytes().len(),
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
            Set::Intset(set) => Set::Intset(set.clone()),
            Set::Listpack(pack) => Set::Listpack(pack.clone()),
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
}

// ---- loading ----

impl Set {
    pub fn load_intset(
        bytes: Vec<u8>,
        limits: &crate::EncodingLimits,
    ) -> Result<Set, crate::object::Malformed> {
        let set = Intset::from_vec_validated(bytes)
            .map_err(|_| crate::object::Malformed("Intset integrity check failed."))?;
        if set.len() <= limits.set_intset_entries {
            return Ok(Set::Intset(set));
        }
        let mut table = Set::with_capacity(set.len(), limits);
        table.to_table();
        let mut scratch = structures::number::IntText::new();
        for value in set.iter() {
            table.load_member(scratch.format(value), limits);
        }
        Ok(table)
    }

    pub fn load_listpack(
        bytes: Vec<u8>,
        limits: &crate::EncodingLimits,
    ) -> Result<Set, crate::object::Malformed> {
        let pack = Listpack::from_vec_validated(bytes, true)
            .map_err(|_| crate::object::Malformed("Set listpack integrity check failed."))?;
        let mut set = Set::with_capacity(pack.len(), limits);
        let mut scratch = Vec::new();
        for entry in pack.iter() {
            scratch.clear();
            entry.push_to(&mut scratch);
            if !set.load_member(&scratch, limits) {
                return Err(crate::object::Malformed("Set listpack integrity check failed."));
            }
        }
        Ok(set)
    }

    /// An empty set that is about to get `members` members.
    pub fn with_capacity(members: usize, limits: &crate::EncodingLimits) -> Set {
        if members <= limits.set_intset_entries.max(limits.set_listpack_entries) {
            return Set::Intset(Intset::new());
        }
        let mut table = Table::new();
        table.reserve(members);
        Set::Table(Box::new(table))
    }

    /// Adds a member out of a snapshot; false if it is there already.
    pub fn load_member(&mut self, member: &[u8], limits: &crate::EncodingLimits) -> bool {
        if let Set::Intset(set) = self {
            match structures::number::parse_i64(member) {
                Some(value) => {
                    if !set.add(value) {
                        return false;
                    }
                    if set.len() > limits.set_intset_entries {
                        self.to_table();
                    }
                    return true;
                }
                None if set.len() < limits.set_listpack_entries => {
                    let mut pack = Listpack::new();
                    set.iter().for_each(|value| pack.push_back_i64(value));
                    *self = Set::Listpack(pack);
                }
                None => self.to_table(),
            }
        }
        if let Set::Listpack(pack) = self {
            if pack.position(member).is_some() {
                return false;
            }
            if pack.len() < limits.set_listpack_entries && member.len() <= limits.set_listpack_value {
                pack.push_back(member);
                return true;
            }
            self.to_table();
        }
        let Set::Table(table) = self else { unreachable!("the other forms were left above") };
        let hash = hash(member);
        if table.get(hash, member).is_some() {
            return false;
        }
        table.insert(hash, Member::new_key(member, None));
        true
    }

    fn to_table(&mut self) {
        let mut table = Table::new();
        table.reserve(self.len() + 1);
        let mut add = |member: &[u8]| {
            table.insert(hash(member), Member::new_key(member, None));
        };
        match self {
            Set::Intset(set) => {
                let mut scratch = structures::number::IntText::new();
                set.iter().for_each(|value| add(scratch.format(value)));
            }
            Set::Listpack(pack) => pack.iter().for_each(|entry| add(&entry.to_vec())),
            Set::Table(_) => return,
        }
        *self = Set::Table(Box::new(table));
    }
}
