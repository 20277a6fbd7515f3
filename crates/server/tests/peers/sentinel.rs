//! Three real Sentinels over a primary and its replicas, quick to notice and to act.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::bed::{Bed, Server, tool};
use super::client::{Client, Reply};
use super::tls::Trust;
use super::wait::wait_for;

/// What the Sentinels call the primary that they watch.
const NAME: &str = "family";

const COUNT: usize = 3;

/// How long they may take for anything, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Sentinels {
    ports: Vec<u16>,
}

impl Sentinels {
    /// Starts them, and waits until each knows the others and all replicas; `None`, with a word about it, if the program
    /// is not there. `primary` is the port that it is watched by; with `trust` all speak TLS with each other.
    pub fn start(bed: &mut Bed, primary: u16, replicas: usize, trust: Option<&Trust>) -> Option<Sentinels> {
        let program = tool("KINDRED_PEER_SENTINEL")?;
        let sentinels = Sentinels { ports: (0..COUNT).map(|_| bed.free_port()).collect() };
        for port in &sentinels.ports {
            let dir = bed.new_dir("sentinel");
            let config = dir.join("sentinel.conf");
            let mut settings = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nenable-debug-command yes\n\
                 sentinel monitor {NAME} 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds {NAME} 2000\n\
                 sentinel failover-timeout {NAME} 10000\nsentinel parallel-syncs {NAME} 2\n",
                dir.display()
            );
            for (name, value) in trust.map_or(Vec::new(), |trust| trust.options(bed.free_port())) {
                settings += &format!("{name} {value}\n");
            }
            fs::write(&config, settings).expect("a configuration file");
            bed.keep(spawn(&program, &config));
        }
        for port in &sentinels.ports {
            wait_for(LIMIT, "they answer", || Client::connect(*port).is_ok());
            let mut client = Client::connect(*port).expect("it has just answered");
            // The period of PING stays: a replica heard of longer than five of them ago is no candidate, while INFO is
            // asked of it each second whatever is set.
            client.ok("SENTINEL DEBUG ask-period 200 info-period 500 publish-period 300");
            wait_for(LIMIT, "they know each other and the replicas", || {
                let told = client.ok(&format!("SENTINEL MASTER {NAME}")).array();
                let field = |name: &str| {
                    let place = told.chunks(2).find(|pair| pair[0].text() == name);
                    place.map_or(String::new(), |pair| pair[1].text())
                };
                field("flags") == "master"
                    && field("num-slaves") == replicas.to_string()
                    && field("num-other-sentinels") == (COUNT - 1).to_string()
            });
        }
        Some(sentinels)
    }

    /// Waits until all of them name the server on `primary` as the primary.
    pub fn wait_for_primary(&self, primary: u16) {
        for port in &self.ports {
            let mut client = Client::connect(*port).expect("a Sentinel answers");
            wait_for(LIMIT, "they agree on the new primary", || {
                let address = client.ok(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}")).array();
                address[1].text() == primary.to_string()
            });
        }
    }
}

/// Waits until the server is a replica of the one on `primary`. Each look is a connection of its own: Sentinel closes those
/// that it finds when it gives a server its role.
pub fn wait_for_role(server: &Server, primary: u16) {
    let line = format!("\r\nmaster_port:{primary}\r\n");
    wait_for(LIMIT, "the server is made a replica", || {
        let told =
            Client::connect(server.port).and_then(|mut client| client.try_argv(&["INFO", "replication"]));
        matches!(told, Ok(Reply::Bulk(Some(bytes))) if String::from_utf8_lossy(&bytes).contains(&line))
    });
}

fn spawn(program: &Path, config: &Path) -> std::process::Child {
    let log = File::create(config.with_extension("log")).expect("a log file");
    let mut command = Command::new(program);
    command.arg(config).stdin(Stdio::null());
    command.stderr(log.try_clone().expect("a second handle on the log")).stdout(log);
    command.spawn().expect("Sentinel starts")
}
