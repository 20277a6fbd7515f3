//! When two replies are the same answer. Most are only if their bytes are; unordered collections may come in another order,
//! and what tells of time may be off by a little.

use super::wire::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Exact,
    /// In any order.
    Unordered,
    /// Keys and values in turn, the pairs in any order.
    UnorderedPairs,
    /// Integers may differ by [`TOLERANCE`], in milliseconds or in seconds.
    Timed,
    /// Nothing but its being an answer.
    Any,
    /// Not pipelined: run on either side, verified and made alike again.
    Settled(Settled),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// SPOP: what the peer picked is put back, what Kindred picked is taken.
    Pop,
    /// A random pick without effect: it must be of the collection.
    Pick,
    /// The SCAN family: the whole iteration, as a set.
    Scan,
    /// DUMP: each side restores the other's payload to the same digest.
    Dump,
    /// DEBUG DIGEST: if it differs, all keys one by one.
    Digest,
}

/// Both servers get a pipeline within this time of each other, busy as the machine may be.
const TOLERANCE: i64 = 5000;

impl Check {
    pub fn of(argv: &[Vec<u8>]) -> Check {
        let Some(name) = argv.first() else { return Check::Exact };
        let lower = |word: &[u8]| String::from_utf8_lossy(word).to_lowercase();
        let name = lower(name);
        match name.as_str() {
            "smembers" | "sinter" | "sunion" | "sdiff" | "keys" | "hkeys" | "hvals" => Check::Unordered,
            "hgetall" => Check::UnorderedPairs,
            "sort" | "sort_ro"
                if argv
                    .iter()
                    .any(|arg| lower(arg) == "nosort" || !arg.contains(&b'*') && lower(arg) == "by") =>
            {
                Check::Unordered
            }
            "ttl" | "pttl" | "expiretime" | "pexpiretime" | "httl" | "hpttl" | "hexpiretime"
            | "hpexpiretime" | "xpending" | "xinfo" => Check::Timed,
            "object" if argv.get(1).is_some_and(|word| lower(word) == "idletime") => Check::Timed,
            "hello" => Check::Any,
            "spop" => Check::Settled(Settled::Pop),
            "srandmember" | "hrandfield" | "zrandmember" | "randomkey" => Check::Settled(Settled::Pick),
            "scan" | "sscan" | "hscan" | "zscan" => Check::Settled(Settled::Scan),
            "dump" => Check::Settled(Settled::Dump),
            "debug" => Check::Settled(Settled::Digest),
            _ => Check::Exact,
        }
    }

    pub fn same(self, kindred: &Value, peer: &Value) -> bool {
        if kindred == peer {
            return true;
        }
        match self {
            Check::Exact | Check::Settled(_) => false,
            Check::Any => kindred.is_error() == peer.is_error(),
            Check::Unordered => sorted(kindred, 1) == sorted(peer, 1) && kind(kindred) == kind(peer),
            Check::UnorderedPairs => sorted(kindred, 2) == sorted(peer, 2) && kind(kindred) == kind(peer),
            Check::Timed => timed(kindred, peer),
        }
    }
}

/// The type's byte of an aggregate.
fn kind(value: &Value) -> Option<u8> {
    match value {
        Value::Many(kind, _) => Some(*kind),
        _ => None,
    }
}

/// The items in groups of `by`, sorted; `None` for what has no items.
fn sorted(value: &Value, by: usize) -> Option<Vec<&[Value]>> {
    let Value::Many(_, items) = value else { return None };
    let mut groups: Vec<&[Value]> = items.chunks(by).collect();
    groups.sort();
    Some(groups)
}

fn timed(kindred: &Value, peer: &Value) -> bool {
    match (kindred, peer) {
        (Value::Many(ours, kindred), Value::Many(theirs, peer)) => {
            ours == theirs
                && kindred.len() == peer.len()
                && kindred.iter().zip(peer).all(|(a, b)| timed(a, b))
        }
        _ if kindred == peer => true,
        // The small codes -1 and -2 mean something else.
        _ => match (kindred.int(), peer.int()) {
            (Some(kindred), Some(peer)) => {
                kindred >= 0 && peer >= 0 && kindred.abs_diff(peer) <= TOLERANCE as u64
            }
            _ => false,
        },
    }
}

/// Whether two replies are built alike, whatever their leaves say.
pub fn same_shape(kindred: &Value, peer: &Value) -> bool {
    match (kindred, peer) {
        (Value::Many(ours, kindred), Value::Many(theirs, peer)) => {
            ours == theirs
                && kindred.len() == peer.len()
                && kindred.iter().zip(peer).all(|(a, b)| same_shape(a, b))
        }
        (Value::Line(b'-', kindred), Value::Line(b'-', peer)) => kindred == peer,
        (Value::Line(ours, _), Value::Line(theirs, _)) => ours == theirs,
        (Value::Bulk(_), Value::Bulk(_)) | (Value::Null, Value::Null) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::generate::words;
    use crate::diff::wire::parse;

    fn same(argv: &[&str], kindred: &str, peer: &str) -> bool {
        Check::of(&words(argv)).same(&parse(kindred.as_bytes()).unwrap(), &parse(peer.as_bytes()).unwrap())
    }

    #[test]
    fn order_counts_where_redis_promises_one() {
        assert!(same(&["SMEMBERS", "t"], "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n"));
        assert!(!same(&["SMEMBERS", "t"], "*2\r\n+a\r\n+a\r\n", "*2\r\n+b\r\n+a\r\n"));
        assert!(!same(&["SMEMBERS", "t"], "*2\r\n+a\r\n+b\r\n", "~2\r\n+b\r\n+a\r\n"));
        assert!(!same(&["LRANGE", "l"], "*2\r\n+a\r\n+b\r\n", "*2\r\n+b\r\n+a\r\n"));
        let (kindred, peer) = ("*4\r\n+a\r\n+1\r\n+b\r\n+2\r\n", "*4\r\n+b\r\n+2\r\n+a\r\n+1\r\n");
        assert!(same(&["HGETALL", "h"], kindred, peer));
        assert!(!same(&["HGETALL", "h"], kindred, "*4\r\n+b\r\n+1\r\n+a\r\n+2\r\n"));
    }

    #[test]
    fn time_may_be_off_by_little() {
        assert!(same(&["TTL", "k"], ":100\r\n", ":99\r\n"));
        assert!(!same(&["TTL", "k"], ":100\r\n", ":-1\r\n"));
        assert!(!same(&["TTL", "k"], ":1000000\r\n", ":1\r\n"));
        assert!(!same(&["LLEN", "k"], ":100\r\n", ":99\r\n"));
    }
}
