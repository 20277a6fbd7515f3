//! Keys that clients of a writable replica gave an expiry.
//!
//! The primary tells of the ends of its own keys, but it does not know of these: the replica deletes them itself when
//! their time comes. A key that the primary changes afterwards stays here; it is deleted as well if its time has run
//! out, as Redis does.

use std::collections::{BTreeSet, HashMap};

type Name = (u32, Box<[u8]>);

/// One row per key, found by name and in the order of time.
#[derive(Debug, Default)]
pub struct OwnExpiries {
    at_ms: HashMap<Name, i64>,
    due: BTreeSet<(i64, Name)>,
}

impl OwnExpiries {
    pub fn len(&self) -> usize {
        self.at_ms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.at_ms.is_empty()
    }

    /// `key` of database `db` is to end at `at_ms`, whatever was noted of it before.
    pub fn note(&mut self, db: u32, key: &[u8], at_ms: i64) {
        let name: Name = (db, key.into());
        if let Some(before) = self.at_ms.insert(name.clone(), at_ms) {
            self.due.remove(&(before, name.clone()));
        }
        self.due.insert((at_ms, name));
    }

    /// Takes a key out whose time has come.
    pub fn take_due(&mut self, now_ms: i64) -> Option<(u32, Box<[u8]>)> {
        if self.due.first()?.0 >= now_ms {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        self.at_ms.remove(&name);
        Some(name)
    }

    /// Forgets all keys: they are gone, or this node deletes what is due anyway.
    pub fn clear(&mut self) {
        self.at_ms.clear();
        self.due.clear();
    }

    /// Forgets the keys of one database.
    pub fn clear_db(&mut self, db: u32) {
        self.at_ms.retain(|name, _| name.0 != db);
        self.due.retain(|(_, name)| name.0 != db);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_time_the_last() {
        let mut own = OwnExpiries::default();
        own.note(0, b"a", 10);
        own.note(1, b"a", 20);
        own.note(0, b"a", 30);
        assert_eq!(own.len(), 2);
        assert_eq!(own.take_due(20), None);
        assert_eq!(own.take_due(31), Some((1, b"a".as_slice().into())));
        assert_eq!(own.take_due(31), Some((0, b"a".as_slice().into())));
        assert!(own.is_empty() && own.take_due(100).is_none());
    }

    #[test]
    fn a_database_is_forgotten_alone() {
        let mut own = OwnExpiries::default();
        own.note(0, b"a", 10);
        own.note(1, b"b", 10);
        own.clear_db(0);
        assert_eq!(own.take_due(11), Some((1, b"b".as_slice().into())));
        assert_eq!(own.take_due(11), None);
    }
}
