//! What a replica does about memory of its own accord, beside a real one of the same primary: `replica-ignore-maxmemory`
//! and `replica-lazy-flush`.

mod peers;

use std::time::Duration;

use peers::agree::{assert_same, wait_caught_up};
use peers::{Batch, Bed, Kind, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of 1 KB.
const KEYS: i64 = 10_000;

fn write(server: &Server, name: &str) {
    let mut batch = Batch::new();
    for n in 0..KEYS {
        batch.push(&["SET", &format!("{name}:{n}"), &"v".repeat(1000)]);
    }
    server.client().batch_ok(&batch);
}

fn keys(server: &Server) -> i64 {
    server.ok("DBSIZE").int()
}

/// A replica holds what its primary has, however little memory it is allowed, unless it is told to count.
#[test]
fn a_replica_evicts_only_when_it_is_told_to() {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[Kind::Redis70]) else { return };
    let primary = bed.start(Kind::Redis70, &[]);
    let options = [("maxmemory", "6mb"), ("maxmemory-policy", "allkeys-lru"), ("repl-backlog-size", "1mb")];
    let replicas = [bed.start(Kind::Redis70, &options), bed.start(Kind::Kindred, &options)];
    for replica in &replicas {
        replica.follow(primary.port);
    }
    write(&primary, "first");
    for replica in &replicas {
        assert_same(&primary, replica, "with more than maxmemory");
        assert_eq!(replica.info_number("stats", "evicted_keys"), 0);
        replica.ok("CONFIG SET replica-ignore-maxmemory no");
        wait_for(PATIENCE, "eviction", || {
            replica.ok("PING");
            replica.info_number("memory", "used_memory")
                - replica.info_number("memory", "mem_not_counted_for_evict")
                <= 6 << 20
        });
        let left = keys(replica);
        assert!(replica.info_number("stats", "evicted_keys") > 0 && (1..KEYS).contains(&left), "{left}");
        replica.ok("CONFIG SET replica-ignore-maxmemory yes");
    }
    assert_eq!(keys(&primary), KEYS, "what a replica evicts is its own affair");
    let left: Vec<i64> = replicas.iter().map(keys).collect();
    write(&primary, "second");
    for (replica, left) in replicas.iter().zip(left) {
        wait_caught_up(&primary, replica);
        assert_eq!(keys(replica), left + KEYS, "it counts no more");
    }
}

/// What a full sync into the databases that clients see replaces is freed at once, or by another thread.
#[test]
fn a_replica_flushes_lazily_only_when_it_is_told_to() {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[Kind::Redis70]) else { return };
    let primary = bed.start(Kind::Redis70, &[]);
    primary.ok("SET the only");
    for kind in [Kind::Redis70, Kind::Kindred] {
        for (setting, freed) in [("no", 0), ("yes", KEYS)] {
            let options = [("replica-lazy-flush", setting), ("repl-diskless-load", "disabled")];
            let replica = bed.start(kind, &options);
            write(&replica, "old");
            replica.follow(primary.port);
            assert_same(&primary, &replica, "after the full sync");
            wait_for(PATIENCE, "the freeing", || {
                replica.info_number("memory", "lazyfree_pending_objects") == 0
            });
            assert_eq!(
                replica.info_number("memory", "lazyfreed_objects"),
                freed,
                "{} {setting}",
                kind.name()
            );
        }
    }
}
