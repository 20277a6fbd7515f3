//! Expiries of hash fields in the stream between Kindred and each real server.

mod peers;

use std::time::Duration;

use peers::agree::{
    assert_same, assert_same_contents, assert_same_expiries, assert_same_field_expiries, wait_caught_up,
};
use peers::writes::{Writes, pour};
use peers::{Bed, Kind};

/// Longer than the fields that expire soon have to live, and than a server takes to find them.
const SOON: Duration = Duration::from_millis(2500);

/// The digest of Valkey leaves the expiries of fields out.
fn digests_field_expiries(kind: Kind) -> bool {
    matches!(kind, Kind::Kindred | Kind::Redis82)
}

/// 60,000 writes with all commands for expiries of fields, transactions among them.
fn stream(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[upper, lower]) else { return };
    let primary = bed.start(upper, &[]);
    let replica = bed.start(lower, &[]);
    let mut client = primary.client();
    pour(&mut client, &mut Writes::new(60), 2000);
    replica.follow(primary.port);
    wait_caught_up(&primary, &replica);

    let mut writes = Writes::with_field_expiries(61);
    for part in ["first", "second", "last"] {
        pour(&mut client, &mut writes, 20_000);
        std::thread::sleep(SOON);
        let when = format!("after the {part} 20,000 writes");
        if [upper, lower].into_iter().all(digests_field_expiries) {
            assert_same(&primary, &replica, &when);
        }
        wait_caught_up(&primary, &replica);
        assert_same_contents(&primary, &replica, &when);
        assert_same_expiries(&primary, &replica, &when);
        let expiring = assert_same_field_expiries(&primary, &replica, &when);
        assert!(expiring > 50, "only {expiring} fields have an expiry, which proves little");
    }
    assert_eq!(primary.syncs().full, 1, "the stream was broken");

    // The replica takes over what is left to expire.
    client.ok("SELECT 0");
    client.ok("HSETEX last PX 1500 FIELDS 2 a 1 b 2");
    wait_caught_up(&primary, &replica);
    replica.promote();
    assert_eq!(replica.client().ok("HLEN last").int(), 2);
    std::thread::sleep(SOON);
    assert_eq!(replica.client().ok("EXISTS last").int(), 0);
}

mod streams {
    crate::peers::pairs!(super::stream;
        redis82_to_kindred: Redis82, Kindred;
        valkey91_to_kindred: Valkey91, Kindred;
        kindred_to_redis82: Kindred, Redis82;
        kindred_to_valkey91: Kindred, Valkey91;
        kindred_to_kindred: Kindred, Kindred;
    );
}
