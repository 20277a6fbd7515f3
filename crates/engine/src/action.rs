//! What the engine asks its surroundings to do. The server does it for real, the simulator virtually.

use std::path::PathBuf;

pub use log::SpillRequest;
pub use replication::Level;

/// A slot of the connection table: the token that the surroundings know a connection by. Slots are used again.
pub type ConnId = usize;

/// A temporary file for what memory has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpillFile {
    /// The part of a streamed snapshot that slow replicas have yet to take.
    Snapshot,
    /// The older part of the log (`repl-backlog-disk-size`, `repl-lag-disk-size`).
    Log,
}

#[derive(Debug)]
pub enum Action {
    Log {
        level: Level,
        message: String,
    },
    /// Connect to a primary; answered by `Node::primary_connected` or `Node::primary_connect_failed`.
    ConnectPrimary {
        host: String,
        port: u16,
    },
    /// Give up an attempt of [`Action::ConnectPrimary`] that has not been answered.
    AbandonConnect,
    /// Connect once more to the same primary, for a snapshot that comes on a connection of its own; answered by
    /// `Node::channel_connected` or `Node::channel_connect_failed`.
    ConnectChannel {
        host: String,
        port: u16,
    },
    /// Give up an attempt of [`Action::ConnectChannel`] that has not been answered.
    AbandonChannel,
    /// Leave the connection unread until `ResumeReading`.
    PauseReading {
        conn: ConnId,
    },
    ResumeReading {
        conn: ConnId,
    },
    /// Let the kernel gather small packets of this connection (`repl-disable-tcp-nodelay`).
    GatherPackets {
        conn: ConnId,
    },
    /// Close the connection; the engine has forgotten it already.
    Close {
        conn: ConnId,
    },
    /// Do nothing for so long (`DEBUG SLEEP`), once all actions before this one are carried out.
    Sleep {
        micros: u64,
    },
    /// Begin to encode a snapshot; batches follow from `Node::snapshot_batch`.
    BeginSnapshot(Box<crate::snapshot::Plan>),
    /// Stop encoding and remove what was written.
    CancelSnapshot,
    /// Open a file into which a snapshot that arrives from the primary is written.
    OpenTransferFile {
        path: PathBuf,
    },
    AppendTransferFile {
        bytes: Vec<u8>,
    },
    /// The transfer is complete: flush the file, give it its final name, report `Node::transfer_file_finished`.
    FinishTransferFile {
        from: PathBuf,
        to: PathBuf,
    },
    AbandonTransferFile,
    /// A replica is to be sent the file of the snapshot that has just ended (`Node::snapshot_finished`), and no other that
    /// has its name by now; `ReadPayload` asks for its parts.
    OpenPayload {
        conn: ConnId,
    },
    /// Read this part of the replica's file, answered by `Node::payload_read`.
    ReadPayload {
        conn: ConnId,
        offset: u64,
        length: u64,
    },
    ClosePayload {
        conn: ConnId,
    },
    /// Do this to a temporary file that nobody else sees, answered by `Node::spill_written` and `Node::spill_read`.
    Spill {
        file: SpillFile,
        request: SpillRequest,
    },
    /// Read this RDB file and hand it in pieces to `Node::load_bytes`.
    LoadFile {
        path: PathBuf,
    },
    /// Send keys to another server, answered by `Node::migrated`.
    Migrate(Box<crate::migrate::Request>),
    /// End the process.
    Exit {
        code: i32,
    },
    /// A setting was changed that the surroundings read: listeners, log file, `maxclients`, ….
    ConfigChanged {
        name: &'static str,
    },
}
