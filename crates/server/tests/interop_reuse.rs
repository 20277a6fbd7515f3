//! A full resync of nearly the same data: what the replica has is served meanwhile, stored once, and whole if the transfer
//! breaks.

mod peers;

use std::time::Duration;

use peers::agree::{assert_same, wait_caught_up};
use peers::scissors::{Cut, Deed, Scissors, Way};
use peers::{Batch, Bed, Kind, Server, wait_for};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

const STRINGS: u64 = 120_000;
/// Of each kind.
const COLLECTIONS: u64 = 4_000;
const MEMBERS: u64 = 100_000;

/// One of so many values is changed while the replica is away.
const CHANGED: usize = 100;

/// Most that the replica may use while it holds both data sets, in hundredths of what one takes. Twice as much would be
/// 200 and more.
const PEAK_PERCENT_MAX: i64 = 135;

/// Text that belongs to one number and one mark.
fn text(number: u64, mark: &str, length: usize) -> String {
    let word = format!("{mark}{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word.repeat(length / word.len() + 1)[..length].to_owned()
}

/// Writes every `step`th value: strings of 1 KB; hashes that are listpacks and that are tables; sets, sorted sets, lists; and
/// one large set and hash.
fn write(server: &Server, step: usize, mark: &str) {
    let mut client = server.client();
    let mut batch = Batch::new();
    let mut sent = 0;
    let mut send = |argv: &[&str]| {
        batch.push(argv);
        sent += 1;
        if sent % 1000 == 0 {
            client.batch_ok(&batch);
            batch.clear();
        }
    };
    for n in (0..STRINGS).step_by(step) {
        send(&["SET", &format!("string:{n}"), &text(n, mark, 1000)]);
    }
    for n in (0..COLLECTIONS).step_by(step) {
        for field in 0..10 {
            let (name, value) = (format!("field:{field}"), text(n * 10 + field, mark, 300));
            send(&["HSET", &format!("wide:{n}"), &name, &value]);
            send(&["HSET", &format!("hash:{n}"), &name, &value[..50]]);
            send(&["SADD", &format!("set:{n}"), &value[..30]]);
            send(&["ZADD", &format!("zset:{n}"), &format!("{field}.5"), &value[..30]]);
            send(&["RPUSH", &format!("list:{n}"), &value[..100]]);
        }
    }
    for n in (0..MEMBERS).step_by(step) {
        send(&["SADD", "members", &text(n, mark, 40)]);
        send(&["HSET", "fields", &format!("field:{n}"), &text(n, mark, 100)]);
    }
    send(&["SET", "mark", mark]);
    client.batch_ok(&batch);
}

/// Changes in place and by replacement, of values of every kind.
fn change(server: &Server) {
    let mut client = server.client();
    let mut batch = Batch::new();
    for n in (0..COLLECTIONS).step_by(3) {
        let name = text(n * 10 + 3, "old", 40);
        for command in [
            format!("APPEND string:{n} more"),
            format!("SETRANGE string:{} 500 other", n + 1),
            format!("SETBIT string:{} 77 1", n + 2),
            format!("EXPIRE string:{} 100000", n + 5000),
            format!("SET string:{} new", n + 10_000),
            format!("RENAME string:{} renamed:{n}", n + 15_000),
            format!("DEL string:{}", n + 20_000),
            format!("HSET hash:{n} field:3 x new x"),
            format!("HSET wide:{n} field:3 x new x"),
            format!("HDEL wide:{n} field:4"),
            format!("SREM set:{n} {}", &name[..30]),
            format!("SADD set:{n} new"),
            format!("ZINCRBY zset:{n} 2 {}", &name[..30]),
            format!("LPUSH list:{n} new"),
            format!("RPOP list:{n}"),
            format!("SREM members {}", text(n, "old", 40)),
            format!("HSET fields field:{n} x"),
            format!("HDEL fields field:{}", n + 1),
        ] {
            batch.push_text(&command);
        }
    }
    client.batch(&batch);
}

fn used(server: &Server) -> i64 {
    server.info_number("memory", "used_memory")
}

fn full_resync_of_nearly_the_same(kind: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(400), &[kind]) else { return };
    let primary = bed.start(kind, &[("repl-backlog-size", "16kb"), ("rdbcompression", "no")]);
    let replica = bed.start(Kind::Kindred, &[("repl-backlog-size", "1mb")]);
    let nobody = bed.free_port();
    let scissors = Scissors::before(primary.port);
    write(&primary, 1, "old");
    replica.follow(scissors.port);
    assert_same(&primary, &replica, "after the first full sync");
    let (one, bytes) = (used(&replica), scissors.passed().0);
    let rss = |server: &Server| server.info_number("memory", "used_memory_rss");
    println!("{} MB transferred, {} MB used, {} resident", bytes >> 20, one >> 20, rss(&replica) >> 20);

    replica.follow(nobody);
    write(&primary, CHANGED, "new");
    let digest = replica.ok("DEBUG DIGEST").text();

    // The link breaks in the middle. The primary stands still then, so that there is time to look.
    let before = scissors.passed().0;
    scissors.set(Cut { way: Way::FromPrimary, after: bytes / 2, deed: Deed::Close });
    replica.follow(scissors.port);
    wait_for(PATIENCE, "the cut", || scissors.passed().0 - before >= bytes / 2);
    primary.stop();
    wait_for(PATIENCE, "the end of the load", || replica.info_number("persistence", "async_loading") == 0);
    assert_eq!(replica.ok("DEBUG DIGEST").text(), digest, "a broken transfer has changed the old data");
    assert_eq!(replica.ok("GET mark").text(), "old");
    replica.follow(nobody);
    primary.resume();

    // The next one is slow enough to be looked at.
    replica.ok("CONFIG SET key-load-delay 20");
    replica.follow(primary.port);
    let (mut peak, mut peak_rss, mut served) = (0, 0, 0);
    let mut client = replica.client();
    wait_for(PATIENCE, "the switch", || {
        peak = peak.max(used(&replica));
        peak_rss = peak_rss.max(rss(&replica));
        let mark = client.ok("GET mark").text();
        if client.info_number("persistence", "async_loading") == 1 {
            assert_eq!(mark, "old", "what is loaded shows before it is complete");
            served += 1;
        }
        mark == "new"
    });
    // Nobody waits for the old data to be gone.
    change(&primary);
    assert!(served > 0, "the old data were never seen to be served");
    assert_same(&primary, &replica, "after the full resync and writes to what was reused");
    peak = peak.max(replica.info_number("memory", "used_memory_peak"));
    println!("peak {} % of one data set, resident {} MB", peak * 100 / one, peak_rss >> 20);
    let line = replica
        .log()
        .lines()
        .rfind(|line| line.contains("Values of the old data set reused"))
        .map(str::to_owned);
    println!("{}", line.as_deref().unwrap_or("nothing was reused"));
    assert!(peak * 100 / one < PEAK_PERCENT_MAX, "{peak} bytes at the peak, {one} for one data set");
    wait_for(PATIENCE, "the end of the old data", || used(&replica) < one / 100 * 110);

    // Once more, of what is equal altogether.
    replica.follow(nobody);
    write(&primary, CHANGED, "new");
    replica.ok("CONFIG SET key-load-delay 0");
    replica.follow(primary.port);
    wait_caught_up(&primary, &replica);
    change(&primary);
    assert_same(&primary, &replica, "after one more full resync");
    assert!(primary.syncs().full >= 4, "one was a partial one");
}

mod full_resync {
    use super::*;

    #[test]
    fn redis70() {
        full_resync_of_nearly_the_same(Kind::Redis70);
    }

    #[test]
    fn kindred() {
        full_resync_of_nearly_the_same(Kind::Kindred);
    }
}
