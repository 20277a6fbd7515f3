//! What the engine needs from the world, injected: the real clock and entropy in the server, virtual ones in `sim`.

use std::io;
use std::path::Path;

/// Clocks, randomness, and files that are written or read as a whole while everything waits. The engine never asks the operating system itself.
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
}
