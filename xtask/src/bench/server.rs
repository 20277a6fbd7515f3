//! One server process for one measurement: on a free loopback port, in a directory of its own, ended by its pid.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Client, Reply};
use crate::workspace::TempDir;
use crate::{process, workspace};

/// What kind of command line and configuration a server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// The server under test; redis's command line.
    Subject,
    Redis,
    Valkey,
    Kevy,
}

#[derive(Clone, Debug)]
pub struct Kind {
    /// Column title, such as `redis 7.0.15`.
    pub title: String,
    pub flavor: Flavor,
    pub path: PathBuf,
}

impl Kind {
    /// The servers in C that ratios are taken against.
    pub fn is_c_peer(&self) -> bool {
        matches!(self.flavor, Flavor::Redis | Flavor::Valkey)
    }

    /// Whether it replicates and writes RDB files.
    pub fn replicates(&self) -> bool {
        self.flavor != Flavor::Kevy
    }
}

pub struct Server {
    child: Child,
    pub port: u16,
    dir: TempDir,
}

/// How long a server may take until it answers; loading a big file counts.
const START_LIMIT: Duration = Duration::from_secs(120);

impl Server {
    /// Starts a server and waits until it answers PING. `core` pins it; `options` are `--name value` pairs of redis's command
    /// line, which kevy does not get.
    pub fn start(kind: &Kind, core: Option<usize>, options: &[&str]) -> Result<Server> {
        Server::start_in(kind, core, options, TempDir::new("bench")?)
    }

    /// As `start`, in a directory that may hold a dump.rdb.
    pub fn start_in(kind: &Kind, core: Option<usize>, options: &[&str], dir: TempDir) -> Result<Server> {
        let port = free_port()?;
        let mut command = match core {
            Some(core) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["--cpu-list", &core.to_string()]).arg(&kind.path);
                taskset
            }
            None => Command::new(&kind.path),
        };
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(dir.path());
        match kind.flavor {
            Flavor::Kevy => command.args(["--threads", "1", "--no-aof"]),
            _ => command.args(["--save", ""]).args(options),
        };
        let log = File::create(dir.path().join("server.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(dir.path());
        let child = command.spawn().with_context(|| format!("starting {}", kind.path.display()))?;
        let mut server = Server { child, port, dir };
        server.wait_until_ready().with_context(|| format!("{} does not get ready", kind.title))?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Ok(mut client) = Client::connect(self.port)
                && matches!(client.call(&["PING"]), Ok(Reply::Simple(pong)) if pong == "PONG")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
                bail!("it ended with {status}:\n{log}");
            }
            if started.elapsed() > START_LIMIT {
                bail!("no PONG in {} s", START_LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }

    pub fn cpu_ns(&self) -> Result<u64> {
        process::cpu_ns(self.pid())
    }

    /// Ends the server and gives back its directory with what it wrote there.
    pub fn into_dir(mut self) -> Result<TempDir> {
        self.kill();
        Ok(std::mem::replace(&mut self.dir, TempDir::new("bench")?))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The servers of a measurement in column order: the server under test, if there is one, another build of it, then the peers.
pub fn kinds(server: Option<PathBuf>, also: Option<PathBuf>, peers: &[String]) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    let subject = match server {
        Some(path) => Some(std::path::absolute(path)?),
        None => workspace::build_server()?,
    };
    match subject {
        Some(path) => kinds.push(Kind { title: subject_title(&path)?, flavor: Flavor::Subject, path }),
        None => eprintln!(
            "the workspace has no kindred-server yet and no --server is given: measuring the peers alone"
        ),
    }
    if let Some(also) = also {
        let path = std::path::absolute(also)?;
        kinds.push(Kind { title: format!("also: {}", subject_title(&path)?), flavor: Flavor::Subject, path });
    }
    for id in peers {
        let peer = crate::peers::Peer::by_id(id)?;
        let flavor = match peer.name {
            "redis" => Flavor::Redis,
            "valkey" => Flavor::Valkey,
            _ => Flavor::Kevy,
        };
        let path = crate::peers::fetch_one(id)?;
        kinds.push(Kind { title: format!("{} {}", peer.name, peer.version), flavor, path });
    }
    Ok(kinds)
}

fn subject_title(path: &std::path::Path) -> Result<String> {
    let said =
        process::output(Command::new(path).arg("--version")).with_context(|| path.display().to_string())?;
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or_default();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(format!("{name} {version}").trim_end().to_owned())
}
