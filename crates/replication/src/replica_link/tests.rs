//! Transcripts: what goes in, what comes out, for every way a replica may come and go.

use expect_test::{Expect, expect};
use log::ReplId;

use super::channel::ChannelsOffered;
use super::*;
use crate::primary::{
    PrimaryAction, PrimaryConfig, PrimaryCron, count_acked, count_fsynced, count_good, oldest_pinned,
    plan_snapshot,
};
use crate::reader::Feature;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const MARK: [u8; EOF_MARK_LEN] = [b'm'; EOF_MARK_LEN];
const WINDOW: LogWindow = LogWindow { first: 101, len: 50 };
const TIMEOUT: Millis = Millis::from_secs(60);

fn id(text: &str) -> ReplId {
    text.parse().expect("an id")
}

fn history() -> History {
    let mut history = History::new(id(A));
    history.shift(id(B), 119);
    history
}

/// A replica at 10.0.0.9, whatever it announces, and what the primary did for it.
struct Run {
    link: Option<ReplicaLink>,
    now: Millis,
    lines: Vec<String>,
}

impl Run {
    fn new() -> Run {
        Run { link: Some(ReplicaLink::new("10.0.0.9", 7)), now: Millis(0), lines: Vec::new() }
    }

    fn announced(args: &str) -> Run {
        let mut run = Run::new();
        run.replconf(args);
        run.lines.clear();
        run
    }

    fn link(&mut self) -> &mut ReplicaLink {
        self.link.as_mut().expect("a link")
    }

    fn replconf(&mut self, args: &str) -> &mut Run {
        let args: Vec<&[u8]> = args.split(' ').filter(|arg| !arg.is_empty()).map(str::as_bytes).collect();
        let now = self.now;
        let outcome = match self.link().replconf(now, &args) {
            Replconf::Error(error) => format!("-{error}"),
            other => format!("{other:?}"),
        };
        self.lines.push(outcome);
        self
    }

    fn sync(&mut self, request: SyncRequest, change: impl FnOnce(&mut SyncContext<'_>)) -> &mut Run {
        let history = history();
        let mut context = SyncContext {
            history: &history,
            log: Some(WINDOW),
            own_link_down: false,
            failing_over: false,
            pending_output: false,
            refusal: None,
            not_understood: None,
            output_limit: None,
            channels: Default::default(),
            partner_waits: false,
        };
        change(&mut context);
        let mut out = Vec::new();
        let link = self.link.take().expect("a link");
        self.link = Some(link.sync(self.now, request, context, &mut out));
        self.render(out)
    }

    fn psync(&mut self, id: &str, offset: &str) -> &mut Run {
        let request = SyncRequest::psync(id.as_bytes(), offset.as_bytes()).expect("a number");
        self.sync(request, |_| {})
    }

    fn step(&mut self, input: ReplicaInput<'_>) -> &mut Run {
        let mut out = Vec::new();
        let link = self.link.take().expect("a link");
        self.link = Some(link.step(TIMEOUT, self.now, input, &mut out));
        self.render(out)
    }

    fn pass(&mut self, ms: u64) -> &mut Run {
        self.now = self.now + Millis(ms);
        self.step(ReplicaInput::Tick { place_awaited: false })
    }

    fn render(&mut self, actions: Vec<ReplicaAction>) -> &mut Run {
        for action in actions {
            let line = match action {
                ReplicaAction::Send(bytes) => format!("> {}", bytes.escape_ascii()),
                ReplicaAction::Log(event) => format!("# {event}"),
                ReplicaAction::FullSync(_, sync) => format!("full sync: {}", sync.cause.name()),
                other => format!("{other:?}"),
            };
            self.lines.push(line.replace(A, "A").replace(B, "B"));
        }
        self
    }

    /// Notes how the replica appears, among what happened.
    fn look(&mut self) -> &mut Run {
        let (now, link) = (self.now, self.link());
        let line = format!(
            "  [{} state={:?} cursor={:?} pinned={:?} offset={} lag={}]",
            link.name(),
            link.info_state(),
            link.cursor(),
            link.pinned(),
            link.acknowledged().offset,
            link.lag(now).secs(),
        );
        self.lines.push(line);
        self
    }

    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    fn online(offset: u64) -> ReplicaLink {
        let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
        run.psync(B, &offset.to_string());
        run.link.expect("a link")
    }
}

#[test]
fn replconf_is_answered_as_by_redis() {
    let mut run = Run::new();
    for args in [
        "",
        "listening-port",
        "listening-port 7001 ip-address 192.168.1.9",
        "listening-port x",
        "CAPA eof Capa psync2 capa dual-channel",
        "version 9.1.2",
        "rdb-only 2",
        "rdb-only x",
        "rdb-only 0",
        "rdb-filter-only keys",
        "rdb-filter-only \"functions",
        "rdb-filter-only functions",
        "what ever",
        "ack 100",
        "getack *",
    ] {
        run.replconf(args);
    }
    run.replconf(&format!("ip-address {}", "x".repeat(256)));
    run.look();
    run.check(expect![[r#"
        Ok
        -ERR syntax error
        Ok
        -ERR value is not an integer or out of range
        Ok
        Ok
        -ERR value is out of range, value must between 0 and 1
        -ERR value is not an integer or out of range
        Ok
        -ERR Unsupported rdb-filter-only option: keys
        -ERR Missing rdb-filter-only values
        Ok
        -ERR Unrecognized REPLCONF option: what
        Silent
        AckWanted
        -ERR REPLCONF ip-address provided by replica instance is too long: 256 bytes
          [192.168.1.9:7001 state=None cursor=None pinned=None offset=0 lag=0]
    "#]]);
    let link = run.link();
    assert_eq!(
        link.capabilities(),
        Capabilities { eof: true, psync2: true, dual_channel: true, ..Capabilities::default() }
    );
    assert_eq!(link.filter(), SnapshotFilter { exclude_data: true, exclude_functions: false });
    assert_eq!(link.version(), Some("9.1.2"));
}

#[test]
fn names_in_log_lines() {
    let name = |peer: &str, port: i64| {
        let mut link = ReplicaLink::new(peer, 7);
        link.listening_port = port;
        link.name()
    };
    assert_eq!(name("10.0.0.9", 7001), "10.0.0.9:7001");
    assert_eq!(name("10.0.0.9", 0), "10.0.0.9:<unknown-replica-port>");
    assert_eq!(name("::1", 7001), "[::1]:7001");
    assert_eq!(name("", 7001), "client id #7");
}

#[test]
fn a_replica_that_can_continue_is_online_at_once() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync(A, "120").look().step(ReplicaInput::Sent(31)).look();
    run.pass(3_000).look().replconf("ack 150").look().replconf("ack 140 fack 130").look();
    run.check(expect![[r##"
        # Replica 10.0.0.9:7001 asks for synchronization
        > +CONTINUE B\r\n
        # Partial resynchronization request from 10.0.0.9:7001 accepted. Sending 31 bytes of backlog starting from offset 120.
        Count(PartialOk)
        StartStream(120)
          [10.0.0.9:7001 state=Some("online") cursor=Some(120) pinned=Some(120) offset=0 lag=0]
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=0 lag=0]
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=0 lag=3]
        Acked { start_stream: None, synced: false }
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=150 lag=0]
        Acked { start_stream: None, synced: false }
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=150 lag=0]
    "##]]);
    assert_eq!(run.link().acknowledged().fsynced, Some(130));
    assert_eq!(run.link().backlog_bytes(160), 10);
}

#[test]
fn an_old_replica_is_not_told_the_id() {
    let mut run = Run::announced("listening-port 7001");
    run.psync(B, "151").check(expect![[r#"
        # Replica 10.0.0.9:7001 asks for synchronization
        > +CONTINUE\r\n
        # Partial resynchronization request from 10.0.0.9:7001 accepted. Sending 0 bytes of backlog starting from offset 151.
        Count(PartialOk)
        StartStream(151)
    "#]]);
}

#[test]
fn causes_of_a_full_resync() {
    for (id, offset, expected) in [
        (
            "?",
            "-1",
            expect![[r#"
                # Replica 10.0.0.9:7001 asks for synchronization
                full sync: no-position
                # Full resync requested by replica 10.0.0.9:7001
                Count(Full)
                WantSnapshot
            "#]],
        ),
        (
            "cccccccccccccccccccccccccccccccccccccccc",
            "1",
            expect![[r#"
                # Replica 10.0.0.9:7001 asks for synchronization
                full sync: other-history
                # Partial resynchronization not accepted: Replication ID mismatch (Replica asked for 'cccccccccccccccccccccccccccccccccccccccc', my replication IDs are 'B' and 'A')
                Count(PartialErr)
                Count(Full)
                WantSnapshot
            "#]],
        ),
        (
            A,
            "121",
            expect![[r#"
                # Replica 10.0.0.9:7001 asks for synchronization
                full sync: diverged
                # Partial resynchronization not accepted: Requested offset for second ID was 121, but I can reply up to 120
                Count(PartialErr)
                Count(Full)
                WantSnapshot
            "#]],
        ),
        (
            B,
            "100",
            expect![[r#"
                # Replica 10.0.0.9:7001 asks for synchronization
                full sync: backlog-too-small
                # Unable to partial resync with replica 10.0.0.9:7001 for lack of backlog (Replica request was: 100).
                Count(PartialErr)
                Count(Full)
                WantSnapshot
            "#]],
        ),
        (
            B,
            "152",
            expect![[r#"
                # Replica 10.0.0.9:7001 asks for synchronization
                full sync: ahead
                # Unable to partial resync with replica 10.0.0.9:7001 for lack of backlog (Replica request was: 152).
                # Warning: replica 10.0.0.9:7001 tried to PSYNC with an offset that is greater than the master replication offset.
                Count(PartialErr)
                Count(Full)
                WantSnapshot
            "#]],
        ),
    ] {
        let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
        run.psync(id, offset).check(expected);
    }
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    let request = SyncRequest::psync(B.as_bytes(), b"120").expect("a number");
    run.sync(request, |context| context.log = None).check(expect![[r#"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: no-backlog
        # Unable to partial resync with replica 10.0.0.9:7001 for lack of backlog (Replica request was: 120).
        Count(PartialErr)
        Count(Full)
        CreateBacklog
        WantSnapshot
    "#]]);
}

#[test]
fn a_replica_that_would_be_dropped_at_once_does_not_continue() {
    let lacks = |bytes| {
        let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
        let request = SyncRequest::psync(B.as_bytes(), b"120").expect("a number");
        run.sync(request, |context| context.output_limit = Some(bytes));
        run.lines.join("\n")
    };
    assert!(lacks(32).contains("Sending 31 bytes of backlog"), "{}", lacks(32));
    let told = lacks(31);
    assert!(told.contains("full sync: beyond-output-limit"), "{told}");
    assert!(
        told.contains("is more than may wait for a replica (client-output-buffer-limit, 31 bytes)"),
        "{told}"
    );
}

#[test]
fn requests_that_are_refused() {
    let ask = || SyncRequest::psync(b"?", b"-1").expect("a number");
    let mut run = Run::announced("rdb-filter-only functions");
    run.sync(ask(), |context| context.own_link_down = true);
    run.sync(ask(), |context| context.pending_output = true);
    run.sync(ask(), |_| {});
    run.look();
    run.check(expect![[r#"
        > -NOMASTERLINK Can\'t SYNC while not connected with my master\r\n
        > -ERR SYNC and PSYNC are invalid with pending output\r\n
        > -ERR Filtered replica requires EOF capability\r\n
          [10.0.0.9:<unknown-replica-port> state=None cursor=None pinned=None offset=0 lag=0]
    "#]]);
    let refusal = SyncRequest::psync(A.as_bytes(), b"1x").expect_err("no number");
    assert_eq!(refusal.to_string(), "ERR value is not an integer or out of range");
}

#[test]
fn a_snapshot_of_known_size() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync("?", "-1").look().pass(999).pass(1);
    run.step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 }).look().pass(1_000);
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::Sized(88))).look().step(ReplicaInput::SendStalled);
    run.pass(100_000).step(ReplicaInput::PayloadEnds).look();
    run.psync("?", "-1");
    run.check(expect![[r##"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: no-position
        # Full resync requested by replica 10.0.0.9:7001
        Count(Full)
        WantSnapshot
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=None offset=0 lag=0]
        > \n
        > +FULLRESYNC B 150\r\n
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=Some(151) offset=0 lag=0]
        > \n
        > $88\r\n
          [10.0.0.9:7001 state=Some("send_bulk") cursor=None pinned=Some(151) offset=0 lag=0]
        # Synchronization with replica 10.0.0.9:7001 succeeded
        StartStream(151)
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=0 lag=0]
    "##]]);
}

#[test]
fn a_streamed_snapshot_waits_for_the_first_ack() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync("?", "-1").step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK))).look();
    run.replconf("ack 0").step(ReplicaInput::PayloadEnds).look();
    run.pass(59_000).step(ReplicaInput::Newline).pass(59_000).look();
    run.replconf("ack 150").look().replconf("ack 151");
    run.check(expect![[r##"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: no-position
        # Full resync requested by replica 10.0.0.9:7001
        Count(Full)
        WantSnapshot
        > +FULLRESYNC B 150\r\n
        > $EOF:mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\r\n
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=Some(151) offset=0 lag=0]
        Acked { start_stream: None, synced: false }
        > mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
        # Streamed RDB transfer with replica 10.0.0.9:7001 succeeded (socket). Waiting for REPLCONF ACK from slave to enable streaming
        # Synchronization with replica 10.0.0.9:7001 succeeded
          [10.0.0.9:7001 state=Some("online") cursor=None pinned=Some(151) offset=0 lag=0]
          [10.0.0.9:7001 state=Some("online") cursor=None pinned=Some(151) offset=0 lag=59]
        Acked { start_stream: Some(151), synced: false }
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=150 lag=0]
        Acked { start_stream: None, synced: false }
    "##]]);
}

#[test]
fn replicas_that_fall_silent_are_dropped() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync("?", "-1").step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK)));
    run.lines.clear();
    run.step(ReplicaInput::SendStalled).pass(60_000);
    run.step(ReplicaInput::SendProgressed).step(ReplicaInput::SendStalled).step(ReplicaInput::SendStalled);
    run.pass(60_001);
    run.check(expect![[r#"
        # Disconnecting timedout replica (full sync): 10.0.0.9:7001
        Close
    "#]]);

    let mut run = Run { link: Some(Run::online(151)), now: Millis(0), lines: Vec::new() };
    run.pass(60_000).pass(1);
    run.check(expect![[r#"
        # Disconnecting timedout replica (streaming sync): 10.0.0.9:7001
        Close
    "#]]);
    assert_eq!(run.link().lost().to_string(), "Connection with replica 10.0.0.9:7001 lost.");
}

#[test]
fn snapshots_that_fail() {
    let mut run = Run::announced("listening-port 7001");
    run.psync("?", "-1");
    run.lines.clear();
    run.step(ReplicaInput::SnapshotRefused("BGSAVE failed, replication can't continue"));
    run.step(ReplicaInput::SnapshotFailed);
    run.check(expect![[r#"
        # BGSAVE for replication failed
        > -ERR BGSAVE failed, replication can\'t continue\r\n
        Close
        # SYNC failed. BGSAVE child returned an error
        Close
    "#]]);
}

#[test]
fn the_old_sync_command_gets_the_bare_snapshot_and_never_times_out() {
    let mut run = Run::new();
    run.sync(SyncRequest::Sync, |_| {})
        .step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::Sized(88))).step(ReplicaInput::PayloadEnds);
    run.pass(1_000_000).look();
    run.check(expect![[r##"
        # Replica 10.0.0.9:<unknown-replica-port> asks for synchronization
        full sync: no-psync
        Count(Full)
        WantSnapshot
        > $88\r\n
        # Synchronization with replica 10.0.0.9:<unknown-replica-port> succeeded
        StartStream(151)
          [10.0.0.9:<unknown-replica-port> state=Some("online") cursor=Some(151) pinned=Some(151) offset=0 lag=1000]
    "##]]);
}

#[test]
fn an_rdb_only_replica_holds_no_log_and_is_closed() {
    let mut run = Run::announced("rdb-only 1 capa eof");
    run.psync("?", "-1").step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 }).look();
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK))).step(ReplicaInput::PayloadEnds);
    run.look();
    run.check(expect![[r##"
        # Replica 10.0.0.9:<unknown-replica-port> asks for synchronization
        full sync: snapshot-only
        # Full resync requested by replica 10.0.0.9:<unknown-replica-port>
        Count(Full)
        WantSnapshot
        > +FULLRESYNC B 150\r\n
          [10.0.0.9:<unknown-replica-port> state=Some("wait_bgsave") cursor=None pinned=None offset=0 lag=0]
        > $EOF:mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\r\n
        > mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
        # Streamed RDB transfer with replica 10.0.0.9:<unknown-replica-port> succeeded (socket). Waiting for REPLCONF ACK from slave to enable streaming
        # RDB transfer completed, rdb only replica (10.0.0.9:<unknown-replica-port>) should be disconnected asap
        Close
          [10.0.0.9:<unknown-replica-port> state=None cursor=None pinned=None offset=0 lag=0]
    "##]]);
}

fn waiting(args: &str) -> ReplicaLink {
    let mut run = Run::announced(args);
    run.psync("?", "-1");
    run.link.expect("a link")
}

const CONFIG: PrimaryConfig = PrimaryConfig {
    ping_period: Millis::from_secs(10),
    heartbeat: None,
    backlog_ttl: Millis::from_secs(3600),
    diskless: true,
    diskless_delay: Millis::from_secs(5),
    diskless_max_replicas: 0,
    apart: false,
    places_gone: false,
};

#[test]
fn a_streamed_snapshot_waits_for_company_and_a_file_does_not() {
    let able = || waiting("capa eof capa psync2");
    let plan =
        |config: &PrimaryConfig, now, replicas: &[ReplicaLink]| plan_snapshot(config, Millis(now), replicas);
    assert_eq!(plan(&CONFIG, 0, &[]), None);
    assert_eq!(plan(&CONFIG, 9_999, &[Run::online(151)]), None);
    assert_eq!(plan(&CONFIG, 4_999, &[able()]), None);
    let due = plan(&CONFIG, 5_000, &[able(), Run::online(151), able()]).expect("due");
    assert_eq!((due.to_sockets, due.replicas), (true, 2));

    let eager = PrimaryConfig { diskless_max_replicas: 2, ..CONFIG };
    assert_eq!(plan(&eager, 0, &[able()]), None);
    assert!(plan(&eager, 0, &[able(), able()]).is_some_and(|plan| plan.to_sockets));

    let disk = PrimaryConfig { diskless: false, ..CONFIG };
    assert!(plan(&disk, 0, &[able()]).is_some_and(|plan| !plan.to_sockets));
    assert!(plan(&CONFIG, 0, &[able(), waiting("capa psync2")]).is_some_and(|plan| !plan.to_sockets));

    // The first one's wish decides; others with another wish wait for the next.
    let functions = waiting("capa eof rdb-filter-only functions");
    let filtered = plan(&disk, 0, &[functions.clone(), able()]).expect("due");
    assert_eq!((filtered.to_sockets, filtered.replicas), (true, 1));
    assert!(filtered.serves(&functions) && !filtered.serves(&able()));
}

#[test]
fn as_many_are_synchronised_as_there_are_places_and_nobody_waits_for_more() {
    let able = || waiting("capa eof capa psync2");
    let sending = || {
        let mut run = Run { link: Some(able()), now: Millis(0), lines: Vec::new() };
        run.step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
        run.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK)));
        run.link.expect("a link")
    };
    let all = [sending(), Run::online(151), able(), able(), able()];
    let places = |max| crate::Places::count(max, &all);
    let figures = |max| {
        let places = places(max);
        (places.taken, places.free(), places.queued(), places.are_gone())
    };
    assert_eq!(figures(0), (1, usize::MAX, 0, false));
    assert_eq!(figures(1), (1, 0, 3, true));
    assert_eq!(figures(3), (1, 2, 1, true));
    assert_eq!(figures(4), (1, 3, 0, true));
    assert_eq!(figures(5), (1, 4, 0, false));
    assert_eq!(plan_snapshot(&CONFIG, Millis(0), &[able(), able()]), None, "others may come");
    let gone = PrimaryConfig { places_gone: true, ..CONFIG };
    assert!(plan_snapshot(&gone, Millis(0), &[able(), able()]).is_some_and(|plan| plan.replicas == 2));
}

#[test]
fn one_that_waits_for_its_turn_is_told_of_once_and_kept_alive() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync("?", "-1");
    run.lines.clear();
    run.step(ReplicaInput::Queued { under_way: 2, ahead: 1 }).look();
    run.step(ReplicaInput::Queued { under_way: 2, ahead: 0 });
    for _ in 0..70 {
        run.pass(1_000);
    }
    assert_eq!(run.lines.iter().filter(|line| *line == "> \\n").count(), 70);
    run.lines.retain(|line| line != "> \\n");
    run.step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
    run.check(expect![[r##"
        Queued("10.0.0.9:7001")
        # Replica 10.0.0.9:7001 has to wait for its full sync: 2 under way, 1 waiting in front of it (repl-full-sync-max)
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=None offset=0 lag=0]
        # The full sync of replica 10.0.0.9:7001 begins, after 70.000 seconds of waiting for its turn
        Admitted("10.0.0.9:7001")
        > +FULLRESYNC B 150\r\n
    "##]]);
}

#[test]
fn one_that_is_stuck_in_a_file_is_dropped_when_its_place_is_waited_for() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    run.psync("?", "-1").step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
    run.step(ReplicaInput::PayloadBegins(PayloadHeader::Sized(88))).step(ReplicaInput::SendStalled);
    run.lines.clear();
    run.pass(100_000);
    run.step(ReplicaInput::SendProgressed).step(ReplicaInput::SendStalled);
    run.now = run.now + TIMEOUT;
    run.step(ReplicaInput::Tick { place_awaited: true });
    assert_eq!(run.lines, [""; 0]);
    run.now = run.now + Millis(1);
    run.step(ReplicaInput::Tick { place_awaited: true });
    run.check(expect![[r#"
        # Disconnecting timedout replica (full sync): 10.0.0.9:7001
        Close
    "#]]);
}

#[test]
fn where_the_forms_differ_each_vendor_gets_its_own_snapshot() {
    let redis = waiting("capa eof capa psync2");
    let old = waiting("capa eof capa psync2 version 8.1.3");
    let valkey = waiting("capa eof capa psync2 version 9.1.2");
    let all = [redis.clone(), valkey.clone(), old.clone()];
    let together = plan_snapshot(&CONFIG, Millis(5_000), &all).expect("due");
    assert_eq!((together.replicas, together.for_valkey), (3, false));
    let apart = PrimaryConfig { apart: true, ..CONFIG };
    let first = plan_snapshot(&apart, Millis(5_000), &all).expect("due");
    assert_eq!((first.replicas, first.for_valkey), (2, false));
    assert!(first.serves(&redis) && first.serves(&old) && !first.serves(&valkey));
    let second = plan_snapshot(&apart, Millis(5_000), std::slice::from_ref(&valkey)).expect("due");
    assert_eq!((second.replicas, second.for_valkey), (1, true));
    assert!(second.serves(&valkey) && !second.serves(&redis));
}

#[test]
fn a_later_replica_may_share_a_snapshot_that_suits_it() {
    let running = |args: &str| {
        let mut run = Run::announced(args);
        run.psync("?", "-1").step(ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 });
        run.link.expect("a link")
    };
    let plain = running("capa psync2");
    assert!(waiting("capa eof capa psync2").may_share_snapshot(&plain));
    assert!(!waiting("capa psync2").may_share_snapshot(&running("capa eof capa psync2")));
    assert!(!waiting("capa psync2").may_share_snapshot(&waiting("capa psync2")));
    assert!(!waiting("capa eof").may_share_snapshot(&running("capa eof rdb-only 1")));
    assert!(!waiting("capa eof").may_share_snapshot(&running("capa eof rdb-filter-only functions")));
}

#[test]
fn counting_replicas_and_what_they_need() {
    let mut run = Run { link: Some(Run::online(120)), now: Millis(3_999), lines: Vec::new() };
    run.replconf("ack 130 fack 125");
    let replicas = [run.link.expect("a link"), Run::online(140), waiting("capa eof")];
    assert_eq!(count_acked(130, &replicas), 1);
    assert_eq!(count_acked(131, &replicas), 0);
    assert_eq!(count_acked(0, &replicas), 2);
    assert_eq!(count_fsynced(125, &replicas), 1);
    assert_eq!(count_fsynced(126, &replicas), 0);
    assert_eq!(count_good(Millis(10_000), Millis::from_secs(10), &replicas), 2);
    assert_eq!(count_good(Millis(10_999), Millis::from_secs(10), &replicas), 2);
    assert_eq!(count_good(Millis(11_000), Millis::from_secs(10), &replicas), 1);
    assert_eq!(oldest_pinned(&replicas), Some(120));
    assert_eq!(oldest_pinned(&replicas[2..]), None);
}

#[test]
fn a_new_ping_period_holds_at_once() {
    let mut cron = PrimaryCron::default();
    let mut pings = |secs: u64, period: u64| {
        let (mut out, period) = (Vec::new(), Millis::from_secs(period));
        let config = PrimaryConfig { ping_period: period, ..CONFIG };
        cron.tick(&config, Millis::from_secs(secs), 1, true, false, &mut out);
        out == [PrimaryAction::AppendPing]
    };
    assert!(!pings(1, 1) && pings(2, 1) && !pings(3, 3600) && !pings(100, 3600));
    assert!(pings(101, 10) && !pings(102, 10));
}

#[test]
fn a_primary_pings_its_replicas_and_frees_a_backlog_that_nobody_uses() {
    let mut cron = PrimaryCron::default();
    let mut tick = |secs: u64, replicas: usize, active: bool, is_replica: bool| {
        let mut out = Vec::new();
        cron.tick(&CONFIG, Millis::from_secs(secs), replicas, active, is_replica, &mut out);
        out
    };
    assert_eq!(tick(1, 1, true, false), [], "a replica that has just come is not pinged for that");
    assert_eq!(tick(10, 1, true, false), []);
    assert_eq!(tick(11, 1, true, false), [PrimaryAction::AppendPing]);
    assert_eq!(tick(21, 1, true, true), [], "a replica adds nothing to its primary's stream");
    assert_eq!(tick(30, 0, true, false), []);
    assert_eq!(tick(3630, 0, true, false), []);
    let freed = tick(3631, 0, true, false);
    let [PrimaryAction::FreeBacklog(line)] = freed[..] else { panic!("{freed:?}") };
    assert_eq!(line.to_string(), "Replication backlog freed after 3600 seconds without connected replicas.");
    assert_eq!(tick(3632, 0, false, false), []);
    assert_eq!(tick(9000, 0, true, true), [], "a replica keeps its log for the day it is promoted");
    assert_eq!(tick(9001, 0, true, false), [], "and the time runs from its promotion");
}

#[test]
fn the_handshake_tells_who_reads() {
    let reader = |args: &str| Run::announced(args).link().reader(10);
    assert_eq!(reader("capa eof capa psync2"), Reader::Silent { rdb: 10 });
    assert_eq!(reader("capa eof capa psync2 capa rdb-channel-repl"), Reader::Redis8);
    assert_eq!(reader("capa eof capa psync2 version 8.1.3"), Reader::Valkey(8));
    assert_eq!(reader("capa eof capa psync2 version 9.1.2"), Reader::Valkey(9));
    assert_eq!(reader("capa eof capa psync2 capa kindred version 9.0.0"), Reader::Kindred);
    assert_eq!(reader("capa eof rdb-only 1"), Reader::Tool);
    assert_eq!(reader("capa eof rdb-filter-only functions"), Reader::Tool);
}

fn refusal() -> Refusal {
    let witness = "key 'h' of database 0 is a hash whose fields have an expiry".to_owned();
    Refusal { feature: Feature::FieldExpiries, witness, reader: Reader::Silent { rdb: 10 } }
}

#[test]
fn who_could_not_hold_the_data_is_told_so_before_anything_is_sent() {
    let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
    let refusal: &Refusal = Box::leak(Box::new(refusal()));
    // Even if the missing bytes were there.
    let request = SyncRequest::psync(B.as_bytes(), b"151").expect("a number");
    run.sync(request, |context| context.refusal = Some(refusal));
    run.check(expect![[r#"
        > -NOMASTERLINK Can\'t SYNC: key \'h\' of database 0 is a hash whose fields have an expiry, which only Redis 7.4 and Valkey 9 and later know; the replica announces no version and is taken for Redis 7.0 (repl-assume-rdb-version 10)\r\n
        Refused("10.0.0.9:7001", Refusal { feature: FieldExpiries, witness: "key 'h' of database 0 is a hash whose fields have an expiry", reader: Silent { rdb: 10 } })
    "#]]);
    assert!(!run.link().is_attached());
}

#[test]
fn nobody_continues_over_commands_that_are_not_known_to_it() {
    for (next, full) in [("130", true), ("140", true), ("141", false)] {
        let mut run = Run::announced("listening-port 7001 capa eof capa psync2");
        let request = SyncRequest::psync(B.as_bytes(), next.as_bytes()).expect("a number");
        run.sync(request, |context| context.not_understood = Some(140));
        let lines = run.lines.join("\n");
        assert_eq!(lines.contains("full sync: not-understood"), full, "{lines}");
        assert_eq!(lines.contains("+CONTINUE"), !full, "{lines}");
    }
}

#[test]
fn what_is_not_readable_any_more_ends_the_link() {
    let mut waiting = Run { link: Some(waiting("capa eof capa psync2")), now: Millis(0), lines: Vec::new() };
    waiting.step(ReplicaInput::Unreadable(refusal()));
    assert!(waiting.lines[0].starts_with("> -NOMASTERLINK Can"), "{:?}", waiting.lines);
    assert_eq!(waiting.lines.last().expect("an action"), "Close");
    let mut online = Run { link: Some(Run::online(151)), now: Millis(0), lines: Vec::new() };
    online.step(ReplicaInput::Unreadable(refusal()));
    assert!(online.lines[0].starts_with("Refused("), "nothing may be sent into the stream");
    assert_eq!(online.lines.last().expect("an action"), "Close");
}

/// Valkey's way: the connection of the snapshot comes second and says where the stream begins.
#[test]
fn a_valkey_replica_takes_snapshot_and_stream_on_two_connections() {
    let offered = ChannelsOffered { valkey: true, redis: true };
    let mut stream =
        Run::announced("listening-port 7001 capa eof capa psync2 capa dual-channel version 9.1.2");
    stream.sync(SyncRequest::psync(A.as_bytes(), b"130").expect("a number"), |c| c.channels = offered);
    stream.look();
    assert!(!stream.link().is_attached());

    let mut snapshot = Run::new();
    snapshot.link = Some(ReplicaLink::new("10.0.0.9", 8));
    snapshot.replconf("capa eof rdb-only 1 rdb-channel 1 listening-port 7001 version 9.1.2");
    snapshot.sync(SyncRequest::Sync, |c| c.channels = offered).look();
    let started = ReplicaInput::SnapshotStarted { at: Position::new(id(B), 150), db: -1 };
    snapshot.step(started).look();
    snapshot.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK)));

    stream.replconf("set-rdb-client-id 9");
    assert!(!stream.link().may_join(snapshot.link()), "another client is meant");
    stream.link().unjoin();
    stream.replconf("set-rdb-client-id 8");
    assert!(stream.link().may_join(snapshot.link()));
    stream.sync(SyncRequest::psync(B.as_bytes(), b"151").expect("a number"), |c| {
        (c.channels, c.partner_waits) = (offered, true);
    });
    snapshot.step(ReplicaInput::Joined(7)).look();
    assert!(!stream.link().may_join(snapshot.link()), "it has been joined");
    assert!(stream.link().falls_with(snapshot.link()) && snapshot.link().falls_with(stream.link()));
    stream.look().step(ReplicaInput::Sent(30)).pass(100_000).look();

    snapshot.step(ReplicaInput::PayloadEnds).pass(59_000).pass(2_000);
    assert!(!stream.link().falls_with(snapshot.link()), "the snapshot is there");
    stream.replconf("ACK 150").look();
    assert!(!stream.link().falls_with(snapshot.link()));

    stream.check(expect![[r##"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: diverged
        # Partial resynchronization not accepted: Requested offset for second ID was 130, but I can reply up to 120
        Count(PartialErr)
        # Replica 10.0.0.9:7001 can take the snapshot on a connection of its own, and cannot continue: a full sync on two channels is proposed.
        > +DUALCHANNELSYNC\r\n
          [10.0.0.9:7001 state=None cursor=None pinned=None offset=0 lag=0]
        Joins(UnknownSnapshotChannel(9))
        Joins(UnknownSnapshotChannel(8))
        # Replica 10.0.0.9:7001 asks for synchronization
        > +CONTINUE B\r\n
        # Starting to deliver RDB and replication stream to replica: 10.0.0.9:7001
        StartStream(151)
          [10.0.0.9:7001 state=Some("send_bulk_and_stream") cursor=Some(151) pinned=Some(151) offset=0 lag=0]
          [10.0.0.9:7001 state=Some("send_bulk_and_stream") cursor=Some(181) pinned=Some(181) offset=0 lag=0]
        Acked { start_stream: None, synced: true }
          [10.0.0.9:7001 state=Some("online") cursor=Some(181) pinned=Some(181) offset=150 lag=0]
    "##]]);
    snapshot.check(expect![[r#"
        Ok
        # Replica 10.0.0.9:7001 asks for synchronization
        Count(Full)
        WantSnapshot
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=None offset=0 lag=0]
        > $ENDOFF:150 B -1 8\r\n
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=Some(151) offset=0 lag=0]
        > $EOF:mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\r\n
          [10.0.0.9:7001 state=None cursor=None pinned=None offset=0 lag=0]
        > mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
        # Streamed RDB transfer with replica 10.0.0.9:7001 succeeded (socket). Waiting for REPLCONF ACK from slave to enable streaming
        Close
    "#]]);
}

/// Redis' way: the stream begins by itself where the snapshot on the other connection does.
#[test]
fn a_redis_replica_takes_snapshot_and_stream_on_two_connections() {
    let offered = ChannelsOffered { valkey: true, redis: true };
    let mut stream = Run::announced("listening-port 7001 capa eof capa psync2 capa rdb-channel-repl");
    stream.sync(SyncRequest::psync(b"?", b"-1").expect("a number"), |c| c.channels = offered).look();

    let mut snapshot = Run::new();
    snapshot.link = Some(ReplicaLink::new("10.0.0.9", 8));
    snapshot.replconf("capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 7 listening-port 7001");
    assert!(snapshot.link().may_join(stream.link()) && snapshot.link().is_second());
    snapshot.sync(SyncRequest::psync(b"?", b"-1").expect("a number"), |c| {
        (c.channels, c.partner_waits) = (offered, true);
    });
    stream.step(ReplicaInput::Joined(8));
    assert!(!snapshot.link().may_join(stream.link()), "it has been joined");
    assert!(stream.link().falls_with(snapshot.link()) && snapshot.link().falls_with(stream.link()));
    stream.pass(100_000);
    let at = Position::new(id(B), 150);
    snapshot.step(ReplicaInput::SnapshotStarted { at, db: -1 }).look();
    stream.step(ReplicaInput::PartnerStarted(at)).look();
    snapshot.step(ReplicaInput::PayloadBegins(PayloadHeader::UntilMark(MARK)));
    snapshot.step(ReplicaInput::PayloadEnds);
    stream.replconf("ACK 150").look();
    stream.check(expect![[r##"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: no-position
        # Full resync requested by replica 10.0.0.9:7001
        # Replica 10.0.0.9:7001 can take the snapshot on a connection of its own, and cannot continue: a full sync on two channels is proposed.
        > +RDBCHANNELSYNC 7\r\n
          [10.0.0.9:7001 state=Some("wait_bgsave") cursor=None pinned=None offset=0 lag=0]
        # Starting to deliver RDB and replication stream to replica: 10.0.0.9:7001
        StartStream(151)
          [10.0.0.9:7001 state=Some("send_bulk_and_stream") cursor=Some(151) pinned=Some(151) offset=0 lag=0]
        Acked { start_stream: None, synced: true }
          [10.0.0.9:7001 state=Some("online") cursor=Some(151) pinned=Some(151) offset=150 lag=0]
    "##]]);
    snapshot.check(expect![[r#"
        Joins(UnknownStreamChannel(7))
        # Replica 10.0.0.9:7001 asks for synchronization
        # Full resync requested by replica 10.0.0.9:7001
        Count(Full)
        WantSnapshot
        > +FULLRESYNC B 150\r\n
          [10.0.0.9:7001 state=None cursor=None pinned=None offset=0 lag=0]
        > $EOF:mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm\r\n
        > mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
        # Streamed RDB transfer with replica 10.0.0.9:7001 succeeded (socket). Waiting for REPLCONF ACK from slave to enable streaming
    "#]]);
}

#[test]
fn a_second_connection_that_has_lost_the_first_is_refused() {
    let mut snapshot = Run::announced("capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 99");
    snapshot.psync("?", "-1");
    // The replica that opens no second connection is not waited for.
    let mut stream = Run::announced("listening-port 7001 capa eof capa psync2 capa rdb-channel-repl");
    let offered = ChannelsOffered { valkey: false, redis: true };
    stream.sync(SyncRequest::psync(b"?", b"-1").expect("a number"), |c| c.channels = offered);
    stream.pass(60_000).pass(1_000);
    snapshot.check(expect![[r#"
        > -ERR The other channel of this replica is gone\r\n
    "#]]);
    stream.check(expect![[r#"
        # Replica 10.0.0.9:7001 asks for synchronization
        full sync: no-position
        # Full resync requested by replica 10.0.0.9:7001
        # Replica 10.0.0.9:7001 can take the snapshot on a connection of its own, and cannot continue: a full sync on two channels is proposed.
        > +RDBCHANNELSYNC 7\r\n
        # Disconnecting timedout replica (full sync): 10.0.0.9:7001
        Close
    "#]]);
}

#[test]
fn two_connections_are_proposed_only_where_they_help_and_both_know_them() {
    let both = ChannelsOffered { valkey: true, redis: true };
    let none = ChannelsOffered::default();
    for (announced, offered, proposed) in [
        ("capa eof capa psync2", both, None),
        ("capa eof capa dual-channel", none, None),
        ("capa eof capa rdb-channel-repl", ChannelsOffered { redis: false, ..both }, None),
        ("capa eof capa dual-channel", both, Some("+DUALCHANNELSYNC\r\n")),
        ("capa eof capa rdb-channel-repl", both, Some("+RDBCHANNELSYNC 7\r\n")),
        ("capa eof capa rdb-channel-repl capa dual-channel", both, Some("+DUALCHANNELSYNC\r\n")),
        ("capa eof capa dual-channel rdb-only 1", both, None),
        ("capa eof capa dual-channel rdb-filter-only functions", both, None),
    ] {
        let mut run = Run::announced(announced);
        run.sync(SyncRequest::psync(b"?", b"-1").expect("a number"), |c| c.channels = offered);
        let sent = run.lines.iter().find(|line| line.starts_with("> +"));
        let expected = proposed.map(|text| format!("> {}", text.as_bytes().escape_ascii()));
        assert_eq!(sent, expected.as_ref(), "{announced}");
    }
}
