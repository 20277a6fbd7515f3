//! LZF, the compression of strings in an RDB file (the format of Marc Lehmann's liblzf).
//!
//! A compressed string is a row of these, each led by a control byte:
//!
//! ```text
//! 000LLLLL                        L + 1 literal bytes follow (1..=32)
//! LLLooooo oooooooo               copy L + 2 bytes (3..=8, L in 1..=6) from o + 1 bytes back
//! 111ooooo LLLLLLLL oooooooo      copy L + 9 bytes (9..=264) from o + 1 bytes back
//! ```
//!
//! A copy may overlap what it produces, so a run is a copy from one byte back. The uncompressed length is
//! kept outside, by the RDB string that holds the compressed bytes.

/// The longest run of literals that one control byte announces.
const LITERALS_MAX: usize = 32;
/// The farthest a copy reaches back.
const DISTANCE_MAX: usize = 1 << 13;
/// The longest copy.
const COPY_MAX: usize = 264;
/// The shortest copy that is looked for: the hash covers three bytes.
const COPY_MIN: usize = 3;
/// Three compressed bytes give at most 264: a longer claim is a lie, refused before memory is taken.
const EXPANSION_MAX: usize = COPY_MAX / 3;

const HASH_BITS: u32 = 13;
/// After this power of two of bytes without a copy, every other one is looked at, and so on.
const SKIP_SHIFT: u32 = 5;

/// Why a compressed string was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LzfError {
    /// The claimed length cannot come out of that many bytes.
    ImpossibleLength,
    /// A control byte announces more than is left.
    InputEndsEarly,
    /// A copy reaches before the first byte.
    CopyBeforeStart,
    /// More comes out than was claimed.
    OutputTooLong,
    /// Less comes out than was claimed.
    OutputTooShort,
}

impl LzfError {
    pub fn what(self) -> &'static str {
        match self {
            LzfError::ImpossibleLength => "LZF string claims more than its bytes can hold",
            LzfError::InputEndsEarly => "LZF string ends inside an instruction",
            LzfError::CopyBeforeStart => "LZF copy from before the start of the string",
            LzfError::OutputTooLong => "LZF string is longer than it claims",
            LzfError::OutputTooShort => "LZF string is shorter than it claims",
        }
    }
}

/// Decompresses `input` into `out` (cleared first), which must come out exactly `len` bytes long.
pub fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), LzfError> {
    out.clear();
    if len > input.len().saturating_mul(EXPANSION_MAX) {
        return Err(LzfError::ImpossibleLength);
    }
    out.reserve(len);
    let mut at = 0;
    while at < input.len() {
        let control = usize::from(input[at]);
        at += 1;
        if control < LITERALS_MAX {
            let literals = input.get(at..at + control + 1).ok_or(LzfError::InputEndsEarly)?;
            if out.len() + literals.len() > len {
                return Err(LzfError::OutputTooLong);
            }
            out.extend_from_slice(literals);
            at += literals.len();
            continue;
        }
        let mut count = control >> 5;
        if count == 7 {
            count += usize::from(*input.get(at).ok_or(LzfError::InputEndsEarly)?);
            at += 1;
        }
        count += 2;
        let low = usize::from(*input.get(at).ok_or(LzfError::InputEndsEarly)?);
        at += 1;
        let distance = ((control & 0x1f) << 8 | low) + 1;
        let from = out.len().checked_sub(distance).ok_or(LzfError::CopyBeforeStart)?;
        if out.len() + count > len {
            return Err(LzfError::OutputTooLong);
        }
        if distance == 1 {
            let run = out[from];
            out.resize(out.len() + count, run);
        } else {
            // Each pass may copy all that lies between the source and the end: the period repeats, so the
            // available stretch doubles until the copy is whole.
            while count > 0 {
                let step = count.min(out.len() - from);
                out.extend_from_within(from..from + step);
                count -= step;
            }
        }
    }
    if out.len() != len {
        return Err(LzfError::OutputTooShort);
    }
    Ok(())
}

/// Compresses strings one after the other. The hash table is kept between calls and never cleared: positions
/// in it count on from string to string, so what an earlier string left is seen to be out of reach.
pub struct Compressor {
    /// By hash of three bytes: the position of their last occurrence, counted over all strings so far.
    table: Box<[u32; 1 << HASH_BITS]>,
    /// The position that the next string's first byte has.
    base: u32,
}

impl Compressor {
    pub fn new() -> Compressor {
        Compressor { table: Box::new([0; 1 << HASH_BITS]), base: 1 }
    }

    /// Appends the compressed form of `input` to `out` if that takes at most `limit` bytes; otherwise leaves
    /// `out` as it was and says false.
    pub fn compress(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        // Positions are 32 bits wide: start over when the string would run out of them. One that is longer
        // than all of them is not worth compressing, and liblzf cannot either.
        let Ok(len) = u32::try_from(input.len()) else { return false };
        if self.base.checked_add(len).is_none() {
            self.table.fill(0);
            self.base = 1;
            if self.base.checked_add(len).is_none() {
                return false;
            }
        }
        let base = self.base;
        self.base += len;

        let start = out.len();
        let fits = |out: &Vec<u8>, more: usize| out.len() - start + more <= limit;
        let mut literals_from = 0;
        let mut at = 0;
        // The last bytes are not looked at: four are read to compare three.
        while let Some(three) = three_at(input, at) {
            let seen = std::mem::replace(&mut self.table[hash(three)], base + at as u32);
            // What lies before `base` is another string's, or the empty table.
            let candidate = seen.checked_sub(base).map(|position| position as usize);
            let found =
                candidate.filter(|&from| at - from <= DISTANCE_MAX && three_at(input, from) == Some(three));
            let Some(from) = found else {
                // The longer nothing repeats, the farther the next look: noise is passed over quickly.
                at += 1 + ((at - literals_from) >> SKIP_SHIFT);
                continue;
            };
            let len = COPY_MIN + common_prefix(&input[from + COPY_MIN..], &input[at + COPY_MIN..]);
            let len = len.min(COPY_MAX);
            let literals = &input[literals_from..at];
            if !fits(out, literals.len() + literals.len().div_ceil(LITERALS_MAX) + 3) {
                out.truncate(start);
                return false;
            }
            push_literals(literals, out);
            push_copy(at - from - 1, len, out);
            at += len;
            literals_from = at;
            // The end of the copy is remembered too: rows that repeat with small changes are found again.
            if let Some(three) = three_at(input, at - 1) {
                self.table[hash(three)] = base + at as u32 - 1;
            }
        }
        let literals = &input[literals_from..];
        if !fits(out, literals.len() + literals.len().div_ceil(LITERALS_MAX)) {
            out.truncate(start);
            return false;
        }
        push_literals(literals, out);
        true
    }
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor::new()
    }
}

/// Three bytes as one number, if one more follows.
#[inline]
fn three_at(input: &[u8], at: usize) -> Option<u32> {
    let four = input.get(at..at + 4)?.try_into().expect("four bytes were taken");
    Some(u32::from_le_bytes(four) << 8)
}

#[inline]
fn hash(three: u32) -> usize {
    (three.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// How many bytes both begin with, up to as many as a copy can use.
#[inline]
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let len = one.len().min(other.len()).min(COPY_MAX);
    let (one, other) = (&one[..len], &other[..len]);
    let eight = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes were cut"));
    let mut at = 0;
    while at + 8 <= len {
        let differ = eight(&one[at..at + 8]) ^ eight(&other[at..at + 8]);
        if differ != 0 {
            return at + (differ.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + one[at..].iter().zip(&other[at..]).take_while(|(a, b)| a == b).count()
}

fn push_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

/// `back` is the distance less one, `len` in 3..=264.
fn push_copy(back: usize, len: usize, out: &mut Vec<u8>) {
    let code = len - 2;
    let high = (back >> 8) as u8;
    if code < 7 {
        out.push((code as u8) << 5 | high);
    } else {
        out.push(7 << 5 | high);
        out.push((code - 7) as u8);
    }
    out.push(back as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(compressor: &mut Compressor, input: &[u8]) -> Option<usize> {
        let mut packed = b"kept".to_vec();
        if !compressor.compress(input, input.len(), &mut packed) {
            assert_eq!(packed, b"kept");
            return None;
        }
        assert_eq!(&packed[..4], b"kept");
        let mut out = Vec::new();
        decompress(&packed[4..], input.len(), &mut out).expect("what was compressed decompresses");
        assert_eq!(out, input);
        Some(packed.len() - 4)
    }

    #[test]
    fn a_run_takes_three_bytes_per_264() {
        let size = round_trip(&mut Compressor::new(), &[b'a'; 10_000]).expect("a run compresses");
        assert!(size < 10_000 / 264 * 3 + 10, "{size}");
    }

    #[test]
    fn what_does_not_get_smaller_is_left_alone() {
        let noise: Vec<u8> = (0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut compressor = Compressor::new();
        let mut out = Vec::new();
        assert!(!compressor.compress(&noise, 500, &mut out));
        assert!(out.is_empty());
        assert!(!compressor.compress(b"abc", 3, &mut out));
        assert!(compressor.compress(b"", 0, &mut out));
    }

    #[test]
    fn the_limit_is_kept_to_the_byte() {
        let text = b"the cat and the dog and the cat and the dog".repeat(3);
        let mut compressor = Compressor::new();
        let mut out = Vec::new();
        assert!(compressor.compress(&text, text.len(), &mut out));
        let size = out.len();
        for limit in 0..size + 8 {
            let mut out = Vec::new();
            let mut compressor = Compressor::new();
            if compressor.compress(&text, limit, &mut out) {
                assert!(out.len() <= limit);
            } else {
                assert!(limit < size + 3, "limit {limit}, size {size}");
            }
        }
    }

    #[test]
    fn positions_start_over_before_they_overflow() {
        let mut compressor = Compressor::new();
        round_trip(&mut compressor, &b"abcabcabcabcabcabcabc".repeat(20));
        compressor.base = u32::MAX - 100;
        round_trip(&mut compressor, &b"abcabcabcabcabcabcabc".repeat(20)).expect("compresses");
        assert!(compressor.base < 1000);
    }

    #[test]
    fn each_lie_is_named() {
        let mut out = Vec::new();
        let mut check = |input: &[u8], len, error| assert_eq!(decompress(input, len, &mut out), Err(error));
        check(&[0x00], 1, LzfError::InputEndsEarly);
        check(&[0x05, b'a'], 6, LzfError::InputEndsEarly);
        check(&[0x00, b'a', 0x20], 4, LzfError::InputEndsEarly);
        check(&[0x00, b'a', 0xe0], 4, LzfError::InputEndsEarly);
        check(&[0x00, b'a', 0xe0, 0x00], 11, LzfError::InputEndsEarly);
        check(&[0x00, b'a', 0x20, 0x01], 4, LzfError::CopyBeforeStart);
        check(&[0x01, b'a', b'b'], 1, LzfError::OutputTooLong);
        check(&[0x00, b'a', 0x20, 0x00], 3, LzfError::OutputTooLong);
        check(&[0x00, b'a'], 2, LzfError::OutputTooShort);
        check(&[0x00, b'a'], usize::MAX, LzfError::ImpossibleLength);
    }

    proptest! {
        #[test]
        fn repetitive_strings_come_back(words in prop::collection::vec("[ab]{1,4}|[a-z]{5}", 0..200), times in 1..4usize) {
            let mut compressor = Compressor::new();
            for n in 0..times {
                round_trip(&mut compressor, words[n.min(words.len())..].concat().as_bytes());
            }
        }

        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..2000), small in prop::collection::vec(0..3u8, 0..20_000)) {
            let mut compressor = Compressor::new();
            round_trip(&mut compressor, &bytes);
            round_trip(&mut compressor, &small);
        }

        #[test]
        fn any_compressed_bytes_are_refused_or_exact(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0..3000usize) {
            let mut out = Vec::new();
            if decompress(&bytes, len, &mut out).is_ok() {
                prop_assert_eq!(out.len(), len);
            }
            prop_assert!(out.capacity() <= 2 * len.max(8));
        }
    }
}
