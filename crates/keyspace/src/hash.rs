//! Hashes: a listpack of field, value, field, value … while small, else a hash table.

use structures::hash::hash;
use structures::listpack::Listpack;
use structures::record::{Record, ValueRef};
use structures::table::Table;

/// A field of a large hash with its value in the same allocation; only a value of 4 GiB and more would need another.
pub type Field = Record<Vec<u8>>;

/// A hash value. Never empty while it is in a database.
#[derive(Debug)]
pub enum Hash {
    Listpack(Listpack),
    Table(Box<Table<Field>>),
}

impl Hash {
    /// Number of fields.
    pub fn len(&self) -> usize {
        match self {
            Hash::Listpack(pack) => pack.len() / 2,
            Hash::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self) -> &'static str {
        match self {
            Hash::Listpack(_) => "listpack",
            Hash::Table(_) => "hashtable",
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Hash::Listpack(pack) => pack.bytes().len(),
            Hash::Table(table) => table.bytes() + table.iter().map(Record::bytes).sum::<usize>(),
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            Hash::Listpack(_) => 1,
            Hash::Table(table) => table.len(),
        }
    }

    pub fn duplicate(&self) -> Hash {
        match self {
            Hash::Listpack(pack) => Hash::Listpack(pack.clone()),
            Hash::Table(table) => {
                let mut copy = Table::new();
                copy.reserve(table.len());
                for field in table.iter() {
                    copy.insert(hash(field.key()), duplicate_field(field));
                }
                Hash::Table(Box::new(copy))
            }
        }
    }
}

fn duplicate_field(field: &Field) -> Field {
    match field.value() {
        ValueRef::None => Field::new_key(field.key(), field.expire_at()),
        ValueRef::Int(value) => Field::new_int(field.key(), value, field.expire_at()),
        ValueRef::Bytes(bytes) => Field::new_bytes(field.key(), bytes, field.expire_at()),
        ValueRef::Payload(bytes) => Field::new_payload(field.key(), bytes.clone(), field.expire_at()),
    }
}
