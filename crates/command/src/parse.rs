//! Reading arguments: numbers, keywords, options and cursors.

use std::ops::RangeInclusive;

use resp::Args;

use crate::error::CommandError;
use crate::number::{parse_f64, parse_i64};

/// True when the argument is this keyword, in any case.
#[inline]
pub fn is_token(arg: &[u8], token: &str) -> bool {
    arg.eq_ignore_ascii_case(token.as_bytes())
}

/// A SCAN cursor: decimal digits of a `u64`. Like Redis, takes leading zeros and a sign, an empty text for 0, and looks at
/// nothing behind a NUL.
pub fn parse_cursor(arg: &[u8]) -> Result<u64, CommandError> {
    let arg = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    let (negative, digits) = match arg {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && !arg.is_empty() {
        return Err(CommandError::InvalidCursor);
    }
    let mut cursor = 0u64;
    for digit in digits {
        let value = u64::from(digit.wrapping_sub(b'0'));
        let next = cursor.checked_mul(10).and_then(|cursor| cursor.checked_add(value));
        cursor = next.filter(|_| digit.is_ascii_digit()).ok_or(CommandError::InvalidCursor)?;
    }
    Ok(if negative { cursor.wrapping_neg() } else { cursor })
}

/// Typed access to arguments by index. An index out of bounds is a syntax error.
pub trait ParseArgs<'a>: Copy {
    fn bytes(self, index: usize) -> Result<&'a [u8], CommandError>;

    /// True when the argument exists and is this keyword, in any case.
    fn is(self, index: usize, token: &str) -> bool {
        self.bytes(index).is_ok_and(|arg| is_token(arg, token))
    }

    #[inline]
    fn int(self, index: usize) -> Result<i64, CommandError> {
        // An error that is made to be dropped would cost more than reading the number.
        let Some(value) = parse_i64(self.bytes(index)?) else { return Err(CommandError::NotInteger) };
        Ok(value)
    }

    /// An integer within `range`, else an error that names the bounds.
    fn int_within(self, index: usize, range: RangeInclusive<i64>) -> Result<i64, CommandError> {
        let value = self.int(index)?;
        if range.contains(&value) {
            return Ok(value);
        }
        Err(CommandError::NotWithin { min: *range.start(), max: *range.end() })
    }

    /// An integer within `range`, else `error`, also for what is no integer.
    fn int_within_or(
        self,
        index: usize,
        range: RangeInclusive<i64>,
        error: CommandError,
    ) -> Result<i64, CommandError> {
        parse_i64(self.bytes(index)?).filter(|value| range.contains(value)).ok_or(error)
    }

    /// An integer of at least 0.
    fn positive(self, index: usize) -> Result<i64, CommandError> {
        self.int_within_or(index, 0..=i64::MAX, CommandError::MustBePositive)
    }

    fn float(self, index: usize) -> Result<f64, CommandError> {
        parse_f64(self.bytes(index)?).ok_or(CommandError::NotFloat)
    }

    fn cursor(self, index: usize) -> Result<u64, CommandError> {
        parse_cursor(self.bytes(index)?)
    }
}

impl<'a> ParseArgs<'a> for Args<'a> {
    #[inline]
    fn bytes(self, index: usize) -> Result<&'a [u8], CommandError> {
        self.get(index).ok_or(CommandError::Syntax)
    }
}

/// Walks the options at the end of a command.
///
/// `while let Some(option) = options.next() { if is_token(option, "EX") { ttl = options.int()? } … }`
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Options<'a> {
    /// Begins at index `from`.
    pub fn new(args: Args<'a>, from: usize) -> Self {
        Options { args, at: from }
    }

    /// The next argument, taken as the name of an option.
    #[expect(clippy::should_implement_trait, reason = "a `for` loop would borrow what the values need")]
    pub fn next(&mut self) -> Option<&'a [u8]> {
        let option = self.args.get(self.at)?;
        self.at += 1;
        Some(option)
    }

    /// Takes the next argument when it is this keyword.
    pub fn take(&mut self, token: &str) -> bool {
        let found = self.args.is(self.at, token);
        self.at += usize::from(found);
        found
    }

    /// The option's value; a syntax error when there is none.
    pub fn value(&mut self) -> Result<&'a [u8], CommandError> {
        self.next().ok_or(CommandError::Syntax)
    }

    pub fn int(&mut self) -> Result<i64, CommandError> {
        parse_i64(self.value()?).ok_or(CommandError::NotInteger)
    }

    pub fn int_within_or(
        &mut self,
        range: RangeInclusive<i64>,
        error: CommandError,
    ) -> Result<i64, CommandError> {
        parse_i64(self.value()?).filter(|value| range.contains(value)).ok_or(error)
    }

    pub fn float(&mut self) -> Result<f64, CommandError> {
        parse_f64(self.value()?).ok_or(CommandError::NotFloat)
    }

    /// Index of the argument that comes next.
    pub fn index(&self) -> usize {
        self.at
    }

    /// Arguments not looked at yet.
    pub fn rest(&self) -> Args<'a> {
        self.args.tail(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resp::ArgsBuf;

    #[test]
    fn typed_arguments() {
        let owned: ArgsBuf = ["cmd", "5", "-3", "x", "2.5", "nX"].into_iter().collect();
        let args = owned.as_args();
        assert_eq!((args.int(1), args.int(2), args.int(3)), (Ok(5), Ok(-3), Err(CommandError::NotInteger)));
        assert_eq!(args.int(9), Err(CommandError::Syntax));
        assert_eq!((args.positive(1), args.positive(2)), (Ok(5), Err(CommandError::MustBePositive)));
        assert_eq!(args.int_within(1, 5..=5), Ok(5));
        assert_eq!(args.int_within(1, 6..=9), Err(CommandError::NotWithin { min: 6, max: 9 }));
        assert_eq!(args.int_within(3, 6..=9), Err(CommandError::NotInteger));
        assert_eq!(args.int_within_or(3, 0..=9, CommandError::NoSuchKey), Err(CommandError::NoSuchKey));
        assert_eq!((args.float(4), args.float(3)), (Ok(2.5), Err(CommandError::NotFloat)));
        assert!(args.is(5, "NX") && !args.is(5, "N") && !args.is(6, "NX"));
    }

    #[test]
    fn cursors() {
        for (text, cursor) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-", None),
            ("+", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("1\0a", Some(1)),
            ("\0", Some(0)),
            ("a", None),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()).ok(), cursor, "{text:?}");
        }
    }

    #[test]
    fn options_are_scanned_in_any_case() {
        let owned: ArgsBuf = ["SET", "k", "v", "ex", "10", "Get", "px"].into_iter().collect();
        let mut options = Options::new(owned.as_args(), 3);
        assert!(is_token(options.next().unwrap(), "EX"));
        assert_eq!(options.int(), Ok(10));
        assert!(!options.take("NX") && options.take("GET"));
        assert_eq!((options.index(), options.rest().len()), (6, 1));
        assert!(is_token(options.next().unwrap(), "PX"));
        assert_eq!(options.float(), Err(CommandError::Syntax));
        assert_eq!(options.next(), None);
    }
}
