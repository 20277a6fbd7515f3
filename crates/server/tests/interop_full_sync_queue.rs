//! Full synchronisations that wait for their turn (`repl-full-sync-max`) and go out at a rate (`repl-full-sync-rate`), with
//! real replicas: from a file, to their sockets, and on two connections.

mod peers;

use std::time::{Duration, Instant};

use peers::agree::{assert_same, wait_caught_up};
use peers::writes::Writer;
use peers::{Bed, Client, Kind, Server, dataset, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);

const KINDS: [Kind; 4] = [Kind::Redis70, Kind::Redis82, Kind::Valkey91, Kind::Kindred];

/// How the snapshots are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    Sockets,
    TwoConnections,
}

impl Way {
    fn of_primary(self) -> Vec<(&'static str, &'static str)> {
        let diskless = if self == Way::File { "no" } else { "yes" };
        let two = if self == Way::TwoConnections { "yes" } else { "no" };
        vec![
            ("repl-diskless-sync", diskless),
            ("repl-rdb-channel", two),
            ("dual-channel-replication-enabled", two),
        ]
    }

    /// What a replica of this kind needs to be told.
    fn of_replica(self, kind: Kind) -> Vec<(&'static str, &'static str)> {
        match (self, kind) {
            (Way::TwoConnections, Kind::Redis82) => vec![("repl-rdb-channel", "yes")],
            (Way::TwoConnections, Kind::Valkey91 | Kind::Kindred) => {
                vec![("dual-channel-replication-enabled", "yes")]
            }
            _ => Vec::new(),
        }
    }
}

fn start_primary(bed: &mut Bed, way: Way, settings: &[(&str, &str)]) -> Server {
    bed.start(Kind::Kindred, &[&way.of_primary(), settings].concat())
}

fn running(client: &mut Client) -> i64 {
    client.info_number("replication", "repl_full_syncs_running")
}

fn queued(client: &mut Client) -> i64 {
    client.info_number("replication", "repl_full_syncs_queued")
}

/// What the log tells of snapshots: `+` where one begins, `-` where a replica has been sent one.
fn course(primary: &Server) -> String {
    let log = primary.log();
    // With a streamed one the other line is a second one about its end.
    let end = match log.contains("target: replicas sockets") {
        true => "Streamed RDB transfer with replica",
        false => "Synchronization with replica",
    };
    let marks = log.lines().filter_map(|line| match line {
        line if line.contains("Starting BGSAVE for SYNC") => Some('+'),
        line if line.contains(end) => Some('-'),
        _ => None,
    });
    marks.collect()
}

/// Replicas of every make come at once, while a writer goes on, and there is one place.
fn all_at_once(way: Way) {
    let Some(mut bed) = Bed::new(Duration::from_secs(240), &KINDS) else { return };
    let settings = [("repl-full-sync-max", "1"), ("rdb-key-save-delay", "200")];
    let primary = start_primary(&mut bed, way, &settings);
    let replicas: Vec<Server> = KINDS.iter().map(|kind| bed.start(*kind, &way.of_replica(*kind))).collect();
    let mut client = primary.client();
    dataset::load(&mut client, 31);
    client.ok("DEBUG POPULATE 5000 filler 100");
    let writer = Writer::start(primary.port, 32, Duration::from_millis(1));
    writer.wait_for_more(1000);
    replicas.iter().for_each(|replica| replica.follow(primary.port));
    let mut most_queued = 0;
    wait_for(PATIENCE, "the last of them", || {
        let info = client.info("replication");
        let number = |name: &str| info[name].parse::<usize>().expect("a number");
        assert!(number("repl_full_syncs_running") <= 1, "{info:?}");
        let waiting = (0..KINDS.len()).filter(|n| {
            info.get(&format!("slave{n}")).is_some_and(|line| line.contains("state=wait_bgsave"))
        });
        assert!(number("repl_full_syncs_queued") <= waiting.count(), "{info:?}");
        most_queued = most_queued.max(number("repl_full_syncs_queued"));
        course(&primary).matches('-').count() == KINDS.len()
    });
    assert!(most_queued >= 2, "{most_queued} have waited at once: nothing is shown");
    writer.wait_for_more(1000);
    writer.pause();
    for replica in &replicas {
        assert_same(&primary, replica, "after its turn");
    }
    assert_eq!(course(&primary), "+-+-+-+-", "{}", primary.log());
    assert_eq!(primary.syncs().full, 4);
    let log = primary.log();
    let queued = log.matches("has to wait for its full sync").count();
    assert!(queued >= 2, "{log}");
    assert_eq!(log.matches("seconds of waiting for its turn").count(), queued, "each was admitted");
    if way == Way::TwoConnections {
        assert_eq!(log.matches("a full sync on two channels is proposed").count(), 3, "{log}");
    }
}

mod one_after_another {
    use super::*;

    #[test]
    fn from_a_file() {
        all_at_once(Way::File);
    }

    #[test]
    fn to_their_sockets() {
        all_at_once(Way::Sockets);
    }

    #[test]
    fn on_two_connections() {
        all_at_once(Way::TwoConnections);
    }
}

/// The limit is raised while four wait: two are admitted at once and share a snapshot, or that of the one before them if it
/// is still being written.
#[test]
fn those_who_are_admitted_together_share_a_snapshot() {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[Kind::Redis70]) else { return };
    let settings = [("repl-full-sync-max", "1"), ("rdbcompression", "no")];
    let primary = start_primary(&mut bed, Way::File, &settings);
    let replicas: Vec<Server> = (0..4).map(|_| bed.start(Kind::Redis70, &[])).collect();
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 400 filler 100000");
    let _stuck = one_that_hangs(&primary);
    replicas.iter().for_each(|replica| replica.follow(primary.port));
    wait_for(PATIENCE, "the queue", || queued(&mut client) == 4);
    client.ok("CONFIG SET repl-full-sync-max 3");
    for replica in &replicas {
        assert_same(&primary, replica, "after its turn");
    }
    let begun = primary.log().matches("Starting BGSAVE for SYNC").count();
    assert!((2..=4).contains(&begun), "{begun} snapshots for one, two and two:\n{}", primary.log());
    assert_eq!((primary.syncs().full, running(&mut client)), (5, 1));
}

/// Asks for a snapshot and reads nothing of it.
fn one_that_hangs(primary: &Server) -> Client {
    let mut stuck = primary.client();
    stuck.ok("REPLCONF capa eof capa psync2");
    stuck.send_only("PSYNC ? -1");
    wait_for(PATIENCE, "the one that hangs", || running(&mut primary.client()) == 1);
    stuck
}

/// Something that asks for a snapshot and reads nothing of it has the only place; a real replica waits for longer than its
/// own patience, and gets its turn when that of the primary is at its end.
fn behind_one_that_hangs(kind: Kind, way: Way) {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[kind]) else { return };
    let settings = [("repl-full-sync-max", "1"), ("repl-timeout", "9"), ("rdbcompression", "no")];
    let primary = start_primary(&mut bed, way, &settings);
    let patience = [("repl-timeout", "5")];
    let replica = bed.start(kind, &[&way.of_replica(kind)[..], &patience].concat());
    let mut client = primary.client();
    // More than the sockets take.
    client.ok("DEBUG POPULATE 400 filler 100000");
    let _stuck = one_that_hangs(&primary);
    replica.follow(primary.port);
    wait_for(PATIENCE, "the queue", || queued(&mut client) == 1);
    let info = client.info("replication");
    assert!(info["slave1"].contains("state=wait_bgsave"), "{info:?}");
    client.ok("SET while-it-waits 1");
    assert_same(&primary, &replica, "after its turn");
    let log = primary.log();
    assert_eq!(log.matches("Disconnecting timedout replica (full sync)").count(), 1, "{log}");
    assert_eq!(log.matches("seconds of waiting for its turn").count(), 1, "{log}");
    assert_eq!(primary.syncs().full, 2, "it was kept alive while it waited:\n{log}");
}

mod one_that_hangs_delays_the_others_no_longer_than_the_timeout {
    use super::*;

    #[test]
    fn redis70_from_a_file() {
        behind_one_that_hangs(Kind::Redis70, Way::File);
    }

    #[test]
    fn redis82_on_two_connections() {
        behind_one_that_hangs(Kind::Redis82, Way::TwoConnections);
    }

    #[test]
    fn valkey91_on_two_connections() {
        behind_one_that_hangs(Kind::Valkey91, Way::TwoConnections);
    }

    #[test]
    fn kindred_to_its_socket() {
        behind_one_that_hangs(Kind::Kindred, Way::Sockets);
    }

    #[test]
    fn kindred_on_two_connections() {
        behind_one_that_hangs(Kind::Kindred, Way::TwoConnections);
    }
}

/// Two replicas and 4 MB for each, at 2 MB a second in all: it cannot be done sooner, and it is done.
fn at_a_rate(kind: Kind, way: Way) {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[kind]) else { return };
    let settings = [("repl-full-sync-rate", "2mb"), ("rdbcompression", "no")];
    let primary = start_primary(&mut bed, way, &settings);
    let replicas = [0, 1].map(|_| bed.start(kind, &way.of_replica(kind)));
    let mut client = primary.client();
    client.ok("DEBUG POPULATE 40 filler 100000");
    let writer = Writer::start(primary.port, 41, Duration::from_millis(1));
    writer.wait_for_more(100);
    let since = Instant::now();
    replicas.iter().for_each(|replica| replica.follow(primary.port));
    writer.wait_for_more(100);
    writer.pause();
    for replica in &replicas {
        wait_caught_up(&primary, replica);
    }
    // 8 million bytes but for what is saved up; faster than that the clock would have to be wrong.
    assert!(since.elapsed() > Duration::from_millis(3_500), "{:?}", since.elapsed());
    for replica in &replicas {
        assert_same(&primary, replica, "at its rate");
    }
    let log = primary.log();
    assert!(!log.contains("timedout"), "{log}");
}

mod snapshots_go_out_at_the_rate {
    use super::*;

    #[test]
    fn redis70_from_a_file() {
        at_a_rate(Kind::Redis70, Way::File);
    }

    #[test]
    fn redis82_on_two_connections() {
        at_a_rate(Kind::Redis82, Way::TwoConnections);
    }

    #[test]
    fn valkey91_on_two_connections() {
        at_a_rate(Kind::Valkey91, Way::TwoConnections);
    }

    #[test]
    fn kindred_to_its_socket() {
        at_a_rate(Kind::Kindred, Way::Sockets);
    }
}

/// A replica in the middle has a queue of its own, and what waits there comes to the end with the rest.
#[test]
fn the_replicas_of_a_replica_wait_for_their_turn_too() {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[Kind::Redis70, Kind::Valkey91]) else { return };
    let primary = bed.start(Kind::Redis70, &[]);
    let settings = [("repl-full-sync-max", "1"), ("rdb-key-save-delay", "200")];
    let middle = start_primary(&mut bed, Way::Sockets, &settings);
    let below = [Kind::Redis70, Kind::Valkey91, Kind::Kindred].map(|kind| bed.start(kind, &[]));
    primary.ok("DEBUG POPULATE 5000 filler 100");
    middle.follow(primary.port);
    wait_caught_up(&primary, &middle);
    below.iter().for_each(|replica| replica.follow(middle.port));
    let mut client = middle.client();
    wait_for(PATIENCE, "the queue", || queued(&mut client) > 0);
    primary.ok("SET while-they-wait 1");
    for replica in &below {
        assert_same(&primary, replica, "below the one in the middle");
    }
    assert_eq!(course(&middle), "+-+-+-", "{}", middle.log());
}
