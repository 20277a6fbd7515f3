//! What the engine needs from the world, injected: the real clock and entropy in the server, virtual ones in `sim`.

/// Clocks and randomness. The engine never asks the operating system itself.
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
}
