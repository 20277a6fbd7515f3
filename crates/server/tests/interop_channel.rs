//! Full synchronisation on two connections, as Valkey (`dual-channel-replication-enabled`) and Redis 8
//! (`repl-rdb-channel`) have it: the snapshot comes on one while the stream comes on the other.

mod peers;

use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, assert_same_expiries};
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Kind, Server, dataset};

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

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}: not within half a minute");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until both connections of a synchronisation are there.
fn wait_for_both(primary: &Server) -> [u64; 2] {
    wait_for("two connections", || connections(primary).len() == 2);
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
    wait_for("the end of the second connection", || connections(&primary).len() == 1);
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
        wait_for("another attempt", || {
            let now = connections(&primary);
            now.len() == 2 && now.iter().all(|id| !before.contains(id))
        });
        thread::sleep(Duration::from_millis(200));
        before = wait_for_both(&primary).to_vec();
        client.ok(&format!("CLIENT KILL ID {}", before[which]));
        wait_for("the end of both", || connections(&primary).iter().all(|id| !before.contains(id)));
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

macro_rules! channels {
    ($scenario:path; $($name:ident: $primary:ident, $replica:ident;)+) => {
        crate::peers::pairs!($scenario; $($name: $primary, $replica;)+);
    };
}

mod under_writes {
    channels!(super::under_writes;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod cut {
    channels!(super::cut;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}

mod primary_dies {
    channels!(super::primary_dies;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_redis82: Kindred, Redis82;
        valkey91_to_kindred: Valkey91, Kindred;
        redis82_to_kindred: Redis82, Kindred;
        kindred_to_kindred: Kindred, Kindred;
    );
}
