//! The bed of one test: its directory, its time limit, and the servers in it.
//!
//! A watchdog owns the limit. When it runs out the watchdog kills the bed's servers, so that whatever the test waits for
//! fails at once and the test with it; a test can hang no longer than its limit. Servers are processes of this test and
//! are ended by their process id only.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Reply};
use super::random::Random;

/// How long a server may take from its start to its first PONG, the loading of its file included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The server's own output, in its directory.
const LOG: &str = "server.log";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Kindred,
    Redis70,
    Redis82,
    Valkey91,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kindred => "kindred",
            Kind::Redis70 => "redis 7.0",
            Kind::Redis82 => "redis 8.2",
            Kind::Valkey91 => "valkey 9.1",
        }
    }

    /// The server's program, or `None` where its variable is not set. `KINDRED_SERVER_BINARY` names another program in
    /// Kindred's place: a release build, or a real server when it is the test that is in doubt.
    fn program(self) -> Option<PathBuf> {
        let variable = match self {
            Kind::Kindred => {
                let other = env::var_os("KINDRED_SERVER_BINARY").map(PathBuf::from);
                return other.or(Some(PathBuf::from(env!("CARGO_BIN_EXE_kindred-server"))));
            }
            Kind::Redis70 => "KINDRED_PEER_REDIS70",
            Kind::Redis82 => "KINDRED_PEER_REDIS82",
            Kind::Valkey91 => "KINDRED_PEER_VALKEY91",
        };
        env::var_os(variable).map(PathBuf::from)
    }
}

/// The path of a tool from its environment variable, under the same rule as the peers: `None` means skip.
pub fn tool(variable: &str) -> Option<PathBuf> {
    present(env::var_os(variable).map(PathBuf::from), variable)
}

fn present(path: Option<PathBuf>, what: &str) -> Option<PathBuf> {
    if path.is_none() {
        assert!(env::var_os("KINDRED_PEERS_REQUIRED").is_none(), "{what} is required and not there");
        eprintln!("skipped: {what} is not there (docs/TESTING.md says how to fetch the peers)");
    }
    path
}

pub(super) type Process = Arc<Mutex<Child>>;

pub struct Bed {
    dir: tempfile::TempDir,
    processes: Arc<Mutex<Vec<Process>>>,
    random: Random,
    servers: usize,
    /// Dropped first by `Drop`: the watchdog ends when it goes.
    finished: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Bed {
    /// A bed for a test with these servers, or `None`, and a word about it, if one is not installed.
    pub fn new(limit: Duration, kinds: &[Kind]) -> Option<Bed> {
        for kind in kinds {
            present(kind.program(), kind.name())?;
        }
        let processes: Arc<Mutex<Vec<Process>>> = Arc::default();
        let (finished, ended) = mpsc::channel();
        let watched = Arc::clone(&processes);
        let watchdog = thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("the test exceeds its limit of {} s: its servers are killed", limit.as_secs());
                for process in watched.lock().expect("no thread panics with the list").iter() {
                    let _ = process.lock().expect("no thread panics with a child").kill();
                }
            }
        });
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        Some(Bed {
            dir: tempfile::tempdir().expect("a directory for the test"),
            processes,
            random: Random::new(nanos ^ (u64::from(std::process::id()) << 40)),
            servers: 0,
            finished: Some(finished),
            watchdog: Some(watchdog),
        })
    }

    /// Starts a server with its defaults but for what keeps a test quick (no diskless delay, no save points), what lets
    /// it be looked into (DEBUG), a backlog that covers every cut, and `options`.
    pub fn start(&mut self, kind: Kind, options: &[(&str, &str)]) -> Server {
        let dir = self.new_dir(kind.name());
        self.start_in(kind, dir, options)
    }

    /// Starts a server on an RDB file.
    pub fn start_with_rdb(&mut self, kind: Kind, rdb: &Path, options: &[(&str, &str)]) -> Server {
        let dir = self.new_dir(kind.name());
        fs::copy(rdb, dir.join("dump.rdb")).expect("the RDB file can be copied");
        self.start_in(kind, dir, options)
    }

    /// Starts a server again where `ended` ran, with the files that it left and a new port.
    pub fn restart(&mut self, ended: Server, options: &[(&str, &str)]) -> Server {
        let (kind, dir) = (ended.kind, ended.dir.clone());
        ended.end();
        self.start_in(kind, dir, options)
    }

    /// Starts a server again on its port, with nothing but the data set of `rdb` if one is given.
    pub fn reborn(&mut self, ended: Server, rdb: Option<&Path>, options: &[(&str, &str)]) -> Server {
        let (kind, dir, port) = (ended.kind, ended.dir.clone(), ended.port);
        ended.end();
        let file = dir.join("dump.rdb");
        let _ = fs::remove_file(&file);
        if let Some(rdb) = rdb {
            fs::copy(rdb, &file).expect("the RDB file can be copied");
        }
        self.start_on(kind, dir, port, options).expect("nobody has taken the port meanwhile")
    }

    /// Like [`Bed::restart`], on the old port: who knows the server by its address finds it again.
    pub fn revive(&mut self, ended: Server, options: &[(&str, &str)]) -> Server {
        let (kind, dir, port) = (ended.kind, ended.dir.clone(), ended.port);
        ended.end();
        self.start_on(kind, dir, port, options).expect("nobody took the server's port")
    }

    fn start_in(&mut self, kind: Kind, dir: PathBuf, options: &[(&str, &str)]) -> Server {
        for _ in 0..20 {
            let port = self.free_port();
            if let Some(server) = self.start_on(kind, dir.clone(), port, options) {
                return server;
            }
        }
        panic!("{} found no free port in 20 attempts", kind.name());
    }

    /// `None` if the port was taken.
    fn start_on(&mut self, kind: Kind, dir: PathBuf, port: u16, options: &[(&str, &str)]) -> Option<Server> {
        let process = self.keep(spawn(kind, &dir, port, options));
        let password = options.iter().find(|(name, _)| *name == "requirepass");
        let password = password.map(|(_, word)| (*word).to_owned());
        let server = Server { kind, port, dir, process, password };
        server.wait_until_ready().then_some(server)
    }

    /// The process ends with the bed, or at its limit.
    pub(super) fn keep(&mut self, child: Child) -> Process {
        let process = Arc::new(Mutex::new(child));
        self.processes.lock().expect("no thread panics with the list").push(Arc::clone(&process));
        process
    }

    /// A directory of its own for a process.
    pub fn new_dir(&mut self, name: &str) -> PathBuf {
        self.servers += 1;
        let dir = self.dir.path().join(format!("{}-{}", self.servers, name.replace(' ', "-")));
        fs::create_dir(&dir).expect("a directory for the process");
        dir
    }

    /// A port that nobody listens on, below the range from which the kernel takes ports for outgoing connections.
    pub fn free_port(&mut self) -> u16 {
        loop {
            let port = self.random.between(12_000, 32_000) as u16;
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.finished.take();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
        for process in self.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter() {
            let mut child = process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(kind: Kind, dir: &Path, port: u16, options: &[(&str, &str)]) -> Child {
    let program = kind.program().expect("Bed::new has seen the program");
    let log = File::create(dir.join(LOG)).expect("a log file");
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a second handle on the log")).stdout(log);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(dir);
    for (name, value) in [
        ("save", ""),
        ("enable-debug-command", "yes"),
        ("repl-diskless-sync", "yes"),
        ("repl-diskless-sync-delay", "0"),
        ("repl-backlog-size", "268435456"),
    ] {
        if !options.iter().any(|(given, _)| *given == name) {
            command.args([&format!("--{name}"), value]);
        }
    }
    for (name, value) in options {
        command.arg(format!("--{name}")).args(value.split(' '));
    }
    command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", kind.name()))
}

pub struct Server {
    pub kind: Kind,
    pub port: u16,
    pub dir: PathBuf,
    process: Process,
    password: Option<String>,
}

impl Server {
    /// A new connection, authenticated where the server was started with `requirepass`.
    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.port).unwrap_or_else(|error| {
            panic!("no connection to {} on port {}: {error}", self.kind.name(), self.port)
        });
        if let Some(password) = &self.password {
            client.ok(&format!("AUTH {password}"));
        }
        client
    }

    /// One command on a connection of its own.
    pub fn ok(&self, command: &str) -> Reply {
        self.client().ok(command)
    }

    pub fn info_number(&self, section: &str, field: &str) -> i64 {
        self.client().info_number(section, field)
    }

    /// Makes it a replica of the server, or of the proxy, on that port.
    pub fn follow(&self, port: u16) {
        self.ok(&format!("REPLICAOF 127.0.0.1 {port}"));
    }

    pub fn promote(&self) {
        self.ok("REPLICAOF NO ONE");
    }

    /// Full syncs, accepted partial syncs and refused ones that the server counted as a primary.
    pub fn syncs(&self) -> Syncs {
        let info = self.client().info("stats");
        let number = |field: &str| {
            info[field].parse().unwrap_or_else(|_| panic!("{field}:{} is no number", info[field]))
        };
        Syncs {
            full: number("sync_full"),
            partial: number("sync_partial_ok"),
            refused: number("sync_partial_err"),
        }
    }

    /// What the server wrote into its log so far.
    pub fn log(&self) -> String {
        fs::read(self.dir.join(LOG))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// SHUTDOWN NOSAVE or SAVE, and the wait for the end of the process.
    pub fn shut_down(&self, save: bool) {
        let command = if save { "SHUTDOWN SAVE" } else { "SHUTDOWN NOSAVE" };
        // An orderly shutdown closes the connection instead of answering.
        if let Ok(reply) = self.client().try_argv(&command.split(' ').collect::<Vec<_>>()) {
            panic!("{command} was answered: {reply:?}");
        }
        let since = Instant::now();
        while self.process().try_wait().expect("a child can be waited for").is_none() {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{} does not end on {command}",
                self.kind.name()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let mut child = self.process();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGSTOP: it reads nothing and answers nothing until [`Server::resume`].
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process()), signal).expect("the process is a child of ours");
    }

    fn end(self) {
        self.kill();
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Child> {
        self.process.lock().expect("no thread panics with a child")
    }

    /// False if the port was taken after all.
    fn wait_until_ready(&self) -> bool {
        let since = Instant::now();
        loop {
            if let Some(status) = self.process().try_wait().expect("a child can be waited for") {
                let log = self.log();
                if log.contains("Address already in use") {
                    return false;
                }
                panic!("{} ended at once ({status}):\n{log}", self.kind.name());
            }
            if let Ok(mut client) = Client::connect(self.port) {
                let is_up = match client.try_argv(&["PING"]) {
                    Ok(Reply::Simple(_)) => true,
                    // A replica that waits for its first data is up, too.
                    Ok(Reply::Error(error)) => error.starts_with("NOAUTH") || error.starts_with("MASTERDOWN"),
                    _ => false,
                };
                // Another test may have taken the port just now: then ours is about to end.
                if is_up && self.info_number("server", "process_id") == i64::from(self.process().id()) {
                    return true;
                }
            }
            assert!(since.elapsed() < START_LIMIT, "{} does not start:\n{}", self.kind.name(), self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(300)..].join("\n");
            eprintln!("--- log of {} on port {}\n{tail}\n---", self.kind.name(), self.port);
        }
        if let Ok(mut child) = self.process.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syncs {
    pub full: i64,
    pub partial: i64,
    pub refused: i64,
}
