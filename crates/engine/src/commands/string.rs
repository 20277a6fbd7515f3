//! Strings as wholes: `SET` and `GET` with their variants, and several at once.
//!
//! Relative expiries reach the log as points in time: whatever sets one propagates `SET key value PXAT time` or
//! `PEXPIREAT key time`. Parts of strings are in `substring`, numbers in `counter`.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, FindKeys, Flag, Flags, Group, Key, KeyFlags,
    KeyRef, KeySpec, Keys, Options, ParseArgs, is_token, parse_i64,
};
use keyspace::db::ExpireChange;
use keyspace::{Entry, EntryExt, Str};
use resp::{Args, Reply};
use structures::number::IntText;

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::store::Expiry;

pub const COMMANDS: &[Command<Handler>] =
    &[DELIFEQ, GET, GETDEL, GETEX, GETSET, MGET, MSET, MSETEX, MSETNX, PSETEX, SET, SETEX, SETNX, STRLEN];

/// DELIFEQ key value
const DELIFEQ: Command<Handler> = Command {
    name: "delifeq",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rm, Key::Delete])],
    docs: &Docs {
        summary: "Deletes a key if it holds this string.",
        since: "9.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(delifeq)
};

/// GET key
const GET: Command<Handler> = Command {
    name: "get",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns the string that a key holds.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(get)
};

/// GETDEL key
const GETDEL: Command<Handler> = Command {
    name: "getdel",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    docs: &Docs {
        summary: "Returns the string that a key holds and deletes the key.",
        since: "6.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(getdel)
};

/// GETEX key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]
const GETEX: Command<Handler> = Command {
    name: "getex",
    group: Group::String,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update]).notes("Changes the expiry")],
    docs: &Docs {
        summary: "Returns the string that a key holds and may change the key's expiry.",
        since: "6.2.0",
        complexity: "O(1)",
        arguments: &[
            Arg::key("key", 0),
            Arg::one_of(
                "expiration",
                &[
                    Arg::integer("seconds").token("EX"),
                    Arg::integer("milliseconds").token("PX"),
                    Arg::unix_time("unix-time-seconds").token("EXAT"),
                    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
                    Arg::pure_token("persist", "PERSIST"),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(getex)
};

/// GETSET key value
const GETSET: Command<Handler> = Command {
    name: "getset",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])],
    docs: &Docs {
        summary: "Stores a string and returns the one before it.",
        since: "1.0.0",
        complexity: "O(1)",
        deprecated_since: "6.2.0",
        replaced_by: "`SET` with the `!GET` argument",
        arguments: &[Arg::key("key", 0), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(getset)
};

/// MGET key [key …]
const MGET: Command<Handler> = Command {
    name: "mget",
    group: Group::String,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Ro, Key::Access])],
    tips: &["request_policy:multi_shard"],
    docs: &Docs {
        summary: "Returns the strings of several keys.",
        since: "1.0.0",
        complexity: "O(N), N being the number of keys",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(mget)
};

/// MSET key value [key value …]
const MSET: Command<Handler> = Command {
    name: "mset",
    group: Group::String,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::range(1, -1, 2, &[Key::Ow, Key::Update])],
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    docs: &Docs {
        summary: "Stores several strings, all or none.",
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        arguments: &[Arg::block("key_value", &[Arg::key("key", 0), Arg::string("value")]).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(mset)
};

/// MSETEX numkeys key value [key value …] [NX|XX]
///   [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]
const MSETEX: Command<Handler> = Command {
    name: "msetex",
    group: Group::String,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::count_at(1, &[Key::Ow, Key::Update]).find(FindKeys::Count {
        count_at: 0,
        first: 1,
        step: 2,
    })],
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    docs: &Docs {
        summary: "Stores several strings, all or none, under one condition and with one expiry.",
        since: "9.1.0",
        complexity: "O(N), N being the number of keys",
        arguments: &[
            Arg::integer("numkeys"),
            Arg::block("data", &[Arg::key("key", 0), Arg::string("value")]).multiple(),
            Arg::one_of("condition", &[Arg::pure_token("nx", "NX"), Arg::pure_token("xx", "XX")]).optional(),
            Arg::one_of(
                "expiration",
                &[
                    Arg::integer("seconds").token("EX"),
                    Arg::integer("milliseconds").token("PX"),
                    Arg::unix_time("unix-time-seconds").token("EXAT"),
                    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
                    Arg::pure_token("keepttl", "KEEPTTL"),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(msetex)
};

/// MSETNX key value [key value …]
const MSETNX: Command<Handler> = Command {
    name: "msetnx",
    group: Group::String,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::range(1, -1, 2, &[Key::Ow, Key::Insert])],
    tips: &["request_policy:multi_shard", "response_policy:agg_min"],
    docs: &Docs {
        summary: "Stores several strings if none of the keys exists.",
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        arguments: &[Arg::block("key_value", &[Arg::key("key", 0), Arg::string("value")]).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(msetnx)
};

/// PSETEX key milliseconds value
const PSETEX: Command<Handler> = Command {
    name: "psetex",
    group: Group::String,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update])],
    docs: &Docs {
        summary: "Stores a string with a time to live in milliseconds.",
        since: "2.6.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("milliseconds"), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(psetex)
};

/// SET key value [NX|XX|IFEQ comparison-value] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]
const SET: Command<Handler> = Command {
    name: "set",
    group: Group::String,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[
        KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update, Key::VariableFlags]).notes("Read only with GET")
    ],
    get_keys: Some(set_keys),
    docs: &Docs {
        summary: "Stores a string under a key, whatever it held, and may read the old value or set an expiry on the way.",
        since: "1.0.0",
        complexity: "O(1)",
        history: &[
            ("2.6.12", "EX, PX, NX and XX."),
            ("6.0.0", "KEEPTTL."),
            ("6.2.0", "GET, EXAT and PXAT."),
            ("7.0.0", "NX together with GET."),
            ("8.1.0", "IFEQ, in Valkey."),
        ],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("value"),
            Arg::one_of(
                "condition",
                &[
                    Arg::pure_token("nx", "NX").since("2.6.12"),
                    Arg::pure_token("xx", "XX").since("2.6.12"),
                    Arg::string("comparison-value").token("IFEQ").since("8.1.0"),
                ],
            )
            .optional(),
            Arg::pure_token("get", "GET").since("6.2.0").optional(),
            Arg::one_of(
                "expiration",
                &[
                    Arg::integer("seconds").token("EX").since("2.6.12"),
                    Arg::integer("milliseconds").token("PX").since("2.6.12"),
                    Arg::unix_time("unix-time-seconds").token("EXAT").since("6.2.0"),
                    Arg::unix_time("unix-time-milliseconds").token("PXAT").since("6.2.0"),
                    Arg::pure_token("keepttl", "KEEPTTL").since("6.0.0"),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(set)
};

/// SETEX key seconds value
const SETEX: Command<Handler> = Command {
    name: "setex",
    group: Group::String,
    arity: Arity::Exactly(4),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update])],
    docs: &Docs {
        summary: "Stores a string with a time to live in seconds.",
        since: "2.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::integer("seconds"), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(setex)
};

/// SETNX key value
const SETNX: Command<Handler> = Command {
    name: "setnx",
    group: Group::String,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Insert])],
    docs: &Docs {
        summary: "Stores a string under a key that does not exist.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0), Arg::string("value")],
        ..Docs::NONE
    },
    ..Command::runs(setnx)
};

/// STRLEN key
const STRLEN: Command<Handler> = Command {
    name: "strlen",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ro])],
    docs: &Docs {
        summary: "Returns the length of a string.",
        since: "2.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(strlen)
};

/// What a write demands of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Absent,
    Present,
    /// It holds this string.
    Equals(&'a [u8]),
}

/// How an argument spells an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExpireUnit {
    /// Milliseconds in one.
    millis: i64,
    relative: bool,
}

const EX: ExpireUnit = ExpireUnit { millis: 1000, relative: true };
const PX: ExpireUnit = ExpireUnit { millis: 1, relative: true };
const EXAT: ExpireUnit = ExpireUnit { millis: 1000, relative: false };
const PXAT: ExpireUnit = ExpireUnit { millis: 1, relative: false };

/// What a `SET` or a `GETEX` is asked to do with the expiry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ExpireOption<'a> {
    /// Nothing was said: `SET` clears it, `GETEX` leaves it.
    #[default]
    Unsaid,
    Keep,
    Persist,
    In(ExpireUnit, &'a [u8]),
}

impl<'a> ExpireOption<'a> {
    /// Takes an option that names a unit, with its value; false if it is no such option.
    fn take_unit(&mut self, option: &[u8], options: &mut Options<'a>) -> Result<bool, CommandError> {
        let units = [("EX", EX), ("PX", PX), ("EXAT", EXAT), ("PXAT", PXAT)];
        let Some((_, unit)) = units.into_iter().find(|(name, _)| is_token(option, name)) else {
            return Ok(false);
        };
        match *self {
            // The same unit may be said again: the last one counts.
            ExpireOption::Unsaid => {}
            ExpireOption::In(said, _) if said == unit => {}
            _ => return Err(CommandError::Syntax),
        }
        *self = ExpireOption::In(unit, options.value()?);
        Ok(true)
    }

    /// The point in time in milliseconds since the epoch, if one was given.
    fn at_ms(self, now_ms: i64, command: &'static str) -> Result<Option<i64>, CommandError> {
        match self {
            ExpireOption::In(unit, text) => expire_at(unit, text, now_ms, command).map(Some),
            _ => Ok(None),
        }
    }
}

/// Reads an expiry, which must be positive and fit 64 bits of milliseconds.
fn expire_at(unit: ExpireUnit, text: &[u8], now_ms: i64, command: &'static str) -> Result<i64, CommandError> {
    let value = parse_i64(text).ok_or(CommandError::NotInteger)?;
    let base = if unit.relative { now_ms } else { 0 };
    (value > 0)
        .then(|| value.checked_mul(unit.millis)?.checked_add(base))
        .flatten()
        .ok_or(CommandError::InvalidExpire(command.into()))
}

/// What `SET` and `MSETEX` are told besides keys and values.
#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Option<Condition<'a>>,
    get: bool,
    expire: ExpireOption<'a>,
}

impl<'a> SetOptions<'a> {
    /// Takes an option that both commands have; false if it is none.
    fn take(&mut self, option: &[u8], options: &mut Options<'a>) -> Result<bool, CommandError> {
        use Condition::{Absent, Present};
        if is_token(option, "NX") && matches!(self.condition, None | Some(Absent)) {
            self.condition = Some(Absent);
        } else if is_token(option, "XX") && matches!(self.condition, None | Some(Present)) {
            self.condition = Some(Present);
        } else if is_token(option, "KEEPTTL")
            && matches!(self.expire, ExpireOption::Unsaid | ExpireOption::Keep)
        {
            self.expire = ExpireOption::Keep;
        } else {
            return self.expire.take_unit(option, options);
        }
        Ok(true)
    }

    fn of_set(argv: Args<'a>) -> Result<SetOptions<'a>, CommandError> {
        let mut set = SetOptions::default();
        let mut options = Options::new(argv, 3);
        while let Some(option) = options.next() {
            if is_token(option, "GET") {
                set.get = true;
            } else if is_token(option, "IFEQ") && set.condition.is_none() {
                set.condition = Some(Condition::Equals(options.value()?));
            } else if !set.take(option, &mut options)? {
                return Err(CommandError::Syntax);
            }
        }
        Ok(set)
    }

    /// What becomes of the expiry of a key; `at_ms` is what [`ExpireOption::at_ms`] gave.
    fn expire_change(&self, at_ms: Option<i64>) -> ExpireChange {
        match (self.expire, at_ms) {
            (_, Some(at)) => ExpireChange::At(at),
            (ExpireOption::Keep, None) => ExpireChange::Keep,
            _ => ExpireChange::Clear,
        }
    }
}

/// `SET` reads the key only with `GET`.
fn set_keys(argv: Args<'_>) -> Option<Keys> {
    let reads = argv.tail(3).iter().any(|option| is_token(option, "GET"));
    let flags: &[Key] = if reads { &[Key::Rw, Key::Access, Key::Update] } else { &[Key::Ow, Key::Update] };
    Some([KeyRef { index: 1, flags: KeyFlags::of(flags) }].into_iter().collect())
}

fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, value) = (ctx.key(1), ctx.argv.at(2));
    if ctx.argv.len() == 3 {
        ctx.store.set_str(key, value, ExpireChange::Clear);
        stored(ctx, key.bytes);
        ctx.reply.ok();
        return Ok(());
    }
    let options = SetOptions::of_set(ctx.argv)?;
    let at_ms = options.expire.at_ms(ctx.store.now_ms, "set")?;
    if options.get {
        match ctx.store.read(key) {
            None => ctx.reply.null(),
            Some(entry) => reply_str(&mut ctx.reply, entry.as_str().map_err(wrong_type)?),
        }
    }
    if !admits(ctx, key, options.condition)? {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    ctx.store.set_str(key, value, options.expire_change(at_ms));
    stored(ctx, key.bytes);
    if let Some(at) = at_ms {
        expire_stored(ctx, key.bytes, value, at);
    } else if let Some(Condition::Equals(_)) = options.condition {
        // It held: others, who may not know the option, just store.
        match options.expire {
            ExpireOption::Keep => ctx.store.effects.propagate_as(&[b"SET", key.bytes, value, b"KEEPTTL"]),
            _ => ctx.store.effects.propagate_as(&[b"SET", key.bytes, value]),
        }
    } else if options.get && ctx.store.effects.recording {
        // What was read is of no interest to others.
        let is_get = |index: usize, arg: &[u8]| index >= 3 && is_token(arg, "GET");
        let args: Vec<&[u8]> = ctx
            .argv
            .iter()
            .enumerate()
            .filter(|(index, arg)| !is_get(*index, arg))
            .map(|(_, arg)| arg)
            .collect();
        ctx.store.effects.propagate_as(&args);
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

/// True if the key is as the condition demands.
fn admits(
    ctx: &mut Ctx<'_>,
    key: keyspace::Key<'_>,
    condition: Option<Condition<'_>>,
) -> Result<bool, CommandError> {
    Ok(match condition {
        None => true,
        Some(Condition::Absent) => ctx.store.write(key).is_none(),
        Some(Condition::Present) => ctx.store.write(key).is_some(),
        Some(Condition::Equals(text)) => match ctx.store.write(key) {
            None => false,
            Some(entry) => entry.as_str().map_err(wrong_type)?.text(&mut IntText::new()) == text,
        },
    })
}

/// A string was stored under `key`.
#[inline]
fn stored(ctx: &mut Ctx<'_>, key: &[u8]) {
    ctx.store.modified(key);
    ctx.store.notify(Event::STRING, "set", key);
}

/// The string that was just stored got an expiry.
fn expire_stored(ctx: &mut Ctx<'_>, key: &[u8], value: &[u8], at_ms: i64) {
    ctx.store.notify(Event::GENERIC, "expire", key);
    ctx.store.effects.propagate_as(&[b"SET", key, value, b"PXAT", IntText::new().format(at_ms)]);
}

fn setnx(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let absent = ctx.store.write(key).is_none();
    if absent {
        ctx.store.set_str(key, ctx.argv.at(2), ExpireChange::Clear);
        stored(ctx, key.bytes);
    }
    ctx.reply.int(i64::from(absent));
    Ok(())
}

fn setex(ctx: &mut Ctx<'_>) -> CmdResult {
    set_for(ctx, EX, "setex")
}

fn psetex(ctx: &mut Ctx<'_>) -> CmdResult {
    set_for(ctx, PX, "psetex")
}

fn set_for(ctx: &mut Ctx<'_>, unit: ExpireUnit, command: &'static str) -> CmdResult {
    let (key, value) = (ctx.key(1), ctx.argv.at(3));
    let at = expire_at(unit, ctx.argv.at(2), ctx.store.now_ms, command)?;
    ctx.store.set_str(key, value, ExpireChange::At(at));
    stored(ctx, key.bytes);
    expire_stored(ctx, key.bytes, value, at);
    ctx.reply.ok();
    Ok(())
}

/// Writes a string value as it lies.
#[inline]
pub(super) fn reply_str(reply: &mut Reply<'_>, value: Str<'_>) {
    match value {
        Str::Int(value) => reply.bulk_int(value),
        Str::Bytes(bytes) => reply.bulk(bytes),
        Str::Shared(bytes) => reply.bulk_shared(bytes),
    }
}

/// Reads the string of argument 1 and writes it, or null; true if the key exists.
#[inline]
fn reply_key(ctx: &mut Ctx<'_>) -> Result<bool, CommandError> {
    let Some(entry) = ctx.store.read(ctx.key(1)) else {
        ctx.reply.null();
        return Ok(false);
    };
    reply_str(&mut ctx.reply, entry.as_str().map_err(wrong_type)?);
    Ok(true)
}

fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    reply_key(ctx)?;
    Ok(())
}

fn getset(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, value) = (ctx.key(1), ctx.argv.at(2));
    reply_key(ctx)?;
    ctx.store.set_str(key, value, ExpireChange::Clear);
    stored(ctx, key.bytes);
    ctx.store.effects.propagate_as(&[b"SET", key.bytes, value]);
    Ok(())
}

fn getdel(ctx: &mut Ctx<'_>) -> CmdResult {
    if reply_key(ctx)? {
        let key = ctx.key(1);
        let lazily = ctx.store.lazy.user_del;
        ctx.store.delete_quietly(key, lazily);
        deleted_instead(ctx, key.bytes, if lazily { b"UNLINK" } else { b"DEL" });
    }
    Ok(())
}

/// The command came to deleting the key: `verb` says so to others.
pub(super) fn deleted_instead(ctx: &mut Ctx<'_>, key: &[u8], verb: &[u8]) {
    ctx.store.modified(key);
    ctx.store.notify(Event::GENERIC, "del", key);
    ctx.store.effects.propagate_as(&[verb, key]);
}

fn delifeq(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let equal = admits(ctx, key, Some(Condition::Equals(ctx.argv.at(2))))?;
    if equal {
        ctx.store.delete_quietly(key, false);
        deleted_instead(ctx, key.bytes, b"DEL");
    }
    ctx.reply.int(i64::from(equal));
    Ok(())
}

fn getex(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut expire = ExpireOption::Unsaid;
    let mut options = Options::new(ctx.argv, 2);
    while let Some(option) = options.next() {
        if is_token(option, "PERSIST") && matches!(expire, ExpireOption::Unsaid | ExpireOption::Persist) {
            expire = ExpireOption::Persist;
        } else if !expire.take_unit(option, &mut options)? {
            return Err(CommandError::Syntax);
        }
    }
    let (key, now_ms) = (ctx.key(1), ctx.store.now_ms);
    let Some(entry) = ctx.store.read(key) else {
        ctx.reply.null();
        return Ok(());
    };
    let value = entry.as_str().map_err(wrong_type)?;
    // Like Redis, complains about the time only if there is a key that it would be for.
    let at_ms = expire.at_ms(now_ms, "getex")?;
    let persists = expire == ExpireOption::Persist && entry.expire_at().is_some();
    reply_str(&mut ctx.reply, value);
    match at_ms {
        Some(at) if at <= now_ms && ctx.store.expiry == Expiry::Delete => {
            ctx.store.delete_quietly(key, ctx.store.lazy.expire);
            let verb = ctx.store.expiry_verb();
            deleted_instead(ctx, key.bytes, verb);
        }
        Some(at) => {
            ctx.store.set_expire(key, Some(at));
            ctx.store.modified(key.bytes);
            ctx.store.notify(Event::GENERIC, "expire", key.bytes);
            ctx.store.effects.propagate_as(&[b"PEXPIREAT", key.bytes, IntText::new().format(at)]);
        }
        None if persists => {
            ctx.store.set_expire(key, None);
            ctx.store.modified(key.bytes);
            ctx.store.notify(Event::GENERIC, "persist", key.bytes);
            ctx.store.effects.propagate_as(&[b"PERSIST", key.bytes]);
        }
        None => {}
    }
    Ok(())
}

fn mget(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.array(ctx.argv.len() - 1);
    for index in 1..ctx.argv.len() {
        match ctx.store.read(ctx.key(index)).map(Entry::as_str) {
            Some(Ok(value)) => reply_str(&mut ctx.reply, value),
            Some(Err(_)) | None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn mset(ctx: &mut Ctx<'_>) -> CmdResult {
    check_pairs(ctx)?;
    set_pairs(ctx);
    ctx.reply.ok();
    Ok(())
}

fn msetnx(ctx: &mut Ctx<'_>) -> CmdResult {
    check_pairs(ctx)?;
    let keys = (1..ctx.argv.len()).step_by(2);
    let absent = keys.into_iter().all(|index| ctx.store.write(ctx.key(index)).is_none());
    if absent {
        set_pairs(ctx);
    }
    ctx.reply.int(i64::from(absent));
    Ok(())
}

/// How many pairs of key and value follow the count.
fn msetex_pairs(argv: Args<'_>) -> Result<usize, CommandError> {
    let count = CommandError::fixed("ERR invalid numkeys value or out of range");
    let pairs = argv.int_within_or(1, 1..=i64::from(i32::MAX), count)? as usize;
    if argv.len() < 2 + 2 * pairs { Err(CommandError::Syntax) } else { Ok(pairs) }
}

fn msetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let pairs = msetex_pairs(ctx.argv)?;
    let (mut set, mut options) = (SetOptions::default(), Options::new(ctx.argv, 2 + 2 * pairs));
    while let Some(option) = options.next() {
        if !set.take(option, &mut options)? {
            return Err(CommandError::Syntax);
        }
    }
    let at_ms = set.expire.at_ms(ctx.store.now_ms, "msetex")?;
    for pair in 0..pairs {
        let key = ctx.key(2 + 2 * pair);
        if !admits(ctx, key, set.condition)? {
            ctx.reply.int(0);
            return Ok(());
        }
    }
    for pair in 0..pairs {
        let (key, value) = (ctx.key(2 + 2 * pair), ctx.argv.at(3 + 2 * pair));
        ctx.store.set_str(key, value, set.expire_change(at_ms));
        stored(ctx, key.bytes);
        match (at_ms, set.expire) {
            (Some(at), _) => expire_stored(ctx, key.bytes, value, at),
            (None, ExpireOption::Keep) => {
                ctx.store.effects.propagate_as(&[b"SET", key.bytes, value, b"KEEPTTL"]);
            }
            (None, _) => ctx.store.effects.propagate_as(&[b"SET", key.bytes, value]),
        }
    }
    ctx.reply.int(1);
    Ok(())
}

fn check_pairs(ctx: &Ctx<'_>) -> CmdResult {
    if ctx.argv.len().is_multiple_of(2) { Err(ctx.command.wrong_arity()) } else { Ok(()) }
}

fn set_pairs(ctx: &mut Ctx<'_>) {
    for index in (1..ctx.argv.len()).step_by(2) {
        let key = ctx.key(index);
        ctx.store.set_str(key, ctx.argv.at(index + 1), ExpireChange::Clear);
        stored(ctx, key.bytes);
    }
}

fn strlen(ctx: &mut Ctx<'_>) -> CmdResult {
    let length = ctx.store.read_str(ctx.key(1)).map_err(wrong_type)?.map_or(0, Str::len);
    ctx.reply.int(length as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyspace::Str;

    use crate::store::Expiry;
    use crate::testing::Harness;

    fn events(h: &mut Harness, line: &str) -> Vec<String> {
        let text = |key: &[u8]| key.escape_ascii().to_string();
        h.events(line).iter().map(|event| format!("{} {}", event.name, text(&event.key))).collect()
    }

    #[test]
    fn get_of_nothing_is_null() {
        let mut h = Harness::new();
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        assert_eq!(
            h.run("NOSUCH a"),
            r"-ERR unknown command \'NOSUCH\', with args beginning with: \'a\' \r\n"
        );
        assert_eq!(h.resp3().run("GET a"), r"_\r\n");
    }

    #[test]
    fn set_stores_under_its_conditions() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("SET a 1", r"+OK\r\n"),
            ("SET a 2 NX", r"$-1\r\n"),
            ("SET a 2 xx", r"+OK\r\n"),
            ("SET b 2 XX", r"$-1\r\n"),
            ("SET b 3 NX GET", r"$-1\r\n"),
            ("SET b 4 NX GET", r"$1\r\n3\r\n"),
            ("SET b 5 GET XX", r"$1\r\n3\r\n"),
            ("GET b", r"$1\r\n5\r\n"),
            ("SET b 6 NX XX", r"-ERR syntax error\r\n"),
            ("SET b 6 EX", r"-ERR syntax error\r\n"),
            ("SET b 6 EX 1 KEEPTTL", r"-ERR syntax error\r\n"),
            ("SET b 6 PERSIST", r"-ERR syntax error\r\n"),
            ("SET b 6 EX 1 PX 1", r"-ERR syntax error\r\n"),
            ("SET b 6 EX x", r"-ERR value is not an integer or out of range\r\n"),
            ("SET b 6 EX 0", r"-ERR invalid expire time in \'set\' command\r\n"),
            ("SET b 6 EX 10000000000000000", r"-ERR invalid expire time in \'set\' command\r\n"),
            ("SET b 6 PX 9223372036854775807", r"-ERR invalid expire time in \'set\' command\r\n"),
            ("SETEX b -1 6", r"-ERR invalid expire time in \'setex\' command\r\n"),
            ("PSETEX b 0 6", r"-ERR invalid expire time in \'psetex\' command\r\n"),
            ("GET b", r"$1\r\n5\r\n"),
            ("SETNX b 7", r":0\r\n"),
            ("SETNX c 7", r":1\r\n"),
            ("GETSET c 8", r"$1\r\n7\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(
            h.propagated(),
            ["SELECT 0", "SET a 1", "SET a 2 xx", "SET b 3 NX", "SET b 5 XX", "SETNX c 7", "SET c 8"]
        );
    }

    #[test]
    fn expiries_propagate_as_points_in_time() {
        let mut h = Harness::new();
        let at = |h: &Harness, millis: i64| h.now_ms() + millis;
        h.run("SELECT 0");
        h.run("SET a x EX 100 GET");
        assert_eq!(h.run("TTL a"), r":100\r\n");
        h.run("SETEX a 10 x");
        h.run("PSETEX a 1500 x");
        h.run("SET a y KEEPTTL");
        assert_eq!(h.run("PTTL a"), r":1500\r\n");
        h.run("GETEX a EX 5");
        h.run("GETEX a PERSIST");
        h.run("GETEX a PERSIST");
        h.run("GETEX a");
        h.run("GETEX a EXAT 1");
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0".to_owned(),
                format!("SET a x PXAT {}", at(&h, 100_000)),
                format!("SET a x PXAT {}", at(&h, 10_000)),
                format!("SET a x PXAT {}", at(&h, 1500)),
                "SET a y KEEPTTL".to_owned(),
                format!("PEXPIREAT a {}", at(&h, 5000)),
                "PERSIST a".to_owned(),
                "DEL a".to_owned(),
            ]
        );
        assert_eq!(h.run("GETEX a EX 0"), r"$-1\r\n", "no key, no complaint");
        h.run("SET a x");
        assert_eq!(h.run("GETEX a EX 0"), r"-ERR invalid expire time in \'getex\' command\r\n");
        assert_eq!(h.run("GETEX a KEEPTTL"), r"-ERR syntax error\r\n");
    }

    #[test]
    fn an_expired_key_is_deleted_before_it_is_written_anew() {
        for write in ["SET a 2", "SET a 2 NX", "SET a 2 KEEPTTL", "SETNX a 2", "MSET a 2", "MSETNX a 2"] {
            let mut h = Harness::new();
            h.run("SET a 1 PX 10");
            h.advance_ms(11);
            h.propagated();
            assert_eq!(events(&mut h, write), ["expired a", "new a", "set a"], "{write}");
            assert_eq!(h.propagated(), ["MULTI", "DEL a", write, "EXEC"]);
            assert_eq!(h.run("TTL a"), r":-1\r\n", "{write}");
            assert_eq!(h.node.store.db().expires().len(), 0, "{write}");
        }
        let mut h = Harness::new();
        h.run("SET a 1 PX 10");
        h.propagated();
        h.advance_ms(11);
        assert_eq!(events(&mut h, "SET a 2 XX"), ["expired a"]);
        assert_eq!(h.propagated(), ["DEL a"]);
    }

    #[test]
    fn a_replica_that_takes_writes_replaces_what_has_expired() {
        let mut h = Harness::new();
        h.run("SET a 1 PX 10");
        h.run("SET b 1 PX 10");
        h.advance_ms(11);
        h.node.store.expiry = Expiry::Hide;
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        assert_eq!(h.run("DBSIZE"), r":2\r\n", "hidden, not deleted");
        assert_eq!(h.run("INCR a"), r":1\r\n");
        assert_eq!(h.run("APPEND b x"), r":1\r\n");
        assert_eq!(h.run("DBSIZE"), r":2\r\n");
    }

    #[test]
    fn several_at_once() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("MSET a 1 b", r"-ERR wrong number of arguments for \'mset\' command\r\n"),
            ("MSETNX a 1 b", r"-ERR wrong number of arguments for \'msetnx\' command\r\n"),
            ("MSET a 1 a 2 b 3", r"+OK\r\n"),
            ("MGET a nosuch b", r"*3\r\n$1\r\n2\r\n$-1\r\n$1\r\n3\r\n"),
            ("MSETNX c 1 a 2", r":0\r\n"),
            ("MSETNX c 1 d 2", r":1\r\n"),
            ("GETDEL d", r"$1\r\n2\r\n"),
            ("GETDEL d", r"$-1\r\n"),
            ("STRLEN a", r":1\r\n"),
            ("STRLEN d", r":0\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(h.propagated(), ["SELECT 0", "MSET a 1 a 2 b 3", "MSETNX c 1 d 2", "DEL d"]);
        let dirty = h.node.store.effects.dirty;
        h.run("MSET a 1 b 2 c 3");
        assert_eq!(h.node.store.effects.dirty - dirty, 3);
    }

    #[test]
    fn what_valkey_adds() {
        // Replies as observed on valkey 9.1.2.
        let mut h = Harness::new();
        h.run("RPUSH l 1");
        for (line, reply) in [
            ("SET a 1", r"+OK\r\n"),
            ("SET a 2 IFEQ 1", r"+OK\r\n"),
            ("SET a 3 IFEQ 1", r"$-1\r\n"),
            ("SET a 3 ifeq 2 GET EX 100", r"$1\r\n2\r\n"),
            ("SET a 4 IFEQ 9 GET", r"$1\r\n3\r\n"),
            ("SET a x IFEQ 3 KEEPTTL", r"+OK\r\n"),
            ("TTL a", r":100\r\n"),
            ("SET none 1 IFEQ 1 GET", r"$-1\r\n"),
            ("EXISTS none", r":0\r\n"),
            ("SET a 3 IFEQ 2 NX", r"-ERR syntax error\r\n"),
            ("SET a 3 XX IFEQ 2", r"-ERR syntax error\r\n"),
            ("SET a 1 IFEQ", r"-ERR syntax error\r\n"),
            ("SET a 1 IFEQ 3 IFEQ 4", r"-ERR syntax error\r\n"),
            ("SET l 1 IFEQ 1", r"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("DELIFEQ a y", r":0\r\n"),
            ("DELIFEQ a x", r":1\r\n"),
            ("DELIFEQ a x", r":0\r\n"),
            ("DELIFEQ l 1", r"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("MSETEX 2 a 1 b 2 EX 10", r":1\r\n"),
            ("TTL b", r":10\r\n"),
            ("MSETEX 2 a 2 c 2 NX", r":0\r\n"),
            ("MSETEX 2 a 2 c 2 XX", r":0\r\n"),
            ("MSETEX 2 a 2 b 3 XX KEEPTTL", r":1\r\n"),
            ("TTL b", r":10\r\n"),
            ("MSETEX 2 a 2 l 3", r":1\r\n"),
            ("TTL a", r":-1\r\n"),
            ("MSETEX 0 a 1", r"-ERR invalid numkeys value or out of range\r\n"),
            ("MSETEX x a 1", r"-ERR invalid numkeys value or out of range\r\n"),
            ("MSETEX 2147483648 a 1", r"-ERR invalid numkeys value or out of range\r\n"),
            ("MSETEX 2147483647 a 1", r"-ERR syntax error\r\n"),
            ("MSETEX 1 a 1 b 2", r"-ERR syntax error\r\n"),
            ("MSETEX 1 a 1 NX XX", r"-ERR syntax error\r\n"),
            ("MSETEX 1 a 1 IFEQ 2", r"-ERR syntax error\r\n"),
            ("MSETEX 1 a 1 EX 0", r"-ERR invalid expire time in \'msetex\' command\r\n"),
            ("COMMAND GETKEYS MSETEX 2 a 1 b 2 NX", r"*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        let at = |millis: i64| h.now_ms() + millis;
        let (in_100_s, in_10_s) = (at(100_000), at(10_000));
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0".to_owned(),
                "RPUSH l 1".into(),
                "SET a 1".into(),
                "SET a 2".into(),
                format!("SET a 3 PXAT {in_100_s}"),
                "SET a x KEEPTTL".into(),
                "DEL a".into(),
                "MULTI".into(),
                format!("SET a 1 PXAT {in_10_s}"),
                format!("SET b 2 PXAT {in_10_s}"),
                "EXEC".into(),
                "MULTI".into(),
                "SET a 2 KEEPTTL".into(),
                "SET b 3 KEEPTTL".into(),
                "EXEC".into(),
                "MULTI".into(),
                "SET a 2".into(),
                "SET l 3".into(),
                "EXEC".into(),
            ]
        );
    }

    #[test]
    fn long_strings_are_shared_with_the_reply() {
        let mut h = Harness::new();
        let long = vec![b'x'; 100_000];
        h.run_args(&[b"SET", b"a", &long]);
        let mut expected = b"$100000\r\n".to_vec();
        expected.extend_from_slice(&long);
        expected.extend_from_slice(b"\r\n");
        assert_eq!(h.run_args(&[b"GET", b"a"]), expected);
        h.run("APPEND a y");
        assert_eq!(h.run("STRLEN a"), r":100001\r\n");
        assert_eq!(h.run("GETRANGE a -2 -1"), r"$2\r\nxy\r\n");
    }

    #[test]
    fn writing_over_a_long_string_leaves_its_readers_alone() {
        let mut h = Harness::new();
        let key = keyspace::Key::new(b"a");
        h.run_args(&[b"SET", b"a", &[b'x'; 10_000]]);
        let Ok(Some(Str::Shared(reader))) = h.node.store.read_str(key) else {
            panic!("a long string is shared")
        };
        let reader = Arc::clone(reader);
        h.run_args(&[b"SET", b"a", &[b'y'; 10_000]]);
        assert_eq!(*reader, [b'x'; 10_000]);
        // Nobody reads this one: its buffer is used again.
        let place = |h: &mut Harness| match h.node.store.read_str(key) {
            Ok(Some(Str::Shared(text))) => (text.as_ptr(), text.len(), text[0]),
            _ => panic!("a long string is shared"),
        };
        let before = place(&mut h);
        h.run_args(&[b"SET", b"a", &[b'z'; 9_000]]);
        assert_eq!(place(&mut h), (before.0, 9_000, b'z'));
        h.run("SET a short");
        assert_eq!(h.run("GET a"), r"$5\r\nshort\r\n");
    }

    #[test]
    fn events_of_writes() {
        let mut h = Harness::new();
        assert_eq!(events(&mut h, "SET a 1 EX 10"), ["new a", "set a", "expire a"]);
        assert_eq!(events(&mut h, "SET a 1"), ["set a"]);
        assert_eq!(events(&mut h, "GET b"), ["keymiss b"]);
        assert_eq!(events(&mut h, "GETEX a PX 10"), ["expire a"]);
        assert_eq!(events(&mut h, "GETEX a PERSIST"), ["persist a"]);
        assert_eq!(events(&mut h, "GETDEL a"), ["del a"]);
    }
}
