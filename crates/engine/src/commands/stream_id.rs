//! IDs of entries as arguments, and entries and effects that all stream commands share.

use command::CommandError;
use keyspace::stream::id::parse_u64;
use keyspace::stream::{Cursor, NewId};
use keyspace::{Stream, StreamId};
use resp::Reply;

use crate::commands::elements::reply_entry;

const INVALID: CommandError =
    CommandError::fixed("ERR Invalid stream ID specified as stream command argument");

/// Longer IDs are not looked at.
const TEXT_MAX: usize = 127;

/// `ms` or `ms-seq`; where the number is missing it is `missing_seq`. What stands for the first and last ID is refused.
pub fn parse_strict(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match split(arg)? {
        (ms, None) => Ok(StreamId { ms, seq: missing_seq }),
        (ms, Some(seq)) => Ok(StreamId { ms, seq: parse_u64(seq).ok_or(INVALID)? }),
    }
}

/// As [`parse_strict`], and `-` and `+` for the first and last ID of all.
pub fn parse(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match arg {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => parse_strict(arg, missing_seq),
    }
}

/// The ID of a new entry: `*`, `ms-*`, or as [`parse_strict`].
pub fn parse_new(arg: &[u8]) -> Result<NewId, CommandError> {
    if arg == b"*" {
        return Ok(NewId::Auto);
    }
    match split(arg)? {
        (ms, Some(b"*")) => Ok(NewId::Ms(ms)),
        _ => parse_strict(arg, 0).map(NewId::Exact),
    }
}

/// The start of a range; `(` leaves the ID itself out.
pub fn parse_start(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => {
            let id = parse_strict(rest, 0)?;
            id.next().ok_or(CommandError::fixed("ERR invalid start ID for the interval"))
        }
        _ => parse(arg, 0),
    }
}

/// The end of a range.
pub fn parse_end(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', rest @ ..] if !rest.is_empty() => {
            let id = parse_strict(rest, u64::MAX)?;
            id.previous().ok_or(CommandError::fixed("ERR invalid end ID for the interval"))
        }
        _ => parse(arg, u64::MAX),
    }
}

fn split(arg: &[u8]) -> Result<(u64, Option<&[u8]>), CommandError> {
    if arg.len() > TEXT_MAX {
        return Err(INVALID);
    }
    let dash = arg.iter().position(|byte| *byte == b'-');
    let (ms, seq) = match dash {
        Some(at) => (&arg[..at], Some(&arg[at + 1..])),
        None => (arg, None),
    };
    Ok((parse_u64(ms).ok_or(INVALID)?, seq))
}

#[inline]
pub fn reply_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&id.text());
}

/// Replies the next entry of the cursor; its ID, or `None` at the end.
#[inline]
pub fn reply_next(reply: &mut Reply<'_>, cursor: &mut Cursor<'_>) -> Option<StreamId> {
    let at = cursor.next()?;
    reply.array(2);
    reply_id(reply, at.id);
    reply.array(2 * at.fields);
    for _ in 0..at.fields {
        let (name, value) = cursor.field();
        reply_entry(reply, name);
        reply_entry(reply, value);
    }
    Some(at.id)
}

/// Replies what the cursor gives, up to `limit` entries.
pub fn reply_entries(reply: &mut Reply<'_>, mut cursor: Cursor<'_>, limit: usize) {
    let mark = reply.begin_deferred();
    let mut count = 0;
    while count < limit && reply_next(reply, &mut cursor).is_some() {
        count += 1;
    }
    reply.end_array(mark, count);
}

/// Replies a range. The length of one that begins with the first entry and is open at its end is known beforehand.
pub fn reply_range(
    reply: &mut Reply<'_>,
    stream: &Stream,
    start: StreamId,
    end: StreamId,
    limit: usize,
    backward: bool,
) {
    let mut cursor = if backward { stream.range_rev(start, end) } else { stream.range(start, end) };
    if start > stream.first_id() || end != StreamId::MAX {
        return reply_entries(reply, cursor, limit);
    }
    let count = usize::try_from(stream.len()).unwrap_or(usize::MAX).min(limit);
    reply.array(count);
    for _ in 0..count {
        reply_next(reply, &mut cursor).expect("a stream has as many entries as it counts");
    }
}

/// `NOGROUP` for what neither is there.
#[cold]
pub fn no_group(key: &[u8], group: &[u8], suffix: &str) -> CommandError {
    let mut text = b"NOGROUP No such key '".to_vec();
    text.extend_from_slice(key);
    text.extend_from_slice(b"' or consumer group '");
    text.extend_from_slice(group);
    text.push(b'\'');
    text.extend_from_slice(suffix.as_bytes());
    CommandError::Unknown(text.into())
}

#[cold]
pub fn no_group_for_key(key: &[u8], group: &[u8]) -> CommandError {
    let mut text = b"NOGROUP No such consumer group '".to_vec();
    text.extend_from_slice(group);
    text.extend_from_slice(b"' for key name '");
    text.extend_from_slice(key);
    text.push(b'\'');
    CommandError::Unknown(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_all_forms() {
        let id = StreamId::new;
        for (text, strict, new) in [
            ("5", Ok(id(5, 9)), Ok(NewId::Exact(id(5, 0)))),
            ("5-3", Ok(id(5, 3)), Ok(NewId::Exact(id(5, 3)))),
            ("5-*", Err(INVALID), Ok(NewId::Ms(5))),
            ("*", Err(INVALID), Ok(NewId::Auto)),
            ("-", Err(INVALID), Err(INVALID)),
            ("+", Err(INVALID), Err(INVALID)),
            ("5-", Err(INVALID), Err(INVALID)),
            ("-5", Err(INVALID), Err(INVALID)),
            ("", Err(INVALID), Err(INVALID)),
            ("5-3-1", Err(INVALID), Err(INVALID)),
            ("99999999999999999999", Err(INVALID), Err(INVALID)),
        ] {
            assert_eq!(parse_strict(text.as_bytes(), 9), strict, "{text}");
            assert_eq!(parse_new(text.as_bytes()), new, "{text}");
        }
        assert_eq!((parse(b"-", 0), parse(b"+", 0)), (Ok(StreamId::MIN), Ok(StreamId::MAX)));
        assert_eq!((parse_start(b"(5"), parse_start(b"(5-7")), (Ok(id(5, 1)), Ok(id(5, 8))));
        assert_eq!((parse_end(b"(5"), parse_end(b"5")), (Ok(id(5, u64::MAX - 1)), Ok(id(5, u64::MAX))));
        assert_eq!(parse_start(b"(-"), Err(INVALID));
        assert!(
            parse_end(b"(0-0").is_err()
                && parse_start(b"(18446744073709551615-18446744073709551615").is_err()
        );
        assert_eq!(parse_strict("1".repeat(128).as_bytes(), 0), Err(INVALID));
    }
}
