//! Full synchronisations, or a BGSAVE, of many keys, mostly while writes go on: how long, how much more memory the primary takes
//! with all its children, and what its clients feel. Nothing is pinned: fork and replicas compete for the cores as they do in life.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::server::{Flavor, Kind, Server};
use super::table::{Better, Table, quantile};
use super::{Options, traffic};
use crate::client::{self, Client, Reply};
use crate::process;

const KEYS: u64 = 2_000_000;
const VALUE_BYTES: usize = 100;
const MIXED_KEYS: u64 = 200_000;
/// The probe reads random ones of these; with a large collection there is none of them.
const PROBED_KEYS: u64 = 200_000;
const WRITES_PER_SECOND: u64 = 20_000;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(120);

/// What is done with the data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    FullSync { replicas: usize, defaults: bool },
    Bgsave,
}

/// What is in the server and what is written to it meanwhile.
trait Load: Sync {
    fn fill(&self, port: u16) -> Result<()>;
    /// Writes at [`WRITES_PER_SECOND`] until `stop`; gives how many writes were acknowledged, if there are to be any.
    fn write(&self, port: u16, stop: &AtomicBool) -> Result<Option<u64>>;
}

/// The data of another load, that stays as it is.
struct Idle<'a>(&'a dyn Load);

impl Load for Idle<'_> {
    fn fill(&self, port: u16) -> Result<()> {
        self.0.fill(port)
    }

    fn write(&self, _port: u16, _stop: &AtomicBool) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// So many strings.
struct Strings(u64);

impl Load for Strings {
    fn fill(&self, port: u16) -> Result<()> {
        traffic::fill_strings(port, self.0, VALUE_BYTES, traffic::key)
    }

    fn write(&self, port: u16, stop: &AtomicBool) -> Result<Option<u64>> {
        traffic::write_at_rate(port, WRITES_PER_SECOND, self.0, VALUE_BYTES, stop).map(Some)
    }
}

/// Strings of 1 KB, and small collections of every type: this many strings, a tenth as many of each.
struct Mixed(u64);

const MIXED_VALUE_BYTES: usize = 1024;
/// Fields, elements or members of each collection.
const MIXED_ELEMENTS: u64 = 20;

impl Load for Mixed {
    fn fill(&self, port: u16) -> Result<()> {
        traffic::fill_strings(port, self.0, MIXED_VALUE_BYTES, traffic::key)?;
        traffic::pipelined(port, self.0 / 10 * 5 * MIXED_ELEMENTS, |n, out| {
            let (collection, element) = (n / MIXED_ELEMENTS, format!("element:{:06}", n % MIXED_ELEMENTS));
            let (kind, element) = (collection % 5, element.as_bytes());
            let key =
                format!("{}:{}", ["hash", "list", "set", "zset", "stream"][kind as usize], collection / 5);
            let key = key.as_bytes();
            match kind {
                0 => client::encode(out, &[b"HSET", key, element, b"some value"]),
                1 => client::encode(out, &[b"RPUSH", key, element]),
                2 => client::encode(out, &[b"SADD", key, element]),
                3 => client::encode(out, &[b"ZADD", key, (n % 1009).to_string().as_bytes(), element]),
                _ => client::encode(out, &[b"XADD", key, b"*", b"sensor", element]),
            }
        })
    }

    fn write(&self, port: u16, stop: &AtomicBool) -> Result<Option<u64>> {
        traffic::write_at_rate(port, WRITES_PER_SECOND, self.0, MIXED_VALUE_BYTES, stop).map(Some)
    }
}

/// Hands over the words of a command.
type ElementCommand = fn(u64, &mut dyn FnMut(&[&[u8]]));

/// One collection of so many elements.
struct Large {
    name: &'static str,
    elements: u64,
    /// The command that adds, or changes, an element with this number.
    command: ElementCommand,
}

impl Load for Large {
    fn fill(&self, port: u16) -> Result<()> {
        traffic::pipelined(port, self.elements, |n, out| {
            (self.command)(n, &mut |words| client::encode(out, words));
        })
    }

    fn write(&self, port: u16, stop: &AtomicBool) -> Result<Option<u64>> {
        traffic::commands_at_rate(port, WRITES_PER_SECOND, stop, |random, client| {
            (self.command)(random.below(2 * self.elements), &mut |words| client.queue(words));
        })
        .map(Some)
    }
}

const LARGE: &[(&str, ElementCommand)] = &[
    ("hash", |n, send| send(&[b"HSET", b"large", format!("field:{n}").as_bytes(), b"some value"])),
    ("set", |n, send| send(&[b"SADD", b"large", format!("member:{n}").as_bytes()])),
    ("sorted set", |n, send| {
        send(&[
            b"ZADD",
            b"large",
            (n * 7919 % 1_000_003).to_string().as_bytes(),
            format!("member:{n}").as_bytes(),
        ]);
    }),
    ("list", |n, send| send(&[b"RPUSH", b"large", format!("element:{n}").as_bytes()])),
    ("stream", |n, send| {
        send(&[b"XADD", b"large", b"*", b"sensor", format!("{n}").as_bytes(), b"value", b"some value"]);
    }),
];

const LARGE_ELEMENTS: u64 = 5_000_000;

/// BGSAVE of one collection that takes all the memory there is, while it is written to.
pub fn run_large(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let elements = options.scaled(LARGE_ELEMENTS);
    let mut tables = Vec::new();
    for (name, command) in LARGE.iter().filter(|(name, _)| options.wants(name)) {
        let large = Large { name, elements, command: *command };
        let title = format!(
            "BGSAVE of a {} of {elements} elements under {WRITES_PER_SECOND} writes/s to it",
            large.name
        );
        tables.push(table(options, kinds, &title, What::Bgsave, &large));
    }
    Ok(tables)
}

struct Measured {
    seconds: f64,
    baseline_bytes: u64,
    peak_bytes: u64,
    /// Sorted, milliseconds.
    latencies: Vec<f64>,
    /// Time in which the replica answered -LOADING.
    loading_seconds: f64,
}

pub fn run_bgsave(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let keys = options.scaled(KEYS);
    let title = format!("BGSAVE of {keys} keys × {VALUE_BYTES} B under {WRITES_PER_SECOND} writes/s");
    Ok(vec![table(options, kinds, &title, What::Bgsave, &Strings(keys))])
}

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let (strings, mixed) = (Strings(options.scaled(KEYS)), Mixed(options.scaled(MIXED_KEYS)));
    let loads: [(String, &dyn Load); 2] = [
        (format!("{} keys × {VALUE_BYTES} B", strings.0), &strings),
        (format!("{} keys × 1 KB and {} collections", mixed.0, mixed.0 / 2), &mixed),
    ];
    let mut tables = Vec::new();
    for (data, load) in loads {
        for (written, replicas, defaults) in
            [(true, 1, false), (false, 1, false), (true, 3, false), (true, 1, true)]
        {
            let writes =
                if written { format!("under {WRITES_PER_SECOND} writes/s") } else { "idle".to_owned() };
            let plural = if replicas == 1 { "" } else { "s" };
            let settings = if defaults { ", default settings" } else { "" };
            let title = format!("Full sync of {data}, {writes}, {replicas} replica{plural}{settings}");
            if !options.wants(&title) {
                continue;
            }
            let idle = Idle(load);
            let load = if written { load } else { &idle };
            tables.push(table(options, kinds, &title, What::FullSync { replicas, defaults }, load));
        }
    }
    Ok(tables)
}

fn table(options: &Options, kinds: &[Kind], title: &str, what: What, load: &dyn Load) -> Table {
    let mut table = Table::new(title, Better::Less, 2, kinds);
    for _ in 0..options.runs() {
        for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
            let measured = match measure(kind, load, what) {
                Ok(measured) => measured,
                Err(error) => {
                    eprintln!("{title}: {}: {error:#}", kind.title);
                    continue;
                }
            };
            let extra = measured.peak_bytes.saturating_sub(measured.baseline_bytes) as f64;
            table.add("seconds", column, measured.seconds);
            table.add("primary's memory before, MB", column, measured.baseline_bytes as f64 / 1e6);
            table.add("primary's extra memory at the peak, MB", column, extra / 1e6);
            table.add(
                "primary's extra memory at the peak, %",
                column,
                extra * 100.0 / measured.baseline_bytes as f64,
            );
            table.add("probe p50, ms", column, quantile(&measured.latencies, 0.5));
            table.add("probe p99.9, ms", column, quantile(&measured.latencies, 0.999));
            table.add("probe max, ms", column, quantile(&measured.latencies, 1.0));
            if what != What::Bgsave {
                table.add("replica answers -LOADING, s", column, measured.loading_seconds);
            }
            eprintln!("measured: {title}: {}", kind.title);
        }
    }
    table
}

/// What each server gets so that no deliberate delay is measured.
fn settings(kind: &Kind) -> &'static [&'static str] {
    match kind.flavor {
        Flavor::Valkey => &["--repl-diskless-sync-delay", "0", "--dual-channel-replication-enabled", "yes"],
        _ => &["--repl-diskless-sync-delay", "0"],
    }
}

fn measure(kind: &Kind, load: &dyn Load, what: What) -> Result<Measured> {
    let (replicas, settings) = match what {
        What::FullSync { replicas, defaults: false } => (replicas, settings(kind)),
        What::FullSync { replicas, defaults: true } => (replicas, &[][..]),
        What::Bgsave => (0, settings(kind)),
    };
    let primary = Server::start(kind, None, settings)?;
    load.fill(primary.port).context("filling")?;
    let replicas =
        (0..replicas).map(|_| Server::start(kind, None, settings)).collect::<Result<Vec<Server>>>()?;

    let stop = AtomicBool::new(false);
    let peak = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| load.write(primary.port, &stop));
        let sampler = scope.spawn(|| sample_memory(primary.pid(), &peak, &stop));
        // Steady state first: the writer's buffers and the allocator's spare pages belong to the baseline.
        std::thread::sleep(Duration::from_secs(1));
        let baseline_bytes = process::pss_with_children(primary.pid());
        peak.store(baseline_bytes, Ordering::Relaxed);
        let stop_probe = AtomicBool::new(false);
        let (outcome, latencies) = std::thread::scope(|scope| {
            let probe = scope.spawn(|| traffic::probe(primary.port, PROBED_KEYS, &stop_probe));
            let outcome = match &replicas[..] {
                [] => background_save(&primary).map(|seconds| (seconds, 0.0)),
                replicas => synchronise(&primary, replicas),
            };
            stop_probe.store(true, Ordering::Relaxed);
            (outcome, probe.join().expect("the probe does not panic"))
        });
        let peak_bytes = peak.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer does not panic");
        sampler.join().expect("the sampler does not panic");
        let (seconds, loading_seconds) = outcome?;
        ensure!(written.context("the writer")? != Some(0), "nothing was written");
        let mut latencies = latencies.context("the probe")?;
        latencies.sort_by(f64::total_cmp);
        Ok(Measured { seconds, baseline_bytes, peak_bytes, latencies, loading_seconds })
    })
}

fn sample_memory(pid: u32, peak: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        peak.fetch_max(process::pss_with_children(pid), Ordering::Relaxed);
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}

/// From REPLICAOF, to all at once, until each replica has applied what the primary had written when the last link came up. Gives
/// the seconds, and those in which the first answered -LOADING.
fn synchronise(primary: &Server, replicas: &[Server]) -> Result<(f64, f64)> {
    const STEP: Duration = Duration::from_millis(5);
    let mut of_primary = primary.client()?;
    let mut clients = replicas.iter().map(Server::client).collect::<Result<Vec<Client>>>()?;
    let started = Instant::now();
    for client in &mut clients {
        client.text(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
    }
    let mut loading = Duration::ZERO;
    let mut asked = Instant::now();
    traffic::wait_for("the links come up", LIMIT, STEP, || {
        let is_loading =
            matches!(clients[0].call(&["GET", "x"])?, Reply::Error(error) if error.starts_with("LOADING"));
        if is_loading {
            loading += asked.elapsed();
        }
        asked = Instant::now();
        for client in &mut clients {
            if client.info("replication", "master_link_status")?.as_deref() != Some("up") {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    for client in &mut clients {
        catch_up(&mut of_primary, client)?;
    }
    Ok((started.elapsed().as_secs_f64(), loading.as_secs_f64()))
}

/// Makes `replica` one of `primary`, and waits until it has caught up.
pub fn attach(primary: &Server, replica: &Server, limit: Duration) -> Result<()> {
    let mut client = replica.client()?;
    client.text(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
    traffic::wait_for("the link comes up", limit, Duration::from_millis(10), || {
        Ok(client.info("replication", "master_link_status")?.as_deref() == Some("up"))
    })?;
    catch_up(&mut primary.client()?, &mut client)
}

/// Until the replica has applied what the primary has written by now.
pub fn catch_up(primary: &mut Client, replica: &mut Client) -> Result<()> {
    let goal = offset(primary, "master_repl_offset")?;
    traffic::wait_for("the replica catches up", LIMIT, Duration::from_millis(2), || {
        Ok(offset(replica, "slave_repl_offset")? >= goal)
    })
}

fn offset(client: &mut Client, field: &str) -> Result<i64> {
    let value =
        client.info("replication", field)?.with_context(|| format!("INFO replication lacks {field}"))?;
    value.parse().with_context(|| format!("{field}: {value}"))
}

fn background_save(primary: &Server) -> Result<f64> {
    let mut client = primary.client()?;
    let started = Instant::now();
    client.text(&["BGSAVE"])?;
    traffic::wait_for("BGSAVE ends", LIMIT, Duration::from_millis(5), || {
        Ok(client.info("persistence", "rdb_bgsave_in_progress")?.as_deref() == Some("0"))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let status = client.info("persistence", "rdb_last_bgsave_status")?;
    ensure!(status.as_deref() == Some("ok"), "BGSAVE ended with {status:?}");
    Ok(seconds)
}
