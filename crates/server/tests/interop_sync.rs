//! Full sync and the stream behind it, between Kindred and each real server, in both directions.

mod peers;

use std::time::Duration;

use peers::agree::{
    assert_same, assert_same_contents, assert_same_data, assert_same_expiries, wait_caught_up,
};
use peers::writes::{Writer, Writes, pour};
use peers::{Batch, Bed, Kind, Reply, Server, dataset};

/// All types in all encodings, by a snapshot over the socket; 100,000 writes; then once more with a snapshot by way of a
/// file, while a writer goes on.
fn full_sync_and_stream(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(240), &[upper, lower]) else { return };
    let primary = bed.start(upper, &[]);
    let replica = bed.start(lower, &[]);
    let mut client = primary.client();
    dataset::load(&mut client, 1);
    replica.ok("SET left-over value");

    replica.follow(primary.port);
    assert_same(&primary, &replica, "after the full sync");
    assert_same_expiries(&primary, &replica, "after the full sync");
    assert_eq!(primary.syncs().full, 1);

    let mut writes = Writes::new(2);
    pour(&mut client, &mut writes, 100_000);
    assert_same(&primary, &replica, "after 100,000 writes");
    assert_same_expiries(&primary, &replica, "after 100,000 writes");
    assert_eq!(primary.syncs().full, 1, "the stream was broken");

    // A replica that was promoted and written to has left its primary's history.
    replica.promote();
    replica.ok("FLUSHALL");
    client.ok("CONFIG SET repl-diskless-sync no");
    let writer = Writer::start(primary.port, 3, Duration::from_millis(1));
    writer.wait_for_more(1000);
    replica.follow(primary.port);
    writer.wait_for_more(10_000);
    writer.pause();
    assert_same(&primary, &replica, "after a full sync under writes");
    assert_same_expiries(&primary, &replica, "after a full sync under writes");
    assert_eq!(primary.syncs().full, 2);
}

mod full_sync {
    crate::peers::pairs!(super::full_sync_and_stream);
}

/// The password stands on the primary; a replica with the wrong one stays out, and comes in once it is corrected.
fn authenticated(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[upper, lower]) else { return };
    let primary = bed.start(upper, &[("requirepass", "open-sesame")]);
    let replica = bed.start(lower, &[("masterauth", "wrong"), ("requirepass", "another")]);
    let mut client = primary.client();
    pour(&mut client, &mut Writes::new(4), 2000);

    replica.follow(primary.port);
    let mut below = replica.client();
    for _ in 0..100 {
        assert_eq!(below.info("replication")["master_link_status"], "down", "the wrong password was taken");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(primary.syncs().full, 0);
    below.ok("CONFIG SET masterauth open-sesame");
    assert_same(&primary, &replica, "after authentication");
}

mod auth {
    crate::peers::pairs!(super::authenticated);
}

/// The absolute times of the fields of `hash:ttl`, in milliseconds.
fn field_expiries(server: &Server) -> Vec<i64> {
    let mut argv: Vec<String> = ["HPEXPIRETIME", "hash:ttl", "FIELDS", "300"].map(str::to_owned).to_vec();
    argv.extend((0..300).map(|index| format!("field:{index}")));
    let reply = server.client().argv(&argv);
    assert_eq!(reply.error(), None);
    reply.array().iter().map(Reply::int).collect()
}

/// Hash fields with a TTL of their own reach Kindred from a server that has them, and reach `lower` from Kindred. Digests
/// are compared between servers of one vendor only: each mixes a field's expiry in a way of its own. Across vendors the
/// times themselves are compared.
fn field_ttls(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[upper, Kind::Kindred, lower]) else { return };
    let primary = bed.start(upper, &[]);
    let middle = bed.start(Kind::Kindred, &[]);
    let replica = bed.start(lower, &[]);
    let mut client = primary.client();
    pour(&mut client, &mut Writes::new(5), 2000);
    client.ok("SELECT 0");
    let mut batch = Batch::new();
    for index in 0..300 {
        for key in ["hash:ttl", "hash:ttl-few"].iter().take(if index < 20 { 2 } else { 1 }) {
            batch.push_text(&format!("HSET {key} field:{index} value:{index}"));
            if index % 3 != 0 {
                let at = dataset::FAR_FUTURE_MS + 1000 * index;
                batch.push_text(&format!("HPEXPIREAT {key} {at} FIELDS 1 field:{index}"));
            }
        }
    }
    client.batch_ok(&batch);

    middle.follow(primary.port);
    wait_caught_up(&primary, &middle);
    replica.follow(middle.port);
    wait_caught_up(&middle, &replica);
    assert_eq!(field_expiries(&primary), field_expiries(&replica));
    assert_same_contents(&primary, &middle, "in Kindred");
    assert_same_contents(&primary, &replica, "through Kindred");
    if upper == lower {
        assert_same_data(&primary, &replica, "through Kindred");
    }
    // The stream still carries plain commands on such a hash.
    client.ok("HDEL hash:ttl field:1 field:3");
    client.ok("HSET hash:ttl field:2 another");
    wait_caught_up(&primary, &middle);
    wait_caught_up(&middle, &replica);
    assert_eq!(field_expiries(&primary), field_expiries(&replica));
}

mod hash_field_ttls {
    crate::peers::pairs!(super::field_ttls;
        redis82_to_kindred_to_redis82: Redis82, Redis82;
        valkey91_to_kindred_to_valkey91: Valkey91, Valkey91;
        redis82_to_kindred_to_valkey91: Redis82, Valkey91;
        valkey91_to_kindred_to_redis82: Valkey91, Redis82;
    );
}
