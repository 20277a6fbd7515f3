//! MIGRATE between Kindred and each real server, both ways: every type in every encoding arrives, and leaves.

mod peers;

use std::time::Duration;

use peers::agree::assert_same_data;
use peers::{Bed, Client, Kind, Reply, Server, dataset};

/// Keys per command.
const AT_ONCE: usize = 200;

/// The databases that hold something, with their keys.
fn keys(client: &mut Client) -> Vec<(usize, Vec<Vec<u8>>)> {
    let databases = 0..16;
    let keys = databases.map(|database| {
        client.ok(&format!("SELECT {database}"));
        (database, client.ok("KEYS *").array().into_iter().map(Reply::bytes).collect::<Vec<_>>())
    });
    keys.filter(|(_, keys)| !keys.is_empty()).collect()
}

fn migrate(client: &mut Client, to: &Server, database: usize, keys: &[Vec<u8>], option: &str) -> Reply {
    let (port, database) = (to.port.to_string(), database.to_string());
    let words = ["MIGRATE", "127.0.0.1", &port, "", &database, "60000", option, "KEYS"];
    let mut argv: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    argv.extend(keys.iter().map(Vec::as_slice));
    client.argv(&argv)
}

fn copied_then_moved(from: Kind, to: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(120), &[from, to]) else { return };
    let (from, to) = (bed.start(from, &[]), bed.start(to, &[]));
    let mut client = from.client();
    dataset::load(&mut client, 50);
    let all = keys(&mut client);
    let ok = Reply::Simple("OK".to_owned());
    for option in ["COPY", "REPLACE"] {
        for (database, keys) in &all {
            client.ok(&format!("SELECT {database}"));
            for some in keys.chunks(AT_ONCE) {
                assert_eq!(migrate(&mut client, &to, *database, some, option), ok);
            }
        }
        if option == "COPY" {
            assert_same_data(&from, &to, "after COPY");
        }
    }
    assert_eq!(keys(&mut client), [], "what was moved is gone");
    let arrived: usize = keys(&mut to.client()).iter().map(|(_, keys)| keys.len()).sum();
    assert_eq!(arrived, all.iter().map(|(_, keys)| keys.len()).sum::<usize>());

    client.ok("SELECT 0");
    client.ok("SET lonely here");
    to.client().ok("SET lonely there");
    let busy = client.run(&format!("MIGRATE 127.0.0.1 {} lonely 0 1000", to.port));
    assert!(
        busy.error()
            .is_some_and(|error| error.starts_with("ERR Target instance replied with error: BUSYKEY")),
        "{busy:?}"
    );
    assert_eq!(client.ok("GET lonely").text(), "here");
    assert_eq!(client.info_number("stats", "migrate_cached_sockets"), 1);
}

mod moved {
    crate::peers::pairs!(super::copied_then_moved);
}
