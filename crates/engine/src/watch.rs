//! `WATCH`: optimistic locking of keys by connections.

use std::collections::{HashMap, HashSet};

use crate::session::{SessionId, WatchedKey};

/// A watched key: database and name.
type Watched = (u32, Box<[u8]>);

#[derive(Debug)]
struct Watcher {
    session: SessionId,
    /// The key's time had run out when it was watched: for the session it does not exist, so that its deletion is no
    /// change.
    stale: bool,
}

/// What a key is in a database, for its watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    /// There, but its time has run out.
    Stale,
    Alive,
}

/// Which sessions watch which keys, and which of them have lost.
#[derive(Debug, Default)]
pub struct WatchTable {
    keys: HashMap<Watched, Vec<Watcher>>,
    /// Sessions of which a watched key was changed: their next `EXEC` is refused.
    lost: HashSet<SessionId>,
}

impl WatchTable {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True if the session was not watching this key before. `stale`: its time has run out already.
    pub fn watch(&mut self, session: SessionId, db: u32, key: &[u8], stale: bool) -> bool {
        let watchers = self.keys.entry((db, key.into())).or_default();
        if watchers.iter().any(|watcher| watcher.session == session) {
            return false;
        }
        watchers.push(Watcher { session, stale });
        true
    }

    /// Forgets everything of `session`; `watched` is the list of its keys that it keeps.
    pub fn unwatch(&mut self, session: SessionId, watched: &[WatchedKey]) {
        for row in watched {
            let row = (row.db, row.key.clone());
            if let Some(watchers) = self.keys.get_mut(&row) {
                watchers.retain(|watcher| watcher.session != session);
                if watchers.is_empty() {
                    self.keys.remove(&row);
                }
            }
        }
        self.lost.remove(&session);
    }

    /// A key was changed; `exists` tells whether it is there now.
    pub fn touch(&mut self, db: u32, key: &[u8], exists: bool) {
        if self.keys.is_empty() {
            return;
        }
        for watcher in self.keys.get_mut(&(db, key.into())).into_iter().flatten() {
            if watcher.stale && !exists {
                watcher.stale = false;
            } else {
                self.lost.insert(watcher.session);
            }
        }
    }

    /// The contents of a whole database change; `change` tells what a key was in it and what it is now.
    pub fn touch_db(&mut self, db: u32, mut change: impl FnMut(&[u8]) -> (Presence, Presence)) {
        for ((watched_db, key), watchers) in &mut self.keys {
            if *watched_db != db {
                continue;
            }
            let (before, after) = change(key);
            if before == Presence::Absent && after == Presence::Absent {
                continue;
            }
            for watcher in watchers {
                match (watcher.stale, after) {
                    (true, Presence::Absent) => watcher.stale = false,
                    (true, Presence::Stale) => {}
                    (false, Presence::Stale) if before == Presence::Absent => watcher.stale = true,
                    _ => {
                        self.lost.insert(watcher.session);
                    }
                }
            }
        }
    }

    pub fn has_lost(&self, session: SessionId) -> bool {
        self.lost.contains(&session)
    }

    /// True if the session watched the key when its time had run out already, and nothing has changed since.
    pub fn is_stale(&self, session: SessionId, row: &WatchedKey) -> bool {
        let watchers = self.keys.get(&(row.db, row.key.clone()));
        watchers.into_iter().flatten().any(|watcher| watcher.session == session && watcher.stale)
    }

    /// Number of keys watched at least once: `total_watched_keys` of later versions.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(db: u32, key: &[u8]) -> WatchedKey {
        WatchedKey { db, key: key.into() }
    }

    #[test]
    fn only_the_watchers_of_the_changed_key_lose() {
        let mut table = WatchTable::default();
        assert!(table.watch(1, 0, b"a", false));
        assert!(!table.watch(1, 0, b"a", false), "watching twice is one watch");
        table.watch(2, 0, b"b", false);
        table.watch(3, 1, b"a", false);
        table.touch(0, b"a", true);
        assert_eq!([1, 2, 3].map(|id| table.has_lost(id)), [true, false, false]);
        table.unwatch(1, &[row(0, b"a")]);
        assert!(!table.has_lost(1));
        table.touch_db(1, |_| (Presence::Alive, Presence::Absent));
        assert!(table.has_lost(3) && !table.has_lost(2));
    }

    #[test]
    fn the_deletion_of_what_was_stale_is_no_change() {
        use Presence::{Absent, Alive, Stale};
        // (was stale when watched, before, after, loses)
        for (stale, before, after, loses) in [
            (true, Stale, Absent, false),
            (true, Stale, Stale, false),
            (true, Stale, Alive, true),
            (false, Absent, Stale, false),
            (false, Absent, Alive, true),
            (false, Alive, Absent, true),
            (false, Absent, Absent, false),
        ] {
            let mut table = WatchTable::default();
            table.watch(1, 0, b"a", stale);
            table.touch_db(0, |_| (before, after));
            assert_eq!(table.has_lost(1), loses, "{stale} {before:?} {after:?}");
        }
        let mut table = WatchTable::default();
        table.watch(1, 0, b"a", true);
        table.touch(0, b"a", false);
        assert!(!table.has_lost(1) && !table.is_stale(1, &row(0, b"a")));
        table.touch(0, b"a", true);
        assert!(table.has_lost(1), "created after it was deleted");
    }
}
