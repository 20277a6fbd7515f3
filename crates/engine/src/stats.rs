//! Counters of `INFO stats`, `commandstats` and `errorstats`.

use std::collections::BTreeMap;

use command::CommandError;

use crate::ctx::CommandRef;

/// What `INFO commandstats` says of one command.
#[derive(Debug, Default, Clone)]
pub struct CommandStats {
    pub calls: u64,
    pub micros: u64,
    /// Refused before the handler ran.
    pub rejected: u64,
    /// The handler answered an error.
    pub failed: u64,
    /// Present once a call was measured while `latency-tracking` was on.
    pub latency: Option<Box<Histogram>>,
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
    pub unexpected_error_replies: u64,
    pub evicted_clients: u64,
    pub ops: Rate,
    pub input: Rate,
    pub output: Rate,
    pub repl_input: Rate,
    pub repl_output: Rate,
    /// Commands of the primary's stream.
    pub applied: Rate,
}

/// How long calls of a command took, in buckets that are at most 3 % wide.
///
/// Up to 64 µs each microsecond has a bucket, above each power of two is divided into 32.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u32; Histogram::BUCKETS],
    total: u64,
}

impl Histogram {
    const SPLIT: u64 = 32;
    /// What took longer counts as this: one second.
    const MICROS_MAX: u64 = 1_000_000;
    const BUCKETS: usize = Histogram::bucket(Histogram::MICROS_MAX) + 1;

    const fn bucket(micros: u64) -> usize {
        if micros < 2 * Histogram::SPLIT {
            return micros as usize;
        }
        let shift = 58 - micros.leading_zeros() as u64;
        (shift * Histogram::SPLIT + (micros >> shift)) as usize
    }

    /// The largest value that falls into a bucket.
    const fn upper_micros(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 2 * Histogram::SPLIT {
            return bucket;
        }
        let shift = bucket / Histogram::SPLIT - 1;
        ((bucket - shift * Histogram::SPLIT + 1) << shift) - 1
    }

    #[inline]
    pub fn record(&mut self, micros: u64) {
        self.buckets[Histogram::bucket(micros.min(Histogram::MICROS_MAX))] += 1;
        self.total += 1;
    }

    /// How many calls took at most so many microseconds, where that number grows. The limits are those of Redis, whose
    /// histograms double from 1,024 ns on and are as exact as two digits.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let (mut rows, mut next, mut seen) = (Vec::new(), 0, 0);
        for power in 0.. {
            if seen == self.total {
                break;
            }
            let limit_ns = (1u64 << (10 + power)) + (1u64 << (3 + power)) - 1;
            let end = (Histogram::bucket((limit_ns / 1000).min(Histogram::MICROS_MAX)) + 1).max(next);
            let before = seen;
            seen += self.buckets[next..end].iter().map(|count| u64::from(*count)).sum::<u64>();
            next = end;
            if seen > before {
                rows.push((limit_ns / 1000, seen));
            }
        }
        rows
    }

    /// The time in microseconds that `percentile` percent of the calls did not exceed.
    pub fn percentile(&self, percentile: f64) -> u64 {
        let wanted = ((self.total as f64 * percentile / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Histogram::upper_micros(bucket);
            }
        }
        0
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [0; Histogram::BUCKETS], total: 0 }
    }
}

impl Stats {
    /// `CONFIG RESETSTAT`.
    pub fn reset(&mut self) {
        *self = Stats::default();
    }

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

    #[inline]
    pub fn command(&mut self, command: CommandRef) -> &mut CommandStats {
        let id = usize::from(command.id.0);
        if self.commands.len() <= id {
            self.add_rows(id);
        }
        &mut self.commands[id]
    }

    #[cold]
    fn add_rows(&mut self, last: usize) {
        self.commands.resize(last + 1, CommandStats::default());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut last = 0;
        for micros in 0..=Histogram::MICROS_MAX {
            let bucket = Histogram::bucket(micros);
            assert!(bucket == last || bucket == last + 1, "{micros}");
            let upper = Histogram::upper_micros(bucket);
            assert!(upper >= micros && (upper - micros) * 32 <= micros, "{micros} {upper}");
            last = bucket;
        }
        assert_eq!(last + 1, Histogram::BUCKETS);
    }

    #[test]
    fn percentiles_of_known_calls() {
        let mut histogram = Histogram::default();
        (1..=60).for_each(|micros| histogram.record(micros));
        let at = |percentile| histogram.percentile(percentile);
        assert_eq!((at(0.0), at(50.0), at(99.0), at(100.0)), (1, 30, 60, 60));
    }
}
