//! Connections as seen from outside: `CLIENT` and its subcommands.

use std::fmt::Write as _;

use command::{
    Acl, Arg, ArgKind, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, ParseArgs, is_token,
};
use replication::primary::count_acked;
use resp::Reply;

use super::connection::DEFAULT_USER;
use super::write_help;
use crate::action::ConnId;
use crate::core::{Core, Pause};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::key_waits::end_wait;
use crate::pause;
use crate::pubsub::{self, Kind};
use crate::session::{Blocked, Closing, Conn, ReplyMode, Role, Session};
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] = &[CLIENT];

/// Up to this many bytes of replies lie in the buffer that `obl` counts; what is more counts as `oll` and `omem`.
const REPLY_BUFFER_BYTES: usize = 16 * 1024;

const HELP_LINES: &[&str] = &[
    "GETREDIR",
    "    Tell the ID that tracking messages are redirected to.",
    "GETNAME",
    "    Tell the name of this connection.",
    "ID",
    "    Tell the ID of this connection.",
    "INFO",
    "    Describe this connection.",
    "KILL <ip:port>",
    "    End the connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    End connections that all options fit:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Made from this address.",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Made to this address.",
    "    * ID <client-id>",
    "      With this ID.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Of this type.",
    "    * USER <username>",
    "      Authenticated as this user.",
    "    * SKIPME (YES|NO)",
    "      Whether this connection is spared (default: yes).",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [...]]",
    "    Describe connections.",
    "NO-EVICT (ON|OFF)",
    "    Keep this connection when memory is short.",
    "NO-TOUCH (ON|OFF)",
    "    Leave the access times of keys alone.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Hold back all commands, or those that write, for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Choose whether this connection gets replies.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Tell about the client's library.",
    "SETNAME <name>",
    "    Name this connection.",
    "TRACKINGINFO",
    "    Tell how tracking is set up for this connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    End the waiting of another connection.",
    "UNPAUSE",
    "    End the pause.",
];

/// CLIENT
const CLIENT: Command<Handler> = Command {
    name: "client",
    group: Group::Connection,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        since: "2.4.0",
        complexity: "Depends on subcommand",
        summary: "Commands about connections.",
        ..Docs::NONE
    },
    ..Command::parent(&[
        GETNAME,
        GETREDIR,
        HELP,
        ID,
        INFO,
        KILL,
        LIST,
        NO_EVICT,
        NO_TOUCH,
        PAUSE,
        REPLY,
        SETINFO,
        SETNAME,
        TRACKINGINFO,
        UNBLOCK,
        UNPAUSE,
    ])
};

/// CLIENT GETNAME
const GETNAME: Command<Handler> = Command {
    name: "getname",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "2.6.9",
        complexity: "O(1)",
        summary: "Tells the name of this connection.",
        ..Docs::NONE
    },
    ..Command::runs(getname)
};

/// CLIENT GETREDIR
const GETREDIR: Command<Handler> = Command {
    name: "getredir",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "6.0.0",
        complexity: "O(1)",
        summary: "Tells to which connection tracking messages go.",
        ..Docs::NONE
    },
    ..Command::runs(getredir)
};

/// CLIENT HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs { since: "5.0.0", complexity: "O(1)", summary: "Lists the subcommands.", ..Docs::NONE },
    ..Command::runs(help)
};

/// CLIENT ID
const ID: Command<Handler> = Command {
    name: "id",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1)",
        summary: "Tells the number of this connection.",
        ..Docs::NONE
    },
    ..Command::runs(id)
};

/// CLIENT INFO
const INFO: Command<Handler> = Command {
    name: "info",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output"],
    docs: &Docs { since: "6.2.0", complexity: "O(1)", summary: "Describes this connection.", ..Docs::NONE },
    ..Command::runs(info)
};

/// CLIENT KILL
const KILL: Command<Handler> = Command {
    name: "kill",
    group: Group::Connection,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Ends connections.",
        arguments: &[Arg::new(
            "filter",
            ArgKind::OneOf(&[
                Arg::string("ip:port"),
                Arg {
                    multiple: true,
                    ..Arg::new(
                        "new-format",
                        ArgKind::OneOf(&[
                            Arg { token: "ID", since: "2.8.12", optional: true, ..Arg::integer("client-id") },
                            Arg {
                                token: "TYPE",
                                since: "2.8.12",
                                optional: true,
                                ..Arg::new(
                                    "normal_master_slave_pubsub",
                                    ArgKind::OneOf(&[
                                        Arg { token: "normal", ..Arg::new("normal", ArgKind::PureToken) },
                                        Arg {
                                            token: "master",
                                            since: "3.2.0",
                                            ..Arg::new("master", ArgKind::PureToken)
                                        },
                                        Arg { token: "slave", ..Arg::new("slave", ArgKind::PureToken) },
                                        Arg {
                                            token: "replica",
                                            since: "5.0.0",
                                            ..Arg::new("replica", ArgKind::PureToken)
                                        },
                                        Arg { token: "pubsub", ..Arg::new("pubsub", ArgKind::PureToken) },
                                    ]),
                                )
                            },
                            Arg { token: "USER", optional: true, ..Arg::string("username") },
                            Arg { token: "ADDR", optional: true, ..Arg::string("ip:port") },
                            Arg { token: "LADDR", since: "6.2.0", optional: true, ..Arg::string("ip:port") },
                            Arg { token: "SKIPME", optional: true, ..Arg::string("yes/no") },
                        ]),
                    )
                },
            ]),
        )],
        ..Docs::NONE
    },
    ..Command::runs(kill)
};

/// CLIENT LIST
const LIST: Command<Handler> = Command {
    name: "list",
    group: Group::Connection,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Describes all connections, or some.",
        arguments: &[
            Arg {
                token: "TYPE",
                since: "5.0.0",
                optional: true,
                ..Arg::new(
                    "normal_master_replica_pubsub",
                    ArgKind::OneOf(&[
                        Arg { token: "normal", ..Arg::new("normal", ArgKind::PureToken) },
                        Arg { token: "master", ..Arg::new("master", ArgKind::PureToken) },
                        Arg { token: "replica", ..Arg::new("replica", ArgKind::PureToken) },
                        Arg { token: "pubsub", ..Arg::new("pubsub", ArgKind::PureToken) },
                    ]),
                )
            },
            Arg {
                token: "ID",
                since: "6.2.0",
                optional: true,
                ..Arg::new("id", ArgKind::Block(&[Arg { multiple: true, ..Arg::integer("client-id") }]))
            },
        ],
        ..Docs::NONE
    },
    ..Command::runs(list)
};

/// CLIENT NO-EVICT
const NO_EVICT: Command<Handler> = Command {
    name: "no-evict",
    group: Group::Connection,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(1)",
        summary: "Keeps this connection from being ended when memory is short.",
        arguments: &[Arg::new(
            "enabled",
            ArgKind::OneOf(&[
                Arg { token: "ON", ..Arg::new("on", ArgKind::PureToken) },
                Arg { token: "OFF", ..Arg::new("off", ArgKind::PureToken) },
            ]),
        )],
        ..Docs::NONE
    },
    ..Command::runs(no_evict)
};

/// CLIENT PAUSE
const PAUSE: Command<Handler> = Command {
    name: "pause",
    group: Group::Connection,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "2.9.50",
        complexity: "O(1)",
        summary: "Holds the commands of all clients back for a while.",
        arguments: &[
            Arg::integer("timeout"),
            Arg {
                since: "6.2.0",
                optional: true,
                ..Arg::new(
                    "mode",
                    ArgKind::OneOf(&[
                        Arg { token: "WRITE", ..Arg::new("write", ArgKind::PureToken) },
                        Arg { token: "ALL", ..Arg::new("all", ArgKind::PureToken) },
                    ]),
                )
            },
        ],
        ..Docs::NONE
    },
    ..Command::runs(pause)
};

/// CLIENT REPLY
const REPLY: Command<Handler> = Command {
    name: "reply",
    group: Group::Connection,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(1)",
        summary: "Chooses whether this connection gets replies.",
        arguments: &[Arg::new(
            "on_off_skip",
            ArgKind::OneOf(&[
                Arg { token: "ON", ..Arg::new("on", ArgKind::PureToken) },
                Arg { token: "OFF", ..Arg::new("off", ArgKind::PureToken) },
                Arg { token: "SKIP", ..Arg::new("skip", ArgKind::PureToken) },
            ]),
        )],
        ..Docs::NONE
    },
    ..Command::runs(reply)
};

/// CLIENT SETNAME
const SETNAME: Command<Handler> = Command {
    name: "setname",
    group: Group::Connection,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "2.6.9",
        complexity: "O(1)",
        summary: "Names this connection.",
        arguments: &[Arg::string("connection-name")],
        ..Docs::NONE
    },
    ..Command::runs(setname)
};

/// CLIENT TRACKINGINFO
const TRACKINGINFO: Command<Handler> = Command {
    name: "trackinginfo",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Tells how tracking is set up for this connection.",
        ..Docs::NONE
    },
    ..Command::runs(trackinginfo)
};

/// CLIENT UNBLOCK
const UNBLOCK: Command<Handler> = Command {
    name: "unblock",
    group: Group::Connection,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Ends the waiting of another connection.",
        arguments: &[
            Arg::integer("client-id"),
            Arg {
                optional: true,
                ..Arg::new(
                    "timeout_error",
                    ArgKind::OneOf(&[
                        Arg { token: "TIMEOUT", ..Arg::new("timeout", ArgKind::PureToken) },
                        Arg { token: "ERROR", ..Arg::new("error", ArgKind::PureToken) },
                    ]),
                )
            },
        ],
        ..Docs::NONE
    },
    ..Command::runs(unblock)
};

/// CLIENT UNPAUSE
const UNPAUSE: Command<Handler> = Command {
    name: "unpause",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Ends CLIENT PAUSE.",
        ..Docs::NONE
    },
    ..Command::runs(unpause)
};

/// CLIENT SETINFO LIB-NAME libname | LIB-VER libver
const SETINFO: Command<Handler> = Command {
    name: "setinfo",
    arity: Arity::Exactly(4),
    docs: &Docs {
        since: "7.2.0",
        complexity: "O(1)",
        summary: "Tells about the library that the client uses.",
        arguments: &[Arg::new(
            "attr",
            ArgKind::OneOf(&[
                Arg { token: "LIB-NAME", ..Arg::string("libname") },
                Arg { token: "LIB-VER", ..Arg::string("libver") },
            ]),
        )],
        ..Docs::NONE
    },
    handler: Some(setinfo),
    ..SETNAME
};

/// CLIENT NO-TOUCH ON | OFF
const NO_TOUCH: Command<Handler> = Command {
    name: "no-touch",
    docs: &Docs {
        since: "7.2.0",
        complexity: "O(1)",
        summary: "Chooses whether this connection changes the access times of keys.",
        arguments: NO_EVICT.docs.arguments,
        ..Docs::NONE
    },
    handler: Some(no_touch),
    ..SETNAME
};

/// What a description shows of a connection besides its session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buffers {
    pub slot: Option<ConnId>,
    pub input_bytes: usize,
    pub input_free_bytes: usize,
    pub output_bytes: usize,
    pub output_memory_bytes: usize,
    pub argv_bytes: usize,
}

impl Buffers {
    pub fn of(id: ConnId, conn: &Conn) -> Buffers {
        Buffers {
            slot: Some(id),
            input_bytes: conn.input.len(),
            input_free_bytes: conn.input.capacity() - conn.input.len(),
            output_bytes: conn.output.pending_bytes(),
            output_memory_bytes: conn.output.memory(),
            argv_bytes: 0,
        }
    }
}

/// One session as `CLIENT LIST` prints it, without the line's end.
pub fn describe(core: &Core, session: &Session, buffers: &Buffers) -> String {
    let now_ms = core.env.unix_ms();
    let log_bytes = match &session.role {
        Role::Replica(replica) => replica.link.backlog_bytes(core.repl.log.end()) as usize,
        _ => 0,
    };
    let (obl, oll, omem) = match buffers.output_bytes {
        bytes if bytes <= REPLY_BUFFER_BYTES => (bytes, 0, 0),
        bytes => (0, 1, bytes),
    };
    let multi_bytes = session.transaction_bytes();
    let total = size_of::<Conn>()
        + buffers.input_bytes
        + buffers.input_free_bytes
        + buffers.output_memory_bytes
        + omem
        + log_bytes
        + multi_bytes
        + session.pubsub.as_ref().map_or(0, |subscriptions| subscriptions.memory())
        + buffers.argv_bytes;
    let mut line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={}",
        session.id,
        session.addr,
        session.laddr,
        buffers.slot.map_or(-1, |slot| slot as i64),
        String::from_utf8_lossy(&session.name),
        (now_ms - session.created_ms).max(0) / 1000,
        (now_ms - session.active_ms).max(0) / 1000,
        flags(session),
        session.db,
        pubsub::count(session, Kind::Channel),
        pubsub::count(session, Kind::Pattern),
        pubsub::count(session, Kind::Shard),
        session.multi.as_ref().map_or(-1, |multi| multi.queued.len() as i64),
    );
    let user = if session.is_primary() { "(superuser)" } else { "default" };
    write!(
        line,
        " qbuf={} qbuf-free={} argv-mem={} multi-mem={multi_bytes} rbs={REPLY_BUFFER_BYTES} rbp={REPLY_BUFFER_BYTES} \
         obl={obl} oll={} omem={} tot-mem={total} events=r{} cmd={} user={user} redir=-1 resp={} lib-name={} lib-ver={}",
        buffers.input_bytes,
        buffers.input_free_bytes,
        buffers.argv_bytes,
        oll + usize::from(log_bytes > 0),
        omem + log_bytes,
        if buffers.output_bytes > 0 || log_bytes > 0 { "w" } else { "" },
        session.last_command.map_or("NULL", |command| &command.full_name),
        if session.proto == resp::Proto::Resp3 { 3 } else { 2 },
        String::from_utf8_lossy(&session.lib_name),
        String::from_utf8_lossy(&session.lib_ver),
    )
    .expect("a string takes any text");
    line
}

/// The session that runs a command, which is not in the table of connections meanwhile.
pub fn describe_running(ctx: &mut Ctx<'_>) -> String {
    // The command itself still lies in the input.
    let digits = |value: usize| structures::number::i64_len(value as i64);
    let framing = |len: usize| 1 + digits(len) + 2;
    let input_bytes = framing(ctx.argv.len())
        + ctx.argv.iter().map(|arg| framing(arg.len()) + arg.len() + 2).sum::<usize>();
    let output = ctx.reply.output();
    let buffers = Buffers {
        slot: ctx.core.running,
        input_bytes,
        input_free_bytes: 0,
        output_bytes: output.pending_bytes(),
        output_memory_bytes: output.memory(),
        argv_bytes: ctx.argv.bytes_len(),
    };
    describe(ctx.core, ctx.session, &buffers)
}

fn flags(session: &Session) -> String {
    let rows = [
        ('S', session.is_replica()),
        ('O', session.monitors),
        ('M', session.is_primary()),
        ('P', session.pubsub.is_some()),
        ('x', session.multi.is_some()),
        ('b', session.blocked.is_some()),
        ('c', session.closing == Closing::AfterReply),
        ('A', session.closing == Closing::Now),
        ('U', session.unix_socket),
        ('e', session.no_evict),
        ('T', session.no_touch),
    ];
    let set: String = rows.iter().filter(|(_, set)| *set).map(|(letter, _)| *letter).collect();
    if set.is_empty() { "N".into() } else { set }
}

/// The classes of connections, as `TYPE` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Replica,
    Primary,
    Pubsub,
}

impl Class {
    fn parse(name: &[u8]) -> Result<Class, CommandError> {
        let rows = [
            ("normal", Class::Normal),
            ("slave", Class::Replica),
            ("replica", Class::Replica),
            ("pubsub", Class::Pubsub),
            ("master", Class::Primary),
            ("primary", Class::Primary),
        ];
        let row = rows.iter().find(|(text, _)| is_token(name, text));
        row.map(|(_, class)| *class).ok_or_else(|| {
            CommandError::text(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name)))
        })
    }

    fn of(session: &Session) -> Class {
        match session.role {
            Role::Client if session.pubsub.is_some() => Class::Pubsub,
            Role::Client => Class::Normal,
            Role::Replica(_) => Class::Replica,
            Role::Primary => Class::Primary,
        }
    }
}

/// A name of the client or of its library: printable, so that `CLIENT LIST` can be split at blanks.
/// `what` is the word that the error uses.
pub fn valid_attribute<'a>(value: &'a [u8], what: &str) -> Result<&'a [u8], CommandError> {
    if value.iter().all(|byte| byte.is_ascii_graphic()) {
        return Ok(value);
    }
    let subject = if what == "names" { "Client names".to_owned() } else { what.to_owned() };
    Err(CommandError::text(format!("ERR {subject} cannot contain spaces, newlines or special characters.")))
}

fn on_or_off(arg: &[u8]) -> Result<bool, CommandError> {
    if is_token(arg, "on") {
        Ok(true)
    } else if is_token(arg, "off") {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP_LINES);
    Ok(())
}

fn id(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.session.id as i64);
    Ok(())
}

fn getname(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.bulk_or_null(Some(&ctx.session.name[..]).filter(|name| !name.is_empty()));
    Ok(())
}

fn setname(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.session.name = valid_attribute(ctx.argv.at(2), "names")?.to_vec();
    ctx.reply.ok();
    Ok(())
}

fn setinfo(ctx: &mut Ctx<'_>) -> CmdResult {
    let (option, value) = (ctx.argv.at(2), ctx.argv.at(3));
    if is_token(option, "lib-name") {
        ctx.session.lib_name = valid_attribute(value, "lib-name")?.to_vec();
    } else if is_token(option, "lib-ver") {
        ctx.session.lib_ver = valid_attribute(value, "lib-ver")?.to_vec();
    } else {
        let option = String::from_utf8_lossy(option);
        return Err(CommandError::text(format!("ERR Unrecognized option '{option}'")));
    }
    ctx.reply.ok();
    Ok(())
}

fn getredir(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(-1);
    Ok(())
}

/// There is no tracking yet, so it is off for everybody.
fn trackinginfo(ctx: &mut Ctx<'_>) -> CmdResult {
    let reply = &mut ctx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.int(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(())
}

fn no_evict(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.session.no_evict = on_or_off(ctx.argv.at(2))?;
    ctx.reply.ok();
    Ok(())
}

fn no_touch(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.session.no_touch = on_or_off(ctx.argv.at(2))?;
    ctx.reply.ok();
    Ok(())
}

fn reply(ctx: &mut Ctx<'_>) -> CmdResult {
    let mode = ctx.argv.at(2);
    if is_token(mode, "on") {
        ctx.session.reply_mode = ReplyMode::On;
        ctx.reply.ok();
    } else if is_token(mode, "off") {
        ctx.session.reply_mode = ReplyMode::Off;
    } else if is_token(mode, "skip") {
        if ctx.session.reply_mode == ReplyMode::On {
            ctx.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(())
}

fn info(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut line = describe_running(ctx);
    line.push('\n');
    ctx.reply.verbatim(b"txt", line.as_bytes());
    Ok(())
}

/// Which connections `CLIENT LIST` shows.
enum Shown {
    All,
    Class(Class),
    Ids(Vec<u64>),
}

fn list(ctx: &mut Ctx<'_>) -> CmdResult {
    let shown = match (ctx.argv.len(), ctx.argv.get(2)) {
        (2, _) => Shown::All,
        (4, Some(option)) if is_token(option, "type") => Shown::Class(Class::parse(ctx.argv.at(3))?),
        (4.., Some(option)) if is_token(option, "id") => {
            let invalid = || CommandError::fixed("ERR Invalid client ID");
            let ids = ctx.argv.tail(3).iter().map(|id| command::parse_i64(id).ok_or_else(invalid));
            // A negative number is nobody's.
            Shown::Ids(ids.map(|id| id.map(|id| u64::try_from(id).unwrap_or(0))).collect::<Result<_, _>>()?)
        }
        _ => return Err(CommandError::Syntax),
    };
    let mut lines: Vec<(u64, String)> = Vec::new();
    let wanted = |session: &Session| match &shown {
        Shown::All => true,
        Shown::Class(class) => Class::of(session) == *class,
        Shown::Ids(ids) => ids.contains(&session.id),
    };
    if wanted(ctx.session) {
        lines.push((ctx.session.id, describe_running(ctx)));
    }
    for (id, conn) in ctx.core.conns.iter() {
        if wanted(&conn.session) && conn.session.closing != Closing::Now {
            lines.push((conn.session.id, describe(ctx.core, &conn.session, &Buffers::of(id, conn))));
        }
    }
    lines.sort_unstable_by_key(|(id, _)| *id);
    let mut text = String::new();
    let mut push = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    match &shown {
        // In the order they were asked for, as often as they were.
        Shown::Ids(ids) => {
            for id in ids {
                if let Ok(at) = lines.binary_search_by_key(id, |(id, _)| *id) {
                    push(&lines[at].1);
                }
            }
        }
        _ => lines.iter().for_each(|(_, line)| push(line)),
    }
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// Whom `CLIENT KILL` ends: everybody whom all that is set fits.
struct Doomed<'a> {
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    class: Option<Class>,
    id: Option<u64>,
    user: bool,
    spare_self: bool,
}

impl<'a> Doomed<'a> {
    fn parse(ctx: &Ctx<'a>) -> Result<Doomed<'a>, CommandError> {
        let argv = ctx.argv;
        let mut doomed =
            Doomed { addr: None, laddr: None, class: None, id: None, user: false, spare_self: true };
        if argv.len() == 3 {
            // The old form may end itself.
            return Ok(Doomed { addr: Some(argv.at(2)), spare_self: false, ..doomed });
        }
        for at in (2..argv.len()).step_by(2) {
            let (option, value) = (argv.at(at), argv.bytes(at + 1)?);
            if is_token(option, "id") {
                let error = CommandError::fixed("ERR client-id should be greater than 0");
                doomed.id = Some(argv.int_within_or(at + 1, 1..=i64::MAX, error)? as u64);
            } else if is_token(option, "type") {
                doomed.class = Some(Class::parse(value)?);
            } else if is_token(option, "addr") {
                doomed.addr = Some(value);
            } else if is_token(option, "laddr") {
                doomed.laddr = Some(value);
            } else if is_token(option, "user") {
                if value != DEFAULT_USER {
                    let name = String::from_utf8_lossy(value);
                    return Err(CommandError::text(format!("ERR No such user '{name}'")));
                }
                doomed.user = true;
            } else if is_token(option, "skipme") && is_token(value, "yes") {
                doomed.spare_self = true;
            } else if is_token(option, "skipme") && is_token(value, "no") {
                doomed.spare_self = false;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(doomed)
    }

    fn fits(&self, session: &Session) -> bool {
        session.closing != Closing::Now
            && self.addr.is_none_or(|addr| session.addr.as_bytes() == addr)
            && self.laddr.is_none_or(|laddr| session.laddr.as_bytes() == laddr)
            && self.class.is_none_or(|class| Class::of(session) == class)
            && self.id.is_none_or(|id| session.id == id)
            && (!self.user || !session.is_primary())
    }
}

fn kill(ctx: &mut Ctx<'_>) -> CmdResult {
    let doomed = Doomed::parse(ctx)?;
    let others: Vec<ConnId> =
        ctx.core.conns.iter().filter(|(_, conn)| doomed.fits(&conn.session)).map(|(id, _)| id).collect();
    let ends_itself = !doomed.spare_self && doomed.fits(ctx.session);
    for id in &others {
        ctx.core.close(*id);
    }
    match others.len() + usize::from(ends_itself) {
        0 if ctx.argv.len() == 3 => return Err(CommandError::fixed("ERR No such client")),
        _ if ctx.argv.len() == 3 => ctx.reply.ok(),
        killed => ctx.reply.int(killed as i64),
    }
    if ends_itself {
        ctx.session.closing = Closing::AfterReply;
    }
    Ok(())
}

fn pause(ctx: &mut Ctx<'_>) -> CmdResult {
    let writes_only = match ctx.argv.get(3) {
        None => false,
        Some(mode) if is_token(mode, "all") => false,
        Some(mode) if is_token(mode, "write") => true,
        Some(_) => return Err(CommandError::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    if ctx.argv.len() > 4 {
        return Err(CommandError::subcommand_syntax(ctx.argv));
    }
    let millis = command::parse_i64(ctx.argv.at(2))
        .ok_or(CommandError::fixed("ERR timeout is not an integer or out of range"))?;
    if millis < 0 {
        return Err(CommandError::fixed("ERR timeout is negative"));
    }
    let until_ms =
        ctx.store.now_ms.checked_add(millis).ok_or(CommandError::fixed("ERR timeout is out of range"))?;
    pause::begin(ctx.store, ctx.core, Pause { until_ms, writes_only });
    ctx.reply.ok();
    Ok(())
}

fn unpause(ctx: &mut Ctx<'_>) -> CmdResult {
    pause::end(ctx.store, ctx.core);
    ctx.reply.ok();
    Ok(())
}

fn unblock(ctx: &mut Ctx<'_>) -> CmdResult {
    let with_error = match ctx.argv.get(3) {
        None => false,
        Some(reason) if is_token(reason, "timeout") => false,
        Some(reason) if is_token(reason, "error") => true,
        Some(_) => return Err(CommandError::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    if ctx.argv.len() > 4 {
        return Err(CommandError::subcommand_syntax(ctx.argv));
    }
    let session = ctx.argv.int(2)?;
    let unblocked =
        u64::try_from(session).is_ok_and(|session| unblock_session(ctx.store, ctx.core, session, with_error));
    ctx.reply.int(i64::from(unblocked));
    Ok(())
}

/// Answers a session that waits as if its time were up, or with an error; false if it does not wait.
fn unblock_session(store: &mut Store, core: &mut Core, session: u64, with_error: bool) -> bool {
    let Some(id) = core.conns.by_session(session) else { return false };
    let why = CommandError::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");
    if let Some(command) = end_wait(&mut store.key_waits, core, id, session, with_error.then_some(&why)) {
        // As in Redis, it counts as failed either way.
        core.stats.command(command).failed += 1;
        return true;
    }
    let Some(conn) = core.conns.get(id) else { return false };
    if !matches!(conn.session.blocked, Some(Blocked::Wait)) {
        return false;
    }
    let acked = count_acked(conn.session.last_write_offset, core.replica_links());
    core.repl.waiting.remove(&(id, session));
    let Some(conn) = core.conns.get_mut(id) else { return false };
    conn.session.blocked = None;
    let mut reply = Reply::new(&mut conn.output, conn.session.proto);
    if with_error {
        reply.error(why.wire_text());
    } else {
        reply.int(acked as i64);
    }
    core.queue_id(id);
    core.resume.push(id);
    true
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn names_and_libraries() {
        let mut h = Harness::new();
        assert_eq!(h.run("CLIENT ID"), r":1\r\n");
        assert_eq!(h.run("CLIENT GETNAME"), r"$-1\r\n");
        assert_eq!(h.run("CLIENT SETNAME me"), r"+OK\r\n");
        assert_eq!(h.run("CLIENT GETNAME"), r"$2\r\nme\r\n");
        assert_eq!(
            h.run(r#"CLIENT SETNAME "a b""#),
            r"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        );
        assert_eq!(h.run(r#"CLIENT SETNAME """#), r"+OK\r\n");
        assert_eq!(h.run("CLIENT GETNAME"), r"$-1\r\n");
        assert_eq!(h.run("CLIENT SETINFO LIB-NAME redis-py"), r"+OK\r\n");
        assert_eq!(h.run("CLIENT SETINFO LIB-VER 1.2"), r"+OK\r\n");
        assert_eq!(
            h.run(r#"CLIENT SETINFO lib-ver "a b""#),
            r"-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"
        );
        assert_eq!(h.run("CLIENT SETINFO x y"), r"-ERR Unrecognized option \'x\'\r\n");
        assert!(h.run("CLIENT INFO").ends_with(r" lib-name=redis-py lib-ver=1.2\n\r\n"));
        assert_eq!(h.run("CLIENT NOPE"), r"-ERR unknown subcommand \'NOPE\'. Try CLIENT HELP.\r\n");
    }

    #[test]
    fn the_fields_of_a_line_and_their_order() {
        let mut h = Harness::new();
        h.connect();
        let reply = String::from_utf8(h.run_args(&[b"client", b"list"])).unwrap();
        let lines: Vec<&str> = reply.lines().skip(1).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2);
        let names: Vec<&str> = lines[0].split(' ').map(|field| field.split('=').next().unwrap()).collect();
        assert_eq!(
            names.join(" "),
            "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl \
             oll omem tot-mem events cmd user redir resp lib-name lib-ver"
        );
        assert!(lines[0].contains(" flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=26 "), "{}", lines[0]);
        assert!(lines[0].contains(" argv-mem=10 multi-mem=0 "), "{}", lines[0]);
        assert!(lines[0].contains(" events=r cmd=client|list user=default redir=-1 resp=2 "), "{}", lines[0]);
        assert!(lines[1].contains(" cmd=NULL "));
    }

    #[test]
    fn lists_by_type_and_by_number() {
        let mut h = Harness::new();
        h.connect();
        assert_eq!(h.run("CLIENT LIST").matches(" laddr=127").count(), 2);
        assert_eq!(h.run("CLIENT LIST TYPE master"), r"$0\r\n\r\n");
        assert_eq!(h.run("CLIENT LIST TYPE x"), r"-ERR Unknown client type \'x\'\r\n");
        assert_eq!(h.run("CLIENT LIST ID x"), r"-ERR Invalid client ID\r\n");
        assert_eq!(h.run("CLIENT LIST TYPE"), r"-ERR syntax error\r\n");
        let shown = h.run("CLIENT LIST ID 2 1 9 2");
        let ids: Vec<&str> = shown.split("id=").skip(1).map(|rest| &rest[..1]).collect();
        assert_eq!(ids, ["2", "1", "2"]);
    }

    #[test]
    fn kill_in_both_forms() {
        let mut h = Harness::new();
        let other = h.connect();
        assert_eq!(h.run("CLIENT KILL 1.2.3.4:5"), r"-ERR No such client\r\n");
        assert_eq!(h.run("CLIENT KILL TYPE normal ID 1"), r":0\r\n");
        assert_eq!(h.run("CLIENT KILL ID 0"), r"-ERR client-id should be greater than 0\r\n");
        assert_eq!(h.run("CLIENT KILL USER nobody"), r"-ERR No such user \'nobody\'\r\n");
        assert_eq!(h.run("CLIENT KILL ID 2 X"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("CLIENT KILL ID 2"), r":1\r\n");
        h.node.before_sleep();
        assert!(h.node.core.conns.get(other).is_none());
        assert_eq!(h.run("CLIENT KILL 127.0.0.1:1"), r"+OK\r\n");
        assert_eq!(h.run("PING"), "");
    }

    #[test]
    fn replies_can_be_left_out() {
        let mut h = Harness::new();
        assert_eq!(h.run("CLIENT REPLY SKIP"), "");
        assert_eq!(h.run("PING"), "");
        assert_eq!(h.run("PING"), r"+PONG\r\n");
        assert_eq!(h.run("CLIENT REPLY OFF"), "");
        assert_eq!(h.run("PING"), "");
        assert_eq!(h.run("CLIENT REPLY ON"), r"+OK\r\n");
        assert_eq!(h.run("CLIENT REPLY x"), r"-ERR syntax error\r\n");
    }

    #[test]
    fn a_client_in_wait_is_unblocked() {
        let mut h = Harness::new();
        let other = h.connect();
        assert_eq!(h.run("CLIENT UNBLOCK 2"), r":0\r\n");
        assert_eq!(h.run_on(other, "WAIT 1 0"), "");
        assert_eq!(h.run("CLIENT UNBLOCK 2 x"), r"-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n");
        assert_eq!(h.run("CLIENT UNBLOCK 2"), r":1\r\n");
        assert_eq!(h.output(other), b":0\r\n");
        assert_eq!(h.run_on(other, "WAIT 1 0"), "");
        assert_eq!(h.run("CLIENT UNBLOCK 2 ERROR"), r":1\r\n");
        assert_eq!(h.output(other), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    }
}
