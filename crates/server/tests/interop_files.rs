//! RDB files across servers: what Kindred saves, each real server loads and the other way round, with equal digests.

mod peers;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same_data, assert_same_expiries};
use peers::bed::tool;
use peers::writes::{Writes, pour};
use peers::{Bed, Kind, Server, dataset};

/// A server that holds one of everything and what a stream of writes leaves behind.
fn loaded(bed: &mut Bed, kind: Kind) -> Server {
    let server = bed.start(kind, &[]);
    let mut client = server.client();
    dataset::load(&mut client, 40);
    pour(&mut client, &mut Writes::new(41), 20_000);
    server
}

/// BGSAVE and the wait for its file.
fn background_save(server: &Server) {
    let mut client = server.client();
    client.ok("BGSAVE");
    let since = Instant::now();
    while client.info_number("persistence", "rdb_bgsave_in_progress") != 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "BGSAVE does not end");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.info("persistence")["rdb_last_bgsave_status"], "ok");
}

/// `upper` here is who saves, `lower` who loads.
fn saved_and_loaded(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[upper, lower]) else { return };
    let saver = loaded(&mut bed, upper);
    let file = saver.dir.join("dump.rdb");
    assert!(!file.exists());

    saver.ok("SAVE");
    let loader = bed.start_with_rdb(lower, &file, &[]);
    assert_same_data(&saver, &loader, "after SAVE");
    assert_same_expiries(&saver, &loader, "after SAVE");

    pour(&mut saver.client(), &mut Writes::new(42), 2000);
    background_save(&saver);
    let loader = bed.start_with_rdb(lower, &file, &[]);
    assert_same_data(&saver, &loader, "after BGSAVE");
    assert_same_expiries(&saver, &loader, "after BGSAVE");
}

mod saved {
    crate::peers::pairs!(super::saved_and_loaded);
}

/// The checker knows versions up to 10, which holds all that redis 7.0 can hold.
#[test]
fn check_rdb_accepts_what_kindred_saves() {
    let Some(checker) = tool("KINDRED_PEER_CHECK_RDB") else { return };
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[Kind::Kindred]) else { return };
    let server = loaded(&mut bed, Kind::Kindred);
    let keys: i64 = server.client().info("keyspace").values().map(|line| keys_of(line)).sum();
    for background in [false, true] {
        if background {
            background_save(&server);
        } else {
            server.ok("SAVE");
        }
        let output =
            Command::new(&checker).arg(server.dir.join("dump.rdb")).output().expect("the checker runs");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("RDB looks OK!"), "{told}");
        assert!(told.contains(&format!("{keys} keys read")), "{keys} keys are there:\n{told}");
    }
}

/// The number of keys in `keys=7,expires=…`.
fn keys_of(line: &str) -> i64 {
    let number = line.strip_prefix("keys=").and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no keyspace line: {line}"))
}
