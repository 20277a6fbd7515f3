//! Walks listpacks front to back, which is all that the encoder needs: a value that is held as a listpack must
//! be taken apart when the receiver knows no listpacks, or not for this type. Listpacks to work with, and their
//! validation, are the structures' business; the bytes are Redis's.
//!
//! ```text
//! u32 bytes in all | u16 entries, 65535 = count them | entries | 0xff                                     (LE)
//!
//! entry:  encoding and data as below, then the length of both, backwards, in 1..=5 bytes of 7 bits
//! 0IIIIIII                 integer 0..=127
//! 10LLLLLL                 string of up to 63 bytes
//! 110IIIII IIIIIIII        integer of 13 bits, signed
//! 1110LLLL LLLLLLLL        string of up to 4095 bytes
//! 11110000 LLLL            string, length u32 LE
//! 11110001 / 010 / 011 / 100      integer of 16 / 24 / 32 / 64 bits LE
//! ```

const HEADER_LEN: usize = 6;
const END: u8 = 0xff;

/// An entry of a listpack or ziplist. Both hold what prints as a 64-bit integer as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'b> {
    Str(&'b [u8]),
    Int(i64),
}

/// A listpack that was given to be encoded is not well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenListpack;

/// The entries of `bytes`, front to back; ends at the first error.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, at: HEADER_LEN }
}

/// The number of entries: counted, since the header may not tell.
pub fn count(bytes: &[u8]) -> Result<u64, BrokenListpack> {
    entries(bytes).try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// See [`entries`].
pub struct Entries<'b> {
    bytes: &'b [u8],
    /// The next entry; past the end when the walk is over.
    at: usize,
}

impl<'b> Iterator for Entries<'b> {
    type Item = Result<Entry<'b>, BrokenListpack>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.at = self.bytes.len() + 1;
        }
        step.transpose()
    }
}

impl<'b> Entries<'b> {
    fn step(&mut self) -> Result<Option<Entry<'b>>, BrokenListpack> {
        if self.at > self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let encoding = self.take(1)?[0];
        let entry = match encoding {
            END => return if self.at == self.bytes.len() { Ok(None) } else { Err(BrokenListpack) },
            0x00..=0x7f => Entry::Int(i64::from(encoding)),
            0x80..=0xbf => Entry::Str(self.take(usize::from(encoding & 0x3f))?),
            0xc0..=0xdf => {
                let thirteen = u16::from(encoding & 0x1f) << 8 | u16::from(self.take(1)?[0]);
                Entry::Int(i64::from((thirteen << 3) as i16 >> 3))
            }
            0xe0..=0xef => {
                let len = usize::from(encoding & 0x0f) << 8 | usize::from(self.take(1)?[0]);
                Entry::Str(self.take(len)?)
            }
            0xf0 => {
                let len = u32::from_le_bytes(self.take_array()?) as usize;
                Entry::Str(self.take(len)?)
            }
            0xf1 => Entry::Int(i64::from(i16::from_le_bytes(self.take_array()?))),
            0xf2 => {
                let [a, b, c] = self.take_array()?;
                Entry::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))
            }
            0xf3 => Entry::Int(i64::from(i32::from_le_bytes(self.take_array()?))),
            0xf4 => Entry::Int(i64::from_le_bytes(self.take_array()?)),
            _ => return Err(BrokenListpack),
        };
        self.take(back_len(self.at - start))?;
        Ok(Some(entry))
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], BrokenListpack> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(BrokenListpack)?;
        self.at += len;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], BrokenListpack> {
        self.take(N).map(|taken| taken.try_into().expect("N bytes were taken"))
    }
}

/// Bytes that hold the length of an entry, for walking backwards.
fn back_len(entry_len: usize) -> usize {
    match entry_len {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    }
}

/// Builds listpacks for tests, since the crate has no other source of them.
#[cfg(test)]
pub(crate) fn build(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    for entry in entries {
        let start = bytes.len();
        match *entry {
            Entry::Int(int @ 0..=127) => bytes.push(int as u8),
            Entry::Int(int @ -4096..=4095) => {
                bytes.extend_from_slice(&(0xc000 | (int as u16 & 0x1fff)).to_be_bytes());
            }
            Entry::Int(int) => {
                let fits = |bits: u32| int << (64 - bits) >> (64 - bits) == int;
                let (encoding, len) = [(0xf1, 2), (0xf2, 3), (0xf3, 4)]
                    .into_iter()
                    .find(|(_, len)| fits(len * 8))
                    .unwrap_or((0xf4, 8));
                bytes.push(encoding);
                bytes.extend_from_slice(&int.to_le_bytes()[..len as usize]);
            }
            Entry::Str(string) => {
                match string.len() {
                    len @ 0..=63 => bytes.push(0x80 | len as u8),
                    len @ 64..=4095 => bytes.extend_from_slice(&(0xe000 | len as u16).to_be_bytes()),
                    len => {
                        bytes.push(0xf0);
                        bytes.extend_from_slice(&(len as u32).to_le_bytes());
                    }
                }
                bytes.extend_from_slice(string);
            }
        }
        let len = bytes.len() - start;
        let width = back_len(len);
        for n in (0..width).rev() {
            let more = if n + 1 < width { 0x80 } else { 0 };
            bytes.push((len >> (7 * n)) as u8 & 0x7f | more);
        }
    }
    bytes.push(END);
    let (len, count) = (bytes.len() as u32, u16::try_from(entries.len()).unwrap_or(u16::MAX));
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..6].copy_from_slice(&count.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `redis` 7.0 stores `RPUSH k 1 -1 abc 70000`, from its DUMP.
    #[test]
    fn the_bytes_of_a_real_one() {
        let bytes =
            b"\x16\x00\x00\x00\x04\x00\x01\x01\xdf\xff\x02\x83abc\x04\xf2\x70\x11\x01\x04\xff".as_slice();
        let want = [Entry::Int(1), Entry::Int(-1), Entry::Str(b"abc"), Entry::Int(70000)];
        assert_eq!(entries(bytes).collect::<Result<Vec<_>, _>>(), Ok(want.to_vec()));
        assert_eq!(build(&want), bytes);
    }

    proptest! {
        #[test]
        fn what_is_built_is_walked(ints in prop::collection::vec(any::<i64>(), 0..20), shifts in 0..60u32,
                                   strings in prop::collection::vec(0..5000usize, 0..10)) {
            let strings: Vec<Vec<u8>> = strings.into_iter().map(|len| vec![b'x'; len]).collect();
            let given: Vec<Entry<'_>> = ints.iter().map(|int| Entry::Int(int >> shifts))
                .chain(strings.iter().map(|string| Entry::Str(string))).collect();
            let bytes = build(&given);
            prop_assert_eq!(count(&bytes), Ok(given.len() as u64));
            prop_assert_eq!(entries(&bytes).collect::<Result<Vec<_>, _>>(), Ok(given));
            for cut in HEADER_LEN..bytes.len().min(100) {
                prop_assert!(count(&bytes[..cut]).is_err());
            }
        }
    }
}
