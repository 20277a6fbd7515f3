//! `MEMORY`: what a key costs.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::EntryExt;

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};

pub const COMMANDS: &[Command<Handler>] = &[Command {
    name: "memory",
    group: Group::Server,
    docs: &Docs {
        since: "4.0.0",
        complexity: "Depends on the subcommand",
        summary: "Tells how memory is used.",
        ..Docs::NONE
    },
    ..Command::parent(&[HELP, USAGE])
}];

/// MEMORY HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(1)",
        summary: "Lists the subcommands of MEMORY.",
        ..Docs::NONE
    },
    ..Command::runs(help)
};

/// MEMORY USAGE key [SAMPLES count]
const USAGE: Command<Handler> = Command {
    name: "usage",
    group: Group::Server,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Read]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(N), when N is the number of elements of the value",
        summary: "Estimates the bytes that a key and its value take.",
        arguments: &[Arg::key("key", 0), Arg::integer("count").token("SAMPLES").optional()],
        ..Docs::NONE
    },
    ..Command::runs(usage)
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, &["USAGE <key> [SAMPLES <count>]", "    Bytes that <key> and its value take."]);
    Ok(())
}

/// Every element is counted: the number of samples is checked, and not needed.
fn usage(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        if !is_token(option, "samples") || options.int()? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match ctx.store.peek(ctx.key(2)) {
        // A slot of the table is part of what the key costs.
        Some(entry) => ctx.reply.int((entry.total_bytes() + SLOT_BYTES) as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// A key's share of the table, on average.
const SLOT_BYTES: usize = 14;

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn usage_grows_with_the_value() {
        let mut h = Harness::new();
        h.run("SET a x");
        h.run_args(&[b"SET", b"b", &[b'x'; 10_000]]);
        let small: i64 = h.run("MEMORY USAGE a").trim_matches([':', '\\', 'r', 'n']).parse().unwrap();
        let large: i64 =
            h.run("MEMORY USAGE b SAMPLES 5").trim_matches([':', '\\', 'r', 'n']).parse().unwrap();
        assert!(small < 100 && large > 10_000, "{small} {large}");
        assert_eq!(h.run("MEMORY USAGE none"), r"$-1\r\n");
        assert_eq!(h.run("MEMORY USAGE a SAMPLES"), r"-ERR syntax error\r\n");
    }
}
