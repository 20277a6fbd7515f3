//! What a replica's link reports to the log, in Redis's words: operators and tests wait for these lines.

use std::fmt;

use log::{Position, ReplId};

use super::{LoadMode, PayloadKind};
use crate::{Level, Millis};

/// One line for the server's log about the link to the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Connecting { host: String, port: u16 },
    Reconnecting { host: String, port: u16 },
    ReconnectingAfterFailure { host: String, port: u16 },
    LeavingAlone { failures: u32, wait: Millis },
    SyncStarted,
    ConnectFired,
    ConnectError(String),
    Pong,
    PingError(String),
    AuthError(String),
    NotUnderstood { option: &'static str, reply: String },
    ReadError(String),
    HandshakeSilence,
    PsyncSilence,
    ReplyTooLong,
    TryingPartial(Position),
    PartialNotPossible,
    FullResync(Position),
    WrongFullResync,
    ChannelProposed,
    ChannelFailed(String),
    StreamsBeside,
    StreamWaitsAtPrimary { limit: u64 },
    Continued,
    ContinueUnasked,
    IdChanged(ReplId),
    PartialAccepted,
    PsyncTryLater(String),
    PsyncUnexpected(String),
    PsyncNotSupported(String),
    RetryingWithSync,
    BulkCountError(String),
    Aborted(String),
    BadPayloadHeader(String),
    Receiving { payload: PayloadKind, load: LoadMode },
    TransferError(String),
    Flushing,
    Loading,
    LoadFailed { load: LoadMode, reason: String },
    SwappingDb,
    DiscardingOldDb,
    DiscardingNewDb,
    Finished,
    TimeoutConnecting,
    TimeoutTransfer,
    TimeoutStreaming,
    Lost,
    Cached,
    CachedOwnHistory,
    CacheDiscarded,
    Guarded(super::Guarded),
    GuardEnded,
    GuardOverruled,
    SecondIdSet { second: ReplId, valid_until: u64, id: ReplId },
    BacklogCreated { id: ReplId, second: ReplId },
}

impl LinkEvent {
    pub fn level(&self) -> Level {
        use LinkEvent::*;
        match self {
            ConnectError(_)
            | PingError(_)
            | AuthError(_)
            | ReadError(_)
            | HandshakeSilence
            | PsyncSilence
            | ReplyTooLong
            | WrongFullResync
            | ContinueUnasked
            | ChannelFailed(_)
            | IdChanged(_)
            | PsyncUnexpected(_)
            | BulkCountError(_)
            | Aborted(_)
            | BadPayloadHeader(_)
            | TransferError(_)
            | LoadFailed { .. }
            | TimeoutConnecting
            | TimeoutTransfer
            | TimeoutStreaming
            | LeavingAlone { .. }
            | Lost
            | Guarded(_)
            | SecondIdSet { .. } => Level::Warning,
            _ => Level::Notice,
        }
    }
}

impl fmt::Display for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use LinkEvent::*;
        const SYNC: &str = "MASTER <-> REPLICA sync";
        match self {
            Connecting { host, port } => write!(f, "Connecting to MASTER {host}:{port}"),
            Reconnecting { host, port } => write!(f, "Reconnecting to MASTER {host}:{port}"),
            ReconnectingAfterFailure { host, port } => {
                write!(f, "Reconnecting to MASTER {host}:{port} after failure")
            }
            LeavingAlone { failures, wait } => write!(
                f,
                "What MASTER sent could not be taken in {failures} times in a row: asking again in {} seconds",
                wait.secs()
            ),
            SyncStarted => write!(f, "{SYNC} started"),
            ConnectFired => write!(f, "Non blocking connect for SYNC fired the event."),
            ConnectError(reason) => write!(f, "Error condition on socket for SYNC: {reason}"),
            Pong => write!(f, "Master replied to PING, replication can continue..."),
            PingError(reply) => write!(f, "Error reply to PING from master: '{reply}'"),
            AuthError(reply) => write!(f, "Unable to AUTH to MASTER: {reply}"),
            NotUnderstood { option, reply } => {
                write!(f, "(Non critical) Master does not understand REPLCONF {option}: {reply}")
            }
            ReadError(reason) => write!(f, "Failed to read response from the server: {reason}"),
            HandshakeSilence => write!(f, "Master did not respond to command during SYNC handshake"),
            PsyncSilence => write!(f, "Master did not reply to PSYNC, will try later"),
            ReplyTooLong => write!(f, "Bad protocol from MASTER, the reply line is too long"),
            TryingPartial(at) => {
                write!(f, "Trying a partial resynchronization (request {}:{}).", at.replid, at.next())
            }
            PartialNotPossible => {
                write!(f, "Partial resynchronization not possible (no cached master)")
            }
            FullResync(at) => write!(f, "Full resync from master: {at}"),
            WrongFullResync => write!(f, "Master replied with wrong +FULLRESYNC syntax."),
            ChannelProposed => write!(f, "PSYNC is not possible, initialize RDB channel."),
            ChannelFailed(reason) => write!(f, "The RDB channel from the MASTER failed: {reason}"),
            StreamsBeside => {
                write!(f, "{SYNC}: RDB and replication stream are received in parallel")
            }
            StreamWaitsAtPrimary { limit } => write!(
                f,
                "{SYNC}: {limit} bytes of the stream wait for the snapshot, which is the limit: more waits at the MASTER"
            ),
            Continued => write!(f, "Successful partial resynchronization with master."),
            ContinueUnasked => {
                write!(f, "Master replied +CONTINUE although no partial resynchronization was asked for")
            }
            IdChanged(id) => write!(f, "Master replication ID changed to {id}"),
            PartialAccepted => write!(f, "{SYNC}: Master accepted a Partial Resynchronization."),
            PsyncTryLater(reply) => {
                write!(f, "Master is currently unable to PSYNC but should be in the future: {reply}")
            }
            PsyncUnexpected(reply) => write!(f, "Unexpected reply to PSYNC from master: {reply}"),
            PsyncNotSupported(reply) => {
                write!(f, "Master does not support PSYNC or is in error state (reply: {reply})")
            }
            RetryingWithSync => write!(f, "Retrying with SYNC..."),
            BulkCountError(reason) => write!(f, "I/O error reading bulk count from MASTER: {reason}"),
            Aborted(error) => write!(f, "MASTER aborted replication with an error: {error}"),
            BadPayloadHeader(line) => write!(
                f,
                "Bad protocol from MASTER, the first byte is not '$' (we received '{line}'), \
                 are you sure the host and port are right?"
            ),
            Receiving { payload, load } => {
                let to = match load {
                    LoadMode::Disk => "to disk",
                    LoadMode::Parser { .. } => "to parser",
                };
                match payload {
                    PayloadKind::Sized(bytes) => {
                        write!(f, "{SYNC}: receiving {bytes} bytes from master {to}")
                    }
                    PayloadKind::UntilMark => {
                        write!(f, "{SYNC}: receiving streamed RDB from master with EOF {to}")
                    }
                }
            }
            TransferError(reason) => write!(f, "I/O error trying to sync with MASTER: {reason}"),
            Flushing => write!(f, "{SYNC}: Flushing old data"),
            Loading => write!(f, "{SYNC}: Loading DB in memory"),
            LoadFailed { load, reason } => {
                let from = match load {
                    LoadMode::Disk => "disk",
                    LoadMode::Parser { .. } => "socket",
                };
                write!(f, "Failed trying to load the MASTER synchronization DB from {from}: {reason}")
            }
            SwappingDb => write!(f, "{SYNC}: Swapping active DB with loaded DB"),
            DiscardingOldDb => write!(f, "{SYNC}: Discarding old DB in background"),
            DiscardingNewDb => write!(f, "{SYNC}: Discarding temporary DB in background"),
            Finished => write!(f, "{SYNC}: Finished with success"),
            TimeoutConnecting => write!(f, "Timeout connecting to the MASTER..."),
            TimeoutTransfer => write!(
                f,
                "Timeout receiving bulk data from MASTER... If the problem persists try to set the \
                 'repl-timeout' parameter in redis.conf to a larger value."
            ),
            TimeoutStreaming => write!(f, "MASTER timeout: no data nor PING received..."),
            Lost => write!(f, "Connection with master lost."),
            Cached => write!(f, "Caching the disconnected master state."),
            CachedOwnHistory => write!(
                f,
                "Before turning into a replica, using my own master parameters to synthesize a cached \
                 master: I may be able to synchronize with the new master with just a partial transfer."
            ),
            CacheDiscarded => write!(f, "Discarding previously cached master state."),
            Guarded(guarded) => write!(
                f,
                "{SYNC}: refused, since it would wipe this replica: {guarded}. The data is kept, and the primary is \
                 asked again quietly until it has its data back; REPLICAOF follows it all the same \
                 (replica-guard-empty-primary)"
            ),
            GuardEnded => write!(f, "{SYNC}: the primary has a data set again, replication can continue"),
            GuardOverruled => write!(f, "{SYNC}: following the refused primary, as REPLICAOF demands"),
            SecondIdSet { second, valid_until, id } => write!(
                f,
                "Setting secondary replication ID to {second}, valid up to offset: {valid_until}. \
                 New replication ID is {id}"
            ),
            BacklogCreated { id, second } => {
                write!(f, "Replication backlog created, my new replication IDs are '{id}' and '{second}'")
            }
        }
    }
}
