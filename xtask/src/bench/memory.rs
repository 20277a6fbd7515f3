//! Bytes per key: what `used_memory` and the resident set grow by.

use std::time::Duration;

use anyhow::{Context, Result};

use super::server::{Kind, Server};
use super::table::{Better, Table};
use super::{Options, traffic};
use crate::{client, process};

struct Shape {
    name: &'static str,
    keys: u64,
    /// Appends the command that makes the n-th key.
    make: fn(u64, &mut traffic::Random, &mut Vec<u8>),
}

const SHAPES: &[Shape] = &[
    Shape { name: "string, 14 B + 100 B, 1 M keys", keys: 1_000_000, make: string },
    Shape { name: "string, 14 B + 100 B, 2 M keys", keys: 2_000_000, make: string },
    Shape {
        name: "hash of 10 fields, 100 k keys",
        keys: 100_000,
        make: |n, random, out| collection(b"HSET", n, random, out, true),
    },
    Shape {
        name: "list of 10 elements, 100 k keys",
        keys: 100_000,
        make: |n, random, out| collection(b"RPUSH", n, random, out, false),
    },
    Shape {
        name: "set of 10 members, 100 k keys",
        keys: 100_000,
        make: |n, random, out| collection(b"SADD", n, random, out, false),
    },
    Shape { name: "set of 10 integers, 100 k keys", keys: 100_000, make: integers },
    Shape {
        name: "sorted set of 10 members, 100 k keys",
        keys: 100_000,
        make: |n, random, out| collection(b"ZADD", n, random, out, true),
    },
];

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let mut used = Table::new("used_memory per key, bytes", Better::Less, 1, kinds);
    let mut resident = Table::new("Resident set per key, bytes", Better::Less, 1, kinds);
    for shape in SHAPES {
        // Filling is the same every time, so one run is as good as many.
        for (column, kind) in kinds.iter().enumerate() {
            match measure(shape, kind, options.scaled(shape.keys)) {
                Ok((used_bytes, resident_bytes)) => {
                    if let Some(used_bytes) = used_bytes {
                        used.add(shape.name, column, used_bytes);
                    }
                    resident.add(shape.name, column, resident_bytes);
                }
                Err(error) => eprintln!("{}: {}: {error:#}", shape.name, kind.title),
            }
        }
        eprintln!("measured: {}", shape.name);
    }
    Ok(vec![used, resident])
}

/// Bytes per key as the server says (if it does), and as the kernel says.
fn measure(shape: &Shape, kind: &Kind, keys: u64) -> Result<(Option<f64>, f64)> {
    let server = Server::start(kind, None, &[])?;
    let used_before = used_memory(&server);
    let resident_before = process::rss(server.pid()).context("no VmRSS")?;
    let mut random = traffic::Random::new(4);
    traffic::pipelined(server.port, keys, |n, out| (shape.make)(n, &mut random, out))?;
    // Incremental rehashing and lazy frees come to rest.
    std::thread::sleep(Duration::from_secs(1));
    let used = used_before.zip(used_memory(&server)).map(|(before, after)| (after - before) / keys as f64);
    let resident =
        process::rss(server.pid()).context("no VmRSS")?.saturating_sub(resident_before) as f64 / keys as f64;
    Ok((used, resident))
}

fn used_memory(server: &Server) -> Option<f64> {
    server.client().ok()?.info("memory", "used_memory").ok()??.parse().ok()
}

fn string(n: u64, random: &mut traffic::Random, out: &mut Vec<u8>) {
    let mut value = [0; 100];
    random.fill(&mut value);
    client::encode(out, &[b"SET", traffic::key(n).as_bytes(), &value]);
}

/// Ten elements of ten bytes; `paired` puts a number of up to six digits before each, which is a field, or a score.
fn collection(command: &[u8], n: u64, random: &mut traffic::Random, out: &mut Vec<u8>, paired: bool) {
    let mut argv = vec![command.to_vec(), traffic::key(n).into_bytes()];
    for element in 0..10 {
        if paired {
            argv.push(format!("{}", element * 100_000 + random.below(100_000)).into_bytes());
        }
        argv.push(format!("v{:09x}", random.below(1 << 36)).into_bytes());
    }
    client::encode(out, &argv.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

fn integers(n: u64, random: &mut traffic::Random, out: &mut Vec<u8>) {
    let mut argv = vec![b"SADD".to_vec(), traffic::key(n).into_bytes()];
    argv.extend((0..10).map(|_| random.below(1_000_000).to_string().into_bytes()));
    client::encode(out, &argv.iter().map(Vec::as_slice).collect::<Vec<_>>());
}
