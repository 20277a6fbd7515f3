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
