//! This node as a primary: what the links to its replicas ask for is carried out here, and bytes are sent.
//!
//! What a connection has to send lies in up to three places, in this order: its output buffer, the snapshot that it is
//! sent, and the log from its cursor on. [`Node::outgoing`] shows them as slices, so that one vectored write takes
//! from all; nothing of the snapshot or the log is ever copied for a replica.

use std::io::IoSlice;

use command::CommandError;
use log::Position;
use rdb::{Dialect, Target};
use replication::heartbeat;
use replication::primary::{count_acked, count_good, heartbeat_period, plan_snapshot};
use replication::replica_link::channel::ChannelsOffered;
use replication::replica_link::{
    PING, PayloadHeader, ReplicaAction, ReplicaInput, ReplicaLink, ReplicaState, SyncContext, SyncCount,
    SyncRequest,
};
use replication::{Millis, Places, PrimaryAction, PrimaryConfig};

use crate::action::{Action, ConnId, SpillFile};
use crate::bridge;
use crate::core::Core;
use crate::ctx::Ctx;
use crate::node::Node;
use crate::replica::{FilePayload, ReplicaSession};
use crate::session::{Blocked, Closing, Conn, Role, Session};
use crate::snapshot::{self, Form, Purpose, Running};

/// At most this many bytes of the snapshot or the log are offered for one write.
const SEND_BYTES: usize = 512 * 1024;

/// How much of a snapshot's file is asked for at once.
const FILE_CHUNK: u64 = 1024 * 1024;

impl Node {
    // ---- sending ----

    /// Appends what connection `id` has to send next to `slices`; returns the number of bytes.
    pub fn outgoing<'a>(&'a self, id: ConnId, slices: &mut Vec<IoSlice<'a>>) -> usize {
        let Some(conn) = self.core.conns.get(id) else { return 0 };
        let mut bytes = 0;
        let mut push = |chunk: &'a [u8]| {
            bytes += chunk.len();
            slices.push(IoSlice::new(chunk));
            bytes < SEND_BYTES
        };
        for chunk in conn.output.chunks() {
            if !push(chunk) {
                return bytes;
            }
        }
        let Role::Replica(replica) = &conn.session.role else { return bytes };
        if replica.is_sent_snapshot() {
            // Not more than its share, while there is a rate.
            let mut share = usize::try_from(self.core.repl.pace.share(id)).unwrap_or(usize::MAX);
            let mut push = |chunk: &'a [u8]| {
                let chunk = &chunk[..chunk.len().min(share)];
                share -= chunk.len();
                !chunk.is_empty() && push(chunk)
            };
            if let Some((mut number, mut offset)) = replica.payload_at {
                while let Some(chunk) = self.core.repl.payload.chunk(number)
                    && push(&chunk[offset..])
                {
                    (number, offset) = (number + 1, 0);
                }
            } else if let Some(file) = &replica.file {
                push(&file.chunk[file.sent..]);
            }
            return bytes;
        }
        if let Some(cursor) = replica.link.cursor() {
            let log = match self.core.repl.log.read(cursor) {
                // What it needs could not be read from the disk.
                None if conn.session.closing == Closing::Now => return bytes,
                log => log.expect("the log covers every online replica"),
            };
            for chunk in log {
                if !push(chunk) {
                    break;
                }
            }
        }
        bytes
    }

    /// `count` bytes of what [`Node::outgoing`] showed have been sent.
    pub fn sent(&mut self, id: ConnId, mut count: usize) {
        let Some(conn) = self.core.conns.get_mut(id) else { return };
        let from_output = count.min(conn.output.pending_bytes());
        conn.output.consume(from_output);
        self.core.client_memory.recount(conn);
        count -= from_output;
        self.core.stats.writes_processed += 1;
        self.core.stats.net_output_bytes += from_output as u64;
        self.core.stats.net_repl_output_bytes += count as u64;
        if conn.output.is_empty() && conn.session.closing == Closing::AfterReply {
            self.core.close(id);
            return;
        }
        if !conn.session.is_replica() {
            return;
        }
        let (now, timeout) = (self.core.monotonic(), self.core.repl_timeout());
        let Some(conn) = self.core.conns.get_mut(id) else { return };
        let Role::Replica(replica) = &mut conn.session.role else { return };
        if replica.is_sent_snapshot() {
            self.core.repl.pace.sent(id, count as u64);
        }
        if let Some(at) = &mut replica.payload_at {
            let before = at.0;
            advance_payload(&self.core.repl.payload, at, count);
            let at = *at;
            if count > 0 {
                self.core.replica_step(id, ReplicaInput::SendProgressed);
            }
            if at.0 != before {
                self.attend_payload();
                self.release_payload();
            }
            if self.core.repl.payload.ended && at.0 == self.core.repl.payload.next() {
                self.payload_sent(id);
            }
        } else if let Some(file) = &mut replica.file {
            file.sent += count;
            let is_over = file.sent == file.chunk.len() && file.asked == file.total && !file.pending;
            if is_over {
                replica.file = None;
                self.core.actions.push(Action::ClosePayload { conn: id });
                self.payload_sent(id);
            } else {
                if count > 0 {
                    self.core.replica_step(id, ReplicaInput::SendProgressed);
                }
                self.ask_for_file(id);
            }
        } else if count > 0 {
            replica.step(timeout, now, ReplicaInput::Sent(count as u64), &mut Vec::new());
        }
    }

    /// The socket of `conn` takes no more bytes for now.
    pub fn stalled(&mut self, conn: ConnId) {
        self.core.replica_step(conn, ReplicaInput::SendStalled);
    }

    /// There was nothing to send to `conn`: it is not its socket that is waited for.
    pub fn sent_all(&mut self, conn: ConnId) {
        self.core.replica_step(conn, ReplicaInput::SendProgressed);
    }

    fn payload_sent(&mut self, id: ConnId) {
        if let Some(replica) = self.core.replica_mut(id) {
            replica.payload_at = None;
        }
        self.core.replica_step(id, ReplicaInput::PayloadEnds);
    }

    // ---- snapshots for replicas ----

    /// Begins a snapshot for the replicas that wait for one, if it is time and none runs. Those for whom there is no place
    /// wait for their turn.
    pub(crate) fn maybe_begin_sync(&mut self) {
        if !self.core.replica_links().any(ReplicaLink::is_waiting) {
            return;
        }
        self.begin_due_sync();
        let places = self.core.places();
        if places.queued() > 0 {
            for (ahead, id) in self.waiting_replicas().into_iter().skip(places.free()).enumerate() {
                let input = ReplicaInput::Queued { under_way: places.taken, ahead };
                self.core.replica_step(id, input);
            }
        }
    }

    /// Those that wait for a snapshot, in the order in which they came.
    fn waiting_replicas(&self) -> Vec<ConnId> {
        let waits = |id: &ConnId| self.core.replica_link(*id).is_waiting();
        self.core.repl.replicas.iter().copied().filter(waits).collect()
    }

    /// Those of them that there is a place for.
    fn admitted_replicas(&self) -> Vec<ConnId> {
        let mut waiting = self.waiting_replicas();
        waiting.truncate(self.core.places().free());
        waiting
    }

    fn begin_due_sync(&mut self) {
        if self.core.snapshots.running.is_some() {
            return self.share_sync();
        }
        if self.core.is_ending() {
            return;
        }
        let (mut config, now) = (self.core.primary_config(), self.core.monotonic());
        // Only then do the forms of the two differ.
        config.apart = self.store.has_field_ttl();
        config.places_gone = self.core.places().are_gone();
        let admitted = self.admitted_replicas();
        let links = admitted.iter().map(|id| self.core.replica_link(*id));
        let Some(plan) = plan_snapshot(&config, now, links) else { return };
        // The encoder may be done with a stream long before its slowest reader: the next one takes its place then.
        if plan.to_sockets && self.core.streams_snapshot() {
            return;
        }
        let served: Vec<ConnId> =
            admitted.into_iter().filter(|id| plan.serves(self.core.replica_link(*id))).collect();
        let served: Vec<ConnId> = served.into_iter().filter(|id| self.may_be_served(*id)).collect();
        if served.is_empty() {
            // Those for whom it would have been are refused and wait no more; others may.
            return self.begin_due_sync();
        }
        let target = if plan.to_sockets { "replicas sockets" } else { "disk" };
        self.core.notice(format!("Starting BGSAVE for SYNC with target: {target}"));
        self.core.repl.restate_db();
        let purpose = if plan.to_sockets { Purpose::SyncStream } else { Purpose::SyncFile };
        let dialect = if plan.for_valkey { Dialect::Valkey } else { Dialect::Redis };
        let (data, functions) = (!plan.filter.exclude_data, !plan.filter.exclude_functions);
        snapshot::begin(&mut self.store, &mut self.core, purpose, Form { dialect, data, functions });
        if !data {
            self.abandon_walks();
        }
        self.note_readers(&served);
        let position = self.core.repl.position();
        if plan.to_sockets {
            let mark = *self.core.random_replid().as_bytes();
            self.core.repl.payload.begin(mark);
            let first = self.core.repl.payload.next();
            for id in served {
                self.snapshot_started(id, position);
                self.core.replica_step(id, ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(mark)));
                if let Some(replica) = self.core.replica_mut(id) {
                    replica.payload_at = Some((first, 0));
                }
            }
        } else {
            for id in served {
                self.snapshot_started(id, position);
            }
        }
    }

    /// Whether a replica that waits for a snapshot could hold what there is now; it is refused otherwise. It was asked when
    /// it came, but that may be a while ago.
    fn may_be_served(&mut self, id: ConnId) -> bool {
        let reader = self.core.reader(self.core.replica_link(id));
        match bridge::refusal(&mut self.store, &self.core, reader) {
            None => true,
            Some(refusal) => {
                self.core.replica_step(id, ReplicaInput::Unreadable(refusal));
                false
            }
        }
    }

    fn snapshot_started(&mut self, id: ConnId, at: Position) {
        // What is relayed cannot be made to select a database.
        let db = if self.core.is_replica() { self.core.repl.stream_db() } else { -1 };
        self.core.replica_step(id, ReplicaInput::SnapshotStarted { at, db });
        let partner = self.core.replica_link(id).channel().partner();
        if let Some(partner) = partner.and_then(|client| self.core.replica_of_client(client)) {
            self.core.replica_step(partner, ReplicaInput::PartnerStarted(at));
        }
    }

    /// Says who gets a snapshot that not every version reads.
    fn note_readers(&mut self, served: &[ConnId]) {
        let Some(target) = self.core.snapshots.running.as_ref().map(|running| running.target) else { return };
        let readers = match target {
            Target::V12 => "Redis 7.4 and later",
            Target::Valkey80 => "Valkey 9 and later",
            _ => return,
        };
        for id in served {
            let name = self.core.replica_link(*id).name();
            self.core.notice(format!(
                "Hash fields have an expiry: replica {name} is sent RDB version {}, which {readers} can read.",
                target.number()
            ));
        }
    }

    /// A replica that came while a snapshot for others goes to a file takes part in that one, if the log since then is
    /// kept for somebody who needs it as well.
    fn share_sync(&mut self) {
        let Some(running) = self.core.snapshots.running.as_ref().filter(|r| r.purpose == Purpose::SyncFile)
        else {
            return;
        };
        let (position, target) = (running.position, running.target);
        let Some(other) = self
            .core
            .replica_links()
            .find(|link| matches!(link.state(), ReplicaState::SnapshotRunning { .. }))
        else {
            return;
        };
        let joining: Vec<ConnId> = self
            .admitted_replicas()
            .into_iter()
            .filter(|id| {
                let link = self.core.replica_link(*id);
                link.may_share_snapshot(other)
                    && (!target.has_field_ttl() || link.reads_valkey() == (target == Target::Valkey80))
            })
            .collect();
        let joining: Vec<ConnId> = joining.into_iter().filter(|id| self.may_be_served(*id)).collect();
        self.note_readers(&joining);
        for id in joining {
            self.core.notice("Waiting for end of BGSAVE for SYNC");
            self.snapshot_started(id, position);
        }
    }

    /// Before the node sleeps: what may be sent of snapshots is divided among those that are sent one, if it is time.
    pub(crate) fn pace_sync(&mut self) {
        let rate = self.core.config.repl_full_sync_rate.max(0) as u64;
        if rate == 0 && !self.core.repl.pace.is_limited() {
            return;
        }
        let began = self.core.repl.pace.began();
        let can_send = |id: &ConnId| {
            self.core.replica(*id).is_some_and(|replica| {
                // Whoever has taken nothing for a whole round would not use its share.
                replica.is_sent_snapshot() && replica.link.stalled_since().is_none_or(|since| since >= began)
            })
        };
        let readers: Vec<ConnId> = self.core.repl.replicas.iter().copied().filter(can_send).collect();
        let (now, mut awake) = (self.core.monotonic(), Vec::new());
        self.core.repl.pace.step(now, rate, &readers, &mut awake);
        awake.into_iter().for_each(|id| self.core.queue_id(id));
    }

    /// When something of a snapshot may be sent again, on the monotonic clock, if a replica waits for that.
    pub fn next_transfer_us(&self) -> Option<u64> {
        self.core.repl.pace.due().map(|due| due.0 * 1000)
    }

    /// Encoded bytes of the snapshot that is streamed.
    pub fn snapshot_chunk(&mut self, chunk: Vec<u8>) {
        self.core.repl.payload.push(chunk);
        self.attend_payload();
        self.core.queue_replicas();
    }

    /// The answer to [`SpillRequest::Write`](log::SpillRequest).
    pub fn spill_written(&mut self, file: SpillFile, number: u64, result: Result<(), String>) {
        match file {
            SpillFile::Snapshot => {
                self.core.repl.payload.written(number, result.is_ok());
                match result {
                    Ok(()) => self.attend_payload(),
                    Err(reason) => self.payload_fails(&reason),
                }
            }
            SpillFile::Log => self.log_written(number, result),
        }
    }

    /// The answer to [`SpillRequest::Read`](log::SpillRequest).
    pub fn spill_read(&mut self, file: SpillFile, number: u64, result: Result<Vec<u8>, String>) {
        match (file, result) {
            (SpillFile::Snapshot, Ok(bytes)) => self.core.repl.payload.read_back(number, bytes),
            (SpillFile::Snapshot, Err(reason)) => self.payload_fails(&reason),
            (SpillFile::Log, result) => self.log_read(number, result),
        }
        self.core.queue_replicas();
    }

    /// The temporary file of the streamed snapshot cannot be written or read: its replicas have to ask again.
    fn payload_fails(&mut self, reason: &str) {
        self.core.warning(format!("Error in the temporary file of the snapshot for replicas: {reason}"));
        for id in self.involved_in_sync(&Purpose::SyncStream) {
            self.core.replica_step(id, ReplicaInput::SnapshotFailed);
        }
    }

    /// Has the file read ahead of the replicas that are sent the streamed snapshot.
    fn attend_payload(&mut self) {
        let at = |id: &ConnId| Some(self.core.replica(*id)?.payload_at?.0);
        let cursors = self.core.repl.replicas.iter().filter_map(at).collect();
        self.core.repl.payload.attend(cursors);
    }

    /// Bytes of the streamed snapshot that are held in memory.
    pub fn snapshot_unsent_bytes(&self) -> usize {
        self.core.repl.payload.memory_bytes()
    }

    /// A snapshot for replicas has ended, and so has its file if it had one.
    pub(crate) fn sync_snapshot_finished(&mut self, running: &Running, result: Result<u64, String>) {
        let involved = self.involved_in_sync(&running.purpose);
        match (&running.purpose, result) {
            (Purpose::SyncStream, Ok(_)) => {
                let line = format!(
                    "Diskless rdb transfer, done reading from pipe, {} replicas still up.",
                    involved.len()
                );
                self.core.notice(line);
                self.core.repl.payload.ended = true;
                let end = self.core.repl.payload.next();
                for id in involved {
                    let at_end = self
                        .core
                        .replica_mut(id)
                        .is_some_and(|replica| replica.payload_at.is_some_and(|(number, _)| number == end));
                    if at_end {
                        self.payload_sent(id);
                    }
                }
            }
            (_, Ok(total)) => {
                for id in involved {
                    self.core.replica_step(id, ReplicaInput::PayloadBegins(PayloadHeader::Sized(total)));
                    self.core.actions.push(Action::OpenPayload { conn: id });
                    if let Some(replica) = self.core.replica_mut(id) {
                        let (asked, chunk, sent) = (0, Vec::new(), 0);
                        replica.file = Some(FilePayload { total, asked, chunk, sent, pending: false });
                    }
                    self.ask_for_file(id);
                }
            }
            (_, Err(_)) => {
                for id in involved {
                    self.core.replica_step(id, ReplicaInput::SnapshotFailed);
                }
            }
        }
    }

    /// A snapshot for replicas was stopped in its course: those that wait for it have to ask again.
    pub(crate) fn sync_snapshot_broken(&mut self, purpose: &Purpose) {
        for id in self.involved_in_sync(purpose) {
            self.core.replica_step(id, ReplicaInput::SnapshotFailed);
        }
    }

    /// The replicas that the snapshot for this purpose is for. Those of a streamed one may still be sent it when the next
    /// one, for a file, is over.
    fn involved_in_sync(&self, purpose: &Purpose) -> Vec<ConnId> {
        let involved = |id: &ConnId| match purpose {
            Purpose::SyncStream => self.core.replica(*id).is_some_and(|replica| replica.payload_at.is_some()),
            _ => matches!(self.core.replica_link(*id).state(), ReplicaState::SnapshotRunning { .. }),
        };
        self.core.repl.replicas.iter().copied().filter(involved).collect()
    }

    fn ask_for_file(&mut self, id: ConnId) {
        let Some(file) = self.core.replica_mut(id).and_then(|replica| replica.file.as_mut()) else { return };
        if file.pending || file.sent < file.chunk.len() || file.asked == file.total {
            return;
        }
        let (offset, length) = (file.asked, FILE_CHUNK.min(file.total - file.asked));
        file.asked += length;
        file.pending = true;
        self.core.actions.push(Action::ReadPayload { conn: id, offset, length });
    }

    /// What [`Action::ReadPayload`] asked for.
    pub fn payload_read(&mut self, id: ConnId, result: Result<Vec<u8>, String>) {
        let Some(file) = self.core.replica_mut(id).and_then(|replica| replica.file.as_mut()) else { return };
        file.pending = false;
        match result {
            Ok(chunk) => {
                (file.chunk, file.sent) = (chunk, 0);
                self.core.queue_id(id);
            }
            Err(error) => {
                self.core.warning(format!("Read error sending DB to replica: {error}"));
                self.core.close(id);
            }
        }
    }

    fn release_payload(&mut self) {
        let slowest =
            self.core.repl.replicas.iter().filter_map(|id| self.core.replica(*id)?.payload_at).map(|at| at.0);
        let slowest = slowest.min().unwrap_or_else(|| self.core.repl.payload.next());
        self.core.repl.payload.release_below(slowest);
    }

    // ---- links ----

    /// About once a second: timeouts, pings, the backlog's end of life, good replicas, waiting clients.
    pub(crate) fn serving_tick(&mut self) {
        let now = self.core.monotonic();
        let place_awaited = self.core.places().queued() > 0;
        for id in self.core.repl.replicas.clone() {
            self.core.replica_step(id, ReplicaInput::Tick { place_awaited });
        }
        let config = self.core.primary_config();
        let mut actions = Vec::new();
        let (attached, active) = (self.core.repl.replicas.len(), self.core.repl.log.is_active());
        let is_replica = self.core.is_replica();
        self.core.repl.cron.tick(&config, now, attached, active, is_replica, &mut actions);
        for action in actions {
            match action {
                PrimaryAction::AppendPing if self.core.log_stands_still() => {}
                PrimaryAction::AppendPing => self.core.repl.feed_bare(PING),
                PrimaryAction::FreeBacklog(freed) => {
                    self.core.notice(freed.to_string());
                    let id = self.core.random_replid();
                    self.core.repl.free_backlog(id);
                    self.refresh_recording();
                }
            }
        }
        self.count_good_replicas();
        self.answer_waiting(true);
        self.core.retry_log_disk(now);
        self.trim_log();
    }

    /// Before the node sleeps: a heartbeat, if one is due.
    pub(crate) fn beat(&mut self) {
        if self.core.heartbeat_period().is_none() || self.core.log_stands_still() {
            return;
        }
        let (config, now) = (self.core.primary_config(), self.core.monotonic());
        if self.core.repl.cron.beats(&config, now) {
            let stamped = heartbeat::encode(self.core.env.unix_ms());
            // What was written before it is at least as old.
            self.core.repl.mark(now);
            self.core.repl.feed_bare(&stamped);
            self.core.repl.mark(now);
        }
    }

    /// When the next heartbeat is due, on the monotonic clock.
    pub fn next_heartbeat_us(&self) -> Option<u64> {
        let next = self.core.repl.cron.next_beat(self.core.heartbeat_period()?)?;
        (!self.core.log_stands_still()).then_some(next.0 * 1000)
    }

    pub(crate) fn count_good_replicas(&mut self) {
        let max_lag = Millis::from_secs(self.core.config.min_replicas_max_lag_s.max(0) as u64);
        self.core.repl.good_replicas = count_good(self.core.monotonic(), max_lag, self.core.replica_links());
    }

    /// Ends the connections of all replicas: they ask again under the history that is now.
    pub(crate) fn disconnect_replicas(&mut self) {
        for id in self.core.repl.replicas.clone() {
            self.core.close(id);
        }
    }

    /// Answers the clients in `WAIT` whose replicas have acknowledged; with `expire` also those whose time is up.
    pub(crate) fn answer_waiting(&mut self, expire: bool) {
        if self.core.repl.waiting.is_empty() {
            return;
        }
        let now = self.core.monotonic();
        let mut waiting = std::mem::take(&mut self.core.repl.waiting);
        let acked = |offset| count_acked(offset, self.core.replica_links());
        let mut answers = waiting.wake(acked);
        if expire {
            answers.extend(waiting.expire(now, acked));
        }
        self.core.repl.waiting = waiting;
        for ((id, session), count) in answers {
            let Some(conn) = self.core.conns.get_mut(id).filter(|conn| conn.session.id == session) else {
                continue;
            };
            if let Some(Blocked::Wait) = conn.session.blocked.take() {
                resp::Reply::new(&mut conn.output, conn.session.proto).int(count as i64);
                self.core.queue_id(id);
                self.core.resume.push(id);
            }
        }
    }

    /// Clients that wait, for acknowledgements or for a key, are told and ended: this node becomes a replica, so nobody
    /// acknowledges to it, and what was to be taken is the primary's to take.
    pub(crate) fn end_waiting(&mut self) {
        let why = CommandError::fixed(
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        );
        self.end_all_waits(&why);
        for (id, session) in self.core.repl.waiting.drain() {
            let Some(conn) = self.core.conns.get_mut(id).filter(|conn| conn.session.id == session) else {
                continue;
            };
            conn.session.blocked = None;
            resp::Reply::new(&mut conn.output, conn.session.proto).error(why.wire_text());
            self.core.stats.error(&why);
            self.core.queue_id(id);
            self.core.close_after_reply(id);
        }
    }

    /// Recording follows the role and the log: called whenever one of them has changed.
    pub(crate) fn refresh_recording(&mut self) {
        self.store.effects.recording = self.core.repl.records();
    }
}

/// `PSYNC` or `SYNC` on the session that runs. The role changes when the link is attached.
pub(crate) fn synchronise(ctx: &mut Ctx<'_>, request: SyncRequest) {
    let now = ctx.core.monotonic();
    let link = ctx
        .session
        .replconf
        .take()
        .map_or_else(|| ReplicaLink::new(ctx.session.ip(), ctx.session.id), |link| *link);
    let window = ctx.core.repl.log.window();
    let reader = ctx.core.reader(&link);
    let refusal = bridge::refusal(ctx.store, ctx.core, reader);
    let config = &ctx.core.config;
    let channels = ChannelsOffered {
        valkey: config.dual_channel_replication && config.repl_diskless_sync,
        redis: config.repl_rdb_channel && config.repl_diskless_sync,
    };
    let context = SyncContext {
        history: &ctx.core.repl.history,
        log: window,
        own_link_down: ctx.core.repl.is_link_down(),
        failing_over: ctx.core.repl.failover.is_active(),
        pending_output: !ctx.reply.output().is_empty(),
        refusal: refusal.as_ref(),
        not_understood: ctx.core.repl.uses.not_understood(reader),
        output_limit: Some(ctx.core.replica_output_limit().hard_bytes).filter(|bytes| *bytes > 0),
        channels,
        partner_waits: ctx.core.partner_waits(&link),
    };
    let mut actions = Vec::new();
    let link = link.sync(now, request, context, &mut actions);
    let partner = link.channel().partner().filter(|_| link.is_attached());
    if let Some(partner) = partner.and_then(|client| ctx.core.replica_of_client(client)) {
        ctx.core.replica_step(partner, ReplicaInput::Joined(ctx.session.id));
    }
    if link.is_attached() {
        ctx.core.note_served(&link.name());
        let id = ctx.core.running.expect("a session that runs a command has a connection");
        // What a replica gets are bytes of the log and nothing between them.
        crate::pubsub::leave(ctx.store, ctx.core, ctx.session, id);
        ctx.session.role = Role::Replica(Box::new(ReplicaSession { link, payload_at: None, file: None }));
        ctx.core.repl.replicas.push(id);
        if ctx.core.config.repl_disable_tcp_nodelay {
            ctx.core.actions.push(Action::GatherPackets { conn: id });
        }
    } else {
        ctx.session.replconf = Some(Box::new(link));
    }
    for action in actions {
        if action == ReplicaAction::Close {
            ctx.session.closing = Closing::AfterReply;
        } else {
            ctx.core.replica_action(None, action, Some(ctx.reply.reborrow()));
        }
    }
    ctx.store.effects.recording = ctx.core.repl.records();
}

impl ReplicaSession {
    pub(crate) fn step(
        &mut self,
        timeout: Millis,
        now: Millis,
        input: ReplicaInput<'_>,
        actions: &mut Vec<ReplicaAction>,
    ) {
        let link = std::mem::replace(&mut self.link, ReplicaLink::new("", 0));
        self.link = link.step(timeout, now, input, actions);
    }
}

impl Core {
    pub(crate) fn monotonic(&self) -> Millis {
        Millis(self.env.monotonic_us() / 1000)
    }

    pub(crate) fn repl_timeout(&self) -> Millis {
        Millis::from_secs(self.config.repl_timeout_s.max(0) as u64)
    }

    /// How often heartbeats are to be written; never while nobody listens.
    fn heartbeat_period(&self) -> Option<Millis> {
        if self.repl.replicas.is_empty() || !self.repl.records() {
            return None;
        }
        let pings = Millis::from_secs(self.config.repl_ping_replica_period_s.max(1) as u64);
        heartbeat_period(self.config.repl_heartbeat_period_ms, pings)
    }

    fn primary_config(&self) -> PrimaryConfig {
        let config = &self.config;
        PrimaryConfig {
            ping_period: Millis::from_secs(config.repl_ping_replica_period_s.max(1) as u64),
            heartbeat: self.heartbeat_period(),
            backlog_ttl: Millis::from_secs(config.repl_backlog_ttl_s.max(0) as u64),
            diskless: config.repl_diskless_sync,
            diskless_delay: Millis::from_secs(config.repl_diskless_sync_delay_s.max(0) as u64),
            diskless_max_replicas: config.repl_diskless_sync_max_replicas.max(0) as usize,
            apart: false,
            places_gone: false,
        }
    }

    /// Replicas are to have all of the log, for the end of the process or to take over: nothing is appended, not even what
    /// has no effect.
    pub(crate) fn log_stands_still(&self) -> bool {
        self.shutdown.is_some() || self.repl.failover.is_active()
    }

    pub(crate) fn replica(&self, id: ConnId) -> Option<&ReplicaSession> {
        match &self.conns.get(id)?.session.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    pub(crate) fn replica_mut(&mut self, id: ConnId) -> Option<&mut ReplicaSession> {
        match &mut self.conns.get_mut(id)?.session.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    fn replica_link(&self, id: ConnId) -> &ReplicaLink {
        &self.replica(id).expect("the list of replicas names attached ones").link
    }

    /// Some replica has yet to be sent the rest of a streamed snapshot.
    fn streams_snapshot(&self) -> bool {
        self.repl
            .replicas
            .iter()
            .any(|id| self.replica(*id).is_some_and(|replica| replica.payload_at.is_some()))
    }

    /// The places for full synchronisations.
    pub(crate) fn places(&self) -> Places {
        Places::count(self.config.repl_full_sync_max.max(0) as usize, self.replica_links())
    }

    /// The replicas that wait for their turn, the next one first, and for how long each has waited.
    pub(crate) fn queued_replicas(&self) -> impl Iterator<Item = (&ReplicaLink, Millis)> {
        let (now, free) = (self.monotonic(), self.places().free());
        let waiting = self.replica_links().filter_map(move |link| match link.state() {
            ReplicaState::WaitSnapshot { since, .. } => Some((link, now.since(*since))),
            _ => None,
        });
        waiting.skip(free)
    }

    /// Whether the connection that this replica has named as its other one waits for it.
    pub(crate) fn partner_waits(&self, link: &ReplicaLink) -> bool {
        self.replica_links().any(|other| link.may_join(other))
    }

    /// The replica's connection that belongs to this client.
    fn replica_of_client(&self, client: u64) -> Option<ConnId> {
        let belongs = |id: &ConnId| self.replica(*id).is_some_and(|r| r.link.client_id() == client);
        self.repl.replicas.iter().copied().find(belongs)
    }

    /// Attached replicas, each once, however many connections it has.
    pub(crate) fn known_replicas(&self) -> impl Iterator<Item = &ReplicaLink> {
        self.replica_links().filter(|link| !link.is_second())
    }

    /// The links of all attached replicas that are not running a command just now.
    pub fn replica_links(&self) -> impl Iterator<Item = &ReplicaLink> {
        self.repl.replicas.iter().filter_map(|id| Some(&self.replica(*id)?.link))
    }

    /// Steps the link of one replica and carries its actions out.
    pub(crate) fn replica_step(&mut self, id: ConnId, input: ReplicaInput<'_>) {
        let (timeout, now) = (self.repl_timeout(), self.monotonic());
        let Some(replica) = self.replica_mut(id) else { return };
        let mut actions = Vec::new();
        replica.step(timeout, now, input, &mut actions);
        for action in actions {
            self.replica_action(Some(id), action, None);
        }
    }

    /// Carries out what a replica's link asks for. The session that runs has its reply at hand, others their output.
    fn replica_action(&mut self, id: Option<ConnId>, action: ReplicaAction, reply: Option<resp::Reply<'_>>) {
        match action {
            ReplicaAction::Send(bytes) => match (reply, id) {
                (Some(mut reply), _) => reply.output().raw(&bytes),
                (None, Some(id)) => self.send(id, &bytes),
                (None, None) => unreachable!("a link belongs to the running session or to a connection"),
            },
            ReplicaAction::Log(event) => self.log(event.level(), event.to_string()),
            ReplicaAction::FullSync(name, sync) => {
                let unix_ms = self.env.unix_ms();
                self.repl.served.add(unix_ms, name, sync);
            }
            ReplicaAction::Queued(name) => {
                let unix_ms = self.env.unix_ms();
                self.repl.served.queued(unix_ms, &name);
            }
            ReplicaAction::Admitted(name) => {
                let unix_ms = self.env.unix_ms();
                self.repl.served.admitted(unix_ms, &name);
            }
            ReplicaAction::Refused(name, refusal) => self.note_refused(&name, refusal),
            ReplicaAction::Count(SyncCount::Full) => self.stats.sync_full += 1,
            ReplicaAction::Count(SyncCount::PartialOk) => self.stats.sync_partial_ok += 1,
            ReplicaAction::Count(SyncCount::PartialErr) => self.stats.sync_partial_err += 1,
            ReplicaAction::CreateBacklog => {
                let fresh = self.random_replid();
                self.repl.create_backlog(fresh);
                let history = self.repl.history;
                self.notice(format!(
                    "Replication backlog created, my new replication IDs are '{}' and '{}'",
                    history.id,
                    history.second_id()
                ));
            }
            // The node looks for waiting replicas before it sleeps.
            ReplicaAction::WantSnapshot => {}
            ReplicaAction::StartStream(_) => {
                if let Some(id) = id.or(self.running) {
                    self.queue_id(id);
                }
            }
            ReplicaAction::Close => self.close_after_reply(id.expect("the session that runs closes itself")),
        }
    }

    /// Puts every replica on the list of those that have something to send.
    pub(crate) fn queue_replicas(&mut self) {
        for index in 0..self.repl.replicas.len() {
            self.queue_id(self.repl.replicas[index]);
        }
    }

    pub(crate) fn queue_id(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.queued_to_send
        {
            conn.queued_to_send = true;
            self.to_send.push(id);
        }
    }

    /// Queues bytes for a connection that is not the running one.
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.output.raw(bytes);
            self.queue_id(id);
        }
    }

    /// Ends a connection at the end of this turn.
    pub(crate) fn close(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.closing = Closing::Now;
        }
        self.to_close.push(id);
    }

    pub(crate) fn close_after_reply(&mut self, id: ConnId) {
        match self.conns.get_mut(id) {
            Some(conn) if !conn.output.is_empty() => conn.session.closing = Closing::AfterReply,
            _ => self.close(id),
        }
    }
}

impl Session {
    /// The IP address of the other end, without the port; empty for a unix socket.
    pub fn ip(&self) -> &str {
        if self.unix_socket { "" } else { self.addr.rsplit_once(':').map_or("", |(ip, _)| ip) }
    }
}

fn advance_payload(payload: &crate::payload::Payload, at: &mut (u64, usize), mut count: usize) {
    while count > 0 {
        let chunk = payload.chunk(at.0).expect("only bytes of chunks that are held were sent");
        let left = chunk.len() - at.1;
        if count < left {
            at.1 += count;
            return;
        }
        count -= left;
        *at = (at.0 + 1, 0);
    }
}

/// What must happen to replication when a connection is gone.
pub(crate) fn replica_gone(node: &mut Node, id: ConnId, conn: &Conn) {
    let Role::Replica(replica) = &conn.session.role else { return };
    let event = replica.link.lost();
    node.core.log(event.level(), event.to_string());
    node.core.repl.replicas.retain(|other| *other != id);
    // Of two connections for one synchronisation, one alone is of no use.
    let falls = |other: &ConnId| node.core.replica_link(*other).falls_with(&replica.link);
    let fallen: Vec<ConnId> = node.core.repl.replicas.iter().copied().filter(falls).collect();
    fallen.into_iter().for_each(|other| node.core.close(other));
    if replica.file.is_some() {
        node.core.actions.push(Action::ClosePayload { conn: id });
    }
    let streams =
        matches!(&node.core.snapshots.running, Some(running) if running.purpose == Purpose::SyncStream);
    if streams && !node.core.streams_snapshot() {
        node.core.warning("Diskless rdb transfer, last replica dropped, killing fork child.");
        node.cancel_snapshot();
        node.core.repl.payload.begin([0; 40]);
    }
    // A file that nobody waits for any more is still a save, where saves are wanted.
    let writes =
        matches!(&node.core.snapshots.running, Some(running) if running.purpose == Purpose::SyncFile);
    let awaited =
        node.core.replica_links().any(|link| matches!(link.state(), ReplicaState::SnapshotRunning { .. }));
    if writes && !awaited && node.core.config.save.is_empty() {
        node.core.notice("Killing running RDB child, nobody waits for its file");
        node.cancel_snapshot();
    }
    node.release_payload();
    node.count_good_replicas();
}

#[cfg(test)]
mod tests;
