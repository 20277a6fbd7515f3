//! Intset: a small set of integers as one sorted array.
//!
//! A set whose members are all integers, and few, lies in memory as an intset; the same bytes go into RDB files, so the
//! layout is byte for byte that of Redis (its `intset.c`; all numbers little-endian):
//!
//! ```text
//! width of a member in bytes: u32, one of 2, 4, 8 | members: u32 | member …, ascending, each once
//! ```
//!
//! The width is that of the widest member ever added: adding a wider one widens all, removing it narrows none.
//! Membership is a binary search. [`Ints`] is such bytes wherever they lie, as `str` is text; an [`Intset`] owns them.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use crate::blob::Blob;

const HEADER: usize = 8;

/// An ordered set of integers, as bytes that somebody holds.
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct Ints {
    bytes: [u8],
}

/// [`Ints`] that can be changed, in one exact allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Intset {
    bytes: Blob,
}

/// Why bytes are not an intset. The payload that carried them must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the header.
    Truncated,
    /// The width is not 2, 4 or 8.
    Width,
    /// No members: an empty set is never written.
    Empty,
    /// The header's count does not give the number of bytes.
    Size,
    /// Members are not ascending, or not unique.
    Order,
}

/// Members in ascending order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    members: &'a [u8],
    width: Width,
}

impl Ints {
    /// The integers that these bytes are: those of another intset.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> &Ints {
        // SAFETY: it is a slice of bytes and nothing else (`repr(transparent)`).
        unsafe { &*(std::ptr::from_ref(bytes) as *const Ints) }
    }

    /// A copy of its own.
    pub fn to_intset(&self) -> Intset {
        Intset { bytes: Blob::from(&self.bytes) }
    }

    /// The whole intset as RDB files carry it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        self.members().len() / self.width().bytes()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    /// The member at an index in ascending order; a random index gives a random member.
    #[inline]
    pub fn at(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.width().member(self.members(), index))
    }

    pub fn min(&self) -> Option<i64> {
        self.at(0)
    }

    pub fn max(&self) -> Option<i64> {
        self.at(self.len().checked_sub(1)?)
    }

    #[inline]
    pub fn contains(&self, value: i64) -> bool {
        Width::of(value) <= self.width() && self.search(value).is_ok()
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { members: self.members(), width: self.width() }
    }

    #[inline]
    fn members(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    #[inline]
    fn width(&self) -> Width {
        // The widths are below 256, so the first byte says all.
        Width::from_bytes(u32::from(self.bytes[0])).expect("an intset's width is 2, 4 or 8")
    }

    /// The index of a member, or the one where it would be inserted.
    #[inline]
    fn search(&self, value: i64) -> Result<usize, usize> {
        let members = self.members();
        match self.width() {
            Width::Two => {
                search(members.as_chunks().0, value, |member| i64::from(i16::from_le_bytes(member)))
            }
            Width::Four => {
                search(members.as_chunks().0, value, |member| i64::from(i32::from_le_bytes(member)))
            }
            Width::Eight => search(members.as_chunks().0, value, i64::from_le_bytes),
        }
    }
}

impl Intset {
    pub fn new() -> Intset {
        let mut bytes = [0; HEADER];
        bytes[0] = Width::Two.bytes() as u8;
        Intset { bytes: Blob::from(&bytes[..]) }
    }

    /// Takes bytes from outside and checks all of them: O(members).
    pub fn from_vec_validated(bytes: Vec<u8>) -> Result<Intset, Malformed> {
        let [w0, w1, w2, w3, c0, c1, c2, c3, members @ ..] = &bytes[..] else {
            return Err(Malformed::Truncated);
        };
        let width = Width::from_bytes(u32::from_le_bytes([*w0, *w1, *w2, *w3])).ok_or(Malformed::Width)?;
        let count = u32::from_le_bytes([*c0, *c1, *c2, *c3]) as usize;
        if count == 0 {
            return Err(Malformed::Empty);
        }
        if count.checked_mul(width.bytes()) != Some(members.len()) {
            return Err(Malformed::Size);
        }
        if !(Iter { members, width }).is_sorted_by(|a, b| a < b) {
            return Err(Malformed::Order);
        }
        Ok(Intset { bytes: Blob::from(&bytes[..]) })
    }

    /// The intset whose [`Intset::into_blob`] this is.
    pub fn from_blob(bytes: Blob) -> Intset {
        Intset { bytes }
    }

    pub fn into_blob(self) -> Blob {
        self.bytes
    }

    /// Adds a member; false if it was there.
    pub fn add(&mut self, value: i64) -> bool {
        let width = Width::of(value);
        if width > self.width() {
            self.widen_with(width, value);
            return true;
        }
        let Err(index) = self.search(value) else { return false };
        let width = self.width();
        let at = HEADER + index * width.bytes();
        self.bytes.resize_gap(at, 0, width.bytes());
        width.write(&mut self.bytes[HEADER..], index, value);
        self.update_count();
        true
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        let width = self.width();
        if Width::of(value) > width {
            return false;
        }
        let Ok(index) = self.search(value) else { return false };
        let at = HEADER + index * width.bytes();
        self.bytes.resize_gap(at, width.bytes(), 0);
        self.update_count();
        true
    }

    /// Rewrites all members in a width that only `value` needs: it lies outside the range of the others, hence at one
    /// of the ends.
    fn widen_with(&mut self, width: Width, value: i64) {
        let mut bytes = Vec::with_capacity(HEADER + (self.len() + 1) * width.bytes());
        bytes.extend_from_slice(&(width.bytes() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        if value < 0 {
            width.push(&mut bytes, value);
        }
        for member in self.iter() {
            width.push(&mut bytes, member);
        }
        if value >= 0 {
            width.push(&mut bytes, value);
        }
        // Into the same blob: it may lie behind a prefix.
        let old = self.bytes.len();
        self.bytes.resize_gap(0, old, bytes.len());
        self.bytes.copy_from_slice(&bytes);
        self.update_count();
    }

    fn update_count(&mut self) {
        let count = u32::try_from(self.len()).expect("an intset has fewer than 2^32 members");
        self.bytes[4..HEADER].copy_from_slice(&count.to_le_bytes());
    }
}

impl Deref for Intset {
    type Target = Ints;

    #[inline(always)]
    fn deref(&self) -> &Ints {
        Ints::from_bytes(&self.bytes)
    }
}

impl Default for Intset {
    fn default() -> Intset {
        Intset::new()
    }
}

impl fmt::Debug for Ints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Ints {
    type Item = i64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a Intset {
    type Item = i64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        let (member, rest) = self.members.split_at_checked(self.width.bytes())?;
        self.members = rest;
        Some(self.width.member(member, 0))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.members.len() / self.width.bytes();
        (len, Some(len))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "intset is shorter than its header",
            Malformed::Width => "intset has an unknown width",
            Malformed::Empty => "intset has no members",
            Malformed::Size => "intset header states another number of members",
            Malformed::Order => "intset members are not ascending and unique",
        })
    }
}

impl std::error::Error for Malformed {}

/// Bytes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    #[inline]
    fn of(value: i64) -> Width {
        if i16::try_from(value).is_ok() {
            Width::Two
        } else if i32::try_from(value).is_ok() {
            Width::Four
        } else {
            Width::Eight
        }
    }

    #[inline]
    fn from_bytes(bytes: u32) -> Option<Width> {
        match bytes {
            2 => Some(Width::Two),
            4 => Some(Width::Four),
            8 => Some(Width::Eight),
            _ => None,
        }
    }

    #[inline]
    fn bytes(self) -> usize {
        self as usize
    }

    #[inline]
    fn member(self, members: &[u8], index: usize) -> i64 {
        match self {
            Width::Two => i64::from(i16::from_le_bytes(members.as_chunks().0[index])),
            Width::Four => i64::from(i32::from_le_bytes(members.as_chunks().0[index])),
            Width::Eight => i64::from_le_bytes(members.as_chunks().0[index]),
        }
    }

    /// The member's low bytes, which hold it when its own width is no greater.
    #[inline]
    fn write(self, members: &mut [u8], index: usize, value: i64) {
        let at = index * self.bytes();
        members[at..at + self.bytes()].copy_from_slice(&value.to_le_bytes()[..self.bytes()]);
    }

    fn push(self, out: &mut Vec<u8>, value: i64) {
        out.extend_from_slice(&value.to_le_bytes()[..self.bytes()]);
    }
}

#[inline]
fn search<const WIDTH: usize>(
    members: &[[u8; WIDTH]],
    value: i64,
    decode: impl Fn([u8; WIDTH]) -> i64,
) -> Result<usize, usize> {
    // Members often arrive in order: look at the end first.
    match members.last() {
        Some(&last) if decode(last) < value => Err(members.len()),
        _ => members.binary_search_by(|&member| decode(member).cmp(&value)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, fewer};

    fn of(members: &[i64]) -> Intset {
        let mut set = Intset::new();
        for &member in members {
            assert!(set.add(member));
        }
        set
    }

    #[test]
    fn bytes_are_those_of_redis() {
        assert_eq!(Intset::new().bytes(), [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(of(&[5, -1]).bytes(), [2, 0, 0, 0, 2, 0, 0, 0, 0xFF, 0xFF, 5, 0]);
        assert_eq!(of(&[1, 65_536]).bytes(), [4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(
            of(&[1, i64::MIN]).bytes(),
            [8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn widths_grow_at_their_limits_and_never_shrink() {
        for (value, width) in [
            (32_767, 2),
            (-32_768, 2),
            (32_768, 4),
            (-32_769, 4),
            (2_147_483_647, 4),
            (-2_147_483_648, 4),
            (2_147_483_648, 8),
            (-2_147_483_649, 8),
        ] {
            let mut set = of(&[1, 2]);
            assert!(!set.contains(value) && !set.remove(value) && set.add(value) && set.contains(value));
            assert_eq!(set.bytes()[0], width, "{value}");
            assert!(set.remove(value) && !set.contains(value));
            assert_eq!(set.bytes()[0], width, "{value}");
            assert_eq!(set.iter().collect::<Vec<_>>(), [1, 2]);
        }
    }

    #[test]
    fn validation_refuses_each_kind_of_damage() {
        let good = of(&[1, 2, 3]).bytes().to_vec();
        let damaged = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Intset::from_vec_validated(bytes)
        };
        assert_eq!(damaged(&|_| ()), Ok(of(&[1, 2, 3])));
        assert_eq!(damaged(&|bytes| bytes.truncate(7)), Err(Malformed::Truncated));
        assert_eq!(damaged(&|bytes| bytes[0] = 3), Err(Malformed::Width));
        assert_eq!(damaged(&|bytes| bytes[1] = 2), Err(Malformed::Width));
        assert_eq!(damaged(&|bytes| bytes[4] = 0), Err(Malformed::Empty));
        assert_eq!(damaged(&|bytes| bytes[4] = 2), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| bytes[0] = 4), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| bytes[4..8].fill(0xFF)), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| bytes.push(0)), Err(Malformed::Size));
        assert_eq!(damaged(&|bytes| bytes[8] = 2), Err(Malformed::Order));
        assert_eq!(damaged(&|bytes| bytes[8] = 9), Err(Malformed::Order));
    }

    fn member() -> impl Strategy<Value = i64> {
        prop_oneof![
            6 => -20i64..20,
            2 => any::<i16>().prop_map(i64::from),
            1 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
        ]
    }

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn behaves_as_an_ordered_set(ops in prop::collection::vec((any::<bool>(), member()), 0..fewer(120, 30))) {
            let mut set = Intset::new();
            let mut model = BTreeSet::new();
            for (add, value) in ops {
                if add {
                    prop_assert_eq!(set.add(value), model.insert(value));
                } else {
                    prop_assert_eq!(set.remove(value), model.remove(&value));
                }
                prop_assert_eq!(set.contains(value), add);
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!((set.min(), set.max()), (model.first().copied(), model.last().copied()));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.iter().len(), model.len());
            for (index, &value) in model.iter().enumerate() {
                prop_assert_eq!(set.at(index), Some(value));
            }
            prop_assert_eq!(set.at(model.len()), None);
            if !model.is_empty() {
                prop_assert_eq!(Intset::from_vec_validated(set.bytes().to_vec()), Ok(set));
            }
        }

        #[test]
        fn hostile_bytes_are_refused_or_are_a_set(
            width in prop::sample::select(vec![0u32, 1, 2, 4, 8, 16, u32::MAX]),
            count in prop_oneof![0u32..6, any::<u32>()],
            members in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = [width.to_le_bytes(), count.to_le_bytes()].concat();
            bytes.extend(members);
            if let Ok(set) = Intset::from_vec_validated(bytes) {
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), set.len());
                prop_assert!(set.iter().all(|member| set.contains(member)));
            }
        }
    }
}
