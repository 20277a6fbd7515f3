//! Expiries of hash fields: setting, taking off and telling the time, and the commands that read or write fields besides.
//!
//! Replies are those of redis 8.2. What is propagated are `HSET`, `HDEL`, and `HPEXPIREAT` and `HPERSIST`, which all servers
//! know that have such expiries; a replica that has none is dropped when there is one ([`crate::bridge`]). Fields whose
//! time has run out when a command names them are removed first, as everywhere ([`super::hash`]).
//!
//! The stream of another primary may hold any of these commands in any of its forms.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::{FieldExpiry, Hash, Object};
use replication::Feature;
use resp::Args;
use structures::number::IntText;

use crate::commands::expire::CONDITION;
use crate::commands::hash::{field_time, live_hash, write_or_null};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::store::{Expiry, Store};

pub const COMMANDS: &[Command<Handler>] = &[
    HEXPIRE,
    HEXPIREAT,
    HEXPIRETIME,
    HGETDEL,
    HGETEX,
    HPERSIST,
    HPEXPIRE,
    HPEXPIREAT,
    HPEXPIRETIME,
    HPTTL,
    HSETEX,
    HTTL,
];

/// The latest time that clients may give a field, as in Redis. A primary of another make may know later ones.
const EXPIRE_AT_MAX: i64 = (1 << 46) - 1;

const WRITE: Command<Handler> = Command {
    group: Group::Hash,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Hash]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    ..Command::runs(hexpire)
};
const READ: Command<Handler> = Command {
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    ..WRITE
};

const COMPLEXITY: &str = "O(N) where N is the number of specified fields";
const KEY: Arg = Arg::key("key", 0);
const FIELDS: Arg =
    Arg::block("fields", &[Arg::integer("numfields"), Arg::string("field").multiple()]).token("FIELDS");
const SECONDS: Arg = Arg::integer("seconds");
const MILLISECONDS: Arg = Arg::integer("milliseconds");
const UNIX_SECONDS: Arg = Arg::unix_time("unix-time-seconds");
const UNIX_MILLISECONDS: Arg = Arg::unix_time("unix-time-milliseconds");

/// HEXPIRE key seconds [NX|XX|GT|LT] FIELDS numfields field [field …]
const HEXPIRE: Command<Handler> = Command {
    name: "hexpire",
    docs: &Docs {
        since: "7.4.0",
        complexity: COMPLEXITY,
        summary: "Sets the time to live of fields of a hash in seconds.",
        arguments: &[KEY, SECONDS, CONDITION, FIELDS],
        ..Docs::NONE
    },
    ..WRITE
};

/// HPEXPIRE key milliseconds [NX|XX|GT|LT] FIELDS numfields field [field …]
const HPEXPIRE: Command<Handler> = Command {
    name: "hpexpire",
    handler: Some(hpexpire),
    docs: &Docs {
        summary: "Sets the time to live of fields of a hash in milliseconds.",
        arguments: &[KEY, MILLISECONDS, CONDITION, FIELDS],
        ..*HEXPIRE.docs
    },
    ..HEXPIRE
};

/// HEXPIREAT key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field [field …]
const HEXPIREAT: Command<Handler> = Command {
    name: "hexpireat",
    handler: Some(hexpireat),
    docs: &Docs {
        summary: "Sets the Unix time in seconds at which fields of a hash expire.",
        arguments: &[KEY, UNIX_SECONDS, CONDITION, FIELDS],
        ..*HEXPIRE.docs
    },
    ..HEXPIRE
};

/// HPEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field [field …]
const HPEXPIREAT: Command<Handler> = Command {
    name: "hpexpireat",
    handler: Some(hpexpireat),
    docs: &Docs {
        summary: "Sets the Unix time in milliseconds at which fields of a hash expire.",
        arguments: &[KEY, UNIX_MILLISECONDS, CONDITION, FIELDS],
        ..*HEXPIRE.docs
    },
    ..HEXPIRE
};

/// HTTL key FIELDS numfields field [field …]
const HTTL: Command<Handler> = Command {
    name: "httl",
    handler: Some(httl),
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "7.4.0",
        complexity: COMPLEXITY,
        summary: "Returns the seconds that fields of a hash have left to live.",
        arguments: &[KEY, FIELDS],
        ..Docs::NONE
    },
    ..READ
};

/// HPTTL key FIELDS numfields field [field …]
const HPTTL: Command<Handler> = Command {
    name: "hpttl",
    handler: Some(hpttl),
    docs: &Docs {
        summary: "Returns the milliseconds that fields of a hash have left to live.",
        ..*HTTL.docs
    },
    ..HTTL
};

/// HEXPIRETIME key FIELDS numfields field [field …]
const HEXPIRETIME: Command<Handler> = Command {
    name: "hexpiretime",
    tips: &[],
    handler: Some(hexpiretime),
    docs: &Docs {
        summary: "Returns the Unix time in seconds at which fields of a hash expire.",
        ..*HTTL.docs
    },
    ..HTTL
};

/// HPEXPIRETIME key FIELDS numfields field [field …]
const HPEXPIRETIME: Command<Handler> = Command {
    name: "hpexpiretime",
    handler: Some(hpexpiretime),
    docs: &Docs {
        summary: "Returns the Unix time in milliseconds at which fields of a hash expire.",
        ..*HEXPIRETIME.docs
    },
    ..HEXPIRETIME
};

/// HPERSIST key FIELDS numfields field [field …]
const HPERSIST: Command<Handler> = Command {
    name: "hpersist",
    arity: Arity::AtLeast(5),
    handler: Some(hpersist),
    docs: &Docs {
        summary: "Takes the expiry off fields of a hash.",
        arguments: &[KEY, FIELDS],
        ..*HEXPIRE.docs
    },
    ..HEXPIRE
};

/// HGETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS numfields field [field …]
const HGETEX: Command<Handler> = Command {
    name: "hgetex",
    arity: Arity::AtLeast(5),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update])
        .notes("RW and UPDATE because it changes the TTL")],
    handler: Some(hgetex),
    docs: &Docs {
        since: "8.0.0",
        complexity: COMPLEXITY,
        summary: "Returns the values of fields of a hash, and sets their expiry or takes it off.",
        arguments: &[
            KEY,
            Arg::one_of(
                "expiration",
                &[
                    SECONDS.token("EX"),
                    MILLISECONDS.token("PX"),
                    UNIX_SECONDS.token("EXAT"),
                    UNIX_MILLISECONDS.token("PXAT"),
                    Arg::pure_token("persist", "PERSIST"),
                ],
            )
            .optional(),
            FIELDS,
        ],
        ..Docs::NONE
    },
    ..WRITE
};

/// HSETEX key [NX|XX] [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS numfields field value [field value …]
const HSETEX: Command<Handler> = Command {
    name: "hsetex",
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    handler: Some(hsetex),
    docs: &Docs {
        since: "8.0.0",
        complexity: "O(N) where N is the number of fields being set.",
        summary: "Gives fields of a hash their values, and an expiry.",
        arguments: &[
            KEY,
            Arg::one_of("key-condition", &[Arg::pure_token("nx", "NX"), Arg::pure_token("xx", "XX")])
                .optional(),
            Arg::one_of("fields-condition", &[Arg::pure_token("fnx", "FNX"), Arg::pure_token("fxx", "FXX")])
                .optional(),
            Arg::one_of(
                "expiration",
                &[
                    SECONDS.token("EX"),
                    MILLISECONDS.token("PX"),
                    UNIX_SECONDS.token("EXAT"),
                    UNIX_MILLISECONDS.token("PXAT"),
                    Arg::pure_token("keepttl", "KEEPTTL"),
                ],
            )
            .optional(),
            Arg::block(
                "fields",
                &[
                    Arg::integer("numfields"),
                    Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
                ],
            )
            .token("FIELDS"),
        ],
        ..Docs::NONE
    },
    ..WRITE
};

/// HGETDEL key FIELDS numfields field [field …]
const HGETDEL: Command<Handler> = Command {
    name: "hgetdel",
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    handler: Some(hgetdel),
    docs: &Docs {
        summary: "Returns the values of fields of a hash and removes them.",
        arguments: &[KEY, FIELDS],
        ..*HGETEX.docs
    },
    ..HGETEX
};

// Codes of a field in a reply.
const NO_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const REFUSED: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// What the expiry that a field has must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
    /// The new one must be later. None at all is later than any.
    Later,
    Earlier,
}

impl Condition {
    fn of(arg: &[u8]) -> Option<Condition> {
        let known = [
            ("NX", Condition::Absent),
            ("XX", Condition::Present),
            ("GT", Condition::Later),
            ("LT", Condition::Earlier),
        ];
        known.into_iter().find(|(name, _)| command::is_token(arg, name)).map(|(_, condition)| condition)
    }

    fn admits(self, current: Option<i64>, at_ms: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Later => current.is_some_and(|current| at_ms > current),
            Condition::Earlier => current.is_none_or(|current| at_ms < current),
        }
    }
}

/// How a time is given: counted from when, and in units of how many milliseconds.
#[derive(Debug, Clone, Copy)]
struct Clock {
    base_ms: i64,
    unit_ms: i64,
}

/// `EX`, `PX`, `EXAT` and `PXAT`.
fn clock_of(option: &[u8], now_ms: i64) -> Option<Clock> {
    let known = [("EX", now_ms, 1000), ("PX", now_ms, 1), ("EXAT", 0, 1000), ("PXAT", 0, 1)];
    let (_, base_ms, unit_ms) = known.into_iter().find(|(name, ..)| command::is_token(option, name))?;
    Some(Clock { base_ms, unit_ms })
}

/// Argument `index` as a point in time, in milliseconds since the epoch.
fn point_in_time(ctx: &Ctx<'_>, index: usize, clock: Clock) -> Result<i64, CommandError> {
    let given = ctx.argv.int(index)?;
    if given < 0 {
        return Err(CommandError::fixed("ERR invalid expire time, must be >= 0"));
    }
    let max = if ctx.session.is_primary() { i64::MAX } else { EXPIRE_AT_MAX };
    given
        .checked_mul(clock.unit_ms)
        .and_then(|millis| millis.checked_add(clock.base_ms))
        .filter(|at| *at <= max)
        .ok_or_else(|| CommandError::InvalidExpire(ctx.command.command.name.into()))
}

/// `FIELDS numfields field …` from argument `at` to the end.
fn fields<'a>(argv: Args<'a>, at: usize, not_positive: &'static str) -> Result<Args<'a>, CommandError> {
    if !argv.is(at, "FIELDS") {
        let text = "ERR Mandatory argument FIELDS is missing or not at the right position";
        return Err(CommandError::fixed(text));
    }
    let mismatch = "ERR The `numfields` parameter must match the number of arguments";
    let mismatch = CommandError::fixed(mismatch);
    if argv.len() < at + 2 {
        return Err(mismatch);
    }
    let count = argv.int_within_or(at + 1, 1..=i64::MAX, CommandError::fixed(not_positive))?;
    if count as u64 != (argv.len() - at - 2) as u64 {
        return Err(mismatch);
    }
    Ok(argv.tail(at + 2))
}

const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

// ---- setting an expiry ----

fn hexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_fields(ctx, Clock { base_ms: ctx.store.now_ms, unit_ms: 1000 })
}

fn hpexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_fields(ctx, Clock { base_ms: ctx.store.now_ms, unit_ms: 1 })
}

fn hexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_fields(ctx, Clock { base_ms: 0, unit_ms: 1000 })
}

fn hpexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_fields(ctx, Clock { base_ms: 0, unit_ms: 1 })
}

fn expire_fields(ctx: &mut Ctx<'_>, clock: Clock) -> CmdResult {
    let key = ctx.key(1);
    // As in Redis, the type comes before the arguments.
    ctx.store.write_hash(key).map_err(wrong_type)?;
    let at_ms = point_in_time(ctx, 2, clock)?;
    let condition = ctx.argv.get(3).and_then(Condition::of);
    let names = fields(
        ctx.argv,
        if condition.is_some() { 4 } else { 3 },
        "ERR Parameter `numFields` should be greater than 0",
    )?;
    ctx.reply.array(names.len());
    let deletes = is_over(ctx.store, at_ms);
    let mut changed: Vec<&[u8]> = Vec::with_capacity(names.len());
    match live_hash(ctx.store, key, names.iter())? {
        None => names.iter().for_each(|_| ctx.reply.int(NO_FIELD)),
        Some(mut hash) => {
            for name in names.iter() {
                let code = if !hash.contains(name, i64::MIN) {
                    NO_FIELD
                } else if !condition.unwrap_or(Condition::Always).admits(hash.expire_at(name), at_ms) {
                    REFUSED
                } else if deletes {
                    hash.remove(name);
                    DELETED
                } else {
                    hash.set_expire(name, Some(at_ms));
                    DONE
                };
                ctx.reply.int(code);
                if matches!(code, DELETED | DONE) {
                    changed.push(name);
                }
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    if deletes {
        deleted(ctx.store, key, &changed);
        return Ok(());
    }
    ctx.store.settle_fields(key);
    ctx.store.modified_times(key.bytes, changed.len());
    ctx.store.notify(Event::HASH, "hexpire", key.bytes);
    let option = if condition.is_some() { &[ctx.argv.at(3)][..] } else { &[] };
    propagate_expiry(ctx.store, key.bytes, at_ms, option, &changed);
    Ok(())
}

/// True if a field that is given this expiry is deleted instead. Who is not a primary keeps it until it is told.
fn is_over(store: &Store, at_ms: i64) -> bool {
    at_ms <= store.now_ms && store.expiry == Expiry::Delete
}

/// `fields` of the hash were removed by a command that says so.
fn deleted(store: &mut Store, key: keyspace::Key<'_>, fields: &[&[u8]]) {
    store.settle_fields(key);
    store.modified_times(key.bytes, fields.len());
    store.notify(Event::HASH, "hdel", key.bytes);
    store.delete_if_empty(key);
    propagate_deletion(store, key, fields);
}

fn propagate_deletion(store: &mut Store, key: keyspace::Key<'_>, fields: &[&[u8]]) {
    let mut args: Vec<&[u8]> = vec![b"HDEL", key.bytes];
    args.extend(fields);
    store.effects.propagate_as(&args);
}

/// Propagates that `fields` of the hash `key` have the expiry `at_ms`.
pub(super) fn propagate_expiry(
    store: &mut Store,
    key: &[u8],
    at_ms: i64,
    option: &[&[u8]],
    fields: &[&[u8]],
) {
    let mut at_text = IntText::new();
    let mut count = IntText::new();
    let mut args: Vec<&[u8]> = vec![b"HPEXPIREAT", key, at_text.format(at_ms)];
    args.extend(option);
    args.extend([b"FIELDS", count.format(fields.len() as i64)]);
    args.extend(fields);
    store.effects.propagate_newer(Feature::FieldExpiries, &args);
}

fn propagate_persist(store: &mut Store, key: &[u8], fields: &[&[u8]]) {
    let mut count = IntText::new();
    let mut args: Vec<&[u8]> = vec![b"HPERSIST", key, b"FIELDS", count.format(fields.len() as i64)];
    args.extend(fields);
    store.effects.propagate_newer(Feature::FieldExpiries, &args);
}

fn hpersist(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    ctx.store.write_hash(key).map_err(wrong_type)?;
    let names = fields(ctx.argv, 2, NOT_POSITIVE)?;
    ctx.reply.array(names.len());
    let mut changed: Vec<&[u8]> = Vec::new();
    match live_hash(ctx.store, key, names.iter())? {
        None => names.iter().for_each(|_| ctx.reply.int(NO_FIELD)),
        Some(mut hash) => {
            for name in names.iter() {
                let code = if !hash.contains(name, i64::MIN) {
                    NO_FIELD
                } else if hash.expire_at(name).is_none() {
                    NO_EXPIRY
                } else {
                    hash.set_expire(name, None);
                    changed.push(name);
                    DONE
                };
                ctx.reply.int(code);
            }
        }
    }
    if !changed.is_empty() {
        ctx.store.settle_fields(key);
        ctx.store.modified(key.bytes);
        ctx.store.notify(Event::HASH, "hpersist", key.bytes);
        propagate_persist(ctx.store, key.bytes, &changed);
    }
    Ok(())
}

// ---- telling the time ----

fn httl(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, ctx.store.now_ms, 1000)
}

fn hpttl(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, ctx.store.now_ms, 1)
}

fn hexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, 0, 1000)
}

fn hpexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    tell(ctx, 0, 1)
}

/// Replies the expiries of fields after `from_ms`, in units of `unit_ms` that have begun.
fn tell(ctx: &mut Ctx<'_>, from_ms: i64, unit_ms: i64) -> CmdResult {
    let now_ms = field_time(ctx.store);
    let hash = ctx.store.read_hash(ctx.key(1)).map_err(wrong_type)?;
    let names = fields(ctx.argv, 2, NOT_POSITIVE)?;
    ctx.reply.array(names.len());
    for name in names.iter() {
        ctx.reply.int(match hash.filter(|hash| hash.contains(name, now_ms)) {
            None => NO_FIELD,
            Some(hash) => hash.expire_at(name).map_or(NO_EXPIRY, |at| {
                at.saturating_sub(from_ms).max(0).saturating_add(unit_ms - 1) / unit_ms
            }),
        });
    }
    Ok(())
}

// ---- values and expiries ----

/// What `HGETEX` does to the fields that it returns.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Persist,
    ExpireAt(i64),
    Delete,
}

fn hgetex(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.store.write_hash(ctx.key(1)).map_err(wrong_type)?;
    let option = ctx.argv.at(2);
    if command::is_token(option, "PERSIST") {
        return take_out(ctx, 3, Then::Persist);
    }
    let Some(clock) = clock_of(option, ctx.store.now_ms) else { return take_out(ctx, 2, Then::Nothing) };
    let at_ms = point_in_time(ctx, 3, clock)?;
    if ctx.argv.len() < 6 {
        return Err(ctx.command.wrong_arity());
    }
    let then = if is_over(ctx.store, at_ms) { Then::Delete } else { Then::ExpireAt(at_ms) };
    take_out(ctx, 4, then)
}

fn hgetdel(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.store.write_hash(ctx.key(1)).map_err(wrong_type)?;
    take_out(ctx, 2, Then::Delete)
}

/// Replies the values of the fields that `FIELDS`, argument `at`, names, each before something is done to it.
fn take_out(ctx: &mut Ctx<'_>, at: usize, then: Then) -> CmdResult {
    let names = fields(ctx.argv, at, NOT_POSITIVE)?;
    let key = ctx.key(1);
    ctx.reply.array(names.len());
    let mut changed: Vec<&[u8]> = Vec::new();
    match live_hash(ctx.store, key, names.iter())? {
        None => names.iter().for_each(|_| ctx.reply.null()),
        Some(mut hash) => {
            for name in names.iter() {
                let value = hash.get(name, i64::MIN);
                write_or_null(&mut ctx.reply, value);
                if value.is_none() {
                    continue;
                }
                let done = match then {
                    Then::Nothing => false,
                    Then::Delete => hash.remove(name),
                    Then::ExpireAt(at_ms) => hash.set_expire(name, Some(at_ms)),
                    Then::Persist => hash.expire_at(name).is_some() && hash.set_expire(name, None),
                };
                if done {
                    changed.push(name);
                }
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    if matches!(then, Then::Delete) {
        deleted(ctx.store, key, &changed);
        return Ok(());
    }
    ctx.store.settle_fields(key);
    ctx.store.modified_times(key.bytes, changed.len());
    if let Then::ExpireAt(at_ms) = then {
        ctx.store.notify(Event::HASH, "hexpire", key.bytes);
        propagate_expiry(ctx.store, key.bytes, at_ms, &[], &changed);
    } else {
        ctx.store.notify(Event::HASH, "hpersist", key.bytes);
        propagate_persist(ctx.store, key.bytes, &changed);
    }
    Ok(())
}

/// `FNX` and `FXX` of fields, `NX` and `XX` of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    IfNone,
    IfAll,
}

struct SetArgs<'a> {
    of_key: Option<Only>,
    only: Option<Only>,
    expiry: FieldExpiry,
    /// Field, value, field, value …
    pairs: Args<'a>,
}

impl<'a> SetArgs<'a> {
    fn parse(ctx: &Ctx<'a>) -> Result<SetArgs<'a>, CommandError> {
        let argv = ctx.argv;
        let (mut of_key, mut only, mut expiry) = (None, None, None);
        let mut at = 2;
        loop {
            let option = argv.get(at).ok_or_else(|| ctx.command.wrong_arity())?;
            let only_of = |none, all| match option {
                _ if command::is_token(option, none) => Some(Only::IfNone),
                _ if command::is_token(option, all) => Some(Only::IfAll),
                _ => None,
            };
            let (key_condition, condition) = (only_of("NX", "XX"), only_of("FNX", "FXX"));
            let clock = clock_of(option, ctx.store.now_ms);
            if key_condition.is_some() {
                if of_key.is_some() && of_key != key_condition {
                    return Err(CommandError::Syntax);
                }
                of_key = key_condition;
            } else if condition.is_some() {
                if only.is_some() {
                    let text = "ERR Only one of FXX or FNX arguments can be specified";
                    return Err(CommandError::fixed(text));
                }
                only = condition;
            } else if clock.is_some() || command::is_token(option, "KEEPTTL") {
                if expiry.is_some() {
                    let text = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
                    return Err(CommandError::fixed(text));
                }
                expiry = Some(match clock {
                    None => FieldExpiry::Keep,
                    Some(clock) => {
                        at += 1;
                        FieldExpiry::At(point_in_time(ctx, at, clock)?)
                    }
                });
            } else if command::is_token(option, "FIELDS") {
                break;
            } else {
                return Err(CommandError::quoting("ERR unknown argument: {}", &[option]));
            }
            at += 1;
        }
        if argv.len() < at + 4 {
            return Err(ctx.command.wrong_arity());
        }
        let bad_count = CommandError::fixed("ERR invalid number of fields");
        let count = argv.int_within_or(at + 1, 1..=i64::from(i32::MAX), bad_count)? as usize;
        if argv.len() - at - 2 != 2 * count {
            return Err(ctx.command.wrong_arity());
        }
        Ok(SetArgs { of_key, only, expiry: expiry.unwrap_or(FieldExpiry::Clear), pairs: argv.tail(at + 2) })
    }

    fn names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.pairs.iter().step_by(2)
    }
}

fn hsetex(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = SetArgs::parse(ctx)?;
    let key = ctx.key(1);
    let limits = ctx.store.limits.clone();
    let count = args.pairs.len() / 2;
    let hash = live_hash(ctx.store, key, args.names())?;
    let has = |name: &[u8]| hash.as_ref().is_some_and(|hash| hash.contains(name, i64::MIN));
    let admitted_by_key = match args.of_key {
        None => true,
        Some(Only::IfNone) => hash.is_none(),
        Some(Only::IfAll) => hash.is_some(),
    };
    let admitted_by_fields = match args.only {
        None => true,
        Some(Only::IfNone) => !args.names().any(has),
        Some(Only::IfAll) => args.names().all(has),
    };
    let admitted = admitted_by_key && admitted_by_fields;
    drop(hash);
    if !admitted {
        ctx.reply.int(0);
        return Ok(());
    }
    if let FieldExpiry::At(at_ms) = args.expiry
        && is_over(ctx.store, at_ms)
    {
        set_and_gone(ctx, key, &args)?;
        ctx.reply.int(1);
        return Ok(());
    }
    let mut kept: Vec<(&[u8], i64)> = Vec::new();
    let mut set_all = |hash: &mut Hash| {
        for at in 0..count {
            let (name, value) = (args.pairs.at(2 * at), args.pairs.at(2 * at + 1));
            hash.set(name, value, args.expiry, &limits);
            if args.expiry == FieldExpiry::Keep
                && let Some(at_ms) = hash.expire_at(name)
            {
                kept.push((name, at_ms));
            }
        }
    };
    if let Some(mut hash) = ctx.store.write_hash(key).map_err(wrong_type)? {
        set_all(&mut hash);
    } else {
        let mut hash = Hash::with_capacity(count, &limits);
        set_all(&mut hash);
        ctx.store.add(key, Object::Hash(hash));
    }
    ctx.store.settle_fields(key);
    ctx.store.modified_times(key.bytes, count);
    ctx.store.notify(Event::HASH, "hset", key.bytes);
    let mut command: Vec<&[u8]> = vec![b"HSET", key.bytes];
    command.extend(args.pairs.iter());
    ctx.store.effects.propagate_as(&command);
    if let FieldExpiry::At(at_ms) = args.expiry {
        ctx.store.notify(Event::HASH, "hexpire", key.bytes);
        let names: Vec<&[u8]> = args.names().collect();
        propagate_expiry(ctx.store, key.bytes, at_ms, &[], &names);
    }
    for (name, at_ms) in kept {
        propagate_expiry(ctx.store, key.bytes, at_ms, &[], &[name]);
    }
    ctx.reply.int(1);
    Ok(())
}

/// Values with an expiry that has passed: what is left is that the fields are not there.
fn set_and_gone(ctx: &mut Ctx<'_>, key: keyspace::Key<'_>, args: &SetArgs<'_>) -> CmdResult {
    let store = &mut *ctx.store;
    store.notify(Event::HASH, "hset", key.bytes);
    let removed: Option<Vec<&[u8]>> = store
        .write_hash(key)
        .map_err(wrong_type)?
        .map(|mut hash| args.names().filter(|name| hash.remove(name)).collect());
    store.settle_fields(key);
    store.modified_times(key.bytes, args.pairs.len() / 2);
    store.notify(Event::HASH, "hdel", key.bytes);
    if removed.is_none() {
        store.notify(Event::GENERIC, "del", key.bytes);
    }
    store.delete_if_empty(key);
    match removed {
        Some(removed) if !removed.is_empty() => propagate_deletion(store, key, &removed),
        _ => store.effects.propagate_nothing(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::Expiry;
    use crate::testing::Harness;

    fn check(h: &mut Harness, cases: &[(&str, &str)]) {
        for (line, reply) in cases {
            assert_eq!(h.run(line).replace(r"\r\n", " ").trim_end(), *reply, "{line}");
        }
    }

    fn events(h: &mut Harness, line: &str) -> Vec<&'static str> {
        h.events(line).iter().map(|event| event.name).collect()
    }

    /// A hash `h` of `a`, `b` and `c` in a log that has selected its database.
    fn with_hash() -> Harness {
        let mut h = Harness::new();
        h.run("HSET h a 1 b 2 c 3");
        h.propagated();
        h
    }

    #[test]
    fn relative_times_replicate_as_points_in_time_for_the_fields_that_took_them() {
        let mut h = with_hash();
        check(
            &mut h,
            &[
                ("HEXPIRE h 100 FIELDS 2 a none", "*2 :1 :-2"),
                ("HPEXPIRE h 2500 NX FIELDS 2 a b", "*2 :0 :1"),
                ("HTTL h FIELDS 3 a b c", "*3 :100 :3 :-1"),
                ("HPTTL h FIELDS 2 a b", "*2 :100000 :2500"),
                ("HEXPIRETIME h FIELDS 1 b", "*1 :1700000003"),
                ("HPEXPIRETIME h FIELDS 1 b", "*1 :1700000002500"),
                ("HPERSIST h FIELDS 3 a c none", "*3 :1 :-1 :-2"),
            ],
        );
        assert_eq!(
            h.propagated(),
            [
                "HPEXPIREAT h 1700000100000 FIELDS 1 a",
                "HPEXPIREAT h 1700000002500 NX FIELDS 1 b",
                "HPERSIST h FIELDS 1 a"
            ]
        );
    }

    #[test]
    fn what_is_not_about_expiries_replicates_as_what_every_server_knows() {
        let mut h = with_hash();
        let at = "2000000000000";
        for (line, propagated) in [
            ("HSETEX h FIELDS 2 a 1 d 2", &["HSET h a 1 d 2"][..]),
            (
                &format!("HSETEX h FXX PXAT {at} FIELDS 1 a 5"),
                &["MULTI", "HSET h a 5", "HPEXPIREAT h 2000000000000 FIELDS 1 a", "EXEC"],
            ),
            (
                "HSETEX h KEEPTTL FIELDS 2 a 6 b 7",
                &["MULTI", "HSET h a 6 b 7", "HPEXPIREAT h 2000000000000 FIELDS 1 a", "EXEC"],
            ),
            (
                "HINCRBYFLOAT h a 0.5",
                &["MULTI", "HSET h a 6.5", "HPEXPIREAT h 2000000000000 FIELDS 1 a", "EXEC"],
            ),
            ("HGETEX h PERSIST FIELDS 2 a b", &["HPERSIST h FIELDS 1 a"]),
            ("HGETEX h EX 1 FIELDS 2 a none", &["HPEXPIREAT h 1700000001000 FIELDS 1 a"]),
            ("HGETEX h EXAT 1 FIELDS 3 a a none", &["HDEL h a"]),
            ("HGETEX h FIELDS 1 b", &[]),
            ("HEXPIRE h 0 FIELDS 2 b none", &["HDEL h b"]),
            ("HSETEX h PXAT 1 FIELDS 2 d 1 e 2", &["HDEL h d"]),
            ("HSETEX none PXAT 1 FIELDS 2 d 1 e 2", &[]),
            ("HSETEX h FNX FIELDS 1 c 1", &[]),
            ("HSETEX h NX FIELDS 1 new 1", &[]),
            ("HSETEX none XX FIELDS 1 new 1", &[]),
            ("HSETEX none XX FNX XX FIELDS 1 new 1", &[]),
            ("HGETDEL h FIELDS 2 c none", &["HDEL h c"]),
            ("HSETEX new NX FIELDS 1 c 3", &["HSET new c 3"]),
            ("HSETEX new XX FNX FIELDS 1 d 3", &["HSET new d 3"]),
        ] {
            assert!(!h.run(line).starts_with('-'), "{line}");
            assert_eq!(h.propagated(), propagated, "{line}");
        }
        assert_eq!(h.run("EXISTS h none"), r":0\r\n");
        assert_eq!(h.run("HSETEX new NX XX FIELDS 1 a 1"), r"-ERR syntax error\r\n");
    }

    #[test]
    fn the_cycle_removes_what_is_due_of_each_hash_and_the_hash_with_its_last_field() {
        let mut h = with_hash();
        check(
            &mut h,
            &[
                ("HPEXPIRE h 10 FIELDS 1 a", "*1 :1"),
                ("HPEXPIRE h 20 FIELDS 2 b c", "*2 :1 :1"),
                ("SELECT 3", "+OK"),
                ("HSETEX g PX 10 FIELDS 2 x 1 y 2", ":1"),
            ],
        );
        assert!(h.run("INFO keyspace").contains("db3:keys=1,expires=0,avg_ttl=0,subexpiry=1"));
        h.propagated();
        h.advance_ms(10);
        h.node.tick();
        assert_eq!(h.propagated(), [""; 0], "a field lives through its last millisecond");
        h.advance_ms(1);
        h.node.tick();
        let mut seen = h.propagated();
        // The fields of one time come in no particular order.
        seen.iter_mut().filter(|line| *line == "HDEL g y x").for_each(|line| *line = "HDEL g x y".into());
        assert_eq!(seen, ["SELECT 0", "HDEL h a", "SELECT 3", "HDEL g x y"]);
        assert_eq!(h.run("EXISTS g"), r":0\r\n");
        h.advance_ms(10);
        h.node.tick();
        assert!(["HDEL h b c", "HDEL h c b"].contains(&&*h.propagated()[1]));
        assert_eq!((h.node.store.total_keys(), h.node.store.has_field_ttl()), (0, false));
        assert!(h.run("INFO stats").contains("expired_subkeys:5"));
        assert!(!h.run("INFO keyspace").contains("db"));
    }

    #[test]
    fn a_cycle_is_bounded_and_the_next_goes_on() {
        let mut h = Harness::new();
        for block in 0..25 {
            let pairs: String = (0..100).map(|index| format!(" f{block}:{index} v")).collect();
            assert_eq!(h.run(&format!("HSETEX h PX {} FIELDS 100{pairs}", 1 + block)), r":1\r\n");
        }
        h.run("HSET h left over");
        h.advance_ms(1000);
        for left in [1501, 501, 1, 1] {
            h.node.tick();
            assert_eq!(h.run("HLEN h"), format!(r":{left}\r\n"));
        }
        assert_eq!(h.run("HGETALL h"), r"*2\r\n$4\r\nleft\r\n$4\r\nover\r\n");
    }

    #[test]
    fn what_is_over_is_not_there_for_any_of_these_commands() {
        let mut h = with_hash();
        h.run("HPEXPIRE h 10 FIELDS 2 a b");
        h.advance_ms(11);
        assert_eq!(h.run("HPTTL h FIELDS 1 a"), r"*1\r\n:-2\r\n");
        h.propagated();
        assert_eq!(events(&mut h, "HEXPIRE h 100 FIELDS 2 a c"), ["hexpired", "hexpire"]);
        assert_eq!(h.propagated(), ["MULTI", "HDEL h a", "HPEXPIREAT h 1700000100011 FIELDS 1 c", "EXEC"]);
        assert_eq!(h.run("HSETEX h FXX FIELDS 1 b 1"), r":0\r\n");
        assert_eq!(h.propagated(), ["HDEL h b"]);
        assert_eq!(h.run("HLEN h"), r":1\r\n");
    }

    #[test]
    fn who_is_not_a_primary_keeps_a_field_until_it_is_told() {
        let mut h = with_hash();
        h.node.store.expiry = Expiry::Hide;
        check(&mut h, &[("HPEXPIREAT h 1 FIELDS 1 a", "*1 :1"), ("HGET h a", "$-1"), ("HLEN h", ":3")]);
        h.node.store.expiry = Expiry::Ignore;
        check(&mut h, &[("HPEXPIREAT h 5 FIELDS 1 a", "*1 :1"), ("HGETDEL h FIELDS 1 a", "*1 $1 1")]);
    }

    #[test]
    fn copies_keep_expiries_and_new_values_end_them() {
        let mut h = with_hash();
        let at = "2000000000000";
        check(
            &mut h,
            &[
                (&format!("HPEXPIREAT h {at} FIELDS 2 a b"), "*2 :1 :1"),
                ("COPY h copy", ":1"),
                ("RENAME h name", "+OK"),
                ("MOVE name 1", ":1"),
                ("HPEXPIRETIME copy FIELDS 2 a c", "*2 :2000000000000 :-1"),
                ("HINCRBY copy a 1", ":2"),
                ("HPEXPIRETIME copy FIELDS 2 a b", "*2 :2000000000000 :2000000000000"),
                ("HSET copy a 5", ":0"),
                ("HPEXPIRETIME copy FIELDS 2 a b", "*2 :-1 :2000000000000"),
                ("OBJECT ENCODING copy", "$10 listpackex"),
            ],
        );
        assert_eq!([0, 1].map(|db| h.node.store.db_at(db).hashes_with_ttl()), [1, 1]);
        let payload = h.run_args(&[b"DUMP", b"copy"]);
        let start = payload.iter().position(|byte| *byte == b'\n').expect("a bulk has a head") + 1;
        h.run_args(&[b"RESTORE", b"restored", b"0", &payload[start..payload.len() - 2]]);
        check(
            &mut h,
            &[
                ("HPEXPIRETIME restored FIELDS 2 a b", "*2 :-1 :2000000000000"),
                ("SET copy text", "+OK"),
                ("DEL restored", ":1"),
                ("SELECT 1", "+OK"),
                ("HPEXPIRETIME name FIELDS 2 a c", "*2 :2000000000000 :-1"),
                ("HDEL name a b", ":2"),
            ],
        );
        assert!(!h.node.store.has_field_ttl());
    }
}
