//! Kindred between servers that do not know the same: what each can be sent arrives whole, and what it cannot is refused
//! by name, without a snapshot for each attempt.

mod peers;

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Duration;

use peers::agree::{assert_same, assert_same_contents, assert_same_field_expiries, wait_caught_up};
use peers::bed::tool;
use peers::dataset::FAR_FUTURE_MS;
use peers::writes::{Writes, pour};
use peers::{Batch, Bed, Client, Kind, Reply, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

const LIMIT: Duration = Duration::from_secs(60);

/// No waiting for commands that a replica did not know.
const NO_HOLD: (&str, &str) = ("repl-refusal-seconds", "0");

fn library(name: &str) -> String {
    format!(
        "#!lua name={name}\nredis.register_function{{function_name='{name}_f', callback=function(keys, args) return \
         '{name}' end, flags={{'no-writes'}}}}"
    )
}

/// All types, streams with groups, in two databases; a function library, as far as the server compiles it.
fn fill(server: &Server) {
    let mut client = server.client();
    pour(&mut client, &mut Writes::new(70), 2000);
    for database in [0, 5] {
        client.ok(&format!("SELECT {database}"));
        for line in [
            "SET text value",
            "SET number 17 PX 10000000",
            "RPUSH list a b c 1 2 3",
            "SADD set a b c",
            "SADD ints 1 2 3",
            "HSET hash a 1 b 2 c 3",
            "ZADD zset 1 a 2.5 b -3 c",
            "PFADD hll a b c",
            "XADD stream 1-1 a 1",
            "XADD stream 1-2 a 2",
            "XADD stream 1-3 a 3",
            "XGROUP CREATE stream readers 0",
            "XGROUP CREATE stream idle $",
            "XREADGROUP GROUP readers alice COUNT 2 STREAMS stream >",
            "XGROUP CREATECONSUMER stream readers bob",
            "XACK stream readers 1-1",
            "XDEL stream 1-3",
        ] {
            client.ok(line);
        }
    }
    client.ok("SELECT 0");
}

fn load_library(server: &Server, name: &str) {
    let reply = server.client().argv(&["FUNCTION", "LOAD", "REPLACE", &library(name)]);
    assert_eq!(reply.error(), None);
}

fn set_field_expiries(client: &mut Client) {
    let mut batch = Batch::new();
    for index in 0..50 {
        batch.push_text(&format!("HSET hash:ttl field:{index} {index}"));
        if index % 2 == 0 {
            let at = FAR_FUTURE_MS + 1000 * index;
            batch.push_text(&format!("HPEXPIREAT hash:ttl {at} FIELDS 1 field:{index}"));
        }
    }
    client.batch_ok(&batch);
}

/// The sources of the libraries by their names.
fn libraries(server: &Server) -> BTreeMap<String, String> {
    let text = |reply: &Reply| reply.text();
    server
        .ok("FUNCTION LIST WITHCODE")
        .array()
        .into_iter()
        .map(|library| {
            let parts = library.array();
            let of = |name: &str| {
                let at = parts
                    .iter()
                    .position(|part| matches!(part, Reply::Bulk(Some(word)) if word == name.as_bytes()));
                text(&parts[at.unwrap_or_else(|| panic!("no {name}: {parts:?}")) + 1])
            };
            (of("library_name"), of("library_code"))
        })
        .collect()
}

fn knows_field_expiries(kind: Kind) -> bool {
    kind != Kind::Redis70
}

fn assert_same_libraries(one: &Server, other: &Server, names: &[&str]) {
    let expected: BTreeMap<String, String> =
        names.iter().map(|name| ((*name).to_owned(), library(name))).collect();
    for server in [one, other] {
        assert_eq!(libraries(server), expected, "{}", server.kind.name());
    }
    if other.kind != Kind::Kindred {
        for name in names {
            assert_eq!(other.ok(&format!("FCALL_RO {name}_f 0")).text(), *name, "{}", other.kind.name());
        }
    }
}

/// The same data, by the digest where the two mix values alike.
fn assert_same_end(one: &Server, other: &Server, when: &str) {
    wait_caught_up(one, other);
    assert_same_contents(one, other, when);
    if [one, other].iter().all(|server| knows_field_expiries(server.kind)) {
        assert_same_field_expiries(one, other, when);
    } else {
        assert_same(one, other, when);
    }
}

/// That `primary` refuses `replica` for `reason` for some attempts, says so once, and serves no full synchronisation.
fn assert_refused(primary: &Server, replica: &Server, reason: &str) {
    let refusals = || primary.info_number("replication", "repl_refusals");
    wait_for(PATIENCE, "a refusal", || refusals() > 0);
    let (full, from) = (primary.syncs().full, refusals());
    wait_for(PATIENCE, "further attempts", || refusals() >= from + 2);
    assert_eq!(primary.syncs().full, full, "an attempt cost a snapshot");
    assert_eq!(replica.client().info("replication")["master_link_status"], "down");
    let log = primary.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("is refused: ")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(reason), "{} lacks {reason}", told[0]);
    let last = &primary.client().info("replication")["repl_refused_last"];
    assert!(last.starts_with(&format!("127.0.0.1:{}: ", replica.port)), "{last}");
    assert!(replica.log().contains("Can't SYNC: "), "the replica is not told");
}

/// One server behind the other: everything in a snapshot, then in the stream; then fields with an expiry.
fn pair(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(LIMIT, &[upper, lower, Kind::Redis70]) else { return };
    let primary = bed.start(upper, &[]);
    let replica = bed.start(lower, &[]);
    fill(&primary);
    // Kindred does not compile: it is given what a server dumped that does.
    let compiler = (upper == Kind::Kindred).then(|| bed.start(Kind::Redis70, &[]));
    let load = |name: &str, names: &[&str]| match &compiler {
        None => load_library(&primary, name),
        Some(compiler) => {
            compiler.ok("FUNCTION FLUSH");
            names.iter().for_each(|name| load_library(compiler, name));
            let payload = compiler.ok("FUNCTION DUMP").bytes();
            let reply = primary.client().argv(&[b"FUNCTION".as_slice(), b"RESTORE", &payload, b"FLUSH"]);
            assert_eq!(reply.error(), None);
        }
    };
    load("first", &["first"]);
    replica.follow(primary.port);
    assert_same_end(&primary, &replica, "after the snapshot");
    assert_same_libraries(&primary, &replica, &["first"]);

    let mut client = primary.client();
    pour(&mut client, &mut Writes::new(71), 2000);
    load("second", &["first", "second"]);
    primary.ok("FUNCTION DELETE first");
    assert_same_end(&primary, &replica, "after the stream");
    assert_same_libraries(&primary, &replica, &["second"]);
    assert_eq!(primary.syncs().full, 1);

    client.ok("SELECT 0");
    if !knows_field_expiries(upper) {
        return;
    }
    set_field_expiries(&mut client);
    if knows_field_expiries(lower) {
        assert_same_end(&primary, &replica, "with field expiries");
        assert_eq!(primary.syncs().full, 1);
        // And all of it in a snapshot.
        replica.promote();
        replica.ok("FLUSHALL");
        replica.follow(primary.port);
        assert_same_end(&primary, &replica, "with field expiries, after a snapshot");
        assert_same_libraries(&primary, &replica, &["second"]);
    } else {
        assert_refused(
            &primary,
            &replica,
            "the stream has the command HPEXPIREAT with key 'hash:ttl', which only Redis 7.4",
        );
        assert_eq!(replica.ok("HGET hash a").text(), "1", "it keeps what it had");
    }
}

mod pairs {
    crate::peers::pairs!(super::pair);
}

/// A replica that comes when there are field expiries already, and again when there are none any more.
#[test]
fn who_cannot_hold_the_data_is_refused_by_a_key_and_comes_in_when_it_can() {
    let Some(mut bed) = Bed::new(LIMIT, &[Kind::Redis70]) else { return };
    let primary = bed.start(Kind::Kindred, &[NO_HOLD]);
    let replica = bed.start(Kind::Redis70, &[]);
    fill(&primary);
    set_field_expiries(&mut primary.client());
    replica.ok("SET mine 1");
    replica.follow(primary.port);
    let reason = "key 'hash:ttl' of database 0 is a hash whose fields have an expiry, which only Redis 7.4 and Valkey 9 \
                  and later know; the replica announces no version and is taken for Redis 7.0 (repl-assume-rdb-version \
                  10)";
    assert_refused(&primary, &replica, reason);
    assert!(replica.log().contains(reason), "the replica was not told");
    assert!(!replica.log().contains("Flushing old data"), "the replica lost what it had");
    assert_eq!(replica.ok("GET mine").text(), "1");
    assert_eq!(primary.syncs().full, 0);
    primary.ok("DEL hash:ttl");
    assert_same(&primary, &replica, "without field expiries");
    assert!(primary.log().contains("is served now, after"));
    assert_eq!(primary.client().info("replication")["repl_refused_replicas"], "0");
}

/// `first` ← Kindred ← `last`: two that cannot talk to each other.
fn chain(first: Kind, last: Kind) {
    let Some(mut bed) = Bed::new(LIMIT, &[first, last]) else { return };
    let primary = bed.start(first, &[]);
    let middle = bed.start(Kind::Kindred, &[NO_HOLD]);
    let replica = bed.start(last, &[]);
    fill(&primary);
    load_library(&primary, "first");
    let mut client = primary.client();
    let both_know = knows_field_expiries(first) && knows_field_expiries(last);
    if both_know {
        set_field_expiries(&mut client);
    }
    middle.follow(primary.port);
    wait_caught_up(&primary, &middle);
    replica.follow(middle.port);
    wait_caught_up(&middle, &replica);
    assert_same_end(&primary, &replica, "after the snapshots");
    assert_same_libraries(&primary, &replica, &["first"]);

    pour(&mut client, &mut Writes::new(72), 2000);
    load_library(&primary, "second");
    primary.ok("FUNCTION DELETE first");
    client.ok("SELECT 0");
    if both_know {
        client.ok(&format!("HSETEX hash:ttl PXAT {FAR_FUTURE_MS} FIELDS 2 new 1 field:1 2"));
        client.ok("HGETEX hash:ttl PERSIST FIELDS 1 field:2");
        client.ok("HGETDEL hash:ttl FIELDS 1 field:4");
    }
    wait_caught_up(&primary, &middle);
    assert_same_end(&primary, &middle, "in Kindred");
    assert_same_end(&primary, &replica, "through Kindred");
    assert_same_libraries(&primary, &replica, &["second"]);
    assert_eq!(middle.syncs().full, 1);

    // What the first has and the last has not.
    let (line, reason) = match (first, last) {
        (Kind::Redis82, Kind::Valkey91) => {
            ("XDELEX stream IDS 1 1-2", "XDELEX with key 'stream', which only Redis 8.2")
        }
        (Kind::Valkey91, Kind::Redis82) => {
            ("MSETEX 1 text value EX 1000", "MSETEX with key 'text', which only Valkey 9")
        }
        (_, Kind::Redis70) if knows_field_expiries(first) => {
            ("HSETEX hash EX 1000 FIELDS 1 a 2", "HSETEX with key 'hash', which only Redis 7.4 and Valkey 9")
        }
        _ => return,
    };
    client.ok(line);
    wait_for(PATIENCE, "a refusal", || middle.log().contains(reason));
    wait_caught_up(&primary, &middle);
    if last == Kind::Redis70 {
        assert_refused(&middle, &replica, "HSETEX with key 'hash'");
        client.ok("HPERSIST hash FIELDS 1 a");
    }
    // A snapshot in between says the same in other words; the stream could not be continued.
    wait_caught_up(&middle, &replica);
    assert_same_end(&primary, &replica, "after a snapshot in between");
    let causes = &middle.client().info("replication")["repl_full_syncs_served_causes"];
    assert!(causes.ends_with(",not-understood=1"), "{causes}");
}

macro_rules! chains {
    ($($name:ident: $first:ident, $last:ident;)+) => {
        mod chains {
            $(
                #[test]
                fn $name() {
                    super::chain(super::Kind::$first, super::Kind::$last);
                }
            )+
        }
    };
}

chains! {
    redis70_to_redis82: Redis70, Redis82;
    redis70_to_valkey91: Redis70, Valkey91;
    redis82_to_redis70: Redis82, Redis70;
    redis82_to_valkey91: Redis82, Valkey91;
    valkey91_to_redis70: Valkey91, Redis70;
    valkey91_to_redis82: Valkey91, Redis82;
}

/// RESTORE of what another server dumped: replicas of any make are told in a form that they read.
fn restored(source: Kind) {
    let lowers = [Kind::Redis70, Kind::Redis82, Kind::Valkey91];
    let Some(mut bed) = Bed::new(LIMIT, &lowers) else { return };
    let source = bed.start(source, &[]);
    let primary = bed.start(Kind::Kindred, &[NO_HOLD]);
    fill(&source);
    let replicas = lowers.map(|kind| {
        let replica = bed.start(kind, &[]);
        replica.follow(primary.port);
        replica
    });
    for replica in &replicas {
        wait_caught_up(&primary, replica);
    }
    set_field_expiries(&mut source.client());
    let restore = |key: &str| {
        let payload = source.client().argv(&["DUMP", key]).bytes();
        let argv = [b"RESTORE".as_slice(), key.as_bytes(), b"0", &payload, b"REPLACE"];
        assert_eq!(primary.client().argv(&argv).error(), None);
    };
    ["text", "list", "set", "ints", "hash", "zset", "hll", "stream"].into_iter().for_each(restore);
    for replica in &replicas {
        assert_same_end(&primary, replica, "what was restored");
    }
    assert_eq!(primary.syncs().full, 3);
    restore("hash:ttl");
    for replica in &replicas[1..] {
        assert_same_end(&primary, replica, "field expiries that were restored");
        assert_eq!(replica.ok("HLEN hash:ttl").int(), 50);
    }
    assert_refused(&primary, &replicas[0], "HPEXPIREAT with key 'hash:ttl'");
}

mod restores {
    use crate::peers::Kind;

    #[test]
    fn of_redis82() {
        super::restored(Kind::Redis82);
    }

    #[test]
    fn of_valkey91() {
        super::restored(Kind::Valkey91);
    }
}

/// What Kindred cannot hold itself: the key and its type are named, and the primary is left alone for longer and longer.
#[test]
fn a_vector_set_is_refused_by_its_key_without_a_storm() {
    let Some(mut bed) = Bed::new(LIMIT, &[Kind::Redis82]) else { return };
    let primary = bed.start(Kind::Redis82, &[]);
    let replica = bed.start(Kind::Kindred, &[]);
    fill(&primary);
    replica.ok("SET mine 1");
    primary.ok("VADD points VALUES 2 1 2 element");
    replica.follow(primary.port);
    wait_for(PATIENCE, "its refusal", || replica.log().contains("times in a row"));
    thread::sleep(Duration::from_secs(4));
    let full = primary.syncs().full;
    assert!((3..=5).contains(&full), "{full} snapshots in four seconds");
    let reason = "key 'points' is of RDB type 7 (module 'vectorset'), which is not supported";
    assert!(replica.log().contains(reason), "{}", replica.log());
    assert_eq!(replica.ok("GET mine").text(), "1");
    primary.ok("DEL points");
    replica.follow(primary.port);
    wait_for(PATIENCE, "its return", || replica.client().info("replication")["master_link_status"] == "up");
    assert_same_end(&primary, &replica, "without the vector set");
    // In the stream it is no copy any more, and does not look like one.
    primary.ok("VADD points VALUES 2 1 2 element");
    wait_for(PATIENCE, "word of the difference", || replica.log().contains("its data set is fetched anew"));
}

/// `redis-cli --functions-rdb`, and a restart.
#[test]
fn libraries_outlive_a_restart_and_leave_in_a_file_of_their_own() {
    let (Some(mut bed), Some(cli)) = (Bed::new(LIMIT, &[Kind::Redis70]), tool("KINDRED_PEER_CLI")) else {
        return;
    };
    let source = bed.start(Kind::Redis70, &[]);
    let kept = bed.start(Kind::Kindred, &[]);
    fill(&source);
    load_library(&source, "first");
    load_library(&source, "second");
    kept.follow(source.port);
    wait_caught_up(&source, &kept);
    kept.shut_down(true);
    let kept = bed.restart(kept, &[]);
    assert_same_libraries(&kept, &source, &["first", "second"]);
    assert_same_contents(&kept, &source, "after the restart");
    let file = kept.dir.join("functions.rdb");
    let made = Command::new(cli)
        .args(["-p", &kept.port.to_string(), "--functions-rdb"])
        .arg(&file)
        .output()
        .expect("redis-cli runs");
    assert!(made.status.success(), "{made:?}");
    let other = bed.start_with_rdb(Kind::Redis70, &file, &[]);
    assert_eq!(other.ok("DBSIZE").int(), 0);
    assert_same_libraries(&kept, &other, &["first", "second"]);
}
