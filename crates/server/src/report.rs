//! What other threads tell the event loop: one channel for all of them, and a descriptor that wakes the loop.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use engine::{ConnId, Peer, SpillFile};
use rustix::event::{EventfdFlags, eventfd};

/// A connection to a primary.
#[derive(Debug)]
pub struct Link {
    pub fd: OwnedFd,
    pub peer: Peer,
    /// By which the relay of TLS knows it; none if it is plain.
    pub relayed: Option<u64>,
}

/// Something has happened on another thread.
#[derive(Debug)]
pub enum Report {
    /// The attempt with this number has reached the primary, or not.
    Connected {
        attempt: u64,
        result: Result<Link, String>,
    },
    /// Encoded bytes of the snapshot with this number.
    SnapshotChunk {
        snapshot: u64,
        bytes: Vec<u8>,
    },
    /// The snapshot has ended: its size in bytes, or why it failed; and its file, if it went to one.
    SnapshotEnded {
        snapshot: u64,
        result: Result<u64, String>,
        file: Option<File>,
    },
    /// Room for a further batch.
    SnapshotHungry,
    /// A transfer file's bytes were written: so many less are waiting.
    TransferWritten {
        bytes: usize,
    },
    TransferFinished {
        transfer: u64,
        result: Result<PathBuf, String>,
    },
    PayloadRead {
        conn: ConnId,
        opening: u64,
        result: Result<Vec<u8>, String>,
    },
    SpillWritten {
        file: SpillFile,
        number: u64,
        result: Result<(), String>,
    },
    SpillRead {
        file: SpillFile,
        number: u64,
        result: Result<Vec<u8>, String>,
    },
    /// Keys have reached another server, or not; so many connections are kept for the next transfer.
    Migrated {
        outcome: engine::migrate::Outcome,
        kept: usize,
    },
    /// So many are left after some were let go.
    MigrateConnections {
        kept: usize,
    },
    /// A piece of the file that is loaded; empty at its end.
    LoadPiece {
        load: u64,
        result: io::Result<Vec<u8>>,
    },
}

/// The threads' end. Sending never blocks.
#[derive(Clone)]
pub struct Reporter {
    sender: Sender<Report>,
    wake: Arc<OwnedFd>,
}

/// The event loop's end.
pub struct Inbox {
    receiver: Receiver<Report>,
    wake: Arc<OwnedFd>,
}

pub fn reports() -> io::Result<(Reporter, Inbox)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (sender, receiver) = channel();
    Ok((Reporter { sender, wake: Arc::clone(&wake) }, Inbox { receiver, wake }))
}

impl Reporter {
    /// A loop that has ended no longer listens, and nothing is lost by that.
    pub fn send(&self, report: Report) {
        if self.sender.send(report).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Inbox {
    /// Makes the descriptor unreadable until the next report.
    pub fn quiet(&self) {
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
    }

    pub fn take(&self) -> Option<Report> {
        self.receiver.try_recv().ok()
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
