//! Heartbeats cross real replicas without a trace, and both sides tell how far behind a replica is, and why it was
//! synchronised in full.

mod peers;

use std::thread;
use std::time::Duration;

use peers::agree::{assert_same, wait_caught_up};
use peers::{Bed, Kind, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// So that a second has many.
const OFTEN: (&str, &str) = ("repl-heartbeat-period-ms", "10");

fn fields(server: &Server, name: &str) -> std::collections::HashMap<String, String> {
    let line = server.client().info("replication")[name].clone();
    line.split(',')
        .filter_map(|part| part.split_once('='))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

/// Kindred, a real replica, and Kindred behind that.
fn chain(middle: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[middle]) else { return };
    let (first, second) = (bed.start(Kind::Kindred, &[OFTEN]), bed.start(middle, &[]));
    let third = bed.start(Kind::Kindred, &[]);
    first.ok("SET a 1");
    second.follow(first.port);
    wait_for(PATIENCE, "the first link", || {
        second.client().info("replication")["master_link_status"] == "up"
    });
    third.follow(second.port);
    wait_for(PATIENCE, "the second link", || {
        third.client().info("replication")["master_link_status"] == "up"
    });

    let before = first.info_number("replication", "master_repl_offset");
    thread::sleep(Duration::from_millis(1500));
    let beaten = (first.info_number("replication", "master_repl_offset") - before) / 42;
    assert!((30..=200).contains(&beaten), "{beaten} heartbeats in 1.5 s");
    let mut client = first.client();
    for command in ["MULTI", "SET b 2", "INCR c", "EXEC", "SELECT 3", "SET d 4"] {
        client.ok(command);
    }
    // At the end of the chain, the clock of its beginning.
    wait_for(PATIENCE, "the heartbeat", || third.info_number("replication", "repl_lag_ms") >= 0);
    for _ in 0..20 {
        let lag = third.info_number("replication", "repl_lag_ms");
        let staleness = third.info_number("replication", "repl_staleness_ms");
        assert!((0..5_000).contains(&lag) && (0..5_000).contains(&staleness), "{lag} {staleness}");
        thread::sleep(Duration::from_millis(10));
    }
    first.ok("CONFIG SET repl-heartbeat-period-ms 0");
    assert_same(&first, &second, "after many heartbeats");
    assert_same(&first, &third, "at the end of the chain");
    for server in [&second, &third] {
        assert_eq!(server.info_number("stats", "unexpected_error_replies"), 0, "{}", server.kind.name());
        assert!(!server.log().contains("== CRITICAL =="), "{}", server.log());
    }
    assert_eq!(first.syncs().full, 1);
}

mod heartbeats_cross {
    use super::*;

    #[test]
    fn redis70() {
        chain(Kind::Redis70);
    }

    #[test]
    fn redis82() {
        chain(Kind::Redis82);
    }

    #[test]
    fn valkey91() {
        chain(Kind::Valkey91);
    }

    #[test]
    fn kindred() {
        chain(Kind::Kindred);
    }
}

#[test]
fn without_replicas_or_with_rare_pings_nothing_is_written() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[]) else { return };
    let (primary, replica) = (bed.start(Kind::Kindred, &[]), bed.start(Kind::Kindred, &[]));
    primary.ok("CONFIG SET repl-ping-replica-period 3600");
    replica.follow(primary.port);
    primary.ok("SET a 1");
    let offset = wait_caught_up(&primary, &replica);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(primary.info_number("replication", "master_repl_offset"), offset);
    primary.ok("CONFIG SET repl-heartbeat-period-ms 20");
    wait_for(PATIENCE, "a heartbeat", || primary.info_number("replication", "master_repl_offset") > offset);
    replica.promote();
    wait_for(PATIENCE, "the end of the link", || primary.info_number("replication", "connected_slaves") == 0);
    let offset = primary.info_number("replication", "master_repl_offset");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(primary.info_number("replication", "master_repl_offset"), offset);
}

/// A replica that is stopped for a while, and one that works.
#[test]
fn lag_is_told_in_milliseconds_on_both_sides() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[]) else { return };
    let (primary, replica) = (bed.start(Kind::Kindred, &[OFTEN]), bed.start(Kind::Kindred, &[]));
    replica.follow(primary.port);
    primary.ok("SET a 1");
    wait_caught_up(&primary, &replica);
    let number = |name: &str| fields(&primary, "repl_replica0")[name].parse::<i64>().expect("a number");
    wait_for(PATIENCE, "little lag", || (0..200).contains(&number("lag_ms")));
    let asleep = replica.port;
    let sleeper = thread::spawn(move || {
        peers::Client::connect(asleep).expect("a connection").ok("DEBUG SLEEP 1.5");
    });
    thread::sleep(Duration::from_millis(200));
    primary.ok("SET b 2");
    thread::sleep(Duration::from_millis(900));
    let (lag, bytes) = (number("lag_ms"), number("lag_bytes"));
    assert!((850..1_400).contains(&lag), "{lag} ms behind after 1.1 s");
    assert!(bytes > 42 * 10, "{bytes} bytes behind");
    sleeper.join().expect("the sleeper wakes");
    wait_for(PATIENCE, "little lag again", || (0..200).contains(&number("lag_ms")));
    wait_for(PATIENCE, "little lag at the replica", || {
        replica.info_number("replication", "repl_lag_ms") < 200
    });
    assert!(primary.info_number("replication", "repl_backlog_seconds") >= 1);
}

/// The backlog is too small, and both sides say by how much.
#[test]
fn causes_are_told_on_both_sides() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[]) else { return };
    let primary = bed.start(Kind::Kindred, &[("repl-backlog-size", "16384")]);
    let replica = bed.start(Kind::Kindred, &[]);
    replica.follow(primary.port);
    primary.ok("SET a 1");
    wait_caught_up(&primary, &replica);
    let mut sleeper = replica.client();
    let asleep = thread::spawn(move || sleeper.ok("DEBUG SLEEP 1"));
    thread::sleep(Duration::from_millis(200));
    primary.ok("CLIENT KILL TYPE replica");
    let big = "x".repeat(1_000_000);
    primary.client().argv(&["SET", "big", &big]);
    primary.client().argv(&["SET", "big", &big]);
    primary.ok("SET small 1");
    asleep.join().expect("the sleeper wakes");
    wait_caught_up(&primary, &replica);
    for (server, side) in [(&primary, "served"), (&replica, "received")] {
        let info = server.client().info("replication");
        let causes = &info[&format!("repl_full_syncs_{side}_causes")];
        assert_eq!(causes, "no-position=1,backlog-too-small=1", "{side}");
        let last = &info[&format!("repl_full_syncs_{side}_last")];
        assert!(last.contains("a repl-backlog-size of 20"), "{last}");
    }
    let served = primary.ok("REPL WHY").array()[3].clone().array();
    let newest = served[5].clone().array()[0].clone().array();
    assert_eq!((newest[4].text().as_str(), newest[5].text().as_str()), ("cause", "backlog-too-small"));
    let (missing, enough) = (newest[13].int(), newest[15].int());
    assert!(missing > 1_900_000 && enough >= missing + 16_384, "{missing} missing, {enough} enough");
}
