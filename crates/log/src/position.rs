//! Which history, and where in it.
//!
//! Two servers hold the same data exactly when they are at the same offset of the same history. A history
//! is named by 40 random hexadecimal digits, shown as `master_replid` and sent in PSYNC and +FULLRESYNC.

use std::fmt;

/// Length of a replication id on the wire and in INFO, in bytes of text.
pub const REPL_ID_LEN: usize = 40;

/// Name of a replication history: 40 bytes of text, as sent on the wire.
///
/// Always lower case: Redis compares ids without regard to case when a replica asks for one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplId([u8; REPL_ID_LEN]);

/// The text is not a replication id: not 40 bytes, or not printable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplIdError;

/// A point in a history: everything up to and including the byte at `offset` is held.
///
/// Offset 0 is the empty start of a history. The byte to ask for next is [`Position::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub replid: ReplId,
    pub offset: u64,
}

impl ReplId {
    /// What Redis shows as `master_replid2` while there is no second history.
    pub const NONE: ReplId = ReplId([b'0'; REPL_ID_LEN]);

    /// A fresh id out of 20 random bytes; the caller owns the source of randomness.
    pub fn from_random(random: [u8; REPL_ID_LEN / 2]) -> ReplId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; REPL_ID_LEN];
        for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        ReplId(text)
    }

    /// Reads an id as a peer sent it. Redis checks the length only, and some peers do not use hexadecimal
    /// digits, so any 40 printable bytes are taken.
    pub fn parse(text: &[u8]) -> Result<ReplId, ReplIdError> {
        let mut id: [u8; REPL_ID_LEN] = text.try_into().map_err(|_| ReplIdError)?;
        if !id.iter().all(u8::is_ascii_graphic) {
            return Err(ReplIdError);
        }
        id.make_ascii_lowercase();
        Ok(ReplId(id))
    }

    pub fn as_bytes(&self) -> &[u8; REPL_ID_LEN] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a replication id is printable ASCII")
    }
}

impl Position {
    pub fn new(replid: ReplId, offset: u64) -> Position {
        Position { replid, offset }
    }

    /// The first byte that is not held yet: what PSYNC asks for.
    pub fn next(self) -> u64 {
        self.offset + 1
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplId({})", self.as_str())
    }
}

impl std::str::FromStr for ReplId {
    type Err = ReplIdError;

    fn from_str(text: &str) -> Result<ReplId, ReplIdError> {
        ReplId::parse(text.as_bytes())
    }
}

impl fmt::Display for ReplIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a replication id is {REPL_ID_LEN} printable characters")
    }
}

impl std::error::Error for ReplIdError {}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replid, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_forty_hex_digits() {
        let mut random = [0; 20];
        random[0] = 0x0f;
        random[19] = 0xa5;
        assert_eq!(ReplId::from_random(random).to_string(), "0f000000000000000000000000000000000000a5");
    }

    #[test]
    fn ids_are_read_without_regard_to_case_and_refused_when_malformed() {
        let id = ReplId::from_random([0xab; 20]);
        assert_eq!(ReplId::parse("AB".repeat(20).as_bytes()), Ok(id));
        assert_eq!("ab".repeat(20).parse(), Ok(id));
        assert_eq!(ReplId::parse(b"?"), Err(ReplIdError));
        assert_eq!(ReplId::parse("ab".repeat(21).as_bytes()), Err(ReplIdError));
        assert_eq!(ReplId::parse(format!("{} ", "a".repeat(39)).as_bytes()), Err(ReplIdError));
        assert_eq!(ReplId::NONE.as_str(), "0".repeat(40));
    }

    #[test]
    fn a_position_asks_for_the_byte_after_the_last_one_held() {
        let at = Position::new(ReplId::NONE, 50);
        assert_eq!(at.next(), 51);
        assert_eq!(at.to_string(), format!("{}:50", "0".repeat(40)));
    }
}
