//! Walking over many elements a few at a time: `SCAN`, and what `HSCAN`, `SSCAN` and `ZSCAN` share with it.
//!
//! A cursor is a position in the order of a hash table's buckets, as [`structures::table::Table::scan`] counts them;
//! 0 begins and ends. An element that is there from the first call to the last is returned at least once, whatever
//! happens in between. Nothing is kept between calls.
//!
//! For a collection: parse with [`ScanOptions::parse`] (`from` is the argument after the cursor), then
//! - a large one replies with [`reply_table`], which visits the buckets twice instead of collecting their elements:
//!   once to find the next cursor, which stands first in the reply, and once to write;
//! - a small one (listpack, intset) begins its reply with [`begin_whole`] and writes all elements that
//!   [`ScanOptions::admits`] as one array, whatever the count says.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Options, ParseArgs, is_token,
};
use keyspace::{Entry, EntryExt, Key};
use resp::{Args, Reply};
use structures::glob;

use crate::ctx::{CmdResult, Ctx, Handler};
use crate::store::Expiry;

pub const COMMANDS: &[Command<Handler>] = &[SCAN];

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
const SCAN: Command<Handler> = Command {
    name: "scan",
    group: Group::Generic,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::TouchesArbitraryKeys]),
    acl: Acl::of(&[Category::Keyspace]),
    tips: &["nondeterministic_output", "request_policy:special"],
    docs: &Docs {
        summary: "Walks over the names of all keys, a few per call.",
        since: "2.8.0",
        complexity: "O(1) for every call, O(N) for a whole walk",
        history: &[("6.0.0", "TYPE.")],
        arguments: &[
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::string("type").token("TYPE").since("6.0.0").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(scan)
};

/// What is walked over: only keys have types to select by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Keyspace,
    Collection,
    /// Has values that `NOVALUES` leaves out.
    Hash,
    /// Has scores that `NOSCORES` leaves out.
    SortedSet,
}

/// The options of `SCAN` and its relatives.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Elements to look at, at least 1. Those that the pattern leaves out count as well.
    pub count: u64,
    /// `None` also for `*`, which matches everything.
    pub pattern: Option<&'a [u8]>,
    pub type_name: Option<&'a [u8]>,
    /// Without what belongs to each element: its value or its score.
    pub names_only: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument `from` on.
    pub fn parse(argv: Args<'a>, from: usize, over: Over) -> Result<ScanOptions<'a>, CommandError> {
        let mut scan = ScanOptions { count: 10, pattern: None, type_name: None, names_only: false };
        let mut options = Options::new(argv, from);
        while let Some(option) = options.next() {
            if is_token(option, "COUNT") {
                let count = options.int()?;
                scan.count =
                    u64::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
            } else if is_token(option, "MATCH") {
                scan.pattern = Some(options.value()?).filter(|pattern| *pattern != b"*");
            } else if is_token(option, "TYPE") && over == Over::Keyspace {
                scan.type_name = Some(options.value()?);
            } else if (is_token(option, "NOVALUES") && over == Over::Hash)
                || (is_token(option, "NOSCORES") && over == Over::SortedSet)
            {
                scan.names_only = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(scan)
    }

    /// True if the pattern matches the element (of a hash or a sorted set: the field or the member).
    #[inline]
    pub fn admits(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element))
    }
}

/// Buckets visited for each element asked for, at most: a sparse table ends the call early instead of blocking.
const BUCKETS_PER_ELEMENT: u64 = 10;

/// Calls `step(cursor)`, which visits one bucket and returns the next cursor and the number of elements it saw, until
/// `count` elements were seen, the walk is over, or too many buckets were nearly empty. Returns the next cursor.
pub fn advance(cursor: u64, count: u64, mut step: impl FnMut(u64) -> (u64, usize)) -> u64 {
    let (mut cursor, mut seen) = (cursor, 0u64);
    let mut buckets_left = count.saturating_mul(BUCKETS_PER_ELEMENT);
    loop {
        let (next, elements) = step(cursor);
        cursor = next;
        seen = seen.saturating_add(elements as u64);
        if cursor == 0 || buckets_left == 0 || seen >= count {
            return cursor;
        }
        buckets_left -= 1;
    }
}

/// Writes the reply of one call over a hash table.
///
/// `scan(cursor, visit)` is the table's own; `emit` writes one element, if it is admitted, and returns how many replies
/// that took: 0, 1 (a key, a member) or 2 (a field with its value, a member with its score).
///
/// ```text
/// reply_table(&mut ctx.reply, cursor, options.count, |cursor, visit| table.scan(cursor, visit), |reply, field| …)
/// ```
pub fn reply_table<E>(
    reply: &mut Reply<'_>,
    cursor: u64,
    count: u64,
    scan: impl Fn(u64, &mut dyn FnMut(&E)) -> u64,
    mut emit: impl FnMut(&mut Reply<'_>, &E) -> usize,
) {
    let end = advance(cursor, count, |cursor| {
        let mut seen = 0;
        (scan(cursor, &mut |_| seen += 1), seen)
    });
    begin(reply, end);
    let mark = reply.begin_deferred();
    let (mut at, mut written) = (cursor, 0);
    loop {
        at = scan(at, &mut |element| written += emit(reply, element));
        if at == end {
            break;
        }
    }
    reply.end_array(mark, written);
}

/// Begins the reply of a collection that is returned as a whole; one array of its elements follows.
pub fn begin_whole(reply: &mut Reply<'_>) {
    begin(reply, 0);
}

/// Begins a reply: the next cursor. One array follows.
fn begin(reply: &mut Reply<'_>, cursor: u64) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
}

fn scan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.argv.cursor(1)?;
    let options = ScanOptions::parse(ctx.argv, 2, Over::Keyspace)?;
    let (now_ms, shows_expired) = (ctx.store.now_ms, ctx.store.expiry == Expiry::Ignore);
    let mut expired: Vec<Vec<u8>> = Vec::new();
    let db = ctx.store.db();
    let emit = |reply: &mut Reply<'_>, entry: &Entry| {
        if !options.admits(entry.key()) {
            return 0;
        }
        if entry.is_expired(now_ms) && !shows_expired {
            expired.push(entry.key().to_vec());
            return 0;
        }
        let of_type = |name: &[u8]| name.eq_ignore_ascii_case(entry.type_of().name().as_bytes());
        if !options.type_name.is_none_or(of_type) {
            return 0;
        }
        reply.bulk(entry.key());
        1
    };
    reply_table(&mut ctx.reply, cursor, options.count, |cursor, visit| db.scan(cursor, visit), emit);
    // A primary deletes what it has found expired.
    for key in &expired {
        ctx.store.is_alive(Key::new(key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::Harness;

    /// The cursor and the keys of a reply.
    fn parse(reply: &[u8]) -> (u64, Vec<String>) {
        let text = String::from_utf8(reply.to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        assert_eq!(lines.next(), Some("*2"));
        lines.next();
        let cursor = lines.next().unwrap().parse().unwrap();
        let count: usize = lines.next().unwrap().strip_prefix('*').unwrap().parse().unwrap();
        let keys: Vec<String> =
            lines.filter(|line| !line.is_empty() && !line.starts_with('$')).map(Into::into).collect();
        assert_eq!(keys.len(), count);
        (cursor, keys)
    }

    /// A whole walk; `between` runs between the calls.
    fn walk(h: &mut Harness, options: &str, mut between: impl FnMut(&mut Harness)) -> Vec<String> {
        let (mut cursor, mut all) = (0, Vec::new());
        loop {
            let conn = h.conn;
            let (next, keys) = parse(&h.raw(conn, format!("SCAN {cursor} {options}\r\n").as_bytes()));
            all.extend(keys);
            cursor = next;
            if cursor == 0 {
                return all;
            }
            between(h);
        }
    }

    fn populate(h: &mut Harness, count: usize) {
        (0..count).for_each(|index| drop(h.run(&format!("SET key:{index} v"))));
    }

    #[test]
    fn a_walk_names_each_key_once_when_nothing_changes() {
        let mut h = Harness::new();
        populate(&mut h, 1000);
        for options in ["", "COUNT 5", "COUNT 1", "COUNT 10000", "TYPE string", "MATCH *"] {
            let keys = walk(&mut h, options, |_| {});
            assert_eq!(keys.len(), 1000, "{options}");
            assert_eq!(keys.into_iter().collect::<BTreeSet<_>>().len(), 1000, "{options}");
        }
        assert_eq!(walk(&mut h, "MATCH key:1??", |_| {}).len(), 100);
        assert!(walk(&mut h, "TYPE list", |_| {}).is_empty());
        assert_eq!(walk(&mut h, "TYPE STRING MATCH key:1 COUNT 7", |_| {}), ["key:1"]);
    }

    #[test]
    fn what_stays_is_named_while_the_table_grows_and_shrinks() {
        let mut h = Harness::new();
        populate(&mut h, 500);
        let mut added = 0;
        let grown = walk(&mut h, "COUNT 10", |h| {
            (0..50).for_each(|_| {
                added += 1;
                h.run(&format!("SET new:{added} v"));
            })
        });
        let grown: BTreeSet<String> = grown.into_iter().collect();
        assert!((0..500).all(|index| grown.contains(&format!("key:{index}"))));
        let mut deleted = 0;
        let shrunk = walk(&mut h, "COUNT 10", |h| {
            (0..50).for_each(|_| {
                deleted += 1;
                h.run(&format!("DEL new:{deleted}"));
            })
        });
        let shrunk: BTreeSet<String> = shrunk.into_iter().collect();
        assert!((0..500).all(|index| shrunk.contains(&format!("key:{index}"))));
    }

    #[test]
    fn what_has_expired_is_deleted_on_a_primary_and_hidden_on_a_replica() {
        let mut h = Harness::new();
        h.run("SET stays v");
        h.run("SET goes v PX 1");
        h.run("SET other v PX 1");
        h.advance_ms(2);
        h.propagated();
        h.node.store.expiry = Expiry::Hide;
        assert_eq!(walk(&mut h, "", |_| {}), ["stays"]);
        assert_eq!(h.run("DBSIZE"), r":3\r\n");
        h.node.store.expiry = Expiry::Delete;
        assert!(walk(&mut h, "MATCH goes", |_| {}).is_empty());
        assert_eq!(h.propagated(), ["DEL goes"], "only what the pattern matches is looked at");
        assert_eq!(walk(&mut h, "", |_| {}), ["stays"]);
        assert_eq!(h.run("DBSIZE"), r":1\r\n");
    }

    #[test]
    fn options_that_make_no_sense() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("SCAN x", r"-ERR invalid cursor\r\n"),
            ("SCAN 18446744073709551616", r"-ERR invalid cursor\r\n"),
            ("SCAN 18446744073709551615", r"*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN 0 COUNT 0", r"-ERR syntax error\r\n"),
            ("SCAN 0 COUNT x", r"-ERR value is not an integer or out of range\r\n"),
            ("SCAN 0 COUNT", r"-ERR syntax error\r\n"),
            ("SCAN 0 NOSUCH", r"-ERR syntax error\r\n"),
            ("SCAN 0 COUNT 9223372036854775807", r"*2\r\n$1\r\n0\r\n*0\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
    }

    #[test]
    fn a_sparse_table_ends_a_call_after_ten_buckets_per_element() {
        let mut calls = 0;
        let end = advance(0, 3, |cursor| {
            calls += 1;
            (cursor + 1, 0)
        });
        assert_eq!((end, calls), (31, 31));
        assert_eq!(advance(5, u64::MAX, |_| (0, 1)), 0);
    }
}
