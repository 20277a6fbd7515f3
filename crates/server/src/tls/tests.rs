//! The relay between a client over TCP and the plain end, both in the test's hands.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use engine::Config;
use engine::tls::{AuthClients, Protocol, TlsConfig};
use rustls::{ClientConnection, StreamOwned};
use socket2::SockRef;

use super::*;
use authority::{Authority, Use};

#[path = "../../tests/peers/authority.rs"]
#[allow(dead_code)]
mod authority;

struct Bed {
    dir: tempfile::TempDir,
    tls: Tls,
    listener: TcpListener,
}

type Client = StreamOwned<ClientConnection, TcpStream>;

impl Bed {
    fn new() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::default();
        tls.configure(&Config { tls: settings(dir.path()), ..Config::default() }).unwrap();
        Bed { dir, tls, listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// The client's TCP connection and the plain end.
    fn accept(&self) -> (TcpStream, UnixStream) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let plain = UnixStream::from(self.tls.accept(socket, "test").unwrap().fd);
        plain.set_nonblocking(false).unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (client, plain)
    }

    /// The same after the handshake.
    fn connect(&self) -> (Client, UnixStream) {
        let (client, plain) = self.accept();
        let context = self.tls.state().contexts.client.clone().unwrap();
        let mut session = ClientConnection::new(context, "localhost".try_into().unwrap()).unwrap();
        shake_hands(&mut session, &client, Duration::from_secs(10)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (StreamOwned::new(session, client), plain)
    }
}

fn settings(dir: &std::path::Path) -> TlsConfig {
    let authority = Authority::new(dir, "one");
    let identity = authority.sign("server", Use::Any);
    TlsConfig {
        port: 1,
        auth_clients: AuthClients::Optional,
        cert_file: identity.certificate,
        key_file: identity.key,
        ca_cert_file: authority.file(),
        ..TlsConfig::default()
    }
}

/// Bytes that show where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32 / 4 + 1).flat_map(u32::to_le_bytes).take(length).collect()
}

/// Fails if the process has been busy for a large part of a moment, as a relay is that is told the same again and again.
fn assert_idle(when: &str) {
    let busy_ticks = || {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(50));
    let before = busy_ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(busy_ticks() - before < 15, "the relay spins: {when}");
}

#[test]
fn what_was_written_before_the_end_arrives() {
    let bed = Bed::new();
    let (mut client, mut plain) = bed.connect();
    let sent = pattern(5 << 20);
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || plain.write_all(&sent).unwrap()
    });
    let mut got = Vec::new();
    // Without an error: the notice of the end came.
    client.read_to_end(&mut got).unwrap();
    assert!(got == sent);
    writer.join().unwrap();

    let (mut client, mut plain) = bed.connect();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        plain.read_to_end(&mut got).map(|_| got)
    });
    client.write_all(&sent).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert!(reader.join().unwrap().unwrap() == sent);
    client.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_client_that_goes_without_a_word_or_breaks_is_an_end() {
    let bed = Bed::new();
    for linger in [None, Some(Duration::ZERO)] {
        let (mut client, mut plain) = bed.connect();
        client.write_all(b"last").unwrap();
        let mut got = [0; 4];
        plain.read_exact(&mut got).unwrap();
        plain.write_all(b"never read").unwrap();
        SockRef::from(&client.sock).set_linger(linger).unwrap();
        drop(client);
        assert_eq!((&got, plain.read(&mut [0]).unwrap()), (b"last", 0));
        assert_idle("the client is gone, the event loop is not");
        // What it writes has nowhere to go and does not hold it up.
        plain.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let lost = plain.write_all(&pattern(2 << 20));
        assert!(lost.is_ok() || lost.unwrap_err().kind() == io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_client_that_does_not_read_holds_little_and_nobody_up() {
    let bed = Bed::new();
    let (mut slow, mut plain) = bed.connect();
    plain.set_nonblocking(true).unwrap();
    let sent = pattern(64 << 20);
    let mut written = 0;
    let mut blocked = Instant::now();
    while blocked.elapsed() < Duration::from_millis(300) {
        match plain.write(&sent[written..]) {
            Ok(count) => (written, blocked) = (written + count, Instant::now()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!(written < 32 << 20, "{written} bytes went into the relay");
    assert_idle("a client does not read");
    let (mut other, mut other_plain) = bed.connect();
    other.write_all(b"ping").unwrap();
    other_plain.read_exact(&mut [0; 4]).unwrap();
    // The event loop gives it up; the client gets what was sent, once it reads.
    drop(plain);
    assert_idle("a client that does not read was given up");
    let mut got = Vec::new();
    slow.read_to_end(&mut got).unwrap();
    assert!(got == sent[..written]);
}

#[test]
fn an_event_loop_that_does_not_read_holds_the_client_up() {
    let bed = Bed::new();
    let (mut client, mut plain) = bed.connect();
    // While it waits for room, the client looks for something to read as well.
    client.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    client.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let sent = pattern(64 << 20);
    let mut written = 0;
    while let Ok(count) = client.write(&sent[written..][..16 * 1024]) {
        written += count;
    }
    assert!(written < 32 << 20, "{written} bytes went into the relay");
    assert_idle("the event loop does not read");
    let mut got = vec![0; 1 << 20];
    plain.read_exact(&mut got).unwrap();
    assert!(got == sent[..1 << 20]);
    plain.write_all(b"meanwhile").unwrap();
    client.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.read_exact(&mut [0; 9]).unwrap();
}

#[test]
fn a_client_that_is_closed_during_the_handshake_sees_it_at_once() {
    let bed = Bed::new();
    let (mut client, plain) = bed.accept();
    assert_idle("the handshake does not begin");
    let since = Instant::now();
    drop(plain);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(since.elapsed() < Duration::from_secs(5));
    // But a word of the event loop is worth the handshake.
    let (client, mut plain) = bed.accept();
    plain.write_all(b"-DENIED\r\n").unwrap();
    drop(plain);
    assert_idle("the handshake does not begin, and the event loop has closed");
    let context = bed.tls.state().contexts.client.clone().unwrap();
    let mut session = ClientConnection::new(context, "localhost".try_into().unwrap()).unwrap();
    shake_hands(&mut session, &client, Duration::from_secs(10)).unwrap();
    let mut client = StreamOwned::new(session, client);
    let mut got = String::new();
    // It has sent a command already, which must not turn the end into a reset.
    client.write_all(b"PING\r\n").unwrap();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, "-DENIED\r\n");
}

#[test]
fn the_end_of_the_process_waits_for_what_was_written() {
    let bed = Bed::new();
    let (mut client, mut plain) = bed.connect();
    let (_idle, idle_plain) = bed.connect();
    let sent = pattern(150_000);
    plain.write_all(&sent).unwrap();
    drop((plain, idle_plain));
    let since = Instant::now();
    bed.tls.end();
    assert!(since.elapsed() < Duration::from_millis(900), "an idle client puts it off");
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == sent);
}

#[test]
fn settings_that_cannot_be_honoured_are_refused_and_change_nothing() {
    let bed = Bed::new();
    let good = settings(bed.dir.path());
    let other = Authority::new(bed.dir.path(), "other").sign("server", Use::Any);
    let encrypted = bed.dir.path().join("encrypted.key").to_str().unwrap().to_owned();
    fs::write(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    type Change<'a> = &'a dyn Fn(&mut TlsConfig);
    let cases: &[(Change<'_>, &str)] = &[
        (&|c| c.cert_file.clear(), "No tls-cert-file configured!"),
        (&|c| c.key_file.clear(), "No tls-key-file configured!"),
        (&|c| c.ca_cert_file.clear(), "Either tls-ca-cert-file or tls-ca-cert-dir must be specified"),
        (&|c| c.client_cert_file = c.cert_file.clone(), "must be set together"),
        (&|c| c.cert_file = "/none".into(), "Failed to load certificate: /none: No such file or directory"),
        (&|c| c.key_file = c.cert_file.clone(), "it has no private key"),
        (&|c| c.key_file = other.key.clone(), "it is not the key of"),
        (&|c| c.key_file = encrypted.clone(), "encrypted keys are not supported"),
        (&|c| c.ca_cert_file = c.key_file.clone(), "it has no certificate"),
        (&|c| c.ca_cert_dir = "/none".into(), "No such file or directory"),
        (
            &|c| c.ciphers = "HIGH:!aNULL".into(),
            "tls-ciphers: 'HIGH' is not supported. Use DEFAULT or some of",
        ),
        (&|c| c.ciphersuites = "TLS_AES_128_CCM_SHA256".into(), "tls-ciphersuites: 'TLS_AES_128_CCM_SHA256'"),
    ];
    let before = bed.tls.state().contexts.server.clone().unwrap();
    for (change, reason) in cases {
        let mut settings = good.clone();
        change(&mut settings);
        let told = bed.tls.configure(&Config { tls: settings, ..Config::default() }).unwrap_err();
        assert!(told.contains(reason), "{told}");
    }
    assert!(std::sync::Arc::ptr_eq(&before, bed.tls.state().contexts.server.as_ref().unwrap()));

    let mut dir_alone = good.clone();
    dir_alone.ca_cert_dir = bed.dir.path().to_str().unwrap().to_owned();
    dir_alone.ca_cert_file.clear();
    bed.tls.configure(&Config { tls: dir_alone, ..Config::default() }).unwrap();
    bed.connect();
}

#[test]
fn protocols_ciphers_and_sessions_are_as_set() {
    let bed = Bed::new();
    let mut settings = settings(bed.dir.path());
    let negotiated = |settings: &TlsConfig| {
        bed.tls.configure(&Config { tls: settings.clone(), ..Config::default() }).unwrap();
        let (client, _plain) = bed.connect();
        let suite = client.conn.negotiated_cipher_suite().unwrap().suite().as_str().unwrap().to_owned();
        (format!("{:?}", client.conn.protocol_version().unwrap()), suite)
    };
    assert_eq!(negotiated(&settings).0, "TLSv1_3");
    settings.ciphersuites = "TLS_CHACHA20_POLY1305_SHA256".into();
    assert_eq!(negotiated(&settings).1, "TLS13_CHACHA20_POLY1305_SHA256");
    settings.protocols = vec![Protocol::Tls12];
    settings.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256".into();
    let expected = ("TLSv1_2".to_owned(), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned());
    assert_eq!(negotiated(&settings), expected);
    let context = bed.tls.state().contexts.server.clone().unwrap();
    assert!(!context.ignore_client_order && context.session_storage.can_cache());
    (settings.prefer_server_ciphers, settings.session_caching) = (true, false);
    negotiated(&settings);
    let context = bed.tls.state().contexts.server.clone().unwrap();
    assert!(context.ignore_client_order && !context.session_storage.can_cache());
    assert_eq!(context.send_tls13_tickets, 0);
}

#[test]
fn options_of_tcp_reach_the_socket() {
    let bed = Bed::new();
    let _client = TcpStream::connect(bed.listener.local_addr().unwrap()).unwrap();
    let (socket, _) = bed.listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_nodelay(true).unwrap();
    let seen = socket.try_clone().unwrap();
    let plain = bed.tls.accept(socket, "test").unwrap();
    bed.tls.gather_packets(plain.number);
    let since = Instant::now();
    while seen.nodelay().unwrap() {
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}
