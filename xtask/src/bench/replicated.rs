//! What replication costs: CPU time of the primary per SET with 0, 1, 3 and 10 replicas, and of a replica per applied SET.

use std::time::Duration;

use anyhow::Result;

use super::server::{Flavor, Kind, Server};
use super::table::{Better, Table};
use super::{LOAD_CORE, Options, SERVER_CORE, fullsync, throughput, traffic};

const REQUESTS: u64 = 2_000_000;
const KEYS: u64 = 100_000;
const LIMIT: Duration = Duration::from_secs(60);
const PIPELINE: u32 = 16;
const VALUE: &str = "0123456789abcdef0123456789abcdef";

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let mut table =
        Table::new("Replication: CPU time per SET (32-byte values, pipeline 16), µs", Better::Less, 2, kinds);
    for replicas in [0, 1, 3, 10] {
        for _ in 0..options.runs() {
            for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
                match measure(kind, replicas, options.scaled(REQUESTS)) {
                    Ok((primary_us, replica_us)) => {
                        table.add(&format!("primary with {replicas} replicas"), column, primary_us);
                        if let (1, Some(replica_us)) = (replicas, replica_us) {
                            table.add("replica, per applied SET", column, replica_us);
                        }
                    }
                    Err(error) => eprintln!("replicated: {}: {error:#}", kind.title),
                }
            }
        }
        eprintln!("measured: {replicas} replicas");
    }
    Ok(vec![table])
}

/// The primary has a core to itself; replicas and load share the other.
fn measure(kind: &Kind, replicas: usize, requests: u64) -> Result<(f64, Option<f64>)> {
    let no_delay: &[&str] = &["--repl-diskless-sync-delay", "0"];
    // On one core shared with the load a replica may fall far behind: that must not cut it off.
    let limits: &[&str] = match kind.flavor {
        Flavor::Subject => &[],
        _ => &["--client-output-buffer-limit", "replica 4gb 4gb 60"],
    };
    let settings = [no_delay, limits].concat();
    let primary = Server::start(kind, Some(SERVER_CORE), &settings)?;
    traffic::fill_strings(primary.port, KEYS, VALUE.len(), traffic::benchmark_key)?;
    let replicas: Vec<Server> =
        (0..replicas).map(|_| Server::start(kind, Some(LOAD_CORE), &settings)).collect::<Result<_>>()?;
    for replica in &replicas {
        fullsync::attach(&primary, replica, LIMIT)?;
    }
    let before = (primary.cpu_ns()?, replicas.first().map(Server::cpu_ns).transpose()?);
    throughput::redis_benchmark(primary.port, PIPELINE, KEYS, requests, &["SET", "key:__rand_int__", VALUE])?;
    for replica in &replicas {
        fullsync::catch_up(&mut primary.client()?, &mut replica.client()?)?;
    }
    let per_set = |after: u64, before: u64| (after - before) as f64 / 1000.0 / requests as f64;
    let replica_us = match (replicas.first(), before.1) {
        (Some(replica), Some(before)) => Some(per_set(replica.cpu_ns()?, before)),
        _ => None,
    };
    Ok((per_set(primary.cpu_ns()?, before.0), replica_us))
}
