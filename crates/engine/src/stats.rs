//! Counters of `INFO stats`, `commandstats` and `errorstats`.

use std::collections::BTreeMap;

use command::CommandError;

use crate::ctx::CommandRef;

/// What `INFO commandstats` says of one command.
#[derive(Debug, Default, Clone, Copy)]
pub struct CommandStats {
    pub calls: u64,
    pub micros: u64,
    /// Refused before the handler ran.
    pub rejected: u64,
    /// The handler answered an error.
    pub failed: u64,
}

/// How many different error codes are counted before `INFO errorstats` gives up, as in Redis.
const ERROR_CODES_MAX: usize = 128;

#[derive(Debug, Default)]
pub struct Stats {
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub commands_processed: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    pub net_repl_input_bytes: u64,
    pub net_repl_output_bytes: u64,
    pub reads_processed: u64,
    pub writes_processed: u64,
    pub error_replies: u64,
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
    pub client_query_buffer_limit_disconnections: u64,
    pub client_output_buffer_limit_disconnections: u64,
    pub dump_payload_sanitizations: u64,
    pub expired_time_cap_reached: u64,
    /// One row per command, by [`command::CommandId`].
    pub commands: Vec<CommandStats>,
    /// Error code (the first word of an error reply) → how often.
    pub errors: BTreeMap<String, u64>,
    pub ops: Rate,
    pub input: Rate,
    pub output: Rate,
}

impl Stats {
    /// Counts an error reply by its code.
    pub fn error(&mut self, error: &CommandError) {
        self.error_code(error.code());
    }

    /// Counts an error reply by its first word.
    pub fn error_code(&mut self, code: String) {
        self.error_replies += 1;
        if let Some(count) = self.errors.get_mut(&code) {
            *count += 1;
        } else if self.errors.len() < ERROR_CODES_MAX {
            self.errors.insert(code, 1);
        }
    }

    pub fn command(&mut self, command: CommandRef) -> &mut CommandStats {
        let id = usize::from(command.id.0);
        if self.commands.len() <= id {
            self.commands.resize(id + 1, CommandStats::default());
        }
        &mut self.commands[id]
    }
}

/// A rate per second over the last 16 samples, as `instantaneous_ops_per_sec`.
#[derive(Debug, Default)]
pub struct Rate {
    last_ms: i64,
    last_total: u64,
    samples: [u64; 16],
    next: usize,
}

impl Rate {
    /// Takes the running total; called about ten times a second.
    pub fn sample(&mut self, now_ms: i64, total: u64) {
        let elapsed = now_ms - self.last_ms;
        if self.last_ms != 0 && elapsed > 0 {
            self.samples[self.next] = (total - self.last_total) * 1000 / elapsed as u64;
            self.next = (self.next + 1) % self.samples.len();
        }
        (self.last_ms, self.last_total) = (now_ms, total);
    }

    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / self.samples.len() as u64
    }

    pub fn reset(&mut self) {
        *self = Rate::default();
    }
}
