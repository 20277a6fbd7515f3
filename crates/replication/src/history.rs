//! The history ids of a server, and the decision whether a replica may continue.
//!
//! A server follows one history, named by its id, and may still answer for a second one: the history that
//! it shared with others before it was promoted, up to the offset where the two part. The current offset is
//! the end of the [`log::Log`], which alone owns it.
//!
//! ```text
//!   id A      1 ────────────── 50 ──── 80        the old primary, which went on alone
//!   id B      └─ second: A, 51 ┘└───── 51 ──     the promoted replica: answers for A up to a request for 51
//! ```

use std::fmt;

use log::{LogWindow, Position, ReplId};

use crate::wire::lossy;

/// The ids that a server answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub id: ReplId,
    pub second: Option<SecondHistory>,
}

/// A former history of this server's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondHistory {
    pub id: ReplId,
    /// `second_repl_offset`: the highest offset that may be asked for, one more than the last shared byte.
    pub valid_until: u64,
}

/// What a replica asks for, as it came over the wire: `PSYNC id offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PsyncRequest {
    /// `?` asks for a full resynchronisation.
    pub id: Vec<u8>,
    /// The first byte that the replica lacks; -1 beside `?`.
    pub next: i64,
}

/// The answer to a [`PsyncRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PsyncDecision {
    /// The replica holds all of our history up to `from - 1`.
    Continue {
        from: u64,
        /// How many bytes are waiting for it in the log.
        backlog_bytes: u64,
    },
    FullResync(FullResyncWhy),
}

/// Why a replica cannot continue. Its `Display` is the cause without the replica's name; the log lines are
/// made by [`crate::ReplicaEvent::FullResync`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FullResyncWhy {
    /// `PSYNC ? -1`: the replica has nothing to continue from.
    Requested,
    UnknownId {
        asked: String,
        id: ReplId,
        second: ReplId,
    },
    /// The replica followed the second history beyond the point where ours left it.
    SecondIdPastItsEnd {
        next: i64,
        valid_until: u64,
    },
    NoBacklog {
        next: i64,
    },
    /// The history is ours, but the wanted bytes are no longer, or not yet, in the log.
    NotInWindow {
        next: i64,
        window: LogWindow,
    },
    /// The log has the wanted bytes, and commands among them that the replica does not know.
    NotUnderstood {
        next: i64,
    },
    /// The log has the wanted bytes, more than may wait for a replica: it would be dropped at once.
    BeyondOutputLimit {
        next: i64,
        limit: u64,
    },
}

impl History {
    pub fn new(id: ReplId) -> History {
        History { id, second: None }
    }

    /// Begins a history that continues none: the log was created or freed, so writes may have gone
    /// unrecorded.
    pub fn begin(&mut self, new_id: ReplId) {
        *self = History::new(new_id);
    }

    /// Goes on under a new id from `end` (the offset of the last byte): promotion, or a primary that was
    /// promoted itself. The old id becomes the second.
    pub fn shift(&mut self, new_id: ReplId, end: u64) {
        self.second = Some(SecondHistory { id: self.id, valid_until: end + 1 });
        self.id = new_id;
    }

    /// Takes on the history of a primary after a full resynchronisation.
    pub fn adopt(&mut self, id: ReplId) {
        *self = History::new(id);
    }

    /// A primary that restarted with the data set of `saved` answers for it as its second history.
    pub fn restore(&mut self, saved: Position) {
        self.second = Some(SecondHistory { id: saved.replid, valid_until: saved.next() });
    }

    pub fn clear_second(&mut self) {
        self.second = None;
    }

    /// This history at `offset`.
    pub fn at(&self, offset: u64) -> Position {
        Position::new(self.id, offset)
    }

    /// `master_replid2`.
    pub fn second_id(&self) -> ReplId {
        self.second.map_or(ReplId::NONE, |second| second.id)
    }

    /// `second_repl_offset`, -1 when there is none.
    pub fn second_offset(&self) -> i64 {
        self.second.map_or(-1, |second| second.valid_until as i64)
    }
}

impl PsyncRequest {
    /// What a replica that holds `position`, or nothing, asks for.
    pub fn from_position(position: Option<Position>) -> PsyncRequest {
        match position {
            None => PsyncRequest { id: b"?".to_vec(), next: -1 },
            Some(at) => PsyncRequest { id: at.replid.as_bytes().to_vec(), next: at.next() as i64 },
        }
    }

    /// Whether the replica asks for a full resynchronisation on purpose; such requests do not count as
    /// failed partial ones (`sync_partial_err`).
    pub fn wants_full(&self) -> bool {
        self.id.first() == Some(&b'?')
    }
}

/// Whether the replica that sends `asked` may continue, given what the log holds (`None`: no log).
///
/// Continues only when the replica's data is a prefix of ours and every byte it lacks is held.
pub fn decide_psync(history: &History, log: Option<LogWindow>, asked: &PsyncRequest) -> PsyncDecision {
    use FullResyncWhy::*;
    let next = asked.next;
    if asked.wants_full() {
        return PsyncDecision::FullResync(Requested);
    }
    let id = ReplId::parse(&asked.id).ok();
    if id != Some(history.id) {
        match history.second.filter(|second| id == Some(second.id)) {
            Some(second) if next > second.valid_until as i64 => {
                return PsyncDecision::FullResync(SecondIdPastItsEnd {
                    next,
                    valid_until: second.valid_until,
                });
            }
            Some(_) => {}
            None => {
                return PsyncDecision::FullResync(UnknownId {
                    asked: lossy(&asked.id),
                    id: history.id,
                    second: history.second_id(),
                });
            }
        }
    }
    let Some(window) = log else { return PsyncDecision::FullResync(NoBacklog { next }) };
    match u64::try_from(next) {
        Ok(from) if window.covers(from) => {
            PsyncDecision::Continue { from, backlog_bytes: window.first + window.len - from }
        }
        _ => PsyncDecision::FullResync(NotInWindow { next, window }),
    }
}

impl fmt::Display for FullResyncWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FullResyncWhy::Requested => write!(f, "the replica has no position"),
            FullResyncWhy::UnknownId { asked, .. } => write!(f, "history {asked} is unknown"),
            FullResyncWhy::SecondIdPastItsEnd { next, valid_until } => {
                write!(f, "the histories parted at {valid_until}, asked for {next}")
            }
            FullResyncWhy::NoBacklog { next } => write!(f, "no backlog, asked for {next}"),
            FullResyncWhy::NotInWindow { next, window } => {
                write!(f, "asked for {next}, held are {} bytes from {}", window.len, window.first)
            }
            FullResyncWhy::NotUnderstood { next } => {
                write!(f, "asked for {next}, and what follows has commands that it does not know")
            }
            FullResyncWhy::BeyondOutputLimit { next, limit } => {
                write!(f, "asked for {next}, and more than {limit} bytes follow")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Log;
    use proptest::prelude::*;

    fn id(byte: u8) -> ReplId {
        ReplId::from_random([byte; 20])
    }

    fn ask(replid: ReplId, next: i64) -> PsyncRequest {
        PsyncRequest { id: replid.as_bytes().to_vec(), next }
    }

    const WINDOW: LogWindow = LogWindow { first: 101, len: 50 };

    #[test]
    fn the_window_is_open_from_its_first_byte_to_the_next_byte_to_come() {
        let history = History::new(id(1));
        for (next, bytes) in [(101, 50), (120, 31), (151, 0)] {
            assert_eq!(
                decide_psync(&history, Some(WINDOW), &ask(id(1), next)),
                PsyncDecision::Continue { from: next as u64, backlog_bytes: bytes }
            );
        }
        for next in [i64::MIN, -1, 0, 100, 152, i64::MAX] {
            assert_eq!(
                decide_psync(&history, Some(WINDOW), &ask(id(1), next)),
                PsyncDecision::FullResync(FullResyncWhy::NotInWindow { next, window: WINDOW })
            );
        }
        assert_eq!(
            decide_psync(&history, None, &ask(id(1), 101)),
            PsyncDecision::FullResync(FullResyncWhy::NoBacklog { next: 101 })
        );
    }

    #[test]
    fn the_second_id_is_good_up_to_where_the_histories_part() {
        let mut history = History::new(id(1));
        history.shift(id(2), 119);
        assert_eq!((history.second_id(), history.second_offset()), (id(1), 120));
        assert!(matches!(
            decide_psync(&history, Some(WINDOW), &ask(id(1), 120)),
            PsyncDecision::Continue { from: 120, backlog_bytes: 31 }
        ));
        assert_eq!(
            decide_psync(&history, Some(WINDOW), &ask(id(1), 121)),
            PsyncDecision::FullResync(FullResyncWhy::SecondIdPastItsEnd { next: 121, valid_until: 120 })
        );
        history.clear_second();
        assert!(matches!(
            decide_psync(&history, Some(WINDOW), &ask(id(1), 120)),
            PsyncDecision::FullResync(FullResyncWhy::UnknownId { .. })
        ));
        assert_eq!((history.second_id(), history.second_offset()), (ReplId::NONE, -1));
    }

    #[test]
    fn ids_are_compared_without_regard_to_case_and_strange_ones_are_unknown() {
        let history = History::new(id(0xab));
        let upper = PsyncRequest { id: "AB".repeat(20).into_bytes(), next: 101 };
        assert!(matches!(decide_psync(&history, Some(WINDOW), &upper), PsyncDecision::Continue { .. }));
        let strange = PsyncRequest { id: b"abc".to_vec(), next: 101 };
        assert!(matches!(
            decide_psync(&history, Some(WINDOW), &strange),
            PsyncDecision::FullResync(FullResyncWhy::UnknownId { asked, .. }) if asked == "abc"
        ));
        // The blank second id of a server that has none must not match a replica that asks for it.
        assert!(matches!(
            decide_psync(&history, Some(WINDOW), &ask(ReplId::NONE, 101)),
            PsyncDecision::FullResync(FullResyncWhy::UnknownId { .. })
        ));
        assert_eq!(
            decide_psync(&history, Some(WINDOW), &PsyncRequest::from_position(None)),
            PsyncDecision::FullResync(FullResyncWhy::Requested)
        );
    }

    /// A server in the model: its ids, its log, and the truth, all bytes that made up its data.
    struct Node {
        history: History,
        log: Log,
        truth: Vec<u8>,
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// The node writes on its own, as a primary.
        Write(usize, usize),
        /// The second node follows the first one: by continuing if it may, else by a full copy; then it
        /// applies at most so many bytes of what it lacks.
        Follow(usize, usize, usize),
        Promote(usize),
        Trim(usize),
        LoseLog(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let node = 0usize..3;
        // Histories that part by one byte are the dangerous ones; long writes move the window.
        let len = prop_oneof![3 => 1usize..3, 1 => 1usize..20_000];
        let pair = (node.clone(), node.clone());
        prop_oneof![
            6 => (node.clone(), len.clone()).prop_map(|(n, len)| Op::Write(n, len)),
            6 => (pair, len).prop_map(|((a, b), len)| Op::Follow(a, b, len)),
            3 => node.clone().prop_map(Op::Promote),
            2 => node.clone().prop_map(Op::Trim),
            1 => node.prop_map(Op::LoseLog),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Whoever is told to continue holds a prefix of the other's data, and the log has the rest.
        #[test]
        fn continuing_never_skips_a_byte_nor_joins_diverged_histories(
            ops in proptest::collection::vec(op(), 1..80)
        ) {
            let mut fresh = 0u8;
            let mut new_id = || { fresh += 1; id(fresh) };
            let mut nodes: Vec<Node> = (0..3).map(|_| {
                let mut log = Log::new(0);
                log.activate();
                Node { history: History::new(new_id()), log, truth: Vec::new() }
            }).collect();
            let mut stamp = 0u32;
            // A node may write only as a primary; one that follows gets a new id first, as on promotion.
            let mut follows = [false; 3];
            for op in ops {
                match op {
                    Op::Write(n, len) if !follows[n] => {
                        let bytes: Vec<u8> = (0..len).map(|_| {
                            stamp = stamp.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                            (stamp >> 24) as u8
                        }).collect();
                        nodes[n].log.append(&bytes);
                        nodes[n].truth.extend(bytes);
                    }
                    Op::Promote(n) if follows[n] => {
                        let end = nodes[n].log.end();
                        let fresh = new_id();
                        nodes[n].history.shift(fresh, end);
                        follows[n] = false;
                    }
                    Op::Trim(n) => { nodes[n].log.trim(None); }
                    Op::LoseLog(n) if !follows[n] => {
                        nodes[n].log.deactivate();
                        let fresh = new_id();
                        nodes[n].history.begin(fresh);
                        nodes[n].log.activate();
                    }
                    Op::Follow(of, who, len) if of != who => {
                        let at = nodes[who].history.at(nodes[who].log.end());
                        let asked = PsyncRequest::from_position(Some(at));
                        match decide_psync(&nodes[of].history, nodes[of].log.window(), &asked) {
                            PsyncDecision::Continue { from, backlog_bytes } => {
                                let held = nodes[who].truth.len();
                                prop_assert!(nodes[of].truth.starts_with(&nodes[who].truth));
                                prop_assert_eq!(from, at.next());
                                prop_assert_eq!(held + backlog_bytes as usize, nodes[of].truth.len());
                                let rest: Vec<u8> = nodes[of].log.read(from).expect("in the window")
                                    .flatten().copied().take(len).collect();
                                let primary_id = nodes[of].history.id;
                                if primary_id != at.replid {
                                    nodes[who].history.shift(primary_id, at.offset);
                                }
                                nodes[who].log.append(&rest);
                                nodes[who].truth.extend(rest);
                                prop_assert!(nodes[of].truth.starts_with(&nodes[who].truth));
                            }
                            PsyncDecision::FullResync(_) => {
                                let (primary_id, end) = (nodes[of].history.id, nodes[of].log.end());
                                nodes[who].history.adopt(primary_id);
                                nodes[who].log.reset(end);
                                nodes[who].truth = nodes[of].truth.clone();
                            }
                        }
                        follows[who] = true;
                    }
                    _ => {}
                }
            }
        }
    }
}
