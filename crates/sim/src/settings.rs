//! What the servers of a seed are set to: every switch that replication and snapshots have, in every combination.

use engine::config::{Config, DisklessLoad, Protected, SavePoint};
use keyspace::EncodingLimits;

use crate::random::Random;

pub const PORT: u16 = 6379;

/// `repl-full-sync-max`: with so few servers little is a queue.
pub const PLACES: [i64; 4] = [0, 1, 1, 2];

/// `repl-full-sync-rate`: a snapshot is some kilobytes.
const RATES: [i64; 4] = [0, 0, 3_000, 50_000];

/// The configuration of server `index`.
pub fn random(index: usize, random: &mut Random) -> Config {
    let loads = [
        DisklessLoad::Disabled,
        DisklessLoad::OnEmptyDb,
        DisklessLoad::SwapDb,
        DisklessLoad::FlushBeforeLoad,
        DisklessLoad::Serving,
    ];
    let disk_size = *random.pick(&[0, 20_000, 100_000, 1 << 20]);
    Config {
        port: PORT,
        protected_mode: false,
        databases: 2,
        dir: format!("/server{index}"),
        enable_debug_command: Protected::Yes,
        save: if random.percent(40) { vec![SavePoint { seconds: 2, changes: 20 }] } else { Vec::new() },
        stop_writes_on_bgsave_error: false,
        rdbcompression: random.percent(50),
        rdbchecksum: random.percent(80),
        repl_diskless_sync: random.percent(60),
        repl_diskless_sync_delay_s: random.below(2) as i64,
        repl_diskless_load: *random.pick(&loads),
        dual_channel_replication: random.percent(40),
        repl_rdb_channel: random.percent(40),
        replica_full_sync_buffer_limit: *random.pick(&[0, 1, 500, 20_000]),
        // Long after that all must be equal again.
        repl_refusal_s: 3,
        repl_full_sync_max: *random.pick(&PLACES),
        repl_full_sync_rate: *random.pick(&RATES),
        repl_ping_replica_period_s: 1,
        repl_timeout_s: random.between(3, 7) as i64,
        repl_backlog_size: if disk_size > 0 { 16 * 1024 } else { (16 * 1024) << random.below(3) },
        repl_backlog_disk_size: disk_size,
        repl_lag_disk_size: [1 << 30, 50_000, 0][index % 3],
        repl_backlog_seconds: *random.pick(&[0, 0, 1, 10]),
        repl_backlog_ttl_s: *random.pick(&[2, 3600]),
        encodings: if index < 2 { small_encodings() } else { EncodingLimits::default() },
        ..Config::default()
    }
}

/// The first servers have small thresholds, so that the others load what is large there as what is small.
fn small_encodings() -> EncodingLimits {
    EncodingLimits {
        hash_entries: 2,
        set_intset_entries: 2,
        set_listpack_entries: 2,
        zset_entries: 2,
        list_fill: 2,
        ..EncodingLimits::default()
    }
}
