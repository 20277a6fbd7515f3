//! Parts of strings: appending, writing over, cutting out.
//!
//! A string that was changed in place is `raw` from then on, whatever its length.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::EntryExt;
use keyspace::entry::{new_str, new_zeros};
use structures::number::IntText;

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[APPEND, GETRANGE, SETRANGE, SUBSTR];

/// APPEND key value
const APPEND: Command<Handler> = Command {
    name: "append",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        summary: "Lengthens a string at its end; creates it if there is none.",
        since: "2.0.0",
        complexity: "O(1) amortized, for short texts",
        arguments: &[Arg::key("key", 0), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(append)
};

/// GETRANGE key start end
const GETRANGE: Command<Handler> = Command {
    name: "getrange",
    group: Group::String,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns a part of a string.",
        since: "2.4.0",
        complexity: "O(N), N being the length of what is returned",
        arguments: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("end")],
        ..Docs::NONE
    },
    ..Command::runs(getrange)
};

/// SETRANGE key offset value
const SETRANGE: Command<Handler> = Command {
    name: "setrange",
    group: Group::String,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Writes over a part of a string from an offset on, and fills a gap with zero bytes.",
        since: "2.2.0",
        complexity: "O(M), M being the length of the text",
        arguments: &[Arg::key("key", 0), Arg::integer("offset"), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(setrange)
};

/// SUBSTR key start end
const SUBSTR: Command<Handler> = Command {
    name: "substr",
    group: Group::String,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns a part of a string.",
        since: "1.0.0",
        complexity: "O(N), N being the length of what is returned",
        deprecated_since: "2.0.0",
        replaced_by: "`GETRANGE`",
        arguments: &[Arg::key("key", 0), Arg::integer("start"), Arg::integer("end")],
        ..Docs::NONE
    },
    ..Command::runs(getrange)
};

/// Refuses a string of `start` + `added` bytes if it would be longer than a client may send one.
fn check_length(ctx: &Ctx<'_>, start: usize, added: usize) -> Result<(), CommandError> {
    let longest = usize::try_from(ctx.core.config.proto_max_bulk_len).unwrap_or(0);
    let fits = start.checked_add(added).is_some_and(|length| length <= longest);
    if fits || ctx.session.is_primary() { Ok(()) } else { Err(CommandError::StringTooLong) }
}

fn append(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, text) = (ctx.key(1), ctx.argv.at(2));
    let before = match ctx.store.write(key) {
        None => None,
        Some(entry) => Some(entry.as_str().map_err(wrong_type)?.len()),
    };
    if let Some(length) = before {
        check_length(ctx, length, text.len())?;
        let entry = ctx.store.db_mut().edit(key).expect("the key was found above");
        entry.edit_str(|value| value.extend_from_slice(text)).map_err(wrong_type)?;
    } else {
        ctx.store.add_entry(key.hash, new_str(key.bytes, text, None));
    }
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::STRING, "append", key.bytes);
    ctx.reply.int((before.unwrap_or(0) + text.len()) as i64);
    Ok(())
}

fn setrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let offset = usize::try_from(ctx.argv.int(2)?).map_err(|_| CommandError::OffsetOutOfRange)?;
    let (key, text) = (ctx.key(1), ctx.argv.at(3));
    let before = match ctx.store.write(key) {
        None => None,
        Some(entry) => Some(entry.as_str().map_err(wrong_type)?.len()),
    };
    if text.is_empty() {
        ctx.reply.int(before.unwrap_or(0) as i64);
        return Ok(());
    }
    check_length(ctx, offset, text.len())?;
    let end = offset + text.len();
    if before.is_some() {
        let entry = ctx.store.db_mut().edit(key).expect("the key was found above");
        entry.edit_bytes(end, |value| value[offset..end].copy_from_slice(text)).map_err(wrong_type)?;
    } else {
        let entry = ctx.store.add_entry(key.hash, new_zeros(key.bytes, end));
        entry.edit_bytes(end, |value| value[offset..].copy_from_slice(text)).map_err(wrong_type)?;
    }
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::STRING, "setrange", key.bytes);
    ctx.reply.int(before.unwrap_or(0).max(end) as i64);
    Ok(())
}

fn getrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (start, end) = (ctx.argv.int(2)?, ctx.argv.int(3)?);
    let mut scratch = IntText::new();
    let part = match ctx.store.read_str(ctx.key(1)).map_err(wrong_type)? {
        None => b"",
        Some(value) => cut(value.text(&mut scratch), start, end),
    };
    ctx.reply.bulk(part);
    Ok(())
}

/// The bytes from `start` to `end`, both included; negative ones count from the end of the text, -1 being the last.
fn cut(text: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let length = text.len() as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let (start, end) = (from_front(start), from_front(end).min(length - 1));
    if start > end { b"" } else { &text[start as usize..=end as usize] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::Harness;

    #[test]
    fn cutting() {
        for (start, end, part) in [
            (0, 3, "Hell"),
            (0, -1, "Hello World"),
            (-4, -1, "orld"),
            (5, 3, ""),
            (5, 5000, " World"),
            (-5000, 10000, "Hello World"),
            (0, -100, "H"),
            (-1, -100, ""),
            (11, 20, ""),
            (i64::MIN, i64::MAX, "Hello World"),
        ] {
            assert_eq!(cut(b"Hello World", start, end), part.as_bytes(), "{start} {end}");
        }
        assert_eq!(cut(b"", 0, -1), b"");
    }

    #[test]
    fn strings_changed_in_place_are_raw() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("APPEND a 12", r":2\r\n"),
            ("OBJECT ENCODING a", r"$3\r\nint\r\n"),
            ("APPEND a 3", r":3\r\n"),
            ("OBJECT ENCODING a", r"$3\r\nraw\r\n"),
            ("GET a", r"$3\r\n123\r\n"),
            ("INCR a", r":124\r\n"),
            ("OBJECT ENCODING a", r"$3\r\nint\r\n"),
            ("SETRANGE a 5 x", r":6\r\n"),
            ("GET a", r"$6\r\n124\x00\x00x\r\n"),
            ("SETRANGE a 0 9", r":6\r\n"),
            ("SETRANGE a 1 \"\"", r":6\r\n"),
            ("SETRANGE none 1 \"\"", r":0\r\n"),
            ("EXISTS none", r":0\r\n"),
            ("SETRANGE b 1 x", r":2\r\n"),
            ("OBJECT ENCODING b", r"$3\r\nraw\r\n"),
            ("SETRANGE a -1 x", r"-ERR offset is out of range\r\n"),
            ("SETRANGE a x x", r"-ERR value is not an integer or out of range\r\n"),
            ("GETRANGE a 0 0", r"$1\r\n9\r\n"),
            ("SUBSTR a 1 2", r"$2\r\n24\r\n"),
            ("GETRANGE none 0 -1", r"$0\r\n\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "APPEND a 12",
                "APPEND a 3",
                "INCR a",
                "SETRANGE a 5 x",
                "SETRANGE a 0 9",
                "SETRANGE b 1 x"
            ]
        );
    }

    #[test]
    fn no_string_gets_longer_than_a_client_may_send() {
        let mut h = Harness::with_config(Config { proto_max_bulk_len: 5, ..Config::default() });
        let refusal = r"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
        assert_eq!(h.run("SETRANGE a 4 xy"), refusal);
        assert_eq!(h.run("SETRANGE a 9223372036854775807 xy"), refusal);
        assert_eq!(h.run("SETRANGE a 3 xy"), r":5\r\n");
        assert_eq!(h.run("APPEND a z"), refusal);
        assert_eq!(h.run("STRLEN a"), r":5\r\n");
    }
}
