//! Lists. The commands that wait for elements are in `list_blocking`.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use keyspace::{End, EntryExt, List, Object};
use resp::{Args, Reply};
use smallvec::SmallVec;
use structures::listpack::Entry;
use structures::number::IntText;

use crate::commands::elements::{counted_keys, reply_entry};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[
    LINDEX, LINSERT, LLEN, LMOVE, LMPOP, LPOP, LPOS, LPUSH, LPUSHX, LRANGE, LREM, LSET, LTRIM, RPOP,
    RPOPLPUSH, RPUSH, RPUSHX,
];

const READ: Command<Handler> = Command {
    group: Group::List,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::List]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    ..Command::runs(llen)
};
const PUSH: Command<Handler> = Command {
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    ..READ
};
const POP: Command<Handler> = Command {
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    ..READ
};
const MOVE: Command<Handler> = Command {
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete]), KeySpec::at(2, &[Key::Rw, Key::Insert])],
    ..READ
};
const DELETE: Command<Handler> = Command {
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Delete])],
    ..READ
};

const KEY: Arg = Arg::key("key", 0);
const ELEMENTS: &[Arg] = &[KEY, Arg::string("element").multiple()];
pub(super) const ENDS: &[Arg] = &[Arg::pure_token("left", "LEFT"), Arg::pure_token("right", "RIGHT")];
const COUNTED_POP: &[Arg] = &[KEY, Arg::integer("count").since("6.2.0").optional()];

/// LPUSH key element [element …]
const LPUSH: Command<Handler> = Command {
    name: "lpush",
    handler: Some(lpush),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1) for each element, so O(N) for N elements",
        summary: "Puts elements before the first of a list, which is made if there is none.",
        history: &[("2.4.0", "Takes several elements.")],
        arguments: ELEMENTS,
        ..Docs::NONE
    },
    ..PUSH
};

/// RPUSH key element [element …]
const RPUSH: Command<Handler> = Command {
    name: "rpush",
    handler: Some(rpush),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1) for each element, so O(N) for N elements",
        summary: "Puts elements after the last of a list, which is made if there is none.",
        history: &[("2.4.0", "Takes several elements.")],
        arguments: ELEMENTS,
        ..Docs::NONE
    },
    ..PUSH
};

/// LPUSHX key element [element …]
const LPUSHX: Command<Handler> = Command {
    name: "lpushx",
    handler: Some(lpushx),
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(1) for each element, so O(N) for N elements",
        summary: "Puts elements before the first of a list that exists.",
        history: &[("4.0.0", "Takes several elements.")],
        arguments: ELEMENTS,
        ..Docs::NONE
    },
    ..PUSH
};

/// RPUSHX key element [element …]
const RPUSHX: Command<Handler> = Command {
    name: "rpushx",
    handler: Some(rpushx),
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(1) for each element, so O(N) for N elements",
        summary: "Puts elements after the last of a list that exists.",
        history: &[("4.0.0", "Takes several elements.")],
        arguments: ELEMENTS,
        ..Docs::NONE
    },
    ..PUSH
};

/// LPOP key [count]
const LPOP: Command<Handler> = Command {
    name: "lpop",
    handler: Some(lpop),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the number of elements returned",
        summary: "Takes the first elements off a list and returns them.",
        history: &[("6.2.0", "Takes a count.")],
        arguments: COUNTED_POP,
        ..Docs::NONE
    },
    ..POP
};

/// RPOP key [count]
const RPOP: Command<Handler> = Command {
    name: "rpop",
    handler: Some(rpop),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the number of elements returned",
        summary: "Takes the last elements off a list and returns them.",
        history: &[("6.2.0", "Takes a count.")],
        arguments: COUNTED_POP,
        ..Docs::NONE
    },
    ..POP
};

/// LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count]
const LMPOP: Command<Handler> = Command {
    name: "lmpop",
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write]),
    keys: &[KeySpec::count_at(1, &[Key::Rw, Key::Access, Key::Delete])],
    handler: Some(lmpop),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N+M), when N is the number of keys and M that of elements returned",
        summary: "Takes elements off the first list that has some and returns them.",
        arguments: &[
            Arg::integer("numkeys"),
            KEY.multiple(),
            Arg::one_of("where", ENDS),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..POP
};

/// LLEN key
const LLEN: Command<Handler> = Command {
    name: "llen",
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the number of elements of a list.",
        arguments: &[KEY],
        ..Docs::NONE
    },
    ..READ
};

/// LINDEX key index
const LINDEX: Command<Handler> = Command {
    name: "lindex",
    handler: Some(lindex),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the number of nodes and elements to pass; O(1) for the first and the last element",
        summary: "Returns an element of a list by its index.",
        arguments: &[KEY, Arg::integer("index")],
        ..Docs::NONE
    },
    ..READ
};

/// LSET key index element
const LSET: Command<Handler> = Command {
    name: "lset",
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    handler: Some(lset),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the length of the list; O(1) for the first and the last element",
        summary: "Replaces an element of a list by its index.",
        arguments: &[KEY, Arg::integer("index"), Arg::string("element")],
        ..Docs::NONE
    },
    ..READ
};

/// LRANGE key start stop
const LRANGE: Command<Handler> = Command {
    name: "lrange",
    arity: Arity::Exactly(4),
    handler: Some(lrange),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(S+N), when S is the distance of the start from the nearer end and N the number of elements returned",
        summary: "Returns the elements of a list from one index to another.",
        arguments: &[KEY, Arg::integer("start"), Arg::integer("stop")],
        ..Docs::NONE
    },
    ..READ
};

/// LTRIM key start stop
const LTRIM: Command<Handler> = Command {
    name: "ltrim",
    handler: Some(ltrim),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the number of elements removed",
        summary: "Removes the elements of a list outside of a range.",
        arguments: &[KEY, Arg::integer("start"), Arg::integer("stop")],
        ..Docs::NONE
    },
    ..DELETE
};

/// LREM key count element
const LREM: Command<Handler> = Command {
    name: "lrem",
    handler: Some(lrem),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N), when N is the length of the list",
        summary: "Removes elements of a list that equal a value.",
        arguments: &[KEY, Arg::integer("count"), Arg::string("element")],
        ..Docs::NONE
    },
    ..DELETE
};

/// LINSERT key BEFORE|AFTER pivot element
const LINSERT: Command<Handler> = Command {
    name: "linsert",
    arity: Arity::Exactly(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    handler: Some(linsert),
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(N), when N is the number of elements up to the pivot",
        summary: "Puts an element beside the first one that equals a value.",
        arguments: &[
            KEY,
            Arg::one_of("where", &[Arg::pure_token("before", "BEFORE"), Arg::pure_token("after", "AFTER")]),
            Arg::string("pivot"),
            Arg::string("element"),
        ],
        ..Docs::NONE
    },
    ..READ
};

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
const LPOS: Command<Handler> = Command {
    name: "lpos",
    arity: Arity::AtLeast(3),
    handler: Some(lpos),
    docs: &Docs {
        since: "6.0.6",
        complexity: "O(N), when N is the number of elements looked at",
        summary: "Returns the indexes of elements of a list that equal a value.",
        arguments: &[
            KEY,
            Arg::string("element"),
            Arg::integer("rank").token("RANK").optional(),
            Arg::integer("num-matches").token("COUNT").optional(),
            Arg::integer("len").token("MAXLEN").optional(),
        ],
        ..Docs::NONE
    },
    ..READ
};

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
const LMOVE: Command<Handler> = Command {
    name: "lmove",
    arity: Arity::Exactly(5),
    handler: Some(lmove),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Moves an element from an end of a list to an end of another, and returns it.",
        arguments: &[
            Arg::key("source", 0),
            Arg::key("destination", 1),
            Arg::one_of("wherefrom", ENDS),
            Arg::one_of("whereto", ENDS),
        ],
        ..Docs::NONE
    },
    ..MOVE
};

/// RPOPLPUSH source destination
const RPOPLPUSH: Command<Handler> = Command {
    name: "rpoplpush",
    handler: Some(rpoplpush),
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Moves the last element of a list before the first of another, and returns it.",
        deprecated_since: "6.2.0",
        replaced_by: "`LMOVE` with `RIGHT` and `LEFT`",
        arguments: &[Arg::key("source", 0), Arg::key("destination", 1)],
        ..Docs::NONE
    },
    ..MOVE
};

// ---- pushes ----

fn lpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Head, true)
}

fn rpush(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Tail, true)
}

fn lpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Head, false)
}

fn rpushx(ctx: &mut Ctx<'_>) -> CmdResult {
    push(ctx, End::Tail, false)
}

#[inline]
fn push(ctx: &mut Ctx<'_>, end: End, create: bool) -> CmdResult {
    let (key, elements) = (ctx.key(1), ctx.argv.tail(2));
    let length = if let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? {
        let list: &mut List = &mut list;
        elements.iter().for_each(|element| list.push(end, element));
        list.len()
    } else if create {
        make(ctx, key, end, elements)
    } else {
        ctx.reply.int(0);
        return Ok(());
    };
    ctx.reply.int(length as i64);
    ctx.store.modified_times(key.bytes, elements.len());
    ctx.store.notify(Event::LIST, push_event(end), key.bytes);
    Ok(())
}

/// Adds a list of these elements; their number.
#[inline(never)]
fn make(ctx: &mut Ctx<'_>, key: keyspace::Key<'_>, end: End, elements: Args<'_>) -> usize {
    let mut list = List::with_limits(&ctx.store.limits);
    elements.iter().for_each(|element| list.push(end, element));
    ctx.store.add(key, Object::List(list));
    elements.len()
}

fn linsert(ctx: &mut Ctx<'_>) -> CmdResult {
    let before = match ctx.argv.at(2) {
        place if is_token(place, "BEFORE") => true,
        place if is_token(place, "AFTER") => false,
        _ => return Err(CommandError::Syntax),
    };
    let key = ctx.key(1);
    let (pivot, element) = (ctx.argv.at(3), ctx.argv.at(4));
    let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let Some(at) = list.position(pivot) else {
        ctx.reply.int(-1);
        return Ok(());
    };
    if before {
        list.insert_before(at as i64, element);
    } else {
        list.insert_after(at as i64, element);
    }
    ctx.reply.int(list.len() as i64);
    drop(list);
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::LIST, "linsert", key.bytes);
    Ok(())
}

fn lset(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    // As in Redis, the index is looked at only when there is a list.
    let mut list = ctx.store.write_list(key).map_err(wrong_type)?.ok_or(CommandError::NoSuchKey)?;
    let index = ctx.argv.int(2)?;
    if !list.set(index, ctx.argv.at(3)) {
        return Err(CommandError::IndexOutOfRange);
    }
    drop(list);
    ctx.reply.ok();
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::LIST, "lset", key.bytes);
    Ok(())
}

// ---- reads ----

fn llen(ctx: &mut Ctx<'_>) -> CmdResult {
    let list = ctx.store.read_list(ctx.key(1)).map_err(wrong_type)?;
    ctx.reply.int(list.map_or(0, |list| list.len()) as i64);
    Ok(())
}

fn lindex(ctx: &mut Ctx<'_>) -> CmdResult {
    // As in Redis, the index is looked at only when there is a list.
    let Some(list) = ctx.store.read_list(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.null();
        return Ok(());
    };
    match list.index(ctx.argv.int(2)?) {
        Some(entry) => write(&mut ctx.reply, entry),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn lrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (start, stop) = (ctx.argv.int(2)?, ctx.argv.int(3)?);
    let list = ctx.store.read_list(ctx.key(1)).map_err(wrong_type)?;
    let Some((list, (start, count))) = list.and_then(|list| Some((list, span(start, stop, list.len())?)))
    else {
        ctx.reply.array(0);
        return Ok(());
    };
    let reply = &mut ctx.reply;
    reply.array(count);
    list.iter_from(start).visit(count, |entry| reply_entry(reply, entry));
    Ok(())
}

/// First index and number of elements from `start` to `stop`, both counted from the end when negative; `None` if the
/// range is empty.
fn span(start: i64, stop: i64, length: usize) -> Option<(usize, usize)> {
    let length = length as i64;
    let absolute = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let (start, stop) = (absolute(start).max(0), absolute(stop).min(length - 1));
    (start <= stop).then(|| (start as usize, (stop - start + 1) as usize))
}

fn lpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut rank = 1;
    let mut count = None;
    let mut max_len = 0;
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        if options.rest().is_empty() {
            return Err(CommandError::Syntax);
        }
        if is_token(option, "RANK") {
            rank = ctx.argv.int_within(options.index(), -i64::MAX..=i64::MAX)?;
            options.value()?;
            if rank == 0 {
                return Err(CommandError::fixed(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                     or use negative to start from the end of the list",
                ));
            }
        } else if is_token(option, "COUNT") {
            let negative = CommandError::fixed("ERR COUNT can't be negative");
            count = Some(options.int_within_or(0..=i64::MAX, negative)? as u64);
        } else if is_token(option, "MAXLEN") {
            let negative = CommandError::fixed("ERR MAXLEN can't be negative");
            max_len = options.int_within_or(0..=i64::MAX, negative)? as u64;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let Some(list) = ctx.store.read_list(ctx.key(1)).map_err(wrong_type)? else {
        match count {
            Some(_) => ctx.reply.array(0),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    let element = ctx.argv.at(2);
    let looked_at = if max_len == 0 {
        list.len()
    } else {
        list.len().min(usize::try_from(max_len).unwrap_or(usize::MAX))
    };
    let skipped = rank.unsigned_abs() - 1;
    let wanted = match count {
        None => 1,
        Some(0) => u64::MAX,
        Some(count) => count,
    };
    let mark = count.is_some().then(|| ctx.reply.begin_deferred());
    let mut found = 0usize;
    let reply = &mut ctx.reply;
    let each = |index: usize| {
        found += 1;
        reply.int(index as i64);
    };
    if rank > 0 {
        matches(list.iter().take(looked_at), element, skipped, wanted, each);
    } else {
        let last = list.len() - 1;
        matches(list.iter_rev().take(looked_at), element, skipped, wanted, {
            let mut each = each;
            move |index| each(last - index)
        });
    }
    match mark {
        Some(mark) => ctx.reply.end_array(mark, found),
        None if found == 0 => ctx.reply.null(),
        None => {}
    }
    Ok(())
}

/// Passes the indexes of entries that equal `element` to `each`: `wanted` of them after the first `skipped`.
fn matches<'e>(
    entries: impl Iterator<Item = Entry<'e>>,
    element: &[u8],
    mut skipped: u64,
    mut wanted: u64,
    mut each: impl FnMut(usize),
) {
    // The element as an entry is stored: text that is a canonical integer only ever equals an integer or plain bytes.
    let int = structures::number::parse_i64(element);
    for (index, entry) in entries.enumerate() {
        let equal = match entry {
            Entry::Int(value) => int == Some(value),
            Entry::Str(text) => text == element,
        };
        if !equal {
            continue;
        }
        if skipped > 0 {
            skipped -= 1;
            continue;
        }
        each(index);
        wanted -= 1;
        if wanted == 0 {
            return;
        }
    }
}

// ---- pops and removals ----

fn lpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Head)
}

fn rpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Tail)
}

#[inline]
fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let count = match ctx.argv.len() {
        2 => None,
        3 => Some(ctx.argv.positive(2)? as u64),
        _ => return Err(ctx.command.wrong_arity()),
    };
    let key = ctx.key(1);
    let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else {
        match count {
            Some(_) => ctx.reply.null_array(),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    let popped = match count {
        Some(0) => {
            ctx.reply.array(0);
            return Ok(());
        }
        Some(count) => pop_array(&mut list, end, count, &mut ctx.reply),
        None => {
            let reply = &mut ctx.reply;
            list.pop_with(end, |entry| write(reply, entry)).expect("no list is empty");
            1
        }
    };
    let emptied = list.is_empty();
    drop(list);
    popped_off(ctx, key, end, popped, emptied);
    Ok(())
}

/// Takes up to `count` elements off an end and replies with them as an array; how many.
fn pop_array(list: &mut List, end: End, count: u64, reply: &mut Reply<'_>) -> usize {
    let popped = list.len().min(usize::try_from(count).unwrap_or(usize::MAX));
    reply.array(popped);
    list.visit_from(end, popped, |entry| write(reply, entry));
    list.drop_from(end, popped);
    popped
}

/// The effects of having taken elements off a list.
#[inline]
fn popped_off(ctx: &mut Ctx<'_>, key: keyspace::Key<'_>, end: End, popped: usize, emptied: bool) {
    ctx.store.modified_times(key.bytes, popped);
    ctx.store.notify(Event::LIST, pop_event(end), key.bytes);
    if emptied {
        ctx.store.delete_if_empty(key);
    }
}

fn lmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let wanted = MultiPop::parse(ctx.argv, 1)?;
    if !pop_some(ctx, &wanted)? {
        ctx.reply.null_array();
    }
    Ok(())
}

/// The arguments of `LMPOP` and `BLMPOP`.
pub(super) struct MultiPop<'a> {
    pub keys: Args<'a>,
    end: End,
    count: u64,
}

impl<'a> MultiPop<'a> {
    /// Argument `at` is the number of keys.
    pub(super) fn parse(argv: Args<'a>, at: usize) -> Result<MultiPop<'a>, CommandError> {
        let (keys, numkeys) = counted_keys(argv, at)?;
        let place = argv.bytes(numkeys.saturating_add(at + 1))?;
        let end = parse_end(place)?;
        let mut count = None;
        let mut options = Options::new(argv, numkeys + at + 2);
        while let Some(option) = options.next() {
            if count.is_some() || !is_token(option, "COUNT") || options.rest().is_empty() {
                return Err(CommandError::Syntax);
            }
            let too_small = CommandError::fixed("ERR count should be greater than 0");
            count = Some(options.int_within_or(1..=i64::MAX, too_small)? as u64);
        }
        Ok(MultiPop { keys, end, count: count.unwrap_or(1) })
    }
}

/// Takes elements off the first list that has some, replies with them, and propagates that as one pop; false if there
/// is none.
pub(super) fn pop_some(ctx: &mut Ctx<'_>, wanted: &MultiPop<'_>) -> Result<bool, CommandError> {
    let end = wanted.end;
    for key in wanted.keys.iter().map(keyspace::Key::new) {
        if !ctx.considers(key.bytes) {
            continue;
        }
        let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else { continue };
        ctx.reply.array(2);
        ctx.reply.bulk(key.bytes);
        let popped = pop_array(&mut list, end, wanted.count, &mut ctx.reply);
        let emptied = list.is_empty();
        drop(list);
        popped_off(ctx, key, end, popped, emptied);
        ctx.store.effects.propagate_as(&[pop_verb(end), key.bytes, IntText::new().format(popped as i64)]);
        return Ok(true);
    }
    Ok(false)
}

/// Takes one element off the first of `keys` that has some, replies with both, and propagates that as one pop; false
/// if there is none.
pub(super) fn pop_one(ctx: &mut Ctx<'_>, keys: Args<'_>, end: End) -> Result<bool, CommandError> {
    for key in keys.iter().map(keyspace::Key::new) {
        if !ctx.considers(key.bytes) {
            continue;
        }
        let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else { continue };
        let reply = &mut ctx.reply;
        reply.array(2);
        reply.bulk(key.bytes);
        list.pop_with(end, |entry| write(reply, entry)).expect("no list is empty");
        let emptied = list.is_empty();
        drop(list);
        popped_off(ctx, key, end, 1, emptied);
        ctx.store.effects.propagate_as(&[pop_verb(end), key.bytes]);
        return Ok(true);
    }
    Ok(false)
}

fn pop_verb(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

fn ltrim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (start, stop) = (ctx.argv.int(2)?, ctx.argv.int(3)?);
    let key = ctx.key(1);
    let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else {
        ctx.reply.ok();
        return Ok(());
    };
    let length = list.len();
    let (start, kept) = span(start, stop, length).unwrap_or((length, 0));
    list.drop_from(End::Head, start);
    list.drop_from(End::Tail, length - start - kept);
    drop(list);
    ctx.reply.ok();
    // Redis signals and notifies even if nothing was cut off, but counts, and so propagates, what was.
    ctx.store.modified_times(key.bytes, length - kept);
    ctx.store.notify(Event::LIST, "ltrim", key.bytes);
    if kept == 0 {
        ctx.store.delete_if_empty(key);
    }
    Ok(())
}

fn lrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.argv.int(2)?;
    let key = ctx.key(1);
    let Some(mut list) = ctx.store.write_list(key).map_err(wrong_type)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let removed = list.remove_equal(ctx.argv.at(3), count);
    let emptied = list.is_empty();
    drop(list);
    ctx.reply.int(removed as i64);
    if removed > 0 {
        ctx.store.modified_times(key.bytes, removed);
        ctx.store.notify(Event::LIST, "lrem", key.bytes);
        if emptied {
            ctx.store.delete_if_empty(key);
        }
    }
    Ok(())
}

// ---- moves ----

fn lmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let from = parse_end(ctx.argv.at(3))?;
    let to = parse_end(ctx.argv.at(4))?;
    move_or_null(ctx, from, to)
}

fn rpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    move_or_null(ctx, End::Tail, End::Head)
}

fn move_or_null(ctx: &mut Ctx<'_>, from: End, to: End) -> CmdResult {
    if !move_one(ctx, from, to)? {
        ctx.reply.null();
    }
    Ok(())
}

/// Moves an element from the list of the first argument to that of the second, and replies with it; false if there is
/// none.
pub(super) fn move_one(ctx: &mut Ctx<'_>, from: End, to: End) -> Result<bool, CommandError> {
    let (source, destination) = (ctx.key(1), ctx.key(2));
    let same = source.bytes == destination.bytes;
    // Nothing may change before the other key is known to hold a list, or nothing; but without a source it may hold
    // what it likes.
    let refused = !same && ctx.store.peek(destination).is_some_and(|entry| entry.as_list().is_err());
    let Some(mut list) = ctx.store.write_list(source).map_err(wrong_type)? else { return Ok(false) };
    if refused {
        return Err(CommandError::WrongType);
    }
    let mut element: SmallVec<[u8; 256]> = SmallVec::new();
    list.pop_with(from, |entry| match entry {
        Entry::Str(text) => element.extend_from_slice(text),
        Entry::Int(value) => element.extend_from_slice(IntText::new().format(value)),
    })
    .expect("no list is empty");
    let emptied = list.is_empty() && !same;
    drop(list);
    if let Some(mut list) = ctx.store.write_list(destination).map_err(wrong_type)? {
        list.push(to, &element);
    } else {
        let mut list = List::with_limits(&ctx.store.limits);
        list.push(to, &element);
        ctx.store.add(destination, Object::List(list));
    }
    ctx.reply.bulk(&element);
    // One change in all, of two keys.
    ctx.store.modified_times(destination.bytes, 0);
    ctx.store.notify(Event::LIST, push_event(to), destination.bytes);
    ctx.store.modified(source.bytes);
    ctx.store.notify(Event::LIST, pop_event(from), source.bytes);
    if emptied {
        ctx.store.delete_if_empty(source);
    }
    Ok(true)
}

pub(super) fn parse_end(place: &[u8]) -> Result<End, CommandError> {
    match place {
        place if is_token(place, "LEFT") => Ok(End::Head),
        place if is_token(place, "RIGHT") => Ok(End::Tail),
        _ => Err(CommandError::Syntax),
    }
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    }
}

#[inline]
fn write(reply: &mut Reply<'_>, entry: Entry<'_>) {
    match entry {
        Entry::Str(text) => reply.bulk(text),
        Entry::Int(value) => reply.bulk_int(value),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    /// Runs commands and shows each reply.
    fn replies(h: &mut Harness, lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| h.run(line).replace(r"\r\n", " ").trim_end().to_owned()).collect()
    }

    fn check(h: &mut Harness, cases: &[(&str, &str)]) {
        for (line, reply) in cases {
            assert_eq!(h.run(line).replace(r"\r\n", " ").trim_end(), *reply, "{line}");
        }
    }

    /// Names of the events and their keys.
    fn events(h: &mut Harness, line: &str) -> Vec<String> {
        let raised = h.events(line);
        raised.iter().map(|event| format!("{} {}", event.name, event.key.escape_ascii())).collect()
    }

    #[test]
    fn pushes_and_pops_at_both_ends() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("LPUSHX l a", ":0"),
                ("RPUSHX l a", ":0"),
                ("LPUSH l a b c d", ":4"),
                ("RPUSH l 0 1 2 3", ":8"),
                ("LRANGE l 0 -1", "*8 $1 d $1 c $1 b $1 a $1 0 $1 1 $1 2 $1 3"),
                ("RPUSHX l 42 x", ":10"),
                ("LPUSHX l y", ":11"),
                ("LLEN l", ":11"),
                ("LPOP l", "$1 y"),
                ("RPOP l", "$1 x"),
                ("LPOP l 2", "*2 $1 d $1 c"),
                ("RPOP l 2", "*2 $2 42 $1 3"),
                ("LPOP l 0", "*0"),
                ("RPOP l 123", "*5 $1 2 $1 1 $1 0 $1 a $1 b"),
                ("LLEN l", ":0"),
                ("LPOP l", "$-1"),
                ("LPOP l 0", "*-1"),
                ("RPOP l 1", "*-1"),
                ("LPOP l -1", "-ERR value is out of range, must be positive"),
                ("LPOP l x", "-ERR value is out of range, must be positive"),
                ("RPOP l 1 1", r"-ERR wrong number of arguments for \'rpop\' command"),
            ],
        );
        h.resp3();
        check(&mut h, &[("LPOP l", "_"), ("LPOP l 0", "_"), ("RPUSH l a", ":1"), ("LPOP l 0", "*0")]);
    }

    #[test]
    fn effects_of_pushes_and_pops() {
        let mut h = Harness::new();
        assert_eq!(events(&mut h, "RPUSH l a b c d"), ["new l", "rpush l"]);
        assert_eq!(h.node.store.effects.dirty, 4);
        assert_eq!(events(&mut h, "LPUSHX none a"), [""; 0]);
        assert_eq!(events(&mut h, "LPOP l"), ["lpop l"]);
        assert_eq!(events(&mut h, "RPOP l 2"), ["rpop l"]);
        assert_eq!(events(&mut h, "LPOP l 0"), [""; 0]);
        assert_eq!(h.node.store.effects.dirty, 7);
        assert_eq!(events(&mut h, "LPOP l 9"), ["lpop l", "del l"]);
        assert_eq!(h.propagated(), ["SELECT 0", "RPUSH l a b c d", "LPOP l", "RPOP l 2", "LPOP l 9"]);
    }

    #[test]
    fn lmpop_propagates_what_it_popped() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("RPUSH b 1 2 3 4 5", ":5"),
                ("LMPOP 2 a b LEFT", "*2 $1 b *1 $1 1"),
                ("LMPOP 2 a b right COUNT 2", "*2 $1 b *2 $1 5 $1 4"),
                ("LMPOP 1 b LEFT count 10", "*2 $1 b *2 $1 2 $1 3"),
                ("LMPOP 2 a b LEFT", "*-1"),
                ("LMPOP 0 a LEFT", "-ERR numkeys should be greater than 0"),
                ("LMPOP x a LEFT", "-ERR numkeys should be greater than 0"),
                ("LMPOP 9223372036854775807 a LEFT", "-ERR syntax error"),
                ("LMPOP 1 a RIGHTS", "-ERR syntax error"),
                ("LMPOP 2 a LEFT", "-ERR syntax error"),
                ("LMPOP 1 a LEFT COUNT", "-ERR syntax error"),
                ("LMPOP 1 a LEFT COUNT 0", "-ERR count should be greater than 0"),
                ("LMPOP 1 a LEFT COUNT -1", "-ERR count should be greater than 0"),
                ("LMPOP 1 a LEFT COUNT 1 COUNT 2", "-ERR syntax error"),
                ("LMPOP 1 a LEFT COUNT 1 x", "-ERR syntax error"),
            ],
        );
        assert_eq!(h.propagated(), ["SELECT 0", "RPUSH b 1 2 3 4 5", "LPOP b 1", "RPOP b 2", "LPOP b 2"]);
        h.run("RPUSH b 1");
        assert_eq!(events(&mut h, "LMPOP 2 a b LEFT COUNT 3"), ["lpop b", "del b"]);
        assert_eq!(h.resp3().run("LMPOP 1 b LEFT"), r"_\r\n");
    }

    #[test]
    fn reads_by_index_and_range() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("LINDEX l notanumber", "$-1"),
                ("LRANGE l 0 x", "-ERR value is not an integer or out of range"),
                ("LRANGE l 0 1", "*0"),
                ("RPUSH l a b c -1", ":4"),
                ("LINDEX l 0", "$1 a"),
                ("LINDEX l -1", "$2 -1"),
                ("LINDEX l 4", "$-1"),
                ("LINDEX l -5", "$-1"),
                ("LINDEX l notanumber", "-ERR value is not an integer or out of range"),
                ("LRANGE l 1 2", "*2 $1 b $1 c"),
                ("LRANGE l -2 -1", "*2 $1 c $2 -1"),
                ("LRANGE l -100 100", "*4 $1 a $1 b $1 c $2 -1"),
                ("LRANGE l 2 1", "*0"),
                ("LRANGE l 4 9", "*0"),
                ("LRANGE l -9223372036854775808 9223372036854775807", "*4 $1 a $1 b $1 c $2 -1"),
                ("LRANGE l 9223372036854775807 -9223372036854775808", "*0"),
            ],
        );
    }

    #[test]
    fn lset_and_linsert() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("LSET l x v", "-ERR no such key"),
                ("LINSERT l BEFORE p v", ":0"),
                ("RPUSH l a b c", ":3"),
                ("LSET l x v", "-ERR value is not an integer or out of range"),
                ("LSET l 3 v", "-ERR index out of range"),
                ("LSET l -4 v", "-ERR index out of range"),
                ("LSET l -1 77", "+OK"),
                ("LINSERT l before 77 76", ":4"),
                ("LINSERT l AFTER 77 78", ":5"),
                ("LINSERT l AFTER none v", ":-1"),
                ("LINSERT l aft3r 77 78", "-ERR syntax error"),
                ("LRANGE l 0 -1", "*5 $1 a $1 b $2 76 $2 77 $2 78"),
            ],
        );
        assert_eq!(events(&mut h, "LSET l 0 z"), ["lset l"]);
        assert_eq!(events(&mut h, "LINSERT l after z y"), ["linsert l"]);
        assert_eq!(events(&mut h, "LINSERT l after none y"), [""; 0]);
        let log = h.propagated();
        assert_eq!(
            log[2..],
            [
                "LSET l -1 77",
                "LINSERT l before 77 76",
                "LINSERT l AFTER 77 78",
                "LSET l 0 z",
                "LINSERT l after z y"
            ]
        );
    }

    #[test]
    fn ltrim_signals_always_but_propagates_only_what_it_cut() {
        let mut h = Harness::new();
        h.run("RPUSH l 1 2 3 4 5");
        h.propagated();
        assert_eq!(events(&mut h, "LTRIM l 0 -1"), ["ltrim l"]);
        assert_eq!(h.propagated(), [""; 0]);
        assert_eq!(
            replies(&mut h, &["LTRIM l 1 -2", "LRANGE l 0 -1", "LTRIM none 0 1"]),
            ["+OK", "*3 $1 2 $1 3 $1 4", "+OK"]
        );
        assert_eq!(h.node.store.effects.dirty, 7);
        assert_eq!(h.propagated(), ["LTRIM l 1 -2"]);
        assert_eq!(events(&mut h, "LTRIM l 5 1"), ["ltrim l", "del l"]);
        assert_eq!(h.propagated(), ["LTRIM l 5 1"]);
        assert_eq!(h.run("LLEN l"), r":0\r\n");
    }

    #[test]
    fn a_trim_that_cuts_nothing_fails_a_watch() {
        let mut h = Harness::new();
        h.run("RPUSH l a");
        let other = h.connect();
        h.run("WATCH l");
        h.run_on(other, "LTRIM l 0 -1");
        assert_eq!(replies(&mut h, &["MULTI", "LLEN l", "EXEC"]), ["+OK", "+QUEUED", "*-1"]);
    }

    #[test]
    fn lrem_from_both_sides() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("RPUSH l foo bar foobar foobared zap bar test foo bar", ":9"),
                ("LREM l 1 bar", ":1"),
                ("LREM l -1 bar", ":1"),
                ("LRANGE l 0 -1", "*7 $3 foo $6 foobar $8 foobared $3 zap $3 bar $4 test $3 foo"),
                ("LREM l 0 foo", ":2"),
                ("LREM l 0 none", ":0"),
                ("LREM none 0 x", ":0"),
                ("LREM l x y", "-ERR value is not an integer or out of range"),
                ("RPUSH l 7 7", ":7"),
                ("LREM l -9223372036854775808 7", ":2"),
            ],
        );
        assert_eq!(events(&mut h, "LREM l 0 none"), [""; 0]);
        assert_eq!(events(&mut h, "LREM l 0 zap"), ["lrem l"]);
        for element in ["foobar", "foobared", "bar"] {
            h.run(&format!("LREM l 0 {element}"));
        }
        assert_eq!(events(&mut h, "LREM l 0 test"), ["lrem l", "del l"]);
    }

    #[test]
    fn lpos_with_all_options() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("RPUSH l a b c 1 2 3 c c", ":8"),
                ("LPOS l a", ":0"),
                ("LPOS l 2", ":4"),
                ("LPOS l c RANK 2", ":6"),
                ("LPOS l c RANK 4", "$-1"),
                ("LPOS l c RANK -1", ":7"),
                ("LPOS l c RANK -2", ":6"),
                ("LPOS l c COUNT 0", "*3 :2 :6 :7"),
                ("LPOS l c COUNT 1", "*1 :2"),
                ("LPOS l c COUNT 2 RANK -1", "*2 :7 :6"),
                ("LPOS l c COUNT 0 RANK 2", "*2 :6 :7"),
                ("LPOS l c COUNT 0 MAXLEN 3 RANK -1", "*2 :7 :6"),
                ("LPOS l c COUNT 0 MAXLEN 7 RANK 2", "*1 :6"),
                ("LPOS l c COUNT 0 MAXLEN 1", "*0"),
                ("LPOS l x RANK -1", "$-1"),
                ("LPOS l x COUNT 2", "*0"),
                ("LPOS none c COUNT 0", "*0"),
                ("LPOS none c", "$-1"),
                ("LPOS l c COUNT -1", r"-ERR COUNT can\'t be negative"),
                ("LPOS l c MAXLEN x", r"-ERR MAXLEN can\'t be negative"),
                ("LPOS l c RANK", "-ERR syntax error"),
                ("LPOS l c BAD 1", "-ERR syntax error"),
                ("LPOS l c RANK x", "-ERR value is not an integer or out of range"),
                (
                    "LPOS l c RANK 0",
                    r"-ERR RANK can\'t be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ),
            ],
        );
    }

    #[test]
    fn moves_between_and_within_lists() {
        let mut h = Harness::new();
        check(
            &mut h,
            &[
                ("RPUSH a 1 2 3", ":3"),
                ("RPOPLPUSH a b", "$1 3"),
                ("LMOVE a b LEFT RIGHT", "$1 1"),
                ("LRANGE b 0 -1", "*2 $1 3 $1 1"),
                ("LMOVE b b left right", "$1 3"),
                ("LRANGE b 0 -1", "*2 $1 1 $1 3"),
                ("RPOPLPUSH none b", "$-1"),
                ("LMOVE a b UP LEFT", "-ERR syntax error"),
                ("LMOVE a b LEFT DOWN", "-ERR syntax error"),
            ],
        );
        h.propagated();
        assert_eq!(events(&mut h, "LMOVE a b LEFT RIGHT"), ["rpush b", "lpop a", "del a"]);
        assert_eq!(h.propagated(), ["LMOVE a b LEFT RIGHT"]);
        h.run("RPUSH one x");
        assert_eq!(events(&mut h, "RPOPLPUSH one one"), ["lpush one", "rpop one"]);
        assert_eq!(h.run("LLEN one"), r":1\r\n");
    }

    #[test]
    fn other_types_are_refused_and_stay() {
        let mut h = Harness::new();
        h.run("HSET h f v");
        h.run("RPUSH l a");
        h.propagated();
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for line in [
            "LPUSH h a",
            "RPUSHX h a",
            "LPOP h",
            "RPOP h 1",
            "LLEN h",
            "LINDEX h x",
            "LSET h x v",
            "LRANGE h 0 1",
            "LTRIM h 0 1",
            "LREM h 0 a",
            "LINSERT h BEFORE a b",
            "LPOS h a",
            "LMOVE h l LEFT LEFT",
            "LMOVE l h LEFT LEFT",
            "RPOPLPUSH h h",
            "LMPOP 2 none h LEFT",
        ] {
            assert_eq!(replies(&mut h, &[line]), [wrong], "{line}");
        }
        assert_eq!(replies(&mut h, &["LMOVE none h LEFT LEFT", "LRANGE l 0 -1"]), ["$-1", "*1 $1 a"]);
        assert_eq!(h.propagated(), [""; 0]);
    }

    #[test]
    fn lists_follow_the_fill_and_the_packed_threshold() {
        use keyspace::{EntryExt, Key, list::Node};
        let mut h = Harness::new();
        h.node.store.limits.list_fill = 2;
        h.run("RPUSH l a b c d e");
        h.node.store.limits.packed_threshold = 3;
        h.run("RPUSH l long");
        h.run("LSET l 0 longer");
        h.run("LINSERT l AFTER longer inserted");
        let entry = h.node.store.peek(Key::new(b"l")).unwrap();
        let plain: Vec<bool> =
            entry.as_list().unwrap().nodes().map(|node| matches!(node, Node::Plain(_))).collect();
        assert_eq!(entry.encoding(), "quicklist");
        assert_eq!(plain.iter().filter(|plain| **plain).count(), 3);
        assert!(plain[0] && plain[1] && plain[plain.len() - 1], "{plain:?}");
        assert_eq!(
            replies(&mut h, &["LRANGE l 0 -1"]),
            ["*7 $6 longer $8 inserted $1 b $1 c $1 d $1 e $4 long"]
        );
    }

    #[test]
    fn long_elements_and_long_lists() {
        let mut h = Harness::new();
        let long = "x".repeat(20_000);
        for index in 0..600 {
            h.run(&format!("RPUSH l {index}"));
        }
        h.run(&format!("LINSERT l BEFORE 300 {long}"));
        assert_eq!(h.run("LINDEX l 300"), format!(r"$20000\r\n{long}\r\n"));
        for index in [0, 1, 299, 301, 599] {
            let value = if index > 300 { index - 1 } else { index };
            let text = value.to_string();
            assert_eq!(h.run(&format!("LINDEX l {index}")), format!(r"${}\r\n{text}\r\n", text.len()));
        }
        assert_eq!(h.run(&format!("LPOS l {long}")), r":300\r\n");
        assert_eq!(h.run(&format!("LREM l -1 {long}")), r":1\r\n");
        assert!(h.run("LRANGE l 0 599").starts_with(r"*600\r\n$1\r\n0\r\n"));
    }
}
