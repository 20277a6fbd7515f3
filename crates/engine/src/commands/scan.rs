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
}

/// The options of `SCAN` and its relatives.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Elements to look at, at least 1. Those that the pattern leaves out count as well.
    pub count: u64,
    /// `None` also for `*`, which matches everything.
    pub pattern: Option<&'a [u8]>,
    pub type_name: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument `from` on.
    pub fn parse(argv: Args<'a>, from: usize, over: Over) -> Result<ScanOptions<'a>, CommandError> {
        let mut scan = ScanOptions { count: 10, pattern: None, type_name: None };
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
