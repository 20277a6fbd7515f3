//! What a primary reports to the log about one replica, in Redis's words.

use std::fmt;

use crate::{FullResyncWhy, Level, Millis};

/// One line for the server's log about a replica, which is named by address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaEvent {
    AsksForSync(String),
    WrongOffset(String),
    FullResync {
        name: String,
        why: FullResyncWhy,
    },
    /// The replica claims bytes that we have not written.
    AheadOfUs(String),
    PartialAccepted {
        name: String,
        bytes: u64,
        from: u64,
    },
    /// It is to open another connection for the snapshot.
    ProposesChannel(String),
    /// It is sent the stream while its snapshot goes over another connection.
    StreamsBeside(String),
    /// As many are synchronised as may be.
    Queued {
        name: String,
        under_way: usize,
        ahead: usize,
    },
    Admitted {
        name: String,
        waited: Millis,
    },
    StartingSnapshot {
        to_sockets: bool,
    },
    SnapshotStartFailed,
    SnapshotFailed,
    Attached,
    CannotAttach,
    SocketsBusy,
    Delayed,
    Streamed(String),
    Succeeded(String),
    RdbOnlyDone(String),
    TimedOutStreaming(String),
    TimedOutFullSync(String),
    Lost(String),
}

impl ReplicaEvent {
    pub fn level(&self) -> Level {
        use ReplicaEvent::*;
        match self {
            WrongOffset(_) | AheadOfUs(_) | SnapshotStartFailed | SnapshotFailed | TimedOutStreaming(_)
            | TimedOutFullSync(_) | Lost(_) => Level::Warning,
            _ => Level::Notice,
        }
    }
}

impl fmt::Display for ReplicaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ReplicaEvent::*;
        match self {
            AsksForSync(name) => write!(f, "Replica {name} asks for synchronization"),
            WrongOffset(name) => {
                write!(f, "Replica {name} asks for synchronization but with a wrong offset")
            }
            FullResync { name, why } => full_resync_line(f, name, why),
            AheadOfUs(name) => write!(
                f,
                "Warning: replica {name} tried to PSYNC with an offset that is greater than the master \
                 replication offset."
            ),
            PartialAccepted { name, bytes, from } => write!(
                f,
                "Partial resynchronization request from {name} accepted. Sending {bytes} bytes of backlog \
                 starting from offset {from}."
            ),
            ProposesChannel(name) => write!(
                f,
                "Replica {name} can take the snapshot on a connection of its own, and cannot continue: a full sync on \
                 two channels is proposed."
            ),
            StreamsBeside(name) => {
                write!(f, "Starting to deliver RDB and replication stream to replica: {name}")
            }
            Queued { name, under_way, ahead } => write!(
                f,
                "Replica {name} has to wait for its full sync: {under_way} under way, {ahead} waiting in front of it \
                 (repl-full-sync-max)"
            ),
            Admitted { name, waited } => write!(
                f,
                "The full sync of replica {name} begins, after {}.{:03} seconds of waiting for its turn",
                waited.secs(),
                waited.0 % 1000
            ),
            StartingSnapshot { to_sockets } => {
                let target = if *to_sockets { "replicas sockets" } else { "disk" };
                write!(f, "Starting BGSAVE for SYNC with target: {target}")
            }
            SnapshotStartFailed => write!(f, "BGSAVE for replication failed"),
            SnapshotFailed => write!(f, "SYNC failed. BGSAVE child returned an error"),
            Attached => write!(f, "Waiting for end of BGSAVE for SYNC"),
            CannotAttach => {
                write!(f, "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC")
            }
            SocketsBusy => {
                write!(f, "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC")
            }
            Delayed => write!(f, "Delay next BGSAVE for diskless SYNC"),
            Streamed(name) => write!(
                f,
                "Streamed RDB transfer with replica {name} succeeded (socket). Waiting for REPLCONF ACK \
                 from slave to enable streaming"
            ),
            Succeeded(name) => write!(f, "Synchronization with replica {name} succeeded"),
            RdbOnlyDone(name) => {
                write!(f, "RDB transfer completed, rdb only replica ({name}) should be disconnected asap")
            }
            TimedOutStreaming(name) => {
                write!(f, "Disconnecting timedout replica (streaming sync): {name}")
            }
            TimedOutFullSync(name) => write!(f, "Disconnecting timedout replica (full sync): {name}"),
            Lost(name) => write!(f, "Connection with replica {name} lost."),
        }
    }
}

fn full_resync_line(f: &mut fmt::Formatter<'_>, name: &str, why: &FullResyncWhy) -> fmt::Result {
    const REFUSED: &str = "Partial resynchronization not accepted";
    match why {
        FullResyncWhy::Requested => write!(f, "Full resync requested by replica {name}"),
        FullResyncWhy::UnknownId { asked, id, second } => write!(
            f,
            "{REFUSED}: Replication ID mismatch (Replica asked for '{asked}', my replication IDs are \
             '{id}' and '{second}')"
        ),
        FullResyncWhy::SecondIdPastItsEnd { next, valid_until } => write!(
            f,
            "{REFUSED}: Requested offset for second ID was {next}, but I can reply up to {valid_until}"
        ),
        FullResyncWhy::NotUnderstood { next } => write!(
            f,
            "{REFUSED}: What follows the requested offset {next} has commands that replica {name} does not know"
        ),
        FullResyncWhy::BeyondOutputLimit { next, limit } => write!(
            f,
            "{REFUSED}: What follows the requested offset {next} is more than may wait for a replica \
             (client-output-buffer-limit, {limit} bytes)"
        ),
        FullResyncWhy::NoBacklog { next } | FullResyncWhy::NotInWindow { next, .. } => write!(
            f,
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {next})."
        ),
    }
}
