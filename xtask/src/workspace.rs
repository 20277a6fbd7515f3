//! Where things lie: the workspace, the cache of what was downloaded, and the directory for results.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The workspace's root. Cargo says where it runs us from; a binary started by hand falls back on where it was built.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest).parent().expect("xtask lies one level below the workspace").to_owned()
}

/// Downloads and what is unpacked from them. `KINDRED_CACHE` moves it, so that several work trees can share one.
pub fn cache() -> PathBuf {
    std::env::var_os("KINDRED_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from)
}

pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the server that is under test unless `--server` names another. `None` while the workspace has none.
pub fn build_server() -> Result<Option<PathBuf>> {
    if !has_server() {
        return Ok(None);
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--package", "kindred-server", "--bin", "kindred-server"]);
    process::run(cargo.current_dir(root()))?;
    Ok(Some(target().join("release/kindred-server")))
}

/// Whether the workspace has the program `kindred-server` yet, not only its library.
pub fn has_server() -> bool {
    let dir = root().join("crates/server");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    manifest.contains("[[bin]]") || dir.join("src/main.rs").exists()
}

/// Takes the lock file `name` in the cache, waiting for whoever holds it. Released on drop.
pub fn lock(name: &str) -> Result<File> {
    let dir = cache();
    fs::create_dir_all(&dir)?;
    let path = dir.join(name);
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("another run holds {name}: waiting for it");
        file.lock()?;
    }
    Ok(file)
}

/// A directory of our own under the system's temporary directory, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(label: &str) -> Result<TempDir> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kindred-{label}-{}-{n}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(TempDir(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the directory in place, for whoever must look into it.
    pub fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
