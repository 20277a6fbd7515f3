//! One replica, as its primary knows it.
//!
//! A session becomes a replica by REPLCONF and then PSYNC or SYNC. The owner keeps a [`ReplicaLink`] for it,
//! sends the bytes that the link asks for, feeds it the log from its cursor, and lets go of it when the
//! connection ends. The link also tells what the log must keep for the replica ([`ReplicaLink::pinned`]).
//!
//! ```text
//!   Handshake ──PSYNC, position known──────────────────────────────────────────▶ Online
//!       │                                                                          ▲
//!       └─full resync─▶ WaitSnapshot ─▶ SnapshotRunning ─▶ SendSnapshot ───────────┤
//!                       (wait_bgsave)    (wait_bgsave)     (send_bulk when sized)  └─ Transmitted
//!                                                                                     (rdb-only)
//!       from any but the first: what follows is nothing that the replica knows ──▶ Refused
//! ```
//!
//! A replica on two connections ([`channel`]) has two links: that of the snapshot goes the way to `Transmitted`, that of
//! the stream goes
//!
//! ```text
//!   Handshake ──Redis: +RDBCHANNELSYNC──▶ WaitChannel ──the snapshot begins──▶ Beside ──first ACK──▶ Online
//!       └──────Valkey: PSYNC, when it knows where the snapshot begins────────────▲
//!                                                                   (send_bulk_and_stream)
//! ```
//!
//! After a snapshot of unknown size, an online replica is sent nothing until its first ACK: older replicas
//! look for the end mark at the end of what they read, so nothing may follow it.

pub mod channel;
mod event;
mod replconf;

use std::fmt;

use log::{LogWindow, Position};

use crate::history::{FullResyncWhy, History, PsyncDecision, PsyncRequest, decide_psync};
use crate::primary_link::EOF_MARK_LEN;
use crate::reader::Reader;
use crate::refusal::Refusal;
use crate::why::{Cause, FullSync};
use crate::wire::{lossy, parse_i64};
use crate::{Level, Millis};
use channel::{Channel, ChannelsOffered};
pub use event::ReplicaEvent;
pub use replconf::{Capabilities, Replconf, ReplconfError, SnapshotFilter};

/// How often a replica that waits for its snapshot is sent a newline.
const KEEPALIVE: Millis = Millis::from_secs(1);

/// Appended to the log now and then, so that replicas can tell an idle primary from a dead one.
pub const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Appended to the log when a client waits for acknowledgements.
pub const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// What a replica asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRequest {
    /// The command of replicas before Redis 2.8, and of `redis-cli --rdb` against them.
    Sync,
    Psync(PsyncRequest),
}

/// What decides whether a replica can be served, and how.
#[derive(Clone, Copy, Debug)]
pub struct SyncContext<'a> {
    pub history: &'a History,
    /// `None`: there is no log yet.
    pub log: Option<LogWindow>,
    /// Whether this server is a replica without a working link to its own primary.
    pub own_link_down: bool,
    /// Whether this server is handing its place over ([`crate::Failover`]).
    pub failing_over: bool,
    /// Whether replies to earlier commands of this session are still unsent.
    pub pending_output: bool,
    /// Why the replica could not hold the data set, or could not follow the stream as it is lately.
    pub refusal: Option<&'a Refusal>,
    /// The last byte of the log that belongs to a command which the replica does not know.
    pub not_understood: Option<u64>,
    /// With so many bytes before it a replica is dropped (`client-output-buffer-limit`).
    pub output_limit: Option<u64>,
    /// What to propose to replicas that need a snapshot.
    pub channels: ChannelsOffered,
    /// Whether the connection that this one has named as its partner still waits for it ([`ReplicaLink::may_join`]).
    pub partner_waits: bool,
}

/// Why PSYNC or SYNC is answered with an error; its `Display` is the error as sent, without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncRefusal {
    FailingOver,
    OwnLinkDown,
    PendingOutput,
    FilterNeedsEof,
    WrongOffset,
    /// The replica could not hold what it would be sent.
    Unreadable(Refusal),
    /// The other connection of this replica is gone.
    PartnerGone,
}

/// What happens to the replica, besides its commands.
#[derive(Clone, Debug)]
pub enum ReplicaInput<'a> {
    /// A snapshot that this replica gets was begun at this position. The next write must be preceded by
    /// SELECT, since the replica knows no selected database; or the stream goes on in database `db`, where that is
    /// relayed and cannot be interrupted.
    SnapshotStarted {
        at: Position,
        /// -1 for none.
        db: i64,
    },
    /// The other connection of this replica, that of this client, has asked for its part.
    Joined(u64),
    /// The snapshot for the other connection was begun at this position: the stream begins behind it.
    PartnerStarted(Position),
    /// The snapshot's bytes are about to be sent.
    PayloadBegins(PayloadHeader),
    /// All bytes of the snapshot have been queued.
    PayloadEnds,
    /// The connection takes no more bytes of the snapshot.
    SendStalled,
    /// It took some again.
    SendProgressed,
    /// The snapshot could not be begun; the text is sent to it.
    SnapshotRefused(&'a str),
    /// What there is to be sent from here on is nothing that the replica knows.
    Unreadable(Refusal),
    /// The snapshot broke off.
    SnapshotFailed,
    /// So many bytes of the log, from the cursor on, have been sent.
    Sent(u64),
    /// The replica sent an empty line: it is alive, if busy loading.
    Newline,
    /// It waits for its turn: so many are synchronised, as many as may be, and so many wait in front of it.
    Queued { under_way: usize, ahead: usize },
    /// Time has passed; about once a second. Others may be waiting for this one's place among those that are
    /// synchronised ([`crate::Places`]).
    Tick { place_awaited: bool },
}

/// How the replica is told where its snapshot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadHeader {
    /// Its size in bytes.
    Sized(u64),
    /// A mark of random bytes; only for replicas that announced `capa eof`.
    UntilMark([u8; EOF_MARK_LEN]),
}

/// What the owner is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaAction {
    /// Queue these bytes for the replica.
    Send(Vec<u8>),
    Log(ReplicaEvent),
    /// Count one in INFO stats.
    Count(SyncCount),
    /// A full synchronisation of this replica is needed; remember why.
    FullSync(String, FullSync),
    /// The replica, by name, is refused, and is not to be served before that changes.
    Refused(String, Refusal),
    /// The replica, by name, has to wait for its turn.
    Queued(String),
    /// Its turn has come.
    Admitted(String),
    /// There is no log: begin a history under a fresh id and activate the log.
    CreateBacklog,
    /// Plan a snapshot ([`crate::primary::plan_snapshot`]), or let the replica share the running one.
    WantSnapshot,
    /// Send the log from this offset on.
    StartStream(u64),
    /// Close the connection once what was queued is sent.
    Close,
}

/// `sync_full`, `sync_partial_ok`, `sync_partial_err`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncCount {
    Full,
    PartialOk,
    PartialErr,
}

/// A primary's view of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaLink {
    /// The other end of the connection: an IP address, or empty when there is none.
    peer: String,
    /// Names the replica when there is no address.
    client_id: u64,
    /// As announced; 0 when it was not.
    listening_port: i64,
    announced_ip: Option<String>,
    version: Option<String>,
    capabilities: Capabilities,
    filter: SnapshotFilter,
    /// It wants a snapshot and nothing after it.
    rdb_only: bool,
    /// It came by SYNC: it gets no `+FULLRESYNC`, and may never acknowledge.
    without_psync: bool,
    channel: Channel,
    /// It was told, as Valkey's are, to open another connection for the snapshot, and comes back when that begins.
    sent_elsewhere: bool,
    acknowledged: Acknowledged,
    state: ReplicaState,
}

/// Where the replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    Handshake,
    WaitSnapshot {
        since: Millis,
        newline_due: Millis,
        /// It was told of that it has to wait for its turn.
        queued: bool,
    },
    /// Its snapshot is being made; the log is kept from `at` on.
    SnapshotRunning {
        at: Position,
        newline_due: Millis,
    },
    SendSnapshot {
        at: Position,
        header: PayloadHeader,
        /// Since when the connection takes no bytes.
        stalled_since: Option<Millis>,
    },
    Online {
        /// The next byte to send.
        cursor: u64,
        awaiting_first_ack: bool,
    },
    /// It is refused: nothing more is for it.
    Refused,
    /// It wanted a snapshot only, and has it. That of a replica on two connections stays until the replica ends it, so
    /// that the other one finds it; meanwhile the log is kept for that.
    Transmitted {
        at: Position,
        since: Millis,
    },
    /// It was told to open another connection for the snapshot, which has not begun.
    WaitChannel {
        since: Millis,
    },
    /// The snapshot goes over another connection; this one is sent the log behind it. There is no time limit: a replica
    /// that loads, and has no room for more of the stream, reads nothing for as long as that takes.
    Beside {
        /// The next byte to send.
        cursor: u64,
    },
}

/// The replica's last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Executed up to here.
    pub offset: u64,
    /// On the replica's disk up to here, if it said so (Redis 7.2).
    pub fsynced: Option<u64>,
    /// When it was heard last.
    pub time: Millis,
}

/// The name of a [`ReplicaState`], for the table of transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaStateName {
    Handshake,
    WaitSnapshot,
    SnapshotRunning,
    SendSnapshot,
    Online,
    Transmitted,
    Refused,
    WaitChannel,
    Beside,
}

impl ReplicaLink {
    /// A session that has not asked for anything yet. `peer` is its IP address.
    pub fn new(peer: &str, client_id: u64) -> ReplicaLink {
        ReplicaLink {
            peer: peer.to_owned(),
            client_id,
            listening_port: 0,
            announced_ip: None,
            version: None,
            capabilities: Capabilities::default(),
            filter: SnapshotFilter::default(),
            rdb_only: false,
            without_psync: false,
            channel: Channel::default(),
            sent_elsewhere: false,
            acknowledged: Acknowledged::default(),
            state: ReplicaState::Handshake,
        }
    }

    /// PSYNC or SYNC. Ignored on a session that is a replica already.
    pub fn sync(
        mut self,
        now: Millis,
        request: SyncRequest,
        context: SyncContext<'_>,
        out: &mut Vec<ReplicaAction>,
    ) -> ReplicaLink {
        if self.is_attached() {
            return self;
        }
        if let Some(refusal) = self.refuse(&context) {
            out.push(ReplicaAction::Send(format!("-{refusal}\r\n").into_bytes()));
            if let SyncRefusal::Unreadable(refusal) = refusal {
                out.push(ReplicaAction::Refused(self.name(), refusal));
            }
            return self;
        }
        out.push(ReplicaAction::Log(ReplicaEvent::AsksForSync(self.name())));
        match request {
            // Valkey asks in this way on the connection of the snapshot, and for the position in another form.
            SyncRequest::Sync if self.channel.is_snapshot() => self.without_psync = true,
            SyncRequest::Sync => {
                self.without_psync = true;
                out.push(self.full_sync(FullSync::because(Cause::NoPsync)));
            }
            SyncRequest::Psync(asked) => match decide(&context, &asked) {
                PsyncDecision::Continue { from, backlog_bytes } => {
                    self.continue_from(now, context.history, from, backlog_bytes, out);
                    return self;
                }
                PsyncDecision::FullResync(why) => {
                    // Without a log there is no history yet that a replica could know.
                    let at = context.log.map(|log| context.history.at(log.end()));
                    let asked_for = format!("{}:{}", lossy(&asked.id), asked.next);
                    // The connection of the stream has said why.
                    if !self.channel.is_snapshot() {
                        let sync = FullSync::served(&why, asked_for, at);
                        out.push(self.full_sync(sync));
                    }
                    self.log_full_resync(why, out);
                    if !asked.wants_full() {
                        out.push(ReplicaAction::Count(SyncCount::PartialErr));
                    }
                    if self.proposes_channel(now, context.channels, out) {
                        return self;
                    }
                }
            },
        }
        out.push(ReplicaAction::Count(SyncCount::Full));
        if context.log.is_none() {
            out.push(ReplicaAction::CreateBacklog);
        }
        self.enter(ReplicaState::WaitSnapshot { since: now, newline_due: now + KEEPALIVE, queued: false });
        out.push(ReplicaAction::WantSnapshot);
        self
    }

    /// Takes one input; see the diagram of this module. `timeout` is `repl-timeout`.
    pub fn step(
        mut self,
        timeout: Millis,
        now: Millis,
        input: ReplicaInput<'_>,
        out: &mut Vec<ReplicaAction>,
    ) -> ReplicaLink {
        match input {
            ReplicaInput::SnapshotStarted { at, db } => {
                if let ReplicaState::WaitSnapshot { since, queued: true, .. } = self.state {
                    let waited = now.since(since);
                    out.push(ReplicaAction::Log(ReplicaEvent::Admitted { name: self.name(), waited }));
                    out.push(ReplicaAction::Admitted(self.name()));
                }
                if self.channel.is_snapshot() && self.without_psync {
                    let reply = format!("$ENDOFF:{} {} {db} {}\r\n", at.offset, at.replid, self.client_id);
                    out.push(ReplicaAction::Send(reply.into_bytes()));
                } else if !self.without_psync {
                    let reply = format!("+FULLRESYNC {} {}\r\n", at.replid, at.offset);
                    out.push(ReplicaAction::Send(reply.into_bytes()));
                }
                self.enter(ReplicaState::SnapshotRunning { at, newline_due: now + KEEPALIVE });
            }
            ReplicaInput::Joined(client) => self.channel.join(client),
            ReplicaInput::PartnerStarted(at) => {
                self.enter(ReplicaState::Beside { cursor: at.next() });
                out.push(ReplicaAction::Log(ReplicaEvent::StreamsBeside(self.name())));
                out.push(ReplicaAction::StartStream(at.next()));
            }
            ReplicaInput::PayloadBegins(header) => {
                let ReplicaState::SnapshotRunning { at, .. } = self.state else {
                    panic!("a payload begins only for a replica whose snapshot runs")
                };
                out.push(ReplicaAction::Send(header.encode()));
                self.enter(ReplicaState::SendSnapshot { at, header, stalled_since: None });
            }
            ReplicaInput::PayloadEnds => self.payload_ends(now, out),
            ReplicaInput::SendStalled => {
                if let ReplicaState::SendSnapshot { stalled_since, .. } = &mut self.state {
                    stalled_since.get_or_insert(now);
                }
            }
            ReplicaInput::SendProgressed => {
                if let ReplicaState::SendSnapshot { stalled_since, .. } = &mut self.state {
                    *stalled_since = None;
                }
            }
            ReplicaInput::SnapshotRefused(why) => {
                out.push(ReplicaAction::Log(ReplicaEvent::SnapshotStartFailed));
                out.push(ReplicaAction::Send(format!("-ERR {why}\r\n").into_bytes()));
                out.push(ReplicaAction::Close);
            }
            ReplicaInput::Unreadable(_)
                if matches!(self.state, ReplicaState::Transmitted { .. } | ReplicaState::Refused) => {}
            ReplicaInput::Unreadable(refusal) => {
                // It still waits for the answer to its request; later there is nothing that it would read.
                if let ReplicaState::WaitSnapshot { .. } = self.state {
                    let reply = format!("-{}\r\n", SyncRefusal::Unreadable(refusal.clone()));
                    out.push(ReplicaAction::Send(reply.into_bytes()));
                }
                out.push(ReplicaAction::Refused(self.name(), refusal));
                out.push(ReplicaAction::Close);
                self.enter(ReplicaState::Refused);
            }
            ReplicaInput::SnapshotFailed => {
                out.push(ReplicaAction::Log(ReplicaEvent::SnapshotFailed));
                out.push(ReplicaAction::Close);
            }
            ReplicaInput::Sent(bytes) => match &mut self.state {
                ReplicaState::Online { cursor, .. } | ReplicaState::Beside { cursor } => *cursor += bytes,
                _ => panic!("the log is sent to replicas that have a place in it"),
            },
            ReplicaInput::Newline => self.acknowledged.time = now,
            ReplicaInput::Queued { under_way, ahead } => {
                if let ReplicaState::WaitSnapshot { queued: queued @ false, .. } = &mut self.state {
                    *queued = true;
                    let name = self.name();
                    out.push(ReplicaAction::Queued(name.clone()));
                    out.push(ReplicaAction::Log(ReplicaEvent::Queued { name, under_way, ahead }));
                }
            }
            ReplicaInput::Tick { place_awaited } => self.tick(timeout, now, place_awaited, out),
        }
        self
    }

    pub fn state(&self) -> &ReplicaState {
        &self.state
    }

    pub fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }

    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub fn filter(&self) -> SnapshotFilter {
        self.filter
    }

    /// The version that the replica announced, as Valkey's do.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Who it is, by what it has announced; one that has announced nothing reads RDB up to `silent_rdb`.
    pub fn reader(&self, silent_rdb: u16) -> Reader {
        let major =
            self.version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        match major {
            _ if self.capabilities.kindred => Reader::Kindred,
            _ if self.rdb_only && self.channel == Channel::Both || self.filter.exclude_data => Reader::Tool,
            Some(major) => Reader::Valkey(major),
            None if self.capabilities.rdb_channel => Reader::Redis8,
            None => Reader::Silent { rdb: silent_rdb },
        }
    }

    /// Whether it is sent field expiries in Valkey's form.
    pub fn reads_valkey(&self) -> bool {
        self.reader(0).reads_valkey()
    }

    /// Whether it asked for synchronisation, so that it counts among `connected_slaves`.
    pub fn is_attached(&self) -> bool {
        self.state != ReplicaState::Handshake
    }

    pub fn is_online(&self) -> bool {
        matches!(self.state, ReplicaState::Online { .. })
    }

    /// The next byte of the log to send, once the stream may flow.
    pub fn cursor(&self) -> Option<u64> {
        match self.state {
            ReplicaState::Online { cursor, awaiting_first_ack: false } | ReplicaState::Beside { cursor } => {
                Some(cursor)
            }
            _ => None,
        }
    }

    /// The lowest offset that the log must keep for this replica.
    pub fn pinned(&self) -> Option<u64> {
        match self.state {
            ReplicaState::SnapshotRunning { at, .. }
            | ReplicaState::SendSnapshot { at, .. }
            | ReplicaState::Transmitted { at, .. } => {
                let awaited = self.channel == Channel::Snapshot { stream: None };
                (awaited || !self.rdb_only).then(|| at.next())
            }
            ReplicaState::Online { cursor, .. } | ReplicaState::Beside { cursor } => Some(cursor),
            _ => None,
        }
    }

    /// Bytes of the log that wait for this replica: its output buffer.
    pub fn backlog_bytes(&self, log_end: u64) -> u64 {
        self.pinned().map_or(0, |next| (log_end + 1).saturating_sub(next))
    }

    /// Whether it can take part in a snapshot that was begun for `other`.
    pub fn may_share_snapshot(&self, other: &ReplicaLink) -> bool {
        let needed = other.capabilities;
        let able = (self.capabilities.eof || !needed.eof) && (self.capabilities.psync2 || !needed.psync2);
        let log_kept = self.rdb_only || !other.rdb_only;
        let running = matches!(other.state, ReplicaState::SnapshotRunning { .. });
        // The two ends of such a replica are told apart by when its snapshot begins.
        running && !self.channel.is_snapshot() && able && log_kept && self.filter == other.filter
    }

    /// Whether it has been told to ask for its snapshot elsewhere, which may take as long as the queue is, and is silent.
    pub fn is_sent_elsewhere(&self) -> bool {
        self.sent_elsewhere
    }

    /// Since when the connection takes no bytes of the snapshot.
    pub fn stalled_since(&self) -> Option<Millis> {
        match self.state {
            ReplicaState::SendSnapshot { stalled_since, .. } => stalled_since,
            _ => None,
        }
    }

    /// `ip:port` as in log lines.
    pub fn name(&self) -> String {
        let ip = self.ip();
        match (ip, self.listening_port) {
            ("", _) => format!("client id #{}", self.client_id),
            (ip, 0) => format!("{ip}:<unknown-replica-port>"),
            (ip, port) if ip.contains(':') => format!("[{ip}]:{port}"),
            (ip, port) => format!("{ip}:{port}"),
        }
    }

    /// The address in INFO and ROLE: as announced, or of the connection.
    pub fn ip(&self) -> &str {
        self.announced_ip.as_deref().unwrap_or(&self.peer)
    }

    pub fn listening_port(&self) -> i64 {
        self.listening_port
    }

    /// The state in INFO replication; a replica without one is not listed.
    pub fn info_state(&self) -> Option<&'static str> {
        match self.state {
            // A replica on two connections is shown once.
            _ if self.is_second() => None,
            ReplicaState::WaitSnapshot { .. } | ReplicaState::SnapshotRunning { .. } => Some("wait_bgsave"),
            ReplicaState::WaitChannel { .. } => Some("wait_bgsave"),
            ReplicaState::Beside { .. } => Some("send_bulk_and_stream"),
            ReplicaState::SendSnapshot { header: PayloadHeader::UntilMark(_), .. } => Some("wait_bgsave"),
            ReplicaState::SendSnapshot { header: PayloadHeader::Sized(_), .. } => Some("send_bulk"),
            ReplicaState::Online { .. } => Some("online"),
            ReplicaState::Handshake | ReplicaState::Transmitted { .. } | ReplicaState::Refused => None,
        }
    }

    /// Time since the last acknowledgement, for `lag` (in whole seconds) and `min-replicas-max-lag`;
    /// nothing unless online.
    pub fn lag(&self, now: Millis) -> Millis {
        if self.is_online() { now.since(self.acknowledged.time) } else { Millis(0) }
    }

    /// The line for the log when the connection is gone.
    pub fn lost(&self) -> ReplicaEvent {
        ReplicaEvent::Lost(self.name())
    }

    fn enter(&mut self, state: ReplicaState) {
        debug_assert!(
            may_become(self.state.name(), state.name()),
            "a replica does not go from {:?} to {:?}",
            self.state,
            state
        );
        self.state = state;
    }

    fn refuse(&self, context: &SyncContext<'_>) -> Option<SyncRefusal> {
        if context.failing_over {
            Some(SyncRefusal::FailingOver)
        } else if context.own_link_down {
            Some(SyncRefusal::OwnLinkDown)
        } else if context.pending_output {
            Some(SyncRefusal::PendingOutput)
        } else if self.channel.partner().is_some() && !context.partner_waits {
            Some(SyncRefusal::PartnerGone)
        } else if self.filter != SnapshotFilter::default() && !self.capabilities.eof {
            // Filtered snapshots must not replace the file of the whole data set, so they go to sockets only.
            Some(SyncRefusal::FilterNeedsEof)
        } else {
            context.refusal.cloned().map(SyncRefusal::Unreadable)
        }
    }

    fn continue_from(
        &mut self,
        now: Millis,
        history: &History,
        from: u64,
        bytes: u64,
        out: &mut Vec<ReplicaAction>,
    ) {
        self.acknowledged.time = now;
        let beside = matches!(self.channel, Channel::Stream { .. });
        self.enter(match beside {
            true => ReplicaState::Beside { cursor: from },
            false => ReplicaState::Online { cursor: from, awaiting_first_ack: false },
        });
        let reply = match self.capabilities.psync2 {
            true => format!("+CONTINUE {}\r\n", history.id),
            false => "+CONTINUE\r\n".to_owned(),
        };
        out.push(ReplicaAction::Send(reply.into_bytes()));
        let name = self.name();
        if beside {
            out.push(ReplicaAction::Log(ReplicaEvent::StreamsBeside(name)));
        } else {
            out.push(ReplicaAction::Log(ReplicaEvent::PartialAccepted { name, bytes, from }));
            out.push(ReplicaAction::Count(SyncCount::PartialOk));
        }
        out.push(ReplicaAction::StartStream(from));
    }

    /// Asks a replica that can do so to open another connection for the snapshot that it needs.
    fn proposes_channel(
        &mut self,
        now: Millis,
        offered: ChannelsOffered,
        out: &mut Vec<ReplicaAction>,
    ) -> bool {
        let filtered = self.filter != SnapshotFilter::default();
        if self.rdb_only || filtered || self.channel.is_snapshot() {
            return false;
        }
        // Whoever was told so before, and could not continue from there, begins anew.
        self.channel = Channel::Both;
        let reply = if offered.valkey && self.capabilities.dual_channel {
            self.sent_elsewhere = true;
            "+DUALCHANNELSYNC\r\n".to_owned()
        } else if offered.redis && self.capabilities.rdb_channel {
            self.enter(ReplicaState::WaitChannel { since: now });
            format!("+RDBCHANNELSYNC {}\r\n", self.client_id)
        } else {
            return false;
        };
        out.push(ReplicaAction::Log(ReplicaEvent::ProposesChannel(self.name())));
        out.push(ReplicaAction::Send(reply.into_bytes()));
        true
    }

    /// What the replica has said of itself can be the cause.
    fn full_sync(&self, mut sync: FullSync) -> ReplicaAction {
        if self.rdb_only {
            sync.cause = Cause::SnapshotOnly;
        }
        ReplicaAction::FullSync(self.name(), sync)
    }

    fn log_full_resync(&self, why: FullResyncWhy, out: &mut Vec<ReplicaAction>) {
        let ahead = matches!(why, FullResyncWhy::NotInWindow { next, window } if next > window.end() as i64);
        out.push(ReplicaAction::Log(ReplicaEvent::FullResync { name: self.name(), why }));
        if ahead {
            out.push(ReplicaAction::Log(ReplicaEvent::AheadOfUs(self.name())));
        }
    }

    fn payload_ends(&mut self, now: Millis, out: &mut Vec<ReplicaAction>) {
        let ReplicaState::SendSnapshot { at, header, .. } = self.state else {
            panic!("a payload ends only where one began")
        };
        let streamed = match header {
            PayloadHeader::UntilMark(mark) => {
                out.push(ReplicaAction::Send(mark.to_vec()));
                out.push(ReplicaAction::Log(ReplicaEvent::Streamed(self.name())));
                true
            }
            PayloadHeader::Sized(_) => false,
        };
        if self.rdb_only || self.channel.is_snapshot() {
            if !self.channel.is_snapshot() {
                out.push(ReplicaAction::Log(ReplicaEvent::RdbOnlyDone(self.name())));
                out.push(ReplicaAction::Close);
            }
            return self.enter(ReplicaState::Transmitted { at, since: now });
        }
        self.acknowledged.time = now;
        out.push(ReplicaAction::Log(ReplicaEvent::Succeeded(self.name())));
        self.enter(ReplicaState::Online { cursor: at.next(), awaiting_first_ack: streamed });
        if !streamed {
            out.push(ReplicaAction::StartStream(at.next()));
        }
    }

    fn tick(&mut self, timeout: Millis, now: Millis, place_awaited: bool, out: &mut Vec<ReplicaAction>) {
        let expired = |since: Millis| now.since(since) > timeout;
        match &mut self.state {
            ReplicaState::WaitSnapshot { newline_due, .. }
            | ReplicaState::SnapshotRunning { newline_due, .. }
                if *newline_due <= now =>
            {
                out.push(ReplicaAction::Send(b"\n".to_vec()));
                *newline_due = now + KEEPALIVE;
            }
            // A stuck replica holds up a snapshot that is streamed; one that reads a file harms nobody, unless its place is
            // waited for.
            ReplicaState::SendSnapshot { header, stalled_since: Some(since), .. }
                if expired(*since) && (place_awaited || matches!(header, PayloadHeader::UntilMark(_))) =>
            {
                out.push(ReplicaAction::Log(ReplicaEvent::TimedOutFullSync(self.name())));
                out.push(ReplicaAction::Close);
            }
            ReplicaState::Transmitted { since, .. } if expired(*since) => out.push(ReplicaAction::Close),
            ReplicaState::WaitChannel { since } if self.channel == Channel::Both && expired(*since) => {
                out.push(ReplicaAction::Log(ReplicaEvent::TimedOutFullSync(self.name())));
                out.push(ReplicaAction::Close);
            }
            ReplicaState::Online { .. } if !self.without_psync && expired(self.acknowledged.time) => {
                out.push(ReplicaAction::Log(ReplicaEvent::TimedOutStreaming(self.name())));
                out.push(ReplicaAction::Close);
            }
            _ => {}
        }
    }
}

impl ReplicaState {
    pub fn name(&self) -> ReplicaStateName {
        match self {
            ReplicaState::Handshake => ReplicaStateName::Handshake,
            ReplicaState::WaitSnapshot { .. } => ReplicaStateName::WaitSnapshot,
            ReplicaState::SnapshotRunning { .. } => ReplicaStateName::SnapshotRunning,
            ReplicaState::SendSnapshot { .. } => ReplicaStateName::SendSnapshot,
            ReplicaState::Online { .. } => ReplicaStateName::Online,
            ReplicaState::Transmitted { .. } => ReplicaStateName::Transmitted,
            ReplicaState::Refused => ReplicaStateName::Refused,
            ReplicaState::WaitChannel { .. } => ReplicaStateName::WaitChannel,
            ReplicaState::Beside { .. } => ReplicaStateName::Beside,
        }
    }
}

/// Whether the replica may continue; not with what it does not know, nor with so much that it would be dropped at once and
/// come back for the same.
fn decide(context: &SyncContext<'_>, asked: &PsyncRequest) -> PsyncDecision {
    let decision = decide_psync(context.history, context.log, asked);
    match decision {
        PsyncDecision::Continue { from, .. } if context.not_understood.is_some_and(|last| from <= last) => {
            PsyncDecision::FullResync(FullResyncWhy::NotUnderstood { next: asked.next })
        }
        PsyncDecision::Continue { backlog_bytes, .. } => match context.output_limit {
            Some(limit) if backlog_bytes >= limit => {
                PsyncDecision::FullResync(FullResyncWhy::BeyondOutputLimit { next: asked.next, limit })
            }
            _ => decision,
        },
        PsyncDecision::FullResync(_) => decision,
    }
}

/// The transitions of the module's diagram.
fn may_become(from: ReplicaStateName, to: ReplicaStateName) -> bool {
    use ReplicaStateName::*;
    match to {
        Handshake => false,
        WaitSnapshot => from == Handshake,
        SnapshotRunning => from == WaitSnapshot,
        SendSnapshot => from == SnapshotRunning,
        Online => matches!(from, Handshake | SendSnapshot | Beside),
        Transmitted => from == SendSnapshot,
        WaitChannel => from == Handshake,
        Beside => matches!(from, Handshake | WaitChannel),
        Refused => !matches!(from, Handshake | Refused),
    }
}

impl PayloadHeader {
    /// `$<bytes>\r\n` or `$EOF:<mark>\r\n`.
    fn encode(&self) -> Vec<u8> {
        match self {
            PayloadHeader::Sized(bytes) => format!("${bytes}\r\n").into_bytes(),
            PayloadHeader::UntilMark(mark) => [&b"$EOF:"[..], mark, b"\r\n"].concat(),
        }
    }
}

impl SyncRequest {
    /// The arguments of `PSYNC id offset`.
    pub fn psync(id: &[u8], offset: &[u8]) -> Result<SyncRequest, SyncRefusal> {
        let next = parse_i64(offset).ok_or(SyncRefusal::WrongOffset)?;
        Ok(SyncRequest::Psync(PsyncRequest { id: id.to_vec(), next }))
    }
}

impl SyncRefusal {
    /// How severe it is for the log; only a wrong offset is logged ([`ReplicaEvent::WrongOffset`]).
    pub fn level(&self) -> Option<Level> {
        (*self == SyncRefusal::WrongOffset).then_some(Level::Warning)
    }
}

impl fmt::Display for SyncRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            // The word in front keeps Redis and Valkey from trying the older SYNC at once, and lets them ask again.
            SyncRefusal::Unreadable(refusal) => return write!(f, "NOMASTERLINK Can't SYNC: {refusal}"),
            SyncRefusal::FailingOver => "NOMASTERLINK Can't SYNC while failing over",
            SyncRefusal::OwnLinkDown => "NOMASTERLINK Can't SYNC while not connected with my master",
            SyncRefusal::PendingOutput => "ERR SYNC and PSYNC are invalid with pending output",
            SyncRefusal::FilterNeedsEof => "ERR Filtered replica requires EOF capability",
            SyncRefusal::PartnerGone => "ERR The other channel of this replica is gone",
            SyncRefusal::WrongOffset => "ERR value is not an integer or out of range",
        })
    }
}

impl std::error::Error for SyncRefusal {}

#[cfg(test)]
mod tests;
