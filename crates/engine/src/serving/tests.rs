//! Who is synchronised when, and how fast, with `repl-full-sync-max` and `repl-full-sync-rate`.

use crate::action::{Action, ConnId};
use crate::config::{Config, Protected};
use crate::rdb_writer::RdbWriter;
use crate::snapshot::{Sink, Step};
use crate::testing::{Harness, SpillDisk};

/// A primary with some data, and what goes on around it.
struct Primary {
    h: Harness,
    disk: SpillDisk,
    /// The file of the snapshot, as far as it is written.
    file: Vec<u8>,
    encoder: Option<(RdbWriter, Sink)>,
    snapshots: usize,
    log: Vec<String>,
}

impl Primary {
    fn new(diskless: bool, settings: &str) -> Primary {
        let mut h = Harness::with_config(Config {
            enable_debug_command: Protected::Yes,
            repl_diskless_sync: diskless,
            rdbcompression: false,
            save: Vec::new(),
            ..Config::default()
        });
        for index in 0..100 {
            h.run(&format!("SET key:{index} {}", "v".repeat(1000)));
        }
        if !settings.is_empty() {
            assert_eq!(h.run(&format!("CONFIG SET {settings}")), r"+OK\r\n");
        }
        let (disk, log) = (SpillDisk::default(), Vec::new());
        Primary { h, disk, file: Vec::new(), encoder: None, snapshots: 0, log }
    }

    fn replica(&mut self, announces: &str, asks: &str) -> ConnId {
        let replica = self.h.connect();
        self.h.run_on(replica, &format!("REPLCONF {announces}"));
        self.h.run_on(replica, asks);
        replica
    }

    fn replicas<const N: usize>(&mut self) -> [ConnId; N] {
        std::array::from_fn(|n| {
            self.replica(&format!("listening-port {} capa eof capa psync2", 7000 + n), "PSYNC ? -1")
        })
    }

    /// A turn of the loop, and what it asks for.
    fn turn(&mut self) {
        self.h.node.before_sleep();
        let mut ids = Vec::new();
        self.h.node.take_to_send(&mut ids);
        loop {
            let actions = self.h.node.take_actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.act(action));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Log { message, .. } => self.log.push(message),
            Action::BeginSnapshot(plan) => {
                self.snapshots += 1;
                let mut writer = RdbWriter::new(&plan);
                self.file.clear();
                writer.begin(&mut self.file);
                if plan.sink == Sink::Stream {
                    self.h.node.snapshot_chunk(self.file.clone());
                }
                self.encoder = Some((writer, plan.sink));
            }
            Action::CancelSnapshot => self.encoder = None,
            Action::ReadPayload { conn, offset, length } => {
                let bytes = self.file[offset as usize..][..length as usize].to_vec();
                self.h.node.payload_read(conn, Ok(bytes));
            }
            Action::Spill { .. } => unreachable!("there is room for all of it"),
            _ => {}
        }
    }

    /// Encodes the running snapshot to its end.
    fn encode(&mut self) {
        let Some((mut writer, sink)) = self.encoder.take() else { return };
        loop {
            let (from, step) = (self.file.len(), self.h.node.snapshot_batch(16 * 1024));
            let walked = match step.expect("it runs") {
                Step::Batch(batch) => writer.batch(&batch, &mut self.file).is_err(),
                Step::Walked => {
                    writer.end(&mut self.file);
                    true
                }
            };
            if sink == Sink::Stream {
                self.h.node.snapshot_chunk(self.file[from..].to_vec());
            }
            if walked {
                break;
            }
        }
        self.h.node.snapshot_finished(Ok(self.file.len() as u64));
        self.turn();
        self.disk.act(&mut self.h).into_iter().for_each(|line| self.log.push(line));
    }

    /// The replica reads until there is nothing; how many bytes it was sent.
    fn read_all(&mut self, replica: ConnId) -> usize {
        let mut total = 0;
        loop {
            let sent = self.h.send(replica, 50_000).len();
            if sent == 0 {
                self.h.node.sent_all(replica);
                return total;
            }
            total += sent;
            self.turn();
        }
    }

    /// Those that are sent a snapshot, by their place among the replicas, and how many wait for their turn.
    fn standing(&self) -> (Vec<usize>, usize) {
        let links = self.h.node.core.replica_links();
        let sent = links.enumerate().filter(|(_, link)| link.is_transferring());
        (sent.map(|(at, _)| at).collect(), self.h.node.core.places().queued())
    }
}

fn one_after_another(diskless: bool) {
    let mut primary = Primary::new(diskless, "repl-full-sync-max 1");
    let replicas: [ConnId; 3] = primary.replicas();
    primary.turn();
    for (n, replica) in replicas.into_iter().enumerate() {
        assert_eq!(primary.standing(), (vec![n], 2 - n), "diskless: {diskless}");
        assert_eq!(primary.snapshots, n + 1);
        let info = primary.h.run("INFO replication");
        assert!(
            info.contains(&format!(r"repl_full_syncs_running:1\r\nrepl_full_syncs_queued:{}\r\n", 2 - n))
        );
        assert_eq!(info.matches("state=wait_bgsave").count(), 3 - n, "{info}");
        assert!(primary.h.run("REPL WHY").contains(&format!(r"$6\r\nqueued\r\n*{}\r\n", 2 - n)));
        primary.encode();
        assert_eq!(primary.standing().0, [n], "it has read nothing");
        assert!(primary.read_all(replica) > 100_000);
        primary.turn();
    }
    assert_eq!(primary.standing(), (vec![], 0));
    let of = |what: &str| primary.log.iter().filter(|line| line.contains(what)).cloned().collect::<Vec<_>>();
    assert_eq!(
        of("has to wait for its full sync"),
        [
            "Replica 127.0.0.1:7001 has to wait for its full sync: 1 under way, 0 waiting in front of it \
             (repl-full-sync-max)",
            "Replica 127.0.0.1:7002 has to wait for its full sync: 1 under way, 1 waiting in front of it \
             (repl-full-sync-max)",
        ]
    );
    assert_eq!(of("after 0.000 seconds of waiting for its turn").len(), 2);
    let why = primary.h.run("REPL WHY");
    assert_eq!(why.matches(r"queued-time-ms\r\n:1700000000000\r\n").count(), 2, "{why}");
    assert_eq!(why.matches(r"admitted-time-ms\r\n:1700000000000\r\n").count(), 2, "{why}");
}

#[test]
fn those_who_come_together_are_synchronised_one_after_another_if_there_is_one_place() {
    one_after_another(true);
    one_after_another(false);
}

#[test]
fn without_a_limit_they_share_a_snapshot_and_with_one_as_many_as_there_are_places() {
    for (settings, first, snapshots) in [("", 4, 1), ("repl-full-sync-max 3", 3, 2)] {
        for diskless in [true, false] {
            let mut primary = Primary::new(diskless, settings);
            let replicas: [ConnId; 4] = primary.replicas();
            primary.turn();
            assert_eq!(primary.standing(), ((0..first).collect(), 4 - first));
            // Some turns more give nobody a place.
            primary.turn();
            assert_eq!(primary.standing().1, 4 - first);
            for _ in 0..2 {
                primary.encode();
                for replica in replicas {
                    primary.read_all(replica);
                }
                primary.turn();
            }
            assert_eq!((primary.standing(), primary.snapshots), ((vec![], 0), snapshots), "{settings}");
        }
    }
}

#[test]
fn a_place_is_free_however_its_holder_ends_and_when_the_limit_is_raised() {
    // The connection is lost; a client kills it; it is dropped for what waits for it; the limit is raised.
    type End = fn(&mut Primary, ConnId);
    let ends: [End; 3] = [
        |primary, replica| primary.h.node.closed(replica),
        |primary, _| assert_eq!(primary.h.run("CLIENT KILL ID 2"), r":1\r\n"),
        |primary, _| {
            primary.h.run("CONFIG SET client-output-buffer-limit \"replica 1mb 0 0\" repl-backlog-size 1mb");
            primary.h.run_args(&[b"SET", b"large", &[b'x'; 2 << 20]]);
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        for diskless in [true, false] {
            let mut primary = Primary::new(diskless, "repl-full-sync-max 1");
            let [first, _second, _third] = primary.replicas();
            primary.turn();
            primary.encode();
            assert_eq!(primary.standing(), (vec![0], 2));
            end(&mut primary, first);
            primary.turn();
            primary.turn();
            assert_eq!((primary.standing(), primary.snapshots), ((vec![0], 1), 2), "{number} {diskless}");
        }
    }
    let mut primary = Primary::new(false, "repl-full-sync-max 1");
    let _: [ConnId; 4] = primary.replicas();
    primary.turn();
    assert_eq!(primary.standing(), (vec![0], 3));
    primary.h.run("CONFIG SET repl-full-sync-max 3");
    primary.turn();
    assert_eq!(primary.standing(), (vec![0, 1, 2], 1));
    primary.h.run("CONFIG SET repl-full-sync-max 0");
    primary.turn();
    assert_eq!(
        (primary.standing(), primary.snapshots),
        ((vec![0, 1, 2, 3], 0), 1),
        "the file is not there yet"
    );
}

#[test]
fn who_can_continue_does_not_wait_for_its_turn() {
    let mut primary = Primary::new(true, "repl-full-sync-max 1");
    let _: [ConnId; 2] = primary.replicas();
    primary.turn();
    let at = primary.h.node.core.repl.position();
    let replica = primary.h.connect();
    primary.h.run_on(replica, "REPLCONF capa eof capa psync2");
    let reply = primary.h.run_on(replica, &format!("PSYNC {} {}", at.replid, at.next()));
    assert_eq!(reply, format!(r"+CONTINUE {}\r\n", at.replid));
    assert_eq!(primary.standing(), (vec![0], 1));
}

/// A reader that is stuck is dropped after `repl-timeout`, from a file as well; without anybody waiting, from a file it is
/// not.
#[test]
fn who_hangs_gives_its_place_up() {
    for (diskless, queued, dropped) in [(true, true, true), (false, true, true), (false, false, false)] {
        let mut primary = Primary::new(diskless, "repl-full-sync-max 1 repl-timeout 5");
        let [first] = primary.replicas();
        primary.turn();
        if queued {
            let [_second] = primary.replicas();
        }
        primary.encode();
        assert_eq!(primary.h.send(first, 1000).len(), 1000);
        primary.h.node.stalled(first);
        for second in 0..=6 {
            assert_eq!(primary.standing().0, [0], "after {second} s");
            primary.h.advance_ms(999);
            primary.h.node.tick();
            primary.turn();
            if primary.log.iter().any(|line| line.starts_with("Disconnecting timedout replica (full sync)")) {
                assert!(second >= 5);
                break;
            }
            primary.h.advance_ms(1);
        }
        primary.turn();
        let timed_out = primary.log.iter().any(|line| line.contains("timedout"));
        assert_eq!(
            (timed_out, primary.snapshots),
            (dropped, 1 + usize::from(dropped)),
            "{diskless} {queued}"
        );
    }
}

/// Both vendors' replicas on two connections: only that of the snapshot needs a place.
#[test]
fn a_replica_on_two_connections_waits_for_its_turn_with_the_second() {
    let settings = "repl-full-sync-max 1 repl-rdb-channel yes dual-channel-replication-enabled yes";
    let mut primary = Primary::new(true, settings);
    let [first] = primary.replicas();
    let stream = primary.h.connect();
    primary.h.run_on(stream, "REPLCONF listening-port 7001 capa eof capa psync2 capa rdb-channel-repl");
    let proposal = primary.h.run_on(stream, "PSYNC ? -1");
    let id = proposal.strip_prefix("+RDBCHANNELSYNC ").and_then(|rest| rest.strip_suffix(r"\r\n"));
    let join = format!(
        "capa eof rdb-only 1 rdb-channel 1 main-ch-client-id {} listening-port 7001",
        id.expect("a proposal")
    );
    let snapshot = primary.replica(&join, "PSYNC ? -1");
    let valkey = primary.h.connect();
    primary
        .h
        .run_on(valkey, "REPLCONF listening-port 7002 capa eof capa psync2 capa dual-channel version 9.1.2");
    assert_eq!(primary.h.run_on(valkey, "PSYNC ? -1"), r"+DUALCHANNELSYNC\r\n");
    primary.h.run("CONFIG SET timeout 10");
    let of_valkey =
        primary.replica("capa eof rdb-only 1 rdb-channel 1 listening-port 7002 version 9.1.2", "SYNC");
    primary.turn();
    assert_eq!(primary.standing(), (vec![0], 2));
    primary.h.advance_ms(30_000);
    primary.h.node.tick();
    primary.turn();
    primary.encode();
    primary.read_all(first);
    primary.turn();
    assert_eq!(primary.standing(), (vec![2], 1), "the stream's is the one before");
    primary.encode();
    assert!(primary.read_all(snapshot) > 100_000);
    primary.turn();
    assert_eq!(primary.standing(), (vec![3], 0));
    let at = primary.h.node.core.repl.position();
    let sent = primary.h.send(of_valkey, 100);
    assert!(sent.trim_ascii_start().starts_with(b"$ENDOFF:"), "{}", sent.escape_ascii());
    // Silent for so long, and still there, as other clients are not.
    let ask = format!("PSYNC {} {}", at.replid, at.next());
    primary.h.run_on(valkey, &format!("REPLCONF set-rdb-client-id {}", id_of(&primary, of_valkey)));
    assert!(primary.h.run_on(valkey, &ask).starts_with("+CONTINUE"));
    assert!(primary.log.iter().any(|line| line == "Closing idle client"));
}

/// The client id of a connection.
fn id_of(primary: &Primary, conn: ConnId) -> u64 {
    primary.h.node.core.replica(conn).expect("a replica").link.client_id()
}

/// Reads whatever is offered, for `ms` milliseconds; how much each was sent.
fn read_for(primary: &mut Primary, replicas: &[ConnId], ms: usize) -> Vec<usize> {
    let mut sent = vec![0; replicas.len()];
    for _ in 0..ms {
        for (replica, sum) in replicas.iter().zip(&mut sent) {
            *sum += primary.read_all(*replica);
        }
        primary.h.advance_ms(1);
        primary.turn();
    }
    sent
}

#[test]
fn snapshots_go_out_at_the_rate_and_each_gets_the_same() {
    for diskless in [true, false] {
        let mut primary = Primary::new(diskless, "repl-full-sync-rate 20kb");
        let replicas: [ConnId; 2] = primary.replicas();
        primary.turn();
        primary.encode();
        assert!(primary.file.len() > 100_000, "{}", primary.file.len());
        let sent = read_for(&mut primary, &replicas, 2000);
        let total: usize = sent.iter().sum();
        // What was saved up, and the header, come on top.
        assert!((36_000..45_000).contains(&total), "{sent:?}");
        assert!(sent[0].abs_diff(sent[1]) < 1000, "{sent:?}");
        while let Some(due) = primary.h.node.next_transfer_us() {
            assert!(due > primary.h.now_ms() as u64 * 1000, "nothing is to be done before");
            primary.h.advance_ms(1);
            primary.turn();
        }

        // One takes nothing any more: the other has it all.
        let before = sent[0];
        let [first, second] = replicas;
        primary.h.node.stalled(second);
        let more = read_for(&mut primary, &[first], 2000)[0];
        assert!((36_000..45_000).contains(&more), "{more} after {before}");

        assert_eq!(primary.h.run("CONFIG SET repl-full-sync-rate 0"), r"+OK\r\n");
        primary.turn();
        let rest = read_for(&mut primary, &replicas, 1);
        assert!(rest[0] + more + before > 100_000 && rest[1] + sent[1] > 100_000);
        assert_eq!((primary.standing(), primary.h.node.next_transfer_us()), ((vec![], 0), None));
    }
}

/// What is lifted or lowered under way reaches those who wait for their share without anything else happening.
#[test]
fn those_who_wait_for_their_share_are_put_on_the_list_when_there_is_one() {
    let mut primary = Primary::new(true, "repl-full-sync-rate 100kb");
    let [replica] = primary.replicas();
    primary.turn();
    primary.encode();
    primary.read_all(replica);
    let wakes = |primary: &mut Primary| {
        primary.h.node.before_sleep();
        let mut ids = Vec::new();
        primary.h.node.take_to_send(&mut ids);
        ids.contains(&replica)
    };
    assert!(!wakes(&mut primary));
    primary.h.advance_ms(9);
    assert!(!wakes(&mut primary));
    primary.h.advance_ms(1);
    assert!(wakes(&mut primary));
    assert_eq!(primary.h.send(replica, usize::MAX).len(), 1024);
    assert!(!wakes(&mut primary));
    primary.h.run("CONFIG SET repl-full-sync-rate 0");
    assert!(wakes(&mut primary));
    assert!(primary.h.send(replica, usize::MAX).len() > 50_000);
}
