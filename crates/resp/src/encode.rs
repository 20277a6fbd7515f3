//! Writing commands and lengths: what a client sends, and what the log holds.

/// Appends the command as a multibulk, `*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n`: the only form in which the log and
/// links carry commands.
pub fn encode_command<'a, I>(out: &mut Vec<u8>, args: I)
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: ExactSizeIterator,
{
    let args = args.into_iter();
    push_head(out, b'*', args.len());
    for arg in args {
        push_bulk(out, arg);
    }
}

/// The number of bytes that [`encode_command`] appends for these arguments.
pub fn encoded_command_len<'a, I>(args: I) -> usize
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: ExactSizeIterator,
{
    let args = args.into_iter();
    head_len(args.len()) + args.map(|arg| head_len(arg.len()) + arg.len() + 2).sum::<usize>()
}

/// Appends `$5\r\nhello\r\n`.
#[inline(always)]
pub(crate) fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + HEAD_MAX + 2);
    push_head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a kind byte, a length and CRLF. Short lengths, which are nearly all, are one store.
#[inline]
pub(crate) fn push_head(out: &mut Vec<u8>, kind: u8, n: usize) {
    if n < 10 {
        out.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']);
    } else if n < 100 {
        out.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
    } else {
        push_long_head(out, kind, n);
    }
}

#[inline(never)]
fn push_long_head(out: &mut Vec<u8>, kind: u8, n: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Kind byte, 20 digits, CRLF.
pub(crate) const HEAD_MAX: usize = 23;

fn head_len(n: usize) -> usize {
    3 + n.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_bytes_and_length() {
        let long = [b'x'; 123];
        for (args, bytes) in [
            (vec![], "*0\r\n".to_owned()),
            (vec![&b"GET"[..], b""], "*2\r\n$3\r\nGET\r\n$0\r\n\r\n".to_owned()),
            (vec![&long[..10]; 12], format!("*12\r\n{}", "$10\r\nxxxxxxxxxx\r\n".repeat(12))),
            (
                vec![&long[..]; 100],
                format!("*100\r\n{}", format!("$123\r\n{}\r\n", "x".repeat(123)).repeat(100)),
            ),
        ] {
            let mut out = vec![];
            encode_command(&mut out, args.iter().copied());
            assert_eq!(String::from_utf8(out).unwrap(), bytes);
            assert_eq!(encoded_command_len(args.iter().copied()), bytes.len());
        }
    }
}
