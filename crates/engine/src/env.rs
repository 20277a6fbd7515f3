//! What the engine needs from the world, injected: the real clock and entropy in the server, virtual ones in `sim`.

use std::io;
use std::path::Path;

use crate::config::Config;
use crate::oom_score::OomScore;
use crate::params::Rewrite;

/// Clocks, randomness, files that are written or read as a whole while everything waits, and what little else must be
/// asked of the operating system at once. The engine never asks the operating system itself.
pub trait Env {
    /// Wall clock, milliseconds since the epoch; may jump.
    fn unix_ms(&self) -> i64;
    /// Monotonic clock in microseconds; the origin is arbitrary. Called about once per command: must be cheap.
    fn monotonic_us(&self) -> u64;
    /// Uniformly distributed bits.
    fn random(&mut self) -> u64;
    fn process_id(&self) -> u32;
    /// Bytes allocated by the process: `used_memory`.
    fn used_memory(&self) -> u64;
    /// Writes a file in pieces to `temp`, flushes it to the disk and gives it its name `path`: either all of it is
    /// there, or what was there before. `produce` appends the next piece and says whether more follow; its error ends
    /// the attempt. Gives the length in bytes.
    fn write_file_atomically(
        &mut self,
        temp: &Path,
        path: &Path,
        produce: &mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
    ) -> io::Result<u64>;
    /// Reads a file in pieces of any size; an error of `take` ends that and is given back as it is.
    fn read_file(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Blocks the calling thread: `DEBUG SLEEP`. A virtual clock may move on instead.
    fn sleep(&mut self, _micros: u64) {}

    /// Whether `path` is a directory that files can be kept in: its absolute form, or the operating system's reason.
    fn directory(&mut self, path: &str) -> Result<String, String> {
        Ok(path.to_owned())
    }

    /// Makes room for so many clients: `CONFIG SET maxclients`. The error is how many the operating system allows.
    fn allow_clients(&mut self, _clients: u64) -> Result<(), u64> {
        Ok(())
    }

    /// Listens where `new` says instead of where `old` says: `CONFIG SET port`, `tls-port` and `bind`. After an error, the reason
    /// of which is for the log, everything is as before.
    fn listen(&mut self, _old: &Config, _new: &Config) -> Result<(), String> {
        Ok(())
    }

    /// Encrypts as `config` says from the next connection on; files are read, also where their names are the same. The
    /// error is the reason; then everything is as before.
    fn configure_tls(&mut self, _config: &Config) -> Result<(), String> {
        Ok(())
    }

    /// Makes the kernel kill this process earlier or later when memory runs out; with none, as at the start. The error is
    /// a line for the log.
    fn adjust_oom_score(&mut self, _wanted: Option<OomScore>) -> Result<(), String> {
        Ok(())
    }

    /// Puts the settings that `rows` name into the configuration file at `path`, as `CONFIG REWRITE` does it.
    fn rewrite_config(&mut self, _path: &Path, _rows: &[Rewrite]) -> Result<(), String> {
        Err("there is no configuration file here".to_owned())
    }

    /// The allocator's own report: `MEMORY MALLOC-STATS`. `None` if it has none.
    fn allocator_report(&self) -> Option<String> {
        None
    }

    /// Asks the allocator to give free pages back to the operating system: `MEMORY PURGE`. False if it could not.
    fn purge_allocator(&mut self) -> bool {
        true
    }

    /// What `INFO` tells of the process. Costs system calls.
    fn process(&self) -> ProcessFacts {
        ProcessFacts::default()
    }
}

/// The process and its machine as `INFO` shows them; zero and empty where nobody knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessFacts {
    /// System name, release and machine, as `uname -srm` prints them.
    pub os: String,
    pub executable: String,
    pub allocator: String,
    /// `epoll` and its like.
    pub multiplexer: String,
    pub monotonic_clock: String,
    pub rss_bytes: u64,
    pub system_memory_bytes: u64,
    /// What the allocator has taken from the operating system; 0 if it does not tell.
    pub allocator_active_bytes: u64,
    /// Used memory right after the start.
    pub startup_bytes: u64,
    pub cpu: CpuTimes,
}

/// Processor time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub system_us: u64,
    pub user_us: u64,
    pub system_children_us: u64,
    pub user_children_us: u64,
    pub system_main_thread_us: u64,
    pub user_main_thread_us: u64,
}
