//! `FUNCTION`: the libraries that this server keeps and passes on ([`crate::functions`]). It does not compile them, so
//! `LOAD` is for the stream of a primary only, and nothing tells which functions a library has.
//!
//! What a client restores was compiled by the server that dumped it. Whether its functions have names of their own beside
//! those of other libraries is not known here, so it takes the place of all that is there.

use std::sync::Arc;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Options, is_token,
};
use rdb::{Encoder, EncoderOptions, Target};
use replication::Feature;

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::functions::{Functions, Header, Policy};

pub const COMMANDS: &[Command<Handler>] = &[Command {
    name: "function",
    group: Group::Scripting,
    docs: &Docs {
        since: "7.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for function commands.",
        ..Docs::NONE
    },
    ..Command::parent(&[DELETE, DUMP, FLUSH, HELP, KILL, LIST, LOAD, RESTORE, STATS])
}];

const NOT_COMPILED: CommandError = CommandError::fixed(
    "ERR This server keeps and replicates function libraries but does not compile them. Load the library on a server \
     that does, and bring it here with FUNCTION DUMP and FUNCTION RESTORE, or by replication",
);

/// FUNCTION LOAD [REPLACE] function-code
const LOAD: Command<Handler> = Command {
    name: "load",
    group: Group::Scripting,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Noscript, Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Scripting]),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(1) (considering compilation time is redundant)",
        summary: "Creates a library.",
        arguments: &[Arg::pure_token("replace", "REPLACE").optional(), Arg::string("function-code")],
        ..Docs::NONE
    },
    ..Command::runs(load)
};

/// FUNCTION DELETE library-name
const DELETE: Command<Handler> = Command {
    name: "delete",
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Noscript, Flag::Write]),
    docs: &Docs {
        complexity: "O(1)",
        summary: "Deletes a library and its functions.",
        arguments: &[Arg::string("library-name")],
        ..*LOAD.docs
    },
    handler: Some(delete),
    ..LOAD
};

/// FUNCTION FLUSH [ASYNC | SYNC]
const FLUSH: Command<Handler> = Command {
    name: "flush",
    arity: Arity::AtLeast(2),
    docs: &Docs {
        complexity: "O(N) where N is the number of functions deleted",
        summary: "Deletes all libraries and functions.",
        arguments: &[Arg::one_of(
            "flush-type",
            &[Arg::pure_token("async", "ASYNC"), Arg::pure_token("sync", "SYNC")],
        )
        .optional()],
        ..*LOAD.docs
    },
    handler: Some(flush),
    ..DELETE
};

/// FUNCTION DUMP
const DUMP: Command<Handler> = Command {
    name: "dump",
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript]),
    tips: &[],
    docs: &Docs {
        complexity: "O(N) where N is the number of functions",
        summary: "Dumps all libraries into a serialized binary payload.",
        arguments: &[],
        ..*LOAD.docs
    },
    handler: Some(dump),
    ..LOAD
};

/// FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]
const RESTORE: Command<Handler> = Command {
    name: "restore",
    docs: &Docs {
        complexity: "O(N) where N is the number of functions on the payload",
        summary: "Restores all libraries from a payload.",
        arguments: &[
            Arg::string("serialized-value"),
            Arg::one_of(
                "policy",
                &[
                    Arg::pure_token("flush", "FLUSH"),
                    Arg::pure_token("append", "APPEND"),
                    Arg::pure_token("replace", "REPLACE"),
                ],
            )
            .optional(),
        ],
        ..*LOAD.docs
    },
    handler: Some(restore),
    ..LOAD
};

/// FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]
const LIST: Command<Handler> = Command {
    name: "list",
    arity: Arity::AtLeast(2),
    tips: &["nondeterministic_output_order"],
    docs: &Docs {
        complexity: "O(N) where N is the number of functions",
        summary: "Returns information about all libraries.",
        arguments: &[
            Arg::string("library-name-pattern").token("LIBRARYNAME").optional(),
            Arg::pure_token("withcode", "WITHCODE").optional(),
        ],
        ..*LOAD.docs
    },
    handler: Some(list),
    ..DUMP
};

/// FUNCTION STATS
const STATS: Command<Handler> = Command {
    name: "stats",
    flags: Flags::of(&[Flag::Noscript, Flag::AllowBusy]),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    docs: &Docs {
        complexity: "O(1)",
        summary: "Returns information about a function during execution.",
        ..*DUMP.docs
    },
    handler: Some(stats),
    ..DUMP
};

/// FUNCTION KILL
const KILL: Command<Handler> = Command {
    name: "kill",
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    docs: &Docs { summary: "Terminates a function during execution.", ..*STATS.docs },
    handler: Some(kill),
    ..STATS
};

/// FUNCTION HELP
const HELP: Command<Handler> = Command {
    name: "help",
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    tips: &[],
    docs: &Docs { summary: "Returns helpful text about the different subcommands.", ..*STATS.docs },
    handler: Some(help),
    ..DUMP
};

fn load(ctx: &mut Ctx<'_>) -> CmdResult {
    let (code, options) = (ctx.argv.len() - 1, 2..ctx.argv.len() - 1);
    let mut replace = false;
    for at in options {
        if !is_token(ctx.argv.at(at), "REPLACE") || replace {
            return Err(CommandError::quoting("ERR Unknown option given: {}", &[ctx.argv.at(at)]));
        }
        replace = true;
    }
    let code = ctx.argv.at(code);
    Header::parse(code)?;
    if !ctx.session.is_primary() {
        return Err(NOT_COMPILED);
    }
    let name = ctx.store.functions.load(code, replace)?;
    ctx.store.effects.dirty += 1;
    ctx.reply.bulk(name);
    Ok(())
}

/// The libraries have changed; it is told in these words.
fn changed(ctx: &mut Ctx<'_>, args: &[&[u8]]) {
    ctx.store.effects.dirty += 1;
    ctx.store.effects.propagate_newer(Feature::Rdb10, args);
}

fn delete(ctx: &mut Ctx<'_>) -> CmdResult {
    let name = ctx.argv.at(2);
    if !ctx.store.functions.delete(name) {
        return Err(CommandError::fixed("ERR Library not found"));
    }
    changed(ctx, &[b"FUNCTION", b"DELETE", name]);
    ctx.reply.ok();
    Ok(())
}

fn flush(ctx: &mut Ctx<'_>) -> CmdResult {
    let is_known = |option: &[u8]| is_token(option, "SYNC") || is_token(option, "ASYNC");
    if ctx.argv.len() > 3 || ctx.argv.get(2).is_some_and(|option| !is_known(option)) {
        return Err(CommandError::fixed("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    ctx.store.functions.clear();
    changed(ctx, &[b"FUNCTION", b"FLUSH"]);
    ctx.reply.ok();
    Ok(())
}

fn dump(ctx: &mut Ctx<'_>) -> CmdResult {
    let payload = payload(&ctx.store.functions);
    ctx.reply.bulk(&payload);
    Ok(())
}

/// Every server that knows functions reads version 10.
fn payload(functions: &Functions) -> Vec<u8> {
    let mut encoder = Encoder::new(Target::V10, EncoderOptions::default());
    let mut out = Vec::new();
    for (_, code) in functions.iter() {
        encoder.function(&mut out, code).expect("version 10 holds functions");
    }
    rdb::dump::seal(&mut out, Target::V10);
    out
}

fn restore(ctx: &mut Ctx<'_>) -> CmdResult {
    let policy = match ctx.argv.get(3) {
        _ if ctx.argv.len() > 4 => return Err(CommandError::unknown_subcommand(ctx.argv)),
        None => Policy::Append,
        Some(word) if is_token(word, "APPEND") => Policy::Append,
        Some(word) if is_token(word, "REPLACE") => Policy::Replace,
        Some(word) if is_token(word, "FLUSH") => Policy::Flush,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let codes = rdb::dump::functions(ctx.argv.at(2))
        .map_err(|_| CommandError::fixed("ERR DUMP payload version or checksum are wrong"))?;
    let mut restored = Functions::default();
    for code in &codes {
        restored.load(code, false)?;
    }
    if !ctx.session.is_primary() && policy != Policy::Flush && !ctx.store.functions.is_empty() {
        return Err(CommandError::fixed(
            "ERR This server does not know the functions of its libraries, so it cannot tell whether others may stand \
             beside them. Use FLUSH, with a payload that has all libraries",
        ));
    }
    let told = payload(&restored);
    ctx.store.functions.restore(restored, policy)?;
    changed(ctx, &[b"FUNCTION", b"RESTORE", &told, policy.name().as_bytes()]);
    ctx.reply.ok();
    Ok(())
}

fn list(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut options = Options::new(ctx.argv, 2);
    while let Some(option) = options.next() {
        if !with_code && is_token(option, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && is_token(option, "LIBRARYNAME") {
            let given = options.next();
            pattern = Some(given.ok_or(CommandError::fixed("ERR library name argument was not given"))?);
        } else {
            return Err(CommandError::quoting("ERR Unknown argument {}", &[option]));
        }
    }
    let wanted =
        |name: &[u8]| pattern.is_none_or(|pattern| structures::glob::matches_ignoring_case(pattern, name));
    let found: Vec<(&[u8], &Arc<[u8]>)> =
        ctx.store.functions.iter().filter(|(name, _)| wanted(name)).collect();
    ctx.reply.array(found.len());
    for (name, code) in found {
        let header = Header::parse(code).expect("what is kept was named by its first line");
        ctx.reply.map(3 + usize::from(with_code));
        ctx.reply.bulk(b"library_name");
        ctx.reply.bulk(name);
        ctx.reply.bulk(b"engine");
        ctx.reply.bulk(&header.engine.to_ascii_uppercase());
        ctx.reply.bulk(b"functions");
        ctx.reply.array(0);
        if with_code {
            ctx.reply.bulk(b"library_code");
            ctx.reply.bulk(code);
        }
    }
    Ok(())
}

fn stats(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.map(2);
    ctx.reply.bulk(b"running_script");
    ctx.reply.null();
    ctx.reply.bulk(b"engines");
    ctx.reply.map(1);
    ctx.reply.bulk(b"LUA");
    ctx.reply.map(2);
    ctx.reply.bulk(b"libraries_count");
    ctx.reply.int(ctx.store.functions.len() as i64);
    ctx.reply.bulk(b"functions_count");
    ctx.reply.int(0);
    Ok(())
}

fn kill(_: &mut Ctx<'_>) -> CmdResult {
    Err(CommandError::fixed("NOTBUSY No scripts in execution right now."))
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(
        ctx,
        &[
            "DELETE <LIBRARY NAME>",
            "    Forget the library.",
            "DUMP",
            "    All libraries in a form that FUNCTION RESTORE understands.",
            "FLUSH [ASYNC|SYNC]",
            "    Forget all libraries.",
            "KILL",
            "    There is nothing to end: no function runs here.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    The libraries; which functions they have is not known here.",
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    For the stream of a primary: clients use RESTORE.",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Take the libraries of the payload on. FLUSH is needed where some are there.",
            "STATS",
            "    The number of libraries.",
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    const LIB: &str = "#!lua name=mylib\nredis.register_function('f', function(keys, args) return 1 end)";

    /// `FUNCTION DUMP` with one library in redis 8.2.3 is refused by 7.0 for its version; from here it goes everywhere.
    fn payload(codes: &[&str]) -> Vec<u8> {
        let mut functions = super::Functions::default();
        for code in codes {
            functions.load(code.as_bytes(), false).expect("a library");
        }
        super::payload(&functions)
    }

    fn restore(h: &mut Harness, payload: &[u8], policy: &[&str]) -> String {
        let mut args: Vec<&[u8]> = vec![b"FUNCTION", b"RESTORE", payload];
        args.extend(policy.iter().map(|word| word.as_bytes()));
        h.run_args(&args).escape_ascii().to_string()
    }

    #[test]
    fn libraries_are_restored_listed_dumped_and_deleted() {
        let mut h = Harness::new();
        let (one, two) = (payload(&[LIB]), payload(&["#!lua name=a\n1", "#!lua name=b\n2"]));
        assert_eq!(restore(&mut h, &one, &[]), r"+OK\r\n");
        assert_eq!(h.run_args(&[b"FUNCTION", b"DUMP"]), resp_bulk(&one));
        let listed = h.run("FUNCTION LIST LIBRARYNAME MY* WITHCODE");
        assert!(
            listed.starts_with(
                r"*1\r\n*8\r\n$12\r\nlibrary_name\r\n$5\r\nmylib\r\n$6\r\nengine\r\n$3\r\nLUA\r\n"
            ),
            "{listed}"
        );
        assert!(listed.contains(r"#!lua name=mylib\nredis.register"), "{listed}");
        assert_eq!(h.run("FUNCTION LIST LIBRARYNAME other"), r"*0\r\n");
        assert!(restore(&mut h, &two, &[]).contains("Use FLUSH"));
        assert!(restore(&mut h, &two, &["REPLACE"]).contains("Use FLUSH"));
        assert_eq!(restore(&mut h, &two, &["FLUSH"]), r"+OK\r\n");
        assert!(h.run("INFO memory").contains(r"number_of_libraries:2\r\n"));
        assert!(h.run("FUNCTION STATS").contains(r"libraries_count\r\n:2\r\n"));
        assert_eq!(h.run("FUNCTION DELETE a"), r"+OK\r\n");
        assert_eq!(h.run("FUNCTION DELETE a"), r"-ERR Library not found\r\n");
        let left = payload(&["#!lua name=b\n2"]);
        assert_eq!(h.run_args(&[b"FUNCTION", b"DUMP"]), resp_bulk(&left));
        assert_eq!(h.run("FUNCTION FLUSH ASYNC"), r"+OK\r\n");
        assert_eq!(h.run("FUNCTION LIST"), r"*0\r\n");
        let told = |payload: &[u8], policy| format!("FUNCTION RESTORE {} {policy}", payload.escape_ascii());
        let seen = h.propagated();
        let expected =
            [told(&one, "APPEND"), told(&two, "FLUSH"), "FUNCTION DELETE a".into(), "FUNCTION FLUSH".into()];
        assert_eq!(seen.into_iter().filter(|line| line != "SELECT 0").collect::<Vec<_>>(), expected);
    }

    fn resp_bulk(bytes: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
    }

    #[test]
    fn what_is_refused() {
        let mut h = Harness::new();
        let load = h.run_args(&[b"FUNCTION", b"LOAD", LIB.as_bytes()]).escape_ascii().to_string();
        assert!(load.contains("does not compile them"), "{load}");
        assert!(h.run("FUNCTION LOAD code").contains("Missing library metadata"));
        let mut broken = payload(&[LIB]);
        broken[3] ^= 1;
        assert!(restore(&mut h, &broken, &[]).contains("payload version or checksum"));
        let mut of_a_key = vec![0, 1, b'x'];
        rdb::dump::seal(&mut of_a_key, rdb::Target::V10);
        assert!(restore(&mut h, &of_a_key, &[]).contains("payload version or checksum"));
        assert!(restore(&mut h, &payload(&[LIB]), &["NO"]).contains("Wrong restore policy"));
        assert!(h.run("FUNCTION FLUSH NOW").contains("only supports SYNC|ASYNC"));
        assert!(h.run("FUNCTION LIST X").contains("Unknown argument X"));
        assert_eq!(h.run("FUNCTION KILL"), r"-NOTBUSY No scripts in execution right now.\r\n");
        assert!(h.propagated().is_empty());
    }
}
