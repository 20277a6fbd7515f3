//! Full synchronisation on two connections, as Valkey (`dual-channel-replication-enabled`) and Redis 8
//! (`repl-rdb-channel`) have it: the snapshot comes on one while the stream comes on the other.

mod peers;

use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, assert_same_expiries};
use peers::proxy::Proxy;
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Kind, Server, dataset, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot takes about a second: 5,000 keys, and so many microseconds for each.
const SAVE_DELAY_US: &str = "200";

/// What switches it on between these two.
fn option(upper: Kind, lower: Kind) -> (&'static str, &'static str) {
    match [upper, lower].contains(&Kind::Redis82) {
        true => ("repl-rdb-channel", "yes"),
        false => ("dual-channel-replication-enabled", "yes"),
    }
}

fn start_pair(bed: &mut Bed, upper: Kind, lower: Kind, of_lower: &[(&str, &str)]) -> (Server, Server) {
    let option = option(upper, lower);
    let primary = bed.start(upper, &[option, ("rdb-key-save-delay", SAVE_DELAY_US)]);
    let replica = bed.start(lower, &[&[option], of_lower].concat());
    (primary, replica)
}

/// How often the primary has begun a synchronisation on two connections.
fn begun(primary: &Server) -> usize {
    let words = match primary.kind {
        Kind::Kindred => "a full sync on two channels is proposed",
        _ => "Full sync will continue with dedicated",
    };
    primary.log().lines().filter(|line| line.to_lowercase().contains(&words.to_lowercase())).count()
}

/// The client ids of the replica's connections at its primary: the stream's, then, if there is one, the snapshot's.
fn connections(primary: &Server) -> Vec<u64> {
    let list = primary.ok("CLIENT LIST TYPE replica").text();
    let mut ids: Vec<u64> = list
        .lines()
        .filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("id="))?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// Waits until both connections of a synchronisation are there.
fn wait_for_both(primary: &Server) -> [u64; 2] {
    wait_for(PATIENCE, "two connections", || connections(primary).len() == 2);
    connections(primary).try_into().expect("just seen")
}

/// All types, and a writer that goes on: the stream that was written during the transfer comes in full, and nothing
/// twice.
fn under_writes(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let (primary, replica) = start_pair(&mut bed, upper, lower, &[]);
    let mut client = primary.client();
    dataset::load(&mut client, 21);
    client.ok("DEBUG POPULATE 5000 filler 100");
    replica.ok("SET left-over value");
    let writer = Writer::start(primary.port, 22, Duration::from_millis(1));
    writer.wait_for_more(1000);

    replica.follow(primary.port);
    wait_for_both(&primary);
    let listed = client.info_number("replication", "connected_slaves");
    // Valkey counts connections.
    assert_eq!(listed, if upper == Kind::Valkey91 { 2 } else { 1 });
    writer.wait_for_more(5000);
    writer.pause();
    assert_same(&primary, &replica, "after a full sync on two connections");
    assert_same_expiries(&primary, &replica, "after a full sync on two connections");
    assert_eq!((begun(&primary), primary.syncs().full), (1, 1));
    wait_for(PATIENCE, "the end of the second connection", || connections(&primary).len() == 1);
    assert_eq!(client.info_number("replication", "connected_slaves"), 1);
    assert_eq!(client.ok("WAIT 1 1000").int(), 1);

    // The stream goes on as ever, and so does a replica that was away.
    writer.resume();
    writer.wait_for_more(5000);
    let stream = connections(&primary)[0];
    client.ok(&format!("CLIENT KILL ID {stream}"));
    writer.wait_for_more(5000);
    writer.pause();
    assert_same(&primary, &replica, "after a cut of the stream");
    assert_eq!((begun(&primary), primary.syncs().full), (1, 1), "a cut in the stream took a full sync");
}

/// Each of the two is cut in the middle of the snapshot: the replica keeps what it has, tries again, and gets there.
fn cut(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let (primary, replica) = start_pair(&mut bed, upper, lower, &[("repl-diskless-load", "swapdb")]);
    let mut client = primary.client();
    pour(&mut client, &mut Writes::new(23), 5000);
    client.ok("DEBUG POPULATE 5000 filler 100");
    let writer = Writer::start(primary.port, 24, Duration::from_millis(1));
    writer.wait_for_more(1000);

    replica.follow(primary.port);
    let mut before = Vec::new();
    for which in [0, 1, 0, 1] {
        wait_for(PATIENCE, "another attempt", || {
            let now = connections(&primary);
            now.len() == 2 && now.iter().all(|id| !before.contains(id))
        });
        thread::sleep(Duration::from_millis(200));
        before = wait_for_both(&primary).to_vec();
        client.ok(&format!("CLIENT KILL ID {}", before[which]));
        wait_for(PATIENCE, "the end of both", || connections(&primary).iter().all(|id| !before.contains(id)));
    }
    writer.wait_for_more(2000);
    writer.pause();
    assert_same(&primary, &replica, "after four cuts");
    assert!(begun(&primary) >= 5);
}

/// The primary is killed in the middle and comes back: nothing of the broken synchronisation is left.
fn primary_dies(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let (primary, replica) = start_pair(&mut bed, upper, lower, &[("repl-diskless-load", "swapdb")]);
    primary.ok("DEBUG POPULATE 5000 filler 100");
    primary.ok("SAVE");
    replica.follow(primary.port);
    wait_for_both(&primary);
    primary.ok("SET of-the-first life");
    thread::sleep(Duration::from_millis(200));
    let option = option(upper, lower);
    let primary = bed.revive(primary, &[option, ("rdb-key-save-delay", SAVE_DELAY_US)]);
    wait_for_both(&primary);
    primary.ok("SET of-the-second life");
    assert_same(&primary, &replica, "after the primary came back");
    assert_eq!(replica.ok("EXISTS of-the-first of-the-second").int(), 1);
}

/// The stream may wait for a snapshot up to the limit, and waits at the primary beyond it.
fn bounded(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let limit = ("replica-full-sync-buffer-limit", "1mb");
    let (primary, replica) = start_pair(&mut bed, upper, lower, &[limit]);
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 5000 filler 100");
    replica.follow(primary.port);
    wait_for_both(&primary);
    let value = "v".repeat(10_000);
    for index in 0..1000 {
        client.ok(&format!("SET large:{index} {value}"));
    }
    assert_same(&primary, &replica, "after more of the stream than may wait");
    assert!(replica.log().contains("which is the limit"), "the limit was not reached");
    let prefix = if upper == Kind::Redis82 { "replica_full_sync_buffer" } else { "replicas_repl_buffer" };
    let mut below = replica.client();
    assert_eq!(below.info_number("replication", &format!("{prefix}_size")), 0);
    let peak = below.info_number("replication", &format!("{prefix}_peak"));
    // What one read brings comes on top.
    assert!((1 << 20..2 << 20).contains(&peak), "{peak} bytes waited");
}

/// The modes of `repl-diskless-load`, a password, and data that is there before.
fn load_modes(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let option = option(upper, lower);
    let primary = bed.start(upper, &[option, ("requirepass", "pw"), ("rdb-key-save-delay", "50")]);
    primary.ok("DEBUG POPULATE 5000 filler 100");
    let writer = primary.client();
    let mut writer = writer;
    for mode in ["disabled", "on-empty-db", "swapdb", "flush-before-load", "serving"] {
        let replica = bed.start(lower, &[option, ("masterauth", "pw"), ("repl-diskless-load", mode)]);
        replica.ok("SET left-over value");
        let before = begun(&primary);
        replica.follow(primary.port);
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(700) {
            writer.ok("INCR counter");
            writer.ok("SELECT 3");
            writer.ok("INCR counter");
            writer.ok("SELECT 0");
        }
        assert_same(&primary, &replica, mode);
        assert_eq!(begun(&primary), before + 1, "{mode}");
    }
}

/// A replica of a replica: what it is sent is relayed, and goes on in the database that the stream is in.
fn chained(middle: Kind, lower: Kind) {
    let upper = if middle == Kind::Kindred { lower } else { middle };
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, middle, lower]) else { return };
    let option = option(middle, lower);
    let primary = bed.start(upper, &[option]);
    let middle = bed.start(middle, &[option, ("rdb-key-save-delay", SAVE_DELAY_US)]);
    primary.ok("DEBUG POPULATE 5000 filler 100");
    let mut client = primary.client();
    client.ok("SELECT 5");
    client.ok("SET in-five value");
    middle.follow(primary.port);
    assert_same(&primary, &middle, "in the middle");
    client.ok("INCR counter");
    assert_same(&primary, &middle, "in the middle, in the fifth database");
    let before = begun(&middle);
    let replica = bed.start(lower, &[option]);
    replica.follow(middle.port);
    wait_for_both(&middle);
    // No SELECT is sent for it.
    for _ in 0..100 {
        client.ok("INCR counter");
    }
    assert_same(&middle, &replica, "below");
    assert_same(&primary, &replica, "at the end of the chain");
    assert_eq!(begun(&middle), before + 1);
}

/// Cuts anywhere in either connection, in the handshakes, the snapshot and the stream, where nearly every one costs a full
/// synchronisation.
fn storm(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(240), &[upper, lower]) else { return };
    let option = option(upper, lower);
    let primary = bed.start(upper, &[option, ("repl-backlog-size", "16384")]);
    let replica = bed.start(lower, &[option]);
    primary.ok("DEBUG POPULATE 300 filler 100");
    let proxy = Proxy::to(primary.port);
    let writer = Writer::start(primary.port, 25, Duration::from_millis(2));
    for round in 0..4 {
        proxy.storm(round);
        replica.follow(proxy.port);
        let goal = proxy.cuts() + 25;
        wait_for(PATIENCE, "cuts", || proxy.cuts() >= goal);
        proxy.calm();
        writer.pause();
        assert_same(&primary, &replica, &format!("after {} cuts", proxy.cuts()));
        writer.resume();
    }
    assert!(begun(&primary) > 10, "{} synchronisations on two connections", begun(&primary));
}

mod under_writes {
    crate::peers::pairs!(super::under_writes;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod cut {
    crate::peers::pairs!(super::cut;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod primary_dies {
    crate::peers::pairs!(super::primary_dies;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod bounded {
    crate::peers::pairs!(super::bounded;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod load_modes {
    crate::peers::pairs!(super::load_modes;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
    );
}

mod chained {
    crate::peers::pairs!(super::chained;
        through_kindred_to_valkey91: Kindred, Valkey91;
        through_kindred_to_redis82: Kindred, Redis82;
        through_kindred_to_kindred: Kindred, Kindred;
        through_valkey91_to_kindred: Valkey91, Kindred;
        through_redis82_to_kindred: Redis82, Kindred;
    );
}

mod storm {
    crate::peers::pairs!(super::storm;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}
