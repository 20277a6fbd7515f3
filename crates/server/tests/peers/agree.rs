//! Whether two servers hold the same data at the same position, and where they differ.
//!
//! DEBUG DIGEST mixes in all values of all databases, but of an expiry only that there is one; so [`assert_same`] also
//! compares the sizes of the databases, and [`assert_same_expiries`] the times.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::bed::Server;
use super::client::{Batch, Client, Reply};

/// How long a replica may take to come back and to catch up with a primary that nobody writes to.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

const DATABASES: usize = 16;

/// Waits until the replica's link is up and its offset is the primary's; nobody may be writing. Gives the offset.
pub fn wait_caught_up(primary: &Server, replica: &Server) -> i64 {
    let (mut upper, mut lower) = (primary.client(), replica.client());
    let since = Instant::now();
    loop {
        let below = lower.info("replication");
        let above = upper.info("replication");
        let link = below.get("master_link_status").map(String::as_str);
        let offset = below.get("slave_repl_offset");
        if link == Some("up") && offset == above.get("master_repl_offset") {
            assert_eq!(below["master_replid"], above["master_replid"], "one position in two histories");
            return offset.and_then(|text| text.parse().ok()).expect("an offset is a number");
        }
        assert!(
            since.elapsed() < CATCH_UP_LIMIT,
            "{} (port {}) does not catch up with {} (port {}):\n{below:?}\n{above:?}",
            replica.kind.name(),
            replica.port,
            primary.kind.name(),
            primary.port
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for equal offsets and fails unless the digests and the sizes of all databases are equal.
pub fn assert_same(primary: &Server, replica: &Server, when: &str) {
    wait_caught_up(primary, replica);
    assert_same_data(primary, replica, when);
}

/// Fails unless the digests and the sizes of all databases are equal.
pub fn assert_same_data(one: &Server, other: &Server, when: &str) {
    let (mut left, mut right) = (one.client(), other.client());
    let digests = (left.ok("DEBUG DIGEST").text(), right.ok("DEBUG DIGEST").text());
    let sizes = (database_sizes(&mut left), database_sizes(&mut right));
    if digests.0 != digests.1 || sizes.0 != sizes.1 {
        panic!(
            "{when}: {} and {} differ: digests {digests:?}, sizes {sizes:?}\n{}",
            one.kind.name(),
            other.kind.name(),
            differences(&mut left, &mut right)
        );
    }
    assert!(digests.0.bytes().any(|digit| digit != b'0'), "{when}: both are empty, which proves nothing");
}

/// Fails unless both hold the same keys with the same elements and expiries, read key by key: for servers whose digests
/// cannot be compared. Costs much more than a digest.
pub fn assert_same_contents(one: &Server, other: &Server, when: &str) {
    let (mut left, mut right) = (one.client(), other.client());
    let mut compared = 0;
    for database in 0..DATABASES {
        let keys = (keys(&mut left, database), keys(&mut right, database));
        let only: Vec<String> =
            keys.0.symmetric_difference(&keys.1).map(|key| key.escape_ascii().to_string()).collect();
        assert!(
            only.is_empty(),
            "{when}: only in one of the servers, database {database}: {:.1000}",
            only.join(" ")
        );
        for key in &keys.0 {
            let contents = (contents(&mut left, key), contents(&mut right, key));
            if contents.0 != contents.1 {
                let brief = [&contents.0, &contents.1]
                    .map(|text| format!("{text:?}").chars().take(1500).collect::<String>());
                panic!(
                    "{when}: database {database}, key {}:\n{}\n{}",
                    key.escape_ascii(),
                    brief[0],
                    brief[1]
                );
            }
            compared += 1;
        }
    }
    assert!(compared > 0, "{when}: both are empty, which proves nothing");
}

/// Fails unless the fields of all hashes have the same expiries; gives how many have one. Both must know them.
pub fn assert_same_field_expiries(one: &Server, other: &Server, when: &str) -> usize {
    let (mut left, mut right) = (one.client(), other.client());
    let mut expiring = 0;
    for database in 0..DATABASES {
        for key in keys(&mut left, database) {
            if left.argv(&[b"TYPE", &*key]).text() != "hash" {
                continue;
            }
            right.ok(&format!("SELECT {database}"));
            let mut fields: Vec<Vec<u8>> =
                left.argv(&[b"HKEYS", &*key]).array().iter().cloned().map(Reply::bytes).collect();
            fields.sort();
            let head = [
                b"HPEXPIRETIME".to_vec(),
                key.clone(),
                b"FIELDS".to_vec(),
                fields.len().to_string().into_bytes(),
            ];
            let argv = [head.to_vec(), fields].concat();
            let times = (left.argv(&argv), right.argv(&argv));
            assert_eq!(times.0, times.1, "{when}: database {database}, key {}", key.escape_ascii());
            expiring += times.0.array().iter().filter(|time| time.int() > 0).count();
        }
    }
    expiring
}

/// Type, expiry and elements of a key; the elements in an order of their own where the type has none.
fn contents(client: &mut Client, key: &[u8]) -> (String, i64, Vec<Vec<u8>>) {
    let kind = client.argv(&[b"TYPE", key]).text();
    let (read, per_element): (&[&[u8]], usize) = match kind.as_str() {
        "string" => (&[b"GET", key], 1),
        "list" => (&[b"LRANGE", key, b"0", b"-1"], usize::MAX),
        "set" => (&[b"SMEMBERS", key], 1),
        "hash" => (&[b"HGETALL", key], 2),
        "zset" => (&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], usize::MAX),
        "stream" => (&[b"DEBUG", b"DIGEST-VALUE", key], 1),
        other => panic!("key {} is of type {other}", key.escape_ascii()),
    };
    let elements = match client.argv(read) {
        Reply::Array(Some(items)) => items.into_iter().map(Reply::bytes).collect(),
        value => vec![value.bytes()],
    };
    let mut elements: Vec<Vec<u8>> = elements;
    if per_element != usize::MAX {
        let mut whole: Vec<Vec<Vec<u8>>> = elements.chunks(per_element).map(<[_]>::to_vec).collect();
        whole.sort();
        elements = whole.concat();
    }
    (kind, client.argv(&[b"PEXPIRETIME", key]).int(), elements)
}

/// Fails unless every key has the same expiry, to the millisecond, on both.
pub fn assert_same_expiries(one: &Server, other: &Server, when: &str) {
    let (mut left, mut right) = (one.client(), other.client());
    let mut with_expiry = 0;
    for database in 0..DATABASES {
        let keys: Vec<Vec<u8>> = keys(&mut left, database).into_iter().collect();
        right.ok(&format!("SELECT {database}"));
        for some in keys.chunks(500) {
            let mut batch = Batch::new();
            some.iter().for_each(|key| batch.push(&[&b"PEXPIRETIME"[..], key]));
            let times = (left.batch_ok(&batch), right.batch_ok(&batch));
            for (key, (time, copy)) in some.iter().zip(times.0.iter().zip(&times.1)) {
                let key = key.escape_ascii();
                assert_eq!(time, copy, "{when}: the expiry of {key} in database {database}");
                with_expiry += usize::from(time.int() > 0);
            }
        }
    }
    assert!(with_expiry > 0, "{when}: no key has an expiry, which proves nothing");
}

fn database_sizes(client: &mut Client) -> Vec<i64> {
    let mut batch = Batch::new();
    for database in 0..DATABASES {
        batch.push_text(&format!("SELECT {database}"));
        batch.push_text("DBSIZE");
    }
    client.batch_ok(&batch).iter().filter(|reply| matches!(reply, Reply::Int(_))).map(Reply::int).collect()
}

/// All keys of a database, which stays selected.
fn keys(client: &mut Client, database: usize) -> BTreeSet<Vec<u8>> {
    client.ok(&format!("SELECT {database}"));
    let mut keys = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut page = client.ok(&format!("SCAN {cursor} COUNT 1000")).array();
        keys.extend(page.remove(1).array().into_iter().map(Reply::bytes));
        cursor = page.remove(0).text();
        if cursor == "0" {
            return keys;
        }
    }
}

/// Up to five keys that differ, in words.
fn differences(left: &mut Client, right: &mut Client) -> String {
    let mut found = Vec::new();
    for database in 0..DATABASES {
        let both = (keys(left, database), keys(right, database));
        for key in both.0.union(&both.1) {
            let mut batch = Batch::new();
            for words in [
                &["DEBUG", "DIGEST-VALUE"][..],
                &["TYPE"],
                &["OBJECT", "ENCODING"],
                &["PEXPIRETIME"],
                &["DUMP"],
            ] {
                let mut argv: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                argv.push(key);
                batch.push(&argv);
            }
            let told = (left.batch(&batch), right.batch(&batch));
            if told.0[0] != told.1[0] || (told.0[3] == Reply::Int(-1)) != (told.1[3] == Reply::Int(-1)) {
                found.push(format!(
                    "database {database}, key {}:\n    {}\n    {}",
                    key.escape_ascii(),
                    brief(&told.0),
                    brief(&told.1)
                ));
                if found.len() == 5 {
                    return found.join("\n");
                }
            }
        }
    }
    if found.is_empty() { "no key differs any more".to_owned() } else { found.join("\n") }
}

fn brief(replies: &[Reply]) -> String {
    let mut text = String::new();
    for reply in replies {
        match reply {
            Reply::Bulk(Some(bytes)) => {
                text.push_str(&format!(" {}", bytes[..bytes.len().min(80)].escape_ascii()));
            }
            other => text.push_str(&format!(" {:.200}", format!("{other:?}"))),
        }
    }
    text
}
