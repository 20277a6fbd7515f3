//! The session itself: greeting, authentication, liveliness. `SELECT` is with the databases.

use command::{
    Acl, Arg, ArgKind, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, is_token,
};
use replication::heartbeat::{self, Heard};
use resp::Proto;

use super::client::valid_attribute;
use super::transaction::abandon;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::pubsub;
use crate::session::{Closing, ReplyMode, Role};

pub const COMMANDS: &[Command<Handler>] = &[AUTH, ECHO, HELLO, PING, QUIT, RESET];

/// The only user there is while ACL is not.
pub const DEFAULT_USER: &[u8] = b"default";

const WRONG_PASSWORD: CommandError =
    CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// AUTH
const AUTH: Command<Handler> = Command {
    name: "auth",
    group: Group::Connection,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[
        Flag::Noscript,
        Flag::Loading,
        Flag::Stale,
        Flag::Fast,
        Flag::NoAuth,
        Flag::AllowBusy,
    ]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Proves who the client is, by password.",
        arguments: &[
            Arg { since: "6.0.0", optional: true, ..Arg::string("username") },
            Arg::string("password"),
        ],
        ..Docs::NONE
    },
    ..Command::runs(auth)
};

/// ECHO
const ECHO: Command<Handler> = Command {
    name: "echo",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale, Flag::Fast]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns its argument.",
        arguments: &[Arg::string("message")],
        ..Docs::NONE
    },
    ..Command::runs(echo)
};

/// HELLO
const HELLO: Command<Handler> = Command {
    name: "hello",
    group: Group::Connection,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[
        Flag::Noscript,
        Flag::Loading,
        Flag::Stale,
        Flag::Fast,
        Flag::NoAuth,
        Flag::AllowBusy,
    ]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "6.0.0",
        complexity: "O(1)",
        summary: "Agrees on the protocol version, and authenticates and names the session if asked to.",
        arguments: &[Arg {
            optional: true,
            ..Arg::new(
                "arguments",
                ArgKind::Block(&[
                    Arg::integer("protover"),
                    Arg {
                        token: "AUTH",
                        optional: true,
                        ..Arg::new(
                            "username_password",
                            ArgKind::Block(&[Arg::string("username"), Arg::string("password")]),
                        )
                    },
                    Arg { token: "SETNAME", optional: true, ..Arg::string("clientname") },
                ]),
            )
        }],
        ..Docs::NONE
    },
    ..Command::runs(hello)
};

/// PING
const PING: Command<Handler> = Command {
    name: "ping",
    group: Group::Connection,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Fast]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Shows that the server answers.",
        arguments: &[Arg { optional: true, ..Arg::string("message") }],
        ..Docs::NONE
    },
    ..Command::runs(ping)
};

/// QUIT
const QUIT: Command<Handler> = Command {
    name: "quit",
    group: Group::Connection,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[
        Flag::AllowBusy,
        Flag::Noscript,
        Flag::Loading,
        Flag::Stale,
        Flag::Fast,
        Flag::NoAuth,
    ]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Ends the connection after what was asked before is answered.",
        ..Docs::NONE
    },
    ..Command::runs(quit)
};

/// RESET
const RESET: Command<Handler> = Command {
    name: "reset",
    group: Group::Connection,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[
        Flag::Noscript,
        Flag::Loading,
        Flag::Stale,
        Flag::Fast,
        Flag::NoAuth,
        Flag::AllowBusy,
    ]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Puts the session back into the state of a new one.",
        ..Docs::NONE
    },
    ..Command::runs(reset)
};

fn ping(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.session.is_primary()
        && let Some(unix_ms) = ctx.argv.get(1).and_then(heartbeat::stamp)
    {
        ctx.core.repl.heard = Some(Heard::new(unix_ms, ctx.store.now_ms));
        // So the primary knows how far behind we are as exactly as we do.
        ctx.core.repl.ack_wanted = true;
    }
    let in_subscribe_mode = ctx.session.pubsub.is_some() && ctx.session.proto == Proto::Resp2;
    match ctx.argv.len() {
        1 | 2 if in_subscribe_mode => {
            ctx.reply.array(2);
            ctx.reply.bulk(b"pong");
            ctx.reply.bulk(ctx.argv.get(1).unwrap_or_default());
        }
        1 => ctx.reply.simple("PONG"),
        2 => ctx.reply.bulk(ctx.argv.at(1)),
        _ => return Err(ctx.command.wrong_arity()),
    }
    Ok(())
}

fn echo(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.bulk(ctx.argv.at(1));
    Ok(())
}

fn quit(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.ok();
    ctx.session.closing = Closing::AfterReply;
    Ok(())
}

fn reset(ctx: &mut Ctx<'_>) -> CmdResult {
    if !matches!(ctx.session.role, Role::Client) {
        return Err(CommandError::fixed("ERR can only reset normal connections"));
    }
    abandon(ctx.session, ctx.store);
    let running = ctx.core.running;
    super::monitor::stop(ctx.core, ctx.session, running);
    if let Some(id) = running {
        pubsub::leave(ctx.store, ctx.core, ctx.session, id);
    }
    let session = &mut *ctx.session;
    session.db = 0;
    session.proto = Proto::Resp2;
    session.authenticated = ctx.core.config.requirepass.is_empty();
    session.reply_mode = ReplyMode::On;
    session.name.clear();
    session.no_touch = false;
    ctx.reply.set_proto(Proto::Resp2);
    ctx.reply.simple("RESET");
    Ok(())
}

fn auth(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.redacted.extend(1..ctx.argv.len());
    let (user, password) = match ctx.argv.len() {
        2 if ctx.core.config.requirepass.is_empty() => {
            return Err(CommandError::fixed(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => (DEFAULT_USER, 1),
        3 => (ctx.argv.at(1), 2),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(ctx, user, ctx.argv.at(password))?;
    ctx.reply.ok();
    Ok(())
}

fn authenticate(ctx: &mut Ctx<'_>, user: &[u8], password: &[u8]) -> CmdResult {
    let wanted = ctx.core.config.requirepass.as_bytes();
    if user != DEFAULT_USER || !(wanted.is_empty() || same_bytes(wanted, password)) {
        return Err(WRONG_PASSWORD);
    }
    ctx.session.authenticated = true;
    Ok(())
}

/// Compares without telling by the time it takes how much was right.
fn same_bytes(wanted: &[u8], given: &[u8]) -> bool {
    let differences = wanted.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
    wanted.len() == given.len() && std::hint::black_box(differences) == 0
}

fn hello(ctx: &mut Ctx<'_>) -> CmdResult {
    let proto = match ctx.argv.get(1).map(command::parse_i64) {
        None => None,
        Some(None) => {
            return Err(CommandError::fixed("ERR Protocol version is not an integer or out of range"));
        }
        Some(Some(2)) => Some(Proto::Resp2),
        Some(Some(3)) => Some(Proto::Resp3),
        Some(Some(_)) => return Err(CommandError::fixed("NOPROTO unsupported protocol version")),
    };
    let mut at = 2;
    while let Some(option) = ctx.argv.get(at) {
        let left = ctx.argv.len() - 1 - at;
        if is_token(option, "auth") && left >= 2 {
            ctx.core.redacted.extend([at + 1, at + 2]);
            authenticate(ctx, ctx.argv.at(at + 1), ctx.argv.at(at + 2))?;
            at += 3;
        } else if is_token(option, "setname") && left >= 1 {
            ctx.session.name = valid_attribute(ctx.argv.at(at + 1), "names")?.to_vec();
            at += 2;
        } else {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::text(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if !ctx.session.authenticated {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(proto) = proto {
        ctx.session.proto = proto;
        ctx.reply.set_proto(proto);
    }
    let reply = &mut ctx.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if ctx.session.proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(ctx.session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(if ctx.core.is_replica() { b"replica" } else { b"master" });
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::testing::Harness;

    #[test]
    fn everyday_commands() {
        let mut h = Harness::new();
        assert_eq!(h.run("PING"), r"+PONG\r\n");
        assert_eq!(h.run("PING hi"), r"$2\r\nhi\r\n");
        assert_eq!(h.run("PING a b"), r"-ERR wrong number of arguments for \'ping\' command\r\n");
        assert_eq!(h.run("ECHO hi"), r"$2\r\nhi\r\n");
        assert_eq!(h.run("SELECT 9"), r"+OK\r\n");
        assert_eq!(h.run("RESET"), r"+RESET\r\n");
        assert_eq!(h.run("QUIT"), r"+OK\r\n");
    }

    #[test]
    fn hello_changes_the_protocol_of_its_own_reply() {
        let mut h = Harness::new();
        let map = |head, proto| {
            format!(
                r"{head}\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
            )
        };
        assert_eq!(h.run("HELLO"), map("*14", 2));
        assert_eq!(h.run("HELLO 3 SETNAME me"), map("%7", 3));
        assert_eq!(h.run("CLIENT GETNAME"), r"$2\r\nme\r\n");
        assert_eq!(h.run("HELLO 2"), map("*14", 2));
        assert_eq!(h.run("HELLO 4"), r"-NOPROTO unsupported protocol version\r\n");
        assert_eq!(h.run("HELLO x"), r"-ERR Protocol version is not an integer or out of range\r\n");
        assert_eq!(h.run("HELLO 3 NOPE"), r"-ERR Syntax error in HELLO option \'NOPE\'\r\n");
        assert_eq!(
            h.run(r#"HELLO 3 SETNAME "a b""#),
            r"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        );
    }

    #[test]
    fn a_password_is_asked_for() {
        let config = Config { requirepass: "foobar".into(), ..Config::default() };
        let mut h = Harness::with_config(config);
        assert_eq!(h.run("GET a"), r"-NOAUTH Authentication required.\r\n");
        assert_eq!(h.run("HELLO 3").split(' ').next(), Some("-NOAUTH"));
        let wrong = r"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        assert_eq!(h.run("AUTH foobar2"), wrong);
        assert_eq!(h.run("AUTH someone foobar"), wrong);
        assert_eq!(h.run("AUTH a b c"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("AUTH default foobar"), r"+OK\r\n");
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        assert_eq!(h.run("RESET"), r"+RESET\r\n");
        assert_eq!(h.run("GET a"), r"-NOAUTH Authentication required.\r\n");
        assert!(h.run("HELLO 3 AUTH default foobar").starts_with("%7"));
    }

    #[test]
    fn a_password_without_need_is_an_error() {
        let mut h = Harness::new();
        assert!(h.run("AUTH foo").starts_with("-ERR AUTH <password> called without any password configured"));
        assert_eq!(h.run("AUTH default foo"), r"+OK\r\n");
    }
}
