//! The gates that a command passes, the call, and the end of the execution unit.
//!
//! The order of the gates is a contract: look-up, arity, protection, authentication, the state of the node (disk
//! errors, good replicas, read-only, stale, loading), the transaction queue, then the call. In the common case one
//! mask, kept up to date by whatever changes such a state, says that no state gate can refuse anything.

use std::sync::atomic::Ordering;

use command::{CommandError, Flag};
use resp::{Args, Proto};

use crate::commands;
use crate::config::Protected;
use crate::core::Core;
use crate::ctx::{CmdResult, CommandRef, Ctx};
use crate::evict;
use crate::pubsub;
use crate::session::{Blocked, Queued, ReplyMode, Session};
use crate::store::Store;

/// The command that `argv` names, given what its first word alone names.
///
/// The primary's stream may use a declared name that clients of this node cannot: effects are written with those, and
/// what the primary executed has to be executed here.
#[inline]
pub fn resolve(
    found: Option<CommandRef>,
    argv: Args<'_>,
    core: &Core,
    session: &Session,
) -> Result<CommandRef, CommandError> {
    match found {
        Some(entry) if entry.command.subcommands.is_empty() => Ok(entry),
        None if session.is_primary() => commands::registry().resolve(argv),
        _ => core.commands().resolve(argv),
    }
}

/// There is such a command, and it takes so many arguments.
pub fn is_well_formed(found: Option<CommandRef>, argv: Args<'_>, core: &Core, session: &Session) -> bool {
    resolve(found, argv, core, session).is_ok_and(|command| command.check_arity(argv.len()).is_ok())
}

/// Runs one request of a session through the gates and, unless it is queued or refused, calls it.
#[inline]
pub fn run(ctx: &mut Ctx<'_>, raw: Option<&[u8]>) {
    ctx.core.stats.commands_processed += 1;
    let suppressed = ctx.session.reply_mode != ReplyMode::On || ctx.session.is_primary();
    let mark = suppressed.then(|| ctx.reply.output().mark());
    match gates(ctx) {
        Err(error) => reject(ctx, &error),
        Ok(()) if queues(ctx) => queue(ctx),
        Ok(()) => {
            call(ctx, raw);
            end_unit(ctx.store, ctx.core);
        }
    }
    if let Some(mark) = mark {
        settle_suppressed(ctx, &mark);
    }
}

/// Refuses a request: the error is counted and a transaction that is being queued is broken.
pub fn reject(ctx: &mut Ctx<'_>, error: &CommandError) {
    ctx.core.stats.command(ctx.command).rejected += 1;
    if ctx.command.command.name == "exec" {
        // The transaction, if there is one, ends with the command that was to run it.
        commands::transaction::abandon(ctx.session, ctx.store);
        let why = error.to_string();
        let why = why.strip_prefix("ERR ").unwrap_or(&why);
        let text = format!("EXECABORT Transaction discarded because of: {why}");
        return refuse(ctx.session, ctx.core, &mut ctx.reply, &CommandError::text(text), ctx.argv);
    }
    refuse(ctx.session, ctx.core, &mut ctx.reply, error, ctx.argv);
}

/// Like [`reject`], for a request that names no command.
pub fn refuse(
    session: &mut Session,
    core: &mut Core,
    reply: &mut resp::Reply<'_>,
    error: &CommandError,
    argv: Args<'_>,
) {
    if let Some(multi) = &mut session.multi {
        multi.broken = true;
    }
    core.stats.error(error);
    core.note_error_on_link(session, error, argv);
    reply.error(error.wire_text());
}

/// Calls the handler; counts, replies an error, and collects what is to be propagated. The unit is not ended.
#[inline]
pub fn call(ctx: &mut Ctx<'_>, raw: Option<&[u8]>) {
    let dirty = ctx.store.effects.dirty;
    let result = invoke(ctx);
    let micros = ctx.core.lap_us();
    let stats = ctx.core.stats.command(ctx.command);
    stats.calls += 1;
    stats.micros += micros;
    if let Err(error) = result {
        fail(ctx, &error);
    }
    match &mut ctx.session.blocked {
        None => note_time(ctx, micros),
        // How long it took is known when it has got what it waits for.
        Some(Blocked::Keys(wait)) => wait.micros = micros,
        Some(_) => {}
    }
    ctx.core.redacted.clear();
    collect(ctx, dirty, raw);
}

/// Calls the handler of a command that has waited, as a unit of its own; `waited_us` is what it took until then. Gives
/// what it took in all. If it waits on, nothing has happened.
pub(crate) fn run_again(ctx: &mut Ctx<'_>, waited_us: u64) -> u64 {
    let mark = (ctx.session.reply_mode != ReplyMode::On).then(|| ctx.reply.output().mark());
    let dirty = ctx.store.effects.dirty;
    let result = invoke(ctx);
    let micros = ctx.core.lap_us();
    ctx.core.stats.command(ctx.command).micros += micros;
    if ctx.store.key_waits.waits_on() {
        return waited_us + micros;
    }
    if let Err(error) = result {
        fail(ctx, &error);
    }
    note_time(ctx, waited_us + micros);
    collect(ctx, dirty, None);
    end_unit(ctx.store, ctx.core);
    if let Some(mark) = mark {
        settle_suppressed(ctx, &mark);
    }
    waited_us + micros
}

#[inline]
fn invoke(ctx: &mut Ctx<'_>) -> CmdResult {
    if let Some(under_way) = &ctx.core.under_way {
        under_way.store(u32::from(ctx.command.id.0) + 1, Ordering::Relaxed);
    }
    ctx.store.select(ctx.session.db);
    ctx.store.effects.begin_command(ctx.session.db as u32);
    ctx.store.no_touch = ctx.session.no_touch && ctx.command.command.name != "touch";
    ctx.store.effects.apart = !ctx.core.in_exec && ctx.command.flags.has(Flag::TouchesArbitraryKeys);
    (ctx.command.handler().expect("a parent without a function is never resolved to"))(ctx)
}

/// Counts and replies an error of a handler.
#[cold]
fn fail(ctx: &mut Ctx<'_>, error: &CommandError) {
    ctx.core.stats.command(ctx.command).failed += 1;
    ctx.core.stats.error(error);
    ctx.core.note_error_on_link(ctx.session, error, ctx.argv);
    ctx.reply.error(error.wire_text());
}

#[inline]
fn note_time(ctx: &mut Ctx<'_>, micros: u64) {
    if ctx.core.config.latency_tracking {
        ctx.core.stats.command(ctx.command).latency.get_or_insert_default().record(micros);
    }
    if micros >= ctx.core.noted_us {
        note_long(ctx, micros);
    }
    if !ctx.core.monitors.is_empty() {
        commands::monitor::show(ctx);
    }
}

/// Adds what the command that has just run propagates to the effects of its unit.
#[inline]
fn collect(ctx: &mut Ctx<'_>, dirty: u64, raw: Option<&[u8]>) {
    let db = ctx.session.db as u32;
    pubsub::deliver_events(ctx.store, ctx.core);
    let effects = &mut ctx.store.effects;
    if effects.recording && effects.wants_verbatim(dirty) {
        ctx.session.wrote = true;
        match raw {
            // Alone in its unit: the received bytes go to the log as they are.
            Some(raw) if !ctx.core.in_exec && effects.is_empty() => ctx.core.repl.feed(db, raw),
            Some(raw) => effects.propagate_raw(db, raw),
            None => {
                let args: Vec<&[u8]> = ctx.argv.iter().collect();
                effects.propagate_in(db, &args);
            }
        }
    }
    if effects.dirty != dirty {
        ctx.session.wrote = true;
    }
}

/// A command took so long that the slow log, the latency monitor or both want to know.
#[cold]
fn note_long(ctx: &mut Ctx<'_>, micros: u64) {
    if micros >= ctx.core.slow_us {
        ctx.core.note_slow(ctx.session, ctx.argv, micros, ctx.store.now_ms);
    }
    let event = if ctx.command.flags.has(Flag::Fast) { "fast-command" } else { "command" };
    let now_ms = ctx.core.env.unix_ms();
    ctx.core.latency.note(event, micros, now_ms);
}

/// Sends what the unit has changed to the log: alone, or in a transaction if it is more than one command.
#[inline]
pub fn end_unit(store: &mut Store, core: &mut Core) {
    pubsub::deliver_events(store, core);
    if !core.in_exec && !store.effects.is_empty() {
        feed(store, core);
    }
}

#[inline(never)]
fn feed(store: &mut Store, core: &mut Core) {
    feed_unit(core, store.effects.ops(), store.effects.apart);
    if let Some(foreign) = store.effects.foreign.take() {
        core.note_foreign(&foreign);
    }
    store.effects.end_unit();
}

fn feed_unit<'e>(core: &mut Core, ops: impl ExactSizeIterator<Item = (u32, &'e [u8])>, apart: bool) {
    // A command that may touch any key deletes what it finds expired: nobody asked for that to be one change.
    let transaction = ops.len() > 1 && !apart;
    let mut first = true;
    for (db, bytes) in ops {
        if transaction && std::mem::take(&mut first) {
            core.repl.state_db(db);
            core.repl.feed_bare(b"*1\r\n$5\r\nMULTI\r\n");
        }
        core.repl.feed(db, bytes);
    }
    if transaction {
        core.repl.feed_bare(b"*1\r\n$4\r\nEXEC\r\n");
    }
}

#[inline]
fn queues(ctx: &Ctx<'_>) -> bool {
    ctx.session.multi.is_some() && !runs_at_once(ctx.command)
}

/// What a transaction does not hold back.
fn runs_at_once(command: CommandRef) -> bool {
    matches!(command.command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

fn queue(ctx: &mut Ctx<'_>) {
    if ctx.command.flags.has(Flag::NoMulti) {
        let error = CommandError::fixed("ERR Command not allowed inside a transaction");
        return reject(ctx, &error);
    }
    let multi = ctx.session.multi.as_mut().expect("only a session in a transaction queues");
    multi.push(Queued { command: ctx.command, args: ctx.argv.into() });
    ctx.reply.simple("QUEUED");
}

#[inline]
fn gates(ctx: &mut Ctx<'_>) -> Result<(), CommandError> {
    let (session, core, flags) = (&*ctx.session, &*ctx.core, ctx.command.flags);
    ctx.command.check_arity(ctx.argv.len())?;
    if session.is_primary() {
        if core.refuses_writes_for_disk() && flags.has(Flag::Write) {
            ctx.core.note_write_without_disk();
        }
        return Ok(());
    }
    if flags.has(Flag::Protected) && !protection_allows(core.config.enable_debug_command, session) {
        return Err(CommandError::fixed(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        ));
    }
    if !session.authenticated && !flags.has(Flag::NoAuth) {
        return Err(CommandError::fixed("NOAUTH Authentication required."));
    }
    if !core.state_gates_open() {
        state_gates(ctx)?;
    } else if session.pubsub.is_some() {
        subscriber_gate(session, ctx.command)?;
    }
    let session = &*ctx.session;
    let touches_keys = [Flag::Write, Flag::Readonly, Flag::MayReplicate].iter().any(|flag| flags.has(*flag));
    if session.is_replica() && touches_keys {
        return Err(CommandError::fixed("ERR Replica can't interact with the keyspace"));
    }
    Ok(())
}

/// The gates that depend on the state of the node, in order. `EXEC` is judged by what it has queued.
#[inline(never)]
fn state_gates(ctx: &mut Ctx<'_>) -> Result<(), CommandError> {
    ctx.core.evict_clients();
    if ctx.core.config.maxmemory > 0
        && evict::perform(ctx.store, ctx.core) == evict::Outcome::Failed
        && may_grow(ctx.session, ctx.command)
    {
        return Err(CommandError::OutOfMemory);
    }
    let (session, core, flags) = (&*ctx.session, &*ctx.core, ctx.command.flags);
    let queued = session.multi.as_ref().filter(|_| ctx.command.command.name == "exec");
    let writes = flags.has(Flag::Write) || queued.is_some_and(|multi| multi.some.has(Flag::Write));
    // PING too: by its reply Sentinel takes a primary that cannot save for one that is down.
    if (writes || ctx.command.command.name == "ping") && core.refuses_writes_for_disk() {
        return Err(CommandError::fixed(
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
             Commands that may modify the data set are disabled, because this instance is configured to report \
             errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
             the Redis logs for details about the RDB error.",
        ));
    }
    if writes && !core.is_replica() && !core.has_enough_good_replicas() {
        return Err(CommandError::fixed("NOREPLICAS Not enough good replicas to write."));
    }
    if writes && core.is_replica() && core.config.replica_read_only {
        return Err(CommandError::fixed("READONLY You can't write against a read only replica."));
    }
    if session.pubsub.is_some() {
        subscriber_gate(session, ctx.command)?;
    }
    let lacks = |flag| !flags.has(flag) || queued.is_some_and(|multi| multi.lacked.has(flag));
    if core.serves_stale_refused() && lacks(Flag::Stale) {
        return Err(CommandError::fixed(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ));
    }
    if core.is_loading() && lacks(Flag::Loading) {
        return Err(CommandError::fixed("LOADING Redis is loading the dataset in memory"));
    }
    Ok(())
}

/// In RESP2, who listens to channels could not tell other replies from messages.
fn subscriber_gate(session: &Session, command: CommandRef) -> Result<(), CommandError> {
    let allowed = matches!(
        command.command.name,
        "ping"
            | "subscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "psubscribe"
            | "unsubscribe"
            | "punsubscribe"
            | "quit"
            | "reset"
    );
    if allowed || session.proto == Proto::Resp3 {
        return Ok(());
    }
    Err(CommandError::text(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        command.full_name
    )))
}

/// A command that may make memory grow: by what it does, by being queued, or by what it has queued.
fn may_grow(session: &Session, command: CommandRef) -> bool {
    let Some(multi) = &session.multi else { return command.flags.has(Flag::Denyoom) };
    match command.command.name {
        "exec" => multi.some.has(Flag::Denyoom),
        "discard" | "quit" | "reset" => false,
        _ => true,
    }
}

fn protection_allows(setting: Protected, session: &Session) -> bool {
    match setting {
        Protected::No => false,
        Protected::Local => session.local,
        Protected::Yes => true,
    }
}

/// Takes back the reply of a session that gets none, and ends a `CLIENT REPLY SKIP`.
fn settle_suppressed(ctx: &mut Ctx<'_>, mark: &resp::Mark) {
    // `CLIENT REPLY ON` that has just run is answered; a primary is never, its acknowledgements bypass the reply.
    if ctx.session.is_primary() || ctx.session.reply_mode != ReplyMode::On {
        ctx.reply.output().rewind(mark);
    }
    let waits = matches!(ctx.session.blocked, Some(Blocked::Keys(_)));
    if ctx.session.reply_mode == ReplyMode::SkipNext && !waits {
        ctx.session.reply_mode = ReplyMode::On;
    }
}
