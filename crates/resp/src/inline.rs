//! Splitting a line into words as Redis does for inline commands and for its configuration file.
//!
//! Words are separated by blanks. A part of a word in double quotes knows `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a`, and
//! a backslash before any other byte for that byte; a part in single quotes knows only `\'`. A closing quote must be
//! followed by a blank or the end. A NUL byte ends the line.

use crate::args::Span;

/// A quote was not closed, or a closing quote was followed by something other than a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Appends the unquoted words of `line` to `scratch` and their places there to `spans`.
///
/// On error both are as they were. Unquoting never lengthens, so `scratch` grows by at most `line.len()`.
pub fn split_args(line: &[u8], scratch: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), UnbalancedQuotes> {
    let (scratch_len, spans_len) = (scratch.len(), spans.len());
    let mut rest = line;
    loop {
        while let [blank, tail @ ..] = rest
            && is_blank(*blank)
        {
            rest = tail;
        }
        if matches!(rest, [] | [0, ..]) {
            return Ok(());
        }
        let start = scratch.len();
        match word(rest, scratch) {
            Some(tail) => rest = tail,
            None => {
                scratch.truncate(scratch_len);
                spans.truncate(spans_len);
                return Err(UnbalancedQuotes);
            }
        }
        spans.push(Span { start, len: scratch.len() - start });
    }
}

/// The unquoted words of `line`, each on its own.
pub fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let (mut scratch, mut spans) = (Vec::with_capacity(line.len()), Vec::new());
    split_args(line, &mut scratch, &mut spans)?;
    Ok(spans.iter().map(|span| span.of(&scratch).to_vec()).collect())
}

/// Appends the word that `rest` begins with and returns what follows it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return Some(rest),
            // Vertical tab and form feed separate words only after a blank: Redis tests for them there alone.
            [b' ' | b'\n' | b'\r' | b'\t', tail @ ..] => return Some(tail),
            [b'"', tail @ ..] => return double_quoted(tail, out),
            [b'\'', tail @ ..] => return single_quoted(tail, out),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return None,
            [b'"', tail @ ..] => return ends_word(tail),
            [b'\\', b'x', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high)? << 4 | hex(*low)?);
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] if *escaped != 0 => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return None,
            [b'\\', b'\'', tail @ ..] => {
                out.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return ends_word(tail),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn ends_word(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [] | [0, ..] => Some(rest),
        [blank, ..] if is_blank(*blank) => Some(rest),
        _ => None,
    }
}

/// C's `isspace` in the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
        let (mut scratch, mut spans) = (b"before".to_vec(), vec![Span::default()]);
        let result = split_args(line, &mut scratch, &mut spans);
        assert_eq!(&scratch[..6], b"before");
        if result.is_err() {
            assert_eq!((scratch.len(), spans.len()), (6, 1), "an error leaves nothing behind");
        }
        result.map(|()| spans[1..].iter().map(|span| span.of(&scratch).to_vec()).collect())
    }

    #[test]
    fn words_and_quotes() {
        let cases: [(&[u8], &[&[u8]]); 18] = [
            (b"", &[]),
            (b" \t \x0b\x0c", &[]),
            (b"get key", &[b"get", b"key"]),
            (b"  set\tk \r v  ", &[b"set", b"k", b"v"]),
            (br#"a "b c" 'd e'"#, &[b"a", b"b c", b"d e"]),
            (br#""\x41\xff\x0g\n\r\t\b\a\q\"""#, &[b"A\xffx0g\n\r\t\x08\x07q\""]),
            (br"'\x41\n\''", &[br"\x41\n'"]),
            (br#""" ''"#, &[b"", b""]),
            (br#"ab"cd" x"#, &[b"abcd", b"x"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (b"\"a\"\x0bb", &[b"a", b"b"]),
            (br#"foo"bar""#, &[b"foobar"]),
            (br"'it\'s \n'", &[br"it's \n"]),
            (b"a\0b c", &[b"a"]),
            (b"\0a", &[]),
            (br#""\x00""#, &[b"\0"]),
            (br"a\nb", &[br"a\nb"]),
            (br#""\\""#, &[br"\"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), words, "{}", line.escape_ascii());
            assert_eq!(split_words(line).unwrap(), words, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unbalanced() {
        for line in [
            &br#""a"#[..],
            b"'a",
            br#""a"b"#,
            b"'a'b",
            br#"a "b\""#,
            br#"""""#,
            b"\"a\0\"",
            br#""\"#,
            br#"foo"bar"baz"#,
        ] {
            assert_eq!(split(line), Err(UnbalancedQuotes), "{}", line.escape_ascii());
            assert_eq!(split_words(line), Err(UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_word_survives_double_quotes(words in prop::collection::vec(any::<Vec<u8>>(), 0..6)) {
            let line = words.iter().map(|word| {
                format!("\"{}\"", word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>())
            }).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(line.as_bytes()).unwrap(), words);
        }

        #[test]
        fn never_longer_than_the_line(line: Vec<u8>) {
            if let Ok(words) = split(&line) {
                prop_assert!(words.iter().map(Vec::len).sum::<usize>() <= line.len());
            }
        }
    }
}
