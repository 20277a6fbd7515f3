//! Messages and keyspace events cross the link between a primary and its replica, whoever made them, and go one way.

mod peers;

use std::time::{Duration, Instant};

use peers::agree::wait_caught_up;
use peers::{Bed, Client, Kind, Reply, Server, pairs};

/// A client that has run a command of one subscription.
fn subscriber(server: &Server, command: &str) -> Client {
    let mut client = server.client();
    client.ok(command);
    client
}

fn words(reply: Reply) -> Vec<String> {
    reply.array().iter().map(Reply::text).collect()
}

fn flow(primary: Kind, replica: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &[primary, replica]) else { return };
    let (primary, replica) = (bed.start(primary, &[]), bed.start(replica, &[]));
    replica.ok("CONFIG SET notify-keyspace-events KEA");
    replica.follow(primary.port);
    primary.ok("SET before sync");
    wait_caught_up(&primary, &replica);

    let mut channel = subscriber(&replica, "SUBSCRIBE news");
    let mut pattern = subscriber(&replica, "PSUBSCRIBE n*");
    let mut shard = subscriber(&replica, "SSUBSCRIBE news");
    let mut events = subscriber(&replica, "PSUBSCRIBE __key*__:*");
    let mut above = subscriber(&primary, "SUBSCRIBE news");

    let mut client = primary.client();
    // Those at the replica are not counted where it is published.
    assert_eq!(client.ok("PUBLISH news one").int(), 1);
    assert_eq!(client.ok("SPUBLISH news two").int(), 0);
    assert_eq!(words(above.next_reply()), ["message", "news", "one"]);
    assert_eq!(words(channel.next_reply()), ["message", "news", "one"]);
    assert_eq!(words(pattern.next_reply()), ["pmessage", "n*", "news", "one"]);
    assert_eq!(words(shard.next_reply()), ["smessage", "news", "two"]);

    // In a transaction between changes: the events of the replica's own data keep their places around it.
    for command in ["MULTI", "SET k v", "PUBLISH news three", "DEL k", "EXEC"] {
        client.ok(command);
    }
    assert_eq!(words(channel.next_reply()), ["message", "news", "three"]);
    for (name, event) in [("k", "set"), ("k", "del")] {
        let keyspace = format!("__keyspace@0__:{name}");
        assert_eq!(words(events.next_reply()), ["pmessage", "__key*__:*", &keyspace, event]);
        let keyevent = format!("__keyevent@0__:{event}");
        assert_eq!(words(events.next_reply()), ["pmessage", "__key*__:*", &keyevent, name]);
    }

    // A large message, whole.
    let payload = "x".repeat(300_000);
    assert_eq!(client.argv(&["PUBLISH", "news", &payload]).int(), 1);
    assert_eq!(words(channel.next_reply())[2], payload);

    // What is published at a replica stays there, and leaves its offset alone.
    let offset = wait_caught_up(&primary, &replica);
    let mut below = replica.client();
    assert_eq!(below.ok("PUBLISH news local").int(), 2);
    assert_eq!(words(channel.next_reply()), ["message", "news", "local"]);
    assert_eq!(words(above.next_reply()), ["message", "news", "three"]);
    assert_eq!(words(above.next_reply())[2], payload);
    assert_eq!(client.ok("PUBLISH news last").int(), 1);
    assert_eq!(words(above.next_reply()), ["message", "news", "last"], "nothing came from the replica");
    let started = Instant::now();
    while wait_caught_up(&primary, &replica) == offset {
        assert!(started.elapsed() < Duration::from_secs(10), "a message is a part of the log");
    }
    let syncs = primary.syncs();
    assert_eq!((syncs.full, syncs.partial), (1, 0), "the link held: {syncs:?}");
}

pairs!(flow);
