//! How the process looks from outside, and options of redis.conf that change that.

mod common;

use std::process::{Command, Stdio};

use common::{BINARY, Server, wait_for};

fn proc_file(server: &Server, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", server.pid())).unwrap()
}

/// The title without the zeros behind it.
fn title(server: &Server) -> String {
    proc_file(server, "cmdline").trim_end_matches('\0').to_owned()
}

#[test]
fn the_title_is_that_of_the_template() {
    let server = Server::start(&["--unixsocket", "s"]);
    let port = server.port;
    assert_eq!(title(&server), format!("{BINARY} 127.0.0.1:{port}"));
    let mut client = server.client();
    // Longer than the arguments, shorter, and longer than any title may be.
    let long = "x".repeat(230);
    assert_eq!(client.run(&format!("CONFIG SET proc-title-template {long}{{port}}")), "+OK");
    assert_eq!(title(&server), format!("{long}{port}"));
    assert_eq!(
        client.run_args(&[
            b"CONFIG",
            b"SET",
            b"proc-title-template",
            b"T {port} {tls-port} {unixsocket} {config-file}"
        ]),
        "+OK"
    );
    assert_eq!(title(&server), format!("T {port} 0 s -"));
    assert_eq!(client.run(&format!("CONFIG SET proc-title-template {long}{long}")), "+OK");
    assert_eq!(title(&server), format!("{long}{}", "x".repeat(25)));
    assert!(client.run("CONFIG SET proc-title-template {nope}").contains("template format is invalid"));
    let other = common::free_port();
    assert_eq!(client.run("CONFIG SET proc-title-template {listen-addr}"), "+OK");
    assert_eq!(client.run(&format!("CONFIG SET port {other}")), "+OK");
    assert_eq!(title(&server), format!("127.0.0.1:{other}"));
}

#[test]
fn a_title_is_not_shown_where_none_is_wanted() {
    let server = Server::start(&["--set-proc-title", "no"]);
    assert!(title(&server).contains("\0--port\0"), "{}", title(&server));
}

#[test]
fn the_oom_score_follows_the_configuration_and_the_role() {
    let server =
        Server::start(&["--oom-score-adj", "absolute", "--oom-score-adj-values", "100", "200", "300"]);
    let score = || proc_file(&server, "oom_score_adj").trim().parse::<i32>().unwrap();
    let base = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse::<i32>().unwrap();
    assert_eq!(score(), 100);
    let mut client = server.client();
    assert_eq!(client.run("REPLICAOF 127.0.0.1 1"), "+OK");
    assert_eq!(score(), 200);
    assert_eq!(client.run("REPLICAOF NO ONE"), "+OK");
    assert_eq!(score(), 100);
    assert_eq!(client.run("CONFIG SET oom-score-adj relative"), "+OK");
    assert_eq!(score(), (base + 100).min(1000));
    assert_eq!(client.run("CONFIG SET oom-score-adj no"), "+OK");
    assert_eq!(score(), base);
    assert!(client.run("CONFIG SET oom-score-adj-values -2001").contains("wrong number of arguments"));
    let values: &[&[u8]] = &[b"CONFIG", b"SET", b"oom-score-adj-values", b"3 2 1"];
    assert_eq!(client.run_args(values), "+OK");
    assert!(server.log().contains("The oom-score-adj-values configuration may not work for non-privileged"));
}

#[test]
fn a_loop_that_stands_still_is_told_of() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.client();
    assert_eq!(client.run("CONFIG SET watchdog-period 1"), "+OK");
    assert_eq!(client.run("CONFIG GET watchdog-period"), "[watchdog-period 200]");
    client.run("DEBUG SLEEP 0.05");
    assert!(!server.log().contains("WATCHDOG"));
    client.run("DEBUG SLEEP 0.6");
    let log = wait_for("report", || Some(server.log()).filter(|log| log.contains("--------\n")));
    assert_eq!(log.matches("\n--- WATCHDOG TIMER EXPIRED ---\n").count(), 1, "{log}");
    assert!(log.contains("the command that ran last is 'debug'. Its thread: S (sleeping)"), "{log}");
    assert_eq!(client.run("CONFIG SET watchdog-period 0"), "+OK");
    client.run("DEBUG SLEEP 0.5");
    assert_eq!(server.log().matches("WATCHDOG").count(), 1);
}

#[test]
fn background_threads_run_on_their_processors() {
    let allowed = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    };
    let one = |list: &str| list.split([',', '-']).next_back().unwrap().to_owned();
    let all = allowed(&std::fs::read_to_string("/proc/self/status").unwrap());
    let (first, last) = (all.split([',', '-']).next().unwrap().to_owned(), one(&all));
    let server = Server::start(&["--server_cpulist", &first, "--bio_cpulist", &last]);
    let mut found = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let name = status.lines().next().unwrap().trim_start_matches("Name:").trim().to_owned();
        let expected = match name.as_str() {
            "kindred-server" => &first,
            "lazyfree" | "payload" | "spill" | "backlog" => &last,
            _ => continue,
        };
        assert_eq!(&allowed(&status), expected, "{name}");
        found += 1;
    }
    assert_eq!(found, 5);
}

#[test]
fn a_replica_with_other_names_executes_what_its_primary_does() {
    let primary = Server::start(&["--rename-command", "SET", "put"]);
    let replica = Server::start(&[
        "--rename-command",
        "FLUSHALL",
        "",
        "--rename-command",
        "set",
        "fill",
        "--rename-command",
        "select",
        "pick",
        "--rename-command",
        "multi",
        "",
    ]);
    let (mut up, mut down) = (primary.client(), replica.client());
    assert!(up.run("SET k v").contains("unknown command 'SET'"));
    assert!(down.run("FLUSHALL").contains("unknown command 'FLUSHALL'"));
    down.run(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    wait_for("link", || down.run("INFO replication").contains("master_link_status:up").then_some(()));
    // Effects are written with the declared names.
    up.run("SETEX a 1000 1");
    up.run("SELECT 3");
    up.run("MULTI");
    up.run("SETEX b 1000 2");
    up.run("INCR b");
    up.run("EXEC");
    wait_for("b in database 3", || {
        down.run("pick 3");
        (down.run("GET b") == "3").then_some(())
    });
    down.run("pick 0");
    assert_eq!(down.run("GET a"), "1");
    up.run("FLUSHALL");
    wait_for("no keys", || (down.run("EXISTS a") == ":0").then_some(()));
    assert!(!replica.log().contains("CRITICAL"), "{}", replica.log());
}

#[test]
fn renamed_commands_survive_a_rewrite_and_wrong_ones_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.conf");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(BINARY)
            .arg(&file)
            .args(["--port", "0", "--unixsocket", "s"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (line, reason) in [
        ("rename-command nope x", "No such command in rename-command"),
        ("rename-command get SET", "Target command name already exists"),
        ("rename-command get", "Bad directive or wrong number of arguments"),
    ] {
        let told = run(&format!("save \"\"\n{line}\n"));
        let expected = format!("Reading the configuration file, at line 2\n>>> '{line}'\n{reason}\n");
        assert!(told.contains(&expected), "{told}");
    }
    std::fs::write(&file, "save \"\"\nrename-command config conf\nrename-command flushdb badger\n").unwrap();
    let server = Server::start(&[file.to_str().unwrap()]);
    let mut client = server.client();
    assert_eq!(client.run("CONF SET maxclients 77"), "+OK");
    assert_eq!(client.run("CONF REWRITE"), "+OK");
    assert_eq!(client.run("BADGER"), "+OK");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("rename-command config conf\nrename-command flushdb badger\n"), "{text}");
    assert!(text.contains("maxclients 77\n"), "{text}");
}
