//! How far behind a replica is: how long a message that is published on the primary takes to a subscriber of its replica, while
//! writes go on. The message goes through the stream behind the writes, so it arrives when they are applied.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::server::{Flavor, Kind, Server};
use super::table::{Better, Table, quantile};
use super::{Options, fullsync, traffic};
use crate::client::{Client, Reply};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const WRITES_PER_SECOND: u64 = 100_000;
const SECONDS: u64 = 20;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);
const LAST: &[u8] = b"last";

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let title = format!("Lag of a replica under {WRITES_PER_SECOND} writes/s of {VALUE_BYTES} B, ms");
    let mut table = Table::new(&title, Better::Less, 3, kinds);
    for _ in 0..options.runs() {
        for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
            match measure(kind, Duration::from_secs(options.scaled(SECONDS))) {
                Ok(lags) => {
                    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                        table.add(name, column, quantile(&lags, q));
                    }
                }
                Err(error) => eprintln!("lag: {}: {error:#}", kind.title),
            }
            eprintln!("measured: lag: {}", kind.title);
        }
    }
    Ok(vec![table])
}

/// Sorted lags in milliseconds. Nothing is pinned.
fn measure(kind: &Kind, duration: Duration) -> Result<Vec<f64>> {
    let settings: &[&str] = match kind.flavor {
        Flavor::Subject => &[],
        _ => &["--repl-diskless-sync-delay", "0"],
    };
    let primary = Server::start(kind, None, settings)?;
    traffic::fill_strings(primary.port, KEYS, VALUE_BYTES, traffic::key)?;
    let replica = Server::start(kind, None, settings)?;
    fullsync::attach(&primary, &replica, LIMIT)?;
    let mut subscriber = replica.client()?;
    subscriber.queue(&[b"SUBSCRIBE", b"lag"]);
    subscriber.flush()?;
    subscriber.skip(1)?;

    let origin = Instant::now();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let started = Instant::now();
            let sent = traffic::write_at_rate(primary.port, WRITES_PER_SECOND, KEYS, VALUE_BYTES, &stop)?;
            Ok::<_, anyhow::Error>(sent as f64 / started.elapsed().as_secs_f64())
        });
        let receiver = scope.spawn(|| receive(&mut subscriber, origin));
        std::thread::sleep(WARM_UP);
        let published = publish(primary.port, origin, duration);
        stop.store(true, Ordering::Relaxed);
        let rate = writer.join().expect("the writer does not panic").context("the writer")?;
        published.context("publishing")?;
        let mut lags = receiver.join().expect("the receiver does not panic").context("the subscriber")?;
        ensure!(rate > 0.95 * WRITES_PER_SECOND as f64, "only {rate:.0} writes/s were accepted");
        lags.sort_by(f64::total_cmp);
        Ok(lags)
    })
}

/// Publishes the time since `origin`, in nanoseconds, each millisecond.
fn publish(port: u16, origin: Instant, duration: Duration) -> Result<()> {
    let mut client = Client::connect(port)?;
    let mut send = |message: &[u8]| {
        client.queue(&[b"PUBLISH", b"lag", message]);
        client.flush()?;
        client.skip(1)
    };
    let started = Instant::now();
    while started.elapsed() < duration {
        send(origin.elapsed().as_nanos().to_string().as_bytes())?;
        std::thread::sleep(Duration::from_millis(1));
    }
    send(LAST)
}

fn receive(subscriber: &mut Client, origin: Instant) -> Result<Vec<f64>> {
    let mut lags = Vec::new();
    loop {
        let Reply::Array(message) = subscriber.reply()? else { bail!("not a message") };
        let now = origin.elapsed();
        let Some(Reply::Bulk(Some(text))) = message.last() else { bail!("a message without a payload") };
        if text == LAST {
            return Ok(lags);
        }
        let sent = Duration::from_nanos(std::str::from_utf8(text)?.parse()?);
        lags.push((now - sent).as_secs_f64() * 1000.0);
    }
}
