//! `MULTI` and its end, `WATCH`.

use std::collections::VecDeque;

use command::{Acl, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec};
use keyspace::EntryExt;

use crate::core::ExecRest;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::dispatch;
use crate::session::{Multi, Queued, ReplyMode, Session, WatchedKey};
use crate::store::Store;

pub const COMMANDS: &[Command<Handler>] = &[DISCARD, EXEC, MULTI, UNWATCH, WATCH];

const FLAGS: Flags = Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy]);

/// MULTI
const MULTI: Command<Handler> = Command {
    name: "multi",
    group: Group::Transactions,
    arity: Arity::Exactly(1),
    flags: FLAGS,
    acl: Acl::of(&[Category::Transaction]),
    docs: &Docs {
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Begins a transaction: the commands that follow wait for EXEC.",
        ..Docs::NONE
    },
    ..Command::runs(multi)
};

/// EXEC
const EXEC: Command<Handler> = Command {
    name: "exec",
    group: Group::Transactions,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::SkipSlowlog]),
    acl: Acl::of(&[Category::Transaction]),
    docs: &Docs {
        since: "1.2.0",
        complexity: "Depends on the commands of the transaction",
        summary: "Runs the commands of a transaction, all or none.",
        ..Docs::NONE
    },
    ..Command::runs(exec)
};

/// DISCARD
const DISCARD: Command<Handler> = Command {
    name: "discard",
    group: Group::Transactions,
    arity: Arity::Exactly(1),
    flags: FLAGS,
    acl: Acl::of(&[Category::Transaction]),
    docs: &Docs {
        since: "2.0.0",
        complexity: "O(N), when N is the number of queued commands",
        summary: "Forgets the commands of a transaction.",
        ..Docs::NONE
    },
    ..Command::runs(discard)
};

/// WATCH key [key …]
const WATCH: Command<Handler> = Command {
    name: "watch",
    group: Group::Transactions,
    arity: Arity::AtLeast(2),
    flags: FLAGS,
    acl: Acl::of(&[Category::Transaction]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Ro])],
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(1) for every key",
        summary: "Makes the next transaction depend on keys staying as they are.",
        ..Docs::NONE
    },
    ..Command::runs(watch)
};

/// UNWATCH
const UNWATCH: Command<Handler> = Command {
    name: "unwatch",
    group: Group::Transactions,
    arity: Arity::Exactly(1),
    flags: FLAGS,
    acl: Acl::of(&[Category::Transaction]),
    docs: &Docs {
        since: "2.2.0",
        complexity: "O(1)",
        summary: "Forgets the keys that the session watches.",
        ..Docs::NONE
    },
    ..Command::runs(unwatch)
};

fn multi(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.session.multi.is_some() {
        return Err(CommandError::fixed("ERR MULTI calls can not be nested"));
    }
    ctx.session.multi = Some(Box::new(Multi::default()));
    ctx.reply.ok();
    Ok(())
}

fn discard(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.session.multi.is_none() {
        return Err(CommandError::fixed("ERR DISCARD without MULTI"));
    }
    abandon(ctx.session, ctx.store);
    ctx.reply.ok();
    Ok(())
}

/// Ends a transaction without running it.
pub fn abandon(session: &mut Session, store: &mut Store) {
    session.multi = None;
    forget_watched(session, store);
}

fn exec(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(mut multi) = ctx.session.multi.take() else {
        return Err(CommandError::fixed("ERR EXEC without MULTI"));
    };
    let lost = watched_changed(ctx);
    forget_watched(ctx.session, ctx.store);
    if multi.broken {
        return Err(CommandError::ExecAbort);
    }
    if lost {
        ctx.reply.null_array();
        return Ok(());
    }
    ctx.reply.array(multi.queued.len());
    let queued = std::mem::take(&mut multi.queued);
    let silent = ctx.session.reply_mode != ReplyMode::On || ctx.session.is_primary();
    run_queued(ctx, queued.into(), silent);
    // The transaction itself is no command of the stream: its effects are, wrapped anew if they are several.
    ctx.store.effects.propagate_nothing();
    Ok(())
}

/// Runs the commands of a transaction. One that changes the role of the node ends the execution unit: what was changed
/// before it belongs to the old role. The node then changes the role and goes on with the rest.
pub fn run_queued(ctx: &mut Ctx<'_>, mut queued: VecDeque<Queued>, silent: bool) {
    ctx.core.in_exec = true;
    while let Some(next) = queued.pop_front() {
        dispatch::call(&mut ctx.with(next.command, next.args.as_args()), None);
        if ctx.core.role_change.is_some() && !queued.is_empty() {
            ctx.core.exec_rest = Some(ExecRest { queued, silent });
            break;
        }
    }
    ctx.core.in_exec = false;
}

/// A watched key was changed, or its time ran out since it was watched.
fn watched_changed(ctx: &mut Ctx<'_>) -> bool {
    let now_ms = ctx.store.now_ms;
    ctx.store.watched.has_lost(ctx.session.id)
        || ctx.session.watched.iter().any(|row| {
            let entry = ctx.store.db_at(row.db as usize).peek(keyspace::Key::new(&row.key));
            !row.expired && entry.is_some_and(|entry| entry.is_expired(now_ms))
        })
}

fn watch(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.session.multi.is_some() {
        return Err(CommandError::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    let db = ctx.session.db as u32;
    for key in ctx.argv.tail(1).iter() {
        if ctx.store.watched.watch(ctx.session.id, db, key) {
            let now_ms = ctx.store.now_ms;
            let entry = ctx.store.db().peek(keyspace::Key::new(key));
            let expired = entry.is_some_and(|entry| entry.is_expired(now_ms));
            ctx.session.watched.push(WatchedKey { db, key: key.into(), expired });
        }
    }
    ctx.reply.ok();
    Ok(())
}

fn unwatch(ctx: &mut Ctx<'_>) -> CmdResult {
    forget_watched(ctx.session, ctx.store);
    ctx.reply.ok();
    Ok(())
}

fn forget_watched(session: &mut Session, store: &mut Store) {
    store.watched.unwatch(session.id, &session.watched);
    session.watched.clear();
}
