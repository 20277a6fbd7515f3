//! A listpack with room to grow at its end, for stream nodes: its bytes are those of the wire, total and end mark
//! included, since a node is large beside them. They lie in a `Vec`, so that a run of appended entries is written without
//! a reallocation each. What is full gives the room back with [`GrowingListpack::shrink_to_fit`].

use super::{
    COUNT_UNKNOWN, END, Encoded, Entry, Iter, Malformed, Pos, TOTAL, WIRE_HEADER, before, decode, stored_len,
    validate,
};

/// A listpack that grows by doubling.
#[derive(Clone, PartialEq, Eq)]
pub struct GrowingListpack {
    bytes: Vec<u8>,
}

/// Writes entries at the end; the listpack is whole again when it is dropped.
pub struct Appender<'a> {
    bytes: &'a mut Vec<u8>,
    added: usize,
}

impl GrowingListpack {
    pub fn with_capacity(bytes: usize) -> GrowingListpack {
        let mut list = Vec::with_capacity(bytes.max(WIRE_HEADER + 1));
        list.extend_from_slice(&[(WIRE_HEADER + 1) as u8, 0, 0, 0, 0, 0, END]);
        GrowingListpack { bytes: list }
    }

    /// Takes bytes from outside; every entry and the count are checked.
    pub fn from_vec_validated(bytes: Vec<u8>) -> Result<GrowingListpack, Malformed> {
        validate(&bytes, true)?;
        Ok(GrowingListpack { bytes })
    }

    /// The whole listpack as RDB files and the wire carry it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Appends entries; `extra` bytes are made room for at once.
    #[inline]
    pub fn append(&mut self, extra: usize) -> Appender<'_> {
        self.bytes.reserve(extra);
        self.bytes.pop();
        Appender { bytes: &mut self.bytes, added: 0 }
    }

    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: self.entries(), at: WIRE_HEADER }
    }

    /// Entries from `pos` on, which may be the end.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter { bytes: self.entries(), at: pos.at() }
    }

    /// The entry at a position.
    #[inline]
    pub fn at(&self, pos: Pos) -> Entry<'_> {
        decode(&self.bytes[pos.at()..])
    }

    /// Behind the last entry.
    #[inline]
    pub fn end(&self) -> Pos {
        Pos(self.bytes.len() as u32 - 1)
    }

    /// The entry before `pos`. There must be one.
    #[inline]
    pub fn before(&self, pos: Pos) -> Pos {
        // Without the total the bytes begin as those of a `Pack`.
        Pos((before(&self.bytes[TOTAL..], pos.at() - TOTAL) + TOTAL) as u32)
    }

    /// The bytes without the end mark: positions are those of the whole.
    #[inline]
    fn entries(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - 1]
    }

    /// Replaces the entry at `pos` by an integer; the new entry is there too.
    pub fn replace_i64(&mut self, pos: Pos, value: i64) {
        let at = pos.at();
        let encoded = Encoded::int(value);
        let (old, new) = (stored_len(&self.bytes[at..]), encoded.stored_len());
        if new != old {
            let zeros = std::iter::repeat_n(0, new);
            self.bytes.splice(at..at + old, zeros);
            set_total(&mut self.bytes);
        }
        encoded.write(&mut self.bytes[at..at + new]);
    }
}

impl std::fmt::Debug for GrowingListpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Appender<'_> {
    #[inline]
    pub fn int(&mut self, value: i64) {
        if (0..=127).contains(&value) {
            self.bytes.extend_from_slice(&[value as u8, 1]);
            self.added += 1;
        } else {
            self.encoded(&Encoded::int(value));
        }
    }

    #[inline]
    pub fn text(&mut self, value: &[u8]) {
        self.encoded(&Encoded::text(value));
    }

    #[inline]
    fn encoded(&mut self, encoded: &Encoded<'_>) {
        let at = self.bytes.len();
        self.bytes.resize(at + encoded.stored_len(), 0);
        encoded.write(&mut self.bytes[at..]);
        self.added += 1;
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        self.bytes.push(END);
        set_total(self.bytes);
        let count = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        if count != COUNT_UNKNOWN {
            let count = u16::try_from(usize::from(count) + self.added).unwrap_or(COUNT_UNKNOWN);
            self.bytes[TOTAL..WIRE_HEADER].copy_from_slice(&count.to_le_bytes());
        }
    }
}

impl<'a> Iter<'a> {
    /// Where the next entry is, or the end.
    #[inline]
    pub fn pos(&self) -> Pos {
        Pos(self.at as u32)
    }

    /// Leaves the next `count` entries out; there must be as many.
    #[inline]
    pub fn skip_entries(&mut self, count: usize) {
        for _ in 0..count {
            self.at += stored_len(&self.bytes[self.at..]);
        }
    }
}

fn set_total(bytes: &mut [u8]) {
    let total = u32::try_from(bytes.len()).expect("callers keep listpacks below the safety limit");
    bytes[..4].copy_from_slice(&total.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listpack::Listpack;
    use crate::testing::{cases, fewer};

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn has_the_bytes_of_an_exact_listpack(values in prop::collection::vec(
            prop_oneof![any::<i64>().prop_map(Err), (-200i64..200).prop_map(Err),
                        prop::collection::vec(any::<u8>(), 0..200).prop_map(Ok)], 0..fewer(40, 15)),
            replaced in any::<prop::sample::Index>(), by in any::<i64>())
        {
            let mut list = Listpack::new();
            let mut growing = GrowingListpack::with_capacity(16);
            for chunk in values.chunks(7) {
                let mut append = growing.append(0);
                for value in chunk {
                    match value {
                        Ok(text) => { append.text(text); list.push_back(text); }
                        Err(int) => { append.int(*int); list.push_back_i64(*int); }
                    }
                }
            }
            prop_assert_eq!(growing.bytes(), list.to_wire());
            if !values.is_empty() {
                let index = replaced.index(values.len());
                let pos = list.seek(index as i64).unwrap();
                let mut iter = growing.iter();
                iter.skip_entries(index);
                let growing_pos = iter.pos();
                prop_assert_eq!(growing_pos.at(), pos.at() + TOTAL);
                list.replace_i64(pos, by);
                growing.replace_i64(growing_pos, by);
                prop_assert_eq!(growing.bytes(), list.to_wire());
                prop_assert_eq!(growing.before(growing.end()).at(), list.last().unwrap().at() + TOTAL);
            }
            prop_assert!(growing.iter().eq(list.iter()));
            prop_assert!(validate(growing.bytes(), true).is_ok());
        }
    }
}
