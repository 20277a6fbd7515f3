//! Servers of other makes, as far as replication sees them: what they do not have, what they do otherwise, and what they
//! say of themselves. All of them are Kindred inside; half of the seeds have none but Kindred.

use engine::config::{Config, DisklessLoad, OutputLimit};

use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Kindred,
    Redis70,
    Redis82,
    Valkey91,
}

use Make::{Kindred, Redis70, Redis82, Valkey91};

/// Bytes that wait for a replica before Redis and Valkey drop it; theirs are 256 MB, a snapshot here is some kilobytes.
const REPLICA_BYTES_MAX: u64 = 20_000;

impl Make {
    /// The makes of all servers of a seed.
    pub fn of_seed(seed: u64, servers: usize) -> Vec<Make> {
        // Choices of its own: the seed's other ones stay as they are.
        let mut random = Random::new(seed ^ 0x6d61_6b65);
        let mixed = random.percent(50);
        let makes = [Kindred, Kindred, Redis70, Redis82, Valkey91];
        (0..servers).map(|_| if mixed { *random.pick(&makes) } else { Kindred }).collect()
    }

    /// Takes away what the make has not.
    pub fn settle(self, config: &mut Config) {
        if self == Kindred {
            return;
        }
        // No stamps in the stream, no look at the primary before a synchronisation, no log on a disk, no queue: a slow
        // replica is dropped, and one that loads in place of its data answers nobody meanwhile.
        config.repl_heartbeat_period_ms = 0;
        config.replica_guard_empty_primary = false;
        config.repl_backlog_disk_size = 0;
        config.repl_lag_disk_size = 0;
        config.repl_backlog_seconds = 0;
        config.repl_full_sync_max = 0;
        config.repl_full_sync_rate = 0;
        config.output_limit_replica = OutputLimit { hard_bytes: REPLICA_BYTES_MAX, ..OutputLimit::default() };
        if config.repl_diskless_load == DisklessLoad::Serving {
            config.repl_diskless_load = DisklessLoad::Disabled;
        }
        config.dual_channel_replication &= self == Valkey91;
        config.repl_rdb_channel &= self == Redis82;
    }

    /// What `replica` tells `primary` of itself, as it is said and understood. Words keep their length.
    pub fn put_in_words(replica: Make, primary: Make, handshake: &mut [u8]) {
        if replica != Kindred {
            replace(handshake, b"\r\nkindred\r\n", b"\r\nunknown\r\n");
        }
        // Redis does not tell its version, and answers with an error when it is told one.
        let tells_version = |make| matches!(make, Kindred | Valkey91);
        if !tells_version(replica) || !tells_version(primary) {
            replace(handshake, b"\r\nversion\r\n", b"\r\nverzion\r\n");
        }
    }
}

fn replace(bytes: &mut [u8], what: &[u8], by: &[u8]) {
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(what.len()).position(|window| window == what) {
        bytes[from + at..][..what.len()].copy_from_slice(by);
        from += at + what.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(replica: Make, primary: Make) -> Vec<u8> {
        let mut words = b"capa\r\n$7\r\nkindred\r\n*3\r\n$7\r\nversion\r\n".to_vec();
        Make::put_in_words(replica, primary, &mut words);
        words
    }

    #[test]
    fn only_kindred_says_so_and_only_some_tell_a_version() {
        assert_eq!(said(Kindred, Kindred), b"capa\r\n$7\r\nkindred\r\n*3\r\n$7\r\nversion\r\n");
        assert_eq!(said(Kindred, Redis70), b"capa\r\n$7\r\nkindred\r\n*3\r\n$7\r\nverzion\r\n");
        assert_eq!(said(Valkey91, Kindred), b"capa\r\n$7\r\nunknown\r\n*3\r\n$7\r\nversion\r\n");
        assert_eq!(said(Redis82, Kindred), b"capa\r\n$7\r\nunknown\r\n*3\r\n$7\r\nverzion\r\n");
    }

    #[test]
    fn half_of_the_seeds_are_of_one_make() {
        let mixed = (0..200).filter(|seed| Make::of_seed(*seed, 4) != [Kindred; 4]).count();
        assert!((60..140).contains(&mixed), "{mixed}");
    }
}
