//! A small blocking client that speaks RESP2: enough to feed a server, to pipeline, and to read what it says of itself.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a server may take for one reply before the test counts it as hung. Above any pause that a test asks for.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Option<Vec<u8>>),
    Array(Option<Vec<Reply>>),
}

impl Reply {
    /// The text of a status or a bulk reply.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) => text.clone(),
            Reply::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    pub fn int(&self) -> i64 {
        match self {
            Reply::Int(number) => *number,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(Some(bytes)) => bytes,
            Reply::Simple(text) => text.into_bytes(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    pub fn array(self) -> Vec<Reply> {
        match self {
            Reply::Array(Some(items)) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }

    /// The first error in the reply, at any depth.
    pub fn error(&self) -> Option<&str> {
        match self {
            Reply::Error(text) => Some(text),
            Reply::Array(Some(items)) => items.iter().find_map(Reply::error),
            _ => None,
        }
    }
}

/// Commands encoded one behind the other, to be sent at once.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub commands: usize,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    pub fn push<A: AsRef<[u8]>>(&mut self, argv: &[A]) {
        write!(self.bytes, "*{}\r\n", argv.len()).expect("a Vec takes any write");
        for arg in argv {
            let arg = arg.as_ref();
            write!(self.bytes, "${}\r\n", arg.len()).expect("a Vec takes any write");
            self.bytes.extend_from_slice(arg);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.commands += 1;
    }

    /// A command whose arguments hold no space.
    pub fn push_text(&mut self, command: &str) {
        self.push(&command.split(' ').collect::<Vec<_>>());
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands = 0;
    }
}

pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    peer: u16,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        stream.set_write_timeout(Some(REPLY_LIMIT))?;
        let reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        Ok(Client { stream, reader, peer: port })
    }

    /// Sends the batch and reads a reply per command. Batches beyond what socket buffers hold must draw short replies.
    pub fn try_batch(&mut self, batch: &Batch) -> io::Result<Vec<Reply>> {
        self.stream.write_all(&batch.bytes)?;
        (0..batch.commands).map(|_| self.read_reply()).collect()
    }

    pub fn batch(&mut self, batch: &Batch) -> Vec<Reply> {
        let port = self.peer;
        self.try_batch(batch)
            .unwrap_or_else(|error| panic!("the server on port {port} did not answer: {error}"))
    }

    /// Like [`Client::batch`], and no reply may be an error.
    pub fn batch_ok(&mut self, batch: &Batch) -> Vec<Reply> {
        let replies = self.batch(batch);
        for (index, reply) in replies.iter().enumerate() {
            if let Some(error) = reply.error() {
                panic!("command {index} of a batch to port {}: {error}", self.peer);
            }
        }
        replies
    }

    pub fn try_argv<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> io::Result<Reply> {
        let mut batch = Batch::new();
        batch.push(argv);
        self.try_batch(&batch).map(|mut replies| replies.remove(0))
    }

    /// One command, error replies included in what may come back.
    pub fn argv<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Reply {
        let mut batch = Batch::new();
        batch.push(argv);
        self.batch(&batch).remove(0)
    }

    /// One command without spaces in its arguments, error replies included in what may come back.
    pub fn run(&mut self, command: &str) -> Reply {
        self.argv(&command.split(' ').collect::<Vec<_>>())
    }

    /// Like [`Client::run`]; an error reply fails the test.
    pub fn ok(&mut self, command: &str) -> Reply {
        let reply = self.run(command);
        if let Some(error) = reply.error() {
            panic!("{command} on port {}: {error}", self.peer);
        }
        reply
    }

    /// Sends one command without spaces in its arguments, and leaves what comes of it unread.
    pub fn send_only(&mut self, command: &str) {
        let mut batch = Batch::new();
        batch.push_text(command);
        let port = self.peer;
        self.stream
            .write_all(&batch.bytes)
            .unwrap_or_else(|error| panic!("the server on port {port} takes nothing: {error}"));
    }

    /// What comes next: a message to a subscriber, which no command of its own asked for.
    pub fn next_reply(&mut self) -> Reply {
        let port = self.peer;
        self.read_reply().unwrap_or_else(|error| panic!("nothing came from port {port}: {error}"))
    }

    /// The fields of an INFO section.
    pub fn info(&mut self, section: &str) -> HashMap<String, String> {
        let text = self.ok(&format!("INFO {section}")).text();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()))
            .collect()
    }

    pub fn info_number(&mut self, section: &str, field: &str) -> i64 {
        let info = self.info(section);
        let value = info.get(field).unwrap_or_else(|| panic!("INFO {section} has no field {field}"));
        value.parse().unwrap_or_else(|_| panic!("{field}:{value} is no number"))
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed"));
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn read_reply(&mut self) -> io::Result<Reply> {
        let broken =
            |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {line:?}"));
        let line = self.read_line()?;
        let number =
            || line.get(1..).and_then(|digits| digits.parse::<i64>().ok()).ok_or_else(|| broken(&line));
        match line.as_bytes().first() {
            Some(b'+') => Ok(Reply::Simple(line[1..].to_owned())),
            Some(b'-') => Ok(Reply::Error(line[1..].to_owned())),
            Some(b':') => Ok(Reply::Int(number()?)),
            Some(b'$') => match number()? {
                -1 => Ok(Reply::Bulk(None)),
                len => {
                    let mut bytes = vec![0; len as usize + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(len as usize);
                    Ok(Reply::Bulk(Some(bytes)))
                }
            },
            Some(b'*') => match number()? {
                -1 => Ok(Reply::Array(None)),
                len => (0..len)
                    .map(|_| self.read_reply())
                    .collect::<io::Result<_>>()
                    .map(|it| Reply::Array(Some(it))),
            },
            _ => Err(broken(&line)),
        }
    }
}
