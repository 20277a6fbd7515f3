//! A node: keyspace, connections and everything between them, without a socket, a file or a clock of its own.
//!
//! The surroundings (the server's event loop, or the simulator) drive it:
//!
//! ```text
//! accept → input/received → (commands run) → outgoing/sent → closed        per connection
//! tick                                                                       about hz times a second
//! before_sleep → take_actions                                                once per turn of the loop
//! snapshot_batch, snapshot_chunk, snapshot_finished                          while a snapshot runs
//! load_bytes, load_finished                                                  while a data set is loaded
//! ```
//!
//! Nothing here blocks. Everything that must happen outside comes out as an [`Action`].

use command::{Flag, Group};
use keyspace::entry::prepare_element;
use keyspace::{Db, Entry, Key};
use replication::FailoverInput;
use replication::replica_link::ReplicaInput;
use resp::{Args, Batch, Limits, Output, Reply};
use structures::table::Prepare;

use crate::action::{Action, ConnId};
use crate::commands::{self, transaction};
use crate::config::Config;
use crate::core::{Core, ExecRest, RoleChange};
use crate::ctx::{CommandRef, Ctx};
use crate::dispatch;
use crate::env::Env;
use crate::params;
use crate::pause;
use crate::pubsub;
use crate::session::{Blocked, Closing, Conn, Peer, Role, Session};
use crate::store::Store;

/// How many pipelined requests are parsed, hashed and prefetched before the first of them runs.
const BATCH_MAX: usize = 32;

/// Bytes that are read at once into the input that idle connections share.
const READ_BYTES: usize = 16 * 1024;

/// From this length on, room for an argument is made for it alone: doubling would cost as much again, and moving some
/// buffers of this size is no matter beside reading them.
const EXACT_FROM: usize = 64 << 20;

/// Redis's `PROTO_MBULK_BIG_ARG`: room for an argument of this length is made as soon as it is announced.
const BIG_ARGUMENT_BYTES: usize = 32 * 1024;

/// The most room that is made on a client's word, which may promise more than there is memory.
const RESERVED_MAX: usize = 1 << 30;

/// Bytes that are read at once from the primary: snapshots and streams come in bulk.
const PRIMARY_READ_BYTES: usize = 256 * 1024;

pub struct Node {
    pub store: Store,
    pub core: Core,
    batch: Batch,
    /// Input of connections that have no unfinished command: nearly all of them, nearly always. One warm buffer
    /// instead of one per connection.
    shared_input: Vec<u8>,
    planned: Vec<Planned>,
    /// Hashes of the keys of the batch that are not the first of their command.
    further: Vec<u64>,
    /// Where the replies to the primary's stream go, to be dropped.
    pub(crate) stream_output: Output,
}

/// A request of the batch that was looked up ahead of its run.
#[derive(Clone, Copy)]
pub(crate) struct Planned {
    pub(crate) command: Option<CommandRef>,
    /// Of the first key; 0 if there is none.
    hash: u64,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `maxclients` are there.
    Full,
    /// It comes from elsewhere, and no password is set: `protected-mode`.
    Protected,
}

impl Refusal {
    /// The reply to whatever the client has sent.
    pub fn text(self) -> &'static [u8] {
        match self {
            Refusal::Full => b"-ERR max number of clients reached\r\n",
            Refusal::Protected => PROTECTED_MODE,
        }
    }
}

/// Room in `buffer` for `wanted` bytes more.
fn make_room(buffer: &mut Vec<u8>, wanted: usize) {
    if wanted < EXACT_FROM {
        buffer.reserve(wanted);
    } else {
        buffer.reserve_exact(wanted.min(RESERVED_MAX));
    }
}

impl Node {
    /// A node with an empty data set, a primary. `config` is complete; `dir` exists.
    pub fn new(config: Config, mut env: Box<dyn Env + Send>) -> Node {
        let seed = env.random();
        let store = Store::new(config.databases as usize, seed);
        let core = Core::new(config, env);
        let mut node = Node {
            store,
            core,
            batch: Batch::new(),
            shared_input: Vec::new(),
            planned: Vec::new(),
            further: Vec::new(),
            stream_output: Output::new(),
        };
        node.apply_config();
        node.begin_turn();
        node
    }

    /// Hands the settings on that the store keeps for itself. Called after each change of the configuration.
    pub fn apply_config(&mut self) {
        params::apply(&mut self.store, &mut self.core);
    }

    /// The node became a replica or a primary, or its link came up or broke.
    pub(crate) fn role_changed(&mut self) {
        if !self.core.is_replica() {
            // What clients of the replica gave an expiry is due with everything else now.
            self.store.own_expiries.clear();
        }
        pause::settle_expiry(&mut self.store, &self.core);
        // A refusal is logged; the role changes all the same.
        self.core.adjust_oom_score();
        self.refresh_recording();
        self.core.refresh_state_gates();
    }

    /// Ends clients that have been silent for longer than `timeout`. Once a second.
    pub(crate) fn idle_clients(&mut self) {
        let limit_ms = self.core.config.timeout_s * 1000;
        let now_ms = self.store.now_ms;
        let is_idle = |conn: &Conn| {
            let session = &conn.session;
            matches!(session.role, Role::Client)
                && session.blocked.is_none()
                && session.pubsub.is_none()
                && session.replconf.as_ref().is_none_or(|link| !link.is_sent_elsewhere())
                && now_ms - session.active_ms > limit_ms
        };
        if limit_ms > 0 {
            let idle: Vec<ConnId> =
                self.core.conns.iter().filter(|(_, conn)| is_idle(conn)).map(|(id, _)| id).collect();
            for id in idle {
                self.core.verbose("Closing idle client");
                self.core.close(id);
            }
        }
    }

    /// Gives back what a burst has made of the input that connections share. Once a second.
    pub(crate) fn trim_shared_input(&mut self) {
        let kept = if self.core.is_replica() { PRIMARY_READ_BYTES } else { 2 * READ_BYTES };
        if self.shared_input.capacity() > 2 * kept {
            self.shared_input.shrink_to(kept);
            self.core.shared_input_bytes = self.shared_input.capacity();
        }
    }

    // ---- connections ----

    /// A client has connected. If it is refused, the connection is to be closed, and told why where that is not too much.
    pub fn accept(&mut self, peer: Peer) -> Result<ConnId, Refusal> {
        let core = &mut self.core;
        core.stats.connections_received += 1;
        if core.conns.len() >= core.config.maxclients as usize {
            core.stats.rejected_connections += 1;
            return Err(Refusal::Full);
        }
        if core.config.protected_mode
            && core.config.requirepass.is_empty()
            && !peer.local
            && !peer.unix_socket
        {
            core.stats.rejected_connections += 1;
            return Err(Refusal::Protected);
        }
        let now_ms = core.env.unix_ms();
        let id = core.conns.next_session_id();
        let mut session = Session::new(id, peer, now_ms);
        session.authenticated = core.config.requirepass.is_empty();
        Ok(core.conns.insert(Box::new(Conn::new(session))))
    }

    /// Where the next bytes of `conn` are to be appended. Not to be read from outside.
    pub fn input(&mut self, conn: ConnId) -> Option<&mut Vec<u8>> {
        let conn = self.core.conns.get_mut(conn)?;
        let least = if conn.session.is_primary() { PRIMARY_READ_BYTES } else { READ_BYTES };
        let buffer = if conn.input.is_empty() { &mut self.shared_input } else { &mut conn.input };
        if buffer.capacity() - buffer.len() < least {
            make_room(buffer, conn.wants.max(least));
        }
        Some(buffer)
    }

    /// `count` bytes were appended to the input of `conn`: runs the commands that are complete.
    pub fn received(&mut self, id: ConnId, count: usize) {
        let Some(mut conn) = self.core.conns.take(id) else { return };
        self.core.stats.reads_processed += 1;
        self.begin_turn();
        conn.session.active_ms = self.store.now_ms;
        if conn.input.is_empty() {
            std::mem::swap(&mut conn.input, &mut self.shared_input);
        }
        if conn.session.is_primary() {
            self.core.stats.net_repl_input_bytes += count as u64;
            let mut bytes = std::mem::take(&mut conn.input);
            self.core.conns.put_back(id, conn);
            self.primary_received(id, &bytes);
            bytes.clear();
            if bytes.capacity() > self.shared_input.capacity() {
                self.shared_input = bytes;
            }
        } else {
            self.core.stats.net_input_bytes += count as u64;
            self.run_input(id, &mut conn);
            self.settle(id, conn);
        }
    }

    /// Runs what stands in the input of a connection that was held back (blocked, paused) and is free again.
    pub fn resume(&mut self, id: ConnId) {
        let Some(mut conn) = self.core.conns.take(id) else { return };
        self.begin_turn();
        self.run_input(id, &mut conn);
        self.settle(id, conn);
    }

    /// The other end has closed the connection, or it broke.
    pub fn closed(&mut self, id: ConnId) {
        if let Some(conn) = self.core.conns.take(id) {
            self.forget(id, conn);
        }
    }

    /// Puts a connection back after a run, or ends it if that was decided.
    pub(crate) fn settle(&mut self, id: ConnId, mut conn: Box<Conn>) {
        if conn.session.closing == Closing::Now {
            self.core.actions.push(Action::Close { conn: id });
            return self.forget(id, conn);
        }
        // The input that all share goes back as soon as nothing is left in it. Where clients are evicted for what they
        // hold, a large argument is not to come in at one read, nor is a client to inherit the room of another's.
        if conn.input.is_empty() && self.shared_input.capacity() < conn.input.capacity() {
            if conn.input.capacity() <= READ_BYTES * 2 || !self.core.client_memory.is_limited() {
                std::mem::swap(&mut conn.input, &mut self.shared_input);
            }
            if conn.input.capacity() > READ_BYTES * 2 {
                conn.input = Vec::new();
            }
        } else if conn.wants >= BIG_ARGUMENT_BYTES
            && conn.input.capacity() - conn.input.len() < BIG_ARGUMENT_BYTES
        {
            // What was announced counts from now on, as in Redis, not when it comes.
            make_room(&mut conn.input, conn.wants);
        }
        self.core.shared_input_bytes = self.shared_input.capacity();
        self.core.enforce_output_limit(id, &mut conn);
        self.core.queue_to_send(id, &mut conn);
        self.core.conns.put_back(id, conn);
    }

    /// Everything that must happen when a connection is gone.
    fn forget(&mut self, id: ConnId, mut conn: Box<Conn>) {
        commands::monitor::stop(&mut self.core, &mut conn.session, Some(id));
        pubsub::leave(&mut self.store, &mut self.core, &mut conn.session, id);
        let session = &conn.session;
        self.store.watched.unwatch(session.id, &session.watched);
        self.core.repl.waiting.remove(&(id, session.id));
        if let Some(Blocked::Keys(wait)) = &session.blocked {
            self.store.key_waits.remove(id, session.id, wait);
        }
        self.core.to_send.retain(|other| *other != id);
        self.core.client_memory.forget(&conn);
        self.core.conns.release(id);
        crate::serving::replica_gone(self, id, &conn);
        if conn.session.is_primary() {
            self.primary_closed(id);
        }
    }

    // ---- running commands ----

    /// Parses and runs what `conn` has sent, as far as it is complete and nothing holds the connection back.
    fn run_input(&mut self, id: ConnId, conn: &mut Conn) {
        let input = std::mem::take(&mut conn.input);
        let mut start = 0;
        while conn.session.blocked.is_none() && conn.session.closing == Closing::No {
            let limits = Limits {
                bulk_len_max: self.core.config.proto_max_bulk_len as u64,
                authenticated: conn.session.authenticated,
            };
            self.batch.clear();
            let progress = match conn.parser.parse(&input[start..], &limits, BATCH_MAX, &mut self.batch) {
                Ok(progress) => progress,
                Err(error) => {
                    self.core.protocol_error(&mut conn.session, &error);
                    Reply::new(&mut conn.output, conn.session.proto).error(error.wire_text());
                    conn.session.closing = Closing::AfterReply;
                    start = input.len();
                    break;
                }
            };
            conn.wants = progress.wants;
            if progress.empty_line && conn.session.is_replica() {
                self.replica_is_loading(conn);
            }
            let batch = std::mem::take(&mut self.batch);
            let run = self.run_batch(id, conn, &batch, &input[start..]);
            self.batch = batch;
            match run {
                // Held back in the middle: the rest is parsed again when the connection goes on.
                Some(consumed) => {
                    start += consumed;
                    conn.parser = Default::default();
                    break;
                }
                None => start += progress.consumed,
            }
            if !progress.more {
                break;
            }
        }
        conn.input = input;
        conn.input.drain(..start);
        // As in Redis, the limit is for one argument: those before it in the command are no longer in the query buffer there.
        let awaiting = conn.input.len().saturating_sub(conn.parser.parsed());
        if awaiting > self.core.config.client_query_buffer_limit as usize {
            self.core.query_buffer_exceeded(conn);
        }
    }

    /// An empty line is how a replica that loads its snapshot shows that it lives.
    fn replica_is_loading(&mut self, conn: &mut Conn) {
        let (timeout, now) = (self.core.repl_timeout(), self.core.monotonic());
        if let Role::Replica(replica) = &mut conn.session.role {
            replica.step(timeout, now, ReplicaInput::Newline, &mut Vec::new());
        }
    }

    /// Runs the requests of a batch. `Some(bytes)` if the connection was held back after that many bytes of it.
    fn run_batch(&mut self, id: ConnId, conn: &mut Conn, batch: &Batch, bytes: &[u8]) -> Option<usize> {
        self.plan(conn.session.db, batch, bytes);
        for index in 0..batch.len() {
            let args = batch.args(index, bytes);
            let request = batch.requests()[index];
            let raw = request.canonical.then(|| &bytes[request.raw()]);
            // What is refused by its words alone need not wait for that.
            let planned = self.planned[index];
            let command = planned.command;
            if self.core.postpones(&conn.session, command)
                && dispatch::is_well_formed(command, args, &self.core, &conn.session)
            {
                conn.session.blocked = Some(Blocked::Paused);
                return Some(request.raw().start);
            }
            self.core.running = Some(id);
            self.run_request(&mut conn.session, &mut conn.output, planned, args, raw);
            self.core.running = None;
            let session = &conn.session;
            if session.blocked.is_some() || session.closing != Closing::No {
                return Some(request.raw().end);
            }
        }
        None
    }

    /// Looks the commands of a batch up and brings their keys' buckets, then entries, towards the cache.
    pub(crate) fn plan(&mut self, db: usize, batch: &Batch, bytes: &[u8]) {
        self.planned.clear();
        self.further.clear();
        let db = self.store.db_at(db);
        let named = self.core.commands();
        let mut name_elements = false;
        // Neighbours that name the same key need one prefetch, and one request alone none.
        let mut prefetched = 0;
        for index in 0..batch.len() {
            let args = batch.args(index, bytes);
            let command = named.lookup(args.at(0));
            let mut hash = 0;
            if let Some(command) = command
                && let Some(key) = first_key(command).and_then(|at| args.get(at))
            {
                hash = structures::hash::hash(key);
                let has_further = command.legacy_range.last != command.legacy_range.first;
                if (batch.len() > 1 || has_further) && hash != prefetched {
                    prefetched = hash;
                    db.prefetch(hash);
                }
                if has_further {
                    for key in further_keys(command, args) {
                        let hash = structures::hash::hash(key);
                        db.prefetch(hash);
                        self.further.push(hash);
                    }
                }
                name_elements |= names_elements(command);
            }
            self.planned.push(Planned { command, hash });
        }
        if batch.len() > 1 || !self.further.is_empty() {
            let mut prefetched = 0;
            for planned in &self.planned {
                if planned.hash != prefetched && planned.hash != 0 {
                    prefetched = planned.hash;
                    db.prefetch_entry(planned.hash);
                }
            }
            self.further.iter().for_each(|hash| db.prefetch_entry(*hash));
            if name_elements {
                prepare_elements(&self.planned, db, batch, bytes);
            }
        }
    }

    pub(crate) fn planned(&self, index: usize) -> Planned {
        self.planned[index]
    }

    /// Runs one request of a client or of the primary's stream.
    #[inline]
    pub(crate) fn run_request(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        planned: Planned,
        argv: Args<'_>,
        raw: Option<&[u8]>,
    ) {
        if session.is_replica() {
            return self.run_of_replica(session, output, planned, argv, raw);
        }
        self.run_request_of_any(session, output, planned, argv, raw);
    }

    /// What a replica sends is never answered: what it gets are bytes of the log. One that asks is ended.
    #[cold]
    fn run_of_replica(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        planned: Planned,
        argv: Args<'_>,
        raw: Option<&[u8]>,
    ) {
        let mark = output.mark();
        session.last_command = None;
        self.run_request_of_any(session, output, planned, argv, raw);
        if output.written_since(&mark) > 0 {
            output.rewind(&mark);
            self.core.replica_was_answered(session);
        }
    }

    fn run_request_of_any(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        planned: Planned,
        argv: Args<'_>,
        raw: Option<&[u8]>,
    ) {
        let mut reply = Reply::new(output, session.proto);
        let Node { store, core, .. } = self;
        let command = match dispatch::resolve(planned.command, argv, core, session) {
            Ok(command) => command,
            Err(error) => {
                core.stats.commands_processed += 1;
                core.repl.unknown_in_stream |= session.is_primary();
                return dispatch::refuse(session, core, &mut reply, &error, argv);
            }
        };
        session.last_command = Some(command);
        // A subcommand has keys of its own.
        let key_hash = if command.parent.is_none() { planned.hash } else { 0 };
        dispatch::run(&mut Ctx { argv, reply, session, store, core, command, key_hash }, raw);
        if session.wrote {
            session.wrote = false;
            session.last_write_offset = core.repl.offset();
        }
        while let Some(change) = self.core.role_change.take() {
            self.change_role(change, session, output, command, argv);
            if let Some(rest) = self.core.exec_rest.take() {
                self.go_on_with_exec(session, output, command, argv, rest);
            }
        }
        if self.store.key_waits.has_ready() {
            self.serve_ready_keys();
        }
        self.core.pubsub.release(self.core.running, session.proto, output);
    }

    /// Runs what is left of a transaction that has changed the role of this node.
    fn go_on_with_exec(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        command: CommandRef,
        argv: Args<'_>,
        rest: ExecRest,
    ) {
        let Node { store, core, .. } = self;
        let reply = Reply::new(output, session.proto);
        let mut ctx = Ctx { argv, reply, session, store, core, command, key_hash: 0 };
        let mark = rest.silent.then(|| ctx.reply.output().mark());
        transaction::run_queued(&mut ctx, rest.queued, rest.silent);
        dispatch::end_unit(ctx.store, ctx.core);
        if let Some(mark) = mark {
            ctx.reply.output().rewind(&mark);
        }
    }

    fn change_role(
        &mut self,
        change: RoleChange,
        session: &mut Session,
        output: &mut Output,
        command: CommandRef,
        argv: Args<'_>,
    ) {
        match change {
            RoleChange::Follow { host, port } => self.follow(&host, port),
            RoleChange::Promote => self.promote(),
            RoleChange::TakeOver(request) => {
                self.promote();
                let Node { store, core, .. } = self;
                let reply = Reply::new(output, session.proto);
                let mut ctx = Ctx { argv, reply, session, store, core, command, key_hash: 0 };
                crate::serving::synchronise(&mut ctx, request);
            }
            RoleChange::AbortFailover => self.failover_step(FailoverInput::Abort),
        }
    }

    /// Takes the time for the units that follow.
    pub(crate) fn begin_turn(&mut self) {
        self.store.now_ms = self.core.env.unix_ms();
        self.store.access.set_time(self.store.now_ms);
        self.core.start_lap();
        self.core.refresh_state_gates();
    }
}

/// Does for the elements of large collections what was done for the keys. The batch changes nothing meanwhile, and what
/// it changes later only makes a hint worthless.
fn prepare_elements(planned: &[Planned], db: &Db, batch: &Batch, bytes: &[u8]) {
    let mut elements = [None; BATCH_MAX];
    let mut found = 0;
    let mut last: Option<(Key<'_>, &Entry)> = None;
    for (index, planned) in planned.iter().enumerate().take(BATCH_MAX) {
        let args = batch.args(index, bytes);
        let Some((key, element)) = planned.command.and_then(|command| element_of(command, args)) else {
            continue;
        };
        let key = Key { bytes: key, hash: planned.hash };
        let entry = match last {
            Some((same, entry)) if same.hash == key.hash && same.bytes == key.bytes => entry,
            _ => match db.peek(key) {
                Some(entry) => entry,
                None => continue,
            },
        };
        last = Some((key, entry));
        let hash = structures::hash::hash(element);
        if prepare_element(entry, hash, Prepare::Bucket) {
            elements[found] = Some((entry, hash));
            found += 1;
        }
    }
    for (entry, hash) in elements[..found].iter().flatten() {
        prepare_element(entry, *hash, Prepare::Entry);
    }
}

/// Whether the command may be one of [`element_of`]. Those are quick ones; what others have in that place is a bound or an
/// option. Quick ones without an element are taken for such: a wrong hint costs little.
#[inline]
fn names_elements(command: CommandRef) -> bool {
    command.command.flags.has(Flag::Fast)
        && matches!(command.command.group, Group::Set | Group::Hash | Group::SortedSet)
}

/// The key and the element that commands of one element name.
#[inline]
fn element_of<'a>(command: CommandRef, args: Args<'a>) -> Option<(&'a [u8], &'a [u8])> {
    if !names_elements(command) {
        return None;
    }
    let at = match command.command.group {
        Group::Set | Group::Hash => 2,
        Group::SortedSet => args.len().checked_sub(1).filter(|last| *last >= 2)?,
        _ => return None,
    };
    Some((args.get(first_key(command)?)?, args.get(at)?))
}

/// Index of the first key, for prefetching; none for a command whose keys stand in changing places.
#[inline]
fn first_key(command: CommandRef) -> Option<usize> {
    usize::try_from(command.legacy_range.first).ok().filter(|at| *at > 0)
}

/// The keys behind the first, as far as they are worth being prefetched: beyond that, the first are gone from the cache
/// when their turn comes.
#[inline]
fn further_keys<'a>(command: CommandRef, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
    const FURTHER_MAX: usize = 15;
    let range = &command.legacy_range;
    let (first, step) = (range.first.max(0) as usize, range.step.max(1) as usize);
    let end = if range.last < 0 { (args.len() as i64 + range.last + 1).max(0) } else { range.last + 1 };
    let end = (end as usize).min(args.len());
    (first + step..end).step_by(step).take(FURTHER_MAX).map(move |at| args.at(at))
}

const PROTECTED_MODE: &[u8] = b"-DENIED Kindred is running in protected mode because protected mode is enabled and no \
password is set for the default user. In this mode connections are only accepted from the loopback interface. If you \
want to connect from external computers, you may adopt one of the following solutions: 1) Disable protected mode by \
sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting from the same host the \
server is running, however make sure that it is not publicly accessible from the internet if you do so. Use CONFIG \
REWRITE to make this change permanent. 2) Disable protected mode by editing the configuration file, setting the \
protected mode option to 'no', and then restarting the server. 3) Start the server with the '--protected-mode no' \
option. 4) Set up an authentication password for the default user.\r\n";

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::testing::Harness;

    #[test]
    fn the_query_buffer_is_limited_by_the_argument() {
        let mut h = Harness::new();
        h.run("CONFIG SET client-query-buffer-limit 1mb");
        let part = [b"$600000\r\n", &[b'x'; 600_000][..], b"\r\n"].concat();
        assert_eq!(h.raw(h.conn, &[b"*5\r\n$4\r\nMSET\r\n", &part[..]].concat()), b"");
        assert_eq!(h.raw(h.conn, &part), b"");
        assert_eq!(h.raw(h.conn, &part), b"");
        assert_eq!(h.raw(h.conn, &part), b"+OK\r\n");
        h.node.take_actions();
        let _ = h.raw(h.conn, &[b"*1\r\n$2000000\r\n", &[b'x'; 1_100_000][..]].concat());
        let closed = |action: &Action| matches!(action, Action::Close { conn } if *conn == h.conn);
        assert!(h.node.take_actions().iter().any(closed));
    }

    /// What is prefetched for a batch are hints: with collections of every form, elements that come and go within the
    /// batch, keys of other types and arguments that are missing, the replies are those of commands one by one.
    #[test]
    fn a_batch_answers_as_its_commands_one_by_one() {
        let setup = |h: &mut Harness| {
            for n in 0..600 {
                h.run(&format!("SADD set element:{n}"));
                h.run(&format!("HSET hash element:{n} {n}"));
                h.run(&format!("ZADD zset {n} element:{n}"));
            }
            h.run("MSET element:1 1 element:2 2 element:3 3");
            h.run("SADD small 1 2 3");
        };
        let commands = [
            "SISMEMBER set element:7",
            "SREM set element:7",
            "SISMEMBER set element:7",
            "SISMEMBER small 2",
            "SISMEMBER element:1 x",
            "SISMEMBER none x",
            "SISMEMBER set",
            "HGET hash element:599",
            "DEL hash element:2",
            "HGET hash element:599",
            "HINCRBY hash n 1",
            "ZSCORE zset element:8",
            "ZADD zset 3 element:8",
            "ZSCORE zset element:8",
            "ZRANGE zset 0 1",
            "ZCARD zset",
            "MGET element:1 element:2 none element:3",
            "MSET element:1 x element:4",
            "MGET",
            "GET",
            "nonsense set element:1",
        ];
        let (mut batched, mut single) = (Harness::new(), Harness::new());
        setup(&mut batched);
        setup(&mut single);
        let expected: String = commands.iter().map(|command| single.run(command)).collect();
        let conn = batched.connect();
        let lines = commands.join("\r\n") + "\r\n";
        assert_eq!(batched.raw(conn, lines.as_bytes()).escape_ascii().to_string(), expected);
    }
}
