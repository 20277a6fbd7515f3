//! When keys expire: setting, taking off and telling the time.
//!
//! Whatever sets an expiry propagates `PEXPIREAT` with the point in time, so that everyone agrees on it. A time that
//! has passed deletes the key at once on a primary; a replica keeps the key with that time and waits for the primary.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    ParseArgs, is_token,
};
use structures::number::IntText;

use crate::commands::string::deleted_instead;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::notify::Event;
use crate::store::Expiry;

pub const COMMANDS: &[Command<Handler>] =
    &[EXPIRE, EXPIREAT, EXPIRETIME, PERSIST, PEXPIRE, PEXPIREAT, PEXPIRETIME, PTTL, TTL];

/// `[NX|XX|GT|LT]`
pub(super) const CONDITION: Arg = Arg::one_of(
    "condition",
    &[
        Arg::pure_token("nx", "NX"),
        Arg::pure_token("xx", "XX"),
        Arg::pure_token("gt", "GT"),
        Arg::pure_token("lt", "LT"),
    ],
)
.optional();

/// EXPIRE key seconds [NX|XX|GT|LT]
const EXPIRE: Command<Handler> = Command {
    name: "expire",
    group: Group::Generic,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Sets the time to live of a key in seconds.",
        since: "1.0.0",
        complexity: "O(1)",
        history: &[("7.0.0", "NX, XX, GT and LT.")],
        arguments: &[Arg::key("key", 0), Arg::integer("seconds"), CONDITION.since("7.0.0")],
        ..Docs::NONE
    },
    ..Command::runs(expire)
};

/// EXPIREAT key unix-time-seconds [NX|XX|GT|LT]
const EXPIREAT: Command<Handler> = Command {
    name: "expireat",
    group: Group::Generic,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Sets the Unix time in seconds at which a key expires.",
        since: "1.2.0",
        complexity: "O(1)",
        history: &[("7.0.0", "NX, XX, GT and LT.")],
        arguments: &[Arg::key("key", 0), Arg::unix_time("unix-time-seconds"), CONDITION.since("7.0.0")],
        ..Docs::NONE
    },
    ..Command::runs(expireat)
};

/// EXPIRETIME key
const EXPIRETIME: Command<Handler> = Command {
    name: "expiretime",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns the Unix time in seconds at which a key expires.",
        since: "7.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(expiretime)
};

/// PERSIST key
const PERSIST: Command<Handler> = Command {
    name: "persist",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Takes the expiry off a key.",
        since: "2.2.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(persist)
};

/// PEXPIRE key milliseconds [NX|XX|GT|LT]
const PEXPIRE: Command<Handler> = Command {
    name: "pexpire",
    group: Group::Generic,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Sets the time to live of a key in milliseconds.",
        since: "2.6.0",
        complexity: "O(1)",
        history: &[("7.0.0", "NX, XX, GT and LT.")],
        arguments: &[Arg::key("key", 0), Arg::integer("milliseconds"), CONDITION.since("7.0.0")],
        ..Docs::NONE
    },
    ..Command::runs(pexpire)
};

/// PEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT]
const PEXPIREAT: Command<Handler> = Command {
    name: "pexpireat",
    group: Group::Generic,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        summary: "Sets the Unix time in milliseconds at which a key expires.",
        since: "2.6.0",
        complexity: "O(1)",
        history: &[("7.0.0", "NX, XX, GT and LT.")],
        arguments: &[Arg::key("key", 0), Arg::unix_time("unix-time-milliseconds"), CONDITION.since("7.0.0")],
        ..Docs::NONE
    },
    ..Command::runs(pexpireat)
};

/// PEXPIRETIME key
const PEXPIRETIME: Command<Handler> = Command {
    name: "pexpiretime",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Returns the Unix time in milliseconds at which a key expires.",
        since: "7.0.0",
        complexity: "O(1)",
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(pexpiretime)
};

/// PTTL key
const PTTL: Command<Handler> = Command {
    name: "pttl",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns the milliseconds that a key has left to live.",
        since: "2.6.0",
        complexity: "O(1)",
        history: &[("2.8.0", "-2 for a key that does not exist.")],
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(pttl)
};

/// TTL key
const TTL: Command<Handler> = Command {
    name: "ttl",
    group: Group::Generic,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        summary: "Returns the seconds that a key has left to live.",
        since: "1.0.0",
        complexity: "O(1)",
        history: &[("2.8.0", "-2 for a key that does not exist.")],
        arguments: &[Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(ttl)
};

/// `NX`, `XX`, `GT`, `LT`: what the expiry that is there must be like.
#[derive(Debug, Default)]
struct Conditions {
    absent: bool,
    present: bool,
    /// The new one must be later. None at all is later than any.
    later: bool,
    /// The new one must be earlier.
    earlier: bool,
}

impl Conditions {
    fn parse(mut options: Options<'_>) -> Result<Conditions, CommandError> {
        let mut conditions = Conditions::default();
        while let Some(option) = options.next() {
            let known = [
                ("NX", &mut conditions.absent),
                ("XX", &mut conditions.present),
                ("GT", &mut conditions.later),
                ("LT", &mut conditions.earlier),
            ];
            let Some((_, condition)) = known.into_iter().find(|(name, _)| is_token(option, name)) else {
                // Redis formats it as a text of C.
                let option = option.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = [b"ERR Unsupported option ", option].concat();
                return Err(CommandError::Unknown(text.into()));
            };
            *condition = true;
        }
        let Conditions { absent, present, later, earlier } = conditions;
        if absent && (present || later || earlier) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::fixed(text));
        }
        if later && earlier {
            return Err(CommandError::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    fn admit(&self, current: Option<i64>, at_ms: i64) -> bool {
        !(self.absent && current.is_some()
            || self.present && current.is_none()
            || self.later && current.is_none_or(|current| at_ms <= current)
            || self.earlier && current.is_some_and(|current| at_ms >= current))
    }
}

fn expire(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_key(ctx, ctx.store.now_ms, 1000, "expire")
}

fn pexpire(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_key(ctx, ctx.store.now_ms, 1, "pexpire")
}

fn expireat(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_key(ctx, 0, 1000, "expireat")
}

fn pexpireat(ctx: &mut Ctx<'_>) -> CmdResult {
    expire_key(ctx, 0, 1, "pexpireat")
}

/// Sets the expiry of argument 1 to `base_ms` plus argument 2 in units of `unit_ms`.
fn expire_key(ctx: &mut Ctx<'_>, base_ms: i64, unit_ms: i64, command: &'static str) -> CmdResult {
    let conditions = Conditions::parse(Options::new(ctx.argv, 3))?;
    let at = ctx.argv.int(2)?.checked_mul(unit_ms).and_then(|millis| millis.checked_add(base_ms));
    let at = at.ok_or(CommandError::InvalidExpire(command.into()))?;
    let key = ctx.key(1);
    let admitted = match ctx.store.write(key) {
        None => false,
        Some(entry) => conditions.admit(entry.expire_at(), at),
    };
    ctx.reply.int(i64::from(admitted));
    if !admitted {
        return Ok(());
    }
    if at <= ctx.store.now_ms && ctx.store.expiry == Expiry::Delete {
        ctx.store.delete_quietly(key, ctx.store.lazy.expire);
        let verb = ctx.store.expiry_verb();
        deleted_instead(ctx, key.bytes, verb);
        return Ok(());
    }
    ctx.store.set_expire(key, Some(at));
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::GENERIC, "expire", key.bytes);
    if (base_ms, unit_ms) != (0, 1) && ctx.store.effects.recording {
        let mut scratch = IntText::new();
        let mut args: Vec<&[u8]> = vec![b"PEXPIREAT", key.bytes, scratch.format(at)];
        args.extend(ctx.argv.tail(3).iter());
        ctx.store.effects.propagate_as(&args);
    }
    Ok(())
}

fn persist(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.key(1);
    let expires = ctx.store.write(key).is_some_and(|entry| entry.expire_at().is_some());
    if expires {
        ctx.store.set_expire(key, None);
        ctx.store.modified(key.bytes);
        ctx.store.notify(Event::GENERIC, "persist", key.bytes);
    }
    ctx.reply.int(i64::from(expires));
    Ok(())
}

/// The expiry of argument 1 after `from_ms`, in milliseconds; the reply of a key without one is an error code.
fn remaining_ms(ctx: &mut Ctx<'_>, from_ms: i64) -> Result<i64, i64> {
    let entry = ctx.store.read_untouched(ctx.key(1)).ok_or(-2)?;
    let at = entry.expire_at().ok_or(-1)?;
    Ok((at - from_ms).max(0))
}

/// Redis rounds to the nearest second.
fn seconds(millis: i64) -> i64 {
    millis.saturating_add(500) / 1000
}

fn ttl(ctx: &mut Ctx<'_>) -> CmdResult {
    let left = remaining_ms(ctx, ctx.store.now_ms).map(seconds);
    ctx.reply.int(left.unwrap_or_else(|code| code));
    Ok(())
}

fn pttl(ctx: &mut Ctx<'_>) -> CmdResult {
    let left = remaining_ms(ctx, ctx.store.now_ms);
    ctx.reply.int(left.unwrap_or_else(|code| code));
    Ok(())
}

fn expiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    let at = remaining_ms(ctx, 0).map(seconds);
    ctx.reply.int(at.unwrap_or_else(|code| code));
    Ok(())
}

fn pexpiretime(ctx: &mut Ctx<'_>) -> CmdResult {
    let at = remaining_ms(ctx, 0);
    ctx.reply.int(at.unwrap_or_else(|code| code));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::Expiry;
    use crate::testing::Harness;

    #[test]
    fn conditions() {
        let mut h = Harness::new();
        h.run("SET a x");
        for (line, reply) in [
            ("EXPIRE a 100 XX", r":0\r\n"),
            ("EXPIRE a 100 GT", r":0\r\n"),
            ("EXPIRE a 200 LT", r":1\r\n"),
            ("EXPIRE a 100 NX", r":0\r\n"),
            ("EXPIRE a 100 XX GT", r":0\r\n"),
            ("EXPIRE a 300 gt", r":1\r\n"),
            ("EXPIRE a 300 LT", r":0\r\n"),
            ("EXPIRE a 50 XX LT", r":1\r\n"),
            ("TTL a", r":50\r\n"),
            ("EXPIRE a 1 NX XX", r"-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"),
            ("EXPIRE a 1 GT LT", r"-ERR GT and LT options at the same time are not compatible\r\n"),
            ("EXPIRE a 1 AB CD", r"-ERR Unsupported option AB\r\n"),
            ("EXPIRE a x", r"-ERR value is not an integer or out of range\r\n"),
            ("EXPIRE a 9223370399119966", r"-ERR invalid expire time in \'expire\' command\r\n"),
            ("EXPIRE a -9223372036854776", r"-ERR invalid expire time in \'expire\' command\r\n"),
            ("PEXPIRE a 9223372036854770000", r"-ERR invalid expire time in \'pexpire\' command\r\n"),
            ("EXPIRE b 10", r":0\r\n"),
            ("PEXPIREAT a 9223372036854770000", r":1\r\n"),
            ("PERSIST a", r":1\r\n"),
            ("PERSIST a", r":0\r\n"),
            ("TTL a", r":-1\r\n"),
            ("PEXPIRETIME b", r":-2\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
    }

    #[test]
    fn all_units_propagate_as_points_in_milliseconds() {
        let mut h = Harness::new();
        h.run("SET a x");
        h.run("EXPIRE a 10 NX");
        h.run("PEXPIRE a 10");
        h.run("EXPIREAT a 2000000000 GT");
        h.run("pexpireat a 2000000000001 XX");
        assert_eq!(h.run("EXPIRETIME a"), r":2000000000\r\n");
        assert_eq!(h.run("PEXPIRETIME a"), r":2000000000001\r\n");
        h.run("PERSIST a");
        let now_ms = h.now_ms();
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0".to_owned(),
                "SET a x".to_owned(),
                format!("PEXPIREAT a {} NX", now_ms + 10_000),
                format!("PEXPIREAT a {}", now_ms + 10),
                "PEXPIREAT a 2000000000000 GT".to_owned(),
                "pexpireat a 2000000000001 XX".to_owned(),
                "PERSIST a".to_owned(),
            ]
        );
    }

    #[test]
    fn a_time_that_has_passed_deletes_on_a_primary_only() {
        let mut h = Harness::new();
        h.run("SET a x");
        let events: Vec<&str> = h.events("EXPIRE a -1").iter().map(|event| event.name).collect();
        assert_eq!(events, ["del"]);
        assert_eq!(h.propagated(), ["SELECT 0", "SET a x", "DEL a"]);
        h.node.store.lazy.expire = true;
        h.run("SET a x");
        assert_eq!(h.run("PEXPIREAT a 1"), r":1\r\n");
        assert_eq!(h.propagated(), ["SET a x", "UNLINK a"]);
        h.node.store.expiry = Expiry::Hide;
        h.run("SET a x");
        assert_eq!(h.run("EXPIREAT a 1"), r":1\r\n");
        assert_eq!(h.propagated(), ["SET a x", "PEXPIREAT a 1000"]);
        assert_eq!((h.run("DBSIZE"), h.run("TTL a")), (r":1\r\n".into(), r":-2\r\n".into()));
    }

    #[test]
    fn seconds_are_rounded_to_the_nearest() {
        let mut h = Harness::new();
        h.run("SET a x PX 1499");
        assert_eq!(h.run("TTL a"), r":1\r\n");
        h.run("SET a x PX 1500");
        assert_eq!(h.run("TTL a"), r":2\r\n");
        h.advance_ms(1500);
        assert_eq!(h.run("PTTL a"), r":0\r\n", "a key lives through its last millisecond");
        h.advance_ms(1);
        assert_eq!(h.run("PTTL a"), r":-2\r\n");
        assert_eq!(h.node.store.stats.expired_keys, 1);
    }
}
