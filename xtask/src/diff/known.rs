//! Differences that are meant: each names the line of `docs/COMPAT.md` that explains it.

use super::compare::Check;
use super::wire::Value;

pub struct Known {
    /// A text that stands in `docs/COMPAT.md`.
    pub compat: &'static str,
    applies: fn(&Case<'_>) -> bool,
}

/// One command with both replies. Names and options are in lower case.
struct Case<'c> {
    /// The peer is redis 7.0.
    old: bool,
    valkey: bool,
    argv: &'c [String],
    kindred: &'c Value,
    peer: &'c Value,
}

impl Case<'_> {
    fn is(&self, words: &[&str]) -> bool {
        words.iter().zip(self.argv).filter(|(word, arg)| word == arg).count() == words.len()
    }

    fn peer_says(&self, error: &str) -> bool {
        says(self.peer, error)
    }

    fn kindred_says(&self, error: &str) -> bool {
        says(self.kindred, error)
    }

    fn has(&self, arg: impl Fn(&str) -> bool) -> bool {
        self.argv[1..].iter().any(|text| arg(text))
    }
}

/// What Redis 8.2 and Valkey 9.1 know of expiries of fields.
const FIELD_TIMES: &[&str] = &[
    "hexpire",
    "hpexpire",
    "hexpireat",
    "hpexpireat",
    "httl",
    "hpttl",
    "hexpiretime",
    "hpexpiretime",
    "hpersist",
    "hgetex",
    "hsetex",
    "hgetdel",
];

pub const KNOWN: &[Known] = &[
    Known {
        compat: "`SORT` of a small sorted set",
        applies: |case| {
            case.is(&["object", "encoding"])
                && case.kindred.text() == Some(b"listpack")
                && case.peer.text() == Some(b"skiplist")
        },
    },
    Known {
        compat: "`RESTORE … IDLETIME` beyond 187 days",
        applies: |case| {
            case.is(&["object", "idletime"])
                && case.kindred.int().is_some_and(|seconds| seconds >= 187 * 86_400)
                && case.peer.int().is_some()
        },
    },
    Known {
        compat: "`OBJECT ENCODING` of a small hash with field expiries",
        applies: |case| {
            let pair = (case.kindred.text().unwrap_or_default(), case.peer.text().unwrap_or_default());
            case.is(&["object", "encoding"])
                && (pair == (b"listpackex", b"hashtable")
                    || !case.valkey && pair == (b"listpack", b"listpackex"))
        },
    },
    Known {
        compat: "Where Valkey 9.1 differs (texts of errors",
        applies: |case| {
            case.valkey
                && FIELD_TIMES.contains(&case.argv[0].as_str())
                && case.kindred.is_error()
                && case.peer.is_error()
        },
    },
    Known {
        compat: "coordinates",
        applies: |case| {
            // What is not printed behind the 17th decimal is lost of numbers near 0.
            !case.old && case.argv[0].starts_with("geo") && near_numbers(case.kindred, case.peer, 1e-16)
        },
    },
    Known {
        compat: "| `XINFO` |",
        applies: |case| {
            let told_otherwise: &[&str] = match (case.old, case.valkey) {
                (true, _) => &["lag", "entries-read"],
                (_, true) => &["active-time", "inactive", "max-deleted-entry-id", "lag"],
                _ => &["active-time", "inactive", "max-deleted-entry-id"],
            };
            let [ours, theirs] = [case.kindred, case.peer].map(|reply| without(told_otherwise, reply));
            case.is(&["xinfo"]) && Check::Timed.same(&ours, &theirs)
        },
    },
    Known {
        compat: "`XREAD` and `XREADGROUP` with too few IDs",
        applies: |case| {
            !case.old && case.peer_says("ERR Unbalanced 'xread") && case.kindred_says("ERR Unbalanced")
        },
    },
    Known {
        compat: "`XAUTOCLAIM` with a count beyond the memory",
        applies: |case| case.valkey && case.is(&["xautoclaim"]) && case.peer_says("ERR Insufficient memory"),
    },
    Known {
        compat: "`GEOSEARCH` errors",
        applies: |case| {
            case.valkey && case.argv[0].starts_with("geo") && case.kindred.is_error() && case.peer.is_error()
        },
    },
    Known {
        compat: "`BITCOUNT` with a start and no end",
        applies: |case| case.valkey && case.is(&["bitcount"]) && case.kindred_says("ERR syntax error"),
    },
    Known {
        compat: "Where versions differ in the order in which they check arguments",
        applies: |case| {
            !case.old
                && matches!(case.argv[0].as_str(), "bitcount" | "bitpos")
                && (case.peer_says("ERR syntax error") || case.peer_says("ERR value is not an integer"))
        },
    },
    Known {
        compat: "`OBJECT ENCODING` of a small list",
        applies: |case| {
            !case.old
                && case.is(&["object", "encoding"])
                && case.kindred.text() == Some(b"quicklist")
                && case.peer.text() == Some(b"listpack")
        },
    },
    Known {
        compat: "`OBJECT ENCODING` of a hash after `HSET` of many fields",
        applies: |case| {
            case.old
                && case.is(&["object", "encoding"])
                && case.kindred.text() == Some(b"hashtable")
                && case.peer.text() == Some(b"listpack")
        },
    },
    Known {
        compat: "`OBJECT ENCODING` of a set or a sorted set after one command",
        applies: |case| {
            !case.old
                && case.is(&["object", "encoding"])
                && matches!(case.kindred.text(), Some(b"listpack" | b"intset"))
                && matches!(case.peer.text(), Some(b"hashtable" | b"skiplist"))
        },
    },
    Known {
        compat: "`OBJECT REFCOUNT`",
        applies: |case| {
            case.is(&["object", "refcount"]) && case.kindred.int().is_some() && case.peer.int().is_some()
        },
    },
    Known {
        compat: "`score-text`",
        applies: |case| {
            let scores = case.argv[0].starts_with('z') || case.argv[0].starts_with("geo");
            // Redis 8 and Valkey print 17 digits when they scan a large sorted set.
            (case.old && scores || case.argv[0] == "zscan") && same_numbers(case.kindred, case.peer)
        },
    },
    Known {
        compat: "`LPOS` with the lowest rank",
        applies: |case| {
            case.old && case.is(&["lpos"]) && case.kindred_says("ERR value is out of range, value must")
        },
    },
    Known {
        compat: "`LREM` with the lowest count",
        applies: |case| {
            !case.old && case.is(&["lrem"]) && case.peer_says("ERR value is out of range, value must")
        },
    },
    Known {
        compat: "a cursor with a sign, leading zeros or a NUL",
        applies: |case| !case.old && case.argv[0].ends_with("scan") && case.peer_says("ERR invalid cursor"),
    },
    Known {
        compat: "a number that `SORT` reads in hexadecimal, after blanks, or before a NUL",
        applies: |case| {
            !case.old
                && matches!(case.argv[0].as_str(), "sort" | "sort_ro")
                && case.peer_says("ERR One or more scores can't be converted")
        },
    },
    Known {
        compat: "a score or a bound in hexadecimal, after blanks, or with a NUL",
        applies: |case| {
            let odd = |text: &str| {
                text.is_empty()
                    || text.contains(['x', '\0', ' '])
                    || text.trim_start_matches('(').is_empty()
                    || text.contains("infinity")
            };
            !case.old
                && case.argv[0].starts_with('z')
                && case.has(odd)
                && (case.peer_says("ERR min or max is not a float")
                    || case.peer_says("ERR value is not a valid float")
                    || case.peer_says("ERR weight value is not a float"))
        },
    },
    Known {
        compat: "`SORT … ALPHA`",
        applies: |case| {
            // Texts that are the same up to a NUL: their order is that of the table.
            let sorted = |reply: &Value| {
                let mut items = reply.items().to_vec();
                items.sort();
                items
            };
            matches!(case.argv[0].as_str(), "sort" | "sort_ro")
                && case.has(|arg| arg == "alpha")
                && case.peer.items().iter().any(|item| item.text().is_some_and(|text| text.contains(&0)))
                && sorted(case.kindred) == sorted(case.peer)
        },
    },
    Known {
        compat: "a score of -0",
        applies: |case| {
            let scores = case.argv[0].starts_with('z') || case.argv[0].starts_with("bz");
            !case.old && scores && without_sign_of_zero(case.kindred) == without_sign_of_zero(case.peer)
        },
    },
    Known {
        compat: "`SCAN` with an unknown `TYPE`",
        applies: |case| !case.old && case.is(&["scan"]) && case.peer_says("ERR unknown type name"),
    },
    Known {
        compat: "`OBJECT ENCODING` of a string of up to",
        applies: |case| {
            let short = |value: &Value| matches!(value.text(), Some(b"embstr" | b"raw"));
            !case.old && case.is(&["object", "encoding"]) && short(case.kindred) && short(case.peer)
        },
    },
    Known {
        compat: "a `LIMIT` with an offset below 0",
        applies: |case| case.valkey && case.argv[0].starts_with('z') && case.has(|arg| arg == "limit"),
    },
    Known {
        compat: "`GETEX` with a time that makes no sense",
        applies: |case| {
            case.valkey
                && case.is(&["getex"])
                && (case.peer_says("ERR invalid expire time")
                    || case.peer_says("ERR value is not an integer"))
        },
    },
];

/// Whether a known difference of a command that writes leaves the two sides with different data. It does not where both
/// refused, or where the replies only print the same number otherwise.
pub fn parts_data(kindred: &Value, peer: &Value) -> bool {
    let both_refuse = kindred.is_error() && peer.is_error();
    !both_refuse && !near_numbers(kindred, peer, 1e-16)
}

/// The known difference that this one is.
pub fn explain(against: &str, argv: &[Vec<u8>], kindred: &Value, peer: &Value) -> Option<&'static Known> {
    let argv: Vec<String> = argv.iter().map(|arg| String::from_utf8_lossy(arg).to_lowercase()).collect();
    let (old, valkey) = (against == "redis70", against.starts_with("valkey"));
    let case = Case { old, valkey, argv: &argv, kindred, peer };
    KNOWN.iter().find(|known| (known.applies)(&case))
}

fn says(value: &Value, error: &str) -> bool {
    value.is_error() && value.text().is_some_and(|text| text.starts_with(error.as_bytes()))
}

/// A reply of XINFO without the fields of these names.
fn without(names: &[&str], value: &Value) -> Value {
    let Value::Many(kind, items) = value else { return value.clone() };
    let is_named = |item: &Value| names.iter().any(|name| item.text() == Some(name.as_bytes()));
    let mut kept = Vec::new();
    let mut items = items.iter();
    while let Some(item) = items.next() {
        if is_named(item) {
            items.next();
        } else {
            kept.push(without(names, item));
        }
    }
    Value::Many(*kind, kept)
}

fn without_sign_of_zero(value: &Value) -> Value {
    match value {
        Value::Many(kind, items) => Value::Many(*kind, items.iter().map(without_sign_of_zero).collect()),
        Value::Bulk(text) if text == b"-0" => Value::Bulk(b"0".to_vec()),
        Value::Line(kind, text) if text == b"-0" => Value::Line(*kind, b"0".to_vec()),
        _ => value.clone(),
    }
}

/// Whether two replies are alike but for how their numbers are printed.
fn same_numbers(kindred: &Value, peer: &Value) -> bool {
    near_numbers(kindred, peer, 0.0)
}

/// The same for numbers that may be `apart`.
fn near_numbers(kindred: &Value, peer: &Value, apart: f64) -> bool {
    let number = |value: &Value| std::str::from_utf8(value.text()?).ok()?.parse::<f64>().ok();
    match (kindred, peer) {
        (Value::Many(ours, kindred), Value::Many(theirs, peer)) => {
            ours == theirs
                && kindred.len() == peer.len()
                && kindred.iter().zip(peer).all(|(kindred, peer)| near_numbers(kindred, peer, apart))
        }
        _ if kindred == peer => true,
        _ => match (number(kindred), number(peer)) {
            (Some(ours), Some(theirs)) => ours == theirs || (ours - theirs).abs() <= apart,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_difference_stands_in_compat() {
        let compat = std::fs::read_to_string(crate::workspace::root().join("docs/COMPAT.md")).unwrap();
        for known in KNOWN {
            assert!(compat.contains(known.compat), "COMPAT.md does not say: {}", known.compat);
        }
    }

    #[test]
    fn data_differ_after_one_side_refused_or_counted_otherwise() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let line = |kind, text: &str| Value::Line(kind, text.as_bytes().to_vec());
        assert!(parts_data(&line(b':', "1"), &line(b'-', "ERR value is out of range")));
        assert!(parts_data(&line(b':', "3"), &line(b':', "2")));
        assert!(!parts_data(&line(b'-', "ERR one"), &line(b'-', "ERR another")));
        assert!(!parts_data(&bulk("0.1"), &bulk("0.10000000000000001")));
    }

    #[test]
    fn only_what_is_meant_is_explained() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        let argv = crate::diff::generate::words(&["ZSCORE", "z", "m"]);
        let explained = |against, ours, theirs| explain(against, &argv, &bulk(ours), &bulk(theirs)).is_some();
        assert!(explained("redis70", "0.1", "0.10000000000000001"));
        assert!(!explained("redis70", "0.1", "0.2"));
        assert!(!explained("redis82", "0.1", "0.10000000000000001"));
    }
}
