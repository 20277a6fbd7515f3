//! Everything of a node besides its keyspace and the session that runs: configuration, counters, connections,
//! replication, snapshots.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use command::{CommandError, Named};
use log::ReplId;
use replication::replica_link::SyncRequest;
use replication::{Level, Millis};
use resp::{Args, ProtocolError};

use crate::action::{Action, ConnId};
use crate::client_limit::ClientMemory;
use crate::commands;
use crate::commands::client::{Buffers, describe};
use crate::config::{Config, PropagationError};
use crate::conns::Conns;
use crate::ctx::Handler;
use crate::env::Env;
use crate::evict::Eviction;
use crate::latency::LatencyMonitor;
use crate::load::Loading;
use crate::migrate::Migrations;
use crate::pubsub::PubSub;
use crate::repl::Replication;
use crate::session::{Closing, Conn, Queued, Role, Session};
use crate::snapshot::Snapshots;
use crate::stats::Stats;

pub struct Core {
    /// Connections that are free again and may have input left.
    pub resume: Vec<ConnId>,
    /// Connections that end with this turn.
    pub to_close: Vec<ConnId>,
    /// `DEBUG SLEEP` waits for them to be closed.
    pub sleep_due_us: Option<u64>,
    pub last_second: Millis,
    /// The connection whose output limit was judged last in the round over all.
    pub last_judged: ConnId,
    /// When it was last said that what is replicated cannot be saved.
    disk_error_told: Option<Millis>,
    pub config: Config,
    pub config_file: Option<PathBuf>,
    pub env: Box<dyn Env + Send>,
    pub conns: Conns,
    pub stats: Stats,
    pub repl: Replication,
    pub snapshots: Snapshots,
    pub loading: Option<Loading>,
    pub actions: Vec<Action>,
    pub started_ms: i64,
    pub run_id: String,
    /// Processed commands are part of an `EXEC`: its end is the end of the unit.
    pub in_exec: bool,
    /// Connections that have something to send.
    pub to_send: Vec<ConnId>,
    /// There was something to do in this turn, so there may be more at hand: what is written may be held back until a turn
    /// without, or for a moment ([`Node::before_sleep`](crate::Node::before_sleep)).
    pub turn_had_events: bool,
    /// `CLIENT PAUSE`: until when, and whether reads are held too.
    pub pause: Option<Pause>,
    /// The end of the process was asked for. Writes of clients are held back as in a pause.
    pub shutdown: Option<crate::shutdown::Waiting>,
    pub migrations: Migrations,
    pub memory_peak_bytes: u64,
    pub eviction: Eviction,
    pub client_memory: ClientMemory,
    /// Of the input that idle connections share.
    pub shared_input_bytes: usize,
    /// The connection whose command runs; it is not in the table meanwhile.
    pub running: Option<ConnId>,
    /// Where the command that runs is noted for the watchdog: its number plus one. None while nobody watches.
    pub under_way: Option<Arc<AtomicU32>>,
    /// Commands that took at least this long are noted in the slow log; `u64::MAX` when it is off.
    pub slow_us: u64,
    pub slowlog: SlowLog,
    pub pubsub: PubSub,
    /// Connections in `MONITOR`.
    pub monitors: Vec<ConnId>,
    pub latency: LatencyMonitor,
    /// Commands that took at least this long are for the slow log, the latency monitor or both.
    pub noted_us: u64,
    /// `DEBUG PAUSE-CRON`: the timer does nothing.
    pub cron_paused: bool,
    /// Indices of arguments of the running command that no log may show: passwords.
    pub redacted: Vec<usize>,
    pub role_change: Option<RoleChange>,
    /// The transaction that asked for it goes on afterwards.
    pub exec_rest: Option<ExecRest>,
    /// End of the last command on the monotonic clock: the start of the next one.
    lap_us: u64,
    /// No state of the node can refuse a command: see [`Core::refresh_state_gates`].
    state_gates_open: bool,
}

/// The last slow commands, newest first.
#[derive(Debug, Default)]
pub struct SlowLog {
    pub entries: VecDeque<Slow>,
    pub next_id: u64,
}

#[derive(Debug)]
pub struct Slow {
    pub id: u64,
    pub unix_s: i64,
    pub micros: u64,
    pub argv: Vec<Vec<u8>>,
    pub addr: String,
    pub name: Vec<u8>,
}

/// A change of role that a command asked for, to be made as soon as the command has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    Follow {
        host: String,
        port: u16,
    },
    Promote,
    /// `PSYNC … FAILOVER`: promote, then serve the former primary on the session that runs.
    TakeOver(SyncRequest),
    /// `FAILOVER ABORT`.
    AbortFailover,
}

/// What a transaction has yet to run after a command of it that changes the role.
pub struct ExecRest {
    pub queued: VecDeque<Queued>,
    /// The session gets no replies.
    pub silent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub until_ms: i64,
    pub writes_only: bool,
}

impl Core {
    pub fn new(config: Config, mut env: Box<dyn Env + Send>) -> Core {
        let started_ms = env.unix_ms();
        let mut seed = || {
            let mut bytes = [0; 20];
            bytes
                .chunks_mut(8)
                .for_each(|part| part.copy_from_slice(&env.random().to_le_bytes()[..part.len()]));
            ReplId::from_random(bytes)
        };
        let (replid, run_id) = (seed(), seed());
        let repl = Replication::new(replid, config.repl_backlog_size as u64);
        Core {
            resume: Vec::new(),
            to_close: Vec::new(),
            sleep_due_us: None,
            last_second: Millis(0),
            last_judged: 0,
            disk_error_told: None,
            config,
            config_file: None,
            conns: Conns::default(),
            stats: Stats::default(),
            repl,
            snapshots: Snapshots { last_save_unix_s: started_ms / 1000, ..Snapshots::default() },
            loading: None,
            actions: Vec::new(),
            started_ms,
            run_id: run_id.to_string(),
            in_exec: false,
            to_send: Vec::new(),
            turn_had_events: false,
            pause: None,
            shutdown: None,
            migrations: Migrations::default(),
            memory_peak_bytes: 0,
            eviction: Eviction::default(),
            client_memory: ClientMemory::default(),
            shared_input_bytes: 0,
            running: None,
            under_way: None,
            slow_us: u64::MAX,
            slowlog: SlowLog::default(),
            pubsub: PubSub::default(),
            monitors: Vec::new(),
            latency: LatencyMonitor::default(),
            noted_us: u64::MAX,
            cron_paused: false,
            redacted: Vec::new(),
            role_change: None,
            exec_rest: None,
            lap_us: env.monotonic_us(),
            env,
            state_gates_open: true,
        }
    }

    /// The commands by the names that clients use.
    #[inline]
    pub fn commands(&self) -> Named<'static, '_, Handler> {
        commands::registry().named(&self.config.names)
    }

    pub(crate) fn apply_config(&mut self) {
        if self.config.watchdog_period_ms > 0 {
            // Two ticks at least, as with Redis.
            let shortest_ms = 1000 / self.config.hz.clamp(1, 500) * 2;
            self.config.watchdog_period_ms = self.config.watchdog_period_ms.max(shortest_ms);
        }
        self.slow_us = u64::try_from(self.config.slowlog_log_slower_than_us).unwrap_or(u64::MAX);
        self.latency.set_threshold(self.config.latency_monitor_threshold_ms.max(0) as u64);
        self.noted_us = self.slow_us.min(self.latency.threshold_us());
        self.slowlog.entries.truncate(self.config.slowlog_max_len.max(0) as usize);
        self.repl.log.set_capacity(self.config.repl_backlog_size as u64);
        let [window, lag] = [self.config.repl_backlog_disk_size, self.config.repl_lag_disk_size]
            .map(|bytes| bytes.max(0) as u64);
        self.repl.log.set_disk(window, lag);
        self.client_memory.apply(&self.config);
        self.refresh_state_gates();
    }

    pub fn log(&mut self, level: Level, message: impl Into<String>) {
        self.actions.push(Action::Log { level, message: message.into() });
    }

    pub fn notice(&mut self, message: impl Into<String>) {
        self.log(Level::Notice, message);
    }

    pub fn warning(&mut self, message: impl Into<String>) {
        self.log(Level::Warning, message);
    }

    pub fn verbose(&mut self, message: impl Into<String>) {
        self.log(Level::Verbose, message);
    }

    pub fn is_replica(&self) -> bool {
        self.repl.is_replica()
    }

    pub fn is_loading(&self) -> bool {
        self.loading.as_ref().is_some_and(Loading::refuses_commands)
    }

    // ---- time of commands ----

    pub(crate) fn start_lap(&mut self) {
        self.lap_us = self.env.monotonic_us();
    }

    /// Microseconds since the last lap ended. One clock reading per command: the end of one is the start of the next.
    pub(crate) fn lap_us(&mut self) -> u64 {
        let now = self.env.monotonic_us();
        now - std::mem::replace(&mut self.lap_us, now)
    }

    pub(crate) fn note_slow(&mut self, session: &Session, argv: Args<'_>, micros: u64, now_ms: i64) {
        let limit = self.config.slowlog_max_len.max(0) as usize;
        let mut argv = clip_arguments(argv);
        for index in &self.redacted {
            if let Some(arg) = argv.get_mut(*index) {
                *arg = b"(redacted)".to_vec();
            }
        }
        let id = self.slowlog.next_id;
        self.slowlog.next_id += 1;
        let (addr, name) = (session.addr.clone(), session.name.clone());
        self.slowlog.entries.push_front(Slow { id, unix_s: now_ms / 1000, micros, argv, addr, name });
        self.slowlog.entries.truncate(limit);
    }

    // ---- gates ----

    #[inline]
    pub(crate) fn state_gates_open(&self) -> bool {
        self.state_gates_open
    }

    /// Recomputed at every turn, and after each command that may change the state of the node.
    pub(crate) fn refresh_state_gates(&mut self) {
        self.state_gates_open = !self.is_replica()
            && !self.is_loading()
            && !self.refuses_writes_for_disk()
            && self.has_enough_good_replicas()
            && self.config.maxmemory == 0
            && !self.client_memory.is_limited();
    }

    /// The last snapshot could not be written, and writes are to be refused for that.
    pub(crate) fn refuses_writes_for_disk(&self) -> bool {
        self.config.stop_writes_on_bgsave_error
            && !self.config.save.is_empty()
            && self.snapshots.last_save_failed
    }

    /// The primary's stream brings a write that this replica, as it is, could not save: it ends, or it says so every ten
    /// seconds. The surroundings report a panic and end the process.
    pub(crate) fn note_write_without_disk(&mut self) {
        const LINE_EVERY: Millis = Millis(10_000);
        assert!(self.config.replica_ignore_disk_write_errors, "Replica was unable to write command to disk.");
        let now = self.monotonic();
        if self.disk_error_told.is_none_or(|told| now.since(told) > LINE_EVERY) {
            self.disk_error_told = Some(now);
            self.warning("Replica is applying a command even though it is unable to write to disk.");
        }
    }

    pub(crate) fn has_enough_good_replicas(&self) -> bool {
        let wanted = self.config.min_replicas_to_write;
        wanted == 0 || self.config.min_replicas_max_lag_s == 0 || self.repl.good_replicas >= wanted as usize
    }

    /// A replica that is out of touch and was told not to serve old data.
    pub(crate) fn serves_stale_refused(&self) -> bool {
        !self.config.replica_serve_stale_data && self.repl.is_link_down()
    }

    // ---- connections ----

    /// Puts the connection into the list of those that have something to send.
    pub(crate) fn queue_to_send(&mut self, id: ConnId, conn: &mut Conn) {
        self.client_memory.recount(conn);
        if !conn.queued_to_send && !conn.output.is_empty() {
            conn.queued_to_send = true;
            self.to_send.push(id);
        }
    }

    pub(crate) fn protocol_error(&mut self, session: &mut Session, error: &ProtocolError) {
        let message = format!(
            "Protocol error ({}) from client: {}",
            error.log_text(),
            describe(self, session, &Buffers::default())
        );
        let level = if session.is_primary() { Level::Warning } else { Level::Verbose };
        self.log(level, message);
        self.stats.error_code("ERR".to_owned());
    }

    /// A command of the primary was answered with an error: the data sets may have parted. Nor does a replica send
    /// anything that can fail.
    pub(crate) fn note_error_on_link(&mut self, session: &Session, error: &CommandError, argv: Args<'_>) {
        let (from, to) = match session.role {
            Role::Client => return,
            Role::Primary => ("replica", "master"),
            Role::Replica(_) => ("master", "replica"),
        };
        self.stats.unexpected_error_replies += 1;
        self.warning(format!(
            "== CRITICAL == This {from} is sending an error to its {to}: '{}' after processing the command '{}'",
            String::from_utf8_lossy(&error.wire_text()),
            argv.get(0).map_or_else(String::new, |name| name.escape_ascii().to_string()),
        ));
        let config = &self.config;
        if session.is_primary()
            && config.replica_read_only
            && matches!(
                config.propagation_error_behavior,
                PropagationError::Panic | PropagationError::PanicOnReplicas
            )
        {
            panic!(
                "This replica panicked sending an error to its master after processing the command '{}'",
                argv.get(0).map_or_else(String::new, |name| name.escape_ascii().to_string()),
            );
        }
    }

    /// A replica has sent a command that has a reply.
    pub(crate) fn replica_was_answered(&mut self, session: &mut Session) {
        let command = session.last_command.map_or("<unknown>", |command| &command.full_name);
        let message = format!(
            "Replica generated a reply to command '{command}', disconnecting it: {}",
            describe(self, session, &Buffers::default())
        );
        self.warning(message);
        session.closing = Closing::Now;
    }

    pub(crate) fn query_buffer_exceeded(&mut self, conn: &mut Conn) {
        self.stats.client_query_buffer_limit_disconnections += 1;
        let buffers = Buffers { input_bytes: conn.input.len(), ..Buffers::default() };
        let message = format!(
            "Closing client that reached max query buffer length: {}",
            describe(self, &conn.session, &buffers)
        );
        self.warning(message);
        conn.session.closing = Closing::Now;
    }
}

/// At most 32 arguments of at most 128 bytes, as the slow log keeps them.
fn clip_arguments(argv: Args<'_>) -> Vec<Vec<u8>> {
    const ARGS: usize = 32;
    const BYTES: usize = 128;
    let shown = if argv.len() > ARGS { ARGS - 1 } else { argv.len() };
    let mut out: Vec<Vec<u8>> = argv
        .head(shown)
        .iter()
        .map(|arg| match arg.get(..BYTES) {
            Some(head) if arg.len() > BYTES => {
                let mut text = head.to_vec();
                text.extend_from_slice(format!("... ({} more bytes)", arg.len() - BYTES).as_bytes());
                text
            }
            _ => arg.to_vec(),
        })
        .collect();
    if argv.len() > ARGS {
        out.push(format!("... ({} more arguments)", argv.len() - ARGS + 1).into_bytes());
    }
    out
}
