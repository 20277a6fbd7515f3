//! Numbers as arguments spell them: one grammar for arguments, values and files.

pub use resp::number::{parse_f64, parse_i64};

#[cfg(test)]
mod tests {
    use super::*;

    /// `strtod`, with the refusals of Redis: blanks, NaN, and what leaves the range at either end.
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
            ("0x1A", 26.0),
            ("-0x1.8p1", -3.0),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
        ] {
            assert_eq!(parse_f64(text.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{text:?}");
        }
        for text in
            ["", " 1", "1 ", "nan", "-NaN", "1e400", "-1e400", "1e-400", "1x", "e5", ".", "1,5", "--1", "0x"]
        {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_f64(b"\xff"), None);
    }
}
