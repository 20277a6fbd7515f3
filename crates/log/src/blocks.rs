//! The bytes of the log, in blocks.
//!
//! ```text
//!   first()                                                     end()
//!     | sealed block | sealed block | sealed block | tail ...... |
//!                ^ cursor of a slow replica                      ^ cursor of a replica that keeps up
//! ```
//!
//! The tail is writable by the owner only. When it is full it is sealed: from then on it never changes and
//! is shared by reference count. Trimming lets go of whole blocks at the front, as Redis 7's shared
//! replication buffer does, and only when the window stays at least as long as the configured backlog and
//! no reader needs the block. The last block that was let go is used again as the next tail, so that a log
//! in its steady state allocates nothing.
//!
//! Where the log may live on disk ([`Log::set_disk`]), blocks that memory has no room for go to a file before they are
//! let go of for good:
//!
//! ```text
//!   start()                 memory_start()                       end()
//!     | in the file ........... | sealed block | sealed block | tail |
//!       within the disk's bytes   within the backlog
//! ```
//!
//! Without a disk for the window that file has what readers still need and memory is not to hold for them.
//!
//! Appending knows nothing of that: [`Log::trim`], which lets go of blocks, moves them. A disk that fails or cannot keep
//! up makes the window shorter, and nothing else: the log goes on as if it had no disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::spill::{Spill, SpillRequest, SpilledBytes};

/// The smallest backlog that can be configured (`repl-backlog-size`), in bytes.
pub const BACKLOG_BYTES_MIN: u64 = 16 * 1024;

/// How many blocks one [`Log::trim`] lets go of at most, so that it never becomes a pause: 4 to 16 MiB, fractions of a
/// millisecond. Who sees that a replica is gone expects its few megabytes to be gone, too.
pub const TRIM_BLOCKS_MAX: usize = 256;

/// What a log without a disk holds at most to reach back for a time that was asked for ([`Log::reach_back_to`]), if the
/// backlog is not larger.
pub const TIME_MEMORY_MAX: u64 = 256 << 20;

/// What replicas lag behind with is held in memory up to so many bytes beyond the backlog before it goes to the disk, so
/// that the lag of every day causes no traffic. Redis's unit/maxmemory wants to see more than 2 MiB in memory for a replica
/// that stands still.
const LAG_MEMORY_MAX: u64 = 2 << 20;

/// Bytes that are handed to the disk and not written.
const WRITING_BYTES_MAX: usize = 4 << 20;

/// Bytes beyond the backlog that wait for the disk: then it is too slow. A burst is to find room.
const BEHIND_BYTES_MAX: u64 = 128 << 20;

const BLOCK_BYTES_MIN: usize = 16 * 1024;
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Room past the nominal end of a block, so that a command that straddles it does not move the block.
const BLOCK_SLACK_BYTES: usize = 1024;

/// Blocks with their slack are multiples of this: sizes that the allocator has, so that what a block holds is what it
/// takes. With 1 KB more each would take a quarter more than the log knows of.
const BLOCK_STEP_BYTES: usize = 16 * 1024;

/// What a block costs beside its bytes and its place in the queue: the counted vector that holds them. Allocators have
/// sizes in steps of 16 bytes.
const BLOCK_OVERHEAD_BYTES: usize = (size_of::<Vec<u8>>() + 2 * size_of::<usize>()).next_multiple_of(16);

/// The retained part of the log, as INFO shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogWindow {
    /// `repl_backlog_first_byte_offset`: offset of the oldest byte held, or of the next byte to come when
    /// none is held.
    pub first: u64,
    /// `repl_backlog_histlen`: how many bytes are held.
    pub len: u64,
}

/// Where the memory of the log goes, in bytes, by the rules of Redis 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogMemory {
    /// `mem_total_replication_buffers`: everything held.
    pub total: usize,
    /// `mem_replication_backlog`: the part within the configured backlog.
    pub backlog: usize,
    /// `mem_clients_slaves`: the part beyond it, which is there for replicas only.
    pub replicas: usize,
    /// What does not count against `maxmemory`: evicting keys grows the log, so it must not cause eviction.
    pub not_counted_for_evict: usize,
}

/// Bytes of the log that outlive the log's own trimming: a part of one sealed block.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Offset of the first byte.
    pub first: u64,
    bytes: Arc<Vec<u8>>,
    skip: usize,
}

/// Consecutive slices of the log, oldest first; see [`Log::read`].
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    older: SpilledBytes<'a>,
    sealed: std::collections::vec_deque::Iter<'a, Block>,
    tail: Option<&'a [u8]>,
    skip: usize,
}

/// Append-only bytes addressed by replication offset.
#[derive(Debug)]
pub struct Log {
    /// What is before the sealed blocks: in the file, or on its way.
    older: Spill,
    sealed: VecDeque<Block>,
    tail: Vec<u8>,
    /// Offset of the first byte in the tail, or of the next byte to come when the tail is empty.
    tail_first: u64,
    backlog_bytes: u64,
    disk: Disk,
    /// [`LAG_MEMORY_MAX`] but in tests and in the simulator.
    lag_memory_max: u64,
    /// The first byte that is young enough to be held, where a time was asked for.
    young_from: Option<u64>,
    block_bytes: usize,
    /// Sum of the capacities of all blocks and the tail.
    allocated: usize,
    active: bool,
    /// An empty vector kept from a trimmed block.
    spare: Option<Vec<u8>>,
}

/// The file that the log may use.
#[derive(Clone, Copy, Debug)]
struct Disk {
    /// For the window.
    window_bytes: u64,
    /// For what readers need.
    lag_bytes: u64,
    state: DiskState,
}

/// Whether the log may be kept on the disk just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    Works,
    /// Something could not be written.
    Failed,
    /// It takes less than is written.
    Behind,
}

#[derive(Clone, Debug)]
struct Block {
    first: u64,
    bytes: Arc<Vec<u8>>,
}

impl LogWindow {
    /// Offset of the last byte held (`first - 1` when empty).
    pub fn end(self) -> u64 {
        self.first + self.len - 1
    }

    /// Whether a reader that wants the byte at `next`, and all after it, can be served.
    pub fn covers(self, next: u64) -> bool {
        self.first <= next && next <= self.first + self.len
    }
}

impl Log {
    /// An inactive log at offset 0. `backlog_bytes` is raised to [`BACKLOG_BYTES_MIN`].
    pub fn new(backlog_bytes: u64) -> Log {
        let mut log = Log {
            older: Spill::default(),
            sealed: VecDeque::new(),
            tail: Vec::new(),
            tail_first: 1,
            backlog_bytes: 0,
            disk: Disk { window_bytes: 0, lag_bytes: 0, state: DiskState::Works },
            lag_memory_max: LAG_MEMORY_MAX,
            young_from: None,
            block_bytes: 0,
            allocated: 0,
            active: false,
            spare: None,
        };
        log.set_capacity(backlog_bytes);
        log
    }

    /// Whether writes are recorded. A server without replicas keeps no log, and its offset stands still.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Begins to record, with an empty window after the current offset. No effect on an active log. The first block is
    /// there at once: a first write that allocated it could be what has keys evicted.
    pub fn activate(&mut self) {
        self.active = true;
        self.prepare_tail();
    }

    /// Stops recording and lets go of all bytes; the offset stays. Whoever calls this while the data may
    /// still change must also take a new history id, or a stale replica could continue wrongly.
    pub fn deactivate(&mut self) {
        self.active = false;
        self.reset(self.end());
        self.spare = None;
    }

    /// Appends `bytes` and moves the offset on; an inactive log ignores them, as Redis does.
    pub fn append(&mut self, mut bytes: &[u8]) {
        if !self.active {
            return;
        }
        loop {
            self.prepare_tail();
            let room = self.block_bytes - self.tail.len();
            if bytes.len() <= room {
                self.tail.extend_from_slice(bytes);
                break;
            }
            let (now, later) = bytes.split_at(room);
            self.tail.extend_from_slice(now);
            bytes = later;
            self.seal();
        }
        if self.tail.len() == self.block_bytes {
            self.seal();
        }
    }

    /// Appends what `write` puts at the end of the buffer that it is given; it must leave what is there
    /// alone. Meant for encoding a command in place. Bytes that exist already are better given to
    /// [`Log::append`], which splits them without growing a block.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.active {
            return;
        }
        self.prepare_tail();
        let before = self.tail.len();
        let capacity = self.tail.capacity();
        write(&mut self.tail);
        assert!(self.tail.len() >= before, "a writer only adds to the log");
        let mut overflow = Vec::new();
        if self.tail.len() > self.block_bytes + BLOCK_SLACK_BYTES {
            // One huge command must not become one huge block, which could only be trimmed as a whole.
            overflow = self.tail.split_off(self.block_bytes);
            self.tail.shrink_to(self.block_bytes + BLOCK_SLACK_BYTES);
        }
        self.allocated = self.allocated - capacity + self.tail.capacity();
        if self.tail.len() >= self.block_bytes {
            self.seal();
        }
        if !overflow.is_empty() {
            self.append(&overflow);
        }
    }

    /// Offset of the oldest byte held, or of the next to come when none is.
    pub fn start(&self) -> u64 {
        if self.older.is_empty() { self.memory_start() } else { self.older.start() }
    }

    /// Offset of the oldest byte that is not in the file, nor on its way there.
    pub fn memory_start(&self) -> u64 {
        self.sealed.front().map_or(self.tail_first, |block| block.first)
    }

    /// Offset of the last byte written: `master_repl_offset`.
    pub fn end(&self) -> u64 {
        self.tail_first + self.tail.len() as u64 - 1
    }

    /// The retained window, or `None` while the log is inactive.
    pub fn window(&self) -> Option<LogWindow> {
        let first = self.start();
        self.active.then(|| LogWindow { first, len: self.end() + 1 - first })
    }

    /// The bytes from offset `from` to the end, as slices for a vectored write. `None` when `from` is no
    /// longer held or lies beyond the next byte to come. They end where the first byte is that is in the file only:
    /// [`Log::attend`] has it read.
    pub fn read(&self, from: u64) -> Option<Slices<'_>> {
        if let Some((number, skip)) = self.older.find(from) {
            let (older, sealed) = (self.older.bytes_from(number), self.sealed.iter());
            return Some(Slices { older, sealed, tail: Some(&self.tail), skip });
        }
        let (block, skip) = self.locate(from)?;
        let (older, sealed) = (self.older.bytes_from(self.older.next()), self.sealed.range(block..));
        Some(Slices { older, sealed, tail: Some(&self.tail), skip })
    }

    /// Offset from which on all is in memory.
    pub fn held_from(&self) -> u64 {
        match self.older.held_at_end() as u64 {
            0 => self.memory_start(),
            held => self.older.start_of(self.older.next() - held),
        }
    }

    /// The sealed bytes from offset `from` on, as parts that another thread can hold. What is still in the
    /// tail is left out (call [`Log::seal_tail`] first to have all). `None` as for [`Log::read`], and when `from` is in
    /// the file.
    pub fn chunks(&self, from: u64) -> Option<impl Iterator<Item = Chunk> + '_> {
        let (first_block, skip) = self.locate(from)?;
        Some(self.sealed.range(first_block..).enumerate().map(move |(index, block)| {
            let skip = if index == 0 { skip } else { 0 };
            Chunk { first: block.first + skip as u64, bytes: Arc::clone(&block.bytes), skip }
        }))
    }

    /// Makes the tail immutable and shareable; the next append begins a new one.
    pub fn seal_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        if self.tail.len() < self.block_bytes / 2 {
            self.allocated -= self.tail.capacity();
            self.tail.shrink_to_fit();
            self.allocated += self.tail.capacity();
        }
        self.seal();
    }

    /// The configured backlog (`repl-backlog-size`), in bytes.
    pub fn capacity(&self) -> u64 {
        self.backlog_bytes
    }

    /// Sets the backlog; the next [`Log::trim`] obeys it.
    pub fn set_capacity(&mut self, backlog_bytes: u64) {
        self.backlog_bytes = backlog_bytes.max(BACKLOG_BYTES_MIN);
        let sixteenth = usize::try_from(self.backlog_bytes / 16).unwrap_or(usize::MAX);
        let whole = sixteenth.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX) / BLOCK_STEP_BYTES * BLOCK_STEP_BYTES;
        let block_bytes = whole - BLOCK_SLACK_BYTES;
        if block_bytes != self.block_bytes {
            // The tail was allocated for the old size.
            self.seal_tail();
            self.allocated -= self.tail.capacity();
            self.tail = Vec::new();
            self.block_bytes = block_bytes;
        }
    }

    /// Lets the log use a file: of at most `window_bytes` to reach further back, and `lag_bytes`, if that is more, for what
    /// readers still need; 0 is none. The next [`Log::trim`] obeys it.
    pub fn set_disk(&mut self, window_bytes: u64, lag_bytes: u64) {
        if (window_bytes, lag_bytes) != (self.disk.window_bytes, self.disk.lag_bytes) {
            self.disk = Disk { window_bytes, lag_bytes, state: DiskState::Works };
        }
    }

    /// What is known of the disk. While it does not work, the log does without.
    pub fn disk_state(&self) -> DiskState {
        self.disk.state
    }

    /// After a time the disk may be tried again.
    pub fn retry_disk(&mut self) {
        self.disk.state = DiskState::Works;
    }

    /// The byte at `offset` and all after it are young enough to be held, besides the backlog and as far as the log's
    /// bounds allow. `None` asks for no time: then all is held that there is room for.
    pub fn reach_back_to(&mut self, offset: Option<u64>) {
        self.young_from = offset;
    }

    /// How long the window may become while nobody needs what is in it: the memory and the disk that were granted, if the
    /// disk works.
    pub fn window_max(&self) -> u64 {
        match self.disk {
            Disk { window_bytes, state: DiskState::Works, .. } if window_bytes > 0 => {
                self.backlog_bytes.saturating_add(window_bytes)
            }
            _ if self.young_from.is_some() => self.backlog_bytes.max(TIME_MEMORY_MAX),
            _ => self.backlog_bytes,
        }
    }

    /// The most that memory and disk are granted for, whether for the window or for readers, and the block that it begins in.
    pub fn kept_max(&self) -> u64 {
        let lag_bytes = if self.disk.state == DiskState::Works { self.disk.lag_bytes } else { 0 };
        self.window_max()
            .max(self.backlog_bytes.saturating_add(lag_bytes))
            .saturating_add(BLOCK_BYTES_MAX as u64)
    }

    /// The same for the backlog alone: what is held in any case.
    pub fn backlog_kept_max(&self) -> u64 {
        self.backlog_bytes.saturating_add(BLOCK_BYTES_MAX as u64)
    }

    /// Lets go of blocks that nobody needs: not within the window that is wanted, and older than `needed`, the lowest
    /// offset that any reader (a replica's cursor, the position of a running snapshot) still wants; and hands blocks that
    /// are not within the backlog to the disk.
    /// Returns how many it let go of; when that is [`TRIM_BLOCKS_MAX`], there may be more, and the owner calls again
    /// from its timer.
    pub fn trim(&mut self, needed: Option<u64>) -> usize {
        let needed = needed.unwrap_or(u64::MAX);
        let window_max = self.window_max();
        let mut freed = 0;
        while freed < TRIM_BLOCKS_MAX {
            let Some(after) = self.first_block_end() else { break };
            let left = self.end() + 1 - after;
            let young = self.young_from.is_none_or(|young_from| young_from < after);
            if needed < after || left <= self.backlog_bytes || (left <= window_max && young) {
                break;
            }
            self.drop_first_block();
            freed += 1;
        }
        if self.disk.state == DiskState::Works {
            self.spill(needed);
        }
        freed
    }

    /// Moves blocks that memory has no room for to the file, and lets go of the oldest ones in it where it has no more room.
    fn spill(&mut self, needed: u64) {
        let Disk { window_bytes, lag_bytes, .. } = self.disk;
        let file_max = window_bytes.max(lag_bytes);
        let lag_memory_max = if window_bytes > 0 { 0 } else { self.lag_memory_max };
        let memory_max = self.backlog_bytes.saturating_add(lag_memory_max);
        for _ in 0..TRIM_BLOCKS_MAX {
            let Some(block) = self.sealed.front() else { return };
            let length = block.bytes.len() as u64;
            let left = self.end() + 1 - (block.first + length);
            // Without a disk for the window only what a reader needs goes there.
            if left <= memory_max || (window_bytes == 0 && needed >= block.first + length) {
                return;
            }
            if self.older.writing_bytes() >= WRITING_BYTES_MAX {
                if left > memory_max + BEHIND_BYTES_MAX {
                    self.disk.state = DiskState::Behind;
                }
                return;
            }
            while self.older.room_for(length, file_max).is_none()
                && self.older.first_end().is_some_and(|after| after <= needed)
            {
                self.drop_first_block();
            }
            // Somebody needs all that is in the file: what follows stays in memory.
            let Some(place) = self.older.room_for(length, file_max) else { return };
            let block = self.sealed.pop_front().expect("the front block was just seen");
            self.allocated -= block.bytes.capacity();
            if self.older.is_empty() {
                self.older.clear(block.first);
            }
            self.older.push(block.bytes, Some(place));
        }
    }

    /// Offset behind the oldest block.
    fn first_block_end(&self) -> Option<u64> {
        let sealed = || self.sealed.front().map(|block| block.first + block.bytes.len() as u64);
        self.older.first_end().or_else(sealed)
    }

    fn drop_first_block(&mut self) {
        if !self.older.is_empty() {
            return self.older.release_below(self.older.first() + 1);
        }
        let block = self.sealed.pop_front().expect("there is a block to drop");
        self.allocated -= block.bytes.capacity();
        self.keep_spare(block.bytes);
    }

    // ---- the part in the file ----

    /// The readers at these offsets read on: what they need of the file is asked for, and what none of them needs any
    /// more is let go of. To be called before [`Log::take_requests`] whenever they may have moved, and when an answer
    /// has come.
    pub fn attend(&mut self, readers: impl IntoIterator<Item = u64>) {
        if self.older.is_empty() {
            return;
        }
        let find = |offset| self.older.find(offset).map(|(number, _)| number);
        let mut readers: Vec<u64> = readers.into_iter().filter_map(find).collect();
        if let Some(bytes) = self.older.keep_near(&mut readers) {
            self.keep_spare(bytes);
        }
        readers.into_iter().for_each(|number| self.older.read_ahead(number));
    }

    /// How many blocks of the file are held in memory for a reader, and how many bytes beyond the backlog before they go
    /// to the file for its sake; the simulator wants few.
    pub fn hold_in_memory(&mut self, near_blocks: u64, lag_bytes: u64) {
        self.older.near_chunks = near_blocks;
        self.lag_memory_max = lag_bytes;
    }

    /// What is to be done to the file since the last call.
    pub fn take_requests(&mut self) -> impl Iterator<Item = SpillRequest> + '_ {
        self.older.take_requests()
    }

    /// The answer to [`SpillRequest::Write`]. After a failure the log does without a disk until [`Log::retry_disk`].
    pub fn written(&mut self, number: u64, succeeded: bool) {
        self.older.written(number, succeeded);
        if !succeeded {
            self.disk.state = DiskState::Failed;
        }
    }

    /// The answer to [`SpillRequest::Read`].
    pub fn read_back(&mut self, number: u64, bytes: Vec<u8>) {
        self.older.read_back(number, bytes);
    }

    /// The block could not be read: it and what is before it is lost, for its readers too.
    pub fn unreadable(&mut self, number: u64) {
        self.older.release_below(number + 1);
    }

    /// Bytes of the window that are in the file, or on their way there.
    pub fn disk_bytes(&self) -> u64 {
        self.memory_start() - self.start()
    }

    /// Forgets all bytes and continues after `offset`: a replica adopts the offset of its primary.
    /// An active log stays active, with an empty window.
    pub fn reset(&mut self, offset: u64) {
        self.clear();
        self.tail_first = offset + 1;
    }

    /// Moves all that is held `by` bytes up. A primary that restarts records the expiries found while
    /// loading before it knows at which offset its data set stood.
    pub fn rebase(&mut self, by: u64) {
        self.tail_first += by;
        self.older.rebase(by);
        for block in &mut self.sealed {
            block.first += by;
        }
    }

    /// Memory held, divided by the rules of Redis 7. `replicas_attached`: whether any replica is connected.
    pub fn memory(&self, replicas_attached: bool) -> LogMemory {
        let blocks = self.sealed.len() + usize::from(self.tail.capacity() > 0);
        let places = self.sealed.capacity() * size_of::<Block>();
        let spare = self.spare.as_ref().map_or(0, Vec::capacity);
        let older = self.older.memory_bytes() + self.older.overhead_bytes();
        let total = self.allocated + spare + blocks * BLOCK_OVERHEAD_BYTES + places + older;
        let limit = usize::try_from(self.backlog_bytes).unwrap_or(usize::MAX);
        let backlog = if replicas_attached { total.min(limit) } else { total };
        let blocks_in_backlog = limit / self.block_bytes + 1;
        let counted = limit.saturating_add(blocks_in_backlog * (BLOCK_OVERHEAD_BYTES + BLOCK_SLACK_BYTES));
        LogMemory {
            total,
            backlog,
            replicas: total - backlog,
            not_counted_for_evict: total.saturating_sub(counted),
        }
    }

    /// Index of the block in memory that holds `from` (the number of blocks means the tail), and how far into it.
    fn locate(&self, from: u64) -> Option<(usize, usize)> {
        if from < self.memory_start() || from > self.end() + 1 {
            return None;
        }
        let (block, first) = if from >= self.tail_first {
            (self.sealed.len(), self.tail_first)
        } else {
            let after = self.sealed.partition_point(|block| block.first <= from);
            (after - 1, self.sealed[after - 1].first)
        };
        Some((block, (from - first) as usize))
    }

    fn seal(&mut self) {
        let bytes = std::mem::take(&mut self.tail);
        let first = self.tail_first;
        self.tail_first += bytes.len() as u64;
        self.sealed.push_back(Block { first, bytes: Arc::new(bytes) });
    }

    fn prepare_tail(&mut self) {
        if self.tail.capacity() > 0 {
            return;
        }
        let wanted = self.block_bytes + BLOCK_SLACK_BYTES;
        self.tail = match self.spare.take() {
            Some(spare) if spare.capacity() >= wanted => spare,
            _ => Vec::with_capacity(wanted),
        };
        self.allocated += self.tail.capacity();
    }

    fn keep_spare(&mut self, bytes: Arc<Vec<u8>>) {
        // A block that a reader still shares is freed when the reader lets go of it.
        if let Ok(mut bytes) = Arc::try_unwrap(bytes) {
            bytes.clear();
            self.spare = Some(bytes);
        }
    }

    fn clear(&mut self) {
        self.older.clear(0);
        self.sealed.clear();
        self.tail = Vec::new();
        self.allocated = 0;
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.skip..]
    }
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.skip
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let bytes: &'a [u8] = match self.older.next() {
                Some(Some(bytes)) => bytes,
                // From here on it is in the file only.
                Some(None) => {
                    (self.older, self.sealed, self.tail) = Default::default();
                    return None;
                }
                None => match self.sealed.next() {
                    Some(block) => &block.bytes,
                    None => self.tail.take()?,
                },
            };
            let skip = std::mem::take(&mut self.skip);
            if skip < bytes.len() {
                return Some(&bytes[skip..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(log: &Log, from: u64) -> Option<Vec<u8>> {
        log.read(from).map(|slices| slices.flatten().copied().collect())
    }

    fn active(backlog_bytes: u64) -> Log {
        let mut log = Log::new(backlog_bytes);
        log.activate();
        log
    }

    #[test]
    fn an_inactive_log_ignores_writes_and_its_offset_stands_still() {
        let mut log = Log::new(1 << 20);
        log.append(b"PING");
        log.append_with(|out| out.extend_from_slice(b"PING"));
        assert_eq!((log.end(), log.window()), (0, None));
        log.activate();
        assert_eq!(log.window(), Some(LogWindow { first: 1, len: 0 }));
        log.append(b"PING");
        assert_eq!(log.window(), Some(LogWindow { first: 1, len: 4 }));
        log.deactivate();
        assert_eq!((log.end(), log.window()), (4, None));
        assert_eq!(log.memory(false), LogMemory::default());
        log.activate();
        assert_eq!(log.window(), Some(LogWindow { first: 5, len: 0 }));
    }

    #[test]
    fn a_reader_may_want_the_next_byte_to_come_but_none_after_it() {
        let mut log = active(0);
        log.append(b"abc");
        assert_eq!(collect(&log, 1).as_deref(), Some(&b"abc"[..]));
        assert_eq!(collect(&log, 3).as_deref(), Some(&b"c"[..]));
        assert_eq!(collect(&log, 4).as_deref(), Some(&b""[..]));
        assert_eq!(collect(&log, 5), None);
        assert_eq!(collect(&log, 0), None);
    }

    #[test]
    fn the_window_keeps_at_least_the_backlog_and_at_most_one_block_more() {
        let mut log = active(1 << 20);
        for _ in 0..4_000 {
            log.append(&[b'x'; 1000]);
            log.trim(None);
        }
        let window = log.window().expect("active");
        assert_eq!(window.end(), 4_000_000);
        assert!(window.len >= 1 << 20, "{window:?}");
        assert!(window.len <= log.kept_max(), "{window:?}");
    }

    #[test]
    fn a_cursor_holds_the_log_beyond_the_backlog() {
        let mut log = active(BACKLOG_BYTES_MIN);
        log.append(&vec![b'x'; 1_000_000]);
        assert_eq!(log.trim(Some(1)), 0);
        assert_eq!(log.start(), 1);
        let memory = log.memory(true);
        assert_eq!(memory.backlog, BACKLOG_BYTES_MIN as usize);
        assert_eq!(memory.backlog + memory.replicas, memory.total);
        assert!(memory.total >= 1_000_000 && memory.not_counted_for_evict > 900_000, "{memory:?}");
        assert!(log.trim(Some(500_000)) > 0);
        assert!(log.start() <= 500_000 && log.start() > 500_000 - 2 * BLOCK_BYTES_MIN as u64);
        while log.trim(None) > 0 {}
        assert!(log.window().expect("active").len <= 3 * BLOCK_BYTES_MIN as u64);
        assert_eq!(log.memory(false).replicas, 0);
    }

    #[test]
    fn all_that_is_held_is_counted() {
        let mut log = active(BACKLOG_BYTES_MIN);
        let empty = log.memory(true);
        assert!(empty.total >= BLOCK_BYTES_MIN, "the first block is there before the first write: {empty:?}");
        log.append(&vec![b'x'; 10 * BLOCK_BYTES_MIN]);
        let before = log.memory(true).total;
        // Of two blocks that are let go of, one is kept for the next tail.
        assert_eq!(log.trim(Some(2 * (BLOCK_BYTES_MIN - BLOCK_SLACK_BYTES) as u64 + 1)), 2);
        assert_eq!(before - log.memory(true).total, BLOCK_BYTES_MIN + 2 * BLOCK_OVERHEAD_BYTES);
    }

    #[test]
    fn trimming_is_done_in_bounded_slices() {
        let mut log = active(BACKLOG_BYTES_MIN);
        log.append(&vec![b'x'; (3 * TRIM_BLOCKS_MAX + 8) * BLOCK_BYTES_MIN]);
        assert_eq!(log.trim(None), TRIM_BLOCKS_MAX);
        assert_eq!(log.trim(None), TRIM_BLOCKS_MAX);
        assert_eq!(log.trim(None), TRIM_BLOCKS_MAX);
        assert!(log.trim(None) < TRIM_BLOCKS_MAX);
        assert_eq!(log.trim(None), 0);
    }

    #[test]
    fn sealed_chunks_outlive_trimming_and_start_where_asked() {
        let mut log = active(BACKLOG_BYTES_MIN);
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        log.append(&bytes);
        log.seal_tail();
        let chunks: Vec<Chunk> = log.chunks(40_001).expect("held").collect();
        assert_eq!(chunks[0].first, 40_001);
        while log.trim(None) > 0 {}
        assert_eq!(log.chunks(40_001).map(|_| ()), None);
        log.append(&[0; 100_000]);
        let held: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.as_ref().to_vec()).collect();
        assert_eq!(held, bytes[40_000..]);
        assert_eq!(log.chunks(log.end() + 1).expect("next byte").count(), 0);
    }

    #[test]
    fn a_steady_log_uses_the_same_blocks_again() {
        let mut log = active(1 << 20);
        let mut held = 0;
        for round in 0..40 {
            log.append(&vec![b'x'; BLOCK_BYTES_MAX]);
            log.trim(None);
            if round == 30 {
                held = log.memory(false).total;
            }
        }
        assert_eq!(log.memory(false).total, held);
        assert!(log.spare.is_some());
    }

    #[test]
    fn one_huge_command_does_not_make_one_huge_block() {
        let mut log = active(BACKLOG_BYTES_MIN);
        log.append(b"before");
        log.append_with(|out| out.resize(out.len() + 10_000_000, b'v'));
        assert_eq!(log.end(), 10_000_006);
        assert!(log.sealed.iter().all(|block| block.bytes.len() <= BLOCK_BYTES_MIN + BLOCK_SLACK_BYTES));
        assert!(log.memory(false).total < 11_000_000, "{:?}", log.memory(false));
    }

    #[test]
    #[should_panic(expected = "a writer only adds to the log")]
    fn a_writer_must_not_take_bytes_back() {
        let mut log = active(0);
        log.append(b"abc");
        log.append_with(|out| out.clear());
    }

    #[test]
    fn rebasing_moves_bytes_and_offsets_alike() {
        let mut log = active(0);
        log.append(&vec![b'a'; 40_000]);
        log.append(b"z");
        log.rebase(1_000);
        assert_eq!((log.start(), log.end()), (1_001, 41_001));
        assert_eq!(collect(&log, 41_001).as_deref(), Some(&b"z"[..]));
        log.append(b"!");
        assert_eq!(collect(&log, 41_001).as_deref(), Some(&b"z!"[..]));
    }

    /// The log's file, and what it was not asked to do yet.
    #[derive(Default)]
    struct FakeFile {
        bytes: Vec<u8>,
        requests: VecDeque<SpillRequest>,
    }

    impl FakeFile {
        /// How much there was to do.
        fn work(&mut self, log: &mut Log, count: usize, succeeds: bool) -> usize {
            self.requests.extend(log.take_requests());
            let waiting = self.requests.len();
            for request in self.requests.drain(..count.min(self.requests.len())) {
                match request {
                    SpillRequest::Write { number, offset, bytes } => {
                        let (from, to) = (offset as usize, offset as usize + bytes.len());
                        self.bytes.resize(self.bytes.len().max(to), 0);
                        if succeeds {
                            self.bytes[from..to].copy_from_slice(&bytes);
                        } else {
                            self.bytes[from..to].fill(0xff);
                        }
                        drop(bytes);
                        log.written(number, succeeds);
                    }
                    SpillRequest::Read { number, offset, length } => {
                        log.read_back(number, self.bytes[offset as usize..][..length as usize].to_vec());
                    }
                    SpillRequest::Drop => self.bytes.clear(),
                }
            }
            waiting
        }

        /// Until there is nothing more to do.
        fn work_all(&mut self, log: &mut Log, readers: &[u64]) {
            loop {
                log.trim(readers.iter().copied().min());
                log.attend(readers.iter().copied());
                if self.work(log, usize::MAX, true) == 0 {
                    return;
                }
            }
        }
    }

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn what_memory_has_no_room_for_goes_to_the_file_and_comes_back_for_its_reader() {
        let (mut log, mut file) = (active(BACKLOG_BYTES_MIN), FakeFile::default());
        log.set_disk(2_000_000, 0);
        let bytes = numbered(1_000_000);
        for part in bytes.chunks(10_000) {
            log.append(part);
            file.work_all(&mut log, &[]);
        }
        assert_eq!(log.window(), Some(LogWindow { first: 1, len: 1_000_000 }));
        assert_eq!(log.disk_bytes() as usize, file.bytes.len());
        let memory = log.memory(true).total;
        assert!(memory < 4 * BLOCK_BYTES_MIN + 16 * 1024, "{memory}");
        assert_eq!(collect(&log, 1).as_deref(), Some(&[][..]), "it is in the file only");
        assert_eq!(log.held_from(), log.memory_start());

        let (mut cursor, mut read, mut most) = (500_001, Vec::new(), 0);
        while cursor <= log.end() {
            file.work_all(&mut log, &[cursor]);
            let slice = log.read(cursor).expect("held").next().expect("it was read ahead");
            read.extend_from_slice(slice);
            cursor += slice.len() as u64;
            most = most.max(log.memory(true).total);
        }
        assert_eq!(read, bytes[500_000..]);
        assert!(most > memory + 100_000, "it reads ahead: {most}");
        file.work_all(&mut log, &[]);
        assert!(
            log.memory(true).total <= memory,
            "what was read ahead is let go of: {}",
            log.memory(true).total
        );
        log.set_disk(0, 0);
        (0..10).for_each(|_| file.work_all(&mut log, &[]));
        assert!(log.window().expect("active").len < 3 * BLOCK_BYTES_MIN as u64);
        assert!(file.bytes.is_empty(), "the file is of no use any more");
    }

    #[test]
    fn what_readers_lag_behind_with_goes_to_the_file_for_as_long_as_they_do() {
        let (mut log, mut file) = (active(BACKLOG_BYTES_MIN), FakeFile::default());
        log.set_disk(0, 600_000);
        log.hold_in_memory(2, 100_000);
        let bytes = numbered(1_000_000);
        log.append(&bytes[..200_000]);
        file.work_all(&mut log, &[]);
        assert!(log.window().expect("active").len < 3 * BLOCK_BYTES_MIN as u64, "nobody needs more");
        assert_eq!(log.window_max(), BACKLOG_BYTES_MIN);
        assert!(log.kept_max() >= 600_000);

        let mut cursor = 190_001;
        for part in bytes[200_000..].chunks(10_000) {
            log.append(part);
            file.work_all(&mut log, &[cursor]);
            let beyond_file = log.end().saturating_sub(190_000 + 600_000) as usize;
            let memory = log.memory(true).total - beyond_file;
            assert!(memory < 100_000 + 8 * BLOCK_BYTES_MIN, "{memory} bytes at {}", log.end());
        }
        assert!(file.bytes.len() > 580_000 && file.bytes.len() <= 600_000, "{}", file.bytes.len());
        let mut read = Vec::new();
        while cursor <= log.end() {
            file.work_all(&mut log, &[cursor]);
            let slice = log.read(cursor).expect("held").next().expect("it was read ahead");
            read.extend_from_slice(slice);
            cursor += slice.len() as u64;
        }
        assert_eq!(read, bytes[190_000..]);
        file.work_all(&mut log, &[cursor]);
        assert!(log.window().expect("active").len < 3 * BLOCK_BYTES_MIN as u64);
        assert!(file.bytes.is_empty(), "the file is of no use any more");
    }

    #[test]
    fn the_file_never_takes_more_than_it_may() {
        let (mut log, mut file) = (active(BACKLOG_BYTES_MIN), FakeFile::default());
        log.set_disk(300_000, 0);
        for _ in 0..1_000 {
            log.append(&[b'x'; 3_000]);
            file.work_all(&mut log, &[]);
        }
        assert!(file.bytes.len() <= 300_000 && file.bytes.len() > 280_000, "{}", file.bytes.len());
        let window = log.window().expect("active").len;
        assert!(window >= 300_000 && window <= log.window_max(), "{window}");
        // Somebody needs what is in it: then what follows stays in memory.
        let cursor = log.start();
        for _ in 0..100 {
            log.append(&[b'x'; 3_000]);
            file.work_all(&mut log, &[cursor]);
        }
        assert_eq!((log.start(), log.disk_state()), (cursor, DiskState::Works));
        assert!(log.memory(true).total > 300_000);
        (0..10).for_each(|_| file.work_all(&mut log, &[]));
        assert!(log.window().expect("active").len <= log.window_max() + 2 * BLOCK_BYTES_MIN as u64);
        assert!(log.memory(true).total < 100_000, "{:?}", log.memory(true));
    }

    #[test]
    fn a_disk_that_fails_makes_the_window_shorter_and_nothing_else() {
        let (mut log, mut file) = (active(BACKLOG_BYTES_MIN), FakeFile::default());
        log.set_disk(2_000_000, 0);
        let bytes = numbered(400_000);
        log.append(&bytes[..200_000]);
        file.work_all(&mut log, &[]);
        let cursor = 100_001;
        log.append(&bytes[200_000..300_000]);
        log.trim(Some(cursor));
        assert!(file.work(&mut log, usize::MAX, false) > 0);
        assert_eq!((log.disk_state(), log.window_max()), (DiskState::Failed, BACKLOG_BYTES_MIN));
        log.append(&bytes[300_000..]);
        // A reader in the file goes on: what it needs is there or in memory.
        let mut read = Vec::new();
        while (read.len() as u64) < log.end() + 1 - cursor {
            let at = cursor + read.len() as u64;
            file.work_all(&mut log, &[at]);
            read.extend_from_slice(log.read(at).expect("held").next().expect("it was read"));
        }
        assert_eq!(read, bytes[100_000..]);
        file.work_all(&mut log, &[]);
        assert!(log.window().expect("active").len < 3 * BLOCK_BYTES_MIN as u64);
        assert!(log.memory(false).total < 100_000, "{:?}", log.memory(false));
        log.retry_disk();
        log.append(&bytes);
        file.work_all(&mut log, &[]);
        assert!(log.window().expect("active").len > 400_000, "it is tried again");
    }

    #[test]
    fn a_disk_that_is_too_slow_does_not_fill_the_memory() {
        let mut log = active(BACKLOG_BYTES_MIN);
        log.set_disk(1 << 40, 0);
        let mut most = 0;
        for _ in 0..2_500 {
            log.append(&[b'x'; 64 * 1024]);
            log.trim(None);
            most = most.max(log.memory(false).total as u64);
        }
        assert_eq!(log.disk_state(), DiskState::Behind);
        assert!(most < BEHIND_BYTES_MAX * 5 / 4, "{most}");
        assert!(log.memory(false).total < 1 << 20, "{:?}", log.memory(false));
    }

    #[test]
    fn a_time_is_reached_back_to_as_far_as_the_bounds_allow() {
        let mut log = active(BACKLOG_BYTES_MIN);
        log.append(&vec![b'x'; 1_000_000]);
        log.reach_back_to(Some(600_001));
        while log.trim(None) > 0 {}
        assert!(log.start() <= 600_001 && log.start() > 600_001 - BLOCK_BYTES_MIN as u64, "{}", log.start());
        log.reach_back_to(Some(0));
        assert_eq!((log.trim(None), log.window_max()), (0, TIME_MEMORY_MAX));
        // With a disk its bytes are the bound, and what is older than that time does not stay there either.
        let mut file = FakeFile::default();
        log.set_disk(200_000, 0);
        log.append(&vec![b'x'; 1_000_000]);
        (0..10).for_each(|_| file.work_all(&mut log, &[]));
        assert!(log.window().expect("active").len > 200_000 && log.disk_bytes() <= 200_000);
        log.reach_back_to(Some(1_900_001));
        file.work_all(&mut log, &[]);
        assert!(log.start() <= 1_900_001 && log.start() > 1_900_001 - BLOCK_BYTES_MIN as u64);
        log.reach_back_to(None);
        log.append(&vec![b'x'; 100_000]);
        file.work_all(&mut log, &[]);
        assert!(log.window().expect("active").len > 190_000, "without a time it keeps what it may");
    }

    #[test]
    fn what_cannot_be_read_ends_the_window() {
        let (mut log, mut file) = (active(BACKLOG_BYTES_MIN), FakeFile::default());
        log.set_disk(1_000_000, 0);
        log.append(&numbered(300_000));
        file.work_all(&mut log, &[]);
        log.attend([100_000]);
        let lost = log.take_requests().find_map(|request| match request {
            SpillRequest::Read { number, .. } => Some(number),
            _ => None,
        });
        log.unreadable(lost.expect("it is asked for"));
        assert!(log.start() > 100_000 && log.start() < 120_000, "{}", log.start());
        assert!(log.read(100_000).is_none() && log.read(log.start()).is_some());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Append(usize),
        AppendWith(usize),
        Trim(Option<u64>),
        Seal,
        Capacity(u64),
        Reset(u64),
        Rebase(u64),
        Deactivate,
        Activate,
        Disk(u64, u64),
        Reach(Option<u64>),
        /// The disk carries out so many requests, those that write with this success.
        Work(usize, bool),
        Retry,
        Attend(Vec<u64>),
    }

    fn op() -> impl Strategy<Value = Op> {
        let size = prop_oneof![6 => 0usize..200, 2 => 0usize..40_000, 1 => 0usize..300_000];
        let disk = prop_oneof![Just(0u64), 1_000u64..400_000];
        prop_oneof![
            8 => size.clone().prop_map(Op::Append),
            8 => size.prop_map(Op::AppendWith),
            4 => proptest::option::of(0u64..400_000).prop_map(Op::Trim),
            2 => Just(Op::Seal),
            1 => (0u64..600_000).prop_map(Op::Capacity),
            1 => (0u64..1_000_000).prop_map(Op::Reset),
            1 => (0u64..1_000_000).prop_map(Op::Rebase),
            1 => Just(Op::Deactivate),
            2 => Just(Op::Activate),
            2 => (disk.clone(), disk).prop_map(|(window, lag)| Op::Disk(window, lag)),
            1 => proptest::option::of(0u64..400_000).prop_map(Op::Reach),
            8 => (0usize..20, prop::bool::weighted(0.9)).prop_map(|(count, ok)| Op::Work(count, ok)),
            1 => Just(Op::Retry),
            4 => proptest::collection::vec(0u64..400_000, 0..3).prop_map(Op::Attend),
        ]
    }

    proptest! {
        /// Against a model that holds all bytes ever appended since the last reset.
        #[test]
        fn the_log_is_a_suffix_of_what_was_appended(ops in proptest::collection::vec(op(), 1..60)) {
            let mut log = Log::new(BACKLOG_BYTES_MIN);
            log.hold_in_memory(2, 50_000);
            let mut file = FakeFile::default();
            let (mut all, mut end, mut is_active, mut count) = (Vec::new(), 0u64, false, 0u8);
            let mut fill = |len: usize| -> Vec<u8> {
                (0..len).map(|_| { count = count.wrapping_add(1); count }).collect()
            };
            for op in ops {
                let before = log.window();
                match op {
                    Op::Append(len) | Op::AppendWith(len) => {
                        let bytes = fill(len);
                        match op {
                            Op::Append(_) => log.append(&bytes),
                            _ => log.append_with(|out| out.extend_from_slice(&bytes)),
                        }
                        if is_active {
                            end += len as u64;
                            all.extend(bytes);
                        }
                    }
                    Op::Trim(needed) => {
                        log.trim(needed);
                        if let (Some(before), Some(after)) = (before, log.window()) {
                            let must_keep = before.len.min(log.capacity());
                            prop_assert!(after.len >= must_keep);
                            if let Some(needed) = needed.filter(|needed| before.covers(*needed)) {
                                prop_assert!(after.covers(needed));
                            }
                        }
                    }
                    Op::Seal => log.seal_tail(),
                    Op::Capacity(bytes) => log.set_capacity(bytes),
                    Op::Reset(offset) => { log.reset(offset); end = offset; all.clear(); }
                    Op::Rebase(by) => { log.rebase(by); end += by; }
                    Op::Deactivate => { log.deactivate(); is_active = false; all.clear(); }
                    Op::Activate => { log.activate(); is_active = true; }
                    Op::Disk(window, lag) => log.set_disk(window, lag),
                    Op::Reach(offset) => log.reach_back_to(offset),
                    Op::Work(count, succeeds) => _ = file.work(&mut log, count, succeeds),
                    Op::Retry => log.retry_disk(),
                    Op::Attend(readers) => log.attend(readers),
                }
                prop_assert_eq!(log.end(), end);
                prop_assert_eq!(log.window().is_some(), is_active);
                let held = end + 1 - log.start();
                prop_assert!(held <= all.len() as u64);
                for from in [log.start(), log.start() + held / 3, log.start() + held / 2, end, end + 1] {
                    let expected = (from >= log.start()).then(|| &all[all.len() - (end + 1 - from) as usize..]);
                    let read = collect(&log, from);
                    if from >= log.held_from() || from < log.start() {
                        prop_assert_eq!(read.as_deref(), expected);
                    } else {
                        // As far as it is in memory.
                        let (read, expected) = (read.expect("it is held"), expected.expect("it is held"));
                        prop_assert!(expected.starts_with(&read));
                    }
                }
                let blocks: usize = log.sealed.iter().map(|block| block.bytes.capacity()).sum();
                prop_assert_eq!(log.allocated, blocks + log.tail.capacity());
            }
        }
    }
}
