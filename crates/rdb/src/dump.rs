//! DUMP payloads: one value without its key, as DUMP gives it and RESTORE and MIGRATE take it.
//!
//! ```text
//! type tag | value | u16 version LE | u64 CRC-64 of all before LE
//! ```
//!
//! Whoever restores refuses a version newer than its own, so a payload states the oldest that holds its value.
//! Unlike in a file, a checksum of zero means nothing special.

use crate::RdbError;
use crate::crc::crc64;
use crate::decode::{DecodeOptions, Decoder, Event, Step};
use crate::version::{Target, Version};

/// Bytes of version and checksum.
pub const FOOTER_LEN: usize = 10;

/// Completes the payload of which `out` holds the type tag and the value, and nothing else: written by an
/// encoder of `target`, with no key.
pub fn seal(out: &mut Vec<u8>, target: Target) {
    out.extend_from_slice(&target.number().to_le_bytes());
    let sum = crc64(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Checks version and checksum, and gives the decoder for the value and the bytes to feed it. Any error of
/// this function is for the client the one answer "DUMP payload version or checksum are wrong".
///
/// The value must be followed with the decoder to its `Eof`. What lies behind the value is ignored, as in Redis.
pub fn open(payload: &[u8]) -> Result<(Decoder, &[u8]), RdbError> {
    open_with(payload, DecodeOptions::default())
}

/// As [`open`]; if the options say so, the checksum may be anything: tests make hostile payloads that way.
pub fn open_with(payload: &[u8], options: DecodeOptions) -> Result<(Decoder, &[u8]), RdbError> {
    let truncated = RdbError::Truncated { offset: payload.len() as u64 };
    let (value, footer) = payload.split_last_chunk::<FOOTER_LEN>().ok_or(truncated)?;
    let [low, high, sum @ ..] = footer;
    let version = Version::from_dump(u16::from_le_bytes([*low, *high]))?;
    let stated = u64::from_le_bytes(*sum);
    if options.verify_checksum {
        let computed = crc64(&payload[..payload.len() - sum.len()]);
        if stated != computed {
            return Err(RdbError::ChecksumMismatch { stated, computed });
        }
    }
    Ok((Decoder::for_dump(version), value))
}

/// The version that a payload states; nothing if it is too short to state one.
pub fn version(payload: &[u8]) -> Option<u16> {
    let footer = payload.last_chunk::<FOOTER_LEN>()?;
    Some(u16::from_le_bytes([footer[0], footer[1]]))
}

/// The sources of the libraries in a payload of `FUNCTION DUMP`: records of a file and nothing else.
pub fn functions(payload: &[u8]) -> Result<Vec<Vec<u8>>, RdbError> {
    let (_, mut rest) = open(payload)?;
    let number = version(payload).unwrap_or_default();
    let mut decoder = Decoder::for_records(Version::from_dump(number)?);
    let mut found = Vec::new();
    while !rest.is_empty() {
        match decoder.next(rest)? {
            Step::Event { event: Event::Function(code), consumed } => {
                found.push(code.to_vec());
                rest = &rest[consumed..];
            }
            Step::Event { .. } => {
                return Err(RdbError::Corrupt {
                    what: "something else than a library",
                    offset: decoder.offset(),
                });
            }
            Step::NeedMore { .. } => return Err(decoder.truncated()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Checksum, Event, Key, Step, StrRef};
    use crate::encode::{Encoder, EncoderOptions};
    use crate::opcode::ValueType;

    /// DUMP of `SET k 10` in redis 7.0.15.
    const TEN: &[u8] = b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb";

    fn events(payload: &[u8]) -> Result<Vec<String>, RdbError> {
        let (mut decoder, mut value) = open(payload)?;
        let mut seen = Vec::new();
        loop {
            match decoder.next(value)? {
                Step::Event { event, consumed } => {
                    seen.push(format!("{event:?}"));
                    if matches!(event, Event::Eof { .. }) {
                        return Ok(seen);
                    }
                    value = &value[consumed..];
                }
                Step::NeedMore { .. } => return Err(decoder.truncated()),
            }
        }
    }

    #[test]
    fn a_real_payload_opens_to_one_value() {
        let key =
            Key { key: b"", expire_at_ms: None, idle_s: None, freq: None, value_type: ValueType::String };
        let want =
            [Event::Key(key), Event::Str(StrRef::Int(10)), Event::Eof { checksum: Checksum::Verified }];
        assert_eq!(events(TEN), Ok(want.iter().map(|event| format!("{event:?}")).collect()));
    }

    #[test]
    fn the_same_value_seals_to_the_same_bytes() {
        let mut out = Vec::new();
        Encoder::new(Target::V10, EncoderOptions::default()).string(&mut out, None, StrRef::Bytes(b"10"));
        seal(&mut out, Target::V10);
        assert_eq!(out, TEN);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for at in 0..TEN.len() {
            for bit in 0..8 {
                let mut bad = TEN.to_vec();
                bad[at] ^= 1 << bit;
                assert!(events(&bad).is_err(), "bit {bit} of byte {at}");
                let in_sum = at >= TEN.len() - size_of::<u64>();
                assert!(
                    !in_sum || open_with(&bad, DecodeOptions { verify_checksum: false }).is_ok(),
                    "bit {bit} of byte {at}, not verified"
                );
            }
            assert!(events(&TEN[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_version_that_is_not_ours_is_refused_before_the_checksum() {
        let mut payload = b"\x00\xc0\x0a".to_vec();
        payload.extend_from_slice(&13u16.to_le_bytes());
        let sum = crc64(&payload);
        payload.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(events(&payload), Err(RdbError::UnsupportedVersion(13)));
    }

    #[test]
    fn a_value_cut_short_under_a_right_checksum_is_truncated() {
        let mut payload = b"\x00\x05abc".to_vec();
        seal(&mut payload, Target::V9);
        assert_eq!(events(&payload), Err(RdbError::Truncated { offset: 1 }));
    }
}
