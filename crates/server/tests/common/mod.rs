//! A real server on a free port in a directory of its own, and a small blocking client.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const BINARY: &str = env!("CARGO_BIN_EXE_kindred-server");

pub struct Server {
    pub port: u16,
    pub dir: tempfile::TempDir,
    child: Child,
    args: Vec<String>,
}

impl Server {
    /// Starts a server with these options besides port, directory and log file; a configuration file may come first. No
    /// save points unless asked for.
    pub fn start(args: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        if !args.iter().any(|arg| arg == "--save") {
            args.extend(["--save".to_owned(), String::new()]);
        }
        let port = free_port();
        let child = spawn(port, dir.path(), &args);
        let mut server = Server { port, dir, child, args };
        server.await_ready();
        server
    }

    /// Starts it again in the same directory, after it has ended.
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        std::fs::remove_file(self.dir.path().join("log")).unwrap();
        self.child = spawn(self.port, self.dir.path(), &self.args);
        self.await_ready();
    }

    fn await_ready(&mut self) {
        wait_for("server to be ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.log());
            }
            self.log().contains("Ready to accept connections").then_some(())
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn client(&self) -> Client {
        Client::tcp(self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    pub fn kill(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::KILL);
        self.ended()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only if it has not ended by itself, and then what matters was already checked.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the server on port {}:\n{}", self.port, self.log());
        }
    }
}

fn spawn(port: u16, dir: &Path, args: &[String]) -> Child {
    let file = args.iter().take_while(|arg| !arg.starts_with("--")).count();
    let (file, options) = args.split_at(file.min(1));
    Command::new(BINARY)
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", "log", "--dir", "."])
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A blocking client over any stream.
pub struct Client<S: Read + Write = TcpStream> {
    pub stream: BufReader<S>,
}

impl Client<TcpStream> {
    pub fn tcp(port: u16) -> Client<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::new(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream: BufReader::with_capacity(64 * 1024, stream) }
    }

    /// Runs a command of words parted by blanks; the reply in short: see [`Client::reply`].
    pub fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.run_args(&words)
    }

    pub fn run_args(&mut self, args: &[&[u8]]) -> String {
        self.send(&encode(args));
        self.reply()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next reply: simple strings, errors and numbers as on the wire, strings bare, nulls as `nil`, arrays in
    /// brackets.
    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the connection ended within {line:?}");
        let rest = &line[1..line.len() - 2];
        match line.as_bytes()[0] {
            b'$' | b'*' if rest == "-1" => "nil".to_owned(),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            b'*' => {
                let parts: Vec<String> = (0..rest.parse().unwrap()).map(|_| self.reply()).collect();
                format!("[{}]", parts.join(" "))
            }
            _ => line.trim_end().to_owned(),
        }
    }

    /// One field of `INFO`.
    pub fn info(&mut self, field: &str) -> String {
        let text = self.run("INFO");
        let prefix = format!("{field}:");
        let line = text.lines().find(|line| line.starts_with(&prefix));
        line.unwrap_or_else(|| panic!("INFO has no {field}: {text}"))[prefix.len()..].to_owned()
    }
}

pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend(b"\r\n");
    }
    bytes
}
