//! `kindred up` as a process, with a shell script in the place of the server: what is started, and that nothing stays.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

struct Up {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pids: Vec<Pid>,
}

impl Up {
    /// Starts a fleet whose servers run `script`, and waits until all three say that they are ready.
    fn start(dir: &Path, script: &str) -> Up {
        let server = dir.join("server");
        std::fs::write(&server, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&server, PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_kindred"))
            .args(["up", "--port", "20000", "--dir"])
            .arg(dir.join("data"))
            .arg("--server")
            .arg(&server)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut pids = Vec::new();
        while pids.len() < 3 {
            let line = lines.next().expect("it goes on until it is stopped").unwrap();
            if let Some((_, pid)) = line.split_once(", pid ") {
                pids.push(Pid::from_raw(pid.parse().unwrap()).unwrap());
            }
        }
        for name in ["primary", "replica-1", "replica-2"] {
            let log = dir.join("data").join(name).join("server.log");
            while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")) {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        Up { child, lines, pids }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The lines until the end, and the exit code; no process is left by then.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let lines = self.lines.by_ref().map(Result::unwrap).collect();
        let status = self.child.wait().unwrap();
        for pid in &self.pids {
            assert!(test_kill_process(*pid).is_err(), "process {pid:?} is still there");
        }
        (lines, status.code())
    }
}

const OBEDIENT: &str = "trap 'exit 0' TERM; echo ready; echo \"$@\"; while :; do sleep 0.02; done";

#[test]
fn an_interrupt_stops_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), OBEDIENT);
    up.signal(Signal::INT);
    let (lines, code) = up.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let stopped: Vec<_> = lines.iter().filter_map(|l| l.strip_suffix(" stopped, exit status 0")).collect();
    assert_eq!(stopped.len(), 3, "{lines:?}");
    assert_eq!(stopped[0], "primary");
    let log = std::fs::read_to_string(dir.path().join("data/replica-1/server.log")).unwrap();
    assert!(log.contains("--replicaof 127.0.0.1 "), "{log}");
}

#[test]
fn a_second_signal_kills_what_does_not_stop() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path(), "trap '' TERM; echo ready; while :; do sleep 0.02; done");
    up.signal(Signal::TERM);
    // The first must have been taken: two pending signals of a kind are one.
    std::thread::sleep(std::time::Duration::from_millis(500));
    up.signal(Signal::TERM);
    let (lines, code) = up.end();
    assert_eq!(code, Some(1));
    assert!(lines.iter().any(|l| l == "primary stopped, killed by signal 9"), "{lines:?}");
}

#[test]
fn a_server_that_ends_is_told_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let script = "case $* in *replicaof*) echo ready; echo last words >&2; sleep 0.3; exit 7;; esac;";
    let mut up = Up::start(dir.path(), &format!("{script} {OBEDIENT}"));
    let mut seen = Vec::new();
    while !seen.iter().any(|l: &String| l.contains("replica-2:   last words")) {
        seen.push(up.lines.next().unwrap().unwrap());
    }
    assert!(seen.iter().any(|l| l.ends_with("replica-2: ended: exit status 7")), "{seen:?}");
    up.signal(Signal::TERM);
    let (lines, code) = up.end();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|l| l == "primary stopped, exit status 0"), "{lines:?}");
}
