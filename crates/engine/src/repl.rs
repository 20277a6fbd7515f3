//! The node's place in replication: its history, its log, its primary if it has one, its replicas.

use log::{Log, Position, ReplId};
use replication::heartbeat::Heard;
use replication::{Failover, FullSyncs, History, Millis, Pace, PrimaryCron, Refusals, WaitQueue, WriteMarks};

use crate::action::ConnId;
use crate::bridge::Uses;
use crate::core::Core;
use crate::following::Following;
use crate::log_disk::DiskTrouble;
use crate::payload::Payload;
use crate::session::SessionId;

/// Nothing has been written to the log since it cannot be known which database its readers have selected.
const NO_DB: i64 = -1;

pub struct Replication {
    pub history: History,
    pub log: Log,
    /// Present on a replica, from `REPLICAOF` to `REPLICAOF NO ONE`.
    pub following: Option<Following>,
    /// Attached replicas, in the order in which they came.
    pub replicas: Vec<ConnId>,
    pub cron: PrimaryCron,
    pub failover: Failover,
    pub waiting: WaitQueue<(ConnId, SessionId)>,
    /// Replicas that are online and heard of lately: kept by the timer.
    pub good_replicas: usize,
    /// The snapshot that is being streamed to replicas.
    pub payload: Payload,
    /// How fast snapshots may be sent.
    pub pace: Pace<ConnId>,
    /// The primary has asked for an acknowledgement in the stream.
    pub ack_wanted: bool,
    /// A replica has acknowledged since the node slept last.
    pub acked: bool,
    /// A client waits for acknowledgements: replicas are asked before the node sleeps.
    pub getack_due: bool,
    /// Full synchronisations of replicas of ours, and our own.
    pub served: FullSyncs,
    pub received: FullSyncs,
    /// When the bytes of the log were written.
    pub marks: WriteMarks,
    /// The last heartbeat of the primary that was executed.
    pub heard: Option<Heard>,
    /// Commands of the primary's stream that were executed.
    pub applied_commands: u64,
    /// The data set that was loaded at the start stands at this position.
    pub restored: Option<Position>,
    /// The database that readers of the log have selected.
    selected: i64,
    pub disk_trouble: DiskTrouble,
    /// The primary's stream had a command that is not known here.
    pub unknown_in_stream: bool,
    /// Where the log has what not every server knows.
    pub uses: Uses,
    /// Replicas that are not served because they could not hold what they would be sent.
    pub refusals: Refusals,
    /// The end of the log when replicas were last put on the list of those to send to.
    pub announced_end: u64,
    /// Since when something of the log waits to be sent together with what follows.
    pub held_since_us: Option<u64>,
}

impl Replication {
    pub fn new(id: ReplId, backlog_bytes: u64) -> Replication {
        Replication {
            history: History::new(id),
            log: Log::new(backlog_bytes),
            following: None,
            replicas: Vec::new(),
            cron: PrimaryCron::default(),
            failover: Failover::None,
            waiting: WaitQueue::default(),
            good_replicas: 0,
            payload: Payload::default(),
            pace: Pace::default(),
            ack_wanted: false,
            acked: false,
            getack_due: false,
            served: FullSyncs::default(),
            received: FullSyncs::default(),
            marks: WriteMarks::default(),
            heard: None,
            applied_commands: 0,
            restored: None,
            selected: NO_DB,
            disk_trouble: DiskTrouble::default(),
            unknown_in_stream: false,
            uses: Uses::default(),
            refusals: Refusals::default(),
            announced_end: 0,
            held_since_us: None,
        }
    }

    pub fn is_replica(&self) -> bool {
        self.following.is_some()
    }

    /// A replica without a working link.
    pub fn is_link_down(&self) -> bool {
        self.following.as_ref().is_some_and(|following| !following.link.is_up())
    }

    /// `master_repl_offset`.
    pub fn offset(&self) -> u64 {
        self.log.end()
    }

    pub fn position(&self) -> Position {
        self.history.at(self.log.end())
    }

    /// True if somebody may continue from where this node stands: only then is a position worth saving.
    pub fn has_history(&self) -> bool {
        self.log.is_active() || self.is_replica()
    }

    /// The position to offer to a new primary that may be one of our former replicas.
    pub fn own_position(&self) -> Option<Position> {
        if self.log.is_active() { Some(self.position()) } else { self.restored }
    }

    /// The database that the stream is in, for `repl-stream-db`.
    pub fn stream_db(&self) -> i64 {
        match &self.following {
            Some(following) => following.stream_db() as i64,
            None => self.selected.max(0),
        }
    }

    /// True if what clients change here is to be recorded.
    pub fn records(&self) -> bool {
        self.log.is_active() && !self.is_replica()
    }

    /// Appends one command of ours that runs in database `db`.
    pub fn feed(&mut self, db: u32, command: &[u8]) {
        self.state_db(db);
        if self.records() {
            self.log.append(command);
        }
    }

    /// Selects database `db` for what follows, unless it is selected already.
    pub fn state_db(&mut self, db: u32) {
        if self.records() && self.selected != i64::from(db) {
            self.selected = i64::from(db);
            let mut digits = itoa::Buffer::new();
            let args = [b"SELECT".as_slice(), digits.format(db).as_bytes()];
            self.log.append_with(|out| resp::encode_command(out, args));
        }
    }

    /// Appends a command that runs in no database.
    pub fn feed_bare(&mut self, command: &[u8]) {
        if self.records() {
            self.log.append(command);
        }
    }

    /// The next command states its database again: a reader is about to begin here.
    pub fn restate_db(&mut self) {
        self.selected = NO_DB;
    }

    /// Appends bytes of the primary's stream as they came.
    pub fn relay(&mut self, bytes: &[u8]) {
        self.log.append(bytes);
    }

    /// Remembers how far the log is now.
    pub fn mark(&mut self, now: Millis) {
        if self.log.is_active() {
            self.marks.note(now, self.log.start(), self.log.end());
        }
    }

    /// Says how far back the log is to reach to have `seconds` of time (`repl-backlog-seconds`); 0 asks for none.
    pub fn reach_back(&mut self, now: Millis, seconds: u64) {
        let span = Millis::from_secs(seconds);
        let before = (seconds > 0).then(|| self.marks.written_by(Millis(now.0.saturating_sub(span.0))));
        self.log.reach_back_to(before.map(|end| end.map_or(0, |end| end + 1)));
    }

    // ---- histories ----

    /// There was no log: begin to record, under an id that no replica of unrecorded times can know.
    pub fn create_backlog(&mut self, id: ReplId) {
        self.log.reset(self.log.end());
        self.marks.clear();
        self.history.begin(id);
        self.log.activate();
        self.uses.forget_offsets();
        self.selected = NO_DB;
    }

    pub fn free_backlog(&mut self, id: ReplId) {
        self.history.begin(id);
        self.log.deactivate();
        self.uses.forget_offsets();
        self.restored = None;
    }

    /// A full synchronisation has put the data set of `at` in place.
    pub fn adopt(&mut self, at: Position) {
        self.history.adopt(at.replid);
        self.log.reset(at.offset);
        self.uses.forget_offsets();
        self.marks.clear();
        self.heard = None;
        self.log.activate();
        self.restored = None;
    }

    /// The primary continues from `at`, where our data set stands.
    pub fn continue_from(&mut self, at: Position) {
        if !self.log.is_active() {
            self.log.reset(at.offset);
            self.marks.clear();
            self.log.activate();
            self.history.id = at.replid;
        }
        self.restored = None;
    }

    /// The history goes on under another id.
    pub fn shift(&mut self, to: ReplId) {
        self.history.shift(to, self.log.end());
    }

    /// This node was a replica and is a primary now. The stream goes on in the database it was in.
    pub fn promote(&mut self, new_id: ReplId, stream_db: usize) {
        // It was started from a file and has not reached its primary: what is written from here on continues that.
        if self.restored.take().is_some() {
            self.log.activate();
        }
        self.history.shift(new_id, self.log.end());
        self.selected = stream_db as i64;
        // Redis states the database again after a promotion; replicas of either kind accept both.
        self.restate_db();
    }
}

impl Core {
    pub fn random_replid(&mut self) -> ReplId {
        let mut bytes = [0; 24];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.env.random().to_le_bytes());
        }
        ReplId::from_random(bytes[..20].try_into().expect("20 of 24 bytes"))
    }
}
