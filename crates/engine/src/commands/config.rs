//! `CONFIG`: parameters read, set, and written back to the file they came from.

use command::{Arg, ArgKind, Arity, Command, CommandError, Docs, Flag, Flags, Group};

use super::write_help;
use crate::action::Action;
use crate::config::{Config, Protected};
use crate::core::Core;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::evict;
use crate::oom_score::OomScore;
use crate::params::{self, Param, Source};
use crate::session::Session;

pub const COMMANDS: &[Command<Handler>] = &[CONFIG];

const HELP_LINES: &[&str] = &[
    "GET <pattern>",
    "    Tell the parameters whose names match the glob-like <pattern>, and their values.",
    "SET <directive> <value>",
    "    Set parameters.",
    "RESETSTAT",
    "    Set the counters of INFO back to zero.",
    "REWRITE",
    "    Write the values into the configuration file.",
];

/// CONFIG
const CONFIG: Command<Handler> = Command {
    name: "config",
    group: Group::Server,
    arity: Arity::AtLeast(2),
    docs: &Docs {
        since: "2.0.0",
        complexity: "Depends on subcommand",
        summary: "Commands about the configuration.",
        ..Docs::NONE
    },
    ..Command::parent(&[GET, HELP, RESETSTAT, REWRITE, SET])
};

/// CONFIG GET
const GET: Command<Handler> = Command {
    name: "get",
    group: Group::Server,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Tells the values of parameters.",
        arguments: &[Arg {
            multiple: true,
            ..Arg::new("parameter", ArgKind::Block(&[Arg::string("parameter")]))
        }],
        ..Docs::NONE
    },
    ..Command::runs(get)
};

/// CONFIG HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    docs: &Docs { since: "5.0.0", complexity: "O(1)", summary: "Lists the subcommands.", ..Docs::NONE },
    ..Command::runs(help)
};

/// CONFIG RESETSTAT
const RESETSTAT: Command<Handler> = Command {
    name: "resetstat",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(1)",
        summary: "Sets the counters of INFO back to zero.",
        ..Docs::NONE
    },
    ..Command::runs(resetstat)
};

/// CONFIG REWRITE
const REWRITE: Command<Handler> = Command {
    name: "rewrite",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1)",
        summary: "Writes the values that are set now into the configuration file.",
        ..Docs::NONE
    },
    ..Command::runs(rewrite)
};

/// CONFIG SET
const SET: Command<Handler> = Command {
    name: "set",
    group: Group::Server,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Sets parameters, all or none.",
        arguments: &[Arg {
            multiple: true,
            ..Arg::new("parameter_value", ArgKind::Block(&[Arg::string("parameter"), Arg::string("value")]))
        }],
        ..Docs::NONE
    },
    ..Command::runs(set)
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(ctx, HELP_LINES);
    Ok(())
}

fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut found: Vec<(String, String)> = Vec::new();
    for pattern in ctx.argv.tail(2).iter() {
        for (name, value) in params::get(&mut ctx.core.config, pattern) {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                found.push((name, value));
            }
        }
    }
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(value.as_bytes());
    }
    Ok(())
}

fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    let pairs = pairs(ctx)?;
    let old = ctx.core.config.clone();
    for (param, value) in &pairs {
        if let Err(reason) = set_one(ctx, param, value) {
            ctx.core.config = old;
            return Err(failed(param.name, &reason));
        }
    }
    if let Err((name, reason)) = tell_the_system(ctx.core, &pairs, &old) {
        ctx.core.warning(format!(
            "Failed applying new configuration. Possibly related to new {name} setting. Restoring previous settings."
        ));
        return Err(failed(name, &reason));
    }
    params::apply(ctx.store, ctx.core);
    let (config, mut old) = (&mut ctx.core.config, old);
    let changed: Vec<&'static str> = pairs
        .iter()
        .map(|(param, _)| param)
        .filter(|p| p.show(config) != p.show(&mut old))
        .map(|p| p.name)
        .collect();
    if changed.contains(&"maxmemory") {
        evict::limit_changed(ctx.store, ctx.core);
    }
    ctx.core.actions.extend(changed.into_iter().map(|name| Action::ConfigChanged { name }));
    ctx.reply.ok();
    Ok(())
}

/// The parameters that are to be set, each of which may be.
fn pairs<'a>(ctx: &mut Ctx<'a>) -> Result<Vec<(&'static Param, &'a [u8])>, CommandError> {
    if !ctx.argv.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let mut pairs: Vec<(&'static Param, &[u8])> = Vec::new();
    let mut first_error = None;
    for at in (2..ctx.argv.len()).step_by(2) {
        let (name, value) = (ctx.argv.at(at), ctx.argv.at(at + 1));
        let param = params::lookup(name);
        // All are looked at, so that no password reaches the slow log by way of an error.
        if param.is_some_and(|param| param.sensitive) {
            ctx.core.redacted.push(at + 1);
        }
        match param.ok_or_else(|| unknown(name)).and_then(|param| settable(ctx, param, name, &pairs)) {
            Ok(param) => pairs.push((param, value)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(pairs), Err)
}

fn settable(
    ctx: &Ctx<'_>,
    param: &'static Param,
    name: &[u8],
    pairs: &[(&'static Param, &[u8])],
) -> Result<&'static Param, CommandError> {
    let name = String::from_utf8_lossy(name);
    if param.immutable {
        return Err(failed(&name, "can't set immutable config"));
    }
    if param.protected && !allows_protected(&ctx.core.config, ctx.session) {
        return Err(failed(&name, "can't set protected config"));
    }
    if param.denied_while_loading && ctx.core.is_loading() {
        return Err(CommandError::Loading);
    }
    if pairs.iter().any(|(other, _)| other.name == param.name) {
        return Err(failed(&name, "duplicate parameter"));
    }
    Ok(param)
}

fn allows_protected(config: &Config, session: &Session) -> bool {
    match config.enable_protected_configs {
        Protected::No => false,
        Protected::Local => session.local,
        Protected::Yes => true,
    }
}

fn set_one(ctx: &mut Ctx<'_>, param: &Param, value: &[u8]) -> Result<(), String> {
    param.set_text(&mut ctx.core.config, value, Source::Command)?;
    if param.name == "dir" {
        let path = ctx.core.config.dir.clone();
        ctx.core.config.dir = ctx.core.env.directory(&path)?;
    }
    if param.name == "oom-score-adj-values" && !OomScore::may_all_be_set(ctx.core.config.oom_score_adj_values)
    {
        ctx.core.warning(OomScore::UNPRIVILEGED);
    }
    if param.name == "maxclients" {
        let clients = ctx.core.config.maxclients.max(1) as u64;
        ctx.core.env.allow_clients(clients).map_err(|allowed| {
            format!(
                "The operating system is not able to handle the specified number of clients, try with {allowed}"
            )
        })?;
    }
    Ok(())
}

/// A setting that the surroundings have to agree to.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    Addresses,
    OomScore,
    Tls,
}

impl Told {
    fn of(param: &Param) -> &'static [Told] {
        match param.name {
            "port" | "bind" => &[Told::Addresses],
            "oom-score-adj" | "oom-score-adj-values" => &[Told::OomScore],
            "tls-port" => &[Told::Tls, Told::Addresses],
            name if name.starts_with("tls-") => &[Told::Tls],
            _ => &[],
        }
    }

    /// Makes it so, if the two differ in it; it was `name` that changed it.
    fn tell(self, core: &mut Core, old: &Config, name: &str) -> Result<(), String> {
        match self {
            Told::Addresses => {
                let addresses = |config: &Config| (config.port, config.tls.port, config.bind.clone());
                if addresses(&core.config) == addresses(old) {
                    return Ok(());
                }
                let listened = core.env.listen(old, &core.config);
                // The sockets are others now, also after a refusal, and where an earlier state is gone back to.
                core.actions.push(Action::ConfigChanged { name: "port" });
                listened.map_err(|why| {
                    core.warning(why);
                    match name {
                        "bind" => "Failed to bind to specified addresses.".to_owned(),
                        _ => "Unable to listen on this port. Check server logs.".to_owned(),
                    }
                })
            }
            Told::OomScore => {
                let told = |config: &Config| (config.oom_score_adj, config.oom_score_adj_values);
                if told(&core.config) == told(old) || core.adjust_oom_score() {
                    return Ok(());
                }
                Err("Failed to set current oom_score_adj. Check server logs.".to_owned())
            }
            // Also where nothing differs: the files may be new under their old names.
            Told::Tls => core.env.configure_tls(&core.config).map_err(|why| {
                let text = format!("Unable to update TLS configuration: {why}");
                core.warning(why);
                text
            }),
        }
    }
}

/// Tells the surroundings what is set, in order; certificates are read last, since what was read before may not be there
/// any more to go back to. The error is which parameter was refused, and why; then all is as
/// before.
fn tell_the_system(
    core: &mut Core,
    pairs: &[(&'static Param, &[u8])],
    old: &Config,
) -> Result<(), (&'static str, String)> {
    let mut to_tell: Vec<(Told, &'static str)> = Vec::new();
    for (param, _) in pairs {
        for told in Told::of(param) {
            if !to_tell.iter().any(|(other, _)| other == told) {
                to_tell.push((*told, param.name));
            }
        }
    }
    to_tell.sort_by_key(|(told, _)| *told == Told::Tls);
    for (at, (told, name)) in to_tell.iter().enumerate() {
        if let Err(reason) = told.tell(core, old, name) {
            let new = std::mem::replace(&mut core.config, old.clone());
            // What was refused may have been done in part; that it cannot be undone is logged.
            let done = &to_tell[..at + usize::from(*told == Told::OomScore)];
            for (told, name) in done {
                let _ = told.tell(core, &new, name);
            }
            return Err((name, reason));
        }
    }
    Ok(())
}

fn unknown(name: &[u8]) -> CommandError {
    let name = String::from_utf8_lossy(name);
    CommandError::text(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))
}

fn failed(name: &str, reason: &str) -> CommandError {
    CommandError::text(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
}

fn resetstat(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.core.stats.reset();
    ctx.store.stats = Default::default();
    ctx.store.reclaim.reset_freed();
    ctx.core.eviction.reset_stats();
    ctx.core.snapshots.saves = 0;
    ctx.reply.ok();
    Ok(())
}

fn rewrite(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(path) = ctx.core.config_file.clone() else {
        return Err(CommandError::fixed("ERR The server is running without a config file"));
    };
    let rows = params::rewrite_lines(&mut ctx.core.config);
    if let Err(reason) = ctx.core.env.rewrite_config(&path, &rows) {
        ctx.core.warning(format!("CONFIG REWRITE failed: {reason}"));
        return Err(CommandError::text(format!("ERR Rewriting config file: {reason}")));
    }
    ctx.core.notice("CONFIG REWRITE executed with success.");
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::config::{Config, Protected};
    use crate::testing::Harness;

    #[test]
    fn get_by_several_patterns() {
        let mut h = Harness::new();
        assert_eq!(h.run("CONFIG GET port"), r"*2\r\n$4\r\nport\r\n$4\r\n6379\r\n");
        assert_eq!(
            h.run("CONFIG GET port P?rt slave-priority nope"),
            r"*4\r\n$4\r\nport\r\n$4\r\n6379\r\n$14\r\nslave-priority\r\n$3\r\n100\r\n"
        );
        assert!(h.resp3().run("CONFIG GET port").starts_with(r"%1\r\n"));
    }

    #[test]
    fn set_takes_effect() {
        let mut h = Harness::new();
        assert_eq!(h.run("CONFIG SET hash-max-ziplist-entries 3 set-max-intset-entries 4"), r"+OK\r\n");
        assert_eq!((h.node.store.limits.hash_entries, h.node.store.limits.set_intset_entries), (3, 4));
        let changed: Vec<&str> = h
            .node
            .take_actions()
            .iter()
            .filter_map(|action| match action {
                Action::ConfigChanged { name } => Some(*name),
                _ => None,
            })
            .collect();
        assert_eq!(changed, ["hash-max-listpack-entries", "set-max-intset-entries"]);
        assert_eq!(h.run("CONFIG SET save \"\""), r"+OK\r\n");
        assert_eq!(h.run("CONFIG GET save"), r"*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
        assert_eq!(h.run("CONFIG SET save \"10 1 20 2\""), r"+OK\r\n");
        assert_eq!(h.run("CONFIG GET save"), r"*2\r\n$4\r\nsave\r\n$9\r\n10 1 20 2\r\n");
    }

    #[test]
    fn all_or_none() {
        let mut h = Harness::new();
        assert_eq!(
            h.run("CONFIG SET maxclients 7 timeout x"),
            r"-ERR CONFIG SET failed (possibly related to argument \'timeout\') - argument couldn\'t be parsed into an integer\r\n"
        );
        assert_eq!(h.node.core.config.maxclients, 10_000);
        assert!(h.node.take_actions().iter().all(|action| !matches!(action, Action::ConfigChanged { .. })));
    }

    #[test]
    fn certificates_are_read_last_and_ports_given_back() {
        let mut h = Harness::new();
        assert_eq!(h.run("CONFIG SET tls-cert-file bad tls-key-file bad"), r"+OK\r\n", "nobody needs them");
        assert_eq!(
            h.run("CONFIG SET tls-port 7 port 8"),
            r"-ERR CONFIG SET failed (possibly related to argument \'tls-port\') - Unable to update TLS configuration: Failed to load certificate: bad: No such file or directory\r\n"
        );
        assert_eq!((h.node.core.config.port, h.node.core.config.tls.port), (6379, 0));
        assert_eq!(h.run("CONFIG SET tls-port 7 tls-cert-file good"), r"+OK\r\n");
        assert!(h.run("CONFIG SET tls-auth-clients no tls-cert-file bad").contains("Unable to update TLS"));
        assert_eq!(h.run("CONFIG GET tls-auth-clients"), r"*2\r\n$16\r\ntls-auth-clients\r\n$3\r\nyes\r\n");
        assert_eq!(h.run("CONFIG SET port 0"), r"+OK\r\n");
        assert!(h.run("INFO server").contains(r"tcp_port:7\r\n"));
    }

    #[test]
    fn refusals() {
        let mut h = Harness::new();
        for (line, error) in [
            ("CONFIG SET nope 1", "Unknown option or number of arguments for CONFIG SET - 'nope'"),
            ("CONFIG SET port 1 nope 1", "Unknown option or number of arguments for CONFIG SET - 'nope'"),
            (
                "CONFIG SET databases 1",
                "CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                "CONFIG SET dir /tmp",
                "CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
            ),
            (
                "CONFIG SET timeout 1 timeout 2",
                "CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter",
            ),
            ("CONFIG SET timeout 1 port", "syntax error"),
            ("CONFIG REWRITE", "The server is running without a config file"),
        ] {
            let reply =
                String::from_utf8(h.run_args(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
            assert_eq!(reply.unwrap(), format!("-ERR {error}\r\n"), "{line}");
        }
        let config = Config { enable_protected_configs: Protected::Local, ..Config::default() };
        assert_eq!(Harness::with_config(config).run("CONFIG SET dir /tmp"), r"+OK\r\n");
    }

    #[test]
    fn a_password_that_goes_lets_everybody_in() {
        let mut h = Harness::new();
        assert_eq!(h.run("CONFIG SET requirepass secret slowlog-log-slower-than 0"), r"+OK\r\n");
        let other = h.connect();
        assert_eq!(h.run_on(other, "PING"), r"-NOAUTH Authentication required.\r\n");
        assert_eq!(h.run("CONFIG SET requirepass other"), r"+OK\r\n");
        assert!(!h.run("SLOWLOG GET").contains("other"));
        assert_eq!(h.run("CONFIG SET requirepass \"\""), r"+OK\r\n");
        assert_eq!(h.run_on(other, "PING"), r"+PONG\r\n");
    }
}
