//! TLS: clients, replicas and primaries of other makes, and what becomes of a connection at its ends.

mod peers;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, wait_caught_up};
use peers::authority::{Identity, Use};
use peers::proxy::Proxy;
use peers::tls::{TlsClient, Trust};
use peers::writes::{Writes, pour};
use peers::{Batch, Bed, Kind};

const LIMIT: Duration = Duration::from_secs(120);

/// A server by itself.
fn server(more: &[(&str, &str)]) -> Option<(Bed, Trust, peers::Server, u16)> {
    let mut bed = Bed::new(LIMIT, &[Kind::Kindred])?;
    let trust = Trust::new(&mut bed, "authority");
    let (server, port) = trust.start(&mut bed, Kind::Kindred, more);
    Some((bed, trust, server, port))
}

#[test]
fn redis_cli_is_let_in_by_its_certificate() {
    let Some((mut bed, trust, server, port)) = server(&[]) else { return };
    let stranger = Trust::new(&mut bed, "stranger");
    let own = Some(&trust.client);
    let Some(told) = trust.redis_cli(port, own, &["CLIENT", "LIST"]) else { return };
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains(&format!("laddr=127.0.0.1:{port} ")) && told.contains("addr=127.0.0.1:"), "{told}");

    let pongs = |trust: &Trust, shown: Option<&Identity>| {
        let output = trust.redis_cli(port, shown, &["PING"]).expect("it is there");
        output.stdout == b"PONG\n"
    };
    for (auth, without, strangers) in [("yes", false, false), ("no", true, true), ("optional", true, false)] {
        server.ok(&format!("CONFIG SET tls-auth-clients {auth}"));
        assert!(pongs(&trust, own), "{auth}: its own certificate");
        assert_eq!(pongs(&trust, None), without, "{auth}: no certificate");
        assert_eq!(pongs(&trust, Some(&stranger.client)), strangers, "{auth}: a stranger's certificate");
        assert!(!pongs(&stranger, own), "{auth}: the client does not trust the server");
    }
    // One that is for servers only does not let a client in.
    server.ok("CONFIG SET tls-auth-clients yes");
    assert!(!pongs(&trust, Some(&trust.server)));
    assert!(server.log().contains("Error accepting a client connection: "), "{}", server.log());
}

/// Full synchronisation, a stream, cuts at any byte, and partial synchronisations; with passwords on top.
fn link(primary: Kind, replica: Kind) {
    link_with(primary, replica, &[]);
}

/// The snapshot on a connection of its own is encrypted as well.
#[test]
fn linked_by_two_connections() {
    link_with(Kind::Kindred, Kind::Kindred, &[("dual-channel-replication-enabled", "yes")]);
}

fn link_with(primary: Kind, replica: Kind, more: &[(&str, &str)]) {
    let Some(mut bed) = Bed::new(LIMIT, &[primary, replica]) else { return };
    let trust = Trust::new(&mut bed, "authority");
    let options = [&[("requirepass", "secret"), ("masterauth", "secret")], more].concat();
    let (primary, port) = trust.start(&mut bed, primary, &options);
    let (replica, _) = trust.start(&mut bed, replica, &options);
    pour(&mut primary.client(), &mut Writes::new(50), 20_000);
    let proxy = Proxy::to(port);
    replica.follow(proxy.port);
    assert_same(&primary, &replica, "after the full synchronisation");
    let before = primary.syncs();
    let mut client = primary.client();
    for round in 0..3 {
        let cuts = proxy.cuts();
        proxy.storm(60 + round);
        let since = Instant::now();
        let mut writes = Writes::new(70 + round);
        while proxy.cuts() < cuts + 8 {
            pour(&mut client, &mut writes, 200);
            assert!(since.elapsed() < Duration::from_secs(40), "{} cuts", proxy.cuts());
        }
        proxy.calm();
        assert_same(&primary, &replica, &format!("after storm {round}"));
    }
    let syncs = primary.syncs();
    assert_eq!((syncs.full, syncs.refused), (1, before.refused), "{syncs:?}");
    assert!(syncs.partial > 0, "{syncs:?}");
    // What it announces is the port that its primary can be reached by, if they change places.
    let told = primary.client().info("replication")["slave0"].clone();
    let own = replica.ok("CONFIG GET tls-port").array().remove(1).text();
    assert!(told.contains(&format!("port={own},")), "{told}");
}

mod linked {
    crate::peers::pairs!(super::link;
        redis70_to_kindred: Redis70, Kindred;
        kindred_to_redis70: Kindred, Redis70;
        kindred_to_kindred: Kindred, Kindred;
    );
}

#[test]
fn a_link_without_trust_stays_down_and_says_why() {
    let Some(mut bed) = Bed::new(LIMIT, &[Kind::Redis70]) else { return };
    let (trust, stranger) = (Trust::new(&mut bed, "authority"), Trust::new(&mut bed, "stranger"));
    let (primary, port) = trust.start(&mut bed, Kind::Redis70, &[]);
    primary.ok("SET a 1");
    let (replica, _) = stranger.start(&mut bed, Kind::Kindred, &[("repl-timeout", "3")]);
    let wait_for = |words: &str| {
        let since = Instant::now();
        while !replica.log().contains(words) {
            assert!(since.elapsed() < Duration::from_secs(20), "{words}: {}", replica.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    replica.follow(port);
    wait_for("invalid peer certificate: UnknownIssuer");
    // It trusts the primary now, which does not trust it.
    replica.ok(&format!("CONFIG SET tls-ca-cert-file {}", trust.authority.file()));
    wait_for("received fatal alert: ");
    assert_eq!(replica.client().info("replication")["master_link_status"], "down");
    // A port without TLS: Redis waits for the end of the line, the replica for an answer.
    replica.follow(primary.port);
    wait_for("Error condition on socket for SYNC: timed out");
    let set = [
        "CONFIG",
        "SET",
        "tls-client-cert-file",
        &trust.client.certificate,
        "tls-client-key-file",
        &trust.client.key,
    ];
    assert_eq!(replica.client().argv(&set).error(), None);
    replica.follow(port);
    assert_same(&primary, &replica, "with the right certificate");
    // Without TLS again, while it runs.
    replica.ok("CONFIG SET tls-replication no");
    replica.follow(primary.port);
    wait_caught_up(&primary, &replica);
}

#[test]
fn large_values_pass_both_ways_and_a_slow_reader_holds_nobody_up() {
    let Some((_bed, trust, server, port)) = server(&[]) else { return };
    let value: Vec<u8> =
        (0..50_000_000u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut client = trust.client(port);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes());
    client.send(&value);
    client.send(b"\r\n");
    client.expect(b"+OK\r\n");
    assert!(server.client().argv(&["GET", "k"]).bytes() == value);

    let mut slow = trust.client(port);
    slow.send(b"GET k\r\nPING\r\n");
    let mut quick = trust.client(port);
    for _ in 0..200 {
        let since = Instant::now();
        quick.send(b"PING\r\n");
        quick.expect(b"+PONG\r\n");
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    }
    client.send(b"GET k\r\n");
    client.expect(format!("${}\r\n", value.len()).as_bytes());
    client.expect(&value);
    client.expect(b"\r\n");
    slow.expect(format!("${}\r\n", value.len()).as_bytes());
    slow.expect(&value);
    slow.expect(b"\r\n+PONG\r\n");
}

#[test]
fn a_reply_before_the_end_arrives() {
    let Some((_bed, trust, server, port)) = server(&[]) else { return };
    let large = "x".repeat(3 << 20);
    server.client().argv(&["SET", "large", &large]);
    let reply = format!("${}\r\n{large}\r\n", large.len());

    let mut client = trust.client(port);
    client.send(b"GET large\r\nQUIT\r\n");
    assert_eq!(client.rest(), (format!("{reply}+OK\r\n").into_bytes(), true), "QUIT");

    // The error is sent although more has come, which will never be read.
    let mut client = trust.client(port);
    client.send(&[b"GET large\r\n*1\r\n!\r\n".as_slice(), &[b'x'; 100_000]].concat());
    let (told, in_order) = client.rest();
    assert!(in_order && told.starts_with(reply.as_bytes()), "{} bytes", told.len());
    assert!(told.ends_with(b"-ERR Protocol error: expected '$', got '!'\r\n"));

    // Commands count whose client is gone when they arrive.
    let mut client = trust.client(port);
    client.send(b"SET gone 1\r\n");
    client.close_writing();
    client.rest();
    let since = Instant::now();
    while server.ok("EXISTS gone").int() == 0 {
        assert!(since.elapsed() < Duration::from_secs(10));
    }

    let mut killed = trust.client(port);
    killed.send(b"CLIENT ID\r\n");
    let mut id = [0; 32];
    let length = killed.stream.read(&mut id).unwrap();
    let id = String::from_utf8_lossy(&id[1..length]).trim().to_owned();
    let since = Instant::now();
    server.ok(&format!("CLIENT KILL ID {id}"));
    assert_eq!(killed.rest(), (Vec::new(), true));
    assert!(since.elapsed() < Duration::from_secs(2));

    let mut last = trust.client(port);
    last.send(b"GET large\r\nSHUTDOWN NOSAVE\r\n");
    let (told, _) = last.rest();
    // Of so large a reply the end of the process waits for what its sockets hold, as without TLS.
    assert!(reply.as_bytes().starts_with(&told[..]) && told.len() > 100_000, "{} bytes", told.len());
}

#[test]
fn plain_bytes_and_too_many_clients_are_turned_away() {
    let Some((_bed, trust, server, port)) = server(&[("maxclients", "2")]) else { return };
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    plain.write_all(b"PING\r\n").unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told);
    // An alert of TLS at most, and no reply.
    assert!(!told.contains(&b'+') && told.len() < 16, "{told:?}");
    assert!(server.log().contains("Error accepting a client connection: received corrupt message"));

    let clients: Vec<TlsClient> = (0..2).map(|_| trust.client(port)).collect();
    assert!(TlsClient::connect(port, &trust.authority.file(), Some(&trust.client)).is_err());
    drop(clients);
    let since = Instant::now();
    loop {
        // Their ends may not have been noticed yet.
        if let Ok(mut client) = TlsClient::connect(port, &trust.authority.file(), Some(&trust.client)) {
            client.send(b"PING\r\n");
            client.expect(b"+PONG\r\n");
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_handshake_that_does_not_go_on_ends() {
    let Some((_bed, _trust, server, port)) = server(&[]) else { return };
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The beginning of a record that does not come.
    silent.write_all(&[22, 3, 1, 0]).unwrap();
    let own = format!("addr={} laddr=127.0.0.1:{port} ", silent.local_addr().unwrap());
    assert!(server.ok("CLIENT LIST").text().contains(&own), "it counts from its acceptance on");
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(server.log().contains("the TLS handshake took too long"), "{}", server.log());
    let since = Instant::now();
    while server.ok("CLIENT LIST").text().contains(&own) {
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn settings_change_while_it_runs_all_or_none() {
    let Some((mut bed, trust, server, port)) = server(&[]) else { return };
    let mut before = trust.client(port);
    let other = Trust::new(&mut bed, "other");
    let identity = other.authority.sign("both", Use::Any);
    let set = |pairs: &[(&str, &str)]| {
        let mut words = vec!["CONFIG", "SET"];
        pairs.iter().for_each(|(name, value)| words.extend([name, value]));
        server.client().argv(&words)
    };
    // The key does not belong to the certificate: nothing has changed.
    let refused = set(&[("tls-auth-clients", "no"), ("tls-cert-file", &identity.certificate)]);
    let reason = refused.error().unwrap().to_owned();
    assert!(reason.contains("Unable to update TLS configuration: Failed to load private key: "), "{reason}");
    assert!(TlsClient::connect(port, &other.authority.file(), None).is_err());
    trust.client(port).send(b"PING\r\n");

    let moved = bed.free_port().to_string();
    let accepted = set(&[
        ("tls-cert-file", &identity.certificate),
        ("tls-key-file", &identity.key),
        ("tls-client-cert-file", ""),
        ("tls-client-key-file", ""),
        ("tls-ca-cert-file", &other.authority.file()),
        ("tls-port", &moved),
    ]);
    assert_eq!(accepted.error(), None);
    let moved: u16 = moved.parse().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the old port");
    let mut client = other.client(moved);
    client.send(b"PING\r\n");
    client.expect(b"+PONG\r\n");
    // Who is there stays.
    before.send(b"PING\r\n");
    before.expect(b"+PONG\r\n");

    // The ports change places, as in Redis's own test: first over TLS, then without it on the same port, and back.
    let plain = server.port.to_string();
    client.send(format!("CONFIG SET port 0 tls-port {plain}\r\n").as_bytes());
    client.expect(b"+OK\r\n");
    let mut client = other.client(server.port);
    client.send(format!("CONFIG SET tls-port 0 port {plain}\r\n").as_bytes());
    client.expect(b"+OK\r\n");
    server.ok("PING");
}

#[test]
fn a_writer_and_replicas_over_tls_end_alike_after_a_shutdown() {
    let Some(mut bed) = Bed::new(LIMIT, &[Kind::Redis70]) else { return };
    let trust = Trust::new(&mut bed, "authority");
    let (primary, port) = trust.start(&mut bed, Kind::Kindred, &[("repl-ping-replica-period", "3600")]);
    let replicas = [Kind::Kindred, Kind::Redis70].map(|kind| trust.start(&mut bed, kind, &[]).0);
    pour(&mut primary.client(), &mut Writes::new(80), 5000);
    for replica in &replicas {
        replica.follow(port);
        assert_same(&primary, replica, "before");
    }
    // Without an expiry, so that a file that is loaded later holds the same.
    let mut client = primary.client();
    let writer = std::thread::spawn(move || {
        let mut batch = Batch::new();
        for number in 0.. {
            batch.push(&[b"SET", format!("late:{number}").as_bytes(), &[b'x'; 100]]);
            if number % 50 == 0 {
                if client.try_batch(&batch).is_err() {
                    return number;
                }
                batch.clear();
            }
        }
        0
    });
    std::thread::sleep(Duration::from_millis(300));
    primary.ok("DEL late:0");
    primary.shut_down(true);
    assert!(writer.join().unwrap() > 1000);
    let late = |server: &peers::Server| {
        let keys = server.ok("KEYS late:*").array();
        keys.into_iter().map(peers::Reply::bytes).collect::<BTreeSet<_>>()
    };
    // The file has all that was acknowledged; the replicas have it too.
    let dir = primary.dir.clone();
    let again = bed.start_with_rdb(Kind::Kindred, &dir.join("dump.rdb"), &[]);
    for replica in &replicas {
        let (above, below) = (late(&again), late(replica));
        assert!(above == below, "{} and {} keys", above.len(), below.len());
    }
}
