//! The backlog on disk: real replicas that were away, or read nothing, for longer than memory lasts go on where they
//! stood.

mod peers;

use std::time::{Duration, Instant};

use peers::agree::{assert_same, wait_caught_up};
use peers::{Batch, Bed, Kind, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory for a thousandth of what is written, and a disk for all of it.
const SETTINGS: [(&str, &str); 2] = [("repl-backlog-size", "100kb"), ("repl-backlog-disk-size", "512mb")];

/// Values that the stream has once each.
fn write(server: &Server, megabytes: usize, mark: &str) {
    let mut client = server.client();
    for index in 0..megabytes * 10 {
        let mut batch = Batch::new();
        for part in 0..10 {
            let value = format!("{mark}:{index}:{part}:").repeat(10_000 / (mark.len() + 7));
            batch.push(&["SET", &format!("key:{}", (index * 10 + part) % 1_000), &value]);
        }
        client.batch_ok(&batch);
    }
}

fn buffers(server: &Server) -> i64 {
    server.info_number("memory", "mem_total_replication_buffers")
}

/// What memory has no room for is on the disk, but for a few blocks that are near the replica.
fn wait_for_disk(primary: &Server) {
    wait_for(PATIENCE, "the disk", || buffers(primary) < 8_000_000);
}

fn is_up(replica: &Server) -> bool {
    replica.client().info("replication")["master_link_status"] == "up"
}

/// The replica stands still for so long that its link is cut; what it lacks is on the disk when it comes back.
fn comes_back(kind: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[kind]) else { return };
    let primary = bed.start(Kind::Kindred, &[SETTINGS[0], SETTINGS[1], ("repl-timeout", "2")]);
    let replica = bed.start(kind, &[]);
    replica.follow(primary.port);
    write(&primary, 1, "before");
    wait_caught_up(&primary, &replica);
    replica.stop();
    write(&primary, 20, "stopped");
    wait_for(PATIENCE, "the end of the link", || primary.info_number("replication", "connected_slaves") == 0);
    write(&primary, 20, "away");
    wait_for_disk(&primary);
    let on_disk = primary.info_number("replication", "repl_backlog_disk_histlen");
    assert!(on_disk > 30_000_000, "{on_disk}");
    let files = std::fs::read_dir(&primary.dir).expect("the directory of the data");
    let named = files.filter(|file| {
        file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().contains("backlog"))
    });
    assert_eq!(named.count(), 0, "the file has no name");
    replica.resume();
    wait_for(PATIENCE, "the link", || is_up(&replica));
    write(&primary, 2, "after");
    assert_same(&primary, &replica, "after it has come back");
    let syncs = primary.syncs();
    assert_eq!((syncs.full, syncs.partial), (1, 1), "{}", primary.log());
}

/// The replica reads nothing for a while and keeps its link: neither is it dropped, nor does the memory grow.
fn reads_late(kind: Kind, settings: &[(&str, &str)], megabytes: usize) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[kind]) else { return };
    let (primary, replica) = (bed.start(Kind::Kindred, settings), bed.start(kind, &[]));
    replica.follow(primary.port);
    write(&primary, 1, "before");
    wait_caught_up(&primary, &replica);
    replica.stop();
    for _ in 0..megabytes / 10 {
        write(&primary, 10, "late");
        wait_for_disk(&primary);
    }
    replica.resume();
    assert_same(&primary, &replica, "after it has read on");
    let syncs = primary.syncs();
    assert_eq!((syncs.full, syncs.partial), (1, 0), "{}", primary.log());
    wait_for(PATIENCE, "less memory", || buffers(&primary) < 2_000_000);
}

mod a_replica_that_was_away_continues_from_the_disk {
    use super::*;

    #[test]
    fn redis70() {
        comes_back(Kind::Redis70);
    }

    #[test]
    fn redis82() {
        comes_back(Kind::Redis82);
    }

    #[test]
    fn valkey91() {
        comes_back(Kind::Valkey91);
    }

    #[test]
    fn kindred() {
        comes_back(Kind::Kindred);
    }
}

mod a_replica_that_reads_late_is_not_dropped {
    use super::*;

    #[test]
    fn redis70() {
        reads_late(Kind::Redis70, &SETTINGS, 100);
    }

    #[test]
    fn kindred() {
        reads_late(Kind::Kindred, &SETTINGS, 100);
    }

    /// More than the 256 MB after which Redis drops it; the settings are the default ones.
    #[test]
    fn where_no_disk_was_asked_for() {
        reads_late(Kind::Redis70, &[("repl-backlog-size", "1mb")], 300);
    }
}

/// There is no place for the file for a while. Clients and replicas see nothing of it; the window is shorter.
#[test]
fn a_disk_that_fails_costs_the_window_alone() {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[Kind::Redis70]) else { return };
    let settings = [SETTINGS[0], SETTINGS[1], ("enable-protected-configs", "yes")];
    let (primary, replica) = (bed.start(Kind::Kindred, &settings), bed.start(Kind::Redis70, &[]));
    let gone = primary.dir.join("gone");
    std::fs::create_dir(&gone).expect("a directory");
    primary.ok(&format!("CONFIG SET dir {}", gone.display()));
    replica.follow(primary.port);
    primary.ok("SET a 1");
    wait_caught_up(&primary, &replica);
    std::fs::remove_dir(&gone).expect("nothing is in it");
    write(&primary, 10, "lost");
    wait_caught_up(&primary, &replica);
    wait_for(PATIENCE, "a shorter window", || {
        let info = primary.client().info("replication");
        info["repl_backlog_disk_status"] == "failed" && info["repl_backlog_disk_histlen"] == "0"
    });
    wait_for(PATIENCE, "less memory", || buffers(&primary) < 2_000_000);
    std::fs::create_dir(&gone).expect("a directory");
    wait_for(PATIENCE, "the disk", || {
        write(&primary, 1, "again");
        primary.client().info("replication")["repl_backlog_disk_status"] == "ok"
            && primary.info_number("replication", "repl_backlog_disk_histlen") > 0
    });
    assert_same(&primary, &replica, "whatever became of the disk");
    let log = primary.log();
    assert_eq!(log.matches("Can't keep the replication log on the disk").count(), 1, "{log}");
    assert_eq!(log.matches("The replication log is kept on the disk again").count(), 1, "{log}");
    assert_eq!(primary.syncs().full, 1);
}

/// The backlog holds as much as a time needs, and a replica that was away for less continues.
#[test]
fn a_backlog_of_seconds_holds_what_was_written_in_them() {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[Kind::Redis70]) else { return };
    let settings = [("repl-backlog-size", "16kb"), ("repl-backlog-seconds", "3"), ("repl-timeout", "1")];
    let (primary, replica) = (bed.start(Kind::Kindred, &settings), bed.start(Kind::Redis70, &[]));
    replica.follow(primary.port);
    primary.ok("SET a 1");
    wait_caught_up(&primary, &replica);
    replica.stop();
    let since = Instant::now();
    write(&primary, 10, "within");
    wait_for(PATIENCE, "the end of the link", || primary.info_number("replication", "connected_slaves") == 0);
    let took = since.elapsed();
    replica.resume();
    wait_for(PATIENCE, "the link", || is_up(&replica));
    assert_same(&primary, &replica, "after it has come back");
    let syncs = primary.syncs();
    if took < Duration::from_millis(2_500) {
        assert_eq!((syncs.full, syncs.partial), (1, 1), "{}", primary.log());
    }
    // Time goes by, and lets go of it.
    wait_for(PATIENCE, "a shorter window", || {
        primary.ok("SET a 1");
        primary.info_number("replication", "repl_backlog_histlen") < 200_000
    });
}
