//! What replication costs: CPU time of the primary per SET with 0, 1, 3 and 10 replicas, and of a replica per applied SET, as they
//! come and when it has stood still meanwhile.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::server::{Flavor, Kind, Server};
use super::table::{Better, Table};
use super::{LOAD_CORE, Options, SERVER_CORE, fullsync, throughput, traffic};
use crate::process;

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
    for _ in 0..options.runs() {
        for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
            match measure_catching_up(kind, options.scaled(REQUESTS)) {
                Ok(replica_us) => table.add("replica that catches up, per applied SET", column, replica_us),
                Err(error) => eprintln!("replicated: {}: {error:#}", kind.title),
            }
        }
    }
    Ok(vec![table])
}

/// A replica stands still while everything is written, then takes it in as fast as it can: the rate that one core applies.
fn measure_catching_up(kind: &Kind, requests: u64) -> Result<f64> {
    let (primary, replicas) = start(kind, 1)?;
    let replica = &replicas[0];
    let signal = |name: &str| process::run(Command::new("kill").args([name, &replica.pid().to_string()]));
    signal("-STOP")?;
    write(&primary, requests)?;
    let before = replica.cpu_ns()?;
    signal("-CONT")?;
    fullsync::catch_up(&mut primary.client()?, &mut replica.client()?)?;
    Ok(per_set(requests, replica.cpu_ns()?, before))
}

/// The primary has a core to itself; replicas and load share the other.
fn measure(kind: &Kind, replicas: usize, requests: u64) -> Result<(f64, Option<f64>)> {
    let (primary, replicas) = start(kind, replicas)?;
    let before = (primary.cpu_ns()?, replicas.first().map(Server::cpu_ns).transpose()?);
    write(&primary, requests)?;
    for replica in &replicas {
        fullsync::catch_up(&mut primary.client()?, &mut replica.client()?)?;
    }
    let replica_us = match (replicas.first(), before.1) {
        (Some(replica), Some(before)) => Some(per_set(requests, replica.cpu_ns()?, before)),
        _ => None,
    };
    Ok((per_set(requests, primary.cpu_ns()?, before.0), replica_us))
}

fn start(kind: &Kind, replicas: usize) -> Result<(Server, Vec<Server>)> {
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
    Ok((primary, replicas))
}

fn write(primary: &Server, requests: u64) -> Result<()> {
    let set = ["SET", "key:__rand_int__", VALUE];
    throughput::redis_benchmark(primary.port, PIPELINE, KEYS, requests, &set)?;
    Ok(())
}

/// Microseconds of CPU time.
fn per_set(requests: u64, after_ns: u64, before_ns: u64) -> f64 {
    (after_ns - before_ns) as f64 / 1000.0 / requests as f64
}
