//! Ziplists, in which lists, hashes and sorted sets of RDB versions below 10 lie. They are read entry by
//! entry, to become listpacks, and written for receivers that know nothing newer.
//!
//! ```text
//! u32 bytes in all | u32 offset of the last entry | u16 entries, 65535 = count them | entries | 0xff      (LE)
//!
//! entry:  length of the entry before (u8 below 254, else 254 and u32 LE), then
//! 00LLLLLL                 string of up to 63 bytes
//! 01LLLLLL LLLLLLLL        string of up to 16383 bytes, length big-endian
//! 10______ LLLL            string, length u32 big-endian
//! 11000000 / 11010000 / 11100000 / 11110000 / 11111110      integer of 16 / 32 / 64 / 24 / 8 bits LE
//! 1111IIII                 integer IIII - 1, IIII in 1..=13
//! ```

use crate::listpack::Entry;

const HEADER_LEN: usize = 10;
const END: u8 = 0xff;
/// This value in a one-byte previous length says that four bytes follow.
const PREVIOUS_LONG: u8 = 254;
/// The entry count from which on the header does not tell it.
const COUNT_UNKNOWN: usize = 65535;

/// A ziplist is not well formed; says what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZiplistError(pub &'static str);

/// The entries of `bytes`, front to back. Each step checks the entry it gives; the first error ends the walk. A
/// walk that ends without an error has seen a ziplist that is well formed in every part.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, at: 0, previous: 0, count: 0 }
}

/// Checks all of `bytes` and counts the entries.
pub fn validate(bytes: &[u8]) -> Result<usize, ZiplistError> {
    entries(bytes).try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// See [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'b> {
    bytes: &'b [u8],
    /// Where the next entry starts; 0 before the header has been checked, past the end when the walk is over.
    at: usize,
    /// Where the entry before starts, 0 for none.
    previous: usize,
    count: usize,
}

impl<'b> Iterator for Entries<'b> {
    type Item = Result<Entry<'b>, ZiplistError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.at = self.bytes.len() + 1;
        }
        step.transpose()
    }
}

impl<'b> Entries<'b> {
    fn step(&mut self) -> Result<Option<Entry<'b>>, ZiplistError> {
        if self.at > self.bytes.len() {
            return Ok(None);
        }
        if self.at == 0 {
            self.check_header()?;
            self.at = HEADER_LEN;
        }
        let start = self.at;
        if self.take(1)? == [END] {
            return self.check_end(start).map(|()| None);
        }
        self.at = start;
        let previous_len = match self.take(1)?[0] {
            PREVIOUS_LONG => u32::from_le_bytes(self.take_array()?) as usize,
            short => usize::from(short),
        };
        let expected = if self.count == 0 { 0 } else { start - self.previous };
        if previous_len != expected {
            return Err(ZiplistError("ziplist entry with a wrong length of the entry before"));
        }
        let entry = self.entry()?;
        self.previous = start;
        self.count += 1;
        Ok(Some(entry))
    }

    fn check_header(&self) -> Result<(), ZiplistError> {
        if self.bytes.len() <= HEADER_LEN {
            return Err(ZiplistError("ziplist shorter than its header"));
        }
        if word(self.bytes, 0) != self.bytes.len() {
            return Err(ZiplistError("ziplist of another length than it says"));
        }
        Ok(())
    }

    fn check_end(&self, end: usize) -> Result<(), ZiplistError> {
        if end + 1 != self.bytes.len() {
            return Err(ZiplistError("ziplist ends before its last byte"));
        }
        let stated = usize::from(u16::from_le_bytes([self.bytes[8], self.bytes[9]]));
        if stated != COUNT_UNKNOWN && stated != self.count {
            return Err(ZiplistError("ziplist with another number of entries than it says"));
        }
        let last = if self.count == 0 { HEADER_LEN } else { self.previous };
        if word(self.bytes, 4) != last {
            return Err(ZiplistError("ziplist whose tail is not its last entry"));
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<Entry<'b>, ZiplistError> {
        let encoding = self.take(1)?[0];
        let len = match encoding {
            0x00..=0x3f => usize::from(encoding),
            0x40..=0x7f => usize::from(encoding & 0x3f) << 8 | usize::from(self.take(1)?[0]),
            0x80..=0xbf => u32::from_be_bytes(self.take_array()?) as usize,
            0xc0 => return Ok(Entry::Int(i64::from(i16::from_le_bytes(self.take_array()?)))),
            0xd0 => return Ok(Entry::Int(i64::from(i32::from_le_bytes(self.take_array()?)))),
            0xe0 => return Ok(Entry::Int(i64::from_le_bytes(self.take_array()?))),
            0xf0 => {
                let [a, b, c] = self.take_array()?;
                return Ok(Entry::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)));
            }
            0xfe => return Ok(Entry::Int(i64::from(i8::from_le_bytes(self.take_array()?)))),
            0xf1..=0xfd => return Ok(Entry::Int(i64::from(encoding & 0x0f) - 1)),
            _ => return Err(ZiplistError("ziplist entry of an unknown encoding")),
        };
        Ok(Entry::Str(self.take(len)?))
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], ZiplistError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        let taken = taken.ok_or(ZiplistError("ziplist entry past the end"))?;
        self.at += len;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], ZiplistError> {
        self.take(N).map(|taken| taken.try_into().expect("N bytes were taken"))
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Writes a ziplist entry by entry, into a buffer that is used again for the next one.
#[derive(Default)]
pub struct Builder {
    bytes: Vec<u8>,
    last: usize,
    count: usize,
}

impl Builder {
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Forgets what was built and starts an empty ziplist.
    pub fn start(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER_LEN, 0);
        self.last = HEADER_LEN;
        self.count = 0;
    }

    pub fn push(&mut self, entry: Entry<'_>) {
        let start = self.bytes.len();
        let previous_len = if self.count == 0 { 0 } else { start - self.last };
        match u8::try_from(previous_len) {
            Ok(short) if short < PREVIOUS_LONG => self.bytes.push(short),
            _ => {
                self.bytes.push(PREVIOUS_LONG);
                self.bytes.extend_from_slice(&(previous_len as u32).to_le_bytes());
            }
        }
        match entry {
            Entry::Str(string) => self.push_str(string),
            Entry::Int(int) => self.push_int(int),
        }
        self.last = start;
        self.count += 1;
    }

    fn push_str(&mut self, string: &[u8]) {
        match string.len() {
            len @ 0..=0x3f => self.bytes.push(len as u8),
            len @ 0x40..=0x3fff => self.bytes.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
            len => {
                self.bytes.push(0x80);
                self.bytes.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(string);
    }

    fn push_int(&mut self, int: i64) {
        let bytes = int.to_le_bytes();
        let fits = |bits: u32| int << (64 - bits) >> (64 - bits) == int;
        let (encoding, len) = match int {
            0..=12 => (0xf1 + int as u8, 0),
            _ if fits(8) => (0xfe, 1),
            _ if fits(16) => (0xc0, 2),
            _ if fits(24) => (0xf0, 3),
            _ if fits(32) => (0xd0, 4),
            _ => (0xe0, 8),
        };
        self.bytes.push(encoding);
        self.bytes.extend_from_slice(&bytes[..len]);
    }

    /// The finished ziplist, or nothing when it would be longer than its 32-bit lengths can say.
    pub fn finish(&mut self) -> Option<&[u8]> {
        self.bytes.push(END);
        let len = u32::try_from(self.bytes.len()).ok()?;
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&(self.last as u32).to_le_bytes());
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.bytes[8..10].copy_from_slice(&count.to_le_bytes());
        Some(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut builder = Builder::new();
        builder.start();
        entries.iter().for_each(|entry| builder.push(*entry));
        builder.finish().expect("small").to_vec()
    }

    /// The example in the format's description: the list "2", "5".
    #[test]
    fn the_known_bytes_of_2_and_5() {
        let bytes = [0x0f, 0, 0, 0, 0x0c, 0, 0, 0, 2, 0, 0, 0xf3, 2, 0xf6, 0xff];
        assert_eq!(build(&[Entry::Int(2), Entry::Int(5)]), bytes);
        let read: Vec<_> = entries(&bytes).collect();
        assert_eq!(read, [Ok(Entry::Int(2)), Ok(Entry::Int(5))]);
        assert_eq!(build(&[]), [11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(validate(&build(&[])), Ok(0));
    }

    #[test]
    fn integers_take_the_narrowest_form() {
        let sizes =
            [0, 12, 13, -1, 127, 128, -32768, 32768, -(1 << 23), 1 << 23, i64::from(i32::MIN), 1 << 31];
        let lens: Vec<usize> = sizes.iter().map(|int| build(&[Entry::Int(*int)]).len() - 13).collect();
        assert_eq!(lens, [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 8]);
    }

    #[test]
    fn every_broken_byte_is_refused_or_still_well_formed() {
        let long = [b'x'; 300];
        let good = build(&[Entry::Int(1), Entry::Str(&long), Entry::Str(b"abc"), Entry::Int(1 << 40)]);
        assert_eq!(validate(&good), Ok(4));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = validate(&bad);
            }
            assert!(validate(&good[..at]).is_err(), "cut at {at}");
        }
        for at in 0..HEADER_LEN {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(validate(&bad).is_err(), "header byte {at}");
        }
    }

    pub(crate) fn any_entry() -> impl Strategy<Value = Result<Vec<u8>, i64>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80).prop_map(Ok),
            (0..20_000usize).prop_map(|len| Ok(vec![b'v'; len])),
            any::<i64>().prop_map(Err),
            any::<i16>().prop_map(|int| Err(i64::from(int))),
            (-300i64..300).prop_map(Err),
        ]
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(owned in prop::collection::vec(any_entry(), 0..50)) {
            let given: Vec<Entry<'_>> = owned.iter().map(|entry| match entry {
                Ok(string) => Entry::Str(string),
                Err(int) => Entry::Int(*int),
            }).collect();
            let bytes = build(&given);
            let read: Result<Vec<_>, _> = entries(&bytes).collect();
            prop_assert_eq!(read, Ok(given));
        }

        #[test]
        fn any_bytes_end_the_walk(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if bytes.len() >= 4 {
                let len = bytes.len() as u32;
                bytes[..4].copy_from_slice(&len.to_le_bytes());
            }
            prop_assert!(entries(&bytes).count() <= bytes.len() + 1);
        }
    }
}
