//! Requests per second and CPU time of the server per command, under redis-benchmark (redis 7.0.15's) on the other core.

use std::process::Command;

use anyhow::{Context, Result};

use super::server::{Kind, Server};
use super::table::{Better, Table};
use super::{LOAD_CORE, Options, SERVER_CORE, traffic};
use crate::{client, peers, process};

struct Case {
    name: &'static str,
    /// Requests in flight per connection.
    pipeline: u32,
    /// Keys that exist before, 3-byte values, and the range of random numbers.
    keys: u64,
    requests: u64,
    command: &'static [&'static str],
    preload: Preload,
}

enum Preload {
    Nothing,
    Strings,
    /// A list of 1000 elements.
    List,
}

const fn case(
    name: &'static str,
    pipeline: u32,
    keys: u64,
    requests: u64,
    command: &'static [&'static str],
    preload: Preload,
) -> Case {
    Case { name, pipeline, keys, requests, command, preload }
}

const GET: &[&str] = &["GET", "key:__rand_int__"];
const SET: &[&str] = &["SET", "key:__rand_int__", "xxx"];
const MSET: &[&str] = &{
    const KEY: &str = "key:__rand_int__";
    [
        "MSET", KEY, "x", KEY, "x", KEY, "x", KEY, "x", KEY, "x", KEY, "x", KEY, "x", KEY, "x", KEY, "x",
        KEY, "x",
    ]
};

const CASES: &[Case] = &[
    case("GET, no pipeline", 1, 100_000, 200_000, GET, Preload::Strings),
    case("SET, no pipeline", 1, 100_000, 200_000, SET, Preload::Strings),
    case("GET, pipeline 16, 100 k keys", 16, 100_000, 2_000_000, GET, Preload::Strings),
    case("SET, pipeline 16, 100 k keys", 16, 100_000, 2_000_000, SET, Preload::Strings),
    case("GET, pipeline 64, 1 M keys", 64, 1_000_000, 3_000_000, GET, Preload::Strings),
    case("SET, pipeline 64, 1 M keys", 64, 1_000_000, 3_000_000, SET, Preload::Strings),
    case("INCR, pipeline 16", 16, 100_000, 2_000_000, &["INCR", "counter:__rand_int__"], Preload::Nothing),
    case("LPUSH, pipeline 16", 16, 100_000, 2_000_000, &["LPUSH", "mylist", "xxx"], Preload::Nothing),
    case("LRANGE 100, pipeline 16", 16, 100_000, 200_000, &["LRANGE", "mylist", "0", "99"], Preload::List),
    case(
        "HSET, pipeline 16",
        16,
        100_000,
        2_000_000,
        &["HSET", "myhash", "field:__rand_int__", "xxx"],
        Preload::Nothing,
    ),
    case(
        "SADD, pipeline 16",
        16,
        100_000,
        2_000_000,
        &["SADD", "myset", "element:__rand_int__"],
        Preload::Nothing,
    ),
    case(
        "ZADD, pipeline 16",
        16,
        100_000,
        2_000_000,
        &["ZADD", "myzset", "__rand_int__", "element:__rand_int__"],
        Preload::Nothing,
    ),
    case("MSET of 10, pipeline 16", 16, 100_000, 200_000, MSET, Preload::Strings),
];

/// Each measurement gets a fresh server; the servers take turns within a case, so that drift of the machine hits all alike.
pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let mut cpu = Table::new("CPU time of the server per command, µs", Better::Less, 2, kinds);
    let mut rate = Table::new(
        "Requests per second (the load generator's core may be the limit)",
        Better::More,
        0,
        kinds,
    );
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        for _ in 0..options.runs() {
            for (column, kind) in kinds.iter().enumerate() {
                match measure(case, kind, options.scaled(case.requests)) {
                    Ok(measured) => {
                        cpu.add(case.name, column, measured.cpu_us);
                        rate.add(case.name, column, measured.per_second);
                    }
                    Err(error) => eprintln!("{}: {}: {error:#}", case.name, kind.title),
                }
            }
        }
        eprintln!("measured: {}", case.name);
    }
    Ok(vec![cpu, rate])
}

struct Measured {
    cpu_us: f64,
    per_second: f64,
}

fn measure(case: &Case, kind: &Kind, requests: u64) -> Result<Measured> {
    let server = Server::start(kind, Some(SERVER_CORE), &[])?;
    match case.preload {
        Preload::Nothing => {}
        Preload::Strings => traffic::fill_strings(server.port, case.keys, 3, traffic::benchmark_key)?,
        Preload::List => traffic::pipelined(server.port, 1000, |_, out| {
            client::encode(out, &[b"RPUSH", b"mylist", b"xxx"])
        })?,
    }
    let before = server.cpu_ns()?;
    let per_second = redis_benchmark(server.port, case.pipeline, case.keys, requests, case.command)?;
    let cpu_us = (server.cpu_ns()? - before) as f64 / 1000.0 / requests as f64;
    Ok(Measured { cpu_us, per_second })
}

/// Runs redis-benchmark with 50 connections on the load core; gives the requests per second that it reports.
pub fn redis_benchmark(port: u16, pipeline: u32, keys: u64, requests: u64, command: &[&str]) -> Result<f64> {
    let mut benchmark = Command::new("taskset");
    benchmark.args(["--cpu-list", &LOAD_CORE.to_string()]).arg(peers::tool("redis-benchmark")?);
    benchmark.args([
        "-p",
        &port.to_string(),
        "-c",
        "50",
        "-P",
        &pipeline.to_string(),
        "-r",
        &keys.to_string(),
    ]);
    let csv = process::output(benchmark.args(["-n", &requests.to_string(), "--csv"]).args(command))?;
    parse_csv(&csv).with_context(|| format!("no rate in redis-benchmark's output: {csv}"))
}

/// The second field of the last line: `"GET key:__rand_int__","1234567.88","0.3",…`.
fn parse_csv(csv: &str) -> Option<f64> {
    csv.lines().last()?.split("\",\"").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_stands_behind_the_command() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"ZADD a, b\",\"180505.41\",\"0.250\"\n";
        assert_eq!(parse_csv(csv), Some(180_505.41));
        assert_eq!(parse_csv("WARNING: no\n"), None);
    }
}
