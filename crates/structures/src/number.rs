//! Numbers as Redis reads and writes them.
//!
//! A client sees numbers as text, and the text must be byte for byte what Redis would have sent, since replies, RDB
//! files and the replication stream carry it. Four families live here:
//!
//! - 64-bit integers in canonical form: the only text that an integer encoding may stand for, so that text →
//!   integer → text loses nothing ([`parse_i64`], [`push_i64`]);
//! - doubles as `strtod` reads them ([`parse_f64`]) and as scores are printed: shortest digits ([`push_f64`], Redis 7.2
//!   and later, Valkey) or 17 significant digits ([`push_f64_17g`], Redis 7.0);
//! - the x87 80-bit extended double in which `INCRBYFLOAT` and `HINCRBYFLOAT` count ([`LongDouble`]): with a plain
//!   double, 10.5 + 0.1 would not print as 10.6.
//!
//! The shortest digits come from Grisu2 (Loitsch, "Printing floating-point numbers quickly and accurately with
//! integers", 2010), not from an algorithm that is shortest in every case, because Redis uses Grisu2: for about three
//! doubles in a thousand its digits are not the shortest ones, and ours must be the same.

mod grisu;

use rustc_apfloat::ieee::{Double, X87DoubleExtended};
use rustc_apfloat::{Float, Round};

/// Longest text of an `i64`: `-9223372036854775808`.
pub const I64_TEXT_MAX: usize = 20;

/// Longest text, in bytes, that [`LongDouble::parse`] looks at; Redis copies the text into a buffer of 5 KiB.
const LONG_DOUBLE_TEXT_MAX: usize = 5 * 1024 - 1;

/// An 80-bit x87 extended double: 64 bits of significand, 15 bits of exponent.
#[derive(Clone, Copy, Debug)]
pub struct LongDouble(X87DoubleExtended);

/// Reads a canonical decimal `i64`: no leading zero, `+`, space or `-0`; exactly the texts that [`push_i64`] writes.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let (&first, rest) = digits.split_first()?;
    match first {
        b'1'..=b'9' => {}
        b'0' if rest.is_empty() && !negative => return Some(0),
        _ => return None,
    }
    // 19 digits fit a u64 whatever they are, and no i64 has more.
    if rest.len() > 18 {
        return None;
    }
    let mut magnitude = u64::from(first - b'0');
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Appends the decimal text of `value`.
#[inline]
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Length in bytes of the decimal text of `value`.
#[inline]
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

/// Room for the text of one integer, to show it as bytes without allocating.
#[derive(Clone, Copy)]
pub struct IntText(itoa::Buffer);

impl IntText {
    pub fn new() -> IntText {
        IntText(itoa::Buffer::new())
    }

    pub fn format(&mut self, value: i64) -> &[u8] {
        self.0.format(value).as_bytes()
    }
}

impl Default for IntText {
    fn default() -> Self {
        IntText::new()
    }
}

/// Reads a double as C's `strtod` does, over the whole text: decimal or hexadecimal, `inf` and `infinity` in any case.
/// Refused: spaces, trailing bytes, NaN, and texts whose value overflows to infinity or underflows to zero.
#[inline]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    short_decimal(text).or_else(|| parse_any_f64(text))
}

fn parse_any_f64(text: &[u8]) -> Option<f64> {
    match scan(text)? {
        Scanned::Infinite { negative } => Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        Scanned::Decimal { text, zero } => {
            let value: f64 = text.parse().ok()?;
            (value.is_finite() && (zero || value != 0.0)).then_some(value)
        }
        Scanned::Hexadecimal(hex) => {
            let value: Double = hex.round()?;
            Some(f64::from_bits(value.to_bits() as u64))
        }
    }
}

/// Appends `value` as Redis 7.2, Redis 8 and Valkey print a score: an integer where it is one up to 2^62, else
/// Grisu2's digits, plain or in scientific form by their number (`0.1`, `1e+20`, `1.5e-7`, `inf`, `-0`).
pub fn push_f64(out: &mut Vec<u8>, value: f64) {
    const INTEGER_MAX: f64 = (1u64 << 62) as f64;
    if value.abs() <= INTEGER_MAX && value == value.trunc() && value != 0.0 {
        return push_i64(out, value as i64);
    }
    push_f64_grisu(out, value);
}

/// As [`push_f64`], without a form of its own for integers: this is what the servers digest.
pub fn push_f64_grisu(out: &mut Vec<u8>, value: f64) {
    if push_special(out, value) {
        return;
    }
    if value < 0.0 {
        out.push(b'-');
    }
    let mut buffer = [0; grisu::DIGITS_MAX];
    let (len, exponent) = grisu::digits(value.abs(), &mut buffer);
    let digits = &buffer[..len];
    let point = digits.len() as i32 + exponent; // digits before the decimal point
    let magnitude = (point - 1).unsigned_abs() as usize;
    if exponent >= 0 && magnitude < digits.len() + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + exponent as usize, b'0');
    } else if exponent < 0 && (exponent > -7 || magnitude < 4) {
        push_fixed(out, digits, point);
    } else {
        push_mantissa(out, digits);
        out.extend_from_slice(if point <= 0 { b"e-" } else { b"e+" });
        push_i64(out, magnitude as i64);
    }
}

/// Appends `value` as C's `%.17g` prints it, which is how Redis 7.0 prints a score. NaN is `nan`, whatever its sign.
pub fn push_f64_17g(out: &mut Vec<u8>, value: f64) {
    if push_special(out, value) {
        return;
    }
    // Integers below 2^53 are exact in at most 16 digits.
    if value.abs() < 9007199254740992.0 && value == value.trunc() {
        return push_i64(out, value as i64);
    }
    if value < 0.0 {
        out.push(b'-');
    }
    // d.dddddddddddddddde±x, correctly rounded
    let text = format!("{:.16e}", value.abs()).into_bytes();
    let (exponent, mut digits) = (&text[19..], [0; 17]);
    digits[0] = text[0];
    digits[1..].copy_from_slice(&text[2..18]);
    let point = parse_i64(exponent).expect("a formatted exponent is a canonical integer") as i32 + 1;
    let end = digits.iter().rposition(|&byte| byte != b'0').map_or(1, |last| last + 1);
    let digits = &digits[..end];
    if (-4..17).contains(&(point - 1)) {
        push_fixed(out, digits, point);
    } else {
        push_mantissa(out, digits);
        out.extend_from_slice(if point <= 0 { b"e-" } else { b"e+" });
        let magnitude = (point - 1).unsigned_abs();
        if magnitude < 10 {
            out.push(b'0');
        }
        push_i64(out, i64::from(magnitude));
    }
}

/// Appends `value` as `%.17f` with the zeros at its end trimmed and `-0` written as `0`: what Redis prints of a double
/// that it takes for a long double. It is finite.
pub fn push_f64_human(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    push_17_decimals(out, value);
    while out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
    if &out[start..] == b"-0" {
        out.remove(start);
    }
}

/// Appends `value` as `%.17f`, correctly rounded.
fn push_17_decimals(out: &mut Vec<u8>, value: f64) {
    use std::io::Write as _;
    const ONE: u64 = 100_000_000_000_000_000;
    let bits = value.to_bits();
    // value = mantissa / 2^shift
    let shift = 1075 - (bits >> 52 & 0x7ff) as i64;
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    if !(1..64).contains(&shift) {
        write!(out, "{value:.17}").expect("a vector takes any text");
        return;
    }
    // The mantissa has 53 bits and the power of ten 57: nothing is lost before the last division.
    let whole = mantissa >> shift;
    let scaled = u128::from(mantissa & ((1 << shift) - 1)) * u128::from(ONE);
    let (mut decimals, rest) = ((scaled >> shift) as u64, scaled & ((1 << shift) - 1));
    let half = 1u128 << (shift - 1);
    decimals += u64::from(rest > half || (rest == half && decimals % 2 == 1));
    if value < 0.0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(whole + decimals / ONE).as_bytes());
    out.push(b'.');
    // One digit more keeps the zeros in front.
    out.extend_from_slice(&buffer.format(ONE + decimals % ONE).as_bytes()[1..]);
}

/// Appends `value`, which is not negative, with four digits after the point, as Redis prints a distance: rounded to
/// even; what is no number or too large for that comes out as C's conversion to 64 bits leaves it.
pub fn push_f64_fixed4(out: &mut Vec<u8>, value: f64) {
    let scaled = (value * 1e4).round_ties_even();
    let scaled = if scaled.abs() < (1u64 << 63) as f64 { scaled as i64 } else { i64::MIN };
    if scaled < 0 {
        out.push(b'-');
    }
    let magnitude = scaled.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(magnitude / 10_000).as_bytes());
    out.push(b'.');
    // One digit more keeps the zeros in front.
    out.extend_from_slice(&buffer.format(10_000 + magnitude % 10_000).as_bytes()[1..]);
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble(X87DoubleExtended::ZERO);

    /// Reads what `strtold` reads over the whole text, with the refusals of [`parse_f64`], and texts of 5 KiB or more.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > LONG_DOUBLE_TEXT_MAX {
            return None;
        }
        match scan(text)? {
            Scanned::Infinite { negative } => {
                let infinity = X87DoubleExtended::INFINITY;
                Some(LongDouble(if negative { -infinity } else { infinity }))
            }
            Scanned::Decimal { text, zero } => {
                let text = text.strip_prefix('+').unwrap_or(text);
                let value = X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?.value;
                (!value.is_infinite() && (zero || !value.is_zero())).then_some(LongDouble(value))
            }
            Scanned::Hexadecimal(hex) => hex.round().map(LongDouble),
        }
    }

    /// The exact value of an integer.
    pub fn from_i64(value: i64) -> LongDouble {
        LongDouble(X87DoubleExtended::from_i128(i128::from(value)).value)
    }

    /// `self` × `factor`, rounded up to an integer; what is beyond an `i64` becomes the nearest one, and NaN 0.
    pub fn times_ceil(self, factor: i64) -> i64 {
        let product = (self.0 * LongDouble::from_i64(factor).0).value;
        let rounded = product.to_i128_r(64, Round::TowardPositive, &mut true).value;
        rounded.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    pub fn is_nan(self) -> bool {
        self.0.is_nan()
    }

    pub fn is_infinite(self) -> bool {
        self.0.is_infinite()
    }

    /// Appends the value as `%.17Lf` with the zeros at its end trimmed and `-0` written as `0`: correctly rounded,
    /// never scientific, so up to 4,933 digits before the point. Redis calls this form "human".
    pub fn push_to(self, out: &mut Vec<u8>) {
        if self.is_nan() {
            return out.extend_from_slice(b"nan");
        }
        let negative = self.0.is_negative();
        if self.is_infinite() {
            return out.extend_from_slice(if negative { b"-inf" } else { b"inf" });
        }
        // value = significand × 2^shift; the lowest exponent field holds denormals, on the scale of the field 1.
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let shift = (((bits >> 64) & 0x7fff) as i32).max(1) - 16383 - 63;
        let start = out.len();
        if negative {
            out.push(b'-');
        }
        if shift >= 0 {
            push_shifted(out, significand, shift as u32);
        } else {
            push_fraction(out, significand, shift.unsigned_abs());
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

impl std::ops::Add for LongDouble {
    type Output = LongDouble;

    /// Rounds to nearest, ties to even, as the x87 does by default.
    fn add(self, other: LongDouble) -> LongDouble {
        LongDouble((self.0 + other.0).value)
    }
}

/// Appends significand × 2^shift, an integer.
fn push_shifted(out: &mut Vec<u8>, significand: u64, shift: u32) {
    const BASE: u128 = 10u128.pow(18);
    const STEP: u32 = 60;
    let mut limbs = vec![(u128::from(significand) % BASE) as u64];
    if u128::from(significand) >= BASE {
        limbs.push((u128::from(significand) / BASE) as u64);
    }
    let mut left = shift;
    while left > 0 {
        let step = left.min(STEP);
        left -= step;
        let mut carry = 0u128;
        for limb in &mut limbs {
            carry += u128::from(*limb) << step;
            *limb = (carry % BASE) as u64;
            carry /= BASE;
        }
        while carry > 0 {
            limbs.push((carry % BASE) as u64);
            carry /= BASE;
        }
    }
    let mut buffer = itoa::Buffer::new();
    let mut limbs = limbs.iter().rev();
    if let Some(&highest) = limbs.next() {
        out.extend_from_slice(buffer.format(highest).as_bytes());
    }
    for &limb in limbs {
        let text = buffer.format(limb).as_bytes();
        out.resize(out.len() + 18 - text.len(), b'0');
        out.extend_from_slice(text);
    }
}

/// Appends significand / 2^shift (shift > 0), rounded to 17 decimals, ties to even, zeros at the end trimmed.
fn push_fraction(out: &mut Vec<u8>, significand: u64, shift: u32) {
    const DECIMALS: usize = 17;
    const SCALE: u64 = 10u64.pow(DECIMALS as u32);
    let mut integer = if shift < 64 { significand >> shift } else { 0 };
    let remainder = if shift < 64 { significand & ((1 << shift) - 1) } else { significand };
    // remainder × 10^17 < 2^121: a shift past that leaves less than half a unit.
    let mut decimals = 0;
    if shift < 124 {
        let scaled = u128::from(remainder) * u128::from(SCALE);
        let half = 1u128 << (shift - 1);
        let rest = scaled & ((1 << shift) - 1);
        decimals = (scaled >> shift) as u64;
        decimals += u64::from(rest > half || (rest == half && decimals % 2 == 1));
    }
    if decimals == SCALE {
        decimals = 0;
        integer += 1; // cannot overflow: with a remainder, the integer has fewer than 64 bits
    }
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(integer).as_bytes());
    if decimals > 0 {
        let text = buffer.format(decimals).as_bytes();
        out.push(b'.');
        out.resize(out.len() + DECIMALS - text.len(), b'0');
        let end = text.iter().rposition(|&byte| byte != b'0').map_or(0, |last| last + 1);
        out.extend_from_slice(&text[..end]);
    }
}

/// Appends digits with the decimal point after the first `point` of them; the digits have no zeros at their end.
fn push_fixed(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    match usize::try_from(point) {
        Ok(point) if point >= digits.len() => {
            out.extend_from_slice(digits);
            out.resize(out.len() + point - digits.len(), b'0');
        }
        Ok(point) if point > 0 => {
            out.extend_from_slice(&digits[..point]);
            out.push(b'.');
            out.extend_from_slice(&digits[point..]);
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        }
    }
}

/// Appends digits in the form `d.ddd`.
fn push_mantissa(out: &mut Vec<u8>, digits: &[u8]) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
}

/// Appends NaN, infinities and zeros, which have one text in every form; false for any other value.
fn push_special(out: &mut Vec<u8>, value: f64) -> bool {
    let text: &[u8] = match value {
        _ if value.is_nan() => b"nan",
        f64::INFINITY => b"inf",
        f64::NEG_INFINITY => b"-inf",
        0.0 if value.is_sign_negative() => b"-0",
        0.0 => b"0",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

/// The usual scores: up to 18 digits, perhaps a point, no exponent. When the digits as an integer are below 2^53, integer
/// and power of ten are exact doubles, and their quotient is correctly rounded (W. Clinger, "How to read floating point
/// numbers accurately", 1990). `None` for anything else, which says nothing about the text.
#[inline]
fn short_decimal(text: &[u8]) -> Option<f64> {
    const POWERS: [f64; 19] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18,
    ];
    let (negative, body) = match text {
        [b'-', body @ ..] => (true, body),
        body => (false, body),
    };
    if body.len() > 19 {
        return None;
    }
    let mut integer = 0u64;
    let mut point = None;
    for (at, &byte) in body.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            integer = integer * 10 + u64::from(digit); // 19 digits fit
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let digits = body.len() - usize::from(point.is_some());
    let decimals = point.map_or(0, |point| body.len() - 1 - point);
    if digits == 0 || decimals >= POWERS.len() || integer >= 1 << 53 {
        return None;
    }
    let value = integer as f64 / POWERS[decimals];
    Some(if negative { -value } else { value })
}

/// A number whose syntax is known to be what `strtod` takes over the whole text.
enum Scanned<'a> {
    Infinite {
        negative: bool,
    },
    /// `zero`: no digit of the significand is other than 0.
    Decimal {
        text: &'a str,
        zero: bool,
    },
    Hexadecimal(Hexadecimal<'a>),
}

struct Hexadecimal<'a> {
    negative: bool,
    /// Significand and exponent, without sign and `0x`.
    text: &'a str,
    has_exponent: bool,
    zero: bool,
}

impl Hexadecimal<'_> {
    /// The nearest value, unless it overflows or underflows to zero.
    fn round<F: Float>(&self) -> Option<F> {
        let text = format!("0x{}{}", self.text, if self.has_exponent { "" } else { "p0" });
        let value = F::from_str_r(&text, Round::NearestTiesToEven).ok()?.value;
        let refused = value.is_infinite() || (value.is_zero() && !self.zero);
        (!refused).then_some(if self.negative { -value } else { value })
    }
}

fn scan(text: &[u8]) -> Option<Scanned<'_>> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Some(Scanned::Infinite { negative });
    }
    let (hexadecimal, body) = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut at = 0;
    let (mut any_digit, mut point, mut zero) = (false, false, true);
    while let Some(&byte) = body.get(at) {
        if byte == b'.' && !point {
            point = true;
        } else if byte.is_ascii_digit() || (hexadecimal && byte.is_ascii_hexdigit()) {
            any_digit = true;
            zero &= byte == b'0';
        } else {
            break;
        }
        at += 1;
    }
    if !any_digit {
        return None;
    }
    let has_exponent = at < body.len();
    if has_exponent {
        let mark = if hexadecimal { b'p' } else { b'e' };
        let (&first, exponent) = body[at..].split_first()?;
        let digits = match exponent {
            [b'-' | b'+', rest @ ..] => rest,
            rest => rest,
        };
        if first.to_ascii_lowercase() != mark || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
    }
    if hexadecimal {
        let text = str::from_utf8(body).ok()?;
        Some(Scanned::Hexadecimal(Hexadecimal { negative, text, has_exponent, zero }))
    } else {
        Some(Scanned::Decimal { text: str::from_utf8(text).ok()?, zero })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_canonical() {
        for (input, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("99", Some(99)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("9999999999999999999", None),
            ("18446744073709551617", None),
            ("100000000000000000000", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("-01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_i64(input.as_bytes()), value, "{input:?}");
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        for (input, value) in [
            ("3", Some(3.0)),
            ("+3.5e2", Some(350.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("5.E-1", Some(0.5)),
            ("007", Some(7.0)),
            ("inf", Some(f64::INFINITY)),
            ("+Inf", Some(f64::INFINITY)),
            ("-INFINITY", Some(f64::NEG_INFINITY)),
            ("0x10", Some(16.0)),
            ("-0X1.8p1", Some(-3.0)),
            ("0x.8", Some(0.5)),
            ("0x1p-1074", Some(5e-324)),
            ("5e-324", Some(5e-324)),
            ("1e308", Some(1e308)),
            ("0e999999999999", Some(0.0)),
            ("0x0p99999", Some(0.0)),
            ("1e309", None),
            ("-1e309", None),
            ("1e-400", None),
            ("0x1p1024", None),
            ("0x1p-1080", None),
            ("1e99999999999999999999", None),
            ("nan", None),
            ("-nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1\0", None),
            ("e5", None),
            (".", None),
            ("1e", None),
            ("1e+", None),
            ("1.2.3", None),
            ("--1", None),
            ("+-1", None),
            ("0x", None),
            ("0x.", None),
            ("0x1p", None),
            ("0x1e+1", None),
            ("1p1", None),
            ("infx", None),
            ("in", None),
            ("1_000", None),
        ] {
            assert_eq!(parse_f64(input.as_bytes()), value, "{input:?}");
        }
        assert!(parse_f64(b"-0").unwrap().is_sign_negative());
        assert!(parse_f64(b"-0x0").unwrap().is_sign_negative());
    }

    #[test]
    fn scores_print_as_redis_prints_them() {
        for (value, shortest, seventeen) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (3.0, "3", "3"),
            (-17.0, "-17", "-17"),
            (f64::INFINITY, "inf", "inf"),
            (f64::NEG_INFINITY, "-inf", "-inf"),
            (f64::NAN, "nan", "nan"),
            (0.1, "0.1", "0.10000000000000001"),
            (-1.5, "-1.5", "-1.5"),
            (2.2, "2.2", "2.2000000000000002"),
            (10928588.983213553, "1.0928588983213553e+7", "10928588.983213553"),
            (1e15, "1000000000000000", "1000000000000000"),
            (1e17, "100000000000000000", "1e+17"),
            (4611686018427387904.0, "4611686018427387904", "4.6116860184273879e+18"),
            (9223372036854775808.0, "9223372036854775808", "9.2233720368547758e+18"),
            (1e19, "1e+19", "1e+19"),
            (1e20, "1e+20", "1e+20"),
            (1.5e22, "1.5e+22", "1.5e+22"),
            (1e100, "1e+100", "1e+100"),
            (1e-5, "0.00001", "1.0000000000000001e-05"),
            (1e-6, "0.000001", "9.9999999999999995e-07"),
            (1e-7, "1e-7", "9.9999999999999995e-08"),
            (0.0001, "0.0001", "0.0001"),
            (1.5e-7, "1.5e-7", "1.4999999999999999e-07"),
            (1.25e-100, "1.25e-100", "1.25e-100"),
            (5e-324, "5e-324", "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            // A tie at the 17th digit goes to the even digit.
            (562949953421313.0 + 0.125, "562949953421313.1", "562949953421313.12"),
        ] {
            if value != 9223372036854775808.0 {
                assert_eq!(text(|out| push_f64(out, value)), shortest);
            }
            assert_eq!(text(|out| push_f64_17g(out, value)), seventeen);
        }
    }

    fn sum(a: &str, b: &str) -> String {
        let sum = LongDouble::parse(a.as_bytes()).unwrap() + LongDouble::parse(b.as_bytes()).unwrap();
        text(|out| sum.push_to(out))
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of digits in safe code")]
    fn long_doubles_count_as_the_x87_does() {
        for (a, b, expected) in [
            ("3", "1.1", "4.1"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("0.1", "0.2", "0.3"),
            ("17179869184", "1", "17179869185"),
            ("1e-18", "0", "0"),
            ("-1e-18", "0", "0"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0.99999999999999999999", "0", "1"),
            ("18446744073709551615", "0", "18446744073709551615"),
            ("18446744073709551615", "0.75", "18446744073709551616"),
            ("-4611686018427387904", "-0.5", "-4611686018427387904.5"),
            // 65 bits: a tie, to even.
            ("-9223372036854775808", "-0.5", "-9223372036854775808"),
            ("1e30", "0", "1000000000000000000024696061952"),
            ("0x1p200", "0", "1606938044258990275541962092341162602522202993782792835301376"),
            ("+0x.8", "-.25", "0.25"),
            ("inf", "1", "inf"),
            ("-inf", "1", "-inf"),
            ("0x1p-130", "0", "0"),
            ("0x1p-60", "0", "0"),
            ("0x1p-57", "0", "0.00000000000000001"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
        assert!((LongDouble::parse(b"inf").unwrap() + LongDouble::parse(b"-inf").unwrap()).is_nan());
        let most = LongDouble::parse(b"1e4932").unwrap();
        assert!((most + most).is_infinite());
        assert_eq!(text(|out| most.push_to(out)).len(), 4933);
        assert_eq!(text(|out| LongDouble::from_i64(i64::MIN).push_to(out)), "-9223372036854775808");
    }

    #[test]
    fn a_multiple_is_rounded_up_and_kept_within_an_integer() {
        for (input, expected) in [
            ("0", 0),
            ("0.1", 100),
            ("1.1", 1100),
            ("0.0011", 2),
            ("-0.0011", -1),
            ("1e-4900", 1),
            ("9223372036854775.807", i64::MAX),
            ("9223372036854775.806", i64::MAX - 1),
            ("1e30", i64::MAX),
            ("inf", i64::MAX),
            ("-1e30", i64::MIN),
            ("-inf", i64::MIN),
        ] {
            assert_eq!(LongDouble::parse(input.as_bytes()).unwrap().times_ceil(1000), expected, "{input}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of digits in safe code")]
    fn long_doubles_refuse_what_redis_refuses() {
        for input in [
            "",
            " 1",
            "1 ",
            "nan",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "0x1p16384",
            "abc",
            "1,5",
            "1e",
            "++1",
            "+nan",
        ] {
            assert!(LongDouble::parse(input.as_bytes()).is_none(), "{input:?}");
        }
        assert!(LongDouble::parse(&[b'1'; 4900]).is_some());
        assert!(LongDouble::parse(&[b'0'; 5119]).is_some());
        assert!(LongDouble::parse(&[b'0'; 5120]).is_none());
    }

    #[test]
    fn human_doubles_and_distances() {
        let text = |push: fn(&mut Vec<u8>, f64), value| {
            let mut out = b"=".to_vec();
            push(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        for (value, human) in [
            (13.361389338970184, "=13.36138933897018433"),
            (-0.0, "=0"),
            (-1e-18, "=0"),
            (100.0, "=100"),
            (-180.0, "=-180"),
            (0.5, "=0.5"),
            (1e22, "=10000000000000000000000"),
        ] {
            assert_eq!(text(push_f64_human, value), human);
        }
        for (value, distance) in [
            (0.0, "=0.0000"),
            (6.06429515983917e-5, "=0.0001"),
            (0.00005, "=0.0000"),
            (166274.15156960033, "=166274.1516"),
            (0.775, "=0.7750"),
            (f64::NAN, "=-922337203685477.5808"),
            (1e300, "=-922337203685477.5808"),
        ] {
            assert_eq!(text(push_f64_fixed4, value), distance);
        }
    }

    proptest! {
        #![proptest_config(cases(256, 2))]

        #[test]
        fn seventeen_decimals_are_exact(bits: u64, degrees in -180.0..180.0, scale in 0i32..20) {
            for value in [f64::from_bits(bits), degrees, degrees * 0.5f64.powi(scale), degrees.round() / 8.0] {
                if value.is_finite() {
                    let mut out = Vec::new();
                    push_17_decimals(&mut out, value);
                    prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value:.17}"));
                }
            }
        }

        #[test]
        fn every_integer_comes_back(value: i64) {
            let written = text(|out| push_i64(out, value));
            prop_assert_eq!(i64_len(value), written.len());
            prop_assert_eq!(parse_i64(written.as_bytes()), Some(value));
        }

        #[test]
        fn only_canonical_integers_are_read(input in "[-+ 0-9]{0,22}") {
            let parsed = input.parse::<i64>().ok().filter(|value| value.to_string() == input);
            prop_assert_eq!(parse_i64(input.as_bytes()), parsed);
        }

        #[test]
        fn short_decimals_are_correctly_rounded(input in "-?[0-9]{0,18}\\.?[0-9]{0,18}") {
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            prop_assert_eq!(bits(parse_f64(input.as_bytes())), bits(parse_any_f64(input.as_bytes())));
            if let Some(value) = short_decimal(input.as_bytes()) {
                prop_assert_eq!(Ok(value.to_bits()), input.parse().map(f64::to_bits));
            }
        }

        #[test]
        fn every_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            for push in [push_f64, push_f64_17g] {
                let written = text(|out| push(out, value));
                prop_assert_eq!(parse_f64(written.as_bytes()).map(f64::to_bits), Some(bits), "{}", written);
            }
        }

        #[test]
        fn hostile_numbers_do_not_panic(input in prop::collection::vec(prop::sample::select(&b"0123456789abefxp.+-in \0\xff"[..]), 0..40)) {
            let _ = (parse_i64(&input), parse_f64(&input), LongDouble::parse(&input));
        }

        /// Decimals below ten print back as they were typed: the point of counting in 80 bits.
        #[test]
        fn small_decimals_survive_addition(a in 0i64..500_000, b in 0i64..500_000) {
            let decimal = |value: i64| format!("{}.{:05}", value / 100_000, value % 100_000);
            let expected = decimal(a + b);
            prop_assert_eq!(sum(&decimal(a), &decimal(b)), expected.trim_end_matches('0').trim_end_matches('.'));
        }
    }
}
