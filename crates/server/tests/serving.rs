//! Clients of the real binary: how bytes come in and go out.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{BINARY, Client, Server, encode, wait_for};

#[test]
fn commands_are_answered_over_tcp_and_unix_sockets() {
    let server = Server::start(&["--unixsocket", "s", "--unixsocketperm", "700"]);
    let mut tcp = server.client();
    assert_eq!(tcp.run("PING"), "+PONG");
    assert_eq!(tcp.run("SET k v"), "+OK");
    let mut unix = Client::new(UnixStream::connect(server.dir.path().join("s")).unwrap());
    assert_eq!(unix.run("GET k"), "v");
    assert_eq!(unix.run("GET absent"), "nil");
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for i in 0..10_000 {
        bytes.extend(encode(&[b"SET", format!("key:{i}").as_bytes(), format!("{i}").as_bytes()]));
        bytes.extend(encode(&[b"GET", format!("key:{i}").as_bytes()]));
    }
    let mut writer = client.stream.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for i in 0..10_000 {
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), i.to_string());
    }
    sender.join().unwrap();
    assert_eq!(client.run("DBSIZE"), ":10000");
}

#[test]
fn a_command_may_arrive_byte_by_byte() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for byte in encode(&[b"SET", b"key", b"some value"]).chunks(1) {
        client.send(byte);
        std::thread::sleep(Duration::from_micros(300));
    }
    assert_eq!(client.reply(), "+OK");
    for byte in b"GET key\r\n" {
        client.send(&[*byte]);
        std::thread::sleep(Duration::from_micros(300));
    }
    assert_eq!(client.reply(), "some value");
}

fn set_and_get_big(bytes: usize) {
    let server = Server::start(&[]);
    let mut client = server.client();
    let value: Vec<u8> = (0..bytes).map(|i| (i / 7 % 251) as u8).collect();
    let before = Instant::now();
    client.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${bytes}\r\n").as_bytes());
    client.send(&value);
    client.send(b"\r\n");
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.run("STRLEN big"), format!(":{bytes}"));
    client.send(b"GET big\r\n");
    let mut head = vec![0; format!("${bytes}\r\n").len()];
    client.stream.read_exact(&mut head).unwrap();
    let mut back = vec![0; bytes + 2];
    client.stream.read_exact(&mut back).unwrap();
    assert!(back[..bytes] == value[..], "the value came back changed");
    assert_eq!(client.run("PING"), "+PONG");
    eprintln!("{bytes} bytes there and back: {:?}", before.elapsed());
}

#[test]
fn a_value_of_64_mb_goes_in_and_out() {
    set_and_get_big(64 << 20);
}

#[test]
#[ignore = "needs 2 GB of memory"]
fn a_value_of_512_mb_goes_in_and_out() {
    set_and_get_big(512 << 20);
}

#[test]
fn a_client_that_never_reads_blocks_nobody() {
    let server = Server::start(&[]);
    let mut other = server.client();
    let big = "x".repeat(1 << 20);
    assert_eq!(other.run(&format!("SET big {big}")), "+OK");
    let mut greedy = server.client();
    for _ in 0..200 {
        greedy.send(b"GET big\r\n");
    }
    let start = Instant::now();
    for i in 0..2000 {
        assert_eq!(other.run(&format!("SET k {i}")), "+OK");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // It gets everything once it reads.
    for _ in 0..200 {
        assert_eq!(greedy.reply().len(), 1 << 20);
    }
}

#[test]
fn a_thousand_connections_are_served() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..1000).map(|_| server.client()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(&encode(&[b"SET", format!("key:{i}").as_bytes(), b"v"]));
    }
    for client in &mut clients {
        assert_eq!(client.reply(), "+OK");
    }
    drop(clients.split_off(500));
    // The slots of those that left go to those that come.
    let mut more: Vec<Client> = (0..500).map(|_| server.client()).collect();
    for client in clients.iter_mut().chain(&mut more) {
        assert_eq!(client.run("GET key:999"), "v");
    }
}

#[test]
fn clients_beyond_maxclients_are_told_so() {
    let server = Server::start(&["--maxclients", "2"]);
    let mut first = server.client();
    assert_eq!(first.run("PING"), "+PONG");
    let second = server.client();
    let mut third = server.client();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    drop(second);
    wait_for("a free place", || {
        let mut client = server.client();
        // Refused ones are closed before or after they have written.
        let sent = client.stream.get_mut().write_all(b"PING\r\n");
        let mut answer = [0; 5];
        (sent.is_ok() && client.stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG").then_some(())
    });
}

#[test]
fn sigterm_saves_and_the_data_is_there_after_a_restart() {
    let mut server = Server::start(&["--save", "3600 1"]);
    let mut client = server.client();
    for i in 0..1000 {
        assert_eq!(client.run(&format!("SET key:{i} {i}")), "+OK");
    }
    assert_eq!(server.terminate().code(), Some(0));
    let log = server.log();
    for line in [
        "Received SIGTERM scheduling shutdown...",
        "User requested shutdown...",
        "Saving the final RDB snapshot before exiting.",
        "Redis is now ready to exit, bye bye...",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    server.restart();
    assert!(server.log().contains("DB loaded from disk: "), "{}", server.log());
    let mut client = server.client();
    assert_eq!(client.run("DBSIZE"), ":1000");
    assert_eq!(client.run("GET key:999"), "999");
}

#[test]
fn a_server_that_cannot_save_does_not_exit() {
    let mut server = Server::start(&["--save", "3600 1"]);
    let mut client = server.client();
    assert_eq!(client.run("SET k v"), "+OK");
    // A directory in the place of the file: the rename fails for any user.
    std::fs::create_dir_all(server.dir.path().join("dump.rdb/x")).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server.pid() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    wait_for("the refusal", || server.log().contains("Errors trying to shut down the server").then_some(()));
    assert!(server.log().contains("Error trying to save the DB, can't exit."), "{}", server.log());
    assert_eq!(client.run("GET k"), "v");
    std::fs::remove_dir_all(server.dir.path().join("dump.rdb")).unwrap();
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_broken_snapshot_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    std::fs::write(&path, b"REDIS0010 and then nonsense").unwrap();
    let output = Command::new(BINARY)
        .args(["--port", &common::free_port().to_string(), "--dir", dir.path().to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"REDIS0010 and then nonsense");
}

#[test]
fn errors_of_the_configuration_end_the_start() {
    let run = |args: &[&str]| {
        let output = Command::new(BINARY).args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
    };
    let text = run(&["--no-such-directive", "1"]);
    assert!(text.contains("*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***"), "{text}");
    assert!(text.contains("Bad directive or wrong number of arguments"), "{text}");
    assert!(run(&["--port", "x"]).contains(">>> 'port \"x\"'"));
    assert!(run(&["/no/such/file"]).contains("Fatal error, can't open config file '/no/such/file'"));
    assert!(run(&["--dir", "/no/such/dir"]).contains("No such file or directory"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = run(&["--port", &port, "--bind", "127.0.0.1"]);
    assert!(text.contains("Address already in use"), "{text}");
}

#[test]
fn the_version_is_printed() {
    let output = Command::new(BINARY).arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("Kindred server v=7.2.4 "));
}

#[test]
fn configuration_is_read_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let port = common::free_port();
    let mut child = Ended(
        Command::new(BINARY)
            .arg("-")
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let text = format!("port {port}\nbind 127.0.0.1\nlogfile out.log\nsave \"\"\n");
    child.0.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    wait_for("the log", || {
        std::fs::read_to_string(dir.path().join("out.log"))
            .is_ok_and(|log| log.contains("Ready"))
            .then_some(())
    });
    assert_eq!(Client::tcp(port).run("PING"), "+PONG");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// A process that ends with the test, however that goes.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_shutdown_waits_for_a_replica_and_sends_it_everything() {
    let mut primary = Server::start(&["--save", "", "--repl-diskless-sync-delay", "0"]);
    let replica = Server::start(&["--save", "", "--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let mut reader = replica.client();
    wait_for("the link", || (reader.info("master_link_status") == "up").then_some(()));
    let mut client = primary.client();
    for i in 0..20_000 {
        client.send(format!("SET key:{i} {i}\r\n").as_bytes());
    }
    for _ in 0..20_000 {
        assert_eq!(client.reply(), "+OK");
    }
    assert_eq!(primary.terminate().code(), Some(0));
    let log = primary.log();
    assert!(log.contains("1 of 1 replicas are in sync when shutting down."), "{log}");
    wait_for("the data", || (reader.run("GET key:19999") == "19999").then_some(()));
    assert_eq!(reader.run("DBSIZE"), ":20000");
}

#[test]
fn more_clients_than_the_system_allows_are_refused() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let before = client.run("CONFIG GET maxclients");
    let refused = client.run("CONFIG SET maxclients 4000000000");
    assert!(
        refused.starts_with(
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system"
        ),
        "{refused}"
    );
    assert_eq!(client.run("CONFIG GET maxclients"), before);
    assert_eq!(client.run("CONFIG SET maxclients 100"), "+OK");
}

#[test]
fn systemd_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut server = Command::new(BINARY)
        .args(["--port", &common::free_port().to_string(), "--dir", dir.path().to_str().unwrap()])
        .args(["--supervised", "systemd", "--save", ""])
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let next = || {
        let mut text = [0; 256];
        let count = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    assert_eq!(next(), "STATUS=Ready to accept connections\nREADY=1\n");
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// The server tries before it answers, so what cannot be listened on changes nothing.
#[test]
fn a_port_or_address_that_cannot_be_listened_on_is_refused() {
    let server = Server::start(&["--unixsocket", "s"]);
    let mut client = server.client();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let before = (client.run("CONFIG GET port"), client.run("CONFIG GET bind"));
    assert_eq!(
        client.run(&format!("CONFIG SET port {taken_port}")),
        "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
    );
    for line in ["CONFIG SET bind 192.0.2.1", &format!("CONFIG SET bind 127.0.0.1 port {taken_port}")] {
        assert_eq!(
            client.run(line),
            "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."
        );
    }
    assert_eq!((client.run("CONFIG GET port"), client.run("CONFIG GET bind")), before);
    assert_eq!(server.client().run("PING"), "+PONG");

    drop(taken);
    assert_eq!(client.run(&format!("CONFIG SET port {taken_port}")), "+OK");
    let new = || Client::new(std::net::TcpStream::connect(("127.0.0.1", taken_port)).unwrap());
    assert_eq!(new().run("PING"), "+PONG");
    // An address that is listened on already is no obstacle.
    assert_eq!(client.run("CONFIG SET bind 127.0.0.1"), "+OK");
    assert_eq!(client.run_args(&[b"CONFIG", b"SET", b"bind", b"127.0.0.1 127.0.0.2"]), "+OK");
    assert_eq!(new().run("CONFIG GET port"), format!("[port {taken_port}]"));
    let mut unix = Client::new(UnixStream::connect(server.dir.path().join("s")).unwrap());
    assert_eq!(unix.run("PING"), "+PONG");
}

/// Named by mistake, a device or a pipe stays one.
#[test]
fn a_snapshot_does_not_replace_what_is_no_file() {
    use std::os::unix::fs::FileTypeExt;
    let server = Server::start(&[]);
    let mut client = server.client();
    let path = server.dir.path().join("dump.rdb");
    let _ = std::fs::remove_file(&path);
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    client.run("SET k v");
    assert_eq!(client.run("SAVE"), "-ERR");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
}

/// Sets keys of many sizes: strings, hashes and lists.
fn fill(client: &mut Client, keys: std::ops::Range<usize>) {
    // In portions, so that what is on its way counts for little.
    keys.clone().step_by(100).for_each(|start| fill_some(client, start..keys.end.min(start + 100)));
}

fn fill_some(client: &mut Client, keys: std::ops::Range<usize>) {
    let mut bytes = Vec::new();
    for key in keys.clone() {
        let (name, value) = (format!("key:{key}"), vec![b'x'; 1 + key * 7 % 900]);
        bytes.extend(match key % 3 {
            0 => encode(&[b"SET", name.as_bytes(), &value]),
            1 => encode(&[b"RPUSH", name.as_bytes(), &value]),
            _ => encode(&[b"HSET", name.as_bytes(), b"field", &value]),
        });
    }
    client.send(&bytes);
    for key in keys {
        let reply = client.reply();
        assert!(reply == "+OK" || reply == ":1", "key {key}: {reply}");
    }
}

#[test]
fn memory_counts_as_free_as_soon_as_keys_are_deleted() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let used = |client: &mut Client<_>| client.info("used_memory").parse::<i64>().unwrap();
    fill(&mut client, 0..1000);
    let before = used(&mut client);
    fill(&mut client, 1000..9000);
    let full = used(&mut client);
    assert!(full - before > 8000 * 300, "{before} {full}");
    // One in two, so that hardly a slab becomes free.
    for key in (1000..9000).step_by(2) {
        assert_eq!(client.run(&format!("DEL key:{key}")), ":1");
    }
    let half = used(&mut client);
    assert!((full - half) * 100 > (full - before) * 40, "{before} {full} {half}");
    for key in (1001..9000).step_by(2) {
        assert_eq!(client.run(&format!("UNLINK key:{key}")), ":1");
    }
    let empty = used(&mut client);
    assert!((full - empty) * 100 > (full - before) * 85, "{before} {full} {empty}");
}

#[test]
fn eviction_stops_at_the_limit() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-random"]);
    let mut client = server.client();
    fill(&mut client, 0..4000);
    let limit = client.info("used_memory").parse::<u64>().unwrap();
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit}")), "+OK");
    fill(&mut client, 4000..12_000);
    // What is asked next makes room for itself otherwise.
    assert_eq!(client.run("CONFIG SET maxmemory 0"), "+OK");
    let keys: u64 = client.run("DBSIZE").trim_start_matches(':').parse().unwrap();
    // As much as there is room for stays: not a few keys more are thrown out for each new one. A buffer that the server had
    // when the limit was taken, and has not any more, leaves room for some.
    assert!((3000..=4200).contains(&keys), "{keys}");
    assert_eq!(client.info("evicted_keys"), (12_000 - keys).to_string());
}
