//! Who may be synchronised in full now, and who waits for its turn (`repl-full-sync-max`).
//!
//! There is no list to be kept and nothing to be given back: a place is held by being sent a snapshot, and the line are
//! those that wait for one, in the order in which they came. So whatever ends a replica frees its place.

use crate::replica_link::{ReplicaLink, ReplicaState};

/// The places for full synchronisations at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Zero is no limit.
    max: usize,
    /// Replicas whose snapshot is being made or sent.
    pub taken: usize,
    /// Replicas that wait for a snapshot, with a place or without.
    pub waiting: usize,
}

impl Places {
    pub fn count<'a>(max: usize, replicas: impl IntoIterator<Item = &'a ReplicaLink>) -> Places {
        let mut places = Places { max, ..Places::default() };
        for replica in replicas {
            places.taken += usize::from(replica.is_transferring());
            places.waiting += usize::from(replica.is_waiting());
        }
        places
    }

    /// `repl-full-sync-max`, if there is a limit.
    pub fn max(&self) -> Option<usize> {
        (self.max > 0).then_some(self.max)
    }

    /// So many more may begin.
    pub fn free(&self) -> usize {
        self.max().map_or(usize::MAX, |max| max.saturating_sub(self.taken))
    }

    /// So many wait because there is no place for them.
    pub fn queued(&self) -> usize {
        self.waiting.saturating_sub(self.free())
    }

    /// Every place is taken, or those who wait are going to take it: nobody who comes later can join them.
    pub fn are_gone(&self) -> bool {
        self.waiting >= self.free()
    }
}

impl ReplicaLink {
    /// Whether it waits for a snapshot that was not begun.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state(), ReplicaState::WaitSnapshot { .. })
    }

    /// Whether a snapshot is being made for it or sent to it.
    pub fn is_transferring(&self) -> bool {
        matches!(self.state(), ReplicaState::SnapshotRunning { .. } | ReplicaState::SendSnapshot { .. })
    }
}
