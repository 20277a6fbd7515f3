//! `COMMAND`: what the commands are, read from their declarations.

use ::command::{
    Acl, Arg, ArgKind, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Keys, is_token,
};
use structures::glob;

use super::{registry, write_help};
use crate::ctx::{CmdResult, CommandRef, Ctx, Handler};

pub const COMMANDS: &[Command<Handler>] = &[COMMAND];

const HELP_LINES: &[&str] = &[
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Count the commands.",
    "DOCS [<command-name> [...]]",
    "    Tell the documentation of commands, of all by default.",
    "GETKEYS <full-command>",
    "    Find the keys of a command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Find the keys of a command, and what it does to them.",
    "INFO [<command-name> [...]]",
    "    Describe commands, all by default.",
    "LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <value>]",
    "    List the names of commands.",
];

/// COMMAND
const COMMAND: Command<Handler> = Command {
    name: "command",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output_order"],
    subcommands: &[COUNT, DOCS, GETKEYS, GETKEYSANDFLAGS, HELP, INFO, LIST],
    docs: &Docs {
        since: "2.8.13",
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Describes all commands.",
        ..Docs::NONE
    },
    ..Command::runs(command)
};

/// COMMAND COUNT
const COUNT: Command<Handler> = Command {
    name: "count",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs { since: "2.8.13", complexity: "O(1)", summary: "Counts the commands.", ..Docs::NONE },
    ..Command::runs(count)
};

/// COMMAND DOCS
const DOCS: Command<Handler> = Command {
    name: "docs",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Tells the documentation of commands.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("command-name") }],
        ..Docs::NONE
    },
    ..Command::runs(docs)
};

/// COMMAND GETKEYS
const GETKEYS: Command<Handler> = Command {
    name: "getkeys",
    group: Group::Server,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "2.8.13",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Finds the keys among the arguments of a command.",
        ..Docs::NONE
    },
    ..Command::runs(getkeys)
};

/// COMMAND GETKEYSANDFLAGS
const GETKEYSANDFLAGS: Command<Handler> = Command {
    name: "getkeysandflags",
    group: Group::Server,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Finds the keys among the arguments of a command, and what it does to them.",
        ..Docs::NONE
    },
    ..Command::runs(getkeysandflags)
};

/// COMMAND HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs { since: "5.0.0", complexity: "O(1)", summary: "Lists the subcommands.", ..Docs::NONE },
    ..Command::runs(help)
};

/// COMMAND INFO
const INFO: Command<Handler> = Command {
    name: "info",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "2.8.13",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Describes commands.",
        arguments: &[Arg { optional: true, multiple: true, ..Arg::string("command-name") }],
        ..Docs::NONE
    },
    ..Command::runs(info)
};

/// COMMAND LIST
const LIST: Command<Handler> = Command {
    name: "list",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Lists the names of commands.",
        arguments: &[Arg {
            token: "FILTERBY",
            optional: true,
            ..Arg::new(
                "filterby",
                ArgKind::OneOf(&[
                    Arg { token: "MODULE", ..Arg::string("module-name") },
                    Arg { token: "ACLCAT", ..Arg::string("category") },
                    Arg { token: "PATTERN", ..Arg::new("pattern", ArgKind::Pattern) },
                ]),
            )
        }],
        ..Docs::NONE
    },
    ..Command::runs(list)
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP_LINES);
    Ok(())
}

fn count(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.core.commands().commands().count() as i64);
    Ok(())
}

fn command(ctx: &mut Ctx<'_>) -> CmdResult {
    let named = ctx.core.commands();
    ctx.reply.array(named.commands().count());
    named.commands().for_each(|entry| entry.write_info(registry(), &mut ctx.reply));
    Ok(())
}

fn info(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.argv.len() == 2 {
        return command(ctx);
    }
    ctx.reply.array(ctx.argv.len() - 2);
    for name in ctx.argv.tail(2).iter() {
        match ctx.core.commands().lookup_full_name(name) {
            Some(entry) => entry.write_info(registry(), &mut ctx.reply),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}

fn docs(ctx: &mut Ctx<'_>) -> CmdResult {
    let named = ctx.core.commands();
    let found: Vec<CommandRef> = match ctx.argv.len() {
        2 => named.commands().collect(),
        _ => ctx.argv.tail(2).iter().filter_map(|name| named.lookup_full_name(name)).collect(),
    };
    ctx.reply.map(found.len());
    for entry in found {
        ctx.reply.bulk(entry.full_name.as_bytes());
        entry.write_docs(registry(), &mut ctx.reply);
    }
    Ok(())
}

/// The command that the arguments from index 2 on are, and its keys; none where it takes none of those given.
fn keys_of(ctx: &Ctx<'_>) -> Result<Option<Keys>, CommandError> {
    let argv = ctx.argv.tail(2);
    let entry: CommandRef = ctx
        .core
        .commands()
        .resolve(argv)
        .map_err(|_| CommandError::fixed("ERR Invalid command specified"))?;
    if !entry.has_keys() {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !entry.command.arity.accepts(argv.len()) {
        return Err(CommandError::fixed("ERR Invalid number of arguments specified for command"));
    }
    match entry.keys(argv) {
        None if !entry.flags.has(Flag::NoMandatoryKeys) => {
            Err(CommandError::fixed("ERR Invalid arguments specified for command"))
        }
        keys => Ok(keys),
    }
}

fn getkeys(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = keys_of(ctx)?.unwrap_or_default();
    ctx.reply.array(keys.len());
    keys.iter().for_each(|key| ctx.reply.bulk(ctx.argv.at(key.index as usize + 2)));
    Ok(())
}

fn getkeysandflags(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = keys_of(ctx)?.unwrap_or_default();
    ctx.reply.array(keys.len());
    for key in &keys {
        ctx.reply.array(2);
        ctx.reply.bulk(ctx.argv.at(key.index as usize + 2));
        ctx.reply.set(key.flags.iter().count());
        key.flags.iter().for_each(|flag| ctx.reply.simple(flag.name()));
    }
    Ok(())
}

/// Which names `COMMAND LIST` gives.
enum Filter<'a> {
    All,
    /// There are no modules, so nothing is of one.
    Nothing,
    Category(Category),
    Pattern(&'a [u8]),
}

fn list(ctx: &mut Ctx<'_>) -> CmdResult {
    let filter = match (ctx.argv.len(), ctx.argv.get(2)) {
        (2, _) => Filter::All,
        (5, Some(option)) if is_token(option, "filterby") => {
            let (kind, value) = (ctx.argv.at(3), ctx.argv.at(4));
            if is_token(kind, "module") {
                Filter::Nothing
            } else if is_token(kind, "aclcat") {
                Category::from_name(value).map_or(Filter::Nothing, Filter::Category)
            } else if is_token(kind, "pattern") {
                Filter::Pattern(value)
            } else {
                return Err(CommandError::Syntax);
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    let shown = |entry: &CommandRef| match &filter {
        Filter::All => true,
        Filter::Nothing => false,
        Filter::Category(category) => entry.acl.has(*category),
        Filter::Pattern(pattern) => glob::matches_ignoring_case(pattern, entry.full_name.as_bytes()),
    };
    let named = ctx.core.commands();
    ctx.reply.array(named.entries().filter(shown).count());
    named.entries().filter(shown).for_each(|entry| ctx.reply.bulk(entry.full_name.as_bytes()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::params;
    use crate::testing::Harness;

    fn renamed(lines: &[&str]) -> Harness {
        let mut config = Config::default();
        for line in lines {
            let (from, to) = line.split_once(' ').unwrap();
            let args = [from.as_bytes(), to.as_bytes()];
            params::apply_directive(&mut config, b"rename-command", &args).unwrap();
        }
        Harness::with_config(config)
    }

    #[test]
    fn renamed_commands_go_by_their_new_names_only() {
        let mut h = renamed(&["SET Put", "config Conf", "FLUSHALL ", "object obj"]);
        let count = |h: &mut Harness| -> usize {
            h.run("COMMAND COUNT").trim_matches([':', '\\', 'r', 'n']).parse().unwrap()
        };
        assert_eq!(count(&mut h) + 1, count(&mut Harness::new()));
        for (line, expected) in [
            ("set a 1", r"-ERR unknown command \'set\', with args beginning with: \'a\' \'1\' \r\n"),
            ("pUT a 1", r"+OK\r\n"),
            ("put a", r"-ERR wrong number of arguments for \'set\' command\r\n"),
            ("FLUSHALL", r"-ERR unknown command \'FLUSHALL\', with args beginning with: \r\n"),
            ("conf nope", r"-ERR unknown subcommand \'nope\'. Try CONF HELP.\r\n"),
            ("conf get rename-command", r"*0\r\n"),
            (
                "conf set rename-command x",
                r"-ERR Unknown option or number of arguments for CONFIG SET - \'rename-command\'\r\n",
            ),
            ("command info set config|get", r"*2\r\n*-1\r\n*-1\r\n"),
            ("command docs set", r"*0\r\n"),
            ("command getkeys put k v", r"*1\r\n$1\r\nk\r\n"),
            ("command getkeys set k v", r"-ERR Invalid command specified\r\n"),
            ("command list filterby pattern put", r"*0\r\n"),
            ("command list filterby pattern set", r"*1\r\n$3\r\nset\r\n"),
            ("command list filterby pattern flushall", r"*0\r\n"),
            ("latency histogram set", r"*0\r\n"),
        ] {
            assert_eq!(h.run(line), expected, "{line}");
        }
        assert!(h.run("command info put").starts_with(r"*1\r\n*10\r\n$3\r\nset\r\n"));
        assert!(h.run("command info conf|get").starts_with(r"*1\r\n*10\r\n$10\r\nconfig|get\r\n"));
        assert!(h.run("command docs put").starts_with(r"*2\r\n$3\r\nset\r\n"));
        assert!(h.run("latency histogram put").starts_with(r"*2\r\n$3\r\nset\r\n"));
        assert!(h.run("obj help").contains("+OBJ <subcommand>"));
        assert!(h.run("conf help").contains("+CONF <subcommand>"));
        assert!(h.run("info commandstats").contains("cmdstat_set:calls=1,"));
    }

    #[test]
    fn what_was_sent_is_propagated_and_effects_keep_their_names() {
        let mut h = renamed(&["set put", "pexpireat x", "multi m", "exec e"]);
        for line in ["put a 1", "put a 1 ex 100", "m", "put b 2", "incr b", "e"] {
            h.run(line);
        }
        assert_eq!(
            h.propagated(),
            ["SELECT 0", "put a 1", "SET a 1 PXAT 1700000100000", "MULTI", "put b 2", "incr b", "EXEC"]
        );
    }

    #[test]
    fn counts_and_describes() {
        let mut h = Harness::new();
        let count: usize = h.run("COMMAND COUNT").trim_matches([':', '\\', 'r', 'n']).parse().unwrap();
        assert!(h.run("COMMAND").starts_with(&format!("*{count}\\r\\n")));
        assert_eq!(
            h.run("COMMAND INFO get nope"),
            r"*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n*-1\r\n"
        );
        assert!(h.run("COMMAND DOCS get nope").starts_with(r"*2\r\n$3\r\nget\r\n"));
    }

    #[test]
    fn keys_are_found() {
        let mut h = Harness::new();
        assert_eq!(h.run("COMMAND GETKEYS GET a"), r"*1\r\n$1\r\na\r\n");
        assert_eq!(h.run("COMMAND GETKEYS WATCH a b"), r"*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(
            h.run("COMMAND GETKEYSANDFLAGS GET a"),
            r"*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n"
        );
        assert_eq!(h.run("COMMAND GETKEYS nope x"), r"-ERR Invalid command specified\r\n");
        assert_eq!(h.run("COMMAND GETKEYS PING x"), r"-ERR The command has no key arguments\r\n");
        assert_eq!(
            h.run("COMMAND GETKEYS GET a b"),
            r"-ERR Invalid number of arguments specified for command\r\n"
        );
    }

    #[test]
    fn names_are_listed_by_filter() {
        let mut h = Harness::new();
        assert_eq!(h.run("COMMAND LIST FILTERBY pattern CONFIG|se*"), r"*1\r\n$10\r\nconfig|set\r\n");
        assert_eq!(h.run("COMMAND LIST FILTERBY module x"), r"*0\r\n");
        assert_eq!(h.run("COMMAND LIST FILTERBY aclcat nope"), r"*0\r\n");
        assert!(h.run("COMMAND LIST FILTERBY aclcat transaction").contains("multi"));
        assert_eq!(h.run("COMMAND LIST FILTERBY x y"), r"-ERR syntax error\r\n");
        assert!(h.run("COMMAND LIST").contains("client|list"));
    }
}
