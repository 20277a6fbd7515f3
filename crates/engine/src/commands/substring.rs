//! Parts of strings: appending, writing over, cutting out.
//!
//! A string that was changed in place is `raw` from then on, whatever its length.

use std::sync::Arc;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::entry::{INLINE_MAX, new_raw_str, new_str};
use keyspace::{Entry, EntryExt, Object};
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
        let write = |value: &mut Vec<u8>| {
            if value.len() < end {
                value.resize(end, 0);
            }
            value[offset..end].copy_from_slice(text);
        };
        entry.edit_str(write).map_err(wrong_type)?;
    } else {
        let mut value = vec![0; end];
        value[offset..].copy_from_slice(text);
        let entry = if end > INLINE_MAX {
            Entry::new_payload(key.bytes, Object::Str(Arc::new(value)), None)
        } else {
            new_raw_str(key.bytes, &value, None)
        };
        ctx.store.add_entry(key.hash, entry);
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
