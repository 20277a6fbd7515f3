//! Two and more real servers: snapshots under writes, full and partial synchronisation.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Client, Server, encode, wait_for};

/// Fills `keys` keys with values of about 100 bytes.
fn fill(client: &mut Client, keys: usize) {
    for chunk in (0..keys).collect::<Vec<_>>().chunks(1000) {
        let mut bytes = Vec::new();
        for i in chunk {
            bytes.extend(encode(&[b"SET", format!("key:{i}").as_bytes(), format!("{i:0100}").as_bytes()]));
        }
        client.send(&bytes);
        for _ in chunk {
            assert_eq!(client.reply(), "+OK");
        }
    }
}

/// Writes until it is told to stop; the number of writes.
fn write_on(port: u16, stop: &Arc<AtomicBool>, count: &Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    let (stop, count) = (Arc::clone(stop), Arc::clone(count));
    std::thread::spawn(move || {
        let mut client = Client::tcp(port);
        while !stop.load(Ordering::Relaxed) {
            let i = count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(client.run(&format!("SET key:{} changed:{i}", i * 7919 % 50_000)), "+OK");
        }
    })
}

/// Waits until the replica has applied everything, then compares the data sets.
fn assert_same_data(primary: &mut Client, replica: &mut Client) {
    wait_for("the replica to catch up", || {
        let (there, here) = (primary.info("master_repl_offset"), replica.info("master_repl_offset"));
        (there == here).then_some(())
    });
    let digest = primary.run("DEBUG DIGEST");
    assert!(digest.len() >= 40, "{digest}");
    assert_eq!(replica.run("DEBUG DIGEST"), digest);
    assert_eq!(replica.run("DBSIZE"), primary.run("DBSIZE"));
}

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

#[test]
fn a_background_save_under_writes_holds_the_data_of_its_beginning() {
    let mut server = Server::start(&DEBUG);
    let mut client = server.client();
    fill(&mut client, 50_000);
    let digest = client.run("DEBUG DIGEST");
    let (stop, count) = (Arc::default(), Arc::default());
    assert!(client.run("BGSAVE").starts_with("+Background saving started"));
    let writer = write_on(server.port, &stop, &count);
    wait_for("the end of the save", || (client.info("rdb_bgsave_in_progress") == "0").then_some(()));
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    server.kill();
    server.restart();
    assert_eq!(server.client().run("DEBUG DIGEST"), digest);
}

#[test]
fn a_replica_gets_everything_and_follows() {
    for diskless in ["yes", "no"] {
        let options =
            [&DEBUG[..], &["--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0"]].concat();
        let primary = Server::start(&options);
        let replica = Server::start(&DEBUG);
        let mut to_primary = primary.client();
        fill(&mut to_primary, 50_000);
        let (stop, count) = (Arc::default(), Arc::default());
        let writer = write_on(primary.port, &stop, &count);
        let mut to_replica = replica.client();
        assert_eq!(to_replica.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), "+OK");
        wait_for("the link", || (to_replica.info("master_link_status") == "up").then_some(()));
        let then = count.load(Ordering::Relaxed);
        wait_for("further writes", || (count.load(Ordering::Relaxed) > then + 1000).then_some(()));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert_same_data(&mut to_primary, &mut to_replica);
        assert_eq!(to_primary.info("sync_full"), "1", "diskless {diskless}");
        assert!(to_replica.run("SET k v").starts_with("-READONLY"));
    }
}

#[test]
fn a_replica_restarted_by_sigterm_continues() {
    let primary = Server::start(&DEBUG);
    let mut replica = Server::start(
        &[&DEBUG[..], &["--save", "3600 1", "--replicaof", "127.0.0.1", &primary.port.to_string()]].concat(),
    );
    let mut to_primary = primary.client();
    fill(&mut to_primary, 1000);
    wait_for("the link", || (replica.client().info("master_link_status") == "up").then_some(()));
    assert_same_data(&mut to_primary, &mut replica.client());
    assert_eq!(replica.terminate().code(), Some(0));
    assert_eq!(to_primary.run("SET while gone"), "+OK");
    replica.restart();
    wait_for("the link", || (replica.client().info("master_link_status") == "up").then_some(()));
    assert_same_data(&mut to_primary, &mut replica.client());
    assert_eq!(to_primary.info("sync_full"), "1");
    assert_eq!(to_primary.info("sync_partial_ok"), "1");
}

#[test]
fn a_primary_that_is_not_there_yet_is_found_later() {
    let port = common::free_port();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port.to_string()]);
    wait_for("a failed attempt", || {
        let log = replica.log();
        log.contains("Connection refused").then_some(())
    });
    assert_eq!(replica.client().run("PING"), "+PONG");
}
