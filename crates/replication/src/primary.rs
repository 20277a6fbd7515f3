//! What a primary does for all of its replicas together.
//!
//! The owner calls [`PrimaryCron::tick`] about once a second, and the functions over its replicas where it
//! needs a figure: whether a snapshot is due, how many replicas are good, how many acknowledged an offset,
//! and what the log must keep.

use std::fmt;

use crate::Millis;
use crate::replica_link::channel::Channel;
use crate::replica_link::{ReplicaLink, ReplicaState, SnapshotFilter};

/// The configuration that concerns all replicas.
#[derive(Clone, Copy, Debug)]
pub struct PrimaryConfig {
    /// `repl-ping-replica-period`.
    pub ping_period: Millis,
    /// `repl-heartbeat-period-ms` as it is in force ([`heartbeat_period`]).
    pub heartbeat: Option<Millis>,
    /// `repl-backlog-ttl`; zero keeps the backlog forever.
    pub backlog_ttl: Millis,
    /// `repl-diskless-sync`.
    pub diskless: bool,
    /// `repl-diskless-sync-delay`.
    pub diskless_delay: Millis,
    /// `repl-diskless-sync-max-replicas`; zero never cuts the delay short.
    pub diskless_max_replicas: usize,
    /// Redis and Valkey read different forms of what the data set holds: each gets a snapshot of its own.
    pub apart: bool,
    /// Nobody who comes later can join those who wait ([`crate::Places::are_gone`]).
    pub places_gone: bool,
}

/// What the owner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryAction {
    /// Append [`crate::replica_link::PING`] to the log.
    AppendPing,
    /// Deactivate the log and begin a history under a fresh id: from here on writes go unrecorded, so no
    /// replica that knows the old id may continue.
    FreeBacklog(BacklogFreed),
}

/// The line for the log when the backlog is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogFreed {
    pub ttl: Millis,
}

/// The timers of a primary.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrimaryCron {
    pinged: Option<Millis>,
    /// When a heartbeat was last due.
    beaten: Option<Millis>,
    without_replicas_since: Option<Millis>,
}

/// A snapshot that is due for the waiting replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// Streamed to the replicas' sockets, ended by a mark, rather than sent as a file of known size.
    pub to_sockets: bool,
    /// The snapshot's contents; only replicas that want the same take part ([`SnapshotPlan::serves`]).
    pub filter: SnapshotFilter,
    /// In the form that only Valkey reads ([`ReplicaLink::reads_valkey`]); never unless the two are kept apart.
    pub for_valkey: bool,
    apart: bool,
    /// How many replicas take part.
    pub replicas: usize,
}

impl PrimaryCron {
    /// `replicas`: how many are attached. `is_replica`: this server follows another one, so it adds nothing
    /// to the stream and keeps its log for the day it is promoted.
    pub fn tick(
        &mut self,
        config: &PrimaryConfig,
        now: Millis,
        replicas: usize,
        log_active: bool,
        is_replica: bool,
        out: &mut Vec<PrimaryAction>,
    ) {
        // Counted from the last time, so that a new period holds at once; and whether anybody listens or not, so that
        // one who has just come is not pinged for having come.
        let due = now.since(*self.pinged.get_or_insert(now)) >= config.ping_period;
        if due {
            self.pinged = Some(now);
        }
        if replicas > 0 || is_replica {
            self.without_replicas_since = None;
            let beats = config.heartbeat.is_some_and(|period| period <= config.ping_period);
            if due && replicas > 0 && !is_replica && !beats {
                out.push(PrimaryAction::AppendPing);
            }
            return;
        }
        let since = *self.without_replicas_since.get_or_insert(now);
        if log_active && config.backlog_ttl > Millis(0) && now.since(since) > config.backlog_ttl {
            out.push(PrimaryAction::FreeBacklog(BacklogFreed { ttl: config.backlog_ttl }));
        }
    }

    /// Whether a heartbeat is due. To be asked only while replicas are attached to a primary; the next one is due a
    /// period after this question.
    pub fn beats(&mut self, config: &PrimaryConfig, now: Millis) -> bool {
        let Some(period) = config.heartbeat else { return false };
        let due = now.since(*self.beaten.get_or_insert(now)) >= period;
        if due {
            self.beaten = Some(now);
        }
        due
    }

    /// When the next heartbeat is due, if they were due before.
    pub fn next_beat(&self, period: Millis) -> Option<Millis> {
        self.beaten.map(|beaten| beaten + period)
    }
}

/// The period that `repl-heartbeat-period-ms` stands for: 0 is never, -1 a tenth of the period of pings, so that where
/// those are kept out of the way by a huge period the heartbeats are, too.
pub fn heartbeat_period(setting_ms: i64, ping_period: Millis) -> Option<Millis> {
    match setting_ms {
        0 => None,
        ms => Some(u64::try_from(ms).map_or(Millis(ping_period.0 / 10), Millis)),
    }
}

impl SnapshotPlan {
    /// Whether this replica waits for a snapshot, and can read this one.
    pub fn serves(&self, replica: &ReplicaLink) -> bool {
        matches!(replica.state(), ReplicaState::WaitSnapshot { .. })
            && replica.filter() == self.filter
            && (!self.apart || replica.reads_valkey() == self.for_valkey)
            && (replica.capabilities().eof || !self.to_sockets)
    }
}

/// Whether a snapshot is due, while none is running, for those of the replicas that wait and may have one. A streamed one
/// waits a little, so that other replicas can join it before it begins; they cannot join later.
pub fn plan_snapshot<'a>(
    config: &PrimaryConfig,
    now: Millis,
    replicas: impl IntoIterator<Item = &'a ReplicaLink>,
) -> Option<SnapshotPlan> {
    let mut plan: Option<SnapshotPlan> = None;
    let mut longest_wait = Millis(0);
    let mut all_find_marks = true;
    let mut apart_from_stream = false;
    for replica in replicas {
        let ReplicaState::WaitSnapshot { since, .. } = *replica.state() else { continue };
        let plan = plan.get_or_insert(SnapshotPlan {
            to_sockets: false,
            filter: replica.filter(),
            for_valkey: config.apart && replica.reads_valkey(),
            apart: config.apart,
            replicas: 0,
        });
        if plan.filter == replica.filter() && (!config.apart || plan.for_valkey == replica.reads_valkey()) {
            plan.replicas += 1;
            longest_wait = longest_wait.max(now.since(since));
            all_find_marks &= replica.capabilities().eof;
            apart_from_stream |= replica.channel() != Channel::Both;
        }
    }
    let mut plan = plan?;
    let filtered = plan.filter != SnapshotFilter::default();
    // A channel for the snapshot alone was proposed while snapshots were streamed, and nothing else is understood there.
    plan.to_sockets = (config.diskless || filtered || apart_from_stream) && all_find_marks;
    let enough = config.places_gone
        || config.diskless_max_replicas > 0 && plan.replicas >= config.diskless_max_replicas;
    let delayed = config.diskless && all_find_marks && !enough;
    (!delayed || longest_wait >= config.diskless_delay).then_some(plan)
}

/// Replicas that are online and acknowledged within `max_lag` (`min_slaves_good_slaves`), by whole seconds
/// as Redis counts them.
pub fn count_good<'a>(
    now: Millis,
    max_lag: Millis,
    replicas: impl IntoIterator<Item = &'a ReplicaLink>,
) -> usize {
    let good = |replica: &&ReplicaLink| replica.is_online() && replica.lag(now).secs() <= max_lag.secs();
    replicas.into_iter().filter(good).count()
}

/// Online replicas that executed everything up to `offset`.
pub fn count_acked<'a>(offset: u64, replicas: impl IntoIterator<Item = &'a ReplicaLink>) -> usize {
    let acked = |replica: &&ReplicaLink| replica.is_online() && replica.acknowledged().offset >= offset;
    replicas.into_iter().filter(acked).count()
}

/// Online replicas that have everything up to `offset` on disk (WAITAOF).
pub fn count_fsynced<'a>(offset: u64, replicas: impl IntoIterator<Item = &'a ReplicaLink>) -> usize {
    let fsynced = |replica: &&ReplicaLink| {
        replica.is_online() && replica.acknowledged().fsynced.is_some_and(|fsynced| fsynced >= offset)
    };
    replicas.into_iter().filter(fsynced).count()
}

/// The lowest offset that any replica still needs, for [`log::Log::trim`].
pub fn oldest_pinned<'a>(replicas: impl IntoIterator<Item = &'a ReplicaLink>) -> Option<u64> {
    replicas.into_iter().filter_map(ReplicaLink::pinned).min()
}

impl fmt::Display for BacklogFreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replication backlog freed after {} seconds without connected replicas.", self.ttl.secs())
    }
}
