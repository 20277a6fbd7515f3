//! The link of a replica to its primary.
//!
//! The engine of a replica owns one [`PrimaryLink`] (a primary has none), feeds it what the socket and the
//! timer bring, and carries out the [`LinkAction`]s in order. The link knows the protocol; the owner knows
//! how to load a snapshot and how to execute the stream.
//!
//! ```text
//!   Connect ──retry_at──▶ Connecting ──▶ Handshake ──▶ AwaitPsync ──+CONTINUE──────────▶ Streaming
//!      ▲                      ▲  │           │           │    │                             ▲   │
//!      │                      │  │           │           │    └─+FULLRESYNC, or SYNC        │   │
//!      └──── refused, no ─────┼──┴───────────┴───────────┘               ▼                  │   │
//!            reply: wait 1 s  │                                    AwaitPayload             │   │
//!                             │                                          ▼                  │   │
//!                             ├───── timeout, transfer failed ────── Transfer ──▶ Loading ──┘   │
//!                             └───── connection lost: position kept ────────────────────────────┘
//! ```
//!
//! The handshake is that of Redis 7: PING, then AUTH and all REPLCONFs at once, their replies in order,
//! then PSYNC. The replica keeps its position through every failure until a new data set is in place, so
//! that whatever happens during a transfer, a partial resynchronisation with the old primary stays possible.
//!
//! A link with data to lose asks for INFO before PSYNC, and leaves a primary alone that seems to have lost its own
//! ([`guard`]).
//!
//! A primary may propose to send the snapshot on a connection of its own ([`channel`]), so that the stream arrives at the
//! same time. Otherwise, while the snapshot is being loaded, the owner stops reading the socket ([`LinkAction::PauseReading`]);
//! stream bytes that came along with the end of the snapshot are given by [`LinkAction::Apply`] and wait in
//! the owner's buffer until [`LinkAction::AdoptHistory`].

mod channel;
mod event;
mod guard;
mod payload;

use std::ops::{ControlFlow, Range};

use log::{Position, REPL_ID_LEN, ReplId};

use crate::Millis;
use crate::replica_link::channel::ChannelsOffered;
use crate::why::{Cause, FullSync};
use crate::wire::{self, Line, LineBuffer, lossy};
use channel::{Channel, Form};
pub use event::LinkEvent;
pub use guard::Guarded;
use guard::{Account, BulkReply, Trust};
pub use payload::{EOF_MARK_LEN, HeldBytes, Payload, PayloadKind, Piece};

/// How long the link waits after a refused attempt, how often it acknowledges, and how often it sends a
/// newline while loading.
const BEAT: Millis = Millis::from_secs(1);

/// The longest time that a primary is left alone whose snapshot or stream cannot be taken in.
const FAILURE_WAIT_MAX: Millis = Millis::from_secs(60);

/// A stream that was followed for so long is one that can be.
const FORGIVEN_AFTER: Millis = Millis::from_secs(60);

/// How a primary refuses to become one, in Redis and in Valkey.
const TAKEN_OVER: &[u8] = b"-ERR PSYNC FAILOVER can't be sent to a master";

/// What the link needs to know of the configuration; it may change between steps.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `masteruser`; used only beside a password.
    pub user: Option<Vec<u8>>,
    /// `masterauth`.
    pub password: Option<Vec<u8>>,
    /// `replica-announce-port`, or the port that clients connect to.
    pub listening_port: u16,
    /// `replica-announce-ip`.
    pub announce_ip: Option<String>,
    /// A version to announce by `REPLCONF version`, as Valkey does; Redis answers it with an error, which
    /// does no harm.
    pub announce_version: Option<String>,
    /// `repl-timeout`.
    pub timeout: Millis,
    /// Where snapshots go, which only the log lines show.
    pub load: LoadMode,
    /// How many keys a primary without data must not take from this replica; `None` with
    /// `replica-guard-empty-primary no`.
    pub guarded_keys: Option<u64>,
    /// Which forms of the synchronisation on two connections to announce.
    pub channels: ChannelsOffered,
    /// How many bytes of the stream may wait here for a snapshot that comes on another connection.
    pub stream_bytes_max: Option<u64>,
}

/// Where the bytes of a snapshot go first (`repl-diskless-load`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    Disk,
    /// `swapdb`: the old data set stays until the new one is complete; otherwise it was empty to begin with.
    Parser {
        swapdb: bool,
    },
}

/// From where a new link tries to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    Nothing,
    /// The position that was loaded together with the data set.
    Restored(Position),
    /// This server was a primary until now; its former replica may have become the primary.
    OwnHistory(Position),
}

/// What happens to the link.
#[derive(Clone, Debug)]
pub enum LinkInput<'a> {
    /// The connection that was asked for is there.
    Connected,
    /// The connection could not be made, or is gone; the reason goes to the log.
    Closed(&'a str),
    /// Bytes from the primary. Ranges in the actions of this step refer to them.
    Bytes(&'a [u8]),
    /// The same of the second connection, [`LinkAction::OpenChannel`].
    ChannelConnected,
    ChannelClosed(&'a str),
    ChannelBytes(&'a [u8]),
    /// Time has passed. At least once a second; the link's timers have no finer grain.
    Tick,
    /// The stream was executed, and recorded in the log, up to this offset.
    Applied(u64),
    /// What was executed is on disk up to this offset.
    Fsynced(u64),
    /// The primary sent REPLCONF GETACK; everything before it was reported as applied.
    AckWanted,
    /// The received snapshot is ready to take the place of the data set.
    SnapshotLoaded,
    /// The snapshot cannot be loaded or stored.
    SnapshotFailed(&'a str),
    /// The stream cannot be understood. The position is given up, since asking again for the same bytes
    /// would bring the same error.
    StreamBroken,
}

/// What the owner is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// Connect; report `Connected` or `Closed`. Events of an earlier connection must no longer be reported.
    OpenConnection {
        host: String,
        port: u16,
    },
    CloseConnection,
    Send(Vec<u8>),
    /// Connect once more to the same primary; report `ChannelConnected` or `ChannelClosed`.
    OpenChannel {
        host: String,
        port: u16,
    },
    /// End that connection, or the attempt.
    CloseChannel,
    SendChannel(Vec<u8>),
    Log(LinkEvent),
    /// The primary has begun a full synchronisation; remember why.
    FullSync(FullSync),
    /// A snapshot follows that was taken at this position (unknown from a primary without PSYNC).
    BeginSnapshot {
        at: Option<Position>,
        payload: PayloadKind,
    },
    SnapshotBytes(Piece),
    /// The snapshot is complete: load it and report `SnapshotLoaded` or `SnapshotFailed`.
    EndSnapshot,
    /// Forget what was received of the snapshot, and of the stream after it.
    DiscardSnapshot,
    /// Leave the socket unread until `ResumeReading`, so that the stream waits in the network.
    PauseReading,
    ResumeReading,
    /// Put the loaded data set in place; take on this history, resetting the log to its offset (a fresh
    /// random history at offset 0 when `None`), and keep an active log from here on. The primary's session
    /// begins anew with the database that the snapshot names; bytes given by `Apply` since `EndSnapshot`
    /// are its first.
    AdoptHistory(Option<Position>),
    /// The history goes on under this id: shift to it at the log's end.
    ShiftHistory {
        to: ReplId,
    },
    /// The data set is as of this position and the stream goes on from here; keep an active log.
    ContinueFrom(Position),
    /// What came of [`PrimaryLink::ask_to_take_over`].
    TakeoverAnswered {
        accepted: bool,
    },
    /// This server's own replicas must ask anew, since the history changed.
    DisconnectReplicas,
    /// Bytes of the stream, following those given before. Execute whole commands, append them verbatim to
    /// the log, and report `Applied`.
    Apply(Range<usize>),
    /// The stream broke off. Forget its bytes that were not executed and an open MULTI, but not the
    /// selected database; this is the position that the next connection continues from.
    CachePrimary(Position),
    /// There is nothing to continue from any more: forget the session of the primary.
    ForgetPrimary,
}

/// A replica's view of its primary.
#[derive(Clone, Debug)]
pub struct PrimaryLink {
    host: String,
    port: u16,
    /// Where the data set stands while the link is not streaming: `cached_master`.
    cached: Option<Position>,
    down_since: Option<Millis>,
    /// A position was given up since the link was up last.
    gave_up: bool,
    trust: Trust,
    /// The primary that is left alone.
    guard: Option<Guarded>,
    /// The primary did not say how it stands.
    blind: bool,
    /// The reply to INFO, once its length is known.
    info: Option<BulkReply>,
    /// When the snapshot that is being transferred began to arrive.
    transfer_since: Option<Millis>,
    takeover: Takeover,
    /// Snapshots and streams in a row that could not be taken in.
    failures: u32,
    /// Since when there is a stream, cuts aside, that can be.
    streams_since: Option<Millis>,
    /// The snapshot comes on a connection of its own.
    channel: Option<Channel>,
    /// The connection was lost while the snapshot was loaded, and what had come of the stream is still being executed:
    /// how far that was at the last look.
    lost_at: Option<u64>,
    /// The beginning of a reply whose end has not come yet.
    line: LineBuffer,
    state: LinkState,
}

/// Whether the other end is to become the primary before it serves us (`PSYNC … FAILOVER`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Takeover {
    /// It is one already.
    #[default]
    No,
    Ask,
    /// An earlier request was not answered: it may have been followed all the same.
    AskAgain,
    /// It was followed: what is left is to continue from there.
    Join,
}

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Connect {
        retry_at: Millis,
    },
    Connecting {
        last_io: Millis,
    },
    Handshake {
        awaiting: HandshakeReply,
        announced: Announced,
        last_io: Millis,
    },
    AwaitPsync {
        asked: Option<Position>,
        last_io: Millis,
    },
    /// The primary prepares the snapshot; newlines keep the link alive.
    AwaitPayload {
        at: Option<Position>,
        last_io: Millis,
    },
    Transfer {
        at: Option<Position>,
        payload: Payload,
        read: u64,
        last_io: Millis,
    },
    Loading {
        at: Option<Position>,
        payload: PayloadKind,
        read: u64,
        /// Bytes of the stream that are waiting.
        ahead: u64,
        newline_due: Millis,
        last_io: Millis,
        /// The connection broke meanwhile; what was received is complete and is used all the same.
        lost: bool,
    },
    Streaming {
        /// What was executed. `None` from a primary without PSYNC: never acknowledged, never continued.
        at: Option<Position>,
        /// Offset of the last byte received.
        received: u64,
        fsynced: Option<u64>,
        ack_due: Millis,
        last_io: Millis,
    },
}

/// Which reply is next in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    Pong,
    Auth,
    ListeningPort,
    IpAddress,
    Capa,
    Version,
    Info,
}

/// Which of the optional announcements were sent, so that their replies are expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub ip: bool,
    pub version: bool,
    /// Not an announcement: INFO was asked for.
    pub info: bool,
}

/// The name of a [`LinkState`], for the table of transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStateName {
    Connect,
    Connecting,
    Handshake,
    AwaitPsync,
    AwaitPayload,
    Transfer,
    Loading,
    Streaming,
}

/// The link as INFO replication shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkInfo {
    /// `master_link_status` is `up`.
    pub up: bool,
    /// `master_last_io_seconds_ago`, -1 while there is no stream.
    pub last_io_seconds_ago: i64,
    /// `slave_read_repl_offset`.
    pub read_offset: u64,
    /// `slave_repl_offset`.
    pub applied_offset: u64,
    /// `master_sync_in_progress` and the fields that appear with it.
    pub sync: Option<SyncInfo>,
    /// `master_link_down_since_seconds`, shown while the link is down; -1 if it never was up.
    pub down_since_seconds: i64,
}

/// The progress of a transfer as INFO replication shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncInfo {
    /// `master_sync_total_bytes`: -1 before the transfer began, 0 when the size is unknown.
    pub total_bytes: i64,
    pub read_bytes: i64,
    pub left_bytes: i64,
    /// `master_sync_perc`, to be shown with two decimals.
    pub percent: f64,
    /// `master_sync_last_io_seconds_ago`.
    pub last_io_seconds_ago: u64,
    /// When the transfer will be complete at the rate so far; unknown without a size.
    pub eta_seconds: Option<u64>,
}

impl PrimaryLink {
    /// Begins to follow the primary at `host:port`.
    pub fn follow(
        now: Millis,
        host: &str,
        port: u16,
        resume: Resume,
        out: &mut Vec<LinkAction>,
    ) -> PrimaryLink {
        let trust = match resume {
            Resume::Restored(_) => Trust::Restored,
            Resume::Nothing | Resume::OwnHistory(_) => Trust::Told,
        };
        let cached = match resume {
            Resume::Nothing => None,
            Resume::Restored(at) => Some(at),
            Resume::OwnHistory(at) => {
                out.push(LinkAction::Log(LinkEvent::CachedOwnHistory));
                Some(at)
            }
        };
        let mut link = PrimaryLink {
            host: host.to_owned(),
            port,
            cached,
            down_since: None,
            gave_up: false,
            trust,
            guard: None,
            blind: false,
            info: None,
            transfer_since: None,
            takeover: Takeover::No,
            failures: 0,
            streams_since: None,
            channel: None,
            lost_at: None,
            line: LineBuffer::default(),
            state: LinkState::Connect { retry_at: now },
        };
        link.connect(now, out);
        link
    }

    /// Follows another primary from now on, continuing from the position reached (REPLICAOF on a replica).
    pub fn retarget(mut self, now: Millis, host: &str, port: u16, out: &mut Vec<LinkAction>) -> PrimaryLink {
        self.drop_connection(now, out);
        if self.guard.take().is_some() {
            out.push(LinkAction::Log(LinkEvent::GuardOverruled));
        }
        self.trust = Trust::Told;
        self.failures = 0;
        self.host = host.to_owned();
        self.port = port;
        self.takeover = Takeover::No;
        self.connect(now, out);
        self
    }

    /// Our replica at the other end is to become the primary when we ask it for the stream: until it has answered
    /// that ([`LinkAction::TakeoverAnswered`]), however many connections it takes.
    ///
    /// A connection that breaks before the answer leaves open whether the request was followed. It is repeated then, and
    /// a primary that refuses the repetition for being one has followed it.
    pub fn ask_to_take_over(&mut self) {
        self.takeover = Takeover::Ask;
    }

    /// Ends the link (REPLICAOF NO ONE). The owner then shifts its history.
    pub fn stop(mut self, now: Millis, out: &mut Vec<LinkAction>) {
        self.drop_connection(now, out);
        if self.cached.is_some() {
            out.push(LinkAction::Log(LinkEvent::CacheDiscarded));
            out.push(LinkAction::ForgetPrimary);
        }
    }

    /// The owner drops the data that the kept position belongs to, before the new data is complete: if the load
    /// fails, only another full synchronisation will do.
    pub fn forget_position(&mut self) {
        self.cached = None;
        self.gave_up = true;
    }

    /// Takes one input; see the diagram of this module.
    pub fn step(
        mut self,
        config: &LinkConfig,
        now: Millis,
        input: LinkInput<'_>,
        out: &mut Vec<LinkAction>,
    ) -> PrimaryLink {
        let before = self.guard.as_ref().map(|guarded| (out.len(), guarded.since));
        match input {
            LinkInput::Connected => self.connected(now, out),
            LinkInput::Closed(reason) => self.closed(now, reason, out),
            LinkInput::Bytes(bytes) => self.bytes(config, now, bytes, out),
            LinkInput::ChannelConnected => self.channel_connected(config, now, out),
            LinkInput::ChannelClosed(reason) => self.channel_closed(now, reason, out),
            LinkInput::ChannelBytes(bytes) => self.channel_bytes(config, now, bytes, out),
            LinkInput::Tick => self.tick(config, now, out),
            LinkInput::Applied(to) => self.applied(now, to, out),
            LinkInput::Fsynced(to) => {
                if let LinkState::Streaming { fsynced, .. } = &mut self.state {
                    *fsynced = Some(to);
                }
            }
            LinkInput::AckWanted => self.acknowledge(now, out),
            LinkInput::SnapshotLoaded => self.loaded(config, now, out),
            LinkInput::SnapshotFailed(reason) => self.load_failed(config, now, reason, out),
            LinkInput::StreamBroken => {
                if let LinkState::Streaming { .. } = self.state {
                    out.push(LinkAction::Log(LinkEvent::Lost));
                    out.push(LinkAction::ForgetPrimary);
                    self.gave_up = true;
                    match self.count_failure(now, out) {
                        Millis(0) => self.reconnect_lost(now, out),
                        wait => {
                            self.down_since = Some(now);
                            self.leave_alone(now, wait, out);
                        }
                    }
                }
            }
        }
        if let (Some((from, since)), Some(guarded)) = (before, &self.guard)
            && guarded.since == since
        {
            // It was said once; looking again whether the primary is right says nothing.
            let mut index = 0;
            out.retain(|action| {
                index += 1;
                index <= from || !matches!(action, LinkAction::Log(_))
            });
        }
        self
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn state(&self) -> &LinkState {
        &self.state
    }

    /// Whether the stream flows: `master_link_status:up`.
    pub fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Streaming { .. })
    }

    /// Where the data set stands in the primary's history, as far as is known.
    pub fn position(&self) -> Option<Position> {
        match self.state {
            LinkState::Streaming { at, .. } => at,
            _ => self.cached,
        }
    }

    /// The primary that is left alone because it seems to have lost its data.
    pub fn guarded(&self) -> Option<&Guarded> {
        self.guard.as_ref()
    }

    /// The state's name in the reply to ROLE.
    pub fn role_state(&self) -> &'static str {
        match self.state {
            _ if self.guard.is_some() => "guarded",
            LinkState::Connect { .. } => "connect",
            LinkState::Connecting { .. } => "connecting",
            LinkState::Handshake { .. } | LinkState::AwaitPsync { .. } => "handshake",
            LinkState::AwaitPayload { .. } | LinkState::Transfer { .. } | LinkState::Loading { .. } => "sync",
            LinkState::Streaming { .. } => "connected",
        }
    }

    /// The offset in the reply to ROLE: what was executed, -1 while there is no stream.
    pub fn role_offset(&self) -> i64 {
        match self.state {
            LinkState::Streaming { at: Some(at), .. } => at.offset as i64,
            _ => -1,
        }
    }

    pub fn info(&self, now: Millis) -> LinkInfo {
        let cached = self.cached.map_or(1, |at| at.offset);
        let (last_io_seconds_ago, read_offset, applied_offset) = match self.state {
            LinkState::Streaming { at, received, last_io, .. } => {
                (now.since(last_io).secs() as i64, received, at.map_or(0, |at| at.offset))
            }
            _ => (-1, cached, cached),
        };
        let sync = match self.state {
            LinkState::AwaitPayload { last_io, .. } => Some((-1, 0, last_io)),
            LinkState::Transfer { payload, read, last_io, .. } => {
                Some((total(payload.kind()), read, last_io))
            }
            LinkState::Loading { payload, read, last_io, .. } => Some((total(payload), read, last_io)),
            _ => None,
        };
        LinkInfo {
            up: self.is_up(),
            last_io_seconds_ago,
            read_offset,
            applied_offset,
            sync: sync.map(|(total, read, last_io)| SyncInfo {
                eta_seconds: self.transfer_since.filter(|_| total > 0 && read > 0).map(|since| {
                    let left = (total as u64).saturating_sub(read);
                    (u128::from(now.since(since).0) * u128::from(left) / u128::from(read) / 1000) as u64
                }),
                total_bytes: total,
                read_bytes: read as i64,
                left_bytes: total - read as i64,
                percent: if total > 0 { read as f64 / total as f64 * 100.0 } else { 0.0 },
                last_io_seconds_ago: now.since(last_io).secs(),
            }),
            down_since_seconds: self.down_since.map_or(-1, |since| now.since(since).secs() as i64),
        }
    }

    fn enter(&mut self, state: LinkState) {
        debug_assert!(
            may_become(self.state.name(), state.name()),
            "a link does not go from {:?} to {:?}",
            self.state,
            state
        );
        self.state = state;
    }

    /// Asks for a connection, on the owner's or the timer's initiative.
    fn connect(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        out.push(LinkAction::Log(LinkEvent::Connecting { host: self.host.clone(), port: self.port }));
        self.open(now, out);
    }

    fn open(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        self.line = LineBuffer::default();
        self.lost_at = None;
        self.info = None;
        self.transfer_since = None;
        out.push(LinkAction::OpenConnection { host: self.host.clone(), port: self.port });
        out.push(LinkAction::Log(LinkEvent::SyncStarted));
        self.enter(LinkState::Connecting { last_io: now });
    }

    /// The primary is there but cannot serve us, or is not there: try again later.
    fn retry_later(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        self.disconnect(out);
        self.enter(LinkState::Connect { retry_at: now + BEAT });
    }

    /// The attempt got stuck or broke in the middle: try again at once.
    fn reconnect_after_failure(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        self.disconnect(out);
        let (host, port) = (self.host.clone(), self.port);
        out.push(LinkAction::Log(LinkEvent::ReconnectingAfterFailure { host, port }));
        self.open(now, out);
    }

    /// Ends the connections and forgets what has come of a snapshot.
    fn disconnect(&mut self, out: &mut Vec<LinkAction>) {
        let channel = self.channel.take();
        if channel.is_some() || matches!(self.state, LinkState::Transfer { .. } | LinkState::Loading { .. }) {
            out.push(LinkAction::DiscardSnapshot);
        }
        if channel.is_some() {
            out.push(LinkAction::CloseChannel);
        }
        out.push(LinkAction::CloseConnection);
    }

    /// The stream broke off: keep the position and connect again at once, before the log moves on.
    fn lost(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        self.keep_position(out);
        self.reconnect_lost(now, out);
    }

    fn reconnect_lost(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        out.push(LinkAction::CloseConnection);
        self.down_since = Some(now);
        let (host, port) = (self.host.clone(), self.port);
        out.push(LinkAction::Log(LinkEvent::Reconnecting { host, port }));
        self.open(now, out);
    }

    fn keep_position(&mut self, out: &mut Vec<LinkAction>) {
        let LinkState::Streaming { at, .. } = self.state else {
            unreachable!("only a stream has a position to keep")
        };
        out.push(LinkAction::Log(LinkEvent::Lost));
        self.cached = at;
        match at {
            Some(at) => {
                out.push(LinkAction::Log(LinkEvent::Cached));
                out.push(LinkAction::CachePrimary(at));
            }
            None => out.push(LinkAction::ForgetPrimary),
        }
    }

    /// Leaves whatever was going on, keeping the position; the owner decides what comes next.
    fn drop_connection(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        match self.state {
            LinkState::Connect { .. } => return,
            LinkState::Streaming { .. } => {
                self.keep_position(out);
                self.down_since = Some(now);
            }
            _ => {}
        }
        self.lost_at = None;
        self.disconnect(out);
        self.enter(LinkState::Connect { retry_at: now });
    }

    fn connected(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        if let LinkState::Connecting { .. } = self.state {
            out.push(LinkAction::Log(LinkEvent::ConnectFired));
            out.push(LinkAction::Send(wire::command(&[b"PING"])));
            let announced = Announced::default();
            self.enter(LinkState::Handshake { awaiting: HandshakeReply::Pong, announced, last_io: now });
        }
    }

    fn closed(&mut self, now: Millis, reason: &str, out: &mut Vec<LinkAction>) {
        let reason = reason.to_owned();
        let mut log = |event| out.push(LinkAction::Log(event));
        match &mut self.state {
            LinkState::Connect { .. } => {}
            LinkState::Connecting { .. } => {
                log(LinkEvent::ConnectError(reason));
                self.retry_later(now, out);
            }
            LinkState::Handshake { .. } => {
                log(LinkEvent::ReadError(reason));
                log(LinkEvent::HandshakeSilence);
                self.retry_later(now, out);
            }
            LinkState::AwaitPsync { .. } => {
                log(LinkEvent::ReadError(reason));
                log(LinkEvent::PsyncSilence);
                self.takeover_unanswered();
                self.retry_later(now, out);
            }
            LinkState::AwaitPayload { .. } => {
                log(LinkEvent::BulkCountError(reason));
                self.reconnect_after_failure(now, out);
            }
            LinkState::Transfer { .. } => {
                log(LinkEvent::TransferError(reason));
                self.reconnect_after_failure(now, out);
            }
            LinkState::Loading { lost, .. } => *lost = true,
            LinkState::Streaming { .. } => self.lost(now, out),
        }
    }

    fn bytes(&mut self, config: &LinkConfig, now: Millis, input: &[u8], out: &mut Vec<LinkAction>) {
        let mut from = 0;
        while from < input.len() {
            if self.channel.is_some() {
                from = self.beside_bytes(config, now, input, from, out);
                continue;
            }
            match &mut self.state {
                LinkState::Streaming { received, last_io, .. } => {
                    *received += (input.len() - from) as u64;
                    *last_io = now;
                    out.push(LinkAction::Apply(from..input.len()));
                    return;
                }
                LinkState::Loading { ahead, last_io, .. } => {
                    *ahead += (input.len() - from) as u64;
                    *last_io = now;
                    out.push(LinkAction::Apply(from..input.len()));
                    return;
                }
                LinkState::Transfer { .. } => match self.transfer_bytes(config, now, input, from, out) {
                    Some(end) => from = end,
                    None => return,
                },
                LinkState::Handshake { last_io, .. } if self.info.is_some() => {
                    *last_io = now;
                    let info = self.info.as_mut().expect("just seen");
                    from += info.feed(&input[from..]);
                    if let Some(text) = info.text() {
                        let account = Account::parse(text);
                        self.info = None;
                        self.ask(config, now, account, out);
                    }
                }
                LinkState::Handshake { .. }
                | LinkState::AwaitPsync { .. }
                | LinkState::AwaitPayload { .. } => {
                    let line = match self.line.feed(&input[from..]) {
                        Line::Partial => return,
                        Line::TooLong => {
                            out.push(LinkAction::Log(LinkEvent::ReplyTooLong));
                            return self.retry_later(now, out);
                        }
                        Line::Whole(line, taken) => {
                            from += taken;
                            line
                        }
                    };
                    self.reply(config, now, &line, out);
                }
                // Whatever else the closed connection had to say is not for us.
                LinkState::Connect { .. } | LinkState::Connecting { .. } => return,
            }
        }
    }

    /// Bytes of the snapshot from `from` on: where they end, if they do.
    fn transfer_bytes(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        input: &[u8],
        from: usize,
        out: &mut Vec<LinkAction>,
    ) -> Option<usize> {
        let LinkState::Transfer { payload, read, last_io, .. } = &mut self.state else {
            unreachable!("a snapshot is read while it is transferred")
        };
        *last_io = now;
        let end = payload.feed(input, from, |piece| out.push(LinkAction::SnapshotBytes(piece)));
        *read += (end.unwrap_or(input.len()) - from) as u64;
        end.inspect(|_| self.transferred(config, now, out))
    }

    /// A whole line before the snapshot or the stream begins.
    fn reply(&mut self, config: &LinkConfig, now: Millis, line: &[u8], out: &mut Vec<LinkAction>) {
        match &mut self.state {
            LinkState::Handshake { awaiting, announced, last_io } => {
                *last_io = now;
                let (awaiting, announced) = (*awaiting, *announced);
                self.handshake_reply(config, now, awaiting, announced, line, out);
            }
            LinkState::AwaitPsync { asked, last_io } => {
                *last_io = now;
                let asked = *asked;
                self.psync_reply(config, now, asked, line, out);
            }
            LinkState::AwaitPayload { at, last_io } => {
                *last_io = now;
                let at = *at;
                self.payload_header(config, now, at, line, out);
            }
            state => unreachable!("no line is read in {state:?}"),
        }
    }

    fn handshake_reply(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        awaiting: HandshakeReply,
        announced: Announced,
        line: &[u8],
        out: &mut Vec<LinkAction>,
    ) {
        let mut not_understood = |option| {
            if line.starts_with(b"-") {
                out.push(LinkAction::Log(LinkEvent::NotUnderstood { option, reply: lossy(line) }));
            }
        };
        let info = announced.info.then_some(HandshakeReply::Info);
        let (next, announced) = match awaiting {
            HandshakeReply::Pong => {
                // A primary that wants a password first is alive as well; very old ones have no error code.
                let alive = [&b"+"[..], b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"];
                if !alive.iter().any(|reply| line.starts_with(reply)) {
                    out.push(LinkAction::Log(LinkEvent::PingError(lossy(line))));
                    return self.retry_later(now, out);
                }
                out.push(LinkAction::Log(LinkEvent::Pong));
                let announced = Announced {
                    ip: config.announce_ip.is_some(),
                    version: config.announce_version.is_some(),
                    info: self.cached.is_some()
                        && self.trust != Trust::Told
                        && config.guarded_keys.is_some_and(|keys| keys > 0),
                };
                out.push(LinkAction::Send(announcements(config, announced.info)));
                let next = match config.password {
                    Some(_) => HandshakeReply::Auth,
                    None => HandshakeReply::ListeningPort,
                };
                (Some(next), announced)
            }
            HandshakeReply::Auth => {
                if line.starts_with(b"-") {
                    out.push(LinkAction::Log(LinkEvent::AuthError(lossy(line))));
                    return self.retry_later(now, out);
                }
                (Some(HandshakeReply::ListeningPort), announced)
            }
            HandshakeReply::ListeningPort => {
                not_understood("listening-port");
                let next = if announced.ip { HandshakeReply::IpAddress } else { HandshakeReply::Capa };
                (Some(next), announced)
            }
            HandshakeReply::IpAddress => {
                not_understood("ip-address");
                (Some(HandshakeReply::Capa), announced)
            }
            HandshakeReply::Capa => {
                not_understood("capa");
                (announced.version.then_some(HandshakeReply::Version).or(info), announced)
            }
            HandshakeReply::Version => {
                not_understood("version");
                (info, announced)
            }
            HandshakeReply::Info => {
                self.info = BulkReply::announced(line);
                if self.info.is_none() {
                    self.ask(config, now, None, out);
                }
                return;
            }
        };
        match next {
            Some(awaiting) => self.enter(LinkState::Handshake { awaiting, announced, last_io: now }),
            None => self.ask(config, now, None, out),
        }
    }

    /// The handshake is over: PSYNC, unless what the primary said of itself forbids it.
    fn ask(&mut self, config: &LinkConfig, now: Millis, account: Option<Account>, out: &mut Vec<LinkAction>) {
        self.blind = account.is_none();
        if let (Some(ours), Some(account), Some(keys)) = (self.cached, account, config.guarded_keys) {
            if account.endangers(self.trust, ours, keys, self.guard.as_ref()) {
                let primary = Position::new(account.id, account.offset);
                let (primary_keys, run_id) = (Some(account.keys), account.run_id);
                let guarded = Guarded { since: now, primary, primary_keys, ours, keys, run_id };
                return self.refuse(now, guarded, guard::RETRY, out);
            }
            if self.guard.take().is_some() {
                out.push(LinkAction::Log(LinkEvent::GuardEnded));
            }
        }
        out.push(LinkAction::Log(match self.cached {
            Some(at) => LinkEvent::TryingPartial(at),
            None => LinkEvent::PartialNotPossible,
        }));
        out.push(LinkAction::Send(wire::psync(self.cached, self.takeover.is_asked())));
        self.enter(LinkState::AwaitPsync { asked: self.cached, last_io: now });
    }

    /// All that is known is the answer to PSYNC, and that is of a younger history.
    fn is_blind_danger(&self, ours: Position, primary: Position, keys: u64) -> bool {
        let is_younger = primary.replid != ours.replid && primary.offset < ours.offset;
        self.blind && self.trust == Trust::Followed && keys > 0 && is_younger
    }

    /// Leaves the primary alone, and the data here as it is.
    fn refuse(&mut self, now: Millis, guarded: Guarded, retry: Millis, out: &mut Vec<LinkAction>) {
        let is_known = self.guard.as_ref().is_some_and(|before| before.run_id == guarded.run_id);
        if !is_known {
            out.push(LinkAction::Log(LinkEvent::Guarded(guarded.clone())));
            self.guard = Some(guarded);
        }
        self.disconnect(out);
        self.enter(LinkState::Connect { retry_at: now + retry });
    }

    fn psync_reply(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        asked: Option<Position>,
        line: &[u8],
        out: &mut Vec<LinkAction>,
    ) {
        if line.is_empty() {
            // A newline keeps the link alive while the primary prepares its answer.
        } else if line.starts_with(b"+FULLRESYNC") {
            let at = parse_full_resync(line);
            if self.full_resync(config, now, asked, at, out).is_continue() {
                self.takeover_answered(true, out);
                self.enter(LinkState::AwaitPayload { at, last_io: now });
            }
        } else if let Some(form) = Form::parse(line) {
            self.begin_channel(now, asked, form, out);
        } else if line.starts_with(b"+CONTINUE") {
            match asked {
                Some(at) => self.continued(now, at, line, out),
                None => {
                    out.push(LinkAction::Log(LinkEvent::ContinueUnasked));
                    self.retry_later(now, out);
                }
            }
        } else if line.starts_with(b"-NOMASTERLINK") || line.starts_with(b"-LOADING") {
            out.push(LinkAction::Log(LinkEvent::PsyncTryLater(lossy(line))));
            self.takeover_answered(false, out);
            self.retry_later(now, out);
        } else if self.takeover == Takeover::AskAgain && line.starts_with(TAKEN_OVER) {
            self.takeover = Takeover::Join;
            out.push(LinkAction::Send(wire::psync(asked, false)));
        } else {
            out.push(LinkAction::Log(match line.starts_with(b"-ERR") {
                true => LinkEvent::PsyncNotSupported(lossy(line)),
                false => LinkEvent::PsyncUnexpected(lossy(line)),
            }));
            if self.takeover_answered(false, out) {
                return self.retry_later(now, out);
            }
            out.push(LinkAction::Log(LinkEvent::RetryingWithSync));
            out.push(LinkAction::FullSync(FullSync::because(Cause::NoPsync)));
            out.push(LinkAction::Send(b"SYNC\r\n".to_vec()));
            self.enter(LinkState::AwaitPayload { at: None, last_io: now });
        }
    }

    /// The primary is about to send a snapshot that was taken at this position: breaks off if that must not be loaded.
    fn full_resync(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        asked: Option<Position>,
        at: Option<Position>,
        out: &mut Vec<LinkAction>,
    ) -> ControlFlow<()> {
        if let (Some(ours), Some(primary), Some(keys)) = (asked, at, config.guarded_keys)
            && self.is_blind_danger(ours, primary, keys)
        {
            let (primary_keys, run_id) = (None, String::new());
            let guarded = Guarded { since: now, primary, primary_keys, ours, keys, run_id };
            self.refuse(now, guarded, guard::RETRY_BLIND, out);
            return ControlFlow::Break(());
        }
        self.guard = None;
        out.push(LinkAction::FullSync(FullSync::received(asked, self.gave_up, at)));
        out.push(LinkAction::Log(match at {
            Some(at) => LinkEvent::FullResync(at),
            None => LinkEvent::WrongFullResync,
        }));
        ControlFlow::Continue(())
    }

    /// True if there was a request.
    fn takeover_answered(&mut self, accepted: bool, out: &mut Vec<LinkAction>) -> bool {
        let asked = self.takeover != Takeover::No;
        if asked {
            self.takeover = Takeover::No;
            out.push(LinkAction::TakeoverAnswered { accepted });
        }
        asked
    }

    fn takeover_unanswered(&mut self) {
        if self.takeover == Takeover::Ask {
            self.takeover = Takeover::AskAgain;
        }
    }

    fn continued(&mut self, now: Millis, mut at: Position, line: &[u8], out: &mut Vec<LinkAction>) {
        out.push(LinkAction::Log(LinkEvent::Continued));
        self.takeover_answered(true, out);
        let new_id = line.get(b"+CONTINUE ".len()..).and_then(|id| ReplId::parse(id).ok());
        if let Some(id) = new_id.filter(|id| *id != at.replid) {
            out.push(LinkAction::Log(LinkEvent::IdChanged(id)));
            out.push(LinkAction::ShiftHistory { to: id });
            out.push(LinkAction::DisconnectReplicas);
            at.replid = id;
        }
        out.push(LinkAction::ContinueFrom(at));
        out.push(LinkAction::Log(LinkEvent::PartialAccepted));
        self.cached = None;
        self.stream(now, Some(at), 0, now);
    }

    fn payload_header(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        at: Option<Position>,
        line: &[u8],
        out: &mut Vec<LinkAction>,
    ) {
        if line.is_empty() {
            return;
        }
        if let Some(error) = line.strip_prefix(b"-") {
            out.push(LinkAction::Log(LinkEvent::Aborted(lossy(error))));
            return self.reconnect_after_failure(now, out);
        }
        let Some(payload) = Payload::parse(line) else {
            out.push(LinkAction::Log(LinkEvent::BadPayloadHeader(lossy(line))));
            return self.reconnect_after_failure(now, out);
        };
        let kind = payload.kind();
        out.push(LinkAction::Log(LinkEvent::Receiving { payload: kind, load: config.load }));
        out.push(LinkAction::BeginSnapshot { at, payload: kind });
        if let LoadMode::Parser { swapdb } = config.load {
            log_load_begins(swapdb, out);
        }
        self.transfer_since = Some(now);
        self.enter(LinkState::Transfer { at, payload, read: 0, last_io: now });
        if kind == PayloadKind::Sized(0) {
            self.transferred(config, now, out);
        }
    }

    /// The snapshot is complete.
    fn transferred(&mut self, config: &LinkConfig, now: Millis, out: &mut Vec<LinkAction>) {
        if let Some(channel) = &mut self.channel {
            channel.complete = true;
            // A primary of Valkey's kind knows the first connection by the second until then.
            if !channel.flows() {
                return;
            }
            out.push(LinkAction::CloseChannel);
        }
        let LinkState::Transfer { at, payload, read, last_io } = self.state else {
            unreachable!("only a transfer ends")
        };
        if config.load == LoadMode::Disk {
            log_load_begins(false, out);
        }
        if self.channel.is_none() {
            out.push(LinkAction::PauseReading);
        }
        out.push(LinkAction::EndSnapshot);
        let payload = payload.kind();
        let newline_due = now + BEAT;
        self.enter(LinkState::Loading { at, payload, read, ahead: 0, newline_due, last_io, lost: false });
    }

    fn loaded(&mut self, config: &LinkConfig, now: Millis, out: &mut Vec<LinkAction>) {
        let LinkState::Loading { at, payload, mut ahead, lost, .. } = self.state else { return };
        let channel = self.channel.take();
        ahead += channel.as_ref().map_or(0, |channel| channel.ahead);
        if self.cached.take().is_some() {
            // No ForgetPrimary: stream bytes of the new session may be waiting already.
            out.push(LinkAction::Log(LinkEvent::CacheDiscarded));
        }
        out.push(LinkAction::DisconnectReplicas);
        if config.load == (LoadMode::Parser { swapdb: true }) {
            out.push(LinkAction::Log(LinkEvent::SwappingDb));
            out.push(LinkAction::Log(LinkEvent::DiscardingOldDb));
        }
        out.push(LinkAction::AdoptHistory(at));
        out.push(LinkAction::Log(LinkEvent::Finished));
        self.stream(now, at, ahead, now);
        if lost && channel.is_some() {
            self.lost_at = at.map(|at| at.offset);
            return;
        }
        if lost {
            return self.lost(now, out);
        }
        out.push(LinkAction::ResumeReading);
        if payload == PayloadKind::UntilMark || channel.is_some() {
            // The primary begins the stream when it knows by our first ACK that we saw the mark; or that we have loaded
            // what came over another connection.
            self.acknowledge(now, out);
        }
    }

    fn load_failed(&mut self, config: &LinkConfig, now: Millis, reason: &str, out: &mut Vec<LinkAction>) {
        if !matches!(self.state, LinkState::Transfer { .. } | LinkState::Loading { .. }) {
            return;
        }
        let reason = reason.to_owned();
        out.push(LinkAction::Log(LinkEvent::LoadFailed { load: config.load, reason }));
        if config.load == (LoadMode::Parser { swapdb: true }) {
            out.push(LinkAction::Log(LinkEvent::DiscardingNewDb));
        }
        match self.count_failure(now, out) {
            Millis(0) => self.reconnect_after_failure(now, out),
            wait => {
                out.push(LinkAction::DiscardSnapshot);
                self.leave_alone(now, wait, out);
            }
        }
    }

    /// What the primary sent could not be taken in. It will hardly be better at once, and each attempt costs the primary a
    /// snapshot: how long to leave it alone. The first failure may have been an accident.
    fn count_failure(&mut self, now: Millis, out: &mut Vec<LinkAction>) -> Millis {
        let forgiven = self.streams_since.take().is_some_and(|since| now.since(since) > FORGIVEN_AFTER);
        self.failures = if forgiven { 1 } else { self.failures + 1 };
        if self.failures == 1 {
            return Millis(0);
        }
        let wait = Millis::from_secs(1 << (self.failures - 2).min(6)).min(FAILURE_WAIT_MAX);
        out.push(LinkAction::Log(LinkEvent::LeavingAlone { failures: self.failures, wait }));
        wait
    }

    fn leave_alone(&mut self, now: Millis, wait: Millis, out: &mut Vec<LinkAction>) {
        out.push(LinkAction::CloseConnection);
        self.enter(LinkState::Connect { retry_at: now + wait });
    }

    fn stream(&mut self, now: Millis, at: Option<Position>, ahead: u64, last_io: Millis) {
        self.down_since = None;
        self.streams_since.get_or_insert(now);
        self.gave_up = false;
        self.guard = None;
        self.trust = Trust::Followed;
        let received = at.map_or(0, |at| at.offset) + ahead;
        self.enter(LinkState::Streaming { at, received, fsynced: None, ack_due: now, last_io });
    }

    fn applied(&mut self, now: Millis, to: u64, out: &mut Vec<LinkAction>) {
        let is_lost = self.lost_at.is_some();
        if let LinkState::Streaming { at: Some(at), received, .. } = &mut self.state {
            assert!(
                at.offset <= to && to <= *received,
                "what was applied ({to}) lies between what was applied before ({}) and what was received \
                 ({received})",
                at.offset
            );
            at.offset = to;
            if is_lost && to == *received {
                self.lost(now, out);
            }
        }
    }

    /// What had come of the stream before it was lost is executed up to here; nothing more is to be expected if that was
    /// the same at the last look.
    fn look_at_rest(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        let (Some(before), LinkState::Streaming { at: Some(at), .. }) = (self.lost_at, self.state) else {
            return;
        };
        match before == at.offset {
            true => self.lost(now, out),
            false => self.lost_at = Some(at.offset),
        }
    }

    fn acknowledge(&mut self, now: Millis, out: &mut Vec<LinkAction>) {
        if let LinkState::Streaming { at: Some(at), fsynced, ack_due, .. } = &mut self.state {
            out.push(LinkAction::Send(wire::ack(at.offset, *fsynced)));
            *ack_due = now + BEAT;
        }
    }

    fn tick(&mut self, config: &LinkConfig, now: Millis, out: &mut Vec<LinkAction>) {
        let expired = |last_io: Millis| now.since(last_io) > config.timeout;
        match &mut self.state {
            LinkState::Connect { retry_at } => {
                if *retry_at <= now {
                    self.connect(now, out);
                }
            }
            LinkState::Connecting { last_io }
            | LinkState::Handshake { last_io, .. }
            | LinkState::AwaitPsync { last_io, .. } => {
                if expired(*last_io) {
                    if let LinkState::AwaitPsync { .. } = self.state {
                        self.takeover_unanswered();
                    }
                    out.push(LinkAction::Log(LinkEvent::TimeoutConnecting));
                    self.reconnect_after_failure(now, out);
                }
            }
            LinkState::AwaitPayload { last_io, .. } | LinkState::Transfer { last_io, .. } => {
                if expired(*last_io) {
                    out.push(LinkAction::Log(LinkEvent::TimeoutTransfer));
                    self.reconnect_after_failure(now, out);
                }
            }
            LinkState::Loading { newline_due, lost, .. } => {
                if !*lost && *newline_due <= now {
                    // Tells the primary that we are alive; a newline is no command and has no offset.
                    out.push(LinkAction::Send(b"\n".to_vec()));
                    *newline_due = now + BEAT;
                }
            }
            LinkState::Streaming { .. } if self.lost_at.is_some() => self.look_at_rest(now, out),
            LinkState::Streaming { last_io, ack_due, .. } => {
                if expired(*last_io) {
                    out.push(LinkAction::Log(LinkEvent::TimeoutStreaming));
                    self.lost(now, out);
                } else if *ack_due <= now {
                    self.acknowledge(now, out);
                }
            }
        }
    }
}

impl Takeover {
    fn is_asked(self) -> bool {
        matches!(self, Takeover::Ask | Takeover::AskAgain)
    }
}

impl LinkState {
    pub fn name(&self) -> LinkStateName {
        match self {
            LinkState::Connect { .. } => LinkStateName::Connect,
            LinkState::Connecting { .. } => LinkStateName::Connecting,
            LinkState::Handshake { .. } => LinkStateName::Handshake,
            LinkState::AwaitPsync { .. } => LinkStateName::AwaitPsync,
            LinkState::AwaitPayload { .. } => LinkStateName::AwaitPayload,
            LinkState::Transfer { .. } => LinkStateName::Transfer,
            LinkState::Loading { .. } => LinkStateName::Loading,
            LinkState::Streaming { .. } => LinkStateName::Streaming,
        }
    }
}

/// The transitions of the module's diagram; leaving for `Connect` is always possible (REPLICAOF).
fn may_become(from: LinkStateName, to: LinkStateName) -> bool {
    use LinkStateName::*;
    match to {
        Connect => true,
        // Reconnecting goes straight to a new attempt.
        Connecting => true,
        Handshake => matches!(from, Connecting | Handshake),
        AwaitPsync => from == Handshake,
        // From itself, when the second of two connections has told the position.
        AwaitPayload => matches!(from, AwaitPsync | AwaitPayload),
        Transfer => from == AwaitPayload,
        Loading => from == Transfer,
        Streaming => matches!(from, AwaitPsync | Loading),
    }
}

/// AUTH, the REPLCONFs and the question after the primary's own state, all in one write.
fn announcements(config: &LinkConfig, info: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_auth(config, &mut out);
    let port = config.listening_port.to_string();
    wire::write_command(&mut out, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
    if let Some(ip) = &config.announce_ip {
        wire::write_command(&mut out, &[b"REPLCONF", b"ip-address", ip.as_bytes()]);
    }
    let mut capabilities: Vec<&[u8]> =
        vec![b"REPLCONF", b"capa", b"eof", b"capa", b"psync2", b"capa", b"kindred"];
    if config.channels.valkey {
        capabilities.extend([b"capa".as_slice(), b"dual-channel"]);
    }
    if config.channels.redis {
        capabilities.extend([b"capa".as_slice(), b"rdb-channel-repl"]);
    }
    wire::write_command(&mut out, &capabilities);
    if let Some(version) = &config.announce_version {
        wire::write_command(&mut out, &[b"REPLCONF", b"version", version.as_bytes()]);
    }
    if info {
        wire::write_command(&mut out, &[b"INFO"]);
    }
    out
}

fn write_auth(config: &LinkConfig, out: &mut Vec<u8>) {
    if let Some(password) = &config.password {
        match &config.user {
            Some(user) => wire::write_command(out, &[b"AUTH", user, password]),
            None => wire::write_command(out, &[b"AUTH", password]),
        }
    }
}

/// `+FULLRESYNC <id> <offset>`.
fn parse_full_resync(line: &[u8]) -> Option<Position> {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let (id, offset) = (words.next()?, words.next()?);
    if id.len() != REPL_ID_LEN {
        return None;
    }
    let offset = std::str::from_utf8(offset).ok()?.parse().ok()?;
    Some(Position::new(ReplId::parse(id).ok()?, offset))
}

fn log_load_begins(swapdb: bool, out: &mut Vec<LinkAction>) {
    if !swapdb {
        out.push(LinkAction::Log(LinkEvent::Flushing));
    }
    out.push(LinkAction::Log(LinkEvent::Loading));
}

fn total(payload: PayloadKind) -> i64 {
    match payload {
        PayloadKind::Sized(bytes) => bytes as i64,
        PayloadKind::UntilMark => 0,
    }
}

#[cfg(test)]
mod tests;
