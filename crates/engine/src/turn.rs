//! What happens once per turn of the loop and about ten times a second.

use replication::FailoverInput;

use crate::action::{Action, ConnId, SpillFile};
use crate::core::Core;
use crate::node::Node;
use crate::session::Closing;

/// Keys and fields deleted by one active expiry cycle at most, so that it never becomes a pause.
const EXPIRE_BUDGET: usize = 1000;

impl Node {
    /// After all events of a turn were handled: what they made due is done. Afterwards [`Node::take_to_send`] names the
    /// connections that have something to send, and [`Node::take_actions`] what else is to happen.
    pub fn before_sleep(&mut self) {
        self.end_long_waits();
        if self.store.key_waits.has_ready() {
            self.serve_ready_keys();
        }
        while let Some(id) = self.core.resume.pop() {
            self.resume(id);
        }
        self.release_stream();
        if std::mem::take(&mut self.core.repl.acked) {
            self.count_good_replicas();
            self.answer_waiting(false);
        }
        self.core.evict_clients();
        if self.core.eviction.due {
            crate::evict::perform(&mut self.store, &mut self.core);
        }
        self.shutdown_step();
        self.failover_step(FailoverInput::Look);
        self.maybe_begin_sync();
        self.pace_sync();
        self.beat();
        self.core.announce_log();
        self.core.enforce_output_limit_of_replicas();
        self.trim_log();
        self.close_ended();
        if let Some(micros) = self.core.sleep_due_us.take() {
            self.core.actions.push(Action::Sleep { micros });
        }
    }

    /// There is work for the next turn that nothing outside will announce.
    pub fn is_busy(&self) -> bool {
        let core = &self.core;
        core.eviction.due || core.has_stream_to_run() || core.repl.held_since_us.is_some()
    }

    /// Connections that have something to send, each once.
    pub fn take_to_send(&mut self, into: &mut Vec<ConnId>) {
        into.clear();
        std::mem::swap(into, &mut self.core.to_send);
        for id in into.iter() {
            if let Some(conn) = self.core.conns.get_mut(*id) {
                conn.queued_to_send = false;
            }
        }
    }

    pub fn take_actions(&mut self) -> Vec<Action> {
        self.core.conns.recycle();
        let Core { repl, actions, .. } = &mut self.core;
        let spill = |file| move |request| Action::Spill { file, request };
        actions.extend(repl.payload.take_requests().map(spill(SpillFile::Snapshot)));
        actions.extend(repl.log.take_requests().map(spill(SpillFile::Log)));
        std::mem::take(actions)
    }

    /// `hz` times a second.
    pub fn tick(&mut self) {
        self.begin_turn();
        if self.core.cron_paused {
            return;
        }
        self.pause_tick();
        self.expire_cycle();
        if self.core.is_replica() {
            // Commands of the primary wait for nothing: what they brought is evicted here.
            crate::evict::perform(&mut self.store, &mut self.core);
        }
        self.following_tick();
        self.load_tick();
        self.sample_rates();
        let now = self.core.monotonic();
        if now.since(self.core.last_second).0 >= 1000 {
            self.core.last_second = now;
            self.serving_tick();
            self.save_points();
            self.idle_clients();
            self.trim_shared_input();
        }
        self.core.enforce_output_limit_of_next();
        self.answer_waiting(true);
    }

    /// Deletes keys and fields of hashes whose time has run out; the deletion of a key, and of the fields of one hash, is a
    /// unit of its own in the log.
    fn expire_cycle(&mut self) {
        let core = &self.core;
        if !core.config.active_expire_enabled || core.is_loading() || core.holds_writes() {
            return;
        }
        if core.is_replica() {
            self.store.expire_own(EXPIRE_BUDGET);
            crate::pubsub::deliver_events(&mut self.store, &mut self.core);
            return;
        }
        let start_us = core.env.monotonic_us();
        let mut deleted = 0;
        while deleted < EXPIRE_BUDGET && self.store.expire_due(1) == 1 {
            deleted += 1;
            crate::dispatch::end_unit(&mut self.store, &mut self.core);
        }
        while deleted < EXPIRE_BUDGET {
            let fields = self.store.expire_due_fields(EXPIRE_BUDGET - deleted);
            if fields == 0 {
                break;
            }
            deleted += fields;
            crate::dispatch::end_unit(&mut self.store, &mut self.core);
        }
        let micros = self.core.env.monotonic_us() - start_us;
        self.core.latency.note("expire-cycle", micros, self.store.now_ms);
    }

    fn sample_rates(&mut self) {
        let now_ms = self.store.now_ms;
        let stats = &mut self.core.stats;
        stats.ops.sample(now_ms, stats.commands_processed);
        stats.input.sample(now_ms, stats.net_input_bytes + stats.net_repl_input_bytes);
        stats.output.sample(now_ms, stats.net_output_bytes + stats.net_repl_output_bytes);
        stats.repl_input.sample(now_ms, stats.net_repl_input_bytes);
        stats.repl_output.sample(now_ms, stats.net_repl_output_bytes);
        stats.applied.sample(now_ms, self.core.repl.applied_commands);
        let now = self.core.monotonic();
        self.core.repl.mark(now);
        self.core.repl.reach_back(now, self.core.config.repl_backlog_seconds.max(0) as u64);
        self.core.memory_peak_bytes = self.core.memory_peak_bytes.max(self.core.env.used_memory());
    }

    /// Ends the connections that were decided to end during this turn.
    fn close_ended(&mut self) {
        while let Some(id) = self.core.to_close.pop() {
            let ended = self.core.conns.get(id).is_some_and(|conn| conn.session.closing == Closing::Now);
            if ended {
                self.core.actions.push(Action::Close { conn: id });
                self.closed(id);
            }
        }
    }
}
