//! Numbers as arguments spell them.

pub use resp::number::parse_i64;

/// The value of a decimal float: sign, digits with an optional point, exponent; `inf` and `infinity` in any case.
///
/// `None` for blanks, NaN, and for what leaves the range of `f64` at either end.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let spelled_infinite = text.bytes().any(|byte| matches!(byte, b'i' | b'I'));
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let underflow = value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let overflow = value.is_infinite() && !spelled_infinite;
    (!value.is_nan() && !underflow && !overflow).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        for (text, value) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("3.5", 3.5),
            ("+3.5", 3.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("0e5", 0.0),
            ("0.00e-999", 0.0),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
        ] {
            assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{text:?}");
        }
        for text in
            ["", " 1", "1 ", "nan", "-NaN", "1e400", "-1e400", "1e-400", "1x", "e5", ".", "1,5", "--1"]
        {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_f64(b"\xff"), None);
    }
}
