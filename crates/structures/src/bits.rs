//! Bits of byte strings: counting, finding, combining, and integers of any width at any place.
//!
//! Bit 0 is the most significant bit of the first byte, as `SETBIT` and its like number them, so the bits of a string
//! read from left to right. Nothing here goes bit by bit: the loops run over words, in shapes that the compiler turns
//! into vector code.

use std::ops::Range;

use crate::vector;

/// Bytes that one step of the loops over words takes: four words, so that no step waits for the one before.
const STEP: usize = 32;

/// The 64-bit words of `bytes`, first byte in the lowest bits; `bytes` is a multiple of 8 long.
#[inline]
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// From so many bytes on it is worth asking which vectors the processor has.
const VECTORS_FROM: usize = 256;

/// Number of set bits.
pub fn count_ones(bytes: &[u8]) -> u64 {
    let counted = if bytes.len() >= VECTORS_FROM { vector::count_ones(bytes) } else { None };
    counted.unwrap_or_else(|| count_ones_anywhere(bytes))
}

/// Number of set bits, without an instruction that counts.
///
/// Sixteen words at a time go through a tree of carry-save adders (Harley and Seal), so that only one word in sixteen
/// is counted by itself. The four lanes of a step are independent of each other.
fn count_ones_anywhere(bytes: &[u8]) -> u64 {
    const LANES: usize = 4;
    type Lanes = [u64; LANES];
    /// Three numbers of one bit in each place to one number of two.
    #[inline(always)]
    fn add(a: &mut Lanes, b: Lanes, c: Lanes) -> Lanes {
        std::array::from_fn(|lane| {
            let either = a[lane] ^ b[lane];
            let carry = (a[lane] & b[lane]) | (either & c[lane]);
            a[lane] = either ^ c[lane];
            carry
        })
    }
    let sum = |lanes: Lanes| lanes.into_iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
    let (blocks, rest) = bytes.as_chunks::<{ 16 * STEP }>();
    let (mut ones, mut twos, mut fours, mut eights, mut sixteens) =
        ([0; LANES], [0; LANES], [0; LANES], [0; LANES], 0);
    for block in blocks {
        let at = |index: usize| words::<LANES>(&block[index * STEP..(index + 1) * STEP]);
        let twos_a = add(&mut ones, at(0), at(1));
        let twos_b = add(&mut ones, at(2), at(3));
        let fours_a = add(&mut twos, twos_a, twos_b);
        let twos_a = add(&mut ones, at(4), at(5));
        let twos_b = add(&mut ones, at(6), at(7));
        let fours_b = add(&mut twos, twos_a, twos_b);
        let eights_a = add(&mut fours, fours_a, fours_b);
        let twos_a = add(&mut ones, at(8), at(9));
        let twos_b = add(&mut ones, at(10), at(11));
        let fours_a = add(&mut twos, twos_a, twos_b);
        let twos_a = add(&mut ones, at(12), at(13));
        let twos_b = add(&mut ones, at(14), at(15));
        let fours_b = add(&mut twos, twos_a, twos_b);
        let eights_b = add(&mut fours, fours_a, fours_b);
        sixteens += sum(add(&mut eights, eights_a, eights_b));
    }
    let mut total = 16 * sixteens + 8 * sum(eights) + 4 * sum(fours) + 2 * sum(twos) + sum(ones);
    let (singles, tail) = rest.as_chunks::<8>();
    total += singles.iter().map(|word| u64::from(u64::from_le_bytes(*word).count_ones())).sum::<u64>();
    total + tail.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// Number of set bits among those numbered `bits`, which all lie within `bytes`.
pub fn count_ones_in(bytes: &[u8], bits: Range<usize>) -> u64 {
    let Some((first, inner, last)) = edges(&bits) else { return 0 };
    let edge = |(at, mask): (usize, u8)| u64::from((bytes[at] & mask).count_ones());
    first.map_or(0, edge) + count_ones(&bytes[inner]) + last.map_or(0, edge)
}

/// Number of the first bit that is `set`, among all.
pub fn find(bytes: &[u8], set: bool) -> Option<usize> {
    // Looking for a clear bit is looking for a set one in the complement.
    let flip = if set { 0 } else { u64::MAX };
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let barren = |step: &&[u8; STEP]| {
        let [a, b, c, d] = words::<4>(*step);
        ((a ^ flip) | (b ^ flip) | (c ^ flip) | (d ^ flip)) == 0
    };
    let skipped = steps.iter().take_while(barren).count() * STEP;
    let rest = if skipped < steps.len() * STEP { &bytes[skipped..] } else { rest };
    let at = rest.iter().position(|byte| *byte != flip as u8)?;
    Some((skipped + at) * 8 + (rest[at] ^ flip as u8).leading_zeros() as usize)
}

/// Number of the first bit that is `set`, among those numbered `bits`, which all lie within `bytes`.
pub fn find_in(bytes: &[u8], bits: Range<usize>, set: bool) -> Option<usize> {
    let (first, inner, last) = edges(&bits)?;
    let edge = |(at, mask): (usize, u8)| {
        let found = if set { bytes[at] } else { !bytes[at] } & mask;
        (found != 0).then(|| at * 8 + found.leading_zeros() as usize)
    };
    let start = inner.start * 8;
    first
        .and_then(edge)
        .or_else(|| find(&bytes[inner], set).map(|at| start + at))
        .or_else(|| last.and_then(edge))
}

/// A byte of which only some bits are meant.
type Edge = Option<(usize, u8)>;

/// A range of bits as a first byte in part, whole bytes, and a last byte in part; `None` if it is empty.
fn edges(bits: &Range<usize>) -> Option<(Edge, Range<usize>, Edge)> {
    if bits.is_empty() {
        return None;
    }
    let (from, to) = (bits.start / 8, bits.end / 8);
    let (head, tail) = (0xff_u8 >> (bits.start % 8), !(0xff_u8 >> (bits.end % 8)));
    if from == to {
        return Some((Some((from, head & tail)), from..from, None));
    }
    let first = (head != 0xff).then_some((from, head));
    let last = (tail != 0).then_some((to, tail));
    Some((first, from + usize::from(first.is_some())..to, last))
}

/// Bytes that a field can touch: 64 bits that begin in the middle of a byte.
const FIELD: usize = 9;

/// The unsigned integer of `width` bits, 1 to 64, that begins at bit `at`. What lies behind the end is zero.
pub fn field(bytes: &[u8], at: u64, width: u32) -> u64 {
    let window = match usize::try_from(at / 8) {
        Ok(start) if start < bytes.len() => window(&bytes[start..]),
        _ => 0,
    };
    let shift = 8 * FIELD as u32 - (at % 8) as u32 - width;
    (window >> shift) as u64 & mask(width)
}

/// Writes the low `width` bits of `value` from bit `at` on; they lie within `bytes`.
pub fn set_field(bytes: &mut [u8], at: u64, width: u32, value: u64) {
    let bytes = &mut bytes[(at / 8) as usize..];
    let shift = 8 * FIELD as u32 - (at % 8) as u32 - width;
    let touched = u128::from(mask(width)) << shift;
    let window = window(bytes) & !touched | u128::from(value & mask(width)) << shift;
    let length = bytes.len().min(FIELD);
    bytes[..length].copy_from_slice(&window.to_be_bytes()[16 - FIELD..][..length]);
}

/// The first bytes as one number, the first of them highest; zero where there are none.
fn window(bytes: &[u8]) -> u128 {
    let mut window = [0; 16];
    let length = bytes.len().min(FIELD);
    window[16 - FIELD..][..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(window)
}

fn mask(width: u32) -> u64 {
    u64::MAX >> (64 - width)
}

/// What [`combine`] makes of the bits at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    And,
    Or,
    Xor,
    /// The complement of the only source.
    Not,
    /// In the first source and in none of the others.
    Diff,
    /// In some of the others and not in the first source.
    Diff1,
    /// In the first source and in some of the others.
    AndOr,
    /// In exactly one source.
    One,
}

/// Bytes that are combined across all sources before the next ones are: small enough to stay in the nearest cache.
const BLOCK: usize = 4096;

/// The sources combined bit by bit, as long as the longest of them; shorter ones count as filled up with zeros.
pub fn combine(how: Combine, sources: &[&[u8]]) -> Vec<u8> {
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut out = Vec::with_capacity(length);
    if how == Combine::Not {
        out.extend(sources[0].iter().map(|byte| !byte));
        return out;
    }
    out.extend_from_slice(sources[0]);
    out.resize(length, 0);
    let mut scratch = [0; BLOCK];
    for start in (0..length).step_by(BLOCK) {
        let end = length.min(start + BLOCK);
        let out = &mut out[start..end];
        let others =
            sources[1..].iter().map(|source| &source[start.min(source.len())..end.min(source.len())]);
        let scratch = &mut scratch[..end - start];
        match how {
            Combine::And => others.for_each(|other| {
                each(out, other, |a, b| a & b);
                out[other.len()..].fill(0);
            }),
            Combine::Or => others.for_each(|other| each(out, other, |a, b| a | b)),
            Combine::Xor => others.for_each(|other| each(out, other, |a, b| a ^ b)),
            Combine::Diff | Combine::Diff1 | Combine::AndOr => {
                scratch.fill(0);
                others.for_each(|other| each(scratch, other, |a, b| a | b));
                match how {
                    Combine::Diff => each(out, scratch, |a, b| a & !b),
                    Combine::Diff1 => each(out, scratch, |a, b| !a & b),
                    _ => each(out, scratch, |a, b| a & b),
                }
            }
            Combine::One => {
                // `out` is what was seen at all, `scratch` what was seen again.
                scratch.fill(0);
                for other in others {
                    for ((seen, again), byte) in out.iter_mut().zip(scratch.iter_mut()).zip(other) {
                        *again |= *seen & byte;
                        *seen |= byte;
                    }
                }
                each(out, scratch, |a, b| a & !b);
            }
            Combine::Not => unreachable!("the complement has returned above"),
        }
    }
    out
}

#[inline(always)]
fn each(out: &mut [u8], other: &[u8], join: impl Fn(u8, u8) -> u8) {
    out.iter_mut().zip(other).for_each(|(a, b)| *a = join(*a, *b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, fewer};
    use proptest::prelude::*;

    fn bits(bytes: &[u8]) -> Vec<bool> {
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1)).collect()
    }

    /// Texts with long runs of equal bytes, across the sizes of words, steps and blocks.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), Just(0xff), any::<u8>()];
        let run = (byte, prop_oneof![1..4usize, 30..70usize, fewer(500, 70)..fewer(600, 75)]);
        prop::collection::vec(run, 0..fewer(8, 3))
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, count)| vec![byte; count]).collect())
    }

    #[test]
    #[cfg_attr(miri, ignore = "blocks of 4 KiB, byte by byte, in safe code")]
    fn combining_goes_beyond_a_block() {
        let (long, short) = (vec![0b1100; 3 * BLOCK + 5], vec![0b1010; BLOCK + 3]);
        let check = |how, head, tail| {
            let made = combine(how, &[&long, &short]);
            assert_eq!((made.len(), made[0], made[BLOCK + 2]), (long.len(), head, head), "{how:?}");
            assert_eq!(
                (made[BLOCK + 3], made[2 * BLOCK], made[3 * BLOCK + 4]),
                (tail, tail, tail),
                "{how:?}"
            );
        };
        check(Combine::And, 0b1000, 0);
        check(Combine::Or, 0b1110, 0b1100);
        check(Combine::Xor, 0b0110, 0b1100);
        check(Combine::Diff, 0b0100, 0b1100);
        check(Combine::Diff1, 0b0010, 0);
        check(Combine::AndOr, 0b1000, 0);
        check(Combine::One, 0b0110, 0b1100);
        assert_eq!(combine(Combine::Not, &[b"\x0f\xff"]), b"\xf0\x00");
        assert_eq!(combine(Combine::Or, &[b"", b""]), b"");
    }

    proptest! {
        #![proptest_config(cases(256, 1))]

        #[test]
        fn counts_and_finds_what_a_loop_over_bits_does(text in texts(), a in any::<usize>(), b in any::<usize>()) {
            let model = bits(&text);
            let (a, b) = (a % (model.len() + 1), b % (model.len() + 1));
            let range = a.min(b)..a.max(b);
            let ones = |bits: &[bool]| bits.iter().filter(|bit| **bit).count() as u64;
            prop_assert_eq!(count_ones(&text), ones(&model));
            prop_assert_eq!(count_ones_anywhere(&text), ones(&model));
            prop_assert_eq!(count_ones_in(&text, range.clone()), ones(&model[range.clone()]));
            for set in [false, true] {
                let first = |from: &[bool]| from.iter().position(|bit| *bit == set);
                prop_assert_eq!(find(&text, set), first(&model));
                prop_assert_eq!(
                    find_in(&text, range.clone(), set),
                    first(&model[range.clone()]).map(|at| range.start + at)
                );
            }
        }

        #[test]
        fn fields_are_the_bits_that_lie_there(
            text in prop::collection::vec(any::<u8>(), 10..20), at in 0u64..90, width in 1u32..=64, value in any::<u64>(),
        ) {
            let value_of = |bits: &[bool]| bits.iter().fold(0u64, |value, bit| value << 1 | u64::from(*bit));
            let mut model = bits(&text);
            model.resize(200, false);
            let place = at as usize..at as usize + width as usize;
            prop_assert_eq!(field(&text, at, width), value_of(&model[place.clone()]));
            if place.end <= text.len() * 8 {
                let mut text = text;
                set_field(&mut text, at, width, value);
                for (index, bit) in place.enumerate() {
                    model[bit] = value >> (width as usize - 1 - index) & 1 == 1;
                }
                prop_assert_eq!(bits(&text), &model[..text.len() * 8]);
            }
        }

        #[test]
        fn combining_is_what_a_loop_over_bits_does(texts in prop::collection::vec(texts(), 2..5)) {
            let length = texts.iter().map(Vec::len).max().unwrap_or(0);
            let sources: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let columns = texts.iter().map(|text| {
                let mut bits = bits(text);
                bits.resize(length * 8, false);
                bits
            });
            let columns: Vec<Vec<bool>> = columns.collect();
            type Rule = fn(bool, usize, usize) -> bool;
            // First source, how many of the others have the bit, how many others there are.
            let rules: [(Combine, Rule); 7] = [
                (Combine::And, |first, others, all| first && others == all),
                (Combine::Or, |first, others, _| first || others > 0),
                (Combine::Xor, |first, others, _| (usize::from(first) + others) % 2 == 1),
                (Combine::Diff, |first, others, _| first && others == 0),
                (Combine::Diff1, |first, others, _| !first && others > 0),
                (Combine::AndOr, |first, others, _| first && others > 0),
                (Combine::One, |first, others, _| usize::from(first) + others == 1),
            ];
            for (how, rule) in rules {
                let expected: Vec<bool> = (0..length * 8)
                    .map(|bit| {
                        let others = columns[1..].iter().filter(|column| column[bit]).count();
                        rule(columns[0][bit], others, columns.len() - 1)
                    })
                    .collect();
                prop_assert_eq!(bits(&combine(how, &sources)), expected, "{:?}", how);
            }
        }
    }
}
