//! The few bytes that links write and read themselves.

use log::Position;

/// Longest reply line that is taken from a peer before the stream begins, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// A line of text that may arrive in parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineBuffer(Vec<u8>);

/// What [`LineBuffer::feed`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// All input was taken; the line has not ended.
    Partial,
    /// A line without its end mark, and how much of the input belonged to it.
    Whole(Vec<u8>, usize),
    TooLong,
}

impl LineBuffer {
    pub(crate) fn feed(&mut self, input: &[u8]) -> Line {
        let end = memchr::memchr(b'\n', input);
        self.0.extend_from_slice(&input[..end.unwrap_or(input.len())]);
        if self.0.len() > LINE_BYTES_MAX {
            return Line::TooLong;
        }
        let Some(end) = end else { return Line::Partial };
        let mut line = std::mem::take(&mut self.0);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line, end + 1)
    }
}

/// Appends a command as RESP.
pub(crate) fn write_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

pub(crate) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_command(&mut out, args);
    out
}

/// `REPLCONF ACK offset [FACK offset]`: what was applied, and what of it is on disk.
pub(crate) fn ack(applied: u64, fsynced: Option<u64>) -> Vec<u8> {
    let applied = applied.to_string();
    match fsynced {
        None => command(&[b"REPLCONF", b"ACK", applied.as_bytes()]),
        Some(fsynced) => {
            command(&[b"REPLCONF", b"ACK", applied.as_bytes(), b"FACK", fsynced.to_string().as_bytes()])
        }
    }
}

/// With `take_over` the other end is asked to become the primary first.
pub(crate) fn psync(resume: Option<Position>, take_over: bool) -> Vec<u8> {
    let next = resume.map(|at| at.next().to_string());
    let mut args: Vec<&[u8]> = match (&resume, &next) {
        (Some(at), Some(next)) => vec![b"PSYNC", at.replid.as_bytes(), next.as_bytes()],
        _ => vec![b"PSYNC", b"?", b"-1"],
    };
    if take_over {
        args.push(b"FAILOVER");
    }
    command(&args)
}

/// A signed decimal as Redis's `string2ll` takes it: no sign but '-', no leading zeros, no blanks.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_same_however_it_is_cut() {
        let input = b"+OK\r\nrest";
        for cut in 0..=4 {
            let mut line = LineBuffer::default();
            assert_eq!(line.feed(&input[..cut]), Line::Partial);
            assert_eq!(line.feed(&input[cut..]), Line::Whole(b"+OK".to_vec(), 5 - cut));
        }
        assert_eq!(LineBuffer::default().feed(b"\n"), Line::Whole(Vec::new(), 1));
        assert_eq!(LineBuffer::default().feed(&[b'x'; LINE_BYTES_MAX + 1]), Line::TooLong);
    }

    #[test]
    fn numbers_are_taken_as_redis_takes_them() {
        assert_eq!(parse_i64(b"-1"), Some(-1));
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        for bad in [&b""[..], b"+1", b"01", b" 1", b"1x", b"9223372036854775808"] {
            assert_eq!(parse_i64(bad), None, "{:?}", lossy(bad));
        }
    }
}
