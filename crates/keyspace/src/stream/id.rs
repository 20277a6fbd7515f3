//! The name of an entry: a time and a number, written `ms-seq`.

/// Ordered by time, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the epoch, if it was not given by hand.
    pub ms: u64,
    pub seq: u64,
}

/// One half of an ID as clients spell it. As in Redis, blanks before it, a plus sign and zeros in front are taken.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };
    /// Bytes of the binary form.
    pub const BYTES: usize = 16;

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    #[inline]
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// The ID that follows; `None` after the last one.
    #[inline]
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The ID before; `None` before 0-0.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Big endian, as snapshots hold it.
    pub fn to_bytes(self) -> [u8; StreamId::BYTES] {
        let mut bytes = [0; StreamId::BYTES];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; StreamId::BYTES]) -> StreamId {
        let bits = u128::from_be_bytes(bytes);
        StreamId { ms: (bits >> 64) as u64, seq: bits as u64 }
    }

    /// The text `ms-seq`, without an allocation.
    #[inline]
    pub fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; 41], len: 0 };
        text.push(self.ms);
        text.bytes[text.len] = b'-';
        text.len += 1;
        text.push(self.seq);
        text
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// `ms-seq` as bytes.
#[derive(Debug, Clone, Copy)]
pub struct IdText {
    bytes: [u8; 41],
    len: usize,
}

impl IdText {
    #[inline]
    fn push(&mut self, value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let digits = &digits[at..];
        self.bytes[self.len..self.len + digits.len()].copy_from_slice(digits);
        self.len += digits.len();
    }
}

impl std::ops::Deref for IdText {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_texts() {
        let id = StreamId::new(5, u64::MAX);
        assert_eq!((id.next(), StreamId::MAX.next()), (Some(StreamId::new(6, 0)), None));
        assert_eq!((StreamId::new(6, 0).previous(), StreamId::MIN.previous()), (Some(id), None));
        assert_eq!(&*id.text(), b"5-18446744073709551615");
        assert_eq!(&*StreamId::MAX.text(), b"18446744073709551615-18446744073709551615");
        assert_eq!(&*StreamId::MIN.text(), b"0-0");
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        assert!(StreamId::new(1, 9) < StreamId::new(2, 0));
    }

    #[test]
    fn decimals() {
        for (text, value) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+", None),
            ("+1", Some(1)),
            ("007", Some(7)),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(parse_u64(text.as_bytes()), value, "{text}");
        }
    }
}
