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

// ---- loading ----

impl Hash {
    pub fn load_listpack(
        bytes: Vec<u8>,
        limits: &crate::EncodingLimits,
    ) -> Result<Hash, crate::object::Malformed> {
        const BROKEN: crate::object::Malformed =
            crate::object::Malformed("Hash listpack integrity check failed.");
        let pack = Listpack::from_vec_validated(bytes, true).map_err(|_| BROKEN)?;
        if pack.len() % 2 != 0 {
            return Err(BROKEN);
        }
        let mut hash = Hash::with_capacity(pack.len() / 2, limits);
        let (mut name, mut value) = (Vec::new(), Vec::new());
        let mut entries = pack.iter();
        while let (Some(first), Some(second)) = (entries.next(), entries.next()) {
            name.clear();
            first.push_to(&mut name);
            value.clear();
            second.push_to(&mut value);
            if !hash.load_field(&name, &value, None, limits) {
                return Err(BROKEN);
            }
        }
        Ok(hash)
    }

    /// An empty hash that is about to get `fields` fields.
    pub fn with_capacity(fields: usize, limits: &crate::EncodingLimits) -> Hash {
        if fields <= limits.hash_entries {
            return Hash::Listpack(Listpack::new());
        }
        let mut table = Table::new();
        table.reserve(fields);
        Hash::Table(Box::new(table))
    }

    /// Adds a field out of a snapshot; false if it is there already.
    pub fn load_field(
        &mut self,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
        limits: &crate::EncodingLimits,
    ) -> bool {
        if let Hash::Listpack(pack) = self {
            if let Some(first) = pack.first()
                && pack.find(first, name, 1).is_some()
            {
                return false;
            }
            let fits = name.len().max(value.len()) <= limits.hash_value;
            if fits && expire_at_ms.is_none() && pack.len() / 2 < limits.hash_entries {
                pack.push_back(name);
                pack.push_back(value);
                return true;
            }
            let mut table = Table::new();
            table.reserve(pack.len() / 2 + 1);
            let mut entries = pack.iter();
            while let (Some(name), Some(value)) = (entries.next(), entries.next()) {
                let name = name.to_vec();
                table.insert(hash(&name), Field::new_bytes(&name, &value.to_vec(), None));
            }
            *self = Hash::Table(Box::new(table));
        }
        let Hash::Table(table) = self else { unreachable!("the other form was left above") };
        let hash = hash(name);
        if table.get(hash, name).is_some() {
            return false;
        }
        table.insert(hash, Field::new_bytes(name, value, expire_at_ms));
        true
    }
}
