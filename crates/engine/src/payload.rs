//! An encoded snapshot on its way to the replicas that share it.
//!
//! The encoder never waits for a slow replica: while a walk runs, every write keeps what it overwrites, so a walk that
//! stands still makes the writer's memory grow without bound. Chunks that would go beyond a limit are handed to a
//! temporary file of the surroundings instead, and read back when the cursor of a replica comes near. Those that were
//! read back are let go again behind the cursor; only a slower replica makes that a second reading.

use std::collections::VecDeque;

use replication::primary_link::EOF_MARK_LEN;

use crate::action::Action;

/// Bytes of chunks that are held in memory before further ones go to the file.
pub const MEMORY_MAX: usize = 16 << 20;

/// Bytes behind a cursor's chunk that are read back ahead of need.
const READ_AHEAD_BYTES: usize = 2 << 20;

/// A chunk that was read back stays for a replica that is at most so many chunks behind it.
const KEPT_CHUNKS: u64 = 64;

/// Chunks by number, dropped when the slowest replica has them.
#[derive(Debug)]
pub struct Payload {
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk that is held.
    first: u64,
    /// No chunk follows.
    pub ended: bool,
    pub mark: [u8; EOF_MARK_LEN],
    /// [`MEMORY_MAX`] but in tests and in the simulator.
    pub memory_max: usize,
    memory_bytes: usize,
    /// How many of the chunks held lie in the file.
    spilled: usize,
    /// Where the next one goes.
    file_end: u64,
}

#[derive(Debug)]
struct Chunk {
    length: usize,
    /// Where it begins in the file, if it is there.
    offset: Option<u64>,
    /// Absent while it is in the file only.
    bytes: Option<Vec<u8>>,
    /// It was asked for, and has not come.
    asked: bool,
}

impl Default for Payload {
    fn default() -> Self {
        Payload {
            chunks: VecDeque::new(),
            first: 0,
            ended: false,
            mark: [0; EOF_MARK_LEN],
            memory_max: MEMORY_MAX,
            memory_bytes: 0,
            spilled: 0,
            file_end: 0,
        }
    }
}

impl Payload {
    /// Begins a new payload. Chunk numbers go on, so that a reader of the old one can never read the new one.
    pub fn begin(&mut self, mark: [u8; EOF_MARK_LEN], actions: &mut Vec<Action>) {
        self.release_below(self.next(), actions);
        self.ended = false;
        self.mark = mark;
    }

    pub fn push(&mut self, bytes: Vec<u8>, actions: &mut Vec<Action>) {
        let length = bytes.len();
        if length == 0 {
            return;
        }
        // What comes back from the file must find room, so nothing new takes it.
        let chunk = if self.spilled > 0 || self.memory_bytes + length > self.memory_max {
            let offset = self.file_end;
            self.file_end += length as u64;
            self.spilled += 1;
            actions.push(Action::SpillPayload { offset, bytes });
            Chunk { length, offset: Some(offset), bytes: None, asked: false }
        } else {
            self.memory_bytes += length;
            Chunk { length, offset: None, bytes: Some(bytes), asked: false }
        };
        self.chunks.push_back(chunk);
    }

    /// The number that the next chunk will have.
    pub fn next(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// The bytes of a chunk, if it is held and in memory.
    pub fn chunk(&self, number: u64) -> Option<&[u8]> {
        self.chunks.get(self.index(number)?)?.bytes.as_deref()
    }

    /// A reader is at the chunk `number`: what it is going to read is asked for.
    pub fn read_ahead(&mut self, number: u64, actions: &mut Vec<Action>) {
        let Some(start) = self.index(number) else { return };
        let mut ahead = 0;
        for (index, chunk) in self.chunks.iter_mut().enumerate().skip(start) {
            if ahead >= READ_AHEAD_BYTES {
                break;
            }
            ahead += chunk.length;
            if let (None, false, Some(offset)) = (&chunk.bytes, chunk.asked, chunk.offset) {
                chunk.asked = true;
                let (number, length) = (self.first + index as u64, chunk.length as u64);
                actions.push(Action::ReadSpilled { number, offset, length });
            }
        }
    }

    /// What [`Action::ReadSpilled`] asked for. It may not be wanted any more.
    pub fn read_back(&mut self, number: u64, bytes: Vec<u8>) {
        let index = self.index(number);
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)).filter(|chunk| chunk.asked)
        else {
            return;
        };
        assert_eq!(chunk.length, bytes.len(), "a chunk comes back from the file as it went");
        chunk.asked = false;
        self.memory_bytes += bytes.len();
        chunk.bytes = Some(bytes);
    }

    /// A reader is past the chunk `number`; `readers` are at these. What the file has too is not kept for those who are
    /// far behind.
    pub fn passed(&mut self, number: u64, readers: &[u64]) {
        let near = |reader: &u64| *reader <= number && number - *reader < KEPT_CHUNKS;
        if readers.iter().any(near) {
            return;
        }
        let index = self.index(number);
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) else { return };
        if chunk.offset.is_some() && chunk.bytes.take().is_some() {
            self.memory_bytes -= chunk.length;
        }
    }

    /// Drops the chunks below `number`, and the file with the last one that it has.
    pub fn release_below(&mut self, number: u64, actions: &mut Vec<Action>) {
        let spilled = self.spilled;
        while self.first < number
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.spilled -= usize::from(chunk.offset.is_some());
            self.memory_bytes -= chunk.bytes.map_or(0, |bytes| bytes.len());
        }
        if spilled > 0 && self.spilled == 0 {
            self.file_end = 0;
            actions.push(Action::DropSpilled);
        }
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Protected};
    use crate::rdb_writer::RdbWriter;
    use crate::snapshot::Step;
    use crate::testing::Harness;

    fn chunks(payload: &mut Payload, count: u8, length: usize, actions: &mut Vec<Action>) {
        (0..count).for_each(|byte| payload.push(vec![byte; length], actions));
    }

    #[test]
    fn what_goes_beyond_the_limit_goes_to_the_file_and_comes_back_before_it_is_needed() {
        let mut payload = Payload { memory_max: 25, ..Payload::default() };
        let mut actions = Vec::new();
        chunks(&mut payload, 4, 10, &mut actions);
        assert!(matches!(
            &actions[..],
            [Action::SpillPayload { offset: 0, .. }, Action::SpillPayload { offset: 10, .. }]
        ));
        assert_eq!(
            (payload.memory_bytes(), payload.chunk(1), payload.chunk(2)),
            (20, Some(&[1; 10][..]), None)
        );
        actions.clear();
        payload.read_ahead(0, &mut actions);
        payload.read_ahead(1, &mut actions);
        assert!(
            matches!(
                &actions[..],
                [
                    Action::ReadSpilled { number: 2, offset: 0, length: 10 },
                    Action::ReadSpilled { number: 3, offset: 10, length: 10 }
                ]
            ),
            "each is asked for once: {actions:?}"
        );
        actions.clear();
        payload.release_below(2, &mut actions);
        // There is room, but not for what is new.
        payload.push(vec![4; 10], &mut actions);
        assert!(matches!(&actions[..], [Action::SpillPayload { offset: 20, .. }]));
        payload.read_back(2, vec![2; 10]);
        assert_eq!((payload.memory_bytes(), payload.chunk(2)), (10, Some(&[2; 10][..])));
        payload.passed(2, &[2]);
        assert!(payload.chunk(2).is_some(), "another reader is there");
        payload.passed(2, &[3]);
        assert_eq!((payload.memory_bytes(), payload.chunk(2)), (0, None));
        actions.clear();
        payload.release_below(5, &mut actions);
        assert!(matches!(&actions[..], [Action::DropSpilled]));
        payload.read_back(3, vec![3; 10]);
        assert_eq!((payload.memory_bytes(), payload.next()), (0, 5));
        payload.push(vec![5; 30], &mut actions);
        assert!(matches!(actions.last(), Some(Action::SpillPayload { offset: 0, .. })), "a file of its own");
    }

    #[test]
    fn a_reader_reads_only_so_far_ahead() {
        let mut payload = Payload { memory_max: 0, ..Payload::default() };
        let mut actions = Vec::new();
        chunks(&mut payload, 5, READ_AHEAD_BYTES / 2, &mut actions);
        actions.clear();
        payload.read_ahead(1, &mut actions);
        let numbers: Vec<u64> = actions
            .iter()
            .filter_map(|action| match action {
                Action::ReadSpilled { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        assert_eq!(numbers, [1, 2]);
    }

    /// What carries out the file's actions.
    #[derive(Default)]
    struct Disk(Vec<u8>);

    impl Disk {
        fn act(&mut self, h: &mut Harness) {
            for action in h.node.take_actions() {
                match action {
                    Action::SpillPayload { offset, bytes } => {
                        assert_eq!(offset, self.0.len() as u64);
                        self.0.extend(bytes);
                    }
                    Action::ReadSpilled { number, offset, length } => {
                        let bytes = self.0[offset as usize..][..length as usize].to_vec();
                        h.node.spilled_read(number, Ok(bytes));
                    }
                    Action::DropSpilled => self.0.clear(),
                    _ => {}
                }
            }
        }
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
        let (mut disk, mut chunk, mut total, mut most) = (Disk::default(), Vec::new(), 0, 0);
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
        while h.node.core.repl.payload.next() != h.node.core.repl.payload.first || received.is_empty() {
            disk.act(&mut h);
            let mut slices = Vec::new();
            let offered = h.node.outgoing(replica, &mut slices);
            assert!(offered > 0, "it is stuck after {} bytes", received.len());
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = offered.min(100_003);
            received.extend_from_slice(&bytes[..count]);
            h.node.sent(replica, count);
            assert!(h.node.snapshot_unsent_bytes() < LIMIT + READ_AHEAD_BYTES + 64 * 1024);
        }
        disk.act(&mut h);
        assert!(disk.0.is_empty(), "the file is of no use any more");
        let start = received.windows(5).position(|bytes| bytes == b"REDIS").expect("the snapshot's header");
        let file = &received[start..start + total];
        let mut loaded = Harness::new();
        loaded.node.begin_load_at_start(file.len() as u64);
        loaded.node.load_bytes(file).unwrap();
        loaded.node.load_finished(Ok(()));
        assert_eq!(loaded.run("DEBUG DIGEST"), digest);
    }
}
