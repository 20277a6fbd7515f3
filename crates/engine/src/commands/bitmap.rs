//! Strings as arrays of bits: one bit, counting, finding, and combining whole strings.
//!
//! Bits are changed where they lie, see [`keyspace::EntryExt::edit_bytes`]. The operations of `BITOP` that Redis has
//! since 8.2 propagate as the string that came out, which older replicas can store. Integers within strings are in
//! `bitfield`.

use std::ops::Range;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token, parse_i64,
};
use keyspace::entry::{new_raw_vec, new_zeros};
use keyspace::{EntryExt, Str};
use smallvec::SmallVec;
use structures::bits::{self, Combine};
use structures::number::IntText;

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] = &[BITCOUNT, BITOP, BITPOS, GETBIT, SETBIT];

/// BITCOUNT key [start end [BYTE|BIT]]
const BITCOUNT: Command<Handler> = Command {
    name: "bitcount",
    group: Group::Bitmap,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Counts the set bits of a string, or of a part of it.",
        since: "2.6.0",
        complexity: "O(N), N being the bytes that are looked at",
        history: &[("7.0.0", "BYTE and BIT.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::block("index", &[Arg::integer("start"), Arg::integer("end"), UNIT]).optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(bitcount)
};

const UNIT: Arg =
    Arg::one_of("index_unit", &[Arg::pure_token("byte", "BYTE"), Arg::pure_token("bit", "BIT")])
        .since("7.0.0")
        .optional();

/// BITOP AND|OR|XOR|NOT|DIFF|DIFF1|ANDOR|ONE destkey key [key …]
const BITOP: Command<Handler> = Command {
    name: "bitop",
    group: Group::Bitmap,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(2, &[Key::Ow, Key::Update]), KeySpec::range(3, -1, 1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Combines strings bit by bit and stores the result.",
        since: "2.6.0",
        complexity: "O(N), N being the bytes of all strings",
        history: &[("8.2.0", "DIFF, DIFF1, ANDOR and ONE.")],
        arguments: &[
            Arg::one_of(
                "operation",
                &[
                    Arg::pure_token("and", "AND"),
                    Arg::pure_token("or", "OR"),
                    Arg::pure_token("xor", "XOR"),
                    Arg::pure_token("not", "NOT"),
                    Arg::pure_token("diff", "DIFF"),
                    Arg::pure_token("diff1", "DIFF1"),
                    Arg::pure_token("andor", "ANDOR"),
                    Arg::pure_token("one", "ONE"),
                ],
            ),
            Arg::key("destkey", 0),
            Arg::key("key", 1).multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(bitop)
};

/// BITPOS key bit [start [end [BYTE|BIT]]]
const BITPOS: Command<Handler> = Command {
    name: "bitpos",
    group: Group::Bitmap,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Finds the first set or clear bit of a string, or of a part of it.",
        since: "2.8.7",
        complexity: "O(N), N being the bytes that are looked at",
        history: &[("7.0.0", "BYTE and BIT.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("bit"),
            Arg::block(
                "index",
                &[Arg::integer("start"), Arg::block("end_index", &[Arg::integer("end"), UNIT]).optional()],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(bitpos)
};

/// GETBIT key offset
const GETBIT: Command<Handler> = Command {
    name: "getbit",
    group: Group::Bitmap,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns one bit of a string.",
        since: "2.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("offset")],
        ..Docs::NONE
    },
    ..Command::runs(getbit)
};

/// SETBIT key offset value
const SETBIT: Command<Handler> = Command {
    name: "setbit",
    group: Group::Bitmap,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Sets or clears one bit of a string, which grows to hold it.",
        since: "2.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("offset"), Arg::integer("value")],
        ..Docs::NONE
    },
    ..Command::runs(setbit)
};

/// Reads the number of a bit; with a `width`, `#n` is the n-th field of that many bits. It must lie in a string that a
/// client may send.
pub(super) fn bit_offset(ctx: &Ctx<'_>, text: &[u8], width: Option<u32>) -> Result<u64, CommandError> {
    let offset = match (text, width) {
        ([b'#', field @ ..], Some(width)) => {
            parse_i64(field).and_then(|field| field.checked_mul(i64::from(width)))
        }
        _ => parse_i64(text),
    };
    let within = |offset: &i64| {
        *offset >= 0 && (ctx.session.is_primary() || offset >> 3 < ctx.core.config.proto_max_bulk_len)
    };
    let refusal = CommandError::fixed("ERR bit offset is not an integer or out of range");
    offset.filter(within).map(|offset| offset as u64).ok_or(refusal)
}

/// Runs `change` on the bytes of the string under `key`, which is created or grows if it is shorter than `length_min`;
/// with what it gave, and whether the string did so.
pub(super) fn change_bytes<R>(
    store: &mut Store,
    key: keyspace::Key<'_>,
    length_min: usize,
    change: impl FnOnce(&mut [u8]) -> R,
) -> Result<(R, bool), CommandError> {
    let (entry, grown) = match store.write(key) {
        Some(entry) => {
            let length = entry.as_str().map_err(wrong_type)?.len();
            (entry, length < length_min)
        }
        None => (store.add_entry(key.hash, new_zeros(key.bytes, length_min)), true),
    };
    Ok((entry.edit_bytes(length_min, change).map_err(wrong_type)?, grown))
}

fn setbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let offset = bit_offset(ctx, ctx.argv.at(2), None)?;
    let refusal = CommandError::fixed("ERR bit is not an integer or out of range");
    let bit = ctx.argv.int_within_or(3, 0..=1, refusal)? as u8;
    let (key, at, shift) = (ctx.key(1), (offset / 8) as usize, 7 - offset % 8);
    let change = |bytes: &mut [u8]| {
        let old = bytes[at] >> shift & 1;
        bytes[at] = bytes[at] & !(1 << shift) | bit << shift;
        old
    };
    let (old, grown) = change_bytes(ctx.store, key, at + 1, change)?;
    if grown || old != bit {
        ctx.store.modified(key.bytes);
        ctx.store.notify(Event::STRING, "setbit", key.bytes);
    }
    ctx.reply.int(i64::from(old));
    Ok(())
}

fn getbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let offset = bit_offset(ctx, ctx.argv.at(2), None)?;
    let mut scratch = IntText::new();
    let text = match ctx.store.read_str(ctx.key(1)).map_err(wrong_type)? {
        None => b"",
        Some(value) => value.text(&mut scratch),
    };
    let byte = usize::try_from(offset / 8).ok().and_then(|at| text.get(at).copied()).unwrap_or(0);
    ctx.reply.int(i64::from(byte >> (7 - offset % 8) & 1));
    Ok(())
}

/// What the numbers of a range count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(text: Option<&[u8]>) -> Result<Unit, CommandError> {
        match text {
            None => Ok(Unit::Byte),
            Some(text) if is_token(text, "BYTE") => Ok(Unit::Byte),
            Some(text) if is_token(text, "BIT") => Ok(Unit::Bit),
            Some(_) => Err(CommandError::Syntax),
        }
    }

    /// The bits of a text of `length` bytes from `start` to `end`, both included; negative ones count from the end.
    fn range(self, length: usize, start: i64, end: i64) -> Range<usize> {
        let bits = match self {
            Unit::Byte => 8,
            Unit::Bit => 1,
        };
        let count = length as i64 * 8 / bits;
        let from_front = |index: i64| if index < 0 { index.saturating_add(count).max(0) } else { index };
        let (start, end) = (from_front(start), from_front(end).min(count - 1));
        if start > end { 0..0 } else { (start * bits) as usize..((end + 1) * bits) as usize }
    }
}

fn bitcount(ctx: &mut Ctx<'_>) -> CmdResult {
    let argv = ctx.argv;
    let mut scratch = IntText::new();
    let Some(value) = ctx.store.read_str(ctx.key(1)).map_err(wrong_type)? else {
        // Like Redis 7.0, looks at the range only if there is a string.
        ctx.reply.int(0);
        return Ok(());
    };
    let text = value.text(&mut scratch);
    let count = match argv.len() {
        2 => bits::count_ones(text),
        4 | 5 => {
            let (start, end) = (argv.int(2)?, argv.int(3)?);
            if start < 0 && end < 0 && start > end {
                0
            } else {
                let range = Unit::parse(argv.get(4))?.range(text.len(), start, end);
                bits::count_ones_in(text, range)
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    ctx.reply.int(count as i64);
    Ok(())
}

fn bitpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let argv = ctx.argv;
    let set = match argv.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let mut scratch = IntText::new();
    let Some(value) = ctx.store.read_str(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.int(if set { -1 } else { 0 });
        return Ok(());
    };
    let text = value.text(&mut scratch);
    if argv.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let mut options = Options::new(argv, 3);
    let start = if argv.len() > 3 { options.int()? } else { 0 };
    let unit = Unit::parse(argv.get(5))?;
    let end = if argv.len() > 4 { options.int()? } else { -1 };
    let range = unit.range(text.len(), start, end);
    let beyond = range.end;
    let found = match bits::find_in(text, range.clone(), set) {
        Some(at) => at as i64,
        // Without an end, a string goes on with zeros.
        None if !set && argv.len() <= 4 && !range.is_empty() => beyond as i64,
        None => -1,
    };
    ctx.reply.int(found);
    Ok(())
}

/// How `BITOP` combines, and whether Redis before 8.2 knows it.
fn operation(text: &[u8]) -> Result<(Combine, bool), CommandError> {
    let operations = [
        ("AND", Combine::And, true),
        ("OR", Combine::Or, true),
        ("XOR", Combine::Xor, true),
        ("NOT", Combine::Not, true),
        ("DIFF", Combine::Diff, false),
        ("DIFF1", Combine::Diff1, false),
        ("ANDOR", Combine::AndOr, false),
        ("ONE", Combine::One, false),
    ];
    let found = operations.into_iter().find(|(name, ..)| is_token(text, name));
    found.map(|(_, how, old)| (how, old)).ok_or(CommandError::Syntax)
}

fn bitop(ctx: &mut Ctx<'_>) -> CmdResult {
    let (how, known_of_old) = operation(ctx.argv.at(1))?;
    let sources = ctx.argv.len() - 3;
    if how == Combine::Not && sources != 1 {
        return Err(CommandError::fixed("ERR BITOP NOT must be called with a single source key."));
    }
    if matches!(how, Combine::Diff | Combine::Diff1 | Combine::AndOr) && sources < 2 {
        let name = String::from_utf8_lossy(ctx.argv.at(1)).to_ascii_uppercase();
        let text = format!("ERR BITOP {name} must be called with at least two source keys.");
        return Err(CommandError::text(text));
    }
    // Looked up one by one, as each may expire; then all are read side by side.
    let mut there = SmallVec::<[bool; 8]>::with_capacity(sources);
    for index in 3..ctx.argv.len() {
        there.push(ctx.store.read_str(ctx.key(index)).map_err(wrong_type)?.is_some());
    }
    let result = {
        let mut scratches = SmallVec::<[IntText; 8]>::from_elem(IntText::new(), sources);
        let text = |(source, scratch)| {
            let entry = if there[source] { ctx.store.db().peek(ctx.key(3 + source)) } else { None };
            let value = entry.map(|entry| entry.as_str().expect("it was a string above"));
            value.map_or(&b""[..], |value: Str<'_>| value.text(scratch))
        };
        let texts: SmallVec<[&[u8]; 8]> = (0..sources).zip(&mut scratches).map(text).collect();
        bits::combine(how, &texts)
    };
    let (key, length) = (ctx.key(2), result.len());
    if length > 0 {
        if !known_of_old {
            // What has expired goes first.
            ctx.store.write(key);
            ctx.store.effects.propagate_as(&[b"SET", key.bytes, &result]);
        }
        put_raw(ctx, key, result);
        ctx.store.modified(key.bytes);
        ctx.store.notify(Event::STRING, "set", key.bytes);
    } else if ctx.store.delete(key, ctx.store.lazy.server_del) {
        if !known_of_old {
            ctx.store.effects.propagate_as(&[b"DEL", key.bytes]);
        }
        ctx.store.modified(key.bytes);
        ctx.store.notify(Event::GENERIC, "del", key.bytes);
    }
    ctx.reply.int(length as i64);
    Ok(())
}

/// Stores bytes that were computed under `key`, whatever it held, without an expiry.
fn put_raw(ctx: &mut Ctx<'_>, key: keyspace::Key<'_>, bytes: Vec<u8>) {
    let Some(entry) = ctx.store.write(key) else {
        ctx.store.add_entry(key.hash, new_raw_vec(key.bytes, bytes, None));
        return;
    };
    let expires = entry.expire_at().is_some();
    if let Some(object) = entry.store_raw_vec(bytes) {
        ctx.store.reclaim.object(object, ctx.store.lazy.server_del);
    }
    if expires {
        ctx.store.set_expire(key, None);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::testing::Harness;

    fn events(h: &mut Harness, line: &str) -> Vec<String> {
        h.events(line).iter().map(|event| format!("{} {}", event.name, event.key.escape_ascii())).collect()
    }

    #[test]
    fn single_bits() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("GETBIT a 0", r":0\r\n"),
            ("SETBIT a 9 1", r":0\r\n"),
            ("SETBIT a 9 1", r":1\r\n"),
            ("SETBIT a 9 0", r":1\r\n"),
            ("SETBIT a 15 1", r":0\r\n"),
            ("GET a", r"$2\r\n\x00\x01\r\n"),
            ("OBJECT ENCODING a", r"$3\r\nraw\r\n"),
            ("GETBIT a 15", r":1\r\n"),
            ("GETBIT a 16", r":0\r\n"),
            ("SET n 13", r"+OK\r\n"),
            ("GETBIT n 2", r":1\r\n"),
            ("SETBIT n 6 1", r":0\r\n"),
            ("GET n", r"$2\r\n33\r\n"),
            ("SETBIT n 6 1", r":1\r\n"),
            ("SETBIT a -1 1", r"-ERR bit offset is not an integer or out of range\r\n"),
            ("SETBIT a 4294967296 1", r"-ERR bit offset is not an integer or out of range\r\n"),
            ("GETBIT a x", r"-ERR bit offset is not an integer or out of range\r\n"),
            ("GETBIT a #1", r"-ERR bit offset is not an integer or out of range\r\n"),
            ("SETBIT a 0 2", r"-ERR bit is not an integer or out of range\r\n"),
            ("SETBIT a 0 x", r"-ERR bit is not an integer or out of range\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(
            h.propagated(),
            ["SELECT 0", "SETBIT a 9 1", "SETBIT a 9 0", "SETBIT a 15 1", "SET n 13", "SETBIT n 6 1"]
        );
        assert_eq!(events(&mut h, "SETBIT b 0 0"), ["new b", "setbit b"]);
        assert_eq!(events(&mut h, "SETBIT b 0 0"), [""; 0]);
        assert_eq!(events(&mut h, "SETBIT b 8 0"), ["setbit b"]);
    }

    #[test]
    fn strings_grow_out_of_their_entry() {
        let mut h = Harness::new();
        h.run("SET a x EX 100");
        for bit in [100, 32_767, 32_768, 8_000_000, 8_000_007, 8_000_008, 20_000_000] {
            assert_eq!(h.run(&format!("SETBIT a {bit} 1")), r":0\r\n");
            assert_eq!(h.run("STRLEN a"), format!(r":{}\r\n", bit / 8 + 1));
            assert_eq!(h.run(&format!("GETBIT a {bit}")), r":1\r\n");
        }
        assert_eq!(h.run("BITCOUNT a"), r":11\r\n");
        assert_eq!(h.run("GETRANGE a 0 0"), r"$1\r\nx\r\n");
        assert_eq!(h.run("TTL a"), r":100\r\n");
        h.run("SETBIT b 8000000 1");
        assert_eq!(h.run("BITPOS b 1"), r":8000000\r\n");
    }

    #[test]
    fn readers_of_a_long_string_keep_their_bytes() {
        let mut h = Harness::new();
        h.run("SETBIT a 80000 0");
        let key = keyspace::Key::new(b"a");
        let shared = |h: &mut Harness| match h.node.store.read_str(key) {
            Ok(Some(keyspace::Str::Shared(bytes))) => std::sync::Arc::clone(bytes),
            _ => panic!("a long string is shared"),
        };
        let reader = shared(&mut h);
        h.run("SETBIT a 7 1");
        assert_eq!((reader[0], shared(&mut h)[0]), (0, 1));
        drop(reader);
        let place = shared(&mut h).as_ptr();
        h.run("SETBIT a 6 1");
        assert_eq!((shared(&mut h).as_ptr(), shared(&mut h)[0]), (place, 3), "nobody reads: in place");
    }

    #[test]
    fn no_string_gets_longer_than_a_client_may_send() {
        let mut h = Harness::with_config(Config { proto_max_bulk_len: 5, ..Config::default() });
        assert_eq!(h.run("SETBIT a 39 1"), r":0\r\n");
        assert_eq!(h.run("SETBIT a 40 1"), r"-ERR bit offset is not an integer or out of range\r\n");
        assert_eq!(h.run("BITFIELD a GET u8 40"), r"-ERR bit offset is not an integer or out of range\r\n");
    }

    #[test]
    fn counting_and_finding() {
        let mut h = Harness::new();
        h.run(r#"SET a "\x00\xff\xf0""#);
        h.run("SET n 7");
        h.run("RPUSH l 1");
        for (line, reply) in [
            ("BITCOUNT a", ":12"),
            ("BITCOUNT a 1 1", ":8"),
            ("BITCOUNT a -1 -1 BYTE", ":4"),
            ("BITCOUNT a 9 17 bit", ":9"),
            ("BITCOUNT a -5 -4 BIT", ":1"),
            ("BITCOUNT a -1 -5", ":0"),
            ("BITCOUNT a 5 1", ":0"),
            ("BITCOUNT a 0 9223372036854775807", ":12"),
            ("BITCOUNT a 1", "-ERR syntax error"),
            ("BITCOUNT a 0 1 BITS", "-ERR syntax error"),
            ("BITCOUNT a x 1", "-ERR value is not an integer or out of range"),
            ("BITCOUNT none x", ":0"),
            ("BITCOUNT n", ":5"),
            ("BITCOUNT l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("BITPOS a 1", ":8"),
            ("BITPOS a 0", ":0"),
            ("BITPOS a 0 1", ":20"),
            ("BITPOS a 0 1 1", ":-1"),
            ("BITPOS a 1 2 -1", ":16"),
            ("BITPOS a 0 9 19 BIT", ":-1"),
            ("BITPOS a 0 9 20 BIT", ":20"),
            ("BITPOS a 1 1 9 bit", ":8"),
            ("BITPOS a 1 9", ":-1"),
            ("BITPOS a 0 9", ":-1"),
            ("BITPOS none 1", ":-1"),
            ("BITPOS none 0", ":0"),
            ("BITPOS a 2", "-ERR The bit argument must be 1 or 0."),
            ("BITPOS a x", "-ERR value is not an integer or out of range"),
            ("BITPOS a 1 0 1 BITS", "-ERR syntax error"),
            ("BITPOS a 1 0 1 BIT x", "-ERR syntax error"),
            ("BITPOS l 1", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ] {
            assert_eq!(h.run(line), format!(r"{reply}\r\n"), "{line}");
        }
        h.run(r#"SET ones "\xff\xff""#);
        assert_eq!(h.run("BITPOS ones 0"), r":16\r\n", "zeros follow");
        assert_eq!(h.run("BITPOS ones 0 0"), r":16\r\n");
        assert_eq!(h.run("BITPOS ones 0 0 -1"), r":-1\r\n");
    }

    #[test]
    fn strings_are_combined() {
        let mut h = Harness::new();
        h.run(r#"SET a "\x0f\x0f" PX 1000"#);
        h.run(r#"SET b "\x3c""#);
        h.run("SET n 12");
        h.propagated();
        for (line, result) in [
            ("AND d a b", r"\x0c\x00"),
            ("OR d a b none", r"?\x0f"),
            ("XOR d a b", r"3\x0f"),
            ("NOT d b", r"\xc3"),
            ("diff d a b", r"\x03\x0f"),
            ("DIFF1 d a b", r"0\x00"),
            ("ANDOR d a b none", r"\x0c\x00"),
            ("ONE d a b a", r"0\x00"),
            ("OR d n", "12"),
        ] {
            let length = if line.ends_with(" b") && line.starts_with("NOT") { 1 } else { 2 };
            assert_eq!(h.run(&format!("BITOP {line}")), format!(r":{length}\r\n"), "{line}");
            assert_eq!(h.run("GET d"), format!(r"${length}\r\n{result}\r\n"), "{line}");
            assert_eq!(h.run("OBJECT ENCODING d"), r"$3\r\nraw\r\n");
        }
        assert_eq!(
            h.propagated(),
            [
                "BITOP AND d a b",
                "BITOP OR d a b none",
                "BITOP XOR d a b",
                "BITOP NOT d b",
                r"SET d \x03\x0f",
                r"SET d 0\x00",
                r"SET d \x0c\x00",
                r"SET d 0\x00",
                "BITOP OR d n",
            ]
        );
        // The result takes the place of the key with its expiry.
        h.run("BITOP OR a a");
        assert_eq!(h.run("TTL a"), r":-1\r\n");
        h.run("RPUSH l 1");
        assert_eq!(events(&mut h, "BITOP OR l a"), ["set l"]);
        assert_eq!(events(&mut h, "BITOP OR l none"), ["keymiss none", "del l"]);
        assert_eq!(events(&mut h, "BITOP OR l none"), ["keymiss none"]);
        h.run("RPUSH l 1");
        for (line, error) in [
            ("BITOP AND d a l", "WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("BITOP NAND d a", "ERR syntax error"),
            ("BITOP NOT d a b", "ERR BITOP NOT must be called with a single source key."),
            ("BITOP diff1 d a", "ERR BITOP DIFF1 must be called with at least two source keys."),
        ] {
            assert_eq!(h.run(line), format!(r"-{error}\r\n"), "{line}");
        }
    }

    #[test]
    fn an_expired_target_is_deleted_before_the_result_is_told() {
        let mut h = Harness::new();
        h.run("SET a x");
        h.run("SET d y PX 10");
        h.advance_ms(11);
        h.propagated();
        h.run("BITOP DIFF d a none");
        assert_eq!(h.propagated(), ["MULTI", "DEL d", "SET d x", "EXEC"]);
        assert_eq!(h.run("GET d"), r"$1\r\nx\r\n");
    }
}
