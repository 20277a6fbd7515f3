//! More than two servers: promotion under a live writer, with siblings and the old primary continuing partially, and
//! chains.

mod peers;

use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, assert_same_expiries, wait_caught_up};
use peers::proxy::Proxy;
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Kind, Server};

/// Pings between checks would let one replica be a ping ahead of the other when the primary goes.
const NO_PINGS: (&str, &str) = ("repl-ping-replica-period", "3600");

struct Family {
    primary: Server,
    heir: Server,
    sibling: Server,
    writer: Writer,
}

/// A primary with two replicas in sync and a writer at work.
fn family(bed: &mut Bed, primary: Kind, heir: Kind, sibling: Kind) -> Family {
    let [primary, heir, sibling] = [primary, heir, sibling].map(|kind| bed.start(kind, &[NO_PINGS]));
    pour(&mut primary.client(), &mut Writes::new(20), 20_000);
    for replica in [&heir, &sibling] {
        replica.follow(primary.port);
        assert_same(&primary, replica, "before the promotion");
    }
    let writer = Writer::start(primary.port, 21, Duration::from_millis(1));
    writer.wait_for_more(5000);
    Family { primary, heir, sibling, writer }
}

/// The primary is shut down under the writer, in order: it sees its replicas through first. The heir takes over, the
/// sibling continues from it, and so does the old primary when it returns with its file.
fn promotion_after_shutdown(primary: Kind, heir: Kind, sibling: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[primary, heir, sibling]) else { return };
    let Family { primary, heir, sibling, writer } = family(&mut bed, primary, heir, sibling);
    writer.be_patient();
    primary.shut_down(true);
    heir.promote();
    sibling.follow(heir.port);
    writer.turn_to(heir.port);
    writer.wait_for_more(5000);
    writer.pause();
    assert_same(&heir, &sibling, "after the promotion");
    let syncs = heir.syncs();
    assert_eq!((syncs.full, syncs.partial), (0, 1), "the sibling did not continue: {syncs:?}");

    writer.resume();
    let port = heir.port.to_string();
    let returned = bed.restart(primary, &[NO_PINGS, ("replicaof", &format!("127.0.0.1 {port}"))]);
    writer.wait_for_more(5000);
    writer.pause();
    for replica in [&sibling, &returned] {
        assert_same(&heir, replica, "after the old primary's return");
        assert_same_expiries(&heir, replica, "after the old primary's return");
    }
    let syncs = heir.syncs();
    assert_eq!(
        (syncs.full, syncs.partial),
        (0, 2),
        "the old primary did not continue from its file: {syncs:?}"
    );
}

/// The primary stays up: writes are paused until both replicas have all of it, the heir is promoted, and the others,
/// the old primary among them, become its replicas without a full sync.
fn promotion_by_demotion(primary: Kind, heir: Kind, sibling: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[primary, heir, sibling]) else { return };
    let Family { primary, heir, sibling, writer } = family(&mut bed, primary, heir, sibling);
    writer.be_patient();
    primary.ok("CLIENT PAUSE 30000 WRITE");
    for replica in [&heir, &sibling] {
        wait_caught_up(&primary, replica);
    }
    heir.promote();
    sibling.follow(heir.port);
    primary.follow(heir.port);
    writer.turn_to(heir.port);
    primary.ok("CLIENT UNPAUSE");
    writer.wait_for_more(5000);
    writer.pause();
    for replica in [&sibling, &primary] {
        assert_same(&heir, replica, "after the promotion");
        assert_same_expiries(&heir, replica, "after the promotion");
    }
    let syncs = heir.syncs();
    assert_eq!((syncs.full, syncs.partial), (0, 2), "not both continued: {syncs:?}");
}

/// The primary is killed. What the heir has is what counts: everybody ends with its data, and the killed one, which
/// comes back with nothing, by a full sync.
fn promotion_after_kill(primary: Kind, heir: Kind, sibling: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[primary, heir, sibling]) else { return };
    let Family { primary, heir, sibling, writer } = family(&mut bed, primary, heir, sibling);
    writer.be_patient();
    primary.kill();
    // What the primary had sent is on its way to both; they may still end at different offsets, since it may have
    // been killed between two sends.
    thread::sleep(Duration::from_millis(200));
    let ends = [&heir, &sibling].map(|replica| replica.info_number("replication", "slave_repl_offset"));
    heir.promote();
    sibling.follow(heir.port);
    writer.turn_to(heir.port);
    writer.wait_for_more(5000);
    let port = heir.port.to_string();
    let returned = bed.restart(primary, &[NO_PINGS, ("replicaof", &format!("127.0.0.1 {port}"))]);
    writer.wait_for_more(5000);
    writer.pause();
    for replica in [&sibling, &returned] {
        assert_same(&heir, replica, "after the old primary's return");
    }
    let syncs = heir.syncs();
    if ends[1] <= ends[0] {
        assert_eq!(
            (syncs.full, syncs.partial),
            (1, 1),
            "the sibling, not ahead ({ends:?}), did not continue: {syncs:?}"
        );
    } else {
        assert_eq!(
            (syncs.full, syncs.partial),
            (2, 0),
            "the sibling, ahead ({ends:?}), must not continue: {syncs:?}"
        );
    }
}

macro_rules! families {
    ($scenario:path) => {
        families!($scenario;
            redis70_to_kindred: Redis70, Kindred, Redis70;
            redis82_to_kindred: Redis82, Kindred, Redis82;
            valkey91_to_kindred: Valkey91, Kindred, Valkey91;
            kindred_to_redis70: Kindred, Redis70, Kindred;
            kindred_to_redis82: Kindred, Redis82, Kindred;
            kindred_to_valkey91: Kindred, Valkey91, Kindred;
            kindred_to_kindred: Kindred, Kindred, Kindred;
        );
    };
    ($scenario:path; $($name:ident: $primary:ident, $heir:ident, $sibling:ident;)+) => {
        $(
            #[test]
            fn $name() {
                use crate::peers::Kind;
                $scenario(Kind::$primary, Kind::$heir, Kind::$sibling);
            }
        )+
    };
}

/// The primary hands its place over and gets it back, under the writer. Nothing that was acknowledged is lost: the one
/// who was waited for has all of it, and everybody continues.
fn handover(primary: Kind, heir: Kind, sibling: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[primary, heir, sibling]) else { return };
    let Family { primary, heir, sibling, writer } = family(&mut bed, primary, heir, sibling);
    writer.be_patient();
    for (old, new, turn) in [(&primary, &heir, "there"), (&heir, &primary, "back")] {
        let before = new.syncs();
        // A client that no one else writes to: what it was told is to be found.
        let mut witness = old.client();
        let mut told = 0;
        old.ok(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 30000", new.port));
        while witness.run(&format!("SET witness:{turn} {}", told + 1)).error().is_none() {
            told += 1;
        }
        let since = Instant::now();
        while new.client().info("replication")["role"] != "master"
            || old.client().info("replication")["master_failover_state"] != "no-failover"
        {
            assert!(since.elapsed() < Duration::from_secs(30), "{turn}: nobody took over");
            thread::sleep(Duration::from_millis(10));
        }
        let found = new.ok(&format!("GET witness:{turn}"));
        let expected = if told == 0 { String::new() } else { told.to_string() };
        assert_eq!(
            if told == 0 { String::new() } else { found.text() },
            expected,
            "{turn}: acknowledged writes"
        );
        writer.turn_to(new.port);
        sibling.follow(new.port);
        writer.wait_for_more(2000);
        writer.pause();
        for replica in [old, &sibling] {
            assert_same(new, replica, turn);
            assert_same_expiries(new, replica, turn);
        }
        let syncs = new.syncs();
        assert_eq!((syncs.full - before.full, syncs.partial - before.partial), (0, 2), "{turn}: {syncs:?}");
        writer.resume();
    }
}

mod handed_over {
    families!(super::handover);
}

/// A target that may not be asked: the primary stays what it is, and its replicas come back to it.
#[test]
fn a_target_that_refuses_is_left_alone() {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[Kind::Redis70]) else { return };
    let primary = bed.start(Kind::Kindred, &[NO_PINGS]);
    let replica = bed.start(Kind::Redis70, &[NO_PINGS]);
    primary.ok("SET a 1");
    replica.follow(primary.port);
    assert_same(&primary, &replica, "before");
    replica.ok("ACL SETUSER default -psync");
    primary.ok(&format!("FAILOVER TO 127.0.0.1 {}", replica.port));
    // Held until the refusal.
    primary.ok("SET a 2");
    assert!(primary.log().contains("aborted: Failover target rejected psync request"));
    assert_eq!(primary.client().info("replication")["role"], "master");
    assert_same(&primary, &replica, "after");
    assert_eq!((primary.syncs().full, primary.syncs().partial), (1, 1));
}

mod promoted_after_shutdown {
    families!(super::promotion_after_shutdown);
}

mod promoted_by_demotion {
    families!(super::promotion_by_demotion);
}

mod promoted_after_kill {
    families!(super::promotion_after_kill);
}

/// `first` ← `second` ← `third`, with cuts in both links: the middle relays the first one's bytes, so all three count one
/// offset in one history, and a cut above the middle costs those below nothing.
fn chain(first: Kind, second: Kind, third: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[first, second, third]) else { return };
    let [first, second, third] = [first, second, third].map(|kind| bed.start(kind, &[]));
    pour(&mut first.client(), &mut Writes::new(30), 20_000);
    let (above, below) = (Proxy::to(first.port), Proxy::to(second.port));
    second.follow(above.port);
    wait_caught_up(&first, &second);
    third.follow(below.port);
    assert_same(&second, &third, "after the full syncs");
    let before = [&first, &second].map(Server::syncs);

    let writer = Writer::start(first.port, 31, Duration::from_millis(2));
    for round in 0..4 {
        writer.resume();
        above.storm(100 + round);
        if round % 2 == 1 {
            below.storm(200 + round);
        }
        let goal = 10 * (round as usize + 1);
        let since = Instant::now();
        while above.cuts() < goal || (round % 2 == 1 && below.cuts() < goal / 2) {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{} and {} cuts in a minute",
                above.cuts(),
                below.cuts()
            );
            thread::sleep(Duration::from_millis(2));
        }
        writer.pause();
        above.calm();
        below.calm();
        assert_same(&first, &second, &format!("after round {round}, middle"));
        assert_same(&second, &third, &format!("after round {round}, end"));
        assert_same(&first, &third, &format!("after round {round}, whole chain"));
    }
    assert_same_expiries(&first, &third, "at the end of the chain");
    for (server, before) in [&first, &second].into_iter().zip(before) {
        let syncs = server.syncs();
        assert_eq!((syncs.full, syncs.refused), (1, before.refused), "{}: {syncs:?}", server.kind.name());
    }
    assert_eq!((above.full_syncs(), below.full_syncs()), (1, 1));

    // The middle leaves: what was below it continues with the first, whose bytes it has always had.
    writer.resume();
    second.kill();
    third.follow(first.port);
    writer.wait_for_more(2000);
    writer.pause();
    assert_same(&first, &third, "after the middle left");
    assert_eq!(first.syncs().full, 1, "the last of the chain did not continue with the first");
}

mod chained {
    families!(super::chain);
}
