//! Keys on their way to another server: what `MIGRATE` does between asking for the transfer and its end.
//!
//! The transfer itself, and the connections it uses, are the surroundings' affair ([`Action::Migrate`]). Until
//! [`Node::migrated`] tells how it ended, the client is parked and the writes of all others are held back as in
//! `CLIENT PAUSE WRITE`: what is deleted afterwards is what was sent. Nobody can tell that from Redis, which does
//! nothing at all meanwhile, but those who read.
//!
//! [`Action::Migrate`]: crate::Action::Migrate

use command::CommandError;
use keyspace::Key;

use crate::action::ConnId;
use crate::core::Core;
use crate::dispatch;
use crate::node::Node;
use crate::notify::Event;
use crate::pause;
use crate::session::{Blocked, SessionId};
use crate::store::Store;

/// What a node knows of transfers.
#[derive(Debug, Default)]
pub struct Migrations {
    /// The transfer that runs: there is at most one, since `MIGRATE` is a write.
    pub running: Option<Migration>,
    /// Connections to other servers that are kept open for the next transfer.
    pub cached_sockets: usize,
}

#[derive(Debug)]
pub struct Migration {
    pub conn: ConnId,
    pub session: SessionId,
    pub db: usize,
    /// In the order in which they are sent.
    pub keys: Vec<Box<[u8]>>,
    pub copy: bool,
    /// The node was a replica when it began.
    pub was_replica: bool,
}

/// A transfer to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub host: String,
    pub port: u16,
    /// For each step: connecting, writing a part, waiting for a reply.
    pub timeout_ms: u64,
    /// The `AUTH` command, if the client gave a password.
    pub auth: Option<Vec<u8>>,
    /// The database there, to be selected unless it is.
    pub db: i64,
    /// `RESTORE` commands, in one piece.
    pub restores: Vec<u8>,
    /// How many these are.
    pub count: usize,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// For each command that was answered, in order: whether the other server has the key now.
    pub restored: Vec<bool>,
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Connect,
    Write,
    Read,
    /// The other server answered with this error, the first one.
    Refused(Vec<u8>),
}

impl Failure {
    fn to_error(&self) -> CommandError {
        match self {
            Failure::Connect => CommandError::fixed("IOERR error or timeout connecting to the client"),
            Failure::Write => CommandError::fixed("IOERR error or timeout writing to target instance"),
            Failure::Read => CommandError::fixed("IOERR error or timeout reading to target instance"),
            Failure::Refused(text) => CommandError::Unknown(
                [b"ERR Target instance replied with error: ", &text[..]].concat().into(),
            ),
        }
    }
}

/// Holds writes back until the transfer has ended.
pub(crate) fn begin(store: &mut Store, core: &mut Core, migration: Migration) {
    core.migrations.running = Some(migration);
    pause::settle_expiry(store, core);
}

impl Node {
    /// The transfer that [`Action::Migrate`](crate::Action::Migrate) asked for has ended.
    pub fn migrated(&mut self, outcome: &Outcome) {
        let Some(migration) = self.core.migrations.running.take() else { return };
        self.begin_turn();
        pause::settle_expiry(&mut self.store, &self.core);
        pause::resume_held(&mut self.core);
        // A replica's data are its primary's: they are no longer this node's to give away.
        let changed_role = self.core.is_replica() && !migration.was_replica;
        if !migration.copy && !changed_role {
            self.delete_migrated(&migration, &outcome.restored);
        }
        let error = if changed_role {
            Some(CommandError::fixed(
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            ))
        } else {
            outcome.failure.as_ref().map(Failure::to_error)
        };
        if let Some(error) = &error {
            self.core.stats.error(error);
        }
        let (id, offset) = (migration.conn, self.core.repl.offset());
        let conn = self.core.conns.get_mut(id).filter(|conn| conn.session.id == migration.session);
        let Some(conn) = conn else { return };
        let Some(Blocked::Migrate) = conn.session.blocked.take() else {
            unreachable!("who migrates is parked until the end")
        };
        if outcome.restored.contains(&true) {
            conn.session.last_write_offset = offset;
        }
        let mut reply = resp::Reply::new(&mut conn.output, conn.session.proto);
        match error {
            Some(error) => reply.error(error.wire_text()),
            None => reply.ok(),
        }
        self.core.queue_id(id);
        self.core.resume.push(id);
    }

    /// Deletes the keys that the other server has, which replicas are told as one `DEL`.
    fn delete_migrated(&mut self, migration: &Migration, restored: &[bool]) {
        let store = &mut self.store;
        store.select(migration.db);
        store.effects.begin_command(migration.db as u32);
        let mut deletion: Vec<&[u8]> = vec![b"DEL"];
        for (key, _) in migration.keys.iter().zip(restored).filter(|(_, restored)| **restored) {
            if store.delete_quietly(Key::new(key), store.lazy.server_del) {
                store.modified(key);
                store.notify(Event::GENERIC, "del", key);
                deletion.push(key);
            }
        }
        if deletion.len() > 1 {
            store.effects.propagate_as(&deletion);
        }
        dispatch::end_unit(&mut self.store, &mut self.core);
    }
}
