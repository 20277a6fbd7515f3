//! The link is cut, reset or held after an exact number of bytes, in the handshake, in the snapshot and in the stream, in both
//! directions; afterwards the replica holds what the primary holds, and a cut of the stream costs no full synchronisation.
//!
//! A run takes a sample of the bytes. `KINDRED_CUT_POINTS=all` takes every one (hours, for a Redis waits a second before it
//! connects again), a number so many of each kind.

mod peers;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, wait_caught_up};
use peers::random::Random;
use peers::scissors::{Cut, Deed, Scissors, Way};
use peers::{Bed, Kind, Server};

/// So many replicas are cut at the same time.
const REPLICAS: usize = 6;
const SAMPLE: usize = 36;
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// Of one direction, which may be long, and of the other.
fn points(from_primary: u64, from_replica: u64, seed: u64) -> Vec<Cut> {
    let deeds = [Deed::Close, Deed::Reset, Deed::Hold];
    let cut = |way, after: u64| Cut { way, after, deed: deeds[after as usize % deeds.len()] };
    let mut points: Vec<Cut> = (0..from_primary)
        .map(|after| cut(Way::FromPrimary, after))
        .chain((0..from_replica).map(|after| cut(Way::FromReplica, after)))
        .collect();
    let wanted = match std::env::var("KINDRED_CUT_POINTS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().expect("KINDRED_CUT_POINTS is `all` or a number"),
        Err(_) => SAMPLE,
    };
    let mut random = Random::new(seed);
    while points.len() > wanted {
        points.swap_remove(random.below(points.len() as u64) as usize);
    }
    points
}

/// Some of every type in three databases: a snapshot of a few kilobytes.
fn fill(primary: &Server) {
    let mut client = primary.client();
    for db in [0, 3, 9] {
        client.ok(&format!("SELECT {db}"));
        for index in 0..10 {
            client.ok(&format!("SET string:{index} {}", "some-text-".repeat(index + 1)));
            client.ok(&format!("SET volatile:{index} x PXAT 410244480000{index}"));
            client.ok(&format!("RPUSH list a b {index}"));
            client.ok(&format!("SADD set member:{index} {index}"));
            client.ok(&format!("HSET hash field:{index} value:{index}"));
            client.ok(&format!("ZADD zset {index}.5 member:{index}"));
            client.ok(&format!("XADD stream {}-1 field {index}", index + 1));
        }
        client.ok("XGROUP CREATE stream group 0");
        client.ok("XREADGROUP GROUP group consumer COUNT 3 STREAMS stream >");
    }
}

/// A new server that follows nobody, as often as wanted: the next synchronisation is a full one, with nothing before it.
fn forget(replica: &Server) {
    replica.promote();
    replica.ok("FLUSHALL");
}

fn full_syncs(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(LIMIT, &[upper, lower]) else { return };
    let primary = bed.start(upper, &[]);
    fill(&primary);
    let pairs: Vec<(Server, Scissors)> =
        (0..REPLICAS).map(|_| (bed.start(lower, &[]), Scissors::before(primary.port))).collect();
    let (replica, scissors) = &pairs[0];
    replica.follow(scissors.port);
    assert_same(&primary, replica, "without a cut");
    let (from_primary, from_replica) = scissors.passed();
    assert!(from_primary > 1000, "{from_primary} bytes are no snapshot of it");

    let left = Mutex::new(points(from_primary, from_replica, 20));
    let total = left.lock().expect("just made").len();
    let done = thread::scope(|scope| {
        let work = |(replica, scissors): &(Server, Scissors)| {
            let mut done = 0;
            loop {
                let next = left.lock().expect("nobody panics with it").pop();
                let Some(cut) = next else { return done };
                forget(replica);
                scissors.set(cut);
                replica.follow(scissors.port);
                assert_same(&primary, replica, &format!("after {cut:?}"));
                done += usize::from(scissors.was_done());
            }
        };
        let workers: Vec<_> = pairs.iter().map(|pair| scope.spawn(move || work(pair))).collect();
        workers.into_iter().map(|worker| worker.join().expect("the replicas agree")).sum::<usize>()
    });
    eprintln!("{done} of {total} cuts of a full synchronisation ({from_primary} and {from_replica} bytes)");
    // The last bytes are acknowledgements and heartbeats, which come when they come.
    assert!(done * 10 >= total * 7, "only {done} of {total} cuts were made");
}

/// What a round writes: every form that a stream has.
fn write(primary: &Server, round: usize) {
    let mut client = primary.client();
    client.ok(&format!("SET round {round}"));
    client.ok("SELECT 9");
    client.ok(&format!("SET large {}", "x".repeat(600)));
    client.ok("MULTI");
    for index in 0..5 {
        client.ok(&format!("RPUSH list:{index} {round}"));
        client.ok("INCR counter");
    }
    client.ok("SELECT 3");
    client.ok(&format!("ZADD zset {round} member"));
    client.ok("EXEC");
    client.ok(&format!("SADD set {round} a b c"));
    client.ok("SPOP set");
    client.ok("INCRBYFLOAT float 0.5");
    client.ok(&format!("SET volatile {round} PX 100000000"));
    client.ok(&format!("XADD stream * round {round}"));
    client.ok("SELECT 0");
    client.ok("APPEND string x");
}

fn streams(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(LIMIT, &[upper, lower]) else { return };
    let primary = bed.start(upper, &[]);
    fill(&primary);
    let pairs: Vec<(Server, Scissors)> =
        (0..REPLICAS).map(|_| (bed.start(lower, &[]), Scissors::before(primary.port))).collect();
    for (replica, scissors) in &pairs {
        replica.follow(scissors.port);
        wait_caught_up(&primary, replica);
    }
    let before = primary.info_number("replication", "master_repl_offset");
    write(&primary, 0);
    let bytes = (primary.info_number("replication", "master_repl_offset") - before) as u64;
    assert!(bytes > 1000, "{bytes} bytes are too few");
    let full = primary.syncs().full;

    let points = points(bytes, 0, 21);
    let total = points.len();
    let mut done = 0;
    let since = Instant::now();
    for (round, cuts) in points.chunks(REPLICAS).enumerate() {
        for ((replica, scissors), cut) in pairs.iter().zip(cuts) {
            wait_caught_up(&primary, replica);
            scissors.set(*cut);
        }
        write(&primary, round + 1);
        for ((replica, scissors), cut) in pairs.iter().zip(cuts) {
            assert_same(&primary, replica, &format!("after {cut:?} of round {round}"));
            done += usize::from(scissors.was_done());
        }
        assert_eq!(primary.syncs().full, full, "a cut of the stream took a full sync, round {round}");
    }
    eprintln!(
        "{done} of {total} cuts of a stream of {bytes} bytes in {:.0} s",
        since.elapsed().as_secs_f64()
    );
    assert!(done * 10 >= total * 9, "only {done} of {total} cuts were made");
}

mod full_sync_cut_anywhere {
    crate::peers::pairs!(super::full_syncs);
}

mod stream_cut_anywhere {
    crate::peers::pairs!(super::streams);
}
