//! A primary that restarts without its data does not take its replica's with it, whoever made the primary.

mod peers;

use std::thread;
use std::time::Duration;

use peers::agree::{assert_same_data, wait_caught_up};
use peers::{Bed, Kind, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const KEYS: i64 = 1000;

fn is_holding(replica: &Server) -> bool {
    replica.client().info("replication").get("repl_guard").is_some_and(|status| status == "holding")
}

fn follow_with_data(primary: &Server, replica: &Server) {
    primary.ok(&format!("DEBUG POPULATE {KEYS}"));
    replica.follow(primary.port);
    wait_caught_up(primary, replica);
    // So that the position is beyond that of any empty history.
    primary.ok("SET last written");
    wait_caught_up(primary, replica);
}

fn empty_primary(kind: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[kind]) else { return };
    let (primary, replica) = (bed.start(kind, &[]), bed.start(Kind::Kindred, &[]));
    let below = bed.start(Kind::Kindred, &[]);
    follow_with_data(&primary, &replica);
    below.follow(replica.port);
    wait_caught_up(&replica, &below);
    primary.ok("SAVE");
    let backup = primary.dir.join("backup.rdb");
    std::fs::copy(primary.dir.join("dump.rdb"), &backup).expect("a backup");

    let primary = bed.reborn(primary, None, &[]);
    wait_for(PATIENCE, "the guard", || is_holding(&replica));
    for n in 0..KEYS {
        primary.ok(&format!("SET new:{n} x"));
    }
    // It has looked again meanwhile, without a word and without a snapshot.
    thread::sleep(Duration::from_secs(6));
    assert!(is_holding(&replica), "what was refused has grown, and is followed");
    assert_eq!(primary.syncs().full, 0, "a snapshot was begun for nothing");
    let info = replica.client().info("replication");
    assert_eq!((info["role"].as_str(), info["master_link_status"].as_str()), ("slave", "down"));
    assert!(info["repl_guard_reason"].contains("1001 keys"), "{}", info["repl_guard_reason"]);
    assert_eq!(replica.ok("ROLE").array()[3].text(), "guarded");
    assert_eq!(replica.ok("DBSIZE").int(), KEYS + 1);
    assert_eq!(below.ok("DBSIZE").int(), KEYS + 1);
    assert_eq!(replica.log().matches("refused, since it would wipe this replica").count(), 1);

    // The primary gets its data back, from a file, and is followed again of itself.
    let primary = bed.reborn(primary, Some(&backup), &[]);
    primary.ok("SET after restore");
    wait_for(PATIENCE, "the link", || replica.client().info("replication")["master_link_status"] == "up");
    wait_caught_up(&primary, &replica);
    assert_same_data(&primary, &replica, "after the restore");
    assert_eq!(replica.client().info("replication")["repl_guard"], "on");

    // Empty once more; now that is meant, and said.
    let primary = bed.reborn(primary, None, &[]);
    wait_for(PATIENCE, "the guard", || is_holding(&replica));
    assert_eq!(replica.ok("DBSIZE").int(), KEYS + 2);
    replica.follow(primary.port);
    wait_for(PATIENCE, "the link", || replica.client().info("replication")["master_link_status"] == "up");
    assert_eq!(replica.ok("DBSIZE").int(), 0);
    wait_for(PATIENCE, "the chain", || below.ok("DBSIZE").int() == 0);
}

mod empty {
    use super::*;

    #[test]
    fn redis70() {
        empty_primary(Kind::Redis70);
    }

    #[test]
    fn redis82() {
        empty_primary(Kind::Redis82);
    }

    #[test]
    fn valkey91() {
        empty_primary(Kind::Valkey91);
    }

    #[test]
    fn kindred() {
        empty_primary(Kind::Kindred);
    }
}

/// As with Redis, when that is asked for.
#[test]
fn the_guard_can_be_switched_off() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[]) else { return };
    let (primary, replica) = (bed.start(Kind::Kindred, &[]), bed.start(Kind::Kindred, &[]));
    follow_with_data(&primary, &replica);
    replica.ok("CONFIG SET replica-guard-empty-primary no");
    let _primary = bed.reborn(primary, None, &[]);
    wait_for(PATIENCE, "the link", || replica.client().info("replication")["master_link_status"] == "up");
    wait_for(PATIENCE, "the new data set", || replica.ok("DBSIZE").int() == 0);
}

/// Neither the user of the link may ask for INFO, nor does the primary know the history: its age decides.
#[test]
fn a_primary_that_may_not_be_asked_is_judged_by_its_answer() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[Kind::Redis70]) else { return };
    let options = [("user", "repl on >secret +psync +replconf +ping")];
    let primary = bed.start(Kind::Redis70, &options);
    let replica = bed.start(Kind::Kindred, &[("masteruser", "repl"), ("masterauth", "secret")]);
    follow_with_data(&primary, &replica);
    let primary = bed.reborn(primary, None, &options);
    wait_for(PATIENCE, "the guard", || is_holding(&replica));
    assert_eq!(replica.ok("DBSIZE").int(), KEYS + 1);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(primary.syncs().full, 1);
}

/// A replica that starts from its file, while its primary has started from none.
#[test]
fn a_restarted_replica_keeps_its_data() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[Kind::Redis70]) else { return };
    let (primary, replica) = (bed.start(Kind::Redis70, &[]), bed.start(Kind::Kindred, &[]));
    follow_with_data(&primary, &replica);
    replica.shut_down(true);
    let primary = bed.reborn(primary, None, &[]);
    let address = format!("127.0.0.1 {}", primary.port);
    let replica = bed.restart(replica, &[("replicaof", &address)]);
    wait_for(PATIENCE, "the guard", || is_holding(&replica));
    assert_eq!(replica.ok("DBSIZE").int(), KEYS + 1);
}

/// Neither a first synchronisation with an empty primary, nor one that is asked for by name, nor a promotion.
#[test]
fn what_is_meant_is_done() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[]) else { return };
    let [first, second, third, empty] = [0; 4].map(|_| bed.start(Kind::Kindred, &[]));
    follow_with_data(&first, &second);
    third.follow(first.port);
    wait_caught_up(&first, &third);
    // As Sentinel does it.
    first.kill();
    second.promote();
    third.follow(second.port);
    second.ok("SET promoted yes");
    wait_caught_up(&second, &third);
    assert_eq!(second.syncs().full, 0);
    // Another primary, with nothing, by name; and through the chain.
    third.follow(second.port);
    second.follow(empty.port);
    wait_for(PATIENCE, "the new data set", || second.ok("DBSIZE").int() == 0);
    wait_for(PATIENCE, "the chain", || third.ok("DBSIZE").int() == 0);
}
