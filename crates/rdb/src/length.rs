//! Lengths and strings, of which everything else is made.
//!
//! ```text
//! 00LLLLLL                       length up to 63
//! 01LLLLLL LLLLLLLL              up to 16383, big-endian
//! 10000000 LLLL                  u32 big-endian
//! 10000001 LLLLLLLL              u64 big-endian (since version 7)
//! 11000000 / 001 / 010 i         no length: a string that is the decimal form of an integer of 1 / 2 / 4 bytes LE
//! 11000011 packed len …          no length: a string, LZF-compressed; both lengths as above
//! ```
//!
//! A string is a length and as many bytes, or one of the last two forms.

use crate::RdbError;
use crate::lzf;

const BITS_14: u8 = 0x40;
const BITS_32: u8 = 0x80;
const BITS_64: u8 = 0x81;
pub(crate) const INT_8: u8 = 0xc0;
pub(crate) const INT_16: u8 = 0xc1;
pub(crate) const INT_32: u8 = 0xc2;
pub(crate) const LZF: u8 = 0xc3;

/// The most a length takes.
pub(crate) const LENGTH_MAX: usize = 9;
/// A scratch buffer that grew beyond this for one string is given back with the next.
const SCRATCH_KEPT_MAX: usize = 1 << 20;

/// Appends `length` in its shortest form.
#[inline]
pub fn push_length(out: &mut Vec<u8>, length: u64) {
    if length < 1 << 6 {
        out.push(length as u8);
    } else if length < 1 << 14 {
        out.extend_from_slice(&(u16::from(BITS_14) << 8 | length as u16).to_be_bytes());
    } else if let Ok(length) = u32::try_from(length) {
        out.push(BITS_32);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(BITS_64);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// The integer that `bytes` are the canonical decimal form of, if it fits the 32 bits that a string in
/// an RDB file may be packed into.
pub fn canonical_i32(bytes: &[u8]) -> Option<i32> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == bytes.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 10 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    i32::try_from(if digits.len() == bytes.len() { value } else { -value }).ok()
}

/// Appends the packed form of an integer.
pub(crate) fn push_int(out: &mut Vec<u8>, int: i32) {
    if let Ok(int) = i8::try_from(int) {
        out.extend_from_slice(&[INT_8, int as u8]);
    } else if let Ok(int) = i16::try_from(int) {
        out.push(INT_16);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        out.push(INT_32);
        out.extend_from_slice(&int.to_le_bytes());
    }
}

/// Appends the decimal form of `int`.
pub(crate) fn push_decimal(out: &mut Vec<u8>, int: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = int.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if int < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Why reading stops.
pub(crate) enum Stop {
    /// The bytes end before position `upto` of the input.
    NeedMore {
        upto: usize,
    },
    Broken(RdbError),
}

impl From<RdbError> for Stop {
    fn from(error: RdbError) -> Stop {
        Stop::Broken(error)
    }
}

pub(crate) type Parse<T> = Result<T, Stop>;

/// A string as it lies in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawString<'b> {
    Plain(&'b [u8]),
    Int(i32),
    Lzf { packed: &'b [u8], len: usize, offset: u64 },
}

impl<'b> RawString<'b> {
    /// The string's bytes: in the input where they lie there, else put into `scratch`.
    #[inline]
    pub(crate) fn bytes(self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], RdbError> {
        match self {
            RawString::Plain(bytes) => Ok(bytes),
            RawString::Int(int) => {
                scratch.clear();
                push_decimal(scratch, i64::from(int));
                Ok(scratch)
            }
            RawString::Lzf { packed, len, offset } => unpack(packed, len, offset, scratch),
        }
    }
}

fn unpack<'b>(
    packed: &[u8],
    len: usize,
    offset: u64,
    scratch: &'b mut Vec<u8>,
) -> Result<&'b [u8], RdbError> {
    if scratch.capacity() > SCRATCH_KEPT_MAX && len <= SCRATCH_KEPT_MAX {
        *scratch = Vec::new();
    }
    match lzf::decompress(packed, len, scratch) {
        Ok(()) => Ok(scratch),
        Err(error) => Err(RdbError::Corrupt { what: error.what(), offset }),
    }
}

/// Reads from the bytes that have arrived. What was read up to the last [`Input::commit`] need not be given
/// again; the rest is, when more is needed.
pub(crate) struct Input<'b> {
    bytes: &'b [u8],
    position: usize,
    committed: usize,
    /// Where `bytes` starts in all that was ever given.
    start: u64,
}

impl<'b> Input<'b> {
    pub(crate) fn new(bytes: &'b [u8], start: u64) -> Input<'b> {
        Input { bytes, position: 0, committed: 0, start }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed
    }

    pub(crate) fn commit(&mut self) {
        self.committed = self.position;
    }

    /// The bytes read so far.
    pub(crate) fn consumed(&self) -> &'b [u8] {
        &self.bytes[..self.position]
    }

    pub(crate) fn offset(&self) -> u64 {
        self.start + self.position as u64
    }

    pub(crate) fn corrupt<T>(&self, what: &'static str) -> Parse<T> {
        Err(Stop::Broken(RdbError::Corrupt { what, offset: self.offset() }))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Parse<&'b [u8]> {
        match self.bytes[self.position..].get(..len) {
            Some(taken) => {
                self.position += len;
                Ok(taken)
            }
            None => match self.position.checked_add(len) {
                Some(upto) => Err(Stop::NeedMore { upto }),
                None => self.corrupt("length beyond all memory"),
            },
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("N bytes were taken"))
    }

    #[inline]
    pub(crate) fn peek(&self) -> Parse<u8> {
        self.bytes.get(self.position).copied().ok_or(Stop::NeedMore { upto: self.position + 1 })
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Parse<u8> {
        let byte = self.peek()?;
        self.position += 1;
        Ok(byte)
    }

    pub(crate) fn length(&mut self) -> Parse<u64> {
        let offset = self.offset();
        let first = self.byte()?;
        self.length_after(first, offset)
    }

    /// The length that `first`, already read, starts.
    #[inline]
    fn length_after(&mut self, first: u8, offset: u64) -> Parse<u64> {
        match first {
            0..BITS_14 => Ok(u64::from(first)),
            BITS_14..BITS_32 => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            BITS_32 => Ok(u64::from(u32::from_be_bytes(self.array()?))),
            BITS_64 => Ok(u64::from_be_bytes(self.array()?)),
            INT_8..=u8::MAX => Err(corrupt_at("packed string where a length is due", offset)),
            _ => Err(corrupt_at("unknown form of a length", offset)),
        }
    }

    /// A length that counts bytes in memory.
    fn size(&mut self) -> Parse<usize> {
        let length = self.length()?;
        usize::try_from(length).or_else(|_| self.corrupt("length beyond all memory"))
    }

    #[inline]
    pub(crate) fn string(&mut self) -> Parse<RawString<'b>> {
        let offset = self.offset();
        let first = self.byte()?;
        if first < INT_8 {
            let len = self.length_after(first, offset)?;
            // On 64 bits a length fits; on fewer it would be cut short, and must not be.
            let len = usize::try_from(len).map_err(|_| corrupt_at("length beyond all memory", offset))?;
            return Ok(RawString::Plain(self.take(len)?));
        }
        self.packed_string(first, offset)
    }

    /// Reads the length of a plain string if it is above `whole_max`, and leaves the input as it is otherwise.
    #[inline]
    pub(crate) fn long_plain(&mut self, whole_max: usize) -> Parse<Option<u64>> {
        if !matches!(self.peek()?, BITS_32 | BITS_64) {
            return Ok(None);
        }
        let before = self.position;
        let length = self.length()?;
        if length > whole_max as u64 {
            return Ok(Some(length));
        }
        self.position = before;
        Ok(None)
    }

    /// Takes what there is, at least one byte and up to `len`.
    pub(crate) fn take_some(&mut self, len: u64) -> Parse<&'b [u8]> {
        let there = self.bytes.len() - self.position;
        let len = usize::try_from(len).map_or(there, |len| len.min(there));
        self.take(len.max(1))
    }

    fn packed_string(&mut self, first: u8, offset: u64) -> Parse<RawString<'b>> {
        match first {
            INT_8 => Ok(RawString::Int(i32::from(i8::from_le_bytes(self.array()?)))),
            INT_16 => Ok(RawString::Int(i32::from(i16::from_le_bytes(self.array()?)))),
            INT_32 => Ok(RawString::Int(i32::from_le_bytes(self.array()?))),
            LZF => {
                let packed_len = self.size()?;
                let len = self.size()?;
                Ok(RawString::Lzf { packed: self.take(packed_len)?, len, offset })
            }
            _ => Err(corrupt_at("unknown form of a string", offset)),
        }
    }
}

fn corrupt_at(what: &'static str, offset: u64) -> Stop {
    Stop::Broken(RdbError::Corrupt { what, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn length_of(bytes: &[u8]) -> Result<u64, &'static str> {
        match Input::new(bytes, 0).length() {
            Ok(length) => Ok(length),
            Err(Stop::NeedMore { .. }) => Err("more"),
            Err(Stop::Broken(RdbError::Corrupt { what, .. })) => Err(what),
            Err(Stop::Broken(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn lengths_at_the_edges_of_their_forms() {
        for (length, bytes) in [
            (0, &b"\x00"[..]),
            (63, b"\x3f"),
            (64, b"\x40\x40"),
            (16383, b"\x7f\xff"),
            (16384, b"\x80\x00\x00\x40\x00"),
            (u64::from(u32::MAX), b"\x80\xff\xff\xff\xff"),
            (1 << 32, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"),
            (u64::MAX, b"\x81\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            push_length(&mut out, length);
            assert_eq!(out, bytes, "{length}");
            assert_eq!(length_of(bytes), Ok(length));
            for cut in 0..bytes.len() {
                assert_eq!(length_of(&bytes[..cut]), Err("more"));
            }
        }
        assert_eq!(length_of(b"\x82"), Err("unknown form of a length"));
        assert_eq!(length_of(b"\xc0\x01"), Err("packed string where a length is due"));
    }

    #[test]
    fn only_canonical_32_bit_integers_are_packed() {
        for (bytes, want) in [
            (&b"0"[..], Some(0)),
            (b"-1", Some(-1)),
            (b"2147483647", Some(i32::MAX)),
            (b"-2147483648", Some(i32::MIN)),
            (b"2147483648", None),
            (b"-2147483649", None),
            (b"99999999999", None),
            (b"", None),
            (b"-", None),
            (b"-0", None),
            (b"00", None),
            (b"01", None),
            (b"+1", None),
            (b" 1", None),
            (b"1a", None),
        ] {
            assert_eq!(canonical_i32(bytes), want, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_scratch_buffer_grown_huge_is_given_back() {
        let mut scratch = Vec::with_capacity(SCRATCH_KEPT_MAX * 2);
        let packed = [0, b'a'];
        let raw = RawString::Lzf { packed: &packed, len: 1, offset: 0 };
        assert_eq!(raw.bytes(&mut scratch), Ok(&b"a"[..]));
        assert!(scratch.capacity() <= SCRATCH_KEPT_MAX);
    }

    proptest! {
        #[test]
        fn any_integer_is_its_decimal_form(int in any::<i64>(), shift in 0..64u32) {
            let int = int >> shift;
            let mut out = Vec::new();
            push_decimal(&mut out, int);
            prop_assert_eq!(&out, &int.to_string().into_bytes());
            prop_assert_eq!(canonical_i32(&out), i32::try_from(int).ok());
        }

        #[test]
        fn any_length_comes_back(length in any::<u64>(), shift in 0..64u32) {
            let mut out = Vec::new();
            push_length(&mut out, length >> shift);
            prop_assert!(out.len() <= LENGTH_MAX);
            prop_assert_eq!(length_of(&out), Ok(length >> shift));
        }
    }
}
