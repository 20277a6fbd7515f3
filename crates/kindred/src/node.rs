//! One server process: how it is started, what it says, how it is stopped.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// The program that serves, with the arguments that come before the server's own.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub leading: Vec<OsString>,
}

/// All that is needed to start a node, again and again.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Also the name of its directory.
    pub name: String,
    pub port: u16,
    pub directory: PathBuf,
    pub args: Vec<String>,
    /// Configuration that must not be seen in the list of processes; given on standard input.
    pub secrets: Vec<u8>,
}

/// A process that was started.
pub struct Node {
    child: Child,
}

impl Node {
    /// Starts a node. Each line it prints goes to `server.log` in its directory and to `on_line`.
    ///
    /// It gets a process group of its own, so that Ctrl-C in the terminal reaches only us and the order of stopping is ours.
    pub fn start(
        program: &Program,
        spec: &Spec,
        on_line: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Node> {
        std::fs::create_dir_all(&spec.directory)
            .with_context(|| format!("cannot create {}", spec.directory.display()))?;
        let has_secrets = !spec.secrets.is_empty();
        let mut command = Command::new(&program.path);
        command.args(&program.leading);
        if has_secrets {
            command.arg("-");
        }
        command
            .args(&spec.args)
            .current_dir(&spec.directory)
            .stdin(if has_secrets { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {} for {}", program.path.display(), spec.name))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A server that died already is noticed by its exit.
            let _ = stdin.write_all(&spec.secrets);
        }
        let on_line = Arc::new(on_line);
        let log = spec.directory.join("server.log");
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, &log, Arc::clone(&on_line));
        }
        if let Some(stderr) = child.stderr.take() {
            follow(stderr, &log, on_line);
        }
        Ok(Node { child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to save and stop.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    fn signal(&mut self, signal: Signal) {
        // An id that was waited for may belong to another process by now.
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }
}

/// An exit in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Reads lines until the process closes its end, so that it never blocks on a full pipe.
fn follow(
    output: impl Read + Send + 'static,
    log: &Path,
    on_line: Arc<impl Fn(String) + Send + Sync + 'static>,
) {
    let mut log = OpenOptions::new().create(true).append(true).open(log).ok();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            if let Some(log) = &mut log {
                let _ = log.write_all(&line);
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !text.is_empty() {
                on_line(text);
            }
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn shell(script: &str, secrets: &[u8]) -> (tempfile::TempDir, Program, Spec) {
        let dir = tempfile::tempdir().unwrap();
        let program = Program { path: "/bin/sh".into(), leading: vec!["-c".into(), script.into()] };
        let spec = Spec {
            name: "n".into(),
            port: 0,
            directory: dir.path().join("n"),
            args: vec![],
            secrets: secrets.to_vec(),
        };
        (dir, program, spec)
    }

    #[test]
    fn what_a_node_prints_is_kept_and_passed_on() {
        let (_dir, program, spec) = shell("cat; echo err >&2; exit 3", b"secret\n");
        let (sender, lines) = mpsc::channel();
        let mut node = Node::start(&program, &spec, move |line| sender.send(line).unwrap()).unwrap();
        let mut seen: Vec<String> =
            (0..2).map(|_| lines.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        seen.sort();
        assert_eq!(seen, ["err", "secret"]);
        let status = loop {
            if let Some(status) = node.ended() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(describe(status), "exit status 3");
        let log = std::fs::read_to_string(spec.directory.join("server.log")).unwrap();
        assert!(log.contains("err\n") && log.contains("secret\n"));
    }

    #[test]
    fn a_node_is_stopped_by_sigterm() {
        let (_dir, program, spec) = shell("echo on; sleep 30 & wait", b"");
        let (sender, lines) = mpsc::channel();
        let mut node = Node::start(&program, &spec, move |line| {
            let _ = sender.send(line);
        })
        .unwrap();
        lines.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(node.ended().is_none());
        node.terminate();
        let status = loop {
            if let Some(status) = node.ended() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(describe(status), "killed by signal 15");
        node.terminate();
    }
}
