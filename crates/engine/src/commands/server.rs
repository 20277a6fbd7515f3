//! The server as a whole: what it tells of itself, its clock, its slow log, its end.

use command::{
    Acl, Arg, ArgKind, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Options, ParseArgs,
    is_token,
};

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::info;
use crate::session::Blocked;
use crate::shutdown::{self, Shutdown};

pub const COMMANDS: &[Command<Handler>] = &[INFO, LOLWUT, SHUTDOWN, SLOWLOG, TIME];

const SLOWLOG_HELP: &[&str] = &[
    "GET [<count>]",
    "    List the last <count> slow commands (default: 10, -1 for all), newest first:",
    "    id, time, duration in microseconds, arguments, address and name of the client.",
    "LEN",
    "    Count the entries.",
    "RESET",
    "    Remove all entries.",
];

/// INFO
const INFO: Command<Handler> = Command {
    name: "info",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Dangerous]),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Tells the state and the counters of the server.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("section") }],
        ..Docs::NONE
    },
    ..Command::runs(info)
};

/// TIME
const TIME: Command<Handler> = Command {
    name: "time",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Loading, Flag::Stale, Flag::Fast]),
    tips: &["nondeterministic_output"],
    docs: &Docs { since: "2.6.0", complexity: "O(1)", summary: "Tells the server's clock.", ..Docs::NONE },
    ..Command::runs(time)
};

/// LOLWUT
const LOLWUT: Command<Handler> = Command {
    name: "lolwut",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    docs: &Docs {
        since: "5.0.0",
        summary: "Draws something, and tells the version.",
        arguments: &[Arg { token: "VERSION", optional: true, ..Arg::integer("version") }],
        ..Docs::NONE
    },
    ..Command::runs(lolwut)
};

/// SHUTDOWN
const SHUTDOWN: Command<Handler> = Command {
    name: "shutdown",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[
        Flag::Admin,
        Flag::Noscript,
        Flag::Loading,
        Flag::Stale,
        Flag::NoMulti,
        Flag::AllowBusy,
    ]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
        summary: "Ends the server in good order.",
        arguments: &[
            Arg {
                optional: true,
                ..Arg::new(
                    "nosave_save",
                    ArgKind::OneOf(&[
                        Arg { token: "NOSAVE", ..Arg::new("nosave", ArgKind::PureToken) },
                        Arg { token: "SAVE", ..Arg::new("save", ArgKind::PureToken) },
                    ]),
                )
            },
            Arg { token: "NOW", since: "7.0.0", optional: true, ..Arg::new("now", ArgKind::PureToken) },
            Arg { token: "FORCE", since: "7.0.0", optional: true, ..Arg::new("force", ArgKind::PureToken) },
            Arg { token: "ABORT", since: "7.0.0", optional: true, ..Arg::new("abort", ArgKind::PureToken) },
        ],
        ..Docs::NONE
    },
    ..Command::runs(shutdown)
};

/// SLOWLOG
const SLOWLOG: Command<Handler> = Command {
    name: "slowlog",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        since: "2.2.12",
        complexity: "Depends on subcommand",
        summary: "Commands about the log of slow commands.",
        ..Docs::NONE
    },
    ..Command::parent(&[SLOWLOG_GET, SLOWLOG_HELP_COMMAND, SLOWLOG_LEN, SLOWLOG_RESET])
};

/// SLOWLOG GET
const SLOWLOG_GET: Command<Handler> = Command {
    name: "get",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Admin, Flag::Loading, Flag::Stale]),
    tips: &["request_policy:all_nodes", "nondeterministic_output"],
    docs: &Docs {
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries returned",
        summary: "Lists slow commands, newest first.",
        arguments: &[Arg { optional: true, ..Arg::integer("count") }],
        ..Docs::NONE
    },
    ..Command::runs(slowlog_get)
};

/// SLOWLOG HELP
const SLOWLOG_HELP_COMMAND: Command<Handler> = Command {
    name: "help",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    docs: &Docs { since: "6.2.0", complexity: "O(1)", summary: "Lists the subcommands.", ..Docs::NONE },
    ..Command::runs(slowlog_help)
};

/// SLOWLOG LEN
const SLOWLOG_LEN: Command<Handler> = Command {
    name: "len",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Loading, Flag::Stale]),
    tips: &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
    docs: &Docs {
        since: "2.2.12",
        complexity: "O(1)",
        summary: "Counts the entries of the slow log.",
        ..Docs::NONE
    },
    ..Command::runs(slowlog_len)
};

/// SLOWLOG RESET
const SLOWLOG_RESET: Command<Handler> = Command {
    name: "reset",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Loading, Flag::Stale]),
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    docs: &Docs {
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries in the slowlog",
        summary: "Empties the slow log.",
        ..Docs::NONE
    },
    ..Command::runs(slowlog_reset)
};

fn info(ctx: &mut Ctx<'_>) -> CmdResult {
    let sections: Vec<&[u8]> = ctx.argv.tail(1).iter().collect();
    let text = info::text(ctx.store, ctx.core, &sections);
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn time(ctx: &mut Ctx<'_>) -> CmdResult {
    // The clock of the unit has milliseconds; within a unit time stands still anyway.
    let now_ms = ctx.store.now_ms;
    ctx.reply.array(2);
    ctx.reply.bulk_int(now_ms / 1000);
    ctx.reply.bulk_int(now_ms % 1000 * 1000);
    Ok(())
}

/// Two strands that wind around each other: what a replica does with its primary.
fn lolwut(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(option) = ctx.argv.get(1)
        && (!is_token(option, "version") || ctx.argv.int(2).is_err())
    {
        return Err(CommandError::Syntax);
    }
    const WIDTH: usize = 41;
    let mut art = String::new();
    for row in 0..12 {
        let angle = f64::from(row) * 0.55;
        let middle = (WIDTH / 2) as f64;
        let at = |sign: f64| (middle + sign * angle.sin() * middle) as usize;
        let (near, far) = (at(1.0), at(-1.0));
        let (left, right) = (near.min(far), near.max(far));
        let line: String = (0..WIDTH)
            .map(|column| match column {
                _ if column == near => 'O',
                _ if column == far => 'o',
                _ if column > left && column < right && row % 2 == 0 => '-',
                _ => ' ',
            })
            .collect();
        art.push_str(line.trim_end());
        art.push('\n');
    }
    art.push_str(&format!(
        "\nKindred ver. {}, speaks Redis ver. {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::REDIS_VERSION
    ));
    ctx.reply.verbatim(b"txt", art.as_bytes());
    Ok(())
}

fn shutdown(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mut wanted, mut abort) = (Shutdown::default(), false);
    let mut options = Options::new(ctx.argv, 1);
    while let Some(option) = options.next() {
        if is_token(option, "nosave") && wanted.save != Some(true) {
            wanted.save = Some(false);
        } else if is_token(option, "save") && wanted.save != Some(false) {
            wanted.save = Some(true);
        } else if is_token(option, "now") {
            wanted.now = true;
        } else if is_token(option, "force") {
            wanted.force = true;
        } else if is_token(option, "abort") {
            abort = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if abort {
        if wanted != Shutdown::default() {
            return Err(CommandError::Syntax);
        }
        if !shutdown::abort(ctx.store, ctx.core) {
            return Err(CommandError::fixed("ERR No shutdown in progress."));
        }
        ctx.reply.ok();
        return Ok(());
    }
    shutdown::request(ctx.store, ctx.core, wanted);
    ctx.session.blocked = Some(Blocked::Shutdown);
    Ok(())
}

fn slowlog_help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, SLOWLOG_HELP);
    Ok(())
}

fn slowlog_len(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.core.slowlog.entries.len() as i64);
    Ok(())
}

fn slowlog_reset(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.slowlog.entries.clear();
    ctx.reply.ok();
    Ok(())
}

fn slowlog_get(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = match ctx.argv.len() {
        2 => 10,
        3 => {
            let error = CommandError::fixed("ERR count should be greater than or equal to -1");
            ctx.argv.int_within_or(2, -1..=i64::MAX, error)?
        }
        _ => return Err(CommandError::subcommand_syntax(ctx.argv)),
    };
    let entries = &ctx.core.slowlog.entries;
    // -1 is all of them.
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(entries.len());
    ctx.reply.array(count);
    for entry in entries.iter().take(count) {
        ctx.reply.array(6);
        ctx.reply.int(entry.id as i64);
        ctx.reply.int(entry.unix_s);
        ctx.reply.int(entry.micros as i64);
        ctx.reply.array(entry.argv.len());
        entry.argv.iter().for_each(|arg| ctx.reply.bulk(arg));
        ctx.reply.bulk(entry.addr.as_bytes());
        ctx.reply.bulk(&entry.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::testing::Harness;

    #[test]
    fn slow_commands_are_kept_without_passwords() {
        let mut h = Harness::new();
        assert_eq!(h.run("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 3"), r"+OK\r\n");
        h.run("SLOWLOG RESET");
        h.run("AUTH default secret");
        assert_eq!(
            h.run("SLOWLOG GET 1").split_once(r":1700000000\r\n").unwrap().1,
            r":0\r\n*3\r\n$4\r\nAUTH\r\n$10\r\n(redacted)\r\n$10\r\n(redacted)\r\n$11\r\n127.0.0.1:1\r\n$0\r\n\r\n"
        );
        assert_eq!(h.run("SLOWLOG LEN"), r":3\r\n");
        assert_eq!(h.run("SLOWLOG GET -2"), r"-ERR count should be greater than or equal to -1\r\n");
        assert!(h.run("SLOWLOG GET -1").starts_with("*3"));
        assert_eq!(h.run("CONFIG SET slowlog-log-slower-than -1"), r"+OK\r\n");
        assert_eq!(h.run("SLOWLOG RESET"), r"+OK\r\n");
        assert_eq!(h.run("SLOWLOG LEN"), r":0\r\n");
        assert!(h.run("SLOWLOG HELP").starts_with(r"*10\r\n+SLOWLOG <subcommand> "));
    }

    #[test]
    fn time_and_shutdown_arguments() {
        let mut h = Harness::new();
        h.advance_ms(7);
        assert_eq!(h.run("TIME"), r"*2\r\n$10\r\n1700000000\r\n$4\r\n7000\r\n");
        assert_eq!(h.run("SHUTDOWN SAVE NOSAVE"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("SHUTDOWN ABORT NOW"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("SHUTDOWN ABORT"), r"-ERR No shutdown in progress.\r\n");
        assert!(h.run("LOLWUT VERSION 5").contains("Redis ver. 7.2.4"));
        assert_eq!(h.run("SHUTDOWN NOSAVE NOW"), "");
        h.node.before_sleep();
        let exits = |action: &Action| matches!(action, Action::Exit { code: 0 });
        assert!(h.node.take_actions().iter().any(exits));
    }
}
