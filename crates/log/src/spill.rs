//! Chunks of bytes in order, of which a part lies in a file of the surroundings.
//!
//! ```text
//!   first                                                              next
//!     | in the file | in the file, held | in the file | being written | memory |
//!                     ^ a reader            read ahead of it
//! ```
//!
//! Two things are kept so: the part of the [`crate::Log`] that memory has no room for, and a snapshot on its way to
//! replicas. Whoever owns the chunks says which of them go to the file, and hands the [`SpillRequest`]s to somebody who
//! has files; the answers come back by number. A chunk's bytes stay in memory until they are written, and come back
//! before a reader needs them; those are let go of again when no reader is near.
//!
//! Room in the file is given in order and freed in the same order, so the file is a ring: what is new goes behind the
//! newest, or to the beginning when that was freed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Bytes behind a reader's chunk that are read back ahead of need.
pub const READ_AHEAD_BYTES: usize = 512 << 10;

/// A chunk in the file is held in memory for a reader that is less than so many chunks behind it.
const NEAR_CHUNKS: u64 = 8;

/// What is to be done to the file, in this order.
#[derive(Clone, Debug)]
pub enum SpillRequest {
    /// Write there, into a new file if there is none; answered by [`Spill::written`].
    Write { number: u64, offset: u64, bytes: Arc<Vec<u8>> },
    /// Read what was written there; answered by [`Spill::read_back`].
    Read { number: u64, offset: u64, length: u64 },
    /// The file is of no use any more.
    Drop,
}

/// See the module. Chunks are numbered; a number is never used again.
#[derive(Debug)]
pub struct Spill {
    /// How far before a chunk a reader is near; not 0. 64 but in the simulator.
    pub near_chunks: u64,
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk.
    first: u64,
    /// Position behind the last byte, as the owner counts them.
    end: u64,
    /// What the chunks hold in memory, with their slack.
    memory_bytes: usize,
    /// Chunks that are being written, wanted or not, and what they hold in memory.
    writing: BTreeMap<u64, usize>,
    writing_bytes: usize,
    /// Offset and length of the chunks that have room in the file, oldest first.
    places: VecDeque<(u64, u64)>,
    /// Those that are in the file and in memory.
    held: BTreeSet<u64>,
    requests: Vec<SpillRequest>,
}

#[derive(Debug)]
struct Chunk {
    /// Position of the first byte.
    start: u64,
    length: usize,
    place: Place,
    /// Absent only while it is in the file.
    bytes: Option<Arc<Vec<u8>>>,
}

/// See [`Spill::bytes_from`].
#[derive(Clone, Debug, Default)]
pub struct SpilledBytes<'a>(std::collections::vec_deque::Iter<'a, Chunk>);

/// Where a chunk is, with its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    Writing(u64),
    File(u64),
    /// It was asked for, and has not come.
    Reading(u64),
    /// It could not be written; its room in the file is empty.
    Unwritable,
}

impl Default for Spill {
    fn default() -> Self {
        Spill {
            near_chunks: NEAR_CHUNKS,
            chunks: VecDeque::new(),
            first: 0,
            end: 0,
            memory_bytes: 0,
            writing: BTreeMap::new(),
            writing_bytes: 0,
            places: VecDeque::new(),
            held: BTreeSet::new(),
            requests: Vec::new(),
        }
    }
}

impl Spill {
    /// Adds a chunk; `place` is where [`Spill::room_for`] has room for it in the file.
    pub fn push(&mut self, bytes: Arc<Vec<u8>>, place: Option<u64>) {
        let (start, length) = (self.end, bytes.len());
        self.end += length as u64;
        self.memory_bytes += bytes.capacity();
        let state = match place {
            None => Place::Memory,
            Some(offset) => {
                self.writing_bytes += bytes.capacity();
                self.writing.insert(self.next(), bytes.capacity());
                self.places.push_back((offset, length as u64));
                let (number, bytes) = (self.next(), Arc::clone(&bytes));
                self.requests.push(SpillRequest::Write { number, offset, bytes });
                Place::Writing(offset)
            }
        };
        self.chunks.push_back(Chunk { start, length, place: state, bytes: Some(bytes) });
    }

    /// Where a chunk of this length has room in a file of at most `limit` bytes.
    pub fn room_for(&self, length: u64, limit: u64) -> Option<u64> {
        let (Some(&(oldest, _)), Some(&(newest, newest_length))) = (self.places.front(), self.places.back())
        else {
            return (length <= limit).then_some(0);
        };
        let end = newest + newest_length;
        if end <= oldest {
            return (end + length <= oldest.min(limit)).then_some(end);
        }
        if end.saturating_add(length) <= limit {
            return Some(end);
        }
        (length <= oldest.min(limit)).then_some(0)
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Number of the first chunk, or of the next to come when there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next chunk will have.
    pub fn next(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    /// Position of the first byte, or of the next to come when there is none.
    pub fn start(&self) -> u64 {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Position behind the first chunk.
    pub fn first_end(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.start + chunk.length as u64)
    }

    /// The number of the chunk that has the byte at `position`, and how far into it.
    pub fn find(&self, position: u64) -> Option<(u64, usize)> {
        if position < self.start() || position >= self.end {
            return None;
        }
        let index = self.chunks.partition_point(|chunk| chunk.start <= position) - 1;
        Some((self.first + index as u64, (position - self.chunks[index].start) as usize))
    }

    /// The bytes of a chunk, if it is there and in memory.
    pub fn chunk(&self, number: u64) -> Option<&[u8]> {
        self.bytes_from(number).next()?
    }

    /// The bytes of this chunk and all after it, nothing in the place of those that are not in memory.
    pub fn bytes_from(&self, number: u64) -> SpilledBytes<'_> {
        let index = self.index(number).unwrap_or(usize::MAX).min(self.chunks.len());
        SpilledBytes(self.chunks.range(index..))
    }

    /// How many of the last chunks are in memory without a gap.
    pub fn held_at_end(&self) -> usize {
        self.chunks.iter().rev().take_while(|chunk| chunk.bytes.is_some()).count()
    }

    /// Position of the first byte of a chunk.
    pub fn start_of(&self, number: u64) -> u64 {
        self.index(number).and_then(|index| self.chunks.get(index)).map_or(self.end, |chunk| chunk.start)
    }

    /// A reader is at the chunk `number`: what it is going to read is asked for.
    pub fn read_ahead(&mut self, number: u64) {
        let Some(start) = self.index(number) else { return };
        let mut ahead = 0;
        for (index, chunk) in self.chunks.iter_mut().enumerate().skip(start).take(self.near_chunks as usize) {
            if ahead >= READ_AHEAD_BYTES {
                break;
            }
            ahead += chunk.length;
            if let (None, Place::File(offset)) = (&chunk.bytes, chunk.place) {
                chunk.place = Place::Reading(offset);
                let (number, length) = (self.first + index as u64, chunk.length as u64);
                self.requests.push(SpillRequest::Read { number, offset, length });
            }
        }
    }

    /// The answer to [`SpillRequest::Write`]. What could not be written stays in memory. The chunk may not be wanted any
    /// more.
    pub fn written(&mut self, number: u64, succeeded: bool) {
        self.writing_bytes -= self.writing.remove(&number).expect("a chunk is written once");
        let index = self.index(number);
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) else { return };
        let Place::Writing(offset) = chunk.place else { panic!("a chunk that is kept is being written") };
        if succeeded {
            chunk.place = Place::File(offset);
            self.held.insert(number);
        } else {
            chunk.place = Place::Unwritable;
        }
    }

    /// The answer to [`SpillRequest::Read`]. The chunk may not be wanted any more.
    pub fn read_back(&mut self, number: u64, bytes: Vec<u8>) {
        let index = self.index(number);
        let Some(chunk) = index.and_then(|index| self.chunks.get_mut(index)) else { return };
        let Place::Reading(offset) = chunk.place else { panic!("a chunk is read when it was asked for") };
        assert_eq!(chunk.length, bytes.len(), "a chunk comes back from the file as it went");
        chunk.place = Place::File(offset);
        self.memory_bytes += bytes.capacity();
        chunk.bytes = Some(Arc::new(bytes));
        self.held.insert(number);
    }

    /// Lets go of the memory of chunks that are in the file, unless one of `readers` (numbers of chunks, in any order) is
    /// near. Returns the memory that it let go of last.
    pub fn keep_near(&mut self, readers: &mut [u64]) -> Option<Arc<Vec<u8>>> {
        readers.sort_unstable();
        let mut last = None;
        self.held.retain(|number| {
            let behind = readers.partition_point(|reader| reader <= number);
            if behind > 0 && number - readers[behind - 1] < self.near_chunks {
                return true;
            }
            let chunk = &mut self.chunks[(number - self.first) as usize];
            let bytes = chunk.bytes.take().expect("what is held is in memory");
            self.memory_bytes -= bytes.capacity();
            last = Some(bytes);
            false
        });
        last
    }

    /// Drops the chunks below `number`, and the file with the last one that it has.
    pub fn release_below(&mut self, number: u64) {
        let had_places = !self.places.is_empty();
        while self.first < number
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.memory_bytes -= chunk.bytes.map_or(0, |bytes| bytes.capacity());
            if chunk.place != Place::Memory {
                self.places.pop_front();
                self.held.remove(&self.first);
            }
            self.first += 1;
        }
        if had_places && self.places.is_empty() {
            self.requests.push(SpillRequest::Drop);
        }
    }

    /// Drops all chunks; the next byte to come is at `position`.
    pub fn clear(&mut self, position: u64) {
        self.release_below(self.next());
        self.end = position;
    }

    /// Moves all positions up.
    pub fn rebase(&mut self, by: u64) {
        self.end += by;
        self.chunks.iter_mut().for_each(|chunk| chunk.start += by);
    }

    /// What is to be done since the last call.
    pub fn take_requests(&mut self) -> impl Iterator<Item = SpillRequest> + '_ {
        self.requests.drain(..)
    }

    /// Some chunk has room in the file.
    pub fn uses_file(&self) -> bool {
        !self.places.is_empty()
    }

    /// Held in memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What is being written holds so much.
    pub fn writing_bytes(&self) -> usize {
        self.writing_bytes
    }

    /// What keeping track of the chunks takes.
    pub fn overhead_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>() + self.places.capacity() * size_of::<(u64, u64)>()
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

impl<'a> Iterator for SpilledBytes<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        self.0.next().map(|chunk| chunk.bytes.as_ref().map(|bytes| bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(spill: &mut Spill, byte: u8, length: usize, limit: u64) -> bool {
        let place = spill.room_for(length as u64, limit);
        if place.is_some() {
            spill.push(Arc::new(vec![byte; length]), place);
        }
        place.is_some()
    }

    fn reads(spill: &mut Spill) -> Vec<(u64, u64, u64)> {
        let read = |request| match request {
            SpillRequest::Read { number, offset, length } => Some((number, offset, length)),
            _ => None,
        };
        spill.take_requests().filter_map(read).collect()
    }

    fn in_file(count: u8, length: usize) -> Spill {
        let mut spill = Spill::default();
        for byte in 0..count {
            assert!(push(&mut spill, byte, length, u64::MAX));
        }
        (0..u64::from(count)).for_each(|number| spill.written(number, true));
        spill.keep_near(&mut []);
        spill.take_requests().for_each(drop);
        spill
    }

    #[test]
    fn bytes_stay_until_they_are_written_and_come_back_when_a_reader_is_near() {
        let mut spill = Spill::default();
        spill.clear(100);
        assert!(push(&mut spill, 7, 10, u64::MAX));
        assert_eq!(
            (spill.chunk(0), spill.memory_bytes(), spill.writing_bytes()),
            (Some(&[7; 10][..]), 10, 10)
        );
        assert_eq!((spill.find(99), spill.find(109), spill.find(110)), (None, Some((0, 9)), None));
        spill.keep_near(&mut []);
        assert!(spill.chunk(0).is_some(), "it is not in the file yet");
        spill.written(0, true);
        spill.keep_near(&mut [0]);
        assert!(spill.chunk(0).is_some(), "somebody reads it");
        let let_go = spill.keep_near(&mut []).expect("it is in the file");
        assert_eq!((let_go.len(), spill.chunk(0), spill.memory_bytes()), (10, None, 0));
        assert!(matches!(
            spill.take_requests().next(),
            Some(SpillRequest::Write { number: 0, offset: 0, .. })
        ));
        spill.read_ahead(0);
        spill.read_ahead(0);
        assert_eq!(reads(&mut spill), [(0, 0, 10)], "it is asked for once");
        spill.read_back(0, vec![7; 10]);
        assert_eq!((spill.chunk(0), spill.memory_bytes()), (Some(&[7; 10][..]), 10));
    }

    #[test]
    fn a_reader_reads_only_so_far_ahead() {
        let mut spill = in_file(5, READ_AHEAD_BYTES / 2);
        spill.read_ahead(1);
        assert_eq!(reads(&mut spill).iter().map(|read| read.0).collect::<Vec<_>>(), [1, 2]);
        let mut spill = in_file(200, 10);
        spill.read_ahead(10);
        let numbers: Vec<u64> = reads(&mut spill).iter().map(|read| read.0).collect();
        assert_eq!(numbers, (10..10 + NEAR_CHUNKS).collect::<Vec<_>>());
        // What was read ahead is near enough to be kept.
        numbers.iter().for_each(|number| spill.read_back(*number, vec![*number as u8; 10]));
        assert!(spill.keep_near(&mut [10]).is_none());
        spill.keep_near(&mut [12, 100]);
        assert_eq!((spill.chunk(11), spill.chunk(12).is_some()), (None, true));
    }

    #[test]
    fn what_cannot_be_written_stays_in_memory() {
        let mut spill = Spill::default();
        assert!(push(&mut spill, 1, 10, u64::MAX) && push(&mut spill, 2, 10, u64::MAX));
        spill.written(0, false);
        spill.written(1, true);
        spill.keep_near(&mut []);
        assert_eq!((spill.chunk(0), spill.chunk(1)), (Some(&[1; 10][..]), None));
        spill.read_ahead(0);
        assert_eq!(reads(&mut spill), [(1, 10, 10)]);
    }

    #[test]
    fn answers_about_chunks_that_are_gone_change_nothing() {
        let mut spill = in_file(1, 10);
        spill.read_ahead(0);
        assert!(push(&mut spill, 1, 20, u64::MAX));
        spill.clear(500);
        assert!(matches!(spill.take_requests().last(), Some(SpillRequest::Drop)));
        assert_eq!((spill.memory_bytes(), spill.writing_bytes()), (0, 20), "the disk still has it");
        spill.read_back(0, vec![0; 10]);
        spill.written(1, true);
        assert_eq!((spill.memory_bytes(), spill.writing_bytes(), spill.is_empty()), (0, 0, true));
        assert!(push(&mut spill, 2, 10, u64::MAX));
        assert_eq!(spill.find(505), Some((2, 5)), "numbers go on");
    }

    proptest! {
        /// The file is a ring: no chunk is written where another one is that is still wanted, nor beyond the limit.
        #[test]
        fn chunks_never_share_room(
            limit in 50u64..200,
            steps in proptest::collection::vec((1usize..60, 0u8..3), 1..200),
        ) {
            let mut spill = Spill::default();
            let mut places: VecDeque<(u64, u64)> = VecDeque::new();
            for (length, released) in steps {
                for _ in 0..released {
                    spill.release_below(spill.first() + 1);
                    places.pop_front();
                }
                let Some(place) = spill.room_for(length as u64, limit) else {
                    prop_assert!(!places.is_empty() || length as u64 > limit);
                    continue;
                };
                let end = place + length as u64;
                prop_assert!(end <= limit);
                prop_assert!(places.iter().all(|(from, to)| end <= *from || *to <= place));
                spill.push(Arc::new(vec![0; length]), Some(place));
                places.push_back((place, end));
            }
        }
    }
}
