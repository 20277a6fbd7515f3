//! What waiting clients get, when, and what is propagated for them: at the level of the engine.

use keyspace::Key;

use super::{Awaited, KeyWait, Timeout};
use crate::action::ConnId;
use crate::notify::Event;
use crate::testing::Harness;

/// A client that has sent `line` and got no answer.
fn waits(h: &mut Harness, line: &str) -> ConnId {
    let conn = h.connect();
    assert_eq!(h.run_on(conn, line), "", "{line}");
    conn
}

fn output(h: &mut Harness, conn: ConnId) -> String {
    h.output(conn).escape_ascii().to_string()
}

fn info(h: &mut Harness, section: &str, field: &str) -> String {
    let text = h.run(&format!("INFO {section}"));
    let line = text.split(r"\r\n").find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().to_owned()
}

#[test]
fn who_came_first_is_served_first() {
    let mut h = Harness::new();
    let first = waits(&mut h, "BLPOP l 0");
    let second = waits(&mut h, "BRPOP other l 0");
    let third = waits(&mut h, "BLPOP l 0");
    assert_eq!(info(&mut h, "clients", "blocked_clients"), "3");
    assert_eq!(h.node.store.key_waits.keys(), 2);
    assert_eq!(h.run("RPUSH l a b c"), r":3\r\n");
    assert_eq!(output(&mut h, first), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
    assert_eq!(output(&mut h, second), r"*2\r\n$1\r\nl\r\n$1\r\nc\r\n");
    assert_eq!(output(&mut h, third), r"*2\r\n$1\r\nl\r\n$1\r\nb\r\n");
    assert_eq!(h.propagated(), ["SELECT 0", "RPUSH l a b c", "LPOP l", "RPOP l", "LPOP l"]);
    assert_eq!(h.run("EXISTS l"), r":0\r\n");
    assert!(h.node.store.key_waits.is_empty());
    assert_eq!(h.node.store.key_waits.keys(), 0);
    assert_eq!(info(&mut h, "clients", "blocked_clients"), "0");
}

#[test]
fn what_is_left_over_stays_and_who_gets_nothing_waits_on() {
    let mut h = Harness::new();
    let first = waits(&mut h, "BLMPOP 0 1 l LEFT COUNT 2");
    let second = waits(&mut h, "BLPOP l l 0");
    h.run("RPUSH l 1 2");
    assert_eq!(output(&mut h, first), r"*2\r\n$1\r\nl\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(output(&mut h, second), "");
    h.run("LPUSH l x y z");
    assert_eq!(output(&mut h, second), r"*2\r\n$1\r\nl\r\n$1\r\nz\r\n");
    assert_eq!(h.run("LRANGE l 0 -1"), r"*2\r\n$1\r\ny\r\n$1\r\nx\r\n");
    assert_eq!(h.propagated(), ["SELECT 0", "RPUSH l 1 2", "LPOP l 2", "LPUSH l x y z", "LPOP l"]);
}

#[test]
fn sorted_sets_are_waited_for_alike() {
    let mut h = Harness::new();
    let min = waits(&mut h, "BZPOPMIN z 0");
    let max = waits(&mut h, "BZPOPMAX none z 0");
    let many = waits(&mut h, "BZMPOP 0 2 none z MAX COUNT 9");
    h.run("ZADD z 1 a 2 b 3 c 4.5 d");
    assert_eq!(output(&mut h, min), r"*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_eq!(output(&mut h, max), r"*3\r\n$1\r\nz\r\n$1\r\nd\r\n$3\r\n4.5\r\n");
    assert_eq!(
        output(&mut h, many),
        r"*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n"
    );
    assert_eq!(
        h.propagated(),
        ["SELECT 0", "ZADD z 1 a 2 b 3 c 4.5 d", "ZPOPMIN z", "ZPOPMAX z", "ZPOPMAX z 2"]
    );
}

#[test]
fn what_is_there_is_taken_at_once() {
    let mut h = Harness::new();
    h.run("RPUSH l a b c d e");
    h.run("ZADD z 1 a 2 b 3 c");
    h.run("SET s x");
    h.propagated();
    let wrong = r"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    for (line, reply) in [
        ("BLPOP none l 0", r"*2\r\n$1\r\nl\r\n$1\r\na\r\n"),
        ("BRPOP none l 0", r"*2\r\n$1\r\nl\r\n$1\r\ne\r\n"),
        ("BLMPOP 0 1 l RIGHT", r"*2\r\n$1\r\nl\r\n*1\r\n$1\r\nd\r\n"),
        ("BRPOPLPUSH l m 0", r"$1\r\nc\r\n"),
        ("BLMOVE l m Left RIGHT 0", r"$1\r\nb\r\n"),
        ("BZPOPMIN z 0", r"*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n"),
        ("BZPOPMAX z 0", r"*3\r\n$1\r\nz\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("BZMPOP 0 1 z MIN", r"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n"),
        ("BLPOP none s l 0", wrong),
        ("BZPOPMIN m 0", wrong),
        ("BLMOVE m s LEFT LEFT 0", wrong),
        ("BLMOVE s m LEFT LEFT 0", wrong),
    ] {
        assert_eq!(h.run(line), reply, "{line}");
    }
    assert_eq!(
        h.propagated(),
        [
            "LPOP l",
            "RPOP l",
            "RPOP l 1",
            "RPOPLPUSH l m",
            "LMOVE l m Left RIGHT",
            "ZPOPMIN z",
            "ZPOPMAX z",
            "ZPOPMIN z 1"
        ]
    );
    h.resp3().run("ZADD z 1.5 a");
    assert_eq!(h.run("BZPOPMIN z 0"), r"*3\r\n$1\r\nz\r\n$1\r\na\r\n,1.5\r\n");
}

#[test]
fn a_moved_element_serves_others() {
    let mut h = Harness::new();
    let last = waits(&mut h, "BLPOP c 0");
    let second = waits(&mut h, "BRPOPLPUSH b c 0");
    let first = waits(&mut h, "BLMOVE a b LEFT RIGHT 0");
    h.run("RPUSH a x");
    for conn in [first, second] {
        assert_eq!(output(&mut h, conn), r"$1\r\nx\r\n");
    }
    assert_eq!(output(&mut h, last), r"*2\r\n$1\r\nc\r\n$1\r\nx\r\n");
    assert_eq!(h.run("DBSIZE"), r":0\r\n");
    assert_eq!(h.propagated(), ["SELECT 0", "RPUSH a x", "LMOVE a b left right", "RPOPLPUSH b c", "LPOP c"]);
}

#[test]
fn a_destination_of_another_type_fails_that_client_alone() {
    let mut h = Harness::new();
    h.run("SET s 1");
    let unlucky = waits(&mut h, "BRPOPLPUSH l s 0");
    let lucky = waits(&mut h, "BRPOPLPUSH l m 0");
    h.propagated();
    h.run("LPUSH l x");
    assert_eq!(
        output(&mut h, unlucky),
        r"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    );
    assert_eq!(output(&mut h, lucky), r"$1\r\nx\r\n");
    assert_eq!(h.propagated(), ["LPUSH l x", "RPOPLPUSH l m"]);
    assert!(info(&mut h, "commandstats", "cmdstat_brpoplpush").ends_with("rejected_calls=0,failed_calls=1"));
    assert!(info(&mut h, "commandstats", "cmdstat_brpoplpush").starts_with("calls=2,"));
}

#[test]
fn only_the_key_that_became_ready_is_looked_at() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP a b 0");
    h.run("SET a text");
    h.run("ZADD b 1 x");
    h.run("DEL b");
    assert_eq!(output(&mut h, conn), "");
    h.run("RPUSH b x");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nb\r\n$1\r\nx\r\n");
    // In a transaction the key that was filled first serves, not the one that was named first.
    h.run("DEL a");
    let conn = waits(&mut h, "BLPOP a b 0");
    for line in ["MULTI", "RPUSH b 1", "RPUSH a 2", "EXEC"] {
        h.run(line);
    }
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nb\r\n$1\r\n1\r\n");
    assert_eq!(h.run("LRANGE a 0 -1"), r"*1\r\n$1\r\n2\r\n");
}

#[test]
fn a_transaction_is_seen_as_a_whole() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0");
    h.propagated();
    for line in ["MULTI", "LPUSH l a", "LPUSH l b", "LPUSH l c", "EXEC"] {
        h.run(line);
    }
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nl\r\n$1\r\nc\r\n");
    assert_eq!(
        h.propagated(),
        ["SELECT 0", "MULTI", "LPUSH l a", "LPUSH l b", "LPUSH l c", "EXEC", "LPOP l"]
    );
    h.run("DEL l");
    let conn = waits(&mut h, "BLPOP l 0");
    for line in ["MULTI", "LPUSH l a", "DEL l", "SET l x", "EXEC"] {
        h.run(line);
    }
    assert_eq!(output(&mut h, conn), "");
}

#[test]
fn a_key_that_expires_within_its_transaction_serves_nobody() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0");
    for line in ["MULTI", "RPUSH l a", "PEXPIRE l -1", "EXEC"] {
        h.run(line);
    }
    assert_eq!(output(&mut h, conn), "");
    // The time is taken anew before anybody is served.
    for line in ["MULTI", "RPUSH l a", "PEXPIRE l 10", "DEBUG SLEEP 0.011", "EXEC"] {
        h.run(line);
    }
    assert_eq!(output(&mut h, conn), "");
    assert_eq!(h.propagated().last().map(String::as_str), Some("DEL l"));
}

#[test]
fn nothing_waits_in_a_transaction() {
    let mut h = Harness::new();
    h.run("MULTI");
    let lines = [
        "BLPOP l 0",
        "BRPOP l 0",
        "BLMPOP 0 1 l LEFT",
        "BLMOVE l m LEFT LEFT 0",
        "BRPOPLPUSH l m 0",
        "BZPOPMIN z 0",
        "BZPOPMAX z 0",
        "BZMPOP 0 1 z MIN",
    ];
    lines.iter().for_each(|line| assert_eq!(h.run(line), r"+QUEUED\r\n"));
    assert_eq!(h.run("EXEC"), r"*8\r\n*-1\r\n*-1\r\n*-1\r\n$-1\r\n$-1\r\n*-1\r\n*-1\r\n*-1\r\n");
    assert!(h.node.store.key_waits.is_empty());
}

#[test]
fn every_way_to_make_a_key_serves() {
    for (before, line, reply) in [
        ("RPUSH x a", "RENAME x l", r"$1\r\nl\r\n$1\r\na\r\n"),
        ("RPUSH x a", "COPY x l", r"$1\r\nl\r\n$1\r\na\r\n"),
        ("RPUSH x a", "LMOVE x l LEFT LEFT", r"$1\r\nl\r\n$1\r\na\r\n"),
    ] {
        let mut h = Harness::new();
        h.run(before);
        let conn = waits(&mut h, "BLPOP l 0");
        h.run(line);
        assert_eq!(output(&mut h, conn), format!(r"*2\r\n{reply}"), "{line}");
    }
    let mut h = Harness::new();
    h.run("RPUSH x a");
    let dump = h.run_args(&[b"DUMP", b"x"]);
    let payload = dump[dump.iter().position(|byte| *byte == b'\n').unwrap() + 1..dump.len() - 2].to_vec();
    let conn = waits(&mut h, "BLPOP l 0");
    assert_eq!(h.run_args(&[b"RESTORE", b"l", b"0", &payload]), b"+OK\r\n");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");

    let conn = h.connect();
    h.run_on(conn, "SELECT 3");
    assert_eq!(h.run_on(conn, "BLPOP x 0"), "");
    h.run("MOVE x 3");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nx\r\n$1\r\na\r\n");
    assert_eq!(h.propagated().last().map(String::as_str), Some("LPOP x"));

    assert_eq!(h.run_on(conn, "BLPOP x 0"), "");
    h.run("RPUSH x b");
    assert_eq!(output(&mut h, conn), "");
    h.propagated();
    h.run("SWAPDB 0 3");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nx\r\n$1\r\nb\r\n");
    assert_eq!(h.propagated(), ["SWAPDB 0 3", "SELECT 3", "LPOP x"]);

    let conn = waits(&mut h, "BZPOPMIN z 0");
    h.run("SADD one 1");
    h.run("SUNIONSTORE z one");
    assert_eq!(output(&mut h, conn), "", "a set is no sorted set");
    h.run("ZUNIONSTORE z 1 one");
    assert_eq!(output(&mut h, conn), r"*3\r\n$1\r\nz\r\n$1\r\n1\r\n$1\r\n1\r\n");
}

#[test]
fn a_swapped_key_whose_time_has_run_out_serves_nobody() {
    let mut h = Harness::new();
    let conn = h.connect();
    h.run_on(conn, "SELECT 1");
    h.run_on(conn, "BLPOP l 0");
    h.run("RPUSH l a");
    h.run("PEXPIRE l 10");
    h.propagated();
    h.advance_ms(11);
    h.run("SWAPDB 0 1");
    assert_eq!(output(&mut h, conn), "");
    assert_eq!(h.propagated(), ["SWAPDB 0 1", "SELECT 1", "DEL l"]);
}

#[test]
fn a_wait_ends_with_its_time() {
    let mut h = Harness::new();
    let list = waits(&mut h, "BLPOP l 0.1\r\nPING");
    let moving = waits(&mut h, "BLMOVE l m LEFT LEFT 0.1001");
    let forever = waits(&mut h, "BLPOP l 0");
    assert_eq!(info(&mut h, "clients", "clients_in_timeout_table"), "2");
    h.advance_ms(100);
    h.node.before_sleep();
    assert_eq!(output(&mut h, list), "");
    h.advance_ms(1);
    h.node.before_sleep();
    assert_eq!(output(&mut h, list), r"*-1\r\n+PONG\r\n");
    h.advance_ms(1);
    h.node.before_sleep();
    assert_eq!(output(&mut h, moving), r"*-1\r\n");
    h.run("RPUSH l a");
    assert_eq!(output(&mut h, forever), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
    assert_eq!(info(&mut h, "clients", "clients_in_timeout_table"), "0");
}

#[test]
fn timeouts_are_read_as_seconds() {
    let ms = |text: &str| Timeout::seconds(text.as_bytes(), 1_000_000).map(|timeout| timeout.ms);
    for (text, expected) in [
        ("0", 0),
        ("1", 1000),
        ("0.001", 1),
        ("0.0011", 2),
        ("1e-9", 1),
        ("-0.0001", 0),
        ("0x10", 16_000),
        ("9e12", 9_000_000_000_000_000),
    ] {
        assert_eq!(ms(text), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("", "ERR timeout is not a float or out of range"),
        (" 1", "ERR timeout is not a float or out of range"),
        ("nan", "ERR timeout is not a float or out of range"),
        ("abc", "ERR timeout is not a float or out of range"),
        ("-1", "ERR timeout is negative"),
        ("-inf", "ERR timeout is negative"),
        ("-1e30", "ERR timeout is negative"),
        ("inf", "ERR timeout is out of range"),
        ("1e30", "ERR timeout is out of range"),
        ("9223372036854776", "ERR timeout is out of range"),
        ("9223372036854775.807", "ERR timeout is out of range"),
    ] {
        assert_eq!(ms(text).unwrap_err().to_string(), expected, "{text}");
    }
    let millis = |text: &str| Timeout::millis(text.as_bytes(), 0).map(|timeout| timeout.ms);
    assert_eq!(millis("1500"), Ok(1500));
    assert_eq!(millis("1.5").unwrap_err().to_string(), "ERR timeout is not an integer or out of range");
}

#[test]
fn a_wait_is_ended_by_hand() {
    let mut h = Harness::new();
    for (reason, reply) in [
        ("", r"*-1\r\n"),
        (" TIMEOUT", r"*-1\r\n"),
        (" ERROR", r"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        let conn = waits(&mut h, "BRPOP l 0");
        let id = h.node.core.conns.get(conn).unwrap().session.id;
        assert_eq!(h.run(&format!("CLIENT UNBLOCK {id}{reason}")), r":1\r\n");
        assert_eq!(output(&mut h, conn), reply);
        assert_eq!(h.run(&format!("CLIENT UNBLOCK {id}{reason}")), r":0\r\n");
        h.node.before_sleep();
        assert_eq!(h.run_on(conn, "PING"), r"+PONG\r\n");
    }
    assert!(h.node.store.key_waits.is_empty());
    assert_eq!(info(&mut h, "errorstats", "errorstat_UNBLOCKED"), "count=1");
    assert!(info(&mut h, "commandstats", "cmdstat_brpop").ends_with("rejected_calls=0,failed_calls=3"));
}

#[test]
fn who_is_gone_is_not_served() {
    let mut h = Harness::new();
    let closed = waits(&mut h, "BLPOP l 0.5");
    let killed = waits(&mut h, "BLPOP l 0");
    let third = waits(&mut h, "BLPOP l 0");
    h.node.closed(closed);
    let id = h.node.core.conns.get(killed).unwrap().session.id;
    assert_eq!(h.run(&format!("CLIENT KILL ID {id}")), r":1\r\n");
    h.run("RPUSH l a");
    assert_eq!(output(&mut h, third), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
    h.advance_ms(1000);
    h.node.before_sleep();
    assert!(h.node.store.key_waits.is_empty());
    assert_eq!(h.node.store.key_waits.with_deadline(), 0);
}

#[test]
fn a_new_replica_ends_all_waits() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0");
    let acks = waits(&mut h, "WAIT 1 0");
    h.run("REPLICAOF 127.0.0.1 1");
    for conn in [conn, acks] {
        assert_eq!(
            output(&mut h, conn),
            r"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n"
        );
        assert_eq!(h.node.core.conns.get(conn).unwrap().session.closing, crate::session::Closing::AfterReply);
    }
    assert!(h.node.store.key_waits.is_empty());
    assert_eq!(h.run("BLPOP l 0"), r"-READONLY You can\'t write against a read only replica.\r\n");
}

#[test]
fn a_waiting_client_is_shown_and_reads_on_later() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0\r\nPING 1");
    assert_eq!(h.run_on(conn, "PING 2"), "");
    let id = h.node.core.conns.get(conn).unwrap().session.id;
    let shown = h.run(&format!("CLIENT LIST ID {id}"));
    assert!(shown.contains(" flags=b ") && shown.contains(" cmd=blpop "), "{shown}");
    h.run("RPUSH l a");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
    h.node.before_sleep();
    assert_eq!(output(&mut h, conn), r"$1\r\n1\r\n$1\r\n2\r\n");
}

#[test]
fn replies_that_nobody_wants_are_not_sent() {
    let mut h = Harness::new();
    let off = waits(&mut h, "CLIENT REPLY OFF\r\nBLPOP l 0");
    let skip = waits(&mut h, "CLIENT REPLY SKIP\r\nBLPOP l 0");
    let timed = waits(&mut h, "CLIENT REPLY SKIP\r\nBLPOP none 0.01\r\nPING");
    h.run("RPUSH l a b c");
    h.advance_ms(100);
    h.node.before_sleep();
    assert_eq!(output(&mut h, off) + &output(&mut h, skip), "");
    assert_eq!(output(&mut h, timed), r"+PONG\r\n");
    assert_eq!(h.run_on(skip, "PING"), r"+PONG\r\n");
    assert_eq!(h.run("LRANGE l 0 -1"), r"*1\r\n$1\r\nc\r\n");
}

#[test]
fn watches_and_events_follow_the_service() {
    let mut h = Harness::new();
    let watcher = h.connect();
    let conn = waits(&mut h, "BRPOPLPUSH a b 0");
    h.run_on(watcher, "WATCH b");
    h.node.store.notifications.collect(Event::parse(b"KEA").unwrap());
    h.run("RPUSH a x");
    let raised = h.node.store.notifications.take();
    let events: Vec<String> =
        raised.iter().map(|event| format!("{} {}", event.name, event.key.escape_ascii())).collect();
    assert_eq!(events, ["rpush a", "lpush b", "rpop a", "del a"]);
    assert_eq!(output(&mut h, conn), r"$1\r\nx\r\n");
    h.run_on(watcher, "MULTI");
    h.run_on(watcher, "PING");
    assert_eq!(h.run_on(watcher, "EXEC"), r"*-1\r\n");
}

#[test]
fn a_pushed_key_serves_before_the_next_command_of_the_same_pipeline() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0");
    assert_eq!(h.run("RPUSH l a\r\nLLEN l"), r":1\r\n:0\r\n");
    assert_eq!(output(&mut h, conn), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
}

#[test]
fn a_client_of_a_paused_node_waits_before_it_waits() {
    let mut h = Harness::new();
    let early = waits(&mut h, "BLPOP l 0.05");
    h.run("CLIENT PAUSE 100 WRITE");
    let late = waits(&mut h, "BLPOP l 0");
    h.advance_ms(60);
    h.node.before_sleep();
    assert_eq!(output(&mut h, early), r"*-1\r\n");
    h.advance_ms(60);
    h.node.tick();
    h.node.before_sleep();
    assert_eq!(h.node.store.key_waits.keys(), 1);
    h.run("RPUSH l a");
    assert_eq!(output(&mut h, late), r"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
}

#[test]
fn served_commands_are_counted_once_and_timed_to_their_end() {
    let mut h = Harness::new();
    let conn = waits(&mut h, "BLPOP l 0");
    assert_eq!(info(&mut h, "latencystats", "latency_percentiles_usec_blpop"), "");
    h.run("RPUSH l a");
    output(&mut h, conn);
    assert_ne!(info(&mut h, "latencystats", "latency_percentiles_usec_blpop"), "");
    assert!(info(&mut h, "commandstats", "cmdstat_blpop").starts_with("calls=1,"));
    h.run("CONFIG SET slowlog-log-slower-than 0");
    h.run("SLOWLOG RESET");
    let conn = waits(&mut h, "BLPOP l 0");
    assert!(!h.run("SLOWLOG GET").contains("BLPOP"));
    h.run("RPUSH l a");
    output(&mut h, conn);
    assert!(h.run("SLOWLOG GET").contains("BLPOP"));
}

#[test]
fn a_wait_for_a_group_hears_of_the_end_of_its_key() {
    let command = crate::commands::registry().lookup(b"blpop").unwrap();
    let wait = |awaited| KeyWait {
        command,
        argv: Default::default(),
        awaited,
        db: 0,
        keys: vec![b"s".as_slice().into()],
        turn: 1,
        deadline_ms: None,
        micros: 0,
    };
    type Change = fn(&mut crate::store::Store);
    let changes: [Change; 4] = [
        |store| assert!(store.delete(Key::new(b"s"), false)),
        |store| assert_eq!(store.flush_db(0, false), 1),
        |store| store.swap_dbs(0, 1),
        |store| store.set_str(Key::new(b"s"), b"text", keyspace::db::ExpireChange::Clear),
    ];
    for change in changes {
        for (awaited, ready) in [(Awaited::Group, true), (Awaited::Stream, false), (Awaited::List, false)] {
            let mut h = Harness::new();
            h.run("ZADD s 1 a");
            let store = &mut h.node.store;
            let wait = wait(awaited);
            store.key_waits.add(99, 99, &wait);
            change(store);
            assert_eq!(store.key_waits.has_ready(), ready, "{awaited:?}");
            store.key_waits.remove(99, 99, &wait);
            assert!(store.key_waits.is_empty() && store.key_waits.keys() == 0);
        }
    }
}
