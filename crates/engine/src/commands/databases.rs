//! Whole databases: selecting, counting, exchanging, emptying.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, is_token, parse_i64,
};

use crate::action::Action;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::persist;
use crate::snapshot::Purpose;

pub const COMMANDS: &[Command<Handler>] = &[DBSIZE, FLUSHALL, FLUSHDB, SELECT, SWAPDB];

/// DBSIZE
const DBSIZE: Command<Handler> = Command {
    name: "dbsize",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace]),
    tips: &["request_policy:all_shards", "response_policy:agg_sum"],
    docs: &Docs {
        summary: "Returns the number of keys in the database.",
        since: "1.0.0",
        complexity: "O(1)",
        ..Docs::NONE
    },
    ..Command::runs(dbsize)
};

/// `[ASYNC|SYNC]`
const HOW: Arg = Arg::one_of(
    "async",
    &[Arg::pure_token("async", "ASYNC").since("4.0.0"), Arg::pure_token("sync", "SYNC").since("6.2.0")],
)
.optional();

/// FLUSHALL [ASYNC|SYNC]
const FLUSHALL: Command<Handler> = Command {
    name: "flushall",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Keyspace, Category::Dangerous]),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    docs: &Docs {
        summary: "Deletes all keys of all databases.",
        since: "1.0.0",
        complexity: "O(N), N being the number of keys in all databases",
        history: &[("4.0.0", "ASYNC."), ("6.2.0", "SYNC.")],
        arguments: &[HOW],
        ..Docs::NONE
    },
    ..Command::runs(flushall)
};

/// FLUSHDB [ASYNC|SYNC]
const FLUSHDB: Command<Handler> = Command {
    name: "flushdb",
    docs: &Docs {
        summary: "Deletes all keys of the database.",
        complexity: "O(N), N being the number of keys in the database",
        ..*FLUSHALL.docs
    },
    handler: Some(flushdb),
    ..FLUSHALL
};

/// SELECT index
const SELECT: Command<Handler> = Command {
    name: "select",
    group: Group::Connection,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale, Flag::Fast]),
    acl: Acl::of(&[Category::Connection]),
    docs: &Docs {
        summary: "Changes the database that the connection works on.",
        since: "1.0.0",
        complexity: "O(1)",
        arguments: &[Arg::integer("index")],
        ..Docs::NONE
    },
    ..Command::runs(select)
};

/// SWAPDB index1 index2
const SWAPDB: Command<Handler> = Command {
    name: "swapdb",
    group: Group::Server,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Keyspace, Category::Dangerous]),
    docs: &Docs {
        summary: "Exchanges the contents of two databases.",
        since: "4.0.0",
        complexity: "O(N), N being the number of watched keys in the two databases",
        arguments: &[Arg::integer("index1"), Arg::integer("index2")],
        ..Docs::NONE
    },
    ..Command::runs(swapdb)
};

/// Reads the number of one of `databases` databases.
pub fn db_index(arg: &[u8], databases: usize) -> Result<usize, CommandError> {
    const MIN: i64 = i32::MIN as i64;
    const MAX: i64 = i32::MAX as i64;
    let index = parse_i64(arg).ok_or(CommandError::NotInteger)?;
    if !(MIN..=MAX).contains(&index) {
        return Err(CommandError::NotWithin { min: MIN, max: MAX });
    }
    usize::try_from(index).ok().filter(|index| *index < databases).ok_or(CommandError::DbIndexOutOfRange)
}

fn select(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.session.db = db_index(ctx.argv.at(1), ctx.store.databases())?;
    ctx.reply.ok();
    Ok(())
}

fn dbsize(ctx: &mut Ctx<'_>) -> CmdResult {
    ctx.reply.int(ctx.store.db().len() as i64);
    Ok(())
}

fn swapdb(ctx: &mut Ctx<'_>) -> CmdResult {
    let databases = ctx.store.databases();
    let index = |at: usize, error: &'static str| {
        let in_bounds = |value: &i64| i32::try_from(*value).is_ok();
        parse_i64(ctx.argv.at(at)).filter(in_bounds).ok_or(CommandError::fixed(error))
    };
    let (a, b) = (index(1, "ERR invalid first DB index")?, index(2, "ERR invalid second DB index")?);
    let exists = |index: i64| usize::try_from(index).ok().filter(|index| *index < databases);
    let (Some(a), Some(b)) = (exists(a), exists(b)) else { return Err(CommandError::DbIndexOutOfRange) };
    ctx.store.swap_dbs(a, b);
    ctx.store.effects.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

/// True if the memory is to be freed on another thread.
fn flush_lazily(ctx: &Ctx<'_>) -> Result<bool, CommandError> {
    match ctx.argv.get(1) {
        None => Ok(ctx.store.lazy.user_flush),
        Some(mode) if ctx.argv.len() == 2 && is_token(mode, "SYNC") => Ok(false),
        Some(mode) if ctx.argv.len() == 2 && is_token(mode, "ASYNC") => Ok(true),
        Some(_) => Err(CommandError::Syntax),
    }
}

fn flushdb(ctx: &mut Ctx<'_>) -> CmdResult {
    let lazily = flush_lazily(ctx)?;
    let deleted = ctx.store.flush_db(ctx.store.selected(), lazily);
    ctx.store.effects.dirty += deleted as u64;
    // Others may hold what this node does not.
    ctx.store.effects.propagate_anyway();
    ctx.reply.ok();
    Ok(())
}

fn flushall(ctx: &mut Ctx<'_>) -> CmdResult {
    let lazily = flush_lazily(ctx)?;
    abandon_background_save(ctx);
    for index in 0..ctx.store.databases() {
        ctx.store.effects.dirty += ctx.store.flush_db(index, lazily) as u64;
    }
    ctx.store.effects.propagate_anyway();
    // The file on disk holds what is no more, and must not come back: an empty one takes its place before the reply.
    // A failure has been logged, and the save points try again.
    if !ctx.core.config.save.is_empty() {
        let _ = persist::save_emptied(ctx.store, ctx.core);
    }
    ctx.reply.ok();
    Ok(())
}

/// Stops a background save of data that are being deleted. A snapshot for replicas goes on: it belongs to a position
/// of the log before the deletion, which they get from the log.
fn abandon_background_save(ctx: &mut Ctx<'_>) {
    let snapshots = &mut ctx.core.snapshots;
    if snapshots.running.take_if(|running| running.purpose == Purpose::Background).is_none() {
        return;
    }
    for index in 0..ctx.store.databases() {
        ctx.store.db_at_mut(index).abandon_walk();
    }
    ctx.store.orphans.clear();
    ctx.core.actions.push(Action::CancelSnapshot);
}

#[cfg(test)]
mod tests {
    use keyspace::snapshot::Body;

    use crate::action::Action;
    use crate::config::Config;
    use crate::snapshot::{Purpose, Step};
    use crate::testing::Harness;

    #[test]
    fn selecting_and_exchanging() {
        let mut h = Harness::new();
        h.run("SET a 0");
        for (line, reply) in [
            ("SELECT 16", r"-ERR DB index is out of range\r\n"),
            ("SELECT -1", r"-ERR DB index is out of range\r\n"),
            ("SELECT x", r"-ERR value is not an integer or out of range\r\n"),
            (
                "SELECT 99999999999",
                r"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n",
            ),
            ("SELECT 1", r"+OK\r\n"),
            ("DBSIZE", r":0\r\n"),
            ("SWAPDB x 1", r"-ERR invalid first DB index\r\n"),
            ("SWAPDB 1 99999999999", r"-ERR invalid second DB index\r\n"),
            ("SWAPDB 1 16", r"-ERR DB index is out of range\r\n"),
            ("SWAPDB 0 1", r"+OK\r\n"),
            ("GET a", r"$1\r\n0\r\n"),
            ("SET b 1", r"+OK\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(h.propagated(), ["SELECT 0", "SET a 0", "SELECT 1", "SWAPDB 0 1", "SET b 1"]);
    }

    #[test]
    fn flushing_counts_keys_and_always_propagates() {
        let mut h = Harness::with_config(Config { save: Vec::new(), ..Config::default() });
        h.run("MSET a 1 b 2");
        h.run("SELECT 1");
        h.run("SET a 1 EX 10");
        h.propagated();
        let before = h.node.store.effects.dirty;
        for (line, reply) in [
            ("FLUSHDB NOSUCH", r"-ERR syntax error\r\n"),
            ("FLUSHALL SYNC ASYNC", r"-ERR syntax error\r\n"),
            ("FLUSHDB async", r"+OK\r\n"),
            ("DBSIZE", r":0\r\n"),
            ("FLUSHDB", r"+OK\r\n"),
            ("FLUSHALL SYNC", r"+OK\r\n"),
            ("SELECT 0", r"+OK\r\n"),
            ("DBSIZE", r":0\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        assert_eq!(h.node.store.effects.dirty - before, 3);
        assert_eq!(h.propagated(), ["FLUSHDB async", "FLUSHDB", "FLUSHALL SYNC"]);
        assert_eq!(h.node.core.snapshots.saves, 0, "without save points nothing is saved");
    }

    #[test]
    fn flushall_ends_a_background_save_and_saves_what_is_left() {
        let mut h = Harness::new();
        h.run("SET a 1");
        h.node.begin_snapshot(Purpose::Background);
        assert_eq!(h.run("FLUSHALL"), r"+OK\r\n");
        assert!(!h.node.core.snapshots.is_running());
        assert_eq!(h.node.core.snapshots.saves, 1);
        let names_position = |h: &Harness| {
            let files = h.files.lock().unwrap();
            let file = files.values().next().and_then(Option::as_ref).expect("one file was saved");
            file.windows(7).any(|bytes| bytes == b"repl-id")
        };
        assert!(!names_position(&h), "the log has the deletion after that position");
        assert_eq!(h.node.core.snapshots.changes_since_save(h.node.store.effects.dirty), 0);
        assert!(h.node.take_actions().iter().any(|action| matches!(action, Action::CancelSnapshot)));
        assert!(h.node.snapshot_batch(1 << 20).is_none());
        h.run("SAVE");
        assert!(names_position(&h));
    }

    #[test]
    fn a_snapshot_for_replicas_keeps_what_was_flushed_after_it_began() {
        let mut h = Harness::new();
        h.run("MSET a 1 b 2 c 3");
        h.node.begin_snapshot(Purpose::SyncStream);
        h.run("FLUSHALL");
        h.run("SET d 4");
        assert!(h.node.core.snapshots.is_running());
        let mut entries = 0;
        while let Some(Step::Batch(batch)) = h.node.snapshot_batch(1 << 20) {
            let is_key = |body: &Body<'_>| matches!(body, Body::Key { .. });
            entries += batch.items().filter(|item| is_key(&item.body)).count();
        }
        assert_eq!(entries, 3);
        assert_eq!(h.run("DBSIZE"), r":1\r\n");
    }

    #[test]
    fn watchers_of_flushed_keys_lose() {
        for line in ["FLUSHDB", "FLUSHALL", "SWAPDB 0 1"] {
            for (watched, lost) in [("a", true), ("nosuch", false)] {
                let mut h = Harness::new();
                let other = h.connect();
                h.run("SET a 1");
                h.run(&format!("WATCH {watched}"));
                h.run_on(other, line);
                h.run("MULTI");
                h.run("DBSIZE");
                assert_eq!(h.run("EXEC") == r"*-1\r\n", lost, "{line} {watched}");
            }
        }
    }
}
