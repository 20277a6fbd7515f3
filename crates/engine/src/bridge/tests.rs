//! What is refused, dropped, relayed and kept, on a node without surroundings.

use replication::{Feature, Needs};

use super::*;
use crate::action::{Action, ConnId};
use crate::testing::Harness;

const SILENT: &str = "REPLCONF listening-port 7001 capa eof capa psync2";
const VALKEY: &str = "REPLCONF listening-port 7002 capa eof capa psync2 version 9.1.2";
const REDIS8: &str = "REPLCONF listening-port 7003 capa eof capa psync2 capa rdb-channel-repl";
const KINDRED: &str = "REPLCONF listening-port 7004 capa eof capa psync2 capa kindred version 9.0.0";

fn lines(h: &mut Harness, text: &str) -> usize {
    let actions = h.node.take_actions();
    let says = |action: &&Action| matches!(action, Action::Log { message, .. } if message.contains(text));
    actions.iter().filter(says).count()
}

/// A replica that continues from where the log ends.
fn online(h: &mut Harness, announces: &str) -> ConnId {
    let conn = h.connect();
    assert_eq!(h.run_on(conn, announces), r"+OK\r\n");
    let at = h.node.core.repl.position();
    let answer = h.run_on(conn, &format!("PSYNC {} {}", at.replid, at.next()));
    assert!(answer.starts_with("+CONTINUE"), "{answer}");
    conn
}

fn is_served(h: &Harness, conn: ConnId) -> bool {
    h.node.core.replica(conn).is_some_and(|replica| replica.link.is_online())
}

/// What a replica is answered that asks for everything.
fn asks(h: &mut Harness, announces: &str) -> String {
    let conn = h.connect();
    h.run_on(conn, announces);
    let answer = h.run_on(conn, "PSYNC ? -1");
    h.node.closed(conn);
    answer
}

#[test]
fn what_commands_of_a_stream_need() {
    let needs_of = |line: &str| {
        let mut bytes = Vec::new();
        resp::encode_command(&mut bytes, line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let (mut parser, mut batch) = (resp::Parser::default(), resp::Batch::new());
        let limits = resp::Limits { bulk_len_max: u64::MAX, authenticated: true };
        parser.parse(&bytes, &limits, 1, &mut batch).expect("a command");
        let argv = batch.args(0, &bytes);
        needs(registry().lookup(argv.at(0)).expect("it is known"), argv)
    };
    for (line, feature) in [
        ("HSETEX h PXAT 1 FIELDS 1 a 2", Feature::FieldExpiries),
        ("HPEXPIREAT h 1 FIELDS 1 a", Feature::FieldExpiries),
        ("HPERSIST h FIELDS 1 a", Feature::FieldExpiries),
        ("HGETDEL h FIELDS 1 c", Feature::FieldExpiries),
        ("XDELEX s IDS 1 1-2", Feature::Redis82),
        ("XACKDEL s g IDS 1 1-3", Feature::Redis82),
        ("XADD s KEEPREF MAXLEN 5 1-3 a b", Feature::Redis82),
        ("XADD s NOMKSTREAM MAXLEN ~ 5 LIMIT 10 ACKED 1-3 a b", Feature::Redis82),
        ("XTRIM s MINID = 2 DELREF", Feature::Redis82),
        ("BITOP DIFF1 d a b", Feature::Redis82),
        ("SET a new PXAT 17 IFEQ old", Feature::Valkey9),
        ("MSETEX 1 a b PXAT 1", Feature::Valkey9),
        ("FUNCTION FLUSH", Feature::Rdb10),
    ] {
        assert_eq!(needs_of(line), Needs::of(feature), "{line}");
    }
    for line in [
        "SET IFEQ IFEQ",
        "SET a IFEQ PX 1",
        "XADD s 1-1 KEEPREF DELREF",
        "XADD s MAXLEN 5 1-1 a ACKED",
        "XTRIM s MAXLEN ~ 5 LIMIT 0",
        "BITOP XOR d a b",
        "HDEL h a",
        "RESTORE k 0 short",
    ] {
        assert!(needs_of(line).is_empty(), "{line}");
    }
    for (target, feature) in [
        (rdb::Target::V10, Some(Feature::Rdb10)),
        (rdb::Target::V11, Some(Feature::Rdb11)),
        (rdb::Target::V12, Some(Feature::Rdb12)),
        (rdb::Target::Valkey80, Some(Feature::Rdb80)),
        (rdb::Target::V9, None),
    ] {
        let mut payload = vec![0, 1, b'x'];
        rdb::dump::seal(&mut payload, target);
        assert_eq!(payload_needs(&payload), feature.map_or(Needs::NONE, Needs::of));
    }
}

#[test]
fn who_has_no_field_expiries_is_dropped_at_the_first_and_kept_out_by_name() {
    let mut h = Harness::new();
    h.run("HSET h a 1 b 2");
    let [silent, valkey, redis8, kindred] =
        [SILENT, VALKEY, REDIS8, KINDRED].map(|announces| online(&mut h, announces));
    let before = h.node.core.repl.position();
    h.node.take_actions();
    h.run("HEXPIRE h 100 FIELDS 1 a");
    assert!(!is_served(&h, silent));
    assert!(is_served(&h, valkey) && is_served(&h, redis8) && is_served(&h, kindred));
    let line = "Replica 127.0.0.1:7001 is refused: the stream has the command HPEXPIREAT with key 'h', which only Redis \
                7.4 and Valkey 9 and later know; the replica announces no version";
    assert_eq!(lines(&mut h, line), 1);
    for _ in 0..20 {
        h.advance_ms(1000);
        let refused = asks(&mut h, SILENT);
        assert!(
            refused.starts_with(
                r"-NOMASTERLINK Can\'t SYNC: key \'h\' of database 0 is a hash whose fields have an expiry, which only"
            ),
            "{refused}"
        );
        assert!(refused.contains("taken for Redis 7.0 (repl-assume-rdb-version 10)"), "{refused}");
    }
    // Not even the older command, by which no snapshot can be refused in half.
    assert!(h.run("SYNC").starts_with("-NOMASTERLINK"));
    assert_eq!(lines(&mut h, "Replica 127.0.0.1:7001 is refused"), 0, "that was said");
    let info = h.run("INFO replication");
    assert!(info.contains(r"repl_refused_replicas:2\r\nrepl_refusals:22\r\n"), "{info}");
    assert!(h.run("REPL WHY").contains(r"attempts\r\n:21\r\n"));
    assert_eq!(h.node.core.stats.sync_full, 0);

    // The last expiry is gone, but was in use a moment ago.
    h.run("HPERSIST h FIELDS 1 a");
    assert!(!h.node.store.has_field_ttl());
    assert!(asks(&mut h, SILENT).contains("the stream has the command HPERSIST with key"));
    h.advance_ms(60_000);
    let conn = h.connect();
    h.run_on(conn, SILENT);
    // Where it was dropped it cannot go on: what follows is not known to it.
    let answer = h.run_on(conn, &format!("PSYNC {} {}", before.replid, before.next()));
    assert!(!answer.contains("CONTINUE"), "{answer}");
    assert_eq!(lines(&mut h, "is served now, after 22 refusals"), 1);
    assert!(h.run("INFO replication").contains("not-understood=1"));
}

#[test]
fn what_is_silent_may_be_told_to_be_younger_or_older() {
    let mut h = Harness::new();
    h.run("HSETEX h EX 100 FIELDS 1 a 1");
    assert!(asks(&mut h, SILENT).starts_with("-NOMASTERLINK"));
    h.run("CONFIG SET repl-assume-rdb-version 12");
    assert!(!asks(&mut h, SILENT).starts_with("-NOMASTERLINK"));
    h.run("FLUSHALL");
    h.run("CONFIG SET repl-assume-rdb-version 9 repl-refusal-seconds 0");
    assert!(!asks(&mut h, SILENT).starts_with("-NOMASTERLINK"));
    h.run("XADD s 1-1 a b");
    assert!(asks(&mut h, SILENT).contains("database 0 has a stream"));
    h.run("DEL s");
    h.node.store.functions.load(b"#!lua name=mylib\n", false).expect("a library");
    assert!(asks(&mut h, SILENT).contains(r"there is the function library \'mylib\', which only Redis 7.0"));
    assert!(!asks(&mut h, VALKEY).starts_with("-NOMASTERLINK"));
}

#[test]
fn tools_that_only_look_are_not_refused() {
    let mut h = Harness::new();
    h.run("HSETEX h EX 100 FIELDS 1 a 1");
    for announces in ["REPLCONF rdb-only 1 capa eof", "REPLCONF capa eof rdb-filter-only functions"] {
        assert!(!asks(&mut h, announces).starts_with('-'), "{announces}");
    }
}

#[test]
fn who_waits_for_a_snapshot_is_judged_when_it_begins() {
    let mut h = Harness::new();
    h.run("CONFIG SET repl-diskless-sync-delay 5");
    let [silent, valkey] = [SILENT, VALKEY].map(|announces| {
        let conn = h.connect();
        h.run_on(conn, announces);
        assert_eq!(h.run_on(conn, "PSYNC ? -1"), "");
        conn
    });
    h.run("HSETEX h EX 100 FIELDS 1 a 1");
    h.advance_ms(5000);
    h.node.tick();
    h.node.before_sleep();
    // Behind the empty lines that kept the connections alive.
    let answer = |h: &mut Harness, conn| String::from_utf8_lossy(&h.output(conn)).trim_start().to_owned();
    assert!(answer(&mut h, silent).starts_with("-NOMASTERLINK Can't SYNC: key 'h'"));
    assert!(answer(&mut h, valkey).starts_with("+FULLRESYNC "));
}

fn stream(h: &mut Harness, conn: ConnId, line: &str) {
    let mut bytes = Vec::new();
    resp::encode_command(&mut bytes, line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    h.raw(conn, &bytes);
}

#[test]
fn who_does_not_know_what_is_relayed_is_dropped_before_it_comes() {
    let (mut h, primary) = Harness::following();
    let replicas = [SILENT, VALKEY, REDIS8, KINDRED].map(|announces| online(&mut h, announces));
    let served = |h: &Harness| replicas.map(|conn| is_served(h, conn));
    stream(&mut h, primary, "XADD s 1-1 a b");
    assert_eq!(served(&h), [true; 4]);
    stream(&mut h, primary, "XDELEX s IDS 1 1-1");
    assert_eq!(served(&h), [false, false, true, true], "only Redis 8.2 has it, and Kindred");
    stream(&mut h, primary, "SET a b IFEQ c");
    assert_eq!(served(&h), [false, false, false, true], "only Valkey has it, and Kindred");
    assert_eq!(h.node.core.repl.refusals.iter().len(), 3);
    assert!(asks(&mut h, VALKEY).contains(r"the stream has the command XDELEX with key \'s\'"));
}

/// Redis 8.2 writes every HINCRBYFLOAT with a word that older servers do not know, whether there are expiries or not.
#[test]
fn what_can_be_said_in_old_words_is_relayed_in_them_at_the_same_length() {
    let (mut h, primary) = Harness::following();
    let silent = online(&mut h, SILENT);
    let mut offset = h.node.core.repl.offset();
    let relayed = |h: &mut Harness, line: &str, offset: &mut u64| {
        stream(h, primary, line);
        let slices = h.node.core.repl.log.read(*offset + 1).expect("it is in the log");
        let bytes: Vec<u8> = slices.flat_map(|slice| slice.to_vec()).collect();
        *offset = h.node.core.repl.offset();
        bytes.escape_ascii().to_string()
    };
    assert_eq!(
        relayed(&mut h, "HSETEX h KEEPTTL FIELDS 1 a 2.5", &mut offset),
        r"*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\na\r\n$3\r\n2.5\r\n*2\r\n$4\r\nPING\r\n$13\r\n-------------\r\n"
    );
    assert_eq!(h.run("HGET h a"), r"$3\r\n2.5\r\n");
    let two = relayed(&mut h, "HSETEX h KEEPTTL FIELDS 2 a 1 b 2", &mut offset);
    assert!(two.starts_with(r"*6\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n"), "{two}");
    assert!(is_served(&h, silent));
    assert!(h.node.core.repl.uses.not_understood(Reader::Silent { rdb: 10 }).is_none());
    // In a transaction it runs later.
    for line in ["MULTI", "SET k 1", "HSETEX h KEEPTTL FIELDS 1 a 2.5"] {
        stream(&mut h, primary, line);
    }
    let transaction = relayed(&mut h, "EXEC", &mut offset);
    assert!(transaction.contains("HSET") && !transaction.contains("KEEPTTL"), "{transaction}");
    assert!(is_served(&h, silent));
    // With an expiry it means something else.
    let reader = online(&mut h, KINDRED);
    relayed(&mut h, "HPEXPIREAT h 1800000000000 FIELDS 1 a", &mut offset);
    assert!(!is_served(&h, silent));
    let kept = relayed(&mut h, "HSETEX h KEEPTTL FIELDS 1 a 3", &mut offset);
    assert!(kept.contains("KEEPTTL"), "{kept}");
    assert!(is_served(&h, reader));
    stream(&mut h, primary, "DEL h");
    for line in ["MULTI", "HSETEX h PX 100000 FIELDS 1 a 1", "HSETEX h KEEPTTL FIELDS 1 a 2.5"] {
        stream(&mut h, primary, line);
    }
    assert!(relayed(&mut h, "EXEC", &mut offset).contains("KEEPTTL"));
}

#[test]
fn a_transaction_counts_when_it_is_complete() {
    let (mut h, primary) = Harness::following();
    let silent = online(&mut h, SILENT);
    for line in ["MULTI", "HSET h a 1", "HPEXPIREAT h 1800000000000 FIELDS 1 a", "SET k 1"] {
        stream(&mut h, primary, line);
        assert!(is_served(&h, silent), "nothing was relayed");
    }
    stream(&mut h, primary, "EXEC");
    assert!(!is_served(&h, silent));
}

#[test]
fn libraries_of_the_stream_are_kept_and_go_into_snapshots() {
    let (mut h, primary) = Harness::following();
    let code = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)";
    let mut bytes = Vec::new();
    resp::encode_command(&mut bytes, [b"FUNCTION".as_slice(), b"LOAD", code.as_bytes()]);
    h.raw(primary, &bytes);
    let (name, kept) = h.node.store.functions.iter().next().expect("it is kept");
    assert_eq!((name, &**kept), (b"mylib".as_slice(), code.as_bytes()));
    let plan = h.node.snapshot_plan(crate::snapshot::Sink::Stream);
    assert_eq!((plan.target, plan.functions.len()), (rdb::Target::V10, 1));
    let mut file = Vec::new();
    crate::rdb_writer::RdbWriter::new(&plan).begin(&mut file);
    assert!(file.windows(code.len()).any(|part| part == code.as_bytes()));
    stream(&mut h, primary, "FUNCTION DELETE mylib");
    assert!(h.node.store.functions.is_empty());
    assert!(!h.node.core.repl.is_link_down());
    assert_eq!(h.node.core.stats.unexpected_error_replies, 0);
}
