//! Snapshots on disk by command: `SAVE`, `BGSAVE`, `LASTSAVE`. What they hold is in [`crate::snapshot`].

use command::{Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, ParseArgs};

use crate::ctx::{CmdResult, Ctx, Handler};
use crate::persist;
use crate::snapshot::{self, Form, Purpose};

pub const COMMANDS: &[Command<Handler>] = &[SAVE, BGSAVE, LASTSAVE];

const IN_PROGRESS: &str = "ERR Background save already in progress";

/// SAVE
const SAVE: Command<Handler> = Command {
    name: "save",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::NoAsyncLoading, Flag::NoMulti]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Writes the data set to disk while all clients wait.",
        ..Docs::NONE
    },
    ..Command::runs(save)
};

/// BGSAVE [SCHEDULE]
const BGSAVE: Command<Handler> = Command {
    name: "bgsave",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::NoAsyncLoading]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Writes the data set to disk in the background.",
        history: &[("3.2.2", "Added the `SCHEDULE` option.")],
        arguments: &[Arg::pure_token("schedule", "SCHEDULE").since("3.2.2").optional()],
        ..Docs::NONE
    },
    ..Command::runs(bgsave)
};

/// LASTSAVE
const LASTSAVE: Command<Handler> = Command {
    name: "lastsave",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Loading, Flag::Stale, Flag::Fast]),
    acl: Acl::of(&[Category::Admin, Category::Dangerous]),
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the Unix time of the last save that succeeded.",
        ..Docs::NONE
    },
    ..Command::runs(lastsave)
};

fn save(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.core.snapshots.is_running() {
        return Err(CommandError::fixed(IN_PROGRESS));
    }
    persist::save_now(ctx.store, ctx.core).map_err(|_| CommandError::fixed("ERR"))?;
    ctx.reply.ok();
    Ok(())
}

fn bgsave(ctx: &mut Ctx<'_>) -> CmdResult {
    // `SCHEDULE` is for another process in the way that is no save; there is none.
    if ctx.argv.len() > 2 || (ctx.argv.len() == 2 && !ctx.argv.is(1, "SCHEDULE")) {
        return Err(CommandError::Syntax);
    }
    if ctx.core.snapshots.is_running() {
        return Err(CommandError::fixed(IN_PROGRESS));
    }
    if ctx.core.in_exec {
        // In the middle of a transaction the data set stands at no position of the log.
        ctx.core.snapshots.scheduled = true;
        ctx.reply.simple("Background saving scheduled");
    } else {
        snapshot::begin(ctx.store, ctx.core, Purpose::Background, Form::ALL);
        ctx.reply.simple("Background saving started");
    }
    Ok(())
}

fn lastsave(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.core.snapshots.last_save_unix_s);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::testing::Harness;

    fn log(h: &mut Harness) -> Vec<String> {
        let lines = h.node.take_actions().into_iter().filter_map(|action| match action {
            Action::Log { message, .. } => Some(message),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn save_writes_the_file_and_says_so() {
        let mut h = Harness::new();
        h.advance_ms(5000);
        h.node.store.effects.dirty = 3;
        assert_eq!(h.run("SAVE"), r"+OK\r\n");
        assert_eq!(h.run("LASTSAVE"), r":1700000005\r\n");
        assert_eq!(h.node.core.snapshots.changes_since_save(h.node.store.effects.dirty), 0);
        assert_eq!(log(&mut h).last().map(String::as_str), Some("DB saved on disk"));
        assert_eq!(h.run("SAVE now"), r"-ERR wrong number of arguments for \'save\' command\r\n");
    }

    #[test]
    fn a_disk_that_refuses_is_an_error_and_leaves_the_changes_unsaved() {
        let mut h = Harness::new();
        h.files.lock().unwrap().insert("./dump.rdb".into(), None);
        h.node.store.effects.dirty = 3;
        assert_eq!(h.run("SAVE"), r"-ERR\r\n");
        assert_eq!(h.node.core.snapshots.changes_since_save(h.node.store.effects.dirty), 3);
        assert_eq!(h.run("LASTSAVE"), r":1700000000\r\n");
    }

    #[test]
    fn who_cannot_save_refuses_writes_and_pings_in_both_roles() {
        let mut h = Harness::new();
        h.run("CONFIG SET save \"1000 1000\"");
        for role in ["REPLICAOF NO ONE", "REPLICAOF 127.0.0.1 1"] {
            h.run(role);
            h.run("BGSAVE");
            h.node.snapshot_finished(Err("no such disk".into()));
            h.node.before_sleep();
            for refused in ["PING", "SET key value"] {
                assert!(h.run(refused).starts_with("-MISCONF "), "{role}: {refused}");
            }
            assert_eq!(h.run("GET key"), r"$-1\r\n");
            h.run("BGSAVE");
            h.node.snapshot_finished(Ok(9));
            h.node.before_sleep();
            assert_eq!(h.run("PING"), r"+PONG\r\n");
        }
    }

    #[test]
    fn one_background_save_at_a_time() {
        let mut h = Harness::new();
        assert_eq!(h.run("BGSAVE"), r"+Background saving started\r\n");
        assert_eq!(log(&mut h).last().map(String::as_str), Some("Background saving started by pid 1"));
        assert_eq!(h.run("BGSAVE"), r"-ERR Background save already in progress\r\n");
        assert_eq!(h.run("SAVE"), r"-ERR Background save already in progress\r\n");
        assert_eq!(h.run("BGSAVE SCHEDULE"), r"-ERR Background save already in progress\r\n");
        assert_eq!(h.run("BGSAVE NOW"), r"-ERR syntax error\r\n");
        h.node.snapshot_finished(Ok(9));
        assert!(log(&mut h).contains(&"Background saving terminated with success".to_owned()));
        assert_eq!(h.run("BGSAVE SCHEDULE"), r"+Background saving started\r\n");
    }

    #[test]
    fn in_a_transaction_it_is_put_off() {
        let mut h = Harness::new();
        h.run("MULTI");
        h.run("BGSAVE");
        assert_eq!(h.run("EXEC"), r"*1\r\n+Background saving scheduled\r\n");
        assert!(!h.node.core.snapshots.is_running());
    }
}
