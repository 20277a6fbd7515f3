//! `MONITOR`: every command that runs, as it runs, to whoever asks.

use command::{Arity, Command, Docs, Flag, Flags, Group};

use crate::action::ConnId;
use crate::core::Core;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::session::{Role, Session};

pub const COMMANDS: &[Command<Handler>] = &[MONITOR];

/// MONITOR
const MONITOR: Command<Handler> = Command {
    name: "monitor",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "",
        summary: "Shows the commands of all clients as they run.",
        ..Docs::NONE
    },
    ..Command::runs(monitor)
};

fn monitor(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.session.monitors || !matches!(ctx.session.role, Role::Client) {
        return Ok(());
    }
    if let Some(id) = ctx.core.running {
        ctx.session.monitors = true;
        ctx.core.monitors.push(id);
    }
    ctx.reply.ok();
    Ok(())
}

/// The session shows nothing any more: it was reset, or its connection has ended.
pub fn stop(core: &mut Core, session: &mut Session, id: Option<ConnId>) {
    if std::mem::take(&mut session.monitors) {
        core.monitors.retain(|other| Some(*other) != id);
    }
}

/// Shows the command that has just run to all who monitor. Administration is nobody's business.
#[cold]
pub fn show(ctx: &mut Ctx<'_>) {
    if ctx.command.flags.has(Flag::Admin) || ctx.command.flags.has(Flag::SkipMonitor) {
        return;
    }
    let line = line(ctx);
    for index in 0..ctx.core.monitors.len() {
        let id = ctx.core.monitors[index];
        if ctx.core.running == Some(id) {
            ctx.reply.output().raw(&line);
        } else {
            ctx.core.send(id, &line);
        }
    }
}

fn line(ctx: &Ctx<'_>) -> Vec<u8> {
    let (session, now_ms) = (&*ctx.session, ctx.core.env.unix_ms());
    let mut line = format!("+{}.{:06} [{} ", now_ms / 1000, now_ms % 1000 * 1000, session.db).into_bytes();
    if session.unix_socket {
        line.extend_from_slice(b"unix:");
        line.extend_from_slice(session.addr.strip_suffix(":0").unwrap_or(&session.addr).as_bytes());
    } else {
        line.extend_from_slice(session.addr.as_bytes());
    }
    line.push(b']');
    for (index, arg) in ctx.argv.iter().enumerate() {
        line.push(b' ');
        let hidden = ctx.core.redacted.contains(&index);
        quote(&mut line, if hidden { b"(redacted)" } else { arg });
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// In double quotes, with escapes for what would not print.
fn quote(line: &mut Vec<u8>, text: &[u8]) {
    line.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            0x20..=0x7e => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn commands_are_shown_as_they_run() {
        let mut h = Harness::new();
        let monitor = h.connect();
        assert_eq!(h.run_on(monitor, "MONITOR"), r"+OK\r\n");
        assert_eq!(h.run_on(monitor, "MONITOR"), "");
        assert!(h.run_on(h.conn, "CLIENT LIST").contains("flags=O "));
        h.output(monitor);
        h.run_args(&[b"SET", b"a b", b"\x01\n\"q\\\x07\xff"]);
        h.run("NOSUCH");
        h.run("GET");
        h.run("CONFIG GET port");
        h.run("AUTH secret");
        h.run("MULTI");
        h.run("INCR n");
        h.run("EXEC");
        h.run("SELECT 3");
        let shown = h.output(monitor).escape_ascii().to_string();
        let lines: Vec<&str> = shown.split(r"\r\n").collect();
        let from = "+1700000000.000000 [0 127.0.0.1:1]";
        let wanted = [
            r#"\"SET\" \"a b\" \"\\x01\\n\\\"q\\\\\\a\\xff\""#,
            r#"\"AUTH\" \"(redacted)\""#,
            r#"\"MULTI\""#,
            r#"\"INCR\" \"n\""#,
            r#"\"EXEC\""#,
        ];
        for (line, wanted) in lines.iter().zip(wanted) {
            assert_eq!(*line, format!("{from} {wanted}"));
        }
        assert_eq!(h.run_on(monitor, "PING"), r#"+PONG\r\n+1700000000.000000 [0 127.0.0.1:1] \"PING\"\r\n"#);
        assert!(h.run_on(monitor, "RESET").starts_with(r"+RESET\r\n"));
        h.run("PING");
        assert_eq!(h.output(monitor), b"");
        assert!(!h.run("CLIENT LIST").contains("flags=O "));
        h.run_on(monitor, "MONITOR");
        h.node.closed(monitor);
        let next = h.connect();
        h.run("PING");
        assert_eq!(h.output(next), b"");
    }
}
