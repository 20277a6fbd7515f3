//! Load of our own: fills a server, writes at a steady rate, probes its latency. Values are random bytes that do not compress,
//! unlike those of DEBUG POPULATE.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{self, Client};

/// xorshift64*: fast, and the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// 14 bytes: `key:0000000042`.
pub fn key(n: u64) -> String {
    format!("key:{n:010}")
}

/// 16 bytes, as redis-benchmark writes its random keys: `key:000000000042`.
pub fn benchmark_key(n: u64) -> String {
    format!("key:{n:012}")
}

/// Commands sent before their replies are read.
const BATCH: u64 = 1000;

/// Sends `count` commands in pipelined batches; `command(n, out)` appends the n-th in RESP. No reply may be an error.
pub fn pipelined(port: u16, count: u64, mut command: impl FnMut(u64, &mut Vec<u8>)) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut replies = Client::over(stream.try_clone()?);
    let mut stream = stream;
    let mut out = Vec::new();
    let mut unread = 0;
    let mut sent = 0;
    while sent < count {
        out.clear();
        let batch = BATCH.min(count - sent);
        for n in sent..sent + batch {
            command(n, &mut out);
        }
        stream.write_all(&out)?;
        sent += batch;
        // One batch stays under way, so that the server is never idle.
        replies.skip(unread)?;
        unread = batch;
    }
    replies.skip(unread)
}

/// `count` strings with random values of `value_bytes`.
pub fn fill_strings(port: u16, count: u64, value_bytes: usize, key: impl Fn(u64) -> String) -> Result<()> {
    let mut random = Random::new(1);
    let mut value = vec![0; value_bytes];
    pipelined(port, count, |n, out| {
        random.fill(&mut value);
        client::encode(out, &[b"SET", key(n).as_bytes(), &value]);
    })
    .context("filling")
}

/// Overwrites random ones of `keys` strings at `rate` per second until `stop`; gives how many writes were acknowledged.
pub fn write_at_rate(port: u16, rate: u64, keys: u64, value_bytes: usize, stop: &AtomicBool) -> Result<u64> {
    let mut value = vec![0; value_bytes];
    commands_at_rate(port, rate, stop, |random, client| {
        random.fill(&mut value);
        client.queue(&[b"SET", key(random.below(keys)).as_bytes(), &value]);
    })
}

/// Sends what `queue` queues, one command a call, at `rate` per second until `stop`; gives how many were acknowledged.
/// After a stall it catches up, in batches: the rate is an offered load, not a reaction.
pub fn commands_at_rate(
    port: u16,
    rate: u64,
    stop: &AtomicBool,
    mut queue: impl FnMut(&mut Random, &mut Client),
) -> Result<u64> {
    let mut client = Client::connect(port)?;
    let mut random = Random::new(2);
    let started = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        let batch = (due - sent).min(500);
        if batch == 0 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        for _ in 0..batch {
            queue(&mut random, &mut client);
        }
        client.flush()?;
        client.skip(batch)?;
        sent += batch;
    }
    Ok(sent)
}

/// Latencies in milliseconds of a GET that is due every millisecond, each counted from when it was due: a server that
/// stalls for 20 ms spoils 20 probes, as it would spoil 20 users.
pub fn probe(port: u16, keys: u64, stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut client = Client::connect(port)?;
    let mut random = Random::new(3);
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        // Sleeping too long is our own delay, not the server's.
        let sent = Instant::now();
        let late = sent.duration_since(due);
        client.queue(&[b"GET", key(random.below(keys)).as_bytes()]);
        client.flush()?;
        client.skip(1)?;
        let counted_from = if late > Duration::from_millis(1) { due } else { sent };
        latencies.push(counted_from.elapsed().as_secs_f64() * 1000.0);
        due += Duration::from_millis(1);
    }
    Ok(latencies)
}

/// Asks until `done`, and gives up after `limit`.
pub fn wait_for(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_documented_lengths() {
        assert_eq!(key(42).len(), 14);
        assert_eq!(benchmark_key(42), "key:000000000042");
    }

    #[test]
    fn random_bytes_do_not_repeat() {
        let mut random = Random::new(1);
        let (mut a, mut b) = ([0; 100], [0; 100]);
        random.fill(&mut a);
        random.fill(&mut b);
        assert_ne!(a, b);
        let mut distinct = a.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 60, "{distinct:?}");
    }
}
