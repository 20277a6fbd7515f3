//! One connection as the engine knows it: who it is, which database it works on, what it is in the middle of.
//!
//! What only some sessions need (a transaction, a block, the replica's link) is boxed and absent otherwise.

use command::{Flag, Flags};
use resp::{ArgsBuf, Output, Parser, Proto};

use crate::ctx::CommandRef;
use crate::key_waits::KeyWait;
use crate::pubsub::Subscriptions;
use crate::replica::ReplicaSession;

/// Counts up from 1 and is never used twice: what `CLIENT ID` answers.
pub type SessionId = u64;

/// What stands at the other end of the connection.
#[derive(Debug, Default)]
pub enum Role {
    #[default]
    Client,
    /// A replica of ours, from its first `PSYNC` on.
    Replica(Box<ReplicaSession>),
    /// Our primary: its commands are the replication stream, and get no reply.
    Primary,
}

/// What happens to replies, `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The reply of the next command is dropped.
    SkipNext,
}

/// Why and when the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Closing {
    #[default]
    No,
    /// After what is in the output buffer has been sent; further input is ignored.
    AfterReply,
    /// Now.
    Now,
}

/// Commands that wait for `EXEC`.
#[derive(Default)]
pub struct Multi {
    pub queued: Vec<Queued>,
    /// A command was refused while queueing: `EXEC` answers `EXECABORT`.
    pub broken: bool,
    /// Flags that at least one queued command has.
    pub some: Flags,
    /// Flags that at least one queued command lacks.
    pub lacked: Flags,
}

impl Multi {
    /// Adds a command to the queue.
    pub fn push(&mut self, queued: Queued) {
        let flags = queued.command.flags;
        self.some = self.some.union(flags);
        for flag in [Flag::Stale, Flag::Loading] {
            if !flags.has(flag) {
                self.lacked = self.lacked.with(flag);
            }
        }
        self.queued.push(queued);
    }
}

pub struct Queued {
    pub command: CommandRef,
    pub args: ArgsBuf,
}

/// What a blocked session waits for. While it does, its input is not read on.
pub enum Blocked {
    /// For a key: see `key_waits`.
    Keys(Box<KeyWait>),
    /// `WAIT`: see `Replication::waiting`.
    Wait,
    /// `CLIENT PAUSE`: the command that has to wait is still in the input.
    Paused,
    /// `MIGRATE`: for the other server, see [`crate::migrate`].
    Migrate,
    /// `SHUTDOWN`: for the end of the process, or an error.
    Shutdown,
}

/// A key that the session watches.
#[derive(Debug)]
pub struct WatchedKey {
    pub db: u32,
    pub key: Box<[u8]>,
}

/// An offset that nobody ever acknowledges: a full synchronisation has replaced the data that the write was made to.
pub const LOST: u64 = u64::MAX;

pub struct Session {
    pub id: SessionId,
    pub db: usize,
    pub proto: Proto,
    pub authenticated: bool,
    pub role: Role,
    pub reply_mode: ReplyMode,
    pub closing: Closing,
    pub multi: Option<Box<Multi>>,
    pub watched: Vec<WatchedKey>,
    pub blocked: Option<Blocked>,
    /// `HOST:PORT` or the socket's path with `:0`, as `CLIENT LIST` prints them.
    pub addr: String,
    pub laddr: String,
    pub unix_socket: bool,
    /// The other end is on this machine: for settings that say `local`.
    pub local: bool,
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    pub no_evict: bool,
    pub no_touch: bool,
    /// What it listens to, if it listens to anything.
    pub pubsub: Option<Box<Subscriptions>>,
    /// Commands of all sessions are shown to it: `MONITOR`.
    pub monitors: bool,
    pub created_ms: i64,
    pub active_ms: i64,
    pub last_command: Option<CommandRef>,
    /// The unit that runs has changed something.
    pub wrote: bool,
    /// The replication offset right after this session's last write: what `WAIT` waits for. [`LOST`] if that write is in
    /// no history that this node has.
    pub last_write_offset: u64,
    /// `REPLCONF` before `PSYNC`: what a replica has said about itself.
    pub replconf: Option<Box<replication::ReplicaLink>>,
    /// When the output buffer went over its soft limit, in seconds of the clock.
    pub over_soft_limit_since_s: Option<i64>,
}

/// A session with its buffers.
pub struct Conn {
    pub session: Session,
    /// Bytes received and not yet executed.
    pub input: Vec<u8>,
    pub parser: Parser,
    pub output: Output,
    /// True while it stands in the list of connections that have something to send.
    pub queued_to_send: bool,
    /// Bytes that the unfinished command is known to need.
    pub wants: usize,
    /// What it counts as against `maxmemory-clients`.
    pub counted_bytes: usize,
}

impl Conn {
    pub fn new(session: Session) -> Conn {
        Conn {
            session,
            input: Vec::new(),
            parser: Parser::default(),
            output: Output::new(),
            queued_to_send: false,
            wants: 0,
            counted_bytes: 0,
        }
    }
}

impl Session {
    pub fn new(id: SessionId, peer: Peer, now_ms: i64) -> Session {
        Session {
            id,
            db: 0,
            proto: Proto::Resp2,
            authenticated: false,
            role: Role::Client,
            reply_mode: ReplyMode::On,
            closing: Closing::No,
            multi: None,
            watched: Vec::new(),
            blocked: None,
            addr: peer.addr,
            laddr: peer.laddr,
            unix_socket: peer.unix_socket,
            local: peer.local,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            no_evict: false,
            no_touch: false,
            pubsub: None,
            monitors: false,
            created_ms: now_ms,
            active_ms: now_ms,
            last_command: None,
            wrote: false,
            last_write_offset: 0,
            replconf: None,
            over_soft_limit_since_s: None,
        }
    }

    /// Bytes that `MULTI` has queued and `WATCH` has noted; without the names of watched keys, as in Redis.
    pub(crate) fn transaction_bytes(&self) -> usize {
        let queued = self.multi.iter().flat_map(|multi| &multi.queued);
        let queued_bytes: usize = queued.map(|queued| queued.args.as_args().bytes_len()).sum();
        queued_bytes + self.watched.len() * size_of::<WatchedKey>()
    }

    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary)
    }

    pub fn is_replica(&self) -> bool {
        matches!(self.role, Role::Replica(_))
    }
}

/// The two ends of a connection, as the server saw them when it was made.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    pub addr: String,
    pub laddr: String,
    pub unix_socket: bool,
    pub local: bool,
}
