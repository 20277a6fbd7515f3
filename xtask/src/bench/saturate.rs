//! A load that keeps a server busy: 50 connections, each with a batch of commands under way, from one thread that does next
//! to nothing for a command but write its random numbers and count its reply.
//!
//! redis-benchmark takes a few tenths of a microsecond for a reply. A server that takes less waits for it, and then what is
//! measured is how often the server goes to sleep and is woken, not what its commands cost. Here the server is the bottleneck:
//! there is always a batch in its sockets, and since this thread polls instead of sleeping, no server pays for waking it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::LOAD_CORE;
use super::traffic::Random;
use crate::client;

const CONNECTIONS: usize = 50;
/// Replaced by a random number below the range in 12 digits, as redis-benchmark does it.
const RANDOM: &str = "__rand_int__";

/// Sends `command` `requests` times (rounded up to whole batches of `pipeline`). No reply may be an error.
pub fn saturate(port: u16, pipeline: u32, range: u64, requests: u64, command: &[&str]) -> Result<()> {
    // In a thread of its own, because the place of this one is not known afterwards.
    std::thread::scope(|scope| {
        scope
            .spawn(|| load(port, pipeline, range, requests, command))
            .join()
            .expect("the load does not panic")
    })
}

fn load(port: u16, pipeline: u32, range: u64, requests: u64, command: &[&str]) -> Result<()> {
    let mut core = CpuSet::new();
    core.set(LOAD_CORE);
    sched_setaffinity(None, &core).context("binding the load to its core")?;
    let mut batch = Batch::new(pipeline, command);
    let mut random = Random::new(5);
    let mut connections = (0..CONNECTIONS).map(|_| Connection::open(port)).collect::<Result<Vec<_>>>()?;
    let mut unsent = requests.div_ceil(u64::from(pipeline));
    let mut buffer = vec![0; 256 * 1024];
    while unsent > 0 || connections.iter().any(|connection| connection.replies.due > 0) {
        for connection in &mut connections {
            connection.receive(&mut buffer)?;
            if connection.replies.due == 0 && unsent > 0 {
                unsent -= 1;
                batch.draw(&mut random, range);
                connection.send(&batch.bytes, u64::from(pipeline))?;
            }
        }
    }
    Ok(())
}

/// The commands of one batch in RESP, and where the random numbers stand in it.
struct Batch {
    bytes: Vec<u8>,
    randoms: Vec<usize>,
}

impl Batch {
    fn new(pipeline: u32, command: &[&str]) -> Batch {
        let mut bytes = Vec::new();
        for _ in 0..pipeline {
            client::encode(&mut bytes, &command.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        }
        let randoms = bytes.windows(RANDOM.len()).enumerate();
        let randoms = randoms.filter(|(_, window)| *window == RANDOM.as_bytes()).map(|(at, _)| at).collect();
        Batch { bytes, randoms }
    }

    fn draw(&mut self, random: &mut Random, range: u64) {
        for &at in &self.randoms {
            let mut n = random.below(range);
            for digit in self.bytes[at..at + RANDOM.len()].iter_mut().rev() {
                *digit = b'0' + (n % 10) as u8;
                n /= 10;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    replies: Replies,
}

impl Connection {
    fn open(port: u16) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream, replies: Replies::default() })
    }

    fn send(&mut self, mut bytes: &[u8], replies: u64) -> Result<()> {
        self.replies.due = replies;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Polls until the whole batch is answered.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        while self.replies.due > 0 {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.replies.count(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Counts replies of RESP2 in pieces of any size.
#[derive(Default)]
struct Replies {
    /// Values that are still to come. An array takes itself off and adds its elements.
    due: u64,
    /// Bytes of the bulk string that is arriving, with its line end.
    bulk: usize,
    /// The beginning of a header line.
    line: Vec<u8>,
}

impl Replies {
    fn count(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let passed = self.bulk.min(bytes.len());
            self.bulk -= passed;
            bytes = &bytes[passed..];
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            if self.line.is_empty() {
                self.header(&bytes[..end])?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.header(&line)?;
            }
            bytes = &bytes[end + 1..];
        }
    }

    /// A line without its `\n`.
    fn header(&mut self, line: &[u8]) -> Result<()> {
        self.due = self.due.checked_sub(1).context("a reply that nothing asked for")?;
        match line {
            [b'+' | b':', ..] => {}
            [b'$' | b'*', b'-', ..] => {}
            [b'$', length @ .., b'\r'] => self.bulk = number(length)? as usize + 2,
            [b'*', length @ .., b'\r'] => self.due += number(length)?,
            _ => bail!("the server answers {}", String::from_utf8_lossy(line)),
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Result<u64> {
    digits.iter().try_fold(0u64, |n, digit| match digit {
        b'0'..=b'9' => Ok(n * 10 + u64::from(digit - b'0')),
        _ => bail!("not a length: {}", String::from_utf8_lossy(digits)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_in_pieces_of_any_size() {
        let stream =
            b"+OK\r\n:12\r\n$3\r\na\nb\r\n$-1\r\n*2\r\n$1\r\nx\r\n*1\r\n:1\r\n*0\r\n$0\r\n\r\n+END\r\n";
        for size in 1..stream.len() {
            let mut replies = Replies { due: 8, ..Replies::default() };
            for (n, piece) in stream.chunks(size).enumerate() {
                assert!(replies.due > 0, "done before piece {n} of {size} bytes");
                replies.count(piece).unwrap();
            }
            assert_eq!((replies.due, replies.bulk, replies.line.len()), (0, 0, 0), "{size}");
        }
    }

    #[test]
    fn an_error_and_a_reply_too_many_are_seen() {
        let mut replies = Replies { due: 2, ..Replies::default() };
        assert!(replies.count(b"+OK\r\n-ERR no\r\n").is_err());
        let mut replies = Replies { due: 1, ..Replies::default() };
        assert!(replies.count(b"+OK\r\n+OK\r\n").is_err());
    }

    #[test]
    fn each_number_is_drawn_anew_and_has_its_digits() {
        let mut batch = Batch::new(3, &["SET", "key:__rand_int__", "x"]);
        assert_eq!(batch.randoms.len(), 3);
        batch.draw(&mut Random::new(1), 100_000);
        let text = String::from_utf8(batch.bytes).unwrap();
        let mut keys: Vec<&str> = text.split("\r\n").filter(|line| line.starts_with("key:")).collect();
        assert!(keys.iter().all(|key| key.len() == 16 && key.starts_with("key:0000000")));
        keys.dedup();
        assert_eq!(keys.len(), 3);
    }
}
