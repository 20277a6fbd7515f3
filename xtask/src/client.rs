//! A small RESP2 client for the tools: blocking, one connection, pipelining by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

pub struct Client<S = TcpStream> {
    stream: BufReader<S>,
    out: Vec<u8>,
}

/// No reply takes this long unless the server hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

impl Client {
    pub fn connect(port: u16) -> Result<Client> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client::over(stream))
    }
}

impl<S: Read> Client<S> {
    pub fn over(stream: S) -> Client<S> {
        Client { stream: BufReader::with_capacity(1 << 16, stream), out: Vec::new() }
    }

    /// Adds a command to what the next `flush` sends.
    pub fn queue(&mut self, argv: &[&[u8]]) {
        encode(&mut self.out, argv);
    }

    /// Reads `count` replies and throws them away, but an error reply is an error.
    pub fn skip(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            if let Reply::Error(error) = self.reply()? {
                bail!("the server answers {error}");
            }
        }
        Ok(())
    }

    pub fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        let line = line.trim_end_matches(['\r', '\n']);
        let (kind, rest) = line.split_at_checked(1).context("an empty line in the place of a reply")?;
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "$" => match rest.parse::<i64>()? {
                -1 => Reply::Bulk(None),
                len => {
                    let mut bytes = vec![0; usize::try_from(len)? + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(bytes.len() - 2);
                    Reply::Bulk(Some(bytes))
                }
            },
            "*" => {
                let len = rest.parse::<i64>()?.max(0);
                Reply::Array((0..len).map(|_| self.reply()).collect::<Result<_>>()?)
            }
            _ => bail!("not a RESP2 reply: {line}"),
        })
    }
}

impl<S: Read + Write> Client<S> {
    /// One command, one reply; an error reply is an `Ok`.
    pub fn call(&mut self, argv: &[&str]) -> Result<Reply> {
        self.queue(&argv.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        self.flush()?;
        self.reply()
    }

    /// One command that must not fail; its reply as text.
    pub fn text(&mut self, argv: &[&str]) -> Result<String> {
        match self.call(argv)? {
            Reply::Simple(text) => Ok(text),
            Reply::Integer(n) => Ok(n.to_string()),
            Reply::Bulk(Some(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Reply::Error(error) => bail!("{}: {error}", argv.join(" ")),
            other => bail!("{}: unexpected reply {other:?}", argv.join(" ")),
        }
    }

    /// A field of INFO; absent fields are `None`.
    pub fn info(&mut self, section: &str, field: &str) -> Result<Option<String>> {
        Ok(info_field(&self.text(&["INFO", section])?, field))
    }

    /// Sends what was queued.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

/// Appends a command in RESP to `out`.
pub fn encode(out: &mut Vec<u8>, argv: &[&[u8]]) {
    write!(out, "*{}\r\n", argv.len()).expect("a Vec takes all that is written");
    for arg in argv {
        write!(out, "${}\r\n", arg.len()).expect("a Vec takes all that is written");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

pub fn info_field(info: &str, field: &str) -> Option<String> {
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn replies(bytes: &str) -> Client<Cursor<Vec<u8>>> {
        Client::over(Cursor::new(bytes.as_bytes().to_vec()))
    }

    #[test]
    fn replies_of_every_kind() {
        let mut client = replies("+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n*0\r\n?\r\n");
        assert_eq!(client.reply().unwrap(), Reply::Simple("OK".into()));
        assert_eq!(client.reply().unwrap(), Reply::Error("ERR no".into()));
        assert_eq!(client.reply().unwrap(), Reply::Integer(-7));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(Some(b"a\r\n".to_vec())));
        assert_eq!(client.reply().unwrap(), Reply::Bulk(None));
        assert_eq!(client.reply().unwrap(), Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![])]));
        assert!(client.reply().is_err());
        assert!(client.reply().is_err());
    }

    #[test]
    fn commands_and_info() {
        let mut out = Vec::new();
        encode(&mut out, &[b"SET", b"k", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        let info = "# Replication\r\nrole:master\r\nmaster_replid:ab\r\nmaster_replid2:00\r\n";
        assert_eq!(info_field(info, "master_replid").as_deref(), Some("ab"));
        assert_eq!(info_field(info, "master"), None);
    }
}
