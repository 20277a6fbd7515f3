//! Real Sentinels over a primary that is killed under load: they promote the replica whose priority says so, the others
//! follow it, the killed one too when it comes back, and no write is missing that must not be.

mod peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use peers::agree::assert_same;
use peers::sentinel::{Sentinels, wait_for_role};
use peers::tls::Trust;
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Client, Kind, Reply, Server};

/// Replicas that a write must have reached before it may not be lost with the primary: all, since Sentinel does not ask
/// which of them has what.
const REPLICAS: usize = 2;

/// One numbered write after the other, each acknowledged by the server and then waited for.
struct Ledger {
    target: Arc<AtomicU16>,
    kept: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Entry>>,
}

/// A write that the server on `port` has accepted.
struct Entry {
    number: u64,
    port: u16,
    reached_all: bool,
}

impl Ledger {
    fn start(port: u16) -> Ledger {
        let (target, kept, ended) =
            (Arc::new(AtomicU16::new(port)), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&target), Arc::clone(&kept), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let (target, kept, ended) = shared;
            let mut entries = Vec::new();
            let mut connection: Option<(u16, Client)> = None;
            for number in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let port = target.load(Ordering::Relaxed);
                if connection.as_ref().is_none_or(|(known, _)| *known != port) {
                    connection = Client::connect(port).ok().map(|client| (port, client));
                }
                match connection.as_mut().map(|(_, client)| write(client, number)) {
                    Some(Some(reached_all)) => {
                        entries.push(Entry { number, port, reached_all });
                        kept.store(entries.len() as u64, Ordering::Relaxed);
                    }
                    _ => {
                        connection = None;
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            entries
        });
        Ledger { target, kept, ended, thread }
    }

    fn wait_for_more(&self, writes: u64) {
        let goal = self.kept.load(Ordering::Relaxed) + writes;
        let since = Instant::now();
        while self.kept.load(Ordering::Relaxed) < goal {
            assert!(since.elapsed() < Duration::from_secs(60), "no writes are accepted");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn turn_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    fn end(self) -> Vec<Entry> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the ledger is kept to its end")
    }
}

/// Whether the write reached all replicas; `None` if it was not accepted.
fn write(client: &mut Client, number: u64) -> Option<bool> {
    let (key, value) = (format!("ledger:{number}"), number.to_string());
    let accepted = client.try_argv(&["SET", &key, &value]).ok()?;
    if accepted != Reply::Simple("OK".into()) {
        return None;
    }
    let reached = client.try_argv(&["WAIT", &REPLICAS.to_string(), "50"]);
    Some(matches!(reached, Ok(Reply::Int(replicas)) if replicas >= REPLICAS as i64))
}

/// A server of the family. The others and Sentinel know it by `address`, its TLS port if it has one.
struct Member {
    server: Server,
    address: u16,
}

fn start(bed: &mut Bed, kind: Kind, trust: Option<&Trust>, more: &[(&str, &str)]) -> Member {
    match trust {
        Some(trust) => {
            let (server, address) = trust.start(bed, kind, more);
            Member { server, address }
        }
        None => {
            let server = bed.start(kind, more);
            Member { address: server.port, server }
        }
    }
}

fn failover_after_kill(primary: Kind, heir: Kind, sibling: Kind) {
    failover(primary, heir, sibling, false);
}

fn failover(primary: Kind, heir: Kind, sibling: Kind, encrypted: bool) {
    let Some(mut bed) = Bed::new(Duration::from_secs(180), &[primary, heir, sibling]) else { return };
    let trust = encrypted.then(|| Trust::new(&mut bed, "authority"));
    let trust = trust.as_ref();
    let Member { server: primary, address } = start(&mut bed, primary, trust, &[]);
    let Member { server: heir, address: heirs_address } =
        start(&mut bed, heir, trust, &[("replica-priority", "10")]);
    let Member { server: sibling, .. } = start(&mut bed, sibling, trust, &[]);
    pour(&mut primary.client(), &mut Writes::new(30), 10_000);
    for replica in [&heir, &sibling] {
        replica.follow(address);
        assert_same(&primary, replica, "before the failover");
    }
    let Some(sentinels) = Sentinels::start(&mut bed, address, REPLICAS, trust) else { return };
    let load = Writer::start(primary.port, 31, Duration::from_millis(5));
    let ledger = Ledger::start(primary.port);
    load.wait_for_more(2000);
    ledger.wait_for_more(50);

    load.be_patient();
    primary.kill();
    sentinels.wait_for_primary(heirs_address);
    ledger.turn_to(heir.port);
    load.turn_to(heir.port);
    load.wait_for_more(2000);
    ledger.wait_for_more(50);
    wait_for_role(&sibling, heirs_address);

    // It comes back as a primary, and with nothing: what Sentinel makes of it is what counts.
    let options = trust.map_or(Vec::new(), |trust| trust.options(address));
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (&**name, &**value)).collect();
    let returned = bed.revive(primary, &options);
    wait_for_role(&returned, heirs_address);
    load.wait_for_more(2000);
    load.pause();
    let entries = ledger.end();
    for replica in [&sibling, &returned] {
        assert_same(&heir, replica, "after the old primary's return");
    }

    let mut client = heir.client();
    let (mut before, mut after) = (0, 0);
    for entry in entries.iter().filter(|entry| entry.reached_all || entry.port == heir.port) {
        *(if entry.port == heir.port { &mut after } else { &mut before }) += 1;
        let value = client.ok(&format!("GET ledger:{}", entry.number));
        assert_eq!(value, Reply::Bulk(Some(entry.number.to_string().into_bytes())), "a write is lost");
    }
    assert!(
        before > 0 && after > 0,
        "{before} writes before the failover and {after} after it prove nothing"
    );
}

#[test]
fn kindred_to_kindred() {
    failover_after_kill(Kind::Kindred, Kind::Kindred, Kind::Kindred);
}

#[test]
fn kindred_to_redis70() {
    failover_after_kill(Kind::Kindred, Kind::Redis70, Kind::Kindred);
}

#[test]
fn redis70_to_kindred() {
    failover_after_kill(Kind::Redis70, Kind::Kindred, Kind::Redis70);
}

/// Everybody speaks TLS with everybody: Sentinels with each other and with the servers, and those among themselves.
#[test]
fn kindred_to_kindred_encrypted() {
    failover(Kind::Kindred, Kind::Kindred, Kind::Kindred, true);
}

#[test]
fn redis70_to_kindred_encrypted() {
    failover(Kind::Redis70, Kind::Kindred, Kind::Redis70, true);
}
