//! What a failover costs: three real Sentinels over a primary with two replicas, a writer, and a SIGKILL for the primary.
//! How long no write was accepted is mostly Sentinel's own time, the same for all servers; so the comparison within a run
//! counts here more than anywhere. Acknowledged writes are looked for on the new primary.

use std::fs::{self, File};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::server::{Kind, Server, free_port};
use super::table::{Better, Table};
use super::{Options, traffic};
use crate::client::{Client, Reply};
use crate::peers;
use crate::workspace::TempDir;

const RATE: u64 = 20_000;
const SENTINELS: usize = 3;
const REPLICAS: usize = 2;
const NAME: &str = "family";
const DOWN_AFTER_MS: u64 = 500;

/// How long the writer is at work before the primary is killed, and after the new one has accepted its first write.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
/// A look at anything: the resolution of what is measured.
const LOOK: Duration = Duration::from_millis(2);

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let title = format!(
        "Failover by Sentinel: down-after-milliseconds {DOWN_AFTER_MS}, {RATE} writes/s, kill -9 of the primary"
    );
    let mut table = Table::new(&title, Better::Less, 0, kinds);
    for run in 1..=options.runs() {
        for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
            for (wait, with) in [(false, "plain writes"), (true, "writes with WAIT 1")] {
                match measure(kind, wait) {
                    Ok(cost) => {
                        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
                        table.add(&format!("{with}: ms without an accepted write"), column, ms(cost.gap));
                        table.add(
                            &format!("{with}: ms until the other replica is in sync again"),
                            column,
                            ms(cost.in_sync),
                        );
                        table.add(&format!("{with}: acknowledged"), column, cost.acknowledged as f64);
                        table.add(&format!("{with}: acknowledged and missing"), column, cost.missing as f64);
                        table.add(
                            &format!("{with}: full syncs by the new primary"),
                            column,
                            cost.full_syncs as f64,
                        );
                    }
                    Err(error) => eprintln!("failover: {}: {with}: {error:#}", kind.title),
                }
            }
        }
        eprintln!("measured: failover, run {run}");
    }
    Ok(vec![table])
}

struct Cost {
    /// The longest time between two accepted writes.
    gap: Duration,
    /// From the kill to the link between the other replica and the new primary.
    in_sync: Duration,
    acknowledged: usize,
    missing: usize,
    full_syncs: u64,
}

fn measure(kind: &Kind, wait: bool) -> Result<Cost> {
    let settings = ["--repl-diskless-sync-delay", "0"];
    let start = || Server::start(kind, None, &settings);
    let mut primary = start()?;
    let replicas: Vec<Server> = (0..REPLICAS).map(|_| start()).collect::<Result<_>>()?;
    for replica in &replicas {
        replica.client()?.text(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
        traffic::wait_for("the link comes up", LIMIT, LOOK, || is_in_sync(replica, primary.port))?;
    }
    let sentinels = Sentinels::start(primary.port)?;
    let (first, stop) = (primary.port, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&sentinels, first, wait, &stop));
        let watched = watch_failover(&sentinels, &mut primary, &replicas);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer does not panic");
        let (heir, in_sync) = watched?;
        let written = written?;
        let heir = &replicas[heir];
        let full_syncs = heir.client()?.info("stats", "sync_full")?.context("no sync_full")?.parse()?;
        Ok(Cost {
            gap: written.gap,
            in_sync,
            acknowledged: written.acknowledged.len(),
            missing: missing(heir, &written.acknowledged)?,
            full_syncs,
        })
    })
}

/// Kills the primary and sees the failover through; gives which replica took over, and when the other was in sync with it.
fn watch_failover(
    sentinels: &Sentinels,
    primary: &mut Server,
    replicas: &[Server],
) -> Result<(usize, Duration)> {
    std::thread::sleep(BEFORE);
    ensure!(sentinels.primary() == Some(primary.port), "Sentinel acted before the primary was killed");
    primary.kill();
    let killed = Instant::now();
    let mut heir = None;
    traffic::wait_for("a new primary", LIMIT, LOOK, || {
        heir = sentinels.primary().and_then(|port| replicas.iter().position(|replica| replica.port == port));
        Ok(heir.is_some())
    })?;
    let heir = heir.expect("it was found");
    let other = replicas.iter().enumerate().find(|(index, _)| *index != heir).expect("there are two").1;
    traffic::wait_for("the other replica follows", LIMIT, LOOK, || is_in_sync(other, replicas[heir].port))?;
    let in_sync = killed.elapsed();
    std::thread::sleep(AFTER);
    Ok((heir, in_sync))
}

/// On a connection of its own, since Sentinel closes those that it finds when it gives a server its role.
fn is_in_sync(replica: &Server, primary: u16) -> Result<bool> {
    let told = Client::connect(replica.port).and_then(|mut client| client.text(&["INFO", "replication"]));
    let told = told.unwrap_or_default();
    Ok(told.contains(&format!("\nmaster_port:{primary}\r")) && told.contains("\nmaster_link_status:up\r"))
}

struct Written {
    /// Numbers of the writes that were acknowledged.
    acknowledged: Vec<u64>,
    gap: Duration,
}

/// Writes numbered keys at the rate, each once, to whom the Sentinels name when a connection breaks or a write is refused.
/// What was due during an outage is not made up for. With `wait`, a batch counts as acknowledged once a replica has it.
fn write(sentinels: &Sentinels, first: u16, wait: bool, stop: &AtomicBool) -> Result<Written> {
    let mut written = Written { acknowledged: Vec::new(), gap: Duration::ZERO };
    let mut client = Some(Client::connect(first)?);
    let started = Instant::now();
    let mut accepted_at = started;
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * RATE as f64) as u64;
        let Some(connected) = &mut client else {
            // It may still be the old one's address.
            client = sentinels.primary().and_then(|port| Client::connect(port).ok());
            next = due;
            std::thread::sleep(LOOK);
            continue;
        };
        if due == next {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let batch = next..due.min(next + 500);
        next = batch.end;
        let (accepted, failure) = write_batch(connected, batch.clone(), wait);
        if accepted.set > 0 {
            written.gap = written.gap.max(accepted_at.elapsed());
            accepted_at = Instant::now();
        }
        written.acknowledged.extend(batch.take(accepted.acknowledged));
        if failure.is_err() {
            client = None;
        }
    }
    Ok(written)
}

#[derive(Default)]
struct Accepted {
    /// How many writes of the batch, from its start, the server has accepted.
    set: usize,
    /// How many count as acknowledged.
    acknowledged: usize,
}

fn write_batch(client: &mut Client, numbers: Range<u64>, wait: bool) -> (Accepted, Result<()>) {
    let mut accepted = Accepted::default();
    let result = (|| {
        for number in numbers.clone() {
            client.queue(&[b"SET", key(number).as_bytes(), number.to_string().as_bytes()]);
        }
        if wait {
            client.queue(&[b"WAIT", b"1", b"1000"]);
        }
        client.flush()?;
        for _ in numbers {
            match client.reply()? {
                Reply::Simple(_) => accepted.set += 1,
                other => bail!("{other:?}"),
            }
        }
        if !wait || matches!(client.reply()?, Reply::Integer(replicas) if replicas >= 1) {
            accepted.acknowledged = accepted.set;
        }
        Ok(())
    })();
    if !wait {
        accepted.acknowledged = accepted.set;
    }
    (accepted, result)
}

fn key(number: u64) -> String {
    format!("write:{number}")
}

/// How many of the numbers the server does not have.
fn missing(server: &Server, numbers: &[u64]) -> Result<usize> {
    let mut client = server.client()?;
    let mut missing = 0;
    for some in numbers.chunks(1000) {
        let keys: Vec<String> = some.iter().map(|number| key(*number)).collect();
        let argv: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
        let Reply::Array(values) = client.call(&argv)? else { bail!("MGET gives no array") };
        missing += values.iter().filter(|value| **value == Reply::Bulk(None)).count();
    }
    Ok(missing)
}

/// Debian's Sentinels; each knows the others and the replicas when `start` returns.
struct Sentinels {
    children: Vec<Child>,
    ports: Vec<u16>,
    _dirs: Vec<TempDir>,
}

impl Sentinels {
    fn start(primary: u16) -> Result<Sentinels> {
        let program = peers::tool("redis-sentinel")?;
        let mut sentinels = Sentinels { children: Vec::new(), ports: Vec::new(), _dirs: Vec::new() };
        for _ in 0..SENTINELS {
            let (dir, port) = (TempDir::new("sentinel")?, free_port()?);
            let config = dir.path().join("sentinel.conf");
            let settings = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 10000\n\
                 sentinel parallel-syncs {NAME} {REPLICAS}\n",
                dir.path().display()
            );
            fs::write(&config, settings)?;
            let log = File::create(dir.path().join("sentinel.log"))?;
            let mut command = Command::new(&program);
            command.arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            sentinels.children.push(command.spawn().context("starting redis-sentinel")?);
            sentinels.ports.push(port);
            sentinels._dirs.push(dir);
        }
        traffic::wait_for("the Sentinels know everybody", LIMIT, Duration::from_millis(50), || {
            Ok(sentinels.ports.iter().all(|port| knows_everybody(*port).unwrap_or(false)))
        })?;
        Ok(sentinels)
    }

    /// The port that the first of them to answer names.
    fn primary(&self) -> Option<u16> {
        self.ports.iter().find_map(|port| {
            let mut client = Client::connect(*port).ok()?;
            let Ok(Reply::Array(address)) = client.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])
            else {
                return None;
            };
            text(address.get(1)?).parse().ok()
        })
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn knows_everybody(port: u16) -> Result<bool> {
    let Reply::Array(fields) = Client::connect(port)?.call(&["SENTINEL", "MASTER", NAME])? else {
        return Ok(false);
    };
    let is = |name: &str, value: usize| {
        fields.chunks_exact(2).any(|pair| text(&pair[0]) == name && text(&pair[1]) == value.to_string())
    };
    Ok(is("num-slaves", REPLICAS) && is("num-other-sentinels", SENTINELS - 1))
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}
