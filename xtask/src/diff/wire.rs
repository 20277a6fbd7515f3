//! Replies in RESP2 and RESP3 as they come: where one ends, and what it says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client;

/// A reply as a tree. Texts are bytes; numbers stay as they were printed, since the print is what is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Its type's byte and its line: `+`, `-`, `:`, `,`, `#`, `(`.
    Line(u8, Vec<u8>),
    /// `$`, and `=` with its three letters.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1`, `_`.
    Null,
    /// The type's byte and what is within: `*`, `~`, `>`, and `%` with keys and values in turn.
    Many(u8, Vec<Value>),
}

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Line(b'-', _))
    }

    /// What a leaf says, without its type.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Line(_, bytes) | Value::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Line(b':', digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Value] {
        match self {
            Value::Many(_, items) => items,
            _ => &[],
        }
    }

    /// The value of a key in a map, or in an array of keys and values in turn.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.items().chunks_exact(2).find(|pair| pair[0].text() == Some(key.as_bytes())).map(|pair| &pair[1])
    }

    /// All leaves in order, nulls as empty texts.
    pub fn leaves<'v>(&'v self, into: &mut Vec<&'v [u8]>) {
        match self {
            Value::Many(_, items) => items.iter().for_each(|item| item.leaves(into)),
            leaf => into.push(leaf.text().unwrap_or_default()),
        }
    }
}

/// Length of the first whole reply in `bytes`; `None` when its end has not come yet.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut open = 1_u64;
    while open > 0 {
        let line = line_at(bytes, at)?;
        let kind = *bytes.get(at)?;
        at += line.len() + 3;
        open -= 1;
        match kind {
            b'$' | b'=' | b'!' => {
                if let Ok(len) = usize::try_from(number(line)) {
                    at += len + 2;
                }
            }
            b'*' | b'~' | b'>' => open += u64::try_from(number(line)).unwrap_or(0),
            b'%' => open += 2 * u64::try_from(number(line)).unwrap_or(0),
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// A whole reply, as `frame_len` has cut it.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let mut at = 0;
    let value = parse_at(bytes, &mut at)?;
    if at != bytes.len() {
        bail!("bytes follow a reply");
    }
    Ok(value)
}

fn parse_at(bytes: &[u8], at: &mut usize) -> Result<Value> {
    let line = line_at(bytes, *at).context("a reply is cut off")?;
    let kind = bytes[*at];
    *at += line.len() + 3;
    Ok(match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' => Value::Line(kind, line.to_vec()),
        b'_' => Value::Null,
        b'$' | b'=' | b'!' => match usize::try_from(number(line)) {
            Ok(len) => {
                let body = bytes.get(*at..*at + len).context("a bulk string is cut off")?;
                *at += len + 2;
                Value::Bulk(body.to_vec())
            }
            Err(_) => Value::Null,
        },
        b'*' | b'~' | b'>' | b'%' => match usize::try_from(number(line)) {
            Ok(len) => {
                let len = if kind == b'%' { 2 * len } else { len };
                Value::Many(kind, (0..len).map(|_| parse_at(bytes, at)).collect::<Result<_>>()?)
            }
            Err(_) => Value::Null,
        },
        _ => bail!("no reply begins with {:?}", char::from(kind)),
    })
}

/// What stands between the type's byte at `at` and the end of its line.
fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at + 1..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some(&rest[..end])
}

fn number(line: &[u8]) -> i64 {
    std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()).unwrap_or(-1)
}

/// A connection that gives replies as the bytes that they are.
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    taken: usize,
}

/// No reply takes this long, blocking commands included, unless the server hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

impl Wire {
    pub fn connect(port: u16) -> Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Wire { stream, received: Vec::new(), taken: 0 })
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next whole reply.
    pub fn frame(&mut self) -> Result<&[u8]> {
        loop {
            if let Some(len) = frame_len(&self.received[self.taken..]) {
                let from = self.taken;
                self.taken += len;
                return Ok(&self.received[from..from + len]);
            }
            self.received.drain(..self.taken);
            self.taken = 0;
            let mut chunk = [0; 1 << 16];
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    pub fn call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Result<Value> {
        let mut bytes = Vec::new();
        encode(&mut bytes, argv);
        self.send(&bytes)?;
        parse(self.frame()?)
    }
}

pub fn encode<A: AsRef<[u8]>>(out: &mut Vec<u8>, argv: &[A]) {
    client::encode(out, &argv.iter().map(AsRef::as_ref).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_end_where_their_parts_end() {
        let whole = b"*3\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n:1\r\n*-1\r\n";
        assert_eq!(frame_len(whole), Some(whole.len()));
        for cut in 0..whole.len() {
            assert_eq!(frame_len(&whole[..cut]), None, "cut at {cut}");
        }
        let value = parse(whole).unwrap();
        assert_eq!(value.items().len(), 3);
        assert_eq!(value.items()[0], Value::Bulk(b"a\r\n".to_vec()));
        assert_eq!(value.items()[1].get("k").and_then(Value::int), Some(1));
        assert_eq!(value.items()[2], Value::Null);
        let mut leaves = Vec::new();
        value.leaves(&mut leaves);
        assert_eq!(leaves, [&b"a\r\n"[..], b"k", b"1", b""]);
        assert!(parse(b"?\r\n").is_err());
    }
}
