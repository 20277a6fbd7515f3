//! This node as a replica: what the link to its primary asks for is carried out here.
//!
//! The link ([`replication::PrimaryLink`]) knows the protocol; this file knows the keyspace. The stream of the primary
//! runs in a session of its own that outlives the connection: after a cut, the selected database is still known.
//! Whole commands are executed, then appended to our own log byte for byte as they came, so that replicas of this
//! node see the same offsets as we do.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;

use keyspace::{Db, EntryExt, Key};
use log::Position;
use replication::primary_link::{LoadMode, PayloadKind, Resume};
use replication::replica_link::channel::ChannelsOffered;
use replication::{FailoverInput, LinkAction, LinkConfig, LinkInput, Millis, Needs, PrimaryLink};
use resp::{Args, Batch, Limits, Parser};

use crate::action::{Action, ConnId};
use crate::bridge::{self, Foreign};
use crate::commands::registry;
use crate::config::{DisklessLoad, PropagationError};
use crate::core::Core;
use crate::load::{Loading, Target};
use crate::node::Node;
use crate::session::{Conn, LOST, Peer, Role, Session};
use crate::store::Expiry;

/// How many commands of the stream are parsed ahead.
const STREAM_BATCH_MAX: usize = 64;

/// Room for the stream beyond this is given back when a large command has been executed.
const STREAM_KEPT: usize = 1 << 20;

/// Bytes of the stream that wait for a snapshot lie in blocks of this size, and one block is executed in a turn.
const WAITING_BLOCK: usize = 256 * 1024;

/// `REPLCONF version`, which only Valkey reads: to what calls itself older than 9 it sends snapshots of RDB version 11,
/// and refuses if a hash field has an expiry. Redis answers with an error that does not matter.
const ANNOUNCED_VERSION: &str = "9.0.0";

/// Everything this node keeps of its primary.
pub struct Following {
    pub link: PrimaryLink,
    pub host: String,
    pub port: u16,
    pub conn: Option<ConnId>,
    /// The connection of the snapshot, where it has one of its own.
    channel: Option<ConnId>,
    /// Runs the stream. Kept over cuts for its selected database.
    session: Session,
    parser: Parser,
    batch: Batch,
    /// Bytes of the stream that were received and not yet executed, from the end of the last whole command on.
    stream: Vec<u8>,
    /// What of the commands that were not relayed yet not every server knows.
    foreign: Option<Foreign>,
    /// Commands of the batch that just ran which are relayed in other words of the same length, by where they lie.
    reworded: Vec<(Range<usize>, Vec<u8>)>,
    /// What comes behind those: it waits for a snapshot, or for its turn after it.
    waiting: Waiting,
    /// How many bytes of `stream` are commands queued in a transaction that has not ended: parsed, but not relayed.
    queued: usize,
    /// Offset up to which the stream was executed and logged. Meaningless until the history is adopted.
    applied: u64,
    /// The data set and the position agree: what arrives may be executed.
    in_step: bool,
    /// Bytes of the stream wait for the end of a pause.
    held: bool,
    transfer: Option<Transfer>,
}

/// Bytes of the stream in blocks, so that many of them are neither moved when more come, nor executed at once.
#[derive(Default)]
pub struct Waiting {
    blocks: VecDeque<Vec<u8>>,
    bytes: u64,
    /// The most that there was at once in this synchronisation.
    peak: u64,
}

impl Waiting {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn peak(&self) -> u64 {
        self.peak
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.peak = self.peak.max(self.bytes);
        let has_room = |block: &&mut Vec<u8>| block.len() + bytes.len() <= WAITING_BLOCK;
        match self.blocks.back_mut().filter(has_room) {
            Some(block) => block.extend_from_slice(bytes),
            None => self.blocks.push_back(bytes.to_vec()),
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let block = self.blocks.pop_front()?;
        self.bytes -= block.len() as u64;
        Some(block)
    }
}

/// How an arriving snapshot is taken in.
enum Transfer {
    /// To a file first.
    File { temp: PathBuf, path: PathBuf },
    /// Decoded as it comes.
    Parser,
}

/// A step that an action makes due, once the actions of the step before have all been carried out.
enum Followup {
    Loaded,
    Failed(String),
    RunStream,
    TakeoverAnswered { accepted: bool },
}

impl Following {
    fn new(link: PrimaryLink, host: &str, port: u16, now_ms: i64) -> Following {
        let mut session = Session::new(0, Peer::default(), now_ms);
        session.role = Role::Primary;
        session.authenticated = true;
        Following {
            link,
            host: host.to_owned(),
            port,
            conn: None,
            channel: None,
            session,
            parser: Parser::default(),
            batch: Batch::new(),
            stream: Vec::new(),
            foreign: None,
            reworded: Vec::new(),
            waiting: Waiting::default(),
            queued: 0,
            applied: 0,
            in_step: false,
            held: false,
            transfer: None,
        }
    }

    /// The connection on which a snapshot arrives, if one does.
    pub fn snapshot_conn(&self) -> Option<ConnId> {
        self.channel.or(self.conn)
    }

    /// What waits of the stream for a snapshot.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The database that the stream has selected: goes on with the next command after a restart or a promotion.
    pub fn stream_db(&self) -> usize {
        self.session.db
    }
}

impl Node {
    /// `REPLICAOF host port`.
    pub fn follow(&mut self, host: &str, port: u16) {
        let now = self.core.monotonic();
        let mut actions = Vec::new();
        let following = match self.core.repl.following.take() {
            Some(mut following) => {
                self.core.repl.heard = None;
                following.link = following.link.retarget(now, host, port, &mut actions);
                following.host = host.to_owned();
                following.port = port;
                following.in_step = false;
                following
            }
            None => {
                let resume = match self.core.repl.own_position() {
                    Some(at) => Resume::OwnHistory(at),
                    None => Resume::Nothing,
                };
                let link = PrimaryLink::follow(now, host, port, resume, &mut actions);
                Following::new(link, host, port, self.core.env.unix_ms())
            }
        };
        self.core.repl.following = Some(following);
        self.end_waiting();
        self.carry_out(actions, &[]);
        self.role_changed();
    }

    /// `REPLICAOF NO ONE`: this node goes on as a primary, under a new history that begins where the old one stands.
    pub fn promote(&mut self) {
        let Some(following) = &self.core.repl.following else { return };
        let stream_db = following.stream_db();
        let mut actions = Vec::new();
        following.link.clone().stop(self.core.monotonic(), &mut actions);
        self.carry_out(actions, &[]);
        self.core.repl.following = None;
        self.core.repl.heard = None;
        let new_id = self.core.random_replid();
        self.core.repl.promote(new_id, stream_db);
        let history = self.core.repl.history;
        self.core.notice(format!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            history.second_id(),
            history.second_offset(),
            history.id
        ));
        self.disconnect_replicas();
        self.role_changed();
    }

    /// Follows the configured primary from the position that a loaded data set stands at.
    pub fn follow_restored(&mut self, host: &str, port: u16, at: Option<Position>, stream_db: usize) {
        let mut actions = Vec::new();
        let resume = at.map_or(Resume::Nothing, Resume::Restored);
        let link = PrimaryLink::follow(self.core.monotonic(), host, port, resume, &mut actions);
        let mut following = Following::new(link, host, port, self.core.env.unix_ms());
        following.session.db = stream_db;
        self.core.repl.following = Some(following);
        self.carry_out(actions, &[]);
        self.role_changed();
    }

    // ---- what the surroundings report ----

    /// The connection that [`Action::ConnectPrimary`] asked for is there.
    pub fn primary_connected(&mut self, peer: Peer) -> Option<ConnId> {
        self.core.repl.following.as_ref()?;
        let id = self.insert_primary(peer);
        self.core.repl.following.as_mut()?.conn = Some(id);
        self.link_step(LinkInput::Connected);
        Some(id)
    }

    /// The connection that [`Action::ConnectChannel`] asked for is there.
    pub fn channel_connected(&mut self, peer: Peer) -> Option<ConnId> {
        self.core.repl.following.as_ref()?;
        let id = self.insert_primary(peer);
        self.core.repl.following.as_mut()?.channel = Some(id);
        self.link_step(LinkInput::ChannelConnected);
        Some(id)
    }

    fn insert_primary(&mut self, peer: Peer) -> ConnId {
        let now_ms = self.core.env.unix_ms();
        let mut session = Session::new(self.core.conns.next_session_id(), peer, now_ms);
        session.role = Role::Primary;
        session.authenticated = true;
        self.core.conns.insert(Box::new(Conn::new(session)))
    }

    pub fn channel_connect_failed(&mut self, reason: &str) {
        self.link_step(LinkInput::ChannelClosed(reason));
    }

    pub fn primary_connect_failed(&mut self, reason: &str) {
        self.link_step(LinkInput::Closed(reason));
    }

    /// Bytes of the primary have arrived on the connection.
    pub(crate) fn primary_received(&mut self, id: ConnId, bytes: &[u8]) {
        let of_link = |following: &Following| (following.conn == Some(id), following.channel == Some(id));
        match self.core.repl.following.as_ref().map_or((false, false), of_link) {
            (true, _) => self.link_step(LinkInput::Bytes(bytes)),
            (_, true) => self.link_step(LinkInput::ChannelBytes(bytes)),
            // The link has turned to another connection; this one is only waiting to be closed.
            _ => self.core.close(id),
        }
    }

    /// A connection to the primary is gone.
    pub(crate) fn primary_closed(&mut self, id: ConnId) {
        let Some(following) = &mut self.core.repl.following else { return };
        if following.conn == Some(id) {
            following.conn = None;
            self.link_step(LinkInput::Closed("Connection closed by the primary"));
        } else if following.channel == Some(id) {
            following.channel = None;
            self.link_step(LinkInput::ChannelClosed("Connection closed by the primary"));
        }
    }

    /// About ten times a second.
    pub(crate) fn following_tick(&mut self) {
        self.link_step(LinkInput::Tick);
    }

    // ---- steps ----

    fn link_step(&mut self, input: LinkInput<'_>) {
        let Some(mut following) = self.core.repl.following.take() else { return };
        let bytes = match input {
            LinkInput::Bytes(bytes) | LinkInput::ChannelBytes(bytes) => bytes,
            _ => &[],
        };
        let mut actions = Vec::new();
        let config = self.link_config();
        following.link = following.link.step(&config, self.core.monotonic(), input, &mut actions);
        self.core.repl.following = Some(following);
        self.carry_out(actions, bytes);
    }

    fn link_config(&self) -> LinkConfig {
        let config = &self.core.config;
        let text = |value: &str| (!value.is_empty()).then(|| value.as_bytes().to_vec());
        LinkConfig {
            user: text(&config.masteruser),
            password: text(&config.masterauth),
            listening_port: match config.replica_announce_port {
                // Whoever finds this replica by it is to encrypt as it does itself.
                0 if config.tls.replication && config.tls.port != 0 => config.tls.port,
                0 => config.port,
                port => port as u16,
            },
            announce_ip: (!config.replica_announce_ip.is_empty()).then(|| config.replica_announce_ip.clone()),
            announce_version: Some(ANNOUNCED_VERSION.to_owned()),
            timeout: Millis::from_secs(config.repl_timeout_s as u64),
            load: self.load_mode(),
            channels: ChannelsOffered {
                valkey: config.dual_channel_replication,
                redis: config.repl_rdb_channel,
            },
            stream_bytes_max: match config.replica_full_sync_buffer_limit {
                0 => Some(config.output_limit_replica.hard_bytes).filter(|bytes| *bytes > 0),
                bytes => Some(bytes as u64),
            },
            guarded_keys: config.replica_guard_empty_primary.then(|| self.store.total_keys() as u64),
        }
    }

    fn load_mode(&self) -> LoadMode {
        let empty = self.store.total_keys() == 0;
        match self.core.config.repl_diskless_load {
            DisklessLoad::Disabled => LoadMode::Disk,
            DisklessLoad::OnEmptyDb if !empty => LoadMode::Disk,
            DisklessLoad::OnEmptyDb | DisklessLoad::FlushBeforeLoad => LoadMode::Parser { swapdb: false },
            DisklessLoad::SwapDb | DisklessLoad::Serving => LoadMode::Parser { swapdb: true },
        }
    }

    /// Carries the actions of one step out in order, then the steps that they made due.
    fn carry_out(&mut self, actions: Vec<LinkAction>, bytes: &[u8]) {
        let mut followups = Vec::new();
        for action in actions {
            if let Some(followup) = self.link_action(action, bytes) {
                followups.push(followup);
            }
        }
        for followup in followups {
            match followup {
                Followup::Loaded => self.link_step(LinkInput::SnapshotLoaded),
                Followup::Failed(reason) => self.link_step(LinkInput::SnapshotFailed(&reason)),
                Followup::RunStream => self.run_stream(),
                Followup::TakeoverAnswered { accepted } => {
                    self.failover_step(FailoverInput::Answered { accepted });
                }
            }
        }
    }

    fn link_action(&mut self, action: LinkAction, bytes: &[u8]) -> Option<Followup> {
        match action {
            LinkAction::Log(event) => self.core.log(event.level(), event.to_string()),
            LinkAction::OpenConnection { host, port } => {
                self.core.actions.push(Action::ConnectPrimary { host, port });
            }
            LinkAction::CloseConnection => match self.following().conn.take() {
                Some(conn) => self.core.close(conn),
                None => self.core.actions.push(Action::AbandonConnect),
            },
            LinkAction::Send(text) => {
                if let Some(conn) = self.following().conn {
                    self.core.send(conn, &text);
                }
            }
            LinkAction::OpenChannel { host, port } => {
                self.following().waiting = Waiting::default();
                self.core.actions.push(Action::ConnectChannel { host, port });
            }
            LinkAction::CloseChannel => match self.following().channel.take() {
                Some(conn) => self.core.close(conn),
                None => self.core.actions.push(Action::AbandonChannel),
            },
            LinkAction::SendChannel(text) => {
                if let Some(conn) = self.following().channel {
                    self.core.send(conn, &text);
                }
            }
            LinkAction::PauseReading => self.pause_reading(true),
            LinkAction::ResumeReading => self.pause_reading(false),
            LinkAction::FullSync(sync) => {
                let (unix_ms, following) = (self.core.env.unix_ms(), self.following());
                let peer = format!("{}:{}", following.host, following.port);
                self.core.repl.received.add(unix_ms, peer, sync);
            }
            LinkAction::BeginSnapshot { at, payload } => self.begin_transfer(at, payload),
            LinkAction::SnapshotBytes(piece) => return self.transfer_bytes(piece.bytes(bytes)),
            LinkAction::EndSnapshot => return self.end_transfer(),
            LinkAction::DiscardSnapshot => self.discard_transfer(),
            LinkAction::AdoptHistory(at) => {
                self.adopt(at);
                return Some(Followup::RunStream);
            }
            LinkAction::ContinueFrom(at) => {
                let following = self.following();
                following.applied = at.offset;
                following.in_step = true;
                self.core.repl.continue_from(at);
                return Some(Followup::RunStream);
            }
            LinkAction::ShiftHistory { to } => self.core.repl.shift(to),
            LinkAction::TakeoverAnswered { accepted } => {
                return Some(Followup::TakeoverAnswered { accepted });
            }
            LinkAction::DisconnectReplicas => self.disconnect_replicas(),
            LinkAction::Apply(range) => {
                let following = self.following();
                if !following.in_step || following.waiting.bytes > 0 {
                    following.waiting.push(&bytes[range]);
                } else {
                    following.stream.extend_from_slice(&bytes[range]);
                }
                return Some(Followup::RunStream);
            }
            LinkAction::CachePrimary(_) => {
                let following = self.following();
                following.forget_unexecuted();
                following.in_step = false;
            }
            LinkAction::ForgetPrimary => {
                let following = self.following();
                following.forget_unexecuted();
                following.in_step = false;
                following.session.db = 0;
            }
        }
        None
    }

    fn following(&mut self) -> &mut Following {
        self.core
            .repl
            .following
            .as_mut()
            .expect("the link that asks for an action is the one that is followed")
    }

    fn pause_reading(&mut self, paused: bool) {
        if let Some(conn) = self.following().conn {
            self.core.actions.push(if paused {
                Action::PauseReading { conn }
            } else {
                Action::ResumeReading { conn }
            });
        }
    }

    // ---- snapshots that arrive ----

    fn begin_transfer(&mut self, at: Option<Position>, payload: PayloadKind) {
        let total = match payload {
            PayloadKind::Sized(bytes) => Some(bytes),
            PayloadKind::UntilMark => None,
        };
        match self.load_mode() {
            LoadMode::Disk => {
                let dir = PathBuf::from(&self.core.config.dir);
                let temp = dir.join(format!(
                    "temp-{}.{}.rdb",
                    self.core.env.unix_ms() / 1000,
                    self.core.env.process_id()
                ));
                let path = dir.join(&self.core.config.dbfilename);
                self.core.actions.push(Action::OpenTransferFile { path: temp.clone() });
                self.following().transfer = Some(Transfer::File { temp, path });
            }
            LoadMode::Parser { swapdb } => {
                let target = if swapdb {
                    Target::Fresh((0..self.store.databases()).map(|_| Db::new()).collect())
                } else {
                    self.leave_position();
                    self.flush_for_load();
                    Target::Live
                };
                let mut loading = Loading::for_replica(target, total, self.core.env.unix_ms());
                let same_history = at.is_some_and(|at| at.replid == self.core.repl.position().replid);
                if self.core.config.repl_diskless_load == DisklessLoad::SwapDb && !same_history {
                    loading.refuse_commands();
                }
                self.core.loading = Some(loading);
                self.following().transfer = Some(Transfer::Parser);
            }
        }
    }

    fn transfer_bytes(&mut self, bytes: &[u8]) -> Option<Followup> {
        match self.following().transfer {
            Some(Transfer::File { .. }) => {
                self.core.actions.push(Action::AppendTransferFile { bytes: bytes.to_vec() });
                None
            }
            Some(Transfer::Parser) => self.feed_loading(bytes).err().map(Followup::Failed),
            None => None,
        }
    }

    fn end_transfer(&mut self) -> Option<Followup> {
        match self.following().transfer.take() {
            Some(Transfer::File { temp, path }) => {
                self.core.actions.push(Action::FinishTransferFile { from: temp, to: path });
                None
            }
            Some(Transfer::Parser) => match self.end_loading() {
                Ok(()) => Some(Followup::Loaded),
                Err(reason) => Some(Followup::Failed(reason)),
            },
            // It failed already, and that was reported.
            None => None,
        }
    }

    fn discard_transfer(&mut self) {
        if let Some(Transfer::File { .. }) = self.following().transfer.take() {
            self.core.actions.push(Action::AbandonTransferFile);
        }
        self.abandon_loading();
        self.following().forget_unexecuted();
    }

    /// The data set is about to be dropped for one that may never be complete: nobody may continue from where it
    /// stood, not this node at its primary, nor others at this node.
    fn leave_position(&mut self) {
        self.following().link.forget_position();
        let fresh = self.core.random_replid();
        self.core.repl.free_backlog(fresh);
        self.disconnect_replicas();
    }

    /// The file that a snapshot was written to is complete under its final name: it replaces the data set.
    pub fn transfer_file_finished(&mut self, result: Result<PathBuf, String>) {
        match result {
            Ok(path) => {
                self.leave_position();
                self.flush_for_load();
                self.core.loading = Some(Loading::for_replica(Target::Live, None, self.core.env.unix_ms()));
                self.core.actions.push(Action::LoadFile { path });
            }
            Err(reason) => self.link_step(LinkInput::SnapshotFailed(&reason)),
        }
    }

    /// The file that replaces the data set was read to its end, or could not be.
    pub(crate) fn transfer_loaded(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.link_step(LinkInput::SnapshotLoaded),
            Err(reason) => self.link_step(LinkInput::SnapshotFailed(&reason)),
        }
    }

    /// Puts the loaded data set in place and takes on the history of the primary.
    fn adopt(&mut self, at: Option<Position>) {
        let stream_db = self.put_loaded_in_place();
        let fresh = self.core.random_replid();
        let at = at.unwrap_or(Position::new(fresh, 0));
        self.core.repl.adopt(at);
        let following = self.following();
        // A primary states the database anew for us; a replica that feeds us goes on in the one that it is in.
        following.session.db = stream_db;
        following.applied = at.offset;
        following.in_step = true;
        // Their offsets are of a history that is left.
        for (_, conn) in self.core.conns.iter_mut().filter(|(_, conn)| conn.session.last_write_offset > 0) {
            conn.session.last_write_offset = LOST;
        }
    }

    // ---- the stream ----

    /// Executes what a pause has held back, if it has ended, and what waits for its turn.
    pub(crate) fn release_stream(&mut self) {
        let held = self.core.repl.following.as_ref().is_some_and(|following| following.held);
        if held && self.core.pause.is_none() || self.core.has_stream_to_run() {
            self.run_stream();
        }
    }

    /// Executes what has arrived of the stream, command by command, and relays it.
    fn run_stream(&mut self) {
        let Some(mut following) = self.core.repl.following.take() else { return };
        following.held = self.core.pause.is_some();
        if following.in_step
            && !following.held
            && let Some(block) = following.waiting.pop()
        {
            match following.stream.is_empty() {
                true => following.stream = block,
                false => following.stream.extend_from_slice(&block),
            }
        }
        if !following.in_step || following.stream.is_empty() || following.held {
            self.core.repl.following = Some(following);
            return;
        }
        self.begin_turn();
        // While the stream runs, this node has no effects of its own: the stream is the effect.
        let expiry = std::mem::replace(&mut self.store.expiry, Expiry::Ignore);
        let recording = std::mem::replace(&mut self.store.effects.recording, false);
        let result = self.run_stream_of(&mut following);
        self.store.expiry = expiry;
        self.store.effects.recording = recording;
        let applied = following.applied;
        let ack_wanted = std::mem::take(&mut self.core.repl.ack_wanted);
        self.core.repl.following = Some(following);
        match result {
            Ok(()) => self.link_step(LinkInput::Applied(applied)),
            Err(()) => return self.link_step(LinkInput::StreamBroken),
        }
        if ack_wanted {
            self.link_step(LinkInput::AckWanted);
        }
    }

    fn run_stream_of(&mut self, following: &mut Following) -> Result<(), ()> {
        let mut stream = std::mem::take(&mut following.stream);
        // A primary may send values beyond `proto-max-bulk-len`: it has accepted them already.
        let limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
        let (mut parsed, mut relayed, mut result) = (following.queued, 0, Ok(()));
        loop {
            let mut batch = std::mem::take(&mut following.batch);
            batch.clear();
            match following.parser.parse(&stream[parsed..], &limits, STREAM_BATCH_MAX, &mut batch) {
                Ok(progress) => {
                    let units = self.run_stream_batch(following, &batch, &stream[parsed..]);
                    following.batch = batch;
                    for (at, bytes) in following.reworded.drain(..) {
                        stream[parsed..][at].copy_from_slice(&bytes);
                    }
                    if self.leaves_stream() {
                        result = Err(());
                        break;
                    }
                    // A transaction is relayed and counted as a whole: no replica ever continues inside of it. What
                    // was executed before it counts at once, or it would be executed again after a cut.
                    let whole = match following.session.multi {
                        None => Some(parsed + progress.consumed),
                        Some(_) => units.map(|end| parsed + end),
                    };
                    parsed += progress.consumed;
                    if let Some(whole) = whole.filter(|whole| *whole > relayed) {
                        self.core.repl.relay(&stream[relayed..whole]);
                        if let Some(foreign) = following.foreign.take() {
                            self.core.note_foreign(&foreign);
                        }
                        following.applied += (whole - relayed) as u64;
                        relayed = whole;
                    }
                    if !progress.more {
                        break;
                    }
                }
                Err(error) => {
                    following.batch = batch;
                    self.core.protocol_error(&mut following.session, &error);
                    result = Err(());
                    break;
                }
            }
        }
        following.stream = stream;
        following.stream.drain(..relayed);
        if following.stream.capacity() > STREAM_KEPT && following.stream.len() < STREAM_KEPT {
            following.stream.shrink_to(STREAM_KEPT);
        }
        following.queued = parsed - relayed;
        result
    }

    /// A command of the stream that is to be relayed in other words, if they mean the same. In a transaction it runs later,
    /// after what may change what it means: then there must be no expiry anywhere, nor have come one with `before`.
    #[cold]
    fn in_old_words(
        &self,
        session: &Session,
        before: Option<&Foreign>,
        argv: Args<'_>,
        length: usize,
    ) -> Option<Vec<u8>> {
        let entry = self.store.db_at(session.db).peek(Key::new(argv.get(1)?));
        let means_the_same = match session.multi {
            Some(_) => before.is_none() && !self.store.has_field_ttl(),
            None => entry.is_none_or(|entry| entry.as_hash().is_ok_and(|hash| !hash.has_ttl())),
        };
        if means_the_same { bridge::in_old_words(argv, length) } else { None }
    }

    /// Whether the stream has a command that is not known here: from then on this is no copy of the primary any more, so
    /// the data set is fetched anew, unless that is not wanted (`propagation-error-behavior`).
    fn leaves_stream(&mut self) -> bool {
        let config = &self.core.config;
        let leaves = std::mem::take(&mut self.core.repl.unknown_in_stream)
            && config.propagation_error_behavior == PropagationError::Resync
            && config.replica_read_only;
        if leaves {
            self.core.warning("A command of MASTER is not known here: its data set is fetched anew");
        }
        leaves
    }

    /// Gives where the last command ends after which no transaction is open, if there is one.
    fn run_stream_batch(&mut self, following: &mut Following, batch: &Batch, bytes: &[u8]) -> Option<usize> {
        let Following { session, foreign, reworded, .. } = following;
        self.plan(session.db, batch, bytes);
        let mut units = None;
        let mut output = std::mem::take(&mut self.stream_output);
        for index in 0..batch.len() {
            let (planned, argv) = (self.planned(index), batch.args(index, bytes));
            let known = planned.command.or_else(|| registry().lookup(argv.at(0)));
            let needs = known.map_or(Needs::NONE, |command| bridge::needs(command, argv));
            let raw = batch.requests()[index].raw();
            let older = if needs.is_empty() {
                None
            } else {
                self.in_old_words(session, foreign.as_ref(), argv, raw.len())
            };
            if let Some(older) = older {
                reworded.push((raw, older));
            } else if !needs.is_empty() {
                let more = Foreign::command(needs, &argv.iter().collect::<Vec<_>>());
                let before = foreign.take().map_or(Needs::NONE, |before| before.needs);
                *foreign = Some(Foreign { needs: more.needs.and(before), ..more });
            }
            self.run_request(session, &mut output, planned, argv, None);
            output.clear();
            if session.multi.is_none() {
                units = Some(batch.requests()[index].raw().end);
            }
        }
        self.stream_output = output;
        self.core.repl.applied_commands += batch.len() as u64;
        units
    }
}

impl Core {
    /// Bytes of the stream wait for the next turn.
    pub(crate) fn has_stream_to_run(&self) -> bool {
        let waits = |following: &Following| following.in_step && following.waiting.bytes > 0;
        self.pause.is_none() && self.repl.following.as_ref().is_some_and(waits)
    }
}

impl Following {
    /// Forgets what was received and not executed: it will be sent again.
    fn forget_unexecuted(&mut self) {
        self.foreign = None;
        self.stream.clear();
        self.waiting = Waiting { peak: self.waiting.peak, ..Waiting::default() };
        self.queued = 0;
        self.parser = Parser::default();
        self.session.multi = None;
    }
}
