//! Clients that wait for a key: `BLPOP` and its kin, and whatever else is to go on when a key has got a value.
//!
//! A handler that finds nothing to take calls [`Ctx::await_keys`]; the session is blocked then, with its command kept
//! in a [`KeyWait`]. Whoever creates a key says so through the [`Store`](crate::store::Store), which asks here whether
//! somebody waits for it: one branch when nobody does. When the unit that created it has ended, and before the next
//! command of any client, `Node::serve_ready_keys` runs the commands of those who wait for the key again, in the
//! order in which they came, each as a unit of its own.
//!
//! How a command takes part:
//!
//! - Its handler parses as ever, and looks only at the keys that [`Ctx::considers`] lets through: all of them at
//!   first, later only the one that became ready. What it then does and propagates is what it does when it need not
//!   wait; nothing in it knows of clients.
//! - If it finds nothing it calls [`Ctx::await_keys`] with what it waits for ([`Awaited`]), and replies that it got
//!   nothing if that gives false: inside of a transaction, or in the stream of a primary, nothing waits.
//!   When it runs again and finds nothing once more, the same call leaves it in its place in the line.
//! - A command whose arguments mean something else later (`$` of `XREAD`) gives the arguments to run again with.
//! - A value that can become ready without being created (a stream that gets an entry) is signalled by its handler
//!   with [`KeyWaits::signal`] through [`Store::signal_ready`](crate::store::Store::signal_ready).
//!   [`Awaited::Group`] is also served when the key has gone or is of another type: its handler, run again, finds no
//!   stream, and tells the client so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use command::CommandError;
use keyspace::{EntryExt, Key, Type};
use resp::{Args, ArgsBuf, Reply};
use structures::number::LongDouble;

use crate::action::ConnId;
use crate::core::Core;
use crate::ctx::{CommandRef, Ctx};
use crate::dispatch;
use crate::node::Node;
use crate::session::{Blocked, Closing, Conn, ReplyMode, Session, SessionId};
use crate::store::Expiry;

/// What a client waits for a key to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    List,
    ZSet,
    Stream,
    /// A stream with a consumer group, which waits in vain once the key has gone or is something else.
    Group,
}

impl Awaited {
    fn is_served_by(self, value: Option<Type>) -> bool {
        match self {
            Awaited::List => value == Some(Type::List),
            Awaited::ZSet => value == Some(Type::ZSet),
            Awaited::Stream => value.is_some_and(|value| value.name() == "stream"),
            Awaited::Group => true,
        }
    }
}

/// How long a command waits at most, in milliseconds; 0 is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    ms: i64,
}

impl Timeout {
    /// Reads seconds, fractions allowed, rounded up to milliseconds.
    pub fn seconds(text: &[u8], now_ms: i64) -> Result<Timeout, CommandError> {
        let seconds = LongDouble::parse(text)
            .ok_or(CommandError::fixed("ERR timeout is not a float or out of range"))?;
        Timeout::within(seconds.times_ceil(1000), now_ms)
    }

    /// Reads whole milliseconds.
    pub fn millis(text: &[u8], now_ms: i64) -> Result<Timeout, CommandError> {
        let ms = command::parse_i64(text)
            .ok_or(CommandError::fixed("ERR timeout is not an integer or out of range"))?;
        Timeout::within(ms, now_ms)
    }

    fn within(ms: i64, now_ms: i64) -> Result<Timeout, CommandError> {
        match ms {
            ms if ms < 0 => Err(NEGATIVE),
            ms if ms > i64::MAX - now_ms => Err(TOO_LONG),
            ms => Ok(Timeout { ms }),
        }
    }
}

const NEGATIVE: CommandError = CommandError::fixed("ERR timeout is negative");
const TOO_LONG: CommandError = CommandError::fixed("ERR timeout is out of range");

/// A session's wait: what it is blocked with.
pub struct KeyWait {
    pub command: CommandRef,
    /// What the command runs with again.
    pub argv: ArgsBuf,
    pub awaited: Awaited,
    pub db: u32,
    pub keys: Vec<Box<[u8]>>,
    /// Its number in all lines: who came first has the lower one.
    pub turn: u64,
    pub deadline_ms: Option<i64>,
    /// What the command took before it waited.
    pub micros: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    conn: ConnId,
    session: SessionId,
    awaited: Awaited,
}

/// Who waits for one key, by turn.
#[derive(Debug, Default)]
struct Line {
    waiters: BTreeMap<u64, Waiter>,
    /// It stands in the list of ready keys.
    ready: bool,
}

/// Which clients wait for which keys, and which of these keys are ready.
#[derive(Debug, Default)]
pub struct KeyWaits {
    /// By database.
    lines: Vec<HashMap<Box<[u8]>, Line>>,
    waiting: usize,
    /// How many of them wait as [`Awaited::Group`].
    groups: usize,
    last_turn: u64,
    /// Keys that were signalled since they were served last, in that order.
    ready: Vec<(u32, Box<[u8]>)>,
    deadlines: BTreeSet<(i64, ConnId, SessionId)>,
    /// The key for which a command runs again.
    serving: Option<Box<[u8]>>,
    /// The command that ran again has found nothing: it waits on.
    waits_on: bool,
}

impl KeyWaits {
    /// Nobody waits for a key.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The command that just ran again has found nothing, and waits on.
    pub(crate) fn waits_on(&self) -> bool {
        self.waits_on
    }

    /// Clients that wait with a timeout.
    pub fn with_deadline(&self) -> usize {
        self.deadlines.len()
    }

    /// Keys that are waited for.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.lines.iter().map(HashMap::len).sum()
    }

    /// When the next wait has been too long: at any time after this one, on the wall clock.
    #[inline]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// `key` may have become what somebody waits for. Nothing is looked at before the unit has ended.
    pub fn signal(&mut self, db: u32, key: &[u8]) {
        if let Some(line) = self.lines.get_mut(db as usize).and_then(|lines| lines.get_mut(key))
            && !line.ready
        {
            line.ready = true;
            self.ready.push((db, key.into()));
        }
    }

    /// `key` has gone, or its value was replaced.
    pub fn signal_gone(&mut self, db: u32, key: &[u8]) {
        if self.groups > 0 {
            let line = self.lines.get(db as usize).and_then(|lines| lines.get(key));
            if line.is_some_and(Line::has_group) {
                self.signal(db, key);
            }
        }
    }

    /// The contents of a whole database were replaced; `holds` tells which keys are there now.
    pub fn signal_replaced(&mut self, db: u32, holds: impl Fn(&[u8]) -> bool) {
        let Some(lines) = self.lines.get_mut(db as usize) else { return };
        for (key, line) in lines {
            if !line.ready && (line.has_group() || holds(key)) {
                line.ready = true;
                self.ready.push((db, key.clone()));
            }
        }
    }

    /// A client of this turn gets into the lines of its keys.
    fn add(&mut self, conn: ConnId, session: SessionId, wait: &KeyWait) {
        let db = wait.db as usize;
        if self.lines.len() <= db {
            self.lines.resize_with(db + 1, HashMap::new);
        }
        for key in &wait.keys {
            let line = self.lines[db].entry(key.clone()).or_default();
            line.waiters.insert(wait.turn, Waiter { conn, session, awaited: wait.awaited });
        }
        if let Some(at) = wait.deadline_ms {
            self.deadlines.insert((at, conn, session));
        }
        self.waiting += 1;
        self.groups += usize::from(wait.awaited == Awaited::Group);
    }

    /// A client waits no longer.
    pub(crate) fn remove(&mut self, conn: ConnId, session: SessionId, wait: &KeyWait) {
        let lines = &mut self.lines[wait.db as usize];
        for key in &wait.keys {
            // A key that was named twice is gone already.
            if let Some(line) = lines.get_mut(key) {
                line.waiters.remove(&wait.turn);
                if line.waiters.is_empty() {
                    lines.remove(key);
                }
            }
        }
        if let Some(at) = wait.deadline_ms {
            self.deadlines.remove(&(at, conn, session));
        }
        self.waiting -= 1;
        self.groups -= usize::from(wait.awaited == Awaited::Group);
    }

    /// Whoever stands next in the line for `key`, after `turn`, and is served by such a value.
    fn next(&self, db: u32, key: &[u8], turn: u64, value: Option<Type>) -> Option<(u64, ConnId, SessionId)> {
        let line = self.lines.get(db as usize)?.get(key)?;
        let mut after = line.waiters.range(turn + 1..);
        let (turn, waiter) = after.find(|(_, waiter)| waiter.awaited.is_served_by(value))?;
        Some((*turn, waiter.conn, waiter.session))
    }
}

impl Line {
    fn has_group(&self) -> bool {
        self.waiters.values().any(|waiter| waiter.awaited == Awaited::Group)
    }
}

impl Ctx<'_> {
    /// Whether the command looks at this key: when it runs again, only at the one that became ready.
    #[inline]
    pub fn considers(&self, key: &[u8]) -> bool {
        self.store.key_waits.serving.as_deref().is_none_or(|ready| ready == key)
    }

    /// The command runs again, after it has waited.
    pub fn runs_again(&self) -> bool {
        self.store.key_waits.serving.is_some()
    }

    /// The command has found nothing in `keys`: it waits, and runs again with `argv`, or as it came, when one of them
    /// is ready. False if it may not wait: then it replies as if its time were up.
    pub fn await_keys<'k>(
        &mut self,
        awaited: Awaited,
        timeout: Timeout,
        keys: impl Iterator<Item = &'k [u8]>,
        argv: Option<ArgsBuf>,
    ) -> bool {
        if self.runs_again() {
            self.store.key_waits.waits_on = true;
            return true;
        }
        let Some(conn) = self.core.running.filter(|_| !self.core.in_exec) else { return false };
        let waits = &mut self.store.key_waits;
        waits.last_turn += 1;
        let wait = KeyWait {
            command: self.command,
            argv: argv.unwrap_or_else(|| self.argv.into()),
            awaited,
            db: self.session.db as u32,
            keys: keys.map(Into::into).collect(),
            turn: waits.last_turn,
            deadline_ms: (timeout.ms > 0).then(|| self.core.env.unix_ms().saturating_add(timeout.ms)),
            micros: 0,
        };
        waits.add(conn, self.session.id, &wait);
        self.session.blocked = Some(Blocked::Keys(Box::new(wait)));
        true
    }
}

impl Node {
    /// Serves who waits for keys that have become ready, until there are none: what is served may make others ready.
    #[cold]
    pub(crate) fn serve_ready_keys(&mut self) {
        // In the middle of a primary's stream keys are alive until it says otherwise; for clients they are hidden.
        let expiry = self.store.expiry;
        if expiry == Expiry::Ignore {
            self.store.expiry = Expiry::Hide;
        }
        let selected = self.store.selected();
        while self.store.key_waits.has_ready() {
            for (db, key) in std::mem::take(&mut self.store.key_waits.ready) {
                self.serve_key(db, &key);
            }
        }
        self.store.select(selected);
        self.store.expiry = expiry;
    }

    fn serve_key(&mut self, db: u32, key: &[u8]) {
        let lines = self.store.key_waits.lines.get_mut(db as usize);
        let Some(line) = lines.and_then(|lines| lines.get_mut(key)) else { return };
        line.ready = false;
        // The time is taken anew: what the unit has created may be expired by now.
        self.begin_turn();
        let mut served = 0;
        loop {
            self.store.select(db as usize);
            let value = self.store.peek(Key::new(key)).map(EntryExt::type_of);
            dispatch::end_unit(&mut self.store, &mut self.core);
            let Some((turn, conn, session)) = self.store.key_waits.next(db, key, served, value) else {
                break;
            };
            served = turn;
            self.serve(conn, session, key);
        }
    }

    /// Runs the command of one waiting client again, for the sake of `key`.
    fn serve(&mut self, id: ConnId, session: SessionId, key: &[u8]) {
        let Some(mut conn) = self.core.conns.take(id) else { return };
        let Some(mut wait) = take_wait(&mut conn.session, session) else {
            return self.core.conns.put_back(id, conn);
        };
        let waits = &mut self.store.key_waits;
        waits.serving = Some(key.into());
        waits.waits_on = false;
        let running = self.core.running.replace(id);
        let Conn { session, output, .. } = &mut *conn;
        let Node { store, core, .. } = self;
        let mut ctx = Ctx {
            argv: wait.argv.as_args(),
            reply: Reply::new(output, session.proto),
            session,
            store,
            core,
            command: wait.command,
            key_hash: 0,
        };
        let micros = dispatch::run_again(&mut ctx, wait.micros);
        self.core.pubsub.release(Some(id), conn.session.proto, &mut conn.output);
        self.core.running = running;
        self.store.key_waits.serving = None;
        if self.store.key_waits.waits_on {
            wait.micros = micros;
            conn.session.blocked = Some(Blocked::Keys(wait));
            return self.core.conns.put_back(id, conn);
        }
        self.store.key_waits.remove(id, conn.session.id, &wait);
        if std::mem::take(&mut conn.session.wrote) {
            conn.session.last_write_offset = self.core.repl.offset();
        }
        self.core.resume.push(id);
        self.settle(id, conn);
    }

    /// Answers the clients that have waited for too long.
    pub(crate) fn end_long_waits(&mut self) {
        let Some(first) = self.store.key_waits.next_deadline_ms() else { return };
        let now_ms = self.core.env.unix_ms();
        let mut next = Some(first);
        while next.is_some_and(|at| at < now_ms) {
            let waits = &mut self.store.key_waits;
            let (_, id, session) = *waits.deadlines.first().expect("the next deadline is the first one");
            let ended = end_wait(waits, &mut self.core, id, session, None);
            assert!(ended.is_some(), "a client that waits no longer has no deadline");
            next = waits.next_deadline_ms();
        }
    }

    /// This node becomes a replica: who waits for a key that a client of it was to write waits in vain, and is ended.
    pub(crate) fn end_all_waits(&mut self, why: &CommandError) {
        let waiting: Vec<(ConnId, SessionId)> = self
            .core
            .conns
            .iter()
            .filter(|(_, conn)| matches!(conn.session.blocked, Some(Blocked::Keys(_))))
            .map(|(id, conn)| (id, conn.session.id))
            .collect();
        for (id, session) in waiting {
            end_wait(&mut self.store.key_waits, &mut self.core, id, session, Some(why));
            self.core.close_after_reply(id);
        }
    }
}

/// The wait of a session, if it is the one of this id, waits for a key and is not about to end.
fn take_wait(session: &mut Session, id: SessionId) -> Option<Box<KeyWait>> {
    if session.id != id || session.closing != Closing::No {
        return None;
    }
    match session.blocked.take() {
        Some(Blocked::Keys(wait)) => Some(wait),
        other => {
            session.blocked = other;
            None
        }
    }
}

/// Ends a wait without anything to give: the reply is the null array, or an error. `None` if the session does not
/// wait for a key.
pub(crate) fn end_wait(
    waits: &mut KeyWaits,
    core: &mut Core,
    id: ConnId,
    session: SessionId,
    error: Option<&CommandError>,
) -> Option<CommandRef> {
    let conn = core.conns.get_mut(id).filter(|conn| conn.session.id == session)?;
    let Some(Blocked::Keys(_)) = conn.session.blocked else { return None };
    let Some(Blocked::Keys(wait)) = conn.session.blocked.take() else { return None };
    waits.remove(id, session, &wait);
    if conn.session.reply_mode == ReplyMode::On {
        let mut reply = Reply::new(&mut conn.output, conn.session.proto);
        match error {
            Some(error) => reply.error(error.wire_text()),
            None => reply.null_array(),
        }
    }
    if conn.session.reply_mode == ReplyMode::SkipNext {
        conn.session.reply_mode = ReplyMode::On;
    }
    if let Some(error) = error {
        core.stats.error(error);
    }
    core.queue_id(id);
    core.resume.push(id);
    Some(wait.command)
}

/// The keys of a command whose last argument is a timeout: all between its name and that.
pub(crate) fn keys_before_timeout(argv: Args<'_>) -> (Args<'_>, &[u8]) {
    let last = argv.len() - 1;
    (argv.head(last).tail(1), argv.at(last))
}

#[cfg(test)]
mod tests;
