//! The client's side: replies from bytes to owned values. For links to a primary, tools and tests; not for speed.

use std::fmt;

use memchr::memmem;

use crate::number::parse_i64;

/// Aggregates within aggregates, at most.
const DEPTH_MAX: usize = 64;
/// Bytes of a line without payload, at most.
const LINE_MAX: usize = 64 * 1024;

/// A reply in RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(String),
    /// Text with its code, `ERR syntax error`; a blob error too.
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1` and `_`.
    Null,
    /// `*-1`.
    NullArray,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(f64),
    Bool(bool),
    BigNumber(String),
    Verbatim {
        format: [u8; 3],
        text: Vec<u8>,
    },
    Attributed {
        attributes: Vec<(Value, Value)>,
        value: Box<Value>,
    },
}

impl Value {
    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The bytes of a bulk, a simple or a verbatim string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(bytes) | Value::Verbatim { text: bytes, .. } => Some(bytes),
            Value::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }
}

/// The bytes are not a reply. The connection cannot be used further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError(&'static str);

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed reply: {}", self.0)
    }
}

impl std::error::Error for ReplyError {}

/// The reply at the start of `buf` and its length in bytes, or `None` when it is not complete.
///
/// Starts over at each call. Text that is not UTF-8 in a simple string or an error is replaced.
pub fn parse_reply(buf: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut cursor = Cursor { buf, at: 0 };
    Ok(cursor.value(0)?.map(|value| (value, cursor.at)))
}

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

/// Leaves the function with `Ok(None)` when more bytes are needed.
macro_rules! complete {
    ($part:expr) => {
        match $part {
            Some(part) => part,
            None => return Ok(None),
        }
    };
}

impl<'a> Cursor<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>, ReplyError> {
        if depth > DEPTH_MAX {
            return Err(ReplyError("nested too deeply"));
        }
        let line = complete!(self.line()?);
        let Some((kind, rest)) = line.split_first() else { return Err(ReplyError("empty line")) };
        let text = || String::from_utf8_lossy(rest).into_owned();
        let value = match kind {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(integer(rest)?),
            b'_' => Value::Null,
            b'#' if rest == b"t" => Value::Bool(true),
            b'#' if rest == b"f" => Value::Bool(false),
            b'(' => Value::BigNumber(text()),
            b',' => {
                let double = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok());
                Value::Double(double.ok_or(ReplyError("invalid double"))?)
            }
            b'$' if rest == b"-1" => Value::Null,
            b'*' if rest == b"-1" => Value::NullArray,
            b'$' => Value::Bulk(complete!(self.payload(rest)?).to_vec()),
            b'!' => Value::Error(String::from_utf8_lossy(complete!(self.payload(rest)?)).into_owned()),
            b'=' => match complete!(self.payload(rest)?) {
                [a, b, c, b':', text @ ..] => Value::Verbatim { format: [*a, *b, *c], text: text.to_vec() },
                _ => return Err(ReplyError("verbatim string without a format")),
            },
            b'*' => Value::Array(complete!(self.items(rest, depth)?)),
            b'~' => Value::Set(complete!(self.items(rest, depth)?)),
            b'>' => Value::Push(complete!(self.items(rest, depth)?)),
            b'%' => Value::Map(complete!(self.pairs(rest, depth)?)),
            b'|' => {
                let attributes = complete!(self.pairs(rest, depth)?);
                Value::Attributed { attributes, value: Box::new(complete!(self.value(depth + 1)?)) }
            }
            _ => return Err(ReplyError("unknown type byte")),
        };
        Ok(Some(value))
    }

    /// The next line without its CRLF.
    fn line(&mut self) -> Result<Option<&'a [u8]>, ReplyError> {
        let rest = &self.buf[self.at..];
        match memmem::find(&rest[..rest.len().min(LINE_MAX)], b"\r\n") {
            Some(len) => {
                self.at += len + 2;
                Ok(Some(&rest[..len]))
            }
            None if rest.len() >= LINE_MAX => Err(ReplyError("line too long")),
            None => Ok(None),
        }
    }

    fn payload(&mut self, len: &[u8]) -> Result<Option<&'a [u8]>, ReplyError> {
        let len = length(len)?;
        let rest = &self.buf[self.at..];
        if rest.len().checked_sub(2).is_none_or(|payload_max| payload_max < len) {
            return Ok(None);
        }
        if &rest[len..len + 2] != b"\r\n" {
            return Err(ReplyError("payload without its CRLF"));
        }
        self.at += len + 2;
        Ok(Some(&rest[..len]))
    }

    fn items(&mut self, count: &[u8], depth: usize) -> Result<Option<Vec<Value>>, ReplyError> {
        let mut items = vec![]; // grows with what really arrives, not with what is claimed
        for _ in 0..length(count)? {
            items.push(complete!(self.value(depth + 1)?));
        }
        Ok(Some(items))
    }

    fn pairs(&mut self, count: &[u8], depth: usize) -> Result<Option<Vec<(Value, Value)>>, ReplyError> {
        let mut pairs = vec![];
        for _ in 0..length(count)? {
            pairs.push((complete!(self.value(depth + 1)?), complete!(self.value(depth + 1)?)));
        }
        Ok(Some(pairs))
    }
}

fn integer(text: &[u8]) -> Result<i64, ReplyError> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    parse_i64(digits).ok_or(ReplyError("invalid integer"))
}

fn length(text: &[u8]) -> Result<usize, ReplyError> {
    usize::try_from(integer(text)?).map_err(|_| ReplyError("negative length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Output, Proto, Reply};
    use proptest::prelude::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn every_type() {
        let cases = [
            ("+OK\r\n", Value::Simple("OK".into())),
            ("-ERR x\r\n", Value::Error("ERR x".into())),
            ("!5\r\nERR x\r\n", Value::Error("ERR x".into())),
            (":-5\r\n", Value::Int(-5)),
            (":+5\r\n", Value::Int(5)),
            ("$3\r\na\r\n\r\n", bulk("a\r\n")),
            ("$-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            ("*-1\r\n", Value::NullArray),
            ("*0\r\n", Value::Array(vec![])),
            (
                "*2\r\n:1\r\n*1\r\n+x\r\n",
                Value::Array(vec![Value::Int(1), Value::Array(vec![Value::Simple("x".into())])]),
            ),
            ("%1\r\n+a\r\n:1\r\n", Value::Map(vec![(Value::Simple("a".into()), Value::Int(1))])),
            ("~1\r\n:1\r\n", Value::Set(vec![Value::Int(1)])),
            (">1\r\n:1\r\n", Value::Push(vec![Value::Int(1)])),
            (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            (",1.5e3\r\n", Value::Double(1500.0)),
            ("#t\r\n", Value::Bool(true)),
            (
                "(123456789012345678901234567890\r\n",
                Value::BigNumber("123456789012345678901234567890".into()),
            ),
            ("=6\r\ntxt:hi\r\n", Value::Verbatim { format: *b"txt", text: b"hi".to_vec() }),
            (
                "|1\r\n+k\r\n:1\r\n:2\r\n",
                Value::Attributed {
                    attributes: vec![(Value::Simple("k".into()), Value::Int(1))],
                    value: Box::new(Value::Int(2)),
                },
            ),
        ];
        for (text, value) in cases {
            let bytes = text.as_bytes();
            let followed = [bytes, b"+next\r\n"].concat();
            assert_eq!(parse_reply(&followed), Ok(Some((value, bytes.len()))), "{text:?}");
            for cut in 0..bytes.len() {
                assert_eq!(parse_reply(&bytes[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed() {
        let deep = "*1\r\n".repeat(DEPTH_MAX + 2);
        let long = format!("+{}", "x".repeat(LINE_MAX));
        for text in [
            "x\r\n",
            "\r\n",
            ":\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$1\r\nabc",
            "#x\r\n",
            ",x\r\n",
            "=2\r\nab\r\n",
            &deep,
            &long,
        ] {
            assert!(parse_reply(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(parse_reply(b"*9223372036854775807\r\n"), Ok(None));
        assert_eq!(parse_reply(b"$9223372036854775807\r\nabc"), Ok(None));
    }

    fn write(reply: &mut Reply<'_>, value: &Value) {
        match value {
            Value::Int(value) => reply.int(*value),
            Value::Bulk(bytes) => reply.bulk(bytes),
            Value::Null => reply.null(),
            Value::Bool(value) => reply.bool(*value),
            Value::Array(items) => {
                reply.array(items.len());
                items.iter().for_each(|item| write(reply, item));
            }
            Value::Map(pairs) => {
                let mark = reply.begin_deferred();
                pairs.iter().for_each(|(key, value)| {
                    write(reply, key);
                    write(reply, value);
                });
                reply.end_map(mark, pairs.len());
            }
            other => unreachable!("{other:?} is not generated"),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            any::<Vec<u8>>().prop_map(Value::Bulk),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..6).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_reply_writes_comes_back(value in value()) {
            let mut out = Output::new();
            write(&mut Reply::new(&mut out, Proto::Resp3), &value);
            prop_assert_eq!(parse_reply(&out.to_vec()), Ok(Some((value, out.pending_bytes()))));
        }

        #[test]
        fn hostile_bytes_never_panic(
            bytes in prop::collection::vec(prop::sample::select(b"*$+-:_#,(!=~>%|0123456789\r\ntf".to_vec()), 0..100),
        ) {
            let _ = parse_reply(&bytes);
        }
    }
}
