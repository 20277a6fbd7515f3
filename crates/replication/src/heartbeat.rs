//! Clock-stamped heartbeats in the stream, by which a replica knows how far behind it is.
//!
//! A heartbeat is a `PING` with the primary's wall clock as its message, which replicas of any make execute without an
//! effect, count in the offset and relay:
//!
//! ```text
//! *2\r\n$4\r\nPING\r\n$21\r\nkindred:1763817402123\r\n
//! ```
//!
//! It stands in the place of the bare `PING` wherever heartbeats are at least as frequent as those.

use crate::Millis;

/// What the message begins with; milliseconds since the epoch follow.
const PREFIX: &[u8] = b"kindred:";

/// The command with the time of now.
pub fn encode(unix_ms: i64) -> Vec<u8> {
    let stamp = unix_ms.to_string();
    crate::wire::command(&[b"PING", &[PREFIX, stamp.as_bytes()].concat()])
}

/// The time in the message of a PING of the stream, if it is a heartbeat.
pub fn stamp(message: &[u8]) -> Option<i64> {
    std::str::from_utf8(message.strip_prefix(PREFIX)?).ok()?.parse().ok()
}

/// What a replica heard of its primary's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The primary's wall clock when the heartbeat was written.
    pub unix_ms: i64,
    /// From there to its execution here, by the clocks of both; never below zero.
    pub lag: Millis,
}

impl Heard {
    pub fn new(unix_ms: i64, now_unix_ms: i64) -> Heard {
        Heard { unix_ms, lag: Millis((now_unix_ms - unix_ms).max(0) as u64) }
    }

    /// How old the data here is at most: what the primary wrote up to then has been executed.
    pub fn staleness(&self, now_unix_ms: i64) -> Millis {
        Millis((now_unix_ms - self.unix_ms).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_a_ping_with_a_stamp() {
        let bytes = encode(1_763_817_402_123);
        assert_eq!(bytes, b"*2\r\n$4\r\nPING\r\n$21\r\nkindred:1763817402123\r\n");
        assert_eq!(stamp(b"kindred:1763817402123"), Some(1_763_817_402_123));
        for none in [&b""[..], b"kindred:", b"kindred:x", b"1763817402123", b"Kindred:1"] {
            assert_eq!(stamp(none), None);
        }
    }

    #[test]
    fn clocks_that_differ_give_no_negative_lag() {
        let heard = Heard::new(2_000, 1_990);
        assert_eq!((heard.lag, heard.staleness(2_500)), (Millis(0), Millis(500)));
        assert_eq!(Heard::new(2_000, 2_015).lag, Millis(15));
    }
}
