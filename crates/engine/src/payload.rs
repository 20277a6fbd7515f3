//! An encoded snapshot on its way to the replicas that share it.
//!
//! The encoder never waits for a slow replica: while a walk runs, every write keeps what it overwrites, so a walk that
//! stands still makes the writer's memory grow without bound. Chunks that would go beyond a limit are handed to a
//! temporary file of the surroundings instead, and read back when the cursor of a replica comes near ([`Spill`]).

use std::sync::Arc;

use log::{Spill, SpillRequest};
use replication::primary_link::EOF_MARK_LEN;

/// Bytes of chunks that are held in memory before further ones go to the file.
pub const MEMORY_MAX: usize = 2 << 20;

/// Chunks by number, dropped when the slowest replica has them.
#[derive(Debug)]
pub struct Payload {
    chunks: Spill,
    /// No chunk follows.
    pub ended: bool,
    pub mark: [u8; EOF_MARK_LEN],
    /// [`MEMORY_MAX`] but in tests and in the simulator.
    pub memory_max: usize,
}

impl Default for Payload {
    fn default() -> Self {
        Payload { chunks: Spill::default(), ended: false, mark: [0; EOF_MARK_LEN], memory_max: MEMORY_MAX }
    }
}

impl Payload {
    /// Begins a new payload. Chunk numbers go on, so that a reader of the old one can never read the new one.
    pub fn begin(&mut self, mark: [u8; EOF_MARK_LEN]) {
        self.chunks.clear(0);
        self.ended = false;
        self.mark = mark;
    }

    pub fn push(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        // What comes back from the file must find room, so nothing new takes it.
        let full = self.chunks.uses_file() || self.chunks.memory_bytes() + bytes.capacity() > self.memory_max;
        let place = if full { self.chunks.room_for(bytes.len() as u64, u64::MAX) } else { None };
        self.chunks.push(Arc::new(bytes), place);
    }

    /// The number that the next chunk will have.
    pub fn next(&self) -> u64 {
        self.chunks.next()
    }

    /// The bytes of a chunk, if it is held and in memory.
    pub fn chunk(&self, number: u64) -> Option<&[u8]> {
        self.chunks.chunk(number)
    }

    /// The readers are at these chunks: what they are going to read is asked for. What the file has too is not kept for
    /// those who are far behind.
    pub fn attend(&mut self, mut readers: Vec<u64>) {
        self.chunks.keep_near(&mut readers);
        readers.into_iter().for_each(|number| self.chunks.read_ahead(number));
    }

    /// What is to be done to the file since the last call.
    pub fn take_requests(&mut self) -> impl Iterator<Item = SpillRequest> + '_ {
        self.chunks.take_requests()
    }

    /// The answer to [`SpillRequest::Write`], if it has succeeded.
    pub fn written(&mut self, number: u64, succeeded: bool) {
        self.chunks.written(number, succeeded);
    }

    /// The answer to [`SpillRequest::Read`].
    pub fn read_back(&mut self, number: u64, bytes: Vec<u8>) {
        self.chunks.read_back(number, bytes);
    }

    /// Drops the chunks below `number`, and the file with the last one that it has.
    pub fn release_below(&mut self, number: u64) {
        self.chunks.release_below(number);
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> usize {
        self.chunks.memory_bytes()
    }

    /// Bytes that wait for the disk.
    pub fn writing_bytes(&self) -> usize {
        self.chunks.writing_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, SpillFile};
    use crate::config::{Config, Protected};
    use crate::rdb_writer::RdbWriter;
    use crate::snapshot::Step;
    use crate::testing::{Harness, SpillDisk};
    use log::READ_AHEAD_BYTES;

    #[test]
    fn what_goes_beyond_the_limit_goes_to_the_file_and_so_does_what_follows() {
        let mut payload = Payload { memory_max: 25, ..Payload::default() };
        (0..4).for_each(|byte| payload.push(vec![byte; 10]));
        let requests: Vec<SpillRequest> = payload.take_requests().collect();
        assert!(matches!(
            &requests[..],
            [
                SpillRequest::Write { number: 2, offset: 0, .. },
                SpillRequest::Write { number: 3, offset: 10, .. }
            ]
        ));
        [2, 3].into_iter().for_each(|number| payload.written(number, true));
        payload.attend(Vec::new());
        assert_eq!(
            (payload.memory_bytes(), payload.chunk(1), payload.chunk(2)),
            (20, Some(&[1; 10][..]), None)
        );
        payload.release_below(2);
        // There is room, but not for what is new.
        payload.push(vec![4; 10]);
        let requests: Vec<SpillRequest> = payload.take_requests().collect();
        assert!(matches!(&requests[..], [SpillRequest::Write { number: 4, offset: 20, .. }]));
        payload.attend(vec![2]);
        assert_eq!(payload.take_requests().count(), 2, "the chunks 2 and 3 are read; 4 is on its way");
        payload.release_below(5);
        payload.push(vec![5; 30]);
        let requests: Vec<SpillRequest> = payload.take_requests().collect();
        assert!(
            matches!(&requests[..], [SpillRequest::Drop, SpillRequest::Write { number: 5, offset: 0, .. }]),
            "a file of its own: {requests:?}"
        );
    }

    #[test]
    fn a_replica_that_does_not_read_while_others_write_costs_little_memory() {
        const LIMIT: usize = 64 * 1024;
        let config = Config {
            enable_debug_command: Protected::Yes,
            repl_diskless_sync: true,
            repl_diskless_sync_delay_s: 0,
            ..Config::default()
        };
        let mut h = Harness::with_config(config);
        h.node.core.repl.payload.memory_max = LIMIT;
        for index in 0..3000 {
            h.run(&format!("SET key:{index} {}", "v".repeat(1000)));
        }
        h.run("CONFIG SET rdbcompression no");
        let digest = h.run("DEBUG DIGEST");
        let replica = h.connect();
        h.run_on(replica, "REPLCONF capa eof capa psync2");
        h.run_on(replica, "PSYNC ? -1");
        h.node.before_sleep();
        let plan = h.node.take_actions().into_iter().find_map(|action| match action {
            Action::BeginSnapshot(plan) => Some(plan),
            _ => None,
        });
        let mut writer = RdbWriter::new(&plan.expect("a snapshot begins"));
        let (mut disk, mut chunk, mut total, mut most) = (SpillDisk::default(), Vec::new(), 0, 0);
        writer.begin(&mut chunk);
        loop {
            // The replica takes nothing, and each turn writes change what was not copied yet.
            for _ in 0..5 {
                h.run(&format!("SET key:{} {}", (total * 7) % 3000, "w".repeat(900)));
            }
            most = most.max(h.node.snapshot_unsent_bytes() + h.node.snapshot_pending_bytes());
            let step = h.node.snapshot_batch(16 * 1024).expect("it runs");
            match &step {
                Step::Batch(batch) => writer.batch(batch, &mut chunk).unwrap(),
                Step::Walked => writer.end(&mut chunk),
            }
            total += chunk.len();
            h.node.snapshot_chunk(std::mem::take(&mut chunk));
            disk.act(&mut h);
            if matches!(step, Step::Walked) {
                break;
            }
        }
        h.node.snapshot_finished(Ok(total as u64));
        assert!(total > 3_000_000, "{total}");
        // The limit, what is read ahead, and what the writes of one turn save.
        assert!(most < LIMIT + READ_AHEAD_BYTES + 200 * 1024, "{most}");

        // Now it reads all, in pieces of odd sizes.
        let mut received = Vec::new();
        while !h.node.core.repl.payload.chunks.is_empty() || received.is_empty() {
            disk.act(&mut h);
            let sent = h.send(replica, 100_003);
            assert!(!sent.is_empty(), "it is stuck after {} bytes", received.len());
            received.extend(sent);
            assert!(h.node.snapshot_unsent_bytes() < LIMIT + READ_AHEAD_BYTES + 64 * 1024);
        }
        disk.act(&mut h);
        assert!(disk.files[&SpillFile::Snapshot].is_empty(), "the file is of no use any more");
        let start = received.windows(5).position(|bytes| bytes == b"REDIS").expect("the snapshot's header");
        let file = &received[start..start + total];
        let mut loaded = Harness::new();
        loaded.node.begin_load_at_start(file.len() as u64);
        loaded.node.load_bytes(file).unwrap();
        loaded.node.load_finished(Ok(()));
        assert_eq!(loaded.run("DEBUG DIGEST"), digest);
    }
}
