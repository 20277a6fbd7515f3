//! The names that commands go by, which `rename-command` may change for one server.
//!
//! Lookup is on the path of every command, so it neither allocates nor folds case byte by byte: a name's first and
//! last eight bytes are folded as two words, and these with the length make the hash. For names of up to 16 bytes,
//! which are all but a few, two words and the length are the name, and comparing them decides.

use std::fmt;

use crate::registry::CommandId;

/// The names by which commands are called, in any case.
#[derive(Clone, Debug)]
pub struct Names {
    /// In the order of registration.
    names: Vec<(Box<[u8]>, CommandId)>,
    table: Table,
}

/// Why `rename-command` was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameError {
    NoSuchCommand,
    NameTaken,
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RenameError::NoSuchCommand => "No such command in rename-command",
            RenameError::NameTaken => "Target command name already exists",
        })
    }
}

impl std::error::Error for RenameError {}

impl Names {
    pub(crate) fn new(names: Vec<(Box<[u8]>, CommandId)>) -> Names {
        let table = Table::new(&names);
        Names { names, table }
    }

    #[inline(always)]
    pub fn lookup(&self, name: &[u8]) -> Option<CommandId> {
        self.table.lookup(name, &self.names)
    }

    /// The commands that have a name, in the order of registration.
    pub fn ids(&self) -> impl Iterator<Item = CommandId> {
        self.names.iter().map(|(_, id)| *id)
    }

    /// Gives a command another name, or none when `to` is empty: `rename-command`.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let find = |names: &[(Box<[u8]>, CommandId)], name: &[u8]| {
            names.iter().position(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        let at = find(&self.names, from).ok_or(RenameError::NoSuchCommand)?;
        if to.is_empty() {
            self.names.remove(at);
        } else if find(&self.names, to).is_some_and(|other| other != at) {
            return Err(RenameError::NameTaken);
        } else {
            self.names[at].0 = to.to_ascii_lowercase().into();
        }
        self.table = Table::new(&self.names);
        Ok(())
    }
}

/// Open addressing with linear probing, at most a quarter full. The seed is the one of many with the shortest probes.
#[derive(Clone, Debug, Default)]
struct Table {
    slots: Box<[Slot]>,
    seed: u64,
    shift: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: NameKey,
    /// Index into the registry's names, and the command's id; valid when the key is not empty.
    name: u16,
    id: u16,
}

/// A name in lower case, whole when it has at most 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct NameKey {
    head: u64,
    tail: u64,
    len: u32,
}

/// Seeds that [`Table::new`] tries.
const SEEDS: u64 = 64;

impl Table {
    fn new(names: &[(Box<[u8]>, CommandId)]) -> Table {
        let bits = (names.len() * 4).next_power_of_two().ilog2().max(4);
        // Multiples of the golden ratio in 64 bits, made odd.
        let seeds = (1..=SEEDS).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let tables = seeds.map(|seed| Table::with_seed(names, bits, seed));
        let (_, table) = tables.min_by_key(|(probes, _)| *probes).expect("there are seeds");
        table
    }

    /// The table and the number of probes that finding every name once takes.
    fn with_seed(names: &[(Box<[u8]>, CommandId)], bits: u32, seed: u64) -> (usize, Table) {
        let mut table =
            Table { slots: vec![Slot::default(); 1 << bits].into(), seed, shift: u64::BITS - bits };
        let mut probes = 0;
        for (index, (name, id)) in names.iter().enumerate() {
            let key = NameKey::new(name);
            let mut at = table.home(key);
            probes += 1;
            while table.slots[at].key.len != 0 {
                at = (at + 1) % table.slots.len();
                probes += 1;
            }
            table.slots[at] = Slot { key, name: index as u16, id: id.0 };
        }
        (probes, table)
    }

    #[inline]
    fn home(&self, key: NameKey) -> usize {
        let mixed = key.head ^ key.tail.rotate_left(29) ^ u64::from(key.len) << 56;
        (mixed.wrapping_mul(self.seed) >> self.shift) as usize
    }

    #[inline(always)]
    fn lookup(&self, name: &[u8], names: &[(Box<[u8]>, CommandId)]) -> Option<CommandId> {
        let key = NameKey::new(name);
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at];
            if slot.key.len == 0 {
                return None;
            }
            if slot.key == key
                && (name.len() <= 16 || names[usize::from(slot.name)].0.eq_ignore_ascii_case(name))
            {
                return Some(CommandId(slot.id));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

impl NameKey {
    #[inline]
    fn new(name: &[u8]) -> NameKey {
        let len = name.len() as u32;
        let (head, tail) = match *name {
            [_, _, _, _, _, _, _, _, ..] => {
                let head = name.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let tail = name.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                (head, tail)
            }
            // Two halves that overlap: with the length they still tell all names apart.
            [_, _, _, _, ..] => {
                let head = name.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let tail = name.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                (u64::from(head) | u64::from(tail) << 32, 0)
            }
            [a, b, c] => (u64::from(u32::from_le_bytes([a, b, c, 0])), 0),
            [a, b] => (u64::from(u16::from_le_bytes([a, b])), 0),
            [a] => (u64::from(a), 0),
            [] => (0, 0),
        };
        NameKey { head: to_lowercase(head), tail: to_lowercase(tail), len }
    }
}

/// Folds the ASCII capitals among eight bytes, all at once; every other byte stays.
#[inline]
const fn to_lowercase(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    // Bit 7 of each byte: at least 'A', above 'Z'. No byte carries into the next, since 0x7f + 0x3f < 0x100.
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let above_z = low + (0x7f - b'Z' as u64) * ONES;
    let capital = !word & (from_a ^ above_z) & (0x80 * ONES);
    word | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn folding_a_word_is_folding_its_bytes(bytes: [u8; 8]) {
            prop_assert_eq!(to_lowercase(u64::from_le_bytes(bytes)).to_le_bytes().to_vec(), bytes.to_ascii_lowercase());
        }

        #[test]
        fn the_table_finds_exactly_its_names(
            names in prop::collection::btree_set("[a-c@`\\[{]{1,20}", 0..60),
            other in "[a-cA-C@`\\[{]{0,20}",
        ) {
            let names: Vec<(Box<[u8]>, CommandId)> = names
                .iter()
                .enumerate()
                .map(|(index, name)| (name.as_bytes().into(), CommandId(index as u16)))
                .collect();
            let table = Table::new(&names);
            for (name, id) in &names {
                prop_assert_eq!(table.lookup(name, &names), Some(*id));
                prop_assert_eq!(table.lookup(&name.to_ascii_uppercase(), &names), Some(*id));
            }
            let expected = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(other.as_bytes()));
            prop_assert_eq!(table.lookup(other.as_bytes(), &names), expected.map(|(_, id)| *id));
        }
    }
}
