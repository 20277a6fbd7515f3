//! The part of the log that lies on the disk (`repl-backlog-disk-size`, `repl-lag-disk-size`).
//!
//! [`log::Log`] decides which blocks go to the file and which come back; here it is told what replicas need, and what has
//! become of the disk. Nobody waits for the disk: a replica whose cursor lies in the file is sent something when it was
//! read. A disk that does not work makes the backlog shorter and is tried again; data that clients see is not concerned.

use log::DiskState;
use replication::Millis;
use replication::primary::oldest_pinned;
use replication::replica_link::ReplicaLink;

use crate::core::Core;
use crate::node::Node;

/// For how long the log does without a disk that has failed.
const RETRY: Millis = Millis::from_secs(10);

/// What is known of a disk that has failed.
#[derive(Debug, Default)]
pub struct DiskTrouble {
    /// When it is tried again.
    retry: Option<Millis>,
    /// It was told of, and has not worked since.
    told: bool,
}

impl Node {
    /// Lets go of what nobody needs of the log, and has read what replicas need of the part on the disk.
    pub(crate) fn trim_log(&mut self) {
        let needed = oldest_pinned(self.core.replica_links());
        self.core.repl.log.trim(needed);
        if self.core.repl.log.disk_state() == DiskState::Behind && self.core.repl.disk_trouble.retry.is_none()
        {
            self.core.log_disk_fails("it is too slow");
        }
        if self.core.repl.log.disk_bytes() > 0 {
            let cursors: Vec<u64> = self.core.replica_links().filter_map(ReplicaLink::cursor).collect();
            self.core.repl.log.attend(cursors);
        }
    }

    pub(crate) fn log_written(&mut self, number: u64, result: Result<(), String>) {
        self.core.repl.log.written(number, result.is_ok());
        match result {
            Ok(()) => self.core.log_disk_works(),
            Err(reason) => self.core.log_disk_fails(&reason),
        }
        self.trim_log();
    }

    /// What cannot be read ends the window: those who need it have to ask again.
    pub(crate) fn log_read(&mut self, number: u64, result: Result<Vec<u8>, String>) {
        let reason = match result {
            Ok(bytes) => return self.core.repl.log.read_back(number, bytes),
            Err(reason) => reason,
        };
        let before = self.core.repl.log.start();
        self.core.repl.log.unreadable(number);
        let start = self.core.repl.log.start();
        if start == before {
            return;
        }
        self.core.warning(format!(
            "Can't read the replication log from the disk: {reason}. The backlog begins at {start} now."
        ));
        for id in self.core.repl.replicas.clone() {
            let pinned = self.core.replica(id).and_then(|replica| replica.link.pinned());
            if pinned.is_some_and(|offset| offset < start) {
                self.core.close(id);
            }
        }
    }
}

impl Core {
    pub(crate) fn retry_log_disk(&mut self, now: Millis) {
        if self.repl.disk_trouble.retry.is_some_and(|at| at <= now) {
            self.repl.disk_trouble.retry = None;
            self.repl.log.retry_disk();
        }
    }

    fn log_disk_fails(&mut self, reason: &str) {
        self.repl.disk_trouble.retry = Some(self.monotonic() + RETRY);
        if !std::mem::replace(&mut self.repl.disk_trouble.told, true) {
            self.warning(format!(
                "Can't keep the replication log on the disk: {reason}. The backlog is what memory holds of it, until \
                 that works again."
            ));
        }
    }

    fn log_disk_works(&mut self) {
        if self.repl.log.disk_state() == DiskState::Works && std::mem::take(&mut self.repl.disk_trouble.told)
        {
            self.notice("The replication log is kept on the disk again.");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::action::{ConnId, SpillFile};
    use crate::config::{Config, OutputLimit, Protected};
    use crate::testing::{Harness, SpillDisk};

    const VALUE_BYTES: usize = 1_000;

    fn harness(disk_bytes: i64) -> Harness {
        Harness::with_config(Config {
            enable_debug_command: Protected::Yes,
            repl_backlog_size: 16 * 1024,
            repl_backlog_disk_size: disk_bytes,
            ..Config::default()
        })
    }

    /// A turn in which so many values are written.
    fn write(h: &mut Harness, disk: &mut SpillDisk, values: usize) -> Vec<String> {
        for index in 0..values {
            h.run(&format!("SET key:{index} {}", "v".repeat(VALUE_BYTES)));
        }
        turn(h, disk)
    }

    fn turn(h: &mut Harness, disk: &mut SpillDisk) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..3 {
            h.node.before_sleep();
            said.extend(disk.act(h));
        }
        said
    }

    fn second(h: &mut Harness, disk: &mut SpillDisk) -> Vec<String> {
        h.advance_ms(1_000);
        h.node.tick();
        turn(h, disk)
    }

    /// What a replica that has everything up to `offset` is answered.
    fn ask(h: &mut Harness, offset: u64) -> (ConnId, String) {
        let replica = h.connect();
        h.run_on(replica, "REPLCONF capa eof capa psync2");
        let id = h.node.core.repl.history.id;
        let reply = h.run_on(replica, &format!("PSYNC {id} {}", offset + 1));
        (replica, reply)
    }

    fn continues(h: &mut Harness, offset: u64) -> bool {
        let (replica, reply) = ask(h, offset);
        h.node.closed(replica);
        reply.starts_with("+CONTINUE")
    }

    fn is_closed(h: &Harness, conn: ConnId) -> bool {
        h.node.core.conns.get(conn).is_none()
    }

    fn info(h: &mut Harness, field: &str) -> String {
        let text = h.run("INFO everything");
        let (_, rest) = text.split_once(&format!("{field}:")).expect("a field of INFO");
        rest.split("\\r").next().expect("a value").to_owned()
    }

    #[test]
    fn a_replica_that_comes_back_continues_from_the_disk_however_slowly_it_reads() {
        let (mut h, mut disk) = (harness(4 << 20), SpillDisk::default());
        h.node.core.repl.log.hold_in_memory(2, 0);
        write(&mut h, &mut disk, 100);
        let offset = h.node.core.repl.offset();
        for _ in 0..20 {
            write(&mut h, &mut disk, 100);
        }
        assert!(disk.files[&SpillFile::Log].len() > 1_900_000);
        assert!(h.node.core.repl.log.memory(true).total < 200_000, "{:?}", h.node.core.repl.log.memory(true));
        let (replica, reply) = ask(&mut h, offset);
        assert!(reply.starts_with("+CONTINUE"), "{reply}");
        assert_eq!(info(&mut h, "sync_partial_ok"), "1");
        let (mut received, mut turns) = (Vec::new(), 0);
        while received.len() as u64 != h.node.core.repl.offset() - offset {
            // Others write meanwhile, and what is not read yet moves on to the disk.
            if turns < 30 {
                write(&mut h, &mut disk, 20);
            }
            turn(&mut h, &mut disk);
            received.extend(h.send(replica, 30_011));
            turns += 1;
            assert!(turns < 1_000, "it is stuck after {} bytes", received.len());
            assert!(h.node.core.repl.log.memory(true).total < 300_000);
        }
        let mut other = Harness::new();
        for part in received.chunks(100_000) {
            other.raw(other.conn, part);
        }
        h.run("DEL absent");
        assert_eq!(h.run("DEBUG DIGEST"), other.run("DEBUG DIGEST"));
        assert_eq!(info(&mut h, "repl_backlog_disk_status"), "ok");
        assert!(info(&mut h, "repl_backlog_disk_histlen").parse::<usize>().unwrap() > 1_900_000);
    }

    #[test]
    fn a_disk_that_fails_is_told_of_once_and_tried_again() {
        let (mut h, mut disk) = (harness(4 << 20), SpillDisk::default());
        write(&mut h, &mut disk, 500);
        let offset = h.node.core.repl.offset();
        let digest = h.run("DEBUG DIGEST");
        disk.broken = true;
        let mut said = Vec::new();
        for _ in 0..25 {
            said.extend(write(&mut h, &mut disk, 100));
            said.extend(second(&mut h, &mut disk));
        }
        let told: Vec<&String> = said.iter().filter(|line| line.contains("on the disk")).collect();
        assert_eq!(told.len(), 1, "{said:?}");
        assert!(told[0].starts_with("Can't keep the replication log on the disk: the disk is broken."));
        assert_eq!(info(&mut h, "repl_backlog_disk_status"), "failed");
        assert!(h.node.core.repl.log.memory(true).total < 400_000);
        assert!(!continues(&mut h, offset), "the window is shorter");
        assert_eq!(h.run("DEBUG DIGEST"), digest, "the same values were written again");
        disk.broken = false;
        let mut said = Vec::new();
        for _ in 0..11 {
            said.extend(write(&mut h, &mut disk, 100));
            said.extend(second(&mut h, &mut disk));
        }
        assert_eq!(
            said.iter().filter(|line| line.contains("is kept on the disk again")).count(),
            1,
            "{said:?}"
        );
        assert_eq!(info(&mut h, "repl_backlog_disk_status"), "ok");
    }

    #[test]
    fn what_cannot_be_read_costs_those_who_need_it_their_link() {
        let (mut h, mut disk) = (harness(4 << 20), SpillDisk::default());
        write(&mut h, &mut disk, 100);
        let offset = h.node.core.repl.offset();
        write(&mut h, &mut disk, 500);
        let (behind, _) = ask(&mut h, offset);
        let end = h.node.core.repl.offset();
        let (near, _) = ask(&mut h, end);
        disk.broken = true;
        let said = turn(&mut h, &mut disk);
        assert!(
            said.iter().any(|line| line.starts_with("Can't read the replication log from the disk")),
            "{said:?}"
        );
        assert!(is_closed(&h, behind) && !is_closed(&h, near));
        assert!(!continues(&mut h, offset));
        assert_eq!(h.run("PING"), "+PONG\\r\\n");
    }

    #[test]
    fn the_backlog_reaches_back_as_many_seconds_as_it_was_asked_to() {
        let (mut h, mut disk) = (harness(0), SpillDisk::default());
        h.run("CONFIG SET repl-backlog-seconds 30");
        let mut offsets = Vec::new();
        for _ in 0..100 {
            write(&mut h, &mut disk, 50);
            offsets.push(h.node.core.repl.offset());
            second(&mut h, &mut disk);
        }
        let start = h.node.core.repl.log.start();
        assert!(start <= offsets[100 - 30], "half a minute is there");
        assert!(start > offsets[100 - 35], "and not much more");
        assert!((30..35).contains(&info(&mut h, "repl_backlog_seconds").parse::<u64>().unwrap()));
        assert!(continues(&mut h, offsets[70]));
        assert!(!continues(&mut h, offsets[60]));
        // With a disk, memory holds its size and the disk the rest.
        h.run("CONFIG SET repl-backlog-disk-size 100mb");
        for _ in 0..100 {
            write(&mut h, &mut disk, 50);
            second(&mut h, &mut disk);
        }
        assert!((30..35).contains(&info(&mut h, "repl_backlog_seconds").parse::<u64>().unwrap()));
        h.run("CONFIG SET repl-backlog-seconds 0 repl-backlog-disk-size 0");
        for _ in 0..3 {
            second(&mut h, &mut disk);
        }
        assert_eq!(info(&mut h, "repl_backlog_disk_histlen"), "0");
        assert!(h.node.core.repl.log.memory(true).total < 100_000);
    }

    /// Whether a replica that reads nothing loses its link while so many bytes are written, and a minute and more goes by.
    fn loses_link(settings: &str, megabytes: usize) -> bool {
        let (mut h, mut disk) = (harness(0), SpillDisk::default());
        for setting in settings.split_terminator(';') {
            assert_eq!(h.run(&format!("CONFIG SET {setting}")), "+OK\\r\\n");
        }
        let end = h.node.core.repl.offset();
        let (replica, _) = ask(&mut h, end);
        let value = vec![b'v'; 1_000_000];
        for _ in 0..megabytes {
            h.run_args(&[b"SET", b"key", &value]);
            turn(&mut h, &mut disk);
        }
        // Its acknowledgements say that it is alive.
        for _ in 0..70 {
            if is_closed(&h, replica) {
                return true;
            }
            h.run_on(replica, "REPLCONF ACK 0");
            second(&mut h, &mut disk);
        }
        false
    }

    #[test]
    fn who_would_be_dropped_at_once_is_not_continued() {
        let (mut h, mut disk) = (harness(200 << 20), SpillDisk::default());
        let value = vec![b'v'; 1_000_000];
        // There is a log once there is a replica.
        let end = h.node.core.repl.offset();
        let (replica, _) = ask(&mut h, end);
        h.node.closed(replica);
        for _ in 0..12 {
            h.run_args(&[b"SET", b"key", &value]);
            turn(&mut h, &mut disk);
        }
        let before = |h: &Harness, bytes: u64| h.node.core.repl.offset() - bytes;
        let from = before(&h, 11_000_000);
        assert!(continues(&mut h, from));
        assert_eq!(h.run("CONFIG SET client-output-buffer-limit \"replica 10000000 0 0\""), "+OK\\r\\n");
        assert!(!continues(&mut h, from));
        let from = before(&h, 9_000_000);
        assert!(continues(&mut h, from));
        // What is held in any case is never too much: the backlog, and the block that it begins in.
        h.run("CONFIG SET client-output-buffer-limit \"replica 1 0 0\"");
        assert!(!continues(&mut h, from));
        let from = before(&h, 16 * 1024 + 2_000);
        assert!(continues(&mut h, from));
    }

    #[test]
    fn a_slow_replica_is_dropped_by_limits_that_were_chosen_or_beyond_the_window() {
        assert_eq!(Config::default().output_limit_replica, OutputLimit::REPLICA);
        // As with Redis: 64 MB for a minute.
        assert!(loses_link("repl-lag-disk-size 0", 70));
        assert!(!loses_link("repl-lag-disk-size 0", 50));
        // What it lacks may lie on the disk.
        assert!(!loses_link("", 70));
        assert!(!loses_link("repl-lag-disk-size 80mb", 75));
        assert!(loses_link("repl-lag-disk-size 80mb", 90));
        // It is within the retained log.
        assert!(!loses_link("repl-backlog-disk-size 200mb", 70));
        assert!(!loses_link("repl-lag-disk-size 0;repl-backlog-size 100mb", 70));
        // Chosen limits hold wherever the log is, the hard one as with Redis not below the backlog in memory.
        assert!(loses_link(
            "repl-backlog-disk-size 200mb;client-output-buffer-limit \"replica 10mb 0 0\"",
            12
        ));
        assert!(!loses_link(
            "repl-backlog-disk-size 200mb;client-output-buffer-limit \"replica 10mb 0 0\"",
            8
        ));
        assert!(loses_link(
            "repl-backlog-disk-size 200mb;client-output-buffer-limit \"replica 0 5mb 10\"",
            8
        ));
    }
}
