//! HyperLogLog: how many different elements were seen, to within 0.81 %, in at most 12 KiB.
//!
//! A HyperLogLog is an ordinary string, which clients may read, copy and store, so its bytes are exactly those of
//! Redis (its `hyperloglog.c`), down to the order in which a sparse one is rewritten:
//!
//! ```text
//! "HYLL" | encoding: u8, 0 dense, 1 sparse | 3 bytes of zero | cached count: u64 | registers …
//! dense     16384 registers of 6 bits, the first in the lowest bits of the first byte
//! sparse    runs of equal registers: 00nnnnnn            n + 1 zeros
//!                                    01nnnnnn nnnnnnnn   n + 1 zeros, high byte first
//!                                    1vvvvvnn            n + 1 registers of value v + 1
//! ```
//!
//! The highest bit of the cached count says that it is out of date. An element's hash is MurmurHash64A; its low 14 bits
//! choose a register, which keeps the largest number of trailing zeros, plus one, that the rest of a hash had.
//! The estimate follows O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284).

use std::array;

use crate::vector;

/// Registers of a HyperLogLog.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bytes of a dense one.
pub const DENSE_LEN: usize = HEADER + REGISTERS * REGISTER_BITS / 8;

const INDEX_BITS: u32 = 14;
/// Bits of a hash that are searched for zeros.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_BITS: usize = 6;
const HEADER: usize = 16;
const ENCODING_AT: usize = 4;
const CACHE_AT: usize = 8;
/// In the last byte of the cached count.
const STALE: u8 = 0x80;

const SPARSE_RANK_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
const ZERO_RUN_MAX: usize = 64;

/// A HyperLogLog without elements.
pub const EMPTY: [u8; HEADER + 2] = {
    let mut bytes = [0; HEADER + 2];
    bytes[0] = b'H';
    bytes[1] = b'Y';
    bytes[2] = b'L';
    bytes[3] = b'L';
    bytes[ENCODING_AT] = 1;
    bytes[HEADER] = 0x40 | 0x3f;
    bytes[HEADER + 1] = 0xff;
    bytes
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Dense,
    Sparse,
}

/// The bytes do not begin as those of a HyperLogLog do, or are too few or too many for a dense one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHyperLogLog;

/// The runs of a sparse HyperLogLog do not cover its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

/// Where an element belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The register, below [`REGISTERS`].
    pub index: usize,
    /// What the register is raised to, 1 to 51.
    pub rank: u8,
}

impl Place {
    pub fn of(element: &[u8]) -> Place {
        let hash = murmur64(element);
        // The bit above all others ends every run of zeros.
        let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
        Place { index: hash as usize % REGISTERS, rank: rest.trailing_zeros() as u8 + 1 }
    }
}

/// MurmurHash64A (Austin Appleby, public domain), little-endian everywhere, with the seed of Redis.
fn murmur64(text: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = 0xadc8_3b19 ^ (text.len() as u64).wrapping_mul(M);
    let (words, tail) = text.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 47;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// A HyperLogLog as it lies. Dense registers are all there; the runs of a sparse one are checked by those who read them.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
}

impl<'a> View<'a> {
    /// Checks the header: O(1).
    pub fn new(bytes: &'a [u8]) -> Result<View<'a>, NotHyperLogLog> {
        if bytes.len() < HEADER || !bytes.starts_with(b"HYLL") {
            return Err(NotHyperLogLog);
        }
        let encoding = match bytes[ENCODING_AT] {
            0 if bytes.len() == DENSE_LEN => Encoding::Dense,
            1 => Encoding::Sparse,
            _ => return Err(NotHyperLogLog),
        };
        Ok(View { bytes, encoding })
    }

    pub fn encoding(self) -> Encoding {
        self.encoding
    }

    /// The count that was computed last, unless an element has been added since.
    pub fn cached_count(self) -> Option<u64> {
        let count = self.bytes[CACHE_AT..].first_chunk().expect("the header was checked");
        (count[7] & STALE == 0).then(|| u64::from_le_bytes(*count))
    }

    /// The estimate of how many different elements were added.
    pub fn count(self) -> Result<u64, Corrupted> {
        let mut histogram = [0; 64];
        match self.encoding {
            Encoding::Dense => {
                let mut histograms = [[0; 64]; 4];
                self.for_dense_blocks(|_, registers| tally(&mut histograms, registers));
                histogram = total(&histograms);
            }
            Encoding::Sparse => {
                for run in self.checked_runs() {
                    let run = run?;
                    histogram[usize::from(run.rank)] += run.length as u32;
                }
            }
        }
        Ok(estimate(&histogram))
    }

    /// True if adding an element there would change something.
    pub fn would_change(self, place: Place) -> Result<bool, Corrupted> {
        match self.encoding {
            Encoding::Dense => Ok(dense_register(&self.bytes[HEADER..], place.index) < place.rank),
            Encoding::Sparse if place.rank > SPARSE_RANK_MAX => Ok(true),
            Encoding::Sparse => {
                Ok(sparse_find(self.bytes, Cursor::START, place.index)?.run.rank < place.rank)
            }
        }
    }

    /// The same HyperLogLog with all registers side by side.
    pub fn to_dense(self) -> Result<Vec<u8>, Corrupted> {
        if self.encoding == Encoding::Dense {
            return Ok(self.bytes.to_vec());
        }
        let mut dense = vec![0; DENSE_LEN];
        dense[..HEADER].copy_from_slice(&self.bytes[..HEADER]);
        dense[ENCODING_AT] = 0;
        for run in self.checked_runs() {
            let run = run?;
            if run.rank > 0 {
                (run.first..run.first + run.length)
                    .for_each(|index| set_dense_register(&mut dense[HEADER..], index, run.rank));
            }
        }
        Ok(dense)
    }

    /// The runs of a sparse one, unchecked: they may cover too few registers or too many.
    pub fn runs(self) -> Runs<'a> {
        Runs { bytes: self.bytes, cursor: Cursor::START }
    }

    /// The runs, and an error in the place of the first that goes beyond the registers or if they do not reach them.
    fn checked_runs(self) -> impl Iterator<Item = Result<Run, Corrupted>> {
        let mut covered = 0;
        let mut runs = self.runs();
        std::iter::from_fn(move || match runs.next() {
            Some(run) => {
                covered = run.first + run.length;
                Some(if covered <= REGISTERS { Ok(run) } else { Err(Corrupted) })
            }
            None if covered != REGISTERS => {
                covered = REGISTERS;
                Some(Err(Corrupted))
            }
            None => None,
        })
    }

    /// Visits the registers of a dense one, 64 at a time, a byte each; with the index of the first.
    fn for_dense_blocks(self, mut visit: impl FnMut(usize, &[u8; 64])) {
        let (blocks, _) = self.bytes[HEADER..].as_chunks::<48>();
        for (index, block) in blocks.iter().enumerate() {
            let mut registers = [0; 64];
            let (groups, _) = block.as_chunks::<6>();
            let (places, _) = registers.as_chunks_mut::<8>();
            for (group, place) in groups.iter().zip(places) {
                *place = unpack(*group);
            }
            visit(index * 64, &registers);
        }
    }
}

/// Eight registers of 6 bits as eight bytes: halves, quarters, and single ones are moved apart.
#[inline(always)]
fn unpack(group: [u8; 6]) -> [u8; 8] {
    let [a, b, c, d, e, f] = group;
    let x = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let x = x & 0x00ff_ffff | (x & 0xffff_ff00_0000) << 8;
    let x = x & 0x0fff_0000_0fff | (x & 0x00ff_f000_00ff_f000) << 4;
    let x = x & 0x003f_003f_003f_003f | (x & 0x0fc0_0fc0_0fc0_0fc0) << 2;
    x.to_le_bytes()
}

/// The way back of [`unpack`].
#[inline(always)]
fn pack(registers: [u8; 8]) -> [u8; 6] {
    let x = u64::from_le_bytes(registers);
    let x = x & 0x003f_003f_003f_003f | (x & 0x3f00_3f00_3f00_3f00) >> 2;
    let x = x & 0x0fff_0000_0fff | (x & 0x0fff_0000_0fff_0000) >> 4;
    let x = x & 0x00ff_ffff | (x & 0x00ff_ffff_0000_0000) >> 8;
    let [a, b, c, d, e, f, _, _] = x.to_le_bytes();
    [a, b, c, d, e, f]
}

/// Counts how often each value occurs. Neighbours go to histograms of their own: equal ones do not wait for each other.
#[inline(always)]
fn tally(histograms: &mut [[u32; 64]; 4], registers: &[u8]) {
    let (quads, _) = registers.as_chunks::<4>();
    for quad in quads {
        for (histogram, register) in histograms.iter_mut().zip(quad) {
            histogram[usize::from(*register & 63)] += 1;
        }
    }
}

fn total(histograms: &[[u32; 64]; 4]) -> [u32; 64] {
    array::from_fn(|value| histograms.iter().map(|histogram| histogram[value]).sum())
}

/// The number of elements that leave registers distributed like this: Ertl's improved raw estimator.
fn estimate(histogram: &[u32; 64]) -> u64 {
    /// 1 / (2 ln 2), to the digits that Redis has.
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let last = RANK_BITS as usize + 1;
    let mut z = m * tau((m - f64::from(histogram[last])) / m);
    for count in histogram[1..last].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    let count = (ALPHA * m * m / z).round();
    // Registers beyond what a hash can give leave nothing to divide by. Redis then has the lowest of its integers.
    if count < i64::MAX as f64 { count as u64 } else { 1 << 63 }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// Stores what [`View::count`] gave.
pub fn set_cached_count(bytes: &mut [u8], count: u64) {
    bytes[CACHE_AT..HEADER].copy_from_slice(&count.to_le_bytes());
}

/// Says that the cached count is out of date.
pub fn invalidate_cached_count(bytes: &mut [u8]) {
    bytes[HEADER - 1] |= STALE;
}

/// Adds an element to a HyperLogLog; true if that changed it. The cached count is the caller's.
///
/// A sparse one becomes dense when it would grow beyond `sparse_bytes_max`, or when the rank is too high for it.
pub fn add(bytes: &mut Vec<u8>, place: Place, sparse_bytes_max: usize) -> Result<bool, Corrupted> {
    let view = View::new(bytes).map_err(|_| Corrupted)?;
    if view.encoding == Encoding::Dense {
        return Ok(dense_add(bytes, place));
    }
    let mut start = Cursor::START;
    match sparse_add(bytes, place, sparse_bytes_max, &mut start)? {
        SparseAdd::Unchanged => Ok(false),
        SparseAdd::Changed => Ok(true),
        SparseAdd::NoRoom => {
            *bytes = View { bytes, encoding: Encoding::Sparse }.to_dense()?;
            Ok(dense_add(bytes, place))
        }
    }
}

/// Like [`add`], for a dense one, whose bytes stay where they are.
pub fn dense_add(bytes: &mut [u8], place: Place) -> bool {
    let registers = &mut bytes[HEADER..];
    let raises = dense_register(registers, place.index) < place.rank;
    if raises {
        set_dense_register(registers, place.index, place.rank);
    }
    raises
}

/// The two bytes that a dense register lies in, and its shift within them. The last register ends with its byte.
#[inline]
fn dense_place(index: usize) -> (usize, u32) {
    (index * REGISTER_BITS / 8, (index * REGISTER_BITS % 8) as u32)
}

#[inline]
fn dense_register(registers: &[u8], index: usize) -> u8 {
    let (at, shift) = dense_place(index);
    let next = registers.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[at], next]) >> shift) as u8 & 0x3f
}

#[inline]
fn set_dense_register(registers: &mut [u8], index: usize, rank: u8) {
    let (at, shift) = dense_place(index);
    let next = registers.get(at + 1).copied().unwrap_or(0);
    let pair = u16::from_le_bytes([registers[at], next]) & !(0x3f << shift) | u16::from(rank) << shift;
    let [low, high] = pair.to_le_bytes();
    registers[at] = low;
    if let Some(next) = registers.get_mut(at + 1) {
        *next = high;
    }
}

// ---- sparse ----

/// Registers of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first.
    pub first: usize,
    pub length: usize,
    /// Their value, 0 for a run of zeros.
    pub rank: u8,
    /// The run has the form of two bytes.
    pub wide: bool,
}

/// The runs of a sparse HyperLogLog in order.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    bytes: &'a [u8],
    cursor: Cursor,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let run = run_at(self.bytes, self.cursor)?;
        self.cursor = self.cursor.after(run);
        Some(run)
    }
}

/// The place of a run: its first byte, and the register that it begins with.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    at: usize,
    first: usize,
}

impl Cursor {
    const START: Cursor = Cursor { at: HEADER, first: 0 };

    fn after(self, run: Run) -> Cursor {
        Cursor { at: self.at + run.bytes(), first: self.first + run.length }
    }
}

impl Run {
    fn bytes(self) -> usize {
        1 + usize::from(self.wide)
    }

    fn value_byte(rank: u8, length: usize) -> u8 {
        0x80 | (rank - 1) << 2 | (length - 1) as u8
    }
}

/// The run at `cursor`. A wide one whose second byte is missing counts as if that were zero, as for Redis, which reads
/// the end mark of its strings.
#[inline]
fn run_at(bytes: &[u8], cursor: Cursor) -> Option<Run> {
    let byte = *bytes.get(cursor.at)?;
    let low = usize::from(byte & 0x3f);
    let (length, rank, wide) = match byte >> 6 {
        0 => (low + 1, 0, false),
        1 => (low << 8 | usize::from(bytes.get(cursor.at + 1).copied().unwrap_or(0)), 0, true),
        _ => (usize::from(byte & 3) + 1, (byte >> 2 & 0x1f) + 1, false),
    };
    Some(Run { first: cursor.first, length: length + usize::from(wide), rank, wide })
}

/// A run, where it lies, and where the one before it does.
struct Found {
    run: Run,
    at: Cursor,
    before: Option<Cursor>,
}

/// Finds the run of register `index`, searching from `start`.
fn sparse_find(bytes: &[u8], start: Cursor, index: usize) -> Result<Found, Corrupted> {
    let (mut at, mut before) = (start, None);
    loop {
        let run = run_at(bytes, at).ok_or(Corrupted)?;
        if index < run.first + run.length {
            return Ok(Found { run, at, before });
        }
        before = Some(at);
        at = at.after(run);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SparseAdd {
    Unchanged,
    Changed,
    /// It has to become dense first.
    NoRoom,
}

/// Raises a register of a sparse HyperLogLog. `hint` is where to search from, a run at or before the register's, and
/// is moved along: additions in ascending order do not search from the start each time.
fn sparse_add(
    bytes: &mut Vec<u8>,
    place: Place,
    bytes_max: usize,
    hint: &mut Cursor,
) -> Result<SparseAdd, Corrupted> {
    let Place { index, rank } = place;
    if rank > SPARSE_RANK_MAX {
        return Ok(SparseAdd::NoRoom);
    }
    let mut found = sparse_find(bytes, *hint, index)?;
    if found.before.is_none() && hint.at != HEADER {
        found = sparse_find(bytes, Cursor::START, index)?;
    }
    let Found { run, at, before } = found;
    let from = before.unwrap_or(Cursor::START);
    *hint = from;
    if run.rank >= rank {
        return Ok(SparseAdd::Unchanged);
    }
    if at.at + run.bytes() > bytes.len() {
        return Err(Corrupted);
    }
    if run.length == 1 && !run.wide {
        bytes[at.at] = Run::value_byte(rank, 1);
    } else {
        // The run falls into what is before the register, the register, and what is behind it.
        let mut parts = [0; 5];
        let mut used = 0;
        let push_rest = |parts: &mut [u8; 5], used: &mut usize, length: usize| {
            match length {
                0 => return,
                _ if run.rank > 0 => parts[*used] = Run::value_byte(run.rank, length),
                1..=ZERO_RUN_MAX => parts[*used] = (length - 1) as u8,
                _ => {
                    parts[*used] = 0x40 | ((length - 1) >> 8) as u8;
                    *used += 1;
                    parts[*used] = (length - 1) as u8;
                }
            }
            *used += 1;
        };
        push_rest(&mut parts, &mut used, index - run.first);
        parts[used] = Run::value_byte(rank, 1);
        used += 1;
        push_rest(&mut parts, &mut used, run.first + run.length - 1 - index);
        let (length, old) = (bytes.len(), run.bytes());
        if used > old && length + used - old > bytes_max {
            return Ok(SparseAdd::NoRoom);
        }
        replace(bytes, at.at, old, &parts[..used]);
    }
    merge_values(bytes, from.at);
    Ok(SparseAdd::Changed)
}

/// Puts `new` in the place of `old` bytes at `at`.
fn replace(bytes: &mut Vec<u8>, at: usize, old: usize, new: &[u8]) {
    let length = bytes.len();
    if new.len() > old {
        bytes.resize(length + new.len() - old, 0);
    }
    bytes.copy_within(at + old..length, at + new.len());
    bytes.truncate(length + new.len() - old);
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Joins neighbours of one value, in five steps from `at` on: as far as an addition can have reached, and as Redis
/// does it, since the bytes must become the same.
fn merge_values(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let Some(byte) = bytes.get(at).copied() else { return };
        if byte & 0x80 == 0 {
            at += 1 + usize::from(byte & 0x40 != 0);
            continue;
        }
        // Equal but for the length, and a value run too.
        if let Some(next) = bytes.get(at + 1)
            && (byte ^ next) & !3 == 0
        {
            let length = usize::from(byte & 3) + usize::from(next & 3) + 2;
            if length <= VALUE_RUN_MAX {
                bytes[at] = byte & !3 | (length - 1) as u8;
                bytes.remove(at + 1);
                continue;
            }
        }
        at += 1;
    }
}

// ---- several at once ----

/// All registers, a byte each: what several HyperLogLogs are merged in.
#[derive(Clone)]
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Self {
        Registers::new()
    }
}

impl Registers {
    pub fn new() -> Registers {
        Registers(vec![0; REGISTERS].try_into().expect("the vector has that many bytes"))
    }

    /// Raises each register to that of `other`.
    pub fn merge(&mut self, other: View<'_>) -> Result<(), Corrupted> {
        match other.encoding {
            Encoding::Dense => {
                if !vector::raise_registers(&mut self.0[..], &other.bytes[HEADER..]) {
                    self.raise_to_dense(other);
                }
            }
            Encoding::Sparse => {
                for run in other.checked_runs() {
                    let run = run?;
                    if run.rank > 0 {
                        let mine = &mut self.0[run.first..run.first + run.length];
                        mine.iter_mut().for_each(|mine| *mine = (*mine).max(run.rank));
                    }
                }
            }
        }
        Ok(())
    }

    /// Raises each register to that of a dense HyperLogLog, on any processor.
    fn raise_to_dense(&mut self, other: View<'_>) {
        other.for_dense_blocks(|first, registers| {
            for (mine, register) in self.0[first..first + 64].iter_mut().zip(registers) {
                *mine = (*mine).max(*register);
            }
        });
    }

    /// The estimate for all that was merged.
    pub fn count(&self) -> u64 {
        let mut histograms = [[0; 64]; 4];
        tally(&mut histograms, &self.0[..]);
        estimate(&total(&histograms))
    }

    /// The registers one by one.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.iter().copied()
    }

    /// Writes the registers to a HyperLogLog that has been merged into them, and says that its cached count is out of
    /// date. A sparse one stays sparse if that is wanted and it has the room.
    pub fn write_to(
        &self,
        bytes: &mut Vec<u8>,
        dense: bool,
        sparse_bytes_max: usize,
    ) -> Result<(), Corrupted> {
        let view = View::new(bytes).map_err(|_| Corrupted)?;
        if dense || view.encoding == Encoding::Dense || !self.write_sparse(bytes, sparse_bytes_max)? {
            let header = *bytes.first_chunk::<HEADER>().expect("the header was checked");
            self.write_dense(bytes, header);
        }
        invalidate_cached_count(bytes);
        Ok(())
    }

    /// Raises the registers of a sparse one, one after the other; false if it has to become dense.
    fn write_sparse(&self, bytes: &mut Vec<u8>, bytes_max: usize) -> Result<bool, Corrupted> {
        let mut hint = Cursor::START;
        for (index, rank) in self.iter().enumerate().filter(|(_, rank)| *rank > 0) {
            if sparse_add(bytes, Place { index, rank }, bytes_max, &mut hint)? == SparseAdd::NoRoom {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write_dense(&self, bytes: &mut Vec<u8>, header: [u8; HEADER]) {
        bytes.reserve_exact(DENSE_LEN.saturating_sub(bytes.len()));
        bytes.resize(DENSE_LEN, 0);
        bytes[..HEADER].copy_from_slice(&header);
        bytes[ENCODING_AT] = 0;
        let packed = &mut bytes[HEADER..];
        if !vector::pack_registers(&self.0[..], packed) {
            self.pack_into(packed);
        }
    }

    /// Packs the registers to 6 bits each, on any processor.
    fn pack_into(&self, packed: &mut [u8]) {
        let (groups, _) = self.0.as_chunks::<8>();
        let (places, _) = packed.as_chunks_mut::<6>();
        groups.iter().zip(places).for_each(|(group, place)| *place = pack(*group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, fewer};
    use proptest::prelude::*;

    fn with(elements: impl IntoIterator<Item = u64>, sparse_bytes_max: usize) -> Vec<u8> {
        let mut bytes = EMPTY.to_vec();
        for element in elements {
            add(&mut bytes, Place::of(&element.to_le_bytes()), sparse_bytes_max).expect("it is sound");
        }
        bytes
    }

    fn registers(bytes: &[u8]) -> Vec<u8> {
        let mut registers = Registers::new();
        registers.merge(View::new(bytes).expect("it has a header")).expect("it is sound");
        registers.iter().collect()
    }

    fn count(bytes: &[u8]) -> u64 {
        View::new(bytes).expect("it has a header").count().expect("it is sound")
    }

    fn runs(bytes: &[u8]) -> Vec<(usize, u8)> {
        View::new(bytes).expect("it has a header").runs().map(|run| (run.length, run.rank)).collect()
    }

    #[test]
    fn places_are_those_of_redis() {
        // Seen through `PFDEBUG DECODE` of redis 7.0.15 after `PFADD key element`.
        for (element, index, rank) in [
            ("", 5938, 2),
            ("a", 12711, 2),
            ("foo", 7348, 5),
            ("redis", 9467, 2),
            ("12345678", 10579, 3),
            ("123456789", 9293, 2),
            ("a longer element than eight bytes", 13191, 1),
        ] {
            assert_eq!(Place::of(element.as_bytes()), Place { index, rank }, "{element:?}");
        }
    }

    #[test]
    fn headers() {
        assert_eq!(View::new(&EMPTY).map(View::encoding), Ok(Encoding::Sparse));
        let dense = View::new(&EMPTY).unwrap().to_dense().unwrap();
        assert_eq!(View::new(&dense).map(View::encoding), Ok(Encoding::Dense));
        assert_eq!((count(&EMPTY), count(&dense)), (0, 0));
        for bytes in [&EMPTY[..15], &dense[..DENSE_LEN - 1], b"hyll\x01\0\0\0\0\0\0\0\0\0\0\0", &[0; 16]] {
            assert!(View::new(bytes).is_err());
        }
        let mut unknown = EMPTY;
        unknown[ENCODING_AT] = 2;
        assert!(View::new(&unknown).is_err());
    }

    #[test]
    fn the_cached_count_is_valid_until_it_is_said_not_to_be() {
        let mut bytes = EMPTY;
        assert_eq!(View::new(&bytes).unwrap().cached_count(), Some(0));
        set_cached_count(&mut bytes, 0x0102_0304);
        assert_eq!(View::new(&bytes).unwrap().cached_count(), Some(0x0102_0304));
        invalidate_cached_count(&mut bytes);
        assert_eq!(View::new(&bytes).unwrap().cached_count(), None);
    }

    #[test]
    fn runs_split_and_join() {
        let mut bytes = EMPTY.to_vec();
        let mut add = |index, rank| {
            add(&mut bytes, Place { index, rank }, 3000).unwrap();
            runs(&bytes)
        };
        assert_eq!(add(100, 3), [(100, 0), (1, 3), (REGISTERS - 101, 0)]);
        assert_eq!(add(102, 3), [(100, 0), (1, 3), (1, 0), (1, 3), (REGISTERS - 103, 0)]);
        assert_eq!(add(101, 3), [(100, 0), (3, 3), (REGISTERS - 103, 0)]);
        assert_eq!(add(101, 5), [(100, 0), (1, 3), (1, 5), (1, 3), (REGISTERS - 103, 0)]);
        assert_eq!(add(101, 4), [(100, 0), (1, 3), (1, 5), (1, 3), (REGISTERS - 103, 0)]);
        assert_eq!(add(0, 1), [(1, 1), (99, 0), (1, 3), (1, 5), (1, 3), (REGISTERS - 103, 0)]);
        assert_eq!(add(REGISTERS - 1, 2).last(), Some(&(1, 2)));
    }

    #[test]
    fn what_outgrows_the_sparse_form_becomes_dense() {
        let mut bytes = with(0..3, 3000);
        assert_eq!(View::new(&bytes).unwrap().encoding(), Encoding::Sparse);
        assert_eq!(add(&mut bytes, Place { index: 7, rank: 33 }, 3000), Ok(true));
        assert_eq!((bytes.len(), registers(&bytes)[7]), (DENSE_LEN, 33));
        assert_eq!(with(0..1, EMPTY.len() + 2).len(), DENSE_LEN);
        assert_eq!(with(0..1, EMPTY.len() + 3).len(), EMPTY.len() + 3);
    }

    #[test]
    fn corrupted_runs_are_noticed() {
        let sound = with(0..3, 3000);
        let too_many = [&sound[..], &[0]].concat();
        let too_few = &sound[..sound.len() - 1];
        let endless = [&EMPTY[..], &[0x7f; 200]].concat();
        for bytes in [&too_many[..], too_few, &endless] {
            let view = View::new(bytes).unwrap();
            assert_eq!(view.count(), Err(Corrupted));
            assert_eq!(view.to_dense(), Err(Corrupted));
            assert_eq!(Registers::new().merge(view), Err(Corrupted));
        }
        let mut cut = EMPTY[..HEADER].to_vec();
        assert_eq!(add(&mut cut, Place { index: 0, rank: 1 }, 3000), Err(Corrupted));
        cut.push(0x40);
        assert_eq!(add(&mut cut, Place { index: 0, rank: 1 }, 3000), Err(Corrupted));
        assert_eq!(add(&mut cut, Place { index: 0, rank: 33 }, 3000), Err(Corrupted));
    }

    #[test]
    fn registers_beyond_any_hash_leave_the_lowest_integer() {
        let mut dense = vec![0xff; DENSE_LEN];
        dense[..HEADER].copy_from_slice(&EMPTY[..HEADER]);
        dense[ENCODING_AT] = 0;
        assert_eq!(count(&dense), 1 << 63);
    }

    #[test]
    #[cfg_attr(miri, ignore = "16,384 registers in safe code")]
    fn estimates_are_close() {
        for (elements, most) in [(1u64, 0), (10, 1), (1000, 30), (100_000, 3000)] {
            let bytes = with((0..elements).map(|element| element ^ 0x5eed), 3000);
            assert!(count(&bytes).abs_diff(elements) <= most, "{elements}: {}", count(&bytes));
        }
    }

    /// Registers that make long runs, short runs and isolated values.
    fn places() -> impl Strategy<Value = Vec<Place>> {
        let index = prop_oneof![0..40usize, 1000..1300usize, 0..REGISTERS, REGISTERS - 20..REGISTERS];
        let rank = prop_oneof![8 => 1..4u8, 1 => 1..=32u8];
        prop::collection::vec(
            (index, rank).prop_map(|(index, rank)| Place { index, rank }),
            0..fewer(300, 40),
        )
    }

    proptest! {
        #![proptest_config(cases(128, 1))]

        #[test]
        #[cfg_attr(miri, ignore = "16,384 registers in safe code; merging takes the same vector instructions")]
        fn both_forms_hold_the_same_registers(places in places(), sparse_bytes_max in 20..400usize) {
            let mut model = vec![0; REGISTERS];
            let mut sparse = EMPTY.to_vec();
            let mut dense = View::new(&EMPTY).unwrap().to_dense().unwrap();
            for place in places {
                let raises = place.rank > model[place.index];
                model[place.index] = model[place.index].max(place.rank);
                prop_assert_eq!(View::new(&sparse).unwrap().would_change(place), Ok(raises));
                prop_assert_eq!(View::new(&dense).unwrap().would_change(place), Ok(raises));
                prop_assert_eq!(add(&mut sparse, place, sparse_bytes_max), Ok(raises));
                prop_assert_eq!(dense_add(&mut dense, place), raises);
            }
            prop_assert_eq!(&registers(&sparse), &model);
            prop_assert_eq!(&registers(&dense), &model);
            prop_assert_eq!(count(&sparse), count(&dense));
            let as_dense = View::new(&sparse).unwrap().to_dense().unwrap();
            prop_assert_eq!(&as_dense, &dense);
            let mut anywhere = Registers::new();
            anywhere.raise_to_dense(View::new(&dense).unwrap());
            prop_assert_eq!(&anywhere.0[..], &model[..]);
        }

        #[test]
        fn merging_takes_the_higher_register_of_each(
            a in places(), b in places(), bytes_max in 20..2000usize, dense in any::<bool>(),
        ) {
            let build = |places: &[Place]| {
                let mut bytes = EMPTY.to_vec();
                places.iter().for_each(|place| { add(&mut bytes, *place, 3000).unwrap(); });
                bytes
            };
            let (a, b) = (build(&a), build(&b));
            let mut merged = Registers::new();
            merged.merge(View::new(&a).unwrap()).unwrap();
            merged.merge(View::new(&b).unwrap()).unwrap();
            let highest: Vec<u8> =
                registers(&a).iter().zip(registers(&b)).map(|(a, b)| (*a).max(b)).collect();
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), highest.clone());
            // One by one from the start, without the hint that `write_to` goes by.
            let mut slow = a.clone();
            for (index, rank) in highest.iter().copied().enumerate().filter(|(_, rank)| *rank > 0) {
                add(&mut slow, Place { index, rank }, bytes_max).unwrap();
            }
            let (mut packed, mut packed_anywhere) = (vec![0; DENSE_LEN - HEADER], vec![0; DENSE_LEN - HEADER]);
            merged.pack_into(&mut packed_anywhere);
            if vector::pack_registers(&merged.0[..], &mut packed) {
                prop_assert!(packed == packed_anywhere, "packed alike");
            }
            if dense {
                slow = View::new(&slow).unwrap().to_dense().unwrap();
            }
            invalidate_cached_count(&mut slow);
            let mut target = a;
            merged.write_to(&mut target, dense, bytes_max).unwrap();
            prop_assert!(target == slow, "the same bytes");
            prop_assert_eq!(count(&target), merged.count());
        }
    }
}
