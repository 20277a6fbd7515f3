//! The one log of writes.
//!
//! Every write is appended once, as RESP, and every reader (the backlog window, each replica's send
//! cursor, later the append-only file) reads the same bytes by offset. Offsets count as Redis counts
//! them: `master_repl_offset` is the offset of the last byte, the first byte ever written has offset 1,
//! and a replica that holds everything up to `n` asks for `n + 1`.
//!
//! The engine owns the [`Log`]; it alone appends and trims. Blocks that are full are sealed and shared
//! by reference count, so that another thread can hold and send them. An offset means nothing without
//! the history it counts in: outside this crate it travels as a [`Position`].

mod blocks;
mod position;
mod spill;

pub use blocks::{
    BACKLOG_BYTES_MIN, Chunk, DiskState, Log, LogMemory, LogWindow, Slices, TIME_MEMORY_MAX, TRIM_BLOCKS_MAX,
};
pub use position::{Position, REPL_ID_LEN, ReplId, ReplIdError};
pub use spill::{READ_AHEAD_BYTES, Spill, SpillRequest, SpilledBytes};
