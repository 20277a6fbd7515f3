//! `cargo xtask fuzz`: libFuzzer over the targets of `crates/fuzz`.
//!
//! Rust's stable compiler can instrument for coverage, so no nightly is needed; what only nightly has is the address
//! sanitizer, which `structures` does not miss: its unsafe code runs under Miri (`cargo xtask miri`). Overflow checks and debug assertions are on.
//! Inputs begin with what real servers dump, save and are asked, and are kept between runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench::server::{Flavor, Kind, Server};
use crate::client::{self, Client, Reply};
use crate::{packages, peers, process, workspace};

#[derive(clap::Args)]
pub struct Options {
    /// resp, restore, rdb, packed; all of them if none is named
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Targets that run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

const TARGETS: &[&str] = &["resp", "restore", "rdb", "packed"];

/// One input may take this long and this much memory, and be this large.
const LIMITS: &[&str] = &["-timeout=10", "-rss_limit_mb=1500", "-max_len=8192", "-print_final_stats=1"];

/// What `cargo fuzz` switches on, without a sanitizer.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

pub struct Counts {
    pub passed: usize,
    pub failed: usize,
}

/// A target without a finding has passed.
pub fn run(options: &Options) -> Result<Counts> {
    let targets: Vec<&str> = match options.targets.is_empty() {
        true => TARGETS.to_vec(),
        false => options.targets.iter().map(String::as_str).collect(),
    };
    for target in &targets {
        ensure!(TARGETS.contains(target), "no target {target}; there are {}", TARGETS.join(", "));
    }
    let programs = build()?;
    let home = workspace::target().join("fuzz");
    write_seeds(&home.join("seeds"))?;
    let mut counts = Counts { passed: 0, failed: 0 };
    for batch in targets.chunks(options.jobs.max(1)) {
        let mut running = Vec::new();
        for target in batch {
            running.push((target, start(options, &programs, &home, target)?));
        }
        for (target, mut child) in running {
            let passed = child.wait()?.success();
            counts.passed += usize::from(passed);
            counts.failed += usize::from(!passed);
            report(&home, target, passed)?;
        }
    }
    Ok(counts)
}

/// Builds the targets in a directory of their own, where the instrumented crates lie, and gives where the programs are.
fn build() -> Result<PathBuf> {
    // libFuzzer itself is built from its source.
    packages::ensure_debian(&["g++"])?;
    let dir = workspace::target().join("fuzz/build");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--package", "kindred-fuzz", "--features", "libfuzzer", "--bins"]);
    // With a target, build scripts and macros are left without instruments.
    let triple = host()?;
    cargo.args(["--target", &triple]).arg("--target-dir").arg(&dir).env("RUSTFLAGS", RUSTFLAGS);
    for (name, value) in
        [("LTO", "off"), ("DEBUG_ASSERTIONS", "true"), ("OVERFLOW_CHECKS", "true"), ("PANIC", "abort")]
    {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    process::run(cargo.current_dir(workspace::root()))?;
    Ok(dir.join(triple).join("release"))
}

fn host() -> Result<String> {
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for which host it compiles")?.to_owned())
}

fn start(options: &Options, programs: &Path, home: &Path, target: &str) -> Result<std::process::Child> {
    let corpus = home.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(home.join("found"))?;
    let log = fs::File::create(home.join(format!("{target}.log")))?;
    // Whatever happens to us, it ends by itself.
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg((options.seconds + 60).to_string());
    // An allocation of what a length claims fails here, as it would on a machine of that size.
    command.args(["prlimit", "--as=8589934592"]).arg(programs.join(target)).args(LIMITS);
    command.arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-artifact_prefix={}/{target}-", home.join("found").display()));
    command.arg(corpus).arg(home.join("seeds").join(target));
    let regressions = workspace::root().join("crates/fuzz/regressions").join(target);
    command.args(regressions.exists().then_some(regressions));
    command.stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("starting the target {target}"))
}

fn report(home: &Path, target: &str, passed: bool) -> Result<()> {
    let log = fs::read(home.join(format!("{target}.log")))?;
    let log = String::from_utf8_lossy(&log);
    let stat = |name: &str| {
        log.lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or("?".to_owned(), |rest| rest.trim().to_owned())
    };
    let covered = log.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split_whitespace().next());
    println!(
        "{target}: {} inputs run, {} edges covered, slowest {} s, {} MiB: {}",
        stat("stat::number_of_executed_units:"),
        covered.unwrap_or("?"),
        stat("stat::slowest_unit_time_sec:"),
        stat("stat::peak_rss_mb:"),
        if passed { "nothing found" } else { "FOUND" }
    );
    if !passed {
        let from =
            log.lines().position(|line| line.contains("panicked") || line.contains("ERROR: libFuzzer"));
        log.lines().skip(from.unwrap_or(0)).take(30).for_each(|line| println!("    {line}"));
        println!(
            "    the input lies in {}; once it is fixed, keep it in crates/fuzz/regressions/{target}",
            home.join("found").display()
        );
    }
    Ok(())
}

/// What makes a value of each type in small and large form; K is the key.
const VALUES: &[&[&str]] = &[
    &["SET", "K", "hello"],
    &["SET", "K", "12345"],
    &["SET", "K", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
    &["RPUSH", "K", "a", "1", "bb", "-200", "ccc", "70000", "5000000000"],
    &["SADD", "K", "1", "2", "70000"],
    &["SADD", "K", "1", "-3000000000"],
    &["SADD", "K", "a", "b", "3"],
    &["HSET", "K", "a", "v1", "f2", "2"],
    &["ZADD", "K", "1", "a", "2.5", "b", "-3", "7", "inf", "x"],
    &["GEOADD", "K", "13.361389", "38.115556", "a", "15.087269", "37.502669", "b"],
    &["PFADD", "K", "a", "b", "c"],
    &["XADD", "K", "1-1", "f", "v", "g", "w"],
    &["XGROUP", "CREATE", "K", "g", "0", "MKSTREAM"],
];

/// What adds to the values above until they have their large form.
const LARGER: &[&[&str]] = &[
    &["CONFIG", "SET", "hash-max-listpack-entries", "1"],
    &["CONFIG", "SET", "zset-max-listpack-entries", "1"],
    &["CONFIG", "SET", "list-max-listpack-size", "2"],
    &["CONFIG", "SET", "set-max-listpack-entries", "1"],
];

/// Commands that only newer servers have.
const NEWER: &[&[&str]] = &[
    &["HEXPIRE", "K", "1000000000", "FIELDS", "1", "a"],
    &["XREADGROUP", "GROUP", "g", "c", "COUNT", "3", "STREAMS", "K", ">"],
];

/// Writes the inputs that each target begins with.
fn write_seeds(dir: &Path) -> Result<()> {
    for target in TARGETS {
        fs::create_dir_all(dir.join(target))?;
    }
    let mut requests = Vec::new();
    for id in ["redis70", "redis82", "valkey91"] {
        let kind = Kind { title: id.to_owned(), flavor: Flavor::Redis, path: peers::fetch_one(id)? };
        let server = Server::start(&kind, None, &["--rdbchecksum", "no"])?;
        let mut client = server.client()?;
        for (round, settings) in [&[][..], LARGER].iter().enumerate() {
            for setting in *settings {
                // Not every server has each of them.
                client.call(setting)?;
            }
            for (at, value) in VALUES.iter().enumerate() {
                let key = format!("{round}-{at}");
                let name = format!("{id}-{key}");
                make(&mut client, value, &key, &mut requests)?;
                for more in NEWER {
                    make(&mut client, more, &key, &mut requests)?;
                }
                if let Reply::Bulk(Some(payload)) = client.call(&["DUMP", &key])? {
                    let (value, footer) = payload.split_at(payload.len() - 10);
                    // The target's first byte is the version.
                    let version = if footer[0] == 80 { 0x80 } else { footer[0] };
                    fs::write(dir.join("restore").join(&name), [&[version], value].concat())?;
                    // Behind the tag and the length lies, of a small value, a packed one.
                    for kind in 0..5_u8 {
                        let packed = [&[kind], value.get(2..).unwrap_or_default()].concat();
                        fs::write(dir.join("packed").join(format!("{name}-{kind}")), packed)?;
                    }
                }
            }
        }
        client.call(&["SAVE"])?;
        drop(client);
        let server_dir = server.into_dir()?;
        fs::copy(server_dir.path().join("dump.rdb"), dir.join("rdb").join(id))?;
    }
    for (at, chunk) in requests.chunks(6).enumerate() {
        fs::write(dir.join("resp").join(at.to_string()), [&[0][..], &chunk.concat()].concat())?;
    }
    Ok(())
}

fn make(client: &mut Client, command: &[&str], key: &str, requests: &mut Vec<Vec<u8>>) -> Result<()> {
    let argv: Vec<&str> = command.iter().map(|arg| if *arg == "K" { key } else { arg }).collect();
    let mut request = Vec::new();
    client::encode(&mut request, &argv.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
    requests.push(request);
    client.call(&argv)?;
    Ok(())
}
