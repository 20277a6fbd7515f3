//! Carrying keys to other servers for `MIGRATE`: on a thread of its own, since names, connections and replies are
//! waited for. The engine asks for one transfer at a time.
//!
//! A connection is kept for some seconds, as keys are often moved one by one to the same place. One that the other
//! side has closed meanwhile shows only when it is used; then the transfer is tried once more on a new one, provided
//! that nothing was answered yet.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use engine::migrate::{Failure, Outcome, Request};

use crate::report::{Report, Reporter};

/// How long a connection is kept after its last use.
const KEPT: Duration = Duration::from_secs(10);
const KEPT_MAX: usize = 64;
/// How often the kept ones are looked at.
const CHECK_PERIOD: Duration = Duration::from_secs(1);
const REPLY_MAX: u64 = 64 * 1024;

/// The event loop's end. The thread begins with the first transfer.
pub struct Migrator {
    reporter: Reporter,
    requests: Option<Sender<Request>>,
}

impl Migrator {
    pub fn new(reporter: Reporter) -> Migrator {
        Migrator { reporter, requests: None }
    }

    /// Begins a transfer; its end is a [`Report::Migrated`].
    pub fn begin(&mut self, request: Request) {
        if self.requests.is_none() {
            let (sender, receiver) = channel();
            let reporter = self.reporter.clone();
            let spawned = std::thread::Builder::new()
                .name("migrate".into())
                .spawn(move || Transfers { reporter, kept: HashMap::new() }.run(&receiver));
            if spawned.is_ok() {
                self.requests = Some(sender);
            }
        }
        let accepted = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if !accepted {
            let outcome = Outcome { failure: Some(Failure::Connect), ..Outcome::default() };
            self.reporter.send(Report::Migrated { outcome, kept: 0 });
        }
    }
}

/// The thread's end.
struct Transfers {
    reporter: Reporter,
    /// By `host:port`.
    kept: HashMap<String, Connection>,
}

struct Connection {
    stream: BufReader<TcpStream>,
    /// The database that is selected, if that is known.
    db: Option<i64>,
    used: Instant,
}

/// All that was asked for was answered.
struct Replies {
    /// For each key whether it is there now.
    restored: Vec<bool>,
    /// The first error.
    refused: Option<Vec<u8>>,
}

/// A connection broke, or was silent for too long.
struct Broken {
    failure: Failure,
    timed_out: bool,
    /// What was answered before.
    restored: Vec<bool>,
    refused: Option<Vec<u8>>,
}

impl Transfers {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let request = if self.kept.is_empty() {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(CHECK_PERIOD)
            };
            match request {
                Ok(request) => {
                    let outcome = self.transfer(&request);
                    self.reporter.send(Report::Migrated { outcome, kept: self.kept.len() });
                }
                Err(RecvTimeoutError::Timeout) => self.let_go(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn let_go(&mut self) {
        let before = self.kept.len();
        self.kept.retain(|_, connection| connection.used.elapsed() <= KEPT);
        if self.kept.len() != before {
            self.reporter.send(Report::MigrateConnections { kept: self.kept.len() });
        }
    }

    fn transfer(&mut self, request: &Request) -> Outcome {
        let name = format!("{}:{}", request.host, request.port);
        let mut may_retry = true;
        loop {
            let mut connection = match self.kept.remove(&name) {
                Some(connection) => connection,
                None => match connect(request) {
                    Ok(stream) => {
                        Connection { stream: BufReader::new(stream), db: None, used: Instant::now() }
                    }
                    Err(_) => return Outcome { restored: Vec::new(), failure: Some(Failure::Connect) },
                },
            };
            match exchange(&mut connection, request) {
                Ok(Replies { restored, refused }) => {
                    connection.db = refused.is_none().then_some(request.db);
                    connection.used = Instant::now();
                    // Bytes that nobody asked for belong to no reply.
                    if connection.stream.buffer().is_empty() {
                        self.keep(name, connection);
                    }
                    return Outcome { restored, failure: refused.map(Failure::Refused) };
                }
                Err(broken) => {
                    if broken.restored.is_empty() && !broken.timed_out && may_retry {
                        may_retry = false;
                        continue;
                    }
                    let failure = broken.refused.map_or(broken.failure, Failure::Refused);
                    return Outcome { restored: broken.restored, failure: Some(failure) };
                }
            }
        }
    }

    fn keep(&mut self, name: String, connection: Connection) {
        if self.kept.len() == KEPT_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| self.kept.remove(&oldest));
        }
        self.kept.insert(name, connection);
    }
}

fn connect(request: &Request) -> io::Result<TcpStream> {
    let timeout = Duration::from_millis(request.timeout_ms);
    let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in (request.host.as_str(), request.port).to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, timeout);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends everything and reads all replies.
fn exchange(connection: &mut Connection, request: &Request) -> Result<Replies, Box<Broken>> {
    let broken = |failure, error: &io::Error| {
        let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        Box::new(Broken { failure, timed_out, restored: Vec::new(), refused: None })
    };
    let selects = connection.db != Some(request.db);
    let mut head = request.auth.clone().unwrap_or_default();
    if selects {
        let db = request.db.to_string();
        resp::encode_command(&mut head, [&b"SELECT"[..], db.as_bytes()].iter().copied());
    }
    let timeout = Some(Duration::from_millis(request.timeout_ms));
    let stream = connection.stream.get_mut();
    stream
        .set_write_timeout(timeout)
        .and_then(|()| stream.set_read_timeout(timeout))
        .and_then(|()| stream.write_all(&head))
        .and_then(|()| stream.write_all(&request.restores))
        .map_err(|error| broken(Failure::Write, &error))?;

    let mut refused = None;
    for _ in 0..usize::from(request.auth.is_some()) + usize::from(selects) {
        let error = read_reply(&mut connection.stream).map_err(|error| broken(Failure::Read, &error))?;
        refused = refused.or(error);
    }
    // Without them nothing counts, though the other server may have done it.
    let is_open = refused.is_none();
    let mut restored = Vec::with_capacity(request.count);
    for _ in 0..request.count {
        match read_reply(&mut connection.stream) {
            Ok(error) => {
                restored.push(is_open && error.is_none());
                refused = refused.or(error);
            }
            Err(error) => {
                let broken = *broken(Failure::Read, &error);
                return Err(Box::new(Broken { restored, refused, ..broken }));
            }
        }
    }
    Ok(Replies { restored, refused })
}

/// Reads one line: the text of an error, or nothing.
fn read_reply(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    io::Read::take(stream, REPLY_MAX).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line.strip_prefix(b"-").map(<[u8]>::to_vec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    /// Another server that, connection after connection, reads so many bytes and then sends this.
    fn other(script: Vec<(usize, &'static str)>) -> (u16, JoinHandle<Vec<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = move || {
            let mut heard = Vec::new();
            for (count, reply) in script {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = vec![0; count];
                stream.read_exact(&mut bytes).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
                heard.push(bytes);
            }
            heard
        };
        (port, thread::spawn(answers))
    }

    fn transfers() -> Transfers {
        let (reporter, _) = crate::report::reports().unwrap();
        Transfers { reporter, kept: HashMap::new() }
    }

    fn request(port: u16) -> Request {
        Request {
            host: "127.0.0.1".into(),
            port,
            timeout_ms: 300,
            auth: None,
            db: 3,
            restores: b"ab".to_vec(),
            count: 2,
        }
    }

    /// `SELECT 3` and the two bytes that stand for the commands.
    const SENT: usize = 25;

    #[test]
    fn replies_are_told_apart() {
        let (port, server) = other(vec![(SENT, "+OK\r\n-BUSYKEY no\r\n+OK\r\n")]);
        let mut transfers = transfers();
        let outcome = transfers.transfer(&request(port));
        assert_eq!(outcome.restored, [false, true]);
        assert_eq!(outcome.failure, Some(Failure::Refused(b"BUSYKEY no".to_vec())));
        assert_eq!(server.join().unwrap(), [b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\nab"]);
        assert_eq!(transfers.kept.values().next().unwrap().db, None);
    }

    #[test]
    fn a_failed_selection_counts_for_all() {
        let (port, server) = other(vec![(SENT, "-ERR DB index is out of range\r\n+OK\r\n+OK\r\n")]);
        let outcome = transfers().transfer(&request(port));
        assert_eq!(outcome.restored, [false, false]);
        assert_eq!(outcome.failure, Some(Failure::Refused(b"ERR DB index is out of range".to_vec())));
        server.join().unwrap();
    }

    #[test]
    fn a_connection_that_was_closed_is_made_anew() {
        let (port, server) = other(vec![(SENT, "+OK\r\n+OK\r\n+OK\r\n"), (SENT, "+OK\r\n+OK\r\n+OK\r\n")]);
        let mut transfers = transfers();
        for _ in 0..2 {
            let outcome = transfers.transfer(&request(port));
            assert_eq!(outcome, Outcome { restored: vec![true, true], failure: None });
        }
        assert_eq!(server.join().unwrap().len(), 2);
        assert_eq!(transfers.kept.len(), 1);
    }

    #[test]
    fn what_was_answered_before_the_end_counts() {
        let (port, server) = other(vec![(SENT, "+OK\r\n+OK\r\n")]);
        let outcome = transfers().transfer(&request(port));
        assert_eq!(outcome, Outcome { restored: vec![true], failure: Some(Failure::Read) });
        server.join().unwrap();
    }

    #[test]
    fn silence_is_not_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut transfers = transfers();
        let outcome = transfers.transfer(&request(listener.local_addr().unwrap().port()));
        assert_eq!(outcome, Outcome { restored: vec![], failure: Some(Failure::Read) });
        assert!(transfers.kept.is_empty());
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let outcome = transfers.transfer(&request(port));
        assert_eq!(outcome.failure, Some(Failure::Connect));
    }
}
