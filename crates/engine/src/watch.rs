//! `WATCH`: optimistic locking of keys by connections.

use std::collections::{HashMap, HashSet};

use crate::session::{SessionId, WatchedKey};

/// A watched key: database and name.
type Watched = (u32, Box<[u8]>);

/// Which sessions watch which keys, and which of them have lost.
#[derive(Debug, Default)]
pub struct WatchTable {
    keys: HashMap<Watched, Vec<SessionId>>,
    /// Sessions of which a watched key was changed: their next `EXEC` is refused.
    lost: HashSet<SessionId>,
}

impl WatchTable {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True if the session was not watching this key before.
    pub fn watch(&mut self, session: SessionId, db: u32, key: &[u8]) -> bool {
        let sessions = self.keys.entry((db, key.into())).or_default();
        if sessions.contains(&session) {
            return false;
        }
        sessions.push(session);
        true
    }

    /// Forgets everything of `session`; `watched` is the list of its keys that it keeps.
    pub fn unwatch(&mut self, session: SessionId, watched: &[WatchedKey]) {
        for row in watched {
            let row = (row.db, row.key.clone());
            if let Some(sessions) = self.keys.get_mut(&row) {
                sessions.retain(|other| *other != session);
                if sessions.is_empty() {
                    self.keys.remove(&row);
                }
            }
        }
        self.lost.remove(&session);
    }

    /// A key was changed.
    pub fn touch(&mut self, db: u32, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(sessions) = self.keys.get(&(db, key.into())) {
            self.lost.extend(sessions);
        }
    }

    /// A whole database changes: keys for which `changes` says so lose their watchers' transactions.
    pub fn touch_db(&mut self, db: u32, mut changes: impl FnMut(&[u8]) -> bool) {
        for ((watched_db, key), sessions) in &self.keys {
            if *watched_db == db && changes(key) {
                self.lost.extend(sessions);
            }
        }
    }

    pub fn has_lost(&self, session: SessionId) -> bool {
        self.lost.contains(&session)
    }

    /// Number of keys watched at least once: `total_watched_keys` of later versions.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_watchers_of_the_changed_key_lose() {
        let mut table = WatchTable::default();
        assert!(table.watch(1, 0, b"a"));
        assert!(!table.watch(1, 0, b"a"), "watching twice is one watch");
        table.watch(2, 0, b"b");
        table.watch(3, 1, b"a");
        table.touch(0, b"a");
        assert_eq!([1, 2, 3].map(|id| table.has_lost(id)), [true, false, false]);
        table.unwatch(1, &[WatchedKey { db: 0, key: b"a".as_slice().into(), expired: false }]);
        assert!(!table.has_lost(1));
        table.touch_db(1, |key| key == b"a");
        assert!(table.has_lost(3) && !table.has_lost(2));
    }
}
