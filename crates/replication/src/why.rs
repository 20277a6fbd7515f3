//! Why full synchronisations happened: counted by cause, the last ones kept in words.
//!
//! Both sides keep one: a primary of those that it served, a replica of those that it received. The log, INFO, `REPL WHY`
//! and tests speak of the same [`Cause`]s.

use std::collections::VecDeque;
use std::fmt;

use log::Position;

use crate::history::FullResyncWhy;

/// How many full synchronisations are remembered.
const KEPT: usize = 16;

/// Why there was no partial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The replica had no position to continue from, and asked for everything.
    NoPosition,
    /// It had to give its position up: the stream broke, or a transfer failed after the old data was dropped.
    PositionLost,
    /// It wanted a snapshot and nothing after it (`redis-cli --rdb`).
    SnapshotOnly,
    /// It knows no PSYNC, or its primary does not.
    NoPsync,
    /// Its data is of a history that the primary does not know.
    OtherHistory,
    /// The histories parted before the replica's position.
    Diverged,
    /// The primary keeps no backlog.
    NoBacklog,
    /// The backlog no longer had what the replica lacked.
    BacklogTooSmall,
    /// The replica is ahead of its primary.
    Ahead,
    /// What was lacking has commands in it that the replica does not know.
    NotUnderstood,
    /// What was lacking was more than `client-output-buffer-limit` lets wait for a replica.
    BeyondOutputLimit,
}

impl Cause {
    pub const ALL: [Cause; 11] = [
        Cause::NoPosition,
        Cause::PositionLost,
        Cause::SnapshotOnly,
        Cause::NoPsync,
        Cause::OtherHistory,
        Cause::Diverged,
        Cause::NoBacklog,
        Cause::BacklogTooSmall,
        Cause::Ahead,
        Cause::NotUnderstood,
        Cause::BeyondOutputLimit,
    ];

    /// The name in INFO and `REPL WHY`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::NoPosition => "no-position",
            Cause::PositionLost => "position-lost",
            Cause::SnapshotOnly => "snapshot-only",
            Cause::NoPsync => "no-psync",
            Cause::OtherHistory => "other-history",
            Cause::Diverged => "diverged",
            Cause::NoBacklog => "no-backlog",
            Cause::BacklogTooSmall => "backlog-too-small",
            Cause::Ahead => "ahead",
            Cause::NotUnderstood => "not-understood",
            Cause::BeyondOutputLimit => "beyond-output-limit",
        }
    }
}

/// One full synchronisation, as the side knows it that tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullSync {
    pub cause: Cause,
    /// `id:next byte` as it was asked for, if something was.
    pub asked: Option<String>,
    /// Where the primary stood, if it said so.
    pub primary: Option<Position>,
    /// So many bytes that the replica lacked were no longer in the backlog. Only the primary knows that.
    pub missing_bytes: Option<u64>,
    /// A backlog of so many bytes would have been enough.
    pub enough_bytes: Option<u64>,
}

impl FullSync {
    /// With nothing known but the cause.
    pub fn because(cause: Cause) -> FullSync {
        FullSync { cause, asked: None, primary: None, missing_bytes: None, enough_bytes: None }
    }

    /// As a primary at `primary` knows it, or one that has no log yet.
    pub fn served(why: &FullResyncWhy, asked: String, primary: Option<Position>) -> FullSync {
        let cause = match why {
            FullResyncWhy::Requested => Cause::NoPosition,
            FullResyncWhy::UnknownId { .. } => Cause::OtherHistory,
            FullResyncWhy::SecondIdPastItsEnd { .. } => Cause::Diverged,
            FullResyncWhy::NoBacklog { .. } => Cause::NoBacklog,
            FullResyncWhy::NotUnderstood { .. } => Cause::NotUnderstood,
            FullResyncWhy::BeyondOutputLimit { .. } => Cause::BeyondOutputLimit,
            FullResyncWhy::NotInWindow { next, window } => match u64::try_from(*next) {
                Ok(next) if next > window.end() => Cause::Ahead,
                _ => Cause::BacklogTooSmall,
            },
        };
        let asked = (cause != Cause::NoPosition).then_some(asked);
        let mut sync = FullSync { asked, primary, ..FullSync::because(cause) };
        if let (Cause::BacklogTooSmall, FullResyncWhy::NotInWindow { next, window }) = (cause, why) {
            let next = (*next).max(0) as u64;
            sync.missing_bytes = Some(window.first.saturating_sub(next));
            sync.enough_bytes = Some((window.end() + 1).saturating_sub(next));
        }
        sync
    }

    /// As a replica at `ours` knows it, whose primary answered with a snapshot at `primary`.
    pub fn received(ours: Option<Position>, gave_up: bool, primary: Option<Position>) -> FullSync {
        let (cause, enough_bytes) = match (ours, primary) {
            (None, _) if gave_up => (Cause::PositionLost, None),
            (None, _) => (Cause::NoPosition, None),
            (Some(_), None) => (Cause::NoPsync, None),
            (Some(ours), Some(at)) if ours.replid != at.replid => (Cause::OtherHistory, None),
            (Some(ours), Some(at)) if ours.offset > at.offset => (Cause::Ahead, None),
            (Some(ours), Some(at)) => (Cause::BacklogTooSmall, Some(at.offset - ours.offset)),
        };
        let asked = ours.map(|at| format!("{}:{}", at.replid, at.next()));
        FullSync { asked, primary, enough_bytes, ..FullSync::because(cause) }
    }
}

impl fmt::Display for FullSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked.as_deref().unwrap_or("nothing");
        match self.cause {
            Cause::NoPosition => write!(f, "the replica had no position to continue from"),
            Cause::PositionLost => write!(
                f,
                "the replica had given up its position, because the stream broke or a transfer failed"
            ),
            Cause::SnapshotOnly => write!(f, "only a snapshot was wanted"),
            Cause::NoPsync => write!(f, "one of the two knows no PSYNC"),
            Cause::OtherHistory => {
                write!(f, "the replica asked for {asked}, of a history that the primary does not know")
            }
            Cause::Diverged => {
                write!(f, "the replica asked for {asked}, and the histories had parted before that")
            }
            Cause::NoBacklog => write!(f, "the replica asked for {asked}, and there was no backlog"),
            Cause::BacklogTooSmall => {
                write!(f, "the replica asked for {asked}, which the backlog no longer had")?;
                if let Some(missing) = self.missing_bytes {
                    write!(f, "; {missing} bytes were missing")?;
                }
                match self.enough_bytes {
                    Some(enough) => write!(f, "; a repl-backlog-size of {enough} would have been enough"),
                    None => Ok(()),
                }
            }
            Cause::Ahead => write!(f, "the replica asked for {asked}, which the primary had not written"),
            Cause::NotUnderstood => {
                write!(
                    f,
                    "the replica asked for {asked}, and what follows has commands that it does not know"
                )
            }
            Cause::BeyondOutputLimit => {
                write!(
                    f,
                    "the replica asked for {asked}, and what follows is more than client-output-buffer-limit lets \
                     wait for it"
                )
            }
        }
    }
}

/// All full synchronisations of one kind since the start.
#[derive(Clone, Debug, Default)]
pub struct FullSyncs {
    counts: [u64; Cause::ALL.len()],
    last: VecDeque<Remembered>,
}

/// A full synchronisation, when it was, and who was at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub unix_ms: i64,
    pub peer: String,
    pub sync: FullSync,
    /// When it was made to wait for its turn, if it was, and when its turn came.
    pub queued_unix_ms: Option<i64>,
    pub admitted_unix_ms: Option<i64>,
}

impl FullSyncs {
    pub fn add(&mut self, unix_ms: i64, peer: String, sync: FullSync) {
        self.counts[sync.cause as usize] += 1;
        self.last.truncate(KEPT - 1);
        let (queued_unix_ms, admitted_unix_ms) = (None, None);
        self.last.push_front(Remembered { unix_ms, peer, sync, queued_unix_ms, admitted_unix_ms });
    }

    /// The last one of this peer has to wait for its turn.
    pub fn queued(&mut self, unix_ms: i64, peer: &str) {
        if let Some(one) = self.last.iter_mut().find(|one| one.peer == peer) {
            one.queued_unix_ms = Some(unix_ms);
        }
    }

    /// Its turn has come.
    pub fn admitted(&mut self, unix_ms: i64, peer: &str) {
        if let Some(one) = self.last.iter_mut().find(|one| one.peer == peer) {
            one.admitted_unix_ms = Some(unix_ms);
        }
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The causes that there were, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// The last ones, newest first.
    pub fn last(&self) -> impl ExactSizeIterator<Item = &Remembered> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use log::{LogWindow, ReplId};

    fn at(id: u8, offset: u64) -> Position {
        Position::new(ReplId::from_random([id; 20]), offset)
    }

    #[test]
    fn the_primary_says_by_how_much_the_backlog_was_too_small() {
        let window = LogWindow { first: 1001, len: 500 };
        let served = |next| {
            let why = FullResyncWhy::NotInWindow { next, window };
            FullSync::served(&why, format!("id:{next}"), Some(at(1, 1500)))
        };
        let sync = served(901);
        assert_eq!((sync.missing_bytes, sync.enough_bytes), (Some(100), Some(600)));
        expect![[r#"the replica asked for id:901, which the backlog no longer had; 100 bytes were missing; a repl-backlog-size of 600 would have been enough"#]]
            .assert_eq(&sync.to_string());
        assert_eq!(served(-1).cause, Cause::BacklogTooSmall);
        assert_eq!(served(1502).cause, Cause::Ahead);
        let sync = FullSync::served(&FullResyncWhy::Requested, "?:-1".to_owned(), Some(at(1, 1500)));
        assert_eq!((sync.cause, sync.asked), (Cause::NoPosition, None));
    }

    #[test]
    fn the_replica_tells_the_causes_apart_by_the_answer() {
        let cause = |ours, gave_up, primary| FullSync::received(ours, gave_up, primary).cause;
        assert_eq!(cause(None, false, Some(at(1, 5))), Cause::NoPosition);
        assert_eq!(cause(None, true, Some(at(1, 5))), Cause::PositionLost);
        assert_eq!(cause(Some(at(1, 5)), false, None), Cause::NoPsync);
        assert_eq!(cause(Some(at(1, 5)), false, Some(at(2, 9))), Cause::OtherHistory);
        assert_eq!(cause(Some(at(1, 5)), false, Some(at(1, 4))), Cause::Ahead);
        let sync = FullSync::received(Some(at(1, 5)), false, Some(at(1, 905)));
        assert_eq!((sync.cause, sync.enough_bytes), (Cause::BacklogTooSmall, Some(900)));
    }

    #[test]
    fn who_had_to_wait_is_remembered_with_the_last_one_of_it() {
        let mut syncs = FullSyncs::default();
        for (n, peer) in [(1, "a"), (2, "b"), (3, "a")] {
            syncs.add(n, peer.to_owned(), FullSync::because(Cause::NoPosition));
        }
        syncs.queued(4, "a");
        syncs.admitted(5, "a");
        syncs.queued(6, "b");
        syncs.queued(7, "unknown");
        let times: Vec<_> = syncs.last().map(|one| (one.queued_unix_ms, one.admitted_unix_ms)).collect();
        assert_eq!(times, [(Some(4), Some(5)), (Some(6), None), (None, None)]);
    }

    #[test]
    fn causes_are_counted_and_the_last_are_kept() {
        let mut syncs = FullSyncs::default();
        for n in 0..20 {
            let cause = if n % 4 == 0 { Cause::Ahead } else { Cause::NoPsync };
            syncs.add(n, format!("10.0.0.1:{n}"), FullSync::because(cause));
        }
        assert_eq!(syncs.total(), 20);
        assert_eq!(syncs.counts().collect::<Vec<_>>(), [(Cause::NoPsync, 15), (Cause::Ahead, 5)]);
        assert_eq!(
            syncs.last().map(|one| one.unix_ms).collect::<Vec<_>>(),
            (4..20).rev().collect::<Vec<_>>()
        );
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
